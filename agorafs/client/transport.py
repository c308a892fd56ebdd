"""HTTP to one Agora server: pooled connections, deadlines, retries, ranges, uploads.

Why.  A file system must answer or fail in time, whatever the server does. In ``requests`` a timeout limits
connecting and each wait for bytes, never the whole; here every operation has a deadline that covers all its
attempts and the reading of its answer.

Place.  ``api``, ``changes`` and ``imports`` build paths and call the public methods. HTTP statuses and the libraries'
exceptions (``failures``) become ``agorafs.errors`` in ``answers`` and ``body``; nothing above sees them.

What is tried again.  What may pass: no connection, a lost one, a timeout, 408, 429, 502, 503, 504. A GET always.
Anything else only if the server has certainly not seen it (there was no connection to send it on), or if its
caller says that a second arrival does no harm (``may_repeat``). The pause doubles, with jitter;
``Retry-After`` is obeyed if it fits the deadline. 500 is not tried again: from a Django application it is a
mistake that repeats itself. While the server is known to be away (``availability``) there is one short attempt
and no retry; short means the connecting only where something is to be changed, because nobody would know
what became of a change that was given up.

Redirects.  Those of a GET are followed here and not by ``requests``, which would look into ``~/.netrc`` on the way.
The credential goes to the server's own origin only, and no redirect leads from https to http. A change is not
sent on.

Uploads.  A body of megabytes is not held to the deadline once it moves (``sending``): the deadline says when
the last attempt may begin.

Units.  Seconds on the passed clock. The waits inside the sockets are real seconds.

Threads.  Every method may be called from any thread; make the ``Transport`` after forking. At most
``connections`` requests are in flight, counted by ``_slots``; downloads, which may stay open for long, may
not take the last two (``_download_slots``), so that listings never queue behind them. Uploads have
``_upload_slots`` of their own, as many as downloads, and take none of the others.

Limits.  The deadline is checked between pieces of a body. A server that drips its *header* is held only to
``first_byte_s`` per wait: the library reads the header in one call.

Secrets.  The debug log has method, path, status and milliseconds. Queries and bodies are never logged.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import random as system_random
from typing import Any, TypeVar
from urllib.parse import urlencode

import requests

from agorafs.byterange import ByteRange
from agorafs.client.answers import GONE, Answers, path_of, redirect_target
from agorafs.client.attempts import AttemptFailed, Request, failed_attempt
from agorafs.client.auth import ANONYMOUS, Authenticator, Authorization, Credential, Password, Secret
from agorafs.client.availability import Availability
from agorafs.client.base_url import BaseUrl, is_loopback
from agorafs.client.body import Body
from agorafs.client.deadlines import Deadline, Timeouts
from agorafs.client.failures import HTTP_LIBRARY_ERRORS
from agorafs.client.multipart import FilePart, MultipartBody
from agorafs.client.sending import OpenUploads
from agorafs.client.session import Session, checked_verify
from agorafs.clock import SYSTEM_CLOCK, Clock
from agorafs.errors import (
    NotAuthenticated,
    NotFound,
    ProtocolError,
    RemoteError,
    RemoteTimeout,
    RemoteUnavailable,
)

logger = logging.getLogger(__name__)

LOG_IN_PATH = "/api/v1/rest-auth/login/"

# What the vendor's clients take as success of one change or another.
CHANGED = (200, 201, 204)

_MAX_REDIRECTS = 5
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_FIRST_PAUSE_S = 0.25
_MAX_PAUSE_S = 8.0
_RESERVED_SLOTS = 2
_FORM = {"Content-Type": "application/x-www-form-urlencoded"}
_JSON = {"Content-Type": "application/json"}

T = TypeVar("T")

Form = Mapping[str, str | int | Sequence[int]]  # a sequence is a key that comes several times

Take = Callable[[Request, requests.Response, Deadline, ExitStack], T]


class _DeletedBefore(NotFound):
    """What is to be deleted is not there any more, after an attempt that may have arrived."""


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
            connections: Most requests in flight; uploads are not counted, there may be two less of them besides.
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
        transfers = max(1, connections - _RESERVED_SLOTS)
        self._download_slots = threading.BoundedSemaphore(transfers)
        self._upload_slots = threading.BoundedSemaphore(transfers)
        self._open_uploads = OpenUploads()
        self._answers = Answers(self.base_url, self._timeouts.between_bytes_s)
        # A proxy from the environment can not reach this machine's own loopback address.
        self._session = Session(connections + transfers, use_proxies=not is_loopback(self.base_url.host))

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

    def abort_uploads(self) -> None:
        """Break off uploads under way, and refuse further ones: they raise ``RemoteUnavailable`` soon."""
        self._open_uploads.abort()

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
            params: The query; servers log it.
            deadline_s: For the whole operation; ``timeouts.deadline_s`` if None.
            is_authenticated: False sends no credential.

        Raises:
            NotFound: 404, 410; from the server itself, not from where it redirected to.
            NotAuthenticated: 401 with every way of presenting the credential.
            PermissionDenied: 403.
            RemoteTimeout: The deadline passed.
            RemoteUnavailable: No connection, or 429 or 5xx, at the end of the deadline.
            TlsError: The certificate is not trusted.
            AlreadyExists: 409.
            TooLarge: 413.
            ProtocolError: Another 4xx, or an answer that is not JSON.
        """
        request = Request("GET", path, params, may_repeat=True, is_authenticated=is_authenticated)
        return self._operation(request, deadline_s, self._answers.take_json)

    def get_text(self, path: str) -> str:
        """Return the answer to a GET of *path* as text, what is no UTF-8 in it replaced; as ``get_json``."""
        request = Request("GET", path, headers={"Accept": "*/*"}, may_repeat=True)
        return self._operation(request, None, self._answers.take_text)

    def log_in(self, credential: Password) -> Secret:
        """Return the session token that the server gives for *credential*: one attempt, and not used from here.

        Raises:
            NotAuthenticated: The server refuses the user name or the password.
            AgoraFSError: As ``get_json``.
        """
        deadline = Deadline(self._clock, self._timeouts.deadline_s)
        if not self._slots.acquire(timeout=deadline.remaining_s()):
            raise RemoteTimeout(f"POST {self.base_url.join(LOG_IN_PATH)}: all connections stayed busy")
        try:
            return self._log_in(credential, deadline, self._timeouts)
        except AttemptFailed as failed:
            raise failed.error from failed.__cause__
        finally:
            self._slots.release()

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
        request = Request("GET", path, headers=headers, may_repeat=True, is_download=True)
        return self._operation(request, deadline_s, partial(self._answers.take_body, byte_range=byte_range))

    def post_json(
        self,
        path: str,
        body: object = None,
        *,
        ok: tuple[int, ...] = CHANGED,
        deadline_s: float | None = None,
        may_repeat: bool = False,
    ) -> Any:
        """Return the parsed answer to a POST of *body* in JSON (None: no body), None for an empty answer.

        Args:
            ok: The statuses that mean success.
            deadline_s: As for ``get_json``.
            may_repeat: A second arrival does no harm; a lost answer is then a reason to send it again.

        Raises:
            RemoteUnavailable: Besides what ``get_json`` says: the answer was lost, and nobody knows what came of it.
            RemoteTimeout: The same.
            AgoraFSError: As ``get_json``.
        """
        return self._change("POST", path, *_json(body), ok=ok, deadline_s=deadline_s, may_repeat=may_repeat)

    def put_json(
        self,
        path: str,
        body: object,
        *,
        ok: tuple[int, ...] = CHANGED,
        deadline_s: float | None = None,
        may_repeat: bool = False,
    ) -> Any:
        """Return the answer to a PUT; as ``post_json``."""
        return self._change("PUT", path, *_json(body), ok=ok, deadline_s=deadline_s, may_repeat=may_repeat)

    def patch_json(self, path: str, body: object, *, may_repeat: bool = False) -> Any:
        """Return the answer to a PATCH; as ``post_json``."""
        return self._change("PATCH", path, *_json(body), ok=CHANGED, deadline_s=None, may_repeat=may_repeat)

    def post_form(
        self,
        path: str,
        form: Form,
        *,
        ok: tuple[int, ...] = CHANGED,
        deadline_s: float | None = None,
        may_repeat: bool = False,
    ) -> Any:
        """Return the answer to a POST of *form*; as ``post_json``."""
        body = urlencode(form, doseq=True).encode()
        return self._change("POST", path, body, _FORM, ok=ok, deadline_s=deadline_s, may_repeat=may_repeat)

    def delete(self, path: str, *, deadline_s: float | None = None) -> None:
        """Delete what is at *path*, which must name one object by its id, so that a repetition does no harm.

        Raises:
            NotFound: It was not there at the first attempt; at a later one it is the trace of the first.
            AgoraFSError: As ``get_json``.
        """
        request = Request("DELETE", path, ok=CHANGED, may_repeat=True)
        with suppress(_DeletedBefore):
            self._operation(request, deadline_s, self._answers.take_outcome)

    def post_multipart(
        self,
        path: str,
        fields: Mapping[str, str],
        file: FilePart,
        *,
        ok: tuple[int, ...] = (200,),
        deadline_s: float | None = None,
        may_repeat: bool = False,
    ) -> None:
        """Send a form with a file; every attempt sends the same bytes from the start.

        An attempt fails when the server takes no byte for ``between_bytes_s``, or has not answered ``answer_s``
        after the last one; it is not cut off while it moves.

        Args:
            deadline_s: No attempt begins later than this.

        Raises:
            TooLarge: 413; smaller pieces may pass.
            NotSupported: A field holds what no form can carry.
            AgoraFSError: As ``post_json``.
        """
        body = MultipartBody(
            fields, file, stall_s=self._timeouts.between_bytes_s, open_uploads=self._open_uploads
        )
        headers = {"Content-Type": body.content_type}
        request = Request("POST", path, headers=headers, body=body, ok=ok, may_repeat=may_repeat)
        self._operation(request, deadline_s, self._answers.take_receipt)

    def _change(
        self,
        method: str,
        path: str,
        body: bytes | None,
        headers: Mapping[str, str],
        *,
        ok: tuple[int, ...],
        deadline_s: float | None,
        may_repeat: bool,
    ) -> Any:
        request = Request(method, path, headers=headers, body=body, ok=ok, may_repeat=may_repeat)
        return self._operation(request, deadline_s, self._answers.take_outcome)

    # -- operations and attempts ---------------------------------------------------------------------

    def _operation(self, request: Request, deadline_s: float | None, take: Take[T]) -> T:
        """Repeat ``_attempt`` until it succeeds, fails for good, or the deadline leaves no room.

        Raises:
            _DeletedBefore: There is nothing to delete any more, and an earlier attempt may be the reason.
        """
        deadline = Deadline(self._clock, self._timeouts.deadline_s if deadline_s is None else deadline_s)
        is_probe = self._availability.is_away()
        timeouts = self._timeouts.probing() if is_probe else self._timeouts
        if request.is_change:
            timeouts = replace(timeouts, first_byte_s=self._timeouts.first_byte_s)
        attempts = 0
        may_have_arrived = False
        while True:
            attempts += 1
            try:
                return self._attempt(request, deadline, timeouts, take)
            except NotAuthenticated as error:
                if request.is_authenticated:
                    self._availability.refused(error)
                raise
            except NotFound as error:
                if request.method == "DELETE" and may_have_arrived:
                    raise _DeletedBefore(str(error)) from error
                raise
            except AttemptFailed as failed:
                may_have_arrived = may_have_arrived or failed.was_sent
                pause_s = failed.retry_after_s
                if pause_s is None:
                    longest_s = min(_MAX_PAUSE_S, _FIRST_PAUSE_S * 2 ** (attempts - 1))
                    pause_s = longest_s * (1 + self._random()) / 2
                is_final = may_have_arrived and not request.may_repeat
                if is_probe or is_final or pause_s >= deadline.remaining_s():
                    self._note_failure(request, failed, is_probe=is_probe)
                    raise self._final_error(failed, attempts, deadline) from failed.__cause__
            self._clock.sleep(pause_s)

    def _note_failure(self, request: Request, failed: AttemptFailed, *, is_probe: bool) -> None:
        """Let the others know that the server is away, if that is what the end of an operation says."""
        # A probe's timeout does not prolong the short attempts: a server that is only slow must be given its
        # full time before long. And a change may fail on the way for reasons of its own, its size for one.
        is_silence = is_probe and isinstance(failed.error, RemoteTimeout)
        if failed.is_unreachable and not is_silence and not (request.is_change and failed.was_sent):
            self._availability.unreachable(failed.error)

    @staticmethod
    def _final_error(failed: AttemptFailed, attempts: int, deadline: Deadline) -> RemoteError:
        if attempts == 1:
            return failed.error
        return type(failed.error)(f"{failed.error} ({attempts} attempts in {deadline.elapsed_s():.0f} s)")

    def _attempt(self, request: Request, deadline: Deadline, timeouts: Timeouts, take: Take[T]) -> T:
        """Send once (twice if the credential may be presented in another way) and *take* the answer."""
        with ExitStack() as held:
            for slots in self._slots_for(request):
                if not slots.acquire(timeout=max(0.0, deadline.remaining_s())):
                    raise RemoteTimeout(f"{self._what(request)}: all connections stayed busy")
                held.callback(slots.release)
            response = self._ask(request, deadline, timeouts)
            held.callback(response.close)
            return take(request, response, self._answer_deadline(request, deadline), held)

    def _slots_for(self, request: Request) -> tuple[threading.BoundedSemaphore, ...]:
        """Return what the request has to hold.

        Always in this order, so that two requests can not each hold what the other waits for.
        """
        if request.upload is not None:
            return (self._upload_slots,)
        return (self._download_slots, self._slots) if request.is_download else (self._slots,)

    def _answer_deadline(self, request: Request, deadline: Deadline) -> Deadline:
        """Return until when the answer must have been read: an upload may have outlived its own deadline."""
        return deadline if request.upload is None else Deadline(self._clock, self._timeouts.answer_s)

    def _ask(self, request: Request, deadline: Deadline, timeouts: Timeouts) -> requests.Response:
        """Send with the credential; return an open answer below 400, or raise."""
        if request.upload is not None and self._open_uploads.is_aborted():
            raise RemoteUnavailable(f"{self._what(request)}: uploads have ended")
        if not request.is_authenticated:
            response = self._send(request, ANONYMOUS, deadline, timeouts)
            if response.status_code >= 400:
                raise self._status_error(request, response, ANONYMOUS.redact, deadline)
            return response
        log_in = partial(self._log_in, deadline=deadline, timeouts=timeouts)
        used = self._authenticator.authorization(log_in, deadline.remaining_s())
        response = self._send(request, used, deadline, timeouts)
        if response.status_code in (401, 403):
            refusal = self._status_error(request, response, used.redact, deadline)
            other = self._authenticator.alternative(
                used, response.status_code, log_in, deadline.remaining_s()
            )
            if other is None:
                raise refusal
            second = self._send(request, other, deadline, timeouts)
            if second.status_code in (401, 403):
                second_refusal = self._status_error(request, second, other.redact, deadline)
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
            raise self._status_error(request, response, used.redact, deadline)
        if self.base_url.is_same_origin(response.url):
            self._authenticator.accepted(used)
            self._availability.accepted()
        return response

    def _log_in(self, credential: Password, deadline: Deadline, timeouts: Timeouts) -> Secret:
        """Exchange user and password for a session token (within the slot of the request that needs it)."""
        form = {"username": credential.user, "password": credential.password.reveal()}
        request = Request("POST", LOG_IN_PATH, headers=_FORM, body=urlencode(form).encode())
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
                raise self._status_error(request, response, credential.password.redact, deadline)
            data = self._answers.take_json(request, response, deadline, None)
        token = data.get("key") if isinstance(data, dict) else None
        if not isinstance(token, str) or not token:
            raise ProtocolError(f"{url} answered without a session token; use an API key")
        return Secret(token)

    # -- one request ---------------------------------------------------------------------------------

    def _send(
        self, request: Request, authorization: Authorization, deadline: Deadline, timeouts: Timeouts
    ) -> requests.Response:
        """Send the request and follow the redirects of a GET."""
        url = asked = self.base_url.join(request.path)
        for _ in range(_MAX_REDIRECTS + 1):
            response = self._exchange(request, url, authorization, deadline, timeouts)
            location = response.headers.get("Location")
            if response.status_code not in _REDIRECTS or location is None:
                if response.status_code in GONE and path_of(url) != path_of(asked):
                    response.close()
                    # The other place does not know; that says nothing of the object here.
                    raise ProtocolError(
                        f"{self._what(request)}: redirected to {path_of(url)}, which does not exist"
                    )
                return response
            response.close()
            if request.is_change:
                raise ProtocolError(
                    f"{self._what(request)}: {response.status_code} leads to {path_of(location)}; a change is "
                    "not sent on. Use the final address"
                )
            url = redirect_target(self._what(request), url, location, insecure=self._insecure)
            if not self.base_url.is_same_origin(url):
                authorization = ANONYMOUS
            request = replace(request, params=None)
        raise ProtocolError(f"{self._what(request)}: redirected more than {_MAX_REDIRECTS} times")

    def _exchange(
        self,
        request: Request,
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
        first_byte_s = min(timeouts.first_byte_s, remaining_s)
        body: Any = request.body  # the library's stubs know no body of memoryviews
        try:
            response = self._session.request(
                request.method,
                url,
                params=request.params,
                data=body,
                headers=dict(request.headers),
                auth=authorization,
                timeout=(
                    min(timeouts.connect_s, remaining_s),
                    first_byte_s if request.upload is None else timeouts.answer_s,
                ),
                allow_redirects=False,
                stream=True,
                verify=self._verify,
            )
        except HTTP_LIBRARY_ERRORS as error:
            raise failed_attempt(error, self._what(request), url) from error
        self._availability.answered()
        logger.debug(
            "%s %s %d %.0f ms",
            request.method,
            request.path,
            response.status_code,
            1000 * (self._clock.monotonic() - begin),
        )
        return response

    def _what(self, request: Request) -> str:
        return request.what(self.base_url)

    def _status_error(
        self,
        request: Request,
        response: requests.Response,
        redact: Callable[[str], str],
        deadline: Deadline,
    ) -> Exception:
        deadline = self._answer_deadline(request, deadline)
        return self._answers.status_error(request, response, redact, deadline)


def _json(body: object) -> tuple[bytes | None, Mapping[str, str]]:
    """Return *body* and its header; neither for None."""
    return (None, {}) if body is None else (json.dumps(body, allow_nan=False).encode(), _JSON)
