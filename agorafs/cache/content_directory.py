"""The directory of the content cache: opening files safely, and evicting the least recently used.

Place.  ``block_file`` asks here for descriptors and for room; nothing else touches the directory.

Sharing.  One directory serves all mounts of one user. A file in use is held with ``flock`` shared by each
process that has it open. The evictor takes it exclusively, without waiting, before it unlinks: what anybody
reads is not evicted. One process evicts at a time (``flock`` on ``.evict``); the others leave it to that one.
An opener that comes between lock and unlink sees that its file has no name any more, and opens again.

Recency is the later of a file's access and modification time; opening sets the access time, as mounts with
``noatime`` would not.

Safety.  The directory is ours alone (owner checked, mode 0700), files are 0600, and symbolic links are not
followed: medical images are not to be read through the cache, nor to be written elsewhere through it.

Room.  ``used`` is what the last look at the directory found plus what this process wrote since. Above
nine tenths of ``max_bytes``, or below the floor of free disk, eviction is asked for, off the reading path;
at the limit itself writes are refused until there is room, and readers are served from memory. A file that is being
adopted has no name yet: what is *reserved* counts as used although no look finds it.

Threads.  ``_lock`` guards the changing fields and is a leaf; no I/O under it.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import re
import stat
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from agorafs.cache.locks import InvariantLock
from agorafs.clock import Clock
from agorafs.errors import CacheError

if TYPE_CHECKING:
    from agorafs.cache.block_file import BlockFile, Layout
    from agorafs.cache.content_values import ContentLimits

log = logging.getLogger(__name__)

_SUBDIRECTORY = "content-1"  # the format's version is part of the name: other versions do not meet
_NAME = re.compile(r"[0-9a-fx][0-9a-f]{39,40}-[0-9]+\Z")
_EVICT_LOCK = ".evict"
_OPEN_ATTEMPTS = 50
_OPEN_PAUSE_S = 0.01  # an evictor holds a file for two system calls
_RETRY_LOOK_S = 10.0  # between looks while the cache is full and cannot be emptied
_HIGH_TENTHS, _LOW_TENTHS = 9, 8
# What O_TMPFILE fails with where the file system, or the kernel, does not know it.
_NO_UNNAMED_FILES = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL})
_DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class _Found:
    """One file of the directory as a look at it found it."""

    name: str
    recency_ns: int
    disk_bytes: int


class ContentDirectory:
    """The cache directory, shared with other processes.

    *request_eviction* is called (under no lock) when ``evict`` should run soon in another thread. *pinned* gives the
    contents that are never evicted; while it is open none is added.
    """

    def __init__(
        self,
        path: Path,
        limits: ContentLimits,
        clock: Clock,
        *,
        request_eviction: Callable[[], None],
        pinned: Callable[[], AbstractContextManager[frozenset[str]]] = lambda: nullcontext(frozenset()),
        free_bytes: Callable[[int], int] | None = None,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        # Given and fixed:
        self._pinned = pinned
        self._path = path
        self._limits = limits
        self._clock = clock
        self._request_eviction = request_eviction
        self._free_bytes = free_bytes or _free_bytes
        self._wall_ns = wall_ns
        self._look_every_bytes = max(limits.block_bytes, min(limits.max_bytes // 16, 256 * 1024 * 1024))
        self._lock = InvariantLock(self._check)
        # Changing, guarded by _lock:
        self._descriptor: int | None = None
        self._is_closed = False
        self._abandoned: list[int] = []  # descriptors of directories that were removed under us
        self._open: OrderedDict[int, BlockFile] = OrderedDict()  # by id(); oldest opening first
        self._looked = False
        self._used_bytes = 0  # at the last look
        self._room_bytes = 0  # how much more the last look allows
        self._written_bytes = 0  # by this process, ever
        self._written_at_look = 0  # that, when the last look began
        self._reserved_bytes = 0  # of files that have no name yet
        self._look_requested = False
        self._next_look_at = 0.0
        self._complaints: set[str] = set()
        self._bypassed = ""
        self._dropped_blocks = 0

    # -- state ----------------------------------------------------------------------------------------

    @property
    def used_bytes(self) -> int:
        """Disk space used, as far as this process knows."""
        with self._lock:
            return self._used_bytes + self._written_bytes - self._written_at_look

    @property
    def open_files(self) -> int:
        with self._lock:
            return len(self._open)

    @property
    def bypassed(self) -> str:
        """Why the disk is not used, or an empty string."""
        with self._lock:
            return self._bypassed

    @property
    def dropped_blocks(self) -> int:
        """How many damaged blocks were found."""
        with self._lock:
            return self._dropped_blocks

    def note_dropped(self) -> None:
        with self._lock:
            self._dropped_blocks += 1

    def complain(self, kind: str, message: str) -> None:
        """Warn once per *kind*; a failing disk fails often."""
        with self._lock:
            first = kind not in self._complaints
            self._complaints.add(kind)
        log.log(logging.WARNING if first else logging.DEBUG, "content cache %s: %s", self._path, message)

    def bypass(self, reason: str) -> None:
        """Note that a content goes on without the disk."""
        with self._lock:
            self._bypassed = reason
        self.complain("bypass", f"{reason}; reading without it")

    # -- opening --------------------------------------------------------------------------------------

    def open_file(self, layout: Layout) -> int:
        """Open or create the file of a content, locked against eviction; the caller closes it.

        Raises CacheError or OSError when that is not possible.
        """
        for _ in range(_OPEN_ATTEMPTS):
            directory = self._directory()
            try:
                descriptor = self._open_once(directory, layout)
            except FileNotFoundError:  # the directory itself was removed under us
                self._close_directory()
                continue
            if descriptor is not None:
                with self._lock:
                    self._bypassed = ""
                return descriptor
        raise CacheError(f"{layout.key} can not be opened: somebody keeps it locked or keeps replacing it")

    def peek(self, layout: Layout) -> int | None:
        """Open the file of a content for a look, if there is one; never creates it."""
        try:
            return os.open(
                layout.key,
                os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK,
                dir_fd=self._directory(),
            )
        except FileNotFoundError:
            return None

    def create_unnamed(self) -> int:
        """Open a new file that nobody can find, and that is gone when it is closed; ``give_name`` makes it stay.

        Raises CacheError or OSError when that is not possible.
        """
        flags = os.O_RDWR | os.O_CLOEXEC
        for _ in range(_OPEN_ATTEMPTS):
            directory = self._directory()
            try:
                try:
                    return os.open(".", flags | os.O_TMPFILE, 0o600, dir_fd=directory)
                except OSError as error:
                    if error.errno not in _NO_UNNAMED_FILES:
                        raise
                name = f".unnamed-{uuid.uuid4().hex}"
                descriptor = os.open(name, flags | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=directory)
                os.unlink(name, dir_fd=directory)
                return descriptor
            except FileNotFoundError:  # the directory itself was removed under us
                self._close_directory()
        raise CacheError(f"{self._path} is removed again and again")

    def give_name(self, descriptor: int, key: str) -> bool:
        """Let a file of ``create_unnamed`` stay under *key*; False when that is taken, or can not be done here."""
        try:
            os.link(f"/proc/self/fd/{descriptor}", key, dst_dir_fd=self._directory(), follow_symlinks=True)
        except OSError as error:
            log.debug("content cache %s: %s gets no name: %s", self._path, key, error)
            return False
        return True

    def _open_once(self, directory: int, layout: Layout) -> int | None:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        try:
            descriptor = os.open(layout.key, flags, 0o600, dir_fd=directory)
        except FileNotFoundError:
            raise
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise CacheError(f"opening {layout.key}: {error.strerror}") from error
            self.complain("link", f"{layout.key} is a symbolic link; removed, not followed")
            os.unlink(layout.key, dir_fd=directory)
            return None
        try:
            usable = self._prepare(directory, descriptor, layout)
        except BaseException:
            os.close(descriptor)
            raise
        if usable:
            return descriptor
        os.close(descriptor)
        return None

    def _prepare(self, directory: int, descriptor: int, layout: Layout) -> bool:
        """Lock a freshly opened file and make sure it is the content's; False: open again."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            self._clock.sleep(_OPEN_PAUSE_S)
            return False
        status = os.fstat(descriptor)
        try:
            named = os.stat(layout.key, dir_fd=directory, follow_symlinks=False)
        except FileNotFoundError:
            return False  # evicted between open and lock
        if (named.st_dev, named.st_ino) != (status.st_dev, status.st_ino):
            return False
        if status.st_uid != os.geteuid():
            raise CacheError(f"{layout.key} belongs to another user")
        if status.st_size == 0 and stat.S_ISREG(status.st_mode):
            # Two processes may both do this: they write the same.
            os.pwrite(descriptor, layout.header, 0)
            os.ftruncate(descriptor, layout.file_bytes)
            return True
        if not stat.S_ISREG(status.st_mode) or os.pread(descriptor, len(layout.header), 0) != layout.header:
            self.complain("header", f"{layout.key} is not what its name says; fetching it again")
            os.unlink(layout.key, dir_fd=directory)
            return False
        if status.st_size != layout.file_bytes:
            # A creator was killed half-way, or somebody cut the file; lost blocks fail their checksum.
            os.ftruncate(descriptor, layout.file_bytes)
        else:
            os.utime(descriptor, ns=(self._wall_ns(), status.st_mtime_ns))
        return True

    def unlink(self, key: str, identity: tuple[int, int] | None) -> None:
        """Remove a content's file if it still is the one with *identity* (device, inode)."""
        try:
            directory = self._directory()
            status = os.stat(key, dir_fd=directory, follow_symlinks=False)
            if identity is None or identity == (status.st_dev, status.st_ino):
                os.unlink(key, dir_fd=directory)
        except FileNotFoundError:
            pass
        except (OSError, CacheError) as error:
            # Its bytes can not come back to life: an unsealed file is verified again before it is complete.
            self.complain("unlink", f"{key} can not be removed: {error}")

    def _directory(self) -> int:
        with self._lock:
            known = self._descriptor
            if self._is_closed:
                raise CacheError("the cache is closed")
        if known is not None:
            return known
        try:
            self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
            _check_owner(self._path.stat(), self._path)
            path = self._path / _SUBDIRECTORY
            path.mkdir(mode=0o700, exist_ok=True)
            descriptor = os.open(path, _DIRECTORY_FLAGS)
        except OSError as error:
            raise CacheError(f"{error.strerror or error}: {self._path}") from error
        try:
            status = os.fstat(descriptor)
            _check_owner(status, path)
            if status.st_mode & 0o077:
                os.fchmod(descriptor, 0o700)
        except BaseException:
            os.close(descriptor)
            raise
        return self._install(descriptor)

    def _install(self, descriptor: int) -> int:
        """Take a freshly opened directory into use, unless another thread was faster; return the one in use."""
        with self._lock:
            in_use = self._descriptor
            if in_use is None:
                self._descriptor = descriptor
        if in_use is None:
            return descriptor
        os.close(descriptor)
        return in_use

    def _close_directory(self) -> None:
        # The number is given back to the system only in close(): another thread may be about to use it.
        with self._lock:
            if self._descriptor is not None:
                self._abandoned.append(self._descriptor)
                self._descriptor = None

    # -- open files -----------------------------------------------------------------------------------

    def note_open(self, file: BlockFile) -> None:
        """Count a file as open, and park the ones opened longest ago beyond ``max_open_files``."""
        with self._lock:
            self._open[id(file)] = file
            surplus = max(0, len(self._open) - self._limits.max_open_files)
            oldest = list(self._open.values())[:surplus]
        for other in oldest:
            other.park()

    def forget_open(self, file: BlockFile) -> None:
        with self._lock:
            self._open.pop(id(file), None)

    def close(self, *, is_quiet: bool) -> None:
        """Park all files; from here on nothing is opened. Files in use are closed by their last use.

        Unless *is_quiet*, a thread may be about to use the directory's descriptor, and that is left open: its
        number must not become another directory's.
        """
        with self._lock:
            self._is_closed = True
            files = list(self._open.values())
        for file in files:
            file.park()
        self._close_directory()
        with self._lock:
            abandoned, self._abandoned = (self._abandoned, []) if is_quiet else ([], self._abandoned)
        for descriptor in abandoned:
            os.close(descriptor)

    # -- room -----------------------------------------------------------------------------------------

    def admit(self, size: int) -> bool:
        """Ask for room to write *size* bytes; False when there is none now."""
        now = self._clock.monotonic()
        with self._lock:
            limit = self._room_bytes if self._looked else self._look_every_bytes
            since_look = self._written_bytes - self._written_at_look + size
            allowed = since_look <= limit
            if allowed:
                self._written_bytes += size
                look = not self._looked or since_look >= min(self._look_every_bytes, limit // 2)
            else:
                look = now >= self._next_look_at
            look = look and not self._look_requested
            if look:
                self._look_requested = True
                self._next_look_at = now + _RETRY_LOOK_S
        if look:
            self._request_eviction()
        return allowed

    def reserve(self, size: int) -> bool:
        """Set *size* bytes apart for a file without a name, evicting for them if need be; ``release`` is to follow.

        False, and nothing to release, when there is no room: then the file could not stay either.
        """
        if size > self._limits.max_bytes * _HIGH_TENTHS // 10:
            return False
        with self._lock:
            self._reserved_bytes += size
            has_room = self._looked and self._written_bytes - self._written_at_look + size <= self._room_bytes
            if has_room:
                self._written_bytes += size
        if not has_room:
            has_room = self._look_and_evict()
        if not has_room:
            self.release(size)
        return has_room

    def release(self, size: int) -> None:
        """The file of a reservation has its name, or is gone."""
        with self._lock:
            self._reserved_bytes -= size

    def note_full(self) -> None:
        """The disk took no more: write nothing until the next look finds room."""
        with self._lock:
            self._looked = True
            self._room_bytes = 0
            look = not self._look_requested
            self._look_requested = True
        self.complain("full", "the disk is full; reading on without keeping more")
        if look:
            self._request_eviction()

    def evict(self) -> None:
        """Look at the directory and remove the least recently used contents until there is room."""
        self._look_and_evict()

    def _look_and_evict(self) -> bool:
        """Do what ``evict`` says; return whether there is room now, for what is reserved too."""
        try:
            return self._evict(self._directory())
        except (OSError, CacheError) as error:
            self.complain("evict", f"can not make room: {error}")
            return False
        finally:
            with self._lock:
                self._look_requested = False

    def _evict(self, directory: int) -> bool:
        limits = self._limits
        with self._lock:
            written_before = self._written_bytes
            reserved = self._reserved_bytes
        found = _look(directory)
        used = sum(item.disk_bytes for item in found) + reserved
        # What is written already of a reserved file counts twice here; at worst a little too much is evicted.
        free = self._free_bytes(directory) - reserved
        if used > limits.max_bytes * _HIGH_TENTHS // 10 or free < limits.min_free_bytes:
            goal = max(used - limits.max_bytes * _LOW_TENTHS // 10, limits.min_free_bytes - free)
            freed = self._remove_oldest(directory, found, goal)
            used -= freed
            free = self._free_bytes(directory) - reserved
        with self._lock:
            self._looked = True
            self._used_bytes = used
            self._written_at_look = written_before
            self._room_bytes = max(0, min(limits.max_bytes - used, free - limits.min_free_bytes))
        return used <= limits.max_bytes and free >= limits.min_free_bytes

    def _remove_oldest(self, directory: int, found: list[_Found], goal_bytes: int) -> int:
        lock = os.open(
            _EVICT_LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=directory
        )
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return 0  # another process is at it
        freed = 0
        try:
            with self._pinned() as pinned:
                for item in sorted(found, key=lambda item: item.recency_ns):
                    if freed >= goal_bytes:
                        break
                    if item.name not in pinned and _remove_unused(directory, item.name):
                        freed += item.disk_bytes
        finally:
            os.close(lock)
        log.debug("content cache %s: evicted %d bytes", self._path, freed)
        return freed

    def _check(self) -> None:
        assert 0 <= self._written_at_look <= self._written_bytes
        assert self._room_bytes >= 0
        assert self._reserved_bytes >= 0


def _look(directory: int) -> list[_Found]:
    found = []
    with os.scandir(directory) as entries:
        for entry in entries:
            if _NAME.match(entry.name):
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                recency = max(status.st_atime_ns, status.st_mtime_ns)
                found.append(_Found(entry.name, recency, status.st_blocks * 512))
    return found


def _remove_unused(directory: int, name: str) -> bool:
    """Unlink a content that no process has open."""
    try:
        descriptor = os.open(name, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=directory)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        status = os.fstat(descriptor)
        named = os.stat(name, dir_fd=directory, follow_symlinks=False)
        if (named.st_dev, named.st_ino) != (status.st_dev, status.st_ino):
            return False
        os.unlink(name, dir_fd=directory)
        return True
    except OSError:  # in use, or gone
        return False
    finally:
        os.close(descriptor)


def _check_owner(status: os.stat_result, path: Path) -> None:
    if status.st_uid != os.geteuid():
        raise CacheError(f"{path} belongs to another user; patients' data is not kept there")


def _free_bytes(descriptor: int) -> int:
    status = os.fstatvfs(descriptor)
    return status.f_bavail * status.f_frsize
