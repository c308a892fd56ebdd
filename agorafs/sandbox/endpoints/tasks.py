"""Tasks: UI tasks and script tasks, of a project each, and their runs.

Decisions, where the real server's behaviour is unknown:

* UI tasks and script tasks have numbers of their own, so that one of each may have the same. Copying and moving
  between projects is for UI tasks alone: its URL does not say which kind it means.
* A task that is made without a project belongs to My Agora. A change may not move it to another project.
* Members see the tasks of their projects. Observers change and run none (403); a run needs a target to write to.
* A copy loses its host, which belongs to the other project. An exported task says neither its project nor its help
  text; an import makes a new task of each object, a script task of those with a ``yml``.
* Deleting a task is final: the trash knows no tasks.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple

from agorafs.sandbox import objects, serialise, timeline
from agorafs.sandbox.calls import NO_CONTENT, Answer, ApiError, Call, Handler, Json, NotFoundError, Route, Row
from agorafs.sandbox.endpoints.folders import FOLDER_FIELDS
from agorafs.sandbox.endpoints.shared import RELATED, routes_of_kinds
from agorafs.sandbox.lists import answer_list
from agorafs.sandbox.tasks import definitions, requests
from agorafs.sandbox.tasks.definitions import DefinitionError, NoProgramError

_FIELDS = {"id": "number", "name": "text", "project": "number", "owner": "number"}
_NOT_EXPORTED = ("project", "context_help")


class _Kind(NamedTuple):
    """One of the two kinds: where it is in URLs and where in the store."""

    word: str
    table: str


_UI = _Kind("taskdefinition", "task")
_SCRIPT = _Kind("taskdefinition_yaml", "script_task")


# -- reading -----------------------------------------------------------------------------------------


def _bodies(rows: Sequence[Row]) -> list[Json]:
    return [{**json.loads(row["body"]), **{name: row[name] for name in _FIELDS}} for row in rows]


def _task(call: Call, kind: _Kind, id_: int) -> Row:
    row: Row | None = call.db.execute(
        f"SELECT * FROM {kind.table} WHERE id = ? AND project IN {call.visible}", (id_,)
    ).fetchone()
    if row is None:
        raise NotFoundError
    return row


def _body(call: Call, kind: _Kind, id_: int) -> Json:
    return _bodies([_task(call, kind, id_)])[0]


def _list(kind: _Kind) -> Handler:
    def list_tasks(call: Call) -> Answer:
        rows = call.db.execute(f"SELECT * FROM {kind.table} WHERE project IN {call.visible} ORDER BY id")
        return answer_list(call, rows, _bodies, fields=_FIELDS)

    return list_tasks


def _list_of_project(kind: _Kind) -> Handler:
    def list_tasks_of_project(call: Call) -> Answer:
        call.project(call.id)
        rows = call.db.execute(f"SELECT * FROM {kind.table} WHERE project = ? ORDER BY id", (call.id,))
        return answer_list(call, rows, _bodies, fields=_FIELDS)

    return list_tasks_of_project


def _get(kind: _Kind) -> Handler:
    def get_task(call: Call) -> Answer:
        return Answer(200, _body(call, kind, call.id))

    return get_task


def _export(kind: _Kind) -> Handler:
    def export_task(call: Call) -> Answer:
        body = _body(call, kind, call.id)
        return Answer(200, {name: value for name, value in body.items() if name not in _NOT_EXPORTED})

    return export_task


# -- writing -----------------------------------------------------------------------------------------


def _checked(kind: _Kind, fields: dict[str, Json], before: dict[str, Json]) -> tuple[str, dict[str, Json]]:
    """Return name and body of a task: what it was, changed by *fields*. 400 when it cannot be like that."""
    body = {**before, **fields}
    name = body.pop("name", None)
    for column in ("id", "project", "owner"):
        body.pop(column, None)
    if not isinstance(name, str) or not name.strip():
        raise ApiError(400, {"name": ["This field may not be blank."]})
    try:
        if kind is _SCRIPT:
            # Clients send the form's fields with script tasks, too; here they are made from the YAML.
            body = {key: value for key, value in body.items() if key not in definitions.UI_DEFAULTS}
            definitions.parsed_yml(body.get("yml"))
        else:
            body = {**definitions.UI_DEFAULTS, **body}
            if body.get("yml") is None:  # with the key, clients would take it for a script task
                body.pop("yml", None)
            body["inputs"] = definitions.checked_inputs(body["inputs"])
            body["outputs"] = definitions.checked_outputs(body["outputs"])
    except DefinitionError as error:
        raise ApiError(400, {error.field: [str(error)]}) from None
    return name, body


def _give_ids(call: Call, task: int, body: dict[str, Json]) -> None:
    """Give the inputs and outputs of a UI task ids, where they do not have one of this task's."""
    own = {row["id"] for row in call.db.execute("SELECT id FROM task_part WHERE task = ?", (task,))}
    for part in (*body["inputs"], *body["outputs"]):
        if part.get("id") in own:
            own.discard(part["id"])
        else:
            part["id"] = objects.insert(call.db, "task_part", {"task": task})


def _save(call: Call, kind: _Kind, task: int, name: str, body: dict[str, Json]) -> None:
    if kind is _UI:
        _give_ids(call, task, body)
    call.db.execute(
        f"UPDATE {kind.table} SET name = ?, body = ? WHERE id = ?", (name, json.dumps(body), task)
    )


def _make(call: Call, kind: _Kind, project: int, fields: dict[str, Json]) -> int:
    name, body = _checked(kind, fields, {})
    task = objects.insert(
        call.db, kind.table, {"project": project, "owner": call.me.id, "name": name, "body": "{}"}
    )
    _save(call, kind, task, name, body)
    return task


