"""What making, renaming and removing names becomes: local nodes, calls to the server, or a reason."""

from __future__ import annotations

import os

import pytest

from agorafs.cache.metadata import Freshness
from agorafs.client.records import Kind
from agorafs.errors import (
    AlreadyExists,
    BadCommand,
    CrossDevice,
    IsADirectory,
    NotADirectory,
    NotEmpty,
    NotFound,
    NotPermitted,
    PermissionDenied,
    RemoteUnavailable,
)
from agorafs.tree.naming import Naming
from agorafs.tree.tree import Tree
from agorafs.uploads.values import Anchor
from agorafs.vfs.renames import RENAME_NOREPLACE
from agorafs.vfs.whiteouts import GRACE_S
from tests.vfs.world import HOME, World

EXAMS = "/projects/P/exams"


@pytest.fixture
def world(tmp_path):
    one = World(tmp_path)
    yield one
    one.close()


@pytest.fixture
def deleting(tmp_path):
    one = World(tmp_path, allow_delete=True)
    yield one
    one.close()


def node_of(world, name, folder=None):
    node = world.uploads.find(Anchor(Kind.FOLDER, folder or world.root), name)
    assert node is not None
    return node


def dataset_taken(world, name):
    taken = node_of(world, name).takes_place_of
    return None if taken is None else taken.dataset


# -- directories -------------------------------------------------------------------------------------


def test_a_directory_is_made_here_and_holds_files_and_directories(world):
    fs = world.filesystem
    fs.make_directory(f"{HOME}/d")
    fs.make_directory(f"{HOME}/d/e")
    world.write(f"{HOME}/d/e/x", b"1")
    assert world.names() == ["d"]
    assert world.names(f"{HOME}/d/e") == ["x"]
    assert world.server.calls == []
    with pytest.raises(AlreadyExists):
        fs.make_directory(f"{HOME}/d")
    with pytest.raises(NotADirectory):
        fs.getattr(f"{HOME}/d/e/x/y")
    with pytest.raises(NotFound):
        fs.getattr(f"{HOME}/d/none")


@pytest.mark.parametrize("name", [".Trash", ".Trash-1000"])
def test_a_file_managers_trash_is_refused_so_that_it_leaves_the_file_where_it_is(world, name):
    with pytest.raises(NotPermitted, match="trash"):
        world.filesystem.make_directory(f"{HOME}/{name}")
    world.filesystem.make_directory(f"{HOME}/d")
    with pytest.raises(NotPermitted):
        world.filesystem.rename(f"{HOME}/d", f"{HOME}/{name}")


def test_an_empty_local_directory_is_removed_and_one_that_is_not_stays(world):
    fs = world.filesystem
    fs.make_directory(f"{HOME}/d")
    world.write(f"{HOME}/d/x", b"1")
    with pytest.raises(NotEmpty):
        fs.remove_directory(f"{HOME}/d")
    with pytest.raises(IsADirectory):
        fs.remove(f"{HOME}/d")
    with pytest.raises(NotADirectory):
        fs.remove_directory(f"{HOME}/d/x")
    fs.remove(f"{HOME}/d/x")
    fs.remove_directory(f"{HOME}/d")
    assert world.names() == []


def test_an_empty_folder_of_the_server_is_deleted_there_and_gone_at_once(world):
    folder = world.archive.add_folder("f", world.root)
    assert world.names() == ["f"]
    world.filesystem.remove_directory(f"{HOME}/f")
    assert world.server.calls == [f"delete_folder {folder.id}"]
    assert world.names() == []


def test_a_folder_is_deleted_only_if_a_fresh_look_finds_it_empty(world):
    """The server deletes a folder with all that is in it, and what another has put there is not in memory.

    A folder is deleted only when a fresh look at the server finds it empty.
    """
    folder = world.archive.add_folder("f", world.root)
    assert world.names(f"{HOME}/f") == []
    world.archive.add_dataset({"x": b"1"}, folder=folder.id)
    with pytest.raises(NotEmpty):
        world.filesystem.remove_directory(f"{HOME}/f")
    assert world.server.calls == []
    assert world.names(f"{HOME}/f") == ["x"]


