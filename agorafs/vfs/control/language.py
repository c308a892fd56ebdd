"""What is written into a control file, as commands: where one ends, and what its words are.

Form.  One command per line, quoted as for a shell (``tag "exams/Brain MRI" good``), or one JSON object
(``{"command": "tag", "path": "exams/Brain MRI", "labels": ["good"]}``), which may span lines and counts with its last
brace. Blank lines, and those that begin with ``#``, are nothing. Names are taken as they are written: nothing is
expanded, no character is normalised.

Bytes come as programs write them, cut anywhere (``Splitter``). Of what can not be understood nothing is guessed: when
something is refused whose end has not been seen, nothing more is taken, for nobody can tell what of the rest were
commands.

Place.  ``talk`` splits, ``desk`` parses. Neither this module nor anything it calls asks anybody anything.

Threads.  A ``Splitter`` belongs to one handle, whose lock guards it.

Failure.  ``BadCommand``.
"""

from __future__ import annotations

import json
import math
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from agorafs.errors import BadCommand

MAX_COMMAND_BYTES = 64 * 1024

# What no name and no value has; a tab separates words, line ends are looked for before.
_CONTROLS = re.compile("[\0-\x08\x0a-\x1f\x7f-\x9f\ud800-\udfff]")
_NEVER = re.compile("[\0\ud800-\udfff]")
_OPENING, _CLOSING, _QUOTE, _ESCAPE, _NEWLINE = b"{"[0], b"}"[0], b'"'[0], b"\\"[0], b"\n"[0]


@dataclass(frozen=True, slots=True)
class Command:
    """One command, understood as far as its verb.

    ``words`` are those behind the verb, ``fields`` what was said by name in an object. ``is_json`` tells how the
    answer is to be.
    """

    verb: str
    words: tuple[str, ...] = ()
    fields: Mapping[str, Any] = field(default_factory=dict)
    is_json: bool = False


def parse(text: str) -> Command:
    """Return the command that *text* is, a line without its end or an object.

    Raises:
        BadCommand: With what is wrong, and never with what was said: that may hold a password.
    """
    if is_object(text):
        return _parse_object(text)
    if _CONTROLS.search(text):
        raise BadCommand("control characters can not be a part of a command")
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise BadCommand(f"the line is not quoted as for a shell: {str(error).lower()}") from None
    return from_words(words)


def from_words(words: Sequence[str], fields: Mapping[str, Any] | None = None) -> Command:
    """Return the command of words that are separate already, *fields* said besides."""
    if not words:
        raise BadCommand("no command was given; help lists them")
    if any(_CONTROLS.search(word) for word in words):
        raise BadCommand("control characters can not be a part of a command")
    return Command(words[0], tuple(words[1:]), fields or {})


def is_object(text: str) -> bool:
    """Tell whether *text* is meant as JSON."""
    return text.lstrip().startswith("{")


