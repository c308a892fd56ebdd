"""One change at a time for each thing: what is read, changed and written back must not overtake itself.

The archive has no way to change one parameter, or to rate once: clients read, decide, and write the whole. Two
threads of this mount that did so at once for one object would undo each other's change. Other mounts and clients are
not kept out; nothing in the archive could.

Threads.  ``_lock`` guards ``_busy`` and is not held while somebody has the turn, so nothing is locked over the network;
who wants a thing that is busy waits. Turns of objects are taken before turns of labels, never the other way round.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Hashable, Iterator


class Turns:
    """See the module docstring."""

    def __init__(self) -> None:
        self._lock = threading.Condition(threading.Lock())
        self._busy: set[Hashable] = set()

    @contextlib.contextmanager
    def of(self, thing: Hashable) -> Iterator[None]:
        """Have the turn for *thing*; waits for whoever has it."""
        with self._lock:
            while thing in self._busy:
                self._lock.wait()
            self._busy.add(thing)
        try:
            yield
        finally:
            with self._lock:
                self._busy.discard(thing)
                self._lock.notify_all()
