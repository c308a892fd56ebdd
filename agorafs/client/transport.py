"""HTTP to one Agora server: pooled connections, deadlines, retries, ranges.

Why.  A file system must answer or fail in time, whatever the server does. In ``requests`` a timeout limits
connecting and each wait for bytes, never the whole; here every operation has a deadline that covers all its
attempts and the reading of its answer.

Place.  ``api`` builds paths and calls ``get_json`` and ``open_body``. HTTP statuses and the libraries'
exceptions (``failures``) become ``agorafs.errors`` here and in ``body``; nothing above sees them.

What is tried again.  Only GET, and only what may pass: no connection, a lost one, a timeout, 408, 429, 502,
503, 504. The pause doubles, with jitter; ``Retry-After`` is obeyed if it fits the deadline. 500 is not
tried again: from a Django application it is a mistake that repeats itself. While the server is known to
be away (``availability``) there is one short attempt and no retry.

Redirects.  Followed here and not by ``requests``, which would look into ``~/.netrc`` on the way. The
credential goes to the server's own origin only, and no redirect leads from https to http.

Units.  Seconds on the passed clock. The waits inside the sockets are real seconds.

Threads.  Every method may be called from any thread; make the ``Transport`` after forking. At most
``connections`` requests are in flight, counted by ``_slots``; downloads, which may stay open for long, may
not take the last two (``_download_slots``), so that listings never queue behind them.

Limits.  The deadline is checked between pieces of a body. A server that drips its *header* is held only to
``first_byte_s`` per wait: the library reads the header in one call.

Secrets.  The debug log has method, path, status and milliseconds. Queries and bodies are never logged.
"""

from __future__ import annotations

import email.utils
import json
import logging
import threading
import zlib
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import random as system_random
from typing import Any, TypeVar
from urllib.parse import urljoin, urlsplit

import requests

from agorafs.byterange import ByteRange
from agorafs.client.auth import ANONYMOUS, Authenticator, Authorization, Credential, Password, Secret
from agorafs.client.availability import Availability
from agorafs.client.base_url import BaseUrl, is_loopback
from agorafs.client.body import (
    UNKNOWN_STOP,
    Body,
    RangeNotHonoured,
    parse_content_range,
    parse_unsatisfied_range,
)
from agorafs.client.deadlines import Deadline, Timeouts
from agorafs.client.failures import HTTP_LIBRARY_ERRORS, failure_of
from agorafs.client.session import Session, checked_verify, limit_wait
from agorafs.clock import SYSTEM_CLOCK, Clock
from agorafs.errors import (
    AgoraFSError,
    NotAuthenticated,
    NotFound,
    PermissionDenied,
    ProtocolError,
    RemoteError,
    RemoteTimeout,
    RemoteUnavailable,
)

logger = logging.getLogger(__name__)

LOG_IN_PATH = "/api/v1/rest-auth/login/"

# The largest known answers, trees of whole projects, are estimated at tens of MB (not measured).
MAX_JSON_BYTES = 512 * 1024 * 1024

_MAX_ERROR_BYTES = 16 * 1024
_MAX_DETAIL_CHARS = 200
_PIECE_BYTES = 256 * 1024
_MAX_REDIRECTS = 5
_GONE = frozenset({404, 410})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PASSING_STATUSES = frozenset({408, 429, 502, 503, 504})
_FIRST_PAUSE_S = 0.25
_MAX_PAUSE_S = 8.0
_RESERVED_SLOTS = 2

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    path: str
    params: Mapping[str, str | int] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    form: Mapping[str, str] | None = field(default=None, repr=False)
    is_authenticated: bool = True
    is_download: bool = False


class _AttemptFailed(Exception):
    """One attempt failed in a way that may pass."""

    def __init__(
        self, error: RemoteError, *, is_unreachable: bool = False, retry_after_s: float | None = None
    ) -> None:
        super().__init__(str(error))
        self.error = error
        self.is_unreachable = is_unreachable  # below HTTP: it says something about every other request
        self.retry_after_s = retry_after_s


