"""Formats without a study: pairs belong together, everything else is one dataset per file."""

from __future__ import annotations

import gzip
import struct

import pytest

from agorafs.sandbox.analysis import analyse
from tests.sandbox_analysis.support import NIBABEL_DATA, PYDICOM_DATA, placed_targets, uploads_of

TWIX_VD = struct.pack("<IIII", 0, 2, 40, 50) + struct.pack("<Q", 10240) + bytes(10240)
TWIX_VB = struct.pack("<II", 2048, 6) + b"Config\0" + bytes(4096)


def test_par_and_rec_of_one_directory_become_one_loose_dataset(tmp_path):
    """The extensions match in any letter case; without a study the pair stays in the folder."""
    name = "phantom_EPI_asc_CLEAR_2_1"
    plan = analyse(
        uploads_of(
            tmp_path,
            {
                f"scans/{name}.PAR": NIBABEL_DATA / f"{name}.PAR",
                f"scans/{name}.rec": NIBABEL_DATA / f"{name}.REC",
            },
        )
    )
    (dataset,) = plan.loose
    assert (dataset.name, dataset.type, dataset.folder_path) == (name, 101, ("scans",))
    assert [file.original_filename for file in dataset.files] == [f"{name}.PAR", f"{name}.rec"]


def test_par_and_rec_of_different_directories_are_not_a_pair(tmp_path):
    plan = analyse(uploads_of(tmp_path, {"a/x.par": "text", "b/x.rec": b"\1\2", "c/x.PAR": "text"}))
    assert [(dataset.name, dataset.type) for dataset in plan.loose] == [
        ("x.par", 100000),
        ("x.rec", 100000),
        ("x.PAR", 100000),
    ]


def test_a_par_file_alone_is_recognised_by_its_content(tmp_path):
    plan = analyse(uploads_of(tmp_path, {"T1.PAR": NIBABEL_DATA / "T1.PAR", "note.par": "a note"}))
    assert [(dataset.name, dataset.type) for dataset in plan.loose] == [("T1.PAR", 101), ("note.par", 100000)]


def test_raw_and_lab_take_their_sin_file_along(tmp_path):
    plan = analyse(uploads_of(tmp_path, {"s.raw": b"r", "s.lab": b"l", "s.sin": b"s", "other.sin": b"o"}))
    by_name = {dataset.name: dataset for dataset in plan.loose}
    assert by_name["s"].type == 100
    assert [file.original_filename for file in by_name["s"].files] == ["s.raw", "s.lab", "s.sin"]
    assert by_name["other.sin"].type == 104


def test_spar_and_sdat_become_one_spectroscopy_dataset(tmp_path):
    plan = analyse(uploads_of(tmp_path, {"m.SPAR": b"p", "m.SDAT": b"d"}))
    assert [(dataset.name, dataset.type, len(dataset.files)) for dataset in plan.loose] == [("m", 102, 2)]


def test_two_pairs_with_one_name_are_two_datasets(tmp_path):
    plan = analyse(
        uploads_of(tmp_path, {"x.par": b"", "x.rec": b"", "x.raw": b"", "x.lab": b"", "x.txt": b""})
    )
    assert sorted((dataset.type, len(dataset.files)) for dataset in plan.loose) == [
        (100, 2),
        (101, 2),
        (100000, 1),
    ]


def test_analyze_and_nifti_pairs_are_told_apart_and_other_hdr_files_are_left_alone(tmp_path):
    plan = analyse(
        uploads_of(
            tmp_path,
            {
                "a.hdr": NIBABEL_DATA / "analyze.hdr",
                "a.img": b"pixels",
                "b.hdr": NIBABEL_DATA / "nifti1.hdr",
                "b.img": b"pixels",
                "c.hdr": b"#?RADIANCE",
                "c.img": b"pixels",
            },
        )
    )
    assert [(dataset.name, dataset.type) for dataset in plan.loose] == [
        ("a", 602),
        ("b", 600),
        ("c.hdr", 100000),
        ("c.img", 100000),
    ]


