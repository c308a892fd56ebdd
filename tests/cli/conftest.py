"""For the tests of the command: the program, and the end of what it has started."""

import signal

import pytest

from tests.cli.program import Program


@pytest.fixture
def program(tmp_path):
    """Return the program in a home directory of its own; its mounts are ended with the test."""
    program = Program(tmp_path)
    yield program
    for pid in program.pids():
        program.stop(pid, signal.SIGKILL)
