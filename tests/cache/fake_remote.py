"""A remote over ``bytes`` objects, with faults that tests script and events instead of sleeps."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from agorafs.byterange import ByteRange
from agorafs.cache.content import ContentRef
from agorafs.errors import AgoraFSError, NotFound, RemoteUnavailable

ARCHIVE = "http://127.0.0.1:1/"


@dataclass
class Fault:
    """What happens to one request. Everything left at its default is as it should be."""

    error: AgoraFSError | None = None  # raised instead of an answer
    stop_after: int | None = None  # so many bytes come, then the body breaks off
    silent_end: bool = False  # … and claims to be complete
    corrupt_at: int | None = None  # this byte of the content is wrong
    etag: str | None = None
    total: int | None = None
    content_type: str | None = None
    page: bytes | None = None  # sent instead of the content
    answer_range: ByteRange | None = None  # another range than asked
    ignore_range: bool = False
    extra: bytes = b""  # sent after the end


@dataclass
class Request:
    """One request as it was made."""

    datafile: int
    byte_range: ByteRange | None
    if_range: str | None
    sent_bytes: int = 0


@dataclass
class FakeRemote:
    """Answers with ``contents[datafile]``. ``faults`` are used up one per request, in order.

    ``gate``: called before each piece of a body with (request, offset); may wait for an event.
    """

    contents: dict[int, bytes]
    ranges: bool = True
    etag: str | None = '"v1"'
    piece_bytes: int = 64 * 1024
    faults: list[Fault] = field(default_factory=list)
    gate: Callable[[Request, int], None] | None = None
    requests: list[Request] = field(default_factory=list)
    open_bodies: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def sent_bytes(self) -> int:
        return sum(request.sent_bytes for request in self.requests)

    def open_body(
        self, datafile: int, byte_range: ByteRange | None = None, *, if_range: str | None = None
    ) -> FakeBody:
        request = Request(datafile, byte_range, if_range)
        with self.lock:
            self.requests.append(request)
            fault = self.faults.pop(0) if self.faults else Fault()
        if fault.error is not None:
            raise fault.error
        if datafile not in self.contents:
            raise NotFound(f"datafile {datafile}: 404")
        data = fault.page if fault.page is not None else self.contents[datafile]
        etag = fault.etag or self.etag
        is_partial = self.ranges and byte_range is not None and not fault.ignore_range and fault.page is None
        if if_range is not None and if_range != etag:
            is_partial = False
        held = byte_range if is_partial and byte_range is not None else ByteRange(0, len(data))
        if is_partial and fault.answer_range is not None:
            held = fault.answer_range
        total = fault.total if fault.total is not None else len(data)
        with self.lock:
            self.open_bodies += 1
        return FakeBody(self, request, fault, data, held, is_partial, total, etag)


class FakeBody:
    """What ``FakeRemote`` answers with; counts as open until it is closed."""

    def __init__(
        self,
        remote: FakeRemote,
        request: Request,
        fault: Fault,
        data: bytes,
        byte_range: ByteRange,
        is_partial: bool,
        total: int,
        etag: str | None,
    ) -> None:
        self._remote = remote
        self._request = request
        self._fault = fault
        sent = bytearray(data[byte_range.start : byte_range.stop])
        if fault.corrupt_at is not None and byte_range.start <= fault.corrupt_at < byte_range.stop:
            sent[fault.corrupt_at - byte_range.start] ^= 0x55
        self._data = bytes(sent) + fault.extra
        self._position = 0
        self._is_closed = False
        self.byte_range = byte_range
        self.is_partial = is_partial
        self.total: int | None = total
        self.etag = etag
        self.content_type = fault.content_type

    def readinto(self, view: memoryview) -> int:
        assert not self._is_closed
        if self._remote.gate is not None:
            self._remote.gate(self._request, self.byte_range.start + self._position)
        stop = len(self._data) if self._fault.stop_after is None else self._fault.stop_after
        size = min(len(view), self._remote.piece_bytes, stop - self._position)
        if size <= 0:
            if self._fault.stop_after is not None and not self._fault.silent_end:
                raise RemoteUnavailable("connection reset")
            return 0
        view[:size] = self._data[self._position : self._position + size]
        self._position += size
        self._request.sent_bytes += size
        return size

    def close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            with self._remote.lock:
                self._remote.open_bodies -= 1


def content_of(size: int, seed: int = 1) -> bytes:
    """Bytes in which no two blocks are alike."""
    out = bytearray()
    counter = 0
    while len(out) < size:
        out += hashlib.sha256(f"{seed} {counter}".encode()).digest() * 32
        counter += 1
    return bytes(out[:size])


def ref_of(
    data: bytes, datafile: int = 1, *, sha1: str | None = None, modified_ns: int | None = None
) -> ContentRef:
    digest = hashlib.sha1(data).hexdigest() if sha1 is None else sha1
    return ContentRef(datafile, len(data), digest, ARCHIVE, modified_ns)