@pytest.mark.parametrize(
    ("target", "content", "dataset_type"),
    [
        ("anatomical.nii", NIBABEL_DATA / "anatomical.nii", 600),  # big-endian
        ("functional.nii", NIBABEL_DATA / "functional.nii", 600),
        ("standard.nii.gz", NIBABEL_DATA / "standard.nii.gz", 600),
        ("two.nii.gz", NIBABEL_DATA / "example_nifti2.nii.gz", 601),
        ("no_extension", NIBABEL_DATA / "example_nifti2.nii.gz", 601),
        ("connectome.dconn.nii", NIBABEL_DATA / "row_major.dconn.nii", 601),
        ("text.nii", b"no image", 100000),
        ("damaged.nii.gz", b"\x1f\x8b\x08 damaged", 100000),
        ("cut.nii.gz", (NIBABEL_DATA / "example4d.nii.gz").read_bytes()[:40], 100000),
        ("raw.h5", b"\x89HDF\r\n\x1a\n" + bytes(100), 500),
        ("text.h5", b"no HDF5", 100000),
        ("minc.mnc", NIBABEL_DATA / "small.mnc", 100000),
        ("meas_vd.dat", TWIX_VD, 400),
        ("meas_vb.DAT", TWIX_VB, 400),
        ("table.dat", b"1 2 3\n" * 1000, 100000),
        ("zeros.dat", bytes(5000), 100000),
        ("protocol.pro", b"<XProtocol>\n", 401),
        ("project.pro", b"TEMPLATE = app\n", 100000),
        ("Brain.ExamCard", b"\0\1", 103),
        ("scan.sin", b"", 104),
        ("study.aex", b"\0\1", 800),
        ("voxel.mrui", b"\0\1", 700),
        ("report.pdf", b"%PDF-1.4", 100000),
        ("empty", b"", 100000),
        ("scan.dcm.gz", gzip.compress((PYDICOM_DATA / "MR_small.dcm").read_bytes(), mtime=0), 100000),
    ],
)
def test_a_single_file_gets_the_type_of_its_content(tmp_path, target, content, dataset_type):
    plan = analyse(uploads_of(tmp_path, {target: content}))
    assert [(dataset.name, dataset.type) for dataset in plan.loose] == [(target, dataset_type)]
    assert plan.exams == ()


def test_a_loose_file_is_named_like_the_file_in_folders_made_from_its_path(tmp_path):
    plan = analyse(uploads_of(tmp_path, {"BIDS/sub-01/participants.tsv": b"id\n", "top.json": b"{}"}))
    assert [(dataset.name, dataset.folder_path, dataset.mime_type) for dataset in plan.loose] == [
        ("participants.tsv", ("BIDS", "sub-01"), "text/tab-separated-values"),
        ("top.json", (), "application/json"),
    ]
    assert [dataset.files[0].original_filename for dataset in plan.loose] == ["participants.tsv", "top.json"]


@pytest.mark.parametrize(
    ("target", "folders", "name"),
    [
        ("../../etc/passwd", ("etc",), "passwd"),
        ("/etc/shadow", ("etc",), "shadow"),
        ("a//./b/x", ("a", "b"), "x"),
        ("a/..", ("a",), ".."),
        ("..\\..\\boot.ini", (), "..\\..\\boot.ini"),
        ("/", (), "unnamed"),
        ("d/" + "n" * 300, ("d",), "n" * 300),
        (" .hidden ", (), " .hidden "),
    ],
)
def test_a_hostile_path_makes_harmless_folders_and_keeps_its_name(tmp_path, target, folders, name):
    plan = analyse(uploads_of(tmp_path, {target: b"x"}))
    assert [(dataset.folder_path, dataset.name) for dataset in plan.loose] == [(folders, name)]
    assert placed_targets(plan) == [target]
