"""Connecting: who the server takes the mount for, and which projects it then shows, as for the vendor's connector."""

from __future__ import annotations

import json

import gtagora
import pytest

from tests.support.mount import Mount

NO_KEY = "not-a-key"


@pytest.fixture
def other(bench, tmp_path):
    """Return a mount of the same server that has no good key, and is not mounted yet."""
    mount = Mount(bench.server.url, NO_KEY, tmp_path / "home")
    yield mount
    mount.clear()


@pytest.fixture
def connect(bench):
    """Connect the connector as somebody else; it keeps one connection per process, so the first is put back."""
    yield lambda **options: gtagora.Agora.create(bench.server.url, **options)
    gtagora.Agora.set_default_client(bench.agora.http_client)


def user_of(mount):
    return json.loads((mount.path / ".agora" / "me.json").read_bytes())["username"]


def assert_both_are(mount, agora, username):
    """Mount and connector were let in as the same user, and see the same projects."""
    assert user_of(mount) == agora.get_current_user().username == username
    assert sorted(path.name for path in (mount.path / "projects").iterdir()) == sorted(
        project.display_name for project in agora.get_projects()
    )


@pytest.mark.feature(1, how="`--user NAME --password-file FILE`, or once `agorafs login URL`")
def test_a_user_and_a_password_connect_as_that_user(bench, other, connect):
    file = other.home / "password"
    file.write_text("scientist\n")
    done = other.try_mount("--user", "scientist", "--password-file", str(file))
    assert done.returncode == 0, done.stderr
    assert_both_are(other, connect(user="scientist", password="scientist"), "scientist")


@pytest.mark.feature(2, how="`agorafs mount URL DIR --api-key-file FILE`")
def test_a_key_in_a_file_connects_as_its_user(bench, other, connect):
    file = other.home / "key"
    file.write_text(bench.server.users["observer"])
    done = other.try_mount("--api-key-file", str(file))
    assert done.returncode == 0, done.stderr
    assert_both_are(other, connect(api_key=bench.server.users["observer"]), "observer")


@pytest.mark.feature(2, how="`AGORA_API_KEY=… agorafs mount URL DIR`")
def test_a_key_in_the_environment_connects_as_its_user(bench, other, connect):
    key = bench.server.users["scientist"]
    done = other.try_mount(api_key=key)
    assert done.returncode == 0, done.stderr
    assert_both_are(other, connect(api_key=key), "scientist")
