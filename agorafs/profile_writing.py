"""Writing a profile: where the server is, and where its key lies, so that one word is enough to mount it.

The configuration file belongs to its user: comments, order and settings of other profiles stay as they are. So it is
edited line by line, then read again, and kept only if it says what it said before and the new besides. A file that is
written in a way that is not understood here is left alone, and the user told what to write.

Key files lie beside the configuration file and are open to their owner alone from the moment they exist.

Failure.  ``UsageError`` with status CONFIGURATION; nothing is changed then.
"""

from __future__ import annotations

import json
import os
import re
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agorafs.errors import ExitStatus, UsageError
from agorafs.profiles import parse_toml, read_toml

# What says where the credential of a profile is: a new one takes the place of all of them.
_CREDENTIALS = ("api_key", "api_key_file", "keyring", "token_file", "user", "password_file")

_TABLE = re.compile(r"\s*\[")
_KEY = re.compile(r"\s*([A-Za-z0-9_-]+)\s*=")


def profile_url(config_file: Path, name: str) -> str | None:
    """Return the address in a profile; None when there is no such profile, or it has none."""
    if not config_file.exists():
        return None
    profiles = read_toml(config_file).get("profiles")
    table = profiles.get(name) if isinstance(profiles, dict) else None
    url = table.get("url") if isinstance(table, dict) else None
    return url if isinstance(url, str) else None


def write_profile(config_file: Path, name: str, values: Mapping[str, str]) -> None:
    """Make *values* (``url``, and where the credential is) part of the profile *name*, which may be new.

    Raises:
        UsageError: The file can not be written, or not be understood.
    """
    before = read_toml(config_file) if config_file.exists() else {}
    text = config_file.read_text(encoding="utf-8") if config_file.exists() else ""
    edited = _edited(text, name, values)
    profiles = before.get("profiles")
    known = profiles.get(name, {}) if isinstance(profiles, dict) else {}
    kept = {key: value for key, value in known.items() if key not in (*_CREDENTIALS, *values)}
    wanted = {
        **before,
        "profiles": {**(profiles if isinstance(profiles, dict) else {}), name: {**kept, **values}},
    }
    if _parsed(edited) != wanted:
        lines = ", ".join(f"{key} = {_quoted(value)}" for key, value in values.items())
        raise UsageError(
            f"{config_file} is written in a way that is not changed by a program: write {lines} into the profile "
            f"{name}",
            ExitStatus.CONFIGURATION,
        )
    write_private(config_file, edited)


def _parsed(text: str) -> dict[str, Any] | None:
    try:
        return parse_toml(text)
    except ValueError:
        return None


def _edited(text: str, name: str, values: Mapping[str, str]) -> str:
    lines = text.splitlines()
    fresh = [f"{key} = {_quoted(value)}" for key, value in values.items()]
    heading = re.compile(
        rf"\s*\[\s*profiles\s*\.\s*(?:{re.escape(name)}|'{re.escape(name)}'|{re.escape(_quoted(name))})\s*\]\s*(?:#.*)?"
    )
    at = next((number for number, line in enumerate(lines) if heading.fullmatch(line)), None)
    if at is None:
        gap = [""] if lines and lines[-1].strip() else []
        return "\n".join([*lines, *gap, f"[profiles.{_quoted(name)}]", *fresh]) + "\n"
    stop = next((number for number in range(at + 1, len(lines)) if _TABLE.match(lines[number])), len(lines))
    replaced = {*_CREDENTIALS, *values}
    body = [line for line in lines[at + 1 : stop] if not _names_one_of(line, replaced)]
    return "\n".join([*lines[: at + 1], *fresh, *body, *lines[stop:]]) + "\n"


def _names_one_of(line: str, keys: set[str]) -> bool:
    match = _KEY.match(line)
    return match is not None and match.group(1) in keys


def _quoted(text: str) -> str:
    # JSON's escapes are all TOML's too; what it leaves as it is, TOML takes.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def write_private(path: Path, text: str) -> None:
    """Write *text*, at once and for the owner alone; a directory that is missing is made.

    Raises:
        UsageError: It can not be written.
    """
    target = path.resolve()  # a link to a file that is kept elsewhere stays one
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(f"{path} can not be written: {error.strerror}", ExitStatus.CONFIGURATION) from None
