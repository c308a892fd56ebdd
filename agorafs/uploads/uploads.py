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

Parts.  ``nodes`` (the overlay), ``local_file`` (one open), ``spool``, ``journal``, ``sealing`` (what goes into a
batch), ``upkeep`` (the two background threads), ``recovery`` (start after a crash); ``sender`` and ``settle`` drive the
batches.

Threads.  Every method may be called from any thread. ``_lock`` guards the overlay and all that is marked as
changing. Order: ``node.io``, then ``_lock``, then the journal's, which is a leaf. Under ``_lock`` the journal writes
into its log, which does not wait for the disk; nothing waits for the network.

Invariants, run by ``_check`` at each release of ``_lock`` in tests:
  1. Every node hangs where its ``parent`` says, and ``by_id`` has those with a number.
  2. A node's ``upload``, if it has one, is in flight.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from agorafs.cache.locks import InvariantLock
from agorafs.client.records import Datafile, Dataset, Kind, RemoteRef
from agorafs.clock import Clock
from agorafs.errors import AlreadyExists, CrossDevice, NotFound
from agorafs.uploads.durable import Disk
from agorafs.uploads.journal import Aside, Journal, NewUpload, NodeRow, StoredRow
from agorafs.uploads.local_file import LocalFile
from agorafs.uploads.nodes import Content, Fill, LocalNode, Overlay, Place, StoredAs, inode_of, path_below
from agorafs.uploads.sealing import Sealed, describes_import, gather
from agorafs.uploads.spool import Spool
from agorafs.uploads.values import (
    Anchor,
    Batch,
    BatchState,
    Disposition,
    NodeState,
    Outcome,
    OutcomeKind,
    Replaced,
    Upload,
)

log = logging.getLogger(__name__)

# (datafile, size, SHA-1, descriptor): write the stored bytes into the descriptor
Fetch = Callable[[int, int, str, int], None]

HELD_BACK = "agorafs ended while this file was being written; it may be incomplete"


class ListedEntry(Protocol):
    """What ``is_hidden`` looks at of an entry of a listing: ``tree.listing.DirEntry``."""

    @property
    def ref(self) -> RemoteRef | None: ...
    @property
    def record(self) -> object: ...


@dataclass(frozen=True, slots=True)
class InFlight:
    """An upload that is not done with, as memory knows it."""

    id: int
    batch: int
    anchor: Anchor
    target: str
    size: int


@dataclass(frozen=True, slots=True)
class Unfinished:
    """What is not verified on the server: ``open`` of the files are being written. ``failed`` has (path, reason)."""

    files: int
    bytes: int
    open: int
    failed: list[tuple[LocalNode, str]]


