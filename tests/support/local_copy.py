"""A local copy of what a mount shows, with the bytes taken from the server and not from the mount.

Why.  A program's output on the mount is compared with its output on ordinary files. If those were read through
the mount too, a wrong byte would be on both sides.

What comes from where.  Names, link texts, modes and the times of directories are as the mount shows them; sizes,
times and bytes of files are the server's, found by walking its API along the same paths (``ServerFiles``), with no
code of agorafs in between. Made for names that need no rule of agorafs to become legal. What agorafs itself says of
tasks and deletions is in no file of the server's, and copied as it is.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from tests.support.sandbox import SandboxProcess

# Directories of a project whose files are agorafs's own.
OWN = ("tasks", "trash")
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


@dataclass(frozen=True, slots=True)
class ServerFile:
    """One datafile as the server's API describes it."""

    id: int
    path: str  # below the project, as the mount should show it
    size: int
    sha1: str
    mtime_ns: int


class ServerFiles:
    """All datafiles of one project, by path below the project."""

    def __init__(self, server: SandboxProcess, project: str) -> None:
        self._server = server
        self._project: dict[str, Any] = next(
            one for one in server.get("v2/project/?limit=1000")["results"] if one["name"] == project
        )
        self.files = {file.path: file for file in self._walk()}

    def content(self, file: ServerFile) -> bytes:
        """Download the bytes of *file*."""
        response = self._server.api("GET", f"v1/datafile/{file.id}/download/")
        assert response.status_code == 200
        assert len(response.content) == file.size
        return response.content

    def _walk(self) -> Iterator[ServerFile]:
        yield from self._folder(self._project["root_folder"], "folders")
        exams = self._server.get(f"v2/project/{self._project['id']}/exam/?limit=100000")["results"]
        for exam in exams:
            tree = self._server.get(f"v2/exam/{exam['id']}/tree/")
            base = f"exams/{exam['name']}"
            for dataset in tree["datasets"]:
                yield from _dataset(dataset, base)
            for series in tree["series"]:
                for dataset in series["datasets"]:
                    yield from _dataset(dataset, f"{base}/{series['name']}")

    def _folder(self, folder: int, base: str) -> Iterator[ServerFile]:
        for item in self._server.get(f"v1/folder/{folder}/items/?limit=100000"):
            if item["is_link"]:
                continue
            content = item["content_object"]
            if item["content_type"] == "folder":
                yield from self._folder(content["id"], f"{base}/{content['name']}")
            elif item["content_type"] == "dataset":
                yield from _dataset(content, base)


def _dataset(dataset: dict[str, Any], base: str) -> Iterator[ServerFile]:
    datafiles = dataset["datafiles"]
    for one in datafiles:
        name = one["original_filename"]
        inner = name.rpartition("/")[2] if len(datafiles) == 1 else f"{dataset['name']}/{name}"
        modified = datetime.fromisoformat(one["modified_date"].replace("Z", "+00:00"))
        mtime_ns = (modified - _EPOCH) // timedelta(microseconds=1) * 1000
        yield ServerFile(one["id"], f"{base}/{inner}", one["size"], one["sha1"], mtime_ns)


def copy_project(server: SandboxProcess, project: str, mounted: Path, target: Path) -> ServerFiles:
    """Make *target* look as *mounted*, the directory of *project* in a mount, should; return the server's files."""
    files = ServerFiles(server, project)
    found = set()
    directories = []
    for parent, names, file_names in os.walk(mounted):
        local = target / os.path.relpath(parent, mounted)
        local.mkdir(exist_ok=True)
        directories.append((Path(parent), local))
        for name in [*names, *file_names]:
            source = Path(parent, name)
            if source.is_symlink():
                (local / name).symlink_to(source.readlink())
                _take_times(source.lstat(), local / name)
            elif name in file_names:
                path = str(source.relative_to(mounted))
                if path.split("/")[0] in OWN:
                    (local / name).write_bytes(source.read_bytes())
                    (local / name).chmod(stat.S_IMODE(source.stat().st_mode))
                    _take_times(source.stat(), local / name)
                    continue
                found.add(path)
                (local / name).write_bytes(files.content(files.files[path]))
                (local / name).chmod(stat.S_IMODE(source.stat().st_mode))
                os.utime(local / name, ns=(files.files[path].mtime_ns,) * 2)
    assert found == set(files.files), "the mount shows other files than the server has"
    for directory, local in reversed(
        directories
    ):  # a directory's time changes with its entries: they come first
        local.chmod(stat.S_IMODE(directory.stat().st_mode))
        _take_times(directory.stat(), local)
    return files


def _take_times(attributes: os.stat_result, local: Path) -> None:
    os.utime(local, ns=(attributes.st_mtime_ns,) * 2, follow_symlinks=False)
