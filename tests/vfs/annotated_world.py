"""A project with one of each object that can be described, and what people say about them; all in memory."""

from __future__ import annotations

from agorafs.cache.metadata import Freshness
from agorafs.client.records import Kind, RemoteRef
from agorafs.tree.tree import Node, Tree
from agorafs.vfs.annotations import Annotations
from agorafs.vfs.xattrs import Xattrs
from tests.support.manual_clock import ManualClock
from tests.support.memory_annotations import MemoryAnnotations
from tests.support.memory_archive import MemoryArchive

EXAM = "/projects/P/exams/E"
FILE = "/projects/P/exams/E/S/x"
DESCRIBED = (
    EXAM,
    "/projects/P/exams/E/S",
    FILE,
    "/projects/P/folders",
    "/projects/P/folders/F",
    "/projects/P/folders/ab",
)


class AnnotatedWorld:
    """A project with a folder, an exam, a series and datasets, and the attributes of their paths."""

    def __init__(self, roles: object = (), *, locked: bool = False) -> None:
        self.archive = MemoryArchive()
        self.server = MemoryAnnotations()
        self.clock = ManualClock()
        freshness = Freshness(ttl_s=30.0, revalidate_wait_s=5.0)
        self.project = self.archive.add_project("P", roles=roles)
        root = self.project.root_folder
        assert root is not None
        patient = self.archive.add_patient("Ann")
        exam = self.archive.add_exam(self.project.id, "E", locked=locked, patient=patient.id)
        series = self.archive.add_series(exam.id, "S")
        dataset = self.archive.add_dataset({"x": b"1"}, series=series.id)
        several = self.archive.add_dataset({"a": b"1", "b": b"2"}, folder=root, name="ab")
        folder = self.archive.add_folder("F", root)
        self.refs = {
            "/projects/P/exams/E": RemoteRef(Kind.EXAM, exam.id),
            "/projects/P/exams/E/S": RemoteRef(Kind.SERIES, series.id),
            "/projects/P/exams/E/S/x": RemoteRef(Kind.DATASET, dataset.id),
            "/projects/P/folders": RemoteRef(Kind.FOLDER, root),
            "/projects/P/folders/F": RemoteRef(Kind.FOLDER, folder.id),
            "/projects/P/folders/ab": RemoteRef(Kind.DATASET, several.id),
            "/patients/Ann": RemoteRef(Kind.PATIENT, patient.id),
        }
        self.tree = Tree(
            self.archive,
            user=self.archive.user,
            my_agora=None,
            freshness=freshness,
            max_entries=1000,
            clock=self.clock,
        )
        self.annotations = Annotations(
            self.server,
            freshness=freshness,
            clock=self.clock,
            tag_changed=lambda tag: None,
            object_changed=lambda ref: self.tree.changed([], ref),
        )
        self.xattrs = Xattrs(self.annotations)

    def node(self, path: str) -> Node:
        return self.tree.resolve([part for part in path.split("/") if part])

    def get(self, path: str, name: str) -> str | None:
        return self.xattrs.get(self.node(path), name, None)

    def set(self, path: str, name: str, value: str, flags: int = 0) -> None:
        self.xattrs.set(self.node(path), name, value.encode(), flags)

    def remove(self, path: str, name: str) -> None:
        self.xattrs.remove(self.node(path), name)

    def names(self, path: str) -> list[str]:
        return self.xattrs.names(self.node(path), None)

    def close(self) -> None:
        self.annotations.close()
        self.tree.close()
