"""An import JSON turns any files into a study; what can not be followed fails the import with a reason."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from agorafs.sandbox.analysis import analyse
from agorafs.sandbox.plan import PlannedPatient
from tests.sandbox_analysis.support import NIBABEL_DATA, placed_targets, uploads_of

DOCUMENT: dict[str, Any] = {
    "Creator": "gtagora-connector-py",
    "Version": "2.0.0",
    "Vendor": "Philips",
    "Type": "REL5",
    "Datasets": [
        {
            "Type": "REC_PAR",
            "ParameterSetID": None,
            "Files": [{"File": "a.par", "ParameterSetID": None}, {"File": "a.rec", "ParameterSetID": None}],
        },
        {"Type": "OTHER", "ParameterSetID": 7, "Files": [{"File": "log.txt", "ParameterSetID": None}]},
    ],
    "ImportParameter": {
        "Exam": {
            "UID": "1.2",
            "Name": "Knee",
            "Description": "left",
            "DeviceName": "Ingenia",
            "Date": "15.01.2024",
            "Time": "08:00:00",
        },
        "Patient": {"UID": "HOSP2", "Name": "P", "Gender": "M", "BirthDate": "05.12.1980", "Weight": 72},
        "Series": {
            "UID": "1.2.3",
            "Name": "T2",
            "AcquisitionNumber": 4,
            "Date": "15.01.2024",
            "Time": "08:05:00.250000",
            "TypeLabel": "",
            "ReferenceScanUIDs": [],
        },
    },
    "ParameterSets": [
        {"ID": 7, "Name": "Reconstruction", "Parameters": [{"Name": "Iterations", "Value": 30}]}
    ],
}
FILES: dict[str, bytes | str] = {"d/a.par": b"p", "d/a.rec": b"r", "d/log.txt": b"l", "d/other.txt": b"o"}


def changed(path: str, value: object) -> dict[str, Any]:
    """Return DOCUMENT with the value at a dotted *path* replaced."""
    document = copy.deepcopy(DOCUMENT)
    *parents, last = path.split(".")
    at: Any = document
    for key in parents:
        at = at[int(key)] if isinstance(at, list) else at[key]
    at[last] = value
    return document


def test_listed_files_become_the_described_study_and_the_others_are_imported_as_usual(tmp_path):
    plan = analyse(uploads_of(tmp_path, FILES), import_json=DOCUMENT)

    assert plan.errors == ()
    (exam,) = plan.exams
    assert (exam.uid, exam.name, exam.description) == ("1.2", "Knee", "left")
    assert (exam.scanner_name, exam.vendor, exam.start_time) == ("Ingenia", "Philips", "2024-01-15T08:00:00Z")
    assert exam.patient == PlannedPatient("HOSP2", "P", "1980-12-05", "m", 72)
    (series,) = exam.series
    assert (series.uid, series.name, series.acquisition_number) == ("1.2.3", "T2", 4)
    assert series.time == "2024-01-15T08:05:00.250000Z"
    assert [
        (dataset.type, dataset.name, [file.original_filename for file in dataset.files])
        for dataset in series.datasets
    ] == [(101, "a", ["d/a.par", "d/a.rec"]), (100000, "log.txt", ["d/log.txt"])]
    assert [parameter_set.name for parameter_set in series.datasets[1].parameter_sets] == ["Reconstruction"]
    assert [(dataset.name, dataset.folder_path) for dataset in plan.loose] == [("other.txt", ("d",))]


def test_a_listed_dicom_file_goes_where_the_import_json_says_and_not_where_its_header_says(tmp_path):
    document = changed("Datasets", [{"Type": "DICOM_IMAGE", "Files": [{"File": "0.dcm"}]}])
    plan = analyse(uploads_of(tmp_path, {"0.dcm": NIBABEL_DATA / "0.dcm"}), import_json=document)
    assert [(exam.uid, exam.series[0].datasets[0].type) for exam in plan.exams] == [("1.2", 300)]


def test_each_mention_of_a_name_takes_the_next_upload_that_has_it(tmp_path):
    """The list has no directories, so equal names can only be told apart by their order."""
    document = changed("Datasets", [{"Type": "OTHER", "Files": [{"File": "x"}, {"File": "x"}]}])
    plan = analyse(uploads_of(tmp_path, {"c/x": b"3", "a/x": b"1", "b/x": b"2"}), import_json=document)
    files = plan.exams[0].series[0].datasets[0].files
    assert [file.original_filename for file in files] == ["a/x", "b/x"]
    assert [dataset.folder_path for dataset in plan.loose] == [("c",)]


def test_what_the_connector_writes_for_unknown_is_unknown(tmp_path):
    """01.01.1900 is its date for "not given"; an empty name is no name."""
    document = changed("ImportParameter.Exam.Date", "01.01.1900")
    document["ImportParameter"]["Patient"] |= {"BirthDate": "01.01.1900", "Name": ""}
    (exam,) = analyse(uploads_of(tmp_path, FILES), import_json=document).exams
    assert exam.start_time is None
    assert exam.patient == PlannedPatient("HOSP2", "HOSP2", None, "m", 72)


def test_without_uids_the_same_files_meet_the_same_exam_and_series_again(tmp_path):
    document = changed("ImportParameter.Exam.UID", "")
    document["ImportParameter"]["Series"]["UID"] = None
    (first,), (second,) = (analyse(uploads_of(tmp_path, FILES), import_json=document).exams for _ in range(2))
    assert first.uid == second.uid != ""
    assert first.series[0].uid == second.series[0].uid != first.uid


def test_without_a_series_the_datasets_are_attached_to_the_exam(tmp_path):
    document = changed("ImportParameter.Series", None)
    (exam,) = analyse(uploads_of(tmp_path, FILES), import_json=document).exams
    assert exam.series == ()
    assert [dataset.type for dataset in exam.datasets] == [101, 100000]


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        ("ImportParameter", None, "ImportParameter is not an object"),
        ("ImportParameter.Exam", [], "ImportParameter.Exam is not an object"),
        ("ImportParameter.Exam.Date", "2024-01-15", "is not a date of the form dd.mm.yyyy"),
        ("ImportParameter.Exam.Date", "31.02.2024", "is not a date of the form dd.mm.yyyy"),
        ("ImportParameter.Exam.Time", "soon", "is not of the form hh:mm:ss"),
        ("ImportParameter.Series", "T2", "ImportParameter.Series is not an object"),
        ("ImportParameter.Series.AcquisitionNumber", "four", "is not a number"),
        ("ImportParameter.Patient.Gender", "X", "is none of M, F and O"),
        ("ImportParameter.Patient.Weight", "heavy", "is not a number"),
        ("Datasets", {}, "Datasets is not a list"),
        ("Datasets", ["a.par"], "Datasets[0] is not an object"),
        ("Datasets.0.Type", "JPEG", "'JPEG' is no dataset type"),
        ("Datasets.0.Files", "a.par", "Datasets[0].Files is not a list"),
        ("Datasets.0.Files", [{"File": "absent.rec"}], "'absent.rec', which is not among the uploaded files"),
        ("Datasets.1.ParameterSetID", 8, "ParameterSetID 8 is not among ParameterSets"),
        ("ParameterSets", [{"ID": 7, "Parameters": [{"Name": "x"}]}], "lacks Name or Value"),
        ("Version", "3.0.0", "Version '3.0.0' is not supported"),
    ],
)
def test_an_import_json_that_can_not_be_followed_fails_with_the_place_and_the_reason(
    tmp_path, path, value, reason
):
    plan = analyse(uploads_of(tmp_path, FILES), import_json=changed(path, value))
    assert len(plan.errors) == 1
    assert plan.errors[0].startswith("import JSON: ") and reason in plan.errors[0]
    assert placed_targets(plan) == sorted(FILES)


def test_a_document_that_is_no_object_is_an_error(tmp_path):
    document: Any = ["not", "an", "object"]
    assert analyse(uploads_of(tmp_path, FILES), import_json=document).errors == (
        "import JSON: the document is not an object",
    )
