"""Carrying out an import plan: planned exams, series, datasets and files become rows and contents.

Runs inside one transaction: an import is there as a whole or not at all.

Decisions, where the real server's behaviour is unknown:

* Exams and series are matched by UID within the project, patients by ``patient_id``; what exists is extended.
* With an exam as target, all series and datasets go into that exam; with a series, all datasets into it.
* A dataset that already holds the same file (name and SHA-1) at the same place is kept: ``created: false``. The
  switch ``existing`` widens "the same place" to the whole project: then nothing appears at the target, and the result
  names the dataset where the content was found.
* Loose files without a target folder go into a new folder ``Import <n>`` of the project's root (of My Agora
  when there is no target at all).
* Files of studies keep their relative path in ``original_filename``, loose files their base name.
* An import that would write below a locked exam fails as a whole.
"""

from __future__ import annotations

import enum
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agorafs.sandbox import objects
from agorafs.sandbox.contents import Contents
from agorafs.sandbox.plan import (
    ImportPlan,
    PlannedDataset,
    PlannedExam,
    PlannedFile,
    PlannedParameterSet,
    PlannedPatient,
    PlannedSeries,
)

DICOM = 300


class Existing(enum.Enum):
    """Where a content counts as being there already, see the switch ``existing``."""

    HERE = "here"
    ELSEWHERE = "elsewhere"
    ANY_NAME = "any-name"


class ImportFailedError(Exception):
    """The import as a whole cannot be carried out; the text says why."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where an import goes. At most one of folder, exam, series is given; ``project`` is theirs."""

    project: int
    folder: int | None = None
    exam: int | None = None
    series: int | None = None


