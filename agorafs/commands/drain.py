"""Waiting until what was written is verified on the server; shared by ``sync`` and ``umount``.

How.  The mounts are told once to begin with what is closed, and are asked how much is left until nothing is. They are
asked in short requests, so that a mount that ends meanwhile is noticed.

Units.  Bytes, and seconds on the clock that is passed in.

Failure.  What a mount refuses is raised as it came. That files failed, or that nothing moves, is an ``End``.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from agorafs.clock import Clock
from agorafs.commands.progress import ProgressLine, bar, count_text, size_text
from agorafs.errors import AgoraFSError, ExitStatus

_MAX_NAMED = 20
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0


class Source(Protocol):
    """A place that is waited for: ``places.Place``."""

    def ask(self, command: str, **fields: object) -> dict[str, Any]:
        """Return the answer of the mount's process."""
        ...

    def shown(self, path: str) -> str:
        """Return a path in the mount as the user sees it."""
        ...


class End(enum.Enum):
    """Why the waiting ended."""

    STORED = "everything is verified on the server"
    FAILED = "everything has ended, but some files failed"
    OPEN = "what is left is open for writing"
    STUCK = "nothing moves, and not by itself"
    TIMED_OUT = "the time is over"


@dataclass(frozen=True, slots=True)
class Left:
    """What is not on the server yet, of all places together; see ``mount_requests.AskedStack.unfinished``.

    ``failed`` are pairs of path and reason, ``failed_count`` counts those too that are not named.
    """

    files: int = 0
    bytes: int = 0
    sent_bytes: int = 0
    open: int = 0
    failed: tuple[tuple[str, str], ...] = ()
    failed_count: int = 0
    waiting: str = ""
    paths: tuple[str, ...] = ()
    open_paths: tuple[str, ...] = ()

    @property
    def unsent_bytes(self) -> int:
        """How many bytes are still to be sent."""
        return max(0, self.bytes - self.sent_bytes)

    def in_words(self) -> str:
        """Return the number and size of what is left."""
        return f"{count_text(self.files)} ({size_text(self.bytes)})"


def look(sources: Sequence[Source]) -> Left:
    """Ask the *sources* once."""
    parts = [_left_of(source) for source in sources]
    return Left(
        files=sum(part.files for part in parts),
        bytes=sum(part.bytes for part in parts),
        sent_bytes=sum(part.sent_bytes for part in parts),
        open=sum(part.open for part in parts),
        failed=tuple(problem for part in parts for problem in part.failed),
        failed_count=sum(part.failed_count for part in parts),
        waiting=next((part.waiting for part in parts if part.waiting), ""),
        paths=tuple(path for part in parts for path in part.paths),
        open_paths=tuple(path for part in parts for path in part.open_paths),
    )


def _left_of(source: Source) -> Left:
    answer = source.ask("unfinished")
    return Left(
        files=answer["files"],
        bytes=answer["bytes"],
        sent_bytes=answer["sent_bytes"],
        open=answer["open"],
        failed=tuple((source.shown(one["path"]), one["reason"]) for one in answer["failed"]),
        failed_count=answer["failed_count"],
        waiting=answer["waiting"],
        paths=tuple(source.shown(path) for path in answer["paths"]),
        open_paths=tuple(source.shown(path) for path in answer["open_paths"]),
    )


@dataclass(frozen=True, slots=True)
class Patience:
    """How long, in seconds, to wait in all, while nothing moves, and while all that is left is open; None: for ever."""

    in_all_s: float | None = None
    stuck_s: float | None = None
    open_s: float | None = None


def wait_until_stored(
    sources: Sequence[Source], line: ProgressLine, patience: Patience, clock: Clock
) -> tuple[End, Left]:
    """Begin with what is closed, and wait until nothing of it is left or *patience* has an end."""
    for source in sources:
        source.ask("seal")
    started_s = moved_s = clock.monotonic()
    only_open_since_s: float | None = None
    pause_s = _FIRST_PAUSE_S
    most_unsent = 0
    before = Left()
    said: set[str] = set()
    try:
        while True:
            left = look(sources)
            now_s = clock.monotonic()
            if left.files == 0 and left.open == 0:
                return (End.FAILED if left.failed_count else End.STORED), left
            if before.open and not left.open:
                for source in sources:
                    source.ask("seal")  # closed just now: not to be held up by the quiet time
            if not left.waiting or (left.files, left.sent_bytes) != (before.files, before.sent_bytes):
                moved_s = now_s
            if left.open < left.files:
                only_open_since_s = None
            elif only_open_since_s is None:
                only_open_since_s = now_s
            if _is_over(patience.in_all_s, started_s, now_s):
                return End.TIMED_OUT, left
            if _is_over(patience.stuck_s, moved_s, now_s):
                return End.STUCK, left
            if only_open_since_s is not None and _is_over(patience.open_s, only_open_since_s, now_s):
                return End.OPEN, left
            most_unsent = max(most_unsent, left.unsent_bytes)
            _tell(line, left, most_unsent, said)
            before = left
            until_end_s = float("inf") if patience.in_all_s is None else started_s + patience.in_all_s - now_s
            clock.sleep(min(pause_s, until_end_s))
            pause_s = min(pause_s * 1.5, _LONGEST_PAUSE_S)
    finally:
        line.clear()


def _is_over(patience_s: float | None, since_s: float, now_s: float) -> bool:
    return patience_s is not None and now_s - since_s >= patience_s


def _tell(line: ProgressLine, left: Left, most_unsent: int, said: set[str]) -> None:
    fraction = 1 - left.unsent_bytes / most_unsent if most_unsent else 0.0
    words = f"{bar(fraction)}  {count_text(left.files)}, {size_text(left.unsent_bytes)} left"
    line.show(words + (f"; waiting: {left.waiting}" if left.waiting else ""))
    # Once for each thing, however often its words change: reasons count attempts.
    notices = {"waiting": f"waiting: {left.waiting}"} if left.waiting else {}
    if left.open >= left.files:
        notices |= {path: f"still open for writing: {path}" for path in left.open_paths}
    for thing, words in notices.items():
        if thing not in said:
            said.add(thing)
            line.say(f"agorafs: {words}")


def name_failed(line: ProgressLine, left: Left) -> None:
    """Write a line for each failed file and its reason, up to ``_MAX_NAMED``."""
    for path, reason in left.failed[:_MAX_NAMED]:
        line.say(f"agorafs: {path}: {reason}")
    if left.failed_count > _MAX_NAMED:
        line.say(f"agorafs: and {left.failed_count - _MAX_NAMED} more, see agorafs status")


def exit_status_of_waiting(sources: Sequence[Source]) -> ExitStatus:
    """Return what keeps the *sources* waiting: a key that is refused, or a server that is away or slow."""
    for source in sources:
        try:
            status = source.ask("status")["status"]
        except AgoraFSError:
            continue
        if status.get("server") == "refused":
            return ExitStatus.NOT_AUTHENTICATED
    return ExitStatus.UNAVAILABLE
