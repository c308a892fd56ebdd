"""Tags and ratings: what people think of an object.

Decisions, where the real server's behaviour is unknown:

* A tag of a project is seen and used by its members, any other tag by its owner alone. It tags objects of its own
  project; a patient belongs to every project that has one of the exams.
* Tagging twice keeps the one instance. Deleting a tag takes its instances along.
* An object has one rating, shared by all who see it. Rating it again changes that; rating it 0 removes it.
* Observers are refused (403), and so is everybody below a locked exam (switch ``locked-refuses``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

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
from agorafs.sandbox.lists import answer_bare, answer_list

VISIBLE_TO_USER, VISIBLE_TO_PROJECT = 1, 2
SCOPE_PROJECT, SCOPE_USER = 1, 2

_INVALID_OBJECT = "Invalid pk - object does not exist."
_TAG_FIELDS = {"id": "number", "label": "text", "project": "number", "user": "number"}
_INSTANCE_FIELDS = {
    "id": "number",
    "tag_definition": "number",
    "tagged_object_content_type": "text",
    "tagged_object_id": "number",
}


def _tag_bodies(rows: Sequence[Row]) -> list[Json]:
    return [
        {
            "id": row["id"],
            "label": row["label"],
            "user": row["user"],
            "project": row["project"],
            "group": row["group_name"],
            "color": row["color"],
            "visibility": row["visibility"],
            "scope": row["scope"],
        }
        for row in rows
    ]


def _instance_bodies(rows: Sequence[Row]) -> list[Json]:
    return [{name: row[name] for name in _INSTANCE_FIELDS} for row in rows]


def _rating_bodies(rows: Sequence[Row]) -> list[Json]:
    return [
        {
            "id": row["id"],
            "value": row["value"],
            "rated_object_content_type": row["content_type"],
            "rated_object_id": row["object_id"],
        }
        for row in rows
    ]


def _described_object(call: Call, prefix: str) -> tuple[str, Row]:
    """Return kind and row of the object that a body names as ``<prefix>_content_type`` and ``<prefix>_id``."""
    word, id_ = call.text(f"{prefix}_content_type"), call.integer(f"{prefix}_id")
    content_type = DESCRIBED.get(word, word)
    if content_type not in DESCRIBED.values():
        raise ApiError(400, {f"{prefix}_content_type": [f"There are no such objects: {word!r}."]})
    try:
        return content_type, call.of_kind(content_type, id_ or 0)
    except NotFoundError:
        raise ApiError(400, {f"{prefix}_id": [_INVALID_OBJECT]}) from None


# -- tags --------------------------------------------------------------------------------------------


def _visible_tags(call: Call) -> str:
    return f"(project IN {call.visible} OR (project IS NULL AND user = {call.me.id}))"


def _tag(call: Call, id_: int) -> Row:
    row: Row | None = call.db.execute(
        f"SELECT * FROM tag_definition WHERE id = ? AND {_visible_tags(call)}", (id_,)
    ).fetchone()
    if row is None:
        raise NotFoundError
    return row


def list_tags(call: Call) -> Answer:
    rows = call.db.execute(f"SELECT * FROM tag_definition WHERE {_visible_tags(call)} ORDER BY id")
    return answer_list(call, rows, _tag_bodies, fields=_TAG_FIELDS)


def list_tags_of_project(call: Call) -> Answer:
    call.project(call.id)
    rows = call.db.execute("SELECT * FROM tag_definition WHERE project = ? ORDER BY id", (call.id,))
    return answer_list(call, rows, _tag_bodies, fields=_TAG_FIELDS)


def _with_tag(content_type: str) -> Handler:
    def list_objects_with_tag(call: Call) -> Answer:
        """List the objects of a project that carry a tag; the tag may be one's own."""
        project, tag = call.project(call.id)["id"], _tag(call, call.number("tag_id"))
        source = {
            "exam": "live_exam WHERE project = ?",
            "serie": "live_series WHERE project = ?",
            "dataset": "live_dataset WHERE project = ?",
            "patient": "patient WHERE trash IS NULL AND id IN (SELECT patient FROM live_exam WHERE project = ?)",
        }[content_type]
        rows = call.db.execute(
            f"SELECT * FROM {source} AND id IN (SELECT tagged_object_id FROM tag_instance "
            "WHERE tag_definition = ? AND tagged_object_content_type = ?) ORDER BY id",
            (project, tag["id"], content_type),
        )
        return answer_list(call, rows, lambda page: _OF_KIND[content_type](call, page))

    return list_objects_with_tag


