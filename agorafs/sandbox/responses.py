"""HTTP responses: the bytes of a datafile, and bodies damaged on purpose.

``ContentResponse`` sends a file with the kernel's sendfile. It does itself what aiohttp's ``FileResponse`` would do,
because that one makes its ETag from time and size, ignores an ``If-Range`` with an ETag, and cannot be told to ignore
``Range``; all three matter here. The ETag is the SHA-1 of the content: strong, and equal for equal bytes.

Threads.  Event loop only; files are opened in a thread.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO, NamedTuple

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from agorafs.sandbox.calls import ContentAnswer
from agorafs.sandbox.faults import Fault

PIECE_BYTES = 64 * 1024
_RANGE = re.compile(r"^bytes=(\d*)-(\d*)$")


class Part(NamedTuple):
    """What of a content is sent: ``[start, start + length)`` with this status."""

    status: int
    start: int
    length: int


def choose_part(request: web.BaseRequest, size: int, etag: str, *, ranges: bool) -> Part:
    """Apply ``Range``, ``If-Range`` and ``If-None-Match`` to a content of *size* bytes.

    Several ranges in one request, and what cannot be parsed, are answered with the whole, as RFC 9110 allows.
    """
    if not ranges:
        return Part(200, 0, size)
    known = request.headers.get("If-None-Match")
    if known is not None and etag in [item.strip() for item in known.split(",")]:
        return Part(304, 0, 0)
    match = _RANGE.match(request.headers.get("Range", "").replace(" ", ""))
    if match is None or match[1] == match[2] == "" or request.headers.get("If-Range", etag) != etag:
        return Part(200, 0, size)
    if match[1] == "":  # the last so many bytes
        start, stop = max(size - int(match[2]), 0), size
    else:
        start = int(match[1])
        stop = size if match[2] == "" else min(int(match[2]) + 1, size)
        if match[2] != "" and int(match[2]) < start:
            return Part(200, 0, size)
    return Part(206, start, stop - start) if start < stop else Part(416, 0, 0)


class ContentResponse(web.StreamResponse):
    """A content, or a range of it. ``sent_bytes`` is the length of the body."""

    def __init__(
        self, content: ContentAnswer, path: Path, *, ranges: bool, fault: Fault | None = None
    ) -> None:
        super().__init__(headers={"Content-Type": content.mime_type})
        self._content = content
        self._path = path
        self._ranges = ranges
        self._fault = fault
        self.sent_bytes = 0

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        if self.prepared:  # the server prepares it to know what was sent; aiohttp asks again
            return await super().prepare(request)
        etag = f'"{self._content.sha1}"'
        try:
            file = await asyncio.to_thread(self._path.open, "rb")
        except FileNotFoundError:  # finally deleted between the look-up and now
            self.set_status(404)
            self.content_length = 0
            return await super().prepare(request)
        try:
            size = self._content.size
            part = choose_part(request, size, etag, ranges=self._ranges)
            self.set_status(part.status)
            if self._ranges:
                self.headers["Accept-Ranges"] = "bytes"
                self.headers["ETag"] = etag
            if part.status == 206:
                self.headers["Content-Range"] = f"bytes {part.start}-{part.start + part.length - 1}/{size}"
            elif part.status == 416:
                self.headers["Content-Range"] = f"bytes */{size}"
            if part.status != 304:
                self.content_length = part.length
            if self._fault is not None:
                writer = await super().prepare(request)
                await send_faulty(
                    request, self, _pieces(file, part.start, part.length), part.length, self._fault
                )
                return writer
            return await self._send(request, file, part)
        finally:
            file.close()

    async def _send(
        self, request: web.BaseRequest, file: IO[bytes], part: Part
    ) -> AbstractStreamWriter | None:
        writer = await super().prepare(request)
        if part.length and request.method != "HEAD":
            transport = request.transport
            if transport is None or transport.is_closing():
                raise ConnectionResetError("the client went away")
            # Over TLS the event loop falls back to reading and writing by itself.
            self.sent_bytes = await asyncio.get_running_loop().sendfile(
                transport, file, part.start, part.length
            )
            if self.sent_bytes != part.length:
                transport.abort()  # the file is shorter than its record: never a short body that looks whole
        await super().write_eof()
        return writer


async def _pieces(file: IO[bytes], start: int, count: int) -> AsyncIterator[bytes]:
    file.seek(start)
    while count > 0:
        piece = await asyncio.to_thread(file.read, min(PIECE_BYTES, count))
        if not piece:
            return
        count -= len(piece)
        yield piece


async def bytes_in_pieces(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), PIECE_BYTES):
        yield body[start : start + PIECE_BYTES]


async def send_faulty(
    request: web.BaseRequest,
    response: web.StreamResponse,
    pieces: AsyncIterator[bytes],
    count: int,
    fault: Fault,
) -> None:
    """Send the body of a prepared response the way *fault* says; ``count`` is its announced length."""
    limit = count
    if fault.kind == "truncate":
        limit = int(count * float(fault.argument))
    elif fault.kind == "reset-body":
        limit = count // 2
    position = 0
    async for piece in pieces:
        piece = piece[: limit - position]
        if fault.kind == "wrong-bytes" and position <= count // 2 < position + len(piece):
            damaged = bytearray(piece)
            damaged[count // 2 - position] ^= 0xFF
            piece = bytes(damaged)
        if fault.kind == "slow-body":
            await asyncio.sleep(float(fault.argument))
        if piece:
            await response.write(piece)
        position += len(piece)
        if position >= limit:
            break
    if position < count and request.transport is not None:
        if fault.kind == "truncate":
            request.transport.close()  # an orderly end, too early
        else:
            request.transport.abort()
        return
    await response.write_eof()
