"""Each method asks its endpoint and gives records; a server is checked before it is trusted."""

from __future__ import annotations

import random
import threading

import pytest

from agorafs.byterange import ByteRange
from agorafs.client import Client, Kind, RemoteRef, check_server
from agorafs.errors import (
    NotAuthenticated,
    NotFound,
    PermissionDenied,
    ProtocolError,
    RemoteUnavailable,
    ServerTooOld,
)
from tests.support.http_server import (
    ScriptedServer,
    answer,
    answer_file,
    answer_json,
    break_off,
    reset,
    vanish,
)

VERSION = "/api/v1/version/"
USER = "/api/v1/user/current/"
SHA1 = "adc83b19e793491b1c6ea0fd8b46cd9f32e592fc"

DATAFILE = {"id": 8, "original_filename": "a.dcm", "size": 5, "sha1": SHA1}
DATASET = {"id": 7, "name": "T1", "type": 300, "total_size": 5, "datafiles": [DATAFILE]}
SERIES = {"id": 6, "name": "T1", "uid": "1.2.3"}
EXAM = {"id": 5, "name": "Brain", "uid": "1.2"}
FOLDER = {"id": 4, "name": "Results"}
PATIENT = {"id": 3, "name": "Doe", "patient_id": "P1"}
PROJECT = {"id": 2, "name": "Study", "root_folder": 4}
USER_ANSWER = {"id": 1, "username": "ann", "institution": ""}
TREE = {**EXAM, "series": [{**SERIES, "datasets": [DATASET]}], "datasets": []}
ITEM = {"id": 9, "folder": 4, "content_type": "exam", "object_id": 5, "is_link": True, "content_object": EXAM}


@pytest.mark.parametrize(
    ("method", "arguments", "path", "answered", "record_id"),
    [
        ("projects", (), "/api/v2/project/", [PROJECT], 2),
        ("my_agora", (), "/api/v2/project/myagora/", PROJECT, 2),
        ("project", (2,), "/api/v2/project/2/", PROJECT, 2),
        ("project_exams", (2,), "/api/v2/project/2/exam/", [EXAM], 5),
        ("project_patients", (2,), "/api/v2/project/2/patient/", [PATIENT], 3),
        ("exam_by_uid", (2, "1.2"), "/api/v2/project/2/exam/uid/1.2/", EXAM, 5),
        ("series_by_uid", (2, "1.2.3"), "/api/v2/project/2/series/uid/1.2.3/", SERIES, 6),
        ("folder", (4,), "/api/v2/folder/4/", FOLDER, 4),
        ("folder_items", (4,), "/api/v1/folder/4/items/", [ITEM], 9),
        ("exam", (5,), "/api/v1/exam/5/", EXAM, 5),
        ("exam_series", (5,), "/api/v1/exam/5/series/", [SERIES], 6),
        ("exam_files", (5,), "/api/v1/exam/5/files/", [DATASET], 7),
        ("series", (6,), "/api/v1/serie/6/", SERIES, 6),
        ("series_datasets", (6,), "/api/v1/serie/6/datasets/", [DATASET], 7),
        ("series_folders", (6,), "/api/v1/serie/6/folders/", [FOLDER], 4),
        ("dataset", (7,), "/api/v1/dataset/7/", DATASET, 7),
        ("dataset_datafiles", (7,), "/api/v2/dataset/7/datafiles/", [DATAFILE], 8),
        ("dataset_folders", (7,), "/api/v1/dataset/7/folders/", [FOLDER], 4),
        ("datafile", (8,), "/api/v1/datafile/8/", DATAFILE, 8),
        ("patients", (), "/api/v1/patient/", [PATIENT], 3),
        ("patient", (3,), "/api/v1/patient/3/", PATIENT, 3),
        ("patient_exams", (3,), "/api/v1/patient/3/exams/", [EXAM], 5),
    ],
)
def test_a_method_is_one_request_to_its_endpoint(
    server, client, method, arguments, path, answered, record_id
):
    server.on(path, answer_json(answered))
    result = getattr(client, method)(*arguments)
    assert [request.path for request in server.seen] == [path]
    (record,) = result if isinstance(answered, list) else [result]
    assert record.id == record_id


def test_a_breadcrumb_leads_from_the_root_to_the_folder(server, client):
    server.on(
        "/api/v1/folder/4/breadcrumb/", answer_json([{"object_id": 1, "name": "root"}, {"object_id": 4}])
    )
    assert [crumb.folder for crumb in client.folder_breadcrumb(4)] == [1, 4]


