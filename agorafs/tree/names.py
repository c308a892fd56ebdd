"""Names: from what the archive calls an object to what a directory can show.

Rules, in this order (the README promises them):

1. ``/`` becomes ``∕`` (U+2215); control characters become their Unicode pictures, other characters that no
   file system or terminal should see become U+FFFD.
2. ``.`` and ``..`` (and ``.agora``, which is agorafs's own) get look-alike dots (U+2024); an empty name
   becomes the kind and the id, ``dataset 57``.
3. A name over 255 bytes of UTF-8 is cut, its extension kept.
4. Of several objects with one name in one directory, the first keeps it, the others get `` (id)`` before the
   extension. First is the lowest id; in a folder, where objects can be moved and linked into, the lowest id of a
   folder item. A sibling that appears comes last, so no name changes by it.
   A name that reads like an earlier sibling's suffixed name counts as taken: ``X (12)`` is nothing but 12 while 12
   is called ``X``. In lists into which links lead by name and id (exams, patients, tasks), that holds for later
   siblings too: there, and only there, a newcomer can change a name, if it reads like the newcomer's with its id.

``original_filename`` comes from outside and is hostile until proved otherwise: ``\\`` counts as ``/``; empty,
``.`` and ``..`` parts, drive letters and leading slashes are dropped, so nothing points out of its directory.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

MAX_NAME_BYTES = 255
DOT_AGORA = ".agora"

# Names that file managers, indexers and version control look for in every directory. They exist only if a
# listing in memory says so; nobody's looking is worth a request, or a wait for a fresh listing.
PROBED_NAMES = frozenset(
    {
        ".Trash", ".Trashes", ".hidden", ".directory", ".sh_thumbnails", ".xdg-volume-info", ".nomedia",
        ".trackerignore", ".metadata_never_index", ".DS_Store", ".localized", ".git", ".hg", ".svn", ".bzr",
        "autorun.inf", "AUTORUN.INF", "desktop.ini", "Desktop.ini", "Thumbs.db", "layout_config.json",
    }
)  # fmt: skip
PROBED_PREFIXES = (".Trash-", "._", ".goutputstream-", ".fuse_hidden", ".nfs")

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


def is_probed(name: str) -> bool:
    """Tell whether desktops look for *name* in every directory."""
    return name in PROBED_NAMES or name.startswith(PROBED_PREFIXES)


def suffixed(name: str, suffix: str, *, is_directory: bool) -> str:
    """Return *name* with `` (suffix)`` before its extension (directories have none), at most 255 bytes."""
    return _cut(name, f" ({suffix})", is_directory=is_directory)


def ids_in_suffix(name: str) -> list[int]:
    """Return the ids that *name* may carry as a `` (id)`` suffix, if any."""
    return [int(match) for match in _SUFFIXED.findall(name)]


class Named(NamedTuple):
    """An object that wants a name in a directory; ``kind`` and ``id`` tell it from all others there.

    ``rank`` says who came first; None means the id.
    """

    name: str
    kind: str
    id: int
    is_directory: bool
    rank: int | None = None


def assign_names(wanted: Sequence[Named], *, are_linked: bool = False) -> list[str]:
    """Return a name for each of *wanted* (same order), no two alike, by rule 4 of the module.

    Args:
        are_linked: Links lead to these objects by name and id (a study list, say).
    """
    order = sorted(range(len(wanted)), key=lambda index: (_rank(wanted[index]), wanted[index].kind))
    taken: dict[str, int] = {}
    names = [""] * len(wanted)
    losers = []
    owners: dict[str, int] | None = None  # made only for a directory where a name reads like a suffixed one
    for position, index in enumerate(order):
        name = wanted[index].name
        if owners is None and ids_in_suffix(name):
            owners = _suffixed_names([wanted[index] for index in order])
        owner = None if owners is None else owners.get(name)
        if name in taken or (owner is not None and (are_linked or owner < position)):
            losers.append(index)
        else:
            taken[name] = index
            names[index] = name
    # where the last of several links to one object has stopped
    attempts: dict[tuple[str, str, int], int] = {}
    for index in losers:
        want = wanted[index]
        which = (want.name, want.kind, want.id)
        attempt = attempts.get(which, 0)
        while (name := _attempted(want, attempt)) in taken:
            attempt += 1
        attempts[which] = attempt + 1
        taken[name] = index
        names[index] = name
    return names


def _rank(want: Named) -> int:
    return want.id if want.rank is None else want.rank


def _suffixed_names(ordered: Sequence[Named]) -> dict[str, int]:
    """Return each name with its id written out, and the first position that it belongs to."""
    owners: dict[str, int] = {}
    for position, want in enumerate(ordered):
        owners.setdefault(suffixed(want.name, str(want.id), is_directory=want.is_directory), position)
    return owners


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
