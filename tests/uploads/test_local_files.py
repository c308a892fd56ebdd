"""Files that were written here: their bytes, and what becomes of them."""

from __future__ import annotations

import os

import pytest

from agorafs.client.records import Datafile, Dataset, Kind, RemoteRef
from agorafs.errors import AlreadyExists, BadHandle, CrossDevice, SpoolFull
from agorafs.uploads.local_names import is_backup, is_ephemeral
from agorafs.uploads.spool import SpoolLimits
from agorafs.uploads.values import Disposition, NodeState, Outcome, OutcomeKind, Replaced
from tests.uploads.local import EXAM, FOLDER, Local, read_all

OLD = Replaced(dataset=50, item=60, sha1="a" * 40)
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


# -- bytes -----------------------------------------------------------------------------------------------


def test_what_is_written_can_be_read_back_through_any_handle(local):
    node = local.uploads.create(FOLDER, "a")
    writer = local.uploads.open(node, writing=True)
    reader = local.uploads.open(node, writing=False)
    writer.write(5, b"world")
    writer.write(0, b"hello")
    assert read_all(reader) == b"helloworld"
    writer.truncate(3)
    assert (read_all(reader), node.size) == (b"hel", 3)
    writer.truncate(5)
    assert read_all(reader) == b"hel\0\0"
    writer.allocate(0, 4, 6)
    assert node.size == 10
    for file in (writer, reader):
        file.close()
    with pytest.raises(BadHandle):
        writer.write(0, b"x")


def test_a_full_spool_refuses_the_write_and_keeps_what_was_accepted(tmp_path):
    local = Local(tmp_path, limits=SpoolLimits(100, 0))
    kept = local.write(FOLDER, "kept", b"x" * 60)
    node = local.uploads.create(FOLDER, "big")
    file = local.uploads.open(node, writing=True)
    file.write(0, b"y" * 30)
    with pytest.raises(SpoolFull, match="spool_max_bytes"):
        file.write(30, b"y" * 30)
    with pytest.raises(SpoolFull):
        file.truncate(1000)
    assert (read_all(file), local.read(kept)) == (b"y" * 30, b"x" * 60)
    file.close()
    assert local.uploads.room() == 10
    local.uploads.remove(node)
    assert local.uploads.room() == 40


def test_what_a_program_leaves_after_a_refused_write_is_not_taken_for_a_file(tmp_path):
    local = Local(tmp_path, limits=SpoolLimits(100, 0))
    node = local.uploads.create(FOLDER, "big")
    file = local.uploads.open(node, writing=True)
    file.write(0, b"y" * 90)
    with pytest.raises(SpoolFull):
        file.write(90, b"y" * 90)
    file.write(0, b"header")
    file.flush()
    file.close()
    local.fall_quiet()
    assert local.batch_targets() == []
    assert "no room" in local.uploads.state_text(node)
    assert local.read(node).startswith(b"headery")
    local.rewrite(node, b"small")
    local.fall_quiet()
    assert local.batch_targets() == [["big"]]
    local.close()


def test_a_name_is_taken_once(local):
    local.write(FOLDER, "a", b"")
    with pytest.raises(AlreadyExists):
        local.uploads.create(FOLDER, "a")
    with pytest.raises(AlreadyExists):
        local.uploads.make_directory(FOLDER, "a")
    other = local.write(FOLDER, "b", b"")
    with pytest.raises(AlreadyExists):
        local.uploads.rename(other, FOLDER, "a")


@pytest.mark.parametrize(
    "name",
    [".goutputstream-ABC", ".scan.dcm.xY12z9", "a.part", "a.partial~", ".a.swp", "a~", "sedAb12Cd", ".~lock.a.odt#",
     ".DS_Store", "._a", ".nfs0001", ".fuse_hidden0001"],
)  # fmt: skip
def test_names_that_programs_use_for_a_moment_are_known(name):
    assert is_ephemeral(name)
    assert is_backup(name)


@pytest.mark.parametrize(
    "name",
    ["a.dcm", "sediment", "sedation", ".settings.backup", ".bidsignore", "4913", "part", "a.bak", "Thumbs"],
)
def test_names_of_data_are_not_mistaken_for_temporary_ones(name):
    assert not is_ephemeral(name)


