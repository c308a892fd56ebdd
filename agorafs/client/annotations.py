"""What users say about objects, as frozen records: tags, ratings, parameter sets.

Place.  ``annotating`` parses and returns them. As in ``records`` a wrong type raises ``ProtocolError``, unknown keys
are ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agorafs.client.records import RemoteRef, kind_of, optional_id, parse_id, parse_object, parse_text
from agorafs.errors import ProtocolError


@dataclass(frozen=True, slots=True)
class Tag:
    """A tag as it is defined for a project, or for a user where ``project`` is None; objects only refer to it."""

    id: int
    label: str
    project: int | None = None
    user: int | None = None
    color: str | None = None

    @classmethod
    def from_json(cls, data: object) -> Tag:
        data = parse_object(data, "tag")
        return cls(
            parse_id(data, "tag"),
            parse_text(data, "label"),
            optional_id(data.get("project")),
            optional_id(data.get("user")),
            parse_text(data, "color") or None,
        )


@dataclass(frozen=True, slots=True)
class TagInstance:
    """One object has one tag; ``tag`` is the id of its definition."""

    id: int
    tag: int
    ref: RemoteRef

    @classmethod
    def from_json(cls, data: object) -> TagInstance | None:
        """Return None for an object of a kind that agorafs does not know."""
        data = parse_object(data, "tag instance")
        tag = optional_id(data.get("tag_definition"))
        if tag is None:
            raise ProtocolError(f"the server sent a tag instance ({data.get('id')!r}) of no tag")
        kind = kind_of(data.get("tagged_object_content_type"))
        if kind is None:
            return None
        ref = RemoteRef(kind, parse_id(data, "tag instance", "tagged_object_id"))
        return cls(parse_id(data, "tag instance"), tag, ref)


@dataclass(frozen=True, slots=True)
class Rating:
    """One to five stars; ``id`` is the rating's own."""

    id: int
    value: int

    @classmethod
    def from_json(cls, data: object) -> Rating:
        data = parse_object(data, "rating")
        value = data.get("value")
        if isinstance(value, bool) or not isinstance(value, int):
            raise ProtocolError(f"the server sent a rating whose 'value' is {value!r}, not a number")
        return cls(parse_id(data, "rating"), value)


@dataclass(frozen=True, slots=True)
class ParameterSet:
    """``parameters`` are as the server gives them: objects with ``Name``, ``Value`` and more. Not to be changed."""

    id: int
    name: str
    is_read_only: bool
    parameters: tuple[Mapping[str, Any], ...]

    @classmethod
    def from_json(cls, data: object) -> ParameterSet:
        data = parse_object(data, "parameter set")
        parameters = data.get("parameters")
        if parameters is None:
            parameters = []
        if not isinstance(parameters, list) or not all(isinstance(item, dict) for item in parameters):
            raise ProtocolError(f"the server sent a parameter set ({data.get('id')!r}) without a flat list")
        return cls(
            parse_id(data, "parameter set"),
            parse_text(data, "name"),
            # Sets without the word come from scanners; the vendor's connector does not write into them either.
            data.get("read_only") is not False,
            tuple(parameters),
        )
