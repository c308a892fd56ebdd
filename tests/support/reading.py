"""Reading a mount in the ways that programs do, and judging every byte that came.

Why.  A read may fail, but it may never lie. So each reader here compares with the server's own copy of the content
and tells three outcomes apart: the right bytes, an error (its errno is returned), and anything else, which is
an ``AssertionError`` that names the file and the place.

Where the truth comes from: the plain files in which the sandbox keeps contents, each checked against its name, which
is its SHA-1. No code of agorafs takes part.

Threads.  ``in_threads`` runs readers at the same time and returns when all have ended; a reader that hangs is
reported instead of waited for.
"""

from __future__ import annotations

import errno
import hashlib
import mmap
import os
import random
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tests.support.local_copy import OWN
from tests.support.sandbox import SandboxProcess

READ_BYTES = 1 << 20

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class MountedFile:
    """One file of a mount and what it must hold."""

    path: Path
    content: bytes
    sha1: str

    @property
    def size(self) -> int:
        return len(self.content)


def content_of(server: SandboxProcess, sha1: str) -> bytes:
    """Return the bytes that *server* keeps under *sha1*."""
    content = (server.data / "content" / sha1[:2] / sha1[2:]).read_bytes()
    assert hashlib.sha1(content).hexdigest() == sha1, "the server's own copy is damaged"
    return content


def mounted_files(server: SandboxProcess, root: Path) -> list[MountedFile]:
    """Return every regular file below *root*, by path, with its true content.

    Which content that is, the mount says (``user.agora.sha1``); that all of the server's are there, and as often
    as on the server, is checked when *root* is the mount point.
    """
    files = []
    contents: dict[str, bytes] = {}
    for parent, directories, names in os.walk(root):
        if Path(parent).parent.name == "projects":
            directories[:] = [name for name in directories if name not in OWN]
        for name in names:
            path = Path(parent, name)
            if path.is_symlink():
                continue
            sha1 = os.getxattr(path, "user.agora.sha1").decode()
            if sha1 not in contents:
                contents[sha1] = content_of(server, sha1)
            files.append(MountedFile(path, contents[sha1], sha1))
    if root.is_mount():
        recorded = sorted(one["sha1"] for one in server.datafiles())
        assert sorted(file.sha1 for file in files) == recorded, (
            "the mount shows other files than the server has"
        )
    return sorted(files, key=lambda file: file.path)


def sample(files: Iterable[MountedFile], count: int) -> list[MountedFile]:
    """Return *count* of *files* with different contents, from the smallest to the largest."""
    distinct = sorted({file.sha1: file for file in files}.values(), key=lambda file: (file.size, file.sha1))
    assert len(distinct) >= count
    return [distinct[number * (len(distinct) - 1) // (count - 1)] for number in range(count)]


# -- readers -------------------------------------------------------------------------------------------


def read_whole(file: MountedFile) -> int:
    """Read *file* from its start to its end; return 0, or the errno that stopped it."""
    try:
        descriptor = os.open(file.path, os.O_RDONLY)
    except OSError as error:
        return _errno(error)
    try:
        return _read_range(file, descriptor, 0, file.size + 1)
    finally:
        os.close(descriptor)


def read_pieces(file: MountedFile, seed: int, count: int) -> int:
    """Read *count* pieces of *file* at random places; return 0, or the errno of the last that failed."""
    places = random.Random(seed)
    failed = 0
    try:
        descriptor = os.open(file.path, os.O_RDONLY)
    except OSError as error:
        return _errno(error)
    try:
        for _ in range(count):
            offset = places.randrange(file.size + 10)
            size = min(int(2 ** places.uniform(0, 18)), max(file.size + 1 - offset, 1))
            failed = _read_range(file, descriptor, offset, size) or failed
    finally:
        os.close(descriptor)
    return failed


def read_mapped(file: MountedFile) -> int:
    """Compare all of *file* through a map of it. For files that can be read: an error here is a fatal SIGBUS."""
    with file.path.open("rb") as stream:
        if file.size:
            with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
                assert mapped[:] == file.content, f"{file.path}: wrong bytes in the map"
    return 0


def forget_pages(files: Iterable[MountedFile]) -> None:
    """Make the kernel drop what it has of *files*, so that the next read asks the mount."""
    for file in files:
        descriptor = os.open(file.path, os.O_RDONLY)
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def _read_range(file: MountedFile, descriptor: int, offset: int, size: int) -> int:
    """Compare ``[offset, offset + size)``, cut at the end of the file; return 0 or an errno.

    A ``read`` may return less than it was asked for when an error comes next, so it is the end of a loop that
    must be the end of the file, not that of one call.
    """
    stop = offset + size
    while offset < stop:
        try:
            piece = os.pread(descriptor, min(READ_BYTES, stop - offset), offset)
        except OSError as error:
            return _errno(error)
        if not piece:
            assert offset >= file.size, f"{file.path}: ended at {offset} of {file.size} bytes"
            return 0
        expected = file.content[offset : offset + len(piece)]
        assert piece == expected, f"{file.path}: wrong bytes in {len(piece)} bytes from {offset}"
        offset += len(piece)
    return 0


def _errno(error: OSError) -> int:
    assert error.errno is not None
    return error.errno


def named(numbers: Iterable[int]) -> set[str]:
    """Return outcomes by name, for messages: ``{"right", "EIO"}``."""
    return {errno.errorcode[number] if number else "right" for number in numbers}


def in_threads(jobs: Sequence[Callable[[], T]], within_s: float) -> list[T]:
    """Run all *jobs* at the same time and return their results in order; the first exception is raised.

    A job that has not ended within *within_s* fails the test. Its thread is left behind: nothing can end a
    ``read`` that the kernel does not return from.
    """
    results: dict[int, T] = {}
    errors: list[BaseException] = []

    def run(number: int, job: Callable[[], T]) -> None:
        try:
            results[number] = job()
        except BaseException as error:  # noqa: BLE001 - handed on to the test's thread
            errors.append(error)

    threads = [
        threading.Thread(target=run, args=(number, job), daemon=True) for number, job in enumerate(jobs)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(within_s)
        assert not thread.is_alive(), f"a reader has not ended within {within_s:g} s"
    if errors:
        raise errors[0]
    return [results[number] for number in range(len(jobs))]
