"""Uploads: the same bytes at every attempt, no listing behind them, and patience with what moves."""

from __future__ import annotations

import gc
import random
import ssl
import threading
import time

import pytest
import trustme

from agorafs.client import Timeouts
from agorafs.client.multipart import FilePart
from agorafs.errors import (
    AlreadyExists,
    NotSupported,
    PermissionDenied,
    ProtocolError,
    RemoteTimeout,
    RemoteUnavailable,
    TooLarge,
)
from tests.support.http_server import (
    ScriptedServer,
    after_receiving,
    answer,
    answer_json,
    hang,
    receive_slowly,
    redirect,
    reset,
    vanish,
)

PATH = "/api/v1/import/7/upload/"
LISTING = "/api/v2/project/"
MIB = 1024 * 1024

# More than the buffers of both ends take.
LARGE = random.Random(1).randbytes(24 * MIB)


def send(transport, data=b"content", fields=None, **options):
    options = {"may_repeat": True, **options}
    transport.post_multipart(PATH, fields or {"name": "a"}, FilePart("file", "chunk", data), **options)


def parts_of(request):
    """Return the parts of a multipart body, name to (headers, bytes); the body must be nothing else."""
    kind, _, boundary = request.headers["content-type"].partition("; boundary=")
    assert kind == "multipart/form-data"
    delimiter = b"\r\n--" + boundary.encode()
    start, *parts, end = (b"\r\n" + request.body).split(delimiter)
    assert (start, end) == (b"", b"--\r\n")
    found = {}
    for part in parts:
        head, _, content = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        name = head.decode().partition('; name="')[2].partition('"')[0]
        assert name not in found
        found[name] = (head.decode().split("\r\n"), content)
    return found


@pytest.fixture
def in_background():
    """Run something in a thread; its result, or what it raised, is in the list that is returned."""
    threads = []

    def start(function):
        outcome = []

        def run():
            try:
                outcome.append(function())
            except Exception as error:  # noqa: BLE001 - handed to the test
                outcome.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        threads.append(thread)
        return thread, outcome

    yield start
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()


class Arrival:
    """A reply that tells when the head of a request is there, and then does what *then* does."""

    def __init__(self, then):
        self.event = threading.Event()
        self._then = then

    def __call__(self, connection, request):
        self.event.set()
        self._then(connection, request)

    def wait(self):
        assert self.event.wait(30)


# -- what is sent ------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 256 * 1024 - 1, 256 * 1024, 256 * 1024 + 1, 3_000_000])
def test_the_bytes_arrive_with_their_length_announced(server, transport, size):
    content = LARGE[:size]
    server.on(PATH, answer_json({}))
    send(transport, memoryview(content), {"a": "1", "description": ""})
    (request,) = server.seen
    assert "transfer-encoding" not in request.headers
    assert int(request.headers["content-length"]) == len(request.body)
    parts = parts_of(request)
    assert list(parts) == ["a", "description", "file"]
    assert parts["a"] == (['Content-Disposition: form-data; name="a"'], b"1")
    assert parts["description"][1] == b""
    assert parts["file"] == (
        [
            'Content-Disposition: form-data; name="file"; filename="chunk"',
            "Content-Type: application/octet-stream",
        ],
        content,
    )


NAMES = [
    "plain.dat",
    "ü/日本語/\U0001f9e0.dcm",
    "e\u0301 and \u00e9",
    "\U0001f9e0" * 63 + "abc",  # 255 bytes
    "sub/" + "x" * 255,
    "quote\" and 'quote'",
    "back\\slash\\",
    " blanks around ",
    'a"\r\nContent-Type: text/html\r\n\r\n<script>',
    'x\r\n--boundary\r\nContent-Disposition: form-data; name="flowIdentifier"\r\n\r\nother',
    "percent%22%0d%0a",
    "semi;colon; filename=other",
    "\x01\x7f\u2028",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_of_any_kind_arrives_exactly_and_changes_nothing_else(server, transport, name):
    server.on(PATH, answer_json({}))
    send(transport, b"content", {"first": "1", "flowFilename": name, "last": "2"})
    parts = parts_of(server.seen[0])
    assert {key: content for key, (_, content) in parts.items()} == {
        "first": b"1",
        "flowFilename": name.encode(),
        "last": b"2",
        "file": b"content",
    }


def test_a_name_that_is_not_unicode_is_refused_before_anything_is_sent(server, transport):
    with pytest.raises(NotSupported, match="rename"):
        send(transport, fields={"flowFilename": b"caf\xe9".decode(errors="surrogateescape")})
    assert server.seen == []


def test_an_upload_over_tls_arrives(tmp_path, make_transport):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    server = ScriptedServer(context)
    try:
        transport = make_transport(server.url, verify=tmp_path / "ca.pem")
        server.on(PATH, answer_json({}))
        for _ in range(2):  # the second on the connection of the first
            send(transport, LARGE[: 5 * MIB])
        assert [parts_of(request)["file"][1] for request in server.seen] == [LARGE[: 5 * MIB]] * 2
        assert [request.connection for request in server.seen] == [0, 0]
        transport.close()
    finally:
        server.close()


# -- what is sent again ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "passing",
    [
        after_receiving(0, reset()),
        after_receiving(300_000, reset()),
        after_receiving(300_000, vanish()),
        after_receiving(len(LARGE), reset()),
    ],
    ids=["at once", "reset in the middle", "closed in the middle", "reset near the end"],
)
def test_after_a_lost_connection_the_same_bytes_are_sent_from_the_start(server, transport, passing):
    server.on_head(PATH, passing, passing)
    server.on(PATH, answer_json({}))
    send(transport, LARGE)
    assert len(server.seen) == 3
    assert parts_of(server.seen[-1])["file"][1] == LARGE
    assert len({request.headers["content-type"] for request in server.seen}) == 1


