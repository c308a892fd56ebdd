"""A batch is settled while later ones, of which less is known, carry files of the same names."""

from __future__ import annotations

import pytest

from tests.uploads.settling import Arrival


@pytest.fixture
def arrival(tmp_path):
    one = Arrival(tmp_path / "state")
    yield one
    one.close()


def replaced_while_another_waits(arrival: Arrival, name: str, content: bytes) -> None:
    """``a.txt`` was replaced and has arrived; in a later batch *name* waits, of which nobody knows the SHA-1 yet."""
    old = arrival.server.add_dataset({"a.txt": b"old"}, folder=arrival.root)
    arrival.write("a.txt", b"new", replaces=arrival.server.replaced(old))
    arrival.has_ended(arrival.store(arrival.seal()["a.txt"]))
    first = arrival.batch
    arrival.write(name, content)
    arrival.local.fall_quiet()
    assert [upload.sha1 for upload in arrival.local.journal.uploads(arrival.batch.id)] == [None]
    arrival.settler().settle(first)


@pytest.mark.parametrize("content", [b"other bytes", b"few", b""])
def test_an_old_version_goes_although_other_bytes_of_its_name_wait_elsewhere(arrival, content):
    replaced_while_another_waits(arrival, "sub/a.txt", content)
    assert arrival.server.tree() == {"a.txt": (b"new", (None, None), [])}


def test_a_removed_file_goes_although_other_bytes_of_its_name_wait_elsewhere(arrival):
    old = arrival.server.add_dataset({"a.txt": b"old"}, folder=arrival.root)
    node = arrival.write("a.txt", b"new", replaces=arrival.server.replaced(old))
    arrival.has_ended(arrival.store(arrival.seal()["a.txt"]))
    first = arrival.batch
    arrival.local.uploads.remove(node)
    arrival.write("sub/a.txt", b"other bytes")
    arrival.local.fall_quiet()
    arrival.settler().settle(first)
    assert arrival.server.names(arrival.root) == []
