"""Lists: filtering by query parameters and cutting into pages.

Both paging styles of the API work: ``limit`` and ``offset`` as all clients use them, ``page`` and ``no_page=1`` as
in the vendor's manual. A page object is ``{"count", "next", "previous", "results"}``.

Filters are ``field=value`` (equality) and ``field__operator=value``. A field that the object does not have, or an
operator that does not exist for it, is ignored, as Django servers usually do; a value that cannot be
understood is answered with 400.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, TypeVar
from urllib.parse import urlencode

from agorafs.sandbox.calls import Answer, ApiError, Call, Json, Row

_Entry = TypeVar("_Entry", Row, Mapping[str, Any])
Serialise = Callable[[Sequence[_Entry]], list[Json]]
Test = Callable[[Any], bool]

_PAGING = ("limit", "offset", "page", "no_page")


def answer_list(
    call: Call,
    rows: Iterable[_Entry],
    serialise: Serialise[_Entry],
    *,
    fields: Mapping[str, str] | None = None,
) -> Answer:
    """Answer *rows* (in their order) as a page; only the rows of the page are serialised.

    *fields* maps filterable names to their kind: ``text``, ``number`` or ``time``.
    """
    tests = _tests(call, fields or {})
    selected = [row for row in rows if all(test(row[name]) for name, test in tests)]
    if (call.argument("no_page") or "").lower() in ("1", "true"):
        return Answer(200, serialise(selected))
    limit, offset = _window(call)
    results = serialise(selected[offset : offset + limit])
    body = {
        "count": len(selected),
        "next": _link(call, limit, offset + limit) if offset + limit < len(selected) else None,
        "previous": _link(call, limit, max(offset - limit, 0)) if offset > 0 else None,
        "results": results,
    }
    return Answer(200, body)


def answer_bare(rows: Iterable[_Entry], serialise: Serialise[_Entry]) -> Answer:
    """Answer all *rows* as a bare list."""
    return Answer(200, serialise(list(rows)))


def _positive(call: Call, name: str) -> int | None:
    """Return a paging parameter; what is no positive number counts as absent."""
    text = call.argument(name) or ""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 and int(text) > 0 else None


def _window(call: Call) -> tuple[int, int]:
    limit = _positive(call, "limit") or max(call.switches.number("page-default"), 1)
    most = call.switches.number("page-max")
    if most:
        limit = min(limit, most)
    offset = _positive(call, "offset") or 0
    page = _positive(call, "page")
    if page is not None:
        offset = (page - 1) * limit
    return limit, offset


def _link(call: Call, limit: int, offset: int) -> str:
    """Return the absolute address of another page of the same list."""
    query = [(name, value) for name, values in call.query.items() if name not in _PAGING for value in values]
    if "page" in call.query:
        query += [("limit", str(limit)), ("page", str(offset // limit + 1))]
    else:
        query += [("limit", str(limit)), ("offset", str(offset))]
    return f"{call.base_url}{call.path}?{urlencode(query)}"


# -- filters -----------------------------------------------------------------------------------------


def _tests(call: Call, fields: Mapping[str, str]) -> list[tuple[str, Test]]:
    tests: list[tuple[str, Test]] = []
    for parameter, values in call.query.items():
        name, _, operator = parameter.partition("__")
        kind = fields.get(name)
        if parameter in _PAGING or kind is None:
            continue
        for value in values:
            try:
                test = _TESTS[kind](operator or "exact", value)
            except (ValueError, re.error):
                raise ApiError(400, {parameter: ["Enter a valid value."]}) from None
            if test is not None:
                tests.append((name, test))
    return tests


def _text_test(operator: str, wanted: str) -> Test | None:
    insensitive = operator.startswith("i")
    bare = operator[1:] if insensitive else operator
    if bare == "regex":
        pattern = re.compile(wanted, re.IGNORECASE if insensitive else 0)
        return lambda value: value is not None and pattern.search(value) is not None
    compare = _TEXT_COMPARISONS.get(bare)
    if compare is None:
        return None
    if insensitive:
        folded = wanted.casefold()
        return lambda value: value is not None and compare(value.casefold(), folded)
    return lambda value: value is not None and compare(value, wanted)


_TEXT_COMPARISONS: dict[str, Callable[[str, str], bool]] = {
    "exact": lambda value, wanted: value == wanted,
    "contains": lambda value, wanted: wanted in value,
    "startswith": lambda value, wanted: value.startswith(wanted),
    "endswith": lambda value, wanted: value.endswith(wanted),
}

_ORDER_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "exact": lambda value, wanted: bool(value == wanted),
    "gt": lambda value, wanted: bool(value > wanted),
    "gte": lambda value, wanted: bool(value >= wanted),
    "lt": lambda value, wanted: bool(value < wanted),
    "lte": lambda value, wanted: bool(value <= wanted),
}


def _ordered_test(
    operator: str, wanted: str, parse: Callable[[str], Any], read: Callable[[Any], Any]
) -> Test | None:
    """Compare ``read(stored value)`` with the parsed *wanted*; ``range`` is two values with a comma, inclusive."""
    if operator == "range":
        low, high = (parse(part) for part in wanted.split(","))
        return lambda value: value is not None and bool(low <= read(value) <= high)
    compare = _ORDER_COMPARISONS.get(operator)
    if compare is None:
        return None
    parsed = parse(wanted)
    return lambda value: value is not None and compare(read(value), parsed)


def _number_test(operator: str, wanted: str) -> Test | None:
    return _ordered_test(operator, wanted, float, lambda value: value)


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text[:-1] + "+00:00" if text[-1:] in ("Z", "z") else text)
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)


# A part of a moment, by its filter word. Django counts week days from Sunday = 1.
_PARTS: dict[str, Callable[[datetime], int]] = {
    "year": lambda moment: moment.year,
    "month": lambda moment: moment.month,
    "week": lambda moment: moment.isocalendar()[1],
    "day": lambda moment: moment.day,
    "week_day": lambda moment: moment.isoweekday() % 7 + 1,
    "hour": lambda moment: moment.hour,
    "minute": lambda moment: moment.minute,
    "second": lambda moment: moment.second,
}


def _time_test(operator: str, wanted: str) -> Test | None:
    part, _, comparison = operator.partition("__")
    if part == "date":
        return _ordered_test(
            comparison or "exact",
            wanted,
            lambda text: _moment(text).date(),
            lambda value: _moment(value).date(),
        )
    if part == "time":
        return _ordered_test(
            comparison or "exact",
            wanted,
            lambda text: _moment(f"2000-01-01T{text}").time(),
            lambda value: _moment(value).time(),
        )
    take = _PARTS.get(part)
    if take is not None:
        return _ordered_test(comparison or "exact", wanted, int, lambda value: take(_moment(value)))
    return _ordered_test(operator, wanted, _moment, _moment)


_TESTS: dict[str, Callable[[str, str], Test | None]] = {
    "text": _text_test,
    "number": _number_test,
    "time": _time_test,
}
