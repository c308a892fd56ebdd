"""What the archive is asked for the views: tags, searches, tasks, the trash.

Place.  ``tree.Tree`` keeps the listings; here is what one costs.

=====================  ===========================================================================================
directory              requests
=====================  ===========================================================================================
the tags               1
one tag                1 for which objects have it, and for each kind of object one for each project that it may be
                       in, or one for each object where those are fewer (of folders always). Over all projects 1 more
a search               1 for each text
a project's tasks      2 (the archive has two kinds of tasks)
all tasks              those of each project that is not in memory, a few at a time
a project's trash      1, which brings the trash of the other projects along
=====================  ===========================================================================================

A server without one of these lists (404) has nothing to show in it: the directory is empty, and says why in
``Listing.not_shown``. So ``find`` and ``rsync`` go through a mount of it without an error.

Threads.  Every method may be called from any thread; no state.

Failure.  Of the tasks of several projects, those that can be had are shown. Objects that have gone since a tag was
looked up are left out.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Protocol, TypeVar

from agorafs.cache.at_once import each
from agorafs.cache.metadata import Fetched
from agorafs.client.annotations import Tag, TagInstance
from agorafs.client.records import (
    Dataset,
    Exam,
    Folder,
    Kind,
    Patient,
    Project,
    RemoteRef,
    Series,
)
from agorafs.client.task_records import Task
from agorafs.client.view_records import Hit, TrashEntry
from agorafs.errors import AgoraFSError, NotFound, NotSupported, PermissionDenied
from agorafs.tree import view_listings as build
from agorafs.tree.listing import Area, DirKey, Listing
from agorafs.tree.naming import Naming
from agorafs.tree.view_listings import Tagged

log = logging.getLogger(__name__)

# A search for this and an expression is one for series (``parameter.TR > 1``); anything else is a text.
SERIES_EXPRESSION = "series:"

Found = Fetched[DirKey, Listing]
T = TypeVar("T")


class TagLists(Protocol):
    """``client.Client.annotations``, as far as tags are listed."""

    def tags(self) -> list[Tag]: ...
    def project_tags(self, project_id: int) -> list[Tag]: ...
    def tag_instances(self, project_id: int | None) -> list[TagInstance]: ...
    def tagged(
        self, project_id: int, kind: Kind, tag_id: int
    ) -> Sequence[Exam | Series | Dataset | Patient]: ...


class Exploring(Protocol):
    """``client.Client.exploring``, as far as it is listed."""

    def search(self, text: str, *, project: int | None) -> list[Hit]: ...
    def search_series(self, expression: str) -> list[Series]: ...
    def trash(self) -> list[TrashEntry]: ...


class TaskLists(Protocol):
    """``client.Client.tasks``, as far as tasks are listed and found."""

    def project_tasks(self, project_id: int) -> list[Task]: ...
    def task(self, task_id: int, /, *, is_script: bool) -> Task: ...


class ViewArchive(Protocol):
    """What the views ask of the archive."""

    @property
    def annotations(self) -> TagLists: ...
    @property
    def exploring(self) -> Exploring: ...
    @property
    def tasks(self) -> TaskLists: ...
    def folder(self, folder_id: int) -> Folder: ...
    def exam(self, exam_id: int) -> Exam: ...
    def series(self, series_id: int) -> Series: ...
    def dataset(self, dataset_id: int) -> Dataset: ...
    def patient(self, patient_id: int) -> Patient: ...


class Views:
    """See the module docstring."""

    def __init__(
        self,
        archive: ViewArchive,
        naming: Naming,
        *,
        projects: Callable[[], Iterable[Project]],
        load: Callable[[DirKey], Listing],
        complete: Callable[[Sequence[Dataset]], Mapping[int, Dataset]],
    ) -> None:
        """Build it; no request.

        Args:
            projects: Gives all projects that this user sees.
            load: Gives another listing, from memory or by fetching it.
            complete: Gives datasets, by id, with the datafiles that an answer left out.
        """
        self._archive = archive
        self._naming = naming
        self._projects = projects
        self._load = load
        self._complete = complete

    def fetch(self, key: DirKey) -> Found:
        """Ask for the listing of a view's directory."""
        if key.area is Area.TAG:
            return self._tag(key)
        if key.area is Area.FOUND:
            return self._found(key)
        if key == DirKey(Area.TASKS):
            return self._all_tasks()
        try:
            if key.area is Area.TAGS:
                tags = self._archive.annotations
                return Fetched(build.tags_listing(key, tags.project_tags(key.id) if key.id else tags.tags()))
            if key.area is Area.TASKS:
                return Fetched(build.tasks_listing(key.id, self._archive.tasks.project_tasks(key.id)))
            assert key.area is Area.TRASH, key
            return self._trash(key)
        except NotFound as error:
            return Fetched(Listing(key, {}, (f"{key.area.value}: {error}",)))

    # -- tags ----------------------------------------------------------------------------------------

    def _tag(self, key: DirKey) -> Found:
        annotations = self._archive.annotations
        homes: dict[int, int | None] = {key.id: key.project}  # the project of each tag with this label
        if not key.project:
            homes = {tag.id: tag.project for tag in annotations.tags() if tag.label == key.inner}
        ids: dict[tuple[int, Kind], set[int]] = defaultdict(set)
        for instance in annotations.tag_instances(key.project or None):
            if instance.tag in homes:
                ids[instance.tag, instance.ref.kind].add(instance.ref.id)
        everywhere: list[int] | None = None
        found: dict[RemoteRef, Tagged] = {}
        for (tag, kind), wanted in ids.items():
            home = homes[tag]
            if home is None and everywhere is None:
                everywhere = [project.id for project in self._projects()]
            projects = [home] if home is not None else everywhere or []
            found.update((RemoteRef(kind, one.id), one) for one in self._tagged(tag, kind, wanted, projects))
        datasets = self._complete([one for one in found.values() if isinstance(one, Dataset)])
        whole = [datasets[one.id] if isinstance(one, Dataset) else one for one in found.values()]
        return Fetched(build.links_listing(key, whole, self._naming))

    def _tagged(
        self, tag: int, kind: Kind, wanted: Collection[int], projects: Sequence[int]
    ) -> Iterable[Tagged]:
        """Return the objects *wanted*, which have the tag, as cheaply as can be."""
        if kind is not Kind.FOLDER and len(wanted) > len(projects):
            try:
                answers = each(lambda project: self._archive.annotations.tagged(project, kind, tag), projects)
                return [one for answer in answers for one in answer if one.id in wanted]
            except (NotFound, NotSupported) as error:
                log.debug("the server does not list each %s with tag %d: %s", kind.value, tag, error)
        one_by_one: dict[Kind, Callable[[int], Tagged]] = {
            Kind.FOLDER: self._archive.folder,
            Kind.EXAM: self._archive.exam,
            Kind.SERIES: self._archive.series,
            Kind.DATASET: self._archive.dataset,
            Kind.PATIENT: self._archive.patient,
        }
        if kind not in one_by_one:
            return []
        answers_or_none = each(lambda one: _unless_gone(one_by_one[kind], one), wanted)
        return [one for one in answers_or_none if one is not None]

    # -- searches ------------------------------------------------------------------------------------

    def _found(self, key: DirKey) -> Found:
        exploring = self._archive.exploring
        if not key.inner.startswith(SERIES_EXPRESSION):
            return Fetched(build.found_listing(key, exploring.search(key.inner, project=key.id or None)))
        series = exploring.search_series(key.inner[len(SERIES_EXPRESSION) :].strip())
        if key.id:
            unsure = {one.exam for one in series if one.project is None and one.exam is not None}
            exams = each(lambda exam: _unless_gone(self._archive.exam, exam), unsure)
            homes = {exam.id: exam.project for exam in exams if exam is not None}
            series = [one for one in series if key.id in (one.project, homes.get(one.exam or 0))]
        return Fetched(build.links_listing(key, series, self._naming))

    # -- tasks and trash -----------------------------------------------------------------------------

    def _all_tasks(self) -> Found:
        projects = list(self._projects())
        answers = each(self._tasks_or_error, projects)
        failures = [answer for answer in answers if isinstance(answer, AgoraFSError)]
        if failures and len(failures) == len(projects):
            raise failures[0]
        tasks = [
            (project.id, answer)
            for project, answer in zip(projects, answers, strict=True)
            if not isinstance(answer, AgoraFSError)
        ]
        not_shown = [
            f"tasks of {project.name}: {answer}"
            for project, answer in zip(projects, answers, strict=True)
            if isinstance(answer, AgoraFSError)
        ]
        return Fetched(build.all_tasks_listing(tasks, not_shown))

    def _tasks_or_error(self, project: Project) -> list[Task] | AgoraFSError:
        try:
            listing = self._load(DirKey(Area.TASKS, project.id))
        except AgoraFSError as error:
            log.debug("tasks of project %d: %s", project.id, error)
            return error
        return [entry.record for entry in listing.entries.values() if isinstance(entry.record, Task)]

    def _trash(self, key: DirKey) -> Found:
        by_project: dict[int, list[TrashEntry]] = {key.id: []}
        for entry in self._archive.exploring.trash():
            if entry.project is not None:
                by_project.setdefault(entry.project, []).append(entry)
        listings = {
            DirKey(Area.TRASH, project): build.trash_listing(project, entries)
            for project, entries in by_project.items()
        }
        return Fetched(listings.pop(key), listings)


def _unless_gone(fetch: Callable[[int], T], object_id: int) -> T | None:
    try:
        return fetch(object_id)
    except (NotFound, PermissionDenied) as error:
        log.debug("%d is left out: %s", object_id, error)
        return None
