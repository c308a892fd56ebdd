"""Listings: all entries of one directory as of one fetch, made from the archive's records.

Pure functions from records to a ``Listing``; who fetches and how long it is kept is the business of
``tree.Tree``. A listing knows no path, because one archive directory may be reached by several.

What a directory shows
    * A dataset with one datafile is that file; with several (or none), a directory of them.
    * A datafile's ``original_filename`` may hold directories; they become directories of the dataset.
    * Whatever is shown here but lives elsewhere is a symbolic link (``LinkTarget``): an entry that the
      archive calls a link, and every exam, since exams live in the study list.
    * Content types that agorafs does not know are not shown; ``Listing.not_shown`` names them, so that
      ``.agora/info.json`` can say so.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from agorafs.client.records import (
    Datafile,
    Dataset,
    Exam,
    Folder,
    FolderItem,
    Kind,
    Patient,
    Project,
    RemoteRef,
    Series,
)
from agorafs.tree.inodes import InodeSpace, hashed_inode, inode
from agorafs.tree.names import (
    Named,
    assign_names,
    ids_in_suffix,
    legal_name,
    path_parts,
    split_extension,
    suffixed,
)
from agorafs.tree.naming import Naming


class Area(str, enum.Enum):
    """The kinds of directories."""

    ROOT = "root"
    PROJECTS = "projects"
    PROJECT = "project"
    FOLDER = "folder"
    PROJECT_EXAMS = "exams"
    EXAM = "exam"
    SERIES = "series"
    DATASET = "dataset"
    PROJECT_PATIENTS = "project patients"
    PATIENTS = "patients"
    PATIENT = "patient"


class DirKey(NamedTuple):
    """Identity of a directory, whatever path leads to it.

    ``project`` narrows a patient to one project (0: all). ``inner`` is the path inside a dataset, ``/``-joined.
    """

    area: Area
    id: int = 0
    project: int = 0
    inner: str = ""


class LinkTarget(NamedTuple):
    """Where a symbolic link leads: to an archive object.

    ``exam_name`` and ``project`` let the link of an exam be written out readably without a request; other
    objects are reached through ``/.agora/by-id``.
    """

    ref: RemoteRef
    project: int | None = None
    exam_name: str = ""


class SiblingLink(NamedTuple):
    """A symbolic link to another name of the same directory (see ``Listing.alias``)."""

    name: str


Record = Project | Folder | Exam | Series | Dataset | Datafile | Patient


@dataclass(frozen=True, slots=True)
class DirEntry:
    """One name in a directory and what is behind it.

    ``target`` is a ``DirKey`` for a directory, a ``Datafile`` for a file, a link otherwise. ``mtime_ns`` is None
    where the archive knows no time. ``item`` is the id of the folder item that shows the object, None outside
    folders.
    """

    name: str
    ino: int
    mtime_ns: int | None
    locked: bool
    ref: RemoteRef | None
    record: Record | None
    target: DirKey | Datafile | LinkTarget | SiblingLink
    item: int | None = None

    @property
    def is_directory(self) -> bool:
        return isinstance(self.target, DirKey)


@dataclass(frozen=True, slots=True)
class Listing:
    """All entries of the directory *key*, by name, in order of their ids."""

    key: DirKey
    entries: dict[str, DirEntry]
    not_shown: tuple[str, ...] = ()
    _by_ref: dict[RemoteRef, str] = field(default_factory=dict, repr=False, compare=False)
    _shown: set[RemoteRef] = field(default_factory=set, repr=False, compare=False)
    # file name to the one file of that name in a dataset of several; () stands for "looked at"
    _grouped: dict[str | tuple[()], tuple[DirEntry, Datafile] | None] = field(
        default_factory=dict, repr=False, compare=False
    )

    def name_of(self, ref: RemoteRef) -> str | None:
        """Return the name under which the object *ref* itself (not a link to it) stands here, or None."""
        if not self._by_ref and self.entries:
            # Threads may build this at the same time; they build the same.
            self._by_ref.update(
                (entry.ref, entry.name)
                for entry in self.entries.values()
                if entry.ref is not None and not isinstance(entry.target, LinkTarget)
            )
        return self._by_ref.get(ref)

    def shows(self, ref: RemoteRef) -> bool:
        """Tell whether the object *ref*, or a link to it, stands here."""
        if not self._shown:
            # Threads may build this at the same time; they build the same.
            self._shown.update(entry.ref for entry in self.entries.values() if entry.ref is not None)
        return ref in self._shown

    def without(self, ref: RemoteRef, item: int | None = None) -> Listing | None:
        """Return this listing less the object *ref* and the links to it, or less the folder *item* alone.

        None if that may have changed the names of others: a name passes to a sibling when who had it goes, and
        siblings that may get one carry their ids.
        """
        gone = {
            entry.name
            for entry in self.entries.values()
            if entry.ref == ref and (item is None or entry.item == item)
        }
        if any(f"{split_extension(name)[0]} (" in other for name in gone for other in self.entries):
            return None
        entries = self.entries.copy()
        for name in gone:
            del entries[name]
        return Listing(self.key, entries, self.not_shown)

    def find(self, name: str) -> DirEntry | None:
        """Return what *name* leads to here, listed or as an alias, or None."""
        return self.entries.get(name) or self.alias(name) or self._grouped_file(name)

    def _grouped_file(self, name: str) -> DirEntry | None:
        """Return the file *name* of one of the folder's datasets of several files, or None.

        ``scan.rec``, written into a folder beside ``scan.par``, becomes a part of a dataset, and is listed in the
        directory of that. Who wrote it finds it under its name all the same.
        """
        if self.key.area is not Area.FOLDER:
            return None
        if () not in self._grouped:
            # Threads may build this at the same time; they build the same.
            for entry in self.entries.values():
                if isinstance(entry.record, Dataset) and entry.is_directory:
                    for datafile in entry.record.datafiles or ():
                        base = (path_parts(datafile.original_filename) or ("",))[-1]
                        self._grouped[base] = None if base in self._grouped else (entry, datafile)
            self._grouped[()] = None
        found = self._grouped.get(name)
        if found is None:
            return None
        entry, datafile = found
        draft = _datafile_draft(datafile, name)
        return DirEntry(name, draft.ino, draft.mtime_ns, entry.locked, draft.ref, datafile, datafile)

    def alias(self, name: str) -> DirEntry | None:
        """Return a link for *name* when it is an entry's name with its ``(id)`` written out, or None.

        ``Brain MRI (12)`` leads to exam 12 even while no other exam makes the suffix necessary. So a link can
        name an exam for certain without knowing its siblings, and a path that was once right stays right when
        the sibling that forced the suffix goes away. Aliases are never listed.
        """
        for object_id in ids_in_suffix(name):
            for kind in Kind:
                ref = RemoteRef(kind, object_id)
                real = self.name_of(ref)
                if real is None:
                    continue
                entry = self.entries[real]
                if suffixed(real, str(object_id), is_directory=entry.is_directory) == name:
                    ino = hashed_inode("alias", *map(str, self.key), name)
                    return DirEntry(
                        name, ino, entry.mtime_ns, entry.locked, ref, entry.record, SiblingLink(real)
                    )
        return None


def exam_link_name(target: LinkTarget) -> str:
    """Return the name in the study list that leads to the exam *target* for certain."""
    ref = target.ref
    return suffixed(
        legal_name(target.exam_name, f"{ref.kind.value} {ref.id}"), str(ref.id), is_directory=True
    )


def own_name(record: Record, naming: Naming) -> str | None:
    """Return the name that a folder shows *record* under while no sibling has it; None for what is in no folder."""
    if isinstance(record, Exam):
        name, ref = naming.of_exam(record), RemoteRef(Kind.EXAM, record.id)
    elif isinstance(record, Series):
        name, ref = naming.of_series(record), RemoteRef(Kind.SERIES, record.id)
    elif isinstance(record, Folder):
        name, ref = record.name, RemoteRef(Kind.FOLDER, record.id)
    elif isinstance(record, Dataset):
        name, ref = _dataset_draft(record).name, RemoteRef(Kind.DATASET, record.id)
    else:
        return None
    return legal_name(name, f"{ref.kind.value} {ref.id}")


# -- listings of each area ---------------------------------------------------------------------------


def root_listing() -> Listing:
    """The mount's root."""
    return _fixed(
        DirKey(Area.ROOT),
        [("projects", DirKey(Area.PROJECTS), None), ("patients", DirKey(Area.PATIENTS), None)],
    )


