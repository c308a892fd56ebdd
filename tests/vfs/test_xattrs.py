"""Extended attributes of what is stored: what can be read, listed and set, and which requests that costs."""

from __future__ import annotations

import os

import pytest

from agorafs.client.records import Role
from agorafs.errors import (
    AlreadyExists,
    BadCommand,
    NoSuchXattr,
    NotPermitted,
    NotSupported,
    PermissionDenied,
)
from agorafs.vfs.xattrs import MAX_LIST_BYTES, is_answered
from tests.vfs.annotated_world import DESCRIBED, EXAM, FILE, AnnotatedWorld


@pytest.fixture
def make_world():
    made = []

    def make(*arguments, **options):
        made.append(AnnotatedWorld(*arguments, **options))
        return made[-1]

    yield make
    for world in made:
        world.close()


@pytest.fixture
def world(make_world):
    return make_world()


TAGS, XDG_TAGS = "user.agora.tags", "user.xdg.tags"
RATING, BALOO = "user.agora.rating", "user.baloo.rating"


# -- tags ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", DESCRIBED)
@pytest.mark.parametrize("name", [TAGS, XDG_TAGS])
def test_tags_are_a_list_that_can_be_set_on_every_kind_of_object(world, path, name):
    assert world.get(path, name) == ""
    world.set(path, name, "good, fair")
    assert world.get(path, TAGS) == world.get(path, XDG_TAGS) == "good,fair"
    assert world.server.labels(world.refs[path]) == ["good", "fair"]
    world.set(path, name, "fair")
    assert world.server.labels(world.refs[path]) == ["fair"]
    world.remove(path, name)
    assert world.server.labels(world.refs[path]) == []


def test_one_tag_is_an_attribute_of_its_own(world):
    name = "user.agora.tag.good, or better"
    assert world.get(EXAM, name) is None
    world.set(EXAM, name, "1")
    assert world.get(EXAM, name) == "1"
    assert world.server.labels(world.refs[EXAM]) == ["good, or better"]
    world.set(EXAM, name, "0")
    assert world.get(EXAM, name) is None
    world.set(EXAM, name, "")
    assert world.get(EXAM, name) == "1"
    world.remove(EXAM, name)
    assert world.server.labels(world.refs[EXAM]) == []


def test_a_list_that_was_read_can_be_written_back_whatever_is_in_it(world):
    world.set(EXAM, "user.agora.tag.brain, left", "1")
    world.set(EXAM, "user.agora.tag.good", "1")
    world.set(EXAM, TAGS, world.get(EXAM, TAGS) + ",new")
    assert world.server.labels(world.refs[EXAM]) == ["brain, left", "good", "new"]


# -- ratings -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", DESCRIBED)
def test_a_rating_is_stars_and_half_stars(world, path):
    assert (world.get(path, RATING), world.get(path, BALOO)) == ("0", "0")
    world.set(path, RATING, "4\n")
    assert (world.get(path, RATING), world.get(path, BALOO)) == ("4", "8")
    world.set(path, BALOO, "5")
    assert (world.get(path, RATING), world.get(path, BALOO)) == ("3", "6")
    assert world.server.ratings[world.refs[path]].value == 3
    world.remove(path, BALOO)
    assert world.server.ratings == {}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (RATING, "6"), (RATING, "-1"), (RATING, "x"), (RATING, ""), (RATING, "4.5"), (RATING, "٤"),
        (BALOO, "11"), (RATING, "9" * 5000), ("user.agora.locked", "yes"), ("user.agora.locked", ""),
        (TAGS, "a\nb"), ("user.agora.tag. x", "1"), ("user.agora.param. ", "1"),
    ],
)  # fmt: skip
def test_wrong_values_are_refused_before_the_server_is_asked(world, name, value):
    with pytest.raises(BadCommand):
        world.set(EXAM, name, value)
    assert world.server.calls == []


