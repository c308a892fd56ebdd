"""Bodies: ranges honoured, ignored and wrong; bodies that end too early; connections that come back."""

from __future__ import annotations

import threading

import pytest

from agorafs.byterange import ByteRange
from agorafs.client import UNKNOWN_STOP, RangeNotHonoured, Timeouts
from agorafs.errors import (
    NotAuthenticated,
    NotFound,
    PermissionDenied,
    ProtocolError,
    RemoteTimeout,
    RemoteUnavailable,
)
from tests.support.http_server import (
    answer,
    answer_file,
    answer_json,
    break_off,
    hang,
    raw,
    redirect,
    reset,
    vanish,
)

PATH = "/api/v1/datafile/5/download/"
CONTENT = bytes(range(256)) * 5000


def read_all(body, room=100_000):
    """Read to the end, as the content cache does."""
    view = memoryview(bytearray(room))
    pieces = []
    while count := body.readinto(view):
        pieces.append(bytes(view[:count]))
    return b"".join(pieces)


def test_a_whole_download_has_every_byte(server, transport):
    server.on(PATH, answer_file(CONTENT, etag='"v1"'))
    with transport.open_body(PATH) as body:
        assert body.byte_range == ByteRange(0, len(CONTENT))
        assert not body.is_partial
        assert body.total == len(CONTENT)
        assert body.etag == '"v1"'
        assert body.content_type == "application/octet-stream"
        assert read_all(body) == CONTENT
    headers = server.seen[0].headers
    assert headers["accept-encoding"] == "identity"
    assert "range" not in headers


def test_an_empty_download_ends_at_once(server, transport):
    server.on(PATH, answer_file(b""))
    with transport.open_body(PATH) as body:
        assert body.byte_range == ByteRange(0, 0)
        assert read_all(body) == b""


def test_a_range_is_asked_for_and_held(server, transport):
    server.on(PATH, answer_file(CONTENT))
    with transport.open_body(PATH, ByteRange(1000, 300_000)) as body:
        assert body.byte_range == ByteRange(1000, 300_000)
        assert body.is_partial
        assert body.total == len(CONTENT)
        assert read_all(body) == CONTENT[1000:300_000]
    assert server.seen[0].headers["range"] == "bytes=1000-299999"


def test_a_range_beyond_the_end_holds_what_there_is(server, transport):
    server.on(PATH, answer_file(CONTENT))
    with transport.open_body(PATH, ByteRange(len(CONTENT) - 10, len(CONTENT) + 90)) as body:
        assert body.byte_range == ByteRange(len(CONTENT) - 10, len(CONTENT))
        assert read_all(body) == CONTENT[-10:]


def test_a_server_that_ignores_ranges_gives_the_whole_file(server, transport):
    server.on(PATH, answer(CONTENT))
    with transport.open_body(PATH, ByteRange(1000, 2000)) as body:
        assert not body.is_partial
        assert body.byte_range == ByteRange(0, len(CONTENT))
        assert read_all(body) == CONTENT


def test_a_changed_etag_gives_the_whole_file(server, transport):
    server.on(PATH, answer_file(CONTENT, etag='"v2"'))
    with transport.open_body(PATH, ByteRange(0, 10), if_range='"v1"') as body:
        assert not body.is_partial
        assert body.etag == '"v2"'
    with transport.open_body(PATH, ByteRange(0, 10), if_range='"v2"') as body:
        assert body.is_partial
    assert [request.headers["if-range"] for request in server.seen] == ['"v1"', '"v2"']


@pytest.mark.parametrize(
    ("content_range", "body"),
    [
        ("bytes 0-99/1000", b"x" * 100),  # another start
        ("bytes 100-299/1000", b"x" * 200),  # too long
        ("bytes 100-149/1000", b"x" * 50),  # too short, and not at the end
        ("bytes 100-199/150", b"x" * 100),  # beyond its own total
        ("bytes 100-199/1000", b"x" * 99),  # announces another length
        ("bytes 150-149/1000", b""),
        ("bytes 199-100/1000", b""),
        ("items 100-199/1000", b"x" * 100),
        ("bytes 100-199", b"x" * 100),
        ("", b"x" * 100),
    ],
)
def test_another_range_than_was_asked_for_is_told_apart(server, transport, content_range, body):
    """The cache must know "this server has no usable ranges" from other failures."""
    server.on(PATH, answer(body, 206, {"Content-Range": content_range}))
    with pytest.raises(RangeNotHonoured):
        transport.open_body(PATH, ByteRange(100, 200))
    assert len(server.seen) == 1


def test_parts_in_a_multipart_body_are_no_range(server, transport):
    server.on(PATH, answer(b"--x--", 206, {"Content-Type": "multipart/byteranges; boundary=x"}))
    with pytest.raises(RangeNotHonoured):
        transport.open_body(PATH, ByteRange(100, 200))


