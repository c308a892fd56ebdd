"""File operations in POSIX words on an archive in memory."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import pytest

from agorafs.byterange import ByteRange
from agorafs.cache.content import ContentCache, ContentLimits
from agorafs.cache.metadata import Freshness
from agorafs.client.records import Role
from agorafs.errors import (
    BadHandle,
    IntegrityError,
    IsADirectory,
    NoSuchXattr,
    NotADirectory,
    NotFound,
    NotSupported,
    ReadOnly,
    RemoteUnavailable,
    StaleHandle,
    StaleLookup,
)
from agorafs.tree.tree import Tree
from agorafs.vfs import FileSystem
from agorafs.vfs.attr import FileType
from agorafs.vfs.dot_agora import DotAgora
from tests.support.manual_clock import ManualClock
from tests.support.memory_archive import TIME_NS, MemoryArchive

STARTED_NS = 1_600_000_000_000_000_000


class WholeBody:
    """A 200 answer, however small a range was asked for."""

    is_partial = False
    etag = None
    content_type = "application/octet-stream"

    def __init__(self, content: bytes) -> None:
        self._left = memoryview(content)
        self.total = len(content)
        self.byte_range = ByteRange(0, len(content))

    def readinto(self, view: memoryview, /) -> int:
        piece = self._left[: len(view)]
        view[: len(piece)] = piece
        self._left = self._left[len(piece) :]
        return len(piece)

    def close(self) -> None:
        self._left = memoryview(b"")


class MemoryRemote:
    """Serves the contents of a ``MemoryArchive``."""

    def __init__(self, archive: MemoryArchive) -> None:
        self._archive = archive

    def open_body(
        self, datafile: int, byte_range: ByteRange | None = None, *, if_range: str | None = None
    ) -> WholeBody:
        self._archive.calls.append(f"download {datafile}")
        if datafile not in self._archive.contents:
            raise NotFound(f"datafile {datafile} is gone")
        return WholeBody(self._archive.contents[datafile])


@pytest.fixture
def archive():
    return MemoryArchive()


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def filesystem(archive, clock, tmp_path):
    freshness = Freshness(ttl_s=30.0, revalidate_wait_s=5.0)
    tree = Tree(
        archive, user=archive.user, my_agora=None, freshness=freshness, max_entries=10_000, clock=clock
    )
    contents = ContentCache(
        tmp_path / "content", MemoryRemote(archive), limits=ContentLimits(min_free_bytes=0), clock=clock
    )
    made = FileSystem(
        tree,
        contents,
        DotAgora(tree, archive.describe, freshness=freshness, clock=clock),
        archive_url="http://archive",
        umask=0o022,
        started_ns=STARTED_NS,
    )
    yield made
    made.close()
    contents.close()


@pytest.fixture
def project(archive):
    return archive.add_project("P")


def read_all(filesystem, path):
    opened = filesystem.open(path)
    size = filesystem.getattr(path).size
    content = filesystem.read(opened.handle, 0, size + 10)
    filesystem.release(opened.handle)
    return content


def names(filesystem, path):
    return [name for name, _ in filesystem.readdir(path)]


def test_attributes_are_true_before_open(filesystem, archive, project):
    """Size, time and mode are true before a file is opened."""
    dataset = archive.add_dataset({"x.bin": b"12345"}, folder=project.root_folder)
    archive.calls.clear()
    attr = filesystem.getattr("/projects/P/folders/x.bin")
    assert (attr.file_type, attr.size, attr.mtime_ns) == (FileType.FILE, 5, TIME_NS)
    assert f"download {dataset.datafiles[0].id}" not in archive.calls


def test_readdir_gives_the_same_attributes_as_getattr(filesystem, archive, project):
    archive.add_dataset({"x.bin": b"12345"}, folder=project.root_folder)
    archive.add_exam(project.id, "E")
    archive.add_item(project.root_folder, "exam", 99, archive.add_exam(project.id, "F"), is_link=True)
    for directory in ("/", "/projects", "/projects/P", "/projects/P/folders", "/projects/P/exams"):
        for name, attr in filesystem.readdir(directory):
            assert filesystem.getattr(f"{directory}/{name}") == attr


def test_a_file_reads_as_what_the_archive_holds(filesystem, archive, project):
    content = os.urandom(100_000)
    archive.add_dataset({"x.bin": content}, folder=project.root_folder)
    assert read_all(filesystem, "/projects/P/folders/x.bin") == content


def test_an_empty_file_is_read_without_asking_the_server(filesystem, archive, project):
    archive.add_dataset({"empty": b""}, folder=project.root_folder)
    assert read_all(filesystem, "/projects/P/folders/empty") == b""
    assert not [call for call in archive.calls if call.startswith("download")]


def test_opening_an_already_cached_file_costs_no_request(filesystem, archive, project):
    archive.add_dataset({"x.bin": b"abc"}, folder=project.root_folder)
    archive.add_dataset({"copy.bin": b"abc"}, folder=project.root_folder)
    read_all(filesystem, "/projects/P/folders/x.bin")
    archive.calls.clear()
    assert read_all(filesystem, "/projects/P/folders/x.bin") == b"abc"
    assert read_all(filesystem, "/projects/P/folders/copy.bin") == b"abc"
    assert archive.calls == []


def test_the_kernel_may_keep_its_pages_only_while_the_version_is_the_same(filesystem, archive, project):
    path = "/projects/P/folders/x"
    first = archive.add_dataset({"x": b"one"}, folder=project.root_folder)
    opened = filesystem.open(path)
    assert not opened.keep_pages
    filesystem.read(opened.handle, 0, 1)
    assert filesystem.open(path).keep_pages
    archive.remove_item(project.root_folder, first.id)
    archive.add_dataset({"x": b"two"}, folder=project.root_folder)
    filesystem.refresh(path)
    assert not filesystem.open(path).keep_pages


def test_a_handle_of_an_older_version_is_stale_once_the_path_is_opened_anew(filesystem, archive, project):
    """Or its pages would reach the readers of the new version through the kernel's cache."""
    path = "/projects/P/folders/x"
    first = archive.add_dataset({"x": b"one"}, folder=project.root_folder)
    old = filesystem.open(path).handle
    assert filesystem.read(old, 0, 10) == b"one"
    archive.remove_item(project.root_folder, first.id)
    archive.add_dataset({"x": b"two"}, folder=project.root_folder)
    filesystem.refresh(path)
    assert filesystem.read(old, 0, 10) == b"one"
    new = filesystem.open(path).handle
    with pytest.raises(StaleHandle):
        filesystem.read(old, 0, 10)
    assert filesystem.read(new, 0, 10) == b"two"


