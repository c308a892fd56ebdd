"""A lock that can run its owner's invariants each time it is let go.

Tests switch the checks on (``InvariantLock.checking = True``); in production they cost one attribute look-up.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import ClassVar


class InvariantLock:
    """A mutex for ``with``; calls *check* before each release while ``checking`` is true.

    ``condition`` waits and notifies on the same mutex, for owners that need it.
    """

    checking: ClassVar[bool] = False

    def __init__(self, check: Callable[[], None]) -> None:
        self._mutex = threading.Lock()
        self._check = check
        self.condition = threading.Condition(self._mutex)

    def __enter__(self) -> None:
        self._mutex.acquire()

    def __exit__(self, kind: object, value: object, traceback: object) -> None:
        try:
            if InvariantLock.checking and kind is None:
                self._check()
        finally:
            self._mutex.release()
