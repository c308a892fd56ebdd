"""Every change and every upload, made by the client and carried out by the embedded server."""

from __future__ import annotations

import hashlib
import random
import uuid

import pytest

from agorafs.client import Folder, Kind, RemoteRef
from agorafs.client.imports import Chunk, CompleteRequest
from agorafs.errors import (
    AlreadyExists,
    NotFound,
    PermissionDenied,
    ProtocolError,
    RemoteUnavailable,
    TooLarge,
)
from tests.client.test_uploading import NAMES

CONTENT = random.Random(2).randbytes(700_000)


@pytest.fixture
def client(sandbox_client):
    return sandbox_client


@pytest.fixture
def switch(sandbox):
    """Change switches for one test."""
    before = sandbox.control("GET", "switches")
    yield sandbox.switch
    sandbox.control("PUT", "switches", json=before)


@pytest.fixture
def project(client):
    return next(project for project in client.projects() if client.project_exams(project.id))


@pytest.fixture
def folder(client, project):
    """A new folder in a project that has exams."""
    return client.changes.create_folder(project.root_folder, f"test {uuid.uuid4()}").content


@pytest.fixture
def exam(client, project):
    return next(
        exam for exam in client.project_exams(project.id) if not exam.locked and client.exam_series(exam.id)
    )


def upload(client, target, content, *, chunk_bytes=1 << 20, **to):
    """Import one file and return its result."""
    package = client.imports.create_package()
    send(client, package, target, content, chunk_bytes=chunk_bytes)
    client.imports.complete(package, CompleteRequest(**to))
    while not client.imports.progress(package).is_finished:
        pass  # each poll takes the sandbox one step further
    (file,) = client.imports.result(package).datafiles
    return file


