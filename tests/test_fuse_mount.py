"""The translation between file operations and the binding, without a kernel: a binding made for the test."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import logging
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agorafs import fuse_mount
from agorafs.config import Settings
from agorafs.errors import (
    AgoraFSError,
    BadHandle,
    NotFound,
    ReadOnly,
    RemoteTimeout,
    StaleHandle,
    StaleLookup,
    UsageError,
)
from agorafs.fuse_mount.operations import Operations
from agorafs.fuse_mount.tuned import tuned as tuned_class
from agorafs.vfs import Opened
from agorafs.vfs.attr import Attr, FileType

NAMES = [f"IM_{number:04d}" for number in range(20)]
TIME_NS = 1_700_000_000_123_456_789


class Files:
    """A ``FileSystem`` of one directory and one file; ``error`` is raised by every operation."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.is_stale = False
        self.not_told: set[str] = set()
        self.failures: list[tuple[str, AgoraFSError]] = []
        self.opened = Opened(7, keep_pages=True, direct=False)
        self.names = list(NAMES)
        self.changes: list[tuple[Any, ...]] = []

    def attr(self, name: str) -> Attr:
        return Attr(len(name) + 1, FileType.FILE, 1025, TIME_NS, 0o444)

    def _fail(self) -> None:
        if self.error is not None:
            raise self.error

    def getattr(self, path: str, handle: int | None = None) -> Attr:
        self._fail()
        return self.attr(path)

    def readdir(self, path: str) -> list[tuple[str, Attr]]:
        self._fail()
        return [(name, self.attr(name)) for name in self.names]

    def may_tell(self, path: str, attr: Attr) -> bool:
        return path not in self.not_told

    def has_stale_handles(self) -> bool:
        return self.is_stale

    def open(self, path: str, flags: int, *, after_lookup: bool = False, caller: Any = None) -> Opened:
        assert after_lookup  # a kernel goes by the attributes that it was given
        self._fail()
        return self.opened

    def read_into(self, handle: int, offset: int, view: memoryview) -> int:
        self._fail()
        piece = b"0123456789"[offset : offset + len(view)]
        view[: len(piece)] = piece
        return len(piece)

    def read(self, handle: int, offset: int, size: int) -> bytes:
        self._fail()
        return b"0123456789"[offset : offset + size]

    def path_of(self, handle: int) -> str:
        return "/d/x"

    def __getattr__(self, name: str) -> Any:
        """Every operation that changes something is noted with its arguments."""

        def noted(*arguments: Any, **_: Any) -> Any:
            self._fail()
            self.changes.append((name, *(bytes(a) if isinstance(a, memoryview) else a for a in arguments)))
            return {"create": self.opened, "write": 3}.get(name)

        return noted

    def note_failure(self, path: str, error: AgoraFSError) -> None:
        self.failures.append((path, error))


class TimeSpec(ctypes.Structure):
    _fields_ = (("tv_sec", ctypes.c_long), ("tv_nsec", ctypes.c_long))


class Stat(ctypes.Structure):
    _fields_ = (
        *((f"st_{name}", ctypes.c_ulong) for name in ("ino", "nlink")),
        *((f"st_{name}", ctypes.c_uint) for name in ("mode", "uid", "gid")),
        *((f"st_{name}", ctypes.c_long) for name in ("size", "blksize", "blocks")),
        *((f"st_{name}spec", TimeSpec) for name in ("mtime", "ctime", "atime")),
    )


class Library:
    """The part of libfuse that is called directly."""

    def __init__(self) -> None:
        self.invalidated: list[bytes] = []

    def fuse_get_context(self) -> SimpleNamespace:
        return SimpleNamespace(contents=SimpleNamespace(fuse=4711))

    def fuse_invalidate_path(self, fuse: ctypes.c_void_p, path: bytes) -> int:
        assert fuse.value == 4711
        self.invalidated.append(path)
        return 0


class Binding:
    """Stands for the module mfusepy."""

    fuse_version_major, fuse_version_minor = 3, 14
    c_stat = Stat

    def __init__(self) -> None:
        self._libfuse = Library()
        self.runs: list[tuple[str, dict[str, Any]]] = []
        self.failure: Exception | None = None
        binding = self

        class FUSE:
            def __init__(self, operations, mountpoint: str, **options) -> None:
                self.operations = operations
                binding.runs.append((mountpoint, options))
                if binding.failure is not None:
                    raise binding.failure

            def getxattr(self, path: bytes, name: bytes, *arguments) -> int:
                return len(name)

        self.FUSE = FUSE


