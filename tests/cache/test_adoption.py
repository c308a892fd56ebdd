"""What was written here is read here again without a request, and only if its bytes are right."""

from __future__ import annotations

import hashlib
import logging
import os
import tracemalloc
from dataclasses import replace

import pytest

from agorafs.cache import adoption
from agorafs.cache.content import ContentRef
from tests.cache.conftest import KIB, LIMITS, cache_files
from tests.cache.fake_remote import ARCHIVE, FakeRemote, content_of, ref_of

SMALL = content_of(10 * KIB + 7)
LARGE = content_of(100 * KIB + 13)


@pytest.fixture(params=[SMALL, LARGE], ids=["small", "large"])
def data(request):
    return request.param


@pytest.fixture
def source(tmp_path, data):
    path = tmp_path / "written here"
    path.write_bytes(data)
    return path


def read_without_a_request(make_cache, data):
    """Read with a new cache whose archive has nothing."""
    cache = make_cache(FakeRemote({}))
    with cache.open(ref_of(data)) as handle:
        assert handle.read(0, len(data)) == data
    assert cache.stats().requests == 0


def names_in(tmp_path):
    """Return everything that is in the cache's directory."""
    return sorted(path.name for path in (tmp_path / "cache" / "content-1").iterdir())


def test_an_adopted_file_is_read_without_a_request_now_and_after_a_restart(
    make_cache, tmp_path, data, source
):
    remote = FakeRemote({})
    cache = make_cache(remote)
    assert cache.adopt(ref_of(data), source)
    assert cache.holds(ref_of(data))
    with cache.open(ref_of(data)) as handle:
        assert handle.read(0, len(data)) == data
    assert remote.requests == []
    assert names_in(tmp_path) == [ref_of(data).key]
    read_without_a_request(make_cache, data)


def test_the_file_itself_is_left_as_it_is(make_cache, tmp_path, data, source):
    before = source.stat()
    assert make_cache(FakeRemote({})).adopt(ref_of(data), source)
    after = source.stat()
    assert (after.st_ino, after.st_mtime_ns, after.st_nlink) == (before.st_ino, before.st_mtime_ns, 1)
    source.write_bytes(bytes(len(data)))
    read_without_a_request(make_cache, data)


@pytest.mark.parametrize("change", ["byte", "shorter", "longer", "absent", "directory", "fifo"])
def test_a_file_that_is_something_else_is_not_adopted_and_leaves_nothing(
    make_cache, tmp_path, data, source, change, caplog
):
    if change == "byte":
        source.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    elif change == "shorter":
        source.write_bytes(data[:-1])
    elif change == "longer":
        source.write_bytes(data + b"x")
    else:
        source.unlink()
        if change == "directory":
            source.mkdir()
        elif change == "fifo":
            os.mkfifo(source)
    cache = make_cache(FakeRemote({1: data}))
    assert not cache.adopt(ref_of(data), source)
    assert "is not taken over" in caplog.text
    assert names_in(tmp_path) == []
    with cache.open(ref_of(data)) as handle:
        assert handle.read(0, len(data)) == data


def test_a_content_that_is_held_is_left_alone(make_cache, tmp_path, data, source):
    """Not even the file is looked at."""
    cache = make_cache(FakeRemote({}))
    assert cache.adopt(ref_of(data), source)
    (path,) = cache_files(tmp_path / "cache")
    before = path.stat()
    source.unlink()
    assert cache.adopt(ref_of(data), source)
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_an_empty_content_needs_no_adoption(make_cache, tmp_path):
    assert make_cache(FakeRemote({})).adopt(ref_of(b""), tmp_path / "anything")


def test_a_content_of_which_a_part_is_cached_is_completed(make_cache, tmp_path, source, data):
    remote = FakeRemote({1: data})
    cache = make_cache(remote)
    with cache.open(ref_of(data)) as handle:
        handle.read(len(data) - 1, 1)
    assert cache.wait_for_idle(10)
    requests = len(remote.requests)
    assert cache.adopt(ref_of(data), source)
    with cache.open(ref_of(data)) as handle:
        assert handle.read(0, len(data)) == data
    assert len(remote.requests) == requests
    read_without_a_request(make_cache, data)


def test_a_handle_that_is_open_already_reads_what_is_adopted(make_cache, source, data):
    remote = FakeRemote({})
    cache = make_cache(remote)
    with cache.open(ref_of(data)) as handle:
        assert cache.adopt(ref_of(data), source)
        assert handle.read(0, len(data)) == data
        assert cache.holds(ref_of(data))
    assert remote.requests == []


def test_a_wrong_block_that_is_cached_gives_way_to_the_adopted_one(make_cache, source, tmp_path):
    """Of a large content a block may have come wrong, and is not found out before the last one."""
    source.write_bytes(LARGE)
    wrong = bytearray(LARGE)
    wrong[50 * KIB] ^= 1
    cache = make_cache(FakeRemote({1: bytes(wrong)}))
    with cache.open(ref_of(LARGE)) as handle:
        assert handle.read(50 * KIB, 1) == wrong[50 * KIB : 50 * KIB + 1]
    assert cache.adopt(ref_of(LARGE), source)
    read_without_a_request(make_cache, LARGE)