def test_an_exam_tree_has_series_with_their_datasets(server, client):
    server.on("/api/v2/exam/5/tree/", answer_json(TREE))
    tree = client.exam_tree(5)
    assert tree.exam.id == 5
    assert tree.series[0].series.id == 6
    assert tree.series[0].datasets is not None
    assert tree.series[0].datasets[0].datafiles is not None
    assert tree.datasets == ()


@pytest.mark.parametrize(
    ("method", "path", "answered"),
    [
        ("exam", "/api/v1/exam/99/", EXAM),
        ("exam_tree", "/api/v2/exam/99/tree/", TREE),
        ("folder", "/api/v2/folder/99/", FOLDER),
        ("datafile", "/api/v1/datafile/99/", DATAFILE),
    ],
)
def test_an_answer_about_another_object_is_refused(server, client, method, path, answered):
    server.on(path, answer_json(answered))
    with pytest.raises(ProtocolError, match="answered with the object"):
        getattr(client, method)(99)


def test_the_page_size_is_the_clients(server, transport):
    server.on("/api/v2/project/", answer_json([PROJECT]))
    Client(transport, page_size=500).projects()
    assert server.targets() == ["/api/v2/project/?limit=500"]


# -- UIDs --------------------------------------------------------------------------------------------


def test_a_uid_is_escaped_in_its_path(server, client):
    uid = "a/b?c#d e%2f"
    server.on("/api/v2/project/2/exam/uid/a%2Fb%3Fc%23d%20e%252f/", answer_json({**EXAM, "uid": uid}))
    assert client.exam_by_uid(2, uid).id == 5


@pytest.mark.parametrize("uid", ["", ".", "..", "..."])
def test_a_uid_that_would_lead_to_another_path_is_not_sent(server, client, uid):
    with pytest.raises(NotFound):
        client.series_by_uid(2, uid)
    assert server.seen == []


def test_an_answer_with_another_uid_is_refused(server, client):
    server.on("/api/v2/project/2/exam/uid/9.9/", answer_json(EXAM))
    with pytest.raises(ProtocolError, match=r"1\.2"):
        client.exam_by_uid(2, "9.9")


# -- datafiles of a dataset --------------------------------------------------------------------------


@pytest.mark.parametrize("v2", [answer_json({}, 404), answer_json([])])
def test_where_v2_lists_no_datafiles_the_dataset_itself_is_asked(server, client, v2):
    server.on("/api/v2/dataset/7/datafiles/", v2)
    server.on("/api/v1/dataset/7/", answer_json(DATASET))
    assert [datafile.id for datafile in client.dataset_datafiles(7)] == [8]


def test_a_dataset_that_is_empty_everywhere_is_empty(server, client):
    server.on("/api/v2/dataset/7/datafiles/", answer_json([]))
    server.on("/api/v1/dataset/7/", answer_json({**DATASET, "total_size": 0, "datafiles": []}))
    assert client.dataset_datafiles(7) == []


@pytest.mark.parametrize("datafiles", [[], None])
def test_a_dataset_with_bytes_but_no_datafiles_is_an_error(server, client, datafiles):
    server.on("/api/v1/dataset/7/", answer_json({**DATASET, "datafiles": datafiles}))
    with pytest.raises(ProtocolError, match="lists no datafiles"):
        client.dataset_datafiles(7)


def test_a_dataset_that_is_gone_is_not_found(client):
    with pytest.raises(NotFound):
        client.dataset_datafiles(7)


# -- bodies and raw objects --------------------------------------------------------------------------


def test_a_body_comes_from_the_download_endpoint(server, client):
    server.on("/api/v1/datafile/8/download/", answer_file(b"0123456789", etag='"e"'))
    view = memoryview(bytearray(20))
    with client.open_body(8, ByteRange(2, 5), if_range='"e"') as body:
        assert bytes(view[: body.readinto(view)]) == b"234"


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        (Kind.PROJECT, "/api/v2/project/5/"),
        (Kind.FOLDER, "/api/v2/folder/5/"),
        (Kind.EXAM, "/api/v1/exam/5/"),
        (Kind.SERIES, "/api/v1/serie/5/"),
        (Kind.DATASET, "/api/v1/dataset/5/"),
        (Kind.DATAFILE, "/api/v1/datafile/5/"),
        (Kind.PATIENT, "/api/v1/patient/5/"),
    ],
)
def test_every_kind_is_described_with_every_field(server, client, kind, path):
    fields = {"id": 5, "a field": ["nobody", {"knows": None}]}
    server.on(path, answer_json(fields))
    assert client.describe(RemoteRef(kind, 5)) == fields


