"""The bytes of files that are written: new ones, stored ones that are replaced, archived ones that do not change."""

from __future__ import annotations

import os

import pytest

from agorafs.client.records import Kind, Role
from agorafs.errors import (
    AlreadyExists,
    BadCommand,
    BadHandle,
    NameTooLong,
    NotFound,
    NotSupported,
    PermissionDenied,
    ReadOnly,
    StaleHandle,
    StaleLookup,
)
from agorafs.uploads.values import Anchor, NodeState
from tests.vfs.world import HOME, World


@pytest.fixture
def world(tmp_path):
    one = World(tmp_path)
    yield one
    one.close()


def node_of(world, name, folder=None):
    node = world.uploads.find(Anchor(Kind.FOLDER, folder or world.root), name)
    assert node is not None
    return node


# -- new files ---------------------------------------------------------------------------------------


def test_a_file_is_there_under_its_name_from_open_on_with_what_was_written_so_far(world):
    fs = world.filesystem
    opened = fs.create(f"{HOME}/x")
    assert world.names() == ["x"]
    assert fs.getattr(f"{HOME}/x").size == 0
    fs.write(opened.handle, 0, b"hello")
    assert fs.getattr(f"{HOME}/x").size == 5
    assert fs.getattr("", opened.handle).size == 5
    assert fs.read(opened.handle, 1, 3) == b"ell"
    other = fs.open(f"{HOME}/x").handle
    fs.write(opened.handle, 5, b" world")
    assert fs.read(other, 0, 100) == b"hello world"


def test_a_write_far_behind_the_end_leaves_zeros_and_truncate_takes_and_gives(world):
    fs = world.filesystem
    handle = fs.create(f"{HOME}/x").handle
    fs.write(handle, 10, b"end")
    assert fs.read(handle, 0, 100) == bytes(10) + b"end"
    fs.truncate("", 11, handle)
    assert fs.read(handle, 0, 100) == bytes(10) + b"e"
    fs.truncate(f"{HOME}/x", 12)
    assert fs.read(handle, 0, 100) == bytes(10) + b"e\0"
    fs.allocate(handle, 0, 0, 20)
    assert fs.getattr(f"{HOME}/x").size == 20
    with pytest.raises(NotSupported):
        fs.allocate(handle, 3, 0, 1)  # FALLOC_FL_PUNCH_HOLE


def test_a_handle_for_reading_writes_nothing(world):
    world.write(f"{HOME}/x", b"1")
    handle = world.filesystem.open(f"{HOME}/x").handle
    with pytest.raises(BadHandle):
        world.filesystem.write(handle, 0, b"2")
    with pytest.raises(BadHandle):
        world.filesystem.truncate("", 0, handle)


def test_creating_what_exists_opens_it_unless_it_must_be_new(world):
    fs = world.filesystem
    world.store("x", b"old")
    with pytest.raises(AlreadyExists):
        fs.create(f"{HOME}/x", os.O_RDWR | os.O_CREAT | os.O_EXCL)
    handle = fs.create(f"{HOME}/x", os.O_RDWR | os.O_CREAT).handle
    assert fs.read(handle, 0, 10) == b"old"


def test_a_size_that_was_told_before_a_write_does_not_cut_who_opens_the_file_now(world):
    """The kernel knows the size of what is written through it better than the last look-up."""
    fs = world.filesystem
    writer = fs.create(f"{HOME}/x").handle
    fs.getattr(f"{HOME}/x")
    fs.write(writer, 0, b"more")
    reader = fs.open(f"{HOME}/x", after_lookup=True)
    assert fs.read(reader.handle, 0, 10) == b"more"
    assert not reader.direct, "a shared mapping needs the kernel's pages"


def test_attributes_of_a_local_file_are_never_handed_on_from_a_listing(world):
    """They were true when the listing was made; an old size would cut a file that is being written."""
    fs = world.filesystem
    world.write(f"{HOME}/x", b"1")
    ((_, attr),) = fs.readdir(HOME)
    assert not fs.may_tell(f"{HOME}/x", attr)
    fs.getattr(f"{HOME}/x")
    assert not fs.may_tell(f"{HOME}/x", attr)


def test_what_a_removed_file_was_listed_with_is_not_handed_on_for_its_successor(world):
    fs = world.filesystem
    world.store("x", b"12345")
    ((_, before),) = fs.readdir(HOME)
    fs.remove(f"{HOME}/x")
    assert not fs.may_tell(f"{HOME}/x", before)