_OF_KIND: Mapping[str, Callable[[Call, Sequence[Row]], list[Json]]] = {
    "exam": serialise.exams,
    "serie": serialise.series,
    "dataset": serialise.datasets_of_version,
    "patient": serialise.patients,
}


def get_tag(call: Call) -> Answer:
    return Answer(200, _tag_bodies([_tag(call, call.id)])[0])


def create_tag(call: Call) -> Answer:
    """Create a tag of a project, or one's own when no project is named."""
    label = call.text("label")
    if not label.strip():
        raise ApiError(400, {"label": ["This field may not be blank."]})
    project, user = call.integer("project"), call.integer("user")
    if project is not None:
        call.require_write(call.project(project)["id"])
    elif user not in (None, call.me.id):
        raise ForbiddenError
    tag = objects.insert(
        call.db,
        "tag_definition",
        {
            "label": label,
            "user": user if project is not None else call.me.id,
            "project": project,
            "group_name": call.value("group"),
            "color": call.value("color"),
            "visibility": VISIBLE_TO_PROJECT if project is not None else VISIBLE_TO_USER,
            "scope": SCOPE_PROJECT if project is not None else SCOPE_USER,
        },
    )
    return Answer(201, _tag_bodies([_tag(call, tag)])[0])


def delete_tag(call: Call) -> Answer:
    row = _tag(call, call.id)
    if row["project"] is not None:
        call.require_write(row["project"])
    call.db.execute("DELETE FROM tag_instance WHERE tag_definition = ?", (call.id,))
    call.db.execute("DELETE FROM tag_definition WHERE id = ?", (call.id,))
    return NO_CONTENT


def _tags_of(content_type: str) -> Handler:
    def list_tags_of_object(call: Call) -> Answer:
        call.of_kind(content_type, call.id)
        rows = call.db.execute(
            f"SELECT * FROM tag_definition WHERE {_visible_tags(call)} AND id IN (SELECT tag_definition "
            "FROM tag_instance WHERE tagged_object_content_type = ? AND tagged_object_id = ?) ORDER BY id",
            (content_type, call.id),
        )
        return answer_bare(rows, _tag_bodies)

    return list_tags_of_object


# -- tag instances -----------------------------------------------------------------------------------


def _instances(call: Call, condition: str, *values: int) -> list[Row]:
    """Return the instances of visible tags whose objects the user sees."""
    seen = call.visible
    rows: list[Row] = call.db.execute(
        f"SELECT * FROM tag_instance WHERE {condition} "
        f"AND tag_definition IN (SELECT id FROM tag_definition WHERE {_visible_tags(call)}) "
        "AND (tagged_object_content_type, tagged_object_id) IN ("
        f"SELECT 'folder', id FROM folder WHERE trash IS NULL AND project IN {seen} "
        f"UNION ALL SELECT 'exam', id FROM live_exam WHERE project IN {seen} "
        f"UNION ALL SELECT 'serie', id FROM live_series WHERE project IN {seen} "
        f"UNION ALL SELECT 'dataset', id FROM live_dataset WHERE project IN {seen} "
        "UNION ALL SELECT 'patient', id FROM patient WHERE trash IS NULL AND id IN "
        f"(SELECT patient FROM live_exam WHERE project IN {seen})) ORDER BY id",
        values,
    ).fetchall()
    return rows


def list_instances(call: Call) -> Answer:
    return answer_list(call, _instances(call, "TRUE"), _instance_bodies, fields=_INSTANCE_FIELDS)


def list_instances_of_project(call: Call) -> Answer:
    call.project(call.id)
    rows = _instances(call, "tag_definition IN (SELECT id FROM tag_definition WHERE project = ?)", call.id)
    return answer_list(call, rows, _instance_bodies, fields=_INSTANCE_FIELDS)


