"""From the chunks of an import package to plain files that can be looked at.

Chunks are joined, ``.agora_upload`` packages (and, when asked for, ``.zip`` files) are unpacked, every file is
hashed on the way. All of it happens in ``imports/<package>/staged/``, under numbered names: a target path such as
``../../etc/passwd`` is metadata and never a path here.

The chunks are left as they are, so that an import interrupted at any point starts again from them.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from agorafs.sandbox.plan import UploadedFile

PACKAGE_SUFFIX = ".agora_upload"
_BUFFER_BYTES = 1 << 20


class AssemblyError(Exception):
    """The uploaded chunks are no complete set of files; the text says what is wrong."""


@dataclass(frozen=True, slots=True)
class FlowFile:
    """One upload: ``chunks`` are (number, path), numbers counted from 0 or from 1."""

    id: int
    target: str
    total_size: int
    total_chunks: int
    chunks: tuple[tuple[int, Path], ...]


@dataclass(frozen=True, slots=True)
class Assembled:
    """``files`` have clean targets; ``sent_as`` maps a staged path to the target as the client wrote it.

    ``content_hashes`` are the SHA-256 of the joined uploads by flow file id.
    """

    files: tuple[UploadedFile, ...]
    sent_as: dict[Path, str]
    content_hashes: dict[int, str]


def clean_target(target: str) -> str:
    """Return a target path without empty, ``.`` and ``..`` parts; it is relative, whatever it was."""
    return "/".join(part for part in target.split("/") if part not in ("", ".", "..")) or "unnamed"


def missing_chunks(file: FlowFile) -> bool:
    numbers = {number for number, _ in file.chunks}
    count = max(file.total_chunks, 1)
    return numbers != set(range(count)) and numbers != set(range(1, count + 1))


def assemble(uploads: Sequence[FlowFile], staging: Path, *, unpack_zips: bool) -> Assembled:
    """Join and unpack *uploads* into the empty directory *staging*."""
    stage = _Stage(staging)
    for upload in uploads:
        if missing_chunks(upload):
            raise AssemblyError(f"{upload.target}: chunks are missing")
        if upload.target.endswith(PACKAGE_SUFFIX):
            stage.unpack(upload, parent="")
        elif unpack_zips and upload.target.lower().endswith(".zip"):
            stage.unpack(upload, parent=upload.target.rpartition("/")[0])
        else:
            stage.join(upload)
    return Assembled(tuple(stage.files), stage.sent_as, stage.content_hashes)


class _Stage:
    """The staged files as they become more."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.files: list[UploadedFile] = []
        self.sent_as: dict[Path, str] = {}
        self.content_hashes: dict[int, str] = {}

    def join(self, upload: FlowFile) -> None:
        """Stage an upload as one file."""
        path = self._new_path()
        sha1, self.content_hashes[upload.id] = _join(upload, path)
        size = path.stat().st_size
        if size != upload.total_size:
            raise AssemblyError(f"{upload.target}: {upload.total_size} bytes were announced, {size} came")
        self._add(upload.target, path, sha1)

    def unpack(self, upload: FlowFile, *, parent: str) -> None:
        """Stage the files of a zip package below the target path *parent*."""
        archive = self._directory / f"package-{upload.id}"
        _, self.content_hashes[upload.id] = _join(upload, archive)
        try:
            with zipfile.ZipFile(archive) as package:
                for entry in package.infolist():
                    if not entry.is_dir():
                        path = self._new_path()
                        sha1 = _extract(package, entry, path)
                        self._add(f"{parent}/{entry.filename}" if parent else entry.filename, path, sha1)
        except (zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError, EOFError) as error:
            raise AssemblyError(f"{upload.target} cannot be unpacked: {error}") from error
        archive.unlink()

    def _new_path(self) -> Path:
        return self._directory / str(len(self.files))

    def _add(self, target: str, path: Path, sha1: str) -> None:
        self.sent_as[path] = target
        self.files.append(UploadedFile(clean_target(target), path, path.stat().st_size, sha1))


def content_hash(upload: FlowFile) -> str:
    """Return the SHA-256 of an upload's chunks, joined."""
    digest = hashlib.sha256()
    for _, chunk in sorted(upload.chunks):
        with chunk.open("rb") as file:
            for block in _blocks(file):
                digest.update(block)
    return digest.hexdigest()


def _blocks(file: IO[bytes]) -> Iterable[bytes]:
    while block := file.read(_BUFFER_BYTES):
        yield block


def _join(upload: FlowFile, target: Path) -> tuple[str, str]:
    """Join the chunks into *target* (a hard link when there is only one); return SHA-1 and SHA-256."""
    sha1, sha256 = hashlib.sha1(usedforsecurity=False), hashlib.sha256()
    chunks = [path for _, path in sorted(upload.chunks)]
    if len(chunks) == 1:
        try:
            os.link(chunks[0], target)
        except OSError:
            shutil.copyfile(chunks[0], target)
        with target.open("rb") as file:
            for block in _blocks(file):
                sha1.update(block)
                sha256.update(block)
        return sha1.hexdigest(), sha256.hexdigest()
    with target.open("wb") as joined:
        for chunk in chunks:
            with chunk.open("rb") as file:
                for block in _blocks(file):
                    sha1.update(block)
                    sha256.update(block)
                    joined.write(block)
    return sha1.hexdigest(), sha256.hexdigest()


def _extract(package: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path) -> str:
    """Unpack one entry to *target*; zipfile checks its CRC. Return the SHA-1."""
    sha1 = hashlib.sha1(usedforsecurity=False)
    with package.open(entry) as source, target.open("wb") as file:
        for block in _blocks(source):
            sha1.update(block)
            file.write(block)
    return sha1.hexdigest()
