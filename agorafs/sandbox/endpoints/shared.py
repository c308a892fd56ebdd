"""What several kinds of objects have in common: links and relations.

Each maker below returns the endpoint of one kind; ``ROUTES`` applies them to the kinds that have it.
"""

from __future__ import annotations

from collections.abc import Callable

from agorafs.sandbox import objects, serialise
from agorafs.sandbox.calls import Answer, ApiError, Call, Handler, Route
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


def routes_of_kinds(
    method: str, tail: str, kinds: dict[str, str], make: Callable[[str], Handler]
) -> tuple[Route, ...]:
    """Return one route for each of *kinds*: ``exam/{id}/<tail>`` and so on."""
    return tuple(Route(method, f"{word}/{{id}}/{tail}", make(kind)) for word, kind in kinds.items())


ROUTES = (
    *routes_of_kinds("POST", "link_to/{folder_id}", LINKABLE, _link),
    *routes_of_kinds("GET", "folders", LINKABLE, _folders),
    *routes_of_kinds("GET", "datarelations", RELATED, _relations),
)
