"""What a handle on a stored file that is open for writing reads from and writes to.

Programs open files for writing that they only read, or write what is there already (the ISMRMRD library rewrites a
header). So a write to a stored file is compared with the stored bytes first: one that changes nothing succeeds
and has no effect. The first that changes a byte

    * of a file that can be replaced begins a local version of it (``Lent``);
    * of an archived one fails: the archive does not change under a reader (``Archived``).

Threads.  No locks. Two first writes at the same time both compare with the stored bytes; the local file puts them in
order.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NoReturn

from agorafs.cache.content import OpenContent
from agorafs.errors import AgoraFSError, IntegrityError, NotSupported
from agorafs.uploads.local_file import LocalFile

_PIECE_BYTES = 1 << 20
_FALLOC_KEEP_SIZE = 1


def fill_from(open_content: Callable[[], OpenContent]) -> Callable[[int], None]:
    """Return a function that writes the stored bytes into a descriptor."""

    def fill(descriptor: int) -> None:
        content = open_content()
        try:
            buffer = memoryview(bytearray(min(_PIECE_BYTES, content.ref.size)))
            offset = 0
            while offset < content.ref.size:
                length = content.read_into(offset, buffer)
                if length == 0:
                    raise IntegrityError(f"{content.ref} ended at {offset}")
                written = 0
                while written < length:
                    written += os.pwrite(descriptor, buffer[written:length], offset + written)
                offset += length
        finally:
            content.close()

    return fill


def has_bytes(content: OpenContent, offset: int, data: memoryview) -> bool:
    """Tell whether *content* has exactly *data* at *offset*."""
    if offset + len(data) > content.ref.size:
        return False
    buffer = memoryview(bytearray(min(_PIECE_BYTES, len(data))))
    for start in range(0, len(data), _PIECE_BYTES):
        piece = data[start : start + _PIECE_BYTES]
        length = content.read_into(offset + start, buffer[: len(piece)])
        if length != len(piece) or buffer[:length] != piece:
            return False
    return True


class Lent:
    """A stored file that can be replaced: the stored bytes until the first change, the local file from then on."""

    def __init__(self, content: OpenContent, local: LocalFile) -> None:
        self._content = content
        self._local = local

    @property
    def size(self) -> int:
        return self._local.size

    def read_into(self, offset: int, view: memoryview) -> int:
        if self._local.has_changed:
            return self._local.read_into(offset, view)
        return self._content.read_into(offset, view)

    def write(self, offset: int, data: bytes | memoryview) -> int:
        view = memoryview(data)
        if not self._local.has_changed and has_bytes(self._content, offset, view):
            return len(view)
        return self._local.write(offset, view)

    def truncate(self, size: int) -> None:
        if self._local.has_changed or size != self._content.ref.size:
            self._local.truncate(size)

    def allocate(self, mode: int, offset: int, length: int) -> None:
        self._local.allocate(mode, offset, length)

    def flush(self) -> None:
        self._local.flush()

    def fsync(self) -> None:
        self._local.fsync()

    def close(self) -> None:
        try:
            self._local.close()
        finally:
            self._content.close()


class Archived:
    """A stored file that can not be replaced."""

    def __init__(self, content: OpenContent, refusal: Callable[[], AgoraFSError]) -> None:
        """*refusal* makes the error of a write that would change something."""
        self._content = content
        self._refusal = refusal

    @property
    def size(self) -> int:
        return self._content.ref.size

    def read_into(self, offset: int, view: memoryview) -> int:
        return self._content.read_into(offset, view)

    def write(self, offset: int, data: bytes | memoryview) -> int:
        view = memoryview(data)
        if not has_bytes(self._content, offset, view):
            self._refuse()
        return len(view)

    def truncate(self, size: int) -> None:
        if size != self.size:
            self._refuse()

    def allocate(self, mode: int, offset: int, length: int) -> None:
        if mode not in (0, _FALLOC_KEEP_SIZE):
            raise NotSupported("this way of fallocate is not offered")
        if mode == 0 and offset + length > self.size:
            self._refuse()

    def flush(self) -> None:
        """Nothing was changed."""

    def fsync(self) -> None:
        """Nothing was changed."""

    def close(self) -> None:
        self._content.close()

    def _refuse(self) -> NoReturn:
        raise self._refusal()