def test_bytes_that_are_not_as_listed_mean_stale_when_the_archive_lists_others_by_now(
    filesystem, archive, project
):
    """… and whoever opens the file again gets the new ones, without waiting for the listing to expire."""
    path = "/projects/P/folders/x"
    first = archive.add_dataset({"x": b"one"}, folder=project.root_folder)
    old = filesystem.open(path).handle
    archive.remove_item(project.root_folder, first.id)
    archive.add_dataset({"x": b"two"}, folder=project.root_folder)
    archive.contents[first.datafiles[0].id] = b"two"
    for _ in range(2):
        with pytest.raises(StaleHandle):
            filesystem.read(old, 0, 10)
    assert read_all(filesystem, path) == b"two"


def test_bytes_that_are_not_as_listed_are_an_integrity_error_while_the_listing_stays_the_same(
    filesystem, archive, project
):
    path = "/projects/P/folders/x"
    first = archive.add_dataset({"x": b"one"}, folder=project.root_folder)
    handle = filesystem.open(path).handle
    archive.contents[first.datafiles[0].id] = b"two"
    archive.calls.clear()
    for _ in range(3):
        with pytest.raises(IntegrityError):
            filesystem.read(handle, 0, 10)
    assert archive.calls.count(f"folder_items {project.root_folder}") == 1


def test_a_file_that_turns_out_to_be_gone_is_missing_from_the_next_listing(filesystem, archive, project):
    first = archive.add_dataset({"x": b"one"}, folder=project.root_folder)
    handle = filesystem.open("/projects/P/folders/x").handle
    archive.remove_item(project.root_folder, first.id)
    del archive.contents[first.datafiles[0].id]
    with pytest.raises(StaleHandle):
        filesystem.read(handle, 0, 10)
    assert names(filesystem, "/projects/P/folders") == []


