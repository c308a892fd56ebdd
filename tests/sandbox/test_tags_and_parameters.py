"""Tags, ratings and parameter sets that users make; the vendor's connector asks, where it has the call.

The connector reads an object's ``project`` to find the instances of a tag, and matches them on the object's number
without its kind (its defect), so the tests of ``remove_tag`` tag one kind at a time.
"""

from __future__ import annotations

import pytest
from gtagora.exception import AgoraException

from tests.sandbox.conftest import make_study
from tests.support.sandbox import SandboxProcess

KINDS = ("exam", "serie", "dataset", "folder", "patient")


@pytest.fixture
def described(agora, project, study):
    """One object of each kind that can be tagged, as the connector knows it."""
    return {
        "exam": agora.get_exam(study.exam),
        "serie": agora.get_series(study.series),
        "dataset": agora.get_dataset(study.dataset),
        "folder": agora.get_folder(project.root),
        "patient": agora.get_patient(study.patient),
    }


@pytest.fixture
def observer(sandbox, project):
    """The observer is a member of the project, as an observer."""
    ids = {user["username"]: user["id"] for user in sandbox.get("v1/user/?limit=1000")["results"]}
    sandbox.post("v2/projectmembership/", {"project": project.id, "user": ids["observer"], "role": 4})
    return "observer"


def labels(thing):
    return [tag.label for tag in thing.get_tags()]


def make_tag(sandbox, label, **fields):
    return sandbox.post("v2/tag-definition/", {"label": label, **fields})["id"]


def tag_object(sandbox, tag, kind, id_, **options):
    """Tag as the connector does, with a form; return the answer."""
    form = {"tag_definition": tag, "tagged_object_content_type": kind, "tagged_object_id": id_}
    return sandbox.api("POST", "v2/tag-instance/", data=form, **options)


# -- tags --------------------------------------------------------------------------------------------


def test_a_tag_of_a_project_is_made_found_and_deleted(agora, project):
    tag = agora.create_tag("good", project=project.id, color="#00ff00")
    assert (tag.label, tag.project, tag.color, tag.visibility, tag.scope) == (
        "good",
        project.id,
        "#00ff00",
        2,
        1,
    )
    assert [found.id for found in agora.get_project(project.id).get_tags()] == [tag.id]
    assert agora.get_tag(tag.id).label == "good"
    tag.delete()
    assert agora.get_project(project.id).get_tags() == []
    with pytest.raises(AgoraException):
        agora.get_tag(tag.id)


@pytest.mark.parametrize("kind", KINDS)
def test_an_object_of_each_kind_is_tagged_and_untagged(agora, project, described, kind):
    tag, other = (agora.create_tag(label, project=project.id) for label in ("good", "other"))
    thing = described[kind]
    thing.project = project.id  # patients have none of their own
    instance = thing.tag(tag)
    assert (instance.tag_definition, instance.tagged_object_content_type, instance.tagged_object_id) == (
        tag.id,
        kind,
        thing.id,
    )
    thing.tag(other.id)
    assert labels(thing) == ["good", "other"]
    assert [labels(described[word]) for word in KINDS if word != kind] == [[]] * 4
    assert thing.remove_tag(tag) is True
    assert labels(thing) == ["other"]


