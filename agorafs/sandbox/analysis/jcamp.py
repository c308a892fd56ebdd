"""Reading JCAMP-DX, the notation of the parameter files of Bruker scanners.

A file is a sequence of labelled records; a value reaches to the next label, over several lines if need be::

    ##TITLE=Parameter List
    ##$ACQ_scan_name=( 64 )
    <T1_RARE>
    ##$PVM_Matrix=( 2 )
    128 128
    $$ a comment

``( n )`` at the beginning gives the dimensions of what follows and is left out. Values become numbers, text
or lists of them. What is neither (structures in brackets) stays text.

Failure.  Lines that follow no rule are skipped, and a file without records gives an empty dictionary. Of
large files the first ``MAX_BYTES`` are read: the interesting records come first.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TypeAlias

from agorafs.sandbox.analysis.values import clean_text, to_number

MAX_BYTES = 4 * 1024 * 1024

Scalar: TypeAlias = int | float | str
Value: TypeAlias = int | float | str | list[Scalar]

_RECORD = re.compile(r"^##(\$?)([^=\n]+)=", re.MULTILINE)
_COMMENT = re.compile(r"^\$\$.*$", re.MULTILINE)
_DIMENSIONS = re.compile(r"\(\s*\d+(?:\s*,\s*\d+)*\s*\)\s*")
_STRING = re.compile(r"<([^<>]*)>")
# ParaVision 6 writes n equal values in a row as ``@n*(value)``.
_REPEATED = re.compile(r"@([0-9]{1,7})\*\(([^()\s]*)\)")
_MAX_VALUES = 10_000  # of a longer array only the first are kept: a few bytes may stand for gigabytes


def is_jcamp(path: Path) -> bool:
    """Whether the file at *path* begins with a record."""
    with path.open("rb") as stream:
        return stream.read(64).lstrip().startswith(b"##")


def read_jcamp(path: Path) -> dict[str, Value]:
    """Return the records of *path* by name, private ones without their ``$``; a name counts once."""
    with path.open("rb") as stream:
        text = stream.read(MAX_BYTES).decode("utf-8", "replace")
    text = _COMMENT.sub("", text.replace("\r\n", "\n"))
    records: dict[str, Value] = {}
    labels = list(_RECORD.finditer(text))
    for number, label in enumerate(labels):
        end = labels[number + 1].start() if number + 1 < len(labels) else len(text)
        name = clean_text(label[2])
        if name and name != "END":
            records.setdefault(name, _parse(text[label.end() : end]))
    return records


def first_text(value: Value | None) -> str:
    """Return *value*, or the first of several, as text; a missing one is empty."""
    if isinstance(value, list):
        value = value[0] if value else None
    return clean_text(value)


def _parse(text: str) -> Value:
    text = text.strip()
    dimensions = _DIMENSIONS.match(text)
    # The dimensions stand before values; brackets with nothing after them are the value itself.
    is_array = dimensions is not None and dimensions.end() < len(text)
    if dimensions is not None and is_array:
        text = text[dimensions.end() :]
    if text.startswith("("):
        return clean_text(text)
    if text.startswith("<"):
        strings: list[Scalar] = [clean_text(string) for string in _STRING.findall(text)]
        return strings[0] if len(strings) == 1 else strings
    words = _words(text)
    if is_array and len(words) > 1:
        return [_scalar(word) for word in words]
    return _scalar(clean_text(text))


def _words(text: str) -> list[str]:
    words: list[str] = []
    for word in text.split():
        repeated = _REPEATED.fullmatch(word)
        count, value = (1, word) if repeated is None else (int(repeated[1]), repeated[2])
        words += [value] * min(count, _MAX_VALUES - len(words))
        if len(words) >= _MAX_VALUES:
            break
    return words


def _scalar(word: str) -> Scalar:
    number = to_number(word)
    if number is None:
        return word
    return int(word) if re.fullmatch(r"[+-]?[0-9]+", word) else number