def test_a_stored_file_may_be_renamed_to_a_backup_but_not_to_anything():
    assert is_backup("out.dcm.bak")
    assert not is_backup("out2.dcm")


# -- sealing ---------------------------------------------------------------------------------------------


def test_what_was_written_below_one_folder_is_one_batch_when_it_has_been_quiet(local):
    tree = local.uploads.make_directory(FOLDER, "tree")
    inner = local.uploads.make_directory(tree, "inner")
    local.write(inner, "b", b"2")
    local.write(tree, "a", b"1")
    local.clock.advance(2.9)
    local.sealer.seal_quiet()
    assert local.batch_targets() == []
    local.clock.advance(0.2)
    local.sealer.seal_quiet()
    assert sorted(local.batch_targets()[0]) == ["tree/a", "tree/inner/b"]


def test_each_anchor_has_a_batch_of_its_own(local):
    local.write(FOLDER, "a", b"1")
    local.write(EXAM, "b", b"2")
    local.fall_quiet()
    assert local.batch_targets() == [["a"], ["b"]]


def test_nothing_travels_while_a_file_beside_it_is_open_for_writing(local):
    local.write(FOLDER, "a", b"1")
    node = local.uploads.create(FOLDER, "b")
    file = local.uploads.open(node, writing=True)
    local.fall_quiet()
    assert local.batch_targets() == []
    file.close()
    local.fall_quiet()
    assert local.batch_targets() == [["a", "b"]]


def test_an_editors_swap_file_that_stays_open_holds_nothing_up(local):
    swap = local.uploads.open(local.uploads.create(FOLDER, ".a.swp"), writing=True)
    local.write(FOLDER, "a", b"1")
    local.fall_quiet()
    assert local.batch_targets() == [["a"]]
    swap.close()


def test_a_temporary_name_travels_only_once_it_was_renamed(local):
    node = local.write(FOLDER, "a.part", b"1")
    local.fall_quiet()
    assert local.batch_targets() == []
    assert local.uploads.state(node) is NodeState.LOCAL
    local.uploads.rename(node, FOLDER, "a")
    local.fall_quiet()
    assert local.batch_targets() == [["a"]]


def test_sync_does_not_wait_for_quiet(local):
    local.write(FOLDER, "a", b"1")
    local.sealer.sync_seal()
    local.sealer.seal_quiet()
    assert local.batch_targets() == [["a"]]


def test_directories_without_files_are_made_on_the_server(local):
    tree = local.uploads.make_directory(FOLDER, "tree")
    local.uploads.make_directory(tree, "empty")
    local.write(local.uploads.make_directory(tree, "full"), "a", b"1")
    local.fall_quiet()
    (batch,) = local.journal.batches()
    assert local.arrivals.empty_directories(batch.id) == ["tree/empty"]
    local.arrivals.finish(batch.id, {"tree": 100, "tree/empty": 101, "tree/full": 102})


def test_a_lone_directory_travels_without_an_import(local):
    node = local.uploads.make_directory(FOLDER, "new")
    local.fall_quiet()
    (batch,) = local.journal.batches()
    assert batch.state.value == "settling"
    assert local.arrivals.empty_directories(batch.id) == ["new"]
    local.arrivals.finish(batch.id, {"new": 100})
    assert local.uploads.find(FOLDER, "new") is None
    stored = local.uploads.folder_stored_as(100)
    assert stored is not None
    assert stored.ino == node.ino


def test_an_upload_keeps_its_bytes_while_the_file_is_written_again(local):
    node = local.write(FOLDER, "a", b"first")
    local.fall_quiet()
    _, upload = only_upload(local)
    local.rewrite(node, b"second, longer")
    assert upload.content.read_bytes() == b"first"
    assert local.read(node) == b"second, longer"
    assert local.arrivals.disposition(upload.id) is Disposition.OUTDATED


def test_appending_to_a_file_on_its_way_copies_it_first(local):
    node = local.write(FOLDER, "a", b"first")
    local.fall_quiet()
    _, upload = only_upload(local)
    file = local.uploads.open(node, writing=True)
    file.write(5, b"+")
    file.close()
    assert (upload.content.read_bytes(), local.read(node)) == (b"first", b"first+")


