"""Related files follow their main file into its series."""

from __future__ import annotations

import pytest

from agorafs.sandbox.analysis import analyse
from tests.sandbox_analysis.support import NIBABEL_DATA, Content, placed_targets, uploads_of


def test_related_files_become_further_datasets_of_the_series_of_the_main_file(tmp_path):
    contents: dict[str, Content] = {
        "d/0.dcm": NIBABEL_DATA / "0.dcm",
        "d/physio.log": b"1 2",
        "d/a.par": b"p",
        "d/a.rec": b"r",
    }
    plan = analyse(
        uploads_of(tmp_path, contents), relations={"d/0.dcm": ["d/physio.log", "d/a.rec", "d/a.par"]}
    )
    assert plan.loose == () and plan.errors == ()
    (series,) = plan.exams[0].series
    assert [
        (dataset.type, [file.original_filename for file in dataset.files]) for dataset in series.datasets
    ] == [(300, ["d/0.dcm"]), (101, ["d/a.par", "d/a.rec"]), (100000, ["d/physio.log"])]


def test_a_file_related_to_a_related_file_goes_to_the_same_series(tmp_path):
    contents: dict[str, Content] = {"0.dcm": NIBABEL_DATA / "0.dcm", "log": b"l", "note": b"n"}
    plan = analyse(uploads_of(tmp_path, contents), relations={"0.dcm": ["log"], "log": ["note"]})
    assert plan.loose == ()
    assert [dataset.name for dataset in plan.exams[0].series[0].datasets] == ["DICOM dataset", "log", "note"]


def test_files_related_to_a_file_without_series_are_imported_as_usual(tmp_path):
    contents: dict[str, Content] = {"main.txt": b"m", "d/log": b"l", "0.dcm": NIBABEL_DATA / "0.dcm"}
    plan = analyse(uploads_of(tmp_path, contents), relations={"main.txt": ["d/log", "0.dcm"]})
    assert [(dataset.name, dataset.folder_path) for dataset in plan.loose] == [
        ("log", ("d",)),
        ("main.txt", ()),
    ]
    assert len(plan.exams) == 1


@pytest.mark.parametrize(
    ("relations", "reason"),
    [
        ({"absent": ["log"]}, "'absent' is not among the uploaded files"),
        ({"0.dcm": ["absent"]}, "'absent' is not among the uploaded files"),
        ({"0.dcm": ["0.dcm"]}, "'0.dcm' is related to itself"),
        ({"0.dcm": ["log"], "note": ["log"]}, "'log' is related to more than one file"),
        ({"0.dcm": "log"}, "what is related to '0.dcm' is not a list"),
        ({"0.dcm": [["log"]]}, "['log'] is not among the uploaded files"),
        (["0.dcm"], "not an object"),
    ],
)
def test_relations_that_can_not_be_followed_fail_the_import_with_the_reason(tmp_path, relations, reason):
    contents: dict[str, Content] = {"0.dcm": NIBABEL_DATA / "0.dcm", "log": b"l", "note": b"n"}
    plan = analyse(uploads_of(tmp_path, contents), relations=relations)
    assert len(plan.errors) == 1 and reason in plan.errors[0]
    assert placed_targets(plan) == sorted(contents)
