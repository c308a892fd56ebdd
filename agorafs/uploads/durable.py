"""Making bytes survive a power cut, and nothing else: one seam, so that tests can cut the power anywhere.

A write that was not synced survives the death of our processes (the kernel has it) but not the machine's.
"""

from __future__ import annotations

import os
from pathlib import Path


class Disk:
    """The real disk. Tests put one in its place that remembers what was synced."""

    def sync_file(self, descriptor: int, path: Path) -> None:
        """Return when the bytes and the size of the open file are on the disk; *path* is its name, for tests."""
        os.fdatasync(descriptor)

    def sync_directory(self, path: Path) -> None:
        """Return when the names in the directory *path* are on the disk."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def boot_id() -> str:
    """Return what is the same until the machine is started anew: processes that die do not change it."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:  # a container without it: then nothing is known, and each start counts as a new boot
        return ""
