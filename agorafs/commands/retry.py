"""Send again what the server did not take."""

from __future__ import annotations

import argparse

from agorafs.commands import state_directory_of
from agorafs.commands.places import places_of
from agorafs.commands.progress import count_text
from agorafs.errors import ExitStatus


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what ``agorafs retry`` understands."""
    parser.add_argument(
        "paths",
        metavar="PATH",
        nargs="*",
        help="a file, or a directory for all below it; without it all mounts",
    )
    parser.add_argument("--state-dir", metavar="DIR", help="as given to mount")


def run(arguments: argparse.Namespace) -> ExitStatus:
    """Make what has failed wait for the server again; ``agorafs sync`` waits for the outcome."""
    places = places_of(arguments.paths, state_directory_of(arguments))
    files = sum(place.ask("retry")["files"] for place in places)
    print(f"sending {count_text(files)} again" if files else "nothing has failed")
    return ExitStatus.OK
