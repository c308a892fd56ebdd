"""Local nodes: the files and directories that were made through this mount, as they hang together in memory.

Place.  ``Uploads`` owns one ``Overlay`` and guards it with its lock; every function here that changes something is
called with that lock held. The file operations read single attributes of a ``LocalNode`` without it.

A node hangs below an anchor (an existing directory of the archive) or below another local directory, by identity and
not by path: when a folder is renamed on the server, what waits in it goes along.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from agorafs.tree.inodes import hashed_inode
from agorafs.uploads.journal_rows import Aside, NodeRow
from agorafs.uploads.local_names import is_ephemeral
from agorafs.uploads.values import Anchor, Replaced

Fill = Callable[[int], None]


class Content:
    """An open file of the spool. Closed by ``close`` alone, so that its descriptor is never another file's."""

    __slots__ = ("descriptor", "name")

    def __init__(self, name: str, descriptor: int) -> None:
        self.name = name
        self.descriptor = descriptor

    def close(self) -> None:
        os.close(self.descriptor)


@dataclass(eq=False, slots=True)
class LocalNode:
    """A file or a directory. ``parent`` is the place where it hangs.

    ``id`` is that of the journal, 0 while the journal need not know it: a stored file that is only open for
    writing (``borrowed_from``). ``token`` is the label of its bytes' version: it stays the same while all changes go
    through this mount.

    The fields that belong to the bytes (``content``, ``opened``, ``fill``, ``size``) are guarded by ``io``, the rest
    by the lock of ``Uploads``; ``io`` is taken first. ``io`` may be held while the network is waited for (``fill``): it
    concerns this file alone, whose bytes nobody can have before.
    """

    id: int
    parent: Place
    name: str
    is_directory: bool
    ino: int
    token: str
    mtime_ns: int
    size: int = 0
    content: str | None = None
    opened: Content | None = None
    fill: Fill | None = None
    is_whole: bool = False
    is_durable: bool = False
    takes_place_of: Replaced | None = None
    successor_of: LocalNode | None = None  # the node that what it takes the place of was renamed to
    aside: Aside | None = None
    error: str = ""
    upload: int | None = None
    is_frozen: bool = False  # its content is that of ``upload``: copy it before a change
    is_archived: bool = False  # the server has it for good; who has it open still reads
    borrowed_from: Replaced | None = None
    changes: int = 0  # how often it was changed in this process
    lacks_bytes: bool = False  # a write was refused for want of room, and it has not been begun anew since
    writers: int = 0
    handles: int = 0
    retired: list[Content] = field(default_factory=list)
    children: dict[str, LocalNode] = field(default_factory=dict)
    io: threading.RLock = field(default_factory=threading.RLock)

    @property
    def replaces(self) -> Replaced | None:
        """What is to be removed from the server when the user removes this node.

        None while what it takes the place of is still there under another name.
        """
        before = self.successor_of
        if before is not None and before.aside is not None:
            return None
        return self.takes_place_of or self.borrowed_from

    @property
    def is_aside(self) -> bool:
        """It is a stored file under another name; its bytes are still on the server."""
        return self.aside is not None

    @property
    def stays_local(self) -> bool:
        """Its name, or that of a directory above it, is a temporary one."""
        node: Place = self
        while isinstance(node, LocalNode):
            if is_ephemeral(node.name):
                return True
            node = node.parent
        return False

    def row(self) -> NodeRow:
        """Return what the journal keeps of it."""
        parent = self.parent
        return NodeRow(
            self.id,
            parent if isinstance(parent, Anchor) else None,
            None if isinstance(parent, Anchor) else parent.id,
            self.name,
            self.is_directory,
            self.ino,
            self.token,
            self.content,
            self.size,
            self.mtime_ns,
            self.is_whole,
            self.is_durable,
            self.takes_place_of,
            self.aside,
            self.error,
            self.upload,
        )


Place = Anchor | LocalNode


class StoredAs(NamedTuple):
    """What a stored object that was written here goes on showing."""

    ino: int
    mtime_ns: int
    token: str


def inode_of(token: str) -> int:
    """Return the inode number of a node that begins its life as *token*."""
    return hashed_inode("local", token)


class Overlay:
    """All local nodes, by where they hang. See the module docstring."""

    def __init__(self) -> None:
        self.roots: dict[Anchor, dict[str, LocalNode]] = {}
        self.by_id: dict[int, LocalNode] = {}
        # what the server still lists and nobody is to see: dataset to the number of reasons
        self.hidden: dict[int, int] = {}

    def find(self, place: Place, name: str) -> LocalNode | None:
        """Return the node *name* in *place*."""
        return self._children(place).get(name)

    def children(self, place: Place) -> list[LocalNode]:
        """Return all nodes in *place*."""
        return list(self._children(place).values())

    def add(self, node: LocalNode) -> None:
        """Hang *node* where it says."""
        if isinstance(node.parent, Anchor):
            self.roots.setdefault(node.parent, {})[node.name] = node
        else:
            node.parent.children[node.name] = node
        if node.id:
            self.by_id[node.id] = node

    def remove(self, node: LocalNode) -> None:
        """Take *node* off."""
        children = self._children(node.parent)
        if children.get(node.name) is node:
            del children[node.name]
        if isinstance(node.parent, Anchor) and not children:
            self.roots.pop(node.parent, None)
        self.by_id.pop(node.id, None)

    def is_there(self, node: LocalNode) -> bool:
        """Tell whether *node* still hangs where it says, and all above it do."""
        place: Place = node
        while isinstance(place, LocalNode):
            if self._children(place.parent).get(place.name) is not place:
                return False
            place = place.parent
        return True

    def walk(self, place: Place) -> Iterator[LocalNode]:
        """Yield every node below *place*, directories before what is in them."""
        for node in self.children(place):
            yield node
            if node.is_directory:
                yield from self.walk(node)

    def everything(self) -> Iterator[LocalNode]:
        """Yield every node."""
        for anchor in list(self.roots):
            yield from self.walk(anchor)

    def hide(self, replaced: Replaced | None) -> None:
        """There is one reason more not to show a dataset."""
        if replaced is not None:
            self.hidden[replaced.dataset] = self.hidden.get(replaced.dataset, 0) + 1

    def unhide(self, replaced: Replaced | None) -> None:
        """There is one reason less."""
        if replaced is not None:
            count = self.hidden.get(replaced.dataset, 0) - 1
            if count > 0:
                self.hidden[replaced.dataset] = count
            else:
                self.hidden.pop(replaced.dataset, None)

    def _children(self, place: Place) -> dict[str, LocalNode]:
        if isinstance(place, Anchor):
            return self.roots.get(place, {})
        return place.children


def path_below(node: LocalNode) -> tuple[Anchor, list[str]]:
    """Return the anchor that *node* hangs below, and the names from there to it."""
    names: list[str] = []
    place: Place = node
    while isinstance(place, LocalNode):
        names.append(place.name)
        place = place.parent
    return place, names[::-1]