def test_a_file_removed_and_written_again_on_its_way_waits_until_the_first_has_arrived(local):
    """A server that knows the bytes may give both the same dataset, and the first is to be removed there."""
    node = local.write(FOLDER, "a", b"same")
    local.fall_quiet()
    batch, upload = only_upload(local)
    local.uploads.remove(node)
    local.write(FOLDER, "a", b"same")
    local.fall_quiet()
    assert local.batch_targets() == [["a"]]
    local.arrivals.settled(upload.id, Disposition.GONE, FILED)
    local.arrivals.finish(batch.id, {})
    local.fall_quiet()
    assert local.batch_targets() == [["a"]]


# -- arriving --------------------------------------------------------------------------------------------


def test_a_file_that_arrived_gives_way_to_the_servers_and_keeps_its_number_and_time(local):
    node = local.write(FOLDER, "a", b"1")
    local.uploads.set_mtime(node, 123)
    local.fall_quiet()
    batch, upload = only_upload(local)
    local.journal.set_sha1(upload.id, "b" * 40)
    assert local.arrivals.settled(upload.id, Disposition.CURRENT, FILED)
    local.arrivals.finish(batch.id, {})
    assert local.uploads.find(FOLDER, "a") is None
    stored = local.uploads.stored_as(71, "b" * 40)
    assert stored == (node.ino, 123, node.token)
    assert local.uploads.stored_as(71, "c" * 40) is None
    assert not upload.content.exists()
    assert local.uploads.spool.used_bytes == 0
    local.restart()
    assert local.uploads.stored_as(71, "b" * 40) == stored


def test_a_file_that_was_changed_on_its_way_replaces_what_arrived(local):
    node = local.write(FOLDER, "a", b"first")
    local.fall_quiet()
    batch, upload = only_upload(local)
    local.journal.set_sha1(upload.id, "b" * 40)
    local.rewrite(node, b"second")
    assert not local.arrivals.settled(upload.id, Disposition.CURRENT, FILED)
    assert local.arrivals.settled(upload.id, Disposition.OUTDATED, FILED)
    local.arrivals.finish(batch.id, {})
    assert node.replaces == Replaced(70, 72, "b" * 40)
    assert local.uploads.is_hidden(FOLDER, Entry(70, "a", "b" * 40, 5))
    local.fall_quiet()
    _, again = only_upload(local)
    assert again.replaces == Replaced(70, 72, "b" * 40)
    assert again.content.read_bytes() == b"second"


def test_a_file_that_was_renamed_on_its_way_is_sent_again_under_its_new_name(local):
    node = local.write(FOLDER, "a", b"1")
    local.fall_quiet()
    batch, upload = only_upload(local)
    local.uploads.rename(node, FOLDER, "b")
    assert local.arrivals.disposition(upload.id) is Disposition.OUTDATED
    local.arrivals.settled(upload.id, Disposition.OUTDATED, FILED)
    local.arrivals.finish(batch.id, {})
    local.fall_quiet()
    _, again = only_upload(local)
    assert (again.target, again.content.read_bytes()) == ("b", b"1")
    assert again.replaces is not None
    assert again.replaces.dataset == 70


def test_a_file_renamed_there_and_back_again_on_its_way_has_arrived(local):
    node = local.write(FOLDER, "a", b"1")
    local.fall_quiet()
    _, upload = only_upload(local)
    local.uploads.rename(node, FOLDER, "b")
    local.uploads.rename(node, FOLDER, "a")
    assert local.arrivals.disposition(upload.id) is Disposition.CURRENT


def test_a_file_that_was_removed_on_its_way_is_gone(local):
    node = local.write(FOLDER, "a", b"1", replaces=OLD)
    local.fall_quiet()
    batch, upload = only_upload(local)
    assert local.uploads.is_hidden(FOLDER, Entry(50, "a", "a" * 40, 1))
    local.uploads.remove(node)
    assert local.arrivals.disposition(upload.id) is Disposition.GONE
    assert local.uploads.is_hidden(FOLDER, Entry(50, "a", "a" * 40, 1)), "it is still to be removed there"
    assert not local.arrivals.is_abandoned(batch.id)
    local.arrivals.settled(upload.id, Disposition.GONE, FILED)
    local.arrivals.finish(batch.id, {})
    assert not local.uploads.is_hidden(FOLDER, Entry(50, "a", "a" * 40, 1))


