"""The tests' side door: ``/_sandbox/…``, no part of the Agora API.

Every request needs the header ``X-Sandbox-Control: <control token>`` (printed by ``--json``) or the API key of an
administrator; the token survives a revoked key.

==========================================  =================================================================
``GET /_sandbox/switches``                   present values
``PUT /_sandbox/switches``                   ``{name: value, …}``: change some; ``fault`` may be a list
``GET /_sandbox/requests``                   ``{"count", "bytes", "requests": [{method, path, query, range, status,
                                             bytes}, …]}`` since the last reset, oldest first; the last 100,000
``DELETE /_sandbox/requests``                forget them
``GET /_sandbox/datafiles``                  ``[{id, size, sha1, dataset, original_filename}, …]``, all living ones
``PUT /_sandbox/datafiles/{id}``             the body becomes the content of a datafile: an archive that changes
``GET /_sandbox/tree``                       everything the server holds, without ids and dates: ``inventory``
``PUT /_sandbox/api-key``                    ``{"username", "key"}``: a user's key; null or absent: a new random one
``POST /_sandbox/revoke``                    ``{"username"}``: the user's key and tokens work no more
``GET /_sandbox/users``                      ``[{id, username, api_key, is_superuser}, …]``
==========================================  =================================================================
"""

from __future__ import annotations

import asyncio
import hmac
import json
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import Any

from aiohttp import web

from agorafs.sandbox import auth, inventory
from agorafs.sandbox.store import Store, new_api_key
from agorafs.sandbox.switches import SwitchError, Switches

PREFIX = "/_sandbox/"
MAX_RECORDED = 100_000


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """One API request; ``bytes`` is the length of the answer's body as far as it was sent."""

    method: str
    path: str
    query: str
    range: str | None
    status: int
    bytes: int


class Recorder:
    """What was asked of the API, for tests that count. Event loop only."""

    def __init__(self) -> None:
        self._requests: deque[RecordedRequest] = deque(maxlen=MAX_RECORDED)
        self._count = 0
        self._bytes = 0

    def add(self, request: RecordedRequest) -> None:
        self._requests.append(request)
        self._count += 1
        self._bytes += request.bytes

    def reset(self) -> None:
        self._requests.clear()
        self._count = self._bytes = 0

    def as_json(self) -> dict[str, Any]:
        return {
            "count": self._count,
            "bytes": self._bytes,
            "requests": [asdict(request) for request in self._requests],
        }


