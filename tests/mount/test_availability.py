"""With the server away, silent or refusing, a mount stays usable: nothing hangs, what is known still works.

Silence comes in two sorts: requests that are accepted and never answered, and a process that is stopped, so that the
kernel accepts connections for it and nobody reads them. No test waits for time to pass; what has to answer at once
is measured while other reads are still waiting.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest

from agorafs import control
from tests.support.mount import Mount
from tests.support.reading import (
    MountedFile,
    forget_pages,
    in_threads,
    mounted_files,
    named,
    read_whole,
)
from tests.support.sandbox import SandboxProcess
from tests.support.waiting import eventually

DEADLINE_S = 4.0
DEADLINE = f"deadline_s={DEADLINE_S:g}"
# What a loaded machine may add. Less than a second deadline: an operation may not wait for one after the other.
SLACK_S = 3.5
AT_ONCE_S = 1.0
PATIENCE_S = 60
STUDY = "projects/Neuro Study"
UNKNOWN = "projects/Phantom QA"  # never listed before the server is away
AWAY = {errno.EIO, errno.ETIMEDOUT}

T = TypeVar("T")


def outcome_of(operation: Callable[[], object]) -> int:
    """Return 0, or the errno that *operation* failed with."""
    try:
        operation()
    except OSError as error:
        assert error.errno is not None
        return error.errno
    return 0


def timed(operation: Callable[[], T]) -> tuple[T, float]:
    """Return what *operation* returned, and how long it took in seconds."""
    begin = time.monotonic()
    result = operation()
    return result, time.monotonic() - begin


def names_below(directory: Path) -> list[str]:
    """List all directories and stat all entries below *directory*."""
    names = []
    for parent, directories, files in os.walk(directory, onerror=raise_error):
        names += [f"{parent}/{name}:{Path(parent, name).lstat().st_size}" for name in directories + files]
    return sorted(names)


def raise_error(error: OSError) -> None:
    raise error


class Visited:
    """A mount whose STUDY has been listed, and half of its files read, before something goes wrong."""

    def __init__(self, server: SandboxProcess, mounted: Mount) -> None:
        self.mount = mounted
        self.study = mounted.path / STUDY
        assert [*(mounted.path / "projects").iterdir()]
        self.names = names_below(self.study)
        files = mounted_files(server, self.study)
        distinct = list({file.sha1: file for file in files if file.size}.values())
        self.read_before: list[MountedFile] = distinct[::2]
        self.unread: list[MountedFile] = distinct[1::2]
        assert named(map(read_whole, self.read_before)) == {"right"}
        forget_pages(self.read_before)

    def check_known_things_work(self) -> None:
        assert names_below(self.study) == self.names
        assert named(map(read_whole, self.read_before)) == {"right"}
        assert os.statvfs(self.mount.path).f_namemax == 255

    def check_everything_works(self) -> None:
        self.check_known_things_work()
        assert named(map(read_whole, self.unread)) == {"right"}
        assert names_below(self.mount.path / UNKNOWN)


@pytest.mark.parametrize("ttl", ["listing_ttl_s=3600", "listing_ttl_s=0.05"], ids=["fresh", "expired"])
def test_while_the_server_is_away_known_things_work_and_others_fail_in_time(private_demo, mount, ttl):
    """While the server is away, what has been listed and read keeps working; everything else fails within the
    deadline.

    … and when it is back on its port, everything works again by itself.
    """
    visited = Visited(private_demo, mount(private_demo, DEADLINE, ttl))
    private_demo.kill()

    in_threads([visited.check_known_things_work], PATIENCE_S)
    for operation in (
        partial(os.listdir, visited.mount.path / UNKNOWN / "exams"),
        partial(os.listdir, visited.mount.path / UNKNOWN / "folders"),
        visited.unread[0].path.read_bytes,
        visited.unread[1].path.read_bytes,
    ):
        failed, took_s = timed(partial(outcome_of, operation))
        assert failed in AWAY
        assert took_s < DEADLINE_S + SLACK_S
    assert outcome_of((visited.study / "no such name").stat) in {errno.ENOENT}
    assert outcome_of((visited.mount.path / UNKNOWN / "exams" / "Monthly phantom").stat) in AWAY
    assert visited.mount.status()["status"]["server"] == "away"

    private_demo.start()
    visited.check_everything_works()
    assert visited.mount.status()["status"]["server"] == "ok"
    assert visited.mount.log().count(" is away: ") == 1


@contextlib.contextmanager
def unanswered_requests(server: SandboxProcess) -> Iterator[None]:
    """The server takes every request of the API and answers none."""
    server.switch(fault="hang=600:/api/:*")
    try:
        yield
    finally:
        server.switch(fault="")


@contextlib.contextmanager
def stopped_process(server: SandboxProcess) -> Iterator[None]:
    """The server's process does not run; connections are accepted by its kernel only."""
    os.kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


