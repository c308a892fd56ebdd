"""The one table from errors to errno, and how loud each is.

Reasons for what is not obvious: 401 and 403 are ``EACCES``, which programs report as "permission denied" and do not
retry. ``EPERM`` is for what nobody may do, whatever the role. Another version under an open handle is ``ESTALE``,
NFS's word for it. A spent deadline is ``ETIMEDOUT`` and not ``EAGAIN``, which programs take as "spin". ``ENOSYS`` is
in no row: the kernel takes it as "never ask again". What is not in the table is a bug of ours: ``EIO``, and a
traceback in the log.
"""

from __future__ import annotations

import errno
import logging
from typing import NamedTuple

from agorafs import errors


class Outcome(NamedTuple):
    """``errno`` for the program, ``level`` for the log."""

    errno: int
    level: int


# macOS has ENOATTR where Linux has ENODATA.
_NO_ATTRIBUTE = getattr(errno, "ENOATTR", errno.ENODATA)

TABLE: dict[type[errors.AgoraFSError], Outcome] = {
    errors.NotFound: Outcome(errno.ENOENT, logging.DEBUG),
    errors.NotADirectory: Outcome(errno.ENOTDIR, logging.DEBUG),
    errors.IsADirectory: Outcome(errno.EISDIR, logging.DEBUG),
    errors.AlreadyExists: Outcome(errno.EEXIST, logging.DEBUG),
    errors.NotEmpty: Outcome(errno.ENOTEMPTY, logging.DEBUG),
    errors.NameTooLong: Outcome(errno.ENAMETOOLONG, logging.DEBUG),
    # the transport has said it once per mount, as an error; a line per operation would bury that
    errors.NotAuthenticated: Outcome(errno.EACCES, logging.DEBUG),
    errors.PermissionDenied: Outcome(errno.EACCES, logging.INFO),
    errors.NotPermitted: Outcome(errno.EPERM, logging.INFO),
    errors.ReadOnly: Outcome(errno.EROFS, logging.DEBUG),
    errors.CrossDevice: Outcome(errno.EXDEV, logging.DEBUG),
    errors.SpoolFull: Outcome(errno.ENOSPC, logging.ERROR),
    errors.TooLarge: Outcome(errno.EFBIG, logging.INFO),
    errors.BadCommand: Outcome(errno.EINVAL, logging.DEBUG),
    errors.BadHandle: Outcome(errno.EBADF, logging.WARNING),
    errors.StaleHandle: Outcome(errno.ESTALE, logging.WARNING),
    # the kernel looks the path up again and opens it again; the program hears nothing of it
    errors.StaleLookup: Outcome(errno.ESTALE, logging.DEBUG),
    errors.NoSuchXattr: Outcome(_NO_ATTRIBUTE, logging.DEBUG),
    errors.NotSupported: Outcome(errno.ENOTSUP, logging.DEBUG),
    errors.Interrupted: Outcome(errno.EINTR, logging.DEBUG),
    errors.JobFailed: Outcome(errno.EIO, logging.INFO),
    errors.RemoteTimeout: Outcome(errno.ETIMEDOUT, logging.WARNING),
    errors.RemoteUnavailable: Outcome(errno.EIO, logging.WARNING),
    errors.TlsError: Outcome(errno.EIO, logging.ERROR),
    errors.ProtocolError: Outcome(errno.EIO, logging.ERROR),
    errors.ServerTooOld: Outcome(errno.EIO, logging.ERROR),
    errors.IntegrityError: Outcome(errno.EIO, logging.ERROR),
}

_BUG = Outcome(errno.EIO, logging.ERROR)


def outcome_of(error: BaseException) -> Outcome:
    """Return what *error* becomes; the nearest class of the table counts."""
    for kind in type(error).__mro__:
        if kind in TABLE:
            return TABLE[kind]
    return _BUG
