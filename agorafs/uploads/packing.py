"""Which uploads travel in which transfer, and the zip packages that carry small files.

Why packages.  A request per file makes ten thousand small files a matter of hours. Servers unpack what is uploaded
under a name that ends in ``.agora_upload``. Two kinds of file can travel in no other way: empty ones, of which some
servers see nothing (no chunk, no file), and a user's own ``*.agora_upload``, which the server would unpack. The import
JSON never goes into a package: servers look it up by its name.

Why a writer of our own.  A transfer that was interrupted goes on with the chunks that are missing, perhaps under
another version of Python. So a package's bytes depend on nothing but its uploads: stored, not compressed; in the order
of ids; one date and mode; UTF-8 names. ``package_bytes`` knows their number before the first is written. What is
written here must never change for a package that was begun; ``chunk_sending`` begins anew when the size differs.

Units.  Bytes. A name has at most 65,535 of them, which no path on a file system exceeds.

Threads.  Functions without state.

Failure.  ``ContentChanged`` when a content is not what its upload recorded: size, SHA-1, time.
"""

from __future__ import annotations

import hashlib
import struct
import uuid
import zlib
from collections.abc import Callable, Iterable, Sequence
from typing import BinaryIO

from agorafs.uploads.sources import Content, ContentChanged
from agorafs.uploads.values import PlannedTransfer, Upload

SMALL_FILE_BYTES = 8 << 20  # a chunk's worth: larger files lose nothing by travelling alone; not measured
PACKAGE_BYTES = 64 << 20  # of contents; what is built on disk and read again by the server at once
PACKAGE_FILES = 10_000
PACKAGE_SUFFIX = ".agora_upload"

# Numbers that do not fit below this are written in the format's 64-bit fields.
_ZIP64_FROM = 0xFFFFFFFF

_LOCAL = struct.Struct("<4s5H3L2H")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_END = struct.Struct("<4s4H2LH")
_END_64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR_64 = struct.Struct("<4sLQL")
_VERSION, _VERSION_64 = 20, 45
_MADE_ON_UNIX = 3 << 8
_UTF8_NAME = 0x800
_FIRST_OF_JANUARY_1980 = 1 << 5 | 1
_PLAIN_FILE = 0o100644 << 16


def plan(uploads: Sequence[Upload], import_file: str | None, chunk_bytes: int) -> list[PlannedTransfer]:
    """Return the transfers that carry *uploads*, each upload in exactly one, in the order of their first ids."""
    ordered = sorted(uploads, key=lambda upload: upload.id)
    obliged = {upload.id for upload in ordered if _must_be_packed(upload, import_file)}
    small = {
        upload.id
        for upload in ordered
        if upload.size <= SMALL_FILE_BYTES and upload.target != import_file and upload.id not in obliged
    }
    packed = obliged | small if len(obliged) + len(small) > 1 else obliged
    groups: list[list[Upload]] = []
    open_group: list[Upload] = []
    open_bytes = 0
    for upload in ordered:
        if upload.id not in packed:
            groups.append([upload])
            continue
        is_full = open_bytes + upload.size > PACKAGE_BYTES or len(open_group) >= PACKAGE_FILES
        if is_full or not open_group:
            open_group, open_bytes = [], 0
            groups.append(open_group)
        open_group.append(upload)
        open_bytes += upload.size
    return [_planned(group, group[0].id in packed, chunk_bytes) for group in groups]


def _must_be_packed(upload: Upload, import_file: str | None) -> bool:
    if upload.target == import_file:
        return False
    return upload.size == 0 or upload.target.endswith(PACKAGE_SUFFIX)


def _planned(group: Sequence[Upload], is_package: bool, chunk_bytes: int) -> PlannedTransfer:
    ids = tuple(upload.id for upload in group)
    if is_package:
        target = f"upload_{uuid.uuid4()}{PACKAGE_SUFFIX}"
        return PlannedTransfer(target, package_bytes(group), chunk_bytes, True, ids)
    return PlannedTransfer(group[0].target, group[0].size, chunk_bytes, False, ids)


