"""The control file through the kernel: what shells and Python see of it, and what the server has afterwards.

The shells are those that people have: bash, whose ``echo`` names the reason in words, and dash, which does not.
"""

from __future__ import annotations

import errno
import json
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.support.connector import connected
from tests.support.mount import Mount
from tests.support.sandbox import SandboxProcess
from tests.support.waiting import eventually

EXAM = "Brain, volunteer"
SHELLS = ["bash", "dash"]


def names_in(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()]


@pytest.fixture(scope="module")
def place(tmp_path_factory, demo_data):
    data = tmp_path_factory.mktemp("control-demo") / "data"
    shutil.copytree(demo_data, data)
    with (
        SandboxProcess(data) as server,
        Mount(server.url, server.api_key, tmp_path_factory.mktemp("control"), "allow_delete") as mount,
        connected(server) as agora,
    ):
        yield Place(server, mount, agora)


class Place:
    """The demo's study project, mounted, and the vendor's connector beside it."""

    def __init__(self, server: SandboxProcess, mount: Mount, agora: Any) -> None:
        self.server = server
        self.mount = mount
        self.project = mount.path / "projects" / "Neuro Study"
        self.control = self.project / ".agora" / "control"
        self.agora = agora

    def run(self, shell: str, script: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [shell, "-c", script], cwd=self.project, capture_output=True, text=True, timeout=60, check=False
        )

    def say(self, command: str) -> str:
        """Give a command and return its answer, as a program does."""
        with self.control.open("r+b", buffering=0) as file:
            file.write(command.encode() + b"\n")
            file.seek(0)
            return file.read().decode()

    def exam(self, name: str = EXAM):
        (found,) = (exam for exam in self.agora.get_exam_list() if exam.name == name)
        return found

    def job(self, answer: str) -> str:
        """Wait for the job that *answer* names and return how it ended."""
        number = answer.split()[1].rstrip(":")
        eventually(
            lambda: "running" not in self.say(f"job {number}") and "queued" not in self.say(f"job {number}"),
            60,
        )
        return self.say(f"job {number}")


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_sees_what_was_done_and_what_was_refused(place, shell):
    done = place.run(shell, f"echo 'rate \"exams/{EXAM}\" 3' > .agora/control && cat .agora/control")
    assert (done.returncode, done.stdout) == (0, f"rated /projects/Neuro Study/exams/{EXAM} 3\n")
    assert place.exam().get_rating().value == 3
    done = place.run(shell, f"echo 'rate \"exams/{EXAM}\" 9' > .agora/control || cat .agora/control")
    assert done.stdout == "error: rate: value (stars) is a number from 0 to 5\n"
    assert done.stderr != ""
    assert place.exam().get_rating().value == 3


def test_bash_names_the_errno_of_each_refusal(place):
    for command, words in (
        ("rtae x 3", "Invalid argument"),
        ("rate exams/nothing 3", "No such file or directory"),
        (f'relate "exams/{EXAM}" "exams/{EXAM}"', "Operation not supported"),
        (f'move "exams/{EXAM}" folders', "Operation not permitted"),
    ):
        done = place.run("bash", f"echo '{command}' > .agora/control")
        assert done.returncode != 0 and words in done.stderr, command


def test_a_script_of_commands_stops_where_one_is_refused_and_all_answers_are_there(place):
    place.run("bash", "printf 'help tag\\nrate nothing 1\\n' > .agora/control")
    answers = place.control.read_text()
    assert answers.startswith("tag PATH LABELS…\n") and answers.splitlines()[-1].startswith("error: ")


def test_one_descriptor_of_a_shell_gives_commands_and_reads_answers_in_turn(place):
    script = (
        f"exec 3<>.agora/control; echo 'lock \"exams/{EXAM}\"' >&3; cat <&3; "
        f"echo 'unlock \"exams/{EXAM}\"' >&3; cat <&3"
    )
    done = place.run("bash", script)
    assert done.stdout.splitlines() == [
        f"{word} /projects/Neuro Study/exams/{EXAM}" for word in ("locked", "unlocked")
    ]


def test_python_gets_the_errno_and_the_reason(place):
    with pytest.raises(OSError) as caught:
        place.control.write_text("rate exams/nothing 3\n")
    assert caught.value.errno == errno.ENOENT
    assert "exams/nothing" in place.control.read_text()
    with pytest.raises(OSError) as caught:
        place.control.write_text("no such command")  # without an end of its line: told by close
    assert caught.value.errno == errno.EINVAL


def test_a_command_that_can_not_be_understood_asks_nobody(place):
    """A command that can not be understood sends no request."""
    assert place.control.stat()
    place.server.reset_requests()
    for command in (
        "rtae exams 3",
        "rate exams/x",
        "rate exams/x 9",
        "tag exams/x",
        "lock 'exams",
        '{"command": 7}',
    ):
        with pytest.raises(OSError) as caught:
            place.control.write_text(f"{command}\n")
        assert caught.value.errno == errno.EINVAL, command
    assert place.server.requests() == []


