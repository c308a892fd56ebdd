"""What making and removing names becomes: local nodes, calls to the server, or a refusal with its reason.

Why.  The archive has objects and calls, programs have names. Each method here decides which call a change of a name
is; where there is none, it is refused at once, in words (``rules``). Renaming is in ``renames``; the bytes of files are
``filesystem``'s business.

Order of a removal.  What the user removes is removed from the server first and forgotten here afterwards: a file that
could not be removed there is still there. Whatever the server deletes as a whole is deleted only when a fresh look,
not one at memory, shows that nothing else would go with it.

After each change of the server the listings concerned are forgotten, so that it is seen at once. The kernel is told
nothing: it made the change itself.

Threads.  No state of its own. Two changes of one name are put in order by the kernel; a node that was stored between
the look at it and the change of it is looked at again (``_ATTEMPTS``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from agorafs.cache.content import ContentRef, OpenContent
from agorafs.client.records import (
    Datafile,
    Dataset,
    Exam,
    Folder,
    FolderItem,
    Kind,
    RemoteRef,
    Series,
)
from agorafs.errors import (
    AlreadyExists,
    IsADirectory,
    NotADirectory,
    NotEmpty,
    NotFound,
    NotPermitted,
    PermissionDenied,
)
from agorafs.tree.listing import Area, DirKey, SiblingLink
from agorafs.tree.names import DOT_AGORA, suffixed
from agorafs.tree.tree import Node, Tree
from agorafs.uploads.nodes import LocalNode, Place
from agorafs.uploads.uploads import Uploads
from agorafs.uploads.values import Anchor, Replaced
from agorafs.vfs import rules
from agorafs.vfs.handles import HandleTable
from agorafs.vfs.hidden import Hidden, is_hidden_name
from agorafs.vfs.merged import Found, Local, Merged, anchor_of, is_directory
from agorafs.vfs.objects import Objects
from agorafs.vfs.whiteouts import Whiteouts

# How often a node is looked at again that was stored or vanished while it was to be changed.
_ATTEMPTS = 3


class FreshLooks(Protocol):
    """Questions whose answers no cache may give: ``client.Client``."""

    def folder_items(self, folder_id: int) -> list[FolderItem]: ...
    def exam_series(self, exam_id: int) -> list[Series]: ...
    def exam_files(self, exam_id: int) -> list[Dataset]: ...
    def series_datasets(self, series_id: int) -> list[Dataset]: ...
    def dataset_datafiles(self, dataset_id: int) -> list[Datafile]: ...


class ServerChanges(Protocol):
    """The server's changing calls: ``client.changes``."""

    def rename_folder(self, folder: Folder, name: str) -> None: ...
    def rename_exam(self, exam_id: int, name: str) -> None: ...
    def rename_series(self, series_id: int, name: str) -> None: ...
    def move_dataset(self, dataset_id: int, project_id: int, folder_id: int) -> Dataset: ...
    def link(self, ref: RemoteRef, folder_id: int) -> FolderItem: ...
    def delete_folder(self, folder_id: int) -> None: ...
    def delete_folder_item(self, item_id: int) -> None: ...
    def delete_object(self, ref: RemoteRef) -> None: ...


@dataclass(frozen=True, slots=True)
class Writing:
    """What changing needs besides looking.

    ``is_read_only``: what waits to be stored is shown, and nothing can be changed. ``allow_delete``: exams, series and
    their datasets can be deleted.
    """

    uploads: Uploads
    looks: FreshLooks
    server: ServerChanges
    is_read_only: bool = False
    allow_delete: bool = False


@dataclass(frozen=True, slots=True)
class Parts:
    """What ``filesystem`` shares with its parts that change things."""

    tree: Tree
    merged: Merged
    whiteouts: Whiteouts
    hidden: Hidden
    handles: HandleTable
    writing: Writing
    open_content: Callable[[ContentRef], OpenContent]
    objects: Objects
    forget_places: Callable[[], None]
    started_ns: int


