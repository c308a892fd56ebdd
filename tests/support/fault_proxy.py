"""A proxy between a client and the sandbox that breaks chosen requests in chosen places.

Why.  The sandbox's own faults happen in the server, which knows about them. Here the network is at fault: neither
side is told, the server may have done what the client never hears of.

Use.  ``proxy = FaultProxy(sandbox.port)``; the client gets ``proxy.url``. ``rule = proxy.on("POST /upload/",
cut_request(1000), at=2)`` makes the second matching request break off after 1,000 bytes of its body. After the test,
``rule.struck`` says how often that happened: a test of a fault that did not happen has tested nothing. ``offline``
refuses and resets everything until ``online``.

What passes.  HTTP/1.1 with kept connections, bodies with ``Content-Length`` or in chunks; every client connection
has one connection of its own to the server, and ends when that ends. What no rule takes passes unchanged, except
that the proxy itself says ``100 Continue``.

Order.  A request is offered to the rules in the order they were made; the first that is due takes it. A rule counts
each request it matches and is offered.

Threads.  One accepts, one per connection passes bytes. ``_lock`` guards rules, connections and what was counted;
nothing is sent or received while it is held. ``offline`` and ``close`` end all threads of connections
before they return.
"""

from __future__ import annotations

import contextlib
import io
import select
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from io import BufferedReader

_PIECE_BYTES = 64 * 1024
_CONNECT_TIMEOUT_S = 10


class _BrokenOffError(Exception):
    """This connection is to be reset now: because a rule says so, or because the other side is gone."""


@dataclass(slots=True)
class Head:
    """The head of a request or answer as it came, and how its body is delimited."""

    raw: bytes
    first_line: str
    headers: Mapping[str, str]  # names in lower case

    @property
    def length(self) -> int | None:
        """The announced length of the body; None for one in chunks or without any announcement."""
        text = self.headers.get("content-length")
        return None if self.is_chunked or text is None else int(text)

    @property
    def is_chunked(self) -> bool:
        return "chunked" in self.headers.get("transfer-encoding", "").lower()

    @property
    def ends_connection(self) -> bool:
        return "close" in self.headers.get("connection", "").lower()


class Exchange:
    """One request under way: what actions do their work with."""

    def __init__(
        self,
        client: socket.socket,
        from_client: BufferedReader,
        request: Head,
        server: Callable[[], tuple[socket.socket, BufferedReader]],
        ended: threading.Event,
    ) -> None:
        self.client = client
        self.request = request
        self.method, self.target = request.first_line.split(" ")[:2]
        self.ended = ended
        self._from_client = from_client
        self._server = server

    def send_request(self, most_body_bytes: int | None = None) -> None:
        """Pass head and body to the server; no more of the body than that many bytes."""
        server, _ = self._server()
        server.sendall(self.request.raw)
        self._pass_body(self.request, self._from_client, server, most_body_bytes, may_be_open=False)

    def read_body(self) -> bytes:
        """Wait for the whole body and return it; whatever is done with the request afterwards finds it again."""
        wire, body = io.BytesIO(), []
        for framing, data in _body_pieces(self.request, self._from_client, may_be_open=False):
            wire.write(data)
            if not framing:
                body.append(data)
        wire.seek(0)
        self._from_client = BufferedReader(wire)
        return b"".join(body)

    def swallow_request(self) -> None:
        """Read the body and give it to nobody."""
        self._pass_body(self.request, self._from_client, None, None, may_be_open=False)

    def receive_head(self) -> Head:
        """Wait for the head of the server's answer; interim answers (1xx) stay here."""
        _, from_server = self._server()
        while True:
            head = read_head(from_server)
            if head is None:
                raise _BrokenOffError("the server ended the connection")
            if not head.first_line.split(" ")[1].startswith("1"):
                return head

    def has_body(self, answer: Head) -> bool:
        is_empty = self.method == "HEAD" or answer.first_line.split(" ")[1] in ("204", "304")
        return not is_empty and answer.length != 0

    def send_answer(self, head: Head, most_body_bytes: int | None = None) -> bool:
        """Pass the answer to the client; say whether the connection can be used again."""
        _, from_server = self._server()
        self.client.sendall(head.raw)
        if not self.has_body(head):
            return not head.ends_connection
        whole = self._pass_body(head, from_server, self.client, most_body_bytes, may_be_open=True)
        return whole and not head.ends_connection

    def _pass_body(
        self,
        head: Head,
        source: BufferedReader,
        to: socket.socket | None,
        most: int | None,
        *,
        may_be_open: bool,
    ) -> bool:
        """Pass a body; False when only its end was the end of the connection. Breaks off after *most* bytes."""
        left = most
        for framing, data in _body_pieces(head, source, may_be_open=may_be_open):
            if left is not None and not framing:
                data = data[:left]
                left -= len(data)
            if to is not None:
                try:
                    to.sendall(data)
                except OSError:
                    if to is self.client:
                        raise
                    to = None  # the server reads no further: it may have answered, and the answer counts
            if left == 0:
                raise _BrokenOffError("as the rule says")
        return head.is_chunked or head.length is not None or not may_be_open