def test_tagging_twice_keeps_one_instance(sandbox, project, study):
    tag = make_tag(sandbox, "once", project=project.id)
    first, again = (tag_object(sandbox, tag, "exam", study.exam) for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()
    assert sandbox.get(f"v2/project/{project.id}/tag-instance/")["count"] == 1


def test_instances_are_listed_for_a_project_and_for_a_user_and_can_be_filtered(sandbox, project, study):
    tag = make_tag(sandbox, "seen", project=project.id)
    for kind, id_ in (("exam", study.exam), ("series", study.series)):
        assert tag_object(sandbox, tag, kind, id_).status_code == 201
    of_project = sandbox.get(f"v2/project/{project.id}/tag-instance/")["results"]
    assert [entry["tagged_object_content_type"] for entry in of_project] == ["exam", "serie"]
    mine = sandbox.get(f"v2/tag-instance/?tag_definition={tag}&tagged_object_content_type=serie")["results"]
    assert [entry["tagged_object_id"] for entry in mine] == [study.series]
    assert sandbox.get("v2/tag-instance/?limit=1000", user="scientist")["results"] == []


def test_the_objects_of_a_project_that_carry_a_tag_are_listed_kind_by_kind(sandbox, project, study):
    other = make_study(sandbox, project)
    tag = make_tag(sandbox, "one of two", project=project.id)
    expected = {
        "exam": study.exam,
        "series": study.series,
        "dataset": study.dataset,
        "patient": study.patient,
    }
    for kind, id_ in expected.items():
        assert tag_object(sandbox, tag, kind, id_).status_code == 201
    for kind, id_ in expected.items():
        path = f"v2/project/{project.id}/{kind}/for_tag/{tag}/"
        assert [found["id"] for found in sandbox.get(path)["results"]] == [id_]
        assert sandbox.api("GET", path, user="scientist").status_code == 404
    mine = make_tag(sandbox, "mine, in several projects")
    tag_object(sandbox, mine, "exam", other.exam)
    found = sandbox.get(f"v2/project/{project.id}/exam/for_tag/{mine}/")["results"]
    assert [exam["id"] for exam in found] == [other.exam]
    elsewhere = sandbox.post("v2/project/", {"name": "elsewhere"})["id"]
    assert sandbox.get(f"v2/project/{elsewhere}/exam/for_tag/{mine}/")["results"] == []
    assert sandbox.api("GET", f"v2/project/{project.id}/exam/for_tag/{10**9}/").status_code == 404


def test_a_tag_of_ones_own_is_seen_by_nobody_else(sandbox, project, study, observer):
    tag = make_tag(sandbox, "mine", visibility=1, scope=2)
    assert sandbox.get(f"v2/tag-definition/{tag}/")["user"] == sandbox.get("v1/user/current/")["id"]
    assert tag_object(sandbox, tag, "exam", study.exam).status_code == 201
    assert [entry["label"] for entry in sandbox.get(f"v2/exam/{study.exam}/tags/")] == ["mine"]
    assert sandbox.get(f"v2/exam/{study.exam}/tags/", user=observer) == []
    assert sandbox.api("GET", f"v2/tag-definition/{tag}/", user=observer).status_code == 404
    assert sandbox.api("DELETE", f"v2/tag-definition/{tag}/", user=observer).status_code == 404
    body = {"label": "theirs", "user": 1}
    assert sandbox.api("POST", "v2/tag-definition/", json=body, user=observer).status_code == 403
    assert sandbox.api("DELETE", f"v2/tag-definition/{tag}/").status_code == 204


def test_a_deleted_tag_leaves_its_objects(sandbox, project, study):
    tag = make_tag(sandbox, "gone", project=project.id)
    tag_object(sandbox, tag, "dataset", study.dataset)
    assert sandbox.api("DELETE", f"v2/tag-definition/{tag}/").status_code == 204
    assert sandbox.get(f"v2/dataset/{study.dataset}/tags/") == []
    assert sandbox.get(f"v2/project/{project.id}/tag-instance/")["count"] == 0


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"tag_definition": 10**9}, "tag_definition"),
        ({"tagged_object_id": 10**9}, "tagged_object_id"),
        ({"tagged_object_content_type": "planet"}, "tagged_object_content_type"),
        ({"tag_definition": "x"}, "tag_definition"),
    ],
)
def test_what_cannot_be_tagged_is_400_with_the_field(sandbox, project, study, change, field):
    tag = make_tag(sandbox, "t", project=project.id)
    form = {"tag_definition": tag, "tagged_object_content_type": "exam", "tagged_object_id": study.exam}
    answer = sandbox.api("POST", "v2/tag-instance/", data={**form, **change})
    assert (answer.status_code, list(answer.json())) == (400, [field])
    assert sandbox.api("POST", "v2/tag-definition/", json={"label": " "}).status_code == 400


def test_a_tag_of_another_project_is_refused(sandbox, project, study):
    other = sandbox.post("v2/project/", {"name": "other"})
    tag = make_tag(sandbox, "foreign", project=other["id"])
    for kind, id_ in (("exam", study.exam), ("patient", study.patient)):
        assert tag_object(sandbox, tag, kind, id_).status_code == 400


# -- ratings -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_an_object_of_each_kind_is_rated_again_and_no_more(described, kind):
    thing = described[kind]
    assert thing.rate(3).value == 3
    first = thing.get_rating()
    assert thing.rate(5).value == 5
    assert (thing.get_rating().value, thing.get_rating().id) == (5, first.id)
    assert [described[word].get_rating() for word in KINDS if word != kind] == [None] * 4
    assert thing.rate(0) is None
    assert thing.get_rating() is None
    assert thing.rate(0) is None
    assert thing.get_rating() is None


