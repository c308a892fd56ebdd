"""Each changing method sends what the vendor's programs send, and answers with records."""

from __future__ import annotations

import pytest

from agorafs.client import Client, Folder, Kind, RemoteRef
from agorafs.client.imports import (
    Chunk,
    CompleteRequest,
    IgnoredFile,
    ImportedFile,
    ImportResult,
    Package,
    Progress,
)
from agorafs.errors import AlreadyExists, NotFound, PermissionDenied, ProtocolError, RemoteUnavailable
from tests.client.sent import sent
from tests.support.http_server import answer, answer_json, vanish

FOLDER = {"id": 4, "name": "Results", "project": 2}
FOLDER_ITEM = {"id": 9, "content_type": "folder", "object_id": 4, "content_object": FOLDER}
EXAM_LINK = {
    "id": 10, "folder": 4, "content_type": "exam", "object_id": 5, "is_link": True,
    "content_object": {"id": 5, "name": "Brain"},
}  # fmt: skip
DATASET = {"id": 8, "name": "a", "type": 100, "total_size": 5}

EXAM, SERIES, A_DATASET, A_FOLDER = (
    RemoteRef(Kind.EXAM, 5),
    RemoteRef(Kind.SERIES, 6),
    RemoteRef(Kind.DATASET, 7),
    RemoteRef(Kind.FOLDER, 3),
)


@pytest.mark.parametrize(
    ("change", "method", "path", "body", "answered"),
    [
        (lambda c: c.create_folder(3, "Results"), "POST", "/api/v1/folder/3/new/", {"name": "Results"}, FOLDER_ITEM),
        (
            lambda c: c.rename_folder(Folder(4, "Results", 2, False), "New"),
            "PUT", "/api/v1/folder/4/", {"name": "New", "id": 4, "project": 2}, FOLDER,
        ),
        (lambda c: c.delete_folder(4), "DELETE", "/api/v2/folder/4/", "", None),
        (lambda c: c.delete_folder_item(9), "DELETE", "/api/v1/folderitem/9/", "", None),
        (lambda c: c.delete_object(A_FOLDER), "DELETE", "/api/v2/folder/3/", "", None),
        (lambda c: c.delete_object(EXAM), "DELETE", "/api/v1/exam/5/", "", None),
        (lambda c: c.delete_object(SERIES), "DELETE", "/api/v1/serie/6/", "", None),
        (lambda c: c.delete_object(A_DATASET), "DELETE", "/api/v1/dataset/7/", "", None),
        (lambda c: c.link(A_FOLDER, 4), "POST", "/api/v2/folder/3/link_to/4/", "", FOLDER_ITEM),
        (lambda c: c.link(EXAM, 4), "POST", "/api/v1/exam/5/link_to/4/", "", EXAM_LINK),
        (lambda c: c.link(SERIES, 4), "POST", "/api/v1/serie/6/link_to/4/", "", EXAM_LINK),
        (lambda c: c.link(A_DATASET, 4), "POST", "/api/v1/dataset/7/link_to/4/", "", EXAM_LINK),
        (lambda c: c.rename_exam(5, "New"), "PUT", "/api/v1/exam/5/", {"name": "New"}, {"id": 5}),
        (lambda c: c.rename_series(6, "New"), "PUT", "/api/v1/serie/6/", {"name": "New", "id": 6}, None),
        (lambda c: c.move_dataset(8, 2, 4), "POST", "/api/v2/dataset/8/move_to/2/folder/4/", {}, DATASET),
        (lambda c: c.copy_dataset(7, 2, 4), "POST", "/api/v2/dataset/7/copy_to/2/folder/4/", {}, DATASET),
    ],
)  # fmt: skip
def test_a_change_is_sent_as_the_vendors_programs_send_it(
    server, client, change, method, path, body, answered
):
    server.on(path, answer(b"", 204) if answered is None else answer_json(answered, 201))
    change(client.changes)
    assert sent(server) == (method, path, body)
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.create_folder(3, "Results"),
        lambda c: c.link(EXAM, 4),
        lambda c: c.copy_dataset(7, 2, 4),
    ],
)
def test_what_would_be_there_twice_is_asked_for_once(server, client, change):
    for path in (
        "/api/v1/folder/3/new/", "/api/v1/exam/5/link_to/4/", "/api/v2/dataset/7/copy_to/2/folder/4/",
    ):  # fmt: skip
        server.on(path, vanish())
    with pytest.raises(RemoteUnavailable):
        change(client.changes)
    assert len(server.seen) == 1


def test_a_new_folder_is_in_the_answer(server, client):
    server.on("/api/v1/folder/3/new/", answer_json(FOLDER_ITEM, 201))
    assert client.changes.create_folder(3, "Results").content == Folder(4, "Results", 2, False)