def projects_listing(projects: Iterable[Project]) -> Listing:
    """All projects; the user's private one is called ``My Agora``, as in the web interface."""
    drafts = [
        _Draft(
            "My Agora" if project.is_myagora else project.name,
            RemoteRef(Kind.PROJECT, project.id),
            inode(InodeSpace.PROJECT, project.id),
            project.created_ns,
            False,
            project,
            DirKey(Area.PROJECT, project.id),
        )
        for project in projects
    ]
    return _listing(DirKey(Area.PROJECTS), drafts)


def project_listing(project: Project) -> Listing:
    """The fixed directories of one project."""
    entries: list[tuple[str, DirKey, int | None]] = []
    if project.root_folder is not None:
        entries.append(
            (
                "folders",
                DirKey(Area.FOLDER, project.root_folder),
                inode(InodeSpace.FOLDER, project.root_folder),
            )
        )
    entries.append(
        ("exams", DirKey(Area.PROJECT_EXAMS, project.id), inode(InodeSpace.PROJECT_EXAMS, project.id))
    )
    entries.append(
        (
            "patients",
            DirKey(Area.PROJECT_PATIENTS, project.id),
            inode(InodeSpace.PROJECT_PATIENTS, project.id),
        )
    )
    return _fixed(DirKey(Area.PROJECT, project.id), entries, mtime_ns=project.created_ns)


