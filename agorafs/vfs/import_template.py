"""The import JSON: what tells the archive that files are part of an exam or a series, whatever they hold.

``template`` makes one that adds to an exam or a series that is there: the archive extends what has a UID that it knows
and creates what has one that it does not. ``fill`` says which of the files to be sent make up which dataset.

Form.  Version 2.0.0, as ``create_import_template`` of the vendor's Python connector 1.8.0 writes it, with the same
words for what is not known (01.01.1900, 00:00:00, gender O). Files are listed by base name, without a directory.
Unlike there,

* a DICOM dataset makes the whole a DICOM import,
* a series keeps its own time,
* ``Z`` ends a timestamp on every Python,
* ``.nii.gz`` is a NIfTI file,
* of a patient that is there, nothing is made up: a weight that is not known stays unknown,
* whatever needs a new UID gets the same one each time, so that a template that is read twice adds to the same new
  series, and an exam without a patient gets no more than one.

Times.  Dates and times have no zone there. They are written as the archive writes them; the time of a series, which
is known in UTC, in the zone of its exam's.

Pure functions: no state, no request.
"""

from __future__ import annotations

import copy
import json
import re
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any, NamedTuple

from agorafs.client.records import Series
from agorafs.errors import NotFound

# The ``Type`` that goes with a vendor when nothing else is said; these are the vendors that the form knows.
_TYPE_OF_VENDOR = {"Unknown": "", "Philips": "REL5", "Bruker": "Bruker", "Siemens": "RAW_VD", "GE": "ISMRMRD"}
_UNKNOWN_VENDOR = "Unknown"

_DICOM = "DICOM_IMAGE"
_OTHER = "OTHER"
_TYPE_OF_EXTENSION = {
    ".raw": "RAW_LAB",
    ".lab": "RAW_LAB",
    ".par": "REC_PAR",
    ".rec": "REC_PAR",
    ".sdat": "PHILIPS_SPECTRO",
    ".spar": "PHILIPS_SPECTRO",
    ".sin": "SINFILE",
    ".dcm": _DICOM,
    ".dat": "TWIX",
    ".pro": "SIEMENS_PRO",
    ".h5": "ISMRMRD",
    ".nii": "NIFTI1",
    ".nii.gz": "NIFTI1",
}
_PAIRS = frozenset({"RAW_LAB", "REC_PAR", "PHILIPS_SPECTRO"})  # files of one base name are one dataset

_UNKNOWN_GENDER = "O"
_UNKNOWN_WEIGHT = 70
_TIMESTAMP = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d:\d\d))?(?:\.\d+)?(?:[Zz]|([+-])([01]\d|2[0-3]):?([0-5]\d))?"
)
_NEW_UIDS = uuid.UUID("6d0a5f2e-4b1c-5c0e-9a53-7f1f6c0b8d21")  # what all UIDs made here are derived from


class _Moment(NamedTuple):
    """A date and time as they are written, and the zone they are in."""

    date: str
    time: str
    zone: timezone


_UNKNOWN = _Moment("01.01.1900", "00:00:00", timezone.utc)


def template(
    exam: Mapping[str, Any], *, series: Series | None, patient: Mapping[str, Any] | None, vendor: str
) -> dict[str, Any]:
    """Return an import JSON that adds to *exam*: to its *series*, or else to a new one.

    Args:
        exam: All that the archive says of it.
        series: One of the exam's.
        patient: All that the archive says of the exam's patient; None when there is none.
        vendor: The name of the scanner's maker.
    """
    if vendor not in _TYPE_OF_VENDOR:
        vendor = _UNKNOWN_VENDOR
    uid = _text(exam, "uid") or _new_uid("exam", str(exam.get("id")))
    start = _moment(exam.get("start_time"))
    return {
        "Creator": "agorafs",
        "Version": "2.0.0",
        "Vendor": vendor,
        "Type": _TYPE_OF_VENDOR[vendor],
        "Datasets": [],
        "ImportParameter": {
            "Exam": {
                "UID": uid,
                "Name": _text(exam, "name"),
                "Description": _text(exam, "description"),
                "DeviceName": _text(exam, "scanner_name"),
                "Date": start.date,
                "Time": start.time,
            },
            "Patient": _patient_block(patient, exam_uid=uid),
            "Series": _series_block(series, exam_uid=uid, exam_start=start),
        },
        "ParameterSets": [],
    }


def vendor_name(vendor: object, names: Callable[[], Mapping[int, str]]) -> str:
    """Return the name of what an exam calls its ``vendor``: an object, or an id whose name *names* has."""
    if isinstance(vendor, Mapping):
        return _text(vendor, "name")
    if isinstance(vendor, int):
        try:
            return names().get(vendor, _UNKNOWN_VENDOR)
        except NotFound:  # a server that has no such list
            return _UNKNOWN_VENDOR
    return _UNKNOWN_VENDOR


