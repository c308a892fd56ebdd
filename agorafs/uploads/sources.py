"""The bytes of an upload as they are read for sending: by offset, and only while the file is what was recorded.

Why.  A chunk that is sent again must carry the same bytes. So nothing here has a file position, and a file that is
not as long as its upload, or outside the spool has another time than when it was handed over, is not read on: it
would arrive as a mixture of two versions.

Place.  ``packing`` and ``chunk_sending`` read contents through ``Content``; ``delivery`` computes SHA-1s with
``sha1_of``.

Threads.  ``Content.read`` may be called from several threads at once; ``close`` when none reads any more.

Failure.  ``ContentChanged`` names the file and ends its batch. An ``OSError`` that may pass (no descriptors left, an
I/O error) is passed on; the batch waits.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterator

from agorafs.uploads.values import Upload

_BLOCK_BYTES = 1 << 20
# errno of a path that does not lead to a readable file: waiting does not cure it
_NOT_THERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM, errno.ELOOP})


class ContentChanged(Exception):
    """The file is not what the upload was recorded from; the text is for the user."""


class Content:
    """The open content of one upload."""

    def __init__(self, upload: Upload) -> None:
        """Open it.

        Raises:
            ContentChanged: It is not there, or not as recorded.
        """
        self._upload = upload
        try:
            # NONBLOCK: a named pipe that took the file's place must not keep the sender waiting.
            self._descriptor = os.open(upload.content, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            if error.errno not in _NOT_THERE:
                raise
            raise ContentChanged(f"{_name(upload)} can not be read: {error.strerror}") from error
        try:
            self._check()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Content:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def read(self, offset: int, size: int) -> bytes:
        """Return exactly the *size* bytes from *offset* on.

        Raises:
            ContentChanged: The file is not as recorded, before or after reading.
        """
        data = read_exactly(self._descriptor, offset, size)
        self._check()
        if data is None:
            raise ContentChanged(f"{_name(self._upload)} became shorter while it was being uploaded")
        return data

    def blocks(self) -> Iterator[bytes]:
        """Yield all bytes, in pieces of at most 1 MiB."""
        for offset in range(0, self._upload.size, _BLOCK_BYTES):
            yield self.read(offset, min(_BLOCK_BYTES, self._upload.size - offset))

    def _check(self) -> None:
        upload = self._upload
        state = os.fstat(self._descriptor)
        if not stat.S_ISREG(state.st_mode):
            raise ContentChanged(f"{_name(upload)} is not a file any more")
        if state.st_size != upload.size:
            raise ContentChanged(
                f"{_name(upload)} changed before it was uploaded: {upload.size:,} bytes then, {state.st_size:,} now"
            )
        if upload.expected_mtime_ns not in (None, state.st_mtime_ns):
            raise ContentChanged(f"{_name(upload)} changed before it was uploaded: its time is another now")


def read_exactly(descriptor: int, offset: int, size: int) -> bytes | None:
    """Return the *size* bytes from *offset* on, None when the file ends before them."""
    data = os.pread(descriptor, size, offset)
    if len(data) == size:
        return data
    pieces = [data]  # one read gives at most 2 GiB, and fewer after a signal
    missing = size - len(data)
    while missing and pieces[-1]:
        pieces.append(os.pread(descriptor, missing, offset + size - missing))
        missing -= len(pieces[-1])
    return None if missing else b"".join(pieces)


def sha1_of(upload: Upload, check: Callable[[], None]) -> str:
    """Return the SHA-1 of an upload's content; *check* is called now and then and may raise to end it."""
    digest = hashlib.sha1(usedforsecurity=False)
    with Content(upload) as content:
        for block in content.blocks():
            check()
            digest.update(block)
    return digest.hexdigest()


def _name(upload: Upload) -> str:
    return upload.target if upload.expected_mtime_ns is None else str(upload.content)
