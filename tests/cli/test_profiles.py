"""Settings from several places: which one wins, and what is said of a wrong one."""

import pytest

from agorafs.client.auth import ApiKey
from agorafs.config import GIB
from agorafs.errors import ExitStatus, NotAuthenticated, UsageError
from agorafs.profiles import CredentialSource, resolve

URL = "https://agora.example.org"


@pytest.fixture
def config_file(tmp_path):
    """Return a function that writes the configuration file and returns its path."""

    def write(text, mode=0o600):
        path = tmp_path / "config.toml"
        path.write_text(text, encoding="utf-8")
        path.chmod(mode)
        return path

    return write


@pytest.fixture
def key_file(tmp_path):
    path = tmp_path / "key"
    path.write_text("key-from-file\n", encoding="ascii")
    path.chmod(0o600)
    return path


def test_a_profile_gives_address_settings_and_key(config_file, key_file):
    path = config_file(
        f'[profiles.institute]\nurl = "{URL}/"\napi_key_file = "{key_file}"\ncache_max_bytes = "100 GiB"\n'
    )
    resolved = resolve("institute", {}, config_file=path, environ={})
    assert resolved.settings.url == URL
    assert resolved.settings.cache_max_bytes == 100 * GIB
    assert resolved.settings.credential is None
    assert resolved.with_credential().credential == ApiKey("key-from-file")


def test_options_win_over_the_profile(config_file, key_file):
    path = config_file(
        f'[profiles.p]\nurl = "{URL}"\napi_key_file = "{key_file}"\nlisting_ttl_s = 5\nuid = 7\n'
    )
    settings = resolve("p", {"listing_ttl_s": 1.0}, config_file=path, environ={}).settings
    assert (settings.listing_ttl_s, settings.uid) == (1.0, 7)


def test_the_key_is_taken_from_the_option_then_the_environment_then_the_profile(config_file, key_file):
    path = config_file(f'[profiles.p]\nurl = "{URL}"\napi_key = "key-from-profile"\n')
    environ = {"AGORA_API_KEY": "key-from-environment"}

    def key(**places):
        return resolve("p", {}, config_file=path, **places).with_credential().credential

    assert key(environ=environ, api_key_file=key_file) == ApiKey("key-from-file")
    assert key(environ=environ) == ApiKey("key-from-environment")
    assert key(environ={}) == ApiKey("key-from-profile")


def test_no_key_anywhere_is_not_authenticated_and_says_where_to_put_one():
    with pytest.raises(NotAuthenticated, match="AGORA_API_KEY") as refused:
        resolve(URL, {}, environ={})
    assert refused.value.exit_status is ExitStatus.NOT_AUTHENTICATED


def test_a_key_file_is_read_anew_each_time(key_file):
    """SIGHUP brings a new key."""
    source = CredentialSource(key_file=key_file)
    assert source.read() == ApiKey("key-from-file")
    key_file.write_text("another-key", encoding="ascii")
    assert source.read() == ApiKey("another-key")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "holds no API key"),
        (b" \n", "holds no API key"),
        (b"two words", "one API key and nothing else"),
        (b"one\ntwo\n", "one API key and nothing else"),
        (b"k\xffy", "one API key and nothing else"),
        (b"k" * 5000, "too long"),
    ],
)
def test_a_key_file_that_holds_something_else_is_refused_without_showing_it(key_file, content, words):
    key_file.write_bytes(content)
    with pytest.raises(UsageError, match=words) as refused:
        CredentialSource(key_file=key_file).read()
    assert refused.value.exit_status is ExitStatus.CONFIGURATION
    assert str(key_file) in str(refused.value)
    assert "two" not in str(refused.value)


def test_a_missing_key_file_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"nokey can not be read: No such file") as refused:
        CredentialSource(key_file=tmp_path / "nokey").read()
    assert refused.value.exit_status is ExitStatus.CONFIGURATION


def test_a_key_file_that_everybody_can_read_is_pointed_out(key_file):
    assert CredentialSource(key_file=key_file).warning() is None
    key_file.chmod(0o644)
    assert f"chmod 600 {key_file}" in (CredentialSource(key_file=key_file).warning() or "")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_configuration_file_with_a_key_is_refused_when_others_can_open_it(config_file, mode):
    path = config_file(f'[profiles.p]\nurl = "{URL}"\napi_key = "sesame-1234"\n', mode)
    with pytest.raises(UsageError, match="chmod 600") as refused:
        resolve("p", {}, config_file=path, environ={})
    assert refused.value.exit_status is ExitStatus.CONFIGURATION
    assert "sesame" not in str(refused.value)


def test_a_configuration_file_without_a_key_may_be_read_by_others(config_file, key_file):
    path = config_file(f'[profiles.p]\nurl = "{URL}"\napi_key_file = "{key_file}"\n', 0o644)
    assert resolve("p", {}, config_file=path, environ={}).settings.url == URL


def test_a_relative_key_file_lies_beside_the_configuration_file(config_file, key_file):
    path = config_file(f'[profiles.p]\nurl = "{URL}"\napi_key_file = "key"\n')
    assert resolve("p", {}, config_file=path, environ={}).credential_source.key_file == key_file


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[profiles.p\n", "not valid TOML"),
        ('[profiles.p]\nurl = "https://a"\nlistingttl_s = 5\n', "did you mean listing_ttl_s"),
        ('[profiles.p]\nurl = "https://a"\nlisting_ttl_s = "soon"\n', "p: listing_ttl_s must be a time"),
        ("[profiles.p]\nurl = 5\n", "url must be a text"),
        ("[profiles.p]\n", "has no url"),
        ("profiles = 5\n", "must be tables"),
        ("[profile.p]\n", "did you mean profiles"),
        ("[profiles.pp]\n", r"no profile p \(did you mean pp\?\); it has: pp"),
        ("", "no profile p; it has: none"),
    ],
)
def test_a_mistake_in_the_file_is_named_with_the_file(config_file, text, words):
    path = config_file(text)
    with pytest.raises(UsageError, match=words) as refused:
        resolve("p", {}, config_file=path, environ={"AGORA_API_KEY": "k"})
    assert refused.value.exit_status is ExitStatus.CONFIGURATION
    assert str(path) in str(refused.value)


def test_a_source_that_is_neither_address_nor_profile_says_what_an_address_looks_like(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    with pytest.raises(UsageError, match="https://"):
        resolve("agora.example.org", {}, environ={"AGORA_API_KEY": "k"})


def test_http_to_another_machine_needs_insecure():
    with pytest.raises(UsageError) as refused:
        resolve("http://agora.example.org", {}, environ={"AGORA_API_KEY": "k"})
    assert refused.value.exit_status is ExitStatus.INSECURE_URL
    settings = resolve(
        "http://agora.example.org", {"insecure": True}, environ={"AGORA_API_KEY": "k"}
    ).settings
    assert settings.url == "http://agora.example.org"


def test_a_password_in_the_address_is_refused_without_repeating_it():
    with pytest.raises(UsageError) as refused:
        resolve("https://me:sesame-1234@agora.example.org", {}, environ={"AGORA_API_KEY": "k"})
    assert "sesame" not in str(refused.value)


def test_a_key_from_the_environment_is_not_in_the_repr():
    resolved = resolve(URL, {}, environ={"AGORA_API_KEY": "sesame-1234"})
    assert "sesame" not in repr(resolved)
    assert "sesame" not in repr(resolved.with_credential())
