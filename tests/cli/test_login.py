"""``agorafs login`` and ``ping`` against the sandbox: nothing they print holds a secret, and one file at most does."""

from __future__ import annotations

import io
import json
import stat
import sys
from types import ModuleType

import pytest

from agorafs import cli
from agorafs.client import ApiKey, Password, Token
from agorafs.errors import ExitStatus
from agorafs.profiles import resolve
from tests.support.sandbox import SandboxProcess

PASSWORD = "admin"  # the sandbox's users have their names for passwords


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory):
    with SandboxProcess(tmp_path_factory.mktemp("login") / "sandbox") as sandbox:
        yield sandbox


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Return the directory of the configuration; no keyring, and nothing in the environment."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    for name in ("AGORA_API_KEY", "AGORA_TOKEN", "AGORA_USER", "AGORA_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setitem(sys.modules, "keyring", None)
    return tmp_path / "agorafs"


@pytest.fixture
def keyring(home, monkeypatch):
    """Put a keyring in place; return what it keeps."""
    kept: dict[tuple[str, str], str] = {}
    library, failures = ModuleType("keyring"), ModuleType("keyring.errors")
    failures.KeyringError = type("KeyringError", (Exception,), {})  # type: ignore[attr-defined]
    library.get_keyring = lambda: type("Backend", (), {"priority": 5})  # type: ignore[attr-defined]
    library.get_password = lambda service, name: kept.get((service, name))  # type: ignore[attr-defined]
    library.set_password = lambda service, name, key: kept.update({(service, name): key})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "keyring", library)
    monkeypatch.setitem(sys.modules, "keyring.errors", failures)
    return kept


@pytest.fixture
def agorafs(home, monkeypatch, capsys):
    """Return a function that runs the command and returns its status and all that it printed."""

    def run(*arguments, stdin=""):
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        status = cli.main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return status, printed.out + printed.err

    return run


def log_in(agorafs, sandbox, *more, user="admin", password=PASSWORD):
    return agorafs("login", sandbox.url, "--user", user, "--password-stdin", *more, stdin=f"{password}\n")


@pytest.mark.feature(70, how="`agorafs login URL [--create-key]`")
def test_a_password_becomes_a_key_in_a_file_and_a_profile_that_leads_to_it(agorafs, sandbox, home):
    key = sandbox.get("v1/apikey/")["key"]
    status, printed = log_in(agorafs, sandbox, "--profile", "lab")
    assert status == ExitStatus.OK, printed
    assert key not in printed
    assert "as admin" in printed
    assert (home / "lab.key").read_text() == f"{key}\n"
    assert [stat.S_IMODE((home / name).stat().st_mode) for name in ("lab.key", "config.toml")] == [0o600] * 2
    resolved = resolve("lab", {}, environ={})
    assert (resolved.settings.url, resolved.with_credential().credential) == (sandbox.url, ApiKey(key))
    text = (home / "config.toml").read_text()
    assert key not in text
    assert PASSWORD not in text
    assert agorafs("ping", "lab")[0] == ExitStatus.OK


def test_without_a_name_the_profile_is_called_as_the_server(agorafs, sandbox, home):
    assert log_in(agorafs, sandbox)[0] == ExitStatus.OK
    assert resolve("127.0.0.1", {}, environ={}).settings.url == sandbox.url


def test_a_wrong_password_is_refused_and_nothing_is_written(agorafs, sandbox, home):
    status, printed = log_in(agorafs, sandbox, password="sesame-1234")
    assert status == ExitStatus.NOT_AUTHENTICATED
    assert "sesame" not in printed
    assert not home.exists()


def test_no_password_on_standard_input_is_a_mistake(agorafs, sandbox):
    status, printed = agorafs("login", sandbox.url, "--user", "admin", "--password-stdin")
    assert (status, "no password" in printed) == (ExitStatus.USAGE, True)


def test_a_key_is_made_only_when_it_is_asked_for(agorafs, sandbox, home):
    sandbox.post("v1/user/", {"username": "carl", "password": "carl"})
    sandbox.reset_requests()
    status, printed = log_in(agorafs, sandbox, user="carl", password="carl")
    assert (status, "--create-key" in printed) == (ExitStatus.FAILED, True)
    assert not [one for one in sandbox.requests() if one["method"] == "POST" and "apikey" in one["path"]]
    status, printed = log_in(
        agorafs, sandbox, "--create-key", "--profile", "carl", user="carl", password="carl"
    )
    assert status == ExitStatus.OK, printed
    key = (home / "carl.key").read_text().strip()
    assert key not in printed
    assert log_in(agorafs, sandbox, "--create-key", "--profile", "carl", user="carl", password="carl")[0] == 0
    assert (home / "carl.key").read_text().strip() == key  # there is one, so none is made


