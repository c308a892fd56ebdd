"""The sender: brings batches to the server, one thread deciding, a few working.

Why.  Nothing here is asked for by a program that waits; it goes on until everything is verified, through restarts of
the server, nights offline, and other batches that never end. So nothing gives up, nothing is lost by a mistake of ours
in one batch, and a server that is away is asked by one batch at a time, at growing intervals.

Place.  ``stack`` starts it after the mount is up. ``Delivery`` knows what is to be done with a batch, ``Schedule``
which is next; this module has the threads.

Threads
    ``agorafs-upload-schedule`` gives due batches to the batch workers; ``agorafs-upload-listen`` waits for news from
    the hub; batch workers run ``Delivery.advance``; chunk workers, shared by all batches, send single chunks.
    ``_lock`` guards the schedule and ``_is_stale``. It is a leaf: hub, journal and server are called without it.

Failure
    =========================================  ==================================================================
    the server is away, answers 5xx or 401     all batches wait, with the reason; one tries, after 1 s up to 60 s
    this machine: disk full, no descriptors    the batch waits by itself, as long
    a bug                                      logged with its traceback; the batch waits by itself, as long
    refused for good, a file that changed      the batch has failed (``Delivery``)
    =========================================  ==================================================================

Closing.  ``hub.closing`` is set before ``close`` is called. What is under way is broken off at the next chunk, block or
poll; the journal says where it was. All threads are daemons: a connection that hangs keeps nobody.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from functools import partial
from random import random as system_random
from typing import Protocol

from agorafs.cache.workers import Workers
from agorafs.clock import SYSTEM_CLOCK, Clock
from agorafs.errors import AgoraFSError, NotAuthenticated, RemoteError
from agorafs.uploads.delivery import BatchJournal, Delivery, DeliveryHub, ImportCalls, Settles
from agorafs.uploads.schedule import Entry, Schedule

log = logging.getLogger(__name__)

_LISTEN_S = 1.0  # an announcement that comes between two waits is noticed so much later
_CLOSE_S = 2.0


class Hub(DeliveryHub, Protocol):
    """What the sender needs of ``arrivals.Arrivals``."""

    @property
    def closing(self) -> threading.Event:
        """Set when the mount ends."""
        ...

    def runnable(self) -> list[int]:
        """Return the numbers of all batches, the oldest first."""
        ...

    def wait_for_work(self, timeout_s: float) -> None:
        """Return when there is something new to do, or after *timeout_s*."""
        ...

    def note_wait(self, batch_id: int, reason: str | None) -> None:
        """Note why a batch makes no progress; None: it does."""
        ...


class AbortableImports(ImportCalls, Protocol):
    """The upload protocol with a way to break it off."""

    def abort(self) -> None:
        """Break off chunks under way."""
        ...


class Sender:
    """See the module docstring."""

    def __init__(
        self,
        journal: BatchJournal,
        hub: Hub,
        imports: AbortableImports,
        settler: Settles,
        *,
        clock: Clock = SYSTEM_CLOCK,
        parallel_chunks: int = 4,
        parallel_batches: int = 3,
        random: Callable[[], float] = system_random,
    ) -> None:
        """Keep what is given; no thread starts before ``start``.

        Args:
            parallel_chunks: Most chunks in flight, over all batches; each is in memory.
            parallel_batches: Most batches worked on at once. One that is being imported does not count.
            random: Returns a number in ``[0, 1)``, for jitter.
        """
        self._hub = hub
        self._imports = imports
        self._clock = clock
        self._chunk_workers = Workers("upload-chunks", parallel_chunks)
        self._batch_workers = Workers("upload-batches", parallel_batches)
        self._parallel_batches = parallel_batches
        self._delivery = Delivery(
            journal,
            hub,
            imports,
            settler,
            self._chunk_workers,
            parallel_chunks,
            clock=clock,
            answered=self._answered,
            is_stopping=hub.closing.is_set,
        )
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        # Changing, guarded by _lock:
        self._schedule = Schedule(clock, random)
        self._running = 0
        self._is_stale = True  # something happened since the schedule was last looked at

    def start(self) -> None:
        """Begin to work, with what earlier mounts have left first."""
        for target, name in ((self._listen, "listen"), (self._keep_schedule, "schedule")):
            threading.Thread(target=target, name=f"agorafs-upload-{name}", daemon=True).start()

    def close(self) -> None:
        """Stop working, within about two seconds; ``hub.closing`` is set."""
        assert self._hub.closing.is_set()
        self._wake()
        self._imports.abort()
        # Jobs are forgotten only when no batch waits for one of them any more.
        if self._batch_workers.wait_for_idle(_CLOSE_S):
            self._chunk_workers.close()
        self._batch_workers.close()

    # -- deciding ------------------------------------------------------------------------------------

    def _listen(self) -> None:
        while not self._hub.closing.is_set():
            self._hub.wait_for_work(_LISTEN_S)
            self._wake()

    def _wake(self) -> None:
        with self._lock:
            self._is_stale = True
            self._changed.notify_all()

    def _answered(self) -> None:
        """The server has answered, on whichever thread."""
        with self._lock:
            reason = self._schedule.away_reason
            if not reason:
                return
            self._schedule.answered()
            relieved = [
                entry for entry in self._schedule.entries() if entry.is_running or entry.reason == reason
            ]
            self._is_stale = True
            self._changed.notify_all()
        self._clear_reasons(relieved)

    def _keep_schedule(self) -> None:
        while not self._hub.closing.is_set():
            with self._lock:
                self._is_stale = False
            try:
                self._dispatch()
            except Exception:  # the mount's uploads hang on this thread
                if self._hub.closing.is_set():
                    return
                log.exception("the upload schedule failed; it goes on")
            with self._lock:
                if not self._is_stale:
                    self._changed.wait(self._locked_wait_s())

    def _locked_wait_s(self) -> float | None:
        due_s = self._schedule.next_due_s()
        if due_s is None or self._running >= self._parallel_batches:
            return None
        return max(0.0, due_s - self._clock.monotonic())

    def _dispatch(self) -> None:
        """Give every batch that is due, and that there is a worker for, to the workers."""
        batches = self._hub.runnable()
        with self._lock:
            self._schedule.update(batches)
            resting = self._schedule.resting()
        unwanted = [entry for entry in resting if self._hub.is_abandoned(entry.run.batch_id)]
        with self._lock:
            for entry in unwanted:
                self._schedule.hurry(entry)
        while not self._hub.closing.is_set():
            with self._lock:
                if self._running >= self._parallel_batches:
                    break
                chosen = self._schedule.start_next()
                if chosen is None:
                    break
                self._running += 1
            self._batch_workers.submit(partial(self._work, chosen))
        self._tell_who_is_held_up()

    def _tell_who_is_held_up(self) -> None:
        with self._lock:
            reason = self._schedule.away_reason
            held = [entry for entry in self._schedule.resting() if reason and not entry.reason]
            for entry in held:
                entry.reason = reason
        for entry in held:
            self._hub.note_wait(entry.run.batch_id, reason)

    def _clear_reasons(self, entries: Sequence[Entry]) -> None:
        with self._lock:
            told = [entry for entry in entries if entry.reason]
            for entry in told:
                entry.reason = ""
        for entry in told:
            self._hub.note_wait(entry.run.batch_id, None)

    # -- working, on a batch worker's thread ----------------------------------------------------------

    def _work(self, entry: Entry) -> None:
        batch_id = entry.run.batch_id
        pause_s: float | None = None
        failure: Exception | None = None
        if not entry.is_probe:  # that one still waits until the server has answered
            self._clear_reasons([entry])
        try:
            pause_s = self._delivery.advance(entry.run)
        except Exception as error:  # noqa: BLE001 - a batch is never lost; told apart and logged below
            failure = error
        is_closing = self._hub.closing.is_set()
        is_away = isinstance(failure, (RemoteError, NotAuthenticated))
        reason = "" if failure is None or is_closing else _reason(failure)
        with self._lock:
            is_news = not entry.failures and not self._schedule.away_reason
            was_told = entry.reason
            entry.reason = reason
            if failure is None:
                self._schedule.went_on(entry, pause_s)
            elif is_away:
                self._schedule.server_failed(entry, reason)
            else:
                self._schedule.failed(entry)
            self._running -= 1
            self._is_stale = True
            self._changed.notify_all()
        if is_closing:
            return
        if reason != was_told:
            self._hub.note_wait(batch_id, reason or None)
        if isinstance(failure, (AgoraFSError, OSError)):
            log.log(logging.WARNING if is_news else logging.DEBUG, "upload %s waits: %s", batch_id, reason)
        elif failure is not None:
            log.error("upload %s has met a bug; it is tried again", batch_id, exc_info=failure)


def _reason(failure: Exception) -> str:
    """Return in words for the user why a batch must wait."""
    if isinstance(failure, AgoraFSError):
        return str(failure)
    if isinstance(failure, OSError):
        return f"this machine: {failure.strerror or failure}"
    return f"a bug in agorafs ({type(failure).__name__}); it is tried again, the log has the details"
