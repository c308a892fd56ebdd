"""What is known of each archive: does its server answer ranges?

Nothing is known at first; the first real request tells. "No" is forgotten after ``no_ranges_ttl_s``, since
servers are reconfigured; "yes" is corrected by the first answer that ignores a range.

Threads.  ``_lock`` guards ``_known`` and is a leaf.
"""

from __future__ import annotations

from agorafs.cache.locks import InvariantLock
from agorafs.clock import Clock


class RangeSupport:
    """Remembers per archive (base URL)."""

    def __init__(self, clock: Clock, no_ranges_ttl_s: float) -> None:
        self._clock = clock
        self._no_ranges_ttl_s = no_ranges_ttl_s
        self._lock = InvariantLock(self._check)
        self._known: dict[str, float | None] = {}  # None: works; else: missing until then

    def learn(self, archive: str, *, works: bool) -> None:
        with self._lock:
            self._known[archive] = None if works else self._clock.monotonic() + self._no_ranges_ttl_s

    def is_missing(self, archive: str) -> bool:
        """A range need not be tried."""
        with self._lock:
            until = self._known.get(archive)
            return until is not None and self._clock.monotonic() < until

    def is_known(self, archive: str) -> bool:
        """Ranges work."""
        with self._lock:
            return archive in self._known and self._known[archive] is None

    def _check(self) -> None:
        assert all(self._known)
