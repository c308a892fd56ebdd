"""The virtual tree: which archive object appears under which path.

Why.  One place decides what the archive looks like as files; FUSE, ``.agora`` and the command line only ask
it. It knows neither POSIX nor HTTP.

Requests.  One per directory that is not in memory, none otherwise: a listing carries sizes and times. An
exam is fetched as a whole tree where the server has that call, which fills the listings of its series too.
Only an archive whose answers lack ``datafiles`` costs more (one request per such dataset, a few at a time).
What views cost is said in ``views``.

Threads.  Every method may be called from any thread. ``_lock`` guards ``_derived`` and ``_other_names``; it is a
leaf, and nothing is fetched while it is held. ``_check``: each listing in ``_derived`` is that of its key.

Failure.  ``NotFound``, ``NotADirectory``, ``NameTooLong`` for paths; what the archive refuses or fails to answer
passes through (see ``cache.metadata`` for what is then still shown).
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import islice
from typing import Protocol

from cachetools import Cache, LRUCache

from agorafs.cache.at_once import each
from agorafs.cache.locks import InvariantLock
from agorafs.cache.metadata import Fetched, Freshness, ListingCache
from agorafs.client.records import (
    Crumb,
    Datafile,
    Dataset,
    Exam,
    ExamTree,
    Folder,
    FolderItem,
    Kind,
    Patient,
    Project,
    RemoteRef,
    Role,
    Series,
    User,
)
from agorafs.client.task_records import Task
from agorafs.clock import Clock
from agorafs.errors import NameTooLong, NotADirectory, NotFound, ProtocolError
from agorafs.tree import directories as build
from agorafs.tree.inodes import ROOT_INODE, hashed_inode
from agorafs.tree.listing import (
    Area,
    DirEntry,
    DirKey,
    LinkTarget,
    Listing,
    Record,
    SiblingLink,
    certain_name,
)
from agorafs.tree.locating import Locator
from agorafs.tree.names import MAX_NAME_BYTES
from agorafs.tree.naming import Naming
from agorafs.tree.nodes import Node
from agorafs.tree.view_listings import search_entry, task_listing
from agorafs.tree.views import Found, ViewArchive, Views

__all__ = ["Archive", "Node", "Tree"]

log = logging.getLogger(__name__)

# Told to the kernel one by one after a refresh; 20,000 took 0.11 to 0.18 s.
_MAX_SEEN = 20_000
_MAX_OTHER_NAMES = 10_000

# Views, apart from the two kinds of directories whose content needs no fetch.
_FETCHED_VIEWS = frozenset({Area.TAGS, Area.TAG, Area.FOUND, Area.TASKS, Area.TRASH})
# Where in a project lives what a link can name.
_HOMES = {
    Kind.EXAM: Area.PROJECT_EXAMS.value,
    Kind.PATIENT: Area.PATIENTS.value,
    Kind.TASK: Area.TASKS.value,
    Kind.SCRIPT_TASK: Area.TASKS.value,
}
# In these, above the projects, anybody can make something of his own.
_EVERYBODYS = frozenset({Area.PROJECTS, Area.TAGS})


class Archive(ViewArchive, Protocol):
    """What the tree asks of the archive; ``client.Client`` answers it over HTTP, tests from memory."""

    def projects(self) -> list[Project]: ...
    def project_exams(self, project_id: int) -> list[Exam]: ...
    def project_patients(self, project_id: int) -> list[Patient]: ...
    def folder_items(self, folder_id: int) -> list[FolderItem]: ...
    def folder_breadcrumb(self, folder_id: int) -> list[Crumb]: ...
    def exam_tree(self, exam_id: int) -> ExamTree: ...
    def exam_series(self, exam_id: int) -> list[Series]: ...
    def exam_files(self, exam_id: int) -> list[Dataset]: ...
    def series_datasets(self, series_id: int) -> list[Dataset]: ...
    def series_folders(self, series_id: int) -> list[Folder]: ...
    def dataset_datafiles(self, dataset_id: int) -> list[Datafile]: ...
    def dataset_folders(self, dataset_id: int) -> list[Folder]: ...
    def patients(self) -> list[Patient]: ...
    def patient_exams(self, patient_id: int) -> list[Exam]: ...


class Tree:
    """Paths to nodes, directories to listings. See the module docstring."""

    def __init__(
        self,
        archive: Archive,
        *,
        user: User,
        my_agora: Project | None,
        freshness: Freshness,
        max_entries: int,
        clock: Clock,
        naming: Naming | None = None,
    ) -> None:
        """*my_agora* is shown although the archive may leave it out of the list of projects."""
        # given
        self._archive = archive
        self._user = user
        self._my_agora = my_agora
        self._naming = naming or Naming()
        # fixed
        self._lock = InvariantLock(self._check)
        self._listings: ListingCache[DirKey, Listing] = ListingCache(
            self._fetch,
            freshness=freshness,
            max_weight=max_entries,
            weigh=lambda listing: len(listing.entries),
            clock=clock,
        )
        self._root = build.root_listing()
        root = DirEntry("", ROOT_INODE, None, False, None, None, self._root.key)
        self.root = Node(root, None, None, may_change=False)
        self._views = Views(
            archive,
            self._naming,
            projects=self._all_projects,
            load=self._listings.load,
            complete=self._complete,
        )
        self._locator = Locator(archive, self, self._listings)
        # changing, guarded by _lock: listings made from a record, kept while the record is the same object
        self._derived: LRUCache[DirKey, tuple[object, Listing]] = LRUCache(
            max_entries, getsizeof=lambda pair: 1 + len(pair[1].entries)
        )
        self._other_names: LRUCache[tuple[DirKey, str], RemoteRef] = LRUCache(_MAX_OTHER_NAMES)
        # replaced as a whole, so it needs no lock: the names of projects for links, however old
        self._last_projects: Listing | None = None

    # -- from paths to nodes -------------------------------------------------------------------------

    def resolve(self, parts: Iterable[str]) -> Node:
        """Return the node that *parts* (names from the root down) lead to."""
        node = self.root
        for name in parts:
            node = self.child(node, name)
        return node

    def child(self, node: Node, name: str) -> Node:
        """Return the node called *name* in the directory *node*.

        Raises:
            NotFound, NotADirectory, NameTooLong: as ``open(2)`` would.
        """
        entry = self._find(self.listing(node), name)
        if entry is None:
            if len(name.encode(errors="surrogateescape")) > MAX_NAME_BYTES:
                raise NameTooLong(f"{name[:40]}… is longer than {MAX_NAME_BYTES} bytes")
            raise NotFound(f"{node.path.rstrip('/')}/{name} does not exist")
        return self._place(entry, node)

    def known_child(self, node: Node, name: str) -> Node | None:
        """Return the node called *name* in the directory *node* as memory has it, however old. Never waits.

        None if memory does not hold the directory.

        Raises:
            NotFound: Memory holds it, and there is no such name.
        """
        listing = self.known_listing(node)
        if listing is None:
            return None
        entry = self._find(listing, name)
        if entry is None:
            raise NotFound(f"{node.path.rstrip('/')}/{name} does not exist")
        return self._place(entry, node)

    def _find(self, listing: Listing, name: str) -> DirEntry | None:
        entry = listing.find(name)
        if entry is not None:
            return entry
        if listing.key.area is Area.SEARCH:
            return search_entry(listing.key, name)
        with self._lock:
            ref = self._other_names.get((listing.key, name))
        return None if ref is None else listing.other_name(name, ref)

    def remember_name(self, directory: Node, name: str, ref: RemoteRef) -> None:
        """Let *name* in *directory* lead to the object *ref* as long as that is shown there.

        A program that has made something finds it under the name it gave, whatever the archive calls it.
        """
        with self._lock:
            self._other_names[_directory_key(directory), name] = ref

    def children(self, node: Node) -> list[Node]:
        """Return all nodes of the directory *node*, in order of their ids."""
        return [self._place(entry, node) for entry in self.listing(node).entries.values()]

    def listing(self, node: Node) -> Listing:
        """Return the listing of the directory *node*, fetching it when it is not fresh."""
        key = _directory_key(node)
        made = self._make(key, node)
        return self._listings.load(key) if made is None else made

    def known_listing(self, node: Node) -> Listing | None:
        """Return the listing of the directory *node* if memory holds it, however old. Never waits."""
        key = _directory_key(node)
        made = self._make(key, node)
        return self._listings.get(key) if made is None else made

    def link_text(self, node: Node) -> str:
        """Return where the symbolic link *node* points: relative, inside the mount, without a request."""
        target = node.entry.target
        assert node.parent is not None
        assert isinstance(target, (LinkTarget, SiblingLink))
        if isinstance(target, SiblingLink):
            return target.name
        depth = len(node.parent.parts)
        home = _HOMES.get(target.ref.kind)
        if home is not None and target.name:
            rest = f"{home}/{certain_name(target)}"
            if node.project is not None and target.project == node.project.id:
                return "../" * (depth - 2) + rest
            if target.project is None and target.ref.kind is Kind.PATIENT:
                return "../" * depth + rest
            projects = self._last_projects
            name = projects and projects.name_of(RemoteRef(Kind.PROJECT, target.project or 0))
            if name:
                return "../" * depth + f"projects/{name}/{rest}"
        return "../" * depth + f".agora/by-id/{target.ref.kind.value}/{target.ref.id}"

    # -- freshness -----------------------------------------------------------------------------------

    def refresh(self, parts: Sequence[str]) -> list[str]:
        """Forget what is known of the path *parts* and below; return the paths that may look different now.

        The nearest ``_MAX_SEEN`` of them: the kernel believes the others for a second more.

        Raises:
            NotFound: The path does not exist, by a fresh listing of its directory.
        """
        node = self.root
        if parts:
            parent = self.resolve(parts[:-1])
            self._listings.invalidate([_directory_key(parent)])
            node = self.child(parent, parts[-1])
        seen = self._known_below(node)
        if isinstance(node.entry.target, DirKey):
            self._listings.invalidate(self._keys_below(node.entry.target))
        return seen

    def doubt(self, parts: Sequence[str]) -> None:
        """Ask the archive again at the next look at the directory of *parts*: a file in it is not as listed."""
        self._listings.expire(_directory_key(self.resolve(parts[:-1])))

    def changed(self, keys: Iterable[DirKey], ref: RemoteRef | None = None) -> None:
        """Forget the directories *keys*, which were changed by us, and all that show the object *ref*.

        The kernel is not told: it made the change itself.
        """
        self._listings.invalidate(keys)
        if ref is not None:
            self._listings.change_where(lambda listing: listing.shows(ref), lambda _: None)

    def removed(self, ref: RemoteRef, *, item: int | None = None) -> None:
        """The object *ref* is gone, by us, or only the folder *item* that showed it.

        Listings are put right instead of forgotten: to remove the 10,000 files of a folder one by one must not cost
        10,000 listings of it.
        """

        def is_wrong(listing: Listing) -> bool:
            is_trash = listing.key.area is Area.TRASH and ref.kind is not Kind.TRASH_ENTRY
            return is_trash or listing.shows(ref)

        def without(listing: Listing) -> Listing | None:
            return listing.without(ref, item) if listing.shows(ref) else None

        self._listings.change_where(is_wrong, without)

    def forget_area(self, area: Area, *, project: int | None = None) -> None:
        """Forget all directories of *area*, which were changed by us; with *project* those that may show it.

        The kernel is not told: it made the change itself.
        """

        def is_concerned(listing: Listing) -> bool:
            key = listing.key
            home = key.project if key.area in (Area.TAG, Area.TASK) else key.id
            return key.area is area and (project is None or home in (0, project))

        self._listings.change_where(is_concerned, lambda _: None)

    def own_name(self, record: Record) -> str | None:
        """Return the name that a folder shows *record* under while no sibling has it; None if folders do not."""
        return build.own_name(record, self._naming)

    def refresh_all(self) -> list[str]:
        """Forget every listing; return the paths that may look different now."""
        seen = self._known_below(self.root)
        self._listings.invalidate_all()
        return seen

    def entries_in_memory(self) -> int:
        """Return how many directory entries are held, for ``status``."""
        return self._listings.weight()

    def close(self) -> None:
        """End the background threads."""
        self._listings.close()

    # -- where an object is --------------------------------------------------------------------------

    def locate(self, ref: RemoteRef) -> tuple[str, ...]:
        """Return the path (names from the root) of the object *ref*, where it lives, not where it is linked.

        Raises:
            NotFound: No such object, or none that this user can see.
        """
        return self._locator.locate(ref)

    def known_by_uid(self, uid: str) -> RemoteRef | None:
        """Return the exam or series with this UID if memory has it, however old. Never waits."""
        for listing in self._listings.values():
            for entry in listing.entries.values():
                if isinstance(entry.record, (Exam, Series)) and entry.record.uid == uid:
                    return entry.ref
        return None

    # -- listings ------------------------------------------------------------------------------------

    def _place(self, entry: DirEntry, parent: Node) -> Node:
        project = parent.project
        may_change = parent.may_change
        if isinstance(entry.record, Project):
            project = entry.record
            may_change = self._role_allows_changes(project)
        target = entry.target
        if parent.parent is None and isinstance(target, DirKey) and target.area in _EVERYBODYS:
            may_change = True
        is_folder = isinstance(target, DirKey) and target.area is Area.FOLDER
        if is_folder and any(node.entry.target == target for node in parent.ancestors()):
            # A folder inside itself would be an endless path: show the inner one as a link.
            assert entry.ref is not None
            ino = hashed_inode("folder inside itself", str(parent.entry.ino), entry.name)
            entry = replace(entry, ino=ino, target=LinkTarget(entry.ref))
        return Node(entry, parent, project, may_change and not entry.locked)

    def _role_allows_changes(self, project: Project) -> bool:
        """Observers only read. Who is in no membership that we know of is judged by the server alone."""
        roles = [role for user, role in project.roles if user == self._user.id]
        return self._user.is_superuser or Role.OBSERVER not in roles or len(roles) > 1

    def _make(self, key: DirKey, node: Node) -> Listing | None:
        """Return the listing of a directory that needs no fetch of its own, None for others."""
        if key.area is Area.ROOT:
            return self._root
        if key.area is Area.SEARCH:
            return Listing(key, {})
        record: object
        if key.area is Area.PROJECT:
            record = node.project
        elif key.area in (Area.DATASET, Area.TASK):
            record = node.entry.record
        else:
            return None
        with self._lock:
            kept = self._derived.get(key)
        if kept is not None and kept[0] is record:
            return kept[1]
        if isinstance(record, Dataset):
            made = build.dataset_listings(record)
        elif isinstance(record, Task):
            made = {key: task_listing(key, record)}
        else:
            assert isinstance(record, Project)
            made = {key: build.project_listing(record)}
        with self._lock:
            for inner_key, listing in made.items():
                if len(listing.entries) < self._derived.maxsize:
                    self._derived[inner_key] = (record, listing)
        return made[key]

    def _fetch(self, key: DirKey) -> Found:
        if key.area is Area.PROJECTS:
            return Fetched(self._fetch_projects())
        if key.area is Area.FOLDER:
            items = self._archive.folder_items(key.id)
            datasets = self._complete([item.content for item in items if isinstance(item.content, Dataset)])
            whole = [
                replace(item, content=datasets[item.content.id])
                if isinstance(item.content, Dataset)
                else item
                for item in items
            ]
            return Fetched(build.folder_listing(key.id, whole, self._naming))
        if key.area is Area.PROJECT_EXAMS:
            return Fetched(build.exams_listing(key.id, self._archive.project_exams(key.id), self._naming))
        if key.area is Area.EXAM:
            return self._fetch_exam(key)
        if key.area is Area.SERIES:
            datasets = self._complete(self._archive.series_datasets(key.id))
            return Fetched(build.series_listing(key.id, datasets.values()))
        if key.area is Area.PATIENTS:
            return Fetched(build.patients_listing(key, self._archive.patients()))
        if key.area is Area.PROJECT_PATIENTS:
            return Fetched(build.patients_listing(key, self._archive.project_patients(key.id)))
        if key.area in _FETCHED_VIEWS:
            return self._views.fetch(key)
        assert key.area is Area.PATIENT, key
        return Fetched(build.patient_listing(key, self._archive.patient_exams(key.id), self._naming))

    def _all_projects(self) -> list[Project]:
        entries = self._listings.load(DirKey(Area.PROJECTS)).entries.values()
        return [entry.record for entry in entries if isinstance(entry.record, Project)]

    def _fetch_projects(self) -> Listing:
        projects = self._archive.projects()
        if self._my_agora is not None and not any(project.is_myagora for project in projects):
            projects.append(self._my_agora)
        self._last_projects = build.projects_listing(projects)
        return self._last_projects

    def _fetch_exam(self, key: DirKey) -> Found:
        try:
            tree = self._archive.exam_tree(key.id)
        except (NotFound, ProtocolError) as error:
            # The exam is gone, or this server has no such call, or another form of it: the plain calls tell.
            log.debug("exam %s has no tree: %s", key.id, error)
            return self._fetch_exam_plainly(key)
        also = {}
        for branch in tree.series:
            datasets = branch.datasets
            if datasets is not None and all(dataset.datafiles is not None for dataset in datasets):
                below = build.series_listing(branch.series.id, datasets)
                also[below.key] = below
        direct = self._complete(tree.datasets)
        series = (branch.series for branch in tree.series)
        return Fetched(build.exam_listing(key.id, series, direct.values(), self._naming), also)

    def _fetch_exam_plainly(self, key: DirKey) -> Found:
        series = self._archive.exam_series(key.id)
        known = {one.id for one in series}
        every = self._complete(self._archive.exam_files(key.id)).values()
        also = {}
        for one in series:
            below = build.series_listing(one.id, [dataset for dataset in every if dataset.series == one.id])
            also[below.key] = below
        # A dataset of a series that the other answer does not have is shown here rather than nowhere.
        direct = [dataset for dataset in every if dataset.series not in known]
        return Fetched(build.exam_listing(key.id, series, direct, self._naming), also)

    def _complete(self, datasets: Sequence[Dataset]) -> dict[int, Dataset]:
        """Return *datasets* by id, with the datafiles that the answer left out."""
        whole = {dataset.id: dataset for dataset in datasets}
        bare = [dataset.id for dataset in datasets if dataset.datafiles is None]
        for dataset_id, datafiles in zip(bare, each(self._archive.dataset_datafiles, bare), strict=True):
            whole[dataset_id] = replace(whole[dataset_id], datafiles=tuple(datafiles))
        return whole

    def _check(self) -> None:
        for key in self._derived:
            _, listing = Cache.__getitem__(self._derived, key)  # without counting as a use
            assert listing.key == key

    def _keys_below(self, key: DirKey) -> set[DirKey]:
        """Return *key* and the keys of all directories below it that memory knows."""
        found: set[DirKey] = set()
        waiting = [key]
        while waiting:
            key = waiting.pop()
            if key in found:
                continue
            found.add(key)
            known = self._root if key.area is Area.ROOT else self._listings.get(key)
            if key.area is Area.PROJECT:
                views = (Area.TAGS, Area.TASKS, Area.TRASH, Area.SEARCH)
                areas = (Area.PROJECT_EXAMS, Area.PROJECT_PATIENTS, *views)
                waiting += [DirKey(area, key.id) for area in areas]
                waiting += self._root_folder_keys(key.id)
            elif key.area is Area.SEARCH:
                searches = [one.key for one in self._listings.values() if one.key.area is Area.FOUND]
                waiting += [one for one in searches if one.id == key.id]
            elif known is not None:
                entries = [*known.entries.values(), *known.unlisted.values()]
                waiting += [entry.target for entry in entries if isinstance(entry.target, DirKey)]
        return found

    def _known_below(self, node: Node) -> list[str]:
        """Return the paths of *node* and of all below it that memory knows, the nearest first; no request."""
        seen: list[str] = []
        waiting = deque([node])
        while waiting:
            node = waiting.popleft()
            seen.append(node.path)
            room = _MAX_SEEN - len(seen) - len(waiting)
            known = self.known_listing(node) if room > 0 and isinstance(node.entry.target, DirKey) else None
            if known is not None:
                waiting.extend(self._place(entry, node) for entry in islice(known.entries.values(), room))
        return seen

    def _root_folder_keys(self, project_id: int) -> list[DirKey]:
        projects = self._last_projects
        records = [entry.record for entry in projects.entries.values()] if projects else []
        return [
            DirKey(Area.FOLDER, record.root_folder)
            for record in records
            if isinstance(record, Project) and record.id == project_id and record.root_folder is not None
        ]


def _directory_key(node: Node) -> DirKey:
    if not isinstance(node.entry.target, DirKey):
        raise NotADirectory(f"{node.path} is not a directory")
    return node.entry.target
