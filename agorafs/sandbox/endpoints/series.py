"""Series: reading, renaming, deleting, and the search expression."""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from agorafs.sandbox import deletion, serialise
from agorafs.sandbox.calls import NO_CONTENT, Answer, ApiError, Call, NotFoundError, Route, Row
from agorafs.sandbox.endpoints.exams import DATASET_FIELDS, SERIES_FIELDS
from agorafs.sandbox.lists import answer_list


def list_series(call: Call) -> Answer:
    rows = call.db.execute(f"SELECT * FROM live_series WHERE project IN {call.visible} ORDER BY id")
    return answer_list(call, rows, lambda page: serialise.series(call, page), fields=SERIES_FIELDS)


def get_series(call: Call) -> Answer:
    return Answer(200, serialise.series(call, [call.series(call.id)])[0])


def rename_series(call: Call) -> Answer:
    row = call.series(call.id)
    call.require_write(row["project"])
    call.require_unlocked(row)
    name = call.text("name", row["name"])
    if not name.strip():
        raise ApiError(400, {"name": ["This field may not be blank."]})
    call.db.execute(
        "UPDATE series SET name = ?, modified_date = ? WHERE id = ?", (name, call.store.now(), call.id)
    )
    return get_series(call)


def delete_series(call: Call) -> Answer:
    call.series(call.id)
    deletion.delete_object(call, "serie", call.id)
    return NO_CONTENT


def list_datasets(call: Call) -> Answer:
    call.series(call.id)
    rows = call.db.execute("SELECT * FROM live_dataset WHERE series = ? ORDER BY id", (call.id,))
    return answer_list(
        call, rows, lambda page: serialise.datasets_of_version(call, page), fields=DATASET_FIELDS
    )


def get_tree(call: Call) -> Answer:
    row = call.series(call.id)
    if not call.switches.is_on("tree"):
        raise NotFoundError
    return Answer(200, serialise.series_trees(call, [row])[0])


def get_exam(call: Call) -> Answer:
    return Answer(200, serialise.exam(call, call.exam(call.series(call.id)["exam"])))


def get_patient(call: Call) -> Answer:
    patient = call.exam(call.series(call.id)["exam"])["patient"]
    if patient is None:
        raise NotFoundError
    return Answer(200, serialise.patients(call, [call.patient(patient)])[0])


# -- search ------------------------------------------------------------------------------------------
#
# Of the search language only this is known from examples: "parameter.NAME OP VALUE" joined by AND. That much is
# understood; anything else is refused with a reason, because a wrong hit list is worse than none.

_TERM = re.compile(r"^parameter\.(\w+)\s*(<=|>=|!=|==|=|<|>)\s*(?:'([^']*)'|\"([^\"]*)\"|([-+.\w]+))$")
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class _Condition(NamedTuple):
    name: str
    compare: Callable[[Any, Any], bool]
    wanted: float | str

    def holds(self, values: list[Any]) -> bool:
        """Say whether any of a parameter's values fulfils the condition; values of another type do not."""
        kinds = str if isinstance(self.wanted, str) else (int, float)
        return any(isinstance(value, kinds) and self.compare(value, self.wanted) for value in values)


def _condition(term: str) -> _Condition:
    match = _TERM.match(term.strip())
    if match is None:
        raise ApiError(400, f"Cannot understand {term.strip()!r}: expected parameter.NAME OPERATOR VALUE.")
    name, sign, single, double, bare = match.groups()
    wanted: float | str
    quoted = single if single is not None else double
    if quoted is not None:
        wanted = quoted
    else:
        try:
            wanted = float(bare)
        except ValueError:
            wanted = bare
    return _Condition(name, _COMPARE[sign], wanted)


def search_series(call: Call) -> Answer:
    conditions = [_condition(term) for term in re.split(r"\s+AND\s+", call.argument("q") or "")]
    rows = call.db.execute(
        f"SELECT * FROM live_series WHERE project IN {call.visible} ORDER BY id"
    ).fetchall()
    hits = [row for row in rows if _matches(call, row, conditions)]
    return answer_list(call, hits, lambda page: serialise.series(call, page))


def _matches(call: Call, series: Row, conditions: list[_Condition]) -> bool:
    """Compare with the parameters of a series and of its datasets."""
    values: dict[str, list[Any]] = {}
    for row in call.db.execute(
        "SELECT parameters FROM parameter_set WHERE content_type = 'serie' AND object_id = ?1 UNION ALL "
        "SELECT parameters FROM parameter_set WHERE content_type = 'dataset' AND object_id IN "
        "(SELECT id FROM live_dataset WHERE series = ?1)",
        (series["id"],),
    ):
        for parameter in json.loads(row["parameters"]):
            value = parameter.get("Value")
            values.setdefault(str(parameter.get("Name")), []).extend(
                value if isinstance(value, list) else [value]
            )
    return all(condition.holds(values.get(condition.name, [])) for condition in conditions)


ROUTES = (
    Route("GET", "series", list_series),
    Route("GET", "series/search", search_series),
    Route("GET", "series/{id}", get_series),
    Route("PUT", "series/{id}", rename_series),
    Route("PATCH", "series/{id}", rename_series),
    Route("DELETE", "series/{id}", delete_series),
    Route("GET", "series/{id}/datasets", list_datasets),
    Route("GET", "series/{id}/tree", get_tree),
    Route("GET", "series/{id}/exam", get_exam),
    Route("GET", "series/{id}/patient", get_patient),
)
