"""Files that are removed, or renamed over, while they are open: libfuse hides them until they are closed."""

from __future__ import annotations

import os

import pytest

from agorafs.client.records import Kind
from agorafs.errors import CrossDevice, NotFound, PermissionDenied, RemoteUnavailable
from agorafs.uploads.values import Anchor
from agorafs.vfs.hidden import forget_leftovers
from tests.vfs.world import HOME, World

HIDDEN = f"{HOME}/.fuse_hidden0000000100000001"


@pytest.fixture
def world(tmp_path):
    one = World(tmp_path)
    yield one
    one.close()


def local(world):
    return world.uploads.children(Anchor(Kind.FOLDER, world.root))


def unlink(world, path):
    """As libfuse does it for an open file."""
    world.filesystem.rename(path, HIDDEN)


def rename_over(world, old, new):
    world.filesystem.rename(new, HIDDEN)
    world.filesystem.rename(old, new)


def close_last(world, handle):
    world.filesystem.release(handle)
    world.filesystem.remove(HIDDEN)


@pytest.mark.parametrize("kind", ["local", "stored", "stored and open for writing", "changed"])
def test_a_file_removed_while_it_is_open_is_gone_for_all_but_its_handles(world, kind):
    fs = world.filesystem
    if kind == "local":
        world.write(f"{HOME}/x", b"123")
    else:
        world.store("x", b"123")
    handle = fs.open(f"{HOME}/x", os.O_RDONLY if kind == "stored" else os.O_RDWR).handle
    if kind == "changed":
        fs.write(handle, 2, b"!")
    unlink(world, f"{HOME}/x")
    assert world.names() == []
    with pytest.raises(NotFound):
        fs.getattr(f"{HOME}/x")
    assert fs.getattr(HIDDEN).size == 3, "fstat asks by path"
    if kind != "stored":
        fs.write(handle, 3, b"45")
        assert fs.getattr(HIDDEN).size == 5
        fs.set_mtime(HIDDEN, 12345)
        assert kind == "stored" or fs.getattr(HIDDEN).mtime_ns == 12345
        fs.ignore_change(HIDDEN, "changing permissions")
    assert fs.read(handle, 0, 2) == b"12"
    assert world.server.calls == []
    close_last(world, handle)
    assert world.names() == []
    assert local(world) == []
    deleted = [call.split()[0] for call in world.server.calls]
    assert deleted == ([] if kind == "local" else ["delete_folder_item"])


@pytest.mark.parametrize("is_changed", [False, True])
def test_a_stored_file_renamed_over_while_it_is_open_is_replaced_and_not_deleted(world, is_changed):
    fs = world.filesystem
    dataset = world.store("x", b"old")
    if is_changed:
        world.write(f"{HOME}/x", b"newer")
    handle = fs.open(f"{HOME}/x").handle
    world.write(f"{HOME}/tmp", b"newest")
    rename_over(world, f"{HOME}/tmp", f"{HOME}/x")
    assert world.names() == ["x"]
    assert fs.read(handle, 0, 10) == (b"newer" if is_changed else b"old")
    close_last(world, handle)
    assert world.read(f"{HOME}/x") == b"newest"
    (node,) = local(world)
    assert node.takes_place_of is not None and node.takes_place_of.dataset == dataset
    assert world.server.calls == []


@pytest.mark.parametrize("is_changed", [False, True])
def test_a_file_made_anew_takes_over_from_the_one_that_is_still_open(world, is_changed):
    fs = world.filesystem
    dataset = world.store("x", b"old")
    if is_changed:
        world.write(f"{HOME}/x", b"newer")
    handle = fs.open(f"{HOME}/x").handle
    unlink(world, f"{HOME}/x")
    world.write(f"{HOME}/x", b"newest")
    close_last(world, handle)
    (node,) = local(world)
    assert node.takes_place_of is not None and node.takes_place_of.dataset == dataset
    assert world.server.calls == []


