"""Timeline items: how the API speaks of what takes time, such as runs of tasks, copies and moves of studies.

A client gets an item at once and asks for it again until its state is an end. Real servers take their time; here
most work is done before a client could ask. So what is *shown* walks: each state for as many polls as the switch
``task-speed`` says, and never a state that the item has not reached. While no end is shown, neither are the error and
the related objects.

Place.  Below the endpoints and the runs of tasks. Functions that write take the connection of an open transaction.

Threads.  ``Polls._lock`` guards the counts of polls. They are forgotten when the server ends: the walk begins anew.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Sequence
from typing import Any

from agorafs.sandbox import objects

IDLE, STARTED, FINISHED, ERROR, CANCELLING, CANCELLED, QUEUED = range(7)
_WAY = (QUEUED, STARTED)  # before the end
_AT_THE_END = ("related_objects", "error")
ALL_STEPS = len(_WAY)

INTERRUPTED = "The run was interrupted: the server stopped. Nothing of it was stored."

Json = Any


def is_over(state: int) -> bool:
    return state in (FINISHED, ERROR, CANCELLED)


def related_object(content_type: str, id_: int, name: str) -> Json:
    """Return an entry of ``data.related_objects``."""
    return {"id": id_, "content_type": content_type, "name": name}


def start(
    db: sqlite3.Connection, now: str, user: int, project: int | None, data: Json, *, state: int = STARTED
) -> int:
    """Make an item in a first *state*, QUEUED or STARTED; *data* is an object with words for people in it."""
    return objects.insert(
        db,
        "timeline",
        {
            "user": user,
            "project": project,
            "first_state": state,
            "state": state,
            "data": json.dumps(data),
            "created": now,
        },
    )


def change(db: sqlite3.Connection, item: int, state: int, **data: Json) -> bool:
    """Give an item another state and more data; return False, and change nothing, when it has ended already."""
    row = db.execute("SELECT state, data FROM timeline WHERE id = ?", (item,)).fetchone()
    if is_over(row["state"]):
        return False
    db.execute(
        "UPDATE timeline SET state = ?, data = ? WHERE id = ?",
        (state, json.dumps({**json.loads(row["data"]), **data}), item),
    )
    return True


def finish(db: sqlite3.Connection, item: int, related_objects: Sequence[Json], **data: Json) -> bool:
    """End an item well; *related_objects* are what it made (``related_object``)."""
    return change(db, item, FINISHED, related_objects=list(related_objects), **data)


def fail(db: sqlite3.Connection, item: int, message: str, **data: Json) -> bool:
    """End an item with an error."""
    return change(db, item, ERROR, error={"message": message}, **data)


def interrupt_all(db: sqlite3.Connection) -> None:
    """End whatever an earlier run of the server left without an end."""
    rows = db.execute("SELECT id, state FROM timeline").fetchall()
    for row in rows:
        if not is_over(row["state"]):
            fail(db, row["id"], INTERRUPTED)


def serialise(row: sqlite3.Row, steps: int = 0) -> Json:
    """Return an item as it is shown *steps* states after its first one: without, as the call that made it answers."""
    data = json.loads(row["data"])
    state = row["state"]
    allowed = _WAY.index(row["first_state"]) + steps
    reached = _WAY.index(state) if state in _WAY else len(_WAY)
    if allowed < reached:
        state = _WAY[allowed]
    if not is_over(state):
        data = {name: value for name, value in data.items() if name not in _AT_THE_END}
    return {
        "id": row["id"],
        "user": row["user"],
        "project": row["project"],
        "created_date": row["created"],
        "data": {**data, "state": state},
    }


class Polls:
    """How often each item was asked for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[int, int] = {}  # guarded by _lock

    def steps(self, item: int, speed: int) -> int:
        """Count a poll and return how many states it is after the first, at *speed* polls for each."""
        if speed == 0:
            return ALL_STEPS
        with self._lock:
            count = self._counts.get(item, 0)
            self._counts[item] = count + 1
        return count // speed