@pytest.fixture
def replaced(filesystem, archive, project):
    """A path with an old handle, read once, to which the archive gave a shorter file meanwhile."""
    path = "/projects/P/folders/x"
    first = archive.add_dataset({"x": b"old and long"}, folder=project.root_folder)
    filesystem.getattr(path)
    old = filesystem.open(path, after_lookup=True).handle
    filesystem.read(old, 0, 3)
    archive.remove_item(project.root_folder, first.id)
    archive.add_dataset({"x": b"new"}, folder=project.root_folder)
    filesystem.refresh(path)
    return path, old


def test_attributes_of_another_version_make_older_handles_stale_before_they_are_given(filesystem, replaced):
    """Or the kernel would end the old handle at the size of the new file."""
    path, old = replaced
    assert filesystem.getattr(path, old).size == len(b"old and long")
    assert not filesystem.has_stale_handles()
    assert filesystem.getattr(path).size == len(b"new")
    assert filesystem.has_stale_handles()
    with pytest.raises(StaleHandle):
        filesystem.getattr(path, old)
    with pytest.raises(StaleHandle):
        filesystem.read(old, 3, 3)
    filesystem.release(old)
    assert not filesystem.has_stale_handles()


def test_a_kernel_opens_only_the_version_whose_attributes_it_was_given_last(filesystem, replaced):
    """Or it would cut the new bytes at the old size."""
    path, old = replaced
    filesystem.getattr(path, old)
    with pytest.raises(StaleLookup):
        filesystem.open(path, after_lookup=True)
    assert filesystem.status()["open_files"] == 1
    filesystem.getattr(path)
    opened = filesystem.open(path, after_lookup=True)
    assert filesystem.read(opened.handle, 0, 100) == b"new"


def test_while_a_stale_handle_is_open_no_bytes_of_the_new_version_reach_the_page_cache(filesystem, replaced):
    """The stale handle would see them there."""
    path, old = replaced
    filesystem.getattr(path)
    assert filesystem.open(path).direct
    filesystem.release(old)
    assert not filesystem.open(path).direct


def test_attributes_from_an_old_listing_are_not_handed_on_for_a_file_that_has_others_now(
    filesystem, replaced
):
    path, old = replaced
    before = filesystem.getattr(path, old)
    assert filesystem.may_tell(path, before)
    after = filesystem.getattr(path)
    assert filesystem.may_tell(path, after)
    assert not filesystem.may_tell(path, before)


def test_the_same_bytes_under_another_id_make_no_handle_stale(filesystem, archive, project):
    path = "/projects/P/folders/x"
    first = archive.add_dataset({"x": b"abc"}, folder=project.root_folder)
    old = filesystem.open(path).handle
    archive.remove_item(project.root_folder, first.id)
    archive.add_dataset({"x": b"abc"}, folder=project.root_folder)
    filesystem.refresh(path)
    filesystem.getattr(path)
    assert filesystem.read(old, 0, 3) == b"abc"


def test_a_datafile_that_vanished_under_an_open_handle_is_stale(filesystem, archive, project):
    dataset = archive.add_dataset({"x": b"abc"}, folder=project.root_folder)
    handle = filesystem.open("/projects/P/folders/x").handle
    del archive.contents[dataset.datafiles[0].id]
    with pytest.raises(StaleHandle):
        filesystem.read(handle, 0, 3)


def test_a_handle_that_is_not_open_is_refused(filesystem):
    with pytest.raises(BadHandle):
        filesystem.read(7, 0, 1)
    with pytest.raises(BadHandle):
        filesystem.release(7)


def test_handles_and_paths_are_forgotten_when_they_are_closed(filesystem, archive, project):
    archive.add_dataset({"x": b"abc"}, folder=project.root_folder)
    for _ in range(1000):
        read_all(filesystem, "/projects/P/folders/x")
    assert filesystem.status()["open_files"] == 0


