"""mfusepy's callbacks that decide the speed, or that need what it hides, replaced by our own.

* ``readdir`` hands over attributes with the names, so ``ls -l`` and ``find`` need no ``getattr`` per entry,
  and resumes at the kernel's offset instead of listing again.
* ``getxattr`` refuses what we have not (``ls -l`` asks for two such names per entry, and the kernel for one before
  each write) before anything is decoded or raised.
* ``read`` and ``write`` go straight to and from libfuse's buffer.
* ``open`` lets the kernel keep its pages while the version behind the path is the same, which tools that
  open a file ten times notice. No ``direct_io`` on data: it breaks ``mmap``.
* ``truncate``, ``utimens``, ``chmod`` and ``chown`` go by the handle where there is one: there may be no path any
  more. ``utimens`` sees "now" and "leave it" as what they are. ``rename`` sees its flags.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from typing import Any

from agorafs.errors import NoSuchXattr, NotSupported
from agorafs.fuse_mount.operations import BLOCK, Operations
from agorafs.vfs import Opened, xattrs
from agorafs.vfs.attr import Attr
from agorafs.vfs.errno_map import outcome_of

_FILL_DIR_PLUS = 2  # FUSE_FILL_DIR_PLUS of libfuse 3: the entry comes with all its attributes
_OWN_XATTRS = xattrs.PREFIX.encode()
_ALIASES = frozenset({xattrs.XDG_TAGS.encode(), xattrs.BALOO_RATING.encode()})
_NO_SUCH_XATTR = outcome_of(NoSuchXattr("")).errno
_UNSUPPORTED = frozenset(name.encode() for name in xattrs.UNSUPPORTED)
_NOT_SUPPORTED = outcome_of(NotSupported("")).errno
_UTIME_NOW = (1 << 30) - 1
_UTIME_OMIT = (1 << 30) - 2


def _text(path: bytes | None) -> str:
    return "" if path is None else path.decode("utf-8", "surrogateescape")


def _handle(file_info: Any) -> int | None:
    return file_info.contents.fh if file_info else None


def _view(buffer: Any, size: int) -> memoryview:
    """Return libfuse's own memory."""
    array = (ctypes.c_ubyte * size).from_address(ctypes.addressof(buffer.contents))
    return memoryview(array).cast("B")


def tuned(binding: Any) -> Any:
    """Return mfusepy's ``FUSE`` class with some callbacks replaced (see the module docstring)."""

    class TunedFUSE(binding.FUSE):  # type: ignore[misc]  # the base is only known at run time
        operations: Operations

        # looking

        def getattr_fuse_3(self, path: bytes | None, buffer: Any, file_info: Any) -> int:
            operations = self.operations
            text = _text(path)
            try:
                attr = operations.filesystem.getattr(text, _handle(file_info))
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
            stat.st_uid = operations.uid
            stat.st_gid = operations.gid
            stat.st_size = attr.size
            stat.st_blksize = 0  # the kernel's choice
            stat.st_blocks = -(-attr.size // BLOCK)
            seconds, nanoseconds = divmod(attr.mtime_ns, 1_000_000_000)
            for spec in (stat.st_mtimespec, stat.st_ctimespec, stat.st_atimespec):
                spec.tv_sec = seconds
                spec.tv_nsec = nanoseconds

        def readdir_fuse_3(
            self, path: bytes | None, buffer: Any, fill: Any, offset: int, file_info: Any, flags: int
        ) -> int:
            operations = self.operations
            directory = operations.directories[file_info.contents.fh]
            text = directory.path
            if offset == 0:  # the first call, or a rewind: as of now
                try:
                    directory.listing = operations.filesystem.readdir(text)
                except Exception as error:  # noqa: BLE001 - nothing may leave through libfuse
                    operations.fail("readdir", text, error)
            operations.limit_belief()
            # The offset says where the next call goes on: 1 behind ".", 2 behind "..", 3 behind the first name.
            for position in range(offset, 2):
                fill(buffer, (b".", b"..")[position], None, position + 1, 0)
            listing = directory.listing
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
            if not name.startswith(_OWN_XATTRS) and name not in _ALIASES:
                return -(_NOT_SUPPORTED if name in _UNSUPPORTED else _NO_SUCH_XATTR)
            size: int = super().getxattr(path, name, *arguments)
            return size

        # the bytes of files

        def open(self, path: bytes, file_info: Any) -> int:
            operations = self.operations
            flags = file_info.contents.flags
            return self._open(
                "open",
                path,
                file_info,
                lambda text: operations.filesystem.open(
                    text, flags, after_lookup=True, caller=operations.caller
                ),
            )

        def create(self, path: bytes, mode: int, file_info: Any) -> int:
            operations = self.operations
            flags = file_info.contents.flags
            return self._open(
                "create",
                path,
                file_info,
                lambda text: operations.filesystem.create(text, flags, caller=operations.caller),
            )

        def _open(self, what: str, path: bytes, file_info: Any, call: Callable[[str], Opened]) -> int:
            text = _text(path)
            try:
                opened = call(text)
            except Exception as error:  # noqa: BLE001 - nothing may leave through libfuse
                self.operations.fail(what, text, error)
            info = file_info.contents
            info.fh = opened.handle
            info.keep_cache = opened.keep_pages
            info.direct_io = opened.direct
            return 0

        def read(self, path: bytes | None, buffer: Any, size: int, offset: int, file_info: Any) -> int:
            operations = self.operations
            handle = file_info.contents.fh
            try:
                return operations.filesystem.read_into(handle, offset, _view(buffer, size))
            except Exception as error:  # noqa: BLE001 - nothing may leave through libfuse
                operations.fail("read", operations.filesystem.path_of(handle), error)

        def write(self, path: bytes | None, buffer: Any, size: int, offset: int, file_info: Any) -> int:
            operations = self.operations
            handle = file_info.contents.fh
            try:
                return operations.filesystem.write(handle, offset, _view(buffer, size))
            except Exception as error:  # noqa: BLE001 - nothing may leave through libfuse
                operations.fail("write", operations.filesystem.path_of(handle), error)

        def truncate_fuse_3(self, path: bytes | None, length: int, file_info: Any) -> int:
            return self.operations.truncate(_text(path), length, _handle(file_info))

        # what the archive has little or nothing for

        def rename_fuse_3(self, old: bytes, new: bytes, flags: int) -> int:
            return self.operations.rename(_text(old), _text(new), flags)

        def utimens_fuse_3(self, path: bytes | None, times: Any, file_info: Any) -> int:
            spec = times.contents.modtime if times else None
            if spec is not None and spec.tv_nsec == _UTIME_OMIT:
                return 0
            if spec is None or spec.tv_nsec == _UTIME_NOW:
                mtime_ns = time.time_ns()
            else:
                mtime_ns = spec.tv_sec * 1_000_000_000 + spec.tv_nsec
            return self.operations.utimens(_text(path), (mtime_ns, mtime_ns), _handle(file_info))

        def chmod_fuse_3(self, path: bytes | None, mode: int, file_info: Any) -> int:
            return 0 if path is None else self.operations.chmod(_text(path), mode)

        def chown_fuse_3(self, path: bytes | None, uid: int, gid: int, file_info: Any) -> int:
            return 0 if path is None else self.operations.chown(_text(path), uid, gid)

    return TunedFUSE
