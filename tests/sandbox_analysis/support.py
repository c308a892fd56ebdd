"""Uploads for the tests of the analysis, and ways to look at a plan."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import nibabel
import pydicom

from agorafs.sandbox.plan import ImportPlan, PlannedDataset, UploadedFile

NIBABEL_DATA = Path(nibabel.__file__).parent / "tests" / "data"
PYDICOM_DATA = Path(pydicom.__file__).parent / "data" / "test_files"


Content = bytes | str | Path


def upload_of(target: str, path: Path) -> UploadedFile:
    content = path.read_bytes()
    return UploadedFile(target, path, len(content), hashlib.sha1(content).hexdigest())


def uploads_of(directory: Path, contents: Mapping[str, Content]) -> list[UploadedFile]:
    """Return uploads with the given target paths: of bytes or text stored in *directory*, or of real files."""
    uploads = []
    for number, (target, content) in enumerate(contents.items()):
        if isinstance(content, Path):
            path = content
        else:
            path = directory / f"upload-{number}"
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        uploads.append(upload_of(target, path))
    return uploads


def datasets_of(plan: ImportPlan) -> Iterator[PlannedDataset]:
    for exam in plan.exams:
        yield from exam.datasets
        for series in exam.series:
            yield from series.datasets
    yield from plan.loose


def placed_targets(plan: ImportPlan) -> list[str]:
    """Return the targets of all planned and ignored files, sorted."""
    planned = [file.upload.target for dataset in datasets_of(plan) for file in dataset.files]
    return sorted(planned + [target for target, _ in plan.ignored])