def test_where_there_is_a_keyring_the_key_is_in_no_file(agorafs, sandbox, home, keyring):
    key = sandbox.get("v1/apikey/")["key"]
    status, printed = log_in(agorafs, sandbox, "--profile", "lab")
    assert (status, "the keyring" in printed) == (ExitStatus.OK, True)
    assert keyring == {("agorafs", "lab"): key}
    assert [path.name for path in home.iterdir()] == ["config.toml"]
    assert key not in (home / "config.toml").read_text()
    assert resolve("lab", {}, environ={}).with_credential().credential == ApiKey(key)
    keyring.clear()
    status, printed = agorafs("ping", "lab")
    assert (status, "agorafs login again" in printed) == (ExitStatus.CONFIGURATION, True)


def test_the_keyring_can_be_declined(agorafs, sandbox, home, keyring):
    assert log_in(agorafs, sandbox, "--profile", "lab", "--no-keyring")[0] == ExitStatus.OK
    assert (keyring, (home / "lab.key").exists()) == ({}, True)


def test_where_keys_are_switched_off_the_session_can_be_kept(agorafs, sandbox, home):
    status, printed = log_in(agorafs, sandbox, "--token", "--profile", "lab")
    assert status == ExitStatus.OK
    token = (home / "lab.token").read_text().strip()
    assert token not in printed
    assert resolve("lab", {}, environ={}).with_credential().credential == Token(token)
    assert agorafs("ping", "lab")[0] == ExitStatus.OK
    assert agorafs("ping", sandbox.url, "--token-file", home / "lab.token")[0] == ExitStatus.OK


def test_the_rest_of_the_configuration_stays_as_it_is(agorafs, sandbox, home):
    home.mkdir()
    path = home / "config.toml"
    before = (
        '# mine\n[profiles.other]\nurl = "https://other"   # far away\n\n'
        f'[profiles.lab]  # here\nurl = "{sandbox.url}/"\napi_key = "old-key"\nlisting_ttl_s = 5\n'
        '\n[profiles."last one"]\nurl = "https://last"\n'
    )
    path.write_text(before)
    path.chmod(0o600)
    assert log_in(agorafs, sandbox, "--profile", "lab")[0] == ExitStatus.OK
    after = path.read_text()
    assert "old-key" not in after
    assert after.startswith(
        '# mine\n[profiles.other]\nurl = "https://other"   # far away\n\n[profiles.lab]  # here\n'
    )
    assert after.endswith('\n[profiles."last one"]\nurl = "https://last"\n')
    resolved = resolve("lab", {}, environ={})
    assert resolved.settings.listing_ttl_s == 5
    assert resolved.credential_source.key_file == home / "lab.key"


def test_a_profile_of_another_server_is_left_alone(agorafs, sandbox, home):
    home.mkdir()
    (home / "config.toml").write_text('[profiles.lab]\nurl = "https://other"\n')
    status, printed = log_in(agorafs, sandbox, "--profile", "lab")
    assert (status, "https://other" in printed) == (ExitStatus.CONFIGURATION, True)
    assert (home / "config.toml").read_text() == '[profiles.lab]\nurl = "https://other"\n'


@pytest.mark.parametrize(
    "text",
    [
        'profiles.lab.url = "{url}"\n',
        'profiles = {{ lab = {{ url = "{url}" }} }}\n',
        '[profiles]\nlab = {{ url = "{url}" }}\n',
    ],
)
def test_a_file_that_is_written_in_another_way_is_left_alone_and_the_way_out_told(
    agorafs, sandbox, home, text
):
    home.mkdir()
    text = text.format(url=sandbox.url)
    (home / "config.toml").write_text(text)
    status, printed = log_in(agorafs, sandbox, "--profile", "lab")
    assert (status, 'api_key_file = "lab.key"' in printed) == (ExitStatus.CONFIGURATION, True)
    assert (home / "config.toml").read_text() == text


def test_the_name_of_a_profile_can_be_anything_but_a_path(agorafs, sandbox, home):
    assert log_in(agorafs, sandbox, "--profile", 'a "b" \\ é.')[0] == ExitStatus.OK
    assert resolve('a "b" \\ é.', {}, environ={}).settings.url == sandbox.url
    assert log_in(agorafs, sandbox, "--profile", "a/b")[0] == ExitStatus.USAGE


