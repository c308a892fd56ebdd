"""Tasks through the kernel, as shells and programs meet them, checked with the vendor's connector."""

import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.connector import connected
from tests.support.waiting import eventually

PATIENCE_S = 60
PROJECT = "Neuro Study"
SERIES = "exams/Brain, volunteer/T1w 3D TFE"
DATASET = f"{SERIES}/DICOM dataset"


class Bench:
    """The demo's study project, mounted."""

    def __init__(self, server, mount):
        self.server = server
        self.mount = mount
        self.project = mount.path / "projects" / PROJECT
        self.tasks = self.project / "tasks"
        self.jobs = mount.path / ".agora" / "jobs"

    def shell(self, command, program="bash", cwd=None):
        """Run *command* in a shell; ``$M`` is the mount, ``$P`` the project."""
        return subprocess.run(
            [program, "-c", command],
            env={**os.environ, "M": str(self.mount.path), "P": str(self.project)},
            cwd=cwd or self.project,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )

    def start(self, task, line):
        """Run a task; return the directory of its job."""
        before = names_in(self.jobs)
        (self.tasks / task / "run").write_text(f"{line}\n")
        (number,) = names_in(self.jobs) - before
        return self.jobs / number

    def runs(self):
        """Return how many runs the server was asked for."""
        return sum(one["path"].endswith("/run/") for one in self.server.requests())

    def connector_tasks(self):
        """Return the tasks of the project as the vendor's connector sees them, by name."""
        with connected(self.server) as agora:
            (project,) = [one for one in agora.get_projects() if one.name == PROJECT]
            return {task.name: task for task in project.get_tasks()}


@pytest.fixture
def bench(private_demo, mount):
    private_demo.switch(task_speed="0")
    return Bench(private_demo, mount(private_demo))


def names_in(directory):
    return {path.name for path in directory.iterdir()}


def files_below(directory):
    """Return the paths of all files, those behind links too."""
    return sorted(
        Path(where) / name for where, _, names in os.walk(directory, followlinks=True) for name in names
    )


@pytest.mark.feature(
    50, how="`echo 'ds=exams/E/S/raw target=folders/out' > tasks/T/run`; `cat /.agora/jobs/1/wait`"
)
def test_a_run_ends_with_a_file_that_can_be_read_on_the_mount(bench):
    (bench.project / "folders" / "out").mkdir()
    assert bench.mount.run("sync", bench.mount.path).returncode == 0
    done = bench.shell(
        f"echo 'ds=\"{DATASET}\" algorithm=sha256 target=folders/out' > tasks/Checksum/run "
        '&& cat tasks/Checksum/run && cat "$M/.agora/jobs/1/wait"'
    )
    assert done.returncode == 0, done
    assert done.stdout.startswith("job 1: run Checksum ")
    assert done.stdout.endswith("finished\n")
    status = json.loads((bench.jobs / "1" / "status.json").read_text())
    assert (status["state"], status["error"]) == ("finished", "")
    (result,) = files_below(bench.jobs / "1" / "results")
    sums = dict(reversed(line.split(maxsplit=1)) for line in result.read_text().splitlines())
    files = files_below(bench.project / DATASET)
    assert sorted(sums.values()) == sorted(_sha256(path) for path in files)
    # and it stands where it was to go, without anybody asking for a refresh
    assert names_in(bench.project / "folders" / "out")


def _sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("shell", ["bash", "dash"])
def test_a_refused_run_is_the_exit_status_of_echo_and_the_reason_is_there_to_read(bench, shell):
    """The inputs of a task are checked before the server is asked to run it."""
    bench.server.reset_requests()
    done = bench.shell("echo 'ds=folders' > tasks/Checksum/run", program=shell)
    assert done.returncode != 0
    assert "Invalid argument" in done.stderr or "I/O error" in done.stderr
    reason = "ds: folders is a folder, not a dataset"
    assert (bench.tasks / "Checksum" / "run").read_text() == f"error: {reason}\n"
    assert os.getxattr(bench.tasks / "Checksum" / "run", "user.agora.error").decode() == reason
    assert bench.runs() == 0


