"""What the contents of a cache share, and where readers wait for a flight."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agorafs.cache.content_values import ContentLimits
from agorafs.cache.download import Downloader, Flight
from agorafs.cache.memory import Memory
from agorafs.cache.range_support import RangeSupport
from agorafs.cache.workers import Workers
from agorafs.clock import Clock
from agorafs.errors import AgoraFSError

if TYPE_CHECKING:
    from agorafs.cache.shared_content import SharedContent


@dataclass(frozen=True, slots=True)
class Services:
    """What all contents of a cache share."""

    limits: ContentLimits
    clock: Clock
    memory: Memory
    downloader: Downloader
    ranges: RangeSupport
    workers: Workers
    stream_workers: Workers
    bypass: Callable[[str], None]  # told why a content goes on without the disk
    on_failure: Callable[[SharedContent, AgoraFSError], None]


@dataclass(slots=True, eq=False)
class Slot:
    """Where readers wait for one block. The content's lock guards ``flight`` and ``waiters``.

    ``error`` or ``data`` are written once, before ``done`` is set. ``data`` is there only when the block is
    not to be had from disk.
    """

    flight: Flight
    done: threading.Event = field(default_factory=threading.Event)
    waiters: int = 0
    error: AgoraFSError | None = None
    data: bytes | memoryview | None = None

    def fail(self, error: AgoraFSError) -> None:
        """End the wait with *error*."""
        self.error = error
        self.done.set()

    def deliver(self, data: bytes | memoryview | None) -> None:
        """End the wait: the block is here."""
        self.data = data
        self.done.set()


def copy_of(error: AgoraFSError) -> AgoraFSError:
    """The same error for another thread: one exception object can not carry two tracebacks."""
    return type(error)(*error.args)
