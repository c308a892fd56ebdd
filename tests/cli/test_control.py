"""The control socket: who may ask, what is answered, and what a bad question does."""

import contextlib
import json
import socket
import threading
from pathlib import Path

import pytest

from agorafs import control
from agorafs.control import ControlServer, ask, socket_path
from agorafs.errors import ExitStatus, NotFound, UsageError
from agorafs.private_directory import make_private_directory
from agorafs.registry import mounts_directory

MOUNTPOINT = Path("/mnt/agora")


@pytest.fixture
def serve(tmp_path):
    """Return a function that starts a server with handlers in ``tmp_path``; all are closed at the end."""
    servers = []

    def start(**handlers):
        make_private_directory(mounts_directory(tmp_path))
        server = ControlServer(socket_path(tmp_path, MOUNTPOINT), handlers)
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.close()


def raw(tmp_path, sent):
    """Send bytes, end the sending side, and return all that comes back; nothing when the line is cut."""
    received = b""
    with socket.socket(socket.AF_UNIX) as connection, contextlib.suppress(ConnectionError):
        connection.settimeout(10)
        with control._short_address(socket_path(tmp_path, MOUNTPOINT)) as address:
            connection.connect(address)
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        while part := connection.recv(65536):
            received += part
    return received


def test_a_question_is_answered_by_the_handler_of_its_command(serve, tmp_path):
    serve(refresh=lambda request: {"path": request["path"]})
    answer = ask(tmp_path, MOUNTPOINT, {"command": "refresh", "path": "/projects/Größe"}, timeout_s=10)
    assert answer == {"path": "/projects/Größe"}


def test_a_name_that_is_not_utf_8_travels_unchanged(serve, tmp_path):
    serve(refresh=lambda request: {"path": request["path"]})
    name = b"/projects/\xff".decode("utf-8", "surrogateescape")
    assert ask(tmp_path, MOUNTPOINT, {"command": "refresh", "path": name}, timeout_s=10) == {"path": name}


def test_a_refusal_brings_its_words_and_its_exit_status(serve, tmp_path):
    def refuse(request):
        raise UsageError("no such thing here", ExitStatus.MOUNT_POINT)

    serve(refresh=refuse)
    with pytest.raises(UsageError, match="no such thing here") as refused:
        ask(tmp_path, MOUNTPOINT, {"command": "refresh"}, timeout_s=10)
    assert refused.value.exit_status is ExitStatus.MOUNT_POINT


def test_an_error_of_the_archive_is_a_refusal_too(serve, tmp_path):
    def refuse(request):
        raise NotFound("/projects/x")

    serve(refresh=refuse)
    with pytest.raises(UsageError, match="/projects/x") as refused:
        ask(tmp_path, MOUNTPOINT, {"command": "refresh"}, timeout_s=10)
    assert refused.value.exit_status is ExitStatus.FAILED


def test_a_bug_in_a_handler_is_logged_and_answered_without_details(serve, tmp_path, caplog):
    def fail(request):
        raise ZeroDivisionError("detail")

    serve(status=fail)
    with pytest.raises(UsageError, match="internal error") as refused:
        ask(tmp_path, MOUNTPOINT, {"command": "status"}, timeout_s=10)
    assert refused.value.exit_status is ExitStatus.BUG
    assert "detail" not in str(refused.value)
    assert "ZeroDivisionError: detail" in caplog.text


@pytest.mark.parametrize(
    "line", [b"", b"\n", b"nonsense\n", b"[1]\n", b'{"command": "explode"}\n', b"{}\n", b"[" * 60000 + b"\n"]
)
def test_a_line_that_is_not_a_question_is_refused_and_the_next_is_answered(serve, tmp_path, line):
    serve(ping=lambda request: {})
    answer = json.loads(raw(tmp_path, line))
    assert answer["ok"] is False
    assert answer["exit_status"] == ExitStatus.USAGE
    assert ask(tmp_path, MOUNTPOINT, {"command": "ping"}, timeout_s=10) == {}


