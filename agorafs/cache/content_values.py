"""The values and seams of the content cache: what names a content, what limits it, what it fetches through.

Nothing here does anything; ``cache.content`` re-exports what other layers need.

Units.  Sizes and offsets are bytes, ranges half-open ``[start, stop)``, durations seconds, times of the
archive nanoseconds since the Unix epoch.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import asdict, dataclass
from typing import Protocol

from agorafs.byterange import ByteRange
from agorafs.config import GIB, KIB, MIB

_SHA1 = re.compile(r"[0-9a-f]{40}\Z")


@dataclass(frozen=True, slots=True)
class ContentRef:
    """Which bytes: a datafile with the size and SHA-1 that its listing gave when it was opened.

    ``sha1`` is 40 lower-case hex digits, or empty where the archive knows none. Then nothing proves that
    two datafiles hold the same bytes: such content is never shared between datafiles or archives, a new
    ``modified_ns`` makes it another content, and only its length can be verified.
    """

    datafile: int
    size: int
    sha1: str
    archive: str  # base URL
    modified_ns: int | None = None

    @property
    def key(self) -> str:
        """The content's name in the cache: equal keys, equal bytes. Safe as a file name.

        The size is part of it so that a record with another file's SHA-1 can not make two layouts meet.
        """
        if self.sha1:
            if not _SHA1.match(self.sha1):
                raise ValueError(f"not a SHA-1: {self.sha1!r}")
            return f"{self.sha1}-{self.size}"
        identity = f"{self.archive}\n{self.datafile}\n{self.size}\n{self.modified_ns}"
        return f"x{hashlib.sha256(identity.encode()).hexdigest()[:40]}-{self.size}"

    def __str__(self) -> str:
        return f"datafile {self.datafile}"


class Body(Protocol):
    """One response that carries bytes of a datafile, as the client gives it."""

    @property
    def byte_range(self) -> ByteRange: ...  # the bytes it really holds
    @property
    def is_partial(self) -> bool: ...  # the server honoured a range (206)
    @property
    def total(self) -> int | None: ...  # size of the whole datafile by the server's account
    @property
    def etag(self) -> str | None: ...
    @property
    def content_type(self) -> str | None: ...

    def readinto(self, view: memoryview, /) -> int:
        """Fill the start of *view* and return how much came; 0 is the complete end.

        Raises RemoteUnavailable or RemoteTimeout when the body was cut short.
        """
        ...

    def close(self) -> None: ...


class Remote(Protocol):
    """Where missing bytes come from. ``if_range`` makes a range depend on that ETag."""

    def open_body(
        self, datafile: int, byte_range: ByteRange | None = None, *, if_range: str | None = None
    ) -> Body: ...


@dataclass(frozen=True, slots=True)
class ContentLimits:
    """What the content cache may use, and how it trades requests against bytes and memory.

    Attributes:
        block_bytes: Unit of presence and checksum. Larger: fewer requests for random reads, but a header
            peek costs more. A change abandons what is cached.
        whole_file_bytes: Up to this size a file is fetched in one request and verified before its first
            byte is delivered. Larger: more files get that promise; each costs this much memory for a
            moment, and a peek into one fetches all of it.
        max_bytes: Disk space for content. Overrun by at most one sixteenth per process between looks.
        min_free_bytes: Free disk space that is left to others, whatever ``max_bytes`` says.
        memory_max_bytes: Memory for everything in flight, and for blocks that the disk could not take.
        range_max_bytes: Largest single range request of read-ahead. Larger: fewer requests; smaller:
            less waste when the reader jumps.
        window_max_bytes: How far read-ahead runs before a sequential reader.
        ranges_in_flight: Parallel read-ahead requests per content. More helps long round trips, and costs
            processor time on short ones.
        worker_threads: Threads that read ahead and evict, for all contents together.
        stream_threads: Downloads at the same time from servers without ranges.
        fetch_attempts: How often a body that ends early is asked for again before the reader gets an error.
        stall_s: A reader gives up when nothing at all arrived for so long.
        no_ranges_ttl_s: How long it is believed that a server has no ranges.
        max_open_files: Cache files held open. Contents beyond that are reopened when they are read; while
            closed, another process may evict them.
        idle_contents: Closed contents of which the checked-block marks are remembered, without a file.
    """

    block_bytes: int = 256 * KIB
    whole_file_bytes: int = 4 * MIB
    max_bytes: int = 20 * GIB
    min_free_bytes: int = 2 * GIB
    memory_max_bytes: int = 128 * MIB
    range_max_bytes: int = 8 * MIB
    window_max_bytes: int = 32 * MIB
    ranges_in_flight: int = 4
    worker_threads: int = 8
    stream_threads: int = 8
    fetch_attempts: int = 3
    stall_s: float = 60.0
    no_ranges_ttl_s: float = 86_400.0
    max_open_files: int = 256
    idle_contents: int = 64


@dataclass(frozen=True, slots=True)
class ContentStats:
    """What a content cache has done so far, and holds now.

    ``used_bytes`` is the disk space at the last look plus what this process wrote since; ``bypassed`` is the
    reason why the disk is not used, empty when it is.
    """

    requests: int
    fetched_bytes: int
    served_bytes: int
    used_bytes: int
    memory_bytes: int
    open_handles: int
    open_files: int
    dropped_blocks: int
    integrity_failures: int
    bypassed: str

    def as_json(self) -> dict[str, int | str]:
        """The fields, ready for JSON."""
        return asdict(self)
