"""What a reader of the content cache gets, and how many requests it costs."""

from __future__ import annotations

import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agorafs.byterange import ByteRange
from agorafs.cache.block_file import BlockFile
from agorafs.cache.content import ContentLimits, ContentRef
from agorafs.errors import (
    BadHandle,
    IntegrityError,
    NotAuthenticated,
    ProtocolError,
    RemoteTimeout,
    RemoteUnavailable,
    StaleHandle,
)
from tests.cache.conftest import KIB, LIMITS, cache_files
from tests.cache.fake_remote import ARCHIVE, FakeRemote, Fault, Request, content_of, ref_of
from tests.support.manual_clock import ManualClock

SMALL = content_of(10 * KIB + 7)
LARGE = content_of(200 * KIB + 13)
BLOCK = LIMITS.block_bytes


def read_in_order(handle, size=3000):
    """Read to the end as a program does: piece after piece until one comes back short."""
    pieces = []
    offset = 0
    while piece := handle.read(offset, size):
        pieces.append(piece)
        offset += len(piece)
    return b"".join(pieces)


@pytest.fixture(params=["disk", "memory"])
def directory(request, tmp_path):
    """Where the cache keeps its blocks: readers must not see the difference."""
    return tmp_path / "cache" if request.param == "disk" else None


@pytest.mark.parametrize("ranges", [True, False], ids=["ranges", "no ranges"])
@pytest.mark.parametrize(
    "data", [SMALL, LARGE, LARGE[: 50 * BLOCK], LARGE[:1]], ids=["small", "large", "even", "one"]
)
def test_bytes_are_those_of_the_archive(make_cache, directory, ranges, data):
    remote = FakeRemote({1: data}, ranges=ranges)
    with make_cache(remote, directory).open(ref_of(data)) as handle:
        assert read_in_order(handle) == data
        assert handle.read(len(data) - 1, 100) == data[-1:]


def test_reads_at_and_beyond_the_end_return_nothing_and_cost_no_request(make_cache):
    remote = FakeRemote({1: LARGE})
    with make_cache(remote).open(ref_of(LARGE)) as handle:
        assert handle.read(len(LARGE), 1) == b""
        assert handle.read(len(LARGE) + 10**9, 4096) == b""
        assert handle.read(0, 0) == b""
    assert remote.requests == []


def test_an_empty_content_never_asks_the_server(make_cache):
    remote = FakeRemote({})
    cache = make_cache(remote)
    ref = ref_of(b"")
    with cache.open(ref) as handle:
        assert handle.read(0, 100) == b""
    assert cache.holds(ref)
    assert remote.requests == []


def test_a_negative_offset_is_a_mistake_of_the_caller(make_cache):
    with (
        make_cache(FakeRemote({1: SMALL})).open(ref_of(SMALL)) as handle,
        pytest.raises(ValueError, match="-1"),
    ):
        handle.read(-1, 1)


def test_a_closed_handle_refuses_to_read(make_cache):
    handle = make_cache(FakeRemote({1: SMALL})).open(ref_of(SMALL))
    handle.close()
    handle.close()
    with pytest.raises(BadHandle):
        handle.read(0, 1)


def test_a_sha1_that_is_none_never_becomes_a_file_name():
    with pytest.raises(ValueError, match="not a SHA-1"):
        _ = ContentRef(1, 5, "../../../etc/passwd", ARCHIVE).key


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    reads=st.lists(
        st.tuples(st.integers(0, len(LARGE) + 50), st.integers(0, 30_000)), min_size=1, max_size=15
    ),
    ranges=st.booleans(),
    on_disk=st.booleans(),
    size=st.sampled_from([1, BLOCK - 1, BLOCK, BLOCK + 1, 16 * KIB, 16 * KIB + 1, len(LARGE)]),
)
def test_random_reads_equal_slices_of_the_content(make_cache, tmp_path_factory, reads, ranges, on_disk, size):
    data = LARGE[:size]
    cache = make_cache(
        FakeRemote({1: data}, ranges=ranges, piece_bytes=1777),
        tmp_path_factory.mktemp("c") if on_disk else None,
    )
    with cache.open(ref_of(data)) as handle:
        for offset, length in reads:
            assert handle.read(offset, length) == data[offset : offset + length]
    assert cache.wait_for_idle(10)


# -- requests --------------------------------------------------------------------------------------------