def package_bytes(uploads: Iterable[Upload]) -> int:
    """Return how long the package of *uploads* will be."""
    offset = directory = count = 0
    for upload in _in_order(uploads):
        directory += len(_central_header(upload, 0, offset))
        offset += len(_local_header(upload, 0)) + upload.size
        count += 1
    return offset + directory + len(_end(count, directory, offset))


def write_package(file: BinaryIO, uploads: Iterable[Upload], check: Callable[[], None]) -> None:
    """Write the package of *uploads* to the start of *file*, each content compared with what was recorded.

    *check* is called now and then and may raise to end it.
    """
    ordered = _in_order(uploads)
    central: list[bytes] = []
    for upload in ordered:
        offset = file.tell()
        file.write(_local_header(upload, 0))
        crc = _write_content(file, upload, check)
        end = file.tell()
        file.seek(offset)
        file.write(_local_header(upload, crc))
        file.seek(end)
        central.append(_central_header(upload, crc, offset))
    start = file.tell()
    file.writelines(central)
    file.write(_end(len(central), file.tell() - start, start))


def _write_content(file: BinaryIO, upload: Upload, check: Callable[[], None]) -> int:
    """Copy one content to *file*; return its CRC."""
    crc = 0
    digest = hashlib.sha1(usedforsecurity=False)
    with Content(upload) as content:
        for block in content.blocks():
            check()
            crc = zlib.crc32(block, crc)
            digest.update(block)
            file.write(block)
    if digest.hexdigest() != upload.sha1:
        raise ContentChanged(f"{upload.target} changed before it was uploaded: its SHA-1 is another now")
    return crc


def _in_order(uploads: Iterable[Upload]) -> list[Upload]:
    return sorted(uploads, key=lambda upload: upload.id)


# -- the format's records ----------------------------------------------------------------------------


def _local_header(upload: Upload, crc: int) -> bytes:
    name = upload.target.encode()
    extra = b""
    version, size = _VERSION, upload.size
    if upload.size >= _ZIP64_FROM:
        version, size = _VERSION_64, 0xFFFFFFFF
        extra = struct.pack("<2H2Q", 1, 16, upload.size, upload.size)
    header = _LOCAL.pack(
        b"PK\3\4", version, _UTF8_NAME, 0, 0, _FIRST_OF_JANUARY_1980, crc, size, size, len(name), len(extra)
    )
    return header + name + extra


def _central_header(upload: Upload, crc: int, offset: int) -> bytes:
    name = upload.target.encode()
    large = b""
    size, place = upload.size, offset
    if upload.size >= _ZIP64_FROM:
        size = 0xFFFFFFFF
        large += struct.pack("<2Q", upload.size, upload.size)
    if offset >= _ZIP64_FROM:
        place = 0xFFFFFFFF
        large += struct.pack("<Q", offset)
    extra = struct.pack("<2H", 1, len(large)) + large if large else b""
    version = _VERSION_64 if large else _VERSION
    header = _CENTRAL.pack(
        b"PK\1\2",
        _MADE_ON_UNIX | version,
        version,
        _UTF8_NAME,
        0,
        0,
        _FIRST_OF_JANUARY_1980,
        crc,
        size,
        size,
        len(name),
        len(extra),
        0,
        0,
        0,
        _PLAIN_FILE,
        place,
    )
    return header + name + extra


def _end(count: int, directory: int, offset: int) -> bytes:
    """Return what follows the central directory of *count* entries and *directory* bytes at *offset*."""
    if directory < _ZIP64_FROM and offset < _ZIP64_FROM:
        return _END.pack(b"PK\5\6", 0, 0, count, count, directory, offset, 0)
    large = _END_64.pack(
        b"PK\6\6",
        _END_64.size - 12,
        _MADE_ON_UNIX | _VERSION_64,
        _VERSION_64,
        0,
        0,
        count,
        count,
        directory,
        offset,
    )
    locator = _LOCATOR_64.pack(b"PK\6\7", 0, offset + directory, 1)
    return (
        large
        + locator
        + _END.pack(b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, min(directory, 0xFFFFFFFF), 0xFFFFFFFF, 0)
    )
