"""Adopting: the bytes of a local file become cached content, without a request.

Why.  What was written here, and has arrived at the archive, is likely to be read here next. Its bytes are still at
hand; to fetch them would be to send them twice.

How.  The file is copied into one that has no name, block by block, and hashed on the way. Only when its size and
SHA-1 have proved right does the copy get the content's name, complete and sealed. So a process that is killed leaves
nothing behind, and no block of a file that proves wrong is ever to be seen. Where the name is taken (a part is cached
already, somebody reads), or the file system knows no files without a name, the proven blocks are put into the
content's own file one by one, as another process would.

Units.  Sizes are bytes. Memory: the one buffer of a block that the caller gives.

Threads.  Functions without state; everything shared is in ``ContentDirectory`` and ``BlockFile``.

Failure.  ``OSError`` and ``CacheError``, for the caller to log. A file that is not what it should be is no error, but
not adopted.
"""

from __future__ import annotations

import hashlib
import os
import stat
import zlib
from pathlib import Path

from agorafs.cache.block_file import BlockFile, Layout, Put, write_all, write_proof
from agorafs.cache.content_directory import ContentDirectory
from agorafs.errors import CacheError


def adopt_file(
    directory: ContentDirectory, layout: Layout, sha1: str, path: Path, buffer: memoryview
) -> bool:
    """Make the file *path* the cached content of *layout*; return whether that was possible.

    *buffer* holds a block. Raises ``CacheError`` saying why when the file has another size or SHA-1.
    """
    if not directory.reserve(layout.file_bytes):
        return False
    try:
        source = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a FIFO must not hold us up
        try:
            return _adopt(directory, layout, sha1, source, buffer)
        finally:
            os.close(source)
    finally:
        directory.release(layout.file_bytes)


def _adopt(directory: ContentDirectory, layout: Layout, sha1: str, source: int, buffer: memoryview) -> bool:
    status = os.fstat(source)
    if not stat.S_ISREG(status.st_mode) or status.st_size != layout.size:
        raise CacheError(f"it is no file of {layout.size} bytes")
    copy = directory.create_unnamed()
    try:
        os.ftruncate(copy, layout.file_bytes)
        crcs = _copy(layout, sha1, source, copy, buffer)
        write_proof(copy, layout, crcs)
        return directory.give_name(copy, layout.key) or _put_blocks(directory, layout, copy, crcs, buffer)
    finally:
        os.close(copy)


def _copy(layout: Layout, sha1: str, source: int, copy: int, buffer: memoryview) -> list[int]:
    """Copy all data, and return the blocks' CRC-32 if its SHA-1 is *sha1*; else raise ``CacheError``."""
    digest = hashlib.sha1(usedforsecurity=False)
    crcs = []
    for block_no in range(layout.blocks):
        block = buffer[: layout.block_size(block_no)]
        _read_exactly(source, block, block_no * layout.block_bytes)
        digest.update(block)
        crcs.append(zlib.crc32(block))
        write_all(copy, block, layout.data_offset + block_no * layout.block_bytes)
    if digest.hexdigest() != sha1:
        raise CacheError(f"its SHA-1 is {digest.hexdigest()}")
    return crcs


def _put_blocks(
    directory: ContentDirectory, layout: Layout, copy: int, crcs: list[int], buffer: memoryview
) -> bool:
    """Put what is missing of the content into its file, from the proven *copy*."""
    file = BlockFile(directory, layout, on_loss=_take_no_notice)
    file.open()
    try:
        for _ in range(2):  # replacing what was damaged counts as a loss; then all is in place
            losses = file.losses
            for block_no, crc in enumerate(crcs):
                block = buffer[: layout.block_size(block_no)]
                _read_exactly(copy, block, layout.data_offset + block_no * layout.block_bytes)
                if zlib.crc32(block) != crc:
                    raise CacheError("the disk gives other bytes than were written to it")
                if file.put(block_no, block, replace=True) is not Put.STORED:
                    return False
            if file.seal(losses):
                return True
        return False
    finally:
        file.park()


def _take_no_notice() -> None:
    """Nobody keeps a sum over the blocks here."""


def _read_exactly(descriptor: int, view: memoryview, offset: int) -> None:
    while view:
        length = os.preadv(descriptor, [view], offset)
        if length == 0:
            raise CacheError("it was cut while it was read")
        view, offset = view[length:], offset + length
