"""Verbs that say something about objects: tags, ratings, locks, parameters.

Each looks up all that it is given, and checks what role and locks allow, before the first change.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from agorafs.client.records import Kind
from agorafs.errors import BadCommand
from agorafs.tree.tree import Node
from agorafs.vfs.annotations import check_may_annotate, check_may_lock, project_of
from agorafs.vfs.control.services import Request, ref
from agorafs.vfs.control.verb import Argument, Arguments, Outcome, Takes, Verb
from agorafs.vfs.parameter_values import checked_name, checked_value, value_of, value_text
from agorafs.vfs.tagging import check_label

_DESCRIBED = (Kind.FOLDER, Kind.EXAM, Kind.SERIES, Kind.DATASET, Kind.PATIENT)
_MAX_STARS = 5


def show(text: str) -> str:
    """Return *text* as it stands in an answer of one line."""
    return " ".join(text.split())


def listing(nodes: Iterable[Node]) -> list[dict[str, Any]]:
    """Return which objects *nodes* are, for programs."""
    return [{"object": f"{ref(node).kind.value}:{ref(node).id}", "path": node.path} for node in nodes]


def _described(request: Request, arguments: Arguments) -> Node:
    node = request.find(arguments.text("path"), *_DESCRIBED)
    check_may_annotate(node)
    return node


def _tag(request: Request, arguments: Arguments) -> Outcome:
    labels = arguments.texts("labels")
    for label in labels:
        check_label(label)
    node = _described(request, arguments)
    for label in labels:
        request.services.annotations.add_tag(ref(node), project_of(node), label)
    return Outcome(f"tagged {node.path} {' '.join(map(show, labels))}", {"objects": listing([node])})


def _untag(request: Request, arguments: Arguments) -> Outcome:
    labels = arguments.texts("labels")
    node = _described(request, arguments)
    for label in labels:
        request.services.annotations.remove_tag(ref(node), project_of(node), label)
    return Outcome(f"untagged {node.path} {' '.join(map(show, labels))}", {"objects": listing([node])})


def _rate(request: Request, arguments: Arguments) -> Outcome:
    value = arguments.number("value")
    node = _described(request, arguments)
    request.services.annotations.rate(ref(node), value)
    return Outcome(f"rated {node.path} {value}", {"objects": listing([node]), "value": value})


def _lock(request: Request, arguments: Arguments) -> Outcome:
    return _set_locked(request, arguments, locked=True)


def _unlock(request: Request, arguments: Arguments) -> Outcome:
    return _set_locked(request, arguments, locked=False)


def _set_locked(request: Request, arguments: Arguments, *, locked: bool) -> Outcome:
    nodes = request.find_all(arguments.texts("paths"), Kind.EXAM)
    for node in nodes:
        check_may_lock(node)
    for node in nodes:
        request.services.annotations.set_locked(ref(node), locked)
    request.services.announce(node.path for node in nodes)
    word = "locked" if locked else "unlocked"
    return Outcome("\n".join(f"{word} {node.path}" for node in nodes), {"objects": listing(nodes)})


def _set_parameters(request: Request, arguments: Arguments) -> Outcome:
    given = arguments.map("parameters")
    if not given:
        raise BadCommand("set-parameters needs parameters: set-parameters exams/E TE=4.6")
    parameters = {
        checked_name(name): checked_value(value, name)
        if arguments.is_json or not isinstance(value, str)
        else value_of(value)
        for name, value in given.items()
    }
    node = _described(request, arguments)
    for name, value in parameters.items():
        request.services.annotations.set_parameter(
            ref(node), name, value, set_name=arguments.text("set") or None
        )
    names = " ".join(map(show, parameters))
    return Outcome(
        f"set {names} of {node.path}", {"objects": listing([node]), "parameters": dict(parameters)}
    )


def _diff_parameters(request: Request, arguments: Arguments) -> Outcome:
    first, second = (request.find(arguments.text(name), *_DESCRIBED) for name in ("path", "other"))
    difference = request.services.annotations.difference(ref(first), ref(second))
    lines = [
        *(f"< {show(name)}: {value_text(value)}" for name, value in difference["only_in_first"].items()),
        *(f"> {show(name)}: {value_text(value)}" for name, value in difference["only_in_second"].items()),
        *(
            f"{show(name)}: {value_text(one)} | {value_text(other)}"
            for name, (one, other) in difference["different"].items()
        ),
    ]
    return Outcome("\n".join(lines) or "no difference", {"difference": dict(difference)})


_PATH = Argument("path", "an object")
_EXAMS = Argument("paths", "exams", Takes.TEXTS)

VERBS = (
    Verb(
        "tag", "give an object tags; one that does not exist is made", "tag exams/E1 good checked", _tag,
        (_PATH, Argument("labels", "labels", Takes.TEXTS)),
    ),
    Verb(
        "untag", "take tags from an object", "untag exams/E1 good", _untag,
        (_PATH, Argument("labels", "labels", Takes.TEXTS)),
    ),
    Verb(
        "rate", "rate an object with up to five stars; 0 takes the rating away", "rate exams/E1 4", _rate,
        (_PATH, Argument("value", "stars", Takes.NUMBER, most=_MAX_STARS)),
    ),
    Verb("lock", "lock exams: nothing in them can be changed", "lock exams/E1", _lock, (_EXAMS,)),
    Verb("unlock", "unlock exams", "unlock exams/E1", _unlock, (_EXAMS,)),
    Verb(
        "set-parameters", "set parameters of one's own, values as text or JSON", "set-parameters exams/E1 TE=4.6",
        _set_parameters,
        (
            _PATH,
            Argument("parameters", "names with values", Takes.MAP, is_required=False),
            Argument("set", "the parameter set", is_required=False),
        ),
    ),
    Verb(
        "diff-parameters", "show in which parameters two objects differ",
        "diff-parameters exams/E1/S1 exams/E2/S1", _diff_parameters,
        (_PATH, Argument("other", "another object")), changes=False,
    ),
)  # fmt: skip
