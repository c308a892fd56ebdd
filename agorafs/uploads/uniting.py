"""Names after two journals have become one: what two mounts called alike must not hide each other.

Directories of one name in one place become one directory. Of files, and of a file and a directory, the one that was
here first keeps the name, the other gets `` (2)`` before its extension: both have been promised.

Place.  ``Journal.take_over`` calls it inside its transaction.
"""

from __future__ import annotations

import itertools
import sqlite3

from agorafs.tree.names import suffixed

_TWICE = """
SELECT anchor_kind, anchor_id, parent, name FROM node
GROUP BY anchor_kind, anchor_id, parent, name HAVING COUNT(*) > 1
"""
_SAME_PLACE = "anchor_kind IS ? AND anchor_id IS ? AND parent IS ?"


def unite_names(db: sqlite3.Connection) -> dict[int, int]:
    """Give every node a name of its own; return the directories that became part of another, with that one."""
    united: dict[int, int] = {}
    while twice := db.execute(_TWICE).fetchall():  # what was in two directories may have one name, too
        for *place, name in map(tuple, twice):
            rows = db.execute(
                f"SELECT id, is_directory FROM node WHERE {_SAME_PLACE} AND name = ? ORDER BY id",
                (*place, name),
            ).fetchall()
            first, first_is_directory = rows[0]
            for other, is_directory in map(tuple, rows[1:]):
                if is_directory and first_is_directory:
                    db.execute("UPDATE node SET parent = ? WHERE parent = ?", (first, other))
                    db.execute("DELETE FROM node WHERE id = ?", (other,))
                    united[other] = first
                else:
                    free = _free_name(db, place, name, is_directory=bool(is_directory))
                    db.execute("UPDATE node SET name = ? WHERE id = ?", (free, other))
    return united


def _free_name(db: sqlite3.Connection, place: list[object], name: str, *, is_directory: bool) -> str:
    query = f"SELECT 1 FROM node WHERE {_SAME_PLACE} AND name = ?"
    return next(
        free
        for number in itertools.count(2)
        if db.execute(
            query, (*place, free := suffixed(name, str(number), is_directory=is_directory))
        ).fetchone()
        is None
    )
