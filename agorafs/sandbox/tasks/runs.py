"""Running tasks: a queue, a restricted subprocess for each run, and the import of what came out.

A run has a directory ``tasks/<timeline item>/`` of its own below the data directory: ``in/`` with read-only copies of
the input files (copies, so that nothing a program does can change an archived byte), ``out/`` for the results. The
program (``programs``) runs there in a session of its own, with almost no environment, without input, within limits of
time and space, and is killed with all its processes when it takes too long or the server stops.

The results are imported as an upload would be. Rows, the folder for them, and the end of the timeline item are one
transaction: a run has stored everything and finished, or has stored nothing. ``stdout`` and ``stderr`` of the program
are kept in the item's data.

Durability.  Runs are not taken up again. A start ends what an earlier run of the server left, with the error
"interrupted", and removes the directories.

Threads.  ``start_run`` is called by request threads, in their transaction; a run happens on a thread of ``_workers``.
``_lock`` guards ``_processes``. Whether the server is stopping is ``_stopping``.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from agorafs.sandbox import objects, timeline
from agorafs.sandbox.analysis import analyse
from agorafs.sandbox.contents import sha1_of, sync_file
from agorafs.sandbox.importing import Importer, ImportFailedError, Target
from agorafs.sandbox.plan import UploadedFile
from agorafs.sandbox.store import Store
from agorafs.sandbox.switches import Switches
from agorafs.sandbox.tasks import programs
from agorafs.sandbox.tasks.requests import RunRequest

_log = logging.getLogger(__name__)

_RUNS_AT_ONCE = 2
_TIMEOUT_S = 300.0
_HOLD_INTERVAL_S = 0.02
_MAX_OUTPUT_FILES = 10_000
_MAX_STREAM_CHARACTERS = 64 << 10  # of stdout and stderr, the last ones
# Per process; the data limit leaves room for a large series in memory. No process can start another.
_LIMITS = {
    "RLIMIT_CPU": 240,
    "RLIMIT_AS": 4 << 30,
    "RLIMIT_FSIZE": 2 << 30,
    "RLIMIT_NOFILE": 256,
    "RLIMIT_NPROC": 0,
    "RLIMIT_CORE": 0,
}
# Numerical libraries would start a thread for each processor, which the limits refuse.
_ENVIRONMENT = {"LC_ALL": "C.UTF-8", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


class RunFailedError(Exception):
    """A run ends with an error; the text says which."""


class TaskRuns:
    """All runs of one server; ``polls`` counts how often clients asked for them."""

    def __init__(self, store: Store, switches: Switches) -> None:
        self._store = store
        self._switches = switches
        self._directory = store.directory / "tasks"
        self._workers = ThreadPoolExecutor(_RUNS_AT_ONCE, thread_name_prefix="sandbox-task")
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._processes: set[subprocess.Popen[bytes]] = set()  # guarded by _lock
        self.polls = timeline.Polls()

    def start(self) -> None:
        """End what an earlier run of the server left."""
        with self._store.transaction() as db:
            timeline.interrupt_all(db)
        shutil.rmtree(self._directory, ignore_errors=True)
        self._directory.mkdir()

    def stop(self) -> None:
        """Kill what runs; what was not finished is ended as interrupted, now or by the next start."""
        self._stopping.set()
        with self._lock:
            for process in self._processes:
                _kill(process)
        self._workers.shutdown(wait=True, cancel_futures=True)

    def start_run(self, db: sqlite3.Connection, request: RunRequest) -> int:
        """Queue a run and return its timeline item; it begins when the present transaction is durable."""
        data = {"name": request.task, "stdout": "", "stderr": ""}
        item = timeline.start(
            db, self._store.now(), request.user, request.target.project, data, state=timeline.QUEUED
        )
        self._store.after_commit(lambda: self._submit(item, request))
        return item

    def _submit(self, item: int, request: RunRequest) -> None:
        if not self._stopping.is_set():
            self._workers.submit(self._run, item, request)

    # -- one run, on a worker's thread ---------------------------------------------------------------

    def _run(self, item: int, request: RunRequest) -> None:
        run = _Run(self._directory / str(item))
        try:
            with self._store.transaction() as db:
                timeline.change(db, item, timeline.STARTED)
            while self._switches.is_on("task-hold"):
                if self._stopping.wait(_HOLD_INTERVAL_S):
                    break
            self._run_now(item, request, run)
        except (RunFailedError, ImportFailedError, OSError) as error:
            self._fail(item, run, timeline.INTERRUPTED if self._stopping.is_set() else str(error))
        except Exception as error:  # noqa: BLE001 - a bug must end in state 3, or the client waits for ever
            _log.exception("run %s failed", item)
            self._fail(item, run, f"{type(error).__name__}: {error}")
        finally:
            shutil.rmtree(run.directory, ignore_errors=True)

    def _run_now(self, item: int, request: RunRequest, run: _Run) -> None:
        if self._switches.is_on("task-fail"):
            raise RunFailedError("The run failed because the switch task-fail is on.")
        if request.problem is not None:
            raise RunFailedError(request.problem)
        if not request.files:
            raise RunFailedError("There are no files among the inputs.")
        run.prepare(self._store, request)
        for program in request.programs:
            self._execute(run, request, program)
        self._store_results(item, request, run)

    def _execute(self, run: _Run, request: RunRequest, program: str) -> None:
        run.write_manifest(request, program)
        with self._lock:
            if self._stopping.is_set():
                raise RunFailedError(timeline.INTERRUPTED)
            process = subprocess.Popen(
                [sys.executable, "-I", "-B", programs.__file__],
                cwd=run.directory,
                env=_ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
            self._processes.add(process)
        try:
            out, err = process.communicate(timeout=_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            _kill(process)
            process.communicate()
            raise RunFailedError(f"The program took longer than {_TIMEOUT_S:g} s.") from None
        finally:
            with self._lock:
                self._processes.discard(process)
        run.stdout = _end_of(run.stdout + out.decode(errors="replace"))
        run.stderr = _end_of(run.stderr + err.decode(errors="replace"))
        if process.returncode < 0:
            raise RunFailedError(f"The program was ended by signal {-process.returncode}.")
        if process.returncode > 0:
            lines = (run.stderr.strip() or run.stdout.strip()).splitlines() or ["without a word"]
            raise RunFailedError(f"{program} failed (exit status {process.returncode}): {lines[-1]}")

    def _store_results(self, item: int, request: RunRequest, run: _Run) -> None:
        """Import the results and end the run, in one transaction."""
        uploads = run.results()
        plan = analyse(uploads)
        with self._store.transaction() as db:
            state = db.execute("SELECT state FROM timeline WHERE id = ?", (item,)).fetchone()["state"]
            if timeline.is_over(state):  # somebody else has reported its end
                return
            target = _still_there(db, request, self._switches.is_on("locked-refuses"))
            now = self._store.now()
            if request.folder is not None and target.folder is not None:
                folder = objects.ensure_folders(db, now, target.folder, [request.folder])
                target = replace(target, folder=folder)
            importer = Importer(
                db,
                self._store.contents,
                now,
                0,  # names the folder of loose files without a place; these have one
                request.user,
                target,
                {upload.path: upload.target for upload in uploads},
                self._switches.is_on("locked-refuses"),
            )
            importer.carry_out(plan)
            made = [
                timeline.related_object(kind, id_, name)
                for (kind, id_), name in importer.touched.items()
                if kind == "dataset"
            ]
            if target.folder is not None:
                db.executemany(
                    "INSERT OR IGNORE INTO task_result (folder, content_type, object_id) VALUES (?, ?, ?)",
                    [(target.folder, kind, id_) for kind, id_ in request.subjects],
                )
            timeline.finish(db, item, made, stdout=run.stdout, stderr=run.stderr)

    def _fail(self, item: int, run: _Run, message: str) -> None:
        with self._store.transaction() as db:
            timeline.fail(db, item, message, stdout=run.stdout, stderr=run.stderr)


class _Run:
    """The working directory of one run, and what its programs said."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.stdout = ""
        self.stderr = ""

    def prepare(self, store: Store, request: RunRequest) -> None:
        """Copy the input files."""
        for name in ("in", "out"):
            (self.directory / name).mkdir(parents=True)
        for number, file in enumerate(request.files):
            path = self.directory / _input_path(number)
            try:
                shutil.copyfile(store.contents.path(file.sha1), path)
            except FileNotFoundError:
                raise RunFailedError(f"The input {file.name!r} was deleted before the run.") from None
            path.chmod(0o400)

    def write_manifest(self, request: RunRequest, program: str) -> None:
        manifest: dict[str, Any] = {
            "program": program,
            "parent": os.getpid(),
            "files": [
                {"path": _input_path(number), "name": file.name} for number, file in enumerate(request.files)
            ],
            "parameters": dict(request.parameters),
            "title": _file_name(request.title),
            "limits": _LIMITS,
            "tool": shutil.which("dcm2niix"),
        }
        (self.directory / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")

    def results(self) -> list[UploadedFile]:
        """Return the files the programs made, durable, or complain that there are none."""
        found: list[UploadedFile] = []
        out = self.directory / "out"
        for path in sorted(out.rglob("*")):
            mode = path.lstat().st_mode
            if stat.S_ISREG(mode):  # what a link leads to is not what the program made
                sync_file(path)
                found.append(
                    UploadedFile(path.relative_to(out).as_posix(), path, path.stat().st_size, sha1_of(path))
                )
            if len(found) > _MAX_OUTPUT_FILES:
                raise RunFailedError(f"The program made more than {_MAX_OUTPUT_FILES} files.")
        if not found:
            raise RunFailedError("The program made no files.")
        return found


def _input_path(number: int) -> str:
    return f"in/{number + 1:06d}"


def _file_name(title: str) -> str:
    """Return *title* as a file name that no program mistakes for a path, an option or a pattern."""
    return re.sub(r"[\x00-\x1f/\\%:*?\"<>|]", "_", title)[:100].strip(" .-") or "results"


def _end_of(text: str) -> str:
    return text[-_MAX_STREAM_CHARACTERS:]


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a program that has not ended, with everything in its process group."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _still_there(db: sqlite3.Connection, request: RunRequest, locked_refuses: bool) -> Target:
    """Return the target, which may have been deleted or locked while the program ran."""
    target = request.target
    for source, id_ in (
        ("(SELECT * FROM folder WHERE trash IS NULL)", target.folder),
        ("live_exam", target.exam),
        ("live_series", target.series),
    ):
        if id_ is None:
            continue
        row = db.execute(f"SELECT locked FROM {source} WHERE id = ?", (id_,)).fetchone()
        if row is None:
            raise RunFailedError("The target was deleted while the task ran.")
        if row["locked"] and locked_refuses:
            raise RunFailedError("The target was locked while the task ran.")
    return target
