"""Listings are fresh for a time, then revalidated; "unreachable" is never "gone"."""

from __future__ import annotations

import threading

import pytest

from agorafs.cache.metadata import Fetched, Freshness, ListingCache
from agorafs.errors import NotAuthenticated, NotFound, RemoteUnavailable
from tests.support.manual_clock import ManualClock

FRESHNESS = Freshness(ttl_s=30.0, revalidate_wait_s=5.0, max_stale_s=300.0, retry_s=5.0)


class Source:
    """A slow fetch that counts and can be held up or made to fail."""

    def __init__(self) -> None:
        self.fetched: list[str] = []
        self.version = 1
        self.error: Exception | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.started = threading.Event()
        self.also: dict[str, str] = {}

    def fetch(self, key: str) -> Fetched[str, str]:
        self.fetched.append(key)
        value = f"{key} v{self.version}"
        self.started.set()
        assert self.gate.wait(10)
        if self.error is not None:
            raise self.error
        return Fetched(value, self.also)


@pytest.fixture
def source():
    return Source()


@pytest.fixture
def clock():
    return ManualClock()


def make(source, clock, freshness=FRESHNESS, max_weight=1000):
    return ListingCache[str, str](
        source.fetch, freshness=freshness, max_weight=max_weight, weigh=len, clock=clock
    )


@pytest.fixture
def cache(source, clock):
    cache = make(source, clock)
    yield cache
    source.gate.set()
    cache.close()


def test_a_listing_is_served_from_memory_until_its_ttl_and_not_after(cache, source, clock):
    assert cache.load("a") == "a v1"
    source.version = 2
    clock.advance(29.9)
    assert cache.load("a") == "a v1"
    clock.advance(0.2)
    assert cache.load("a") == "a v2"
    assert source.fetched == ["a", "a"]


def test_a_slow_server_does_not_hold_up_a_reader_who_has_seen_the_listing_before(source, clock):
    cache = make(source, clock, Freshness(ttl_s=30.0, revalidate_wait_s=0.0))
    cache.load("a")
    source.version = 2
    source.gate.clear()
    clock.advance(31)
    assert cache.load("a") == "a v1"
    source.gate.set()
    assert cache.wait_for_idle(10)
    assert cache.get("a") == "a v2"
    cache.close()


def test_who_has_waited_in_vain_for_a_slow_server_spares_the_others(source, clock):
    """Or walking a thousand old directories of a server that hangs would take a thousand waits."""
    cache = make(source, clock, Freshness(ttl_s=30.0, revalidate_wait_s=0.01, retry_s=5.0))
    for key in "abcd":
        cache.load(key)
    source.gate.clear()
    source.version = 2
    clock.advance(31)
    assert cache.load("a") == "a v1"
    cache._freshness = Freshness(ttl_s=30.0, revalidate_wait_s=3600.0, retry_s=5.0)  # a wait would not end
    assert [cache.load(key) for key in "bcd"] == ["b v1", "c v1", "d v1"]
    source.gate.set()
    clock.advance(5.1)
    assert cache.load("b") == "b v2"
    cache.close()


def test_readers_who_need_an_answer_do_not_queue_behind_the_background(source, clock):
    """The server hangs for every background fetch; a listing that is too old to be shown is fetched at once."""
    held = threading.Event()
    background: list[str] = []

    def fetch(key: str) -> Fetched[str, str]:
        if threading.current_thread() is not threading.main_thread():
            background.append(key)
            assert held.wait(10)
        return Fetched(f"{key} v{source.version}")

    freshness = Freshness(ttl_s=30.0, revalidate_wait_s=0.0, max_stale_s=300.0)
    cache = ListingCache[str, str](
        fetch, freshness=freshness, max_weight=1000, weigh=len, clock=clock, revalidators=1
    )
    for key in "ab":
        cache.load(key)
    source.version = 2
    clock.advance(31)
    cache.load("a")  # takes the only background thread
    assert cache.load("b") == "b v1"  # queued behind it
    clock.advance(300)
    assert cache.load("b") == "b v2"
    held.set()
    assert cache.wait_for_idle(10)
    assert background == ["a"]
    cache.close()


def test_closing_does_not_wait_for_a_server_that_hangs(source, clock):
    cache = make(source, clock, Freshness(ttl_s=30.0, revalidate_wait_s=0.0))
    cache.load("a")
    source.started.clear()
    source.gate.clear()
    clock.advance(31)
    cache.load("a")
    assert source.started.wait(10)
    cache.close()
    assert not cache.wait_for_idle(0)
    source.gate.set()
    assert cache.wait_for_idle(10)


def test_an_answer_does_not_replace_one_that_was_asked_for_later(source, clock):
    """Steps: a is asked for, its answer also holds b; meanwhile b is asked for and comes; then a's answer comes."""
    cache = make(source, clock)
    source.gate.clear()
    reader = threading.Thread(target=cache.load, args=("a",))
    reader.start()
    assert source.started.wait(10)
    source.also = {"b": "b as it was"}
    clock.advance(1)
    late = source.fetch

    def fetch_b(key: str) -> Fetched[str, str]:
        return Fetched("b as it is")

    cache._fetch = fetch_b
    assert cache.load("b") == "b as it is"
    cache._fetch = late
    source.gate.set()
    reader.join(10)
    assert cache.load("b") == "b as it is"
    assert cache.get("a") == "a v1"
    cache.close()


