"""Each method for tags, ratings, parameters and locks sends what the vendor's programs send."""

from __future__ import annotations

import pytest

from agorafs.client.annotations import ParameterSet, Rating, Tag, TagInstance
from agorafs.client.records import Exam, Kind, Patient, RemoteRef
from agorafs.errors import NotFound, NotSupported, ProtocolError, RemoteUnavailable
from tests.client.sent import sent
from tests.support.http_server import answer, answer_json, vanish

TAG = {"id": 3, "label": "good", "user": None, "project": 2, "color": "#ff0000", "visibility": 2, "scope": 1}
INSTANCE = {
    "id": 9, "tag_definition": 3, "tagged_object_content_type": "serie", "tagged_object_id": 6
}  # fmt: skip

EXAM, SERIES, A_DATASET, A_PROJECT = (
    RemoteRef(Kind.EXAM, 5),
    RemoteRef(Kind.SERIES, 6),
    RemoteRef(Kind.DATASET, 7),
    RemoteRef(Kind.PROJECT, 2),
)


@pytest.mark.parametrize(
    ("change", "method", "path", "body", "answered"),
    [
        (
            lambda c: c.create_tag("good", project=2), "POST", "/api/v2/tag-definition/",
            {"label": "good", "user": None, "project": 2, "group": None, "color": None, "visibility": 2, "scope": 1},
            TAG,
        ),
        (
            lambda c: c.create_tag("mine", project=None, user=1), "POST", "/api/v2/tag-definition/",
            {"label": "mine", "user": 1, "project": None, "group": None, "color": None, "visibility": 1, "scope": 2},
            TAG,
        ),
        (lambda c: c.delete_tag(3), "DELETE", "/api/v2/tag-definition/3/", "", None),
        (
            lambda c: c.tag(SERIES, 3), "POST", "/api/v2/tag-instance/",
            "tag_definition=3&tagged_object_content_type=serie&tagged_object_id=6", [INSTANCE],
        ),
        (lambda c: c.remove_tag_instance(9), "DELETE", "/api/v2/tag-instance/9/", "", None),
        (
            lambda c: c.add_parameter_set(A_DATASET, "User Parameters", ({"Name": "a", "Value": [1]},)),
            "POST", "/api/v2/dataset/7/parametersets/",
            {"name": "User Parameters", "parameters": [{"Name": "a", "Value": [1]}]}, {"id": 20, "name": "x"},
        ),
        (
            lambda c: c.replace_parameters(20, "mine", [{"Name": "a", "Value": 1}]),
            "PATCH", "/api/v2/parameterset/20/",
            {"name": "mine", "parameters": [{"Name": "a", "Value": 1}]}, {"id": 20},
        ),
        (lambda c: c.delete_parameter_set(20), "DELETE", "/api/v2/parameterset/20/", "", None),
        (lambda c: c.set_locked([5, 8], True), "POST", "/api/v2/exam/lock_ids/", "ids=5&ids=8", {}),
        (lambda c: c.set_locked([5], False), "POST", "/api/v2/exam/unlock_ids/", "ids=5", {}),
    ],
)  # fmt: skip
def test_a_change_is_sent_as_the_vendors_programs_send_it(
    server, client, change, method, path, body, answered
):
    server.on(path, answer(b"", 204) if answered is None else answer_json(answered, 201))
    change(client.annotations)
    assert sent(server) == (method, path, body)
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    ("change", "path"),
    [
        (lambda c: c.create_tag("good", project=2), "/api/v2/tag-definition/"),
        (lambda c: c.tag(EXAM, 3), "/api/v2/tag-instance/"),
        (lambda c: c.add_parameter_set(EXAM, "a", []), "/api/v2/exam/5/parametersets/"),
    ],
)
def test_what_would_be_there_twice_is_asked_for_once(server, client, change, path):
    server.on(path, vanish())
    with pytest.raises(RemoteUnavailable):
        change(client.annotations)
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    ("change", "path"),
    [
        (lambda c: c.set_locked([5], True), "/api/v2/exam/lock_ids/"),
        (lambda c: c.replace_parameters(20, "a", []), "/api/v2/parameterset/20/"),
        (lambda c: c.remove_tag_instance(9), "/api/v2/tag-instance/9/"),
    ],
)
def test_what_does_no_harm_twice_is_sent_again_when_its_answer_is_lost(server, client, change, path):
    server.on(path, vanish(), answer(b"", 204))
    change(client.annotations)
    assert len(server.seen) == 2