def test_an_endless_question_is_cut_off(serve, tmp_path, monkeypatch):
    monkeypatch.setattr(control, "MAX_REQUEST_BYTES", 1 << 20)
    serve(ping=lambda request: {})
    assert raw(tmp_path, b"x" * (8 << 20)) == b""
    assert ask(tmp_path, MOUNTPOINT, {"command": "ping"}, timeout_s=10) == {}


def test_a_question_that_would_be_cut_off_is_not_asked(serve, tmp_path, monkeypatch):
    serve(ping=lambda request: {})
    monkeypatch.setattr(control, "MAX_REQUEST_BYTES", 1 << 20)
    with pytest.raises(UsageError, match="too many names for one command") as refused:
        ask(tmp_path, MOUNTPOINT, {"command": "ping", "files": ["x" * (1 << 20)]}, timeout_s=10)
    assert refused.value.exit_status is ExitStatus.USAGE


def test_the_names_of_a_hundred_thousand_files_are_one_question(serve, tmp_path):
    serve(count=lambda request: {"files": len(request["files"])})
    files = [
        (f"/data/scanner/2026/study-{number:06d}/image.dcm", f"{number:06d}.dcm") for number in range(100_000)
    ]
    answer = ask(tmp_path, MOUNTPOINT, {"command": "count", "files": files}, timeout_s=60)
    assert answer == {"files": 100_000}


def test_another_user_is_not_answered(serve, tmp_path, monkeypatch):
    serve(ping=lambda request: {})
    monkeypatch.setattr(control, "_peer_uid", lambda connection: 4242)
    assert raw(tmp_path, b'{"command": "ping"}\n') == b""


def test_a_slow_question_does_not_hold_up_another(serve, tmp_path):
    may_end = threading.Event()
    has_begun = threading.Event()

    def wait(request):
        has_begun.set()
        may_end.wait(30)
        return {}

    serve(slow=wait, ping=lambda request: {})
    slow = threading.Thread(
        target=ask, args=(tmp_path, MOUNTPOINT, {"command": "slow"}), kwargs={"timeout_s": 30}
    )
    slow.start()
    assert has_begun.wait(10)
    assert ask(tmp_path, MOUNTPOINT, {"command": "ping"}, timeout_s=10) == {}
    may_end.set()
    slow.join(10)
    assert not slow.is_alive()


def test_a_process_that_does_not_answer_is_given_up(serve, tmp_path):
    may_end = threading.Event()

    def wait(request):
        may_end.wait(30)
        return {}

    serve(status=wait)
    with pytest.raises(UsageError, match="does not answer within") as refused:
        ask(tmp_path, MOUNTPOINT, {"command": "status"}, timeout_s=0.05)
    may_end.set()
    assert refused.value.exit_status is ExitStatus.UNAVAILABLE


def test_no_process_no_answer(serve, tmp_path):
    with pytest.raises(UsageError, match="can not be reached"):
        ask(tmp_path, MOUNTPOINT, {"command": "ping"}, timeout_s=10)
    server = serve(ping=lambda request: {})
    server.close()
    server.close()
    with pytest.raises(UsageError, match="can not be reached") as refused:
        ask(tmp_path, MOUNTPOINT, {"command": "ping"}, timeout_s=10)
    assert refused.value.exit_status is ExitStatus.UNAVAILABLE
    assert not socket_path(tmp_path, MOUNTPOINT).exists()


def test_a_socket_left_by_a_crash_is_replaced(serve, tmp_path):
    make_private_directory(mounts_directory(tmp_path))
    dead = socket.socket(socket.AF_UNIX)
    with control._short_address(socket_path(tmp_path, MOUNTPOINT)) as address:
        dead.bind(address)
    dead.close()
    serve(ping=lambda request: {})
    assert ask(tmp_path, MOUNTPOINT, {"command": "ping"}, timeout_s=10) == {}


def test_a_state_directory_may_be_deeper_than_a_socket_address_is_long(tmp_path):
    state = tmp_path / ("d" * 120) / ("e" * 120)
    make_private_directory(mounts_directory(state))
    server = ControlServer(socket_path(state, MOUNTPOINT), {"ping": lambda request: {}})
    assert ask(state, MOUNTPOINT, {"command": "ping"}, timeout_s=10) == {}
    assert socket_path(state, MOUNTPOINT).stat().st_mode & 0o777 == 0o600
    server.close()
