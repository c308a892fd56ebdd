"""What survives: the death of the process, a power cut, another mount's leftovers."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from agorafs.errors import UsageError
from agorafs.uploads.recovery import HELD_BACK, left_behind, open_home
from agorafs.uploads.values import BatchState, NodeState, PlannedTransfer
from tests.uploads.local import FOLDER, LIMITS, CutDisk, Local, read_all


def names(local):
    return sorted(node.name for node in local.uploads.children(FOLDER))


def test_what_was_closed_survives_the_death_of_the_process(local):
    tree = local.uploads.make_directory(FOLDER, "tree")
    node = local.write(tree, "a", b"bytes")
    local.uploads.set_mtime(node, 42)
    local.restart()
    tree = local.uploads.find(FOLDER, "tree")
    again = local.uploads.find(tree, "a")
    assert (local.read(again), again.ino, again.mtime_ns) == (b"bytes", node.ino, 42)
    local.fall_quiet()
    assert local.batch_targets() == [["tree/a"]]


def test_how_much_of_a_batch_was_sent_is_known_after_a_restart_whatever_its_state(local):
    local.write(FOLDER, "a", b"0123456789")
    local.fall_quiet()
    (batch,) = local.journal.batches()
    (upload,) = local.journal.uploads(batch.id)
    (transfer,) = local.journal.begin_upload(
        batch.id, 5, [PlannedTransfer("a", 10, 4, is_package=False, uploads=(upload.id,))]
    )
    for number, sent in [(1, 4), (3, 6), (2, 10)]:
        local.journal.note_chunk(transfer.id, number)
        local.restart()
        (batch,) = local.journal.batches()
        about = local.report.batch_status(batch)
        assert (about["sent_bytes"], about["total_bytes"]) == (sent, 10)
    local.journal.set_state(batch.id, BatchState.IMPORTING)
    local.restart()
    assert local.report.traffic() == (10, "")


def test_what_was_being_written_is_kept_and_not_sent_by_itself(local):
    file = local.uploads.open(local.uploads.create(FOLDER, "a"), writing=True)
    file.write(0, b"half")
    local.restart()
    (node,) = local.uploads.children(FOLDER)
    assert (node.error, local.read(node)) == (HELD_BACK, b"half")
    local.fall_quiet()
    assert local.batch_targets() == []
    local.report.retry()
    local.sealer.seal_quiet()
    assert local.batch_targets() == [["a"]]


def test_what_was_closed_and_is_being_written_again_is_not_sent_by_itself(local):
    node = local.write(FOLDER, "a", b"whole")
    file = local.uploads.open(node, writing=True)
    file.truncate(0)
    file.write(0, b"ha")
    local.restart()
    (node,) = local.uploads.children(FOLDER)
    assert local.uploads.state(node) is NodeState.FAILED


def test_a_batch_goes_on_where_it_was(local):
    local.write(FOLDER, "a", b"bytes")
    local.fall_quiet()
    local.restart()
    assert local.batch_targets() == [["a"]]
    local.fall_quiet()
    assert local.batch_targets() == [["a"]]
    (node,) = local.uploads.children(FOLDER)
    local.rewrite(node, b"new")
    (batch,) = local.journal.batches()
    (upload,) = local.journal.uploads(batch.id)
    assert upload.content.read_bytes() == b"bytes"


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


def test_what_was_synced_survives_a_power_cut(cut):
    local, power_cut = cut
    file = local.uploads.open(local.uploads.create(FOLDER, "a"), writing=True)
    file.write(0, b"synced")
    file.fsync()
    after = power_cut()
    (node,) = after.uploads.children(FOLDER)
    assert (after.read(node), node.error) == (b"synced", "")


def test_what_was_closed_survives_a_power_cut_after_the_next_group_commit(cut):
    local, power_cut = cut
    local.write(FOLDER, "a", b"closed")
    local.store.make_durable()
    local.write(FOLDER, "b", b"too late")
    after = power_cut()
    assert names(after) == ["a"]
    (node,) = after.uploads.children(FOLDER)
    assert after.read(node) == b"closed"


def test_a_file_whose_bytes_did_not_reach_the_disk_is_not_there_at_all(cut):
    """The log may reach the disk before the bytes: nobody is to see a file with half of its bytes."""
    local, power_cut = cut
    node = local.write(FOLDER, "a", b"all of the bytes")
    local.journal.barrier()
    image = local.disk._image
    half = image / local.uploads.spool.path(node.content).relative_to(local.state)
    half.parent.mkdir(parents=True, exist_ok=True)
    half.write_bytes(b"all of\0\0\0\0\0\0\0\0\0\0")
    after = power_cut()
    assert names(after) == []
    assert [path.read_bytes() for path in after.uploads.spool.salvage.iterdir()] == [half_bytes()]


def half_bytes():
    return b"all of\0\0\0\0\0\0\0\0\0\0"


def test_a_file_that_was_changed_after_its_sync_is_not_taken_for_the_synced_one(cut):
    local, power_cut = cut
    node = local.write(FOLDER, "a", b"first")
    local.store.make_durable()
    local.rewrite(node, b"second version")
    local.journal.barrier()
    after = power_cut()
    assert names(after) == []


def test_what_travels_was_synced_before(cut):
    local, power_cut = cut
    local.write(FOLDER, "a", b"bytes")
    local.fall_quiet()
    (batch,) = local.journal.batches()
    local.journal.begin_upload(batch.id, 5, [])
    after = power_cut()
    (batch,) = after.journal.batches()
    (upload,) = after.journal.uploads(batch.id)
    assert (batch.package, upload.content.read_bytes()) == (5, b"bytes")


def test_syncing_a_file_that_is_changed_meanwhile_promises_nothing_of_the_change(local, monkeypatch):
    node = local.write(FOLDER, "a", b"first")
    sync = local.disk.sync_file

    def change_meanwhile(descriptor, path):
        sync(descriptor, path)
        if "content" in str(path):
            monkeypatch.undo()
            local.rewrite(node, b"second")

    monkeypatch.setattr(local.disk, "sync_file", change_meanwhile)
    local.store.make_durable()
    assert not node.is_durable
    local.store.make_durable()
    assert node.is_durable


# -- several mounts --------------------------------------------------------------------------------------


def test_mounts_that_are_alive_at_the_same_time_have_spools_of_their_own(local):
    other = Local(local.state)
    other.write(FOLDER, "b", b"2")
    local.write(FOLDER, "a", b"1")
    assert (names(local), names(other)) == (["a"], ["b"])
    other.close()


def test_one_mount_takes_over_what_several_left_behind(local):
    other = Local(local.state)
    tree = other.uploads.make_directory(FOLDER, "tree")
    other.write(tree, "b", b"2")
    other.fall_quiet()
    late = other.write(FOLDER, "late", b"3")
    other.uploads.rename(late, tree, "late")
    other.uploads.say(late, lambda said: {"user.agora.rating": "4"})
    local.write(FOLDER, "a", b"1")
    other.die()
    assert [one["files"] for one in left_behind(local.state)] == [2]
    local.restart()
    assert names(local) == ["a", "tree"]
    tree = local.uploads.find(FOLDER, "tree")
    assert {node.name: local.read(node) for node in local.uploads.children(tree)} == {"b": b"2", "late": b"3"}
    assert local.uploads.said(local.uploads.find(tree, "late")) == {"user.agora.rating": "4"}
    assert local.batch_targets() == [["tree/b"]]
    assert left_behind(local.state) == []
    assert len(list((local.state / "spool").iterdir())) == 1


def test_taking_over_that_was_cut_off_is_begun_again_without_harm(local, monkeypatch):
    other = Local(local.state)
    other.write(FOLDER, "b", b"2")
    other.die()
    local.die()

    def cut_off(path):
        raise KeyboardInterrupt

    monkeypatch.setattr("agorafs.uploads.recovery.shutil", SimpleNamespace(rmtree=cut_off))
    with pytest.raises(KeyboardInterrupt):
        local.start()
    monkeypatch.undo()
    local.start()
    assert names(local) == ["b"]


def test_spools_of_other_servers_and_users_are_left_alone(local):
    local.write(FOLDER, "a", b"1")
    home = open_home(local.state, url="http://a", user="2", limits=LIMITS, disk=local.disk)
    assert home.journal.nodes() == []
    home.journal.close()
    home.close()


def test_a_state_directory_that_can_not_be_used_is_said_in_one_sentence(tmp_path):
    (tmp_path / "spool").write_text("")
    with pytest.raises(UsageError, match="state_directory"):
        open_home(tmp_path, url="u", user="1", limits=LIMITS, disk=CutDisk(tmp_path, tmp_path))


def test_open_files_and_their_bytes_are_read_after_they_were_removed(local):
    node = local.write(FOLDER, "a", b"bytes")
    file = local.uploads.open(node, writing=True)
    local.uploads.remove(node)
    file.write(5, b"!")
    assert read_all(file) == b"bytes!"
    file.close()
    local.restart()
    assert names(local) == []
