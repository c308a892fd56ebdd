"""Readable text, points in time and identifiers out of what scanners write.

Why.  Headers hold padded, NUL-terminated, half-empty values in several notations; records hold one: clean
text, ``YYYY-MM-DD``, and ISO 8601 in UTC. Everything that converts between the two is here.

Failure.  Nothing here raises on a bad value: what can not be understood becomes ``None`` or empty text, and
the file it came from is stored all the same.
"""

from __future__ import annotations

import datetime as dt
import math
import re
import uuid
from collections.abc import Iterable

# Identifiers that no header supplies are derived from this name and the content (see ``content_uid``).
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_OID, "agorafs.sandbox.analysis")

_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")
_DATE = re.compile(r"\s*(\d{4})[.\-/]?(\d{2})[.\-/]?(\d{2})")
_DATE_DAY_FIRST = re.compile(r"\s*(\d{1,2})\.(\d{1,2})\.(\d{4})\s*$")
_TIME = re.compile(r"\s*(\d{2})(?::?(\d{2})(?::?(\d{2})(?:[.,](\d{1,6}))?)?)?")
_OFFSET = re.compile(r"\s*([+-])(\d{2}):?(\d{2})\s*$")


def clean_text(value: object) -> str:
    """Return *value* as one line of valid Unicode without padding; ``None`` becomes empty."""
    if value is None:
        return ""
    text = _CONTROL.sub(" ", str(value)).strip()
    return text.encode("utf-8", "replace").decode("utf-8")  # lone surrogates fit neither JSON nor SQLite


def to_number(value: object) -> float | None:
    """Return *value* as a finite number, or ``None``."""
    text = str(value).strip()
    if _NUMBER.fullmatch(text) is None:
        return None  # ``float`` would also take "1_000", "nan" and digits of other scripts
    number = float(text)
    return number if math.isfinite(number) else None


def to_integer(value: object) -> int | None:
    """Return *value* as an integer of 32 bits, which is what IS of DICOM can hold, or ``None``."""
    number = to_number(value)
    if number is None or not number.is_integer() or abs(number) >= 2**31:
        return None
    return int(number)


def parse_date(value: object) -> dt.date | None:
    """Read ``YYYYMMDD`` (DICOM), ``YYYY.MM.DD`` (ACR-NEMA) or ``YYYY-MM-DD``."""
    return _date_of(_DATE.match(clean_text(value)), day_first=False)


def parse_day_first_date(value: object) -> dt.date | None:
    """Read ``dd.mm.yyyy``, the notation of an import JSON."""
    return _date_of(_DATE_DAY_FIRST.match(clean_text(value)), day_first=True)


def parse_time(value: object) -> dt.time | None:
    """Read ``HHMMSS.FFFFFF`` or ``HH:MM:SS.FFFFFF``, each cut anywhere after the hours."""
    match = _TIME.match(clean_text(value))
    if match is None:
        return None
    hour, minute, second, fraction = match.groups()
    try:
        # A leap second (60) has no place in ``datetime``; it is shown as the second before.
        return dt.time(
            int(hour), int(minute or 0), min(int(second or 0), 59), int((fraction or "").ljust(6, "0"))
        )
    except ValueError:
        return None


def parse_offset(value: object) -> dt.timedelta:
    """Read ``+HHMM``; anything else counts as UTC."""
    match = _OFFSET.match(clean_text(value))
    if match is None:
        return dt.timedelta()
    offset = dt.timedelta(hours=int(match[2]), minutes=int(match[3]))
    return -offset if match[1] == "-" else offset


def utc_timestamp(
    date: dt.date | None, time: dt.time | None, offset: dt.timedelta = dt.timedelta(0)
) -> str | None:
    """Return the ISO 8601 form in UTC; a missing time is midnight, a missing date no timestamp."""
    if date is None:
        return None
    try:
        moment = dt.datetime.combine(date, time or dt.time()) - offset
    except OverflowError:
        return None
    return moment.isoformat() + "Z"


def epoch_timestamp(seconds: float) -> str | None:
    """Return the ISO 8601 form of a Unix time, or ``None`` when no calendar has it."""
    try:
        return dt.datetime.fromtimestamp(int(seconds), dt.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return None


def content_uid(parts: Iterable[str]) -> str:
    """Return an identifier that depends on *parts* alone, so that importing twice meets the same object."""
    return str(uuid.uuid5(_NAMESPACE, "\n".join(parts)))


def _date_of(match: re.Match[str] | None, *, day_first: bool) -> dt.date | None:
    if match is None:
        return None
    first, month, last = (int(group) for group in match.groups())
    year, day = (last, first) if day_first else (first, last)
    try:
        return dt.date(year, month, day)
    except ValueError:
        return None
