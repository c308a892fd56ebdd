"""One content on disk: a sparse file that knows which of its blocks it holds, and proves each by a checksum.

Why one file.  Presence, checksums and data in a single file appear, are evicted and are locked as one;
there is no second file that could be missing, older, or of another content.

Layout.  ::

    0      header: magic, block size, content size, SHA-256 of the content's key
    64     seal: SHA-256 over key and table; valid only for a complete content whose SHA-1 was verified
    128    table: per block CRC-32 of its data, and a check of that entry; zeros mean absent
    …4096  data, at its place (sparse)

Durability.  A block's data is written before its table entry, so a process that is killed leaves a block
absent or whole. After a power cut the entry may have reached the disk without the data: therefore a block's
CRC is checked the first time a process uses it, and a block that fails is dropped, never served. Nothing
needs ``fsync``: what is lost is fetched again.

Sharing.  Any number of processes use the file at once. Whoever has it open holds ``flock`` shared, which
keeps it from eviction. Whoever writes a block holds an open-file-description lock on its table entry and
looks at the entry first: present blocks are not written again, so bytes under a reader do not change.
A lock that is taken elsewhere is never waited for (its holder may be stopped); the block then stays in memory.

Trust.  A block is *absent*, *present* (in the table, CRC not checked by this process) or *trusted*. Once the
seal is on nobody writes; a sealed file whose modification time moves has been tampered with, and all trust in
it ends.

Threads.  ``_lock`` guards the changing fields and is a leaf; no I/O is done under it. ``_pins`` counts
operations that use the descriptor: it is closed only when there are none, else its number could be another
file's by the time of the read.

Failure.  Every ``OSError`` becomes ``CacheError``; the caller reads on without the disk.
"""

from __future__ import annotations

import array
import enum
import errno
import fcntl
import hashlib
import os
import struct
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from agorafs.cache.locks import InvariantLock
from agorafs.errors import CacheError

if TYPE_CHECKING:
    from agorafs.cache.content_directory import ContentDirectory

_HEADER = struct.Struct(">8sIIQ32s")
_MAGIC = b"AGORAFS1"
_SEAL_OFFSET = 64
_SEAL_BYTES = 32
_TABLE_OFFSET = 128
_ENTRY = struct.Struct(">II")
_NO_ENTRY = bytes(_ENTRY.size)
_PAGE_BYTES = 4096
_FLOCK = struct.Struct("hhqqixxxx")  # struct flock on 64-bit Linux: type, whence, start, length, pid

_ABSENT, _PRESENT, _TRUSTED = 0, 1, 2


