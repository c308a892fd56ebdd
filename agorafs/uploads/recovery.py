"""From a state directory to a journal and a spool that can be trusted, whatever happened before.

Whose spool.  ``spool/<server and user>-<n>/``, one for each mount that is alive at the same time, held by a lock that
the kernel drops with the process. A new mount takes the first that is free; what other dead mounts of the same server
and user left behind is taken over into it, so that one mount is enough to bring everything to the server.

What can be trusted.  After the death of processes: every commit and every byte. After another boot: what was made
durable; a file that was not is taken out of the journal and, if there is anything of it, moved to ``salvaged/``. A file
that was being written when agorafs ended is kept and not sent until somebody says so.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from agorafs.errors import ExitStatus, UsageError
from agorafs.uploads.durable import Disk, boot_id
from agorafs.uploads.journal import Journal
from agorafs.uploads.journal_rows import NodeRow
from agorafs.uploads.spool import Spool, SpoolLimits

log = logging.getLogger(__name__)

HELD_BACK = "agorafs ended while this file was being written; it may be incomplete"

_MAX_SPOOLS = 100


@dataclass(slots=True)
class Home:
    """A spool directory that this process has for itself."""

    directory: Path
    journal: Journal
    spool: Spool
    _lock: int

    def close(self) -> None:
        """Let others have the directory. The journal is closed by its user."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def open_home(
    state_directory: Path,
    *,
    url: str,
    user: str,
    limits: SpoolLimits,
    disk: Disk,
    read_boot_id: Callable[[], str] = boot_id,
) -> Home:
    """Take a free spool of this server and user, with everything that dead mounts left behind.

    Raises:
        UsageError: The state directory can not be used.
    """
    try:
        with contextlib.ExitStack() as on_failure:
            base = state_directory / "spool"
            base.mkdir(mode=0o700, parents=True, exist_ok=True)
            name = hashlib.sha256(f"{url}\0{user}".encode()).hexdigest()[:16]
            home: Home | None = None
            for number in range(_MAX_SPOOLS):
                directory = base / f"{name}-{number}"
                if home is not None and not directory.exists():
                    continue
                lock = _take(directory)
                if lock is None:
                    continue
                found = _open(directory, lock, limits, disk, read_boot_id())
                on_failure.callback(found.close)
                found.journal.set_meta(url=url, user=user)
                if home is None:
                    home = found
                else:
                    _take_over(home, found)
            on_failure.pop_all()
    except OSError as error:
        raise UsageError(
            f"the spool in {state_directory} can not be used ({error.strerror}): choose another with "
            "-o state_directory=DIR",
            ExitStatus.CACHE_DIRECTORY,
        ) from None
    if home is None:
        raise UsageError(f"{_MAX_SPOOLS} mounts of {url} are alive", ExitStatus.FAILED)
    return home


def left_behind(state_directory: Path) -> list[dict[str, object]]:
    """Return what waits for the next mount, ready for JSON: one entry for each spool that nobody serves."""
    found: list[dict[str, object]] = []
    with contextlib.suppress(FileNotFoundError):
        for directory in sorted((state_directory / "spool").iterdir()):
            lock = _take(directory, may_make=False)
            if lock is None:
                continue
            try:
                found += _waiting(directory)
            finally:
                os.close(lock)
    return found


def _waiting(directory: Path) -> Iterator[dict[str, object]]:
    if not (directory / "journal.db").exists():
        return
    journal = Journal(directory, Disk())
    try:
        files = [node for node in journal.nodes() if not node.is_directory]
        if files:
            yield {
                "url": journal.meta("url"),
                "files": len(files),
                "bytes": sum(node.size for node in files),
                "failed": sum(node.error != "" for node in files),
            }
    finally:
        journal.close()


def _take(directory: Path, *, may_make: bool = True) -> int | None:
    """Lock *directory* for this process; None if another has it, or it is going away."""
    if may_make:
        directory.mkdir(mode=0o700, exist_ok=True)
    try:
        lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(lock), (directory / "lock").stat()):
            return lock
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(lock)
    return None


def _open(directory: Path, lock: int, limits: SpoolLimits, disk: Disk, boot: str) -> Home:
    spool = Spool(directory, limits, disk)
    journal = Journal(directory, disk)
    is_same_boot = boot != "" and journal.meta("boot") in (boot, None)
    _make_trustworthy(journal, spool, is_same_boot=is_same_boot)
    journal.set_meta(boot=boot)
    journal.barrier()
    return Home(directory, journal, spool, lock)


def _make_trustworthy(journal: Journal, spool: Spool, *, is_same_boot: bool) -> None:
    """Bring the journal in line with what is there."""
    known: set[str] = set()
    for node in journal.nodes():
        if node.is_directory or node.content is None:
            continue
        size = _size(spool.path(node.content))
        if size is not None and _is_trusted(node, size, is_same_boot):
            known.add(node.content)
            if not node.is_whole and not node.error:
                journal.update_node(replace(node, size=size, error=HELD_BACK))
            elif node.size != size:
                journal.update_node(replace(node, size=size))
            continue
        if node.aside is not None:  # the server has the bytes
            journal.update_node(replace(node, content=None))
            continue
        if size is None:
            log.error("the bytes of %s are not in the spool any more; they are not sent", node.name)
        else:
            kept = spool.keep_aside(node.content, node.name)
            log.error(
                "%s may be incomplete since the power was cut; it is not sent, and kept as %s",
                node.name,
                kept,
            )
        before = _on_its_way(journal, spool, node)
        if before is None:
            journal.remove_nodes([node.id])
        else:
            journal.update_node(before)
    for batch in journal.batches():
        known.update(
            upload.content.name
            for upload in journal.uploads(batch.id)
            if upload.content.parent == spool.contents
        )
    for path in spool.contents.iterdir():
        if path.name not in known:
            spool.remove(path.name)  # of a file that was removed, or never closed before a power cut


def _on_its_way(journal: Journal, spool: Spool, node: NodeRow) -> NodeRow | None:
    """Return *node* as the version of it that is on its way to the server: that one is whole."""
    known = None if node.upload is None else journal.upload(node.upload)
    if known is None:
        return None
    upload = known[0]
    content = upload.content.name
    if content == node.content or _size(upload.content) != upload.size:
        return None
    return replace(
        node,
        content=content,
        size=upload.size,
        mtime_ns=upload.mtime_ns,
        is_whole=True,
        is_durable=True,
        error="",
    )


def _is_trusted(node: NodeRow, size: int, is_same_boot: bool) -> bool:
    if is_same_boot:
        return True
    return node.is_durable and node.is_whole and node.size == size


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def _take_over(home: Home, other: Home) -> None:
    """Move everything from *other* into *home*, and *other* away. May be cut off anywhere, and is begun again then."""
    contents = list(other.spool.contents.iterdir())
    for path in contents:
        with contextlib.suppress(FileExistsError):
            os.link(path, home.spool.path(path.name))
            home.spool.count(path.stat().st_size)
    home.spool.sync_names()
    home.spool.take_salvaged(other.spool)
    home.journal.take_over(other.journal)
    other.journal.close()
    log.info("took over what another mount left behind in %s", other.directory)
    shutil.rmtree(other.directory)
    other.close()
