"""Let the cache evict what was pinned at and below a path."""

from __future__ import annotations

import argparse

from agorafs.clock import SYSTEM_CLOCK
from agorafs.commands import state_directory_of
from agorafs.commands.asking import collect
from agorafs.commands.places import places_of
from agorafs.errors import ExitStatus


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what ``agorafs unpin`` understands."""
    parser.add_argument("paths", metavar="PATH", nargs="+", help="a path that was pinned, or one above it")
    parser.add_argument("--state-dir", metavar="DIR", help="as given to mount")


def run(arguments: argparse.Namespace) -> ExitStatus:
    """Ask the process of each mount."""
    for place in places_of(arguments.paths, state_directory_of(arguments)):
        answer = collect(place, SYSTEM_CLOCK, "control", path="/", words=["unpin", place.inside or "/"])
        print(answer["text"])
    return ExitStatus.OK
