"""A process that dies at any step: the next one finishes, and the server holds every file exactly once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from agorafs.errors import RemoteTimeout
from agorafs.uploads import chunk_size, packing
from tests.uploads.sending import Killed, Life, Once, World

CHUNK = 1000
FILES = {
    "large.raw": bytes(range(256)) * 10,
    "d/small": b"s" * 40,
    "d/empty": b"",
    "other": b"o" * 390,
    "i.json": b"{}",
    "mine.agora_upload": b"m" * 1200,
}


@pytest.fixture(autouse=True)
def small_numbers(monkeypatch):
    for name in ("FIRST_BYTES", "LEAST_BYTES", "MOST_BYTES"):
        monkeypatch.setattr(chunk_size, name, CHUNK)
    monkeypatch.setattr(chunk_size, "FLOOR_BYTES", 100)
    monkeypatch.setattr(packing, "SMALL_FILE_BYTES", 400)
    monkeypatch.setattr(packing, "PACKAGE_BYTES", 1500)


def forget_package_once(world: World, imported: int) -> None:
    """The server loses the package right after ``complete``, when it has imported that many of its files."""

    def forget(name: str) -> None:
        if name == "complete" and world.server.calls.count("complete") == 1:
            world.server.packages.clear()
            del world.server.files[imported:]

    world.server.after = forget


def take_small_chunks_only(world: World) -> None:
    world.server.chunk_max = 600


def lose_answers(world: World) -> None:
    world.server.after = Once("send_chunk", RemoteTimeout("no answer"), nth=2)
    world.server.before = Once("progress", RemoteTimeout("no answer"))


SERVERS: dict[str, Callable[[World], None]] = {
    "well": lambda world: None,
    "takes small chunks only": take_small_chunks_only,
    "loses answers": lose_answers,
    "forgets the package": partial(forget_package_once, imported=len(FILES)),
    "forgets the package half imported": partial(forget_package_once, imported=3),
}


def live(
    directory: Path, server: str, parallel_chunks: int, lives: list[int | None]
) -> tuple[World, list[list[str]]]:
    """Run one process after the other, each until it dies; the last until the batch has ended.

    Return the steps that each has taken.
    """
    world = World(directory)
    world.parallel_chunks = parallel_chunks
    SERVERS[server](world)
    batch = world.batch(FILES, import_file="i.json")
    steps = []
    for dies_at in lives:
        life = Life(dies_at)
        world.restart(life)
        try:
            world.deliver(batch)
        except Killed:
            assert dies_at is not None
        steps.append(life.steps)
    world.end()
    return world, steps


def check(world: World) -> None:
    assert world.hub.failed == {}
    assert world.hub.abandoned == []
    assert Counter(world.server.files) == Counter(FILES.items())
    versions: dict[tuple[str, int], set[bytes]] = {}
    for identifier, number, data in world.server.sent:
        versions.setdefault((identifier, number), set()).add(data)
    assert all(len(each) == 1 for each in versions.values()), "a chunk was sent again with other bytes"
    assert not list((world.directory / "packages").iterdir())


@pytest.mark.parametrize(
    ("server", "parallel_chunks"),
    [*((name, 1) for name in SERVERS), ("well", 4)],
)
def test_killed_at_any_step_every_file_arrives_exactly_once(tmp_path, server, parallel_chunks):
    """Each step: before and after each call of the journal, the server and the settler."""
    world, (steps,) = live(tmp_path / "unharmed", server, parallel_chunks, [None])
    check(world)
    expected = {"begin_upload", "note_chunk", "set_state", "set_sha1", "create_package", "send_chunk"}
    expected |= {"complete", "settle"}
    expected |= {"reconcile", "forget_upload"} if "forgets" in server else {"progress", "result"}
    assert {f"{when} {name}" for when in ("before", "after") for name in expected} <= set(steps)

    for dies_at in range(len(steps)):
        world, (first, *_) = live(tmp_path / f"life-{dies_at}", server, parallel_chunks, [dies_at, None])
        assert len(first) == dies_at + 1, "it was to die at this step"
        check(world)


def test_killed_again_and_again_every_file_arrives_exactly_once(tmp_path):
    """Each process lives for a little longer than it takes to look around."""
    for lasts in range(10, 26, 3):
        world, steps = live(tmp_path / f"{lasts}", "well", 1, [lasts] * 40 + [None])
        assert len(steps[0]) == lasts + 1
        check(world)
