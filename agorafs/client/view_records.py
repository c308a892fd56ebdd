"""What the archive finds, relates and throws away, as frozen records.

Place.  ``exploring`` parses and returns them. As in ``records`` a wrong type raises ``ProtocolError``, unknown keys are
ignored; ``raw`` keeps everything as the server gave it.

Evidence.  Little is known: of a trash entry ``id`` and ``project`` (Python), of a search result nothing. The other
names are those that the archive uses elsewhere; where none of them is there, the value is empty.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agorafs.client.records import (
    Json,
    Kind,
    RemoteRef,
    kind_of,
    optional_id,
    parse_id,
    parse_object,
    parse_time_ns,
)

_TYPES = ("content_type", "object_type", "type")
_NAMES = ("name", "title", "label", "original_filename")
_OBJECTS = ("content_object", "object")


@dataclass(frozen=True, slots=True)
class TrashEntry:
    """What one deletion removed; ``deleted_ns`` in nanoseconds since the epoch."""

    id: int
    project: int | None
    kind: Kind | None
    object_id: int | None
    name: str
    deleted_ns: int | None
    raw: Mapping[str, Any]

    @classmethod
    def from_json(cls, data: object) -> TrashEntry:
        data = parse_object(data, "trash entry")
        return cls(
            parse_id(data, "trash entry"),
            optional_id(data.get("project")),
            _kind(data),
            optional_id(data.get("object_id", data.get("object"))),
            _name(data),
            next(filter(None, (parse_time_ns(data.get(key)) for key in _DELETED)), None),
            data,
        )


_DELETED = ("deleted_date", "deleted", "created_date", "modified_date")


@dataclass(frozen=True, slots=True)
class Relation:
    """Two objects that belong together; an import said so."""

    first: RemoteRef
    second: RemoteRef

    @classmethod
    def from_json(cls, data: object, asked: Kind) -> Relation | None:
        """Return None where one is of a kind that agorafs does not know; *asked* is that of those without a word."""
        data = parse_object(data, "relation")
        first, second = (_end(data.get(key), asked) for key in ("from_object", "to_object"))
        return None if first is None or second is None else cls(first, second)


def _end(data: object, asked: Kind) -> RemoteRef | None:
    data = parse_object(data, "related object")
    word = data.get("content_type")
    kind = asked if word is None else kind_of(word)
    return None if kind is None else RemoteRef(kind, parse_id(data, "related object", "object_id"))


@dataclass(frozen=True, slots=True)
class Hit:
    """One result of a search."""

    ref: RemoteRef
    name: str
    project: int | None
    raw: Mapping[str, Any]

    @classmethod
    def from_json(cls, data: object) -> Hit | None:
        """Return None for a result of a kind that agorafs does not know, or without an id."""
        data = parse_object(data, "search result")
        kind = _kind(data)
        object_id = optional_id(data.get("object_id", data.get("id")))
        if kind is None or object_id is None:
            return None
        return cls(RemoteRef(kind, object_id), _name(data), optional_id(data.get("project")), data)


def _kind(data: Json) -> Kind | None:
    """Return the first kind that one of the usual keys tells, in a word or a code."""
    return next(filter(None, (kind_of(data.get(key)) for key in _TYPES)), None)


def _name(data: Json) -> str:
    """Return the first name that *data*, or the object in it, has."""
    inner: Json = next((data[key] for key in _OBJECTS if isinstance(data.get(key), dict)), {})
    for level in (data, inner):
        for key in _NAMES:
            if isinstance(level.get(key), str) and level[key]:
                return str(level[key])
    return ""
