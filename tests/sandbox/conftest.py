"""One sandbox for the tests of this directory, and a project of its own for each test."""

from __future__ import annotations

import io
import itertools
import types
import uuid
from dataclasses import dataclass
from typing import Any

import gtagora
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, MRImageStorage

from agorafs.sandbox.switches import SWITCHES
from tests.support.sandbox import SandboxProcess

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def shared_sandbox(tmp_path_factory):
    """A running server. Tests use it through ``sandbox``, which puts the switches back.

    A server that wrote anything to stderr, such as the traceback of an answer with status 500, fails the run.
    """
    with SandboxProcess(
        tmp_path_factory.mktemp("sandbox") / "data", switches={"import-speed": "0"}
    ) as process:
        yield process
    assert process.log == ""


@pytest.fixture
def sandbox(shared_sandbox):
    yield shared_sandbox
    defaults = {name: switch.default for name, switch in SWITCHES.items()}
    shared_sandbox.control("PUT", "switches", json={**defaults, "import-speed": "0"})


@dataclass(frozen=True)
class ProjectIds:
    id: int
    root: int
    name: str


@pytest.fixture
def project(sandbox):
    """A new project of the administrator."""
    name = f"project {next(_numbers)}"
    body = sandbox.post("v2/project/", {"name": name, "description": "for one test"})
    return ProjectIds(body["id"], body["root_folder"], name)


@pytest.fixture
def agora(sandbox, monkeypatch):
    """The vendor's connector, unmodified; only the pause between its polls is shorter here."""
    real_sleep = __import__("time").sleep
    fast = types.SimpleNamespace(sleep=lambda seconds: real_sleep(min(seconds, 0.01)))
    monkeypatch.setattr("gtagora.models.import_package.time", fast)
    return gtagora.Agora.create(sandbox.url, api_key=sandbox.api_key)


def dicom_file(
    *, study: str, series: str, number: int = 1, patient: str = "P1", pixels: bytes = bytes(64), **fields: Any
) -> bytes:
    """Return a small DICOM file as bytes."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = MRImageStorage
    meta.MediaStorageSOPInstanceUID = UID(f"{series}.{number}")
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = MRImageStorage, f"{series}.{number}"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, series
    dataset.PatientID, dataset.PatientName, dataset.PatientSex = patient, f"Name^{patient}", "F"
    dataset.StudyDate, dataset.StudyTime, dataset.Modality = "20240115", "080000", "MR"
    dataset.StudyDescription, dataset.SeriesDescription = "Brain MRI", "T1 MPRAGE"
    dataset.SeriesNumber, dataset.InstanceNumber = 1, number
    dataset.Rows = dataset.Columns = 8
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation, dataset.SamplesPerPixel = 7, 0, 1
    dataset.PhotometricInterpretation, dataset.PixelData = "MONOCHROME2", pixels
    for name, value in fields.items():
        setattr(dataset, name, value)
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


@dataclass(frozen=True)
class StudyIds:
    """An exam with one DICOM series of two files."""

    exam: int
    exam_uid: str
    series: int
    series_uid: str
    dataset: int
    patient: int
    patient_id: str


def make_study(sandbox: SandboxProcess, project: ProjectIds, **fields: Any) -> StudyIds:
    uid, patient = f"2.25.{uuid.uuid4().int}", f"HOSP-{next(_numbers)}"
    files = {
        f"DICOM/IM_{number:04d}": dicom_file(
            study=uid,
            series=f"{uid}.1",
            number=number,
            patient=patient,
            pixels=bytes([number] * 64),
            **fields,
        )
        for number in (1, 2)
    }
    assert sandbox.upload(files, folder=project.root)["state"] == 5
    exam = sandbox.get(f"v2/project/{project.id}/exam/uid/{uid}/")
    series = sandbox.get(f"v2/project/{project.id}/series/uid/{uid}.1/")
    dataset = sandbox.get(f"v1/serie/{series['id']}/datasets/")["results"][0]
    return StudyIds(exam["id"], uid, series["id"], f"{uid}.1", dataset["id"], exam["patient"]["id"], patient)


@pytest.fixture
def study(sandbox, project):
    return make_study(sandbox, project)
