"""Jobs: what goes on in the background, on the server or here, and can be waited for.

Why.  A task may run for hours, and so may the copy of an exam. Whoever starts one gets a number at once, may unmount,
and finds it again under that number.

Two kinds.  A *timeline* job goes on at the server; it is asked about until it has ended, by whichever mount is there
(``job_store``). A *local* job is done by a thread here; when agorafs ends before it does, it is ``interrupted``.

Asking.  One thread asks about each job that is due: a second after it was started, then at growing intervals up to
``_LONGEST_PAUSE_S``. A server that is away, or refuses the key, says nothing about the job: it stays as it was,
``waiting`` says why, and the next question comes after up to ``_LONGEST_WAIT_S``. A server that does not know the run
any more, or does not let this user see it, ends the job as failed.

The server's states.  An item that is "idle" has not begun yet, so it counts as queued. One that is being cancelled is
running until it is cancelled. Its error may stand in two places; the client looks in both.

Results.  When a run has ended well: what the server calls related to it; else the folders with results of its target;
else the target itself.

Ending.  First the listings of what may have changed are forgotten (``on_ended``), then the job is seen as ended: who
waits for it and looks then, looks anew.

Units.  Seconds on the clock that is passed in; wall time in nanoseconds where people read it.

Threads.  Every method may be called from any thread. ``_lock`` guards ``_jobs``, ``_due`` and ``_is_closing``; it is a
leaf, and nothing is asked, written or told while it is held. Who changes a job is one: the asking thread, or the
job's own.

Invariant, run by ``_check`` at each release of ``_lock`` in tests: a job in ``_due`` is in ``_jobs``, goes on, and does
so at the server.

Failure.  A job that can not be kept on the disk is logged, and known until the mount ends.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from agorafs.cache.locks import InvariantLock
from agorafs.client.records import Folder, Kind, RemoteRef
from agorafs.client.task_records import TimelineItem, TimelineState
from agorafs.clock import SYSTEM_CLOCK, Clock
from agorafs.errors import AgoraFSError, Interrupted, JobFailed, NotFound, PermissionDenied
from agorafs.vfs.job_store import MAX_JOBS, Job, JobState, JobStore

__all__ = ["Job", "JobState", "Jobs", "Progress", "check_ended_well"]

log = logging.getLogger(__name__)

_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 5.0
_LONGEST_WAIT_S = 30.0
_CLOSE_S = 5.0

_STATES = {
    TimelineState.IDLE: JobState.QUEUED,
    TimelineState.QUEUED: JobState.QUEUED,
    TimelineState.STARTED: JobState.RUNNING,
    TimelineState.CANCELLING: JobState.RUNNING,
    TimelineState.FINISHED: JobState.FINISHED,
    TimelineState.ERROR: JobState.FAILED,
    TimelineState.CANCELLED: JobState.CANCELLED,
}
_SHOWN_KINDS = frozenset({Kind.PROJECT, Kind.FOLDER, Kind.EXAM, Kind.SERIES, Kind.DATASET, Kind.PATIENT})


class Timelines(Protocol):
    """What is asked about runs: ``client.tasks``."""

    def timeline(self, item_id: int, /) -> TimelineItem: ...


class ResultFolders(Protocol):
    """What is asked for results: ``client.exploring``."""

    def result_folders(self, ref: RemoteRef, /) -> list[Folder]: ...


class Progress:
    """How a local job tells how it goes."""

    def __init__(self, tell: Callable[[str | None, str], None]) -> None:
        self._tell = tell

    def say(self, text: str) -> None:
        """Let *text* be how far it is.

        Raises:
            Interrupted: The mount ends; so should the job.
        """
        self._tell(text, "")

    def log(self, line: str) -> None:
        """Add a line to the job's log; raises as ``say`` does."""
        self._tell(None, line + "\n")


@dataclass(frozen=True, slots=True)
class _Due:
    """When a job is to be asked about; ``pause_s`` is what was waited for that."""

    at_s: float
    pause_s: float
    notify: Callable[[Job], None] | None = None


