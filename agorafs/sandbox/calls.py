"""One API request as the endpoints see it, and what they may answer.

Place.  ``server`` turns an HTTP request into a ``Call`` and an ``Answer`` into an HTTP response; ``endpoints``
are plain functions from one to the other, run in a thread inside a database snapshot (GET) or transaction
(everything else). An ``ApiError`` undoes the transaction.

Rules of access, in one place: what belongs to a project that the user is no member of does not exist (404);
observers may not write (403); below a locked exam nobody writes (403, switch ``locked-refuses``).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from agorafs.sandbox.auth import User
from agorafs.sandbox.objects import MANAGER, OBSERVER
from agorafs.sandbox.switches import Switches

if TYPE_CHECKING:
    from agorafs.sandbox.imports import Imports
    from agorafs.sandbox.store import Store
    from agorafs.sandbox.tasks.runs import TaskRuns

Json = Any
Row = sqlite3.Row


class ApiError(Exception):
    """An answer that is a refusal."""

    def __init__(self, status: int, body: Json) -> None:
        super().__init__(f"{status}: {body}")
        self.status = status
        self.body = body if isinstance(body, dict) else {"detail": body}


class NotFoundError(ApiError):
    def __init__(self) -> None:
        super().__init__(404, "Not found.")


class ForbiddenError(ApiError):
    def __init__(self, why: str = "You do not have permission to perform this action.") -> None:
        super().__init__(403, why)


class Answer(NamedTuple):
    """A status and a JSON body; no body at all when it is None."""

    status: int
    body: Json = None


NO_CONTENT = Answer(204)


class ContentAnswer(NamedTuple):
    """The bytes of a datafile, or those at *path*."""

    sha1: str
    size: int
    mime_type: str
    path: Path | None = None


Handler = Callable[["Call"], "Answer | ContentAnswer"]


class Route(NamedTuple):
    """``pattern`` is below ``/api/v1/`` or ``/api/v2/``: ``exam/{id}/series``; ``series`` stands for ``serie`` too.

    ``{name}`` is one path segment; names that end in ``id`` are whole numbers.
    """

    method: str
    pattern: str
    handler: Handler
    public: bool = False


@dataclass
class Call:
    """``version`` is 1 or 2, ``query`` and ``form`` keep repeated keys; ``json`` is None without a JSON body."""

    store: Store
    switches: Switches
    imports: Imports
    tasks: TaskRuns
    db: sqlite3.Connection
    user: User | None
    version: int
    path: str
    base_url: str
    arguments: Mapping[str, str]
    query: Mapping[str, list[str]]
    json: Json
    form: Mapping[str, list[str]]

    # -- input ---------------------------------------------------------------------------------------

    @property
    def id(self) -> int:
        return self.number("id")

    def number(self, name: str) -> int:
        """Return a whole number out of the path."""
        text = self.arguments[name]
        if not (text.isascii() and text.isdigit()) or len(text) > 18:
            raise NotFoundError
        return int(text)

    def value(self, name: str, default: Json = None) -> Json:
        """Return a field of the body, whatever its encoding; the last one of a repeated form key."""
        if isinstance(self.json, dict):
            return self.json.get(name, default)
        values = self.form.get(name)
        return values[-1] if values else default

    def text(self, name: str, default: str = "") -> str:
        value = self.value(name, default)
        return value if isinstance(value, str) else default if value is None else str(value)

    def integer(self, name: str) -> int | None:
        """Return a whole number of the body; clients send some as decimal strings."""
        value = self.value(name)
        if value is None or value == "":
            return None
        if isinstance(value, bool) or not str(value).lstrip("-").isdigit():
            raise ApiError(400, {name: ["A valid integer is required."]})
        return int(value)

    def integers(self, name: str) -> list[int]:
        """Return a list of whole numbers: a JSON list, or a form key once per number."""
        values = self.json.get(name, []) if isinstance(self.json, dict) else self.form.get(name, [])
        values = values if isinstance(values, list) else [values]
        try:
            return [int(value) for value in values]
        except (TypeError, ValueError):
            raise ApiError(400, {name: ["A list of integers is required."]}) from None

    def argument(self, name: str) -> str | None:
        """Return a parameter of the query string, the last one of that name."""
        values = self.query.get(name)
        return values[-1] if values else None

    # -- who may what --------------------------------------------------------------------------------

    @property
    def me(self) -> User:
        """The user of a route that is not public."""
        assert self.user is not None
        return self.user

    @cached_property
    def roles(self) -> Mapping[int, int]:
        """The visible projects and the user's role in each."""
        rows = self.db.execute(
            "SELECT m.project, m.role FROM membership m JOIN project p ON p.id = m.project "
            "WHERE m.user = ? AND p.trash IS NULL",
            (self.me.id,),
        )
        return {row["project"]: row["role"] for row in rows}

    @cached_property
    def visible(self) -> str:
        """The visible project ids as a literal for SQL: ``(1, 2)``."""
        return f"({', '.join(str(project) for project in self.roles)})"

    def require_write(self, project: int) -> None:
        if self.roles.get(project, OBSERVER) == OBSERVER:
            raise ForbiddenError

    def require_manager(self, project: int) -> None:
        if self.roles.get(project) != MANAGER:
            raise ForbiddenError

    def require_unlocked(self, row: Row) -> None:
        """Refuse a write below a locked exam; *row* is an exam, or a series or dataset of a ``live_*`` view."""
        if row["locked"] and self.switches.is_on("locked-refuses"):
            raise ForbiddenError("The study is locked.")

    def projects_of(self, content_type: str, row: Row) -> frozenset[int]:
        """Return the visible projects an object belongs to: one, but for a patient those of all exams."""
        if content_type != "patient":
            return frozenset((row["project"],))
        rows = self.db.execute(
            f"SELECT project FROM live_exam WHERE patient = ? AND project IN {self.visible}", (row["id"],)
        )
        return frozenset(exam["project"] for exam in rows)

    def require_change(self, content_type: str, row: Row) -> None:
        """Refuse to describe (tag, rate, parameters) what the user may not write or what is locked."""
        if all(self.roles.get(project) == OBSERVER for project in self.projects_of(content_type, row)):
            raise ForbiddenError
        if content_type == "folder" and row["locked"]:
            raise ForbiddenError("The folder is locked.")
        if content_type in ("exam", "serie", "dataset"):
            self.require_unlocked(row)

    # -- objects -------------------------------------------------------------------------------------

    def _one(self, sql: str, *parameters: Any) -> Row:
        row: Row | None = self.db.execute(sql, parameters).fetchone()
        if row is None:
            raise NotFoundError
        return row

    def project(self, id_: int) -> Row:
        return self._one(f"SELECT * FROM project WHERE id = ? AND id IN {self.visible}", id_)

    def folder(self, id_: int) -> Row:
        return self._one(
            f"SELECT * FROM folder WHERE id = ? AND trash IS NULL AND project IN {self.visible}", id_
        )

    def item(self, id_: int) -> Row:
        return self._one(f"SELECT * FROM live_item WHERE id = ? AND project IN {self.visible}", id_)

    def exam(self, id_: int) -> Row:
        return self._one(f"SELECT * FROM live_exam WHERE id = ? AND project IN {self.visible}", id_)

    def series(self, id_: int) -> Row:
        return self._one(f"SELECT * FROM live_series WHERE id = ? AND project IN {self.visible}", id_)

    def dataset(self, id_: int) -> Row:
        return self._one(f"SELECT * FROM live_dataset WHERE id = ? AND project IN {self.visible}", id_)

    def datafile(self, id_: int) -> Row:
        return self._one(
            "SELECT f.* FROM datafile f JOIN live_dataset d ON d.id = f.dataset "
            f"WHERE f.id = ? AND d.project IN {self.visible}",
            id_,
        )

    def patient(self, id_: int) -> Row:
        """A patient is visible to whoever sees one of the exams."""
        return self._one(
            "SELECT * FROM patient WHERE id = ? AND trash IS NULL AND id IN "
            f"(SELECT patient FROM live_exam WHERE project IN {self.visible})",
            id_,
        )

    def of_kind(self, content_type: str, id_: int) -> Row:
        """Return an object by the archive's word for its kind."""
        finders = {
            "project": self.project,
            "folder": self.folder,
            "exam": self.exam,
            "serie": self.series,
            "series": self.series,
            "dataset": self.dataset,
            "patient": self.patient,
        }
        if content_type not in finders:
            raise NotFoundError
        return finders[content_type](id_)