@pytest.mark.parametrize("value", ["6", "-1", "x", ""])
def test_a_rating_is_from_nothing_to_five(sandbox, study, value):
    form = {"value": value, "rated_object_content_type": "exam", "rated_object_id": study.exam}
    assert sandbox.api("POST", "v2/rating/", data=form).status_code == 400


# -- parameter sets ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_parameters_of_each_kind_are_added_changed_and_replaced(described, kind):
    thing = described[kind]
    before = len(thing.get_parametersets())
    thing.set_parameters({"TR": 1.5, "matrix": [2, 4], "note": "näher"})
    (made,) = [one for one in thing.get_parametersets() if not one.read_only]
    assert (made.name, len(thing.get_parametersets())) == ("User Parameters", before + 1)
    assert {p.Name: p.Value for p in made.get_parameters()} == {
        "TR": 1.5,
        "matrix": [2, 4],
        "note": "näher",
    }
    thing.update_parameters(
        [{"Name": "TR", "Value": 2, "NameText": "Repetition time"}, {"Name": "n", "Value": 1}]
    )
    (made,) = [one for one in thing.get_parametersets() if not one.read_only]
    assert [p.Name for p in made.get_parameters()] == ["TR", "matrix", "note", "n"]
    assert made.get_parameter("TR").NameText == "Repetition time"
    thing.set_parameters({"only": 1})
    (made,) = [one for one in thing.get_parametersets() if not one.read_only]
    assert [p.Name for p in made.get_parameters()] == ["only"]
    made.delete()
    assert len(thing.get_parametersets()) == before


def test_the_heads_in_a_list_and_in_the_answer_to_a_new_set_carry_no_parameters(sandbox, project):
    made = sandbox.post(
        f"v2/folder/{project.root}/parametersets/",
        {"name": "QA", "parameters": [{"Name": "snr", "Value": 7}]},
    )
    assert (made["name"], made["read_only"], made["parameters"]) == ("QA", False, [])
    assert sandbox.get(f"v2/folder/{project.root}/parametersets/") == [made]
    whole = sandbox.get(f"v2/parameterset/{made['id']}/?flat=True")
    assert whole["parameters"] == [{"Name": "snr", "Value": 7}]
    renamed = sandbox.api("PATCH", f"v2/parameterset/{made['id']}/", json={"name": "QC"}).json()
    assert (renamed["name"], renamed["parameters"]) == ("QC", [{"Name": "snr", "Value": 7}])


def test_a_set_that_came_with_the_data_is_read_only(sandbox, study):
    (head,) = sandbox.get(f"v2/dataset/{study.dataset}/parametersets/")
    path = f"v2/parameterset/{head['id']}/"
    before = sandbox.get(path)
    assert sandbox.api("PATCH", path, json={"name": "x", "parameters": []}).status_code == 403
    assert sandbox.api("DELETE", path).status_code == 403
    assert sandbox.get(path) == before


@pytest.mark.parametrize(
    "body",
    [
        {"name": "", "parameters": []},
        {"name": "n", "parameters": {"a": 1}},
        {"name": "n", "parameters": [{"Name": "a"}]},
        {"name": "n", "parameters": ["a"]},
    ],
)
def test_a_parameter_set_without_sense_is_400(sandbox, project, body):
    path = f"v2/folder/{project.root}/parametersets/"
    assert sandbox.api("POST", path, json=body).status_code == 400
    assert sandbox.get(path) == []


# -- who may, and what stays -------------------------------------------------------------------------


def annotate(sandbox, project, study):
    """Make one annotation of each sort; return requests that would change or add some."""
    tag = make_tag(sandbox, "t", project=project.id)
    instance = tag_object(sandbox, tag, "exam", study.exam).json()[0]["id"]
    rated = {"value": 3, "rated_object_content_type": "exam", "rated_object_id": study.exam}
    rating = sandbox.post("v2/rating/", rated)["id"]
    set_ = sandbox.post(f"v2/exam/{study.exam}/parametersets/", {"name": "n", "parameters": []})["id"]
    tagged = {"tag_definition": tag, "tagged_object_content_type": "serie", "tagged_object_id": study.series}
    return [
        ("POST", "v2/tag-instance/", tagged),
        ("DELETE", f"v2/tag-instance/{instance}/", None),
        ("POST", "v2/rating/", {**rated, "value": 1}),
        ("PUT", f"v2/rating/{rating}/", {**rated, "value": 1}),
        ("DELETE", f"v2/rating/{rating}/", None),
        ("POST", f"v2/exam/{study.exam}/parametersets/", {"name": "m", "parameters": []}),
        ("PATCH", f"v2/parameterset/{set_}/", {"name": "m"}),
        ("DELETE", f"v2/parameterset/{set_}/", None),
    ]


