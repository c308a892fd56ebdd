"""Listing cache: what a directory held as of one fetch, kept in memory for a time.

Why.  ``ls -l``, ``find`` and file managers ask for the same directory thousands of times; the archive
charges a round trip for each request. One fetch fills a whole listing, and everybody reads that.

Place.  ``tree`` owns one and gives it a ``fetch(key)``; the cache knows neither directories nor HTTP. One
answer of the archive may hold several listings (a whole exam's): ``Fetched.also`` brings the others along.

Freshness, by the age of an entry:

===========================  =====================================================================
age                          what ``load`` does
===========================  =====================================================================
below ``ttl_s``              returns it
up to ``max_stale_s``        starts one fetch in the background and waits at most
                             ``revalidate_wait_s`` for it: a near server's news is seen at once, a slow
                             server's listing never holds up a reader who has seen one before. Who has
                             waited in vain spares the others: for ``retry_s`` nobody waits again
older                        waits for the fetch
===========================  =====================================================================

"Unreachable" is never "gone": when a fetch fails with a ``RemoteError`` the old value stays and is
returned, and for ``retry_s`` nobody asks again. When the archive refuses (``Refused``: deleted, no longer
permitted, credential revoked) the entry is dropped and the refusal reaches the reader.

Size.  At most ``max_weight`` (the sum of ``weigh(value)``, normally directory entries); the least recently
used listing is evicted. A single listing above the limit is still kept, alone: a cache smaller than the
directory would cost a request per entry.

Threads.  Every method may be called from any thread. ``_lock`` guards ``_entries``, ``_flights``,
``_no_wait_until`` and each flight's ``has_begun``; it is a leaf and is not held during a fetch. Callers that miss
the same key share one fetch and its outcome. Background fetches queue for few threads, which a server that hangs
can keep busy for long; so whoever can not do without the outcome makes a fetch that has not begun himself.
``invalidate`` while fetches are under way detaches them: their outcome reaches those who wait for it, but is
not stored, since it may have left the server before the change. Nor does an answer replace one that was asked
for later.

Invariants, run by ``_check`` at each release of ``_lock`` in tests:
  1. ``_entries`` weighs what its values weigh, and at most ``max_weight``.
  2. No flight in ``_flights`` has ended.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Callable, Hashable, Iterable, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from cachetools import Cache, LRUCache

from agorafs.cache.locks import InvariantLock
from agorafs.cache.workers import Workers
from agorafs.clock import Clock
from agorafs.errors import AgoraFSError, Refused, RemoteError

log = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Freshness:
    """How old a listing may be; see the module's table.

    ``retry_s``: after a failed revalidation the old listing is returned without asking for this long, and after
    one that did not come in time old listings are returned without waiting.
    """

    ttl_s: float = 30.0
    revalidate_wait_s: float = 0.5
    max_stale_s: float = 300.0
    retry_s: float = 5.0


@dataclass(frozen=True, slots=True)
class Fetched(Generic[K, V]):
    """What one fetch brought: the *value* asked for, and *also* what else was in the same answer."""

    value: V
    also: Mapping[K, V] = field(default_factory=dict)


@dataclass(slots=True)
class _Entry(Generic[V]):
    value: V
    asked_at: float
    fetched_at: float
    expires_at: float


@dataclass(slots=True, eq=False)
class _Flight(Generic[V]):
    """One fetch, wanted or under way. ``has_begun`` is guarded by the cache's lock."""

    outcome: Future[V] = field(default_factory=Future)
    has_begun: bool = False


