"""The sender's threads: every batch gets its turn, trouble is waited for, and the end of the mount is quick."""

from __future__ import annotations

import threading
import time
from collections import Counter
from functools import partial

import pytest

from agorafs.errors import RemoteUnavailable
from agorafs.uploads import chunk_size, packing
from agorafs.uploads.sender import Sender
from agorafs.uploads.values import BatchState
from tests.support.waiting import eventually
from tests.uploads.sending import Life, Server, World

CHUNK = 1000
LARGE = b"0123456789" * 450
WITHIN_S = 30


@pytest.fixture(autouse=True)
def small_numbers(monkeypatch):
    for name in ("FIRST_BYTES", "LEAST_BYTES", "MOST_BYTES"):
        monkeypatch.setattr(chunk_size, name, CHUNK)
    monkeypatch.setattr(packing, "SMALL_FILE_BYTES", 400)


class Mount:
    """A world with a sender; its clock moves only when a test says so."""

    def __init__(self, directory):
        self.world = World(directory)
        self.sender: Sender | None = None

    def start(self, life: Life | None = None, **options) -> None:
        life = life or Life()
        world = self.world
        self.sender = Sender(
            life.of(world.journal),
            world.hub,
            life.of(world.server),
            life.of(world.settler),
            clock=world.clock,
            random=lambda: 1.0,
            **options,
        )
        self.sender.start()

    def close(self) -> None:
        self.world.hub.closing.set()
        self.world.hub.announce_work()
        if self.sender is not None:
            self.sender.close()
            self.sender = None

    def eventually(self, condition, *, step_s: float = 0.0) -> None:
        """Wait for *condition*, while the clock moves by *step_s* each time that it is not met."""

        def is_met() -> bool:
            if condition():
                return True
            self.world.clock.advance(step_s)
            self.world.hub.announce_work()
            return False

        eventually(is_met, WITHIN_S)

    def has_ended(self) -> bool:
        return not self.world.journal.batches()


@pytest.fixture
def mount(tmp_path):
    one = Mount(tmp_path / "spool")
    yield one
    one.close()
    one.world.end()


def is_idle(server: Server) -> bool:
    return server.in_flight == 0


def away(name: str) -> None:
    raise RemoteUnavailable("no connection")


def here(name: str) -> None:
    pass


def test_what_earlier_mounts_left_is_sent_the_oldest_first(mount):
    for number in range(5):
        mount.world.batch({f"file-{number}": b"x"})
    mount.start(parallel_batches=1)
    mount.eventually(mount.has_ended, step_s=1)
    assert [name for name, _ in mount.world.server.files] == [f"file-{number}" for number in range(5)]


def test_what_is_sealed_later_is_sent_when_it_is_announced(mount):
    mount.start()
    mount.world.batch({"a": b"1"})
    mount.eventually(mount.has_ended, step_s=1)
    assert mount.world.server.files == [("a", b"1")]


def test_long_imports_hold_up_nobody(mount):
    mount.world.server.polls = [(4, 50)]
    batches = [mount.world.batch({f"file-{number}": LARGE}) for number in range(6)]
    mount.start(parallel_batches=1)
    mount.eventually(
        lambda: all(mount.world.state(batch) is BatchState.IMPORTING for batch in batches), step_s=1
    )
    mount.world.server.polls = [(5, 100)]
    late = mount.world.batch({"late": b"1"})
    mount.eventually(lambda: mount.world.journal.batch(late) is None, step_s=1)
    assert mount.world.hub.runnable() == batches


def test_chunks_of_several_batches_share_the_connections(mount):
    together = threading.Barrier(4)
    mount.world.server.before = lambda name: (
        together.wait(WITHIN_S) and None if name == "send_chunk" else None
    )
    for number in range(4):
        mount.world.batch({f"file-{number}": b"x" * CHUNK})
    mount.start(parallel_batches=4, parallel_chunks=4)
    mount.eventually(mount.has_ended, step_s=1)
    assert mount.world.server.most_in_flight == 4


def test_no_more_chunks_are_in_flight_than_said(mount):
    for number in range(4):
        mount.world.batch({f"file-{number}": LARGE})
    mount.start(parallel_batches=4, parallel_chunks=2)
    mount.eventually(mount.has_ended, step_s=1)
    assert mount.world.server.most_in_flight <= 2


def test_a_server_that_is_away_is_not_hammered_and_everybody_learns_why_they_wait(mount):
    world = mount.world
    world.server.before = away
    batches = [world.batch({f"file-{number}": b"x"}) for number in range(5)]
    mount.start(parallel_batches=1)
    mount.eventually(lambda: {batch for batch, reason in world.hub.waits if reason} == set(batches))
    assert {reason for _, reason in world.hub.waits} == {"no connection"}
    assert world.server.calls == ["create_package"]

    mount.eventually(lambda: len(world.server.calls) == 4, step_s=0.5)
    world.server.before = here
    mount.eventually(mount.has_ended, step_s=1)
    last = dict(world.hub.waits)
    assert last == dict.fromkeys(batches)
    assert sorted(name for name, _ in world.server.files) == [f"file-{number}" for number in range(5)]


