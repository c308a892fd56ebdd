"""Which batch is worked on next, and when: first come, first served, with back-off.

Rules
    A batch is *due* from when it is first seen; after that, from when its last run said. Who has been due for longest
    is next, so a batch whose import takes hours is looked at again and again without keeping a new one waiting.

    A batch that fails while the server was well waits by itself, each time longer, until it makes progress. A failure
    that the server caused (no connection, 5xx, 401) also holds up all others: after a pause one of them tries, the
    one with the fewest failures of its own, so that a batch that the server can not stand never keeps the others out.
    Any answer to anybody ends the hold.

Units.  Seconds on the passed clock.

Threads.  None here: the ``Sender``'s lock guards all of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from agorafs.clock import Clock
from agorafs.uploads.delivery import Run

FIRST_PAUSE_S = 1.0
MAX_PAUSE_S = 60.0
_AT_ONCE = float("-inf")


def back_off_s(failures: int, random: Callable[[], float]) -> float:
    """Return how long to wait after that many failures in a row: doubled each time, with jitter."""
    longest_s = min(MAX_PAUSE_S, FIRST_PAUSE_S * float(2 ** min(failures - 1, 16)))
    return longest_s * (1 + random()) / 2


@dataclass(slots=True, eq=False)
class Entry:
    """One batch in the schedule."""

    run: Run
    due_s: float
    failures: int = 0
    steps_seen: int = 0  # run.steps at the last failure
    is_running: bool = False
    is_probe: bool = False
    was_hurried: bool = False
    reason: str = ""  # why it waits, as the hub was told


class Schedule:
    """All batches that are under way."""

    def __init__(self, clock: Clock, random: Callable[[], float]) -> None:
        self._clock = clock
        self._random = random
        self._entries: dict[int, Entry] = {}
        self._away_reason = ""  # not empty: the server is away
        self._away_until_s = 0.0
        self._away_failures = 0

    @property
    def away_reason(self) -> str:
        """Why all batches are held up; empty when they are not."""
        return self._away_reason

    def update(self, batches: Sequence[int]) -> None:
        """Take account of the batches that there are, the oldest first."""
        now_s = self._clock.monotonic()
        known = set(batches)
        for gone in [
            id_ for id_, entry in self._entries.items() if id_ not in known and not entry.is_running
        ]:
            del self._entries[gone]
        for id_ in batches:
            if id_ not in self._entries:
                self._entries[id_] = Entry(Run(id_), now_s)

    def entries(self) -> list[Entry]:
        """Return all batches."""
        return list(self._entries.values())

    def resting(self) -> list[Entry]:
        """Return the batches that nobody is working on."""
        return [entry for entry in self._entries.values() if not entry.is_running]

    def hurry(self, entry: Entry) -> None:
        """Make a batch due now, server or not; once only."""
        if not entry.was_hurried:
            entry.was_hurried = True
            entry.due_s = _AT_ONCE

    def start_next(self) -> Entry | None:
        """Return the batch to work on now, marked as running, or None."""
        now_s = self._clock.monotonic()
        due = [entry for entry in self.resting() if entry.due_s <= now_s]
        entry = min(due, key=lambda each: (each.due_s, each.run.batch_id), default=None)
        if self._away_reason and entry is not None and entry.due_s != _AT_ONCE:
            if now_s < self._away_until_s or any(each.is_probe for each in self._entries.values()):
                return None
            entry = min(due, key=lambda each: (each.failures, each.due_s, each.run.batch_id))
            entry.is_probe = True
        if entry is not None:
            entry.is_running = True
        return entry

    def next_due_s(self) -> float | None:
        """Return the time from when on ``start_next`` may have something, None if only an event can change that."""
        first_s = min((entry.due_s for entry in self.resting()), default=None)
        if first_s is None or first_s == _AT_ONCE or not self._away_reason:
            return first_s
        if any(entry.is_probe for entry in self._entries.values()):
            return None
        return max(first_s, self._away_until_s)

    def answered(self) -> None:
        """The server has answered somebody: it is not away."""
        self._away_reason = ""
        self._away_failures = 0
        for entry in self._entries.values():
            entry.is_probe = False

    def went_on(self, entry: Entry, pause_s: float | None) -> None:
        """A run has ended well; the next is to be in *pause_s* seconds, or never."""
        entry.is_running = entry.is_probe = False
        if pause_s is None:
            self._entries.pop(entry.run.batch_id, None)
            return
        entry.failures = 0
        entry.due_s = self._clock.monotonic() + pause_s

    def failed(self, entry: Entry) -> None:
        """A run has failed for a reason of its own; the batch waits by itself."""
        entry.is_running = entry.is_probe = False
        if entry.run.steps != entry.steps_seen:
            entry.steps_seen = entry.run.steps
            entry.failures = 0
        entry.failures += 1
        entry.due_s = self._clock.monotonic() + back_off_s(entry.failures, self._random)

    def server_failed(self, entry: Entry, reason: str) -> None:
        """A run has failed because the server is away, or seems to be."""
        was_probe = entry.is_probe
        if not self._away_reason:
            self.failed(entry)
        elif not was_probe:  # it was under way when the hold began
            entry.is_running = False
            entry.due_s = self._away_until_s
        if was_probe or not self._away_reason:
            self._away_failures += 1
            self._away_until_s = self._clock.monotonic() + back_off_s(self._away_failures, self._random)
        if was_probe:
            entry.is_running = entry.is_probe = False
            entry.due_s = self._away_until_s
        self._away_reason = reason
