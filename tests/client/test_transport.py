"""Operations on one server: statuses, retries, deadlines, redirects, and what is logged."""

from __future__ import annotations

import gzip
import json
import logging
import socket

import pytest

from agorafs import __version__
from agorafs.client import Timeouts
from agorafs.client.session import checked_verify
from agorafs.errors import (
    AlreadyExists,
    ExitStatus,
    NotAuthenticated,
    NotFound,
    PermissionDenied,
    ProtocolError,
    RemoteTimeout,
    RemoteUnavailable,
    TooLarge,
    UsageError,
)
from tests.client.conftest import BRIEF, KEY
from tests.support.http_server import (
    ScriptedServer,
    answer,
    answer_json,
    break_off,
    drip,
    hang,
    raw,
    redirect,
    reset,
    vanish,
)

PATH = "/api/v2/project/"
HTML = {"Content-Type": "text/html"}


@pytest.fixture
def free_port_url():
    """An address where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as placeholder:
        port = placeholder.getsockname()[1]
    return f"http://127.0.0.1:{port}"


def test_json_is_returned_as_parsed(server, transport):
    server.on(PATH, answer_json([{"id": 1, "name": "Füße"}]))
    assert transport.get_json(PATH) == [{"id": 1, "name": "Füße"}]


def test_a_request_names_the_program_and_sends_its_query(server, transport):
    server.on(PATH, answer_json([]))
    transport.get_json(PATH, {"limit": 10})
    (request,) = server.seen
    assert request.headers["user-agent"] == f"agorafs/{__version__}"
    assert request.target == f"{PATH}?limit=10"


def test_compressed_json_is_unpacked(server, transport):
    packed = gzip.compress(json.dumps({"id": 7}).encode())
    server.on(PATH, answer(packed, headers={"Content-Encoding": "gzip"}))
    assert transport.get_json(PATH) == {"id": 7}
    assert server.seen[0].headers["accept-encoding"] == "gzip"


@pytest.mark.parametrize("encoding", ["gzip", "br"])
def test_badly_compressed_json_is_a_protocol_error(server, transport, encoding):
    packed = gzip.compress(b"{}")[:-4]
    server.on(PATH, answer(packed, headers={"Content-Encoding": encoding}))
    with pytest.raises(ProtocolError, match="Agora server"):
        transport.get_json(PATH)


def test_a_path_prefix_of_the_address_is_kept(server, make_transport):
    server.on("/agora" + PATH, answer_json([]))
    assert make_transport(server.url + "/agora/").get_json(PATH) == []


def test_connections_are_used_again(server, transport):
    server.on(PATH, answer_json([]))
    server.on("/missing/", answer_json({"detail": "no"}, 404))
    transport.get_json(PATH)
    with pytest.raises(NotFound):
        transport.get_json("/missing/")
    transport.get_json(PATH)
    assert [request.connection for request in server.seen] == [0, 0, 0]


def test_cookies_are_not_kept(server, transport):
    server.on(PATH, answer_json([], headers={"Set-Cookie": "sessionid=1; Path=/"}))
    transport.get_json(PATH)
    transport.get_json(PATH)
    assert all("cookie" not in request.headers for request in server.seen)


# -- statuses ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "error", "requests"),
    [
        (400, ProtocolError, 1),
        (401, NotAuthenticated, 2),  # the key is tried as a token, too
        (403, PermissionDenied, 2),
        (404, NotFound, 1),
        (405, ProtocolError, 1),
        (409, AlreadyExists, 1),
        (410, NotFound, 1),
        (413, TooLarge, 1),
        (423, ProtocolError, 1),
        (500, RemoteUnavailable, 1),
        (501, RemoteUnavailable, 1),
    ],
)
def test_a_final_status_becomes_its_error_at_once(server, transport, status, error, requests):
    server.on(PATH, answer_json({"detail": "the server's words"}, status))
    with pytest.raises(error, match="the server's words") as caught:
        transport.get_json(PATH)
    assert type(caught.value) is error
    assert server.url + PATH in str(caught.value)
    assert len(server.seen) == requests


@pytest.mark.parametrize("status", [408, 429, 502, 503, 504])
def test_a_passing_status_is_tried_again(server, transport, clock, status):
    server.on(PATH, answer(b"busy", status), answer(b"busy", status), answer_json("here"))
    begin = clock.now
    assert transport.get_json(PATH) == "here"
    assert clock.now - begin == pytest.approx(0.25 + 0.5)


@pytest.mark.parametrize("status", [408, 429, 502, 503, 504])
def test_a_passing_status_that_stays_ends_at_the_deadline(server, transport, clock, status):
    server.on(PATH, answer(b"busy", status))
    begin = clock.now
    with pytest.raises(RemoteUnavailable, match=rf"{status}.*\(\d+ attempts in \d+ s\)"):
        transport.get_json(PATH, deadline_s=20)
    assert clock.now - begin <= 20
    assert len(server.seen) > 3


def test_the_pause_doubles_up_to_a_limit_and_is_shortened_by_up_to_half(
    server, make_transport, clock, monkeypatch
):
    pauses = []

    def sleep(seconds):
        pauses.append(seconds)
        clock.advance(seconds)

    monkeypatch.setattr(clock, "sleep", sleep)
    server.on(PATH, answer(b"", 503))
    with pytest.raises(RemoteUnavailable):
        make_transport(random=lambda: 0.0).get_json(PATH, deadline_s=30)
    assert pauses[:7] == [0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 4.0]


def test_retry_after_is_obeyed(server, transport, clock):
    server.on(PATH, answer(b"", 503, {"Retry-After": "7"}), answer_json("here"))
    begin = clock.now
    assert transport.get_json(PATH) == "here"
    assert clock.now - begin == pytest.approx(7)


def test_retry_after_as_a_date_is_counted_on_the_servers_clock(server, transport, clock):
    headers = {"Date": "Wed, 21 Oct 2015 07:28:00 GMT", "Retry-After": "Wed, 21 Oct 2015 07:28:09 GMT"}
    server.on(PATH, answer(b"", 429, headers), answer_json("here"))
    begin = clock.now
    assert transport.get_json(PATH) == "here"
    assert clock.now - begin == pytest.approx(9)


@pytest.mark.parametrize("value", ["soon", "-1", "²", "Wed, 21 Oct 2015 07:28:09 GMT"])
def test_a_retry_after_that_says_nothing_is_passed_over(server, transport, clock, value):
    server.on(PATH, answer(b"", 503, {"Retry-After": value}), answer_json("here"))
    assert transport.get_json(PATH) == "here"


def test_a_retry_after_beyond_the_deadline_is_not_waited_for(server, transport, clock):
    server.on(PATH, answer(b"", 503, {"Retry-After": "3600"}))
    begin = clock.now
    with pytest.raises(RemoteUnavailable):
        transport.get_json(PATH)
    assert clock.now == begin
    assert len(server.seen) == 1


@pytest.mark.parametrize("passing", [reset(), vanish(), break_off(b"[1, 2, 3]", 4, vanish())])
def test_a_lost_connection_is_tried_again(server, transport, passing):
    server.on(PATH, passing, passing, answer_json("here"))
    assert transport.get_json(PATH) == "here"


def test_a_server_that_says_nothing_is_tried_again(server, make_transport):
    server.on(PATH, hang(), answer_json("here"))
    assert make_transport(timeouts=BRIEF).get_json(PATH) == "here"


def test_a_stalled_answer_is_tried_again(server, make_transport):
    server.on(PATH, break_off(b"[1, 2, 3]", 4, hang()), answer_json("here"))
    timeouts = Timeouts(first_byte_s=30, between_bytes_s=0.05)
    assert make_transport(timeouts=timeouts).get_json(PATH) == "here"


def test_a_stalled_answer_of_a_connection_that_is_not_kept_is_tried_again(server, make_transport):
    """The wait between two bytes has its own limit even where the library has let go of the connection."""
    stalled = break_off(b"[1, 2, 3]", 4, hang(), headers={"Connection": "close"})
    server.on(PATH, stalled, answer_json("here"))
    timeouts = Timeouts(first_byte_s=30, between_bytes_s=0.05)
    assert make_transport(timeouts=timeouts).get_json(PATH) == "here"


def test_silence_until_the_deadline_is_a_timeout(server, make_transport):
    server.on(PATH, hang())
    with pytest.raises(RemoteTimeout, match="no answer in time"):
        make_transport(timeouts=BRIEF).get_json(PATH, deadline_s=0.2)


def test_nobody_listening_is_unavailable(make_transport, free_port_url):
    with pytest.raises(RemoteUnavailable, match="Connection refused") as caught:
        make_transport(free_port_url).get_json(PATH)
    assert type(caught.value) is RemoteUnavailable


def test_an_answer_that_drips_ends_at_the_deadline(server, transport, clock):
    """Every single wait is short, and still the whole does not take longer than the deadline."""
    server.on(PATH, drip(lambda: clock.advance(1.0)))
    with pytest.raises(RemoteTimeout, match="too slow"):
        transport.get_json(PATH, deadline_s=60)


def test_an_attempt_is_not_begun_after_the_deadline(server, transport):
    server.on(PATH, answer_json([]))
    with pytest.raises(RemoteTimeout):
        transport.get_json(PATH, deadline_s=0)
    assert server.seen == []


# -- answers that are not Agora's --------------------------------------------------------------------


@pytest.mark.parametrize(
    "reply",
    [
        answer(b"<html>Log in</html>", headers=HTML),
        answer(b"", headers={"Content-Type": "application/json"}),
        answer(b'{"id": 1', headers={"Content-Type": "application/json"}),
        answer(b"\xff\xfe\x00", headers={"Content-Type": "application/json"}),
        answer(b"[" * 200_000, headers={"Content-Type": "application/json"}),
        answer(b"", 204),
        raw(b"SSH-2.0-OpenSSH_9.2\r\n"),
    ],
    ids=["html", "empty", "cut", "not-utf8", "deep", "no-content", "not-http"],
)
def test_what_is_not_json_is_a_protocol_error_that_asks_for_the_address(server, transport, reply):
    server.on(PATH, reply)
    with pytest.raises(ProtocolError, match="is this an Agora server") as caught:
        transport.get_json(PATH)
    assert server.url + PATH in str(caught.value)
    assert len(server.seen) == 1


def test_an_answer_larger_than_anything_known_is_given_up(server, transport, monkeypatch):
    monkeypatch.setattr("agorafs.client.answers.MAX_JSON_BYTES", 1000)
    server.on(PATH, answer(b" " * 1001))
    with pytest.raises(ProtocolError, match="larger than"):
        transport.get_json(PATH)


# -- redirects ---------------------------------------------------------------------------------------


def test_a_redirect_on_the_same_server_keeps_the_credential(server, transport):
    server.on(PATH, redirect("/api/v2/elsewhere/"))
    server.on("/api/v2/elsewhere/", answer_json("here"))
    assert transport.get_json(PATH, {"limit": 5}) == "here"
    assert server.authorizations() == [f"X-Agora-Api-Key {KEY}"] * 2


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_the_credential_is_not_sent_to_another_port(server, transport, status):
    other = ScriptedServer()
    try:
        server.on(PATH, redirect(other.url + "/there/", status))
        other.on("/there/", answer_json("there"))
        assert transport.get_json(PATH) == "there"
        assert other.authorizations() == [None]
    finally:
        other.close()


def test_the_credential_is_not_sent_to_another_name_of_the_host(server, transport):
    server.on(PATH, redirect(f"http://localhost:{server.port}/there/"))
    server.on("/there/", answer_json("there"))
    assert transport.get_json(PATH) == "there"
    assert server.authorizations() == [f"X-Agora-Api-Key {KEY}", None]


def test_the_credential_stays_away_after_a_redirect_leads_back(server, transport):
    server.on(PATH, redirect(f"http://localhost:{server.port}/there/"))
    server.on("/there/", redirect(server.url + "/back/"))
    server.on("/back/", answer_json("back"))
    assert transport.get_json(PATH) == "back"
    assert server.authorizations() == [f"X-Agora-Api-Key {KEY}", None, None]


def test_netrc_never_speaks_for_the_user(server, make_transport, tmp_path, monkeypatch):
    netrc = tmp_path / "netrc"
    netrc.write_text(
        "machine 127.0.0.1 login thief password thief\nmachine localhost login thief password thief\n"
    )
    monkeypatch.setenv("NETRC", str(netrc))
    transport = make_transport()
    transport._session.trust_env = True  # as for a server on another machine
    server.on(PATH, redirect(f"http://localhost:{server.port}/there/"))
    server.on("/there/", answer_json("there"))
    transport.get_json(PATH)
    transport.get_json("/there/", is_authenticated=False)
    assert server.authorizations() == [f"X-Agora-Api-Key {KEY}", None, None]


@pytest.mark.parametrize("location", ["ftp://127.0.0.1/x", "file:///etc/passwd", "http://[::1"])
def test_a_redirect_to_something_else_than_http_is_refused(server, transport, location):
    server.on(PATH, redirect(location))
    with pytest.raises(ProtocolError, match="not http"):
        transport.get_json(PATH)


def test_a_redirect_to_a_place_that_does_not_exist_does_not_make_the_object_vanish(server, transport):
    """A login page that was moved answers 404 too; only the server's own 404 means that the object is gone."""
    server.on(PATH, redirect("/sso/login/"))
    with pytest.raises(ProtocolError, match="redirected to /sso/login, which does not exist"):
        transport.get_json(PATH)


