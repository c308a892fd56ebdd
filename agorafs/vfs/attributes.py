"""What ``stat`` says of what was found: attributes that are true before it is opened.

Write bits are shown where role and locks would allow a change: the kernel goes by them. Archived data has them too,
because programs open for writing what they only read (``sources``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from agorafs.client.records import Datafile
from agorafs.tree.listing import DirKey, Special
from agorafs.tree.tree import Node, Tree
from agorafs.uploads.nodes import LocalNode
from agorafs.vfs import rules
from agorafs.vfs.aside import Aside
from agorafs.vfs.attr import DIRECTORY_SIZE_BYTES, Attr, FileType, permissions
from agorafs.vfs.merged import Local, Merged


class Attributes:
    """See the module docstring. No state of its own."""

    def __init__(
        self, tree: Tree, merged: Merged, *, umask: int, started_ns: int, special: Callable[[Node], Aside]
    ) -> None:
        """*started_ns* is the time shown where the archive knows none; *special* makes virtual files."""
        self._tree = tree
        self._merged = merged
        self._umask = umask
        self._started_ns = started_ns
        self._special = special

    def of(self, found: Node | Local | Aside) -> Attr:
        """Return the attributes of *found*; no request."""
        if isinstance(found, Aside):
            return self._of_aside(found)
        if isinstance(found, Local):
            return self.of_local(found.node, may_change=found.below.may_change)
        target = found.entry.target
        if isinstance(target, Special):
            return self._of_aside(self._special(found))
        known = self._merged.known(found)
        if isinstance(target, DirKey):
            file_type, size = FileType.DIRECTORY, DIRECTORY_SIZE_BYTES
            may_change = target.area in rules.CHANGEABLE_AREAS and (found.may_change or found.project is None)
        elif isinstance(target, Datafile):
            file_type, size, may_change = FileType.FILE, target.size, found.may_change
        else:
            file_type, may_change = FileType.LINK, True
            size = len(self._tree.link_text(found).encode(errors="surrogateescape"))
        return Attr(
            known.ino,
            file_type,
            size,
            self._started_ns if known.mtime_ns is None else known.mtime_ns,
            permissions(file_type, may_change=may_change, umask=self._umask),
        )

    def of_local(self, node: LocalNode, *, may_change: bool) -> Attr:
        """Return the attributes of a local node."""
        file_type = FileType.DIRECTORY if node.is_directory else FileType.FILE
        bits = permissions(file_type, may_change=may_change, umask=self._umask)
        if node.is_directory:
            return Attr(node.ino, file_type, DIRECTORY_SIZE_BYTES, node.mtime_ns, bits)
        return Attr(node.ino, file_type, node.size, node.mtime_ns, bits, may_grow=True)

    def _of_aside(self, aside: Aside) -> Attr:
        bits = permissions(aside.file_type, may_change=aside.can_write, umask=self._umask)
        mtime_ns = self._started_ns if aside.mtime_ns is None else aside.mtime_ns
        return Attr(aside.ino, aside.file_type, aside.size, mtime_ns, bits)


def as_now(attr: Attr, node: LocalNode) -> Attr:
    """Return *attr* with the size and the time that *node* has now."""
    return replace(attr, size=node.size, mtime_ns=node.mtime_ns, may_grow=True)