def test_a_batch_that_nobody_wants_is_abandoned(local):
    nodes = [local.write(FOLDER, name, b"1") for name in "ab"]
    local.fall_quiet()
    (batch,) = local.journal.batches()
    local.uploads.remove(nodes[0])
    assert not local.arrivals.is_abandoned(batch.id)
    local.uploads.remove(nodes[1])
    assert local.arrivals.is_abandoned(batch.id)
    local.arrivals.abandon(batch.id)
    assert local.journal.batches() == []
    assert local.uploads.spool.used_bytes == 0


def test_a_failed_file_stays_readable_with_the_reason_until_it_is_tried_again(local):
    """What failed stays, readable, with the reason, until it is tried again or given up."""
    node = local.write(FOLDER, "a", b"1", replaces=OLD)
    local.fall_quiet()
    batch, _ = only_upload(local)
    local.arrivals.fail_batch(batch.id, "Quota exceeded.")
    assert local.uploads.state_text(node) == "failed: Quota exceeded."
    assert local.read(node) == b"1"
    assert node.replaces == OLD
    local.fall_quiet()
    assert local.batch_targets() == []
    local.restart()
    (node,) = local.uploads.children(FOLDER)
    assert node.error == "Quota exceeded."
    assert local.report.unfinished().failed == [(node, "Quota exceeded.")]
    assert local.report.retry() == 1
    local.sealer.seal_quiet()
    assert local.batch_targets() == [["a"]]


def test_writing_a_failed_file_again_tries_again(local):
    node = local.write(FOLDER, "a", b"1")
    local.fall_quiet()
    batch, _ = only_upload(local)
    local.arrivals.fail_batch(batch.id, "no")
    local.rewrite(node, b"2")
    assert node.error == ""
    local.fall_quiet()
    assert local.batch_targets() == [["a"]]


def test_who_still_writes_when_a_file_arrives_writes_a_new_version(local):
    node = local.write(FOLDER, "a", b"first")
    local.fall_quiet()
    batch, upload = only_upload(local)
    local.journal.set_sha1(upload.id, "b" * 40)
    file = local.uploads.open(node, writing=True)
    assert local.arrivals.settled(upload.id, Disposition.CURRENT, FILED)
    local.arrivals.finish(batch.id, {})
    assert local.uploads.find(FOLDER, "a") is node
    file.write(0, b"F")
    file.flush()
    file.close()
    assert local.read(node) == b"First"
    assert node.replaces == Replaced(70, 72, "b" * 40)
    local.restart()
    (again,) = local.uploads.children(FOLDER)
    assert (local.read(again), again.replaces) == (b"First", Replaced(70, 72, "b" * 40))


def test_who_only_holds_it_open_when_a_file_arrives_reads_on(local):
    node = local.write(FOLDER, "a", b"first")
    local.fall_quiet()
    batch, upload = only_upload(local)
    files = [local.uploads.open(node, writing=writing) for writing in (False, True)]
    local.arrivals.settled(upload.id, Disposition.CURRENT, FILED)
    local.arrivals.finish(batch.id, {})
    assert [read_all(file) for file in files] == [b"first", b"first"]
    for file in files:
        file.close()
    assert local.uploads.find(FOLDER, "a") is None
    assert local.uploads.spool.used_bytes == 0


def test_what_arrives_under_a_suffixed_name_is_not_shown_twice(local):
    local.write(FOLDER, "a", b"1", replaces=OLD)
    local.fall_quiet()
    _, upload = only_upload(local)
    local.journal.set_sha1(upload.id, "b" * 40)
    assert local.uploads.is_hidden(FOLDER, Entry(70, "a", "b" * 40, 1))
    assert not local.uploads.is_hidden(FOLDER, Entry(80, "a", "c" * 40, 1)), "somebody else's"
    assert not local.uploads.is_hidden(EXAM, Entry(70, "a", "b" * 40, 1))


