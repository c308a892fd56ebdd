"""The directory a mount goes to: may it, is something there already, and how it is freed again.

Why.  A mount that has died answers every ``stat`` with ENOTCONN, and one whose process is stuck answers
nothing at all, so asking the directory is the last thing to do. What is mounted where is read from
``/proc/self/mountinfo``; where a ``stat`` can not be avoided it runs in a thread that is given up after a
while.

Place.  Used by ``commands``; knows mount(8), fusermount3 and ``/proc``, nothing of archives.

Units.  Times are seconds.

Failure.  ``UsageError`` with status MOUNT_POINT or NO_FUSE, one sentence that names the directory and the way
out.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from agorafs.errors import ExitStatus, UsageError

FS_TYPE = "fuse.agorafs"
MOUNTINFO = Path("/proc/self/mountinfo")
ANSWER_TIMEOUT_S = 5.0  # for a healthy mount a stat of the root is answered from memory, in milliseconds
_UNMOUNT_TIMEOUT_S = 30.0
_OCTAL_ESCAPE = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class MountEntry:
    """One line of mountinfo."""

    mountpoint: Path
    fs_type: str
    source: str

    @property
    def is_ours(self) -> bool:
        """Whether this is a mount of agorafs, alive or dead."""
        return self.fs_type == FS_TYPE


def parse_mountinfo(text: str) -> list[MountEntry]:
    """Return the mounts in *text*, oldest first; see proc_pid_mountinfo(5) for the form."""
    entries = []
    for line in text.split("\n"):  # not splitlines: a name may hold U+2028 and the like as it is
        left, separator, right = line.partition(" - ")
        head, tail = left.split(" "), right.split(" ")
        if separator and len(head) >= 5 and len(tail) >= 2:
            entries.append(MountEntry(Path(_unescape(head[4])), tail[0], _unescape(tail[1])))
    return entries


def _unescape(text: str) -> str:
    # Space, tab, newline, backslash and # are written as three octal digits; all else stands for itself.
    return _OCTAL_ESCAPE.sub(lambda match: chr(int(match.group(1), 8)), text)


def find_mount(mountpoint: Path, mounts: Iterable[MountEntry] | None = None) -> MountEntry | None:
    """Return what is mounted exactly at *mountpoint* (absolute, resolved); the topmost if several are."""
    found = None
    for entry in current_mounts() if mounts is None else mounts:
        if entry.mountpoint == mountpoint:
            found = entry
    return found


def current_mounts() -> list[MountEntry]:
    """Return the mounts of this process's namespace."""
    # decoded as Python decodes paths, so that they compare in every locale
    return parse_mountinfo(os.fsdecode(MOUNTINFO.read_bytes()))


def resolve_mountpoint(path: Path) -> Path:
    """Return *path* absolute and without links, as mountinfo has it; what is mounted there is not asked."""
    path = Path(os.path.normpath(path.absolute()))
    # The last component is looked at only when nothing is mounted there: on a dead mount even lstat may wait.
    resolved = path.parent.resolve() / path.name if path.name else path
    if find_mount(resolved) is not None:
        return resolved
    return resolved.resolve()


def stat_error(path: Path, timeout_s: float = ANSWER_TIMEOUT_S) -> OSError | None:
    """Return the error that ``stat`` and ``statvfs`` of *path* give, None when they work.

    A path that does not answer in time gives a TimeoutError. The thread that waits for it is left behind.
    """
    outcome: list[OSError | None] = []

    def ask() -> None:
        try:
            path.stat()
            os.statvfs(path)
        except OSError as error:
            outcome.append(error)
        else:
            outcome.append(None)

    thread = threading.Thread(target=ask, name="stat", daemon=True)
    thread.start()
    thread.join(timeout_s)
    if not outcome:
        return TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
    return outcome[0]


def is_stale(error: OSError | None) -> bool:
    """Whether *error* is that of a mount whose process has ended."""
    return error is not None and error.errno in (errno.ENOTCONN, errno.ECONNABORTED)


def check_fuse_available() -> None:
    """Raise UsageError(NO_FUSE) unless this process could mount with FUSE at all."""
    device = Path("/dev/fuse")
    if not device.exists():
        raise UsageError(
            "there is no /dev/fuse: load it with modprobe fuse, or give the container --device /dev/fuse "
            "and --cap-add SYS_ADMIN",
            ExitStatus.NO_FUSE,
        )
    if not os.access(device, os.R_OK | os.W_OK):
        raise UsageError(
            "/dev/fuse may not be opened by this user: run chmod 666 /dev/fuse as root", ExitStatus.NO_FUSE
        )
    if os.geteuid() != 0 and shutil.which("fusermount3") is None and shutil.which("fusermount") is None:
        raise UsageError(
            "fusermount3 is missing, which mounts for ordinary users: install the package fuse3",
            ExitStatus.NO_FUSE,
        )


