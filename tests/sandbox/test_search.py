"""Searching by words and by expressions."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import pytest
from gtagora.exception import AgoraException
from hypothesis import given
from hypothesis import strategies as st

from agorafs.sandbox import expressions
from tests.sandbox.conftest import make_study

_numbers = itertools.count(1)


@pytest.fixture
def word():
    """A word that nothing else on the server contains."""
    return f"zebra{next(_numbers)}quagga"


def hits(sandbox, words, *, path="v1/search/fulltext/", **query):
    answer = sandbox.get(path, params={"q": words, "limit": "1000", **query})
    return [(hit["content_type"], hit["object_id"]) for hit in answer["results"]]


# -- words -------------------------------------------------------------------------------------------


def test_each_kind_is_found_by_its_name_and_alone_by_its_code(sandbox, project, word):
    folder = sandbox.post(f"v1/folder/{project.root}/new/", {"name": f"a {word} b"})["object_id"]
    study = make_study(
        sandbox, project, StudyDescription=word, SeriesDescription=word, PatientName=f"{word}^Anna"
    )
    sandbox.upload({f"{word}.txt": b"x"}, folder=project.root)
    items = sandbox.get(f"v1/folder/{project.root}/items/")
    (dataset,) = [item["object_id"] for item in items if item["content_object"]["name"] == f"{word}.txt"]
    other = sandbox.post("v2/project/", {"name": f"Project {word}"})
    tag = sandbox.post("v2/tag-definition/", {"label": word, "project": project.id})["id"]
    expected = {
        1: ("folder", folder),
        2: ("exam", study.exam),
        3: ("serie", study.series),
        5: ("patient", study.patient),
        6: ("project", other["id"]),
        11: ("tag", tag),
    }
    everything = hits(sandbox, word)
    assert set(expected.values()) | {("dataset", dataset)} <= set(everything)
    for code, hit in expected.items():
        alone = hits(sandbox, word, t=code)
        assert hit in alone
        assert {kind for kind, _ in alone} == {hit[0]}
    assert ("dataset", dataset) in hits(sandbox, word, t=4)


def test_a_hit_says_what_it_is_and_where(sandbox, project, word):
    made = sandbox.post(f"v1/folder/{project.root}/new/", {"name": word})
    (hit,) = sandbox.get("v1/search/fulltext/", params={"q": word})["results"]
    assert hit == {
        "id": made["object_id"],
        "object_id": made["object_id"],
        "content_type": "folder",
        "name": word,
        "project": project.id,
    }


def test_all_words_must_occur_in_one_object_in_any_case_and_order(sandbox, project, word):
    sandbox.post(f"v1/folder/{project.root}/new/", {"name": f"Größe {word} left"})
    sandbox.post(f"v1/folder/{project.root}/new/", {"name": f"{word} right"})
    assert len(hits(sandbox, word)) == 2
    assert len(hits(sandbox, f"LEFT {word.upper()} gröSSE")) == 1
    assert hits(sandbox, f"left right {word}") == []


def test_objects_are_found_by_tags_parameters_file_names_descriptions_and_patients(
    sandbox, project, study, word
):
    words = {name: f"{word}{name}" for name in ("tag", "parameter", "value", "file", "patient")}
    tag = sandbox.post("v2/tag-definition/", {"label": words["tag"], "project": project.id})["id"]
    sandbox.post(
        "v2/tag-instance/",
        {"tag_definition": tag, "tagged_object_content_type": "serie", "tagged_object_id": study.series},
    )
    sandbox.post(
        f"v2/exam/{study.exam}/parametersets/",
        {"name": "n", "parameters": [{"Name": words["parameter"], "Value": words["value"]}]},
    )
    assert sandbox.upload({words["file"]: b"x"}, exam=study.exam)["state"] == 5
    assert ("serie", study.series) in hits(sandbox, words["tag"])
    assert hits(sandbox, words["parameter"]) == hits(sandbox, words["value"]) == [("exam", study.exam)]
    assert [kind for kind, _ in hits(sandbox, words["file"])] == ["dataset"]
    exam_and_patient = [("exam", study.exam), ("patient", study.patient)]
    assert hits(sandbox, study.patient_id, path=f"v2/project/{project.id}/fulltext/", t=2) == [
        exam_and_patient[0]
    ]
    assert set(exam_and_patient) <= set(hits(sandbox, study.patient_id))


def test_a_project_is_searched_alone(sandbox, project, word):
    other = sandbox.post("v2/project/", {"name": "other"})
    for root in (project.root, other["root_folder"]):
        sandbox.post(f"v1/folder/{root}/new/", {"name": word})
    assert len(hits(sandbox, word)) == 2
    assert len(hits(sandbox, word, path=f"v2/project/{project.id}/fulltext/")) == 1


def test_what_a_user_does_not_see_is_not_found(sandbox, project, word):
    make_study(sandbox, project, StudyDescription=word, PatientName=word)
    sandbox.post("v2/tag-definition/", {"label": word})
    assert len(hits(sandbox, word)) >= 3
    answer = sandbox.get("v1/search/fulltext/", params={"q": word}, user="scientist")
    assert answer["count"] == 0
    path = f"v2/project/{project.id}/fulltext/?q={word}"
    assert sandbox.api("GET", path, user="scientist").status_code == 404


def test_what_is_in_the_trash_is_not_found(sandbox, project, word):
    folder = sandbox.post(f"v1/folder/{project.root}/new/", {"name": word})["object_id"]
    sandbox.api("DELETE", f"v2/folder/{folder}/")
    assert hits(sandbox, word) == []


@pytest.mark.parametrize("query", ["", "q=", "q=%20", "q=a&t=7", "q=a&t=x", "q=a&t=-1"])
def test_a_search_without_sense_is_400(sandbox, query):
    assert sandbox.api("GET", f"v1/search/fulltext/?{query}").status_code == 400


def test_searching_by_words_can_be_switched_off(sandbox, project):
    sandbox.switch(fulltext=False)
    for path in ("v1/search/fulltext/?q=a", f"v2/project/{project.id}/fulltext/?q=a"):
        assert sandbox.api("GET", path).status_code == 404


# -- expressions -------------------------------------------------------------------------------------

VALUES: Mapping[str, Sequence[object]] = {
    "parameter.TR": [2.5, 3],
    "parameter.Echo Time": [30],
    "parameter.note": ["good one"],
    "parameter.flag": [True],
    "name": ["T1 MPRAGE"],
    "rating": [4],
    "tag": ["good", "checked"],
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("parameter.TR > 2", True),
        ("parameter.TR = 3", True),
        ("parameter.TR == 2.5 and parameter.TR >= 3", True),
        ("parameter.TR < 2.5", False),
        ("parameter.TR != 3", True),
        ("NOT parameter.TR = 3", False),
        ('parameter."Echo Time" <= 30', True),
        ("parameter.absent = 1", False),
        ("parameter.absent != 1", False),
        ("NOT parameter.absent = 1", True),
        ("parameter.note = 'good one'", True),
        ("parameter.note = good", False),
        ("parameter.note > 1", False),
        ("parameter.flag = 1", False),
        ('name = "T1 MPRAGE"', True),
        (r'name = "T1 \MPRAGE"', True),
        ("tag = good AND tag = checked", True),
        ("tag = bad OR rating >= 4", True),
        ("tag = bad OR rating >= 5", False),
        ("tag = good OR tag = bad AND rating = 1", True),
        ("(tag = good OR tag = bad) AND rating = 1", False),
        ("not (tag=good and rating=1)", True),
        ("  ( ( rating=4 ) )  ", True),
    ],
)
def test_an_expression_means_what_it_says(text, expected):
    def values(operand: str) -> Sequence[object]:
        return VALUES.get(operand, [])

    assert expressions.parse(text)(values) is expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a > 0",
        "parameter.",
        "parameter.TR",
        "parameter.TR >",
        "parameter.TR > > 1",
        "parameter.TR 1",
        "rating = 1 rating = 2",
        "rating = 1 AND",
        "AND rating = 1",
        "rating = 1 OR OR rating = 2",
        "(rating = 1",
        "rating = 1)",
        "()",
        "NOT",
        "rating = AND",
        'name = "open',
        "rating ! 1",
        "__import__('os').system('true')",
        "(" * 5000 + "rating = 1" + ")" * 5000,
        "NOT " * 5000 + "rating = 1",
    ],
)
def test_what_is_no_expression_is_refused(text):
    with pytest.raises(expressions.ExpressionError, match="Cannot understand the expression"):
        expressions.parse(text)


@given(
    st.lists(
        st.sampled_from(
            ["(", ")", "AND", "OR", "NOT", "name", "rating", "parameter.a", "=", "<", "1", "'x'", '"', "\\"]
        )
    ).map(" ".join)
    | st.text()
)
def test_any_text_is_an_expression_or_is_refused(text):
    try:
        test = expressions.parse(text)
    except expressions.ExpressionError:
        return
    assert test(lambda operand: [1, "x"]) in (True, False)


def test_row_82_series_are_searched_by_expressions(agora, sandbox, project, study):
    other = make_study(sandbox, project)
    agora.get_series(study.series).set_parameters({f"snr{study.series}": [1, 7.5], "site": "left & right"})
    agora.get_series(study.series).rate(4)
    agora.get_series(study.series).tag(agora.create_tag("good", project=project.id))

    def found(text):
        return {series.id for series in agora.search_series(text)} & {study.series, other.series}

    assert found(f"parameter.snr{study.series} > 7") == {study.series}
    assert found(f"exam.uid = '{other.exam_uid}' OR parameter.snr{study.series} = 1") == {
        study.series,
        other.series,
    }
    assert found(f"tag = good AND rating >= 4 AND uid = '{study.series_uid}'") == {study.series}
    assert found(f"patient.id = '{other.patient_id}' AND NOT rating >= 4") == {other.series}
    assert found(f"id = {other.series}") == {other.series}
    assert found("exam.name = 'Brain MRI' AND patient.name != 'x' AND acquisition_number = 1")
    with pytest.raises(AgoraException, match="Cannot understand"):
        agora.search_series("rating >")


def test_an_expression_finds_nothing_that_the_user_does_not_see(sandbox, study):
    path = f"v1/serie/search/?q=id%20%3D%20{study.series}"
    assert sandbox.get(path)["count"] == 1
    assert sandbox.get(path, user="scientist")["count"] == 0
