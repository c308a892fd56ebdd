"""Unmount, and wait until the process that served the mount has ended.

FUSE gives plain umount(8) no way to wait for the serving process. This command waits, so that what comes next
(a shutdown, a removal of the cache, another mount) finds nothing half ended.
"""

from __future__ import annotations

import argparse
import os
import select
from pathlib import Path

from agorafs import mountpoint as mountpoints
from agorafs.commands import state_directory_of
from agorafs.errors import ExitStatus, UsageError
from agorafs.registry import find_live

_END_TIMEOUT_S = 60.0  # requests under way are given up when their deadline (30 s by default) has passed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what ``agorafs umount`` understands."""
    parser.add_argument("mountpoint", metavar="MOUNTPOINT")
    parser.add_argument(
        "-l", "-z", "--lazy", action="store_true",
        help="detach a busy or dead mount at once; its process ends when the last open file is closed",
    )  # fmt: skip
    parser.add_argument("--state-dir", metavar="DIR", help="as given to mount")


def run(arguments: argparse.Namespace) -> ExitStatus:
    """Unmount and wait."""
    mountpoint = mountpoints.resolve_mountpoint(Path(arguments.mountpoint))
    record = find_live(state_directory_of(arguments), mountpoint)
    entry = mountpoints.find_mount(mountpoint)
    if entry is None:
        raise UsageError(f"nothing is mounted at {mountpoint}", ExitStatus.MOUNT_POINT)
    if not entry.is_ours:
        raise UsageError(
            f"{mountpoint} is a mount of type {entry.fs_type}, not of agorafs", ExitStatus.MOUNT_POINT
        )
    # The handle is taken while the process is certainly alive: afterwards its number may be another's.
    process = None if record is None else _open_process(record.pid)
    try:
        mountpoints.unmount(mountpoint, lazy=arguments.lazy)
        if (
            process is not None
            and not arguments.lazy
            and not select.select([process], [], [], _END_TIMEOUT_S)[0]
        ):
            raise UsageError(
                f"{mountpoint} is unmounted, but its process has not ended within {_END_TIMEOUT_S:g} s",
                ExitStatus.FAILED,
            )
    finally:
        if process is not None:
            os.close(process)
    return ExitStatus.OK


def _open_process(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None  # ended just now
