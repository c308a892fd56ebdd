"""What a rename becomes.

=================================  =================================================================
source                             what happens
=================================  =================================================================
local                              a rename here; what it is renamed over it will replace
stored file, to a backup's name    set aside: the dataset stays, and is shown under the new name until a
                                   successor of the old name has been stored (``x`` to ``x~``)
set aside, back to its old name    it is the stored file again
stored file, to another folder     the server's move, if the name is the same and free
folder, in its parent              the server's rename, if the name is free
exam, series, in place             the server's rename
everything else that is stored     ``CrossDevice``: the program copies, in the open
=================================  =================================================================

A file that is renamed over a stored one replaces it: the stored one is removed when its successor has been verified
on the server, not before.
"""

from __future__ import annotations

import functools
from dataclasses import replace

from agorafs.client.records import Datafile, Exam, Folder, Series
from agorafs.errors import AlreadyExists, BadCommand, CrossDevice, NotFound, PermissionDenied
from agorafs.tree.listing import Area, DirKey
from agorafs.tree.names import DOT_AGORA
from agorafs.tree.tree import Node
from agorafs.uploads.local_names import is_backup
from agorafs.uploads.nodes import LocalNode
from agorafs.uploads.values import Anchor, Replaced
from agorafs.vfs import rules
from agorafs.vfs.changes import Changes, Parts
from agorafs.vfs.hidden import is_hidden_name
from agorafs.vfs.merged import Found, Local, anchor_of, is_directory
from agorafs.vfs.sources import fill_from

RENAME_NOREPLACE = 1
# How often a file is looked at again that was stored while it was to be renamed.
_ATTEMPTS = 3


