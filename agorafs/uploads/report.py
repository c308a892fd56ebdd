"""What people see of what is on its way, and what they can ask for: status, sync, retry, cancel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agorafs.client.records import Kind
from agorafs.errors import NotFound
from agorafs.uploads.nodes import LocalNode, path_below
from agorafs.uploads.sealing import describes_import
from agorafs.uploads.store import Store
from agorafs.uploads.values import Anchor, Batch, OutcomeKind, Upload


@dataclass(frozen=True, slots=True)
class Unfinished:
    """What is not verified on the server: ``open`` of the files are being written. ``failed`` has the reasons.

    ``going`` are the files but for those that were removed on their way, which are only counted.
    """

    files: int
    bytes: int
    open: int
    failed: list[tuple[LocalNode, str]]
    going: list[LocalNode]


class Report:
    """See the module docstring."""

    def __init__(self, store: Store, remove: Callable[[LocalNode], None]) -> None:
        """*remove* forgets a node: ``Uploads.remove``."""
        self._store = store
        self._remove = remove

    def is_unfinished(self, node: LocalNode) -> bool:
        """Tell whether *node* is a file that is to get to the server and has not."""
        if node.is_directory or node.borrowed_from is not None:
            return False
        if node.upload is not None or node.id in self._store.consumed:
            return True
        return not node.stays_local and not describes_import(node.name)

    def anchors(self) -> set[Anchor]:
        """Return everything in the archive below which something waits or travels."""
        store = self._store
        with store.lock:
            return {*store.overlay.roots, *(flight.anchor for flight in store.in_flight.values())}

    def unfinished(
        self,
        wanted: Callable[[LocalNode], bool] | None = None,
        wanted_anchor: Callable[[Anchor], bool] | None = None,
    ) -> Unfinished:
        """Return what of the *wanted* nodes, and of what else travels below *wanted_anchor*, is not verified."""
        with self._store.lock:
            nodes = [node for node in self._store.overlay.everything() if wanted is None or wanted(node)]
            going = [node for node in nodes if self.is_unfinished(node) and not node.error]
            directories = sum(
                node.is_directory
                and not node.stays_local
                and path_below(node)[0].kind is Kind.FOLDER
                and not any(not one.is_directory for one in self._store.overlay.walk(node))
                for node in nodes
            )
            # What was removed while it travelled is to be removed there too; what comes from outside has no node.
            with_node = {node.upload for node in self._store.overlay.everything()}
            travelling = sum(
                flight.id not in with_node and (wanted_anchor is None or wanted_anchor(flight.anchor))
                for flight in self._store.in_flight.values()
            )
            return Unfinished(
                len(going) + directories + travelling,
                sum(node.size for node in going),
                sum(node.writers > 0 for node in going),
                [(node, node.error) for node in nodes if node.error],
                going,
            )

    def retry(self, wanted: Callable[[LocalNode], bool] | None = None) -> int:
        """Let failed files travel again; return how many."""
        with self._store.lock:
            nodes = [
                node
                for node in self._store.overlay.everything()
                if node.error and (wanted is None or wanted(node))
            ]
            for node in nodes:
                node.error = ""
                node.lacks_bytes = False
                node.is_whole = node.is_whole or node.writers == 0
                self._store.journal.update_node(node.row())
                self._store.undurable[node.id] = node
                self._store.activity[path_below(node)[0]] = float("-inf")
        self._store.wake.set()
        self._store.announce_work()
        return len(nodes)

    def cancel(self, node: LocalNode) -> None:
        """Give *node* up: its bytes are dropped, what it would have taken the place of stays."""
        with self._store.lock:
            upload = node.upload
            if upload is not None:
                known = self._store.journal.upload(upload)
                if known is not None:
                    self._store.overlay.unhide(known[0].replaces)
                    self._store.journal.drop_replaces(upload)
        self._remove(node)
        self._store.announce_work()

    def batch_files(self, batch_id: int) -> list[tuple[str, Path]]:
        """Return (target path, content) of what a batch carries; the contents may go at any moment."""
        return [
            (upload.target, upload.content)
            for upload in self._store.journal.uploads(batch_id, unsettled=True)
        ]

    def batch_status(self, batch: Batch) -> dict[str, object]:
        """Return one batch, ready for JSON."""
        uploads = self._store.journal.uploads(batch.id)
        with self._store.lock:
            sent, total = self._store.progress.get(batch.id, (0, 0))
            waiting = self._store.waiting.get(batch.id, "")
        return {
            "id": batch.id,
            "anchor": f"{batch.anchor.kind.value}:{batch.anchor.id}",
            "state": batch.state.value,
            "import_id": batch.package,
            "files": len(uploads),
            "bytes": sum(upload.size for upload in uploads),
            "sent_bytes": sent,
            "total_bytes": total,
            "reason": waiting,
            "age_s": max(0, round(self._store.wall_ns() / 1e9 - batch.created_s)),
        }

    def traffic(self) -> tuple[int, str]:
        """Return how many bytes of all batches the server has, and why the first that waits does, or nothing."""
        batches = self._store.journal.batch_ids()
        with self._store.lock:
            sent_bytes = sum(self._store.progress.get(batch, (0, 0))[0] for batch in batches)
            waiting = self._store.waiting
            return sent_bytes, next((waiting[batch] for batch in batches if waiting.get(batch)), "")

    def status(self, unfinished: Unfinished | None = None) -> dict[str, object]:
        """Return how all stands, ready for JSON; never waits. *unfinished*: of everything, if it is known."""
        unfinished = unfinished or self.unfinished()
        batches = [self.batch_status(batch) for batch in self._store.journal.batches()]
        return {
            "files": unfinished.files,
            "bytes": unfinished.bytes,
            "open": unfinished.open,
            "failed": len(unfinished.failed),
            "waiting": self.traffic()[1],
            "batches": batches,
            "spool_bytes": self._store.spool.used_bytes,
            "salvaged": str(self._store.spool.salvage) if self._store.spool.salvage.exists() else "",
        }

    def nodes(self) -> list[LocalNode]:
        """Return all local nodes."""
        return self._store.nodes()

    def arrived(self, batch_id: int) -> list[tuple[str, int, str, int]]:
        """Return (target path, size, SHA-1, dataset) of what a batch from outside the spool brought to the server.

        Raises:
            NotFound: It has not ended, or is forgotten.
        """
        ended = self._store.journal.ended(batch_id)
        if ended is None:
            raise NotFound(f"upload {batch_id} has not ended")
        return [(target, size, sha1, dataset) for target, size, sha1, dataset in ended["arrived"]]

    def upload_status(self, batch_id: int) -> dict[str, Any]:
        """Return how a batch of files from outside the spool is, also after its end.

        Raises:
            NotFound: There is and was none of this number.
        """
        ended = self._store.journal.ended(batch_id)
        if ended is not None:
            return {name: value for name, value in ended.items() if name != "arrived"}
        batch = self._store.journal.batch(batch_id)
        if batch is None:
            raise NotFound(f"there is no upload {batch_id}")
        uploads = self._store.journal.uploads(batch_id)
        status = self.batch_status(batch)
        return {
            **summary_of(uploads),
            "state": batch.state.value,
            "import_id": batch.package,
            "waiting": status["reason"],
            "sent_bytes": status["sent_bytes"],
        }


def summary_of(uploads: Sequence[Upload]) -> dict[str, object]:
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
        "arrived": [[upload.target, upload.size, upload.sha1, outcome.dataset] for upload, outcome in good],
    }
