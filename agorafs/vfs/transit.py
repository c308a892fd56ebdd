"""What is on its way to the server, asked for by paths: for ``agorafs sync``, ``retry``, ``cancel``, ``upload``.

Local files hang below objects of the archive, people name paths. Here one becomes the other. Where an object lies is
learnt from the archive (``Tree.locate``) and kept for a while; ``status``, which must never wait, shows what is known
and has the rest looked up in the background.

Threads.  Every method may be called from any thread. ``_lock`` guards ``_places``; it is a leaf.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import threading
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from cachetools import TTLCache

from agorafs.cache.workers import Workers
from agorafs.client.records import Datafile, Dataset, RemoteRef
from agorafs.errors import (
    AgoraFSError,
    BadCommand,
    IsADirectory,
    NotADirectory,
    NotFound,
    RemoteError,
)
from agorafs.tree.tree import Node, Tree
from agorafs.uploads.journal import Journal
from agorafs.uploads.nodes import LocalNode, path_below
from agorafs.uploads.report import Report
from agorafs.uploads.sealer import Sealer
from agorafs.uploads.spool import Spool
from agorafs.uploads.uploads import Uploads
from agorafs.uploads.values import Anchor
from agorafs.vfs import rules
from agorafs.vfs.merged import Found, Local, Merged

_KEPT_S = 60.0
_MAX_PLACES = 10_000
_MAX_NAMED = 20
_HASH_BYTES = 1 << 20
_IMPORT_NAME = "upload.agora-import.json"


class Datasets(Protocol):
    """What verifying asks of the archive: ``client.Client``."""

    def dataset(self, dataset_id: int) -> Dataset: ...
    def dataset_datafiles(self, dataset_id: int) -> list[Datafile]: ...


class Transit:
    """See the module docstring."""

    def __init__(
        self,
        tree: Tree,
        merged: Merged,
        uploads: Uploads,
        report: Report,
        sealer: Sealer,
        journal: Journal,
        spool: Spool,
        datasets: Datasets,
        *,
        fill_import: Callable[[bytes, Sequence[str]], bytes | None],
        unfinished_removals: Callable[[], int],
    ) -> None:
        """*unfinished_removals* tells how many files are still to be removed from the server."""
        self._tree = tree
        self._merged = merged
        self._uploads = uploads
        self._report = report
        self._sealer = sealer
        self._journal = journal
        self._spool = spool
        self._datasets = datasets
        self._fill_import = fill_import
        self._unfinished_removals = unfinished_removals
        self._lookers = Workers("places", 1)
        self._lock = threading.Lock()
        self._places: TTLCache[Anchor, tuple[str, ...]] = TTLCache(_MAX_PLACES, _KEPT_S)

    # -- asked ---------------------------------------------------------------------------------------

    def seal(self, path: str | None) -> None:
        """Let what is closed at and below *path* travel now."""
        wanted = self._wanted(path)
        anchors = {path_below(node)[0] for node in self._report.nodes() if wanted is None or wanted(node)}
        self._sealer.sync_seal(anchors.__contains__)

    def unfinished(self, path: str | None) -> dict[str, Any]:
        """Return what at and below *path* is not verified on the server, ready for JSON."""
        unfinished = self._report.unfinished(self._wanted(path), self._wanted_anchors(path).__contains__)
        sent_bytes, waiting = self._report.traffic()
        return {
            "files": unfinished.files + self._unfinished_removals(),
            "bytes": unfinished.bytes,
            "sent_bytes": sent_bytes,
            "open": unfinished.open,
            "waiting": waiting,
            "failed": [{"path": self._path_of(node), "reason": reason} for node, reason in unfinished.failed],
            "paths": [self._path_of(node) for node in unfinished.going[:_MAX_NAMED]],
            "open_paths": [self._path_of(node) for node in unfinished.going if node.writers][:_MAX_NAMED],
        }

    def retry(self, path: str | None) -> int:
        """Let failed files at and below *path* travel again; return how many."""
        return self._report.retry(self._wanted(path))

    def cancel(self, path: str) -> int:
        """Give up what at and below *path* is not on the server; return how many files.

        Raises:
            NotFound: There is nothing local at and below *path*.
        """
        wanted = self._wanted(path)
        nodes = [node for node in self._report.nodes() if wanted is None or wanted(node)]
        files = [node for node in nodes if not node.is_directory and node.borrowed_from is None]
        if not files:
            raise NotFound(f"{path}: nothing there waits for the server")
        for node in files:
            self._report.cancel(node)
        return len(files)

    def status(self) -> dict[str, Any]:
        """Return how all stands, ready for JSON; never waits."""
        unfinished = self._report.unfinished()
        status = self._report.status(unfinished)
        batches: Any = status["batches"]
        shown = []
        for batch in batches:
            known = self._journal.batch(batch["id"])
            where = batch["anchor"] if known is None else self._known_text(known.anchor)
            shown.append({**batch, "where": where})
        problems = [
            {"path": self._known_path_of(node), "reason": reason} for node, reason in unfinished.failed
        ]
        return {**status, "batches": shown, "problems": problems}

    # -- upload --------------------------------------------------------------------------------------

    def upload(
        self,
        files: Sequence[tuple[str, str]],
        destination: str,
        *,
        import_json: Mapping[str, Any] | None,
        relations: Mapping[str, Sequence[str]] | None,
    ) -> dict[str, int]:
        """Take *files*, pairs of a local path and the path below *destination*, into the journal.

        What is there already, with the same bytes, is skipped; what is on its way there is joined.

        Raises:
            NotFound, NotADirectory, PermissionDenied: *destination* can not take files.
            BadCommand: *relations* name something else than these files.
        """
        found = self._merged.resolve(_parts(destination))
        if isinstance(found, Local):
            raise NotADirectory(f"{destination} is not on the server yet: run agorafs sync first")
        if not found.entry.is_directory:
            raise NotADirectory(f"{destination} is not a directory")
        anchor = rules.place_in(found)
        assert isinstance(anchor, Anchor)
        wanted = [(Path(path), target) for path, target in files]
        checked = _checked_relations(relations, [target for _, target in files])
        to_send = wanted
        if import_json is None and checked is None:
            to_send = [(path, target) for path, target in wanted if not self._is_there(found, path, target)]
        import_file = None
        if import_json is not None:
            import_file = _IMPORT_NAME
            content = json.dumps(import_json).encode()
            content = self._fill_import(content, [target for _, target in files]) or content
            to_send = [*to_send, (self._spool.keep(content), import_file)]
        number = self._sealer.enqueue(anchor, to_send, import_file=import_file, relations=checked)
        return {
            "upload": number,
            "files": len(wanted),
            "bytes": sum(path.stat().st_size for path, _ in wanted),
            "skipped": len(wanted) - len(to_send) + (import_file is not None),
        }

    def upload_status(self, upload: int) -> dict[str, Any]:
        """Return how an upload is, also after its end."""
        return self._report.upload_status(upload)

    def verify_upload(self, upload: int) -> list[dict[str, str]]:
        """Ask the server for every file of an upload that has ended; return those not there, and why."""
        missing = []
        datasets: dict[int, list[Datafile]] = {}
        for target, size, sha1, dataset in self._report.arrived(upload):
            reason = ""
            try:
                if dataset not in datasets:
                    known = self._datasets.dataset(dataset)
                    datasets[dataset] = list(known.datafiles or self._datasets.dataset_datafiles(dataset))
                if not any(one.sha1 == sha1 and one.size == size for one in datasets[dataset]):
                    reason = f"dataset {dataset} has no file of this size and SHA-1"
            except RemoteError:
                raise
            except AgoraFSError as error:
                reason = str(error)
            if reason:
                missing.append({"path": target, "reason": reason})
        return missing

    def where(self, anchor: Anchor) -> str | None:
        """Return the path of *anchor*, None while it is not known; never waits."""
        text = self._known_text(anchor)
        return text if text.startswith("/") else None

    def close(self) -> None:
        """End the background look-ups."""
        self._lookers.close()

    # -- how -----------------------------------------------------------------------------------------

    def _is_there(self, directory: Node, path: Path, target: str) -> bool:
        """Tell whether the archive has these bytes under this name already."""
        found: Found = directory
        try:
            for name in target.split("/"):
                found = self._merged.child(found, name)
        except (NotFound, NotADirectory, IsADirectory):
            return False
        datafile = None if isinstance(found, Local) else found.entry.target
        if not isinstance(datafile, Datafile) or datafile.size != path.stat().st_size:
            return False
        return _sha1_of(path) == datafile.sha1

    def _wanted(self, path: str | None) -> Callable[[LocalNode], bool] | None:
        """Return which local nodes lie at and below *path*; None means all. May ask the archive."""
        if path is None or path == "/":
            return None
        parts = tuple(_parts(path))
        # Now, because this may ask the archive, and nodes are looked at under a lock.
        places = {anchor: self._place(anchor) for anchor in self._report.anchors()}

        def is_wanted(node: LocalNode) -> bool:
            anchor, names = path_below(node)
            place = places.get(anchor)
            # Where the archive does not tell where something lies, it is rather waited for than overlooked.
            return place is None or (*place, *names)[: len(parts)] == parts

        return is_wanted

    def _wanted_anchors(self, path: str | None) -> set[Anchor]:
        """Return the anchors at, below and above *path*; those too of which the archive does not tell."""
        parts = tuple(_parts(path or ""))
        found = set()
        for anchor in self._report.anchors():
            place = self._place(anchor) if parts else None
            if place is None or all(one == other for one, other in zip(place, parts, strict=False)):
                found.add(anchor)
        return found

    def _place(self, anchor: Anchor) -> tuple[str, ...] | None:
        with self._lock:
            place: tuple[str, ...] | None = self._places.get(anchor)
        if place is None:
            with contextlib.suppress(AgoraFSError):
                place = self._tree.locate(RemoteRef(anchor.kind, anchor.id))
                with self._lock:
                    self._places[anchor] = place
        if place is None and (noted := self._uploads.path_of(anchor)) is not None:
            return tuple(_parts(noted))
        return place

    def _learn_place(self, anchor: Anchor) -> None:
        self._place(anchor)

    def _path_of(self, node: LocalNode) -> str:
        anchor, _ = path_below(node)
        if self._uploads.path_of(anchor) is None:  # else nobody waits for a server that is away
            self._place(anchor)
        return self._known_path_of(node)

    def _known_path_of(self, node: LocalNode) -> str:
        anchor, names = path_below(node)
        return "/".join((self._known_text(anchor), *names))

    def _known_text(self, anchor: Anchor) -> str:
        with self._lock:
            place = self._places.get(anchor)
        if place is None:
            noted = self._uploads.path_of(anchor)
            if noted is not None:
                return noted
            self._lookers.submit(functools.partial(self._learn_place, anchor))
            return _text(anchor)
        return "/" + "/".join(place)


def _text(anchor: Anchor) -> str:
    return f"{anchor.kind.value} {anchor.id}"


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part]


def _sha1_of(path: Path) -> str:
    digest = hashlib.sha1(usedforsecurity=False)
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
        while piece := file.read(_HASH_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def _checked_relations(
    relations: Mapping[str, Sequence[str]] | None, targets: Sequence[str]
) -> dict[str, list[str]] | None:
    """Return *relations* in the words of *targets*."""
    if relations is None:
        return None
    known = {unicodedata.normalize("NFC", target): target for target in targets}

    def find(path: str) -> str:
        target = known.get(unicodedata.normalize("NFC", path))
        if target is None:
            raise BadCommand(f"the relations name {path}, which is not among the files")
        return target

    checked = {find(main): [find(other) for other in others] for main, others in relations.items()}
    related = [other for others in checked.values() for other in others]
    twice = next((other for other in related if related.count(other) > 1), None)
    if twice is not None:
        raise BadCommand(f"the relations name {twice} twice; a file can be related to one file only")
    return checked
