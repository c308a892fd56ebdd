"""What users say about objects, as frozen records: tags, ratings, parameter sets.

Place.  ``changes`` parses and returns them. As in ``records`` a wrong type raises ``ProtocolError``, unknown keys are
ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agorafs.client.records import parse_id, parse_object, parse_text
from agorafs.errors import ProtocolError


@dataclass(frozen=True, slots=True)
class Tag:
    """A tag as it is defined for a user or a project; objects only refer to it."""

    id: int
    label: str

    @classmethod
    def from_json(cls, data: object) -> Tag:
        data = parse_object(data, "tag")
        return cls(parse_id(data, "tag"), parse_text(data, "label"))


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
