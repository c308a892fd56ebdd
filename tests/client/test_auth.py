"""Credentials: which header presents them, what a refusal leads to, and that nobody sees them."""

from __future__ import annotations

import copy
import logging
import pickle
import threading
from dataclasses import asdict

import pytest

from agorafs.client import ApiKey, Password, Token
from agorafs.client.auth import Secret
from agorafs.client.transport import LOG_IN_PATH
from agorafs.errors import (
    ExitStatus,
    NotAuthenticated,
    PermissionDenied,
    ProtocolError,
    RemoteUnavailable,
    UsageError,
)
from tests.client.conftest import KEY
from tests.support.http_server import answer, answer_json, redirect, vanish

PATH = "/api/v2/project/"
AS_KEY = f"X-Agora-Api-Key {KEY}"
AS_TOKEN = f"Token {KEY}"


def answer_if(good, status=401):
    """Answer requests that present *good*, refuse the others with *status*."""

    def reply(connection, request):
        is_good = request.headers.get("authorization") == good
        (answer_json("welcome") if is_good else answer_json({"detail": "who?"}, status))(connection, request)

    return reply


# -- secrets -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("credential", [ApiKey(KEY), Token(KEY), Password("ann", KEY), Secret(KEY)])
def test_a_secret_shows_in_no_text_form(credential):
    for text in (
        repr(credential),
        str(credential),
        f"{credential}",
        f"{credential!s:>80}",
    ):
        assert KEY not in text


@pytest.mark.parametrize("write", [pickle.dumps, copy.deepcopy, asdict])
def test_a_secret_is_not_written_down(write):
    with pytest.raises(TypeError, match="written down"):
        write(ApiKey(KEY))


def test_equal_secrets_are_equal():
    assert ApiKey(KEY) == ApiKey(KEY)
    assert hash(ApiKey(KEY)) == hash(ApiKey(KEY))
    assert ApiKey(KEY) != ApiKey("another")


def test_white_space_around_a_key_is_left_out():
    """A key file ends with a newline."""
    assert ApiKey(f" {KEY}\r\n") == ApiKey(KEY)


@pytest.mark.parametrize("text", ["", " \n", "two words", "a\nb", "a\x00b", "schlüssel"])
@pytest.mark.parametrize("kind", [ApiKey, Token])
def test_what_can_not_be_a_header_is_refused_without_being_shown(kind, text):
    with pytest.raises(UsageError) as caught:
        kind(text)
    assert caught.value.exit_status is ExitStatus.CONFIGURATION
    assert not text.strip() or text not in str(caught.value)


# -- API keys ----------------------------------------------------------------------------------------


def test_a_key_is_presented_as_the_vendors_clients_do(server, transport):
    server.on(PATH, answer_if(AS_KEY))
    transport.get_json(PATH)
    assert server.authorizations() == [AS_KEY]


@pytest.mark.parametrize("status", [401, 403])
def test_a_server_that_wants_the_key_as_a_token_gets_it_and_is_remembered(server, transport, status):
    server.on(PATH, answer_if(AS_TOKEN, status))
    assert [transport.get_json(PATH) for _ in range(3)] == ["welcome"] * 3
    assert server.authorizations() == [AS_KEY, AS_TOKEN, AS_TOKEN, AS_TOKEN]


def test_a_forbidden_object_costs_no_second_request_once_the_key_has_worked(server, transport):
    server.on(PATH, answer_if(AS_KEY))
    server.on("/forbidden/", answer_json({"detail": "not yours"}, 403))
    transport.get_json(PATH)
    with pytest.raises(PermissionDenied, match="not yours"):
        transport.get_json("/forbidden/")
    assert server.authorizations() == [AS_KEY, AS_KEY]


def test_an_answer_that_needs_no_credential_teaches_nothing_about_it(server, transport):
    server.on("/api/v1/version/", answer_json({"version": "dev"}))
    server.on(PATH, answer_if(AS_TOKEN, 403))
    transport.get_json("/api/v1/version/", is_authenticated=False)
    assert transport.get_json(PATH) == "welcome"
    assert server.authorizations() == [None, AS_KEY, AS_TOKEN]


@pytest.mark.parametrize("good", [AS_KEY, AS_TOKEN])
def test_of_two_refusals_the_one_of_the_recognised_key_counts(server, transport, good):
    """403 says "I know you, but no"; 401 says "who are you?"."""

    def reply(connection, request):
        status = 403 if request.headers["authorization"] == good else 401
        answer_json({"detail": str(status)}, status)(connection, request)

    server.on(PATH, reply)
    for _ in range(2):
        with pytest.raises(PermissionDenied):
            transport.get_json(PATH)
    assert server.authorizations() == [AS_KEY, AS_TOKEN, good]


def test_a_wrong_key_is_logged_once_with_the_way_out_until_it_works_again(server, transport, caplog):
    caplog.set_level(logging.INFO, "agorafs.client")
    server.on(PATH, answer_if("X-Agora-Api-Key new-key"))
    for _ in range(3):
        with pytest.raises(NotAuthenticated):
            transport.get_json(PATH)
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    for part in (server.url, "SIGHUP", "agorafs mount"):
        assert part in record.getMessage()

    transport.replace_credential(ApiKey("new-key"))
    assert transport.get_json(PATH) == "welcome"
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"]

    transport.replace_credential(ApiKey(KEY))
    with pytest.raises(NotAuthenticated):
        transport.get_json(PATH)
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO", "ERROR"]