class Renames:
    """See the module docstring."""

    def __init__(self, parts: Parts, changes: Changes) -> None:
        self._tree = parts.tree
        self._merged = parts.merged
        self._handles = parts.handles
        self._uploads = parts.writing.uploads
        self._server = parts.writing.server
        self._open_content = parts.open_content
        self._forget_places = parts.forget_places
        self._started_ns = parts.started_ns
        self._hidden = parts.hidden
        self._changes = changes

    def rename(self, old: str, new: str, flags: int = 0) -> None:
        """``renameat2(2)``; of its *flags* only ``RENAME_NOREPLACE``."""
        if flags & ~RENAME_NOREPLACE:
            raise BadCommand(f"{old}: this way of renaming is not offered")
        if DOT_AGORA in (old.rpartition("/")[2], new.rpartition("/")[2]):
            raise PermissionDenied(f"{DOT_AGORA} is agorafs's own in every directory")
        if new.startswith(f"{old}/"):
            raise BadCommand(f"{old} can not become a part of itself")
        with self._hidden.renaming():
            source = self._rename_now(old, new, flags)
        if source is not None:
            self._handles.move(old, new, is_directory=is_directory(source))

    def _rename_now(self, old: str, new: str, flags: int) -> Found | None:
        """Return what was renamed, None if there was nothing to do."""
        for attempt in range(_ATTEMPTS):
            source_directory, source_name = self._changes.split(old)
            directory, name = self._changes.split(new)
            source = self._merged.child(source_directory, source_name)
            target = self._changes.child(directory, name)
            if old == new:
                return None
            try:
                self._rename(source, directory, name, target, old, new, flags)
                return source
            except NotFound:
                if isinstance(source, Local) and attempt + 1 < _ATTEMPTS:
                    continue  # it, or what is there, was stored meanwhile
                self._restore_hidden(directory, name)
                raise
            except BaseException:
                self._restore_hidden(directory, name)
                raise
        raise AssertionError("the last attempt returns or raises")

    def _restore_hidden(self, directory: Found, name: str) -> None:
        place = directory.node if isinstance(directory, Local) else anchor_of(directory)
        if place is not None:
            self._hidden.restore(place, name)

    def _rename(
        self,
        source: Found,
        directory: Found,
        name: str,
        target: Found | None,
        old: str,
        new: str,
        flags: int,
    ) -> None:
        if target is not None:
            if flags & RENAME_NOREPLACE:
                raise AlreadyExists(f"{new} exists already")
            rules.check_no_file_in_the_way(source, target)
            if is_directory(target):
                self._changes.require_empty(target)
        if is_hidden_name(name):
            self._hide(source, name, old)
        elif isinstance(source, Local):
            if source.node.borrowed_from is not None:
                raise CrossDevice(f"{old} is open for writing; the archive can not rename it")
            self._rename_local(source, directory, name, target, new)
        else:
            self._rename_stored(source, directory, name, target, new)

    def _hide(self, source: Found, name: str, old: str) -> None:
        """What is removed, or renamed over, while it is open gets the hidden *name* (see ``hidden``)."""
        rules.check_found(source)
        stored = self._merged.stored(source)
        if stored is None:
            assert isinstance(source, Local)
            node = source.node
            place, old_name = node.parent, node.name
            self._uploads.rename(node, place, name)
        else:
            replaced = rules.replaceable(stored)
            if replaced is None:
                raise PermissionDenied(f"{old} is open, so it can not be removed now")
            if isinstance(source, Local):
                self._uploads.remove(source.node)  # nothing was changed through it; its handles go on
            node = self._set_aside(stored, replaced, name, None, name)
            place, old_name = node.parent, stored.entry.name
        self._hidden.park(place, old_name, node, old)

    # -- what is local -------------------------------------------------------------------------------

    def _rename_local(
        self, source: Local, directory: Found, name: str, target: Found | None, new: str
    ) -> None:
        place = rules.place_in(directory)
        if isinstance(place, Anchor):
            self._uploads.note_path(place, directory.path)
        rules.check_found(source)
        rules.check_name(name)
        node = source.node
        if node.is_directory:
            rules.check_new_directory(name)
        replaced: Replaced | None = None
        if target is None:
            if isinstance(place, Anchor) and self._uploads.aside_of(place, name) is node:
                self._uploads.remove(node)  # what it stood for is shown again
                return
            if not node.is_directory:
                replaced = self._changes.predecessor(place, name)
        elif not node.is_directory:
            replaced = _replaced(target)
        before = node.takes_place_of
        if replaced is not None and before is not None and before != replaced:
            raise CrossDevice(f"{source.path} and {new} are both stored: one can not take the place of both")
        over = target.node if isinstance(target, Local) else None
        if isinstance(target, Node) and is_directory(target):
            self._changes.remove_found_directory(target)
        elif over is not None and over.is_directory:
            self._changes.finish_hidden(over)
        self._uploads.rename(node, place, name, replaces=replaced, over=over)
        if not node.is_directory:
            self._changes.succeeded(place, name, node)

    # -- what is stored ------------------------------------------------------------------------------

    def _rename_stored(
        self, source: Node, directory: Found, name: str, target: Found | None, new: str
    ) -> None:
        parent = source.parent
        if parent is None or not isinstance(parent.entry.target, DirKey):
            raise PermissionDenied(f"{source.path} can not be renamed")
        if parent.entry.target.area not in rules.CHANGEABLE_AREAS:
            raise PermissionDenied(f"{source.path} is in a list that the server makes and can not be renamed")
        rules.check_may_change(parent if rules.is_link(source) else source)
        is_in_place = isinstance(directory, Node) and directory.entry.target == parent.entry.target
        replaced = rules.replaceable(source)
        if replaced is not None:
            if is_in_place and is_backup(name):
                self._set_aside(source, replaced, name, target, new)
            elif not is_in_place and target is None:
                self._move_dataset(source, parent.entry.target, directory, name)
            else:
                raise self._not_offered(source)
        elif is_in_place and target is None:
            self._rename_in_place(source, parent.entry.target, name)
        else:
            raise self._not_offered(source)

    def _set_aside(
        self, source: Node, replaced: Replaced, name: str, target: Found | None, new: str
    ) -> LocalNode:
        entry = source.entry
        assert isinstance(entry.target, Datafile) and source.parent is not None
        folder = rules.folder_of(source.parent)
        assert folder is not None
        rules.check_name(name)
        if target is not None and not self._changes.remove_found(target, new):
            raise NotFound(f"{new} does not exist any more")
        known = self._merged.known(source)
        ref = self._merged.content_ref(entry.target)
        return self._uploads.set_aside(
            folder,
            entry.name,
            name,
            replaces=replaced,
            size=entry.target.size,
            mtime_ns=self._started_ns if known.mtime_ns is None else known.mtime_ns,
            ino=known.ino,
            token=known.token,
            datafile_id=entry.target.id,
            fill=fill_from(functools.partial(self._open_content, ref)),
        )

    def _move_dataset(self, source: Node, old: DirKey, directory: Found, name: str) -> None:
        folder = rules.folder_of(directory)
        entry = source.entry
        assert entry.ref is not None and entry.record is not None
        if (
            folder is None
            or isinstance(directory, Local)
            or directory.project is None
            or self._tree.own_name(entry.record) != name
            or self._uploads.aside_of(folder, name) is not None
        ):
            raise self._not_offered(source)
        rules.check_may_change(directory)
        self._server.move_dataset(entry.ref.id, directory.project.id, folder.id)
        self._tree.changed([old, DirKey(Area.FOLDER, folder.id)], entry.ref)
        self._forget_places()

    def _not_offered(self, source: Node) -> CrossDevice:
        """Return the error upon which ``mv`` copies *source* and removes it.

        Raises:
            PermissionDenied: It is a file that could not be removed then, and the copy would be left.
        """
        if not source.entry.is_directory:
            node = source
            while node.parent is not None and _is_in_dataset(node.parent):
                node = node.parent
            self._changes.check_may_delete(node)
        return CrossDevice(f"the archive can not rename {source.path} so; it can be copied")

    def _rename_in_place(self, source: Node, parent: DirKey, name: str) -> None:
        record = source.entry.record
        key = source.entry.target
        if not isinstance(key, DirKey) or not isinstance(record, (Folder, Exam, Series)):
            raise self._not_offered(source)
        rules.check_name(name)
        if self._tree.own_name(replace(record, name=name)) != name:
            raise PermissionDenied(
                f"{source.path} is shown by a pattern of your configuration, in which {name!r} can not be its name"
            )
        if isinstance(record, Folder):
            rules.check_new_directory(name)
            self._server.rename_folder(record, name)
        elif isinstance(record, Exam):
            self._server.rename_exam(record.id, name)
        else:
            self._server.rename_series(record.id, name)
        self._tree.changed([parent, key], source.entry.ref)
        self._forget_places()


def _replaced(target: Found) -> Replaced | None:
    """Return the stored file that a local one is renamed over, if any; refuse other stored things."""
    rules.check_found(target)
    replaced = rules.replaceable(target)
    if replaced is None and isinstance(target, Node):
        if rules.is_link(target):
            raise PermissionDenied(f"{target.path} is a link, which a file can not replace: remove it first")
        raise rules.why_archived(target)
    return replaced


def _is_in_dataset(directory: Node) -> bool:
    target = directory.entry.target
    return isinstance(target, DirKey) and target.area is Area.DATASET
