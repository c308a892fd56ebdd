"""Rows to the JSON that the archive sends: one function per kind, each taking all rows of an answer at once.

Why at once.  A tree of 1,000 exams with 100 datasets each is then a handful of queries, not 100,000.

Field names are those of the fixtures published with the vendor's Python connector; fields whose meaning is
unknown carry the fixtures' values.
"""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Sequence

from agorafs.sandbox.calls import Call, Json, Row

IMAGE_TYPES = (101, 202, 300, 600, 601, 602)


def id_list(values: Iterable[int]) -> str:
    """Return ids as a parameter for ``IN (SELECT value FROM json_each(?))``, which has no limit on their number."""
    return json.dumps(list(values))


def users(call: Call, rows: Sequence[Row]) -> list[Json]:
    return [
        {
            "id": row["id"],
            "username": row["username"],
            "email": row["email"],
            "first_name": row["first_name"],
            "last_name": row["last_name"],
            "is_superuser": bool(row["is_superuser"]),
            "institution": row["institution"],
        }
        for row in rows
    ]


def projects(call: Call, rows: Sequence[Row]) -> list[Json]:
    ids = id_list(row["id"] for row in rows)
    members: dict[int, list[Json]] = defaultdict(list)
    for row in call.db.execute(
        "SELECT * FROM membership WHERE project IN (SELECT value FROM json_each(?)) ORDER BY id", (ids,)
    ):
        members[row["project"]].append(
            {"id": row["id"], "user": row["user"], "role": row["role"], "project": row["project"]}
        )
    counts = dict(
        call.db.execute(
            "SELECT project, COUNT(*) FROM live_exam WHERE project IN (SELECT value FROM json_each(?)) "
            "GROUP BY project",
            (ids,),
        ).fetchall()
    )
    return [
        {
            "id": row["id"],
            "name": row["name"],
            "description": row["description"],
            "memberships": members[row["id"]],
            "project_memberships": [],
            "root_folder": row["root_folder"],
            "owner": row["owner"],
            "is_myagora": bool(row["is_myagora"]),
            "special_function": None,
            "anon_settings": None,
            "anon_profile_set": None,
            "created_date": row["created_date"],
            "exam_count": counts.get(row["id"], 0),
            "settings": {},
            "has_autoroutes": False,
        }
        for row in rows
    ]


def folders(call: Call, rows: Sequence[Row]) -> list[Json]:
    return [
        {
            "id": row["id"],
            "name": row["name"],
            "project": row["project"],
            "queries": [],
            "locked": bool(row["locked"]),
        }
        for row in rows
    ]


def exams(call: Call, rows: Sequence[Row]) -> list[Json]:
    """Exams as they are in lists and items: ``patient`` is an id."""
    return [
        {
            "id": row["id"],
            "owner": row["owner"],
            "patient": row["patient"],
            "project": row["project"],
            "uid": row["uid"],
            "name": row["name"],
            "created_date": row["created_date"],
            "start_time": row["start_time"],
            "description": row["description"],
            "scanner_name": row["scanner_name"],
            "vendor": row["vendor"],
            "is_anonymized": False,
            "locked": bool(row["locked"]),
            "valid": None,
            "messages": [],
        }
        for row in rows
    ]


def exam(call: Call, row: Row) -> Json:
    """A single exam: ``patient`` is the whole patient (switch ``exam-patient``)."""
    body = exams(call, [row])[0]
    if row["patient"] is not None and call.switches.text("exam-patient") == "nested":
        patient = call.db.execute("SELECT * FROM patient WHERE id = ?", (row["patient"],)).fetchall()
        body["patient"] = patients(call, patient)[0]
    return body


def series(call: Call, rows: Sequence[Row]) -> list[Json]:
    ids = id_list(row["id"] for row in rows)
    types: dict[int, list[int]] = defaultdict(list)
    for row in call.db.execute(
        "SELECT DISTINCT series, type FROM dataset WHERE trash IS NULL "
        "AND series IN (SELECT value FROM json_each(?)) ORDER BY type",
        (ids,),
    ):
        types[row["series"]].append(row["type"])
    related = {
        number
        for row in call.db.execute(
            "SELECT from_id, to_id FROM relation WHERE from_type = 'serie' AND to_type = 'serie'"
        )
        for number in row
    }
    with_results = {
        row["object_id"]
        for row in call.db.execute(
            "SELECT object_id FROM task_result r JOIN folder f ON f.id = r.folder "
            "WHERE r.content_type = 'serie' AND f.trash IS NULL"
        )
    }
    return [
        {
            "id": row["id"],
            "exam": row["exam"],
            "project": row["project"],
            "uid": row["uid"],
            "name": row["name"],
            "creator": None,
            "time": row["time"],
            "acquisition_number": row["acquisition_number"],
            "is_refscan": False,
            "is_coil_survey": False,
            "locked": bool(row["locked"]),
            "valid": None,
            "messages": [],
            "thumbnails": [],
            "dataset_types": types[row["id"]],
            "has_relations": row["id"] in related,
            "has_task_results": row["id"] in with_results,
            "created_date": row["created_date"],
            "modified_date": row["modified_date"],
        }
        for row in rows
    ]


