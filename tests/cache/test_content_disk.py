"""What the content cache keeps on disk survives everything, or is found out and fetched again."""

from __future__ import annotations

import errno
import logging
import os
import stat
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from agorafs.cache.block_file import BlockFile, Layout
from agorafs.cache.content import ContentCache
from agorafs.clock import SYSTEM_CLOCK
from tests.cache.conftest import KIB, LIMITS, cache_files, open_descriptors
from tests.cache.fake_remote import FakeRemote, content_of, ref_of

SMALL = content_of(10 * KIB + 7)
LARGE = content_of(100 * KIB + 13)
BLOCK = LIMITS.block_bytes


@pytest.fixture(params=[SMALL, LARGE], ids=["small", "large"])
def data(request):
    return request.param


def fill(make_cache, data):
    """Have *data* completely in the cache and return its file."""
    remote = FakeRemote({1: data})
    cache = make_cache(remote)
    with cache.open(ref_of(data)) as handle:
        assert handle.read(0, len(data)) == data
    assert cache.holds(ref_of(data))
    return cache


def only_file(tmp_path: Path) -> Path:
    (path,) = cache_files(tmp_path / "cache")
    return path


def read_again(make_cache, data):
    """Read with a new cache, as after a restart; return its remote and statistics."""
    remote = FakeRemote({1: data})
    cache = make_cache(remote)
    with cache.open(ref_of(data)) as handle:
        assert handle.read(0, len(data)) == data
    assert cache.wait_for_idle(10)
    assert cache.holds(ref_of(data))
    return remote, cache.stats()


# -- damage ----------------------------------------------------------------------------------------------


def test_a_changed_byte_anywhere_in_the_file_is_found_out(make_cache, tmp_path, data, caplog):
    """Header, seal, table, padding, data: whatever byte changes, the reader gets the right ones."""
    fill(make_cache, data)
    path = only_file(tmp_path)
    size = path.stat().st_size
    layout = Layout(path.name, len(data), BLOCK)
    places = {*range(0, 160, 7), 63, 64, 95, 128, 4095, *range(layout.data_offset, size, 3001), size - 1}
    for place in sorted(places):
        with path.open("r+b") as file:
            file.seek(place)
            byte = file.read(1)[0]
            file.seek(place)
            file.write(bytes([byte ^ 0xFF]))
        read_again(make_cache, data)
        path = only_file(tmp_path)


@pytest.mark.parametrize("keep", [0, 10, 64, 100, 130, 5000, 9000], ids=str)
def test_a_truncated_file_is_fetched_again_where_it_was_cut(make_cache, tmp_path, data, keep):
    fill(make_cache, data)
    os.truncate(only_file(tmp_path), keep)
    remote, _ = read_again(make_cache, data)
    assert remote.requests


def test_a_file_of_garbage_is_replaced(make_cache, tmp_path, data, caplog):
    fill(make_cache, data)
    only_file(tmp_path).write_bytes(os.urandom(50_000))
    read_again(make_cache, data)
    assert "is not what its name says" in caplog.text


def test_a_file_of_zeros_after_a_power_cut_is_never_served(make_cache, tmp_path, data):
    """The table reached the disk, the data did not."""
    fill(make_cache, data)
    layout = Layout(only_file(tmp_path).name, len(data), BLOCK)
    with only_file(tmp_path).open("r+b") as file:
        file.seek(layout.data_offset)
        file.write(bytes(len(data)))
    remote, stats = read_again(make_cache, data)
    assert remote.sent_bytes >= len(data)
    assert stats.dropped_blocks > 0


def test_a_lost_table_means_an_empty_file(make_cache, tmp_path, data):
    fill(make_cache, data)
    with only_file(tmp_path).open("r+b") as file:
        file.seek(128)
        file.write(bytes(4096 - 128))
    remote, _ = read_again(make_cache, data)
    assert remote.sent_bytes == len(data)


def test_a_table_of_another_content_is_not_believed(make_cache, tmp_path):
    """Entries are valid, but the blocks are not theirs: the checksums say so."""
    other = content_of(len(LARGE), seed=9)
    cache = make_cache(FakeRemote({1: LARGE, 2: other}))
    for number, content in ((1, LARGE), (2, other)):
        with cache.open(ref_of(content, number)) as handle:
            assert handle.read(0, len(content)) == content
    one, two = (
        next(p for p in cache_files(tmp_path / "cache") if p.name == ref_of(c).key) for c in (LARGE, other)
    )
    table = two.read_bytes()[64:4096]
    with one.open("r+b") as file:
        file.seek(64)
        file.write(table)
    read_again(make_cache, LARGE)


