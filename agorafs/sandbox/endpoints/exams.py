"""Exams: reading, renaming, locking, deleting."""

from __future__ import annotations

from agorafs.sandbox import deletion, serialise
from agorafs.sandbox.calls import NO_CONTENT, Answer, ApiError, Call, NotFoundError, Route
from agorafs.sandbox.lists import answer_list

EXAM_FIELDS = {
    "id": "number",
    "name": "text",
    "project": "number",
    "patient": "number",
    "uid": "text",
    "scanner_name": "text",
    "description": "text",
    "start_time": "time",
    "created_date": "time",
}
SERIES_FIELDS = {
    "id": "number",
    "name": "text",
    "exam": "number",
    "project": "number",
    "uid": "text",
    "acquisition_number": "number",
    "time": "time",
    "created_date": "time",
    "modified_date": "time",
}
DATASET_FIELDS = {
    "id": "number",
    "name": "text",
    "type": "number",
    "project": "number",
    "created_date": "time",
    "modified_date": "time",
}


def list_exams(call: Call) -> Answer:
    rows = call.db.execute(f"SELECT * FROM live_exam WHERE project IN {call.visible} ORDER BY id")
    return answer_list(call, rows, lambda page: serialise.exams(call, page), fields=EXAM_FIELDS)


def get_exam(call: Call) -> Answer:
    return Answer(200, serialise.exam(call, call.exam(call.id)))


def rename_exam(call: Call) -> Answer:
    exam = call.exam(call.id)
    call.require_write(exam["project"])
    call.require_unlocked(exam)
    name = call.text("name", exam["name"])
    if not name.strip():
        raise ApiError(400, {"name": ["This field may not be blank."]})
    call.db.execute("UPDATE exam SET name = ? WHERE id = ?", (name, call.id))
    return Answer(200, serialise.exam(call, call.exam(call.id)))


def delete_exam(call: Call) -> Answer:
    call.exam(call.id)
    deletion.delete_object(call, "exam", call.id)
    return NO_CONTENT


def list_series(call: Call) -> Answer:
    call.exam(call.id)
    rows = call.db.execute("SELECT * FROM live_series WHERE exam = ? ORDER BY id", (call.id,))
    return answer_list(call, rows, lambda page: serialise.series(call, page), fields=SERIES_FIELDS)


def list_all_datasets(call: Call) -> Answer:
    """List the datasets of an exam and of its series."""
    call.exam(call.id)
    rows = call.db.execute("SELECT * FROM live_dataset WHERE owner_exam = ? ORDER BY id", (call.id,))
    return answer_list(
        call, rows, lambda page: serialise.datasets_of_version(call, page), fields=DATASET_FIELDS
    )


def list_own_datasets(call: Call) -> Answer:
    """List the datasets attached to the exam itself."""
    call.exam(call.id)
    rows = call.db.execute("SELECT * FROM live_dataset WHERE exam = ? ORDER BY id", (call.id,))
    return answer_list(
        call, rows, lambda page: serialise.datasets_of_version(call, page), fields=DATASET_FIELDS
    )


def lock_exams(call: Call) -> Answer:
    return _set_locked(call, True)


def unlock_exams(call: Call) -> Answer:
    return _set_locked(call, False)


def _set_locked(call: Call, locked: bool) -> Answer:
    """Lock or unlock all of the given exams, or none when one of them may not be."""
    ids = call.integers("ids")
    for id_ in ids:
        call.require_write(call.exam(id_)["project"])
        call.db.execute("UPDATE exam SET locked = ? WHERE id = ?", (int(locked), id_))
    return Answer(200, {"ids": ids})


def get_tree(call: Call) -> Answer:
    exam = call.exam(call.id)
    if not call.switches.is_on("tree"):
        raise NotFoundError
    return Answer(200, serialise.exam_trees(call, [exam])[0])


ROUTES = (
    Route("GET", "exam", list_exams),
    Route("POST", "exam/lock_ids", lock_exams),
    Route("POST", "exam/unlock_ids", unlock_exams),
    Route("GET", "exam/{id}", get_exam),
    Route("PUT", "exam/{id}", rename_exam),
    Route("PATCH", "exam/{id}", rename_exam),
    Route("DELETE", "exam/{id}", delete_exam),
    Route("GET", "exam/{id}/series", list_series),
    Route("GET", "exam/{id}/files", list_all_datasets),
    Route("GET", "exam/{id}/datasets", list_own_datasets),
    Route("GET", "exam/{id}/tree", get_tree),
)
