"""Inode numbers as a function of what a node is: the same in every mount, for ever.

Tools remember inode numbers (rsync, git, NFS re-export, hard-link detection), so they may not come from a
counter. A number has 63 bits: 5 bits of space, 58 bits of id. Archive ids are far below 2**58; whatever has
no id of its own (virtual directories, ``.agora`` files, some links) gets 58 bits of a BLAKE2b hash of its
description in a space of its own, where a collision among a million nodes has a probability of about 2e-6.
"""

from __future__ import annotations

import enum
from hashlib import blake2b

_ID_BITS = 58
_ID_MASK = (1 << _ID_BITS) - 1


class InodeSpace(enum.IntEnum):
    """What a number's id counts. The values are part of the promise: never renumber."""

    HASHED = 1
    PROJECT = 2
    FOLDER = 3
    EXAM = 4
    SERIES = 5
    DATASET = 6
    DATAFILE = 7
    PATIENT = 8
    FOLDER_ITEM = 9
    PROJECT_EXAMS = 10
    PROJECT_PATIENTS = 11


ROOT_INODE = 1


def inode(space: InodeSpace, object_id: int) -> int:
    """Return the inode number of the object *object_id* of *space*."""
    if not 0 <= object_id <= _ID_MASK:
        return hashed_inode(space.name, str(object_id))
    return space << _ID_BITS | object_id


def hashed_inode(*description: str) -> int:
    """Return the inode number of something known only by *description*."""
    digest = blake2b("\0".join(description).encode(errors="surrogatepass"), digest_size=8).digest()
    return InodeSpace.HASHED << _ID_BITS | int.from_bytes(digest, "big") & _ID_MASK
