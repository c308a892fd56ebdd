"""What a task wants to be given, in words: ``tasks/<task>/syntax``."""

from __future__ import annotations

import shlex

from agorafs.client.task_records import Task, TaskInput
from agorafs.vfs.tasks.inputs import has_default, is_needed, number_text, type_words

_EXAMPLES = {
    "exam": "exams/EXAM", "series": "exams/EXAM/SERIES", "dataset": "exams/EXAM/SERIES/DATASET",
    "file": "exams/EXAM/SERIES/FILE", "folder": "folders/FOLDER", "string": "TEXT", "bool": "true",
}  # fmt: skip
_TARGET = "folders/RESULTS"


def syntax_text(task: Task) -> str:
    """Return how the task is run: each input, and an example line."""
    words = [f"{_key(one)}={shlex.quote(_example(one))}" for one in task.inputs if is_needed(one)]
    example = " ".join([*words, f"target={_TARGET}"])
    lines = [f"{task.name} ({'script task' if task.is_script else 'task'} {task.id})", ""]
    lines += ["inputs:"] if task.inputs else ["It has no inputs."]
    width = max((len(_key(one)) for one in task.inputs), default=0)
    for one in task.inputs:
        lines.append(f"  {_key(one):<{width}}  {'; '.join(_about(one))}")
    lines += [
        "",
        "target: where the results go, a folder, an exam or a series; optional",
        "",
        "Objects are given by a path (relative to the directory of this file, or to the project's), by an absolute",
        "path on this mount, or as dataset:57. Write a line to the file run beside this one:",
        "",
        f"  echo {shlex.quote(example)} > run",
        "",
        "It is refused at once if something is wrong with it. Reading run says why, or which job it has become.",
    ]
    return "\n".join(lines) + "\n"


def _about(one: TaskInput) -> list[str]:
    """Return what is to be known of an input."""
    if one.type == "static":
        return ["static, set by the task"]
    parts = [one.type, "required" if is_needed(one) else "optional"]
    if has_default(one):
        parts.append(f"default {one.default}")
    if one.dataset_type:
        parts.append(f"of type {type_words(one.dataset_type)}")
    if one.filename_regex:
        parts.append(f"file name like {one.filename_regex}")
    if one.minimum is not None:
        parts.append(f"at least {number_text(one.minimum)}")
    if one.maximum is not None:
        parts.append(f"at most {number_text(one.maximum)}")
    if one.options:
        parts.append("one of " + ", ".join(str(option) for option in one.options))
    if one.name and one.name != one.key:
        parts.append(f"“{one.name}”")
    return parts


def _example(one: TaskInput) -> str:
    if one.options:
        return str(one.options[0])
    if one.type in ("integer", "float"):
        least = one.minimum if one.minimum is not None else one.maximum
        return "1" if least is None else number_text(least)
    return _EXAMPLES.get(one.type, "VALUE")


def _key(one: TaskInput) -> str:
    """Return how the input is called on a line: ``target`` alone is where results go."""
    return "input.target" if one.key == "target" else one.key
