"""Asking a mount for what takes longer than one answer may: ask, and ask again whether it is done."""

from __future__ import annotations

from typing import Any

from agorafs.clock import Clock
from agorafs.commands.places import Asked

_FIRST_PAUSE_S = 0.02
_LONGEST_PAUSE_S = 1.0


def collect(asked: Asked, clock: Clock, command: str, **fields: object) -> dict[str, Any]:
    """Return the result of *command*, however long it takes; raises what the mount refuses."""
    number = asked.ask(command, **fields)["job"]
    pause_s = _FIRST_PAUSE_S
    while True:
        answer = asked.ask("job", job=number)
        if answer["done"]:
            result: dict[str, Any] = answer["result"]
            return result
        clock.sleep(pause_s)
        pause_s = min(pause_s * 1.5, _LONGEST_PAUSE_S)