class Jobs:
    """See the module docstring."""

    def __init__(
        self,
        directory: Path,
        timelines: Timelines,
        results: ResultFolders,
        *,
        on_ended: Callable[[Job], None],
        clock: Clock = SYSTEM_CLOCK,
        wall_ns: Callable[[], int] = time.time_ns,
        max_jobs: int = MAX_JOBS,
    ) -> None:
        """Learn which jobs there are; nobody is asked before ``start``.

        Args:
            directory: Where jobs are kept, see ``job_store.jobs_directory``.
            on_ended: Forgets what may look different now that a job has ended. It must not wait.

        Raises:
            UsageError: The directory can not be used.
        """
        # given
        self._timelines = timelines
        self._result_folders = results
        self._on_ended = on_ended
        self._clock = clock
        self._wall_ns = wall_ns
        # fixed
        self._store = JobStore(directory, max_jobs=max_jobs)
        self._max_jobs = max_jobs
        self._lock = InvariantLock(self._check)
        self._changed = self._lock.condition
        self._thread: threading.Thread | None = None
        # changing, guarded by _lock
        self._jobs: dict[int, Job] = {}  # those that were seen alive here, by number
        self._due: dict[int, _Due] = {}  # those that the server is asked about
        self._is_closing = False
        self._adopt()

    def start(self) -> None:
        """Begin to ask the server about what has not ended."""
        self._thread = threading.Thread(target=self._follow, name="jobs", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop asking. What goes on at the server goes on; what is done here ends at its next word."""
        with self._lock:
            self._is_closing = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(_CLOSE_S)
        self._store.close()

    # -- starting ------------------------------------------------------------------------------------

    def start_timeline(
        self,
        title: str,
        item: TimelineItem,
        *,
        target: RemoteRef | None,
        project: int | None = None,
        notify: Callable[[Job], None] | None = None,
    ) -> Job:
        """Follow what the server has started until it has ended, whatever happens to this mount.

        Args:
            target: Where its results go, as far as that is known.
            project: The project in which they may be then.
            notify: Is told the end, if this mount sees it.
        """
        state = JobState.RUNNING if item.state.is_over else _STATES[item.state]
        started_ns = self._wall_ns()

        def make(number: int) -> Job:
            return Job(number, title, state, started_ns, timeline=item.id, target=target, project=project)

        job = self._new(make)
        with self._lock:
            first_s = 0.0 if item.state.is_over else _FIRST_PAUSE_S
            self._due[job.number] = _Due(self._clock.monotonic() + first_s, _FIRST_PAUSE_S, notify)
            self._changed.notify_all()
        return job

    def start_local(self, title: str, work: Callable[[Progress], str]) -> Job:
        """Do *work* in a thread of its own; what it returns are the last words of its progress."""
        started_ns = self._wall_ns()
        job = self._new(lambda number: Job(number, title, JobState.RUNNING, started_ns))
        name = f"job-{job.number}"
        threading.Thread(target=self._do, args=(job.number, work), name=name, daemon=True).start()
        return job

    def _new(self, make: Callable[[int], Job]) -> Job:
        try:
            job = self._store.add(make)
        except OSError as error:
            log.warning("a job is forgotten at the end of this mount, since it can not be kept: %s", error)
            job = make(max(self.numbers(), default=0) + 1)
        with self._lock:
            self._jobs[job.number] = job
            for number in list(self._jobs)[: -self._max_jobs]:
                if self._jobs[number].state.is_over:
                    del self._jobs[number]
        return job

    # -- looking -------------------------------------------------------------------------------------

    def numbers(self) -> list[int]:
        """Return the numbers of all jobs that are remembered, the oldest first."""
        with self._lock:
            known = set(self._jobs)
        return sorted(known.union(self._store.numbers()))

    def job(self, number: int) -> Job:
        """Return how the job is; the server is not asked.

        Raises:
            NotFound: There is none of that number.
        """
        with self._lock:
            job = self._jobs.get(number)
        if job is None:
            job = self._store.load(number)
        if job is None:
            raise NotFound(f"there is no job {number}")
        if not job.state.is_over and not self._is_ours(number):
            self._adopt()  # the mount that followed it may have ended
        return job

    def wait(self, number: int, timeout_s: float) -> Job:
        """Return the job when it has ended, or as it is after *timeout_s*.

        Raises:
            NotFound: There is none of that number.
        """
        job = self.job(number)
        if job.state.is_over:
            return job
        with self._lock:
            # Another mount's job is not in the table: all that can be done is to look again later.
            self._changed.wait_for(lambda: self._is_closing or self._locked_has_ended(number), timeout_s)
        return self.job(number)

    def _is_ours(self, number: int) -> bool:
        with self._lock:
            return number in self._jobs

    def _locked_has_ended(self, number: int) -> bool:
        job = self._jobs.get(number)
        return job is not None and job.state.is_over

    # -- following -----------------------------------------------------------------------------------

    def follow_due(self) -> float | None:
        """Ask about each job that is due; return in how many seconds another one will be, None if none."""
        while True:
            with self._lock:
                now_s = self._clock.monotonic()
                number = min(self._due, key=lambda one: self._due[one].at_s, default=None)
                if number is None or self._is_closing:
                    return None
                due = self._due[number]
                if due.at_s > now_s:
                    return due.at_s - now_s
                job = self._jobs[number]
            self._look(job, due)

    def _follow(self) -> None:
        while True:
            try:
                pause_s = self.follow_due()
            except Exception:
                log.exception("following jobs failed")
                pause_s = _LONGEST_WAIT_S
            with self._lock:
                if self._is_closing:
                    return
                self._changed.wait(pause_s)

    def _look(self, job: Job, due: _Due) -> None:
        """Ask about one job, and say when to ask again."""
        assert job.timeline is not None
        longest_s = _LONGEST_PAUSE_S
        try:
            item = self._timelines.timeline(job.timeline)
        except (NotFound, PermissionDenied) as error:
            found = self._ended(job, JobState.FAILED, f"the server tells no more of it: {error}")
        except AgoraFSError as error:
            found = dataclasses.replace(job, waiting=str(error))
            longest_s = _LONGEST_WAIT_S
        else:
            found = self._updated(job, item)
        if found.state.is_over:
            self._finish(found, due.notify)
            return
        self._put(found)
        pause_s = min(due.pause_s * 1.5, longest_s)
        with self._lock:
            self._due[job.number] = _Due(self._clock.monotonic() + pause_s, pause_s, due.notify)

    def _updated(self, job: Job, item: TimelineItem) -> Job:
        """Return *job* as the server's *item* says it is."""
        state = _STATES[item.state]
        job = dataclasses.replace(job, state=state, waiting="", progress=_progress(item)).with_log(_log(item))
        if not state.is_over:
            return job
        error = item.error or {
            JobState.FAILED: "the server gives no reason",
            JobState.CANCELLED: "cancelled",
        }.get(state, "")
        job = self._ended(job, state, "" if state is JobState.FINISHED else error)
        return dataclasses.replace(job, results=self._results(job, item))

    def _ended(self, job: Job, state: JobState, error: str) -> Job:
        return dataclasses.replace(job, state=state, error=error, waiting="", ended_ns=self._wall_ns())

    def _results(self, job: Job, item: TimelineItem) -> tuple[RemoteRef, ...]:
        """Return what the run made; the server may be asked."""
        if job.state is not JobState.FINISHED:
            return ()
        made = tuple(RemoteRef(kind, id_) for kind, id_ in item.related if kind in _SHOWN_KINDS)
        if made or job.target is None:
            return made
        if job.target.kind in (Kind.EXAM, Kind.SERIES):
            with contextlib.suppress(AgoraFSError):  # the target will do
                folders = self._result_folders.result_folders(job.target)
                if folders:
                    return tuple(RemoteRef(Kind.FOLDER, folder.id) for folder in folders)
        return (job.target,)

    # -- doing ---------------------------------------------------------------------------------------

    def _do(self, number: int, work: Callable[[Progress], str]) -> None:
        def tell(progress: str | None, line: str) -> None:
            with self._lock:
                if self._is_closing:
                    raise Interrupted("the mount ends")
                job = self._jobs[number]
            job = job.with_log(job.log + line)
            self._put(job if progress is None else dataclasses.replace(job, progress=progress), keep=False)

        state, error, last = JobState.FINISHED, "", ""
        try:
            last = work(Progress(tell))
        except Interrupted as interruption:
            state, error = JobState.INTERRUPTED, str(interruption)
        except AgoraFSError as failure:
            state, error = JobState.FAILED, str(failure)
        except Exception as bug:
            log.exception("job %d failed", number)
            state, error = JobState.FAILED, f"internal error: {type(bug).__name__}, see the log"
        with self._lock:
            job = self._jobs[number]
        self._finish(dataclasses.replace(self._ended(job, state, error), progress=last or job.progress), None)

    # -- how -----------------------------------------------------------------------------------------

    def _finish(self, job: Job, notify: Callable[[Job], None] | None) -> None:
        """Let the end of a job be seen, when all that depends on it has been put right."""
        self._keep(job)
        for tell in (self._on_ended, notify):
            if tell is not None:
                try:
                    tell(job)
                except Exception:
                    log.exception("the end of job %d could not be told", job.number)
        with self._lock:
            self._jobs[job.number] = job
            self._due.pop(job.number, None)
            self._changed.notify_all()

    def _put(self, job: Job, *, keep: bool = True) -> None:
        """Let *job* be seen as it is now."""
        with self._lock:
            is_new = self._jobs.get(job.number) != job
            self._jobs[job.number] = job
        if is_new and keep:
            self._keep(job)

    def _keep(self, job: Job) -> None:
        try:
            self._store.save(job)
        except OSError as error:
            log.warning("job %d can not be kept on the disk: %s", job.number, error)

    def _adopt(self) -> None:
        """Take over what nobody follows any more."""
        try:
            adopted = self._store.adopt()
        except OSError as error:
            log.warning("jobs of former mounts can not be taken over: %s", error)
            return
        for job in adopted:
            if job.timeline is None:
                job = self._ended(job, JobState.INTERRUPTED, "agorafs ended before the job did")
                self._keep(job)
            with self._lock:
                self._jobs[job.number] = job
                if job.timeline is not None:
                    self._due[job.number] = _Due(self._clock.monotonic(), _FIRST_PAUSE_S)
                self._changed.notify_all()

    def _check(self) -> None:
        for number in self._due:
            job = self._jobs[number]
            assert job.timeline is not None and not job.state.is_over, job


def check_ended_well(job: Job) -> None:
    """Raise if *job*, which is over, has not ended well.

    Raises:
        JobFailed: With its error.
    """
    if job.state is not JobState.FINISHED:
        raise JobFailed(f"job {job.number} ({job.title}) {_WORDS[job.state]}: {job.error}")


_WORDS = {
    JobState.FAILED: "has failed",
    JobState.CANCELLED: "was cancelled",
    JobState.INTERRUPTED: "was interrupted",
}


def _data(item: TimelineItem) -> dict[str, Any]:
    data = item.raw.get("data")
    return data if isinstance(data, dict) else {}


def _log(item: TimelineItem) -> str:
    """Return what the program said, where the server gives it: which fields these are is not published."""
    texts = [_data(item).get(name, item.raw.get(name)) for name in ("stdout", "stderr")]
    return "".join(
        text if text.endswith("\n") else text + "\n" for text in texts if isinstance(text, str) and text
    )


def _progress(item: TimelineItem) -> str:
    value = _data(item).get("progress", item.raw.get("progress"))
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return ""
    return value if isinstance(value, str) else f"{value:g} %"
