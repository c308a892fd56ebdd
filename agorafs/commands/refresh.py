"""Show at once what others have added or changed at a path of a mount."""

from __future__ import annotations

import argparse

from agorafs.commands import state_directory_of
from agorafs.commands.places import place_of
from agorafs.errors import ExitStatus


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what ``agorafs refresh`` understands."""
    parser.add_argument(
        "path", metavar="PATH", help="a directory or file on a mount; the mount point for all"
    )
    parser.add_argument("--state-dir", metavar="DIR", help="as given to mount")


def run(arguments: argparse.Namespace) -> ExitStatus:
    """Ask the process of the mount that the path is on to forget what it knows there."""
    place_of(arguments.path, state_directory_of(arguments)).ask("refresh")
    return ExitStatus.OK
