"""Names and bytes through the kernel: what becomes a call to the server, what is refused, what handles see.

What programs do, and what arrives on the server, is in ``test_write_programs``.
"""

from __future__ import annotations

import errno
import os
import subprocess

import pytest

from tests.support.mount import Mount
from tests.support.sandbox import SandboxProcess

EXAM = "Brain, volunteer"
SLICE = f"exams/{EXAM}/T1w 3D TFE/DICOM dataset/DICOM"


class Place:
    """The demo's study project, mounted."""

    def __init__(self, server: SandboxProcess, mount: Mount) -> None:
        self.server = server
        self.mount = mount
        self.project = mount.path / "projects" / "Neuro Study"
        self.folders = self.project / "folders"

    def sync(self) -> None:
        done = self.mount.run("sync", self.mount.path)
        assert done.returncode == 0, (done.stderr, self.mount.log()[-2000:])

    def changes(self) -> list[str]:
        """Return what the server was asked to change since the last look."""
        requests = self.server.requests()
        self.server.reset_requests()
        return [f"{one['method']} {one['path']}" for one in requests if one["method"] != "GET"]


@pytest.fixture
def place(private_demo, mount):
    one = Place(private_demo, mount(private_demo, "batch_quiet_s=0.2"))
    private_demo.reset_requests()
    return one


def refused(number, call, *arguments, **keywords):
    with pytest.raises(OSError) as caught:
        call(*arguments, **keywords)
    assert caught.value.errno == number, caught.value


def reason(path) -> str:
    return os.getxattr(path, "user.agora.error").decode()


def test_names_of_exams_and_folders_are_changed_by_one_request_and_seen_at_once(place):
    exams = place.project / "exams"
    (exams / EXAM).rename(exams / "Renamed")
    assert (exams / "Renamed").is_dir()
    assert not (exams / EXAM).exists()
    (place.folders / "Documents").rename(place.folders / "Papers")
    assert (place.folders / "Papers").is_dir()
    changes = place.changes()
    assert [change.split()[0] for change in changes] == ["PUT", "PUT"], changes


def test_a_stored_file_moves_to_another_folder_and_who_has_it_open_reads_on(place):
    new = place.folders / "Documents" / "moved.txt"
    new.write_bytes(b"content")
    place.sync()
    inode = new.stat().st_ino
    place.changes()
    with new.open("rb") as stream:
        target = place.folders / "Derived" / "moved.txt"
        new.rename(target)
        assert stream.read() == b"content"
    assert target.read_bytes() == b"content"
    assert target.stat().st_ino == inode
    assert not new.exists()
    assert len(place.changes()) == 1
    refused(errno.EXDEV, target.rename, target.with_name("other.txt"))


def test_ln_s_makes_a_link_of_the_archive_and_rm_removes_it_again(place):
    link = place.folders / "Documents" / EXAM
    link.symlink_to(f"../../exams/{EXAM}")
    assert (link / "T1w 3D TFE").is_dir()
    assert link.is_symlink()
    link.unlink()
    assert not link.is_symlink()
    absolute = place.folders / "Documents" / EXAM
    absolute.symlink_to(place.project / "exams" / EXAM)
    assert (absolute / "T1w 3D TFE").is_dir()
    assert len(place.changes()) == 3
    assert (place.project / "exams" / EXAM).is_dir()
    refused(errno.EPERM, (place.folders / "hosts").symlink_to, "/etc/hosts")
    assert "out of this mount" in reason(place.folders)
    refused(errno.EPERM, (place.folders / "link").hardlink_to, place.folders / "Documents")


def test_archived_data_can_be_opened_for_writing_and_does_not_change(place):
    path = sorted((place.project / SLICE).iterdir())[0]
    before = path.read_bytes()
    with path.open("r+b", buffering=0) as stream:
        stream.write(before[:1000])
        stream.seek(128)
        refused(errno.EACCES, stream.write, b"DICM but not so")
        refused(errno.EACCES, stream.truncate, 5)
    refused(errno.EACCES, path.open, "wb")
    assert "archived" in reason(path)
    refused(errno.EACCES, path.unlink)
    assert path.read_bytes() == before
    assert place.changes() == []


def test_what_the_server_makes_itself_and_a_file_managers_trash_are_refused(place):
    """What the server cannot do is refused before any byte is taken, and the reason can be read from
    `user.agora.error`.
    """
    refused(errno.EACCES, (place.mount.path / "new").write_bytes, b"")
    refused(errno.EACCES, (place.project / "exams" / "new").mkdir)
    refused(errno.EPERM, (place.folders / ".Trash-1000").mkdir)
    refused(errno.EINVAL, (place.folders / "a\\b").write_bytes, b"")
    refused(errno.ENOTEMPTY, (place.folders / "Documents").rmdir)
    refused(errno.EPERM, os.mkfifo, place.folders / "pipe")
    assert place.changes() == []


def test_all_handles_of_a_stored_file_see_what_is_written_through_one_of_them(place):
    path = place.folders / "Documents" / "shared.txt"
    path.write_bytes(b"old stuff")
    place.sync()
    with path.open("rb", buffering=0) as before, path.open("r+b", buffering=0) as writer:
        assert before.read(3) == b"old"
        writer.write(b"new")
        with path.open("rb") as after:
            assert after.read() == b"new stuff"
        before.seek(0)
        assert before.read() == b"new stuff"
        writer.truncate(3)
        assert os.fstat(before.fileno()).st_size == 3
    place.sync()
    assert path.read_bytes() == b"new"


def test_a_file_that_was_replaced_while_it_was_open_keeps_its_bytes_and_can_be_asked_for_them(place):
    path = place.folders / "Documents" / "replaced.txt"
    path.write_bytes(b"first version")
    place.sync()
    with path.open("rb") as old:
        temporary = path.with_name(".replaced.txt.AbC123")
        temporary.write_bytes(b"second")
        temporary.replace(path)
        assert os.fstat(old.fileno()).st_size == 13
        assert old.read() == b"first version"
        assert path.read_bytes() == b"second"
        assert sorted(one.name for one in path.parent.glob("*replaced*")) == ["replaced.txt"]
    place.sync()
    assert path.read_bytes() == b"second"


def test_a_folder_is_removed_with_what_is_in_it_whether_that_is_stored_or_not(place):
    directory = place.folders / "Documents" / "new"
    (directory / "inner").mkdir(parents=True)
    (directory / "stored").write_bytes(b"1")
    place.sync()
    (directory / "inner" / "local").write_bytes(b"2")
    subprocess.run(["rm", "-r", directory], check=True)
    assert not directory.exists()
    place.sync()
    place.mount.refresh(place.folders / "Documents")
    assert not directory.exists()


def test_a_dataset_of_several_files_is_removed_as_rm_does_it(place):
    target = place.folders / "Scanner exports" / "PAR REC"
    (dataset,) = [one for one in target.iterdir() if one.is_dir()][:1]
    subprocess.run(["rm", "-r", dataset], check=True)
    assert not dataset.exists()
    assert [change.split()[0] for change in place.changes()] == ["DELETE"]


def test_free_space_is_the_spools(place):
    before = os.statvfs(place.mount.path)
    assert 0 < before.f_bavail * before.f_frsize < 1 << 50
