"""What is mounted where, and whether a directory can be mounted on."""

import errno
import os
from pathlib import Path

import pytest

from agorafs import mountpoint as mountpoints
from agorafs.errors import ExitStatus, UsageError

MOUNTINFO = r"""22 28 0:21 / /proc rw,nosuid,nodev,noexec,relatime shared:13 - proc proc rw
28 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw,discard
90 28 0:52 / /mnt/with\040space\011tab\134back rw,nosuid shared:5 master:1 - fuse.agorafs https://a.org/x\040y rw
91 28 0:53 / /mnt/twice rw - tmpfs tmpfs rw
92 28 0:54 / /mnt/twice rw - fuse.agorafs https://b.org rw
93 28 0:55 / /mnt/Größe rw - fuse.sshfs host: rw
a line that is not one
"""


def test_mountinfo_is_read_with_its_octal_escapes_and_optional_fields():
    mounts = mountpoints.parse_mountinfo(MOUNTINFO)
    assert len(mounts) == 6
    assert mounts[2] == mountpoints.MountEntry(
        Path("/mnt/with space\ttab\\back"), "fuse.agorafs", "https://a.org/x y"
    )
    assert mounts[5].mountpoint == Path("/mnt/Größe")


def test_a_mount_point_with_a_foreign_line_break_in_its_name_is_one_mount():
    """The kernel escapes the newline alone; the line breaks of Unicode stand for themselves."""
    name = "/mnt/a\u2028b\x0cc\x85d"
    assert mountpoints.parse_mountinfo(f"90 28 0:52 / {name} rw - fuse.agorafs https://a.org rw\n") == [
        mountpoints.MountEntry(Path(name), "fuse.agorafs", "https://a.org")
    ]


def test_of_two_mounts_on_one_directory_the_upper_one_counts():
    mounts = mountpoints.parse_mountinfo(MOUNTINFO)
    found = mountpoints.find_mount(Path("/mnt/twice"), mounts)
    assert found is not None
    assert found.is_ours
    assert found.source == "https://b.org"


def test_only_the_mount_point_itself_is_found():
    mounts = mountpoints.parse_mountinfo(MOUNTINFO)
    assert mountpoints.find_mount(Path("/mnt"), mounts) is None
    assert mountpoints.find_mount(Path("/mnt/twice/below"), mounts) is None


def test_this_machine_has_proc_mounted():
    entry = mountpoints.find_mount(Path("/proc"))
    assert entry is not None
    assert entry.fs_type == "proc"
    assert not entry.is_ours


def test_a_mount_point_is_resolved_as_the_kernel_names_it(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert mountpoints.resolve_mountpoint(tmp_path / "link") == tmp_path.resolve() / "real"
    assert mountpoints.resolve_mountpoint(tmp_path / "link" / ".." / "real") == tmp_path.resolve() / "real"
    assert mountpoints.resolve_mountpoint(Path("/")) == Path("/")


def test_an_empty_directory_can_be_mounted_on(tmp_path):
    mountpoints.check_directory(tmp_path, nonempty=False)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: None, "does not exist"),
        (lambda path: path.write_text(""), "is not a directory"),
        (lambda path: (path / "patient").mkdir(parents=True), "is not empty"),
    ],
)
def test_a_directory_that_is_not_fit_is_refused_with_its_name(tmp_path, make, words):
    path = tmp_path / "mount"
    make(path)
    with pytest.raises(UsageError, match=words) as refused:
        mountpoints.check_directory(path, nonempty=False)
    assert refused.value.exit_status is ExitStatus.MOUNT_POINT
    assert str(path) in str(refused.value)


def test_nonempty_allows_a_directory_with_something_in_it(tmp_path):
    (tmp_path / "something").touch()
    mountpoints.check_directory(tmp_path, nonempty=True)


def test_a_mount_may_not_hide_what_it_needs(tmp_path):
    """A cache inside the mount would have to be read through the mount that needs it."""
    cache = tmp_path / "mount" / "cache"
    with pytest.raises(UsageError, match="lies inside"):
        mountpoints.check_not_hiding(tmp_path / "mount", [("the cache", cache)])
    mountpoints.check_not_hiding(tmp_path / "mount", [("the cache", tmp_path / "mount-cache")])


def test_only_a_dead_mount_is_stale():
    assert mountpoints.is_stale(OSError(errno.ENOTCONN, ""))
    assert not mountpoints.is_stale(OSError(errno.EACCES, ""))
    assert not mountpoints.is_stale(TimeoutError(errno.ETIMEDOUT, ""))
    assert not mountpoints.is_stale(None)


def test_stat_error_is_the_error_of_the_path(tmp_path):
    assert mountpoints.stat_error(tmp_path) is None
    error = mountpoints.stat_error(tmp_path / "nothing")
    assert error is not None
    assert error.errno == errno.ENOENT


def test_the_holders_of_a_mount_are_named_from_links_in_proc_alone(tmp_path):
    process = tmp_path / "4242"
    (process / "fd").mkdir(parents=True)
    (process / "comm").write_text("dcm2niix\n")
    (process / "cwd").symlink_to("/home")
    (process / "root").symlink_to("/")
    (process / "fd" / "3").symlink_to("/mnt/agora/projects/a.dcm")
    (tmp_path / "version").touch()
    assert mountpoints.holders(Path("/mnt/agora"), tmp_path) == ["dcm2niix (4242)"]
    assert mountpoints.holders(Path("/mnt/ag"), tmp_path) == []


def test_who_unmounts_from_inside_the_mount_is_not_named_as_its_holder(tmp_path):
    process = tmp_path / str(os.getpid())
    (process / "fd").mkdir(parents=True)
    (process / "comm").write_text("agorafs\n")
    (process / "cwd").symlink_to("/mnt/agora")
    assert mountpoints.holders(Path("/mnt/agora"), tmp_path) == []


def test_unmounting_what_is_not_mounted_says_so_in_one_line(tmp_path):
    with pytest.raises(UsageError) as refused:
        mountpoints.unmount(tmp_path)
    assert refused.value.exit_status is ExitStatus.MOUNT_POINT
    assert str(tmp_path) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_allow_other_needs_the_administrators_word_unless_root(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    conf = tmp_path / "fuse.conf"
    conf.write_text("#user_allow_other\n")
    with pytest.raises(UsageError, match="user_allow_other"):
        mountpoints.check_allow_other(conf)
    conf.write_text("mount_max = 10\nuser_allow_other\n")
    mountpoints.check_allow_other(conf)


def test_a_machine_without_the_fuse_device_gets_a_sentence(monkeypatch):
    monkeypatch.setattr(Path, "exists", lambda path: False)
    with pytest.raises(UsageError, match="/dev/fuse") as refused:
        mountpoints.check_fuse_available()
    assert refused.value.exit_status is ExitStatus.NO_FUSE
