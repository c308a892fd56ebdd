"""The bytes of datafiles: one plain file per content, named by its SHA-1.

Why.  Equal content is stored once, however often it is uploaded or copied; a name from outside never becomes
a path; and a download is the kernel's sendfile of a whole, finished file.

Durability.  ``adopt`` returns after the file and its directory were synced, so a database row that refers
to a content never outlives it in a crash. A content is written complete or not at all: files are renamed
or linked into place.

Threads.  Adopting and removing are done inside ``Store.transaction``, whose lock keeps a content that an
import is about to use from being removed by a deletion. Reading needs no lock.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

_BUFFER_BYTES = 1 << 20


def sync_directory(directory: Path) -> None:
    """Make renames and new names in *directory* durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Make the bytes of *path* durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha1_of(path: Path) -> str:
    """Return the SHA-1 of a file as 40 lower-case hex digits."""
    digest = hashlib.sha1(usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(_BUFFER_BYTES):
            digest.update(block)
    return digest.hexdigest()


class Contents:
    """The content directory of one sandbox."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)

    def path(self, sha1: str) -> Path:
        """Return where the content with this hash is, or would be."""
        return self._directory / sha1[:2] / sha1[2:]

    def adopt(self, source: Path, sha1: str, *, keep_source: bool = False) -> Path:
        """Make *source* a stored content, durably; *sha1* is believed.

        Without *keep_source* the file is moved (it must be on the same file system). With it, a hard link
        is made where possible and a copy otherwise; the caller must then not change the file any more.
        """
        target = self.path(sha1)
        if target.exists():
            if not keep_source:
                source.unlink(missing_ok=True)
            return target
        if not target.parent.exists():
            target.parent.mkdir(exist_ok=True)
            sync_directory(self._directory)
        if not keep_source:
            sync_file(source)
            source.replace(target)
        else:
            part = target.with_name(f"{target.name}.part")
            part.unlink(missing_ok=True)
            try:
                os.link(source, part)
            except OSError:
                shutil.copyfile(source, part)
            sync_file(part)
            part.replace(target)
        sync_directory(target.parent)
        return target

    def add_bytes(self, data: bytes) -> str:
        """Store *data* durably and return its SHA-1."""
        sha1 = hashlib.sha1(data, usedforsecurity=False).hexdigest()
        target = self.path(sha1)
        if not target.exists():
            target.parent.mkdir(exist_ok=True)
            part = target.with_name(f"{target.name}.part")
            part.write_bytes(data)
            sync_file(part)
            part.replace(target)
            sync_directory(target.parent)
            sync_directory(self._directory)
        return sha1

    def remove(self, sha1: str) -> None:
        """Forget a content that no datafile refers to any more."""
        self.path(sha1).unlink(missing_ok=True)
