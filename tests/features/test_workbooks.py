"""Workbooks of a dataset: made, looked at, drawn in; the vendor's connector sees the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy
import pytest
from gtagora.models.workbook import Workbook

SURVEY = "exams/Brain, volunteer/Survey/DICOM dataset"


def workbooks_of(bench, dataset: int) -> dict[str, Workbook]:
    """Return what the server has, without the connector's asking for a list, which makes one if there is none."""
    answer = bench.server.get(f"v2/dataset/{dataset}/workbook/")
    found = answer["results"] if isinstance(answer, dict) else answer
    workbooks = [Workbook.get(one["id"], http_client=bench.agora.http_client) for one in found]
    return {one.name: one for one in workbooks}


@pytest.fixture
def dataset(bench):
    """A dataset that is a directory: its path and its number."""
    path = bench.project / SURVEY
    return path, int(bench.attribute(path, "id"))


def plain(workbook: Workbook) -> dict[str, Any]:
    """Return what a workbook is, without what tells it from others."""
    fields = ("contour_tab", "mask_tab", "statistics_tab", "cmr_tab", "locked", "dataset", "contour", "mask")
    return {name: _without_ids(getattr(workbook, name)) for name in fields}


def _without_ids(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_ids(one) for name, one in value.items() if name not in ("id", "selectedMask")}
    return [_without_ids(one) for one in value] if isinstance(value, list) else value


@pytest.mark.feature(
    62, how="`echo 'create-workbook FILE NAME' > .agora/control`; for cardiac MR with `is-cardiac=1`"
)
def test_workbooks_are_made_as_the_connector_makes_them(bench, dataset):
    path, number = dataset
    shown = path / ".agora/workbooks"
    before = {one.name for one in shown.iterdir()}
    bench.control("create-workbook . Ours", path)
    bench.control("create-workbook . 'Our heart' is-cardiac=1", path)
    assert {one.name for one in shown.iterdir()} == before | {"Ours", "Our heart"}
    client = bench.agora.http_client
    theirs = Workbook.create(number, client), Workbook.create_cmr(number, client)
    found = workbooks_of(bench, number)
    assert [plain(found[name]) for name in ("Ours", "Our heart")] == [plain(one) for one in theirs]
    assert plain(found["Ours"]) != plain(found["Our heart"])


@pytest.mark.feature(63, how="`workbooks/NAME/workbook.json`")
@pytest.mark.feature(65, how="`effective_buttons` in `workbooks/NAME/contours.json`")
def test_a_workbook_is_shown_with_the_buttons_that_it_is_drawn_with(bench, dataset):
    path, number = dataset
    bench.control("create-workbook . 'To look at' is-cardiac=1", path)
    bare = {"name": "No buttons", "contour": {"contourGroups": [], "landmarkGroups": [], "objectButtons": []}}
    bench.control(json.dumps({"command": "create-workbook", "dataset": ".", "workbook": bare}), path)
    found = workbooks_of(bench, number)
    for name in ("To look at", "No buttons"):
        directory = path / ".agora/workbooks" / name
        about = json.loads((directory / "workbook.json").read_bytes())
        assert about == bench.server.get(f"v2/workbook/{found[name].id}/")
        buttons = json.loads((directory / "contours.json").read_bytes())["effective_buttons"]
        assert buttons == found[name].resolve_contour_buttons() != []


@pytest.mark.feature(64, how="`workbooks/NAME/masks/MASK.npy` and `.nii`")
@pytest.mark.feature(66, how="write to `masks/MASK.npy` and `workbook.json`")
def test_masks_and_contours_are_written_and_read_again(bench, dataset):
    path, number = dataset
    bench.control("create-workbook . 'To draw in'", path)
    directory: Path = path / ".agora/workbooks/To draw in"
    labels = numpy.zeros((16, 12, 3, 1), dtype=numpy.uint8)
    labels[2:9, 3:7, 1] = 5
    numpy.save(directory / "masks/lesion.npy", labels)
    about = json.loads((directory / "workbook.json").read_bytes())
    about["contour"]["contourGroups"] = [{"name": "edge", "contours": []}]
    (directory / "workbook.json").write_text(json.dumps(about))
    theirs = workbooks_of(bench, number)["To draw in"]
    (mask,) = theirs.decode_masks().values()
    numpy.testing.assert_array_equal(numpy.array(mask.data, dtype=numpy.uint8).reshape(mask.shape), labels)
    assert [group["name"] for group in theirs.contour["contourGroups"]] == ["edge"]
    # and what the connector draws is what is read
    theirs.update(mask={**theirs.mask["mMasks"][0], "name": "copy"})
    bench.mount.refresh(path)
    numpy.testing.assert_array_equal(numpy.load(directory / "masks/copy.npy"), labels)
