"""Directories of ours on the local disk: made when they are needed, and refused in one sentence when that fails.

Why.  State, logs and spool hold names of files, and so of patients: they are open to their owner alone. A
directory that can not be written must be found out before anything depends on it.

Place.  Shared: the registry, the log, the spool and the cache are made through here.

Threads.  The functions may be called from any thread and by several processes at once.

Failure.  ``UsageError`` with status CACHE_DIRECTORY that names the directory.
"""

from __future__ import annotations

import os
import uuid
from pathlib import Path

from agorafs.errors import ExitStatus, UsageError


def make_directory(path: Path, *, called: str = "", advice: str = "") -> Path:
    """Create *path* unless it is there, see that a file can be made in it, and return it.

    Args:
        path: The directory.
        called: What it is to the user, such as "the cache directory"; stands before its path in a refusal.
        advice: The way out; the end of a refusal.

    Raises:
        UsageError: CACHE_DIRECTORY; it can not be made, or nothing can be written there.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        _probe(path)
    except OSError as error:
        name = f"{called} {path}" if called else str(path)
        raise UsageError(
            f"{name} can not be used: {error.strerror}" + (f"; {advice}" if advice else ""),
            ExitStatus.CACHE_DIRECTORY,
        ) from None
    return path


def make_private_directory(path: Path) -> Path:
    """Create *path*, open to its owner alone, and return it.

    Raises:
        UsageError: CACHE_DIRECTORY; it can not be made or written, or is another user's.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        state = path.stat()
        if state.st_uid != os.geteuid():
            raise UsageError(f"{path} belongs to another user", ExitStatus.CACHE_DIRECTORY)
        if state.st_mode & 0o077:
            path.chmod(0o700)
    except OSError as error:
        raise UsageError(f"{path} can not be used: {error.strerror}", ExitStatus.CACHE_DIRECTORY) from None
    return make_directory(path)


def _probe(directory: Path) -> None:
    # Asking for permissions would not notice a disk that is read-only, or full.
    probe = directory / f".writable-{uuid.uuid4().hex}"
    probe.touch(mode=0o600, exist_ok=False)
    probe.unlink()