class Uploads:
    """See the module docstring."""

    def __init__(
        self,
        journal: Journal,
        spool: Spool,
        disk: Disk,
        *,
        fetch: Fetch,
        clock: Clock,
        quiet_s: float,
        fill_import: Callable[[bytes, Sequence[str]], bytes | None],
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """Take up what *journal* knows. ``recovery`` has made it trustworthy.

        Args:
            fetch: Brings the bytes of a stored file that was renamed away.
            quiet_s: How long nothing must have changed below an anchor before its files travel.
            fill_import: Makes an import JSON without datasets name the given files; None: it is complete.
        """
        # given and fixed
        self.journal = journal
        self.spool = spool
        self._disk = disk
        self._fetch = fetch
        self._clock = clock
        self._quiet_s = quiet_s
        self._fill_import = fill_import
        self._wall_ns = wall_ns
        self.closing = threading.Event()
        self.wake = threading.Event()  # something to seal or to send
        self._work = threading.Condition()
        self._work_count = 0
        self._lock = InvariantLock(self._check)
        # changing, guarded by _lock
        self._overlay = Overlay()
        self._activity: dict[Anchor, float] = {}
        self._in_flight: dict[int, InFlight] = {}
        self._arriving: dict[tuple[Anchor, str], list[int]] = {}  # by base name below the anchor
        self._consumed: dict[int, int] = {}  # nodes that vanish with their batch, such as lists of relations
        self._asides: dict[int, LocalNode] = {}  # stored files that were renamed away, by dataset
        self._stored: dict[tuple[Kind, int], tuple[str, StoredAs]] = {}
        self._waiting: dict[int, str] = {}
        self._progress: dict[int, tuple[int, int]] = {}
        self._undurable: dict[int, LocalNode] = {}
        self._refusals: set[str] = set()  # reasons that concern all files of a would-be batch
        self._cancelled: set[int] = set()  # batches of files outside the spool
        self._load()

    # -- looking -------------------------------------------------------------------------------------

    def find(self, place: Place, name: str) -> LocalNode | None:
        """Return the local node *name* in *place*; memory only."""
        return self._overlay.find(place, name)

    def children(self, place: Place) -> list[LocalNode]:
        """Return all local nodes in *place*."""
        with self._lock:
            return self._overlay.children(place)

    def parts_below(self, node: LocalNode) -> tuple[Anchor, list[str]]:
        """Return the anchor of *node* and the names from there to it."""
        with self._lock:
            return path_below(node)

    def is_hidden(self, anchor: Anchor, entry: ListedEntry) -> bool:
        """Tell whether the server's *entry* is not to be shown, because a local node stands for it."""
        if not self._overlay.hidden and not self._arriving:
            return False
        ref = entry.ref
        if ref is not None and ref.kind is Kind.DATASET and ref.id in self._overlay.hidden:
            return True
        record = entry.record
        datafiles: Sequence[Datafile] = ()
        if isinstance(record, Dataset):
            datafiles = record.datafiles or ()
        return bool(datafiles) and all(self._is_arriving(anchor, datafile) for datafile in datafiles)

    def _is_arriving(self, anchor: Anchor, datafile: Datafile) -> bool:
        name = datafile.original_filename.replace("\\", "/").rpartition("/")[2]
        with self._lock:
            candidates = list(self._arriving.get((anchor, name), ()))
        for upload_id in candidates:
            known = self.journal.upload(upload_id)
            if known is not None and known[0].sha1 == datafile.sha1 and known[0].size == datafile.size:
                return True
        return False

    def stored_as(self, datafile_id: int, sha1: str) -> StoredAs | None:
        """Return number, time and version label of a stored file that was written here."""
        known = self._stored.get((Kind.DATAFILE, datafile_id))
        return known[1] if known is not None and known[0] == sha1 else None

    def folder_stored_as(self, folder_id: int) -> StoredAs | None:
        """The same for a folder."""
        known = self._stored.get((Kind.FOLDER, folder_id))
        return None if known is None else known[1]

    def size(self, node: LocalNode) -> int:
        """Return the length of *node* in bytes."""
        return node.size

    def mtime_ns(self, node: LocalNode) -> int:
        """Return when *node* was changed last."""
        return node.mtime_ns

    def aside_of(self, anchor: Anchor, old_name: str) -> LocalNode | None:
        """Return the stored file that was renamed away from *old_name* and has no successor yet."""
        with self._lock:
            for node in self._overlay.children(anchor):
                if (
                    node.aside is not None
                    and node.aside.old_name == old_name
                    and node.takes_place_of is not None
                ):
                    return node
        return None

    def state(self, node: LocalNode) -> NodeState:
        """Return how far *node* is."""
        if node.error:
            return NodeState.FAILED
        if node.writers and node.borrowed_from is None:
            return NodeState.WRITING
        batch_id = self._batch_of(node)
        if batch_id is not None:
            batch = self.journal.batch(batch_id)
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
            batch_id = self._batch_of(node)
            sent, total = self._progress.get(batch_id or 0, (0, 0))
            return f"uploading {100 * sent // total if total else 0} %"
        return str(state.value)

    def _batch_of(self, node: LocalNode) -> int | None:
        upload = node.upload
        if upload is not None:
            flight = self._in_flight.get(upload)
            return None if flight is None else flight.batch
        return self._consumed.get(node.id)

    def room(self) -> int:
        """Return how many bytes can be written now."""
        return self.spool.room()

    # -- changing ------------------------------------------------------------------------------------

    def create(self, place: Place, name: str, *, replaces: Replaced | None = None) -> LocalNode:
        """Make an empty file.

        Raises:
            AlreadyExists: There is a local node of this name.
            SpoolFull: There is no room.
        """
        content_name, descriptor = self.spool.create()
        content = Content(content_name, descriptor)
        node = self._new_node(place, name, is_directory=False)
        node.content = content.name
        node.takes_place_of = replaces
        try:
            with self._lock:
                self._locked_enter(node)
        except BaseException:
            content.close()
            self.spool.remove(content.name)
            raise
        content.close()
        return node

    def make_directory(self, place: Place, name: str) -> LocalNode:
        """Make a directory; it becomes a folder of the server with its batch."""
        node = self._new_node(place, name, is_directory=True)
        node.is_whole = True
        with self._lock:
            self._locked_enter(node)
        return node

    def rename(self, node: LocalNode, place: Place, name: str, *, replaces: Replaced | None = None) -> None:
        """Hang *node* elsewhere; nothing local may be there any more. *replaces*: what is stored there."""
        with self._lock:
            if self._overlay.find(place, name) is not None:
                raise AlreadyExists(f"{name} exists already")
            if node.borrowed_from is not None:
                raise CrossDevice(f"{node.name} is stored on the server, which can not rename it")
            old_anchor = path_below(node)[0]
            self._overlay.remove(node)
            node.parent = place
            node.name = name
            if replaces is not None:
                if node.takes_place_of is not None and node.takes_place_of != replaces:
                    log.warning("%s: takes the place of two stored files; the first stays", name)
                    self._overlay.unhide(node.takes_place_of)
                node.takes_place_of = replaces
                self._overlay.hide(replaces)
                self._locked_succeed(node, replaces)
            self._overlay.add(node)
            if node.id:
                self.journal.update_node(node.row())
            self._locked_touch(old_anchor)
            self._locked_touch(path_below(node)[0])

    def remove(self, node: LocalNode) -> None:
        """Forget *node*, a file or an empty directory. What it took the place of is shown again.

        What travels goes on and is removed from the server when it has arrived.
        """
        with node.io, self._lock:
            if node.children:
                raise AlreadyExists(f"{node.name} is not empty")
            self._overlay.remove(node)
            self._overlay.unhide(node.takes_place_of)
            if node.aside is not None:
                self._asides.pop(node.aside.replaces.dataset, None)
            before = node.successor_of
            if before is not None and before.aside is not None and node.takes_place_of is not None:
                before.takes_place_of = node.takes_place_of  # it stands for the stored file again
                self._overlay.hide(before.takes_place_of)
                self.journal.update_node(before.row())
            if node.id:
                self.journal.remove_nodes([node.id])
                self._undurable.pop(node.id, None)
            if node.content is not None and not node.is_frozen:
                self.spool.remove(node.content)
            self._locked_touch(path_below(node)[0])

    def set_mtime(self, node: LocalNode, mtime_ns: int) -> None:
        """Set when *node* was changed last."""
        with self._lock:
            node.mtime_ns = mtime_ns
            if node.id:
                self.journal.update_node(node.row())

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
        with self._lock:
            known = self._overlay.find(anchor, name)
            if known is not None:
                return known
            node = LocalNode(0, anchor, name, False, ino, token, mtime_ns, size)
            node.fill = fill
            node.is_whole = True
            node.borrowed_from = replaces
            self._overlay.add(node)
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
        node.fill = fill or self._fill_of(node)
        with self._lock:
            self._locked_enter(node)
            self._asides[replaces.dataset] = node
        return node

    def _fill_of(self, node: LocalNode) -> Fill:
        aside = node.aside
        assert aside is not None

        def fill(descriptor: int) -> None:
            self._fetch(aside.datafile, node.size, aside.replaces.sha1, descriptor)

        return fill

    def open(self, node: LocalNode, *, writing: bool) -> LocalFile:
        """Open *node*."""
        with node.io, self._lock:
            if not self._overlay.is_there(node):
                raise NotFound(f"{node.name} is gone")
            if node.opened is None and node.fill is None:
                # Now, because the content's name goes when the server has it.
                assert node.content is not None
                node.opened = Content(node.content, self.spool.open(node.content))
            node.handles += 1
            node.writers += writing
            if writing:
                self._locked_touch(path_below(node)[0])
        return LocalFile(self, node, writing=writing)

    # -- for LocalFile -------------------------------------------------------------------------------

    def content(self, node: LocalNode) -> Content:
        """Return the open content of *node*, bringing it here if it is not."""
        opened = node.opened
        if opened is not None and node.fill is None:
            return opened
        with node.io:
            return self._open_content(node, keeps_bytes=True)

    def begin_change(self, node: LocalNode, *, keeps_bytes: bool) -> Content:
        """Return the content to change, which nobody else uses. Called with ``node.io`` held."""
        content = self._open_content(node, keeps_bytes=keeps_bytes)
        if node.is_frozen:
            if keeps_bytes:
                content = Content(*self.spool.copy(content.descriptor))
            else:
                content = Content(*self.spool.create())
                node.size = 0
            if node.opened is not None:
                node.retired.append(node.opened)
            node.opened, node.content, node.is_frozen = content, content.name, False
        if node.is_whole or node.error or node.borrowed_from is not None:
            with self._lock:
                self._locked_begin_change(node)
        return content

    def _locked_begin_change(self, node: LocalNode) -> None:
        if node.error:
            self._locked_clear_error(node.error)
            node.error = ""
        node.is_whole = node.is_durable = False
        borrowed = node.borrowed_from
        if borrowed is None:
            if node.id:
                self.journal.update_node(node.row())
            return
        node.borrowed_from = None
        node.token = uuid.uuid4().hex
        node.takes_place_of = borrowed
        if self._overlay.is_there(node):
            node.id = self.journal.add_node(node.row())
            self._overlay.by_id[node.id] = node
            self._overlay.hide(borrowed)

    def _open_content(self, node: LocalNode, *, keeps_bytes: bool) -> Content:
        """Called with ``node.io`` held."""
        if node.fill is not None:
            if keeps_bytes:
                self.spool.grow(node.size)
            content = Content(*self.spool.create())
            try:
                if keeps_bytes:
                    node.fill(content.descriptor)
                else:
                    node.size = 0
            except BaseException:
                content.close()
                self.spool.grow(-node.size)
                self.spool.path(content.name).unlink()
                raise
            node.opened, node.content, node.fill = content, content.name, None
            if node.id:
                with self._lock:
                    self.journal.update_node(node.row())
        if node.opened is None:
            assert node.content is not None
            node.opened = Content(node.content, self.spool.open(node.content))
        return node.opened

    def end_change(self, node: LocalNode) -> None:
        """*node* was changed. Called with ``node.io`` held."""
        node.mtime_ns = self._wall_ns()
        node.changes += 1
        with self._lock:
            self._locked_touch(path_below(node)[0])

    def flushed(self, node: LocalNode) -> None:
        """A program has closed *node*: note what is there."""
        with node.io:
            if node.is_whole or not node.id:
                return
            with self._lock:
                node.is_whole = True
                if self._overlay.is_there(node):
                    self.journal.update_node(node.row())
                    self._undurable[node.id] = node
                self._locked_touch(path_below(node)[0])

    def synced(self, node: LocalNode) -> None:
        """Make what is there survive a power cut."""
        if node.is_whole and node.id:
            self._make_durable([node])

    def closed(self, node: LocalNode, *, writing: bool) -> None:
        """A handle is gone."""
        if writing:
            self.flushed(node)
        with node.io, self._lock:
            node.handles -= 1
            node.writers -= writing
            if writing:
                self._locked_touch(path_below(node)[0])
            closing: list[Content] = []
            if node.handles == 0:
                closing, node.retired = node.retired, []
                if node.opened is not None:
                    closing.append(node.opened)
                    node.opened = None
            if node.borrowed_from is not None and node.writers == 0:
                self._overlay.remove(node)  # never changed: it is the stored file again
                if node.content is not None and not node.is_frozen:
                    self.spool.remove(node.content)  # it was only read
        for content in closing:
            content.close()

    # -- durability ----------------------------------------------------------------------------------

    def make_durable(self) -> None:
        """Make everything that was closed survive a power cut."""
        with self._lock:
            nodes = list(self._undurable.values())
        if nodes:
            self._make_durable(nodes)
        else:
            self.journal.barrier()
        self.journal.checkpoint()

    def _make_durable(self, nodes: Iterable[LocalNode]) -> None:
        synced: list[tuple[LocalNode, str, int]] = []
        for node in nodes:
            name, changes = node.content, node.changes
            if name is None or not node.is_whole:
                continue
            try:
                descriptor = self.spool.open(name)
            except FileNotFoundError:
                continue  # removed meanwhile
            try:
                self.spool.sync(descriptor, name)
            finally:
                Content(name, descriptor).close()
            synced.append((node, name, changes))
        self.spool.sync_names()
        with self._lock:
            still = [
                (node, name)
                for node, name, changes in synced
                if node.is_whole and node.content == name and node.changes == changes
            ]
            for node, _ in still:
                node.is_durable = True
                self._undurable.pop(node.id, None)
            self.journal.set_durable([(node.id, name) for node, name in still])
        self.journal.barrier()

    # -- batches: sealing ----------------------------------------------------------------------------

    def seal_quiet(self) -> None:
        """Seal a batch for each anchor below which nothing has changed for ``quiet_s``."""
        now = self._clock.monotonic()
        with self._lock:
            due = [anchor for anchor, at in self._activity.items() if now - at >= self._quiet_s]
        for anchor in due:
            self._seal(anchor)

    def sync_seal(self, wanted: Callable[[Anchor], bool] | None = None) -> None:
        """Let what is closed (below the *wanted* anchors) travel now, without waiting for quiet."""
        with self._lock:
            for anchor in self._overlay.roots:
                if wanted is None or wanted(anchor):
                    self._activity[anchor] = float("-inf")
        self.wake.set()

    def _seal(self, anchor: Anchor) -> None:
        """Make a batch of what is ready below *anchor*, unless a file there is being written."""
        with self._lock:
            if self._activity.get(anchor) is None:
                return
            seen = self._activity[anchor]
            asides = self._locked_needed_asides(anchor)
            undurable = [
                node for node in self._overlay.walk(anchor) if node.is_whole and node.id in self._undurable
            ]
        for node in asides:
            self._bring_back(node)
        if undurable:
            self._make_durable(undurable)
        with self._lock:
            if self._activity.get(anchor) != seen or self._locked_has_writers(anchor):
                return
            del self._activity[anchor]
            sealed = gather(
                self._overlay,
                anchor,
                is_ready=self._locked_is_ready,
                read=lambda node: self.spool.path(node.content or "").read_bytes(),
            )
            if sealed.refused:
                self._refusals.add(sealed.refused)
                for node in [*sealed.files, *sealed.consumed]:
                    node.error = sealed.refused
                    self.journal.update_node(node.row())
                return
            if sealed.files or sealed.has_empty_directories:
                self._locked_seal(anchor, sealed)
        self.announce_work()

    def _locked_seal(self, anchor: Anchor, sealed: Sealed) -> None:
        uploads = []
        for node, target in zip(sealed.files, sealed.targets, strict=True):
            assert node.content is not None
            content, size = node.content, node.size
            if target == sealed.import_file:
                content, size = self._locked_filled_import(content, sealed.targets, target)
            uploads.append(NewUpload(node.id, target, size, node.mtime_ns, content, node.takes_place_of))
        batch_id = self.journal.seal(
            anchor,
            uploads,
            [(node.id, target) for node, target in sealed.directories],
            import_file=sealed.import_file,
            relations=sealed.relations,
            consumed=[node.id for node in sealed.consumed],
            created_s=self._wall_ns() / 1e9,
        )
        for upload, node in zip(self.journal.uploads(batch_id), sealed.files, strict=True):
            node.upload = upload.id
            node.is_frozen = True
            # The upload hides it from here on.
            node.takes_place_of = None
            node.successor_of = None
            self._locked_fly(upload, anchor)
        for node in sealed.consumed:
            self._consumed[node.id] = batch_id

    def _locked_filled_import(self, content: str, targets: Sequence[str], own: str) -> tuple[str, int]:
        """Return the content to send for an import JSON: its own, or a copy that names the batch's files."""
        text = self.spool.path(content).read_bytes()
        filled = self._fill_import(text, [target for target in targets if target != own])
        if filled is None:
            return content, len(text)
        self.spool.grow(len(filled))
        name, descriptor = self.spool.create()
        with contextlib.closing(Content(name, descriptor)), open(descriptor, "wb", closefd=False) as file:
            file.write(filled)
            file.flush()
            self.spool.sync(descriptor, name)
        return name, len(filled)

    def _locked_is_ready(self, node: LocalNode) -> bool:
        return (
            node.is_whole
            and not node.error
            and node.upload is None
            and node.aside is None
            and node.borrowed_from is None
            and node.id not in self._consumed
        )

    def _locked_has_writers(self, anchor: Anchor) -> bool:
        return any(
            node.writers and node.borrowed_from is None and not node.stays_local
            for node in self._overlay.walk(anchor)
        )

    def _locked_needed_asides(self, anchor: Anchor) -> list[LocalNode]:
        """Stored files under another name whose bytes must be here before a batch of *anchor* may travel."""
        nodes = list(self._overlay.walk(anchor))
        needed = [
            node.successor_of
            for node in nodes
            if node.successor_of is not None and node.successor_of.aside is not None and not node.stays_local
        ]
        return needed + [node for node in nodes if node.aside is not None and not node.stays_local]

    def _bring_back(self, node: LocalNode) -> None:
        """Fetch the bytes of a stored file that was renamed: from here on it is a local file like others."""
        with node.io:
            aside = node.aside
            if aside is None:
                return
            content = self._open_content(node, keeps_bytes=True)
            self.spool.sync(content.descriptor, content.name)
            with self._lock:
                node.aside = None
                self._asides.pop(aside.replaces.dataset, None)
                self.journal.update_node(node.row())

    def enqueue(
        self,
        anchor: Anchor,
        files: Sequence[tuple[Path, str]],
        *,
        import_file: str | None,
        relations: Mapping[str, Sequence[str]] | None,
    ) -> int:
        """Send files from outside the spool, as (path, target); return the batch's number.

        The same files for the same place join the batch that is under way already.
        """
        uploads = []
        for path, target in files:
            state = path.stat()
            uploads.append(
                NewUpload(None, target, state.st_size, state.st_mtime_ns, str(path), None, state.st_mtime_ns)
            )
        with self._lock:
            wanted = {(upload.target, upload.content, upload.size, upload.mtime_ns) for upload in uploads}
            for batch in self.journal.batches():
                if batch.anchor == anchor and self.journal.is_external(batch.id):
                    known = self.journal.uploads(batch.id)
                    if wanted == {(one.target, str(one.content), one.size, one.mtime_ns) for one in known}:
                        return batch.id
            batch_id = self.journal.seal(
                anchor,
                uploads,
                [],
                import_file=import_file,
                relations=relations,
                consumed=[],
                created_s=self._wall_ns() / 1e9,
                is_external=True,
            )
            for upload in self.journal.uploads(batch_id):
                self._locked_fly(upload, anchor)
        self.journal.barrier()
        self.announce_work()
        return batch_id

    # -- batches: for the sender and the settler -----------------------------------------------------

    def runnable(self) -> list[int]:
        """Return the numbers of all batches, the oldest first."""
        return [batch.id for batch in self.journal.batches()]

    def announce_work(self) -> None:
        """Wake who waits for work."""
        with self._work:
            self._work_count += 1
            self._work.notify_all()

    def wait_for_work(self, timeout_s: float) -> None:
        """Return when there is something new to do, or at the latest after *timeout_s*."""
        with self._work:
            seen = self._work_count
            self._work.wait_for(lambda: self._work_count != seen or self.closing.is_set(), timeout_s)

    def note_wait(self, batch_id: int, reason: str | None) -> None:
        """Note why a batch makes no progress; None: it does."""
        with self._lock:
            if reason is None:
                self._waiting.pop(batch_id, None)
            else:
                self._waiting[batch_id] = reason

    def note_progress(self, batch_id: int, sent_bytes: int, total_bytes: int) -> None:
        """Note how much of a batch the server has acknowledged."""
        with self._lock:
            self._progress[batch_id] = (sent_bytes, total_bytes)

    def disposition(self, upload_id: int) -> Disposition:
        """Return what the user did, since, to the file that an upload was made of."""
        with self._lock:
            return self._locked_disposition(upload_id)[0]

    def _locked_disposition(self, upload_id: int) -> tuple[Disposition, LocalNode | None]:
        known = self.journal.upload(upload_id)
        flight = self._in_flight.get(upload_id)
        if known is None or flight is None:
            return Disposition.GONE, None
        node_id = known[1]
        if node_id is None:
            external = self.journal.is_external(flight.batch)
            return (Disposition.CURRENT if external else Disposition.GONE), None
        node = self._overlay.by_id.get(node_id)
        if node is None or node.upload != upload_id:
            return Disposition.GONE, None
        anchor, names = path_below(node)
        if node.is_frozen and anchor == flight.anchor and "/".join(names) == flight.target:
            return Disposition.CURRENT, node
        return Disposition.OUTDATED, node

    def settled(self, upload_id: int, seen: Disposition, outcome: Outcome) -> bool:
        """An upload is done with; what that means for its node follows from *seen* and *outcome*.

        Returns:
            False when the user has done something meanwhile: look again at ``disposition``.
        """
        with self._lock:
            first = self._locked_disposition(upload_id)[1]
        with first.io if first is not None else contextlib.nullcontext(), self._lock:
            disposition, node = self._locked_disposition(upload_id)
            if disposition is not seen or node is not first:
                return False
            known = self.journal.upload(upload_id)
            if known is None:
                return True
            upload = known[0]
            if node is None:
                self.journal.settle(upload_id, outcome)
            elif outcome.kind is OutcomeKind.FAILED:
                self._locked_failed(node, upload, outcome)
            elif disposition is Disposition.CURRENT:
                self._locked_arrived(node, upload, outcome)
            else:
                self._locked_superseded(node, upload, outcome)
            self._locked_land(upload)
            return True

    def _locked_failed(self, node: LocalNode, upload: Upload, outcome: Outcome) -> None:
        """The node keeps its bytes and what it takes the place of, and says why."""
        node.upload = None
        node.is_frozen = False
        node.error = outcome.reason
        if upload.replaces is not None and node.takes_place_of is None:
            node.takes_place_of = upload.replaces
            self._overlay.hide(upload.replaces)
        self.journal.settle(upload.id, outcome, node=node.row())

    def _locked_arrived(self, node: LocalNode, upload: Upload, outcome: Outcome) -> None:
        """The server has it: the node gives way to what the server lists."""
        stored = None
        if outcome.kind is OutcomeKind.FILED and outcome.datafile is not None:
            as_ = StoredAs(node.ino, node.mtime_ns, node.token)
            stored = self._locked_remember(Kind.DATAFILE, outcome.datafile, as_, upload.sha1 or "")
        self.journal.settle(upload.id, outcome, gone=node.id, stored=stored)
        self._overlay.by_id.pop(node.id, None)
        node.id = 0
        node.upload = None
        single = outcome.dataset is not None and outcome.item is not None
        if node.writers and outcome.kind is OutcomeKind.FILED and single:
            # Somebody may still write: then it takes the place of what was just stored.
            assert outcome.dataset is not None and outcome.item is not None
            node.borrowed_from = Replaced(outcome.dataset, outcome.item, upload.sha1 or "")
        else:
            self._overlay.remove(node)

    def _locked_superseded(self, node: LocalNode, upload: Upload, outcome: Outcome) -> None:
        """The server has an older version: the node will take its place."""
        node.upload = None
        node.is_frozen = False  # when it was only renamed, its bytes are needed once more
        if outcome.kind is OutcomeKind.FILED and outcome.dataset is not None and outcome.item is not None:
            node.takes_place_of = Replaced(outcome.dataset, outcome.item, upload.sha1 or "")
            self._overlay.hide(node.takes_place_of)
        self.journal.settle(upload.id, outcome, node=node.row())
        self._locked_touch(path_below(node)[0])

    def fail_batch(self, batch_id: int, reason: str) -> None:
        """Every upload of a batch that is not done with has failed; the files stay, with the reason."""
        log.warning("an upload has failed: %s", reason)
        outcome = Outcome(OutcomeKind.FAILED, reason=reason)
        for upload in self.journal.uploads(batch_id, unsettled=True):
            while not self.settled(upload.id, self.disposition(upload.id), outcome):
                pass
        self.finish(batch_id, {})

    def is_abandoned(self, batch_id: int) -> bool:
        """Tell whether nobody wants anything of a batch any more."""
        if self.journal.is_external(batch_id):
            return batch_id in self._cancelled
        with self._lock:
            uploads = self.journal.uploads(batch_id, unsettled=True)
            return bool(uploads) and all(
                upload.replaces is None and self._locked_disposition(upload.id)[0] is Disposition.GONE
                for upload in uploads
            )

    def abandon(self, batch_id: int) -> None:
        """Forget a batch that nobody wants."""
        for upload in self.journal.uploads(batch_id, unsettled=True):
            outcome = Outcome(OutcomeKind.FAILED, reason="cancelled")
            while not self.settled(upload.id, self.disposition(upload.id), outcome):
                pass
        self.finish(batch_id, {})

    def empty_directories(self, batch_id: int) -> list[str]:
        """Return the target paths of the batch's directories without a file below, parents first."""
        targets = [upload.target for upload in self.journal.uploads(batch_id)]
        with self._lock:
            return [
                target
                for node_id, target in self.journal.directories(batch_id)
                if node_id in self._overlay.by_id
                and not any(other.startswith(f"{target}/") for other in targets)
                and not any(not one.is_directory for one in self._overlay.walk(self._overlay.by_id[node_id]))
            ]

    def removed_directories(self, batch_id: int) -> list[str]:
        """Return the target paths of directories that were removed or renamed since, the deepest first."""
        batch = self.journal.batch(batch_id)
        assert batch is not None
        with self._lock:
            gone = [
                target
                for node_id, target in self.journal.directories(batch_id)
                if not self._locked_is_at(node_id, batch.anchor, target)
            ]
        return sorted(gone, key=lambda target: -target.count("/"))

    def _locked_is_at(self, node_id: int, anchor: Anchor, target: str) -> bool:
        node = self._overlay.by_id.get(node_id)
        if node is None:
            return False
        at, names = path_below(node)
        return at == anchor and "/".join(names) == target

    def finish(self, batch_id: int, folders: Mapping[str, int]) -> None:
        """Forget a batch, all of whose uploads are done with.

        Args:
            folders: The directories of the batch that are folders of the server now, by target path.
        """
        uploads = self.journal.uploads(batch_id)
        batch = self.journal.batch(batch_id)
        if batch is None:
            return
        has_failed = any(
            upload.outcome is not None and upload.outcome.kind is OutcomeKind.FAILED for upload in uploads
        )
        with self._lock:
            gone, moved, stored = self._locked_take_directories(batch, folders, uploads)
            for node_id, of_batch in list(self._consumed.items()):
                if of_batch == batch_id:
                    del self._consumed[node_id]
                    node = self._overlay.by_id.get(node_id)
                    if node is not None and not has_failed:
                        self._overlay.remove(node)
                        gone.append(node_id)
                        if node.content is not None:
                            self.spool.remove(node.content)
            summary = None
            if self.journal.is_external(batch_id):
                summary = {**_summary(uploads), "state": "ended", "waiting": ""}
            self.journal.end_batch(batch_id, nodes=moved, gone=gone, stored=stored, summary=summary)
            kept = {self.spool.path(node.content) for node in self._overlay.by_id.values() if node.content}
            for upload in uploads:
                if upload.content.parent == self.spool.contents and upload.content not in kept:
                    self.spool.remove(upload.content.name)
            self._waiting.pop(batch_id, None)
            self._progress.pop(batch_id, None)
            self._cancelled.discard(batch_id)
            self._locked_touch(batch.anchor)
        self.announce_work()

    def _locked_take_directories(
        self, batch: Batch, folders: Mapping[str, int], uploads: Sequence[Upload]
    ) -> tuple[list[int], list[NodeRow], list[StoredRow]]:
        """Let local directories give way to the server's folders; return (gone, moved, stored)."""
        gone: list[int] = []
        moved: list[NodeRow] = []
        stored: list[StoredRow] = []
        for node_id, target in reversed(self.journal.directories(batch.id)):  # the deepest first
            if not self._locked_is_at(node_id, batch.anchor, target):
                continue
            node = self._overlay.by_id[node_id]
            folder = folders.get(target)
            had_uploads = any(upload.target.startswith(f"{target}/") for upload in uploads)
            if folder is not None:
                anchor = Anchor(Kind.FOLDER, folder)
                for child in list(node.children.values()):
                    self._overlay.remove(child)
                    child.parent = anchor
                    self._overlay.add(child)
                    if child.id:
                        moved.append(child.row())
                    self._locked_touch(anchor)
                as_ = StoredAs(node.ino, node.mtime_ns, node.token)
                stored.append(self._locked_remember(Kind.FOLDER, folder, as_, ""))
            elif node.children or not had_uploads:
                continue  # something of it is still here, or the archive can not hold it
            self._overlay.remove(node)
            gone.append(node.id)
        removed = set(gone)
        return gone, [row for row in moved if row.id not in removed], stored

    # -- batches: what memory knows of them ----------------------------------------------------------

    def _locked_fly(self, upload: Upload, anchor: Anchor) -> None:
        self._in_flight[upload.id] = InFlight(upload.id, upload.batch, anchor, upload.target, upload.size)
        name = upload.target.rpartition("/")[2]
        self._arriving.setdefault((anchor, name), []).append(upload.id)

    def _locked_land(self, upload: Upload) -> None:
        flight = self._in_flight.pop(upload.id, None)
        if flight is None:
            return
        key = (flight.anchor, flight.target.rpartition("/")[2])
        rest = [other for other in self._arriving.get(key, ()) if other != upload.id]
        if rest:
            self._arriving[key] = rest
        else:
            self._arriving.pop(key, None)
        self._overlay.unhide(upload.replaces)

    def _locked_remember(self, kind: Kind, object_id: int, as_: StoredAs, sha1: str) -> StoredRow:
        self._stored[kind, object_id] = (sha1, as_)
        return StoredRow(kind, object_id, as_.ino, as_.token, as_.mtime_ns, sha1)

    # -- what people see and ask for -----------------------------------------------------------------

    def is_unfinished(self, node: LocalNode) -> bool:
        """Tell whether *node* is a file that is to get to the server and has not."""
        if node.is_directory or node.borrowed_from is not None:
            return False
        if node.upload is not None or node.id in self._consumed:
            return True
        return not node.stays_local and not describes_import(node.name)

    def unfinished(self, wanted: Callable[[LocalNode], bool] | None = None) -> Unfinished:
        """Return what of the *wanted* nodes is not verified on the server."""
        with self._lock:
            nodes = [node for node in self._overlay.everything() if wanted is None or wanted(node)]
            going = [node for node in nodes if self.is_unfinished(node) and not node.error]
            directories = sum(
                node.is_directory
                and not node.stays_local
                and path_below(node)[0].kind is Kind.FOLDER
                and not any(not one.is_directory for one in self._overlay.walk(node))
                for node in nodes
            )
            # what was removed while it travelled is to be removed there too
            travelling = len(self._in_flight) - sum(node.upload is not None for node in nodes)
            return Unfinished(
                len(going) + directories + (max(0, travelling) if wanted is None else 0),
                sum(node.size for node in going),
                sum(node.writers > 0 for node in going),
                [(node, node.error) for node in nodes if node.error],
            )

    def retry(self, wanted: Callable[[LocalNode], bool] | None = None) -> int:
        """Let failed files travel again; return how many."""
        with self._lock:
            nodes = [
                node for node in self._overlay.everything() if node.error and (wanted is None or wanted(node))
            ]
            for node in nodes:
                node.error = ""
                node.is_whole = node.is_whole or node.writers == 0
                self.journal.update_node(node.row())
                self._undurable[node.id] = node
                self._activity[path_below(node)[0]] = float("-inf")
        self.wake.set()
        self.announce_work()
        return len(nodes)

    def cancel(self, node: LocalNode) -> None:
        """Give *node* up: its bytes are dropped, what it would have taken the place of stays."""
        with self._lock:
            upload = node.upload
            if upload is not None:
                known = self.journal.upload(upload)
                if known is not None:
                    self._overlay.unhide(known[0].replaces)
                    self.journal.drop_replaces(upload)
        self.remove(node)
        self.announce_work()

    def cancel_upload(self, batch_id: int) -> None:
        """Give up a batch of files from outside the spool."""
        with self._lock:
            self._cancelled.add(batch_id)
        self.announce_work()

    def nodes(self) -> list[LocalNode]:
        """Return all local nodes."""
        with self._lock:
            return list(self._overlay.everything())

    def batch_files(self, batch_id: int) -> list[tuple[str, Path]]:
        """Return (target path, content) of what a batch carries; the contents may go at any moment."""
        return [(upload.target, upload.content) for upload in self.journal.uploads(batch_id, unsettled=True)]

    def batch_status(self, batch: Batch) -> dict[str, object]:
        """Return one batch, ready for JSON."""
        uploads = self.journal.uploads(batch.id)
        with self._lock:
            sent, total = self._progress.get(batch.id, (0, 0))
            waiting = self._waiting.get(batch.id, "")
        return {
            "id": batch.id,
            "anchor": f"{batch.anchor.kind.value}:{batch.anchor.id}",
            "state": batch.state.value,
            "files": len(uploads),
            "bytes": sum(upload.size for upload in uploads),
            "sent_bytes": sent,
            "total_bytes": total,
            "reason": waiting,
            "age_s": max(0, round(self._wall_ns() / 1e9 - batch.created_s)),
        }

    def status(self) -> dict[str, object]:
        """Return how all stands, ready for JSON; never waits for the network."""
        unfinished = self.unfinished()
        batches = [self.batch_status(batch) for batch in self.journal.batches()]
        return {
            "files": unfinished.files,
            "bytes": unfinished.bytes,
            "open": unfinished.open,
            "failed": len(unfinished.failed),
            "waiting": next((str(batch["reason"]) for batch in batches if batch["reason"]), ""),
            "batches": batches,
            "spool_bytes": self.spool.used_bytes,
            "salvaged": str(self.spool.salvage) if self.spool.salvage.exists() else "",
        }

    def upload_status(self, batch_id: int) -> dict[str, object]:
        """Return how a batch of files from outside the spool is, also after its end.

        Raises:
            NotFound: There is and was none of this number.
        """
        ended = self.journal.ended(batch_id)
        if ended is not None:
            return ended
        batch = self.journal.batch(batch_id)
        if batch is None:
            raise NotFound(f"there is no upload {batch_id}")
        uploads = self.journal.uploads(batch_id)
        status = self.batch_status(batch)
        return {
            **_summary(uploads),
            "state": batch.state.value,
            "waiting": status["reason"],
            "sent_bytes": status["sent_bytes"],
        }

    def close(self) -> None:
        """Note everything and close the journal. Nobody drives batches any more."""
        self.closing.set()
        self.wake.set()
        self.announce_work()
        self.make_durable()
        self.journal.close()

    # -- how -----------------------------------------------------------------------------------------

    def _locked_enter(self, node: LocalNode) -> None:
        """Make a new node known to the overlay and the journal."""
        place = node.parent
        if isinstance(place, LocalNode) and not self._overlay.is_there(place):
            raise NotFound(f"the directory of {node.name} is gone")
        if self._overlay.find(place, node.name) is not None:
            raise AlreadyExists(f"{node.name} exists already")
        node.id = self.journal.add_node(node.row())
        self._overlay.add(node)
        self._overlay.hide(node.takes_place_of)
        if node.aside is None and node.takes_place_of is not None:
            self._locked_succeed(node, node.takes_place_of)
        self._locked_touch(path_below(node)[0])

    def _locked_succeed(self, node: LocalNode, replaces: Replaced) -> None:
        """If what *node* takes the place of was renamed away, the duty to remove it passes to *node*."""
        before = self._asides.get(replaces.dataset)
        if before is not None and before is not node and before.takes_place_of is not None:
            node.successor_of = before
            self._overlay.unhide(before.takes_place_of)
            before.takes_place_of = None
            self.journal.update_node(before.row())

    def _locked_touch(self, anchor: Anchor) -> None:
        self._activity[anchor] = self._clock.monotonic()

    def _locked_clear_error(self, error: str) -> None:
        """A file that had failed is being changed: it will be tried again, and those that failed with it."""
        if error in self._refusals:
            self._refusals.discard(error)
            for node in self._overlay.everything():
                if node.error == error:
                    node.error = ""
                    self.journal.update_node(node.row())

    def _new_node(self, place: Place, name: str, *, is_directory: bool) -> LocalNode:
        token = uuid.uuid4().hex
        return LocalNode(0, place, name, is_directory, inode_of(token), token, self._wall_ns())

    def _load(self) -> None:
        """Take up what the journal knows."""
        rows = self.journal.nodes()
        nodes = {row.id: _node_of(row) for row in rows}
        for row in rows:
            node = nodes[row.id]
            if row.parent is not None:
                node.parent = nodes[row.parent]
            self._overlay.add(node)
            self._overlay.hide(node.takes_place_of)
            if node.aside is not None:
                node.fill = self._fill_of(node)
                self._asides[node.aside.replaces.dataset] = node
        for node in nodes.values():
            replaced = node.takes_place_of
            before = None if replaced is None else self._asides.get(replaced.dataset)
            if before is not None and before is not node:
                node.successor_of = before
        with self._lock:
            for batch in self.journal.batches():
                for upload in self.journal.uploads(batch.id, unsettled=True):
                    self._locked_fly(upload, batch.anchor)
                    self._overlay.hide(upload.replaces)
                    owner = self.journal.upload(upload.id)
                    maker = nodes.get((owner[1] if owner else None) or 0)
                    if maker is not None:
                        same = maker.content == upload.content.name
                        maker.is_frozen = same or upload.target == batch.import_file
                for node_id in self.journal.consumed(batch.id):
                    self._consumed[node_id] = batch.id
            for row_stored in self.journal.stored():
                as_ = StoredAs(row_stored.ino, row_stored.mtime_ns, row_stored.token)
                self._stored[row_stored.kind, row_stored.id] = (row_stored.sha1, as_)
            for node in nodes.values():
                if node.upload not in self._in_flight:
                    node.upload = None
                if node.is_whole and not node.is_durable and not node.is_directory:
                    self._undurable[node.id] = node
            for anchor in self._overlay.roots:
                self._locked_touch(anchor)

    def _check(self) -> None:
        for anchor, children in self._overlay.roots.items():
            assert children, anchor
        for node in self._overlay.everything():
            assert self._overlay.find(node.parent, node.name) is node
            assert not node.id or self._overlay.by_id.get(node.id) is node
            assert node.upload is None or node.upload in self._in_flight, node.name


def _summary(uploads: Sequence[Upload]) -> dict[str, object]:
    """Return what became of uploads, ready for JSON."""
    outcomes = [(upload, upload.outcome) for upload in uploads if upload.outcome is not None]
    good = [
        (upload, outcome)
        for upload, outcome in outcomes
        if outcome.kind in (OutcomeKind.FILED, OutcomeKind.STUDY)
    ]
    return {
        "files": len(uploads),
        "bytes": sum(upload.size for upload in uploads),
        "sent_bytes": sum(upload.size for upload, _ in good),
        "stored": sum(outcome.created for _, outcome in good),
        "existed": sum(not outcome.created for _, outcome in good),
        "failed": [
            {"path": str(upload.content), "reason": outcome.reason}
            for upload, outcome in outcomes
            if outcome.kind is OutcomeKind.FAILED
        ],
    }


def _node_of(row: NodeRow) -> LocalNode:
    node = LocalNode(
        row.id,
        row.anchor or Anchor(Kind.FOLDER, 0),  # a parent is put in when all nodes are there
        row.name,
        row.is_directory,
        row.ino,
        row.token,
        row.mtime_ns,
        row.size,
    )
    node.content = row.content
    node.is_whole = row.is_whole
    node.is_durable = row.is_durable
    node.takes_place_of = row.replaces
    node.aside = row.aside
    node.error = row.error
    node.upload = row.upload
    return node


_STATE_OF_BATCH = {
    BatchState.SEALED: NodeState.PENDING,
    BatchState.UPLOADING: NodeState.UPLOADING,
    BatchState.COMPLETING: NodeState.UPLOADING,
    BatchState.IMPORTING: NodeState.IMPORTING,
    BatchState.VERIFYING: NodeState.VERIFYING,
    BatchState.SETTLING: NodeState.VERIFYING,
}
