"""Have the server run a task, and wait for its end if that is wanted.

TASK is its name in the project (--project, or that of the working directory), its directory on a mount, task:5 or
script:7. Each KEY=VALUE is an input, as the file syntax of the task says; objects are given by a path (in the project
if --project says which, else from the working directory), or as dataset:57.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from pathlib import Path
from typing import Any

from agorafs.clock import SYSTEM_CLOCK, Clock
from agorafs.commands import seconds, state_directory_of
from agorafs.commands.places import Asked, Place, find_place, place_of
from agorafs.commands.progress import ProgressLine
from agorafs.errors import ExitStatus, UsageError
from agorafs.registry import live_mounts

_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0
_GOING_ON = frozenset({"queued", "running"})


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what ``agorafs run`` understands."""
    parser.add_argument("task", metavar="TASK", help="name, directory on a mount, task:5 or script:7")
    parser.add_argument("inputs", metavar="KEY=VALUE", nargs="*", help="an input of the task")
    parser.add_argument("--target", metavar="PATH", help="folder, exam or series that the results go to")
    parser.add_argument("--project", metavar="NAME", help="the project that TASK and relative paths are in")
    parser.add_argument("--wait", action="store_true", help="wait for the end, show how it goes")
    parser.add_argument("--timeout", metavar="S", type=seconds, help="seconds to wait; without it for ever")
    parser.add_argument("--mount", metavar="MOUNTPOINT", help="the mount, if there are several")
    parser.add_argument("--state-dir", metavar="DIR", help="as given to mount")
    parser.epilog = (
        "Exit status: 0 the run has ended well, or without --wait was started; 1 it failed; 2 an input is not as the\n"
        "task wants it, nothing was started; 4 it has not ended when the time was over, and goes on."
    )


def run(arguments: argparse.Namespace) -> ExitStatus:
    """Start it, and wait."""
    if arguments.timeout is not None and not arguments.wait:
        raise UsageError("--timeout needs --wait")
    inputs = _inputs(arguments.inputs)
    place, task, directory = _where(arguments)
    running = _Running(place, ProgressLine(sys.stderr), SYSTEM_CLOCK, arguments.timeout)
    job = running.start(
        {
            "task": task,
            "path": directory,
            "arguments": inputs,
            "target": arguments.target,
            "outside": None if arguments.project is not None else str(Path.cwd()),
        }
    )
    path = place.shown(f"/.agora/jobs/{job['job']}")
    if not arguments.wait:
        print(f"job {job['job']}: {path}")
        return ExitStatus.OK
    try:
        ended = running.wait(job["job"], path)
    except KeyboardInterrupt:
        print(f"agorafs: interrupted; job {job['job']} goes on, see {path}", file=sys.stderr)
        return ExitStatus.INTERRUPTED
    if ended["state"] != "finished":
        raise UsageError(f"{ended['title']} {_ended_words(ended)}; see {path}/log", ExitStatus.FAILED)
    for result in ended["results"]:
        print(f"{path}/results/{result.replace(':', '-')}")
    return ExitStatus.OK


def _inputs(words: list[str]) -> dict[str, str]:
    inputs: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise UsageError(f"{word} is not KEY=VALUE")
        if key in inputs:
            raise UsageError(f"{key} is given twice")
        inputs[key] = value
    return inputs


def _where(arguments: argparse.Namespace) -> tuple[Place, str, str]:
    """Return the mount, the task as it is called there, and the directory in it that this is said in."""
    state_directory = state_directory_of(arguments)
    task: str = arguments.task
    is_path = "/" in task or os.path.lexists(task)
    at = find_place(task, state_directory) if is_path else None
    here = find_place(Path.cwd(), state_directory)
    if arguments.mount is not None:
        place = place_of(arguments.mount, state_directory)
    else:
        place = at or here or _only_mount(state_directory)
    place = dataclasses.replace(place, inside=None)
    if at is not None and at.inside is not None and at.record.mountpoint == place.record.mountpoint:
        task = place.shown(at.inside)
    if arguments.project is not None:
        if "/" in arguments.project or arguments.project in ("", ".", ".."):
            raise UsageError(f"{arguments.project!r} is not the name of a project as the mount shows it")
        return place, task, f"/projects/{arguments.project}"
    if here is not None and here.inside is not None and here.record.mountpoint == place.record.mountpoint:
        return place, task, here.inside
    if at is not None and at.inside is not None:
        return place, task, "/".join(at.inside.split("/")[:3])
    return place, task, "/"


def _only_mount(state_directory: Path) -> Place:
    mounts = live_mounts(state_directory)
    if not mounts:
        raise UsageError("there is no mount: run agorafs mount first", ExitStatus.MOUNT_POINT)
    if len(mounts) > 1:
        raise UsageError(f"there are {len(mounts)} mounts: say --mount MOUNTPOINT")
    return Place(state_directory, mounts[0], None)


class _Running:
    """A run, from the request to its end. Given: all arguments."""

    def __init__(self, asked: Asked, line: ProgressLine, clock: Clock, timeout_s: float | None) -> None:
        self._asked = asked
        self._line = line
        self._clock = clock
        self._until_s = None if timeout_s is None else clock.monotonic() + timeout_s

    def start(self, fields: dict[str, object]) -> dict[str, Any]:
        """Have it started; return how its job is. The time that this takes is not limited: it would be in doubt."""
        request = self._asked.ask("run-task", **fields)["job"]
        pause_s = _FIRST_PAUSE_S
        while True:
            answer = self._asked.ask("job", job=request)
            if answer["done"]:
                self._line.clear()
                result: dict[str, Any] = answer["result"]
                return result
            self._line.show("starting …")
            self._clock.sleep(pause_s)
            pause_s = min(pause_s * 1.5, _LONGEST_PAUSE_S)

    def wait(self, number: int, path: str) -> dict[str, Any]:
        """Return how the job is when it has ended.

        Raises:
            UsageError: UNAVAILABLE; the time is over.
        """
        pause_s = _FIRST_PAUSE_S
        started_s = self._clock.monotonic()
        try:
            while True:
                status = self._asked.ask("job-status", number=number)
                if status["state"] not in _GOING_ON:
                    return status
                now_s = self._clock.monotonic()
                waiting = f"; waiting: {status['waiting']}" if status["waiting"] else ""
                progress = f" {status['progress']}" if status["progress"] else ""
                self._line.show(
                    f"{status['title']}: {status['state']}{progress}, {now_s - started_s:.0f} s{waiting}"
                )
                if self._until_s is not None:
                    if now_s >= self._until_s:
                        raise UsageError(
                            f"job {number} has not ended{waiting}; see {path}", ExitStatus.UNAVAILABLE
                        )
                    pause_s = min(pause_s, self._until_s - now_s)
                self._clock.sleep(pause_s)
                pause_s = min(pause_s * 1.5, _LONGEST_PAUSE_S)
        finally:
            self._line.clear()


def _ended_words(job: dict[str, Any]) -> str:
    words = f"has {job['state']}" if job["state"] == "failed" else f"was {job['state']}"
    return f"{words}: {job['error']}" if job["error"] else words