@dataclass
class Importer:
    """One import being carried out. ``sent_as`` maps staged files to the client's target paths."""

    db: sqlite3.Connection
    contents: Contents
    now: str
    package: int
    user: int
    target: Target
    sent_as: dict[Path, str]
    locked_refuses: bool
    existing: Existing = Existing.HERE
    datafiles: list[dict[str, Any]] = field(default_factory=list)
    touched: dict[tuple[str, int], str] = field(default_factory=dict)

    def carry_out(self, plan: ImportPlan) -> dict[str, Any]:
        """Store everything and return the result for ``import/{id}/result/``."""
        if plan.errors:
            raise ImportFailedError("; ".join(plan.errors))
        for exam in plan.exams:
            self._exam(exam)
        if plan.loose:
            self._loose(plan.loose)
        return {
            "datafiles": self.datafiles,
            "objects": [
                {"content_type": kind, "object_id": id_, "name": name}
                for (kind, id_), name in self.touched.items()
            ],
            "ignored": [{"path": path, "reason": reason} for path, reason in plan.ignored],
        }

    # -- studies -------------------------------------------------------------------------------------

    def _exam(self, planned: PlannedExam) -> None:
        exam = self._find_or_create_exam(planned)
        for series in planned.series:
            self._series(exam, series)
        for dataset in planned.datasets:
            self._study_dataset(dataset, exam=exam, series=self.target.series)

    def _find_or_create_exam(self, planned: PlannedExam) -> int:
        exam = self.target.exam or self._exam_of_target_series()
        if exam is None:
            row = self.db.execute(
                "SELECT id FROM live_exam WHERE project = ? AND uid = ? ORDER BY id",
                (self.target.project, planned.uid),
            ).fetchone()
            exam = None if row is None else int(row["id"])
        patient = None if planned.patient is None else self._patient(planned.patient)
        if exam is None:
            exam = objects.create_exam(
                self.db,
                self.now,
                self.target.project,
                planned.name,
                uid=planned.uid,
                owner=self.user,
                patient=patient,
                start_time=planned.start_time,
                description=planned.description,
                scanner_name=planned.scanner_name,
                vendor=objects.vendor_number(planned.vendor),
            )
            self.touched["exam", exam] = planned.name
            return exam
        self._touch_exam(exam)
        if self.target.exam is None and self.target.series is None:
            self.db.execute("UPDATE exam SET patient = COALESCE(patient, ?) WHERE id = ?", (patient, exam))
        return exam

    def _exam_of_target_series(self) -> int | None:
        if self.target.series is None:
            return None
        row = self.db.execute("SELECT exam FROM series WHERE id = ?", (self.target.series,)).fetchone()
        return int(row["exam"])

    def _touch_exam(self, exam: int) -> None:
        row = self.db.execute("SELECT name, locked FROM exam WHERE id = ?", (exam,)).fetchone()
        if row["locked"] and self.locked_refuses:
            raise ImportFailedError(f"The study {row['name']!r} is locked.")
        self.touched["exam", exam] = row["name"]

    def _patient(self, planned: PlannedPatient) -> int:
        """Return the patient with this ``patient_id``; what is known already is not overwritten."""
        row = self.db.execute(
            "SELECT * FROM patient WHERE patient_id = ? AND trash IS NULL ORDER BY id", (planned.patient_id,)
        ).fetchone()
        if row is None:
            return objects.create_patient(
                self.db,
                self.now,
                planned.name,
                patient_id=planned.patient_id,
                birth_date=planned.birth_date,
                sex=planned.sex,
                weight=planned.weight,
            )
        if any(
            row[name] is None and value is not None
            for name, value in (
                ("birth_date", planned.birth_date),
                ("sex", planned.sex),
                ("weight", planned.weight),
            )
        ):
            self.db.execute(
                "UPDATE patient SET birth_date = COALESCE(birth_date, ?), sex = COALESCE(sex, ?), "
                "weight = COALESCE(weight, ?), modified_date = ? WHERE id = ?",
                (planned.birth_date, planned.sex, planned.weight, self.now, row["id"]),
            )
        return int(row["id"])

    def _series(self, exam: int, planned: PlannedSeries) -> None:
        series = self.target.series
        if series is None:
            row = self.db.execute(
                "SELECT id, exam FROM live_series WHERE project = ? AND uid = ? ORDER BY id",
                (self.target.project, planned.uid),
            ).fetchone()
            if row is not None:
                series = int(row["id"])
                self._touch_exam(row["exam"])
        is_new = series is None
        if series is None:
            series = objects.create_series(
                self.db,
                self.now,
                exam,
                planned.name,
                uid=planned.uid,
                time=planned.time,
                acquisition_number=planned.acquisition_number,
            )
        self.touched["serie", series] = planned.name
        if is_new:
            self._parameter_sets("serie", series, planned.parameter_sets)
        for dataset in planned.datasets:
            self._study_dataset(dataset, series=series)

    def _study_dataset(
        self, planned: PlannedDataset, *, series: int | None = None, exam: int | None = None
    ) -> None:
        """Put a dataset into a series, or else attach it to an exam."""
        column, owner = ("series", series) if series is not None else ("exam", exam)
        rows = self.db.execute(
            f"SELECT id FROM live_dataset WHERE {column} = ? AND type = ? AND name = ? ORDER BY id",
            (owner, planned.type, planned.name),
        ).fetchall()
        if planned.type != DICOM and self._is_elsewhere(planned):
            return
        files = [(file, "/".join((*planned.folder_path, file.original_filename))) for file in planned.files]
        dataset = self._matching([int(row["id"]) for row in rows], planned, files)
        if dataset is None:
            dataset = objects.create_dataset(
                self.db,
                self.now,
                self.target.project,
                planned.name,
                type_=planned.type,
                mime_type=planned.mime_type,
                series=series,
                exam=exam if series is None else None,
            )
            self._parameter_sets("dataset", dataset, planned.parameter_sets)
        if series is not None:
            self.db.execute("UPDATE series SET modified_date = ? WHERE id = ?", (self.now, series))
        self._files(dataset, files)
        self.touched["dataset", dataset] = planned.name

    def _is_elsewhere(self, planned: PlannedDataset) -> bool:
        """Record the files of *planned* as existing when one dataset of the project has them all."""
        if self.existing is Existing.HERE:
            return False
        condition = "AND f.original_filename = ?3" if self.existing is Existing.ELSEWHERE else ""
        found: list[dict[int, int]] = []  # per file: dataset -> datafile
        for file in planned.files:
            rows = self.db.execute(
                "SELECT f.dataset, f.id FROM datafile f JOIN live_dataset d ON d.id = f.dataset "
                f"WHERE d.project = ?1 AND f.sha1 = ?2 {condition} ORDER BY f.id DESC",
                (self.target.project, file.upload.sha1, file.original_filename)[: 3 if condition else 2],
            )
            found.append({row["dataset"]: row["id"] for row in rows})
        common = set.intersection(*map(set, found))
        if not common:
            return False
        dataset = min(common)
        for file, datafiles in zip(planned.files, found, strict=True):
            self._note(file, dataset, datafiles[dataset], created=False)
        return True

    def _matching(
        self, candidates: Sequence[int], planned: PlannedDataset, files: Sequence[tuple[PlannedFile, str]]
    ) -> int | None:
        """Return the dataset to go on with: DICOM is extended, any other must already hold every file."""
        for dataset in candidates:
            if planned.type == DICOM or all(
                self._existing_file(dataset, name, file.upload.sha1) is not None for file, name in files
            ):
                return dataset
        return None

    def _existing_file(self, dataset: int, name: str, sha1: str) -> int | None:
        row = self.db.execute(
            "SELECT id FROM datafile WHERE dataset = ? AND original_filename = ? AND sha1 = ?",
            (dataset, name, sha1),
        ).fetchone()
        return None if row is None else int(row["id"])

    # -- loose files ---------------------------------------------------------------------------------

    def _loose(self, datasets: Sequence[PlannedDataset]) -> None:
        if self.target.series is not None or self.target.exam is not None:
            exam = self.target.exam or self._exam_of_target_series()
            assert exam is not None
            self._touch_exam(exam)
            for dataset in datasets:
                self._study_dataset(dataset, exam=exam, series=self.target.series)
            return
        folder = self.target.folder
        if folder is None:
            row = self.db.execute(
                "SELECT root_folder FROM project WHERE id = ?", (self.target.project,)
            ).fetchone()
            folder = objects.ensure_folders(self.db, self.now, row["root_folder"], [f"Import {self.package}"])
        for dataset in datasets:
            if not self._is_elsewhere(dataset):
                self._loose_dataset(
                    objects.ensure_folders(self.db, self.now, folder, dataset.folder_path), dataset
                )

    def _loose_dataset(self, folder: int, planned: PlannedDataset) -> None:
        rows = self.db.execute(
            "SELECT d.id FROM live_dataset d JOIN live_item i ON i.content_type = 'dataset' AND i.object_id = d.id "
            "WHERE i.folder = ? AND i.is_link = 0 AND d.name = ? AND d.type = ? ORDER BY d.id",
            (folder, planned.name, planned.type),
        ).fetchall()
        files = [(file, file.original_filename) for file in planned.files]
        dataset = next(
            (
                int(row["id"])
                for row in rows
                if all(
                    self._existing_file(row["id"], name, file.upload.sha1) is not None for file, name in files
                )
            ),
            None,
        )
        if dataset is None:
            dataset = objects.create_dataset(
                self.db,
                self.now,
                self.target.project,
                planned.name,
                type_=planned.type,
                mime_type=planned.mime_type,
                folder=folder,
            )
            self._parameter_sets("dataset", dataset, planned.parameter_sets)
        self._files(dataset, files)
        self.touched["dataset", dataset] = planned.name

    # -- both ----------------------------------------------------------------------------------------

    def _files(self, dataset: int, files: Sequence[tuple[PlannedFile, str]]) -> None:
        for planned, name in files:
            upload = planned.upload
            datafile = self._existing_file(dataset, name, upload.sha1)
            created = datafile is None
            self.contents.adopt(upload.path, upload.sha1)
            if datafile is None:
                datafile = objects.create_datafile(
                    self.db,
                    self.now,
                    dataset,
                    name,
                    size=upload.size,
                    sha1=upload.sha1,
                    mime_type=planned.mime_type,
                )
            self._note(planned, dataset, datafile, created=created)

    def _note(self, file: PlannedFile, dataset: int, datafile: int, *, created: bool) -> None:
        self.datafiles.append(
            {
                "id": datafile,
                "path": self.sent_as[file.upload.path],
                "sha1": file.upload.sha1,
                "dataset": dataset,
                "created": created,
            }
        )

    def _parameter_sets(self, content_type: str, object_id: int, sets: Sequence[PlannedParameterSet]) -> None:
        for planned in sets:
            objects.add_parameter_set(self.db, content_type, object_id, planned.name, planned.parameters)
