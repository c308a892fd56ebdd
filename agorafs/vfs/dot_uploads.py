"""``/.agora/uploads``: what was written here and is not on the server yet, as files.

Why.  To see how it stands without a command, and as the way out: the bytes can be copied from here also when the
folder that they were written into is gone. ::

    status.json                        everything that ``agorafs status`` says, and each local file
    <n>/status.json                    the same of batch <n>
    <n>/files/<target path>            the bytes that the batch carries
    pending/status.json
    pending/files/<place>/<path>       files in no batch: those that failed, wait for their batch, or stay local;
                                       <place> is such as ``folder 45``

Everything here is as of a moment that is at most ``_KEPT_S`` ago; a file that is stored meanwhile is gone.

Place.  ``dot_agora`` asks; the answers come from the memory and the journal of ``uploads``. No request is made.

Threads.  ``_lock`` guards ``_kept``; it is a leaf. Two threads may gather the same at the same time.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from agorafs.client.records import Kind
from agorafs.clock import Clock
from agorafs.errors import NotADirectory, NotFound
from agorafs.uploads.nodes import LocalNode
from agorafs.uploads.values import Anchor
from agorafs.vfs.aside import Held
from agorafs.vfs.handles import Source

_KEPT_S = 1.0  # so that a walk over 10,000 files does not gather them 10,000 times
_PENDING = "pending"
_STATUS = "status.json"
_FILES = "files"


class LocalNodes(Protocol):
    """What is asked of ``Uploads``; nothing waits for the network."""

    def parts_below(self, node: LocalNode) -> tuple[Anchor, list[str]]: ...
    def size(self, node: LocalNode) -> int: ...
    def mtime_ns(self, node: LocalNode) -> int: ...
    def state_text(self, node: LocalNode) -> str: ...
    def open(self, node: LocalNode, *, writing: bool) -> Source: ...


class BatchReport(Protocol):
    """What is asked of ``Report``; nothing waits for the network."""

    def status(self) -> Mapping[str, Any]:
        """How all stands. ``batches``: one mapping per batch, with at least ``id``, ``state`` and ``anchor``."""
        ...

    def batch_files(self, batch_id: int) -> Sequence[tuple[str, Path]]:
        """Target path and content of each file that a batch carries."""
        ...


class Directory(NamedTuple):
    """The names in a directory."""

    files: Sequence[str]
    directories: Sequence[str]


@dataclass(slots=True)
class _Shown:
    """The files below one ``files/``: each by its path, and the names in each directory."""

    held: dict[str, Held] = field(default_factory=dict)
    directories: dict[str, tuple[dict[str, None], dict[str, None]]] = field(
        default_factory=lambda: {"": ({}, {})}
    )

    def add(self, path: str, held: Held) -> None:
        self.held[path] = held
        directory, _, name = path.rpartition("/")
        files, _ = self._directory(directory)
        files[name] = None

    def _directory(self, path: str) -> tuple[dict[str, None], dict[str, None]]:
        known = self.directories.get(path)
        if known is None:
            known = self.directories[path] = ({}, {})
            above, _, name = path.rpartition("/")
            self._directory(above)[1][name] = None
        return known


@dataclass(frozen=True, slots=True)
class _Moment:
    """How all stood at ``at`` (seconds on the monotonic clock). ``shown`` is filled when it is first looked at."""

    at: float
    status: Mapping[str, Any]
    batches: Mapping[str, Mapping[str, Any]]
    nodes: Sequence[LocalNode]
    shown: dict[str, _Shown] = field(default_factory=dict)


class DotUploads:
    """See the module docstring."""

    def __init__(
        self,
        uploads: LocalNodes,
        report: BatchReport,
        *,
        nodes: Callable[[], Sequence[LocalNode]],
        where: Callable[[Anchor], str | None],
        clock: Clock,
    ) -> None:
        """Build it; nothing is looked at yet.

        Args:
            nodes: Gives all local nodes.
            where: Gives an anchor's path below the mount point, None when it is not known. It must not wait long.
        """
        self._uploads = uploads
        self._report = report
        self._nodes = nodes
        self._clock = clock
        self._where = where
        self._lock = threading.Lock()
        self._kept: _Moment | None = None

    def resolve(self, rest: Sequence[str]) -> Directory | Held | bytes:
        """Return what ``/.agora/uploads/REST`` is.

        Raises:
            NotFound, NotADirectory: as ``open(2)`` would.
        """
        moment = self._moment()
        match list(rest):
            case []:
                return Directory([_STATUS], [*moment.batches, _PENDING])
            case ["status.json"]:
                files = [self._about(node) for node in moment.nodes if not node.is_directory]
                return _json({**moment.status, "files": files})
            case [place] if place in moment.batches or place == _PENDING:
                return Directory([_STATUS], [_FILES])
            case [place, "status.json"] if place == _PENDING:
                return _json({"files": [self._about(node) for node in moment.nodes if _is_pending(node)]})
            case [place, "status.json"] if place in moment.batches:
                return _json(self._about_batch(moment.batches[place]))
            case [place, "files", *inner] if place in moment.batches or place == _PENDING:
                return _found(self._shown(moment, place), inner)
        raise NotFound(f"uploads/{'/'.join(rest)} does not exist: perhaps it has been stored meanwhile")

    def _moment(self) -> _Moment:
        with self._lock:
            kept = self._kept
        now = self._clock.monotonic()
        if kept is not None and now < kept.at + _KEPT_S:
            return kept
        status = self._report.status()
        batches = {str(batch["id"]): batch for batch in status["batches"]}
        nodes = [node for node in self._nodes() if not node.is_aside]
        moment = _Moment(now, status, batches, nodes)
        with self._lock:
            self._kept = moment
        return moment

    def _shown(self, moment: _Moment, place: str) -> _Shown:
        known = moment.shown.get(place)
        if known is not None:
            return known
        shown = _Shown()
        for path, held in self._pending(moment.nodes) if place == _PENDING else self._carried(int(place)):
            shown.add(path, held)
        moment.shown[place] = shown
        return shown

    def _carried(self, batch_id: int) -> Iterable[tuple[str, Held]]:
        for target, path in self._report.batch_files(batch_id):
            try:
                status = path.stat()
            except FileNotFoundError:  # stored meanwhile
                continue
            yield target, _Content(path, status.st_size, status.st_mtime_ns)

    def _pending(self, nodes: Iterable[LocalNode]) -> Iterable[tuple[str, Held]]:
        for node in nodes:
            if _is_pending(node):
                anchor, names = self._uploads.parts_below(node)
                yield "/".join([f"{anchor.kind.value} {anchor.id}", *names]), _Node(self._uploads, node)

    def _about(self, node: LocalNode) -> dict[str, Any]:
        anchor, names = self._uploads.parts_below(node)
        return {
            "path": "/".join(names),
            "anchor": f"{anchor.kind.value}:{anchor.id}",
            "where": self._where(anchor),
            "size": self._uploads.size(node),
            "state": self._uploads.state_text(node),
            "error": node.error,
        }

    def _about_batch(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        kind, _, number = str(batch["anchor"]).partition(":")
        files = [
            {"path": target, "size": held.size, "state": batch["state"], "error": ""}
            for target, held in self._carried(int(batch["id"]))
        ]
        return {**batch, "where": self._where(Anchor(Kind(kind), int(number))), "files": files}


@dataclass(frozen=True, slots=True)
class _Content:
    """A file that nobody changes any more, and that goes when the server has it."""

    path: Path
    size: int
    mtime_ns: int

    def open(self) -> Source:
        try:
            return _FileSource(os.open(self.path, os.O_RDONLY | os.O_CLOEXEC))
        except FileNotFoundError:
            raise NotFound("this file has been stored meanwhile") from None


class _FileSource:
    """An open file."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def read_into(self, offset: int, view: memoryview) -> int:
        length = 0
        while length < len(view):
            size = os.preadv(self._descriptor, [view[length:]], offset + length)
            if size == 0:
                break
            length += size
        return length

    def close(self) -> None:
        os.close(self._descriptor)


