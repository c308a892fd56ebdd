"""Files that were removed, or that another was renamed over, while they were open.

Why.  Linux asks for the attributes of an open file by its path, which a removed file has not. So libfuse first
renames such a file to a hidden name (``.fuse_hidden…``) in its directory, and removes that when the last handle is
closed. When the hiding comes, one can not tell a removal from a renaming over: the latter follows at once, in the
same thread, and can still be refused.

What follows from that
    * Hiding takes nothing away: a local file is renamed, a stored one set aside. Archived data is not hidden: what is
      open can not be deleted.
    * A renaming over that is refused brings back what was hidden for it (``restore``).
    * libfuse removes a hidden file only if its last handle is closed after the hiding. A program that closes a file
      and removes it at once can be overtaken: the kernel says "closed" when it likes. So what has been hidden for
      ``_ABANDONED_S`` and is open nowhere is removed from here (``abandoned``).
    * A successor of the old name takes over what the hidden file was to replace, or is. Without one, that is removed
      from the server when the last handle is closed.

Hidden names are in no listing and keep no directory. Attributes of one are those of its handles.

Failure.  The program that removed the file is not told any more when the server does not remove it at the end. The
file is shown again then, and the reason noted. So it is after a crash (``forget_leftovers``).

Threads.  ``_lock`` guards ``_parked`` and ``_renaming``; it is a leaf. ``_just_hidden`` is each thread's own.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from agorafs.clock import SYSTEM_CLOCK, Clock
from agorafs.errors import AgoraFSError
from agorafs.uploads.nodes import LocalNode, Place
from agorafs.uploads.uploads import Uploads
from agorafs.uploads.values import Replaced

log = logging.getLogger(__name__)

_PREFIX = ".fuse_hidden"
# Between the hiding and the renaming that it was for lie microseconds.
_ABANDONED_S = 1.0
# How often a node is looked at again of which an earlier version arrived while it was to be removed.
_ATTEMPTS = 3


def is_hidden_name(name: str) -> bool:
    """Tell whether libfuse gives such a name to a file that is removed while it is open."""
    return name.startswith(_PREFIX)


def forget_leftovers(uploads: Uploads, nodes: Iterable[LocalNode]) -> None:
    """Remove those of *nodes* whose handles a crash has closed."""
    for node in nodes:
        if is_hidden_name(node.name):
            uploads.remove(node)


@dataclass(slots=True)
class _Parked:
    """A node under a hidden name since ``at`` (monotonic seconds); ``path`` was its name before.

    ``relieved_of``: what a successor has taken over that it was to replace.
    """

    node: LocalNode
    path: str
    at: float
    relieved_of: Replaced | None = None


class Hidden:
    """See the module docstring."""

    def __init__(
        self, uploads: Uploads, note: Callable[[str, AgoraFSError], None], clock: Clock = SYSTEM_CLOCK
    ) -> None:
        """*note* is told why a path is shown again."""
        self._uploads = uploads
        self._note = note
        self._clock = clock
        self._lock = threading.Lock()
        self._renaming = 0
        self._parked: dict[tuple[Place, str], _Parked] = {}
        self._just_hidden = threading.local()

    def park(self, place: Place, name: str, node: LocalNode, path: str) -> None:
        """*node*, which has a hidden name now, was *name* in *place*, and had the path *path*."""
        with self._lock:
            self._parked[place, name] = _Parked(node, path, self._clock.monotonic())
        self._just_hidden.key = (place, name)

    @contextlib.contextmanager
    def renaming(self) -> Iterator[None]:
        """While this lasts, nothing is taken for abandoned: it may have to be brought back."""
        with self._lock:
            self._renaming += 1
        try:
            yield
        finally:
            with self._lock:
                self._renaming -= 1

    def abandoned(self, is_open: Callable[[str], bool], *, at_once: bool = False) -> list[LocalNode]:
        """Return the nodes that nobody has open and libfuse has forgotten to remove.

        Args:
            is_open: Tells whether there is a handle of a path.
            at_once: Those too that may still be brought back, or are about to be removed.
        """
        now = self._clock.monotonic()
        with self._lock:
            if self._renaming and not at_once:
                return []
            parked = list(self._parked.values())
        return [
            one.node
            for one in parked
            if (at_once or now - one.at >= _ABANDONED_S)
            and not one.node.handles
            and not is_open(f"{one.path.rpartition('/')[0]}/{one.node.name}")
        ]

    def restore(self, place: Place, name: str) -> None:
        """A renaming to *name* in *place* was refused: bring back what this thread has hidden for it.

        What was removed there while it is still open comes back, too, if the same thread had hidden it: a file too
        many rather than one too few.
        """
        if getattr(self._just_hidden, "key", None) != (place, name):
            return
        with self._lock:
            parked = self._parked.pop((place, name), None)
        if parked is None:
            return
        if parked.node.is_aside:
            self._uploads.remove(parked.node)  # what it stood for is shown again
        else:
            self._uploads.rename(parked.node, place, name)

    def predecessor(self, place: Place, name: str) -> Replaced | None:
        """Return the stored file that a new *name* in *place* is to take over from a hidden one, if any."""
        with self._lock:
            parked = self._parked.get((place, name))
            if parked is None:
                return None
            parked.relieved_of = parked.node.takes_place_of
            return parked.relieved_of

    def succeeded(self, place: Place, name: str, node: LocalNode) -> None:
        """*node* is *name* in *place* now: what a hidden one becomes when it arrives is its earlier version."""
        with self._lock:
            parked = self._parked.get((place, name))
        if parked is not None and parked.node is not node:
            self._uploads.succeed(parked.node, node)

    def finish(self, node: LocalNode, delete: Callable[[Replaced], None]) -> None:
        """The last handle of *node*, which has a hidden name, is closed: forget it, and *delete* what it stood for."""
        with self._lock:
            key, parked = next(
                ((key, one) for key, one in self._parked.items() if one.node is node), (None, None)
            )
            if key is not None:
                del self._parked[key]
        try:
            for _ in range(_ATTEMPTS):
                replaced = node.replaces
                if replaced is not None and (parked is None or parked.relieved_of != replaced):
                    delete(replaced)
                if self._uploads.remove_if(node, replaced):
                    return
        except AgoraFSError as error:
            path = node.name if parked is None else parked.path
            log.warning("%s was removed while it was open, and is shown again: %s", path, error)
            self._note(path, error)
        self._uploads.remove(node)
