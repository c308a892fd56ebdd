"""Front end 1: FUSE. The only package that knows the binding.

====================  ======================================================================
``binding``           loads mfusepy or fusepy, or says what is missing
``operations``        file operations in the binding's words
``tuned``             mfusepy's callbacks that decide the speed, or need what it hides
====================  ======================================================================

Threads.  libfuse calls from up to ``_MAX_THREADS`` threads of its own. Some wait for the network; the number is
large enough that a server that hangs blocks only those who asked for it.

Freshness.  The kernel believes names and attributes for at most one second more than agorafs does. It never
remembers that a name was missing, so what appears is seen as soon as agorafs knows of it.

Two versions of one path (see ``vfs.handles``).  An open of another version than the kernel was told of fails with
``ESTALE``, upon which the kernel looks the path up again and opens it again; no program sees that. While a stale
handle is open, attributes are given for no time at all: the kernel then asks for them with the handle at each
``read`` and hands the program our ``ESTALE``, before it looks at its pages or at the file's size. libfuse 2 has no
way to say that, nor ``direct``: there, for a second after a change, a handle that was open before can end at the
new size.

Removed while open.  A file that is removed, or has another renamed over it, while it is open, gets a hidden name from
libfuse until it is closed (``vfs.hidden``). Without (``hard_remove``) ``fstat`` of it would fail with ``ESTALE``: Linux
asks by path, and for a node without one libfuse asks nobody. Callbacks that have a handle go by the handle and get no
path (``nullpath_ok``), which spares libfuse the making of it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agorafs.errors import ExitStatus, UsageError
from agorafs.fuse_mount.binding import load_binding
from agorafs.fuse_mount.operations import CallableOperations, Operations
from agorafs.fuse_mount.tuned import tuned

if TYPE_CHECKING:
    from agorafs.config import Settings
    from agorafs.stack import Stack

# libfuse 3.12 to 3.16 stop at 10 threads unless told otherwise: ten readers waiting for a slow server would
# hold up everybody. ``operations.MAX_BACKGROUND`` must stay below.
_MAX_THREADS = 128
# Threads that stay when there is nothing to do.
_MAX_IDLE_THREADS = 16
# How much longer than agorafs the kernel may believe an attribute or a name.
_KERNEL_TTL_S = 1.0


def require_binding(name: str) -> None:
    """Check that the binding *name* can be used.

    Raises:
        UsageError: With one sentence that says what to install.
    """
    load_binding(name)


def serve(stack: Stack, mountpoint: Path, settings: Settings, on_ready: Callable[[], None]) -> None:
    """Mount *stack* at *mountpoint* and serve it until it is unmounted.

    *on_ready* is called once, when the kernel has accepted the mount.

    Raises:
        UsageError: The mount was refused; libfuse has said why on stderr.
    """
    binding = load_binding(settings.binding)
    kind = Operations if settings.binding == "mfusepy" else CallableOperations
    operations = kind(stack.filesystem, settings, binding, on_ready)
    stack.on_refreshed = operations.invalidate
    stack.filesystem.mounted_at(str(mountpoint))
    options: dict[str, Any] = {
        "foreground": True,  # becoming a daemon is the caller's business, before any thread is started
        "fsname": settings.url.replace("\\", "\\\\").replace(",", "\\,"),
        "subtype": "agorafs",
        "use_ino": True,
        "default_permissions": True,
        "entry_timeout": min(_KERNEL_TTL_S, settings.listing_ttl_s),
        "attr_timeout": min(_KERNEL_TTL_S, settings.listing_ttl_s),
        "negative_timeout": 0,
        "allow_other": settings.allow_other,
        "ro": settings.read_only,
        **dict.fromkeys(settings.kernel_flags, True),
    }
    if settings.binding == "mfusepy":
        if (binding.fuse_version_major, binding.fuse_version_minor) >= (3, 12):
            options["max_threads"] = _MAX_THREADS
            # Given because libfuse 3.14 complains of its own default.
            options["max_idle_threads"] = _MAX_IDLE_THREADS
        run = tuned(binding)
    else:
        options["big_writes"] = True  # libfuse 2 sends 4 KiB at a time otherwise
        run = binding.FUSE
    try:
        run(operations, str(mountpoint), **options)
    except RuntimeError as error:
        raise UsageError(
            f"{mountpoint} could not be mounted (libfuse status {error})", ExitStatus.MOUNT_POINT
        ) from None
    finally:
        stack.on_refreshed = None