def test_damage_while_the_content_is_open_is_found_at_the_next_read(make_cache, tmp_path, data):
    """A sealed file that somebody writes to loses all trust at once."""
    remote = FakeRemote({1: data})
    cache = make_cache(remote)
    with cache.open(ref_of(data)) as handle:
        assert handle.read(0, len(data)) == data
        path = only_file(tmp_path)
        layout = Layout(path.name, len(data), BLOCK)
        os.utime(path, ns=(0, 0))  # or the clock's tick could hide the change from the modification time
        assert handle.read(0, len(data)) == data
        with path.open("r+b") as file:
            file.seek(layout.data_offset + 5000)
            file.write(b"overwritten by the user")
        assert handle.read(4999, 100) == data[4999:5099]
        assert handle.read(0, len(data)) == data


def test_a_file_truncated_or_deleted_while_open_costs_requests_and_nothing_else(make_cache, tmp_path, data):
    remote = FakeRemote({1: data})
    cache = make_cache(remote)
    with cache.open(ref_of(data)) as handle:
        assert handle.read(0, len(data)) == data
        os.truncate(only_file(tmp_path), 4096 + 10)
        assert handle.read(0, len(data)) == data
        only_file(tmp_path).unlink()
        assert handle.read(0, len(data)) == data
    read_again(make_cache, data)


def test_a_directory_removed_while_mounted_is_made_again(make_cache, tmp_path, data):
    cache = fill(make_cache, data)
    for path in cache_files(tmp_path / "cache"):
        path.unlink()
    for path in (tmp_path / "cache" / "content-1").iterdir():
        path.unlink()
    (tmp_path / "cache" / "content-1").rmdir()
    with cache.open(ref_of(data)) as handle:
        assert handle.read(0, len(data)) == data
    assert cache.holds(ref_of(data))


def test_damage_is_logged_once(make_cache, tmp_path, caplog):
    fill(make_cache, LARGE)
    layout = Layout(only_file(tmp_path).name, len(LARGE), BLOCK)
    with only_file(tmp_path).open("r+b") as file:
        file.seek(layout.data_offset)
        file.write(bytes(len(LARGE)))
    with caplog.at_level(logging.WARNING):
        read_again(make_cache, LARGE)
    assert len([record for record in caplog.records if "damaged" in record.message]) == 1


# -- a disk that does not work ------------------------------------------------------------------------------


def failing(error: int):
    def fail(*args, **kwargs):
        raise OSError(error, os.strerror(error))

    return fail


@pytest.mark.parametrize(
    "error", [errno.ENOSPC, errno.EROFS, errno.EIO, errno.EDQUOT], ids=errno.errorcode.get
)
def test_a_disk_that_takes_no_bytes_is_bypassed(make_cache, monkeypatch, caplog, data, error):
    """Reads give the right bytes, one warning says why, and the cache comes back with the disk."""
    remote = FakeRemote({1: data})
    cache = make_cache(remote)
    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr(os, "pwrite", failing(error))
        for _ in range(2):
            with cache.open(ref_of(data)) as handle:
                for offset in range(0, len(data), 1000):
                    assert handle.read(offset, 1000) == data[offset : offset + 1000]
    assert len([record for record in caplog.records if "content cache" in record.message]) == 1
    assert not cache.holds(ref_of(data))
    read_again(make_cache, data)


def test_a_disk_that_can_not_be_read_is_bypassed(make_cache, monkeypatch, data):
    cache = fill(make_cache, data)
    with monkeypatch.context() as patch:
        patch.setattr(os, "preadv", failing(errno.EIO))
        with cache.open(ref_of(data)) as handle:
            assert handle.read(0, len(data)) == data
        assert "Input/output error" in cache.stats().bypassed


def test_a_write_that_stops_half_way_leaves_the_block_absent(make_cache, monkeypatch, data):
    real = os.pwrite
    budget = [6000]

    def pwrite(descriptor, view, offset):
        if budget[0] <= 0:
            raise OSError(errno.ENOSPC, "full")
        size = min(len(view), budget[0])
        budget[0] -= size
        return real(descriptor, memoryview(view)[:size], offset)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", pwrite)
        cache = make_cache(FakeRemote({1: data}))
        with cache.open(ref_of(data)) as handle:
            assert handle.read(0, len(data)) == data
    read_again(make_cache, data)