def _object(call: Call) -> dict[str, Json]:
    if not isinstance(call.json, dict):
        raise ApiError(400, "Expected a JSON object.")
    return call.json


def _create(kind: _Kind) -> Handler:
    def create_task(call: Call) -> Answer:
        fields = _object(call)
        project = call.integer("project")
        if project is None:
            project = call.db.execute(
                "SELECT id FROM project WHERE is_myagora = 1 AND owner = ? AND trash IS NULL", (call.me.id,)
            ).fetchone()["id"]
        call.require_write(call.project(project)["id"])
        return Answer(201, _body(call, kind, _make(call, kind, project, fields)))

    return create_task


def _change(kind: _Kind) -> Handler:
    def change_task(call: Call) -> Answer:
        row = _task(call, kind, call.id)
        call.require_write(row["project"])
        name, body = _checked(kind, _object(call), {**json.loads(row["body"]), "name": row["name"]})
        _save(call, kind, call.id, name, body)
        return Answer(200, _body(call, kind, call.id))

    return change_task


def _delete(kind: _Kind) -> Handler:
    def delete_task(call: Call) -> Answer:
        call.require_write(_task(call, kind, call.id)["project"])
        call.db.execute(f"DELETE FROM {kind.table} WHERE id = ?", (call.id,))
        if kind is _UI:
            call.db.execute("DELETE FROM task_part WHERE task = ?", (call.id,))
        return NO_CONTENT

    return delete_task


def copy_task(call: Call) -> Answer:
    body = _body(call, _UI, call.number("task_id"))
    call.require_write(call.project(call.id)["id"])
    copy = _make(call, _UI, call.id, {**body, "host": None, "host_id": None})
    return Answer(200, _body(call, _UI, copy))


def move_task(call: Call) -> Answer:
    row = _task(call, _UI, call.number("task_id"))
    call.require_write(row["project"])
    call.require_write(call.project(call.id)["id"])
    call.db.execute("UPDATE task SET project = ? WHERE id = ?", (call.id, row["id"]))
    return Answer(200, _body(call, _UI, row["id"]))


def import_tasks(call: Call) -> Answer:
    """Make tasks of an exported one, or of a list of them: all or none."""
    call.require_write(call.project(call.id)["id"])
    entries = call.json if isinstance(call.json, list) else [call.json]
    made = []
    for entry in entries:
        if not isinstance(entry, dict):
            raise ApiError(400, "Expected an exported task, or a list of them.")
        kind = _UI if entry.get("yml") is None else _SCRIPT
        made.append(_body(call, kind, _make(call, kind, call.id, {**entry, "host": None, "host_id": None})))
    return Answer(200, made)


# -- running -----------------------------------------------------------------------------------------


def _run(kind: _Kind) -> Handler:
    def run_task(call: Call) -> Answer:
        """Check the request and queue the run; the answer is its timeline item."""
        row = _task(call, kind, call.id)
        body = json.loads(row["body"])
        problem = None
        programs: tuple[str, ...] = ()
        try:
            if kind is _SCRIPT:
                yml = definitions.parsed_yml(body["yml"])
                inputs = definitions.script_inputs(yml)
                programs = definitions.script_programs(yml)
            else:
                inputs = definitions.ui_inputs(body)
                programs = definitions.ui_programs(body)
        except NoProgramError as error:
            problem = str(error)
        item = call.tasks.start_run(call.db, requests.check(call, row, inputs, programs, problem))
        started = call.db.execute("SELECT * FROM timeline WHERE id = ?", (item,)).fetchone()
        return Answer(200, timeline.serialise(started))

    return run_task


def _result_folders(content_type: str) -> Handler:
    def list_result_folders(call: Call) -> Answer:
        """List the folders with results of tasks that worked on the object, or on a part of it."""
        call.of_kind(content_type, call.id)
        rows = call.db.execute(
            "SELECT * FROM folder WHERE trash IS NULL AND id IN "
            "(SELECT folder FROM task_result WHERE content_type = ? AND object_id = ?) "
            f"AND project IN {call.visible} ORDER BY id",
            (content_type, call.id),
        )
        return answer_list(call, rows, lambda page: serialise.folders(call, page), fields=FOLDER_FIELDS)

    return list_result_folders


def _routes(kind: _Kind) -> tuple[Route, ...]:
    return (
        Route("GET", kind.word, _list(kind)),
        Route("POST", kind.word, _create(kind)),
        Route("GET", f"{kind.word}/{{id}}", _get(kind)),
        Route("PUT", f"{kind.word}/{{id}}", _change(kind)),
        Route("PATCH", f"{kind.word}/{{id}}", _change(kind)),
        Route("DELETE", f"{kind.word}/{{id}}", _delete(kind)),
        Route("GET", f"{kind.word}/{{id}}/export", _export(kind)),
        Route("POST", f"{kind.word}/{{id}}/run", _run(kind)),
    )


ROUTES = (
    *_routes(_UI),
    *_routes(_SCRIPT),
    Route("GET", "project/{id}/task", _list_of_project(_UI)),
    Route("GET", "project/{id}/taskdefinition_yaml", _list_of_project(_SCRIPT)),
    Route("POST", "project/{id}/task/imp", import_tasks),
    Route("POST", "project/{id}/task/{task_id}/copy", copy_task),
    Route("POST", "project/{id}/task/{task_id}/move", move_task),
    *routes_of_kinds("GET", "result_folders", RELATED, _result_folders),
)
