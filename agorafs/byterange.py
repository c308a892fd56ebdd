"""A half-open range of bytes."""

from __future__ import annotations

from typing import NamedTuple


class ByteRange(NamedTuple):
    """The bytes ``[start, stop)``; offsets count from 0."""

    start: int
    stop: int

    @property
    def size(self) -> int:
        """Number of bytes in the range."""
        return self.stop - self.start