# What a rule does with a request. Returns whether the client's connection stays; raises to reset it.
Action = Callable[[Exchange], bool]


def read_head(source: BufferedReader) -> Head | None:
    """Read up to the empty line; None when the other side ended the connection instead."""
    raw = first = source.readline()
    headers: dict[str, str] = {}
    while True:
        line = source.readline()
        if not line:
            return None
        raw += line
        if line in (b"\r\n", b"\n"):
            return Head(raw, first.decode("latin-1").strip(), headers)
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip()


def _body_pieces(head: Head, source: BufferedReader, *, may_be_open: bool) -> Iterator[tuple[bool, bytes]]:
    """Yield (is framing, bytes): the body as it is on the wire, chunk heads marked as framing."""
    if head.is_chunked:
        while True:
            line = source.readline()
            if not line:
                raise _BrokenOffError("the body ended early")
            yield True, line
            size = int(line.split(b";")[0], 16)
            if size == 0:
                while line not in (b"\r\n", b"\n", b""):  # trailers up to the empty line
                    line = source.readline()
                    yield True, line
                return
            yield from _counted(source, size)
            yield True, source.readline()
    elif head.length is not None:
        yield from _counted(source, head.length)
    elif may_be_open:  # an answer that lasts until the connection ends
        while data := source.read1(_PIECE_BYTES):
            yield False, data


def _counted(source: BufferedReader, size: int) -> Iterator[tuple[bool, bytes]]:
    while size:
        data = source.read1(min(size, _PIECE_BYTES))
        if not data:
            raise _BrokenOffError("the body ended early")
        size -= len(data)
        yield False, data


# -- what can happen to a request --------------------------------------------------------------------


def cut_request(after_bytes: int) -> Action:
    """Both connections break after so many bytes of the request's body; the server never has the whole."""

    def act(exchange: Exchange) -> bool:
        exchange.send_request(after_bytes)
        raise _BrokenOffError("as the rule says")

    return act


def lose_answer() -> Action:
    """The server carried the request out and answered; the client's connection breaks before it hears of it."""

    def act(exchange: Exchange) -> bool:
        exchange.send_request()
        exchange.receive_head()
        raise _BrokenOffError("as the rule says")

    return act


