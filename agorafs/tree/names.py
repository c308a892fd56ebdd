"""Names: from what the archive calls an object to what a directory can show.

Rules, in this order (the README promises them):

1. ``/`` becomes ``∕`` (U+2215); control characters become their Unicode pictures, other characters that no
   file system or terminal should see become U+FFFD.
2. ``.`` and ``..`` (and ``.agora``, which is agorafs's own) get look-alike dots (U+2024); an empty name
   becomes the kind and the id, ``dataset 57``.
3. A name over 255 bytes of UTF-8 is cut, its extension kept.
4. Of several objects with one name in one directory, the one with the lowest id keeps it, the others get
   `` (id)`` before the extension. A sibling that appears has a higher id, so no name changes by it.
   A name that reads like another sibling's suffixed name counts as taken: ``X (12)`` is never anything but 12
   while 12 is called ``X``.

``original_filename`` comes from outside and is hostile until proved otherwise: ``\\`` counts as ``/``; empty,
``.`` and ``..`` parts, drive letters and leading slashes are dropped, so nothing points out of its directory.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

MAX_NAME_BYTES = 255
DOT_AGORA = ".agora"

_DOT = "\N{ONE DOT LEADER}"
_REPLACED = {
    ord("/"): "\N{DIVISION SLASH}",
    0x7F: "\N{SYMBOL FOR DELETE}",
    **{code: chr(0x2400 + code) for code in range(0x20)},
    # C1 controls have no pictures, and a terminal may obey them; a lone surrogate is no character at all.
    **dict.fromkeys(range(0x80, 0xA0), "\N{REPLACEMENT CHARACTER}"),
}
_SURROGATE = re.compile("[\ud800-\udfff]")
_DRIVE = re.compile(r"[A-Za-z]:")
_SUFFIXED = re.compile(r" \((\d{1,19})\)")
_COMPRESSED = frozenset({".gz", ".bz2", ".xz", ".zst"})


def legal_name(text: str, fallback: str) -> str:
    """Return *text* as a name that a directory can show; *fallback* stands in for an empty one."""
    if _is_plainly_legal(text):
        return text
    name = _SURROGATE.sub("\N{REPLACEMENT CHARACTER}", text).translate(_REPLACED)
    if not name.strip():
        name = fallback
    if name in (".", "..", DOT_AGORA):
        name = name.replace(".", _DOT)
    return _cut(name, "", is_directory=False)


def _is_plainly_legal(text: str) -> bool:
    """Tell, at a tenth of the cost, that nearly every name needs no change."""
    return (
        text.isascii()
        and text.isprintable()
        and len(text) <= MAX_NAME_BYTES
        and "/" not in text
        and not text.startswith((".", " "))
        and text != ""
    )


def path_parts(original_filename: str) -> tuple[str, ...]:
    """Return the parts of a datafile's ``original_filename`` that are safe to show, perhaps none."""
    parts = original_filename.replace("\\", "/").split("/")
    if _DRIVE.fullmatch(parts[0]):
        parts = parts[1:]
    return tuple(legal_name(part, "_") for part in parts if part not in ("", ".", ".."))


def split_extension(name: str) -> tuple[str, str]:
    """Return (stem, extension); ``scan.nii.gz`` gives ``('scan', '.nii.gz')``, ``.profile`` has none."""
    stem, dot, last = name.rpartition(".")
    if not dot or not stem.strip(".") or not last or " " in last or len(last) > 16:
        return name, ""
    extension = "." + last
    if extension.lower() in _COMPRESSED:
        inner, dot, middle = stem.rpartition(".")
        if dot and inner and middle.isalnum() and len(middle) <= 4:
            return inner, f".{middle}{extension}"
    return stem, extension


def suffixed(name: str, suffix: str, *, is_directory: bool) -> str:
    """Return *name* with `` (suffix)`` before its extension (directories have none), at most 255 bytes."""
    return _cut(name, f" ({suffix})", is_directory=is_directory)


def ids_in_suffix(name: str) -> list[int]:
    """Return the ids that *name* may carry as a `` (id)`` suffix, if any."""
    return [int(match) for match in _SUFFIXED.findall(name)]


class Named(NamedTuple):
    """An object that wants a name in a directory; ``kind`` and ``id`` tell it from all others there."""

    name: str
    kind: str
    id: int
    is_directory: bool


def assign_names(wanted: Sequence[Named]) -> list[str]:
    """Return a name for each of *wanted* (same order), no two alike, by rule 4 of the module."""
    taken: dict[str, int] = {}
    order = sorted(range(len(wanted)), key=lambda index: (wanted[index].id, wanted[index].kind))
    names = [""] * len(wanted)
    losers = []
    suffixed_names: set[str] | None = None  # made only for a directory where a name reads like one
    for index in order:
        name = wanted[index].name
        if suffixed_names is None and ids_in_suffix(name):
            suffixed_names = {
                suffixed(want.name, str(want.id), is_directory=want.is_directory) for want in wanted
            }
        if name in taken or (suffixed_names is not None and name in suffixed_names):
            losers.append(index)
        else:
            taken[name] = index
            names[index] = name
    attempts: dict[Named, int] = {}  # where the last of several links to one object has stopped
    for index in losers:
        want = wanted[index]
        attempt = attempts.get(want, 0)
        while (name := _attempted(want, attempt)) in taken:
            attempt += 1
        attempts[want] = attempt + 1
        taken[name] = index
        names[index] = name
    return names


def _attempted(want: Named, attempt: int) -> str:
    """The id alone may be taken: by a real name that looks like it, by another kind, by another link."""
    suffix = str(want.id) if attempt == 0 else f"{want.kind} {want.id}"
    if attempt > 1:
        suffix += f" {attempt}"
    return suffixed(want.name, suffix, is_directory=want.is_directory)


def _cut(name: str, suffix: str, *, is_directory: bool) -> str:
    stem, extension = (name, "") if is_directory else split_extension(name)
    room = MAX_NAME_BYTES - len(suffix.encode()) - len(extension.encode())
    raw = stem.encode()
    if len(raw) > room:
        stem = raw[:room].decode(errors="ignore")  # "ignore" drops the half character at the cut
    return stem + suffix + extension
