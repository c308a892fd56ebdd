"""Names and files that are stored, or become folders, between the look at them and the change of them."""

from __future__ import annotations

import os

import pytest

from agorafs.client.records import Kind
from agorafs.errors import CrossDevice
from agorafs.uploads.values import Anchor, Disposition, Outcome, OutcomeKind, Replaced
from tests.vfs.world import HOME, World

HIDDEN = f"{HOME}/.fuse_hidden0000000100000001"


@pytest.fixture
def world(tmp_path):
    one = World(tmp_path)
    yield one
    one.close()


def fly(world):
    """Let what is pending travel; return (batch, upload)."""
    world.local.fall_quiet()
    (batch,) = world.local.journal.batches()
    (upload,) = world.local.journal.uploads(batch.id)
    world.local.journal.set_sha1(upload.id, "b" * 40)
    return batch, upload


def arrive(world, batch, upload, content):
    dataset = world.archive.add_dataset({upload.target: content}, folder=world.root)
    (item,) = [one for one in world.archive.folder_items(world.root) if one.object_id == dataset.id]
    world.filesystem.refresh(None)
    outcome = Outcome(
        OutcomeKind.FILED,
        dataset=dataset.id,
        datafile=dataset.datafiles[0].id,
        item=item.id,
        folder=world.root,
    )
    arrivals = world.local.arrivals
    assert arrivals.settled(upload.id, arrivals.disposition(upload.id), outcome)
    arrivals.finish(batch.id, {})
    return Replaced(dataset.id, item.id, "b" * 40)


def node_of(world, name):
    return world.uploads.find(Anchor(Kind.FOLDER, world.root), name)


@pytest.mark.parametrize("is_created", [False, True], ids=["renamed over", "removed and created"])
def test_the_next_version_of_a_file_that_is_open_and_on_its_way_replaces_what_arrives(world, is_created):
    """Else the server had two files of one name, and the older kept it."""
    fs = world.filesystem
    world.write(f"{HOME}/x", b"first")
    batch, upload = fly(world)
    reader = fs.open(f"{HOME}/x").handle
    fs.rename(f"{HOME}/x", HIDDEN)
    if is_created:
        world.write(f"{HOME}/x", b"second")
    else:
        world.write(f"{HOME}/tmp", b"second")
        fs.rename(f"{HOME}/tmp", f"{HOME}/x")
    assert world.local.arrivals.disposition(upload.id) is Disposition.OUTDATED
    stored = arrive(world, batch, upload, b"first")
    assert node_of(world, "x").replaces == stored
    assert fs.read(reader, 0, 10) == b"first"
    fs.release(reader)
    fs.remove(HIDDEN)
    assert "delete_folder_item" not in " ".join(world.server.calls), "only when the new version is verified"
    assert world.read(f"{HOME}/x") == b"second"
    assert world.names() == ["x"]


def test_renaming_over_a_file_on_its_way_makes_its_next_version(world):
    world.write(f"{HOME}/x", b"first")
    batch, upload = fly(world)
    world.write(f"{HOME}/tmp", b"second")
    world.filesystem.rename(f"{HOME}/tmp", f"{HOME}/x")
    stored = arrive(world, batch, upload, b"first")
    assert node_of(world, "x").replaces == stored
    assert (world.names(), world.read(f"{HOME}/x")) == (["x"], b"second")


def test_a_directory_that_becomes_a_folder_while_something_is_made_in_it_takes_it(world, monkeypatch):
    fs = world.filesystem
    fs.make_directory(f"{HOME}/d")
    world.write(f"{HOME}/y", b"1")
    place = node_of(world, "d")

    def meanwhile(method):
        real = getattr(world.uploads, method)

        def call(*arguments, **options):
            monkeypatch.undo()
            folder = world.archive.add_folder("d", world.root)
            fs.refresh(None)
            world.local.fall_quiet()
            batch = world.local.journal.batches()[-1]
            world.local.arrivals.finish(batch.id, {"d": folder.id})
            assert not world.local.store.overlay.is_there(place)
            return real(*arguments, **options)

        monkeypatch.setattr(world.uploads, method, call)

    meanwhile("create")
    handle = fs.create(f"{HOME}/d/x").handle
    fs.write(handle, 0, b"kept")
    fs.flush(handle)
    fs.release(handle)
    assert world.names(f"{HOME}/d") == ["x"]
    assert world.read(f"{HOME}/d/x") == b"kept"


