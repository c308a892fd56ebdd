"""Tags are made, given and taken away, objects are rated; of patients, too. The connector sees it, and is seen."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.features.own_objects import new_study, unique


@pytest.fixture(scope="module")
def study(bench):
    return new_study(bench)


@pytest.fixture(scope="module")
def patient(bench, study):
    """The patient of the study: where he is, and the connector's object."""
    about = bench.agora.get_exam(study.exam.id).patient
    number = about["id"] if isinstance(about, dict) else about
    path = bench.shell('readlink -f "$1"', bench.by_id("patient", number)).rstrip("\n")
    return Path(path), bench.agora.get_patient(number)


def labels(thing):
    return sorted(tag.label for tag in thing.get_tags())


@pytest.mark.feature(95, how="`mkdir PROJECT/tags/LABEL`, `rmdir PROJECT/tags/LABEL`")
def test_a_tag_is_made_and_removed_as_a_directory(bench):
    label = unique("label")
    bench.shell('mkdir "$1"', bench.project / "tags" / label)
    (tag,) = bench.on_server().get_tags(label)
    assert tag.project == bench.on_server().id
    bench.shell('rmdir "$1"', bench.project / "tags" / label)
    assert bench.on_server().get_tags(label) == []


@pytest.mark.feature(95, how="`mkdir tags/LABEL`: one of the user's own")
def test_a_tag_of_the_users_own_is_made(bench):
    """The connector can not: its ``create_tag(user=…)`` raises ``ValueError``."""
    label = unique("label")
    bench.shell('mkdir "$1"', bench.root / "tags" / label)
    (tag,) = [one for one in bench.agora.get_tags() if one.label == label]
    assert (tag.project, tag.user) == (None, bench.agora.get_current_user().id)


@pytest.mark.feature(
    95, how="`rm PROJECT/tags/LABEL/EXAM`; `setfattr -x user.agora.tag.LABEL EXAM`; `echo 'untag . LABEL'`"
)
@pytest.mark.parametrize("way", ["rm", "setfattr", "control"])
def test_a_tag_is_taken_from_an_object(bench, study, way):
    kept, label = unique("kept"), unique("label")
    for name in (kept, label):
        study.exam.tag(bench.agora.create_tag(name, project=bench.on_server().id))
    bench.control("refresh", bench.root)
    if way == "rm":
        bench.shell('rm "$1"', bench.project / "tags" / label / study.path.name)
    elif way == "setfattr":
        bench.shell('setfattr -x "user.agora.tag.$1" "$2"', label, study.path)
    else:
        bench.control(f"untag . '{label}'", study.path)
    assert label not in labels(study.exam)
    assert kept in labels(study.exam)
    assert label not in bench.attribute(study.path, "tags").split(",")


WAYS_TO_RATE = ["setfattr", "echo", "control", "baloo"]


def rate(bench, path, value, way):
    if way == "setfattr":
        bench.shell('setfattr -n user.agora.rating -v "$1" "$2"', value, path)
    elif way == "baloo":
        bench.shell('setfattr -n user.baloo.rating -v "$1" "$2"', str(2 * int(value)), path)
    elif way == "echo":
        bench.shell('echo "$1" > "$2/.agora/rating"', value, path)
    else:
        bench.control(f"rate . {value}", path)


@pytest.mark.feature(
    96, how="`setfattr -n user.agora.rating -v 4 OBJECT`; `echo 4 > OBJECT/.agora/rating`; `echo 'rate . 4'`"
)
@pytest.mark.parametrize("way", WAYS_TO_RATE)
def test_a_rating_is_given_changed_and_taken_away(bench, study, way):
    for theirs, path in ((study.exam, study.path), (study.series, study.series_path)):
        for value in ("4", "5"):
            rate(bench, path, value, way)
            assert theirs.get_rating().value == int(value)
        rate(bench, path, "0", way)
        assert theirs.get_rating() is None


@pytest.mark.feature(96, how="`getfattr -n user.agora.rating OBJECT`; `cat OBJECT/.agora/rating`")
def test_a_rating_that_others_gave_is_read(bench, study):
    (dataset,) = study.series.get_datasets()
    (file,) = study.series_path.iterdir()
    for theirs, path, about in (
        (study.exam, study.path, study.path / ".agora"),
        (dataset, file, study.series_path / ".agora" / "entries" / file.name),
    ):
        theirs.rate(3)
        bench.control("refresh", study.path)
        assert bench.attribute(path, "rating") == "3"
        assert bench.shell('cat "$1"', about / "rating") == "3\n"
        theirs.rate(0)


@pytest.mark.feature(
    97, how="`setfattr -n user.agora.tags -v 'a,b' PROJECT/patients/P`; `echo 4 > patients/P/.agora/rating`"
)
def test_a_patient_is_tagged_and_rated(bench, patient):
    path, theirs = patient
    tag = bench.agora.create_tag(unique("label"), project=bench.on_server().id)
    theirs.tag(tag)
    theirs.rate(2)
    bench.control("refresh", bench.root)
    assert bench.attribute(path, "tags") == tag.label
    assert bench.attribute(path, "rating") == "2"
    own = unique("own")
    in_project = bench.project / "patients" / path.name  # a new tag is that project's
    bench.shell('setfattr -n user.agora.tags -v "$1" "$2"', f"{tag.label},{own}", in_project)
    assert labels(theirs) == sorted([tag.label, own])
    assert len(bench.on_server().get_tags(own)) == 1
    bench.shell('echo 5 > "$1/.agora/rating"', path)
    assert theirs.get_rating().value == 5
    bench.control(f"untag . '{tag.label}'", path)
    bench.control("rate . 0", path)
    assert labels(theirs) == [own]
    assert theirs.get_rating() is None
