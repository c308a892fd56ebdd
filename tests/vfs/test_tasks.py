"""Tasks on paths: inputs are checked before the server is asked, definitions are files, a run is a job."""

import errno
import json
from dataclasses import replace

import pytest

from agorafs.client.records import Kind, RemoteRef, Role
from agorafs.client.task_records import Task
from agorafs.errors import (
    BadCommand,
    IsADirectory,
    NotEmpty,
    NotFound,
    NotPermitted,
    PermissionDenied,
    ReadOnly,
    RemoteUnavailable,
    UsageError,
)
from agorafs.tree.listing import Area
from agorafs.vfs.aside import Caller
from agorafs.vfs.errno_map import outcome_of
from agorafs.vfs.jobs import Jobs
from agorafs.vfs.tasks.definitions import Definitions
from agorafs.vfs.tasks.runner import TaskRunner, parse_arguments
from agorafs.vfs.tasks.syntax import syntax_text
from agorafs.vfs.views.tasks import TaskView
from tests.support.memory_tasks import ChangingTasks
from tests.vfs.world import World

TYPES = {
    "exam": 1, "series": 2, "dataset": 3, "file": 4, "string": 5, "integer": 6, "float": 7, "select": 8, "folder": 9,
    "static": 10, "bool": 11,
}  # fmt: skip
ANN = Caller(1000, 7)
TASK_DIR = ["projects", "P", "tasks", "T"]


def an_input(key, type_, **fields):
    """Return an input as the server describes it."""
    return {"id": 1, "key": key, "name": key, "type": TYPES[type_], "required": True, **fields}


class Bench:
    """A project ``P`` with an exam ``E``, a series ``S``, datasets in it, a folder ``out``; and its tasks."""

    def __init__(self, directory, *, is_read_only=False, roles=()):
        self.world = World(directory / "world", roles=roles)
        self.archive = self.world.archive
        self.tasks = ChangingTasks(self.archive)
        self.archive.tasks = self.tasks
        self.project = self.world.project
        self.exam = self.archive.add_exam(self.project.id, "E")
        self.series = self.archive.add_series(self.exam.id, "S")
        self.raw = self.archive.add_dataset(
            {"a.raw": b"raw", "a.lab": b"lab"}, series=self.series.id, name="raw"
        )
        self.nifti = self.archive.add_dataset({"brain.nii": b"nii"}, series=self.series.id)
        self.out = self.archive.add_folder("out", self.world.root)
        self.archive.add_item(self.world.root, "exam", self.exam.id, self.exam, is_link=True)
        self.jobs = Jobs(
            directory / "jobs", self.tasks, self.tasks, on_ended=lambda job: None, clock=self.world.clock
        )
        self.runner = TaskRunner(
            self.tasks,
            self.jobs,
            self.world.tree,
            lambda: self.world.filesystem.objects,
            is_read_only=is_read_only,
        )
        self.view = TaskView(
            Definitions(self.tasks, self.world.tree.changed, removed_tasks=directory / "removed"), self.runner
        )

    def close(self):
        self.jobs.close()
        self.world.close()

    def define(self, *inputs, name="T", **fields):
        """Put a task with *inputs* into the project."""
        return self.tasks.define(self.project.id, {"name": name, "inputs": list(inputs), **fields})

    def run(self, task, *, directory=TASK_DIR, target=None, **arguments):
        """Run *task*; return the inputs that the server was sent."""
        self.runner.run(task, arguments, directory=directory, target=target)
        return self.tasks.changes[-1][3]

    def refusal(self, task, error=BadCommand, **arguments):
        """Run *task*, which is refused; return the words, and see that nobody was asked to run anything."""
        with pytest.raises(error) as caught:
            self.runner.run(task, arguments, directory=TASK_DIR)
        assert self.tasks.changes == []
        assert self.jobs.numbers() == []
        return str(caught.value)

    def node(self, *names):
        return self.world.tree.resolve(["projects", "P", *names])

    def names(self):
        return list(self.world.tree.listing(self.node("tasks")).entries)

    def open(self, name, task="T", caller=ANN):
        """Open ``tasks/TASK/NAME``."""
        return self.view.file(self.node("tasks", task, name)).open(caller)

    def read(self, name, task="T", caller=ANN):
        source = self.open(name, task, caller)
        if isinstance(source, bytes):
            return source
        view = memoryview(bytearray(1 << 20))
        return bytes(view[: source.read_into(0, view)])

    def write(self, data, name="definition.json", task="T"):
        handle = self.open(name, task)
        handle.truncate(0)
        handle.write(0, data)
        handle.flush()
        handle.close()


