"""Where things are on the server below one anchor, as of one look.

Why.  The result of an import says what arrived, not where. So the directories that files were written to are listed and
the files looked for: by the dataset that the result names, or by name, size and SHA-1.

Requests.  Each folder, dataset, series and exam is fetched once in the life of a ``Placement``; whoever changes a
folder says so (``forget``). ``folder_items`` carries the datasets of a whole folder, so a folder of loose files costs
one request and not one for each file.

Threads.  Used by the one thread that settles the batch; no locks.

Failure.  What is gone (``NotFound``) is None or empty; every other failure of the archive reaches the caller.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

from agorafs.client.records import Datafile, Dataset, Exam, Folder, FolderItem, Kind, Series
from agorafs.errors import NotFound
from agorafs.tree.names import path_parts
from agorafs.uploads.values import Anchor


class Archive(Protocol):
    """What settling reads of the archive; ``client.Client`` answers it."""

    def folder(self, folder_id: int) -> Folder: ...
    def folder_items(self, folder_id: int) -> list[FolderItem]: ...
    def exam(self, exam_id: int) -> Exam: ...
    def exam_files(self, exam_id: int) -> list[Dataset]: ...
    def series(self, series_id: int) -> Series: ...
    def series_datasets(self, series_id: int) -> list[Dataset]: ...
    def dataset(self, dataset_id: int) -> Dataset: ...
    def dataset_datafiles(self, dataset_id: int) -> list[Datafile]: ...
    def dataset_folders(self, dataset_id: int) -> list[Folder]: ...


class Place(NamedTuple):
    """Where a file is: ``item`` and ``folder`` are None in an exam or series."""

    dataset: Dataset
    datafile: Datafile
    item: FolderItem | None = None
    folder: int | None = None


class _Directory:
    """What one directory holds itself, links left out: its datasets, its items, its subfolders."""

    def __init__(self, datasets: Iterable[Dataset], items: Sequence[FolderItem] = ()) -> None:
        self.datasets = {dataset.id: dataset for dataset in datasets}
        self.items = items
        self.own = {
            item.object_id: item for item in items if isinstance(item.content, Dataset) and not item.is_link
        }
        self.by_content: dict[tuple[str, int], list[tuple[Dataset, Datafile]]] | None = None

    def subfolder(self, name: str) -> int | None:
        """Return the subfolder *name*; one whose name differs in its Unicode form alone stands in."""
        named = [
            (item.content.name, item.content.id)
            for item in self.items
            if isinstance(item.content, Folder) and not item.is_link
        ]
        exact = [number for other, number in named if other == name]
        similar = [number for other, number in named if _nfc(other) == _nfc(name)]
        return next(iter(exact + similar), None)


class Placement:
    """See the module docstring."""

    def __init__(self, archive: Archive, anchor: Anchor) -> None:
        self._archive = archive
        self._anchor = anchor
        self._folders: dict[int, _Directory] = {}
        self._attached: _Directory | None = None
        self._datasets: dict[int, Dataset | None] = {}
        self._datafiles: dict[int, Sequence[Datafile]] = {}
        self._series: dict[int, Series | None] = {}
        self._exams: dict[int, Exam | None] = {}

    # -- folders -------------------------------------------------------------------------------------

    def items(self, folder: int) -> Sequence[FolderItem]:
        """Return what *folder* shows; nothing when it is gone."""
        return self._folder(folder).items

    def forget(self, folder: int) -> None:
        """The next look at *folder* is a fresh one."""
        self._folders.pop(folder, None)

    def chain(self, directory: str) -> list[int]:
        """Return the existing folders from the anchor along *directory* (a target path, may be empty)."""
        if self._anchor.kind is not Kind.FOLDER:
            return []
        chain = [self._anchor.id]
        for name in directory.split("/") if directory else ():
            deeper = self._folder(chain[-1]).subfolder(name)
            if deeper is None:
                break
            chain.append(deeper)
        return chain

    def folder_at(self, directory: str) -> int | None:
        """Return the folder that *directory* is on the server, None when it does not exist."""
        chain = self.chain(directory)
        wanted = 1 + (directory.count("/") + 1 if directory else 0)
        return chain[-1] if len(chain) == wanted else None

    def own_item(self, folder: int, dataset: int) -> FolderItem | None:
        """Return the item by which *folder* holds the dataset itself, not a link to it."""
        return self._folder(folder).own.get(dataset)

    def folders_showing(self, dataset: int) -> list[int]:
        """Return the folders that the server names for a dataset, freshly asked for."""
        try:
            return [folder.id for folder in self._archive.dataset_folders(dataset)]
        except NotFound:
            return []

    def _folder(self, folder: int) -> _Directory:
        found = self._folders.get(folder)
        if found is None:
            try:
                items = self._archive.folder_items(folder)
            except NotFound:
                items = []
            own = [item.content for item in items if isinstance(item.content, Dataset) and not item.is_link]
            found = self._folders[folder] = _Directory(own, items)
        return found

    # -- datasets ------------------------------------------------------------------------------------

    def dataset(self, dataset_id: int) -> Dataset | None:
        """Return a dataset, from a listing that holds it where there is one."""
        for directory in self._looked_at():
            if dataset_id in directory.datasets:
                return directory.datasets[dataset_id]
        if dataset_id not in self._datasets:
            try:
                self._datasets[dataset_id] = self._archive.dataset(dataset_id)
            except NotFound:
                self._datasets[dataset_id] = None
        return self._datasets[dataset_id]

    def datafiles(self, dataset: Dataset) -> Sequence[Datafile]:
        """Return the files of *dataset*, which an answer may have left out."""
        if dataset.datafiles is not None:
            return dataset.datafiles
        if dataset.id not in self._datafiles:
            try:
                self._datafiles[dataset.id] = self._archive.dataset_datafiles(dataset.id)
            except NotFound:
                self._datafiles[dataset.id] = ()
        return self._datafiles[dataset.id]

    def exam_of(self, dataset: Dataset) -> int | None:
        """Return the exam that a dataset belongs to, itself or by its series."""
        if dataset.exam is not None or dataset.series is None:
            return dataset.exam
        if dataset.series not in self._series:
            try:
                self._series[dataset.series] = self._archive.series(dataset.series)
            except NotFound:
                self._series[dataset.series] = None
        series = self._series[dataset.series]
        return None if series is None else series.exam

    def project_of_exam(self, exam_id: int) -> int | None:
        """Return the project whose study list shows an exam."""
        if exam_id not in self._exams:
            try:
                self._exams[exam_id] = self._archive.exam(exam_id)
            except NotFound:
                self._exams[exam_id] = None
        exam = self._exams[exam_id]
        return None if exam is None else exam.project

    def project_of_folder(self, folder: int) -> int | None:
        """Return the project that a folder lies in."""
        return self._archive.folder(folder).project

    # -- looking for a file --------------------------------------------------------------------------

    def find(self, target: str, sha1: str, size: int) -> Place | None:
        """Return the file that is where *target* says, under its name and with these bytes, or None."""
        *directories, _ = target.split("/")
        if self._anchor.kind is not Kind.FOLDER:
            for dataset, datafile in self._with_content(self._anchor_directory(), sha1, size):
                if shown_name(datafile) == wanted_name(target):
                    return Place(dataset, datafile)
            return None
        chain = self.chain("/".join(directories))
        for depth, folder in reversed(list(enumerate(chain))):
            for dataset, datafile in self._with_content(self._folder(folder), sha1, size):
                if is_named(datafile, target, depth):
                    return Place(dataset, datafile, self._folder(folder).own[dataset.id], folder)
        return None

    def holds_anchor(self, dataset: Dataset) -> bool:
        """Tell whether a dataset belongs to the exam or series that is the anchor."""
        if self._anchor.kind is Kind.SERIES:
            return dataset.series == self._anchor.id
        return self._anchor.kind is Kind.EXAM and self.exam_of(dataset) == self._anchor.id

    def _anchor_directory(self) -> _Directory:
        if self._attached is None:
            ask = (
                self._archive.exam_files if self._anchor.kind is Kind.EXAM else self._archive.series_datasets
            )
            try:
                self._attached = _Directory(ask(self._anchor.id))
            except NotFound:
                self._attached = _Directory(())
        return self._attached

    def _looked_at(self) -> Iterator[_Directory]:
        if self._anchor.kind is not Kind.FOLDER:
            yield self._anchor_directory()
        yield from self._folders.values()

    def _with_content(
        self, directory: _Directory, sha1: str, size: int
    ) -> Sequence[tuple[Dataset, Datafile]]:
        if directory.by_content is None:
            directory.by_content = {}
            for dataset in directory.datasets.values():
                for datafile in self.datafiles(dataset):
                    key = (datafile.sha1, datafile.size)
                    directory.by_content.setdefault(key, []).append((dataset, datafile))
        return directory.by_content.get((sha1, size), ()) if sha1 else ()


def is_named(datafile: Datafile, target: str, depth: int) -> bool:
    """Tell whether *datafile*, in the folder *depth* steps below the anchor, is what *target* names.

    In the target's own directory the base name decides; further up the rest of the path has to be in the name.
    """
    parts = target.split("/")
    if depth == len(parts) - 1:
        return shown_name(datafile) == wanted_name(target)
    names = [_nfc(part) for part in path_parts(datafile.original_filename)]
    return names == [_nfc(part) for part in path_parts("/".join(parts[depth:]))]


def shown_name(datafile: Datafile) -> str:
    """Return the name that a datafile goes by, for comparison."""
    return _nfc((path_parts(datafile.original_filename) or ("",))[-1])


def wanted_name(target: str) -> str:
    """Return the name that *target* asks for, for comparison."""
    return _nfc((path_parts(target) or ("",))[-1])


def _nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text)
