"""A bounded set of background threads that start when there is work.

Why not ``concurrent.futures``: its threads are joined when the interpreter ends, so that one slow download
would keep an unmounted process alive. These are daemon threads; whatever they do must be safe to cut off at
any instruction, which is true of everything in ``cache`` (see ``block_file``).

Threads.  ``_lock`` guards all fields; it is a leaf and is not held while a job runs. None starts before the
first ``submit``, so a process may fork itself into the background after building the cache.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable

from agorafs.cache.locks import InvariantLock

log = logging.getLogger(__name__)

_IDLE_S = 30.0  # a thread without work for so long ends; not measured, only to be quiet when idle


class Workers:
    """Runs jobs in submission order on at most *max_threads* threads."""

    def __init__(self, name: str, max_threads: int) -> None:
        self._name = name
        self._max_threads = max_threads
        self._lock = InvariantLock(self._check)
        # Changing, guarded by _lock:
        self._jobs: deque[Callable[[], None]] = deque()
        self._threads = 0
        self._idle = 0
        self._closed = False

    def submit(self, job: Callable[[], None]) -> bool:
        """Queue *job*; return False when closed. A job handles its own errors; what escapes is a bug, logged."""
        with self._lock:
            if self._closed:
                return False
            self._jobs.append(job)
            if self._idle < len(self._jobs) and self._threads < self._max_threads:
                self._threads += 1
                thread = threading.Thread(target=self._work, name=f"agorafs-{self._name}", daemon=True)
                thread.start()
            else:
                self._lock.condition.notify()
        return True

    def close(self) -> None:
        """Forget queued jobs; threads end after the job they are at."""
        with self._lock:
            self._closed = True
            self._jobs.clear()
            self._lock.condition.notify_all()

    def wait_for_idle(self, timeout_s: float) -> bool:
        """Wait until nothing is queued or running; return whether that came true in time."""
        with self._lock:
            return self._lock.condition.wait_for(
                lambda: not self._jobs and self._idle == self._threads, timeout_s
            )

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._jobs and not self._closed:
                    self._idle += 1
                    self._lock.condition.notify_all()  # wait_for_idle
                    self._lock.condition.wait_for(lambda: self._jobs or self._closed, _IDLE_S)
                    self._idle -= 1
                if not self._jobs:
                    self._threads -= 1
                    self._lock.condition.notify_all()
                    return
                job = self._jobs.popleft()
            try:
                job()
            except Exception:  # a thread of the pool must outlive a bug in one job
                log.exception("a background job of the content cache failed")

    def _check(self) -> None:
        assert 0 <= self._idle <= self._threads <= self._max_threads
        assert not (self._closed and self._jobs)