@pytest.fixture
def bench(tmp_path):
    bench = Bench(tmp_path)
    yield bench
    bench.close()


# -- objects as inputs ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("type_", "path"),
    [
        ("exam", "exams/E"),
        ("series", "exams/E/S"),
        ("dataset", "exams/E/S/raw"),
        ("dataset", "exams/E/S/brain.nii"),
        ("folder", "folders/out"),
        ("folder", "folders"),
    ],
)
def test_an_object_is_given_by_its_path_and_sent_by_its_number(bench, type_, path):
    expected = {
        "exam": bench.exam.id,
        "series": bench.series.id,
        "exams/E/S/raw": bench.raw.id,
        "exams/E/S/brain.nii": bench.nifti.id,
        "folders/out": bench.out.id,
        "folders": bench.world.root,
    }
    number = expected.get(path, expected.get(type_))
    assert bench.run(bench.define(an_input("x", type_)), x=path) == {
        "x": {"object_id": number, "object_type": type_}
    }


def test_paths_are_meant_from_the_directory_of_the_task_or_from_its_project(bench):
    task = bench.define(an_input("x", "series"))
    sent = {"x": {"object_id": bench.series.id, "object_type": "series"}}
    assert bench.run(task, x="../../exams/E/S") == sent
    assert bench.run(task, x="exams/E/S") == sent
    bench.world.filesystem.mounted_at("/mnt/agora")
    assert bench.run(task, x="/mnt/agora/projects/P/exams/E/S") == sent


def test_a_path_on_the_command_line_is_meant_from_its_working_directory(bench):
    task = bench.define(an_input("x", "series"))
    bench.world.filesystem.mounted_at("/mnt/agora")

    def run(text, outside):
        bench.runner.run(task, {"x": text}, directory=["projects", "P"], outside=outside)

    run("S", "/mnt/agora/projects/P/exams/E")
    run("agora/projects/P/exams/E/S", "/mnt")
    run("exams/E/S", "/home/ann")  # nothing of the mount: then in the project
    assert len({str(change) for change in bench.tasks.changes}) == 1
    with pytest.raises(NotFound):
        run("exams/E/S", "/mnt/agora/projects")


def test_a_number_means_its_object_whatever_the_working_directory(bench):
    task = bench.define(an_input("x", "series"))
    bench.world.filesystem.mounted_at("/mnt/agora")
    for outside in ("/mnt/agora/projects/P/exams", "/home/ann", None):
        bench.runner.run(
            task, {"x": f"series:{bench.series.id}"}, directory=["projects", "P"], outside=outside
        )
    assert len({str(change) for change in bench.tasks.changes}) == 1


def test_what_is_nowhere_is_said_to_be_missing_in_the_project_and_not_beside_the_file_run(bench):
    task = bench.define(an_input("x", "series"))
    with pytest.raises(NotFound, match=r"^x: /projects/P/exams/none does not exist"):
        bench.runner.run(task, {"x": "exams/none"}, directory=["projects", "P", "tasks", "T"])


@pytest.mark.parametrize(
    ("type_", "kind"), [("exam", "exam"), ("exam", "study"), ("series", "series"), ("series", "serie")]
)
def test_an_object_is_given_by_kind_and_number_under_either_name_of_the_kind(bench, type_, kind):
    number = getattr(bench, type_).id
    sent = bench.run(bench.define(an_input("x", type_)), x=f"{kind}:{number}")
    assert sent == {"x": {"object_id": number, "object_type": type_}}


@pytest.mark.parametrize("form", ["number", "object"])
def test_a_program_may_give_an_object_as_the_vendors_connector_does(bench, form):
    value = bench.exam.id if form == "number" else {"object_id": bench.exam.id, "object_type": "exam"}
    sent = bench.run(bench.define(an_input("x", "exam")), x=value)
    assert sent == {"x": {"object_id": bench.exam.id, "object_type": "exam"}}


def test_a_link_stands_for_what_it_leads_to(bench):
    sent = bench.run(bench.define(an_input("x", "exam")), x="folders/E")
    assert sent == {"x": {"object_id": bench.exam.id, "object_type": "exam"}}