def test_a_small_content_costs_one_request_and_none_ever_after(make_cache):
    remote = FakeRemote({1: SMALL})
    for _ in range(2):
        cache = make_cache(remote)
        with cache.open(ref_of(SMALL)) as handle:
            assert read_in_order(handle) == SMALL
            assert cache.holds(ref_of(SMALL))
        assert cache.holds(ref_of(SMALL))
    assert [request.byte_range for request in remote.requests] == [None]


def test_a_complete_large_content_is_read_after_a_restart_without_a_request(make_cache):
    first = FakeRemote({1: LARGE})
    with make_cache(first).open(ref_of(LARGE)) as handle:
        assert read_in_order(handle) == LARGE
    second = FakeRemote({})
    cache = make_cache(second)
    assert cache.holds(ref_of(LARGE))
    with cache.open(ref_of(LARGE)) as handle:
        assert read_in_order(handle) == LARGE
    assert second.requests == []


def test_blocks_of_a_partly_read_content_survive_a_restart(make_cache):
    with make_cache(FakeRemote({1: LARGE})).open(ref_of(LARGE)) as handle:
        assert handle.read(100 * KIB, 10) == LARGE[100 * KIB : 100 * KIB + 10]
    second = FakeRemote({1: LARGE})
    cache = make_cache(second)
    assert not cache.holds(ref_of(LARGE))
    with cache.open(ref_of(LARGE)) as handle:
        assert handle.read(100 * KIB, 20) == LARGE[100 * KIB : 100 * KIB + 20]
        assert second.requests == []


def test_two_datafiles_with_one_sha1_are_fetched_once(make_cache):
    """Content is addressed by SHA-1: copies, links and new mounts never download it twice."""
    remote = FakeRemote({1: LARGE, 2: LARGE})
    cache = make_cache(remote)
    for datafile in (1, 2):
        with cache.open(ref_of(LARGE, datafile)) as handle:
            assert read_in_order(handle) == LARGE
    assert {request.datafile for request in remote.requests} == {1}


def test_contents_without_sha1_are_never_shared_between_datafiles(make_cache):
    other = content_of(len(SMALL), seed=2)
    remote = FakeRemote({1: SMALL, 2: other})
    cache = make_cache(remote)
    for datafile, data in ((1, SMALL), (2, other)):
        with cache.open(ref_of(data, datafile, sha1="")) as handle:
            assert read_in_order(handle) == data
    remote.contents[1] = other
    with cache.open(ref_of(other, 1, sha1="", modified_ns=5)) as handle:
        assert read_in_order(handle) == other


def test_a_header_peek_of_a_gigabyte_transfers_a_block_at_each_end(make_cache, tmp_path):
    """128 KiB at the start and at the end of 1 GiB, with the limits that users get: below 1 MiB."""
    size = 1 << 30

    class Sparse(bytes):
        """A gigabyte of zeros that is not there."""

        def __len__(self) -> int:
            return size

        def __getitem__(self, key):
            return bytes(min(key.stop, size) - key.start)

    remote = FakeRemote({1: Sparse()})
    cache = make_cache(remote, limits=ContentLimits(min_free_bytes=0))
    with cache.open(ContentRef(1, size, "ab" * 20, ARCHIVE)) as handle:
        assert handle.read(0, 128 * KIB) == bytes(128 * KIB)
        assert handle.read(size - 128 * KIB, 128 * KIB) == bytes(128 * KIB)
        assert cache.wait_for_idle(10)
    assert remote.sent_bytes <= 512 * KIB
    assert len(remote.requests) == 2
    (path,) = cache_files(tmp_path / "cache")
    assert path.stat().st_blocks * 512 < 1024 * KIB


def test_reading_in_order_takes_far_fewer_requests_than_blocks(make_cache):
    remote = FakeRemote({1: LARGE})
    cache = make_cache(remote)
    with cache.open(ref_of(LARGE)) as handle:
        assert read_in_order(handle) == LARGE
        assert cache.wait_for_idle(10)
    assert len(remote.requests) <= 25 < len(LARGE) // BLOCK
    assert remote.sent_bytes == len(LARGE), "a byte was fetched twice"


