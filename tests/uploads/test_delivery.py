"""One batch on its way to the server: each rule of ``delivery`` and ``chunk_sending``, one by one."""

from __future__ import annotations

import os
import threading
from collections import Counter

import pytest

from agorafs.client.imports import CompleteRequest
from agorafs.client.records import Kind
from agorafs.errors import (
    NotAuthenticated,
    PermissionDenied,
    ProtocolError,
    RemoteTimeout,
    RemoteUnavailable,
    SpoolFull,
)
from agorafs.uploads import chunk_size, packing
from agorafs.uploads.journal_rows import NewUpload
from agorafs.uploads.values import Anchor, BatchState
from tests.uploads.sending import FOLDER, Once, World, refusal, sha1

CHUNK = 1000
LARGE = bytes(range(256)) * 18  # 4,608 bytes: five chunks


@pytest.fixture(autouse=True)
def small_numbers(monkeypatch):
    for name in ("FIRST_BYTES", "LEAST_BYTES", "MOST_BYTES"):
        monkeypatch.setattr(chunk_size, name, CHUNK)
    monkeypatch.setattr(chunk_size, "FLOOR_BYTES", 100)
    monkeypatch.setattr(packing, "SMALL_FILE_BYTES", 400)
    monkeypatch.setattr(packing, "PACKAGE_BYTES", 1500)


@pytest.fixture
def world(tmp_path):
    one = World(tmp_path / "spool")
    yield one
    one.end()
    assert not list((one.directory / "packages").iterdir())


def arrived(world, files):
    """Tell whether the server has each of *files* exactly once, with its bytes."""
    return Counter(world.server.files) == Counter(files.items())


# -- what is sent ------------------------------------------------------------------------------------


def test_every_file_arrives_once_with_its_bytes(world):
    files = {
        "large.raw": LARGE,
        "d/small": b"s",
        "d/empty": b"",
        "x.agora_upload": b"zip?",
        "other": b"o" * 999,
    }
    batch = world.batch(files)

    world.deliver(batch)

    assert arrived(world, files)
    assert world.journal.batch(batch) is None
    assert world.server.calls.count("create_package") == world.server.calls.count("complete") == 1


@pytest.mark.parametrize(
    ("anchor", "request_"),
    [
        (Anchor(Kind.FOLDER, 7), CompleteRequest(folder=7)),
        (Anchor(Kind.EXAM, 8), CompleteRequest(exam=8)),
        (Anchor(Kind.SERIES, 9), CompleteRequest(series=9)),
    ],
)
def test_the_import_goes_where_the_files_were_written(world, anchor, request_):
    world.deliver(world.batch({"a": b"1"}, anchor=anchor))
    assert world.server.requests == [request_]


def test_import_file_and_relations_are_told_at_the_end(world):
    relations = {"a": ["b"]}
    batch = world.batch({"a": b"1", "b": b"2", "i.json": b"{}"}, import_file="i.json", relations=relations)
    world.deliver(batch)
    assert world.server.requests == [CompleteRequest(folder=7, import_file="i.json", relations=relations)]
    assert "i.json" in {chunk.target for chunk in only_package(world).announced.values()}


def only_package(world):
    (package,) = world.server.packages.values()
    return package


def test_sha1s_are_computed_before_anything_is_sent_and_kept(world):
    batch = world.batch({"a": LARGE})
    world.server.before = Once("create_package", RemoteUnavailable("away"))
    with pytest.raises(RemoteUnavailable):
        world.advance(batch)
    assert [each.sha1 for each in world.journal.uploads(batch)] == [sha1(LARGE)]


def test_a_batch_without_files_needs_no_import(world):
    batch = world.batch({})
    world.deliver(batch)
    assert world.server.calls == []
    assert world.journal.batch(batch) is None