def test_an_object_of_another_kind_is_refused_in_words(bench):
    task = bench.define(an_input("x", "series"))
    assert bench.refusal(task, x="exams/E") == "x: exams/E is an exam, not a series"
    assert "is a folder, not a series" in bench.refusal(task, x="folders")
    assert "must be a path, or such as series:57" in bench.refusal(task, x=None)
    assert "must be a path" in bench.refusal(task, x=["exams/E"])
    assert "is no kind of object" in bench.refusal(task, x={"object_id": 5, "object_type": "chair"})


def test_a_file_of_a_dataset_of_several_is_not_the_dataset(bench):
    said = bench.refusal(bench.define(an_input("x", "dataset")), x="exams/E/S/raw/a.raw")
    assert said == "x: exams/E/S/raw/a.raw is a file, not a dataset: give the directory that it is in"


@pytest.mark.parametrize("text", ["exams/E/T", "exam:4711", "../../../../etc/passwd", "/etc/passwd"])
def test_what_is_not_there_is_refused_before_anything_runs(bench, text):
    said = bench.refusal(bench.define(an_input("x", "exam")), error=NotFound, x=text)
    assert said.startswith("x: ")


def test_the_type_of_a_dataset_is_checked_and_named(bench):
    task = bench.define(an_input("x", "dataset", data_set_type=300))
    said = bench.refusal(task, x="exams/E/S/raw")
    assert said == "x: exams/E/S/raw is a dataset of type 100000 (other), not of type 300 (DICOM)"
    assert bench.run(bench.define(an_input("x", "dataset", data_set_type=100000)), x="exams/E/S/raw")
    assert bench.run(bench.define(an_input("x", "dataset", data_set_type=0)), x="exams/E/S/raw")


def test_a_dataset_must_have_a_file_whose_name_fits(bench):
    assert bench.run(bench.define(an_input("x", "dataset", filename_regex=r".*\.lab")), x="exams/E/S/raw")
    bench.tasks.changes.clear()
    task = replace(bench.define(an_input("x", "dataset", filename_regex=r".*\.m")), id=9)
    with pytest.raises(BadCommand, match=r"no file of exams/E/S/raw has a name that fits"):
        bench.run(task, x="exams/E/S/raw")
    assert bench.tasks.changes == []


def test_a_regular_expression_of_another_dialect_is_left_to_the_server(bench):
    assert bench.run(bench.define(an_input("x", "dataset", filename_regex="(?<")), x="exams/E/S/raw")


# -- files ---------------------------------------------------------------------------------------------


def test_a_file_is_sent_as_the_stored_file_that_it_is(bench):
    _, lab = bench.raw.datafiles
    (nii,) = bench.nifti.datafiles
    task = bench.define(an_input("x", "file"))
    for text, datafile in [
        ("exams/E/S/raw/a.lab", lab),
        ("exams/E/S/brain.nii", nii),
        (f"dataset:{bench.nifti.id}", nii),
    ]:
        assert bench.run(task, x=text) == {"x": {"object_id": datafile.id, "object_type": "datafile"}}


def test_a_dataset_stands_for_its_only_file_that_fits(bench):
    raw, _ = bench.raw.datafiles
    sent = bench.run(bench.define(an_input("x", "file", filename_regex=r".*\.raw")), x="exams/E/S/raw")
    assert sent == {"x": {"object_id": raw.id, "object_type": "datafile"}}


def test_and_is_refused_when_it_has_several_or_none(bench):
    assert "2 files: give one of its files" in bench.refusal(
        bench.define(an_input("x", "file")), x="exams/E/S/raw"
    )
    task = bench.define(an_input("x", "file", filename_regex=r".*\.dcm"))
    assert "no file that fit" in bench.refusal(task, x="exams/E/S/raw")
    assert "no file that fit" in bench.refusal(task, x="exams/E/S/raw/a.raw")
    assert "is a folder, not a file" in bench.refusal(task, x="folders/out")


# -- plain values --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("type_", "given", "sent"),
    [
        ("string", "a b", "a b"),
        ("string", "007", "007"),
        ("string", "", ""),
        ("integer", "1024", 1024),
        ("integer", "-3", -3),
        ("integer", 7, 7),
        ("float", "1.5", 1.5),
        ("float", "2", 2),
        ("float", 2, 2),
        ("float", "1e-3", 0.001),
        ("bool", "true", True),
        ("bool", "No", False),
        ("bool", "1", True),
        ("bool", False, False),
    ],
)
def test_a_plain_value_is_sent_as_what_the_task_wants(bench, type_, given, sent):
    found = bench.run(bench.define(an_input("x", type_)), x=given)["x"]
    assert (found, type(found)) == (sent, type(sent))


