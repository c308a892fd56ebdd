"""The chunks of one batch to the server: several in flight, each read by offset, each acknowledged in the journal.

Why.  A chunk that is sent again must carry the bytes that it carried before, whoever sends it: this attempt, the next,
or the next mount. So a chunk is (identifier, number), its bytes are read anew from (offset, length) of a file that is
checked not to have changed, and a zip package is built to the same bytes each time.

Place.  ``delivery`` calls ``send`` for a batch that is being uploaded, as often as it takes.

Threads.  ``send`` runs on the batch's thread and hands single chunks to the workers that all batches share, never more
than ``window`` at a time, so that batches take turns. Files are opened and closed on the batch's thread.

Failure.  After the first failed chunk none is begun; when those in flight have ended, the error is raised. 413 makes
chunks smaller: in place where the server can not hold any part of the transfer yet, with a new package otherwise (a
server that finds half of a transfer under an identifier that is not used any more would refuse the whole import).
"""

from __future__ import annotations

import os
import queue
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, Protocol, cast

from agorafs.cache.workers import Workers
from agorafs.client.imports import Chunk
from agorafs.clock import Clock
from agorafs.errors import TooLarge
from agorafs.uploads import packing
from agorafs.uploads.chunk_size import ChunkSizes
from agorafs.uploads.sources import Content, read_exactly
from agorafs.uploads.values import Transfer, Upload


class Stopped(Exception):
    """The mount ends; the journal says how far the batch is."""


class PackageUnusable(Exception):
    """The import package must be begun anew. Nothing of it was imported. The text says why."""


class _Skipped(Exception):
    """The chunk was not sent, because another has failed since it was queued."""


class ChunkJournal(Protocol):
    """What the journal does here."""

    @property
    def packages_directory(self) -> Path:
        """Where packages may be built."""
        ...

    def note_chunk(self, transfer_id: int, number: int) -> None:
        """Note that a chunk was acknowledged."""
        ...

    def restart_transfer(self, transfer_id: int, chunk_bytes: int) -> Transfer:
        """Begin a transfer anew with another chunk size."""
        ...

    def barrier(self) -> None:
        """Make what was noted survive a power cut."""
        ...


class SendsChunks(Protocol):
    """The one call that carries bytes."""

    def __call__(self, package_id: int, chunk: Chunk, data: bytes) -> None:
        """Send one chunk; return when the server has acknowledged it."""
        ...


class _Source(Protocol):
    """Where the bytes of a transfer are."""

    def read(self, offset: int, size: int) -> bytes: ...

    def close(self) -> None: ...


class _BuiltPackage:
    """A zip package, built in a file without a name, which is gone when it is closed or the process dies."""

    def __init__(
        self, directory: Path, transfer: Transfer, uploads: Sequence[Upload], check: Callable[[], None]
    ) -> None:
        self._file = cast(BinaryIO, tempfile.TemporaryFile(dir=directory))  # noqa: SIM115 - open until ``close``
        try:
            packing.write_package(self._file, uploads, check)
            self._file.flush()
            size = os.fstat(self._file.fileno()).st_size
            if size != transfer.size:
                raise PackageUnusable(
                    f"the package was begun with {transfer.size:,} bytes and has {size:,} now"
                )
        except BaseException:
            self._file.close()
            raise

    def read(self, offset: int, size: int) -> bytes:
        data = read_exactly(self._file.fileno(), offset, size)
        assert data is not None
        return data

    def close(self) -> None:
        self._file.close()


@dataclass(slots=True, eq=False)
class _Open:
    """A transfer whose chunks are being sent; ``missing`` are left to be acknowledged."""

    transfer: Transfer
    source: _Source
    missing: int


@dataclass(frozen=True, slots=True)
class _Ended:
    """What became of one chunk."""

    open: _Open
    size: int
    error: BaseException | None


