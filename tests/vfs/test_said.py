"""What is said of a file before it is stored is shown, checked, and said of the stored one."""

from __future__ import annotations

import pytest

from agorafs.errors import BadCommand
from agorafs.vfs import said as local
from tests.vfs.annotated_world import FILE, AnnotatedWorld

TAGS, XDG_TAGS = "user.agora.tags", "user.xdg.tags"
RATING, BALOO = "user.agora.rating", "user.baloo.rating"


@pytest.fixture
def world():
    made = AnnotatedWorld()
    yield made
    made.close()


def after(*settings, project=None):
    """Return what is remembered after these (name, value); a value of None removes."""
    said: dict[str, str] = {}
    for name, value in settings:
        if value is None:
            said = local.without(said, name)
        else:
            said = local.with_value(said, name, value.encode(), project)
    return said


@pytest.mark.parametrize(
    ("settings", "shown"),
    [
        ([(TAGS, "a, b")], {TAGS: "a,b", XDG_TAGS: "a,b", "user.agora.tag.a": "1", "user.agora.tag.b": "1"}),
        ([(TAGS, "a"), (XDG_TAGS, "")], {}),
        ([(TAGS, "a"), (TAGS, None)], {}),
        ([("user.agora.tag.a", "yes"), ("user.agora.tag.a", "0")], {}),
        ([(TAGS, "a"), ("user.agora.tag.a", None)], {}),
        (
            [("user.agora.tag.a", "1"), (TAGS, "b")],
            {TAGS: "b", XDG_TAGS: "b", "user.agora.tag.b": "1"},
        ),
        ([(RATING, "4")], {RATING: "4", BALOO: "8"}),
        ([(BALOO, "7"), (RATING, None)], {}),
        ([("user.agora.param.x", "[1]")], {"user.agora.param.x": "[1]"}),
        ([("user.agora.param.x", "1"), ("user.agora.param.x", None)], {}),
    ],
)
def test_what_was_set_is_shown_as_it_would_be_of_a_stored_file(settings, shown):
    assert local.attributes(after(*settings, project=3)) == shown


@pytest.mark.parametrize("order", [1, -1])
def test_all_that_a_copy_brings_along_gives_the_labels_of_the_original_in_any_order(order):
    brought = [(TAGS, "brain, left,good"), ("user.agora.tag.brain, left", "1"), ("user.agora.tag.good", "1"),
               (XDG_TAGS, "brain, left,good")]  # fmt: skip
    labels = {name for name in local.attributes(after(*brought[::order])) if ".tag." in name}
    assert labels == {"user.agora.tag.brain, left", "user.agora.tag.good"}


@pytest.mark.parametrize(
    ("name", "value"),
    [(RATING, b"6"), (BALOO, b"11"), (TAGS, b"a\nb"), (TAGS, b"\xff"), ("user.agora.tag. ", b"1"),
     ("user.agora.param. ", b"1"), ("user.agora.tag.\udcff", b"1")],
)  # fmt: skip
def test_wrong_values_are_refused_while_the_file_is_still_local(name, value):
    with pytest.raises(BadCommand):
        local.with_value({}, name, value, None)


def test_it_is_said_of_the_stored_file_and_may_be_said_twice(world):
    ref = world.refs[FILE]
    world.server.add_set(ref, "DICOM", [{"Name": "TR", "Value": 1.5}], is_read_only=True)
    said = after(
        (TAGS, "good"),
        ("user.agora.tag.new", "1"),
        (RATING, "4"),
        ("user.agora.param.TR", "9"),
        ("user.agora.param.T1", "1300"),
        ("user.agora.param.note", "ok"),
        project=world.project.id,
    )
    for _ in range(2):
        local.say(world.annotations, ref.id, said)
    assert world.server.labels(ref) == ["good", "new"]
    assert {tag.project for tag in world.server.definitions} == {world.project.id}
    assert world.server.ratings[ref].value == 4
    assert world.server.values(ref, "DICOM") == {"TR": 1.5}
    assert world.server.values(ref, "User Parameters") == {"T1": 1300, "note": "ok"}
    assert [call for call in world.server.calls if "parameter_set " in call or "replace" in call] == [
        f"add_parameter_set dataset {ref.id} User Parameters"
    ]


def test_labels_said_one_by_one_leave_the_others_of_an_earlier_version(world):
    ref = world.refs[FILE]
    for label in ("kept", "gone"):
        world.server.give(ref, world.server.define(label, world.project.id))
    local.say(
        world.annotations,
        ref.id,
        after(("user.agora.tag.gone", "0"), ("user.agora.tag.new", "1"), project=world.project.id),
    )
    assert world.server.labels(ref) == ["kept", "new"]


def test_only_annotations_are_remembered(world):
    assert local.is_remembered("user.agora.param.x")
    assert not any(
        map(local.is_remembered, ["user.agora.sha1", "user.agora.locked", "user.other", "security.x"])
    )
    local.say(world.annotations, 1, {})
    assert world.server.calls == []


def test_what_a_new_version_has_got_from_the_old_one_is_seen_at_once(world):
    ref = world.refs[FILE]
    for name in (TAGS, RATING, "user.agora.param.x"):
        world.get(FILE, name)
    world.server.give(ref, world.server.define("good", world.project.id))
    world.server.rate(ref, 4)
    world.server.add_set(ref, "Mine", [{"Name": "x", "Value": 1}], is_read_only=False)
    local.say(world.annotations, ref.id, {})
    assert [world.get(FILE, name) for name in (TAGS, RATING, "user.agora.param.x")] == ["good", "4", "1"]
