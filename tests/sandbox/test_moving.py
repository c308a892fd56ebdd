"""Exams and series are copied and moved between projects; the connector asks, where it has the call."""

from __future__ import annotations

import itertools
import types

import pytest
from gtagora.exception import AgoraException

from agorafs.sandbox import accounts, bulk, copying, objects
from agorafs.sandbox.store import Store
from tests.sandbox.conftest import ProjectIds, make_study
from tests.support.sandbox import SandboxProcess

_numbers = itertools.count(1)


@pytest.fixture
def target(sandbox):
    """Another project of the administrator."""
    name = f"target {next(_numbers)}"
    body = sandbox.post("v2/project/", {"name": name})
    return ProjectIds(body["id"], body["root_folder"], name)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    """The connector waits two seconds between its polls of a timeline item; not here."""
    monkeypatch.setattr("gtagora.models.timeline.time", types.SimpleNamespace(sleep=lambda seconds: None))


def ended(sandbox, item):
    """Ask for a timeline item until it has ended, and return its data."""
    for _ in range(10):
        data = sandbox.get(f"v2/timeline/{item['id']}/")["data"]
        if data["state"] not in (1, 6):
            return data
    raise AssertionError(f"the item has not ended: {data}")


def files_of(sandbox, exam):
    """Return (name, SHA-1, datafile id) of all files of an exam."""
    return [
        (file["original_filename"], file["sha1"], file["id"])
        for dataset in sandbox.get(f"v1/exam/{exam}/files/?limit=1000")["results"]
        for file in dataset["datafiles"]
    ]


def without_ids(files):
    return [(name, sha1) for name, sha1, _ in files]


def shown_in(sandbox, folder):
    items = sandbox.get(f"v2/folder/{folder}/items/?limit=1000")["results"]
    return [(item["content_type"], item["object_id"], item["is_link"]) for item in items]


# -- copies ------------------------------------------------------------------------------------------


def test_row_91_an_exam_is_copied_to_a_project_with_its_contents_and_uids(agora, sandbox, study, target):
    sandbox.post(f"v2/exam/{study.exam}/parametersets/", {"name": "mine", "parameters": []})
    copy = agora.get_exam(study.exam).copy_to_project(target.id)
    assert (copy.project, copy.uid, copy.locked) == (target.id, study.exam_uid, False)
    assert copy.id != study.exam
    before, after = files_of(sandbox, study.exam), files_of(sandbox, copy.id)
    assert without_ids(before) == without_ids(after) and len(after) == 2
    assert not {file[2] for file in before} & {file[2] for file in after}
    (series,) = copy.get_series()
    assert series.uid == study.series_uid
    heads = sandbox.get(f"v2/exam/{copy.id}/parametersets/")
    assert [head["name"] for head in heads] == ["mine"]
    assert series.get_datasets()[0].get_parametersets(), "the header of the DICOM files came along"
    assert sandbox.get(f"v2/exam/{copy.id}/")["patient"]["id"] == study.patient


def test_row_91_an_exam_is_copied_to_a_folder_of_another_project_and_linked_there(
    agora, sandbox, study, target
):
    copy = agora.get_exam(study.exam).copy_to_folder(target.root)
    assert copy.project == target.id
    assert shown_in(sandbox, target.root) == [("exam", copy.id, True)]


def test_a_copy_leaves_the_original_and_what_people_think_of_it(sandbox, project, study, target):
    tag = sandbox.post("v2/tag-definition/", {"label": "t", "project": project.id})["id"]
    tagged = {"tag_definition": tag, "tagged_object_content_type": "exam", "tagged_object_id": study.exam}
    rated = {"value": 3, "rated_object_content_type": "exam", "rated_object_id": study.exam}
    sandbox.post("v2/tag-instance/", tagged)
    sandbox.post("v2/rating/", rated)
    before = (sandbox.get(f"v2/exam/{study.exam}/tree/"), sandbox.get(f"v2/exam/{study.exam}/tags/"))
    item = sandbox.post(f"v2/exam/{study.exam}/copy_to/{target.id}/")
    (copied,) = ended(sandbox, item)["related_objects"]
    assert (
        sandbox.get(f"v2/exam/{study.exam}/tree/"),
        sandbox.get(f"v2/exam/{study.exam}/tags/"),
    ) == before
    assert copied["content_type"] == "exam"
    assert sandbox.get(f"v2/exam/{copied['id']}/tags/") == []
    assert sandbox.get(f"v2/exam/{copied['id']}/rating/") == []