def test_random_reads_fetch_only_the_blocks_they_touch(make_cache):
    remote = FakeRemote({1: LARGE})
    cache = make_cache(remote)
    with cache.open(ref_of(LARGE)) as handle:
        for block_no in (40, 3, 30, 17, 9):
            assert (
                handle.read(block_no * BLOCK + 5, 10) == LARGE[block_no * BLOCK + 5 : block_no * BLOCK + 15]
            )
        assert cache.wait_for_idle(10)
    assert [request.byte_range for request in remote.requests] == [
        ByteRange(block_no * BLOCK, (block_no + 1) * BLOCK) for block_no in (40, 3, 30, 17, 9)
    ]


def test_later_ranges_depend_on_the_first_etag(make_cache):
    remote = FakeRemote({1: LARGE})
    with make_cache(remote).open(ref_of(LARGE)) as handle:
        handle.read(0, 1)
        handle.read(100 * KIB, 1)
    assert [request.if_range for request in remote.requests] == [None, '"v1"']


def test_a_weak_etag_is_not_sent_because_no_server_may_match_it(make_cache):
    remote = FakeRemote({1: LARGE}, etag='W/"v1"')
    with make_cache(remote).open(ref_of(LARGE)) as handle:
        handle.read(0, 1)
        handle.read(100 * KIB, 1)
    assert [request.if_range for request in remote.requests] == [None, None]


# -- servers without ranges --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [Fault(ignore_range=True), Fault(answer_range=ByteRange(0, 2 * BLOCK))],
    ids=["200 instead of 206", "206 with another range"],
)
def test_a_server_without_ranges_is_asked_for_the_whole_once(make_cache, fault):
    remote = FakeRemote({1: LARGE, 2: LARGE[1:]}, ranges=False, faults=[fault])
    remote.ranges = fault.answer_range is not None
    clock = ManualClock()
    cache = make_cache(remote, clock=clock)
    with cache.open(ref_of(LARGE)) as handle:
        assert handle.read(150 * KIB, 10) == LARGE[150 * KIB : 150 * KIB + 10]
        assert read_in_order(handle) == LARGE
    assert cache.wait_for_idle(10)
    assert remote.sent_bytes == len(LARGE)
    before = len(remote.requests)
    with cache.open(ref_of(LARGE[1:], 2)) as handle:
        assert read_in_order(handle) == LARGE[1:]
    assert [request.byte_range for request in remote.requests[before:]] == [None], "ranges were tried again"

    clock.advance(LIMITS.no_ranges_ttl_s + 1)
    remote.contents[3] = LARGE[2:]
    with cache.open(ref_of(LARGE[2:], 3)) as handle:
        handle.read(0, 1)
    assert remote.requests[-1].byte_range is not None, "the server was not asked for ranges again"
    assert cache.wait_for_idle(10)


def test_readers_of_one_stream_get_their_bytes_as_they_arrive(make_cache):
    """A server without ranges sends 80 KiB and pauses: a reader of the start has its bytes already."""
    may_go_on = threading.Event()

    def gate(request: Request, offset: int) -> None:
        if offset >= 80 * KIB:
            assert may_go_on.wait(20)

    remote = FakeRemote({1: LARGE}, ranges=False, piece_bytes=BLOCK, gate=gate)
    cache = make_cache(remote)
    with cache.open(ref_of(LARGE)) as handle, ThreadPoolExecutor(1) as pool:
        far = pool.submit(handle.read, 190 * KIB, 10)
        assert handle.read(60 * KIB, 10) == LARGE[60 * KIB : 60 * KIB + 10]
        assert not far.done()
        may_go_on.set()
        assert far.result(20) == LARGE[190 * KIB : 190 * KIB + 10]
        assert read_in_order(handle) == LARGE
    assert len(remote.requests) == 1


def test_a_stream_is_called_off_when_its_last_reader_leaves(make_cache):
    reached, may_go_on = threading.Event(), threading.Event()

    def gate(request: Request, offset: int) -> None:
        if offset >= 80 * KIB:
            reached.set()
            assert may_go_on.wait(20)

    remote = FakeRemote({1: LARGE}, ranges=False, piece_bytes=BLOCK, gate=gate)
    cache = make_cache(remote)
    with cache.open(ref_of(LARGE)) as handle:
        handle.read(0, 10)
        assert reached.wait(20)
    may_go_on.set()
    assert cache.wait_for_idle(10)
    assert remote.sent_bytes <= 84 * KIB
    with cache.open(ref_of(LARGE)) as handle:
        assert read_in_order(handle) == LARGE


