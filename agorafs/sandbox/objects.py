"""Making archive objects: projects, folders, items, exams, series, datasets, datafiles.

Place.  Below the endpoints and the importer, which decide *whether* something may be made; above the tables.
Every function takes the connection of an open ``Store.transaction`` first.

Units.  ``now`` is the store's timestamp text. Kinds are the archive's content types (``serie``, not
``series``).
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

MANAGER, SCIENTIST, USER, OBSERVER = 1, 2, 3, 4

ROLES = {MANAGER: "manager", SCIENTIST: "scientist", USER: "user", OBSERVER: "observer"}

VENDORS = {1: "Unknown", 2: "Philips", 3: "Bruker", 4: "Siemens", 5: "GE"}


def insert(db: sqlite3.Connection, table: str, values: Mapping[str, Any]) -> int:
    """Insert one row and return its id. *table* and the keys are names from this package, never from outside."""
    columns = ", ".join(values)
    marks = ", ".join("?" * len(values))
    cursor = db.execute(f"INSERT INTO {table} ({columns}) VALUES ({marks})", tuple(values.values()))
    assert cursor.lastrowid is not None
    return cursor.lastrowid


def vendor_number(name: str) -> int:
    """Return the number of a scanner vendor; 1 (Unknown) for a name that is none."""
    for number, vendor in VENDORS.items():
        if vendor.lower() == name.lower():
            return number
    return 1


def create_user(
    db: sqlite3.Connection, now: str, username: str, password_hash: str, *, api_key: str | None, **fields: Any
) -> int:
    """Create a user together with the private project, My Agora."""
    user = insert(db, "user", {"username": username, "password": password_hash, "api_key": api_key, **fields})
    create_project(db, now, username, owner=user, is_myagora=True)
    return user


def create_project(
    db: sqlite3.Connection,
    now: str,
    name: str,
    *,
    owner: int,
    description: str = "",
    is_myagora: bool = False,
) -> int:
    """Create a project with its root folder; the owner becomes its manager."""
    project = insert(
        db,
        "project",
        {
            "name": name,
            "description": description,
            "owner": owner,
            "is_myagora": int(is_myagora),
            "created_date": now,
        },
    )
    root = insert(db, "folder", {"name": name, "project": project})
    db.execute("UPDATE project SET root_folder = ? WHERE id = ?", (root, project))
    add_member(db, project, owner, MANAGER)
    return project


def add_member(db: sqlite3.Connection, project: int, user: int, role: int) -> int:
    """Give *user* a role in *project*, replacing the one held before."""
    db.execute(
        "INSERT INTO membership (project, user, role) VALUES (?, ?, ?) "
        "ON CONFLICT (project, user) DO UPDATE SET role = excluded.role",
        (project, user, role),
    )
    row = db.execute("SELECT id FROM membership WHERE project = ? AND user = ?", (project, user)).fetchone()
    return int(row["id"])


def subfolder(db: sqlite3.Connection, parent: int, name: str) -> int | None:
    """Return the real (not linked) subfolder of that name."""
    row = db.execute(
        "SELECT f.id FROM folder_item i JOIN folder f ON f.id = i.object_id WHERE i.folder = ? "
        "AND i.content_type = 'folder' AND i.is_link = 0 AND i.trash IS NULL AND f.name = ? LIMIT 1",
        (parent, name),
    ).fetchone()
    return None if row is None else int(row["id"])


def create_folder(db: sqlite3.Connection, now: str, parent: int, name: str) -> tuple[int, int]:
    """Create a subfolder and return (folder id, folder item id). The name must be free."""
    project = db.execute("SELECT project FROM folder WHERE id = ?", (parent,)).fetchone()["project"]
    folder = insert(db, "folder", {"name": name, "project": project})
    return folder, add_item(db, now, parent, "folder", folder, is_link=False)


def ensure_folders(db: sqlite3.Connection, now: str, parent: int, names: Sequence[str]) -> int:
    """Return the folder at the end of a chain of names below *parent*, creating what is missing."""
    for name in names:
        found = subfolder(db, parent, name)
        parent = create_folder(db, now, parent, name)[0] if found is None else found
    return parent


def add_item(
    db: sqlite3.Connection,
    now: str,
    folder: int,
    content_type: str,
    object_id: int,
    *,
    is_link: bool,
    content: Mapping[str, Any] | None = None,
) -> int:
    """Show an object in a folder. *content* is only for content types that have no table here."""
    return insert(
        db,
        "folder_item",
        {
            "folder": folder,
            "content_type": content_type,
            "object_id": object_id,
            "is_link": int(is_link),
            "modified_date": now,
            "content": None if content is None else json.dumps(content),
        },
    )


def add_link(db: sqlite3.Connection, now: str, folder: int, content_type: str, object_id: int) -> int:
    """Link an object into a folder; a folder that shows it as a link already keeps its one item."""
    row = db.execute(
        "SELECT id FROM folder_item WHERE folder = ? AND content_type = ? AND object_id = ? "
        "AND is_link = 1 AND trash IS NULL",
        (folder, content_type, object_id),
    ).fetchone()
    if row is not None:
        return int(row["id"])
    return add_item(db, now, folder, content_type, object_id, is_link=True)


def create_patient(
    db: sqlite3.Connection,
    now: str,
    name: str,
    *,
    patient_id: str | None = None,
    birth_date: str | None = None,
    sex: str | None = None,
    weight: float | None = None,
) -> int:
    return insert(
        db,
        "patient",
        {
            "patient_id": patient_id,
            "name": name,
            "birth_date": birth_date,
            "sex": sex,
            "weight": weight,
            "created_date": now,
            "modified_date": now,
        },
    )


def create_exam(
    db: sqlite3.Connection,
    now: str,
    project: int,
    name: str,
    *,
    uid: str,
    owner: int,
    patient: int | None = None,
    start_time: str | None = None,
    description: str = "",
    scanner_name: str = "",
    vendor: int = 1,
    locked: bool = False,
) -> int:
    return insert(
        db,
        "exam",
        {
            "project": project,
            "patient": patient,
            "owner": owner,
            "uid": uid,
            "name": name,
            "description": description,
            "scanner_name": scanner_name,
            "vendor": vendor,
            "start_time": start_time,
            "created_date": now,
            "locked": int(locked),
        },
    )


def create_series(
    db: sqlite3.Connection,
    now: str,
    exam: int,
    name: str,
    *,
    uid: str,
    time: str | None = None,
    acquisition_number: int | None = None,
) -> int:
    return insert(
        db,
        "series",
        {
            "exam": exam,
            "uid": uid,
            "name": name,
            "time": time,
            "acquisition_number": acquisition_number,
            "created_date": now,
            "modified_date": now,
        },
    )


def create_dataset(
    db: sqlite3.Connection,
    now: str,
    project: int,
    name: str,
    *,
    type_: int,
    mime_type: str = "application/octet-stream",
    series: int | None = None,
    exam: int | None = None,
    folder: int | None = None,
) -> int:
    """Create an empty dataset in a series, at an exam or in a folder (exactly one of them)."""
    assert [series, exam, folder].count(None) == 2
    dataset = insert(
        db,
        "dataset",
        {
            "project": project,
            "series": series,
            "exam": exam,
            "name": name,
            "type": type_,
            "mime_type": mime_type,
            "created_date": now,
            "modified_date": now,
        },
    )
    if folder is not None:
        add_item(db, now, folder, "dataset", dataset, is_link=False)
    return dataset


def create_datafile(
    db: sqlite3.Connection,
    now: str,
    dataset: int,
    original_filename: str,
    *,
    size: int,
    sha1: str,
    mime_type: str = "application/octet-stream",
) -> int:
    """Add a datafile whose content is (or is about to be) stored, and grow its dataset."""
    datafile = insert(
        db,
        "datafile",
        {
            "dataset": dataset,
            "original_filename": original_filename,
            "size": size,
            "sha1": sha1,
            "mime_type": mime_type,
            "created_date": now,
            "modified_date": now,
        },
    )
    db.execute(
        "UPDATE dataset SET total_size = total_size + ?, modified_date = ? WHERE id = ?", (size, now, dataset)
    )
    return datafile


def add_parameter_set(
    db: sqlite3.Connection,
    content_type: str,
    object_id: int,
    name: str,
    parameters: Sequence[Mapping[str, Any]],
    *,
    read_only: bool = True,
) -> int:
    return insert(
        db,
        "parameter_set",
        {
            "content_type": content_type,
            "object_id": object_id,
            "name": name,
            "read_only": int(read_only),
            "parameters": json.dumps(list(parameters)),
        },
    )


def add_relation(db: sqlite3.Connection, from_type: str, from_id: int, to_type: str, to_id: int) -> int:
    """Relate two exams or two series."""
    return insert(
        db, "relation", {"from_type": from_type, "from_id": from_id, "to_type": to_type, "to_id": to_id}
    )
