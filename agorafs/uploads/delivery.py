"""One batch on its way to the server: what is to be done in each state, and the step to the next.

Why states.  The process may die between any two instructions, and any answer may get lost. Each state says what the
server may know already, and each step is taken in the journal before the server can act on the next. So whoever finds
the batch, this run or the next mount, knows what is left to do, and does nothing twice that must not be done twice:

    SEALED      nothing on the server, but for an empty package that nobody remembers. SHA-1s, plan, new package.
    UPLOADING   chunks that were acknowledged are not sent again; those that were not are, with the same bytes.
    COMPLETING  ``complete`` may have been taken. A run that finds this state looks at the package first.
    IMPORTING   polled for as long as it takes; the server's work is never given up here.
    VERIFYING, SETTLING   the ``Settler``'s business. Whatever goes wrong now, the files are on the server.

A package that the server does not know any more is begun anew. If ``complete`` may have been taken, the files may have
arrived all the same: ``Settler.reconcile`` looks for them first, so that none is uploaded twice.

Place.  ``Sender`` calls ``advance`` on the threads of its batch workers, and decides about every wait.

Units.  Bytes; seconds on the passed clock.

Threads.  One at a time per batch (``Run`` is handed from one to the next under the ``Sender``'s lock), any number of
batches at once. No lock here.

Failure.  What the server refuses for good (403, another 4xx, a chunk of the smallest size) fails the batch with the
server's text; so does a file that changed, with its name. ``RemoteError`` and ``NotAuthenticated`` pass through: the
``Sender`` waits.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

from agorafs.cache.workers import Workers
from agorafs.client import imports as protocol
from agorafs.client.imports import Chunk, CompleteRequest, ImportResult, Package, Progress
from agorafs.client.records import Kind
from agorafs.clock import Clock
from agorafs.errors import AgoraFSError, NotAuthenticated, NotFound, ProtocolError, Refused, SpoolFull
from agorafs.uploads import packing
from agorafs.uploads.chunk_sending import ChunkSender, PackageUnusable, Stopped
from agorafs.uploads.chunk_size import ChunkSizes
from agorafs.uploads.sources import ContentChanged, sha1_of
from agorafs.uploads.values import Batch, BatchState, PlannedTransfer, Transfer, Upload

log = logging.getLogger(__name__)

_FIRST_POLL_S = 0.2
_MAX_POLL_S = 5.0
_POLL_GROWTH = 1.5
# A server that shows the same for so long, at an end that is not quite one, will not show more; not measured.
_QUIET_S = 60.0
_MAX_RESTART_PAUSE_S = 60.0

T = TypeVar("T")


class BatchJournal(Protocol):
    """What the sender does with the journal; see ``journal.Journal``."""

    @property
    def packages_directory(self) -> Path: ...

    def batch(self, batch_id: int) -> Batch | None: ...

    def uploads(self, batch_id: int, *, unsettled: bool = False) -> list[Upload]: ...

    def transfers(self, batch_id: int) -> list[Transfer]: ...

    def set_sha1(self, upload_id: int, sha1: str) -> None: ...

    def begin_upload(
        self, batch_id: int, package: int, planned: Sequence[PlannedTransfer]
    ) -> list[Transfer]: ...

    def note_chunk(self, transfer_id: int, number: int) -> None: ...

    def restart_transfer(self, transfer_id: int, chunk_bytes: int) -> Transfer: ...

    def forget_upload(self, batch_id: int) -> None: ...

    def set_state(
        self, batch_id: int, state: BatchState, *, result: Mapping[str, object] | None = None
    ) -> None: ...

    def barrier(self) -> None: ...


class DeliveryHub(Protocol):
    """What the sender tells the local files; see ``arrivals.Arrivals``."""

    def note_progress(self, batch_id: int, sent_bytes: int, total_bytes: int) -> None: ...

    def fail_batch(self, batch_id: int, reason: str) -> None: ...

    def is_abandoned(self, batch_id: int) -> bool: ...

    def abandon(self, batch_id: int) -> None: ...


class ImportCalls(Protocol):
    """The upload protocol; see ``client.imports``."""

    def create_package(self) -> int: ...

    def package(self, package_id: int) -> Package: ...

    def send_chunk(self, package_id: int, chunk: Chunk, data: bytes) -> None: ...

    def complete(self, package_id: int, request: CompleteRequest) -> None: ...

    def progress(self, package_id: int) -> Progress: ...

    def result(self, package_id: int) -> ImportResult: ...


class Settles(Protocol):
    """What is done once an import has ended; see ``settle.Settler``."""

    def settle(self, batch: Batch) -> None: ...

    def reconcile(self, batch: Batch) -> None: ...


class _Abandoned(Exception):
    """Nobody wants the batch any more."""


class _PackageGone(Exception):
    """The server does not know the import package."""


class _RefusedForGood(Exception):
    """The server has understood and will not; the text is the server's."""


@dataclass(slots=True, eq=False)
class Run:
    """What is remembered of one batch from one ``advance`` to the next, in memory only.

    ``steps`` counts what was achieved. ``untouched`` are transfers of which the server certainly has no part.
    """

    batch_id: int
    steps: int = 0
    restarts: int = 0
    polls: int = 0
    shown: Progress | None = None
    shown_since_s: float = 0.0
    untouched: set[int] = field(default_factory=set)


