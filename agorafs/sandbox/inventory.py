"""Everything a server holds, as one JSON value that is equal for two servers that hold the same.

Why.  Whether two ways of uploading come to the same can only be seen by comparing what arrived. So neither ids
nor dates nor the order in which things were made are in here; every list is sorted by what it holds.

Shape.  See ``everything``. A folder's path is that of the names from the root folder, joined by ``/``; the root
folder's is empty. Folders of the same path (names may hold slashes) are one entry with the items of all.

Place.  Behind the side door only; the caller gives the connection of a ``Store.snapshot``.
"""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

Json = Any

_SOURCES = {"folder": "folder", "exam": "live_exam", "serie": "live_series", "dataset": "live_dataset"}
_Described = dict[tuple[str, int], list[Json]]


def everything(db: sqlite3.Connection) -> Json:
    """Return the whole archive.

    ``projects``: by name (a second one of the same name is ``name (2)``), each with

    * ``folders``: path → items, ``{"kind", "name", "is_link"}`` with the object's description for a dataset
      (``dataset``) and the ``uid`` for an exam or a series;
    * ``exams``: ``{"uid", "name", "locked", "patient", "series": [{"uid", "name", "datasets"}], "datasets"}``;
    * ``tags``: the labels of the project's tag definitions.

    A dataset is ``{"name", "type", "datafiles": [{"name", "size", "sha1"}]}``. Folders' items, exams, series and
    datasets carry ``tags``, ``rating`` and ``parameters`` (set name → parameters, those that users made).

    ``trash``: one entry per deletion, ``{"project", "kind", "name", "datafiles"}``.
    """
    reader = _Reader(db)
    projects: dict[str, Json] = {}
    for row in db.execute("SELECT * FROM project WHERE trash IS NULL ORDER BY id").fetchall():
        name, number = row["name"], 2
        while name in projects:
            name, number = f"{row['name']} ({number})", number + 1
        projects[name] = reader.project(row)
    return {"projects": projects, "trash": reader.trash()}


def _in_order(values: Iterable[Json]) -> list[Json]:
    return sorted(values, key=lambda value: json.dumps(value, sort_keys=True))


class _Reader:
    """What descriptions of all objects are made from, read once."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._tags = self._described(
            "SELECT i.tagged_object_content_type AS kind, i.tagged_object_id AS id, t.label AS value "
            "FROM tag_instance i JOIN tag_definition t ON t.id = i.tag_definition"
        )
        self._ratings = self._described("SELECT content_type AS kind, object_id AS id, value FROM rating")
        self._parameters: dict[tuple[str, int], dict[str, Json]] = defaultdict(dict)
        for row in db.execute("SELECT * FROM parameter_set WHERE read_only = 0 ORDER BY id"):
            self._parameters[row["content_type"], row["object_id"]][row["name"]] = json.loads(
                row["parameters"]
            )
        self._datafiles: dict[int, list[Json]] = defaultdict(list)
        for row in db.execute("SELECT * FROM datafile"):
            self._datafiles[row["dataset"]].append(
                {"name": row["original_filename"], "size": row["size"], "sha1": row["sha1"]}
            )

    def _described(self, query: str) -> _Described:
        found: _Described = defaultdict(list)
        for row in self._db.execute(query):
            found[row["kind"], row["id"]].append(row["value"])
        return found

    def _description(self, kind: str, id_: int) -> Json:
        ratings = self._ratings.get((kind, id_), [None])
        return {
            "tags": sorted(self._tags.get((kind, id_), [])),
            "rating": ratings[0],
            "parameters": self._parameters.get((kind, id_), {}),
        }

    def project(self, project: sqlite3.Row) -> Json:
        folders: dict[str, list[Json]] = {}
        self._add_folder(folders, "", project["root_folder"])
        exams = self._db.execute("SELECT * FROM live_exam WHERE project = ?", (project["id"],)).fetchall()
        labels = self._db.execute("SELECT label FROM tag_definition WHERE project = ?", (project["id"],))
        return {
            "folders": {path: _in_order(items) for path, items in sorted(folders.items())},
            "exams": _in_order(self._exam(exam) for exam in exams),
            "tags": sorted(row["label"] for row in labels),
        }

    def _add_folder(self, folders: dict[str, list[Json]], path: str, folder: int) -> None:
        items = folders.setdefault(path, [])
        for row in self._db.execute("SELECT * FROM live_item WHERE folder = ?", (folder,)).fetchall():
            kind, id_ = row["content_type"], row["object_id"]
            item = {"kind": kind, "is_link": bool(row["is_link"])}
            if kind not in _SOURCES:  # a kind this server has no table for
                items.append({**item, "name": json.loads(row["content"] or "{}").get("name")})
                continue
            shown = self._db.execute(f"SELECT * FROM {_SOURCES[kind]} WHERE id = ?", (id_,)).fetchone()
            if shown is None:  # the API leaves it out, too
                continue
            item |= {"name": shown["name"], **self._description(kind, id_)}
            if kind == "dataset":
                item["dataset"] = self._dataset(shown)
            elif kind in ("exam", "serie"):
                item["uid"] = shown["uid"]
            elif not row["is_link"]:
                self._add_folder(folders, f"{path}/{shown['name']}" if path else shown["name"], id_)
            items.append(item)

    def _dataset(self, row: sqlite3.Row) -> Json:
        return {
            "name": row["name"],
            "type": row["type"],
            "datafiles": _in_order(self._datafiles[row["id"]]),
            **self._description("dataset", row["id"]),
        }

    def _datasets(self, column: str, owner: int) -> list[Json]:
        rows = self._db.execute(f"SELECT * FROM live_dataset WHERE {column} = ?", (owner,)).fetchall()
        return _in_order(self._dataset(row) for row in rows)

    def _exam(self, row: sqlite3.Row) -> Json:
        series = self._db.execute("SELECT * FROM live_series WHERE exam = ?", (row["id"],)).fetchall()
        patient = self._db.execute("SELECT * FROM patient WHERE id = ?", (row["patient"],)).fetchone()
        return {
            "uid": row["uid"],
            "name": row["name"],
            "locked": bool(row["locked"]),
            "patient": None if patient is None else patient["patient_id"],
            "series": _in_order(
                {
                    "uid": one["uid"],
                    "name": one["name"],
                    "datasets": self._datasets("series", one["id"]),
                    **self._description("serie", one["id"]),
                }
                for one in series
            ),
            "datasets": self._datasets("exam", row["id"]),
            **self._description("exam", row["id"]),
        }

    def trash(self) -> list[Json]:
        entries = self._db.execute(
            "SELECT t.*, p.name AS project_name FROM trash_entry t LEFT JOIN project p ON p.id = t.project"
        ).fetchall()
        return _in_order(
            {
                "project": entry["project_name"],
                "kind": entry["content_type"],
                "name": entry["name"],
                "datafiles": _in_order(
                    file
                    for dataset in self._db.execute("SELECT id FROM dataset WHERE trash = ?", (entry["id"],))
                    for file in self._datafiles[dataset["id"]]
                ),
            }
            for entry in entries
        )