def test_what_is_not_shown_keeps_a_folder_too(world):
    folder = world.archive.add_folder("f", world.root)
    world.archive.add_item(folder.id, "query", 77, None)
    with pytest.raises(NotEmpty, match="not shown"):
        world.filesystem.remove_directory(f"{HOME}/f")
    assert world.server.calls == []


def test_what_is_not_stored_yet_keeps_a_folder_too(world):
    world.archive.add_folder("f", world.root)
    world.write(f"{HOME}/f/x", b"1")
    with pytest.raises(NotEmpty):
        world.filesystem.remove_directory(f"{HOME}/f")
    assert world.server.calls == []


@pytest.mark.parametrize("path", ["/projects", HOME, EXAMS, "/patients"])
def test_directories_that_the_server_makes_stay(world, path):
    with pytest.raises(PermissionDenied):
        world.filesystem.remove_directory(path)
    with pytest.raises(PermissionDenied):
        world.filesystem.rename(path, f"{path}2")


def test_a_folder_that_somebody_else_has_deleted_is_removed_all_the_same(world):
    folder = world.archive.add_folder("f", world.root)
    world.names()
    world.server.delete_folder(folder.id)
    world.filesystem.remove_directory(f"{HOME}/f")
    assert world.names() == []


# -- removing files and links ------------------------------------------------------------------------


def test_a_local_file_is_removed_here(world):
    world.write(f"{HOME}/x", b"1")
    world.filesystem.remove(f"{HOME}/x")
    assert world.names() == []
    assert world.server.calls == []
    with pytest.raises(NotFound):
        world.filesystem.remove(f"{HOME}/x")


def test_a_stored_file_goes_to_the_servers_trash_and_is_gone_at_once(world):
    world.store("x", b"1")
    world.filesystem.remove(f"{HOME}/x")
    assert [call.split()[0] for call in world.server.calls] == ["delete_folder_item"]
    assert world.names() == []


def test_a_file_that_the_server_does_not_let_go_is_still_there(world):
    world.store("x", b"1")
    world.server.fail_with = RemoteUnavailable("away")
    with pytest.raises(RemoteUnavailable):
        world.filesystem.remove(f"{HOME}/x")
    assert world.names() == ["x"]


def test_removing_a_new_version_removes_the_stored_one_too(world):
    """The user wants the name gone, and not the version of before back."""
    world.store("x", b"1")
    world.write(f"{HOME}/x", b"2")
    world.filesystem.remove(f"{HOME}/x")
    assert world.names() == []
    assert [call.split()[0] for call in world.server.calls] == ["delete_folder_item"]


def test_a_new_version_stays_if_the_stored_one_can_not_be_removed(world):
    world.store("x", b"1")
    world.write(f"{HOME}/x", b"2")
    world.server.fail_with = RemoteUnavailable("away")
    with pytest.raises(RemoteUnavailable):
        world.filesystem.remove(f"{HOME}/x")
    assert world.read(f"{HOME}/x") == b"2"


def test_a_stored_file_that_is_open_for_writing_is_removed_like_any_other(world):
    fs = world.filesystem
    world.store("x", b"123")
    handle = fs.open(f"{HOME}/x", os.O_RDWR).handle
    fs.remove(f"{HOME}/x")
    assert world.names() == []
    assert fs.read(handle, 0, 10) == b"123"
    fs.release(handle)


def test_removing_a_link_removes_the_link_and_never_the_object(world):
    exam = world.archive.add_exam(world.project.id, "E")
    item = world.archive.add_item(world.root, "exam", exam.id, exam, is_link=True)
    world.filesystem.remove(f"{HOME}/E")
    assert world.server.calls == [f"delete_folder_item {item.id}"]
    assert world.names(EXAMS) == ["E"]


def test_links_that_the_server_makes_and_second_names_stay(world):
    patient = world.archive.add_patient("X")
    exam = world.archive.add_exam(world.project.id, "E", patient=patient.id)
    for path in ("/patients/X/E", "/projects/P/patients/X/E", f"{EXAMS}/E ({exam.id})"):
        with pytest.raises(PermissionDenied):
            world.filesystem.remove(path)


