"""The archive's objects as frozen records, parsed from JSON once, here.

Why.  The archive's JSON is known only from the outside: keys may be missing, ids may be nested objects,
lists may be pages. Everything uncertain is settled in this module; below it a record is trusted.

Units.  Sizes are bytes; times are nanoseconds since the Unix epoch, UTC, or ``None`` where the archive
gives none; ids are positive integers, unique per kind only.

Errors.  A record without an id, or with a value of an impossible type, raises ``errors.ProtocolError``
naming the kind and the field. Unknown keys are ignored, missing optional ones tolerated.

Source of the field names: the JSON fixtures of the vendor's Python connector (MIT licence) and what the
vendor's clients read.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import lru_cache
from typing import Any, NamedTuple

from agorafs.errors import ProtocolError

Json = Mapping[str, Any]

_MAX_SIZE = 2**63 - 1  # what a file's size can be on any system


class Kind(str, enum.Enum):
    """The kinds of archive objects; the value is the word used in paths and attributes."""

    PROJECT = "project"
    FOLDER = "folder"
    EXAM = "exam"
    SERIES = "series"
    DATASET = "dataset"
    DATAFILE = "datafile"
    PATIENT = "patient"
    TAG = "tag"
    TASK = "task"  # one made of forms; its ids overlap with those of script tasks
    SCRIPT_TASK = "script task"
    TRASH_ENTRY = "trash entry"


# The archive writes "serie" in folder items, tags and ratings, "series" elsewhere; "study" is the web
# interface's word for an exam. The words for tags and tasks are guesses after their paths.
_KIND_BY_CONTENT_TYPE = {
    "project": Kind.PROJECT,
    "folder": Kind.FOLDER,
    "exam": Kind.EXAM,
    "study": Kind.EXAM,
    "serie": Kind.SERIES,
    "series": Kind.SERIES,
    "dataset": Kind.DATASET,
    "datafile": Kind.DATAFILE,
    "patient": Kind.PATIENT,
    "tag": Kind.TAG,
    "tagdefinition": Kind.TAG,
    "task": Kind.TASK,
    "taskdefinition": Kind.TASK,
    "scripttask": Kind.SCRIPT_TASK,
    "taskdefinitionyaml": Kind.SCRIPT_TASK,
}

# What the search calls the kinds (Matlab).
_KIND_BY_CODE = {
    1: Kind.FOLDER,
    2: Kind.EXAM,
    3: Kind.SERIES,
    4: Kind.DATASET,
    5: Kind.PATIENT,
    6: Kind.PROJECT,
    9: Kind.TASK,
    10: Kind.SCRIPT_TASK,
    11: Kind.TAG,
}


_NOT_IN_WORDS = str.maketrans("", "", " _-")


def kind_of(content_type: object) -> Kind | None:
    """Return the kind that the archive means by a word or by one of the search's codes, None for any other."""
    if isinstance(content_type, str):
        word = content_type.lower().translate(_NOT_IN_WORDS)
        if not (word.isascii() and word.isdigit() and len(word) <= 2):
            return _KIND_BY_CONTENT_TYPE.get(word)
        content_type = int(word)
    return _KIND_BY_CODE.get(content_type) if type(content_type) is int else None


class RemoteRef(NamedTuple):
    """How to ask the archive for an object again."""

    kind: Kind
    id: int


class Role(enum.IntEnum):
    """Project roles (ids 1-4); what each may do is the server's business, observers only read."""

    MANAGER = 1
    SCIENTIST = 2
    USER = 3
    OBSERVER = 4


# -- scalars ---------------------------------------------------------------------------------------


def parse_time_ns(value: object) -> int | None:
    """Return an ISO 8601 timestamp as nanoseconds since the epoch, or None when it is absent or unreadable.

    A missing zone is taken as UTC. ``Z`` is accepted on every Python (``fromisoformat`` learnt it in 3.11).
    """
    return _parse_time_text_ns(value) if isinstance(value, str) and value else None


