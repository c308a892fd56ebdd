"""How the bytes of an upload go out: an upload that moves is never cut off, one that stalls is.

Why.  The library sends under the timeout for connecting, and its wait for the answer begins when the system has
the last bytes in its buffer: on a slow line, megabytes before the server has them. Here an upload fails when the
server has taken no byte for ``stall_s``, and only then; the wait for its answer begins when the server's
machine has acknowledged everything, where the system can tell (Linux), and when the buffer has taken it elsewhere.

Place.  ``session`` mounts ``UploadAdapter``; connections recognise an upload by its body, a ``MultipartBody``. All
other requests go out as the library sends them. A SOCKS proxy has connections of its own: there the library's ways
remain.

Units.  Seconds, real ones: they are spent inside the sockets.

Threads.  A connection is used by one thread at a time. ``OpenUploads`` may be used from any; its ``_lock`` guards
its two fields and is a leaf. A socket is shut down under it, so that none is that has gone on to another request.

Failure.  ``UploadStalled``; everything else as the library raises it. A server that refuses early and closes is
heard all the same: the library reads on after a reset while sending, and so the answer to it is found.
"""

from __future__ import annotations

import contextlib
import fcntl
import socket
import struct
import termios
import threading
import time
from typing import Any

import requests.adapters
import urllib3
import urllib3.connection
from urllib3.util.wait import wait_for_read

from agorafs.client.failures import UploadStalled
from agorafs.client.multipart import MultipartBody

# How often the system is asked what the server has not acknowledged; an answer ends the wait at once.
_LOOK_S = 0.2


class OpenUploads:
    """The sockets that uploads are on at present."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # Changing, guarded by _lock:
        self._sockets: set[socket.socket] = set()
        self._is_aborted = False

    def add(self, sock: socket.socket) -> None:
        """Take note of *sock*; shut it at once if there are to be no uploads any more."""
        with self._lock:
            self._sockets.add(sock)
            if self._is_aborted:
                _shut(sock)

    def discard(self, sock: socket.socket) -> None:
        """Forget *sock*: its upload has ended."""
        with self._lock:
            self._sockets.discard(sock)

    def abort(self) -> None:
        """Break off what is under way, and what should begin later."""
        with self._lock:
            self._is_aborted = True
            for sock in self._sockets:
                _shut(sock)

    def is_aborted(self) -> bool:
        """Whether ``abort`` was called."""
        with self._lock:
            return self._is_aborted


def _shut(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        # Not the method of TLS sockets: it takes the encryption away first, from under the thread that sends.
        socket.socket.shutdown(sock, socket.SHUT_RDWR)


class _Uploading:
    """What both kinds of connections do differently for an upload; mixed into the library's classes."""

    _upload: MultipartBody | None = None
    _upload_socket: socket.socket | None = None

    def request(self, method: str, url: str, body: Any = None, headers: Any = None, **options: Any) -> None:
        upload = self._upload = body if isinstance(body, MultipartBody) else None
        super().request(method, url, body, headers, **options)  # type: ignore[misc]
        if upload is not None and self._upload_socket is not None:
            _wait_until_taken(self._upload_socket, upload.stall_s)

    def send(self, data: Any) -> None:
        upload = self._upload
        # The head of the request is bytes, and the connection is made when it is sent.
        if upload is None or not isinstance(data, memoryview):
            super().send(data)  # type: ignore[misc]
            return
        sock: socket.socket = self.sock  # type: ignore[attr-defined]
        if self._upload_socket is None:
            self._upload_socket = sock
            upload.open_uploads.add(sock)
            sock.settimeout(upload.stall_s)
        while data:
            try:
                data = data[sock.send(data) :]
            except TimeoutError as error:
                raise _stalled(upload.stall_s) from error

    def getresponse(self) -> Any:
        try:
            return super().getresponse()  # type: ignore[misc]
        finally:
            self._end_upload()

    def close(self) -> None:
        self._end_upload()
        super().close()  # type: ignore[misc]

    def _end_upload(self) -> None:
        if self._upload is not None and self._upload_socket is not None:
            self._upload.open_uploads.discard(self._upload_socket)
        # An idle connection must not keep megabytes alive.
        self._upload = self._upload_socket = None


class _Connection(_Uploading, urllib3.connection.HTTPConnection):
    pass


class _TlsConnection(_Uploading, urllib3.connection.HTTPSConnection):
    pass


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


_POOLS = {"http": _Pool, "https": _TlsPool}


class UploadAdapter(requests.adapters.HTTPAdapter):
    """The library's adapter with the connections above."""

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, **options)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **options)
        if not proxy.lower().startswith("socks"):
            manager.pool_classes_by_scheme = _POOLS
        return manager


def _stalled(stall_s: float) -> UploadStalled:
    return UploadStalled(f"the server took no byte for {stall_s:g} s")


def _wait_until_taken(sock: socket.socket, stall_s: float) -> None:
    """Return when the other machine has acknowledged all that was sent, or when it says something."""
    unsent: int | None = None
    since = time.monotonic()
    while True:
        left = _unacknowledged(sock)
        if not left or wait_for_read(sock, _LOOK_S):
            return
        if left != unsent:
            unsent, since = left, time.monotonic()
        elif time.monotonic() - since >= stall_s:
            raise _stalled(stall_s)


def _unacknowledged(sock: socket.socket) -> int:
    """Return how many bytes the system still keeps for *sock*; 0 where it can not tell."""
    try:
        answer: bytes = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4))
    except (OSError, ValueError):
        return 0
    count: int = struct.unpack("i", answer)[0]
    return count