class ChunkSender:
    """Sends chunks for all batches of one mount."""

    def __init__(
        self,
        journal: ChunkJournal,
        send_chunk: SendsChunks,
        sizes: ChunkSizes,
        workers: Workers,
        window: int,
        clock: Clock,
    ) -> None:
        self._journal = journal
        self._send_chunk = send_chunk
        self._sizes = sizes
        self._workers = workers
        self._window = window
        self._clock = clock

    def send(
        self,
        package: int,
        transfers: Sequence[Transfer],
        uploads: Mapping[int, Sequence[Upload]],
        *,
        untouched: set[int],
        check: Callable[[], None],
        stop: Callable[[], None],
        acknowledged: Callable[[int], None],
    ) -> bool:
        """Send what is missing; return whether all has arrived now, False if it must be asked for anew.

        Args:
            uploads: The uploads that each transfer carries, by its id.
            untouched: Transfers of which the server certainly has no part; kept up to date here.
            check: Called on this thread before each chunk; may raise to end it all.
            stop: Called on any thread; raises ``Stopped`` when the mount ends.
            acknowledged: Told the size of each chunk that has arrived, on this thread.

        Raises:
            ContentChanged: A file is not as recorded; nothing of its change was sent.
            PackageUnusable: Begin with a new package.
            TooLarge: The server takes not even the smallest chunk.
        """
        if self._cut_to_ceiling(transfers, untouched):
            return False
        begun: dict[int, _Open] = {}
        ended: queue.SimpleQueue[_Ended] = queue.SimpleQueue()
        errors: list[BaseException] = []
        refused: set[int] = set()  # transfers
        halted = threading.Event()  # nothing more is to be sent for the time being
        flying = 0
        chunks = self._missing(transfers, uploads, begun, stop)
        try:
            while True:
                while flying < self._window and not halted.is_set():
                    check()
                    job = next(chunks, None)
                    if job is None:
                        break
                    opened, number = job
                    call = partial(self._send_one, package, opened, number, ended, halted, stop)
                    if not self._workers.submit(call):
                        raise Stopped
                    flying += 1
                if not flying:
                    break
                outcome = ended.get()
                flying -= 1
                opened = outcome.open
                if isinstance(outcome.error, _Skipped):
                    continue
                if isinstance(outcome.error, TooLarge) and self._sizes.refused(outcome.size):
                    refused.add(opened.transfer.id)
                    continue
                untouched.discard(opened.transfer.id)
                if outcome.error is not None:
                    errors.append(outcome.error)
                    continue
                acknowledged(outcome.size)
                opened.missing -= 1
                if not opened.missing:
                    del begun[opened.transfer.id]
                    opened.source.close()
        finally:
            halted.set()
            while flying:
                ended.get()
                flying -= 1
            for opened in begun.values():
                opened.source.close()
        if errors:
            raise errors[0]
        for transfer_id in refused:
            if transfer_id not in untouched:
                raise PackageUnusable("the server takes smaller chunks only")
            self._restart(transfer_id)
        return not refused

    def _cut_to_ceiling(self, transfers: Sequence[Transfer], untouched: set[int]) -> bool:
        """Give transfers that were not begun the chunk size that the server is known to take."""
        ceiling = self._sizes.ceiling
        too_large = [each.id for each in transfers if each.id in untouched and _largest(each) > ceiling]
        for transfer_id in too_large:
            self._restart(transfer_id)
        return bool(too_large)

    def _restart(self, transfer_id: int) -> None:
        self._journal.restart_transfer(transfer_id, self._sizes.ceiling)
        # If a power cut undid this after chunks went out under the new identifier, they would be half a transfer.
        self._journal.barrier()

    def _missing(
        self,
        transfers: Sequence[Transfer],
        uploads: Mapping[int, Sequence[Upload]],
        begun: dict[int, _Open],
        stop: Callable[[], None],
    ) -> Iterator[tuple[_Open, int]]:
        """Yield the chunks that have not arrived; open each transfer when its first is asked for."""
        for transfer in transfers:
            missing = [number for number in range(1, transfer.chunks + 1) if number not in transfer.done]
            if not missing:
                continue
            carried = uploads[transfer.id]
            source: _Source
            if transfer.is_package:
                source = _BuiltPackage(self._journal.packages_directory, transfer, carried, stop)
            else:
                source = Content(carried[0])
            opened = begun[transfer.id] = _Open(transfer, source, len(missing))
            for number in missing:
                yield opened, number

    def _send_one(
        self,
        package: int,
        opened: _Open,
        number: int,
        ended: queue.SimpleQueue[_Ended],
        halted: threading.Event,
        stop: Callable[[], None],
    ) -> None:
        """Read one chunk and send it, on a worker's thread."""
        transfer = opened.transfer
        offset = (number - 1) * transfer.chunk_bytes
        size = min(transfer.chunk_bytes, transfer.size - offset)
        failure: BaseException | None = None
        try:
            stop()
            if halted.is_set():
                raise _Skipped
            chunk = Chunk(
                transfer.identifier,
                transfer.target,
                number,
                transfer.chunks,
                transfer.chunk_bytes,
                transfer.size,
            )
            data = opened.source.read(offset, size)
            begun_s = self._clock.monotonic()
            self._send_chunk(package, chunk, data)
            self._sizes.note(size, self._clock.monotonic() - begun_s)
            self._journal.note_chunk(transfer.id, number)
        except BaseException as error:  # noqa: BLE001 - raised again on the batch's thread
            halted.set()
            failure = error
        ended.put(_Ended(opened, size, failure))


def _largest(transfer: Transfer) -> int:
    return min(transfer.chunk_bytes, transfer.size)