@dataclass(frozen=True)
class Layout:
    """Where things are in the file of one content."""

    key: str
    size: int
    block_bytes: int

    @cached_property
    def blocks(self) -> int:
        return -(-self.size // self.block_bytes)

    @cached_property
    def data_offset(self) -> int:
        return -(-(_TABLE_OFFSET + self.blocks * _ENTRY.size) // _PAGE_BYTES) * _PAGE_BYTES

    @property
    def file_bytes(self) -> int:
        return self.data_offset + self.size

    @cached_property
    def header(self) -> bytes:
        digest = hashlib.sha256(self.key.encode()).digest()
        return _HEADER.pack(_MAGIC, self.block_bytes, 0, self.size, digest)

    def block_size(self, block_no: int) -> int:
        """Bytes in block *block_no*; the last one may be short."""
        return min(self.block_bytes, self.size - block_no * self.block_bytes)

    def seal_of(self, table: bytes) -> bytes:
        """What the seal of a complete, verified content with this table is."""
        return hashlib.sha256(self.header + table).digest()


class Put(enum.Enum):
    """What became of a block that was to be written."""

    STORED = "the file holds exactly these bytes"
    OTHER = "the file holds bytes with another checksum, from somebody else"
    REFUSED = "not on disk: no room, or somebody else is at this block"


def _entry_check(block_no: int, crc: int) -> int:
    # Never zero, so that an entry is never mistaken for an absent one; bound to its place in the table.
    return zlib.crc32(struct.pack(">QI", block_no, crc)) | 0x8000_0000


def encode_entry(block_no: int, crc: int) -> bytes:
    """The table entry of a present block."""
    return _ENTRY.pack(crc, _entry_check(block_no, crc))


def decode_entry(block_no: int, entry: bytes) -> int | None:
    """The CRC-32 in a table entry; None when the block is absent or the entry damaged."""
    if len(entry) != _ENTRY.size:
        return None
    crc, check = _ENTRY.unpack(entry)
    return crc if check == _entry_check(block_no, crc) else None


def write_all(descriptor: int, data: bytes | memoryview, offset: int) -> None:
    """Write all of *data* from *offset* on, however many system calls that takes."""
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written


class _Scratch(threading.local):
    """A buffer per thread for checking a whole block of which only a part is wanted."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def view(self, size: int) -> memoryview:
        if len(self._buffer) < size:
            self._buffer = bytearray(size)
        return memoryview(self._buffer)[:size]


_scratch = _Scratch()


class BlockFile:
    """The file of one content, opened when needed.

    *on_loss* is called, with ``_lock`` held, when a block that was here is gone or has other bytes: whoever
    keeps a sum over blocks starts again. ``losses`` counts the same.
    """

    def __init__(self, directory: ContentDirectory, layout: Layout, *, on_loss: Callable[[], None]) -> None:
        # Given:
        self._directory = directory
        self._on_loss = on_loss
        self.layout = layout
        self._lock = InvariantLock(self._check)
        # Changing, guarded by _lock:
        self._descriptor: int | None = None
        self._pins = 0
        self._closing = False  # close the descriptor with the last pin
        self._discarded = False
        self._identity: tuple[int, int, int] | None = None  # device, inode, mtime in ns while sealed
        self._states = bytearray(layout.blocks)
        self._crcs = array.array("I", bytes(4 * layout.blocks))
        self._absent = layout.blocks
        self._sealed = False
        self._writing: set[int] = set()  # blocks that a thread of this process is writing
        self._losses = 0

    # -- what is here ---------------------------------------------------------------------------------

    @property
    def is_complete(self) -> bool:
        """Every block is present, if not yet checked."""
        with self._lock:
            return self._absent == 0

    @property
    def is_sealed(self) -> bool:
        """Complete, and the SHA-1 of the whole was verified, by this process or another."""
        with self._lock:
            return self._sealed

    @property
    def losses(self) -> int:
        """How often a block was lost or replaced."""
        with self._lock:
            return self._losses

    def is_absent(self, block_no: int) -> bool:
        """The block is not known to be on disk; another process may have put it there since."""
        with self._lock:
            return self._states[block_no] == _ABSENT

    def open(self) -> None:
        """Open the file now, so that from here on it is not evicted. CacheError when it can not be."""
        with self._pinned():
            pass

    def refresh(self, first: int, stop: int) -> None:
        """Look in the table for blocks ``[first, stop)`` that another process has added."""
        with self._pinned() as descriptor:
            self._take_in(first, self._read_table(descriptor, first, stop))

    # -- reading --------------------------------------------------------------------------------------

    def read_trusted(self, offset: int, view: memoryview, *, sealed_only: bool) -> bool:
        """Fill *view* from *offset* in one system call; False when a block of it is not trusted.

        A complete content that is not sealed is to be verified first; nothing is given of it.
        """
        block_bytes = self.layout.block_bytes
        first, stop = offset // block_bytes, (offset + len(view) - 1) // block_bytes + 1
        with self._lock:
            if self._descriptor is None or self._discarded or not self._locked_may_give(sealed_only):
                return False
            if self._states.count(_TRUSTED, first, stop) != stop - first:
                return False
            descriptor, sealed, identity = self._descriptor, self._sealed, self._identity
            self._pins += 1
        try:
            length = os.preadv(descriptor, [view], self.layout.data_offset + offset)
            # Looked at after the read: a change before it has moved the time by now.
            if sealed and _identity(os.fstat(descriptor)) != identity:
                self._distrust()
                return False
            if length != len(view):
                self._distrust()
                return False
            return True
        except OSError as error:
            raise CacheError(f"reading {self.layout.key}: {error}") from error
        finally:
            self._unpin()

    def load(
        self,
        block_no: int,
        within: int,
        view: memoryview,
        *,
        sealed_only: bool = False,
        unverified: bool = False,
    ) -> bool:
        """Fill *view* from *within* block *block_no*, after checking the block if that is due.

        False when the block is absent, or was damaged and has been dropped, or when the content is
        complete and not verified (*unverified*: this is the verification).
        """
        with self._pinned() as descriptor:
            with self._lock:
                state, crc, identity = self._states[block_no], self._crcs[block_no], self._identity
                sealed = self._sealed
                may_give = unverified or self._locked_may_give(sealed_only)
            if state == _ABSENT or not may_give:
                return False
            if state == _TRUSTED:
                length = os.preadv(descriptor, [view], self._data_offset(block_no) + within)
                if length == len(view) and (not sealed or _identity(os.fstat(descriptor)) == identity):
                    return True
                self._distrust()
            size = self.layout.block_size(block_no)
            block = view if within == 0 and len(view) == size else _scratch.view(size)
            length = os.preadv(descriptor, [block], self._data_offset(block_no))
            if length != size or zlib.crc32(block) != crc:
                self._drop(descriptor, block_no, crc)
                return False
            if block is not view:
                view[:] = block[within : within + len(view)]
            unchanged = not sealed or _identity(os.fstat(descriptor)) == identity
            with self._lock:
                # Not trusted when the file changed meanwhile: the next reader checks again.
                if unchanged and self._states[block_no] == _PRESENT and self._crcs[block_no] == crc:
                    self._states[block_no] = _TRUSTED
            if not unchanged:
                self._distrust()
            return True

    # -- writing --------------------------------------------------------------------------------------

    def put(self, block_no: int, data: memoryview, *, replace: bool = False) -> Put:
        """Write a block that the table does not have, data first, then its entry.

        A present block stays as it is, unless *replace* says that *data* is verified and the present
        block's checksum differs.
        """
        crc = zlib.crc32(data)
        with self._pinned() as descriptor, self._entry_lock(descriptor, block_no) as locked:
            return self._write_block(descriptor, block_no, data, crc, replace) if locked else Put.REFUSED

    def _write_block(self, descriptor: int, block_no: int, data: memoryview, crc: int, replace: bool) -> Put:
        """Do what ``put`` says; the caller holds the entry's lock."""
        entry_offset = _TABLE_OFFSET + block_no * _ENTRY.size
        there = decode_entry(block_no, os.pread(descriptor, _ENTRY.size, entry_offset))
        if there is not None and (there == crc or not replace):
            self._set(block_no, there, _PRESENT)  # its data is checked when it is first used
            return Put.STORED if there == crc else Put.OTHER
        if not self._directory.admit(len(data)):
            return Put.REFUSED
        if there is not None:
            write_all(descriptor, _NO_ENTRY, entry_offset)
        try:
            write_all(descriptor, data, self._data_offset(block_no))
            write_all(descriptor, encode_entry(block_no, crc), entry_offset)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            self._directory.note_full()
            return Put.REFUSED  # what is here already can still be read
        self._set(block_no, crc, _TRUSTED)
        return Put.STORED

    def seal(self, losses: int) -> bool:
        """Record that the content is complete and verified.

        False when a block has gone since ``losses`` was what is given, which is before the verification.
        """
        with self._pinned() as descriptor:
            with self._lock:
                if self._absent or self._losses != losses:
                    return False
                table = b"".join(map(encode_entry, range(self.layout.blocks), self._crcs))
            write_all(descriptor, self.layout.seal_of(table), _SEAL_OFFSET)
            identity = _identity(os.fstat(descriptor))
            with self._lock:
                self._sealed, self._identity = self._absent == 0 and self._losses == losses, identity
                return self._sealed

    def take_over_seal(self) -> bool:
        """Look whether another process has sealed the table that this one sees."""
        with self._pinned() as descriptor:
            table = self._read_table(descriptor, 0, self.layout.blocks)
            sealed = self._is_sealed_on_disk(descriptor, table)
            identity = _identity(os.fstat(descriptor))
            with self._lock:
                if sealed and table == b"".join(map(encode_entry, range(self.layout.blocks), self._crcs)):
                    self._sealed, self._identity = True, identity
                return self._sealed

    def discard(self) -> None:
        """Remove the content from the disk for good: its bytes proved wrong. Never fails."""
        with self._lock:
            self._sealed = False
            identity = self._identity
        # Unlinked first: who finds the file discarded may open the content afresh, and must not meet it.
        self._directory.unlink(self.layout.key, identity[:2] if identity else None)
        with self._lock:
            self._discarded = True
        self.park()

    def park(self) -> bool:
        """Close the descriptor when nothing uses it, letting others evict the file; keep what is known."""
        with self._lock:
            if self._pins:
                self._closing = True
                return False
            descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)
        self._directory.forget_open(self)
        return True

    # -- the descriptor -------------------------------------------------------------------------------

    @contextmanager
    def _pinned(self) -> Iterator[int]:
        """Give the descriptor, opened if need be, for the time of the block; OSError → CacheError."""
        try:
            descriptor = self._pin()
            try:
                yield descriptor
            finally:
                self._unpin()
        except OSError as error:
            raise CacheError(f"cache file {self.layout.key}: {error}") from error

    def _pin(self) -> int:
        with self._lock:
            if self._discarded:
                raise CacheError(f"cache file {self.layout.key} was discarded")
            if self._descriptor is not None:
                self._pins += 1
                self._closing = False
                return self._descriptor
        descriptor = self._directory.open_file(self.layout)
        try:
            identity = _identity(os.fstat(descriptor))
            table = self._read_table(descriptor, 0, self.layout.blocks)
            sealed = self._is_sealed_on_disk(descriptor, table)
        except OSError:
            os.close(descriptor)
            raise
        return self._install(descriptor, table, sealed, identity)

    def _install(self, descriptor: int, table: bytes, sealed: bool, identity: tuple[int, int, int]) -> int:
        """Take a freshly opened *descriptor* into use, unless another thread was faster; return the pinned one."""
        with self._lock:
            self._pins += 1
            self._closing = False
            in_use = self._descriptor
            if in_use is None:
                self._descriptor = descriptor
                # What was checked before holds only for the very same, sealed and untouched file.
                if not (sealed and self._sealed and self._identity == identity):
                    if self._absent < self.layout.blocks:
                        self._locked_note_loss()
                    self._states = bytearray(self.layout.blocks)
                    self._absent = self.layout.blocks
                    self._locked_take_in(0, table)
                self._sealed, self._identity = sealed and self._absent == 0, identity
        if in_use is not None:
            os.close(descriptor)
            return in_use
        self._directory.note_open(self)
        return descriptor

    def _unpin(self) -> None:
        with self._lock:
            self._pins -= 1
            park = self._closing and self._pins == 0
        if park:
            self.park()

    # -- helpers --------------------------------------------------------------------------------------

    def _data_offset(self, block_no: int) -> int:
        return self.layout.data_offset + block_no * self.layout.block_bytes

    def _read_table(self, descriptor: int, first: int, stop: int) -> bytes:
        return os.pread(descriptor, (stop - first) * _ENTRY.size, _TABLE_OFFSET + first * _ENTRY.size)

    def _is_sealed_on_disk(self, descriptor: int, table: bytes) -> bool:
        return os.pread(descriptor, _SEAL_BYTES, _SEAL_OFFSET) == self.layout.seal_of(table)

    def _take_in(self, first: int, table: bytes) -> None:
        with self._lock:
            self._locked_take_in(first, table)

    def _locked_take_in(self, first: int, table: bytes) -> None:
        for index in range(len(table) // _ENTRY.size):
            block_no = first + index
            entry = table[index * _ENTRY.size : (index + 1) * _ENTRY.size]
            if entry != _NO_ENTRY and self._states[block_no] == _ABSENT:
                crc = decode_entry(block_no, entry)
                if crc is not None:
                    self._locked_set(block_no, crc, _PRESENT)

    def _set(self, block_no: int, crc: int, state: int) -> None:
        with self._lock:
            self._locked_set(block_no, crc, state)

    def _locked_set(self, block_no: int, crc: int, state: int) -> None:
        before = self._states[block_no]
        if before == _ABSENT:
            self._absent -= 1
        if before != _ABSENT and self._crcs[block_no] == crc:
            state = max(before, state)
        elif before != _ABSENT:
            self._locked_note_loss()
        self._states[block_no] = state
        self._crcs[block_no] = crc

    def _locked_may_give(self, sealed_only: bool) -> bool:
        return self._sealed or (self._absent > 0 and not sealed_only)

    def _locked_note_loss(self) -> None:
        self._losses += 1
        self._sealed = False
        self._on_loss()

    def _distrust(self) -> None:
        """Somebody changed the file: every block is checked again before it is used."""
        with self._lock:
            for block_no, state in enumerate(self._states):
                self._states[block_no] = min(state, _PRESENT)
            descriptor = self._descriptor
            if descriptor is None:
                return
            self._pins += 1
        try:
            identity = _identity(os.fstat(descriptor))
        finally:
            self._unpin()
        with self._lock:
            self._identity = identity

    def _drop(self, descriptor: int, block_no: int, crc: int) -> None:
        """Remove a damaged block's entry, unless somebody has replaced it meanwhile."""
        with self._lock:
            if self._states[block_no] != _ABSENT and self._crcs[block_no] == crc:
                self._states[block_no] = _ABSENT
                self._absent += 1
            self._locked_note_loss()
        self._directory.note_dropped()
        with self._entry_lock(descriptor, block_no) as locked:
            if not locked:
                raise CacheError(
                    f"block {block_no} of {self.layout.key} is damaged, and locked by somebody else"
                )
            offset = _TABLE_OFFSET + block_no * _ENTRY.size
            if decode_entry(block_no, os.pread(descriptor, _ENTRY.size, offset)) == crc:
                write_all(descriptor, _NO_ENTRY, offset)
        self._directory.complain(
            "damaged", f"block {block_no} of {self.layout.key} is damaged; fetching it again"
        )

    @contextmanager
    def _entry_lock(self, descriptor: int, block_no: int) -> Iterator[bool]:
        """Be the only writer of a block among all threads and processes; gives False when one is.

        The file lock belongs to the open file, hence to all threads of this process: among them
        ``_writing`` decides.
        """
        start = _TABLE_OFFSET + block_no * _ENTRY.size
        with self._lock:
            mine = block_no not in self._writing
            self._writing.add(block_no)
        if not mine:
            yield False
            return
        try:
            try:
                _lock_range(descriptor, fcntl.F_WRLCK, start)
            except BlockingIOError:
                yield False
                return
            try:
                yield True
            finally:
                _lock_range(descriptor, fcntl.F_UNLCK, start)
        finally:
            with self._lock:
                self._writing.discard(block_no)

    def _check(self) -> None:
        assert self._absent == self._states.count(_ABSENT)
        assert self._pins == 0 or self._descriptor is not None
        assert not (self._sealed and self._absent)


def write_proof(descriptor: int, layout: Layout, crcs: Iterable[int]) -> None:
    """Make an open file that holds all data, verified, the complete content of *layout*; *crcs* are the blocks'."""
    table = b"".join(map(encode_entry, range(layout.blocks), crcs))
    write_all(descriptor, layout.header, 0)
    write_all(descriptor, table, _TABLE_OFFSET)
    write_all(descriptor, layout.seal_of(table), _SEAL_OFFSET)


def is_sealed_file(descriptor: int, layout: Layout) -> bool:
    """Whether an open file is the complete and verified content of *layout*, going by its table."""
    status = os.fstat(descriptor)
    if status.st_size != layout.file_bytes or os.pread(descriptor, len(layout.header), 0) != layout.header:
        return False
    table = os.pread(descriptor, layout.blocks * _ENTRY.size, _TABLE_OFFSET)
    return os.pread(descriptor, _SEAL_BYTES, _SEAL_OFFSET) == layout.seal_of(table)


def _lock_range(descriptor: int, kind: int, start: int) -> None:
    request = _FLOCK.pack(kind, os.SEEK_SET, start, _ENTRY.size, 0)
    fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, request)


def _identity(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_dev, status.st_ino, status.st_mtime_ns