def datasets(call: Call, rows: Sequence[Row], *, with_datafiles: bool) -> list[Json]:
    files: dict[int, list[Json]] = defaultdict(list)
    if with_datafiles:
        for row in call.db.execute(
            "SELECT * FROM datafile WHERE dataset IN (SELECT value FROM json_each(?)) ORDER BY id",
            (id_list(row["id"] for row in rows),),
        ):
            files[row["dataset"]].append(datafile(row))
    bodies = []
    for row in rows:
        body = {
            "id": row["id"],
            "created_date": row["created_date"],
            "modified_date": row["modified_date"],
            "serie": row["series"],
            "exam": row["exam"],
            "project": row["project"],
            "name": row["name"],
            "type": row["type"],
            "mime_type": row["mime_type"],
            "total_size": row["total_size"],
            "thumbnails": [],
            "version": None,
            "is_viewable": row["type"] in IMAGE_TYPES,
            "locked": bool(row["locked"]),
        }
        if with_datafiles:
            body["datafiles"] = files[row["id"]]
        bodies.append(body)
    return bodies


def datasets_of_version(call: Call, rows: Sequence[Row]) -> list[Json]:
    """Datasets with datafiles on v1 (switch ``datafiles-v1``) and without on v2."""
    return datasets(call, rows, with_datafiles=call.version == 1 and call.switches.is_on("datafiles-v1"))


def datafile(row: Row) -> Json:
    return {
        "id": row["id"],
        "type": 1,
        "relative_path": row["original_filename"],
        "original_filename": row["original_filename"],
        "size": row["size"],
        "sha1": row["sha1"],
        "is_anonymized": False,
        "mime_type": row["mime_type"],
        "created_date": row["created_date"],
        "modified_date": row["modified_date"],
    }


def datafiles(call: Call, rows: Sequence[Row]) -> list[Json]:
    return [{**datafile(row), "dataset": row["dataset"]} for row in rows]


def patients(call: Call, rows: Sequence[Row]) -> list[Json]:
    recent = dict(
        call.db.execute(
            "SELECT patient, MAX(start_time) FROM live_exam WHERE patient IN (SELECT value FROM json_each(?)) "
            "GROUP BY patient",
            (id_list(row["id"] for row in rows),),
        ).fetchall()
    )
    return [
        {
            "id": row["id"],
            "permissions": {"write": True, "read": True},
            "most_recent_exam_date": recent.get(row["id"]),
            "created_date": row["created_date"],
            "modified_date": row["modified_date"],
            "name": row["name"],
            "patient_id": row["patient_id"],
            "birth_date": row["birth_date"],
            "sex": row["sex"],
            "weight": row["weight"],
            "anonymous": False,
            "creator": None,
            "is_anonymized": False,
            "is_main": True,
        }
        for row in rows
    ]


def items(call: Call, rows: Sequence[Row]) -> list[Json]:
    """Folder items with their objects. An item whose object is gone is left out."""
    wanted: dict[str, list[int]] = defaultdict(list)
    for row in rows:
        wanted[row["content_type"]].append(row["object_id"])
    objects: dict[tuple[str, int], Json] = {}
    for content_type, ids in wanted.items():
        for body in _objects(call, content_type, ids):
            objects[content_type, body["id"]] = body
    bodies = []
    for row in rows:
        content = (
            json.loads(row["content"])
            if row["content"] is not None
            else objects.get((row["content_type"], row["object_id"]))
        )
        if content is not None:
            bodies.append(
                {
                    "id": row["id"],
                    "folder": row["folder"],
                    "object_id": row["object_id"],
                    "content_type": row["content_type"],
                    "modified_date": row["modified_date"],
                    "is_link": bool(row["is_link"]),
                    "is_temporary": False,
                    "content_object": content,
                }
            )
    return bodies


_SOURCES = {
    "folder": "(SELECT * FROM folder WHERE trash IS NULL)",
    "exam": "live_exam",
    "serie": "live_series",
    "dataset": "live_dataset",
    "patient": "(SELECT * FROM patient WHERE trash IS NULL)",
}


def _objects(call: Call, content_type: str, ids: Sequence[int]) -> list[Json]:
    source = _SOURCES.get(content_type)
    if source is None:
        return []
    rows = call.db.execute(
        f"SELECT * FROM {source} WHERE id IN (SELECT value FROM json_each(?))", (id_list(ids),)
    ).fetchall()
    if content_type == "dataset":
        return datasets_of_version(call, rows)
    serialisers = {"folder": folders, "exam": exams, "serie": series, "patient": patients}
    return serialisers[content_type](call, rows)


