"""Requests that change something: what is sent, what is sent again, and what the server said."""

from __future__ import annotations

import json
import logging
import socket

import pytest

from agorafs.client import Password, Timeouts
from agorafs.errors import (
    AlreadyExists,
    NotFound,
    PermissionDenied,
    ProtocolError,
    RemoteTimeout,
    RemoteUnavailable,
    TooLarge,
)
from tests.client.conftest import BRIEF, KEY
from tests.support.http_server import answer, answer_json, break_off, hang, redirect, reset, vanish

PATH = "/api/v1/thing/4/"

CHANGES = {
    "post": lambda transport, **options: transport.post_json(PATH, {"name": "x"}, **options),
    "put": lambda transport, **options: transport.put_json(PATH, {"name": "x"}, **options),
    "form": lambda transport, **options: transport.post_form(PATH, {"name": "x"}, **options),
}
every_change = pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)


@pytest.fixture
def free_port_url():
    """An address where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as placeholder:
        port = placeholder.getsockname()[1]
    return f"http://127.0.0.1:{port}"


# -- what is sent ------------------------------------------------------------------------------------


def test_json_is_sent_and_the_answer_is_parsed(server, transport):
    server.on(PATH, answer_json({"id": 5}, 201))
    assert transport.post_json(PATH, {"name": "Füße \U0001f9e0"}) == {"id": 5}
    (request,) = server.seen
    assert request.method == "POST"
    assert request.headers["content-type"] == "application/json"
    assert json.loads(request.body) == {"name": "Füße \U0001f9e0"}


def test_no_body_is_sent_without_a_type(server, transport):
    server.on(PATH, answer(b"", 204))
    assert transport.post_json(PATH) is None
    (request,) = server.seen
    assert request.headers["content-length"] == "0"
    assert "content-type" not in request.headers


def test_a_form_is_sent_escaped(server, transport):
    server.on(PATH, answer_json([]))
    transport.post_form(PATH, {"label": "a & b=ü", "id": 3})
    (request,) = server.seen
    assert request.headers["content-type"] == "application/x-www-form-urlencoded"
    assert request.body == b"label=a+%26+b%3D%C3%BC&id=3"


def test_a_put_and_a_delete_are_what_they_say(server, transport):
    server.on(PATH, answer_json({"id": 4}), answer(b"", 204))
    assert transport.put_json(PATH, {"name": "x"}) == {"id": 4}
    transport.delete(PATH)
    assert [request.method for request in server.seen] == ["PUT", "DELETE"]


def test_a_status_that_is_not_known_to_mean_success_is_none(server, transport):
    server.on(PATH, answer_json({}, 202))
    with pytest.raises(ProtocolError, match="202"):
        transport.post_json(PATH, {})


def test_an_answer_that_is_no_json_is_a_protocol_error(server, transport):
    server.on(PATH, answer(b"<html>Log in</html>", headers={"Content-Type": "text/html"}))
    with pytest.raises(ProtocolError, match="is this an Agora server"):
        transport.post_json(PATH, {})


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_change_is_not_sent_on_to_another_place(server, transport, status):
    server.on(PATH, redirect("/elsewhere/", status))
    server.on("/elsewhere/", answer_json({}))
    with pytest.raises(ProtocolError, match="leads to /elsewhere"):
        transport.post_json(PATH, {})
    assert server.targets() == [PATH]


# -- what is sent again ------------------------------------------------------------------------------


@every_change
@pytest.mark.parametrize("lost", [reset(), vanish(), break_off(b'{"id": 1}', 4, vanish())])
def test_a_change_whose_answer_was_lost_is_not_made_twice(server, transport, change, lost):
    server.on(PATH, lost, answer_json({}))
    with pytest.raises(RemoteUnavailable):
        change(transport)
    assert len(server.seen) == 1


def test_a_change_that_was_not_answered_in_time_is_not_made_twice(server, make_transport):
    server.on(PATH, hang(), answer_json({}))
    with pytest.raises(RemoteTimeout):
        make_transport(timeouts=BRIEF).post_json(PATH, {})
    assert len(server.seen) == 1


@every_change
@pytest.mark.parametrize("status", [408, 429, 502, 503, 504])
def test_a_change_that_was_put_off_is_not_made_twice(server, transport, clock, change, status):
    """The words of the server are in the error; how long to wait is for those who asked to decide."""
    server.on(PATH, answer_json({"detail": "busy now"}, status, {"Retry-After": "1"}), answer_json({}))
    begin = clock.now
    with pytest.raises(RemoteUnavailable, match="busy now"):
        change(transport)
    assert len(server.seen) == 1
    assert clock.now == begin


@every_change
@pytest.mark.parametrize(
    "passing", [reset(), vanish(), break_off(b'{"id": 1}', 4, vanish()), answer(b"", 503)]
)
def test_a_change_that_does_no_harm_twice_is_made_again(server, transport, change, passing):
    server.on(PATH, passing, passing, answer_json({"id": 1}))
    assert change(transport, may_repeat=True) == {"id": 1}
    assert len({request.body for request in server.seen}) == 1
    assert len(server.seen) == 3


def test_a_repetition_waits_as_long_as_the_server_asks(server, transport, clock):
    server.on(PATH, answer(b"", 503, {"Retry-After": "7"}), answer_json({}))
    begin = clock.now
    transport.put_json(PATH, {}, may_repeat=True)
    assert clock.now - begin == pytest.approx(7)


@every_change
def test_a_change_is_tried_again_while_there_is_no_connection_to_send_it_on(
    make_transport, free_port_url, change
):
    with pytest.raises(RemoteUnavailable, match=r"Connection refused.*\(\d+ attempts in \d+ s\)"):
        change(make_transport(free_port_url))


def test_a_change_is_made_once_the_server_can_be_reached(server, make_transport, clock, monkeypatch):
    """Nobody listens at first; the pause before the second attempt is when somebody does."""
    body = {"name": "x"}
    with socket.create_server(("127.0.0.1", 0)) as placeholder:
        port = placeholder.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    reachable = make_transport(server.url).base_url
    transport = make_transport(url)
    monkeypatch.setattr(clock, "sleep", lambda seconds: setattr(transport, "base_url", reachable))
    server.on(PATH, answer_json({"id": 1}))
    assert transport.post_json(PATH, body) == {"id": 1}
    assert len(server.seen) == 1


def test_the_other_way_of_presenting_the_key_is_tried_because_a_refusal_changes_nothing(server, transport):
    server.on(PATH, answer_json({"detail": "no"}, 401), answer_json({"id": 1}))
    assert transport.post_json(PATH, {"name": "x"}) == {"id": 1}
    assert server.authorizations() == [f"X-Agora-Api-Key {KEY}", f"Token {KEY}"]
    assert len({request.body for request in server.seen}) == 1


# -- deleting ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("lost", [reset(), vanish(), answer(b"", 502)])
def test_what_is_gone_when_its_deletion_is_repeated_has_been_deleted(server, transport, lost):
    server.on(PATH, lost, answer_json({"detail": "Not found."}, 404))
    transport.delete(PATH)
    assert len(server.seen) == 2


def test_what_was_not_there_at_the_first_attempt_is_not_found(server, transport):
    server.on(PATH, answer_json({"detail": "Not found."}, 404))
    with pytest.raises(NotFound):
        transport.delete(PATH)


# -- the server is away ------------------------------------------------------------------------------


def test_a_change_gets_its_full_time_while_the_server_is_known_to_be_away(server, make_transport, clock):
    """Given up early, nobody would know what became of it; only the connecting is short."""
    transport = make_transport(timeouts=Timeouts(first_byte_s=30, probe_s=0.05))
    server.on("/lost/", vanish())
    with pytest.raises(RemoteUnavailable):
        transport.get_json("/lost/")

    def slow(connection, request):
        connection.closing.wait(0.2)  # real time, as the client's wait is
        answer_json({"id": 1})(connection, request)

    server.on(PATH, slow)
    assert transport.post_json(PATH, {}) == {"id": 1}


def test_a_lost_answer_to_a_change_does_not_make_the_server_away(server, transport):
    server.on(PATH, vanish())
    with pytest.raises(RemoteUnavailable):
        transport.post_json(PATH, {})
    server.on("/list/", vanish(), answer_json("tried again"))
    assert transport.get_json("/list/") == "tried again"


# -- the server's words ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "error"),
    [(400, ProtocolError), (403, PermissionDenied), (404, NotFound), (409, AlreadyExists), (413, TooLarge)],
)
def test_a_refusal_has_its_error_and_the_servers_words(server, transport, status, error):
    server.on(PATH, answer_json({"detail": "the server's words"}, status))
    with pytest.raises(error, match="the server's words") as caught:
        transport.post_json(PATH, {})
    assert type(caught.value) is error


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (
            b'{"name": ["Taken.", "Too short."], "id": ["Wrong."]}',
            "(name: Taken.; name: Too short.; id: Wrong.)",
        ),
        (b'{"non_field_errors": ["Not like this."]}', "(Not like this.)"),
        (b'{"files": [{"name": ["Blank."]}]}', "(name: Blank.)"),
        (b'["First.", "Second."]', "(First.; Second.)"),
        (b'"Just this."', "(Just this.)"),
        (b"Quota of 5 GB\nis used up", "(Quota of 5 GB is used up)"),
        (b"a\x1b[31m\x00b", "(a[31mb)"),
        (b"<html><body>Bad request</body></html>", "400 Reason"),
        (b"", "400 Reason"),
        (b"{}", "400 Reason"),
    ],
)
def test_the_servers_words_are_told_on_one_line(server, transport, body, words):
    server.on(PATH, answer(body, 400))
    with pytest.raises(ProtocolError) as caught:
        transport.post_json(PATH, {})
    assert str(caught.value).endswith(words)
    assert caught.value.status == 400


def test_an_answer_that_is_not_understood_is_no_refusal(server, transport):
    server.on(PATH, answer(b"{", 200))
    with pytest.raises(ProtocolError) as caught:
        transport.post_json(PATH, {})
    assert caught.value.status is None


def test_long_words_are_cut(server, transport):
    server.on(PATH, answer_json({"detail": "word " * 1000}, 400))
    with pytest.raises(ProtocolError) as caught:
        transport.post_json(PATH, {})
    assert str(caught.value).endswith("…)")
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("before", [0, 150, 170, 190])
@pytest.mark.parametrize("is_json", [True, False])
def test_no_part_of_an_echoed_key_is_told_not_even_where_the_words_are_cut(
    server, transport, before, is_json
):
    words = "x" * before + KEY + "y" * 100
    server.on(PATH, answer_json({"detail": words}, 400) if is_json else answer(words.encode(), 400))
    with pytest.raises(ProtocolError, match=r"\*\*\*") as caught:
        transport.post_json(PATH, {})
    assert KEY[:8] not in str(caught.value)


def test_an_echoed_password_is_not_told(server, make_transport):
    server.on("/api/v1/rest-auth/login/", answer(b"what is hunter2?", 500))
    transport = make_transport(credential=Password("ann", "hunter2"))
    with pytest.raises(RemoteUnavailable) as caught:
        transport.post_json(PATH, {})
    assert "hunter2" not in str(caught.value)
    assert "what is ***?" in str(caught.value)


def test_no_body_is_in_the_debug_log(server, transport, caplog):
    caplog.set_level(logging.DEBUG)
    server.on(PATH, answer_json({}))
    transport.post_json(PATH, {"name": "Meier"})
    transport.post_form(PATH, {"name": "Meier"})
    assert f"POST {PATH} 200 0 ms" in caplog.messages
    assert "Meier" not in caplog.text
