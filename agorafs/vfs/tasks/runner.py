"""Starting a task: everything that can be checked is checked, the server is asked once, and a job follows the run.

Who starts one: ``tasks/<task>/run``, the verb ``run`` of the control file, ``agorafs run``.

Places.  A path that is said in the directory of a task is looked for from there, and if there is no such thing from
the directory of its project: ``exams/E/S`` and ``../../exams/E/S`` both mean what they seem to. A path that
``agorafs run`` is given is relative to the working directory of the command (``outside``) if that is on
the mount, otherwise to the project.

Target.  ``target`` is where the results go, unless the task has an input of that name: that is ``input.target``.

Requests: those of looking up paths, and one to run it, which is not repeated.

Threads.  No state.
"""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from agorafs.client.records import Kind, RemoteRef
from agorafs.client.task_records import Task, TimelineItem
from agorafs.config import did_you_mean
from agorafs.errors import BadCommand, NotFound, NotPermitted, ReadOnly
from agorafs.tree.listing import Area
from agorafs.tree.names import legal_name
from agorafs.tree.tree import Node, Tree
from agorafs.vfs import rules
from agorafs.vfs.control.language import is_object, load_json
from agorafs.vfs.jobs import Job
from agorafs.vfs.objects import Objects, ref_in, ref_of
from agorafs.vfs.tasks.inputs import check_inputs, check_target

_TARGET = "target"
_INPUT = "input."
_MAX_TITLE_CHARS = 500
_WORDS = {"task": False, "script": True}  # how a task is given by its number; is it a script task?


class Server(Protocol):
    """What running asks of the archive: ``client.tasks``."""

    def task(self, task_id: int, /, *, is_script: bool) -> Task: ...

    def run(
        self, task_id: int, target: RemoteRef | None, inputs: Mapping[str, Any], /, *, is_script: bool
    ) -> TimelineItem: ...


class Followers(Protocol):
    """Who follows a run: ``jobs.Jobs``."""

    def start_timeline(
        self, title: str, item: TimelineItem, *, target: RemoteRef | None, project: int | None
    ) -> Job: ...


