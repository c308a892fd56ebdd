"""What the verbs of the control file act upon, and what one command brings along.

Place.  ``stack`` fills ``Services``; the verbs use nothing else. Each Protocol has just what the verbs ask.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from agorafs.cache.content import ContentRef
from agorafs.cache.pins import Pin
from agorafs.client.annotations import ParameterSet
from agorafs.client.records import Datafile, Dataset, FolderItem, Kind, Project, RemoteRef, Series
from agorafs.client.task_records import Task, TimelineItem
from agorafs.client.view_records import TrashEntry
from agorafs.clock import Clock
from agorafs.errors import BadCommand, NotFound
from agorafs.tree.tree import Node, Tree
from agorafs.vfs.aside import Aside, Caller
from agorafs.vfs.jobs import Job, Progress
from agorafs.vfs.merged import Local
from agorafs.vfs.objects import ref_of


class Lookup(Protocol):
    """Which object a text means: ``vfs.objects.Objects``."""

    def find(self, directory: Sequence[str], text: str) -> Node: ...
    def by_number(self, ref: RemoteRef) -> Node: ...
    def follow(self, directory: Sequence[str], text: str) -> Node | Local | Aside: ...


class AnnotationService(Protocol):
    """``vfs.annotations.Annotations``: changes go to the server at once, and are seen at once."""

    def add_tag(self, ref: RemoteRef, project: int | None, label: str) -> None: ...
    def remove_tag(self, ref: RemoteRef, project: int | None, label: str) -> None: ...
    def rate(self, ref: RemoteRef, value: int) -> None: ...
    def set_locked(self, ref: RemoteRef, locked: bool) -> None: ...
    def set_parameter(
        self, ref: RemoteRef, name: str, value: Any, *, set_name: str | None = None
    ) -> None: ...
    def parameter_sets(self, ref: RemoteRef) -> tuple[ParameterSet, ...]: ...
    def difference(self, first: RemoteRef, second: RemoteRef) -> Mapping[str, Any]: ...


class ServerChanges(Protocol):
    """``client.changes``."""

    def link(self, ref: RemoteRef, folder_id: int) -> FolderItem: ...
    def copy_dataset(self, dataset_id: int, project_id: int, folder_id: int) -> Dataset: ...
    def move_dataset(self, dataset_id: int, project_id: int, folder_id: int) -> Dataset: ...
    def delete_object(self, ref: RemoteRef) -> None: ...
    def delete_folder_item(self, item_id: int) -> None: ...


class Moving(Protocol):
    """``client.moving``."""

    def copy_exam(self, exam: int, project: int, folder: int | None) -> TimelineItem: ...
    def move_exam(self, exam: int, project: int, folder: int | None) -> TimelineItem: ...
    def copy_series(self, series: int, project: int, folder: int) -> TimelineItem: ...


class Administration(Protocol):
    """``client.administration``."""

    def create_project(self, name: str, description: str) -> Project: ...
    def roles(self) -> dict[int, str]: ...
    def add_member(self, project: int, user: int, role: int) -> None: ...
    def hosts(self, project: int) -> list[Mapping[str, Any]]: ...
    def copy_host(self, project: int, host: Mapping[str, Any]) -> None: ...
    def move_host(self, project: int, host_id: int) -> None: ...
    def users(self) -> list[Mapping[str, Any]]: ...
    def create_user(
        self,
        username: str,
        password: str,
        *,
        email: str = "",
        first_name: str = "",
        last_name: str = "",
        is_superuser: bool = False,
    ) -> Mapping[str, Any]: ...


class Exploring(Protocol):
    """``client.exploring``."""

    def search_series(self, expression: str) -> list[Series]: ...
    def trash(self) -> list[TrashEntry]: ...
    def delete_finally(self, entry_id: int) -> None: ...
    def workbooks(self, dataset_id: int) -> list[Mapping[str, Any]]: ...
    def create_workbook(self, body: Mapping[str, Any]) -> Mapping[str, Any]: ...
    def update_workbook(
        self, workbook_id: int, *, mask: Any = None, contour: Any = None
    ) -> Mapping[str, Any]: ...
    def import_objects(self, package_id: int) -> Any: ...


class Tasks(Protocol):
    """``client.tasks``."""

    def task(self, task_id: int, *, is_script: bool) -> Task: ...
    def project_tasks(self, project_id: int) -> list[Task]: ...
    def create(self, body: Mapping[str, Any], *, is_script: bool = False) -> Task: ...
    def delete(self, task_id: int, *, is_script: bool) -> None: ...
    def export(self, task_id: int, *, is_script: bool) -> Any: ...
    def import_into(self, project_id: int, exported: Any) -> None: ...
    def copy_to(self, task_id: int, project_id: int) -> None: ...
    def move_to(self, task_id: int, project_id: int) -> None: ...


class Runner(Protocol):
    """``vfs.tasks.runner.TaskRunner``: checks every input before the server is asked."""

    def run(self, task: Task, arguments: Mapping[str, object], *, directory: Sequence[str]) -> Job: ...
    def find_task(self, directory: Sequence[str], text: str) -> Task: ...


class Jobs(Protocol):
    """``vfs.jobs.Jobs``."""

    def start_timeline(
        self,
        title: str,
        item: TimelineItem,
        *,
        target: RemoteRef | None,
        project: int | None = None,
        notify: Callable[[Job], None] | None = None,
    ) -> Job: ...
    def start_local(self, title: str, work: Callable[[Progress], str]) -> Job: ...
    def job(self, number: int) -> Job: ...


class Transit(Protocol):
    """``vfs.transit.Transit``: what is on its way to the server."""

    def seal(self, path: str | None) -> None: ...
    def unfinished(self, path: str | None) -> dict[str, Any]: ...
    def retry(self, path: str | None) -> int: ...
    def cancel(self, path: str) -> int: ...


class Pinning(Protocol):
    """``cache.pins.Pinning``: content that stays on this machine."""

    def pin(self, name: str, path: str, contents: Iterable[ContentRef]) -> None: ...
    def unpin(self, is_meant: Callable[[Pin], bool]) -> int: ...
    def fetch(self, content: ContentRef, tell: Callable[[int], None]) -> None: ...
    def pins(self) -> list[Pin]: ...


@dataclass(frozen=True, slots=True)
class Services:
    """All that the verbs act upon.

    Attributes:
        content_ref: Names the bytes of a stored file.
        rename: ``rename(2)`` by paths, which changes the archive.
        read: Returns the bytes of a file by its path, refusing more than so many.
        refresh: Forgets what is known at and below a path; None means everything.
        forget_contents: Forgets what the files below ``.agora`` say.
        forget_places: Forgets where objects are, after some were moved or deleted.
        announce: Lets the kernel ask again about paths, from another thread.
    """

    tree: Tree
    objects: Lookup
    annotations: AnnotationService
    server: ServerChanges
    moving: Moving
    administration: Administration
    exploring: Exploring
    tasks: Tasks
    runner: Runner
    jobs: Jobs
    transit: Transit
    pinning: Pinning
    content_ref: Callable[[Datafile], ContentRef]
    rename: Callable[[str, str], None]
    read: Callable[[str, int], bytes]
    refresh: Callable[[str | None], None]
    forget_contents: Callable[[], None]
    forget_places: Callable[[], None]
    announce: Callable[[Iterable[str]], None]
    clock: Clock
    is_read_only: bool = False
    allow_delete: bool = False
    is_superuser: bool = False


@dataclass(frozen=True, slots=True)
class Request:
    """One command's place: the names of its directory, and who gave it."""

    services: Services
    directory: tuple[str, ...]
    caller: Caller

    def find(self, text: str, *kinds: Kind) -> Node:
        """Return the object that *text* means, which must be one of *kinds* if any are given.

        Raises:
            NotFound, BadCommand: There is none, or it is something else.
        """
        node = self.services.objects.find(self.directory, text)
        if kinds and ref(node).kind not in kinds:
            wanted = " or ".join(kind.value for kind in kinds)
            raise BadCommand(f"{text} is a {ref(node).kind.value}, and this is for {wanted}")
        return node

    def find_all(self, texts: Iterable[str], *kinds: Kind) -> list[Node]:
        """Return the objects that *texts* mean, all of them or none."""
        return [self.find(text, *kinds) for text in texts]

    def project(self, text: str = "") -> Project:
        """Return the project that *text* means by its path, number or name; without one, that of the directory."""
        if not text:
            return self._own_project()
        try:
            node = self.services.objects.find(self.directory, text)
        except NotFound:
            if "/" in text or ":" in text:
                raise
            node = self.services.objects.find(("projects",), text)
        record = node.entry.record
        if ref(node).kind is not Kind.PROJECT or not isinstance(record, Project):
            raise BadCommand(f"{text} is a {ref(node).kind.value} and not a project")
        return record

    def project_node(self, project: Project) -> Node:
        """Return the directory of *project*."""
        return self.services.objects.by_number(RemoteRef(Kind.PROJECT, project.id))

    def _own_project(self) -> Project:
        node = self.services.tree.resolve(self.directory[:2])
        if node.project is None:
            raise BadCommand("say which project, or say it in the directory of one")
        return node.project

    def path(self, text: str) -> str | None:
        """Return the path in the mount that *text* means, as it is written; None for all of it."""
        names = [] if text.startswith("/") else list(self.directory)
        for name in text.split("/"):
            if name == "..":
                del names[-1:]
            elif name not in ("", "."):
                names.append(name)
        return "/" + "/".join(names) if names else None


def ref(node: Node) -> RemoteRef:
    """Return the object that *node*, found as one, stands for."""
    found = ref_of(node)
    assert found is not None
    return found
