"""Jobs on the local disk: one small JSON file each, so that a job outlives the mount that started it.

Layout.  ``jobs/<server and user>/`` in the state directory holds ``<number>.json`` for each job, and ``owners/<token>``
for each mount that is alive. All mounts of one user to one server share it.

Numbers go up by one and are never given again: the file with the highest one is never removed.

Owners.  A job that has not ended belongs to the mount that follows it, which holds a lock on its file in ``owners/``
that the kernel drops with the process. What belongs to a dead one is taken over (``adopt``) by whoever comes next.

Files are replaced as a whole, and not synced: after a power cut a job may look as it did a little earlier, and the
server is asked again.

Threads and processes.  Every method may be called from any thread. What must not happen twice at once (giving a
number, taking over, removing) is done under a lock on the file ``lock``, for a few file operations.

Failure.  A file that can not be read is left out, with a warning. ``OSError`` of writing passes through.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import fcntl
import hashlib
import json
import logging
import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agorafs.client.records import Kind, RemoteRef
from agorafs.private_directory import make_private_directory

log = logging.getLogger(__name__)

MAX_JOBS = 1000
_MAX_LOG_CHARS = 256 * 1024


class JobState(str, enum.Enum):
    """How a job stands. ``interrupted``: agorafs ended while it was doing it."""

    QUEUED = "queued"
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"

    @property
    def is_over(self) -> bool:
        """Nothing more will come."""
        return self not in (JobState.QUEUED, JobState.RUNNING)


@dataclass(frozen=True, slots=True)
class Job:
    """Something that goes on in the background.

    Attributes:
        title: What it is, as it was asked for.
        error: Why it did not end well.
        progress: How far it is, in words.
        waiting: Why nothing is known of it at present, such as a server that is away.
        started_ns: Wall time, as ``ended_ns``.
        timeline: The server's number for it; None: it is done here.
        target: Where its results go.
        project: The project that it is done in.
        results: What it made.
        log: What the program said, the end of it if that is long.
    """

    number: int
    title: str
    state: JobState
    started_ns: int
    error: str = ""
    progress: str = ""
    waiting: str = ""
    ended_ns: int | None = None
    timeline: int | None = None
    target: RemoteRef | None = None
    project: int | None = None
    results: tuple[RemoteRef, ...] = ()
    log: str = ""

    def with_log(self, text: str) -> Job:
        """Return it with that log, which is cut at its beginning if it is long."""
        if len(text) > _MAX_LOG_CHARS:
            text = "…" + text[-_MAX_LOG_CHARS:]
        return self if text == self.log else dataclasses.replace(self, log=text)


def jobs_directory(state_directory: Path, *, url: str, user: str) -> Path:
    """Return where the jobs of a user of a server are."""
    return state_directory / "jobs" / hashlib.sha256(f"{url}\0{user}".encode()).hexdigest()[:16]


class JobStore:
    """See the module docstring. Nothing changes after ``__init__`` but ``_owner_lock``, at ``close``."""

    def __init__(self, directory: Path, *, max_jobs: int = MAX_JOBS) -> None:
        """Enter the owners.

        Raises:
            UsageError: The directory can not be used.
        """
        self._directory = make_private_directory(directory)
        self._owners = make_private_directory(directory / "owners")
        self._max_jobs = max_jobs
        self._token = uuid.uuid4().hex
        with self._exclusively():
            self._owner_lock = _take(self._owners / self._token, may_make=True)
            for path in self._owners.iterdir():
                self._remove_if_dead(path)

    def numbers(self) -> list[int]:
        """Return the numbers of all jobs, the oldest first."""
        names = (path.stem for path in self._directory.glob("*.json"))
        return sorted(int(name) for name in names if name.isascii() and name.isdigit())

    def load(self, number: int) -> Job | None:
        """Return the job, None if there is none that can be read."""
        found = self._load(number)
        return None if found is None else found[0]

    def add(self, make: Callable[[int], Job]) -> Job:
        """Give a new job its number, and keep it; forget the oldest that are over."""
        with self._exclusively():
            numbers = self.numbers()
            job = make(numbers[-1] + 1 if numbers else 1)
            self.save(job)
            for number in numbers[: max(0, len(numbers) + 1 - self._max_jobs)]:
                found = self.load(number)
                if found is None or found.state.is_over:
                    self._path(number).unlink(missing_ok=True)
        return job

    def save(self, job: Job) -> None:
        """Keep the job as it is now; it is this mount's."""
        about = {"owner": self._token, **_to_json(job)}
        path = self._path(job.number)
        fresh = path.with_name(f"{path.name}.{self._token}-{uuid.uuid4().hex}")
        try:
            fresh.write_text(json.dumps(about), encoding="utf-8")
            fresh.replace(path)
        finally:
            fresh.unlink(missing_ok=True)

    def adopt(self) -> list[Job]:
        """Return the jobs that have not ended and that nobody follows; they are this mount's now."""
        adopted = []
        with self._exclusively():
            for number in self.numbers():
                found = self._load(number)
                if found is not None and not found[0].state.is_over and not self._is_alive(found[1]):
                    self.save(found[0])
                    adopted.append(found[0])
        return adopted

    def close(self) -> None:
        """Leave what has not ended to others."""
        if self._owner_lock is not None:
            os.close(self._owner_lock)
            self._owner_lock = None
            (self._owners / self._token).unlink(missing_ok=True)

    def _load(self, number: int) -> tuple[Job, str] | None:
        try:
            about = json.loads(self._path(number).read_text(encoding="utf-8"))
            return _from_json(number, about), str(about["owner"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            log.warning("job %d can not be read: %s", number, error)
            return None

    def _path(self, number: int) -> Path:
        return self._directory / f"{number}.json"

    def _is_alive(self, token: str) -> bool:
        if token == self._token:
            return True
        try:
            lock = _take(self._owners / token, may_make=False)
        except FileNotFoundError:
            return False
        if lock is None:
            return True
        os.close(lock)
        return False

    def _remove_if_dead(self, path: Path) -> None:
        if not self._is_alive(path.name):
            path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _exclusively(self) -> Iterator[None]:
        descriptor = os.open(self._directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _take(path: Path, *, may_make: bool) -> int | None:
    """Return a lock on *path*; None if another has it."""
    flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if may_make else 0)
    descriptor = os.open(path, flags, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _to_json(job: Job) -> dict[str, Any]:
    about = dataclasses.asdict(job)
    about["state"] = job.state.value
    about["target"] = None if job.target is None else ref_text(job.target)
    about["results"] = [ref_text(ref) for ref in job.results]
    return about


def _from_json(number: int, about: Mapping[str, Any]) -> Job:
    return Job(
        number,
        str(about["title"]),
        JobState(about["state"]),
        int(about["started_ns"]),
        error=str(about["error"]),
        progress=str(about["progress"]),
        waiting=str(about["waiting"]),
        ended_ns=None if about["ended_ns"] is None else int(about["ended_ns"]),
        timeline=None if about["timeline"] is None else int(about["timeline"]),
        target=None if about["target"] is None else _ref(about["target"]),
        project=None if about["project"] is None else int(about["project"]),
        results=tuple(_ref(text) for text in about["results"]),
        log=str(about["log"]),
    )


def ref_text(ref: RemoteRef) -> str:
    """Return an object as people give it: ``dataset:57``."""
    return f"{ref.kind.value}:{ref.id}"


def _ref(text: str) -> RemoteRef:
    kind, _, number = text.partition(":")
    return RemoteRef(Kind(kind), int(number))
