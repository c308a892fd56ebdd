"""The journal: what was written here and how far it is on its way to the server. SQLite, one file per spool.

Why.  A program was told that its file is safe. From then on the file must arrive exactly once, whatever dies:
this process, the server, the machine. So every step is in the journal before the next one is taken.

Durability.  A commit survives the death of every process at once (the kernel has it). It survives a power cut when
``barrier`` has returned since, which syncs the write-ahead log; ``Uploads`` does that every few seconds, at ``fsync``,
and before each step that the server will remember. A file counts as durable (``is_durable``) only in a commit made
after its bytes were synced. At the start of another boot, what is not durable can not be trusted (``start``).

Order of the steps of a batch: see ``values.BatchState``.

Threads.  Every method may be called from any thread and is one transaction. ``_lock`` guards the connection; it is a
leaf. Writing into the log is a matter of microseconds, so ``Uploads`` may call while it holds its own lock; waiting for
the disk (``barrier``, ``checkpoint``) is done outside of ``_lock``.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import threading
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from agorafs.client.records import Kind
from agorafs.errors import SpoolFull
from agorafs.uploads.durable import Disk
from agorafs.uploads.journal_rows import (
    NewUpload,
    NodeRow,
    StoredRow,
    batch_of,
    node_fields,
    node_of,
    outcome_of,
    outcome_text,
    replaced_of,
    replaced_text,
    transfer_of,
)
from agorafs.uploads.uniting import unite_names
from agorafs.uploads.values import (
    Anchor,
    Batch,
    BatchState,
    Outcome,
    PlannedTransfer,
    Transfer,
    Upload,
)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS node (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    anchor_kind TEXT, anchor_id INTEGER, parent INTEGER,
    name TEXT NOT NULL, is_directory INTEGER NOT NULL, ino INTEGER NOT NULL, token TEXT NOT NULL,
    content TEXT, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
    is_whole INTEGER NOT NULL, is_durable INTEGER NOT NULL,
    replaces TEXT, aside TEXT, error TEXT NOT NULL, upload INTEGER);
CREATE TABLE IF NOT EXISTS batch (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    anchor_kind TEXT NOT NULL, anchor_id INTEGER NOT NULL, state TEXT NOT NULL, package INTEGER,
    import_file TEXT, relations TEXT, result TEXT, created_s REAL NOT NULL, is_external INTEGER NOT NULL,
    directories TEXT NOT NULL, consumed TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS upload (
    id INTEGER PRIMARY KEY AUTOINCREMENT, batch INTEGER NOT NULL, node INTEGER,
    target TEXT NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, sha1 TEXT, content TEXT NOT NULL,
    replaces TEXT, transfer INTEGER, outcome TEXT, expected_mtime_ns INTEGER, is_settled INTEGER NOT NULL DEFAULT 0,
    at_folder INTEGER, at_target TEXT);
CREATE INDEX IF NOT EXISTS upload_batch ON upload (batch);
CREATE INDEX IF NOT EXISTS upload_node ON upload (node);
CREATE INDEX IF NOT EXISTS upload_content ON upload (content);
CREATE TABLE IF NOT EXISTS transfer (
    id INTEGER PRIMARY KEY AUTOINCREMENT, batch INTEGER NOT NULL, identifier TEXT NOT NULL, target TEXT NOT NULL,
    size INTEGER NOT NULL, chunk_bytes INTEGER NOT NULL, is_package INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS transfer_batch ON transfer (batch);
CREATE TABLE IF NOT EXISTS chunk (transfer INTEGER, number INTEGER, PRIMARY KEY (transfer, number)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS stored (
    kind TEXT, id INTEGER, ino INTEGER NOT NULL, token TEXT NOT NULL, mtime_ns INTEGER NOT NULL, sha1 TEXT NOT NULL,
    PRIMARY KEY (kind, id));
CREATE TABLE IF NOT EXISTS said (node INTEGER PRIMARY KEY, text TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS ended (batch INTEGER PRIMARY KEY, summary TEXT NOT NULL);
"""
_FILE = "journal.db"
_MAX_STORED = 200_000  # rows of about 150 bytes
_MAX_ENDED = 200
# (table, column, the table that it names a row of)
_REFERENCES = (
    ("node", "parent", "node"),
    ("node", "upload", "upload"),
    ("transfer", "batch", "batch"),
    ("upload", "batch", "batch"),
    ("upload", "node", "node"),
    ("upload", "transfer", "transfer"),
)


