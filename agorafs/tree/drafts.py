"""From records to the entries of a listing: what each object is shown as, and under which name.

What a directory shows
    * A dataset with one datafile is that file; with several (or none), a directory of them.
    * Whatever is shown here but lives elsewhere is a symbolic link (``LinkTarget``): an entry that the
      archive calls a link, and every exam, since exams live in the study list.

A ``Draft`` is an entry that has no name yet; ``listing_of`` gives the names out, once all siblings are known.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from agorafs.client.records import (
    Datafile,
    Dataset,
    Exam,
    Folder,
    FolderItem,
    Kind,
    Patient,
    RemoteRef,
    Series,
)
from agorafs.tree.inodes import InodeSpace, hashed_inode, inode
from agorafs.tree.listing import Area, DirEntry, DirKey, LinkTarget, Listing, Record, Special
from agorafs.tree.names import Named, assign_names, legal_name, path_parts
from agorafs.tree.naming import Naming

# Lists into which links lead by name and id.
_LINKED_AREAS = frozenset({Area.PROJECT_EXAMS, Area.PATIENTS, Area.PROJECT_PATIENTS, Area.TASKS})


@dataclass(frozen=True, slots=True)
class Draft:
    """A directory entry before names are settled between the siblings."""

    name: str
    ref: RemoteRef | None
    ino: int
    mtime_ns: int | None
    locked: bool
    record: Record | None
    target: DirKey | Datafile | LinkTarget | Special
    rank: int | None = None  # see ``names.Named``
    item: int | None = None

    def as_link(self, ino: int, mtime_ns: int | None) -> Draft:
        assert self.ref is not None
        return replace(self, ino=ino, mtime_ns=mtime_ns, target=LinkTarget(self.ref))


def listing_of(key: DirKey, drafts: Sequence[Draft], not_shown: Iterable[str] = ()) -> Listing:
    """Give names to *drafts*, which are all that the directory *key* shows."""
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
    names = assign_names(wanted, are_linked=key.area in _LINKED_AREAS)
    entries = {
        name: DirEntry(
            name, draft.ino, draft.mtime_ns, draft.locked, draft.ref, draft.record, draft.target, draft.item
        )
        for name, draft in zip(names, drafts, strict=True)
    }
    return Listing(key, entries, tuple(not_shown))


Fixed = tuple[str, DirKey, int | None]  # name, directory, inode number if it has one of its own


def fixed_listing(
    key: DirKey, directories: Iterable[Fixed], *, unlisted: Iterable[Fixed] = (), mtime_ns: int | None = None
) -> Listing:
    """A directory that holds the same in every archive."""

    def made(fixed: Iterable[Fixed]) -> dict[str, DirEntry]:
        return {
            name: DirEntry(
                name,
                ino if ino is not None else hashed_inode("fixed", *map(str, key), name),
                mtime_ns,
                False,
                RemoteRef(Kind.FOLDER, target.id) if target.area is Area.FOLDER else None,
                None,
                target,
            )
            for name, target, ino in fixed
        }

    return Listing(key, made(directories), unlisted=made(unlisted))


def item_draft(item: FolderItem, naming: Naming) -> Draft | None:
    """One item of a folder; None if agorafs does not know what it shows."""
    content = item.content
    if content is None:
        return None
    link_ino = inode(InodeSpace.FOLDER_ITEM, item.id)
    if isinstance(content, Exam):
        return exam_link(content, link_ino, item.modified_ns, naming)
    if isinstance(content, Patient):
        ref = RemoteRef(Kind.PATIENT, content.id)
        return Draft(content.name, ref, link_ino, item.modified_ns, False, content, LinkTarget(ref))
    if isinstance(content, Folder):
        ref = RemoteRef(Kind.FOLDER, content.id)
        target = LinkTarget(ref, content.project) if item.is_link else DirKey(Area.FOLDER, content.id)
        ino = link_ino if item.is_link else inode(InodeSpace.FOLDER, content.id)
        return Draft(content.name, ref, ino, item.modified_ns, content.locked, content, target)
    draft = series_draft(content, naming) if isinstance(content, Series) else dataset_draft(content)
    return draft.as_link(link_ino, item.modified_ns) if item.is_link else draft


def exam_link(exam: Exam, ino: int, mtime_ns: int | None, naming: Naming) -> Draft:
    ref = RemoteRef(Kind.EXAM, exam.id)
    name = naming.of_exam(exam)
    return Draft(name, ref, ino, mtime_ns, exam.locked, exam, LinkTarget(ref, exam.project, name))


def series_draft(series: Series, naming: Naming) -> Draft:
    return Draft(
        naming.of_series(series),
        RemoteRef(Kind.SERIES, series.id),
        inode(InodeSpace.SERIES, series.id),
        series.modified_ns or series.created_ns,
        series.locked,
        series,
        DirKey(Area.SERIES, series.id),
    )


def dataset_draft(dataset: Dataset) -> Draft:
    """A dataset of one file is that file, under the file's own name; else it is a directory."""
    ref = RemoteRef(Kind.DATASET, dataset.id)
    datafiles = dataset.datafiles or ()
    if len(datafiles) == 1:
        (datafile,) = datafiles
        name = (path_parts(datafile.original_filename) or (dataset.name or fallback_name(datafile),))[-1]
        ino = inode(InodeSpace.DATAFILE, datafile.id)
        mtime_ns = datafile.modified_ns or dataset.modified_ns
        return Draft(name, ref, ino, mtime_ns, dataset.locked, dataset, datafile)
    ino = inode(InodeSpace.DATASET, dataset.id)
    mtime_ns = dataset.modified_ns or dataset.created_ns
    return Draft(dataset.name, ref, ino, mtime_ns, dataset.locked, dataset, DirKey(Area.DATASET, dataset.id))


def datafile_draft(datafile: Datafile, name: str) -> Draft:
    return Draft(
        name,
        RemoteRef(Kind.DATAFILE, datafile.id),
        inode(InodeSpace.DATAFILE, datafile.id),
        datafile.modified_ns,
        False,
        datafile,
        datafile,
    )


def fallback_name(datafile: Datafile) -> str:
    return f"datafile {datafile.id}"