@pytest.mark.feature(68, how="`agorafs ping SOURCE`")
@pytest.mark.feature(69, how="`agorafs ping SOURCE`, `.agora/version.json`")
def test_ping_tells_the_version_without_a_key_and_the_user_with_one(agorafs, sandbox, tmp_path):
    status, printed = agorafs("ping", sandbox.url)
    assert (status, "Agora 7.14.6; no key" in printed) == (ExitStatus.OK, True)
    (tmp_path / "key").write_text(sandbox.api_key)
    status, printed = agorafs("ping", sandbox.url, "--api-key-file", tmp_path / "key", "--json")
    said = json.loads(printed)
    assert (said["user"], said["version"], said["milliseconds"] > 0) == ("admin", "7.14.6", True)


@pytest.mark.parametrize(("kind", "word"), [("api-key", "API key"), ("token", "session token")])
def test_ping_says_which_credential_was_not_accepted_and_what_to_do(agorafs, sandbox, tmp_path, kind, word):
    (tmp_path / "secret").write_text("sesame-1234")
    status, printed = agorafs("ping", sandbox.url, f"--{kind}-file", tmp_path / "secret")
    assert status == ExitStatus.NOT_AUTHENTICATED
    assert f"does not accept the {word} from {tmp_path}/secret: " in printed
    assert "sesame" not in printed


def test_ping_of_a_server_that_is_away_says_so(agorafs, home):
    assert agorafs("ping", "http://127.0.0.1:9")[0] == ExitStatus.UNAVAILABLE


def test_a_user_and_a_password_from_a_file_or_the_environment_are_enough(
    agorafs, sandbox, tmp_path, monkeypatch
):
    file = tmp_path / "password"
    file.write_text(f"{PASSWORD}\n")
    assert agorafs("ping", sandbox.url, "--user", "admin", "--password-file", file)[0] == ExitStatus.OK
    assert agorafs("ping", sandbox.url, "-o", f"username=admin,password_file={file}")[0] == ExitStatus.OK
    monkeypatch.setenv("AGORA_PASSWORD", PASSWORD)
    status, printed = agorafs("ping", sandbox.url)
    assert (status, "--user" in printed) == (ExitStatus.USAGE, True)
    monkeypatch.setenv("AGORA_USER", "admin")
    status, printed = agorafs("ping", sandbox.url)
    assert (status, "as admin" in printed) == (ExitStatus.OK, True)
    assert agorafs("ping", sandbox.url, "--user", "nobody")[0] == ExitStatus.NOT_AUTHENTICATED


def test_the_credential_that_wins_is_told_by_place_and_then_by_kind(home, tmp_path):
    for name in ("key", "token", "password"):
        (tmp_path / name).write_text(name)
    home.mkdir()
    profile = '[profiles.p]\nurl = "https://a"\nuser = "ann"\n'
    url, path = "https://a", home / "config.toml"

    def won(*lines, source="p", **environ):
        path.write_text(profile + "".join(f'{kind}_file = "{tmp_path}/{name}"\n' for kind, name in lines))
        return resolve(source, {}, environ=environ).with_credential().credential

    assert won(("password", "password")) == Password("ann", "password")
    assert won(("password", "password"), ("token", "token")) == Token("token")
    assert won(("password", "password"), ("token", "token"), ("api_key", "key")) == ApiKey("key")
    assert won(("api_key", "key"), AGORA_TOKEN="of-environment") == Token("of-environment")
    assert won(source=url, AGORA_PASSWORD="p w", AGORA_USER="eve") == Password("eve", "p w")
    assert won(("password", "password"), AGORA_USER="eve") == Password("eve", "password")


@pytest.mark.parametrize("content", ["", "\n", "two\nlines\n", "a\0b"])
def test_a_password_file_holds_one_line(agorafs, sandbox, tmp_path, content):
    (tmp_path / "password").write_text(content)
    status, printed = agorafs(
        "ping", sandbox.url, "--user", "admin", "--password-file", tmp_path / "password"
    )
    assert (status, "lines" in printed) == (ExitStatus.CONFIGURATION, False)


@pytest.mark.parametrize("name", ["token", "password", "api_key"])
def test_a_secret_among_the_options_is_refused_without_repeating_it(agorafs, name):
    status, printed = agorafs("ping", "https://agora.example.org", "-o", f"{name}=sesame-1234")
    assert (status, f"{name}_file" in printed, "sesame" in printed) == (ExitStatus.USAGE, True, False)
