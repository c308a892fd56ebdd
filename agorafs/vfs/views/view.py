"""What can be made and removed in the directories of one area: tags, trash, tasks, the list of projects.

A view turns file operations there into calls of the server. Looking is the business of ``tree``, which lists these
directories as any other; a view is asked for the bytes of their virtual files (``tree.listing.Special``), and for
changes.
"""

from __future__ import annotations

from typing import NoReturn

from agorafs.errors import NotPermitted
from agorafs.tree.tree import Node
from agorafs.vfs.aside import Aside


class View:
    """Refuses everything; a view overrides what it has. Permissions are checked by whoever overrides."""

    def file(self, node: Node) -> Aside:
        """Return the virtual file *node*."""
        self._refuse(node.path, "reading it")

    def make_file(self, parent: Node, name: str) -> Aside:
        """Return what ``open`` with ``O_CREAT`` is to open as *name* in *parent*, where nothing has that name."""
        self._refuse(f"{parent.path}/{name}", "making a file")

    def make_directory(self, parent: Node, name: str) -> None:
        """``mkdir``."""
        self._refuse(f"{parent.path}/{name}", "making a directory")

    def make_link(self, parent: Node, name: str, target: Node) -> None:
        """``symlink``; *target* is the object that it leads to."""
        self._refuse(f"{parent.path}/{name}", "making a link")

    def remove(self, node: Node) -> None:
        """``unlink`` of a link or a virtual file."""
        self._refuse(node.path, "removing it")

    def remove_directory(self, node: Node) -> None:
        """``rmdir``."""
        self._refuse(node.path, "removing a directory")

    def rename(self, node: Node, parent: Node, name: str) -> None:
        """``rename`` of *node* to *name* in *parent*, a directory of the same view."""
        self._refuse(node.path, "renaming it")

    @staticmethod
    def _refuse(path: str, what: str) -> NoReturn:
        raise NotPermitted(f"{path}: {what} is nothing that the archive has here")
