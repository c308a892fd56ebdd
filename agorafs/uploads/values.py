"""What the parts of ``uploads`` tell each other: plain values, no behaviour, no locks.

Vocabulary
    anchor
        An existing directory of the archive below which something was written: a folder, an exam or a series.
    local node
        A file or directory that was made through this mount and is not (yet) what the archive shows.
    batch
        All that was written below one anchor until it fell quiet; it travels as one import package.
    upload
        One file of a batch: bytes that never change again, and the path that they get below the anchor.
    transfer
        What is sent in chunks under one identifier: one large file, or a zip package of small ones.

Units.  Sizes and offsets are bytes; ``*_ns`` is nanoseconds since the epoch.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from agorafs.client.records import Kind


class Anchor(NamedTuple):
    """An existing directory of the archive; ``kind`` is ``FOLDER``, ``EXAM`` or ``SERIES``."""

    kind: Kind
    id: int


class Replaced(NamedTuple):
    """A stored single-file dataset in a folder that a local file takes the place of.

    ``item`` is the folder item that shows it, ``sha1`` that of its one datafile. It is removed from the server
    only after its successor has been verified there.
    """

    dataset: int
    item: int
    sha1: str


class NodeState(str, enum.Enum):
    """What ``user.agora.state`` says of a local node, but for progress and reason."""

    LOCAL = "local"  # a temporary name, or a directory that the archive can not hold yet: stays here
    WRITING = "writing"  # open for writing
    PENDING = "pending"  # waits for its batch to fall quiet
    UPLOADING = "uploading"
    IMPORTING = "importing"
    VERIFYING = "verifying"
    STORED = "stored"
    FAILED = "failed"


class BatchState(str, enum.Enum):
    """How far a batch is; the order is that of the values. Each is entered by one commit of the journal."""

    SEALED = "sealed"  # its uploads are fixed; nothing is on the server
    UPLOADING = "uploading"  # there is an import package, and transfers with the chunks that arrived
    COMPLETING = "completing"  # every chunk has arrived; ``complete`` may or may not have been taken
    IMPORTING = "importing"  # ``complete`` has been taken
    VERIFYING = "verifying"  # the import has ended well and ``result`` is kept
    SETTLING = "settling"  # every upload has its outcome; what is left to do on the server is being done


@dataclass(frozen=True, slots=True)
class Batch:
    """``package`` is the import package's id. ``import_file`` is the target path of the import JSON."""

    id: int
    anchor: Anchor
    state: BatchState
    package: int | None
    import_file: str | None
    relations: dict[str, list[str]] | None
    result: dict[str, object] | None  # the answer of ``import/{id}/result/``, kept from VERIFYING on
    created_s: float  # wall clock


class OutcomeKind(str, enum.Enum):
    """What became of an upload."""

    FILED = "filed"  # it is where it was written: in the folder, or attached to the exam or series
    STUDY = "study"  # written into a folder, it became part of a study
    CONSUMED = "consumed"  # an import JSON or a list of relations: it has done its work
    FAILED = "failed"  # ignored, other bytes, not to be found; ``reason`` says what


@dataclass(frozen=True, slots=True)
class Outcome:
    """``created``: the dataset did not exist before. ``exam`` and ``series``: where a study file went.

    ``folder`` is the folder that shows a filed upload (None in an exam or series). ``is_whole_dataset``: the dataset
    has no other file, so that to replace the file is to replace the dataset.
    """

    kind: OutcomeKind
    dataset: int | None = None
    datafile: int | None = None
    item: int | None = None
    folder: int | None = None
    exam: int | None = None
    series: int | None = None
    created: bool = True
    reason: str = ""
    is_whole_dataset: bool = True


@dataclass(frozen=True, slots=True)
class Upload:
    """One file of a batch. ``content`` is a file that nobody changes any more.

    ``target`` is the path below the anchor, ``/`` between its parts. ``sha1`` is None until it was computed.
    ``expected_mtime_ns`` is set for a file outside the spool (``agorafs upload``): it must still have it. ``at`` is
    where its local file is, unless somebody moved that, since a directory above it became a folder of the server.
    """

    id: int
    batch: int
    target: str
    size: int
    mtime_ns: int
    sha1: str | None
    content: Path
    replaces: Replaced | None
    transfer: int | None
    outcome: Outcome | None
    expected_mtime_ns: int | None = None
    at: tuple[Anchor, str] | None = None


@dataclass(frozen=True, slots=True)
class Transfer:
    """One file as the server's upload call sees it.

    A package's bytes are made from its uploads (``packing``) and are the same each time they are made.
    ``identifier`` is a UUID4, the same for all chunks. ``done`` are the numbers, from 1, of the chunks that the
    server has acknowledged.
    """

    id: int
    batch: int
    identifier: str
    target: str
    size: int
    chunk_bytes: int
    is_package: bool
    done: frozenset[int]

    @property
    def chunks(self) -> int:
        """How many chunks there are; an empty file has one, of no bytes."""
        return max(1, -(-self.size // self.chunk_bytes))

    @property
    def acknowledged_bytes(self) -> int:
        """How many bytes the server has acknowledged; the last chunk is shorter than the others."""
        sent = len(self.done) * self.chunk_bytes
        if self.chunks in self.done:
            sent -= self.chunks * self.chunk_bytes - self.size
        return sent


class PlannedTransfer(NamedTuple):
    """A transfer before it is in the journal; ``uploads`` are the ids of the uploads that it carries."""

    target: str
    size: int
    chunk_bytes: int
    is_package: bool
    uploads: tuple[int, ...]


class Disposition(str, enum.Enum):
    """What the user did, meanwhile, to the local file that an upload was made of."""

    CURRENT = "current"  # nothing: same bytes, same name
    OUTDATED = "outdated"  # changed or renamed: what arrived is a version that another will replace
    GONE = "gone"  # removed: what arrived is to be removed too
