"""What the parts of ``uploads`` share: the overlay of local nodes, what is in flight, the journal and the lock.

Threads.  ``lock`` guards every field that is marked as changing. Order: ``node.io``, then ``lock``, then the journal's,
which is a leaf. Under ``lock`` the journal writes into its log, which does not wait for the disk; nothing waits for the
network. Functions that begin with ``locked_`` are called with ``lock`` held.

Invariants, run by ``_check`` at each release of ``lock`` in tests:
  1. Every node hangs where its ``parent`` says, and ``by_id`` has those with a number.
  2. A node's ``upload``, if it has one, is in flight.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from cachetools import LRUCache

from agorafs.cache.locks import InvariantLock
from agorafs.client.records import Kind
from agorafs.clock import Clock
from agorafs.errors import AlreadyExists, NotFound
from agorafs.uploads.durable import Disk
from agorafs.uploads.journal import Journal
from agorafs.uploads.journal_rows import NodeRow, StoredRow
from agorafs.uploads.nodes import Content, Fill, LocalNode, Overlay, Place, StoredAs, inode_of, path_below
from agorafs.uploads.spool import Spool, full_disk_as_spool_full
from agorafs.uploads.values import Anchor, Disposition, Replaced, Upload

# (datafile, size, SHA-1, descriptor): write the stored bytes into the descriptor
Fetch = Callable[[int, int, str, int], None]

_MAX_PATHS = 10_000


@dataclass(frozen=True, slots=True)
class InFlight:
    """An upload that is not done with, as memory knows it; ``anchor`` and ``target`` are ``Upload.at``."""

    id: int
    batch: int
    anchor: Anchor
    target: str
    size: int


class Store:
    """See the module docstring."""

    def __init__(
        self,
        journal: Journal,
        spool: Spool,
        disk: Disk,
        *,
        fetch: Fetch,
        clock: Clock,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """Take up what *journal* knows, which ``recovery`` has made trustworthy.

        *fetch* brings the bytes of a stored file that was renamed away.
        """
        # given and fixed
        self.journal = journal
        self.spool = spool
        self.disk = disk
        self.clock = clock
        self.wall_ns = wall_ns
        self._fetch = fetch
        self.closing = threading.Event()
        self.wake = threading.Event()  # there may be something to seal
        self.work = threading.Condition()
        self.work_count = 0  # guarded by ``work``
        self.lock = InvariantLock(self._check)
        # changing, guarded by lock
        self.overlay = Overlay()
        self.activity: dict[Anchor, float] = {}  # when something changed last below an anchor
        self.in_flight: dict[int, InFlight] = {}
        self.arriving: dict[tuple[Anchor, str], list[int]] = {}  # by base name below the anchor
        self.consumed: dict[int, int] = {}  # nodes that vanish with their batch, such as lists of relations
        self.asides: dict[int, LocalNode] = {}  # stored files that were renamed away, by dataset
        self.stored: dict[tuple[Kind, int], tuple[str, StoredAs]] = {}
        self.waiting: dict[int, str] = {}  # why a batch makes no progress
        self.progress: dict[int, tuple[int, int]] = {}  # bytes sent and to be sent, by batch
        self.undurable: dict[int, LocalNode] = {}
        # where anchors were when they were written to
        self.paths: LRUCache[Anchor, str] = LRUCache(_MAX_PATHS)
        self.refusals: set[str] = set()  # reasons that concern all files of a would-be batch
        self._load()

    def close(self) -> None:
        """Note everything and close the journal. Nobody drives batches any more."""
        self.closing.set()
        self.wake.set()
        self.announce_work()
        self.make_durable()
        self.journal.close()

    def fill_of(self, node: LocalNode) -> Fill:
        aside = node.aside
        assert aside is not None

        def fill(descriptor: int) -> None:
            self._fetch(aside.datafile, node.size, aside.replaces.sha1, descriptor)

        return fill

    def open_content(self, node: LocalNode, *, keeps_bytes: bool) -> Content:
        """Called with ``node.io`` held."""
        if node.fill is not None:
            grown = node.size if keeps_bytes else 0
            content = self._filled(node.fill, grown) if grown else Content(*self.spool.create())
            node.opened, node.content, node.fill, node.size = content, content.name, None, grown
            if node.id:
                with self.lock:
                    node.is_durable = False
                    self.journal.update_node(node.row())
                    self.undurable[node.id] = node
        if node.opened is None:
            assert node.content is not None
            node.opened = Content(node.content, self.spool.open(node.content))
        return node.opened

    def _filled(self, fill: Fill, size: int) -> Content:
        self.spool.grow(size)
        try:
            content = Content(*self.spool.create())
            try:
                with full_disk_as_spool_full():
                    fill(content.descriptor)
            except BaseException:
                content.close()
                self.spool.path(content.name).unlink()
                raise
        except BaseException:
            self.spool.grow(-size)
            raise
        return content

    def make_durable(self) -> None:
        """Make everything that was closed survive a power cut."""
        with self.lock:
            nodes = list(self.undurable.values())
        if nodes:
            self.sync_nodes(nodes)
        else:
            self.journal.barrier()
        self.journal.checkpoint()

    def sync_nodes(self, nodes: Iterable[LocalNode]) -> None:
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
        with self.lock:
            still = [
                (node, name)
                for node, name, changes in synced
                if node.is_whole and node.content == name and node.changes == changes
            ]
            for node, _ in still:
                node.is_durable = True
                self.undurable.pop(node.id, None)
            self.journal.set_durable([(node.id, name) for node, name in still])
        self.journal.barrier()

    def announce_work(self) -> None:
        """Wake who waits for work."""
        with self.work:
            self.work_count += 1
            self.work.notify_all()

    def locked_disposition(self, upload_id: int) -> tuple[Disposition, LocalNode | None]:
        known = self.journal.upload(upload_id)
        flight = self.in_flight.get(upload_id)
        if known is None or flight is None:
            return Disposition.GONE, None
        node_id = known[1]
        if node_id is None:
            external = self.journal.is_external(flight.batch)
            return (Disposition.CURRENT if external else Disposition.GONE), None
        node = self.overlay.by_id.get(node_id)
        if node is None or node.upload != upload_id:
            return Disposition.GONE, None
        if node.is_frozen and self.locked_is_at(node_id, flight.anchor, flight.target):
            return Disposition.CURRENT, node
        return Disposition.OUTDATED, node

    def locked_is_at(self, node_id: int, anchor: Anchor, target: str) -> bool:
        node = self.overlay.by_id.get(node_id)
        if node is None:
            return False
        at, names = path_below(node)
        return at == anchor and "/".join(names) == target

    def locked_fly(self, upload: Upload, anchor: Anchor) -> None:
        anchor, target = upload.at or (anchor, upload.target)
        self._locked_note_flight(InFlight(upload.id, upload.batch, anchor, target, upload.size))

    def _locked_note_flight(self, flight: InFlight) -> None:
        self.in_flight[flight.id] = flight
        self.arriving.setdefault((flight.anchor, flight.target.rpartition("/")[2]), []).append(flight.id)

    def locked_is_arriving(self, anchor: Anchor, target: str) -> bool:
        """Tell whether something is on its way to the very place *target* below *anchor*."""
        candidates = self.arriving.get((anchor, target.rpartition("/")[2]), ())
        return any(self.in_flight[upload].target == target for upload in candidates)

    def locked_land(self, upload: Upload) -> None:
        if upload.id in self.in_flight:
            self._locked_forget_flight(upload.id)
            self.overlay.unhide(upload.replaces)

    def locked_fly_on(self, upload: int, anchor: Anchor, target: str) -> None:
        """The local file of an upload is elsewhere, because a directory above it became a folder of the server."""
        self._locked_note_flight(replace(self._locked_forget_flight(upload), anchor=anchor, target=target))

    def _locked_forget_flight(self, upload: int) -> InFlight:
        flight = self.in_flight.pop(upload)
        key = (flight.anchor, flight.target.rpartition("/")[2])
        rest = [other for other in self.arriving.get(key, ()) if other != upload]
        if rest:
            self.arriving[key] = rest
        else:
            self.arriving.pop(key, None)
        return flight

    def locked_remember(self, kind: Kind, object_id: int, as_: StoredAs, sha1: str) -> StoredRow:
        self.stored[kind, object_id] = (sha1, as_)
        return StoredRow(kind, object_id, as_.ino, as_.token, as_.mtime_ns, sha1)

    def locked_enter(self, node: LocalNode) -> None:
        """Make a new node known to the overlay and the journal."""
        place = node.parent
        if isinstance(place, LocalNode) and not self.overlay.is_there(place):
            raise NotFound(f"the directory of {node.name} is gone")
        if self.overlay.find(place, node.name) is not None:
            raise AlreadyExists(f"{node.name} exists already")
        node.id = self.journal.add_node(node.row())
        self.overlay.add(node)
        self.overlay.hide(node.takes_place_of)
        if node.aside is None and node.takes_place_of is not None:
            self.locked_succeed(node, node.takes_place_of)
        self.locked_touch(path_below(node)[0])

    def locked_succeed(self, node: LocalNode, replaces: Replaced) -> None:
        """If what *node* takes the place of was renamed away, the duty to remove it passes to *node*."""
        before = self.asides.get(replaces.dataset)
        if before is not None and before is not node and before.takes_place_of is not None:
            node.successor_of = before
            self.overlay.unhide(before.takes_place_of)
            before.takes_place_of = None
            self.journal.update_node(before.row())

    def locked_take_off(self, node: LocalNode) -> None:
        """Take *node* out of memory and its bytes out of the spool; the journal has forgotten it.

        Who has it open keeps the bytes until the last handle is closed.
        """
        self.overlay.remove(node)
        self.overlay.unhide(node.takes_place_of)
        if node.aside is not None:
            if self.asides.get(node.aside.replaces.dataset) is node:
                del self.asides[node.aside.replaces.dataset]
            node.aside = None  # a successor stands for the stored file by itself now
        before = node.successor_of
        if before is not None and before.aside is not None and node.takes_place_of is not None:
            before.takes_place_of = node.takes_place_of  # it stands for the stored file again
            self.overlay.hide(before.takes_place_of)
            self.journal.update_node(before.row())
        self.undurable.pop(node.id, None)
        if node.content is not None and not node.handles:
            self.drop_content(node.content, is_shared=node.is_frozen)
        self.locked_touch(path_below(node)[0])

    def drop_content(self, content: str, *, is_shared: bool) -> None:
        """Remove a file of the spool, unless it *is_shared* with an upload that is not done with."""
        if not is_shared or not self.journal.carries(content):
            self.spool.remove(content)

    def locked_touch(self, anchor: Anchor) -> None:
        self.activity[anchor] = self.clock.monotonic()

    def locked_clear_error(self, error: str) -> None:
        """A file that had failed is being changed: it will be tried again, and those that failed with it."""
        if error in self.refusals:
            self.refusals.discard(error)
            for node in self.overlay.everything():
                if node.error == error:
                    node.error = ""
                    self.journal.update_node(node.row())

    def new_node(self, place: Place, name: str, *, is_directory: bool) -> LocalNode:
        token = uuid.uuid4().hex
        return LocalNode(0, place, name, is_directory, inode_of(token), token, self.wall_ns())

    def _load(self) -> None:
        """Take up what the journal knows."""
        rows = self.journal.nodes()
        nodes = {row.id: _node_of(row) for row in rows}
        for row in rows:
            node = nodes[row.id]
            if row.parent is not None:
                node.parent = nodes[row.parent]
            self.overlay.add(node)
            self.overlay.hide(node.takes_place_of)
            if node.aside is not None:
                node.fill = self.fill_of(node) if node.content is None else None
                self.asides[node.aside.replaces.dataset] = node
        for node in nodes.values():
            replaced = node.takes_place_of
            before = None if replaced is None else self.asides.get(replaced.dataset)
            if before is not None and before is not node:
                node.successor_of = before
        travelling = set()
        with self.lock:
            for batch in self.journal.batches():
                for upload in self.journal.uploads(batch.id, unsettled=True):
                    self.locked_fly(upload, batch.anchor)
                    self.overlay.hide(upload.replaces)
                    owner = self.journal.upload(upload.id)
                    maker = nodes.get((owner[1] if owner else None) or 0)
                    travelling.add(upload.content.name)
                    if (
                        maker is not None
                        and upload.target == batch.import_file
                        and maker.mtime_ns == upload.mtime_ns
                    ):
                        maker.is_frozen = True  # what is sent of it is another content
                for node_id in self.journal.consumed(batch.id):
                    self.consumed[node_id] = batch.id
                transfers = self.journal.transfers(batch.id)
                if transfers:
                    sent = sum(transfer.acknowledged_bytes for transfer in transfers)
                    self.progress[batch.id] = sent, sum(transfer.size for transfer in transfers)
            for row_stored in self.journal.stored():
                as_ = StoredAs(row_stored.ino, row_stored.mtime_ns, row_stored.token)
                self.stored[row_stored.kind, row_stored.id] = (row_stored.sha1, as_)
            for node in nodes.values():
                node.is_frozen = node.is_frozen or node.content in travelling
                if node.upload not in self.in_flight:
                    node.upload = None
                if node.is_whole and not node.is_durable and not node.is_directory:
                    self.undurable[node.id] = node
            for anchor in self.overlay.roots:
                self.locked_touch(anchor)

    def _check(self) -> None:
        for anchor, children in self.overlay.roots.items():
            assert children, anchor
        for node in self.overlay.everything():
            assert self.overlay.find(node.parent, node.name) is node
            assert not node.id or self.overlay.by_id.get(node.id) is node
            assert node.upload is None or node.upload in self.in_flight, node.name

    def batch_of(self, node: LocalNode) -> int | None:
        upload = node.upload
        if upload is not None:
            flight = self.in_flight.get(upload)
            return None if flight is None else flight.batch
        return self.consumed.get(node.id)

    def folder_stored_as(self, folder_id: int) -> StoredAs | None:
        """Return what a folder goes on showing that was made here; None if it was not."""
        known = self.stored.get((Kind.FOLDER, folder_id))
        return None if known is None else known[1]

    def nodes(self) -> list[LocalNode]:
        """Return all local nodes."""
        with self.lock:
            return list(self.overlay.everything())


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
