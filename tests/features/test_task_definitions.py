"""Tasks as files: found, run, changed, exported, imported; what has become of it is said by the vendor's connector."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from gtagora.exception import AgoraException
from gtagora.models.task import ScriptTask

DATASET = "exams/Brain, volunteer/Survey/DICOM dataset"


@pytest.fixture
def project(bench, request):
    """A new project: its directory, and the connector's object."""
    made = bench.agora.create_project(request.node.name)
    bench.mount.refresh(bench.root / "projects")
    return bench.root / "projects" / request.node.name, made


def named(project) -> dict[str, Any]:
    """Return the tasks of a project, as the connector has them, by name."""
    return {task.name: task for task in project.get_tasks()}


@pytest.fixture
def task(bench, project):
    """A task of that project alone, copied from the demo's by the connector; the connector's object."""
    _, made = project
    named(bench.on_server())["Checksum"].copy_to_project(made.id)
    bench.mount.refresh(bench.root / "projects")
    return named(made)["Checksum"]


def names_in(directory) -> set[str]:
    return {path.name.replace("∕", "/") for path in directory.iterdir()}


@pytest.mark.feature(48, 74, how="`ls /tasks`, `ls projects/P/tasks`")
def test_tasks_are_listed_of_a_project_and_of_all(bench, task, project):
    path, made = project
    assert names_in(path / "tasks") == set(named(made)) == {"Checksum"}
    assert names_in(bench.project / "tasks") == set(named(bench.on_server()))
    everywhere = {one.resolve() for one in (bench.root / "tasks").iterdir()}
    theirs = [
        bench.root / "projects" / one.display_name / "tasks" / task.name.replace("/", "∕")
        for one in bench.agora.get_projects()
        for task in one.get_tasks()
    ]
    assert everywhere == set(theirs) and len(everywhere) == len(theirs) > 4


@pytest.mark.feature(49, how="`/.agora/by-id/task/5`, `/.agora/by-id/script/7`")
def test_a_task_is_found_by_its_id(bench):
    for task in bench.on_server().get_tasks():
        path = bench.by_id("script" if isinstance(task, ScriptTask) else "task", task.id)
        assert path.resolve() == bench.project / "tasks" / task.name.replace("/", "∕")
        definition = json.loads((path / "definition.json").read_bytes())
        assert (definition["id"], definition["name"]) == (task.id, task.name)


@pytest.mark.feature(51, how="`cat tasks/T/syntax`")
def test_the_syntax_names_all_that_a_task_takes(bench):
    for task in bench.on_server().get_tasks():
        syntax = (bench.project / "tasks" / task.name.replace("/", "∕") / "syntax").read_text()
        lines = [line.split()[:2] for line in syntax.splitlines() if line.startswith("  ")]
        for one in task.inputs:
            words = [rest for key, rest in lines if key == one["key"]]
            assert [word.rstrip(";") for word in words] in ([task._get_type_name(one["type"])], ["bool"])


@pytest.mark.feature(
    50, how="`echo 'ds=dataset:57 target=folder:3' > tasks/T/run`; `agorafs run --wait TASK ds=PATH`"
)
@pytest.mark.parametrize("way", ["file", "command"])
def test_a_task_is_run_with_objects_by_path_or_by_number_and_waited_for(bench, way):
    target = bench.on_server().get_root_folder().create_folder(f"Results by {way}")
    bench.mount.refresh(bench.project / "folders")
    dataset = bench.project / DATASET
    number = bench.attribute(dataset, "id")
    if way == "file":
        line = f"ds=dataset:{number} algorithm=sha1 target=folder:{target.id}"
        bench.shell('cd "$1" && echo "$2" > tasks/Checksum/run', bench.project, line)
        assert bench.wait_for((bench.project / "tasks/Checksum/run").read_text()) == "finished\n"
    else:
        words = [f"ds={dataset}", "algorithm=sha1", "--target", bench.project / "folders/Results by command"]
        bench.command("run", "--wait", bench.project / "tasks/Checksum", *words)
    (item,) = target.get_items()
    (file,) = item.object.get_datafiles()
    shown = (bench.project / "folders" / f"Results by {way}" / item.object.name).read_bytes()
    assert hashlib.sha1(shown).hexdigest() == file.sha1
    sums = {one.sha1 for one in bench.agora.get_dataset(int(number)).get_datafiles()}
    assert sums == {line.split()[0] for line in shown.decode().splitlines()}


