"""Where settings come from: options, environment, a profile of the configuration file, defaults.

Why.  ``config`` says what can be set. This module says what was set, by whom, and where the key is to be read
again when ``SIGHUP`` asks for it. A wrong name or value is answered with the place it stands in, the nearest
name that exists, and what a right value looks like.

Place.  Front-end side: used by ``commands``, uses ``config`` and the credentials of ``client.auth``.

The file, ``$XDG_CONFIG_HOME/agorafs/config.toml``::

    [profiles.institute]
    url = "https://agora.example.org"
    api_key_file = "~/.config/agorafs/institute.key"
    cache_max_bytes = "100 GiB"

Credentials.  An API key, or else a session token that somebody obtained, or else a user with a password, which is
exchanged for a token: the first that is given, on the command line before the environment before the profile.

Secrets.  A key is read from a file, from the profile (then the file must be closed to other users), from the
keyring or from ``AGORA_API_KEY``; tokens and passwords from a file, ``AGORA_TOKEN`` or ``AGORA_PASSWORD``. None is
ever taken from the command line, where ``ps`` shows it, and never from a URL. No message of this module contains one.
``CredentialSource`` remembers the place, not the secret; only one from the environment has to be kept, since the
environment can not be read again, and it is left out of ``repr``.

Failure.  ``UsageError`` with status CONFIGURATION for what stands in a file, USAGE for what stands on the
command line; ``NotAuthenticated`` when no credential was given at all.
"""

from __future__ import annotations

import ctypes
import dataclasses
import enum
import importlib
import os
import stat
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agorafs import keyring_access
from agorafs.client.auth import ApiKey, Credential, Password, Token
from agorafs.client.base_url import BaseUrl
from agorafs.config import KNOWN_SETTINGS, Settings, default_config_file, did_you_mean, parse_value
from agorafs.errors import ExitStatus, NotAuthenticated, UsageError

_USER_VARIABLE = "AGORA_USER"
_PASSWORD_VARIABLE = "AGORA_PASSWORD"
_PROFILE_ONLY = ("url", "api_key", "api_key_file", "keyring", "token_file", "user", "password_file")
_MAX_KEY_FILE_BYTES = 4096  # a key is some forty characters; a larger file is some other file


class CredentialKind(enum.Enum):
    """What is presented to the server; the value is its name in messages."""

    API_KEY = "API key"
    TOKEN = "session token"
    PASSWORD = "password"


_SECRET_VARIABLES = {
    "AGORA_API_KEY": CredentialKind.API_KEY,
    "AGORA_TOKEN": CredentialKind.TOKEN,
    _PASSWORD_VARIABLE: CredentialKind.PASSWORD,
}
_ADVICE = {
    CredentialKind.API_KEY: "make a new one in your profile on the server's web page",
    CredentialKind.TOKEN: "sessions end, so get a new token, or use an API key (agorafs login)",
    CredentialKind.PASSWORD: "check the user name and the password",
}


@dataclass(frozen=True, slots=True)
class Profile:
    """One ``[profiles.NAME]``: settings already parsed, and whether and where it has a key.

    ``keyring`` is the name under which the keyring has the key.
    """

    name: str
    path: Path
    url: str | None
    settings: Mapping[str, Any]
    api_key_file: Path | None
    has_api_key: bool
    keyring: str | None = None
    token_file: Path | None = None
    user: str | None = None
    password_file: Path | None = None


@dataclass(frozen=True, slots=True)
class GivenCredential:
    """What the command line said of credentials: files, and whose password it is."""

    api_key_file: Path | None = None
    token_file: Path | None = None
    user: str | None = None
    password_file: Path | None = None


