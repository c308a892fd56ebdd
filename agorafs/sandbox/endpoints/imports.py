"""Import packages and flow files (the chunks themselves are taken by ``chunks``)."""

from __future__ import annotations

import json
from typing import Any

from agorafs.sandbox import assembly
from agorafs.sandbox.calls import NO_CONTENT, Answer, ApiError, Call, Json, NotFoundError, Route, Row
from agorafs.sandbox.imports import UPLOADING, create_package

FLOW_INCOMPLETE, FLOW_JOINED = 1, 2


def own_package(call: Call, id_: int) -> Row:
    """Return a package of the user; those of others do not exist, except for an administrator."""
    row: Row | None = call.db.execute("SELECT * FROM import_package WHERE id = ?", (id_,)).fetchone()
    if row is None or (row["user"] != call.me.id and not call.me.is_superuser):
        raise NotFoundError
    return row


def _body(row: Row) -> Json:
    request = json.loads(row["request"]) if row["request"] else {}
    target = {name: id_ for name, id_ in request.get("target", {}).items() if id_ is not None}
    kind = next((name for name in ("series", "exam", "folder", "project") if name in target), None)
    return {
        "id": row["id"],
        "state": row["state"],
        "is_complete": row["request"] is not None,
        "created_date": row["created_date"],
        "modified_date": row["modified_date"],
        "complete_date": row["complete_date"],
        "error": row["error"],
        "extract_zip_files": str(request.get("extract_zip_files", "")).lower() in ("true", "1"),
        "import_parameters": True,
        "import_file": request.get("import_file"),
        "nof_retries": 0,
        "target_id": None if kind is None else target[kind],
        "target_type": kind,
        "timeline_items": [],
        "user": row["user"],
    }


def create(call: Call) -> Answer:
    package = create_package(call.db, call.store.now(), call.me.id)
    return Answer(201, _body(own_package(call, package)))


def get(call: Call) -> Answer:
    return Answer(200, _body(own_package(call, call.id)))


def complete(call: Call) -> Answer:
    """Seal the package and start the import; a second time changes nothing."""
    package = own_package(call, call.id)
    if package["state"] != UPLOADING:
        return NO_CONTENT
    request: dict[str, Any] = {"target": _target(call)}
    relations = call.value("relations")
    if relations is not None:
        if not isinstance(relations, dict):
            raise ApiError(400, {"relations": ["Expected an object of lists of target paths."]})
        request["relations"] = relations
    for name in ("import_file", "extract_zip_files", "task_definition"):
        if call.value(name) not in (None, ""):
            request[name] = call.value(name)
    call.imports.complete(call.db, call.id, request)
    return NO_CONTENT


def _target(call: Call) -> dict[str, int | None]:
    """Return the target of an import, checked: it exists (404), may be written and is not locked (403)."""
    folder, exam, series = call.integer("folder"), call.integer("exam"), call.integer("series")
    project = call.integer("project")
    if series is not None:
        row = call.series(series)
    elif exam is not None:
        row = call.exam(exam)
    elif folder is not None:
        row = call.folder(folder)
    elif project is not None:
        row = None
        project = call.project(project)["id"]
    else:
        row = None
        own = call.db.execute(
            "SELECT id FROM project WHERE is_myagora = 1 AND owner = ? AND trash IS NULL", (call.me.id,)
        ).fetchone()
        project = own["id"]
    if row is not None:
        project = row["project"]
        call.require_unlocked(row)
    assert project is not None
    call.require_write(project)
    return {
        "project": project,
        "folder": folder if series is None and exam is None else None,
        "exam": exam if series is None else None,
        "series": series,
    }


def get_progress(call: Call) -> Answer:
    return Answer(200, call.imports.progress(own_package(call, call.id)))


def get_result(call: Call) -> Answer:
    """Answer what became of each file; the switches ``result-sha1`` and ``result-datafiles`` make it a bad answer."""
    row = own_package(call, call.id)
    result = json.loads(row["result"]) if row["result"] else {"datafiles": [], "ignored": []}
    body: dict[str, Json] = {"ignored": result["ignored"], "error": row["error"]}
    if call.switches.text("result-datafiles") == "listed":
        body["datafiles"] = result["datafiles"]
        if call.switches.text("result-sha1") == "wrong":
            body["datafiles"] = [{**file, "sha1": file["sha1"][::-1]} for file in result["datafiles"]]
    return Answer(200, body)


def get_objects(call: Call) -> Answer:
    row = own_package(call, call.id)
    return Answer(200, json.loads(row["result"])["objects"] if row["result"] else [])


def get_flow_file(call: Call) -> Answer:
    row = call.db.execute(
        "SELECT f.* FROM flow_file f JOIN import_package p ON p.id = f.package "
        "WHERE f.identifier = ? AND p.user = ? ORDER BY f.id DESC",
        (call.arguments["identifier"], call.me.id),
    ).fetchone()
    if row is None:
        raise NotFoundError
    upload = call.imports.flow_file(call.db, row)
    content_hash = row["content_hash"]
    if content_hash is None and not assembly.missing_chunks(upload):
        content_hash = assembly.content_hash(upload)
    uploaded = len(upload.chunks) if row["content_hash"] is None else row["total_chunks"]
    return Answer(
        200,
        {
            "id": row["id"],
            "identifier": row["identifier"],
            "original_filename": row["target"],
            "total_size": row["total_size"],
            "total_chunks": row["total_chunks"],
            "total_chunks_uploaded": uploaded,
            "chunks": [number for number, _ in upload.chunks],
            "original_source_paths": None,
            "state": FLOW_INCOMPLETE if content_hash is None else FLOW_JOINED,
            "content_hash": content_hash,
            "created": row["created"],
            "updated": row["updated"],
        },
    )


ROUTES = (
    Route("POST", "import", create),
    Route("GET", "import/{id}", get),
    Route("POST", "import/{id}/complete", complete),
    Route("GET", "import/{id}/progress", get_progress),
    Route("GET", "import/{id}/result", get_result),
    Route("GET", "import/{id}/get_objects", get_objects),
    Route("GET", "flowfile/{identifier}", get_flow_file),
)
