"""One method per endpoint of tasks and their runs.

Place.  ``Client.tasks``. What an input may be is checked by those who call; a run goes on at the server, and is looked
at with ``timeline``.

Evidence.  As in ``api``. For script tasks only the run is confirmed by a test of Python; the rest is inherited there.

Repetition.  A lost answer leaves ``create``, ``import_into``, ``copy_to`` and ``run`` undecided (``RemoteUnavailable``
or ``RemoteTimeout``). Saving, moving and deleting are repeated.

Threads.  Every method may be called from any thread.

Failure.  As ``Transport.post_json``; a ``ProtocolError`` besides for answers that are no such record, or are the
record of another task.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from agorafs.client.asking import listed, parsed
from agorafs.client.records import RemoteRef
from agorafs.client.task_records import Task, TimelineItem
from agorafs.client.transport import Transport
from agorafs.errors import NotFound, ProtocolError

T = TypeVar("T")


class Tasks:
    """The tasks of one server."""

    def __init__(self, transport: Transport, page_size: int) -> None:
        self._transport = transport
        self._page_size = page_size

    # -- definitions ---------------------------------------------------------------------------------

    def task(self, task_id: int, *, is_script: bool) -> Task:
        """GET v1/taskdefinition/{id}/, v2/taskdefinition_yaml/{id}/ (Python)."""
        path = _path(is_script, task_id)
        task = self._task(path, self._transport.get_json(path), is_script=is_script)
        if task.id != task_id:
            raise ProtocolError(f"{self._transport.base_url.join(path)}: answered with the task {task.id}")
        return task

    def project_tasks(self, project_id: int) -> list[Task]:
        """GET v2/project/{id}/task/ and v2/project/{id}/taskdefinition_yaml/ (Python), by name.

        A server without script tasks does not have the second.
        """
        tasks = self._listed(project_id, "task", is_script=False)
        with suppress(NotFound):
            tasks += self._listed(project_id, "taskdefinition_yaml", is_script=True)
        return sorted(tasks, key=lambda task: (task.name.lower(), task.is_script, task.id))

    def _listed(self, project_id: int, word: str, *, is_script: bool) -> list[Task]:
        parse = partial(Task.from_json, is_script=is_script, project=project_id)
        return listed(self._transport, f"/api/v2/project/{project_id}/{word}/", parse, self._page_size)

    def create(self, body: Mapping[str, Any], *, is_script: bool = False) -> Task:
        """POST v1/taskdefinition/, v2/taskdefinition_yaml/ (Python), without the ids that *body* may have.

        Python takes away those of the task and of its inputs; those of outputs go, too (guess).
        """
        path = _path(is_script)
        body = {**body, "id": None}
        for part in ("inputs", "outputs"):
            if isinstance(body.get(part), list):
                body[part] = [_without_id(item) for item in body[part]]
        return self._task(path, self._transport.post_json(path, body), is_script=is_script)

    def save(self, task_id: int, body: Mapping[str, Any], *, is_script: bool) -> Task:
        """PUT v1/taskdefinition/{id}/, v2/taskdefinition_yaml/{id}/ (Python): *body* is all that the task is to be."""
        path = _path(is_script, task_id)
        answer = self._transport.put_json(path, {**body, "id": task_id}, may_repeat=True)
        if isinstance(answer, dict) and answer.get("id") == task_id:
            return self._task(path, answer, is_script=is_script)
        return self.task(task_id, is_script=is_script)  # Python does not read the answer, it may be none

    def delete(self, task_id: int, *, is_script: bool) -> None:
        """DELETE v1/taskdefinition/{id}/, v2/taskdefinition_yaml/{id}/ (Python)."""
        self._transport.delete(_path(is_script, task_id))

    # -- between projects ----------------------------------------------------------------------------

    def export(self, task_id: int, *, is_script: bool) -> Any:
        """GET …/{id}/export/ (Python): JSON for ``import_into``."""
        return self._transport.get_json(_path(is_script, task_id) + "export/")

    def import_into(self, project_id: int, exported: object) -> None:
        """POST v2/project/{id}/task/imp/ (Python): what ``export`` gave becomes a task of the project."""
        self._transport.post_json(f"/api/v2/project/{project_id}/task/imp/", exported)

    def copy_to(self, task_id: int, project_id: int) -> None:
        """POST v2/project/{id}/task/{task}/copy/ (Python): tasks made of forms only; the project is the target.

        Python calls it with the ids of script tasks, too, which may be those of other tasks here.
        """
        self._transport.post_json(f"/api/v2/project/{project_id}/task/{task_id}/copy/", {})

    def move_to(self, task_id: int, project_id: int) -> None:
        """POST v2/project/{id}/task/{task}/move/ (Python), as ``copy_to``."""
        self._transport.post_json(f"/api/v2/project/{project_id}/task/{task_id}/move/", {}, may_repeat=True)

    # -- runs ----------------------------------------------------------------------------------------

    def run(
        self, task_id: int, target: RemoteRef | None, inputs: Mapping[str, Any], *, is_script: bool
    ) -> TimelineItem:
        """POST …/{id}/run/ (Python); objects among *inputs* are as ``object_input`` gives them."""
        path = _path(is_script, task_id) + "run/"
        body = {"target": None if target is None else object_input(target), "inputs": dict(inputs)}
        return self._parsed(path, TimelineItem.from_json, self._transport.post_json(path, body))

    def timeline(self, item_id: int) -> TimelineItem:
        """GET v2/timeline/{id}/ (Python)."""
        path = f"/api/v2/timeline/{item_id}/"
        item = self._parsed(path, TimelineItem.from_json, self._transport.get_json(path))
        if item.id != item_id:
            raise ProtocolError(f"{self._transport.base_url.join(path)}: answered with the item {item.id}")
        return item

    # -- how -----------------------------------------------------------------------------------------

    def _task(self, path: str, data: object, *, is_script: bool) -> Task:
        return self._parsed(path, partial(Task.from_json, is_script=is_script), data)

    def _parsed(self, path: str, parse: Callable[[object], T], data: object) -> T:
        return parsed(self._transport, path, parse, data)


def object_input(ref: RemoteRef) -> dict[str, Any]:
    """Return how a run names an object: by the lower-case words of Python's classes (``series``, not ``serie``)."""
    return {"object_id": ref.id, "object_type": ref.kind.value}


def _path(is_script: bool, task_id: int | None = None) -> str:
    base = "/api/v2/taskdefinition_yaml/" if is_script else "/api/v1/taskdefinition/"
    return base if task_id is None else f"{base}{task_id}/"


def _without_id(item: object) -> object:
    return {**item, "id": None} if isinstance(item, dict) and "id" in item else item
