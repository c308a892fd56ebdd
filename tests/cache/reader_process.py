"""A process of its own that uses a content cache: ``python -m tests.cache.reader_process ROLE DIRECTORY …``.

Roles, each ended by what its test does to it:

``read DIRECTORY SEED ROUNDS MAX_BYTES``  reads contents at random, checks every byte, prints the requests made
``slowly DIRECTORY``          reads one content in order, prints each offset that is done
``hold DIRECTORY``            reads one content and keeps it open until its standard input ends
``lock DIRECTORY``            keeps the entry of block 0 locked, as a process stopped in the middle of writing does
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from agorafs.cache.block_file import BlockFile, Layout
from agorafs.cache.content import ContentCache
from agorafs.cache.content_directory import ContentDirectory
from agorafs.cache.locks import InvariantLock
from agorafs.clock import SYSTEM_CLOCK
from tests.cache.conftest import KIB, LIMITS
from tests.cache.fake_remote import FakeRemote, content_of, ref_of

# Small ones, fetched whole, and large ones, fetched by range.
CONTENTS = {
    number: content_of(size * KIB + number, seed=number) for number, size in enumerate([3, 15, 40, 90], 1)
}
LARGE = 4


def read(directory: Path, seed: int, rounds: int, max_bytes: int) -> None:
    chance = random.Random(seed)
    remote = FakeRemote(CONTENTS)
    cache = ContentCache(directory, remote, limits=replace(LIMITS, max_bytes=max_bytes), clock=SYSTEM_CLOCK)
    for _ in range(rounds):
        number, data = chance.choice(sorted(CONTENTS.items()))
        with cache.open(ref_of(data, number)) as handle:
            for _ in range(chance.randrange(1, 12)):
                offset, size = chance.randrange(len(data)), chance.randrange(20_000)
                assert handle.read(offset, size) == data[offset : offset + size], (number, offset, size)
        if chance.random() < 0.1:
            cache.make_room()
    assert cache.wait_for_idle(30)
    print(len(remote.requests), cache.stats().integrity_failures, cache.stats().bypassed, flush=True)
    cache.close()


def slowly(directory: Path) -> None:
    data = CONTENTS[LARGE]
    cache = ContentCache(directory, FakeRemote(CONTENTS), limits=LIMITS, clock=SYSTEM_CLOCK)
    handle = cache.open(ref_of(data, LARGE))
    for offset in range(0, len(data), 1000):
        assert handle.read(offset, 1000) == data[offset : offset + 1000]
        print(offset, flush=True)


def hold(directory: Path) -> None:
    data = CONTENTS[LARGE]
    cache = ContentCache(directory, FakeRemote(CONTENTS), limits=LIMITS, clock=SYSTEM_CLOCK)
    with cache.open(ref_of(data, LARGE)) as handle:
        assert handle.read(0, 50 * KIB) == data[: 50 * KIB]
        assert cache.wait_for_idle(30)
        print("holding", flush=True)
        sys.stdin.read()
        assert handle.read(0, len(data)) == data
    cache.close()
    print("closed", flush=True)


def lock(directory: Path) -> None:
    data = CONTENTS[LARGE]
    layout = Layout(ref_of(data, LARGE).key, len(data), LIMITS.block_bytes)
    where = ContentDirectory(directory, LIMITS, SYSTEM_CLOCK, request_eviction=lambda: None)
    file = BlockFile(where, layout, on_loss=lambda: None)
    with file._pinned() as descriptor, file._entry_lock(descriptor, 0) as locked:
        assert locked
        print("locked", flush=True)
        sys.stdin.read()


def main(role: str, directory: str, *numbers: str) -> None:
    InvariantLock.checking = True
    roles: dict[str, Callable[..., None]] = {"read": read, "slowly": slowly, "hold": hold, "lock": lock}
    roles[role](Path(directory), *map(int, numbers))


if __name__ == "__main__":
    main(*sys.argv[1:])
