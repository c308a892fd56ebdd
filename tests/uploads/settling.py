"""Building blocks for tests of settling: an archive in memory that can be changed, and a batch that has arrived.

The journal and the local files are the real ones; only the server is made up. ``Steps`` counts every call that settling
makes of any of them and ends the process, so to speak, at a chosen one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from agorafs.client.annotations import ParameterSet, Rating, Tag
from agorafs.client.records import Datafile, Dataset, Folder, FolderItem, Kind, RemoteRef
from agorafs.errors import AlreadyExists, NotFound
from agorafs.uploads.durable import Disk
from agorafs.uploads.nodes import LocalNode
from agorafs.uploads.settle import Settler
from agorafs.uploads.values import Anchor, Batch, BatchState, Replaced, Upload
from tests.support.memory_archive import MemoryArchive
from tests.uploads.local import Local


class Killed(BaseException):
    """The process ends here."""


class Server(MemoryArchive):
    """An archive that can be changed. ``refuse`` makes calls of a name fail; ``made`` lists the changes."""

    def __init__(self) -> None:
        super().__init__()
        self.project = self.add_project("p")
        self.root = self.project.root_folder or 0
        self.refuse: dict[str, Exception] = {}
        self.made: list[str] = []
        self.tag_ids: dict[int, list[int]] = {}
        self.ratings: dict[int, int] = {}
        self.sets: dict[int, list[ParameterSet]] = {}

    def _asked(self, call: str, *arguments: object) -> None:
        super()._asked(call, *arguments)
        if call in self.refuse:
            raise self.refuse[call]

    def _change(self, call: str, *arguments: Any) -> None:
        self._asked(call, *arguments)
        self.made.append(" ".join(map(str, (call, *arguments))))

    # -- what ``client.changes`` does ------------------------------------------------------------------

    def create_folder(self, parent_id: int, name: str) -> FolderItem:
        self._change("create_folder", parent_id, name)
        if name in self.names(parent_id):
            raise AlreadyExists(name)
        self._given(self._items, parent_id)
        folder = self.add_folder(name, parent_id)
        return next(item for item in self._items[parent_id] if item.object_id == folder.id)

    def delete_folder(self, folder_id: int) -> None:
        self._change("delete_folder", folder_id)
        for item in self._given(self._items, folder_id):
            if not item.is_link:
                self._forget(item)
        del self._items[folder_id], self._folders[folder_id]
        self._unlist("folder", folder_id)

    def delete_folder_item(self, item_id: int) -> None:
        self._change("delete_folder_item", item_id)
        for items in self._items.values():
            for item in items:
                if item.id == item_id:
                    items.remove(item)
                    if not item.is_link:
                        self._forget(item)
                    return
        raise NotFound(f"folder item {item_id}")

    def _forget(self, item: FolderItem) -> None:
        if item.content_type == "dataset":
            del self._datasets[item.object_id]
            self._unlist("dataset", item.object_id)

    def _unlist(self, content_type: str, object_id: int) -> None:
        for folder, items in self._items.items():
            kept = [one for one in items if (one.content_type, one.object_id) != (content_type, object_id)]
            self._items[folder] = kept

    def link(self, ref: RemoteRef, folder_id: int) -> FolderItem:
        self._change(f"link {ref.kind.value}", ref.id, folder_id)
        table: Mapping[int, Any] = self._exams if ref.kind is Kind.EXAM else self._datasets
        return self.add_item(
            folder_id, ref.kind.value, ref.id, self._given(dict(table), ref.id), is_link=True
        )

    def copy_dataset(self, dataset_id: int, project_id: int, folder_id: int) -> Dataset:
        self._change("copy_dataset", dataset_id, project_id, folder_id)
        original = self._given(self._datasets, dataset_id)
        files = {one.original_filename: self.contents[one.id] for one in original.datafiles}
        return self.add_dataset(files, folder=folder_id)

    # -- what ``client.annotations`` does --------------------------------------------------------------

    def tags_of(self, ref: RemoteRef) -> list[Tag]:
        self._asked("tags_of", ref.id)
        return [Tag(tag, f"tag {tag}") for tag in self.tag_ids.get(ref.id, [])]

    def tag(self, ref: RemoteRef, tag_id: int) -> None:
        self._change("tag", ref.id, tag_id)
        self.tag_ids.setdefault(ref.id, []).append(tag_id)

    def rating(self, ref: RemoteRef) -> Rating | None:
        self._asked("rating", ref.id)
        return Rating(1, self.ratings[ref.id]) if ref.id in self.ratings else None

    def rate(self, ref: RemoteRef, value: int) -> None:
        self._change("rate", ref.id, value)
        self.ratings[ref.id] = value

    def parameter_sets(self, ref: RemoteRef) -> list[ParameterSet]:
        self._asked("parameter_sets", ref.id)
        return list(self.sets.get(ref.id, []))

    def add_parameter_set(
        self, ref: RemoteRef, name: str, parameters: Iterable[Mapping[str, Any]]
    ) -> ParameterSet:
        self._change("add_parameter_set", ref.id, name)
        made = ParameterSet(self.next_id(), name, False, tuple(parameters))
        self.sets.setdefault(ref.id, []).append(made)
        return made

    # -- looking ---------------------------------------------------------------------------------------

    def names(self, folder: int) -> list[str]:
        """Return what a folder shows: subfolders with ``/``, links with ``->``."""
        shown = []
        for item in self._items[folder]:
            content = item.content
            name = getattr(content, "name", "")
            if isinstance(content, Dataset) and content.datafiles and len(content.datafiles) == 1:
                name = content.datafiles[0].original_filename
            suffix = "/" if isinstance(content, Folder) else ""
            shown.append(("->" if item.is_link else "") + name + suffix)
        return sorted(shown)

    def tree(self, folder: int | None = None, path: str = "") -> dict[str, object]:
        """Return everything below a folder, by path and independent of ids."""
        found: dict[str, object] = {}
        for item in self._items[self.root if folder is None else folder]:
            content = item.content
            if isinstance(content, Folder):
                found[f"{path}{content.name}/"] = None
                found |= self.tree(content.id, f"{path}{content.name}/")
            elif isinstance(content, Dataset):
                for one in content.datafiles or ():
                    key = f"{path}{'->' if item.is_link else ''}{one.original_filename}"
                    while key in found:
                        key += "+"
                    about = (self.tag_ids.get(content.id), self.ratings.get(content.id))
                    sets = [(one.name, one.parameters) for one in self.sets.get(content.id, [])]
                    found[key] = (self.contents[one.id], about, sets)
            else:
                found[f"{path}->{item.content_type} {getattr(content, 'name', '')}"] = None
        return found

    def own_item(self, folder: int, dataset: int) -> FolderItem:
        return next(item for item in self._items[folder] if item.object_id == dataset and not item.is_link)

    def folder_called(self, parent: int, name: str) -> int:
        """Return the subfolder *name*, made if it is missing."""
        for item in self._items[parent]:
            if isinstance(item.content, Folder) and item.content.name == name:
                return item.content.id
        return self.add_folder(name, parent).id

    def replaced(self, dataset: Dataset, folder: int | None = None) -> Replaced:
        """Return how a local file remembers the stored *dataset* that it takes the place of."""
        assert dataset.datafiles is not None
        item = self.own_item(self.root if folder is None else folder, dataset.id)
        return Replaced(dataset.id, item.id, dataset.datafiles[0].sha1)

    def change_content(self, dataset: Dataset, content: bytes) -> None:
        """Somebody else changes the one file of a dataset."""
        assert dataset.datafiles is not None
        (datafile,) = dataset.datafiles
        self.contents[datafile.id] = content
        changed = replace(datafile, sha1=sha1_of(content), size=len(content))
        self._put(replace(dataset, datafiles=(changed,), total_size=len(content)))

    def _put(self, dataset: Dataset) -> None:
        self._datasets[dataset.id] = dataset
        for folder, items in self._items.items():
            self._items[folder] = [
                replace(item, content=dataset)
                if item.content_type == "dataset" and item.object_id == dataset.id
                else item
                for item in items
            ]


class Steps:
    """Ends the process at the call number *last*: odd numbers before it is made, even ones after it was."""

    def __init__(self, last: int | None = None) -> None:
        self._last = last
        self.count = 0
        self.calls: list[str] = []

    def step(self) -> None:
        self.count += 1
        if self.count == self._last:
            raise Killed

    def around(self, inner: Any) -> Any:
        return _Watched(inner, self)


class _Watched:
    def __init__(self, inner: Any, steps: Steps) -> None:
        self._inner = inner
        self._steps = steps

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._inner, name)
        if not callable(value):
            return value

        def call(*arguments: Any, **options: Any) -> Any:
            self._steps.step()
            answer = value(*arguments, **options)
            self._steps.calls.append(name)
            self._steps.step()
            return answer

        return call


class QuickDisk(Disk):
    """Syncs nothing: a process that is killed leaves to the kernel what it has written."""

    def sync_file(self, descriptor: int, path: Path) -> None:
        """Do not wait."""

    def sync_directory(self, path: Path) -> None:
        """Do not wait."""


class Arrival:
    """A local store and a server, and what lies between: batches that were imported and are to be settled."""

    def __init__(self, state: Path) -> None:
        self.local = Local(state, disk=QuickDisk())
        self.server = Server()
        self.anchor = Anchor(Kind.FOLDER, self.server.root)
        self.refreshed: list[tuple[Kind, int]] = []
        self.adopted: list[tuple[Datafile, bytes]] = []
        self.said: list[tuple[int, dict[str, str]]] = []
        self.link_exams = True
        self.steps = Steps()

    @property
    def root(self) -> int:
        return self.server.root

    def settler(self) -> Settler:
        around = self.steps.around
        return Settler(
            around(self.local.journal),
            around(self.local.arrivals),
            around(self.server),
            around(self.server),
            around(self.server),
            refresh=self._refresh,
            adopt=self._adopt,
            say=self._say,
            link_exams=self.link_exams,
        )

    def _refresh(self, changed: Iterable[tuple[Kind, int]]) -> None:
        self.steps.step()
        self.steps.calls.append("refresh")
        self.refreshed.extend(changed)

    def _adopt(self, datafile: Datafile, path: Path) -> None:
        self.steps.step()
        self.adopted.append((datafile, path.read_bytes()))

    def _say(self, dataset: int, said: Mapping[str, str]) -> None:
        self.steps.step()
        self.said.append((dataset, dict(said)))

    # -- a batch -----------------------------------------------------------------------------------------

    def write(self, path: str, data: bytes, *, replaces: Replaced | None = None) -> LocalNode:
        """Write a local file, with the directories on the way."""
        *directories, name = path.split("/")
        return self.local.write(self.directory("/".join(directories)), name, data, replaces=replaces)

    def directory(self, path: str) -> Any:
        place: Any = self.anchor
        for name in path.split("/") if path else ():
            uploads = self.local.uploads
            place = uploads.find(place, name) or uploads.make_directory(place, name)
        return place

    def seal(self) -> dict[str, Upload]:
        """Seal what was written, compute SHA-1s; return the uploads by target."""
        self.local.fall_quiet()
        journal = self.local.journal
        batch = journal.batches()[-1]
        for upload in journal.uploads(batch.id):
            journal.set_sha1(upload.id, sha1_of(upload.content.read_bytes()))
        journal.begin_upload(batch.id, 77, [])
        journal.set_state(batch.id, BatchState.IMPORTING)
        return {upload.target: upload for upload in journal.uploads(batch.id)}

    def store(self, upload: Upload, **where: Any) -> dict[str, object]:
        """Import one upload as a dataset of its own, into its folder or *where*; return its part of the result."""
        *directories, name = upload.target.split("/")
        if not where:
            folder = self.root
            for one in directories:
                folder = self.server.folder_called(folder, one)
            where = {"folder": folder}
        dataset = self.server.add_dataset({name: upload.content.read_bytes()}, **where)
        return entry(upload, dataset)

    def has_ended(self, *entries: Mapping[str, object], **more: object) -> None:
        """The import has ended with this result."""
        self.has_ended_with({"datafiles": list(entries), **more})

    def has_ended_with(self, result: dict[str, object]) -> None:
        self.local.journal.set_state(self.batch.id, BatchState.VERIFYING, result=result)

    @property
    def batch(self) -> Batch:
        return self.local.journal.batches()[-1]

    def settle(self) -> None:
        for batch in self.local.journal.batches():
            self.settler().settle(batch)

    def local_tree(self) -> dict[str, str]:
        """Return the local nodes by path, with the reason of those that failed."""
        found = {}
        overlay = self.local.store.overlay
        for node in overlay.everything():
            _, names = self.local.uploads.parts_below(node)
            found["/".join(names) + ("/" if node.is_directory else "")] = node.error
        return found

    def close(self) -> None:
        self.local.close()


def entry(upload: Upload, dataset: Dataset, *, created: bool = True, sha1: str = "") -> dict[str, object]:
    """Return what a result says of *upload*, which is in *dataset*."""
    name = upload.target.rpartition("/")[2]
    datafile = next((one.id for one in dataset.datafiles or () if one.original_filename == name), None)
    return {
        "id": datafile,
        "path": upload.target,
        "sha1": sha1 or upload.sha1,
        "dataset": dataset.id,
        "created": created,
    }


def sha1_of(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()