def test_a_removed_file_can_still_be_used_by_who_has_it_open_and_its_name_is_free(world):
    fs = world.filesystem
    old = fs.create(f"{HOME}/x").handle
    fs.write(old, 0, b"old")
    fs.remove(f"{HOME}/x")
    world.write(f"{HOME}/x", b"another")
    fs.write(old, 3, b"er")
    assert fs.read(old, 0, 100) == b"older"
    assert fs.getattr("", old).size == 5
    fs.truncate("", 1, old)
    fs.flush(old)
    fs.fsync(old)
    assert world.read(f"{HOME}/x") == b"another"
    assert not fs.has_stale_handles()
    fs.release(old)
    assert world.names() == ["x"]


# -- what can only be deleted as a whole -------------------------------------------------------------


@pytest.fixture
def dataset(world):
    """A folder ``set`` that is a dataset of three files, one in a directory."""
    return world.archive.add_dataset({"a": b"1", "b": b"2", "in/c": b"3"}, folder=world.root, name="set")


def test_files_of_a_dataset_are_hidden_one_by_one_and_with_the_last_the_dataset_is_deleted(world, dataset):
    """As ``rm -r`` does it, which also wants to find the directory that it has just emptied."""
    fs = world.filesystem
    fs.remove(f"{HOME}/set/a")
    fs.remove(f"{HOME}/set/b")
    assert world.names(f"{HOME}/set") == ["in"]
    assert world.server.calls == []
    with pytest.raises(NotFound):
        fs.getattr(f"{HOME}/set/a")
    fs.remove(f"{HOME}/set/in/c")
    assert [call.split()[0] for call in world.server.calls] == ["delete_folder_item"]
    fs.remove_directory(f"{HOME}/set/in")
    assert world.names(f"{HOME}/set") == []
    fs.remove_directory(f"{HOME}/set")
    assert world.names() == []
    with pytest.raises(NotFound):
        fs.getattr(f"{HOME}/set")


def test_a_dataset_that_has_lost_only_some_files_is_whole_again_after_a_while_and_says_why(world, dataset):
    fs = world.filesystem
    fs.remove(f"{HOME}/set/a")
    world.clock.advance(GRACE_S - 1)
    assert world.names(f"{HOME}/set") == ["b", "in"]
    with pytest.raises(NotEmpty):
        fs.remove_directory(f"{HOME}/set")
    world.clock.advance(1)
    assert world.names(f"{HOME}/set") == ["a", "b", "in"]
    assert world.read(f"{HOME}/set/a") == b"1"
    assert "only as a whole" in world.error(f"{HOME}/set/a")
    assert world.server.calls == []


def test_a_dataset_that_has_got_further_files_meanwhile_is_not_deleted(world, dataset):
    fs = world.filesystem
    for name in ("a", "b"):
        fs.remove(f"{HOME}/set/{name}")
    datafiles = (*dataset.datafiles, *world.archive.add_dataset({"d": b"4"}, folder=None).datafiles)
    from dataclasses import replace

    world.archive._datasets[dataset.id] = replace(dataset, datafiles=datafiles)
    with pytest.raises(NotEmpty, match="further"):
        fs.remove(f"{HOME}/set/in/c")
    assert world.server.calls == []
    assert "a" in world.names(f"{HOME}/set")


def test_a_dataset_that_the_server_does_not_delete_is_whole_again(world, dataset):
    fs = world.filesystem
    for name in ("a", "b"):
        fs.remove(f"{HOME}/set/{name}")
    world.server.fail_with = RemoteUnavailable("away")
    with pytest.raises(RemoteUnavailable):
        fs.remove(f"{HOME}/set/in/c")
    assert world.names(f"{HOME}/set") == ["a", "b", "in"]


def test_outside_of_folders_nothing_can_be_deleted_unless_the_mount_allows_it(world):
    """Outside `folders/` nothing can be deleted unless mounted with `allow_delete`."""
    exam = world.archive.add_exam(world.project.id, "E")
    series = world.archive.add_series(exam.id, "S")
    world.archive.add_dataset({"one": b"1"}, series=series.id)
    world.archive.add_dataset({"a": b"1", "b": b"2"}, series=series.id, name="two")
    fs = world.filesystem
    for path in (f"{EXAMS}/E/S/one", f"{EXAMS}/E/S/two/a"):
        with pytest.raises(PermissionDenied, match="allow_delete"):
            fs.remove(path)
    for path in (f"{EXAMS}/E", f"{EXAMS}/E/S", f"{EXAMS}/E/S/two"):
        with pytest.raises(PermissionDenied, match="allow_delete"):
            fs.remove_directory(path)
    assert world.server.calls == []