def filled_json(content: bytes, file_names: Sequence[str]) -> bytes | None:
    """Return the import JSON *content* with the datasets that *file_names* make up.

    None when it names its own datasets, or is no import JSON: the archive is to have it as it is, and to judge it.
    """
    try:
        given = json.loads(content)
    except ValueError:
        return None
    if not isinstance(given, dict) or given.get("Datasets"):
        return None
    return (json.dumps(fill(given, file_names), indent=2) + "\n").encode()


def fill(template: Mapping[str, Any], file_names: Iterable[str]) -> dict[str, Any]:
    """Return *template* with the datasets that the files *file_names* (target paths) make up.

    Names that occur in several directories are mentioned in the order of their paths.
    """
    members: dict[tuple[str, ...], list[str]] = {}
    for path in sorted(file_names):
        directory, _, name = path.rpartition("/")
        stem, dataset_type = _stem_and_type(name)
        key = (dataset_type, directory, stem if dataset_type in _PAIRS else name)
        members.setdefault(key, []).append(name)
    filled = copy.deepcopy(dict(template))
    filled["Datasets"] = [
        {
            "Type": dataset_type,
            "ParameterSetID": None,
            "Files": [{"File": name, "ParameterSetID": None} for name in names],
        }
        for (dataset_type, *_), names in members.items()
    ]
    if any(dataset["Type"] == _DICOM for dataset in filled["Datasets"]):
        filled["Type"] = "DICOM"
    return filled


def _stem_and_type(name: str) -> tuple[str, str]:
    """Return the base name without the extension that gives its dataset type, and that type."""
    lower = name.lower()
    for extension, dataset_type in _TYPE_OF_EXTENSION.items():
        if lower.endswith(extension) and len(name) > len(extension):
            return name[: -len(extension)], dataset_type
    return name, _OTHER


def _patient_block(patient: Mapping[str, Any] | None, *, exam_uid: str) -> dict[str, Any]:
    """The connector always names a patient, so there always is one; without UID it would not be found again."""
    if patient is None:
        patient = {"weight": _UNKNOWN_WEIGHT}
    gender = _text(patient, "sex").upper()
    return {
        "UID": _text(patient, "patient_id") or _new_uid("patient", exam_uid),
        "Name": _text(patient, "name"),
        "Gender": gender if gender in ("M", "F", "O") else _UNKNOWN_GENDER,
        "BirthDate": _moment(patient.get("birth_date")).date,
        "Weight": patient.get("weight"),
    }


def _series_block(series: Series | None, *, exam_uid: str, exam_start: _Moment) -> dict[str, Any]:
    uid, name, number, time = _new_uid("series", exam_uid), "New Series", 0, exam_start
    if series is not None:
        uid = series.uid or _new_uid("series", exam_uid, str(series.id))
        name, number = series.name, series.acquisition_number or 0
        if series.time_ns is not None:
            time = _in_zone(series.time_ns, exam_start.zone)
    return {
        "UID": uid,
        "Name": name,
        "AcquisitionNumber": number,
        "Date": time.date,
        "Time": time.time,
        "TypeLabel": "",
        "ReferenceScanUIDs": [],
    }


def _moment(value: object) -> _Moment:
    """Return a timestamp or date of the archive's; what can not be read is unknown."""
    found = _TIMESTAMP.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        return _UNKNOWN
    day, time, sign, hours, minutes = found.groups(default="")
    offset = timedelta(hours=int(hours or 0), minutes=int(minutes or 0))
    try:
        moment = datetime.fromisoformat(f"{day}T{time or _UNKNOWN.time}")
    except ValueError:
        return _UNKNOWN
    return _written(moment.replace(tzinfo=timezone(-offset if sign == "-" else offset)))


def _written(moment: datetime) -> _Moment:
    # strftime's %Y has no leading zeros everywhere
    zone = moment.tzinfo
    assert isinstance(zone, timezone)
    return _Moment(f"{moment:%d.%m}.{moment.year:04}", f"{moment:%H:%M:%S}", zone)


def _in_zone(time_ns: int, zone: timezone) -> _Moment:
    try:
        return _written(
            (datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=time_ns // 10**9)).astimezone(zone)
        )
    except OverflowError:  # in the first or last hours that the calendar has
        return _UNKNOWN


def _text(data: Mapping[str, Any], key: str) -> str:
    value = data.get(key)
    return value if isinstance(value, str) else "" if value is None else str(value)


def _new_uid(*of: str) -> str:
    return str(uuid.uuid5(_NEW_UIDS, "/".join(of)))
