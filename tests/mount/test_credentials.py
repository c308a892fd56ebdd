"""A real mount with what is no API key: a session token, a user and a password, a profile that a login wrote."""

from __future__ import annotations

import json
import os
import signal
import subprocess

import pytest

from tests.support.mount import COMMAND, Mount
from tests.support.waiting import eventually

PASSWORD = "admin"  # the sandbox's users have their names for passwords
NO_KEY = "not-a-key"


@pytest.fixture
def bare(private_demo, tmp_path):
    """Return a mount that has no good key, and is not mounted yet."""
    one = Mount(private_demo.url, NO_KEY, tmp_path / "home")
    yield one
    one.clear()


def log_in(server) -> str:
    token: str = server.post("v1/rest-auth/login/", {"username": "admin", "password": PASSWORD})["key"]
    return token


def user_of(mount: Mount) -> str:
    name: str = json.loads((mount.path / ".agora/me.json").read_bytes())["username"]
    return name


@pytest.mark.feature(67, how="`--token-file`, `AGORA_TOKEN`, `token_file` in a profile")
def test_a_session_token_mounts_and_a_new_one_is_read_at_sighup(private_demo, bare):
    file = bare.home / "token"
    file.write_text(log_in(private_demo))
    done = bare.try_mount("--token-file", str(file))
    assert done.returncode == 0, done.stderr
    assert user_of(bare) == "admin"
    private_demo.revoke()
    private_demo.set_api_key()
    file.write_text(log_in(private_demo))
    os.kill(bare.pid(), signal.SIGHUP)
    eventually(lambda: "the key was read again" in bare.log(), 30)
    assert (bare.path / ".agora/groups.json").read_bytes()  # asked of the server only now
    assert file.read_text() not in bare.log()


@pytest.mark.feature(1, how="`--user NAME --password-file FILE`, or once `agorafs login URL`")
def test_a_user_and_a_password_mount_and_a_session_that_was_forgotten_is_renewed(private_demo, bare):
    file = bare.home / "password"
    file.write_text(f"{PASSWORD}\n")
    done = bare.try_mount("--user", "admin", "--password-file", str(file))
    assert done.returncode == 0, done.stderr
    assert user_of(bare) == "admin"
    private_demo.revoke()
    assert (bare.path / ".agora/groups.json").read_bytes()  # asked of the server only now


def test_a_wrong_token_is_refused_with_its_place_and_the_way_out(bare):
    file = bare.home / "token"
    file.write_text("sesame-1234")
    done = bare.try_mount("--token-file", str(file))
    assert done.returncode == 3
    assert f"does not accept the session token from {file}: " in done.stderr
    assert "sesame" not in done.stderr + bare.log()


def test_after_one_login_the_profile_is_all_that_a_mount_needs(private_demo, bare):
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("AGORA", "XDG_"))},
        "XDG_CONFIG_HOME": str(bare.home / "config"),
        "XDG_CACHE_HOME": str(bare.home / "cache"),
        "XDG_STATE_HOME": str(bare.home / "state"),
    }

    def run(*arguments: object, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *map(str, arguments)],
            env=environment, input=stdin, capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip

    words = ["--user", "admin", "--password-stdin", "--profile", "lab", "--no-keyring"]
    run("login", private_demo.url, *words, stdin=f"{PASSWORD}\n")
    run("mount", "lab", bare.path)
    assert user_of(bare) == "admin"
