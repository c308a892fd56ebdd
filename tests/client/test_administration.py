"""Projects, members, hosts, users and keys: what is sent, what comes back, and that no secret is told."""

from __future__ import annotations

import pytest

from agorafs.errors import NotAuthenticated, NotFound, PermissionDenied, ProtocolError, RemoteUnavailable
from tests.client.conftest import KEY
from tests.client.sent import sent
from tests.support.http_server import answer, answer_json, vanish

PROJECT = {"id": 3, "name": "Neuro", "root_folder": 10, "memberships": []}
HOST = {"id": 1, "name": "gpu", "cores": 8, "unknown": {"a": 1}}


@pytest.mark.parametrize(
    ("change", "method", "path", "body", "answered"),
    [
        (
            lambda c: c.create_project("Neuro", "About"), "POST", "/api/v2/project/",
            {"name": "Neuro", "description": "About"}, PROJECT,
        ),
        (lambda c: c.rename_project(3, "New"), "PUT", "/api/v2/project/3/", {"name": "New"}, PROJECT),
        (lambda c: c.delete_project(3), "DELETE", "/api/v2/project/3/", "", None),
        (
            lambda c: c.add_member(3, 8, 2), "POST", "/api/v2/projectmembership/",
            {"project": 3, "role": 2, "user": 8}, {"id": 1},
        ),
        (lambda c: c.copy_host(3, HOST), "POST", "/api/v2/project/3/host/", HOST, HOST),
        (lambda c: c.move_host(3, 1), "POST", "/api/v2/project/3/host/1/move/", {}, {}),
        (
            lambda c: c.create_user("ann", "p&s", first_name="Ann"), "POST", "/api/v1/user/",
            "username=ann&password=p%26s&first_name=Ann&is_superuser=False", {"id": 8, "username": "ann"},
        ),
    ],
)  # fmt: skip
def test_a_change_is_sent_as_the_vendors_programs_send_it(
    server, client, change, method, path, body, answered
):
    server.on(path, answer(b"", 204) if answered is None else answer_json(answered, 201))
    change(client.administration)
    assert sent(server) == (method, path, body)
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    ("change", "path"),
    [
        (lambda c: c.create_project("a", ""), "/api/v2/project/"),
        (lambda c: c.add_member(3, 8, 2), "/api/v2/projectmembership/"),
        (lambda c: c.copy_host(3, HOST), "/api/v2/project/3/host/"),
        (lambda c: c.create_user("ann", "secret"), "/api/v1/user/"),
        (lambda c: c.create_api_key(), "/api/v1/apikey/"),
    ],
)
def test_what_would_be_there_twice_is_asked_for_once(server, client, change, path):
    server.on(path, vanish())
    with pytest.raises(RemoteUnavailable):
        change(client.administration)
    assert len(server.seen) == 1


def test_a_new_project_is_in_the_answer(server, client):
    server.on("/api/v2/project/", answer_json(PROJECT, 201))
    project = client.administration.create_project("Neuro", "")
    assert (project.id, project.name, project.root_folder) == (3, "Neuro", 10)


def test_roles_are_names_by_id(server, client):
    server.on(
        "/api/v2/projectrole/", answer_json([{"id": 1, "name": "manager"}, {"id": 4, "name": "observer"}])
    )
    assert client.administration.roles() == {1: "manager", 4: "observer"}


@pytest.mark.parametrize(
    ("ask", "path"),
    [
        (lambda c: c.hosts(3), "/api/v2/project/3/host/"),
        (lambda c: c.users(), "/api/v1/user/"),
        (lambda c: c.groups(), "/api/v1/groups/"),
    ],
)
def test_hosts_users_and_groups_come_as_the_server_gives_them(server, client, ask, path):
    server.on(path, answer_json({"count": 1, "next": None, "results": [HOST]}))
    assert ask(client.administration) == [HOST]


def test_a_list_of_something_else_is_a_protocol_error(server, client):
    server.on("/api/v1/user/", answer_json(["ann"]))
    with pytest.raises(ProtocolError, match="/api/v1/user/"):
        client.administration.users()


@pytest.mark.parametrize("status", [400, 403, 500])
def test_a_password_that_the_server_echoes_is_in_no_error(server, client, status, caplog):
    caplog.set_level("DEBUG")
    server.on("/api/v1/user/", answer_json({"password": ["'open sesame' is too common"]}, status))
    with pytest.raises(Exception, match="too common") as caught:
        client.administration.create_user("ann", "open sesame")
    assert "open sesame" not in str(caught.value)
    assert "open" not in caplog.text


# -- one's own access --------------------------------------------------------------------------------


def test_the_key_is_read_and_made_only_when_asked_for(server, client):
    server.on("/api/v1/apikey/", answer_json({"detail": "none"}, 404), answer_json({"key": "abc"}, 201))
    with pytest.raises(NotFound):
        client.administration.api_key()
    assert client.administration.create_api_key() == "abc"
    assert [request.method for request in server.seen] == ["GET", "POST"]


@pytest.mark.parametrize("answered", [{}, {"key": ""}, {"key": 3}, ["abc"], None])
def test_an_answer_without_a_key_is_a_protocol_error(server, client, answered):
    server.on("/api/v1/apikey/", answer_json(answered))
    with pytest.raises(ProtocolError, match="without a key"):
        client.administration.api_key()


def test_logging_in_gives_the_token_and_sends_no_key(server, client, caplog):
    caplog.set_level("DEBUG")
    server.on("/api/v1/rest-auth/login/", answer_json({"key": "t0ken"}))
    assert client.administration.log_in("ann", "p&s") == "t0ken"
    assert sent(server) == ("POST", "/api/v1/rest-auth/login/", "username=ann&password=p%26s")
    assert server.authorizations() == [None]
    server.on("/api/v1/groups/", answer_json([]))
    client.administration.groups()
    assert KEY in str(
        server.authorizations()[-1]
    )  # the token is for the caller, not for the requests after it
    assert "t0ken" not in caplog.text
    assert "p&s" not in caplog.text


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (answer_json({"detail": "wrong"}, 400), NotAuthenticated),
        (answer_json({"detail": "wrong"}, 403), NotAuthenticated),
        (answer_json({}), ProtocolError),
        (answer_json({"detail": "later"}, 503), RemoteUnavailable),
        (vanish(), RemoteUnavailable),
    ],
)
def test_a_log_in_that_fails_says_why_and_is_not_tried_again(server, client, reply, error):
    server.on("/api/v1/rest-auth/login/", reply)
    with pytest.raises(error) as caught:
        client.administration.log_in("ann", "open sesame")
    assert "sesame" not in str(caught.value)
    assert len(server.seen) == 1


def test_what_only_administrators_may_is_refused_with_the_servers_words(server, client):
    server.on("/api/v1/user/", answer_json({"detail": "Administrators only."}, 403))
    with pytest.raises(PermissionDenied, match="Administrators only"):
        client.administration.create_user("ann", "secret")
