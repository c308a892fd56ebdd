"""Names for exams and series by the user's own template, for those who want dates in them.

A template is text with fields in braces, as in Python's ``str.format``: ``{start_time:%Y-%m-%d} {name}``. An exam
has the fields ``name``, ``id``, ``uid``, ``start_time``, ``created``; a series ``name``, ``id``, ``uid``, ``time``,
``created`` and ``number`` (the acquisition number). Times are UTC. A field that the archive leaves empty gives
nothing, whatever its format; a name that comes out blank is replaced by the archive's own.
"""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from agorafs.client.records import Exam, Series

PLAIN = "{name}"

_SAMPLE_TIME_NS = 1_700_000_000_000_000_000
_SAMPLE_EXAM = Exam(1, "name", "1.2", 1, 1, 1, _SAMPLE_TIME_NS, _SAMPLE_TIME_NS, False)
_SAMPLE_SERIES = Series(1, "name", "1.2", 1, 1, 1, _SAMPLE_TIME_NS, _SAMPLE_TIME_NS, _SAMPLE_TIME_NS, False)


class Naming:
    """The names that exams and series ask for; fixed once made."""

    def __init__(self, exam: str = PLAIN, series: str = PLAIN) -> None:
        """Take the templates.

        Raises:
            ValueError: A template can not be used; the text says which, and what fields there are.
        """
        self._exam = exam
        self._series = series
        _check("exam", exam, _exam_fields(_SAMPLE_EXAM))
        _check("series", series, _series_fields(_SAMPLE_SERIES))

    def of_exam(self, exam: Exam) -> str:
        """Return the name for *exam*, not yet made legal."""
        if self._exam == PLAIN:
            return exam.name
        return _fill(self._exam, _exam_fields(exam)).strip() or exam.name

    def of_series(self, series: Series) -> str:
        """Return the name for *series*, not yet made legal."""
        if self._series == PLAIN:
            return series.name
        return _fill(self._series, _series_fields(series)).strip() or series.name


class _Nothing:
    """Stands for a field that the archive leaves empty."""

    def __format__(self, specification: str) -> str:
        return ""

    def __str__(self) -> str:
        return ""


class _FieldsOnly(string.Formatter):
    """``{name}`` but neither ``{name.attribute}`` nor ``{name[0]}``: a template reaches the fields and no further."""

    def get_field(self, field_name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        return kwargs[field_name], field_name


def _fill(template: str, fields: Mapping[str, object]) -> str:
    return _FieldsOnly().vformat(template, (), fields)


def _check(kind: str, template: str, fields: Mapping[str, object]) -> None:
    try:
        _fill(template, fields)
    except (KeyError, ValueError, TypeError, IndexError):
        known = ", ".join(f"{{{name}}}" for name in fields)
        raise ValueError(
            f"the {kind} name {template!r} is not a template: its fields are {known}, "
            "and a time may carry a format, as in {created:%Y-%m-%d}"
        ) from None


def _exam_fields(exam: Exam) -> dict[str, object]:
    return {
        "name": exam.name,
        "id": exam.id,
        "uid": exam.uid,
        "start_time": _time(exam.start_ns),
        "created": _time(exam.created_ns),
    }


def _series_fields(series: Series) -> dict[str, object]:
    number = series.acquisition_number
    return {
        "name": series.name,
        "id": series.id,
        "uid": series.uid,
        "time": _time(series.time_ns),
        "created": _time(series.created_ns),
        "number": _Nothing() if number is None else number,
    }


def _time(time_ns: int | None) -> object:
    if time_ns is None:
        return _Nothing()
    return datetime.fromtimestamp(time_ns // 1_000_000_000, timezone.utc)
