"""A small HTTP server that does as it is told: answers, hangs, drips, lies, and breaks off.

Why.  The client's promises are about servers that misbehave. Real server libraries do not misbehave on
request, so this one writes its answers to the socket itself.

Use.  ``server.on(path, *replies)`` gives the replies of a path (without query), in order; the last one stays.
A path nobody mentioned answers 404. ``server.seen`` holds every request that arrived.
``server.on_head(path, *replies)`` gives replies that come first, once each, and that take over before the body has been
read (``after_receiving``).

Threads.  One accepts, one per connection answers; ``close`` ends all of them. ``seen`` and the replies are
guarded by ``_lock``.
"""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, BinaryIO


@dataclass(frozen=True, slots=True)
class SeenRequest:
    """One request as it arrived; header names in lower case."""

    method: str
    target: str  # path and query as sent
    headers: Mapping[str, str]
    body: bytes
    connection: int  # number of the connection, from 0

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]


class Connection:
    """The server's end of one connection; what replies write to."""

    def __init__(self, sock: socket.socket, stream: BinaryIO, closing: threading.Event) -> None:
        self.socket = sock
        self.stream = stream  # what the client sends and nobody has read
        self.closing = closing  # set when the server ends; what a hanging reply waits for
        self.is_kept = False

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def send_head(self, status: int, headers: Mapping[str, str], reason: str = "Reason") -> None:
        lines = [
            f"HTTP/1.1 {status} {reason}",
            *(f"{name}: {value}" for name, value in headers.items()),
            "",
            "",
        ]
        self.send("\r\n".join(lines).encode("latin-1"))

    def reset(self) -> None:
        """Break off with a TCP reset instead of an orderly end."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


Reply = Callable[[Connection, SeenRequest], None]


def answer(
    body: bytes = b"", status: int = 200, headers: Mapping[str, str] | None = None, keep_alive: bool = True
) -> Reply:
    """A correct answer."""

    def reply(connection: Connection, request: SeenRequest) -> None:
        extra = {} if keep_alive else {"Connection": "close"}
        connection.send_head(status, {"Content-Length": str(len(body)), **extra, **(headers or {})})
        connection.send(body)
        connection.is_kept = keep_alive

    return reply


def answer_json(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    """A correct answer in JSON."""
    return answer(json.dumps(value).encode(), status, {"Content-Type": "application/json", **(headers or {})})


def answer_file(content: bytes, etag: str | None = None) -> Reply:
    """The content, or the part that ``Range`` asks for."""

    def reply(connection: Connection, request: SeenRequest) -> None:
        headers = {"Content-Type": "application/octet-stream"} | ({"ETag": etag} if etag else {})
        wanted = request.headers.get("range")
        if wanted is None or request.headers.get("if-range", etag) != etag:
            return answer(content, 200, headers)(connection, request)
        first, last = wanted.removeprefix("bytes=").split("-")
        stop = min(int(last) + 1, len(content))
        if int(first) >= len(content):
            return answer(b"", 416, {"Content-Range": f"bytes */{len(content)}"})(connection, request)
        headers["Content-Range"] = f"bytes {first}-{stop - 1}/{len(content)}"
        return answer(content[int(first) : stop], 206, headers)(connection, request)

    return reply


def reset() -> Reply:
    """No answer, the connection is reset."""
    return lambda connection, request: connection.reset()


def vanish() -> Reply:
    """No answer, the connection is closed."""
    return lambda connection, request: None


def after_receiving(count: int, then: Reply) -> Reply:
    """Read *count* bytes of the body, then do what *then* does; for ``on_head``."""

    def reply(connection: Connection, request: SeenRequest) -> None:
        connection.stream.read(count)
        then(connection, request)

    return reply


def receive_slowly(step_bytes: int, pause_s: float, then: Reply) -> Reply:
    """Read the body in steps with a pause before each; for ``on_head``. The pause is real: so is the client's wait."""

    def reply(connection: Connection, request: SeenRequest) -> None:
        left = int(request.headers["content-length"])
        while left and not connection.closing.wait(pause_s):
            left -= len(connection.stream.read(min(step_bytes, left)))
        then(connection, request)

    return reply


def hang() -> Reply:
    """No answer, ever."""

    def reply(connection: Connection, request: SeenRequest) -> None:
        connection.closing.wait()

    return reply