def folder_listing(folder_id: int, items: Iterable[FolderItem], naming: Naming) -> Listing:
    """A folder: subfolders and loose datasets in place, everything else as links."""
    drafts: list[_Draft] = []
    not_shown: list[str] = []
    for item in items:
        draft = _item_draft(item, naming)
        if draft is None:
            not_shown.append(f"{item.content_type} {item.object_id}")
        else:
            drafts.append(replace(draft, rank=item.id, item=item.id))
    return _listing(DirKey(Area.FOLDER, folder_id), drafts, not_shown)


def exams_listing(project_id: int, exams: Iterable[Exam], naming: Naming) -> Listing:
    """A project's study list."""
    drafts = [
        _Draft(
            naming.of_exam(exam),
            RemoteRef(Kind.EXAM, exam.id),
            inode(InodeSpace.EXAM, exam.id),
            exam.created_ns,
            exam.locked,
            exam,
            DirKey(Area.EXAM, exam.id),
        )
        for exam in exams
    ]
    return _listing(DirKey(Area.PROJECT_EXAMS, project_id), drafts)


def exam_listing(
    exam_id: int, series: Iterable[Series], datasets: Iterable[Dataset], naming: Naming
) -> Listing:
    """An exam: its series, and the datasets attached to the exam itself."""
    drafts = [_series_draft(one, naming) for one in series]
    drafts.extend(_dataset_draft(dataset) for dataset in datasets)
    return _listing(DirKey(Area.EXAM, exam_id), drafts)


def series_listing(series_id: int, datasets: Iterable[Dataset]) -> Listing:
    """A series: its datasets."""
    return _listing(DirKey(Area.SERIES, series_id), [_dataset_draft(dataset) for dataset in datasets])


def dataset_listings(dataset: Dataset) -> dict[DirKey, Listing]:
    """The directory of a dataset of several files, and the directories inside it, by key."""
    drafts: dict[str, list[_Draft]] = {"": []}
    for datafile in dataset.datafiles or ():
        *directories, name = path_parts(datafile.original_filename) or (_fallback_name(datafile),)
        inner = ""
        for part in directories:
            deeper = f"{inner}/{part}" if inner else part
            if deeper not in drafts:
                drafts[deeper] = []
                key = DirKey(Area.DATASET, dataset.id, inner=deeper)
                ino = hashed_inode("dataset", str(dataset.id), deeper)
                drafts[inner].append(_Draft(part, None, ino, dataset.modified_ns, False, dataset, key))
            inner = deeper
        drafts[inner].append(_datafile_draft(datafile, name))
    listings = (
        _listing(DirKey(Area.DATASET, dataset.id, inner=inner), some) for inner, some in drafts.items()
    )
    return {listing.key: listing for listing in listings}


def patients_listing(key: DirKey, patients: Iterable[Patient]) -> Listing:
    """Patients, of one project or of all."""
    drafts = [
        _Draft(
            patient.name or patient.patient_id,
            RemoteRef(Kind.PATIENT, patient.id),
            _patient_inode(patient.id, key.id),
            patient.modified_ns or patient.created_ns,
            False,
            patient,
            DirKey(Area.PATIENT, patient.id, project=key.id),
        )
        for patient in patients
    ]
    return _listing(key, drafts)


def patient_listing(key: DirKey, exams: Iterable[Exam], naming: Naming) -> Listing:
    """A patient: links to the exams, of one project or of all."""
    where = ("patient's exam", str(key.id), str(key.project))
    drafts = [
        _exam_link(exam, hashed_inode(*where, str(exam.id)), exam.created_ns, naming)
        for exam in exams
        if not key.project or exam.project == key.project
    ]
    return _listing(key, drafts)


# -- how they are made -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Draft:
    """A directory entry before names are settled between the siblings."""

    name: str
    ref: RemoteRef | None
    ino: int
    mtime_ns: int | None
    locked: bool
    record: Record
    target: DirKey | Datafile | LinkTarget
    rank: int | None = None  # see ``names.Named``
    item: int | None = None

    def as_link(self, ino: int, mtime_ns: int | None) -> _Draft:
        assert self.ref is not None
        return replace(self, ino=ino, mtime_ns=mtime_ns, target=LinkTarget(self.ref))


