"""Show this user's mounts, how they are, and what is on its way to the server.

Exit status 0 when every mount shown is well, 1 when files failed to be uploaded, 3 when the server refuses the key of
one, 4 when one has no server or does not answer, 7 when one was left behind by a crash or the directory asked for is
not a mount; of several the largest.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from agorafs import mountpoint as mountpoints
from agorafs.clock import SYSTEM_CLOCK, Clock
from agorafs.commands import state_directory_of
from agorafs.commands.places import find_mount_of, why_unknown
from agorafs.commands.progress import bar, count_text, size_text
from agorafs.control import ask
from agorafs.errors import AgoraFSError, ExitStatus, UsageError
from agorafs.registry import MountRecord, live_mounts

_ANSWER_TIMEOUT_S = 5.0  # the answer is made from memory
_WATCH_PAUSE_S = 1.0
_TO_THE_TOP, _CLEAR_LINE, _CLEAR_REST = "\x1b[H", "\x1b[K", "\x1b[J"

# Of a mount that was started by a version that could not write, and still runs.
_NONE: Mapping[str, Any] = {"files": 0, "open": 0, "failed": 0, "salvaged": ""}

# What ``Client.condition`` says, as an exit status.
_SERVER_STATUS = {
    "ok": ExitStatus.OK,
    "away": ExitStatus.UNAVAILABLE,
    "refused": ExitStatus.NOT_AUTHENTICATED,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what ``agorafs status`` understands."""
    parser.add_argument("mountpoint", metavar="MOUNTPOINT", nargs="?", help="only this mount")
    form = parser.add_mutually_exclusive_group()
    form.add_argument(
        "--json", action="store_true", help='one JSON object: {"mounts": […], "left_behind": […]}'
    )
    form.add_argument(
        "--watch", action="store_true",
        help="show it anew each second until Ctrl-C; where there is no terminal, whenever it changes",
    )  # fmt: skip
    parser.add_argument("--state-dir", metavar="DIR", help="as given to mount")
    parser.epilog = (
        "Exit status: 0 well, 1 files failed to be uploaded, 3 key refused, 4 no server or no answer, 7 dead or not a\n"
        "mount; of several the largest."
    )


def run(arguments: argparse.Namespace) -> ExitStatus:
    """Print the mounts."""
    if arguments.watch:
        return _watch(arguments, SYSTEM_CLOCK)
    shown = _look(arguments)
    print(
        json.dumps(dataclasses.asdict(shown), indent=2, ensure_ascii=True)
        if arguments.json
        else shown.as_text()
    )
    return shown.exit_status()


def _watch(arguments: argparse.Namespace, clock: Clock) -> NoReturn:
    before = None
    while True:
        text = _look(arguments).as_text()
        if sys.stdout.isatty():
            # each line is written over the old one: clearing first would flicker
            print(_TO_THE_TOP + text.replace("\n", f"{_CLEAR_LINE}\n") + _CLEAR_REST, flush=True)
        elif text != before:
            print(f"{text}\n", flush=True)
        before = text
        clock.sleep(_WATCH_PAUSE_S)


@dataclasses.dataclass(frozen=True, slots=True)
class _Shown:
    """Mounts, and what waits for the next mount of its server, as ``--json`` has them."""

    mounts: list[dict[str, Any]]
    left_behind: list[dict[str, Any]]

    def as_text(self) -> str:
        parts = [_as_text(mount) for mount in self.mounts] or ["no mounts"]
        return "\n\n".join(parts + [_spool_as_text(spool) for spool in self.left_behind])

    def exit_status(self) -> ExitStatus:
        statuses = [_exit_status(mount) for mount in self.mounts]
        statuses += [ExitStatus.FAILED for spool in self.left_behind if spool["failed"]]
        return max(statuses, default=ExitStatus.OK)


