"""Extended attributes by path: of what is stored, of what is on its way, and of the files of ``.agora``.

``xattrs`` says which attributes what is stored has, ``said`` those of what is not stored yet; here is found out what a
path is at the moment, which may change while it is asked about.

Threads.  No state of its own.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

from agorafs.errors import NoSuchXattr, NotFound, NotSupported
from agorafs.tree.tree import Node
from agorafs.uploads.uploads import Uploads
from agorafs.vfs import said, xattrs
from agorafs.vfs.aside import Aside
from agorafs.vfs.complaints import Complaints
from agorafs.vfs.merged import Local, Merged
from agorafs.vfs.xattrs import Xattrs

_ATTEMPTS = 3  # how often a path is looked at again that was stored meanwhile

Found = Node | Local | Aside


class PathXattrs:
    """See the module docstring. Who may change anything at all is the business of ``filesystem``."""

    def __init__(
        self,
        resolve: Callable[[str], Found],
        merged: Merged,
        uploads: Uploads | None,
        annotations: Xattrs | None,
        complaints: Complaints,
    ) -> None:
        self._resolve = resolve
        self._merged = merged
        self._uploads = uploads
        self._annotations = annotations
        self._complaints = complaints

    def names(self, path: str, found: Found) -> list[str]:
        """Return the names of the attributes of what was *found* at *path*; no request."""
        if isinstance(found, Node) and self._annotations is not None:
            return self._annotations.names(found, self._complaints.reason(path))
        return xattrs.fitting(list(self._plain(path, found)))

    def get(self, path: str, name: str) -> bytes:
        """Return the attribute *name* of *path*.

        Raises:
            NoSuchXattr: There is none.
            NotSupported: No entry can ever have it.
        """
        if name in xattrs.UNSUPPORTED:
            raise NotSupported(f"{path}: {name} is nothing that an archive could keep")
        if xattrs.is_answered(name):
            found = self._described(path) if xattrs.is_annotation(name) else self._resolve(path)
            if isinstance(found, Node) and self._annotations is not None:
                value = self._annotations.get(found, name, self._complaints.reason(path))
            else:
                value = self._plain(path, found).get(name)
            if value is not None:
                return value.encode(errors="replace")  # a server may send half a character
        raise NoSuchXattr(f"{path} has no attribute {name}")

    def set(self, path: str, name: str, value: bytes, flags: int) -> None:
        """``setxattr``.

        Raises:
            NotSupported: It would be one of agorafs's own, and there is none of this name.
        """
        for _ in range(_ATTEMPTS):
            found = self._described(path)
            if isinstance(found, Node) and self._annotations is not None:
                self._annotations.set(found, name, value, flags, error=self._complaints.reason(path))
                return
            if self._annotations is None or not said.is_remembered(name):
                if name.startswith(xattrs.PREFIX) and name not in xattrs.OWN:
                    raise NotSupported(f"{path}: there is no attribute {name}")
                return
            if not isinstance(found, Local) or found.node.is_directory:
                raise NotSupported(f"{path}: {name} is for what the archive has, and for files on their way")
            project = None if found.below.project is None else found.below.project.id
            if self._say(found, functools.partial(said.with_value, name=name, value=value, project=project)):
                return
        raise NotFound(f"{path} is gone")

    def remove(self, path: str, name: str) -> None:
        """``removexattr``; of what was not kept, the removal is taken and dropped."""
        for _ in range(_ATTEMPTS):
            found = self._described(path)
            if isinstance(found, Node) and self._annotations is not None:
                self._annotations.remove(found, name)
                return
            if not isinstance(found, Local) or found.node.is_directory or not said.is_remembered(name):
                return
            if self._say(found, functools.partial(said.without, name=name)):
                return
        raise NotFound(f"{path} is gone")

    def _described(self, path: str) -> Found:
        """Return what is described at *path*: also of a file that is open for writing, what is stored."""
        found = self._resolve(path)
        return (self._merged.stored(found) or found) if isinstance(found, Local) else found

    def _say(self, found: Local, change: Callable[[dict[str, str]], dict[str, str]]) -> bool:
        """Let *change* decide what is to be said of a local file; False if it is stored by now."""
        assert self._uploads is not None
        return self._uploads.say(found.node, change)

    def _plain(self, path: str, found: Found) -> dict[str, str]:
        """Return the attributes that are no annotations of the archive."""
        told = self._complaints.reason(path)
        if isinstance(found, Aside):
            return {} if told is None else {f"{xattrs.PREFIX}error": told}
        if isinstance(found, Node):
            return xattrs.attributes(found, told)
        assert self._uploads is not None
        is_file = not found.node.is_directory
        state = self._uploads.state_text(found.node) if is_file else ""
        known = xattrs.local_attributes(found, state, self._uploads.reason(found.node) or told)
        if self._annotations is not None and is_file:
            known.update(said.attributes(self._uploads.said(found.node)))
        return known
