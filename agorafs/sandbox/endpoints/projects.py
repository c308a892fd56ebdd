"""Projects, memberships, and what is asked of a whole project."""

from __future__ import annotations

from agorafs.sandbox import deletion, objects, serialise
from agorafs.sandbox.calls import (
    NO_CONTENT,
    Answer,
    ApiError,
    Call,
    ForbiddenError,
    NotFoundError,
    Route,
    Row,
)
from agorafs.sandbox.endpoints.exams import EXAM_FIELDS
from agorafs.sandbox.endpoints.patients import PATIENT_FIELDS
from agorafs.sandbox.lists import answer_bare, answer_list


def _one(call: Call, row: Row) -> dict[str, object]:
    body: dict[str, object] = serialise.projects(call, [row])[0]
    return body


def list_projects(call: Call) -> Answer:
    mine = "" if call.switches.is_on("myagora-listed") else "AND is_myagora = 0"
    rows = call.db.execute(f"SELECT * FROM project WHERE id IN {call.visible} {mine} ORDER BY id")
    return answer_list(
        call, rows, lambda page: serialise.projects(call, page), fields={"id": "number", "name": "text"}
    )


def get_project(call: Call) -> Answer:
    return Answer(200, _one(call, call.project(call.id)))


def get_my_agora(call: Call) -> Answer:
    row = call.db.execute(
        "SELECT * FROM project WHERE is_myagora = 1 AND owner = ? AND trash IS NULL", (call.me.id,)
    ).fetchone()
    if row is None:
        raise NotFoundError
    return Answer(200, _one(call, row))


def create_project(call: Call) -> Answer:
    name = call.text("name")
    if not name.strip():
        raise ApiError(400, {"name": ["This field may not be blank."]})
    project = objects.create_project(
        call.db, call.store.now(), name, owner=call.me.id, description=call.text("description")
    )
    return Answer(201, _one(call, call.project(project)))


def change_project(call: Call) -> Answer:
    project = call.project(call.id)
    call.require_manager(call.id)
    if project["is_myagora"]:
        raise ForbiddenError("My Agora cannot be changed.")
    name = call.text("name", project["name"])
    if not name.strip():
        raise ApiError(400, {"name": ["This field may not be blank."]})
    call.db.execute(
        "UPDATE project SET name = ?, description = ? WHERE id = ?",
        (name, call.text("description", project["description"]), call.id),
    )
    call.db.execute("UPDATE folder SET name = ? WHERE id = ?", (name, project["root_folder"]))
    return Answer(200, _one(call, call.project(call.id)))


def delete_project(call: Call) -> Answer:
    project = call.project(call.id)
    call.require_manager(call.id)
    if project["is_myagora"]:
        raise ForbiddenError("My Agora cannot be deleted.")
    deletion.delete_project(call, project)
    return NO_CONTENT


def get_root_folder(call: Call) -> Answer:
    project = call.project(call.id)
    return Answer(200, serialise.folders(call, [call.folder(project["root_folder"])])[0])


def create_membership(call: Call) -> Answer:
    number, user, role = call.integer("project"), call.integer("user"), call.integer("role")
    project = call.project(number or 0)
    call.require_manager(project["id"])
    if project["is_myagora"]:
        raise ForbiddenError("My Agora cannot be shared.")
    if user is None or call.db.execute("SELECT 1 FROM user WHERE id = ?", (user,)).fetchone() is None:
        raise ApiError(400, {"user": ["Invalid pk - object does not exist."]})
    if role not in objects.ROLES:
        raise ApiError(400, {"role": ["Invalid pk - object does not exist."]})
    membership = objects.add_member(call.db, project["id"], user, role)
    return Answer(201, {"id": membership, "project": project["id"], "user": user, "role": role})


def list_exams(call: Call) -> Answer:
    call.project(call.id)
    rows = call.db.execute("SELECT * FROM live_exam WHERE project = ? ORDER BY id", (call.id,))
    return answer_list(call, rows, lambda page: serialise.exams(call, page), fields=EXAM_FIELDS)


def list_patients(call: Call) -> Answer:
    call.project(call.id)
    rows = call.db.execute(
        "SELECT * FROM patient WHERE trash IS NULL AND id IN "
        "(SELECT patient FROM live_exam WHERE project = ?) ORDER BY id",
        (call.id,),
    )
    return answer_list(call, rows, lambda page: serialise.patients(call, page), fields=PATIENT_FIELDS)


def get_exam_by_uid(call: Call) -> Answer:
    call.project(call.id)
    row = call.db.execute(
        "SELECT * FROM live_exam WHERE project = ? AND uid = ? ORDER BY id", (call.id, call.arguments["uid"])
    ).fetchone()
    if row is None:
        raise NotFoundError
    return Answer(200, serialise.exam(call, row))


def get_series_by_uid(call: Call) -> Answer:
    call.project(call.id)
    rows = call.db.execute(
        "SELECT * FROM live_series WHERE project = ? AND uid = ? ORDER BY id LIMIT 1",
        (call.id, call.arguments["uid"]),
    ).fetchall()
    if not rows:
        raise NotFoundError
    return Answer(200, serialise.series(call, rows)[0])


def get_tree(call: Call) -> Answer:
    call.project(call.id)
    if not call.switches.is_on("tree"):
        raise NotFoundError
    rows = call.db.execute("SELECT * FROM live_exam WHERE project = ? ORDER BY id", (call.id,))
    return answer_bare(rows, lambda page: serialise.exam_trees(call, page))


ROUTES = (
    Route("GET", "project", list_projects),
    Route("POST", "project", create_project),
    Route("GET", "project/myagora", get_my_agora),
    Route("GET", "project/{id}", get_project),
    Route("PUT", "project/{id}", change_project),
    Route("PATCH", "project/{id}", change_project),
    Route("DELETE", "project/{id}", delete_project),
    Route("GET", "project/{id}/root_folder", get_root_folder),
    Route("POST", "projectmembership", create_membership),
    Route("GET", "project/{id}/exam", list_exams),
    Route("GET", "project/{id}/patient", list_patients),
    Route("GET", "project/{id}/exam/uid/{uid}", get_exam_by_uid),
    Route("GET", "project/{id}/series/uid/{uid}", get_series_by_uid),
    Route("GET", "project/{id}/tree", get_tree),
)
