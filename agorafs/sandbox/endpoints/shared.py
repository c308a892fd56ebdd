"""What several kinds of objects have in common: links, parameter sets, relations, tags, ratings.

Each maker below returns the endpoint of one kind; ``ROUTES`` applies them to the kinds that have it.
"""

from __future__ import annotations

from collections.abc import Callable

from agorafs.sandbox import objects, serialise
from agorafs.sandbox.calls import Answer, ApiError, Call, Handler, NotFoundError, Route
from agorafs.sandbox.endpoints.folders import FOLDER_FIELDS, item_body
from agorafs.sandbox.lists import answer_bare, answer_list

# Path word -> the archive's word for the kind.
LINKABLE = {"folder": "folder", "exam": "exam", "series": "serie", "dataset": "dataset"}
DESCRIBED = {**LINKABLE, "patient": "patient"}
RELATED = {"exam": "exam", "series": "serie"}


def _link(content_type: str) -> Handler:
    def link_to_folder(call: Call) -> Answer:
        row, folder = call.of_kind(content_type, call.id), call.folder(call.number("folder_id"))
        call.require_write(folder["project"])
        if row["project"] != folder["project"]:
            raise ApiError(400, "An object can only be linked into a folder of its own project.")
        item = objects.add_link(call.db, call.store.now(), folder["id"], content_type, call.id)
        return Answer(201, item_body(call, item))

    return link_to_folder


def _folders(content_type: str) -> Handler:
    def list_folders(call: Call) -> Answer:
        """List the folders that show the object."""
        call.of_kind(content_type, call.id)
        rows = call.db.execute(
            "SELECT * FROM folder WHERE trash IS NULL AND id IN (SELECT folder FROM live_item "
            f"WHERE content_type = ? AND object_id = ?) AND project IN {call.visible} ORDER BY id",
            (content_type, call.id),
        )
        return answer_list(call, rows, lambda page: serialise.folders(call, page), fields=FOLDER_FIELDS)

    return list_folders


def _parameter_sets(content_type: str) -> Handler:
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


def _empty_list(content_type: str) -> Handler:
    def list_nothing(call: Call) -> Answer:
        """Answer tags or ratings: this server keeps none."""
        call.of_kind(content_type, call.id)
        return answer_bare([], lambda page: [])

    return list_nothing


def _relations(content_type: str) -> Handler:
    def list_relations(call: Call) -> Answer:
        call.of_kind(content_type, call.id)
        rows = call.db.execute(
            "SELECT * FROM relation WHERE (from_type = ?1 AND from_id = ?2) OR (to_type = ?1 AND to_id = ?2) "
            "ORDER BY id",
            (content_type, call.id),
        )
        return answer_bare(
            rows,
            lambda page: [
                {
                    "id": row["id"],
                    "from_object": {"object_id": row["from_id"], "content_type": row["from_type"]},
                    "to_object": {"object_id": row["to_id"], "content_type": row["to_type"]},
                }
                for row in page
            ],
        )

    return list_relations


def get_parameter_set(call: Call) -> Answer:
    row = call.db.execute("SELECT * FROM parameter_set WHERE id = ?", (call.id,)).fetchone()
    if row is None:
        raise NotFoundError
    call.of_kind(row["content_type"], row["object_id"])
    return Answer(200, serialise.parameter_set(row, with_parameters=True))


def list_nothing(call: Call) -> Answer:
    """Answer the tags a user sees: this server keeps none."""
    return answer_list(call, [], lambda page: [])


def _routes(
    method: str, tail: str, kinds: dict[str, str], make: Callable[[str], Handler]
) -> tuple[Route, ...]:
    return tuple(Route(method, f"{word}/{{id}}/{tail}", make(kind)) for word, kind in kinds.items())


ROUTES = (
    *_routes("POST", "link_to/{folder_id}", LINKABLE, _link),
    *_routes("GET", "folders", LINKABLE, _folders),
    *_routes("GET", "parametersets", DESCRIBED, _parameter_sets),
    *_routes("GET", "tags", DESCRIBED, _empty_list),
    *_routes("GET", "rating", DESCRIBED, _empty_list),
    *_routes("GET", "datarelations", RELATED, _relations),
    Route("GET", "parameterset/{id}", get_parameter_set),
    Route("GET", "tag-definition", list_nothing),
    Route("GET", "tag-instance", list_nothing),
)
