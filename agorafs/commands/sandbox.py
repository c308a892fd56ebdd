"""Run a small Agora-compatible server with demo data on this machine."""

from __future__ import annotations

import argparse

from agorafs.errors import ExitStatus, UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what ``agorafs sandbox`` understands; the sandbox itself knows."""
    try:
        from agorafs.sandbox import run as sandbox
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "agorafs":
            raise
        raise UsageError(
            f"the sandbox needs the Python package {error.name}: run pip install 'agorafs[sandbox]'"
        ) from None
    sandbox.add_arguments(parser)


def run(arguments: argparse.Namespace) -> ExitStatus:
    """Serve until stopped."""
    from agorafs.sandbox import run as sandbox

    return ExitStatus(sandbox.main(arguments) or 0)
