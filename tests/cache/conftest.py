"""For the tests of the caches: small blocks, invariants on, nothing left open."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agorafs.cache.content import ContentCache, ContentLimits
from agorafs.cache.locks import InvariantLock
from agorafs.clock import SYSTEM_CLOCK
from tests.cache.fake_remote import FakeRemote

KIB = 1024
MakeCache = Callable[..., ContentCache]

LIMITS = ContentLimits(
    block_bytes=4 * KIB,
    whole_file_bytes=16 * KIB,
    max_bytes=64 * KIB * KIB,
    min_free_bytes=0,
    memory_max_bytes=1024 * KIB,
    range_max_bytes=32 * KIB,
    window_max_bytes=64 * KIB,
    stall_s=20.0,
)


@pytest.fixture(autouse=True)
def checked_invariants(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every release of a lock of the content cache checks its owner's invariants."""
    monkeypatch.setattr(InvariantLock, "checking", True)


@pytest.fixture
def make_cache(tmp_path: Path) -> Iterator[MakeCache]:
    """Build caches, by default in one directory; at the end all are closed and no descriptor is left."""
    before = open_descriptors()
    caches: list[ContentCache] = []
    remotes: list[FakeRemote] = []

    def make(remote: FakeRemote, directory: Path | None = tmp_path / "cache", **options: Any) -> ContentCache:
        options.setdefault("limits", LIMITS)
        options.setdefault("clock", SYSTEM_CLOCK)
        cache = ContentCache(directory, remote, **options)
        caches.append(cache)
        remotes.append(remote)
        return cache

    yield make
    for cache in caches:
        assert cache.wait_for_idle(10)
        assert cache.stats().open_handles == 0, "a test left a handle open"
        cache.close()
    assert [remote.open_bodies for remote in remotes] == [0] * len(remotes)
    assert open_descriptors() == before


def open_descriptors() -> set[str]:
    """The cache files and directories this process has open."""
    found = set()
    for link in Path("/proc/self/fd").iterdir():
        try:
            target = str(link.readlink())
        except FileNotFoundError:
            continue
        if "content-1" in target:
            found.add(target)
    return found


def cache_files(directory: Path) -> list[Path]:
    """The content files below a cache directory."""
    return sorted(path for path in (directory / "content-1").iterdir() if not path.name.startswith("."))