@lru_cache(maxsize=4096)  # one import gives thousands of objects the same few times
def _parse_time_text_ns(value: str) -> int | None:
    text = value[:-1] + "+00:00" if value[-1] in "zZ" else value
    head, dot, tail = text.partition(".")
    if dot:  # Python 3.10 wants exactly three or six digits
        digits = len(tail) - len(tail.lstrip("0123456789"))
        text = f"{head}.{tail[:digits][:6].ljust(6, '0')}{tail[digits:]}"
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    try:
        moment = moment.astimezone(timezone.utc)
    except OverflowError:  # in the first or last hours that the calendar has
        return None
    delta = moment - datetime(1970, 1, 1, tzinfo=timezone.utc)
    return (delta.days * 86400 + delta.seconds) * 1_000_000_000 + delta.microseconds * 1000


def parse_object(data: object, what: str) -> Json:
    """Return *data*, which must be a JSON object."""
    if not isinstance(data, dict):
        raise ProtocolError(f"the server sent {type(data).__name__} where a {what} was expected")
    return data


def parse_id(data: Json, what: str, key: str = "id") -> int:
    """Return an id that must be there."""
    value = data.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ProtocolError(f"the server sent a {what} whose {key!r} is {value!r}, not an id")
    return value


def optional_id(value: object) -> int | None:
    """Return an id that may come as a number, a nested object, or null."""
    if isinstance(value, dict):
        value = value.get("id")
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value


def parse_text(data: Json, key: str) -> str:
    """Return a text, empty where there is none."""
    value = data.get(key)
    return value if isinstance(value, str) else "" if value is None else str(value)


def _size(data: Json, what: str, key: str) -> int:
    value = data.get(key, 0)
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MAX_SIZE:
        raise ProtocolError(f"the server sent a {what} whose {key!r} is {value!r}, not a number of bytes")
    return value


def _list(value: object, what: str) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise ProtocolError(f"the server sent {type(value).__name__} where a list of {what} was expected")
    return value


# -- records ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ServerVersion:
    """Answer of ``version/``: ``text`` is such as ``7.14.6`` or ``dev``; ``numbers`` is None for ``dev``."""

    text: str
    numbers: tuple[int, ...] | None

    @classmethod
    def from_json(cls, data: object) -> ServerVersion:
        text = parse_text(parse_object(data, "version"), "version")
        if not text:
            raise ProtocolError("the server's version answer has no 'version'")
        if text.lower() == "dev":
            return cls(text, None)
        try:
            numbers = tuple(int(part) for part in text.split("-")[0].split("."))
        except ValueError:
            raise ProtocolError(f"the server calls its version {text!r}, which is not a version") from None
        return cls(text, numbers)


@dataclass(frozen=True, slots=True)
class User:
    id: int
    username: str
    is_superuser: bool

    @classmethod
    def from_json(cls, data: object) -> User:
        data = parse_object(data, "user")
        return cls(parse_id(data, "user"), parse_text(data, "username"), bool(data.get("is_superuser")))


