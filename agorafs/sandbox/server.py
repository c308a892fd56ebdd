"""The sandbox server: HTTP around the endpoints, with faults and a record of requests.

A request passes: fault, if one strikes before the answer → route → credentials → body → the endpoint, in a thread →
answer, damaged if a fault says so → record. Downloads leave the thread at once and are sent by the event loop
with sendfile; chunks are read by the event loop and only recorded in a thread. So a long import or a large listing
never holds up a download.

Threads.  ``Sandbox`` belongs to one event loop. ``_requests_pool`` runs endpoints; ``imports`` has its own thread.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qs

from aiohttp import web

from agorafs.sandbox import accounts
from agorafs.sandbox.auth import User, authenticate
from agorafs.sandbox.calls import Answer, ApiError, Call, ContentAnswer, Json
from agorafs.sandbox.chunks import receive_chunk
from agorafs.sandbox.control import Control, RecordedRequest, Recorder
from agorafs.sandbox.endpoints import ROUTES
from agorafs.sandbox.faults import Fault
from agorafs.sandbox.imports import UPLOADING, Imports
from agorafs.sandbox.request_log import LoggedRequest, RequestLog
from agorafs.sandbox.responses import ContentResponse, bytes_in_pieces, send_faulty
from agorafs.sandbox.routing import Match, Router, split_path
from agorafs.sandbox.store import Store
from agorafs.sandbox.switches import Switches
from agorafs.sandbox.tasks.runs import TaskRuns

_T = TypeVar("_T")

_MAX_BODY_BYTES = 256 << 20  # of requests other than chunks
_REQUEST_THREADS = 4
_UNAUTHENTICATED = {"detail": "Authentication credentials were not provided."}
_BODY_FAULTS = ("truncate", "wrong-bytes", "slow-body", "reset-body")
_CUTTING_FAULTS = ("truncate", "reset-body")
_GARBAGE = b'{"count": 3, "results": [{"id": 1, "na'
_LOGIN_PAGE = (
    b"<!DOCTYPE html><html><head><title>Sign in</title></head><body><form>Sign in</form></body></html>"
)


@dataclass(slots=True)
class _Visit:
    """What the log says of a request besides the request: when it came (monotonic seconds), and from whom."""

    started: float
    user: str | None = None


class Sandbox:
    """One server on one data directory.

    Args:
        directory: The data directory; created when missing.
        port: TCP port on 127.0.0.1; 0 takes a free one.
        switches: Values other than the defaults of ``switches.SWITCHES``.
        tls: Serves https when given.

    Raises:
        DataDirectoryError: The directory cannot be used.
        SwitchError: A switch or its value does not exist.
    """

    def __init__(
        self,
        directory: Path,
        port: int = 0,
        switches: Mapping[str, str] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.switches = Switches(switches)
        self.store = Store(directory)
        self.users = accounts.ensure_users(self.store)
        self.control_token = accounts.control_token(self.store)
        self.imports = Imports(self.store, self.switches)
        self.tasks = TaskRuns(self.store, self.switches)
        self.recorder = Recorder()
        self._log = RequestLog(directory)
        self._router = Router(ROUTES)
        self._port = port
        self._tls = tls
        self._runner: web.AppRunner | None = None
        self._requests_pool = ThreadPoolExecutor(_REQUEST_THREADS, thread_name_prefix="sandbox-request")

    @property
    def api_key(self) -> str:
        """The administrator's API key as it was at the start."""
        return self.users["admin"]

    @property
    def url(self) -> str:
        return f"{'http' if self._tls is None else 'https'}://127.0.0.1:{self._port}"

    async def start(self) -> None:
        """Listen, take up imports an earlier run left, end its tasks. Raises OSError when the port is in use."""
        await asyncio.to_thread(self.tasks.start)  # before anybody can ask what became of a run
        application = web.Application(client_max_size=_MAX_BODY_BYTES)
        Control(self.store, self.switches, self.recorder, self.control_token).add_to(application)
        application.router.add_route("*", "/{tail:.*}", self._handle)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port, ssl_context=self._tls)
        await site.start()
        self._port = self._runner.addresses[0][1]
        await asyncio.to_thread(self.imports.start)

    async def stop(self) -> None:
        """Stop listening, finish the running import, end what tasks run, close the data directory."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        await asyncio.to_thread(self.close)

    def close(self) -> None:
        """Release the data directory without having served (``stop`` does it otherwise)."""
        self._requests_pool.shutdown(wait=True)  # first: a request may still hand an import over
        self._log.close()
        self.tasks.stop()
        self.imports.stop()
        self.store.close()

    # -- one request ---------------------------------------------------------------------------------

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        path = request.rel_url.raw_path
        visit = _Visit(time.monotonic())
        fault = self.switches.faults.take(request.method, path)
        response: web.StreamResponse | None = None
        try:
            if fault is not None:
                response = await self._strike_before(request, fault)
            if response is None:
                response = await self._answer(request, path, fault, visit)
            if not response.prepared:
                await response.prepare(request)
                await response.write_eof()
            return response
        except ConnectionError:
            # The client went away, or a fault cut it off. aiohttp finds the connection closed and sends nothing.
            return response or web.Response()
        finally:
            self._record(request, path, response, visit)

    def _record(
        self, request: web.Request, path: str, response: web.StreamResponse | None, visit: _Visit
    ) -> None:
        status, sent = 0, 0  # 0: the connection ended without an answer
        if response is not None:
            status = response.status
            sent = (
                response.sent_bytes if isinstance(response, ContentResponse) else response.content_length or 0
            )
        self.recorder.add(
            RecordedRequest(
                request.method,
                path,
                request.rel_url.raw_query_string,
                request.headers.get("Range"),
                status,
                sent,
            )
        )
        self._log.add(
            LoggedRequest(
                self.store.now(),
                request.method,
                path,
                visit.user,
                request.remote,
                status,
                sent,
                time.monotonic() - visit.started,
            )
        )

    async def _answer(
        self, request: web.Request, path: str, fault: Fault | None, visit: _Visit
    ) -> web.StreamResponse:
        try:
            answer = await self._dispatch(request, path, visit)
        except ApiError as error:
            answer = Answer(error.status, error.body)
        if fault is not None and fault.kind == "drop-answer":
            _abort(request)
        if fault is not None and fault.kind == "json-garbage":
            return web.Response(status=200, body=_GARBAGE, content_type="application/json")
        if isinstance(answer, ContentAnswer):
            return ContentResponse(
                answer,
                answer.path or self.store.contents.path(answer.sha1),
                ranges=self.switches.is_on("ranges"),
                fault=fault if fault is not None and fault.kind in _BODY_FAULTS else None,
            )
        if answer.body is None:
            if fault is not None and fault.kind in _CUTTING_FAULTS:
                _abort(request)  # there is no body to cut, so the answer as a whole is lost
            return web.Response(status=answer.status)
        body = await self._in_thread(_encode, answer.body)
        response = web.Response(status=answer.status, body=body, content_type="application/json")
        if fault is not None and fault.kind in _BODY_FAULTS:
            return await _damaged(request, response, body, fault)
        return response

    async def _dispatch(self, request: web.Request, path: str, visit: _Visit) -> Answer | ContentAnswer:
        match = self._router.match("GET" if request.method == "HEAD" else request.method, path)
        user = await self._in_thread(self._authenticate, request.headers.get("Authorization"))
        visit.user = None if user is None else user.username
        split = split_path(path)
        is_chunk = split is not None and request.method == "POST" and _is_chunk_path(split[1])
        if user is None and not (match is not None and match.route.public):
            return Answer(401, _UNAUTHENTICATED)
        if is_chunk:
            assert split is not None and user is not None
            return await self._take_chunk(request, int(split[1][1]), user)
        if match is None:
            if self._router.knows(path):
                raise ApiError(405, f'Method "{request.method}" not allowed.')
            raise ApiError(404, "Not found.")
        return await self._call(request, match, user)

    async def _call(self, request: web.Request, match: Match, user: User | None) -> Answer | ContentAnswer:
        json_body, form = await _read_body(request)
        query = parse_qs(request.rel_url.raw_query_string, keep_blank_values=True, errors="replace")
        base_url = f"{request.scheme}://{request.host}"
        is_read = match.route.method == "GET"

        def run() -> Answer | ContentAnswer:
            with self.store.snapshot() if is_read else self.store.transaction() as db:
                call = Call(
                    self.store,
                    self.switches,
                    self.imports,
                    self.tasks,
                    db,
                    user,
                    match.version,
                    request.rel_url.raw_path,
                    base_url,
                    match.arguments,
                    query,
                    json_body,
                    form,
                )
                try:
                    return match.route.handler(call)
                except (
                    UnicodeEncodeError,
                    OverflowError,
                ) as error:  # lone surrogates; numbers beyond 64 bits
                    raise ApiError(400, f"A value cannot be stored: {error}") from None

        return await self._in_thread(run)

    async def _take_chunk(self, request: web.Request, package: int, user: User) -> Answer:
        def check() -> None:
            with self.store.snapshot() as db:
                row = db.execute("SELECT * FROM import_package WHERE id = ?", (package,)).fetchone()
            if row is None or (row["user"] != user.id and not user.is_superuser):
                raise ApiError(404, "Not found.")
            if row["state"] != UPLOADING:
                raise ApiError(400, "The import package is complete.")

        await self._in_thread(check)
        fields, path = await receive_chunk(request, self.imports, package, self.switches.number("chunk-max"))

        def record() -> None:
            with self.store.transaction() as db:
                # Completed while the chunk was on its way: the import has begun without it.
                row = db.execute("SELECT state FROM import_package WHERE id = ?", (package,)).fetchone()
                if row["state"] != UPLOADING:
                    raise ApiError(400, "The import package is complete.")
                self.imports.add_chunk(db, package, fields, path)
                quota = self.switches.number("quota")
                if quota and self.imports.stored_bytes(db) > quota:
                    raise ApiError(403, "Quota exceeded.")

        try:
            await self._in_thread(record)
        except ApiError:
            path.unlink(missing_ok=True)
            raise
        return Answer(200, {"status": "ok"})

    def _authenticate(self, header: str | None) -> User | None:
        with self.store.snapshot() as db:
            return authenticate(db, header)

    async def _in_thread(self, function: Callable[..., _T], *arguments: Any) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._requests_pool, function, *arguments)

    # -- faults --------------------------------------------------------------------------------------

    async def _strike_before(self, request: web.Request, fault: Fault) -> web.StreamResponse | None:
        """Answer instead of the API, or return None for a fault that needs the API's answer."""
        if fault.kind == "reset":
            _abort(request)
        if fault.kind == "hang":
            await asyncio.sleep(float(fault.argument))
            _abort(request)
        if fault.kind == "status":
            code, _, retry_after = fault.argument.partition("/")
            headers = {"Retry-After": retry_after or "1"} if code in ("429", "503") or retry_after else {}
            return web.json_response({"detail": "A fault was injected."}, status=int(code), headers=headers)
        if fault.kind == "redirect":
            location = fault.argument + request.rel_url.raw_path
            return web.Response(status=307, headers={"Location": location})
        if fault.kind == "html":
            return web.Response(body=_LOGIN_PAGE, content_type="text/html")
        if fault.kind == "reset-upload":
            await _read_part_of_body(request, float(fault.argument))
            _abort(request)
        return None


