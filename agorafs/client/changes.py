"""One method per endpoint of the archive that changes something, uploads aside (``imports``).

Place.  ``Client.changes``. What is known of the objects afterwards, and whether a change is wise, is the business of
those who call; nothing is looked up first but where the protocol needs it.

Evidence.  As in ``api``; "Matlab" is the vendor's toolbox.

Repetition.  A lost answer leaves ``create_folder``, ``link``, ``copy_dataset`` and the like undecided
(``RemoteUnavailable`` or ``RemoteTimeout``): they would be done twice. Deletions, renames and moves are repeated.

Threads.  Every method may be called from any thread.

Failure.  As ``Transport.post_json``; a ``ProtocolError`` besides for answers that are no such record.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from agorafs.client.annotations import ParameterSet, Rating, Tag
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
}
_LINK_PATHS = {
    Kind.FOLDER: "/api/v2/folder/{id}/link_to/{folder}/",
    Kind.EXAM: "/api/v1/exam/{id}/link_to/{folder}/",
    Kind.SERIES: "/api/v1/serie/{id}/link_to/{folder}/",
    Kind.DATASET: "/api/v1/dataset/{id}/link_to/{folder}/",
}

# The word in v2 paths, and the server's own name for the kind, for what can be tagged, rated and described.
_DESCRIBED = {
    Kind.FOLDER: ("folder", "folder"),
    Kind.EXAM: ("exam", "exam"),
    Kind.SERIES: ("series", "serie"),
    Kind.DATASET: ("dataset", "dataset"),
    Kind.PATIENT: ("patient", "patient"),
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
        """DELETE a folder, exam, series or dataset (Python), with all that is below it."""
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

    # -- tags, ratings, parameters -------------------------------------------------------------------

    def tags(self, ref: RemoteRef) -> list[Tag]:
        """GET v2/{kind}/{id}/tags/ (Python): the tags that the object has."""
        return self._list(self._described(ref, "tags"), Tag.from_json)

    def add_tag(self, tag_id: int, ref: RemoteRef) -> None:
        """POST v2/tag-instance/ (Python), as a form. The shape of the answer is not agreed on."""
        form: dict[str, str | int] = {
            "tag_definition": tag_id,
            "tagged_object_content_type": _DESCRIBED[ref.kind][1],
            "tagged_object_id": ref.id,
        }
        self._transport.post_form("/api/v2/tag-instance/", form)

    def rating(self, ref: RemoteRef) -> Rating | None:
        """GET v2/{kind}/{id}/rating/ (Python): a list of which only the first counts."""
        ratings = self._list(self._described(ref, "rating"), Rating.from_json)
        return ratings[0] if ratings else None

    def rate(self, ref: RemoteRef, value: int) -> None:
        """Set the rating to 1 to 5, or take it away with 0: GET, then POST, PUT or DELETE v2/rating/ (Python)."""
        rating = self.rating(ref)
        rated: dict[str, str | int] = {
            "rated_object_content_type": _DESCRIBED[ref.kind][1],
            "rated_object_id": ref.id,
        }
        if value == 0:
            if rating is not None:
                self._transport.delete(f"/api/v2/rating/{rating.id}/")
        elif rating is None:
            self._transport.post_form("/api/v2/rating/", {"value": value, **rated})
        else:
            body = {"id": rating.id, "value": value, **rated}
            self._transport.put_json(f"/api/v2/rating/{rating.id}/", body, may_repeat=True)

    def parameter_sets(self, ref: RemoteRef) -> list[ParameterSet]:
        """GET v2/{kind}/{id}/parametersets/ and, as that may give heads only, each v2/parameterset/{id}/ (Python)."""
        heads = self._list(self._described(ref, "parametersets"), ParameterSet.from_json)
        return [self._parameter_set(head.id) for head in heads]

    def _parameter_set(self, set_id: int) -> ParameterSet:
        path = f"/api/v2/parameterset/{set_id}/"
        return self._parsed(path, ParameterSet.from_json, self._transport.get_json(path, {"flat": "True"}))

    def add_parameter_set(
        self, ref: RemoteRef, name: str, parameters: Sequence[Mapping[str, Any]]
    ) -> ParameterSet:
        """POST v2/{kind}/{id}/parametersets/ (Python): a writable set; the answer is its head."""
        path = self._described(ref, "parametersets")
        body = {"name": name, "parameters": [dict(parameter) for parameter in parameters]}
        return self._parsed(path, ParameterSet.from_json, self._transport.post_json(path, body))

    # -- how -----------------------------------------------------------------------------------------

    @staticmethod
    def _described(ref: RemoteRef, tail: str) -> str:
        return f"/api/v2/{_DESCRIBED[ref.kind][0]}/{ref.id}/{tail}/"

    def _list(self, path: str, parse: Callable[[object], T]) -> list[T]:
        return listed(self._transport, path, parse, self._page_size)

    def _parsed(self, path: str, parse: Callable[[object], T], data: object) -> T:
        return parsed(self._transport, path, parse, data)