@dataclass(frozen=True, slots=True)
class _Node:
    """A local file as it is now, whatever is being written to it."""

    uploads: LocalNodes
    node: LocalNode

    @property
    def size(self) -> int:
        return self.uploads.size(self.node)

    @property
    def mtime_ns(self) -> int:
        return self.uploads.mtime_ns(self.node)

    def open(self) -> Source:
        return self.uploads.open(self.node, writing=False)


def _is_pending(node: LocalNode) -> bool:
    """It is a file with bytes of its own that no batch carries."""
    return not node.is_directory and node.borrowed_from is None and (node.upload is None or bool(node.error))


def _found(shown: _Shown, inner: Sequence[str]) -> Directory | Held:
    path = "/".join(inner)
    held = shown.held.get(path)
    if held is not None:
        return held
    names = shown.directories.get(path)
    if names is not None:
        return Directory([*names[0]], [*names[1]])
    if any("/".join(inner[:length]) in shown.held for length in range(1, len(inner))):
        raise NotADirectory(f"{path} lies below a file")
    raise NotFound(f"{path} does not exist: perhaps it has been stored meanwhile")


def _json(about: Mapping[str, Any]) -> bytes:
    return (json.dumps(about, indent=2, ensure_ascii=False) + "\n").encode(errors="replace")
