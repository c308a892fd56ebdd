"""The demo's files are real, readable and the same each time."""

from __future__ import annotations

import hashlib
import subprocess

import nibabel
import numpy as np
import pydicom
import pytest

from agorafs.sandbox import demo_data
from agorafs.sandbox.analysis import analyse
from tests.sandbox_analysis.support import NIBABEL_DATA, datasets_of, placed_targets, upload_of

EIGHT_MIB = 8 * 1024 * 1024


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return demo_data.write_files(tmp_path_factory.mktemp("demo"))


def sha1_by_path(tree):
    root = tree.brain.parent
    return {str(path.relative_to(root)): hashlib.sha1(path.read_bytes()).hexdigest() for path in tree.files()}


def test_two_runs_write_the_same_bytes_within_60_mib_and_one_file_is_larger_than_8_mib(tree, tmp_path):
    again = demo_data.write_files(tmp_path / "again")
    assert sha1_by_path(again) == sha1_by_path(tree)
    assert sum(path.stat().st_size for path in tree.files()) < 60 * 1024 * 1024
    assert tree.large_nifti.stat().st_size > EIGHT_MIB


def test_copied_files_are_byte_for_byte_those_of_the_package(tree):
    for name in ("0.dcm", "1.dcm"):
        assert (tree.diffusion / name).read_bytes() == (NIBABEL_DATA / name).read_bytes()


def test_the_long_series_imports_as_one_exam_of_a_survey_and_176_slices_in_order(tree):
    uploads = [
        upload_of(str(path.relative_to(tree.brain)), path) for path in tree.brain.rglob("*") if path.is_file()
    ]
    plan = analyse(uploads)
    assert plan.loose == ()
    (exam,) = plan.exams
    assert exam.patient is not None and exam.patient.name == "Erika Muster"
    survey, anatomy = exam.series
    assert (survey.name, len(survey.datasets[0].files)) == ("Survey", 3)
    (dataset,) = anatomy.datasets
    assert [file.original_filename for file in dataset.files] == [
        f"DICOM/IM_{number:04d}" for number in range(4, 180)
    ]


def test_the_slices_show_the_head_at_its_place(tree):
    """Each voxel of the original volume is found again at its position in the patient."""
    original = nibabel.load(NIBABEL_DATA / "example4d.nii.gz")
    voxels = np.asarray(original.dataobj, dtype=float)[..., 0]
    positions, values = [], []
    for path in sorted((tree.brain / "DICOM").iterdir())[3:]:
        image = pydicom.dcmread(path)
        assert image.pixel_array.shape == (192, 192)
        row_step, column_step = np.split(np.array(image.ImageOrientationPatient, dtype=float), 2)
        assert abs(row_step @ column_step) < 1e-6
        down, right = (float(spacing) for spacing in image.PixelSpacing)
        rows, columns = np.meshgrid(np.arange(40, 150, 11), np.arange(20, 170, 11), indexing="ij")
        points = (
            np.array(image.ImagePositionPatient, dtype=float)
            + columns[..., None] * row_step * right
            + rows[..., None] * column_step * down
        )
        positions.append(points.reshape(-1, 3))
        values.append(image.pixel_array[rows, columns].reshape(-1))
    in_nifti = np.concatenate(positions) * [-1, -1, 1]
    indices = np.c_[in_nifti, np.ones(len(in_nifti))] @ np.linalg.inv(original.affine).T
    nearest = np.clip(np.rint(indices[:, :3]).astype(int), 0, np.array(voxels.shape) - 1)
    assert np.corrcoef(voxels[tuple(nearest.T)], np.concatenate(values))[0, 1] > 0.97


def test_dcm2niix_makes_one_volume_of_the_176_slices(tree, tmp_path):
    subprocess.run(
        ["dcm2niix", "-f", "%s", "-o", tmp_path, tree.brain / "DICOM"], check=True, capture_output=True
    )
    image = nibabel.load(tmp_path / "101.nii")
    assert image.shape == (192, 192, 176)


def test_dcmftest_accepts_every_slice(tree):
    files = sorted((tree.brain / "DICOM").iterdir())
    run = subprocess.run(["dcmftest", *files], capture_output=True, text=True)
    assert run.stdout.count("yes: ") == len(files) == 179


def test_the_large_nifti_file_has_two_time_points_and_the_intensities_of_the_original(tree):
    image = nibabel.load(tree.large_nifti)
    original = nibabel.load(NIBABEL_DATA / "example4d.nii.gz")
    assert image.shape == (*demo_data.LARGE_NIFTI_SHAPE, 2)
    for time in range(2):
        expected = np.asarray(original.dataobj)[..., time].mean()
        assert np.asarray(image.dataobj)[..., time].mean() == pytest.approx(expected, rel=0.02)


def test_every_file_of_the_demo_is_imported_and_every_kind_of_dataset_is_there(tree):
    uploads = [upload_of(str(path.relative_to(tree.brain.parent)), path) for path in tree.files()]
    plan = analyse(uploads)
    assert plan.errors == ()
    assert placed_targets(plan) == sorted(sha1_by_path(tree))
    assert {dataset.type for dataset in datasets_of(plan)} == {101, 200, 201, 202, 300, 600, 601, 100000}
    assert "Bruker" in {exam.vendor for exam in plan.exams}


def test_the_pdf_has_a_true_cross_reference_table(tree):
    document = (tree.documents / "consent form.pdf").read_bytes()
    start = int(document.rsplit(b"startxref\n", 1)[1].split(b"\n")[0])
    lines = document[start:].split(b"\n")
    assert lines[0] == b"xref"
    for number, line in enumerate(lines[3:8], start=1):
        assert document[int(line[:10]) :].startswith(b"%d 0 obj" % number)


def test_a_missing_package_is_named_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(demo_data.DemoUnavailable, match=r"need pydicom: pip install 'agorafs\[demo\]'$"):
        demo_data.write_files(tmp_path)
