"""File operations in POSIX words: what ``open(2)``, ``stat(2)`` and ``read(2)`` mean on an archive.

Place.  A front end (FUSE, fsspec) converts its arguments, calls one method here, and converts the result or the
error. Paths are absolute below the mount point; bytes that are no UTF-8 come as surrogate escapes.

What holds
    * Attributes are true before open; they come from the listing and cost no request beyond it.
    * A handle reads the version that was opened, or an error (``vfs.handles``, ``cache.content``).
    * ``statfs`` and the names that desktops probe for never wait.
    * Nothing can be changed here yet: each attempt is refused with ``ReadOnly`` and a reason.

Threads.  Every method may be called from any thread; this class has no state of its own beyond its parts.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from agorafs.cache.content import ContentCache, ContentRef
from agorafs.client.records import Datafile
from agorafs.clock import SYSTEM_CLOCK, Clock
from agorafs.errors import (
    AgoraFSError,
    IntegrityError,
    IsADirectory,
    NoSuchXattr,
    NotADirectory,
    NotFound,
    ReadOnly,
    StaleHandle,
    StaleLookup,
)
from agorafs.tree.listing import Area, DirKey
from agorafs.tree.names import DOT_AGORA
from agorafs.tree.tree import Node, Tree
from agorafs.vfs import xattrs
from agorafs.vfs.attr import DIRECTORY_SIZE_BYTES, Attr, FileType, permissions
from agorafs.vfs.complaints import Complaints
from agorafs.vfs.dot_agora import Aside, DotAgora
from agorafs.vfs.handles import HandleTable, OpenFile, Version

# Names that file managers, indexers and version control look for in every directory. They exist only if a
# listing in memory says so; nobody's looking is worth a request, or a wait for a fresh listing.
PROBED_NAMES = frozenset(
    {
        ".Trash", ".Trashes", ".hidden", ".directory", ".sh_thumbnails", ".xdg-volume-info", ".nomedia",
        ".trackerignore", ".metadata_never_index", ".DS_Store", ".localized", ".git", ".hg", ".svn", ".bzr",
        "autorun.inf", "AUTORUN.INF", "desktop.ini", "Desktop.ini", "Thumbs.db", "layout_config.json",
    }
)  # fmt: skip
PROBED_PREFIXES = (".Trash-", "._", ".goutputstream-", ".fuse_hidden", ".nfs")

# Directories whose contents the archive lets its users change; the others are lists that it makes itself.
_CHANGEABLE_AREAS = frozenset({Area.FOLDER, Area.EXAM, Area.SERIES})


@dataclass(frozen=True, slots=True)
class Opened:
    """``keep_pages``: pages that the kernel has of this path are still right. ``direct``: it must not keep any.

    ``vfs.handles`` says why.
    """

    handle: int
    keep_pages: bool
    direct: bool


@dataclass(frozen=True, slots=True)
class Capacity:
    """``statfs``: sizes in bytes and numbers of files, fixed so that nobody ever waits for them."""

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
    ) -> None:
        """*started_ns* is the time shown where the archive knows none."""
        self._tree = tree
        self._contents = contents
        self._dot_agora = dot_agora
        self._archive_url = archive_url
        self._umask = umask
        self._started_ns = started_ns
        self._handles = HandleTable(clock)
        self._complaints = Complaints()

    # -- looking -------------------------------------------------------------------------------------

    def getattr(self, path: str, handle: int | None = None) -> Attr:
        """Return the attributes of *path*, or of what *handle* opened.

        Raises:
            StaleHandle: The path of *handle* has got another version since, whose attributes these are not.
        """
        if handle is not None:
            file = self._handles.get(handle)
            file.require_fresh()
            return file.attr
        found = self._resolve(path)
        attr = self._attr(found)
        if isinstance(found, Node) and isinstance(found.entry.target, Datafile):
            self._handles.tell(path, attr, self._content_ref(found.entry.target).key)
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
        return [(node.entry.name, self._attr(node)) for node in self._tree.children(found)]

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
        elif not isinstance(found.entry.target, (DirKey, Datafile)):
            return self._tree.link_text(found)
        raise NotFound(f"{path} is not a symbolic link")

    def statfs(self) -> Capacity:
        """Return sizes that never change."""
        return Capacity()

    def listxattr(self, path: str) -> list[str]:
        """Return the names of the extended attributes of *path*.

        None for a symbolic link: the kernel refuses to read ``user.*`` of one, and ``rsync -X`` and
        ``tar --xattrs`` call it an error when a name that was listed can not be read.
        """
        found = self._resolve(path)
        if self._attr(found).file_type is FileType.LINK:
            return []
        return list(self._xattrs(path, found))

    def getxattr(self, path: str, name: str) -> bytes:
        """Return the extended attribute *name* of *path*."""
        if name.startswith(xattrs.PREFIX):
            value = self._xattrs(path, self._resolve(path)).get(name)
            if value is not None:
                return value.encode(errors="replace")  # a server may send half a character
        raise NoSuchXattr(f"{path} has no attribute {name}")

    # -- reading -------------------------------------------------------------------------------------

    def open(self, path: str, flags: int = os.O_RDONLY, *, after_lookup: bool = False) -> Opened:
        """Open the file *path*; no request.

        Args:
            after_lookup: The caller goes by the attributes that ``getattr`` gave last, as a kernel does.

        Raises:
            StaleLookup: *after_lookup*, and those attributes were of another version than would be opened.
        """
        if flags & os.O_ACCMODE != os.O_RDONLY or flags & os.O_TRUNC:
            self.refuse_change(path, "opening it for writing")
        found = self._resolve(path)
        attr = self._attr(found)
        if attr.file_type is FileType.DIRECTORY:
            raise IsADirectory(f"{path} is a directory")
        if isinstance(found, Aside):
            return Opened(*self._handles.add(OpenFile(path, attr, None, found.open()), after_lookup=False))
        datafile = found.entry.target
        if not isinstance(datafile, Datafile):
            raise NotFound(f"{path} is not a file")
        ref = self._content_ref(datafile)
        content = self._contents.open(ref)
        file = OpenFile(path, attr, Version(ref.key, content.generation), content)
        try:
            return Opened(*self._handles.add(file, after_lookup=after_lookup))
        except StaleLookup:
            content.close()
            raise

    def read_into(self, handle: int, offset: int, view: memoryview) -> int:
        """Fill *view* from *offset* on; return how many bytes there were. Fewer than asked means end of file."""
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

    def read(self, handle: int, offset: int, size: int) -> bytes:
        """Return the bytes ``[offset, offset + size)``, cut at the end of the file."""
        buffer = bytearray(size)
        length = self.read_into(handle, offset, memoryview(buffer))
        return bytes(memoryview(buffer)[:length])

    def release(self, handle: int) -> None:
        """Close *handle*."""
        self._handles.remove(handle)

    # -- changing ------------------------------------------------------------------------------------

    def refuse_change(self, path: str, what: str) -> NoReturn:
        """Refuse a change of *path*; the reason can be read back as ``user.agora.error``.

        The directory carries it too, since what was to be created has no attributes.
        """
        error = ReadOnly(f"{path}: {what} is refused, agorafs mounts the archive read-only")
        self._complaints.note(path.rpartition("/")[0] or "/", error)
        self._complaints.note(path, error)
        raise error

    # -- upkeep --------------------------------------------------------------------------------------

    def refresh(self, path: str | None) -> list[str]:
        """Forget what is known of *path* and below (None: everything); return paths that may look different."""
        self._dot_agora.refresh()
        if path is None:
            return self._tree.refresh_all()
        return self._tree.refresh(_parts(path))

    def note_failure(self, path: str, error: AgoraFSError) -> None:
        """Remember why an operation on *path* failed."""
        self._complaints.note(path, error)

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

    def _resolve(self, path: str) -> Node | Aside:
        parts = _parts(path)
        if DOT_AGORA in parts:
            at = parts.index(DOT_AGORA)
            return self._dot_agora.resolve(self._tree.resolve(parts[:at]), parts[at + 1 :])
        if parts and _is_probed(parts[-1]):
            parent = self._tree.resolve_known(parts[:-1])
            known = None if parent is None else self._tree.known_listing(parent)
            if known is not None and parts[-1] not in known.entries:
                raise NotFound(f"{path} does not exist")
        return self._tree.resolve(parts)

    def _has_changed(self, file: OpenFile) -> bool:
        """Tell whether *file*, whose bytes are not as listed, is listed differently now.

        Asks once per handle. However that goes, the directory shows the new version at the next look.
        """
        if file.version is None or file.was_doubted:
            return False
        file.was_doubted = True
        try:
            self._tree.doubt(_parts(file.path))
            found = self._resolve(file.path)
        except NotFound:
            return True
        except AgoraFSError:
            return False
        datafile = found.entry.target if isinstance(found, Node) else None
        return not isinstance(datafile, Datafile) or self._content_ref(datafile).key != file.version.content

    def _content_ref(self, datafile: Datafile) -> ContentRef:
        return ContentRef(datafile.id, datafile.size, datafile.sha1, self._archive_url, datafile.modified_ns)

    def _attr(self, found: Node | Aside) -> Attr:
        if isinstance(found, Aside):
            return self._aside_attr(found)
        entry = found.entry
        target = entry.target
        if isinstance(target, DirKey):
            file_type, size = FileType.DIRECTORY, DIRECTORY_SIZE_BYTES
            may_change = found.may_change and target.area in _CHANGEABLE_AREAS
        elif isinstance(target, Datafile):
            file_type, size = FileType.FILE, target.size
            # Only a loose file can be replaced: the archive does not change under a reader.
            directory = found.parent and found.parent.entry.target
            may_change = found.may_change and isinstance(directory, DirKey) and directory.area is Area.FOLDER
        else:
            file_type, may_change = FileType.LINK, True
            size = len(self._tree.link_text(found).encode(errors="surrogateescape"))
        return Attr(
            entry.ino,
            file_type,
            size,
            self._started_ns if entry.mtime_ns is None else entry.mtime_ns,
            permissions(file_type, may_change=may_change, umask=self._umask),
        )

    def _aside_attr(self, aside: Aside) -> Attr:
        bits = permissions(aside.file_type, may_change=False, umask=self._umask)
        mtime_ns = self._started_ns if aside.mtime_ns is None else aside.mtime_ns
        return Attr(aside.ino, aside.file_type, aside.size, mtime_ns, bits)

    def _xattrs(self, path: str, found: Node | Aside) -> dict[str, str]:
        if isinstance(found, Aside):
            return {}
        return xattrs.attributes(found, self._complaints.reason(path))


def _parts(path: str) -> list[str]:
    """Return the names of *path* from the root down."""
    return [part for part in path.split("/") if part]


def _is_probed(name: str) -> bool:
    return name in PROBED_NAMES or name.startswith(PROBED_PREFIXES)
