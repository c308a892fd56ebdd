"""A project's trash as a directory: each deletion is a file that says what was deleted; ``rm`` is final.

Nothing can be put here (what is removed elsewhere gets here by itself), and nothing can be taken out: no client of the
archive restores anything, so the web interface has to.

``rm`` is final only on a mount that allows deleting. ``rm -r`` of a project comes by here after it has removed what is
in the folders, and would make that final in the same breath. The command ``empty-trash`` says what it wants, and may.

Requests: 1 for each ``rm``.

Threads.  No state.
"""

from __future__ import annotations

import contextlib
import json
from typing import Protocol

from agorafs.client.records import Kind, RemoteRef
from agorafs.client.view_records import TrashEntry
from agorafs.errors import NotFound, NotPermitted, PermissionDenied
from agorafs.tree.tree import Node, Tree
from agorafs.vfs import rules
from agorafs.vfs.aside import Aside
from agorafs.vfs.views.view import View


class Disposal(Protocol):
    """``client.exploring``, as far as the trash is emptied."""

    def delete_finally(self, entry_id: int) -> None: ...


class TrashView(View):
    """See the module docstring. For the area ``TRASH``."""

    def __init__(self, tree: Tree, disposal: Disposal, *, allow_delete: bool) -> None:
        """*allow_delete*: ``rm`` is not refused."""
        self._tree = tree
        self._disposal = disposal
        self._allow_delete = allow_delete

    def file(self, node: Node) -> Aside:
        """Return what the server says of a deletion."""
        text = json.dumps(dict(_entry_of(node).raw), indent=2, ensure_ascii=False)
        return Aside(node.entry.ino, content=f"{text}\n".encode(errors="replace"))

    def remove(self, node: Node) -> None:
        """``unlink``: what was deleted is gone for good.

        Raises:
            PermissionDenied: The mount does not allow it, or the role does not.
        """
        rules.check_may_change(node)
        entry = _entry_of(node)
        if not self._allow_delete:
            raise PermissionDenied(
                f"{node.path}: nothing is removed from the trash so, unless mounted with allow_delete; the command "
                "empty-trash empties it"
            )
        with contextlib.suppress(NotFound):  # somebody else was faster
            self._disposal.delete_finally(entry.id)
        self._tree.removed(RemoteRef(Kind.TRASH_ENTRY, entry.id))

    def rename(self, node: Node, parent: Node, name: str) -> None:
        """Refuse: the archive can not restore."""
        raise NotPermitted(f"{node.path}: {_NO_WAY_BACK}")


_NO_WAY_BACK = "the server offers no way to restore what was deleted but its web interface"


def _entry_of(node: Node) -> TrashEntry:
    record = node.entry.record
    if not isinstance(record, TrashEntry):
        raise NotFound(f"{node.path} is no deletion")
    return record
