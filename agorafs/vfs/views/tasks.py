"""``tasks/`` of a project: tasks are made, changed, renamed, removed and run by file operations.

=================================  =============================================================================
``cat T/definition.json``          what the task is; ``T/syntax``: what it wants to be given
``cp x.json T/definition.json``    changes it
``cp x.json NAME.json``            makes one; it is called as the file says, or NAME
``mkdir NAME``                     makes one that does nothing yet, to be written into NAME/definition.json
``mv T NAME``                      renames it; ``∕`` is the slash that makes submenus of the web interface
``rm T/definition.json``           deletes it; ``rm -rf T`` does, too
``echo 'ds=…' > T/run``            runs it (``tasks.runner``); the answer is to be read from ``run``
=================================  =============================================================================

``tasks/`` at the root of the mount is links to these.

Threads.  No state but the answers that wait to be read, which lock themselves.
"""

from __future__ import annotations

import shlex

from agorafs.client.records import Project
from agorafs.client.task_records import Task
from agorafs.errors import NotEmpty, NotPermitted, PermissionDenied
from agorafs.tree.inodes import hashed_inode
from agorafs.tree.listing import Area, DirKey, Special
from agorafs.tree.tree import Node
from agorafs.vfs import rules
from agorafs.vfs.aside import Aside, Caller
from agorafs.vfs.control.answers import Answers
from agorafs.vfs.control.desk import Answer
from agorafs.vfs.control.language import is_object
from agorafs.vfs.control.talk import Talk
from agorafs.vfs.tasks.definitions import Definitions, definition_text, parse_definition
from agorafs.vfs.tasks.runner import TaskRunner, parse_arguments
from agorafs.vfs.tasks.syntax import syntax_text
from agorafs.vfs.views.view import View
from agorafs.vfs.virtual import is_json, stream_file, written_file

_DEFINITION = "definition.json"
_JSON = ".json"
_SLASH = "\N{DIVISION SLASH}"


class TaskView(View):
    """See the module docstring. For the areas TASKS and TASK."""

    def __init__(self, definitions: Definitions, runner: TaskRunner) -> None:
        self._definitions = definitions
        self._runner = runner
        self._answers = Answers()

    def file(self, node: Node) -> Aside:
        """Return one of the files of a task."""
        task, target = _task(node), node.entry.target
        assert isinstance(target, Special)
        if target.name == _DEFINITION:
            return written_file(
                node.entry.ino,
                definition_text(task),
                lambda data: self._save(node, data),
                is_complete=is_json,
            )
        if target.name == "syntax":
            return Aside(node.entry.ino, content=syntax_text(task).encode(errors="replace"))
        return stream_file(node.entry.ino, lambda caller: self._talk(node, caller), can_write=True)

    def make_file(self, parent: Node, name: str) -> Aside:
        """Make a task out of ``NAME.json``, when it has been written."""
        project = _project(parent)
        stem = name.removesuffix(_JSON)
        if stem == name or not stem:
            raise NotPermitted(
                f"{parent.path}/{name}: only the definition of a task, a file NAME.json, is taken here"
            )
        rules.check_may_change(parent)

        def accept(data: bytes) -> None:
            self._definitions.create(project, parse_definition(data), _own_name(stem))

        ino = hashed_inode("new task", str(project.id), name)
        return written_file(ino, b"", accept, is_complete=is_json)

    def make_directory(self, parent: Node, name: str) -> None:
        """Make a task that does nothing yet."""
        project = _project(parent)
        rules.check_may_change(parent)
        self._definitions.create_empty(project, _own_name(name))

    def remove(self, node: Node) -> None:
        """Delete the task whose definition is removed."""
        target = node.entry.target
        if not isinstance(target, Special) or target.name != _DEFINITION:
            raise NotPermitted(f"{node.path} goes with its task, which is deleted by removing {_DEFINITION}")
        rules.check_may_change(node)
        self._definitions.delete(_task(node), _project(node).id)

    def remove_directory(self, node: Node) -> None:
        """Refuse: ``rmdir`` is for what is empty."""
        if isinstance(node.entry.target, DirKey) and node.entry.target.area is Area.TASK:
            raise NotEmpty(f"{node.path} is a task: rm {node.path}/{_DEFINITION} deletes it")
        super().remove_directory(node)

    def rename(self, node: Node, parent: Node, name: str) -> None:
        """Rename a task in its project."""
        target = node.entry.target
        if not isinstance(target, DirKey) or node.parent is None or parent.path != node.parent.path:
            super().rename(node, parent, name)
        rules.check_may_change(node)
        self._definitions.rename(_task(node), _own_name(name), _project(node).id)

    def _save(self, node: Node, data: bytes) -> None:
        rules.check_may_change(node)
        self._definitions.save(_task(node), data, _project(node).id)

    def _talk(self, node: Node, caller: Caller) -> Talk:
        assert node.parent is not None
        return Talk(RunCommands(self._runner, _task(node), self._answers), node.parent.parts, caller)


class RunCommands:
    """What is written to ``run``: a ``control.desk.Commands`` of one task, with the verb understood."""

    def __init__(self, runner: TaskRunner, task: Task, answers: Answers) -> None:
        self._runner = runner
        self._task = task
        self.answers = answers

    def execute(self, directory: tuple[str, ...], text: str, caller: Caller) -> Answer:
        """Run the task with what *text* says."""
        job = self._runner.run(self._task, parse_arguments(text), directory=directory)
        path = self._runner.path_of(job)
        words = f"job {job.number}: {job.title}\ncat {shlex.quote(path)}/wait waits for its end"
        return Answer(words, {"ok": True, "job": job.number, "path": path}, is_object(text))


def _task(node: Node) -> Task:
    record = node.entry.record
    assert isinstance(record, Task)
    return record


def _project(node: Node) -> Project:
    if node.project is None:
        raise PermissionDenied(f"{node.path} is made of links: make tasks in projects/…/tasks")
    return node.project


def _own_name(name: str) -> str:
    """Return the task's name that is shown as *name*."""
    return name.replace(_SLASH, "/")
