"""What sender and settler need to know of local files, and what they tell: the side of the batches.

What the user does to a file while it travels is looked at when it has arrived: ``disposition``. ``settled`` says what
follows, in one transaction, and only if the user has done nothing more in between.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Mapping, Sequence

from agorafs.client.records import Kind
from agorafs.uploads.journal_rows import NodeRow, StoredRow
from agorafs.uploads.nodes import LocalNode, StoredAs, path_below
from agorafs.uploads.report import summary_of
from agorafs.uploads.store import Store
from agorafs.uploads.values import Anchor, Batch, Disposition, Outcome, OutcomeKind, Replaced, Upload

log = logging.getLogger(__name__)


class Arrivals:
    """See the module docstring."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.closing = store.closing

    def folder_stored_as(self, folder_id: int) -> StoredAs | None:
        """Return what a folder goes on showing that was made here; None if it was not."""
        return self._store.folder_stored_as(folder_id)

    def runnable(self) -> list[int]:
        """Return the numbers of all batches, the oldest first."""
        return self._store.journal.batch_ids()

    def wait_for_work(self, timeout_s: float) -> None:
        """Return when there is something new to do, or at the latest after *timeout_s*."""
        with self._store.work:
            seen = self._store.work_count
            self._store.work.wait_for(
                lambda: self._store.work_count != seen or self._store.closing.is_set(), timeout_s
            )

    def note_wait(self, batch_id: int, reason: str | None) -> None:
        """Note why a batch makes no progress; None: it does."""
        with self._store.lock:
            if reason is None:
                self._store.waiting.pop(batch_id, None)
            else:
                self._store.waiting[batch_id] = reason

    def note_progress(self, batch_id: int, sent_bytes: int, total_bytes: int) -> None:
        """Note how much of a batch the server has acknowledged."""
        with self._store.lock:
            self._store.progress[batch_id] = (sent_bytes, total_bytes)

    def disposition(self, upload_id: int) -> Disposition:
        """Return what the user did, since, to the file that an upload was made of."""
        with self._store.lock:
            return self._store.locked_disposition(upload_id)[0]

    def settled(
        self, upload_id: int, seen: Disposition, outcome: Outcome, said: Mapping[str, str] | None = None
    ) -> bool:
        """An upload is done with; what that means for its node follows from *seen* and *outcome*.

        *said* is what was said of the stored file, as far as the local one has it to be said.

        Returns:
            False when the user has done something meanwhile: look again at ``disposition``.
        """
        with self._store.lock:
            first = self._store.locked_disposition(upload_id)[1]
        with first.io if first is not None else contextlib.nullcontext(), self._store.lock:
            disposition, node = self._store.locked_disposition(upload_id)
            if disposition is not seen or node is not first:
                return False
            known = self._store.journal.upload(upload_id)
            if known is None:
                return True
            upload = known[0]
            if node is None:
                self._store.journal.settle(upload_id, outcome)
            elif outcome.kind is OutcomeKind.FAILED:
                self._locked_failed(node, upload, outcome)
            elif disposition is Disposition.CURRENT and not self._locked_is_astray(upload, outcome):
                if self._store.journal.said(node.id) != dict(said or {}):
                    return False
                self._locked_arrived(node, upload, outcome)
            else:
                self._locked_superseded(node, upload, outcome)
            self._store.locked_land(upload)
            return True

    def _locked_is_astray(self, upload: Upload, outcome: Outcome) -> bool:
        """Tell whether it arrived elsewhere than where its local file is: that folder was renamed meanwhile."""
        flight = self._store.in_flight.get(upload.id)
        return (
            upload.at is not None
            and flight is not None
            and outcome.kind is OutcomeKind.FILED
            and "/" not in flight.target
            and outcome.folder != flight.anchor.id
        )

    def _locked_failed(self, node: LocalNode, upload: Upload, outcome: Outcome) -> None:
        """The node keeps its bytes and what it takes the place of, and says why."""
        node.upload = None
        node.is_frozen = self._store.journal.carries(node.content, but=upload.id)
        node.error = outcome.reason
        if upload.replaces is not None and node.takes_place_of is None:
            node.takes_place_of = upload.replaces
            self._store.overlay.hide(upload.replaces)
        self._store.journal.settle(upload.id, outcome, node=node.row())

    def _locked_arrived(self, node: LocalNode, upload: Upload, outcome: Outcome) -> None:
        """The server has it: the node gives way to what the server lists."""
        stored = None
        if outcome.kind is OutcomeKind.FILED and outcome.datafile is not None:
            as_ = StoredAs(node.ino, node.mtime_ns, node.token)
            stored = self._store.locked_remember(Kind.DATAFILE, outcome.datafile, as_, upload.sha1 or "")
        self._store.journal.settle(upload.id, outcome, gone=node.id, stored=stored)
        self._store.overlay.by_id.pop(node.id, None)
        node.id = 0
        node.upload = None
        single = outcome.dataset is not None and outcome.item is not None and outcome.is_whole_dataset
        if node.writers and outcome.kind is OutcomeKind.FILED and single:
            # Somebody may still write: then it takes the place of what was just stored.
            assert outcome.dataset is not None and outcome.item is not None
            node.borrowed_from = Replaced(outcome.dataset, outcome.item, upload.sha1 or "")
        else:
            self._store.overlay.remove(node)
            node.is_archived = True

    def _locked_superseded(self, node: LocalNode, upload: Upload, outcome: Outcome) -> None:
        """The server has an older version: the node will take its place."""
        flight = self._store.in_flight[upload.id]
        # What was there before may be replaced under its own name only.
        is_ours = outcome.created or self._store.locked_is_at(node.id, flight.anchor, flight.target)
        node.upload = None
        # When it was only renamed, its bytes are needed once more, by others perhaps, too.
        node.is_frozen = self._store.journal.carries(node.content, but=upload.id)
        if (
            outcome.kind is OutcomeKind.FILED
            and outcome.dataset is not None
            and outcome.item is not None
            and outcome.is_whole_dataset
            and is_ours
        ):
            node.takes_place_of = Replaced(outcome.dataset, outcome.item, upload.sha1 or "")
            self._store.overlay.hide(node.takes_place_of)
        self._store.journal.settle(upload.id, outcome, node=node.row())
        self._store.locked_touch(path_below(node)[0])

    def fail_batch(self, batch_id: int, reason: str) -> None:
        """Every upload of a batch that is not done with has failed; the files stay, with the reason."""
        log.warning("an upload has failed: %s", reason)
        outcome = Outcome(OutcomeKind.FAILED, reason=reason)
        for upload in self._store.journal.uploads(batch_id, unsettled=True):
            while not self.settled(upload.id, self.disposition(upload.id), outcome):
                pass
        self.finish(batch_id, {})

    def is_abandoned(self, batch_id: int) -> bool:
        """Tell whether nobody wants anything of a batch any more."""
        journal = self._store.journal
        return not journal.is_external(batch_id) and journal.is_abandoned(batch_id)

    def abandon(self, batch_id: int) -> None:
        """Forget a batch that nobody wants."""
        for upload in self._store.journal.uploads(batch_id, unsettled=True):
            outcome = Outcome(OutcomeKind.FAILED, reason="cancelled")
            while not self.settled(upload.id, self.disposition(upload.id), outcome):
                pass
        self.finish(batch_id, {})

    def empty_directories(self, batch_id: int) -> list[str]:
        """Return the target paths of the batch's directories without a file below, parents first."""
        full = _directories_above(upload.target for upload in self._store.journal.uploads(batch_id))
        with self._store.lock:
            return [
                target
                for node_id, target in self._store.journal.directories(batch_id)
                if node_id in self._store.overlay.by_id
                and target not in full
                and not any(
                    not one.is_directory
                    for one in self._store.overlay.walk(self._store.overlay.by_id[node_id])
                )
            ]

    def removed_directories(self, batch_id: int) -> list[str]:
        """Return the target paths of directories that were removed or renamed since, the deepest first."""
        batch = self._store.journal.batch(batch_id)
        assert batch is not None
        with self._store.lock:
            gone = [
                target
                for node_id, target in self._store.journal.directories(batch_id)
                if not self._store.locked_is_at(node_id, batch.anchor, target)
            ]
        return sorted(gone, key=lambda target: -target.count("/"))

    def was_made_here(self, folder_id: int) -> bool:
        """Tell whether a server folder is what a local directory has become, in this batch or another."""
        with self._store.lock:
            return (Kind.FOLDER, folder_id) in self._store.stored

    def become_folders(self, batch_id: int, folders: Mapping[str, int]) -> None:
        """Let directories of a batch give way to the server's folders, with all that is still local in them.

        To be said before their files are done with, and after their listings can be had: a file that leaves a
        directory which only shows what is local would be seen by nobody until ``finish``.

        Args:
            folders: Directories of the batch by target path, each with what arrived in it. Of those only the ones go
                that leave no other directory of the batch behind.
        """
        batch = self._store.journal.batch(batch_id)
        if batch is None:
            return
        targets = [target for _, target in self._store.journal.directories(batch_id)]
        kept = _directories_above(target for target in targets if target not in folders)
        whole = {target: folder for target, folder in folders.items() if target not in kept}
        with self._store.lock:
            gone, moved, stored = self._locked_take_directories(batch, whole, ())
            if gone:
                travelling = self._locked_fly_on(batch, whole, gone, with_own=True)
                self._store.journal.become_folders(
                    nodes=moved, gone=gone, stored=stored, travelling=travelling
                )

    def finish(self, batch_id: int, folders: Mapping[str, int]) -> None:
        """Forget a batch, all of whose uploads are done with.

        Args:
            folders: The directories of the batch that are folders of the server now, by target path.
        """
        uploads = self._store.journal.uploads(batch_id)
        batch = self._store.journal.batch(batch_id)
        if batch is None:
            return
        has_failed = any(
            upload.outcome is not None and upload.outcome.kind is OutcomeKind.FAILED for upload in uploads
        )
        with self._store.lock:
            gone, moved, stored = self._locked_take_directories(batch, folders, uploads)
            travelling = self._locked_fly_on(batch, folders, gone)
            for node_id, of_batch in list(self._store.consumed.items()):
                if of_batch == batch_id:
                    del self._store.consumed[node_id]
                    node = self._store.overlay.by_id.get(node_id)
                    if node is not None and not has_failed:
                        self._store.overlay.remove(node)
                        gone.append(node_id)
                        if node.content is not None:
                            self._store.spool.remove(node.content)
            summary = None
            if self._store.journal.is_external(batch_id):
                summary = {
                    **summary_of(uploads), "state": "ended", "import_id": batch.package, "waiting": "",
                }  # fmt: skip
            self._store.journal.end_batch(
                batch_id, nodes=moved, gone=gone, stored=stored, travelling=travelling, summary=summary
            )
            kept = {
                self._store.spool.path(node.content)
                for node in self._store.overlay.by_id.values()
                if node.content
            }
            self._store.waiting.pop(batch_id, None)
            self._store.progress.pop(batch_id, None)
            self._store.locked_touch(batch.anchor)
        for upload in uploads:  # nobody can come to share one of these any more
            if upload.content.parent == self._store.spool.contents and upload.content not in kept:
                self._store.drop_content(upload.content.name, is_shared=True)
        self._store.announce_work()

    def _locked_take_directories(
        self, batch: Batch, folders: Mapping[str, int], uploads: Sequence[Upload]
    ) -> tuple[list[int], list[NodeRow], list[StoredRow]]:
        """Let local directories give way to the server's folders; return (gone, moved, stored)."""
        gone: list[int] = []
        moved: list[NodeRow] = []
        stored: list[StoredRow] = []
        # What is part of a study, or was filed higher up, takes its directory along; what failed does not.
        left = _directories_above(
            upload.target
            for upload in uploads
            if upload.outcome is not None and upload.outcome.kind is not OutcomeKind.FAILED
        )
        for node_id, target in reversed(self._store.journal.directories(batch.id)):  # the deepest first
            if not self._store.locked_is_at(node_id, batch.anchor, target):
                continue
            node = self._store.overlay.by_id[node_id]
            folder = folders.get(target)
            if folder is not None:
                anchor = Anchor(Kind.FOLDER, folder)
                for child in list(node.children.values()):
                    self._store.overlay.remove(child)
                    child.parent = anchor
                    self._store.overlay.add(child)
                    if child.id:
                        moved.append(child.row())
                    self._store.locked_touch(anchor)
                as_ = StoredAs(node.ino, node.mtime_ns, node.token)
                stored.append(self._store.locked_remember(Kind.FOLDER, folder, as_, ""))
            elif node.children or target not in left:
                continue  # something of it is still here, or the archive can not hold it
            self._store.overlay.remove(node)
            gone.append(node.id)
        removed = set(gone)
        return gone, [row for row in moved if row.id not in removed], stored

    def _locked_fly_on(
        self, batch: Batch, folders: Mapping[str, int], gone: Sequence[int], *, with_own: bool = False
    ) -> list[tuple[int, Anchor, str]]:
        """Let other uploads know where their local files are, whose directories became folders of the server.

        *with_own*: those of the batch too, which goes on.
        """
        those_gone = set(gone)
        dissolved = {
            target: folders[target]
            for node_id, target in self._store.journal.directories(batch.id)
            if node_id in those_gone and target in folders
        }
        moved = []
        for upload, flight in list(self._store.in_flight.items()) if dissolved else ():
            if flight.anchor == batch.anchor and (with_own or flight.batch != batch.id):
                for directory in reversed(_parents(flight.target)):
                    if directory in dissolved:
                        anchor = Anchor(Kind.FOLDER, dissolved[directory])
                        target = flight.target[len(directory) + 1 :]
                        self._store.locked_fly_on(upload, anchor, target)
                        moved.append((upload, anchor, target))
                        break
        return moved


def _parents(target: str) -> list[str]:
    """Return the directories on the way to *target*, the outermost first."""
    parts = target.split("/")[:-1]
    return ["/".join(parts[: count + 1]) for count in range(len(parts))]


def _directories_above(targets: Iterable[str]) -> set[str]:
    return {directory for target in targets for directory in _parents(target)}