def test_the_contents_of_a_copy_outlive_the_original(sandbox, project, study, target):
    item = sandbox.post(f"v2/exam/{study.exam}/copy_to/{target.id}/")
    (copied,) = ended(sandbox, item)["related_objects"]
    assert sandbox.api("DELETE", f"v1/exam/{study.exam}/").status_code == 204
    (entry,) = [e for e in sandbox.get("v1/trash/?limit=1000")["results"] if e["project"] == project.id]
    assert sandbox.api("DELETE", f"v1/trash/{entry['id']}/delete").status_code == 204
    for _, _, datafile in files_of(sandbox, copied["id"]):
        assert sandbox.api("GET", f"v1/datafile/{datafile}/download/").content


def test_a_second_copy_has_uids_of_its_own(sandbox, study, target):
    """A UID names one thing in a project."""
    copies = [
        ended(sandbox, sandbox.post(f"v2/exam/{study.exam}/copy_to/{target.id}/"))["related_objects"][0]["id"]
        for _ in range(2)
    ]
    uids = [sandbox.get(f"v2/exam/{copy}/")["uid"] for copy in copies]
    assert uids[0] == study.exam_uid and uids[1] != study.exam_uid
    assert sandbox.get(f"v2/project/{target.id}/exam/uid/{uids[1]}/")["id"] == copies[1]


def test_relations_between_copied_series_are_copied(tmp_path):
    """Only imports make relations, so the store is prepared."""

    store = Store(tmp_path)
    try:
        accounts.ensure_users(store)
        project, other = bulk.add_project(store, "A"), bulk.add_project(store, "B")
        with store.transaction() as db:
            now = store.now()
            exam, left = (
                objects.create_exam(db, now, project, name, uid=name, owner=1) for name in ("e", "left")
            )
            first, second = (objects.create_series(db, now, exam, n, uid=n) for n in ("1", "2"))
            third = objects.create_series(db, now, left, "3", uid="3")
            objects.add_relation(db, "serie", first, "serie", second)
            objects.add_relation(db, "serie", second, "serie", third)
            row = db.execute("SELECT * FROM live_exam WHERE id = ?", (exam,)).fetchone()
            copy = copying.copy_exam(db, now, 1, row, other)
            copies = [
                r["id"] for r in db.execute("SELECT id FROM series WHERE exam = ? ORDER BY id", (copy,))
            ]
            relations = [tuple(r) for r in db.execute("SELECT from_id, to_id FROM relation ORDER BY id")]
    finally:
        store.close()
    assert relations == [(first, second), (second, third), (copies[0], copies[1])]


def test_row_92_a_series_is_copied_into_an_exam_like_its_own(agora, sandbox, study, target):
    copy = agora.get_series(study.series).copy_to_folder(target.root)
    assert (copy.project, copy.uid) == (target.id, study.series_uid)
    exam = sandbox.get(f"v2/exam/{copy.exam}/")
    assert (exam["uid"], exam["patient"]["id"]) == (study.exam_uid, study.patient)
    assert without_ids(files_of(sandbox, copy.exam)) == without_ids(files_of(sandbox, study.exam))
    assert shown_in(sandbox, target.root) == [("serie", copy.id, True)]

    again = agora.get_series(study.series).copy_to_folder(target.root)
    assert (again.exam, again.uid == study.series_uid) == (copy.exam, False)


def test_a_series_copied_inside_its_project_is_beside_itself(agora, sandbox, project, study):
    copy = agora.get_series(study.series).copy_to_folder(project.root)
    assert (copy.exam, copy.project) == (study.exam, project.id)
    assert copy.uid != study.series_uid
    assert sandbox.get(f"v1/exam/{study.exam}/series/")["count"] == 2


# -- moves -------------------------------------------------------------------------------------------


def test_row_91_an_exam_is_moved_and_keeps_its_ids_and_all_but_the_tags_of_the_project(
    sandbox, project, study, target
):
    tags = [
        sandbox.post("v2/tag-definition/", fields)["id"]
        for fields in ({"label": "theirs", "project": project.id}, {"label": "mine"})
    ]
    for tag in tags:
        tagged = {"tag_definition": tag, "tagged_object_content_type": "exam", "tagged_object_id": study.exam}
        sandbox.post("v2/tag-instance/", tagged)
    rated = {"value": 3, "rated_object_content_type": "serie", "rated_object_id": study.series}
    sandbox.post("v2/rating/", rated)
    sandbox.post(f"v2/exam/{study.exam}/link_to/{project.root}/")
    files = files_of(sandbox, study.exam)

    item = sandbox.post(f"v2/exam/{study.exam}/move_to/{target.id}/")
    assert ended(sandbox, item)["related_objects"][0]["id"] == study.exam

    assert files_of(sandbox, study.exam) == files
    assert sandbox.get(f"v2/exam/{study.exam}/")["project"] == target.id
    assert sandbox.get(f"v2/series/{study.series}/")["project"] == target.id
    assert sandbox.get(f"v2/dataset/{study.dataset}/")["project"] == target.id
    assert sandbox.get(f"v2/project/{project.id}/exam/")["count"] == 0
    assert shown_in(sandbox, project.root) == []
    assert [tag["label"] for tag in sandbox.get(f"v2/exam/{study.exam}/tags/")] == ["mine"]
    assert sandbox.get(f"v2/series/{study.series}/rating/")[0]["value"] == 3


