"""Changes of names in the views: finds the view that a path belongs to, and asks it.

Requests: those of looking the path up, and what the view sends. Paths that belong to no view cost a comparison.

Threads.  No state.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import NamedTuple

from agorafs.errors import AlreadyExists, BadCommand, CrossDevice, IsADirectory, NotADirectory, NotFound
from agorafs.tree.listing import Area, DirKey
from agorafs.tree.names import DOT_AGORA
from agorafs.tree.tree import Node, Tree
from agorafs.vfs import rules
from agorafs.vfs.aside import Aside
from agorafs.vfs.objects import Objects
from agorafs.vfs.renames import RENAME_NOREPLACE
from agorafs.vfs.views.view import View

# Where views are: the first name of a path, or the third below ``projects``.
_NAMES = frozenset({Area.TAGS.value, Area.TASKS.value, Area.TRASH.value, Area.SEARCH.value})


class _Spot(NamedTuple):
    """A name in a directory of a view."""

    view: View
    parent: Node
    name: str


class ViewChanges:
    """See the module docstring. Every method but ``file`` tells whether the path was one of a view's."""

    def __init__(self, views: Mapping[Area, View], tree: Tree, objects: Objects) -> None:
        self._views = views
        self._tree = tree
        self._objects = objects

    def file(self, node: Node) -> Aside:
        """Return the virtual file *node*."""
        assert node.parent is not None
        return self._view_of(node.parent).file(node)

    def make_file(self, path: str) -> Aside | None:
        """``open`` with ``O_CREAT``."""
        spot = self._spot(path)
        if spot is None:
            return None
        self._check_free(spot)
        return spot.view.make_file(spot.parent, spot.name)

    def make_directory(self, path: str) -> bool:
        """``mkdir``."""
        spot = self._spot(path)
        if spot is None:
            return False
        rules.check_new_directory(spot.name)
        self._check_free(spot)
        spot.view.make_directory(spot.parent, spot.name)
        return True

    def make_link(self, path: str, text: str) -> bool:
        """``symlink``."""
        spot = self._spot(path)
        if spot is None:
            return False
        self._check_free(spot)
        spot.view.make_link(spot.parent, spot.name, self._objects.find(spot.parent.parts, text))
        return True

    def remove(self, path: str) -> bool:
        """``unlink``."""
        spot = self._spot(path)
        if spot is None:
            return False
        node = self._tree.child(spot.parent, spot.name)
        if node.entry.is_directory:
            raise IsADirectory(f"{path} is a directory")
        spot.view.remove(node)
        return True

    def remove_directory(self, path: str) -> bool:
        """``rmdir``."""
        spot = self._spot(path)
        if spot is None:
            return False
        node = self._tree.child(spot.parent, spot.name)
        if not node.entry.is_directory:
            raise NotADirectory(f"{path} is not a directory")
        spot.view.remove_directory(node)
        return True

    def rename(self, old: str, new: str, flags: int) -> bool:
        """``renameat2``: within one view."""
        source, target = self._spot(old), self._spot(new)
        if source is None and target is None:
            return False
        if source is None or target is None or source.view is not target.view:
            raise CrossDevice(f"{old} can not be moved to {new}: they are different things on the server")
        if flags & ~RENAME_NOREPLACE:  # nothing is replaced here anyway
            raise BadCommand(f"{old}: this way of renaming is not offered here")
        node = self._tree.child(source.parent, source.name)
        if old == new:
            return True
        self._check_free(target)
        source.view.rename(node, target.parent, target.name)
        return True

    def _spot(self, path: str) -> _Spot | None:
        parts = [part for part in path.split("/") if part]
        if not parts or DOT_AGORA in parts:
            return None
        is_project = len(parts) == 2 and parts[0] == Area.PROJECTS.value
        is_inside = parts[0] in _NAMES or (len(parts) > 2 and parts[0] == "projects" and parts[2] in _NAMES)
        if not is_project and not (is_inside and len(parts) > 1):
            return None
        parent = self._tree.resolve(parts[:-1])
        if not isinstance(parent.entry.target, DirKey):
            raise NotADirectory(f"{parent.path} is not a directory")
        return _Spot(self._view_of(parent), parent, parts[-1])

    def _view_of(self, parent: Node) -> View:
        assert isinstance(parent.entry.target, DirKey)
        return self._views.get(parent.entry.target.area) or View()

    def _check_free(self, spot: _Spot) -> None:
        rules.check_name(spot.name)
        with contextlib.suppress(NotFound):
            self._tree.child(spot.parent, spot.name)
            raise AlreadyExists(f"{spot.parent.path}/{spot.name} exists already")
