"""What is true of a node before it is opened: type, size, time, permissions, inode number.

Link counts.  Files have one name, so 1. Directories have 1 as on btrfs, which means "subdirectories are not
counted" to every tool that would otherwise skip some of them; counting would need a listing per ``stat``.

Sizes.  A file's is the archive's, a link's the length of its text. A directory's is one block (4096), as on
ext4, so that ``du`` of a mounted tree and of its copy agree.
"""

from __future__ import annotations

import enum
import stat
from dataclasses import dataclass

DIRECTORY_SIZE_BYTES = 4096


class FileType(enum.IntEnum):
    """The values are those of ``st_mode``'s type bits."""

    DIRECTORY = stat.S_IFDIR
    FILE = stat.S_IFREG
    LINK = stat.S_IFLNK


@dataclass(frozen=True, slots=True)
class Attr:
    """``permissions`` are the nine bits of ``chmod``; ``mtime_ns`` is nanoseconds since the epoch.

    ``may_grow``: a local file, whose size is true now and can be another in a moment.
    """

    ino: int
    file_type: FileType
    size: int
    mtime_ns: int
    permissions: int
    may_grow: bool = False

    @property
    def mode(self) -> int:
        """Type and permissions as in ``st_mode``."""
        return self.file_type | self.permissions


def permissions(file_type: FileType, *, may_change: bool, umask: int) -> int:
    """Return the permission bits: write bits only where a change could be allowed."""
    if file_type is FileType.LINK:
        return 0o777  # never looked at
    bits = 0o777 if file_type is FileType.DIRECTORY else 0o666
    if not may_change:
        bits &= 0o555
    return bits & ~umask
