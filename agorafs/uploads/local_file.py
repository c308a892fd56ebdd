"""One open of a local node: reads and writes go straight to its file in the spool.

Writes of one node are one after the other (``node.io``); reads take no lock. A read beside a write sees the bytes
before or after, as on a local disk.

After ``flush`` a file can still change without a handle of ours being told: the kernel writes back pages of a shared
mapping until the file is released. So ``close`` does what ``flush`` does, and a file is uploaded only when no handle
that may write is open.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Protocol

from agorafs.errors import BadHandle, NotSupported, SpoolFull
from agorafs.uploads.nodes import Content, LocalNode
from agorafs.uploads.spool import Spool, full_disk_as_spool_full

_FALLOC_KEEP_SIZE = 1


class Owner(Protocol):
    """What a handle asks of ``Uploads``."""

    spool: Spool

    def content(self, node: LocalNode) -> Content: ...
    def begin_change(self, node: LocalNode, *, keeps_bytes: bool) -> Content: ...
    def end_change(self, node: LocalNode) -> None: ...
    def flushed(self, node: LocalNode) -> None: ...
    def synced(self, node: LocalNode) -> None: ...
    def closed(self, node: LocalNode, *, writing: bool) -> None: ...


class LocalFile:
    """See the module docstring."""

    def __init__(self, owner: Owner, node: LocalNode, *, writing: bool) -> None:
        self.node = node
        self._owner = owner
        self._writing = writing
        self._is_closed = False

    @property
    def size(self) -> int:
        """The file's length in bytes."""
        return self.node.size

    @property
    def has_changed(self) -> bool:
        """It is no longer what the server has."""
        return self.node.borrowed_from is None

    def read_into(self, offset: int, view: memoryview) -> int:
        """Fill *view* from *offset* on; return how many bytes there were."""
        if self._is_closed:
            raise BadHandle(f"{self.node.name} is closed")
        content = self._owner.content(self.node)
        length = 0
        while length < len(view):
            read = os.preadv(content.descriptor, [view[length:]], offset + length)
            if read == 0:
                break
            length += read
        return length

    def write(self, offset: int, data: bytes | memoryview) -> int:
        """Put *data* at *offset*; return its length.

        Raises:
            SpoolFull: There is no room; nothing that was written before is touched.
        """
        node = self.node
        view = memoryview(data)
        written = 0
        with node.io, _noting_refusals(node):
            content = self._begin(keeps_bytes=True)
            spool = self._owner.spool
            growth = max(0, offset + len(view) - node.size)
            spool.grow(growth)
            try:
                with full_disk_as_spool_full():
                    while written < len(view):
                        written += os.pwrite(content.descriptor, view[written:], offset + written)
            finally:
                size = max(node.size, offset + written) if written else node.size
                spool.grow(size - node.size - growth)  # what was counted and did not get there
                node.size = size
                self._owner.end_change(node)
        return written

    def truncate(self, size: int) -> None:
        """Make the file *size* bytes long."""
        node = self.node
        with node.io, _noting_refusals(node):
            content = self._begin(keeps_bytes=size > 0)
            growth = size - node.size
            if growth > 0:
                self._owner.spool.grow(growth)
            try:
                with full_disk_as_spool_full():
                    os.ftruncate(content.descriptor, size)
            except BaseException:
                self._owner.spool.grow(-max(0, growth))
                raise
            if growth < 0:
                self._owner.spool.grow(growth)
            node.size = size
            node.lacks_bytes = node.lacks_bytes and size > 0
            self._owner.end_change(node)

    def allocate(self, mode: int, offset: int, length: int) -> None:
        """Make room, as ``fallocate(2)`` with *mode* 0 or FALLOC_FL_KEEP_SIZE."""
        if mode not in (0, _FALLOC_KEEP_SIZE):
            raise NotSupported(f"{self.node.name}: this way of fallocate is not offered")
        if mode == 0 and offset + length > self.node.size:
            self.truncate(offset + length)

    def flush(self) -> None:
        """The program has closed a descriptor: from here on the bytes survive the death of every process."""
        if self._writing:
            self._owner.flushed(self.node)

    def fsync(self) -> None:
        """Make the bytes survive a power cut."""
        self._owner.flushed(self.node)  # whoever wrote it
        self._owner.synced(self.node)

    def close(self) -> None:
        """The last descriptor is gone."""
        if not self._is_closed:
            self._is_closed = True
            self._owner.closed(self.node, writing=self._writing)

    # -- how -----------------------------------------------------------------------------------------

    def _begin(self, *, keeps_bytes: bool) -> Content:
        if self._is_closed or not self._writing:
            raise BadHandle(f"{self.node.name} is not open for writing")
        return self._owner.begin_change(self.node, keeps_bytes=keeps_bytes)


@contextlib.contextmanager
def _noting_refusals(node: LocalNode) -> Iterator[None]:
    """What a program leaves behind after a refused write looks like a file, and is not to be taken for one."""
    try:
        yield
    except SpoolFull:
        node.lacks_bytes = True
        raise