def test_with_allow_delete_an_exam_is_removed_from_the_bottom_up(deleting):
    world, fs = deleting, deleting.filesystem
    exam = world.archive.add_exam(world.project.id, "E")
    series = world.archive.add_series(exam.id, "S")
    one = world.archive.add_dataset({"one": b"1"}, series=series.id)
    two = world.archive.add_dataset({"a": b"1", "b": b"2"}, series=series.id, name="two")
    for path in (f"{EXAMS}/E", f"{EXAMS}/E/S"):
        with pytest.raises(NotEmpty):
            fs.remove_directory(path)
    fs.remove(f"{EXAMS}/E/S/one")
    fs.remove(f"{EXAMS}/E/S/two/a")
    fs.remove(f"{EXAMS}/E/S/two/b")
    for path in (f"{EXAMS}/E/S/two", f"{EXAMS}/E/S", f"{EXAMS}/E"):
        fs.remove_directory(path)
    assert world.server.calls == [
        f"delete_object dataset {one.id}",
        f"delete_object dataset {two.id}",
        f"delete_object series {series.id}",
        f"delete_object exam {exam.id}",
    ]
    assert world.names(EXAMS) == []


def test_with_allow_delete_a_locked_exam_stays(deleting):
    exam = deleting.archive.add_exam(deleting.project.id, "E", locked=True)
    deleting.archive.add_dataset({"x": b"1"}, exam=exam.id)
    with pytest.raises(PermissionDenied, match="locked"):
        deleting.filesystem.remove(f"{EXAMS}/E/x")


# -- renaming what is local --------------------------------------------------------------------------


def test_a_local_file_can_be_renamed_anywhere_that_files_can_be_put(world):
    fs = world.filesystem
    world.archive.add_folder("f", world.root)
    world.write(f"{HOME}/x", b"1")
    fs.make_directory(f"{HOME}/d")
    for old, new in (("x", "y"), ("y", "f/y"), ("f/y", "d/z"), ("d/z", "x")):
        fs.rename(f"{HOME}/{old}", f"{HOME}/{new}")
        assert world.read(f"{HOME}/{new}") == b"1"
        with pytest.raises(NotFound):
            fs.getattr(f"{HOME}/{old}")
    with pytest.raises(PermissionDenied):
        fs.rename(f"{HOME}/x", "/projects/P/exams/x")
    with pytest.raises(BadCommand):
        fs.rename(f"{HOME}/x", f"{HOME}/a\\b")


def test_a_directory_moves_with_all_that_is_in_it_and_the_handles_go_along(world):
    fs = world.filesystem
    fs.make_directory(f"{HOME}/d")
    handle = fs.create(f"{HOME}/d/x").handle
    fs.getattr(f"{HOME}/d/x")
    fs.rename(f"{HOME}/d", f"{HOME}/e")
    fs.write(handle, 0, b"1")
    assert world.read(f"{HOME}/e/x") == b"1"
    assert fs._handles.get(handle).path == f"{HOME}/e/x"
    with pytest.raises(BadCommand):
        fs.rename(f"{HOME}/e", f"{HOME}/e/inner")


def test_a_kernel_need_not_look_again_after_its_own_rename(world):
    fs = world.filesystem
    world.write(f"{HOME}/x", b"1")
    fs.getattr(f"{HOME}/x")
    fs.rename(f"{HOME}/x", f"{HOME}/y")
    fs.open(f"{HOME}/y", after_lookup=True)


def test_a_file_renamed_over_a_stored_one_replaces_it_and_who_has_that_open_reads_on(world):
    """``rsync``, ``sed -i``, editors: a temporary name, then a rename over the file."""
    fs = world.filesystem
    dataset = world.store("x", b"old")
    reader = fs.open(f"{HOME}/x").handle
    world.write(f"{HOME}/.x.AbC123", b"new")
    writer = fs.open(f"{HOME}/.x.AbC123", os.O_RDWR).handle
    fs.rename(f"{HOME}/.x.AbC123", f"{HOME}/x")
    assert world.names() == ["x"]
    assert world.read(f"{HOME}/x") == b"new"
    assert dataset_taken(world, "x") == dataset
    assert world.server.calls == []
    assert fs.read(reader, 0, 10) == b"old"
    fs.write(writer, 3, b"er")
    assert world.read(f"{HOME}/x") == b"newer"
    assert not fs.has_stale_handles()


