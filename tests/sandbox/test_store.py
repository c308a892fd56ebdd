"""The store: transactions, snapshots, contents."""

from __future__ import annotations

import hashlib
import threading

import pytest

from agorafs.sandbox.store import DataDirectoryError, Store


@pytest.fixture
def store(tmp_path):
    opened = Store(tmp_path / "data", now=lambda: "2024-01-15T10:30:00Z")
    yield opened
    opened.close()


def put(store, name, value):
    with store.transaction() as db:
        db.execute("INSERT OR REPLACE INTO setting (name, value) VALUES (?, ?)", (name, value))


def test_an_exception_undoes_a_transaction_and_forgets_its_callbacks(store):
    called = []
    with pytest.raises(RuntimeError), store.transaction() as db:
        db.execute("INSERT INTO setting (name, value) VALUES ('a', '1')")
        store.after_commit(lambda: called.append("undone"))
        raise RuntimeError
    assert store.setting("a") is None
    put(store, "b", "2")
    assert called == []


def test_callbacks_run_when_the_outer_transaction_is_durable(store):
    called = []
    with store.transaction():
        with store.transaction():
            store.after_commit(lambda: called.append("done"))
        assert called == []
    assert called == ["done"]


def test_a_snapshot_sees_one_moment(store):
    put(store, "a", "before")
    with store.snapshot() as db:
        query = "SELECT value FROM setting WHERE name = 'a'"
        assert db.execute(query).fetchone()["value"] == "before"
        writer = threading.Thread(target=put, args=(store, "a", "after"))
        writer.start()
        writer.join()
        assert db.execute(query).fetchone()["value"] == "before"
    assert store.setting("a") == "after"


def test_a_setting_is_made_once(store):
    assert store.setting("x", lambda: "first") == "first"
    assert store.setting("x", lambda: "second") == "first"


def test_a_directory_belongs_to_one_store(store, tmp_path):
    with pytest.raises(DataDirectoryError, match="in use"):
        Store(tmp_path / "data")


def test_a_directory_of_another_layout_is_refused(tmp_path):
    first = Store(tmp_path / "data")
    with first.transaction() as db:
        db.execute("PRAGMA user_version = 99")
    first.close()
    with pytest.raises(DataDirectoryError, match="another version"):
        Store(tmp_path / "data")


def test_contents_are_kept_once_and_moved_or_linked(store, tmp_path):
    contents = store.contents
    sha1 = hashlib.sha1(b"bytes").hexdigest()
    moved, kept = tmp_path / "moved", tmp_path / "kept"
    moved.write_bytes(b"bytes")
    kept.write_bytes(b"bytes")
    assert contents.adopt(moved, sha1).read_bytes() == b"bytes"
    assert not moved.exists()
    contents.adopt(kept, sha1, keep_source=True)
    assert kept.read_bytes() == b"bytes"
    assert contents.add_bytes(b"bytes") == sha1
    contents.remove(sha1)
    contents.remove(sha1)
    assert not contents.path(sha1).exists()
    assert contents.adopt(kept, sha1, keep_source=True).stat().st_nlink == 2
