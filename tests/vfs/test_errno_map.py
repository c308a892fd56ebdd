"""Every error has an errno, and only one table knows it."""

from __future__ import annotations

import errno
import logging

import pytest

from agorafs import errors
from agorafs.vfs.errno_map import TABLE, outcome_of

GROUPS = {errors.AgoraFSError, errors.Refused, errors.RemoteError}
NEVER_ON_A_MOUNT = {errors.CacheError, errors.UsageError}


def descendants(cls: type) -> set[type]:
    return {cls}.union(*map(descendants, cls.__subclasses__()))


def declared() -> set[type]:
    return {cls for cls in descendants(errors.AgoraFSError) if cls.__module__ == errors.__name__}


def test_every_error_of_the_tree_is_in_the_table():
    assert set(TABLE) == declared() - GROUPS - NEVER_ON_A_MOUNT


@pytest.mark.parametrize(
    ("error", "number"),
    [
        (errors.NotFound("x"), errno.ENOENT),
        (errors.NotAuthenticated("x"), errno.EACCES),
        (errors.ReadOnly("x"), errno.EROFS),
        (errors.TooLarge("x"), errno.EFBIG),
        (errors.StaleHandle("x"), errno.ESTALE),
        (errors.RemoteTimeout("x"), errno.ETIMEDOUT),
        (errors.RemoteUnavailable("x"), errno.EIO),
        (errors.IntegrityError("x"), errno.EIO),
        (errors.NoSuchXattr("x"), errno.ENODATA),
    ],
)
def test_an_error_becomes_the_errno_that_programs_understand(error, number):
    assert outcome_of(error).errno == number


def test_a_mistake_of_ours_is_an_input_output_error_and_loud():
    assert outcome_of(ZeroDivisionError()) == (errno.EIO, logging.ERROR)


def test_nothing_becomes_enosys_which_the_kernel_takes_as_never_ask_again():
    assert errno.ENOSYS not in {outcome.errno for outcome in TABLE.values()}


def test_a_subclass_outside_the_tree_counts_as_its_base():
    class RangeTrouble(errors.ProtocolError):
        pass

    assert outcome_of(RangeTrouble("x")) == TABLE[errors.ProtocolError]