def load_json(text: str) -> Any:
    """Return what the JSON *text* says.

    Raises:
        BadCommand: It is none; has a name twice, a number that is none, or half a character.
    """
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_number, parse_float=_finite)
        _check_strings([value])
    except RecursionError:
        raise BadCommand("the JSON is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise BadCommand(f"this is not JSON: {error.msg.lower()} at character {error.pos + 1}") from None
    except ValueError:  # an integer of thousands of digits
        raise BadCommand("this is not JSON: a number is too long") from None
    return value


def _parse_object(text: str) -> Command:
    fields = load_json(text)
    if not isinstance(fields, dict):
        raise BadCommand("a command as JSON is one object")
    verb = fields.pop("command", None)
    if not isinstance(verb, str):
        raise BadCommand('the object has no "command", such as {"command": "help"}')
    return Command(verb, (), fields, is_json=True)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise BadCommand("an object of the JSON has a name twice")
    return found


def _no_number(word: str) -> NoReturn:
    raise BadCommand(f"{word} is not a number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise BadCommand("a number is too large")
    return number


def _check_strings(values: Iterable[Any]) -> None:
    """Refuse NUL and half characters wherever they are; what nests too deeply for this does for JSON itself."""
    for value in values:
        if isinstance(value, str):
            if _NEVER.search(value):
                raise BadCommand("a text has a character that is none")
        elif isinstance(value, dict):
            _check_strings(value)
            _check_strings(value.values())
        elif isinstance(value, list):
            _check_strings(value)


class Splitter:
    """Finds commands in bytes that come in pieces. See the module docstring."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._seen = 0  # how much of it belongs to the command that is not complete
        self._depth = 0  # of braces
        self._is_in_text = False
        self._is_escaped = False
        self._is_lost = False

    @property
    def waiting(self) -> int:
        """How many bytes wait for the end of their command, or to be looked at."""
        return len(self._bytes)

    def feed(self, data: bytes | memoryview) -> None:
        """Take further bytes; ``next`` gives what is complete with them.

        Raises:
            BadCommand: What they belong to was refused in its middle.
        """
        if self._is_lost:
            raise BadCommand(
                "what was written before was refused in its middle; close this file and begin anew"
            )
        self._bytes += data

    def next(self) -> str | None:
        """Return the next complete command, None if there is none.

        Raises:
            BadCommand: It is too long, or no text. It is to be dropped with ``drop``.
        """
        while True:
            if self._seen == 0:  # what a command begins with may come behind blank lines
                del self._bytes[: len(self._bytes) - len(self._bytes.lstrip())]
            is_object = self._bytes[:1] == b"{"
            end = self._end_of_object() if is_object else self._bytes.find(b"\n", self._seen)
            if (len(self._bytes) if end < 0 else end) > MAX_COMMAND_BYTES:
                raise BadCommand(f"a command has at most {MAX_COMMAND_BYTES >> 10} KiB")
            if end < 0:
                self._seen = len(self._bytes)
                return None
            text = self._take_object(end) if is_object else self._take_line(end)
            if not text.startswith("#"):
                return text

    def finish(self) -> str | None:
        """Return what waits for its end as if that had come, None if that is nothing."""
        rest = bytes(self._bytes)
        self._begin_anew(len(rest))
        text = _decoded(rest)
        return text if text and not text.startswith("#") else None

    def drop(self) -> None:
        """Forget what was written and not carried out. Where that may end within a command, take no more."""
        rest = bytes(self._bytes)
        if rest.strip() and (not rest.endswith(b"\n") or b"{" in rest):
            self._is_lost = True
        self._begin_anew(len(rest))

    def _end_of_object(self) -> int:
        """Return where the object at the beginning ends, -1 if it goes on."""
        for place in range(self._seen, len(self._bytes)):
            byte = self._bytes[place]
            if self._is_escaped:
                self._is_escaped = False
            elif self._is_in_text:
                if byte == _NEWLINE:
                    self._is_lost = True
                    raise BadCommand("this is not JSON: a text goes over the end of its line")
                self._is_escaped = byte == _ESCAPE
                self._is_in_text = byte != _QUOTE
            elif byte == _QUOTE:
                self._is_in_text = True
            elif byte == _OPENING:
                self._depth += 1
            elif byte == _CLOSING:
                self._depth -= 1
                if self._depth == 0:
                    return place + 1
        return -1

    def _take_object(self, end: int) -> str:
        text = bytes(self._bytes[:end])
        behind = bytes(self._bytes[end:]).partition(b"\n")[0]
        if behind.strip():
            raise BadCommand("something follows the object on its line")
        self._begin_anew(end + len(behind))
        return _decoded(text)

    def _take_line(self, end: int) -> str:
        line = bytes(self._bytes[:end])
        self._begin_anew(end + 1)
        return _decoded(line)

    def _begin_anew(self, taken: int) -> None:
        del self._bytes[:taken]
        self._seen = self._depth = 0
        self._is_in_text = self._is_escaped = False


def _decoded(line: bytes) -> str:
    try:
        return line.decode().strip(" \t\r\n")
    except UnicodeDecodeError:
        raise BadCommand("a command is UTF-8") from None
