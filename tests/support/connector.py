"""What a server holds, as the vendor's own connector sees it.

Why.  Whether a file has arrived is not for the mount to say that sent it. So everything here goes through the
unmodified connector, and through nothing of agorafs.
"""

from __future__ import annotations

import contextlib
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import gtagora
from gtagora.models.dataset import Dataset
from gtagora.models.folder import Folder

from tests.support.sandbox import SandboxProcess


class StoredFile(NamedTuple):
    """One datafile; ``path`` is below where was looked, and names files of one dataset side by side."""

    path: str
    size: int
    sha1: str


@contextlib.contextmanager
def connected(server: SandboxProcess) -> Iterator[gtagora.Agora]:
    """Connect as the administrator."""
    agora = gtagora.Agora.create(server.url, api_key=server.api_key)
    try:
        yield agora
    finally:
        agora.close()


def files_in_folder(server: SandboxProcess, folder: int) -> list[StoredFile]:
    """Return all that a folder and its subfolders hold, sorted; links are not followed."""
    with connected(server) as agora:
        return sorted(_below(agora.get_folder(folder), ""))


def folders_below(server: SandboxProcess, folder: int) -> set[str]:
    """Return the paths of all subfolders."""
    with connected(server) as agora:
        return set(_folders(agora.get_folder(folder), ""))


def links_in_folder(server: SandboxProcess, folder: int) -> list[tuple[str, str]]:
    """Return (kind, name) of what a folder shows and does not hold, sorted."""
    with connected(server) as agora:
        items = agora.get_folder(folder).get_items()
        return sorted((item.content_type, item.object.name) for item in items if item.is_link)


def files_in_exams(server: SandboxProcess, project: int) -> list[StoredFile]:
    """Return the files of all exams of a project, sorted: ``exam/series/file``, ``exam/file``."""
    found: list[StoredFile] = []
    with connected(server) as agora:
        for exam in agora.get_project(project).get_exams():
            for dataset in exam.get_datasets():
                found += _files(dataset, f"{exam.name}/")
            for series in exam.get_series():
                for dataset in series.get_datasets():
                    found += _files(dataset, f"{exam.name}/{series.name}/")
    return sorted(found)


def upload(server: SandboxProcess, folder: int, paths: list[Path]) -> None:
    """Upload files and directories as the vendor's users do; only the pause between its polls is shorter."""
    impatient = types.SimpleNamespace(sleep=lambda seconds: time.sleep(min(seconds, 0.01)))
    with connected(server) as agora, mock.patch("gtagora.models.import_package.time", impatient):
        state = agora.upload(paths, target_folder_id=folder, wait=True)
        failed = [file.target for file in state.files if not file.imported and file.file.stat().st_size]
        assert not failed, f"the connector could not import {failed}"


def _below(folder: Folder, prefix: str) -> Iterator[StoredFile]:
    for item in folder.get_items():
        if item.is_link:
            continue
        if isinstance(item.object, Folder):
            yield from _below(item.object, f"{prefix}{item.object.name}/")
        elif isinstance(item.object, Dataset):
            yield from _files(item.object, prefix)


def _files(dataset: Dataset, prefix: str) -> Iterator[StoredFile]:
    for file in dataset.get_datafiles():
        yield StoredFile(prefix + file.original_filename.rpartition("/")[2], file.size, file.sha1)


def _folders(folder: Folder, prefix: str) -> Iterator[str]:
    for item in folder.get_items():
        if isinstance(item.object, Folder) and not item.is_link:
            yield prefix + item.object.name
            yield from _folders(item.object, f"{prefix}{item.object.name}/")