@pytest.fixture
def files():
    return Files()


@pytest.fixture
def binding():
    return Binding()


@pytest.fixture
def config():
    return SimpleNamespace(attr_timeout=1.0)


@pytest.fixture
def operations(files, binding, config):
    settings = Settings(url="http://localhost", uid=1000, gid=100)
    made = Operations(files, settings, binding, lambda: None)
    made.init_with_config(SimpleNamespace(max_background=0, congestion_threshold=0, want=0), config)
    return made


@pytest.fixture
def tuned(binding, operations):
    return tuned_class(binding)(operations, "/mnt")


def file_info(**fields):
    return SimpleNamespace(contents=SimpleNamespace(fh=0, flags=os.O_RDONLY, **fields))


class Directory:
    """What the kernel gets to see of an open directory: (name, offset behind it, whether with attributes)."""

    def __init__(self, tuned, room: int) -> None:
        self.tuned = tuned
        self.room = room
        self.info = file_info()
        self.info.contents.fh = tuned.operations.opendir("/d")

    def read(self, offset: int) -> list[tuple[str, int, bool]]:
        """One call of the kernel."""
        got: list[tuple[str, int, bool]] = []

        def fill(buffer, name: bytes, stat, next_offset: int, flags: int) -> int:
            if len(got) == self.room:
                return 1
            got.append((name.decode(), next_offset, flags == 2))
            return 0

        assert self.tuned.readdir_fuse_3(b"/d", None, fill, offset, self.info, 1) == 0
        return got

    def read_all(self, offset: int = 0) -> list[str]:
        names = []
        while got := self.read(offset):
            names += [name for name, _, _ in got]
            offset = got[-1][1]
        return names


@pytest.mark.parametrize("room", [2, 3, 5, 100])
def test_a_directory_is_listed_once_whole_however_small_the_pieces_are(tuned, room):
    assert Directory(tuned, room).read_all() == [".", "..", *NAMES]


@pytest.mark.parametrize("offset", range(len(NAMES) + 3))
def test_a_directory_goes_on_at_whatever_offset_it_is_asked_for(tuned, offset):
    """As after ``seekdir``, also behind ``.`` alone."""
    directory = Directory(tuned, 100)
    directory.read(0)
    assert directory.read_all(offset) == [".", "..", *NAMES][offset:]


def test_a_plain_directory_has_no_entry_with_the_inode_number_0_which_no_program_would_show(operations):
    entries = {name: attributes for name, attributes, _ in operations.readdir("/d", 1)}
    assert list(entries) == [".", "..", *NAMES]
    assert all(attributes is None or attributes["st_ino"] != 0 for attributes in entries.values())


def test_a_directory_that_changes_while_it_is_read_is_shown_as_it_was_until_it_is_rewound(tuned, files):
    directory = Directory(tuned, 5)
    first = directory.read(0)
    files.names = ["new"]
    assert directory.read_all(first[-1][1]) == NAMES[3:]
    assert directory.read_all() == [".", "..", "new"]


def test_a_closed_directory_is_forgotten(tuned, operations):
    directory = Directory(tuned, 5)
    directory.read(0)
    operations.releasedir("/d", directory.info.contents.fh)
    assert operations.directories == {}


def test_entries_come_with_attributes_but_for_those_that_have_others_by_now(tuned, files):
    files.not_told = {f"/d/{NAMES[1]}"}
    got = {name: with_attributes for name, _, with_attributes in Directory(tuned, 100).read(0)}
    assert got[NAMES[0]]
    assert not got[NAMES[1]]


def test_the_kernel_is_asked_to_take_attributes_with_every_piece_of_a_directory(files, binding, config):
    """Left to itself it takes them with the first piece only, and looks every further entry up."""
    connection = SimpleNamespace(max_background=0, congestion_threshold=0, want=1 << 13 | 1 << 14)
    made = Operations(files, Settings(url="http://localhost"), binding, lambda: None)
    made.init_with_config(connection, config)
    assert connection.want == 1 << 13  # FUSE_CAP_READDIRPLUS without FUSE_CAP_READDIRPLUS_AUTO