def test_a_file_renamed_over_a_local_one_inherits_what_that_was_to_replace(world):
    fs = world.filesystem
    dataset = world.store("x", b"old")
    world.write(f"{HOME}/x", b"newer")
    world.write(f"{HOME}/tmp", b"newest")
    fs.rename(f"{HOME}/tmp", f"{HOME}/x")
    assert world.names() == ["x"]
    assert world.read(f"{HOME}/x") == b"newest"
    assert dataset_taken(world, "x") == dataset


def test_a_file_renamed_over_one_that_is_open_for_writing_replaces_the_stored_one(world):
    fs = world.filesystem
    dataset = world.store("x", b"old")
    handle = fs.open(f"{HOME}/x", os.O_RDWR).handle
    world.write(f"{HOME}/tmp", b"new")
    fs.rename(f"{HOME}/tmp", f"{HOME}/x")
    assert dataset_taken(world, "x") == dataset
    assert fs.read(handle, 0, 10) == b"old"
    fs.release(handle)
    assert world.read(f"{HOME}/x") == b"new"


def test_one_file_can_not_take_the_place_of_two_stored_ones(world):
    """So that none of the two comes back, or goes, unasked: the program copies and removes, in the open."""
    world.store("x", b"1")
    world.store("y", b"2")
    world.write(f"{HOME}/x", b"3")
    with pytest.raises(CrossDevice):
        world.filesystem.rename(f"{HOME}/x", f"{HOME}/y")
    assert (world.read(f"{HOME}/x"), world.read(f"{HOME}/y")) == (b"3", b"2")


def test_links_and_archived_files_are_not_renamed_over(world):
    exam = world.archive.add_exam(world.project.id, "E")
    world.archive.add_item(world.root, "exam", exam.id, exam, is_link=True)
    world.archive.add_dataset({"report": b"1"}, exam=exam.id)
    world.write(f"{HOME}/x", b"1")
    with pytest.raises(PermissionDenied, match="link"):
        world.filesystem.rename(f"{HOME}/x", f"{HOME}/E")
    with pytest.raises(PermissionDenied, match="archived"):
        world.filesystem.rename(f"{HOME}/x", f"{EXAMS}/E/report")
    assert world.read(f"{HOME}/x") == b"1"


def test_types_and_emptiness_count_as_in_posix(world):
    fs = world.filesystem
    for name in ("d", "e", "full"):
        fs.make_directory(f"{HOME}/{name}")
    world.write(f"{HOME}/full/x", b"1")
    world.write(f"{HOME}/x", b"1")
    with pytest.raises(IsADirectory):
        fs.rename(f"{HOME}/x", f"{HOME}/d")
    with pytest.raises(NotADirectory):
        fs.rename(f"{HOME}/d", f"{HOME}/x")
    with pytest.raises(NotEmpty):
        fs.rename(f"{HOME}/d", f"{HOME}/full")
    fs.rename(f"{HOME}/full", f"{HOME}/d")
    assert world.names() == ["d", "e", "x"]
    assert world.names(f"{HOME}/d") == ["x"]
    fs.rename(f"{HOME}/x", f"{HOME}/x")
    with pytest.raises(NotFound):
        fs.rename(f"{HOME}/none", f"{HOME}/none")


def test_the_flags_of_renameat2_count(world):
    fs = world.filesystem
    world.write(f"{HOME}/x", b"1")
    world.write(f"{HOME}/y", b"2")
    with pytest.raises(AlreadyExists):
        fs.rename(f"{HOME}/x", f"{HOME}/y", RENAME_NOREPLACE)
    fs.rename(f"{HOME}/x", f"{HOME}/z", RENAME_NOREPLACE)
    with pytest.raises(BadCommand):
        fs.rename(f"{HOME}/y", f"{HOME}/z", 2)  # RENAME_EXCHANGE
    assert (world.read(f"{HOME}/y"), world.read(f"{HOME}/z")) == (b"2", b"1")


# -- a stored file that is set aside -----------------------------------------------------------------


