"""Tasks and what becomes of their runs, as frozen records.

Place.  ``tasks`` and ``moving`` parse and return them. As in ``records`` a wrong type raises ``ProtocolError``, unknown
keys are ignored; ``raw`` keeps everything as the server gave it, to be shown and to be sent back. Not to be changed.

Two sorts.  Tasks made of forms list their inputs, with numbers for the types. Script tasks have YAML (``yml``, an
object or text) with the inputs by key. Their ids overlap. YAML that can not be read gives a task without inputs: the
others of its project are still there.

Evidence.  Fields and numbers: Python and Matlab, and one exported task. The shapes of ``select_values`` and of limits
are guesses.
"""

from __future__ import annotations

import enum
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from agorafs.client.records import (
    Json,
    Kind,
    RemoteRef,
    kind_of,
    optional_id,
    parse_id,
    parse_object,
    parse_text,
)
from agorafs.errors import ProtocolError

log = logging.getLogger(__name__)

# 10 and 11 are in Matlab only.
_TYPE_BY_NUMBER = {
    1: "exam",
    2: "series",
    3: "dataset",
    4: "file",
    5: "string",
    6: "integer",
    7: "float",
    8: "select",
    9: "folder",
    10: "static",
    11: "bool",
}
_TYPE_BY_WORD = {
    **{word: word for word in _TYPE_BY_NUMBER.values()},
    "study": "exam",
    "serie": "series",
    "int": "integer",
    "boolean": "bool",
}
_UNKNOWN_TYPE = "string"  # as the vendor's connector takes it: any text, for the server to judge


@dataclass(frozen=True, slots=True)
class TaskInput:
    """One input of a task.

    ``type`` is one of the words ``exam``, ``series``, ``dataset``, ``file``, ``string``, ``integer``, ``float``,
    ``select``, ``folder``, ``static`` and ``bool``. Where there is no such limit, ``dataset_type``, ``filename_regex``,
    ``minimum`` and ``maximum`` are None, ``options`` empty.
    """

    key: str
    name: str
    type: str
    required: bool
    default: Any
    dataset_type: int | None
    filename_regex: str | None
    minimum: float | None
    maximum: float | None
    options: tuple[Any, ...]
    raw: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Task:
    """One task of a project; ``project`` is None where neither the answer nor the question names it."""

    id: int
    name: str
    is_script: bool
    project: int | None
    inputs: tuple[TaskInput, ...]
    raw: Mapping[str, Any]

    @property
    def ref(self) -> RemoteRef:
        """How to ask for it again."""
        return RemoteRef(Kind.SCRIPT_TASK if self.is_script else Kind.TASK, self.id)

    @classmethod
    def from_json(cls, data: object, *, is_script: bool, project: int | None = None) -> Task:
        data = parse_object(data, "task")
        own_project = optional_id(data.get("project"))
        return cls(
            parse_id(data, "task"),
            parse_text(data, "name"),
            is_script,
            project if own_project is None else own_project,
            script_inputs(data) if is_script else form_inputs(data),
            data,
        )


def form_inputs(task: Mapping[str, Any]) -> tuple[TaskInput, ...]:
    """Return the inputs of a task made of forms, in its order."""
    inputs = task.get("inputs")
    if inputs is None:
        return ()
    if not isinstance(inputs, list) or not all(isinstance(item, dict) for item in inputs):
        raise ProtocolError(f"the server sent a task ({task.get('id')!r}) whose inputs are no list")
    return tuple(_input(parse_text(item, "key"), item) for item in sorted(inputs, key=_order))


# The library lets through what its readers of numbers, dates and tagged values stumble upon.
_NOT_YAML = (yaml.YAMLError, ValueError, TypeError, AttributeError, LookupError, ArithmeticError)


def script_inputs(task: Mapping[str, Any]) -> tuple[TaskInput, ...]:
    """Return the inputs of a script task, in the order of its YAML."""
    try:
        yml = read_yml(task.get("yml"))
    except ValueError as error:
        log.debug("script task %s: %s", task.get("id"), error)
        return ()
    inputs = yml.get("inputs")
    if not isinstance(inputs, dict):
        return ()
    return tuple(
        _input(str(key), item if isinstance(item, dict) else {"type": item}) for key, item in inputs.items()
    )


