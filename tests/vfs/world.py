"""File operations on an archive in memory and real local files on a temporary directory; no kernel, no network."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from agorafs.byterange import ByteRange
from agorafs.cache.content import ContentCache, ContentLimits
from agorafs.cache.metadata import Freshness
from agorafs.errors import NotFound
from agorafs.tree.listing import Area
from agorafs.tree.tree import Tree
from agorafs.vfs import FileSystem
from agorafs.vfs.aside import Part
from agorafs.vfs.changes import Writing
from agorafs.vfs.dot_agora import DotAgora
from agorafs.vfs.views.view import View
from tests.support.changing_archive import MemoryChanges
from tests.support.memory_archive import MemoryArchive
from tests.uploads.local import Local

STARTED_NS = 1_600_000_000_000_000_000
HOME = "/projects/P/folders"


class Body:
    """A 200 answer, however small a range was asked for."""

    is_partial = False
    etag = None
    content_type = "application/octet-stream"

    def __init__(self, content: bytes) -> None:
        self._left = memoryview(content)
        self.total = len(content)
        self.byte_range = ByteRange(0, len(content))

    def readinto(self, view: memoryview, /) -> int:
        piece = self._left[: len(view)]
        view[: len(piece)] = piece
        self._left = self._left[len(piece) :]
        return len(piece)

    def close(self) -> None:
        self._left = memoryview(b"")


class World:
    """``filesystem`` and everything below it; ``P`` is a project, ``HOME`` its folder."""

    def __init__(
        self,
        directory: Path,
        *,
        is_read_only: bool = False,
        allow_delete: bool = False,
        roles: object = (),
        parts: Callable[[World], Sequence[Part]] = lambda world: (),
        views: Callable[[World], Mapping[Area, View]] = lambda world: {},
    ) -> None:
        self.archive = MemoryArchive()
        self.project = self.archive.add_project("P", roles=roles)
        assert self.project.root_folder is not None
        self.root: int = self.project.root_folder
        self.server = MemoryChanges(self.archive)
        self.local = Local(directory / "state")
        self.uploads = self.local.uploads
        self.clock = self.local.clock
        freshness = Freshness(ttl_s=30.0, revalidate_wait_s=5.0)
        self.tree = Tree(
            self.archive,
            user=self.archive.user,
            my_agora=None,
            freshness=freshness,
            max_entries=10_000,
            clock=self.clock,
        )
        self.contents = ContentCache(
            directory / "content", self, limits=ContentLimits(min_free_bytes=0), clock=self.clock
        )
        writing = Writing(
            self.uploads, self.archive, self.server, is_read_only=is_read_only, allow_delete=allow_delete
        )
        self.filesystem = FileSystem(
            self.tree,
            self.contents,
            DotAgora(
                self.tree,
                self.archive.describe,
                freshness=freshness,
                clock=self.clock,
                parts=parts(self),
            ),
            archive_url="http://archive",
            umask=0o022,
            started_ns=STARTED_NS,
            clock=self.clock,
            writing=writing,
            views=views(self),
        )

    def open_body(
        self, datafile: int, byte_range: ByteRange | None = None, *, if_range: str | None = None
    ) -> Body:
        """Answer the content cache."""
        self.archive.calls.append(f"download {datafile}")
        if datafile not in self.archive.contents:
            raise NotFound(f"datafile {datafile} is gone")
        return Body(self.archive.contents[datafile])

    def close(self) -> None:
        self.filesystem.close()
        self.contents.close()
        self.local.close()

    # -- short words ---------------------------------------------------------------------------------

    def write(self, path: str, data: bytes) -> None:
        """``echo data > path``."""
        fs = self.filesystem
        try:
            handle = fs.open(path, os.O_WRONLY | os.O_TRUNC).handle
        except NotFound:
            handle = fs.create(path).handle
        fs.write(handle, 0, data)
        fs.flush(handle)
        fs.release(handle)

    def read(self, path: str) -> bytes:
        """``cat path``."""
        handle = self.filesystem.open(path).handle
        try:
            return self.filesystem.read(handle, 0, 1 << 20)
        finally:
            self.filesystem.release(handle)

    def names(self, path: str = HOME) -> list[str]:
        """``ls path``."""
        return sorted(name for name, _ in self.filesystem.readdir(path))

    def error(self, path: str) -> str:
        """``getfattr -n user.agora.error path``."""
        return self.filesystem.getxattr(path, "user.agora.error").decode()

    def store(self, name: str, content: bytes, folder: int | None = None) -> int:
        """Put a file into a folder of the archive; return the dataset's id."""
        dataset = self.archive.add_dataset({name: content}, folder=folder or self.root)
        self.filesystem.refresh(None)
        return dataset.id