def test_an_editor_renames_the_old_file_away_and_writes_a_new_one(world):
    """``dcmodify``, vim with a backup: the dataset stays until its successor has been stored."""
    fs = world.filesystem
    dataset = world.store("x", b"old")
    reader = fs.open(f"{HOME}/x").handle
    before = fs.getattr(f"{HOME}/x")
    fs.rename(f"{HOME}/x", f"{HOME}/x.bak")
    assert world.names() == ["x.bak"]
    assert fs.getattr(f"{HOME}/x.bak").ino == before.ino
    assert fs.read(reader, 0, 10) == b"old"
    world.write(f"{HOME}/x", b"new")
    assert world.names() == ["x", "x.bak"]
    assert (world.read(f"{HOME}/x"), world.read(f"{HOME}/x.bak")) == (b"new", b"old")
    assert dataset_taken(world, "x") == dataset
    assert world.server.calls == []


def test_the_backup_can_be_removed_before_its_successor_is_stored(world):
    dataset = world.store("x", b"old")
    world.filesystem.rename(f"{HOME}/x", f"{HOME}/x~")
    world.write(f"{HOME}/x", b"new")
    world.filesystem.remove(f"{HOME}/x~")
    assert world.names() == ["x"]
    assert dataset_taken(world, "x") == dataset
    assert world.server.calls == [], "it is what x takes the place of, once x has arrived"


def test_a_backup_without_a_successor_is_the_stored_file_and_removed_as_such(world):
    world.store("x", b"old")
    world.filesystem.rename(f"{HOME}/x", f"{HOME}/x~")
    world.filesystem.remove(f"{HOME}/x~")
    assert [call.split()[0] for call in world.server.calls] == ["delete_folder_item"]
    assert world.names() == []


def test_a_temporary_file_renamed_to_the_name_that_was_set_aside_is_its_successor(world):
    dataset = world.store("x", b"old")
    world.filesystem.rename(f"{HOME}/x", f"{HOME}/x~")
    world.write(f"{HOME}/.goutputstream-1", b"new")
    world.filesystem.rename(f"{HOME}/.goutputstream-1", f"{HOME}/x")
    assert dataset_taken(world, "x") == dataset


def test_a_file_set_aside_and_renamed_back_is_the_stored_file_again(world):
    fs = world.filesystem
    world.store("x", b"old")
    fs.rename(f"{HOME}/x", f"{HOME}/x~")
    fs.rename(f"{HOME}/x~", f"{HOME}/x")
    assert world.names() == ["x"]
    assert world.uploads.children(Anchor(Kind.FOLDER, world.root)) == []
    assert world.read(f"{HOME}/x") == b"old"
    assert fs.getxattr(f"{HOME}/x", "user.agora.state") == b"stored"


def test_an_older_backup_gives_way_to_a_new_one(world):
    fs = world.filesystem
    world.write(f"{HOME}/x~", b"older")
    world.store("x", b"old")
    fs.rename(f"{HOME}/x", f"{HOME}/x~")
    assert world.read(f"{HOME}/x~") == b"old"


# -- renaming what is stored -------------------------------------------------------------------------


def test_a_stored_file_can_not_get_another_name_and_the_program_copies(world):
    world.store("x", b"1")
    with pytest.raises(CrossDevice):
        world.filesystem.rename(f"{HOME}/x", f"{HOME}/y")
    assert world.server.calls == []


def test_a_stored_file_moves_to_another_folder_by_the_servers_call(world):
    fs = world.filesystem
    folder = world.archive.add_folder("f", world.root)
    dataset = world.store("x", b"1")
    handle = fs.open(f"{HOME}/x").handle
    world.names(f"{HOME}/f")
    fs.rename(f"{HOME}/x", f"{HOME}/f/x")
    assert world.server.calls == [f"move_dataset {dataset} {world.project.id} {folder.id}"]
    assert (world.names(), world.names(f"{HOME}/f")) == (["f"], ["x"])
    assert fs.read(handle, 0, 10) == b"1"


def test_a_move_that_would_change_the_name_or_meet_another_file_is_a_copy(world):
    folder = world.archive.add_folder("f", world.root)
    world.store("x", b"1")
    world.store("x", b"2", folder=folder.id)
    for new in ("f/x", "f/y"):
        with pytest.raises(CrossDevice):
            world.filesystem.rename(f"{HOME}/x", f"{HOME}/{new}")
    world.filesystem.make_directory(f"{HOME}/d")
    with pytest.raises(CrossDevice):
        world.filesystem.rename(f"{HOME}/x", f"{HOME}/d/x")
    assert world.server.calls == []


