"""Send files and directories to the server, and wait until they are verified there.

DEST is a directory on a mount, or PROJECT/FOLDER/… as they are named in the mount. A directory keeps its name in DEST.
The same command again goes on where the last one ended: what is on its way is joined, what is stored is skipped.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agorafs.clock import SYSTEM_CLOCK, Clock
from agorafs.commands import seconds, state_directory_of
from agorafs.commands.places import Asked, Place, find_mount_of, find_place, place_of
from agorafs.commands.progress import ProgressLine, bar, count_text, size_text
from agorafs.commands.server_options import add_server_arguments, read_server
from agorafs.commands.upload_files import Found, find_files, read_json_object, relations_of
from agorafs.errors import ExitStatus, UsageError
from agorafs.log_output import log_to
from agorafs.mount_process import connect
from agorafs.mount_requests import Handler, handlers
from agorafs.private_directory import make_private_directory
from agorafs.registry import live_mounts

_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0
_MAX_NAMED = 20
_ENDED = "ended"  # the state of an upload


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what ``agorafs upload`` understands."""
    parser.add_argument(
        "paths", metavar="PATH", nargs="+",
        help="a file or directory; a link to a file is sent as the file, a link to a directory inside of a directory "
        "is left out, directories without files do not arrive",
    )  # fmt: skip
    parser.add_argument("destination", metavar="DEST", help="a directory on a mount, or PROJECT/FOLDER/…")
    parser.add_argument("--contents", action="store_true", help="of a directory only what is in it")
    parser.add_argument("--import-json", metavar="FILE", help="make it a custom import, as this file says")
    parser.add_argument(
        "--relations", metavar="FILE", help='JSON, {"main file": ["file that belongs to it", …], …}'
    )
    parser.add_argument(
        "--wait", action=argparse.BooleanOptionalAction, default=True,
        help="wait until everything is verified; otherwise the mount goes on with it",
    )  # fmt: skip
    parser.add_argument("--timeout", metavar="S", type=seconds, help="seconds to wait; without it for ever")
    parser.add_argument(
        "--verify", action="store_true", help="at the end ask the server once more for each file"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the summary")
    parser.add_argument("--mount", metavar="MOUNTPOINT", help="the mount that PROJECT/FOLDER is meant in")
    server = parser.add_argument_group("without a mount")
    server.add_argument("--server", metavar="SOURCE", help="https://… or the name of a profile")
    add_server_arguments(server)
    parser.epilog = (
        "Exit status: 0 every file is stored and verified, 1 files failed (they are named), 3 key refused,\n"
        "4 server away when the time was over. What was accepted is kept, and sent later."
    )


def run(arguments: argparse.Namespace) -> ExitStatus:
    """Send, wait, and sum up."""
    _check(arguments)
    line = ProgressLine(sys.stderr)
    found = find_files(
        arguments.paths, contents=arguments.contents, say=lambda text: line.say(f"agorafs: {text}")
    )
    fields: dict[str, object] = {"files": [(one.path, one.target) for one in found]}
    if arguments.import_json is not None:
        fields["import_json"] = read_json_object(arguments.import_json, "the import file")
    if arguments.relations is not None:
        fields["relations"] = relations_of(read_json_object(arguments.relations, "the file"), found)
    with _destination(arguments, found) as (asked, inside):
        fields["path"] = inside
        sending = _Sending(asked, line, SYSTEM_CLOCK, arguments.timeout)
        try:
            summary = sending.run(fields, wait=arguments.wait, verify=arguments.verify)
        except KeyboardInterrupt:
            line.clear()
            print("agorafs: interrupted; the same command again goes on", file=sys.stderr)
            return ExitStatus.INTERRUPTED
        finally:
            line.clear()
    return _sum_up(summary, line, as_json=arguments.json)


def _check(arguments: argparse.Namespace) -> None:
    if arguments.server is not None and arguments.mount is not None:
        raise UsageError("--server is for where there is no mount: give one of --server and --mount")
    if not arguments.wait:
        if arguments.verify or arguments.timeout is not None:
            raise UsageError("--verify and --timeout need --wait")
        if arguments.server is not None:
            raise UsageError("--no-wait needs a mount, which goes on when this command has ended")


# --- where to ------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _destination(arguments: argparse.Namespace, found: list[Found]) -> Iterator[tuple[Asked, str]]:
    """Find who takes the files, and the path of the destination in the mount."""
    destination: str = arguments.destination
    if arguments.server is not None:
        inside = destination if destination.startswith("/") else _inside(destination)
        with _own_stack(arguments) as asked:
            yield asked, inside
        return
    place = _place(arguments)
    _refuse_what_lies_on(place, found)
    if place.inside is None:
        raise UsageError(f"{place} takes no files: DEST must be a folder, an exam or a series")
    yield place, place.inside


def _place(arguments: argparse.Namespace) -> Place:
    state_directory = state_directory_of(arguments)
    if arguments.mount is not None:
        place = place_of(arguments.mount, state_directory)
        if arguments.destination.startswith("/"):
            return place_of(arguments.destination, state_directory)
        return dataclasses.replace(place, inside=_inside(arguments.destination))
    on_mount = find_place(arguments.destination, state_directory)
    if on_mount is not None:
        return _named_from_the_top(on_mount, arguments.destination) or on_mount
    if arguments.destination.startswith("/"):
        return place_of(arguments.destination, state_directory)
    mounts = live_mounts(state_directory)
    if not mounts:
        raise UsageError(
            "there is no mount: run agorafs mount first, or say --server URL", ExitStatus.MOUNT_POINT
        )
    if len(mounts) > 1:
        raise UsageError(
            f"{arguments.destination} may be meant in any of {len(mounts)} mounts: say --mount MOUNTPOINT"
        )
    return Place(state_directory, mounts[0], _inside(arguments.destination))


def _named_from_the_top(on_mount: Place, destination: str) -> Place | None:
    """Return what PROJECT/FOLDER/… means when the working directory is on the mount and has nothing of that name."""
    first = destination.split("/")[0]
    if first in ("", ".", "..") or os.path.lexists(first):
        return None
    if not os.path.lexists(on_mount.shown(f"/projects/{first}")):
        return None
    return dataclasses.replace(on_mount, inside=_inside(destination))


def _inside(destination: str) -> str:
    project, *folders = [part for part in destination.split("/") if part] or [""]
    if not project or {".", ".."} & {project, *folders}:
        raise UsageError(f"{destination} is not PROJECT/FOLDER/…, nor a directory on a mount")
    return "/".join(["/projects", project, "folders", *folders])


def _refuse_what_lies_on(place: Place, found: list[Found]) -> None:
    # Its process would read the files, and a process that reads its own mount waits for itself for ever.
    for one in found:
        if find_mount_of(Path(one.path), [place.record]) is not None:
            raise UsageError(
                f"{one.given} is on the mount already: copy it with cp, or make a link with ln -s"
            )


class _OwnStack:
    """A stack in this process, asked as a mount is."""

    def __init__(self, known: Mapping[str, Handler]) -> None:
        self._known = known

    def ask(self, command: str, **fields: object) -> dict[str, Any]:
        return self._known[command](dict(fields))


@contextlib.contextmanager
def _own_stack(arguments: argparse.Namespace) -> Iterator[Asked]:
    resolved, _ = read_server(arguments.server, arguments)
    settings = resolved.with_credential()
    os.umask(0o077)
    logs = make_private_directory(make_private_directory(settings.state_directory) / "logs")
    log_to(logs / "upload.log", debug=settings.debug).hide(settings.credential)
    from agorafs import stack as stacks  # only here: it brings everything with it

    stack = connect(stacks.connect, resolved, settings)
    try:
        yield _OwnStack(handlers(stack))
    finally:
        stack.close()


# --- sending -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Summary:
    """How an upload ended, or stands; ``is_verified`` only when the server was asked once more.

    ``import_id`` is the server's number of the import; None if it is not known yet, or nothing had to be imported.
    """

    files: int
    uploaded: int
    existed: int
    bytes: int
    failed: tuple[tuple[str, str], ...] = ()
    failed_count: int = 0
    is_accepted_only: bool = False
    is_verified: bool = False
    import_id: int | None = None


class _Sending:
    """One upload, from the request to its end. Given: all arguments. Changing: ``_until_s``."""

    def __init__(self, asked: Asked, line: ProgressLine, clock: Clock, timeout_s: float | None) -> None:
        self._asked = asked
        self._line = line
        self._clock = clock
        self._timeout_s = timeout_s
        self._until_s = None if timeout_s is None else clock.monotonic() + timeout_s

    def run(self, fields: Mapping[str, object], *, wait: bool, verify: bool) -> Summary:
        """Have the files accepted and, if wanted, wait for them and look whether they are there.

        Raises:
            UsageError: They are refused, the mount has ended, or the time is over.
        """
        if verify:
            # What is skipped because it is there is to be there now, not by a listing of half a minute ago.
            self._asked.ask("refresh", path=fields["path"])
        accepted = self._job("upload", fields, "looking at the files")
        if not wait:
            skipped = accepted["skipped"]
            return Summary(
                accepted["files"],
                accepted["files"] - skipped,
                skipped,
                accepted["bytes"],
                is_accepted_only=True,
            )
        status = self._wait_for(accepted["upload"])
        missing: dict[str, Any] = {"failed": [], "failed_count": 0}
        if verify:
            missing = self._job("verify", {"upload": accepted["upload"]}, "asking the server for each file")
        return Summary(
            files=accepted["files"],
            uploaded=status["stored"],
            existed=status["existed"] + accepted["skipped"],
            bytes=accepted["bytes"],
            failed=tuple((one["path"], one["reason"]) for one in [*status["failed"], *missing["failed"]]),
            failed_count=status["failed_count"] + missing["failed_count"],
            is_verified=verify and not missing["failed_count"],
            import_id=status.get("import_id"),  # unknown of what ended under a version that kept none
        )

    def _wait_for(self, upload: int) -> dict[str, Any]:
        pause_s = _FIRST_PAUSE_S
        while True:
            status = self._asked.ask("upload-status", upload=upload)
            if status["state"] == _ENDED:
                return status
            left = status["files"] - status["stored"] - status["existed"] - status["failed_count"]
            waiting = f"; waiting: {status['waiting']}" if status["waiting"] else ""
            fraction = status["sent_bytes"] / status["bytes"] if status["bytes"] else 0.0
            sizes = f"{size_text(status['sent_bytes'])} of {size_text(status['bytes'])}"
            self._line.show(f"{bar(fraction)}  {status['state']}, {sizes}, {count_text(left)} left{waiting}")
            self._pause(pause_s, f"{count_text(left)} not on the server", status["waiting"])
            pause_s = min(pause_s * 1.5, _LONGEST_PAUSE_S)

    def _job(self, command: str, fields: Mapping[str, object], words: str) -> dict[str, Any]:
        """Start a job of the mount and return its result."""
        job = self._asked.ask(command, **fields)["job"]
        pause_s = _FIRST_PAUSE_S
        while True:
            answer = self._asked.ask("job", job=job)
            if answer["done"]:
                result: dict[str, Any] = answer["result"]
                return result
            self._line.show(f"{words} …")
            self._pause(pause_s, f"still {words}", "")
            pause_s = min(pause_s * 1.5, _LONGEST_PAUSE_S)

    def _pause(self, pause_s: float, what: str, waiting: str) -> None:
        if self._until_s is not None:
            left_s = self._until_s - self._clock.monotonic()
            if left_s <= 0:
                refused = self._asked.ask("status")["status"].get("server") == "refused"
                raise UsageError(
                    f"{what} after {self._timeout_s:g} s{f' ({waiting})' if waiting else ''}; what was accepted is "
                    "kept, and the same command again goes on",
                    ExitStatus.NOT_AUTHENTICATED if refused else ExitStatus.UNAVAILABLE,
                )
            pause_s = min(pause_s, left_s)
        self._clock.sleep(pause_s)


def _sum_up(summary: Summary, line: ProgressLine, *, as_json: bool) -> ExitStatus:
    if as_json:
        fields = dataclasses.asdict(summary)
        fields["failed"] = [{"path": path, "reason": reason} for path, reason in summary.failed]
        print(json.dumps(fields))
    else:
        print(_in_words(summary))
        for path, reason in summary.failed[:_MAX_NAMED]:
            line.say(f"agorafs: {path}: {reason}")
        if summary.failed_count > _MAX_NAMED:
            line.say(f"agorafs: and {summary.failed_count - _MAX_NAMED} more, see agorafs status")
    return ExitStatus.FAILED if summary.failed_count else ExitStatus.OK


def _in_words(summary: Summary) -> str:
    done = "accepted" if summary.is_accepted_only else "uploaded"
    counts = [
        f"{number} {word}"
        for number, word in (
            (summary.uploaded, done),
            (summary.existed, "existed"),
            (summary.failed_count, "failed"),
        )
        if number
    ]
    end = "; the server lists each with its SHA-1" if summary.is_verified and not summary.failed_count else ""
    return f"{count_text(summary.files)}: {', '.join(counts)}{end}"