def cut_answer(after_bytes: int | None = None) -> Action:
    """The connection breaks after the answer's head and so many bytes of its body.

    Without a number in the middle of the body, of an answer without a body in the middle of its head.
    """

    def act(exchange: Exchange) -> bool:
        exchange.send_request()
        head = exchange.receive_head()
        if exchange.has_body(head):
            exchange.send_answer(head, (head.length or 2) // 2 if after_bytes is None else after_bytes)
        else:
            exchange.client.sendall(head.raw[: len(head.raw) // 2])
        raise _BrokenOffError("as the rule says")

    return act


def stall(*, carried_out: bool = False) -> Action:
    """Nothing ever comes back; the server got the request only if *carried_out*."""

    def act(exchange: Exchange) -> bool:
        if carried_out:
            exchange.send_request()
            exchange.receive_head()
        exchange.ended.wait()
        raise _BrokenOffError("the proxy ends")

    return act


def answer(status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Action:
    """The proxy answers itself; the server never sees the request."""

    def act(exchange: Exchange) -> bool:
        exchange.swallow_request()
        fields = {"Content-Type": "application/json", "Content-Length": str(len(body)), **(headers or {})}
        lines = [f"HTTP/1.1 {status} By the proxy", *(f"{name}: {value}" for name, value in fields.items())]
        exchange.client.sendall("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
        return True

    return act


def delay(seconds: float) -> Action:
    """The request reaches the server later; ends early when the proxy is closed."""

    def act(exchange: Exchange) -> bool:
        if exchange.ended.wait(seconds):
            raise _BrokenOffError("the proxy ends")
        return pass_on(exchange)

    return act


def pass_on(exchange: Exchange) -> bool:
    """What happens to a request that no rule takes."""
    exchange.send_request()
    return exchange.send_answer(exchange.receive_head())


@dataclass(slots=True)
class Rule:
    """``struck`` counts how often the action was done, ``matched`` the requests that were counted for it."""

    method: str
    part: str
    action: Action
    at: int
    times: int | None
    matched: int = 0
    struck: int = 0

    def takes(self, method: str, target: str) -> bool:
        if self.method not in ("", method) or self.part not in target:
            return False
        self.matched += 1
        if self.matched < self.at or (self.times is not None and self.struck >= self.times):
            return False
        self.struck += 1
        return True


@dataclass(eq=False, slots=True)
class _Connection:
    """A client's connection and, once there was a request, the one to the server."""

    client: socket.socket
    server: socket.socket | None = None
    thread: threading.Thread | None = None
    ended: threading.Event = field(default_factory=threading.Event)  # offline() or close() took it


class FaultProxy:
    """Listens on 127.0.0.1 and passes to ``127.0.0.1:server_port``; see the module."""

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._lock = threading.Lock()
        self._rules: list[Rule] = []
        self._connections: set[_Connection] = set()
        self._seen: list[str] = []
        self._accepted = 0
        with socket.create_server(("127.0.0.1", 0)) as chosen:
            self.port: int = chosen.getsockname()[1]
        # Bound to a port it names, the socket keeps it while it does not listen: offline() loses it to nobody.
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._acceptor: threading.Thread | None = None
        self.online()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> FaultProxy:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # -- what a test says ----------------------------------------------------------------------------

    def on(self, request: str, action: Action, *, at: int = 1, times: int | None = 1) -> Rule:
        """Do *action* with the *at*-th matching request from now on, and with the following up to *times*.

        *request* is a part of the path and query, with a method before it or not: ``POST /upload/``, ``/progress``.
        None as *times* means for ever.
        """
        method, space, part = request.partition(" ")
        rule = Rule(method if space else "", part if space else request, action, at, times)
        with self._lock:
            self._rules.append(rule)
        return rule

    def clear(self) -> None:
        """Forget all rules; requests that are stalled stay so."""
        with self._lock:
            self._rules.clear()

    @property
    def seen(self) -> list[str]:
        """Every request that came, in order: ``POST /api/v1/import/``."""
        with self._lock:
            return list(self._seen)

    @property
    def accepted(self) -> int:
        """How many connections clients made so far."""
        with self._lock:
            return self._accepted

    def offline(self) -> None:
        """Reset all connections and refuse new ones."""
        if self._acceptor is None:
            return
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept() and stops listening, keeps the port
        self._acceptor.join()
        self._acceptor = None
        with self._lock:
            connections = list(self._connections)
            for connection in connections:
                connection.ended.set()
        for connection in connections:
            for sock in (connection.client, connection.server):
                if sock is not None:
                    _shut(sock)
            assert connection.thread is not None
            connection.thread.join()

    def online(self) -> None:
        """Listen (again)."""
        if self._acceptor is not None:
            return
        self._listener.listen(128)
        self._acceptor = threading.Thread(target=self._accept, name="fault-proxy")
        self._acceptor.start()

    def close(self) -> None:
        self.offline()
        self._listener.close()

    # -- passing bytes -------------------------------------------------------------------------------

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = _Connection(client)
            connection.thread = threading.Thread(
                target=self._serve, args=(connection,), name="fault-proxy-connection"
            )
            with self._lock:
                self._accepted += 1
                self._connections.add(connection)
            connection.thread.start()

    def _serve(self, connection: _Connection) -> None:
        client = connection.client
        streams: list[BufferedReader] = []

        def server() -> tuple[socket.socket, BufferedReader]:
            if connection.server is None:
                upstream = socket.create_connection(("127.0.0.1", self._server_port), _CONNECT_TIMEOUT_S)
                upstream.settimeout(None)
                upstream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with self._lock:
                    connection.server = upstream
                    if connection.ended.is_set():
                        raise _BrokenOffError("offline")
                streams.append(upstream.makefile("rb"))
            assert connection.server is not None
            return connection.server, streams[0]

        try:
            with client.makefile("rb") as from_client:
                while _is_asked(connection) and (request := read_head(from_client)):
                    if "100-continue" in request.headers.get("expect", "").lower():
                        client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
                    exchange = Exchange(client, from_client, request, server, connection.ended)
                    is_kept = self._action_for(exchange)(exchange)
                    if not is_kept or request.ends_connection:
                        break
        except (_BrokenOffError, OSError):
            _reset_on_close(client)
            if connection.server is not None:
                _reset_on_close(connection.server)
        finally:
            with self._lock:
                self._connections.discard(connection)
            for stream in streams:
                stream.close()
            if connection.server is not None:
                connection.server.close()
            client.close()

    def _action_for(self, exchange: Exchange) -> Action:
        with self._lock:
            self._seen.append(f"{exchange.method} {exchange.target}")
            for rule in self._rules:
                if rule.takes(exchange.method, exchange.target):
                    return rule.action
        return pass_on


def _is_asked(connection: _Connection) -> bool:
    """Wait for the next request; False when the server ends its connection first, as an idle one may be."""
    if connection.server is None:
        return True
    ready, _, _ = select.select([connection.client, connection.server], [], [])
    return connection.client in ready


def _reset_on_close(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _shut(sock: socket.socket) -> None:
    """Wake the thread that reads or writes *sock*; that thread closes it."""
    with contextlib.suppress(OSError):
        _reset_on_close(sock)
        sock.shutdown(socket.SHUT_RDWR)
