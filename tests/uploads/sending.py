"""Building blocks for tests of the sender: a server in memory, a life that ends at a chosen step, short words."""

from __future__ import annotations

import hashlib
import io
import threading
import uuid
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

from agorafs.cache.workers import Workers
from agorafs.client.imports import Chunk, CompleteRequest, ImportResult, Package, Progress
from agorafs.client.records import Kind
from agorafs.errors import AgoraFSError, NotFound, ProtocolError, TooLarge
from agorafs.uploads.delivery import Delivery, Run
from agorafs.uploads.durable import Disk
from agorafs.uploads.journal import Journal
from agorafs.uploads.journal_rows import NewUpload
from agorafs.uploads.values import Anchor, Batch, BatchState, Outcome, OutcomeKind, Upload
from tests.support.manual_clock import ManualClock

T = TypeVar("T")
FOLDER = Anchor(Kind.FOLDER, 7)
_READING = {"batch", "batches", "uploads", "transfers"}


class Killed(BaseException):
    """The process is dead from here on."""


class Life:
    """Counts the steps of a process, and ends it at one of them: then every further step fails, on every thread."""

    def __init__(self, dies_at: int | None = None) -> None:
        self.dies_at = dies_at
        self.steps: list[str] = []
        self.is_over = False
        self._lock = threading.Lock()

    def step(self, what: str) -> None:
        with self._lock:
            if not self.is_over:
                self.steps.append(what)
                self.is_over = len(self.steps) - 1 == self.dies_at
            if self.is_over:
                raise Killed(what)

    def of(self, one: T) -> T:
        """Return *one* with a step before and after each call of its methods."""
        return cast(T, _Stepping(one, self))


class _Stepping:
    def __init__(self, one: object, life: Life) -> None:
        self._one = one
        self._life = life

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._one, name)
        if not callable(value):
            return value

        def call(*args: Any, **kwargs: Any) -> Any:
            self._life.step(f"before {name}")
            answer = value(*args, **kwargs)
            if name not in _READING:  # after which everything is as before
                self._life.step(f"after {name}")
            return answer

        return call


class NoSync(Disk):
    """A disk that is never cut off: tests of kills need no sync."""

    def sync_file(self, descriptor: int, path: Path) -> None:
        pass

    def sync_directory(self, path: Path) -> None:
        pass


@dataclass
class ServerPackage:
    chunks: dict[tuple[str, int], bytes] = field(default_factory=dict)
    announced: dict[str, Chunk] = field(default_factory=dict)
    request: CompleteRequest | None = None
    state: int = 1
    shown: list[Progress] = field(default_factory=list)
    imported: list[tuple[str, bytes]] = field(default_factory=list)
    error: str = ""


