"""Listings: all entries of one directory as of one fetch.

``directories`` and ``view_listings`` make them of the archive's records; who fetches and how long a listing is kept
is the business of ``tree.Tree``. A listing knows no path, because one archive directory may be reached by several.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from agorafs.client.annotations import Tag
from agorafs.client.records import (
    Datafile,
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
from agorafs.client.view_records import TrashEntry
from agorafs.tree.inodes import InodeSpace, hashed_inode, inode
from agorafs.tree.names import ids_in_suffix, legal_name, path_parts, split_extension, suffixed


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
    TAGS = "tags"
    TAG = "tag"
    SEARCH = "search"
    FOUND = "found"
    TASKS = "tasks"
    TASK = "task"
    TRASH = "trash"


class DirKey(NamedTuple):
    """Identity of a directory, whatever path leads to it.

    ``project`` narrows a patient or a tag to one project (0: all); of a task it is the one that it belongs to.
    ``inner`` is the path inside a dataset, ``/``-joined; the text that was searched for; ``ui`` or ``script``, the
    two kinds of tasks; of a tag over all projects its label. The id of ``TAGS``, ``SEARCH``, ``FOUND``, ``TASKS``
    and ``TRASH`` is the project's, 0 over all projects.
    """

    area: Area
    id: int = 0
    project: int = 0
    inner: str = ""


class LinkTarget(NamedTuple):
    """Where a symbolic link leads: to an archive object.

    ``name`` and ``project`` let the link of an exam, a patient or a task be written out readably without a request;
    other objects are reached through ``/.agora/by-id``.
    """

    ref: RemoteRef
    project: int | None = None
    name: str = ""


class SiblingLink(NamedTuple):
    """A symbolic link to another name of the same directory (see ``Listing.alias``)."""

    name: str


class Special(NamedTuple):
    """A file that the archive does not have as one: what it says of a task, or of a deletion; ``vfs`` makes it.

    ``directory`` is where it stands, ``name`` what it is called there.
    """

    directory: DirKey
    name: str


Record = Project | Folder | Exam | Series | Dataset | Datafile | Patient | Tag | Task | TrashEntry

# Directories that hold nothing but links: there, a link's name counts as its object's.
_OF_LINKS = frozenset({Area.TAG, Area.FOUND})


@dataclass(frozen=True, slots=True)
class DirEntry:
    """One name in a directory and what is behind it.

    ``target`` is a ``DirKey`` for a directory, a ``Datafile`` or a ``Special`` for a file, a link otherwise.
    ``mtime_ns`` is None where the archive knows no time. ``item`` is the id of the folder item that shows the object,
    None outside folders.
    """

    name: str
    ino: int
    mtime_ns: int | None
    locked: bool
    ref: RemoteRef | None
    record: Record | None
    target: DirKey | Datafile | LinkTarget | SiblingLink | Special
    item: int | None = None

    @property
    def is_directory(self) -> bool:
        return isinstance(self.target, DirKey)


@dataclass(frozen=True, slots=True)
class Listing:
    """All entries of the directory *key*, by name, in order of their ids.

    ``unlisted`` can be found by name and are not shown. ``not_shown`` says what the directory can not show, for
    ``.agora/info.json``.
    """

    key: DirKey
    entries: dict[str, DirEntry]
    not_shown: tuple[str, ...] = ()
    unlisted: Mapping[str, DirEntry] = field(default_factory=dict)
    _by_ref: dict[RemoteRef, str] = field(default_factory=dict, repr=False, compare=False)
    _shown: set[RemoteRef] = field(default_factory=set, repr=False, compare=False)
    # file name to the one file of that name in a dataset of several; () stands for "looked at"
    _grouped: dict[str | tuple[()], tuple[DirEntry, Datafile] | None] = field(
        default_factory=dict, repr=False, compare=False
    )

    def name_of(self, ref: RemoteRef) -> str | None:
        """Return the name under which the object *ref* itself (not a link to it) stands here, or None.

        Where there are only links, that of the link to it.
        """
        if not self._by_ref and self.entries:
            # Threads may build this at the same time; they build the same.
            self._by_ref.update(
                (entry.ref, entry.name)
                for entry in self.entries.values()
                if entry.ref is not None
                and (self.key.area in _OF_LINKS or not isinstance(entry.target, LinkTarget))
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
        return Listing(self.key, entries, self.not_shown, self.unlisted)

    def find(self, name: str) -> DirEntry | None:
        """Return what *name* leads to here, listed or as an alias, or None."""
        return (
            self.entries.get(name) or self.unlisted.get(name) or self.alias(name) or self._grouped_file(name)
        )

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
        ino = inode(InodeSpace.DATAFILE, datafile.id)
        ref = RemoteRef(Kind.DATAFILE, datafile.id)
        return DirEntry(name, ino, datafile.modified_ns, entry.locked, ref, datafile, datafile)

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
                is_directory = entry.is_directory or isinstance(entry.record, (Exam, Folder, Series))
                if suffixed(real, str(object_id), is_directory=is_directory) == name:
                    return self.other_name(name, ref)
        return None

    def other_name(self, name: str, ref: RemoteRef) -> DirEntry | None:
        """Return *name* as a link to the object *ref*, if that stands here."""
        real = self.name_of(ref)
        if real is None:
            return None
        entry = self.entries[real]
        ino = hashed_inode("alias", *map(str, self.key), name)
        return DirEntry(name, ino, entry.mtime_ns, entry.locked, ref, entry.record, SiblingLink(real))


def certain_name(target: LinkTarget) -> str:
    """Return the name that leads to the object *target* for certain, in the list where it lives."""
    ref = target.ref
    return suffixed(legal_name(target.name, f"{ref.kind.value} {ref.id}"), str(ref.id), is_directory=True)
