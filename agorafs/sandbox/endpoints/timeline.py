"""The timeline: what became of runs, copies and moves; and reports of programs that run elsewhere.

An item is seen by the user who started it, and by nobody else. A report about an item that has ended is refused (400).
"""

from __future__ import annotations

import json

from agorafs.sandbox import timeline
from agorafs.sandbox.calls import Answer, ApiError, Call, NotFoundError, Route, Row


def _item(call: Call) -> Row:
    row: Row | None = call.db.execute(
        "SELECT * FROM timeline WHERE id = ? AND user = ?", (call.id, call.me.id)
    ).fetchone()
    if row is None:
        raise NotFoundError
    return row


def get_item(call: Call) -> Answer:
    row = _item(call)
    steps = call.tasks.polls.steps(row["id"], call.switches.number("task-speed"))
    return Answer(200, timeline.serialise(row, steps))


def _unfinished(call: Call) -> Row:
    row = _item(call)
    if timeline.is_over(row["state"]):
        raise ApiError(400, "The item has ended.")
    return row


def finish_task(call: Call) -> Answer:
    """End an item: ``{"data": {"command", "exit_code"}, "error"}``. Any exit code but 0 is an error."""
    row = _unfinished(call)
    data = call.value("data") or {}
    if not isinstance(data, dict):
        raise ApiError(400, {"data": ["Expected an object."]})
    told = {name: data[name] for name in ("command", "exit_code") if name in data}
    error = call.text("error") or (f"Exit code {data['exit_code']}." if data.get("exit_code") else "")
    if error:
        timeline.fail(call.db, row["id"], error, **told)
    else:
        timeline.finish(call.db, row["id"], [], **told)
    return Answer(200, timeline.serialise(_item(call), timeline.ALL_STEPS))


def _append(call: Call, stream: str) -> Answer:
    row = _unfinished(call)
    if not isinstance(call.json, str):
        raise ApiError(400, "Expected text/plain.")
    text = json.loads(row["data"]).get(stream, "") + call.json
    timeline.change(call.db, row["id"], timeline.STARTED, **{stream: text})
    return Answer(200, timeline.serialise(_item(call), timeline.ALL_STEPS))


def append_stdout(call: Call) -> Answer:
    return _append(call, "stdout")


def append_stderr(call: Call) -> Answer:
    return _append(call, "stderr")


ROUTES = (
    Route("GET", "timeline/{id}", get_item),
    Route("POST", "timeline/{id}/finish_task", finish_task),
    Route("POST", "timeline/{id}/stdout_update", append_stdout),
    Route("POST", "timeline/{id}/stderr_update", append_stderr),
)