def test_attributes_arrive_field_by_field(tuned):
    stat = Stat()
    assert tuned.getattr_fuse_3(b"/d/x", SimpleNamespace(contents=stat), None) == 0
    assert (stat.st_mode, stat.st_size, stat.st_blocks, stat.st_nlink) == (0o100444, 1025, 3, 1)
    assert (stat.st_uid, stat.st_gid) == (1000, 100)
    assert stat.st_mtimespec.tv_sec * 10**9 + stat.st_mtimespec.tv_nsec == TIME_NS


def test_the_plain_and_the_tuned_binding_give_the_same_attributes(tuned, operations):
    stat = Stat()
    tuned.getattr_fuse_3(b"/d/x", SimpleNamespace(contents=stat), None)
    plain = operations.getattr("/d/x")
    for name in ("st_ino", "st_mode", "st_nlink", "st_uid", "st_gid", "st_size", "st_blocks"):
        assert getattr(stat, name) == plain[name]
    assert plain["st_mtime"] == TIME_NS


def test_the_kernel_keeps_no_attribute_while_a_stale_handle_is_open(tuned, files, config):
    """Then it asks with the handle before each read, and hears that it is stale."""
    stat = SimpleNamespace(contents=Stat())
    tuned.getattr_fuse_3(b"/d/x", stat, None)
    assert config.attr_timeout == 1.0
    files.is_stale = True
    tuned.getattr_fuse_3(b"/d/x", stat, None)
    assert config.attr_timeout == 0.0
    files.is_stale = False
    Directory(tuned, 5).read(0)
    assert config.attr_timeout == 1.0


def test_an_open_says_what_the_kernel_may_keep(tuned, files):
    files.opened = Opened(9, keep_pages=False, direct=True)
    info = file_info()
    assert tuned.open(b"/d/x", info) == 0
    assert (info.contents.fh, info.contents.keep_cache, info.contents.direct_io) == (9, False, True)


def test_an_open_upon_which_the_kernel_looks_again_is_nobodys_complaint(tuned, files):
    files.error = StaleLookup("changed since it was looked up")
    with pytest.raises(OSError) as raised:
        tuned.open(b"/d/x", file_info())
    assert raised.value.errno == errno.ESTALE
    assert files.failures == []


@pytest.mark.parametrize(("offset", "size", "expected"), [(0, 4, b"0123"), (8, 4, b"89"), (10, 4, b"")])
def test_bytes_are_read_straight_into_the_bindings_buffer(tuned, offset, size, expected):
    buffer = ctypes.create_string_buffer(b"?" * 6, 6)
    length = tuned.read(
        b"/d/x", ctypes.cast(buffer, ctypes.POINTER(ctypes.c_byte)), size, offset, file_info()
    )
    assert buffer.raw == expected + b"?" * (6 - len(expected))
    assert length == len(expected)


@pytest.mark.parametrize(
    ("error", "number", "is_noted"),
    [
        (NotFound("x"), errno.ENOENT, False),
        (BadHandle("x"), errno.EBADF, True),
        (StaleHandle("x"), errno.ESTALE, True),
        (RemoteTimeout("x"), errno.ETIMEDOUT, True),
    ],
)
def test_an_error_becomes_its_errno_and_what_matters_can_be_read_back(tuned, files, error, number, is_noted):
    files.error = error
    stat, info = SimpleNamespace(contents=Stat()), file_info()
    buffer = ctypes.pointer(ctypes.c_byte())
    for call in (
        lambda: tuned.getattr_fuse_3(b"/d/x", stat, None),
        lambda: tuned.read(b"/d/x", buffer, 1, 0, info),
        lambda: tuned.open(b"/d/x", info),
        lambda: tuned.operations.readdir("/d/x", 1),
    ):
        files.failures.clear()
        with pytest.raises(OSError) as raised:
            call()
        assert raised.value.errno == number
        assert files.failures == ([("/d/x", error)] if is_noted else [])


def test_a_mistake_of_ours_is_an_input_output_error_with_a_traceback_in_the_log(tuned, files, caplog):
    files.error = ZeroDivisionError("oops")
    with caplog.at_level(logging.ERROR), pytest.raises(OSError) as raised:
        tuned.open(b"/d/x", file_info())
    assert raised.value.errno == errno.EIO
    assert "ZeroDivisionError: oops" in caplog.text


