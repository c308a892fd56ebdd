"""File operations in the binding's words: convert the arguments, call one operation, convert the result or the error.

Both bindings call these; on mfusepy ``tuned`` takes the place of those that decide the speed.

Threads.  Every method is called from any of libfuse's threads. ``_lock`` guards ``directories`` and
``_next_directory``; ``_notifying`` is held while the kernel is told something, so that libfuse is not taken away
meanwhile. Both are leaves.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import logging
import os
import stat
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from types import ModuleType
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from agorafs.errors import AgoraFSError
from agorafs.vfs import FileSystem
from agorafs.vfs.aside import Caller
from agorafs.vfs.attr import Attr
from agorafs.vfs.errno_map import outcome_of

if TYPE_CHECKING:
    from agorafs.config import Settings

log = logging.getLogger(__name__)

R = TypeVar("R")

# The kernel queues at most so many read-ahead requests (12 by default). They must stay below the number of threads,
# or waiting read-ahead would keep ``ls`` waiting.
MAX_BACKGROUND = 96
BLOCK = 512  # unit of st_blocks

_CAP_READDIRPLUS_AUTO = 1 << 14  # FUSE_CAP_READDIRPLUS_AUTO of libfuse 3
_MAX_WRITE = 1 << 20  # bytes of one write; the kernel's limit


@dataclass(slots=True, eq=False)
class OpenDirectory:
    """A directory that is being read, as of its first entry. ``path`` goes along with renames."""

    path: str
    listing: list[tuple[str, Attr]] = field(default_factory=list)


def _translated(operation: Callable[..., R]) -> Callable[..., R]:
    """Give *operation*, whose first argument is a path, the errors of the binding: ``OSError`` with an errno."""

    @functools.wraps(operation)
    def translated(self: Operations, path: str | None, *arguments: Any) -> R:
        try:
            return operation(self, path, *arguments)
        except Exception as error:  # noqa: BLE001 - nothing may leave through libfuse
            self.fail(operation.__name__, path or "", error)

    return translated


class Operations:
    """What both bindings call, with a path first."""

    use_ns = True  # times in nanoseconds

    def __init__(
        self, filesystem: FileSystem, settings: Settings, binding: ModuleType, on_ready: Callable[[], None]
    ) -> None:
        self.filesystem = filesystem
        self.uid = settings.uid
        self.gid = settings.gid
        self._binding = binding
        self._on_ready = on_ready
        # the handle by which libfuse knows this mount, for ``invalidate``; set once by ``init``
        self._fuse: ctypes.c_void_p | None = None
        self._notifying = threading.Lock()
        # libfuse's own settings, which it reads after each of our answers; None on libfuse 2
        self._config: Any = None
        self._attr_timeout_s = 0.0
        self._lock = threading.Lock()
        self._next_directory = 1
        self.directories: dict[int, OpenDirectory] = {}

    def fail(self, operation: str, path: str, error: Exception) -> NoReturn:
        """Log *error* as loud as the table says and raise it as an errno."""
        outcome = outcome_of(error)
        if isinstance(error, AgoraFSError):
            log.log(outcome.level, "%s %s: %s", operation, path, error)
            if outcome.level > logging.DEBUG:
                self.filesystem.note_failure(path, error)
        else:
            log.error("%s %s failed by a mistake of agorafs", operation, path, exc_info=error)
        raise OSError(outcome.errno, os.strerror(outcome.errno)) from None

    # life

    def init(self, path: str) -> None:
        """The kernel has accepted the mount."""
        library = self._binding._libfuse
        self._fuse = ctypes.c_void_p(library.fuse_get_context().contents.fuse)
        self._on_ready()

    def init_with_config(self, connection: Any, config: Any) -> None:
        """The same from mfusepy, which also lets the connection be set up."""
        if connection is not None:
            connection.max_background = MAX_BACKGROUND
            connection.congestion_threshold = MAX_BACKGROUND * 3 // 4
            connection.max_write = _MAX_WRITE
            # Left to itself the kernel takes attributes with the first piece of a directory only: ``find -size``
            # over 10,000 entries then took 0.66 s instead of 0.09 s.
            connection.want &= ~_CAP_READDIRPLUS_AUTO
        if config is not None:
            config.nullpath_ok = 1
            config.no_rofd_flush = 1  # closing what was only read is nobody's business (from libfuse 3.11 on)
            self._config = config
            self._attr_timeout_s = config.attr_timeout
        self.init("/")

    def destroy(self, path: str) -> None:
        """The mount is gone, and libfuse is about to forget it."""
        with self._notifying:
            self._fuse = None
        self._config = None

    def caller(self) -> Caller:
        """Return who asks for the operation under way."""
        uid, _, pid = self._binding.fuse_get_context()
        session = 0
        if pid > 0:  # 0: a process of another namespace
            with contextlib.suppress(OSError):
                session = os.getsid(pid)
        return Caller(uid, session)

    def limit_belief(self) -> None:
        """Let the kernel keep no attribute while a stale handle is open (see the package's docstring).

        Called between the look at the tree and the answer. All paths pay for it, because libfuse has one
        setting for all: an ``ls -l`` asks for each entry again.
        """
        config = self._config
        if config is not None:
            timeout_s = 0.0 if self.filesystem.has_stale_handles() else self._attr_timeout_s
            if config.attr_timeout != timeout_s:
                config.attr_timeout = timeout_s

    def invalidate(self, paths: Iterable[str]) -> None:
        """Make the kernel ask again about *paths*. Not to be called by a file operation."""
        invalidate = getattr(self._binding._libfuse, "fuse_invalidate_path", None)
        if invalidate is None:  # libfuse 2: the kernel forgets by itself within a second
            return
        for path in paths:
            with self._notifying:
                if self._fuse is None:
                    return
                # Paths that the kernel has never asked for are refused with ENOENT, which is as good.
                invalidate(self._fuse, path.encode(errors="surrogateescape"))

    # looking

    @_translated
    def getattr(self, path: str, handle: int | None = None) -> dict[str, int]:
        return self.stat(self.filesystem.getattr(path, handle))

    def stat(self, attr: Attr) -> dict[str, int]:
        """Return *attr* by the names of ``struct stat``."""
        return {
            "st_ino": attr.ino,
            "st_mode": attr.mode,
            "st_nlink": 1,
            "st_uid": self.uid,
            "st_gid": self.gid,
            "st_size": attr.size,
            "st_blocks": -(-attr.size // BLOCK),
            "st_mtime": attr.mtime_ns,
            "st_ctime": attr.mtime_ns,
            "st_atime": attr.mtime_ns,
        }

    @_translated
    def readlink(self, path: str) -> str:
        return self.filesystem.readlink(path)

    @_translated
    def opendir(self, path: str) -> int:
        with self._lock:
            handle = self._next_directory
            self._next_directory += 1
            self.directories[handle] = OpenDirectory(path)
        return handle

    @_translated
    def readdir(self, path: str, handle: int) -> Iterable[tuple[str, dict[str, int] | None, int]]:
        listing = self.filesystem.readdir(path)
        # Without attributes libfuse invents an inode number; with 0 for one, no program would show them.
        dots: list[tuple[str, None, int]] = [(".", None, 0), ("..", None, 0)]
        return [*dots, *((name, self.stat(attr), 0) for name, attr in listing)]

    @_translated
    def releasedir(self, path: str | None, handle: int) -> int:
        with self._lock:
            self.directories.pop(handle, None)
        return 0

    @_translated
    def statfs(self, path: str) -> dict[str, int]:
        capacity = self.filesystem.statfs()
        block = capacity.block_bytes
        return {
            "f_bsize": block,
            "f_frsize": block,
            "f_blocks": capacity.total_bytes // block,
            "f_bfree": capacity.free_bytes // block,
            "f_bavail": capacity.free_bytes // block,
            "f_files": capacity.total_files,
            "f_ffree": capacity.free_files,
            "f_favail": capacity.free_files,
            "f_namemax": capacity.name_max_bytes,
        }

    @_translated
    def listxattr(self, path: str) -> list[str]:
        return self.filesystem.listxattr(path)

    @_translated
    def getxattr(self, path: str, name: str, position: int = 0) -> bytes:
        return self.filesystem.getxattr(path, name)

    # the bytes of files

    @_translated
    def open(self, path: str, flags: int) -> int:
        return self.filesystem.open(path, flags, after_lookup=True, caller=self.caller).handle

    @_translated
    def create(self, path: str, mode: int, fi: Any = None) -> int:
        return self.filesystem.create(path, caller=self.caller).handle

    @_translated
    def read(self, path: str | None, size: int, offset: int, handle: int) -> bytes:
        return self.filesystem.read(handle, offset, size)

    @_translated
    def write(self, path: str | None, data: bytes, offset: int, handle: int) -> int:
        return self.filesystem.write(handle, offset, data)

    @_translated
    def truncate(self, path: str, length: int, handle: int | None = None) -> int:
        self.filesystem.truncate(path, length, handle)
        return 0

    @_translated
    def fallocate(self, path: str | None, mode: int, offset: int, length: int, handle: int) -> int:
        self.filesystem.allocate(handle, mode, offset, length)
        return 0

    @_translated
    def flush(self, path: str | None, handle: int) -> int:
        self.filesystem.flush(handle)
        return 0

    @_translated
    def fsync(self, path: str | None, datasync: int, handle: int) -> int:
        self.filesystem.fsync(handle)
        return 0

    @_translated
    def fsyncdir(self, path: str | None, datasync: int, handle: int) -> int:
        self.filesystem.sync_names()
        return 0

    @_translated
    def release(self, path: str | None, handle: int) -> int:
        self.filesystem.release(handle)
        return 0

    # names

    @_translated
    def mknod(self, path: str, mode: int, dev: int) -> int:
        if not stat.S_ISREG(mode):
            self.filesystem.refuse_to_make(path, "devices, pipes and sockets")
        opened = self.filesystem.create(path, os.O_RDWR | os.O_EXCL)
        try:
            self.filesystem.flush(opened.handle)
        finally:
            self.filesystem.release(opened.handle)
        return 0

    @_translated
    def mkdir(self, path: str, mode: int) -> int:
        self.filesystem.make_directory(path)
        return 0

    @_translated
    def symlink(self, path: str, source: str) -> int:
        self.filesystem.make_link(path, source)
        return 0

    @_translated
    def link(self, path: str, source: str) -> int:
        self.filesystem.refuse_to_make(path, "hard links")

    @_translated
    def unlink(self, path: str) -> int:
        self.filesystem.remove(path)
        return 0

    @_translated
    def rmdir(self, path: str) -> int:
        self.filesystem.remove_directory(path)
        return 0

    @_translated
    def rename(self, path: str, new: str, flags: int = 0) -> int:
        self.filesystem.rename(path, new, flags)
        with self._lock:
            for directory in self.directories.values():
                if directory.path == path or directory.path.startswith(f"{path}/"):
                    directory.path = new + directory.path[len(path) :]
        return 0

    # what the archive has nothing for

    @_translated
    def chmod(self, path: str, mode: int) -> int:
        self.filesystem.ignore_change(path, "changing permissions")
        return 0

    @_translated
    def chown(self, path: str, uid: int, gid: int) -> int:
        self.filesystem.ignore_change(path, "changing the owner")
        return 0

    @_translated
    def utimens(self, path: str, times: tuple[int, int] | None = None, handle: int | None = None) -> int:
        mtime_ns = time.time_ns() if times is None else times[1]
        self.filesystem.set_mtime(path, mtime_ns, handle)
        return 0

    @_translated
    def setxattr(self, path: str, name: str, value: bytes, options: int, position: int = 0) -> int:
        self.filesystem.set_xattr(path, name, bytes(value), options)
        return 0

    @_translated
    def removexattr(self, path: str, name: str) -> int:
        self.filesystem.remove_xattr(path, name)
        return 0


class CallableOperations(Operations):
    """For fusepy, which calls the operations object with the operation's name first; mfusepy warns of that."""

    def __call__(self, operation: str, *arguments: Any) -> Any:
        return getattr(self, operation)(*arguments)
