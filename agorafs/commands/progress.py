"""How far something is, for people: sizes, bars, and one line on a terminal that is written over.

Where the output is no terminal, no line is shown: a log is not to be filled with percentages.
"""

from __future__ import annotations

import shutil
from typing import TextIO

_BAR_WIDTH = 20


def size_text(size: int) -> str:
    """Return a number of bytes with its unit."""
    value = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    raise AssertionError


def count_text(files: int, noun: str = "file") -> str:
    """Return "1 file", "2 files"."""
    return f"{files} {noun}" if files == 1 else f"{files} {noun}s"


def bar(fraction: float) -> str:
    """Return a bar and the percentage of *fraction*, which is held between 0 and 1; 100 % only when it is 1."""
    part = min(1.0, max(0.0, fraction))
    filled = int(part * _BAR_WIDTH)
    return f"[{'#' * filled}{'-' * (_BAR_WIDTH - filled)}] {int(part * 100):3d} %"


class ProgressLine:
    """The last line of a terminal. Not shared between threads."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._is_terminal = stream.isatty()
        self._is_shown = False

    def show(self, text: str) -> None:
        """Write *text* over what was shown before, cut to the terminal's width."""
        if self._is_terminal:
            width = shutil.get_terminal_size().columns
            self._stream.write(f"\r\x1b[K{text[: width - 1]}")
            self._stream.flush()
            self._is_shown = True

    def say(self, text: str) -> None:
        """Write a line that stays, terminal or not."""
        self.clear()
        self._stream.write(text + "\n")
        self._stream.flush()

    def clear(self) -> None:
        """Take the line away."""
        if self._is_shown:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
            self._is_shown = False