@pytest.mark.feature(52, how="rename with `mv tasks/T tasks/U`")
def test_a_task_is_saved_by_writing_its_definition(bench, project, task, tmp_path):
    path, _ = project
    definition = path / "tasks/Checksum/definition.json"
    body = json.loads(definition.read_bytes())
    assert body["id"] == task.id
    bench.shell(
        'sed "s/checksum {{/checksum --changed {{/" "$1" > "$2" && cp "$2" "$1"', definition, tmp_path / "new"
    )
    bench.shell('cd "$1"/tasks && mv Checksum "Sums∕Mine"', path)
    saved = bench.agora.get_task(task.id)
    assert (saved.name, saved.execute_template) == (
        "Sums/Mine", task.execute_template.replace("checksum {{", "checksum --changed {{"),
    )  # fmt: skip
    assert saved.inputs == task.inputs


@pytest.mark.feature(53, how="`rm -rf tasks/T`")
def test_a_task_is_deleted_by_removing_it(bench, project, task):
    path, made = project
    bench.shell('rm -rf "$1"', path / "tasks/Checksum")
    assert named(made) == {}
    with pytest.raises(AgoraException):
        bench.agora.get_task(task.id)


@pytest.mark.feature(
    54, how="`agorafs control MOUNT export-tasks > FILE`; those of one project `agorafs control projects/P …`"
)
def test_all_tasks_are_exported_to_a_file_that_the_connector_can_load(bench, task, project, tmp_path):
    path, _ = project
    file = tmp_path / "tasks.json"
    file.write_text(bench.command("control", bench.root, "export-tasks"))
    theirs = [
        (task.name, isinstance(task, ScriptTask))
        for one in bench.agora.get_projects()
        for task in one.get_tasks()
    ]
    loaded = bench.agora.load_tasks(file)
    assert sorted((one.name, isinstance(one, ScriptTask)) for one in loaded) == sorted(theirs)
    task.export(file=tmp_path / "connector.json")
    assert json.loads(bench.command("control", path, "export-tasks")) == [
        json.loads((tmp_path / "connector.json").read_text())
    ]


@pytest.mark.feature(55, how="`agorafs control projects/P import-tasks --stdin tasks < FILE`")
@pytest.mark.feature(75, how="`echo 'import-tasks FILE' > projects/P/.agora/control`, FILE on the mount")
@pytest.mark.parametrize("way", ["standard input", "mount"])
def test_tasks_are_imported_from_a_file(bench, project, tmp_path, way):
    path, made = project
    file = tmp_path / "tasks.json"
    file.write_text(bench.command("control", bench.project, "export-tasks"))
    if way == "mount":
        bench.shell('cp "$1" "$2"/folders', file, path)
        bench.command("sync", path / "folders")
        bench.shell('echo "import-tasks folders/tasks.json" > "$1"/.agora/control', path)
    else:
        bench.command("control", path, "import-tasks", "--stdin", "tasks", stdin=file.read_text())
    ours, theirs = named(made), named(bench.on_server())
    assert len(ours) == 4 and set(ours) == set(theirs)
    for name, one in ours.items():
        assert [inp["key"] for inp in one.inputs] == [inp["key"] for inp in theirs[name].inputs]
        assert isinstance(one, ScriptTask) == isinstance(theirs[name], ScriptTask)
    assert ours["Checksum"].execute_template == theirs["Checksum"].execute_template
    assert ours["Checksum of a study"].yml == theirs["Checksum of a study"].yml
    assert names_in(path / "tasks") == set(theirs)
