"""Searching: words anywhere, and expressions for series.

Decisions, where the real server's behaviour is unknown:

* A search by words finds the objects in whose text each of the words occurs, in upper or lower case, as a part of
  a longer word too. The text of an object is its name, description and number at the scanner, the labels of its
  tags, its parameters, the names of its files, and the patient of an exam.
* Hits come kind by kind in the order of the type codes, then by id. A hit is ``{id, object_id, content_type, name,
  project}``; ``id`` equals ``object_id``, and ``project`` is null for what belongs to several or none.
* The switch ``fulltext`` turns searching by words off (404); expressions are told in ``expressions``.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from agorafs.sandbox import expressions, serialise
from agorafs.sandbox.calls import Answer, ApiError, Call, Json, NotFoundError, Route, Row
from agorafs.sandbox.lists import answer_list

ALL = 0
_Texts = Mapping[tuple[str, int], Sequence[str]]

# Type code -> (content type, query for id, project, name and two more texts). ``{seen}`` are the projects to search,
# ``{me}`` is the user.
_QUERIES: dict[int, tuple[str, str]] = {
    1: (
        "folder",
        "SELECT id, project, name, '' AS more, '' AS other FROM folder WHERE trash IS NULL AND project IN {seen}",
    ),
    2: (
        "exam",
        "SELECT e.id, e.project, e.name, e.description || ' ' || e.scanner_name AS more, "
        "p.name || ' ' || COALESCE(p.patient_id, '') AS other "
        "FROM live_exam e LEFT JOIN patient p ON p.id = e.patient WHERE e.project IN {seen}",
    ),
    3: (
        "serie",
        "SELECT id, project, name, COALESCE(acquisition_number, '') AS more, '' AS other "
        "FROM live_series WHERE project IN {seen}",
    ),
    4: (
        "dataset",
        "SELECT d.id, d.project, d.name, '' AS more, (SELECT group_concat(f.original_filename, ' ') "
        "FROM datafile f WHERE f.dataset = d.id) AS other FROM live_dataset d WHERE d.project IN {seen}",
    ),
    5: (
        "patient",
        "SELECT id, NULL AS project, name, COALESCE(patient_id, '') AS more, '' AS other FROM patient "
        "WHERE trash IS NULL AND id IN (SELECT patient FROM live_exam WHERE project IN {seen})",
    ),
    6: (
        "project",
        "SELECT id, id AS project, name, description AS more, '' AS other FROM project WHERE id IN {seen}",
    ),
    9: (
        "taskdefinition",
        "SELECT id, project, name, '' AS more, '' AS other FROM task WHERE project IN {seen}",
    ),
    10: (
        "taskdefinition_yaml",
        "SELECT id, project, name, '' AS more, '' AS other FROM script_task WHERE project IN {seen}",
    ),
    11: (
        "tag",
        "SELECT id, project, label AS name, '' AS more, '' AS other FROM tag_definition "
        "WHERE project IN {seen} OR (project IS NULL AND user = {me})",
    ),
}


def search_everywhere(call: Call) -> Answer:
    return _search(call, call.visible)


def search_project(call: Call) -> Answer:
    return _search(call, f"({call.project(call.id)['id']})")


def _search(call: Call, seen: str) -> Answer:
    if not call.switches.is_on("fulltext"):
        raise NotFoundError
    words = (call.argument("q") or "").casefold().split()
    if not words:
        raise ApiError(400, {"q": ["This field may not be blank."]})
    code = call.argument("t") or str(ALL)
    if not (code.isascii() and code.isdigit()) or int(code) not in (ALL, *_QUERIES):
        raise ApiError(400, {"t": [f"There is no such type; there are 0, {', '.join(map(str, _QUERIES))}."]})
    wanted = [int(code)] if int(code) != ALL else list(_QUERIES)
    annotations = _annotations(call)
    hits = [hit for number in wanted for hit in _hits(call, number, seen, words, annotations)]
    return answer_list(call, hits, list, fields={"name": "text", "content_type": "text", "project": "number"})


def _hits(
    call: Call, code: int, seen: str, words: Sequence[str], annotations: _Texts
) -> Iterator[Mapping[str, Any]]:
    content_type, query = _QUERIES[code]
    for row in call.db.execute(f"{query.format(seen=seen, me=call.me.id)} ORDER BY 1"):
        own = (row["name"], str(row["more"]), row["other"] or "")
        text = "\n".join((*own, *annotations.get((content_type, row["id"]), ()))).casefold()
        if all(word in text for word in words):
            yield {
                "id": row["id"],
                "object_id": row["id"],
                "content_type": content_type,
                "name": row["name"],
                "project": row["project"],
            }


def _annotations(call: Call) -> _Texts:
    """Return the tags' labels and the parameters of all objects, as text."""
    texts: dict[tuple[str, int], list[str]] = defaultdict(list)
    for row in call.db.execute(
        "SELECT i.tagged_object_content_type AS kind, i.tagged_object_id AS id, d.label FROM tag_instance i "
        f"JOIN tag_definition d ON d.id = i.tag_definition WHERE d.project IN {call.visible} "
        "OR (d.project IS NULL AND d.user = ?)",
        (call.me.id,),
    ):
        texts[row["kind"], row["id"]].append(row["label"])
    for row in call.db.execute("SELECT content_type AS kind, object_id AS id, parameters FROM parameter_set"):
        for parameter in json.loads(row["parameters"]):
            texts[row["kind"], row["id"]].append(f"{parameter.get('Name')} {parameter.get('Value')}")
    return texts


