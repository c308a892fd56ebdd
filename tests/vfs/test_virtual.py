"""Files that act when they are written: when, with what, and what a refusal looks like."""

from __future__ import annotations

import os

import pytest

from agorafs.errors import AlreadyExists, BadCommand, NotFound, PermissionDenied, TooLarge
from agorafs.vfs.aside import Aside, Caller, Names, Part
from agorafs.vfs.virtual import MAX_DRAFT_BYTES, is_json, is_line, stream_file, written_file
from tests.vfs.world import HOME, World

VALUE = f"{HOME}/.agora/value"
TEXT = f"{HOME}/.agora/text"
JSON = f"{HOME}/.agora/json"


class Notes(Part):
    """Two files that keep what they accept: a value of one digit, and a text of any length."""

    def __init__(self):
        self.value = b"3\n"
        self.text = b"old"
        self.accepted = []
        self.made = []
        self.callers = []

    def names(self, node, *, is_root):
        return Names(files=["value", "text"])

    def resolve(self, node, rest, *, is_root):
        if list(rest) == ["value"]:
            return written_file(11, self.value, self._accept_value, is_complete=is_line)
        if list(rest) == ["text"]:
            return written_file(12, self.text, self._accept_text)
        if list(rest) == ["json"]:
            return written_file(15, b"{}", self._accept_json, is_complete=is_json)
        if list(rest) == ["stream"]:
            return stream_file(13, self._talk, can_write=True)
        return None

    def make(self, node, rest):
        if len(rest) != 1 or not rest[0].endswith(".new"):
            return None
        return written_file(14, b"", lambda data: self.made.append((rest[0], data)))

    def remove(self, node, rest):
        if list(rest) != ["text"]:
            return False
        self.text = b""
        return True

    def _accept_value(self, data):
        self.accepted.append(data)
        if not data.strip().isdigit():
            raise BadCommand(f"{data!r} is no digit")
        self.value = data

    def _accept_text(self, data):
        self.accepted.append(data)
        self.text = data

    def _accept_json(self, data):
        self.accepted.append(data)
        if b"bad" in data:
            raise BadCommand("this is bad")

    def _talk(self, caller):
        self.callers.append(caller)
        return written_file(13, b"", self.accepted.append).open(caller)


@pytest.fixture
def notes():
    return Notes()


@pytest.fixture
def world(tmp_path, notes):
    one = World(tmp_path, parts=lambda _: [notes])
    yield one
    one.close()


def test_a_value_counts_at_the_write_that_ends_its_line(world, notes):
    handle = world.filesystem.open(VALUE, os.O_WRONLY | os.O_TRUNC).handle
    world.filesystem.write(handle, 0, b"7\n")
    assert notes.value == b"7\n"
    world.filesystem.flush(handle)
    assert notes.accepted == [b"7\n"]
    assert world.read(VALUE) == b"7\n"


def test_a_value_without_an_end_of_line_counts_when_it_is_closed(world, notes):
    handle = world.filesystem.open(VALUE, os.O_WRONLY | os.O_TRUNC).handle
    world.filesystem.write(handle, 0, b"7")
    assert notes.accepted == []
    world.filesystem.flush(handle)
    assert notes.value == b"7"


def test_a_refused_value_fails_the_write_once_and_says_why(world, notes):
    handle = world.filesystem.open(VALUE, os.O_WRONLY | os.O_TRUNC).handle
    with pytest.raises(BadCommand):
        world.filesystem.write(handle, 0, b"many\n")
    world.filesystem.flush(handle)
    assert notes.accepted == [b"many\n"]
    assert notes.value == b"3\n"


def test_json_counts_at_the_write_that_closes_its_last_bracket(world, notes):
    """So that ``echo`` fails: shells do not look at what close(2) says."""
    handle = world.filesystem.open(JSON, os.O_WRONLY | os.O_TRUNC).handle
    world.filesystem.write(handle, 0, b'{"a": {\n')
    world.filesystem.write(handle, 8, b'"b": 1}\n')
    assert notes.accepted == []
    world.filesystem.write(handle, 16, b"}\n")
    assert notes.accepted == [b'{"a": {\n"b": 1}\n}\n']
    world.filesystem.write(handle, 18, b"\n")  # changes nothing, and is not another one
    world.filesystem.flush(handle)
    assert len(notes.accepted) == 1


def test_json_that_is_refused_fails_each_write_of_it_and_says_why_in_its_directory_too(world, notes):
    """The file may be none of those that are there."""
    handle = world.filesystem.open(JSON, os.O_WRONLY | os.O_TRUNC).handle
    for _ in range(2):
        with pytest.raises(BadCommand):
            world.filesystem.write(handle, 0, b'["bad"]\n')
    for path in (JSON, f"{HOME}/.agora"):
        assert world.filesystem.getxattr(path, "user.agora.error") == b"this is bad"
    assert len(notes.accepted) == 2