@pytest.mark.parametrize(
    "answered", [EXAM_LINK, {"id": 9, "content_type": "folder", "object_id": 4}, [], None]
)
def test_an_answer_without_the_new_folder_is_a_protocol_error(server, client, answered):
    server.on("/api/v1/folder/3/new/", answer_json(answered, 201))
    with pytest.raises(ProtocolError, match="/api/v1/folder/3/new/"):
        client.changes.create_folder(3, "Results")


@pytest.mark.parametrize("name", ["Results", "re\u0301sultats"])
@pytest.mark.parametrize("status", [400, 422])
def test_a_folder_refused_because_there_is_one_of_that_name_exists_already(server, client, name, status):
    """Servers differ in how they say it, so the parent is listed again."""
    shown = "r\u00e9sultats" if name != "Results" else name
    item = {**FOLDER_ITEM, "content_object": {**FOLDER, "name": shown}}
    server.on("/api/v1/folder/3/new/", answer_json({"name": ["Already there."]}, status))
    server.on("/api/v1/folder/3/items/", answer_json([EXAM_LINK, item]))
    with pytest.raises(AlreadyExists, match="Already there"):
        client.changes.create_folder(3, name)


def test_a_folder_refused_for_another_reason_does_not_exist(server, client):
    other = {**FOLDER_ITEM, "content_object": {**FOLDER, "name": "results"}}
    exam = {**EXAM_LINK, "content_object": {"id": 5, "name": "Results"}}
    server.on("/api/v1/folder/3/new/", answer_json({"name": ["Not this."]}, 400))
    server.on("/api/v1/folder/3/items/", answer_json([other, exam]))
    with pytest.raises(ProtocolError, match="Not this"):
        client.changes.create_folder(3, "Results")


def test_a_folder_that_may_not_be_made_is_not_looked_for(server, client):
    server.on("/api/v1/folder/3/new/", answer_json({"detail": "Observers read."}, 403))
    with pytest.raises(PermissionDenied, match="Observers read"):
        client.changes.create_folder(3, "Results")
    assert {request.path for request in server.seen} == {"/api/v1/folder/3/new/"}


def test_a_copy_that_is_the_original_is_none(server, client):
    server.on("/api/v2/dataset/8/copy_to/2/folder/4/", answer_json(DATASET))
    with pytest.raises(ProtocolError, match="original"):
        client.changes.copy_dataset(8, 2, 4)


# -- imports -----------------------------------------------------------------------------------------


def test_a_package_is_made_once(server, client):
    server.on("/api/v1/import/", answer_json({"id": 77, "state": 1}, 201), vanish())
    assert client.imports.create_package() == 77
    assert sent(server) == ("POST", "/api/v1/import/", {})
    with pytest.raises(RemoteUnavailable):
        client.imports.create_package()
    assert len(server.seen) == 2


@pytest.mark.parametrize(
    ("answered", "package"),
    [
        ({"id": 77}, Package(77, 1, False, "")),
        ({"id": 77, "state": 4, "is_complete": True, "error": None}, Package(77, 4, True, "")),
        ({"id": 77, "state": -1, "is_complete": True, "error": "bad zip"}, Package(77, -1, True, "bad zip")),
    ],
)
def test_a_package_is_what_the_server_says(server, client, answered, package):
    server.on("/api/v1/import/77/", answer_json(answered))
    assert client.imports.package(77) == package


@pytest.mark.parametrize("answered", [{"id": 78, "state": 1}, {"id": 77, "state": "open"}, {"state": 1}, []])
def test_another_package_or_none_is_a_protocol_error(server, client, answered):
    server.on("/api/v1/import/77/", answer_json(answered))
    with pytest.raises(ProtocolError):
        client.imports.package(77)


def test_a_package_that_the_server_has_forgotten_is_not_found(server, client):
    with pytest.raises(NotFound):
        client.imports.package(77)


@pytest.mark.parametrize(
    ("chunk", "size"),
    [
        (Chunk("i", "a", 1, 1, 8, 0), 0),
        (Chunk("i", "a", 1, 1, 8, 8), 8),
        (Chunk("i", "a", 1, 2, 8, 9), 8),
        (Chunk("i", "a", 2, 2, 8, 9), 1),
    ],
)
def test_a_chunk_knows_its_size_and_other_bytes_are_not_sent(server, client, chunk, size):
    server.on("/api/v1/import/77/upload/", answer(b""))
    assert chunk.size == size
    client.imports.send_chunk(77, chunk, bytes(size))
    with pytest.raises(ValueError, match="bytes are not"):
        client.imports.send_chunk(77, chunk, bytes(size + 1))
    assert len(server.seen) == 1