@dataclass(frozen=True, slots=True)
class Project:
    id: int
    name: str
    root_folder: int | None
    is_myagora: bool
    owner: int | None
    created_ns: int | None
    roles: tuple[tuple[int, int], ...]  # (user id, role id) of each known membership

    @classmethod
    def from_json(cls, data: object) -> Project:
        data = parse_object(data, "project")
        roles = []
        for membership in _list(data.get("memberships"), "memberships"):
            if isinstance(membership, dict):
                user, role = optional_id(membership.get("user")), optional_id(membership.get("role"))
                if user is not None and role is not None:
                    roles.append((user, role))
        return cls(
            parse_id(data, "project"),
            parse_text(data, "name"),
            optional_id(data.get("root_folder")),
            bool(data.get("is_myagora")),
            optional_id(data.get("owner")),
            parse_time_ns(data.get("created_date")),
            tuple(roles),
        )


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder has no time of its own in the archive; its folder item has."""

    id: int
    name: str
    project: int | None
    locked: bool

    @classmethod
    def from_json(cls, data: object) -> Folder:
        data = parse_object(data, "folder")
        return cls(
            parse_id(data, "folder"),
            parse_text(data, "name"),
            optional_id(data.get("project")),
            bool(data.get("locked")),
        )


@dataclass(frozen=True, slots=True)
class Exam:
    """One examination of one patient ("study" in the web interface)."""

    id: int
    name: str
    uid: str
    project: int | None
    patient: int | None
    owner: int | None
    start_ns: int | None
    created_ns: int | None
    locked: bool

    @classmethod
    def from_json(cls, data: object) -> Exam:
        data = parse_object(data, "exam")
        return cls(
            parse_id(data, "exam"),
            parse_text(data, "name"),
            parse_text(data, "uid"),
            optional_id(data.get("project")),
            optional_id(data.get("patient")),
            optional_id(data.get("owner")),
            parse_time_ns(data.get("start_time")),
            parse_time_ns(data.get("created_date")),
            bool(data.get("locked")),
        )


@dataclass(frozen=True, slots=True)
class Series:
    id: int
    name: str
    uid: str
    exam: int | None
    project: int | None
    acquisition_number: int | None
    time_ns: int | None
    created_ns: int | None
    modified_ns: int | None
    locked: bool

    @classmethod
    def from_json(cls, data: object) -> Series:
        data = parse_object(data, "series")
        return cls(
            parse_id(data, "series"),
            parse_text(data, "name"),
            parse_text(data, "uid"),
            optional_id(data.get("exam")),
            optional_id(data.get("project")),
            optional_id(data.get("acquisition_number")),
            parse_time_ns(data.get("time")),
            parse_time_ns(data.get("created_date")),
            parse_time_ns(data.get("modified_date")),
            bool(data.get("locked")),
        )


@dataclass(frozen=True, slots=True)
class Datafile:
    """One stored file. ``sha1`` is 40 lower-case hex digits, or empty where the server knows none."""

    id: int
    original_filename: str
    size: int
    sha1: str
    created_ns: int | None
    modified_ns: int | None

    @classmethod
    def from_json(cls, data: object) -> Datafile:
        data = parse_object(data, "datafile")
        if data.get("size") is None:
            # Taken as 0 it would be served as an empty file.
            raise ProtocolError(f"the server sent a datafile ({data.get('id')!r}) without a size")
        sha1 = parse_text(data, "sha1").lower()
        if sha1 and (len(sha1) != 40 or sha1.strip("0123456789abcdef")):
            raise ProtocolError(f"datafile {data.get('id')} has the SHA-1 {sha1!r}, which is none")
        return cls(
            parse_id(data, "datafile"),
            parse_text(data, "original_filename"),
            _size(data, "datafile", "size"),
            sha1,
            parse_time_ns(data.get("created_date")),
            parse_time_ns(data.get("modified_date")),
        )


@dataclass(frozen=True, slots=True)
class Dataset:
    """One representation of data: one or more datafiles.

    ``datafiles`` is None where the answer did not carry them (v2 answers, some trees): they must then be
    fetched; it never means "no files".
    """

    id: int
    name: str
    type: int
    series: int | None
    exam: int | None
    project: int | None
    total_size: int
    created_ns: int | None
    modified_ns: int | None
    locked: bool
    datafiles: tuple[Datafile, ...] | None

    @classmethod
    def from_json(cls, data: object) -> Dataset:
        data = parse_object(data, "dataset")
        files: tuple[Datafile, ...] | None = None
        if data.get("datafiles") is not None:
            files = tuple(Datafile.from_json(item) for item in _list(data["datafiles"], "datafiles"))
        total_size = _size(data, "dataset", "total_size")
        if files == () and total_size > 0:
            files = None  # a list that is empty although there are bytes is not believed
        return cls(
            parse_id(data, "dataset"),
            parse_text(data, "name"),
            _size(data, "dataset", "type"),
            optional_id(data.get("serie", data.get("series"))),
            optional_id(data.get("exam")),
            optional_id(data.get("project")),
            total_size,
            parse_time_ns(data.get("created_date")),
            parse_time_ns(data.get("modified_date")),
            bool(data.get("locked")),
            files,
        )


@dataclass(frozen=True, slots=True)
class Patient:
    id: int
    name: str
    patient_id: str
    created_ns: int | None
    modified_ns: int | None

    @classmethod
    def from_json(cls, data: object) -> Patient:
        data = parse_object(data, "patient")
        return cls(
            parse_id(data, "patient"),
            parse_text(data, "name"),
            parse_text(data, "patient_id"),
            parse_time_ns(data.get("created_date")),
            parse_time_ns(data.get("modified_date")),
        )


Content = Folder | Exam | Series | Dataset | Patient


@dataclass(frozen=True, slots=True)
class FolderItem:
    """One entry of a folder. ``id`` is the entry's, ``object_id`` the object's.

    ``content`` is None for a content type that agorafs does not know.
    """

    id: int
    folder: int | None
    content_type: str
    object_id: int
    is_link: bool
    modified_ns: int | None
    content: Content | None

    @classmethod
    def from_json(cls, data: object) -> FolderItem:
        data = parse_object(data, "folder item")
        content_type = parse_text(data, "content_type")
        parse = _CONTENT_PARSERS.get(_KIND_BY_CONTENT_TYPE.get(content_type, Kind.PROJECT))
        raw = data.get("content_object")
        return cls(
            parse_id(data, "folder item"),
            optional_id(data.get("folder")),
            content_type,
            parse_id(data, "folder item", "object_id"),
            bool(data.get("is_link")),
            parse_time_ns(data.get("modified_date")),
            parse(raw) if parse is not None and isinstance(raw, dict) else None,
        )


_CONTENT_PARSERS: dict[Kind, Any] = {
    Kind.FOLDER: Folder.from_json,
    Kind.EXAM: Exam.from_json,
    Kind.SERIES: Series.from_json,
    Kind.DATASET: Dataset.from_json,
    Kind.PATIENT: Patient.from_json,
}


@dataclass(frozen=True, slots=True)
class Crumb:
    """One step of a folder's breadcrumb, root first."""

    folder: int
    name: str

    @classmethod
    def from_json(cls, data: object) -> Crumb:
        data = parse_object(data, "breadcrumb")
        return cls(parse_id(data, "breadcrumb", "object_id"), parse_text(data, "name"))


