"""Tasks, moves, searches, the trash, workbooks and projects: asked by the client, answered by the embedded server."""

from __future__ import annotations

import uuid

import pytest

from agorafs.client import Kind, RemoteRef
from agorafs.client.task_records import TimelineState
from agorafs.client.tasks import object_input
from agorafs.errors import NotAuthenticated, NotFound, ProtocolError
from tests.support.waiting import eventually


@pytest.fixture
def client(sandbox_client):
    return sandbox_client


@pytest.fixture
def project(client):
    return next(project for project in client.projects() if len(client.project_exams(project.id)) > 1)


@pytest.fixture
def exam(client, project):
    return next(
        exam for exam in client.project_exams(project.id) if not exam.locked and client.exam_series(exam.id)
    )


@pytest.fixture
def other_project(client):
    return client.administration.create_project(f"other {uuid.uuid4()}", "for one test")


def ended(client, item):
    """Wait until a run has ended; return it as it is then."""
    eventually(lambda: client.tasks.timeline(item.id).state.is_over, 30)
    return client.tasks.timeline(item.id)


# -- tasks -------------------------------------------------------------------------------------------

FORM = {
    "id": 77,
    "name": "Sums",
    "inputs": [
        {"id": 5, "key": "ds", "name": "Data", "order": 0, "type": 3, "required": True, "data_set_type": None},
        {"id": 6, "key": "how", "name": "How", "order": 1, "type": 8, "required": False, "select_values": ["a", "b"]},
    ],
    "outputs": [],
    "execute_template": "checksum {{ inputs.ds.file.path }}",
    "something_new": {"a": [1]},
}  # fmt: skip


def test_a_task_is_made_saved_listed_copied_and_deleted(client, other_project):
    made = client.tasks.create({**FORM, "project": other_project.id})
    assert [(one.key, one.type, one.options) for one in made.inputs] == [
        ("ds", "dataset", ()),
        ("how", "select", ("a", "b")),
    ]
    saved = client.tasks.save(made.id, {**made.raw, "name": "Sums again"}, is_script=False)
    assert saved.name == "Sums again"
    assert saved.raw["something_new"] == {"a": [1]}
    assert client.tasks.task(made.id, is_script=False) == saved
    assert client.tasks.project_tasks(other_project.id) == [saved]
    client.tasks.import_into(other_project.id, client.tasks.export(made.id, is_script=False))
    client.tasks.copy_to(made.id, other_project.id)
    tasks = client.tasks.project_tasks(other_project.id)
    assert [task.name for task in tasks] == ["Sums again"] * 3
    third = client.administration.create_project(f"third {uuid.uuid4()}", "")
    client.tasks.move_to(made.id, third.id)
    (moved,) = client.tasks.project_tasks(third.id)
    assert (moved.id, moved.project) == (made.id, third.id)
    client.tasks.delete(made.id, is_script=False)
    with pytest.raises(NotFound):
        client.tasks.task(made.id, is_script=False)


def test_a_run_ends_with_what_it_made(client, project, exam):
    task = client.tasks.create({**FORM, "project": project.id})
    dataset = client.exam_files(exam.id)[0]
    folder = client.changes.create_folder(project.root_folder, f"run {uuid.uuid4()}").object_id
    inputs = {"ds": object_input(RemoteRef(Kind.DATASET, dataset.id))}
    item = ended(client, client.tasks.run(task.id, RemoteRef(Kind.FOLDER, folder), inputs, is_script=False))
    assert (item.state, item.error) == (TimelineState.FINISHED, "")
    made = [RemoteRef(Kind.DATASET, one.object_id) for one in client.folder_items(folder)]
    assert made
    assert set(made) <= set(item.related)


def test_a_run_without_its_input_is_refused_with_its_name(client, project):
    task = client.tasks.create({**FORM, "project": project.id})
    with pytest.raises(ProtocolError, match="ds"):
        client.tasks.run(task.id, None, {}, is_script=False)