def test_values_that_are_no_text_are_refused(world):
    for name in (TAGS, RATING, "user.agora.param.x", "user.agora.locked", "user.agora.tag.x"):
        with pytest.raises(BadCommand):
            world.xattrs.set(world.node(EXAM), name, b"\xff")
    with pytest.raises(BadCommand):
        world.xattrs.set(world.node(EXAM), "user.agora.tag.\udcff", b"1")
    assert world.server.calls == []


# -- parameters ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3), ("1.5", 1.5), ("-2e3", -2000.0), ("[2, 4]", [2, 4]), ('["a", 1]', ["a", 1]), ("true", True),
        ("plain text", "plain text"), ("", ""), ("NaN", "NaN"), ("1e999", "1e999"), ("[1, NaN]", "[1, NaN]"),
        ('"quoted"', '"quoted"'), ('{"a": 1}', '{"a": 1}'), ("null", "null"), ("[null]", "[null]"),
        ("[" * 100_000, "[" * 100_000), ("9" * 5000, "9" * 5000), ("Größe", "Größe"),
    ],
)  # fmt: skip
def test_a_parameter_is_the_number_list_or_text_that_was_said_and_reads_so(world, text, value):
    world.set(EXAM, "user.agora.param.p", text)
    stored = world.server.values(world.refs[EXAM], "User Parameters")["p"]
    assert (stored, type(stored)) == (value, type(value))
    world.annotations.refresh()
    shown = world.get(EXAM, "user.agora.param.p")
    world.set(EXAM, "user.agora.param.p", shown)
    again = world.server.values(world.refs[EXAM], "User Parameters")["p"]
    assert (again, type(again)) == (value, type(value))


def test_a_text_that_reads_like_a_number_stays_a_text_when_it_is_set_to_what_it_reads(world):
    ref = world.refs[EXAM]
    world.server.add_set(ref, "Mine", [{"Name": "code", "Value": "5"}], is_read_only=False)
    world.set(EXAM, "user.agora.param.code", "5")
    assert world.server.values(ref, "Mine") == {"code": "5"}


def test_parameters_of_the_data_are_read_and_not_set_to_anything_else(world):
    ref = world.refs[FILE]
    world.server.add_set(ref, "DICOM", [{"Name": "TR", "Value": 1.5}], is_read_only=True)
    assert world.get(FILE, "user.agora.param.TR") == "1.5"
    world.set(FILE, "user.agora.param.TR", "1.5")
    with pytest.raises(NotPermitted):
        world.set(FILE, "user.agora.param.TR", "2")
    with pytest.raises(NotPermitted):
        world.remove(FILE, "user.agora.param.TR")
    assert set(world.server.calls) == {f"parameter_sets dataset {ref.id}"}


def test_of_one_name_in_two_sets_the_first_is_read_and_both_have_a_name_of_their_own(world):
    ref = world.refs[EXAM]
    world.server.add_set(ref, "A", [{"Name": "x", "Value": 1}], is_read_only=False)
    world.server.add_set(
        ref, "B", [{"Name": "x", "Value": 2}, {"Name": "A/x", "Value": 3}], is_read_only=False
    )
    assert world.get(EXAM, "user.agora.param.x") == "1"
    assert world.get(EXAM, "user.agora.param.B/x") == "2"
    assert world.get(EXAM, "user.agora.param.A/x") == "3"
    world.set(EXAM, "user.agora.param.B/x", "9")
    world.set(EXAM, "user.agora.param.B/new/er", "8")
    assert world.server.values(ref, "B") == {"x": 9, "A/x": 3, "new/er": 8}
    assert world.server.values(ref, "A") == {"x": 1}
    assert world.get(EXAM, "user.agora.param.C/x") is None
    world.remove(EXAM, "user.agora.param.B/x")
    assert world.server.values(ref, "B") == {"A/x": 3, "new/er": 8}


