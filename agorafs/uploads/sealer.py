"""From local files that have fallen quiet to a batch whose bytes never change again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from agorafs.errors import AgoraFSError, NotFound
from agorafs.uploads.journal_rows import NewUpload
from agorafs.uploads.nodes import LocalNode
from agorafs.uploads.sealing import Sealed, gather
from agorafs.uploads.store import Store
from agorafs.uploads.values import Anchor

log = logging.getLogger(__name__)

# Makes an import JSON without datasets name the given files; None: it is complete as it is.
FillImport = Callable[[bytes, Sequence[str]], bytes | None]


class Sealer:
    """Makes batches. *quiet_s* is how long nothing must have changed below an anchor before its files travel."""

    def __init__(self, store: Store, *, quiet_s: float, fill_import: FillImport) -> None:
        self._store = store
        self._quiet_s = quiet_s
        self._fill_import = fill_import

    def seal_quiet(self) -> None:
        """Seal a batch for each anchor below which nothing has changed for ``quiet_s``."""
        now = self._store.clock.monotonic()
        with self._store.lock:
            due = [anchor for anchor, at in self._store.activity.items() if now - at >= self._quiet_s]
        for anchor in due:
            try:
                self._seal(anchor)
            except Exception as error:
                if isinstance(error, (AgoraFSError, OSError)):
                    log.warning("what was written to %s %d can not travel yet: %s", *anchor, error)
                else:
                    log.exception("sealing a batch failed; it is tried again")
                with self._store.lock:
                    self._store.locked_touch(anchor)  # others go on, and this one is tried again later

    def sync_seal(self, wanted: Callable[[Anchor], bool] | None = None) -> None:
        """Let what is closed (below the *wanted* anchors) travel now, without waiting for quiet."""
        with self._store.lock:
            for anchor in self._store.overlay.roots:
                if wanted is None or wanted(anchor):
                    self._store.activity[anchor] = float("-inf")
        self._store.wake.set()

    def _seal(self, anchor: Anchor) -> None:
        """Make a batch of what is ready below *anchor*, unless a file there is being written."""
        with self._store.lock:
            if self._store.activity.get(anchor) is None:
                return
            seen = self._store.activity[anchor]
            asides = self._locked_needed_asides(anchor)
            undurable = [
                node
                for node in self._store.overlay.walk(anchor)
                if node.is_whole and node.id in self._store.undurable
            ]
        for node in asides:
            self._bring_back(node)
        if undurable:
            self._store.sync_nodes(undurable)
        with self._store.lock:
            if self._store.activity.get(anchor) != seen or self._locked_has_writers(anchor):
                return
            del self._store.activity[anchor]
            sealed = gather(
                self._store.overlay,
                anchor,
                is_ready=lambda node, target: self._locked_is_ready(node, anchor, target),
                read=lambda node: self._store.spool.path(node.content or "").read_bytes(),
            )
            if sealed.refused:
                self._store.refusals.add(sealed.refused)
                for node in [*sealed.files, *sealed.consumed]:
                    node.error = sealed.refused
                    self._store.journal.update_node(node.row())
                return
            if sealed.files or sealed.has_empty_directories:
                self._locked_seal(anchor, sealed)
        self._store.announce_work()

    def _locked_seal(self, anchor: Anchor, sealed: Sealed) -> None:
        uploads = []
        for node, target in zip(sealed.files, sealed.targets, strict=True):
            assert node.content is not None
            content, size = node.content, node.size
            if target == sealed.import_file:
                content, size = self._locked_filled_import(content, sealed.targets, target)
            uploads.append(NewUpload(node.id, target, size, node.mtime_ns, content, node.takes_place_of))
        batch_id = self._store.journal.seal(
            anchor,
            uploads,
            [(node.id, target) for node, target in sealed.directories],
            import_file=sealed.import_file,
            relations=sealed.relations,
            consumed=[node.id for node in sealed.consumed],
            created_s=self._store.wall_ns() / 1e9,
        )
        for upload, node in zip(self._store.journal.uploads(batch_id), sealed.files, strict=True):
            node.upload = upload.id
            node.is_frozen = True
            # The upload hides it from here on.
            node.takes_place_of = None
            node.successor_of = None
            self._store.locked_fly(upload, anchor)
        for node in sealed.consumed:
            self._store.consumed[node.id] = batch_id

    def _locked_filled_import(self, content: str, targets: Sequence[str], own: str) -> tuple[str, int]:
        """Return the content to send for an import JSON: its own, or a copy that names the batch's files."""
        text = self._store.spool.path(content).read_bytes()
        filled = self._fill_import(text, [target for target in targets if target != own])
        if filled is None:
            return content, len(text)
        return self._store.spool.keep(filled).name, len(filled)

    def _locked_is_ready(self, node: LocalNode, anchor: Anchor, target: str) -> bool:
        if self._store.locked_is_arriving(anchor, target):
            # A server that knows the bytes may give both the same dataset, and to remove the first would be to
            # remove the second.
            return False
        return (
            node.is_whole
            and not node.error
            and node.upload is None
            and node.aside is None
            and node.borrowed_from is None
            and node.id not in self._store.consumed
        )

    def _locked_has_writers(self, anchor: Anchor) -> bool:
        return any(
            node.writers and node.borrowed_from is None and not node.stays_local
            for node in self._store.overlay.walk(anchor)
        )

    def _locked_needed_asides(self, anchor: Anchor) -> list[LocalNode]:
        """Stored files under another name whose bytes must be here before a batch of *anchor* may travel."""
        nodes = list(self._store.overlay.walk(anchor))
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
            try:
                content = self._store.open_content(node, keeps_bytes=True)
            except NotFound as error:
                log.warning("%s, set aside here, was deleted on the server: %s", node.name, error)
                with self._store.lock:
                    self._store.journal.remove_nodes([node.id])
                    self._store.locked_take_off(node)
                return
            self._store.spool.sync(content.descriptor, content.name)
            self._store.spool.sync_names()
            with self._store.lock:
                node.aside = None
                node.is_durable = True
                self._store.asides.pop(aside.replaces.dataset, None)
                self._store.undurable.pop(node.id, None)
                self._store.journal.update_node(node.row())
            if not node.handles:
                content.close()
                node.opened = None

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
            # What is in the spool goes along when the spool is taken over.
            content = path.name if path.parent == self._store.spool.contents else str(path)
            uploads.append(
                NewUpload(None, target, state.st_size, state.st_mtime_ns, content, None, state.st_mtime_ns)
            )
        with self._store.lock:
            wanted = {
                (one.target, str(path), one.size, one.mtime_ns)
                for one, (path, _) in zip(uploads, files, strict=True)
            }
            for batch in self._store.journal.batches():
                if batch.anchor == anchor and self._store.journal.is_external(batch.id):
                    known = self._store.journal.uploads(batch.id)
                    if wanted == {(one.target, str(one.content), one.size, one.mtime_ns) for one in known}:
                        return batch.id
            batch_id = self._store.journal.seal(
                anchor,
                uploads,
                [],
                import_file=import_file,
                relations=relations,
                consumed=[],
                created_s=self._store.wall_ns() / 1e9,
                is_external=True,
            )
            for upload in self._store.journal.uploads(batch_id):
                self._store.locked_fly(upload, anchor)
        self._store.journal.barrier()
        self._store.announce_work()
        return batch_id
