"""Copying and moving exams and series: timeline items that have ended before a client can ask (``timeline``).

What a copy is and what a move keeps is told in ``copying``. Copying needs to see the source and to write in the
target; moving needs to write in both. A locked exam is not moved, and takes no copied series (switch
``locked-refuses``). With a folder, that shows a link to what was copied or moved.
"""

from __future__ import annotations

from agorafs.sandbox import copying, objects, timeline
from agorafs.sandbox.calls import Answer, ApiError, Call, ForbiddenError, Json, Route, Row


def _target(call: Call) -> tuple[int, int | None]:
    """Return the project and the folder of the path, which the user may write into."""
    project = call.project(call.number("project_id"))["id"]
    call.require_write(project)
    if "folder_id" not in call.arguments:
        return project, None
    folder = call.folder(call.number("folder_id"))
    if folder["project"] != project:
        raise ApiError(400, "The folder does not belong to the project.")
    if folder["locked"]:
        raise ForbiddenError("The folder is locked.")
    return project, folder["id"]


def _ended(call: Call, project: int, title: str, related: Json) -> Answer:
    """Answer with a timeline item whose work is done."""
    item = timeline.start(call.db, call.store.now(), call.me.id, project, {"name": title})
    timeline.finish(call.db, item, [related])
    row = call.db.execute("SELECT * FROM timeline WHERE id = ?", (item,)).fetchone()
    return Answer(200, timeline.serialise(row))


def copy_exam(call: Call) -> Answer:
    source, (project, folder) = call.exam(call.id), _target(call)
    copy = copying.copy_exam(call.db, call.store.now(), call.me.id, source, project)
    return _exam_arrived(call, "Copy", source, copy, project, folder)


def move_exam(call: Call) -> Answer:
    source, (project, folder) = call.exam(call.id), _target(call)
    call.require_write(source["project"])
    call.require_unlocked(source)
    copying.move_exam(call.db, source, project)
    return _exam_arrived(call, "Move", source, call.id, project, folder)


def _exam_arrived(call: Call, what: str, source: Row, exam: int, project: int, folder: int | None) -> Answer:
    if folder is not None:
        objects.add_link(call.db, call.store.now(), folder, "exam", exam)
    related = timeline.related_object("exam", exam, source["name"])
    return _ended(call, project, f"{what} exam {source['name']}", related)


def copy_series(call: Call) -> Answer:
    source, (project, folder) = call.series(call.id), _target(call)
    exam = copying.exam_for_series(call.db, source, project)
    if exam is not None:
        call.require_unlocked(call.exam(exam))
    copy = copying.copy_series(call.db, call.store.now(), call.me.id, source, project)
    assert folder is not None  # there is no such call without one
    objects.add_link(call.db, call.store.now(), folder, "serie", copy)
    related = timeline.related_object("serie", copy, source["name"])
    return _ended(call, project, f"Copy series {source['name']}", related)


ROUTES = (
    Route("POST", "exam/{id}/copy_to/{project_id}", copy_exam),
    Route("POST", "exam/{id}/copy_to/{project_id}/folder/{folder_id}", copy_exam),
    Route("POST", "exam/{id}/move_to/{project_id}", move_exam),
    Route("POST", "exam/{id}/move_to/{project_id}/folder/{folder_id}", move_exam),
    Route("POST", "series/{id}/copy_to/{project_id}/folder/{folder_id}", copy_series),
)
