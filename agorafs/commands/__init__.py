"""The sub-commands of ``agorafs``, one module each, and what they share.

The module of a command has ``add_arguments(parser)`` and ``run(arguments) -> ExitStatus``; its docstring's first
paragraph is what ``--help`` says of it. ``cli`` imports only the one that is asked for, and turns what it raises
into one line and an exit status. Shared: ``places`` (which mount a path is on), ``drain`` (waiting for uploads),
``progress`` (bars and sizes), ``asking`` (what takes longer than one answer), ``server_options`` and ``upload_files``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from agorafs.config import default_state_directory
from agorafs.options import absolute_path


def state_directory_of(arguments: argparse.Namespace) -> Path:
    """Return what ``--state-dir`` says, or the usual place."""
    given: str | None = arguments.state_dir
    return default_state_directory() if given is None else absolute_path(given)


def seconds(text: str) -> float:
    """Read a number of seconds on the command line; for ``argparse``."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError("must be a number of seconds")
    return value
