"""Tasks of an archive in memory that can be made, changed and run: what ``client.tasks`` does to a real one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agorafs.client.records import Folder, RemoteRef
from agorafs.client.task_records import Task, TimelineItem
from agorafs.errors import NotFound
from tests.support.memory_archive import MemoryArchive
from tests.support.memory_views import MemoryTasks

Key = tuple[int, bool]


class ChangingTasks(MemoryTasks):
    """``changes`` has what was asked to be changed or run, in order; ``fail_with`` makes these calls raise."""

    def __init__(self, archive: MemoryArchive) -> None:
        super().__init__(archive)
        self.changes: list[tuple[Any, ...]] = []
        self.fail_with: Exception | None = None
        self._found: dict[Key, Task] = {}

    def define(self, project: int, body: Mapping[str, Any], *, is_script: bool = False) -> Task:
        """Put a task into a project, as the server would give it."""
        number = body.get("id") or self._archive.next_id()
        task = Task.from_json({**body, "id": number}, is_script=is_script, project=project)
        self._found[number, is_script] = task
        return task

    def all(self) -> list[Task]:
        """Return what there is now."""
        return list(self._found.values())

    def project_tasks(self, project_id: int) -> list[Task]:
        self._archive._asked("project_tasks", project_id)
        return [task for task in self._found.values() if task.project == project_id]

    def task(self, task_id: int, *, is_script: bool) -> Task:
        found = self._found.get((task_id, is_script))
        if found is None:
            raise NotFound(f"task {task_id} is not there")
        return found

    def create(self, body: Mapping[str, Any], *, is_script: bool = False) -> Task:
        self._change("create", dict(body), is_script)
        return self.define(body["project"], {**body, "id": None}, is_script=is_script)

    def save(self, task_id: int, body: Mapping[str, Any], *, is_script: bool) -> Task:
        self._change("save", task_id, dict(body), is_script)
        project = self.task(task_id, is_script=is_script).project
        assert project is not None
        return self.define(project, {**body, "id": task_id}, is_script=is_script)

    def delete(self, task_id: int, *, is_script: bool) -> None:
        self._change("delete", task_id, is_script)
        del self._found[task_id, is_script]

    def run(
        self, task_id: int, target: RemoteRef | None, inputs: Mapping[str, Any], *, is_script: bool
    ) -> TimelineItem:
        self._change("run", task_id, target, dict(inputs), is_script)
        return TimelineItem.from_json({"id": 70 + len(self.changes), "data": {"state": 6}})

    def timeline(self, item_id: int) -> TimelineItem:
        return TimelineItem.from_json({"id": item_id, "data": {"state": 1}})

    def result_folders(self, ref: RemoteRef) -> list[Folder]:
        return []

    def _change(self, *what: Any) -> None:
        self.changes.append(what)
        if self.fail_with is not None:
            raise self.fail_with
