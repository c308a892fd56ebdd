"""The bytes of a download, as they arrive.

Why.  A read must never mistake the end of a connection for the end of a file. ``Body.readinto`` counts:
its 0 means that all promised bytes came, everything else is an exception.

Place.  ``transport.open_body`` makes it; the content cache reads it and closes it. It resumes nothing;
whoever knows what is still missing asks for that range.

Units.  Bytes; ``byte_range`` is half-open and counts from the start of the datafile.

Threads.  One thread at a time. ``close`` gives the connection back and must be called.

Failure.  ``RemoteTimeout`` when no byte came for ``between_bytes_s``, ``RemoteUnavailable`` when the
connection broke or the body was shorter than promised. Where the server promised no length
(``total`` is None) only the datafile's recorded size can tell, and the reader must compare.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from agorafs.byterange import ByteRange
from agorafs.client.failures import HTTP_LIBRARY_ERRORS, failure_of
from agorafs.errors import ProtocolError, RemoteUnavailable

# ``byte_range.stop`` of a body whose length the server does not say.
UNKNOWN_STOP = 2**63 - 1

# One socket read seldom returns more; a larger piece would only be allocated and given back.
_PIECE_BYTES = 256 * 1024

_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)")
_UNSATISFIED_RANGE = re.compile(r"bytes \*/(\d{1,18})")


class RangeNotHonoured(ProtocolError):
    """The server answered a range with another range, or with 416.

    It then has no usable ranges (a plain GET may still work), or the datafile is shorter than was thought;
    ``total`` is the size it names, if it names one. A server that ignores ``Range`` altogether is
    no error: ``Body.is_partial`` is False and the body is the whole file.
    """

    def __init__(self, message: str, total: int | None = None) -> None:
        super().__init__(message)
        self.total = total


def parse_content_range(header: str | None, asked: ByteRange, what: str) -> tuple[ByteRange, int | None]:
    """Return (range, total size or None) of a 206 answer, checked against what was *asked*.

    Raises:
        RangeNotHonoured: It is not the part of *asked* that the file has.
    """
    found = _CONTENT_RANGE.fullmatch((header or "").strip())
    if found is None:
        raise RangeNotHonoured(f"{what}: answered a range with Content-Range {header!r}")
    held = ByteRange(int(found[1]), int(found[2]) + 1)
    total = None if found[3] == "*" else int(found[3])
    expected_stop = asked.stop if total is None else min(asked.stop, total)
    # Without a total, a range that stops early may be the file's end.
    is_stop_right = held.stop == expected_stop or (total is None and held.stop < expected_stop)
    if held.start != asked.start or held.size <= 0 or not is_stop_right:
        raise RangeNotHonoured(
            f"{what}: asked for bytes {asked.start}-{asked.stop - 1}, got Content-Range {header!r}", total
        )
    return held, total


def parse_unsatisfied_range(header: str | None) -> int | None:
    """Return the total size that a 416 answer names, if it does."""
    found = _UNSATISFIED_RANGE.fullmatch((header or "").strip())
    return None if found is None else int(found[1])


class Body:
    """One open download."""

    def __init__(
        self,
        raw: Any,  # a urllib3 response; any, because its two generations share no type
        *,
        byte_range: ByteRange,
        is_partial: bool,
        total: int | None,
        etag: str | None,
        content_type: str | None,
        what: str,
        host: str,
        release: Callable[[], None],
    ) -> None:
        """Take over *raw*; *release* closes it and gives its connection slot back."""
        self.byte_range = byte_range  # what the body holds; stop may be UNKNOWN_STOP
        self.is_partial = is_partial  # a 206: the server honours ranges
        self.total = total  # size of the whole datafile as the server says it now
        self.etag = etag
        self.content_type = content_type
        self._raw = raw
        self._what = what
        self._host = host
        self._release: Callable[[], None] | None = release
        self._missing_bytes = byte_range.size  # of the promise; meaningless where there is none
        self._is_complete = False

    def readinto(self, view: memoryview) -> int:
        """Put the next bytes into *view* as soon as there are some; return their number, 0 at the end.

        Raises:
            RemoteTimeout: No byte arrived for ``between_bytes_s``.
            RemoteUnavailable: The connection broke, or the body ended before its promised length.
            ValueError: *view* is empty, or the body is closed.
        """
        if not view.nbytes:
            raise ValueError("readinto needs room for at least one byte")
        if self._is_complete:
            return 0
        if self._release is None:
            raise ValueError("the body is closed")
        wanted = min(view.nbytes, self._missing_bytes, _PIECE_BYTES)
        try:
            piece = self._raw.read1(wanted, decode_content=False) if wanted else b""
        except HTTP_LIBRARY_ERRORS as error:
            self.close()
            raise failure_of(error, self._what, self._host) from error
        if piece:
            view[: len(piece)] = piece
            self._missing_bytes -= len(piece)
            return len(piece)
        is_short = self._missing_bytes > 0 and self.byte_range.stop != UNKNOWN_STOP
        self.close()
        if is_short:
            raise RemoteUnavailable(f"{self._what}: the body ended {self._missing_bytes} bytes early")
        self._is_complete = True
        return 0

    def close(self) -> None:
        """Give the connection back; it is used again if the body was read to its end. Idempotent."""
        release, self._release = self._release, None
        if release is not None:
            release()

    def __enter__(self) -> Body:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
