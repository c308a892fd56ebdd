"""Searches, relations, the trash, workbooks and logs: what is asked, and what little is known of the answers."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import quote_plus

import pytest

from agorafs.client.records import Kind, RemoteRef, kind_of
from agorafs.client.view_records import Hit, Relation, TrashEntry
from agorafs.errors import NotFound, NotSupported, ProtocolError, RemoteUnavailable
from tests.client.sent import sent
from tests.support.http_server import answer, answer_json, vanish

EXAM, SERIES, DATASET, FOLDER, PROJECT = (
    RemoteRef(Kind.EXAM, 5),
    RemoteRef(Kind.SERIES, 6),
    RemoteRef(Kind.DATASET, 7),
    RemoteRef(Kind.FOLDER, 3),
    RemoteRef(Kind.PROJECT, 2),
)
WORKBOOK = {"id": 5, "dataset": 7, "name": "Workbook 1", "mask": {"mMasks": []}}


# -- searches ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("project", "path"), [(None, "/api/v1/search/fulltext/"), (2, "/api/v2/project/2/fulltext/")]
)
@pytest.mark.parametrize("text", ["brain", "a b&c=d#e", "50% + Ä/é", "?"])
def test_a_text_is_searched_everywhere_or_in_a_project(server, client, project, path, text):
    """Whatever the text holds, it is one value of the query."""
    server.on(path, answer_json([]))
    assert client.exploring.search(text, project=project, type_code=3) == []
    assert sent(server)[1] == f"{path}?q={quote_plus(text)}&t=3&limit=20000"


@pytest.mark.parametrize(
    ("answered", "hit"),
    [
        ({"content_type": "exam", "object_id": 5, "name": "Brain", "project": 2}, Hit(EXAM, "Brain", 2, {})),
        ({"object_type": "series", "id": 6, "title": "T1", "project": {"id": 2}}, Hit(SERIES, "T1", 2, {})),
        ({"type": "serie", "id": 6, "label": "T1"}, Hit(SERIES, "T1", None, {})),
        (
            {"type": 4, "object_id": 7, "id": 1, "content_object": {"name": "x.nii"}},
            Hit(DATASET, "x.nii", None, {}),
        ),
        ({"content_type": 99, "type": "study", "id": 5}, Hit(EXAM, "", None, {})),
        ({"type": "9", "id": 4, "name": "run"}, Hit(RemoteRef(Kind.TASK, 4), "run", None, {})),
        ({"type": 10, "id": 4, "name": "run"}, Hit(RemoteRef(Kind.SCRIPT_TASK, 4), "run", None, {})),
        (
            {"content_type": "tag_definition", "id": 3, "label": "good"},
            Hit(RemoteRef(Kind.TAG, 3), "good", None, {}),
        ),
    ],
)
def test_a_hit_is_understood_in_all_the_words_that_the_archive_has(server, client, answered, hit):
    server.on(
        "/api/v1/search/fulltext/", answer_json([{"type": "query", "id": 1}, answered, {"type": "exam"}])
    )
    assert client.exploring.search("x", project=None) == [replace(hit, raw=answered)]


def test_hits_of_every_page_are_found(server, client):
    first = {
        "count": 2,
        "next": "/api/v1/search/fulltext/?q=x&offset=1",
        "results": [{"type": "exam", "id": 5}],
    }
    second = {"count": 2, "next": None, "results": [{"type": "exam", "id": 6}]}
    server.on("/api/v1/search/fulltext/", answer_json(first), answer_json(second))
    assert [hit.ref.id for hit in client.exploring.search("x", project=None)] == [5, 6]


def test_hits_of_another_shape_are_a_protocol_error(server, client):
    server.on("/api/v1/search/fulltext/", answer_json(["exam 5"]))
    with pytest.raises(ProtocolError, match="search result"):
        client.exploring.search("x", project=None)


def test_series_are_searched_with_an_expression(server, client):
    server.on("/api/v1/serie/search/", answer_json([{"id": 6, "name": "T1"}]))
    (series,) = client.exploring.search_series("parameter.TR > 0 AND a & b")
    assert series.id == 6
    assert sent(server)[1] == "/api/v1/serie/search/?q=parameter.TR+%3E+0+AND+a+%26+b&limit=20000"


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("serie", Kind.SERIES), ("Series", Kind.SERIES), ("study", Kind.EXAM), ("script task", Kind.SCRIPT_TASK),
        ("taskdefinition_yaml", Kind.SCRIPT_TASK), (6, Kind.PROJECT), ("11", Kind.TAG), ("011", None), (7, None),
        (True, None), (None, None), ("", None), ([], None), ("²", None), ("9" * 5000, None),
    ],
)  # fmt: skip
def test_kinds_have_words_and_codes(word, kind):
    assert kind_of(word) is kind


# -- what belongs together ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ref", "path"), [(SERIES, "/api/v1/serie/6/datarelations/"), (EXAM, "/api/v1/exam/5/datarelations/")]
)
def test_relations_are_pairs_of_objects(server, client, ref, path):
    """An end without a word is of the kind that was asked for, as the vendor's connector has it."""

    def end(object_id, **fields):
        return {"object_id": object_id, **fields}

    server.on(path, answer_json([
        {"from_object": end(5, content_type="study"), "to_object": end(7, content_type="serie")},
        {"from_object": end(8), "to_object": end(9, content_type="dataset")},
        {"from_object": end(8), "to_object": end(9, content_type="query")},
    ]))  # fmt: skip
    assert client.exploring.relations(ref) == [
        Relation(EXAM, RemoteRef(Kind.SERIES, 7)),
        Relation(RemoteRef(ref.kind, 8), RemoteRef(Kind.DATASET, 9)),
    ]


