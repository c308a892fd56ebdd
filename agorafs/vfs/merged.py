"""One tree from two: what the archive lists, and what was written here and is not there yet.

In each directory of the archive that can be written to (a folder, an exam, a series) local nodes come first: a name
that a local node has is that node, whatever the archive lists under it. Inside a local directory there are only local
nodes. A listing's entry that a local node stands for under another name is not shown.

What a file that was written here shows does not change when it is stored: the stored file goes on with the number,
the time and the version label of the local one (``Known``).

Order.  A file goes from local to stored by appearing in the listing first and leaving the local nodes then. So both
are looked at in the opposite order: local first. Who finds it in neither has looked at a moment when it was removed.
A directory that becomes a folder of the server while somebody looks into it is looked up anew (``_ATTEMPTS``).

Threads.  No state of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from agorafs.cache.content import ContentRef
from agorafs.client.records import Datafile, Kind
from agorafs.errors import NotADirectory, NotFound
from agorafs.tree.listing import Area, DirEntry, DirKey
from agorafs.tree.tree import Node, Tree
from agorafs.uploads.nodes import LocalNode, Place, StoredAs
from agorafs.uploads.values import Anchor
from agorafs.vfs.hidden import is_hidden_name
from agorafs.vfs.whiteouts import Whiteouts

_ATTEMPTS = 3
_ANCHOR_KINDS = {Area.FOLDER: Kind.FOLDER, Area.EXAM: Kind.EXAM, Area.SERIES: Kind.SERIES}


class LocalNodes(Protocol):
    """What looking asks of ``uploads.Uploads``; never waits."""

    def find(self, place: Place, name: str) -> LocalNode | None: ...
    def children(self, place: Place) -> list[LocalNode]: ...
    def is_there(self, node: LocalNode) -> bool: ...
    def is_hidden(self, anchor: Anchor, entry: DirEntry) -> bool: ...
    def stored_as(self, datafile_id: int, sha1: str) -> StoredAs | None: ...
    def folder_stored_as(self, folder_id: int) -> StoredAs | None: ...


@dataclass(frozen=True, slots=True)
class Local:
    """A local node as it is found at a path. ``below`` is the archive's directory that it lies below."""

    node: LocalNode
    below: Node
    path: str


Found = Node | Local


@dataclass(frozen=True, slots=True)
class Known:
    """What is shown of a stored file or directory besides its record. ``token`` is the label of its version."""

    ino: int
    mtime_ns: int | None
    token: str


def anchor_of(node: Node) -> Anchor | None:
    """Return the directory *node* as something that can be written below, or None."""
    target = node.entry.target
    if isinstance(target, DirKey) and (kind := _ANCHOR_KINDS.get(target.area)) is not None:
        return Anchor(kind, target.id)
    return None


def is_directory(found: Found) -> bool:
    """Tell whether *found* is a directory."""
    return found.node.is_directory if isinstance(found, Local) else found.entry.is_directory


