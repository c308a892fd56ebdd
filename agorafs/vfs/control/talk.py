"""One opening of a control file: commands in, answers out.

Writing.  Each command is carried out in the ``write(2)`` that completes it, which fails with the errno of its
refusal. Of several commands in one write those before the one that fails have been carried out: the write then
returns how much they were, as for any device, and the next one, with the rest, fails. What does not end its line
counts at ``close(2)``. Nothing that follows a failure in the same write is carried out.

Reading.  Gives the answers to what was written through the same opening, each once, and all of them at offset 0. An
opening through which nothing was written gives the answers of the last one of the same user in the same directory, of
the same terminal session if there was one (``answers``).

Threads.  Several may use one handle; ``_lock`` guards what was written and what is to be read, and is not held while a
command is carried out. The kernel lets one write at a time through.
"""

from __future__ import annotations

import threading

from agorafs.cache.flights import copy_of
from agorafs.errors import AgoraFSError, NotSupported
from agorafs.vfs.aside import Caller
from agorafs.vfs.control.desk import Commands, refusal
from agorafs.vfs.control.language import Splitter, is_object

# Answers that wait to be read through one handle; the oldest go first.
_MAX_WAITING_BYTES = 4 * 1024 * 1024


class Talk:
    """See the module docstring."""

    def __init__(self, desk: Commands, directory: tuple[str, ...], caller: Caller) -> None:
        self._desk = desk
        self._directory = directory
        self._caller = caller
        self._lock = threading.Lock()
        # changing, guarded by _lock
        self._splitter = Splitter()
        self._untold: AgoraFSError | None = None  # of a command whose write returned what came before it
        self._answers: bytearray | None = None  # None: nothing was asked for yet
        self._is_own = False  # they are of this opening
        self._read = 0  # how much of the answers

    @property
    def size(self) -> int:
        """A stream has none."""
        return 0

    def read_into(self, offset: int, view: memoryview) -> int:
        """Give what is to be read next, all of it again at offset 0."""
        with self._lock:
            if self._answers is None:
                self._answers = bytearray(self._desk.answers.get(self._directory, self._caller))
            if offset == 0:
                self._read = 0
            piece = self._answers[self._read : self._read + len(view)]
            self._read += len(piece)
        view[: len(piece)] = piece
        return len(piece)

    def write(self, offset: int, data: bytes | memoryview) -> int:
        """Carry out what is complete with *data*; return how much of it that was."""
        with self._lock:
            untold, self._untold = self._untold, None
            self._splitter.feed(data)
            if untold is not None:
                self._splitter.drop()
        if untold is not None:
            raise copy_of(untold) from untold
        done = 0
        while True:
            try:
                command = self._next()
                if command is None:
                    return len(data)
                self._carry_out(command)
            except BaseException as error:
                with self._lock:
                    self._splitter.drop()
                    if not done or not isinstance(error, AgoraFSError):
                        raise
                    self._untold = error
                return done
            with self._lock:
                done = max(0, len(data) - self._splitter.waiting)

    def flush(self) -> None:
        """A program closed the file: what has no end of its line ends here."""
        with self._lock:
            untold, self._untold = self._untold, None
            rest = None if untold is not None else self._splitter.finish()
        if untold is not None:
            raise copy_of(untold) from untold
        if rest is not None:
            self._carry_out(rest)

    def fsync(self) -> None:
        """As ``flush``."""
        self.flush()

    def truncate(self, size: int) -> None:
        """``echo … > control`` empties the file first, which means nothing here."""

    def allocate(self, mode: int, offset: int, length: int) -> None:
        """Refuse: there is nothing to make room in."""
        raise NotSupported("room can not be reserved in a control file")

    def close(self) -> None:
        """Nothing is left to do."""

    def _next(self) -> str | None:
        try:
            with self._lock:
                return self._splitter.next()
        except AgoraFSError as error:
            self._answer(refusal(error, is_json=False).rendered())
            raise

    def _carry_out(self, command: str) -> None:
        try:
            answer = self._desk.execute(self._directory, command, self._caller)
        except Exception as error:
            self._answer(refusal(error, is_json=is_object(command)).rendered())
            raise
        self._answer(answer.rendered())

    def _answer(self, text: bytes) -> None:
        with self._lock:
            if self._answers is None or not self._is_own:
                self._answers, self._read, self._is_own = bytearray(), 0, True
            surplus = len(self._answers) + len(text) - _MAX_WAITING_BYTES
            if surplus > 0:
                dropped = min(surplus, len(self._answers))
                del self._answers[:dropped]
                self._read = max(0, self._read - dropped)
            self._answers += text
            kept = bytes(self._answers)
        self._desk.answers.keep(self._directory, self._caller, kept)
