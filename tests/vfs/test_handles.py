"""Open files, and what the kernel believes of their paths."""

from __future__ import annotations

import pytest

from agorafs.errors import BadHandle, RemoteTimeout, StaleLookup
from agorafs.vfs.attr import Attr, FileType
from agorafs.vfs.handles import HandleTable, OpenFile, Version
from tests.support.manual_clock import ManualClock


class Content:
    """An ``OpenContent`` that gives its name again and again, and remembers that it was closed."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_closed = False
        self.error: Exception | None = None
        self.reads = 0

    def read_into(self, offset: int, view: memoryview) -> int:
        self.reads += 1
        if self.error is not None:
            raise self.error
        view[:] = (self.name.encode() * len(view))[: len(view)]
        return len(view)

    def close(self) -> None:
        self.is_closed = True


def attr(content: str) -> Attr:
    return Attr(sum(content.encode()), FileType.FILE, len(content), 0, 0o444)


def opened(table, content, generation=0, path="/x"):
    table.tell(path, attr(content), content)
    file = OpenFile(path, attr(content), Version(content, generation), Content(content))
    return table.add(file, after_lookup=True)


def read(table, handle):
    buffer = bytearray(1)
    table.read_into(handle, 0, memoryview(buffer))
    return bytes(buffer)


def test_an_answered_open_does_not_prove_that_the_kernel_has_dropped_old_pages():
    """Steps: 1 opens b, the kernel is about to drop a's pages; 2 opens b and must not be told to keep them."""
    table = HandleTable()
    a = opened(table, "a").handle
    read(table, a)
    table.remove(a)
    one, two = opened(table, "b"), opened(table, "b")
    assert not one.keep_pages
    assert not two.keep_pages
    read(table, one.handle)
    assert opened(table, "b").keep_pages


def test_a_handle_closed_without_a_read_proves_nothing_either():
    """The kernel releases a handle unseen when the program was interrupted while opening."""
    table = HandleTable()
    read(table, opened(table, "a").handle)
    table.remove(opened(table, "b").handle)
    assert not opened(table, "b").keep_pages


def test_bytes_that_turned_out_wrong_are_dropped_by_the_next_open_and_refused_to_older_handles():
    table = HandleTable()
    old = opened(table, "a").handle
    read(table, old)
    assert opened(table, "a").keep_pages
    new = opened(table, "a", generation=1)
    assert not new.keep_pages
    assert new.direct
    assert table.has_stale()


def test_a_version_that_comes_back_does_not_bring_stale_handles_back():
    table = HandleTable()
    old = opened(table, "a").handle
    opened(table, "b")
    opened(table, "a")
    assert table.get(old).is_stale


def test_other_paths_are_not_concerned():
    table = HandleTable()
    other = opened(table, "a", path="/y").handle
    opened(table, "a")
    opened(table, "b")
    assert read(table, other) == b"a"


def test_a_path_whose_attributes_were_forgotten_is_looked_up_again():
    table = HandleTable(max_told=1)
    table.tell("/x", attr("a"), "a")
    table.tell("/y", attr("b"), "b")
    file = OpenFile("/x", attr("a"), Version("a", 0), Content("a"))
    with pytest.raises(StaleLookup):
        table.add(file, after_lookup=True)


def test_attributes_of_an_open_path_are_not_taken_from_an_old_listing_even_if_they_were_forgotten():
    table = HandleTable(max_told=1)
    opened(table, "a")
    table.tell("/y", attr("b"), "b")
    assert not table.may_tell("/x", attr("old"))
    assert table.may_tell("/z", attr("never opened"))


def test_closing_the_table_closes_every_file_and_each_only_once():
    table = HandleTable()
    contents = [Content("a"), Content("a"), Content("b")]
    for content in contents:
        file = OpenFile("/x", attr(content.name), Version(content.name, 0), content)
        table.add(file, after_lookup=False)
    table.close_all()
    assert all(content.is_closed for content in contents)
    assert table.count() == 0
    assert not table.has_stale()
    with pytest.raises(BadHandle):
        table.remove(1)


def test_the_kernels_second_attempt_at_a_piece_that_failed_gets_the_same_error_without_another_wait():
    clock, content = ManualClock(), Content("a")
    table = HandleTable(clock)
    table.tell("/x", attr("a"), "a")
    handle = table.add(OpenFile("/x", attr("a"), Version("a", 0), content), after_lookup=True).handle
    content.error = RemoteTimeout("no answer")
    with pytest.raises(RemoteTimeout):
        table.read_into(handle, 0, memoryview(bytearray(100)))
    with pytest.raises(RemoteTimeout):
        table.read_into(handle, 0, memoryview(bytearray(10)))
    assert content.reads == 1
    content.error = None
    assert table.read_into(handle, 100, memoryview(bytearray(10))) == 10, (
        "another place was not asked for yet"
    )
    clock.advance(1.0)
    assert table.read_into(handle, 0, memoryview(bytearray(10))) == 10, "a program may try again"
