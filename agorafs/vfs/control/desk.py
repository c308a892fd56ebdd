"""Carries out commands, and keeps their answers for who reads the control file afterwards.

A command is understood and checked as a whole (``language``, ``verb``) before anybody is asked anything; then its
verb looks up what it names, checks what role and locks allow, and only then changes something.

Answers.  A line or more for a command of words, one object for one of JSON: ``{"ok": true, …}`` or ``{"ok": false,
"error": …}``. The last one is kept for each directory: for the user in that terminal session, and for the user. So
several who give commands at once get their own answers through their own handles or sessions (see ``talk``).

Place.  ``vfs.dot_agora`` asks it for the control file of a directory, ``mount_requests`` for ``agorafs control``.

Threads.  Every method may be called from any thread. ``_lock`` guards both tables of answers; it is a leaf.

Failure.  Every refusal is an ``AgoraFSError``; what else escapes a verb is a mistake of ours, kept as such.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from cachetools import LRUCache

from agorafs.config import did_you_mean
from agorafs.errors import AgoraFSError, BadCommand, ReadOnly
from agorafs.vfs.aside import Caller
from agorafs.vfs.control.language import Command, is_object, parse
from agorafs.vfs.control.services import Request, Services
from agorafs.vfs.control.verb import Verb

_MAX_ANSWERS = 256
_MAX_ANSWER_BYTES = 64 * 1024 * 1024  # of all that are kept
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

    def execute(self, directory: tuple[str, ...], text: str, caller: Caller) -> Answer: ...
    def last_answer(self, directory: tuple[str, ...], caller: Caller) -> bytes: ...


def refusal(error: Exception, *, is_json: bool) -> Answer:
    """Return the answer to a command that failed with *error*."""
    reason = str(error) if isinstance(error, AgoraFSError) else _BUG
    return Answer(f"error: {reason}", {"ok": False, "error": reason}, is_json)


class Desk:
    """See the module docstring."""

    def __init__(self, services: Services, verbs: Mapping[str, Verb]) -> None:
        self._services = services
        self._verbs = verbs
        self._lock = threading.Lock()
        # Guarded by _lock. Each answer counts as one of _MAX_ANSWERS at least, and by its size if that is more.
        least = _MAX_ANSWER_BYTES // _MAX_ANSWERS
        self._by_session: LRUCache[tuple[Caller, tuple[str, ...]], bytes] = LRUCache(
            _MAX_ANSWER_BYTES, getsizeof=lambda text: max(least, len(text))
        )
        self._by_user: LRUCache[tuple[int, tuple[str, ...]], bytes] = LRUCache(
            _MAX_ANSWER_BYTES, getsizeof=lambda text: max(least, len(text))
        )

    def execute(self, directory: tuple[str, ...], text: str, caller: Caller) -> Answer:
        """Carry out the command *text*, said in *directory*, and return the answer.

        Raises:
            AgoraFSError: It was refused, or failed; the reason is kept as the answer.
        """
        is_json = is_object(text)
        try:
            answer = self._carry_out(directory, parse(text), caller)
        except Exception as error:
            self._keep(directory, caller, refusal(error, is_json=is_json))
            raise
        self._keep(directory, caller, answer)
        return answer

    def execute_command(self, directory: tuple[str, ...], command: Command, caller: Caller) -> Answer:
        """The same for a command that was given as words; its answer is not kept."""
        return self._carry_out(directory, command, caller)

    def last_answer(self, directory: tuple[str, ...], caller: Caller) -> bytes:
        """Return what the last command of *caller* in *directory* was answered, nothing if there was none."""
        with self._lock:
            kept: bytes | None = self._by_session.get((caller, directory)) if caller.session else None
            if kept is None:
                kept = self._by_user.get((caller.uid, directory))
        return kept or b""

    def _carry_out(self, directory: tuple[str, ...], command: Command, caller: Caller) -> Answer:
        verb = self._verb(command.verb)
        arguments = verb.bind(command)
        if verb.changes and self._services.is_read_only:
            raise ReadOnly(f"{verb.name} is refused, agorafs mounts the archive read-only")
        outcome = verb.run(Request(self._services, directory, caller), arguments)
        return Answer(outcome.text, {"ok": True, "answer": outcome.text, **outcome.data}, command.is_json)

    def _verb(self, name: str) -> Verb:
        verb = self._verbs.get(name)
        if verb is None:
            known: Sequence[str] = sorted(self._verbs)
            raise BadCommand(f"there is no command {name[:60]!r}{did_you_mean(name, known)}; help lists them")
        return verb

    def _keep(self, directory: tuple[str, ...], caller: Caller, answer: Answer) -> None:
        text = answer.rendered()
        if len(text) > _MAX_ANSWER_BYTES:
            text = b"the answer was too long to be kept; read it through the handle of the command\n"
        with self._lock:
            self._by_session[caller, directory] = text
            self._by_user[caller.uid, directory] = text
