"""Verbs for tasks: running them, and taking them from project to project."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from agorafs.client.records import Kind, Project
from agorafs.client.task_records import Task
from agorafs.errors import BadCommand, NotPermitted
from agorafs.tree.listing import Area, DirKey
from agorafs.vfs.control.language import load_json
from agorafs.vfs.control.object_verbs import job_outcome
from agorafs.vfs.control.project_verbs import check_project, copy_task, do_all
from agorafs.vfs.control.services import Request
from agorafs.vfs.control.verb import Argument, Arguments, Outcome, Takes, Verb

_MAX_FILE_BYTES = 64 * 1024 * 1024


def _run(request: Request, arguments: Arguments) -> Outcome:
    task = request.services.runner.find_task(request.directory, arguments.text("task"))
    return job_outcome(
        request.services.runner.run(task, arguments.map("inputs"), directory=request.directory)
    )


def _export_tasks(request: Request, arguments: Arguments) -> Outcome:
    tasks = request.services.tasks
    exported = [
        tasks.export(task.id, is_script=task.is_script)
        for project in _projects(request, arguments.text("project"))
        for task in tasks.project_tasks(project.id)
    ]
    return Outcome(json.dumps(exported, indent=2, ensure_ascii=False), {"tasks": exported})


def _projects(request: Request, text: str) -> list[Project]:
    """Return the project that *text* means; without it that of the directory, in no project all that there are."""
    tree = request.services.tree
    if text or tree.resolve(request.directory[:2]).project is not None:
        return [request.project(text)]
    records = [node.entry.record for node in tree.children(tree.resolve(["projects"]))]
    return [record for record in records if isinstance(record, Project)]


def _import_tasks(request: Request, arguments: Arguments) -> Outcome:
    exported = _tasks_of(request, arguments)
    project = request.project(arguments.text("project"))
    check_project(request, project)
    try:
        count = do_all((str(one.get("name")), _importing(request, project, one)) for one in exported)
    finally:
        _forget(request, project.id)
    return Outcome(f"imported {count} tasks into {project.name}", {"imported": count})


def _tasks_of(request: Request, arguments: Arguments) -> list[Mapping[str, Any]]:
    if arguments.has("file") == arguments.has("tasks"):
        raise BadCommand(
            "import-tasks needs a file of this mount that export-tasks made, or the tasks themselves"
        )
    exported = arguments.data("tasks")
    if arguments.has("file"):
        path = request.find(arguments.text("file"), Kind.DATASET, Kind.DATAFILE).path
        try:
            exported = load_json(request.services.read(path, _MAX_FILE_BYTES).decode())
        except UnicodeDecodeError:
            raise BadCommand(f"{path} is not UTF-8, which JSON is") from None
    tasks = [exported] if isinstance(exported, dict) else exported
    if not (isinstance(tasks, list) and tasks and all(_is_task(task) for task in tasks)):
        raise BadCommand("this is not what export-tasks makes: a list of tasks with their names")
    return tasks


def _is_task(task: object) -> bool:
    return isinstance(task, dict) and isinstance(task.get("name"), str)


def _importing(request: Request, project: Project, exported: Mapping[str, Any]) -> Callable[[], object]:
    return lambda: request.services.tasks.import_into(project.id, exported)


def _copy_task(request: Request, arguments: Arguments) -> Outcome:
    task, target = _task_and_target(request, arguments)
    copy_task(request, task, target)
    _forget(request, target.id)
    return Outcome(f"copied {task.name} to {target.name}")


def _move_task(request: Request, arguments: Arguments) -> Outcome:
    task, target = _task_and_target(request, arguments)
    if task.is_script:
        raise NotPermitted(
            f"{task.name}: the archive does not move script tasks; copy-task and delete-task do"
        )
    check_project(request, _project_of(request, task))
    request.services.tasks.move_to(task.id, target.id)
    _forget(request, target.id, *([] if task.project is None else [task.project]))
    return Outcome(f"moved {task.name} to {target.name}")


def _delete_task(request: Request, arguments: Arguments) -> Outcome:
    task = request.services.runner.find_task(request.directory, arguments.text("task"))
    project = _project_of(request, task)
    check_project(request, project)
    request.services.tasks.delete(task.id, is_script=task.is_script)
    _forget(request, project.id)
    return Outcome(f"deleted {task.name}")


def _task_and_target(request: Request, arguments: Arguments) -> tuple[Task, Project]:
    task = request.services.runner.find_task(request.directory, arguments.text("task"))
    target = request.project(arguments.text("to"))
    if target.id == task.project:
        raise BadCommand(f"{task.name} is in that project already")
    check_project(request, target)
    return task, target


def _project_of(request: Request, task: Task) -> Project:
    return request.project("" if task.project is None else f"project:{task.project}")


def _forget(request: Request, *projects: int) -> None:
    keys = [DirKey(Area.TASKS, project) for project in (0, *projects)]
    request.services.tree.changed(keys)
    request.services.announce(["/tasks"])


_TASK = Argument("task", "a task by its name, its path or as task:5, script:7")
_TO = Argument("to", "another project")
_PROJECT = Argument("project", "a project; that of the directory if it is left out", is_required=False)

VERBS = (
    Verb(
        "run", "run a task as a job; its file syntax says what it takes",
        "run Recon ds=exams/E1/S1/raw target=folders/out",
        _run, (_TASK, Argument("inputs", "inputs by their names, and target", Takes.MAP, is_required=False)),
    ),
    Verb(
        "export-tasks", "show all tasks of the project, in no project those of all, for import-tasks", "export-tasks",
        _export_tasks, (_PROJECT,),
        changes=False,
    ),
    Verb(
        "import-tasks", "make tasks of what export-tasks gave", "import-tasks folders/tasks.json", _import_tasks,
        (
            Argument("file", "a file of the mount", is_required=False),
            Argument("tasks", "the tasks themselves", Takes.DATA, is_required=False),
            _PROJECT,
        ),
    ),
    Verb("copy-task", "copy a task to another project", "copy-task Recon /projects/Other", _copy_task, (_TASK, _TO)),
    Verb("move-task", "move a task to another project", "move-task Recon /projects/Other", _move_task, (_TASK, _TO)),
    Verb("delete-task", "delete a task", "delete-task Recon", _delete_task, (_TASK,)),
)  # fmt: skip
