"""Front end 1: FUSE. The only module that knows the binding.

Binding.  ``mfusepy`` (the maintained continuation of fusepy, same API) on libfuse 3. The same operations run on
plain ``fusepy`` (libfuse 2), which is a setting, slower, and otherwise the same. Both load libfuse when they are
imported, so they are imported here, late, and a machine without libfuse gets one sentence. mfusepy takes
libfuse 2 when both are installed unless ``FUSE_LIBRARY_PATH`` is set before, hence ``_library_path``: on libfuse 2
every write would be 4 KiB.

What is tuned on mfusepy, and why (``_tuned``):
    * ``readdir`` hands over attributes with the names, so ``ls -l`` and ``find`` need no ``getattr`` per entry,
      and resumes at the kernel's offset instead of listing again.
    * ``getxattr`` refuses what is not ours (``ls -l`` asks for two such names per entry) before anything is
      decoded or raised.
    * ``read`` puts bytes straight into libfuse's buffer.
    * ``open`` lets the kernel keep its pages while the version behind the path is the same, which tools that
      open a file ten times notice. No ``direct_io`` on data: it breaks ``mmap``.

Threads.  libfuse calls from up to ``_MAX_THREADS`` threads of its own. Some wait for the network; the number is
large enough that a server that hangs blocks only those who asked for it.

Freshness.  The kernel believes names and attributes for at most one second more than agorafs does. It never
remembers that a name was missing, so what appears is seen as soon as agorafs knows of it.

Two versions of one path (see ``vfs.handles``).  An open of another version than the kernel was told of fails with
``ESTALE``, upon which the kernel looks the path up again and opens it again; no program sees that. While a stale
handle is open, attributes are given for no time at all: the kernel then asks for them with the handle at each
``read`` and hands the program our ``ESTALE``, before it looks at its pages or at the file's size. libfuse 2 has no
way to say that, nor ``direct``: there, for a second after a change, a handle that was open before can end at the
new size.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import functools
import importlib
import logging
import os
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from agorafs.errors import AgoraFSError, ExitStatus, NoSuchXattr, UsageError
from agorafs.vfs import FileSystem, xattrs
from agorafs.vfs.attr import Attr
from agorafs.vfs.errno_map import outcome_of

if TYPE_CHECKING:
    from agorafs.config import Settings
    from agorafs.stack import Stack

log = logging.getLogger(__name__)

R = TypeVar("R")

# libfuse 3.12 to 3.16 stop at 10 threads unless told otherwise: ten readers waiting for a slow server would
# hold up everybody. The kernel queues at most _MAX_BACKGROUND read-ahead requests (12 by default), which must
# stay below the number of threads, or waiting read-ahead would keep ``ls`` waiting.
_MAX_THREADS = 128
_MAX_BACKGROUND = 96
# Threads that stay when there is nothing to do.
_MAX_IDLE_THREADS = 16
# How much longer than agorafs the kernel may believe an attribute or a name.
_KERNEL_TTL_S = 1.0

_CAP_READDIRPLUS_AUTO = 1 << 14  # FUSE_CAP_READDIRPLUS_AUTO of libfuse 3
_FILL_DIR_PLUS = 2  # FUSE_FILL_DIR_PLUS of libfuse 3: the entry comes with all its attributes
_BLOCK = 512  # unit of st_blocks
_OWN_XATTRS = xattrs.PREFIX.encode()
_NO_SUCH_XATTR = outcome_of(NoSuchXattr("")).errno

_LIBRARIES = {
    "mfusepy": ("fuse3", ("libfuse3.so.4", "libfuse3.so.3")),
    "fusepy": ("fuse", ("libfuse.so.2",)),
}
_MODULES = {"mfusepy": "mfusepy", "fusepy": "fuse"}
_PACKAGES = {
    "mfusepy": "libfuse 3 is not installed: install the package fuse3 (apt-get install fuse3)",
    "fusepy": "libfuse 2 is not installed: install the package libfuse2 (libfuse2t64 on newer systems)",
}


def require_binding(name: str) -> None:
    """Check that the binding *name* can be used.

    Raises:
        UsageError: With one sentence that says what to install.
    """
    _load_binding(name)


def serve(stack: Stack, mountpoint: Path, settings: Settings, on_ready: Callable[[], None]) -> None:
    """Mount *stack* at *mountpoint* and serve it until it is unmounted.

    *on_ready* is called once, when the kernel has accepted the mount.

    Raises:
        UsageError: The mount was refused; libfuse has said why on stderr.
    """
    binding = _load_binding(settings.binding)
    kind = _Operations if settings.binding == "mfusepy" else _CallableOperations
    operations = kind(stack.filesystem, settings, binding, on_ready)
    stack.on_refreshed = operations.invalidate
    options: dict[str, Any] = {
        "foreground": True,  # becoming a daemon is the caller's business, before any thread is started
        "fsname": settings.url.replace("\\", "\\\\").replace(",", "\\,"),
        "subtype": "agorafs",
        "use_ino": True,
        "default_permissions": True,
        "entry_timeout": min(_KERNEL_TTL_S, settings.listing_ttl_s),
        "attr_timeout": min(_KERNEL_TTL_S, settings.listing_ttl_s),
        "negative_timeout": 0,
        "allow_other": settings.allow_other,
        "ro": settings.read_only,
        **dict.fromkeys(settings.kernel_flags, True),
    }
    if settings.binding == "mfusepy":
        if (binding.fuse_version_major, binding.fuse_version_minor) >= (3, 12):
            options["max_threads"] = _MAX_THREADS
            # Given because libfuse 3.14 complains of its own default.
            options["max_idle_threads"] = _MAX_IDLE_THREADS
        run = _tuned(binding)
    else:
        run = binding.FUSE
    try:
        run(operations, str(mountpoint), **options)
    except RuntimeError as error:
        raise UsageError(
            f"{mountpoint} could not be mounted (libfuse status {error})", ExitStatus.MOUNT_POINT
        ) from None
    finally:
        stack.on_refreshed = None


# -- the binding -------------------------------------------------------------------------------------


def _load_binding(name: str) -> ModuleType:
    module = _MODULES[name]
    path = _library_path(name)
    if path is None:
        raise UsageError(_PACKAGES[name], ExitStatus.NO_FUSE)
    given = os.environ.get("FUSE_LIBRARY_PATH")
    os.environ["FUSE_LIBRARY_PATH"] = path
    try:
        binding = importlib.import_module(module)
    except ImportError:
        raise UsageError(
            f"the Python package {name} is not installed: pip install 'agorafs[fusepy]'", ExitStatus.NO_FUSE
        ) from None
    except (OSError, AttributeError) as error:
        raise UsageError(
            f"libfuse can not be used ({error}): {_PACKAGES[name]}", ExitStatus.NO_FUSE
        ) from None
    finally:
        if given is None:
            del os.environ["FUSE_LIBRARY_PATH"]
        else:
            os.environ["FUSE_LIBRARY_PATH"] = given
    if not hasattr(binding, "FUSE"):
        raise UsageError(
            f"the Python module {module} is not {name}: another package took its name", ExitStatus.NO_FUSE
        )
    return binding


def _library_path(name: str) -> str | None:
    """Return the libfuse that *name* is to load: the user's ``FUSE_LIBRARY_PATH``, else the right version's."""
    given = os.environ.get("FUSE_LIBRARY_PATH")
    if given:
        return given
    stem, sonames = _LIBRARIES[name]
    for candidate in (ctypes.util.find_library(stem), *sonames):
        if candidate is None:
            continue
        try:
            ctypes.CDLL(candidate)
        except OSError:
            continue
        return candidate
    return None


# -- operations in the binding's words ---------------------------------------------------------------


def _translated(operation: Callable[..., R]) -> Callable[..., R]:
    """Give *operation*, whose first argument is a path, the errors of the binding: ``OSError`` with an errno."""

    @functools.wraps(operation)
    def translated(self: _Operations, path: str, *arguments: Any) -> R:
        try:
            return operation(self, path, *arguments)
        except Exception as error:  # noqa: BLE001 - nothing may leave through libfuse
            self.fail(operation.__name__, path, error)

    return translated


class _Operations:
    """What both bindings call, with a path first. Each method converts, calls one operation, converts."""

    use_ns = True  # times in nanoseconds

    def __init__(
        self, filesystem: FileSystem, settings: Settings, binding: ModuleType, on_ready: Callable[[], None]
    ) -> None:
        self.filesystem = filesystem
        self._uid = settings.uid
        self._gid = settings.gid
        self._binding = binding
        self._on_ready = on_ready
        # the handle by which libfuse knows this mount, for ``invalidate``; set once by ``init``
        self._fuse: ctypes.c_void_p | None = None
        # held while the kernel is told something, so that libfuse is not taken away meanwhile; a leaf
        self._notifying = threading.Lock()
        # libfuse's own settings, which it reads after each of our answers; None on libfuse 2
        self._config: Any = None
        self._attr_timeout_s = 0.0
        # directories that are being read, as of their first entry; guarded by _lock
        self._lock = threading.Lock()
        self._next_directory = 1
        self.directories: dict[int, list[tuple[str, Attr]]] = {}

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
            connection.max_background = _MAX_BACKGROUND
            connection.congestion_threshold = _MAX_BACKGROUND * 3 // 4
            # Left to itself the kernel takes attributes with the first piece of a directory only: ``find -size``
            # over 10,000 entries then took 0.66 s instead of 0.09 s.
            connection.want &= ~_CAP_READDIRPLUS_AUTO
        if config is not None:
            self._config = config
            self._attr_timeout_s = config.attr_timeout
        self.init("/")

    def destroy(self, path: str) -> None:
        """The mount is gone, and libfuse is about to forget it."""
        with self._notifying:
            self._fuse = None
        self._config = None

    def limit_belief(self) -> None:
        """Let the kernel keep no attribute while a stale handle is open (see the module docstring).

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
            "st_uid": self._uid,
            "st_gid": self._gid,
            "st_size": attr.size,
            "st_blocks": -(-attr.size // _BLOCK),
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
            self.directories[handle] = []
        return handle

    @_translated
    def readdir(self, path: str, handle: int) -> Iterable[tuple[str, dict[str, int] | None, int]]:
        listing = self.filesystem.readdir(path)
        # Without attributes libfuse invents an inode number; with 0 for one, no program would show them.
        dots: list[tuple[str, None, int]] = [(".", None, 0), ("..", None, 0)]
        return [*dots, *((name, self.stat(attr), 0) for name, attr in listing)]

    @_translated
    def releasedir(self, path: str, handle: int) -> int:
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

    # reading

    @_translated
    def open(self, path: str, flags: int) -> int:
        return self.filesystem.open(path, flags, after_lookup=True).handle

    @_translated
    def read(self, path: str, size: int, offset: int, handle: int) -> bytes:
        return self.filesystem.read(handle, offset, size)

    @_translated
    def release(self, path: str, handle: int) -> int:
        self.filesystem.release(handle)
        return 0

    # changing: all refused, each with its reason

    @_translated
    def create(self, path: str, mode: int, fi: Any = None) -> int:
        self.filesystem.refuse_change(path, "creating a file")

    @_translated
    def mknod(self, path: str, mode: int, dev: int) -> int:
        self.filesystem.refuse_change(path, "creating a file")

    @_translated
    def mkdir(self, path: str, mode: int) -> int:
        self.filesystem.refuse_change(path, "creating a directory")

    @_translated
    def symlink(self, path: str, source: str) -> int:
        self.filesystem.refuse_change(path, "creating a symbolic link")

    @_translated
    def link(self, path: str, source: str) -> int:
        self.filesystem.refuse_change(path, "creating a link")

    @_translated
    def unlink(self, path: str) -> int:
        self.filesystem.refuse_change(path, "removing a file")

    @_translated
    def rmdir(self, path: str) -> int:
        self.filesystem.refuse_change(path, "removing a directory")

    @_translated
    def rename(self, path: str, new: str) -> int:
        self.filesystem.refuse_change(path, "renaming")

    @_translated
    def truncate(self, path: str, length: int, handle: int | None = None) -> int:
        self.filesystem.refuse_change(path, "truncating")

    @_translated
    def write(self, path: str, data: bytes, offset: int, handle: int) -> int:
        self.filesystem.refuse_change(path, "writing")

    @_translated
    def chmod(self, path: str, mode: int) -> int:
        self.filesystem.refuse_change(path, "changing permissions")

    @_translated
    def chown(self, path: str, uid: int, gid: int) -> int:
        self.filesystem.refuse_change(path, "changing the owner")

    @_translated
    def utimens(self, path: str, times: tuple[int, int] | None = None) -> int:
        self.filesystem.refuse_change(path, "changing times")

    @_translated
    def setxattr(self, path: str, name: str, value: bytes, options: int, position: int = 0) -> int:
        self.filesystem.refuse_change(path, f"setting the attribute {name}")

    @_translated
    def removexattr(self, path: str, name: str) -> int:
        self.filesystem.refuse_change(path, f"removing the attribute {name}")


class _CallableOperations(_Operations):
    """For fusepy, which calls the operations object with the operation's name first; mfusepy warns of that."""

    def __call__(self, operation: str, *arguments: Any) -> Any:
        return getattr(self, operation)(*arguments)


def _tuned(binding: Any) -> Any:
    """Return mfusepy's ``FUSE`` class with the callbacks that decide the speed replaced."""

    class TunedFUSE(binding.FUSE):  # type: ignore[misc]  # the base is only known at run time
        operations: _Operations

        def getattr_fuse_3(self, path: bytes, buffer: Any, file_info: Any) -> int:
            operations = self.operations
            text = path.decode("utf-8", "surrogateescape")
            handle = file_info.contents.fh if file_info else None
            try:
                attr = operations.filesystem.getattr(text, handle)
            except Exception as error:  # noqa: BLE001 - nothing may leave through libfuse
                operations.fail("getattr", text, error)
            operations.limit_belief()
            self._fill(buffer.contents, attr)
            return 0

        def _fill(self, stat: Any, attr: Attr) -> None:
            operations = self.operations
            stat.st_ino = attr.ino
            stat.st_mode = attr.mode
            stat.st_nlink = 1
            stat.st_uid = operations._uid
            stat.st_gid = operations._gid
            stat.st_size = attr.size
            stat.st_blksize = 0  # the kernel's choice
            stat.st_blocks = -(-attr.size // _BLOCK)
            seconds, nanoseconds = divmod(attr.mtime_ns, 1_000_000_000)
            for spec in (stat.st_mtimespec, stat.st_ctimespec, stat.st_atimespec):
                spec.tv_sec = seconds
                spec.tv_nsec = nanoseconds

        def readdir_fuse_3(
            self, path: bytes, buffer: Any, fill: Any, offset: int, file_info: Any, flags: int
        ) -> int:
            operations = self.operations
            text = path.decode("utf-8", "surrogateescape")
            handle = file_info.contents.fh
            if offset == 0:  # the first call, or a rewind: as of now
                try:
                    operations.directories[handle] = operations.filesystem.readdir(text)
                except Exception as error:  # noqa: BLE001 - nothing may leave through libfuse
                    operations.fail("readdir", text, error)
            operations.limit_belief()
            # The offset says where the next call goes on: 1 behind ".", 2 behind "..", 3 behind the first name.
            for position in range(offset, 2):
                fill(buffer, (b".", b"..")[position], None, position + 1, 0)
            listing = operations.directories[handle]
            stat = binding.c_stat()
            base = text if text.endswith("/") else f"{text}/"
            may_tell = operations.filesystem.may_tell
            for position in range(max(offset - 2, 0), len(listing)):
                name, attr = listing[position]
                self._fill(stat, attr)
                encoded = name.encode("utf-8", "surrogateescape")
                plus = _FILL_DIR_PLUS if may_tell(base + name, attr) else 0
                # "Full" means that this entry comes again at the next call.
                if fill(buffer, encoded, stat, position + 3, plus):
                    break
            return 0

        def getxattr(self, path: bytes, name: bytes, *arguments: Any) -> int:
            if not name.startswith(_OWN_XATTRS):
                return -_NO_SUCH_XATTR
            size: int = super().getxattr(path, name, *arguments)
            return size

        def open(self, path: bytes, file_info: Any) -> int:
            operations = self.operations
            text = path.decode("utf-8", "surrogateescape")
            info = file_info.contents
            try:
                opened = operations.filesystem.open(text, info.flags, after_lookup=True)
            except Exception as error:  # noqa: BLE001 - nothing may leave through libfuse
                operations.fail("open", text, error)
            info.fh = opened.handle
            info.keep_cache = opened.keep_pages
            info.direct_io = opened.direct
            return 0

        def read(self, path: bytes | None, buffer: Any, size: int, offset: int, file_info: Any) -> int:
            operations = self.operations
            target = (ctypes.c_ubyte * size).from_address(ctypes.addressof(buffer.contents))
            try:
                return operations.filesystem.read_into(
                    file_info.contents.fh, offset, memoryview(target).cast("B")
                )
            except Exception as error:  # noqa: BLE001 - nothing may leave through libfuse
                text = "" if path is None else path.decode("utf-8", "surrogateescape")
                operations.fail("read", text, error)

    return TunedFUSE
