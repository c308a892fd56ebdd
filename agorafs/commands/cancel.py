"""Give up files that are not on the server yet, failed ones or such that are on their way.

Their bytes are removed from this machine too, so they are named first, and the question has to be answered with yes.
"""

from __future__ import annotations

import argparse
import sys

from agorafs.commands import state_directory_of
from agorafs.commands.drain import Left, look
from agorafs.commands.places import places_of
from agorafs.commands.progress import count_text, size_text
from agorafs.errors import ExitStatus, UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what ``agorafs cancel`` understands."""
    parser.add_argument("paths", metavar="PATH", nargs="+", help="a file, or a directory for all below it")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--state-dir", metavar="DIR", help="as given to mount")


def run(arguments: argparse.Namespace) -> ExitStatus:
    """Name the files, ask, and give them up."""
    places = places_of(arguments.paths, state_directory_of(arguments))
    left = look(places)
    files = left.files + left.failed_count
    if not files:
        raise UsageError("nothing there is waiting for the server", ExitStatus.FAILED)
    _name(left)
    if not arguments.yes:
        _ask(files)
    given_up = sum(place.ask("cancel", path=place.inside or "/")["files"] for place in places)
    print(f"{count_text(given_up)} given up")
    return ExitStatus.OK


def _name(left: Left) -> None:
    for path, reason in left.failed:
        print(f"{path}: {reason}")
    for path in left.paths:
        print(path)
    unnamed = left.files + left.failed_count - len(left.failed) - len(left.paths)
    if unnamed > 0:
        print(f"and {count_text(unnamed, 'more file')}")
    if left.bytes:
        print(f"on their way: {size_text(left.bytes)}, of which the server has {size_text(left.sent_bytes)}")


def _ask(files: int) -> None:
    if not sys.stdin.isatty():
        raise UsageError(f"{count_text(files)} would be given up; say --yes if they are to be")
    try:
        answer = input(f"Give up {count_text(files)}? What is in them is not on the server. Type yes: ")
    except EOFError:
        answer = ""
    if answer.strip().lower() != "yes":
        raise UsageError("nothing was given up", ExitStatus.FAILED)