@pytest.mark.parametrize(
    "lost", [reset(), vanish(), answer(b"", 502), answer(b"", 503, {"Retry-After": "2"})]
)
def test_when_the_answer_is_lost_the_same_bytes_are_sent_again(server, transport, lost):
    server.on(PATH, lost, answer_json({}))
    send(transport, LARGE[:MIB])
    first, second = server.seen
    assert first.body == second.body
    assert parts_of(second)["file"][1] == LARGE[:MIB]


def test_an_upload_that_may_not_be_repeated_is_sent_once(server, transport):
    server.on(PATH, vanish(), answer_json({}))
    with pytest.raises(RemoteUnavailable):
        send(transport, may_repeat=False)
    assert len(server.seen) == 1


def test_the_deadline_ends_the_attempts(server, transport, clock):
    server.on(PATH, answer(b"", 503, {"Retry-After": "4"}))
    begin = clock.now
    with pytest.raises(RemoteUnavailable, match="attempts"):
        send(transport, deadline_s=10)
    assert clock.now - begin <= 10
    assert len(server.seen) == 3


# -- refusals ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "error"),
    [(400, ProtocolError), (403, PermissionDenied), (409, AlreadyExists), (413, TooLarge)],
)
def test_a_refused_upload_has_its_error_and_is_not_repeated(server, transport, status, error):
    server.on(PATH, answer_json({"detail": "the server's words"}, status))
    with pytest.raises(error, match="the server's words"):
        send(transport, LARGE[:MIB], deadline_s=5)
    assert len({request.body for request in server.seen}) == 1


@pytest.mark.parametrize("then", [reset(), vanish()])
def test_a_server_that_refuses_early_and_hangs_up_is_heard(server, transport, then):
    """Front ends answer 413 when they have seen the announced length, and read no further."""

    def refuse(connection, request):
        answer_json({"detail": "at most 8 MiB"}, 413)(connection, request)
        then(connection, request)

    server.on_head(PATH, after_receiving(100_000, refuse))
    with pytest.raises(TooLarge, match="at most 8 MiB"):
        send(transport, LARGE)
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    "reply",
    [
        answer(b"<html>Log in</html>", headers={"Content-Type": "text/html; charset=utf-8"}),
        answer_json({}, 202),
        redirect("/elsewhere/"),
    ],
    ids=["page", "202", "redirect"],
)
def test_what_is_no_acknowledgement_is_not_taken_for_one(server, transport, reply):
    server.on(PATH, reply)
    with pytest.raises(ProtocolError):
        send(transport)
    assert len(server.seen) == 1


@pytest.mark.parametrize("body", [b"", b"ok", b'{"done": true}'])
def test_what_an_acknowledgement_says_does_not_matter(server, transport, body):
    server.on(PATH, answer(body))
    send(transport)


# -- patience ----------------------------------------------------------------------------------------


@pytest.fixture
def slow_server():
    """Its system takes next to nothing that it has not read, so that the client sees how fast it reads."""
    server = ScriptedServer(receive_buffer=32 * 1024)
    yield server
    server.close()


def test_an_upload_that_moves_slowly_is_not_cut_off(slow_server, make_transport):
    """It takes longer than any single limit."""
    slow_server.on_head(PATH, receive_slowly(2 * MIB, 0.15, answer_json({})))
    timeouts = Timeouts(connect_s=1, first_byte_s=1, between_bytes_s=1, answer_s=1)
    begin = time.monotonic()
    send(make_transport(slow_server.url, timeouts=timeouts), LARGE, deadline_s=1)
    assert time.monotonic() - begin > 1
    assert len(slow_server.seen) == 1


