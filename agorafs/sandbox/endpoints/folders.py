"""Folders and folder items."""

from __future__ import annotations

from agorafs.sandbox import deletion, objects, serialise
from agorafs.sandbox.calls import (
    NO_CONTENT,
    Answer,
    ApiError,
    Call,
    ForbiddenError,
    Json,
    NotFoundError,
    Route,
    Row,
)
from agorafs.sandbox.lists import answer_bare, answer_list

FOLDER_FIELDS = {"id": "number", "name": "text", "project": "number"}


def _folder(call: Call, id_: int) -> Json:
    return serialise.folders(call, [call.folder(id_)])[0]


def item_body(call: Call, item: int) -> Json:
    """Return a folder item as JSON."""
    return serialise.items(call, [call.item(item)])[0]


def get_folder(call: Call) -> Answer:
    return Answer(200, _folder(call, call.id))


def list_folders(call: Call) -> Answer:
    rows = call.db.execute(
        f"SELECT * FROM folder WHERE trash IS NULL AND project IN {call.visible} ORDER BY id"
    )
    return answer_list(call, rows, lambda page: serialise.folders(call, page), fields=FOLDER_FIELDS)


def list_items(call: Call) -> Answer:
    call.folder(call.id)
    rows = call.db.execute("SELECT * FROM live_item WHERE folder = ? ORDER BY id", (call.id,))
    if call.version == 1 and call.switches.text("folder-items-v1") == "bare":
        return answer_bare(rows, lambda page: serialise.items(call, page))
    return answer_list(call, rows, lambda page: serialise.items(call, page))


def _writable_folder(call: Call, id_: int) -> Row:
    folder = call.folder(id_)
    call.require_write(folder["project"])
    if folder["locked"]:
        raise ForbiddenError("The folder is locked.")
    return folder


def _new_name(call: Call, parent: int) -> str:
    """Return the name for a subfolder of *parent*; 400 when it is blank or taken."""
    name = call.text("name")
    if not name.strip():
        raise ApiError(400, {"name": ["This field may not be blank."]})
    if objects.subfolder(call.db, parent, name) is not None:
        raise ApiError(400, {"name": ["A folder with this name already exists."]})
    return name


def create_subfolder(call: Call) -> Answer:
    parent = _writable_folder(call, call.id)["id"]
    _, item = objects.create_folder(call.db, call.store.now(), parent, _new_name(call, parent))
    return Answer(201, item_body(call, item))


def create_folder(call: Call) -> Answer:
    parent = call.integer("parent")
    if parent is None:
        project = call.integer("project")
        if project is None:
            raise ApiError(400, {"project": ["This field is required."]})
        parent = call.project(project)["root_folder"]
    parent = _writable_folder(call, parent)["id"]
    folder, _ = objects.create_folder(call.db, call.store.now(), parent, _new_name(call, parent))
    return Answer(201, _folder(call, folder))


def rename_folder(call: Call) -> Answer:
    folder = _writable_folder(call, call.id)
    name = call.text("name", folder["name"])
    if name != folder["name"]:
        item = call.db.execute(
            "SELECT * FROM live_item WHERE content_type = 'folder' AND object_id = ? AND is_link = 0",
            (call.id,),
        ).fetchone()
        if item is None:
            raise ApiError(400, {"name": ["The root folder of a project cannot be renamed."]})
        _new_name(call, item["folder"])
        call.db.execute("UPDATE folder SET name = ? WHERE id = ?", (name, call.id))
        call.db.execute(
            "UPDATE folder_item SET modified_date = ? WHERE id = ?", (call.store.now(), item["id"])
        )
    return Answer(200, _folder(call, call.id))


def delete_folder(call: Call) -> Answer:
    call.folder(call.id)
    deletion.delete_object(call, "folder", call.id)
    return NO_CONTENT


def get_breadcrumb(call: Call) -> Answer:
    call.folder(call.id)
    return answer_bare([], lambda page: serialise.breadcrumb(call.db, call.id))


def get_tree(call: Call) -> Answer:
    folder = call.folder(call.id)
    if not call.switches.is_on("tree"):
        raise NotFoundError
    return Answer(200, serialise.folder_tree(call, folder))


def get_item(call: Call) -> Answer:
    return Answer(200, item_body(call, call.id))


def delete_item(call: Call) -> Answer:
    deletion.delete_item(call, call.item(call.id))
    return NO_CONTENT


def delete_items(call: Call) -> Answer:
    """Delete several items; those that are gone already are passed over, as clients repeat this call."""
    for id_ in call.integers("ids"):
        try:
            item = call.item(id_)
        except NotFoundError:
            continue
        deletion.delete_item(call, item)
    return NO_CONTENT


ROUTES = (
    Route("GET", "folder", list_folders),
    Route("POST", "folder", create_folder),
    Route("GET", "folder/{id}", get_folder),
    Route("PUT", "folder/{id}", rename_folder),
    Route("PATCH", "folder/{id}", rename_folder),
    Route("DELETE", "folder/{id}", delete_folder),
    Route("GET", "folder/{id}/items", list_items),
    Route("POST", "folder/{id}/new", create_subfolder),
    Route("GET", "folder/{id}/breadcrumb", get_breadcrumb),
    Route("GET", "folder/{id}/tree", get_tree),
    Route("POST", "folderitem/delete_ids", delete_items),
    Route("GET", "folderitem/{id}", get_item),
    Route("DELETE", "folderitem/{id}", delete_item),
)
