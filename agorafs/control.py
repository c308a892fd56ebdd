"""The socket through which the commands (``status``, ``sync``, ``upload``, …) talk to the process of a mount.

Why.  Asking through the mount itself would need a file there for every question, and would not work when the
mount is what is being asked about.

Form.  A Unix socket beside the mount's record, mode 0600 in a directory of mode 0700. One line of JSON asks,
``{"command": "status"}`` or ``{"command": "refresh", "path": "/projects/…"}``; one line answers,
``{"ok": true, …}`` or ``{"ok": false, "error": …, "exit_status": …}``; then the connection is closed. Who waits for
something that takes long asks again and again: no answer takes longer than a request to the server. JSON is
ASCII: a name that is not UTF-8 travels as lone surrogates. Besides the modes, the kernel tells who asks
(SO_PEERCRED): only this user and root are answered.

Threads.  One thread accepts; each connection has a short-lived thread of its own, at most
``_MAX_CONNECTIONS`` at once, and the handlers run there. ``close`` may be called from any thread, and more
than once.

Units.  Seconds and bytes. A peer that says nothing is dropped after ``_PEER_TIMEOUT_S``.

Failure.  A handler's ``AgoraFSError`` is the answer; anything else is logged with its traceback and
answered as a bug. ``ask`` raises ``UsageError`` with the answer's words and status.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import struct
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from agorafs.errors import AgoraFSError, BadCommand, ExitStatus, UsageError
from agorafs.mount_requests import Handler
from agorafs.registry import mount_id, mounts_directory

_LOGGER = logging.getLogger(__name__)

MAX_REQUEST_BYTES = 64 * 1024 * 1024  # the names of some 250,000 files for ``agorafs upload``
_MAX_ANSWER_BYTES = 4 * 1024 * 1024
_MAX_CONNECTIONS = 8
_PEER_TIMEOUT_S = 5.0


def socket_path(state_directory: Path, mountpoint: Path) -> Path:
    """Return where the socket of *mountpoint* (absolute, resolved) is."""
    return mounts_directory(state_directory) / f"{mount_id(mountpoint)}.sock"


@contextlib.contextmanager
def _short_address(path: Path) -> Iterator[str]:
    # A socket's address has room for 107 bytes, a state directory may be deeper: the directory is opened and
    # named by its number.
    descriptor = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{path.name}"
    finally:
        os.close(descriptor)


class ControlServer:
    """Answers on the socket of one mount until closed.

    Given: ``path``, ``handlers`` by command. Fixed: the listening socket, the accepting thread. Nothing else
    changes, hence no lock; the number of connections is held by a semaphore.

    The caller must hold the mount's registration: then a socket that is still there is a dead one's.
    """

    def __init__(self, path: Path, handlers: Mapping[str, Handler]) -> None:
        self._path = path
        self._handlers = handlers
        self._free_places = threading.BoundedSemaphore(_MAX_CONNECTIONS)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            path.unlink(missing_ok=True)
            with _short_address(path) as address:
                self._listener.bind(address)
            path.chmod(0o600)
            self._listener.listen(_MAX_CONNECTIONS)
        except OSError as error:
            self._listener.close()
            raise UsageError(
                f"the control socket {path} can not be made: {error.strerror}", ExitStatus.CACHE_DIRECTORY
            ) from None
        self._thread = threading.Thread(target=self._accept_all, name="control", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop answering and remove the socket. Does not wait for a request that is being handled."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread out of accept
        self._thread.join(_PEER_TIMEOUT_S)
        self._listener.close()
        self._path.unlink(missing_ok=True)

    def _accept_all(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return  # closed
            if not self._free_places.acquire(blocking=False):
                connection.close()
                continue
            threading.Thread(
                target=self._serve, args=(connection,), name="control-connection", daemon=True
            ).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection:
                connection.settimeout(_PEER_TIMEOUT_S)
                if _peer_uid(connection) in (0, os.geteuid()):
                    answer = self._answer(_read_line(connection, MAX_REQUEST_BYTES))
                    connection.sendall(json.dumps(answer).encode("ascii") + b"\n")
        except OSError as error:
            _LOGGER.debug("a control connection ended early: %s", error)
        finally:
            self._free_places.release()

    def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            request = _parse_object(line)
            handler = self._handlers.get(str(request.get("command")))
            if handler is None:
                raise BadCommand(f"unknown command; known are: {', '.join(sorted(self._handlers))}")
            return {"ok": True, **handler(request)}
        except AgoraFSError as error:
            return {"ok": False, "error": str(error), "exit_status": int(error.exit_status)}
        except Exception:
            _LOGGER.exception("a control command failed")
            return {"ok": False, "error": "internal error, see the log", "exit_status": int(ExitStatus.BUG)}


def ask(
    state_directory: Path, mountpoint: Path, request: Mapping[str, object], *, timeout_s: float
) -> dict[str, Any]:
    """Send *request* to the process that serves *mountpoint* and return its answer, without ``ok``.

    Raises:
        UsageError: UNAVAILABLE when the process is not there or does not answer within *timeout_s*; USAGE when
            *request* is too long; else what it answered.
    """
    path = socket_path(state_directory, mountpoint)
    line = json.dumps(request).encode("ascii") + b"\n"
    if len(line) > MAX_REQUEST_BYTES:
        raise UsageError("these are too many names for one command: give it parts of them", ExitStatus.USAGE)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout_s)
            with _short_address(path) as address:
                connection.connect(address)
            connection.sendall(line)
            answer = _parse_object(_read_line(connection, _MAX_ANSWER_BYTES))
    except TimeoutError:
        raise UsageError(
            f"the process of {mountpoint} does not answer within {timeout_s:g} s", ExitStatus.UNAVAILABLE
        ) from None
    except (OSError, BadCommand):
        raise UsageError(f"the process of {mountpoint} can not be reached", ExitStatus.UNAVAILABLE) from None
    if answer.pop("ok", False) is True:
        return answer
    raise UsageError(str(answer.get("error", "refused")), _exit_status(answer.get("exit_status")))


def _exit_status(number: object) -> ExitStatus:
    known = {int(status): status for status in ExitStatus}
    return known.get(number, ExitStatus.FAILED) if isinstance(number, int) else ExitStatus.FAILED


def _peer_uid(connection: socket.socket) -> int:
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    uid: int = struct.unpack("3i", credentials)[1]  # pid, uid, gid
    return uid


def _read_line(connection: socket.socket, max_bytes: int) -> bytes:
    parts = bytearray()
    while not parts.endswith(b"\n"):
        part = connection.recv(65536)
        if not part:
            break
        parts += part
        if len(parts) > max_bytes:
            raise OSError(f"more than {max_bytes} bytes")
    return bytes(parts)


def _parse_object(line: bytes) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise BadCommand("not a line with a JSON object")
    return value
