"""The client and the embedded server, each written from the vendor's programs alone, understand each other."""

from __future__ import annotations

import hashlib
import random

import pytest

from agorafs.byterange import ByteRange
from agorafs.client import ApiKey, Client, Kind, RemoteRef, Transport, check_server
from agorafs.errors import NotAuthenticated, NotFound, ProtocolError, RemoteError, ServerTooOld


@pytest.fixture
def client(sandbox_client):
    return sandbox_client


@pytest.fixture
def switch(sandbox):
    """Change switches for one test."""
    before = sandbox.control("GET", "switches")
    yield sandbox.switch
    sandbox.control("PUT", "switches", json=before)


def read_all(body):
    view = memoryview(bytearray(1 << 20))
    pieces = []
    with body:
        while count := body.readinto(view):
            pieces.append(bytes(view[:count]))
    return b"".join(pieces)


def all_exams(client):
    return [exam for project in client.projects() for exam in client.project_exams(project.id)]


def test_the_server_is_accepted(client):
    version, user = check_server(client)
    assert version.numbers is not None
    assert user.username == "admin"


def test_an_old_version_is_refused(client, switch):
    switch(version="7.13.0")
    with pytest.raises(ServerTooOld, match=r"7\.13\.0"):
        check_server(client)


def test_every_object_is_the_same_listed_and_asked_for_alone(client):
    projects = client.projects()
    assert projects
    assert client.my_agora().is_myagora
    for project in projects:
        assert client.project(project.id) == project
        for patient in client.project_patients(project.id):
            assert client.patient(patient.id) == patient
        for exam in client.project_exams(project.id):
            assert client.exam(exam.id) == exam
            assert client.exam_by_uid(project.id, exam.uid) == exam
            for series in client.exam_series(exam.id):
                assert client.series(series.id) == series
                assert client.series_by_uid(project.id, series.uid) == series
                for dataset in client.series_datasets(series.id):
                    assert client.dataset(dataset.id) == dataset


def test_a_tree_says_what_the_single_listings_say(client):
    exams = all_exams(client)
    assert exams
    for exam in exams:
        tree = client.exam_tree(exam.id)
        assert [branch.series for branch in tree.series] == client.exam_series(exam.id)
        in_tree = {dataset.id for dataset in tree.datasets}
        for branch in tree.series:
            assert branch.datasets is not None
            in_tree |= {dataset.id for dataset in branch.datasets}
        assert in_tree == {dataset.id for dataset in client.exam_files(exam.id)}


def test_every_patient_has_exams_that_name_it(client):
    for patient in client.patients():
        for exam in client.patient_exams(patient.id):
            assert exam.patient == patient.id


def test_folders_are_walked_and_their_breadcrumbs_lead_back(client):
    waiting: list[tuple[int, ...]] = [
        (project.root_folder,) for project in client.projects() if project.root_folder
    ]
    kinds = set()
    while waiting:
        path = waiting.pop()
        folder = client.folder(path[-1])
        assert folder.id == path[-1]
        assert tuple(crumb.folder for crumb in client.folder_breadcrumb(folder.id)) == path
        for item in client.folder_items(folder.id):
            kinds.add(item.content_type)
            if item.content_type == "folder" and not item.is_link:
                waiting.append((*path, item.object_id))
            elif item.content_type == "dataset":
                assert folder.id in {found.id for found in client.dataset_folders(item.object_id)}
    assert {"folder", "dataset"} <= kinds


def test_the_datafiles_of_a_dataset_are_found_whatever_the_lists_carry(client, switch):
    exam = next(exam for exam in all_exams(client) if client.exam_files(exam.id))
    datasets = client.exam_files(exam.id)
    switch(datafiles_v1="off")
    for dataset in datasets:
        assert dataset.datafiles is not None
        assert client.dataset(dataset.id).datafiles is None
        assert client.dataset_datafiles(dataset.id) == list(dataset.datafiles)


@pytest.mark.parametrize("shape", ["bare", "page"])
def test_folder_items_are_the_same_in_both_shapes(client, switch, shape):
    root = next(project.root_folder for project in client.projects() if project.root_folder)
    expected = client.folder_items(root)
    switch(folder_items_v1=shape)
    assert client.folder_items(root) == expected


