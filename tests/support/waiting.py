"""Waiting for what another process does in its own time: a file closed by the kernel, a server that comes up."""

from __future__ import annotations

import time
from collections.abc import Callable


def eventually(condition: Callable[[], bool], within_s: float) -> None:
    """Return as soon as *condition* holds; fail when it does not within *within_s* seconds."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"not so within {within_s:g} s"
        time.sleep(0.02)