def test_a_stream_that_breaks_off_starts_again_and_its_readers_notice_nothing(make_cache, directory):
    remote = FakeRemote(
        {1: LARGE}, ranges=False, faults=[Fault(stop_after=70_000), Fault(stop_after=100_000)]
    )
    with make_cache(remote, directory).open(ref_of(LARGE)) as handle:
        assert read_in_order(handle) == LARGE
    assert len(remote.requests) == 3


def test_two_readers_of_a_stream_that_memory_can_not_hold_both_get_to_the_end(make_cache):
    limits = replace(LIMITS, memory_max_bytes=40 * KIB)
    remote = FakeRemote({1: LARGE}, ranges=False)
    cache = make_cache(remote, None, limits=limits)
    with cache.open(ref_of(LARGE)) as one, cache.open(ref_of(LARGE)) as two, ThreadPoolExecutor(2) as pool:
        results = [pool.submit(read_in_order, handle) for handle in (one, two)]
        assert [result.result(60) == LARGE for result in results] == [True, True]


# -- faults ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("silent", [False, True], ids=["reset", "short"])
def test_a_body_that_ends_early_is_asked_for_again(make_cache, directory, data, silent):
    remote = FakeRemote({1: data}, faults=[Fault(stop_after=1000, silent_end=silent)] * 2)
    with make_cache(remote, directory).open(ref_of(data)) as handle:
        assert read_in_order(handle) == data


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
def test_a_body_that_always_ends_early_is_an_error_and_the_next_read_tries_again(make_cache, directory, data):
    remote = FakeRemote({1: data}, faults=[Fault(stop_after=1000)] * LIMITS.fetch_attempts)
    with make_cache(remote, directory).open(ref_of(data)) as handle:
        with pytest.raises(RemoteUnavailable):
            handle.read(0, 10)
        assert len(remote.requests) == LIMITS.fetch_attempts
        assert read_in_order(handle) == data


def test_an_interrupted_range_goes_on_where_it_ended(make_cache):
    remote = FakeRemote({1: LARGE}, faults=[Fault(stop_after=6 * BLOCK + 5)])
    with make_cache(remote).open(ref_of(LARGE)) as handle:
        assert handle.read(0, 10 * BLOCK) == LARGE[: 10 * BLOCK]
    assert [request.byte_range for request in remote.requests] == [
        ByteRange(0, 10 * BLOCK),
        ByteRange(6 * BLOCK, 10 * BLOCK),
    ]


@pytest.mark.parametrize("error", [RemoteUnavailable("503"), RemoteTimeout("slow"), NotAuthenticated("401")])
@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("ranges", [True, False], ids=["ranges", "no ranges"])
def test_errors_of_the_remote_reach_the_reader_as_they_are_and_are_not_remembered(
    make_cache, directory, error, data, ranges
):
    remote = FakeRemote({1: data}, ranges=ranges, faults=[Fault(error=error)])
    with make_cache(remote, directory).open(ref_of(data)) as handle:
        with pytest.raises(type(error), match=str(error)):
            handle.read(0, 10)
        assert read_in_order(handle) == data


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
def test_a_datafile_that_is_gone_makes_the_handle_stale_but_cached_bytes_stay(make_cache, data):
    remote = FakeRemote({1: data})
    cache = make_cache(remote)
    with cache.open(ref_of(data)) as handle:
        handle.read(0, 10)
        assert cache.wait_for_idle(10)
        del remote.contents[1]
        assert handle.read(5, 5) == data[5:10]
        if data is LARGE:
            with pytest.raises(StaleHandle, match="no longer on the server"):
                handle.read(100 * KIB, 10)


@pytest.mark.parametrize("ranges", [True, False], ids=["ranges", "no ranges"])
@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
def test_another_size_on_the_server_makes_the_handle_stale(make_cache, directory, data, ranges):
    remote = FakeRemote({1: data + b"more"}, ranges=ranges)
    with make_cache(remote, directory).open(ref_of(data)) as handle, pytest.raises(StaleHandle):
        handle.read(0, 10)


@pytest.mark.parametrize("obeys_if_range", [True, False])
def test_another_etag_makes_the_handle_stale_and_drops_what_was_fetched(make_cache, obeys_if_range):
    remote = FakeRemote({1: LARGE})
    cache = make_cache(remote)
    with cache.open(ref_of(LARGE)) as handle:
        assert handle.read(0, 10) == LARGE[:10]
        if obeys_if_range:
            remote.etag = '"v2"'
        else:
            remote.faults = [Fault(etag='"v2"')]
            remote.requests.clear()
        with pytest.raises(StaleHandle, match="changed"):
            handle.read(100 * KIB, 10)
        with pytest.raises(StaleHandle, match="changed"):
            handle.read(0, 10)
    remote.requests.clear()
    with cache.open(ref_of(LARGE)) as handle:
        assert handle.read(0, 10) == LARGE[:10]
    assert len(remote.requests) == 1, "a block in doubt was kept"