@pytest.mark.parametrize(
    ("type_", "given"),
    [
        ("string", 7),
        ("integer", "1.5"),
        ("integer", "ten"),
        ("integer", ""),
        ("integer", 1.0),
        ("integer", True),
        ("integer", "9" * 5000),
        ("float", "nan"),
        ("float", "inf"),
        ("float", "1,5"),
        ("float", True),
        ("float", None),
        ("bool", "perhaps"),
        ("bool", 2),
        ("bool", None),
    ],
)
def test_a_value_of_another_type_is_refused(bench, type_, given):
    assert bench.refusal(bench.define(an_input("x", type_)), x=given).startswith("x: must be ")


@pytest.mark.parametrize("type_", ["integer", "float"])
def test_numbers_lie_between_the_limits_which_are_allowed_themselves(bench, type_):
    task = bench.define(an_input("x", type_, min=1, max=1024))
    assert "x: 0 is less than 1," in bench.refusal(task, x="0")
    assert "x: 1025 is more than 1024," in bench.refusal(task, x="1025")
    assert bench.run(task, x="1") == {"x": 1}
    assert bench.run(task, x="1024") == {"x": 1024}


def test_a_selection_is_one_of_the_values_and_is_sent(bench):
    """The vendor's connector silently leaves it out."""
    task = bench.define(an_input("x", "select", select_values=["sha1", "sha256", 5]))
    assert "'sha2' is none of sha1, sha256, 5 (did you mean" in bench.refusal(task, x="sha2")
    assert bench.run(task, x="sha256") == {"x": "sha256"}
    assert bench.run(task, x="5") == {"x": 5}


def test_what_is_static_is_the_tasks_own(bench):
    task = bench.define(an_input("x", "static"), an_input("y", "static", default="v1"))
    assert bench.run(task) == {"y": "v1"}
    bench.tasks.changes.clear()
    with pytest.raises(BadCommand, match="x is set by the task"):
        bench.run(task, x="1")
    assert bench.tasks.changes == []


# -- what is given and what is not ---------------------------------------------------------------------


def test_all_that_is_missing_is_named_at_once(bench):
    task = bench.define(an_input("ds", "dataset"), an_input("n", "integer"), an_input("s", "string"))
    assert bench.refusal(task, n="5") == "T needs ds (dataset), s (string)"


def test_an_optional_input_is_left_out_and_a_default_is_used(bench):
    task = bench.define(
        an_input("a", "string", required=False),
        an_input("b", "integer", required=False, default="5"),
        an_input("c", "float", default=0.5),
    )
    assert bench.run(task) == {"b": 5, "c": 0.5}
    assert bench.run(task, b="6", c="1") == {"b": 6, "c": 1}


def test_an_unknown_input_is_refused_with_the_nearest_name(bench):
    task = bench.define(an_input("matrix_size", "integer"))
    assert "did you mean matrix_size?" in bench.refusal(task, matrixsize="1")
    assert "its inputs are: matrix_size" in bench.refusal(task, q="1")
    assert "it has none" in bench.refusal(bench.define(), q="1")


def test_a_script_task_has_its_inputs_in_its_yaml(bench):
    yml = "inputs:\n  study: {type: study}\n  size: {type: integer, required: false, default: 3}\n"
    task = bench.tasks.define(bench.project.id, {"name": "S", "yml": yml}, is_script=True)
    assert bench.refusal(task) == "S needs study (exam)"
    assert bench.run(task, study="exams/E") == {
        "study": {"object_id": bench.exam.id, "object_type": "exam"},
        "size": 3,
    }
    assert bench.tasks.changes[-1][-1] is True


# -- target --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["folders/out", "exams/E", "exams/E/S", "folders/E"])
def test_results_go_to_a_folder_an_exam_or_a_series(bench, path):
    expected = {
        "folders/out": RemoteRef(Kind.FOLDER, bench.out.id),
        "exams/E/S": RemoteRef(Kind.SERIES, bench.series.id),
    }.get(path, RemoteRef(Kind.EXAM, bench.exam.id))
    bench.run(bench.define(), target=path)
    assert bench.tasks.changes[-1][2] == expected
    assert bench.jobs.job(1).target == expected