class Server:
    """The upload protocol as the reference describes it. ``files`` are all that was ever imported."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.packages: dict[int, ServerPackage] = {}
        self.files: list[tuple[str, bytes]] = []
        self.calls: list[str] = []
        self.sent: list[tuple[str, int, bytes]] = []  # every chunk that arrived: identifier, number, bytes
        self.requests: list[CompleteRequest] = []
        self.chunk_max: int | None = None
        self.polls = [(2, 10), (4, 60), (5, 100)]  # what progress shows after ``complete``; the last stays
        self.has_target = True
        self.fails_with = ""
        self.before: Callable[[str], None] = lambda name: None
        self.after: Callable[[str], None] = lambda name: None  # raising here is a lost answer
        self.in_flight = 0
        self.most_in_flight = 0

    @contextmanager
    def _call(self, name: str) -> Iterator[None]:
        with self._lock:
            self.calls.append(name)
        self.before(name)
        with self._lock:
            yield
        self.after(name)

    def _known(self, package_id: int) -> ServerPackage:
        if package_id not in self.packages:
            raise NotFound(f"import/{package_id}: 404")
        return self.packages[package_id]

    def create_package(self) -> int:
        with self._call("create_package"):
            self.packages[len(self.calls)] = ServerPackage()
            return len(self.calls)

    def package(self, package_id: int) -> Package:
        with self._call("package"):
            package = self._known(package_id)
            return Package(package_id, package.state, package.request is not None, package.error)

    def send_chunk(self, package_id: int, chunk: Chunk, data: bytes) -> None:
        with self._lock:
            self.in_flight += 1
            self.most_in_flight = max(self.in_flight, self.most_in_flight)
        try:
            with self._call("send_chunk"):
                package = self._known(package_id)
                assert package.request is None, "a chunk after complete"
                assert len(data) == chunk.size
                if self.chunk_max is not None and len(data) > self.chunk_max:
                    raise TooLarge("413 (no more than that)")
                package.announced[chunk.identifier] = chunk
                package.chunks[chunk.identifier, chunk.number] = bytes(data)
                self.sent.append((chunk.identifier, chunk.number, bytes(data)))
        finally:
            with self._lock:
                self.in_flight -= 1

    def complete(self, package_id: int, request: CompleteRequest) -> None:
        with self._call("complete"):
            package = self._known(package_id)
            if not self.has_target:
                raise NotFound("folder 7: 404")
            assert package.request is None, "complete was sent twice"
            package.request = request
            self.requests.append(request)
            package.shown = [Progress(state, percent, 0, 0, 0) for state, percent in self.polls]
            package.state = package.shown[-1].state
            if self.fails_with:
                package.state, package.error = -1, self.fails_with
                return
            for identifier, chunk in package.announced.items():
                numbers = range(1, chunk.chunks + 1)
                content = b"".join(package.chunks[identifier, number] for number in numbers)
                assert len(content) == chunk.total_size
                if not chunk.target.endswith(".agora_upload"):
                    package.imported.append((chunk.target, content))
                    continue
                with zipfile.ZipFile(io.BytesIO(content)) as archive:
                    package.imported += [(name, archive.read(name)) for name in archive.namelist()]
            self.files += package.imported

    def progress(self, package_id: int) -> Progress:
        with self._call("progress"):
            package = self._known(package_id)
            if package.request is None:
                return Progress(1, 0, 0, 0, 0)
            return package.shown.pop(0) if len(package.shown) > 1 else package.shown[0]

    def result(self, package_id: int) -> ImportResult:
        with self._call("result"):
            files = self._known(package_id).imported
            listed = [
                {"path": target, "sha1": sha1(content), "id": number, "dataset": number, "created": True}
                for number, (target, content) in enumerate(files, 1)
            ]
            return ImportResult.from_json({"datafiles": listed})

    def abort(self) -> None:
        """Nothing is ever under way for long."""


class Hub:
    """The local files, as far as the sender sees them."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.closing = threading.Event()
        self.failed: dict[int, str] = {}
        self.abandoned: list[int] = []
        self.unwanted: set[int] = set()
        self.progress: list[tuple[int, int, int]] = []
        self.waits: list[tuple[int, str | None]] = []
        self._news = threading.Condition()
        self._count = 0

    def runnable(self) -> list[int]:
        return [batch.id for batch in self.journal.batches()]

    def announce_work(self) -> None:
        with self._news:
            self._count += 1
            self._news.notify_all()

    def wait_for_work(self, timeout_s: float) -> None:
        with self._news:
            seen = self._count
            self._news.wait_for(lambda: self._count != seen or self.closing.is_set(), timeout_s)

    def note_wait(self, batch_id: int, reason: str | None) -> None:
        self.waits.append((batch_id, reason))

    def note_progress(self, batch_id: int, sent_bytes: int, total_bytes: int) -> None:
        self.progress.append((batch_id, sent_bytes, total_bytes))

    def fail_batch(self, batch_id: int, reason: str) -> None:
        self.failed[batch_id] = reason
        self.journal.end_batch(batch_id)

    def is_abandoned(self, batch_id: int) -> bool:
        return batch_id in self.unwanted

    def abandon(self, batch_id: int) -> None:
        self.abandoned.append(batch_id)
        self.journal.end_batch(batch_id)


class Settler:
    """Holds every upload against what the server has; an upload that is not there fails the test."""

    def __init__(self, journal: Journal, server: Server) -> None:
        self._journal = journal
        self._server = server
        self.settled: list[int] = []

    def settle(self, batch: Batch) -> None:
        uploads = self._journal.uploads(batch.id, unsettled=True)
        if batch.state is BatchState.VERIFYING:
            assert batch.result is not None
            listed = cast("list[Mapping[str, object]]", batch.result["datafiles"])
            results = {(each["path"], each["sha1"]) for each in listed}
            assert {(each.target, each.sha1) for each in uploads} <= results
            self._journal.set_outcomes(batch.id, {each.id: Outcome(OutcomeKind.FILED) for each in uploads})
        for upload in uploads:
            self._journal.settle(upload.id, Outcome(OutcomeKind.FILED))
            self.settled.append(upload.id)
        self._journal.end_batch(batch.id)

    def reconcile(self, batch: Batch) -> None:
        stored = {(target, sha1(content)) for target, content in self._server.files}
        for upload in self._journal.uploads(batch.id, unsettled=True):
            if (upload.target, upload.sha1) in stored:
                self._journal.settle(upload.id, Outcome(OutcomeKind.FILED))
                self.settled.append(upload.id)