class Delivery:
    """Takes batches through their states."""

    def __init__(
        self,
        journal: BatchJournal,
        hub: DeliveryHub,
        imports: ImportCalls,
        settler: Settles,
        workers: Workers,
        parallel_chunks: int,
        *,
        clock: Clock,
        answered: Callable[[], None],
        is_stopping: Callable[[], bool],
    ) -> None:
        """Keep what is given.

        Args:
            workers: Send chunks, at most *parallel_chunks* of one batch at a time.
            answered: Called whenever the server has answered, whatever it said.
            is_stopping: Tells whether the mount ends; asked often.
        """
        self._journal = journal
        self._hub = hub
        self._imports = imports
        self._settler = settler
        self._sizes = ChunkSizes()
        self._chunks = ChunkSender(journal, self._send_chunk, self._sizes, workers, parallel_chunks, clock)
        self._clock = clock
        self._answered = answered
        self._is_stopping = is_stopping
        self._steps: dict[BatchState, Callable[[Batch, Run], float | None]] = {
            BatchState.SEALED: self._begin,
            BatchState.UPLOADING: self._upload,
            BatchState.COMPLETING: partial(self._complete, is_new=False),
            BatchState.IMPORTING: self._poll,
            BatchState.VERIFYING: self._settle,
            BatchState.SETTLING: self._settle,
        }

    def advance(self, run: Run) -> float | None:
        """Take a batch as far as it goes.

        Returns:
            In how many seconds to call again, None when the batch has ended or the mount ends.

        Raises:
            RemoteError, NotAuthenticated: The server is away, or seems to be; call again later.
            AgoraFSError: Something else keeps this batch from going on; call again later.
            OSError: The same, on this machine.
        """
        while not self._is_stopping():
            batch = self._journal.batch(run.batch_id)
            if batch is None:
                return None
            try:
                if batch.state in (BatchState.SEALED, BatchState.UPLOADING):
                    self._check_wanted(batch.id)
                pause_s = self._step(batch, run)
            except Stopped:
                return None
            except _Abandoned:
                self._hub.abandon(batch.id)
                return None
            except (ContentChanged, _RefusedForGood) as error:
                self._hub.fail_batch(batch.id, str(error))
                return None
            except PackageUnusable as error:
                log.info("upload %s begins anew: %s", batch.id, error)
                self._journal.forget_upload(batch.id)
                continue
            if pause_s is not None:
                return pause_s
        return None

    def _step(self, batch: Batch, run: Run) -> float | None:
        try:
            return self._steps[batch.state](batch, run)
        except _PackageGone as error:
            reason = str(error)
        return self._begin_anew(run, reason)

    # -- the states; each returns None to go on at once, or a pause ------------------------------------

    def _begin(self, batch: Batch, run: Run) -> None:
        for upload in self._journal.uploads(batch.id, unsettled=True):
            if upload.sha1 is None:
                self._check_wanted(batch.id)
                self._journal.set_sha1(upload.id, sha1_of(upload, self._check_running))
        uploads = self._journal.uploads(batch.id, unsettled=True)
        if not uploads:  # directories only, or every file was found on the server: there is nothing to import
            self._journal.set_state(batch.id, BatchState.SETTLING)
            return
        planned = packing.plan(uploads, batch.import_file, self._sizes.next_bytes())
        package = self._ask(self._imports.create_package)
        transfers = self._journal.begin_upload(batch.id, package, planned)
        run.untouched = {transfer.id for transfer in transfers}
        run.steps += 1

    def _upload(self, batch: Batch, run: Run) -> None:
        assert batch.package is not None
        transfers = self._journal.transfers(batch.id)
        uploads: dict[int, list[Upload]] = {transfer.id: [] for transfer in transfers}
        for upload in self._journal.uploads(batch.id):
            if upload.transfer is not None:
                uploads[upload.transfer].append(upload)
        total = sum(transfer.size for transfer in transfers)
        sent = sum(transfer.acknowledged_bytes for transfer in transfers)
        self._hub.note_progress(batch.id, sent, total)

        def acknowledged(size: int) -> None:
            nonlocal sent
            sent += size
            run.steps += 1
            self._hub.note_progress(batch.id, sent, total)

        try:
            has_all = self._chunks.send(
                batch.package,
                transfers,
                uploads,
                untouched=run.untouched,
                check=partial(self._check_wanted, batch.id),
                stop=self._check_running,
                acknowledged=acknowledged,
            )
        except NotFound as error:
            raise _PackageGone(str(error)) from error
        except AgoraFSError as error:
            if _is_refusal(error):
                raise _RefusedForGood(str(error)) from error
            raise
        if has_all:
            self._check_wanted(batch.id)
            self._journal.set_state(batch.id, BatchState.COMPLETING)
            self._complete(batch, run, is_new=True)

    def _complete(self, batch: Batch, run: Run, *, is_new: bool) -> None:
        """Send ``complete``, unless the server has taken it before; *is_new*: it certainly was not sent yet."""
        assert batch.package is not None
        package = batch.package
        if is_new or not self._is_taken(package):
            self._check_wanted(batch.id)
            kind, target = batch.anchor
            request = CompleteRequest(
                folder=target if kind is Kind.FOLDER else None,
                exam=target if kind is Kind.EXAM else None,
                series=target if kind is Kind.SERIES else None,
                import_file=batch.import_file,
                relations=batch.relations,
            )
            try:
                self._ask(lambda: self._imports.complete(package, request))
            except NotFound as error:
                self._look(lambda: self._imports.package(package))
                # The package is there, so it is the target that is not.
                raise _RefusedForGood(str(error)) from error
        self._journal.set_state(batch.id, BatchState.IMPORTING)
        run.polls = 0
        run.shown = None
        run.steps += 1

    def _is_taken(self, package_id: int) -> bool:
        package = self._look(lambda: self._imports.package(package_id))
        return package.is_complete or package.state != protocol.UPLOADING

    def _poll(self, batch: Batch, run: Run) -> float | None:
        assert batch.package is not None
        package = batch.package
        progress = self._look(lambda: self._imports.progress(package))
        now_s = self._clock.monotonic()
        if progress != run.shown:
            run.shown, run.shown_since_s = progress, now_s
        is_quiet = now_s - run.shown_since_s >= _QUIET_S
        if progress.state == protocol.UPLOADING and is_quiet and not self._is_taken(package):
            self._journal.set_state(batch.id, BatchState.COMPLETING)  # the server has lost what it answered
            return None
        has_ended = progress.state in (protocol.FINISHED, protocol.FAILED) and (
            progress.progress >= 100 or is_quiet
        )
        if not has_ended:
            pause_s = min(_MAX_POLL_S, _FIRST_POLL_S * _POLL_GROWTH ** min(run.polls, 20))
            run.polls += 1
            return pause_s
        if progress.state == protocol.FAILED:
            error = self._look(lambda: self._imports.package(package)).error
            raise _RefusedForGood(f"the server could not import this: {error or 'it does not say why'}")
        result = self._look(lambda: self._imports.result(package))
        self._journal.set_state(batch.id, BatchState.VERIFYING, result=result.raw)
        run.steps += 1
        return None

    def _settle(self, batch: Batch, run: Run) -> None:
        self._settler.settle(batch)
        self._answered()
        left = self._journal.batch(batch.id)
        if left is not None and left.state is batch.state:
            raise RuntimeError(f"batch {batch.id} was settled and is {left.state.value} as before")
        run.steps += 1

    # -- when it does not go straight -----------------------------------------------------------------

    def _begin_anew(self, run: Run, reason: str) -> float | None:
        """The server has forgotten the package: back to the start, with what did not arrive after all."""
        batch = self._journal.batch(run.batch_id)
        if batch is None:
            return None
        log.warning("the server does not know import package %s any more: %s", batch.package, reason)
        if batch.state in (BatchState.COMPLETING, BatchState.IMPORTING):
            self._settler.reconcile(batch)
            self._answered()
        if self._journal.batch(run.batch_id) is not None:
            self._journal.forget_upload(run.batch_id)
        run.restarts += 1
        if run.restarts == 1:
            return None
        # A server that forgets every package is not to be asked for new ones without end.
        return min(_MAX_RESTART_PAUSE_S, float(2 ** min(run.restarts, 10)))

    def _check_running(self) -> None:
        if self._is_stopping():
            raise Stopped

    def _check_wanted(self, batch_id: int) -> None:
        self._check_running()
        if self._hub.is_abandoned(batch_id):
            raise _Abandoned

    def _send_chunk(self, package_id: int, chunk: Chunk, data: bytes) -> None:
        self._hear(lambda: self._imports.send_chunk(package_id, chunk, data))

    def _hear(self, call: Callable[[], T]) -> T:
        """Call the server and take note when it answers."""
        try:
            answer = call()
        except AgoraFSError as error:
            if _is_refusal(error):
                self._answered()
            raise
        self._answered()
        return answer

    def _ask(self, call: Callable[[], T]) -> T:
        """Call the server; what it refuses fails the batch, but for NotFound."""
        self._check_running()
        try:
            return self._hear(call)
        except NotFound:
            raise
        except AgoraFSError as error:
            if _is_refusal(error):
                raise _RefusedForGood(str(error)) from error
            raise

    def _look(self, call: Callable[[], T]) -> T:
        """Ask the server about the package; a refusal to say is not a refusal to import."""
        try:
            return self._ask(call)
        except NotFound as error:
            raise _PackageGone(str(error)) from error
        except _RefusedForGood as refusal:
            assert isinstance(refusal.__cause__, AgoraFSError)
            raise refusal.__cause__ from None


def _is_refusal(error: AgoraFSError) -> bool:
    """Tell whether the server has understood what was asked and will not do it, now or later."""
    if isinstance(error, ProtocolError):
        return error.status is not None
    # Another key may be given, and the spool's disk is not the server.
    return isinstance(error, Refused) and not isinstance(error, (NotAuthenticated, SpoolFull))
