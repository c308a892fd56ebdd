"""The content cache's memory: buffers in flight, and blocks that the disk could not take, in one budget.

Why.  Mounts die of memory before they die of bandwidth. So everything that holds datafile bytes in memory
asks here, and what may be let go (blocks kept for a second read) goes before anybody waits.

Threads.  ``_lock`` guards all changing fields and is a leaf; ``reserve`` waits on its condition.

Invariants, run by ``_check``:
  1. ``_kept_bytes`` is the sum of the kept blocks' sizes.
  2. Reserved and kept bytes together stay within ``max_bytes``, except when one reservation alone is larger.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

from agorafs.cache.locks import InvariantLock
from agorafs.errors import RemoteTimeout


class Memory:
    """A byte budget with a least-recently-used store of blocks in what is not reserved."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._lock = InvariantLock(self._check)
        # Changing, guarded by _lock; a block's key is (owner, block_no):
        self._kept: OrderedDict[tuple[int, int], bytes] = OrderedDict()
        self._kept_bytes = 0
        self._reserved_bytes = 0
        self._reservations = 0

    @property
    def used_bytes(self) -> int:
        """Reserved and kept bytes."""
        with self._lock:
            return self._kept_bytes + self._reserved_bytes

    @contextmanager
    def buffer(self, size: int, timeout_s: float) -> Iterator[memoryview]:
        """Lend a buffer of *size* bytes; wait for room at most *timeout_s*, then RemoteTimeout.

        A buffer larger than the whole budget is lent when nothing else is: slow, but not stuck.
        """
        with self._lock:
            if not self._lock.condition.wait_for(lambda: self._locked_has_room(size), timeout_s):
                raise RemoteTimeout(f"no memory for a download became free in {timeout_s:g} s")
            self._reserved_bytes += size
            self._reservations += 1
            self._locked_shrink()
        try:
            yield memoryview(bytearray(size))
        finally:
            with self._lock:
                self._reserved_bytes -= size
                self._reservations -= 1
                self._lock.condition.notify_all()

    def keep(self, owner: int, block_no: int, data: bytes) -> None:
        """Keep a block for later reads, if there is room beside the reservations."""
        with self._lock:
            self._locked_forget((owner, block_no))
            self._kept[owner, block_no] = data
            self._kept_bytes += len(data)
            self._locked_shrink()

    def get(self, owner: int, block_no: int) -> bytes | None:
        """Return a kept block, or None."""
        with self._lock:
            data = self._kept.get((owner, block_no))
            if data is not None:
                self._kept.move_to_end((owner, block_no))
            return data

    def forget(self, owner: int) -> None:
        """Let go of all blocks of *owner*."""
        with self._lock:
            for key in [key for key in self._kept if key[0] == owner]:
                self._locked_forget(key)

    def _locked_has_room(self, size: int) -> bool:
        return self._reservations == 0 or self._reserved_bytes + size <= self.max_bytes

    def _locked_forget(self, key: tuple[int, int]) -> None:
        data = self._kept.pop(key, None)
        if data is not None:
            self._kept_bytes -= len(data)

    def _locked_shrink(self) -> None:
        while self._kept and self._kept_bytes + self._reserved_bytes > self.max_bytes:
            _, data = self._kept.popitem(last=False)
            self._kept_bytes -= len(data)

    def _check(self) -> None:
        assert self._kept_bytes == sum(map(len, self._kept.values()))
        assert self._reservations == 0 or self._reserved_bytes > 0
        assert not self._kept or self._kept_bytes + self._reserved_bytes <= self.max_bytes
        assert self._reservations <= 1 or self._reserved_bytes <= self.max_bytes
