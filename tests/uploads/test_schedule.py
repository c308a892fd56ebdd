"""Which batch is next, and when."""

from __future__ import annotations

import pytest

from agorafs.uploads.schedule import Schedule, back_off_s
from tests.support.manual_clock import ManualClock


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def schedule(clock):
    return Schedule(clock, lambda: 1.0)  # the longest pause that the jitter allows


def take(schedule):
    entry = schedule.start_next()
    return None if entry is None else entry.run.batch_id


def entry_of(schedule, batch):
    return next(entry for entry in schedule.entries() if entry.run.batch_id == batch)


def test_pauses_double_up_to_a_minute_with_jitter():
    assert [back_off_s(failures, lambda: 1.0) for failures in range(1, 9)] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert back_off_s(1, lambda: 0.0) == 0.5
    assert back_off_s(10_000, lambda: 0.0) == 30


def test_batches_are_taken_in_their_order_each_by_one(schedule):
    schedule.update([3, 5, 9])
    assert [take(schedule) for _ in range(4)] == [3, 5, 9, None]


def test_a_batch_that_is_looked_at_again_and_again_does_not_keep_a_new_one_waiting(schedule, clock):
    schedule.update([1])
    old = schedule.start_next()
    schedule.went_on(old, 0.2)
    clock.advance(0.1)
    schedule.update([1, 2])
    clock.advance(5)
    schedule.update([1, 2, 3])
    assert [take(schedule) for _ in range(3)] == [2, 1, 3]


def test_a_batch_is_not_taken_before_it_is_due(schedule, clock):
    schedule.update([1])
    schedule.went_on(schedule.start_next(), 5.0)
    assert schedule.next_due_s() == clock.monotonic() + 5
    clock.advance(4.9)
    assert take(schedule) is None
    clock.advance(0.1)
    assert take(schedule) == 1


def test_a_batch_that_has_ended_is_forgotten(schedule):
    schedule.update([1, 2])
    schedule.went_on(schedule.start_next(), None)
    schedule.update([])
    assert schedule.entries() == []
    assert schedule.next_due_s() is None


def test_a_batch_with_trouble_of_its_own_waits_longer_each_time_and_alone(schedule, clock):
    schedule.update([1, 2])
    for pause_s in (1, 2, 4):
        entry = schedule.start_next()
        assert entry.run.batch_id == 1
        schedule.failed(entry)
        assert entry.due_s == clock.monotonic() + pause_s
        clock.advance(pause_s)
        entry_of(schedule, 2).due_s = clock.monotonic()
    assert [take(schedule), take(schedule)] == [1, 2]


def test_progress_makes_the_pause_short_again(schedule, clock):
    schedule.update([1])
    for _ in range(5):
        schedule.failed(schedule.start_next())
        clock.advance(60)
    entry = schedule.start_next()
    entry.run.steps += 1
    schedule.failed(entry)
    assert entry.due_s == clock.monotonic() + 1


def test_while_the_server_is_away_one_batch_tries_and_the_others_wait(schedule, clock):
    schedule.update([1, 2, 3])
    first = schedule.start_next()
    schedule.server_failed(first, "no connection")
    assert schedule.away_reason == "no connection"
    assert take(schedule) is None
    assert schedule.next_due_s() == clock.monotonic() + 1

    pauses = []
    for pause_s in (1, 2, 4, 8, 16, 32, 60, 60):
        clock.advance(pause_s - 0.01)
        assert take(schedule) is None
        clock.advance(0.01)
        probe = schedule.start_next()
        assert probe is not None
        assert take(schedule) is None, "one at a time"
        assert schedule.next_due_s() is None, "until that one has ended"
        schedule.server_failed(probe, "no connection")
        pauses.append(pause_s)
    assert pauses[-1] == 60


def test_any_answer_ends_the_wait_of_all(schedule, clock):
    schedule.update([1, 2, 3])
    schedule.server_failed(schedule.start_next(), "no connection")
    for pause_s in (1, 2, 4, 8):
        clock.advance(pause_s)
        probe = schedule.start_next()
        if pause_s < 8:
            schedule.server_failed(probe, "no connection")
    schedule.answered()
    assert schedule.away_reason == ""
    assert sorted([take(schedule), take(schedule), probe.run.batch_id]) == [1, 2, 3]


def test_batches_that_were_under_way_when_the_server_went_do_not_prolong_the_wait(schedule, clock):
    schedule.update([1, 2, 3])
    running = [schedule.start_next() for _ in range(3)]
    for entry in running:
        schedule.server_failed(entry, "no connection")
    assert schedule.next_due_s() == clock.monotonic() + 1
    clock.advance(1)
    assert take(schedule) is not None
    assert take(schedule) is None


def test_a_batch_that_the_server_can_not_stand_does_not_keep_the_others_out(schedule, clock):
    """Batch 1 is answered with 500 whenever it runs; the server is well."""
    schedule.update([1])
    runs = {1: 0, 2: 0}
    for _ in range(100):
        schedule.update([1, 2])
        entry = schedule.start_next()
        if entry is None:
            clock.advance(max(0.0, schedule.next_due_s() - clock.monotonic()))
            continue
        runs[entry.run.batch_id] += 1
        if entry.run.batch_id == 1:
            schedule.server_failed(entry, "500")
        else:
            schedule.answered()
            schedule.went_on(entry, 1.0)
    assert runs[1] < 10
    assert runs[2] > 20


def test_the_batch_with_the_fewest_failures_of_its_own_tries_first(schedule, clock):
    schedule.update([1, 2, 3])
    first, second, third = (schedule.start_next() for _ in range(3))
    schedule.failed(first)
    schedule.server_failed(second, "no connection")
    schedule.server_failed(third, "no connection")
    clock.advance(5)
    assert take(schedule) == 3


def test_an_unwanted_batch_is_taken_at_once_and_only_once(schedule, clock):
    schedule.update([1, 2])
    schedule.server_failed(schedule.start_next(), "no connection")
    entry = entry_of(schedule, 2)
    schedule.hurry(entry)
    assert schedule.next_due_s() == float("-inf")
    assert take(schedule) == 2
    schedule.server_failed(entry, "no connection")
    schedule.hurry(entry)
    assert take(schedule) is None
