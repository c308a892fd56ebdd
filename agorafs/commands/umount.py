"""Unmount, once everything written is on the server, and wait until the process that served the mount has ended.

FUSE gives plain umount(8) no way to wait, neither for uploads nor for the serving process. This command does, so that
what comes next (a shutdown, a removal of the cache, another mount) finds nothing half ended. What is not on the
server is never lost: it stays in the state directory, and the next mount of the same server goes on with it.
"""

from __future__ import annotations

import argparse
import os
import select
import sys
from pathlib import Path

from agorafs import mountpoint as mountpoints
from agorafs.clock import SYSTEM_CLOCK
from agorafs.commands import state_directory_of
from agorafs.commands.drain import (
    End,
    Left,
    Patience,
    exit_status_of_waiting,
    look,
    name_failed,
    wait_until_stored,
)
from agorafs.commands.places import Place, why_unknown
from agorafs.commands.progress import ProgressLine, count_text
from agorafs.errors import AgoraFSError, ExitStatus, UsageError
from agorafs.registry import find_live

_END_TIMEOUT_S = 60.0  # requests under way are given up when their deadline (30 s by default) has passed

# Files that stay open keep the mount busy anyway; a release that is on its way through the kernel takes less.
_OPEN_PATIENCE_S = 1.0
_STUCK_PATIENCE_S = 5.0  # a lost connection that comes back at the next attempt is no reason to give up


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what ``agorafs umount`` understands."""
    parser.add_argument("mountpoint", metavar="MOUNTPOINT")
    parser.add_argument(
        "--detach", action="store_true",
        help="do not wait for uploads: the next mount of the same server goes on with them",
    )  # fmt: skip
    parser.add_argument(
        "-l", "-z", "--lazy", action="store_true",
        help="detach a busy or dead mount at once, without waiting for uploads; its process ends when the last "
        "open file is closed",
    )  # fmt: skip
    parser.add_argument("--state-dir", metavar="DIR", help="as given to mount")
    parser.epilog = (
        "Exit status: 0 unmounted; else it stays mounted: 1 files failed, 3 key refused, 4 server away, 7 busy,\n"
        "130 interrupted."
    )


def run(arguments: argparse.Namespace) -> ExitStatus:
    """Wait for the uploads, unmount, and wait for the process."""
    mountpoint = mountpoints.resolve_mountpoint(Path(arguments.mountpoint))
    state_directory = state_directory_of(arguments)
    record = find_live(state_directory, mountpoint)
    entry = mountpoints.find_mount(mountpoint)
    if entry is None:
        raise UsageError(f"nothing is mounted at {mountpoint}", ExitStatus.MOUNT_POINT)
    if not entry.is_ours:
        raise UsageError(
            f"{mountpoint} is a mount of type {entry.fs_type}, not of agorafs", ExitStatus.MOUNT_POINT
        )
    is_known = record is not None or arguments.lazy or arguments.detach
    if not is_known and not mountpoints.is_stale(mountpoints.stat_error(mountpoint)):
        raise UsageError(
            f"{why_unknown(mountpoint, state_directory)}; or unmount with --detach, which leaves what is not stored "
            "yet to the next mount",
            ExitStatus.MOUNT_POINT,
        )
    # The handle is taken while the process is certainly alive: afterwards its number may be another's.
    process = None if record is None else _open_process(record.pid)
    try:
        left = Left()
        if record is not None and not arguments.lazy:
            place = Place(state_directory, record, None)
            left = _left_of(place) if arguments.detach else _drain(place)
        mountpoints.unmount(mountpoint, lazy=arguments.lazy)
        _wait_for_end(mountpoint, None if arguments.lazy else process)
    except KeyboardInterrupt:
        if mountpoints.find_mount(mountpoint) is not None:
            print(f"agorafs: {mountpoint} is still mounted, and sending goes on", file=sys.stderr)
        return ExitStatus.INTERRUPTED
    finally:
        if process is not None:
            os.close(process)
    waiting = left.files + left.failed_count
    if waiting and record is not None:
        print(
            f"{count_text(waiting)} not on the server yet: the next mount of {record.url} goes on with that"
        )
    return ExitStatus.OK


def _left_of(place: Place) -> Left:
    try:
        return look([place])
    except AgoraFSError:
        return Left()  # it does not answer; to detach it that is not needed


def _drain(place: Place) -> Left:
    """Wait until everything closed is stored, and return what is left open.

    Raises:
        UsageError: Something is left that waiting does not help with.
    """
    mountpoint = place.record.mountpoint
    way_out = f"agorafs umount --detach {mountpoint} leaves that to the next mount"
    line = ProgressLine(sys.stderr)
    patience = Patience(stuck_s=_STUCK_PATIENCE_S, open_s=_OPEN_PATIENCE_S)
    try:
        end, left = wait_until_stored([place], line, patience, SYSTEM_CLOCK)
    except UsageError as error:
        raise UsageError(f"{mountpoint} stays mounted, {error}: {way_out}", error.exit_status) from None
    if end in (End.STORED, End.OPEN) and not left.failed_count:
        return left
    name_failed(line, left)
    if end is End.STUCK:
        raise UsageError(
            f"{mountpoint} stays mounted, {left.in_words()} not on the server yet ({left.waiting}): {way_out}",
            exit_status_of_waiting([place]),
        )
    raise UsageError(
        f"{mountpoint} stays mounted, {count_text(left.failed_count)} failed: agorafs retry {mountpoint} sends "
        f"again, agorafs cancel PATH gives up, {way_out}",
        ExitStatus.FAILED,
    )


def _wait_for_end(mountpoint: Path, process: int | None) -> None:
    if process is not None and not select.select([process], [], [], _END_TIMEOUT_S)[0]:
        raise UsageError(
            f"{mountpoint} is unmounted, but its process has not ended within {_END_TIMEOUT_S:g} s",
            ExitStatus.FAILED,
        )


def _open_process(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None  # ended just now
