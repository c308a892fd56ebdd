"""What a verb of the control file takes, and whether a command has it: checked before anybody is asked anything.

A verb declares its arguments. In a line they come in this order, or by name (``value=4``); in an object by name. Of a
verb with a *map* (the inputs of a task, the parameters to be set) every other name belongs to that.

Place.  The modules of verbs declare; ``desk`` binds and carries out; ``help`` shows.

Failure.  ``BadCommand``, naming the argument, and the nearest one that there is.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agorafs.config import did_you_mean
from agorafs.errors import BadCommand
from agorafs.vfs.control.language import Command, load_json

if TYPE_CHECKING:
    from agorafs.vfs.control.services import Request

_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_-]*\Z")
_MAX_DIGITS = 18


class Takes(enum.Enum):
    """What an argument is."""

    TEXT = "text"
    TEXTS = "texts"  # one or more
    NUMBER = "number"
    FLAG = "flag"  # 1 or 0
    DATA = "data"  # any JSON
    MAP = "map"  # names with their values


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument: ``what`` says it in a word or two. ``is_secret`` ones are taken in objects only, never shown."""

    name: str
    what: str
    takes: Takes = Takes.TEXT
    is_required: bool = True
    least: int = 0
    most: int = 10**_MAX_DIGITS
    is_secret: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command did: a line or more for people, the same for programs."""

    text: str
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Arguments:
    """The arguments of one command, each as its verb declares it.

    ``is_json`` tells that the values of a map are as JSON has them; otherwise they are texts.
    """

    values: Mapping[str, Any]
    is_json: bool = False

    def has(self, name: str) -> bool:
        """Tell whether it was given."""
        return name in self.values

    def text(self, name: str, default: str = "") -> str:
        """Return a text."""
        value = self.values.get(name, default)
        assert isinstance(value, str)
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """Return the texts of an argument that takes several."""
        value = self.values.get(name, ())
        assert isinstance(value, tuple)
        return value

    def number(self, name: str) -> int:
        """Return a number that is required."""
        value = self.values[name]
        assert isinstance(value, int)
        return value

    def flag(self, name: str) -> bool:
        """Return a flag; one that was not given is off."""
        return bool(self.values.get(name, False))

    def map(self, name: str) -> Mapping[str, Any]:
        """Return names with their values."""
        value = self.values.get(name, {})
        assert isinstance(value, Mapping)
        return value

    def data(self, name: str) -> Any:
        """Return JSON, None if it was not given."""
        return self.values.get(name)


@dataclass(frozen=True, slots=True)
class Verb:
    """A verb. ``changes`` tells whether it changes something on the server: then a read-only mount refuses it."""

    name: str
    summary: str
    example: str
    run: Callable[[Request, Arguments], Outcome]
    arguments: tuple[Argument, ...] = ()
    changes: bool = True

    def usage(self) -> str:
        """Return the verb with what it takes, as ``help`` shows it."""
        shown = []
        for argument in self.arguments:
            name = argument.name.upper()
            if argument.is_secret:
                continue
            if argument.takes is Takes.TEXTS:
                name += "…"
            elif argument.takes is Takes.MAP:
                name = "NAME=VALUE…"
            shown.append(name if argument.is_required else f"[{name}]")
        return " ".join([self.name, *shown])

    def bind(self, command: Command) -> Arguments:
        """Return the arguments of *command*.

        Raises:
            BadCommand: One is missing, unknown, given twice, or not what it should be.
        """
        values = self._from_words(command)
        for name, value in command.fields.items():
            self._take_field(values, name, value)
        for argument in self.arguments:
            if argument.is_required and argument.name not in values:
                raise BadCommand(f"{self.name} needs {argument.what} ({argument.name}): {self.example}")
        return Arguments(values, command.is_json)

    def _from_words(self, command: Command) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for word in command.words:
            key, equals, rest = word.partition("=")
            named = self._find(key) if equals else None
            free = next((one for one in self.arguments if self._is_free(one, values)), None)
            rest_map = self._map()
            if named is not None and named.takes is not Takes.MAP:
                if named.is_secret:
                    raise BadCommand(
                        f"{named.name} is not given in a line, where it would be seen: {self.example}"
                    )
                self._set(values, named, self._from_text(named, rest))
            elif equals and key and rest_map is not None and (free is None or not free.is_required):
                _put(values.setdefault(rest_map.name, {}), key, rest)
            elif equals and rest_map is None and _KEY.match(key):
                known = [one.name for one in self.arguments if not one.is_secret]
                raise BadCommand(
                    f"{self.name} has no argument {key}{did_you_mean(key, known)}; a name with = is written ./{key}=…"
                )
            elif free is None:
                raise BadCommand(f"{self.name} has one argument too many: {self.usage()}")
            else:
                self._set(values, free, self._from_text(free, word))
        return values

    def _is_free(self, argument: Argument, values: Mapping[str, Any]) -> bool:
        """Tell whether the next word without a name is this argument."""
        if argument.is_secret or argument.takes in (Takes.MAP, Takes.FLAG):
            return False
        return argument.takes is Takes.TEXTS or argument.name not in values

    def _take_field(self, values: dict[str, Any], name: str, value: Any) -> None:
        argument, rest_map = self._find(name), self._map()
        if argument is not None:
            if argument.name in values and argument.takes is not Takes.MAP:
                raise BadCommand(f"{self.name} has {argument.name} twice")
            self._set(values, argument, self._from_json(argument, value))
        elif rest_map is not None:
            _put(values.setdefault(rest_map.name, {}), name, value)
        else:
            known = [one.name for one in self.arguments]
            hint = did_you_mean(name, known) or (f"; it has: {', '.join(known)}" if known else "")
            raise BadCommand(f"{self.name} has no argument {name[:60]!r}{hint}")

    def _find(self, name: str) -> Argument | None:
        wanted = name.replace("_", "-")
        for argument in self.arguments:
            if wanted == argument.name or (
                argument.takes is Takes.TEXTS and wanted == argument.name.rstrip("s")
            ):
                return argument
        return None

    def _map(self) -> Argument | None:
        return next((one for one in self.arguments if one.takes is Takes.MAP), None)

    def _set(self, values: dict[str, Any], argument: Argument, value: Any) -> None:
        if argument.takes is Takes.TEXTS:
            values[argument.name] = (*values.get(argument.name, ()), *value)
        elif argument.takes is Takes.MAP:
            for key, one in value.items():
                _put(values.setdefault(argument.name, {}), key, one)
        elif argument.name in values:
            raise BadCommand(f"{self.name} has {argument.name} twice")
        else:
            values[argument.name] = value

    def _from_text(self, argument: Argument, text: str) -> Any:
        if argument.takes is Takes.NUMBER:
            if not (text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS):
                raise self._wrong(argument)
            return self._in_range(argument, int(text))
        if argument.takes is Takes.FLAG:
            if text not in ("0", "1"):
                raise self._wrong(argument)
            return text == "1"
        if argument.takes is Takes.DATA:
            return load_json(text)
        if not text:
            raise BadCommand(f"{self.name}: {argument.name} is empty")
        return (text,) if argument.takes is Takes.TEXTS else text

    def _from_json(self, argument: Argument, value: Any) -> Any:
        if argument.takes is Takes.DATA:
            return value
        if argument.takes is Takes.TEXTS:
            texts = [value] if isinstance(value, str) else value
            if not (isinstance(texts, list) and texts and all(isinstance(one, str) and one for one in texts)):
                raise self._wrong(argument)
            return tuple(texts)
        if argument.takes is Takes.NUMBER and isinstance(value, int) and not isinstance(value, bool):
            return self._in_range(argument, value)
        if argument.takes is Takes.FLAG and (isinstance(value, bool) or value in (0, 1)):
            return bool(value)
        if argument.takes is Takes.MAP and isinstance(value, dict):
            return value
        if argument.takes is Takes.TEXT and isinstance(value, str):
            if not value:
                raise BadCommand(f"{self.name}: {argument.name} is empty")
            return value
        raise self._wrong(argument)

    def _in_range(self, argument: Argument, number: int) -> int:
        if not argument.least <= number <= argument.most:
            raise self._wrong(argument)
        return number

    def _wrong(self, argument: Argument) -> BadCommand:
        wanted = {
            Takes.TEXT: "a text",
            Takes.TEXTS: "one text or a list of them",
            Takes.FLAG: "1 or 0",
            Takes.MAP: "an object",
        }.get(argument.takes, "a number")
        if argument.takes is Takes.NUMBER and argument.most < 10**_MAX_DIGITS:
            wanted = f"a number from {argument.least} to {argument.most}"
        return BadCommand(f"{self.name}: {argument.name} ({argument.what}) is {wanted}")


def _put(values: dict[str, Any], key: str, value: Any) -> None:
    if key in values:
        raise BadCommand(f"{key[:60]!r} is given twice")
    values[key] = value
