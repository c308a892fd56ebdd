"""Parameter sets: those an import made can be read, those a user made can be changed.

A set that came with the data is read-only: changing or deleting it is refused with 403. So is every change by an
observer, and below a locked exam (switch ``locked-refuses``). A change replaces the whole list of parameters.
"""

from __future__ import annotations

import json

from agorafs.sandbox import objects, serialise
from agorafs.sandbox.calls import (
    NO_CONTENT,
    Answer,
    ApiError,
    Call,
    ForbiddenError,
    Handler,
    Json,
    NotFoundError,
    Route,
    Row,
)
from agorafs.sandbox.endpoints.shared import DESCRIBED, routes_of_kinds
from agorafs.sandbox.lists import answer_bare


def _list(content_type: str) -> Handler:
    def list_parameter_sets(call: Call) -> Answer:
        """List heads only; the parameters come with the single set."""
        call.of_kind(content_type, call.id)
        rows = call.db.execute(
            "SELECT * FROM parameter_set WHERE content_type = ? AND object_id = ? ORDER BY id",
            (content_type, call.id),
        )
        return answer_bare(
            rows, lambda page: [serialise.parameter_set(row, with_parameters=False) for row in page]
        )

    return list_parameter_sets


def _create(content_type: str) -> Handler:
    def create_parameter_set(call: Call) -> Answer:
        """Add a set that users may change; the answer is its head."""
        call.require_change(content_type, call.of_kind(content_type, call.id))
        set_ = objects.add_parameter_set(
            call.db, content_type, call.id, _name(call, ""), _parameters(call), read_only=False
        )
        return Answer(201, serialise.parameter_set(_one(call, set_), with_parameters=False))

    return create_parameter_set


def _name(call: Call, default: str) -> str:
    name = call.text("name", default)
    if not name.strip():
        raise ApiError(400, {"name": ["This field may not be blank."]})
    return name


def _parameters(call: Call) -> list[Json]:
    parameters = call.value("parameters", [])
    if not isinstance(parameters, list) or not all(
        isinstance(entry, dict) and isinstance(entry.get("Name"), str) and "Value" in entry
        for entry in parameters
    ):
        raise ApiError(400, {"parameters": ["Expected a list of objects with Name and Value."]})
    return parameters


def _one(call: Call, id_: int) -> Row:
    """Return a parameter set of an object that the user sees."""
    row: Row | None = call.db.execute("SELECT * FROM parameter_set WHERE id = ?", (id_,)).fetchone()
    if row is None:
        raise NotFoundError
    call.of_kind(row["content_type"], row["object_id"])
    return row


def _writable(call: Call) -> Row:
    row = _one(call, call.id)
    call.require_change(row["content_type"], call.of_kind(row["content_type"], row["object_id"]))
    if row["read_only"]:
        raise ForbiddenError("The parameter set is read-only.")
    return row


def get_parameter_set(call: Call) -> Answer:
    return Answer(200, serialise.parameter_set(_one(call, call.id), with_parameters=True))


def change_parameter_set(call: Call) -> Answer:
    row = _writable(call)
    parameters = row["parameters"] if call.value("parameters") is None else json.dumps(_parameters(call))
    call.db.execute(
        "UPDATE parameter_set SET name = ?, parameters = ? WHERE id = ?",
        (_name(call, row["name"]), parameters, call.id),
    )
    return get_parameter_set(call)


def delete_parameter_set(call: Call) -> Answer:
    call.db.execute("DELETE FROM parameter_set WHERE id = ?", (_writable(call)["id"],))
    return NO_CONTENT


ROUTES = (
    *routes_of_kinds("GET", "parametersets", DESCRIBED, _list),
    *routes_of_kinds("POST", "parametersets", DESCRIBED, _create),
    Route("GET", "parameterset/{id}", get_parameter_set),
    Route("PATCH", "parameterset/{id}", change_parameter_set),
    Route("DELETE", "parameterset/{id}", delete_parameter_set),
)
