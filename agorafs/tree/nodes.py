"""Nodes: the places in the virtual tree."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from agorafs.client.records import Project
from agorafs.tree.listing import DirEntry


@dataclass(frozen=True, slots=True)
class Node:
    """A place in the virtual tree.

    ``project`` is the project it lies in, None above the projects. ``may_change`` tells whether the user's role
    and the locks from here to the root would allow a change of the object itself.
    """

    entry: DirEntry
    parent: Node | None
    project: Project | None
    may_change: bool

    @property
    def parts(self) -> tuple[str, ...]:
        """The names from the root to this node."""
        return () if self.parent is None else (*self.parent.parts, self.entry.name)

    @property
    def path(self) -> str:
        """The path below the mount point, ``/`` for the root."""
        return "/" + "/".join(self.parts)

    def ancestors(self) -> Iterator[Node]:
        """This node, its parent, and so on up to the root."""
        node: Node | None = self
        while node is not None:
            yield node
            node = node.parent