# -- expressions -------------------------------------------------------------------------------------


def search_series(call: Call) -> Answer:
    try:
        matches = expressions.parse(call.argument("q") or "")
    except expressions.ExpressionError as error:
        raise ApiError(400, str(error)) from None
    rows = call.db.execute(
        "SELECT s.*, e.name AS exam_name, e.uid AS exam_uid, p.name AS patient_name, p.patient_id AS patient_id "
        "FROM live_series s JOIN exam e ON e.id = s.exam LEFT JOIN patient p ON p.id = e.patient "
        f"WHERE s.project IN {call.visible} ORDER BY s.id"
    ).fetchall()
    hits: list[Row] = [row for row in rows if matches(_Operands(call, row))]
    return answer_list(call, hits, lambda page: serialise.series(call, page))


class _Operands:
    """The values that an expression can ask of one series; what costs a query is read when it is asked for."""

    def __init__(self, call: Call, series: Row) -> None:
        self._call = call
        self._series = series
        self._parameters: dict[str, list[Json]] | None = None

    def __call__(self, operand: str) -> Sequence[Json]:
        if operand.startswith(expressions.PARAMETER):
            if self._parameters is None:
                self._parameters = self._read_parameters()
            return self._parameters.get(operand.removeprefix(expressions.PARAMETER), ())
        id_, db = self._series["id"], self._call.db
        if operand == "rating":
            rows = db.execute(
                "SELECT value FROM rating WHERE content_type = 'serie' AND object_id = ?", (id_,)
            )
            return [row["value"] for row in rows]
        if operand == "tag":
            rows = db.execute(
                "SELECT d.label FROM tag_instance i JOIN tag_definition d ON d.id = i.tag_definition "
                "WHERE i.tagged_object_content_type = 'serie' AND i.tagged_object_id = ? "
                f"AND (d.project IN {self._call.visible} OR (d.project IS NULL AND d.user = ?))",
                (id_, self._call.me.id),
            )
            return [row["label"] for row in rows]
        column = {"patient.id": "patient_id"}.get(operand, operand.replace(".", "_"))
        return (self._series[column],)

    def _read_parameters(self) -> dict[str, list[Json]]:
        """Return the parameters of the series and of its datasets: name to values."""
        values: dict[str, list[Json]] = {}
        for row in self._call.db.execute(
            "SELECT parameters FROM parameter_set WHERE content_type = 'serie' AND object_id = ?1 UNION ALL "
            "SELECT parameters FROM parameter_set WHERE content_type = 'dataset' AND object_id IN "
            "(SELECT id FROM live_dataset WHERE series = ?1)",
            (self._series["id"],),
        ):
            for parameter in json.loads(row["parameters"]):
                value = parameter.get("Value")
                values.setdefault(str(parameter.get("Name")), []).extend(
                    value if isinstance(value, list) else [value]
                )
        return values


ROUTES = (
    Route("GET", "search/fulltext", search_everywhere),
    Route("GET", "project/{id}/fulltext", search_project),
    Route("GET", "series/search", search_series),
)
