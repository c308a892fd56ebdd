"""What the server says became of each file: the result of an import, compared with what was sent.

Why.  An upload may be forgotten only when the server has been seen to hold it. The result names path and SHA-1 of each
file; an entry answers an upload when both are equal, and it answers one upload only.

Place.  Pure functions from the raw result to an ``Answer`` for each upload; ``outcomes`` then looks where the file is.

Failure.  Nothing raises. What can not be understood in a result counts as not said.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from agorafs.uploads.values import Upload


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of a result. ``created``: the server says, in so many words, that it is new there."""

    path: str
    sha1: str
    dataset: int | None
    datafile: int | None
    created: bool


class Answer(NamedTuple):
    """What a result says of one upload: the ``entry`` that confirms it, or the ``problem`` in words.

    ``may_be_there`` tells that a look at the server can still find it.
    """

    entry: Entry | None
    problem: str = ""
    may_be_there: bool = True


def normal_path(path: str) -> str:
    """Return *path* as it is compared: NFC, without empty and ``.`` parts."""
    parts = unicodedata.normalize("NFC", path).split("/")
    return "/".join(part for part in parts if part not in ("", "."))


def answers(uploads: Iterable[Upload], result: Mapping[str, object] | None) -> dict[int, Answer]:
    """Return, by upload id, what *result* (the raw answer of ``import/{id}/result/``) says."""
    uploads = list(uploads)
    entries = _entries(result or {})
    if entries is None:
        silent = Answer(None, "the server does not say what became of this file")
        return {upload.id: silent for upload in uploads}
    unused: dict[str, list[Entry]] = {}
    for entry in entries:
        unused.setdefault(normal_path(entry.path), []).append(entry)
    found: dict[int, Answer] = {}
    for upload in uploads:
        same_path = unused.get(normal_path(upload.target), [])
        confirming = [entry for entry in same_path if entry.sha1 and entry.sha1 == upload.sha1]
        if confirming:
            # Two names may differ in their Unicode form alone.
            entry = next((one for one in confirming if one.path == upload.target), confirming[0])
            same_path.remove(entry)
            found[upload.id] = Answer(entry)
    ignored = _ignored(result or {})
    for upload in uploads:
        if upload.id not in found:
            path = normal_path(upload.target)
            found[upload.id] = _unconfirmed(upload, unused.get(path, []), ignored.get(path))
    return found


def _unconfirmed(upload: Upload, others: list[Entry], ignored: str | None) -> Answer:
    if others:
        theirs = others[0].sha1
        if not theirs:
            return Answer(None, "the server does not say which bytes it holds")
        return Answer(None, f"the server holds other bytes (SHA-1 {theirs} instead of {upload.sha1})", False)
    if ignored:
        return Answer(None, f"the server ignored this file: {ignored}")
    return Answer(None, "the server ignored this file")


def _entries(result: Mapping[str, object]) -> list[Entry] | None:
    """Return the files of *result*; None when it does not list any, not even none."""
    listed = result.get("datafiles")
    if not isinstance(listed, list):
        return None
    entries = []
    for one in listed:
        if isinstance(one, dict) and isinstance(path := one.get("path"), str):
            sha1 = one.get("sha1")
            sha1 = sha1.lower() if isinstance(sha1, str) else ""
            entries.append(
                Entry(path, sha1, _id(one.get("dataset")), _id(one.get("id")), one.get("created") is True)
            )
    return entries


def _id(value: object) -> int | None:
    if isinstance(value, dict):
        value = value.get("id")
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _ignored(result: Mapping[str, object]) -> dict[str, str]:
    """Return the reasons that *result* gives, by normal path."""
    listed = result.get("ignored")
    reasons = {}
    for one in listed if isinstance(listed, list) else ():
        if isinstance(one, dict) and isinstance(path := one.get("path"), str):
            reasons[normal_path(path)] = str(one.get("reason") or "no reason given")
    return reasons