@pytest.mark.parametrize(
    "page", [b"<html>Please log in</html>", b"<html>" + bytes(10**6)], ids=["short", "long"]
)
@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
def test_a_login_page_instead_of_the_file_is_named_as_such(make_cache, directory, data, page):
    fault = Fault(page=page, content_type="text/html; charset=utf-8")
    remote = FakeRemote({1: data}, faults=[fault, fault, fault])
    with make_cache(remote, directory).open(ref_of(data)) as handle:
        with pytest.raises(ProtocolError, match="login or error page"):
            handle.read(0, 10)
        remote.faults.clear()
        assert read_in_order(handle) == data


def test_a_login_page_instead_of_a_later_range_is_no_change_of_the_file(make_cache, directory):
    remote = FakeRemote({1: LARGE})
    with make_cache(remote, directory).open(ref_of(LARGE)) as handle:
        assert handle.read(0, 10) == LARGE[:10]
        remote.etag = None
        remote.faults = [Fault(page=b"<html>Please log in</html>", content_type="text/html")] * 3
        with pytest.raises(ProtocolError, match="login or error page"):
            handle.read(len(LARGE) - 10, 10)
        remote.etag = '"v1"'
        remote.faults = []
        assert read_in_order(handle) == LARGE


def test_a_login_page_of_the_files_own_size_is_caught_by_its_sha1(make_cache, directory):
    fault = Fault(page=b"<html>".ljust(len(SMALL)), content_type="text/html")
    remote = FakeRemote({1: SMALL}, faults=[fault, fault])
    with (
        make_cache(remote, directory).open(ref_of(SMALL)) as handle,
        pytest.raises(ProtocolError, match="login or error page"),
    ):
        handle.read(0, 10)


def test_a_web_page_that_is_the_file_is_delivered(make_cache, directory):
    page = b"<html>a report that somebody imported</html>"
    remote = FakeRemote({1: page}, faults=[Fault(content_type="text/html")])
    with make_cache(remote, directory).open(ref_of(page)) as handle:
        assert handle.read(0, 100) == page


@pytest.mark.parametrize("ranges", [True, False], ids=["ranges", "no ranges"])
def test_a_body_that_goes_on_after_its_end_is_another_version(make_cache, directory, ranges):
    remote = FakeRemote({1: SMALL}, ranges=ranges, faults=[Fault(extra=b"!")])
    with (
        make_cache(remote, directory).open(ref_of(SMALL)) as handle,
        pytest.raises(StaleHandle, match="more bytes"),
    ):
        handle.read(0, 10)


# -- wrong bytes -----------------------------------------------------------------------------------------


def test_wrong_bytes_of_a_small_content_are_fetched_again_before_anything_is_delivered(make_cache, directory):
    remote = FakeRemote({1: SMALL}, faults=[Fault(corrupt_at=9000)])
    with make_cache(remote, directory).open(ref_of(SMALL)) as handle:
        assert handle.read(0, 10) == SMALL[:10]
        assert len(remote.requests) == 2
        assert read_in_order(handle) == SMALL


def test_wrong_bytes_twice_fail_the_handle_and_the_next_open_may_try_again(make_cache, directory):
    remote = FakeRemote({1: SMALL}, faults=[Fault(corrupt_at=9000)] * 2)
    cache = make_cache(remote, directory)
    with cache.open(ref_of(SMALL)) as handle:
        for _ in range(2):
            with pytest.raises(IntegrityError):
                handle.read(0, 10)
        assert len(remote.requests) == 2
        with cache.open(ref_of(SMALL)) as fresh:
            assert read_in_order(fresh) == SMALL
    assert cache.open(ref_of(SMALL)).close() is None


