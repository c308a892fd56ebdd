"""Which object of the archive somebody means: by a path, through links, or by kind and number.

``find`` is for people and scripts (control files, ``agorafs control``, task inputs), ``follow`` is the walk along a
path as the kernel would do it, link by link, inside the mount.

Requests: those of looking the path up. An object given by its number is looked for where it lives.

Threads.  No state but ``mountpoint``, which is set once.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from agorafs.client.records import Kind, RemoteRef
from agorafs.errors import BadCommand, NotADirectory, NotFound, NotPermitted
from agorafs.tree.listing import Area, DirKey, LinkTarget, SiblingLink
from agorafs.tree.tree import Node, Tree
from agorafs.vfs.aside import Aside
from agorafs.vfs.merged import Local

# As many links as the kernel follows in one path.
_MAX_LINKS = 40

# How an object is given by its number; the archive has two names for exams and for series.
WORDS = {
    "project": Kind.PROJECT,
    "folder": Kind.FOLDER,
    "exam": Kind.EXAM,
    "study": Kind.EXAM,
    "series": Kind.SERIES,
    "serie": Kind.SERIES,
    "dataset": Kind.DATASET,
    "datafile": Kind.DATAFILE,
    "patient": Kind.PATIENT,
}


def ref_of(node: Node) -> RemoteRef | None:
    """Return the object that *node* stands for; None for what is no object, such as the list of patients."""
    if node.entry.ref is not None:
        return node.entry.ref
    target = node.entry.target
    if isinstance(target, DirKey):
        kinds = {
            Area.FOLDER: Kind.FOLDER,
            Area.EXAM: Kind.EXAM,
            Area.SERIES: Kind.SERIES,
            Area.PROJECT: Kind.PROJECT,
        }
        if target.area in kinds:
            return RemoteRef(kinds[target.area], target.id)
        if target.area is Area.DATASET:
            return RemoteRef(Kind.DATASET, target.id)
    return None


def ref_in(text: str) -> RemoteRef | None:
    """Return the object that *text* gives by kind and number; None if it is no such text."""
    word, colon, number = text.partition(":")
    if colon and word in WORDS and number.isascii() and number.isdigit() and len(number) <= 18:
        return RemoteRef(WORDS[word], int(number))
    return None


class Objects:
    """See the module docstring."""

    def __init__(
        self, tree: Tree, resolve: Callable[[str], Node | Local | Aside], readlink: Callable[[str], str]
    ) -> None:
        self._tree = tree
        self._resolve = resolve
        self._readlink = readlink
        self.mountpoint: str | None = None  # where absolute paths of the mount begin; set once it is known

    def find(self, directory: Sequence[str], text: str) -> Node:
        """Return the object that *text*, said in *directory*, means.

        Args:
            directory: The names from the root down.
            text: ``dataset:57``, or a path: relative to *directory*, or absolute as the mount or the system sees it.

        Raises:
            NotFound: There is no such object; or it is not stored yet.
            BadCommand: *text* is neither, or names something that is no object.
        """
        given = ref_in(text)
        if given is not None:
            try:
                return self.by_number(given)
            except NotFound:
                raise NotFound(f"there is no {text} on the server, or you may not see it") from None
        if not text or "\0" in text:
            raise BadCommand("an object is given by its path, or as dataset:57")
        if text.startswith("/") and not self._is_inside(text):
            directory, text = (), text.lstrip("/")
        try:
            found = self.follow(directory, text)
        except NotPermitted as error:
            raise NotFound(str(error)) from None
        if isinstance(found, Node) and isinstance(found.entry.target, (LinkTarget, SiblingLink)):
            assert found.entry.ref is not None
            found = self.by_number(found.entry.ref)
        if isinstance(found, Local):
            raise NotFound(f"{found.path} is not stored yet: wait for it with agorafs sync")
        if isinstance(found, Aside) or ref_of(found) is None:
            raise BadCommand(f"{text} is no object of the archive")
        return found

    def by_number(self, ref: RemoteRef) -> Node:
        """Return the object *ref*, where it lives; a datafile is found as its dataset's.

        Raises:
            NotFound: No such object, or none that this user can see.
        """
        return self._tree.resolve(self._tree.locate(ref))

    def follow(self, directory: Sequence[str], text: str) -> Node | Local | Aside:
        """Walk from *directory* along *text*, following links; a link of the archive at the end stays one.

        Raises:
            NotFound: There is no such path.
            NotPermitted: It leads out of the mount.
        """
        done = list(directory)
        waiting = text.split("/")
        if text.startswith("/"):
            done, waiting = [], self._inside(text)
        links = 0
        while waiting:
            part = waiting.pop(0)
            if part == ".." and not done:
                waiting = self._inside("/".join([self.mountpoint or "", "..", *waiting]))
            elif part == "..":
                done.pop()
            elif part not in ("", "."):
                done.append(part)
                here = "/" + "/".join(done)
                found = self._look(here)
                if not waiting and isinstance(found, Node):
                    return found
                if _is_link(found):
                    links += 1
                    if links > _MAX_LINKS:
                        raise NotFound(f"{text} goes round in circles")
                    waiting = [*self._readlink(here).split("/"), *waiting]
                    done.pop()
        return self._look("/" + "/".join(done))

    def _look(self, path: str) -> Node | Local | Aside:
        try:
            return self._resolve(path)
        except NotADirectory as error:
            raise NotFound(str(error)) from None

    def _inside(self, text: str) -> list[str]:
        """Return the names below the mount point that the absolute path *text* has."""
        if not self._is_inside(text):
            raise NotPermitted(f"{text} leads out of this mount")
        assert self.mountpoint is not None
        return os.path.normpath(text)[len(self.mountpoint.rstrip("/")) :].split("/")

    def _is_inside(self, text: str) -> bool:
        mountpoint, path = self.mountpoint, os.path.normpath(text)
        return mountpoint is not None and (
            path == mountpoint or path.startswith(f"{mountpoint.rstrip('/')}/")
        )


def _is_link(found: Node | Local | Aside) -> bool:
    if isinstance(found, Aside):
        return found.link is not None
    return isinstance(found, Node) and isinstance(found.entry.target, (LinkTarget, SiblingLink))