@pytest.mark.parametrize("other", [[], {"id": 6}, {}])
def test_a_description_of_something_else_is_refused(server, client, other):
    server.on("/api/v1/exam/5/", answer_json(other))
    with pytest.raises(ProtocolError, match="not exam 5"):
        client.describe(RemoteRef(Kind.EXAM, 5))


# -- the server itself -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["7.14.0", "7.14", "7.14.6", "7.15.0-SNAPSHOT", "8.0.0-SNAPSHOT", "10.0", "dev", "DEV"]
)
def test_a_known_version_is_accepted(server, client, text):
    server.on(VERSION, answer_json({"version": text, "server": "agora"}))
    server.on(USER, answer_json(USER_ANSWER))
    version, user = check_server(client)
    assert version.text == text
    assert user.username == "ann"
    assert server.authorizations()[0] is None


@pytest.mark.parametrize("text", ["7.13.9", "7.13", "7", "6.3.0-SNAPSHOT"])
def test_an_older_version_is_refused_and_both_are_named(server, client, text):
    server.on(VERSION, answer_json({"version": text, "server": "agora"}))
    with pytest.raises(ServerTooOld, match=rf"{text}.*7\.14\.0"):
        check_server(client)


@pytest.mark.parametrize("status", [401, 403])
def test_a_server_that_tells_its_version_only_to_users_is_asked_as_one(server, client, status):
    def reply(connection, request):
        is_known = "authorization" in request.headers
        (answer_json({"version": "dev"}) if is_known else answer_json({}, status))(connection, request)

    server.on(VERSION, reply)
    assert client.version().text == "dev"


@pytest.mark.parametrize(
    "reply", [answer(b"<html>", headers={"Content-Type": "text/html"}), answer_json({}, 404)]
)
def test_another_server_is_not_taken_for_agora(server, client, reply):
    server.on(VERSION, reply)
    with pytest.raises(ProtocolError, match="is this an Agora server"):
        check_server(client)


@pytest.mark.parametrize("other", [{"id": 1, "username": "ann"}, [], "ann"])
def test_another_user_answer_is_not_taken_for_agora(server, client, other):
    server.on(USER, answer_json(other))
    with pytest.raises(ProtocolError, match="is this an Agora server"):
        client.current_user()


def test_a_wrong_key_is_told_at_the_check(server, client):
    server.on(VERSION, answer_json({"version": "dev"}))
    server.on(USER, answer_json({"detail": "Invalid API key."}, 401))
    with pytest.raises(NotAuthenticated, match="Invalid API key"):
        check_server(client)


def test_a_user_who_may_not_is_told_at_the_check(server, client):
    server.on(VERSION, answer_json({"version": "dev"}))
    server.on(USER, answer_json({"detail": "disabled"}, 403))
    with pytest.raises(PermissionDenied, match="disabled"):
        check_server(client)


def test_the_check_ends_at_its_deadline(server, client, clock):
    server.on(VERSION, vanish())
    begin = clock.now
    with pytest.raises(RemoteUnavailable):
        check_server(client, deadline_s=5)
    assert clock.now - begin <= 5


# -- many threads ------------------------------------------------------------------------------------


def test_sixteen_threads_share_one_client_and_mix_up_nothing(make_transport):
    """Lists and ranges, with lost connections, cut bodies and busy answers in between: right, or an error."""
    server = ScriptedServer()
    contents = {number: random.Random(number).randbytes(50_000) for number in range(1, 5)}
    for number, content in contents.items():
        good = answer_file(content)
        whole = {"Content-Range": f"bytes 0-{len(content) - 1}/{len(content)}"}
        faults = [
            reset(),
            break_off(content, 20_000, vanish(), 206, whole),
            answer(b"", 503, {"Retry-After": "0"}),
        ]
        server.on(
            f"/api/v1/datafile/{number}/download/",
            *[reply for fault in faults for reply in (good, fault)],
            good,
        )
        server.on(f"/api/v1/datafile/{number}/", answer_json({**DATAFILE, "id": number}))
    client = Client(make_transport(server.url, connections=6))
    wrong: list[str] = []
    cut = 0
    lock = threading.Lock()

    def work(seed):
        nonlocal cut
        view = memoryview(bytearray(50_000))
        for turn in range(12):
            number = 1 + (seed + turn) % 4
            if client.datafile(number).id != number:
                wrong.append("record")
            start = 0
            try:
                with client.open_body(number, ByteRange(0, 50_000)) as body:
                    while count := body.readinto(view[start:]):
                        start += count
                        if start == 50_000:
                            break
                if bytes(view) != contents[number]:
                    wrong.append("content")
            except RemoteUnavailable:
                with lock:
                    cut += 1

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    server.close()
    assert wrong == []
    assert cut == 4  # each content was cut off once; everything else was tried again