@pytest.mark.parametrize(
    ("silence", "ttl"),
    [(unanswered_requests, "listing_ttl_s=0.05"), (stopped_process, "listing_ttl_s=3600")],
    ids=["no answers, listings expired", "stopped, listings fresh"],
)
def test_a_silent_server_blocks_only_who_asked_for_something_new(private_demo, mount, silence, ttl):
    """32 reads and 3 listings wait; meanwhile ls, stat, statfs and reads of known things answer within a second."""
    visited = Visited(private_demo, mount(private_demo, DEADLINE, ttl))
    assert len(visited.unread) >= 32
    results: list[tuple[int, float]] = []
    waiting = [partial(read_whole, file) for file in visited.unread[:32]]
    waiting += [
        partial(outcome_of, partial(os.listdir, visited.mount.path / UNKNOWN / name))
        for name in ("exams", "folders", "patients")
    ]
    with silence(private_demo):
        jobs = [partial(timed, job) for job in waiting]
        thread = threading.Thread(
            target=lambda: results.extend(in_threads(jobs, PATIENCE_S)), name="waiting", daemon=True
        )
        thread.start()
        eventually(lambda: open_files(visited.mount) >= 32, PATIENCE_S)
        exam = visited.study / "exams"
        quick: dict[str, Callable[[], object]] = {
            "ls": partial(os.listdir, exam),
            "ls of another directory": partial(os.listdir, visited.study / "folders"),
            "stat": (exam / "Brain, volunteer").stat,
            "statfs": partial(os.statvfs, visited.mount.path),
            "read": partial(read_whole, visited.read_before[0]),
            "xattr": partial(os.getxattr, exam / "Brain, volunteer", "user.agora.type"),
        }
        took_s = {name: timed(operation)[1] for name, operation in quick.items()}
        assert open_files(visited.mount) >= 32, (
            "the reads ended before anything could be measured beside them"
        )
        assert {name: time_s for name, time_s in took_s.items() if time_s > AT_ONCE_S} == {}
        thread.join(PATIENCE_S)
        assert len(results) == len(waiting)
        assert {failed for failed, _ in results} <= AWAY
        assert max(time_s for _, time_s in results) < DEADLINE_S + SLACK_S
    visited.check_everything_works()


def open_files(mounted: Mount) -> int:
    """Return how many files are open in the mount, as its process counts them."""
    # What ``agorafs status`` asks, without the time that a command takes to start.
    answer = control.ask(
        mounted.home / "state" / "agorafs", mounted.path, {"command": "status"}, timeout_s=PATIENCE_S
    )
    return int(answer["status"]["open_files"])


# -- the key -------------------------------------------------------------------------------------------


def test_a_revoked_key_is_said_once_and_a_new_one_is_taken_at_sighup(private_demo, mount, tmp_path):
    """After the server is back, or a revoked key has been replaced and the process told by SIGHUP, the mount works
    again by itself.

    … what is not in the cache gives EACCES meanwhile, what is there works.
    """
    key_file = tmp_path / "key"
    key_file.write_text(private_demo.api_key)
    key_file.chmod(0o600)
    visited = Visited(private_demo, mount(private_demo, f"api_key_file={key_file}", "listing_ttl_s=3600"))
    private_demo.revoke()

    visited.check_known_things_work()
    refused: list[Callable[[], object]] = [
        partial(os.listdir, visited.mount.path / UNKNOWN / "exams"),
        partial(os.listdir, visited.mount.path / UNKNOWN / "folders"),
        *(file.path.read_bytes for file in visited.unread[:6]),
    ]
    assert in_threads([partial(outcome_of, one) for one in refused], PATIENCE_S) == [errno.EACCES] * len(
        refused
    )
    visited.check_known_things_work()
    (error,) = [line for line in visited.mount.log().splitlines() if " ERROR " in line]
    assert "SIGHUP" in error and private_demo.url in error
    assert visited.mount.status()["status"]["server"] == "refused"

    key_file.write_text(private_demo.set_api_key())
    os.kill(visited.mount.pid(), signal.SIGHUP)
    eventually(lambda: "the key was read again" in visited.mount.log(), PATIENCE_S)
    visited.check_everything_works()
    assert "accepts the credential again" in visited.mount.log()


def test_a_server_that_fails_or_lies_hides_nothing_that_was_listed(private_demo, mount):
    """Unreachable is never shown as deleted."""
    visited = Visited(private_demo, mount(private_demo, "deadline_s=1", "listing_ttl_s=0.05"))
    for fault in ("status=500", "status=503", "html", "json-garbage", "redirect", "truncate"):
        private_demo.switch(fault=f"{fault}:/api/:*")
        visited.check_known_things_work()
        failed = outcome_of(partial(os.listdir, visited.mount.path / UNKNOWN / "exams"))
        assert failed == errno.EIO, fault


def test_a_listing_is_not_shown_beyond_its_time_to_who_is_no_longer_let_in(private_demo, mount):
    visited = Visited(private_demo, mount(private_demo, "listing_ttl_s=0.05"))
    private_demo.revoke()
    study = partial(os.listdir, visited.study / "exams")
    eventually(lambda: outcome_of(study) == errno.EACCES, PATIENCE_S)
    for _ in range(3):
        assert outcome_of(study) == errno.EACCES