def test_a_parameter_s_name_may_have_anything_in_it(world):
    ref = world.refs[EXAM]
    strange = ["a\0b", "a\nb", "ü µ", "=", "\ud800", ".", "x" * 300]
    world.server.add_set(ref, "Mine", [{"Name": name, "Value": 1} for name in strange], is_read_only=False)
    assert world.get(EXAM, "user.agora.param.a␀b") == "1"
    world.set(EXAM, "user.agora.param.a␀b", "2")
    assert world.server.values(ref, "Mine")["a\0b"] == 2
    world.annotations.parameter_sets(ref)
    listed = [name.removeprefix("user.agora.param.") for name in world.names(EXAM) if ".param." in name]
    assert listed == ["a␀b", "a\nb", "ü µ", "=", "."]


def test_three_thousand_parameters_are_listed_while_they_fit_and_all_are_read_by_name(world):
    ref = world.refs[FILE]
    names = [f"EX_ACQ_a_rather_long_parameter_name_{number}" for number in range(3000)]
    world.server.add_set(ref, "Philips", [{"Name": name, "Value": name} for name in names], is_read_only=True)
    assert all(world.get(FILE, f"user.agora.param.{name}") == name for name in names)
    assert world.server.calls == [f"parameter_sets dataset {ref.id}"]
    listed = world.names(FILE)
    size = len("\0".join(listed).encode()) + 1
    assert MAX_LIST_BYTES - 100 < size <= MAX_LIST_BYTES
    assert listed[-1].startswith("user.agora.param.")


# -- listing and requests ------------------------------------------------------------------------------


def test_listing_asks_nobody_and_names_what_is_known_to_be_there(world):
    ref = world.refs[EXAM]
    world.server.give(ref, world.server.define("good", world.project.id))
    world.server.add_set(ref, "A", [{"Name": "x", "Value": 1}], is_read_only=False)
    assert not {TAGS, RATING} & set(world.names(EXAM))
    assert world.server.calls == []
    for name in (TAGS, RATING, "user.agora.param.x"):
        world.get(EXAM, name)
    asked = len(world.server.calls)
    listed = world.names(EXAM)
    assert {TAGS, XDG_TAGS, "user.agora.tag.good", "user.agora.param.x"} <= set(listed)
    assert not {RATING, BALOO} & set(listed)  # it has none
    assert all(world.get(EXAM, name) is not None for name in listed)
    assert len(world.server.calls) == asked
    world.set(EXAM, RATING, "1")
    assert {RATING, BALOO} <= set(world.names(EXAM))
    world.clock.advance(30.0)
    assert not {TAGS, RATING} & set(world.names(EXAM))


def test_the_tags_of_a_directory_cost_what_those_of_one_entry_do(world):
    for number in range(50):
        world.archive.add_exam(world.project.id, f"exam {number}")
    for node in world.tree.children(world.node("/projects/P/exams")):
        assert world.xattrs.get(node, TAGS, None) == ""
    assert len(world.server.calls) == 2


@pytest.mark.parametrize(
    "path", ["/", "/projects", "/projects/P", "/projects/P/exams", "/projects/P/folders/ab/a"]
)
def test_what_is_nothing_that_people_describe_has_no_such_attributes(world, path):
    for name in (TAGS, RATING, "user.agora.param.x", "user.agora.tag.x"):
        assert world.get(path, name) is None
        with pytest.raises(NotPermitted):
            world.set(path, name, "1")
        world.remove(path, name)
    assert world.server.calls == []


def test_what_a_file_of_several_can_not_have_its_dataset_can(world):
    with pytest.raises(NotPermitted, match="a part of a dataset, whose directory can"):
        world.set("/projects/P/folders/ab/a", RATING, "3")
    world.set("/projects/P/folders/ab", RATING, "3")
    assert world.get("/projects/P/folders/ab", RATING) == "3"


# -- permissions ---------------------------------------------------------------------------------------

SETTINGS = [(TAGS, "x"), ("user.agora.tag.x", "1"), (RATING, "3"), (BALOO, "3"), ("user.agora.param.x", "1"),
            ("user.agora.locked", "1")]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), SETTINGS)