class Merged:
    """See the module docstring."""

    def __init__(self, tree: Tree, local: LocalNodes | None, whiteouts: Whiteouts, archive_url: str) -> None:
        """Without *local* there is only what the archive lists."""
        self._tree = tree
        self._local = local
        self._whiteouts = whiteouts
        self._archive_url = archive_url

    def resolve(self, parts: Iterable[str]) -> Found:
        """Return what the names *parts*, from the root down, lead to.

        Raises:
            NotFound, NotADirectory, NameTooLong: as ``open(2)`` would.
        """
        names = list(parts)
        for _ in range(_ATTEMPTS - 1):
            found: Found = self._tree.root
            try:
                for name in names:
                    found = self.child(found, name)
            except NotFound:
                if self.is_there(found):
                    raise
            else:
                return found
        found = self._tree.root
        for name in names:
            found = self.child(found, name)
        return found

    def is_there(self, found: Found) -> bool:
        """Tell whether what was found local still is; a directory may have become a folder of the server since."""
        return isinstance(found, Node) or (self._local is not None and self._local.is_there(found.node))

    def is_known_missing(self, parts: Sequence[str]) -> bool:
        """Tell whether memory alone, however old, says that there is no such path. Never waits."""
        found: Found = self._tree.root
        for name in parts:
            try:
                known = self._known_child(found, name)
            except (NotFound, NotADirectory):
                return True
            if known is None:
                return False
            found = known
        return False

    def child(self, directory: Found, name: str) -> Found:
        """Return what is called *name* in *directory*."""
        local = self._local_child(directory, name)
        if local is not None:
            return local
        assert isinstance(directory, Node)
        try:
            return self._shown(directory, self._tree.child(directory, name))
        except NotFound:
            deleted = self._whiteouts.deleted(directory, name)
            if deleted is None:
                raise
            return deleted

    def stored(self, found: Found) -> Node | None:
        """Return the stored file behind *found*: also behind a local node that is still the same, bytes and all."""
        if isinstance(found, Node):
            return found
        borrowed = found.node.borrowed_from
        if borrowed is None:
            return None
        try:
            node = self._shown(found.below, self._tree.child(found.below, found.node.name))
        except NotFound:
            return None
        return node if node.entry.item == borrowed.item else None

    def children(self, directory: Found) -> list[Found]:
        """Return all that is in *directory*, local nodes first."""
        if isinstance(directory, Local):
            _require_directory(directory)
            return [
                Local(node, directory.below, f"{directory.path}/{node.name}")
                for node in self._local_children(directory.node)
            ]
        anchor = anchor_of(directory)
        if anchor is None or self._local is None:
            nodes = self._tree.children(directory)
            return [node for node in nodes if not self._whiteouts.hides(directory, node.entry)]
        nodes_here = self._local_children(anchor)
        names = {node.name for node in nodes_here}
        base = directory.path.rstrip("/")
        found: list[Found] = [Local(node, directory, f"{base}/{node.name}") for node in nodes_here]
        found.extend(
            node
            for node in self._tree.children(directory)
            if node.entry.name not in names and not self._local.is_hidden(anchor, node.entry)
        )
        return found

    def _local_children(self, place: Place) -> list[LocalNode]:
        if self._local is None:
            return []
        return [node for node in self._local.children(place) if not is_hidden_name(node.name)]

    def known(self, node: Node) -> Known:
        """Return what is shown of the stored file or directory *node* besides its record."""
        entry = node.entry
        target = entry.target
        stored = None
        token = ""
        if isinstance(target, Datafile):
            if self._local is not None:
                stored = self._local.stored_as(target.id, target.sha1)
            token = self.content_ref(target).key if stored is None else stored.token
        elif self._local is not None and isinstance(target, DirKey) and target.area is Area.FOLDER:
            stored = self._local.folder_stored_as(target.id)
        if stored is None:
            return Known(entry.ino, entry.mtime_ns, token)
        return Known(stored.ino, stored.mtime_ns, token)

    def content_ref(self, datafile: Datafile) -> ContentRef:
        """Return how the content cache knows the bytes of *datafile*."""
        return ContentRef(datafile.id, datafile.size, datafile.sha1, self._archive_url, datafile.modified_ns)

    def _local_child(self, directory: Found, name: str) -> Local | None:
        if isinstance(directory, Local):
            _require_directory(directory)
            node = None if self._local is None else self._local.find(directory.node, name)
            path = f"{directory.path}/{name}"
            if node is None:
                raise NotFound(f"{path} does not exist")
            return Local(node, directory.below, path)
        anchor = anchor_of(directory)
        if anchor is None or self._local is None:
            return None
        node = self._local.find(anchor, name)
        return None if node is None else Local(node, directory, f"{directory.path.rstrip('/')}/{name}")

    def _known_child(self, directory: Found, name: str) -> Found | None:
        local = self._local_child(directory, name)
        if local is not None:
            return local
        assert isinstance(directory, Node)
        node = self._tree.known_child(directory, name)
        return None if node is None else self._shown(directory, node)

    def _shown(self, directory: Node, node: Node) -> Node:
        anchor = anchor_of(directory)
        is_hidden = (
            anchor is not None and self._local is not None and self._local.is_hidden(anchor, node.entry)
        )
        if is_hidden or self._whiteouts.hides(directory, node.entry):
            raise NotFound(f"{node.path} does not exist")
        return node


def _require_directory(found: Local) -> None:
    if not found.node.is_directory:
        raise NotADirectory(f"{found.path} is not a directory")