class Control:
    """The handlers. ``token`` is the control token."""

    def __init__(self, store: Store, switches: Switches, recorder: Recorder, token: str) -> None:
        self._store = store
        self._switches = switches
        self._recorder = recorder
        self._token = token

    def add_to(self, application: web.Application) -> None:
        handlers: tuple[tuple[str, str, Callable[[web.Request], Awaitable[Any]]], ...] = (
            ("GET", "switches", self._get_switches),
            ("PUT", "switches", self._set_switches),
            ("GET", "requests", self._get_requests),
            ("DELETE", "requests", self._reset_requests),
            ("GET", "datafiles", self._get_datafiles),
            ("PUT", "datafiles/{id:[0-9]+}", self._replace_content),
            ("GET", "tree", self._get_tree),
            ("PUT", "api-key", self._set_api_key),
            ("POST", "revoke", self._revoke),
            ("GET", "users", self._get_users),
        )
        for method, path, handler in handlers:
            application.router.add_route(method, PREFIX + path, self._guarded(handler))

    def _guarded(self, handler: Callable[[web.Request], Awaitable[Any]]) -> Callable[[web.Request], Any]:
        async def handle(request: web.Request) -> web.Response:
            if not await self._may(request):
                return web.json_response({"detail": "Not for you."}, status=401)
            try:
                return web.json_response(await handler(request))
            except (SwitchError, KeyError, TypeError, json.JSONDecodeError) as error:
                return web.json_response({"detail": str(error)}, status=400)

        return handle

    async def _may(self, request: web.Request) -> bool:
        if hmac.compare_digest(request.headers.get("X-Sandbox-Control", ""), self._token):
            return True

        def is_admin() -> bool:
            with self._store.snapshot() as db:
                user = auth.authenticate(db, request.headers.get("Authorization"))
            return user is not None and user.is_superuser

        return await asyncio.to_thread(is_admin)

    async def _get_switches(self, request: web.Request) -> Any:
        return self._switches.as_json()

    async def _set_switches(self, request: web.Request) -> Any:
        self._switches.set(await request.json())
        return self._switches.as_json()

    async def _get_requests(self, request: web.Request) -> Any:
        return self._recorder.as_json()

    async def _reset_requests(self, request: web.Request) -> Any:
        self._recorder.reset()
        return {}

    async def _get_datafiles(self, request: web.Request) -> Any:
        def read() -> list[dict[str, Any]]:
            with self._store.snapshot() as db:
                rows = db.execute(
                    "SELECT f.id, f.size, f.sha1, f.dataset, f.original_filename FROM datafile f "
                    "JOIN live_dataset d ON d.id = f.dataset ORDER BY f.id"
                ).fetchall()
            return [dict(row) for row in rows]

        return await asyncio.to_thread(read)

    async def _replace_content(self, request: web.Request) -> Any:
        datafile, data = int(request.match_info["id"]), await request.read()

        def replace() -> dict[str, Any]:
            with self._store.transaction() as db:
                row = db.execute("SELECT * FROM datafile WHERE id = ?", (datafile,)).fetchone()
                if row is None:
                    raise KeyError(f"there is no datafile {datafile}")
                sha1 = self._store.contents.add_bytes(data)
                now = self._store.now()
                db.execute(
                    "UPDATE datafile SET sha1 = ?, size = ?, modified_date = ? WHERE id = ?",
                    (sha1, len(data), now, datafile),
                )
                db.execute(
                    "UPDATE dataset SET total_size = total_size + ?, modified_date = ? WHERE id = ?",
                    (len(data) - row["size"], now, row["dataset"]),
                )
            return {"id": datafile, "sha1": sha1, "size": len(data)}

        return await asyncio.to_thread(replace)

    async def _get_tree(self, request: web.Request) -> Any:
        def read() -> Any:
            with self._store.snapshot() as db:
                return inventory.everything(db)

        return await asyncio.to_thread(read)

    async def _set_api_key(self, request: web.Request) -> Any:
        body = await request.json()
        key = body.get("key") or new_api_key()
        await asyncio.to_thread(
            self._change_user, "UPDATE user SET api_key = ?2 WHERE username = ?1", body["username"], key
        )
        return {"username": body["username"], "key": key}

    async def _revoke(self, request: web.Request) -> Any:
        username = (await request.json())["username"]
        await asyncio.to_thread(
            self._change_user, "UPDATE user SET api_key = NULL WHERE username = ?1", username
        )
        await asyncio.to_thread(
            self._change_user,
            "DELETE FROM token WHERE user = (SELECT id FROM user WHERE username = ?1)",
            username,
        )
        return {}

    def _change_user(self, sql: str, username: str, *more: str) -> None:
        with self._store.transaction() as db:
            if db.execute("SELECT 1 FROM user WHERE username = ?", (username,)).fetchone() is None:
                raise KeyError(f"there is no user {username}")
            db.execute(sql, (username, *more))

    async def _get_users(self, request: web.Request) -> Any:
        def read() -> list[dict[str, Any]]:
            with self._store.snapshot() as db:
                rows = db.execute(
                    "SELECT id, username, api_key, is_superuser FROM user ORDER BY id"
                ).fetchall()
            return [{**dict(row), "is_superuser": bool(row["is_superuser"])} for row in rows]

        return await asyncio.to_thread(read)
