"""Parameters as text, and text as parameters. Pure functions.

A parameter is an object with ``Name``, ``Value`` (a number, a text, or a list) and more that scanners know. As text a
value is what a shell wants to see: texts as they are, everything else as JSON. Text that is a number, a list, ``true``
or ``false`` in JSON becomes that; all other text is itself.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from agorafs.client.annotations import ParameterSet
from agorafs.errors import BadCommand
from agorafs.tree.names import Named, assign_names, legal_name

Parameter = Mapping[str, Any]

# The set that the vendor's connector makes for parameters of one's own.
USER_SET = "User Parameters"

_SUFFIX = ".json"


def value_text(value: object) -> str:
    """Return *value* as a shell wants to see it."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def value_of(text: str) -> Any:
    """Return the value that *text* means."""
    try:
        value = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return text
    return text if isinstance(value, (str, dict)) or not _is_value(value) else value


def value_in(parameters: Iterable[Parameter], name: str) -> Any:
    """Return the value of the first parameter *name*.

    Raises:
        KeyError: There is none.
    """
    for parameter in parameters:
        if parameter.get("Name") == name:
            return parameter.get("Value")
    raise KeyError(name)


def names_in(parameters: Iterable[Parameter]) -> list[str]:
    """Return the names of *parameters*, each once."""
    names = (parameter.get("Name") for parameter in parameters)
    return list(dict.fromkeys(name for name in names if isinstance(name, str) and name))


def without_nul(name: str) -> str:
    """Return *name* as an attribute's name can have it: everything but a zero byte."""
    return name.replace("\0", "\N{SYMBOL FOR NULL}")


def with_value(parameters: Sequence[Parameter], name: str, value: object) -> list[Parameter]:
    """Return *parameters* with *value* for *name*, which comes last if it is new."""
    changed = [
        {**parameter, "Value": value} if parameter.get("Name") == name else parameter
        for parameter in parameters
    ]
    if all(parameter.get("Name") != name for parameter in parameters):
        changed.append({"Name": name, "Value": value})
    return changed


def without(parameters: Iterable[Parameter], name: str) -> list[Parameter]:
    """Return *parameters* less *name*."""
    return [parameter for parameter in parameters if parameter.get("Name") != name]


def checked_value(value: object, what: str) -> Any:
    """Return *value*, which comes from JSON.

    Raises:
        BadCommand: It can not be a parameter's.
    """
    if not _is_value(value):
        raise BadCommand(f"{what}: a value is a number, a text, true, false, or a list of these")
    return value


def checked_name(name: object) -> str:
    """Return *name*.

    Raises:
        BadCommand: It can not be a parameter's.
    """
    if not isinstance(name, str) or not name.strip() or "\0" in name or not _is_utf8(name):
        raise BadCommand("a parameter has a name")
    return name


# -- a set as a file ---------------------------------------------------------------------------------


def set_as_json(one: ParameterSet) -> bytes:
    """Return the set as ``{name: value}``, or as the list that it is where two have one name."""
    names = [parameter.get("Name") for parameter in one.parameters]
    are_plain = all(isinstance(name, str) for name in names) and len(set(names)) == len(names)
    values = (
        {parameter["Name"]: parameter.get("Value") for parameter in one.parameters} if are_plain else None
    )
    return as_json([dict(parameter) for parameter in one.parameters] if values is None else values)


def parsed_json(content: bytes) -> Any:
    """Return what *content* says.

    Raises:
        BadCommand: It is no JSON.
    """
    try:
        return json.loads(content, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise BadCommand(f"this is no JSON: {error}") from None


def parameters_from(said: object, before: Sequence[Parameter] = ()) -> list[Parameter]:
    """Return the parameters that *said*, from JSON, is: ``{name: value}``, or a list of objects with Name and Value.

    A parameter that is given by its name and value alone keeps what else *before* says of it.

    Raises:
        BadCommand: It is neither.
    """
    if isinstance(said, Mapping):
        known = {parameter.get("Name"): parameter for parameter in reversed(before)}
        return [
            {**known.get(checked_name(name), {}), "Name": name, "Value": checked_value(value, name)}
            for name, value in said.items()
        ]
    if isinstance(said, Sequence) and not isinstance(said, (str, bytes)):
        parameters: list[Parameter] = []
        for one in said:
            if not isinstance(one, Mapping) or "Value" not in one:
                raise BadCommand("each parameter of the list needs a Name and a Value")
            name = checked_name(one.get("Name"))
            checked_value(one["Value"], name)
            parameters.append(dict(one))
        return parameters
    raise BadCommand("parameters are an object {name: value}, or a list of objects with Name and Value")


def sets_as_json(sets: Sequence[ParameterSet]) -> bytes:
    """Return all sets by name: what they are, the values by name, and the parameters as the server gives them."""
    return as_json(
        {
            name.removesuffix(_SUFFIX): {
                "id": one.id,
                "name": one.name,
                "read_only": one.is_read_only,
                "values": {
                    parameter: value_in(one.parameters, parameter) for parameter in names_in(one.parameters)
                },
                "parameters": [dict(parameter) for parameter in one.parameters],
            }
            for name, one in file_names(sets).items()
        }
    )


def file_names(sets: Sequence[ParameterSet]) -> dict[str, ParameterSet]:
    """Return the sets by the name of the file that shows each."""
    wanted = [
        Named(legal_name(f"{one.name}{_SUFFIX}", f"{one.id}{_SUFFIX}"), "set", one.id, False) for one in sets
    ]
    return dict(zip(assign_names(wanted), sets, strict=True))


def set_name(file_name: str) -> str | None:
    """Return the name of the set that a new file of this name would make, or None."""
    name = file_name.removesuffix(_SUFFIX)
    return name if name.strip() and name != file_name else None


def as_json(value: object) -> bytes:
    """Return *value* as the text of a file."""
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode(errors="replace")


def _is_value(value: object) -> bool:
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, list):
            waiting += one
        elif isinstance(one, float):
            if not math.isfinite(one):
                return False
        elif not isinstance(one, (bool, int)) and not (isinstance(one, str) and _is_utf8(one)):
            return False
    return True


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _no_constant(word: str) -> Any:
    raise ValueError(f"{word} is no number")