@pytest.mark.parametrize("ranges", [True, False], ids=["ranges", "no ranges"])
@pytest.mark.parametrize("wrong_at", [5, 100 * KIB, len(LARGE) - 1], ids=["first", "middle", "last"])
def test_a_large_content_with_a_wrong_byte_never_ends_well(make_cache, directory, ranges, wrong_at):
    """The reader of the last block gets the error instead of its bytes; a fresh open starts from nothing."""
    wrong = bytearray(LARGE)
    wrong[wrong_at] ^= 1
    remote = FakeRemote({1: bytes(wrong)}, ranges=ranges)
    cache = make_cache(remote, directory)
    with cache.open(ref_of(LARGE)) as handle:
        generation = handle.generation
        with pytest.raises(IntegrityError):
            read_in_order(handle)
        with pytest.raises(IntegrityError):
            handle.read(0, 10)
        assert handle.generation != generation
    assert not cache.holds(ref_of(LARGE))
    remote.contents[1] = LARGE
    with cache.open(ref_of(LARGE)) as handle:
        assert read_in_order(handle) == LARGE
    assert cache.stats().integrity_failures >= 1
    assert cache.wait_for_idle(10)


def test_the_last_missing_block_is_verified_before_it_is_delivered_in_any_order(make_cache):
    wrong = bytearray(LARGE)
    wrong[150 * KIB] ^= 1
    cache = make_cache(FakeRemote({1: bytes(wrong)}))
    blocks = -(-len(LARGE) // BLOCK)
    with cache.open(ref_of(LARGE)) as handle:
        for block_no in reversed(range(1, blocks)):
            handle.read(block_no * BLOCK, BLOCK)
        with pytest.raises(IntegrityError):
            handle.read(0, 1)


def test_a_handle_that_got_nothing_yet_survives_a_mismatch_by_fetching_afresh(make_cache, tmp_path):
    """Everything but one block was cached wrongly before; the new handle's first read completes the file."""
    wrong = bytearray(LARGE)
    wrong[150 * KIB] ^= 1
    remote = FakeRemote({1: bytes(wrong)})
    blocks = -(-len(LARGE) // BLOCK)
    with make_cache(remote).open(ref_of(LARGE)) as handle:
        for block_no in reversed(range(1, blocks)):
            handle.read(block_no * BLOCK, 1)
    remote.contents[1] = LARGE
    with make_cache(remote).open(ref_of(LARGE)) as handle:
        assert handle.read(0, 10) == LARGE[:10]
        assert read_in_order(handle) == LARGE


def test_without_a_sha1_the_length_is_verified_and_the_content_is_complete(make_cache):
    cache = make_cache(FakeRemote({1: LARGE}))
    ref = ref_of(LARGE, sha1="")
    with cache.open(ref) as handle:
        assert read_in_order(handle) == LARGE
    assert cache.holds(ref)
    assert hashlib.sha1(LARGE).hexdigest() not in ref.key


# -- threads ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("fails", [False, True])
def test_sixteen_readers_of_one_missing_block_share_one_request_and_its_outcome(make_cache, data, fails):
    arrived = threading.Barrier(17)
    may_answer = threading.Event()

    def gate(request: Request, offset: int) -> None:
        assert may_answer.wait(20)

    remote = FakeRemote({1: data}, gate=gate)
    if fails:
        remote.faults = [Fault(stop_after=0)] * LIMITS.fetch_attempts
    cache = make_cache(remote)
    with cache.open(ref_of(data)) as handle, ThreadPoolExecutor(16) as pool:

        def read():
            arrived.wait(20)
            try:
                return handle.read(0, 10)
            except RemoteUnavailable:
                return "failed"

        results = [pool.submit(read) for _ in range(16)]
        arrived.wait(20)
        while waiting_readers(handle) < 16:
            pass
        may_answer.set()
        outcomes = [result.result(20) for result in results]
        assert outcomes == (["failed"] * 16 if fails else [data[:10]] * 16)
        assert len(remote.requests) == (LIMITS.fetch_attempts if fails else 1)
        assert handle.read(0, 10) == data[:10]


def waiting_readers(handle) -> int:
    """How many threads are at the slots of a handle's content (seen from inside: no other way to know)."""
    content = handle._content
    with content._lock:
        return sum(slot.waiters for slot in content._pending.values())


@pytest.mark.parametrize("ranges", [True, False], ids=["ranges", "no ranges"])
def test_sixteen_threads_reading_all_over_get_the_right_bytes(make_cache, directory, ranges):
    remote = FakeRemote({1: LARGE}, ranges=ranges, piece_bytes=3001)
    cache = make_cache(remote, directory)

    def read(number):
        with cache.open(ref_of(LARGE)) as handle:
            if number % 2:
                return read_in_order(handle, 2000 + 100 * number) == LARGE
            return all(
                handle.read(offset, 5000) == LARGE[offset : offset + 5000]
                for offset in range(number * 1000, len(LARGE), 13_000)
            )

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(read, range(16)))


def test_a_waiting_reader_gives_up_when_nothing_arrives_and_the_flight_goes_on(make_cache):
    """``stall_s`` without a byte is RemoteTimeout for who waits; who comes later gets the bytes."""
    asked, may_answer = threading.Event(), threading.Event()

    def gate(request: Request, offset: int) -> None:
        asked.set()
        assert may_answer.wait(20)

    cache = make_cache(FakeRemote({1: LARGE}, gate=gate), limits=replace(LIMITS, stall_s=0.05))
    with cache.open(ref_of(LARGE)) as handle, ThreadPoolExecutor(1) as pool:
        leader = pool.submit(handle.read, 0, 10)
        assert asked.wait(20)
        with pytest.raises(RemoteTimeout, match="no byte arrived"):
            handle.read(0, 10)
        may_answer.set()
        assert leader.result(20) == LARGE[:10]
        assert handle.read(0, 10) == LARGE[:10]


def test_memory_stays_within_its_budget_whatever_is_read(make_cache):
    limits = replace(LIMITS, memory_max_bytes=64 * KIB)
    cache = make_cache(FakeRemote({1: LARGE}), None, limits=limits)
    with cache.open(ref_of(LARGE)) as handle:
        for offset in range(0, len(LARGE), 3000):
            assert handle.read(offset, 3000) == LARGE[offset : offset + 3000]
            assert cache.stats().memory_bytes <= 64 * KIB + LIMITS.ranges_in_flight * BLOCK


def test_ten_thousand_opens_leave_no_thread_and_no_descriptor(make_cache):
    cache = make_cache(FakeRemote({1: SMALL}))
    with cache.open(ref_of(SMALL)) as handle:
        handle.read(0, 10)
    threads = threading.active_count()
    for _ in range(10_000):
        cache.open(ref_of(SMALL)).close()
    assert threading.active_count() <= threads
    assert cache.stats().open_files == 0


def test_many_contents_open_at_once_hold_a_bounded_number_of_descriptors(make_cache):
    limits = replace(LIMITS, max_open_files=10)
    contents = {number: content_of(5000, seed=number) for number in range(1, 41)}
    cache = make_cache(FakeRemote(contents), limits=limits)
    handles = [cache.open(ref_of(data, number)) for number, data in contents.items()]
    for _ in range(2):
        for handle, data in zip(handles, contents.values(), strict=True):
            assert handle.read(0, 10_000) == data
            assert cache.stats().open_files <= 10
    for handle in handles:
        handle.close()


def test_building_a_cache_touches_neither_disk_nor_network_nor_threads(make_cache, tmp_path: Path):
    before = threading.active_count()
    remote = FakeRemote({})
    make_cache(remote, tmp_path / "new")
    assert not (tmp_path / "new").exists()
    assert threading.active_count() == before
    assert remote.requests == []


@pytest.mark.parametrize("ranges", [True, False], ids=["ranges", "no ranges"])
def test_a_mismatch_found_by_two_threads_at_once_is_never_taken_for_a_match(
    make_cache, tmp_path_factory, monkeypatch, ranges
):
    """Found in a race: while the download's thread removed the wrong file, the reader sealed and delivered it.

    Here the removal waits until the reader has verified too, which made that certain.
    """
    wrong = bytearray(LARGE)
    wrong[100 * KIB] ^= 1
    reader_is_verifying = threading.Event()
    real_discard = BlockFile.discard
    real_take_over = BlockFile.take_over_seal

    def discard(file):
        reader_is_verifying.wait(0.2)  # not set when the reader is the one who found it
        real_discard(file)

    def take_over_seal(file):
        reader_is_verifying.set()
        return real_take_over(file)

    monkeypatch.setattr(BlockFile, "discard", discard)
    monkeypatch.setattr(BlockFile, "take_over_seal", take_over_seal)
    for _ in range(5):
        reader_is_verifying.clear()
        cache = make_cache(FakeRemote({1: bytes(wrong)}, ranges=ranges), tmp_path_factory.mktemp("cache"))
        with cache.open(ref_of(LARGE)) as handle, pytest.raises(IntegrityError):
            read_in_order(handle)
        assert not cache.holds(ref_of(LARGE))
