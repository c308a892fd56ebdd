"""The trash: one entry per deletion, of all visible projects."""

from __future__ import annotations

from collections.abc import Sequence

from agorafs.sandbox import deletion
from agorafs.sandbox.calls import NO_CONTENT, Answer, Call, Json, NotFoundError, Route, Row
from agorafs.sandbox.lists import answer_list


def _visible(call: Call) -> str:
    """Return the projects whose trash the user sees: one's own deleted projects too."""
    return f"(SELECT project FROM membership WHERE user = {call.me.id})"


def list_trash(call: Call) -> Answer:
    rows = call.db.execute(f"SELECT * FROM trash_entry WHERE project IN {_visible(call)} ORDER BY id")
    return answer_list(call, rows, _entries, fields={"id": "number", "project": "number", "name": "text"})


def _entries(rows: Sequence[Row]) -> list[Json]:
    return [
        {
            "id": row["id"],
            "project": row["project"],
            "content_type": row["content_type"],
            "object_id": row["object_id"],
            "name": row["name"],
            "deleted_date": row["deleted_date"],
        }
        for row in rows
    ]


def delete_entry(call: Call) -> Answer:
    row = call.db.execute(
        f"SELECT * FROM trash_entry WHERE id = ? AND project IN {_visible(call)}", (call.id,)
    ).fetchone()
    if row is None:
        raise NotFoundError
    if row["content_type"] != "project":
        call.require_write(row["project"])
    deletion.delete_finally(call, call.id)
    return NO_CONTENT


ROUTES = (
    Route("GET", "trash", list_trash),
    Route("DELETE", "trash/{id}/delete", delete_entry),
    Route("DELETE", "trash/{id}", delete_entry),
)
