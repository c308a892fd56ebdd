"""One method per endpoint of the archive that reading needs; the rest is in modules by subject, one attribute each.

Place.  The tree asks ``Client`` for records, the content cache for bodies. Paths and prefixes are known here and in
``changes``, ``imports``, ``annotating``, ``tasks``, ``moving``, ``exploring`` and ``administration`` only; where v1 and
v2 differ, the one that carries more is used (v1 datasets list their datafiles, v2 datasets do not).

Evidence.  There is no public server to compare with. The paths are those that the vendor's own programs
send: "Python" is the Python connector 1.8.0, "Go" the Go connector and ``agora-downloader``; "manual" is
the vendor's online manual.

Threads.  Every method may be called from any thread.

Failure.  As ``Transport.get_json``; a ``ProtocolError`` besides for answers that are no such record, or
are the record of another object than was asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar
from urllib.parse import quote

from agorafs.byterange import ByteRange
from agorafs.client.administration import Administration
from agorafs.client.annotating import Annotations
from agorafs.client.asking import listed, parsed
from agorafs.client.auth import Credential
from agorafs.client.body import Body
from agorafs.client.changes import Changes
from agorafs.client.exploring import Exploring
from agorafs.client.imports import Imports
from agorafs.client.moving import Moving
from agorafs.client.paging import DEFAULT_PAGE_SIZE
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
    Series,
    ServerVersion,
    User,
    parse_id,
    parse_object,
    parse_text,
)
from agorafs.client.tasks import Tasks
from agorafs.client.transport import Transport
from agorafs.errors import (
    NotAuthenticated,
    NotFound,
    NotSupported,
    PermissionDenied,
    ProtocolError,
    ServerTooOld,
)

OLDEST_VERSION = (7, 14, 0)

# The object itself, by kind. Series are "serie" in v1, after the server's own name for them.
_OBJECT_PATHS = {
    Kind.PROJECT: "/api/v2/project/{id}/",
    Kind.FOLDER: "/api/v2/folder/{id}/",
    Kind.EXAM: "/api/v1/exam/{id}/",
    Kind.SERIES: "/api/v1/serie/{id}/",
    Kind.DATASET: "/api/v1/dataset/{id}/",
    Kind.DATAFILE: "/api/v1/datafile/{id}/",
    Kind.PATIENT: "/api/v1/patient/{id}/",
    Kind.TAG: "/api/v2/tag-definition/{id}/",
    Kind.TASK: "/api/v1/taskdefinition/{id}/",
    Kind.SCRIPT_TASK: "/api/v2/taskdefinition_yaml/{id}/",
}


class _WithId(Protocol):
    @property
    def id(self) -> int: ...


class _WithUid(_WithId, Protocol):
    @property
    def uid(self) -> str: ...


T = TypeVar("T")
TId = TypeVar("TId", bound=_WithId)
TUid = TypeVar("TUid", bound=_WithUid)


class Client:
    """The archive as one user sees it."""

    def __init__(self, transport: Transport, *, page_size: int = DEFAULT_PAGE_SIZE) -> None:
        """Use *transport*; lists are asked for in pages of *page_size* elements."""
        self.transport = transport
        self.changes = Changes(transport, page_size)
        self.annotations = Annotations(transport, page_size)
        self.tasks = Tasks(transport, page_size)
        self.moving = Moving(transport)
        self.exploring = Exploring(transport, page_size)
        self.administration = Administration(transport, page_size)
        self.imports = Imports(transport)
        self._page_size = page_size

    def replace_credential(self, credential: Credential | None) -> None:
        """Use *credential* from the next request on."""
        self.transport.replace_credential(credential)

    def condition(self) -> str:
        """How the server stands as of the last request: ``ok``, ``away`` or ``refused`` (the credential)."""
        return self.transport.condition()

    def close(self) -> None:
        """Close idle connections."""
        self.transport.close()

    # -- system --------------------------------------------------------------------------------------

    def version(self, *, deadline_s: float | None = None) -> ServerVersion:
        """GET v1/version/ (Python, Go). Go calls it without credentials, Python with; so both are tried."""
        path, data = self._asked_version(deadline_s)
        return self._parsed(path, ServerVersion.from_json, data)

    def describe_server(self) -> Mapping[str, Any]:
        """The same answer as it is: the connector's ``ping`` looks for the key ``server`` in it."""
        return parse_object(self._asked_version(None)[1], "version")

    def _asked_version(self, deadline_s: float | None) -> tuple[str, Any]:
        path = "/api/v1/version/"
        try:
            return path, self.transport.get_json(path, deadline_s=deadline_s, is_authenticated=False)
        except (NotAuthenticated, PermissionDenied):
            return path, self.transport.get_json(path, deadline_s=deadline_s)

    def current_user(self, *, deadline_s: float | None = None) -> User:
        """GET v1/user/current/ (Python). Its answer is told from others by the key ``institution``."""
        path, data = self._asked_current_user(deadline_s)
        return self._parsed(path, User.from_json, data)

    def describe_me(self) -> Mapping[str, Any]:
        """The same answer as it is."""
        return self._asked_current_user(None)[1]

    def _asked_current_user(self, deadline_s: float | None) -> tuple[str, Mapping[str, Any]]:
        path = "/api/v1/user/current/"
        data = self.transport.get_json(path, deadline_s=deadline_s)
        if not isinstance(data, Mapping) or "institution" not in data:
            raise ProtocolError(
                f"{self.transport.base_url.join(path)}: the answer is not an Agora user; is this an Agora server?"
            )
        return path, data

    def vendors(self) -> dict[int, str]:
        """GET v1/scannervendor/ (Python): the names of the makers of scanners, by id."""

        def parse(data: object) -> tuple[int, str]:
            data = parse_object(data, "vendor")
            return parse_id(data, "vendor"), parse_text(data, "name")

        return dict(self._list("/api/v1/scannervendor/", parse))

    # -- projects ------------------------------------------------------------------------------------

    def projects(self) -> list[Project]:
        """GET v2/project/ (Python): the projects this user is a member of."""
        return self._list("/api/v2/project/", Project.from_json)

    def my_agora(self) -> Project:
        """GET v2/project/myagora/ (Python): the user's own project."""
        path = "/api/v2/project/myagora/"
        return self._parsed(path, Project.from_json, self.transport.get_json(path))

    def project(self, project_id: int) -> Project:
        """GET v2/project/{id}/ (Python)."""
        return self._object(Kind.PROJECT, project_id, Project.from_json)

    def project_exams(self, project_id: int) -> list[Exam]:
        """GET v2/project/{id}/exam/ (Python): the project's study list."""
        return self._list(f"/api/v2/project/{project_id}/exam/", Exam.from_json)

    def project_patients(self, project_id: int) -> list[Patient]:
        """GET v2/project/{id}/patient/ (Go)."""
        return self._list(f"/api/v2/project/{project_id}/patient/", Patient.from_json)

    def exam_by_uid(self, project_id: int, uid: str) -> Exam:
        """GET v2/project/{id}/exam/uid/{uid}/ (Python)."""
        return self._by_uid(project_id, "exam", uid, Exam.from_json)

    def series_by_uid(self, project_id: int, uid: str) -> Series:
        """GET v2/project/{id}/series/uid/{uid}/ (Python)."""
        return self._by_uid(project_id, "series", uid, Series.from_json)

    # -- folders -------------------------------------------------------------------------------------

    def folder(self, folder_id: int) -> Folder:
        """GET v2/folder/{id}/ (Python)."""
        return self._object(Kind.FOLDER, folder_id, Folder.from_json)

    def folder_items(self, folder_id: int) -> list[FolderItem]:
        """GET v1/folder/{id}/items/ (Python): a bare list, its datasets with datafiles."""
        return self._list(f"/api/v1/folder/{folder_id}/items/", FolderItem.from_json)

    def folder_breadcrumb(self, folder_id: int) -> list[Crumb]:
        """GET v1/folder/{id}/breadcrumb/ (Python): root first, the folder itself last."""
        return self._list(f"/api/v1/folder/{folder_id}/breadcrumb/", Crumb.from_json)

    # -- exams and series ----------------------------------------------------------------------------

    def exam(self, exam_id: int) -> Exam:
        """GET v1/exam/{id}/ (Python)."""
        return self._object(Kind.EXAM, exam_id, Exam.from_json)

    def exam_tree(self, exam_id: int) -> ExamTree:
        """GET v2/exam/{id}/tree/ (Python): series, their datasets, and the exam's own datasets.

        Whether the datasets carry their datafiles is not known (``Dataset.datafiles`` may be None).
        """
        path = f"/api/v2/exam/{exam_id}/tree/"
        tree = self._parsed(path, ExamTree.from_json, self.transport.get_json(path))
        self._check_id(path, tree.exam, exam_id)
        return tree

    def exam_series(self, exam_id: int) -> list[Series]:
        """GET v1/exam/{id}/series/ (Python)."""
        return self._list(f"/api/v1/exam/{exam_id}/series/", Series.from_json)

    def exam_files(self, exam_id: int) -> list[Dataset]:
        """GET v1/exam/{id}/files/ (Python): all datasets with datafiles, those of the series included."""
        return self._list(f"/api/v1/exam/{exam_id}/files/", Dataset.from_json)

    def series(self, series_id: int) -> Series:
        """GET v1/serie/{id}/ (Python)."""
        return self._object(Kind.SERIES, series_id, Series.from_json)

    def series_datasets(self, series_id: int) -> list[Dataset]:
        """GET v1/serie/{id}/datasets/ (Python): with datafiles."""
        return self._list(f"/api/v1/serie/{series_id}/datasets/", Dataset.from_json)

    def series_folders(self, series_id: int) -> list[Folder]:
        """GET v1/serie/{id}/folders/ (Python): the folders that show this series."""
        return self._list(f"/api/v1/serie/{series_id}/folders/", Folder.from_json)

    # -- datasets and datafiles ----------------------------------------------------------------------

    def dataset(self, dataset_id: int) -> Dataset:
        """GET v1/dataset/{id}/ (Python): with datafiles."""
        return self._object(Kind.DATASET, dataset_id, Dataset.from_json)

    def dataset_datafiles(self, dataset_id: int) -> list[Datafile]:
        """GET v2/dataset/{id}/datafiles/ (Go), and v1/dataset/{id}/ where that is missing or says "none".

        "None" is believed only if the dataset itself, with its total size, agrees.
        """
        try:
            datafiles = self._list(f"/api/v2/dataset/{dataset_id}/datafiles/", Datafile.from_json)
        except NotFound:
            datafiles = []
        if datafiles:
            return datafiles
        dataset = self.dataset(dataset_id)
        if dataset.datafiles is None:
            raise ProtocolError(
                f"dataset {dataset_id} on {self.transport.base_url.text} has {dataset.total_size} bytes, "
                "but the server lists no datafiles"
            )
        return list(dataset.datafiles)

    def dataset_folders(self, dataset_id: int) -> list[Folder]:
        """GET v1/dataset/{id}/folders/ (Python): the folders that show this dataset."""
        return self._list(f"/api/v1/dataset/{dataset_id}/folders/", Folder.from_json)

    def datafile(self, datafile_id: int) -> Datafile:
        """GET v1/datafile/{id}/ (inherited by the Python connector, not seen in use)."""
        return self._object(Kind.DATAFILE, datafile_id, Datafile.from_json)

    def open_body(
        self, datafile: int, byte_range: ByteRange | None = None, *, if_range: str | None = None
    ) -> Body:
        """GET v1/datafile/{id}/download/ (Python, Go): the stored bytes.

        No vendor program sends ``Range`` here; a server may honour it, ignore it, or get it wrong.
        """
        path = f"/api/v1/datafile/{datafile}/download/"
        return self.transport.open_body(path, byte_range, if_range=if_range)

    # -- patients ------------------------------------------------------------------------------------

    def patients(self) -> list[Patient]:
        """GET v1/patient/ (Python): all patients this user may see."""
        return self._list("/api/v1/patient/", Patient.from_json)

    def patient(self, patient_id: int) -> Patient:
        """GET v1/patient/{id}/ (Python)."""
        return self._object(Kind.PATIENT, patient_id, Patient.from_json)

    def patient_exams(self, patient_id: int) -> list[Exam]:
        """GET v1/patient/{id}/exams/ (Python)."""
        return self._list(f"/api/v1/patient/{patient_id}/exams/", Exam.from_json)

    # -- any object ----------------------------------------------------------------------------------

    def describe(self, ref: RemoteRef) -> Mapping[str, Any]:
        """Return every field the server gives for *ref*, as it gives them."""
        if ref.kind not in _OBJECT_PATHS:
            raise NotSupported(f"the archive has nothing to say of a single {ref.kind.value}")
        path = _OBJECT_PATHS[ref.kind].format(id=ref.id)
        data = self.transport.get_json(path)
        if not isinstance(data, Mapping) or data.get("id") != ref.id:
            raise ProtocolError(
                f"{self.transport.base_url.join(path)}: the answer is not {ref.kind.value} {ref.id}"
            )
        return data

    # -- how -----------------------------------------------------------------------------------------

    def _list(self, path: str, parse: Callable[[object], T]) -> list[T]:
        return listed(self.transport, path, parse, self._page_size)

    def _parsed(self, path: str, parse: Callable[[object], T], data: object) -> T:
        return parsed(self.transport, path, parse, data)

    def _object(self, kind: Kind, object_id: int, parse: Callable[[object], TId]) -> TId:
        path = _OBJECT_PATHS[kind].format(id=object_id)
        record = self._parsed(path, parse, self.transport.get_json(path))
        self._check_id(path, record, object_id)
        return record

    def _check_id(self, path: str, record: _WithId, object_id: int) -> None:
        if record.id != object_id:
            raise ProtocolError(f"{self.transport.base_url.join(path)}: answered with the object {record.id}")

    def _by_uid(self, project_id: int, word: str, uid: str, parse: Callable[[object], TUid]) -> TUid:
        # "." and ".." can not be escaped and would lead to another endpoint.
        if uid.strip(".") == "":
            raise NotFound(f"{uid!r} is not a UID")
        path = f"/api/v2/project/{project_id}/{word}/uid/{quote(uid, safe='')}/"
        record = self._parsed(path, parse, self.transport.get_json(path))
        if record.uid != uid:
            raise ProtocolError(f"{self.transport.base_url.join(path)}: answered with the UID {record.uid!r}")
        return record


def check_server(client: Client, *, deadline_s: float | None = None) -> tuple[ServerVersion, User]:
    """Make sure that this is an Agora server we know how to talk to, and that it lets us in.

    Args:
        deadline_s: For each of the two requests; a user who waits for a mount wants a short one.

    Raises:
        ServerTooOld: Its version is below ``OLDEST_VERSION``; pre-releases count as their release.
        NotAuthenticated: The credential is not accepted.
        ProtocolError: It is something else than Agora.
    """
    server = client.transport.base_url.text
    try:
        version = client.version(deadline_s=deadline_s)
    except NotFound as error:
        raise ProtocolError(f"{server} has no Agora API at this address; is this an Agora server?") from error
    if version.numbers is not None:
        padded = version.numbers + (0,) * (len(OLDEST_VERSION) - len(version.numbers))
        if padded < OLDEST_VERSION:
            oldest = ".".join(map(str, OLDEST_VERSION))
            raise ServerTooOld(f"{server} runs Agora {version.text}; agorafs needs {oldest} or later")
    return version, client.current_user(deadline_s=deadline_s)