class Transport:
    """One server. *Given* and *fixed* fields only; what changes is in its parts, each with its own lock."""

    def __init__(
        self,
        base_url: str,
        credential: Credential | None,
        *,
        timeouts: Timeouts | None = None,
        verify: bool | Path = True,
        insecure: bool = False,
        connections: int = 8,
        clock: Clock = SYSTEM_CLOCK,
        random: Callable[[], float] = system_random,
    ) -> None:
        """Check the arguments; nothing is sent yet.

        Args:
            base_url: ``https://host[:port][/prefix]``.
            credential: None only for what needs none (``version/``).
            verify: True, a file with the trusted certificates, or False for no check at all.
            insecure: Accept ``http`` to another machine.
            connections: Most requests in flight.
            random: Returns a number in ``[0, 1)``, for jitter.

        Raises:
            UsageError: The address or the certificate file can not be used.
        """
        self.base_url = BaseUrl.parse(base_url, insecure=insecure)
        self._timeouts = timeouts or Timeouts()
        self._verify = checked_verify(verify)
        self._insecure = insecure
        self._clock = clock
        self._random = random
        self._authenticator = Authenticator(credential)
        self._availability = Availability(self.base_url.text, self._timeouts.away_s, clock)
        self._slots = threading.BoundedSemaphore(connections)
        self._download_slots = threading.BoundedSemaphore(max(1, connections - _RESERVED_SLOTS))
        # A proxy from the environment can not reach this machine's own loopback address.
        self._session = Session(connections, use_proxies=not is_loopback(self.base_url.host))

    # -- what the layer above calls ------------------------------------------------------------------

    def replace_credential(self, credential: Credential | None) -> None:
        """Use *credential* from the next request on; those in flight end with the old one."""
        self._authenticator.replace(credential)

    def condition(self) -> str:
        """How the server stands as of the last request: ``ok``, ``away`` or ``refused`` (the credential)."""
        return self._availability.condition()

    def close(self) -> None:
        """Close idle connections. Bodies that are still open stay readable."""
        self._session.close()

    def get_json(
        self,
        path: str,
        params: Mapping[str, str | int] | None = None,
        *,
        deadline_s: float | None = None,
        is_authenticated: bool = True,
    ) -> Any:
        """Return the parsed answer to a GET of *path* (``/api/…``, escaped).

        Args:
            params: The query; numbers only by convention, servers log it.
            deadline_s: For the whole operation; ``timeouts.deadline_s`` if None.
            is_authenticated: False sends no credential.

        Raises:
            NotFound: 404, 410; from the server itself, not from where it redirected to.
            NotAuthenticated: 401 with every way of presenting the credential.
            PermissionDenied: 403.
            RemoteTimeout: The deadline passed.
            RemoteUnavailable: No connection, or 429 or 5xx, at the end of the deadline.
            TlsError: The certificate is not trusted.
            ProtocolError: Another 4xx, or an answer that is not JSON.
        """
        request = _Request("GET", path, params, is_authenticated=is_authenticated)
        return self._operation(request, deadline_s, self._take_json)

    def open_body(
        self,
        path: str,
        byte_range: ByteRange | None = None,
        *,
        if_range: str | None = None,
        deadline_s: float | None = None,
    ) -> Body:
        """Begin a download; the deadline covers everything up to the first byte of the body.

        Args:
            byte_range: Not empty. The server may ignore it (``Body.is_partial``).
            if_range: The etag that the range must belong to; otherwise the whole file comes.

        Raises:
            RangeNotHonoured: Another range came, or 416.
            AgoraFSError: As ``get_json``.
        """
        headers = {"Accept": "*/*", "Accept-Encoding": "identity"}
        if byte_range is not None:
            if byte_range.start < 0 or byte_range.size <= 0:
                raise ValueError(f"{byte_range} is not a range to ask for")
            headers["Range"] = f"bytes={byte_range.start}-{byte_range.stop - 1}"
            if if_range is not None:
                headers["If-Range"] = if_range
        request = _Request("GET", path, headers=headers, is_download=True)
        return self._operation(request, deadline_s, partial(self._take_body, byte_range=byte_range))

    # -- operations and attempts ---------------------------------------------------------------------

    def _operation(
        self,
        request: _Request,
        deadline_s: float | None,
        take: Callable[[_Request, requests.Response, Deadline, ExitStack], T],
    ) -> T:
        """Repeat ``_attempt`` until it succeeds, fails for good, or the deadline leaves no room."""
        deadline = Deadline(self._clock, self._timeouts.deadline_s if deadline_s is None else deadline_s)
        is_probe = self._availability.is_away()
        timeouts = self._timeouts.probing() if is_probe else self._timeouts
        attempts = 0
        while True:
            attempts += 1
            try:
                return self._attempt(request, deadline, timeouts, take)
            except NotAuthenticated as error:
                if request.is_authenticated:
                    self._availability.refused(error)
                raise
            except _AttemptFailed as failed:
                pause_s = failed.retry_after_s
                if pause_s is None:
                    longest_s = min(_MAX_PAUSE_S, _FIRST_PAUSE_S * 2 ** (attempts - 1))
                    pause_s = longest_s * (1 + self._random()) / 2
                if is_probe or pause_s >= deadline.remaining_s():
                    # A probe's timeout does not prolong the short attempts: a server that is only slow must
                    # be given its full time before long.
                    if failed.is_unreachable and not (is_probe and isinstance(failed.error, RemoteTimeout)):
                        self._availability.unreachable(failed.error)
                    raise self._final_error(failed, attempts, deadline) from failed.__cause__
            self._clock.sleep(pause_s)

    @staticmethod
    def _final_error(failed: _AttemptFailed, attempts: int, deadline: Deadline) -> RemoteError:
        if attempts == 1:
            return failed.error
        return type(failed.error)(f"{failed.error} ({attempts} attempts in {deadline.elapsed_s():.0f} s)")

    def _attempt(
        self,
        request: _Request,
        deadline: Deadline,
        timeouts: Timeouts,
        take: Callable[[_Request, requests.Response, Deadline, ExitStack], T],
    ) -> T:
        """Send once (twice if the credential may be presented in another way) and *take* the answer."""
        with ExitStack() as held:
            # Always in this order, so that two requests can not each hold what the other waits for.
            for slots in (self._download_slots, self._slots) if request.is_download else (self._slots,):
                if not slots.acquire(timeout=max(0.0, deadline.remaining_s())):
                    raise RemoteTimeout(f"{self._what(request)}: all connections stayed busy")
                held.callback(slots.release)
            response = self._ask(request, deadline, timeouts)
            held.callback(response.close)
            return take(request, response, deadline, held)

    def _ask(self, request: _Request, deadline: Deadline, timeouts: Timeouts) -> requests.Response:
        """Send with the credential; return an open answer below 400, or raise."""
        if not request.is_authenticated:
            response = self._send(request, ANONYMOUS, deadline, timeouts)
            if response.status_code >= 400:
                raise self._status_error(request, response, ANONYMOUS, deadline)
            return response
        log_in = partial(self._log_in, deadline=deadline, timeouts=timeouts)
        used = self._authenticator.authorization(log_in, deadline.remaining_s())
        response = self._send(request, used, deadline, timeouts)
        if response.status_code in (401, 403):
            refusal = self._status_error(request, response, used, deadline)
            other = self._authenticator.alternative(
                used, response.status_code, log_in, deadline.remaining_s()
            )
            if other is None:
                raise refusal
            second = self._send(request, other, deadline, timeouts)
            if second.status_code in (401, 403):
                second_refusal = self._status_error(request, second, other, deadline)
                if second.status_code == response.status_code:
                    raise refusal
                # The one that got 403 was recognised; the other was not.
                if second.status_code == 403:
                    self._authenticator.accepted(other)
                    raise second_refusal
                self._authenticator.accepted(used)
                raise refusal
            used, response = other, second
        if response.status_code >= 400:
            raise self._status_error(request, response, used, deadline)
        if self.base_url.is_same_origin(response.url):
            self._authenticator.accepted(used)
            self._availability.accepted()
        return response

    def _log_in(self, credential: Password, deadline: Deadline, timeouts: Timeouts) -> Secret:
        """Exchange user and password for a session token (within the slot of the request that needs it)."""
        form = {"username": credential.user, "password": credential.password.reveal()}
        request = _Request("POST", LOG_IN_PATH, form=form)
        url = self.base_url.join(LOG_IN_PATH)
        with self._exchange(request, url, ANONYMOUS, deadline, timeouts) as response:
            status = response.status_code
            if status in (400, 401, 403):
                raise NotAuthenticated(
                    f"{self.base_url.text} refused the user name or the password; accounts with two-factor or "
                    "single sign-on need an API key"
                )
            if status in _REDIRECTS:
                raise ProtocolError(
                    f"{url} leads elsewhere; the password is not sent on. Use the final address"
                )
            if status >= 400:
                raise self._status_error(request, response, ANONYMOUS, deadline)
            data = self._take_json(request, response, deadline, None)
        token = data.get("key") if isinstance(data, dict) else None
        if not isinstance(token, str) or not token:
            raise ProtocolError(f"{url} answered without a session token; use an API key")
        return Secret(token)

    # -- one request ---------------------------------------------------------------------------------

    def _send(
        self, request: _Request, authorization: Authorization, deadline: Deadline, timeouts: Timeouts
    ) -> requests.Response:
        """Send a GET and follow its redirects."""
        url = asked = self.base_url.join(request.path)
        for _ in range(_MAX_REDIRECTS + 1):
            response = self._exchange(request, url, authorization, deadline, timeouts)
            location = response.headers.get("Location")
            if response.status_code not in _REDIRECTS or location is None:
                if response.status_code in _GONE and _path_of(url) != _path_of(asked):
                    response.close()
                    # The other place does not know; that says nothing of the object here.
                    raise ProtocolError(
                        f"{self._what(request)}: redirected to {_path_of(url)}, which does not exist"
                    )
                return response
            response.close()
            url = self._redirected(request, url, location)
            if not self.base_url.is_same_origin(url):
                authorization = ANONYMOUS
            request = _Request(
                request.method, request.path, None, request.headers, is_download=request.is_download
            )
        raise ProtocolError(f"{self._what(request)}: redirected more than {_MAX_REDIRECTS} times")

    def _redirected(self, request: _Request, url: str, location: str) -> str:
        """Return where *location* leads from *url*, if it may be followed."""
        try:
            target = urljoin(url, location)
            parts = urlsplit(target)
            is_http = parts.scheme in ("http", "https") and bool(parts.hostname)
        except ValueError:
            is_http = False
        if not is_http:
            raise ProtocolError(f"{self._what(request)}: redirected to something that is not http")
        if parts.scheme == "http" and urlsplit(url).scheme == "https" and not self._insecure:
            raise ProtocolError(f"{self._what(request)}: redirected to unencrypted http on {parts.hostname}")
        return target

    def _exchange(
        self,
        request: _Request,
        url: str,
        authorization: Authorization,
        deadline: Deadline,
        timeouts: Timeouts,
    ) -> requests.Response:
        """Send one request; return when the header of the answer is there."""
        remaining_s = deadline.remaining_s()
        if remaining_s <= 0:
            raise RemoteTimeout(f"{self._what(request)}: no answer in time")
        begin = self._clock.monotonic()
        try:
            response = self._session.request(
                request.method,
                url,
                params=request.params,
                data=request.form,
                headers=dict(request.headers),
                auth=authorization,
                timeout=(min(timeouts.connect_s, remaining_s), min(timeouts.first_byte_s, remaining_s)),
                allow_redirects=False,
                stream=True,
                verify=self._verify,
            )
        except HTTP_LIBRARY_ERRORS as error:
            raise self._failed(error, request, url) from error
        self._availability.answered()
        logger.debug(
            "%s %s %d %.0f ms",
            request.method,
            request.path,
            response.status_code,
            1000 * (self._clock.monotonic() - begin),
        )
        return response

    def _failed(self, error: BaseException, request: _Request, url: str) -> Exception:
        """Return what to raise for a library's exception: ``_AttemptFailed`` if it may pass."""
        failure = failure_of(error, self._what(request), urlsplit(url).hostname or "")
        if type(failure) in (RemoteTimeout, RemoteUnavailable):
            return _AttemptFailed(failure, is_unreachable=True)
        return failure

    def _what(self, request: _Request) -> str:
        return f"{request.method} {self.base_url.join(request.path)}"

    # -- answers -------------------------------------------------------------------------------------

    def _read(self, request: _Request, response: requests.Response, deadline: Deadline, limit: int) -> bytes:
        """Return the whole body, still encoded, within the deadline."""
        pieces: list[bytes] = []
        size = 0
        while True:
            remaining_s = deadline.remaining_s()
            if remaining_s <= 0:
                raise RemoteTimeout(f"{self._what(request)}: the answer was too slow")
            limit_wait(response, min(self._timeouts.between_bytes_s, remaining_s))
            try:
                piece = response.raw.read1(_PIECE_BYTES, decode_content=False)
            except HTTP_LIBRARY_ERRORS as error:
                raise self._failed(error, request, response.url) from error
            if not piece:
                return b"".join(pieces)
            size += len(piece)
            if size > limit:
                raise ProtocolError(f"{self._what(request)}: the answer is larger than {limit} bytes")
            pieces.append(piece)

    def _take_json(
        self, request: _Request, response: requests.Response, deadline: Deadline, held: ExitStack | None
    ) -> Any:
        data = self._read(request, response, deadline, MAX_JSON_BYTES)
        try:
            return json.loads(self._decoded(response, data))
        except (ValueError, RecursionError, zlib.error) as error:
            content_type = response.headers.get("Content-Type") or "something without a type"
            raise ProtocolError(
                f"{self._what(request)}: answered {response.status_code} with {content_type} where JSON was "
                "expected; is this an Agora server?"
            ) from error

    @staticmethod
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

    def _take_body(
        self,
        request: _Request,
        response: requests.Response,
        deadline: Deadline,
        held: ExitStack,
        byte_range: ByteRange | None,
    ) -> Body:
        what = self._what(request)
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
        limit_wait(response, self._timeouts.between_bytes_s)
        return Body(
            response.raw,
            byte_range=held_range,
            is_partial=is_partial,
            total=total,
            etag=response.headers.get("ETag"),
            content_type=response.headers.get("Content-Type"),
            what=what,
            host=self.base_url.host,
            release=held.pop_all().close,
        )

    def _status_error(
        self,
        request: _Request,
        response: requests.Response,
        authorization: Authorization,
        deadline: Deadline,
    ) -> Exception:
        """Return what to raise for an answer of 400 or above, and close it."""
        with response:
            detail = authorization.redact(self._detail(request, response, deadline))
        status = response.status_code
        message = f"{self._what(request)}: {status} {response.reason}" + (f" ({detail})" if detail else "")
        by_status: dict[int, type[AgoraFSError]] = {
            401: NotAuthenticated,
            403: PermissionDenied,
            **dict.fromkeys(_GONE, NotFound),
        }
        if status in by_status:
            return by_status[status](message)
        if status in _PASSING_STATUSES:
            return _AttemptFailed(RemoteUnavailable(message), retry_after_s=_retry_after_s(response.headers))
        if status == 416 and "Range" in request.headers:
            return RangeNotHonoured(message, parse_unsatisfied_range(response.headers.get("Content-Range")))
        return RemoteUnavailable(message) if status >= 500 else ProtocolError(message)

    def _detail(self, request: _Request, response: requests.Response, deadline: Deadline) -> str:
        """Return the server's own words (``{"detail": "…"}``), if it has any."""
        try:
            data = json.loads(
                self._decoded(response, self._read(request, response, deadline, _MAX_ERROR_BYTES))
            )
        except (AgoraFSError, _AttemptFailed, ValueError, RecursionError, zlib.error):
            return ""  # an HTML page, or none; the status says enough
        detail = data.get("detail") if isinstance(data, dict) else None
        return " ".join(detail.split())[:_MAX_DETAIL_CHARS] if isinstance(detail, str) else ""


def _path_of(url: str) -> str:
    """Return the path of *url*; servers redirect to add a slash at its end, or to take it away."""
    return urlsplit(url).path.rstrip("/")


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
