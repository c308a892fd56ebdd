"""Going to the background: the parent learns what became of the child, whatever became of it.

Each test runs a small program of its own, since a fork belongs into a process with one thread.
"""

import os
import subprocess
import sys
import textwrap

import pytest

from agorafs.errors import ExitStatus

_PROGRAM = """
import os, sys, time
from pathlib import Path
from agorafs.daemon import Report, start_in_background
from agorafs.errors import ExitStatus, UsageError

def child(report):
{child}

try:
    pid = start_in_background(child, log_file=Path(sys.argv[1]), ready_timeout_s={timeout_s})
    print("ready", os.getpgid(pid) == pid)
except UsageError as error:
    print(int(error.exit_status), error)
"""


@pytest.fixture
def run(tmp_path):
    """Return a function that runs a program whose background child is *child*; returns what it printed."""

    def start(child, timeout_s=30.0, **more):
        program = _PROGRAM.format(child=textwrap.indent(textwrap.dedent(child), "    "), timeout_s=timeout_s)
        done = subprocess.run(
            [sys.executable, "-c", program, str(tmp_path / "log")],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
            **more,
        )
        assert done.stderr == ""
        return done.stdout.strip()

    return start


def test_the_parent_returns_when_the_child_is_ready(run):
    assert run("report.ready(); return ExitStatus.OK") == "ready True"


def test_a_failure_comes_with_its_words_and_status(run):
    said = run("report.failed('the key was refused', ExitStatus.NOT_AUTHENTICATED); return ExitStatus.OK")
    assert said == f"{int(ExitStatus.NOT_AUTHENTICATED)} the key was refused"


def test_the_first_word_counts(run):
    assert run("report.ready(); report.failed('x', ExitStatus.BUG); return ExitStatus.OK") == "ready True"


@pytest.mark.parametrize(
    ("ending", "words"),
    [
        ("os._exit(3)", "ended with status 3 without saying why"),
        ("os.kill(os.getpid(), 9)", "was killed by SIGKILL"),
        ("raise ZeroDivisionError('detail')", "ended with status 70 without saying why"),
    ],
)
def test_a_child_that_dies_silently_is_noticed(run, tmp_path, ending, words):
    said = run(ending)
    assert said.startswith(f"{int(ExitStatus.BUG)} the mount's process {words}")
    assert str(tmp_path / "log") in said, "and the log is named"


def test_a_child_that_is_never_ready_is_killed(run):
    said = run("Path('/proc/self/stat').read_text(); time.sleep(3600)", timeout_s=0.1)
    assert said.startswith(f"{int(ExitStatus.UNAVAILABLE)} the mount was not ready within 0.1 s")


def test_the_child_keeps_nothing_of_where_it_was_started(run, tmp_path):
    """A directory, a terminal or a pipe that a daemon keeps can not be unmounted, closed or read to its end."""
    reader, writer = os.pipe()
    log = tmp_path / "log"
    run(
        """
        print("this goes to the log", flush=True)
        state = [os.getcwd(), os.getsid(0) == os.getpid(), sys.stdin.read(), os.umask(0)]
        print(state, sorted(os.listdir("/proc/self/fd"))[:3], flush=True)
        report.ready()
        return ExitStatus.OK
        """,
        pass_fds=(writer,),
        cwd=tmp_path,
    )
    os.close(writer)
    assert os.read(reader, 1) == b"", "the inherited end of the pipe is closed"
    os.close(reader)
    assert log.read_text() == f"this goes to the log\n['/', True, '', {0o077}] ['0', '1', '2']\n"
    assert log.stat().st_mode & 0o777 == 0o600
