"""The import JSON: files become a study because the sender says so, not because of what is in them.

Its form is version 2.0.0, written by ``create_import_template`` of the vendor's Python connector 1.8.0::

    {"Version": "2.0.0", "Vendor": "Philips",
     "Datasets": [{"Type": "REC_PAR", "ParameterSetID": null,
                   "Files": [{"File": "a.par"}, {"File": "a.rec"}]}],
     "ImportParameter": {"Exam": {"UID": …, "Name": …, "Date": "15.01.2024", "Time": "08:00:00", …},
                         "Patient": {…}, "Series": {…}},
     "ParameterSets": [{"ID": 1, "Name": …, "Parameters": [{"Name": …, "Value": …}]}]}

Files are listed by base name, without a directory. When several uploads have that name, each mention takes
the next of them in the order of their paths. Uploads that are not mentioned are not touched.

Dates and times count as UTC: the connector formats the server's own timestamps without converting them. It
writes 01.01.1900 for "not known"; here that is no date. The form of ``ParameterSets`` is not published (the
connector writes an empty list); the one above follows the parameter sets of the API.

Failure.  Anything not understood, and a listed file that was not uploaded, is an error that says where it is.
The import fails as a whole then: half a study would look like a whole one.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeVar

from agorafs.sandbox.analysis.datasets import DatasetType, attached_dataset, split_target, stem_of
from agorafs.sandbox.analysis.dicom import DATASET_NAME
from agorafs.sandbox.analysis.values import (
    clean_text,
    content_uid,
    parse_day_first_date,
    parse_time,
    to_integer,
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

_TYPES: Mapping[str, DatasetType] = MappingProxyType(
    {
        **{dataset_type.name: dataset_type for dataset_type in DatasetType},
        "RAW_LAB": DatasetType.PHILIPS_RAW,
        "REC_PAR": DatasetType.PHILIPS_PARREC,
        "EXAMCARD": DatasetType.PHILIPS_EXAMCARD,
        "SINFILE": DatasetType.PHILIPS_SINFILE,
        "DICOM_IMAGE": DatasetType.DICOM,
        "TWIX": DatasetType.SIEMENS_RAW,
    }
)
_Number = TypeVar("_Number", int, float)
_UNKNOWN_DATE = dt.date(1900, 1, 1)


@dataclass(frozen=True, slots=True)
class CustomImport:
    """The study an import JSON describes, or the reasons why it describes none."""

    exams: tuple[PlannedExam, ...] = ()
    untouched: tuple[UploadedFile, ...] = ()
    errors: tuple[str, ...] = ()


class _MalformedError(Exception):
    """The import JSON is not what it should be; the message says where."""


def apply_import_json(content: object, uploads: Sequence[UploadedFile]) -> CustomImport:
    """Return the study that *content*, the parsed import JSON, makes of *uploads*."""
    try:
        return _apply(content, uploads)
    except _MalformedError as error:
        return CustomImport(untouched=tuple(uploads), errors=(f"import JSON: {error}",))


def _apply(content: object, uploads: Sequence[UploadedFile]) -> CustomImport:
    document = _mapping(content, "the document")
    version = clean_text(document.get("Version"))
    if version and version.split(".")[0] != "2":
        raise _MalformedError(f"Version {version!r} is not supported, 2.0.0 is")
    parameters = _mapping(document.get("ImportParameter"), "ImportParameter")
    parameter_sets = _parameter_sets(document.get("ParameterSets"))

    waiting: dict[str, list[UploadedFile]] = {}
    for upload in uploads:
        waiting.setdefault(split_target(upload.target)[1], []).append(upload)
    datasets, taken = [], []
    for number, entry in enumerate(_list(document.get("Datasets"), "Datasets")):
        where = f"Datasets[{number}]"
        listed = _mapping(entry, where)
        files = _take_files(listed.get("Files"), f"{where}.Files", waiting)
        taken += files
        if files:
            datasets.append(_plan_dataset(listed, where, files, parameter_sets))
    exam = _plan_exam(parameters, clean_text(document.get("Vendor")) or "Unknown", datasets, taken)
    return CustomImport(
        exams=(exam,), untouched=tuple(upload for members in waiting.values() for upload in members)
    )


def _take_files(value: object, where: str, waiting: Mapping[str, list[UploadedFile]]) -> list[UploadedFile]:
    taken = []
    for number, entry in enumerate(_list(value, where)):
        name = _mapping(entry, f"{where}[{number}]").get("File")
        if not isinstance(name, str) or not waiting.get(name):
            raise _MalformedError(f"{where}[{number}] names {name!r}, which is not among the uploaded files")
        taken.append(waiting[name].pop(0))
    return taken


def _plan_dataset(
    listed: Mapping[str, Any],
    where: str,
    files: Sequence[UploadedFile],
    parameter_sets: Mapping[str, PlannedParameterSet],
) -> PlannedDataset:
    type_name = clean_text(listed.get("Type")).upper() or DatasetType.OTHER.name
    if type_name not in _TYPES:
        raise _MalformedError(f"{where}.Type {type_name!r} is no dataset type")
    attached: tuple[PlannedParameterSet, ...] = ()
    set_id = listed.get("ParameterSetID")
    if set_id is not None:
        if str(set_id) not in parameter_sets:
            raise _MalformedError(f"{where}.ParameterSetID {set_id!r} is not among ParameterSets")
        attached = (parameter_sets[str(set_id)],)
    first_name = split_target(files[0].target)[1]
    name = first_name if len(files) == 1 else stem_of(first_name)
    dataset_type = _TYPES[type_name]
    if dataset_type is DatasetType.DICOM:
        name = DATASET_NAME
    return attached_dataset(files, dataset_type, name=name, parameter_sets=attached)


def _plan_exam(
    parameters: Mapping[str, Any],
    vendor: str,
    datasets: Sequence[PlannedDataset],
    taken: Iterable[UploadedFile],
) -> PlannedExam:
    exam = _mapping(parameters.get("Exam"), "ImportParameter.Exam")
    content = [upload.sha1 for upload in taken]
    uid = clean_text(exam.get("UID")) or content_uid(("import exam", *content))
    series: tuple[PlannedSeries, ...] = ()
    if parameters.get("Series") is not None:
        fields = _mapping(parameters["Series"], "ImportParameter.Series")
        series = (
            PlannedSeries(
                uid=clean_text(fields.get("UID")) or content_uid(("import series", uid, *content)),
                name=clean_text(fields.get("Name")) or "New Series",
                time=_moment(fields, "ImportParameter.Series"),
                acquisition_number=_optional(
                    fields, "AcquisitionNumber", "ImportParameter.Series", to_integer
                ),
                datasets=tuple(datasets),
            ),
        )
    return PlannedExam(
        uid=uid,
        name=clean_text(exam.get("Name")) or "Unnamed study",
        patient=_plan_patient(parameters.get("Patient")),
        start_time=_moment(exam, "ImportParameter.Exam"),
        description=clean_text(exam.get("Description")),
        scanner_name=clean_text(exam.get("DeviceName")),
        vendor=vendor,
        series=series,
        datasets=() if series else tuple(datasets),
    )


def _plan_patient(value: object) -> PlannedPatient | None:
    if value is None:
        return None
    where = "ImportParameter.Patient"
    patient = _mapping(value, where)
    patient_id = clean_text(patient.get("UID")) or clean_text(patient.get("Name"))
    if not patient_id:
        return None
    birth_date = _date(patient, "BirthDate", where)
    sex = clean_text(patient.get("Gender")).lower()
    if sex not in ("", "m", "f", "o"):
        raise _MalformedError(f"{where}.Gender {sex!r} is none of M, F and O")
    return PlannedPatient(
        patient_id=patient_id,
        name=clean_text(patient.get("Name")) or patient_id,
        birth_date=birth_date.isoformat() if birth_date else None,
        sex=sex or None,
        weight=_optional(patient, "Weight", where, to_number),
    )


def _parameter_sets(value: object) -> dict[str, PlannedParameterSet]:
    sets = {}
    for number, entry in enumerate(_list(value, "ParameterSets")):
        where = f"ParameterSets[{number}]"
        fields = _mapping(entry, where)
        parameters = []
        for position, item in enumerate(_list(fields.get("Parameters"), f"{where}.Parameters")):
            parameter = _mapping(item, f"{where}.Parameters[{position}]")
            if not clean_text(parameter.get("Name")) or "Value" not in parameter:
                raise _MalformedError(f"{where}.Parameters[{position}] lacks Name or Value")
            parameters.append(dict(parameter))
        name = clean_text(fields.get("Name")) or "Import Parameters"
        sets[str(fields.get("ID"))] = PlannedParameterSet(name, tuple(parameters))
    return sets


def _moment(fields: Mapping[str, Any], where: str) -> str | None:
    text = clean_text(fields.get("Time"))
    time = parse_time(text)
    if text and time is None:
        raise _MalformedError(f"{where}.Time {text!r} is not of the form hh:mm:ss")
    return utc_timestamp(_date(fields, "Date", where), time)


def _date(fields: Mapping[str, Any], key: str, where: str) -> dt.date | None:
    text = clean_text(fields.get(key))
    if not text:
        return None
    date = parse_day_first_date(text)
    if date is None:
        raise _MalformedError(f"{where}.{key} {text!r} is not a date of the form dd.mm.yyyy")
    return None if date == _UNKNOWN_DATE else date


def _optional(
    fields: Mapping[str, Any], key: str, where: str, convert: Callable[[object], _Number | None]
) -> _Number | None:
    value = fields.get(key)
    if value is None or value == "":
        return None
    number = convert(value)
    if number is None:
        raise _MalformedError(f"{where}.{key} {value!r} is not a number")
    return number


def _mapping(value: object, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise _MalformedError(f"{where} is not an object")
    return value


def _list(value: object, where: str) -> Sequence[Any]:
    if value is None:
        return ()
    if not isinstance(value, (list, tuple)):
        raise _MalformedError(f"{where} is not a list")
    return value