class Journal:
    """See the module docstring."""

    def __init__(self, directory: Path, disk: Disk) -> None:
        """Open or make the journal in *directory*, which this process has for itself."""
        self.directory = directory
        self.packages_directory = directory / "packages"
        self._disk = disk
        self._path = directory / _FILE
        self._lock = threading.Lock()
        self._db = _connect(self._path)
        self._checkpointer = _connect(self._path)
        self._checkpointing = threading.Lock()
        with self._transaction() as db:
            for statement in _SCHEMA.split(";"):
                db.execute(statement)
            db.execute("INSERT OR IGNORE INTO meta VALUES ('journal', ?)", (uuid.uuid4().hex,))
        self._log = os.open(f"{self._path}-wal", os.O_RDONLY | os.O_CLOEXEC)
        self.barrier()
        disk.sync_directory(directory)

    # -- durability ----------------------------------------------------------------------------------

    def barrier(self) -> None:
        """Make every commit so far survive a power cut."""
        self._disk.sync_file(self._log, Path(f"{self._path}-wal"))

    def checkpoint(self) -> None:
        """Bring the log's pages home as far as nobody is kept waiting."""
        with self._checkpointing:
            self._checkpointer.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def close(self) -> None:
        """Make everything durable and close."""
        self.barrier()
        with self._lock, self._checkpointing:
            self._checkpointer.close()
            self._db.close()
            os.close(self._log)

    def meta(self, name: str) -> str | None:
        """Return a fact about this journal."""
        row = self._one("SELECT value FROM meta WHERE name = ?", name)
        return None if row is None else str(row[0])

    def set_meta(self, **facts: str) -> None:
        """Note facts about this journal."""
        with self._transaction() as db:
            db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", list(facts.items()))

    # -- local nodes ---------------------------------------------------------------------------------

    def nodes(self) -> list[NodeRow]:
        """Return all local nodes, parents before children that were made later."""
        return [node_of(row) for row in self._all("SELECT * FROM node ORDER BY id")]

    def add_node(self, node: NodeRow) -> int:
        """Enter *node*, whose ``id`` is not looked at; return its id, which is never used again."""
        fields = node_fields(node)
        with self._transaction() as db:
            return _insert(db, "node", fields)

    def update_node(self, node: NodeRow) -> None:
        """Replace everything that is known of *node*."""
        with self._transaction() as db:
            _update_node(db, node)

    def rename_node(
        self, node: NodeRow, *, gone: int | None, takes_on: int | None, lets_go: int | None
    ) -> None:
        """Replace what is known of *node*, in one step with what its new name means for others.

        Args:
            gone: The node that it takes the name of.
            takes_on: An upload that counts as an earlier version of it from now on.
            lets_go: An upload that has nothing to do with it any more.
        """
        with self._transaction() as db:
            if lets_go is not None:
                db.execute("UPDATE upload SET node = NULL WHERE id = ?", (lets_go,))
            if gone is not None:
                _remove_nodes(db, [gone])
            if takes_on is not None:
                db.execute("UPDATE upload SET node = ? WHERE id = ?", (node.id, takes_on))
            _update_node(db, node)

    def remove_nodes(self, nodes: Iterable[int]) -> None:
        """Forget local nodes; uploads that were made of them go on without."""
        with self._transaction() as db:
            _remove_nodes(db, nodes)

    def set_durable(self, nodes: Iterable[tuple[int, str]]) -> None:
        """Note that the bytes of these (node, content) were synced."""
        with self._transaction() as db:
            db.executemany("UPDATE node SET is_durable = 1 WHERE id = ? AND content = ?", list(nodes))

    def said(self, node_id: int) -> dict[str, str]:
        """Return what people have said of a local file, to be said of the stored one."""
        row = self._one("SELECT text FROM said WHERE node = ?", node_id)
        return {} if row is None else dict(json.loads(row[0]))

    def set_said(self, node_id: int, said: Mapping[str, str]) -> None:
        """Replace it."""
        with self._transaction() as db:
            if said:
                db.execute("INSERT OR REPLACE INTO said VALUES (?, ?)", (node_id, json.dumps(dict(said))))
            else:
                db.execute("DELETE FROM said WHERE node = ?", (node_id,))

    # -- batches -------------------------------------------------------------------------------------

    def batches(self) -> list[Batch]:
        """Return all batches, the oldest first."""
        return [batch_of(row) for row in self._all("SELECT * FROM batch ORDER BY id")]

    def batch_ids(self) -> list[int]:
        """Return the numbers of all batches, the oldest first."""
        return [int(row[0]) for row in self._all("SELECT id FROM batch ORDER BY id")]

    def batch(self, batch_id: int) -> Batch | None:
        """Return one batch, None when it has ended."""
        row = self._one("SELECT * FROM batch WHERE id = ?", batch_id)
        return None if row is None else batch_of(row)

    def is_external(self, batch_id: int) -> bool:
        """Tell whether the batch's files are not of the spool."""
        row = self._one("SELECT is_external FROM batch WHERE id = ?", batch_id)
        return row is not None and bool(row[0])

    def directories(self, batch_id: int) -> list[tuple[int, str]]:
        """Return (node, target path) of the local directories that the batch was sealed with, parents first."""
        row = self._one("SELECT directories FROM batch WHERE id = ?", batch_id)
        return [] if row is None else [(node, target) for node, target in json.loads(row[0])]

    def consumed(self, batch_id: int) -> list[int]:
        """Return the nodes that vanish when the batch has arrived."""
        row = self._one("SELECT consumed FROM batch WHERE id = ?", batch_id)
        return [] if row is None else [int(node) for node in json.loads(row[0])]

    def drop_replaces(self, upload_id: int) -> None:
        """What an upload would have taken the place of stays."""
        with self._transaction() as db:
            db.execute("UPDATE upload SET replaces = NULL WHERE id = ?", (upload_id,))

    def seal(
        self,
        anchor: Anchor,
        uploads: Sequence[NewUpload],
        directories: Sequence[tuple[int, str]],
        *,
        import_file: str | None,
        relations: Mapping[str, Sequence[str]] | None,
        consumed: Sequence[int] = (),
        created_s: float,
        is_external: bool = False,
    ) -> int:
        """Make a batch of *uploads*; the nodes that they were made of know it from then on.

        *consumed* are nodes that are not sent and vanish with the batch. Without uploads there is nothing to send,
        only directories to make.
        """
        with self._transaction() as db:
            batch_id = _insert(
                db,
                "batch",
                {
                    "anchor_kind": anchor.kind.value,
                    "anchor_id": anchor.id,
                    "state": (BatchState.SEALED if uploads else BatchState.SETTLING).value,
                    "import_file": import_file,
                    "relations": None if relations is None else json.dumps(relations),
                    "created_s": created_s,
                    "is_external": int(is_external),
                    "directories": json.dumps(list(directories)),
                    "consumed": json.dumps(list(consumed)),
                },
            )
            for upload in uploads:
                upload_id = _insert(
                    db,
                    "upload",
                    {
                        "batch": batch_id,
                        "node": upload.node,
                        "target": upload.target,
                        "size": upload.size,
                        "mtime_ns": upload.mtime_ns,
                        "content": upload.content,
                        "replaces": replaced_text(upload.replaces),
                        "expected_mtime_ns": upload.expected_mtime_ns,
                    },
                )
                if upload.node is not None:
                    db.execute(
                        "UPDATE node SET upload = ?, replaces = NULL WHERE id = ?", (upload_id, upload.node)
                    )
        return batch_id

    def uploads(self, batch_id: int, *, unsettled: bool = False) -> list[Upload]:
        """Return the uploads of a batch; *unsettled*: only those that are not done with."""
        query = "SELECT * FROM upload WHERE batch = ?" + (" AND is_settled = 0" if unsettled else "")
        return [self._upload(row) for row in self._all(query + " ORDER BY id", batch_id)]

    def is_abandoned(self, batch_id: int) -> bool:
        """Tell whether of all that is left of a batch every local file was removed, and nothing stored replaced."""
        left = "SELECT 1 FROM upload WHERE batch = ? AND is_settled = 0"
        wanted = f"{left} AND (node IS NOT NULL OR replaces IS NOT NULL) LIMIT 1"
        return self._one(wanted, batch_id) is None and self._one(f"{left} LIMIT 1", batch_id) is not None

    def carries(self, content: str | None, *, but: int = 0) -> bool:
        """Tell whether an upload, not *but* that one, has the spool's file *content* for its bytes."""
        return (
            self._one("SELECT 1 FROM upload WHERE content = ? AND id != ? LIMIT 1", content, but) is not None
        )

    def upload(self, upload_id: int) -> tuple[Upload, int | None] | None:
        """Return one upload and the node that it was made of, if that is still there."""
        row = self._one("SELECT * FROM upload WHERE id = ?", upload_id)
        return None if row is None else (self._upload(row), row["node"])

    def set_sha1(self, upload_id: int, sha1: str) -> None:
        """Note the SHA-1 of an upload's content."""
        with self._transaction() as db:
            db.execute("UPDATE upload SET sha1 = ? WHERE id = ?", (sha1, upload_id))

    def begin_upload(self, batch_id: int, package: int, planned: Sequence[PlannedTransfer]) -> list[Transfer]:
        """SEALED to UPLOADING: note the import package and what will be sent under which identifier."""
        with self._transaction() as db:
            _forget_transfers(db, batch_id)
            for plan in planned:
                transfer = _insert(
                    db,
                    "transfer",
                    {
                        "batch": batch_id,
                        "identifier": str(uuid.uuid4()),
                        "target": plan.target,
                        "size": plan.size,
                        "chunk_bytes": plan.chunk_bytes,
                        "is_package": int(plan.is_package),
                    },
                )
                db.executemany(
                    "UPDATE upload SET transfer = ? WHERE id = ?",
                    [(transfer, upload) for upload in plan.uploads],
                )
            db.execute(
                "UPDATE batch SET state = ?, package = ? WHERE id = ?",
                (BatchState.UPLOADING.value, package, batch_id),
            )
        self.barrier()
        return self.transfers(batch_id)

    def transfers(self, batch_id: int) -> list[Transfer]:
        """Return the transfers of a batch with the chunks that arrived."""
        done: dict[int, set[int]] = {}
        for row in self._all(
            "SELECT c.* FROM chunk c JOIN transfer t ON t.id = c.transfer WHERE t.batch = ?", batch_id
        ):
            done.setdefault(row["transfer"], set()).add(row["number"])
        return [
            transfer_of(row, done.get(row["id"], ()))
            for row in self._all("SELECT * FROM transfer WHERE batch = ? ORDER BY id", batch_id)
        ]

    def note_chunk(self, transfer_id: int, number: int) -> None:
        """Note that the server has acknowledged a chunk."""
        with self._transaction() as db:
            db.execute("INSERT OR IGNORE INTO chunk VALUES (?, ?)", (transfer_id, number))

    def restart_transfer(self, transfer_id: int, chunk_bytes: int) -> Transfer:
        """Begin a transfer anew, under another identifier and with other chunks."""
        with self._transaction() as db:
            db.execute("DELETE FROM chunk WHERE transfer = ?", (transfer_id,))
            db.execute(
                "UPDATE transfer SET identifier = ?, chunk_bytes = ? WHERE id = ?",
                (str(uuid.uuid4()), chunk_bytes, transfer_id),
            )
            row = db.execute("SELECT * FROM transfer WHERE id = ?", (transfer_id,)).fetchone()
        return transfer_of(row, ())

    def forget_upload(self, batch_id: int) -> None:
        """Back to SEALED: the server does not know the package any more."""
        with self._transaction() as db:
            _forget_transfers(db, batch_id)
            db.execute(
                "UPDATE batch SET state = ?, package = NULL, result = NULL WHERE id = ?",
                (BatchState.SEALED.value, batch_id),
            )
            db.execute("UPDATE upload SET outcome = NULL WHERE batch = ? AND is_settled = 0", (batch_id,))
        self.barrier()

    def set_state(
        self, batch_id: int, state: BatchState, *, result: Mapping[str, object] | None = None
    ) -> None:
        """Enter *state*; *result* is kept when given."""
        with self._transaction() as db:
            db.execute("UPDATE batch SET state = ? WHERE id = ?", (state.value, batch_id))
            if result is not None:
                db.execute("UPDATE batch SET result = ? WHERE id = ?", (json.dumps(result), batch_id))
        self.barrier()

    def set_outcomes(self, batch_id: int, outcomes: Mapping[int, Outcome]) -> None:
        """VERIFYING to SETTLING: note what became of each upload."""
        with self._transaction() as db:
            db.executemany(
                "UPDATE upload SET outcome = ? WHERE id = ?",
                [(outcome_text(outcome), upload) for upload, outcome in outcomes.items()],
            )
            db.execute("UPDATE batch SET state = ? WHERE id = ?", (BatchState.SETTLING.value, batch_id))
        self.barrier()

    def settle(
        self,
        upload_id: int,
        outcome: Outcome,
        *,
        node: NodeRow | None = None,
        gone: int | None = None,
        stored: StoredRow | None = None,
    ) -> None:
        """An upload is done with: its *node* stays as given, or is *gone*; *stored* is what it lives on as."""
        with self._transaction() as db:
            db.execute(
                "UPDATE upload SET is_settled = 1, node = NULL, outcome = ? WHERE id = ?",
                (outcome_text(outcome), upload_id),
            )
            if node is not None:
                _update_node(db, node)
            if gone is not None:
                _remove_nodes(db, [gone])
            if stored is not None:
                _store(db, stored)

    def become_folders(
        self,
        *,
        nodes: Sequence[NodeRow],
        gone: Sequence[int],
        stored: Sequence[StoredRow],
        travelling: Sequence[tuple[int, Anchor, str]],
    ) -> None:
        """Directories have become folders of the server while their batch goes on; see ``end_batch``."""
        with self._transaction() as db:
            _become_folders(db, nodes, gone, stored, travelling)

    def end_batch(
        self,
        batch_id: int,
        *,
        nodes: Sequence[NodeRow] = (),
        gone: Sequence[int] = (),
        stored: Sequence[StoredRow] = (),
        travelling: Sequence[tuple[int, Anchor, str]] = (),
        summary: Mapping[str, Any] | None = None,
    ) -> None:
        """Forget a batch with all that belongs to it.

        *travelling* are uploads of others, and where the local files of those are now (``Upload.at``). *summary* is
        kept for who asks later.
        """
        with self._transaction() as db:
            _become_folders(db, nodes, gone, stored, travelling)
            _forget_transfers(db, batch_id)
            db.execute("DELETE FROM upload WHERE batch = ?", (batch_id,))
            db.execute("DELETE FROM batch WHERE id = ?", (batch_id,))
            if summary is not None:
                db.execute("INSERT OR REPLACE INTO ended VALUES (?, ?)", (batch_id, json.dumps(summary)))
                db.execute("DELETE FROM ended WHERE batch <= ?", (batch_id - _MAX_ENDED,))

    def ended(self, batch_id: int) -> dict[str, Any] | None:
        """Return the summary of a batch that has ended."""
        row = self._one("SELECT summary FROM ended WHERE batch = ?", batch_id)
        if row is None:
            return None
        summary: dict[str, Any] = json.loads(row[0])
        return summary

    # -- stored objects that were written here -------------------------------------------------------

    def stored(self) -> list[StoredRow]:
        """Return the stored objects that were written here, the latest ``_MAX_STORED``."""
        with self._transaction() as db:
            db.execute(
                "DELETE FROM stored WHERE rowid NOT IN (SELECT rowid FROM stored ORDER BY rowid DESC LIMIT ?)",
                (_MAX_STORED,),
            )
        return [
            StoredRow(Kind(row["kind"]), row["id"], row["ino"], row["token"], row["mtime_ns"], row["sha1"])
            for row in self._all("SELECT * FROM stored ORDER BY rowid")
        ]

    # -- taking over another journal -----------------------------------------------------------------

    def take_over(self, other: Journal) -> None:
        """Make everything that *other* knows known here; its contents are in this spool already.

        One transaction, and one only: *other* can be taken over again after a crash without harm.
        """
        name = f"taken over {other.meta('journal')}"
        with self._transaction() as db:
            if db.execute("SELECT 1 FROM meta WHERE name = ?", (name,)).fetchone():
                return
            db.execute("INSERT INTO meta VALUES (?, '')", (name,))
            ids: dict[str, dict[int, int]] = {"node": {}, "batch": {}, "transfer": {}, "upload": {}}
            for table, known in ids.items():
                for row in other._all(f"SELECT * FROM {table} ORDER BY id"):
                    fields = dict(row)
                    old_id = fields.pop("id")
                    known[old_id] = _insert(db, table, fields)
            for table, column, target in _REFERENCES:  # a node's parent may have been made after it
                for new_id in ids[table].values():
                    (old,) = db.execute(f"SELECT {column} FROM {table} WHERE id = ?", (new_id,)).fetchone()
                    new = ids[target].get(old)
                    db.execute(f"UPDATE {table} SET {column} = ? WHERE id = ?", (new, new_id))
            united = unite_names(db)
            nodes = {old: united.get(new, new) for old, new in ids["node"].items()}
            for new_id in ids["batch"].values():
                texts = db.execute(
                    "SELECT directories, consumed FROM batch WHERE id = ?", (new_id,)
                ).fetchone()
                directories = [(nodes.get(node), target) for node, target in json.loads(texts[0])]
                consumed = [nodes[node] for node in json.loads(texts[1]) if node in nodes]
                db.execute(
                    "UPDATE batch SET directories = ?, consumed = ? WHERE id = ?",
                    (json.dumps(directories), json.dumps(consumed), new_id),
                )
            for row in other._all("SELECT * FROM chunk"):
                db.execute("INSERT INTO chunk VALUES (?, ?)", (ids["transfer"][row[0]], row[1]))
            for row in other._all("SELECT * FROM said"):
                db.execute("INSERT INTO said VALUES (?, ?)", (nodes[row["node"]], row["text"]))
            for row in other._all("SELECT * FROM stored"):
                db.execute("INSERT OR IGNORE INTO stored VALUES (?, ?, ?, ?, ?, ?)", tuple(row))
        self.barrier()

    # -- how -----------------------------------------------------------------------------------------

    def _upload(self, row: sqlite3.Row) -> Upload:
        content = Path(row["content"])
        return Upload(
            row["id"],
            row["batch"],
            row["target"],
            row["size"],
            row["mtime_ns"],
            row["sha1"],
            content if content.is_absolute() else self.directory / "content" / content,
            replaced_of(row["replaces"]),
            row["transfer"],
            outcome_of(row["outcome"]),
            row["expected_mtime_ns"],
            None if row["at_folder"] is None else (Anchor(Kind.FOLDER, row["at_folder"]), row["at_target"]),
        )

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                try:
                    yield self._db
                    self._db.execute("COMMIT")
                except BaseException:
                    if self._db.in_transaction:  # a full disk may have ended it already
                        self._db.execute("ROLLBACK")
                    raise
            except sqlite3.OperationalError as error:
                if "full" in str(error):  # SQLITE_FULL; Python 3.10 does not give the code
                    raise SpoolFull(f"the disk of {self._path} is full") from error
                raise

    def _all(self, query: str, *arguments: object) -> list[sqlite3.Row]:
        with self._lock:
            return self._db.execute(query, arguments).fetchall()

    def _one(self, query: str, *arguments: object) -> sqlite3.Row | None:
        with self._lock:
            row: sqlite3.Row | None = self._db.execute(query, arguments).fetchone()
        return row


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=60)
    db.row_factory = sqlite3.Row
    path.chmod(0o600)
    db.execute("PRAGMA journal_mode = WAL").fetchall()
    # A commit writes into the log without waiting for the disk; a checkpoint syncs the log first.
    db.execute("PRAGMA synchronous = NORMAL")
    db.execute("PRAGMA wal_autocheckpoint = 0").fetchall()
    return db


