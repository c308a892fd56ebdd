"""Files that were removed one by one from a dataset that the archive can only delete as a whole.

Why.  ``rm -r`` of a dataset's directory removes its files first. The archive has no call for that, so a removed file
is only hidden; when the last one is removed, the dataset is deleted. Its directory is shown, empty, until it is
removed too: ``rm -r`` calls it an error when the directory that it has just emptied is gone.

Failure.  A dataset that has not lost its last file ``GRACE_S`` after the latest removal is shown whole again, and the
reason is noted: what looks deleted must not stay on the server for ever.

Threads.  ``_lock`` guards ``_parts``; it is a leaf.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from agorafs.client.records import Datafile, Dataset
from agorafs.clock import Clock
from agorafs.errors import AgoraFSError, PermissionDenied
from agorafs.tree.listing import Area, DirEntry, DirKey
from agorafs.tree.tree import Node

GRACE_S = 60.0


@dataclass(slots=True)
class _Partly:
    """A dataset that was removed in part. ``dataset`` is its directory; ``files`` has (datafile, path)."""

    dataset: Node
    expires_at: float
    files: dict[int, str] = field(default_factory=dict)
    directories: set[str] = field(default_factory=set)
    is_deleted: bool = False


class Whiteouts:
    """See the module docstring."""

    def __init__(self, clock: Clock, note: Callable[[str, AgoraFSError], None]) -> None:
        """*note* is told why a path is shown again."""
        self._clock = clock
        self._note = note
        self._lock = threading.Lock()
        self._parts: dict[int, _Partly] = {}

    def hides(self, directory: Node, entry: DirEntry) -> bool:
        """Tell whether *entry* of *directory* was removed."""
        if not self._parts or not isinstance(directory.entry.target, DirKey):
            return False
        key = directory.entry.target
        if key.area is not Area.DATASET:
            return False
        partly = self._fresh(key.id)
        if partly is None:
            return False
        if isinstance(entry.target, Datafile):
            return entry.target.id in partly.files
        return isinstance(entry.target, DirKey) and entry.target.inner in partly.directories

    def deleted(self, directory: Node, name: str) -> Node | None:
        """Return the directory of a dataset that was *name* in *directory*, has been deleted, and is empty."""
        for dataset_id in list(self._parts):
            partly = self._fresh(dataset_id)
            if partly is not None and partly.is_deleted and partly.dataset.entry.name == name:
                parent = partly.dataset.parent
                if parent is not None and parent.entry.target == directory.entry.target:
                    return partly.dataset
        return None

    def hide_file(self, dataset: Node, datafile: int, path: str) -> frozenset[int]:
        """Hide a file of the directory *dataset*; return all that are hidden."""
        with self._lock:
            partly = self._locked_of(dataset)
            partly.files[datafile] = path
            return frozenset(partly.files)

    def hide_directory(self, dataset: Node, inner: str) -> None:
        """Hide a directory inside a dataset; it is empty."""
        with self._lock:
            self._locked_of(dataset).directories.add(inner)

    def note_deleted(self, dataset: Node) -> None:
        """The archive has deleted the dataset."""
        with self._lock:
            self._locked_of(dataset).is_deleted = True

    def is_deleted(self, dataset_id: int) -> bool:
        """Tell whether the dataset was deleted, and its directory not yet."""
        partly = self._fresh(dataset_id)
        return partly is not None and partly.is_deleted

    def forget(self, dataset_id: int) -> None:
        """Show the dataset as the archive has it."""
        with self._lock:
            self._parts.pop(dataset_id, None)

    def _locked_of(self, dataset: Node) -> _Partly:
        key = dataset.entry.target
        assert isinstance(key, DirKey)
        partly = self._parts.get(key.id)
        if partly is None:
            partly = self._parts[key.id] = _Partly(dataset, 0.0)
        partly.expires_at = self._clock.monotonic() + GRACE_S
        return partly

    def _fresh(self, dataset_id: int) -> _Partly | None:
        """Return what is known of a dataset, unless its time is over."""
        now = self._clock.monotonic()
        with self._lock:
            partly = self._parts.get(dataset_id)
            if partly is None or now < partly.expires_at:
                return partly
            del self._parts[dataset_id]
        if not partly.is_deleted:
            for path in partly.files.values():
                self._note(path, _shown_again(partly.dataset))
        return None


def _shown_again(dataset: Node) -> PermissionDenied:
    record = dataset.entry.record
    count = len(record.datafiles or ()) if isinstance(record, Dataset) else 0
    return PermissionDenied(
        f"the archive deletes {dataset.path} only as a whole: not all of its {count} files were removed "
        f"within {GRACE_S:.0f} s, so it is shown again"
    )