def read_yml(yml: object) -> Mapping[str, Any]:
    """Return what a script task's YAML says: *yml* is text, or an object already, or nothing.

    Raises:
        ValueError: It can not be read; the message says where, as far as that is known.
    """
    if isinstance(yml, str):
        try:
            yml = yaml.safe_load(yml)
        except _NOT_YAML as error:
            raise ValueError(f"this is no YAML: {error}") from error
        except RecursionError:
            raise ValueError("this YAML is nested too deeply") from None
    if yml is None:
        return {}
    if not isinstance(yml, dict):
        raise ValueError("this YAML has no keys")
    return yml


def _order(item: Json) -> int:
    order = item.get("order")
    return order if isinstance(order, int) else 0


def _input(key: str, data: Json) -> TaskInput:
    kind = data.get("type")
    if isinstance(kind, str):
        type_ = _TYPE_BY_WORD.get(kind.lower(), _UNKNOWN_TYPE)
    else:
        type_ = _TYPE_BY_NUMBER.get(kind, _UNKNOWN_TYPE) if isinstance(kind, int) else _UNKNOWN_TYPE
    return TaskInput(
        key,
        parse_text(data, "name"),
        type_,
        data.get("required") is not False,
        _plain(data.get("default")),
        optional_id(data.get("data_set_type", data.get("dataset_type"))) or None,
        parse_text(data, "filename_regex") or None,
        _number(data.get("min")),
        _number(data.get("max")),
        _options(data.get("select_values", data.get("options"))),
        data,
    )


def _plain(value: Any) -> Any:
    """Return *value* as it can be sent; YAML has dates, for one, which JSON has not."""
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return str(value)
    return value


def _number(value: object) -> float | None:
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _options(values: object) -> tuple[Any, ...]:
    """Return what can be selected: out of a list of values or of objects that have one, or out of lines or commas."""
    if isinstance(values, str):
        return tuple(word.strip() for word in values.replace("\n", ",").split(",") if word.strip())
    if isinstance(values, dict):
        return tuple(values)
    if not isinstance(values, list):
        return ()
    return tuple(
        next((item[key] for key in ("value", "key", "name", "label") if key in item), item)
        if isinstance(item, dict)
        else item
        for item in values
    )


class TimelineState(enum.IntEnum):
    """How far a run is (Matlab; Python does not know the last)."""

    IDLE = 0
    STARTED = 1
    FINISHED = 2
    ERROR = 3
    CANCELLING = 4
    CANCELLED = 5
    QUEUED = 6

    @property
    def is_over(self) -> bool:
        """Whether it stays so."""
        return self in (TimelineState.FINISHED, TimelineState.ERROR, TimelineState.CANCELLED)


@dataclass(frozen=True, slots=True)
class TimelineItem:
    """A run as of one look at it.

    ``error`` is the server's reason, empty if there is none. ``related`` are the objects that it made or concerned, as
    far as the server tells of which kind they are.
    """

    id: int
    state: TimelineState
    error: str
    related: tuple[RemoteRef, ...]
    raw: Mapping[str, Any]

    @classmethod
    def from_json(cls, data: object) -> TimelineItem:
        data = parse_object(data, "timeline item")
        inner = data.get("data")
        inner = inner if isinstance(inner, dict) else {}
        objects = inner.get("related_objects", data.get("related_objects"))
        return cls(
            parse_id(data, "timeline item"),
            _state(inner.get("state", data.get("state"))),
            _error(inner.get("error")) or _error(data.get("error")),
            tuple(filter(None, map(_related, objects if isinstance(objects, list) else ()))),
            data,
        )


def _state(value: object) -> TimelineState:
    """Return the state that a number means; one that nobody knows is no end."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) == 1:
        value = int(value)
    if value is None:
        return TimelineState.IDLE
    if isinstance(value, int) and value in tuple(TimelineState):
        return TimelineState(value)
    log.debug("%r is no known state of a run", value)
    return TimelineState.STARTED


def _error(value: object) -> str:
    if isinstance(value, dict):
        value = value.get("message") or value.get("detail")
    return value if isinstance(value, str) else ""


def _related(item: object) -> RemoteRef | None:
    if not isinstance(item, dict):
        return None
    word = next((item[key] for key in ("content_type", "object_type", "type") if key in item), None)
    object_id = optional_id(item.get("object_id", item.get("id")))
    kind = kind_of(word)
    return None if object_id is None or kind is None else RemoteRef(kind, object_id)