def test_and_to_nothing_else(bench):
    said = bench.refusal(bench.define(), target="exams/E/S/brain.nii")
    assert said == "target: exams/E/S/brain.nii is a dataset, but results go to a folder, an exam or a series"
    assert bench.refusal(bench.define(), error=NotFound, target="folders/none").startswith("target: ")
    assert "target must be" in bench.refusal(bench.define(), target=5)


def test_an_input_that_is_called_target_has_another_name_on_the_line(bench):
    task = bench.define(an_input("target", "integer"))
    inputs = {"input.target": "5", "target": "folders/out"}
    bench.runner.run(task, inputs, directory=TASK_DIR)
    assert bench.tasks.changes[-1][2:4] == (RemoteRef(Kind.FOLDER, bench.out.id), {"target": 5})
    assert "input.target=1" in syntax_text(task)


# -- who may -------------------------------------------------------------------------------------------


def test_a_read_only_mount_runs_nothing(tmp_path):
    bench = Bench(tmp_path, is_read_only=True)
    assert "read-only" in bench.refusal(bench.define(), error=ReadOnly)
    bench.close()


def test_an_observer_runs_nothing_and_changes_nothing(tmp_path):
    bench = Bench(tmp_path, roles=[(1, Role.OBSERVER.value)])
    task = bench.define()
    for target in ({}, {"target": "folders/out"}):
        assert "you are an observer" in bench.refusal(task, error=PermissionDenied, **target)
    with pytest.raises(PermissionDenied):
        bench.write(b'{"name": "T"}')
    with pytest.raises(PermissionDenied):
        bench.view.make_directory(bench.node("tasks"), "N")
    with pytest.raises(PermissionDenied):
        bench.view.remove(bench.node("tasks", "T", "definition.json"))
    assert bench.tasks.changes == []
    bench.close()


def test_a_locked_target_takes_no_results(bench):
    locked = bench.archive.add_exam(bench.project.id, "L", locked=True)
    bench.world.filesystem.refresh(None)
    assert f"{locked.name} is locked" in bench.refusal(
        bench.define(), error=PermissionDenied, target="exams/L"
    )


def test_a_run_that_the_server_refuses_is_no_job(bench):
    bench.tasks.fail_with = RemoteUnavailable("away")
    with pytest.raises(RemoteUnavailable):
        bench.run(bench.define())
    assert bench.jobs.numbers() == []


# -- which task ----------------------------------------------------------------------------------------


def test_a_task_is_found_by_name_by_path_and_by_number(bench):
    task = bench.define(name="Convert/To NIfTI")
    bench.world.filesystem.mounted_at("/mnt/agora")
    here = ("projects", "P", "exams")
    for text in [
        "Convert/To NIfTI",
        "Convert∕To NIfTI",
        "../tasks/Convert∕To NIfTI",
        "/mnt/agora/projects/P/tasks/Convert∕To NIfTI",
        "/mnt/agora/tasks/Convert∕To NIfTI",
        f"task:{task.id}",
    ]:
        assert bench.runner.find_task(here, text) == task, text


def test_form_and_script_tasks_of_one_number_are_told_apart(bench):
    form = bench.tasks.define(bench.project.id, {"id": 5, "name": "A"})
    script = bench.tasks.define(bench.project.id, {"id": 5, "name": "B"}, is_script=True)
    assert bench.runner.find_task((), "task:5") == form
    assert bench.runner.find_task((), "script:5") == script
    assert bench.node("tasks", "A").entry.ino != bench.node("tasks", "B").entry.ino


def test_a_task_that_is_not_there_is_named_with_the_nearest(bench):
    bench.define(name="Checksum")
    with pytest.raises(NotFound, match="did you mean Checksum"):
        bench.runner.find_task(("projects", "P"), "Cheksum")
    with pytest.raises(NotFound, match="there is no task 'Checksum' here"):
        bench.runner.find_task((), "Checksum")
    with pytest.raises(NotFound, match=r"in the project P;"):
        bench.runner.find_task(("projects", "P"), "Quite another")
    with pytest.raises(NotFound, match=r"^/projects/Pp does not exist"):
        bench.runner.find_task(("projects", "Pp"), "Checksum")
    with pytest.raises(NotFound):
        bench.runner.find_task((), "../../etc")
    with pytest.raises(NotFound, match="is not a task"):
        bench.runner.find_task(("projects", "P"), "exams/E")


# -- the files -----------------------------------------------------------------------------------------