def test_modes_come_from_the_lock_and_the_role(filesystem, archive):
    own = archive.add_project("Own", roles=[(archive.user.id, Role.USER)])
    seen = archive.add_project("Seen", roles=[(archive.user.id, Role.OBSERVER)])
    for project in (own, seen):
        archive.add_dataset({"x": b"1"}, folder=project.root_folder)
        archive.add_exam(project.id, "E")
        archive.add_exam(project.id, "Locked", locked=True)
    modes = {
        path: oct(filesystem.getattr(path).permissions)
        for path in (
            "/projects/Own/folders", "/projects/Own/folders/x", "/projects/Own/exams/E", "/projects/Own/exams/Locked",
            "/projects/Seen/folders", "/projects/Seen/folders/x", "/projects/Seen/exams/E", "/projects",
        )
    }  # fmt: skip
    assert modes == {
        "/projects/Own/folders": "0o755",
        "/projects/Own/folders/x": "0o644",
        "/projects/Own/exams/E": "0o755",
        "/projects/Own/exams/Locked": "0o555",
        "/projects/Seen/folders": "0o555",
        "/projects/Seen/folders/x": "0o444",
        "/projects/Seen/exams/E": "0o555",
        "/projects": "0o755",  # projects can be made
    }


def test_archived_files_can_be_opened_for_writing_as_far_as_locks_allow(filesystem, archive, project):
    """Programs open for writing what they only read; the kernel asks the permission bits first."""
    for name, locked in (("E", False), ("F", True)):
        exam = archive.add_exam(project.id, name, locked=locked)
        archive.add_dataset({"report.pdf": b"1"}, exam=exam.id)
    assert filesystem.getattr("/projects/P/exams/E/report.pdf").permissions == 0o644
    assert filesystem.getattr("/projects/P/exams/F/report.pdf").permissions == 0o444


def test_the_size_of_a_link_is_the_length_of_its_text(filesystem, archive, project):
    exam = archive.add_exam(project.id, "Knie/rechts ä")
    archive.add_item(project.root_folder, "exam", exam.id, exam, is_link=True)
    path = "/projects/P/folders/Knie∕rechts ä"
    assert filesystem.getattr(path).size == len(filesystem.readlink(path).encode())


def test_every_change_is_refused_and_the_reason_can_be_read_back(filesystem, archive, project):
    archive.add_dataset({"x": b"1"}, folder=project.root_folder)
    path = "/projects/P/folders/x"
    for flags in (os.O_WRONLY, os.O_RDWR, os.O_RDONLY | os.O_TRUNC):
        with pytest.raises(ReadOnly):
            filesystem.open(path, flags)
    assert b"read-only" in filesystem.getxattr(path, "user.agora.error")
    assert filesystem.status()["recent_errors"][-1]["path"] == path


def test_opening_what_is_no_file_fails_as_in_posix(filesystem, project):
    with pytest.raises(IsADirectory):
        filesystem.open("/projects/P/folders")
    with pytest.raises(NotFound):
        filesystem.open("/projects/P/folders/none")
    with pytest.raises(NotADirectory):
        filesystem.readdir("/projects/P/.agora/path")


@pytest.mark.parametrize("name", [".Trash-1000", ".hidden", ".directory", "autorun.inf", "._x", ".git"])
@pytest.mark.parametrize("age_s", [0, 1000], ids=["fresh", "expired"])
def test_names_that_desktops_probe_for_are_answered_from_memory(
    filesystem, archive, clock, project, name, age_s
):
    """Names that desktops probe for are answered from memory in every directory that has been listed.

    … however long ago that was: nobody's looking is worth a request, for the directories above neither.
    """
    filesystem.readdir("/projects/P/folders")
    clock.advance(age_s)
    archive.calls.clear()
    for directory in ("", "/projects/P/folders"):
        with pytest.raises(NotFound):
            filesystem.getattr(f"{directory}/{name}")
    assert archive.calls == []


def test_a_real_object_with_such_a_name_is_found_even_if_nobody_listed_its_folder(
    filesystem, archive, project
):
    archive.add_folder(".git", project.root_folder)
    assert filesystem.getattr("/projects/P/folders/.git").file_type is FileType.DIRECTORY