@pytest.mark.parametrize(
    "answered", [[{"from_object": {"object_id": 5}}], [{"from_object": 5, "to_object": 6}], ["x"]]
)
def test_relations_of_another_shape_are_a_protocol_error(server, client, answered):
    server.on("/api/v1/exam/5/datarelations/", answer_json(answered))
    with pytest.raises(ProtocolError):
        client.exploring.relations(EXAM)


@pytest.mark.parametrize(
    ("ask", "path"),
    [
        (lambda c: c.folders_of(EXAM), "/api/v1/exam/5/folders/"),
        (lambda c: c.folders_of(SERIES), "/api/v1/serie/6/folders/"),
        (lambda c: c.folders_of(DATASET), "/api/v1/dataset/7/folders/"),
        (lambda c: c.result_folders(EXAM), "/api/v2/exam/5/result_folders/"),
        (lambda c: c.result_folders(SERIES), "/api/v2/series/6/result_folders/"),
    ],
)
def test_folders_that_show_or_hold_something_of_an_object_are_listed(server, client, ask, path):
    server.on(path, answer_json([{"id": 4, "name": "Results", "project": 2}]))
    assert [(folder.id, folder.name) for folder in ask(client.exploring)] == [(4, "Results")]


@pytest.mark.parametrize(
    "ask",
    [
        lambda c: c.relations(DATASET),
        lambda c: c.folders_of(FOLDER),
        lambda c: c.result_folders(DATASET),
        lambda c: c.patient_of(FOLDER),
        lambda c: c.exam_of(EXAM),
        lambda c: c.download_info([EXAM, PROJECT]),
    ],
)
def test_what_the_archive_has_no_answer_to_is_not_asked(server, client, ask):
    with pytest.raises(NotSupported, match="archive"):
        ask(client.exploring)
    assert server.seen == []


@pytest.mark.parametrize(
    ("ask", "path"),
    [
        (lambda c: c.patient_of(SERIES), "/api/v2/series/6/patient/"),
        (lambda c: c.patient_of(DATASET), "/api/v2/dataset/7/patient/"),
        (lambda c: c.exam_of(SERIES), "/api/v2/series/6/exam/"),
        (lambda c: c.exam_of(DATASET), "/api/v2/dataset/7/exam/"),
    ],
)
@pytest.mark.parametrize("nothing", [answer_json({}, 404), answer_json(None), answer_json({})])
def test_the_patient_and_the_exam_of_an_object_may_be_none(server, client, ask, path, nothing):
    server.on(path, answer_json({"id": 8, "name": "Smith"}), nothing)
    assert ask(client.exploring).id == 8
    assert ask(client.exploring) is None


def test_the_patient_of_an_exam_is_named_by_the_exam(server, client):
    server.on(
        "/api/v1/exam/5/", answer_json({"id": 5, "patient": 8}), answer_json({"id": 5, "patient": None})
    )
    server.on("/api/v1/patient/8/", answer_json({"id": 8, "name": "Smith"}))
    patient = client.exploring.patient_of(EXAM)
    assert patient is not None
    assert patient.name == "Smith"
    assert client.exploring.patient_of(EXAM) is None


# -- trash -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answered", "entry"),
    [
        (
            {"id": 1, "project": 2, "content_type": "exam", "object_id": 5, "name": "Brain",
             "deleted_date": "1970-01-01T00:00:01Z"},
            TrashEntry(1, 2, Kind.EXAM, 5, "Brain", 1_000_000_000, {}),
        ),
        (
            {"id": 1, "project": {"id": 2}, "type": 3, "object": {"id": 6, "title": "T1"}},
            TrashEntry(1, 2, Kind.SERIES, 6, "T1", None, {}),
        ),
        ({"id": 1, "project": 2}, TrashEntry(1, 2, None, None, "", None, {})),
        ({"id": 1, "content_type": "query", "deleted_date": "soon"}, TrashEntry(1, None, None, None, "", None, {})),
    ],
)  # fmt: skip
def test_an_entry_of_the_trash_tells_what_the_server_tells(server, client, answered, entry):
    server.on("/api/v1/trash/", answer_json([answered]))
    assert client.exploring.trash() == [replace(entry, raw=answered)]