def test_what_is_written_into_a_directory_on_its_way_lands_in_the_new_folder(local):
    tree = local.uploads.make_directory(FOLDER, "tree")
    local.write(tree, "a", b"1")
    local.fall_quiet()
    batch, upload = only_upload(local)
    late = local.write(tree, "late", b"2")
    local.arrivals.settled(upload.id, Disposition.CURRENT, FILED)
    local.arrivals.finish(batch.id, {"tree": 100})
    assert local.uploads.find(FOLDER, "tree") is None
    assert local.uploads.parts_below(late) == (FOLDER._replace(id=100), ["late"])
    local.fall_quiet()
    assert local.batch_targets() == [["late"]]
    local.restart()
    assert local.uploads.find(FOLDER._replace(id=100), "late") is not None


def test_a_directory_whose_files_all_became_a_study_goes_with_them(local):
    tree = local.uploads.make_directory(FOLDER, "dicom")
    local.write(tree, "a", b"1")
    local.fall_quiet()
    batch, upload = only_upload(local)
    local.arrivals.settled(upload.id, Disposition.CURRENT, Outcome(OutcomeKind.STUDY, dataset=1, exam=2))
    local.arrivals.finish(batch.id, {})
    assert local.uploads.children(FOLDER) == []


def test_directories_that_were_removed_or_renamed_on_their_way_are_told_the_deepest_first(local):
    tree = local.uploads.make_directory(FOLDER, "tree")
    inner = local.uploads.make_directory(tree, "inner")
    node = local.write(inner, "a", b"1")
    local.fall_quiet()
    batch, _ = only_upload(local)
    assert local.arrivals.removed_directories(batch.id) == []
    for one in (node, inner, tree):
        local.uploads.remove(one)
    assert local.arrivals.removed_directories(batch.id) == ["tree/inner", "tree"]


# -- stored files ----------------------------------------------------------------------------------------


def borrow(local, content=b"stored"):
    local.stored[51] = content
    return local.uploads.borrow(
        FOLDER, "a", replaces=OLD, size=len(content), mtime_ns=5, ino=99, token="v0",
        fill=lambda descriptor: os.pwrite(descriptor, content, 0) and None,
    )  # fmt: skip


def test_a_stored_file_opened_for_writing_and_not_changed_is_as_before(local):
    node = borrow(local)
    file = local.uploads.open(node, writing=True)
    assert not file.has_changed
    assert read_all(file) == b"stored"
    file.flush()
    file.close()
    assert local.uploads.children(FOLDER) == []
    assert local.uploads.spool.used_bytes == 0
    assert local.journal.nodes() == []


def test_the_first_change_of_a_stored_file_makes_it_local_with_all_its_bytes(local):
    node = borrow(local)
    file = local.uploads.open(node, writing=True)
    file.write(6, b"!")
    assert file.has_changed
    assert node.token != "v0"
    file.close()
    assert (local.read(node), node.replaces, node.ino) == (b"stored!", OLD, 99)
    assert local.uploads.is_hidden(FOLDER, Entry(50, "a", "a" * 40, 6))
    local.fall_quiet()
    _, upload = only_upload(local)
    assert upload.replaces == OLD


def test_cutting_a_stored_file_to_nothing_does_not_fetch_it(local):
    fetched: list[int] = []
    node = local.uploads.borrow(
        FOLDER, "a", replaces=OLD, size=9, mtime_ns=5, ino=99, token="v0", fill=fetched.append
    )
    file = local.uploads.open(node, writing=True)
    file.truncate(0)
    file.write(0, b"new")
    file.close()
    assert (local.read(node), fetched) == (b"new", [])


def test_a_fetch_that_fails_leaves_the_stored_file_untouched(local):
    def fail(descriptor):
        raise OSError("away")

    node = local.uploads.borrow(FOLDER, "a", replaces=OLD, size=9, mtime_ns=5, ino=99, token="v0", fill=fail)
    file = local.uploads.open(node, writing=True)
    with pytest.raises(OSError, match="away"):
        file.write(0, b"x")
    assert not file.has_changed
    file.close()
    assert local.uploads.children(FOLDER) == []
    assert local.uploads.spool.used_bytes == 0
    assert list(local.uploads.spool.contents.iterdir()) == []


def test_a_stored_file_that_is_open_for_writing_can_not_be_renamed(local):
    node = borrow(local)
    file = local.uploads.open(node, writing=True)
    with pytest.raises(CrossDevice):
        local.uploads.rename(node, FOLDER, "b")
    file.close()


