"""For the tests of the tree: invariants that run in every one, and a tree over an archive in memory."""

from __future__ import annotations

import pytest

from agorafs.cache.locks import InvariantLock
from agorafs.cache.metadata import Freshness
from agorafs.tree.tree import Tree
from tests.support.manual_clock import ManualClock
from tests.support.memory_archive import MemoryArchive

TTL_S = 30.0


@pytest.fixture(autouse=True)
def _checked(monkeypatch):
    monkeypatch.setattr(InvariantLock, "checking", True)


@pytest.fixture
def archive():
    return MemoryArchive()


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def tree(archive, clock):
    made = Tree(
        archive,
        user=archive.user,
        my_agora=None,
        freshness=Freshness(ttl_s=TTL_S, revalidate_wait_s=5.0),
        max_entries=100_000,
        clock=clock,
    )
    yield made
    made.close()


def at(tree, path):
    return tree.resolve([part for part in path.split("/") if part])


def names(tree, path):
    return [node.entry.name for node in tree.children(at(tree, path))]


def link(tree, path):
    return tree.link_text(at(tree, path))