@dataclass(frozen=True, slots=True)
class CredentialSource:
    """Where the credential of a mount is read, at the start and again on ``SIGHUP``. Exactly one place is set.

    ``user`` is whose password it is.
    """

    key_file: Path | None = None
    profile: Profile | None = None
    keyring: str | None = None
    from_environment: str | None = field(default=None, repr=False)
    kind: CredentialKind = CredentialKind.API_KEY
    user: str = ""

    @property
    def description(self) -> str:
        """The place in words, for messages."""
        if self.key_file is not None:
            return str(self.key_file)
        if self.profile is not None:
            return f"profile {self.profile.name} in {self.profile.path}"
        if self.keyring is not None:
            return f"the keyring ({self.keyring})"
        return next(variable for variable, kind in _SECRET_VARIABLES.items() if kind is self.kind)

    @property
    def advice(self) -> str:
        """What to do when the server does not accept it."""
        return _ADVICE[self.kind]

    def read(self) -> Credential:
        """Return the credential, read now.

        Raises:
            UsageError: The file is missing, can not be read, or does not hold one key.
        """
        if self.key_file is not None:
            return self._parsed(_read_secret_file(self.key_file, self.kind), f"the key file {self.key_file}")
        if self.profile is not None:
            table = _profile_table(read_toml(self.profile.path), self.profile.name, self.profile.path)
            _refuse_readable_by_others(self.profile.path)
            return self._parsed(table.get("api_key", ""), self.description)
        if self.keyring is not None:
            return self._parsed(keyring_access.read(self.keyring), self.description)
        return self._parsed(self.from_environment or "", self.description)

    def _parsed(self, text: object, place: str) -> Credential:
        what = self.kind.value
        if not isinstance(text, str) or not text.strip():
            raise UsageError(f"{place} holds no {what}", ExitStatus.CONFIGURATION)
        if self.kind is CredentialKind.PASSWORD:
            password = text.removesuffix("\n").removesuffix("\r")
            if not password.isprintable():
                raise UsageError(f"{place} must hold one password in one line", ExitStatus.CONFIGURATION)
            return Password(self.user, password)
        try:
            return ApiKey(text) if self.kind is CredentialKind.API_KEY else Token(text)
        except UsageError:  # said again with the place
            raise UsageError(
                f"{place} must hold one {what} and nothing else", ExitStatus.CONFIGURATION
            ) from None

    def warning(self) -> str | None:
        """Return a sentence when other users of this machine can read the key file, else None."""
        if self.key_file is None:
            return None
        try:
            mode = self.key_file.stat().st_mode
        except OSError:
            return None  # reading it says so better
        if stat.S_ISREG(mode) and mode & stat.S_IROTH:
            return f"every user of this machine can read the key: run chmod 600 {self.key_file}"
        return None


@dataclass(frozen=True, slots=True)
class Resolved:
    """What SOURCE and all the rest come to. ``settings`` has no credential yet."""

    settings: Settings
    credential_source: CredentialSource

    def with_credential(self) -> Settings:
        """Return the settings with the key, read now."""
        return dataclasses.replace(self.settings, credential=self.credential_source.read())


