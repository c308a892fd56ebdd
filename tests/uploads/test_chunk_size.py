"""How large the next transfer's chunks are."""

from __future__ import annotations

from agorafs.uploads.chunk_size import FIRST_BYTES, FLOOR_BYTES, LEAST_BYTES, MOST_BYTES, ChunkSizes

MIB = 1 << 20


def test_the_first_chunks_have_16_mib():
    assert ChunkSizes().next_bytes() == FIRST_BYTES == 16 * MIB


def test_chunks_are_as_large_as_three_seconds_of_the_measured_rate():
    sizes = ChunkSizes()
    for _ in range(3):
        sizes.note(16 * MIB, 2.0)
    assert sizes.next_bytes() == 24 * MIB


def test_what_was_measured_long_ago_is_forgotten():
    sizes = ChunkSizes()
    sizes.note(16 * MIB, 100.0)
    for _ in range(8):
        sizes.note(16 * MIB, 4.0)
    assert sizes.next_bytes() == 12 * MIB


def test_chunks_stay_within_their_limits():
    sizes = ChunkSizes()
    sizes.note(16 * MIB, 0.0)
    assert sizes.next_bytes() == MOST_BYTES
    for _ in range(8):
        sizes.note(16 * MIB, 1000.0)
    assert sizes.next_bytes() == LEAST_BYTES


def test_small_chunks_do_not_count_because_they_measure_latency():
    sizes = ChunkSizes()
    sizes.note(1000, 5.0)
    assert sizes.next_bytes() == FIRST_BYTES


def test_a_refused_size_is_halved_and_never_exceeded_again():
    sizes = ChunkSizes()
    assert sizes.refused(16 * MIB)
    assert sizes.next_bytes() == sizes.ceiling == 8 * MIB
    assert sizes.refused(16 * MIB)  # another chunk that was in flight
    assert sizes.ceiling == 8 * MIB
    sizes.note(8 * MIB, 0.01)
    assert sizes.next_bytes() == 8 * MIB


def test_there_is_nothing_smaller_than_64_kib():
    sizes = ChunkSizes()
    assert sizes.refused(100 << 10)
    assert sizes.ceiling == FLOOR_BYTES == 64 << 10
    assert not sizes.refused(FLOOR_BYTES)
    assert not sizes.refused(17)
