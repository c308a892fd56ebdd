"""Workbooks: contours and masks that people draw on a dataset.

A workbook is kept as the client sent it, with fields this server does not know; masks are checked as far as a
viewer has to rely on them. Decisions, where the real server's behaviour is unknown:

* A workbook is seen by whoever sees its dataset, and changed by whoever may describe that.
* A change replaces each field it names as a whole; nothing is merged, and the last writer wins.
* A dataset may have any number of workbooks.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence

from agorafs.sandbox import objects, serialise
from agorafs.sandbox.calls import NO_CONTENT, Answer, ApiError, Call, Json, NotFoundError, Route, Row
from agorafs.sandbox.lists import answer_bare, answer_list

# What the server says itself; a client's values of these are ignored.
_OWN = ("id", "dataset", "user", "created_date", "modified_date")
_FLAGS = ("locked", "contour_tab", "mask_tab", "statistics_tab", "cmr_tab")
_LISTS_OF_CONTOUR = ("contourGroups", "landmarkGroups", "objectButtons")
_SIZES = ("mSizeX", "mSizeY", "mSizeZ", "mSizeT")
_DEFAULTS = {"name": "Workbook", "contour": None, "mask": None, **dict.fromkeys(_FLAGS, False)}


def _bodies(rows: Sequence[Row]) -> list[Json]:
    return [{**_DEFAULTS, **json.loads(row["content"]), **{name: row[name] for name in _OWN}} for row in rows]


def _workbook(call: Call) -> Row:
    row: Row | None = call.db.execute("SELECT * FROM workbook WHERE id = ?", (call.id,)).fetchone()
    if row is None:
        raise NotFoundError
    call.dataset(row["dataset"])
    return row


def _writable(call: Call) -> Row:
    row = _workbook(call)
    call.require_change("dataset", call.dataset(row["dataset"]))
    return row


def list_workbooks(call: Call) -> Answer:
    call.dataset(call.id)
    rows = call.db.execute("SELECT * FROM workbook WHERE dataset = ? ORDER BY id", (call.id,))
    return answer_list(call, rows, _bodies)


def get_workbook(call: Call) -> Answer:
    return Answer(200, _bodies([_workbook(call)])[0])


def create_workbook(call: Call) -> Answer:
    content = _content(call)
    try:
        dataset = call.dataset(call.integer("dataset") or 0)
    except NotFoundError:
        raise ApiError(400, {"dataset": ["Invalid pk - object does not exist."]}) from None
    call.require_change("dataset", dataset)
    now = call.store.now()
    workbook = objects.insert(
        call.db,
        "workbook",
        {
            "dataset": dataset["id"],
            "user": call.me.id,
            "content": json.dumps(content),
            "created_date": now,
            "modified_date": now,
        },
    )
    rows = call.db.execute("SELECT * FROM workbook WHERE id = ?", (workbook,)).fetchall()
    return Answer(201, _bodies(rows)[0])


def change_workbook(call: Call) -> Answer:
    row = _writable(call)
    content = {**json.loads(row["content"]), **_content(call)}
    call.db.execute(
        "UPDATE workbook SET content = ?, modified_date = ? WHERE id = ?",
        (json.dumps(content), call.store.now(), call.id),
    )
    return get_workbook(call)


def delete_workbook(call: Call) -> Answer:
    call.db.execute("DELETE FROM workbook WHERE id = ?", (_writable(call)["id"],))
    return NO_CONTENT


def list_user_data(call: Call) -> Answer:
    """Answer nothing: what workbooks replaced, and no data of its time is here."""
    call.dataset(call.id)
    return answer_bare((), lambda page: serialise.datasets(call, page, with_datafiles=False))


# -- what is accepted --------------------------------------------------------------------------------


def _content(call: Call) -> dict[str, Json]:
    """Return the fields of the body that are a workbook's own content, checked."""
    if not isinstance(call.json, dict):
        raise ApiError(400, "Expected a workbook as a JSON object.")
    content = {name: value for name, value in call.json.items() if name not in _OWN}
    name = content.get("name", "Workbook")
    if not isinstance(name, str) or not name.strip():
        raise ApiError(400, {"name": ["This field may not be blank."]})
    for flag in _FLAGS:
        if not isinstance(content.get(flag, False), bool):
            raise ApiError(400, {flag: ["Must be a valid boolean."]})
    _check_contour(content.get("contour"))
    _check_masks(content.get("mask"))
    return content


def _check_contour(contour: Json) -> None:
    if contour is None:
        return
    if not isinstance(contour, dict) or not all(
        _is_list_of_objects(contour.get(name, [])) for name in _LISTS_OF_CONTOUR
    ):
        raise ApiError(400, {"contour": [f"Expected an object with lists {', '.join(_LISTS_OF_CONTOUR)}."]})


def _check_masks(session: Json) -> None:
    if session is None:
        return
    if not isinstance(session, dict) or not _is_list_of_objects(session.get("mMasks", [])):
        raise ApiError(400, {"mask": ["Expected an object with a list mMasks."]})
    for mask in session.get("mMasks", []):
        sizes = [mask.get(name, 1) for name in _SIZES]
        if not all(isinstance(size, int) and not isinstance(size, bool) and size > 0 for size in sizes):
            raise ApiError(400, {"mask": [f"{', '.join(_SIZES)} must be whole numbers above 0."]})
        slices = mask.get("mSliceMask", [])
        if not _is_list_of_objects(slices) or len(slices) != sizes[2] * sizes[3]:
            raise ApiError(400, {"mask": ["mSliceMask must have mSizeZ x mSizeT entries."]})
        if not all(_is_base64(entry.get("mBase64Values", "")) for entry in slices):
            raise ApiError(400, {"mask": ["mBase64Values must be base64."]})


def _is_list_of_objects(value: Json) -> bool:
    return isinstance(value, list) and all(isinstance(entry, dict) for entry in value)


def _is_base64(value: Json) -> bool:
    if not isinstance(value, str):
        return False
    try:
        base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):  # ValueError: not ASCII
        return False
    return True


ROUTES = (
    Route("GET", "dataset/{id}/workbook", list_workbooks),
    Route("GET", "dataset/{id}/userdata", list_user_data),
    Route("POST", "workbook", create_workbook),
    Route("GET", "workbook/{id}", get_workbook),
    Route("PATCH", "workbook/{id}", change_workbook),
    Route("PUT", "workbook/{id}", change_workbook),
    Route("DELETE", "workbook/{id}", delete_workbook),
)
