"""The changing calls of the server on a ``MemoryArchive``: what ``client.changes`` does to a real one."""

from __future__ import annotations

from dataclasses import replace

from agorafs.client.records import Dataset, Folder, FolderItem, Kind, RemoteRef
from agorafs.errors import NotFound
from tests.support.memory_archive import MemoryArchive

_CONTENT_TYPES = {Kind.FOLDER: "folder", Kind.EXAM: "exam", Kind.SERIES: "serie", Kind.DATASET: "dataset"}


class MemoryChanges:
    """``calls`` has what was asked for; ``fail_with`` makes every call raise."""

    def __init__(self, archive: MemoryArchive) -> None:
        self.archive = archive
        self.calls: list[str] = []
        self.fail_with: Exception | None = None

    def _asked(self, *words: object) -> None:
        self.calls.append(" ".join(map(str, words)))
        if self.fail_with is not None:
            raise self.fail_with

    def _tables(self, kind: Kind) -> dict[int, object]:
        archive = self.archive
        tables = {
            Kind.FOLDER: archive._folders,
            Kind.EXAM: archive._exams,
            Kind.SERIES: archive._series,
            Kind.DATASET: archive._datasets,
        }
        return tables[kind]  # type: ignore[return-value]

    def _update(self, ref: RemoteRef, **fields: object) -> None:
        table = self._tables(ref.kind)
        if ref.id not in table:
            raise NotFound(f"{ref} is not there")
        table[ref.id] = replace(table[ref.id], **fields)  # type: ignore[type-var]
        for items in self.archive._items.values():
            for index, item in enumerate(items):
                if (item.content_type, item.object_id) == (_CONTENT_TYPES[ref.kind], ref.id):
                    items[index] = replace(item, content=table[ref.id])  # type: ignore[arg-type]

    def rename_folder(self, folder: Folder, name: str) -> None:
        self._asked("rename_folder", folder.id, name)
        self._update(RemoteRef(Kind.FOLDER, folder.id), name=name)

    def rename_exam(self, exam_id: int, name: str) -> None:
        self._asked("rename_exam", exam_id, name)
        self._update(RemoteRef(Kind.EXAM, exam_id), name=name)

    def rename_series(self, series_id: int, name: str) -> None:
        self._asked("rename_series", series_id, name)
        self._update(RemoteRef(Kind.SERIES, series_id), name=name)

    def move_dataset(self, dataset_id: int, project_id: int, folder_id: int) -> Dataset:
        self._asked("move_dataset", dataset_id, project_id, folder_id)
        dataset = self.archive._datasets[dataset_id]
        for folder in list(self.archive._items):
            self.archive.remove_item(folder, dataset_id)
        self.archive.add_item(folder_id, "dataset", dataset_id, dataset)
        return dataset

    def link(self, ref: RemoteRef, folder_id: int) -> FolderItem:
        self._asked("link", ref.kind.value, ref.id, folder_id)
        content = self._tables(ref.kind)[ref.id]
        return self.archive.add_item(folder_id, _CONTENT_TYPES[ref.kind], ref.id, content, is_link=True)

    def delete_folder(self, folder_id: int) -> None:
        self._asked("delete_folder", folder_id)
        for items in self.archive._items.values():
            items[:] = [
                item for item in items if (item.content_type, item.object_id) != ("folder", folder_id)
            ]
        self.archive._items.pop(folder_id)

    def delete_folder_item(self, item_id: int) -> None:
        self._asked("delete_folder_item", item_id)
        for items in self.archive._items.values():
            for item in items:
                if item.id == item_id:
                    items.remove(item)
                    if item.content_type == "dataset" and not item.is_link:
                        del self.archive._datasets[item.object_id]
                    return
        raise NotFound(f"folder item {item_id} is not there")

    def delete_object(self, ref: RemoteRef) -> None:
        self._asked("delete_object", ref.kind.value, ref.id)
        if self._tables(ref.kind).pop(ref.id, None) is None:
            raise NotFound(f"{ref} is not there")
