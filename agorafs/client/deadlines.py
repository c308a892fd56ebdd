"""How long an operation on the archive may take, in parts and as a whole.

Units.  Seconds. A ``Deadline`` is counted on the passed clock; the single waits are real seconds, spent
inside the sockets.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from agorafs.clock import Clock


@dataclass(frozen=True, slots=True)
class Timeouts:
    """All in seconds."""

    connect_s: float = 10.0  # for each address of the host
    first_byte_s: float = 60.0  # from the request to the first byte of its answer
    between_bytes_s: float = 60.0  # between two bytes of a body
    # From the last byte of an upload to its answer: the server writes the chunk down first, and something between
    # us and it may pass it on only when it has it all. Not measured.
    answer_s: float = 300.0
    deadline_s: float = 60.0  # a whole operation with its retries, up to the start of a download
    away_s: float = 5.0  # how long a failed operation makes the others short
    probe_s: float = 5.0  # connect and first byte of such a short attempt

    def probing(self) -> Timeouts:
        """Return the limits of an attempt made while the server is known to be away."""
        return replace(
            self,
            connect_s=min(self.connect_s, self.probe_s),
            first_byte_s=min(self.first_byte_s, self.probe_s),
        )


class Deadline:
    """The point on the clock when an operation must have ended. Fixed once made."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock = clock
        self._begin = clock.monotonic()
        self._seconds = seconds

    def remaining_s(self) -> float:
        """Return what is left; 0 or less when it has passed."""
        return self._seconds - self.elapsed_s()

    def elapsed_s(self) -> float:
        """Return the time since the operation began."""
        return self._clock.monotonic() - self._begin
