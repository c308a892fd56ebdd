"""Building blocks for tests of local files: an ``Uploads`` on a temporary directory, and a disk that loses power."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from agorafs.client.records import Kind
from agorafs.uploads.arrivals import Arrivals
from agorafs.uploads.durable import Disk
from agorafs.uploads.local_file import LocalFile
from agorafs.uploads.nodes import LocalNode, Place
from agorafs.uploads.recovery import Home, open_home
from agorafs.uploads.report import Report
from agorafs.uploads.sealer import Sealer
from agorafs.uploads.spool import SpoolLimits
from agorafs.uploads.store import Store
from agorafs.uploads.uploads import Uploads
from agorafs.uploads.values import Anchor, Replaced
from tests.support.manual_clock import ManualClock

FOLDER = Anchor(Kind.FOLDER, 7)
EXAM = Anchor(Kind.EXAM, 8)
QUIET_S = 3.0
LIMITS = SpoolLimits(max_bytes=1 << 30, min_free_bytes=0)
WALL_NS = 1_700_000_000_000_000_000


class CutDisk(Disk):
    """A disk that remembers only what was synced: ``image`` is what a power cut leaves."""

    def __init__(self, image: Path, state: Path) -> None:
        self._image = image
        self._state = state
        self.syncs = 0

    def sync_file(self, descriptor: int, path: Path) -> None:
        self.syncs += 1
        target = self._image / path.relative_to(self._state)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
        if path.name.endswith("-wal"):  # the log belongs to a data base, which a checkpoint has synced
            shutil.copyfile(path.with_name("journal.db"), target.with_name("journal.db"))

    def sync_directory(self, path: Path) -> None:
        (self._image / path.relative_to(self._state)).mkdir(parents=True, exist_ok=True)


class Local:
    """An ``Uploads`` whose process can die: ``restart`` goes on from what is on the disk."""

    def __init__(self, state: Path, *, disk: Disk | None = None, limits: SpoolLimits = LIMITS) -> None:
        self.state = state
        self.clock = ManualClock()
        self.disk = disk or Disk()
        self.limits = limits
        self.boot = "boot 1"
        self.stored: dict[int, bytes] = {}  # what ``fetch`` brings, by datafile
        self.fetched: list[int] = []
        self.start()

    def start(self) -> None:
        self.home: Home = open_home(
            self.state,
            url="http://a",
            user="1",
            limits=self.limits,
            disk=self.disk,
            read_boot_id=lambda: self.boot,
        )
        self.store = Store(
            self.home.journal,
            self.home.spool,
            self.disk,
            fetch=self._fetch,
            clock=self.clock,
            wall_ns=lambda: WALL_NS,
        )
        self.journal = self.store.journal
        self.uploads = Uploads(self.store)
        self.sealer = Sealer(self.store, quiet_s=QUIET_S, fill_import=self._fill_import)
        self.arrivals = Arrivals(self.store)
        self.report = Report(self.store, self.uploads.remove)

    def _fetch(self, datafile: int, size: int, sha1: str, descriptor: int) -> None:
        self.fetched.append(datafile)
        os.pwrite(descriptor, self.stored[datafile], 0)

    def _fill_import(self, text: bytes, names: Sequence[str]) -> bytes | None:
        return b'{"filled": true}' if text == b"{}" else None

    def die(self) -> None:
        """The process is killed: nothing is closed in good order, the kernel drops the lock."""
        self.home.close()

    def close(self) -> None:
        """The process ends in good order."""
        self.store.close()
        self.home.close()

    def restart(self) -> None:
        self.die()
        self.start()

    # -- short words ---------------------------------------------------------------------------------

    def write(self, place: Place, name: str, data: bytes, *, replaces: Replaced | None = None) -> LocalNode:
        """Create, write, close."""
        node = self.uploads.create(place, name, replaces=replaces)
        file = self.uploads.open(node, writing=True)
        file.write(0, data)
        file.flush()
        file.close()
        return node

    def rewrite(self, node: LocalNode, data: bytes) -> None:
        file = self.uploads.open(node, writing=True)
        file.truncate(0)
        file.write(0, data)
        file.flush()
        file.close()

    def read(self, node: LocalNode) -> bytes:
        file = self.uploads.open(node, writing=False)
        try:
            return read_all(file)
        finally:
            file.close()

    def fall_quiet(self) -> None:
        self.clock.advance(QUIET_S)
        self.sealer.seal_quiet()

    def batch_targets(self) -> list[list[str]]:
        journal = self.journal
        return [[upload.target for upload in journal.uploads(batch.id)] for batch in journal.batches()]


def read_all(file: LocalFile) -> bytes:
    buffer = bytearray(file.size)
    length = file.read_into(0, memoryview(buffer))
    return bytes(buffer[:length])
