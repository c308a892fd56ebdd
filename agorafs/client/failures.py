"""The complete map from what the HTTP libraries raise to ``agorafs.errors``.

Place.  ``transport`` and ``body`` catch ``HTTP_LIBRARY_ERRORS`` around every call into ``requests`` and
``urllib3`` and raise what ``failure_of`` returns. No other module knows those libraries' exceptions.
``tests/client/test_failures.py`` holds that every class of both libraries has its row.

Which failures are worth another attempt follows from the class: ``RemoteTimeout`` and
``RemoteUnavailable`` themselves are, their subclass ``TlsError`` and ``ProtocolError`` are not.
"""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Iterator, Mapping

import requests.exceptions
import urllib3.exceptions

from agorafs.errors import ProtocolError, RemoteError, RemoteTimeout, RemoteUnavailable, TlsError

# Raw reads let the exceptions of urllib3, http.client and the socket through.
HTTP_LIBRARY_ERRORS = (
    requests.exceptions.RequestException,
    urllib3.exceptions.HTTPError,
    urllib3.exceptions.ProxySchemeUnsupported,  # a ValueError outside urllib3's own tree
    http.client.HTTPException,
    OSError,
)

# Looked up along the method resolution order. A row is needed where a class differs from its first
# listed base: ConnectTimeout, for one, is a ConnectionError before it is a Timeout.
FAILURES: Mapping[type[BaseException], type[RemoteError]] = {
    OSError: RemoteUnavailable,
    TimeoutError: RemoteTimeout,
    http.client.HTTPException: RemoteUnavailable,
    requests.exceptions.RequestException: RemoteUnavailable,
    requests.exceptions.Timeout: RemoteTimeout,
    requests.exceptions.ConnectTimeout: RemoteTimeout,
    requests.exceptions.URLRequired: ProtocolError,
    requests.exceptions.TooManyRedirects: ProtocolError,
    requests.exceptions.MissingSchema: ProtocolError,
    requests.exceptions.InvalidSchema: ProtocolError,
    requests.exceptions.InvalidURL: ProtocolError,
    requests.exceptions.InvalidHeader: ProtocolError,
    requests.exceptions.InvalidJSONError: ProtocolError,
    requests.exceptions.ContentDecodingError: ProtocolError,
    requests.exceptions.StreamConsumedError: ProtocolError,
    requests.exceptions.UnrewindableBodyError: ProtocolError,
    urllib3.exceptions.HTTPError: RemoteUnavailable,
    urllib3.exceptions.TimeoutError: RemoteTimeout,
    # A refused connection and an unknown name are "timeouts" in urllib3's tree only.
    urllib3.exceptions.NewConnectionError: RemoteUnavailable,
    urllib3.exceptions.DecodeError: ProtocolError,
    urllib3.exceptions.LocationValueError: ProtocolError,
    urllib3.exceptions.ProxySchemeUnsupported: ProtocolError,
    urllib3.exceptions.ResponseNotChunked: ProtocolError,
    urllib3.exceptions.BodyNotHttplibCompatible: ProtocolError,
    urllib3.exceptions.HeaderParsingError: ProtocolError,
    urllib3.exceptions.InvalidHeader: ProtocolError,
    urllib3.exceptions.UnrewindableBodyError: ProtocolError,
    urllib3.exceptions.TimeoutStateError: ProtocolError,
}

# What urllib3 raises while it makes the connection; the request is sent on it afterwards.
_NO_CONNECTION = (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError)


class UploadStalled(OSError):
    """The server took no byte of an upload for as long as it was given. Raised by ``session``."""


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield *error* and everything wrapped in it, outermost first; the libraries wrap in three ways."""
    waiting, seen = [error], set[int]()
    while waiting:
        current = waiting.pop(0)
        if id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        inner = (*current.args, getattr(current, "reason", None), current.__cause__, current.__context__)
        waiting.extend(item for item in inner if isinstance(item, BaseException))


def was_never_sent(error: BaseException) -> bool:
    """Whether the server has certainly seen nothing of the request that ended in *error*."""
    return any(isinstance(cause, _NO_CONNECTION) for cause in _causes(error))


def _reason(error: BaseException) -> str:
    """Return the innermost plain reason; the libraries' own texts are full of object addresses."""
    reason = ""
    for cause in _causes(error):
        if isinstance(cause, OSError) and cause.strerror:
            reason = cause.strerror
        elif isinstance(cause, http.client.RemoteDisconnected):
            reason = "the server closed the connection without an answer"
        elif isinstance(cause, urllib3.exceptions.IncompleteRead):
            reason = "the connection was lost before the end of the answer"
    return reason or type(error).__name__


def _tls_failure(error: BaseException, host: str) -> TlsError | None:
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            why = getattr(cause, "verify_message", None) or "verification failed"
            return TlsError(
                f"the certificate of {host} is not trusted: {why}; if the site has its own certificate "
                "authority, name its certificate with --ca-bundle FILE"
            )
        is_tls = isinstance(cause, ssl.SSLError)
        if is_tls and getattr(cause, "reason", None) in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST"):
            return TlsError(
                f"{host} does not speak TLS on this port; is its address http:// or another port?"
            )
    return None


def failure_of(error: BaseException, what: str, host: str) -> RemoteError:
    """Return the exception to raise for *error*, one of ``HTTP_LIBRARY_ERRORS``.

    Args:
        what: What was asked, for the message (``GET https://…``); no query, it may hold names.
        host: Whose certificate it was.
    """
    tls = _tls_failure(error, host)
    if tls is not None:
        return tls
    for cause in _causes(error):
        # RemoteDisconnected is a BadStatusLine too: the status line that never came.
        is_silence = isinstance(cause, http.client.RemoteDisconnected)
        if isinstance(cause, http.client.BadStatusLine) and not is_silence:
            return ProtocolError(f"{what}: the answer is not HTTP; is this an Agora server?")
        if isinstance(cause, UploadStalled):
            return RemoteTimeout(f"{what}: {cause}")
    for base in type(error).__mro__:
        failure = FAILURES.get(base)
        if failure is not None:
            break
    else:
        raise TypeError(f"{type(error)!r} is not an error of the HTTP libraries")
    if failure is RemoteTimeout:
        return RemoteTimeout(f"{what}: no answer in time")
    return failure(f"{what}: {_reason(error)}")
