"""The ``-o`` options of ``agorafs mount``: settings, and the words that mount(8) and fstab bring along.

Why.  ``mount -t fuse.agorafs SOURCE DIR -o …`` and a line of ``/etc/fstab`` end in a call of this program
with options of four sorts: settings of ours (``allow_other``, ``uid=1000``, every name of ``config``),
flags that are the kernel's business (``nosuid``, ``noexec``), words that concern only mount(8) or systemd
and may or may not have been removed on the way (``_netdev``, ``nofail``, ``x-systemd.automount``), and
mistakes. The first two are kept, the third dropped, the last refused: a misspelt option must not be
ignored.

Place.  Pure text to values; used by ``commands.mount``.

Failure.  ``UsageError`` naming the option and the nearest one that exists.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agorafs.config import KNOWN_SETTINGS, Kind, did_you_mean, parse_value
from agorafs.errors import UsageError

# Passed on to the kernel. "ro" and "rw" are the setting read_only.
KERNEL_FLAGS = frozenset({
    "nodev", "nosuid", "exec", "noexec", "async", "sync", "dirsync", "atime", "noatime",
})  # fmt: skip

# mount(8) adds these by itself when root mounts. Nothing in an archive is a device or a program to be run as
# another user, so nodev and nosuid stay.
_NEVER = frozenset({"dev", "suid"})

# For mount(8), systemd or the desktop; nothing of ours. default_permissions is always on.
_NOT_OURS = frozenset({
    "defaults", "auto", "noauto", "user", "nouser", "users", "nousers", "owner", "group", "nofail", "fail",
    "_netdev", "remount", "diratime", "nodiratime", "relatime", "norelatime", "strictatime", "nostrictatime",
    "lazytime", "nolazytime", "iversion", "noiversion", "silent", "loud", "default_permissions",
})  # fmt: skip
_NOT_OURS_PREFIXES = ("x-", "X-", "comment=", "uhelper=", "helper=")

_PATHS = ("api_key_file", "token_file", "password_file", "config", "log_file")
_SECRETS = ("api_key", "token", "password")


@dataclass(frozen=True, slots=True)
class Options:
    """What ``-o`` said. ``settings`` are parsed values by name."""

    settings: dict[str, Any] = field(default_factory=dict)
    kernel_flags: tuple[str, ...] = ()
    api_key_file: Path | None = None
    token_file: Path | None = None
    username: str | None = None
    password_file: Path | None = None
    config: Path | None = None
    log_file: Path | None = None
    nonempty: bool = False


def split_options(text: str) -> list[str]:
    r"""Split at commas; ``\,`` is a comma and ``\\`` a backslash inside a value, as mount.fuse has it."""
    parts = re.findall(r"(?:\\.|[^,\\]|\\$)+", text, flags=re.DOTALL)
    return [re.sub(r"\\(.)", r"\1", part, flags=re.DOTALL).strip() for part in parts]


def parse_options(texts: Sequence[str]) -> Options:
    """Read every ``-o`` in order; a later word wins.

    Raises:
        UsageError: An option is unknown or its value is wrong.
    """
    settings: dict[str, Any] = {}
    flags: dict[str, None] = {}
    paths: dict[str, Path] = {}
    username: str | None = None
    nonempty = False
    for option in (option for text in texts for option in split_options(text)):
        name, equals, value = option.partition("=")
        canonical = name.replace("-", "_")
        if not option or option in _NOT_OURS or option in _NEVER or option.startswith(_NOT_OURS_PREFIXES):
            continue
        if option in ("ro", "rw"):
            settings["read_only"] = option == "ro"
        elif option in KERNEL_FLAGS:
            flags.pop(_opposite(option), None)
            flags[option] = None
        elif option == "nonempty":
            nonempty = True
        elif canonical in _PATHS:
            paths[canonical] = _path(name, value)
        elif canonical in _SECRETS:
            raise UsageError(
                f"-o {canonical} would show it to every user in ps: use -o {canonical}_file=FILE"
            )
        elif canonical == "username" and value:
            username = value
        elif canonical in KNOWN_SETTINGS:
            settings[canonical] = _setting(canonical, value if equals else None)
        else:
            known = sorted({*KNOWN_SETTINGS, *_PATHS, *KERNEL_FLAGS, "ro", "rw", "nonempty", "username"})
            hint = did_you_mean(canonical, known) or "; agorafs mount --help lists them"
            raise UsageError(f"unknown option: -o {name}{hint}")
    return Options(
        settings=settings,
        kernel_flags=tuple(flags),
        api_key_file=paths.get("api_key_file"),
        token_file=paths.get("token_file"),
        username=username,
        password_file=paths.get("password_file"),
        config=paths.get("config"),
        log_file=paths.get("log_file"),
        nonempty=nonempty,
    )


def _opposite(flag: str) -> str:
    return flag.removeprefix("no") if flag.startswith("no") else "no" + flag


def _setting(name: str, value: str | None) -> object:
    if value is None:
        if KNOWN_SETTINGS[name].kind is not Kind.FLAG:
            raise UsageError(f"option -o {name} needs a value: -o {name}=…")
        value = "true"
    try:
        return parse_value(name, value)
    except ValueError as error:
        raise UsageError(f"option -o {name} {error}") from None


def _path(name: str, value: str) -> Path:
    if not value:
        raise UsageError(f"option -o {name} needs a value: -o {name}=FILE")
    return absolute_path(value)


def absolute_path(text: str) -> Path:
    """Return *text* as an absolute path: the process of a mount works in ``/``."""
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError:
        raise UsageError(f"{text}: no home directory is known for ~") from None