def test_at_least_four_chunks_are_in_flight(world):
    """The fourth chunk arrives while the first three are still under way."""
    together = threading.Barrier(4)
    world.server.before = lambda name: together.wait(10) and None if name == "send_chunk" else None
    world.deliver(world.batch({"a": b"x" * 4 * CHUNK, "b": b"y" * 4 * CHUNK}))
    assert world.server.most_in_flight == 4


def test_progress_is_told_in_acknowledged_bytes(world):
    batch = world.batch({"large": LARGE})
    world.deliver(batch)
    told = [sent for _, sent, total in world.hub.progress if total == len(LARGE)]
    assert told[0] == 0 and told[-1] == len(LARGE)
    assert told == sorted(told)


def test_progress_of_a_resumed_upload_begins_with_what_had_arrived(world):
    world.server.before = Once("send_chunk", RemoteUnavailable("gone"), nth=5)
    batch = world.batch({"large": LARGE})
    with pytest.raises(RemoteUnavailable):
        world.advance(batch)
    done = world.journal.transfers(batch)[0].done
    expected = sum(len(LARGE[(number - 1) * CHUNK : number * CHUNK]) for number in done)
    world.restart()
    world.deliver(batch)
    assert world.hub.progress[0] == (batch, expected, len(LARGE))


# -- resuming and repeating --------------------------------------------------------------------------


def test_a_chunk_whose_answer_was_lost_is_sent_again_with_the_same_bytes(world):
    world.server.after = Once("send_chunk", RemoteTimeout("no answer"), nth=2)
    batch = world.batch({"large": LARGE})
    world.deliver(batch)

    by_chunk: dict[tuple[str, int], set[bytes]] = {}
    for identifier, number, data in world.server.sent:
        by_chunk.setdefault((identifier, number), set()).add(data)
    assert len(world.server.sent) > len(by_chunk) == 5
    assert all(len(versions) == 1 for versions in by_chunk.values())
    assert arrived(world, {"large": LARGE})


def test_acknowledged_chunks_are_not_sent_again_by_the_next_process(world):
    world.parallel_chunks = 1
    world.restart()
    world.server.before = Once("send_chunk", RemoteUnavailable("gone"), nth=4)
    batch = world.batch({"large": LARGE})
    with pytest.raises(RemoteUnavailable):
        world.advance(batch)

    world.restart()
    world.deliver(batch)

    assert [number for _, number, _ in world.server.sent] == [1, 2, 3, 4, 5]
    assert arrived(world, {"large": LARGE})


def test_a_package_that_is_resumed_has_the_same_bytes(world):
    """Chunks of one zip package that were sent by two processes fit together."""
    files = {f"file-{number}": bytes([number]) * 300 for number in range(4)}
    world.server.before = Once("send_chunk", RemoteUnavailable("gone"), nth=2)
    batch = world.batch(files)
    with pytest.raises(RemoteUnavailable):
        world.advance(batch)
    assert world.journal.transfers(batch)[0].chunks == 2

    world.restart()
    world.deliver(batch)

    assert arrived(world, files)


def test_nothing_more_is_sent_once_a_chunk_has_failed(world):
    world.parallel_chunks = 1
    world.restart()
    world.server.before = Once("send_chunk", RemoteUnavailable("gone"))
    with pytest.raises(RemoteUnavailable):
        world.advance(world.batch({"large": LARGE}))
    assert world.server.calls.count("send_chunk") == 1


# -- complete ----------------------------------------------------------------------------------------


def test_complete_is_not_sent_again_when_only_its_answer_was_lost(world):
    world.server.after = Once("complete", RemoteTimeout("no answer"))
    batch = world.batch({"a": b"1"})
    with pytest.raises(RemoteTimeout):
        world.advance(batch)
    assert world.state(batch) is BatchState.COMPLETING

    world.deliver(batch)

    assert world.server.calls.count("complete") == 1
    assert arrived(world, {"a": b"1"})


