"""Tags, ratings, parameter sets and locks in memory: the second implementation of ``vfs.annotations.Calls``.

``calls`` has what was asked for; ``fail_with`` makes every call raise, ``without`` named calls as a server does that
does not have them. Tags of no project are the user's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from agorafs.client.annotations import ParameterSet, Rating, Tag, TagInstance
from agorafs.client.records import RemoteRef
from agorafs.errors import NotFound


class MemoryAnnotations:
    def __init__(self) -> None:
        self.calls: list[str] = []
        self.fail_with: Exception | None = None
        self.without: set[str] = set()
        self.before: Callable[[str], object] = lambda call: None  # called within each call
        self.definitions: list[Tag] = []
        self.instances: list[TagInstance] = []
        self.ratings: dict[RemoteRef, Rating] = {}
        self.sets: dict[RemoteRef, list[ParameterSet]] = {}
        self.locked: dict[int, bool] = {}
        self._last_id = 1000

    # -- making things, without a call ---------------------------------------------------------------

    def next_id(self) -> int:
        self._last_id += 1
        return self._last_id

    def define(self, label: str, project: int | None) -> Tag:
        tag = Tag(self.next_id(), label, project, None if project else 1)
        self.definitions.append(tag)
        return tag

    def give(self, ref: RemoteRef, tag: Tag) -> TagInstance:
        instance = TagInstance(self.next_id(), tag.id, ref)
        self.instances.append(instance)
        return instance

    def add_set(
        self, ref: RemoteRef, name: str, parameters: Sequence[Mapping[str, Any]], *, is_read_only: bool
    ) -> ParameterSet:
        one = ParameterSet(self.next_id(), name, is_read_only, tuple(parameters))
        self.sets.setdefault(ref, []).append(one)
        return one

    def labels(self, ref: RemoteRef) -> list[str]:
        ids = {one.tag for one in self.instances if one.ref == ref}
        return [tag.label for tag in self.definitions if tag.id in ids]

    def values(self, ref: RemoteRef, name: str) -> dict[str, Any]:
        for one in self.sets[ref]:
            if one.name == name:
                return {parameter["Name"]: parameter["Value"] for parameter in one.parameters}
        raise KeyError(name)

    # -- answering -----------------------------------------------------------------------------------

    def _asked(self, call: str, *words: object) -> None:
        self.calls.append(" ".join([call, *map(str, words)]))
        self.before(call)
        if self.fail_with is not None:
            raise self.fail_with
        if call in self.without:
            raise NotFound("no such endpoint")

    def tags(self) -> list[Tag]:
        self._asked("tags")
        return list(self.definitions)

    def project_tags(self, project_id: int) -> list[Tag]:
        self._asked("project_tags", project_id)
        return [tag for tag in self.definitions if tag.project == project_id]

    def tags_of(self, ref: RemoteRef) -> list[Tag]:
        self._asked("tags_of", ref.kind.value, ref.id)
        ids = {one.tag for one in self.instances if one.ref == ref}
        return [tag for tag in self.definitions if tag.id in ids]

    def create_tag(self, label: str, *, project: int | None) -> Tag:
        self._asked("create_tag", label, project)
        return self.define(label, project)

    def tag(self, ref: RemoteRef, tag_id: int) -> TagInstance:
        self._asked("tag", ref.kind.value, ref.id, tag_id)
        [tag] = [tag for tag in self.definitions if tag.id == tag_id]
        return self.give(ref, tag)

    def tag_instances(self, project_id: int | None) -> list[TagInstance]:
        self._asked("tag_instances", project_id)
        ids = {tag.id for tag in self.definitions if project_id in (None, tag.project)}
        return [one for one in self.instances if one.tag in ids]

    def remove_tag_instance(self, instance_id: int) -> None:
        self._asked("remove_tag_instance", instance_id)
        before = len(self.instances)
        self.instances = [one for one in self.instances if one.id != instance_id]
        if len(self.instances) == before:
            raise NotFound(f"instance {instance_id} is not there")

    def rating(self, ref: RemoteRef) -> Rating | None:
        self._asked("rating", ref.kind.value, ref.id)
        return self.ratings.get(ref)

    def rate(self, ref: RemoteRef, value: int) -> None:
        self._asked("rate", ref.kind.value, ref.id, value)
        if value:
            self.ratings[ref] = Rating(self.next_id(), value)
        else:
            self.ratings.pop(ref, None)

    def parameter_sets(self, ref: RemoteRef) -> list[ParameterSet]:
        self._asked("parameter_sets", ref.kind.value, ref.id)
        return list(self.sets.get(ref, ()))

    def add_parameter_set(
        self, ref: RemoteRef, name: str, parameters: Sequence[Mapping[str, Any]]
    ) -> ParameterSet:
        self._asked("add_parameter_set", ref.kind.value, ref.id, name)
        one = self.add_set(ref, name, parameters, is_read_only=False)
        return replace(one, parameters=())  # the answer is the head

    def replace_parameters(self, set_id: int, name: str, parameters: Sequence[Mapping[str, Any]]) -> None:
        self._asked("replace_parameters", set_id, name)
        for sets in self.sets.values():
            for index, one in enumerate(sets):
                if one.id == set_id:
                    sets[index] = replace(one, name=name, parameters=tuple(parameters))

    def delete_parameter_set(self, set_id: int) -> None:
        self._asked("delete_parameter_set", set_id)
        for sets in self.sets.values():
            sets[:] = [one for one in sets if one.id != set_id]

    def set_locked(self, exam_ids: Sequence[int], locked: bool) -> None:
        self._asked("set_locked", *exam_ids, locked)
        for exam in exam_ids:
            self.locked[exam] = locked
