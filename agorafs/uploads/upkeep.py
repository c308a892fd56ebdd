"""The background threads of writing: one seals what has fallen quiet, one makes what was closed durable, one tidies up.

They are three because making a large file durable can take long, and a server can be slow to answer, and nothing else
is to wait for that.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from agorafs.errors import AgoraFSError
from agorafs.uploads.sealer import Sealer
from agorafs.uploads.store import Store

log = logging.getLogger(__name__)

# What was closed survives a power cut after at most 5 s: this, and the time that the disk needs.
_DURABLE_EVERY_S = 2.0
_SEAL_EVERY_S = 0.25
_TIDY_EVERY_S = 0.5


class Upkeep:
    """The threads for one ``Store``. ``close`` ends them."""

    def __init__(self, store: Store, sealer: Sealer, tidy: Callable[[], None]) -> None:
        """*tidy* is called every now and then; it may ask the server."""
        self._store = store
        self._sealer = sealer
        self._tidy = tidy
        self._threads = [
            threading.Thread(target=self._seal, name="seal", daemon=True),
            threading.Thread(target=self._make_durable, name="durable", daemon=True),
            threading.Thread(target=self._tidy_up, name="tidy", daemon=True),
        ]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """End them, as soon as they have done what they are doing."""
        self._store.closing.set()
        self._store.wake.set()
        for thread in self._threads:
            thread.join()

    def _seal(self) -> None:
        store = self._store
        while not store.closing.is_set():
            try:
                self._sealer.seal_quiet()
            except AgoraFSError as error:
                log.warning("what was written can not travel yet: %s", error)
            except Exception:
                log.exception("sealing a batch failed; it is tried again")
            store.wake.wait(_SEAL_EVERY_S)
            store.wake.clear()

    def _make_durable(self) -> None:
        store = self._store
        while not store.closing.wait(_DURABLE_EVERY_S):
            try:
                store.make_durable()
            except Exception:
                log.exception("what was closed could not be made to survive a power cut; it is tried again")

    def _tidy_up(self) -> None:
        while not self._store.closing.wait(_TIDY_EVERY_S):
            try:
                self._tidy()
            except Exception:
                log.exception("tidying up failed; it is tried again")
