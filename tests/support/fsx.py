"""fsx: random operations on one file, each compared with a model in memory.

Why.  A file system is wrong in the cases nobody thought of: a write over a hole beyond a truncation seen through a
mapping. The operation mix is that of ``fsx`` of the xfstests: read, write, append, truncate down and up, read and
write through a shared mapping, fsync, close and open, and, where the file system has them, fallocate and zero-range.

Use.  ``python tests/support/fsx.py FILE --ops 100000 --seed 1`` as a process of its own: a process must not use a
mount that it serves itself. The same seed makes the same operations (until the set of supported ones differs).

Exit status.  0: no difference. 1: a difference, told with the last 50 operations and the seed. 2: wrong usage.

Model.  ``Model.content`` is as long as the file can become and zero beyond ``Model.size``. Sizes and offsets are bytes.
"""

from __future__ import annotations

import argparse
import ctypes
import errno
import fcntl
import mmap
import os
import random
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

HISTORY = 50
_POOL_BYTES = 1 << 20
_MOST_PER_OPERATION = 64 * 1024
_KEEP_SIZE, _ZERO_RANGE = 0x01, 0x10


class DifferenceError(Exception):
    """The file is not what the model says; the text says where."""


class Model:
    """What the file must hold."""

    def __init__(self, max_bytes: int) -> None:
        self.content = bytearray(max_bytes)
        self.size = 0

    def write(self, offset: int, data: bytes) -> None:
        self.content[offset : offset + len(data)] = data
        self.size = max(self.size, offset + len(data))

    def truncate(self, size: int) -> None:
        if size < self.size:
            self.content[size : self.size] = bytes(self.size - size)
        self.size = size


def _fallocate() -> Callable[[int, int, int, int], int]:
    """Return the C library's fallocate, which, unlike Python's, never falls back to writing."""
    function = ctypes.CDLL(None, use_errno=True).fallocate
    function.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    function.restype = ctypes.c_int
    return function


