"""Uploading and importing: chunks, packages, targets, results, and what a killed server keeps."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from typing import Any

import pytest

from tests.sandbox.conftest import dicom_file, make_study
from tests.support.sandbox import SandboxProcess


def zipped(files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def new_package(sandbox):
    return sandbox.post("v1/import/", {})["id"]


def complete(sandbox, package, **body):
    answer = sandbox.api("POST", f"v1/import/{package}/complete/", json=body)
    return answer.status_code


def tree(sandbox, folder, prefix=""):
    """Return {path: content of the dataset's only file's sha1} below a folder."""
    found: dict[str, str] = {}
    for item in sandbox.get(f"v1/folder/{folder}/items/"):
        content = item["content_object"]
        if item["content_type"] == "folder":
            found |= tree(sandbox, content["id"], f"{prefix}{content['name']}/")
        else:
            found[prefix + content["name"]] = content["datafiles"][0]["sha1"]
    return found


def sha1(content):
    return hashlib.sha1(content).hexdigest()


# -- chunks ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [0, 1])
def test_chunks_may_be_counted_from_zero_or_one_and_come_in_any_order(sandbox, project, first):
    package = new_package(sandbox)
    for position in (2, 0, 1):
        content = b"abc"[position : position + 1] * 5
        answer = sandbox.send_chunk(
            package, "f", content, identifier="i", number=first + position, chunks=3, total_size=15
        )
        assert answer.status_code == 200
    assert complete(sandbox, package, folder=project.root) == 204
    assert sandbox.wait_for_import(package) == 5
    assert tree(sandbox, project.root) == {"f": sha1(b"aaaaabbbbbccccc")}


def test_a_chunk_sent_again_replaces_the_first(sandbox, project):
    package = new_package(sandbox)
    for content in (b"wrong", b"right"):
        assert sandbox.send_chunk(package, "f", content, identifier="i").status_code == 200
    assert len(list((sandbox.data / "imports" / str(package)).iterdir())) == 1
    complete(sandbox, package, folder=project.root)
    assert sandbox.wait_for_import(package) == 5
    assert tree(sandbox, project.root) == {"f": sha1(b"right")}


@pytest.mark.parametrize("field", ["flowChunkHash", "flowFileContentHash"])
def test_a_chunk_whose_hash_does_not_fit_is_refused_and_leaves_nothing(sandbox, field):
    package = new_package(sandbox)
    right = hashlib.sha256(b"content").hexdigest()
    assert sandbox.send_chunk(package, "f", b"content", identifier="i", **{field: right}).status_code == 200
    assert (
        sandbox.send_chunk(package, "g", b"content", identifier="j", **{field: "0" * 64}).status_code == 400
    )
    assert len(list((sandbox.data / "imports" / str(package)).iterdir())) == 1


def test_a_missing_chunk_or_a_wrong_total_fails_the_import(sandbox, project):
    package = new_package(sandbox)
    sandbox.send_chunk(package, "f", b"one", identifier="i", number=1, chunks=2, total_size=6)
    complete(sandbox, package, folder=project.root)
    assert sandbox.wait_for_import(package) == -1
    assert "chunks are missing" in sandbox.get(f"v1/import/{package}/")["error"]
    package = new_package(sandbox)
    sandbox.send_chunk(package, "f", b"one", identifier="i", total_size=99)
    complete(sandbox, package, folder=project.root)
    assert sandbox.wait_for_import(package) == -1
    assert sandbox.get(f"v1/folder/{project.root}/items/") == []


@pytest.mark.parametrize(
    "broken",
    [{"flowChunkNumber": "x"}, {"flowIdentifier": ""}, {"flowTotalSize": "-1"}, {"flowChunkNumber": "7"}],
)
def test_a_chunk_without_sensible_fields_is_400(sandbox, broken):
    package = new_package(sandbox)
    assert sandbox.send_chunk(package, "f", b"x", identifier="i", **broken).status_code == 400


def test_a_chunk_above_the_limit_is_413(sandbox):
    sandbox.switch(chunk_max=10)
    package = new_package(sandbox)
    assert sandbox.send_chunk(package, "f", b"x" * 11, identifier="i").status_code == 413
    assert sandbox.send_chunk(package, "f", b"x" * 10, identifier="i").status_code == 200


def test_an_empty_file_is_one_chunk_of_length_zero(sandbox, project):
    result = sandbox.upload({"empty.txt": b""}, folder=project.root)
    assert (result["state"], result["datafiles"][0]["sha1"]) == (5, sha1(b""))


def test_the_server_hashes_the_joined_file(sandbox, project):
    package = new_package(sandbox)
    sandbox.send_chunk(package, "f", b"ab", identifier="flow-1", number=1, chunks=2, total_size=4)
    assert sandbox.get("v1/flowfile/flow-1/")["state"] == 1
    sandbox.send_chunk(package, "f", b"cd", identifier="flow-1", number=2, chunks=2, total_size=4)
    joined = sandbox.get("v1/flowfile/flow-1/")
    assert (joined["state"], joined["content_hash"]) == (2, hashlib.sha256(b"abcd").hexdigest())
    complete(sandbox, package, folder=project.root)
    sandbox.wait_for_import(package)
    assert sandbox.get("v1/flowfile/flow-1/")["content_hash"] == joined["content_hash"]


# -- packages, targets, results ----------------------------------------------------------------------


def test_a_package_is_unpacked_always_and_a_zip_on_request(sandbox, project):
    inside = {"one.txt": b"1", "sub/two.txt": b"2"}
    sandbox.upload({"x.agora_upload": zipped(inside), "z/data.zip": zipped(inside)}, folder=project.root)
    assert set(tree(sandbox, project.root)) == {"one.txt", "sub/two.txt", "z/data.zip"}
    sandbox.upload({"y/data.zip": zipped(inside)}, folder=project.root, extract_zip_files="true")
    assert set(tree(sandbox, project.root)) >= {"y/one.txt", "y/sub/two.txt"}


def test_a_damaged_package_fails_the_import(sandbox, project):
    result = sandbox.upload({"x.agora_upload": b"this is no zip"}, folder=project.root)
    assert result["state"] == -1
    assert "x.agora_upload" in result["error"]


@pytest.mark.parametrize(
    "target", ["../../escape.txt", "/etc/escape.txt", "a/../../escape.txt", "./escape.txt"]
)
def test_targets_never_leave_the_target_folder(sandbox, project, target):
    for files in ({target: b"x"}, {"p.agora_upload": zipped({target: b"y"})}):
        result = sandbox.upload(files, folder=project.root)
        assert result["state"] == 5
        assert result["datafiles"][0]["path"] == target
    assert {path.rpartition("/")[2] for path in tree(sandbox, project.root)} == {"escape.txt"}
    assert ".." not in "".join(tree(sandbox, project.root))


def test_the_same_content_at_the_same_place_is_not_created_again(sandbox, project):
    first = sandbox.upload({"a/f.txt": b"same"}, folder=project.root)["datafiles"][0]
    again = sandbox.upload({"a/f.txt": b"same"}, folder=project.root)["datafiles"][0]
    assert (first["created"], again["created"], again["dataset"]) == (True, False, first["dataset"])
    elsewhere = sandbox.upload({"b/f.txt": b"same"}, folder=project.root)["datafiles"][0]
    assert elsewhere["created"] and elsewhere["dataset"] != first["dataset"]
    changed = sandbox.upload({"a/f.txt": b"other"}, folder=project.root)["datafiles"][0]
    assert changed["created"] and changed["dataset"] != first["dataset"]


def test_files_of_a_study_extend_it_by_uid(sandbox, project, study):
    more = dicom_file(study=study.exam_uid, series=study.series_uid, number=3, patient=study.patient_id)
    result = sandbox.upload({"DICOM/IM_0003": more}, folder=project.root)
    assert result["datafiles"][0]["dataset"] == study.dataset
    assert sandbox.get(f"v2/dataset/{study.dataset}/datafiles/")["count"] == 3
    assert sandbox.get(f"v2/project/{project.id}/exam/")["count"] == 1
    assert sandbox.get(f"v1/folder/{project.root}/items/") == []


def test_the_same_study_in_another_project_is_another_exam(sandbox, project, study):
    other = sandbox.post("v2/project/", {"name": "other"})
    copy = dicom_file(study=study.exam_uid, series=study.series_uid, patient=study.patient_id)
    sandbox.upload({"x.dcm": copy}, folder=other["root_folder"])
    exam = sandbox.get(f"v2/project/{other['id']}/exam/uid/{study.exam_uid}/")
    assert exam["id"] != study.exam
    assert exam["patient"]["id"] == study.patient


def test_a_study_imported_into_an_exam_or_series_becomes_part_of_it(sandbox, project, study):
    other = make_study(sandbox, project)
    image = dicom_file(study="2.25.1", series=f"2.25.1.{project.id}")
    sandbox.upload({"x.dcm": image}, exam=study.exam)
    assert sandbox.get(f"v1/exam/{study.exam}/series/")["count"] == 2
    sandbox.upload({"x.dcm": image, "notes/n.txt": b"n"}, series=other.series)
    assert sandbox.get(f"v1/exam/{other.exam}/series/")["count"] == 1
    datasets = sandbox.get(f"v1/serie/{other.series}/datasets/")["results"]
    names = [file["original_filename"] for dataset in datasets for file in dataset["datafiles"]]
    assert {"x.dcm", "notes/n.txt"} <= set(names)


def test_an_import_into_a_locked_study_by_uid_fails_as_a_whole(sandbox, project, study):
    sandbox.post("v2/exam/lock_ids/", {"ids": [study.exam]})
    more = dicom_file(study=study.exam_uid, series=study.series_uid, number=3, patient=study.patient_id)
    result = sandbox.upload({"IM_0003": more, "loose.txt": b"x"}, folder=project.root)
    assert (result["state"], result["datafiles"]) == (-1, [])
    assert "locked" in result["error"]
    assert sandbox.get(f"v1/folder/{project.root}/items/") == []


def test_without_a_folder_loose_files_go_into_a_new_one(sandbox, project):
    package = sandbox.upload({"f.txt": b"x"}, project=project.id)["package"]
    assert tree(sandbox, project.root) == {f"Import {package}/f.txt": sha1(b"x")}
    package = sandbox.upload({"f.txt": b"x"}, user="scientist")["package"]
    mine = sandbox.get("v2/project/myagora/", user="scientist")["root_folder"]
    assert [
        item["content_object"]["name"] for item in sandbox.get(f"v1/folder/{mine}/items/", user="scientist")
    ][-1] == (f"Import {package}")


@pytest.mark.parametrize(
    "target", [{"folder": 10**9}, {"project": 10**9}, {"exam": 10**9}, {"series": 10**9}]
)
def test_an_unknown_target_is_404_and_the_package_stays_open(sandbox, target):
    package = new_package(sandbox)
    assert complete(sandbox, package, **target) == 404
    assert sandbox.get(f"v1/import/{package}/")["is_complete"] is False


def test_a_target_may_be_a_decimal_string_and_nothing_else(sandbox, project):
    package = new_package(sandbox)
    assert complete(sandbox, package, folder="here") == 400
    assert complete(sandbox, package, folder=str(project.root)) == 204


def test_completing_twice_imports_once_and_later_chunks_are_refused(sandbox, project):
    package = new_package(sandbox)
    sandbox.send_chunk(package, "f", b"x", identifier="i")
    assert [complete(sandbox, package, folder=project.root) for _ in range(3)] == [204] * 3
    assert sandbox.wait_for_import(package) == 5
    assert len(tree(sandbox, project.root)) == 1
    assert sandbox.send_chunk(package, "g", b"y", identifier="j").status_code == 400


def test_an_import_file_that_is_missing_or_no_json_fails_the_import(sandbox, project):
    for files in (
        {"a.txt": b"a"},
        {"a.txt": b"a", "import.json": b"{"},
        {"a.txt": b"a", "import.json": b"[]"},
    ):
        result = sandbox.upload(files, folder=project.root, import_file="import.json")
        assert (result["state"], "import.json" in result["error"]) == (-1, True)


def test_the_import_file_itself_is_no_datafile(sandbox, project):
    description = {
        "Version": "2.0.0",
        "Vendor": "Unknown",
        "Type": "",
        "Datasets": [
            {"Type": "OTHER", "ParameterSetID": None, "Files": [{"File": "a.txt", "ParameterSetID": None}]}
        ],
        "ImportParameter": {
            "Exam": {"UID": f"e{project.id}", "Name": "E", "Date": "15.01.2024", "Time": "08:00:00"},
            "Patient": {
                "UID": f"p{project.id}",
                "Name": "P",
                "Gender": "M",
                "BirthDate": "05.12.1980",
                "Weight": 72,
            },
            "Series": {"UID": f"s{project.id}", "Name": "S", "AcquisitionNumber": 1},
        },
        "ParameterSets": [],
    }
    files = {"d/a.txt": b"a", "d/import.json": json.dumps(description).encode()}
    result = sandbox.upload(files, project=project.id, import_file="import.json")
    assert [file["path"] for file in result["datafiles"]] == ["d/a.txt"]
    exam = sandbox.get(f"v2/project/{project.id}/exam/uid/e{project.id}/")
    assert (exam["patient"]["birth_date"], exam["patient"]["sex"]) == ("1980-12-05", "m")


def test_progress_walks_through_the_states_at_the_switched_speed(sandbox, project):
    sandbox.switch(import_speed=2)
    package = new_package(sandbox)
    assert sandbox.get(f"v1/import/{package}/progress/")["state"] == 1
    sandbox.send_chunk(package, "f", b"x", identifier="i")
    complete(sandbox, package, folder=project.root)
    seen: list[dict[str, Any]] = []
    while not seen or seen[-1]["state"] != 5:
        seen.append(sandbox.get(f"v1/import/{package}/progress/"))
    states = [progress["state"] for progress in seen]
    assert states[:5] == [2, 2, 3, 3, 4]
    assert seen[-1]["progress"] == 100
    assert seen[-1]["tasks"] == {"count": 1, "finished": 1, "error": 0, "ids": []}


# -- durability --------------------------------------------------------------------------------------


@pytest.fixture
def own_sandbox(tmp_path):
    """A server that the test may kill."""
    with SandboxProcess(tmp_path / "data", switches={"import-speed": "0"}) as process:
        yield process


def test_what_was_answered_with_success_survives_kill_nine(own_sandbox):
    """Chunks, project and folder are there after a kill right behind the last 200, and the import completes."""
    sandbox = own_sandbox
    project = sandbox.post("v2/project/", {"name": "survives"})
    package = new_package(sandbox)
    for number in (1, 2, 3):
        content = bytes([number]) * 100_000
        sent = sandbox.send_chunk(
            package, "big.bin", content, identifier="i", number=number, chunks=3, total_size=300_000
        )
        assert sent.status_code == 200
        sandbox.kill()
        sandbox.start()
    made = sandbox.post(f"v1/folder/{project['root_folder']}/new/", {"name": "made"})
    sandbox.kill()
    sandbox.start()
    assert sandbox.api_key == sandbox.users["admin"]
    assert complete(sandbox, package, folder=made["object_id"]) == 204
    sandbox.kill()
    sandbox.start()
    assert sandbox.wait_for_import(package) == 5
    whole = b"".join(bytes([number]) * 100_000 for number in (1, 2, 3))
    assert tree(sandbox, project["root_folder"]) == {"made/big.bin": sha1(whole)}
    datafile = sandbox.get(f"v1/import/{package}/result/")["datafiles"][0]["id"]
    sandbox.kill()
    sandbox.start()
    assert sandbox.api("GET", f"v1/datafile/{datafile}/download/").content == whole
    assert not (sandbox.data / "imports" / str(package)).exists()


def test_a_server_killed_while_it_imports_goes_on_at_its_next_start(own_sandbox):
    """Killed behind the 204 of each of several packages, at whatever point the import had reached."""
    sandbox = own_sandbox
    root = sandbox.get("v2/project/myagora/")["root_folder"]
    files = {f"f{number}.txt": b"%d" % number for number in range(50)}
    packages = []
    for round_ in range(4):
        package = new_package(sandbox)
        packed = zipped({f"round{round_}/{name}": content for name, content in files.items()})
        assert sandbox.send_chunk(package, "x.agora_upload", packed, identifier="i").status_code == 200
        assert complete(sandbox, package, folder=root) == 204
        sandbox.kill()
        sandbox.start()
        packages.append(package)
    assert [sandbox.wait_for_import(package) for package in packages] == [5] * 4
    assert tree(sandbox, root) == {
        f"round{round_}/{name}": sha1(content) for round_ in range(4) for name, content in files.items()
    }