def test_a_batch_that_the_server_can_not_stand_does_not_stop_the_others(mount):
    world = mount.world
    poison = world.batch({"poison": b"x"})
    others = {f"file-{number}": LARGE for number in range(4)}
    for name, data in others.items():
        world.batch({name: data})
    complete = world.server.complete

    def refuse(package_id, request):
        announced = world.server.packages[package_id].announced.values()
        if "poison" in {chunk.target for chunk in announced}:
            raise RemoteUnavailable("500")
        complete(package_id, request)

    world.server.complete = refuse
    mount.start(parallel_batches=2)
    mount.eventually(lambda: world.hub.runnable() == [poison], step_s=1)
    assert Counter(world.server.files) == Counter(others.items())
    world.server.complete = complete
    mount.eventually(mount.has_ended, step_s=10)


def test_a_bug_is_logged_and_the_batch_tried_again(mount, caplog):
    world = mount.world
    settle, calls = world.settler.settle, []

    def stumble(batch):
        calls.append(batch.id)
        if len(calls) == 1:
            raise ZeroDivisionError("oops")
        settle(batch)

    world.settler.settle = stumble
    batch = world.batch({"a": b"1"})
    mount.start()
    mount.eventually(mount.has_ended, step_s=1)
    assert calls == [batch, batch]
    (record,) = [each for each in caplog.records if each.exc_info]
    assert "bug" in record.getMessage()
    assert "ZeroDivisionError" in dict(each for each in world.hub.waits if each[1])[batch]
    assert dict(world.hub.waits)[batch] is None


def test_trouble_on_this_machine_makes_one_batch_wait_and_no_other(mount):
    world = mount.world
    packages = world.directory / "packages"
    packages.rmdir()
    packed = world.batch({"a": b"1", "b": b"2"})
    world.batch({"large": LARGE})
    mount.start()
    mount.eventually(lambda: world.hub.runnable() == [packed], step_s=1)
    mount.eventually(lambda: any(each == packed and reason for each, reason in world.hub.waits), step_s=1)
    packages.mkdir()
    mount.eventually(mount.has_ended, step_s=1)
    assert Counter(name for name, _ in world.server.files) == Counter(["a", "b", "large"])


def test_what_nobody_wants_is_dropped_although_the_server_is_away(mount):
    world = mount.world
    world.server.before = away
    batch = world.batch({"a": b"1"})
    mount.start()
    mount.eventually(lambda: world.hub.waits != [])
    world.hub.unwanted.add(batch)
    mount.eventually(mount.has_ended)
    assert world.hub.abandoned == [batch]


def test_the_end_of_the_mount_breaks_off_chunks_and_loses_nothing(mount):
    world = mount.world
    aborted = threading.Event()
    world.server.abort = aborted.set

    def hang(name):
        if name == "send_chunk" and len(world.server.sent) >= 2:
            assert aborted.wait(WITHIN_S)
            raise RemoteUnavailable("broken off")

    world.server.before = hang
    batch = world.batch({"large": LARGE})
    mount.start()
    mount.eventually(lambda: len(world.server.sent) >= 2 and world.server.in_flight > 0)
    begun_s = time.monotonic()
    mount.close()
    assert time.monotonic() - begun_s < 10
    assert aborted.is_set()
    assert world.state(batch) is BatchState.UPLOADING
    assert len(world.journal.transfers(batch)[0].done) == len(world.server.sent)

    world.server.before = here
    world.restart()
    mount.start()
    mount.eventually(mount.has_ended, step_s=1)
    assert world.server.files == [("large", LARGE)]
    assert len(world.server.sent) == 5


def test_killed_with_several_batches_under_way_every_file_arrives_exactly_once(tmp_path, monkeypatch):
    monkeypatch.setattr(threading, "excepthook", lambda killed: None)  # threads of a process that is dead
    files = {f"file-{number}": LARGE[number:] for number in range(3)} | {"small": b"s", "empty": b""}
    for dies_at in range(0, 120, 6):
        mount = Mount(tmp_path / str(dies_at))
        world = mount.world
        for name, data in files.items():
            world.batch({name: data})
        life = Life(dies_at)
        mount.start(life)
        mount.eventually(partial(getattr, life, "is_over"), step_s=1)
        mount.eventually(partial(is_idle, world.server))
        world.hub.closing.set()
        world.hub.announce_work()
        world.restart()
        mount.start()
        mount.eventually(mount.has_ended, step_s=1)
        mount.close()
        world.end()
        assert Counter(world.server.files) == Counter(files.items())
        assert world.hub.failed == {}