# -- copies and moves --------------------------------------------------------------------------------


def test_an_exam_is_copied_to_another_project(client, exam, other_project):
    item = ended(client, client.moving.copy_exam(exam.id, other_project.id, None))
    (copy,) = client.project_exams(other_project.id)
    assert item.related == (RemoteRef(Kind.EXAM, copy.id),)
    assert copy.id != exam.id
    assert len(client.exam_series(copy.id)) == len(client.exam_series(exam.id))
    third = client.administration.create_project(f"third {uuid.uuid4()}", "")
    item = ended(client, client.moving.move_exam(copy.id, third.id, third.root_folder))
    assert item.state is TimelineState.FINISHED
    assert client.project_exams(other_project.id) == []
    assert [one.id for one in client.project_exams(third.id)] == [copy.id]
    assert [one.object_id for one in client.folder_items(third.root_folder)] == [copy.id]


def test_a_series_is_copied_into_a_folder_of_another_project(client, exam, other_project):
    series = client.exam_series(exam.id)[0]
    item = ended(client, client.moving.copy_series(series.id, other_project.id, other_project.root_folder))
    (shown,) = client.folder_items(other_project.root_folder)
    assert item.related == (RemoteRef(Kind.SERIES, shown.object_id),)
    assert shown.content.name == series.name


# -- searches and what belongs together --------------------------------------------------------------


def test_an_exam_is_found_by_its_name_everywhere_and_in_its_project(client, project, exam):
    for where in (None, project.id):
        hits = client.exploring.search(exam.name, project=where, type_code=2)
        assert (RemoteRef(Kind.EXAM, exam.id), exam.name) in [(hit.ref, hit.name) for hit in hits]
    assert client.exploring.search(f"no {uuid.uuid4()}", project=None) == []


def test_series_are_found_by_an_expression_and_a_bad_one_is_refused(client, exam):
    series = client.exam_series(exam.id)[0]
    found = client.exploring.search_series(f'name = "{series.name}"')
    assert series.id in {one.id for one in found}
    with pytest.raises(ProtocolError):
        client.exploring.search_series("name = = 3 AND")


def test_objects_with_a_tag_are_listed_by_kind(client, project, exam):
    tag = client.annotations.create_tag(f"seen {uuid.uuid4()}", project=project.id)
    client.annotations.tag(RemoteRef(Kind.EXAM, exam.id), tag.id)
    assert [one.id for one in client.annotations.tagged(project.id, Kind.EXAM, tag.id)] == [exam.id]
    assert client.annotations.tagged(project.id, Kind.SERIES, tag.id) == []


def test_an_exam_is_locked_and_unlocked(client, exam):
    client.annotations.set_locked([exam.id], True)
    assert client.exam(exam.id).locked
    client.annotations.set_locked([exam.id], False)
    assert not client.exam(exam.id).locked


def test_exam_and_patient_of_a_series_are_found(client, exam):
    series = RemoteRef(Kind.SERIES, client.exam_series(exam.id)[0].id)
    assert client.exploring.exam_of(series).id == exam.id
    patient = client.exploring.patient_of(RemoteRef(Kind.EXAM, exam.id))
    assert patient.id == exam.patient
    assert client.exploring.patient_of(series) == patient


def test_folders_that_show_an_exam_are_listed(client, project, exam):
    folder = client.changes.create_folder(project.root_folder, f"shows {uuid.uuid4()}").object_id
    ref = RemoteRef(Kind.EXAM, exam.id)
    client.changes.link(ref, folder)
    assert folder in {one.id for one in client.exploring.folders_of(ref)}
    assert isinstance(client.exploring.relations(ref), list)
    assert isinstance(client.exploring.result_folders(ref), list)


def test_the_files_below_an_exam_are_listed_at_once(client, exam):
    files = {one.id for dataset in client.exam_files(exam.id) for one in dataset.datafiles or ()}
    info = client.exploring.download_info([RemoteRef(Kind.EXAM, exam.id)])
    assert {one["id"] for one in info} == files