def test_a_range_without_a_total_is_held_as_announced(server, transport):
    server.on(PATH, answer(b"x" * 50, 206, {"Content-Range": "bytes 100-149/*"}))
    with transport.open_body(PATH, ByteRange(100, 200)) as body:
        assert body.byte_range == ByteRange(100, 150)
        assert body.total is None
        assert read_all(body) == b"x" * 50


def test_a_range_that_can_not_be_satisfied_names_the_total(server, transport):
    server.on(PATH, answer_file(b"short"))
    with pytest.raises(RangeNotHonoured) as caught:
        transport.open_body(PATH, ByteRange(100, 200))
    assert caught.value.total == 5


def test_416_to_a_plain_download_is_a_protocol_error(server, transport):
    server.on(PATH, answer(b"", 416))
    with pytest.raises(ProtocolError) as caught:
        transport.open_body(PATH)
    assert not isinstance(caught.value, RangeNotHonoured)


def test_a_part_that_nobody_asked_for_is_a_protocol_error(server, transport):
    server.on(PATH, answer(b"x" * 100, 206, {"Content-Range": "bytes 0-99/1000"}))
    with pytest.raises(ProtocolError, match="part although the whole"):
        transport.open_body(PATH)


@pytest.mark.parametrize("status", [201, 204, 300])
def test_a_success_that_is_no_file_is_a_protocol_error(server, transport, status):
    server.on(PATH, answer(b"", status))
    with pytest.raises(ProtocolError, match=str(status)):
        transport.open_body(PATH)


def test_an_encoded_body_is_refused(server, transport):
    """Its lengths and offsets would not be those of the stored bytes."""
    server.on(PATH, answer(b"packed", headers={"Content-Encoding": "gzip"}))
    with pytest.raises(ProtocolError, match="encoded"):
        transport.open_body(PATH)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, NotAuthenticated),
        (403, PermissionDenied),
        (404, NotFound),
        (410, NotFound),
        (500, RemoteUnavailable),
    ],
)
def test_a_status_becomes_its_error(server, transport, status, error):
    server.on(PATH, answer_json({"detail": "no"}, status))
    with pytest.raises(error):
        transport.open_body(PATH)


def test_opening_is_tried_again(server, transport):
    server.on(PATH, reset(), answer(b"", 503), answer_file(CONTENT))
    with transport.open_body(PATH) as body:
        assert read_all(body) == CONTENT


def test_a_redirected_download_is_followed_with_its_range(server, transport):
    server.on(PATH, redirect("/media/5"))
    server.on("/media/5", answer_file(CONTENT))
    with transport.open_body(PATH, ByteRange(5, 10)) as body:
        assert read_all(body) == CONTENT[5:10]


# -- bodies that do not end well ---------------------------------------------------------------------


@pytest.mark.parametrize("room", [1, 1000, 1 << 20])
@pytest.mark.parametrize("after", [0, 1, 500, 999])
@pytest.mark.parametrize("end", [vanish(), reset()])
def test_a_body_that_is_cut_is_never_a_short_file(server, transport, room, after, end):
    server.on(PATH, break_off(b"x" * 1000, after, end))
    with transport.open_body(PATH) as body, pytest.raises(RemoteUnavailable):
        read_all(body, room)


def test_a_range_that_is_cut_is_never_a_short_range(server, transport):
    headers = {"Content-Range": "bytes 0-999/5000"}
    server.on(PATH, break_off(b"x" * 1000, 400, vanish(), 206, headers))
    with transport.open_body(PATH, ByteRange(0, 1000)) as body, pytest.raises(RemoteUnavailable):
        read_all(body)


def test_a_range_of_unannounced_length_that_is_cut_is_never_a_short_range(server, transport):
    head = b"HTTP/1.1 206 Part\r\nContent-Range: bytes 0-999/5000\r\nConnection: close\r\n\r\n"
    server.on(PATH, raw(head + b"x" * 400))
    with (
        transport.open_body(PATH, ByteRange(0, 1000)) as body,
        pytest.raises(RemoteUnavailable, match="600 bytes"),
    ):
        read_all(body)


def test_a_range_longer_than_it_says_gives_only_what_it_said(server, transport):
    head = b"HTTP/1.1 206 Part\r\nContent-Range: bytes 0-9/5000\r\nConnection: close\r\n\r\n"
    server.on(PATH, raw(head + b"x" * 400))
    with transport.open_body(PATH, ByteRange(0, 10)) as body:
        assert read_all(body) == b"x" * 10


def test_chunks_that_are_cut_are_never_a_short_file(server, transport):
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    server.on(PATH, raw(head + b"5\r\nabcde\r\n5\r\nfg"))
    with transport.open_body(PATH) as body, pytest.raises(RemoteUnavailable):
        read_all(body)


