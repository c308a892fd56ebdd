"""Imports that end otherwise than one hopes: held, ignoring, lying about the result, full, knowing the content."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from tests.sandbox.conftest import dicom_file
from tests.sandbox.test_imports import complete, new_package, tree, zipped
from tests.support.sandbox import SandboxProcess
from tests.support.waiting import eventually


def sha1(content):
    return hashlib.sha1(content).hexdigest()


def state(sandbox, package):
    return sandbox.get(f"v1/import/{package}/progress/")["state"]


def names_in(sandbox, folder):
    return sorted(item["content_object"]["name"] for item in sandbox.get(f"v1/folder/{folder}/items/"))


# -- held --------------------------------------------------------------------------------------------


def test_a_held_import_stays_in_state_four_with_nothing_stored_until_it_is_let_go(sandbox, project):
    sandbox.switch(import_hold=True)
    package = new_package(sandbox)
    sandbox.send_chunk(package, "f", b"x", identifier="i")
    assert complete(sandbox, package, folder=project.root) == 204
    assert [state(sandbox, package) for _ in range(50)] == [4] * 50
    assert sandbox.get(f"v1/import/{package}/result/")["datafiles"] == []
    assert tree(sandbox, project.root) == {}
    sandbox.switch(import_hold=False)
    assert sandbox.wait_for_import(package) == 5
    assert tree(sandbox, project.root) == {"f": sha1(b"x")}


@pytest.mark.parametrize("ending", ["kill", "stop"])
def test_a_server_that_ends_while_it_holds_an_import_carries_it_out_at_its_next_start(tmp_path, ending):
    with SandboxProcess(tmp_path / "data", switches={"import-speed": "0"}) as sandbox:
        root = sandbox.get("v2/project/myagora/")["root_folder"]
        sandbox.switch(import_hold=True)
        package = new_package(sandbox)
        sandbox.send_chunk(package, "f", b"x", identifier="i")
        complete(sandbox, package, folder=root)
        eventually(lambda: state(sandbox, package) == 4, 10)
        getattr(sandbox, ending)()
        sandbox.start()  # with its switches as at first: nothing is held
        assert sandbox.wait_for_import(package) == 5
        assert tree(sandbox, root) == {"f": sha1(b"x")}


# -- results -----------------------------------------------------------------------------------------


def test_a_result_has_wrong_hashes_or_no_list_as_long_as_the_switch_says_so(sandbox, project):
    sandbox.switch(result_sha1="wrong")
    wrong = sandbox.upload({"a": b"a", "b": b"b"}, folder=project.root)
    assert [file["path"] for file in wrong["datafiles"]] == ["a", "b"]
    for file, content in zip(wrong["datafiles"], (b"a", b"b"), strict=True):
        assert len(file["sha1"]) == 40
        assert file["sha1"] != sha1(content)
    sandbox.switch(result_sha1="right", result_datafiles="missing")
    path = f"v1/import/{wrong['package']}/result/"
    assert "datafiles" not in sandbox.get(path)
    sandbox.switch(result_datafiles="listed")
    assert [file["sha1"] for file in sandbox.get(path)["datafiles"]] == [sha1(b"a"), sha1(b"b")]
    assert tree(sandbox, project.root) == {"a": sha1(b"a"), "b": sha1(b"b")}


def test_files_are_ignored_by_name_and_told_with_the_path_as_sent(sandbox, project):
    sandbox.switch(result_ignore="skip")
    files = {"keep.txt": b"1", "./skip.txt": b"2", "p.agora_upload": zipped({"d/skip/x": b"3", "d/y": b"4"})}
    result = sandbox.upload(files, folder=project.root)
    assert result["state"] == 5
    assert {file["path"] for file in result["datafiles"]} == {"keep.txt", "d/y"}
    assert {entry["path"] for entry in result["ignored"]} == {"./skip.txt", "d/skip/x"}
    assert all(entry["reason"] for entry in result["ignored"])
    assert set(tree(sandbox, project.root)) == {"keep.txt", "d/y"}


def test_an_import_that_ignores_everything_succeeds_with_nothing(sandbox, project):
    sandbox.switch(result_ignore=".txt")
    result = sandbox.upload({"a.txt": b"1"}, folder=project.root)
    assert (result["state"], result["datafiles"], len(result["ignored"])) == (5, [], 1)


def test_a_package_inside_a_package_stays_a_plain_file(sandbox, project):
    inner = zipped({"one.txt": b"1"})
    sandbox.upload({"p.agora_upload": zipped({"mine/x.agora_upload": inner})}, folder=project.root)
    assert tree(sandbox, project.root) == {"mine/x.agora_upload": sha1(inner)}


# -- content that is there already -------------------------------------------------------------------


def test_content_of_the_same_name_elsewhere_in_the_project_is_not_created_again(sandbox, project):
    sandbox.switch(existing="elsewhere")
    first = sandbox.upload({"a/f.txt": b"same"}, folder=project.root)["datafiles"][0]
    files = {"b/f.txt": b"same", "b/g.txt": b"same", "b/h.txt": b"other"}
    again = {file["path"]: file for file in sandbox.upload(files, folder=project.root)["datafiles"]}
    assert (again["b/f.txt"]["created"], again["b/f.txt"]["dataset"], again["b/f.txt"]["id"]) == (
        False,
        first["dataset"],
        first["id"],
    )
    assert again["b/g.txt"]["created"] and again["b/h.txt"]["created"]
    assert set(tree(sandbox, project.root)) == {"a/f.txt", "b/g.txt", "b/h.txt"}


def test_content_of_any_name_is_not_created_again_when_names_do_not_count(sandbox, project):
    sandbox.switch(existing="any-name")
    result = sandbox.upload({"a.txt": b"same", "b.txt": b"same"}, folder=project.root)["datafiles"]
    assert [file["created"] for file in result] == [True, False]
    assert result[0]["dataset"] == result[1]["dataset"]
    assert names_in(sandbox, project.root) == ["a.txt"]


def test_files_that_belong_together_exist_only_together(sandbox, project):
    sandbox.switch(existing="elsewhere")
    pair = {"s.par": b"# === PAR ===", "s.rec": bytes(10)}
    first = sandbox.upload({f"a/{name}": content for name, content in pair.items()}, folder=project.root)
    (dataset,) = {file["dataset"] for file in first["datafiles"]}
    again = sandbox.upload({f"b/{name}": content for name, content in pair.items()}, folder=project.root)
    assert {(file["created"], file["dataset"]) for file in again["datafiles"]} == {(False, dataset)}
    changed = {"c/s.par": pair["s.par"], "c/s.rec": b"new"}
    result = sandbox.upload(changed, folder=project.root)["datafiles"]
    assert [file["created"] for file in result] == [True, True]


def test_content_in_another_project_or_in_the_trash_does_not_count(sandbox, project):
    sandbox.switch(existing="elsewhere")
    other = sandbox.post("v2/project/", {"name": "other"})
    sandbox.upload({"f.txt": b"%d" % project.id}, folder=other["root_folder"])
    made = sandbox.upload({"f.txt": b"%d" % project.id}, folder=project.root)["datafiles"][0]
    assert made["created"]
    assert sandbox.api("DELETE", f"v1/dataset/{made['dataset']}/").status_code == 204
    assert sandbox.upload({"f.txt": b"%d" % project.id}, folder=project.root)["datafiles"][0]["created"]


def test_an_exam_takes_no_second_copy_but_its_slices_are_found_by_their_series(sandbox, project, study):
    sandbox.switch(existing="elsewhere")
    first = sandbox.upload({"n.txt": b"n"}, folder=project.root)["datafiles"][0]
    again = sandbox.upload({"n.txt": b"n"}, exam=study.exam)["datafiles"][0]
    assert (again["created"], again["dataset"]) == (False, first["dataset"])
    image = dicom_file(study=study.exam_uid, series=study.series_uid, number=9, patient=study.patient_id)
    assert sandbox.upload({"IM_9": image}, folder=project.root)["datafiles"][0]["dataset"] == study.dataset


# -- quota -------------------------------------------------------------------------------------------


def test_a_chunk_beyond_the_quota_is_refused_and_leaves_nothing(tmp_path):
    with SandboxProcess(tmp_path / "data", switches={"import-speed": "0", "quota": "100"}) as sandbox:
        root = sandbox.get("v2/project/myagora/")["root_folder"]
        assert sandbox.upload({"a": b"x" * 60}, folder=root)["state"] == 5
        package = new_package(sandbox)
        chunks: dict[str, Any] = {"chunks": 2, "total_size": 50, "identifier": "i"}
        assert sandbox.send_chunk(package, "b", b"y" * 40, number=1, **chunks).status_code == 200
        refused = sandbox.send_chunk(package, "b", b"y" * 10, number=2, **chunks)
        assert (refused.status_code, refused.json()) == (403, {"detail": "Quota exceeded."})
        assert len(list((sandbox.data / "imports" / str(package)).iterdir())) == 1
        assert sandbox.send_chunk(package, "b", b"z" * 40, number=1, **chunks).status_code == 200, (
            "the same again"
        )
        sandbox.switch(quota=110)
        assert sandbox.send_chunk(package, "b", b"y" * 10, number=2, **chunks).status_code == 200
        assert complete(sandbox, package, folder=root) == 204
        assert sandbox.wait_for_import(package) == 5
        assert tree(sandbox, root)["b"] == sha1(b"z" * 40 + b"y" * 10)
