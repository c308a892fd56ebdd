"""Import packages: chunks arrive, ``complete`` seals them, one background thread imports them in order.

Durability.  A chunk's file and directory are synced before the row that names it is committed, and the row before
the client gets its 200. ``complete`` is a committed state. A server that died afterwards finds the package in
state 2 at its next start and imports it from the chunks, which are removed only after the import's commit.

Threads.  The request threads call everything but ``_import``; that runs on the one thread of ``_worker``. The
poll counters behind the shown progress are guarded by ``_polls_lock``; all else is in the database. An import that
the switch ``import-hold`` holds waits on the worker's thread until the switch is off or ``_stopping`` is set.
"""

from __future__ import annotations

import json
import logging
import shutil
import sqlite3
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from agorafs.sandbox import assembly, objects
from agorafs.sandbox.analysis import analyse
from agorafs.sandbox.assembly import AssemblyError, FlowFile
from agorafs.sandbox.contents import sync_directory, sync_file
from agorafs.sandbox.importing import Existing, Importer, ImportFailedError, Target
from agorafs.sandbox.plan import UploadedFile
from agorafs.sandbox.store import Store
from agorafs.sandbox.switches import Switches

_log = logging.getLogger(__name__)

_HOLD_INTERVAL_S = 0.02

UPLOADING, CHECKING, ANALYSING, IMPORTING, FINISHED, FAILED = 1, 2, 3, 4, 5, -1