def test_a_replaced_key_forgets_how_the_old_one_was_presented(server, transport):
    server.on(PATH, answer_if(AS_TOKEN))
    transport.get_json(PATH)
    transport.replace_credential(ApiKey("new-key"))
    server.on(PATH, answer_if("X-Agora-Api-Key new-key"))
    assert transport.get_json(PATH) == "welcome"
    assert server.authorizations()[2:] == ["X-Agora-Api-Key new-key"]


def test_a_key_replaced_during_a_request_is_used_for_its_second_try(server, transport):
    def reply(connection, request):
        transport.replace_credential(ApiKey("new-key"))
        answer_if("X-Agora-Api-Key new-key")(connection, request)

    server.on(PATH, reply)
    assert transport.get_json(PATH) == "welcome"


def test_a_token_has_no_second_way(server, make_transport):
    server.on(PATH, answer_json({}, 401))
    with pytest.raises(NotAuthenticated):
        make_transport(credential=Token("t")).get_json(PATH)
    assert server.authorizations() == ["Token t"]


# -- passwords ---------------------------------------------------------------------------------------


@pytest.fixture
def with_password(make_transport):
    return make_transport(credential=Password("ann", "open sesame"))


def test_a_password_is_exchanged_for_a_token_once(server, with_password):
    server.on(LOG_IN_PATH, answer_json({"key": "t1"}))
    server.on(PATH, answer_if("Token t1"))
    assert [with_password.get_json(PATH) for _ in range(2)] == ["welcome"] * 2
    assert [request.method + " " + request.path for request in server.seen] == [
        f"POST {LOG_IN_PATH}",
        f"GET {PATH}",
        f"GET {PATH}",
    ]
    assert server.seen[0].body == b"username=ann&password=open+sesame"
    assert "authorization" not in server.seen[0].headers


def test_a_token_that_the_server_forgot_is_renewed_once(server, with_password):
    server.on(LOG_IN_PATH, answer_json({"key": "t1"}), answer_json({"key": "t2"}))
    server.on(PATH, answer_if("Token t1"))
    with_password.get_json(PATH)
    server.on(PATH, answer_if("Token t2"))
    assert with_password.get_json(PATH) == "welcome"
    server.on(PATH, answer_if("nobody"))
    with pytest.raises(NotAuthenticated):
        with_password.get_json(PATH)


def test_a_forbidden_object_does_not_lead_to_a_new_log_in(server, with_password):
    server.on(LOG_IN_PATH, answer_json({"key": "t1"}))
    server.on(PATH, answer_json({}, 403))
    with pytest.raises(PermissionDenied):
        with_password.get_json(PATH)
    assert [request.path for request in server.seen] == [LOG_IN_PATH, PATH]


@pytest.mark.parametrize("status", [400, 401, 403])
def test_a_refused_password_is_not_sent_again(server, with_password, status):
    """Repeating a wrong password locks accounts."""
    server.on(LOG_IN_PATH, answer_json({"detail": "no"}, status))
    for _ in range(3):
        with pytest.raises(NotAuthenticated, match="API key"):
            with_password.get_json(PATH)
    assert len(server.seen) == 1

    with_password.replace_credential(Password("ann", "right"))
    server.on(LOG_IN_PATH, answer_json({"key": "t1"}))
    server.on(PATH, answer_if("Token t1"))
    assert with_password.get_json(PATH) == "welcome"


@pytest.mark.parametrize("passing", [vanish(), answer(b"", 503)])
def test_a_log_in_that_failed_on_the_way_is_tried_again(server, with_password, passing):
    server.on(LOG_IN_PATH, passing, answer_json({"key": "t1"}))
    server.on(PATH, answer_if("Token t1"))
    assert with_password.get_json(PATH) == "welcome"


@pytest.mark.parametrize(
    "reply", [answer_json({}), answer_json({"key": ""}), answer_json([1]), answer_json({"key": 5})]
)
def test_a_log_in_without_a_token_is_a_protocol_error(server, with_password, reply):
    server.on(LOG_IN_PATH, reply)
    with pytest.raises(ProtocolError, match="token"):
        with_password.get_json(PATH)


@pytest.mark.parametrize(("status", "error"), [(404, "404"), (500, "500")])
def test_a_log_in_that_fails_otherwise_names_the_status(server, with_password, status, error):
    server.on(LOG_IN_PATH, answer_json({}, status))
    with pytest.raises(Exception, match=error) as caught:
        with_password.get_json(PATH)
    assert not isinstance(caught.value, NotAuthenticated)


def test_the_password_does_not_follow_a_redirect(server, with_password):
    server.on(LOG_IN_PATH, redirect("/elsewhere/", 307))
    with pytest.raises(ProtocolError, match="not sent on"):
        with_password.get_json(PATH)
    assert len(server.seen) == 1


def test_many_threads_share_one_log_in(server, with_password):
    server.on(LOG_IN_PATH, answer_json({"key": "t1"}))
    server.on(PATH, answer_if("Token t1"))
    start = threading.Barrier(8)
    answers = []

    def work():
        start.wait()
        answers.append(with_password.get_json(PATH))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == ["welcome"] * 8
    assert [request.path for request in server.seen].count(LOG_IN_PATH) == 1


def test_the_password_is_in_no_log_line_and_no_error(server, with_password, caplog):
    caplog.set_level(logging.DEBUG)
    server.on(LOG_IN_PATH, vanish())
    with pytest.raises(RemoteUnavailable) as caught:
        with_password.get_json(PATH, deadline_s=1)
    assert "sesame" not in caplog.text + str(caught.value) + repr(caught.value)
    assert caplog.records