def parameter_set(row: Row, *, with_parameters: bool) -> Json:
    return {
        "id": row["id"],
        "name": row["name"],
        "read_only": bool(row["read_only"]),
        "parameters": json.loads(row["parameters"]) if with_parameters else [],
    }


# -- trees -------------------------------------------------------------------------------------------


def exam_trees(call: Call, rows: Sequence[Row]) -> list[Json]:
    """Exams with ``series`` (each with ``datasets``) and ``datasets``."""
    ids = id_list(row["id"] for row in rows)
    series_rows = call.db.execute(
        "SELECT * FROM live_series WHERE exam IN (SELECT value FROM json_each(?)) ORDER BY id", (ids,)
    ).fetchall()
    dataset_rows = call.db.execute(
        "SELECT * FROM live_dataset WHERE exam IN (SELECT value FROM json_each(?)) ORDER BY id", (ids,)
    ).fetchall()
    trees = series_trees(call, series_rows)
    series_of: dict[int, list[Json]] = defaultdict(list)
    for tree in trees:
        series_of[tree["exam"]].append(tree)
    datasets_of: dict[int, list[Json]] = defaultdict(list)
    for body in _tree_datasets(call, dataset_rows):
        datasets_of[body["exam"]].append(body)
    return [
        {**body, "series": series_of[body["id"]], "datasets": datasets_of[body["id"]]}
        for body in exams(call, rows)
    ]


def series_trees(call: Call, rows: Sequence[Row]) -> list[Json]:
    dataset_rows = call.db.execute(
        "SELECT * FROM live_dataset WHERE series IN (SELECT value FROM json_each(?)) ORDER BY id",
        (id_list(row["id"] for row in rows),),
    ).fetchall()
    datasets_of: dict[int, list[Json]] = defaultdict(list)
    for body in _tree_datasets(call, dataset_rows):
        datasets_of[body["serie"]].append(body)
    return [{**body, "datasets": datasets_of[body["id"]]} for body in series(call, rows)]


def _tree_datasets(call: Call, rows: Sequence[Row]) -> list[Json]:
    return datasets(call, rows, with_datafiles=call.switches.is_on("tree-datafiles"))


def folder_tree(call: Call, folder: Row) -> Json:
    """A folder-item-like object whose folders carry ``items``.

    A linked folder carries an empty list: it may be one of its own ancestors, and its real place shows it.
    """
    own_item = call.db.execute(
        "SELECT * FROM live_item WHERE content_type = 'folder' AND object_id = ? AND is_link = 0",
        (folder["id"],),
    ).fetchone()
    content = folders(call, [folder])[0]
    root = (
        items(call, [own_item])[0]
        if own_item is not None
        else {"content_type": "folder", "object_id": folder["id"]}
    )
    root["content_object"] = content
    level = [content]
    while level:
        level = _fill_level(call, level)
    return root


def _fill_level(call: Call, parents: Sequence[Json]) -> list[Json]:
    """Give each folder of one depth its items; return the folders of the next depth."""
    rows = call.db.execute(
        "SELECT * FROM live_item WHERE folder IN (SELECT value FROM json_each(?)) ORDER BY id",
        (id_list(parent["id"] for parent in parents),),
    ).fetchall()
    items_of: dict[int, list[Json]] = defaultdict(list)
    next_level = []
    for item in _tree_items(call, rows):
        items_of[item["folder"]].append(item)
        if item["content_type"] == "folder":
            item["content_object"]["items"] = []
            if not item["is_link"]:
                next_level.append(item["content_object"])
    for parent in parents:
        parent["items"] = items_of[parent["id"]]
    return next_level


def _tree_items(call: Call, rows: Sequence[Row]) -> list[Json]:
    bodies = items(call, rows)
    loose = [body for body in bodies if body["content_type"] == "dataset"]
    dataset_rows = call.db.execute(
        "SELECT * FROM live_dataset WHERE id IN (SELECT value FROM json_each(?))",
        (id_list(body["object_id"] for body in loose),),
    ).fetchall()
    contents = {body["id"]: body for body in _tree_datasets(call, dataset_rows)}
    for body in loose:
        body["content_object"] = contents[body["object_id"]]
    for body in bodies:
        # Two items may show one object; each needs its own copy to carry its own "items".
        body["content_object"] = dict(body["content_object"])
    return bodies


def breadcrumb(db: sqlite3.Connection, folder: int) -> list[Json]:
    """The way from the project's root folder to *folder*, root first."""
    crumbs: list[Json] = []
    current: int | None = folder
    while current is not None:
        row = db.execute("SELECT id, name FROM folder WHERE id = ?", (current,)).fetchone()
        crumbs.append({"object_id": row["id"], "name": row["name"]})
        parent = db.execute(
            "SELECT folder FROM live_item WHERE content_type = 'folder' AND object_id = ? AND is_link = 0",
            (current,),
        ).fetchone()
        current = None if parent is None else parent["folder"]
    crumbs.reverse()
    return crumbs