class TaskRunner:
    """See the module docstring."""

    def __init__(
        self,
        server: Server,
        jobs: Followers,
        tree: Tree,
        objects: Callable[[], Objects],
        *,
        is_read_only: bool,
    ) -> None:
        self._server = server
        self._jobs = jobs
        self._tree = tree
        self._objects = objects
        self._is_read_only = is_read_only

    def run(
        self,
        task: Task,
        arguments: Mapping[str, object],
        *,
        directory: Sequence[str],
        target: str | None = None,
        outside: str | None = None,
    ) -> Job:
        """Have the server run *task*, and return the job that follows it.

        Args:
            arguments: The inputs by their keys; also ``target``.
            directory: Where paths are said, names from the root down.
            target: Where the results go, if *arguments* do not say it.
            outside: The directory on this machine that paths are relative to, if they are relative to none here.

        Raises:
            BadCommand, NotFound: An input is not as the task wants it; nothing was asked for.
            PermissionDenied, ReadOnly: This user, or this mount, may not.
        """
        if self._is_read_only:
            raise ReadOnly(f"{task.name} is not run: this mount is read-only")
        given = dict(arguments)
        if _TARGET in given and target is None:
            value = given.pop(_TARGET)
            if not isinstance(value, str) or not value:
                raise BadCommand("target must be a path, or such as folder:12")
            target = value
        for key in [key for key in given if key.startswith(_INPUT)]:
            plain = key[len(_INPUT) :]
            if plain in given:
                raise BadCommand(f"{plain} is given twice")
            given[plain] = given.pop(key)

        def find(text: str) -> Node:
            return self._find(directory, text, outside)

        inputs = check_inputs(task, given, find)
        goal = None if target is None else check_target(target, find)
        project = self._project_of(task, directory)
        self._check_allowed(goal if goal is not None else project)
        goal_ref = None if goal is None else ref_of(goal)
        item = self._server.run(task.id, goal_ref, inputs, is_script=task.is_script)
        return self._jobs.start_timeline(
            _title(task, given, target),
            item,
            target=goal_ref,
            project=None if project is None or project.project is None else project.project.id,
        )

    def path_of(self, job: Job) -> str:
        """Return where the job is to be seen, as programs on this machine name it."""
        return f"{(self._objects().mountpoint or '').rstrip('/')}/.agora/jobs/{job.number}"

    def find_task(self, directory: Sequence[str], text: str) -> Task:
        """Return the task that *text*, said in *directory*, means.

        Args:
            text: Its name in the project of *directory*, a path to it, ``task:5``, or ``script:7``.

        Raises:
            NotFound: There is none.
        """
        word, colon, number = text.partition(":")
        if colon and word in _WORDS and number.isascii() and number.isdigit() and len(number) <= 18:
            return self._server.task(int(number), is_script=_WORDS[word])
        known: list[str] = []
        with contextlib.suppress(NotFound):
            tasks = self._tasks_of(directory)
            known = list(self._tree.listing(tasks).entries)
            return _task_at(self._tree.child(tasks, legal_name(text, "")))
        found = None
        with contextlib.suppress(NotFound, NotPermitted):
            found = self._objects().follow(directory, text)
        if not isinstance(found, Node):
            hint = did_you_mean(text, known) or (f"; there are: {', '.join(known)}" if known else "")
            raise NotFound(f"there is no task {text!r} here, in {self._project_words(directory)}{hint}")
        return _task_at(found)

    def _project_words(self, directory: Sequence[str]) -> str:
        """Say where a task was looked for by its name.

        Raises:
            NotFound: The project of *directory* is not there.
        """
        if len(directory) < 2 or directory[0] != Area.PROJECTS.value:
            return "no project: name one, or give a path to the task"
        return f"the project {self._tree.resolve(directory[:2]).entry.name}"

    def _tasks_of(self, directory: Sequence[str]) -> Node:
        """Return the directory of the tasks of the project that *directory* lies in."""
        if len(directory) < 2 or directory[0] != Area.PROJECTS.value:
            raise NotFound("no project")
        return self._tree.resolve([*directory[:2], Area.TASKS.value])

    def _find(self, directory: Sequence[str], text: str, outside: str | None) -> Node:
        """Return the object that *text* means; see "Places" in the module docstring."""
        objects = self._objects()
        if text.startswith("/") or ref_in(text) is not None:
            return objects.find(directory, text)
        if outside is not None:
            mountpoint = objects.mountpoint
            path = os.path.normpath(f"{outside}/{text}")
            if mountpoint is not None and f"{path}/".startswith(f"{mountpoint.rstrip('/')}/"):
                return objects.find((), path)
        if _is_in_task(directory):
            with contextlib.suppress(NotFound):
                return objects.find(directory, text)
            directory = directory[:2]  # what is nowhere is said to be missing in the project
        return objects.find(directory, text)

    def _project_of(self, task: Task, directory: Sequence[str]) -> Node | None:
        """Return the project that the task belongs to; that of *directory* if the task does not say."""
        if task.project is not None:
            with contextlib.suppress(NotFound):
                return self._tree.resolve(self._tree.locate(RemoteRef(Kind.PROJECT, task.project)))
        with contextlib.suppress(NotFound):
            node = self._tree.resolve(directory[:2])
            return node if node.project is not None else None
        return None

    @staticmethod
    def _check_allowed(place: Node | None) -> None:
        if place is not None:
            rules.check_may_change(place)


def parse_arguments(line: str) -> dict[str, object]:
    """Return what a line of ``tasks/<task>/run`` says: ``key=value …`` quoted as for a shell, or a JSON object.

    Raises:
        BadCommand: It is neither.
    """
    if is_object(line):
        found = load_json(line)
        if not isinstance(found, dict):
            raise BadCommand("the inputs as JSON are one object")
        return found
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise BadCommand(f"the line is not quoted as for a shell: {str(error).lower()}") from None
    given: dict[str, object] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise BadCommand(f"{word!r} is not KEY=VALUE; see the file syntax")
        if key in given:
            raise BadCommand(f"{key} is given twice")
        given[key] = value
    return given


def _is_in_task(directory: Sequence[str]) -> bool:
    return len(directory) > 2 and directory[0] == Area.PROJECTS.value and directory[2] == Area.TASKS.value


def _task_at(node: Node) -> Task:
    record = node.entry.record
    if not isinstance(record, Task):
        raise NotFound(f"{node.path} is not a task")
    return record


def _title(task: Task, arguments: Mapping[str, object], target: str | None) -> str:
    words = [task.name, *(f"{key}={value}" for key, value in arguments.items())]
    if target is not None:
        words.append(f"{_TARGET}={target}")
    return f"run {shlex.join(words)}"[:_MAX_TITLE_CHARS]