def test_a_line_written_to_run_starts_a_job_and_the_answer_says_which(bench):
    bench.define(an_input("x", "series"))
    bench.world.filesystem.mounted_at("/mnt/agora")
    handle = bench.open("run")
    handle.write(0, b"x=exams/E/S target=folders/out\n")
    view = memoryview(bytearray(1000))
    answer = bytes(view[: handle.read_into(0, view)]).decode()
    assert answer == (
        "job 1: run T x=exams/E/S target=folders/out\ncat /mnt/agora/.agora/jobs/1/wait waits for its end\n"
    )
    assert bench.jobs.job(1).title == "run T x=exams/E/S target=folders/out"
    assert bench.jobs.job(1).project == bench.project.id
    assert bench.read("run").decode() == answer  # the next opening of the same user


def test_an_object_written_to_run_is_answered_by_an_object(bench):
    bench.define(an_input("x", "series"), an_input("n", "integer"))
    handle = bench.open("run")
    handle.write(0, b'{"x": "exams/E/S",\n "n": 5}\n')
    view = memoryview(bytearray(1000))
    answer = json.loads(bytes(view[: handle.read_into(0, view)]))
    assert answer == {"ok": True, "job": 1, "path": "/.agora/jobs/1"}
    assert bench.tasks.changes[-1][3]["n"] == 5


def test_a_line_without_its_end_counts_when_the_file_is_closed(bench):
    bench.define(an_input("n", "integer"))
    handle = bench.open("run")
    handle.write(0, b"n=5")
    assert bench.tasks.changes == []
    handle.flush()
    assert bench.tasks.changes[-1][3] == {"n": 5}


@pytest.mark.parametrize(
    ("line", "words", "number"),
    [
        ("n=x", "n: must be a whole number", errno.EINVAL),
        ("n", "'n' is not KEY=VALUE", errno.EINVAL),
        ("n=1 n=2", "n is given twice", errno.EINVAL),
        ("n='1", "not quoted as for a shell", errno.EINVAL),
        ('{"n": 1, "n": 2}', "twice", errno.EINVAL),
        ("n=1 target=folders/none", "target: ", errno.ENOENT),
    ],
)
def test_a_bad_line_fails_in_write_and_the_reason_is_there_to_read(bench, line, words, number):
    bench.define(an_input("n", "integer"))
    handle = bench.open("run")
    with pytest.raises((BadCommand, NotFound)) as caught:
        handle.write(0, f"{line}\n".encode())
    assert outcome_of(caught.value).errno == number
    handle.flush()
    assert words in str(caught.value)
    assert words in bench.read("run").decode()
    assert bench.tasks.changes == []


def test_answers_of_others_are_not_shown(bench):
    bench.define(an_input("n", "integer"))
    bench.write(b"n=1\n", "run")
    assert bench.read("run", caller=Caller(1001, 7)) == b""
    assert bench.read("run", caller=Caller(1000, 8)).startswith(b"job 1")


def test_inputs_as_json_are_one_object():
    assert parse_arguments('{"x": 1}') == {"x": 1}
    with pytest.raises(BadCommand):
        parse_arguments("{} {}")


def test_the_syntax_says_what_each_input_is_and_gives_a_line_that_has_all_that_is_required(bench):
    task = bench.define(
        an_input("ds", "dataset", data_set_type=300, name="Images", filename_regex=".*dcm"),
        an_input("size", "integer", min=1, max=1024),
        an_input("how", "select", select_values=["fast", "good"], required=False),
        an_input("k", "float", default=0.5),
        an_input("v", "static"),
    )
    text = bench.read("syntax").decode()
    assert text == syntax_text(task)
    for words in [
        "ds    dataset; required; of type 300 (DICOM); file name like .*dcm; “Images”",
        "size  integer; required; at least 1; at most 1024",
        "how   select; optional; one of fast, good",
        "k     float; optional; default 0.5",
        "v     static, set by the task",
        "echo 'ds=exams/EXAM/SERIES/DATASET size=1 target=folders/RESULTS' > run",
    ]:
        assert words in text


def test_the_definition_is_all_that_the_server_gave(bench):
    task = bench.define(an_input("x", "exam"), surprise={"kept": [1]})
    assert json.loads(bench.read("definition.json")) == task.raw


