"""Bruker studies: a directory tree of ParaVision becomes an exam.

A study directory holds a file ``subject`` and one numbered directory per scan::

    study/
    ├── subject                 who was examined, and when
    ├── AdjResult/ …            further files of the study
    ├── 1/                      scan 1
    │   ├── acqp  method  fid   raw data and how they were acquired
    │   └── pdata/1/2dseq reco visu_pars …    reconstruction 1
    └── 2/ …

It becomes an exam; each scan becomes a series with a raw dataset and one image dataset per reconstruction;
what belongs to no scan becomes the subject dataset of the exam. Every file below the directory, whatever its
format, lands in exactly one of them: ParaVision finds its data by their place, so the tree stays together.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from agorafs.sandbox.analysis.datasets import DatasetType, attached_dataset
from agorafs.sandbox.analysis.jcamp import Value, first_text, is_jcamp, read_jcamp
from agorafs.sandbox.analysis.values import (
    clean_text,
    content_uid,
    epoch_timestamp,
    parse_date,
    parse_offset,
    parse_time,
    to_number,
    utc_timestamp,
)
from agorafs.sandbox.plan import (
    PlannedDataset,
    PlannedExam,
    PlannedParameterSet,
    PlannedPatient,
    PlannedSeries,
    UploadedFile,
)

PARAMETER_SET_NAME = "Bruker Parameters"

_SCAN_FILES = frozenset({"acqp", "method", "fid"})
_IMAGE_FILES = frozenset({"2dseq", "reco", "visu_pars"})
_ISO_MOMENT = re.compile(r"(\d{4}-\d{2}-\d{2})T(\S+?)([+-]\d{2}:?\d{2})?$")
_OLD_MOMENT = re.compile(r"(\d{1,2}:\d{2}:\d{2})\s+(\d{1,2})\s+([A-Z][a-z]{2})\s+(\d{4})$")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MAX_PARAMETER_LENGTH = 1000  # values of an array, characters of a text


def take_studies(uploads: Sequence[UploadedFile]) -> tuple[tuple[PlannedExam, ...], list[UploadedFile]]:
    """Return the exams made of the Bruker study directories in *uploads*, and the files outside of them."""
    roots = _study_roots(uploads)
    members: dict[str, list[UploadedFile]] = {root: [] for root in roots}
    outside: list[UploadedFile] = []
    for upload in uploads:
        # Of nested study directories the outermost takes the file; ``roots`` is sorted that way.
        root = next((root for root in roots if upload.target.startswith(root)), None)
        (outside if root is None else members[root]).append(upload)
    return tuple(_plan_exam(root, files) for root, files in members.items() if files), outside


def _study_roots(uploads: Iterable[UploadedFile]) -> list[str]:
    """Return the study directories, each with its final ``/``; the empty one is the top of the upload."""
    subjects = {}
    scans = set()
    for upload in uploads:
        directory, _, name = upload.target.rpartition("/")
        if name == "subject":
            subjects[f"{directory}/" if directory else ""] = upload
        parts = upload.target.split("/")
        if len(parts) >= 2 and name in _SCAN_FILES and _is_scan_number(parts[-2]):
            scans.add("".join(f"{part}/" for part in parts[:-2]))
        elif len(parts) >= 4 and name in _IMAGE_FILES and parts[-3] == "pdata" and _is_scan_number(parts[-4]):
            scans.add("".join(f"{part}/" for part in parts[:-4]))
    return sorted((root for root in subjects.keys() & scans if is_jcamp(subjects[root].path)), key=len)


def _plan_exam(root: str, uploads: Sequence[UploadedFile]) -> PlannedExam:
    by_target = {upload.target: upload for upload in uploads}
    subject_file = by_target[f"{root}subject"]
    subject = read_jcamp(subject_file.path)
    uid = first_text(subject.get("SUBJECT_study_instance_uid")) or content_uid(
        ("bruker study", subject_file.sha1)
    )
    scans: dict[int, list[UploadedFile]] = {}
    of_the_study: list[UploadedFile] = []
    for upload in uploads:
        directory, _, below = upload.target[len(root) :].partition("/")
        if below and _is_scan_number(directory):
            scans.setdefault(int(directory), []).append(upload)
        else:
            of_the_study.append(upload)
    return PlannedExam(
        uid=uid,
        name=first_text(subject.get("SUBJECT_study_name")) or clean_text(root.split("/")[-2:][0]) or "Study",
        patient=_patient_of(subject),
        start_time=_moment(subject, "SUBJECT_abs_date", "SUBJECT_date"),
        description=first_text(subject.get("SUBJECT_study_comment")),
        scanner_name=_scanner_name(uploads),
        vendor="Bruker",
        series=tuple(_plan_series(uid, root, number, files) for number, files in sorted(scans.items())),
        datasets=(
            attached_dataset(
                of_the_study,
                DatasetType.BRUKER_SUBJECT,
                name="Bruker subject",
                parameter_sets=_parameter_set([subject]),
            ),
        ),
    )


def _plan_series(exam_uid: str, root: str, number: int, uploads: Sequence[UploadedFile]) -> PlannedSeries:
    raw: list[UploadedFile] = []
    reconstructions: dict[str, list[UploadedFile]] = {}
    for upload in uploads:
        _, first, *below = upload.target[len(root) :].split("/")
        if first == "pdata" and len(below) > 1:
            reconstructions.setdefault(below[0], []).append(upload)
        else:
            raw.append(upload)
    acqp, method = (_read_named(raw, name) for name in ("acqp", "method"))
    parameter_sets = _parameter_set([acqp, method])
    datasets: list[PlannedDataset] = []
    if raw:
        datasets.append(
            attached_dataset(
                raw, DatasetType.BRUKER_RAW, name="Bruker raw data", parameter_sets=parameter_sets
            )
        )
    datasets += (
        attached_dataset(files, DatasetType.BRUKER_IMAGE, name=f"Bruker image {clean_text(reconstruction)}")
        for reconstruction, files in sorted(reconstructions.items())
    )
    return PlannedSeries(
        uid=content_uid(("bruker scan", exam_uid, str(number))),
        name=first_text(acqp.get("ACQ_scan_name"))
        or first_text(acqp.get("ACQ_protocol_name"))
        or first_text(method.get("Method")).rpartition(":")[2]
        or f"Scan {number}",
        time=_moment(acqp, "ACQ_abs_time", "ACQ_time"),
        acquisition_number=number,
        datasets=tuple(datasets),
        parameter_sets=parameter_sets,
    )


def _is_scan_number(directory: str) -> bool:
    return directory.isascii() and directory.isdecimal() and len(directory) <= 6


def _read_named(uploads: Iterable[UploadedFile], name: str) -> dict[str, Value]:
    upload = next((upload for upload in uploads if upload.target.rpartition("/")[2] == name), None)
    return {} if upload is None else read_jcamp(upload.path)


def _scanner_name(uploads: Iterable[UploadedFile]) -> str:
    for upload in uploads:
        key = {"acqp": "ACQ_station", "visu_pars": "VisuStation"}.get(upload.target.rpartition("/")[2])
        station = first_text(read_jcamp(upload.path).get(key)) if key else ""
        if station:
            return station
    return ""


def _patient_of(subject: Mapping[str, Value]) -> PlannedPatient | None:
    name = first_text(subject.get("SUBJECT_name_string")) or first_text(subject.get("SUBJECT_name"))
    patient_id = first_text(subject.get("SUBJECT_id")) or name
    if not patient_id:
        return None
    birth_date = parse_date(first_text(subject.get("SUBJECT_dbirth")))
    weight = to_number(first_text(subject.get("SUBJECT_weight")))
    sex = first_text(subject.get("SUBJECT_sex")).lower()
    return PlannedPatient(
        patient_id=patient_id,
        name=name or patient_id,
        birth_date=birth_date.isoformat() if birth_date else None,
        sex={"male": "m", "female": "f"}.get(sex),
        weight=weight if weight else None,
    )


def _moment(records: Mapping[str, Value], epoch_name: str, text_name: str) -> str | None:
    """Return a time, kept as seconds since 1970 (sometimes the first of a triple), or as text."""
    seconds = re.match(r"\(?\s*([0-9]{1,12})", first_text(records.get(epoch_name)))
    if seconds is not None and int(seconds[1]) > 0:
        return epoch_timestamp(int(seconds[1]))
    text = first_text(records.get(text_name))
    iso = _ISO_MOMENT.match(text)
    if iso is not None:
        return utc_timestamp(parse_date(iso[1]), parse_time(iso[2]), parse_offset(iso[3]))
    old = _OLD_MOMENT.match(text)  # ParaVision 5: "16:20:05  7 Dec 2012", without a time zone
    if old is None or old[3] not in _MONTHS:
        return None
    try:
        date = dt.date(int(old[4]), _MONTHS.index(old[3]) + 1, int(old[2]))
    except ValueError:
        return None
    return utc_timestamp(date, parse_time(old[1].zfill(8)))


def _parameter_set(sources: Iterable[Mapping[str, Value]]) -> tuple[PlannedParameterSet, ...]:
    merged: dict[str, dict[str, Any]] = {}
    for records in sources:
        for name, value in records.items():
            is_short = not isinstance(value, (list, str)) or len(value) <= _MAX_PARAMETER_LENGTH
            if is_short and value not in ("", []):
                merged.setdefault(name, {"Name": name, "Value": value})
    return (PlannedParameterSet(PARAMETER_SET_NAME, tuple(merged.values())),) if merged else ()
