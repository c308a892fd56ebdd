"""Show this user's mounts and how they are.

Exit status 0 when every mount shown is well, 3 when the server refuses the key of one, 4 when one has no
server or does not answer, 7 when one was left behind by a crash or the directory asked for is not a mount;
of several the largest.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agorafs import mountpoint as mountpoints
from agorafs.commands import state_directory_of
from agorafs.control import ask
from agorafs.errors import AgoraFSError, ExitStatus, UsageError
from agorafs.registry import MountRecord, live_mounts

_ANSWER_TIMEOUT_S = 5.0  # the answer is made from memory

# What ``Client.condition`` says, as an exit status.
_SERVER_STATUS = {
    "ok": ExitStatus.OK,
    "away": ExitStatus.UNAVAILABLE,
    "refused": ExitStatus.NOT_AUTHENTICATED,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what ``agorafs status`` understands."""
    parser.add_argument("mountpoint", metavar="MOUNTPOINT", nargs="?", help="only this mount")
    parser.add_argument("--json", action="store_true", help='one JSON object: {"mounts": […]}')
    parser.epilog = "Exit status: 0 well, 3 key refused, 4 no server or no answer, 7 dead or not a mount."
    parser.add_argument("--state-dir", metavar="DIR", help="as given to mount")


def run(arguments: argparse.Namespace) -> ExitStatus:
    """Print the mounts."""
    state_directory = state_directory_of(arguments)
    shown = [_describe(state_directory, record) for record in live_mounts(state_directory)]
    shown += _left_behind({mount["mountpoint"] for mount in shown})
    if arguments.mountpoint is not None:
        wanted = str(mountpoints.resolve_mountpoint(Path(arguments.mountpoint)))
        shown = [mount for mount in shown if mount["mountpoint"] == wanted]
        if not shown:
            raise UsageError(f"{wanted} is not a mount of agorafs", ExitStatus.MOUNT_POINT)
    if arguments.json:
        print(json.dumps({"mounts": shown}, indent=2, ensure_ascii=True))
    elif not shown:
        print("no mounts")
    else:
        print("\n\n".join(_as_text(mount) for mount in shown))
    return ExitStatus(max((_exit_status(mount) for mount in shown), default=ExitStatus.OK))


def _describe(state_directory: Path, record: MountRecord) -> dict[str, Any]:
    mount: dict[str, Any] = {
        "mountpoint": record.mountpoint,
        "url": record.url,
        "pid": record.pid,
        "since": _time(record.started_s),
        "log_file": record.log_file,
        "state": "serving",
    }
    if mountpoints.find_mount(Path(record.mountpoint)) is None:
        mount["state"] = "detached"  # being mounted, or unmounted while files are open
    try:
        mount |= ask(
            state_directory, Path(record.mountpoint), {"command": "status"}, timeout_s=_ANSWER_TIMEOUT_S
        )
    except AgoraFSError as error:
        mount |= {"state": "not answering", "problem": str(error)}
    return mount


def _left_behind(known: set[str]) -> list[dict[str, Any]]:
    """Mounts of ours in this namespace that no process of this user serves: dead, or another user's."""
    found = []
    for entry in mountpoints.current_mounts():
        if entry.is_ours and str(entry.mountpoint) not in known:
            error = mountpoints.stat_error(entry.mountpoint)
            if mountpoints.is_stale(error):
                found.append(
                    {
                        "mountpoint": str(entry.mountpoint),
                        "url": entry.source,
                        "state": "dead",
                        "problem": f"its process has ended: run agorafs umount --lazy {entry.mountpoint}",
                    }
                )
    return found


def _exit_status(mount: Mapping[str, Any]) -> ExitStatus:
    if mount["state"] == "dead":
        return ExitStatus.MOUNT_POINT
    if mount["state"] == "not answering":
        return ExitStatus.UNAVAILABLE
    return _SERVER_STATUS.get(mount["status"].get("server"), ExitStatus.UNAVAILABLE)


def _as_text(mount: Mapping[str, Any]) -> str:
    lines = [f"{mount['mountpoint']}  {mount['url']}"]
    for name, value in mount.items():
        if name == "status":
            lines += _table(value, "  ")
        elif name not in ("mountpoint", "url") and value is not None:
            lines.append(f"  {name.replace('_', ' ')}: {value}")
    return "\n".join(lines)


def _table(value: Mapping[str, Any], indent: str) -> list[str]:
    lines = []
    for name, field in value.items():
        label = f"{indent}{name.replace('_', ' ')}:"
        if isinstance(field, dict):
            lines += [label, *_table(field, indent + "  ")]
        elif isinstance(field, list):
            lines += [label, *(f"{indent}  {_item(item)}" for item in field)] if field else []
        elif field not in (None, ""):
            lines.append(f"{label} {_quantity(name, field)}")
    return lines


def _time(wall_s: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(wall_s))


def _item(item: object) -> str:
    """Return one of a list in a line; an error (``vfs.complaints``) is one of these."""
    if not isinstance(item, dict):
        return str(item)
    fields = dict(item)
    words = [_time(fields.pop("at"))] if isinstance(fields.get("at"), int | float) else []
    return "  ".join([*words, *map(str, fields.values())])


def _quantity(name: str, value: object) -> str:
    if name.endswith("_bytes") and isinstance(value, int):
        size = float(value)
        for unit in ("B", "KiB", "MiB", "GiB"):
            if size < 1024 or unit == "GiB":
                return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
            size /= 1024
    return str(value)