def test_row_91_an_exam_is_moved_into_a_folder(agora, sandbox, study, target):
    """The connector looks for another id than the one it had, and so it returns nothing."""
    assert agora.get_exam(study.exam).move_to_project(target.id, target.root) is None
    assert agora.get_exam(study.exam).project == target.id
    assert shown_in(sandbox, target.root) == [("exam", study.exam, True)]


def test_the_connectors_misspelt_call_does_not_exist(agora, study, target):
    """``move_to_project`` without a folder leaves out a slash (its defect)."""
    with pytest.raises(AgoraException, match="404"):
        agora.get_exam(study.exam).move_to_project(target.id)
    assert agora.get_exam(study.exam).project != target.id


def test_a_moved_exam_is_found_by_its_uid_where_it_is_now(sandbox, project, study, target):
    ended(sandbox, sandbox.post(f"v2/exam/{study.exam}/move_to/{target.id}/"))
    assert sandbox.get(f"v2/project/{target.id}/exam/uid/{study.exam_uid}/")["id"] == study.exam
    assert sandbox.api("GET", f"v2/project/{project.id}/exam/uid/{study.exam_uid}/").status_code == 404


# -- refusals ----------------------------------------------------------------------------------------


def test_a_locked_exam_is_copied_and_not_moved(sandbox, study, target):
    sandbox.post("v2/exam/lock_ids/", {"ids": [study.exam]})
    for tail in (f"move_to/{target.id}/", f"move_to/{target.id}/folder/{target.root}/"):
        assert sandbox.api("POST", f"v2/exam/{study.exam}/{tail}").status_code == 403
    item = sandbox.post(f"v2/exam/{study.exam}/copy_to/{target.id}/")
    (copied,) = ended(sandbox, item)["related_objects"]
    assert sandbox.get(f"v2/exam/{copied['id']}/")["locked"] is False


def test_a_series_is_not_copied_into_a_locked_exam(sandbox, project, study):
    sandbox.post("v2/exam/lock_ids/", {"ids": [study.exam]})
    path = f"v2/series/{study.series}/copy_to/{project.id}/folder/{project.root}/"
    assert sandbox.api("POST", path).status_code == 403


def test_observers_copy_from_a_project_and_not_into_it(sandbox, project, study, target):
    ids = {user["username"]: user["id"] for user in sandbox.get("v1/user/?limit=1000")["results"]}
    for one, role in ((project, 4), (target, 2)):
        sandbox.post("v2/projectmembership/", {"project": one.id, "user": ids["scientist"], "role": role})
    path = f"v2/exam/{study.exam}"
    assert sandbox.api("POST", f"{path}/copy_to/{project.id}/", user="scientist").status_code == 403
    assert sandbox.api("POST", f"{path}/move_to/{target.id}/", user="scientist").status_code == 403
    assert sandbox.api("POST", f"{path}/copy_to/{target.id}/", user="scientist").status_code == 200


def test_what_is_not_seen_is_neither_copied_nor_a_target(sandbox, project, study, target):
    for path in (
        f"v2/exam/{study.exam}/copy_to/{10**9}/",
        f"v2/exam/{10**9}/copy_to/{target.id}/",
        f"v2/exam/{study.exam}/move_to/{target.id}/folder/{10**9}/",
    ):
        assert sandbox.api("POST", path).status_code == 404
    assert (
        sandbox.api("POST", f"v2/exam/{study.exam}/copy_to/{target.id}/", user="scientist").status_code == 404
    )
    folder_elsewhere = f"v2/exam/{study.exam}/copy_to/{target.id}/folder/{project.root}/"
    assert sandbox.api("POST", folder_elsewhere).status_code == 400
    assert sandbox.get(f"v2/project/{target.id}/exam/")["count"] == 0


def test_a_move_survives_kill_nine(tmp_path):

    with SandboxProcess(tmp_path / "data", switches={"import-speed": "0"}) as sandbox:
        a, b = (sandbox.post("v2/project/", {"name": name}) for name in "ab")
        study = make_study(sandbox, ProjectIds(a["id"], a["root_folder"], "a"))
        item = sandbox.post(f"v2/exam/{study.exam}/move_to/{b['id']}/")
        sandbox.kill()
        sandbox.start()
        assert sandbox.get(f"v2/exam/{study.exam}/")["project"] == b["id"]
        assert ended(sandbox, item)["state"] == 2