def _look(arguments: argparse.Namespace) -> _Shown:
    state_directory = state_directory_of(arguments)
    mounts = [_describe(state_directory, record) for record in live_mounts(state_directory)]
    mounts += _dead({mount["mountpoint"] for mount in mounts})
    if arguments.mountpoint is None:
        return _Shown(mounts, _left_behind(state_directory))
    wanted = mountpoints.resolve_mountpoint(Path(arguments.mountpoint))
    mounts = [mount for mount in mounts if mount["mountpoint"] == str(wanted)]
    if not mounts:
        record = find_mount_of(wanted, live_mounts(state_directory))
        if record is not None:
            raise UsageError(
                f"{wanted} is not a mount point: run agorafs status {record.mountpoint}",
                ExitStatus.MOUNT_POINT,
            )
        raise UsageError(why_unknown(wanted, state_directory), ExitStatus.MOUNT_POINT)
    return _Shown(mounts, [])


def _left_behind(state_directory: Path) -> list[dict[str, Any]]:
    """Return what was written through mounts that have ended since, and is not on a server yet."""
    if not (state_directory / "spool").is_dir():
        return []  # nothing was ever written, and the journal would bring the HTTP library with it
    from agorafs.uploads.recovery import left_behind

    return left_behind(state_directory)


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


def _dead(known: set[str]) -> list[dict[str, Any]]:
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
    status = mount["status"]
    of_server = _SERVER_STATUS.get(status.get("server"), ExitStatus.UNAVAILABLE)
    return max(of_server, ExitStatus.FAILED) if status.get("uploads", _NONE)["failed"] else of_server


def _as_text(mount: Mapping[str, Any]) -> str:
    lines = [f"{mount['mountpoint']}  {mount['url']}"]
    for name, value in mount.items():
        if name == "status":
            others = dict(value)
            uploads = _uploads_as_lines(others.pop("uploads", _NONE))
            lines += [*_table(others, "  "), *(f"  {line}" for line in uploads)]
        elif name not in ("mountpoint", "url") and value is not None:
            lines.append(f"  {name.replace('_', ' ')}: {value}")
    return "\n".join(lines)


def _uploads_as_lines(uploads: Mapping[str, Any]) -> list[str]:
    """Return the lines about what is on its way; none when nothing is."""
    if not (uploads["files"] or uploads["open"] or uploads["failed"] or uploads["salvaged"]):
        return []
    counts = [f"{count_text(uploads['files'])} ({size_text(uploads['bytes'])}) on the way"]
    counts += [f"{uploads[name]} {name}" for name in ("open", "failed") if uploads[name]]
    lines = [f"uploads: {', '.join(counts)}; the spool holds {size_text(uploads['spool_bytes'])}"]
    if uploads["salvaged"]:
        lines.append(f"  what is left of files that a power cut cut short is in {uploads['salvaged']}")
    if uploads["waiting"]:
        lines.append(f"  waiting: {uploads['waiting']}")
    for batch in uploads["batches"]:
        # before anything is sent and after everything is, the state says more than the bar
        fraction = batch["sent_bytes"] / batch["bytes"] if batch["bytes"] else 0.0
        words = f"{count_text(batch['files'])}, {size_text(batch['bytes'])}"
        lines.append(f"  {bar(fraction)}  {batch['state']}  {batch['where']}  {words}{_age(batch['age_s'])}")
        if batch["reason"]:
            lines.append(f"      {batch['reason']}")
    lines += [f"  {problem['path']}: {problem['reason']}" for problem in uploads["problems"]]
    if uploads["failed"]:
        lines.append("  agorafs retry PATH sends again what failed, agorafs cancel PATH gives it up")
    return lines


def _age(age_s: float) -> str:
    """Return since when, in whole minutes: finer would make each look another text (``--watch``)."""
    minutes = int(age_s // 60)
    if minutes < 1:
        return ""
    return f", since {minutes} min" if minutes < 120 else f", since {minutes // 60} h"


def _spool_as_text(spool: Mapping[str, Any]) -> str:
    words = f"{count_text(spool['files'])} ({size_text(spool['bytes'])})"
    failed = f", {spool['failed']} of them failed" if spool["failed"] else ""
    return f"{words} wait for the next mount of {spool['url']}{failed}"


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
    return size_text(value) if name.endswith("_bytes") and isinstance(value, int) else str(value)
