"""One method per endpoint that changes folders and what is in them, uploads aside (``imports``).

Place.  ``Client.changes``; ``moving`` has copies and moves that take the server a while. What is known of the objects
afterwards, and whether a change is wise, is the business of those who call; nothing is looked up first but where the
protocol needs it.

Evidence.  As in ``api``; "Matlab" is the vendor's toolbox.

Repetition.  A lost answer leaves ``create_folder``, ``link``, ``copy_dataset`` and the like undecided
(``RemoteUnavailable`` or ``RemoteTimeout``): they would be done twice. Deletions, renames and moves are repeated.

Threads.  Every method may be called from any thread.

Failure.  As ``Transport.post_json``; a ``ProtocolError`` besides for answers that are no such record.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from typing import TypeVar

from agorafs.client.asking import listed, parsed
from agorafs.client.records import Dataset, Folder, FolderItem, Kind, RemoteRef
from agorafs.client.transport import Transport
from agorafs.errors import AlreadyExists, ProtocolError

# The path of an object that can be deleted, and that of one that can be shown in a folder.
_DELETE_PATHS = {
    Kind.FOLDER: "/api/v2/folder/{id}/",
    Kind.EXAM: "/api/v1/exam/{id}/",
    Kind.SERIES: "/api/v1/serie/{id}/",
    Kind.DATASET: "/api/v1/dataset/{id}/",
    Kind.PATIENT: "/api/v1/patient/{id}/",
}
_LINK_PATHS = {
    Kind.FOLDER: "/api/v2/folder/{id}/link_to/{folder}/",
    Kind.EXAM: "/api/v1/exam/{id}/link_to/{folder}/",
    Kind.SERIES: "/api/v1/serie/{id}/link_to/{folder}/",
    Kind.DATASET: "/api/v1/dataset/{id}/link_to/{folder}/",
}

T = TypeVar("T")


class Changes:
    """The archive as one user changes it."""

    def __init__(self, transport: Transport, page_size: int) -> None:
        self._transport = transport
        self._page_size = page_size

    # -- folders -------------------------------------------------------------------------------------

    def create_folder(self, parent_id: int, name: str) -> FolderItem:
        """POST v1/folder/{id}/new/ (Python); ``content`` of the answer is the new folder.

        Raises:
            AlreadyExists: There is a folder of that name. Servers say it with a status that others mean other
                things with, so the parent is listed after a refusal.
        """
        path = f"/api/v1/folder/{parent_id}/new/"
        try:
            answer = self._transport.post_json(path, {"name": name})
        except ProtocolError as error:
            if error.status is not None and self._has_folder(parent_id, name):
                raise AlreadyExists(str(error)) from error
            raise
        item = self._parsed(path, FolderItem.from_json, answer)
        if not isinstance(item.content, Folder):
            raise ProtocolError(f"{self._transport.base_url.join(path)}: the answer is not a folder")
        return item

    def _has_folder(self, parent_id: int, name: str) -> bool:
        items = self._list(f"/api/v1/folder/{parent_id}/items/", FolderItem.from_json)
        wanted = unicodedata.normalize("NFC", name)
        return any(
            isinstance(item.content, Folder) and unicodedata.normalize("NFC", item.content.name) == wanted
            for item in items
        )

    def rename_folder(self, folder: Folder, name: str) -> None:
        """PUT v1/folder/{id}/ (Matlab), which wants the id and the project, too."""
        body = {"name": name, "id": folder.id, "project": folder.project}
        self._transport.put_json(f"/api/v1/folder/{folder.id}/", body, may_repeat=True)

    def delete_folder(self, folder_id: int) -> None:
        """DELETE v2/folder/{id}/ (Python): with everything below; links are removed, not followed."""
        self.delete_object(RemoteRef(Kind.FOLDER, folder_id))

    def delete_folder_item(self, item_id: int) -> None:
        """DELETE v1/folderitem/{id}/ (Python): a link is removed; what is no link goes to the trash itself."""
        self._transport.delete(f"/api/v1/folderitem/{item_id}/")

    def link(self, ref: RemoteRef, folder_id: int) -> FolderItem:
        """POST …/{id}/link_to/{folder}/ (Python): show a folder, exam, series or dataset in a folder."""
        path = _LINK_PATHS[ref.kind].format(id=ref.id, folder=folder_id)
        return self._parsed(path, FolderItem.from_json, self._transport.post_json(path))

    # -- objects -------------------------------------------------------------------------------------

    def rename_exam(self, exam_id: int, name: str) -> None:
        """PUT v1/exam/{id}/ (Python)."""
        self._transport.put_json(f"/api/v1/exam/{exam_id}/", {"name": name}, may_repeat=True)

    def rename_series(self, series_id: int, name: str) -> None:
        """PUT v1/serie/{id}/ (Matlab), which sends the id, too."""
        body = {"name": name, "id": series_id}
        self._transport.put_json(f"/api/v1/serie/{series_id}/", body, may_repeat=True)

    def delete_object(self, ref: RemoteRef) -> None:
        """DELETE a folder, exam, series, dataset or patient (Python), with all that is below it."""
        self._transport.delete(_DELETE_PATHS[ref.kind].format(id=ref.id))

    def move_dataset(self, dataset_id: int, project_id: int, folder_id: int) -> Dataset:
        """POST v2/dataset/{id}/move_to/{project}/folder/{folder}/ (Python); *project_id* is the folder's."""
        path = f"/api/v2/dataset/{dataset_id}/move_to/{project_id}/folder/{folder_id}/"
        return self._parsed(path, Dataset.from_json, self._transport.post_json(path, {}, may_repeat=True))

    def copy_dataset(self, dataset_id: int, project_id: int, folder_id: int) -> Dataset:
        """POST v2/dataset/{id}/copy_to/{project}/folder/{folder}/ (Python); the answer is the copy."""
        path = f"/api/v2/dataset/{dataset_id}/copy_to/{project_id}/folder/{folder_id}/"
        copy = self._parsed(path, Dataset.from_json, self._transport.post_json(path, {}))
        if copy.id == dataset_id:
            raise ProtocolError(f"{self._transport.base_url.join(path)}: answered with the original")
        return copy

    # -- how -----------------------------------------------------------------------------------------

    def _list(self, path: str, parse: Callable[[object], T]) -> list[T]:
        return listed(self._transport, path, parse, self._page_size)

    def _parsed(self, path: str, parse: Callable[[object], T], data: object) -> T:
        return parsed(self._transport, path, parse, data)
