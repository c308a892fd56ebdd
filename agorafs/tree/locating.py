"""From an object to its path: where it lives, not where it is linked.

Requests: what leads from the object to what holds it, step by step, and the listings on the way that memory does not
hold. An exam that a study list in memory has costs none.

Threads.  No state of its own.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Protocol

from agorafs.cache.metadata import ListingCache
from agorafs.client.annotations import Tag
from agorafs.client.records import Crumb, Dataset, Exam, Folder, Kind, Project, RemoteRef, Series
from agorafs.client.task_records import Task
from agorafs.errors import NotFound
from agorafs.tree.listing import Area, DirKey, Listing
from agorafs.tree.nodes import Node

log = logging.getLogger(__name__)


class TagDefinitions(Protocol):
    """``client.annotations``, as far as it tells which tags there are."""

    def tags(self) -> Sequence[Tag]: ...


class TaskDefinitions(Protocol):
    """``client.tasks``, as far as it tells where a task belongs."""

    def task(self, task_id: int, /, *, is_script: bool) -> Task: ...


class Places(Protocol):
    """What locating asks of the archive."""

    @property
    def annotations(self) -> TagDefinitions: ...
    @property
    def tasks(self) -> TaskDefinitions: ...
    def folder_breadcrumb(self, folder_id: int) -> list[Crumb]: ...
    def exam(self, exam_id: int) -> Exam: ...
    def series(self, series_id: int) -> Series: ...
    def series_folders(self, series_id: int) -> list[Folder]: ...
    def dataset(self, dataset_id: int) -> Dataset: ...
    def dataset_folders(self, dataset_id: int) -> list[Folder]: ...


class Looking(Protocol):
    """What locating asks of ``tree.Tree``."""

    def resolve(self, parts: Iterable[str]) -> Node: ...
    def children(self, node: Node) -> list[Node]: ...
    def listing(self, node: Node) -> Listing: ...


class Locator:
    """See the module docstring."""

    def __init__(self, archive: Places, tree: Looking, kept: ListingCache[DirKey, Listing]) -> None:
        self._archive = archive
        self._tree = tree
        self._kept = kept

    def locate(self, ref: RemoteRef) -> tuple[str, ...]:
        """Return the path (names from the root) of the object *ref*, where it lives, not where it is linked.

        Raises:
            NotFound: No such object, or none that this user can see.
        """
        if ref.kind is Kind.PROJECT:
            return self._locate_in(("projects",), ref)
        if ref.kind is Kind.PATIENT:
            return self._locate_in(("patients",), ref)
        if ref.kind is Kind.FOLDER:
            return self._locate_folder(ref.id)
        if ref.kind is Kind.EXAM:
            return self._locate_exam(ref)
        if ref.kind is Kind.SERIES:
            series = self._archive.series(ref.id)
            if series.exam is not None:
                return self._locate_in(self.locate(RemoteRef(Kind.EXAM, series.exam)), ref)
            return self._locate_in_folders(self._archive.series_folders(ref.id), ref)
        if ref.kind is Kind.DATASET:
            dataset = self._archive.dataset(ref.id)
            if dataset.series is not None:
                return self._locate_in(self.locate(RemoteRef(Kind.SERIES, dataset.series)), ref)
            if dataset.exam is not None:
                return self._locate_in(self.locate(RemoteRef(Kind.EXAM, dataset.exam)), ref)
            return self._locate_in_folders(self._archive.dataset_folders(ref.id), ref)
        if ref.kind is Kind.TAG:
            return self._locate_tag(ref)
        if ref.kind in (Kind.TASK, Kind.SCRIPT_TASK):
            task = self._archive.tasks.task(ref.id, is_script=ref.kind is Kind.SCRIPT_TASK)
            if task.project is None:
                raise NotFound(f"the task {task.name} belongs to no project")
            project = self.locate(RemoteRef(Kind.PROJECT, task.project))
            return self._locate_in((*project, "tasks"), ref)
        raise NotFound(f"a {ref.kind.value} can not be found by its id")

    def _locate_in(self, directory: tuple[str, ...], ref: RemoteRef) -> tuple[str, ...]:
        node = self._tree.resolve(directory)
        key = node.entry.target
        assert isinstance(key, DirKey)
        name = self._tree.listing(node).name_of(ref)
        if name is None:  # perhaps it is newer than the listing
            self._kept.invalidate([key])
            name = self._tree.listing(node).name_of(ref)
        if name is None:
            raise NotFound(f"{ref.kind.value} {ref.id} is not in {node.path}")
        return (*directory, name)

    def _locate_exam(self, ref: RemoteRef) -> tuple[str, ...]:
        """Return the path of an exam; no request if a study list in memory has it."""
        for project in self._tree.children(self._tree.resolve(("projects",))):
            assert project.entry.ref is not None
            known = self._kept.get(DirKey(Area.PROJECT_EXAMS, project.entry.ref.id))
            if known is not None and known.name_of(ref) is not None:
                try:
                    return self._locate_in(("projects", project.entry.name, "exams"), ref)
                except NotFound:  # it was moved or deleted since: the archive tells
                    break
        exam = self._archive.exam(ref.id)
        if exam.project is None:
            raise NotFound(f"exam {ref.id} belongs to no project")
        return self._locate_in((*self.locate(RemoteRef(Kind.PROJECT, exam.project)), "exams"), ref)

    def _locate_folder(self, folder_id: int) -> tuple[str, ...]:
        crumbs = self._archive.folder_breadcrumb(folder_id)
        if not crumbs or crumbs[-1].folder != folder_id:
            raise NotFound(f"folder {folder_id} has no place in a folder tree")
        for project in self._tree.children(self._tree.resolve(("projects",))):
            record = project.entry.record
            if isinstance(record, Project) and record.root_folder == crumbs[0].folder:
                path: tuple[str, ...] = ("projects", project.entry.name, "folders")
                for crumb in crumbs[1:]:
                    path = self._locate_in(path, RemoteRef(Kind.FOLDER, crumb.folder))
                return path
        raise NotFound(f"folder {folder_id} lies in no project that you can see")

    def _locate_tag(self, ref: RemoteRef) -> tuple[str, ...]:
        """Return the path of a tag: in its project; else among all tags, where one directory shows all of a label."""
        tags = {tag.id: tag for tag in self._archive.annotations.tags()}
        tag = tags.get(ref.id)
        if tag is None:
            raise NotFound(f"there is no tag {ref.id} that you can see")
        if tag.project is not None:
            project = self.locate(RemoteRef(Kind.PROJECT, tag.project))
            return self._locate_in((*project, "tags"), ref)
        first = min(one.id for one in tags.values() if one.label == tag.label)
        return self._locate_in(("tags",), RemoteRef(Kind.TAG, first))

    def _locate_in_folders(self, folders: Iterable[Folder], ref: RemoteRef) -> tuple[str, ...]:
        """Return the path in the folder that holds *ref* itself; *folders* also has those that link to it."""
        for folder in folders:
            try:
                return self._locate_in(self._locate_folder(folder.id), ref)
            except NotFound as error:
                log.debug("%s %s: %s", ref.kind.value, ref.id, error)
        raise NotFound(f"{ref.kind.value} {ref.id} lies in no folder that you can see")
