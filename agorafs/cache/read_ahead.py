"""Which blocks of one content to fetch before they are asked for, and which no longer.

Why.  A reader that goes in order would wait a round trip for each request. While it goes on, a few requests are kept
in flight ahead of it; how far is the business of its ``Window``.

Place.  ``shared_content`` has one of these per content. It tells of reads, and runs the flights that are planned.

Threads.  No lock of its own: every method is called with the content's lock held.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress

from agorafs.cache.block_file import Layout
from agorafs.cache.content_values import ContentLimits
from agorafs.cache.download import Flight
from agorafs.cache.window import Window


class ReadAhead:
    """The read-ahead flights of one content; those planned and not ended when it is iterated over.

    *is_here(block_no)* tells whether a block is present or on its way, *stop_of_gap(first, limit)* where the blocks
    from *first* on that are not end.
    """

    def __init__(
        self,
        limits: ContentLimits,
        layout: Layout,
        *,
        is_here: Callable[[int], bool],
        stop_of_gap: Callable[[int, int], int],
    ) -> None:
        # Given:
        self._limits = limits
        self._layout = layout
        self._is_here = is_here
        self._stop_of_gap = stop_of_gap
        # Changing, guarded by the content's lock:
        self._flights: list[Flight] = []

    def __iter__(self) -> Iterator[Flight]:
        return iter(self._flights)

    def locked_plan(self, window: Window, *, in_memory: bool) -> list[Flight]:
        """Return new flights that fill *window* behind the reader's block; *in_memory*: the disk takes nothing."""
        limits = self._limits
        block_bytes = limits.block_bytes
        ahead_bytes = window.ahead_bytes
        if in_memory:  # what is read ahead must fit in memory until it is read
            ahead_bytes = min(ahead_bytes, limits.memory_max_bytes // 4)
        limit = min(self._layout.blocks, -(-(window.end + ahead_bytes) // block_bytes))
        # Half a window per request: one at work while the reader goes through the other.
        piece = max(1, min(limits.range_max_bytes, ahead_bytes // 2) // block_bytes)
        block_no = max(window.requested_stop, -(-window.end // block_bytes))
        planned: list[Flight] = []
        while len(self._flights) < limits.ranges_in_flight and block_no < limit:
            if self._is_here(block_no):
                block_no += 1
                window.requested_stop = block_no
                continue
            stop = self._stop_of_gap(block_no, min(block_no + piece, limit))
            if stop == limit < self._layout.blocks and stop - block_no < piece:
                break  # wait until a whole piece is due, rather than send many small requests
            flight = Flight(block_no, stop, owner=window, position=block_no)
            self._flights.append(flight)
            planned.append(flight)
            block_no = window.requested_stop = stop
        return planned

    def locked_cancel(self, window: Window, awaited: set[Flight]) -> None:
        """The reader of *window* jumped: call off what was planned for it, but for flights *awaited* by others."""
        for flight in self._flights:
            if flight.owner is window and flight not in awaited:
                flight.cancelled = True

    def locked_end(self, flight: Flight) -> None:
        """*flight* has ended; it need not be one of these."""
        with suppress(ValueError):
            self._flights.remove(flight)
