"""One method per endpoint that finds things by another way than their place, or tells more of them.

Place.  ``Client.exploring``: searches, relations, the folders that show an object, the trash, image info, workbooks,
logs.

Evidence.  As in ``api``; "Matlab" is the vendor's toolbox.

Repetition.  A lost answer leaves ``create_workbook`` undecided (``RemoteUnavailable`` or ``RemoteTimeout``); all else
is repeated.

Threads.  Every method may be called from any thread.

Failure.  As ``Transport.get_json``; a ``ProtocolError`` besides for answers that are no such record, ``NotSupported``
for kinds that the archive answers no such question of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, TypeVar

from agorafs.client.asking import json_object, listed, listed_known, parsed
from agorafs.client.records import Exam, Folder, Kind, Patient, RemoteRef, Series
from agorafs.client.transport import Transport
from agorafs.client.view_records import Hit, Relation, TrashEntry
from agorafs.errors import NotFound, NotSupported, ProtocolError

_RELATIONS = {Kind.EXAM: "/api/v1/exam/{id}/datarelations/", Kind.SERIES: "/api/v1/serie/{id}/datarelations/"}
_FOLDERS = {
    Kind.EXAM: "/api/v1/exam/{id}/folders/",
    Kind.SERIES: "/api/v1/serie/{id}/folders/",
    Kind.DATASET: "/api/v1/dataset/{id}/folders/",
}
_RESULT_FOLDERS = {
    Kind.EXAM: "/api/v2/exam/{id}/result_folders/",
    Kind.SERIES: "/api/v2/series/{id}/result_folders/",
}
_ABOVE = {Kind.SERIES: "/api/v2/series/{id}/", Kind.DATASET: "/api/v2/dataset/{id}/"}
_DOWNLOAD_LISTS = {
    Kind.EXAM: "exam_ids",
    Kind.SERIES: "series_ids",
    Kind.PATIENT: "patient_ids",
    Kind.DATASET: "dataset_ids",
    Kind.FOLDER: "folder_ids",
}

T = TypeVar("T")


class Exploring:
    """What one user can find out about the archive."""

    def __init__(self, transport: Transport, page_size: int) -> None:
        self._transport = transport
        self._page_size = page_size

    # -- searches ------------------------------------------------------------------------------------

    def search(self, text: str, *, project: int | None, type_code: int = 0) -> list[Hit]:
        """GET v1/search/fulltext/ or, in a project, v2/project/{id}/fulltext/ (Matlab).

        Args:
            type_code: 0 all, 1 folders, 2 exams, 3 series, 4 datasets, 5 patients, 6 projects, 9 tasks, 10 script
                tasks, 11 tags.
        """
        path = "/api/v1/search/fulltext/" if project is None else f"/api/v2/project/{project}/fulltext/"
        return listed_known(
            self._transport, path, Hit.from_json, self._page_size, {"q": text, "t": type_code}
        )

    def search_series(self, expression: str) -> list[Series]:
        """GET v1/serie/search/ (Python): such as ``parameter.EX_ACQ_flip_angle > 20 AND parameter.TR < 2``."""
        return listed(
            self._transport, "/api/v1/serie/search/", Series.from_json, self._page_size, {"q": expression}
        )

    # -- what belongs together -----------------------------------------------------------------------

    def relations(self, ref: RemoteRef) -> list[Relation]:
        """GET v1/exam/{id}/datarelations/, v1/serie/{id}/datarelations/ (Python); *ref* may be on either side."""
        path = _path(_RELATIONS, ref, "relations")
        return listed_known(
            self._transport, path, partial(Relation.from_json, asked=ref.kind), self._page_size
        )

    def folders_of(self, ref: RemoteRef) -> list[Folder]:
        """GET v1/{exam,serie,dataset}/{id}/folders/ (Python): the folders that show the object."""
        return self._list(_path(_FOLDERS, ref, "folders that show it"), Folder.from_json)

    def result_folders(self, ref: RemoteRef) -> list[Folder]:
        """GET v2/{exam,series}/{id}/result_folders/ (Matlab): where runs of tasks put what they made of it."""
        return self._list(_path(_RESULT_FOLDERS, ref, "folders with results"), Folder.from_json)

    def patient_of(self, ref: RemoteRef) -> Patient | None:
        """GET v2/{series,dataset}/{id}/patient/ (Matlab), for an exam through the exam; None: there is none."""
        if ref.kind is not Kind.EXAM:
            return self._above(ref, "patient", Patient.from_json)
        path = f"/api/v1/exam/{ref.id}/"
        patient = self._parsed(path, Exam.from_json, self._transport.get_json(path)).patient
        if patient is None:
            return None
        path = f"/api/v1/patient/{patient}/"
        return self._parsed(path, Patient.from_json, self._transport.get_json(path))

    def exam_of(self, ref: RemoteRef) -> Exam | None:
        """GET v2/{series,dataset}/{id}/exam/ (Matlab); None: there is none, a dataset may be a folder's."""
        return self._above(ref, "exam", Exam.from_json)

    def _above(self, ref: RemoteRef, word: str, parse: Callable[[object], T]) -> T | None:
        path = f"{_path(_ABOVE, ref, word)}{word}/"
        try:
            answer = self._transport.get_json(path)
        except NotFound:
            return None
        return None if answer is None or answer == {} else self._parsed(path, parse, answer)

    # -- trash ---------------------------------------------------------------------------------------

    def trash(self) -> list[TrashEntry]:
        """GET v1/trash/ (Python): of all projects."""
        return self._list("/api/v1/trash/", TrashEntry.from_json)

    def delete_finally(self, entry_id: int) -> None:
        """DELETE v1/trash/{id}/delete (Python), which sends no slash at the end; with one where that is missing."""
        path = f"/api/v1/trash/{entry_id}/delete"
        try:
            self._transport.delete(path)
        except NotFound:
            self._transport.delete(f"{path}/")

    # -- datasets ------------------------------------------------------------------------------------

    def image_info(self, dataset_id: int) -> Any:
        """GET v1/dataset/{id}/image_info/ (Python): as the server gives it."""
        return self._transport.get_json(f"/api/v1/dataset/{dataset_id}/image_info/")

    def workbooks(self, dataset_id: int) -> list[Mapping[str, Any]]:
        """GET v2/dataset/{id}/workbook/ (Python), which makes one where there is none; this does not."""
        return self._list(f"/api/v2/dataset/{dataset_id}/workbook/", json_object)

    def workbook(self, workbook_id: int) -> Mapping[str, Any]:
        """GET v2/workbook/{id}/ (Python)."""
        path = f"/api/v2/workbook/{workbook_id}/"
        return self._parsed(path, json_object, self._transport.get_json(path))

    def create_workbook(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """POST v2/workbook/ (Python), with ``id`` null; *body* names the dataset."""
        path = "/api/v2/workbook/"
        return self._parsed(path, json_object, self._transport.post_json(path, {**body, "id": None}))

    def update_workbook(
        self,
        workbook_id: int,
        *,
        mask: Mapping[str, Any] | None = None,
        contour: Mapping[str, Any] | None = None,
    ) -> Mapping[str, Any]:
        """PATCH v2/workbook/{id}/ (Python): each part that is given replaces the server's."""
        path = f"/api/v2/workbook/{workbook_id}/"
        body = {name: part for name, part in (("mask", mask), ("contour", contour)) if part is not None}
        return self._parsed(path, json_object, self._transport.patch_json(path, body, may_repeat=True))

    def delete_workbook(self, workbook_id: int) -> None:
        """DELETE v2/workbook/{id}/ (Python)."""
        self._transport.delete(f"/api/v2/workbook/{workbook_id}/")

    # -- imports and downloads -----------------------------------------------------------------------

    def import_objects(self, package_id: int) -> Any:
        """GET v1/import/{id}/get_objects/ (Python): as the server gives it, presumably what the import made."""
        return self._transport.get_json(f"/api/v1/import/{package_id}/get_objects/")

    def download_info(self, refs: Iterable[RemoteRef]) -> list[Mapping[str, Any]]:
        """POST v1/downloadinfo/ (Matlab): id, place, size and SHA-1 of every datafile below *refs*.

        It changes nothing, so it is repeated.
        """
        path = "/api/v1/downloadinfo/"
        body: dict[str, list[int]] = {}
        for ref in refs:
            if ref.kind not in _DOWNLOAD_LISTS:
                raise NotSupported(f"the archive does not list the files below a {ref.kind.value}")
            body.setdefault(_DOWNLOAD_LISTS[ref.kind], []).append(ref.id)
        answer = self._transport.post_json(path, body, may_repeat=True)
        if answer is None:  # nothing to download (Matlab)
            return []
        if not isinstance(answer, list):
            raise ProtocolError(f"{self._transport.base_url.join(path)}: the answer is not a list")
        return [self._parsed(path, json_object, item) for item in answer]

    # -- logs ----------------------------------------------------------------------------------------

    def logfiles(self) -> list[Mapping[str, Any]]:
        """GET v2/logfile/ (Matlab): for administrators, presumably."""
        return self._list("/api/v2/logfile/", json_object)

    def logfile(self, logfile_id: int) -> str:
        """GET v2/logfile/{id}/content/ (Matlab): plain text."""
        return self._transport.get_text(f"/api/v2/logfile/{logfile_id}/content/")

    # -- how -----------------------------------------------------------------------------------------

    def _list(self, path: str, parse: Callable[[object], T]) -> list[T]:
        return listed(self._transport, path, parse, self._page_size)

    def _parsed(self, path: str, parse: Callable[[object], T], data: object) -> T:
        return parsed(self._transport, path, parse, data)


def _path(paths: Mapping[Kind, str], ref: RemoteRef, what: str) -> str:
    if ref.kind not in paths:
        raise NotSupported(f"the archive knows no {what} of a {ref.kind.value}")
    return paths[ref.kind].format(id=ref.id)