def check_allow_other(fuse_conf: Path = Path("/etc/fuse.conf")) -> None:
    """Raise UsageError unless this user may let others into a mount."""
    if os.geteuid() == 0:
        return
    try:
        lines = fuse_conf.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    if not any(line.strip() == "user_allow_other" for line in lines):
        raise UsageError(
            f"-o allow_other is not allowed to this user: the administrator must write user_allow_other "
            f"into {fuse_conf}"
        )


def check_directory(mountpoint: Path, *, nonempty: bool) -> None:
    """Raise UsageError(MOUNT_POINT) unless *mountpoint* can be mounted on. No dead mount may be on it."""
    try:
        is_empty = next(mountpoint.iterdir(), None) is None
    except FileNotFoundError:
        raise _refusal(f"{mountpoint} does not exist: run mkdir {mountpoint}") from None
    except NotADirectoryError:
        raise _refusal(f"{mountpoint} is not a directory") from None
    except OSError as error:
        raise _refusal(f"{mountpoint} can not be used: {error.strerror}") from None
    if not is_empty and not nonempty:
        raise _refusal(
            f"{mountpoint} is not empty, and what is in it would be hidden: "
            "choose an empty directory, or give -o nonempty"
        )
    if os.geteuid() != 0 and not os.access(mountpoint, os.W_OK):
        raise _refusal(f"{mountpoint} is not writable by this user, which mounting on it needs")


def check_not_hiding(mountpoint: Path, needed: Iterable[tuple[str, Path]]) -> None:
    """Refuse a mount over files that the mount itself needs: it would wait for itself for ever."""
    for what, path in needed:
        if path.resolve().is_relative_to(mountpoint):
            raise _refusal(f"{what} {path} lies inside {mountpoint}, where the mount would hide it")


def unmount(mountpoint: Path, *, lazy: bool = False) -> None:
    """Unmount *mountpoint*. With *lazy* it disappears at once and ends when the last file is closed.

    Raises:
        UsageError: MOUNT_POINT; it is busy (the message names the processes that hold it), or not allowed.
    """
    command = _unmount_command(mountpoint, lazy=lazy)
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_UNMOUNT_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise _refusal(
            f"unmounting {mountpoint} did not end within {_UNMOUNT_TIMEOUT_S:g} s: try agorafs umount --lazy"
        ) from None
    except OSError as error:
        raise UsageError(f"{command[0]} can not be run: {error.strerror}", ExitStatus.NO_FUSE) from None
    if done.returncode == 0:
        return
    said = " ".join(done.stderr.decode(errors="replace").split())
    if "busy" in said.lower():
        users = ", ".join(holders(mountpoint))
        raise _refusal(
            f"{mountpoint} is busy" + (f", used by {users}" if users else "") + ": close what uses it, "
            "or detach it with agorafs umount --lazy"
        )
    raise _refusal(f"{mountpoint} can not be unmounted: {said or f'status {done.returncode}'}")


def _unmount_command(mountpoint: Path, *, lazy: bool) -> list[str]:
    for program in ("fusermount3", "fusermount"):
        if shutil.which(program) is not None:
            return [program, "-u", *(["-z"] if lazy else []), str(mountpoint)]
    return ["umount", *(["-l"] if lazy else []), str(mountpoint)]


def holders(mountpoint: Path, process_directory: Path = Path("/proc")) -> list[str]:
    """Return ``name (pid)`` of the processes that have a file or their working directory below *mountpoint*.

    Only links in /proc are read, so the mount is not asked. Processes of other users show nothing to an
    ordinary user; this process is left out.
    """
    found = []
    below = f"{mountpoint}/"
    for process in process_directory.iterdir():
        if not process.name.isdigit() or process.name == str(os.getpid()):
            continue
        try:
            links = [process / "cwd", process / "root", *(process / "fd").iterdir()]
            if any(f"{_target(link)}/".startswith(below) for link in links):
                name = (process / "comm").read_text(encoding="utf-8", errors="replace").strip()
                found.append(f"{name} ({process.name})")
        except OSError:
            continue  # ended meanwhile, or not ours to look at
    return sorted(found)


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:
        return ""


def _refusal(message: str) -> UsageError:
    return UsageError(message, ExitStatus.MOUNT_POINT)
