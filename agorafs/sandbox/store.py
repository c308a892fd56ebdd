"""The sandbox's memory: one SQLite file and one directory of contents below the data directory.

Layout of the data directory::

    sandbox.sqlite      tables of schema.py (write-ahead log beside it)
    content/ab/cdef…    contents by SHA-1 (contents.py)
    imports/<n>/        chunks of import package n, until it is finished
    lock                held while a server or a preparing test uses the directory

Durability.  A transaction that returned is on disk (``journal_mode=WAL``, ``synchronous=FULL``); one that
did not has left no trace. Nothing is answered with a 2xx before its transaction has returned.

Threads.  Every method may be called from any thread. Reading uses one connection per thread, and sees one
consistent moment per ``snapshot``. ``_write_lock`` guards writing: one transaction at a time; callbacks
given to ``after_commit`` still run under it.
"""

from __future__ import annotations

import fcntl
import secrets
import sqlite3
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import IO

from agorafs.sandbox import schema
from agorafs.sandbox.contents import Contents


class DataDirectoryError(Exception):
    """The data directory cannot be used; the text says why."""


def utc_now() -> str:
    """Return the present as the server writes it, ``2024-01-15T10:30:00.123456Z``."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class Store:
    """All state of one sandbox. ``now`` gives the time written into new rows."""

    def __init__(self, directory: Path, now: Callable[[], str] = utc_now) -> None:
        self.directory = directory
        self.now = now
        self._lock_file = _lock_directory(directory)
        self.contents = Contents(directory / "content")
        self.imports_directory = directory / "imports"
        self.imports_directory.mkdir(exist_ok=True)
        self._write_lock = threading.RLock()
        self._after_commit: list[Callable[[], None]] = []  # guarded by _write_lock
        self._local = threading.local()
        self._connections_lock = threading.Lock()
        self._connections: list[sqlite3.Connection] = []  # guarded by _connections_lock
        try:
            self._writer = self._connect()
            self._create_tables()
        except DataDirectoryError:
            self.close()
            raise
        except sqlite3.Error as error:
            self.close()
            raise DataDirectoryError(f"{directory / 'sandbox.sqlite'} cannot be used: {error}") from error

    def _connect(self) -> sqlite3.Connection:
        # isolation_level=None: transactions begin and end where this module says, not where the driver guesses.
        connection = sqlite3.connect(
            self.directory / "sandbox.sqlite", isolation_level=None, check_same_thread=False, timeout=30
        )
        with self._connections_lock:
            self._connections.append(connection)
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        return connection

    def _create_tables(self) -> None:
        version = self._writer.execute("PRAGMA user_version").fetchone()[0]
        if version == schema.SCHEMA_VERSION:
            return
        if version != 0:
            raise DataDirectoryError(
                f"{self.directory} was written by another version of the sandbox (layout {version}, "
                f"this one knows {schema.SCHEMA_VERSION}); use an empty directory"
            )
        self._writer.executescript(
            f"BEGIN IMMEDIATE; {schema.SCHEMA} PRAGMA user_version = {schema.SCHEMA_VERSION}; COMMIT;"
        )

    @contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """Give a connection that sees one moment; nothing may be written with it."""
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = self._connect()
        if connection.in_transaction:  # nested in one thread: the same moment
            yield connection
            return
        connection.execute("BEGIN")
        try:
            yield connection
        finally:
            connection.execute("COMMIT")

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Give the writing connection; on return the changes are durable, on an exception undone.

        May be nested in one thread: the inner one is then part of the outer.
        """
        with self._write_lock:
            if self._writer.in_transaction:
                yield self._writer
                return
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
            except BaseException:
                self._writer.execute("ROLLBACK")
                self._after_commit.clear()
                raise
            self._writer.execute("COMMIT")
            callbacks, self._after_commit = self._after_commit, []
            for callback in callbacks:
                callback()

    def after_commit(self, callback: Callable[[], None]) -> None:
        """Run *callback* when the present transaction is durable; forget it when that is undone."""
        self._after_commit.append(callback)

    def setting(self, name: str, make: Callable[[], str] | None = None) -> str | None:
        """Return a stored setting, made and stored now when it is missing and *make* is given."""
        with self.transaction() as db:
            row = db.execute("SELECT value FROM setting WHERE name = ?", (name,)).fetchone()
            if row is not None:
                return str(row["value"])
            if make is None:
                return None
            value = make()
            db.execute("INSERT INTO setting (name, value) VALUES (?, ?)", (name, value))
            return value

    def close(self) -> None:
        """Close every connection and let others use the directory."""
        with self._connections_lock:
            for connection in self._connections:
                connection.close()
            self._connections.clear()
        self._lock_file.close()


def _lock_directory(directory: Path) -> IO[bytes]:
    """Create *directory* when missing and keep a second sandbox out of it."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock_file = (directory / "lock").open("ab")
    except OSError as error:
        raise DataDirectoryError(f"{directory} cannot be written: {error.strerror}") from error
    try:
        fcntl.flock(lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock_file.close()
        raise DataDirectoryError(f"{directory} is in use by another sandbox") from None
    return lock_file


def new_api_key() -> str:
    """Return an API key as Agora makes them: a random UUID."""
    return str(uuid.uuid4())


def new_token() -> str:
    """Return a session or control token."""
    return secrets.token_hex(20)
