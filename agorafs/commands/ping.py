"""Say whether a server answers, which version it runs, and as whom it knows this user.

Without a key, and with a server's address for SOURCE, only the first two are asked: that is open to everybody.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from typing import Any

from agorafs.client.base_url import BaseUrl
from agorafs.commands.server_options import add_server_arguments, read_server
from agorafs.config import Settings
from agorafs.errors import ExitStatus, NotAuthenticated
from agorafs.mount_process import connect
from agorafs.profiles import Resolved, is_url


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what ``agorafs ping`` understands."""
    parser.add_argument("source", metavar="SOURCE", help="https://… or the name of a profile")
    parser.add_argument("--json", action="store_true", help="one JSON object, for programs")
    add_server_arguments(parser)


def run(arguments: argparse.Namespace) -> ExitStatus:
    """Ask the server and say what it said."""
    resolved: Resolved | None = None
    try:
        resolved = read_server(arguments.source, arguments)[0]
        settings = resolved.with_credential()
    except NotAuthenticated:
        if not is_url(arguments.source):
            raise
        settings = Settings(
            url=BaseUrl.parse(arguments.source, insecure=arguments.insecure).text, insecure=arguments.insecure
        )
    said = _ask(settings) if resolved is None else connect(_ask, resolved, settings)
    if arguments.json:
        print(json.dumps(said))
    else:
        print(
            f"{said['url']} answers in {said['milliseconds']} ms: Agora {said['version']}"
            + (f", as {said['user']}" if said["user"] is not None else "; no key was given to log in with")
        )
    return ExitStatus.OK


def _ask(settings: Settings) -> dict[str, Any]:
    from agorafs.client import check_server  # only here: they bring the HTTP library with them
    from agorafs.stack import client_of

    client = client_of(dataclasses.replace(settings, deadline_s=min(settings.deadline_s, 10.0)))
    try:
        client.version()  # the connection is not part of the answer's time
        start = time.monotonic()
        version = client.version()
        took_s = time.monotonic() - start
        user = None if settings.credential is None else check_server(client)[1]
    finally:
        client.close()
    return {
        "url": settings.url,
        "version": version.text,
        "user": None if user is None else user.username,
        "milliseconds": round(took_s * 1000, 1),
    }
