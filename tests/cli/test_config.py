"""Settings: how their text is read, what they default to, what they do not show."""

import pwd
from pathlib import Path

import pytest

from agorafs import config
from agorafs.client.auth import ApiKey
from agorafs.config import GIB, KNOWN_SETTINGS, MIB, Settings, parse_value
from agorafs.errors import ExitStatus, UsageError


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1048576", MIB),
        ("20 GiB", 20 * GIB),
        ("20GiB", 20 * GIB),
        ("20g", 20 * GIB),
        ("1.5 MiB", 3 * MIB // 2),
        ("64 MB", 64_000_000),
        (20 * GIB, 20 * GIB),
    ],
)
def test_a_size_may_carry_a_unit(text, size):
    assert parse_value("cache_max_bytes", text) == size


@pytest.mark.parametrize(
    ("text", "seconds"), [("30", 30), ("500 ms", 0.5), ("2 min", 120), (0, 0), (0.25, 0.25)]
)
def test_a_time_may_carry_a_unit(text, seconds):
    assert parse_value("listing_ttl_s", text) == seconds


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("cache_max_bytes", "20 potatoes", "must be a size"),
        ("cache_max_bytes", "-1", "must be a size"),
        ("cache_max_bytes", "", "must be a size"),
        ("cache_max_bytes", True, "must be a size, not bool"),
        ("cache_max_bytes", "1 KiB", "must be at least 1,048,576"),
        ("listing_ttl_s", "nan", "must be a time"),
        ("listing_ttl_s", "soon", "must be a time"),
        ("connections", "0", "must be at least 1"),
        ("connections", "2.5", "must be a whole number"),
        ("connections", 2.5, "must be a whole number"),
        ("binding", "pyfuse3", "must be mfusepy or fusepy"),
        ("allow_other", "perhaps", "must be true or false"),
        ("umask", "8", "must be permission bits"),
        ("umask", "7777", "must be permission bits"),
        ("ca_bundle", "", "must not be empty"),
        ("uid", ["1"], "must be a whole number, not list"),
    ],
)
def test_a_value_that_can_not_be_meant_is_refused_with_words(name, value, words):
    with pytest.raises(ValueError, match=words.replace("+", r"\+")):
        parse_value(name, value)


@pytest.mark.parametrize(("value", "bits"), [("022", 0o022), ("0o077", 0o077), ("0", 0), (0o027, 0o027)])
def test_umask_is_read_as_an_octal_number(value, bits):
    assert parse_value("umask", value) == bits


def test_paths_become_absolute_at_once(monkeypatch, tmp_path):
    """The process of a mount works in /, so a relative path would mean something else there."""
    monkeypatch.chdir(tmp_path)
    assert parse_value("ca_bundle", "certificates.pem") == tmp_path / "certificates.pem"


def test_every_default_is_a_value_that_could_have_been_given():
    settings = Settings(url="https://agora.example.org")
    for name, about in KNOWN_SETTINGS.items():
        value = getattr(settings, name)
        if value is not None:
            text = f"{value:03o}" if about.kind is config.Kind.OCTAL else str(value)
            assert parse_value(name, text) == value, name


def test_every_setting_says_what_it_trades():
    assert all(len(about.help_text) > 20 for about in KNOWN_SETTINGS.values())


def test_the_credential_is_not_in_the_repr():
    settings = Settings(url="https://agora.example.org", credential=ApiKey("sesame-1234"))
    assert "sesame" not in repr(settings)
    assert "credential" not in repr(settings)


def test_directories_follow_the_xdg_variables(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    settings = Settings(url="https://agora.example.org")
    assert settings.cache_directory == tmp_path / "cache" / "agorafs"
    assert settings.state_directory == tmp_path / "state" / "agorafs"
    assert config.default_config_file() == tmp_path / "config" / "agorafs" / "config.toml"


def test_directories_are_known_without_home(monkeypatch):
    """Mount units of systemd run without HOME; the user database knows the home directory."""
    for variable in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    assert config.default_cache_directory().is_absolute()


def test_without_any_home_directory_no_place_is_guessed(monkeypatch):
    def unknown(uid):
        raise KeyError(uid)

    for variable in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    with pytest.raises(UsageError, match="set XDG_CACHE_HOME") as refused:
        config.default_cache_directory()
    assert refused.value.exit_status is ExitStatus.CONFIGURATION


def test_given_directories_are_kept():
    settings = Settings(
        url="https://agora.example.org", cache_directory=Path("/a"), state_directory=Path("/b")
    )
    assert (settings.cache_directory, settings.state_directory) == (Path("/a"), Path("/b"))
