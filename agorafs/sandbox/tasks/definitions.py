"""Tasks as clients write them: UI tasks with their form of inputs, script tasks with their YAML.

Decisions, where the real server's behaviour is unknown:

* All fields are kept as they came, unknown ones too; a change replaces the fields it names and leaves the others.
* Inputs and outputs get ids of their own when they come without, or with one of another task.
* ``select_values`` is a list of values, or text with commas between them.
* A task is refused (400) when it could not be run by anybody: no name, two inputs of one key, an unknown type of
  input, a pattern that is none, YAML that cannot be read. That a program is none of the built-in ones shows at the run.

Programs.  The first word of ``execute_template``, or of the ``script`` of every job of a script task whose
``script_type`` is ``command``. The rest of the command is for a real server: a built-in program works on all files of
all objects among the inputs. The jobs of a script task run in the order of their ``stages``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

Json = Any

PROGRAMS = ("checksum", "header", "nifti")

EXAM, SERIES, DATASET, FILE, STRING, INTEGER, FLOAT, SELECT, FOLDER, STATIC, BOOL = (
    "exam", "series", "dataset", "file", "string", "integer", "float", "select", "folder", "static", "bool",
)  # fmt: skip
OBJECTS = (EXAM, SERIES, DATASET, FILE, FOLDER)
# As UI tasks number them, from 1.
_TYPES = dict(
    enumerate((EXAM, SERIES, DATASET, FILE, STRING, INTEGER, FLOAT, SELECT, FOLDER, STATIC, BOOL), start=1)
)
_SCRIPT_TYPES = {**{word: word for word in _TYPES.values()}, "study": EXAM, "boolean": BOOL}

# What a UI task has that nobody named when it was made.
UI_DEFAULTS: Mapping[str, Json] = {
    "inputs": [],
    "outputs": [],
    "members": [],
    "container_name": "",
    "container_options": {"mount_volumes": []},
    "execute_template": "",
    "execute_version": None,
    "success_exit_code": 0,
    "parse_output_for_error": "",
    "host": None,
    "host_id": None,
    "mount_volumes": [],
    "task_target": None,
    "use_docker": False,
    "environment_variables": [],
    "context_help": "",
}
_INPUT_DEFAULTS: Mapping[str, Json] = {
    "name": "",
    "description": "",
    "required": True,
    "data_set_type": None,
    "filename_regex": None,
    "min": None,
    "max": None,
    "select_values": None,
}
_MAX_YAML_CHARACTERS = 1 << 20


class DefinitionError(Exception):
    """A task cannot be like this; ``field`` is the part that is wrong."""

    def __init__(self, field: str, text: str) -> None:
        super().__init__(text)
        self.field = field


class NoProgramError(Exception):
    """A task names a program that the sandbox does not have."""


@dataclass(frozen=True, slots=True)
class TaskInput:
    """One input of either kind of task; ``type`` is one of the words above."""

    key: str
    type: str
    required: bool
    default: Json = None
    dataset_type: int | None = None
    filename_regex: str | None = None
    minimum: float | None = None
    maximum: float | None = None
    values: tuple[str, ...] = ()  # of a select; none: anything


# -- UI tasks ----------------------------------------------------------------------------------------


def checked_inputs(inputs: Json) -> list[dict[str, Json]]:
    """Return the ``inputs`` of a UI task with all their fields, in their order."""
    entries = _objects("inputs", inputs)
    for order, entry in enumerate(entries):
        for name, value in {**_INPUT_DEFAULTS, "order": order}.items():
            entry.setdefault(name, value)
    _check_keys([ui_input(entry) for entry in entries])
    return entries


def checked_outputs(outputs: Json) -> list[dict[str, Json]]:
    return _objects("outputs", outputs)


def _objects(field: str, value: Json) -> list[dict[str, Json]]:
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise DefinitionError(field, "Expected a list of objects.")
    return [dict(entry) for entry in value]


def ui_input(entry: Mapping[str, Json]) -> TaskInput:
    """Return an input of a UI task; ``DefinitionError`` when it cannot be one."""
    number = entry.get("type")
    if isinstance(number, bool) or not isinstance(number, int) or number not in _TYPES:
        raise DefinitionError("inputs", f"{number!r} is no type of input: 1 to {max(_TYPES)}.")
    return _input(
        entry.get("key"),
        _TYPES[number],
        entry,
        dataset_type=entry.get("data_set_type"),
        required=entry.get("required"),
    )


def ui_inputs(body: Mapping[str, Json]) -> tuple[TaskInput, ...]:
    return tuple(ui_input(entry) for entry in body["inputs"])


def ui_programs(body: Mapping[str, Json]) -> tuple[str, ...]:
    return (_program(str(body["execute_template"] or "")),)


# -- script tasks ------------------------------------------------------------------------------------


def parsed_yml(yml: Json) -> Mapping[str, Json]:
    """Return the definition of a script task, which is an object or YAML text; checked."""
    if isinstance(yml, str):
        if len(yml) > _MAX_YAML_CHARACTERS:
            raise DefinitionError("yml", f"At most {_MAX_YAML_CHARACTERS} characters.")
        try:
            yml = yaml.safe_load(yml)
        except (yaml.YAMLError, RecursionError, ValueError) as error:
            raise DefinitionError("yml", f"This is no YAML: {error}") from None
    if not isinstance(yml, dict):
        raise DefinitionError("yml", "Expected an object, or YAML text of one.")
    _check_keys(script_inputs(yml))
    return yml


def script_inputs(yml: Mapping[str, Json]) -> tuple[TaskInput, ...]:
    inputs = yml.get("inputs") or {}
    if not isinstance(inputs, dict) or not all(isinstance(entry, dict) for entry in inputs.values()):
        raise DefinitionError("yml", "inputs: expected an object of objects.")
    return tuple(_script_input(str(key), entry) for key, entry in inputs.items())


def _script_input(key: str, entry: Mapping[str, Json]) -> TaskInput:
    word = entry.get("type")
    if not isinstance(word, str) or word not in _SCRIPT_TYPES:
        raise DefinitionError("yml", f"{word!r} is no type of input: {', '.join(_SCRIPT_TYPES)}.")
    values = entry.get("options", entry.get("select_values", entry.get("values")))
    return _input(
        key,
        _SCRIPT_TYPES[word],
        {**entry, "select_values": values},
        dataset_type=entry.get("dataset_type"),
        required=entry.get("required"),
    )


def script_programs(yml: Mapping[str, Json]) -> tuple[str, ...]:
    """Return the programs of a script task's jobs, in the order of the stages."""
    stages = yml.get("stages")
    order = [str(stage) for stage in stages] if isinstance(stages, list) else []
    jobs = [job for job in yml.values() if isinstance(job, dict) and "script" in job]
    if not jobs:
        raise NoProgramError("The task has no job with a script.")
    unknown = len(order)
    jobs.sort(key=lambda job: order.index(str(job["stage"])) if str(job.get("stage")) in order else unknown)
    return tuple(_program(_first_line(job)) for job in jobs)