def test_chunks_are_put_together(server, transport):
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    server.on(PATH, raw(head + b"5\r\nabcde\r\n2\r\nfg\r\n0\r\n\r\n"))
    with transport.open_body(PATH) as body:
        assert body.total is None
        assert body.byte_range == ByteRange(0, UNKNOWN_STOP)
        assert read_all(body) == b"abcdefg"


def test_a_body_without_a_length_says_so(server, transport):
    """Its end can not be told from a cut: the reader compares with the recorded size."""
    server.on(PATH, raw(b"HTTP/1.1 200 OK\r\n\r\nabc"))
    with transport.open_body(PATH) as body:
        assert body.total is None
        assert read_all(body) == b"abc"


def test_a_stalled_body_is_a_timeout_after_the_wait_between_bytes(server, make_transport):
    server.on(PATH, break_off(b"x" * 1000, 400, hang()))
    transport = make_transport(timeouts=Timeouts(first_byte_s=30, between_bytes_s=0.05))
    with transport.open_body(PATH) as body:
        view = memoryview(bytearray(400))
        count = 0
        while count < 400:
            count += body.readinto(view)
        with pytest.raises(RemoteTimeout):
            body.readinto(view)


def test_bytes_are_handed_on_as_they_arrive(server, transport):
    """A reader of the first bytes does not wait for a full buffer."""
    server.on(PATH, break_off(b"x" * 1000, 10, hang()))
    with transport.open_body(PATH) as body:
        assert 1 <= body.readinto(memoryview(bytearray(1000))) <= 10


# -- the reader's part -------------------------------------------------------------------------------


def test_a_closed_body_is_not_read(server, transport):
    server.on(PATH, answer_file(CONTENT))
    body = transport.open_body(PATH)
    body.close()
    body.close()
    with pytest.raises(ValueError, match="closed"):
        body.readinto(memoryview(bytearray(10)))


def test_the_end_stays_the_end(server, transport):
    server.on(PATH, answer_file(b"abc"))
    body = transport.open_body(PATH)
    assert read_all(body) == b"abc"
    body.close()
    assert body.readinto(memoryview(bytearray(10))) == 0


def test_an_empty_view_is_a_mistake(server, transport):
    """Its 0 would look like the end."""
    server.on(PATH, answer_file(CONTENT))
    with transport.open_body(PATH) as body, pytest.raises(ValueError, match="room"):
        body.readinto(memoryview(b""))


@pytest.mark.parametrize("byte_range", [ByteRange(5, 5), ByteRange(6, 5), ByteRange(-1, 5)])
def test_an_impossible_range_is_a_mistake(transport, byte_range):
    with pytest.raises(ValueError, match="not a range"):
        transport.open_body(PATH, byte_range)


def test_a_body_read_to_its_end_gives_its_connection_back(server, transport):
    server.on(PATH, answer_file(CONTENT))
    for _ in range(3):
        with transport.open_body(PATH, ByteRange(0, 1000)) as body:
            read_all(body)
    assert {request.connection for request in server.seen} == {0}


def test_a_body_closed_early_does_not_spoil_the_next_answer(server, transport):
    server.on(PATH, answer_file(CONTENT))
    transport.open_body(PATH).close()
    server.on(PATH, answer_file(b"next"))
    with transport.open_body(PATH) as body:
        assert read_all(body) == b"next"


def test_open_downloads_leave_room_for_listings(server, make_transport):
    """Two connections are kept from downloads, however long these stay open."""
    transport = make_transport(connections=3)
    server.on(PATH, answer_file(CONTENT))
    server.on("/list/", answer_json([]))
    with transport.open_body(PATH):
        with pytest.raises(RemoteTimeout, match="busy"):
            transport.open_body(PATH, deadline_s=0.02)
        assert transport.get_json("/list/") == []
    transport.open_body(PATH).close()


@pytest.mark.parametrize(
    "failing",
    [answer_json({}, 404), answer(b"", 503), reset(), answer(b"x", 206), break_off(b"x" * 10, 5, vanish())],
)
def test_a_failed_download_holds_no_connection(server, make_transport, failing):
    transport = make_transport(connections=1)
    server.on(PATH, failing)
    for _ in range(3):
        with pytest.raises(Exception, match="download"), transport.open_body(PATH, deadline_s=1) as body:
            read_all(body)
    server.on(PATH, answer_file(b"abc"))
    with transport.open_body(PATH) as body:
        assert read_all(body) == b"abc"


def test_at_most_the_given_number_of_requests_is_in_flight(server, make_transport):
    transport = make_transport(connections=2)
    lock, inside, most = threading.Lock(), 0, 0
    both_inside = threading.Event()

    def counting(connection, request):
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
            if inside == 2:
                both_inside.set()
        both_inside.wait(10)
        with lock:
            inside -= 1
        answer_json([])(connection, request)

    server.on("/list/", counting)
    threads = [threading.Thread(target=transport.get_json, args=("/list/",)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 2
    assert len(server.seen) == 8
