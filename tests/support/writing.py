"""A mount to write to: a server, a project with folders, and what of it arrived.

``Drive`` is one server with one mount. Each test takes a ``Place`` of its own, an empty folder that was on the
server before the mount began, so that tests share the two processes and nothing else.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agorafs.control import ask
from tests.support import connector
from tests.support.mount import Mount
from tests.support.sandbox import SandboxProcess

PROJECT = "Written"
QUIET = "batch_quiet_s=0.2"
SYNC_TIMEOUT_S = 120
Tree = dict[str, "bytes | str | None"]


@dataclass(frozen=True, slots=True)
class Project:
    """A project of a test, and its root folder."""

    id: int
    root: int


def make_project(server: SandboxProcess, name: str = PROJECT) -> Project:
    """Make an empty project."""
    answer = server.post("v2/project/", {"name": name, "description": "for tests of writing"})
    return Project(answer["id"], answer["root_folder"])


def make_folder(server: SandboxProcess, parent: int, name: str) -> int:
    """Make a folder on the server and return its id."""
    return int(server.post(f"v1/folder/{parent}/new/", {"name": name})["content_object"]["id"])


class Drive:
    """A mounted project."""

    def __init__(
        self, server: SandboxProcess, mount: Mount, *, folders: int = 0, project: Project | None = None
    ) -> None:
        """Make the project, if it is not there, with empty *folders*; *mount* is not mounted yet."""
        self.server = server
        self.mount = mount
        self.project = project or make_project(server)
        names = [f"place{number}" for number in range(folders)]
        self._free = iter([Place(self, name, make_folder(server, self.project.root, name)) for name in names])

    @property
    def root(self) -> Path:
        """The project's folders."""
        return self.mount.path / "projects" / PROJECT / "folders"

    def place(self) -> Place:
        """Return an empty folder that nobody else uses."""
        return next(self._free)

    def sync(self, path: Path | None = None) -> None:
        """``agorafs sync``; what was written is on the server afterwards, or this fails with its words."""
        done = self.try_sync(path)
        assert done.returncode == 0, (done.stdout, done.stderr, self.mount.log()[-3000:])

    def try_sync(self, path: Path | None = None, *arguments: str) -> subprocess.CompletedProcess[str]:
        """``agorafs sync`` and its outcome."""
        return self.mount.run("sync", path or self.mount.path, *arguments, timeout_s=SYNC_TIMEOUT_S)

    def uploads(self) -> dict[str, Any]:
        """Return what ``agorafs status`` says of the uploads, without the costs of starting a command."""
        answer = ask(
            self.mount.home / "state" / "agorafs", self.mount.path, {"command": "status"}, timeout_s=10
        )
        uploads: dict[str, Any] = answer["status"]["uploads"]
        return uploads


@dataclass(frozen=True, slots=True)
class Place:
    """An empty folder of the server, and where it is mounted."""

    drive: Drive
    name: str
    folder: int

    @property
    def path(self) -> Path:
        return self.drive.root / self.name

    def sync(self) -> None:
        self.drive.sync(self.path)

    def stored(self) -> dict[str, tuple[int, str]]:
        """Return size and SHA-1 of what the server has here, by path; a path that is there twice fails."""
        files = connector.files_in_folder(self.drive.server, self.folder)
        twice = [path for path, count in Counter(file.path for file in files).items() if count > 1]
        assert not twice, f"more than once on the server: {twice}"
        return {file.path: (file.size, file.sha1) for file in files}

    def upload(self, files: Mapping[str, bytes]) -> None:
        """Put *files* on the server behind the mount's back, and let the mount see them."""
        result = self.drive.server.upload(files, folder=self.folder)
        assert result["state"] == 5
        self.drive.mount.refresh(self.path)

    def items(self) -> dict[str, dict[str, Any]]:
        """Return the folder items of the server by the name of what they show."""
        found = self.drive.server.get(f"v1/folder/{self.folder}/items/?limit=100000")
        return {item["content_object"]["name"]: item for item in found}


def identity(content: bytes) -> tuple[int, str]:
    """Return what a stored file with this content shows: size and SHA-1."""
    return len(content), hashlib.sha1(content).hexdigest()


def identities(tree: Tree) -> dict[str, tuple[int, str]]:
    """Return the same of all files of a tree."""
    return {path: identity(content) for path, content in tree.items() if isinstance(content, bytes)}


def read_tree(root: Path) -> Tree:
    """Return everything below *root* by path: bytes of files, texts of links, None for directories.

    The size that a directory's listing gives for a file must be the number of bytes that it reads.
    """
    return dict(_entries(root, ""))


def _entries(directory: Path, prefix: str) -> Iterator[tuple[str, bytes | str | None]]:
    with os.scandir(directory) as entries:
        for entry in sorted(entries, key=lambda one: one.name):
            path = prefix + entry.name
            if entry.is_symlink():
                yield path, str(Path(entry.path).readlink())
            elif entry.is_dir():
                yield path, None
                yield from _entries(Path(entry.path), f"{path}/")
            else:
                content = Path(entry.path).read_bytes()
                size = entry.stat().st_size
                assert size == len(content), f"{path}: {size} bytes are announced, {len(content)} read"
                yield path, content