def set_aside(local, new_name, content=b"old bytes"):
    local.stored[51] = content
    return local.uploads.set_aside(
        FOLDER, "a", new_name, replaces=OLD, size=len(content), mtime_ns=5, ino=99, token="v0", datafile_id=51
    )


def test_a_stored_file_renamed_away_is_shown_under_its_new_name_only(local):
    node = set_aside(local, "a~")
    assert local.uploads.find(FOLDER, "a~") is node
    assert local.uploads.is_hidden(FOLDER, Entry(50, "a", "a" * 40, 9))
    assert local.uploads.aside_of(FOLDER, "a") is node
    assert node.replaces == OLD, "removing it is removing the stored file"
    local.fall_quiet()
    assert (local.batch_targets(), local.fetched) == ([], [])
    local.restart()
    (node,) = local.uploads.children(FOLDER)
    assert local.read(node) == b"old bytes"


def test_its_successor_replaces_it_on_the_server_and_its_bytes_are_brought_here_before(local):
    backup = set_aside(local, "a~")
    new = local.write(FOLDER, "a", b"new", replaces=OLD)
    assert (backup.replaces, new.replaces) == (None, None), "neither can be removed from the server yet"
    local.fall_quiet()
    _, upload = only_upload(local)
    assert (upload.target, upload.replaces) == ("a", OLD)
    assert local.fetched == [51]
    assert local.read(backup) == b"old bytes"
    local.uploads.remove(backup)
    assert local.uploads.is_hidden(FOLDER, Entry(50, "a", "a" * 40, 9))


def test_a_backup_with_a_real_name_travels_beside_its_successor(local):
    set_aside(local, "a.bak")
    local.write(FOLDER, "a", b"new", replaces=OLD)
    local.fall_quiet()
    journal = local.journal
    (batch,) = journal.batches()
    by_target = {upload.target: upload for upload in journal.uploads(batch.id)}
    assert by_target["a.bak"].content.read_bytes() == b"old bytes"
    assert (by_target["a"].replaces, by_target["a.bak"].replaces) == (OLD, None)


def test_when_the_successor_is_removed_the_backup_stands_for_the_stored_file_again(local):
    backup = set_aside(local, "a~")
    new = local.write(FOLDER, "a", b"new", replaces=OLD)
    local.uploads.remove(new)
    assert backup.replaces == OLD
    local.restart()
    (backup,) = local.uploads.children(FOLDER)
    assert backup.replaces == OLD


# -- custom imports --------------------------------------------------------------------------------------


def test_an_import_description_travels_with_its_files_and_names_them(local):
    local.write(FOLDER, "x.agora-import.json", b"{}")
    local.fall_quiet()
    assert local.batch_targets() == [], "alone it waits"
    assert local.report.unfinished().files == 0
    node = local.write(FOLDER, "a.raw", b"1")
    local.fall_quiet()
    (batch,) = local.journal.batches()
    assert batch.import_file == "x.agora-import.json"
    upload = local.journal.uploads(batch.id)[0]
    assert upload.content.read_bytes() == b'{"filled": true}'
    assert upload.size == 16
    assert local.arrivals.disposition(upload.id) is Disposition.CURRENT
    local.restart()
    assert local.arrivals.disposition(upload.id) is Disposition.CURRENT
    assert node.name == "a.raw"


