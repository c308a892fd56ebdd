"""A local store on a temporary directory, with the invariants checked at each release of a lock."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from agorafs.cache.locks import InvariantLock
from tests.uploads.local import Local


@pytest.fixture(autouse=True)
def checked_invariants(monkeypatch):
    monkeypatch.setattr(InvariantLock, "checking", True)


@pytest.fixture
def local(tmp_path) -> Iterator[Local]:
    one = Local(tmp_path / "state")
    yield one
    one.close()
