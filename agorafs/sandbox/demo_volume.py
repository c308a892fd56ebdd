"""A long MR series and a large NIfTI file, made from a real volume.

Why.  The packages that bring real data hold no series longer than two slices and no file above a megabyte. A
demo server needs both: hundreds of slices are what makes a mount slow, and only a file of many blocks shows
whether it is read in pieces. So the head scan that nibabel brings (``example4d.nii.gz``, 128 x 96 x 24 voxels,
two time points) is resampled to a finer grid and written out again.

Geometry.  Voxel centres keep their place in the patient: the affine of the volume is scaled and shifted with
the grid. DICOM counts to the left and back where NIfTI counts to the right and front, hence the two signs.

The output is a function of the input bytes: identifiers are derived from names, there is no date of today and
no version of a library in it, so two runs write the same bytes.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import nibabel
import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, MRImageStorage

SLICE_COUNT = 176
_COLUMNS = _ROWS = 192
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_OID, "agorafs.sandbox.demo")

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Volume:
    """Voxels indexed [x, y, z], and the affine that takes an index to millimetres (NIfTI: right, front, up)."""

    voxels: FloatArray
    affine: FloatArray


@dataclass(frozen=True, slots=True)
class _Series:
    """What the slices of one series share."""

    number: int
    name: str
    time: str
    orientation: tuple[int, int, int]  # the axes of the volume that run along a row, along a column, across


_ANATOMY = _Series(101, "T1w 3D TFE", "093012", (0, 1, 2))
_LOCALIZER = _Series(1, "Survey", "092501", (1, 2, 0))


def demo_uid(name: str) -> UID:
    """Return the DICOM identifier of the demo object *name*; the form is that of UUIDs in DICOM PS3.5 B.2."""
    return UID(f"2.25.{uuid.uuid5(_NAMESPACE, name).int}")


def read_volumes(path: Path) -> list[Volume]:
    """Return the time points of a NIfTI file."""
    image: Any = nibabel.load(path)
    voxels = np.asarray(image.dataobj, dtype=np.float64)
    affine = cast(FloatArray, np.asarray(image.affine, dtype=np.float64))
    return [Volume(voxels[..., time], affine) for time in range(voxels.shape[3])]


def resample(volume: Volume, shape: tuple[int, int, int]) -> Volume:
    """Return *volume* on a grid of *shape* that covers the same space, interpolated linearly."""
    voxels = volume.voxels
    affine = volume.affine.copy()
    for axis, count in enumerate(shape):
        old_count = voxels.shape[axis]
        scale = old_count / count
        # The first new voxel begins where the first old one begins, so their centres differ.
        position = np.clip((np.arange(count) + 0.5) * scale - 0.5, 0, old_count - 1)
        lower = np.minimum(position.astype(np.intp), old_count - 2)
        weight = (position - lower).reshape([-1 if each == axis else 1 for each in range(3)])
        voxels = np.take(voxels, lower, axis) * (1 - weight) + np.take(voxels, lower + 1, axis) * weight
        affine[:3, 3] += affine[:3, axis] * (0.5 * scale - 0.5)
        affine[:3, axis] *= scale
    return Volume(voxels, affine)


def write_exam(volume: Volume, directory: Path) -> None:
    """Write an exam of two series as ``DICOM/IM_0001`` … below *directory*, as scanners export it."""
    target = directory / "DICOM"
    target.mkdir(parents=True)
    fine = _padded(resample(volume, (_COLUMNS, 144, SLICE_COUNT)), axis=1, count=_ROWS)
    scale = 4095 / max(float(np.max(fine.voxels)), 1.0)
    file_number = 0
    for series, positions in (
        (_LOCALIZER, [_COLUMNS // 4, _COLUMNS // 2, 3 * _COLUMNS // 4]),
        (_ANATOMY, range(SLICE_COUNT)),
    ):
        for number, position in enumerate(positions, start=1):
            file_number += 1
            image = _slice(fine, series, number, position, scale)
            image.save_as(target / f"IM_{file_number:04d}", enforce_file_format=True)


def write_nifti(volumes: Sequence[Volume], shape: tuple[int, int, int], path: Path) -> None:
    """Write the *volumes* as the time points of one uncompressed NIfTI-1 file of 16-bit integers."""
    finer = [resample(volume, shape) for volume in volumes]
    voxels = np.stack([volume.voxels for volume in finer], axis=-1).round().astype(np.int16)
    nibabel.Nifti1Image(voxels, finer[0].affine).to_filename(path)


def frames(volume: Volume) -> bytes:
    """Return the voxels as 16-bit integers, slice after slice, without any header."""
    integers: npt.NDArray[np.int16] = volume.voxels.round().astype("<i2")
    return integers.tobytes(order="F")


def _padded(volume: Volume, axis: int, count: int) -> Volume:
    """Return *volume* with air on both sides of *axis*, as scanners do to get square images."""
    missing = count - volume.voxels.shape[axis]
    before = missing // 2
    widths = [(0, 0)] * 3
    widths[axis] = (before, missing - before)
    affine = volume.affine.copy()
    affine[:3, 3] -= before * affine[:3, axis]
    return Volume(np.pad(volume.voxels, widths), affine)


def _slice(volume: Volume, series: _Series, number: int, position: int, scale: float) -> pydicom.Dataset:
    along_row, along_column, across = series.orientation
    columns, rows = volume.voxels.shape[along_row], volume.voxels.shape[along_column]
    to_patient = np.diag([-1.0, -1.0, 1.0]) @ volume.affine[:3]
    # Rows are written from the far end of their axis, so that the front and the top are up in a viewer.
    corner = np.zeros(4)
    corner[3] = 1
    corner[along_column] = rows - 1
    corner[across] = position
    first_voxel = to_patient @ corner
    row_step, column_step = to_patient[:, along_row], -to_patient[:, along_column]
    spacing = [float(np.linalg.norm(column_step)), float(np.linalg.norm(row_step))]
    thickness = float(np.linalg.norm(to_patient[:, across]))
    normal = np.cross(row_step / spacing[1], column_step / spacing[0])
    plane = np.take(volume.voxels, position, axis=across)
    if along_row < along_column:
        plane = plane.T  # [row, column]
    pixels = np.clip(plane[::-1] * scale, 0, 4095).round().astype("<u2")

    image = pydicom.Dataset()
    image.SpecificCharacterSet = "ISO_IR 192"
    image.ImageType = ["ORIGINAL", "PRIMARY", "M", "FFE"]
    image.SOPClassUID = MRImageStorage
    image.SOPInstanceUID = demo_uid(f"instance {series.number}.{number}")
    image.StudyDate = image.SeriesDate = image.AcquisitionDate = image.ContentDate = "20240115"
    image.StudyTime = "092300"
    image.SeriesTime = image.AcquisitionTime = image.ContentTime = series.time
    image.AccessionNumber = ""
    image.Modality = "MR"
    image.Manufacturer = "agorafs"
    image.ManufacturerModelName = "Demo Volume"
    image.StudyDescription = "Brain, volunteer"
    image.SeriesDescription = image.ProtocolName = series.name
    image.ReferringPhysicianName = ""
    image.PatientName = "Muster^Erika"
    image.PatientID = "DEMO-0001"
    image.PatientBirthDate = "19700814"
    image.PatientSex = "F"
    image.PatientWeight = "62"
    image.ScanningSequence = "GR"
    image.SequenceVariant = "SP"
    image.ScanOptions = ""
    image.MRAcquisitionType = "3D"
    image.SliceThickness = _decimal(thickness)
    image.RepetitionTime = "8.1"
    image.EchoTime = "3.7"
    image.FlipAngle = "8"
    image.MagneticFieldStrength = "3"
    image.EchoTrainLength = "1"
    image.PatientPosition = "HFS"
    image.StudyInstanceUID = demo_uid("study")
    image.SeriesInstanceUID = demo_uid(f"series {series.number}")
    image.FrameOfReferenceUID = demo_uid("frame of reference")
    image.StudyID = "1"
    image.SeriesNumber = series.number
    image.AcquisitionNumber = 1
    image.InstanceNumber = number
    image.ImagePositionPatient = [_decimal(value) for value in first_voxel]
    image.ImageOrientationPatient = [
        _decimal(value) for value in (*(row_step / spacing[1]), *(column_step / spacing[0]))
    ]
    image.PositionReferenceIndicator = ""
    image.SliceLocation = _decimal(float(first_voxel @ normal))
    image.SamplesPerPixel = 1
    image.PhotometricInterpretation = "MONOCHROME2"
    image.Rows, image.Columns = rows, columns
    image.PixelSpacing = [_decimal(value) for value in spacing]
    image.BitsAllocated = 16
    image.BitsStored = 12
    image.HighBit = 11
    image.PixelRepresentation = 0
    image.WindowCenter, image.WindowWidth = "1000", "2000"
    image.PixelData = pixels.tobytes()
    image["PixelData"].VR = "OW"

    image.file_meta = FileMetaDataset()
    image.file_meta.MediaStorageSOPClassUID = MRImageStorage
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    # Named here because pydicom would write its own version, which changes with the installation.
    image.file_meta.ImplementationClassUID = demo_uid("implementation")
    image.file_meta.ImplementationVersionName = "AGORAFS_DEMO"
    return image


def _decimal(value: float) -> str:
    """Return *value* as a decimal string, which has room for 16 characters."""
    text = f"{value:.8f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text[:16]