def resolve(
    source: str,
    given: Mapping[str, Any],
    *,
    credential: GivenCredential | None = None,
    api_key_file: Path | None = None,
    config_file: Path | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Resolved:
    """Bring together what was given for *source*, a URL or the name of a profile.

    Args:
        source: ``https://…``, or the name of a profile.
        given: Settings from the command line, parsed.
        credential: From the command line; wins over the environment and the profile.
        api_key_file: The same, where it is nothing but that.
        config_file: Instead of ``default_config_file()``; must exist when given.
        environ: The environment; ``AGORA_API_KEY``, ``AGORA_TOKEN``, ``AGORA_USER`` and ``AGORA_PASSWORD`` are read.

    Raises:
        UsageError: A name or value is wrong, or there is no such profile.
        NotAuthenticated: There is no credential anywhere.
    """
    profile = None if is_url(source) else _find_profile(source, config_file)
    settings: dict[str, Any] = {} if profile is None else dict(profile.settings)
    settings.update(given)
    insecure = settings.get("insecure", False)
    url = BaseUrl.parse(source if profile is None else _url_of(profile), insecure=insecure).text
    return Resolved(
        Settings(url=url, **settings),
        _find_credential(source, profile, credential or GivenCredential(api_key_file=api_key_file), environ),
    )


def forget_environment_key() -> None:
    """Take all secrets out of this process's environment, after ``resolve`` and before it serves for months.

    Removing a variable keeps it from child processes; what ``/proc/PID/environ`` and ``ps e`` show is the memory
    in which the process got it, so that is written over.
    """
    getenv = ctypes.CDLL(None).getenv
    getenv.restype = ctypes.c_void_p
    for variable in _SECRET_VARIABLES:
        if variable not in os.environ:
            continue
        place = getenv(variable.encode("ascii"))
        if place:
            ctypes.memset(place, ord("*"), len(ctypes.string_at(place)))
        del os.environ[variable]


def is_url(source: str) -> bool:
    """Whether *source* is meant as an address rather than as the name of a profile."""
    return "://" in source


# --- keys ---------------------------------------------------------------------------------------------


def _find_credential(
    source: str, profile: Profile | None, given: GivenCredential, environ: Mapping[str, str]
) -> CredentialSource:
    user = given.user or environ.get(_USER_VARIABLE) or (profile.user if profile is not None else None) or ""
    for found in _candidates(profile, given, environ, user):
        if given.user is not None and found.kind is not CredentialKind.PASSWORD:
            continue  # somebody who says who he is wants to be that user, whoever the key belongs to
        if found.kind is CredentialKind.PASSWORD and not found.user:
            raise UsageError(f"the password from {found.description} needs a user name: give --user NAME")
        return found
    if given.user is not None:
        raise NotAuthenticated(
            f"no password for {given.user}: give --password-file FILE, or set {_PASSWORD_VARIABLE}"
        )
    raise NotAuthenticated(
        f"no API key for {source}: set AGORA_API_KEY, give --api-key-file FILE (or -o api_key_file=FILE), "
        "or write api_key_file into a profile, which agorafs login does"
    )


def _candidates(
    profile: Profile | None, given: GivenCredential, environ: Mapping[str, str], user: str
) -> Iterator[CredentialSource]:
    """All places that were given, the one that wins first."""
    yield from _given_in_files(given.api_key_file, given.token_file, given.password_file, user)
    for variable, kind in _SECRET_VARIABLES.items():
        if environ.get(variable):
            whose = user if kind is CredentialKind.PASSWORD else ""
            yield CredentialSource(from_environment=environ[variable], kind=kind, user=whose)
    if profile is None:
        return
    if profile.api_key_file is None and profile.has_api_key:
        yield CredentialSource(profile=profile)
    if profile.api_key_file is None and profile.keyring is not None:
        yield CredentialSource(keyring=profile.keyring)
    yield from _given_in_files(profile.api_key_file, profile.token_file, profile.password_file, user)


def _given_in_files(
    api_key_file: Path | None, token_file: Path | None, password_file: Path | None, user: str
) -> Iterator[CredentialSource]:
    if api_key_file is not None:
        yield CredentialSource(key_file=api_key_file)
    if token_file is not None:
        yield CredentialSource(key_file=token_file, kind=CredentialKind.TOKEN)
    if password_file is not None:
        yield CredentialSource(key_file=password_file, kind=CredentialKind.PASSWORD, user=user)


def _read_secret_file(path: Path, kind: CredentialKind) -> str:
    try:
        with path.open("rb") as stream:
            content = stream.read(_MAX_KEY_FILE_BYTES + 1)
    except OSError as error:
        raise UsageError(
            f"the key file {path} can not be read: {error.strerror}", ExitStatus.CONFIGURATION
        ) from None
    if len(content) > _MAX_KEY_FILE_BYTES:
        raise UsageError(
            f"the key file {path} is too long to be of one {kind.value}", ExitStatus.CONFIGURATION
        )
    return content.decode("utf-8", errors="replace")


# --- the configuration file ------------------------------------------------------------------------------


def _url_of(profile: Profile) -> str:
    if profile.url is None:
        raise UsageError(f"{profile.path}: profile {profile.name} has no url", ExitStatus.CONFIGURATION)
    return profile.url


def _find_profile(name: str, config_file: Path | None) -> Profile:
    path = config_file or default_config_file()
    if not path.exists() and config_file is None:
        raise UsageError(
            f"{name} is neither a server's address (https://…) nor a profile: there is no {path}",
            ExitStatus.CONFIGURATION,
        )
    return _parse_profile(name, _profile_table(read_toml(path), name, path), path)


def read_toml(path: Path) -> dict[str, Any]:
    """Return what the configuration file *path* says.

    Raises:
        UsageError: It can not be read.
    """
    try:
        return parse_toml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path} can not be read: {error.strerror}", ExitStatus.CONFIGURATION) from None
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not UTF-8 text", ExitStatus.CONFIGURATION) from None
    except ValueError as error:
        raise UsageError(f"{path} is not valid TOML: {error}", ExitStatus.CONFIGURATION) from None


