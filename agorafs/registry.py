"""The list of this user's mounts, kept as one small file for each in the state directory.

Why.  ``agorafs status``, ``umount`` and ``refresh`` have to find the process that serves a directory, and a
crash must not leave a mount in the list that is not there. So the file of a mount is locked by the process
that serves it, and the kernel drops the lock when that process dies, however it dies: an unlocked file is a
dead mount. A process id alone would not do, since ids are used again.

Place.  Used by ``commands``, ``daemon`` and ``control``. The files are ``mounts/<id>.json`` (locked, mode
0600) and beside it the socket of ``control``; the id is made from the mount point.

Threads.  None of its own; the functions may be called from any thread.

Secrets.  A record holds the address of the server and paths, never a key.

Failure.  A directory or file that can not be made is ``UsageError`` with status CACHE_DIRECTORY. Unreadable
records are those of a mount that is just starting or ending, and are left out.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from agorafs.errors import ExitStatus, UsageError
from agorafs.private_directory import make_private_directory

_LOCK_WAIT_S = 1.0  # readers hold the lock for microseconds, to see whether anyone else does
_LOCK_PAUSE_S = 0.01
_PATHS = ("mountpoint", "log_file")  # of a record


@dataclass(frozen=True, slots=True)
class MountRecord:
    """What is known of a mount without asking it. ``started_s`` is the wall clock's, for people to read."""

    mountpoint: str
    url: str
    pid: int
    started_s: int
    log_file: str | None


def mount_id(mountpoint: Path) -> str:
    """Return the name that files belonging to *mountpoint* (absolute, resolved) begin with."""
    return hashlib.sha256(os.fsencode(mountpoint)).hexdigest()[:16]


def mounts_directory(state_directory: Path) -> Path:
    """Return where records and sockets of this state directory are; it need not exist."""
    return state_directory / "mounts"


class Registration:
    """This process's place in the list; held from before the mount until after it.

    Built by ``register``. Not shared between threads: the one that registers also closes.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor

    def close(self) -> None:
        """Leave the list. The file goes before the lock, so that nobody sees it unlocked."""
        if self._descriptor < 0:
            return
        with contextlib.suppress(OSError):
            self._path.unlink()
        os.close(self._descriptor)
        self._descriptor = -1


def register(
    state_directory: Path,
    record: MountRecord,
    *,
    monotonic: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Registration:
    """Enter *record* into the list, for as long as this process lives or until ``close``.

    Raises:
        UsageError: MOUNT_POINT when another process serves the same mount point, CACHE_DIRECTORY when the
            state directory can not be used.
    """
    directory = make_private_directory(mounts_directory(make_private_directory(state_directory)))
    path = directory / f"{mount_id(Path(record.mountpoint))}.json"
    give_up_at = monotonic() + _LOCK_WAIT_S
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise _unusable(path, error) from None
        if _try_lock(descriptor) and _is_still(path, descriptor):
            break
        # Locked by another, or removed by one that ended between our open and our lock.
        os.close(descriptor)
        if monotonic() >= give_up_at:
            raise UsageError(
                f"{record.mountpoint} is being served by another agorafs process", ExitStatus.MOUNT_POINT
            )
        sleep(_LOCK_PAUSE_S)
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, _to_json(record), 0)
    except OSError as error:
        os.close(descriptor)
        raise _unusable(path, error) from None
    return Registration(path, descriptor)


def live_mounts(state_directory: Path) -> list[MountRecord]:
    """Return the mounts whose process is alive, by mount point; those of dead processes are removed."""
    records = []
    try:
        paths = sorted(mounts_directory(state_directory).glob("*.json"))
    except OSError:
        paths = []
    for path in paths:
        record = _read_if_alive(path)
        if record is not None:
            records.append(record)
    return sorted(records, key=lambda record: record.mountpoint)


def find_live(state_directory: Path, mountpoint: Path) -> MountRecord | None:
    """Return the record of *mountpoint* (absolute, resolved) if its process is alive."""
    return _read_if_alive(mounts_directory(state_directory) / f"{mount_id(mountpoint)}.json")


def _read_if_alive(path: Path) -> MountRecord | None:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        if _try_lock(descriptor):
            # Nobody serves it. Removed while we hold the lock, so that a mount that starts now makes its own.
            if _is_still(path, descriptor):
                path.unlink()
                path.with_suffix(".sock").unlink(missing_ok=True)
            return None
        return _from_json(os.pread(descriptor, 65536, 0))
    except (OSError, ValueError, TypeError, LookupError, AttributeError):
        return None
    finally:
        os.close(descriptor)


def _to_json(record: MountRecord) -> bytes:
    # Paths are written by their bytes: who reads them may decode names by another locale.
    fields = asdict(record)
    for name in _PATHS:
        if fields[name] is not None:
            fields[name] = os.fsencode(fields[name]).decode("utf-8", "surrogateescape")
    return json.dumps(fields).encode("ascii")


def _from_json(text: bytes) -> MountRecord:
    fields = json.loads(text)
    for name in _PATHS:
        if fields[name] is not None:
            fields[name] = os.fsdecode(fields[name].encode("utf-8", "surrogateescape"))
    return MountRecord(**fields)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except OSError:
        return False


def _unusable(path: Path, error: OSError) -> UsageError:
    return UsageError(f"{path} can not be used: {error.strerror}", ExitStatus.CACHE_DIRECTORY)