@pytest.mark.parametrize("is_local", [False, True])
def test_a_renaming_over_that_is_refused_brings_back_what_was_hidden_for_it(world, is_local):
    """Or a rename that fails would remove the file that it was to replace."""
    fs = world.filesystem
    world.store("y", b"stored")
    if is_local:
        world.write(f"{HOME}/x", b"123")
    else:
        world.store("x", b"123")
    handle = fs.open(f"{HOME}/x").handle
    with pytest.raises(CrossDevice):
        rename_over(world, f"{HOME}/y", f"{HOME}/x")
    assert world.names() == ["x", "y"]
    assert world.read(f"{HOME}/x") == b"123"
    assert fs.getattr(HIDDEN).size == 3, "the handle goes by the hidden name until it is closed"
    fs.release(handle)
    with pytest.raises(NotFound):
        fs.remove(HIDDEN)
    assert world.read(f"{HOME}/x") == b"123"


def test_archived_data_that_is_open_is_neither_hidden_nor_deleted(tmp_path):
    world = World(tmp_path, allow_delete=True)
    exam = world.archive.add_exam(world.project.id, "E")
    world.archive.add_dataset({"x": b"1"}, exam=exam.id)
    path = "/projects/P/exams/E/x"
    handle = world.filesystem.open(path).handle
    with pytest.raises(PermissionDenied, match="open"):
        world.filesystem.rename(path, "/projects/P/exams/E/.fuse_hidden1")
    assert world.server.calls == []
    world.filesystem.release(handle)
    world.filesystem.remove(path)
    assert len(world.server.calls) == 1
    world.close()


def test_what_the_server_does_not_remove_at_the_end_is_shown_again_with_the_reason(world):
    fs = world.filesystem
    world.store("x", b"123")
    handle = fs.open(f"{HOME}/x").handle
    unlink(world, f"{HOME}/x")
    world.server.fail_with = RemoteUnavailable("away")
    close_last(world, handle)
    assert world.names() == ["x"]
    assert fs.status()["recent_errors"][-1]["reason"] == "away"


def test_a_hidden_file_keeps_no_directory(world):
    fs = world.filesystem
    fs.make_directory(f"{HOME}/d")
    folder = world.archive.add_folder("f", world.root)
    fs.refresh(None)
    for directory in ("d", "f"):
        handle = fs.create(f"{HOME}/{directory}/x").handle
        fs.rename(f"{HOME}/{directory}/x", f"{HOME}/{directory}/.fuse_hidden1")
        fs.remove_directory(f"{HOME}/{directory}")
        fs.write(handle, 0, b"1")
        assert fs.getattr("", handle).size == 1
        fs.release(handle)
    assert world.names() == []
    assert world.server.calls == [f"delete_folder {folder.id}"]


def test_what_a_crash_left_hidden_is_forgotten_and_what_was_stored_is_shown_again(world):
    fs = world.filesystem
    world.store("x", b"123")
    world.write(f"{HOME}/y", b"1")
    for number, name in enumerate(("x", "y")):
        fs.open(f"{HOME}/{name}")
        fs.rename(f"{HOME}/{name}", f"{HOME}/.fuse_hidden{number}")
    forget_leftovers(world.uploads, local(world))
    assert world.names() == ["x"]
    assert local(world) == []


@pytest.mark.parametrize("kind", ["local", "stored"])
def test_a_file_that_is_hidden_just_after_its_last_handle_was_closed_is_removed_all_the_same(world, kind):
    """libfuse forgets it then: the kernel says "closed" when it likes, and a removal may overtake that."""
    fs = world.filesystem
    if kind == "local":
        world.write(f"{HOME}/x", b"123")
    else:
        world.store("x", b"123")
    handle = fs.open(f"{HOME}/x").handle
    fs.release(handle)
    unlink(world, f"{HOME}/x")
    assert fs.unfinished_removals() == 1
    fs.tidy_up()
    assert fs.unfinished_removals() == 1, "it may be the first half of a renaming"
    world.clock.advance(1.0)
    fs.tidy_up()
    assert (fs.unfinished_removals(), local(world)) == (0, [])
    assert len(world.server.calls) == (0 if kind == "local" else 1)


def test_a_hidden_file_that_is_open_is_left_alone(world):
    fs = world.filesystem
    world.store("x", b"123")
    handle = fs.open(f"{HOME}/x").handle
    unlink(world, f"{HOME}/x")
    world.clock.advance(10.0)
    fs.tidy_up()
    assert (fs.unfinished_removals(), fs.read(handle, 0, 3), world.server.calls) == (0, b"123", [])
    close_last(world, handle)
    assert len(world.server.calls) == 1