def test_python_gets_the_errno_of_the_refusal(bench):
    bench.server.reset_requests()
    for line, number in [
        ("ds=folders", errno.EINVAL),
        ("ds=exams/none", errno.ENOENT),
        ("nothing", errno.EINVAL),
    ]:
        with pytest.raises(OSError) as caught, (bench.tasks / "Checksum" / "run").open("w") as stream:
            stream.write(f"{line}\n")
        assert caught.value.errno == number, line
    assert bench.runs() == 0


def test_waiting_fails_with_the_error_of_the_task(bench):
    """Reading `wait` returns when the job has ended, and fails with the task's error if it has failed."""
    bench.server.switch(task_fail="on")
    job = bench.start("Checksum", f'ds="{DATASET}"')
    done = bench.shell(f"cat {job}/wait")
    assert done.returncode == 1
    assert "Input/output error" in done.stderr
    status = json.loads((job / "status.json").read_text())
    assert status["state"] == "failed"
    assert status["error"]
    assert status["error"] in os.getxattr(job / "wait", "user.agora.error").decode()
    assert names_in(job / "results") == set()


def test_who_waits_can_be_interrupted_and_python_waits_on(bench):
    bench.server.switch(task_hold="on")
    job = bench.start("Checksum", f'ds="{DATASET}"')
    cat = subprocess.Popen(["cat", str(job / "wait")], stdout=subprocess.DEVNULL)
    reading = subprocess.Popen(
        [sys.executable, "-c", f"print(open({str(job / 'wait')!r}).read(), end='')"], stdout=subprocess.PIPE
    )
    eventually(lambda: _is_reading(cat.pid) and _is_reading(reading.pid), PATIENCE_S)
    cat.send_signal(signal.SIGINT)
    assert cat.wait(PATIENCE_S) == -signal.SIGINT
    bench.server.switch(task_hold="off")
    assert reading.communicate(timeout=PATIENCE_S)[0] == b"finished\n"


def _is_reading(pid):
    try:
        return Path(f"/proc/{pid}/syscall").read_text().startswith("0 ")  # read(2)
    except OSError:
        return False


def test_the_mount_answers_however_many_wait(bench):
    bench.server.switch(task_hold="on")
    job = bench.start("Checksum", f'ds="{DATASET}"')
    waiting = [subprocess.Popen(["cat", str(job / "wait")], stdout=subprocess.DEVNULL) for _ in range(40)]
    try:
        eventually(lambda: all(_is_reading(one.pid) for one in waiting[:1]), PATIENCE_S)
        started = time.monotonic()
        names = [names_in(bench.project / "exams") for _ in range(5)]
        assert time.monotonic() - started < 10
        assert all(names)
        bench.server.switch(task_hold="off")
        assert [one.wait(PATIENCE_S) for one in waiting] == [0] * 40
    finally:
        for one in waiting:
            one.kill()
            one.wait(PATIENCE_S)


def test_a_job_that_was_started_before_a_remount_is_still_there_and_is_followed(bench):
    """A job that was started before a remount, or before the mount was killed, is still there and is followed."""
    bench.server.switch(task_hold="on")
    job = bench.start("Checksum", f'ds="{DATASET}"')
    bench.mount.umount()
    bench.mount.mount()
    assert json.loads((job / "status.json").read_text())["state"] in ("queued", "running")
    bench.server.switch(task_hold="off")
    assert bench.shell(f"cat {job}/wait").stdout == "finished\n"
    assert files_below(job / "results")


def test_a_job_survives_the_death_of_the_mount(bench):
    """A job that was started before a remount, or before the mount was killed, is still there and is followed."""
    job = bench.start("Checksum", f'ds="{DATASET}"')
    bench.mount.kill(bench.mount.pid())
    bench.mount.mount()
    assert bench.shell(f"cat {job}/wait").stdout == "finished\n"


