"""Settings: everything about one mount that a user can choose, in one frozen value.

Why.  Each layer is given what it needs from here by ``stack``; no layer reads the environment, a file or the
command line. What a setting is called here is what it is called everywhere: as ``-o NAME=VALUE`` on the
command line, as a key of a profile, in messages.

Place.  Imported by all, imports only ``errors``. ``profiles`` builds a ``Settings`` from the command line,
the environment and the configuration file; tests build it directly.

Units.  Names ending in ``_s`` are seconds, in ``_bytes`` bytes. As text both may carry a unit ("500 ms",
"20 GiB"); without one they are seconds and bytes. ``KiB`` is 1024 bytes and ``kB`` 1000.

Secrets.  ``credential`` is left out of ``repr``, and is the only secret here.

Failure.  ``parse_value`` raises ``ValueError`` with the end of a sentence ("must be …"); the caller knows
where the text came from and says so. The default directories need a home directory or the XDG variables;
without either they raise ``UsageError``.
"""

from __future__ import annotations

import dataclasses
import difflib
import enum
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agorafs.errors import ExitStatus, UsageError

if TYPE_CHECKING:
    from agorafs.client.auth import Credential

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB


class Kind(enum.Enum):
    """How the text of a setting is read."""

    TEXT = "text"
    PATH = "path"
    FLAG = "flag"
    COUNT = "whole number"
    OCTAL = "octal number"
    SECONDS = "time"
    BYTES = "size"


@dataclass(frozen=True, slots=True)
class About:
    """What is known of one setting: how to read it, its least value, and what it trades."""

    kind: Kind
    help_text: str
    minimum: float = 0
    choices: tuple[str, ...] = ()


def _about(
    kind: Kind, help_text: str, *, minimum: float = 0, choices: tuple[str, ...] = ()
) -> dict[str, About]:
    return {"about": About(kind, help_text, minimum, choices)}


SAFE_KERNEL_FLAGS = ("nodev", "nosuid")
"""Nothing in an archive is a device, or a program to be run as another user."""