# -- tags --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ask", "path"),
    [
        (lambda c: c.tags(), "/api/v2/tag-definition/"),
        (lambda c: c.project_tags(2), "/api/v2/project/2/tag-definition/"),
        (lambda c: c.tags_of(SERIES), "/api/v2/series/6/tags/"),
    ],
)
@pytest.mark.parametrize("is_page", [False, True])
def test_tags_are_listed_for_everybody_a_project_and_an_object(server, client, ask, path, is_page):
    listed = [TAG, {"id": 4, "label": "own"}]
    server.on(path, answer_json({"count": 2, "next": None, "results": listed} if is_page else listed))
    assert ask(client.annotations) == [Tag(3, "good", 2, None, "#ff0000"), Tag(4, "own", None, None, None)]


@pytest.mark.parametrize(
    ("answered", "instance"),
    [
        ([INSTANCE], TagInstance(9, 3, SERIES)),
        (INSTANCE, TagInstance(9, 3, SERIES)),
        ({"count": 1, "next": None, "results": [INSTANCE]}, TagInstance(9, 3, SERIES)),
        ([{**INSTANCE, "id": 8, "tagged_object_content_type": "exam"}, INSTANCE], TagInstance(9, 3, SERIES)),
        ([{**INSTANCE, "tagged_object_content_type": "series"}], TagInstance(9, 3, SERIES)),
        ([{**INSTANCE, "tag_definition": 4}], None),
        ([{"id": 9}], None),
        ({"id": 9, "tag_definition": 3, "tagged_object_content_type": "serie"}, None),
        (["done"], None),
        ("done", None),
    ],
)
def test_the_new_instance_is_found_in_answers_of_every_shape(server, client, answered, instance):
    """The object has the tag, whatever the server says besides; so no answer is an error."""
    server.on("/api/v2/tag-instance/", answer_json(answered, 201))
    assert client.annotations.tag(SERIES, 3) == instance


@pytest.mark.parametrize(
    ("project", "path"), [(2, "/api/v2/project/2/tag-instance/"), (None, "/api/v2/tag-instance/")]
)
def test_instances_tell_which_objects_have_which_tags(server, client, project, path):
    of_exam = {**INSTANCE, "id": 10, "tagged_object_content_type": "study", "tag_definition": {"id": 4}}
    of_something = {**INSTANCE, "id": 11, "tagged_object_content_type": "query"}
    server.on(path, answer_json([INSTANCE, of_something, of_exam]))
    assert client.annotations.tag_instances(project) == [
        TagInstance(9, 3, SERIES),
        TagInstance(10, 4, RemoteRef(Kind.EXAM, 6)),
    ]


def test_an_instance_of_no_tag_is_a_protocol_error(server, client):
    server.on("/api/v2/tag-instance/", answer_json([{**INSTANCE, "tag_definition": None}]))
    with pytest.raises(ProtocolError, match="of no tag"):
        client.annotations.tag_instances(None)


def test_the_objects_with_a_tag_come_as_records_of_their_kind(server, client):
    server.on("/api/v2/project/2/exam/for_tag/3/", answer_json([{"id": 5, "name": "Brain"}]))
    server.on("/api/v2/project/2/patient/for_tag/3/", answer_json([{"id": 8, "name": "Smith"}]))
    (exam,) = client.annotations.tagged(2, Kind.EXAM, 3)
    (patient,) = client.annotations.tagged(2, Kind.PATIENT, 3)
    assert isinstance(exam, Exam)
    assert exam.id == 5
    assert isinstance(patient, Patient)
    assert patient.id == 8


def test_folders_with_a_tag_can_not_be_listed(server, client):
    with pytest.raises(NotSupported, match="folder"):
        client.annotations.tagged(2, Kind.FOLDER, 3)
    assert server.seen == []


