"""What an import creates: the agreement between looking at files and storing them.

``analysis`` looks at uploaded files and returns an ``ImportPlan``; ``store`` carries it out. Neither knows
the other. Every uploaded file appears in exactly one dataset of the plan, or in ``ignored`` with a reason.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class UploadedFile:
    """One file of an import package: ``target`` is its relative target path, ``/``-separated."""

    target: str
    path: Path
    size: int
    sha1: str


@dataclass(frozen=True)
class PlannedParameterSet:
    """A read-only parameter set; each parameter is ``{"Name": …, "Value": …, …}``."""

    name: str
    parameters: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class PlannedFile:
    """A datafile to be: the upload it comes from and the name it keeps (may contain ``/``)."""

    upload: UploadedFile
    original_filename: str
    mime_type: str = "application/octet-stream"


@dataclass(frozen=True)
class PlannedDataset:
    """``type`` is one of Agora's dataset type numbers (300 DICOM, 101 PAR/REC, 100000 other, …)."""

    name: str
    type: int
    files: tuple[PlannedFile, ...]
    mime_type: str = "application/octet-stream"
    parameter_sets: tuple[PlannedParameterSet, ...] = ()
    folder_path: tuple[str, ...] = ()  # for loose files: folders below the target, created when missing


@dataclass(frozen=True)
class PlannedPatient:
    """Matched by ``patient_id``; extended, not replaced, when it exists. ``sex`` is m, f, o or None."""

    patient_id: str
    name: str
    birth_date: str | None = None  # YYYY-MM-DD
    sex: str | None = None
    weight: float | None = None


@dataclass(frozen=True)
class PlannedSeries:
    """Matched by ``uid`` within the project."""

    uid: str
    name: str
    time: str | None = None  # ISO 8601 UTC
    acquisition_number: int | None = None
    datasets: tuple[PlannedDataset, ...] = ()
    parameter_sets: tuple[PlannedParameterSet, ...] = ()


@dataclass(frozen=True)
class PlannedExam:
    """Matched by ``uid`` within the project. ``datasets`` are attached to the exam itself."""

    uid: str
    name: str
    patient: PlannedPatient | None
    start_time: str | None = None  # ISO 8601 UTC
    description: str = ""
    scanner_name: str = ""
    vendor: str = "Unknown"
    series: tuple[PlannedSeries, ...] = ()
    datasets: tuple[PlannedDataset, ...] = ()


@dataclass(frozen=True)
class ImportPlan:
    """The outcome of an analysis.

    ``exams`` go to the project's study list; ``loose`` datasets go below the target folder, exam or series.
    """

    exams: tuple[PlannedExam, ...] = ()
    loose: tuple[PlannedDataset, ...] = ()
    ignored: tuple[tuple[str, str], ...] = ()  # (target path, reason)
    errors: tuple[str, ...] = field(default=())  # the import as a whole fails when there are any