def _listing(key: DirKey, drafts: Sequence[_Draft], not_shown: Iterable[str] = ()) -> Listing:
    drafts = sorted(drafts, key=lambda draft: draft.ref.id if draft.ref else 0)
    wanted = [
        Named(
            legal_name(draft.name, f"{draft.ref.kind.value} {draft.ref.id}" if draft.ref else "_"),
            draft.ref.kind.value if draft.ref else "directory",
            draft.ref.id if draft.ref else 0,
            isinstance(draft.target, DirKey) or isinstance(draft.record, (Exam, Folder, Series)),
            draft.rank,
        )
        for draft in drafts
    ]
    names = assign_names(wanted, are_linked=key.area is Area.PROJECT_EXAMS)
    entries = {
        name: DirEntry(
            name, draft.ino, draft.mtime_ns, draft.locked, draft.ref, draft.record, draft.target, draft.item
        )
        for name, draft in zip(names, drafts, strict=True)
    }
    return Listing(key, entries, tuple(not_shown))


def _fixed(
    key: DirKey, directories: Iterable[tuple[str, DirKey, int | None]], mtime_ns: int | None = None
) -> Listing:
    entries = {
        name: DirEntry(
            name,
            ino if ino is not None else hashed_inode("fixed", *map(str, key), name),
            mtime_ns,
            False,
            RemoteRef(Kind.FOLDER, target.id) if target.area is Area.FOLDER else None,
            None,
            target,
        )
        for name, target, ino in directories
    }
    return Listing(key, entries)


def _item_draft(item: FolderItem, naming: Naming) -> _Draft | None:
    """One item of a folder; None if agorafs does not know what it shows."""
    content = item.content
    if content is None:
        return None
    link_ino = inode(InodeSpace.FOLDER_ITEM, item.id)
    if isinstance(content, Exam):
        return _exam_link(content, link_ino, item.modified_ns, naming)
    if isinstance(content, Patient):
        ref = RemoteRef(Kind.PATIENT, content.id)
        return _Draft(content.name, ref, link_ino, item.modified_ns, False, content, LinkTarget(ref))
    if isinstance(content, Folder):
        ref = RemoteRef(Kind.FOLDER, content.id)
        target = LinkTarget(ref, content.project) if item.is_link else DirKey(Area.FOLDER, content.id)
        ino = link_ino if item.is_link else inode(InodeSpace.FOLDER, content.id)
        return _Draft(content.name, ref, ino, item.modified_ns, content.locked, content, target)
    draft = _series_draft(content, naming) if isinstance(content, Series) else _dataset_draft(content)
    return draft.as_link(link_ino, item.modified_ns) if item.is_link else draft


def _exam_link(exam: Exam, ino: int, mtime_ns: int | None, naming: Naming) -> _Draft:
    ref = RemoteRef(Kind.EXAM, exam.id)
    name = naming.of_exam(exam)
    return _Draft(name, ref, ino, mtime_ns, exam.locked, exam, LinkTarget(ref, exam.project, name))


def _series_draft(series: Series, naming: Naming) -> _Draft:
    return _Draft(
        naming.of_series(series),
        RemoteRef(Kind.SERIES, series.id),
        inode(InodeSpace.SERIES, series.id),
        series.modified_ns or series.created_ns,
        series.locked,
        series,
        DirKey(Area.SERIES, series.id),
    )


def _dataset_draft(dataset: Dataset) -> _Draft:
    """A dataset of one file is that file, under the file's own name; else it is a directory."""
    ref = RemoteRef(Kind.DATASET, dataset.id)
    datafiles = dataset.datafiles or ()
    if len(datafiles) == 1:
        (datafile,) = datafiles
        name = (path_parts(datafile.original_filename) or (dataset.name or _fallback_name(datafile),))[-1]
        ino = inode(InodeSpace.DATAFILE, datafile.id)
        mtime_ns = datafile.modified_ns or dataset.modified_ns
        return _Draft(name, ref, ino, mtime_ns, dataset.locked, dataset, datafile)
    ino = inode(InodeSpace.DATASET, dataset.id)
    mtime_ns = dataset.modified_ns or dataset.created_ns
    return _Draft(dataset.name, ref, ino, mtime_ns, dataset.locked, dataset, DirKey(Area.DATASET, dataset.id))


def _datafile_draft(datafile: Datafile, name: str) -> _Draft:
    return _Draft(
        name,
        RemoteRef(Kind.DATAFILE, datafile.id),
        inode(InodeSpace.DATAFILE, datafile.id),
        datafile.modified_ns,
        False,
        datafile,
        datafile,
    )


def _patient_inode(patient_id: int, project_id: int) -> int:
    """A patient is a different directory in each project, and another one above them all."""
    if project_id:
        return hashed_inode("patient", str(patient_id), str(project_id))
    return inode(InodeSpace.PATIENT, patient_id)


def _fallback_name(datafile: Datafile) -> str:
    return f"datafile {datafile.id}"