def test_an_object_that_is_missing_behind_a_redirect_to_add_a_slash_is_missing(server, transport):
    server.on(PATH.rstrip("/"), redirect(PATH))
    with pytest.raises(NotFound):
        transport.get_json(PATH.rstrip("/"))


def test_redirects_in_a_circle_end(server, transport):
    server.on(PATH, redirect(PATH))
    with pytest.raises(ProtocolError, match="redirected more than"):
        transport.get_json(PATH)
    assert len(server.seen) == 6


# -- the server is away ------------------------------------------------------------------------------


def test_after_a_failure_others_make_one_attempt_until_one_succeeds(server, transport, clock):
    server.on(PATH, vanish())
    with pytest.raises(RemoteUnavailable):
        transport.get_json(PATH)
    before = len(server.seen)
    assert before > 1
    for _ in range(10):
        with pytest.raises(RemoteUnavailable):
            transport.get_json(PATH)
    assert len(server.seen) == before + 10

    server.on(PATH, answer_json([]))
    transport.get_json(PATH)
    server.on(PATH, vanish(), answer_json("tried again"))
    assert transport.get_json(PATH) == "tried again"


def test_some_seconds_after_the_last_failure_an_operation_gets_its_full_time(server, transport, clock):
    server.on(PATH, vanish())
    with pytest.raises(RemoteUnavailable):
        transport.get_json(PATH)
    clock.advance(4.9)
    server.on(PATH, vanish(), answer_json("tried again"))
    with pytest.raises(RemoteUnavailable):
        transport.get_json(PATH)
    clock.advance(5.1)
    server.on(PATH, vanish(), answer_json("tried again"))
    assert transport.get_json(PATH) == "tried again"