# -- trash and workbooks -----------------------------------------------------------------------------


def test_what_is_deleted_lies_in_the_trash_until_it_is_deleted_finally(client, project):
    name = f"away {uuid.uuid4()}"
    folder = client.changes.create_folder(project.root_folder, name).object_id
    client.changes.delete_folder(folder)
    (entry,) = [entry for entry in client.exploring.trash() if entry.name == name]
    assert (entry.project, entry.kind, entry.object_id) == (project.id, Kind.FOLDER, folder)
    assert entry.deleted_ns is not None
    client.exploring.delete_finally(entry.id)
    assert entry.id not in {one.id for one in client.exploring.trash()}


def test_a_workbook_is_made_changed_and_deleted(client, exam):
    dataset = client.exam_files(exam.id)[-1].id
    before = client.exploring.workbooks(dataset)
    made = client.exploring.create_workbook(
        {
            "id": 9, "dataset": dataset, "name": "Mine", "locked": False, "contour_tab": True, "mask_tab": True,
            "statistics_tab": True, "cmr_tab": False, "mask": {"id": None, "mMasks": [], "selectedMask": None},
            "contour": {"id": None, "contourGroups": [], "landmarkGroups": [], "objectButtons": []},
        }
    )  # fmt: skip
    contour = {"id": made["id"], "contourGroups": [], "landmarkGroups": [], "objectButtons": [{"id": 0}]}
    client.exploring.update_workbook(made["id"], contour=contour)
    shown = client.exploring.workbook(made["id"])
    assert shown["contour"]["objectButtons"] == [{"id": 0}]
    assert shown["mask"]["mMasks"] == []
    assert [one["id"] for one in client.exploring.workbooks(dataset)] == [
        *(one["id"] for one in before),
        made["id"],
    ]
    client.exploring.delete_workbook(made["id"])
    assert client.exploring.workbooks(dataset) == before


# -- projects, users, keys ---------------------------------------------------------------------------


def test_a_project_is_made_renamed_filled_and_deleted(client, other_project):
    administration = client.administration
    administration.rename_project(other_project.id, "Renamed")
    assert client.project(other_project.id).name == "Renamed"
    name = f"user{uuid.uuid4().hex}"
    user = administration.create_user(name, "a long pass phrase", first_name="Ann")
    assert name in {one["username"] for one in administration.users()}
    assert administration.roles()[2] == "scientist"
    administration.add_member(other_project.id, user["id"], 2)
    assert (user["id"], 2) in client.project(other_project.id).roles
    administration.delete_project(other_project.id)
    with pytest.raises(NotFound):
        client.project(other_project.id)


def test_a_host_goes_to_another_project(client, other_project):
    administration = client.administration
    third = administration.create_project(f"third {uuid.uuid4()}", "")
    administration.copy_host(other_project.id, {"id": 9, "name": "gpu", "cores": 8})
    (host,) = administration.hosts(other_project.id)
    assert (host["name"], host["cores"]) == ("gpu", 8)
    administration.move_host(third.id, host["id"])
    assert administration.hosts(other_project.id) == []
    assert [one["name"] for one in administration.hosts(third.id)] == ["gpu"]


def test_the_key_and_a_session_token_let_one_in(sandbox, client):
    assert client.administration.api_key() == sandbox.api_key
    name = f"user{uuid.uuid4().hex}"
    client.administration.create_user(name, "a long pass phrase")
    token = client.administration.log_in(name, "a long pass phrase")
    assert token
    with pytest.raises(NotAuthenticated):
        client.administration.log_in(name, "another")


def test_groups_and_logs_are_listed_for_administrators(client):
    assert isinstance(client.administration.groups(), list)
    for one in client.exploring.logfiles():
        assert "/api/" in client.exploring.logfile(one["id"])