def test_statfs_asks_nobody(filesystem, archive):
    archive.fail_with = RemoteUnavailable("away")
    capacity = filesystem.statfs()
    assert 0 < capacity.free_bytes <= capacity.total_bytes
    assert archive.calls == []


def test_extended_attributes_say_what_the_record_says(filesystem, archive, project):
    exam = archive.add_exam(project.id, "E", locked=True)
    series = archive.add_series(exam.id, "S")
    dataset = archive.add_dataset({"x": b"abc"}, series=series.id)
    archive.calls.clear()
    filesystem.readdir("/projects/P/exams/E/S")
    asked = len(archive.calls)

    def value(path, name):
        return filesystem.getxattr(path, f"user.agora.{name}").decode()

    assert value("/projects/P/exams/E", "type") == "exam"
    assert value("/projects/P/exams/E", "uid") == exam.uid
    assert value("/projects/P/exams/E", "locked") == "1"
    assert value("/projects/P/exams/E/S", "locked") == "0"
    assert value("/projects/P/exams/E/S/x", "sha1") == dataset.datafiles[0].sha1
    assert value("/projects/P/exams/E/S/x", "project") == str(project.id)
    assert value("/projects/P/exams/E", "created") == "2023-11-14T22:13:20Z"
    for name in filesystem.listxattr("/projects/P/exams/E/S/x"):
        assert filesystem.getxattr("/projects/P/exams/E/S/x", name)
    assert len(archive.calls) == asked


def test_half_a_character_in_a_servers_answer_makes_no_attribute_unreadable(filesystem, archive, project):
    exam = archive.add_exam(project.id, "E")
    archive._exams[exam.id] = replace(exam, uid="1.2\ud800")
    assert filesystem.getxattr("/projects/P/exams/E", "user.agora.uid") == b"1.2?"


def test_no_attributes_are_listed_for_a_link_because_the_kernel_lets_nobody_read_them(
    filesystem, archive, project
):
    """`rsync -X` and `tar --xattrs` fail when a name that was listed can not be read."""
    patient = archive.add_patient("X")
    archive.add_exam(project.id, "E", patient=patient.id)
    assert filesystem.getattr("/patients/X/E").file_type is FileType.LINK
    assert filesystem.listxattr("/patients/X/E") == []
    assert filesystem.listxattr("/patients/X") != []


@pytest.mark.parametrize(
    ("name", "refusal"),
    [
        ("security.capability", NoSuchXattr),
        ("trusted.x", NoSuchXattr),
        ("user.other", NoSuchXattr),
        ("security.selinux", NotSupported),
        ("system.posix_acl_access", NotSupported),
        ("system.posix_acl_default", NotSupported),
    ],
)
def test_attributes_that_are_not_ours_are_refused_without_a_look(filesystem, archive, name, refusal):
    with pytest.raises(refusal):
        filesystem.getxattr("/projects/P/folders/x", name)
    assert archive.calls == []


# -- .agora ------------------------------------------------------------------------------------------


def test_dot_agora_can_be_opened_in_every_directory_and_is_listed_in_none(filesystem, archive, project):
    exam = archive.add_exam(project.id, "E", patient=archive.add_patient("X").id)
    archive.add_series(exam.id, "S")
    waiting = ["/"]
    seen = 0
    while waiting:
        directory = waiting.pop()
        listed = filesystem.readdir(directory)
        assert ".agora" not in [name for name, _ in listed]
        assert filesystem.getattr(f"{directory}/.agora").file_type is FileType.DIRECTORY
        expected = "/" + directory.strip("/") + "\n"
        assert read_all(filesystem, f"{directory}/.agora/path").decode() == expected
        waiting += [f"{directory}/{name}" for name, attr in listed if attr.file_type is FileType.DIRECTORY]
        seen += 1
    assert seen >= 10


def test_info_json_holds_every_field_that_the_server_gives(filesystem, archive, project):
    exam = archive.add_exam(project.id, "E")
    about = json.loads(read_all(filesystem, "/projects/P/exams/E/.agora/info.json"))
    assert about == {"id": exam.id, "name": "E", "extra": "as the server gave it"}
    assert json.loads(read_all(filesystem, "/projects/P/.agora/info.json"))["id"] == project.id
    assert json.loads(read_all(filesystem, "/.agora/info.json")) == {}