def parse_toml(text: str) -> dict[str, Any]:
    """Return what *text* says; raises ``ValueError``."""
    # By name, because Python has its own reader from 3.11 only.
    toml = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    table: dict[str, Any] = toml.loads(text)
    return table


def _profile_table(document: dict[str, Any], name: str, path: Path) -> dict[str, Any]:
    for key in document:
        if key != "profiles":
            raise UsageError(
                f"{path}: unknown key {key}{did_you_mean(key, ['profiles'])}; "
                "settings stand in [profiles.NAME]",
                ExitStatus.CONFIGURATION,
            )
    profiles = document.get("profiles", {})
    if not isinstance(profiles, dict) or not all(isinstance(table, dict) for table in profiles.values()):
        raise UsageError(f"{path}: profiles must be tables, [profiles.NAME]", ExitStatus.CONFIGURATION)
    if name not in profiles:
        known = ", ".join(profiles) or "none"
        raise UsageError(
            f"{path} has no profile {name}{did_you_mean(name, profiles)}; it has: {known}",
            ExitStatus.CONFIGURATION,
        )
    table: dict[str, Any] = profiles[name]
    return table


def _parse_profile(name: str, table: dict[str, Any], path: Path) -> Profile:
    settings: dict[str, Any] = {}
    for key, value in table.items():
        if key in _PROFILE_ONLY:
            if not isinstance(value, str):
                raise UsageError(
                    f"{path}: profile {name}: {key} must be a text in quotes", ExitStatus.CONFIGURATION
                )
        elif key not in KNOWN_SETTINGS:
            known = (*_PROFILE_ONLY, *KNOWN_SETTINGS)
            raise UsageError(
                f"{path}: profile {name}: unknown key {key}{did_you_mean(key, known)}; "
                f"known are: {', '.join(known)}",
                ExitStatus.CONFIGURATION,
            )
        else:
            try:
                settings[key] = parse_value(key, value)
            except ValueError as error:
                raise UsageError(f"{path}: profile {name}: {key} {error}", ExitStatus.CONFIGURATION) from None
    if "api_key" in table:
        _refuse_readable_by_others(path)
    key_file = table.get("api_key_file")
    return Profile(
        name=name,
        path=path,
        url=table.get("url"),
        settings=settings,
        api_key_file=None if key_file is None else _path_in(path, key_file),
        has_api_key="api_key" in table,
        keyring=table.get("keyring"),
        token_file=None if "token_file" not in table else _path_in(path, table["token_file"]),
        user=table.get("user"),
        password_file=None if "password_file" not in table else _path_in(path, table["password_file"]),
    )


def _path_in(config_file: Path, text: str) -> Path:
    """A path written in *config_file*: relative ones start at the file, not at the current directory."""
    try:
        return config_file.absolute().parent / Path(text).expanduser()
    except RuntimeError:
        raise UsageError(
            f"{config_file}: {text}: no home directory is known for ~", ExitStatus.CONFIGURATION
        ) from None


def _refuse_readable_by_others(path: Path) -> None:
    state = path.stat()
    if stat.S_IMODE(state.st_mode) & 0o077:
        raise UsageError(
            f"{path} holds an API key and can be read by other users: run chmod 600 {path}",
            ExitStatus.CONFIGURATION,
        )
