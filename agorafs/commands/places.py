"""Which mount a path on the command line belongs to, and how to ask that mount.

A path is looked for among the mount points as it is written first: following links asks the mount, which may be dead
or slow, so links are followed only when that is needed.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from agorafs import mountpoint as mountpoints
from agorafs.control import ask
from agorafs.errors import ExitStatus, UsageError
from agorafs.registry import MountRecord, live_mounts

_ANSWER_TIMEOUT_S = 60.0  # looking up a path may take requests, each bounded by the mount's deadline


class Asked(Protocol):
    """Something that answers the requests of ``mount_requests``."""

    def ask(self, command: str, **fields: object) -> dict[str, Any]:
        """Return the answer; raises ``AgoraFSError`` with the words of a refusal."""
        ...


@dataclass(frozen=True, slots=True)
class Place:
    """A mount, and what is meant of it: ``inside`` is a path in the mount, None all of it."""

    state_directory: Path
    record: MountRecord
    inside: str | None

    def ask(self, command: str, **fields: object) -> dict[str, Any]:
        """Ask the process of the mount about ``inside``, or about the ``path`` in *fields*."""
        return ask(
            self.state_directory,
            Path(self.record.mountpoint),
            {"command": command, "path": self.inside, **fields},
            timeout_s=_ANSWER_TIMEOUT_S,
        )

    def shown(self, path: str) -> str:
        """Return *path*, a path in the mount, as the user sees it."""
        return self.record.mountpoint.rstrip("/") + path

    def __str__(self) -> str:
        return self.shown(self.inside or "")


def find_place(text: str | os.PathLike[str], state_directory: Path) -> Place | None:
    """Return the place that *text* names, None when it is on no mount of this user."""
    path = Path(os.path.normpath(Path(text).absolute()))
    mounts = live_mounts(state_directory)
    record = find_mount_of(path, mounts)
    if record is None:
        # Reached through a link outside the mount. Following links asks the mount, hence only now.
        path = path.resolve()
        record = find_mount_of(path, mounts)
    if record is None:
        return None
    mountpoint = Path(record.mountpoint)
    if mountpoints.stat_error(mountpoint) is None:
        path = path.resolve()  # a link on the mount: what it leads to is meant
    inside = str(PurePosixPath("/") / path.relative_to(mountpoint))
    return Place(state_directory, record, None if inside == "/" else inside)


def place_of(text: str, state_directory: Path) -> Place:
    """Return the place that *text* names.

    Raises:
        UsageError: MOUNT_POINT; it is on no mount of this user.
    """
    place = find_place(text, state_directory)
    if place is None:
        path = os.path.normpath(Path(text).absolute())
        raise UsageError(why_unknown(Path(path), state_directory), ExitStatus.MOUNT_POINT)
    return place


def why_unknown(path: Path, state_directory: Path) -> str:
    """Say why *path* (absolute) is on no mount that *state_directory* knows, and the way out if there is one."""
    if any(entry.is_ours and path.is_relative_to(entry.mountpoint) for entry in mountpoints.current_mounts()):
        return (
            f"{path} is on a mount of agorafs that {state_directory} knows nothing of: if it was mounted with "
            "--state-dir DIR, say the same here"
        )
    return f"{path} is not on a mount of agorafs"


def places_of(texts: Sequence[str], state_directory: Path) -> list[Place]:
    """Return the places that *texts* name; all mounts of this user when there are none."""
    if texts:
        return [place_of(text, state_directory) for text in texts]
    return [Place(state_directory, record, None) for record in live_mounts(state_directory)]


def find_mount_of(path: Path, mounts: list[MountRecord]) -> MountRecord | None:
    """Return the mount that *path* (absolute) is on: the innermost whose mount point is above it."""
    holding = [record for record in mounts if path.is_relative_to(record.mountpoint)]
    return max(holding, key=lambda record: len(record.mountpoint), default=None)
