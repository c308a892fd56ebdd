"""``/.agora/uploads``: everything that is on its way can be seen there, and copied from there."""

from __future__ import annotations

import contextlib
import json
import tracemalloc
from pathlib import Path

import pytest

from agorafs.cache.metadata import Freshness
from agorafs.errors import NotADirectory, NotFound
from agorafs.tree.tree import Tree
from agorafs.uploads.local_names import is_ephemeral
from agorafs.uploads.values import Anchor, Replaced
from agorafs.vfs.attr import FileType
from agorafs.vfs.dot_agora import DotAgora
from agorafs.vfs.dot_uploads import DotUploads
from tests.support.memory_archive import MemoryArchive
from tests.uploads.local import EXAM, FOLDER, WALL_NS, Local

MIB = 1 << 20


@pytest.fixture
def local(tmp_path):
    one = Local(tmp_path / "state")
    yield one
    one.close()


@pytest.fixture
def archive():
    return MemoryArchive()


@pytest.fixture
def aside(local, archive):
    """Resolve a path below ``/.agora``."""
    freshness = Freshness()
    tree = Tree(
        archive, user=archive.user, my_agora=None, freshness=freshness, max_entries=100, clock=local.clock
    )

    def where(anchor: Anchor) -> str | None:
        return "/projects/P/folders" if anchor == FOLDER else None

    made = DotAgora(
        tree,
        archive.describe,
        freshness=freshness,
        clock=local.clock,
        uploads=DotUploads(
            local.uploads, local.report, nodes=local.store.nodes, where=where, clock=local.clock
        ),
    )
    yield lambda path: made.resolve(tree.root, [part for part in path.split("/") if part])
    made.close()
    tree.close()


@pytest.fixture
def names(aside):
    def names(path):
        found = aside(path)
        assert found.entries is not None, f"{path} is no directory"
        return [entry.name for entry in found.entries]

    return names


@pytest.fixture
def read(aside):
    def read(path):
        found = aside(path)
        assert found.file_type is FileType.FILE
        source = found.open()
        if isinstance(source, bytes):
            assert len(source) == found.size
            return source
        buffer = bytearray(found.size + 10)
        length = source.read_into(0, memoryview(buffer))
        source.close()
        assert length == found.size
        return bytes(buffer[:length])

    return read


def later(local):
    """Let what was seen be forgotten; nothing else happens in this time."""
    local.clock.advance(1.0)


def test_without_anything_on_its_way_there_is_a_status_and_nothing_pending(names, read):
    assert "uploads" in names("")
    assert names("uploads") == ["status.json", "pending"]
    assert names("uploads/pending") == ["status.json", "files"]
    assert names("uploads/pending/files") == []
    assert json.loads(read("uploads/status.json"))["files"] == []


def test_a_file_is_pending_until_its_batch_is_sealed_and_then_in_the_batch(local, names, read):
    directory = local.uploads.make_directory(FOLDER, "d")
    local.write(directory, "a.txt", b"first")
    local.write(FOLDER, "ä.txt", b"second")
    assert names("uploads/pending/files") == ["folder 7"]
    assert sorted(names("uploads/pending/files/folder 7")) == ["d", "ä.txt"]
    assert read("uploads/pending/files/folder 7/d/a.txt") == b"first"

    local.fall_quiet()
    assert names("uploads") == ["status.json", "1", "pending"]
    assert names("uploads/1") == ["status.json", "files"]
    assert sorted(names("uploads/1/files")) == ["d", "ä.txt"]
    assert names("uploads/1/files/d") == ["a.txt"]
    assert (read("uploads/1/files/d/a.txt"), read("uploads/1/files/ä.txt")) == (b"first", b"second")
    assert names("uploads/pending/files") == []


def test_the_status_of_a_batch_says_where_it_goes_how_far_it_is_and_what_is_in_it(local, read):
    local.write(FOLDER, "a.txt", b"12345")
    local.fall_quiet()
    local.arrivals.note_progress(1, 2, 5)
    local.arrivals.note_wait(1, "the server is away")
    about = json.loads(read("uploads/1/status.json"))
    assert about["files"] == [{"path": "a.txt", "size": 5, "state": "sealed", "error": ""}]
    assert (about["anchor"], about["where"]) == ("folder:7", "/projects/P/folders")
    assert (about["state"], about["reason"]) == ("sealed", "the server is away")
    assert (about["sent_bytes"], about["total_bytes"], about["bytes"]) == (2, 5, 5)
    assert "age_s" in about


def test_the_status_has_an_entry_for_each_local_file(local, read):
    local.write(EXAM, "in the exam", b"1")
    directory = local.uploads.make_directory(FOLDER, "d")
    local.write(directory, "a.part", b"22")
    assert is_ephemeral("a.part")
    files = json.loads(read("uploads/status.json"))["files"]
    assert {(file["anchor"], file["path"], file["size"], file["state"]) for file in files} == {
        ("exam:8", "in the exam", 1, "pending"),
        ("folder:7", "d/a.part", 2, "local"),
    }
    assert {file["where"] for file in files} == {None, "/projects/P/folders"}