def test_writing_a_definition_saves_every_field_that_was_written_and_is_seen_at_once(bench):
    task = bench.define(an_input("x", "exam"), surprise=1)
    body = {**task.raw, "inputs": [], "surprise": 2}
    bench.write(json.dumps(body).encode())
    assert bench.tasks.changes == [("save", task.id, body, False)]
    assert json.loads(bench.read("definition.json"))["surprise"] == 2
    assert "It has no inputs." in bench.read("syntax").decode()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"name": "T",\n "inputs": [}', "line 2, column 13: "),
        ('{"name": "T",\n "x": "\xff"}', "line 2: this is not UTF-8"),
        ("[]", "line 1: "),
        ("{}", "name: "),
        ('{"name": " "}', "name: "),
        ('{"name": "T", "inputs": {}}', "inputs: must be a list"),
        ('{"name": "T", "inputs": [5]}', "inputs[0]: must be an object"),
        ('{"name": "T", "inputs": [{"key": "a", "type": 12}]}', "inputs[0].type: "),
        ('{"name": "T", "inputs": [{"key": "a", "type": true}]}', "inputs[0].type: "),
        ('{"name": "T", "inputs": [{"key": "a b", "type": 1}]}', "inputs[0].key: "),
        ('{"name": "T", "inputs": [{"key": "a", "type": 1}, {"key": "a", "type": 1}]}', "inputs[1].key: "),
        ('{"name": "T", "inputs": [{"key": "a", "type": 1, "required": 1}]}', "inputs[0].required: "),
        ('{"name": "T", "inputs": [{"key": "a", "type": 6, "min": "x"}]}', "inputs[0].min: "),
        ('{"name": "T", "inputs": [{"key": "a", "type": 6, "min": 5, "max": 1}]}', "inputs[0].min: "),
        ('{"name": "T", "inputs": [{"key": "a", "type": 3, "data_set_type": "x"}]}', "data_set_type: "),
        ('{"name": "T", "inputs": [{"key": "a", "type": 3, "filename_regex": "("}]}', "filename_regex: "),
        ('{"name": "T", "outputs": [{"filename_regex": 5}]}', "outputs[0].filename_regex: "),
        ('{"name": "T", "success_exit_code": "0"}', "success_exit_code: "),
        ('{"name": "T", "execute_template": 5}', "execute_template: "),
        ('{"name": "T", "yml": "inputs: {a: {type: exam}}"}', "yml: T is made of forms"),
        ('{"name": "T", "id": 4711}', "id: this is the definition of task 4711"),
        ('{"name": "T", "project": 4711}', "project: "),
    ],
)
def test_a_definition_that_is_none_is_refused_with_its_line_or_field(bench, text, words):
    bench.define()
    with pytest.raises(BadCommand) as caught:
        bench.write(text.encode("latin-1"))
    assert words in str(caught.value)
    assert bench.tasks.changes == []


def test_nesting_without_end_is_refused(bench):
    bench.define()
    with pytest.raises(BadCommand):
        bench.write(b"[" * 100_000)


def test_the_yaml_of_a_script_task_is_checked_too(bench):
    task = bench.tasks.define(bench.project.id, {"name": "T", "yml": "inputs: {}"}, is_script=True)
    for yml in ["inputs: [", "inputs: [a]", "inputs: {a: 5}", "just text"]:
        with pytest.raises(BadCommand, match="yml: "):
            bench.write(json.dumps({"name": "T", "yml": yml}).encode())
    with pytest.raises(BadCommand, match="yml: T is a script task and needs yml"):
        bench.write(b'{"name": "T"}')
    assert bench.tasks.changes == []
    bench.write(json.dumps({**task.raw, "yml": "inputs: {a: exam}"}).encode())
    assert [one.key for one in bench.tasks.all()[0].inputs] == ["a"]


def test_a_file_that_ends_in_json_becomes_a_task(bench):
    def copy(name, body):
        handle = bench.view.make_file(bench.node("tasks"), name).open(ANN)
        handle.write(0, json.dumps(body).encode())
        handle.flush()

    copy("Other.json", {"inputs": [an_input("x", "exam")]})
    copy("x.json", {"name": "Sub/Named", "yml": "inputs: {a: exam}"})
    copy("Sub∕Own.json", {"inputs": []})
    assert [(task.name, task.is_script, task.project) for task in bench.tasks.all()] == [
        ("Other", False, bench.project.id),
        ("Sub/Named", True, bench.project.id),
        ("Sub/Own", False, bench.project.id),
    ]
    assert bench.names() == ["Other", "Sub∕Named", "Sub∕Own"]
    with pytest.raises(BadCommand):
        copy("Bad.json", {"inputs": 5})
    with pytest.raises(BadCommand, match="no definition of a task"):
        copy("study.json", {"name": "a study of mine"})  # any JSON may have a name
    with pytest.raises(NotPermitted):
        bench.view.make_file(bench.node("tasks"), "notes.txt")