class ListingCache(Generic[K, V]):
    """Values of a slow ``fetch``, fresh for a time. See the module docstring."""

    def __init__(
        self,
        fetch: Callable[[K], Fetched[K, V]],
        *,
        freshness: Freshness,
        max_weight: int,
        weigh: Callable[[V], int],
        clock: Clock,
        revalidators: int = 4,
    ) -> None:
        # given
        self._fetch = fetch
        self._freshness = freshness
        self._weigh = weigh
        self._clock = clock
        # fixed
        self._lock = InvariantLock(self._check)
        self._workers = Workers("revalidate", revalidators)
        # changing, guarded by _lock
        self._entries: LRUCache[K, _Entry[V]] = LRUCache(
            max_weight, getsizeof=lambda entry: min(max_weight, 1 + weigh(entry.value))
        )
        self._flights: dict[K, _Flight[V]] = {}
        self._no_wait_until = float("-inf")

    def get(self, key: K) -> V | None:
        """Return what memory holds for *key*, however old, or None. Never waits."""
        with self._lock:
            entry = self._entries.get(key)
        return None if entry is None else entry.value

    def get_fresh(self, key: K) -> V | None:
        """Return what memory holds for *key* if ``load`` would return it without asking, or None. Never waits."""
        now = self._clock.monotonic()
        with self._lock:
            entry = self._entries.get(key)
        return None if entry is None or now >= entry.expires_at else entry.value

    def load(self, key: K) -> V:
        """Return the value of *key*, fetching it when it is missing or too old.

        Raises:
            Refused: The archive refuses it (not found, not permitted, …).
            RemoteError: No usable answer, and nothing older in memory.
        """
        now = self._clock.monotonic()
        with self._lock:
            entry = self._entries.get(key)
            if entry is not None and now < entry.expires_at:
                return entry.value
            flight = self._flights.get(key)
            is_new = flight is None
            if flight is None:
                flight = self._flights[key] = _Flight()
            is_patient = now >= self._no_wait_until
        if entry is None:
            self._fly(key, flight)
            return flight.outcome.result()
        if now - entry.fetched_at >= self._freshness.max_stale_s:
            self._fly(key, flight)
            patience = None
        else:
            if is_new:
                self._revalidate(key, flight)
            patience = self._freshness.revalidate_wait_s if is_patient else 0
        try:
            return flight.outcome.result(patience)
        except FutureTimeout:
            if patience:
                self._spare_others()
            return entry.value
        except RemoteError as error:
            log.debug("keeping the old listing of %s: %s", key, error)
            return entry.value

    def expire(self, key: K) -> None:
        """Take the value of *key* for old: the next ``load`` asks again, and shows it still if nobody answers."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is not None:
                entry.expires_at = float("-inf")

    def invalidate(self, keys: Iterable[K]) -> None:
        """Forget *keys*, and store nothing of what is being fetched now."""
        with self._lock:
            for key in keys:
                self._entries.pop(key, None)
            self._flights.clear()

    def put(self, key: K, value: V) -> None:
        """Hold *value*, which we know to be so as of now; what is being fetched now is not stored."""
        now = self._clock.monotonic()
        with self._lock:
            self._entries[key] = _Entry(value, now, now, now + self._freshness.ttl_s)
            self._flights.clear()

    def change_where(self, is_wrong: Callable[[V], bool], change: Callable[[V], V | None]) -> None:
        """Put right all values that *is_wrong* says so of; None forgets them. What is being fetched is not stored.

        A value that was put right is as old as before.
        """
        with self._lock:
            for key in list(self._entries):
                entry = Cache.__getitem__(self._entries, key)
                if not is_wrong(entry.value):
                    continue
                changed = change(entry.value)
                if changed is None:
                    self._entries.pop(key)
                else:
                    self._entries[key] = dataclasses.replace(entry, value=changed)
            self._flights.clear()

    def values(self) -> list[V]:
        """Return all that memory holds, however old. Never waits, and does not count as a use."""
        with self._lock:
            return [Cache.__getitem__(self._entries, key).value for key in self._entries]

    def invalidate_all(self) -> None:
        """Forget everything."""
        with self._lock:
            self._entries.clear()
            self._flights.clear()

    def weight(self) -> int:
        """Return the sum of the weights held."""
        with self._lock:
            return int(self._entries.currsize)

    def wait_for_idle(self, timeout_s: float) -> bool:
        """Wait until nothing is fetched in the background; return whether that came true in time."""
        return self._workers.wait_for_idle(timeout_s)

    def close(self) -> None:
        """Begin no more fetches in the background. Those under way end by themselves; nobody waits for them."""
        self._workers.close()

    def _locked_store(self, key: K, value: V, asked_at: float) -> None:
        known = self._entries.get(key)
        if known is not None and known.asked_at > asked_at:
            return
        now = self._clock.monotonic()
        self._entries[key] = _Entry(value, asked_at, now, now + self._freshness.ttl_s)

    def _spare_others(self) -> None:
        with self._lock:
            self._no_wait_until = self._clock.monotonic() + self._freshness.retry_s

    def _revalidate(self, key: K, flight: _Flight[V]) -> None:
        if not self._workers.submit(functools.partial(self._fly, key, flight)):
            self._fly(key, flight)  # closed: the mount is going away, whoever waits gets an answer

    def _fly(self, key: K, flight: _Flight[V]) -> None:
        """Fetch *key* and hand the outcome to everybody who waits on *flight*, unless that has begun."""
        with self._lock:
            if flight.has_begun:
                return
            flight.has_begun = True
        asked_at = self._clock.monotonic()
        try:
            fetched = self._fetch(key)
        except BaseException as error:
            with self._lock:
                if self._flights.get(key) is flight:
                    del self._flights[key]
                    self._locked_note_failure(key, error)
            flight.outcome.set_exception(error)
            if not isinstance(error, AgoraFSError):
                log.exception("fetching the listing of %s failed", key)
            return
        with self._lock:
            if self._flights.get(key) is flight:
                del self._flights[key]
                for other, value in fetched.also.items():
                    self._locked_store(other, value, asked_at)
                self._locked_store(key, fetched.value, asked_at)
        flight.outcome.set_result(fetched.value)

    def _locked_note_failure(self, key: K, error: BaseException) -> None:
        if isinstance(error, Refused):
            self._entries.pop(key, None)
            return
        entry = self._entries.get(key)
        if entry is not None:
            entry.expires_at = self._clock.monotonic() + self._freshness.retry_s

    def _check(self) -> None:
        limit = int(self._entries.maxsize)
        # by the base class's look-up, which does not count as a use
        entries = [Cache.__getitem__(self._entries, key) for key in self._entries]
        weights = [min(limit, 1 + self._weigh(entry.value)) for entry in entries]
        assert sum(weights) == self._entries.currsize <= limit
        assert not any(flight.outcome.done() for flight in self._flights.values())