def test_a_folder_is_renamed_in_its_parent_and_what_waits_in_it_goes_along(world):
    fs = world.filesystem
    folder = world.archive.add_folder("f", world.root)
    world.archive.add_folder("other", world.root)
    world.write(f"{HOME}/f/x", b"1")
    handle = fs.open(f"{HOME}/f/x").handle
    fs.rename(f"{HOME}/f", f"{HOME}/g")
    assert world.server.calls == [f"rename_folder {folder.id} g"]
    assert world.names() == ["g", "other"]
    assert world.read(f"{HOME}/g/x") == b"1"
    assert fs._handles.get(handle).path == f"{HOME}/g/x"
    for new in (f"{HOME}/other/g", f"{HOME}/other"):
        with pytest.raises((CrossDevice, NotEmpty)):
            fs.rename(f"{HOME}/g", new)


def test_exams_and_series_are_renamed_in_place_and_links_to_them_still_lead_there(world):
    fs = world.filesystem
    exam = world.archive.add_exam(world.project.id, "E")
    world.archive.add_item(world.root, "exam", exam.id, exam, is_link=True)
    series = world.archive.add_series(exam.id, "S")
    world.names()
    world.names(EXAMS)
    world.names(f"{EXAMS}/E")
    fs.rename(f"{EXAMS}/E/S", f"{EXAMS}/E/T")
    fs.rename(f"{EXAMS}/E", f"{EXAMS}/F")
    assert world.server.calls == [f"rename_series {series.id} T", f"rename_exam {exam.id} F"]
    assert world.names(f"{EXAMS}/F") == ["T"]
    assert world.names() == ["F"]
    assert fs.readlink(f"{HOME}/F") == f"../exams/F ({exam.id})"
    with pytest.raises(CrossDevice):
        fs.rename(f"{EXAMS}/F", f"{HOME}/F2")


def test_an_exam_that_is_shown_by_a_pattern_is_not_given_a_name_that_would_not_be_seen(world):
    world.archive.add_exam(world.project.id, "E")
    tree = Tree(
        world.archive,
        user=world.archive.user,
        my_agora=None,
        freshness=Freshness(),
        max_entries=1000,
        clock=world.clock,
        naming=Naming("{id} {name}"),
    )
    fs = world.filesystem
    fs._tree = fs.merged._tree = fs._renames._tree = tree
    (name,) = world.names(EXAMS)
    with pytest.raises(PermissionDenied, match="pattern"):
        fs.rename(f"{EXAMS}/{name}", f"{EXAMS}/new")
    assert world.server.calls == []
    tree.close()


# -- links -------------------------------------------------------------------------------------------


@pytest.fixture
def objects(world):
    """A folder ``f`` for links; an exam, a series, a file and a dataset of two, by the path they are found at."""
    world.folder = world.archive.add_folder("f", world.root).id
    exam = world.archive.add_exam(world.project.id, "E")
    series = world.archive.add_series(exam.id, "S")
    file = world.archive.add_dataset({"x.txt": b"1"}, folder=world.root)
    two = world.archive.add_dataset({"a": b"1", "b": b"2"}, series=series.id, name="two")
    sub = world.archive.add_folder("sub", world.root)
    return {
        "../../exams/E": ("E", f"exam {exam.id}"),
        f"../../exams/E ({exam.id})": ("E", f"exam {exam.id}"),
        f"../../../../.agora/by-id/exam/{exam.id}": ("E", f"exam {exam.id}"),
        "../../exams/E/S": ("S", f"series {series.id}"),
        f"../../../../.agora/by-id/exam/{exam.id}/S": ("S", f"series {series.id}"),
        "../x.txt": ("x.txt", f"dataset {file.id}"),
        "./../../folders//x.txt": ("x.txt", f"dataset {file.id}"),
        "../../exams/E/S/two": ("two", f"dataset {two.id}"),
        "../sub": ("sub", f"folder {sub.id}"),
        "/mnt/agora/projects/P/exams/E": ("E", f"exam {exam.id}"),
        "../../../../../agora/projects/P/exams/E": ("E", f"exam {exam.id}"),
    }


