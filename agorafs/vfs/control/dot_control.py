"""``.agora/control`` of every directory: a file that is written to and answers.

Place.  One of the parts of ``vfs.dot_agora``. No request by itself; what is written decides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from agorafs.tree.listing import DirKey
from agorafs.tree.tree import Node
from agorafs.vfs.aside import Aside, Names, Part, inode_below
from agorafs.vfs.control.desk import Commands
from agorafs.vfs.control.talk import Talk
from agorafs.vfs.virtual import stream_file

_CONTROL = "control"


class DotControl(Part):
    """See the module docstring. *desk* gives who carries out the commands; it is asked when a file is opened."""

    def __init__(self, desk: Callable[[], Commands]) -> None:
        self._desk = desk

    def names(self, node: Node, *, is_root: bool) -> Names:
        """Return ``control``, beside directories."""
        return Names(files=(_CONTROL,)) if isinstance(node.entry.target, DirKey) else Names()

    def resolve(self, node: Node, rest: Sequence[str], *, is_root: bool) -> Aside | None:
        """Return the control file of the directory *node*."""
        if list(rest) != [_CONTROL] or not isinstance(node.entry.target, DirKey):
            return None
        return stream_file(
            inode_below(node.entry.ino, rest),
            lambda caller: Talk(self._desk(), node.parts, caller),
            can_write=True,
        )
