"""Open files, and what the kernel believes of their paths, so that one handle never sees two versions.

Why.  The kernel has one inode for each path: one page cache, one size. When a path gets another version (its
object was replaced, or the name passed to a sibling), old handles and new ones would share both, and read each
other's bytes or stop at each other's end. Four rules keep them apart:

1. Attributes of another version are never given for a path without making its older handles stale first
   (``tell``). A stale handle answers everything with ``StaleHandle``.
2. A path is opened only as the version whose attributes were given last (``add``): else the kernel would cut
   the new bytes at the old size. ``StaleLookup`` makes the kernel look again, and open again.
3. The kernel may keep a path's pages only when a handle of the same version has been *read* after its opening
   dropped the pages of others. That an ``open`` was answered proves nothing: the kernel may not have dropped them
   yet when the next ``open`` arrives.
4. While a stale handle of the path is open, new handles are ``direct``: none of their bytes reach the page cache,
   through which the stale one could still see them.

What this mount changes is another matter: the kernel knows of it, its pages and its size are right, and nobody is to
get an error for it. So handles go along with a rename (``move``); they lose their path, and are no longer concerned
by what happens there, when their file is removed or something is renamed over it (``detach``); and when a stored file
is changed, all that have it open go on with the changed bytes (``follow``). The steps of a first change are: the file
gets its new version label; whoever is about to say or open anything of that version calls ``follow`` before; so no
handle is ever found with the label of before, and what another thread saw just before the change and says just after
it is not listened to (``formers``).

Files that may be changed at any moment (``Attr.may_grow``) are excused from the second rule but for the version: the
kernel knows their size better than the last look-up. Nor are their attributes handed on from a listing.

A read that failed.  When reading ahead fails, the kernel asks for the first page once more before it tells the
program. With a server that does not answer, the program would wait out two deadlines. So for ``_REPEAT_S`` after
the archive has failed a read, the same handle gets the same error for the same place (``_failed_just_now``).

Threads.  ``_lock`` guards ``_open``, ``_by_path``, ``_told``, ``_pages``, ``_stale`` and ``_next``; it is a leaf.
``_open``, ``_told`` and ``_stale`` are also looked at without it, one look-up at a time. A handle's ``is_stale`` and
``was_read`` are set once, from False to True, under ``_lock``, and read without it; its ``failure``, ``path``,
``version`` and ``source`` are replaced as a whole. ``was_doubted`` is set without it: at worst the archive is asked
twice.

Invariants, run by ``_check`` at each release of ``_lock`` in tests:
  1. ``_by_path`` has exactly the files of ``_open`` that have a path, each under it, and no empty lists.
  2. Of the handles of one path that are not stale all have the same version.
  3. ``_stale`` is the number of open files that are stale.
  4. ``_pages`` names no version while a handle of another version, not stale, is open at that path.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, TypeVar

from agorafs.byterange import ByteRange
from agorafs.cache.flights import copy_of
from agorafs.cache.locks import InvariantLock
from agorafs.clock import SYSTEM_CLOCK, Clock
from agorafs.errors import BadHandle, RemoteError, StaleHandle, StaleLookup
from agorafs.uploads.nodes import LocalNode
from agorafs.vfs.attr import Attr

T = TypeVar("T")

# Attributes are given at most a second before they are acted on, and some 20,000 look-ups a second are the most
# that one mount answers. A path that was forgotten costs one more look-up.
_MAX_TOLD = 20_000
_MAX_PAGES = 100_000
# The kernel repeats a failed read within microseconds; the rest is for a machine that is busy. A program that tries
# again itself gets the old answer for so long.
_REPEAT_S = 1.0


class Version(NamedTuple):
    """What changes when the bytes behind a path change.

    ``content`` names the bytes (``ContentRef.key``); ``generation`` counts how often bytes that had been
    delivered turned out to be wrong.
    """

    content: str
    generation: int


class Source(Protocol):
    """What an open file reads from: ``cache.content.OpenContent``."""

    def read_into(self, offset: int, view: memoryview) -> int: ...
    def close(self) -> None: ...


class Writable(Source, Protocol):
    """What a file that is open for writing writes to: ``uploads.local_file.LocalFile``, or ``vfs.sources``."""

    @property
    def size(self) -> int: ...
    def write(self, offset: int, data: bytes | memoryview) -> int: ...
    def truncate(self, size: int) -> None: ...
    def allocate(self, mode: int, offset: int, length: int) -> None: ...
    def flush(self) -> None: ...
    def fsync(self) -> None: ...


class ReadFailure(NamedTuple):
    """The archive failed a read; ``at`` is in seconds on the monotonic clock."""

    place: ByteRange
    at: float
    error: RemoteError


@dataclass(slots=True, eq=False)
class OpenFile:
    """One ``open``. ``source`` is the archive's content, or the bytes of a ``.agora`` file (then no version).

    ``path`` is None once the file was removed. ``writable`` is the source of a handle that may write; ``node`` the
    local file that it belongs to.
    """

    path: str | None
    attr: Attr
    version: Version | None
    source: Source | bytes
    writable: Writable | None = field(default=None)
    node: LocalNode | None = field(default=None)
    formers: tuple[str, ...] = field(default=())
    former_sources: tuple[Source, ...] = field(default=())
    is_stale: bool = field(default=False)
    was_read: bool = field(default=False)
    was_doubted: bool = field(default=False)
    failure: ReadFailure | None = field(default=None)

    def require_fresh(self) -> None:
        """Raise ``StaleHandle`` if the path has got another version since."""
        if self.is_stale:
            raise StaleHandle(f"{self.path} changed after it was opened; open it again")

    def read_into(self, offset: int, view: memoryview) -> int:
        """Fill *view* with the bytes from *offset* on; return how many there were."""
        self.require_fresh()
        if isinstance(self.source, bytes):
            piece = self.source[offset : offset + len(view)]
            view[: len(piece)] = piece
            return len(piece)
        return self.source.read_into(offset, view)

    def close(self) -> None:
        if not isinstance(self.source, bytes):
            self.source.close()
        for source in self.former_sources:
            source.close()


class Told(NamedTuple):
    """Attributes that were given, and the version label of the bytes they are of."""

    attr: Attr
    content: str


class Entered(NamedTuple):
    """``keep_pages``, ``direct``: see ``filesystem.Opened``."""

    handle: int
    keep_pages: bool
    direct: bool


class HandleTable:
    """All open files, by number. See the module docstring."""

    def __init__(
        self, clock: Clock = SYSTEM_CLOCK, max_told: int = _MAX_TOLD, max_pages: int = _MAX_PAGES
    ) -> None:
        # fixed
        self._clock = clock
        self._max_told = max_told
        self._max_pages = max_pages
        self._lock = InvariantLock(self._check)
        # changing, guarded by _lock
        self._open: dict[int, OpenFile] = {}
        self._by_path: dict[str, list[OpenFile]] = {}
        self._next = 1
        self._stale = 0
        # the attributes given last for the path of a file, the latest at the end; None: none that still count
        self._told: dict[str, Told | None] = {}
        # the version that the kernel's pages of a path certainly belong to
        self._pages: dict[str, Version] = {}

    def tell(self, path: str, attr: Attr, content: str) -> None:
        """Note that *attr* of the bytes *content* is about to be given for the file *path*."""
        with self._lock:
            self._locked_tell(path, attr, content)

    def may_tell(self, path: str, attr: Attr) -> bool:
        """Tell whether *attr*, which may be out of date, says nothing new of the file *path*."""
        if attr.may_grow:
            return False
        if path in self._told:
            told = self._told.get(path)
            return told is not None and told.attr == attr
        return path not in self._by_path

    def add(self, file: OpenFile, *, after_lookup: bool) -> Entered:
        """Enter *file*; *after_lookup*: only if its attributes were those given last for its path.

        Raises:
            StaleLookup: They were not.
        """
        with self._lock:
            path, version = file.path, file.version
            assert path is not None, "a file is opened by its path"
            if version is not None:
                if not after_lookup:
                    self._locked_tell(path, file.attr, version.content)
                elif not _is_as_told(self._told.get(path), file.attr, version):
                    raise StaleLookup(f"{path} has changed since it was looked up")
            same_path = self._by_path.get(path, [])
            if version is not None and any(version.content in other.formers for other in same_path):
                raise StaleLookup(f"{path} has changed while it was being opened")
            for other in same_path:
                if other.version != version:
                    self._locked_mark(other)
            handle = self._next
            self._next += 1
            self._open[handle] = file
            keep_pages = version is not None and self._pages.get(path) == version
            if not keep_pages:
                self._pages.pop(path, None)
            direct = version is None or any(other.is_stale for other in same_path)
            self._by_path[path] = [*same_path, file]
        return Entered(handle, keep_pages, direct)

    def get(self, handle: int) -> OpenFile:
        """Return the open file behind *handle*."""
        file = self._open.get(handle)
        if file is None:
            raise BadHandle(f"handle {handle} is not open")
        return file

    def read_into(self, handle: int, offset: int, view: memoryview) -> int:
        """Fill *view* from *offset* on; return how many bytes there were."""
        file = self.get(handle)
        if not file.was_read:
            with self._lock:
                file.was_read = True
                if file.version is not None and file.path is not None and not file.is_stale:
                    _remember(self._pages, file.path, file.version, self._max_pages)
        failure = self._failed_just_now(file, offset)
        if failure is not None:
            raise copy_of(failure) from failure
        try:
            return file.read_into(offset, view)
        except RemoteError as error:
            place = ByteRange(offset, offset + len(view))
            file.failure = ReadFailure(place, self._clock.monotonic(), error)
            raise

    def _failed_just_now(self, file: OpenFile, offset: int) -> RemoteError | None:
        """Return the error of a read that the kernel, and no program, is about to repeat."""
        failure = file.failure
        if failure is None or file.is_stale or not failure.place.start <= offset < failure.place.stop:
            return None
        return failure.error if self._clock.monotonic() - failure.at < _REPEAT_S else None

    def outdate(self, file: OpenFile) -> None:
        """Make *file* stale: the archive has another version, though nobody has been told of it yet."""
        with self._lock:
            self._locked_mark(file)

    def remove(self, handle: int) -> None:
        """Close *handle*."""
        with self._lock:
            file = self._open.pop(handle, None)
            if file is None:
                raise BadHandle(f"handle {handle} is not open")
            self._stale -= file.is_stale
            if file.path is not None:
                same_path = self._by_path[file.path]
                same_path.remove(file)
                if not same_path:
                    del self._by_path[file.path]
        file.close()

    # -- changes made through this mount -------------------------------------------------------------

    def move(self, old: str, new: str, *, is_directory: bool) -> None:
        """*old* has been renamed to *new*; what was there before is gone."""
        with self._lock:
            self._locked_detach(new)
            paths = [old]
            if is_directory:
                below = f"{old}/"
                known = (*self._by_path, *self._told, *self._pages)
                paths += dict.fromkeys(path for path in known if path.startswith(below))
            for path in paths:
                self._locked_move(path, new + path[len(old) :])

    def detach(self, path: str) -> None:
        """The file *path* was removed: its handles go on without a path."""
        with self._lock:
            self._locked_detach(path)

    def follow(self, path: str, node: LocalNode, attr: Attr, open_reader: Callable[[], Source]) -> None:
        """Let the handles of a stored file that was changed as *node* go on with its new bytes.

        To be called before anything of the new version is told or opened. *open_reader* may wait for a writer.
        """
        readers: list[Source] = []
        while self._is_followed_by_some(path, node):
            with self._lock:
                files = self._by_path.get(path, [])
                formers = {
                    file.version.content for file in files if file.node is node and file.version is not None
                } - {node.token}
                followers = [
                    file
                    for file in files
                    if file.version is not None and not file.is_stale and file.version.content in formers
                ]
                strangers = [file for file in followers if file.node is not node]
                if len(strangers) <= len(readers):
                    for file in strangers:
                        if not isinstance(file.source, bytes):
                            file.former_sources += (file.source,)
                        file.source, file.node = readers.pop(), node
                    for file in followers:
                        file.formers += tuple(formers)
                        file.version = Version(node.token, 0)
                    self._pages.pop(path, None)
                    _remember(self._told, path, Told(attr, node.token), self._max_told)
                    break
            readers.append(open_reader())
        for reader in readers:
            reader.close()

    def at(self, path: str) -> OpenFile | None:
        """Return a handle of *path*, one that may write if there is one."""
        with self._lock:
            files = self._by_path.get(path, [])
            return max(files, key=lambda file: file.writable is not None, default=None)

    def _is_followed_by_some(self, path: str, node: LocalNode) -> bool:
        files = self._by_path.get(path, ())
        return any(
            file.node is node and file.version is not None and file.version.content != node.token
            for file in tuple(files)
        )

    def count(self) -> int:
        """Return how many files are open."""
        return len(self._open)

    def has_stale(self) -> bool:
        """Tell whether any handle is stale."""
        return self._stale > 0

    def close_all(self) -> None:
        """Close every handle; the mount is going away."""
        for handle in list(self._open):
            with contextlib.suppress(BadHandle):  # closed by its owner meanwhile
                self.remove(handle)

    def _locked_tell(self, path: str, attr: Attr, content: str) -> None:
        same_path = self._by_path.get(path, ())
        if any(content in other.formers for other in same_path):
            return  # seen just before the first change, said just after it
        _remember(self._told, path, Told(attr, content), self._max_told)
        for other in same_path:
            if other.version is None or other.version.content != content:
                self._locked_mark(other)

    def _locked_mark(self, file: OpenFile) -> None:
        if not file.is_stale and file.version is not None:
            file.is_stale = True
            self._stale += 1

    def _locked_detach(self, path: str) -> None:
        for file in self._by_path.pop(path, ()):
            file.path = None
        _remember(self._told, path, None, self._max_told)
        self._pages.pop(path, None)

    def _locked_move(self, old: str, new: str) -> None:
        moving = self._by_path.pop(old, None)
        for file in self._by_path.pop(new, ()):
            file.path = None
        if moving:
            for file in moving:
                file.path = new
            self._by_path[new] = moving
        # What the kernel knows of the file it knows of it under its new name.
        _remember(self._told, new, self._told.get(old), self._max_told)
        _remember(self._told, old, None, self._max_told)
        pages = self._pages.pop(old, None)
        if pages is None:
            self._pages.pop(new, None)
        else:
            _remember(self._pages, new, pages, self._max_pages)

    def _check(self) -> None:
        entered = [file for files in self._by_path.values() for file in files]
        with_path = [file for file in self._open.values() if file.path is not None]
        assert {id(file) for file in entered} == {id(file) for file in with_path}
        assert len(entered) == len(with_path)
        assert all(file.path == path for path, files in self._by_path.items() for file in files)
        assert all(self._by_path.values())
        assert self._stale == sum(file.is_stale for file in self._open.values())
        for path, files in self._by_path.items():
            versions = {file.version for file in files if not file.is_stale}
            assert len(versions) <= 1, path
            pages = self._pages.get(path)
            assert pages is None or not versions or versions == {pages}, path


def _is_as_told(told: Told | None, attr: Attr, version: Version) -> bool:
    if told is None:
        return False
    return told.content == version.content if attr.may_grow else told.attr == attr


def _remember(table: dict[str, T], path: str, value: T, limit: int) -> None:
    """Set *path* in *table*, which then holds the *limit* paths that were set last."""
    table.pop(path, None)
    table[path] = value
    if len(table) > limit:
        del table[next(iter(table))]
