"""What the server answered: bytes within the deadline, JSON, a download, or the error that a status means.

Place.  ``transport`` has an answer whose header is there and passes it to one of the ``take_`` methods, or to
``status_error``. Nothing here sends anything.

The server's words.  Every refusal carries what the server said (``{"detail": "…"}``, ``{"name": ["…"]}``, plain
text), on one line, cut, and with the credential blotted out should it have been echoed.

Threads.  Fixed once made; every method may be called from any thread.
"""

from __future__ import annotations

import email.utils
import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests

from agorafs.byterange import ByteRange
from agorafs.client.attempts import AttemptFailed, Request, failed_attempt
from agorafs.client.base_url import BaseUrl
from agorafs.client.body import (
    UNKNOWN_STOP,
    Body,
    RangeNotHonoured,
    parse_content_range,
    parse_unsatisfied_range,
)
from agorafs.client.deadlines import Deadline
from agorafs.client.failures import HTTP_LIBRARY_ERRORS
from agorafs.client.session import limit_wait
from agorafs.errors import (
    AgoraFSError,
    AlreadyExists,
    NotAuthenticated,
    NotFound,
    PermissionDenied,
    ProtocolError,
    RemoteTimeout,
    RemoteUnavailable,
    TooLarge,
)

# The largest known answers, trees of whole projects, are estimated at tens of MB (not measured).
MAX_JSON_BYTES = 512 * 1024 * 1024

GONE = frozenset({404, 410})

_MAX_ERROR_BYTES = 16 * 1024
_MAX_WORDS_CHARS = 200
_PIECE_BYTES = 256 * 1024
_PASSING_STATUSES = frozenset({408, 429, 502, 503, 504})
_BY_STATUS: Mapping[int, type[AgoraFSError]] = {
    401: NotAuthenticated,
    403: PermissionDenied,
    409: AlreadyExists,
    413: TooLarge,
    **dict.fromkeys(GONE, NotFound),
}


Redact = Callable[[str], str]


class Answers:
    """Reads the answers of one server."""

    def __init__(self, base_url: BaseUrl, between_bytes_s: float) -> None:
        self._base_url = base_url
        self._between_bytes_s = between_bytes_s

    def read(self, request: Request, response: requests.Response, deadline: Deadline, limit: int) -> bytes:
        """Return the whole body, still encoded, within the deadline."""
        what = request.what(self._base_url)
        pieces: list[bytes] = []
        size = 0
        while True:
            remaining_s = deadline.remaining_s()
            if remaining_s <= 0:
                raise RemoteTimeout(f"{what}: the answer was too slow")
            limit_wait(response, min(self._between_bytes_s, remaining_s))
            try:
                piece = response.raw.read1(_PIECE_BYTES, decode_content=False)
            except HTTP_LIBRARY_ERRORS as error:
                raise failed_attempt(error, what, response.url) from error
            if not piece:
                return b"".join(pieces)
            size += len(piece)
            if size > limit:
                raise ProtocolError(f"{what}: the answer is larger than {limit} bytes")
            pieces.append(piece)

    def take_json(
        self, request: Request, response: requests.Response, deadline: Deadline, held: ExitStack | None
    ) -> Any:
        """Return the parsed answer."""
        return self._parsed(request, response, self.read(request, response, deadline, MAX_JSON_BYTES))

    def take_text(
        self, request: Request, response: requests.Response, deadline: Deadline, held: ExitStack | None
    ) -> str:
        """Return the answer as text."""
        data = self.read(request, response, deadline, MAX_JSON_BYTES)
        try:
            return _decoded(response, data).decode(errors="replace")
        except (ValueError, zlib.error) as error:
            raise ProtocolError(f"{request.what(self._base_url)}: {error}") from error

    def take_outcome(
        self, request: Request, response: requests.Response, deadline: Deadline, held: ExitStack | None
    ) -> Any:
        """Return the parsed answer to a change, None for an empty one."""
        self._check_success(request, response)
        data = self.read(request, response, deadline, MAX_JSON_BYTES)
        return self._parsed(request, response, data) if data else None

    def take_receipt(
        self, request: Request, response: requests.Response, deadline: Deadline, held: ExitStack | None
    ) -> None:
        """Accept the answer to an upload, whatever it says but for a page: that comes from somebody else."""
        if _content_type(response) == "text/html":
            raise self._not_json(request, response)
        self._check_success(request, response)
        self.read(request, response, deadline, MAX_JSON_BYTES)

    def _check_success(self, request: Request, response: requests.Response) -> None:
        if request.ok and response.status_code not in request.ok:
            raise ProtocolError(
                f"{request.what(self._base_url)}: answered {response.status_code}, which is not known to mean "
                "success"
            )

    def _parsed(self, request: Request, response: requests.Response, data: bytes) -> Any:
        try:
            return json.loads(_decoded(response, data))
        except (ValueError, RecursionError, zlib.error) as error:
            raise self._not_json(request, response) from error

    def _not_json(self, request: Request, response: requests.Response) -> ProtocolError:
        content_type = response.headers.get("Content-Type") or "something without a type"
        return ProtocolError(
            f"{request.what(self._base_url)}: answered {response.status_code} with {content_type} where JSON was "
            "expected; is this an Agora server?"
        )

    def take_body(
        self,
        request: Request,
        response: requests.Response,
        deadline: Deadline,
        held: ExitStack,
        byte_range: ByteRange | None,
    ) -> Body:
        """Return the download that begins; it takes over what is *held*."""
        what = request.what(self._base_url)
        if response.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
            raise ProtocolError(f"{what}: sent encoded bytes although the stored ones were asked for")
        # urllib3 has parsed it; None where it is missing or the body comes in chunks.
        length: int | None = response.raw.length_remaining
        is_partial = response.status_code == 206
        if is_partial:
            if byte_range is None:
                raise ProtocolError(f"{what}: sent a part although the whole was asked for")
            held_range, total = parse_content_range(response.headers.get("Content-Range"), byte_range, what)
            if length is not None and length != held_range.size:
                raise RangeNotHonoured(
                    f"{what}: announced {length} bytes for a range of {held_range.size}", total
                )
        elif response.status_code == 200:
            held_range, total = ByteRange(0, UNKNOWN_STOP if length is None else length), length
        else:
            raise ProtocolError(f"{what}: answered {response.status_code} where a file was expected")
        limit_wait(response, self._between_bytes_s)
        return Body(
            response.raw,
            byte_range=held_range,
            is_partial=is_partial,
            total=total,
            etag=response.headers.get("ETag"),
            content_type=response.headers.get("Content-Type"),
            what=what,
            host=self._base_url.host,
            release=held.pop_all().close,
        )

    def status_error(
        self, request: Request, response: requests.Response, redact: Redact, deadline: Deadline
    ) -> Exception:
        """Return what to raise for an answer of 400 or above, and close it."""
        with response:
            words = self._words(request, response, redact, deadline)
        status = response.status_code
        message = f"{request.what(self._base_url)}: {status} {response.reason}"
        message += f" ({words})" if words else ""
        if status in _BY_STATUS:
            return _BY_STATUS[status](message)
        if status in _PASSING_STATUSES:
            return AttemptFailed(RemoteUnavailable(message), retry_after_s=_retry_after_s(response.headers))
        if status == 416 and "Range" in request.headers:
            return RangeNotHonoured(message, parse_unsatisfied_range(response.headers.get("Content-Range")))
        return RemoteUnavailable(message) if status >= 500 else ProtocolError(message, status)

    def _words(
        self, request: Request, response: requests.Response, redact: Redact, deadline: Deadline
    ) -> str:
        """Return the server's own words, if it has any that a person would want to read."""
        try:
            data = _decoded(response, self.read(request, response, deadline, _MAX_ERROR_BYTES))
        except (AgoraFSError, AttemptFailed, ValueError, zlib.error):
            return ""
        try:
            words = "; ".join(_sentences(json.loads(data)))
        except (ValueError, RecursionError):
            # An HTML page says less than the status.
            is_plain = _content_type(response) in ("", "text/plain") and not data.lstrip().startswith(b"<")
            words = data.decode(errors="replace") if is_plain else ""
        # Blotted out before it is cut: half a key is a secret, too.
        words = redact(" ".join(words.split()))
        words = "".join(character for character in words if character.isprintable())
        return words if len(words) <= _MAX_WORDS_CHARS else words[: _MAX_WORDS_CHARS - 1] + "…"


