"""The sub-commands of ``agorafs``, one module each.

A module has ``add_arguments(parser)`` and ``run(arguments) -> ExitStatus``; its docstring's first line is
what ``--help`` says of it. ``cli`` imports only the one that is asked for, and turns what it raises into
one line and an exit status.
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
