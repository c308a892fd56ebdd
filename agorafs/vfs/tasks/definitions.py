"""What a task is, as JSON: shown, checked, made, changed, removed.

Shown is what the server gave, every field of it; saved is what was written, every field of it. Fields that agorafs
does not know are neither looked at nor lost.

Checking.  What the server would refuse, or take and then fail on at each run, is refused before it is asked, with the
place in the text (line and column), or the field (``inputs[2].type``). Nothing is mended silently.

Sorts.  A definition with ``yml`` is a script task, any other one is made of forms. A task can not become one of the
other sort.

Requests: one for each change, two for renaming: the task goes back whole, so it is read anew first.

Threads.  No state.
"""

from __future__ import annotations

import json
import logging
import re
import uuid
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from agorafs.client.records import Project
from agorafs.client.task_records import Task, read_yml
from agorafs.errors import BadCommand, ExitStatus, UsageError
from agorafs.private_directory import make_private_directory
from agorafs.tree.listing import Area, DirKey
from agorafs.tree.names import legal_name

log = logging.getLogger(__name__)

# The fields of a task made of forms that the vendor's connector sends, as an empty one has them.
_EMPTY: Mapping[str, Any] = {
    "inputs": [], "outputs": [], "members": [], "container_name": "", "container_options": {"mount_volumes": []},
    "execute_template": "", "execute_version": None, "success_exit_code": 0, "parse_output_for_error": "", "host": None,
}  # fmt: skip
_TYPES = range(1, 12)
_TEXTS = ("execute_template", "container_name", "parse_output_for_error")
_KEY = re.compile(r"[^\s=]+")


class Server(Protocol):
    """What is asked of the archive: ``client.tasks``."""

    def task(self, task_id: int, /, *, is_script: bool) -> Task: ...
    def create(self, body: Mapping[str, Any], /, *, is_script: bool = False) -> Task: ...
    def save(self, task_id: int, body: Mapping[str, Any], /, *, is_script: bool) -> Task: ...
    def delete(self, task_id: int, /, *, is_script: bool) -> None: ...


class Definitions:
    """See the module docstring."""

    def __init__(
        self, server: Server, changed: Callable[[Iterable[DirKey]], None], *, removed_tasks: Path
    ) -> None:
        """Build it.

        Args:
            changed: Forgets the listings of directories.
            removed_tasks: A directory for the definitions of removed tasks: the archive has no trash for them, and
                ``rm -rf`` of a project comes by them, too.
        """
        self._server = server
        self._changed = changed
        self._removed_tasks = removed_tasks

    def create(self, project: Project, body: Mapping[str, Any], name: str) -> None:
        """Make a task of *project*; it is called *name* if *body* does not say.

        Raises:
            BadCommand: *body* is no definition.
        """
        if "yml" not in body and "inputs" not in body:
            # Any object can have a name: what only looks like JSON of a task must not become one.
            raise BadCommand(f"{name}: no definition of a task, which has inputs, or yml")
        body = {"name": name, **body}
        check_definition(body)
        is_script = is_script_definition(body)
        self._server.create({**body, "project": project.id}, is_script=is_script)
        self._tasks_changed(project.id)

    def create_empty(self, project: Project, name: str) -> None:
        """Make a task made of forms that does nothing yet."""
        self.create(project, _EMPTY, name)

    def save(self, task: Task, data: bytes, project_id: int) -> None:
        """Let *task* be what *data* says.

        Raises:
            BadCommand: It is no definition, or one of another task.
        """
        body = parse_definition(data)
        check_definition(body)
        if body.get("id", task.id) != task.id:
            raise BadCommand(f"id: this is the definition of task {body['id']}, and not of task {task.id}")
        if body.get("project") not in (None, project_id):
            raise BadCommand(
                "project: a task goes to another project by the commands copy-task and move-task"
            )
        if is_script_definition(body) != task.is_script:
            sort = (
                "is made of forms and has no yml" if not task.is_script else "is a script task and needs yml"
            )
            raise BadCommand(f"yml: {task.name} {sort}")
        self._server.save(task.id, body, is_script=task.is_script)
        self._task_changed(task, project_id)

    def rename(self, task: Task, name: str, project_id: int) -> None:
        """Let *task* be called *name*."""
        now = self._server.task(task.id, is_script=task.is_script)  # others may have changed it
        self._server.save(task.id, {**now.raw, "name": name}, is_script=task.is_script)
        self._task_changed(task, project_id)

    def delete(self, task: Task, project_id: int) -> None:
        """Remove *task*; its definition is kept on this machine.

        Raises:
            UsageError: It can not be kept there.
        """
        name = legal_name(task.name, "task")[:100]
        kept = make_private_directory(self._removed_tasks) / f"{name} {uuid.uuid4().hex}.json"
        try:
            kept.write_bytes(definition_text(task))
        except OSError as error:
            raise UsageError(
                f"{kept} can not be written: {error.strerror}", ExitStatus.CACHE_DIRECTORY
            ) from None
        log.info("the definition of the removed task %s is kept as %s", task.name, kept)
        self._server.delete(task.id, is_script=task.is_script)
        self._task_changed(task, project_id)

    def _task_changed(self, task: Task, project_id: int) -> None:
        sort = "script" if task.is_script else "ui"
        self._changed([*_lists(project_id), DirKey(Area.TASK, task.id, project=project_id, inner=sort)])

    def _tasks_changed(self, project_id: int) -> None:
        self._changed(_lists(project_id))