def _first_line(job: Mapping[str, Json]) -> str:
    if job.get("script_type", "command") != "command":
        raise NoProgramError(
            f"This server runs only its built-in programs ({', '.join(PROGRAMS)}), no scripts."
        )
    script = job["script"]
    if isinstance(script, list):
        script = "\n".join(str(line) for line in script)
    lines = str(script).strip().splitlines()
    if len(lines) > 1:
        raise NoProgramError(f"This server runs one built-in program for each job ({', '.join(PROGRAMS)}).")
    return lines[0] if lines else ""


# -- both --------------------------------------------------------------------------------------------


def _program(command: str) -> str:
    word = (command.split() or [""])[0]
    if word not in PROGRAMS:
        raise NoProgramError(
            f"This server runs only its built-in programs ({', '.join(PROGRAMS)}), not {word or 'nothing'!r}."
        )
    return word


def _input(
    key: Json, type_: str, entry: Mapping[str, Json], *, dataset_type: Json, required: Json
) -> TaskInput:
    if not isinstance(key, str) or not key.strip():
        raise DefinitionError("inputs", "Each input needs a key.")
    regex = entry.get("filename_regex") or None
    if regex is not None:
        try:
            re.compile(regex)
        except (re.error, TypeError):
            raise DefinitionError("inputs", f"{key}: filename_regex is no regular expression.") from None
    if dataset_type is not None and (isinstance(dataset_type, bool) or not isinstance(dataset_type, int)):
        raise DefinitionError("inputs", f"{key}: the type of a dataset is a number.")
    return TaskInput(
        key,
        type_,
        required is None or bool(required),
        entry.get("default"),
        dataset_type,
        regex,
        _bound(key, entry.get("min")),
        _bound(key, entry.get("max")),
        _values(key, entry.get("select_values")),
    )


def _bound(key: str, value: Json) -> float | None:
    if value is None or value == "":
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        raise DefinitionError("inputs", f"{key}: min and max are numbers.") from None


def _values(key: str, values: Json) -> tuple[str, ...]:
    if values is None:
        return ()
    if isinstance(values, str):
        values = [part.strip() for part in values.split(",") if part.strip()]
    if not isinstance(values, list):
        raise DefinitionError("inputs", f"{key}: select_values is a list of values.")
    return tuple(str(value) for value in values)


def _check_keys(inputs: Sequence[TaskInput]) -> None:
    keys = [entry.key for entry in inputs]
    for key in keys:
        if keys.count(key) > 1:
            raise DefinitionError("inputs", f"There are two inputs with the key {key!r}.")