def test_the_wait_for_the_answer_begins_when_the_server_has_everything(slow_server, make_transport):
    """The system takes the whole body at once, and the server gets it over a longer time than the answer may take."""
    slow_server.on_head(PATH, receive_slowly(64 * 1024, 0.15, answer_json({})))
    timeouts = Timeouts(between_bytes_s=1, answer_s=1)
    begin = time.monotonic()
    send(make_transport(slow_server.url, timeouts=timeouts), LARGE[: 768 * 1024])
    assert time.monotonic() - begin > 1
    assert len(slow_server.seen) == 1


@pytest.mark.parametrize("size", [len(LARGE), 768 * 1024], ids=["while sending", "in the system's buffer"])
def test_an_upload_that_stalls_has_failed_and_is_sent_again(slow_server, make_transport, size):
    slow_server.on_head(PATH, after_receiving(100_000, hang()))
    slow_server.on(PATH, answer_json({}))
    transport = make_transport(slow_server.url, timeouts=Timeouts(between_bytes_s=0.3))
    with pytest.raises(RemoteTimeout, match=r"took no byte for 0\.3 s"):
        send(transport, LARGE[:size], may_repeat=False)
    slow_server.on_head(PATH, after_receiving(100_000, hang()))
    send(transport, LARGE[:size])
    assert parts_of(slow_server.seen[-1])["file"][1] == LARGE[:size]


def test_a_server_that_never_answers_an_upload_is_given_up(server, make_transport):
    server.on(PATH, hang())
    transport = make_transport(timeouts=Timeouts(first_byte_s=30, answer_s=0.2))
    with pytest.raises(RemoteTimeout, match="no answer in time"):
        send(transport, may_repeat=False)


def test_an_answer_after_the_deadline_is_taken(server, transport, clock):
    """The deadline is for beginning; what has arrived is not sent again because it took long."""

    def late(connection, request):
        clock.advance(1000)
        answer_json({})(connection, request)

    server.on(PATH, late)
    send(transport, deadline_s=5)
    assert len(server.seen) == 1


# -- beside others -----------------------------------------------------------------------------------


def test_listings_do_not_wait_behind_uploads_and_downloads(server, make_transport, in_background):
    """Even where both have taken all the connections they may have, and more uploads wait for one."""
    transport = make_transport(connections=4)
    arrivals = [Arrival(hang()) for _ in range(2)]
    server.on_head(PATH, *arrivals)
    server.on(LISTING, answer_json([]))
    server.on("/download/", answer(b"content"))
    uploads = [in_background(lambda: send(transport, may_repeat=False)) for _ in range(5)]
    for arrival in arrivals:
        arrival.wait()
    with transport.open_body("/download/", deadline_s=5), transport.open_body("/download/", deadline_s=5):
        for _ in range(3):
            assert transport.get_json(LISTING, deadline_s=5) == []
    assert server.targets().count(PATH) == 2
    transport.abort_uploads()
    for thread, outcome in uploads:
        thread.join(30)
        assert isinstance(outcome[0], RemoteUnavailable)


def test_uploads_that_are_broken_off_end_at_once_and_no_other_begins(server, transport, in_background):
    arrivals = [Arrival(after_receiving(MIB, hang())), Arrival(after_receiving(len(LARGE), hang()))]
    server.on_head(PATH, *arrivals)
    server.on(LISTING, answer_json([]))
    uploads = [in_background(lambda: send(transport, LARGE)) for _ in range(2)]
    for arrival in arrivals:
        arrival.wait()
    transport.abort_uploads()
    for thread, outcome in uploads:
        thread.join(30)
        assert type(outcome[0]) is RemoteUnavailable
    with pytest.raises(RemoteUnavailable, match="uploads have ended"):
        send(transport)
    assert len(server.seen) == 2
    assert transport.get_json(LISTING) == []


def test_connections_of_uploads_are_used_again_by_whoever_comes_next(server, transport):
    server.on(PATH, answer_json({}))
    server.on(LISTING, answer_json([]))
    send(transport)
    transport.get_json(LISTING)
    transport.abort_uploads()
    transport.get_json(LISTING)
    assert [request.connection for request in server.seen] == [0, 0, 0]


def test_an_idle_connection_does_not_keep_the_bytes_of_its_last_upload(server, transport):
    server.on(PATH, answer_json({}))
    content = bytearray(MIB)
    send(transport, memoryview(content).toreadonly())
    gc.collect()
    content.clear()  # refused while anything holds a view
    assert len(parts_of(server.seen[0])["file"][1]) == MIB