@pytest.mark.parametrize("method", ["find", "children"])
def test_a_directory_that_becomes_a_folder_while_somebody_looks_into_it_shows_what_is_there(
    world, monkeypatch, method
):
    fs = world.filesystem
    fs.make_directory(f"{HOME}/d")
    world.write(f"{HOME}/d/x", b"1")
    place = node_of(world, "d")
    batch, upload = fly(world)
    real = getattr(world.uploads, method)

    def call(where, *arguments):
        if where is place:
            monkeypatch.undo()
            folder = world.archive.add_folder("d", world.root)
            dataset = world.archive.add_dataset({"x": b"1"}, folder=folder.id)
            (item,) = world.archive.folder_items(folder.id)
            fs.refresh(None)
            world.local.arrivals.become_folders(batch.id, {"d": folder.id})
            outcome = Outcome(
                OutcomeKind.FILED,
                dataset=dataset.id,
                datafile=dataset.datafiles[0].id,
                folder=folder.id,
                item=item.id,
                created=True,
            )
            assert world.local.arrivals.settled(upload.id, Disposition.CURRENT, outcome)
        return real(where, *arguments)

    monkeypatch.setattr(world.uploads, method, call)
    if method == "find":
        assert fs.getattr(f"{HOME}/d/x").size == 1
    else:
        assert world.names(f"{HOME}/d") == ["x"]
    assert node_of(world, "d") is None
    assert world.local.store.overlay.is_there(place) is False


def test_a_file_that_is_stored_while_it_is_renamed_is_not_renamed_here(world, monkeypatch):
    fs = world.filesystem
    world.write(f"{HOME}/x", b"1")
    batch, upload = fly(world)
    real = world.uploads.rename

    def rename(*arguments, **options):
        monkeypatch.undo()
        arrive(world, batch, upload, b"1")
        return real(*arguments, **options)

    monkeypatch.setattr(world.uploads, "rename", rename)
    with pytest.raises(CrossDevice):
        fs.rename(f"{HOME}/x", f"{HOME}/y")
    assert (world.names(), world.read(f"{HOME}/x")) == (["x"], b"1")


def test_syncing_through_a_handle_that_only_reads_syncs_what_others_wrote(world):
    fs = world.filesystem
    writer = fs.create(f"{HOME}/x").handle
    fs.write(writer, 0, b"1")
    reader = fs.open(f"{HOME}/x", os.O_RDONLY).handle
    fs.fsync(reader)
    assert node_of(world, "x").is_durable
    fs.release(writer)
    fs.release(reader)


def test_changes_through_a_backups_name_are_kept_when_it_is_renamed_back(world):
    fs = world.filesystem
    world.store("x", b"stored")
    fs.rename(f"{HOME}/x", f"{HOME}/x~")
    reader = fs.open(f"{HOME}/x~").handle
    handle = fs.open(f"{HOME}/x~", os.O_WRONLY).handle
    fs.write(handle, 6, b" and changed")
    fs.flush(handle)
    fs.release(handle)
    assert fs.read(reader, 0, 100) == b"stored and changed"
    fs.release(reader)
    fs.rename(f"{HOME}/x~", f"{HOME}/x")
    assert (world.names(), world.read(f"{HOME}/x")) == (["x"], b"stored and changed")


@pytest.mark.parametrize("is_open", [False, True])
def test_a_file_of_which_a_version_arrives_while_it_is_removed_is_removed_with_that(
    world, monkeypatch, is_open
):
    fs = world.filesystem
    world.write(f"{HOME}/x", b"first")
    batch, upload = fly(world)
    world.write(f"{HOME}/x", b"second")
    if is_open:
        fs.rename(f"{HOME}/x", HIDDEN)
    real = world.uploads.remove_if

    def remove_if(*arguments):
        monkeypatch.undo()
        arrive(world, batch, upload, b"first")
        return real(*arguments)

    monkeypatch.setattr(world.uploads, "remove_if", remove_if)
    fs.remove(HIDDEN if is_open else f"{HOME}/x")
    fs.refresh(None)
    assert world.names() == []
    assert world.archive.folder_items(world.root) == []
