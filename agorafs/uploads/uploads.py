"""From files that were written here to objects of the archive: what the file operations and the sender share.

Why.  The server takes whole files, in packages, and imports them when it likes. A program wants a file that is there
from ``open`` on, can be changed at any moment, and is safe once it was closed. This class stands between: local nodes
for the programs, batches of immutable uploads for the sender, a journal below both.

A file's way::

    open for writing ── close ──> pending ── quiet ──> in a batch ──> on the server, verified ──> leaves the overlay
                                     ^                    │
                                     └── changed, renamed ┘  (its old version goes on; the new one will replace it)

Sealing.  A batch is what belongs together: everything below one anchor, once nothing there has changed for
``quiet_s`` and no file is open for writing. Temporary names stay. An upload's bytes are never changed: a program that
goes on writing gets a copy. What the user does to a file while it travels is looked at when it has arrived
(``disposition``), so nothing on the way needs to be stopped or undone.

Parts::

    uploads              this module: what the file operations see
    ├── local_file       one open of a local node
    ├── nodes            local nodes and how they hang together
    ├── sealer, sealing  from quiet files to a batch
    ├── sender, settle   from a batch to verified objects (their parts: packing, delivery, placement, …)
    ├── arrivals         what those two know of local files, and tell
    ├── report           what people see and ask for
    ├── upkeep           the two background threads
    └── store            what all of these share
        ├── journal, spool
        └── recovery     from a state directory to a journal that can be trusted

Threads.  Every method may be called from any thread; what guards what is said in ``store``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import uuid
from collections.abc import Callable, Sequence
from typing import Protocol

from agorafs.client.records import Datafile, Dataset, Kind, RemoteRef
from agorafs.errors import AgoraFSError, AlreadyExists, CrossDevice, NotFound, PermissionDenied
from agorafs.uploads.journal_rows import Aside
from agorafs.uploads.local_file import LocalFile
from agorafs.uploads.nodes import Content, Fill, LocalNode, Place, StoredAs, path_below
from agorafs.uploads.store import Store
from agorafs.uploads.values import Anchor, BatchState, NodeState, Replaced

_LACKS_BYTES = "there was no room for all of it: write it again, or agorafs retry sends what there is"


class ListedEntry(Protocol):
    """What ``is_hidden`` looks at of an entry of a listing: ``tree.listing.DirEntry``."""

    @property
    def ref(self) -> RemoteRef | None: ...
    @property
    def record(self) -> object: ...


class Uploads:
    """See the module docstring."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.spool = store.spool

    def find(self, place: Place, name: str) -> LocalNode | None:
        """Return the local node *name* in *place*; memory only."""
        return self._store.overlay.find(place, name)

    def children(self, place: Place) -> list[LocalNode]:
        """Return all local nodes in *place*."""
        with self._store.lock:
            return self._store.overlay.children(place)

    def parts_below(self, node: LocalNode) -> tuple[Anchor, list[str]]:
        """Return the anchor of *node* and the names from there to it."""
        with self._store.lock:
            return path_below(node)

    def is_there(self, node: LocalNode) -> bool:
        """Tell whether *node* is still a local one where it says."""
        with self._store.lock:
            return self._store.overlay.is_there(node)

    def is_hidden(self, anchor: Anchor, entry: ListedEntry) -> bool:
        """Tell whether the server's *entry* is not to be shown, because a local node stands for it."""
        if not self._store.overlay.hidden and not self._store.arriving:
            return False
        ref = entry.ref
        if ref is not None and ref.kind is Kind.DATASET and ref.id in self._store.overlay.hidden:
            return True
        record = entry.record
        datafiles: Sequence[Datafile] = ()
        if isinstance(record, Dataset):
            datafiles = record.datafiles or ()
        return bool(datafiles) and all(self._is_arriving(anchor, datafile) for datafile in datafiles)

    def _is_arriving(self, anchor: Anchor, datafile: Datafile) -> bool:
        path = datafile.original_filename.replace("\\", "/").strip("/")
        name = path.rpartition("/")[2]
        with self._store.lock:
            candidates = [
                upload_id
                for upload_id in self._store.arriving.get((anchor, name), ())
                if self._store.in_flight[upload_id].target in (name, path)
            ]
        for upload_id in candidates:
            known = self._store.journal.upload(upload_id)
            if known is not None and known[0].sha1 == datafile.sha1 and known[0].size == datafile.size:
                return True
        return False

    def stored_as(self, datafile_id: int, sha1: str) -> StoredAs | None:
        """Return number, time and version label of a stored file that was written here."""
        known = self._store.stored.get((Kind.DATAFILE, datafile_id))
        return known[1] if known is not None and known[0] == sha1 else None

    def folder_stored_as(self, folder_id: int) -> StoredAs | None:
        """The same for a folder."""
        return self._store.folder_stored_as(folder_id)

    def size(self, node: LocalNode) -> int:
        """Return the length of *node* in bytes."""
        return node.size

    def mtime_ns(self, node: LocalNode) -> int:
        """Return when *node* was changed last."""
        return node.mtime_ns

    def aside_of(self, anchor: Anchor, old_name: str) -> LocalNode | None:
        """Return the stored file that was renamed away from *old_name* and has no successor yet."""
        with self._store.lock:
            for node in self._store.asides.values():
                if (
                    node.aside is not None
                    and node.aside.old_name == old_name
                    and node.takes_place_of is not None
                    and node.parent == anchor
                ):
                    return node
        return None

    def state(self, node: LocalNode) -> NodeState:
        """Return how far *node* is."""
        if node.error:
            return NodeState.FAILED
        if node.writers and node.borrowed_from is None:
            return NodeState.WRITING
        batch_id = self._store.batch_of(node)
        if batch_id is not None:
            batch = self._store.journal.batch(batch_id)
            if batch is not None:
                return _STATE_OF_BATCH[batch.state]
        if node.stays_local or node.is_aside:
            return NodeState.LOCAL
        return NodeState.STORED if node.borrowed_from is not None else NodeState.PENDING

    def state_text(self, node: LocalNode) -> str:
        """Return the same in words, with progress or reason."""
        state = self.state(node)
        if state is NodeState.FAILED:
            return f"failed: {node.error}"
        if state is NodeState.UPLOADING:
            batch_id = self._store.batch_of(node)
            sent, total = self._store.progress.get(batch_id or 0, (0, 0))
            return f"uploading {100 * sent // total if total else 0} %"
        return str(state.value)

    def reason(self, node: LocalNode) -> str:
        """Return why *node* has failed, or waits at present; empty if it goes on."""
        if node.error:
            return node.error
        batch_id = self._store.batch_of(node)
        return "" if batch_id is None else self._store.waiting.get(batch_id, "")

    def room(self) -> int:
        """Return how many bytes can be written now."""
        return self._store.spool.room()

    def create(self, place: Place, name: str, *, replaces: Replaced | None = None) -> LocalNode:
        """Make an empty file.

        Raises:
            AlreadyExists: There is a local node of this name.
            SpoolFull: There is no room.
        """
        content_name, descriptor = self._store.spool.create()
        content = Content(content_name, descriptor)
        node = self._store.new_node(place, name, is_directory=False)
        node.content = content.name
        node.takes_place_of = replaces
        try:
            with self._store.lock:
                self._store.locked_enter(node)
        except BaseException:
            content.close()
            self._store.spool.remove(content.name)
            raise
        content.close()
        return node

    def make_directory(self, place: Place, name: str) -> LocalNode:
        """Make a directory; it becomes a folder of the server with its batch."""
        node = self._store.new_node(place, name, is_directory=True)
        node.is_whole = True
        with self._store.lock:
            self._store.locked_enter(node)
        return node

    def rename(
        self,
        node: LocalNode,
        place: Place,
        name: str,
        *,
        replaces: Replaced | None = None,
        over: LocalNode | None = None,
    ) -> None:
        """Hang *node* elsewhere, in one step.

        Args:
            replaces: What is stored there.
            over: The local node that is there. *node* is its next version: what it takes the place of, or has become
                when it arrives, *node* takes the place of.

        Raises:
            NotFound: *node*, *place* or *over* was stored or removed meanwhile: look again.
            AlreadyExists: There is another local node.
            CrossDevice: It can not be renamed so, but copied.
        """
        store = self._store
        with over.io if over is not None else contextlib.nullcontext(), store.lock:
            self._locked_check_rename(node, place, name, over)
            if over is not None:
                replaces = over.takes_place_of or over.borrowed_from
            if replaces is not None and node.takes_place_of not in (None, replaces):
                raise CrossDevice(f"{node.name} takes the place of another stored file already")
            takes_on = lets_go = None
            if replaces is not None:
                lets_go = node.upload  # what arrives under the old name is to go; one can not replace two
            elif over is not None and not (node.upload or node.is_frozen or node.takes_place_of):
                takes_on = over.upload
            upload = takes_on or (None if lets_go else node.upload)
            row = dataclasses.replace(
                node.row(),
                anchor=place if isinstance(place, Anchor) else None,
                parent=None if isinstance(place, Anchor) else place.id,
                name=name,
                replaces=node.takes_place_of or replaces,
                upload=upload,
            )
            gone = None if over is None else over.id or None
            if over is not None and (said := store.journal.said(over.id)):
                store.journal.set_said(node.id, {**said, **store.journal.said(node.id)})
            store.journal.rename_node(row, gone=gone, takes_on=takes_on, lets_go=lets_go)
            old_anchor = path_below(node)[0]
            if over is not None:
                store.locked_take_off(over)
            store.overlay.remove(node)
            node.parent, node.name, node.upload = place, name, upload
            if node.takes_place_of is None and replaces is not None:
                node.takes_place_of = replaces
                store.overlay.hide(replaces)
            if replaces is not None:
                store.locked_succeed(node, replaces)
            store.overlay.add(node)
            store.locked_touch(old_anchor)
            store.locked_touch(path_below(node)[0])

    def _locked_check_rename(self, node: LocalNode, place: Place, name: str, over: LocalNode | None) -> None:
        overlay = self._store.overlay
        there = overlay.find(place, name)
        if there is not None and over is None:
            raise AlreadyExists(f"{name} exists already")
        is_place = isinstance(place, Anchor) or overlay.is_there(place)
        if there is not over or not is_place or not overlay.is_there(node):
            raise NotFound(f"{node.name} or {name} is another meanwhile")
        if over is not None and over.children:
            raise AlreadyExists(f"{name} is not empty")
        if node.borrowed_from is not None:
            raise CrossDevice(f"{node.name} is stored on the server, which can not rename it")

    def succeed(self, before: LocalNode, node: LocalNode) -> None:
        """*node* has the name that *before* had: what *before* becomes when it arrives is its earlier version."""
        with self._store.lock:
            upload = before.upload
            if upload is None or node.upload or node.is_frozen or node.takes_place_of or not node.id:
                return
            row = dataclasses.replace(node.row(), upload=upload)
            self._store.journal.rename_node(row, gone=None, takes_on=upload, lets_go=None)
            before.upload, node.upload = None, upload
            self._store.journal.update_node(before.row())

    def remove(self, node: LocalNode) -> None:
        """Forget *node*, a file or an empty directory. What it took the place of is shown again.

        What travels goes on and is removed from the server when it has arrived.
        """
        with node.io, self._store.lock:
            self._locked_remove(node)

    def remove_if(self, node: LocalNode, replaced: Replaced | None) -> bool:
        """Forget *node* if it is still there and *replaced* is all that it takes the place of; tell whether it was so.

        What is on its way may arrive at any moment, and is then what *node* takes the place of.
        """
        with node.io, self._store.lock:
            if self._store.overlay.find(node.parent, node.name) is not node:
                return False
            if (node.replaces or node.borrowed_from) not in (None, replaced):
                return False
            self._locked_remove(node)
            return True

    def _locked_remove(self, node: LocalNode) -> None:
        if node.children:
            raise AlreadyExists(f"{node.name} is not empty")
        if node.id:
            self._store.journal.remove_nodes([node.id])
        self._store.locked_take_off(node)

    def note_path(self, anchor: Anchor, path: str) -> None:
        """Note where *anchor* was when something was written there, for people, should the server be away."""
        with self._store.lock:
            self._store.paths[anchor] = path

    def path_of(self, anchor: Anchor) -> str | None:
        """Return where *anchor* was then."""
        with self._store.lock:
            path: str | None = self._store.paths.get(anchor)
            return path

    def said(self, node: LocalNode) -> dict[str, str]:
        """Return what will be said of *node* on the server once it is stored there."""
        return self._store.journal.said(node.id)

    def say(self, node: LocalNode, change: Callable[[dict[str, str]], dict[str, str]]) -> bool:
        """Let *change* decide what will be said of *node*, given what will be; False if it is stored by now."""
        with self._store.lock:
            if self._store.overlay.by_id.get(node.id) is not node:
                return False
            self._store.journal.set_said(node.id, change(self._store.journal.said(node.id)))
            return True

    def set_mtime(self, node: LocalNode, mtime_ns: int) -> None:
        """Set when *node* was changed last."""
        with self._store.lock:
            node.mtime_ns = mtime_ns
            if node.id:
                self._store.journal.update_node(node.row())

    def borrow(
        self,
        anchor: Anchor,
        name: str,
        *,
        replaces: Replaced,
        size: int,
        mtime_ns: int,
        ino: int,
        token: str,
        fill: Fill,
    ) -> LocalNode:
        """Return a node for a stored file that is about to be opened for writing.

        It is in memory only until the first change, before which *fill* is asked for the stored bytes, unless the
        change leaves none of them. It vanishes with its last handle if there was no change.
        """
        with self._store.lock:
            known = self._store.overlay.find(anchor, name)
            if known is not None:
                return known
            node = LocalNode(0, anchor, name, False, ino, token, mtime_ns, size)
            node.fill = fill
            node.is_whole = True
            node.borrowed_from = replaces
            self._store.overlay.add(node)
            return node

    def set_aside(
        self,
        anchor: Anchor,
        old_name: str,
        new_name: str,
        *,
        replaces: Replaced,
        size: int,
        mtime_ns: int,
        ino: int,
        token: str,
        datafile_id: int,
        fill: Fill | None = None,
    ) -> LocalNode:
        """Show a stored file as the local node *new_name*, and no longer as *old_name*.

        Its bytes stay on the server until a successor of *old_name* is about to replace it there.
        """
        node = LocalNode(0, anchor, new_name, False, ino, token, mtime_ns, size)
        node.aside = Aside(replaces, old_name, datafile_id)
        node.takes_place_of = replaces
        node.is_whole = node.is_durable = True
        node.fill = fill or self._store.fill_of(node)
        with self._store.lock:
            self._store.locked_enter(node)
            self._store.asides[replaces.dataset] = node
        return node

    def open(self, node: LocalNode, *, writing: bool) -> LocalFile:
        """Open *node*."""
        with node.io, self._store.lock:
            if not self._store.overlay.is_there(node):
                raise NotFound(f"{node.name} is gone")
            if node.opened is None and node.fill is None:
                # Now, because the content's name goes when the server has it.
                assert node.content is not None
                node.opened = Content(node.content, self._store.spool.open(node.content))
            node.handles += 1
            node.writers += writing
            if writing:
                self._store.locked_touch(path_below(node)[0])
        return LocalFile(self, node, writing=writing)

    def content(self, node: LocalNode) -> Content:
        """Return the open content of *node*, bringing it here if it is not."""
        opened = node.opened
        if opened is not None and node.fill is None:
            return opened
        with node.io:
            return self._store.open_content(node, keeps_bytes=True)

    def begin_change(self, node: LocalNode, *, keeps_bytes: bool) -> Content:
        """Return the content to change, which nobody else uses. Called with ``node.io`` held."""
        if node.is_archived:
            raise PermissionDenied(
                f"{node.name} has become archived data, which does not change: copy it, change the copy, and add that"
            )
        content = self._store.open_content(node, keeps_bytes=keeps_bytes)
        if node.is_frozen:
            before = node.content
            if keeps_bytes:
                content = Content(*self._store.spool.copy(content.descriptor))
            else:
                content = Content(*self._store.spool.create())
                node.size = 0
            if node.opened is not None:
                node.retired.append(node.opened)
            node.opened, node.content, node.is_frozen = content, content.name, False
            if before is not None and node.upload is None:
                with self._store.lock:
                    self._store.drop_content(before, is_shared=True)
        if node.is_whole or node.error or node.borrowed_from is not None:
            was_durable = node.is_durable
            with self._store.lock:
                self._locked_begin_change(node)
            if was_durable:  # after a power cut the changed bytes must not be taken for the durable ones
                self._store.journal.barrier()
        return content

    def _locked_begin_change(self, node: LocalNode) -> None:
        store = self._store
        if node.error:
            error, node.error = node.error, ""
            store.locked_clear_error(error)
        borrowed, aside = node.borrowed_from, node.aside
        is_new = borrowed is not None and store.overlay.is_there(node)
        row = dataclasses.replace(
            node.row(),
            token=node.token if borrowed is None and aside is None else uuid.uuid4().hex,
            is_whole=False,
            is_durable=False,
            replaces=borrowed or node.takes_place_of,
            aside=None,
        )
        number = node.id
        if is_new:
            number = store.journal.add_node(row)
        elif number:
            store.journal.update_node(row)
        node.id, node.token, node.takes_place_of = number, row.token, row.replaces
        node.is_whole = node.is_durable = False
        node.borrowed_from = node.aside = None
        if aside is not None and store.asides.get(aside.replaces.dataset) is node:
            del store.asides[aside.replaces.dataset]
        if is_new:
            store.overlay.by_id[number] = node
            store.overlay.hide(borrowed)

    def end_change(self, node: LocalNode) -> None:
        """*node* was changed. Called with ``node.io`` held."""
        node.mtime_ns = self._store.wall_ns()
        node.changes += 1
        with self._store.lock:
            self._store.locked_touch(path_below(node)[0])

    def flushed(self, node: LocalNode) -> None:
        """A program has closed *node*: note what is there."""
        with node.io:
            if node.is_whole or not node.id:
                return
            with self._store.lock:
                if node.lacks_bytes:
                    node.error = _LACKS_BYTES
                if self._store.overlay.is_there(node):
                    self._store.journal.update_node(dataclasses.replace(node.row(), is_whole=True))
                    self._store.undurable[node.id] = node
                node.is_whole = True
                self._store.locked_touch(path_below(node)[0])

    def synced(self, node: LocalNode) -> None:
        """Make what is there survive a power cut."""
        if node.is_whole and node.id:
            self._store.sync_nodes([node])

    def sync_names(self) -> None:
        """Make every change of a name so far survive a power cut."""
        self._store.journal.barrier()

    def closed(self, node: LocalNode, *, writing: bool) -> None:
        """A handle is gone."""
        try:
            if writing:
                self.flushed(node)
        except AgoraFSError as error:
            # It is not in the journal as it is: it does not travel unless somebody says so.
            node.error = str(error)
            raise
        finally:
            self._handle_gone(node, writing=writing)

    def _handle_gone(self, node: LocalNode, *, writing: bool) -> None:
        with node.io, self._store.lock:
            node.handles -= 1
            node.writers -= writing
            if writing:
                self._store.locked_touch(path_below(node)[0])
            closing: list[Content] = []
            if node.handles == 0:
                closing, node.retired = node.retired, []
                if node.opened is not None:
                    closing.append(node.opened)
                    node.opened = None
            if node.borrowed_from is not None and node.writers == 0:
                self._store.overlay.remove(node)  # never changed: it is the stored file again
            is_gone = node.handles == 0 and not self._store.overlay.is_there(node)
            if is_gone and node.content is not None:
                self._store.drop_content(node.content, is_shared=node.is_frozen)
        for content in closing:
            content.close()


_STATE_OF_BATCH = {
    BatchState.SEALED: NodeState.PENDING,
    BatchState.UPLOADING: NodeState.UPLOADING,
    BatchState.COMPLETING: NodeState.UPLOADING,
    BatchState.IMPORTING: NodeState.IMPORTING,
    BatchState.VERIFYING: NodeState.VERIFYING,
    BatchState.SETTLING: NodeState.VERIFYING,
}