def test_a_final_deletion_is_asked_for_without_a_slash_at_the_end(server, client):
    server.on("/api/v1/trash/1/delete", answer(b"", 204))
    client.exploring.delete_finally(1)
    assert server.targets() == ["/api/v1/trash/1/delete"]


def test_a_final_deletion_is_asked_for_with_a_slash_where_the_other_is_missing(server, client):
    server.on("/api/v1/trash/1/delete/", answer(b"", 204))
    client.exploring.delete_finally(1)
    assert server.targets() == ["/api/v1/trash/1/delete", "/api/v1/trash/1/delete/"]


def test_an_entry_that_is_away_can_not_be_deleted(server, client):
    with pytest.raises(NotFound):
        client.exploring.delete_finally(1)


# -- datasets ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("info", [{"sizes": [2, 3]}, [1], None])
def test_image_info_is_what_the_server_says(server, client, info):
    server.on("/api/v1/dataset/7/image_info/", answer_json(info))
    assert client.exploring.image_info(7) == info


@pytest.mark.parametrize(
    ("change", "method", "path", "body"),
    [
        (
            lambda c: c.create_workbook(WORKBOOK), "POST", "/api/v2/workbook/",
            {**WORKBOOK, "id": None},
        ),
        (
            lambda c: c.update_workbook(5, mask={"mMasks": [1]}), "PATCH", "/api/v2/workbook/5/",
            {"mask": {"mMasks": [1]}},
        ),
        (
            lambda c: c.update_workbook(5, mask={}, contour={"id": 5}), "PATCH", "/api/v2/workbook/5/",
            {"mask": {}, "contour": {"id": 5}},
        ),
    ],
)  # fmt: skip
def test_a_workbook_is_sent_and_comes_back(server, client, change, method, path, body):
    server.on(path, answer_json(WORKBOOK, 201))
    assert change(client.exploring) == WORKBOOK
    assert sent(server) == (method, path, body)


def test_workbooks_are_read_and_deleted_and_none_is_made_on_the_way(server, client):
    server.on("/api/v2/dataset/7/workbook/", answer_json([]), answer_json([WORKBOOK]))
    server.on("/api/v2/workbook/5/", answer_json(WORKBOOK))
    assert client.exploring.workbooks(7) == []
    assert client.exploring.workbooks(7) == [WORKBOOK]
    assert client.exploring.workbook(5) == WORKBOOK
    client.exploring.delete_workbook(5)
    assert [request.method for request in server.seen] == ["GET", "GET", "GET", "DELETE"]


def test_a_workbook_is_made_once(server, client):
    server.on("/api/v2/workbook/", vanish())
    with pytest.raises(RemoteUnavailable):
        client.exploring.create_workbook(WORKBOOK)
    assert len(server.seen) == 1


def test_a_workbook_is_updated_again_when_the_answer_is_lost(server, client):
    server.on("/api/v2/workbook/5/", vanish(), answer_json(WORKBOOK))
    client.exploring.update_workbook(5, mask={})
    assert len(server.seen) == 2


# -- imports, downloads, logs ------------------------------------------------------------------------


def test_the_objects_of_an_import_are_what_the_server_says(server, client):
    server.on("/api/v1/import/77/get_objects/", answer_json({"exams": [5]}))
    assert client.exploring.import_objects(77) == {"exams": [5]}


def test_the_files_below_objects_are_listed_in_one_request_that_may_be_repeated(server, client):
    file = {"id": 1001, "rel_path": "Brain/T1", "filename": "a.dcm", "size": 5, "sha1": "x"}
    server.on("/api/v1/downloadinfo/", vanish(), answer_json([file]))
    assert client.exploring.download_info([EXAM, SERIES, FOLDER, RemoteRef(Kind.EXAM, 8)]) == [file]
    body = {"exam_ids": [5, 8], "series_ids": [6], "folder_ids": [3]}
    assert sent(server) == ("POST", "/api/v1/downloadinfo/", body)


def test_an_empty_answer_means_nothing_to_download(server, client):
    server.on("/api/v1/downloadinfo/", answer(b""), answer_json({"files": []}))
    assert client.exploring.download_info([EXAM]) == []
    with pytest.raises(ProtocolError, match="not a list"):
        client.exploring.download_info([EXAM])


def test_logs_are_text(server, client):
    server.on("/api/v2/logfile/", answer_json([{"id": 1, "filename": "agora.log"}]))
    server.on(
        "/api/v2/logfile/1/content/",
        answer("GET /é 200\n".encode() + b"\xff", headers={"Content-Type": "text/plain"}),
    )
    assert client.exploring.logfiles() == [{"id": 1, "filename": "agora.log"}]
    assert client.exploring.logfile(1) == "GET /é 200\n\ufffd"
