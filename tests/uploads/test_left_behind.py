"""What several mounts left behind meets in one spool, and what a power cut leaves: nothing may push anything out."""

from __future__ import annotations

import pytest

from agorafs.uploads.values import Disposition, Outcome, OutcomeKind, Replaced
from tests.uploads.local import FOLDER, CutDisk, Local

OLD = Replaced(dataset=50, item=60, sha1="a" * 40)
FILED = Outcome(OutcomeKind.FILED, dataset=70, datafile=71, item=72, folder=7)


def names(local):
    return sorted(node.name for node in local.uploads.children(FOLDER))


def test_what_vanishes_with_a_batch_of_another_mount_is_not_mistaken_for_a_file_of_this_one(local):
    other = Local(local.state)
    other.write(FOLDER, "main.raw", b"1")
    other.write(FOLDER, "notes.txt", b"2")
    other.write(FOLDER, "x.agora-relations.json", b'{"main.raw": ["notes.txt"]}')
    other.fall_quiet()
    for name in "abc":
        local.write(FOLDER, name, b"mine")
    other.die()
    local.restart()
    (batch,) = local.journal.batches()
    for upload in local.journal.uploads(batch.id):
        local.arrivals.settled(upload.id, Disposition.CURRENT, FILED)
    local.arrivals.finish(batch.id, {})
    assert names(local) == ["a", "b", "c"]
    assert [local.read(node) for node in local.uploads.children(FOLDER)] == [b"mine"] * 3


def test_what_a_power_cut_left_in_the_spool_of_another_mount_is_kept(local):
    other = Local(local.state)
    other.write(FOLDER, "b", b"half")
    other.die()
    local.boot = "boot 2"
    local.restart()
    assert [path.read_bytes() for path in local.uploads.spool.salvage.iterdir()] == [b"half"]


def test_two_mounts_that_wrote_the_same_name_both_keep_their_file(local):
    other = Local(local.state)
    local.write(FOLDER, "scan.dat", b"1")
    other.write(FOLDER, "scan.dat", b"2")
    other.die()
    local.restart()
    nodes = local.uploads.children(FOLDER)
    assert sorted(local.read(node) for node in nodes) == [b"1", b"2"]
    first = local.uploads.find(FOLDER, "scan.dat")
    assert first is not None
    assert local.read(first) == b"1"
    local.restart()
    assert sorted(local.read(node) for node in local.uploads.children(FOLDER)) == [b"1", b"2"]


def test_directories_of_one_name_that_two_mounts_made_are_one(local):
    other = Local(local.state)
    for one, name in ((local, "a"), (other, "b")):
        tree = one.uploads.make_directory(FOLDER, "tree")
        inner = one.uploads.make_directory(tree, "inner")
        one.write(inner, name, name.encode())
        one.write(inner, "same", name.encode())
    other.die()
    for _ in range(2):
        local.restart()
        tree = local.uploads.find(FOLDER, "tree")
        inner = local.uploads.find(tree, "inner")
        assert len(local.store.nodes()) == 6
        assert sorted(local.read(node) for node in local.uploads.children(inner)) == [b"a", b"a", b"b", b"b"]
    local.fall_quiet()
    assert len(local.batch_targets()[0]) == 4


def test_the_description_of_an_upload_from_outside_goes_along(local, tmp_path):
    other = Local(local.state)
    source = tmp_path / "source.raw"
    source.write_bytes(b"raw")
    description = other.uploads.spool.keep(b'{"import": 1}')
    files = [(source, "source.raw"), (description, "x.agora-import.json")]
    other.sealer.enqueue(FOLDER, files, import_file="x.agora-import.json", relations=None)
    other.die()
    local.restart()
    (batch,) = local.journal.batches()
    assert [upload.content.read_bytes() for upload in local.journal.uploads(batch.id)] == [
        b"raw",
        b'{"import": 1}',
    ]


# -- power cuts --------------------------------------------------------------------------------------------


@pytest.fixture
def cut(tmp_path):
    """A store whose disk can lose power: ``cut()`` gives the store as the next boot finds it."""
    state = tmp_path / "state"
    image = tmp_path / "image"
    local = Local(state, disk=CutDisk(image, state))
    after: list[Local] = []

    def power_cut() -> Local:
        local.die()
        one = Local.__new__(Local)
        one.__dict__.update(local.__dict__, state=image, boot="boot 2")
        one.disk = type(local.disk).__mro__[1]()
        one.start()
        after.append(one)
        return one

    yield local, power_cut
    for one in after:
        one.close()


def test_a_file_on_its_way_that_was_being_written_again_is_what_travels_after_a_power_cut(cut):
    """The version on its way is whole and was promised; only the new one was not."""
    local, power_cut = cut
    node = local.write(FOLDER, "a", b"first", replaces=OLD)
    local.fall_quiet()
    local.rewrite(node, b"second, longer")
    local.journal.barrier()
    after = power_cut()
    (batch,) = after.journal.batches()
    (upload,) = after.journal.uploads(batch.id)
    assert after.arrivals.disposition(upload.id) is Disposition.CURRENT
    assert not after.arrivals.is_abandoned(batch.id)
    (node,) = after.uploads.children(FOLDER)
    assert (node.name, after.read(node), node.error) == ("a", b"first", "")
    after.rewrite(node, b"third")
    assert upload.content.read_bytes() == b"first"


def test_bytes_changed_after_the_sync_are_not_taken_for_the_synced_ones(cut):
    """As long as before, and written back by the kernel in part: only the journal can tell."""
    local, power_cut = cut
    node = local.write(FOLDER, "a", b"first version")
    local.store.make_durable()
    file = local.uploads.open(node, writing=True)
    file.write(0, b"other")
    path = local.uploads.spool.path(node.content).relative_to(local.state)
    (local.disk._image / path).write_bytes(b"other version")
    after = power_cut()
    assert names(after) == []
    assert [path.read_bytes() for path in after.uploads.spool.salvage.iterdir()] == [b"other version"]


def test_a_name_is_safe_once_its_directory_was_synced(cut):
    local, power_cut = cut
    node = local.uploads.create(FOLDER, "a.part")
    file = local.uploads.open(node, writing=True)
    file.write(0, b"bytes")
    file.fsync()
    file.close()
    local.uploads.rename(node, FOLDER, "a")
    local.uploads.sync_names()
    assert names(power_cut()) == ["a"]


def test_a_stored_file_set_aside_whose_bytes_came_here_just_before_a_power_cut_is_fetched_again(cut):
    local, power_cut = cut
    local.stored[51] = b"old bytes"
    node = local.uploads.set_aside(
        FOLDER, "a", "a~", replaces=OLD, size=9, mtime_ns=5, ino=99, token="v0", datafile_id=51
    )
    assert local.read(node) == b"old bytes"
    local.journal.barrier()
    after = power_cut()
    (node,) = after.uploads.children(FOLDER)
    assert (node.name, after.read(node), node.replaces) == ("a~", b"old bytes", OLD)
