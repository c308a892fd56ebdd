"""A desk over an archive in memory: looking is real, whatever would change something is only noted."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from agorafs.cache.pins import Pin
from agorafs.client.records import Project, RemoteRef
from agorafs.client.task_records import Task, TimelineItem, TimelineState
from agorafs.vfs.aside import Caller
from agorafs.vfs.control import VERBS, Desk, Services, Talk
from agorafs.vfs.job_store import Job, JobState
from agorafs.vfs.jobs import Progress
from tests.vfs.world import World

PROJECT = ("projects", "P")
ME = Caller(1000, 7)


class Recorder:
    """Notes every call as a line; *returns* says what some of them give, or raise."""

    def __init__(self, name: str, calls: list[str], **returns: Any) -> None:
        self._name = name
        self._calls = calls
        self.returns: dict[str, Any] = returns

    def __getattr__(self, method: str) -> Callable[..., Any]:
        def call(*arguments: Any, **keywords: Any) -> Any:
            shown = [*map(_shown, arguments), *(f"{key}={_shown(value)}" for key, value in keywords.items())]
            self._calls.append(" ".join([f"{self._name}.{method}", *shown]))
            value = self.returns.get(method)
            if isinstance(value, Exception):
                raise value
            return value(*arguments) if callable(value) else value

        return call


def _shown(value: Any) -> str:
    if isinstance(value, RemoteRef):
        return f"{value.kind.value}:{value.id}"
    return value.name if isinstance(value, Task) else repr(value)


class LocalJobs:
    """Does local jobs at once; of others it keeps what was to be told."""

    def __init__(self, calls: list[str]) -> None:
        self.calls = calls
        self.jobs: list[Job] = []
        self.said: list[str] = []
        self.notify: Callable[[Job], None] | None = None

    def start_timeline(
        self, title: str, item: TimelineItem, *, target: Any, project: Any = None, notify: Any = None
    ):
        self.calls.append(f"jobs.start_timeline {title}")
        self.notify = notify
        return self._add(title, JobState.RUNNING, timeline=item.id)

    def start_local(self, title: str, work: Callable[[Progress], str]) -> Job:
        def tell(progress: str | None, line: str) -> None:
            self.said.append(progress or line)

        try:
            return self._add(title, JobState.FINISHED, progress=work(Progress(tell)))
        except Exception as error:  # noqa: BLE001 (a job keeps its error)
            return self._add(title, JobState.FAILED, error=str(error))

    def job(self, number: int) -> Job:
        return self.jobs[number - 1]

    def _add(self, title: str, state: JobState, **more: Any) -> Job:
        self.jobs.append(Job(len(self.jobs) + 1, title, state, 1, **more))
        return self.jobs[-1]


class Bench(World):
    """``P`` has the exam ``E`` with the series ``S``, and the file ``a.dat``; ``Q`` is another project."""

    def __init__(self, directory: Path, *, roles: Any = (), **wishes: Any) -> None:
        super().__init__(directory, roles=roles)
        self.calls: list[str] = []
        self.other = self.archive.add_project("Q")
        self.patient = self.archive.add_patient("Ann")
        self.exam = self.archive.add_exam(self.project.id, "E", patient=self.patient.id)
        self.series = self.archive.add_series(self.exam.id, "S")
        self.slices = self.archive.add_dataset({"1.dcm": b"one", "2.dcm": b"two"}, series=self.series.id)
        self.dataset = self.archive.add_dataset({"a.dat": b"12345"}, folder=self.root)
        self.folder = self.archive.add_folder("sub", self.root)
        item = TimelineItem(31, TimelineState.QUEUED, "", (), {})
        self.annotations = Recorder("annotations", self.calls, difference=lambda *refs: wishes["difference"])
        self.changes = Recorder("server", self.calls, copy_dataset=self.dataset, move_dataset=self.dataset)
        self.moving = Recorder("moving", self.calls, copy_exam=item, move_exam=item, copy_series=item)
        self.administration = Recorder(
            "administration",
            self.calls,
            create_project=Project(77, "New", 1, False, 1, 1, ()),
            roles={1: "Manager", 2: "Scientist"},
            users=[{"id": 5, "username": "bob"}, {"id": 6, "username": "eve"}],
            hosts=lambda project: [{"id": 4, "name": "gpu1"}] if project == self.project.id else [],
            create_user={"id": 8},
        )
        self.exploring = Recorder(
            "exploring", self.calls, trash=[], search_series=[], import_objects=[{"id": 1}]
        )
        self.task = Task(3, "Recon", False, self.project.id, (), {"name": "Recon"})
        self.tasks = Recorder("tasks", self.calls, project_tasks=[], export={"name": "Recon"})
        self.jobs = LocalJobs(self.calls)
        self.runner = Recorder(
            "runner", self.calls, find_task=self.task, run=Job(9, "run Recon", JobState.QUEUED, 1)
        )
        self.left = {"files": 0, "bytes": 0, "sent_bytes": 0, "failed": [], "waiting": ""}
        self.transit = Recorder("transit", self.calls, unfinished=lambda path: self.left, retry=2, cancel=1)
        self.pins: list[Pin] = []
        self.pinning = Recorder(
            "pinning", self.calls, pins=self.pins, unpin=1, fetch=lambda ref, tell: tell(ref.size)
        )
        self.announced: list[str] = []
        self.forgotten = 0  # how often the files below .agora were
        self.forgotten_places = 0
        self.filesystem.mounted_at("/mnt/agora")
        self.desk = Desk(self._services(), VERBS)
        self.wishes = wishes

    def services_with(self, **wishes: Any) -> Desk:
        """Return another desk of the same archive."""
        return Desk(self._services(**wishes), VERBS)

    def _services(self, **wishes: Any) -> Services:
        def announce(paths: Iterable[str]) -> None:
            self.announced += paths

        fields: Any = {
            "tree": self.tree,
            "objects": self.filesystem.objects,
            "annotations": self.annotations,
            "server": self.changes,
            "moving": self.moving,
            "administration": self.administration,
            "exploring": self.exploring,
            "tasks": self.tasks,
            "runner": self.runner,
            "jobs": self.jobs,
            "transit": self.transit,
            "pinning": self.pinning,
            "content_ref": self.filesystem.merged.content_ref,
            "rename": lambda old, new: self.calls.append(f"rename {old} {new}"),
            "read": lambda path, most: self.read(path),
            "refresh": lambda path: self.calls.append(f"refresh {path}"),
            "forget_contents": self._forget_contents,
            "forget_places": self._forget_places,
            "announce": announce,
            "clock": self.clock,
            **wishes,
        }
        return Services(**fields)

    def _forget_contents(self) -> None:
        self.forgotten += 1

    def _forget_places(self) -> None:
        self.forgotten_places += 1

    def say(self, text: str, directory: tuple[str, ...] = PROJECT) -> str:
        """Give a command and return the answer in words."""
        return self.desk.execute(directory, text, ME).text

    def open(self, caller: Caller = ME, directory: tuple[str, ...] = PROJECT) -> Talk:
        """Open the control file of *directory*."""
        return Talk(self.desk, directory, caller)

    def changed(self) -> list[str]:
        """Return what the server was asked besides looking, and forget it."""
        made = list(self.calls)
        self.calls.clear()
        return made

    def requests(self) -> int:
        """Return how often anybody was asked anything so far."""
        return len(self.calls) + len(self.archive.calls)

    def lock_exam(self) -> None:
        """Let the exam be locked, on the server."""
        self.archive._exams[self.exam.id] = dataclasses.replace(self.exam, locked=True)
        self.tree.refresh_all()


def read_all(talk: Talk, offset: int = 0) -> str:
    """``cat``."""
    parts = bytearray()
    while True:
        view = memoryview(bytearray(4096))
        length = talk.read_into(offset + len(parts), view)
        if not length:
            return parts.decode()
        parts += view[:length]
