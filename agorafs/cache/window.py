"""How far to read ahead of one reader: nothing for a peek, more the longer it reads in order.

The kernel splits and slightly reorders a program's reads (read-ahead of 128 KiB and more, several threads),
so "in order" allows a little slack around where the last read ended. Only bytes that were read count.

Threads.  A window belongs to one handle; its content's lock guards it.
"""

from __future__ import annotations


class Window:
    """Follows one reader. After ``note(offset, size)``, ``ahead_bytes`` is how far to run before ``end``.

    The window is as long as what was read in a row, so it doubles each time the reader gets through it. It
    opens only after *threshold_bytes* in a row: headers are shorter than that. Reads within *slack_bytes* of
    where the last one ended are in order.
    """

    __slots__ = ("_max_bytes", "_slack_bytes", "_streak_bytes", "_threshold_bytes", "end", "requested_stop")

    def __init__(self, threshold_bytes: int, slack_bytes: int, max_bytes: int) -> None:
        self._threshold_bytes = threshold_bytes
        self._slack_bytes = slack_bytes
        self._max_bytes = max_bytes
        self._streak_bytes = 0
        self.end = 0
        self.requested_stop = 0  # first block that read-ahead has not looked at yet

    @property
    def ahead_bytes(self) -> int:
        """Bytes to have in flight or present beyond ``end``; 0 while the reader only peeks."""
        return 0 if self._streak_bytes < self._threshold_bytes else min(self._streak_bytes, self._max_bytes)

    def note(self, offset: int, size: int) -> bool:
        """Take in a read; return True when it was a jump, which closes the window."""
        end = offset + size
        if abs(offset - self.end) <= self._slack_bytes and (self._streak_bytes or offset == 0):
            self._streak_bytes += max(0, end - max(offset, self.end))
            self.end = max(self.end, end)
            return False
        self._streak_bytes = size
        self.end = end
        self.requested_stop = 0
        return True
