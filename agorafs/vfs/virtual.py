"""Files whose bytes are made when they are opened, and that act when they are written.

A *draft* (``written_file``) shows a value, and takes a new one as a whole: what is written is collected and handed
over when the writer closes the file, or before, at the write that makes it complete: for a file that holds one value
the one that ends its line, for JSON the one that ends a line and leaves no bracket open. So ``echo 7 > rating`` and
``echo '{"TE": {}}' > parameters/User.json`` fail in the shell with the errno of the refusal (shells do not look at
what ``close`` says), and ``cp new.json parameters/User.json`` at the latest with that of ``close``. A file that is
only emptied (``: > rating``) is as if nobody had written: what is wanted must be said.

A *stream* (``stream_file``) has no size and no place: what is written is heard, what is read is said.

Threads.  One opening may be used by several; ``_lock`` of a draft guards what was written, and is a leaf. What is
handed over is taken under it, so that two closes of one descriptor do not do it twice.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable

from agorafs.errors import AgoraFSError, NotSupported, TooLarge
from agorafs.vfs.aside import Aside, Caller
from agorafs.vfs.handles import Writable

# Definitions, parameter sets and masks are kilobytes; nothing that is written here goes to the spool.
MAX_DRAFT_BYTES = 64 * 1024 * 1024

IsComplete = Callable[[bytearray], bool]


def never(_: bytearray) -> bool:
    """Tell that what was written may go on until it is closed."""
    return False


def is_line(written: bytearray) -> bool:
    """Tell whether a value has been written with the end of its line."""
    return written.endswith(b"\n")


def is_json(written: bytearray) -> bool:
    """Tell whether what was written is an object or a list of JSON, to the end of a line: nothing can follow."""
    if not written.endswith(b"\n") or not written.rstrip().endswith((b"}", b"]")):
        return False
    try:
        json.loads(written)
    except (ValueError, RecursionError):
        return False
    return True


def written_file(
    ino: int, content: bytes, accept: Callable[[bytes], None], *, is_complete: IsComplete = never
) -> Aside:
    """Return a file that shows *content*, and gives what is written to *accept*, which carries it out or raises.

    Args:
        is_complete: Tells, after each write, whether what was written counts already.
    """
    return Aside(
        ino, content=content, talk=lambda caller: Draft(content, accept, is_complete), can_write=True
    )


def stream_file(ino: int, talk: Callable[[Caller], Writable], *, can_write: bool) -> Aside:
    """Return a file without a size, whose openings are made by *talk*."""
    return Aside(ino, talk=talk, can_write=can_write)


class Draft:
    """One opening of a file that is written as a whole. See the module docstring."""

    def __init__(
        self, content: bytes, accept: Callable[[bytes], None], is_complete: IsComplete = never
    ) -> None:
        self._accept = accept
        self._is_complete = is_complete
        self._lock = threading.Lock()
        # changing, guarded by _lock
        self._bytes = bytearray(content)
        self._is_pending = False  # something was written that has not been handed over
        self._refusal: AgoraFSError | None = None  # of what was written last, told by a close
        self._counted = b""  # the latest that was accepted

    @property
    def size(self) -> int:
        """How many bytes there are."""
        return len(self._bytes)

    def read_into(self, offset: int, view: memoryview) -> int:
        """Give what was there, or what was written since."""
        with self._lock:
            piece = self._bytes[offset : offset + len(view)]
        view[: len(piece)] = piece
        return len(piece)

    def write(self, offset: int, data: bytes | memoryview) -> int:
        """Take *data*.

        Raises:
            TooLarge: It is no value or description any more.
        """
        with self._lock:
            self._check_size(offset + len(data))
            if offset > len(self._bytes):
                self._bytes.extend(bytes(offset - len(self._bytes)))
            self._bytes[offset : offset + len(data)] = data
            self._is_pending = True
            is_complete = self._is_complete(self._bytes)
            self._refusal = None
        if is_complete:
            self._hand_over()
        return len(data)

    def truncate(self, size: int) -> None:
        """Cut, or fill with zeros."""
        with self._lock:
            self._check_size(size)
            del self._bytes[size:]
            self._bytes.extend(bytes(size - len(self._bytes)))

    def allocate(self, mode: int, offset: int, length: int) -> None:
        """Programs do not need to make room here."""
        raise NotSupported("room can not be reserved in a file that is made when it is read")

    def flush(self) -> None:
        """The writer has closed it, or a copy of its descriptor: let it count.

        What was refused is not tried again, and refused at each ``close`` that follows: NumPy writes through a copy,
        and looks at the second one only.
        """
        with self._lock:
            refusal = self._refusal
        if refusal is not None:
            raise refusal
        try:
            self._hand_over()
        except AgoraFSError as error:
            with self._lock:
                self._refusal = error
            raise

    def _hand_over(self) -> None:
        with self._lock:
            if not self._is_pending:
                return
            self._is_pending = False  # tried once: what was refused may have been done in part
            written = bytes(self._bytes)
            counted = self._counted
        if len(written) > len(counted) > 0 and written.rstrip() == counted.rstrip():
            return  # a blank line behind it
        self._accept(written)
        with self._lock:
            self._counted = written

    def fsync(self) -> None:
        """As ``flush``: what was accepted is on the server."""
        self.flush()

    def close(self) -> None:
        """Nothing is left to do."""

    def _check_size(self, size: int) -> None:
        if size > MAX_DRAFT_BYTES:
            raise TooLarge(f"more than {MAX_DRAFT_BYTES >> 20} MiB can not be written here")
