"""What the tests of the client share: a scripted server, a clock that stands still, transports that get closed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from agorafs.client import ApiKey, Client, Timeouts, Transport
from tests.support.http_server import ScriptedServer
from tests.support.manual_clock import ManualClock
from tests.support.sandbox import SandboxProcess

KEY = "0f8fad5b-d9cb-469f-a165-70867728950e"

# The waits inside sockets are real; a test that lets one end must not take long.
BRIEF = Timeouts(connect_s=2.0, first_byte_s=0.05, between_bytes_s=0.05)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    server = ScriptedServer()
    yield server
    server.close()


MakeTransport = Callable[..., Transport]


@pytest.fixture
def make_transport(server: ScriptedServer, clock: ManualClock) -> Iterator[MakeTransport]:
    """Make transports to *server* (or another URL) that are closed before the server is."""
    with ExitStack() as stack:

        def make(url: str | None = None, credential: Any = None, **arguments: Any) -> Transport:
            arguments = {"clock": clock, "random": lambda: 1.0, **arguments}
            transport = Transport(url or server.url, credential or ApiKey(KEY), **arguments)
            stack.callback(transport.close)
            return transport

        yield make


@pytest.fixture
def transport(make_transport: MakeTransport) -> Transport:
    return make_transport()


@pytest.fixture
def client(transport: Transport) -> Client:
    return Client(transport)


# -- the embedded server -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    """A server with the demo, one for each module."""
    with SandboxProcess(tmp_path_factory.mktemp("sandbox") / "data", seed="demo") as sandbox:
        yield sandbox


@pytest.fixture
def sandbox_client(sandbox: SandboxProcess) -> Iterator[Client]:
    """A client of it; pauses between attempts pass at once."""
    timeouts = Timeouts(first_byte_s=10, deadline_s=30)
    transport = Transport(sandbox.url, ApiKey(sandbox.api_key), timeouts=timeouts, clock=ManualClock())
    yield Client(transport)
    transport.close()