def test_an_unreachable_server_leaves_the_old_listing_and_is_not_asked_again_at_once(cache, source, clock):
    cache.load("a")
    source.error = RemoteUnavailable("away")
    clock.advance(31)
    assert [cache.load("a") for _ in range(3)] == ["a v1"] * 3
    assert len(source.fetched) == 2
    source.error = None
    source.version = 2
    clock.advance(5.1)
    assert cache.load("a") == "a v2"


def test_even_a_very_old_listing_is_better_than_none_while_the_server_is_away(cache, source, clock):
    cache.load("a")
    source.error = RemoteUnavailable("away")
    clock.advance(100_000)
    assert cache.load("a") == "a v1"


def test_a_very_old_listing_is_not_shown_while_a_fresh_one_can_be_had(source, clock):
    cache = make(source, clock, Freshness(ttl_s=30.0, revalidate_wait_s=0.0, max_stale_s=300.0))
    cache.load("a")
    source.version = 2
    clock.advance(301)
    assert cache.load("a") == "a v2"
    cache.close()


def test_a_listing_in_doubt_is_asked_for_again_and_still_shown_when_nobody_answers(cache, source):
    assert cache.load("a") == "a v1"
    source.version, source.error = 2, RemoteUnavailable("away")
    cache.expire("a")
    assert cache.load("a") == "a v1"
    source.error = None
    cache.expire("a")
    assert cache.load("a") == "a v2"
    cache.expire("never seen")


@pytest.mark.parametrize("error", [NotFound("gone"), NotAuthenticated("revoked")])
def test_what_the_archive_refuses_is_dropped_and_the_refusal_reaches_the_reader(cache, source, clock, error):
    cache.load("a")
    source.error = error
    clock.advance(31)
    with pytest.raises(type(error)):
        cache.load("a")
    assert cache.get("a") is None


def test_readers_who_miss_the_same_listing_share_one_fetch(cache, source):
    source.gate.clear()
    results: list[str] = []
    threads = [threading.Thread(target=lambda: results.append(cache.load("a"))) for _ in range(16)]
    for thread in threads:
        thread.start()
    assert source.started.wait(10)
    source.gate.set()
    for thread in threads:
        thread.join(10)
    assert results == ["a v1"] * 16
    assert source.fetched == ["a"]


def test_a_failure_is_shared_too_and_the_next_reader_tries_again(cache, source):
    source.error = RemoteUnavailable("away")
    with pytest.raises(RemoteUnavailable):
        cache.load("a")
    source.error = None
    assert cache.load("a") == "a v1"


def test_an_answer_that_left_before_an_invalidation_is_not_stored(cache, source):
    source.gate.clear()
    source.also = {"b": "b v1"}
    reader = threading.Thread(target=cache.load, args=("a",))
    reader.start()
    assert source.started.wait(10)
    cache.invalidate(["b"])
    source.gate.set()
    reader.join(10)
    assert cache.get("a") is None
    assert cache.get("b") is None


def test_what_else_an_answer_holds_is_stored_with_it(cache, source):
    source.also = {"b": "b v1"}
    cache.load("a")
    assert cache.load("b") == "b v1"
    assert source.fetched == ["a"]


def test_the_least_recently_used_listing_is_evicted_by_weight(source, clock):
    cache = make(source, clock, max_weight=12)  # each value weighs 1 + 4
    for key in "ab":
        cache.load(key)
    cache.load("a")
    cache.load("c")
    assert cache.get("a") and cache.get("c") and cache.get("b") is None
    cache.close()


def test_a_listing_larger_than_the_limit_is_kept_alone(source, clock):
    """Or every name of a large directory would cost a request."""
    cache = make(source, clock, max_weight=3)
    cache.load("a")
    cache.load("a")
    assert source.fetched == ["a"]
    cache.close()


def test_what_is_put_is_fresh_for_the_ttl_and_no_fetch_under_way_replaces_it(cache, source, clock):
    """Our own change is newer than an answer that may have left the server before it."""
    source.gate.clear()
    reader = threading.Thread(target=cache.load, args=("a",))
    reader.start()
    assert source.started.wait(10)
    cache.put("a", "ours")
    source.gate.set()
    reader.join()
    assert cache.load("a") == "ours"
    clock.advance(FRESHNESS.ttl_s)
    assert cache.load("a") == "a v1"


def test_only_what_is_fresh_is_given_without_asking(cache, source, clock):
    assert cache.get_fresh("a") is None
    cache.load("a")
    assert cache.get_fresh("a") == "a v1"
    clock.advance(FRESHNESS.ttl_s)
    assert cache.get_fresh("a") is None
    assert cache.get("a") == "a v1"
    assert source.fetched == ["a"]
