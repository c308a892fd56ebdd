"""The parts of the content cache, each by itself."""

from __future__ import annotations

import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from agorafs.cache.block_file import decode_entry, encode_entry
from agorafs.cache.content import ContentCache
from agorafs.cache.memory import Memory
from agorafs.cache.range_support import RangeSupport
from agorafs.cache.running_hash import RunningHash
from agorafs.cache.window import Window
from agorafs.cache.workers import Workers
from agorafs.clock import SYSTEM_CLOCK
from agorafs.errors import RemoteTimeout, RemoteUnavailable
from tests.cache.conftest import KIB, LIMITS
from tests.cache.fake_remote import FakeRemote, content_of, ref_of
from tests.support.manual_clock import ManualClock

LARGE = content_of(200 * KIB + 13)


# -- entries ---------------------------------------------------------------------------------------------


def test_an_entry_is_valid_in_its_own_place_only():
    entry = encode_entry(7, 0xDEADBEEF)
    assert decode_entry(7, entry) == 0xDEADBEEF
    assert decode_entry(8, entry) is None
    assert decode_entry(7, bytes(8)) is None
    assert decode_entry(7, entry[:5]) is None


def test_a_changed_bit_in_an_entry_makes_it_invalid():
    entry = encode_entry(7, 0)
    for bit in range(64):
        changed = (int.from_bytes(entry, "big") ^ (1 << bit)).to_bytes(8, "big")
        # The highest bit of the check is always set, to tell it from zeros.
        assert decode_entry(7, changed) is None


# -- window ----------------------------------------------------------------------------------------------


def test_the_window_opens_after_two_blocks_in_a_row_and_grows_with_what_was_read():
    window = Window(threshold_bytes=200, slack_bytes=50, max_bytes=1000)
    ahead = []
    for offset in range(0, 2000, 100):
        assert not window.note(offset, 100)
        ahead.append(window.ahead_bytes)
    assert ahead[:4] == [0, 200, 300, 400]
    assert ahead[-1] == 1000


def test_a_jump_closes_the_window():
    window = Window(threshold_bytes=200, slack_bytes=50, max_bytes=1000)
    window.note(0, 500)
    assert window.ahead_bytes == 500
    assert window.note(5000, 100)
    assert window.ahead_bytes == 0


def test_reads_that_the_kernel_swapped_are_still_in_order():
    window = Window(threshold_bytes=200, slack_bytes=250, max_bytes=1000)
    for offset in (0, 200, 100, 300):
        assert not window.note(offset, 100)
    assert window.ahead_bytes >= 300


def test_skipped_bytes_do_not_open_the_window():
    window = Window(threshold_bytes=200, slack_bytes=150, max_bytes=1000)
    window.note(0, 10)
    window.note(150, 10)
    assert window.ahead_bytes == 0


# -- memory ----------------------------------------------------------------------------------------------


def test_blocks_kept_in_memory_make_way_for_buffers_oldest_first():
    memory = Memory(100)
    for block_no in range(5):
        memory.keep(1, block_no, bytes(20))
    assert memory.get(1, 0) is not None
    with memory.buffer(30, 1.0):
        assert memory.used_bytes <= 100
        assert [memory.get(1, block_no) is not None for block_no in range(5)] == [
            True,
            False,
            False,
            True,
            True,
        ]
    memory.forget(1)
    assert memory.used_bytes == 0


def test_a_buffer_waits_for_room_and_gives_up_in_time():
    memory = Memory(100)
    with memory.buffer(80, 1.0), pytest.raises(RemoteTimeout), memory.buffer(80, 0.01):
        pass
    with memory.buffer(80, 0.01) as view:
        assert len(view) == 80


def test_a_buffer_larger_than_the_budget_is_lent_when_nothing_else_is():
    with Memory(100).buffer(500, 0.01) as view:
        assert len(view) == 500


# -- hash ------------------------------------------------------------------------------------------------


def blocks_of(data: bytes) -> list[memoryview]:
    return [memoryview(data)[start : start + 1000] for start in range(0, len(data), 1000)]


def test_blocks_fed_in_order_need_no_reading_back():
    data = content_of(5500)
    running = RunningHash(6)
    for block_no, view in enumerate(blocks_of(data)):
        assert running.result() is None
        running.feed(block_no, view)
    assert running.result() == hashlib.sha1(data).hexdigest()


def test_blocks_that_came_too_early_are_read_back():
    data = content_of(5500)
    blocks = blocks_of(data)
    running = RunningHash(6)
    for block_no in (3, 0, 1, 5, 2, 4):
        running.feed(block_no, blocks[block_no])
    assert running.result() is None
    read_back = []

    def load(block_no):
        read_back.append(block_no)
        return blocks[block_no]

    running.catch_up(load, wait=True)
    assert running.result() == hashlib.sha1(data).hexdigest()
    assert read_back == [3, 4, 5]


def test_a_reset_while_a_block_is_being_read_back_forgets_that_block():
    data = content_of(5500)
    blocks = blocks_of(data)
    running = RunningHash(6)

    def load(block_no):
        if block_no == 2 and not was_reset:
            was_reset.append(True)
            running.reset()
            return memoryview(b"bytes of before")
        return blocks[block_no]

    was_reset: list[bool] = []
    running.catch_up(load, wait=True)
    assert was_reset
    assert running.result() == hashlib.sha1(data).hexdigest()


# -- workers ---------------------------------------------------------------------------------------------


def test_workers_are_bounded_and_outlive_a_job_that_fails(caplog):
    workers = Workers("test", 2)
    release, started = threading.Event(), threading.Semaphore(0)
    running: list[int] = []

    def job(number):
        running.append(number)
        started.release()
        assert release.wait(10)
        if number == 0:
            raise ValueError("a bug")

    for number in range(5):
        assert workers.submit(partial(job, number))
    for _ in range(2):
        assert started.acquire(timeout=10)
    assert len(running) == 2
    release.set()
    assert workers.wait_for_idle(10)
    assert sorted(running) == [0, 1, 2, 3, 4]
    assert "a bug" in caplog.text
    workers.close()
    assert not workers.submit(lambda: None)


# -- ranges ----------------------------------------------------------------------------------------------


def test_missing_ranges_are_believed_for_a_day_and_per_archive():
    clock = ManualClock()
    ranges = RangeSupport(clock, 86_400)
    assert not ranges.is_missing("a")
    assert not ranges.is_known("a")
    ranges.learn("a", works=False)
    ranges.learn("b", works=True)
    assert ranges.is_missing("a")
    assert not ranges.is_missing("b")
    assert ranges.is_known("b")
    clock.advance(86_399)
    assert ranges.is_missing("a")
    clock.advance(2)
    assert not ranges.is_missing("a")


# -- the cache's end -------------------------------------------------------------------------------------


@pytest.mark.parametrize("ranges", [True, False])
def test_a_closed_cache_opens_no_file_and_keeps_nobody_waiting(tmp_path, ranges):
    """A handle that outlives its cache gets right bytes or an error, at once."""
    remote = FakeRemote({1: LARGE}, ranges=ranges)
    cache = ContentCache(tmp_path / "cache", remote, limits=LIMITS, clock=SYSTEM_CLOCK)
    with cache.open(ref_of(LARGE)) as handle, ThreadPoolExecutor(1) as pool:
        assert handle.read(0, 10) == LARGE[:10]
        cache.close()
        for offset in (0, 150 * KIB):
            try:
                assert pool.submit(handle.read, offset, 10).result(10) == LARGE[offset : offset + 10]
            except RemoteUnavailable as error:
                assert not ranges, error
    assert cache.stats().open_files == 0
