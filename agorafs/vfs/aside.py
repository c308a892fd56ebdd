"""What is a file, a directory or a link in the mount without being one in the archive.

``.agora`` is made of these, and so are the files of tasks and of the trash. They are made when they are looked at;
none of them is ever uploaded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from agorafs.errors import NotFound
from agorafs.tree.inodes import hashed_inode
from agorafs.tree.names import DOT_AGORA
from agorafs.tree.tree import Node
from agorafs.vfs.attr import DIRECTORY_SIZE_BYTES, FileType
from agorafs.vfs.handles import Source, Writable


class Caller(NamedTuple):
    """Who opens a file: user id, and id of the terminal's session (0: not known)."""

    uid: int = 0
    session: int = 0


NOBODY = Caller()


class Held(Protocol):
    """A file that lies somewhere else: what is on its way to the server."""

    @property
    def size(self) -> int: ...
    @property
    def mtime_ns(self) -> int: ...
    def open(self) -> Source:
        """Open its bytes; raises ``NotFound`` when it has gone."""
        ...


class Names(NamedTuple):
    """The names in a directory, by what is behind them."""

    files: Sequence[str] = ()
    directories: Sequence[str] = ()


class AsideEntry(NamedTuple):
    """A name in such a directory: what is known of it without a request."""

    name: str
    file_type: FileType
    ino: int


@dataclass(frozen=True, slots=True)
class Aside:
    """A file, directory or link.

    Of ``entries`` of a directory, ``content``, ``held`` or ``talk`` of a file, and ``link`` text one is set; a file
    with both ``content`` and ``talk`` shows the one as its size, and whoever opens it gets the other.

    Attributes:
        talk: Makes what one opening reads from and writes to. Nothing of it enters the kernel's page cache.
        can_write: It can be opened for writing.
    """

    ino: int
    entries: tuple[AsideEntry, ...] | None = None
    content: bytes | None = None
    held: Held | None = None
    link: str | None = None
    talk: Callable[[Caller], Writable] | None = None
    can_write: bool = False

    @property
    def file_type(self) -> FileType:
        if self.entries is not None:
            return FileType.DIRECTORY
        return FileType.FILE if self.link is None else FileType.LINK

    @property
    def size(self) -> int:
        """What ``stat`` calls the size; 0 of a file whose length shows only when it is read."""
        if self.content is not None:
            return len(self.content)
        if self.held is not None:
            return self.held.size
        if self.talk is not None:
            return 0
        return DIRECTORY_SIZE_BYTES if self.link is None else len(self.link.encode(errors="surrogateescape"))

    @property
    def mtime_ns(self) -> int | None:
        """When it was last changed, None where that means nothing."""
        return None if self.held is None else self.held.mtime_ns

    def open(self, caller: Caller = NOBODY) -> Source | bytes:
        """Return what a file's bytes are read from, and written to if it is a ``talk``.

        Raises:
            NotFound: It is no file.
        """
        if self.talk is not None:
            return self.talk(caller)
        if self.content is not None:
            return self.content
        if self.held is None:
            raise NotFound("a directory or a link is not a file")
        return self.held.open()


class Part:
    """Somebody who has files below ``.agora``; overrides what it has. *rest* is the path below ``.agora``."""

    def names(self, node: Node, *, is_root: bool) -> Names:
        """Return what there is directly beside *node*; no request."""
        return Names()

    def resolve(self, node: Node, rest: Sequence[str], *, is_root: bool) -> Aside | None:
        """Return what *rest* is beside *node*, None if that is nothing of this part's.

        Raises:
            NotFound, NotADirectory: It is this part's, and there is no such thing.
        """
        return None

    def make(self, node: Node, rest: Sequence[str]) -> Aside | None:
        """Return what is to be opened as a new file *rest*, None if this part can not make it."""
        return None

    def remove(self, node: Node, rest: Sequence[str]) -> bool:
        """Remove the file *rest*; False if it is not this part's."""
        return False

    def refresh(self) -> None:
        """Forget what was learnt."""

    def forget_contents(self) -> None:
        """Forget what may look different after a change of ours, unless it is kept right otherwise."""
        self.refresh()

    def close(self) -> None:
        """End the background threads."""


def directory(
    ino: Callable[[Sequence[str]], int],
    *,
    files: Iterable[str] = (),
    directories: Iterable[str] = (),
    links: Iterable[str] = (),
) -> Aside:
    """Return a directory; *ino* gives the inode number of what is called so inside, ``[]`` of itself."""
    found = [
        *((name, FileType.FILE) for name in files),
        *((name, FileType.DIRECTORY) for name in directories),
        *((name, FileType.LINK) for name in links),
    ]
    entries = (AsideEntry(name, file_type, ino([name])) for name, file_type in found)
    return Aside(ino([]), entries=tuple(entries))


def inode_below(base_ino: int, rest: Sequence[str]) -> int:
    """Return the inode number of ``.agora/REST`` of the directory with the number *base_ino*."""
    return hashed_inode(DOT_AGORA, str(base_ino), *rest)
