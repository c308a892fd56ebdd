"""Random archives against a dumb model: whatever an archive holds, its tree is whole, legal and without surprise.

The model knows nothing of names, paths or listings. It only knows what lies in what, and is written from the
records that went into the archive.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agorafs.cache.metadata import Freshness
from agorafs.client.records import Datafile, Kind, RemoteRef
from agorafs.tree.listing import Area, DirKey, LinkTarget, SiblingLink
from agorafs.tree.tree import Node, Tree
from tests.support.manual_clock import ManualClock
from tests.support.memory_archive import MemoryArchive

HOSTILE = [
    "",
    " ",
    ".",
    "..",
    ".agora",
    "/",
    "a/b",
    "x",
    "X",
    "x (1)",
    "x (3) (7)",
    "x.nii.gz",
    "\ud800",
    "\x00\n",
]
HOSTILE += [
    "y" * 300,
    "é" * 127 + "ab",
    "e\u0301",
    "My Agora",
    "CON",
    "-rf",
    "a\\b",
    "\u202etxt.exe",
    "tab\there",
]
NAMES = st.one_of(
    st.sampled_from(HOSTILE),
    st.integers(1, 30).map(lambda number: f"x ({number})"),  # as if it were a sibling's suffixed name
    st.text(st.characters(), max_size=8),
)
FILENAMES = st.one_of(NAMES, st.lists(NAMES, min_size=1, max_size=4).map("/".join))
FILES = st.dictionaries(FILENAMES, st.binary(max_size=3), max_size=4)


@dataclass
class Model:
    """What lies in which directory: (kind, id, whether it is only a link), and where each datafile must be."""

    inside: dict[DirKey, Counter[tuple[Kind, int, bool]]] = field(default_factory=dict)
    datafiles: dict[int, int] = field(default_factory=dict)  # id to size

    def put(self, directory: DirKey, kind: Kind, object_id: int, *, is_link: bool) -> None:
        self.inside.setdefault(directory, Counter())[kind, object_id, is_link] += 1

    def add_files(self, dataset) -> None:
        self.datafiles.update((datafile.id, datafile.size) for datafile in dataset.datafiles)


@st.composite
def archives(draw):
    """An archive and the model of what it must look like."""
    archive, model = MemoryArchive(), Model()
    patients = [archive.add_patient(draw(NAMES)) for _ in range(draw(st.integers(0, 2)))]
    folders: list[int] = []
    ancestors: dict[int, list[int]] = {}
    things: list[tuple[str, Kind, Any]] = []
    projects = [
        archive.add_project(draw(NAMES), is_myagora=draw(st.booleans()))
        for _ in range(draw(st.integers(1, 3)))
    ]
    for project in projects:
        assert project.root_folder is not None
        folders.append(project.root_folder)
        ancestors[project.root_folder] = [project.root_folder]
    for _ in range(draw(st.integers(0, 25))):
        what = draw(
            st.sampled_from(["folder", "exam", "loose", "loose series", "link", "link", "loop", "unknown"])
        )
        home = draw(st.sampled_from(folders))
        here = DirKey(Area.FOLDER, home)
        if what == "folder":
            folder = archive.add_folder(draw(NAMES), home)
            folders.append(folder.id)
            ancestors[folder.id] = [*ancestors[home], folder.id]
            things.append(("folder", Kind.FOLDER, folder))
            model.put(here, Kind.FOLDER, folder.id, is_link=False)
        elif what == "exam":
            project = draw(st.sampled_from(projects))
            patient = draw(st.sampled_from([None, *patients]))
            exam = archive.add_exam(project.id, draw(NAMES), patient=patient and patient.id)
            things.append(("exam", Kind.EXAM, exam))
            model.put(DirKey(Area.PROJECT_EXAMS, project.id), Kind.EXAM, exam.id, is_link=False)
            if patient is not None:
                for key in (DirKey(Area.PATIENT, patient.id), DirKey(Area.PATIENT, patient.id, project.id)):
                    model.put(key, Kind.EXAM, exam.id, is_link=True)
            for _ in range(draw(st.integers(0, 2))):
                series = archive.add_series(exam.id, draw(NAMES))
                things.append(("serie", Kind.SERIES, series))
                model.put(DirKey(Area.EXAM, exam.id), Kind.SERIES, series.id, is_link=False)
                for _ in range(draw(st.integers(0, 3))):
                    dataset = archive.add_dataset(draw(FILES), series=series.id, name=draw(NAMES))
                    model.put(DirKey(Area.SERIES, series.id), Kind.DATASET, dataset.id, is_link=False)
                    model.add_files(dataset)
            for _ in range(draw(st.integers(0, 2))):
                dataset = archive.add_dataset(draw(FILES), exam=exam.id, name=draw(NAMES))
                things.append(("dataset", Kind.DATASET, dataset))
                model.put(DirKey(Area.EXAM, exam.id), Kind.DATASET, dataset.id, is_link=False)
                model.add_files(dataset)
        elif what == "loose":
            dataset = archive.add_dataset(draw(FILES), folder=home, name=draw(NAMES))
            things.append(("dataset", Kind.DATASET, dataset))
            model.put(here, Kind.DATASET, dataset.id, is_link=False)
            model.add_files(dataset)
        elif what == "loose series":
            series = archive.add_series(None, draw(NAMES))
            archive.add_item(home, "serie", series.id, series)
            things.append(("serie", Kind.SERIES, series))
            model.put(here, Kind.SERIES, series.id, is_link=False)
            dataset = archive.add_dataset(draw(FILES), series=series.id)
            model.put(DirKey(Area.SERIES, series.id), Kind.DATASET, dataset.id, is_link=False)
            model.add_files(dataset)
        elif what == "link" and things:
            content_type, kind, thing = draw(st.sampled_from(things))
            archive.add_item(home, content_type, thing.id, thing, is_link=True)
            model.put(here, kind, thing.id, is_link=True)
        elif what == "loop":
            # An item that claims to hold one of the folders it lies in.
            inner = draw(st.sampled_from(ancestors[home]))
            archive.add_item(home, "folder", inner, archive.folder(inner))
            model.put(here, Kind.FOLDER, inner, is_link=True)
        elif what == "unknown":
            archive.add_item(home, "hologram", archive.next_id(), None)
    archive.without = draw(st.sampled_from([set(), {"exam_tree"}]))
    archive.bare_datasets = draw(st.booleans())
    return archive, model


def is_link(node: Node) -> bool:
    return isinstance(node.entry.target, (LinkTarget, SiblingLink))


def walk(tree: Tree, node: Node):
    """Yield *node* and all below it, as ``find`` does: through directories, not through links."""
    yield node
    if node.entry.is_directory:
        for child in tree.children(node):
            yield from walk(tree, child)


def follow(tree: Tree, link: Node) -> Node:
    """Go where the text of *link* leads, as a kernel would."""
    assert link.parent is not None
    parts = list(link.parent.parts)
    for part in tree.link_text(link).split("/"):
        assert part not in ("", ".")
        if part == "..":
            parts.pop()  # an IndexError would be a link out of the mount
        else:
            parts.append(part)
    if parts[:2] == [".agora", "by-id"]:
        _, _, kind, number = parts
        parts = list(tree.locate(RemoteRef(Kind(kind), int(number))))
    node = tree.resolve(parts)
    return follow(tree, node) if isinstance(node.entry.target, SiblingLink) else node


def assert_legal(name: str) -> None:
    assert name not in ("", ".", "..", ".agora")
    assert "/" not in name
    assert not any(ord(character) < 32 or 127 <= ord(character) < 160 for character in name)
    assert len(name.encode()) <= 255  # and is UTF-8 at all


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(archives())
def test_any_archive_is_shown_whole_with_legal_names_and_links_that_lead_somewhere(drawn):
    archive, model = drawn
    tree = Tree(
        archive,
        user=archive.user,
        my_agora=None,
        freshness=Freshness(),
        max_entries=100_000,
        clock=ManualClock(),
    )
    try:
        nodes = list(walk(tree, tree.root))
        datafiles = [node.entry.target for node in nodes if isinstance(node.entry.target, Datafile)]
        assert Counter(one.id for one in datafiles) == Counter(model.datafiles.keys())  # each exactly once
        assert {one.id: one.size for one in datafiles} == model.datafiles

        inodes = Counter(node.entry.ino for node in nodes)
        assert max(inodes.values()) == 1

        for node in nodes:
            if node.entry.is_directory:
                assert_directory(tree, node, model)
            elif is_link(node):
                assert node.entry.ref is not None
                assert follow(tree, node).entry.ref == node.entry.ref
    finally:
        tree.close()


def assert_directory(tree: Tree, node: Node, model: Model) -> None:
    key = node.entry.target
    assert isinstance(key, DirKey)
    children = tree.children(node)
    assert len({child.entry.name for child in children}) == len(children)
    for child in children:
        assert_legal(child.entry.name)
        assert tree.child(node, child.entry.name).entry == child.entry
    if key.area in (Area.FOLDER, Area.PROJECT_EXAMS, Area.EXAM, Area.SERIES, Area.PATIENT):
        shown = Counter(
            (child.entry.ref.kind, child.entry.ref.id, is_link(child))
            for child in children
            if child.entry.ref is not None
        )
        assert shown == model.inside.get(key, Counter())
