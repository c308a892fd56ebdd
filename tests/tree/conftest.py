"""Invariants run in every test of the tree."""

from __future__ import annotations

import pytest

from agorafs.cache.locks import InvariantLock


@pytest.fixture(autouse=True)
def _checked(monkeypatch):
    monkeypatch.setattr(InvariantLock, "checking", True)