@pytest.mark.parametrize("obstacle", ["file in its place", "parent is a file"])
def test_an_unusable_directory_is_bypassed_and_named(tmp_path, caplog, data, obstacle):
    path = tmp_path / "cache"
    path.write_text("in the way")
    directory = path if obstacle == "file in its place" else path / "below"
    cache = ContentCache(directory, FakeRemote({1: data}), limits=LIMITS, clock=SYSTEM_CLOCK)
    with cache.open(ref_of(data)) as handle:
        assert handle.read(0, len(data)) == data
        assert handle.read(0, len(data)) == data
    assert cache.stats().bypassed
    assert [record.levelname for record in caplog.records if str(directory) in record.message] == ["WARNING"]
    assert cache.wait_for_idle(10)
    cache.close()


# -- safety ------------------------------------------------------------------------------------------------


def test_patients_data_is_readable_by_its_owner_only(make_cache, tmp_path, data):
    old = os.umask(0)
    try:
        fill(make_cache, data)
    finally:
        os.umask(old)
    assert stat.S_IMODE(only_file(tmp_path).stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "cache").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "cache" / "content-1").stat().st_mode) == 0o700


def test_a_directory_open_to_others_is_closed(make_cache, tmp_path, data):
    (tmp_path / "cache" / "content-1").mkdir(parents=True)
    (tmp_path / "cache" / "content-1").chmod(0o777)
    fill(make_cache, data)
    assert stat.S_IMODE((tmp_path / "cache" / "content-1").stat().st_mode) == 0o700


def test_a_symbolic_link_in_place_of_a_content_is_neither_read_nor_written_through(
    make_cache, tmp_path, data
):
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    directory = tmp_path / "cache" / "content-1"
    directory.mkdir(parents=True)
    (directory / ref_of(data).key).symlink_to(victim)
    fill(make_cache, data)
    assert victim.read_bytes() == b"precious"
    assert not only_file(tmp_path).is_symlink()


def test_a_symbolic_link_in_place_of_the_directory_is_not_followed(make_cache, tmp_path, data):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "content-1").symlink_to(elsewhere)
    cache = make_cache(FakeRemote({1: data}))
    with cache.open(ref_of(data)) as handle:
        assert handle.read(0, len(data)) == data
    assert list(elsewhere.iterdir()) == []
    assert cache.stats().bypassed


def test_a_pipe_in_place_of_a_content_is_replaced(make_cache, tmp_path, data):
    directory = tmp_path / "cache" / "content-1"
    directory.mkdir(parents=True)
    os.mkfifo(directory / ref_of(data).key)
    fill(make_cache, data)
    assert only_file(tmp_path).is_file()


def test_a_directory_of_another_user_is_not_used(make_cache, tmp_path, monkeypatch, data):
    (tmp_path / "cache").mkdir()
    monkeypatch.setattr("agorafs.cache.content_directory.os.geteuid", lambda: os.getuid() + 1)
    cache = make_cache(FakeRemote({1: data}))
    with cache.open(ref_of(data)) as handle:
        assert handle.read(0, len(data)) == data
    assert "another user" in cache.stats().bypassed
    assert list((tmp_path / "cache").iterdir()) == []


# -- eviction ----------------------------------------------------------------------------------------------


def contents(count: int, size: int = 20 * KIB) -> dict[int, bytes]:
    return {number: content_of(size, seed=number) for number in range(1, count + 1)}


def used_bytes(directory: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in cache_files(directory))


def test_the_least_recently_used_contents_are_evicted_beyond_max_bytes(make_cache, tmp_path):
    limits = replace(LIMITS, max_bytes=400 * KIB)
    data = contents(40)
    cache = make_cache(FakeRemote(data), limits=limits)
    for number, content in data.items():
        with cache.open(ref_of(content, number)) as handle:
            assert handle.read(0, len(content)) == content
        with cache.open(ref_of(data[1], 1)) as favourite:
            assert favourite.read(0, 10) == data[1][:10]
        assert cache.wait_for_idle(10)
        assert used_bytes(tmp_path / "cache") <= 400 * KIB
    assert cache.holds(ref_of(data[1])), "the content that was used all the time is gone"
    assert cache.holds(ref_of(data[40]))
    assert not cache.holds(ref_of(data[2]))
    assert used_bytes(tmp_path / "cache") >= 200 * KIB, "far more was evicted than needed"