@pytest.mark.feature(48, 74, how="`ls /tasks`, `ls projects/P/tasks`")
@pytest.mark.feature(51, how="`cat tasks/T/syntax`")
def test_tasks_are_the_connectors_tasks(bench):
    tasks = bench.connector_tasks()
    assert {name.replace("/", "∕") for name in tasks} == names_in(bench.tasks)
    assert names_in(bench.mount.path / "tasks") == names_in(bench.tasks)
    syntax = (bench.tasks / "Checksum" / "syntax").read_text()
    for one in tasks["Checksum"].inputs:
        assert f"  {one['key']} " in syntax
    definition = json.loads((bench.mount.path / "tasks" / "Checksum" / "definition.json").read_text())
    assert definition["id"] == tasks["Checksum"].id


@pytest.mark.feature(52, how="write `tasks/T/definition.json`")
def test_a_definition_that_was_written_is_what_the_connector_sees(bench):
    path = bench.tasks / "Checksum" / "definition.json"
    body = json.loads(path.read_text())
    body["execute_template"] = "checksum {{ inputs.ds.file.path }} # changed"
    path.write_text(json.dumps(body))
    assert bench.connector_tasks()["Checksum"].execute_template.endswith("# changed")
    assert json.loads(path.read_text())["execute_template"].endswith("# changed")
    assert path.stat().st_size == len(path.read_bytes())


def test_a_definition_that_is_none_fails_at_close_and_changes_nothing(bench):
    path = bench.tasks / "Checksum" / "definition.json"
    before = path.read_bytes()
    with pytest.raises(OSError) as caught, path.open("w") as stream:
        stream.write('{"name": "x",\n oh}')
    assert caught.value.errno == errno.EINVAL
    assert os.getxattr(path, "user.agora.error").decode().startswith("line 2, column ")
    assert path.read_bytes() == before


@pytest.mark.feature(53, 107, how="`rm tasks/T/definition.json`")
@pytest.mark.feature(106, how="`cp task.json tasks/NAME.json`, `mkdir tasks/NAME`")
def test_tasks_are_made_renamed_and_deleted_by_file_operations(bench, tmp_path):
    file = tmp_path / "x.json"
    body = json.loads((bench.tasks / "Checksum" / "definition.json").read_text())
    file.write_text(json.dumps({**body, "name": "Sums/Other"}))
    done = bench.shell(f"cp {file} tasks/x.json && mkdir tasks/New && mv tasks/New 'tasks/Sums∕New'")
    assert done.returncode == 0, done
    tasks = bench.connector_tasks()
    assert {"Sums/Other", "Sums/New"} < set(tasks)
    assert [one["key"] for one in tasks["Sums/Other"].inputs] == ["ds", "algorithm"]
    done = bench.shell("rm 'tasks/Sums∕New/definition.json' && rm -rf 'tasks/Sums∕Other' && ls tasks")
    assert done.returncode == 0, done
    assert "Sums" not in done.stdout
    assert not {"Sums/Other", "Sums/New"} & set(bench.connector_tasks())


@pytest.mark.feature(49, how="`agorafs run task:5`")
@pytest.mark.feature(105, how="as other tasks; `script:7`")
def test_agorafs_run_waits_and_names_the_results(bench):
    tasks = bench.connector_tasks()
    script = tasks["Checksum of a study"]
    for words in [
        ("Checksum", f"ds={DATASET}", "--project", PROJECT),
        (f"task:{tasks['Checksum'].id}", f"ds={bench.project}/{DATASET}"),
        (bench.tasks / "Checksum", f"ds={DATASET}"),
        (f"script:{script.id}", f"study={bench.project}/exams/Brain, volunteer", "algorithm=sha1"),
    ]:
        done = bench.mount.run("run", *words, "--wait")
        assert (done.returncode, done.stderr) == (0, ""), done
        assert all(Path(line).exists() for line in done.stdout.splitlines())
        assert done.stdout
    refused = bench.mount.run("run", "Checksum", "ds=exams", "--project", PROJECT, "--wait")
    assert refused.returncode == 2, refused
    bench.server.switch(task_fail="on")
    failed = bench.mount.run("run", "Checksum", f"ds={DATASET}", "--project", PROJECT, "--wait")
    assert failed.returncode == 1
    assert "has failed: " in failed.stderr
