"""Every error that agorafs raises on purpose, in one tree.

::

    AgoraFSError
    ├── Refused            the request can not be met as asked
    │   ├── NotFound  NotADirectory  IsADirectory  AlreadyExists  NameTooLong  NotEmpty
    │   ├── NotAuthenticated  PermissionDenied  ReadOnly  CrossDevice  SpoolFull
    │   ├── BadCommand  BadHandle  NoSuchXattr  NotSupported  Interrupted  TooLarge  JobFailed
    │   └── StaleHandle  (of which StaleLookup: only the look-up is stale, looking again helps)
    ├── RemoteError        the archive did not answer properly
    │   ├── RemoteTimeout  RemoteUnavailable  ProtocolError
    │   ├── TlsError       (a RemoteUnavailable that trying again will not cure)
    │   └── ServerTooOld
    ├── IntegrityError     bytes do not match their checksum
    ├── CacheError         raised and caught inside ``cache/`` only
    └── UsageError         command line and configuration: a message and an exit status, no traceback

Raised low (each layer raises these and nothing of its libraries), mapped high: ``vfs.errno_map`` is the
only place that knows errno, ``ExitStatus`` the only list of exit statuses. Mistakes of ours are not in
the tree; they stay ``TypeError``, ``AssertionError`` and so on. A message names the thing concerned and,
where there is one, the way out.
"""

from __future__ import annotations

import enum


class ExitStatus(enum.IntEnum):
    """Exit statuses of the ``agorafs`` command; scripts may rely on them."""

    OK = 0
    FAILED = 1  # refused for a reason that has no status of its own
    USAGE = 2  # unknown option, malformed argument
    NOT_AUTHENTICATED = 3  # key missing, wrong or revoked; not allowed
    UNAVAILABLE = 4  # the server is away or does not answer in time
    SERVER_TOO_OLD = 5
    TLS = 6  # certificate not trusted
    MOUNT_POINT = 7  # missing, busy, stale, not ours
    NO_FUSE = 8  # libfuse or /dev/fuse missing
    INSECURE_URL = 9  # http to another machine without --insecure
    PROTOCOL = 10  # the server's answer is not Agora's
    CACHE_DIRECTORY = 11  # cache or state directory can not be used
    CONFIGURATION = 12  # configuration file, profile, key file
    BUG = 70
    INTERRUPTED = 130


class AgoraFSError(Exception):
    """Base of the tree. ``exit_status`` is what the command exits with when this reaches it."""

    exit_status = ExitStatus.FAILED


class Refused(AgoraFSError):
    """The request can not be met as asked."""


class NotFound(Refused):
    """No such name in the listing, or the archive says 404 or 410."""


class NotADirectory(Refused):
    """A component of the path is not a directory."""


class IsADirectory(Refused):
    """A file operation on a directory."""


class AlreadyExists(Refused):
    """The name exists already."""


class NameTooLong(Refused):
    """A name of more than 255 bytes."""


class NotEmpty(Refused):
    """A directory that still holds something."""


class NotAuthenticated(Refused):
    """401: credentials missing, wrong, expired or revoked."""

    exit_status = ExitStatus.NOT_AUTHENTICATED


class PermissionDenied(Refused):
    """403, or something this user's role does not allow."""

    exit_status = ExitStatus.NOT_AUTHENTICATED


class NotPermitted(Refused):
    """Something that nobody may do here, whatever the role: the archive has nothing like it."""


class ReadOnly(Refused):
    """A change was asked of something that can not be changed here."""


class CrossDevice(Refused):
    """A rename that the archive can not do; the caller is to copy instead."""


class SpoolFull(Refused):
    """The local spool can not take another byte."""


class TooLarge(Refused):
    """413: the server, or something before it, takes no request of this size."""


class BadCommand(Refused):
    """A control command that can not be understood."""

    exit_status = ExitStatus.USAGE


class BadHandle(Refused):
    """The file handle is unknown or closed."""


class StaleHandle(Refused):
    """The datafile changed or vanished after it was opened."""


class StaleLookup(StaleHandle):
    """A path leads to another version than its last attributes said. Looking it up again helps."""


class NoSuchXattr(Refused):
    """The extended attribute is not there."""


class NotSupported(Refused):
    """The operation is not offered for this node."""


class Interrupted(Refused):
    """A signal ended the wait."""

    exit_status = ExitStatus.INTERRUPTED


class JobFailed(Refused):
    """Something that was started in the background, such as a task, has not ended well."""


class RemoteError(AgoraFSError):
    """The archive did not answer properly."""

    exit_status = ExitStatus.UNAVAILABLE


class RemoteTimeout(RemoteError):
    """No answer before the deadline, retries spent."""


class RemoteUnavailable(RemoteError):
    """Connection refused or lost, name unknown, 429 or 5xx; retries spent."""


class TlsError(RemoteUnavailable):
    """The server's certificate is not trusted."""

    exit_status = ExitStatus.TLS


class ProtocolError(RemoteError):
    """An answer that is not Agora's: malformed JSON, wrong length, HTML, unknown status.

    ``status`` is the HTTP status of a refusal that has no class of its own (400, 402, 422, …): the server has
    understood the request and will not do it. None for everything else.
    """

    exit_status = ExitStatus.PROTOCOL

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class ServerTooOld(RemoteError):
    """The server's version is below the oldest that agorafs knows."""

    exit_status = ExitStatus.SERVER_TOO_OLD


class IntegrityError(AgoraFSError):
    """Bytes do not match their recorded SHA-1, twice."""


class CacheError(AgoraFSError):
    """The disk cache failed. Raised and caught inside ``cache/``; readers fall back to the archive."""


class UsageError(AgoraFSError):
    """Command line or configuration: one line for the user and an exit status, no traceback."""

    def __init__(self, message: str, exit_status: ExitStatus = ExitStatus.USAGE) -> None:
        super().__init__(message)
        self.exit_status = exit_status