def _abort(request: web.Request) -> None:
    """End the connection without an answer."""
    if request.transport is not None:
        request.transport.abort()
    raise ConnectionResetError("the sandbox aborted this connection: a fault was injected")


async def _read_part_of_body(request: web.Request, part: float) -> None:
    """Take *part* of an announced body off the wire; of one without a length (chunked) the first piece."""
    if request.content_length is None:
        await request.content.readany()
        return
    missing = int(request.content_length * part)
    while missing > 0 and (piece := await request.content.read(missing)):
        missing -= len(piece)


async def _damaged(
    request: web.Request, response: web.Response, body: bytes, fault: Fault
) -> web.StreamResponse:
    stream = web.StreamResponse(status=response.status, headers={"Content-Type": "application/json"})
    stream.content_length = len(body)
    await stream.prepare(request)
    await send_faulty(request, stream, bytes_in_pieces(body), len(body), fault)
    return stream


def _is_chunk_path(segments: tuple[str, ...]) -> bool:
    return (
        len(segments) == 3
        and segments[0] == "import"
        and segments[1].isascii()
        and segments[1].isdigit()
        and len(segments[1]) <= 18
        and segments[2] == "upload"
    )


def _encode(body: Json) -> bytes:
    return json.dumps(body).encode()


async def _read_body(request: web.Request) -> tuple[Json, Mapping[str, list[str]]]:
    """Return the JSON body (None when there is none) and the form fields, by the content type; plain text is text."""
    if not request.can_read_body:
        return None, {}
    if request.content_type in ("application/x-www-form-urlencoded", "multipart/form-data"):
        form: dict[str, list[str]] = {}
        try:
            posted = await request.post()
        except ValueError as error:
            raise ApiError(400, f"The form cannot be read: {error}") from error
        for name, value in posted.items():
            if isinstance(value, str):
                form.setdefault(name, []).append(value)
        return None, form
    data = await request.read()
    if request.content_type == "text/plain":
        return data.decode(errors="replace"), {}
    if not data.strip():
        return None, {}
    try:
        return json.loads(data), {}
    except (ValueError, RecursionError) as error:
        raise ApiError(400, f"JSON parse error - {error}") from None
