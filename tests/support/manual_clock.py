"""A clock that stands still until a test moves it."""

from __future__ import annotations


class ManualClock:
    """Seconds that pass only by ``advance``; ``sleep`` passes its time at once."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def advance(self, seconds: float) -> None:
        """Let *seconds* pass."""
        self.now += seconds
