"""The keyring of the desktop, where there is one: a place for API keys that other programs can not simply read.

The library is optional (``pip install 'agorafs[keyring]'``), and imported only when a profile asks for it or ``agorafs
login`` looks for a place. On a machine without a desktop it is there and has nothing to store in: that counts as none.

Place.  ``profiles`` reads, ``commands.login`` stores. A key is found by the name of its profile.

Failure.  ``UsageError`` with status CONFIGURATION; no message contains a key.
"""

from __future__ import annotations

import importlib
from types import ModuleType

from agorafs.errors import ExitStatus, UsageError

_SERVICE = "agorafs"


def is_available() -> bool:
    """Tell whether a key could be kept there; asks nobody."""
    try:
        keyring = _library()
    except UsageError:
        return False
    priority: float = keyring.get_keyring().priority
    return priority >= 1  # the library's own word for "recommended"; what stores nothing has less


def read(name: str) -> str:
    """Return the key that was stored as *name*.

    Raises:
        UsageError: There is none, or no keyring.
    """
    keyring = _library()
    try:
        key: str | None = keyring.get_password(_SERVICE, name)
    except _failures() as error:
        raise UsageError(f"the keyring does not answer: {error}", ExitStatus.CONFIGURATION) from None
    if not key:
        raise UsageError(
            f"the keyring has no API key for {name}: run agorafs login again", ExitStatus.CONFIGURATION
        )
    return key


def store(name: str, key: str) -> None:
    """Keep *key* as *name*.

    Raises:
        UsageError: It can not be kept.
    """
    try:
        _library().set_password(_SERVICE, name, key)
    except _failures() as error:
        raise UsageError(f"the keyring takes no key: {error}", ExitStatus.CONFIGURATION) from None


def _library() -> ModuleType:
    try:
        return importlib.import_module("keyring")
    except ImportError:
        raise UsageError(
            "the key is in a keyring, which needs pip install 'agorafs[keyring]'", ExitStatus.CONFIGURATION
        ) from None


def _failures() -> type[Exception]:
    failures: type[Exception] = importlib.import_module("keyring.errors").KeyringError
    return failures
