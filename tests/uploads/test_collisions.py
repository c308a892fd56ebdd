"""Local files to which two things happen at once: changes, renames, removals while they travel, arrive, or fail."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agorafs.client.records import Datafile, Dataset, Kind, RemoteRef
from agorafs.errors import CrossDevice, NotFound, PermissionDenied, RemoteUnavailable, SpoolFull
from agorafs.uploads.spool import SpoolLimits
from agorafs.uploads.values import Anchor, Disposition, NodeState, Outcome, OutcomeKind, Replaced
from tests.uploads.local import EXAM, FOLDER, Local, read_all

OLD = Replaced(dataset=50, item=60, sha1="a" * 40)
OTHER = Replaced(dataset=51, item=61, sha1="c" * 40)
FILED = Outcome(OutcomeKind.FILED, dataset=70, datafile=71, item=72, folder=7)


def only_upload(local):
    (batch,) = local.journal.batches()
    (upload,) = local.journal.uploads(batch.id)
    return batch, upload


class Entry:
    def __init__(self, dataset: int, name: str, sha1: str, size: int) -> None:
        self.ref = RemoteRef(Kind.DATASET, dataset)
        datafile = Datafile(dataset + 1, name, size, sha1, 0, 0)
        self.record = Dataset(dataset, name, 0, None, None, None, size, 0, 0, False, (datafile,))


def set_aside(local, new_name, content=b"old bytes"):
    local.stored[51] = content
    return local.uploads.set_aside(
        FOLDER, "a", new_name, replaces=OLD, size=len(content), mtime_ns=5, ino=99, token="v0", datafile_id=51
    )


# -- stored files under another name -----------------------------------------------------------------------


def test_a_stored_file_that_is_changed_under_its_other_name_is_a_local_file_from_then_on(local):
    """Else renaming it back would show the stored bytes again."""
    node = set_aside(local, "a~")
    file = local.uploads.open(node, writing=True)
    file.write(9, b"+")
    file.close()
    assert not node.is_aside
    assert node.token != "v0"
    assert local.uploads.aside_of(FOLDER, "a") is None
    local.restart()
    (node,) = local.uploads.children(FOLDER)
    assert (local.read(node), node.replaces, node.is_aside) == (b"old bytes+", OLD, False)
    local.uploads.rename(node, FOLDER, "a")
    local.fall_quiet()
    _, upload = only_upload(local)
    assert (upload.content.read_bytes(), upload.replaces) == (b"old bytes+", OLD)


def test_when_the_backup_is_removed_its_successor_stands_for_the_stored_file(local):
    backup = set_aside(local, "a~")
    new = local.write(FOLDER, "a", b"new", replaces=OLD)
    local.uploads.remove(backup)
    assert new.replaces == OLD
    local.uploads.remove(new)
    assert not local.uploads.is_hidden(FOLDER, Entry(50, "a", "a" * 40, 9))


def test_bringing_a_stored_file_back_leaves_no_descriptor_open(local):
    set_aside(local, "a~")
    local.write(FOLDER, "a", b"new", replaces=OLD)
    descriptors = Path("/proc/self/fd")
    before = len(list(descriptors.iterdir()))
    local.fall_quiet()
    assert local.fetched == [51]
    assert len(list(descriptors.iterdir())) == before


def test_a_folder_whose_stored_file_can_not_be_brought_here_holds_up_no_other(local):
    set_aside(local, "a~")
    local.write(FOLDER, "a", b"new", replaces=OLD)
    local.write(EXAM, "b", b"other")

    def away(descriptor):
        raise RemoteUnavailable("the server is away")

    backup = local.uploads.find(FOLDER, "a~")
    backup.fill, fill = away, backup.fill
    local.fall_quiet()
    assert local.batch_targets() == [["b"]]
    backup.fill = fill
    local.fall_quiet()
    assert local.batch_targets() == [["b"], ["a"]]


def test_a_stored_file_that_others_deleted_while_it_was_set_aside_holds_its_successor_up_no_longer(local):
    set_aside(local, "a~")
    local.write(FOLDER, "a", b"new", replaces=OLD)

    def gone(descriptor):
        raise NotFound("datafile 51 is gone")

    local.uploads.find(FOLDER, "a~").fill = gone
    local.fall_quiet()
    local.fall_quiet()
    assert local.batch_targets() == [["a"]]
    assert [node.name for node in local.uploads.children(FOLDER)] == ["a"]


def test_what_could_not_be_sealed_for_want_of_room_is_sealed_later(tmp_path):
    local = Local(tmp_path, limits=SpoolLimits(30, 0))
    filler = local.write(EXAM, "filler", b"x" * 25)
    local.write(FOLDER, "x.agora-import.json", b"{}")
    local.write(FOLDER, "r", b"1")
    local.fall_quiet()
    assert local.batch_targets() == [["filler"]]
    local.journal.end_batch(1)
    local.uploads.spool.remove(filler.content or "")
    local.fall_quiet()
    assert local.batch_targets() == [["x.agora-import.json", "r"]]
    local.close()


# -- datasets of several files -------------------------------------------------------------------------------


def test_a_file_changed_on_its_way_that_became_part_of_a_larger_dataset_does_not_stand_for_that(local):
    """Its siblings would be hidden, and deleted with it."""
    node = local.write(FOLDER, "a.raw", b"first")
    local.fall_quiet()
    batch, upload = only_upload(local)
    local.rewrite(node, b"second")
    part = Outcome(OutcomeKind.FILED, dataset=70, datafile=71, item=72, folder=7, is_whole_dataset=False)
    assert local.arrivals.settled(upload.id, Disposition.OUTDATED, part)
    local.arrivals.finish(batch.id, {})
    assert node.replaces is None
    assert not local.uploads.is_hidden(FOLDER, Entry(70, "a.lab", "b" * 40, 5))
    assert local.read(node) == b"second"


# -- renames ---------------------------------------------------------------------------------------------------


def test_a_file_that_was_stored_just_before_can_not_be_renamed_as_a_local_one(local):
    node = local.write(FOLDER, "a", b"1")
    local.fall_quiet()
    batch, upload = only_upload(local)
    local.arrivals.settled(upload.id, Disposition.CURRENT, FILED)
    local.arrivals.finish(batch.id, {})
    with pytest.raises(NotFound):
        local.uploads.rename(node, FOLDER, "b")
    assert local.uploads.children(FOLDER) == []


def test_nothing_is_renamed_into_a_directory_that_became_a_folder_just_before(local):
    tree = local.uploads.make_directory(FOLDER, "tree")
    node = local.write(FOLDER, "a.part", b"1")
    local.fall_quiet()
    (batch,) = local.journal.batches()
    local.arrivals.finish(batch.id, {"tree": 100})
    with pytest.raises(NotFound):
        local.uploads.rename(node, tree, "a")
    local.restart()
    (node,) = local.uploads.children(FOLDER)
    assert (node.name, local.read(node)) == ("a.part", b"1")


def test_renaming_over_a_local_file_is_one_step(local, monkeypatch):
    local.write(FOLDER, "a", b"old")
    node = local.write(FOLDER, "tmp", b"new")
    over = local.uploads.find(FOLDER, "a")

    def killed(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(local.journal, "rename_node", killed)
    with pytest.raises(KeyboardInterrupt):
        local.uploads.rename(node, FOLDER, "a", over=over)
    monkeypatch.undo()
    local.restart()
    assert {one.name: local.read(one) for one in local.uploads.children(FOLDER)} == {
        "a": b"old",
        "tmp": b"new",
    }
    nodes = {one.name: one for one in local.uploads.children(FOLDER)}
    local.uploads.rename(nodes["tmp"], FOLDER, "a", over=nodes["a"])
    assert local.uploads.spool.used_bytes == 3
    local.restart()
    (node,) = local.uploads.children(FOLDER)
    assert (node.name, local.read(node)) == ("a", b"new")


def test_what_is_renamed_over_a_file_on_its_way_is_its_next_version(local):
    """What belonged to the stored file goes on to the version on its way, and from there to this one."""
    old = local.write(FOLDER, "a", b"first", replaces=OLD)
    local.fall_quiet()
    batch, upload = only_upload(local)
    local.journal.set_sha1(upload.id, "b" * 40)
    node = local.write(FOLDER, ".goutputstream-X", b"second")
    local.uploads.rename(node, FOLDER, "a", over=old)
    for _ in range(2):
        assert local.arrivals.disposition(upload.id) is Disposition.OUTDATED
        local.restart()
    assert local.arrivals.settled(upload.id, Disposition.OUTDATED, FILED)
    local.arrivals.finish(batch.id, {})
    (node,) = local.uploads.children(FOLDER)
    assert (node.name, local.read(node)) == ("a", b"second")
    assert node.replaces == Replaced(70, 72, "b" * 40)


def test_a_file_on_its_way_that_is_renamed_over_a_stored_one_takes_the_place_of_that_one_alone(local):
    """What arrives under its old name is to go; two stored files can not be replaced by one."""
    node = local.write(FOLDER, "new", b"1")
    local.fall_quiet()
    batch, upload = only_upload(local)
    local.uploads.rename(node, FOLDER, "a", replaces=OLD)
    local.restart()
    (node,) = local.uploads.children(FOLDER)
    assert local.arrivals.disposition(upload.id) is Disposition.GONE
    file = local.uploads.open(node, writing=True)
    file.write(1, b"2")
    assert upload.content.read_bytes() == b"1", "what is on its way never changes"
    file.close()
    assert local.arrivals.settled(upload.id, Disposition.GONE, FILED)
    local.arrivals.finish(batch.id, {})
    assert node.replaces == OLD
    local.fall_quiet()
    _, again = only_upload(local)
    assert (again.target, again.content.read_bytes(), again.replaces) == ("a", b"12", OLD)
    assert local.uploads.spool.used_bytes == 2


def test_bytes_that_two_batches_carry_do_not_change_while_one_of_them_is_on_its_way(local):
    node = local.write(FOLDER, "new", b"1")
    local.fall_quiet()
    _, first = only_upload(local)
    local.uploads.rename(node, FOLDER, "a", replaces=OLD)
    local.fall_quiet()
    second = local.journal.uploads(local.journal.batches()[1].id)[0]
    assert first.content == second.content
    local.uploads.rename(node, FOLDER, "b")
    assert local.arrivals.settled(second.id, Disposition.OUTDATED, FILED)
    local.arrivals.finish(second.batch, {})
    file = local.uploads.open(node, writing=True)
    file.write(0, b"2")
    file.close()
    assert (first.content.read_bytes(), local.read(node)) == (b"1", b"2")


def test_a_file_with_a_stored_one_to_replace_takes_no_other_place(local):
    node = local.write(FOLDER, "a", b"1", replaces=OLD)
    over = local.write(FOLDER, "b", b"2", replaces=OTHER)
    with pytest.raises(CrossDevice):
        local.uploads.rename(node, FOLDER, "b", replaces=OTHER, over=over)
    assert local.uploads.find(FOLDER, "b") is over
    assert local.read(over) == b"2"


def test_what_was_there_before_is_not_deleted_for_a_file_that_was_renamed_on_its_way(local):
    node = local.write(FOLDER, "a", b"1")
    local.fall_quiet()
    _, upload = only_upload(local)
    local.uploads.rename(node, FOLDER, "b")
    existed = Outcome(OutcomeKind.FILED, dataset=70, datafile=71, item=72, folder=7, created=False)
    local.arrivals.settled(upload.id, Disposition.OUTDATED, existed)
    assert node.replaces is None


# -- handles ---------------------------------------------------------------------------------------------------


def test_who_still_has_a_file_open_that_became_part_of_a_study_is_told_that_it_does_not_change(local):
    node = local.write(EXAM, "a", b"first")
    local.fall_quiet()
    batch, upload = only_upload(local)
    file = local.uploads.open(node, writing=True)
    study = Outcome(OutcomeKind.STUDY, dataset=70, datafile=71, exam=8)
    assert local.arrivals.settled(upload.id, Disposition.CURRENT, study)
    local.arrivals.finish(batch.id, {})
    with pytest.raises(PermissionDenied, match="archived"):
        file.write(0, b"F")
    with pytest.raises(PermissionDenied):
        file.truncate(0)
    assert read_all(file) == b"first"
    file.close()
    assert local.uploads.spool.used_bytes == 0


def test_bytes_of_a_removed_file_are_given_back_with_its_last_handle(local):
    node = local.uploads.create(FOLDER, "a")
    file = local.uploads.open(node, writing=True)
    reader = local.uploads.open(node, writing=False)
    file.write(0, b"1234")
    local.uploads.remove(node)
    file.write(4, b"5678")
    assert read_all(reader) == b"12345678"
    file.close()
    reader.close()
    assert local.uploads.spool.used_bytes == 0
    assert list(local.uploads.spool.contents.iterdir()) == []


def test_a_removed_file_on_its_way_that_is_still_written_leaves_nothing_behind(local):
    node = local.write(FOLDER, "a", b"1234")
    local.fall_quiet()
    batch, upload = only_upload(local)
    file = local.uploads.open(node, writing=True)
    local.uploads.remove(node)
    file.write(4, b"5678")
    file.close()
    assert upload.content.read_bytes() == b"1234"
    local.arrivals.settled(upload.id, Disposition.GONE, FILED)
    local.arrivals.finish(batch.id, {})
    assert list(local.uploads.spool.contents.iterdir()) == []
    assert local.uploads.spool.used_bytes == 0


def test_a_close_that_the_journal_has_no_room_for_fails_and_holds_nothing_up(local, monkeypatch):
    node = local.uploads.create(FOLDER, "a")
    file = local.uploads.open(node, writing=True)
    file.write(0, b"1")

    def full(row):
        raise SpoolFull("no room")

    monkeypatch.setattr(local.journal, "update_node", full)
    with pytest.raises(SpoolFull):
        file.flush()
    with pytest.raises(SpoolFull):
        file.close()
    monkeypatch.undo()
    assert (node.writers, node.handles) == (0, 0)
    assert not node.is_whole, "nothing was promised"
    assert local.uploads.state(node) is NodeState.FAILED
    local.report.retry()
    local.sealer.seal_quiet()
    assert local.batch_targets() == [["a"]]


def test_a_first_change_that_the_journal_has_no_room_for_leaves_the_stored_file(local, monkeypatch):
    node = local.uploads.borrow(
        FOLDER, "a", replaces=OLD, size=1, mtime_ns=5, ino=99, token="v0",
        fill=lambda descriptor: os.pwrite(descriptor, b"s", 0) and None,
    )  # fmt: skip
    file = local.uploads.open(node, writing=True)

    def full(row):
        raise SpoolFull("no room")

    monkeypatch.setattr(local.journal, "add_node", full)
    with pytest.raises(SpoolFull):
        file.write(0, b"x")
    monkeypatch.undo()
    assert not file.has_changed
    file.write(0, b"y")
    file.close()
    local.restart()
    (node,) = local.uploads.children(FOLDER)
    assert (local.read(node), node.replaces) == (b"y", OLD)


def test_syncing_through_a_handle_that_only_reads_syncs_what_others_wrote(local):
    node = local.uploads.create(FOLDER, "a")
    writer = local.uploads.open(node, writing=True)
    reader = local.uploads.open(node, writing=False)
    writer.write(0, b"1")
    reader.fsync()
    assert node.is_durable
    writer.close()
    reader.close()


# -- what is shown ---------------------------------------------------------------------------------------------


def test_a_stored_file_is_not_hidden_by_a_copy_of_it_on_its_way_into_a_subdirectory(local):
    tree = local.uploads.make_directory(FOLDER, "tree")
    local.write(tree, "a", b"1")
    local.fall_quiet()
    _, upload = only_upload(local)
    local.journal.set_sha1(upload.id, "b" * 40)
    assert not local.uploads.is_hidden(FOLDER, Entry(50, "a", "b" * 40, 1))
    assert local.uploads.is_hidden(FOLDER, Entry(70, "tree/a", "b" * 40, 1)), "the server filed it higher up"


def test_a_directory_whose_files_were_all_removed_on_their_way_stays(local):
    tree = local.uploads.make_directory(FOLDER, "tree")
    node = local.write(tree, "a", b"1")
    local.fall_quiet()
    (batch,) = local.journal.batches()
    local.uploads.remove(node)
    local.arrivals.abandon(batch.id)
    assert local.uploads.find(FOLDER, "tree") is tree
    local.fall_quiet()
    (batch,) = local.journal.batches()
    assert local.arrivals.empty_directories(batch.id) == ["tree"]


def test_what_travels_below_a_directory_that_becomes_a_folder_meanwhile_is_not_sent_twice(local):
    tree = local.uploads.make_directory(FOLDER, "tree")
    local.write(tree, "a", b"1")
    local.fall_quiet()
    local.write(tree, "b", b"2")
    local.fall_quiet()
    first, second = local.journal.batches()
    (upload,) = local.journal.uploads(first.id)
    local.arrivals.settled(upload.id, Disposition.CURRENT, FILED)
    local.arrivals.finish(first.id, {"tree": 100})
    folder = Anchor(Kind.FOLDER, 100)
    (upload,) = local.journal.uploads(second.id)
    local.journal.set_sha1(upload.id, "b" * 40)
    for _ in range(2):
        assert local.uploads.find(folder, "b") is not None
        assert local.arrivals.disposition(upload.id) is Disposition.CURRENT
        assert local.uploads.is_hidden(folder, Entry(80, "b", "b" * 40, 1))
        local.restart()
    local.uploads.rename(local.uploads.find(folder, "b"), folder, "c")
    assert local.arrivals.disposition(upload.id) is Disposition.OUTDATED