class Exerciser:
    """One run on one file."""

    def __init__(
        self, path: Path, seed: int, max_bytes: int, reopen_every: int, corrupt_after: int | None = None
    ) -> None:
        self.history: deque[str] = deque(maxlen=HISTORY)
        self._path = path
        self._random = random.Random(seed)
        self._pool = self._random.randbytes(_POOL_BYTES)
        self._max_bytes = max_bytes
        self._corrupt_after = corrupt_after
        self._model = Model(max_bytes)
        self._fallocate = _fallocate()
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
        self._weights: dict[Callable[[], None], float] = {
            self._read: 20,
            self._write: 20,
            self._append: 6,
            self._map_read: 12,
            self._map_write: 12,
            self._truncate: 12,
            self._fsync: 2,
        }
        if self._supports(_KEEP_SIZE):
            self._weights[self._allocate] = 3
        if self._supports(_ZERO_RANGE):
            self._weights[self._zero_range] = 3
        # So many operations between two openings on average.
        self._weights[self._reopen] = sum(self._weights.values()) / max(reopen_every - 1, 1)

    def run(self, operations: int) -> None:
        """Do that many random operations, then read all once more; raises DifferenceError."""
        choices, weights = list(self._weights), list(self._weights.values())
        for number in range(operations):
            self._number = number
            (operation,) = self._random.choices(choices, weights)
            operation()
            self._check_size()
            if self._corrupt_after is not None and number + 1 >= self._corrupt_after:
                self._corrupt()
        self._reopen()
        self._compare(0, os.pread(self._descriptor, self._max_bytes + 1, 0), self._model.size)
        os.close(self._descriptor)

    # -- helpers -------------------------------------------------------------------------------------

    def _note(self, text: str) -> None:
        self.history.append(f"{self._number:>7}  {text}")

    def _range(self, end: int) -> tuple[int, int]:
        """Return a random (offset, length >= 1) below *end*; every fourth begins and ends at a page."""
        offset = self._random.randrange(end)
        length = 1 + self._random.randrange(min(_MOST_PER_OPERATION, end - offset))
        if self._random.randrange(4) == 0:
            offset -= offset % mmap.PAGESIZE
            length = min(max(length - length % mmap.PAGESIZE, mmap.PAGESIZE), end - offset)
        return offset, length

    def _data(self, length: int) -> bytes:
        start = self._random.randrange(_POOL_BYTES - length + 1)
        return self._pool[start : start + length]

    def _compare(self, offset: int, actual: bytes, length: int) -> None:
        expected = bytes(self._model.content[offset : offset + length])
        if actual == expected:
            return
        if len(actual) != length:
            raise DifferenceError(f"read {length} bytes at {offset}: {len(actual)} came")
        at = next(index for index in range(length) if actual[index] != expected[index])
        wrong = sum(1 for got, wanted in zip(actual, expected, strict=True) if got != wanted)
        raise DifferenceError(
            f"read {length} bytes at {offset}: {wrong} differ, the first at {offset + at} "
            f"({actual[at]:#04x} instead of {expected[at]:#04x})"
        )

    def _check_size(self) -> None:
        size = os.fstat(self._descriptor).st_size
        if size != self._model.size:
            raise DifferenceError(f"the size is {size} instead of {self._model.size}")

    @contextmanager
    def _mapped(self, offset: int, length: int, access: int) -> Iterator[tuple[mmap.mmap, int]]:
        """Map the pages of a range, shared; yields the mapping and where in it the range begins."""
        first = offset - offset % mmap.ALLOCATIONGRANULARITY
        with mmap.mmap(
            self._descriptor, offset - first + length, mmap.MAP_SHARED, access, offset=first
        ) as mapping:
            yield mapping, offset - first

    def _supports(self, mode: int) -> bool:
        if self._fallocate(self._descriptor, mode, 0, 1) == 0:
            os.ftruncate(self._descriptor, 0)
            return True
        if ctypes.get_errno() in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
            return False
        raise OSError(ctypes.get_errno(), "fallocate")

    def _call_fallocate(self, mode: int, offset: int, length: int) -> None:
        if self._fallocate(self._descriptor, mode, offset, length) != 0:
            raise OSError(ctypes.get_errno(), "fallocate")

    def _corrupt(self) -> None:
        """Flip a byte behind the model's back, through a descriptor of its own."""
        if self._model.size:
            offset = self._random.randrange(self._model.size)
            with self._path.open("r+b", buffering=0) as file:
                file.seek(offset)
                byte = file.read(1)
                file.seek(offset)
                file.write(bytes((byte[0] ^ 0xFF,)))
            self._note(f"CORRUPT  {offset}")

    # -- operations ----------------------------------------------------------------------------------

    def _read(self) -> None:
        offset, length = self._range(self._max_bytes)
        self._note(f"READ     {offset} +{length}")
        expected = min(max(self._model.size - offset, 0), length)
        self._compare(offset, os.pread(self._descriptor, length, offset), expected)

    def _write(self) -> None:
        offset, length = self._range(self._max_bytes)
        self._note(f"WRITE    {offset} +{length}")
        self._put(offset, self._data(length))

    def _put(self, offset: int, data: bytes) -> None:
        written = os.pwrite(self._descriptor, data, offset)
        if written != len(data):
            raise DifferenceError(f"of {len(data)} bytes {written} were written")
        self._model.write(offset, data)

    def _append(self) -> None:
        room = min(self._max_bytes - self._model.size, _MOST_PER_OPERATION)
        if room == 0:
            return self._truncate()
        data = self._data(1 + self._random.randrange(room))
        self._note(f"APPEND   {self._model.size} +{len(data)}")
        flags = fcntl.fcntl(self._descriptor, fcntl.F_GETFL)
        fcntl.fcntl(self._descriptor, fcntl.F_SETFL, flags | os.O_APPEND)
        try:
            written = os.write(self._descriptor, data)
        finally:
            fcntl.fcntl(self._descriptor, fcntl.F_SETFL, flags)
        if written != len(data):
            raise DifferenceError(f"of {len(data)} bytes {written} were appended")
        return self._model.write(self._model.size, data)

    def _map_read(self) -> None:
        if self._model.size == 0:
            return self._write()
        offset, length = self._range(self._model.size)
        self._note(f"MAPREAD  {offset} +{length}")
        with self._mapped(offset, length, mmap.PROT_READ) as (mapping, start):
            actual = mapping[start : start + length]
        return self._compare(offset, actual, length)

    def _map_write(self) -> None:
        offset, length = self._range(self._max_bytes)
        self._note(f"MAPWRITE {offset} +{length}")
        if offset + length > self._model.size:
            os.ftruncate(self._descriptor, offset + length)
            self._model.truncate(offset + length)
        data = self._data(length)
        with self._mapped(offset, length, mmap.PROT_READ | mmap.PROT_WRITE) as (mapping, start):
            mapping[start : start + length] = data
            if self._random.randrange(2):  # the others reach the file with munmap
                mapping.flush()
        self._model.write(offset, data)

    def _truncate(self) -> None:
        size = self._random.randrange(self._max_bytes + 1)
        self._note(f"TRUNCATE {self._model.size} to {size}")
        os.ftruncate(self._descriptor, size)
        self._model.truncate(size)

    def _allocate(self) -> None:
        offset, length = self._range(self._max_bytes)
        mode = self._random.choice((0, _KEEP_SIZE))
        self._note(f"ALLOCATE {offset} +{length} {'keeping the size' if mode else ''}")
        self._call_fallocate(mode, offset, length)
        if not mode:
            self._model.size = max(self._model.size, offset + length)

    def _zero_range(self) -> None:
        offset, length = self._range(self._max_bytes)
        mode = self._random.choice((0, _KEEP_SIZE))
        self._note(f"ZERO     {offset} +{length} {'keeping the size' if mode else ''}")
        self._call_fallocate(_ZERO_RANGE | mode, offset, length)
        stop = min(offset + length, self._model.size) if mode else offset + length
        if offset < stop:
            self._model.write(offset, bytes(stop - offset))

    def _fsync(self) -> None:
        self._note("FSYNC")
        os.fsync(self._descriptor)

    def _reopen(self) -> None:
        self._note("REOPEN")
        os.close(self._descriptor)
        self._descriptor = os.open(self._path, os.O_RDWR)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description="Random operations on FILE, compared with a model in memory."
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="made anew; stays")
    parser.add_argument("--ops", type=int, default=10_000, metavar="N")
    parser.add_argument("--seed", type=int, default=1, metavar="S")
    parser.add_argument("--max-size", type=int, default=256 * 1024, metavar="BYTES")
    parser.add_argument("--reopen-every", type=int, default=50, metavar="N", help="operations, on average")
    parser.add_argument(
        "--corrupt-after",
        type=int,
        metavar="N",
        help="from operation N on, flip a byte after each: a run with this must fail, or fsx itself is wrong",
    )
    options = parser.parse_args(arguments)
    try:
        exerciser = Exerciser(
            options.file, options.seed, options.max_size, options.reopen_every, options.corrupt_after
        )
    except OSError as error:
        parser.error(f"{options.file} cannot be used: {error}")
    try:
        exerciser.run(options.ops)
    except (DifferenceError, OSError) as error:
        print("\n".join(exerciser.history))
        print(f"fsx: {type(error).__name__}: {error}")
        print(f"fsx: seed {options.seed}, --max-size {options.max_size}, --ops {options.ops}")
        return 1
    print(f"fsx: {options.ops} operations, no difference (seed {options.seed})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