def test_an_observer_is_refused_before_the_server_is_asked(make_world, name, value):
    world = make_world(roles=[(1, Role.OBSERVER)])
    with pytest.raises(PermissionDenied, match="observer"):
        world.set(EXAM, name, value)
    if name != "user.agora.locked":
        with pytest.raises(PermissionDenied, match="observer"):
            world.remove(EXAM, name)
    assert world.server.calls == []


@pytest.mark.parametrize(("name", "value"), SETTINGS[:-1])
@pytest.mark.parametrize("path", [EXAM, FILE])
def test_a_lock_forbids_changes_at_and_below_the_exam(make_world, path, name, value):
    world = make_world(locked=True)
    with pytest.raises(PermissionDenied, match="locked"):
        world.set(path, name, value)
    assert world.server.calls == []


def test_an_exam_is_unlocked_and_locked_and_nothing_else_is(make_world):
    world = make_world(locked=True)
    ref = world.refs[EXAM]
    assert world.get(EXAM, "user.agora.locked") == "1"
    world.set(EXAM, "user.agora.locked", "0")
    world.set(EXAM, "user.agora.locked", "1\n")
    assert world.server.calls == [f"set_locked {ref.id} False", f"set_locked {ref.id} True"]
    with pytest.raises(NotPermitted):
        world.set("/projects/P/folders/F", "user.agora.locked", "1")
    with pytest.raises(NotPermitted):
        world.set("/projects", "user.agora.locked", "1")
    world.set("/projects/P/folders/F", "user.agora.locked", "0")  # as it is


def test_after_locking_the_listing_is_asked_for_again(world):
    world.node(EXAM)
    world.set(EXAM, "user.agora.locked", "1")
    world.archive.calls.clear()
    world.node(EXAM)
    assert f"project_exams {world.project.id}" in world.archive.calls


def test_where_there_is_no_project_the_server_decides(world):
    world.server.define("left-handed", None)
    world.set("/patients/Ann", TAGS, "left-handed")
    assert world.server.labels(world.refs["/patients/Ann"]) == ["left-handed"]


# -- what can not be set -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["type", "id", "uid", "project", "sha1", "created", "owner", "state", "error"]
)
def test_what_the_record_says_can_be_set_to_what_it_is_and_to_nothing_else(world, name):
    path = FILE if name in ("sha1", "state") else EXAM
    full = f"user.agora.{name}"
    with pytest.raises(NotPermitted):
        world.set(path, full, "something")
    world.set(path, full, world.get(path, full) or "")
    world.remove(path, full)
    assert world.server.calls == []


def test_attributes_of_others_are_taken_and_dropped_and_unknown_ones_of_ours_are_refused(world):
    world.set(EXAM, "user.other", "1")
    world.remove(EXAM, "user.other")
    assert world.get(EXAM, "user.other") is None
    for name in ("user.agora.nonsense", "user.agora.tag.", "user.agora.param."):
        with pytest.raises(NotSupported):
            world.set(EXAM, name, "1")


def test_create_and_replace_mean_what_they_say(world):
    with pytest.raises(NoSuchXattr):
        world.set(EXAM, RATING, "3", os.XATTR_REPLACE)
    world.set(EXAM, RATING, "3", os.XATTR_CREATE)
    with pytest.raises(AlreadyExists):
        world.set(EXAM, RATING, "4", os.XATTR_CREATE)
    world.set(EXAM, RATING, "4", os.XATTR_REPLACE)
    assert world.get(EXAM, RATING) == "4"
    world.set(EXAM, "user.agora.param.zero", "0", os.XATTR_CREATE)
    for name in ("user.agora.locked", "user.agora.param.zero"):
        with pytest.raises(AlreadyExists):
            world.set(EXAM, name, "1", os.XATTR_CREATE)


@pytest.mark.parametrize(
    ("name", "is_ours"),
    [
        (TAGS, True),
        (XDG_TAGS, True),
        (BALOO, True),
        ("user.xdg.comment", False),
        ("security.capability", False),
    ],
)
def test_only_attributes_that_can_be_there_are_looked_up(name, is_ours):
    assert is_answered(name) is is_ours
