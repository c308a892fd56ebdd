"""Carries out commands.

A command is understood and checked as a whole (``language``, ``verb``) before anybody is asked anything; then its
verb looks up what it names, checks what role and locks allow, and only then changes something.

Answers.  A line or more for a command of words, one object for one of JSON: ``{"ok": true, …}`` or ``{"ok": false,
"error": …}``. Each opening of a control file reads its own (``talk``); the last are kept for the next (``answers``).

Place.  The control files talk to it, and ``agorafs control`` through ``mount_requests``.

Threads.  Every method may be called from any thread; no state but the answers.

Failure.  Every refusal is an ``AgoraFSError``; what else escapes a verb is a mistake of ours. What the server calls
wrong (400, 422), such as an expression that it does not understand, is ``BadCommand``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from agorafs.config import did_you_mean
from agorafs.errors import AgoraFSError, BadCommand, ProtocolError, ReadOnly
from agorafs.vfs.aside import Caller
from agorafs.vfs.control.answers import Answers
from agorafs.vfs.control.language import Command, parse
from agorafs.vfs.control.services import Request, Services
from agorafs.vfs.control.verb import Verb

_BUG = "internal error, see the log of the mount"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one command."""

    text: str
    data: Mapping[str, Any]
    is_json: bool

    def rendered(self) -> bytes:
        """Return what reading the control file gives."""
        text = json.dumps(self.data, ensure_ascii=False) if self.is_json else self.text
        return f"{text}\n".encode(errors="replace")


class Commands(Protocol):
    """Something that carries out commands: ``Desk``."""

    @property
    def answers(self) -> Answers: ...
    def execute(self, directory: tuple[str, ...], text: str, caller: Caller) -> Answer: ...


def refusal(error: Exception, *, is_json: bool) -> Answer:
    """Return the answer to a command that failed with *error*."""
    reason = str(error) if isinstance(error, AgoraFSError) else _BUG
    return Answer(f"error: {reason}", {"ok": False, "error": reason}, is_json)


class Desk:
    """See the module docstring."""

    def __init__(self, services: Services, verbs: Mapping[str, Verb]) -> None:
        self._services = services
        self._verbs = verbs
        self.answers = Answers()

    def execute(self, directory: tuple[str, ...], text: str, caller: Caller) -> Answer:
        """Carry out the command *text*, said in *directory*, and return the answer.

        Raises:
            AgoraFSError: It was refused, or failed.
        """
        return self.execute_command(directory, parse(text), caller)

    def execute_command(self, directory: tuple[str, ...], command: Command, caller: Caller) -> Answer:
        """The same for a command that was given as words."""
        verb = self._verb(command.verb)
        arguments = verb.bind(command)
        if verb.changes and self._services.is_read_only:
            raise ReadOnly(f"{verb.name} is refused, agorafs mounts the archive read-only")
        try:
            outcome = verb.run(Request(self._services, directory, caller), arguments)
        except ProtocolError as error:
            if error.status in (400, 422):
                raise BadCommand(str(error)) from error
            raise
        finally:
            if verb.changes:  # also if it failed: a part of it may be done
                self._services.forget_contents()
        return Answer(outcome.text, {"ok": True, "answer": outcome.text, **outcome.data}, command.is_json)

    def _verb(self, name: str) -> Verb:
        verb = self._verbs.get(name)
        if verb is None:
            known: Sequence[str] = sorted(self._verbs)
            raise BadCommand(f"there is no command {name[:60]!r}{did_you_mean(name, known)}; help lists them")
        return verb
