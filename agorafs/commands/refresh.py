"""Show at once what others have added or changed at a path of a mount."""

from __future__ import annotations

import argparse
import os
from pathlib import Path, PurePosixPath

from agorafs import mountpoint as mountpoints
from agorafs.commands import state_directory_of
from agorafs.control import ask
from agorafs.errors import ExitStatus, UsageError
from agorafs.registry import MountRecord, live_mounts

_ANSWER_TIMEOUT_S = 60.0  # looking up the path may take requests, each bounded by the mount's deadline


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what ``agorafs refresh`` understands."""
    parser.add_argument(
        "path", metavar="PATH", help="a directory or file on a mount; the mount point for all"
    )
    parser.add_argument("--state-dir", metavar="DIR", help="as given to mount")


def run(arguments: argparse.Namespace) -> ExitStatus:
    """Ask the process of the mount that *path* is on to forget what it knows there."""
    state_directory = state_directory_of(arguments)
    path = Path(os.path.normpath(Path(arguments.path).absolute()))
    mounts = live_mounts(state_directory)
    record = find_mount_of(path, mounts)
    if record is None:
        # Reached through a link outside the mount. Following links asks the mount, hence only now.
        path = path.resolve()
        record = find_mount_of(path, mounts)
    if record is None:
        raise UsageError(f"{path} is not on a mount of agorafs", ExitStatus.MOUNT_POINT)
    mountpoint = Path(record.mountpoint)
    error = mountpoints.stat_error(mountpoint)
    if error is None:
        path = path.resolve()  # a link on the mount: what it leads to is what has changed
    inside = PurePosixPath("/") / path.relative_to(mountpoint)
    ask(
        state_directory,
        mountpoint,
        {"command": "refresh", "path": None if str(inside) == "/" else str(inside)},
        timeout_s=_ANSWER_TIMEOUT_S,
    )
    return ExitStatus.OK


def find_mount_of(path: Path, mounts: list[MountRecord]) -> MountRecord | None:
    """Return the mount that *path* (absolute) is on: the innermost whose mount point is above it."""
    holding = [record for record in mounts if path.is_relative_to(record.mountpoint)]
    return max(holding, key=lambda record: len(record.mountpoint), default=None)
