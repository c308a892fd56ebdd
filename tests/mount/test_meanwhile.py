"""What programs do to files on a mount while these are on their way to a server that is held up."""

from __future__ import annotations

import functools
import mmap
import os
from pathlib import Path

import pytest

from tests.support.waiting import eventually
from tests.support.writing import Drive, identity


@pytest.fixture
def held(drive: Drive):
    """A folder of a server that imports nothing until told."""
    drive.server.switch(import_hold="on")
    yield drive.place()
    drive.server.switch(import_hold="off")


def state(path) -> str:
    return os.getxattr(path, "user.agora.state").decode()


def save(path, content: bytes) -> None:
    """As an editor does it that never leaves half a file behind."""
    temporary = path.with_name(f".goutputstream-{path.name}")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _is_on_its_way(path: Path) -> bool:
    return state(path) in ("importing", "uploading 0 %", "uploading 100 %", "verifying")


def test_a_file_that_is_saved_again_and_again_on_its_way_arrives_once_as_it_was_saved_last(held):
    folder = held.path
    path = folder / "notes.txt"
    save(path, b"first")
    eventually(lambda: state(path) == "importing", 20)
    with path.open("rb") as reader, mmap.mmap(reader.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        save(path, b"second, longer")
        save(path, b"third")
        assert (bytes(mapped), reader.read()) == (b"first", b"first")
        assert path.read_bytes() == b"third"
        assert [one.name for one in folder.iterdir()] == ["notes.txt"]
        held.drive.server.switch(import_hold="off")
        held.sync()
        assert path.read_bytes() == b"third"
    assert path.read_bytes() == b"third"
    assert held.stored() == {"notes.txt": identity(b"third")}


def test_a_directory_that_is_filled_further_while_it_is_on_its_way_arrives_whole(held):
    folder = held.path
    directory = folder / "scan"
    directory.mkdir()
    for number in range(4):
        path = directory / f"{number}.dat"
        path.write_bytes(str(number).encode())
        eventually(functools.partial(_is_on_its_way, path), 20)
    held.drive.server.switch(import_hold="off")
    held.sync()
    assert len(held.stored()) == 4
    assert {one.name: one.read_bytes() for one in directory.iterdir()} == {
        f"{number}.dat": str(number).encode() for number in range(4)
    }