def sha1(data: bytes) -> str:
    return hashlib.sha1(data, usedforsecurity=False).hexdigest()


def upload(directory: Path, number: int, target: str, data: bytes, **changed: Any) -> Upload:
    """Return an upload whose content is a new file."""
    content = directory / f"content-{number}"
    content.write_bytes(data)
    fields: dict[str, Any] = {
        "id": number,
        "batch": 1,
        "target": target,
        "size": len(data),
        "mtime_ns": 0,
        "sha1": sha1(data),
        "content": content,
        "replaces": None,
        "transfer": None,
        "outcome": None,
    }
    return Upload(**{**fields, **changed})


class World:
    """One spool directory and one server; processes come and go."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "content").mkdir(parents=True)
        (directory / "packages").mkdir()
        self.server = Server()
        self.clock = ManualClock()
        self.parallel_chunks = 4
        self.journal: Journal
        self.hub: Hub
        self.settler: Settler
        self.workers: Workers
        self.begin(Life())

    def begin(self, life: Life) -> None:
        """A process begins, with what is on the disk."""
        self.journal = Journal(self.directory, NoSync())
        self.hub = Hub(life.of(self.journal))
        self.settler = Settler(life.of(self.journal), self.server)
        self.workers = Workers("test-chunks", self.parallel_chunks)
        self.runs: dict[int, Run] = {}
        self.answers = 0
        self.delivery = Delivery(
            life.of(self.journal),
            self.hub,
            life.of(self.server),
            life.of(self.settler),
            self.workers,
            self.parallel_chunks,
            clock=self.clock,
            answered=self._answered,
            is_stopping=self.hub.closing.is_set,
        )

    def _answered(self) -> None:
        self.answers += 1

    def restart(self, life: Life | None = None) -> None:
        """The process has died; another begins."""
        self.end()
        self.begin(life or Life())

    def end(self) -> None:
        assert self.workers.wait_for_idle(10)
        self.workers.close()
        self.journal.close()

    def batch(self, files: Mapping[str, bytes], **options: Any) -> int:
        """Seal a batch of *files* and return its id."""
        news = []
        for target, data in files.items():
            name = uuid.uuid4().hex
            (self.directory / "content" / name).write_bytes(data)
            news.append(NewUpload(None, target, len(data), 0, name, None))
        given: dict[str, Any] = {"import_file": None, "relations": None, "created_s": 0.0, **options}
        anchor = given.pop("anchor", FOLDER)
        return self.journal.seal(anchor, news, [], **given)

    def content(self, batch_id: int, target: str) -> Path:
        return next(each.content for each in self.journal.uploads(batch_id) if each.target == target)

    def advance(self, batch_id: int) -> float | None:
        return self.delivery.advance(self.runs.setdefault(batch_id, Run(batch_id)))

    def go_on(self, batch_id: int) -> None:
        """Go on until the batch has ended, or raise what it is to be called again after."""
        while (pause_s := self.advance(batch_id)) is not None:
            self.clock.advance(pause_s)

    def deliver(self, batch_id: int) -> None:
        """Go on until the batch has ended; trouble is waited for."""
        for _ in range(200):
            try:
                pause_s = self.advance(batch_id)
            except AgoraFSError:
                pause_s = 1.0
            if pause_s is None:
                return
            self.clock.advance(pause_s)
        raise AssertionError("the batch does not end")

    def state(self, batch_id: int) -> BatchState | None:
        batch = self.journal.batch(batch_id)
        return None if batch is None else batch.state


class Once:
    """Raises *error* at the first call named *name*, or the *nth*."""

    def __init__(self, name: str, error: BaseException, nth: int = 1) -> None:
        self._name = name
        self._error = error
        self._left = nth
        self._lock = threading.Lock()

    def __call__(self, name: str) -> None:
        with self._lock:
            if name != self._name:
                return
            self._left -= 1
            if self._left:
                return
        raise self._error


def refusal(text: str) -> ProtocolError:
    return ProtocolError(text, 400)