def test_relations_are_told_and_not_sent_and_vanish_with_their_batch(local):
    tree = local.uploads.make_directory(FOLDER, "t")
    local.write(tree, "main.raw", b"1")
    local.write(tree, "notes.txt", b"2")
    local.write(tree, "x.agora-relations.json", b'{"main.raw": ["notes.txt"]}')
    local.fall_quiet()
    (batch,) = local.journal.batches()
    assert batch.relations == {"t/main.raw": ["t/notes.txt"]}
    assert sorted(local.batch_targets()[0]) == ["t/main.raw", "t/notes.txt"]
    for upload in local.journal.uploads(batch.id):
        local.arrivals.settled(upload.id, Disposition.CURRENT, FILED)
    local.arrivals.finish(batch.id, {"t": 100})
    assert list(local.store.nodes()) == []
    assert local.uploads.spool.used_bytes == 0


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"{", "not a JSON object"),
        (b'{"main.raw": "notes.txt"}', "not a JSON object"),
        (b'{"main.raw": ["missing"]}', "names missing"),
        (b'{"other": []}', "names other"),
        (b'{"main.raw": ["notes.txt", "notes.txt"]}', "one file only"),
    ],
)
def test_relations_that_can_not_be_meant_hold_their_files_back_with_the_reason(local, text, reason):
    main = local.write(FOLDER, "main.raw", b"1")
    local.write(FOLDER, "notes.txt", b"2")
    relations = local.write(FOLDER, "x.agora-relations.json", text)
    local.fall_quiet()
    assert local.batch_targets() == []
    assert reason in main.error
    local.rewrite(relations, b'{"main.raw": ["notes.txt"]}')
    local.fall_quiet()
    assert local.batch_targets() == [["main.raw", "notes.txt"]]


# -- people ----------------------------------------------------------------------------------------------


def test_cancelling_gives_the_new_version_up_and_shows_the_old_one_again(local):
    node = local.write(FOLDER, "a", b"new", replaces=OLD)
    local.fall_quiet()
    batch, upload = only_upload(local)
    local.report.cancel(node)
    assert local.arrivals.is_abandoned(batch.id)
    assert not local.uploads.is_hidden(FOLDER, Entry(50, "a", "a" * 40, 9))
    assert local.journal.uploads(batch.id)[0].replaces is None
    assert upload.replaces == OLD


def test_files_from_outside_are_sent_from_where_they_are_and_only_once(local, tmp_path):
    source = tmp_path / "source.raw"
    source.write_bytes(b"raw")
    first = local.sealer.enqueue(FOLDER, [(source, "d/source.raw")], import_file=None, relations=None)
    assert local.sealer.enqueue(FOLDER, [(source, "d/source.raw")], import_file=None, relations=None) == first
    batch, upload = only_upload(local)
    assert (upload.content, upload.expected_mtime_ns) == (source, source.stat().st_mtime_ns)
    assert local.arrivals.disposition(upload.id) is Disposition.CURRENT
    local.arrivals.settled(upload.id, Disposition.CURRENT, FILED)
    local.arrivals.finish(batch.id, {})
    status = local.report.upload_status(first)
    assert (status["state"], status["stored"], status["failed"]) == ("ended", 1, [])
    assert source.exists()


def test_the_number_of_the_import_is_told_while_it_is_on_its_way_and_after_its_end(local, tmp_path):
    """It was told nowhere, so nobody could ask what an import has made."""
    source = tmp_path / "source.raw"
    source.write_bytes(b"raw")
    number = local.sealer.enqueue(FOLDER, [(source, "source.raw")], import_file=None, relations=None)
    assert local.report.upload_status(number)["import_id"] is None
    local.journal.begin_upload(number, 77, [])
    assert local.report.upload_status(number)["import_id"] == 77
    (batch,) = local.report.status()["batches"]
    assert batch["import_id"] == 77
    _, upload = only_upload(local)
    local.arrivals.settled(upload.id, Disposition.CURRENT, FILED)
    local.arrivals.finish(number, {})
    assert local.report.upload_status(number)["import_id"] == 77


def test_a_file_that_waits_says_why(local):
    node = local.write(FOLDER, "a", b"1")
    local.fall_quiet()
    (batch,) = local.journal.batches()
    assert local.uploads.reason(node) == ""
    local.arrivals.note_wait(batch.id, "the server is away")
    assert local.uploads.reason(node) == "the server is away"
    local.arrivals.note_wait(batch.id, None)
    local.arrivals.fail_batch(batch.id, "no")
    assert local.uploads.reason(node) == "no"


def test_unfinished_counts_what_is_not_verified_on_the_server(local):
    local.write(FOLDER, "a", b"123")
    writing = local.uploads.open(local.uploads.create(FOLDER, "b"), writing=True)
    local.write(FOLDER, "c.part", b"1")
    unfinished = local.report.unfinished()
    assert (unfinished.files, unfinished.bytes, unfinished.open) == (2, 3, 1)
    assert local.report.status()["files"] == 2
    writing.close()
