"""Several processes use one cache directory at once, and may be killed at any moment."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.cache.conftest import KIB, LIMITS, cache_files
from tests.cache.fake_remote import FakeRemote, ref_of
from tests.cache.reader_process import CONTENTS, LARGE

DATA = CONTENTS[LARGE]
REF = ref_of(DATA, LARGE)


@contextmanager
def process(role: str, directory: Path, *numbers: int) -> Iterator[subprocess.Popen[str]]:
    """Run ``reader_process``; kill it at the end if it still runs."""
    command = [sys.executable, "-m", "tests.cache.reader_process", role, str(directory), *map(str, numbers)]
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root
    ) as child:
        try:
            yield child
        finally:
            child.kill()


def line_of(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    return child.stdout.readline().strip()


@pytest.mark.parametrize("max_bytes", [64 * 1024 * KIB, 120 * KIB], ids=["room", "evicting"])
def test_processes_reading_the_same_contents_at_once_all_get_the_right_bytes(tmp_path, max_bytes):
    with (
        process("read", tmp_path / "cache", 1, 150, max_bytes) as one,
        process("read", tmp_path / "cache", 2, 150, max_bytes) as two,
        process("read", tmp_path / "cache", 3, 150, max_bytes) as three,
    ):
        for child in (one, two, three):
            requests, failures, *bypassed = line_of(child).split()
            assert (failures, bypassed) == ("0", [])
            assert int(requests) > 0 or max_bytes > 1024 * KIB
            assert child.wait(60) == 0


def test_what_one_process_fetched_another_reads_without_a_request_while_both_have_it_open(
    make_cache, tmp_path
):
    remote = FakeRemote(CONTENTS)
    cache = make_cache(remote)
    with cache.open(REF) as handle, process("hold", tmp_path / "cache") as child:
        assert line_of(child) == "holding"
        assert handle.read(0, 50 * KIB) == DATA[: 50 * KIB]
        assert remote.requests == []


@pytest.mark.parametrize("done", [0, 10, 33, 60, 80, 91])
def test_a_process_killed_while_it_writes_leaves_blocks_whole_or_absent(make_cache, tmp_path, done):
    """``kill -9`` in the middle; then everything is read rightly, and what was done is not fetched again."""
    with process("slowly", tmp_path / "cache") as child:
        for offset in range(0, done * 1000 + 1, 1000):
            assert line_of(child) == str(offset)
        child.kill()
        child.wait(20)
    remote = FakeRemote(CONTENTS)
    cache = make_cache(remote)
    with cache.open(REF) as handle:
        assert handle.read(0, done * 1000) == DATA[: done * 1000]
        assert remote.requests == []
        assert handle.read(0, len(DATA)) == DATA
    assert cache.holds(REF)
    assert cache.stats().dropped_blocks == 0


def test_a_content_open_in_another_process_is_not_evicted_and_goes_when_that_ends(make_cache, tmp_path):
    cache = make_cache(FakeRemote(CONTENTS), limits=replace(LIMITS, max_bytes=8 * KIB))
    with process("hold", tmp_path / "cache") as child:
        assert line_of(child) == "holding"
        cache.make_room()
        assert [path.name for path in cache_files(tmp_path / "cache")] == [REF.key]
        assert child.stdin is not None
        child.stdin.close()
        assert line_of(child) == "closed"
        assert child.wait(20) == 0
    cache.make_room()
    assert cache_files(tmp_path / "cache") == []


def test_a_content_held_by_a_killed_process_can_be_evicted(make_cache, tmp_path):
    cache = make_cache(FakeRemote(CONTENTS), limits=replace(LIMITS, max_bytes=8 * KIB))
    with process("hold", tmp_path / "cache") as child:
        assert line_of(child) == "holding"
    cache.make_room()
    assert cache_files(tmp_path / "cache") == []


def test_a_process_stopped_in_the_middle_of_a_block_holds_nobody_up(make_cache, tmp_path):
    remote = FakeRemote(CONTENTS)
    cache = make_cache(remote)
    with process("lock", tmp_path / "cache") as child:
        assert line_of(child) == "locked"
        with cache.open(REF) as handle:
            assert handle.read(0, 10) == DATA[:10]
            assert handle.read(0, len(DATA)) == DATA
        assert not cache.holds(REF), "a block was written under somebody's lock"
    with cache.open(REF) as handle:
        assert handle.read(0, len(DATA)) == DATA
    assert cache.holds(REF)
