"""What a task is given: each value checked against the task's definition before the server is asked to run it.

Why.  The server starts the program and finds out minutes later that a number was out of range or that the dataset was
of another type. What can be known here is said here, with the name of the input.

Values.  Text, as it stands on a command line, or JSON. Objects are given by a path or as ``dataset:57`` (in JSON also
by the bare number, or as ``{"object_id": 57, "object_type": "dataset"}``); links are followed.

===========  ==================================================================================================
exam         an exam ("study" is the same)
series       a series
folder       a folder
dataset      a dataset, by its directory, or by its file if it has only one; of the type that the definition wants;
             one of its files has a name that fits ``filename_regex``
file         one stored file; a dataset stands for its only file that fits. It is sent with its own number,
             as ``{"object_id": 9, "object_type": "datafile"}``: no vendor's client sends such an input, so what a
             real server wants is a guess
string       any text
integer      a whole number between ``min`` and ``max``
float        a number between them, whole ones too
select       one of ``select_values``
bool         true, yes, on, 1; false, no, off, 0
static       set by the definition; nothing can be given
===========  ==================================================================================================

What is not given and has a default gets that, and must be as good as a given one. What is optional and has none is
left out. A name that ``filename_regex`` fits from its beginning is enough, as ``re.match`` says it.

Requests: those of looking up the objects' paths.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from agorafs.client.records import Datafile, Dataset, Kind, RemoteRef
from agorafs.client.task_records import Task, TaskInput
from agorafs.client.tasks import object_input
from agorafs.config import did_you_mean
from agorafs.errors import BadCommand, NotFound
from agorafs.tree.names import path_parts
from agorafs.tree.tree import Node
from agorafs.vfs.objects import WORDS, ref_of

Find = Callable[[str], Node]

DATASET_TYPES = {
    0: "any", 100: "Philips raw", 101: "Philips PAR/REC", 102: "Philips spectroscopy", 103: "Philips ExamCard",
    104: "Philips SIN", 200: "Bruker raw", 201: "Bruker subject", 202: "Bruker image", 300: "DICOM",
    400: "Siemens raw", 401: "Siemens protocol", 500: "ISMRMRD", 600: "NIfTI-1", 601: "NIfTI-2",
    602: "NIfTI Analyze 7.5", 700: "jMRUI spectroscopy", 800: "AEX", 10000: "query", 100000: "other",
}  # fmt: skip

OBJECT_KINDS = {"exam": Kind.EXAM, "series": Kind.SERIES, "dataset": Kind.DATASET, "folder": Kind.FOLDER}
TARGET_KINDS = (Kind.FOLDER, Kind.EXAM, Kind.SERIES)

_TRUE = frozenset({"true", "yes", "on", "1"})
_FALSE = frozenset({"false", "no", "off", "0"})
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_DATAFILE = re.compile(r"datafile:([0-9]{1,18})")


def check_inputs(task: Task, arguments: Mapping[str, object], find: Find) -> dict[str, Any]:
    """Return the inputs of a run as the server wants them.

    Args:
        arguments: What was given, by the inputs' keys.
        find: Returns the object that a text means.

    Raises:
        BadCommand: Something is missing, unknown, or not of the kind or in the range that the task wants.
        NotFound: An object that was named is not there.
    """
    known = {one.key: one for one in task.inputs}
    for key in arguments:
        if key not in known:
            hint = did_you_mean(key, known) or (
                f"; its inputs are: {', '.join(known)}" if known else "; it has none"
            )
            raise BadCommand(f"{task.name} has no input {key!r}{hint}")
    missing = [one for one in task.inputs if one.key not in arguments and is_needed(one)]
    if missing:
        raise BadCommand(f"{task.name} needs {', '.join(f'{one.key} ({one.type})' for one in missing)}")
    inputs = {}
    for one in task.inputs:
        if one.key in arguments:
            if one.type == "static":
                raise BadCommand(f"{one.key} is set by the task; it can not be given")
            inputs[one.key] = check_input(one, arguments[one.key], find)
        elif has_default(one):
            inputs[one.key] = one.default if one.type == "static" else check_input(one, one.default, find)
    return inputs


def has_default(one: TaskInput) -> bool:
    """Tell whether the input has a value when none is given."""
    return one.default is not None and one.default != ""


def is_needed(one: TaskInput) -> bool:
    """Tell whether a run is refused when nothing is given for the input."""
    return one.required and not has_default(one) and one.type != "static"


def check_input(one: TaskInput, value: object, find: Find) -> Any:
    """Return *value* for the input as the server wants it; raises as ``check_inputs`` does."""
    try:
        check = _CHECKS.get(one.type)
        if check is None:
            return value  # a kind that is newer than agorafs: the server decides
        return check(one, value, find)
    except (BadCommand, NotFound) as error:
        raise type(error)(f"{one.key}: {error}") from None


def check_target(text: str, find: Find) -> Node:
    """Return the object that results are to go to.

    Raises:
        BadCommand: It can not take any.
        NotFound: It is not there.
    """
    try:
        node = find(text)
        ref = ref_of(node)
        if ref is None or ref.kind not in TARGET_KINDS:
            raise BadCommand(f"{text} is {_called(node)}, but results go to a folder, an exam or a series")
    except (BadCommand, NotFound) as error:
        raise type(error)(f"target: {error}") from None
    return node


# -- objects -----------------------------------------------------------------------------------------


def _object(one: TaskInput, value: object, find: Find) -> dict[str, Any]:
    kind = OBJECT_KINDS[one.type]
    text = _object_text(value, one.type)
    node = find(text)
    ref = ref_of(node)
    if ref is None or ref.kind is not kind:
        is_inside = ref is not None and ref.kind is Kind.DATAFILE and kind is Kind.DATASET
        way_out = ": give the directory that it is in" if is_inside else ""
        raise BadCommand(f"{text} is {_called(node)}, not {_article(one.type)}{way_out}")
    if kind is Kind.DATASET:
        dataset = _dataset_of(node)
        if dataset is not None:
            _check_type(one, dataset, text)
            if not _fitting(one, dataset.datafiles or ()):
                raise BadCommand(f"no file of {text} has a name that fits {one.filename_regex}")
    return object_input(ref)


def _file(one: TaskInput, value: object, find: Find) -> dict[str, Any]:
    text = _object_text(value, "datafile")
    node = find(text)
    dataset = _dataset_of(node)
    given = _DATAFILE.fullmatch(text)
    files: Sequence[Datafile]
    if given is None and isinstance(node.entry.target, Datafile):
        files = [node.entry.target]
    else:
        files = (None if dataset is None else dataset.datafiles) or ()
        if given is not None:
            files = [file for file in files if file.id == int(given[1])]
        if not files:
            raise BadCommand(f"{text} is {_called(node)}, not a file")
    if dataset is not None:
        _check_type(one, dataset, text)
    fitting = _fitting(one, files)
    if len(fitting) != 1:
        fits = "no file" if not fitting else f"{len(fitting)} files"
        of_those = f" that fit {one.filename_regex}" if one.filename_regex else ""
        raise BadCommand(f"{text} has {fits}{of_those}: give one of its files")
    return object_input(RemoteRef(Kind.DATAFILE, fitting[0].id))


def _object_text(value: object, word: str) -> str:
    """Return how *value* is said in text; *word* is the kind that a bare number is of."""
    if isinstance(value, Mapping):
        word, value = str(value.get("object_type", word)).lower(), value.get("object_id")
        if word not in WORDS:
            raise BadCommand(f"{word!r} is no kind of object; known are: {', '.join(WORDS)}")
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return f"{word}:{value}"
    if isinstance(value, str) and value:
        return value
    raise BadCommand(f"must be a path, or such as {word}:57")


def _dataset_of(node: Node) -> Dataset | None:
    """Return the dataset that *node* is or lies in."""
    for one in node.ancestors():
        if isinstance(one.entry.record, Dataset):
            return one.entry.record
    return None


def _check_type(one: TaskInput, dataset: Dataset, text: str) -> None:
    if one.dataset_type and dataset.type != one.dataset_type:
        raise BadCommand(
            f"{text} is a dataset of type {type_words(dataset.type)}, not of type {type_words(one.dataset_type)}"
        )


def type_words(number: int) -> str:
    """Return a type of datasets with its name."""
    return f"{number} ({DATASET_TYPES[number]})" if number in DATASET_TYPES else str(number)


def _fitting(one: TaskInput, files: Sequence[Datafile]) -> list[Datafile]:
    """Return the *files* with names that the input takes; all when what it takes can not be understood here."""
    if not one.filename_regex:
        return list(files)
    try:
        fits = re.compile(one.filename_regex).match
    except re.error:
        return list(files)  # of another dialect: the server decides
    return [file for file in files if any(fits(name) for name in _names(file))]


def _names(file: Datafile) -> list[str]:
    return [file.original_filename, *path_parts(file.original_filename)[-1:]]


def _called(node: Node) -> str:
    ref = ref_of(node)
    return (
        "no object of the archive"
        if ref is None
        else _article("file" if ref.kind is Kind.DATAFILE else ref.kind.value)
    )


def _article(word: str) -> str:
    return f"{'an' if word[0] in 'aei' else 'a'} {word}"


# -- plain values ------------------------------------------------------------------------------------


def _string(one: TaskInput, value: object, find: Find) -> str:
    if not isinstance(value, str):
        raise BadCommand(f"must be a text, not {value!r}")
    return value


def _integer(one: TaskInput, value: object, find: Find) -> int:
    if isinstance(value, str) and _INTEGER.fullmatch(value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise BadCommand(f"must be a whole number, not {value!r}")
    _check_range(one, value)
    return value


def _float(one: TaskInput, value: object, find: Find) -> float:
    if isinstance(value, str):
        try:
            value = int(value) if _INTEGER.fullmatch(value) else float(value)
        except ValueError:
            raise BadCommand(f"must be a number, not {value!r}") from None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise BadCommand(f"must be a number, not {value!r}")
    _check_range(one, value)
    return value


def _check_range(one: TaskInput, value: float) -> None:
    if one.minimum is not None and value < one.minimum:
        raise BadCommand(f"{value} is less than {number_text(one.minimum)}, the least that the task takes")
    if one.maximum is not None and value > one.maximum:
        raise BadCommand(f"{value} is more than {number_text(one.maximum)}, the most that the task takes")


def number_text(value: float) -> str:
    """Return a limit as people write it: 1024 and not 1024.0."""
    return str(int(value)) if math.isfinite(value) and value == int(value) else str(value)


def _select(one: TaskInput, value: object, find: Find) -> object:
    for option in one.options:
        if value == option or (isinstance(value, str) and value == str(option)):
            return option
    if not one.options:
        return value  # the definition does not say which there are: the server decides
    shown = [str(option) for option in one.options]
    raise BadCommand(f"{value!r} is none of {', '.join(shown)}{did_you_mean(str(value), shown)}")


def _bool(one: TaskInput, value: object, find: Find) -> bool:
    word = str(value).lower()
    if isinstance(value, (bool, int, str)) and word in _TRUE | _FALSE:
        return word in _TRUE
    raise BadCommand(f"must be true or false, not {value!r}")


_CHECKS: dict[str, Callable[[TaskInput, object, Find], Any]] = {
    **dict.fromkeys(OBJECT_KINDS, _object),
    "file": _file,
    "string": _string,
    "integer": _integer,
    "float": _float,
    "select": _select,
    "bool": _bool,
}
