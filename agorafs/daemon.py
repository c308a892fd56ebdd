"""Processes and signals: going to the background, saying when all is well, being told to stop.

Why.  ``agorafs mount`` must return 0 only when the mount answers, and otherwise say why and with which
status. What knows that is the serving process, and who is asked is its parent. So the fork comes first,
before there is a thread or a connection (threads do not survive a fork, and libraries do not expect it),
and a pipe stays between the two: the child writes one line, ``{"ready": true}`` or the message and status
of its failure. A child that dies without a word closes the pipe too, and is told apart by its wait status.

Signals.  libfuse's loop does not return to Python, so Python's signal handlers would not run, and libfuse
itself would leave on SIGHUP. Therefore SIGHUP, SIGTERM and SIGINT are blocked before any thread starts, so
that every thread inherits that, and one thread takes them with ``sigwait``.

Place.  Used by ``commands.mount`` and ``mount_process``; knows nothing of mounts.

Units.  Seconds.

Failure.  ``start_in_background`` raises ``UsageError`` with what the child reported.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NoReturn

from agorafs.errors import ExitStatus, UsageError

HANDLED_SIGNALS = frozenset({signal.SIGHUP, signal.SIGTERM, signal.SIGINT})
_MAX_REPORT_BYTES = 64 * 1024


class Report:
    """The child's end of the pipe: says once, to whom it may concern, that it is ready or why not.

    In the foreground there is no pipe (*descriptor* None) and the caller prints ``failure``. The first call
    wins. ``_lock`` guards all fields; the write under it can not wait, since a line is smaller than a pipe's
    buffer.
    """

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor
        self._is_said = False
        self._failure: tuple[str, ExitStatus] | None = None
        self._lock = threading.Lock()

    @property
    def is_said(self) -> bool:
        """Whether ready or failed was said."""
        with self._lock:
            return self._is_said

    @property
    def failure(self) -> tuple[str, ExitStatus] | None:
        """The message and status that ``failed`` was given, unless ``ready`` came before it."""
        with self._lock:
            return self._failure

    def ready(self) -> None:
        """Say that the mount is there."""
        self._say({"ready": True}, None)

    def failed(self, message: str, exit_status: ExitStatus) -> None:
        """Say why it will never be."""
        self._say(
            {"ready": False, "message": message[:4096], "exit_status": int(exit_status)},
            (message, exit_status),
        )

    def _say(self, words: dict[str, object], failure: tuple[str, ExitStatus] | None) -> None:
        with self._lock:
            if self._is_said:
                return
            self._is_said = True
            self._failure = failure
            if self._descriptor is not None:
                # The parent may have been killed meanwhile; then nobody is interested.
                with contextlib.suppress(BrokenPipeError):
                    os.write(self._descriptor, json.dumps(words).encode("ascii") + b"\n")
                os.close(self._descriptor)
                self._descriptor = None


def start_in_background(
    child: Callable[[Report], ExitStatus], *, log_file: Path, ready_timeout_s: float
) -> int:
    """Run *child* in a process of its own and return its process id once it said that it is ready.

    Must be called while this process has a single thread. The child has its own session, works in ``/``, has
    umask 077, reads nothing and writes to *log_file*.

    Raises:
        UsageError: What the child reported; or that it ended without a word, or took longer than
            *ready_timeout_s* (then it is killed).
        KeyboardInterrupt: As it came; the child is told to stop first.
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        _be_child(child, writer, log_file)
    os.close(writer)
    try:
        line = _read_report(reader, ready_timeout_s)
    except KeyboardInterrupt:
        os.kill(pid, signal.SIGTERM)
        os.waitpid(pid, 0)
        raise
    finally:
        os.close(reader)
    if line is None:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise UsageError(
            f"the mount was not ready within {ready_timeout_s:g} s; see {log_file}", ExitStatus.UNAVAILABLE
        )
    if not line.endswith(b"\n"):
        _, wait_status = os.waitpid(pid, 0)
        raise UsageError(f"the mount's process {_how_it_ended(wait_status)}; see {log_file}", ExitStatus.BUG)
    words = json.loads(line)
    if not words["ready"]:
        os.waitpid(pid, 0)
        raise UsageError(words["message"], ExitStatus(words["exit_status"]))
    return pid


def _read_report(reader: int, timeout_s: float) -> bytes | None:
    """Return the child's line, less than a line if it died, None if it said nothing in time."""
    line = b""
    give_up_at = time.monotonic() + timeout_s
    while not line.endswith(b"\n") and len(line) < _MAX_REPORT_BYTES:
        left_s = give_up_at - time.monotonic()
        if left_s <= 0 or not select.select([reader], [], [], left_s)[0]:
            return None
        part = os.read(reader, _MAX_REPORT_BYTES)
        if not part:
            break
        line += part
    return line


def _how_it_ended(wait_status: int) -> str:
    code = os.waitstatus_to_exitcode(wait_status)
    if code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return f"ended with status {code} without saying why"


def _be_child(child: Callable[[Report], ExitStatus], writer: int, log_file: Path) -> NoReturn:
    status = int(ExitStatus.BUG)
    try:
        # Before anything else: an interrupt from the terminal is the parent's, and reaches us through it.
        block_signals()
        os.setsid()
        os.chdir("/")
        os.umask(0o077)
        _redirect_standard_streams(log_file)
        _close_inherited(keep=writer)
        status = int(child(Report(writer)))
    finally:
        # Not sys.exit: what the parent has registered to happen at its exit is not ours to do.
        os._exit(status)


def _redirect_standard_streams(log_file: Path) -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    # What libfuse and a dying interpreter print belongs into the log; nowhere if there is none yet.
    try:
        output = os.open(log_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOCTTY, 0o600)
    except OSError:
        output = os.open(os.devnull, os.O_WRONLY)
    os.dup2(output, 1)
    os.dup2(output, 2)
    for descriptor in (null, output):
        if descriptor > 2:
            os.close(descriptor)


def _close_inherited(keep: int) -> None:
    # A caller's pipe or lock would otherwise stay open as long as the mount lives.
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 (numbers, not paths)
        descriptor = int(name)
        if descriptor > 2 and descriptor != keep:
            with contextlib.suppress(OSError):
                os.close(descriptor)


def block_signals() -> None:
    """Block the handled signals in this thread and those it will start. Call before there is another."""
    signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED_SIGNALS)


def handle_signals(actions: Mapping[signal.Signals, Callable[[], None]]) -> threading.Thread:
    """Start the thread that waits for blocked signals and calls their *actions*, one at a time.

    It ends with the process. An action must not raise.
    """

    def wait_for_signals() -> None:
        while True:
            number = signal.sigwait(actions.keys())
            actions[signal.Signals(number)]()

    thread = threading.Thread(target=wait_for_signals, name="signals", daemon=True)
    thread.start()
    return thread
