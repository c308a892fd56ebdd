"""SHA-1 of a content, computed in order while its blocks arrive in any order.

A block that arrives in its turn is hashed from the buffer it came in; one that arrives early is read back
when its turn comes. So a whole-file check costs no second pass when a file is read from start to end.

Threads.  ``_lock`` guards all fields and is a leaf. Hashing and reading back happen outside it, by the one
thread that holds the turn (``_busy``). ``reset`` may come at any time: the thread at its turn finds another
epoch when it comes back, and its work is forgotten.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from agorafs.cache.locks import InvariantLock


class RunningHash:
    """In-order SHA-1 over *blocks* blocks."""

    def __init__(self, blocks: int) -> None:
        self._blocks = blocks
        self._lock = InvariantLock(self._check)
        # Changing, guarded by _lock:
        self._sha1 = hashlib.sha1(usedforsecurity=False)
        self._next = 0  # the block whose turn it is
        self._busy = False
        self._epoch = 0

    def reset(self) -> None:
        """Start over: a block that was hashed has been dropped."""
        with self._lock:
            self._sha1 = hashlib.sha1(usedforsecurity=False)
            self._next = 0
            self._epoch += 1

    def result(self) -> str | None:
        """The hex digest, or None while blocks are missing."""
        with self._lock:
            return self._sha1.hexdigest() if self._next == self._blocks and not self._busy else None

    def feed(self, block_no: int, view: memoryview) -> None:
        """Hash *view* if it is this block's turn; else leave it to ``catch_up``."""
        with self._lock:
            if self._busy or self._next != block_no:
                return
            self._busy, epoch, sha1 = True, self._epoch, self._sha1
        try:
            sha1.update(view)
        finally:
            self._finish(epoch, advance=True)

    def catch_up(self, load: Callable[[int], memoryview | None], *, wait: bool) -> None:
        """Hash what *load* can give from the next block on, until it gives None or all is hashed.

        *wait*: stay until a thread that is at its turn has finished; else leave the work to it.
        """
        while True:
            with self._lock:
                if self._busy and not wait:
                    return
                self._lock.condition.wait_for(lambda: not self._busy)
                if self._next == self._blocks:
                    return
                self._busy, epoch, sha1, block_no = True, self._epoch, self._sha1, self._next
            advance = False
            try:
                view = load(block_no)
                if view is None:
                    return
                sha1.update(view)
                advance = True
            finally:
                self._finish(epoch, advance=advance)

    def _finish(self, epoch: int, *, advance: bool) -> None:
        with self._lock:
            self._busy = False
            if advance and epoch == self._epoch:
                self._next += 1
            self._lock.condition.notify_all()

    def _check(self) -> None:
        assert 0 <= self._next <= self._blocks
