"""Time, passed in: expiry and deadlines use a monotonic clock that tests can replace.

Wall-clock time appears only where a file's ``mtime`` comes from the archive.
"""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Seconds on a monotonic clock, and a way to wait on it."""

    def monotonic(self) -> float:
        """Return seconds since some fixed point; never goes back."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait *seconds* (a retry's pause)."""
        ...


class SystemClock:
    """The real clock."""

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


SYSTEM_CLOCK = SystemClock()
