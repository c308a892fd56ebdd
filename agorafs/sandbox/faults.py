"""Faults that tests inject: what a fault is, how it is written, and when it strikes.

Written ``KIND[=ARGUMENT]:PATH:WHEN``, for instance ``reset:/datafile/:3`` (the next three matching requests),
``status=503:/import/:every-4``, ``truncate:/download:*``. PATH is a part of the request path, empty for
any; an optional method goes before it (``POST /upload``). WHEN is a count, ``every-N``, or ``*`` for always.
Several faults are separated by commas; the first that strikes wins.

=============  ==========================================================================================
truncate       the body stops after ARGUMENT (0.5) of its length, the connection is closed
wrong-bytes    one byte in the middle of the body is changed; length and headers are right
slow-body      the body comes in pieces of 64 KiB with ARGUMENT seconds (0.05) before each
reset          the connection is aborted before an answer
reset-upload   the connection is aborted when ARGUMENT (0.5) of the request's body was read; nothing is stored
reset-body     the connection is aborted after half of the body
status         ARGUMENT (500) as status; 429 and 503 carry ``Retry-After: 1``, or what follows a ``/``
redirect       307 to the same path below ARGUMENT (``/elsewhere``), which does not exist
html           200 with a login page as text/html instead of the body; the request is not carried out
json-garbage   200 with a body cut in the middle of a JSON object; the request is carried out
hang           nothing for ARGUMENT seconds (30), then the connection is closed
drop-answer    the request is carried out, then the connection is aborted instead of answering
=============  ==========================================================================================

Threads.  Used on the event loop only.
"""

from __future__ import annotations

from dataclasses import dataclass

_DEFAULT_ARGUMENTS = {
    "truncate": "0.5",
    "wrong-bytes": "",
    "slow-body": "0.05",
    "reset": "",
    "reset-upload": "0.5",
    "reset-body": "",
    "status": "500",
    "redirect": "/elsewhere",
    "html": "",
    "json-garbage": "",
    "hang": "30",
    "drop-answer": "",
}
_NUMERIC_KINDS = ("truncate", "slow-body", "reset-upload", "hang")


@dataclass(slots=True)
class Fault:
    """One fault: ``remaining`` counts down (None: for ever), ``every`` strikes each n-th match."""

    kind: str
    argument: str
    method: str
    path_part: str
    remaining: int | None
    every: int = 1
    matches: int = 0

    @classmethod
    def parse(cls, text: str) -> Fault:
        """Parse one fault; raises ValueError with a sentence for the user."""
        head, colon, rest = text.strip().partition(":")
        kind, _, argument = head.partition("=")
        if kind not in _DEFAULT_ARGUMENTS:
            raise ValueError(f"there is no fault {kind!r}; there are {', '.join(_DEFAULT_ARGUMENTS)}")
        argument = argument or _DEFAULT_ARGUMENTS[kind]
        path_part, _, when = rest.rpartition(":") if colon and ":" in rest else (rest, "", "*")
        method, space, after = path_part.partition(" ")
        if space:
            path_part = after
        else:
            method = ""
        remaining: int | None = None
        every = 1
        try:
            if kind in _NUMERIC_KINDS:
                float(argument)
            if kind == "status":
                int(argument.partition("/")[0])
            if when.startswith("every-"):
                every = int(when[len("every-") :])
            elif when != "*":
                remaining = int(when)
        except ValueError:
            raise ValueError(f"the fault {text!r} is not KIND[=ARGUMENT]:PATH:WHEN") from None
        return cls(kind, argument, method.upper(), path_part, remaining, max(every, 1))

    def strikes(self, method: str, path: str) -> bool:
        """Count a request and say whether this fault takes it."""
        if self.remaining == 0 or self.path_part not in path or self.method not in ("", method):
            return False
        self.matches += 1
        if self.matches % self.every:
            return False
        if self.remaining is not None:
            self.remaining -= 1
        return True


class Faults:
    """The faults set at present, in order."""

    def __init__(self, faults: tuple[Fault, ...] = ()) -> None:
        self._faults = faults

    @classmethod
    def parse(cls, text: str) -> Faults:
        return cls(tuple(Fault.parse(part) for part in text.split(",") if part.strip()))

    def take(self, method: str, path: str) -> Fault | None:
        """Return the fault that strikes this request, if any."""
        for fault in self._faults:
            if fault.strikes(method, path):
                return fault
        return None