def _insert(db: sqlite3.Connection, table: str, fields: Mapping[str, object]) -> int:
    columns = ", ".join(fields)
    marks = ", ".join("?" * len(fields))
    cursor = db.execute(f"INSERT INTO {table} ({columns}) VALUES ({marks})", tuple(fields.values()))
    assert cursor.lastrowid is not None
    return cursor.lastrowid


def _update_node(db: sqlite3.Connection, node: NodeRow) -> None:
    fields = node_fields(node)
    columns = ", ".join(f"{name} = ?" for name in fields)
    db.execute(f"UPDATE node SET {columns} WHERE id = ?", (*fields.values(), node.id))


def _become_folders(
    db: sqlite3.Connection,
    nodes: Iterable[NodeRow],
    gone: Iterable[int],
    stored: Iterable[StoredRow],
    travelling: Iterable[tuple[int, Anchor, str]],
) -> None:
    for node in nodes:
        _update_node(db, node)
    _remove_nodes(db, gone)
    for row in stored:
        _store(db, row)
    db.executemany(
        "UPDATE upload SET at_folder = ?, at_target = ? WHERE id = ?",
        [(anchor.id, target, upload) for upload, anchor, target in travelling],
    )


def _remove_nodes(db: sqlite3.Connection, nodes: Iterable[int]) -> None:
    for node in nodes:
        db.execute("UPDATE upload SET node = NULL WHERE node = ?", (node,))
        db.execute("DELETE FROM node WHERE id = ?", (node,))
        db.execute("DELETE FROM said WHERE node = ?", (node,))


def _store(db: sqlite3.Connection, row: StoredRow) -> None:
    db.execute(
        "INSERT OR REPLACE INTO stored VALUES (?, ?, ?, ?, ?, ?)",
        (row.kind.value, row.id, row.ino, row.token, row.mtime_ns, row.sha1),
    )


def _forget_transfers(db: sqlite3.Connection, batch_id: int) -> None:
    db.execute("DELETE FROM chunk WHERE transfer IN (SELECT id FROM transfer WHERE batch = ?)", (batch_id,))
    db.execute("DELETE FROM transfer WHERE batch = ?", (batch_id,))
    db.execute("UPDATE upload SET transfer = NULL WHERE batch = ?", (batch_id,))
