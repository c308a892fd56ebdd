"""Where log lines go: a file that does not grow for ever, or standard error.

Why.  A mount runs for months. Its log is kept in ten files of 10 MiB at most (the current one and its
predecessors), readable by its owner alone, since names of files and so of patients may stand in it.

Place.  Used by ``mount_process`` and by ``cli`` for the traceback of a bug. Other modules only have loggers.

Secrets.  No module logs a key. Should one slip into a message all the same (a library quoting a request, a
traceback with values), the formatter blots it out: the key in use is told to it with ``hide``.

Threads.  ``hide`` replaces a tuple in one step; no lock is needed.

Failure.  A log file that can not be opened is ``UsageError`` with status CACHE_DIRECTORY.
"""

from __future__ import annotations

import logging
import logging.handlers
import os
from pathlib import Path

from agorafs.client.auth import ApiKey, Credential, Password, Secret, Token
from agorafs.errors import ExitStatus, UsageError

_MAX_FILE_BYTES = 10 * 1024 * 1024
_OLD_FILES = 9


class SecretFreeFormatter(logging.Formatter):
    """Formats a line and blots out the secrets it was told."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")
        self._secrets: tuple[Secret, ...] = ()

    def hide(self, credential: Credential | None) -> None:
        """Blot out *credential* from now on, and those before it still."""
        secret = _secret_of(credential)
        if secret is not None and secret not in self._secrets:
            self._secrets = (*self._secrets, secret)

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, with its traceback if it has one."""
        text = super().format(record)
        for secret in self._secrets:
            text = secret.redact(text)
        return text


def _secret_of(credential: Credential | None) -> Secret | None:
    if isinstance(credential, ApiKey):
        return credential.key
    if isinstance(credential, Token):
        return credential.token
    return credential.password if isinstance(credential, Password) else None


def log_to(log_file: Path | None, *, debug: bool) -> SecretFreeFormatter:
    """Send the package's log lines to *log_file*, or to standard error when it is None."""
    formatter = SecretFreeFormatter()
    handler: logging.Handler
    if log_file is None:
        handler = logging.StreamHandler()
    else:
        handler = _open_log_file(log_file)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)  # libraries
    logging.getLogger("agorafs").setLevel(logging.DEBUG if debug else logging.INFO)
    return formatter


def _open_log_file(log_file: Path) -> logging.Handler:
    try:
        log_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Made here with the right mode; the files after a rotation get theirs from the process's umask.
        os.close(os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        return logging.handlers.RotatingFileHandler(
            log_file,
            maxBytes=_MAX_FILE_BYTES,
            backupCount=_OLD_FILES,
            encoding="utf-8",
            errors="backslashreplace",
        )
    except OSError as error:
        raise UsageError(
            f"the log file {log_file} can not be written: {error.strerror}", ExitStatus.CACHE_DIRECTORY
        ) from None