def test_times_can_be_set_and_permissions_are_taken_and_dropped(world):
    fs = world.filesystem
    world.write(f"{HOME}/x", b"1")
    fs.set_mtime(f"{HOME}/x", 12345)
    assert fs.getattr(f"{HOME}/x").mtime_ns == 12345
    before = fs.getattr(f"{HOME}/x")
    fs.ignore_change(f"{HOME}/x", "changing permissions")
    assert fs.getattr(f"{HOME}/x") == before
    with pytest.raises(NotFound):
        fs.ignore_change(f"{HOME}/none", "changing permissions")


def test_the_time_of_a_stored_file_stays_the_archives(world):
    fs = world.filesystem
    world.store("x", b"1")
    before = fs.getattr(f"{HOME}/x")
    fs.set_mtime(f"{HOME}/x", 12345)
    handle = fs.open(f"{HOME}/x", os.O_RDWR).handle
    fs.set_mtime("", 12345, handle)
    assert fs.getattr(f"{HOME}/x").mtime_ns == before.mtime_ns


@pytest.mark.parametrize(
    "name",
    [
        "system.posix_acl_access", "security.selinux", "trusted.x", "user.xdg.tags", "user.other",
        "user.agora.sha1", "user.agora.state", "user.agora.error",
    ],
)  # fmt: skip
def test_attributes_that_copies_bring_along_never_fail_them_and_never_reach_the_server(world, name):
    fs = world.filesystem
    world.store("stored", b"1")
    world.write(f"{HOME}/x", b"1")
    calls = len(world.archive.calls)
    for path in (f"{HOME}/x", f"{HOME}/stored"):
        fs.getattr(path)
        fs.set_xattr(path, name)
        fs.remove_xattr(path, name)
    assert world.server.calls == []
    assert len(world.archive.calls) <= calls + 1


def test_an_attribute_of_ours_that_does_not_exist_can_not_be_set(world):
    world.write(f"{HOME}/x", b"1")
    with pytest.raises(NotSupported):
        world.filesystem.set_xattr(f"{HOME}/x", "user.agora.nonsense")


def test_a_local_file_says_how_far_it_is(world):
    fs = world.filesystem
    handle = fs.create(f"{HOME}/x").handle

    def value(name):
        return fs.getxattr(f"{HOME}/x", f"user.agora.{name}").decode()

    assert value("state") == "writing"
    fs.flush(handle)
    fs.release(handle)
    assert (value("state"), value("type"), value("project")) == ("pending", "datafile", str(world.project.id))
    assert "user.agora.sha1" not in fs.listxattr(f"{HOME}/x")


def test_free_space_is_what_can_still_be_written(world):
    fs = world.filesystem
    before = fs.statfs().free_bytes
    assert before == world.uploads.room()
    world.write(f"{HOME}/x", bytes(1 << 20))
    assert fs.statfs().free_bytes <= before - (1 << 20)


# -- what is refused before a byte is taken ----------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("a\\b", BadCommand),
        ("bell\a", BadCommand),
        ("not utf-8 \udcff", BadCommand),
        ("\x85", BadCommand),
        ("x" * 256, NameTooLong),
        (".agora", BadCommand),
    ],
)
def test_names_that_the_archive_would_not_show_again_are_refused_with_the_reason(world, name, error):
    with pytest.raises(error):
        world.filesystem.create(f"{HOME}/{name}")
    with pytest.raises(error):
        world.filesystem.make_directory(f"{HOME}/{name}")
    assert world.uploads.children(Anchor(Kind.FOLDER, world.root)) == []
    assert world.error(HOME)


@pytest.mark.parametrize(
    "path",
    ["/x", "/projects/P/x", "/projects/P/exams/x", "/projects/P/patients/x", "/patients/x"],
)
def test_lists_that_the_server_makes_take_nothing(world, path):
    with pytest.raises(PermissionDenied, match=r"server|lies in"):
        world.filesystem.create(path)


def test_a_locked_folder_and_all_below_it_take_nothing_and_say_which_lock(world):
    locked = world.archive.add_folder("locked", world.root, locked=True)
    world.archive.add_folder("inner", locked.id)
    with pytest.raises(PermissionDenied, match=r"/folders/locked is locked"):
        world.filesystem.create(f"{HOME}/locked/inner/x")
    assert "locked" in world.error(f"{HOME}/locked/inner")


def test_a_locked_file_is_not_opened_for_writing(world):
    exam = world.archive.add_exam(world.project.id, "E", locked=True)
    world.archive.add_dataset({"x": b"1"}, exam=exam.id)
    with pytest.raises(PermissionDenied, match="locked"):
        world.filesystem.open("/projects/P/exams/E/x", os.O_RDWR)


