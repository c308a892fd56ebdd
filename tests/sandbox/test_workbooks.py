"""Workbooks, as the vendor's connector makes, reads and changes them; and what the sandbox refuses."""

from __future__ import annotations

import base64

import pytest
from gtagora.models.workbook import Workbook

from tests.sandbox.conftest import make_study
from tests.support.sandbox import SandboxProcess

MASK = {
    "name": "lesion",
    "mLabels": [{"mLabelIndex": 1, "mLabelActive": True, "mLabelDescription": "", "mLabelColor": "#ff0000"}],
    "mSizeX": 2,
    "mSizeY": 3,
    "mSizeZ": 2,
    "mSizeT": 1,
    "mSliceSize": 6,
    "mSliceMask": [
        {"mBase64Values": base64.b64encode(bytes([5, 0, 1, 0, 2, 0, 3])).decode()},
        {"mBase64Values": base64.b64encode(bytes([0])).decode()},
    ],
}


def body(dataset, **fields):
    return {"id": None, "dataset": dataset, "name": "Workbook 1", "mask": {"mMasks": [MASK]}, **fields}


@pytest.fixture
def workbook(sandbox, study):
    return sandbox.post("v2/workbook/", body(study.dataset))["id"]


def test_rows_62_63_102_a_workbook_is_made_found_and_deleted(agora, sandbox, study):
    """The connector makes one when it is asked for those of a dataset that has none."""
    (made,) = agora.get_dataset(study.dataset).get_workbooks()
    assert (made.dataset, made.name, made.mask_tab, made.cmr_tab) == (
        study.dataset,
        "Workbook 1",
        True,
        False,
    )
    (again,) = agora.get_dataset(study.dataset).get_workbooks()
    assert again.id == made.id
    cmr = Workbook.create_cmr(study.dataset, agora.http_client, "Heart")
    assert (cmr.name, cmr.cmr_tab) == ("Heart", True)
    assert len(agora.get_dataset(study.dataset).get_workbooks()) == 2
    assert Workbook.get(made.id, agora.http_client).contour == made.contour
    made.delete()
    assert [left.id for left in agora.get_dataset(study.dataset).get_workbooks()] == [cmr.id]


def test_rows_64_66_masks_are_written_and_decoded(agora, study):
    workbook = Workbook.create(study.dataset, agora.http_client).update(mask=dict(MASK))
    again = Workbook.get(workbook.id, agora.http_client)
    decoded = again.decode_masks()["lesion"]
    assert decoded.shape == (2, 3, 2, 1)
    assert decoded.data == [0, 0, 0, 0, 0, 0, 1, 0, 2, 0, 3, 0]
    assert again.mask["mMasks"][0]["mLabels"] == MASK["mLabels"]


def test_rows_65_66_contours_are_written_and_their_buttons_resolved(agora, study):
    workbook = Workbook.create_cmr(study.dataset, agora.http_client)
    buttons = workbook.resolve_contour_buttons()
    group = {"name": "LV", "contours": [{"points": [[1.5, 2.25]]}]}
    workbook.update(contour_groups=[group], object_buttons=buttons[:2])
    again = Workbook.get(workbook.id, agora.http_client)
    assert again.contour["contourGroups"][0]["contours"] == group["contours"]
    assert again.contour["objectButtons"] == buttons[:2]


def test_a_change_replaces_the_fields_it_names_and_keeps_the_others(sandbox, study):
    contour = {"contourGroups": [], "landmarkGroups": [], "objectButtons": [{"id": 0}]}
    made = sandbox.post("v2/workbook/", body(study.dataset, contour=contour, unknown={"a": [1]}))
    path = f"v2/workbook/{made['id']}/"
    answer = sandbox.api("PATCH", path, json={"mask": {"mMasks": [], "selectedMask": None}, "id": 10**9})
    assert answer.status_code == 200
    changed = sandbox.get(path)
    assert answer.json() == changed
    assert (changed["id"], changed["mask"]["mMasks"]) == (made["id"], [])
    assert (changed["contour"], changed["unknown"], changed["name"]) == (contour, {"a": [1]}, "Workbook 1")
    assert changed["created_date"] == made["created_date"] < changed["modified_date"]


def test_legacy_user_data_is_an_empty_list(sandbox, study):
    assert sandbox.get(f"v1/dataset/{study.dataset}/userdata/?type=contour") == []


