"""The bytes of files: opening, reading, writing, whatever is behind a path.

=================================  =================================================================
what is opened                     reads from, writes to
=================================  =================================================================
stored, for reading                the content cache
stored in a folder of its own,     the content cache until the first change, from then on the local file that
for writing                        the change began and that will replace the stored one (``sources.Lent``)
other stored, for writing          the content cache; a write that changes a byte is refused (``sources.Archived``)
local                              the local file
=================================  =================================================================

Handles of one path see the same bytes: when a stored file is changed through one of them, the others follow before
anybody is told of the change (``handles.HandleTable.follow``).

Threads.  No state but the handle table, which locks itself. What is opened can be stored, or begin to be changed, at
the same moment: then it is looked at again (``_ATTEMPTS``).
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from agorafs.cache.content import ContentCache, OpenContent
from agorafs.client.records import Datafile
from agorafs.errors import (
    AgoraFSError,
    BadHandle,
    IntegrityError,
    IsADirectory,
    NotFound,
    PermissionDenied,
    StaleHandle,
    StaleLookup,
)
from agorafs.tree.tree import Node
from agorafs.uploads.nodes import LocalNode, Place
from agorafs.uploads.uploads import Uploads
from agorafs.uploads.values import Replaced
from agorafs.vfs import rules
from agorafs.vfs.aside import NOBODY, Aside, Caller
from agorafs.vfs.attr import Attr, FileType
from agorafs.vfs.attributes import Attributes, as_now
from agorafs.vfs.handles import HandleTable, OpenFile, Version, Writable
from agorafs.vfs.merged import Local, Merged
from agorafs.vfs.sources import Archived, Lent, fill_from

_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Opened:
    """``keep_pages``: pages that the kernel has of this path are still right. ``direct``: it must not keep any.

    ``vfs.handles`` says why.
    """

    handle: int
    keep_pages: bool
    direct: bool


class Files:
    """See the module docstring."""

    def __init__(
        self,
        merged: Merged,
        attributes: Attributes,
        contents: ContentCache,
        handles: HandleTable,
        uploads: Uploads | None,
        *,
        resolve: Callable[[str], Node | Local | Aside],
        doubt: Callable[[str], None],
    ) -> None:
        """*doubt* lets the archive be asked anew at the next look at a path."""
        self._merged = merged
        self._attributes = attributes
        self._contents = contents
        self._handles = handles
        self._uploads = uploads
        self._resolve = resolve
        self._doubt = doubt

    def open(self, path: str, flags: int, *, after_lookup: bool, caller: Callable[[], Caller]) -> Opened:
        """``open(2)``; see ``FileSystem.open``."""
        is_writing = wants_writing(flags)
        for _ in range(_ATTEMPTS):
            found = self._resolve(path)
            attr = self._attributes.of(found)
            if attr.file_type is FileType.DIRECTORY:
                raise IsADirectory(f"{path} is a directory")
            if isinstance(found, Aside):
                return self.open_aside(path, found, flags, caller)
            if is_writing:
                rules.check_found(found)
            try:
                stored = self._merged.stored(found)
                if stored is not None:
                    file = self._open_stored(path, attr, stored, is_writing=is_writing)
                else:
                    assert isinstance(found, Local)
                    file = self._open_local(path, attr, found.node, is_writing=is_writing)
                return self._enter(file, flags, after_lookup=after_lookup)
            except NotFound:
                if isinstance(found, Node) and not is_writing:
                    raise
            except StaleLookup:
                if after_lookup:
                    raise
        raise NotFound(f"{path} does not exist any more")

    def open_aside(self, path: str, aside: Aside, flags: int, caller: Callable[[], Caller]) -> Opened:
        """Open a file that is made when it is opened."""
        is_writing = wants_writing(flags)
        if is_writing and not aside.can_write:
            raise PermissionDenied(f"{path} can only be read")
        source = aside.open(NOBODY if aside.talk is None else caller())
        writable = None
        if is_writing:
            assert not isinstance(source, bytes) and hasattr(source, "write")
            writable = cast(Writable, source)
            if flags & os.O_TRUNC:
                writable.truncate(0)
        file = OpenFile(path, self._attributes.of(aside), None, source, writable)
        return Opened(*self._handles.add(file, after_lookup=False))

    def create(self, path: str, place: Place, name: str, replaced: Replaced | None) -> Opened:
        """Make the file *path*, which is *name* in *place* and takes the place of *replaced*, and open it."""
        assert self._uploads is not None
        node = self._uploads.create(place, name, replaces=replaced)
        attr = self._attributes.of_local(node, may_change=True)
        file = self._open_local(path, attr, node, is_writing=True)
        return Opened(*self._handles.add(file, after_lookup=False))

    def read_into(self, handle: int, offset: int, view: memoryview) -> int:
        """``pread(2)``; see ``FileSystem.read_into``."""
        try:
            return self._handles.read_into(handle, offset, view)
        except (IntegrityError, StaleHandle) as error:
            file = self._handles.get(handle)
            if file.is_stale or not self._has_changed(file):
                raise
            self._handles.outdate(file)
            raise StaleHandle(
                f"{file.path} changed or vanished on the server after it was opened; open it again"
            ) from error

    def write(self, handle: int, offset: int, data: bytes | memoryview) -> int:
        """``pwrite(2)``."""
        file = self._handles.get(handle)
        length = _writable(file).write(offset, data)
        self._note_change(file)
        return length

    def truncate(self, handle: int, size: int) -> None:
        """``ftruncate(2)``."""
        file = self._handles.get(handle)
        _writable(file).truncate(size)
        self._note_change(file)

    def allocate(self, handle: int, mode: int, offset: int, length: int) -> None:
        """``fallocate(2)``."""
        file = self._handles.get(handle)
        _writable(file).allocate(mode, offset, length)
        self._note_change(file)

    def flush(self, handle: int) -> None:
        """A program closed a descriptor."""
        file = self._handles.get(handle)
        if file.writable is not None:
            file.writable.flush()

    def fsync(self, handle: int) -> None:
        """``fsync(2)``."""
        file = self._handles.get(handle)
        if file.writable is not None:
            file.writable.fsync()
        elif file.node is not None and self._uploads is not None:
            self._uploads.flushed(file.node)  # whoever wrote it
            self._uploads.synced(file.node)

    def follow(self, path: str, node: LocalNode, attr: Attr) -> None:
        """To be called before anything is told of *node*, which may just have begun to differ from what is stored."""
        assert self._uploads is not None
        open_reader = functools.partial(self._uploads.open, node, writing=False)
        try:
            self._handles.follow(path, node, attr, open_reader)
        except NotFound:
            self._handles.detach(path)  # it was removed meanwhile: its handles go on each for itself

    # -- how -----------------------------------------------------------------------------------------

    def _open_local(self, path: str, attr: Attr, node: LocalNode, *, is_writing: bool) -> OpenFile:
        """Open a local node; ``NotFound`` if it was stored, or removed, meanwhile."""
        assert self._uploads is not None
        source = self._uploads.open(node, writing=is_writing)
        self.follow(path, node, attr)
        writable = source if is_writing else None
        return OpenFile(path, attr, Version(node.token, 0), source, writable, node)

    def _open_stored(self, path: str, attr: Attr, found: Node, *, is_writing: bool) -> OpenFile:
        datafile = found.entry.target
        if not isinstance(datafile, Datafile):
            raise NotFound(f"{path} is not a file")
        content = self._contents.open(self._merged.content_ref(datafile))
        file = OpenFile(path, attr, Version(self._merged.known(found).token, content.generation), content)
        if is_writing:
            try:
                self._let_write(file, content, found)
            except BaseException:
                file.close()
                raise
        return file

    def _let_write(self, file: OpenFile, content: OpenContent, found: Node) -> None:
        """Make *file*, a handle on the stored file *found*, one that may write as far as that goes."""
        replaced = rules.replaceable(found)
        if replaced is None:
            file.source = file.writable = Archived(content, functools.partial(rules.why_archived, found))
            return
        assert self._uploads is not None and found.parent is not None and file.version is not None
        folder = rules.folder_of(found.parent)
        assert folder is not None
        node = self._uploads.borrow(
            folder,
            found.entry.name,
            replaces=replaced,
            size=content.ref.size,
            mtime_ns=file.attr.mtime_ns,
            ino=file.attr.ino,
            token=file.version.content,
            fill=fill_from(functools.partial(self._contents.open, content.ref)),
        )
        file.source = file.writable = Lent(content, self._uploads.open(node, writing=True))
        file.node = node

    def _enter(self, file: OpenFile, flags: int, *, after_lookup: bool) -> Opened:
        """Enter *file* into the table, empty if its opener wants it so; close it if that fails."""
        try:
            entered = self._handles.add(file, after_lookup=after_lookup)
        except StaleLookup:
            file.close()
            raise
        if flags & os.O_TRUNC:
            try:
                self.truncate(entered.handle, 0)
            except BaseException:
                self._handles.remove(entered.handle)
                raise
        return Opened(*entered)

    def _note_change(self, file: OpenFile) -> None:
        """After a change through *file*: let all handles of its path see it."""
        node, path, version = file.node, file.path, file.version
        if node is None or path is None or version is None or version.content == node.token:
            return
        self.follow(path, node, as_now(file.attr, node))

    def _has_changed(self, file: OpenFile) -> bool:
        """Tell whether *file*, whose bytes are not as listed, is listed differently now.

        Asks once per handle. However that goes, the directory shows the new version at the next look.
        """
        if file.version is None or file.path is None or file.was_doubted:
            return False
        file.was_doubted = True
        try:
            self._doubt(file.path)
            found = self._resolve(file.path)
        except NotFound:
            return True
        except AgoraFSError:
            return False
        if isinstance(found, Local):
            return found.node.token != file.version.content
        if isinstance(found, Aside) or not isinstance(found.entry.target, Datafile):
            return True
        return self._merged.known(found).token != file.version.content


def wants_writing(flags: int) -> bool:
    """Tell whether ``open(2)`` with *flags* is to change something."""
    return flags & os.O_ACCMODE != os.O_RDONLY or bool(flags & os.O_TRUNC)


def _writable(file: OpenFile) -> Writable:
    file.require_fresh()
    if file.writable is None:
        raise BadHandle(f"{file.path} is not open for writing")
    return file.writable