def test_a_chunk_that_the_file_does_not_have_is_not_sent(server, client):
    with pytest.raises(ValueError, match="bytes are not"):
        client.imports.send_chunk(77, Chunk("i", "a", 3, 2, 8, 24), bytes(8))
    assert server.seen == []


@pytest.mark.parametrize(
    ("request_", "body"),
    [
        (CompleteRequest(folder=45), {"folder": 45}),
        (CompleteRequest(exam=5, import_file=""), {"exam": 5}),
        (
            CompleteRequest(series=6, import_file="a.json", relations={"b": ("c", "d")}),
            {"series": 6, "import_file": "a.json", "relations": {"b": ["c", "d"]}},
        ),
    ],
)
def test_complete_names_the_target_and_leaves_out_what_has_no_value(server, client, request_, body):
    server.on("/api/v1/import/77/complete/", answer(b"", 204))
    client.imports.complete(77, request_)
    assert sent(server) == ("POST", "/api/v1/import/77/complete/", body)


def test_complete_is_not_repeated_when_its_answer_is_lost(server, client):
    server.on("/api/v1/import/77/complete/", vanish(), answer(b"", 204))
    with pytest.raises(RemoteUnavailable):
        client.imports.complete(77, CompleteRequest(folder=45))
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    ("answered", "progress", "is_finished"),
    [
        ({"state": 1}, Progress(1, 0, 0, 0, 0), False),
        (
            {"state": 4, "progress": 50, "tasks": {"count": 2, "finished": 1, "error": 0, "ids": [5, 6]}},
            Progress(4, 50, 2, 1, 0),
            False,
        ),
        ({"state": 5, "progress": 99.9, "tasks": None}, Progress(5, 99, 0, 0, 0), False),
        ({"state": 5, "progress": 100, "tasks": {"error": 1}}, Progress(5, 100, 0, 0, 1), True),
        ({"state": -1, "progress": 100}, Progress(-1, 100, 0, 0, 0), False),
    ],
)
def test_an_import_is_finished_in_state_5_at_100_percent(server, client, answered, progress, is_finished):
    server.on("/api/v1/import/77/progress/", answer_json(answered))
    assert client.imports.progress(77) == progress
    assert progress.is_finished is is_finished


@pytest.mark.parametrize("answered", [{}, {"state": None}, {"state": 4, "progress": "half"}, []])
def test_progress_of_another_shape_is_a_protocol_error(server, client, answered):
    server.on("/api/v1/import/77/progress/", answer_json(answered))
    with pytest.raises(ProtocolError):
        client.imports.progress(77)


SHA1 = "adc83b19e793491b1c6ea0fd8b46cd9f32e592fc"


def test_a_result_tells_what_became_of_each_file_and_is_kept_whole(server, client):
    answered = {
        "datafiles": [
            {"id": 1001, "path": "d/f0.txt", "sha1": SHA1.upper(), "dataset": 158, "created": True},
            {"path": "d/f1.txt", "sha1": SHA1},
        ],
        "ignored": [{"path": "x", "reason": "unknown"}, "y"],
        "error": None,
        "more": 1,
    }
    server.on("/api/v1/import/77/result/", answer_json(answered))
    assert client.imports.result(77) == ImportResult(
        (
            ImportedFile("d/f0.txt", SHA1, 158, True, 1001),
            ImportedFile("d/f1.txt", SHA1, None, False, None),  # nobody says that it is ours
        ),
        (IgnoredFile("x", "unknown"), IgnoredFile("y", "")),
        "",
        answered,
    )


@pytest.mark.parametrize(
    ("answered", "files"), [({}, None), ({"datafiles": None}, None), ({"datafiles": []}, ())]
)
def test_a_result_that_does_not_say_is_told_from_one_that_says_none(server, client, answered, files):
    server.on("/api/v1/import/77/result/", answer_json(answered))
    assert client.imports.result(77).datafiles == files


@pytest.mark.parametrize("answered", [[], {"datafiles": {"a": 1}}, {"datafiles": [1]}])
def test_a_result_of_another_shape_is_a_protocol_error(server, client, answered):
    server.on("/api/v1/import/77/result/", answer_json(answered))
    with pytest.raises(ProtocolError):
        client.imports.result(77)


def test_chunks_that_are_broken_off_are_refused_from_then_on(server, client: Client):
    client.imports.abort()
    with pytest.raises(RemoteUnavailable):
        client.imports.send_chunk(77, Chunk("i", "a", 1, 1, 8, 0), b"")
    assert server.seen == []
