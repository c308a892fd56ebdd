"""Open files: what each handle opened, so that one handle never sees two versions.

Why stale marks.  The kernel has one page cache per path. When a path is opened and holds another version than
an older handle of the same path, pages read by the old handle would reach readers of the new one. So an open of
another version makes the older handles of that path stale, before the kernel is told to drop its pages: from
then on they get ``StaleHandle`` and can not bring old bytes back in.

Threads.  ``_lock`` guards ``_open``, ``_by_path``, ``_last_version`` and ``_next``; it is a leaf. A handle's
``is_stale`` is set once, from False to True, under ``_lock``, and read without it.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import NamedTuple

from cachetools import LRUCache

from agorafs.cache.content import OpenContent
from agorafs.errors import BadHandle, StaleHandle
from agorafs.vfs.attr import Attr


class Version(NamedTuple):
    """What changes when the bytes behind a path change.

    ``generation`` counts how often bytes that had been delivered turned out to be wrong.
    """

    datafile: int
    size: int
    sha1: str
    modified_ns: int | None
    generation: int


@dataclass(slots=True, eq=False)
class OpenFile:
    """One ``open``. ``source`` is the archive's content, or the bytes of a ``.agora`` file."""

    path: str
    attr: Attr
    version: Version | None
    source: OpenContent | bytes
    is_stale: bool = field(default=False)

    def read_into(self, offset: int, view: memoryview) -> int:
        """Fill *view* with the bytes from *offset* on; return how many there were."""
        if self.is_stale:
            raise StaleHandle(f"{self.path} changed after it was opened; open it again")
        if isinstance(self.source, bytes):
            piece = self.source[offset : offset + len(view)]
            view[: len(piece)] = piece
            return len(piece)
        return self.source.read_into(offset, view)

    def close(self) -> None:
        if not isinstance(self.source, bytes):
            self.source.close()


class HandleTable:
    """All open files, by number."""

    def __init__(self, max_remembered: int = 100_000) -> None:
        self._lock = threading.Lock()
        self._open: dict[int, OpenFile] = {}
        self._by_path: dict[str, list[OpenFile]] = {}
        self._next = 1
        # the version that the kernel's pages of a path belong to
        self._last_version: LRUCache[str, Version] = LRUCache(max_remembered)

    def add(self, file: OpenFile) -> tuple[int, bool]:
        """Enter *file*; return its handle, and whether the kernel may keep its pages of that path."""
        with self._lock:
            handle = self._next
            self._next += 1
            self._open[handle] = file
            same_path = self._by_path.setdefault(file.path, [])
            for other in same_path:
                if other.version != file.version:
                    other.is_stale = True
            same_path.append(file)
            may_keep = file.version is not None and self._last_version.get(file.path) == file.version
            if file.version is not None:
                self._last_version[file.path] = file.version
        return handle, may_keep

    def get(self, handle: int) -> OpenFile:
        """Return the open file behind *handle*."""
        file = self._open.get(handle)
        if file is None:
            raise BadHandle(f"handle {handle} is not open")
        return file

    def remove(self, handle: int) -> None:
        """Close *handle*."""
        with self._lock:
            file = self._open.pop(handle, None)
            if file is None:
                raise BadHandle(f"handle {handle} is not open")
            same_path = self._by_path[file.path]
            same_path.remove(file)
            if not same_path:
                del self._by_path[file.path]
        file.close()

    def count(self) -> int:
        """Return how many files are open."""
        return len(self._open)

    def close_all(self) -> None:
        """Close every handle; the mount is going away."""
        for handle in list(self._open):
            self.remove(handle)
