"""``agorafs run`` from outside, over a mount that is a fake."""

import json

import pytest

from agorafs.errors import ExitStatus

QUEUED = {"state": "queued"}
RUNNING = {"state": "running", "progress": "40 %"}
FINISHED = {"state": "finished", "results": ["dataset:9", "folder:12"]}


def mounted(program, **wanted):
    program.set_plan(**wanted)
    assert program.mount().returncode == 0
    program.set_plan(mounted=True, **wanted)


def runs(program):
    """Return what the mount was asked to run."""
    return [event for event in program.events() if event.startswith("run ")]


def test_a_task_is_started_and_the_job_is_named(program):
    mounted(program)
    done = program.run("run", "Recon", "ds=exams/E/S", "size=1024", "--project", "P", cwd=program.home)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"job 3: {program.mountpoint}/.agora/jobs/3\n"
    inputs = json.dumps({"ds": "exams/E/S", "size": "1024"})
    assert runs(program) == [f"run Recon in /projects/P {inputs} target=None outside=None"]


def test_paths_are_meant_from_the_working_directory_unless_a_project_is_named(program):
    mounted(program)
    assert program.run("run", "Recon", "ds=S", cwd=program.home).returncode == 0
    assert runs(program)[0].endswith(f"outside={program.home}")


def test_with_wait_it_ends_with_the_run_and_names_the_results(program):
    mounted(program, running=[QUEUED, RUNNING, FINISHED])
    done = program.run("run", "Recon", "--project", "P", "--target", "folders/out", "--wait")
    assert (done.returncode, done.stderr) == (0, "")
    results = f"{program.mountpoint}/.agora/jobs/3/results"
    assert done.stdout.splitlines() == [f"{results}/dataset-9", f"{results}/folder-12"]
    assert "target=folders/out" in runs(program)[0]


@pytest.mark.parametrize(
    ("state", "words"),
    [("failed", "has failed: no GPU"), ("cancelled", "was cancelled"), ("interrupted", "was interrupted")],
)
def test_a_run_that_does_not_end_well_is_told_by_the_exit_status_and_in_words(program, state, words):
    error = "no GPU" if state == "failed" else ""
    mounted(program, running=[{"state": state, "error": error}])
    done = program.run("run", "Recon", "--wait", "--project", "P")
    assert done.returncode == ExitStatus.FAILED
    assert done.stderr == (f"agorafs: run Checksum {words}; see {program.mountpoint}/.agora/jobs/3/log\n")


def test_what_the_task_does_not_want_is_told_and_no_job_is_named(program):
    mounted(program, run_refused=["BadCommand", "size: must be a whole number, not 'x'"])
    done = program.run("run", "Recon", "size=x", "--project", "P", "--wait")
    assert (done.returncode, done.stdout) == (ExitStatus.USAGE, "")
    assert done.stderr == "agorafs: size: must be a whole number, not 'x'\n"


def test_a_run_that_takes_too_long_goes_on_and_the_exit_status_says_so(program):
    mounted(program, running=[{**RUNNING, "waiting": "the server is away"}])
    done = program.run("run", "Recon", "--project", "P", "--wait", "--timeout", "0.2")
    assert done.returncode == ExitStatus.UNAVAILABLE
    assert "job 3 has not ended; waiting: the server is away; see " in done.stderr


def test_a_task_is_given_by_its_directory_too(program):
    mounted(program)
    task = program.mountpoint / "projects" / "P" / "tasks" / "Recon"
    done = program.run("run", task, "ds=exams/E/S", cwd=program.home)
    assert done.returncode == 0, done.stderr
    assert runs(program)[0].startswith(f"run {task} in /projects/P ")


def test_values_keep_everything_behind_the_first_equals_sign(program):
    mounted(program)
    assert program.run("run", "task:5", "a=b=c d", "empty=").returncode == 0
    assert '{"a": "b=c d", "empty": ""}' in runs(program)[0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["size"], "size is not KEY=VALUE"),
        (["=5"], "=5 is not KEY=VALUE"),
        (["a=1", "a=2"], "a is given twice"),
        (["--timeout", "5"], "--timeout needs --wait"),
        (["--project", "a/b"], "is not the name of a project"),
    ],
)
def test_what_can_not_be_meant_is_refused_before_the_mount_is_asked(program, arguments, words):
    mounted(program)
    done = program.run("run", "Recon", *arguments)
    assert done.returncode == ExitStatus.USAGE
    assert words in done.stderr
    assert runs(program) == []


def test_without_a_mount_there_is_nothing_to_run(program):
    done = program.run("run", "Recon")
    assert done.returncode == ExitStatus.MOUNT_POINT
    assert "there is no mount" in done.stderr


def test_with_several_mounts_it_must_be_said_which(program):
    mounted(program)
    other = program.home / "other"
    other.mkdir()
    program.set_plan()
    assert program.mount(at=other).returncode == 0
    program.set_plan(mounted=True)
    done = program.run("run", "Recon", "--project", "P", cwd=program.home)
    assert (done.returncode, runs(program)) == (ExitStatus.USAGE, [])
    assert "there are 2 mounts: say --mount MOUNTPOINT" in done.stderr
    assert program.run("run", "Recon", "--project", "P", "--mount", other).stdout == (
        f"job 3: {other}/.agora/jobs/3\n"
    )