class Imports:
    """All import packages of one server."""

    def __init__(self, store: Store, switches: Switches) -> None:
        self._store = store
        self._switches = switches
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sandbox-import")
        self._stopping = threading.Event()
        self._polls_lock = threading.Lock()
        self._polls: dict[int, int] = {}  # package -> polls since complete; guarded by _polls_lock

    def start(self) -> None:
        """Take up again what an earlier run completed and did not finish."""
        with self._store.snapshot() as db:
            waiting = db.execute(
                "SELECT id FROM import_package WHERE state = ? ORDER BY id", (CHECKING,)
            ).fetchall()
            ended = db.execute(
                "SELECT DISTINCT f.package FROM flow_file f JOIN chunk c ON c.flow_file = f.id "
                "JOIN import_package p ON p.id = f.package WHERE p.state IN (?, ?)",
                (FINISHED, FAILED),
            ).fetchall()
        for row in ended:  # an earlier run died between the end of an import and its tidying up
            self._clean_up(row["package"])
        for row in waiting:
            self._worker.submit(self._import, row["id"])

    def stop(self) -> None:
        """Finish the import that is running; those that wait or are held are taken up by the next start."""
        self._stopping.set()
        self._worker.shutdown(wait=True, cancel_futures=True)

    # -- chunks --------------------------------------------------------------------------------------

    def directory(self, package: int) -> Path:
        return self._store.imports_directory / str(package)

    def new_chunk_path(self, package: int, name: str) -> Path:
        """Return where to write an arriving chunk; *name* is unique and made here, not by the client."""
        directory = self.directory(package)
        if not directory.exists():
            directory.mkdir(exist_ok=True)
            sync_directory(self._store.imports_directory)
        return directory / name

    def add_chunk(self, db: sqlite3.Connection, package: int, fields: Mapping[str, Any], path: Path) -> None:
        """Record a chunk whose file is synced. A chunk sent again replaces the earlier one."""
        sync_directory(path.parent)
        now = self._store.now()
        db.execute(
            "INSERT INTO flow_file (package, identifier, target, total_size, total_chunks, created, updated) "
            "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6) ON CONFLICT (package, identifier) DO UPDATE SET "
            "target = ?3, total_size = ?4, total_chunks = ?5, updated = ?6, content_hash = NULL",
            (
                package,
                fields["identifier"],
                fields["target"],
                fields["total_size"],
                fields["total_chunks"],
                now,
            ),
        )
        flow_file = db.execute(
            "SELECT id FROM flow_file WHERE package = ? AND identifier = ?", (package, fields["identifier"])
        ).fetchone()["id"]
        replaced = db.execute(
            "SELECT file FROM chunk WHERE flow_file = ? AND number = ?", (flow_file, fields["number"])
        ).fetchone()
        db.execute(
            "INSERT OR REPLACE INTO chunk (flow_file, number, size, file) VALUES (?, ?, ?, ?)",
            (flow_file, fields["number"], path.stat().st_size, path.name),
        )
        if replaced is not None:
            self._store.after_commit(lambda: path.with_name(replaced["file"]).unlink(missing_ok=True))

    def flow_file(self, db: sqlite3.Connection, row: sqlite3.Row) -> FlowFile:
        """Return an upload with the paths of its chunks."""
        directory = self.directory(row["package"])
        chunks = db.execute(
            "SELECT number, file FROM chunk WHERE flow_file = ? ORDER BY number", (row["id"],)
        )
        return FlowFile(
            row["id"],
            row["target"],
            row["total_size"],
            row["total_chunks"],
            tuple((chunk["number"], directory / chunk["file"]) for chunk in chunks),
        )

    # -- completing ----------------------------------------------------------------------------------

    def complete(self, db: sqlite3.Connection, package: int, request: Mapping[str, Any]) -> None:
        """Seal a package; the import starts when this transaction is durable."""
        now = self._store.now()
        db.execute(
            "UPDATE import_package SET state = ?, request = ?, modified_date = ? WHERE id = ?",
            (CHECKING, json.dumps(dict(request)), now, package),
        )
        self._store.after_commit(lambda: self._submit(package))

    def _submit(self, package: int) -> None:
        self._worker.submit(self._import, package)

    def stored_bytes(self, db: sqlite3.Connection) -> int:
        """Return what counts against the quota: all datafiles, and the chunks of packages not imported yet."""
        row = db.execute(
            "SELECT (SELECT COALESCE(SUM(size), 0) FROM datafile) + (SELECT COALESCE(SUM(c.size), 0) FROM chunk c "
            "JOIN flow_file f ON f.id = c.flow_file JOIN import_package p ON p.id = f.package "
            "WHERE p.state IN (?, ?))",
            (UPLOADING, CHECKING),
        ).fetchone()
        return int(row[0])

    def progress(self, package: sqlite3.Row) -> dict[str, Any]:
        """Return what a poll shows, and count the poll.

        The states 2, 3 and 4 are each shown for ``import-speed`` polls, and 4 for as long as the work lasts.
        """
        speed = self._switches.number("import-speed")
        state = package["state"]
        if state != UPLOADING:
            with self._polls_lock:
                polls = self._polls[package["id"]] = self._polls.get(package["id"], -1) + 1
            walked = min(CHECKING + polls // speed, FINISHED) if speed else FINISHED
            state = min(walked, IMPORTING) if state == CHECKING or walked < FINISHED else state
        ended = state in (FINISHED, FAILED)
        return {
            "state": state,
            "progress": 100 if ended else {UPLOADING: 0, CHECKING: 10, ANALYSING: 30, IMPORTING: 60}[state],
            "tasks": {
                "count": 0 if state == UPLOADING else 1,
                "finished": int(state == FINISHED),
                "error": int(state == FAILED),
                "ids": [],
            },
        }

    # -- importing, on the worker's thread -----------------------------------------------------------

    def _import(self, package: int) -> None:
        while self._switches.is_on("import-hold"):
            if self._stopping.wait(_HOLD_INTERVAL_S):
                return
        try:
            self._import_now(package)
        except (ImportFailedError, AssemblyError, OSError) as error:
            self._fail(package, str(error))
        except Exception as error:  # noqa: BLE001 - a bug must end in state -1, or the client waits for ever
            _log.exception("import %s failed", package)
            self._fail(package, f"{type(error).__name__}: {error}")
        self._clean_up(package)

    def _import_now(self, package: int) -> None:
        with self._store.snapshot() as db:
            row = db.execute("SELECT * FROM import_package WHERE id = ?", (package,)).fetchone()
            flow_rows = db.execute(
                "SELECT * FROM flow_file WHERE package = ? ORDER BY id", (package,)
            ).fetchall()
            uploads = [self.flow_file(db, flow_row) for flow_row in flow_rows]
        request: dict[str, Any] = json.loads(row["request"])
        if self._switches.is_on("import-fail"):
            raise ImportFailedError("The import failed because the switch import-fail is on.")
        staging = self.directory(package) / "staged"
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
        assembled = assembly.assemble(
            uploads, staging, unpack_zips=str(request.get("extract_zip_files", "")).lower() in ("true", "1")
        )
        for file in assembled.files:
            sync_file(file.path)  # slow for large ones, and better here than under the store's write lock
        import_json, files = _take_import_file(assembled, request.get("import_file"))
        files, ignored = _set_ignored_aside(files, assembled, self._switches.text("result-ignore"))
        plan = analyse(files, import_json=import_json, relations=request.get("relations"))
        with self._store.transaction() as db:
            importer = Importer(
                db,
                self._store.contents,
                self._store.now(),
                package,
                row["user"],
                Target(**request["target"]),
                assembled.sent_as,
                self._switches.is_on("locked-refuses"),
                Existing(self._switches.text("existing")),
            )
            result = importer.carry_out(plan)
            result["ignored"] += ignored
            for flow_file, content_hash in assembled.content_hashes.items():
                db.execute("UPDATE flow_file SET content_hash = ? WHERE id = ?", (content_hash, flow_file))
            self._end(db, package, FINISHED, result=result)

    def _end(
        self,
        db: sqlite3.Connection,
        package: int,
        state: int,
        *,
        result: Mapping[str, Any] | None = None,
        error: str | None = None,
    ) -> None:
        now = self._store.now()
        db.execute(
            "UPDATE import_package SET state = ?, result = ?, error = ?, modified_date = ?, complete_date = ? "
            "WHERE id = ?",
            (state, None if result is None else json.dumps(result), error, now, now, package),
        )

    def _fail(self, package: int, error: str) -> None:
        with self._store.transaction() as db:
            self._end(db, package, FAILED, error=error)

    def _clean_up(self, package: int) -> None:
        """Drop the chunks of a package that has ended; the rows of the uploads stay.

        Files first: after a kill in between, the rows tell the next start that there is tidying up to do.
        """
        shutil.rmtree(self.directory(package), ignore_errors=True)
        with self._store.transaction() as db:
            db.execute(
                "DELETE FROM chunk WHERE flow_file IN (SELECT id FROM flow_file WHERE package = ?)",
                (package,),
            )


def _set_ignored_aside(
    files: list[UploadedFile], assembled: assembly.Assembled, text: str
) -> tuple[list[UploadedFile], list[dict[str, str]]]:
    """Separate the files whose target contains *text*: real servers leave files out, for reasons of their own."""
    if not text:
        return files, []
    kept = [file for file in files if text not in file.target]
    reason = "The file was ignored because the switch result-ignore says so."
    return kept, [
        {"path": assembled.sent_as[file.path], "reason": reason} for file in files if text in file.target
    ]


def _take_import_file(
    assembled: assembly.Assembled, name: str | None
) -> tuple[Mapping[str, Any] | None, list[UploadedFile]]:
    """Separate the import JSON, named by target path or base name, from the files to import."""
    files = list(assembled.files)
    if not name:
        return None, files
    wanted = assembly.clean_target(str(name))
    for file in files:
        if file.target == wanted or file.target.rpartition("/")[2] == wanted:
            try:
                content = json.loads(file.path.read_bytes())
            except ValueError as error:
                raise ImportFailedError(f"The import file {name} is not JSON: {error}") from None
            if not isinstance(content, dict):
                raise ImportFailedError(f"The import file {name} is not a JSON object.")
            files.remove(file)
            return content, files
    raise ImportFailedError(f"The import file {name} was not uploaded.")


def create_package(db: sqlite3.Connection, now: str, user: int) -> int:
    return objects.insert(
        db, "import_package", {"user": user, "created_date": now, "modified_date": now, "state": UPLOADING}
    )