def test_paths_that_are_no_utf8_go_through_unharmed(tuned, files):
    files.error = BadHandle("x")
    with pytest.raises(OSError):
        tuned.getattr_fuse_3(b"/d/\xff", SimpleNamespace(contents=Stat()), None)
    ((path, _),) = files.failures
    assert os.fsencode(path) == b"/d/\xff"


CHANGES = [
    ("create", (0o644,), ("create", "/d/x")),
    ("mkdir", (0o755,), ("make_directory", "/d/x")),
    ("symlink", ("target",), ("make_link", "/d/x", "target")),
    ("link", ("/source",), ("refuse_to_make", "/d/x", "hard links")),
    ("unlink", (), ("remove", "/d/x")),
    ("rmdir", (), ("remove_directory", "/d/x")),
    ("rename", ("/new",), ("rename", "/d/x", "/new", 0)),
    ("truncate", (0,), ("truncate", "/d/x", 0, None)),
    ("truncate", (5, 7), ("truncate", "/d/x", 5, 7)),
    ("write", (b"x", 9, 7), ("write", 7, 9, b"x")),
    ("fallocate", (0, 1, 2, 7), ("allocate", 7, 0, 1, 2)),
    ("flush", (7,), ("flush", 7)),
    ("fsync", (1, 7), ("fsync", 7)),
    ("chmod", (0o600,), ("ignore_change", "/d/x", "changing permissions")),
    ("chown", (0, 0), ("ignore_change", "/d/x", "changing the owner")),
    ("utimens", ((1, 2),), ("set_mtime", "/d/x", 2, None)),
    ("setxattr", ("user.x", b"1", 2), ("set_xattr", "/d/x", "user.x", b"1", 2)),
    ("removexattr", ("user.x",), ("remove_xattr", "/d/x", "user.x")),
]


@pytest.mark.parametrize(("operation", "arguments", "expected"), CHANGES)
def test_a_change_becomes_one_operation_of_the_file_system(operations, files, operation, arguments, expected):
    getattr(operations, operation)("/d/x", *arguments)
    assert files.changes == [expected]


@pytest.mark.parametrize(("operation", "arguments", "expected"), CHANGES)
def test_a_refused_change_becomes_its_errno(operations, files, operation, arguments, expected):
    files.error = ReadOnly("x")
    with pytest.raises(OSError) as raised:
        getattr(operations, operation)("/d/x", *arguments)
    assert raised.value.errno == errno.EROFS


def test_a_file_made_by_mknod_is_closed_again_and_a_device_is_refused(operations, files):
    operations.mknod("/d/x", 0o100644, 0)
    assert [change[0] for change in files.changes] == ["create", "flush", "release"]
    files.changes.clear()
    with contextlib.suppress(OSError):
        operations.mknod("/d/x", 0o060644, 0)
    assert files.changes[0][0] == "refuse_to_make"


def test_bytes_are_written_straight_from_the_bindings_buffer(tuned, files):
    buffer = ctypes.create_string_buffer(b"abcdef", 6)
    info = file_info()
    info.contents.fh = 7
    assert tuned.write(None, ctypes.cast(buffer, ctypes.POINTER(ctypes.c_byte)), 3, 100, info) == 3
    assert files.changes == [("write", 7, 100, b"abc")]


def test_what_has_a_handle_goes_by_it_because_there_may_be_no_path_any_more(tuned, files):
    info = file_info()
    info.contents.fh = 7
    stat = Stat()
    assert tuned.getattr_fuse_3(None, SimpleNamespace(contents=stat), info) == 0
    tuned.truncate_fuse_3(None, 5, info)
    tuned.utimens_fuse_3(None, times_of(3, 4), info)
    tuned.chmod_fuse_3(None, 0o600, info)
    tuned.chown_fuse_3(None, 0, 0, info)
    assert files.changes == [("truncate", "", 5, 7), ("set_mtime", "", 3_000_000_004, 7)]


def times_of(seconds: int, nanoseconds: int) -> SimpleNamespace:
    return SimpleNamespace(contents=SimpleNamespace(modtime=TimeSpec(seconds, nanoseconds)))