@pytest.mark.parametrize("missing", ["O_TMPFILE", "link"])
def test_where_files_need_a_name_from_the_start_adoption_works_too(
    make_cache, tmp_path, source, data, missing, monkeypatch
):
    """Network file systems have no files without a name; some systems have no ``/proc``."""
    if missing == "O_TMPFILE":
        real_open = os.open

        def open_(path, flags, *arguments, **options):
            if flags & os.O_TMPFILE == os.O_TMPFILE:
                raise OSError(95, "Operation not supported")
            return real_open(path, flags, *arguments, **options)

        monkeypatch.setattr(os, "open", open_)
    else:

        def refuse(*arguments, **options):
            raise FileNotFoundError(2, "No such file or directory")

        monkeypatch.setattr(os, "link", refuse)
    assert make_cache(FakeRemote({})).adopt(ref_of(data), source)
    assert names_in(tmp_path) == [ref_of(data).key]
    read_without_a_request(make_cache, data)


@pytest.mark.parametrize("at", ["data", "proof", "name"])
def test_a_process_that_dies_in_the_middle_leaves_nothing(
    make_cache, tmp_path, source, data, at, monkeypatch
):
    class DeathError(BaseException):
        """Nothing catches it, as nothing catches a signal."""

    def die(*_, **__):
        raise DeathError

    cache = make_cache(FakeRemote({1: data}))
    with monkeypatch.context() as patch:
        if at == "name":
            patch.setattr(os, "link", die)
        else:
            patch.setattr(adoption, {"data": "write_all", "proof": "write_proof"}[at], die)
        with pytest.raises(DeathError):
            cache.adopt(ref_of(data), source)
    assert names_in(tmp_path) == []
    assert not cache.holds(ref_of(data))
    assert cache.adopt(ref_of(data), source)


@pytest.mark.parametrize("trouble", ["no directory", "closed", "no sha1", "full disk", "not ours"])
def test_a_cache_that_can_not_take_the_file_says_so_and_raises_nothing(
    make_cache, tmp_path, source, data, trouble, monkeypatch, caplog
):
    caplog.set_level(logging.ERROR)
    ref = ref_of(data)
    cache = make_cache(FakeRemote({}), directory=None if trouble == "no directory" else tmp_path / "cache")
    if trouble == "closed":
        cache.close()
    elif trouble == "no sha1":
        ref = ContentRef(1, len(data), "", ARCHIVE, 5)
    elif trouble == "full disk":

        def full(*_, **__):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(adoption, "write_all", full)
    elif trouble == "not ours":
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert not cache.adopt(ref, source)
    assert caplog.text == ""


def test_a_file_larger_than_the_cache_may_hold_is_not_adopted_and_evicts_nobody(make_cache, tmp_path):
    limits = replace(LIMITS, max_bytes=100 * KIB)
    other = content_of(30 * KIB, seed=2)
    cache = make_cache(FakeRemote({2: other}), limits=limits)
    with cache.open(ref_of(other, 2)) as handle:
        handle.read(0, len(other))
    source = tmp_path / "source"
    source.write_bytes(LARGE)
    assert not cache.adopt(ref_of(LARGE), source)
    assert names_in(tmp_path) == [ref_of(other).key]


def test_adoption_evicts_what_was_used_longest_ago_and_keeps_to_the_limit(make_cache, tmp_path):
    limits = replace(LIMITS, max_bytes=256 * KIB)
    cache = make_cache(FakeRemote({}), limits=limits)
    source = tmp_path / "source"
    contents = [content_of(40 * KIB, seed=seed) for seed in range(12)]
    for seed, content in enumerate(contents):
        source.write_bytes(content)
        assert cache.adopt(ref_of(content), source)
        assert cache.wait_for_idle(10)
        for path in cache_files(tmp_path / "cache"):
            age_ns = next(no for no, one in enumerate(contents) if ref_of(one).key == path.name)
            os.utime(path, ns=(10**18 + age_ns, 10**18 + age_ns))
        used = sum(path.stat().st_blocks * 512 for path in cache_files(tmp_path / "cache"))
        assert used <= limits.max_bytes, seed
        assert cache.holds(ref_of(content))
    assert not cache.holds(ref_of(contents[0]))
    assert cache.stats().used_bytes <= limits.max_bytes


def test_adoption_leaves_the_disk_its_free_space(make_cache, tmp_path, source, data):
    limits = replace(LIMITS, min_free_bytes=1000 * KIB)
    cache = make_cache(FakeRemote({}), limits=limits, free_bytes=lambda _: 1000 * KIB + len(data) // 2)
    assert not cache.adopt(ref_of(data), source)
    assert cache_files(tmp_path / "cache") == []


def test_what_is_read_by_somebody_is_not_evicted_for_an_adoption(make_cache, tmp_path):
    cache = make_cache(FakeRemote({}), limits=replace(LIMITS, max_bytes=128 * KIB))
    other = content_of(60 * KIB, seed=3)
    for name, content in (("one", LARGE), ("other", other)):
        (tmp_path / name).write_bytes(content)
    assert cache.adopt(ref_of(LARGE), tmp_path / "one")
    with cache.open(ref_of(LARGE)) as handle:
        assert not cache.adopt(ref_of(other), tmp_path / "other")
        assert handle.read(0, len(LARGE)) == LARGE
    assert cache.adopt(ref_of(other), tmp_path / "other")
    assert not cache.holds(ref_of(LARGE))


def test_the_file_is_copied_with_a_block_of_memory(make_cache, tmp_path):
    size = 16 * KIB * KIB
    source = tmp_path / "source"
    source.write_bytes(bytes(size))
    ref = ContentRef(1, size, hashlib.sha1(bytes(size)).hexdigest(), ARCHIVE)
    cache = make_cache(FakeRemote({}), limits=replace(LIMITS, block_bytes=256 * KIB))
    tracemalloc.start()
    try:
        assert cache.adopt(ref, source)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1024 * KIB