def create_instance(call: Call) -> Answer:
    """Tag an object. The answer is a list of one, which is what the vendor's connector can read."""
    try:
        tag = _tag(call, call.integer("tag_definition") or 0)
    except NotFoundError:
        raise ApiError(400, {"tag_definition": [_INVALID_OBJECT]}) from None
    content_type, row = _described_object(call, "tagged_object")
    call.require_change(content_type, row)
    if tag["project"] is not None and tag["project"] not in call.projects_of(content_type, row):
        raise ApiError(400, {"tag_definition": ["The tag belongs to another project."]})
    call.db.execute(
        "INSERT OR IGNORE INTO tag_instance (tag_definition, tagged_object_content_type, tagged_object_id) "
        "VALUES (?, ?, ?)",
        (tag["id"], content_type, row["id"]),
    )
    rows = call.db.execute(
        "SELECT * FROM tag_instance WHERE tag_definition = ? AND tagged_object_content_type = ? "
        "AND tagged_object_id = ?",
        (tag["id"], content_type, row["id"]),
    ).fetchall()
    return Answer(201, _instance_bodies(rows))


def delete_instance(call: Call) -> Answer:
    found = _instances(call, "id = ?", call.id)
    if not found:
        raise NotFoundError
    content_type = found[0]["tagged_object_content_type"]
    call.require_change(content_type, call.of_kind(content_type, found[0]["tagged_object_id"]))
    call.db.execute("DELETE FROM tag_instance WHERE id = ?", (call.id,))
    return NO_CONTENT


# -- ratings -----------------------------------------------------------------------------------------


def _rating_of(content_type: str) -> Handler:
    def list_ratings_of_object(call: Call) -> Answer:
        call.of_kind(content_type, call.id)
        return answer_bare(_ratings(call, content_type, call.id), _rating_bodies)

    return list_ratings_of_object


def _ratings(call: Call, content_type: str, id_: int) -> list[Row]:
    rows: list[Row] = call.db.execute(
        "SELECT * FROM rating WHERE content_type = ? AND object_id = ?", (content_type, id_)
    ).fetchall()
    return rows


def _value(call: Call) -> int:
    value = call.integer("value")
    if value is None or not 0 <= value <= 5:
        raise ApiError(400, {"value": ["Ensure this value is a whole number from 0 to 5."]})
    return value


def _rating(call: Call) -> Row:
    """Return the rating of the path, whose object the user may change."""
    row: Row | None = call.db.execute("SELECT * FROM rating WHERE id = ?", (call.id,)).fetchone()
    if row is None:
        raise NotFoundError
    call.require_change(row["content_type"], call.of_kind(row["content_type"], row["object_id"]))
    return row


def _rate(call: Call, content_type: str, id_: int, status: int) -> Answer:
    value = _value(call)
    if value == 0:
        call.db.execute("DELETE FROM rating WHERE content_type = ? AND object_id = ?", (content_type, id_))
        return NO_CONTENT
    call.db.execute(
        "INSERT INTO rating (content_type, object_id, value) VALUES (?, ?, ?) "
        "ON CONFLICT (content_type, object_id) DO UPDATE SET value = excluded.value",
        (content_type, id_, value),
    )
    return Answer(status, _rating_bodies(_ratings(call, content_type, id_))[0])


def create_rating(call: Call) -> Answer:
    content_type, row = _described_object(call, "rated_object")
    call.require_change(content_type, row)
    return _rate(call, content_type, row["id"], 201)


def change_rating(call: Call) -> Answer:
    row = _rating(call)
    return _rate(call, row["content_type"], row["object_id"], 200)


def delete_rating(call: Call) -> Answer:
    call.db.execute("DELETE FROM rating WHERE id = ?", (_rating(call)["id"],))
    return NO_CONTENT


ROUTES = (
    Route("GET", "tag-definition", list_tags),
    Route("POST", "tag-definition", create_tag),
    Route("GET", "tag-definition/{id}", get_tag),
    Route("DELETE", "tag-definition/{id}", delete_tag),
    Route("GET", "project/{id}/tag-definition", list_tags_of_project),
    *routes_of_kinds("GET", "tags", DESCRIBED, _tags_of),
    *(
        Route("GET", f"project/{{id}}/{word}/for_tag/{{tag_id}}", _with_tag(content_type))
        for word, content_type in DESCRIBED.items()
        if content_type in _OF_KIND
    ),
    Route("GET", "tag-instance", list_instances),
    Route("POST", "tag-instance", create_instance),
    Route("DELETE", "tag-instance/{id}", delete_instance),
    Route("GET", "project/{id}/tag-instance", list_instances_of_project),
    *routes_of_kinds("GET", "rating", DESCRIBED, _rating_of),
    Route("POST", "rating", create_rating),
    Route("PUT", "rating/{id}", change_rating),
    Route("DELETE", "rating/{id}", delete_rating),
)