def break_off(
    body: bytes, after: int, then: Reply, status: int = 200, headers: Mapping[str, str] | None = None
) -> Reply:
    """The head and the first *after* bytes of *body*, then whatever *then* does (``vanish``, ``hang`` …)."""

    def reply(connection: Connection, request: SeenRequest) -> None:
        connection.send_head(status, {"Content-Length": str(len(body)), **(headers or {})})
        connection.send(body[:after])
        then(connection, request)

    return reply


def drip(step: Callable[[], None]) -> Reply:
    """An endless answer, a byte at a time; *step* is called before each."""

    def reply(connection: Connection, request: SeenRequest) -> None:
        connection.send_head(200, {"Content-Type": "application/json"})
        while not connection.closing.is_set():
            step()
            connection.send(b" ")

    return reply


def redirect(location: str, status: int = 302) -> Reply:
    return answer(b"elsewhere", status, {"Location": location})


def raw(data: bytes) -> Reply:
    """Exactly these bytes, then the end."""
    return lambda connection, request: connection.send(data)


class ScriptedServer:
    """Listens on 127.0.0.1; see the module."""

    def __init__(self, tls: ssl.SSLContext | None = None, *, receive_buffer: int | None = None) -> None:
        """Listen; the system takes no more than about *receive_buffer* bytes that nobody has read."""
        self._tls = tls
        self._lock = threading.Lock()
        self._seen: list[SeenRequest] = []
        self._replies: dict[str, list[Reply]] = {}
        self._head_replies: dict[str, list[Reply]] = {}
        self._closing = threading.Event()
        self._connections: list[tuple[threading.Thread, socket.socket]] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        if receive_buffer is not None:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.port: int = self._listener.getsockname()[1]
        self._acceptor = threading.Thread(target=self._accept, name="scripted-server")
        self._acceptor.start()

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def seen(self) -> list[SeenRequest]:
        with self._lock:
            return list(self._seen)

    def targets(self) -> list[str]:
        """Paths and queries of what arrived, in order."""
        return [request.target for request in self.seen]

    def authorizations(self) -> list[str | None]:
        """The ``Authorization`` of every request, in order."""
        return [request.headers.get("authorization") for request in self.seen]

    def on(self, path: str, *replies: Reply) -> None:
        with self._lock:
            self._replies[path] = list(replies)

    def on_head(self, path: str, *replies: Reply) -> None:
        with self._lock:
            self._head_replies[path] = list(replies)

    def close(self) -> None:
        self._closing.set()
        # Wakes accept(); closing the listener alone does not on Linux.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._acceptor.join()
        self._listener.close()
        for thread, sock in self._connections:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            number = len(self._connections)
            thread = threading.Thread(target=self._serve, args=(sock, number), name=f"scripted-{number}")
            self._connections.append((thread, sock))
            thread.start()

    def _serve(self, sock: socket.socket, number: int) -> None:
        # A client that gives up is part of most tests.
        with contextlib.suppress(OSError), sock:
            # Otherwise a body may wait for the acknowledgement of its head, and a reset after it drop it.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is not None:
                sock = self._tls.wrap_socket(sock, server_side=True)
            with sock, sock.makefile("rb") as stream:
                connection = Connection(sock, stream, self._closing)
                while request := self._read_head(stream, number):
                    connection.is_kept = False
                    early = self._next_head_reply(request)
                    if early is not None:
                        early(connection, request)
                        return
                    request = replace(
                        request, body=stream.read(int(request.headers.get("content-length", 0)))
                    )
                    self._next_reply(request)(connection, request)
                    if not connection.is_kept:
                        return

    @staticmethod
    def _read_head(stream: Any, number: int) -> SeenRequest | None:
        line = stream.readline().decode("latin-1").split()
        if len(line) != 3:
            return None
        headers = {}
        while (field := stream.readline().decode("latin-1").strip()) != "":
            name, _, value = field.partition(":")
            headers[name.lower()] = value.strip()
        return SeenRequest(line[0], line[1], headers, b"", number)

    def _next_head_reply(self, request: SeenRequest) -> Reply | None:
        with self._lock:
            replies = self._head_replies.get(request.path)
            if not replies:
                return None
            self._seen.append(request)
            return replies.pop(0)

    def _next_reply(self, request: SeenRequest) -> Reply:
        with self._lock:
            self._seen.append(request)
            replies = self._replies.get(request.path)
            if not replies:
                return answer_json({"detail": "Not found."}, 404)
            return replies.pop(0) if len(replies) > 1 else replies[0]