def test_json_is_answered_by_json(place):
    answer = json.loads(
        place.say(json.dumps({"command": "tag", "path": f"exams/{EXAM}", "labels": ["from json"]}))
    )
    assert answer["ok"] is True and answer["objects"][0]["path"].endswith(EXAM)
    assert "from json" in [tag.label for tag in place.exam().get_tags()]


def test_writers_at_once_get_their_own_answers(place):
    """Who gives commands at the same time reads the answers to their own."""
    names = ["folders", "exams", "patients", "tags", "tasks", "trash"]
    found = {}

    def work(name: str) -> None:
        found[name] = [place.say(f"refresh {name}") for _ in range(10)]

    threads = [threading.Thread(target=work, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == {name: [f"refreshed /projects/Neuro Study/{name}\n"] * 10 for name in names}


def test_processes_of_eight_terminals_at_once_get_their_own_answers(place):
    """Who gives commands at the same time reads the answers to their own; also each with ``echo``, and then ``cat``."""
    verbs = ["lock", "tag", "rate", "link", "copy", "move", "rename", "refresh"]
    script = """
        for _ in 1 2 3 4 5 6 7 8 9 10; do
            echo "help $1" > .agora/control && head -n 1 .agora/control || exit
        done
    """
    started = [
        subprocess.Popen(
            ["sh", "-c", script, "sh", verb],
            cwd=place.project,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        for verb in verbs
    ]
    for verb, process in zip(verbs, started, strict=True):
        answers = process.communicate(timeout=60)[0].splitlines()
        assert process.returncode == 0
        assert [answer.split()[0] for answer in answers] == [verb] * 10


def test_what_was_changed_is_seen_on_the_mount_at_once(place):
    """What this mount has changed is seen on it at once."""
    exams = place.project / "exams"
    assert EXAM in names_in(exams)
    place.say(f'rename "exams/{EXAM}" Renamed')
    assert "Renamed" in names_in(exams) and EXAM not in names_in(exams)
    assert place.exam("Renamed").name == "Renamed"
    place.say(f'rename exams/Renamed "{EXAM}"')
    assert EXAM in names_in(exams)


def test_a_copy_of_an_exam_to_another_project_is_a_job_that_ends_with_the_copy_on_the_mount(place):
    assert place.say("create-project Copies").startswith("created project:")
    job = place.job(place.say(f'copy "exams/{EXAM}" /projects/Copies'))
    assert "finished" in job
    assert EXAM in names_in(place.mount.path / "projects" / "Copies" / "exams")
    (project,) = (one for one in place.agora.get_projects() if one.name == "Copies")
    assert [exam.name for exam in project.get_exams()] == [EXAM]


def test_a_patient_is_deleted_with_his_exams_where_the_mount_allows_it(place):
    patients = {patient.name: patient for patient in place.agora.get_patients()}
    name = sorted(patients)[-1]
    exams = {exam.id for exam in patients[name].get_exams()}
    place.say(f"delete patient:{patients[name].id}")
    assert patients[name].id not in {patient.id for patient in place.agora.get_patients()}
    assert not exams & {exam.id for exam in place.agora.get_exam_list()}


def test_tasks_of_a_project_go_to_another_as_a_file(place):
    exported = place.mount.run("control", place.project, "export-tasks")
    assert exported.returncode == 0, exported.stderr
    names = sorted(task["name"] for task in json.loads(exported.stdout))
    place.say("create-project Tasks")
    done = place.mount.run(
        "control", place.mount.path, "copy-settings", "/projects/Neuro Study", "to=/projects/Tasks"
    )
    assert done.returncode == 0, done.stderr
    (project,) = (one for one in place.agora.get_projects() if one.name == "Tasks")
    assert sorted(task.name for task in project.get_tasks()) == names


def test_what_is_pinned_is_read_without_a_request_and_listed_until_it_is_unpinned(place):
    exam = place.project / "exams" / EXAM
    done = place.mount.run("pin", exam)
    assert done.returncode == 0, done.stderr
    place.server.reset_requests()
    files = [path for path in exam.rglob("*") if path.is_file()]
    assert all(path.read_bytes() for path in files if path.stat().st_size)
    assert not [one for one in place.server.requests() if "download" in one["path"]]
    assert str(exam) in place.mount.run("pin").stdout
    assert place.mount.run("unpin", exam).returncode == 0
    assert place.mount.run("pin").stdout == ""


def test_a_read_only_mount_refuses_changes_and_answers_questions(demo, mount):
    """The kernel opens nothing there for writing; ``agorafs control`` asks all the same."""
    one = mount(demo, "ro")
    project = one.path / "projects" / "Neuro Study"
    with pytest.raises(OSError) as caught:
        (project / ".agora" / "control").write_text("help\n")
    assert caught.value.errno == errno.EROFS
    assert one.run("control", project, "help", "rate").stdout.startswith("rate PATH VALUE")
    done = one.run("control", project, "rate", f"exams/{EXAM}", "1")
    assert (done.returncode, "read-only" in done.stderr) == (1, True)
