"""DICOM objects: which study and series a file belongs to, and what the header says about them.

Why.  An archive does not keep DICOM files where they were, but under the patient, study and series named in
their headers. The file's name plays no part in this, neither in recognising it: many scanners write
``IM_0001`` without an extension, and some omit the preamble.

What becomes of a file:

* an object with a study and a series UID, image or not (structured reports, curves and plans are part of the
  examination too): into the one DICOM dataset of its series, in the order of the instance numbers;
* a DICOM object that lacks one of the two: a loose dataset of type DICOM;
* a DICOMDIR: a loose file of type OTHER, for it is an index and no image;
* everything else, damaged headers included: ``None``, to be recognised as something else.

Only the header up to the pixel data is read, and of it only the attributes named in ``_ATTRIBUTES``.

Threads.  pydicom reports oddities as Python warnings; ``_warnings_lock`` guards the interpreter's warning
filters while they are switched off. It is a leaf, held during the reading of one header.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import pydicom
from pydicom.valuerep import PersonName

from agorafs.sandbox.analysis.datasets import DatasetType, attached_dataset
from agorafs.sandbox.analysis.dicom_parameters import parameters_of
from agorafs.sandbox.analysis.values import (
    clean_text,
    parse_date,
    parse_offset,
    parse_time,
    to_integer,
    to_number,
    utc_timestamp,
)
from agorafs.sandbox.plan import PlannedExam, PlannedParameterSet, PlannedPatient, PlannedSeries, UploadedFile

DATASET_NAME = "DICOM dataset"
PARAMETER_SET_NAME = "DICOM Parameters"

_MEDIA_STORAGE_DIRECTORY = "1.2.840.10008.1.3.10"
_ATTRIBUTES = (
    "SOPClassUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "InstanceNumber",
    "StudyDescription",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "SeriesDescription",
    "ProtocolName",
    "SeriesNumber",
    "SeriesDate",
    "SeriesTime",
    "AcquisitionDate",
    "AcquisitionTime",
    "Modality",
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "PatientWeight",
    "Manufacturer",
    "ManufacturerModelName",
    "TimezoneOffsetFromUTC",
)
# Larger values are left in the file: none of the attributes above, and no parameter worth showing, has as
# many.
_MAX_VALUE_BYTES = 4096
_VENDORS = ("Philips", "Siemens", "Bruker", "GE")

_warnings_lock = threading.Lock()
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class DicomHeader:
    """What one DICOM file says about its place. Missing attributes are empty text or ``None``."""

    upload: UploadedFile
    is_directory: bool
    study_uid: str
    series_uid: str
    instance_number: int | None
    study_description: str
    study_id: str
    start_time: str | None
    series_description: str
    series_number: int | None
    series_time: str | None
    modality: str
    patient: PlannedPatient | None
    scanner_name: str
    manufacturer: str

    @property
    def has_place(self) -> bool:
        """Whether study and series are known."""
        return bool(self.study_uid and self.series_uid) and not self.is_directory


def read_header(upload: UploadedFile) -> DicomHeader | None:
    """Return the header of *upload*, or ``None`` when it is not a readable DICOM object."""
    has_preamble = _starts_like_dicom(upload.path)
    if has_preamble is None:
        return None
    header = _quietly(lambda: _header_of(upload, _read(upload.path, _ATTRIBUTES)))
    if header is None:
        return None
    # Without the letters "DICM" the file only looks like DICOM; its UIDs are the proof.
    return header if has_preamble or header.has_place else None


def read_parameters(path: Path) -> PlannedParameterSet | None:
    """Return the parameters in the header of *path*, or ``None`` when there are none."""
    parameters = _quietly(lambda: parameters_of(_read(path, None)))
    return PlannedParameterSet(PARAMETER_SET_NAME, parameters) if parameters else None


def plan_exams(headers: Iterable[DicomHeader]) -> tuple[PlannedExam, ...]:
    """Group *headers*, which all have a place, into exams and series.

    What describes an exam or series is taken from its first file that says it. The order of the exams, series
    and files depends on the headers and target paths alone.
    """
    studies: dict[str, list[DicomHeader]] = {}
    for header in sorted(headers, key=_order):
        studies.setdefault(header.study_uid, []).append(header)
    return tuple(_plan_exam(uid, members) for uid, members in studies.items())


def _plan_exam(uid: str, members: Sequence[DicomHeader]) -> PlannedExam:
    series: dict[str, list[DicomHeader]] = {}
    for header in members:
        series.setdefault(header.series_uid, []).append(header)
    study_id = _first(header.study_id for header in members)
    return PlannedExam(
        uid=uid,
        name=_first(header.study_description for header in members)
        or (f"Study {study_id}" if study_id else "Unnamed study"),
        patient=_first(header.patient for header in members),
        start_time=min((header.start_time for header in members if header.start_time), default=None),
        scanner_name=_first(header.scanner_name for header in members) or "",
        vendor=_vendor_of(_first(header.manufacturer for header in members) or ""),
        series=tuple(_plan_series(series_uid, files) for series_uid, files in series.items()),
    )


def _plan_series(uid: str, members: Sequence[DicomHeader]) -> PlannedSeries:
    number = next((header.series_number for header in members if header.series_number is not None), None)
    fallback = f"Series {number}" if number is not None else _first(header.modality for header in members)
    # The header of the first file stands for the series: most of it is the same in all of them.
    parameters = read_parameters(members[0].upload.path)
    parameter_sets = () if parameters is None else (parameters,)
    return PlannedSeries(
        uid=uid,
        name=_first(header.series_description for header in members) or fallback or "Unnamed series",
        time=min((header.series_time for header in members if header.series_time), default=None),
        acquisition_number=number,
        datasets=(
            attached_dataset(
                [header.upload for header in members],
                DatasetType.DICOM,
                name=DATASET_NAME,
                parameter_sets=parameter_sets,
            ),
        ),
        parameter_sets=parameter_sets,
    )


def _order(header: DicomHeader) -> tuple[str, float, str, float, str, str]:
    last = float("inf")  # a series or file without a number follows those that have one
    return (
        header.study_uid,
        last if header.series_number is None else header.series_number,
        header.series_uid,
        last if header.instance_number is None else header.instance_number,
        header.upload.target,
        header.upload.sha1,
    )


def _first(values: Iterable[_T]) -> _T | None:
    return next((value for value in values if value), None)


def _vendor_of(manufacturer: str) -> str:
    words = manufacturer.replace(",", " ").upper().split()
    return next((vendor for vendor in _VENDORS if vendor.upper() in words), "Unknown")


def _starts_like_dicom(path: Path) -> bool | None:
    """Return True with the preamble of part 10, False with a bare data set, None with neither."""
    with path.open("rb") as stream:
        head = stream.read(132)
    if head[128:132] == b"DICM":
        return True
    # A data set begins with a low element of group 0002 or 0008, in either byte order, and then holds either
    # two letters of a value representation or the length of a short value.
    byte_order: Literal["little", "big"]
    for byte_order in ("little", "big"):
        group = int.from_bytes(head[0:2], byte_order)
        element = int.from_bytes(head[2:4], byte_order)
        length = int.from_bytes(head[4:8], byte_order)
        is_explicit = head[4:6].isalpha() and head[4:6].isupper()
        if group in (0x0002, 0x0008) and element <= 0x0100 and len(head) >= 8:
            return False if is_explicit or length < _MAX_VALUE_BYTES else None
    return None


def _read(path: Path, attributes: Sequence[str] | None) -> pydicom.Dataset:
    return pydicom.dcmread(
        path,
        stop_before_pixels=True,
        force=True,
        defer_size=_MAX_VALUE_BYTES,
        specific_tags=None if attributes is None else list(attributes),
    )


def _quietly(read: Callable[[], _T]) -> _T | None:
    """Return what *read* returns, or ``None`` when the file defeats pydicom.

    A damaged header makes pydicom raise almost anything (``struct.error``, ``EOFError``, ``KeyError``, …).
    None of it may stop an import: the bytes are stored all the same, as an ordinary file.
    """
    with _warnings_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return read()
        except Exception:  # noqa: BLE001  see above
            return None


def _header_of(upload: UploadedFile, header: pydicom.Dataset) -> DicomHeader:
    media_class = getattr(getattr(header, "file_meta", None), "MediaStorageSOPClassUID", None)
    offset = parse_offset(_value(header, "TimezoneOffsetFromUTC"))

    def moment(name: str) -> str | None:
        date = parse_date(_value(header, f"{name}Date"))
        return utc_timestamp(date, parse_time(_value(header, f"{name}Time")), offset)

    return DicomHeader(
        upload=upload,
        is_directory=_MEDIA_STORAGE_DIRECTORY in (clean_text(media_class), _text(header, "SOPClassUID")),
        study_uid=_text(header, "StudyInstanceUID"),
        series_uid=_text(header, "SeriesInstanceUID"),
        instance_number=to_integer(_value(header, "InstanceNumber")),
        study_description=_text(header, "StudyDescription"),
        study_id=_text(header, "StudyID"),
        start_time=moment("Study"),
        series_description=_text(header, "SeriesDescription") or _text(header, "ProtocolName"),
        series_number=to_integer(_value(header, "SeriesNumber")),
        series_time=moment("Series") or moment("Acquisition"),
        modality=_text(header, "Modality"),
        patient=_patient_of(header),
        scanner_name=_text(header, "ManufacturerModelName"),
        manufacturer=_text(header, "Manufacturer"),
    )


def _patient_of(header: pydicom.Dataset) -> PlannedPatient | None:
    """Return the patient; one without an ID goes by name, one without either is unknown."""
    name = readable_name(_value(header, "PatientName"))
    patient_id = _text(header, "PatientID") or name
    if not patient_id:
        return None
    birth_date = parse_date(_value(header, "PatientBirthDate"))
    sex = _text(header, "PatientSex").lower()
    weight = to_number(_value(header, "PatientWeight"))
    return PlannedPatient(
        patient_id=patient_id,
        name=name or patient_id,
        birth_date=birth_date.isoformat() if birth_date else None,
        sex=sex if sex in ("m", "f", "o") else None,
        weight=weight if weight else None,  # scanners write 0 for "not entered"
    )


def readable_name(value: object) -> str:
    """Return a person's name as one would say it: ``Doe^John^^Dr`` becomes ``Dr John Doe``.

    Of the up to three spellings of a name the alphabetic one is taken, else the ideographic, else the
    phonetic.
    """
    if value is None:
        return ""
    name = value if isinstance(value, PersonName) else PersonName(str(value))
    spelling = next((part for part in name.components if part.strip(" ^")), "")
    family, given, middle, prefix, suffix = [*spelling.split("^"), "", "", "", ""][:5]
    words = (clean_text(part) for part in (prefix, given, middle, family, suffix))
    return " ".join(word for word in words if word)


def _text(header: pydicom.Dataset, keyword: str) -> str:
    return clean_text(_value(header, keyword))


def _value(header: pydicom.Dataset, keyword: str) -> Any:
    """Return one value, the first of several; an attribute that can not be decoded counts as missing."""
    try:
        value = header.get(keyword)
    except Exception:  # noqa: BLE001  one bad attribute does not make the others worthless
        return None
    if isinstance(value, pydicom.multival.MultiValue):
        return value[0] if len(value) else None
    return value
