"""The listings of the views: tags, searches, tasks, the trash.

Pure functions from records to a ``Listing``, as in ``directories``.

What a view shows
    * What lives elsewhere is a symbolic link, named as the object is named everywhere, or found under any name that
      the object has with its id written out.
    * Over all projects, tags with one label are one directory; a project's own tags keep to it.
    * A task is a directory of virtual files (``Special``); a script task that has both the name and the number of
      another of its project is called ``<name> (script)``, so that name and number tell every two tasks apart.
    * A deletion is a virtual file whose name always carries its number: things of one name are deleted again and again.
    * Texts to search for are not listed: each springs up when it is looked up.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from agorafs.client.annotations import Tag
from agorafs.client.records import Dataset, Exam, Folder, Kind, Patient, RemoteRef, Series
from agorafs.client.task_records import Task
from agorafs.client.view_records import Hit, TrashEntry
from agorafs.tree.drafts import Draft, dataset_draft, listing_of, series_draft
from agorafs.tree.inodes import hashed_inode
from agorafs.tree.listing import Area, DirEntry, DirKey, LinkTarget, Listing, Special
from agorafs.tree.names import is_probed, legal_name, suffixed
from agorafs.tree.naming import Naming

# What the directory of a task holds; ``vfs.views`` knows what is in them.
TASK_FILES = ("definition.json", "syntax", "run")

# What can be tagged, and shown as a link.
Tagged = Exam | Series | Dataset | Folder | Patient

# The kinds that a link can lead to by their number.
_FOUND_KINDS = frozenset({Kind.PROJECT, Kind.FOLDER, Kind.EXAM, Kind.SERIES, Kind.DATASET, Kind.PATIENT})


def tags_listing(key: DirKey, tags: Sequence[Tag]) -> Listing:
    """The tags of a project, or of all: one directory each."""
    if key.id == 0:
        first: dict[str, Tag] = {}
        for tag in sorted(tags, key=lambda tag: tag.id):
            first.setdefault(tag.label, tag)
        tags = list(first.values())
    drafts = []
    for tag in tags:
        below = DirKey(Area.TAG, tag.id, key.id, "" if key.id else tag.label)
        ref = RemoteRef(Kind.TAG, tag.id)
        drafts.append(Draft(tag.label, ref, hashed_inode(*map(str, below)), None, False, tag, below))
    return listing_of(key, drafts)


def links_listing(key: DirKey, objects: Iterable[Tagged], naming: Naming) -> Listing:
    """Links to *objects*: all that have one tag, or all series that an expression describes."""
    return listing_of(key, [_link_draft(key, one, naming) for one in objects])


def found_listing(key: DirKey, hits: Iterable[Hit]) -> Listing:
    """What a text was found in, once each."""
    drafts: dict[RemoteRef, Draft] = {}
    not_shown: dict[str, None] = {}
    for hit in hits:
        if hit.ref.kind in _FOUND_KINDS:
            ino = _link_inode(key, hit.ref)
            drafts[hit.ref] = Draft(hit.name, hit.ref, ino, None, False, None, LinkTarget(hit.ref))
        else:
            not_shown[f"{hit.ref.kind.value} {hit.ref.id}"] = None
    return listing_of(key, list(drafts.values()), not_shown)


def search_entry(key: DirKey, name: str) -> DirEntry | None:
    """Return the directory of what is found by *name*, None for what nobody would search for.

    The names that desktops look for in every directory, and all that begin with a dot, are no searches.
    """
    text = name.replace("\N{DIVISION SLASH}", "/")
    if name.startswith(".") or is_probed(name) or not text.strip() or legal_name(name, "") != name:
        return None
    below = DirKey(Area.FOUND, key.id, inner=text)
    return DirEntry(name, hashed_inode(*map(str, below)), None, False, None, None, below)


def tasks_listing(project_id: int, tasks: Iterable[Task]) -> Listing:
    """The tasks of a project: one directory each."""
    names = task_names(tasks)
    drafts = []
    for task, name in names:
        below = DirKey(Area.TASK, task.id, project_id, "script" if task.is_script else "ui")
        drafts.append(Draft(name, _task_ref(task), hashed_inode(*map(str, below)), None, False, task, below))
    return listing_of(DirKey(Area.TASKS, project_id), drafts)


def all_tasks_listing(projects: Iterable[tuple[int, Iterable[Task]]], not_shown: Iterable[str]) -> Listing:
    """Links to the tasks of all projects."""
    key = DirKey(Area.TASKS)
    drafts = [
        Draft(
            name,
            _task_ref(task),
            hashed_inode("task", str(project_id), *map(str, _task_ref(task))),
            None,
            False,
            task,
            LinkTarget(_task_ref(task), project_id, name),
        )
        for project_id, tasks in projects
        for task, name in task_names(tasks)
    ]
    return listing_of(key, drafts, not_shown)


def task_names(tasks: Iterable[Task]) -> list[tuple[Task, str]]:
    """Return *tasks* with names that, with the number, tell each from the others."""
    some = list(tasks)
    taken = {(legal_name(task.name, ""), task.id) for task in some if not task.is_script}
    return [
        (task, f"{task.name} (script)")
        if task.is_script and (legal_name(task.name, ""), task.id) in taken
        else (task, task.name)
        for task in some
    ]


def task_listing(key: DirKey, task: Task) -> Listing:
    """The virtual files of one task."""
    entries = {
        name: DirEntry(name, hashed_inode(*map(str, key), name), None, False, None, task, Special(key, name))
        for name in TASK_FILES
    }
    return Listing(key, entries)


def trash_listing(project_id: int, entries: Iterable[TrashEntry]) -> Listing:
    """What was deleted in a project: one virtual file for each deletion."""
    key = DirKey(Area.TRASH, project_id)
    drafts = []
    for entry in entries:
        ref = RemoteRef(Kind.TRASH_ENTRY, entry.id)
        name = suffixed(legal_name(entry.name, _what(entry)), str(entry.id), is_directory=True)
        ino = hashed_inode(*map(str, ref))
        drafts.append(Draft(name, ref, ino, entry.deleted_ns, False, entry, Special(key, name)))
    return listing_of(key, drafts)


def _what(entry: TrashEntry) -> str:
    return "deletion" if entry.kind is None else f"{entry.kind.value} {entry.object_id}"


def _task_ref(task: Task) -> RemoteRef:
    return RemoteRef(Kind.SCRIPT_TASK if task.is_script else Kind.TASK, task.id)


def _link_inode(key: DirKey, ref: RemoteRef) -> int:
    return hashed_inode("link", *map(str, key), *map(str, ref))


def _link_draft(key: DirKey, record: Tagged, naming: Naming) -> Draft:
    if isinstance(record, Series):
        draft = series_draft(record, naming)
        return draft.as_link(_link_inode(key, RemoteRef(Kind.SERIES, record.id)), draft.mtime_ns)
    if isinstance(record, Dataset):
        draft = dataset_draft(record)
        return draft.as_link(_link_inode(key, RemoteRef(Kind.DATASET, record.id)), draft.mtime_ns)
    if isinstance(record, Exam):
        ref, name = RemoteRef(Kind.EXAM, record.id), naming.of_exam(record)
        target = LinkTarget(ref, record.project, name)
        return Draft(name, ref, _link_inode(key, ref), record.created_ns, record.locked, record, target)
    if isinstance(record, Folder):
        ref = RemoteRef(Kind.FOLDER, record.id)
        target = LinkTarget(ref, record.project)
        return Draft(record.name, ref, _link_inode(key, ref), None, record.locked, record, target)
    ref, name = RemoteRef(Kind.PATIENT, record.id), record.name or record.patient_id
    target = LinkTarget(ref, key.project or None, name)
    return Draft(name, ref, _link_inode(key, ref), record.modified_ns, False, record, target)