def test_a_time_that_is_to_be_left_is_left_and_now_is_now(tuned, files):
    tuned.utimens_fuse_3(b"/d/x", times_of(0, (1 << 30) - 2), None)
    assert files.changes == []
    before_ns = time.time_ns()
    tuned.utimens_fuse_3(b"/d/x", times_of(0, (1 << 30) - 1), None)
    ((_, _, mtime_ns, _),) = files.changes
    assert before_ns <= mtime_ns <= time.time_ns()


def test_the_flags_of_a_rename_arrive(tuned, files):
    tuned.rename_fuse_3(b"/d/x", b"/d/y", 1)
    assert files.changes == [("rename", "/d/x", "/d/y", 1)]


def test_a_file_is_created_as_its_opener_wants_it(tuned, files):
    info = file_info()
    info.contents.flags = os.O_WRONLY | os.O_EXCL
    assert tuned.create(b"/d/x", 0o644, info) == 0
    assert files.changes == [("create", "/d/x", os.O_WRONLY | os.O_EXCL)]
    assert info.contents.fh == 7


def test_a_directory_that_is_renamed_while_it_is_read_goes_on(tuned, operations):
    directory = Directory(tuned, 5)
    directory.read(0)
    operations.rename("/d", "/e")
    assert operations.directories[directory.info.contents.fh].path == "/e"
    assert directory.read_all(7) == NAMES[5:]


def test_libfuse_is_asked_for_no_path_where_there_is_a_handle_and_for_no_flush_of_what_was_read(
    operations, config
):
    assert config.nullpath_ok
    assert config.no_rofd_flush


@pytest.mark.parametrize(
    ("name", "refusal"),
    [
        (b"security.capability", errno.ENODATA),
        (b"security.selinux", errno.ENOTSUP),
        (b"system.posix_acl_access", errno.ENOTSUP),
    ],
)
def test_attributes_that_are_not_ours_are_answered_before_any_path_is_looked_at(tuned, files, name, refusal):
    files.error = AssertionError("asked")
    assert tuned.getxattr(b"/d/x", name, None, 0) == -refusal


@pytest.mark.parametrize("name", [b"user.agora.id", b"user.xdg.tags", b"user.baloo.rating"])
def test_attributes_that_are_ours_under_any_name_are_looked_at(tuned, name):
    assert tuned.getxattr(b"/d/x", name, None, 0) == len(name)


def test_the_kernel_is_told_of_paths_until_the_mount_is_gone_and_not_after(operations, binding):
    """libfuse frees what it knows of the mount; a refresh at that moment must not touch it."""
    operations.invalidate(["/a", "/\udcff"])
    assert binding._libfuse.invalidated == [b"/a", b"/\xff"]
    operations.destroy("/")
    operations.invalidate(["/b"])
    assert len(binding._libfuse.invalidated) == 2


@pytest.fixture
def stack(files):
    return SimpleNamespace(filesystem=files, on_refreshed=None)


def test_a_mount_that_libfuse_refuses_is_one_sentence(stack, binding, monkeypatch):
    monkeypatch.setattr(fuse_mount, "load_binding", lambda name: binding)
    binding.failure = RuntimeError(1)
    with pytest.raises(UsageError, match=r"/mnt could not be mounted"):
        fuse_mount.serve(stack, Path("/mnt"), Settings(url="http://localhost"), lambda: None)
    assert stack.on_refreshed is None


@pytest.mark.parametrize(("listing_ttl_s", "kernel_ttl_s"), [(0.25, 0.25), (3600.0, 1.0)])
def test_the_kernel_believes_for_a_second_at_most_and_checks_permissions_itself(
    stack, binding, monkeypatch, listing_ttl_s, kernel_ttl_s
):
    monkeypatch.setattr(fuse_mount, "load_binding", lambda name: binding)
    settings = Settings(url="http://localhost/a,b", listing_ttl_s=listing_ttl_s)
    fuse_mount.serve(stack, Path("/mnt"), settings, lambda: None)
    ((mountpoint, options),) = binding.runs
    assert mountpoint == "/mnt"
    assert options["attr_timeout"] == options["entry_timeout"] == kernel_ttl_s
    assert options["negative_timeout"] == 0
    assert options["default_permissions"] is True
    assert options["fsname"] == "http://localhost/a\\,b"
    assert options["nodev"] is options["nosuid"] is True
