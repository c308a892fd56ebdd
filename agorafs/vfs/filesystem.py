"""File operations in POSIX words: what ``open(2)``, ``stat(2)`` and ``read(2)`` mean on an archive.

Place.  A front end (FUSE, fsspec) converts its arguments, calls one method here, and converts the result or the
error. Paths are absolute below the mount point; bytes that are no UTF-8 come as surrogate escapes.

What holds
    * Attributes are true before open; they come from the listing and cost no request beyond it.
    * A handle reads the version that was opened, or an error (``vfs.handles``, ``cache.content``).
    * The names that desktops probe for never wait.
    * What was written is there under its name from ``open`` on (``vfs.merged``); what can not be changed is refused
      before any byte is taken, with a reason that can be read back as ``user.agora.error`` (``vfs.rules``,
      ``vfs.changes``, ``vfs.renames``, ``vfs.views``). A mount without ``Writing``, or a read-only one, refuses
      every change.
    * Permissions, owners, and attributes that the archive has nothing for are taken and dropped: no copy fails for
      them, and none reaches the server.

Threads.  Every method may be called from any thread; this class has no state of its own beyond its parts.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from agorafs.cache.content import ContentCache
from agorafs.client.records import Datafile
from agorafs.clock import SYSTEM_CLOCK, Clock
from agorafs.errors import (
    AgoraFSError,
    AlreadyExists,
    BadHandle,
    IsADirectory,
    NotADirectory,
    NotFound,
    NotPermitted,
    ReadOnly,
    StaleLookup,
)
from agorafs.tree.listing import Area, DirKey, Special
from agorafs.tree.names import DOT_AGORA, is_probed
from agorafs.tree.tree import Node, Tree
from agorafs.vfs.aside import NOBODY, Aside, Caller
from agorafs.vfs.attr import Attr, FileType
from agorafs.vfs.attributes import Attributes, as_now
from agorafs.vfs.changes import Changes, Parts, Writing
from agorafs.vfs.complaints import Complaints
from agorafs.vfs.dot_agora import DotAgora
from agorafs.vfs.files import Files, Opened, wants_writing
from agorafs.vfs.handles import HandleTable, OpenFile
from agorafs.vfs.hidden import Hidden, is_hidden_name
from agorafs.vfs.merged import Local, Merged
from agorafs.vfs.objects import Objects
from agorafs.vfs.path_xattrs import PathXattrs
from agorafs.vfs.renames import Renames
from agorafs.vfs.views.changing import ViewChanges
from agorafs.vfs.views.view import View
from agorafs.vfs.whiteouts import Whiteouts
from agorafs.vfs.xattrs import Xattrs

# How often a place is looked at again that was stored while something was to be made there.
_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Capacity:
    """``statfs``: sizes in bytes and numbers of files; what the archive has is not known, nor asked for.

    ``free_bytes`` is what can be written before some of it must have reached the server, the rest of
    ``total_bytes`` what waits for that.
    """

    total_bytes: int = 1 << 50
    free_bytes: int = 1 << 50
    total_files: int = 1 << 40
    free_files: int = 1 << 40
    block_bytes: int = 4096
    name_max_bytes: int = 255


class FileSystem:
    """See the module docstring."""

    def __init__(
        self,
        tree: Tree,
        contents: ContentCache,
        dot_agora: DotAgora,
        *,
        archive_url: str,
        umask: int,
        started_ns: int,
        clock: Clock = SYSTEM_CLOCK,
        writing: Writing | None = None,
        views: Mapping[Area, View] | None = None,
        annotations: Xattrs | None = None,
    ) -> None:
        """Build it.

        Args:
            started_ns: The time shown where the archive knows none.
            views: The areas that have one.
            annotations: The attributes that say what people say; None: there are none.
        """
        self._tree = tree
        self._contents = contents
        self._dot_agora = dot_agora
        self._started_ns = started_ns
        self._handles = HandleTable(clock)
        self._complaints = Complaints()
        self._writing = writing
        whiteouts = Whiteouts(clock, self._complaints.note)
        uploads = None if writing is None else writing.uploads
        self._merged = Merged(tree, uploads, whiteouts, archive_url)
        self._objects = Objects(tree, self._resolve, self.readlink)
        self._views = ViewChanges(views or {}, tree, self._objects)
        self._attributes = Attributes(
            tree, self._merged, umask=umask, started_ns=started_ns, special=self._views.file
        )
        self._xattrs = PathXattrs(self._resolve, self._merged, uploads, annotations, self._complaints)
        self._files = Files(
            self._merged,
            self._attributes,
            contents,
            self._handles,
            uploads,
            resolve=self._resolve,
            doubt=lambda path: tree.doubt(_parts(path)),
        )
        self._changes: Changes | None = None
        self._renames: Renames | None = None
        if writing is not None and not writing.is_read_only:
            parts = Parts(
                tree,
                self._merged,
                whiteouts,
                Hidden(writing.uploads, self._complaints.note, clock),
                self._handles,
                writing,
                contents.open,
                self._objects,
                dot_agora.refresh,
                started_ns,
            )
            self._changes = Changes(parts)
            self._renames = Renames(parts, self._changes)

    @property
    def merged(self) -> Merged:
        """The archive and the local nodes as one tree."""
        return self._merged

    @property
    def objects(self) -> Objects:
        """Which objects paths mean."""
        return self._objects

    # -- looking -------------------------------------------------------------------------------------

    def getattr(self, path: str, handle: int | None = None) -> Attr:
        """Return the attributes of *path*, or of what *handle* opened.

        Raises:
            StaleHandle: The path of *handle* has got another version since, whose attributes these are not.
        """
        if handle is not None:
            file = self._handles.get(handle)
            file.require_fresh()
            if file.node is None and file.writable is not None and file.version is None:
                return replace(file.attr, size=file.writable.size)
            return file.attr if file.node is None else as_now(file.attr, file.node)
        hidden = self._hidden(path)
        if hidden is not None:
            return hidden.attr if hidden.node is None else as_now(hidden.attr, hidden.node)
        found = self._resolve(path)
        attr = self._attributes.of(found)
        if isinstance(found, Local):
            if not found.node.is_directory:
                self._files.follow(path, found.node, attr)
                self._handles.tell(path, attr, found.node.token)
        elif isinstance(found, Node) and isinstance(found.entry.target, Datafile):
            self._handles.tell(path, attr, self._merged.known(found).token)
        return attr

    def readdir(self, path: str) -> list[tuple[str, Attr]]:
        """Return (name, attributes) of everything in the directory *path*, without ``.`` and ``..``.

        Who hands the attributes on to somebody who keeps them asks ``may_tell`` at that moment. Below ``.agora``
        only the types are right: to know sizes would cost requests, and one that fails would hide all.
        """
        found = self._resolve(path)
        if isinstance(found, Aside):
            if found.entries is None:
                raise NotADirectory(f"{path} is not a directory")
            return [
                (name, Attr(ino, file_type, 0, self._started_ns, 0)) for name, file_type, ino in found.entries
            ]
        children = self._merged.children(found)
        for _ in range(_ATTEMPTS):
            if self._merged.is_there(found):
                break
            found = self._resolve(path)  # it has become a folder of the server
            assert not isinstance(found, Aside)
            children = self._merged.children(found)
        return [
            (child.node.name if isinstance(child, Local) else child.entry.name, self._attributes.of(child))
            for child in children
        ]

    def may_tell(self, path: str, attr: Attr) -> bool:
        """Tell whether *attr*, which ``readdir`` gave for *path* some time ago, may still be handed on.

        Not when something else has been said of that path since: a kernel would cut an open file at the size
        of another.
        """
        return f"/{DOT_AGORA}/" not in path and self._handles.may_tell(path, attr)

    def has_stale_handles(self) -> bool:
        """Tell whether a handle is open whose path has got another version since."""
        return self._handles.has_stale()

    def readlink(self, path: str) -> str:
        """Return the text of the symbolic link *path*."""
        found = self._resolve(path)
        if isinstance(found, Aside):
            if found.link is not None:
                return found.link
        elif isinstance(found, Node) and not isinstance(found.entry.target, (DirKey, Datafile)):
            return self._tree.link_text(found)
        raise NotFound(f"{path} is not a symbolic link")

    def statfs(self) -> Capacity:
        """Return sizes; asks nobody."""
        if self._writing is None:
            return Capacity()
        uploads = self._writing.uploads
        room = uploads.room()
        return Capacity(total_bytes=uploads.spool.used_bytes + room, free_bytes=room)

    def listxattr(self, path: str) -> list[str]:
        """Return the names of the extended attributes of *path*.

        None for a symbolic link: the kernel refuses to read ``user.*`` of one, and ``rsync -X`` and
        ``tar --xattrs`` call it an error when a name that was listed can not be read.
        """
        found = self._resolve(path)
        if self._attributes.of(found).file_type is FileType.LINK:
            return []
        return self._xattrs.names(path, found)

    def getxattr(self, path: str, name: str) -> bytes:
        """Return the extended attribute *name* of *path*."""
        return self._xattrs.get(path, name)

    # -- reading -------------------------------------------------------------------------------------

    def open(
        self,
        path: str,
        flags: int = os.O_RDONLY,
        *,
        after_lookup: bool = False,
        caller: Callable[[], Caller] = lambda: NOBODY,
    ) -> Opened:
        """Open the file *path*; no request.

        Args:
            after_lookup: The caller goes by the attributes that ``getattr`` gave last, as a kernel does.
            caller: Who it is; asked only where it matters.

        Raises:
            StaleLookup: *after_lookup*, and those attributes were of another version than would be opened.
        """
        if not wants_writing(flags):
            return self._files.open(path, flags, after_lookup=after_lookup, caller=caller)
        if not self._is_control(path):
            self._changing(path, "opening it for writing")
        with self._explaining(path):
            return self._files.open(path, flags, after_lookup=after_lookup, caller=caller)

    def read_into(self, handle: int, offset: int, view: memoryview) -> int:
        """Fill *view* from *offset* on; return how many bytes there were. Fewer than asked means end of file."""
        return self._files.read_into(handle, offset, view)

    def read(self, handle: int, offset: int, size: int) -> bytes:
        """Return the bytes ``[offset, offset + size)``, cut at the end of the file."""
        buffer = bytearray(size)
        length = self.read_into(handle, offset, memoryview(buffer))
        return bytes(memoryview(buffer)[:length])

    def release(self, handle: int) -> None:
        """Close *handle*."""
        self._handles.remove(handle)

    # -- changing ------------------------------------------------------------------------------------

    def create(
        self, path: str, flags: int = os.O_RDWR, *, caller: Callable[[], Caller] = lambda: NOBODY
    ) -> Opened:
        """``open`` with ``O_CREAT``: make the file *path* and open it; open what is there meanwhile."""
        changes = self._changing(path, "creating a file")
        with self._explaining(path):
            for _ in range(_ATTEMPTS):
                try:
                    made = self._make_aside(path)
                    if made is not None:
                        return self._files.open_aside(path, made, flags, caller)
                    place, name = changes.free_place(path)
                    replaced = changes.predecessor(place, name)
                    with contextlib.suppress(NotFound):  # the place has just become a folder of the server
                        opened = self._files.create(path, place, name, replaced)
                        node = self._handles.get(opened.handle).node
                        assert node is not None
                        changes.succeeded(place, name, node)
                        return opened
                except AlreadyExists:
                    if flags & os.O_EXCL:
                        raise
                    return self.open(path, flags & ~os.O_CREAT, caller=caller)
            raise NotFound(f"{path}: its directory is gone")

    def write(self, handle: int, offset: int, data: bytes | memoryview) -> int:
        """Put *data* at *offset*; return its length.

        Raises:
            SpoolFull: There is no room; what was written before is safe.
            PermissionDenied: It would change archived data.
        """
        try:
            return self._files.write(handle, offset, data)
        except AgoraFSError as error:  # a value or a command, most often
            self._note_with_directory(self.path_of(handle), error)
            raise

    def truncate(self, path: str, size: int, handle: int | None = None) -> None:
        """Make a file *size* bytes long."""
        if handle is not None:
            self._files.truncate(handle, size)
            return
        opened = self.open(path, os.O_WRONLY)
        try:
            with self._explaining(path):
                self._files.truncate(opened.handle, size)
            self._files.flush(opened.handle)
        finally:
            self.release(opened.handle)

    def allocate(self, handle: int, mode: int, offset: int, length: int) -> None:
        """``fallocate``: make room, so that writing there will not fail for want of it."""
        self._files.allocate(handle, mode, offset, length)

    def flush(self, handle: int) -> None:
        """A program closed a descriptor: what it wrote survives the death of every process from here on."""
        try:
            self._files.flush(handle)
        except AgoraFSError as error:  # what was written as a whole, such as a description
            self._note_with_directory(self.path_of(handle), error)
            raise

    def fsync(self, handle: int) -> None:
        """What was written survives a power cut from here on."""
        self._files.fsync(handle)

    def sync_names(self) -> None:
        """Every change of a name so far survives a power cut from here on."""
        if self._writing is not None:
            self._writing.uploads.sync_names()

    def set_mtime(self, path: str, mtime_ns: int, handle: int | None = None) -> None:
        """Set the time of a local file or directory; of what is stored the archive keeps its own."""
        node = None
        if handle is not None:
            node = self._handles.get(handle).node
        elif (hidden := self._hidden(path)) is not None:
            node = hidden.node
        else:
            self._changing(path, "changing times")
            found = self._resolve(path)
            if isinstance(found, Local):
                node = found.node
        if node is not None and node.borrowed_from is None:
            assert self._writing is not None
            self._writing.uploads.set_mtime(node, mtime_ns)

    def ignore_change(self, path: str, what: str) -> None:
        """Take a change that the archive has nothing for, such as of permissions, and drop it."""
        self._changing(path, what)
        if self._hidden(path) is None:
            self._resolve(path)

    def set_xattr(self, path: str, name: str, value: bytes = b"", flags: int = 0) -> None:
        """``setxattr``: see ``xattrs`` for what is stored, ``said`` for what is not stored yet.

        Raises:
            NotSupported: It would be one of agorafs's own, and there is none of this name.
        """
        self._changing(path, f"setting the attribute {name}")
        if self._hidden(path) is not None:
            return
        with self._explaining(path):
            self._xattrs.set(path, name, value, flags)

    def remove_xattr(self, path: str, name: str) -> None:
        """``removexattr``: of the others, of which none was kept, the removal is taken and dropped.

        Also of agorafs's own: ``rsync -X`` removes what its original does not have.
        """
        self._changing(path, f"removing the attribute {name}")
        if self._hidden(path) is not None:
            return
        with self._explaining(path):
            self._xattrs.remove(path, name)

    def make_directory(self, path: str) -> None:
        """``mkdir``."""
        changes = self._changing(path, "creating a directory")
        with self._explaining(path):
            if not self._views.make_directory(path):
                changes.make_directory(path)

    def make_link(self, path: str, text: str) -> None:
        """``symlink``: make *path* a link with the target *text*."""
        changes = self._changing(path, "creating a symbolic link")
        with self._explaining(path):
            if not self._views.make_link(path, text):
                changes.make_link(path, text)

    def refuse_to_make(self, path: str, what: str) -> NoReturn:
        """Refuse to make something that the archive has nothing like: a hard link, a device."""
        self._changing(path, f"creating {what}")
        with self._explaining(path):
            raise NotPermitted(f"{path}: the archive has nothing like {what}")

    def remove(self, path: str) -> None:
        """``unlink``."""
        changes = self._changing(path, "removing a file")
        with self._explaining(path):
            base = self._beside(path, _parts(path))
            if base is not None:
                self._dot_agora.remove(*base)
            elif not self._views.remove(path):
                changes.remove_file(path)

    def remove_directory(self, path: str) -> None:
        """``rmdir``."""
        changes = self._changing(path, "removing a directory")
        with self._explaining(path):
            if not self._views.remove_directory(path):
                changes.remove_directory(path)

    def rename(self, old: str, new: str, flags: int = 0) -> None:
        """``renameat2``."""
        self._changing(old, "renaming")
        assert self._renames is not None
        with self._explaining(old):
            if not self._views.rename(old, new, flags):
                self._renames.rename(old, new, flags)

    def refuse_change(self, path: str, what: str) -> NoReturn:
        """Refuse a change of *path*, as on a read-only file system."""
        with self._explaining(path):
            raise ReadOnly(f"{path}: {what} is refused, agorafs mounts the archive read-only")

    def _changing(self, path: str, what: str) -> Changes:
        if self._changes is None:
            self.refuse_change(path, what)
        return self._changes

    @contextlib.contextmanager
    def _explaining(self, path: str) -> Iterator[None]:
        """Keep the reason of a refusal where it can be read back: as ``user.agora.error``.

        The directory carries it too, since what was to be created has no attributes.
        """
        try:
            yield
        except (AlreadyExists, NotFound, NotADirectory, IsADirectory, StaleLookup):
            raise  # these say it all
        except AgoraFSError as error:
            self._note_with_directory(path, error)
            raise

    def _note_with_directory(self, path: str, error: AgoraFSError) -> None:
        self._complaints.note(path.rpartition("/")[0] or "/", error)
        self._complaints.note(path, error)

    # -- upkeep --------------------------------------------------------------------------------------

    def tidy_up(self) -> None:
        """Remove what was removed while it was open and is open no more, should the front end not do it."""
        if self._changes is not None:
            self._changes.finish_abandoned()

    def unfinished_removals(self) -> int:
        """Return how many files are still to be removed although nobody has them open."""
        return 0 if self._changes is None else self._changes.count_abandoned()

    def mounted_at(self, mountpoint: str) -> None:
        """Learn where absolute links lead inside."""
        self._objects.mountpoint = mountpoint

    def forget_places(self) -> None:
        """Paths have changed: forget where objects are."""
        self._dot_agora.refresh()

    def refresh(self, path: str | None) -> list[str]:
        """Forget what is known of *path* and below (None: everything); return paths that may look different."""
        self._dot_agora.refresh()
        if path is None:
            return self._tree.refresh_all()
        return self._tree.refresh(_parts(path))

    def note_failure(self, path: str, error: AgoraFSError) -> None:
        """Remember why an operation on *path* failed."""
        self._complaints.note(path, error)

    def path_of(self, handle: int) -> str:
        """Return the path of *handle* for a message; empty if it has none."""
        with contextlib.suppress(BadHandle):
            return self._handles.get(handle).path or ""
        return ""

    def status(self) -> Mapping[str, Any]:
        """Return what ``agorafs status`` shows of this layer."""
        return {
            "open_files": self._handles.count(),
            "directory_entries": self._tree.entries_in_memory(),
            "recent_errors": self._complaints.recent(),
        }

    def close(self) -> None:
        """Close every handle and end the background threads."""
        self._handles.close_all()
        self._dot_agora.close()
        self._tree.close()

    # -- how -----------------------------------------------------------------------------------------

    def _resolve(self, path: str) -> Node | Local | Aside:
        parts = _parts(path)
        base = self._beside(path, parts)
        if base is not None:
            return self._dot_agora.resolve(*base)
        found = self._resolve_plain(path, parts)
        if isinstance(found, Node) and isinstance(found.entry.target, Special):
            return self._views.file(found)
        return found

    def _beside(self, path: str, parts: list[str]) -> tuple[Node, list[str]] | None:
        """Return the directory and the rest of a path below ``.agora``, None for others."""
        if DOT_AGORA not in parts:
            return None
        at = parts.index(DOT_AGORA)
        base = self._merged.resolve(parts[:at])
        if isinstance(base, Local):
            raise NotFound(f"{path} does not exist: {base.path} is not stored yet")
        return base, parts[at + 1 :]

    def _make_aside(self, path: str) -> Aside | None:
        """Return what ``O_CREAT`` makes where files are not uploads, None elsewhere."""
        base = self._beside(path, _parts(path))
        if base is None:
            return self._views.make_file(path)
        if not base[1]:
            return None  # the name itself is refused like other names that nothing can have
        with contextlib.suppress(NotFound):
            self._dot_agora.resolve(*base)
            raise AlreadyExists(f"{path} exists already")
        return self._dot_agora.make(*base)

    @staticmethod
    def _is_control(path: str) -> bool:
        """Tell whether *path* is written by who asks something, which is allowed where nothing can be changed."""
        return path.endswith(f"/{DOT_AGORA}/control")

    def _resolve_plain(self, path: str, parts: list[str]) -> Node | Local:
        if parts and is_probed(parts[-1]) and self._merged.is_known_missing(parts):
            raise NotFound(f"{path} does not exist")
        return self._merged.resolve(parts)

    def _hidden(self, path: str) -> OpenFile | None:
        """Return a handle of *path* if that is the name of a file that was removed while it was open."""
        return self._handles.at(path) if is_hidden_name(path.rpartition("/")[2]) else None


def _parts(path: str) -> list[str]:
    """Return the names of *path* from the root down."""
    return [part for part in path.split("/") if part]