def test_an_observer_only_reads_and_is_told_so(tmp_path):
    world = World(tmp_path, roles=[(1, Role.OBSERVER)])
    with pytest.raises(PermissionDenied, match="observer"):
        world.filesystem.create(f"{HOME}/x")
    world.close()


def test_a_read_only_mount_shows_what_waits_and_refuses_every_change(tmp_path):
    world = World(tmp_path, is_read_only=True)
    fs = world.filesystem
    world.local.write(Anchor(Kind.FOLDER, world.root), "waiting", b"1")
    assert world.read(f"{HOME}/waiting") == b"1"
    for change in (
        lambda: fs.create(f"{HOME}/x"),
        lambda: fs.open(f"{HOME}/waiting", os.O_RDWR),
        lambda: fs.truncate(f"{HOME}/waiting", 0),
        lambda: fs.make_directory(f"{HOME}/d"),
        lambda: fs.make_link(f"{HOME}/l", "waiting"),
        lambda: fs.remove(f"{HOME}/waiting"),
        lambda: fs.remove_directory(HOME),
        lambda: fs.rename(f"{HOME}/waiting", f"{HOME}/y"),
        lambda: fs.set_mtime(f"{HOME}/waiting", 1),
        lambda: fs.ignore_change(f"{HOME}/waiting", "changing the owner"),
        lambda: fs.set_xattr(f"{HOME}/waiting", "user.x"),
        lambda: fs.remove_xattr(f"{HOME}/waiting", "user.x"),
        lambda: fs.refuse_to_make(f"{HOME}/z", "hard links"),
    ):
        with pytest.raises(ReadOnly):
            change()
    assert "read-only" in world.error(f"{HOME}/waiting")
    world.close()


def test_an_exam_and_a_series_take_files_to_be_imported_there(world):
    exam = world.archive.add_exam(world.project.id, "E")
    series = world.archive.add_series(exam.id, "S")
    world.write("/projects/P/exams/E/report.pdf", b"1")
    world.write("/projects/P/exams/E/S/map.nii", b"2")
    assert world.uploads.find(Anchor(Kind.EXAM, exam.id), "report.pdf") is not None
    assert world.uploads.find(Anchor(Kind.SERIES, series.id), "map.nii") is not None
    assert world.names("/projects/P/exams/E") == ["S", "report.pdf"]


# -- stored files that are replaced ------------------------------------------------------------------


def test_opening_a_stored_file_for_writing_changes_nothing_by_itself(world):
    fs = world.filesystem
    world.store("x", b"old")
    before = fs.getattr(f"{HOME}/x")
    handle = fs.open(f"{HOME}/x", os.O_RDWR, after_lookup=True).handle
    assert fs.read(handle, 0, 10) == b"old"
    assert fs.write(handle, 0, b"old") == 3
    assert fs.write(handle, 1, b"l") == 1
    fs.truncate("", 3, handle)
    fs.flush(handle)
    fs.release(handle)
    after = fs.getattr(f"{HOME}/x")
    assert (after.ino, after.size, after.mtime_ns) == (before.ino, before.size, before.mtime_ns)
    assert world.uploads.children(Anchor(Kind.FOLDER, world.root)) == []


def test_the_first_changed_byte_begins_a_version_that_will_replace_the_stored_file(world):
    fs = world.filesystem
    dataset = world.store("x", b"old stuff")
    before = fs.getattr(f"{HOME}/x")
    handle = fs.open(f"{HOME}/x", os.O_RDWR).handle
    fs.write(handle, 0, b"new")
    assert fs.read(handle, 0, 100) == b"new stuff"
    assert world.names() == ["x"]
    assert fs.getattr(f"{HOME}/x").ino == before.ino
    node = node_of(world, "x")
    assert node.takes_place_of is not None and node.takes_place_of.dataset == dataset
    assert world.server.calls == [], "the stored one stays until its successor has been verified"


def test_older_handles_of_a_file_that_is_overwritten_go_on_with_the_new_bytes(world):
    """As on a local disk; and none of them hears ESTALE for what was done through this mount."""
    fs = world.filesystem
    world.store("x", b"old stuff")
    reader = fs.open(f"{HOME}/x").handle
    assert fs.read(reader, 0, 3) == b"old"
    second = fs.open(f"{HOME}/x", os.O_RDWR).handle
    writer = fs.open(f"{HOME}/x", os.O_WRONLY).handle
    fs.write(writer, 0, b"new")
    for handle in (reader, second):
        assert fs.read(handle, 0, 100) == b"new stuff"
        assert fs.getattr("", handle).size == 9
    fs.write(second, 3, b"!")
    fs.truncate("", 4, writer)
    assert fs.read(reader, 0, 100) == b"new!"
    assert not fs.has_stale_handles()
    for handle in (reader, second, writer):
        fs.release(handle)
    assert world.read(f"{HOME}/x") == b"new!"


