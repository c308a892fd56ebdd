"""One request as ``transport`` sends it, and what an attempt that failed says about the next.

Why.  Asking again is free, changing again is not: a folder would be there twice, a dataset copied twice. So each
failure says whether the request can have reached the server, and each request whether it does the same
when it arrives twice.

Place.  ``transport`` makes requests and decides on repetitions; ``answers`` raises ``AttemptFailed``, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from agorafs.client.base_url import BaseUrl
from agorafs.client.failures import failure_of, was_never_sent
from agorafs.client.multipart import MultipartBody
from agorafs.errors import RemoteError, RemoteTimeout, RemoteUnavailable


@dataclass(frozen=True, slots=True)
class Request:
    """``may_repeat``: a second arrival does no harm. ``ok`` are the statuses that mean success, all if empty."""

    method: str
    path: str
    params: Mapping[str, str | int] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | MultipartBody | None = field(default=None, repr=False)
    ok: tuple[int, ...] = ()
    may_repeat: bool = False
    is_authenticated: bool = True
    is_download: bool = False

    @property
    def is_change(self) -> bool:
        """Whether it is meant to change something on the server."""
        return self.method != "GET"

    @property
    def upload(self) -> MultipartBody | None:
        """The body that is large and sent piece by piece, if it has such a one."""
        return self.body if isinstance(self.body, MultipartBody) else None

    def what(self, base_url: BaseUrl) -> str:
        """Return what is asked, for messages: no query, no body, they may hold names."""
        return f"{self.method} {base_url.join(self.path)}"


class AttemptFailed(Exception):
    """One attempt failed in a way that may pass."""

    def __init__(
        self,
        error: RemoteError,
        *,
        is_unreachable: bool = False,
        was_sent: bool = True,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(str(error))
        self.error = error
        self.is_unreachable = is_unreachable  # below HTTP: it says something about every other request
        self.was_sent = was_sent  # False only if the server has certainly seen nothing of it
        self.retry_after_s = retry_after_s


def failed_attempt(error: BaseException, what: str, url: str) -> Exception:
    """Return what to raise for an exception of the HTTP libraries: ``AttemptFailed`` if it may pass."""
    failure = failure_of(error, what, urlsplit(url).hostname or "")
    if type(failure) in (RemoteTimeout, RemoteUnavailable):
        return AttemptFailed(failure, is_unreachable=True, was_sent=not was_never_sent(error))
    return failure
