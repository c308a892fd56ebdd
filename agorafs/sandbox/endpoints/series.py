"""Series: reading, renaming, deleting."""

from __future__ import annotations

from agorafs.sandbox import deletion, serialise
from agorafs.sandbox.calls import NO_CONTENT, Answer, ApiError, Call, NotFoundError, Route
from agorafs.sandbox.endpoints.exams import DATASET_FIELDS, SERIES_FIELDS
from agorafs.sandbox.lists import answer_list


def list_series(call: Call) -> Answer:
    rows = call.db.execute(f"SELECT * FROM live_series WHERE project IN {call.visible} ORDER BY id")
    return answer_list(call, rows, lambda page: serialise.series(call, page), fields=SERIES_FIELDS)


def get_series(call: Call) -> Answer:
    return Answer(200, serialise.series(call, [call.series(call.id)])[0])


def rename_series(call: Call) -> Answer:
    row = call.series(call.id)
    call.require_write(row["project"])
    call.require_unlocked(row)
    name = call.text("name", row["name"])
    if not name.strip():
        raise ApiError(400, {"name": ["This field may not be blank."]})
    call.db.execute(
        "UPDATE series SET name = ?, modified_date = ? WHERE id = ?", (name, call.store.now(), call.id)
    )
    return get_series(call)


def delete_series(call: Call) -> Answer:
    call.series(call.id)
    deletion.delete_object(call, "serie", call.id)
    return NO_CONTENT


def list_datasets(call: Call) -> Answer:
    call.series(call.id)
    rows = call.db.execute("SELECT * FROM live_dataset WHERE series = ? ORDER BY id", (call.id,))
    return answer_list(
        call, rows, lambda page: serialise.datasets_of_version(call, page), fields=DATASET_FIELDS
    )


def get_tree(call: Call) -> Answer:
    row = call.series(call.id)
    if not call.switches.is_on("tree"):
        raise NotFoundError
    return Answer(200, serialise.series_trees(call, [row])[0])


def get_exam(call: Call) -> Answer:
    return Answer(200, serialise.exam(call, call.exam(call.series(call.id)["exam"])))


def get_patient(call: Call) -> Answer:
    patient = call.exam(call.series(call.id)["exam"])["patient"]
    if patient is None:
        raise NotFoundError
    return Answer(200, serialise.patients(call, [call.patient(patient)])[0])


ROUTES = (
    Route("GET", "series", list_series),
    Route("GET", "series/{id}", get_series),
    Route("PUT", "series/{id}", rename_series),
    Route("PATCH", "series/{id}", rename_series),
    Route("DELETE", "series/{id}", delete_series),
    Route("GET", "series/{id}/datasets", list_datasets),
    Route("GET", "series/{id}/tree", get_tree),
    Route("GET", "series/{id}/exam", get_exam),
    Route("GET", "series/{id}/patient", get_patient),
)