def test_emptying_a_stored_file_brings_none_of_its_bytes_here(world):
    fs = world.filesystem
    world.store("x", b"old")
    world.archive.calls.clear()
    world.write(f"{HOME}/x", b"new")
    assert world.read(f"{HOME}/x") == b"new"
    assert not [call for call in world.archive.calls if call.startswith("download")]
    fs.truncate(f"{HOME}/x", 0)
    assert fs.getattr(f"{HOME}/x").size == 0


def test_a_stored_file_is_shortened_by_its_path(world):
    world.store("x", b"old stuff")
    world.filesystem.truncate(f"{HOME}/x", 3)
    assert world.read(f"{HOME}/x") == b"old"
    assert node_of(world, "x").takes_place_of is not None


def test_emptying_an_empty_stored_file_changes_nothing(world):
    world.store("x", b"")
    world.filesystem.truncate(f"{HOME}/x", 0)
    assert world.uploads.children(Anchor(Kind.FOLDER, world.root)) == []


def test_a_look_at_the_moment_of_the_first_change_makes_no_handle_stale(world):
    """What another thread saw just before the change, and says just after it, is not listened to.

    Steps: a reader looks the file up; a writer makes the first change; the reader's answer arrives.
    """
    fs = world.filesystem
    world.store("x", b"old")
    before = fs.getattr(f"{HOME}/x")
    token = world.filesystem._handles._told[f"{HOME}/x"].content
    writer = fs.open(f"{HOME}/x", os.O_RDWR).handle
    fs.write(writer, 0, b"new")
    fs._handles.tell(f"{HOME}/x", before, token)
    assert fs.read(writer, 0, 10) == b"new"
    assert not fs.has_stale_handles()


def test_a_kernel_that_was_told_of_the_stored_version_looks_again_before_it_opens_the_changed_one(world):
    fs = world.filesystem
    world.store("x", b"old")
    fs.getattr(f"{HOME}/x")
    node = world.uploads.create(Anchor(Kind.FOLDER, world.root), "x")
    assert node.size == 0
    with pytest.raises(StaleLookup):
        fs.open(f"{HOME}/x", after_lookup=True)
    fs.getattr(f"{HOME}/x")
    fs.open(f"{HOME}/x", after_lookup=True)


def test_reading_a_file_that_somebody_has_open_for_writing_brings_only_what_is_read(world):
    fs = world.filesystem
    world.store("x", b"old")
    writer = fs.open(f"{HOME}/x", os.O_RDWR).handle
    fs.getattr(f"{HOME}/x")
    reader = fs.open(f"{HOME}/x", after_lookup=True).handle
    assert fs.read(reader, 0, 10) == b"old"
    assert node_of(world, "x").content is None
    fs.write(writer, 0, b"new")
    assert fs.read(reader, 0, 10) == b"new"


def test_a_stored_version_by_somebody_else_still_makes_older_handles_stale(world):
    fs = world.filesystem
    first = world.store("x", b"one")
    old = fs.open(f"{HOME}/x").handle
    world.archive.remove_item(world.root, first)
    world.store("x", b"two")
    fs.getattr(f"{HOME}/x")
    with pytest.raises(StaleHandle):
        fs.read(old, 0, 10)


def test_what_was_written_here_keeps_number_time_and_version_when_it_is_stored(world):
    """So no handle goes stale, and no page is read again, because the server has it now."""
    fs = world.filesystem
    world.write(f"{HOME}/x", b"12345")
    before = fs.getattr(f"{HOME}/x")
    reader = fs.open(f"{HOME}/x", after_lookup=True).handle
    assert fs.read(reader, 0, 2) == b"12"
    node = node_of(world, "x")
    dataset = world.archive.add_dataset({"x": b"12345"}, folder=world.root)
    (datafile,) = dataset.datafiles
    from agorafs.uploads.nodes import StoredAs

    with world.local.store.lock:
        world.local.store.locked_remember(
            Kind.DATAFILE, datafile.id, StoredAs(node.ino, node.mtime_ns, node.token), datafile.sha1
        )
    fs.refresh(None)
    assert world.names() == ["x"], "while it is both, it is shown once"
    world.uploads.remove(node)
    after = fs.getattr(f"{HOME}/x")
    assert (after.ino, after.size, after.mtime_ns) == (before.ino, before.size, before.mtime_ns)
    assert fs.read(reader, 2, 3) == b"345"
    assert fs.open(f"{HOME}/x", after_lookup=True).keep_pages


