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
                             server's listing never holds up a reader who has seen one before
older                        waits for the fetch
===========================  =====================================================================

"Unreachable" is never "gone": when a fetch fails with a ``RemoteError`` the old value stays and is
returned, and for ``retry_s`` nobody asks again. When the archive refuses (``Refused``: deleted, no longer
permitted, credential revoked) the entry is dropped and the refusal reaches the reader.

Size.  At most ``max_weight`` (the sum of ``weigh(value)``, normally directory entries); the least recently
used listing is evicted. A single listing above the limit is still kept, alone: a cache smaller than the
directory would cost a request per entry.

Threads.  Every method may be called from any thread. ``_lock`` guards ``_entries`` and ``_flights``; it is a
leaf and is not held during a fetch. Callers that miss the same key share one fetch and its outcome.
``invalidate`` while fetches are under way detaches them: their outcome reaches those who wait for it, but is
not stored, since it may have left the server before the change.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Hashable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from cachetools import LRUCache

from agorafs.clock import Clock
from agorafs.errors import AgoraFSError, Refused, RemoteError

log = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Freshness:
    """How old a listing may be; see the module's table.

    ``retry_s``: after a failed revalidation the old listing is returned without asking for this long.
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
    fetched_at: float
    expires_at: float


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
        self._clock = clock
        # fixed
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(revalidators, thread_name_prefix="agorafs-revalidate")
        # changing, guarded by _lock
        self._entries: LRUCache[K, _Entry[V]] = LRUCache(
            max_weight, getsizeof=lambda entry: min(max_weight, 1 + weigh(entry.value))
        )
        self._flights: dict[K, Future[V]] = {}

    def get(self, key: K) -> V | None:
        """Return what memory holds for *key*, however old, or None. Never waits."""
        with self._lock:
            entry = self._entries.get(key)
        return None if entry is None else entry.value

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
            leader = flight is None
            if flight is None:
                flight = self._flights[key] = Future()
        if entry is None:
            if leader:
                self._fly(key, flight)
            return flight.result()
        if leader:
            self._revalidate(key, flight)
        patience = None
        if now - entry.fetched_at < self._freshness.max_stale_s:
            patience = self._freshness.revalidate_wait_s
        try:
            return flight.result(patience)
        except FutureTimeout:
            return entry.value
        except RemoteError as error:
            log.debug("keeping the old listing of %s: %s", key, error)
            return entry.value

    def invalidate(self, keys: Iterable[K]) -> None:
        """Forget *keys*, and store nothing of what is being fetched now."""
        with self._lock:
            for key in keys:
                self._entries.pop(key, None)
            self._flights.clear()

    def invalidate_all(self) -> None:
        """Forget everything."""
        with self._lock:
            self._entries.clear()
            self._flights.clear()

    def weight(self) -> int:
        """Return the sum of the weights held."""
        with self._lock:
            return int(self._entries.currsize)

    def close(self) -> None:
        """End the background threads; fetches not yet started are dropped."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _locked_store(self, key: K, value: V) -> None:
        now = self._clock.monotonic()
        self._entries[key] = _Entry(value, now, now + self._freshness.ttl_s)

    def _revalidate(self, key: K, flight: Future[V]) -> None:
        try:
            self._pool.submit(self._fly, key, flight)
        except RuntimeError:  # closed: the mount is going away, whoever waits gets an answer
            self._fly(key, flight)

    def _fly(self, key: K, flight: Future[V]) -> None:
        """Fetch *key* and hand the outcome to everybody who waits on *flight*."""
        try:
            fetched = self._fetch(key)
        except BaseException as error:
            with self._lock:
                if self._flights.get(key) is flight:
                    del self._flights[key]
                    self._locked_note_failure(key, error)
            flight.set_exception(error)
            if not isinstance(error, AgoraFSError):
                log.exception("fetching the listing of %s failed", key)
            return
        with self._lock:
            if self._flights.get(key) is flight:
                del self._flights[key]
                for other, value in fetched.also.items():
                    self._locked_store(other, value)
                self._locked_store(key, fetched.value)
        flight.set_result(fetched.value)

    def _locked_note_failure(self, key: K, error: BaseException) -> None:
        if isinstance(error, Refused):
            self._entries.pop(key, None)
            return
        entry = self._entries.get(key)
        if entry is not None:
            entry.expires_at = self._clock.monotonic() + self._freshness.retry_s
