"""``agorafs control``, ``pin`` and ``unpin`` from outside, over a mount that is a fake."""

import json
import subprocess

import pytest

from agorafs.errors import BadCommand, ExitStatus
from agorafs.mount_requests import handlers
from tests.cli.fake_layers import FakeStack
from tests.cli.program import TIMEOUT_S


def mounted(program, **wanted):
    program.set_plan(**wanted)
    assert program.mount().returncode == 0
    program.set_plan(mounted=True, **wanted)


def events(program):
    return [event for event in program.events() if not event.startswith(("connect", "serve"))]


def run_with_input(program, text, *arguments):
    return subprocess.run(
        program.command(*arguments), env=program.environment(), input=text, capture_output=True, text=True,
        timeout=TIMEOUT_S, check=False,
    )  # fmt: skip


def test_the_words_reach_the_mount_as_they_are_and_its_answer_is_printed(program):
    mounted(program)
    done = program.run("control", program.mountpoint / "projects" / "P", "tag", "exams/a b", "it's good")
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")
    assert events(program) == ["""control /projects/P ['tag', 'exams/a b', "it's good"] []"""]


def test_the_answer_is_printed_as_json_when_that_is_asked_for(program):
    mounted(program, control_data={"job": 3})
    done = program.run("control", program.mountpoint, "run", "Recon", "--json")
    assert json.loads(done.stdout) == {"ok": True, "answer": "done", "job": 3}


@pytest.mark.parametrize(
    ("error", "status"),
    [
        ("BadCommand", ExitStatus.USAGE),
        ("PermissionDenied", ExitStatus.NOT_AUTHENTICATED),
        ("NotFound", ExitStatus.FAILED),
    ],
)
def test_a_refusal_is_one_line_and_an_exit_status(program, error, status):
    mounted(program, control_refused=[error, "there is no exams/E"])
    done = program.run("control", program.mountpoint, "rate", "exams/E", "3")
    assert (done.returncode, done.stdout, done.stderr) == (status, "", "agorafs: there is no exams/E\n")


def test_a_password_comes_from_standard_input_and_is_seen_nowhere(program):
    mounted(program)
    done = run_with_input(
        program, "hunter2\n", "control", program.mountpoint, "create-user", "ann", "--password-stdin"
    )
    assert (done.returncode, done.stdout) == (0, "done\n")
    assert events(program) == ["control / ['create-user', 'ann'] ['password']"]
    assert "hunter2" not in program.everything_written() + done.stdout + done.stderr


def test_an_argument_from_standard_input_may_be_json(program):
    mounted(program)
    done = run_with_input(
        program, '[{"name": "a"}]', "control", program.mountpoint, "import-tasks", "--stdin", "tasks"
    )
    assert (done.returncode, events(program)) == (0, ["control / ['import-tasks'] ['tasks']"])
    done = run_with_input(program, "[{", "control", program.mountpoint, "import-tasks", "--stdin", "tasks")
    assert done.returncode == ExitStatus.USAGE and "not JSON" in done.stderr


def test_what_is_on_no_mount_is_refused(program):
    done = program.run("control", program.home, "help")
    assert done.returncode == ExitStatus.MOUNT_POINT


def test_pin_waits_until_all_is_here_and_says_how_much(program):
    looks = [
        {"state": "running", "progress": "1 of 2 bytes"},
        {"state": "finished", "progress": "1 files, 2 bytes"},
    ]
    mounted(program, control_data={"job": 3}, running=looks)
    done = program.run("pin", program.mountpoint / "projects" / "P")
    assert (done.returncode, done.stdout) == (0, f"{program.mountpoint}/projects/P: 1 files, 2 bytes\n")
    assert events(program) == ["control / ['pin', '/projects/P'] []"]


def test_pin_fails_with_the_reason_of_its_job(program):
    mounted(
        program, control_data={"job": 3}, running=[{"state": "failed", "error": "no room: unpin something"}]
    )
    done = program.run("pin", program.mountpoint)
    assert (done.returncode, done.stderr) == (ExitStatus.FAILED, "agorafs: no room: unpin something\n")


def test_pin_alone_names_what_is_pinned_and_unpin_lets_go(program):
    mounted(program, control_data={"pins": [{"path": "/projects/P", "bytes": 2048, "object": "project:1"}]})
    assert program.run("pin").stdout == f"{program.mountpoint}/projects/P 2.0 KiB\n"
    assert program.run("unpin", program.mountpoint / "projects").stdout == "done\n"
    assert events(program) == ["control / ['pin'] []", "control / ['unpin', '/projects'] []"]


class Noted:
    """What a fake stack was asked."""

    def __init__(self):
        self.events: list[str] = []

    def get(self, name):
        return None

    def note(self, event):
        self.events.append(event)


@pytest.mark.parametrize(
    "fields",
    [{}, {"words": []}, {"words": "help"}, {"words": [3]}, {"words": ["help"], "fields": []},
     {"words": ["help"], "path": "projects"}],
)  # fmt: skip
def test_a_request_that_is_no_command_is_refused_and_not_passed_on(fields):
    plan = Noted()
    with pytest.raises(BadCommand):
        handlers(FakeStack(plan))["control"](fields)
    assert plan.events == []
