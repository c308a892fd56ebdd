"""The answers that wait for the next opening of a control file, and when they are forgotten.

Kept for each directory: what was answered through the last opening in which the user gave a command, once for the
terminal session, once for the user. The latest of at most ``_MAX_ANSWERS`` of each, and of so many bytes together.

Threads.  Every method may be called from any thread. ``_lock`` guards both tables; it is a leaf.
"""

from __future__ import annotations

import threading

from cachetools import LRUCache

from agorafs.vfs.aside import Caller

_MAX_ANSWERS = 256
_MAX_BYTES = 64 * 1024 * 1024
_TOO_LONG = b"the answer was too long to be kept; read it through the opening that gave the command\n"


def _weight(text: bytes) -> int:
    # Each counts as one of the many at least, and by its size if that is more.
    return max(_MAX_BYTES // _MAX_ANSWERS, len(text))


class Answers:
    """See the module docstring."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # changing, guarded by _lock
        self._by_session: LRUCache[tuple[Caller, tuple[str, ...]], bytes] = LRUCache(_MAX_BYTES, _weight)
        self._by_user: LRUCache[tuple[int, tuple[str, ...]], bytes] = LRUCache(_MAX_BYTES, _weight)

    def keep(self, directory: tuple[str, ...], caller: Caller, text: bytes) -> None:
        """Keep *text* for who opens the file of *directory* next, instead of what was kept before."""
        if len(text) > _MAX_BYTES:
            text = _TOO_LONG
        with self._lock:
            self._by_session[caller, directory] = text
            self._by_user[caller.uid, directory] = text

    def get(self, directory: tuple[str, ...], caller: Caller) -> bytes:
        """Return what was kept for *caller*, nothing if nothing was."""
        with self._lock:
            kept: bytes | None = self._by_session.get((caller, directory)) if caller.session else None
            if kept is None:
                kept = self._by_user.get((caller.uid, directory))
        return kept or b""