_NOT_GIVEN = Path()  # stands for a default that depends on the environment, see ``__post_init__``


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One mount's settings. The text of each says what a larger or smaller value trades."""

    url: str  # of the server, without a slash at the end; checked by ``profiles``
    credential: Credential | None = field(default=None, repr=False)

    # The server and how to reach it
    ca_bundle: Path | None = field(
        default=None,
        metadata=_about(
            Kind.PATH, "certificates to trust instead of the system's, for an authority of one's own"
        ),
    )
    insecure: bool = field(
        default=False,
        metadata=_about(Kind.FLAG, "allow http to another machine: key and data travel readable by anyone"),
    )
    connections: int = field(
        default=8,
        metadata=_about(Kind.COUNT, "requests in flight at once; more is faster far away", minimum=1),
    )
    connect_timeout_s: float = field(
        default=10.0,
        metadata=_about(Kind.SECONDS, "longest wait for a connection", minimum=0.001),
    )
    first_byte_timeout_s: float = field(
        default=60.0,
        metadata=_about(
            Kind.SECONDS, "longest wait for an answer to begin; covers slow queries", minimum=0.001
        ),
    )
    between_bytes_timeout_s: float = field(
        default=60.0,
        metadata=_about(Kind.SECONDS, "longest silence inside an answer", minimum=0.001),
    )
    deadline_s: float = field(
        default=30.0,
        metadata=_about(Kind.SECONDS, "longest wait of one file operation, retries included", minimum=0.001),
    )

    # Listings
    listing_ttl_s: float = field(
        default=30.0,
        metadata=_about(
            Kind.SECONDS, "how long a listing is believed; less sees others' changes sooner, asks more"
        ),
    )
    revalidate_wait_s: float = field(
        default=0.5,
        metadata=_about(
            Kind.SECONDS, "wait for a fresh listing before the expired one is shown; 0 never waits"
        ),
    )
    max_listing_entries: int = field(
        default=250_000,
        metadata=_about(
            Kind.COUNT, "directory entries kept; more costs memory, less asks again", minimum=1000
        ),
    )
    page_size: int = field(
        default=20_000,
        metadata=_about(
            Kind.COUNT, "entries asked for at once; more is fewer and slower requests", minimum=1
        ),
    )

    # Names
    exam_name: str = field(
        default="{name}",
        metadata=_about(
            Kind.TEXT, 'names of exams, such as "{start_time:%Y-%m-%d} {name}"; also {id}, {uid}, {created}'
        ),
    )
    series_name: str = field(
        default="{name}",
        metadata=_about(
            Kind.TEXT, 'names of series, such as "{number} {name}"; also {id}, {uid}, {time}, {created}'
        ),
    )

    # Content
    cache_directory: Path = field(
        default=_NOT_GIVEN,
        metadata=_about(Kind.PATH, "where datafile contents are kept; shared by all mounts of one user"),
    )
    state_directory: Path = field(
        default=_NOT_GIVEN,
        metadata=_about(Kind.PATH, "where logs, control sockets and what is not on the server yet are kept"),
    )
    cache_max_bytes: int = field(
        default=20 * GIB,
        metadata=_about(Kind.BYTES, "disk for contents; more is fetched less often", minimum=MIB),
    )
    cache_min_free_bytes: int = field(
        default=1 * GIB,
        metadata=_about(Kind.BYTES, "disk that is left free whatever cache_max_bytes says"),
    )
    memory_max_bytes: int = field(
        default=64 * MIB,
        metadata=_about(
            Kind.BYTES, "memory for contents on their way, all readers together", minimum=8 * MIB
        ),
    )
    block_bytes: int = field(
        default=256 * KIB,
        metadata=_about(
            Kind.BYTES, "smallest piece fetched; more is fewer requests, more waste", minimum=4 * KIB
        ),
    )
    whole_file_bytes: int = field(
        default=4 * MIB,
        metadata=_about(
            Kind.BYTES, "files up to this size are fetched whole, and so verified by their SHA-1"
        ),
    )
    window_max_bytes: int = field(
        default=8 * MIB,
        metadata=_about(Kind.BYTES, "most that is read ahead of a sequential reader", minimum=4 * KIB),
    )

    # Writing
    batch_quiet_s: float = field(
        default=3.0,
        metadata=_about(
            Kind.SECONDS,
            "how long nothing must change in a folder before its files travel together",
            minimum=0,
        ),
    )
    spool_max_bytes: int = field(
        default=100 * GIB,
        metadata=_about(
            Kind.BYTES, "disk for files that are not on the server yet; beyond it, writing fails", minimum=MIB
        ),
    )
    spool_min_free_bytes: int = field(
        default=1 * GIB,
        metadata=_about(Kind.BYTES, "disk that is left free whatever spool_max_bytes says"),
    )
    link_exams: bool = field(
        default=True,
        metadata=_about(Kind.FLAG, "put a link to the exam where files were written that became part of one"),
    )
    allow_delete: bool = field(
        default=False,
        metadata=_about(Kind.FLAG, "let exams, series and their files be deleted; folders are not concerned"),
    )

    # The mount
    binding: str = field(
        default="mfusepy",
        metadata=_about(
            Kind.TEXT,
            "mfusepy speaks libfuse 3; fusepy speaks libfuse 2 and is slower",
            choices=("mfusepy", "fusepy"),
        ),
    )
    allow_other: bool = field(
        default=False,
        metadata=_about(Kind.FLAG, "let other users of this machine in, as far as uid, gid and umask allow"),
    )
    read_only: bool = field(
        default=False,
        metadata=_about(Kind.FLAG, "refuse every change, whatever the server would allow"),
    )
    uid: int = field(
        default=-1,
        metadata=_about(Kind.COUNT, "owner shown for every entry; default: the user who mounts"),
    )
    gid: int = field(
        default=-1,
        metadata=_about(Kind.COUNT, "group shown for every entry; default: the group of the user who mounts"),
    )
    umask: int = field(
        default=0o022,
        metadata=_about(Kind.OCTAL, "permission bits taken from every entry; 077 is for the owner alone"),
    )
    debug: bool = field(
        default=False,
        metadata=_about(Kind.FLAG, "log every operation; slow, and names of files appear in the log"),
    )

    # Flags of mount(8) that the kernel gets as they are; these two always.
    kernel_flags: tuple[str, ...] = SAFE_KERNEL_FLAGS

    def __post_init__(self) -> None:
        # The defaults that depend on the process or its environment are found here, so that a Settings built
        # in a test from a URL alone is complete.
        if self.uid < 0:
            object.__setattr__(self, "uid", os.getuid())
        if self.gid < 0:
            object.__setattr__(self, "gid", os.getgid())
        if self.cache_directory == _NOT_GIVEN:
            object.__setattr__(self, "cache_directory", default_cache_directory())
        if self.state_directory == _NOT_GIVEN:
            object.__setattr__(self, "state_directory", default_state_directory())


def _known() -> dict[str, About]:
    return {
        known.name: known.metadata["about"]
        for known in dataclasses.fields(Settings)
        if "about" in known.metadata
    }


KNOWN_SETTINGS: dict[str, About] = _known()
"""Every setting that has a text form, by name: all but ``url``, ``credential``, ``kernel_flags``."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `` (did you mean …?)`` for the name in *known* that is nearest to *name*, or nothing."""
    nearest = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {nearest[0]}?)" if nearest else ""