def test_small_pages_add_up_to_the_same_list(client, switch):
    expected = client.projects(), client.patients(), all_exams(client)
    assert len(expected[2]) > 2
    switch(page_max="2")
    assert (client.projects(), client.patients(), all_exams(client)) == expected


def test_every_kind_is_described(client):
    exam = next(exam for exam in all_exams(client) if client.exam_series(exam.id))
    series = client.exam_series(exam.id)[0]
    dataset = client.series_datasets(series.id)[0]
    datafile = client.dataset_datafiles(dataset.id)[0]
    project = client.projects()[0]
    refs = [
        RemoteRef(Kind.EXAM, exam.id),
        RemoteRef(Kind.SERIES, series.id),
        RemoteRef(Kind.DATASET, dataset.id),
        RemoteRef(Kind.DATAFILE, datafile.id),
        RemoteRef(Kind.PROJECT, project.id),
        RemoteRef(Kind.FOLDER, project.root_folder or 0),
        RemoteRef(Kind.PATIENT, client.patients()[0].id),
    ]
    for ref in refs:
        assert client.describe(ref)["id"] == ref.id
    assert client.datafile(datafile.id) == datafile


def test_the_makers_of_scanners_are_named(client):
    vendors = client.vendors()
    assert {"Unknown", "Philips", "Siemens"} <= set(vendors.values())
    assert all(isinstance(number, int) for number in vendors)


def test_what_is_not_there_is_not_found(client):
    for ask in (client.project, client.folder, client.exam, client.series, client.dataset, client.patient):
        with pytest.raises(NotFound):
            ask(987654)
    with pytest.raises(NotFound):
        client.open_body(987654)


@pytest.mark.parametrize("ranges", ["on", "off"])
def test_downloads_have_the_recorded_checksum(sandbox, client, switch, ranges):
    switch(ranges=ranges)
    datafiles = sandbox.datafiles()
    for recorded in random.Random(1).sample(datafiles, min(40, len(datafiles))):
        content = read_all(client.open_body(recorded["id"]))
        assert len(content) == recorded["size"]
        assert hashlib.sha1(content).hexdigest() == recorded["sha1"]
        if recorded["size"] > 2:
            part = ByteRange(1, recorded["size"] - 1)
            with client.open_body(recorded["id"], part) as body:
                assert body.is_partial is (ranges == "on")
                assert body.total == recorded["size"]
                assert read_all(body) == content[body.byte_range.start : body.byte_range.stop]


@pytest.mark.parametrize("fault", ["truncate:/download:*", "reset-body:/download:*"])
def test_a_body_that_was_cut_is_an_error(sandbox, client, switch, fault):
    large = max(sandbox.datafiles(), key=lambda recorded: recorded["size"])
    switch(fault=fault)
    with pytest.raises(RemoteError):
        read_all(client.open_body(large["id"]))


@pytest.mark.parametrize("fault", ["reset:/project/:2", "status=503:/project/:1", "status=429:/project/:1"])
def test_what_passes_is_not_seen_above(client, switch, fault):
    expected = client.projects()
    switch(fault=fault)
    assert client.projects() == expected


@pytest.mark.parametrize("fault", ["html:/project/:*", "json-garbage:/project/:*"])
def test_an_answer_that_is_not_json_is_a_protocol_error(client, switch, fault):
    switch(fault=fault)
    with pytest.raises(ProtocolError):
        client.projects()


def test_a_revoked_key_is_refused_until_it_is_replaced(sandbox):
    """On a user of its own, because the others share the administrator."""
    user = next(name for name in sandbox.users if name != "admin")
    client = Client(Transport(sandbox.url, ApiKey(sandbox.users[user])))
    assert client.current_user().username == user
    sandbox.revoke(user)
    with pytest.raises(NotAuthenticated):
        client.projects()
    client.replace_credential(ApiKey(sandbox.set_api_key(user=user)))
    assert client.current_user().username == user
    client.close()
