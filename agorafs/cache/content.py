"""Content cache: datafile bytes on local disk, in fixed-size checksummed blocks, fetched on demand.

Why.  The kernel asks for at most 128 KiB at a time and the archive charges a round trip for each request;
tools open the same file up to twenty times. Here a byte crosses the network once, and stays.

Place.  ``vfs`` opens a ``ContentRef`` and reads from the ``OpenContent``. Missing bytes come from the
``Remote`` the cache was built with, normally ``client.Client``. The cache knows neither inodes nor URLs.

Parts::

    content              this module: handles, and the table of contents in use
    ├── shared_content   one content in this process: slots, flights, verification
    │   ├── download     the three ways to fetch, and every check of an answer
    │   ├── flights      where readers wait
    │   ├── read_ahead   which blocks to fetch before they are asked for
    │   ├── window       how far to read ahead
    │   └── running_hash SHA-1 in order, blocks in any order
    ├── block_file       one content on disk
    ├── adoption         a local file becomes a content on disk
    ├── content_directory  opening safely, eviction, room; shared by processes
    ├── memory           buffers, and blocks that have no place on disk
    └── range_support  workers  locks  content_values

Key.  A content's SHA-1 and size, so that renamed, copied and linked files, and other mounts, share it.
Where the archive knows no SHA-1: archive, datafile, size and modification time.

What a reader gets: exactly the bytes of the content that was opened, or an error. Files of up to
``whole_file_bytes`` are verified before their first byte; larger ones before the last missing block.

Units.  Offsets and sizes are bytes, ``block_no`` counts from 0, ranges are half-open ``[start, stop)``,
times are seconds on the monotonic clock.

Threads.  Every public method may be called from any thread. ``_lock`` guards the tables ``_used``, ``_idle``,
``_generations`` and the counters; it is taken before nothing else (the order within a content is in
``shared_content``), and no I/O is done under it. Background threads start with the first need.

Failure.  A damaged block, a full disk or an unusable directory is logged once and read around; the bytes then
live in memory, within ``memory_max_bytes``. Only errors of the archive reach a reader.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from agorafs.cache.adoption import adopt_file
from agorafs.cache.block_file import Layout, is_sealed_file
from agorafs.cache.content_directory import ContentDirectory
from agorafs.cache.content_values import Body, ContentLimits, ContentRef, ContentStats, Remote
from agorafs.cache.download import Downloader
from agorafs.cache.flights import Services, copy_of
from agorafs.cache.locks import InvariantLock
from agorafs.cache.memory import Memory
from agorafs.cache.pins import Pins
from agorafs.cache.range_support import RangeSupport
from agorafs.cache.shared_content import SharedContent
from agorafs.cache.window import Window
from agorafs.cache.workers import Workers
from agorafs.clock import Clock
from agorafs.errors import AgoraFSError, BadHandle, CacheError, IntegrityError, RemoteTimeout

__all__ = ["Body", "ContentCache", "ContentLimits", "ContentRef", "ContentStats", "OpenContent", "Remote"]


class ContentCache:
    """All contents of one process. One cache serves one remote; its directory may serve many processes."""

    def __init__(
        self,
        directory: Path | None,
        remote: Remote,
        *,
        limits: ContentLimits,
        clock: Clock,
        free_bytes: Callable[[int], int] | None = None,
    ) -> None:
        """Build the cache; touches neither disk nor network.

        Args:
            directory: Where content is kept; None: in memory only.
            remote: Where missing bytes come from.
            limits: What the cache may use.
            clock: For expiry and deadlines.
            free_bytes: Free disk space by a directory's descriptor; the file system's own account by default.
        """
        # Given and fixed:
        self._limits = limits
        self._memory = Memory(limits.memory_max_bytes)
        self._downloader = Downloader(remote, limits, clock)
        self._workers = Workers("read-ahead", limits.worker_threads)
        self._streams = Workers("download", limits.stream_threads)
        self._directory: ContentDirectory | None = None
        self.pins: Pins | None = None
        if directory is not None:
            self.pins = Pins(directory, limits.max_bytes - limits.window_max_bytes)
            self._directory = ContentDirectory(
                directory,
                limits,
                clock,
                request_eviction=self._request_eviction,
                pinned=self.pins.held,
                free_bytes=free_bytes,
            )
        self._services = Services(
            limits,
            clock,
            self._memory,
            self._downloader,
            RangeSupport(clock, limits.no_ranges_ttl_s),
            self._workers,
            self._streams,
            self._note_bypass,
            self._note_failure,
        )
        self._lock = InvariantLock(self._check)
        # Changing, guarded by _lock:
        self._used: dict[str, tuple[SharedContent, int]] = {}  # with the number of handles
        self._idle: OrderedDict[str, SharedContent] = OrderedDict()  # oldest first
        self._generations: dict[str, int] = {}  # only of contents that went wrong
        self._handles = 0
        self._served_bytes = 0
        self._integrity_failures = 0

    def open(self, ref: ContentRef) -> OpenContent:
        """Return a handle on the content; no request is made. From here on the content is not evicted."""
        return OpenContent(self, ref, None if ref.size == 0 else self._enter(ref))

    def holds(self, ref: ContentRef) -> bool:
        """All of the content is on disk, verified; reading it makes no request."""
        if ref.size == 0:
            return True
        with self._lock:
            used = self._used.get(ref.key)
        if used is not None:
            return used[0].is_verified
        if self._directory is None:
            return False
        layout = Layout(ref.key, ref.size, self._limits.block_bytes)
        try:
            descriptor = self._directory.peek(layout)
            if descriptor is None:
                return False
            try:
                return is_sealed_file(descriptor, layout)
            finally:
                os.close(descriptor)
        except (OSError, CacheError):
            return False

    def adopt(self, ref: ContentRef, path: Path) -> bool:
        """Make the local file *path*, whose bytes are those of *ref*, cached content; no request is made.

        Its size and SHA-1 are verified while it is copied. A content that is held already is left alone. False
        when the file is something else, when the archive knows no SHA-1, or when the cache can not take it: the
        bytes are then fetched when they are read.
        """
        if self.holds(ref):
            return True
        if self._directory is None or not ref.sha1:
            return False
        layout = Layout(ref.key, ref.size, self._limits.block_bytes)
        try:
            with self._memory.buffer(layout.block_size(0), self._limits.stall_s) as buffer:
                return adopt_file(self._directory, layout, ref.sha1, path, buffer)
        except (OSError, CacheError, RemoteTimeout) as error:
            self._directory.complain("adopt", f"{ref} is not taken over from {path}: {error}")
            return False

    def stats(self) -> ContentStats:
        """Counters of this process, for status and tests."""
        directory = self._directory
        with self._lock:
            return ContentStats(
                requests=self._downloader.requests,
                fetched_bytes=self._downloader.fetched_bytes,
                served_bytes=self._served_bytes,
                used_bytes=directory.used_bytes if directory else 0,
                memory_bytes=self._memory.used_bytes,
                open_handles=self._handles,
                open_files=directory.open_files if directory else 0,
                dropped_blocks=directory.dropped_blocks if directory else 0,
                integrity_failures=self._integrity_failures,
                bypassed=directory.bypassed if directory else "no cache directory",
            )

    def make_room(self) -> None:
        """Look at the disk now and evict what is due, in this thread; normally this happens by itself."""
        if self._directory is not None:
            self._directory.evict()

    def wait_for_idle(self, timeout_s: float) -> bool:
        """Wait until no background work is left; return whether that came true in time."""
        return self._workers.wait_for_idle(timeout_s) and self._streams.wait_for_idle(timeout_s)

    def close(self) -> None:
        """Call off all background work and close all files. Handles still open read without the disk cache."""
        self._workers.close()
        self._streams.close()
        with self._lock:
            contents = [content for content, _ in self._used.values()]
            self._idle.clear()
        for content in contents:
            content.leave()
        if self._directory is not None:
            self._directory.close(is_quiet=self.wait_for_idle(1.0))

    # -- for OpenContent ------------------------------------------------------------------------------

    def _enter(self, ref: ContentRef) -> SharedContent:
        """Return the content with one handle more."""
        with self._lock:
            key = ref.key
            content, handles = self._used.get(key, (None, 0))
            if content is None:
                content = self._idle.pop(key, None)
            if content is not None and content.failure is not None:
                self._locked_forget(content)  # its own report is on the way
                content, handles = None, 0
            if content is None:
                content = SharedContent(self._services, ref, self._directory, self._generations.get(key, 0))
            self._used[key] = (content, handles + 1)
            self._handles += 1
        content.open()
        return content

    def _leave(self, content: SharedContent) -> None:
        """Take a handle off the content; the last one leaves it idle, without a file or flights."""
        with self._lock:
            self._handles -= 1
            known, handles = self._used.get(content.key, (None, 0))
            if known is not content:
                return  # it failed, and its place has been taken
            if handles > 1:
                self._used[content.key] = (content, handles - 1)
                return
            del self._used[content.key]
            if content.failure is None and content.is_on_disk:
                self._idle[content.key] = content
                while len(self._idle) > self._limits.idle_contents:
                    self._idle.popitem(last=False)
        content.leave()
        with self._lock:
            entered_again = content.key in self._used and self._used[content.key][0] is content
        if entered_again:
            content.open()

    def _generation(self, key: str) -> int:
        with self._lock:
            return self._generations.get(key, 0)

    def _count_served(self, size: int) -> None:
        self._served_bytes += size  # a statistic: a lost update is tolerated

    # -- called back ----------------------------------------------------------------------------------

    def _request_eviction(self) -> None:
        if self._directory is not None:
            self._workers.submit(self._directory.evict)

    def _note_bypass(self, reason: str) -> None:
        if self._directory is not None:
            self._directory.bypass(reason)

    def _note_failure(self, content: SharedContent, error: AgoraFSError) -> None:
        """Make room for a fresh content under the key of one that failed."""
        with self._lock:
            self._locked_forget(content)
            if isinstance(error, IntegrityError):
                self._integrity_failures += 1

    def _locked_forget(self, content: SharedContent) -> None:
        """Take a failed content out of the tables; the next one under its key is of another generation."""
        if self._used.get(content.key, (None, 0))[0] is content:
            del self._used[content.key]
        if self._idle.get(content.key) is content:
            del self._idle[content.key]
        self._generations[content.key] = max(self._generations.get(content.key, 0), content.generation + 1)

    def _check(self) -> None:
        assert not self._used.keys() & self._idle.keys()
        assert len(self._idle) <= self._limits.idle_contents
        assert all(handles > 0 for _, handles in self._used.values())
        assert self._handles >= sum(handles for _, handles in self._used.values())


class OpenContent:
    """One handle: reads the content that was opened, whatever the archive holds meanwhile.

    Threads.  Reads may run at the same time. ``_lock`` guards ``_content``, ``_error``, ``_delivered`` and
    ``_is_second_try``; it is a leaf.
    """

    def __init__(self, cache: ContentCache, ref: ContentRef, content: SharedContent | None) -> None:
        self._cache = cache
        self._limits = cache._limits
        self.ref = ref
        block_bytes = self._limits.block_bytes
        self._window = Window(2 * block_bytes, 4 * block_bytes, self._limits.window_max_bytes)
        self._lock = threading.Lock()
        self._content = content  # None: empty, or closed
        self._is_closed = False
        self._error: AgoraFSError | None = None
        self._delivered = False
        self._is_second_try = False

    @property
    def generation(self) -> int:
        """Changes when bytes of this content that may have been delivered turned out wrong.

        Whoever keeps bytes of an older generation (the kernel's page cache) must drop them.
        """
        if self.ref.size == 0:
            return 0
        with self._lock:
            content = self._content
        if content is not None and content.failure is not None:
            return content.generation + 1
        return self._cache._generation(self.ref.key)

    def read(self, offset: int, size: int) -> bytes:
        """Return the bytes ``[offset, offset + size)``, cut at the end of the content.

        Waits until every block the range touches is present. Fewer than *size* bytes mean end of file,
        never a fetch that stopped early.

        Raises:
            StaleHandle: The archive holds another version, or none.
            IntegrityError: The fetched bytes failed their checksum. This handle stays failed.
            RemoteTimeout: Nothing arrived for ``stall_s``.
            RemoteUnavailable, ProtocolError, NotAuthenticated, PermissionDenied: As the remote says.
            BadHandle: The handle is closed.
        """
        buffer = bytearray(max(0, min(size, self.ref.size - offset)))
        length = self.read_into(offset, memoryview(buffer))
        return bytes(memoryview(buffer)[:length])

    def read_into(self, offset: int, view: memoryview) -> int:
        """Fill *view* from *offset* and return the length, which is short only at the end; see ``read``."""
        if offset < 0:
            raise ValueError(f"negative offset {offset}")
        length = max(0, min(len(view), self.ref.size - offset))
        with self._lock:
            if self._is_closed:
                raise BadHandle(f"{self.ref} was closed")
        if length == 0:
            return 0
        while True:
            content = self._current()
            try:
                content.read_into(self.ref, self._window, offset, view[:length])
            except IntegrityError as error:
                if not self._try_again(content, error):
                    raise
                continue
            self._delivered = True
            self._cache._count_served(length)
            return length

    def close(self) -> None:
        """Let go of the content; reads under way end as they can. Idempotent."""
        with self._lock:
            self._is_closed = True
            content, self._content = self._content, None
        if content is not None:
            self._cache._leave(content)

    def __enter__(self) -> OpenContent:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _current(self) -> SharedContent:
        with self._lock:
            if self._error is not None:
                raise copy_of(self._error) from self._error
            if self._content is None:
                raise BadHandle(f"{self.ref} was closed")
            return self._content

    def _try_again(self, content: SharedContent, error: IntegrityError) -> bool:
        """After a mismatch: move to a fresh content, if nothing was delivered and this is the first time."""
        with self._lock:
            if self._content is not content:
                return self._content is not None
            # A small content that mismatched has been fetched twice already and is not failed.
            if content.failure is None or self._delivered or self._is_second_try:
                self._error = error
                return False
            self._is_second_try = True
        fresh = self._cache._enter(self.ref)
        with self._lock:
            is_taken = self._content is content
            if is_taken:
                self._content = fresh
        self._cache._leave(content if is_taken else fresh)
        return True
