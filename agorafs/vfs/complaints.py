"""Why an operation failed, in words, where the user can read it back.

errno has one word for many reasons. The last reason for a path is its ``user.agora.error``; the latest of all
are in ``agorafs status``.

Threads.  ``_lock`` guards both tables; it is a leaf.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import asdict, dataclass

from cachetools import LRUCache


@dataclass(frozen=True, slots=True)
class Complaint:
    """``at`` is wall time in seconds since the epoch, for people."""

    at: float
    path: str
    error: str
    reason: str


class Complaints:
    """The last reason of each of *max_paths* paths, and the latest *max_recent* of all."""

    def __init__(self, max_paths: int = 1000, max_recent: int = 20) -> None:
        self._lock = threading.Lock()
        self._by_path: LRUCache[str, str] = LRUCache(max_paths)
        self._recent: deque[Complaint] = deque(maxlen=max_recent)

    def note(self, path: str, error: BaseException) -> None:
        """Remember why *path* failed."""
        complaint = Complaint(time.time(), path, type(error).__name__, str(error))
        with self._lock:
            self._by_path[path] = complaint.reason
            latest = self._recent[-1] if self._recent else None
            if latest is None or (latest.path, latest.reason) != (path, complaint.reason):
                self._recent.append(complaint)  # each layer that an error passes may note it

    def reason(self, path: str) -> str | None:
        """Return the last reason noted for *path*."""
        with self._lock:
            reason: str | None = self._by_path.get(path)
            return reason

    def recent(self) -> list[dict[str, object]]:
        """Return the latest complaints, oldest first, ready for JSON."""
        with self._lock:
            return [asdict(complaint) for complaint in self._recent]