class Changes:
    """See the module docstring."""

    def __init__(self, parts: Parts) -> None:
        self._tree = parts.tree
        self._merged = parts.merged
        self._whiteouts = parts.whiteouts
        self._hidden = parts.hidden
        self._handles = parts.handles
        self._uploads = parts.writing.uploads
        self._looks = parts.writing.looks
        self._server = parts.writing.server
        self._allow_delete = parts.writing.allow_delete
        self._objects = parts.objects
        self._forget_places = parts.forget_places

    # -- names ---------------------------------------------------------------------------------------

    def split(self, path: str) -> tuple[Found, str]:
        """Return the directory that *path* is in, and its name there.

        Raises:
            PermissionDenied: It is below ``.agora``.
        """
        *above, name = [part for part in path.split("/") if part] or [""]
        if DOT_AGORA in above:
            raise PermissionDenied(f"{path}: what is below {DOT_AGORA} can not be changed")
        directory = self._merged.resolve(above)
        if not is_directory(directory):
            raise NotADirectory(f"{directory.path} is not a directory")
        return directory, name

    def child(self, directory: Found, name: str) -> Found | None:
        """Return what is called *name* in *directory*, or None."""
        with contextlib.suppress(NotFound):
            return self._merged.child(directory, name)
        return None

    def free_place(self, path: str) -> tuple[Place, str]:
        """Return the place and the name of something new.

        Raises:
            AlreadyExists: The name is taken.
            PermissionDenied, BadCommand, NameTooLong: Nothing of this name can be made there.
        """
        directory, name = self.split(path)
        place = rules.place_in(directory)
        if isinstance(place, Anchor):
            self._uploads.note_path(place, directory.path)
        rules.check_name(name)
        if self.child(directory, name) is not None:
            raise AlreadyExists(f"{path} exists already")
        return place, name

    def predecessor(self, place: Place, name: str) -> Replaced | None:
        """Return the stored file that was renamed out of the way of a new *name* in *place*, if any.

        The new file takes its place.
        """
        aside = self._uploads.aside_of(place, name) if isinstance(place, Anchor) else None
        return self._hidden.predecessor(place, name) if aside is None else aside.takes_place_of

    def succeeded(self, place: Place, name: str, node: LocalNode) -> None:
        """*node* has got the *name* in *place*."""
        self._hidden.succeeded(place, name, node)

    # -- making --------------------------------------------------------------------------------------

    def make_directory(self, path: str) -> None:
        """``mkdir``: a local directory, which becomes a folder with its batch."""
        rules.check_new_directory(path.rpartition("/")[2])
        for _ in range(_ATTEMPTS):
            place, name = self.free_place(path)
            with contextlib.suppress(NotFound):  # the place has just become a folder of the server
                self._uploads.make_directory(place, name)
                return
        raise NotFound(f"{path}: its directory is gone")

    def make_link(self, path: str, text: str) -> None:
        """``symlink``: an object of the archive is shown in a folder, too.

        Raises:
            NotPermitted: It leads to nothing that the archive has, or another name than the object's own is asked
                for; the reason says which.
        """
        directory, name = self.split(path)
        folder = rules.folder_of(directory)
        if folder is None:
            raise NotPermitted(f"{path}: links can be made in folders that the archive has already, not here")
        rules.check_found(directory)
        rules.check_name(name)
        target = self._linked(path, text)
        record = target.entry.record
        ref = target.entry.ref
        if (
            ref is None
            or ref.kind not in (Kind.EXAM, Kind.SERIES, Kind.DATASET, Kind.FOLDER)
            or not isinstance(record, (Exam, Series, Dataset, Folder))
        ):
            raise NotPermitted(
                f"{path}: the archive links to exams, series, datasets and folders; {target.path} is none"
            )
        right = self._tree.own_name(record)
        assert right is not None
        if name != right and self.child(directory, right) is not None:
            right = suffixed(right, str(ref.id), is_directory=isinstance(record, (Exam, Folder, Series)))
        if name != right:
            raise NotPermitted(f"{path}: a link has the name of what it leads to, which is {right!r}")
        if self.child(directory, name) is not None:
            raise AlreadyExists(f"{path} exists already")
        self._server.link(ref, folder.id)
        self._tree.changed([DirKey(Area.FOLDER, folder.id)])

    def _linked(self, path: str, text: str) -> Node:
        """Return what a link *path* with *text* would lead to; the last step may itself be a link."""
        try:
            found = self._objects.follow([part for part in path.split("/") if part][:-1], text)
        except NotFound as error:
            raise NotPermitted(f"{path}: a link to what does not exist can not be stored: {error}") from None
        except NotPermitted as error:
            raise NotPermitted(f"{path}: a link can not be stored in the archive: {error}") from None
        if isinstance(found, Node):
            return found
        raise NotPermitted(f"{path}: {text} is not (yet) stored in the archive, which can not link to it")

    # -- removing ------------------------------------------------------------------------------------

    def remove_file(self, path: str) -> None:
        """``unlink``."""
        directory, name = self.split(path)
        for _ in range(_ATTEMPTS):
            found = self._merged.child(directory, name)
            if is_directory(found):
                raise IsADirectory(f"{path} is a directory")
            if is_hidden_name(name) and isinstance(found, Local):
                self._hidden.finish(found.node, self._delete_replaced)
                self._handles.detach(path)
                return
            if self.remove_found(found, path):
                return
        raise NotFound(f"{path} does not exist")

    def remove_found(self, found: Found, path: str) -> bool:
        """Remove a file or a link; return False if it was stored meanwhile and is another now."""
        if isinstance(found, Local):
            if not self._remove_local(found):
                return False
        else:
            self._remove_stored(found, path)
        self._handles.detach(path)
        return True

    def _remove_local(self, found: Local) -> bool:
        node = found.node
        rules.check_found(found)
        replaced = node.replaces or node.borrowed_from
        if replaced is not None:
            self._delete_replaced(replaced)
        return self._uploads.remove_if(node, replaced)

    def _delete_replaced(self, replaced: Replaced) -> None:
        with contextlib.suppress(NotFound):  # somebody else was faster
            self._server.delete_folder_item(replaced.item)
        self._tree.removed(RemoteRef(Kind.DATASET, replaced.dataset))

    def finish_abandoned(self) -> None:
        """Remove what was removed while it was open and is open no more, should libfuse not do it."""
        for node in self._hidden.abandoned(self._is_open):
            self._hidden.finish(node, self._delete_replaced)

    def count_abandoned(self) -> int:
        """Return how many files are still to be removed although nobody has them open."""
        return len(self._hidden.abandoned(self._is_open, at_once=True))

    def _is_open(self, path: str) -> bool:
        return self._handles.at(path) is not None

    def finish_hidden(self, place: Place) -> None:
        """What was removed while it was open does not keep its directory."""
        for node in self._uploads.children(place):
            if is_hidden_name(node.name):
                self._hidden.finish(node, self._delete_replaced)

    def _remove_stored(self, found: Node, path: str) -> None:
        directory = found.parent
        assert directory is not None and isinstance(directory.entry.target, DirKey)
        entry = found.entry
        area = directory.entry.target.area
        if isinstance(entry.target, SiblingLink):
            raise PermissionDenied(
                f"{path} is another name of {entry.target.name} and can not be removed by itself"
            )
        if area is Area.FOLDER and entry.item is not None:
            rules.check_may_change(directory if rules.is_link(found) else found)
            with contextlib.suppress(NotFound):
                self._server.delete_folder_item(entry.item)
            assert entry.ref is not None
            self._tree.removed(entry.ref, item=entry.item if rules.is_link(found) else None)
        elif area is Area.DATASET:
            self._white_out(found, path)
        elif area in (Area.EXAM, Area.SERIES):
            self.check_may_delete(found)
            assert entry.ref is not None
            with contextlib.suppress(NotFound):
                self._server.delete_object(entry.ref)
            self._tree.removed(entry.ref)
        elif area is Area.FOLDER:
            raise PermissionDenied(
                f"{path} is a part of a dataset, and can be removed in the directory of that"
            )
        else:
            raise PermissionDenied(
                f"{path} is in a list that the server makes and can not be removed from it"
            )

    def _white_out(self, found: Node, path: str) -> None:
        dataset = _dataset_of(found)
        self.check_may_delete(dataset)
        record = dataset.entry.record
        assert isinstance(record, Dataset) and isinstance(found.entry.target, Datafile)
        hidden = self._whiteouts.hide_file(dataset, found.entry.target.id, path)
        if {datafile.id for datafile in record.datafiles or ()} <= hidden:
            self._delete_dataset(dataset, hidden)

    def _delete_dataset(self, dataset: Node, hidden: frozenset[int]) -> None:
        """Delete a dataset of which every file was removed."""
        ref = dataset.entry.ref
        assert ref is not None and dataset.parent is not None
        parent = dataset.parent.entry.target
        assert isinstance(parent, DirKey)
        try:
            with contextlib.suppress(NotFound):
                if not {datafile.id for datafile in self._looks.dataset_datafiles(ref.id)} <= hidden:
                    raise NotEmpty(f"{dataset.path} has got further files meanwhile, so it was not deleted")
                if dataset.entry.item is None:
                    self._server.delete_object(ref)
                else:
                    self._server.delete_folder_item(dataset.entry.item)
        except BaseException:
            self._whiteouts.forget(ref.id)
            self._tree.changed([parent], ref)
            raise
        self._whiteouts.note_deleted(dataset)
        self._tree.removed(ref)

    def remove_directory(self, path: str) -> None:
        """``rmdir``."""
        directory, name = self.split(path)
        for _ in range(_ATTEMPTS):
            found = self._merged.child(directory, name)
            if not is_directory(found):
                raise NotADirectory(f"{path} is not a directory")
            if self.remove_found_directory(found):
                return
        raise NotFound(f"{path} does not exist")

    def remove_found_directory(self, found: Found) -> bool:
        """Remove an empty directory; return False if it was stored meanwhile and is another now.

        Raises:
            NotEmpty: It is not.
        """
        rules.check_found(found)
        if isinstance(found, Local):
            node = found.node
            self.require_empty(found)
            self.finish_hidden(node)
            if self._uploads.find(node.parent, node.name) is not node:
                return False
            self._uploads.remove(node)
            return True
        key = found.entry.target
        assert isinstance(key, DirKey) and found.parent is not None
        if key.area is Area.FOLDER and rules.folder_of(found.parent) is not None:
            self._delete_folder(found, key)
        elif key.area is Area.DATASET:
            self._remove_dataset_directory(found, key)
        elif key.area in (Area.EXAM, Area.SERIES):
            self._delete_study_part(found, key)
        else:
            raise PermissionDenied(f"{found.path} is made by the server and can not be removed")
        return True

    def require_empty(self, found: Found) -> None:
        """Refuse a directory that holds something, as far as is known.

        Raises:
            NotEmpty: It does.
        """
        if self._merged.children(found):
            raise NotEmpty(f"{found.path} is not empty")

    def _delete_folder(self, found: Node, key: DirKey) -> None:
        """The server deletes a folder with all that is in it, shown or not: so look at all that is in it, now."""
        self._require_no_local_nodes(found)
        with contextlib.suppress(NotFound):
            if self._looks.folder_items(key.id):
                self._tree.changed([key])
                raise NotEmpty(
                    f"{found.path} is not empty in the archive, perhaps by something not shown here"
                )
            self._server.delete_folder(key.id)
        self._forget_removed(found)

    def _remove_dataset_directory(self, found: Node, key: DirKey) -> None:
        dataset = _dataset_of(found)
        self.check_may_delete(dataset)
        if not self._whiteouts.is_deleted(key.id) or key.inner:
            self.require_empty(found)
        if key.inner:
            self._whiteouts.hide_directory(dataset, key.inner)
        elif self._whiteouts.is_deleted(key.id):
            self._whiteouts.forget(key.id)
        else:
            self._delete_dataset(dataset, frozenset())
            self._whiteouts.forget(key.id)

    def _delete_study_part(self, found: Node, key: DirKey) -> None:
        """Delete an exam or a series in which the archive has nothing any more."""
        self.check_may_delete(found)
        self._require_no_local_nodes(found)
        ref = found.entry.ref
        assert ref is not None
        with contextlib.suppress(NotFound):
            rest: Sequence[object]
            if key.area is Area.EXAM:
                rest = [*self._looks.exam_series(key.id), *self._looks.exam_files(key.id)]
            else:
                rest = self._looks.series_datasets(key.id)
            if rest:
                self._tree.changed([key])
                raise NotEmpty(f"{found.path} is not empty")
            self._server.delete_object(ref)
        self._forget_removed(found)

    def _forget_removed(self, found: Node) -> None:
        assert found.parent is not None
        key, ref = found.entry.target, found.entry.ref
        assert isinstance(key, DirKey) and ref is not None
        self._tree.changed([key])
        self._tree.removed(ref)
        self._forget_places()

    def _require_no_local_nodes(self, found: Node) -> None:
        anchor = anchor_of(found)
        assert anchor is not None
        if any(not is_hidden_name(node.name) for node in self._uploads.children(anchor)):
            raise NotEmpty(f"{found.path} is not empty: something in it is not stored yet")
        self.finish_hidden(anchor)

    def check_may_delete(self, found: Node) -> None:
        """Refuse what is not in a folder, unless the mount allows it."""
        if not self._allow_delete and (found.parent is None or rules.folder_of(found.parent) is None):
            raise PermissionDenied(
                f"{found.path}: outside of folders nothing can be deleted, unless mounted with allow_delete"
            )
        rules.check_may_change(found)


def _dataset_of(node: Node) -> Node:
    """Return the outermost directory of the dataset that *node* is in."""
    for one in node.ancestors():
        target = one.entry.target
        if isinstance(target, DirKey) and target.area is Area.DATASET and not target.inner:
            return one
    raise AssertionError(f"{node.path} is in no dataset")
