"""Wait until everything written below a path is verified on the server.

Verified means that the server lists each file with the size and the SHA-1 that it had when it was closed.
"""

from __future__ import annotations

import argparse
import os
import sys

from agorafs.clock import SYSTEM_CLOCK
from agorafs.commands import seconds, state_directory_of
from agorafs.commands.drain import End, Patience, exit_status_of_waiting, name_failed, wait_until_stored
from agorafs.commands.places import Place, places_of
from agorafs.commands.progress import ProgressLine, count_text
from agorafs.errors import ExitStatus, UsageError
from agorafs.tree.names import DOT_AGORA


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what ``agorafs sync`` understands."""
    parser.add_argument(
        "path", metavar="PATH", nargs="?", help="on a mount, or a mount point; without it all mounts"
    )
    parser.add_argument("--timeout", metavar="S", type=seconds, help="seconds; without it for ever")
    parser.add_argument("--state-dir", metavar="DIR", help="as given to mount")
    parser.epilog = (
        "Exit status: 0 everything is stored, 1 files failed (they are named), 3 key refused and 4 not everything\n"
        "stored when the time was over. Files open for writing are named and waited for."
    )


def run(arguments: argparse.Namespace) -> ExitStatus:
    """Wait."""
    places = places_of([] if arguments.path is None else [arguments.path], state_directory_of(arguments))
    line = ProgressLine(sys.stderr)
    if arguments.path is not None and _is_missing(arguments.path, places[0]):
        # No error: a file that the server has made part of a study is not there any more.
        line.say(
            f"agorafs: there is nothing at {arguments.path} now; only what is on its way there is waited for"
        )
    end, left = wait_until_stored(places, line, Patience(in_all_s=arguments.timeout), SYSTEM_CLOCK)
    name_failed(line, left)
    if end is End.STORED:
        return ExitStatus.OK
    if end is End.FAILED:
        raise UsageError(
            f"{count_text(left.failed_count)} failed: agorafs retry PATH sends again, agorafs cancel PATH gives up",
            ExitStatus.FAILED,
        )
    raise UsageError(
        f"{left.in_words()} not on the server after {arguments.timeout:g} s, kept here and sent on"
        + (f": {left.waiting}" if left.waiting else ""),
        exit_status_of_waiting(places),
    )


def _is_missing(path: str, place: Place) -> bool:
    """Tell whether a mount that answers has nothing at *path*: most likely it was mistyped."""
    return os.path.lexists(place.shown(f"/{DOT_AGORA}")) and not os.path.lexists(path)