def test_a_directory_inside_a_dataset_is_told_from_datasets_and_described_as_part_of_its_own(
    filesystem, archive, project
):
    """Its type was "dataset", so that whoever counted datasets counted it, and its info.json was the project's."""
    dataset = archive.add_dataset({"dir/a": b"1", "dir/b": b"2"}, folder=project.root_folder, name="D")
    place = f"/projects/P/folders/{dataset.name}"
    assert filesystem.getxattr(place, "user.agora.type") == b"dataset"
    assert filesystem.getxattr(f"{place}/dir", "user.agora.type") == b"directory"
    for here in (place, f"{place}/dir"):
        archive.calls.clear()
        read_all(filesystem, f"{here}/.agora/info.json")
        assert f"describe dataset {dataset.id}" in archive.calls
        filesystem.refresh(None)


def test_dot_agora_is_listed_although_the_server_is_away(filesystem, archive, project):
    filesystem.readdir("/projects/P/folders")
    archive.fail_with = RemoteUnavailable("away")
    base = "/projects/P/folders/.agora"
    listed = filesystem.readdir(base)
    assert [name for name, _ in listed] == ["info.json", "path", "entries"]
    for name, attr in listed:
        assert not filesystem.may_tell(f"{base}/{name}", attr)
        if name != "info.json":
            told = filesystem.getattr(f"{base}/{name}")
            assert (told.ino, told.file_type) == (attr.ino, attr.file_type)
    with pytest.raises(RemoteUnavailable):
        filesystem.getattr(f"{base}/info.json")


def test_info_json_has_its_true_size_and_costs_one_request(filesystem, archive, project):
    archive.add_exam(project.id, "E")
    path = "/projects/P/exams/E/.agora/info.json"
    filesystem.getattr("/projects/P/exams/E")
    archive.calls.clear()
    assert len(read_all(filesystem, path)) == filesystem.getattr(path).size
    assert len(archive.calls) == 1


def test_info_json_of_a_folder_names_what_is_not_shown(filesystem, archive, project):
    archive.add_item(project.root_folder, "query", 77, None)
    about = json.loads(read_all(filesystem, "/projects/P/folders/.agora/info.json"))
    assert about["agorafs_not_shown"] == ["query 77"]


def test_a_file_has_its_dot_agora_among_the_entries_of_its_directory(filesystem, archive, project):
    dataset = archive.add_dataset({"x.txt": b"1"}, folder=project.root_folder)
    base = "/projects/P/folders/.agora/entries"
    assert names(filesystem, base) == ["x.txt"]
    assert json.loads(read_all(filesystem, f"{base}/x.txt/info.json"))["id"] == dataset.id
    assert read_all(filesystem, f"{base}/x.txt/path") == b"/projects/P/folders/x.txt\n"


def test_by_id_leads_to_the_object(filesystem, archive, project):
    exam = archive.add_exam(project.id, "E")
    series = archive.add_series(exam.id, "S")
    assert filesystem.readlink(f"/.agora/by-id/exam/{exam.id}") == "../../../projects/P/exams/E"
    assert filesystem.readlink(f"/.agora/by-id/series/{series.id}") == "../../../projects/P/exams/E/S"
    attr = filesystem.getattr(f"/.agora/by-id/exam/{exam.id}")
    assert (attr.file_type, attr.size) == (FileType.LINK, len("../../../projects/P/exams/E"))
    for missing in ("exam/9999", "exam/x", "exam/007", "nonsense/1", "datafile/1"):
        with pytest.raises(NotFound):
            filesystem.getattr(f"/.agora/by-id/{missing}")


def test_by_id_is_only_at_the_root(filesystem, project):
    assert "by-id" in names(filesystem, "/.agora")
    with pytest.raises(NotFound):
        filesystem.getattr("/projects/.agora/by-id")


def test_dot_agora_of_a_file_is_not_a_directory(filesystem, archive, project):
    archive.add_dataset({"x": b"1"}, folder=project.root_folder)
    with pytest.raises(NotADirectory):
        filesystem.getattr("/projects/P/folders/x/.agora")
