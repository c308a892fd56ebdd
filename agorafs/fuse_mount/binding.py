"""The binding to libfuse, imported late: what is missing is named in one sentence.

``mfusepy`` (the maintained continuation of fusepy, same API) speaks libfuse 3, plain ``fusepy`` libfuse 2. Both load
libfuse when they are imported. mfusepy takes libfuse 2 when both are installed unless ``FUSE_LIBRARY_PATH`` is set
before, hence ``_library_path``: on libfuse 2 every write would be 4 KiB.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import importlib
import os
from types import ModuleType

from agorafs.errors import ExitStatus, UsageError

_LIBRARIES = {
    "mfusepy": ("fuse3", ("libfuse3.so.4", "libfuse3.so.3")),
    "fusepy": ("fuse", ("libfuse.so.2",)),
}
_MODULES = {"mfusepy": "mfusepy", "fusepy": "fuse"}
_PACKAGES = {
    "mfusepy": "libfuse 3 is not installed: install the package fuse3 (apt-get install fuse3)",
    "fusepy": "libfuse 2 is not installed: install the package libfuse2 (libfuse2t64 on newer systems)",
}


def load_binding(name: str) -> ModuleType:
    """Return the module of the binding *name*.

    Raises:
        UsageError: It can not be used; one sentence says what to install.
    """
    module = _MODULES[name]
    path = _library_path(name)
    if path is None:
        raise UsageError(_PACKAGES[name], ExitStatus.NO_FUSE)
    given = os.environ.get("FUSE_LIBRARY_PATH")
    os.environ["FUSE_LIBRARY_PATH"] = path
    try:
        binding = importlib.import_module(module)
    except ImportError:
        raise UsageError(
            f"the Python package {name} is not installed: pip install 'agorafs[fusepy]'", ExitStatus.NO_FUSE
        ) from None
    except (OSError, AttributeError) as error:
        raise UsageError(
            f"libfuse can not be used ({error}): {_PACKAGES[name]}", ExitStatus.NO_FUSE
        ) from None
    finally:
        if given is None:
            del os.environ["FUSE_LIBRARY_PATH"]
        else:
            os.environ["FUSE_LIBRARY_PATH"] = given
    if not hasattr(binding, "FUSE"):
        raise UsageError(
            f"the Python module {module} is not {name}: another package took its name", ExitStatus.NO_FUSE
        )
    return binding


def _library_path(name: str) -> str | None:
    """Return the libfuse that *name* is to load: the user's ``FUSE_LIBRARY_PATH``, else the right version's."""
    given = os.environ.get("FUSE_LIBRARY_PATH")
    if given:
        return given
    stem, sonames = _LIBRARIES[name]
    for candidate in (ctypes.util.find_library(stem), *sonames):
        if candidate is None:
            continue
        try:
            ctypes.CDLL(candidate)
        except OSError:
            continue
        return candidate
    return None
