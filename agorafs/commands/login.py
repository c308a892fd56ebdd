"""Log in once with user name and password, and keep an API key, so that agorafs needs no password any more.

The password is asked for on the terminal, or read from standard input, and is kept nowhere. It is exchanged for a
session, the session for the user's API key, and the session forgotten. A key is made only on request: whether making
one revokes an older key is the server's business, and not known. The key goes into the keyring, or into a file beside
the configuration that only its owner can read; neither it nor the password is ever shown.
"""

from __future__ import annotations

import argparse
import getpass
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from agorafs import keyring_access
from agorafs.client import ApiKey, Client, Token
from agorafs.client.base_url import BaseUrl
from agorafs.config import Settings, default_config_file
from agorafs.errors import ExitStatus, NotAuthenticated, NotFound, UsageError
from agorafs.options import absolute_path
from agorafs.profile_writing import profile_url, write_private, write_profile
from agorafs.profiles import is_url

_MAX_PASSWORD_CHARS = 4096


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what ``agorafs login`` understands."""
    parser.add_argument("server", metavar="URL", help="https://…, or the name of a profile that has one")
    parser.add_argument("--profile", metavar="NAME", help="the profile to write (default: the server's name)")
    parser.add_argument("--user", metavar="NAME", help="instead of asking for it")
    parser.add_argument("--password-stdin", action="store_true", help="read the password from standard input")
    parser.add_argument("--create-key", action="store_true", help="make an API key if there is none")
    parser.add_argument(
        "--token", action="store_true", help="keep the session instead of a key: for servers without API keys"
    )
    parser.add_argument("--no-keyring", action="store_true", help="keep the key in a file")
    parser.add_argument("--config", metavar="FILE", help="configuration file with the profiles")
    parser.add_argument("--ca-bundle", metavar="FILE", help="certificates to trust instead of the system's")
    parser.add_argument("--insecure", action="store_true", help="allow http to another machine")


def run(arguments: argparse.Namespace) -> ExitStatus:
    """Log in and write the profile."""
    config_file = absolute_path(arguments.config) if arguments.config is not None else default_config_file()
    settings = _settings(arguments, config_file)
    profile = _profile_name(arguments, settings.url)
    known_url = profile_url(config_file, profile)
    if known_url is not None and BaseUrl.parse(known_url, insecure=True).text != settings.url:
        raise UsageError(
            f"the profile {profile} in {config_file} is for {known_url}: choose another with --profile NAME",
            ExitStatus.CONFIGURATION,
        )
    from agorafs.stack import client_of  # only here: it brings everything with it

    client = client_of(settings)
    try:
        client.version()  # before the password is typed, and sent: is this an Agora server?
        user = arguments.user or _ask("user name: ", input)
        token = client.administration.log_in(user, _password(user, arguments))
        client.replace_credential(Token(token))
        username = client.current_user().username
        secret = token if arguments.token else _api_key(client, create=arguments.create_key)
    finally:
        client.close()
    place = _keep(secret, arguments, config_file, profile, settings)
    what = "session" if arguments.token else "API key"
    print(f"logged in to {settings.url} as {username}; the {what} is in {place}")
    print(f"agorafs mount {profile} MOUNTPOINT now needs no more than that")
    return ExitStatus.OK


def _settings(arguments: argparse.Namespace, config_file: Path) -> Settings:
    server: str | None = arguments.server
    if not is_url(arguments.server):
        server = profile_url(config_file, arguments.server)
        if server is None:
            raise UsageError(
                f"{arguments.server} is neither a server's address (https://…) nor a profile with one"
            )
    settings = Settings(url=BaseUrl.parse(server or "", insecure=arguments.insecure).text)
    if arguments.ca_bundle is not None:
        settings = replace(settings, ca_bundle=absolute_path(arguments.ca_bundle))
    return replace(settings, insecure=arguments.insecure)


def _profile_name(arguments: argparse.Namespace, url: str) -> str:
    if arguments.profile is not None:
        name: str = arguments.profile
        if not name.isprintable() or not name or "://" in name or "/" in name:
            raise UsageError(f"{name!r} is not the name of a profile")
        return name
    return BaseUrl.parse(url, insecure=True).host if is_url(arguments.server) else arguments.server


def _ask(prompt: str, read: Callable[[str], str]) -> str:
    try:
        return read(prompt)
    except EOFError:
        raise UsageError(f"nobody answered {prompt!r}; see --user and --password-stdin") from None


def _password(user: str, arguments: argparse.Namespace) -> str:
    if not arguments.password_stdin:
        return _ask(f"password of {user}: ", getpass.getpass)
    password = sys.stdin.readline(_MAX_PASSWORD_CHARS).removesuffix("\n").removesuffix("\r")
    if not password:
        raise UsageError("there is no password on standard input")
    return password


def _api_key(client: Client, *, create: bool) -> str:
    """Return the user's key, which the server accepts."""
    try:
        key = client.administration.api_key()
    except NotFound:
        if not create:
            raise NotFound(
                "this user has no API key: agorafs login --create-key makes one, and so does the profile on the "
                "server's web page"
            ) from None
        key = client.administration.create_api_key()
    client.replace_credential(ApiKey(key))
    try:
        client.current_user()
    except NotAuthenticated as error:
        raise NotAuthenticated(
            f"the server does not accept its own API key; where keys are switched off, use agorafs login --token "
            f"({error})"
        ) from None
    return key


def _keep(
    secret: str, arguments: argparse.Namespace, config_file: Path, profile: str, settings: Settings
) -> str:
    """Store *secret* and write the profile; return the place in words."""
    values = {"url": settings.url}
    if not arguments.token and not arguments.no_keyring and keyring_access.is_available():
        keyring_access.store(profile, secret)
        write_profile(config_file, profile, {**values, "keyring": profile})
        return "the keyring"
    ending = "token" if arguments.token else "key"
    file_name = re.sub(r"[^\w.@-]", "_", profile).lstrip(".") or "agora"
    path = config_file.absolute().parent / f"{file_name}.{ending}"
    write_private(path, secret + "\n")
    setting = "token_file" if arguments.token else "api_key_file"
    write_profile(config_file, profile, {**values, setting: path.name})
    return str(path)
