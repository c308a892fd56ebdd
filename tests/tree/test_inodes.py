"""Inode numbers are a function of what a node is."""

from __future__ import annotations

import pytest

from agorafs.tree.inodes import ROOT_INODE, InodeSpace, hashed_inode, inode


@pytest.mark.parametrize("object_id", [-1, 0, 1, 2**58 - 1, 2**58, 10**30])
def test_any_id_whatsoever_gives_a_number_that_fits_into_63_bits_and_is_not_the_roots(object_id):
    for space in InodeSpace:
        assert ROOT_INODE < inode(space, object_id) < 2**63


def test_numbers_of_different_spaces_never_meet():
    assert len({inode(space, 7) for space in InodeSpace}) == len(InodeSpace)


def test_a_number_is_the_same_in_every_process():
    """Inode numbers are the same in every mount, so these values may never change."""
    assert inode(InodeSpace.DATAFILE, 57) == (7 << 58) + 57
    assert hashed_inode("alias", "exam") == 339186292347345144
