"""What a client wants to run, checked: the inputs become files and values, the target a place for the results.

``{"target": {"object_id", "object_type"} | null, "inputs": {key: {"object_id", "object_type"} | value}}``

Refused before anything is queued: a missing required input, an unknown key, an object or value of another type, a
dataset of another type or without a file that fits ``filename_regex``, a number out of range, a value that a select
does not have (400, by key); an object that the user does not see (404); a target that may not be written (403).

Decisions, where the real server's behaviour is unknown:

* Optional inputs may be left out or null; then their ``default`` counts. What is given for a static input is its
  value. A ``file`` input is a datafile, or a dataset for all its files; without ``object_type`` it is a datafile.
* ``filename_regex`` is searched in base names. Only the files that fit are given to the program.
* Links inside a folder are not followed.
* A target is a folder, an exam or a series. Without one the results go into the folder ``<task> results`` of the
  root folder of the task's project, made when missing; ``<task>`` is the task's name without its submenus.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agorafs.sandbox.calls import ApiError, Call, Row
from agorafs.sandbox.importing import Target
from agorafs.sandbox.tasks.definitions import (
    BOOL,
    DATASET,
    EXAM,
    FILE,
    FLOAT,
    FOLDER,
    INTEGER,
    OBJECTS,
    SELECT,
    SERIES,
    STRING,
    TaskInput,
)

Json = Any

_KINDS = {
    "exam": EXAM,
    "study": EXAM,
    "series": SERIES,
    "serie": SERIES,
    "dataset": DATASET,
    "folder": FOLDER,
}
_KINDS |= {"datafile": FILE, "file": FILE}
_WORDS = {"true": True, "false": False}


@dataclass(frozen=True, slots=True)
class InputFile:
    """A content to work on; ``name`` is what the archive calls the file."""

    sha1: str
    name: str


@dataclass(frozen=True, slots=True)
class RunRequest:
    """One checked run. ``subjects`` are the exams and series it is about; ``folder`` is made below the target's."""

    user: int
    task: str
    programs: tuple[str, ...]
    problem: str | None  # why it cannot run, whatever the inputs are
    files: tuple[InputFile, ...]
    parameters: Mapping[str, Json]
    title: str
    target: Target
    folder: str | None
    subjects: tuple[tuple[str, int], ...]


def check(
    call: Call,
    task: Row,
    inputs: Sequence[TaskInput],
    programs: tuple[str, ...],
    problem: str | None,
) -> RunRequest:
    """Return the run that the body of *call* asks for."""
    target, folder = _target(call, task)
    given = call.value("inputs", {})
    if given is None:
        given = {}
    if not isinstance(given, dict):
        raise ApiError(400, {"inputs": ["Expected an object."]})
    for key in given:
        if key not in {entry.key for entry in inputs}:
            raise _refusal(key, "The task has no such input.")
    collected = _Collected(call)
    parameters: dict[str, Json] = {}
    for entry in inputs:
        value = given.get(entry.key)
        if value is None:
            value = entry.default
        if value is None:
            if entry.required:
                raise _refusal(entry.key, "This input is required.")
        elif entry.type in OBJECTS:
            collected.add(entry, value)
        else:
            parameters[entry.key] = _value(entry, value)
    return RunRequest(
        call.me.id,
        task["name"],
        programs,
        problem,
        tuple(collected.files),
        parameters,
        collected.title or _last_part(task["name"]),
        target,
        folder,
        tuple(dict.fromkeys(collected.subjects)),
    )


def _refusal(key: str, text: str) -> ApiError:
    return ApiError(400, {"inputs": {key: [text]}})


def _last_part(name: str) -> str:
    return name.rpartition("/")[2].strip() or name


def _target(call: Call, task: Row) -> tuple[Target, str | None]:
    value = call.value("target")
    if value is None:
        call.require_write(task["project"])
        root = call.project(task["project"])["root_folder"]
        return Target(task["project"], folder=root), f"{_last_part(task['name'])} results"
    kind, id_ = _reference("target", value, None)
    if kind == FOLDER:
        row = call.folder(id_)
        target = Target(row["project"], folder=id_)
    elif kind == EXAM:
        row = call.exam(id_)
        target = Target(row["project"], exam=id_)
    elif kind == SERIES:
        row = call.series(id_)
        target = Target(row["project"], series=id_)
    else:
        raise ApiError(400, {"target": ["A target is a folder, an exam or a series."]})
    call.require_write(row["project"])
    call.require_unlocked(row)
    return target, None


def _reference(key: str, value: Json, default: str | None) -> tuple[str, int]:
    """Return kind and number of ``{"object_id", "object_type"}``."""
    if not isinstance(value, dict):
        raise _refusal(key, "Expected an object: object_id and object_type.")
    id_, word = value.get("object_id"), value.get("object_type")
    if isinstance(id_, bool) or not isinstance(id_, int) or not 0 <= id_ < 1 << 63:
        raise _refusal(key, "object_id is a whole number.")
    kind = default if word is None else _KINDS.get(word) if isinstance(word, str) else None
    if kind is None:
        raise _refusal(key, f"There are no objects of type {word!r} here.")
    return kind, id_


