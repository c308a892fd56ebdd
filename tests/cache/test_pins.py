"""Pins: what was pinned stays whatever is read besides, over restarts, for all mounts, within the room there is."""

from __future__ import annotations

import json
import threading

import pytest

from agorafs.cache.content import ContentCache, ContentLimits, ContentRef
from agorafs.cache.pins import Pin, Pinning, Pins
from agorafs.errors import CacheError, NotSupported, TooLarge
from tests.cache.fake_remote import ARCHIVE, FakeRemote, content_of, ref_of

KIB = 1024
BLOCK = 4 * KIB


def limits(max_bytes: int) -> ContentLimits:
    return ContentLimits(
        block_bytes=BLOCK,
        whole_file_bytes=2 * BLOCK,
        max_bytes=max_bytes,
        min_free_bytes=0,
        memory_max_bytes=1024 * KIB,
        window_max_bytes=4 * BLOCK,
        range_max_bytes=4 * BLOCK,
        stall_s=20.0,
    )


@pytest.fixture
def opened(make_cache):
    def open_cache(remote: FakeRemote, max_bytes: int = 100 * BLOCK) -> tuple[ContentCache, Pinning]:
        cache = make_cache(remote, limits=limits(max_bytes))
        return cache, Pinning(cache, ARCHIVE, BLOCK)

    return open_cache


def content(remote: FakeRemote, number: int, size: int) -> ContentRef:
    remote.contents[number] = content_of(size, number)
    return ref_of(remote.contents[number], number)


def read(cache: ContentCache, ref: ContentRef) -> bytes:
    with cache.open(ref) as one:
        return one.read(0, ref.size)


@pytest.mark.parametrize("size", [1, BLOCK - 1, BLOCK, 2 * BLOCK, 7 * BLOCK + 5])
def test_what_was_fetched_is_all_here_verified(opened, size):
    remote = FakeRemote({})
    cache, pinning = opened(remote)
    ref = content(remote, 1, size)
    told: list[int] = []
    pinning.pin("exam:1", "/e", [ref])
    pinning.fetch(ref, told.append)
    assert cache.holds(ref)
    assert sum(told) == ref.size
    requests = cache.stats().requests
    pinning.fetch(ref, told.append)
    assert read(cache, ref) == remote.contents[1] and cache.stats().requests == requests


def test_pinned_contents_stay_while_others_are_evicted_and_go_when_they_are_unpinned(opened):
    remote = FakeRemote({})
    cache, pinning = opened(remote, 20 * BLOCK)
    kept = content(remote, 1, 5 * BLOCK)
    pinning.pin("exam:1", "/e", [kept])
    pinning.fetch(kept, lambda size: None)
    others = [content(remote, number, 3 * BLOCK) for number in range(2, 12)]
    for ref in others:
        read(cache, ref)
        cache.make_room()
    assert cache.holds(kept)
    assert not all(cache.holds(ref) for ref in others)
    assert pinning.unpin(lambda pin: True) == 1
    for ref in others:
        read(cache, ref)
        cache.make_room()
    assert not cache.holds(kept)


def test_pins_are_found_by_the_next_process_and_by_other_mounts_of_the_same_archive(opened):
    remote = FakeRemote({})
    _, pinning = opened(remote)
    pinning.pin("exam:1", "/projects/é", [content(remote, 1, BLOCK)])
    again, same = opened(remote)
    assert [(pin.name, pin.path) for pin in same.pins()] == [("exam:1", "/projects/é")]
    assert Pinning(again, "http://other", BLOCK).pins() == []
    assert Pinning(again, "http://other", BLOCK).unpin(lambda pin: True) == 0
    assert len(same.pins()) == 1


def test_contents_of_two_pins_stay_until_both_are_gone(tmp_path):
    pins = Pins(tmp_path, 1000)
    pins.add(Pin(ARCHIVE, "exam:1", "/a", {"k": 10, "l": 20}))
    pins.add(Pin(ARCHIVE, "exam:2", "/b", {"k": 10}))
    assert pins.remove(lambda pin: pin.path == "/a") == 1
    with pins.held() as keys:
        assert keys == {"k"}


