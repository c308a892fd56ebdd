"""``/.agora/jobs``: what goes on in the background, as files. ::

    <n>/status.json    how it stands
    <n>/log            what the program has said so far
    <n>/wait           reading it returns when the job has ended: ``finished``, or fails with its error
    <n>/results/       links to what it made, once it has ended well

Nothing here makes a request; ``vfs.jobs`` asks the server at its own pace.

Waiting.  A read of ``wait`` that would never return could not be ended with Ctrl-C, and would keep one of the threads
that answer the kernel. So after ``patience_s`` it says that it was interrupted (``EINTR``), which ``cat``, shells and
Python take as "ask again", unless a signal has come meanwhile. At most ``_MAX_WAITING`` readers wait at once; the
others are told so sooner and ask again, so that the rest of the mount is answered however many wait.

Threads.  Every method may be called from any thread. ``_seats`` counts those who wait; it guards nothing.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from typing import Any, Protocol

from agorafs.client.records import RemoteRef
from agorafs.errors import Interrupted, NotADirectory, NotFound, PermissionDenied
from agorafs.tree.tree import Node
from agorafs.vfs.aside import Aside, Caller, Names, Part, directory, inode_below
from agorafs.vfs.job_store import Job, ref_text
from agorafs.vfs.jobs import check_ended_well
from agorafs.vfs.virtual import stream_file

_JOBS = "jobs"
_FILES = ("status.json", "log", "wait")
_RESULTS = "results"
_MAX_WAITING = 8
_PATIENCE_S = 1.0
_SHORT_S = 0.01  # of those who find no seat: long enough not to spin


class KnownJobs(Protocol):
    """What is asked of ``jobs.Jobs``; only ``wait`` waits."""

    def numbers(self) -> list[int]: ...
    def job(self, number: int) -> Job: ...
    def wait(self, number: int, timeout_s: float) -> Job: ...


class DotJobs(Part):
    """See the module docstring."""

    def __init__(
        self, jobs: KnownJobs, *, patience_s: float = _PATIENCE_S, max_waiting: int = _MAX_WAITING
    ) -> None:
        self._jobs = jobs
        self._patience_s = patience_s
        self._seats = threading.BoundedSemaphore(max_waiting)

    def names(self, node: Node, *, is_root: bool) -> Names:
        """Return ``jobs``, at the root."""
        return Names(directories=(_JOBS,)) if is_root else Names()

    def resolve(self, node: Node, rest: Sequence[str], *, is_root: bool) -> Aside | None:
        """Return what ``/.agora/REST`` is, if it is one of jobs."""
        if not is_root or not rest or rest[0] != _JOBS:
            return None

        def ino(inner: Sequence[str]) -> int:
            return inode_below(node.entry.ino, [*rest, *inner])

        match list(rest[1:]):
            case []:
                return directory(ino, directories=[str(number) for number in self._jobs.numbers()])
            case [number] if _is_number(number):
                self._jobs.job(int(number))
                return directory(ino, files=_FILES, directories=[_RESULTS])
            case [number, "status.json"] if _is_number(number):
                return Aside(ino([]), content=_status(self._jobs.job(int(number))))
            case [number, "log"] if _is_number(number):
                self._jobs.job(int(number))
                return stream_file(ino([]), lambda caller: self._log(int(number), caller), can_write=False)
            case [number, "wait"] if _is_number(number):
                self._jobs.job(int(number))
                return stream_file(ino([]), lambda caller: self._wait(int(number), caller), can_write=False)
            case [number, "results"] if _is_number(number):
                return directory(ino, links=_results(self._jobs.job(int(number))))
            case [number, "results", name] if _is_number(number):
                ref = _results(self._jobs.job(int(number))).get(name)
                if ref is not None:
                    return Aside(ino([]), link=f"../../../by-id/{ref.kind.value}/{ref.id}")
            case [number, "status.json" | "log" | "wait", *_] if _is_number(number):
                raise NotADirectory(f"/.agora/{'/'.join(rest[:3])} is not a directory")
        raise NotFound(f"/.agora/{'/'.join(rest)} does not exist")

    def _log(self, number: int, caller: Caller) -> Speech:
        """Open what the program has said so far."""
        text = self._jobs.job(number).log.encode(errors="replace")
        return Speech(lambda: text)

    def _wait(self, number: int, caller: Caller) -> Speech:
        """Open the end of the job; see "Waiting" in the module docstring."""
        return Speech(lambda: self._end_of(number))

    def _end_of(self, number: int) -> bytes:
        """Return how the job ended.

        Raises:
            Interrupted: It has not ended yet.
            JobFailed: Its end was no good one.
        """
        has_seat = self._seats.acquire(blocking=False)
        try:
            job = self._jobs.wait(number, self._patience_s if has_seat else _SHORT_S)
        finally:
            if has_seat:
                self._seats.release()
        if not job.state.is_over:
            raise Interrupted(f"job {job.number} has not ended yet")
        check_ended_well(job)
        return f"{job.state.value}\n".encode()


class Speech:
    """One opening of a file that is only read. What its size is shows when it is read to its end."""

    size = 0

    def __init__(self, text: Callable[[], bytes]) -> None:
        """*text* is asked for at each read, and may refuse."""
        self._text = text

    def read_into(self, offset: int, view: memoryview) -> int:
        """Give what there is from *offset* on."""
        piece = self._text()[offset : offset + len(view)]
        view[: len(piece)] = piece
        return len(piece)

    def write(self, offset: int, data: bytes | memoryview) -> int:
        """Nothing is written here."""
        raise PermissionDenied("this file is only read")

    def truncate(self, size: int) -> None:
        """Nothing is written here."""
        raise PermissionDenied("this file is only read")

    def allocate(self, mode: int, offset: int, length: int) -> None:
        """Nothing is written here."""
        raise PermissionDenied("this file is only read")

    def flush(self) -> None:
        """Nothing was written."""

    def fsync(self) -> None:
        """Nothing was written."""

    def close(self) -> None:
        """Nothing is left to do."""


def _results(job: Job) -> dict[str, RemoteRef]:
    """Return what the job made, by names that need no request."""
    return {f"{ref.kind.value}-{ref.id}": ref for ref in job.results}


def status_of(job: Job) -> dict[str, Any]:
    """Return what is to be known of the job, but for its log, ready for JSON."""
    return {
        "job": job.number,
        "title": job.title,
        "state": job.state.value,
        "error": job.error,
        "progress": job.progress,
        "waiting": job.waiting,
        "started": _iso(job.started_ns),
        "ended": None if job.ended_ns is None else _iso(job.ended_ns),
        "timeline": job.timeline,
        "target": None if job.target is None else ref_text(job.target),
        "results": [ref_text(ref) for ref in job.results],
    }


def _status(job: Job) -> bytes:
    return (json.dumps(status_of(job), indent=2, ensure_ascii=False) + "\n").encode(errors="replace")


def _iso(time_ns: int) -> str:
    return datetime.fromtimestamp(time_ns // 1_000_000_000, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 18 and text[0] != "0"