@dataclass(frozen=True, slots=True)
class SeriesTree:
    """A series with its datasets. ``datasets`` is None where the answer did not carry them."""

    series: Series
    datasets: tuple[Dataset, ...] | None

    @classmethod
    def from_json(cls, data: object) -> SeriesTree:
        data = parse_object(data, "series tree")
        raw = data.get("datasets")
        datasets = None if raw is None else tuple(Dataset.from_json(item) for item in _list(raw, "datasets"))
        return cls(Series.from_json(data), datasets)


@dataclass(frozen=True, slots=True)
class ExamTree:
    """An exam with its series and the datasets attached to the exam itself.

    An answer without either list is no tree and raises ``ProtocolError``: taken as empty it would show an
    exam without its data. The caller can still list level by level.
    """

    exam: Exam
    series: tuple[SeriesTree, ...]
    datasets: tuple[Dataset, ...]

    @classmethod
    def from_json(cls, data: object) -> ExamTree:
        data = parse_object(data, "exam tree")
        for key in ("series", "datasets"):
            if data.get(key) is None:
                raise ProtocolError(f"the server sent an exam tree ({data.get('id')!r}) without {key!r}")
        return cls(
            Exam.from_json(data),
            tuple(SeriesTree.from_json(item) for item in _list(data.get("series"), "series")),
            tuple(Dataset.from_json(item) for item in _list(data.get("datasets"), "datasets")),
        )
