"""Pins: which contents stay in the cache, whatever else is read.

Why.  Who works on a train tomorrow, or on the same exam for weeks, does not want it evicted by what others read.

Form.  In ``pins-1/`` of the cache directory, one small JSON file for each thing that was pinned: the archive, the
object, the path it had, and its contents by their keys with their bytes on disk. Two pins may share contents; those
stay while one of the two does. All mounts of a user share them, as they share the cache.

Room.  All pinned contents together take no more than the cache may use less one window of read-ahead, so that reading
goes on beside them.

Processes.  The file ``lock`` is held, shared, while somebody evicts, and alone while pins change: a content that was
pinned before it was looked at is not evicted. Pins that can not be read keep everything: nothing is evicted then.

Threads.  No state; every method may be called from any thread.

Failure.  ``TooLarge`` when there is no room. ``held`` lets ``OSError`` and ``ValueError`` of the disk through as
``CacheError``; so do the others as ``NotSupported``, with the reason.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from agorafs.cache.block_file import Layout
from agorafs.cache.content_values import ContentRef
from agorafs.errors import CacheError, NotSupported, TooLarge, UsageError
from agorafs.private_directory import make_private_directory

_SUBDIRECTORY = "pins-1"  # the format's version is part of the name
_READ_BYTES = 1024 * 1024
_PASSES = 5  # of reading what the cache did not keep at once


@dataclass(frozen=True, slots=True)
class Pin:
    """What was pinned: the object *name* of *archive*, at *path* then; bytes on disk by the key of each content."""

    archive: str
    name: str
    path: str
    contents: Mapping[str, int]

    @property
    def size(self) -> int:
        """How many bytes its contents take."""
        return sum(self.contents.values())


class Pins:
    """See the module docstring."""

    def __init__(self, cache_directory: Path, max_bytes: int) -> None:
        self._directory = cache_directory / _SUBDIRECTORY
        self._max_bytes = max(0, max_bytes)

    @contextlib.contextmanager
    def held(self) -> Iterator[frozenset[str]]:
        """Give the keys of all pinned contents; none is added meanwhile.

        Raises:
            CacheError: They can not be read.
        """
        if not self._directory.is_dir():
            yield frozenset()
            return
        with contextlib.ExitStack() as lock:
            try:
                lock.enter_context(self._locked(fcntl.LOCK_SH))
                keys = frozenset(key for pin in self._load() for key in pin.contents)
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise CacheError(f"the pins in {self._directory} can not be read: {error}") from error
            yield keys

    def all(self) -> list[Pin]:
        """Return all pins.

        Raises:
            NotSupported: They can not be read.
        """
        with self._changing(may_make=False):
            return self._load()

    def add(self, pin: Pin) -> None:
        """Keep the contents of *pin* from now on, instead of those of an earlier pin of the same object.

        Raises:
            TooLarge: With those of all other pins they would take more room than there is.
            NotSupported: The pin can not be kept.
        """
        with self._changing():
            contents = dict(pin.contents)
            for other in self._load():
                if (other.archive, other.name) != (pin.archive, pin.name):
                    contents.update(other.contents)
            total = sum(contents.values())
            if total > self._max_bytes:
                raise TooLarge(
                    f"{pin.path} can not be pinned: with it {total} bytes would be, and the cache has room for "
                    f"{self._max_bytes}; unpin something, or mount with a larger cache_max_bytes"
                )
            path = self._path(pin)
            fresh = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
            try:
                fresh.write_text(json.dumps(asdict(pin)), encoding="ascii")
                fresh.replace(path)
            finally:
                fresh.unlink(missing_ok=True)

    def remove(self, is_meant: Callable[[Pin], bool]) -> int:
        """Let go of the pins that *is_meant* picks; return how many that were."""
        with self._changing(may_make=False):
            meant = [pin for pin in self._load() if is_meant(pin)]
            for pin in meant:
                self._path(pin).unlink(missing_ok=True)
        return len(meant)

    def _path(self, pin: Pin) -> Path:
        name = f"{pin.archive}\n{pin.name}"
        return self._directory / f"{hashlib.sha256(name.encode(errors='surrogateescape')).hexdigest()}.json"

    def _load(self) -> list[Pin]:
        found = []
        for path in sorted(self._directory.glob("*.json")):
            about = json.loads(path.read_text(encoding="ascii"))
            contents = {str(key): int(size) for key, size in about["contents"].items()}
            found.append(Pin(str(about["archive"]), str(about["name"]), str(about["path"]), contents))
        return found

    @contextlib.contextmanager
    def _changing(self, *, may_make: bool = True) -> Iterator[None]:
        try:
            if may_make:
                make_private_directory(self._directory)
            with self._locked(fcntl.LOCK_EX) if self._directory.is_dir() else contextlib.nullcontext():
                yield
        except (OSError, ValueError, KeyError, TypeError, UsageError) as error:
            raise NotSupported(f"the pins in {self._directory} can not be used: {error}") from error

    @contextlib.contextmanager
    def _locked(self, how: int) -> Iterator[None]:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(self._directory / "lock", flags, 0o600)
        try:
            fcntl.flock(descriptor, how)
            yield
        finally:
            os.close(descriptor)


class Content(Protocol):
    """An open content: ``cache.content.OpenContent``."""

    def read_into(self, offset: int, view: memoryview) -> int: ...
    def close(self) -> None: ...


class Contents(Protocol):
    """Where contents are fetched to: ``cache.content.ContentCache``."""

    @property
    def pins(self) -> Pins | None: ...
    def open(self, ref: ContentRef) -> Content: ...
    def holds(self, ref: ContentRef) -> bool: ...
    def make_room(self) -> None: ...


class Pinning:
    """The pins of one archive, and the fetching of what is pinned."""

    def __init__(self, contents: Contents, archive: str, block_bytes: int) -> None:
        self._contents = contents
        self._archive = archive
        self._block_bytes = block_bytes

    def pins(self) -> list[Pin]:
        """Return the pins of this archive."""
        return [pin for pin in self._pins().all() if pin.archive == self._archive]

    def pin(self, name: str, path: str, contents: Iterable[ContentRef]) -> None:
        """Keep *contents*, those of the object *name* at *path*; nothing is fetched yet.

        Raises:
            TooLarge: There is no room for them.
            NotSupported: There is no cache on disk.
        """
        sizes = {
            ref.key: Layout(ref.key, ref.size, self._block_bytes).file_bytes for ref in contents if ref.size
        }
        self._pins().add(Pin(self._archive, name, path, sizes))

    def unpin(self, is_meant: Callable[[Pin], bool]) -> int:
        """Let go of the pins of this archive that *is_meant* picks; return how many."""
        return self._pins().remove(lambda pin: pin.archive == self._archive and is_meant(pin))

    def fetch(self, ref: ContentRef, tell: Callable[[int], None]) -> None:
        """Bring the bytes of *ref* here and verify them; *tell* is given the number of each piece.

        Raises:
            NotSupported: The cache did not keep them.
            AgoraFSError: As reading the file.
        """
        if self._contents.holds(ref):
            tell(ref.size)
            return
        self._read(ref, tell)
        for _ in range(_PASSES):
            if self._contents.holds(ref):
                return
            # Writing is refused from when the room is used up until somebody has looked for more.
            self._contents.make_room()
            self._read(ref, lambda size: None)
        if not self._contents.holds(ref):
            raise NotSupported(f"{ref} was read, but the cache did not keep it; see agorafs status")

    def _read(self, ref: ContentRef, tell: Callable[[int], None]) -> None:
        content = self._contents.open(ref)  # each time anew: blocks that were not kept are forgotten with it
        try:
            view = memoryview(bytearray(min(_READ_BYTES, ref.size)))
            for offset in range(0, ref.size, _READ_BYTES):
                tell(content.read_into(offset, view))
            content.read_into(ref.size - 1, view[:1])  # if all of it is here, this verifies and seals it
        finally:
            content.close()

    def _pins(self) -> Pins:
        pins = self._contents.pins
        if pins is None:
            raise NotSupported("there is no cache on disk in which anything could stay")
        return pins