def send(client, package, target, content, *, chunk_bytes):
    identifier = str(uuid.uuid4())
    chunks = max(1, -(-len(content) // chunk_bytes))
    for number in range(1, chunks + 1):
        data = memoryview(content)[(number - 1) * chunk_bytes : number * chunk_bytes]
        chunk = Chunk(identifier, target, number, chunks, chunk_bytes, len(content))
        client.imports.send_chunk(package, chunk, data)
    return identifier


def items(client, folder):
    return client.folder_items(folder.id)


# -- folders, links, names ---------------------------------------------------------------------------


def test_a_folder_is_made_renamed_and_deleted(client, folder):
    made = client.changes.create_folder(folder.id, "Füße")
    assert made == items(client, folder)[0]
    assert isinstance(made.content, Folder)
    client.changes.rename_folder(made.content, "Hände")
    assert client.folder(made.object_id).name == "Hände"
    client.changes.delete_folder(made.object_id)
    assert items(client, folder) == []
    with pytest.raises(NotFound):
        client.changes.delete_folder(made.object_id)


def test_a_folder_of_that_name_exists_already(client, folder):
    client.changes.create_folder(folder.id, "a")
    with pytest.raises(AlreadyExists, match="already exists"):
        client.changes.create_folder(folder.id, "a")
    with pytest.raises(ProtocolError, match="blank"):
        client.changes.create_folder(folder.id, " ")
    assert [item.content.name for item in items(client, folder)] == ["a"]


def test_everything_that_can_be_linked_is_shown_and_taken_away_without_being_deleted(client, folder, exam):
    series = client.exam_series(exam.id)[0]
    other = client.changes.create_folder(folder.id, "other").content
    file = upload(client, "a.txt", b"a", folder=other.id)
    refs = [
        RemoteRef(Kind.EXAM, exam.id),
        RemoteRef(Kind.SERIES, series.id),
        RemoteRef(Kind.DATASET, file.dataset),
        RemoteRef(Kind.FOLDER, other.id),
    ]
    target = client.changes.create_folder(folder.id, "target").content
    links = [client.changes.link(ref, target.id) for ref in refs]
    assert [(link.is_link, link.object_id) for link in links] == [(True, ref.id) for ref in refs]
    assert items(client, target) == links
    for link in links:
        client.changes.delete_folder_item(link.id)
    assert items(client, target) == []
    for ref in refs:
        client.describe(ref)


def test_exams_and_series_are_renamed(client, exam):
    series = client.exam_series(exam.id)[0]
    client.changes.rename_exam(exam.id, "New exam")
    client.changes.rename_series(series.id, "New series")
    assert client.exam(exam.id).name == "New exam"
    assert client.series(series.id).name == "New series"


def test_a_dataset_is_moved_copied_and_deleted(client, project, folder):
    there = client.changes.create_folder(folder.id, "there").content
    file = upload(client, "a.txt", b"some text", folder=folder.id)
    moved = client.changes.move_dataset(file.dataset, project.id, there.id)
    assert moved.id == file.dataset
    assert [item.object_id for item in items(client, there)] == [file.dataset]
    copy = client.changes.copy_dataset(file.dataset, project.id, folder.id)
    (datafile,) = client.dataset_datafiles(copy.id)
    assert (datafile.original_filename, datafile.sha1) == ("a.txt", file.sha1)
    client.changes.delete_object(RemoteRef(Kind.DATASET, file.dataset))
    assert items(client, there) == []
    assert client.dataset(copy.id).id == copy.id


def test_a_deletion_whose_answer_was_lost_is_done(client, folder, switch):
    made = client.changes.create_folder(folder.id, "a")
    switch(fault="drop-answer:DELETE /folder/:1")
    client.changes.delete_folder(made.object_id)
    assert items(client, folder) == []


def test_a_folder_whose_creation_was_not_answered_is_made_once(client, folder, switch):
    switch(fault="drop-answer:POST /new/:1")
    with pytest.raises(RemoteUnavailable):
        client.changes.create_folder(folder.id, "a")
    assert [item.content.name for item in items(client, folder)] == ["a"]


# -- tags, ratings, parameters -----------------------------------------------------------------------


@pytest.fixture
def refs(client, folder, exam):
    file = upload(client, "a.txt", uuid.uuid4().bytes, folder=folder.id)
    return [
        RemoteRef(Kind.FOLDER, folder.id),
        RemoteRef(Kind.EXAM, exam.id),
        RemoteRef(Kind.SERIES, client.exam_series(exam.id)[0].id),
        RemoteRef(Kind.DATASET, file.dataset),
        RemoteRef(Kind.PATIENT, exam.patient),
    ]


def test_objects_of_every_kind_are_tagged_and_lose_the_tag(client, project, refs):
    annotations = client.annotations
    tag = annotations.create_tag(f"good {uuid.uuid4()}", project=project.id)
    assert tag in annotations.tags()
    assert tag in annotations.project_tags(project.id)
    for ref in refs:
        assert tag not in annotations.tags_of(ref)
        instance = annotations.tag(ref, tag.id)
        assert (instance.tag, instance.ref) == (tag.id, ref)
        assert tag in annotations.tags_of(ref)
        assert instance in annotations.tag_instances(project.id)
        annotations.remove_tag_instance(instance.id)
        assert tag not in annotations.tags_of(ref)
    annotations.tag(refs[0], tag.id)
    annotations.delete_tag(tag.id)
    assert tag not in annotations.tags()
    assert tag not in annotations.tags_of(refs[0])


def test_a_tag_without_a_project_is_the_users_own(client, refs):
    tag = client.annotations.create_tag(f"mine {uuid.uuid4()}", project=None)
    assert (tag.project, tag.user) == (None, client.current_user().id)
    instance = client.annotations.tag(refs[0], tag.id)
    assert instance in client.annotations.tag_instances(None)


def test_objects_of_every_kind_are_rated(client, refs):
    for ref in refs:
        client.annotations.rate(ref, 0)
        assert client.annotations.rating(ref) is None
        for value in (3, 5):
            client.annotations.rate(ref, value)
            rating = client.annotations.rating(ref)
            assert rating is not None
            assert rating.value == value
        client.annotations.rate(ref, 0)
        assert client.annotations.rating(ref) is None


def test_parameters_are_added_to_objects_of_every_kind(client, refs):
    parameters = ({"Name": "TR", "Value": 1.5}, {"Name": "size", "Value": [2, 4]})
    for ref in refs:
        added = client.annotations.add_parameter_set(ref, "Mine", parameters)
        (found,) = [one for one in client.annotations.parameter_sets(ref) if one.id == added.id]
        assert (found.name, found.is_read_only) == ("Mine", False)
        assert [(one["Name"], one["Value"]) for one in found.parameters] == [("TR", 1.5), ("size", [2, 4])]


# -- uploads -----------------------------------------------------------------------------------------


def check_stored(client, file, content):
    sha1 = hashlib.sha1(content).hexdigest()
    (datafile,) = client.dataset_datafiles(file.dataset)
    assert (file.sha1, file.created, file.id) == (sha1, True, datafile.id)
    assert (datafile.size, datafile.sha1) == (len(content), sha1)
    if content:
        with client.open_body(datafile.id) as body:
            view = memoryview(bytearray(len(content)))
            filled = 0
            while filled < len(view):
                filled += body.readinto(view[filled:])
        assert bytes(view) == content


@pytest.mark.parametrize("size", [0, 1, 100_000, 100_001, 700_000])
def test_a_file_in_chunks_is_stored_as_it_is(client, folder, size):
    file = upload(client, "sub/a.bin", CONTENT[:size], chunk_bytes=100_000, folder=folder.id)
    assert file.path == "sub/a.bin"
    check_stored(client, file, CONTENT[:size])


@pytest.mark.parametrize("name", NAMES)
def test_the_server_gets_every_name_as_it_is(sandbox, client, name):
    identifier = send(client, client.imports.create_package(), name, b"content", chunk_bytes=100)
    assert sandbox.get(f"v1/flowfile/{identifier}/")["original_filename"] == name


def test_an_import_goes_into_an_exam_or_a_series(client, exam):
    series = client.exam_series(exam.id)[0]
    file = upload(client, "a.bin", uuid.uuid4().bytes, exam=exam.id)
    assert client.dataset(file.dataset).exam == exam.id
    file = upload(client, "b.bin", uuid.uuid4().bytes, series=series.id)
    assert client.dataset(file.dataset).series == series.id


@pytest.mark.parametrize(
    "fault",
    [
        "reset:POST /upload/:2",
        "drop-answer:POST /upload/:2",
        "drop-answer:POST /upload/:every-2",
        "status=503/2:POST /upload/:2",
        "status=502:POST /upload/:1",
        "reset-upload:POST /upload/:2",
    ],
)
def test_what_passes_leaves_every_byte_stored_once(client, folder, switch, fault):
    package = client.imports.create_package()
    switch(fault=fault)
    send(client, package, "a.bin", CONTENT, chunk_bytes=100_000)
    client.imports.complete(package, CompleteRequest(folder=folder.id))
    while not client.imports.progress(package).is_finished:
        pass  # each poll takes the sandbox one step further
    (file,) = client.imports.result(package).datafiles
    check_stored(client, file, CONTENT)
    assert [item.object_id for item in items(client, folder)] == [file.dataset]


def test_a_chunk_that_is_too_large_is_refused_as_such(client, switch):
    package = client.imports.create_package()
    switch(chunk_max="100000")
    with pytest.raises(TooLarge, match="too large"):
        send(client, package, "a.bin", CONTENT, chunk_bytes=100_001)
    send(client, package, "a.bin", CONTENT, chunk_bytes=100_000)


def test_a_complete_that_was_not_answered_can_be_looked_up(client, folder, switch):
    package = client.imports.create_package()
    send(client, package, "a.bin", CONTENT, chunk_bytes=1 << 20)
    assert not client.imports.package(package).is_complete
    switch(fault="drop-answer:POST /complete/:1")
    with pytest.raises(RemoteUnavailable):
        client.imports.complete(package, CompleteRequest(folder=folder.id))
    assert client.imports.package(package).is_complete


def test_a_failed_import_says_why(client, folder, switch):
    package = client.imports.create_package()
    send(client, package, "a.bin", b"a", chunk_bytes=10)
    switch(import_fail="on")
    client.imports.complete(package, CompleteRequest(folder=folder.id))
    while client.imports.progress(package).state != -1:
        pass  # each poll takes the sandbox one step further
    assert "import-fail" in client.imports.package(package).error


def test_a_result_without_the_files_is_not_an_empty_one(client, folder, switch):
    package = client.imports.create_package()
    send(client, package, "a.bin", b"a", chunk_bytes=10)
    client.imports.complete(package, CompleteRequest(folder=folder.id))
    while not client.imports.progress(package).is_finished:
        pass  # each poll takes the sandbox one step further
    switch(result_datafiles="missing")
    assert client.imports.result(package).datafiles is None


def test_what_the_role_does_not_allow_is_refused(sandbox, client, exam, switch):
    package = client.imports.create_package()
    with pytest.raises(NotFound):
        client.imports.complete(package, CompleteRequest(folder=987654))
    locked = next(
        exam for project in client.projects() for exam in client.project_exams(project.id) if exam.locked
    )
    with pytest.raises(PermissionDenied, match="locked"):
        client.imports.complete(package, CompleteRequest(exam=locked.id))
    with pytest.raises(PermissionDenied, match="locked"):
        client.changes.rename_exam(locked.id, "x")
