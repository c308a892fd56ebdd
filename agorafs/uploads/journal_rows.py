"""Rows of the journal and the values that they stand for."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace

from agorafs.client.records import Kind
from agorafs.uploads.values import Anchor, Batch, BatchState, Outcome, OutcomeKind, Replaced, Transfer


@dataclass(frozen=True, slots=True)
class Aside:
    """A stored file that was renamed away: the dataset's folder item, under its old name."""

    replaces: Replaced
    old_name: str
    datafile: int


@dataclass(frozen=True, slots=True)
class NodeRow:
    """One local node. Exactly one of ``anchor`` and ``parent`` is given. ``content`` names a file of the spool.

    ``is_whole``: closed or synced since its last change. ``upload``: the upload on its way that was made of it.
    """

    id: int
    anchor: Anchor | None
    parent: int | None
    name: str
    is_directory: bool
    ino: int
    token: str
    content: str | None
    size: int
    mtime_ns: int
    is_whole: bool
    is_durable: bool
    replaces: Replaced | None
    aside: Aside | None
    error: str
    upload: int | None


@dataclass(frozen=True, slots=True)
class StoredRow:
    """What a stored object that was written here goes on showing: number, version label, time."""

    kind: Kind
    id: int
    ino: int
    token: str
    mtime_ns: int
    sha1: str


@dataclass(frozen=True, slots=True)
class NewUpload:
    """An upload before it is in the journal."""

    node: int | None
    target: str
    size: int
    mtime_ns: int
    content: str  # a name in the spool, or an absolute path outside
    replaces: Replaced | None
    expected_mtime_ns: int | None = None


def node_fields(node: NodeRow) -> dict[str, object]:
    aside = node.aside
    return {
        "anchor_kind": None if node.anchor is None else node.anchor.kind.value,
        "anchor_id": None if node.anchor is None else node.anchor.id,
        "parent": node.parent,
        "name": node.name,
        "is_directory": int(node.is_directory),
        "ino": node.ino,
        "token": node.token,
        "content": node.content,
        "size": node.size,
        "mtime_ns": node.mtime_ns,
        "is_whole": int(node.is_whole),
        "is_durable": int(node.is_durable),
        "replaces": replaced_text(node.replaces),
        "aside": None
        if aside is None
        else json.dumps([list(aside.replaces), aside.old_name, aside.datafile]),
        "error": node.error,
        "upload": node.upload,
    }


def node_of(row: sqlite3.Row) -> NodeRow:
    anchor = None
    if row["anchor_kind"] is not None:
        anchor = Anchor(Kind(row["anchor_kind"]), row["anchor_id"])
    aside = None
    if row["aside"] is not None:
        replaces, old_name, datafile = json.loads(row["aside"])
        aside = Aside(Replaced(*replaces), old_name, datafile)
    return NodeRow(
        row["id"],
        anchor,
        row["parent"],
        row["name"],
        bool(row["is_directory"]),
        row["ino"],
        row["token"],
        row["content"],
        row["size"],
        row["mtime_ns"],
        bool(row["is_whole"]),
        bool(row["is_durable"]),
        replaced_of(row["replaces"]),
        aside,
        row["error"],
        row["upload"],
    )


def batch_of(row: sqlite3.Row) -> Batch:
    relations = row["relations"]
    result = row["result"]
    return Batch(
        row["id"],
        Anchor(Kind(row["anchor_kind"]), row["anchor_id"]),
        BatchState(row["state"]),
        row["package"],
        row["import_file"],
        None if relations is None else json.loads(relations),
        None if result is None else json.loads(result),
        row["created_s"],
    )


def transfer_of(row: sqlite3.Row, done: Iterable[int]) -> Transfer:
    return Transfer(
        row["id"],
        row["batch"],
        row["identifier"],
        row["target"],
        row["size"],
        row["chunk_bytes"],
        bool(row["is_package"]),
        frozenset(done),
    )


def replaced_of(text: str | None) -> Replaced | None:
    return None if text is None else Replaced(*json.loads(text))


def replaced_text(replaced: Replaced | None) -> str | None:
    return None if replaced is None else json.dumps(list(replaced))


def outcome_of(text: str | None) -> Outcome | None:
    if text is None:
        return None
    fields = json.loads(text)
    return replace(Outcome(**fields), kind=OutcomeKind(fields["kind"]))


def outcome_text(outcome: Outcome) -> str:
    return json.dumps(asdict(outcome))