# -- archived data -----------------------------------------------------------------------------------


@pytest.fixture
def archived(world):
    """Paths of files that can not be replaced: of a series, and of a dataset of several files in a folder."""
    exam = world.archive.add_exam(world.project.id, "E")
    series = world.archive.add_series(exam.id, "S")
    world.archive.add_dataset({"scan.h5": b"0123456789"}, series=series.id)
    world.archive.add_dataset({"a": b"0123456789", "b": b"1"}, folder=world.root, name="set")
    world.filesystem.refresh(None)
    return ["/projects/P/exams/E/S/scan.h5", f"{HOME}/set/a"]


def test_archived_data_can_be_opened_for_writing_and_be_written_as_it_is(world, archived):
    """Programs do that which only read (the ISMRMRD library writes the header that it has read)."""
    fs = world.filesystem
    for path in archived:
        handle = fs.open(path, os.O_RDWR).handle
        assert fs.write(handle, 2, b"234") == 3
        fs.truncate("", 10, handle)
        fs.allocate(handle, 0, 0, 10)
        fs.flush(handle)
        fs.fsync(handle)
        assert fs.read(handle, 0, 20) == b"0123456789"
        fs.release(handle)


def test_the_first_byte_that_would_change_archived_data_is_refused_with_the_reason(world, archived):
    fs = world.filesystem
    for path in archived:
        handle = fs.open(path, os.O_RDWR).handle
        for change in (
            lambda: fs.write(handle, 2, b"2x4"),  # noqa: B023 - called at once
            lambda: fs.write(handle, 9, b"9more"),  # noqa: B023
            lambda: fs.truncate("", 5, handle),  # noqa: B023
            lambda: fs.allocate(handle, 0, 0, 11),  # noqa: B023
            lambda: fs.open(path, os.O_WRONLY | os.O_TRUNC),  # noqa: B023
            lambda: fs.truncate(path, 0),  # noqa: B023
        ):
            with pytest.raises(PermissionDenied, match="archived"):
                change()
        assert fs.read(handle, 0, 20) == b"0123456789"
        assert "archived" in world.error(path)
    assert world.local.journal.nodes() == []


def test_a_dataset_in_the_archive_takes_no_further_files(world, archived):
    with pytest.raises(PermissionDenied, match="dataset"):
        world.filesystem.create(f"{HOME}/set/c")


def test_a_write_that_changes_nothing_is_compared_piece_by_piece(world):
    """Also across the size in which pieces are compared."""
    content = os.urandom((1 << 20) + 5000)
    exam = world.archive.add_exam(world.project.id, "E")
    world.archive.add_dataset({"x": content}, exam=exam.id)
    fs = world.filesystem
    handle = fs.open("/projects/P/exams/E/x", os.O_RDWR).handle
    assert fs.write(handle, 3, content[3:]) == len(content) - 3
    wrong = bytearray(content)
    wrong[-1] ^= 1
    with pytest.raises(PermissionDenied):
        fs.write(handle, 0, bytes(wrong))


def test_below_dot_agora_nothing_is_written(world):
    with pytest.raises(PermissionDenied):
        world.filesystem.open(f"{HOME}/.agora/path", os.O_RDWR)
    with pytest.raises(PermissionDenied):
        world.filesystem.create(f"{HOME}/.agora/new")


def test_a_local_directory_has_no_dot_agora_yet(world):
    world.filesystem.make_directory(f"{HOME}/d")
    with pytest.raises(NotFound, match="stored"):
        world.filesystem.getattr(f"{HOME}/d/.agora")


def test_names_that_desktops_probe_for_are_answered_from_memory_in_local_directories_too(world):
    fs = world.filesystem
    fs.make_directory(f"{HOME}/d")
    world.write(f"{HOME}/d/.hidden", b"x")
    world.clock.advance(1000)
    world.archive.calls.clear()
    with pytest.raises(NotFound):
        fs.getattr(f"{HOME}/d/.directory")
    assert world.archive.calls == []
    assert fs.getattr(f"{HOME}/d/.hidden").size == 1
    with pytest.raises(NotFound):
        fs.getattr(f"{HOME}/.directory")


def test_a_temporary_file_is_local(world):
    world.write(f"{HOME}/.goutputstream-ABC123", b"1")
    assert world.uploads.state(node_of(world, ".goutputstream-ABC123")) is NodeState.LOCAL