def test_complete_is_sent_again_when_the_server_did_not_take_it(world):
    world.server.before = Once("complete", RemoteUnavailable("503"))
    batch = world.batch({"a": b"1"})
    world.deliver(batch)
    assert world.server.calls.count("complete") == 2
    assert world.server.calls.index("package") < len(world.server.calls) - 1
    assert arrived(world, {"a": b"1"})


def test_a_process_that_finds_a_completed_package_does_not_complete_it_again(world):
    world.server.after = Once("complete", RemoteTimeout("no answer"))
    batch = world.batch({"a": b"1"})
    with pytest.raises(RemoteTimeout):
        world.advance(batch)
    world.restart()
    world.deliver(batch)
    assert world.server.calls.count("complete") == 1
    assert arrived(world, {"a": b"1"})


def test_a_target_that_is_gone_fails_the_batch(world):
    world.server.has_target = False
    batch = world.batch({"a": b"1"})
    world.deliver(batch)
    assert world.hub.failed == {batch: "folder 7: 404"}


# -- polling -----------------------------------------------------------------------------------------


def test_an_import_is_polled_at_growing_intervals_for_as_long_as_it_takes(world):
    world.server.polls = [(4, number // 20) for number in range(1000)] + [(5, 100)]
    batch = world.batch({"a": b"1"})
    pauses = []
    while (pause_s := world.advance(batch)) is not None:
        pauses.append(pause_s)
        world.clock.advance(pause_s)
    assert pauses[0] == 0.2
    assert pauses == sorted(pauses)
    assert pauses[-1] == 5.0
    assert len(pauses) == 1000
    assert arrived(world, {"a": b"1"})


def test_an_import_that_failed_fails_the_batch_with_the_servers_words(world):
    world.server.polls = [(2, 10), (-1, 100)]
    world.server.fails_with = "no such scanner"
    batch = world.batch({"a": b"1"})
    world.deliver(batch)
    assert world.hub.failed == {batch: "the server could not import this: no such scanner"}


def test_an_end_without_100_percent_is_believed_after_a_quiet_minute(world):
    world.server.polls = [(5, 10), (5, 80)]
    batch = world.batch({"a": b"1"})
    begun_s = world.clock.monotonic()
    world.deliver(batch)
    assert 60 <= world.clock.monotonic() - begun_s < 70
    assert arrived(world, {"a": b"1"})


def test_an_end_without_100_percent_that_still_moves_is_not_the_end(world):
    world.server.polls = [(5, number) for number in range(90)] + [(5, 100)]
    batch = world.batch({"a": b"1"})
    while (pause_s := world.advance(batch)) is not None:
        assert world.server.calls.count("result") == 0
        world.clock.advance(50 if pause_s == 5 else pause_s)
    assert arrived(world, {"a": b"1"})


def test_a_server_that_lost_complete_after_answering_is_told_again(world):
    batch = world.batch({"a": b"1"})
    assert world.advance(batch) is not None
    package = only_package(world)
    package.request, package.state, package.imported = None, 1, []
    world.server.files.clear()

    world.deliver(batch)

    assert world.server.calls.count("complete") == 2
    assert arrived(world, {"a": b"1"})


@pytest.mark.parametrize("step", ["progress", "result", "package"])
def test_a_refusal_to_tell_how_the_import_goes_does_not_fail_the_batch(world, step):
    batch = world.batch({"a": b"1"})
    if step == "package":
        world.server.after = Once("complete", RemoteTimeout("no answer"))
    world.server.before = Once(step, PermissionDenied("403"))
    world.deliver(batch)
    assert world.hub.failed == {}
    assert arrived(world, {"a": b"1"})


# -- a package that the server has forgotten -----------------------------------------------------------


def test_a_package_that_is_gone_while_uploading_is_begun_anew(world):
    world.server.before = Once("send_chunk", RemoteUnavailable("gone"), nth=3)
    batch = world.batch({"large": LARGE})
    with pytest.raises(RemoteUnavailable):
        world.advance(batch)
    world.server.packages.clear()

    world.deliver(batch)

    assert world.server.calls.count("create_package") == 2
    assert arrived(world, {"large": LARGE})


@pytest.mark.parametrize("was_imported", [True, False])
def test_a_package_that_is_gone_after_complete_brings_no_file_twice(world, was_imported):
    files = {"large": LARGE, "small": b"1"}
    world.server.after = Once("complete", RemoteTimeout("no answer"))
    batch = world.batch(files)
    with pytest.raises(RemoteTimeout):
        world.advance(batch)
    world.server.packages.clear()
    if not was_imported:
        world.server.files.clear()

    world.deliver(batch)

    assert arrived(world, files)
    assert world.server.calls.count("create_package") == (1 if was_imported else 2)


def test_only_what_did_not_arrive_is_uploaded_anew(world):
    files = {"large": LARGE, "small": b"1", "other": b"2"}
    batch = world.batch(files)
    world.server.polls = [(4, 50)]
    assert world.advance(batch) is not None
    assert world.state(batch) is BatchState.IMPORTING
    world.server.packages.clear()
    world.server.files = [("small", b"1")]
    world.server.polls = [(5, 100)]

    world.deliver(batch)

    assert arrived(world, files)


def test_a_server_that_forgets_every_package_is_asked_more_and_more_rarely(world):
    world.server.after = lambda name: world.server.packages.clear() if name == "create_package" else None
    batch = world.batch({"a": b"1"})
    pauses = [world.advance(batch) for _ in range(8)]
    assert pauses == [4, 8, 16, 32, 60, 60, 60, 60]


# -- refusals ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["create_package", "send_chunk", "complete"])
@pytest.mark.parametrize("error", [PermissionDenied("403 (quota exceeded)"), refusal("400 (quota exceeded)")])
def test_a_refusal_fails_the_batch_with_the_servers_words(world, step, error):
    world.server.before = Once(step, error)
    batch = world.batch({"large": LARGE})
    world.deliver(batch)
    assert world.hub.failed == {batch: str(error)}
    assert world.server.files == []


@pytest.mark.parametrize("step", ["create_package", "send_chunk", "complete", "progress", "result"])
@pytest.mark.parametrize(
    "error",
    [
        RemoteUnavailable("502"),
        RemoteTimeout("late"),
        ProtocolError("HTML"),
        NotAuthenticated("401"),
        SpoolFull("!"),
    ],
)
def test_what_may_pass_never_fails_a_batch(world, step, error):
    world.server.before = Once(step, error)
    files = {"large": LARGE, "small": b"1"}
    batch = world.batch(files)
    with pytest.raises(type(error)):
        world.go_on(batch)
    world.deliver(batch)
    assert world.hub.failed == {}
    assert arrived(world, files)


def test_trouble_while_settling_never_fails_a_batch(world, monkeypatch):
    batch = world.batch({"a": b"1"})
    settle = world.settler.settle
    monkeypatch.setattr(world.settler, "settle", lambda batch: (_ for _ in ()).throw(PermissionDenied("403")))
    with pytest.raises(PermissionDenied):
        world.go_on(batch)
    monkeypatch.setattr(world.settler, "settle", settle)
    world.deliver(batch)
    assert world.hub.failed == {}


# -- 413 ---------------------------------------------------------------------------------------------


def test_a_transfer_that_did_not_arrive_at_all_is_begun_anew_in_the_same_package(world):
    world.server.chunk_max = 700
    world.deliver(world.batch({"large": b"x" * 2 * CHUNK}))
    assert world.server.calls.count("create_package") == 1


@pytest.mark.parametrize("chunk_max", [100, 130, 500, 999])
def test_chunks_become_smaller_until_the_server_takes_them(world, chunk_max):
    world.server.chunk_max = chunk_max
    files = {"large": LARGE, "small": b"1" * 300, "other": b"2" * 300, "more": b"3" * 777}
    batch = world.batch(files)
    world.deliver(batch)
    assert world.hub.failed == {}
    assert arrived(world, files)
    assert max(len(data) for _, _, data in world.server.sent) <= chunk_max


def test_the_limit_of_the_server_is_remembered_for_the_next_batch(world):
    world.server.chunk_max = 500
    world.deliver(world.batch({"first": LARGE}))
    before = world.server.calls.count("send_chunk")
    world.deliver(world.batch({"second": b"x" * 1000}))
    assert world.server.calls.count("send_chunk") - before == 2


def test_a_slow_server_gets_smaller_chunks_with_the_next_batch(world, monkeypatch):
    """A chunk takes about three seconds: what was measured of one batch decides on those of the next."""
    monkeypatch.setattr(chunk_size, "LEAST_BYTES", 10)
    monkeypatch.setattr(chunk_size, "_STEP_BYTES", 10)
    real = world.server.send_chunk

    def slowly(package_id, chunk, data):
        real(package_id, chunk, data)
        world.clock.advance(len(data) / 100)  # bytes per second

    monkeypatch.setattr(world.server, "send_chunk", slowly)
    world.deliver(world.batch({"first": bytes(1000)}))
    world.deliver(world.batch({"second": bytes(900)}))
    assert [len(data) for _, _, data in world.server.sent] == [1000, 300, 300, 300]


def test_chunks_of_one_transfer_all_have_the_same_size(world):
    world.server.chunk_max = 700
    world.deliver(world.batch({"large": LARGE}))
    (package,) = [each for each in world.server.packages.values() if each.imported]
    sizes = {chunk.identifier: chunk.chunk_bytes for chunk in package.announced.values()}
    assert set(sizes.values()) == {500}


def test_a_transfer_that_may_have_arrived_in_part_is_not_begun_anew_in_the_same_package(world):
    """The first chunk was taken and the second refused: the identifier would stay half a file for ever."""
    world.parallel_chunks = 1
    world.restart()

    def become_stricter(name):
        if name == "send_chunk":
            world.server.chunk_max = 700

    world.server.after = become_stricter
    files = {"large": LARGE}
    world.deliver(world.batch(files))
    assert world.server.calls.count("create_package") == 2
    (package,) = [each for each in world.server.packages.values() if each.imported]
    assert len(package.announced) == 1
    assert arrived(world, files)


def test_a_server_that_takes_not_even_the_smallest_chunk_fails_the_batch(world):
    world.server.chunk_max = 50
    batch = world.batch({"large": LARGE})
    world.deliver(batch)
    assert world.hub.failed == {batch: "413 (no more than that)"}


# -- files that changed ------------------------------------------------------------------------------


def outside(world, path, data):
    """Seal a batch of one file outside the spool."""
    path.write_bytes(data)
    time_ns = path.stat().st_mtime_ns
    new = NewUpload(None, path.name, len(data), time_ns, str(path), None, expected_mtime_ns=time_ns)
    return world.journal.seal(
        FOLDER, [new], [], import_file=None, relations=None, created_s=0.0, is_external=True
    )


def test_a_file_that_changed_before_it_was_sent_fails_the_batch_and_names_the_file(world, tmp_path):
    path = tmp_path / "scan.raw"
    batch = outside(world, path, LARGE)
    os.utime(path, ns=(0, 1))
    world.deliver(batch)
    assert str(path) in world.hub.failed[batch]
    assert world.server.calls == []


def test_a_file_that_changes_while_it_is_sent_fails_the_batch(world, tmp_path):
    world.parallel_chunks = 1
    world.restart()
    path = tmp_path / "scan.raw"
    batch = outside(world, path, LARGE)

    def change(name):
        if name == "send_chunk":
            with path.open("r+b") as file:
                file.write(b"other")
            os.utime(path, ns=(0, 1))

    world.server.after = change
    world.deliver(batch)

    assert str(path) in world.hub.failed[batch]
    assert [number for _, number, _ in world.server.sent] == [1]
    assert "complete" not in world.server.calls


def test_a_spooled_file_that_changed_between_two_processes_fails_the_batch(world):
    world.server.before = Once("send_chunk", RemoteUnavailable("gone"), nth=2)
    batch = world.batch({"large": LARGE})
    with pytest.raises(RemoteUnavailable):
        world.advance(batch)
    os.truncate(world.content(batch, "large"), 10)
    world.restart()
    world.deliver(batch)
    assert "large changed before it was uploaded" in world.hub.failed[batch]
    assert "complete" not in world.server.calls


def test_a_packed_file_that_changed_after_its_sha1_fails_the_batch(world):
    world.server.before = Once("create_package", RemoteUnavailable("gone"))
    batch = world.batch({"a": b"before", "b": b"2"})
    with pytest.raises(RemoteUnavailable):
        world.advance(batch)
    world.content(batch, "a").write_bytes(b"after!")
    world.deliver(batch)
    assert "a changed before it was uploaded" in world.hub.failed[batch]
    assert world.server.sent == []


# -- abandoned, closing ------------------------------------------------------------------------------


def test_what_nobody_wants_is_not_begun(world):
    batch = world.batch({"a": b"1"})
    world.hub.unwanted.add(batch)
    world.deliver(batch)
    assert world.hub.abandoned == [batch]
    assert world.server.calls == []


def test_what_nobody_wants_any_more_is_broken_off_between_chunks(world):
    world.parallel_chunks = 1
    world.restart()
    batch = world.batch({"large": LARGE})
    world.server.after = lambda name: world.hub.unwanted.add(batch) if name == "send_chunk" else None
    world.deliver(batch)
    assert world.hub.abandoned == [batch]
    assert len(world.server.sent) == 1
    assert "complete" not in world.server.calls


def test_what_nobody_wants_any_more_is_not_completed(world):
    batch = world.batch({"a": b"1"})
    world.server.before = Once("complete", RemoteUnavailable("gone"))
    with pytest.raises(RemoteUnavailable):
        world.advance(batch)
    world.hub.unwanted.add(batch)
    world.deliver(batch)
    assert world.hub.abandoned == [batch]
    assert world.server.calls.count("complete") == 1


def test_what_was_completed_goes_on_although_nobody_wants_it(world):
    """The server has it; the settler removes it from there."""
    batch = world.batch({"a": b"1"})
    assert world.advance(batch) is not None
    world.hub.unwanted.add(batch)
    world.deliver(batch)
    assert world.hub.abandoned == []
    assert world.settler.settled


@pytest.mark.parametrize("step", ["create_package", "send_chunk", "complete", "progress", "result"])
def test_a_mount_that_ends_leaves_the_rest_to_the_next(world, step):
    files = {"large": LARGE, "small": b"1", "empty": b""}
    batch = world.batch(files)
    world.server.after = lambda name: world.hub.closing.set() if name == step else None
    world.go_on(batch)
    last = world.server.calls[-1]
    assert world.hub.closing.is_set()
    assert last == step
    assert world.journal.batch(batch) is not None

    world.server.after = lambda name: None
    world.restart()
    world.deliver(batch)
    assert arrived(world, files)


def test_answers_are_noticed_whatever_they_say(world):
    """What tells that the server is there: every answer, a refusal too; neither silence nor 401."""
    batch = world.batch({"a": b"1"})
    world.server.before = Once("create_package", NotAuthenticated("401"))
    with pytest.raises(NotAuthenticated):
        world.advance(batch)
    assert world.answers == 0
    world.server.before = Once("create_package", PermissionDenied("403"))
    world.advance(batch)
    assert world.answers == 1
