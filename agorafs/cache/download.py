"""Getting a content's bytes from the archive: whole, by range, or as one stream.

Three ways, by what is known of the file and the server:

* **whole**: small files, one request, verified before anybody sees a byte;
* **range**: the blocks that are asked for, where the server has ranges;
* **stream**: one plain download that feeds all readers, where it has none. A server shows that by answering
  a range request with the whole file, with another range, or with 416; a whole file that comes this way is
  used, not thrown away.

Nothing is known of how the vendor's server answers ranges (none of its clients sends any), so each answer
is checked: the range it holds, the size of the whole, the ETag.

Place.  ``shared_content`` runs these functions in the thread of its choice and gives them a ``Sink``, which
takes the blocks. They know no locks, and nothing of disk.

Errors.  A datafile that is gone, or whose size or ETag is another than before, raises ``StaleHandle``
(``ContentChanged`` when what was fetched so far is in doubt too). A body that ends early is asked for again
from where it ended, ``fetch_attempts`` times without progress, then the remote's own error is raised. Errors
of opening are not retried here: the remote has done that.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from agorafs.byterange import ByteRange
from agorafs.cache.content_values import Body, ContentLimits, ContentRef, Remote
from agorafs.client.body import RangeNotHonoured
from agorafs.clock import Clock
from agorafs.errors import (
    AgoraFSError,
    IntegrityError,
    NotFound,
    ProtocolError,
    RemoteUnavailable,
    StaleHandle,
    TlsError,
)


class ContentChanged(StaleHandle):
    """The archive answers with another version than before; blocks fetched so far are in doubt."""


class Abandoned(AgoraFSError):
    """The flight was called off before it got to a block. Never leaves ``cache``: the reader asks again."""


@dataclass(slots=True, eq=False)
class Flight:
    """A request under way for blocks ``[first, stop)``. The content's lock guards what changes.

    ``progress_at`` (clock seconds) is written by the fetching thread only, and read without the lock.
    """

    first: int
    stop: int
    streaming: bool = False
    owner: object = None  # whose read-ahead it is
    claimed: bool = False  # a thread runs it
    cancelled: bool = False
    position: int = field(default=0)  # next block that will come
    progress_at: float = 0.0


class Sink(Protocol):
    """What takes the blocks of a flight."""

    def publish(self, flight: Flight, block_no: int, view: memoryview) -> None: ...
    def rewind(self, flight: Flight) -> None: ...
    def etag(self, ref: ContentRef) -> str | None: ...
    def remember_etag(self, ref: ContentRef, etag: str) -> None: ...


class Downloader:
    """The three ways to fetch, over one remote."""

    def __init__(self, remote: Remote, limits: ContentLimits, clock: Clock) -> None:
        self._remote = remote
        self._limits = limits
        self._clock = clock
        # Statistics; lost updates between threads are tolerated.
        self.requests = 0
        self.fetched_bytes = 0

    # -- whole ----------------------------------------------------------------------------------------

    def fetch_whole(self, ref: ContentRef, flight: Flight, buffer: memoryview) -> None:
        """Fill *buffer* with the whole content, verified.

        Raises IntegrityError after the second wrong SHA-1.
        """
        interruptions = mismatches = 0
        while True:
            with closing(self._open_whole(ref)) as body:
                try:
                    self._fill(ref, body, buffer, flight)
                    self._expect_end(ref, body)
                except RemoteUnavailable as error:
                    interruptions += 1
                    if _is_final(error) or interruptions >= self._limits.fetch_attempts:
                        raise
                    continue
                if not ref.sha1 or hashlib.sha1(buffer, usedforsecurity=False).hexdigest() == ref.sha1:
                    return
                mismatches += 1
                if mismatches == 2:
                    if _looks_like_page(body):
                        raise _page_instead(ref, body)
                    raise IntegrityError(
                        f"{ref}: the server's bytes do not match its SHA-1 {ref.sha1}, twice"
                    )

    # -- ranges ---------------------------------------------------------------------------------------

    def fetch_range(self, ref: ContentRef, flight: Flight, sink: Sink, buffer: memoryview) -> Body | None:
        """Fetch the blocks of *flight* into *sink*.

        Returns None when done. Where the server ignored the range, returns its answer: an open body that
        holds the whole content from its start, to be streamed; the caller closes it.
        """
        interruptions = 0
        while flight.position < flight.stop:
            body = self._open_range(ref, flight, sink)
            if body.byte_range.start == 0 and not body.is_partial:
                return body
            with closing(body):
                before = flight.position
                try:
                    self._pump(ref, body, flight, sink, buffer)
                except RemoteUnavailable as error:
                    interruptions = 1 if flight.position > before else interruptions + 1
                    if _is_final(error) or interruptions >= self._limits.fetch_attempts:
                        raise
        return None

    def _open_range(self, ref: ContentRef, flight: Flight, sink: Sink) -> Body:
        """Open the rest of *flight*, or the whole content when the server has no ranges."""
        block_bytes = self._limits.block_bytes
        wanted = ByteRange(flight.position * block_bytes, min(flight.stop * block_bytes, ref.size))
        etag = sink.etag(ref)
        strong = etag if etag is not None and not etag.startswith("W/") else None
        try:
            body = self._open(ref, wanted, strong)
        except RangeNotHonoured as error:
            if error.total is not None and error.total != ref.size:
                raise ContentChanged(
                    f"{ref} has {error.total} bytes now, {ref.size} when it was listed"
                ) from error
            return self._open_whole(ref)
        with _closed_on_error(body):
            if not body.is_partial:
                if strong is not None:
                    if _looks_like_page(body) and body.etag is None:
                        raise _page_instead(ref, body)
                    raise ContentChanged(f"{ref} changed on the server while it was being read")
                self._check_version(ref, body, sink)
                return body
            if body.byte_range == wanted:
                self._check_version(ref, body, sink)
                return body
        body.close()
        return self._open_whole(ref)

    # -- stream ---------------------------------------------------------------------------------------

    def fetch_stream(
        self, ref: ContentRef, flight: Flight, sink: Sink, buffer: memoryview, body: Body | None
    ) -> None:
        """Fetch the whole content in order into *sink*, first from *body* if one is open already."""
        interruptions = 0
        while True:
            if body is None:
                body = self._open_whole(ref)
                with _closed_on_error(body):
                    self._check_version(ref, body, sink)
            with closing(body):
                try:
                    self._pump(ref, body, flight, sink, buffer)
                    return
                except RemoteUnavailable as error:
                    interruptions += 1
                    if _is_final(error) or interruptions >= self._limits.fetch_attempts:
                        raise
            body = None
            sink.rewind(flight)

    # -- bodies ---------------------------------------------------------------------------------------

    def _open(self, ref: ContentRef, byte_range: ByteRange | None, if_range: str | None) -> Body:
        self.requests += 1
        try:
            return self._remote.open_body(ref.datafile, byte_range, if_range=if_range)
        except NotFound as error:
            raise StaleHandle(f"{ref} is no longer on the server") from error

    def _open_whole(self, ref: ContentRef) -> Body:
        body = self._open(ref, None, None)
        with _closed_on_error(body):
            if body.is_partial or body.byte_range.start != 0:
                raise ProtocolError(f"{ref}: the server sent a part although the whole was asked for")
            _check_total(ref, body)
        return body

    def _check_version(self, ref: ContentRef, body: Body, sink: Sink) -> None:
        """Raise unless *body* belongs to the size that was listed and the ETag that was seen before."""
        _check_total(ref, body)
        if body.etag is not None:
            known = sink.etag(ref)
            if known is not None and known != body.etag:
                raise ContentChanged(f"{ref} changed on the server while it was being read")
            sink.remember_etag(ref, body.etag)

    def _pump(self, ref: ContentRef, body: Body, flight: Flight, sink: Sink, buffer: memoryview) -> None:
        """Read *body* block by block into *sink*, from the flight's position to its end."""
        block_bytes = self._limits.block_bytes
        while flight.position < flight.stop:
            block_no = flight.position
            view = buffer[: min(block_bytes, ref.size - block_no * block_bytes)]
            self._fill(ref, body, view, flight)
            if block_no == flight.stop - 1:
                self._expect_end(ref, body)
            sink.publish(flight, block_no, view)

    def _fill(self, ref: ContentRef, body: Body, view: memoryview, flight: Flight) -> None:
        filled = 0
        while filled < len(view):
            if flight.cancelled:
                raise Abandoned("nobody waits for these bytes any more")
            length = body.readinto(view[filled:])
            if length == 0:
                if _looks_like_page(body):
                    raise _page_instead(ref, body)
                raise RemoteUnavailable(f"{ref}: the server's answer ended early")
            filled += length
            self.fetched_bytes += length
            flight.progress_at = self._clock.monotonic()

    def _expect_end(self, ref: ContentRef, body: Body) -> None:
        """Raise when *body* goes on after all that was expected; lets its connection be used again."""
        if body.readinto(memoryview(bytearray(1))):
            if _looks_like_page(body):
                raise _page_instead(ref, body)
            raise ContentChanged(f"{ref}: the server sends more bytes than it listed")


def _check_total(ref: ContentRef, body: Body) -> None:
    if body.total is not None and body.total != ref.size:
        if _looks_like_page(body):
            raise _page_instead(ref, body)
        raise ContentChanged(f"{ref} has {body.total} bytes on the server, {ref.size} when it was listed")


def _looks_like_page(body: Body) -> bool:
    """A web page or an error message may stand in for the file, with status 200."""
    kind = (body.content_type or "").partition(";")[0].strip().lower()
    return kind in {"text/html", "application/json"}


def _page_instead(ref: ContentRef, body: Body) -> ProtocolError:
    kind = (body.content_type or "").partition(";")[0].strip()
    return ProtocolError(
        f"{ref}: a login or error page ({kind}) came instead of the file; is the key still valid?"
    )


def _is_final(error: RemoteUnavailable) -> bool:
    return isinstance(error, TlsError)


@contextmanager
def _closed_on_error(body: Body) -> Iterator[None]:
    try:
        yield
    except BaseException:
        body.close()
        raise
