"""What is known about the server's health, and the log lines about it.

Why.  With the server away, a shell listing must not wait out a deadline for each directory: for
``away_s`` after an operation failed for want of a connection, others make one short attempt. And the log
says once that the server went away, once that it is back, once that the credential was refused, instead
of once per request.

Units.  Seconds on the monotonic clock.

Threads.  Every method may be called from any thread; ``_lock`` guards the three changing fields. It is a
leaf, and nothing is logged while it is held.
"""

from __future__ import annotations

import logging
import threading

from agorafs.clock import Clock
from agorafs.errors import AgoraFSError

logger = logging.getLogger(__name__)


class Availability:
    """Remembers failures of whole operations (retries included), not of attempts."""

    def __init__(self, server: str, away_s: float, clock: Clock) -> None:
        # Given:
        self._server = server
        self._away_s = away_s
        self._clock = clock
        # Changing, guarded by _lock:
        self._lock = threading.Lock()
        self._away_until: float | None = None
        self._is_away_logged = False
        self._is_refusal_logged = False

    def is_away(self) -> bool:
        """Whether the server was unreachable so recently that one short attempt must do."""
        with self._lock:
            return self._away_until is not None and self._clock.monotonic() < self._away_until

    def condition(self) -> str:
        """One word for ``agorafs status``: ``ok``, ``away``, or ``refused`` (the credential)."""
        with self._lock:
            if self._is_refusal_logged:
                return "refused"
            return "away" if self._is_away_logged else "ok"

    def unreachable(self, error: AgoraFSError) -> None:
        """An operation failed below HTTP: no connection, or no answer on it."""
        with self._lock:
            self._away_until = self._clock.monotonic() + self._away_s
            is_news, self._is_away_logged = not self._is_away_logged, True
        if is_news:
            logger.warning("%s is away: %s", self._server, error)

    def answered(self) -> None:
        """The server answered, with whatever status."""
        with self._lock:
            if self._away_until is None:
                return
            self._away_until = None
            is_news, self._is_away_logged = self._is_away_logged, False
        if is_news:
            logger.info("%s is back", self._server)

    def refused(self, error: AgoraFSError) -> None:
        """The server did not accept the credential."""
        with self._lock:
            is_news, self._is_refusal_logged = not self._is_refusal_logged, True
        if is_news:
            logger.error(
                "%s does not accept the credential (%s); put a new API key where the old one was read from "
                "and send SIGHUP to this process, or unmount and run agorafs mount again",
                self._server,
                error,
            )

    def accepted(self) -> None:
        """The server accepted the credential."""
        with self._lock:
            is_news, self._is_refusal_logged = self._is_refusal_logged, False
        if is_news:
            logger.info("%s accepts the credential again", self._server)