def default_cache_directory() -> Path:
    """``$XDG_CACHE_HOME/agorafs``; works without ``HOME`` (mount units of systemd have none)."""
    return _own_directory("user_cache_dir", "XDG_CACHE_HOME")


def default_state_directory() -> Path:
    """``$XDG_STATE_HOME/agorafs``: logs and control sockets."""
    return _own_directory("user_state_dir", "XDG_STATE_HOME")


def default_config_file() -> Path:
    """``$XDG_CONFIG_HOME/agorafs/config.toml``."""
    return _own_directory("user_config_dir", "XDG_CONFIG_HOME") / "config.toml"


def _own_directory(kind: str, variable: str) -> Path:
    # Imported here: importing this module must stay quick, for ``agorafs --help``.
    import platformdirs

    try:
        directory = Path(getattr(platformdirs.PlatformDirs("agorafs", appauthor=False), kind))
    except RuntimeError:  # of newer versions of platformdirs, where older ones leave "~" as it is
        directory = Path("~")
    if not directory.is_absolute():
        # Neither HOME nor an entry in the user database. A guess below /tmp could be
        # another user's; patients' data must not end up there.
        raise UsageError(f"no home directory is known: set {variable}", ExitStatus.CONFIGURATION)
    return directory


_SIZE_UNITS = {
    "": 1, "b": 1,
    "k": KIB, "kib": KIB, "kb": 10**3,
    "m": MIB, "mib": MIB, "mb": 10**6,
    "g": GIB, "gib": GIB, "gb": 10**9,
    "t": 1024 * GIB, "tib": 1024 * GIB, "tb": 10**12,
}  # fmt: skip
_TIME_UNITS = {"": 1.0, "s": 1.0, "ms": 0.001, "min": 60.0, "m": 60.0, "h": 3600.0}
_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([A-Za-z]*)")
_FLAG_WORDS = {
    "1": True, "true": True, "yes": True, "on": True,
    "0": False, "false": False, "no": False, "off": False,
}  # fmt: skip


def parse_value(name: str, value: object) -> Any:
    """Return the value of setting *name* (one of ``KNOWN_SETTINGS``) given as text or as TOML has it.

    Raises:
        ValueError: With the end of a sentence that says what the value must be.
    """
    about = KNOWN_SETTINGS[name]
    parsed = _parse_kind(about, value)
    if isinstance(parsed, (int, float)) and not isinstance(parsed, bool) and parsed < about.minimum:
        raise ValueError(f"must be at least {about.minimum:,}")
    return parsed


def _parse_kind(about: About, value: object) -> object:
    if about.kind is Kind.FLAG:
        if isinstance(value, bool):
            return value
        word = str(value).lower()
        if word not in _FLAG_WORDS:
            raise ValueError("must be true or false")
        return _FLAG_WORDS[word]
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError(f"must be a {about.kind.value}, not {type(value).__name__}")
    if about.kind is Kind.BYTES:
        return int(_quantity(str(value), _SIZE_UNITS, 'a size such as 65536, "64 MiB" or "20 GB"'))
    if about.kind is Kind.SECONDS:
        return _quantity(str(value), _TIME_UNITS, 'a time such as 30, "500 ms" or "2 min"')
    if about.kind in (Kind.COUNT, Kind.OCTAL):
        return _integer(value, about.kind)
    text = str(value)
    if not text:
        raise ValueError("must not be empty")
    if about.choices and text not in about.choices:
        raise ValueError("must be " + " or ".join(about.choices))
    if about.kind is Kind.PATH:
        # Absolute at once: the mount's process works in "/".
        try:
            return Path(text).expanduser().absolute()
        except RuntimeError:
            raise ValueError("must be a path without ~, since no home directory is known") from None
    return text


def _quantity(text: str, units: dict[str, float] | dict[str, int], example: str) -> float:
    match = _QUANTITY.fullmatch(text.strip())
    unit = units.get(match.group(2).lower()) if match else None
    if match is None or unit is None:
        raise ValueError(f"must be {example}")
    return float(match.group(1)) * unit


def _integer(value: str | int | float, kind: Kind) -> int:
    if kind is Kind.OCTAL:
        # In TOML 0o022 is a number already; as text "022" is read as mount(8) and chmod(1) read it.
        if isinstance(value, str) and re.fullmatch(r"(0o)?[0-7]{1,4}", value):
            value = int(value.removeprefix("0o"), 8)
        if isinstance(value, int) and value <= 0o777:
            return value
        raise ValueError("must be permission bits such as 022")
    if isinstance(value, int):
        return value
    if isinstance(value, str) and re.fullmatch(r"[0-9_]+", value.strip()):
        return int(value)
    raise ValueError("must be a whole number")
