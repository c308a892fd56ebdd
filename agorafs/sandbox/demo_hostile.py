"""Objects no client can create but every client must survive.

An archive that has lived for years holds names from other systems and versions: paths that climb out of the
directory, names with nothing in them, entries of kinds a client has never heard of. The API refuses to make
them (or the import cleans them), so they are written to the store.

Threads.  Blocks on the store; call it off the event loop.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from agorafs.sandbox import objects
from agorafs.sandbox.analysis.datasets import DatasetType
from agorafs.sandbox.store import Store

# Names of the files of one dataset. Several mean the same place once they have been made harmless.
HOSTILE_FILENAMES = (
    "../../etc/passwd",
    "/etc/passwd",
    "/etc/shadow",
    "..\\..\\boot.ini",
    "C:\\Windows\\win.ini",
    "a//b/./c.txt",
    "a/b/c.txt",
    "..",
    ".",
    "",
    "/",
    "dir/file.txt",
    "dir\\file.txt",
    "same.txt",
    "./same.txt",
    "tree",
    "tree/leaf.txt",
    "nul\0byte.txt",
    "line\nbreak.txt",
    " ",
    "~/.ssh/authorized_keys",
)


def add_hostile_objects(store: Store, folder: int) -> None:
    """Put the objects into *folder* and its project, in one transaction."""
    with store.transaction() as db:
        now = store.now()
        row = db.execute("SELECT project FROM folder WHERE id = ?", (folder,)).fetchone()
        project = int(row["project"])
        owner = int(db.execute("SELECT owner FROM project WHERE id = ?", (project,)).fetchone()["owner"])
        _add_dataset(store, db, folder, project, "hostile paths", HOSTILE_FILENAMES)
        for name in ("a/b", "../../etc/passwd", "..", "", "tab\there.txt"):
            _add_dataset(store, db, folder, project, name, (name,))
        _add_dataset(store, db, folder, project, "DICOM", ("DICOM/IM_0001", "DICOM/IM_0002"))
        _add_dataset(store, db, folder, project, "no files", ())
        objects.add_item(
            db,
            now,
            folder,
            "workbook",
            1,
            is_link=False,
            content={"id": 1, "name": "Workbook 1", "dataset": 1},
        )
        nameless = objects.create_exam(db, now, project, "", uid="nameless", owner=owner)
        series = objects.create_series(db, now, nameless, "", uid="nameless.1")
        dataset = objects.create_dataset(db, now, project, "..", type_=DatasetType.OTHER, series=series)
        _add_file(store, db, dataset, "../climb.txt")


def _add_dataset(
    store: Store, db: sqlite3.Connection, folder: int, project: int, name: str, filenames: Sequence[str]
) -> None:
    dataset = objects.create_dataset(db, store.now(), project, name, type_=DatasetType.OTHER, folder=folder)
    for filename in filenames:
        _add_file(store, db, dataset, filename)


def _add_file(store: Store, db: sqlite3.Connection, dataset: int, filename: str) -> None:
    # Each file says what it is called, so that a reader who gets the wrong one notices.
    content = f"{dataset}: {filename!r}\n".encode()
    sha1 = store.contents.add_bytes(content)
    objects.create_datafile(
        db, store.now(), dataset, filename, size=len(content), sha1=sha1, mime_type="text/plain"
    )
