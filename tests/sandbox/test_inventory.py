"""The comparable view of everything on a server: equal for equal archives, different for any difference."""

from __future__ import annotations

import hashlib

import pytest
from gtagora import Agora

from tests.sandbox.conftest import ProjectIds, dicom_file
from tests.support.sandbox import SandboxProcess

UID = "2.25.4711"


def fill(sandbox, order=1):
    """Put the same things into a project of a server, in one order or the other."""
    for name in ("Before", "Study")[::order]:
        sandbox.post("v2/project/", {"name": name})
    (project,) = [p for p in sandbox.get("v2/project/")["results"] if p["name"] == "Study"]
    root = project["root_folder"]
    files = {f"d/IM_{number}": dicom_file(study=UID, series=f"{UID}.1", number=number) for number in (1, 2)}
    uploads = [files, {"a/x.txt": b"x", "a/b/y.txt": b""}, {"z.txt": b"z"}]
    for upload in uploads[::order]:
        assert sandbox.upload(upload, folder=root)["state"] == 5
    exam = sandbox.get(f"v2/project/{project['id']}/exam/uid/{UID}/")
    sandbox.post(f"v1/exam/{exam['id']}/link_to/{root}/")
    return ProjectIds(project["id"], root, "Study")


@pytest.fixture
def filled(tmp_path):
    with SandboxProcess(tmp_path / "one", switches={"import-speed": "0"}) as sandbox:
        yield sandbox, fill(sandbox)


def dataset_of(sandbox, folder, name):
    (item,) = [
        item for item in sandbox.get(f"v1/folder/{folder}/items/") if item["content_object"]["name"] == name
    ]
    return item["object_id"]


def test_servers_that_hold_the_same_give_equal_trees_whatever_the_order(filled, tmp_path):
    sandbox, _ = filled
    with SandboxProcess(tmp_path / "two", switches={"import-speed": "0"}) as other:
        fill(other, order=-1)
        assert other.tree() == sandbox.tree()


def test_everything_is_in_the_tree(filled):
    sandbox, project = filled
    agora = Agora.create(sandbox.url, api_key=sandbox.api_key)
    dataset = agora.get_folder(project.root).get_dataset("z.txt")
    dataset.tag(agora.create_tag("good", project=project.id))
    dataset.rate(4)
    dataset.set_parameters({"n": 1})
    whole = sandbox.tree()
    assert set(whole["projects"]) == {"admin", "scientist", "observer", "Before", "Study"}
    study = whole["projects"]["Study"]
    assert study["tags"] == ["good"]
    assert set(study["folders"]) == {"", "a", "a/b"}
    shown = {item["name"]: item for item in study["folders"][""]}
    assert {(item["kind"], name, item["is_link"]) for name, item in shown.items()} == {
        ("folder", "a", False),
        ("dataset", "z.txt", False),
        ("exam", "Brain MRI", True),
    }
    assert shown["Brain MRI"]["uid"] == UID
    assert shown["z.txt"]["dataset"] == {
        "name": "z.txt",
        "type": 100000,
        "datafiles": [{"name": "z.txt", "size": 1, "sha1": hashlib.sha1(b"z").hexdigest()}],
        "tags": ["good"],
        "rating": 4,
        "parameters": {"User Parameters": [{"Name": "n", "Value": 1}]},
    }
    (exam,) = study["exams"]
    (series,) = exam["series"]
    assert (exam["uid"], exam["patient"], exam["locked"], series["uid"]) == (UID, "P1", False, f"{UID}.1")
    assert [file["name"] for file in series["datasets"][0]["datafiles"]] == ["d/IM_1", "d/IM_2"]
    assert whole["trash"] == []


def _rename_exam(sandbox, project):
    exam = sandbox.get(f"v2/project/{project.id}/exam/uid/{UID}/")["id"]
    sandbox.api("PUT", f"v1/exam/{exam}/", json={"name": "other"})


def _change_content(sandbox, project):
    dataset = dataset_of(sandbox, project.root, "z.txt")
    datafile = sandbox.get(f"v2/dataset/{dataset}/datafiles/")["results"][0]["id"]
    sandbox.replace_content(datafile, b"Z")


def _delete_file(sandbox, project):
    sandbox.api("DELETE", f"v1/dataset/{dataset_of(sandbox, project.root, 'z.txt')}/")


def _copy_file(sandbox, project):
    dataset = dataset_of(sandbox, project.root, "z.txt")
    sandbox.post(f"v2/dataset/{dataset}/copy_to/{project.id}/folder/{project.root}/", {})


def _tag_folder(sandbox, project):
    tag = sandbox.post("v2/tag-definition/", {"label": "t"})["id"]
    sandbox.post(
        "v2/tag-instance/",
        {
            "tag_definition": tag,
            "tagged_object_content_type": "dataset",
            "tagged_object_id": dataset_of(sandbox, project.root, "z.txt"),
        },
    )


def _make_folder(sandbox, project):
    sandbox.post(f"v1/folder/{project.root}/new/", {"name": "empty"})


@pytest.mark.parametrize(
    "change", [_rename_exam, _change_content, _delete_file, _copy_file, _tag_folder, _make_folder]
)
def test_every_difference_shows(filled, change):
    sandbox, project = filled
    before = sandbox.tree()
    change(sandbox, project)
    assert sandbox.tree() != before


def test_what_was_deleted_is_in_the_trash_with_its_files(filled):
    sandbox, project = filled
    _delete_file(sandbox, project)
    sandbox.api("DELETE", f"v2/folder/{dataset_of(sandbox, project.root, 'a')}/")
    whole = sandbox.tree()
    assert set(whole["projects"]["Study"]["folders"]) == {""}
    deleted = {entry["name"]: (entry["kind"], entry["datafiles"]) for entry in whole["trash"]}
    assert {
        name: (kind, sorted(file["name"] for file in files)) for name, (kind, files) in deleted.items()
    } == {
        "a": ("folder", ["x.txt", "y.txt"]),
        "z.txt": ("dataset", ["z.txt"]),
    }
    assert {entry["project"] for entry in whole["trash"]} == {"Study"}


def test_a_folder_linked_into_its_own_child_is_told_once(filled):
    sandbox, project = filled
    child = dataset_of(sandbox, project.root, "a")
    sandbox.post(f"v2/folder/{project.root}/link_to/{child}/")
    folders = sandbox.tree()["projects"]["Study"]["folders"]
    assert set(folders) == {"", "a", "a/b"}
    assert ("folder", "Study", True) in [
        (item["kind"], item["name"], item["is_link"]) for item in folders["a"]
    ]
