"""The process that serves one mount, from the first connection to the last close.

Why.  Starting, serving and ending have an order that must hold: the place in the list of mounts is taken
first and given up last; the server is asked before anything is mounted; signals can arrive at any point
between.

Place.  Run by ``commands.mount``, in the foreground or in the child that ``daemon`` made. Puts together
``stack``, ``fuse_mount``, ``control`` and ``registry``, which know nothing of each other. What the commands may ask
is in ``mount_requests``.

Threads.  The main thread connects and then serves. The signal thread and the control threads call into the
stack, which allows any thread. ``_lock`` guards ``_stack`` and ``_is_stopping``; nothing is called while it
is held.

Signals.  SIGHUP reads the key again, drops all listings, and wakes uploads that wait for a key. SIGTERM and SIGINT
unmount without waiting for uploads: the next mount goes on with them. If the mount is busy it is detached, open
files get ``_GRACE_S`` seconds, and the process ends. Before the mount is there they just end the process.

Failure.  Until the mount is ready a failure goes to the ``Report``, afterwards to the log. ``run`` returns
the exit status and does not raise.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from agorafs import __version__
from agorafs import mountpoint as mountpoints
from agorafs.client.auth import Credential
from agorafs.config import Settings
from agorafs.control import ControlServer, socket_path
from agorafs.daemon import Report, block_signals, handle_signals
from agorafs.errors import (
    AgoraFSError,
    ExitStatus,
    NotAuthenticated,
    RemoteTimeout,
    RemoteUnavailable,
    TlsError,
    UsageError,
)
from agorafs.log_output import SecretFreeFormatter, log_to
from agorafs.mount_requests import AskedStack, handlers
from agorafs.profiles import Resolved, forget_environment_key
from agorafs.registry import MountRecord, Registration, register

_LOGGER = logging.getLogger(__name__)

_GRACE_S = 5.0  # for programs that hold files open when the mount is told to stop


class ServedStack(AskedStack, Protocol):
    """What this module needs of ``stack.Stack``."""

    def replace_credential(self, credential: Credential) -> None:
        """Use another key from now on."""
        ...

    def close(self) -> None:
        """Close connections and files."""
        ...


@dataclass(frozen=True, slots=True)
class Layers:
    """The two functions that do the work; tests put their own in place."""

    connect: Callable[[Settings], Any]
    serve: Callable[[Any, Path, Settings, Callable[[], None]], None]


def real_layers() -> Layers:
    """Return the functions of ``stack`` and ``fuse_mount``."""
    # Here because the child imports them, after the fork: they bring in libraries that may start threads.
    from agorafs import fuse_mount, stack

    return Layers(stack.connect, fuse_mount.serve)


def connect(connect_layers: Callable[[Settings], Any], resolved: Resolved, settings: Settings) -> Any:
    """Return the stack of *settings*, those of *resolved* with the key.

    Raises:
        AgoraFSError: What ``stack.connect`` raises; where a key or an address is to blame, with its place.
    """
    try:
        return connect_layers(settings)
    except NotAuthenticated as error:
        source = resolved.credential_source
        raise NotAuthenticated(
            f"{settings.url} does not accept the {source.kind.value} from {source.description}: {source.advice} "
            f"({error})"
        ) from None
    except (RemoteTimeout, RemoteUnavailable) as error:
        if isinstance(error, TlsError):
            raise
        raise type(error)(f"{error}: check the address {settings.url}, the network and the server") from None


class MountProcess:
    """One mount being served. Given: all arguments. Changing: ``_stack``, ``_is_stopping``, by ``_lock``."""

    def __init__(
        self,
        resolved: Resolved,
        mountpoint: Path,
        report: Report,
        *,
        log_file: Path | None,
        layers: Callable[[], Layers] = real_layers,
    ) -> None:
        self._resolved = resolved
        self._mountpoint = mountpoint
        self._report = report
        self._log_file = log_file
        self._layers = layers
        self._record = MountRecord(
            mountpoint=str(mountpoint),
            url=resolved.settings.url,
            pid=os.getpid(),
            started_s=int(time.time()),
            log_file=None if log_file is None else str(log_file),
        )
        self._formatter: SecretFreeFormatter | None = None
        self._has_ended = threading.Event()
        self._lock = threading.Lock()
        self._stack: ServedStack | None = None
        self._is_stopping = False

    def run(self) -> ExitStatus:
        """Serve until unmounted and return the exit status."""
        block_signals()
        os.umask(0o077)
        forget_environment_key()
        try:
            self._formatter = log_to(self._log_file, debug=self._resolved.settings.debug)
            self._run()
        except AgoraFSError as error:
            if self._report.is_said or self._log_file is not None:
                _LOGGER.error("%s", error)  # else it is about to be printed at the same place
            self._report.failed(str(error), ExitStatus(error.exit_status))
            return ExitStatus(error.exit_status)
        except Exception as error:
            _LOGGER.exception("a bug ended the mount of %s", self._mountpoint)
            self._report.failed(f"internal error: {type(error).__name__}, see the log", ExitStatus.BUG)
            return ExitStatus.BUG
        finally:
            self._has_ended.set()
        return ExitStatus.OK

    def _run(self) -> None:
        with contextlib.ExitStack() as cleanup:
            registration = register(self._resolved.settings.state_directory, self._record)
            cleanup.callback(registration.close)
            handle_signals(
                {
                    signal.SIGHUP: self._reload,
                    signal.SIGTERM: lambda: self._stop(registration),
                    signal.SIGINT: lambda: self._stop(registration),
                }
            )
            layers = self._layers()
            settings = self._resolved.with_credential()
            self._hide(settings.credential)
            stack: ServedStack = connect(layers.connect, self._resolved, settings)
            cleanup.callback(stack.close)
            with self._lock:
                self._stack = stack
            control = ControlServer(socket_path(settings.state_directory, self._mountpoint), handlers(stack))
            cleanup.callback(control.close)
            layers.serve(stack, self._mountpoint, settings, self._on_ready)
            if not self._report.is_said:
                raise UsageError(
                    f"{self._mountpoint} could not be mounted: FUSE ended before it was ready; see the log",
                    ExitStatus.NO_FUSE,
                )
            _LOGGER.info("%s is unmounted", self._mountpoint)

    def _on_ready(self) -> None:
        self._report.ready()  # first, so that who sees the line in the log may also rely on it
        _LOGGER.info(
            "agorafs %s: %s is mounted at %s", __version__, self._resolved.settings.url, self._mountpoint
        )

    def _hide(self, credential: Credential | None) -> None:
        if self._formatter is not None:
            self._formatter.hide(credential)

    # --- signals ---

    def _reload(self) -> None:
        with self._lock:
            stack = self._stack
        if stack is None:
            return  # still connecting, with a key just read
        place = self._resolved.credential_source.description
        try:
            credential = self._resolved.credential_source.read()
            self._hide(credential)
            stack.replace_credential(credential)
            stack.refresh(None)
        except AgoraFSError as error:
            _LOGGER.error("the key was not read again, the old one stays: %s", error)
        except Exception:
            _LOGGER.exception("reading the key again failed")
        else:
            _LOGGER.info("the key was read again from %s and all listings were dropped", place)

    def _stop(self, registration: Registration) -> None:
        with self._lock:
            if self._is_stopping:
                return
            self._is_stopping = True
        if not self._report.is_said:
            self._report.failed("stopped before the mount was ready", ExitStatus.INTERRUPTED)
            self._detach()
            registration.close()
            os._exit(ExitStatus.INTERRUPTED)
        try:
            mountpoints.unmount(self._mountpoint)
        except UsageError as error:
            _LOGGER.warning("detaching, with %g s for what is open: %s", _GRACE_S, error)
            self._detach()
            if not self._has_ended.wait(_GRACE_S):
                registration.close()
                os._exit(ExitStatus.OK)

    def _detach(self) -> None:
        entry = mountpoints.find_mount(self._mountpoint)
        if entry is None or not entry.is_ours:
            return
        try:
            mountpoints.unmount(self._mountpoint, lazy=True)
        except UsageError as error:
            _LOGGER.error("%s", error)
