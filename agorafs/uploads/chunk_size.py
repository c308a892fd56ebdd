"""How large chunks are: about three seconds each, and never larger than what the server takes.

Why.  A large chunk saves round trips; a small one loses less when a connection breaks, and shows progress. The time
that one takes is what both have in common. A front-end server may refuse a request above a limit of its own (413),
which nobody announces: the size is halved until it fits, and the limit is remembered for as long as the mount lasts.

A transfer keeps the chunk size that it was begun with; what is measured counts for the next.

Units.  Bytes; seconds on the caller's clock.

Threads.  Every method may be called from any thread; ``_lock`` guards the changing fields and is a leaf.
"""

from __future__ import annotations

import threading
from collections import deque

FIRST_BYTES = 16 << 20  # the reference's advice for servers that are not known
LEAST_BYTES = 1 << 20
MOST_BYTES = 64 << 20  # several are in memory at once
FLOOR_BYTES = 64 << 10  # a server that refuses this takes nothing
_AIM_S = 3.0
_MEASURED = 8  # chunks
_STEP_BYTES = 1 << 20


class ChunkSizes:
    """The chunk size for one server."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # Changing, guarded by _lock:
        self._measured: deque[tuple[int, float]] = deque(maxlen=_MEASURED)
        self._ceiling = MOST_BYTES

    @property
    def ceiling(self) -> int:
        """The largest chunk that the server may take, as far as it has told."""
        with self._lock:
            return self._ceiling

    def next_bytes(self) -> int:
        """Return the chunk size for a new transfer."""
        with self._lock:
            size = FIRST_BYTES
            if self._measured:
                sent = sum(size for size, _ in self._measured)
                took_s = sum(seconds for _, seconds in self._measured)
                size = int(_AIM_S * sent / max(took_s, 1e-6)) // _STEP_BYTES * _STEP_BYTES
            return min(max(size, LEAST_BYTES), MOST_BYTES, self._ceiling)

    def note(self, size: int, seconds: float) -> None:
        """Take account of a chunk of *size* bytes that took *seconds*.

        Smaller ones tell of latency, not of the rate, and do not count.
        """
        if size >= LEAST_BYTES:
            with self._lock:
                self._measured.append((size, seconds))

    def refused(self, size: int) -> bool:
        """Remember that the server refused a chunk of *size* bytes; return whether there is a smaller one to try."""
        if size <= FLOOR_BYTES:
            return False
        with self._lock:
            self._ceiling = min(self._ceiling, max(FLOOR_BYTES, size // 2))
        return True
