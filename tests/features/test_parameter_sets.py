"""Parameter sets are read, compared, and those of one's own written; the connector has the same ones."""

from __future__ import annotations

import json

import pytest
from gtagora.models.parameter_set import ParameterSet

from tests.features.own_objects import new_folder, new_study


@pytest.fixture
def study(bench):
    return new_study(bench)


def beside(path):
    """Where the files about an object are."""
    return path / ".agora" if path.is_dir() else path.parent / ".agora" / "entries" / path.name


def theirs_of(thing):
    """Return name, whether it can only be read, and values of each set that the connector finds."""
    return {
        one.id: (one.name, one.read_only, {each.Name: each.Value for each in one.get_parameters()})
        for one in thing.get_parametersets()
    }


def ours_of(bench, path):
    sets = json.loads(bench.shell('cat "$1"', beside(path) / "parameters.json"))
    return {one["id"]: (one["name"], one["read_only"], one["values"]) for one in sets.values()}


def user_parameters(thing, name="User Parameters"):
    """Return the values in the sets of this name, of which there is to be one."""
    ((_, _, values),) = [one for one in theirs_of(thing).values() if one[0] == name]
    return values


@pytest.mark.feature(98, how="`cat OBJECT/.agora/parameters.json`; `ls OBJECT/.agora/parameters`")
@pytest.mark.parametrize("kind", ["exam", "series", "dataset", "folder", "patient"])
def test_the_parameter_sets_of_every_object_are_the_connectors(bench, study, kind):
    if kind == "folder":
        own = new_folder(bench)
        theirs, path = own.folder, own.path
    elif kind == "patient":
        about = bench.agora.get_exam(study.exam.id).patient
        theirs = bench.agora.get_patient(about["id"] if isinstance(about, dict) else about)
        path = bench.root / "patients" / theirs.name
    elif kind == "dataset":
        (theirs,) = study.series.get_datasets()
        (path,) = study.series_path.iterdir()
    else:
        theirs, path = (study.exam, study.path) if kind == "exam" else (study.series, study.series_path)
    theirs.set_parameters({"snr": 31.5, "motion": "none", "by slice": [1, 2.5]}, name="Quality")
    bench.control("refresh", bench.root)
    found = theirs_of(theirs)
    assert ours_of(bench, path) == found
    assert ("Quality", False) in [one[:2] for one in found.values()]
    assert (kind in ("series", "dataset")) == any(read_only for _, read_only, _ in found.values())
    names = bench.shell('ls "$1"', beside(path) / "parameters").splitlines()
    assert sorted(names) == sorted(f"{name}.json" for name, _, _ in found.values())
    for name, _, values in found.values():
        assert json.loads((beside(path) / "parameters" / f"{name}.json").read_text()) == values


@pytest.mark.feature(98, how="its `id` stands beside its values in `.agora/parameters.json`")
def test_a_parameter_set_has_its_id(bench, study):
    for number, (name, _, values) in ours_of(bench, study.series_path).items():
        one = ParameterSet.get(number, http_client=bench.agora.http_client)
        assert (one.name, {each.Name: each.Value for each in one.get_parameters()}) == (name, values)


@pytest.mark.feature(99, how="`grep -i echo .agora/parameters/*`; `getfattr -d -m param.*Echo DATASET`")
def test_all_parameters_are_found_by_a_part_of_their_name(bench, study):
    (dataset,) = study.series.get_datasets()
    (file,) = study.series_path.iterdir()
    expected = {one.Name: one.Value for one in dataset.get_parameters(filter="Series")}
    assert len(expected) > 2
    lines = bench.shell('cat "$1"/*.json | grep "Series"', beside(file) / "parameters")
    found = json.loads("{" + lines.strip().rstrip(",") + "}")
    assert found == expected
    # They are named once they have been read.
    listed = bench.shell('getfattr -m "user.agora.param.*Series" "$1"', file)
    named = {
        line.removeprefix("user.agora.param.") for line in listed.splitlines() if line.startswith("user")
    }
    assert named == set(expected)
    series = {one.Name: one.Value for one in study.series.get_parameters(filter="Series")}
    lines = bench.shell('cat "$1"/*.json | grep "Series"', study.series_path / ".agora" / "parameters")
    assert json.loads("{" + lines.strip().rstrip(",") + "}") == series


@pytest.mark.feature(
    99, how="`echo 'diff-parameters A B' > .agora/control`; `diff A/.agora/parameters/S.json B/…`"
)
def test_the_difference_of_two_sets_is_the_connectors(bench, study):
    other = new_study(bench, EchoTime="4.6")
    command = {"command": "diff-parameters", "path": str(study.series_path), "other": str(other.series_path)}
    answer = json.loads(bench.control(json.dumps(command)))
    theirs = ParameterSet.diff(study.series.get_parameters(), other.series.get_parameters())
    difference = answer["difference"]
    assert difference["only_in_first"] == theirs["only_in_list1"]
    assert difference["only_in_second"] == theirs["only_in_list2"] == {"EchoTime": 4.6}
    assert difference["different"] == {name: list(pair) for name, pair in theirs["different_values"].items()}
    assert "StudyInstanceUID" in difference["different"] or "StudyDescription" in difference["different"]
    said = bench.control(f"diff-parameters '{study.series_path}' '{other.series_path}'")
    assert "> EchoTime: 4.6\n" in said


@pytest.mark.feature(
    100, how="`setfattr -n user.agora.param.TE -v 4.6 EXAM`; `echo 'set-parameters . TE=4.6'`"
)
@pytest.mark.parametrize("way", ["setfattr", "control"])
def test_one_parameter_is_set_and_changed_and_the_others_stay(bench, study, way):
    study.exam.set_parameters({"kept": "as it is", "TE": 1})
    bench.control("refresh", study.path)
    for name, text in (("TE", "4.6"), ("new", "[1, 2]"), ("words", "some words")):
        if way == "setfattr":
            bench.shell('setfattr -n "user.agora.param.$1" -v "$2" "$3"', name, text, study.path)
        else:
            bench.control(f"set-parameters . '{name}={text}'", study.path)
    assert user_parameters(study.exam) == {
        "kept": "as it is", "TE": 4.6, "new": [1, 2], "words": "some words",
    }  # fmt: skip
    assert bench.attribute(study.path, "param.TE") == "4.6"


@pytest.mark.feature(
    100, how="`cp set.json EXAM/.agora/parameters/NAME.json`: a new set, or in place of the one there"
)
def test_a_set_is_made_and_replaced_as_a_file(bench, study, tmp_path):
    path = study.path / ".agora" / "parameters" / "Mine.json"
    for values in ({"a": 1, "b": "two"}, {"b": [3]}):
        (tmp_path / "set.json").write_text(json.dumps(values))
        bench.shell('cp "$1" "$2"', tmp_path / "set.json", path)
        assert user_parameters(study.exam, "Mine") == values
        assert json.loads(path.read_text()) == values
    study.exam.update_parameters({"c": 4}, name="Mine")
    bench.control("refresh", study.path)
    assert json.loads(path.read_text()) == {"b": [3], "c": 4}
