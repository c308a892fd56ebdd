"""What can be set differently: one table of switches, for the command line and for running tests.

Why.  The API is known only from the outside. Where it is silent or its sources disagree, the sandbox decides,
and a client has to be right under the other decision too. Each such decision is a row of ``SWITCHES``.

Defaults.  What the vendor's clients need comes first; then what is likelier. Nobody has said whether Agora answers
ranges; they are on, because the web servers that such applications stand behind serve files with them.

Threads.  A running server's switches are changed on the event loop and read from any thread; a value is
replaced as a whole, so a reader sees the old one or the new one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agorafs.sandbox.faults import Faults


class SwitchError(Exception):
    """An unknown switch, or a value it cannot have; the text says which and what is possible."""


@dataclass(frozen=True, slots=True)
class Switch:
    """``values`` are the possible words; an empty tuple means a whole number, 0 or larger, or any text."""

    name: str
    default: str
    values: tuple[str, ...]
    meaning: str
    is_number: bool = False


_ON_OFF = ("on", "off")

SWITCHES = {
    switch.name: switch
    for switch in (
        Switch("ranges", "on", _ON_OFF, "downloads answer Range with 206 and send Accept-Ranges and ETag"),
        Switch("datafiles-v1", "on", _ON_OFF, "datasets of v1 answers carry their datafiles"),
        Switch("tree-datafiles", "on", _ON_OFF, "datasets in trees carry their datafiles"),
        Switch("tree", "on", _ON_OFF, "folder, exam, series and project trees exist (off: 404)"),
        Switch("downloadinfo", "on", _ON_OFF, "the listing for downloads exists (off: 404)"),
        Switch("fulltext", "on", _ON_OFF, "searching by words exists (off: 404)"),
        Switch("exam-patient", "nested", ("nested", "int"), "patient of a single exam: object or bare id"),
        Switch("folder-items-v1", "bare", ("bare", "page"), "shape of v1/folder/{id}/items/"),
        Switch("page-default", "10", (), "entries of a page when the client asks for no limit", True),
        Switch("page-max", "0", (), "most entries of a page, 0: as many as asked for", True),
        Switch("locked-refuses", "on", _ON_OFF, "writing below a locked exam is refused with 403"),
        Switch("import-speed", "1", (), "polls per import state before the next is shown, 0: at once", True),
        Switch("import-fail", "off", _ON_OFF, "every import that is completed ends in state -1"),
        Switch(
            "import-hold", "off", _ON_OFF, "imports stay in state 4, nothing is stored, until it is off again"
        ),
        Switch(
            "result-sha1", "right", ("right", "wrong"), "results of imports list a wrong SHA-1 for each file"
        ),
        Switch(
            "result-datafiles", "listed", ("listed", "missing"), "results of imports have the key datafiles"
        ),
        Switch("result-ignore", "", (), "imports ignore files whose target path contains this text"),
        Switch(
            "existing",
            "here",
            ("here", "elsewhere", "any-name"),
            "a file counts as there already when its content is at the same place, or anywhere in the project "
            "under the same name, or under any name",
        ),
        Switch(
            "task-speed",
            "1",
            (),
            "polls per state of a timeline item before the next is shown, 0: at once",
            True,
        ),
        Switch("task-fail", "off", _ON_OFF, "every run of a task ends in state 3"),
        Switch("task-hold", "off", _ON_OFF, "runs of tasks do nothing until it is off again"),
        Switch("quota", "0", (), "most bytes stored and uploaded, a chunk beyond it: 403; 0: no limit", True),
        Switch("version", "7.14.6", (), "what version/ says"),
        Switch("myagora-listed", "on", _ON_OFF, "My Agora is in the list of projects"),
        Switch("chunk-max", "0", (), "largest chunk in bytes, above it 413; 0: no limit", True),
        Switch("fault", "", (), "faults to inject, see faults.py; several are separated by commas"),
    )
}


class Switches:
    """The present values. ``faults`` is what the switch ``fault`` says, with its counters."""

    def __init__(self, values: Mapping[str, str] | None = None) -> None:
        self._values = {name: switch.default for name, switch in SWITCHES.items()}
        self.faults = Faults()
        self.set(values or {})

    def set(self, values: Mapping[str, Any]) -> None:
        """Change some switches, or none when one of them is wrong. Setting ``fault`` restarts its counts."""
        checked = {name: _checked(name, value) for name, value in values.items()}
        if "fault" in checked:
            try:
                self.faults = Faults.parse(checked["fault"])
            except ValueError as error:
                raise SwitchError(str(error)) from None
        self._values = {**self._values, **checked}

    def text(self, name: str) -> str:
        return self._values[name]

    def number(self, name: str) -> int:
        return int(self._values[name])

    def is_on(self, name: str) -> bool:
        return self._values[name] == "on"

    def as_json(self) -> dict[str, str]:
        return dict(self._values)


def parse_option(text: str) -> tuple[str, str]:
    """Split a ``NAME=VALUE`` from the command line."""
    name, equals, value = text.partition("=")
    if not equals:
        raise SwitchError(f"a switch is NAME=VALUE, not {text!r}")
    return name, value


def _checked(name: str, value: Any) -> str:
    switch = SWITCHES.get(name)
    if switch is None:
        raise SwitchError(f"there is no switch {name!r}; there are {', '.join(sorted(SWITCHES))}")
    if isinstance(value, bool):
        value = "on" if value else "off"
    elif isinstance(value, list):
        value = ",".join(str(item) for item in value)
    text = str(value)
    if switch.values and text not in switch.values:
        raise SwitchError(f"switch {name} can be {' or '.join(switch.values)}, not {text!r}")
    if switch.is_number and not (text.isascii() and text.isdigit()):
        raise SwitchError(f"switch {name} is a whole number, not {text!r}")
    return text