@pytest.mark.parametrize(
    "ask",
    [
        lambda c: c.tags_of(A_PROJECT),
        lambda c: c.tag(A_PROJECT, 3),
        lambda c: c.rating(A_PROJECT),
        lambda c: c.rate(A_PROJECT, 3),
        lambda c: c.parameter_sets(A_PROJECT),
    ],
)
def test_of_what_has_no_annotations_nobody_is_asked(server, client, ask):
    with pytest.raises(NotSupported, match="project"):
        ask(client.annotations)
    assert server.seen == []


def test_an_object_that_is_away_has_no_tags(server, client):
    with pytest.raises(NotFound):
        client.annotations.tags_of(EXAM)


# -- ratings -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("answered", "rating"), [([], None), ([{"id": 4, "value": 3}], Rating(4, 3))])
def test_an_object_has_one_rating_or_none(server, client, answered, rating):
    server.on("/api/v2/exam/5/rating/", answer_json(answered))
    assert client.annotations.rating(EXAM) == rating


@pytest.mark.parametrize(
    ("before", "value", "expected"),
    [
        ([], 3, ("POST", "/api/v2/rating/", "value=3&rated_object_content_type=serie&rated_object_id=6")),
        (
            [{"id": 4, "value": 2}], 3,
            ("PUT", "/api/v2/rating/4/",
             {"id": 4, "value": 3, "rated_object_content_type": "serie", "rated_object_id": 6}),
        ),
        ([{"id": 4, "value": 2}], 0, ("DELETE", "/api/v2/rating/4/", "")),
        ([], 0, ("GET", "/api/v2/series/6/rating/?limit=20000", "")),
    ],
)  # fmt: skip
def test_rating_makes_changes_or_removes_the_one_rating(server, client, before, value, expected):
    server.on("/api/v2/series/6/rating/", answer_json(before))
    server.on("/api/v2/rating/", answer_json({"id": 4}, 201))
    server.on("/api/v2/rating/4/", answer_json({"id": 4}))
    client.annotations.rate(SERIES, value)
    assert sent(server) == expected


@pytest.mark.parametrize(
    ("value", "last"), [(3, "POST /api/v2/rating/"), (0, "GET /api/v2/series/6/rating/")]
)
def test_a_rating_that_somebody_takes_away_meanwhile_is_looked_at_again(server, client, value, last):
    server.on("/api/v2/series/6/rating/", answer_json([{"id": 4, "value": 2}]), answer_json([]))
    server.on("/api/v2/rating/", answer_json({"id": 5}, 201))
    server.on("/api/v2/rating/4/", answer_json({"detail": "Not found."}, 404))
    client.annotations.rate(SERIES, value)
    assert f"{server.seen[-1].method} {server.seen[-1].path}" == last


def test_what_is_away_can_not_be_rated(server, client):
    server.on("/api/v2/series/6/rating/", answer_json([]))
    server.on("/api/v2/rating/", answer_json({"detail": "Not found."}, 404))
    with pytest.raises(NotFound):
        client.annotations.rate(SERIES, 3)


# -- parameters --------------------------------------------------------------------------------------


def test_parameter_sets_are_fetched_one_by_one_because_the_list_has_heads_only(server, client):
    head = {"id": 20, "name": "DICOM Parameters", "parameters": []}
    parameters: list[dict[str, object]] = [{"Name": "TR", "Value": 1.5}, {"Name": "EX", "Value": [2, 4]}]
    server.on("/api/v2/exam/5/parametersets/", answer_json([head, {**head, "id": 21, "read_only": False}]))
    server.on("/api/v2/parameterset/20/", answer_json({**head, "parameters": parameters}))
    server.on(
        "/api/v2/parameterset/21/", answer_json({"id": 21, "name": "User Parameters", "read_only": False})
    )
    assert client.annotations.parameter_sets(EXAM) == [
        ParameterSet(20, "DICOM Parameters", True, tuple(parameters)),  # says nothing of writing: nobody may
        ParameterSet(21, "User Parameters", False, ()),
    ]
    assert "/api/v2/parameterset/20/?flat=True" in server.targets()


@pytest.mark.parametrize("parameters", [{"a": 1}, ["a"], 3])
def test_parameters_of_another_shape_are_a_protocol_error(server, client, parameters):
    server.on("/api/v2/exam/5/parametersets/", answer_json([{"id": 20, "parameters": parameters}]))
    with pytest.raises(ProtocolError, match="flat"):
        client.annotations.parameter_sets(EXAM)
