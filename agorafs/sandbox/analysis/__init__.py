"""Looking at uploaded files: what an import makes of them.

Why.  An archive understands what it is given: a DICOM file belongs to the patient in its header, a ``.REC``
to its ``.PAR``, a directory of a Bruker scanner is one study. ``analyse`` reads the files of one import
package and says what they become.

Place.  The import calls ``analyse`` when a package is complete and carries out the plan it returns. The
analysis writes nothing, knows neither database nor HTTP, and does not depend on what was imported before.

Order.  Each step takes the files it understands and leaves the others to the next::

    custom_import   files listed in an import JSON          -> the exam and series it describes
    relations       files related to another                -> wherever that one goes
    bruker          directories of a ParaVision study       -> an exam
    dicom           DICOM objects with study and series     -> exams, one dataset per series
    formats         pairs, and single files of any format   -> loose datasets

Promise.  Every file appears in exactly one dataset of the plan. The plan depends on the target paths and the
contents only, not on the order of the files, the machine or the time.

Failure.  Damaged content makes an ordinary file, never an exception. An import JSON or relations that can not
be followed make ``ImportPlan.errors``. What is raised is an ``OSError``: an upload could not be opened.

Threads.  May be called from any thread; it blocks for as long as reading the files takes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from agorafs.sandbox.analysis.bruker import take_studies
from agorafs.sandbox.analysis.custom_import import CustomImport, apply_import_json
from agorafs.sandbox.analysis.datasets import DICOM_MIME_TYPE, DatasetType, loose_dataset
from agorafs.sandbox.analysis.dicom import DicomHeader, plan_exams, read_header
from agorafs.sandbox.analysis.formats import plan_loose
from agorafs.sandbox.analysis.relations import attach_related, relation_errors
from agorafs.sandbox.plan import ImportPlan, PlannedDataset, UploadedFile

__all__ = ["analyse"]


def analyse(
    files: Sequence[UploadedFile],
    *,
    import_json: Mapping[str, Any] | None = None,
    relations: Mapping[str, Sequence[str]] | None = None,
) -> ImportPlan:
    """Return what importing *files* creates.

    Args:
        files: The uploads of one package, without the import JSON itself.
        import_json: The parsed import JSON (``custom_import``), if one was sent.
        relations: Main target path to the target paths related to it (``relations``).
    """
    uploads = sorted(files, key=lambda upload: (upload.target, upload.sha1))
    custom = CustomImport(untouched=tuple(uploads))
    errors: tuple[str, ...] = ()
    if import_json is not None:
        custom = apply_import_json(import_json, uploads)
        errors += custom.errors
    if relations is not None:
        found = relation_errors(relations, uploads)
        errors += found
        relations = {} if found else relations
    remaining, related = _set_aside(custom.untouched, relations or {})

    bruker_exams, remaining = take_studies(remaining)
    headers, unplaced, remaining = _sort_out_dicom(remaining)
    exams, left_over = attach_related((*custom.exams, *bruker_exams, *plan_exams(headers)), related)
    left_headers, left_unplaced, left_over = _sort_out_dicom(left_over)
    return ImportPlan(
        exams=(*exams, *plan_exams(left_headers)),
        loose=(*unplaced, *left_unplaced, *plan_loose((*remaining, *left_over))),
        errors=errors,
    )


def _set_aside(
    uploads: Sequence[UploadedFile], relations: Mapping[str, Sequence[str]]
) -> tuple[list[UploadedFile], dict[str, list[UploadedFile]]]:
    """Separate the files that follow another one."""
    main_of = {related: main for main, targets in relations.items() for related in targets}
    others: list[UploadedFile] = []
    related: dict[str, list[UploadedFile]] = {}
    for upload in uploads:
        if upload.target in main_of:
            related.setdefault(main_of[upload.target], []).append(upload)
        else:
            others.append(upload)
    return others, related


def _sort_out_dicom(
    uploads: Sequence[UploadedFile],
) -> tuple[list[DicomHeader], list[PlannedDataset], list[UploadedFile]]:
    """Return the DICOM objects with a place, datasets of those without, and the other files."""
    placed: list[DicomHeader] = []
    unplaced: list[PlannedDataset] = []
    others: list[UploadedFile] = []
    for upload in uploads:
        header = read_header(upload)
        if header is None:
            others.append(upload)
        elif header.has_place:
            placed.append(header)
        else:
            dataset_type = DatasetType.OTHER if header.is_directory else DatasetType.DICOM
            unplaced.append(loose_dataset([upload], dataset_type, mime_type=DICOM_MIME_TYPE))
    return placed, unplaced, others
