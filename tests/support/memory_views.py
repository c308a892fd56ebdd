"""What a ``MemoryArchive`` says of tags, searches, tasks and the trash: the client's parts that list them.

Calls are appended to the archive's ``calls``; ``fail_with`` and ``without`` of the archive work here, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agorafs.client.annotations import Tag, TagInstance
from agorafs.client.records import Folder, Kind, RemoteRef, Series
from agorafs.client.task_records import Task
from agorafs.client.view_records import Hit, Relation, TrashEntry
from agorafs.errors import NotFound

if TYPE_CHECKING:
    from tests.support.memory_archive import MemoryArchive


class MemoryAnnotations:
    """Tags as ``client.annotations`` has them."""

    def __init__(self, archive: MemoryArchive) -> None:
        self._archive = archive
        self._tags: dict[int, Tag] = {}
        self._instances: dict[int, TagInstance] = {}

    def add_tag(self, label: str, project: int | None = None) -> Tag:
        tag = Tag(self._archive.next_id(), label, project)
        self._tags[tag.id] = tag
        return tag

    def add_instance(self, tag: Tag, kind: Kind, object_id: int) -> TagInstance:
        made = TagInstance(self._archive.next_id(), tag.id, RemoteRef(kind, object_id))
        self._instances[made.id] = made
        return made

    def labels_of(self, ref: RemoteRef) -> list[str]:
        return [self._tags[one.tag].label for one in self._instances.values() if one.ref == ref]

    def tags(self) -> list[Tag]:
        self._archive._asked("tags")
        return list(self._tags.values())

    def project_tags(self, project_id: int) -> list[Tag]:
        self._archive._asked("project_tags", project_id)
        return [tag for tag in self._tags.values() if tag.project == project_id]

    def tag_instances(self, project_id: int | None) -> list[TagInstance]:
        self._archive._asked("tag_instances", project_id)
        return [
            one
            for one in self._instances.values()
            if project_id is None or self._tags[one.tag].project == project_id
        ]

    def tagged(self, project_id: int, kind: Kind, tag_id: int) -> list[Any]:
        self._archive._asked("tagged", project_id, kind.value, tag_id)
        refs = {one.ref for one in self._instances.values() if one.tag == tag_id}
        return [one for one in self._archive.all_of(kind, project_id) if RemoteRef(kind, one.id) in refs]

    def tags_of(self, ref: RemoteRef) -> list[Tag]:
        self._archive._asked("tags_of", ref.kind.value, ref.id)
        return [self._tags[one.tag] for one in self._instances.values() if one.ref == ref]

    def tag(self, ref: RemoteRef, tag_id: int) -> TagInstance:
        self._archive._asked("tag", ref.kind.value, ref.id, tag_id)
        return self.add_instance(self._tags[tag_id], ref.kind, ref.id)

    def remove_tag_instance(self, instance_id: int) -> None:
        self._archive._asked("remove_tag_instance", instance_id)
        if self._instances.pop(instance_id, None) is None:
            raise NotFound(f"tag instance {instance_id} is not there")

    def create_tag(self, label: str, *, project: int | None, user: int | None = None) -> Tag:
        self._archive._asked("create_tag", label, project, user)
        return self.add_tag(label, project)

    def delete_tag(self, tag_id: int) -> None:
        self._archive._asked("delete_tag", tag_id)
        if self._tags.pop(tag_id, None) is None:
            raise NotFound(f"tag {tag_id} is not there")
        self._instances = {id_: one for id_, one in self._instances.items() if one.tag != tag_id}


class MemoryExploring:
    """Searches and the trash as ``client.exploring`` has them; ``hits`` and ``series_hits`` by what is asked for."""

    def __init__(self, archive: MemoryArchive) -> None:
        self._archive = archive
        self.hits: dict[str, list[Hit]] = {}
        self.series_hits: dict[str, list[Series]] = {}
        self.related: list[Relation] = []
        self._trash: dict[int, TrashEntry] = {}

    def add_hit(self, text: str, kind: Kind, object_id: int, name: str, project: int | None = None) -> None:
        self.hits.setdefault(text, []).append(Hit(RemoteRef(kind, object_id), name, project, {}))

    def add_trash(self, project: int, name: str, kind: Kind | None = Kind.DATASET) -> TrashEntry:
        number = self._archive.next_id()
        raw = {"id": number, "project": project, "name": name, "unknown": "kept"}
        self._trash[number] = TrashEntry(number, project, kind, 4711, name, 1_700_000_000_000_000_000, raw)
        return self._trash[number]

    def search(self, text: str, *, project: int | None) -> list[Hit]:
        self._archive._asked("search", text, project)
        hits = self.hits.get(text, [])
        return [hit for hit in hits if project is None or hit.project == project]

    def search_series(self, expression: str) -> list[Series]:
        self._archive._asked("search_series", expression)
        return self.series_hits.get(expression, [])

    def relations(self, ref: RemoteRef) -> list[Relation]:
        self._archive._asked("relations", ref.kind.value, ref.id)
        return [one for one in self.related if ref in (one.first, one.second)]

    def folders_of(self, ref: RemoteRef) -> list[Folder]:
        self._archive._asked("folders_of", ref.kind.value, ref.id)
        return self._archive.folders_showing(ref)

    def trash(self) -> list[TrashEntry]:
        self._archive._asked("trash")
        return list(self._trash.values())

    def delete_finally(self, entry_id: int) -> None:
        self._archive._asked("delete_finally", entry_id)
        if self._trash.pop(entry_id, None) is None:
            raise NotFound(f"trash entry {entry_id} is not there")


class MemoryTasks:
    """Tasks as ``client.tasks`` has them; those of projects in ``failing`` can not be had."""

    def __init__(self, archive: MemoryArchive) -> None:
        self._archive = archive
        self._tasks: list[Task] = []
        self.failing: dict[int, Exception] = {}

    def add(self, project: int, name: str, *, is_script: bool = False, task_id: int | None = None) -> Task:
        number = task_id or self._archive.next_id()
        task = Task(number, name, is_script, project, (), {"id": number, "name": name})
        self._tasks.append(task)
        return task

    def project_tasks(self, project_id: int) -> list[Task]:
        self._archive._asked("project_tasks", project_id)
        if project_id in self.failing:
            raise self.failing[project_id]
        return [task for task in self._tasks if task.project == project_id]

    def task(self, task_id: int, *, is_script: bool) -> Task:
        self._archive._asked("task", task_id)
        for task in self._tasks:
            if (task.id, task.is_script) == (task_id, is_script):
                return task
        raise NotFound(f"task {task_id} is not there")
