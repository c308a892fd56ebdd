"""The spool: bytes of files that were written here, one file each, until the server has them.

Why.  A program may write anywhere in a file, as slowly as it likes, cut it and read it back; the server takes
whole files only. So every file lives here first, and reads and writes go straight to it.

Place.  ``content/`` in the spool's directory, mode 0700, files 0600, named by random numbers: names and folders are
the journal's business. ``packages/`` holds zip packages while they are sent.

Room.  What counts is a file's length, not its blocks: a sparse file travels with its zeros. ``grow`` refuses what
would exceed ``max_bytes``, or take the disk's free space below ``min_free_bytes``; what was accepted before stays.

Threads.  Every method may be called from any thread. ``_lock`` guards ``_used_bytes`` and
``_granted_bytes``; it is a leaf.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from agorafs.errors import SpoolFull
from agorafs.uploads.durable import Disk

# errno of a disk, a quota or a file-size limit that takes no more
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_COPY_BYTES = 8 << 20
_GRANT_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class SpoolLimits:
    """In bytes: all files together, and what is left free on the disk whatever they say."""

    max_bytes: int
    min_free_bytes: int


class Spool:
    """The files of one spool directory. See the module docstring."""

    def __init__(self, directory: Path, limits: SpoolLimits, disk: Disk) -> None:
        self._limits = limits
        self._disk = disk
        self.contents = directory / "content"
        self.packages = directory / "packages"
        self.salvage = directory / "salvaged"
        shutil.rmtree(self.packages, ignore_errors=True)  # they are made again from their contents
        for made in (self.contents, self.packages):
            made.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._granted_bytes = 0  # how much may be written until the disk is looked at again
        self._used_bytes = sum(entry.stat().st_size for entry in os.scandir(self.contents))

    @property
    def used_bytes(self) -> int:
        """The lengths of all files together."""
        return self._used_bytes

    def room(self) -> int:
        """Return how many bytes more would be accepted now."""
        return max(0, min(self._limits.max_bytes - self._used_bytes, self._free_bytes()))

    def path(self, name: str) -> Path:
        """Return where the content *name* is."""
        return self.contents / name

    def create(self) -> tuple[str, int]:
        """Make an empty file; return its name and a descriptor."""
        name = uuid.uuid4().hex
        with full_disk_as_spool_full():
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            return name, os.open(self.path(name), flags, 0o600)

    def keep(self, data: bytes) -> Path:
        """Put *data* into a file of its own that survives a power cut; return where it is."""
        self.grow(len(data))
        name, descriptor = self.create()
        try:
            with full_disk_as_spool_full(), open(descriptor, "wb", closefd=False) as file:
                file.write(data)
                file.flush()
                self.sync(descriptor, name)
        finally:
            os.close(descriptor)
        self.sync_names()
        return self.path(name)

    def open(self, name: str) -> int:
        """Return a descriptor on the content *name*."""
        return os.open(self.path(name), os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)

    def copy(self, source: int) -> tuple[str, int]:
        """Copy the open file *source*; return the copy's name and a descriptor."""
        size = os.fstat(source).st_size
        self.grow(size)
        name, target = self.create()
        try:
            with full_disk_as_spool_full():
                _copy(source, target, size)
        except BaseException:
            os.close(target)
            self.remove(name)
            raise
        return name, target

    def grow(self, size: int) -> None:
        """Count *size* bytes more.

        Raises:
            SpoolFull: There is no room for them.
        """
        if size <= 0:
            with self._lock:
                self._used_bytes += size
            return
        free_bytes = None
        if size > self._granted_bytes:
            free_bytes = self._free_bytes()
        with self._lock:
            if self._used_bytes + size > self._limits.max_bytes:
                raise SpoolFull(
                    f"the spool is full ({self._used_bytes:,} of {self._limits.max_bytes:,} bytes wait for the "
                    "server); wait for the uploads, or mount with a larger spool_max_bytes"
                )
            if free_bytes is not None:
                if size > free_bytes:
                    raise SpoolFull(
                        f"the disk of {self.contents} is full but for what spool_min_free_bytes keeps free; "
                        "wait for the uploads, or make room"
                    )
                self._granted_bytes = min(free_bytes, size + _GRANT_BYTES)
            self._granted_bytes -= size
            self._used_bytes += size

    def count(self, size: int) -> None:
        """Count a file that came here by another way."""
        with self._lock:
            self._used_bytes += size

    def remove(self, name: str) -> None:
        """Forget the content *name*; descriptors that are open go on working."""
        path = self.path(name)
        with contextlib.suppress(FileNotFoundError):
            size = path.stat().st_size
            path.unlink()
            with self._lock:
                self._used_bytes -= size

    def keep_aside(self, name: str, readable_name: str) -> Path:
        """Move the content *name* out of the spool, for a person to look at; return where it is now."""
        self.salvage.mkdir(mode=0o700, exist_ok=True)
        kept = self.salvage / f"{name[:8]}-{readable_name[:100]}"
        path = self.path(name)
        size = path.stat().st_size
        path.rename(kept)
        with self._lock:
            self._used_bytes -= size
        return kept

    def take_salvaged(self, other: Spool) -> None:
        """Take over what *other* has kept for a person to look at."""
        for path in sorted(other.salvage.iterdir()) if other.salvage.exists() else ():
            self.salvage.mkdir(mode=0o700, exist_ok=True)
            path.rename(self.salvage / path.name)

    def sync(self, descriptor: int, name: str) -> None:
        """Make the content *name*, open as *descriptor*, survive a power cut; ``sync_names`` does its name."""
        self._disk.sync_file(descriptor, self.path(name))

    def sync_names(self) -> None:
        """Make the names of all contents survive a power cut."""
        self._disk.sync_directory(self.contents)

    def _free_bytes(self) -> int:
        state = os.statvfs(self.contents)
        return state.f_bavail * state.f_frsize - self._limits.min_free_bytes


@contextlib.contextmanager
def full_disk_as_spool_full() -> Iterator[None]:
    """Turn the system's "no space" into ours."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise SpoolFull(f"the disk of the spool takes no more: {error.strerror}") from error


def _copy(source: int, target: int, size: int) -> None:
    offset = 0
    while offset < size:
        try:
            copied = os.copy_file_range(source, target, min(_COPY_BYTES, size - offset), offset, offset)
        except OSError as error:
            if error.errno in _FULL:
                raise
            copied = 0
        if copied == 0:  # not between these two, or not on this kernel
            piece = os.pread(source, _COPY_BYTES, offset)
            if not piece:
                break
            copied = os.pwrite(target, piece, offset)
        offset += copied
    os.ftruncate(target, size)