def test_timeouts_of_short_attempts_do_not_prolong_them(server, make_transport, clock):
    """A server that is only slow must be given its full time before long."""
    transport = make_transport(timeouts=BRIEF)
    server.on(PATH, vanish())
    with pytest.raises(RemoteUnavailable):
        transport.get_json(PATH)
    clock.advance(4.0)
    server.on(PATH, hang())
    with pytest.raises(RemoteTimeout):
        transport.get_json(PATH)
    clock.advance(1.1)
    server.on(PATH, vanish(), answer_json("tried again"))
    assert transport.get_json(PATH) == "tried again"


def test_a_status_does_not_mean_that_the_server_is_away(server, transport):
    server.on(PATH, answer(b"", 503))
    with pytest.raises(RemoteUnavailable):
        transport.get_json(PATH)
    server.on(PATH, answer(b"", 503), answer_json("tried again"))
    assert transport.get_json(PATH) == "tried again"


def test_going_away_and_coming_back_is_one_line_each(server, transport, caplog):
    caplog.set_level(logging.INFO, "agorafs.client")
    for _ in range(2):
        server.on(PATH, vanish())
        for _ in range(3):
            with pytest.raises(RemoteUnavailable):
                transport.get_json(PATH)
        server.on(PATH, answer_json([]))
        transport.get_json(PATH)
    levels = [record.levelname for record in caplog.records]
    assert levels == ["WARNING", "INFO"] * 2
    assert f"{server.url} is away" in caplog.text
    assert f"{server.url} is back" in caplog.text


