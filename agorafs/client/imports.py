"""The upload protocol: a package, its chunks, ``complete``, progress and result.

Place.  ``Client.imports``; the sender of ``uploads`` decides what is sent when, and what an outcome means. One
import package is one upload with one target.

Evidence.  As in ``api``; "Go", "Up" are the vendor's connectors in Go and the uploader. No server documents it.

Units.  Bytes; chunks are numbered from 1.

Threads.  Every method may be called from any thread; chunks of one package may be sent at the same time.

Failure.  As ``Transport.post_json``. A chunk is repeated by the transport, because a server puts the second over the
first; nothing else is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agorafs.client.asking import parsed
from agorafs.client.multipart import FilePart
from agorafs.client.records import optional_id, parse_id, parse_object, parse_text
from agorafs.client.transport import Transport
from agorafs.errors import ProtocolError

# States of a package. Between the two ends lie 2 (checking), 3 (analysing) and 4 (importing).
UPLOADING = 1
FINISHED = 5
FAILED = -1


def _integer(data: Mapping[str, Any], what: str, key: str, default: int | None = None) -> int:
    value = data.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ProtocolError(f"the server sent a {what} whose {key!r} is {value!r}, not a number")
    return value


@dataclass(frozen=True, slots=True)
class Chunk:
    """Which part of which file; the bytes go beside it.

    Every chunk of a file has the same ``identifier`` (a UUID4), ``chunks`` (how many there are, at least one)
    and ``chunk_bytes`` (the size of all but the last).
    """

    identifier: str
    target: str
    number: int
    chunks: int
    chunk_bytes: int
    total_size: int

    @property
    def size(self) -> int:
        """How many bytes this chunk has."""
        start = (self.number - 1) * self.chunk_bytes
        return min(self.chunk_bytes, self.total_size - start)


@dataclass(frozen=True, slots=True)
class CompleteRequest:
    """Where a package goes and how it is to be read.

    One of ``folder``, ``exam`` and ``series`` is the target's id. ``import_file`` is the target path of an import
    JSON in the package, ``relations`` are main target paths and those related to each.
    """

    folder: int | None = None
    exam: int | None = None
    series: int | None = None
    import_file: str | None = None
    relations: Mapping[str, Sequence[str]] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the body of the call; what has no value is left out."""
        body: dict[str, Any] = {
            "folder": self.folder,
            "exam": self.exam,
            "series": self.series,
            "import_file": self.import_file or None,
            "relations": {main: list(related) for main, related in (self.relations or {}).items()} or None,
        }
        return {name: value for name, value in body.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Package:
    """``is_complete``: ``complete`` has been taken. ``error`` is the server's reason, empty if there is none."""

    id: int
    state: int
    is_complete: bool
    error: str

    @classmethod
    def from_json(cls, data: object) -> Package:
        data = parse_object(data, "import package")
        # The answer to its creation may say no more than the id.
        return cls(
            parse_id(data, "import package"),
            _integer(data, "import package", "state", UPLOADING),
            bool(data.get("is_complete")),
            parse_text(data, "error"),
        )


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an import is; ``progress`` is 0 to 100. ``tasks_count`` can be 0."""

    state: int
    progress: int
    tasks_count: int
    tasks_finished: int
    tasks_error: int

    @classmethod
    def from_json(cls, data: object) -> Progress:
        data = parse_object(data, "import progress")
        tasks = data.get("tasks")
        tasks = tasks if isinstance(tasks, dict) else {}
        progress = data.get("progress", 0)
        if isinstance(progress, float):
            progress = int(progress)  # towards 0: 99.9 is not finished
        return cls(
            _integer(data, "import progress", "state"),
            _integer({"progress": progress}, "import progress", "progress"),
            _integer(tasks, "import progress", "count", 0),
            _integer(tasks, "import progress", "finished", 0),
            _integer(tasks, "import progress", "error", 0),
        )

    @property
    def is_finished(self) -> bool:
        """Whether the import has ended well, as all the vendor's clients decide it."""
        return self.state == FINISHED and self.progress == 100


@dataclass(frozen=True, slots=True)
class ImportedFile:
    """``path`` is the target path as the server tells it; ``created`` is False for what it had before.

    ``sha1`` is lower case, empty where the server gives none. ``id`` is the datafile's.
    """

    path: str
    sha1: str
    dataset: int | None
    created: bool
    id: int | None

    @classmethod
    def from_json(cls, data: object) -> ImportedFile:
        data = parse_object(data, "imported file")
        return cls(
            parse_text(data, "path"),
            parse_text(data, "sha1").lower(),
            optional_id(data.get("dataset")),
            # Where it does not say so, the dataset is not ours to remove.
            data.get("created") is True,
            optional_id(data.get("id")),
        )


@dataclass(frozen=True, slots=True)
class IgnoredFile:
    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class ImportResult:
    """``datafiles`` is None where the server does not say what became of the files: older ones leave it out.

    ``raw`` is the whole answer, to be kept.
    """

    datafiles: tuple[ImportedFile, ...] | None
    ignored: tuple[IgnoredFile, ...]
    error: str
    raw: Mapping[str, Any]

    @classmethod
    def from_json(cls, data: object) -> ImportResult:
        data = parse_object(data, "import result")
        files = data.get("datafiles")
        if files is not None and not isinstance(files, list):
            raise ProtocolError(
                f"the server sent {type(files).__name__} where a list of imported files was expected"
            )
        ignored = data.get("ignored")
        return cls(
            None if files is None else tuple(ImportedFile.from_json(item) for item in files),
            tuple(_ignored(item) for item in ignored) if isinstance(ignored, list) else (),
            parse_text(data, "error"),
            data,
        )


def _ignored(item: object) -> IgnoredFile:
    if isinstance(item, dict):
        return IgnoredFile(parse_text(item, "path"), parse_text(item, "reason"))
    return IgnoredFile(str(item), "")


class Imports:
    """Import packages of one server."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create_package(self) -> int:
        """POST v1/import/ (Python, Go): return the id of a new package."""
        path = "/api/v1/import/"
        answer = self._transport.post_json(path, {})
        return parsed(self._transport, path, Package.from_json, answer).id

    def package(self, package_id: int) -> Package:
        """GET v1/import/{id}/ (Python, Go)."""
        path = f"/api/v1/import/{package_id}/"
        package = parsed(self._transport, path, Package.from_json, self._transport.get_json(path))
        if package.id != package_id:
            raise ProtocolError(
                f"{self._transport.base_url.join(path)}: answered with the package {package.id}"
            )
        return package

    def send_chunk(
        self, package_id: int, chunk: Chunk, data: bytes | memoryview, *, deadline_s: float | None = None
    ) -> None:
        """POST v1/import/{id}/upload/ (Python, Go): return when the server has acknowledged the chunk.

        Args:
            data: The bytes of *chunk*; they must not change until this returns.
            deadline_s: No attempt begins later than this.

        Raises:
            TooLarge: The chunk is more than the server takes at once.
            NotSupported: The target path is not Unicode.
            AgoraFSError: As ``Transport.post_multipart``.
        """
        view = memoryview(data).cast("B")
        if not 1 <= chunk.number <= chunk.chunks or len(view) != chunk.size:
            raise ValueError(f"{len(view)} bytes are not {chunk}")
        fields = {
            "description": "",
            "flowChunkNumber": str(chunk.number),
            "flowChunkSize": str(chunk.chunk_bytes),
            "flowCurrentChunkSize": str(len(view)),
            "flowTotalSize": str(chunk.total_size),
            "flowIdentifier": chunk.identifier,
            "flowFilename": chunk.target,
            "flowRelativePath": chunk.target,
            "flowTotalChunks": str(chunk.chunks),
            # Servers that know it refuse a chunk that was damaged on the way; the others pass it over.
            "flowChunkHash": hashlib.sha256(view).hexdigest(),
        }
        self._transport.post_multipart(
            f"/api/v1/import/{package_id}/upload/",
            fields,
            FilePart("file", "chunk", view),
            deadline_s=deadline_s,
            may_repeat=True,
        )

    def complete(self, package_id: int, request: CompleteRequest) -> None:
        """POST v1/import/{id}/complete/ (Python, Go): the import starts.

        After ``RemoteUnavailable`` and ``RemoteTimeout`` it may have started or not: ``package`` tells.
        """
        self._transport.post_json(f"/api/v1/import/{package_id}/complete/", request.to_json())

    def progress(self, package_id: int) -> Progress:
        """GET v1/import/{id}/progress/ (Python, Go)."""
        path = f"/api/v1/import/{package_id}/progress/"
        return parsed(self._transport, path, Progress.from_json, self._transport.get_json(path))

    def result(self, package_id: int) -> ImportResult:
        """GET v1/import/{id}/result/ (Python, Go)."""
        path = f"/api/v1/import/{package_id}/result/"
        return parsed(self._transport, path, ImportResult.from_json, self._transport.get_json(path))

    def abort(self) -> None:
        """Break off chunks under way, and refuse further ones: ``send_chunk`` raises ``RemoteUnavailable`` soon."""
        self._transport.abort_uploads()