def test_a_content_that_is_open_is_not_evicted(make_cache, tmp_path):
    limits = replace(LIMITS, max_bytes=200 * KIB)
    data = contents(30)
    remote = FakeRemote(dict(data))
    cache = make_cache(remote, limits=limits)
    with cache.open(ref_of(data[1], 1)) as handle:
        assert handle.read(0, len(data[1])) == data[1]
        for number in range(2, 31):
            with cache.open(ref_of(data[number], number)) as other:
                assert other.read(0, len(data[number])) == data[number]
            assert cache.wait_for_idle(10)
        assert (tmp_path / "cache" / "content-1" / ref_of(data[1]).key).exists()
        remote.contents.clear()
        assert handle.read(0, len(data[1])) == data[1]


def test_the_floor_of_free_disk_is_kept(make_cache, tmp_path):
    """With less free than the floor nothing more is written, what is not in use goes, and reads go on."""
    free = [10**12]
    limits = replace(LIMITS, min_free_bytes=10**9)
    data = contents(3)
    cache = make_cache(FakeRemote(data), limits=limits, free_bytes=lambda descriptor: free[0])
    with cache.open(ref_of(data[1], 1)) as handle:
        assert handle.read(0, 10) == data[1][:10]
    assert cache.wait_for_idle(10)
    free[0] = 10**9 - 1
    cache.make_room()
    assert cache_files(tmp_path / "cache") == []
    with cache.open(ref_of(data[2], 2)) as handle:
        assert handle.read(0, len(data[2])) == data[2]
        assert cache.wait_for_idle(10)
    assert used_bytes(tmp_path / "cache") <= 4 * KIB
    free[0] = 10**12
    cache.make_room()
    with cache.open(ref_of(data[3], 3)) as handle:
        assert handle.read(0, len(data[3])) == data[3]
    assert cache.holds(ref_of(data[3]))


def test_a_content_larger_than_the_cache_is_read_correctly(make_cache, tmp_path):
    limits = replace(LIMITS, max_bytes=64 * KIB)
    cache = make_cache(FakeRemote({1: LARGE}), limits=limits)
    with cache.open(ref_of(LARGE)) as handle:
        for _ in range(2):
            for offset in range(0, len(LARGE), 5000):
                assert handle.read(offset, 5000) == LARGE[offset : offset + 5000]
    assert cache.wait_for_idle(10)  # what read ahead may just be making room
    assert used_bytes(tmp_path / "cache") <= 72 * KIB


def test_a_block_that_arrives_after_the_last_reader_has_gone_leaves_no_file_open(make_cache, monkeypatch):
    """An open file can not be evicted, and nobody would close it."""
    arrived, left = threading.Event(), threading.Event()
    put = BlockFile.put

    def put_late(file, *arguments, **options):
        if threading.current_thread() is not threading.main_thread():
            arrived.set()
            assert left.wait(10)
        return put(file, *arguments, **options)

    monkeypatch.setattr(BlockFile, "put", put_late)
    cache = make_cache(FakeRemote({1: LARGE}))
    with cache.open(ref_of(LARGE)) as handle:
        for offset in range(0, len(LARGE), 5000):
            if arrived.is_set():
                break
            assert handle.read(offset, 5000) == LARGE[offset : offset + 5000]
        assert arrived.wait(10)
    left.set()
    assert cache.wait_for_idle(10)
    assert [path for path in open_descriptors() if not path.endswith("/content-1")] == []


def test_an_evicted_content_is_fetched_again_by_who_remembers_it(make_cache, tmp_path, data):
    """Closed contents are remembered without their file; the memory of a file that is gone is void."""
    remote = FakeRemote({1: data})
    cache = make_cache(remote)
    for _ in range(2):
        with cache.open(ref_of(data)) as handle:
            assert handle.read(0, len(data)) == data
        only_file(tmp_path).unlink()
    assert remote.sent_bytes == 2 * len(data)


def test_files_that_are_not_ours_are_left_alone(make_cache, tmp_path):
    directory = tmp_path / "cache" / "content-1"
    directory.mkdir(parents=True)
    (directory / "notes.txt").write_bytes(bytes(10**6))
    data = contents(10)
    cache = make_cache(FakeRemote(data), limits=replace(LIMITS, max_bytes=100 * KIB))
    for number, content in data.items():
        with cache.open(ref_of(content, number)) as handle:
            handle.read(0, len(content))
    assert cache.wait_for_idle(10)
    assert (directory / "notes.txt").stat().st_size == 10**6
