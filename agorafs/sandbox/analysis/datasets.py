"""Datasets of a plan: Agora's type numbers, and how files are named inside and outside of studies.

Two placements.  A *loose* dataset goes to folders made from the directory its first file was uploaded from,
and its files keep their base names. An *attached* dataset goes to an exam or series, and its files keep their
whole relative path: ``DICOM/IM_0001`` stays ``DICOM/IM_0001``.

Names come from outside. They are metadata and kept as they are, hostile ones included; only the folder chain
leaves out empty, ``.`` and ``..`` parts, because folders are created from it.
"""

from __future__ import annotations

import enum
import mimetypes
from collections.abc import Sequence

from agorafs.sandbox.plan import PlannedDataset, PlannedFile, PlannedParameterSet, UploadedFile

DICOM_MIME_TYPE = "application/dicom"
BINARY_MIME_TYPE = "application/octet-stream"


class DatasetType(enum.IntEnum):
    """The numbers in a dataset's ``type`` that an import can produce (vendor's Python connector 1.8.0)."""

    PHILIPS_RAW = 100
    PHILIPS_PARREC = 101
    PHILIPS_SPECTRO = 102
    PHILIPS_EXAMCARD = 103
    PHILIPS_SINFILE = 104
    BRUKER_RAW = 200
    BRUKER_SUBJECT = 201
    BRUKER_IMAGE = 202
    DICOM = 300
    SIEMENS_RAW = 400
    SIEMENS_PRO = 401
    ISMRMRD = 500
    NIFTI1 = 600
    NIFTI2 = 601
    NIFTI_ANALYZE75 = 602
    JMRUI_SPECTRO = 700
    AEX = 800
    OTHER = 100000


# A fixed table: the system's own MIME map would make the answer depend on the machine.
_MIME_TYPES = mimetypes.MimeTypes()


def split_target(target: str) -> tuple[tuple[str, ...], str]:
    """Return the safe folder chain and the base name of a target path.

    A backslash is an ordinary character: targets are separated by ``/`` alone.
    """
    parts = [part for part in target.split("/") if part]
    if not parts:
        return (), "unnamed"
    return tuple(part for part in parts[:-1] if part not in (".", "..")), parts[-1]


def stem_of(name: str) -> str:
    """Return *name* without its last extension; a leading dot starts no extension."""
    stem, dot, _ = name.rpartition(".")
    return stem if dot and stem else name


def extension_of(name: str) -> str:
    """Return the last extension in lower case with its dot, or empty text."""
    return name[len(stem_of(name)) :].lower()


def mime_type_of(name: str, dataset_type: int) -> str:
    """Return the MIME type of a file called *name* in a dataset of *dataset_type*."""
    if dataset_type == DatasetType.DICOM:
        return DICOM_MIME_TYPE
    guessed, encoding = _MIME_TYPES.guess_type(name.replace(":", "_"))  # a colon would look like a URL
    if encoding == "gzip":
        return "application/gzip"
    return guessed or BINARY_MIME_TYPE


def loose_dataset(
    uploads: Sequence[UploadedFile],
    dataset_type: DatasetType = DatasetType.OTHER,
    *,
    name: str | None = None,
    mime_type: str | None = None,
) -> PlannedDataset:
    """Plan a dataset of the folder tree; without *name* it is called like its first file."""
    folder_path, base_name = split_target(uploads[0].target)
    files = []
    for upload in uploads:
        file_name = split_target(upload.target)[1]
        files.append(PlannedFile(upload, file_name, mime_type or mime_type_of(file_name, dataset_type)))
    return PlannedDataset(
        name=base_name if name is None else name,
        type=int(dataset_type),
        files=tuple(files),
        mime_type=files[0].mime_type,
        folder_path=folder_path,
    )


def attached_dataset(
    uploads: Sequence[UploadedFile],
    dataset_type: DatasetType,
    *,
    name: str,
    parameter_sets: tuple[PlannedParameterSet, ...] = (),
) -> PlannedDataset:
    """Plan a dataset of an exam or series; its files keep their relative paths."""
    files = tuple(
        PlannedFile(upload, upload.target, mime_type_of(upload.target, dataset_type)) for upload in uploads
    )
    return PlannedDataset(
        name=name,
        type=int(dataset_type),
        files=files,
        mime_type=files[0].mime_type,
        parameter_sets=parameter_sets,
    )