def _sentences(data: object, field: str = "") -> Iterator[str]:
    """Yield the texts of an error in JSON, those of a field with its name before them."""
    if isinstance(data, Mapping):
        for name, value in data.items():
            # The names that stand for the whole request.
            yield from _sentences(value, "" if name in ("detail", "non_field_errors", "error") else str(name))
    elif isinstance(data, list):
        for value in data:
            yield from _sentences(value, field)
    elif isinstance(data, str) and data.strip():
        yield f"{field}: {data}" if field else data


def _content_type(response: requests.Response) -> str:
    value: str = response.headers.get("Content-Type", "")
    return value.partition(";")[0].strip().lower()


def _decoded(response: requests.Response, data: bytes) -> bytes:
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding == "identity":
        return data
    if encoding != "gzip":
        raise ValueError(f"encoding {encoding!r} was not asked for")
    decoder = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    plain = decoder.decompress(data, MAX_JSON_BYTES)
    if not decoder.eof:
        raise ValueError("the compressed answer is cut off or too large")
    return plain


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Return how long the server asks us to wait, or None.

    A date is compared with the server's own ``Date``, because our clock may differ.
    """
    value = headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        then = email.utils.parsedate_to_datetime(value)
        now = email.utils.parsedate_to_datetime(headers.get("Date", ""))
        return max(0.0, (then - now).total_seconds())
    except (ValueError, TypeError):
        return None


def redirect_target(what: str, url: str, location: str, *, insecure: bool) -> str:
    """Return where *location* leads from *url*, if it may be followed.

    Raises:
        ProtocolError: It is not http, or leads from https to http without *insecure*.
    """
    try:
        target = urljoin(url, location)
        parts = urlsplit(target)
        is_http = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        is_http = False
    if not is_http:
        raise ProtocolError(f"{what}: redirected to something that is not http")
    if parts.scheme == "http" and urlsplit(url).scheme == "https" and not insecure:
        raise ProtocolError(f"{what}: redirected to unencrypted http on {parts.hostname}")
    return target


def path_of(url: str) -> str:
    """Return the path of *url*; servers redirect to add a slash at its end, or to take it away."""
    return urlsplit(url).path.rstrip("/")