def test_pinning_again_takes_the_place_of_the_old_pin(tmp_path):
    pins = Pins(tmp_path, 25)
    pins.add(Pin(ARCHIVE, "exam:1", "/a", {"k": 20}))
    pins.add(Pin(ARCHIVE, "exam:1", "/b", {"l": 22}))
    assert [(pin.path, dict(pin.contents)) for pin in pins.all()] == [("/b", {"l": 22})]


def test_more_than_the_room_is_refused_in_words_and_leaves_what_is_pinned(tmp_path):
    pins = Pins(tmp_path, 100)
    pins.add(Pin(ARCHIVE, "exam:1", "/a", {"k": 60, "l": 10}))
    pins.add(Pin(ARCHIVE, "exam:2", "/b", {"k": 60, "m": 30}))  # shared contents count once
    with pytest.raises(TooLarge, match=r"/c can not be pinned: with it 101 bytes .* room for 100.* unpin"):
        pins.add(Pin(ARCHIVE, "exam:3", "/c", {"n": 1}))
    assert sorted(pin.path for pin in pins.all()) == ["/a", "/b"]


def test_the_room_is_the_cache_less_a_window_of_read_ahead(opened):
    remote = FakeRemote({})
    _, pinning = opened(remote, 20 * BLOCK)
    pinning.pin("dataset:1", "/a", [content(remote, 1, 14 * BLOCK)])
    with pytest.raises(TooLarge):
        pinning.pin("dataset:2", "/b", [content(remote, 2, 2 * BLOCK)])


def test_pins_that_can_not_be_read_keep_everything(opened, tmp_path):
    remote = FakeRemote({})
    cache, pinning = opened(remote, 20 * BLOCK)
    kept = content(remote, 1, 5 * BLOCK)
    pinning.pin("exam:1", "/e", [kept])
    pinning.fetch(kept, lambda size: None)
    (path,) = (tmp_path / "cache" / "pins-1").glob("*.json")
    path.write_text("{")
    for number in range(2, 12):
        read(cache, content(remote, number, 3 * BLOCK))
        cache.make_room()
    assert cache.holds(kept)
    with pytest.raises(CacheError), Pins(tmp_path / "cache", 1).held():
        pass
    with pytest.raises(NotSupported, match="can not be used"):
        pinning.pins()


def test_nothing_is_evicted_between_the_look_at_the_pins_and_the_removal(tmp_path):
    """Who adds a pin waits until the evictor that has looked is done."""
    pins = Pins(tmp_path, 1000)
    pins.add(Pin(ARCHIVE, "exam:1", "/a", {"k": 1}))
    added = threading.Event()
    began = threading.Event()

    def add() -> None:
        began.set()
        pins.add(Pin(ARCHIVE, "exam:2", "/b", {"l": 1}))
        added.set()

    with pins.held() as keys:
        thread = threading.Thread(target=add)
        thread.start()
        assert began.wait(30)
        assert not added.wait(0.2)
        assert keys == {"k"}
    thread.join(30)
    assert added.is_set()


def test_a_cache_without_a_disk_can_pin_nothing(make_cache):
    cache = make_cache(FakeRemote({}), None)
    with pytest.raises(NotSupported, match="no cache on disk"):
        Pinning(cache, ARCHIVE, BLOCK).pins()


def test_pins_are_for_their_owner_alone_and_hold_no_more_than_is_needed(tmp_path):
    pins = Pins(tmp_path, 1000)
    assert pins.all() == [] and not (tmp_path / "pins-1").exists()
    pins.add(Pin(ARCHIVE, "exam:1", "/a", {"k": 1}))
    assert (tmp_path / "pins-1").stat().st_mode & 0o077 == 0
    (path,) = (tmp_path / "pins-1").glob("*.json")
    assert json.loads(path.read_text()) == {
        "archive": ARCHIVE, "name": "exam:1", "path": "/a", "contents": {"k": 1},
    }  # fmt: skip
