"""Copying and moving exams, series and datasets between projects.

Decisions, where the real server's behaviour is unknown:

* A copy has new ids and shares the contents. Parameter sets come along, and relations between two objects that are
  both copied; tags, ratings and workbooks are what people think of the original, and stay with it.
* An exam or series keeps its UID unless the target project has one of that UID already: a UID names one thing in
  a project. Otherwise it gets a new one.
* A copied series needs an exam. It joins the one with the UID of its own exam, where the target project has that;
  otherwise an exam like its own is made, which holds nothing else.
* A moved exam keeps its ids and all that describes it, but for the tags of the project it leaves. Links do not cross
  projects: those of the old project lose what they showed.

Place.  Below the endpoints, which decide whether it may be done. Called inside a transaction.
"""

from __future__ import annotations

import sqlite3
import uuid

from agorafs.sandbox import objects
from agorafs.sandbox.serialise import id_list

Row = sqlite3.Row


def copy_dataset(
    db: sqlite3.Connection,
    now: str,
    source: Row,
    project: int,
    *,
    series: int | None = None,
    exam: int | None = None,
    folder: int | None = None,
) -> int:
    """Copy a dataset into a series, to an exam or into a folder (exactly one of them); return the new id."""
    copy = objects.create_dataset(
        db,
        now,
        project,
        source["name"],
        type_=source["type"],
        mime_type=source["mime_type"],
        series=series,
        exam=exam,
        folder=folder,
    )
    for file in db.execute(
        "SELECT * FROM datafile WHERE dataset = ? ORDER BY id", (source["id"],)
    ).fetchall():
        objects.create_datafile(
            db,
            now,
            copy,
            file["original_filename"],
            size=file["size"],
            sha1=file["sha1"],
            mime_type=file["mime_type"],
        )
    _copy_parameter_sets(db, "dataset", source["id"], copy)
    return copy


def copy_series(db: sqlite3.Connection, now: str, user: int, source: Row, project: int) -> int:
    """Copy a series into another project, or beside itself in its own; return the new id.

    The caller has checked the exam that ``exam_for_series`` names.
    """
    exam = exam_for_series(db, source, project)
    if exam is None:
        own = db.execute("SELECT * FROM exam WHERE id = ?", (source["exam"],)).fetchone()
        exam = _new_exam(db, now, user, own, project)
    return _copy_series_into(db, now, source, exam, project)


def exam_for_series(db: sqlite3.Connection, source: Row, project: int) -> int | None:
    """Return the exam of *project* that a copy of the series would join; None when one would be made."""
    if source["project"] == project:
        return int(source["exam"])
    row = db.execute(
        "SELECT id FROM live_exam WHERE project = ? AND uid = (SELECT uid FROM exam WHERE id = ?) ORDER BY id",
        (project, source["exam"]),
    ).fetchone()
    return None if row is None else int(row["id"])


def copy_exam(db: sqlite3.Connection, now: str, user: int, source: Row, project: int) -> int:
    """Copy an exam with all below it; return the new id."""
    copy = _new_exam(db, now, user, source, project)
    copies: dict[int, int] = {}
    for series in db.execute(
        "SELECT * FROM live_series WHERE exam = ? ORDER BY id", (source["id"],)
    ).fetchall():
        copies[series["id"]] = _copy_series_into(db, now, series, copy, project)
    for dataset in db.execute(
        "SELECT * FROM live_dataset WHERE exam = ? ORDER BY id", (source["id"],)
    ).fetchall():
        copy_dataset(db, now, dataset, project, exam=copy)
    for row in db.execute(
        "SELECT from_id, to_id FROM relation WHERE from_type = 'serie' AND to_type = 'serie' "
        "AND from_id IN (SELECT value FROM json_each(?1)) AND to_id IN (SELECT value FROM json_each(?1))",
        (id_list(copies),),
    ).fetchall():
        objects.add_relation(db, "serie", copies[row["from_id"]], "serie", copies[row["to_id"]])
    return copy


def move_exam(db: sqlite3.Connection, source: Row, project: int) -> None:
    """Move an exam with all below it into another project."""
    exam, old = source["id"], source["project"]
    if old == project:
        return
    series = id_list(row["id"] for row in db.execute("SELECT id FROM live_series WHERE exam = ?", (exam,)))
    datasets = id_list(
        row["id"] for row in db.execute("SELECT id FROM live_dataset WHERE owner_exam = ?", (exam,))
    )
    for content_type, ids in (("exam", id_list((exam,))), ("serie", series), ("dataset", datasets)):
        db.execute(
            "DELETE FROM folder_item WHERE content_type = ? AND object_id IN (SELECT value FROM json_each(?))",
            (content_type, ids),
        )
        db.execute(
            "DELETE FROM tag_instance WHERE tagged_object_content_type = ? "
            "AND tagged_object_id IN (SELECT value FROM json_each(?)) "
            "AND tag_definition IN (SELECT id FROM tag_definition WHERE project = ?)",
            (content_type, ids, old),
        )
    db.execute("UPDATE exam SET project = ? WHERE id = ?", (project, exam))
    db.execute(
        "UPDATE dataset SET project = ? WHERE id IN (SELECT value FROM json_each(?))", (project, datasets)
    )


def _new_exam(db: sqlite3.Connection, now: str, user: int, source: Row, project: int) -> int:
    """Make an exam like *source* with nothing in it."""
    copy = objects.create_exam(
        db,
        now,
        project,
        source["name"],
        uid=_uid(db, "live_exam", source["uid"], project),
        owner=user,
        patient=source["patient"],
        start_time=source["start_time"],
        description=source["description"],
        scanner_name=source["scanner_name"],
        vendor=source["vendor"],
    )
    _copy_parameter_sets(db, "exam", source["id"], copy)
    return copy


def _copy_series_into(db: sqlite3.Connection, now: str, source: Row, exam: int, project: int) -> int:
    copy = objects.create_series(
        db,
        now,
        exam,
        source["name"],
        uid=_uid(db, "live_series", source["uid"], project),
        time=source["time"],
        acquisition_number=source["acquisition_number"],
    )
    _copy_parameter_sets(db, "serie", source["id"], copy)
    for dataset in db.execute(
        "SELECT * FROM live_dataset WHERE series = ? ORDER BY id", (source["id"],)
    ).fetchall():
        copy_dataset(db, now, dataset, project, series=copy)
    return copy


def _uid(db: sqlite3.Connection, source: str, uid: str, project: int) -> str:
    row = db.execute(f"SELECT 1 FROM {source} WHERE project = ? AND uid = ?", (project, uid)).fetchone()
    return uid if row is None else f"2.25.{uuid.uuid4().int}"


def _copy_parameter_sets(db: sqlite3.Connection, content_type: str, source: int, copy: int) -> None:
    db.execute(
        "INSERT INTO parameter_set (content_type, object_id, name, read_only, parameters) "
        "SELECT content_type, ?, name, read_only, parameters FROM parameter_set "
        "WHERE content_type = ? AND object_id = ? ORDER BY id",
        (copy, content_type, source),
    )