def _lists(project_id: int) -> list[DirKey]:
    return [DirKey(Area.TASKS, project_id), DirKey(Area.TASKS)]


def definition_text(task: Task) -> bytes:
    """Return the definition of *task* as it is shown."""
    return (json.dumps(task.raw, indent=2, ensure_ascii=False) + "\n").encode(errors="replace")


def is_script_definition(body: Mapping[str, Any]) -> bool:
    """Tell whether this is a script task; those made of forms may have an empty ``yml``."""
    return bool(body.get("yml"))


def parse_definition(data: bytes) -> dict[str, Any]:
    """Return the object that *data* is.

    Raises:
        BadCommand: It is none; the words say in which line.
    """
    try:
        body = json.loads(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise BadCommand(f"line {line}: this is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise BadCommand(f"line {error.lineno}, column {error.colno}: {error.msg.lower()}") from None
    except (ValueError, RecursionError):
        raise BadCommand("this JSON is nested too deeply, or has a number that is too long") from None
    if not isinstance(body, dict):
        raise BadCommand("line 1: a definition is one object, which begins with {")
    return body


def check_definition(body: Mapping[str, Any]) -> None:
    """Refuse what can not be the definition of a task.

    Raises:
        BadCommand: With the field.
    """
    name = body.get("name")
    if not isinstance(name, str) or not name.strip():
        raise BadCommand("name: a task has a name")
    if is_script_definition(body):
        _check_script(body["yml"])
        return
    for field in _TEXTS:
        if not isinstance(body.get(field, ""), (str, type(None))):
            raise BadCommand(f"{field}: must be a text")
    code = body.get("success_exit_code")
    if code is not None and (isinstance(code, bool) or not isinstance(code, int)):
        raise BadCommand("success_exit_code: must be a whole number")
    keys: set[str] = set()
    for number, one in enumerate(_objects(body, "inputs")):
        _check_input(one, f"inputs[{number}]", keys)
    for number, one in enumerate(_objects(body, "outputs")):
        _check_regex(one, f"outputs[{number}]")


def _check_script(yml: object) -> None:
    try:
        content = read_yml(yml)
    except ValueError as error:
        raise BadCommand(f"yml: {' '.join(str(error).split())}") from None
    inputs = content.get("inputs")
    if inputs is not None and not isinstance(inputs, dict):
        raise BadCommand("yml: inputs: must have the inputs by their keys")
    for key, one in (inputs or {}).items():
        if not isinstance(one, (dict, str)):
            raise BadCommand(f"yml: inputs.{key}: must be an object with a type")


def _objects(body: Mapping[str, Any], field: str) -> list[Mapping[str, Any]]:
    values = body.get(field)
    if values is None:
        return []
    if not isinstance(values, list):
        raise BadCommand(f"{field}: must be a list")
    for number, one in enumerate(values):
        if not isinstance(one, dict):
            raise BadCommand(f"{field}[{number}]: must be an object")
    return values


def _check_input(one: Mapping[str, Any], place: str, keys: set[str]) -> None:
    key = one.get("key")
    if not isinstance(key, str) or not _KEY.fullmatch(key):
        raise BadCommand(f"{place}.key: must be a text without blanks and =")
    if key in keys:
        raise BadCommand(f"{place}.key: {key!r} is the key of another input already")
    keys.add(key)
    kind = one.get("type")
    if isinstance(kind, bool) or not isinstance(kind, int) or kind not in _TYPES:
        raise BadCommand(f"{place}.type: must be a number from {_TYPES[0]} to {_TYPES[-1]}, not {kind!r}")
    if not isinstance(one.get("required", True), bool):
        raise BadCommand(f"{place}.required: must be true or false")
    wanted = one.get("data_set_type")
    if wanted is not None and (isinstance(wanted, bool) or not isinstance(wanted, int)):
        raise BadCommand(f"{place}.data_set_type: must be a number")
    _check_regex(one, place)
    limits = []
    for field in ("min", "max"):
        limit = _limit(one.get(field), f"{place}.{field}")
        limits.append(limit)
    if None not in limits and limits[0] > limits[1]:
        raise BadCommand(f"{place}.min: is more than max")


def _limit(value: object, place: str) -> Any:
    if value is None or value == "":
        return None
    try:
        if isinstance(value, str):
            return float(value)
    except ValueError:
        raise BadCommand(f"{place}: must be a number") from None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise BadCommand(f"{place}: must be a number")
    return value


def _check_regex(one: Mapping[str, Any], place: str) -> None:
    pattern = one.get("filename_regex")
    if pattern is None:
        return
    try:
        re.compile(pattern)
    except (re.error, TypeError) as error:
        raise BadCommand(f"{place}.filename_regex: {error}") from None