@pytest.mark.parametrize(
    "change",
    [
        {"dataset": None},
        {"dataset": 10**9},
        {"dataset": "x"},
        {"name": " "},
        {"name": 7},
        {"locked": "yes"},
        {"contour": []},
        {"contour": {"contourGroups": {}}},
        {"contour": {"objectButtons": [1]}},
        {"mask": []},
        {"mask": {"mMasks": {}}},
        {"mask": {"mMasks": [1]}},
        {"mask": {"mMasks": [{**MASK, "mSizeX": 0}]}},
        {"mask": {"mMasks": [{**MASK, "mSizeX": True}]}},
        {"mask": {"mMasks": [{**MASK, "mSizeZ": 3}]}},
        {"mask": {"mMasks": [{**MASK, "mSizeT": 1.0}]}},
        {"mask": {"mMasks": [{**MASK, "mSliceMask": [{"mBase64Values": "!"}] * 2}]}},
        {"mask": {"mMasks": [{**MASK, "mSliceMask": [{"mBase64Values": "ä"}] * 2}]}},
        {"mask": {"mMasks": [{**MASK, "mSliceMask": [{"mBase64Values": 7}] * 2}]}},
    ],
)
def test_nonsense_is_400_and_changes_nothing(sandbox, study, workbook, change):
    before = sandbox.get(f"v2/workbook/{workbook}/")
    assert sandbox.api("POST", "v2/workbook/", json={**body(study.dataset), **change}).status_code == 400
    if "dataset" not in change:
        assert sandbox.api("PATCH", f"v2/workbook/{workbook}/", json=change).status_code == 400
    assert sandbox.api("POST", "v2/workbook/", json=[1]).status_code == 400
    assert sandbox.get(f"v2/workbook/{workbook}/") == before
    assert sandbox.get(f"v2/dataset/{study.dataset}/workbook/")["count"] == 1


def requests_of(dataset, workbook):
    return [
        ("POST", "v2/workbook/", body(dataset)),
        ("PATCH", f"v2/workbook/{workbook}/", {"name": "x"}),
        ("DELETE", f"v2/workbook/{workbook}/", None),
    ]


def test_observers_read_workbooks_and_others_find_none(sandbox, project, study, workbook):
    changes = requests_of(study.dataset, workbook)
    answers = [sandbox.api(m, path, json=json, user="observer").status_code for m, path, json in changes]
    assert answers == [400, 404, 404]
    assert sandbox.api("GET", f"v2/workbook/{workbook}/", user="observer").status_code == 404
    ids = {user["username"]: user["id"] for user in sandbox.get("v1/user/?limit=1000")["results"]}
    sandbox.post("v2/projectmembership/", {"project": project.id, "user": ids["observer"], "role": 4})
    answers = [sandbox.api(m, path, json=json, user="observer").status_code for m, path, json in changes]
    assert answers == [403] * 3
    assert sandbox.get(f"v2/workbook/{workbook}/", user="observer")["name"] == "Workbook 1"


def test_below_a_locked_exam_no_workbook_changes(sandbox, study, workbook):
    sandbox.post("v2/exam/lock_ids/", {"ids": [study.exam]})
    for method, path, json in requests_of(study.dataset, workbook):
        assert sandbox.api(method, path, json=json).status_code == 403
    assert sandbox.get(f"v2/dataset/{study.dataset}/workbook/")["count"] == 1


def test_a_workbook_goes_with_its_dataset(sandbox, project, study, workbook):
    assert sandbox.api("DELETE", f"v1/dataset/{study.dataset}/").status_code == 204
    assert sandbox.api("GET", f"v2/workbook/{workbook}/").status_code == 404
    (entry,) = [e for e in sandbox.get("v1/trash/?limit=1000")["results"] if e["project"] == project.id]
    assert sandbox.api("DELETE", f"v1/trash/{entry['id']}/delete").status_code == 204
    assert sandbox.api("GET", f"v2/workbook/{workbook}/").status_code == 404


def test_a_workbook_survives_kill_nine(tmp_path):
    with SandboxProcess(tmp_path / "data", switches={"import-speed": "0"}) as sandbox:
        project = sandbox.get("v2/project/myagora/")
        sandbox.upload({"a.txt": b"x"}, folder=project["root_folder"])
        (item,) = sandbox.get(f"v1/folder/{project['root_folder']}/items/")
        made = sandbox.post("v2/workbook/", body(item["object_id"]))
        sandbox.kill()
        sandbox.start()
        assert sandbox.get(f"v2/workbook/{made['id']}/") == made


def test_workbooks_of_a_copy_stay_with_the_original(sandbox, project):
    study = make_study(sandbox, project)
    sandbox.post("v2/workbook/", body(study.dataset))
    path = f"v2/dataset/{study.dataset}/copy_to/{project.id}/folder/{project.root}/"
    copy = sandbox.post(path)["id"]
    assert sandbox.get(f"v2/dataset/{copy}/workbook/")["count"] == 0
    assert sandbox.get(f"v2/dataset/{study.dataset}/workbook/")["count"] == 1