def seen(sandbox, study):
    return [
        sandbox.get(f"v2/{kind}/{word}/")
        for kind in (f"exam/{study.exam}", f"series/{study.series}", f"patient/{study.patient}")
        for word in ("tags", "rating", "parametersets")
    ]


def test_an_observer_sees_annotations_and_changes_none(sandbox, project, study, observer):
    refused = annotate(sandbox, project, study)
    tag = refused[0][2]["tag_definition"]
    refused += [
        ("POST", "v2/tag-definition/", {"label": "x", "project": project.id}),
        ("DELETE", f"v2/tag-definition/{tag}/", None),
        ("POST", f"v2/patient/{study.patient}/parametersets/", {"name": "n", "parameters": []}),
    ]
    before = seen(sandbox, study)
    assert [
        sandbox.api(method, path, json=body, user=observer).status_code for method, path, body in refused
    ] == [403] * 11
    assert seen(sandbox, study) == before
    assert sandbox.get(f"v2/exam/{study.exam}/tags/", user=observer)[0]["label"] == "t"
    assert sandbox.get(f"v2/exam/{study.exam}/rating/", user=observer)[0]["value"] == 3


def test_who_is_no_member_finds_nothing_to_annotate(sandbox, project, study):
    for method, path, body in annotate(sandbox, project, study):
        assert sandbox.api(method, path, json=body, user="scientist").status_code in (400, 404)


def test_a_locked_study_is_not_annotated_unless_locks_do_not_refuse(sandbox, project, study):
    changes = annotate(sandbox, project, study)
    sandbox.post("v2/exam/lock_ids/", {"ids": [study.exam]})
    before = seen(sandbox, study)
    assert [sandbox.api(method, path, json=body).status_code for method, path, body in changes] == [403] * 8
    assert seen(sandbox, study) == before
    sandbox.switch(locked_refuses=False)
    assert sandbox.api(*changes[0][:2], json=changes[0][2]).status_code == 201


def test_what_is_deleted_for_good_takes_its_annotations_along(sandbox, project):
    study = make_study(sandbox, project)
    annotate(sandbox, project, study)
    assert sandbox.api("DELETE", f"v1/exam/{study.exam}/").status_code == 204
    assert sandbox.get(f"v2/project/{project.id}/tag-instance/")["count"] == 0
    (entry,) = [e for e in sandbox.get("v1/trash/?limit=1000")["results"] if e["project"] == project.id]
    assert sandbox.api("DELETE", f"v1/trash/{entry['id']}/delete").status_code == 204
    assert [tag["label"] for tag in sandbox.get(f"v2/project/{project.id}/tag-definition/")["results"]] == [
        "t"
    ]
    assert sandbox.api("DELETE", f"v2/project/{project.id}/").status_code == 204
    (entry,) = [e for e in sandbox.get("v1/trash/?limit=1000")["results"] if e["project"] == project.id]
    assert sandbox.api("DELETE", f"v1/trash/{entry['id']}/delete").status_code == 204
    assert project.id not in [t["project"] for t in sandbox.get("v2/tag-definition/?limit=1000")["results"]]


def test_annotations_survive_kill_nine(tmp_path):
    with SandboxProcess(tmp_path / "data", switches={"import-speed": "0"}) as sandbox:
        folder = sandbox.get("v2/project/myagora/")["root_folder"]
        tag_object(sandbox, make_tag(sandbox, "kept"), "folder", folder)
        rated = {"value": 4, "rated_object_content_type": "folder", "rated_object_id": folder}
        sandbox.post("v2/rating/", rated)
        sandbox.post(
            f"v2/folder/{folder}/parametersets/", {"name": "n", "parameters": [{"Name": "a", "Value": 1}]}
        )
        sandbox.kill()
        sandbox.start()
        assert [tag["label"] for tag in sandbox.get(f"v2/folder/{folder}/tags/")] == ["kept"]
        assert [rating["value"] for rating in sandbox.get(f"v2/folder/{folder}/rating/")] == [4]
        (set_,) = sandbox.get(f"v2/folder/{folder}/parametersets/")
        assert sandbox.get(f"v2/parameterset/{set_['id']}/")["parameters"] == [{"Name": "a", "Value": 1}]
