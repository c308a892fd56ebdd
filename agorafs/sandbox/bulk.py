"""Filling a sandbox with many objects, or very large ones, without uploading them.

For tests and measurements: a thousand exams with a hundred datasets each, a folder of ten thousand entries, a sparse
file of 5 GiB. Works on the store of a running server as well as on a data directory no server uses::

    store = Store(directory)
    accounts.ensure_users(store)
    project = bulk.add_project(store, "Large")
    bulk.add_exams(store, project, exams=1000, datasets=100)
    store.close()

Each function is one transaction. Names and contents are functions of the numbers, so runs are alike.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from agorafs.sandbox import objects
from agorafs.sandbox.contents import sha1_of
from agorafs.sandbox.store import Store

OTHER = 100000


@dataclass(frozen=True, slots=True)
class Added:
    """A stored datafile and where it is shown."""

    dataset: int
    datafile: int
    sha1: str
    size: int


def user_id(db: sqlite3.Connection, username: str) -> int:
    return int(db.execute("SELECT id FROM user WHERE username = ?", (username,)).fetchone()["id"])


def add_project(
    store: Store, name: str, *, owner: str = "admin", members: Sequence[tuple[str, int]] = ()
) -> int:
    """Create a project; *members* are (user name, role)."""
    with store.transaction() as db:
        project = objects.create_project(db, store.now(), name, owner=user_id(db, owner))
        for username, role in members:
            objects.add_member(db, project, user_id(db, username), role)
    return project


def root_folder(store: Store, project: int) -> int:
    with store.snapshot() as db:
        return int(
            db.execute("SELECT root_folder FROM project WHERE id = ?", (project,)).fetchone()["root_folder"]
        )


def add_exams(
    store: Store, project: int, *, exams: int, datasets: int, series: int = 1, owner: str = "admin"
) -> None:
    """Add *exams* exams of *series* series with *datasets* datasets each, one small file per dataset.

    Exam ``n`` is named ``exam-0000n`` and belongs to patient ``patient-0000n``.
    """
    now = store.now()
    contents = [(b"dataset %d\n" % number) for number in range(datasets)]
    with store.transaction() as db:
        sha1s = [store.contents.add_bytes(content) for content in contents]
        owner_id = user_id(db, owner)
        for number in range(exams):
            label = f"{number:05d}"
            patient = objects.create_patient(db, now, f"patient-{label}", patient_id=f"P{project}-{label}")
            exam = objects.create_exam(
                db,
                now,
                project,
                f"exam-{label}",
                uid=f"2.25.{project}.{number}",
                owner=owner_id,
                patient=patient,
                start_time="2024-01-15T08:00:00Z",
            )
            for position in range(series):
                serie = objects.create_series(
                    db,
                    now,
                    exam,
                    f"series-{position:03d}",
                    uid=f"2.25.{project}.{number}.{position}",
                    acquisition_number=position,
                )
                for index, (content, sha1) in enumerate(zip(contents, sha1s, strict=True)):
                    name = f"data-{index:03d}.bin"
                    dataset = objects.create_dataset(db, now, project, name, type_=OTHER, series=serie)
                    objects.create_datafile(db, now, dataset, name, size=len(content), sha1=sha1)


def add_files(store: Store, folder: int, files: Iterable[tuple[str, bytes]]) -> list[Added]:
    """Add loose files, (name, content), to a folder: one dataset each."""
    now = store.now()
    added = []
    with store.transaction() as db:
        for name, content in files:
            sha1 = store.contents.add_bytes(content)
            added.append(_add_file(db, now, folder, name, len(content), sha1))
    return added


def adopt_file(store: Store, folder: int, name: str, path: Path, sha1: str | None = None) -> Added:
    """Add a loose file whose content is linked, not copied, from *path*; sparse files stay sparse.

    Without *sha1* the file is hashed, which reads all of it. A given *sha1* is believed.
    """
    sha1 = sha1_of(path) if sha1 is None else sha1
    with store.transaction() as db:
        stored = store.contents.adopt(path, sha1, keep_source=True)
        return _add_file(db, store.now(), folder, name, stored.stat().st_size, sha1)


def _add_file(db: sqlite3.Connection, now: str, folder: int, name: str, size: int, sha1: str) -> Added:
    project = db.execute("SELECT project FROM folder WHERE id = ?", (folder,)).fetchone()["project"]
    dataset = objects.create_dataset(db, now, project, name, type_=OTHER, folder=folder)
    return Added(dataset, objects.create_datafile(db, now, dataset, name, size=size, sha1=sha1), sha1, size)


def add_folders(store: Store, parent: int, names: Iterable[str]) -> list[int]:
    """Add subfolders, whose names must be free, and return their ids."""
    with store.transaction() as db:
        now = store.now()
        return [objects.create_folder(db, now, parent, name)[0] for name in names]