# -- the log -----------------------------------------------------------------------------------------


def test_the_debug_log_has_method_path_status_and_time_but_no_query(server, transport, caplog):
    caplog.set_level(logging.DEBUG, "agorafs")
    server.on(PATH, answer_json([]))
    transport.get_json(PATH, {"name": "Meier"})
    assert f"GET {PATH} 200 0 ms" in caplog.messages
    assert "Meier" not in caplog.text


def test_the_key_is_in_no_log_line_of_any_library_and_no_error(server, transport, caplog):
    """Not even when the server repeats it."""
    caplog.set_level(logging.DEBUG)
    server.on("/ok/", answer_json([]))
    server.on("/echo/", answer_json({"detail": f"unknown key {KEY}"}, 401))
    server.on("/lost/", vanish())
    transport.get_json("/ok/")
    for path, error in [("/echo/", NotAuthenticated), ("/lost/", RemoteUnavailable)]:
        with pytest.raises(error) as caught:
            transport.get_json(path, deadline_s=1)
        assert KEY not in str(caught.value)
        assert KEY not in repr(caught.value)
    assert caplog.records
    assert KEY not in caplog.text
    assert "unknown key ***" in caplog.text
    assert KEY not in repr(transport)


# -- construction ------------------------------------------------------------------------------------


def test_a_certificate_file_that_is_missing_is_refused_at_once(make_transport, tmp_path):
    with pytest.raises(UsageError, match=r"missing\.pem.*No such file") as caught:
        make_transport(verify=tmp_path / "missing.pem")
    assert caught.value.exit_status is ExitStatus.CONFIGURATION


def test_a_certificate_file_without_certificates_is_refused_at_once(make_transport, tmp_path):
    path = tmp_path / "empty.pem"
    path.write_text("nothing here\n")
    with pytest.raises(UsageError, match=r"empty\.pem"):
        make_transport(verify=path)


def test_a_directory_of_certificates_is_accepted(tmp_path):
    assert checked_verify(tmp_path) == str(tmp_path)


def test_not_checking_certificates_is_announced(caplog):
    assert checked_verify(False) is False
    assert [record.levelname for record in caplog.records] == ["WARNING"]