def _value(entry: TaskInput, value: Json) -> Json:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if entry.type == STRING and not isinstance(value, str):
        raise _refusal(entry.key, "Expected text.")
    if entry.type == INTEGER and not (is_number and float(value).is_integer()):
        raise _refusal(entry.key, "Expected a whole number.")
    if entry.type == FLOAT and not is_number:
        raise _refusal(entry.key, "Expected a number.")
    if entry.type in (INTEGER, FLOAT):
        if entry.minimum is not None and not value >= entry.minimum:
            raise _refusal(entry.key, f"At least {entry.minimum:g}.")
        if entry.maximum is not None and not value <= entry.maximum:
            raise _refusal(entry.key, f"At most {entry.maximum:g}.")
    if entry.type == SELECT and entry.values and str(value) not in entry.values:
        raise _refusal(entry.key, f"One of {', '.join(entry.values)}.")
    if entry.type == BOOL and not isinstance(value, bool):
        if str(value).lower() not in _WORDS:
            raise _refusal(entry.key, "Expected true or false.")
        return _WORDS[str(value).lower()]
    return value


class _Collected:
    """The files of the objects among the inputs, as they become more."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self.files: list[InputFile] = []
        self.subjects: list[tuple[str, int]] = []
        self.title = ""  # the name of the first object

    def add(self, entry: TaskInput, value: Json) -> None:
        """Take the files of the object that *value* names."""
        kind, id_ = _reference(entry.key, value, entry.type)
        if kind != entry.type and not (entry.type == FILE and kind == DATASET):
            raise _refusal(entry.key, f"Expected {entry.type}, not {kind}.")
        takers: Mapping[str, Callable[[TaskInput, int], str]] = {
            EXAM: self._exam,
            SERIES: self._series,
            DATASET: self._dataset,
            FILE: self._file,
            FOLDER: self._folder,
        }
        name = takers[kind](entry, id_)
        self.title = self.title or name

    def _exam(self, entry: TaskInput, id_: int) -> str:
        exam = self._call.exam(id_)
        self.subjects.append(("exam", id_))
        self._take(entry, self._rows("SELECT * FROM live_dataset WHERE owner_exam = ? ORDER BY id", id_))
        return str(exam["name"])

    def _series(self, entry: TaskInput, id_: int) -> str:
        series = self._call.series(id_)
        self.subjects += [("serie", id_), ("exam", series["exam"])]
        self._take(entry, self._rows("SELECT * FROM live_dataset WHERE series = ? ORDER BY id", id_))
        return str(series["name"])

    def _dataset(self, entry: TaskInput, id_: int) -> str:
        dataset = self._call.dataset(id_)
        if entry.dataset_type is not None and dataset["type"] != entry.dataset_type:
            raise _refusal(
                entry.key, f"Expected a dataset of type {entry.dataset_type}, not {dataset['type']}."
            )
        self._belongs_to(dataset)
        if not self._take(entry, [dataset]) and entry.filename_regex is not None:
            raise _refusal(entry.key, f"No file of the dataset fits {entry.filename_regex!r}.")
        if dataset["series"] is None:
            return str(dataset["name"])
        # Datasets of studies are called alike.
        return f"{self._call.series(dataset['series'])['name']} {dataset['name']}"

    def _file(self, entry: TaskInput, id_: int) -> str:
        file = self._call.datafile(id_)
        dataset = self._call.dataset(file["dataset"])
        name = str(file["original_filename"])
        if not _fits(entry, name):
            raise _refusal(entry.key, f"The name of the file does not fit {entry.filename_regex!r}.")
        self._belongs_to(dataset)
        self.files.append(InputFile(file["sha1"], name))
        return name.rpartition("/")[2]

    def _folder(self, entry: TaskInput, id_: int) -> str:
        folder = self._call.folder(id_)
        pending = [id_]
        while pending:
            parent = pending.pop()
            rows = self._rows(
                "SELECT * FROM live_item WHERE folder = ? AND is_link = 0 "
                "AND content_type IN ('folder', 'dataset') ORDER BY id",
                parent,
            )
            pending += [row["object_id"] for row in rows if row["content_type"] == "folder"]
            ids = [row["object_id"] for row in rows if row["content_type"] == "dataset"]
            self._take(entry, [self._call.dataset(dataset) for dataset in ids])
        return str(folder["name"])

    def _rows(self, query: str, id_: int) -> list[Row]:
        return self._call.db.execute(query, (id_,)).fetchall()

    def _belongs_to(self, dataset: Row) -> None:
        if dataset["series"] is not None:
            self.subjects.append(("serie", dataset["series"]))
        if dataset["owner_exam"] is not None:
            self.subjects.append(("exam", dataset["owner_exam"]))

    def _take(self, entry: TaskInput, datasets: Iterable[Row]) -> bool:
        before = len(self.files)
        for dataset in datasets:
            rows = self._rows("SELECT * FROM datafile WHERE dataset = ? ORDER BY id", dataset["id"])
            self.files += [
                InputFile(row["sha1"], row["original_filename"])
                for row in rows
                if _fits(entry, row["original_filename"])
            ]
        return len(self.files) > before


def _fits(entry: TaskInput, name: str) -> bool:
    return (
        entry.filename_regex is None or re.search(entry.filename_regex, name.rpartition("/")[2]) is not None
    )
