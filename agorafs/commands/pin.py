"""Fetch what is at and below a path, and keep it in the cache until agorafs unpin.

Without a path, name what is pinned.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from agorafs.clock import SYSTEM_CLOCK, Clock
from agorafs.commands import state_directory_of
from agorafs.commands.asking import collect
from agorafs.commands.places import Place, places_of
from agorafs.commands.progress import ProgressLine, size_text
from agorafs.errors import ExitStatus, UsageError

_GOING_ON = frozenset({"queued", "running"})
_PAUSE_S = 0.2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what ``agorafs pin`` understands."""
    parser.add_argument("paths", metavar="PATH", nargs="*", help="a file, or a directory for all below it")
    parser.add_argument("--state-dir", metavar="DIR", help="as given to mount")
    parser.epilog = "Exit status: 0 all is here, 1 it can not be kept; what is pinned already stays."


def run(arguments: argparse.Namespace) -> ExitStatus:
    """Pin, and wait until all is here."""
    places = places_of(arguments.paths, state_directory_of(arguments))
    if not arguments.paths:
        for place in places:
            for pin in collect(place, SYSTEM_CLOCK, "control", path="/", words=["pin"])["data"]["pins"]:
                print(f"{place.shown(pin['path'])} {size_text(pin['bytes'])}")
        return ExitStatus.OK
    line = ProgressLine(sys.stderr)
    for place in places:
        _pin(place, line, SYSTEM_CLOCK)
    return ExitStatus.OK


def _pin(place: Place, line: ProgressLine, clock: Clock) -> None:
    answer = collect(place, clock, "control", path="/", words=["pin", place.inside or "/"])
    number = answer["data"]["job"]
    try:
        while (job := place.ask("job-status", number=number))["state"] in _GOING_ON:
            line.show(f"{place}: {job['progress']}")
            clock.sleep(_PAUSE_S)
    finally:
        line.clear()
    if job["state"] != "finished":
        raise UsageError(_why(place, job), ExitStatus.FAILED)
    print(f"{place}: {job['progress']}")


def _why(place: Place, job: dict[str, Any]) -> str:
    return job["error"] or f"{place}: pinning was {job['state']}"