def test_a_link_to_anything_that_the_archive_can_link_to_becomes_a_link_there(world, objects):
    world.filesystem.mounted_at("/mnt/agora")
    for text, (name, ref) in objects.items():
        world.server.calls.clear()
        world.filesystem.make_link(f"{HOME}/f/{name}", text)
        assert world.server.calls == [f"link {ref} {world.folder}"]
        assert world.names(f"{HOME}/f") == [name], "it is seen at once"
        world.filesystem.remove(f"{HOME}/f/{name}")


def test_a_link_must_have_the_name_of_its_object_and_the_reason_says_which(world, objects):
    with pytest.raises(NotPermitted, match="'E'"):
        world.filesystem.make_link(f"{HOME}/f/another", "../../exams/E")
    assert "'E'" in world.error(f"{HOME}/f")
    assert world.server.calls == []


def test_a_second_object_of_one_name_is_linked_with_its_id(world, objects):
    fs = world.filesystem
    other = world.archive.add_exam(world.project.id, "E")
    fs.refresh(None)
    fs.make_link(f"{HOME}/f/E", "../../exams/E")
    with pytest.raises(AlreadyExists):
        fs.make_link(f"{HOME}/f/E", f"../../exams/E ({other.id})")
    fs.make_link(f"{HOME}/f/E ({other.id})", f"../../exams/E ({other.id})")
    assert world.names(f"{HOME}/f") == ["E", f"E ({other.id})"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("/etc/hosts", "out of this mount"),
        ("/mnt/agora2/projects/P", "out of this mount"),
        ("../../../../../../etc/hosts", "out of this mount"),
        ("../none", "does not exist"),
        ("../x.txt/inner", "does not exist"),
        ("../local", "not .yet. stored"),
        ("../../exams/E/S/two/a", "is none"),
        ("../..", "is none"),
        ("../../../../projects/P", "is none"),
    ],
)
def test_what_the_archive_can_not_link_to_is_refused_with_the_reason(world, objects, text, words):
    world.filesystem.mounted_at("/mnt/agora")
    world.write(f"{HOME}/local", b"1")
    with pytest.raises(NotPermitted, match=words):
        world.filesystem.make_link(f"{HOME}/f/{text.rpartition('/')[2]}x", text)
    assert world.server.calls == []


def test_links_are_made_in_folders_of_the_archive_only(world, objects):
    world.filesystem.make_directory(f"{HOME}/d")
    for path in (f"{HOME}/d/E", f"{EXAMS}/E/x.txt"):
        with pytest.raises(NotPermitted):
            world.filesystem.make_link(path, f"{EXAMS}/E")


def test_a_reason_that_is_noted_twice_is_listed_once(world):
    with pytest.raises(NotPermitted) as refused:
        world.filesystem.refuse_to_make(f"{HOME}/x", "hard links")
    world.filesystem.note_failure(f"{HOME}/x", refused.value)
    paths = [complaint["path"] for complaint in world.filesystem.status()["recent_errors"]]
    assert paths == [HOME, f"{HOME}/x"]


def test_hard_links_and_devices_are_refused_with_the_reason(world):
    with pytest.raises(NotPermitted, match="hard links"):
        world.filesystem.refuse_to_make(f"{HOME}/x", "hard links")
    assert "hard links" in world.error(HOME)


# -- one tree ----------------------------------------------------------------------------------------


def test_a_listing_shows_each_name_once_and_nothing_that_a_local_file_stands_for(world):
    world.store("x", b"1")
    world.store("y", b"2")
    world.store("z", b"3")
    world.write(f"{HOME}/x", b"new")
    world.filesystem.rename(f"{HOME}/y", f"{HOME}/y.bak")
    assert world.names() == ["x", "y.bak", "z"]
    with pytest.raises(NotFound):
        world.filesystem.getattr(f"{HOME}/y")


def test_readdir_gives_the_same_attributes_as_getattr_of_local_nodes(world):
    fs = world.filesystem
    world.store("stored", b"1")
    fs.make_directory(f"{HOME}/d")
    world.write(f"{HOME}/d/x", b"1")
    world.write(f"{HOME}/x", b"12")
    for directory in (HOME, f"{HOME}/d"):
        for name, attr in fs.readdir(directory):
            assert fs.getattr(f"{directory}/{name}") == attr