def test_a_file_that_failed_stays_readable_with_its_reason(local, names, read):
    """Whatever became of its folder: this is the way out."""
    local.write(FOLDER, "a.txt", b"precious")
    local.fall_quiet()
    local.arrivals.fail_batch(1, "folder 7 is gone")
    assert names("uploads") == ["status.json", "pending"]
    assert read("uploads/pending/files/folder 7/a.txt") == b"precious"
    (about,) = json.loads(read("uploads/pending/status.json"))["files"]
    assert (about["state"], about["error"]) == ("failed: folder 7 is gone", "folder 7 is gone")


def test_size_and_time_are_those_of_the_bytes(local, aside):
    node = local.write(FOLDER, "a.txt", b"12345")
    pending = aside("uploads/pending/files/folder 7/a.txt")
    assert (pending.size, pending.mtime_ns, pending.ino) == (5, WALL_NS, pending.ino)
    local.fall_quiet()
    assert aside("uploads/1/files/a.txt").size == 5
    local.rewrite(node, b"123456789")
    later(local)
    assert aside("uploads/1/files/a.txt").size == 5, "the batch carries what was sealed"
    assert aside("uploads/1/files/a.txt").open().read_into(0, memoryview(bytearray(10))) == 5


def test_a_change_of_a_pending_file_is_seen_at_once(local, read):
    node = local.write(FOLDER, "a.txt", b"12345")
    assert read("uploads/pending/files/folder 7/a.txt") == b"12345"
    local.rewrite(node, b"another")
    assert read("uploads/pending/files/folder 7/a.txt") == b"another"


def test_what_is_on_the_server_anyway_is_not_shown(local, names):
    """A stored file that is only open for writing, or was renamed away, has no bytes here that could be lost."""
    replaced = Replaced(5, 6, "0" * 40)
    one = {"replaces": replaced, "size": 3, "mtime_ns": 1, "ino": 9, "token": "t"}
    local.uploads.borrow(FOLDER, "open.txt", fill=lambda _: None, **one)
    local.uploads.set_aside(FOLDER, "a.txt", "a.txt~", datafile_id=3, **one)
    assert names("uploads/pending/files") == []


def test_what_is_not_there_is_not_found(local, aside):
    local.write(FOLDER, "a.txt", b"1")
    for path in ("2", "x", "pending/x", "pending/files/x", "pending/files/folder 7/b", "1/status.json"):
        with pytest.raises(NotFound):
            aside(f"uploads/{path}")
    with pytest.raises(NotADirectory):
        aside("uploads/pending/files/folder 7/a.txt/b")


def test_a_file_that_is_stored_meanwhile_is_gone_and_no_error_of_ours(local, aside, names):
    local.write(FOLDER, "a.txt", b"1")
    local.write(FOLDER, "b.txt", b"2")
    local.fall_quiet()
    found = aside("uploads/1/files/a.txt")
    (_, content), _ = local.report.batch_files(1)
    content.unlink()
    with pytest.raises(NotFound, match="stored meanwhile"):
        found.open()
    later(local)
    assert names("uploads/1/files") == ["b.txt"]


def test_a_large_file_is_read_with_the_readers_memory_alone(local, aside):
    node = local.uploads.create(FOLDER, "large")
    file = local.uploads.open(node, writing=True)
    file.truncate(64 * MIB)
    file.write(64 * MIB - 3, b"end")
    file.flush()
    file.close()
    local.fall_quiet()
    tracemalloc.start()
    try:
        source = aside("uploads/1/files/large").open()
        buffer = bytearray(MIB)
        offset = 0
        while length := source.read_into(offset, memoryview(buffer)):
            offset += length
        source.close()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert offset == 64 * MIB
    assert bytes(buffer[-3:]) == b"end"
    assert peak < 8 * MIB


def test_looking_makes_no_request_and_a_walk_gathers_once(local, archive, aside, names, monkeypatch):
    for number in range(30):
        local.write(FOLDER, f"{number}", b"1")
    local.fall_quiet()
    asked = []
    real = local.report.batch_files

    def batch_files(batch_id):
        asked.append(batch_id)
        return real(batch_id)

    monkeypatch.setattr(local.report, "batch_files", batch_files)
    for name in names("uploads/1/files"):
        assert aside(f"uploads/1/files/{name}").size == 1
    assert asked == [1]
    assert archive.calls == []


def test_open_files_below_uploads_are_closed(local, aside):
    local.write(FOLDER, "a.txt", b"1")
    local.fall_quiet()
    held = aside("uploads/1/files/a.txt").held
    source = held.open()
    assert open_descriptors(held.path) == 1
    source.close()
    assert open_descriptors(held.path) == 0


def open_descriptors(path):
    """How many descriptors this process has on the file *path*; threads of other tests may open and close others."""
    count = 0
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            count += link.samefile(path)
    return count