def test_a_file_that_nobody_writes_into_makes_nothing(bench):
    handle = bench.view.make_file(bench.node("tasks"), "Other.json").open(ANN)
    handle.flush()
    handle.close()
    assert bench.tasks.all() == []


def test_a_new_directory_is_a_task_that_does_nothing_until_its_definition_is_written(bench):
    bench.view.make_directory(bench.node("tasks"), "T")
    assert bench.names() == ["T"]
    body = json.loads(bench.read("definition.json"))
    assert (body["name"], body["inputs"], body["execute_template"]) == ("T", [], "")
    bench.write(json.dumps({**body, "execute_template": "checksum"}).encode())
    (task,) = bench.tasks.all()
    assert task.raw["execute_template"] == "checksum"


def test_the_definition_of_a_removed_task_is_kept_on_this_machine(bench, tmp_path):
    """The archive has no trash for tasks, and whoever removes a project removes its tasks."""
    task = bench.define(an_input("x", "exam"), name="Sub/T")
    bench.view.remove(bench.node("tasks", "Sub∕T", "definition.json"))
    (kept,) = (tmp_path / "removed").iterdir()
    assert kept.name.startswith("Sub∕T ")
    assert json.loads(kept.read_bytes()) == task.raw
    assert kept.parent.stat().st_mode & 0o077 == 0


def test_a_task_whose_definition_can_not_be_kept_is_not_removed(bench, tmp_path):
    bench.define(name="T")
    (tmp_path / "removed").write_bytes(b"in the way")
    with pytest.raises(UsageError, match="removed"):
        bench.view.remove(bench.node("tasks", "T", "definition.json"))
    assert bench.tasks.changes == []


def test_removing_the_definition_deletes_the_task_and_removing_anything_else_does_not(bench):
    task = bench.define()
    for name in ("syntax", "run"):
        with pytest.raises(NotPermitted, match=r"removing definition\.json"):
            bench.view.remove(bench.node("tasks", "T", name))
    with pytest.raises(NotEmpty):
        bench.view.remove_directory(bench.node("tasks", "T"))
    assert bench.tasks.changes == []
    bench.view.remove(bench.node("tasks", "T", "definition.json"))
    assert bench.tasks.changes == [("delete", task.id, False)]
    assert bench.names() == []


def test_renaming_a_task_saves_it_with_its_new_name_and_all_its_fields(bench):
    task = bench.define(an_input("x", "exam"), surprise=1)
    bench.view.rename(bench.node("tasks", "T"), bench.node("tasks"), "Sub∕T2")
    assert bench.tasks.changes == [("save", task.id, {**task.raw, "name": "Sub/T2"}, False)]
    assert bench.names() == ["Sub∕T2"]
    with pytest.raises(NotPermitted):
        bench.view.rename(
            bench.node("tasks", "Sub∕T2", "run"), bench.node("tasks", "Sub∕T2"), "definition.json"
        )


def test_renaming_a_task_keeps_what_others_have_changed_in_it_since_it_was_listed(bench):
    task = bench.define(an_input("x", "exam"), execute_template="old")
    assert bench.names() == ["T"]
    node = bench.node("tasks", "T")
    now = {**task.raw, "execute_template": "new"}
    bench.tasks.define(bench.project.id, now)
    bench.view.rename(node, bench.node("tasks"), "T2")
    assert bench.tasks.changes == [("save", task.id, {**now, "name": "T2"}, False)]


def test_in_the_list_of_all_tasks_nothing_is_made(bench):
    bench.define()
    everywhere = bench.world.tree.resolve(["tasks"])
    with pytest.raises(PermissionDenied, match="make tasks in projects"):
        bench.view.make_directory(everywhere, "N")
    with pytest.raises(PermissionDenied):
        bench.view.make_file(everywhere, "N.json")
    with pytest.raises((NotPermitted, IsADirectory)):
        bench.view.remove(bench.world.tree.resolve(["tasks", "T"]))
    assert bench.tasks.changes == []


def test_the_files_of_a_task_have_their_true_sizes(bench):
    bench.define()
    for name in ("definition.json", "syntax"):
        assert bench.view.file(bench.node("tasks", "T", name)).size == len(bench.read(name))
    assert bench.node("tasks", "T").entry.target.area is Area.TASK
    assert isinstance(bench.node("tasks", "T", "run").entry.record, Task)
