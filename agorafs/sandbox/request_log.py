"""The server's log files: one line for each request of the API, for administrators to read (S11, S12).

A line is ``time method path user address status bytes seconds``; ``-`` stands for what is not known, a status of 0 for
a connection that ended without an answer. Query strings are left out: they hold what people search for.

Files.  ``logs/requests-<number>.log`` below the data directory. One that has grown to ``_MAX_FILE_BYTES`` is followed
by the next number; the newest ``_KEPT`` are kept. The number is the file's id in the API.

Threads.  Writing belongs to the event loop: a line is one small write into the kernel's cache. Reading needs nothing
but the directory and may be done from any thread.

Failure.  A log that cannot be written is no reason to refuse a request: the line is lost.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import IO, NamedTuple

_MAX_FILE_BYTES = 1 << 20
_KEPT = 5
_NAME = re.compile(r"^requests-(\d{1,18})\.log$")


class LoggedRequest(NamedTuple):
    """One request; ``size`` is in bytes, ``duration_s`` in seconds."""

    time: str
    method: str
    path: str
    user: str | None
    address: str | None
    status: int
    size: int
    duration_s: float

    def line(self) -> str:
        return (
            f"{self.time} {self.method} {self.path} {self.user or '-'} {self.address or '-'} "
            f"{self.status} {self.size} {self.duration_s:.6f}\n"
        )


def log_directory(data: Path) -> Path:
    return data / "logs"


def log_files(data: Path) -> Mapping[int, Path]:
    """Return the log files of a data directory by number, oldest first."""
    found = {}
    directory = log_directory(data)
    if directory.is_dir():
        for path in directory.iterdir():
            match = _NAME.match(path.name)
            if match is not None:
                found[int(match[1])] = path
    return dict(sorted(found.items()))


class RequestLog:
    """The end of the log, open for writing. Event loop only."""

    def __init__(self, data: Path) -> None:
        log_directory(data).mkdir(exist_ok=True)
        self._data = data
        self._number = max(log_files(data), default=1)
        self._file = self._open()

    def _open(self) -> IO[str]:
        path = log_directory(self._data) / f"requests-{self._number}.log"
        return path.open("a", buffering=1, encoding="utf-8", errors="backslashreplace")

    def add(self, request: LoggedRequest) -> None:
        if self._file.closed:  # a request that a fault held until the server had stopped
            return
        with contextlib.suppress(OSError):
            if self._file.tell() >= _MAX_FILE_BYTES:
                self._file.close()
                self._number += 1
                self._file = self._open()
                for path in list(log_files(self._data).values())[:-_KEPT]:
                    path.unlink(missing_ok=True)
            self._file.write(request.line())

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._file.close()
