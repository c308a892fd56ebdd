"""Hosts: where a real server would run its tasks; here they are kept, copied and moved, and never asked.

All fields but ``id``, ``project`` and ``name`` are kept as they came. Members see the hosts of their projects;
observers change none.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from agorafs.sandbox import objects
from agorafs.sandbox.calls import Answer, ApiError, Call, Json, NotFoundError, Route, Row
from agorafs.sandbox.lists import answer_list

_FIELDS = {"id": "number", "name": "text", "project": "number"}


def _bodies(rows: Sequence[Row]) -> list[Json]:
    return [{**json.loads(row["body"]), **{name: row[name] for name in _FIELDS}} for row in rows]


def _host(call: Call, id_: int) -> Row:
    row: Row | None = call.db.execute(
        f"SELECT * FROM host WHERE id = ? AND project IN {call.visible}", (id_,)
    ).fetchone()
    if row is None:
        raise NotFoundError
    return row


def list_hosts(call: Call) -> Answer:
    rows = call.db.execute(f"SELECT * FROM host WHERE project IN {call.visible} ORDER BY id")
    return answer_list(call, rows, _bodies, fields=_FIELDS)


def list_hosts_of_project(call: Call) -> Answer:
    call.project(call.id)
    rows = call.db.execute("SELECT * FROM host WHERE project = ? ORDER BY id", (call.id,))
    return answer_list(call, rows, _bodies, fields=_FIELDS)


def create_host(call: Call) -> Answer:
    """Add a host to the project; the id it had elsewhere is replaced."""
    call.require_write(call.project(call.id)["id"])
    name = call.text("name")
    if not isinstance(call.json, dict) or not name.strip():
        raise ApiError(400, {"name": ["This field may not be blank."]})
    body = {field: value for field, value in call.json.items() if field not in _FIELDS}
    host = objects.insert(call.db, "host", {"project": call.id, "name": name, "body": json.dumps(body)})
    return Answer(201, _bodies([_host(call, host)])[0])


def move_host(call: Call) -> Answer:
    host = _host(call, call.number("host_id"))
    call.require_write(host["project"])
    call.require_write(call.project(call.id)["id"])
    call.db.execute("UPDATE host SET project = ? WHERE id = ?", (call.id, host["id"]))
    return Answer(200, _bodies([_host(call, host["id"])])[0])


ROUTES = (
    Route("GET", "host", list_hosts),
    Route("GET", "project/{id}/host", list_hosts_of_project),
    Route("POST", "project/{id}/host", create_host),
    Route("POST", "project/{id}/host/{host_id}/move", move_host),
)
