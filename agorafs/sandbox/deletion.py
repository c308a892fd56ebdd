"""Deleting: to the trash with everything below and every reference, and from the trash for good.

Rules.  A deletion is one trash entry, whatever it takes along. A link is only a reference: deleting it, or a folder
that holds it, leaves its object alone. Deleting an object takes away every item that shows it. Nothing below
a locked exam is deleted (switch ``locked-refuses``). Final deletion removes the contents that no other datafile
refers to.

Place.  Below the endpoints. Called inside a transaction; the content files go after its commit.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from agorafs.sandbox import objects
from agorafs.sandbox.calls import ApiError, Call, Row
from agorafs.sandbox.serialise import id_list

_TABLES = {"folder": "folder", "exam": "exam", "serie": "series", "dataset": "dataset", "patient": "patient"}


class _Target(NamedTuple):
    content_type: str
    id: int


def delete_object(call: Call, content_type: str, id_: int) -> None:
    """Move an object to the trash. The caller has checked that it is visible."""
    _delete(call, [_Target(content_type, id_)], [])


def delete_item(call: Call, item: Row) -> None:
    """Remove a link, or delete the object of an item that is none."""
    call.require_write(item["project"])
    if item["is_link"] or item["content_type"] not in _TABLES:
        call.db.execute("DELETE FROM folder_item WHERE id = ?", (item["id"],))
        return
    delete_object(call, item["content_type"], item["object_id"])


def _delete(call: Call, targets: list[_Target], taken: list[_Target]) -> None:
    db = call.db
    main = targets[0]
    row = db.execute(f"SELECT * FROM {_TABLES[main.content_type]} WHERE id = ?", (main.id,)).fetchone()
    seen: dict[str, set[int]] = defaultdict(set)
    pending = list(targets)
    while pending:
        target = pending.pop()
        if target.id not in seen[target.content_type]:
            seen[target.content_type].add(target.id)
            pending.extend(_children(call, target))
    project = _check(call, seen)
    entry = objects.insert(
        db,
        "trash_entry",
        {
            "project": project,
            "content_type": main.content_type,
            "object_id": main.id,
            "name": row["name"],
            "deleted_date": call.store.now(),
        },
    )
    for content_type, ids in seen.items():
        db.execute(
            f"UPDATE {_TABLES[content_type]} SET trash = ? WHERE trash IS NULL "
            "AND id IN (SELECT value FROM json_each(?))",
            (entry, id_list(ids)),
        )
        db.execute(
            "UPDATE folder_item SET trash = ? WHERE trash IS NULL AND content_type = ? "
            "AND object_id IN (SELECT value FROM json_each(?))",
            (entry, content_type, id_list(ids)),
        )
    db.execute(
        "UPDATE folder_item SET trash = ? WHERE trash IS NULL AND folder IN (SELECT value FROM json_each(?))",
        (entry, id_list(seen["folder"])),
    )


def _children(call: Call, target: _Target) -> Iterable[_Target]:
    """Return what goes with an object: never what is merely linked."""
    queries = {
        "folder": (
            "SELECT content_type, object_id FROM folder_item WHERE folder = ? AND is_link = 0 AND trash IS NULL",
        ),
        "patient": ("SELECT 'exam', id FROM exam WHERE patient = ? AND trash IS NULL",),
        "exam": (
            "SELECT 'serie', id FROM series WHERE exam = ? AND trash IS NULL",
            "SELECT 'dataset', id FROM dataset WHERE exam = ? AND trash IS NULL",
        ),
        "serie": ("SELECT 'dataset', id FROM dataset WHERE series = ? AND trash IS NULL",),
        "dataset": (),
    }
    for query in queries[target.content_type]:
        for content_type, id_ in call.db.execute(query, (target.id,)):
            if content_type in _TABLES:
                yield _Target(content_type, id_)


def _check(call: Call, seen: dict[str, set[int]]) -> int | None:
    """Refuse when anything may not be written or is locked; return the project the deletion belongs to."""
    projects: list[int] = []
    for content_type, source in (
        ("folder", "folder"),
        ("exam", "live_exam"),
        ("serie", "live_series"),
        ("dataset", "live_dataset"),
    ):
        rows = call.db.execute(
            f"SELECT project, MAX(locked) AS locked FROM {source} "
            "WHERE id IN (SELECT value FROM json_each(?)) GROUP BY project",
            (id_list(seen[content_type]),),
        )
        for row in rows:
            call.require_write(row["project"])
            call.require_unlocked(row)
            projects.append(row["project"])
    root = call.db.execute(
        "SELECT 1 FROM project WHERE trash IS NULL AND root_folder IN (SELECT value FROM json_each(?))",
        (id_list(seen["folder"]),),
    ).fetchone()
    if root is not None:
        raise ApiError(400, "The root folder of a project cannot be deleted.")
    return projects[0] if projects else None


def delete_project(call: Call, project: Row) -> None:
    """Move a project to the trash; its objects stay as they are inside it, unreachable."""
    entry = objects.insert(
        call.db,
        "trash_entry",
        {
            "project": project["id"],
            "content_type": "project",
            "object_id": project["id"],
            "name": project["name"],
            "deleted_date": call.store.now(),
        },
    )
    call.db.execute("UPDATE project SET trash = ? WHERE id = ?", (entry, project["id"]))


def _take_project_along(call: Call, project: int, entry: int) -> None:
    """Put everything of a deleted project, its older trash too, under the one entry that is about to go."""
    db = call.db
    db.execute(
        "UPDATE series SET trash = ? WHERE exam IN (SELECT id FROM exam WHERE project = ?)", (entry, project)
    )
    db.execute(
        "UPDATE folder_item SET trash = ? WHERE folder IN (SELECT id FROM folder WHERE project = ?)",
        (entry, project),
    )
    for table in ("folder", "exam", "dataset"):
        db.execute(f"UPDATE {table} SET trash = ? WHERE project = ?", (entry, project))
    db.execute("DELETE FROM trash_entry WHERE project = ? AND id <> ?", (project, entry))
    db.execute(
        "DELETE FROM tag_instance WHERE tag_definition IN (SELECT id FROM tag_definition WHERE project = ?)",
        (project,),
    )
    db.execute("DELETE FROM tag_definition WHERE project = ?", (project,))
    db.execute(
        "DELETE FROM task_part WHERE task IN (SELECT id FROM task WHERE project = ?)",
        (project,),
    )
    for table in ("task", "script_task", "host", "membership"):
        db.execute(f"DELETE FROM {table} WHERE project = ?", (project,))
    db.execute("DELETE FROM project WHERE id = ?", (project,))


def delete_finally(call: Call, entry: int) -> None:
    """Remove for good what one deletion took, and the contents nobody else needs."""
    db = call.db
    trashed = db.execute("SELECT * FROM trash_entry WHERE id = ?", (entry,)).fetchone()
    if trashed["content_type"] == "project":
        _take_project_along(call, trashed["object_id"], entry)
    sha1s = [
        row["sha1"]
        for row in db.execute(
            "SELECT DISTINCT f.sha1 FROM datafile f JOIN dataset d ON d.id = f.dataset WHERE d.trash = ?",
            (entry,),
        )
    ]
    for table in ("datafile", "workbook"):
        db.execute(f"DELETE FROM {table} WHERE dataset IN (SELECT id FROM dataset WHERE trash = ?)", (entry,))
    for content_type, table in _TABLES.items():
        gone = f"(SELECT id FROM {table} WHERE trash = ?)"
        db.execute(
            f"DELETE FROM parameter_set WHERE content_type = ? AND object_id IN {gone}", (content_type, entry)
        )
        db.execute(
            f"DELETE FROM tag_instance WHERE tagged_object_content_type = ? AND tagged_object_id IN {gone}",
            (content_type, entry),
        )
        db.execute(
            f"DELETE FROM rating WHERE content_type = ? AND object_id IN {gone}", (content_type, entry)
        )
        for side in ("from", "to"):
            db.execute(
                f"DELETE FROM relation WHERE {side}_type = ? AND {side}_id IN {gone}", (content_type, entry)
            )
    db.execute("DELETE FROM task_result WHERE folder IN (SELECT id FROM folder WHERE trash = ?)", (entry,))
    for table in ("folder_item", "dataset", "series", "exam", "patient", "folder"):
        db.execute(f"DELETE FROM {table} WHERE trash = ?", (entry,))
    db.execute("DELETE FROM trash_entry WHERE id = ?", (entry,))
    store = call.store
    for sha1 in sha1s:
        if db.execute("SELECT 1 FROM datafile WHERE sha1 = ? LIMIT 1", (sha1,)).fetchone() is None:
            store.after_commit(lambda sha1=sha1: store.contents.remove(sha1))  # type: ignore[misc]