def test_what_is_no_json_yet_waits_for_close(world, notes):
    handle = world.filesystem.open(JSON, os.O_WRONLY | os.O_TRUNC).handle
    for offset, piece in ((0, b"[1\n"), (3, b"]]\n")):
        world.filesystem.write(handle, offset, piece)
    assert notes.accepted == []
    world.filesystem.flush(handle)
    assert notes.accepted == [b"[1\n]]\n"]


def test_a_text_is_taken_whole_when_it_is_closed(world, notes):
    handle = world.filesystem.open(TEXT, os.O_WRONLY | os.O_TRUNC).handle
    world.filesystem.write(handle, 4, b"two\n")
    world.filesystem.write(handle, 0, b"one\n")
    assert notes.accepted == []
    assert world.filesystem.getattr(TEXT, handle).size == 8
    world.filesystem.flush(handle)
    world.filesystem.flush(handle)  # of a copy of the descriptor
    assert notes.accepted == [b"one\ntwo\n"]


def test_a_text_that_is_refused_fails_each_close_and_is_tried_once(world, notes):
    """A program may close a copy of its descriptor first, and look at what the last ``close`` says."""
    handle = world.filesystem.open(JSON, os.O_WRONLY | os.O_TRUNC).handle
    world.filesystem.write(handle, 0, b"bad")
    for _ in range(2):
        with pytest.raises(BadCommand, match="this is bad"):
            world.filesystem.flush(handle)
    assert notes.accepted == [b"bad"]
    world.filesystem.write(handle, 0, b"fit")
    world.filesystem.flush(handle)
    assert notes.accepted == [b"bad", b"fit"]


def test_a_part_of_a_text_can_be_changed(world, notes):
    handle = world.filesystem.open(TEXT, os.O_RDWR).handle
    assert world.filesystem.read(handle, 0, 10) == b"old"
    world.filesystem.write(handle, 1, b"wn")
    world.filesystem.flush(handle)
    assert notes.text == b"own"


@pytest.mark.parametrize("path", [VALUE, TEXT])
def test_a_file_that_is_only_emptied_is_as_nobody_had_written(world, notes, path):
    world.filesystem.truncate(path, 0)
    handle = world.filesystem.open(path, os.O_WRONLY | os.O_TRUNC).handle
    world.filesystem.flush(handle)
    world.filesystem.release(handle)
    assert notes.accepted == []


def test_more_than_a_description_can_be_is_refused(world):
    handle = world.filesystem.open(TEXT, os.O_WRONLY).handle
    with pytest.raises(TooLarge):
        world.filesystem.write(handle, MAX_DRAFT_BYTES, b"x")
    with pytest.raises(TooLarge):
        world.filesystem.truncate(TEXT, MAX_DRAFT_BYTES + 1, handle)


def test_write_bits_are_shown_where_something_can_be_written(world):
    assert oct(world.filesystem.getattr(VALUE).permissions) == "0o644"
    assert oct(world.filesystem.getattr(f"{HOME}/.agora/path").permissions) == "0o444"
    assert {"value", "text", "info.json"} <= set(world.names(f"{HOME}/.agora"))


def test_what_can_only_be_read_is_not_opened_for_writing(world):
    with pytest.raises(PermissionDenied, match="only be read"):
        world.filesystem.open(f"{HOME}/.agora/path", os.O_WRONLY)


def test_a_stream_has_no_size_and_hears_who_opens_it(world, notes):
    path = f"{HOME}/.agora/stream"
    assert world.filesystem.getattr(path).size == 0
    opened = world.filesystem.open(path, os.O_RDWR, caller=lambda: Caller(1000, 77))
    assert opened.direct
    assert notes.callers == [Caller(1000, 77)]


def test_a_file_can_be_made_where_a_part_takes_it_and_nowhere_else(world, notes):
    world.write(f"{HOME}/.agora/a.new", b"new")
    assert notes.made == [("a.new", b"new")]
    with pytest.raises(PermissionDenied):
        world.filesystem.create(f"{HOME}/.agora/a.old")
    with pytest.raises(AlreadyExists):
        world.filesystem.create(VALUE, os.O_RDWR | os.O_EXCL)


def test_a_file_is_removed_where_a_part_lets_it(world, notes):
    world.filesystem.remove(TEXT)
    assert notes.text == b""
    with pytest.raises(PermissionDenied):
        world.filesystem.remove(VALUE)


def test_the_same_files_are_beside_an_entry_that_is_a_file(world, notes):
    world.store("x.dat", b"1")
    assert "value" in world.names(f"{HOME}/.agora/entries/x.dat")
    world.write(f"{HOME}/.agora/entries/x.dat/value", b"5\n")
    assert notes.value == b"5\n"
    with pytest.raises(NotFound):
        world.filesystem.getattr(f"{HOME}/.agora/entries/none/value")


def test_a_mount_for_reading_takes_no_value(tmp_path, notes):
    world = World(tmp_path, is_read_only=True, parts=lambda _: [notes])
    with pytest.raises(Exception, match="read-only"):
        world.filesystem.open(VALUE, os.O_WRONLY)
    world.close()


def test_a_directory_has_no_bytes():
    with pytest.raises(NotFound):
        Aside(1, entries=()).open()
