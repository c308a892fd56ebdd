"""File operations in POSIX words: what ``open(2)``, ``stat(2)`` and ``read(2)`` mean on an archive.

Place.  A front end (FUSE, fsspec) converts its arguments, calls one method here, and converts the result or the
error. Paths are absolute below the mount point; bytes that are no UTF-8 come as surrogate escapes.

What holds
    * Attributes are true before open; they come from the listing and cost no request beyond it.
    * A handle reads the version that was opened, or an error (``vfs.handles``, ``cache.content``).
    * The names that desktops probe for never wait.
    * What was written is there under its name from ``open`` on (``vfs.merged``); what can not be changed is refused
      before any byte is taken, with a reason that can be read back as ``user.agora.error`` (``vfs.rules``,
      ``vfs.changes``, ``vfs.renames``). A mount without ``Writing``, or a read-only one, refuses every change.
    * Permissions, owners, and attributes that the archive has nothing for are taken and dropped: no copy fails for
      them, and none reaches the server.

Threads.  Every method may be called from any thread; this class has no state of its own beyond its parts.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from agorafs.cache.content import ContentCache, OpenContent
from agorafs.client.records import Datafile
from agorafs.clock import SYSTEM_CLOCK, Clock
from agorafs.errors import (
    AgoraFSError,
    AlreadyExists,
    BadHandle,
    IntegrityError,
    IsADirectory,
    NoSuchXattr,
    NotADirectory,
    NotFound,
    NotPermitted,
    NotSupported,
    PermissionDenied,
    ReadOnly,
    StaleHandle,
    StaleLookup,
)
from agorafs.tree.listing import DirKey
from agorafs.tree.names import DOT_AGORA
from agorafs.tree.tree import Node, Tree
from agorafs.uploads.nodes import LocalNode
from agorafs.uploads.values import Anchor
from agorafs.vfs import rules, xattrs
from agorafs.vfs.attr import DIRECTORY_SIZE_BYTES, Attr, FileType, permissions
from agorafs.vfs.changes import Changes, Parts, Writing
from agorafs.vfs.complaints import Complaints
from agorafs.vfs.dot_agora import Aside, DotAgora
from agorafs.vfs.handles import HandleTable, OpenFile, Version, Writable
from agorafs.vfs.merged import Local, Merged
from agorafs.vfs.renames import Renames
from agorafs.vfs.sources import Archived, Lent, fill_from
from agorafs.vfs.whiteouts import Whiteouts

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

# How often a file is opened again that was stored, or began to be changed, while it was being opened.
_ATTEMPTS = 3


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
    """``statfs``: sizes in bytes and numbers of files; what the archive has is not known, nor asked for.

    ``free_bytes`` is what can be written before some of it must have reached the server.
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
    ) -> None:
        """*started_ns* is the time shown where the archive knows none."""
        self._tree = tree
        self._contents = contents
        self._dot_agora = dot_agora
        self._umask = umask
        self._started_ns = started_ns
        self._handles = HandleTable(clock)
        self._complaints = Complaints()
        self._writing = writing
        whiteouts = Whiteouts(clock, self._complaints.note)
        uploads = None if writing is None else writing.uploads
        self._merged = Merged(tree, uploads, whiteouts, archive_url)
        self._changes: Changes | None = None
        self._renames: Renames | None = None
        if writing is not None and not writing.is_read_only:
            parts = Parts(
                tree,
                self._merged,
                whiteouts,
                self._handles,
                writing,
                contents.open,
                self._resolve,
                self.readlink,
                dot_agora.refresh,
                started_ns,
            )
            self._changes = Changes(parts)
            self._renames = Renames(parts, self._changes)

    @property
    def merged(self) -> Merged:
        """The archive and the local nodes as one tree."""
        return self._merged

    # -- looking -------------------------------------------------------------------------------------

    def getattr(self, path: str, handle: int | None = None) -> Attr:
        """Return the attributes of *path*, or of what *handle* opened.

        Raises:
            StaleHandle: The path of *handle* has got another version since, whose attributes these are not.
        """
        if handle is not None:
            file = self._handles.get(handle)
            file.require_fresh()
            return file.attr if file.node is None else _as_now(file.attr, file.node)
        found = self._resolve(path)
        attr = self._attr(found)
        if isinstance(found, Local):
            if not found.node.is_directory:
                self._follow(path, found.node, attr)
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
        return [
            (child.node.name if isinstance(child, Local) else child.entry.name, self._attr(child))
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
        return Capacity(free_bytes=self._writing.uploads.room())

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
        is_writing = flags & os.O_ACCMODE != os.O_RDONLY or bool(flags & os.O_TRUNC)
        if is_writing and self._changes is None:
            self.refuse_change(path, "opening it for writing")
        for _ in range(_ATTEMPTS):
            found = self._resolve(path)
            attr = self._attr(found)
            if attr.file_type is FileType.DIRECTORY:
                raise IsADirectory(f"{path} is a directory")
            if isinstance(found, Aside):
                if is_writing:
                    raise PermissionDenied(f"{path}: what is below {DOT_AGORA} can not be changed")
                file = OpenFile(path, attr, None, found.open())
                return Opened(*self._handles.add(file, after_lookup=False))
            if is_writing:
                rules.check_found(found)
            try:
                stored = self._merged.stored(found)
                if stored is not None:
                    return self._open_stored(path, attr, stored, flags, is_writing, after_lookup)
                assert isinstance(found, Local)
                return self._open_local(path, attr, found.node, flags, is_writing, after_lookup)
            except NotFound:
                if not isinstance(found, Local):
                    raise
            except StaleLookup:
                if after_lookup:
                    raise
        raise NotFound(f"{path} does not exist any more")

    def _open_local(
        self, path: str, attr: Attr, node: LocalNode, flags: int, is_writing: bool, after_lookup: bool
    ) -> Opened:
        """Open a local node; ``NotFound`` if it was stored, or removed, meanwhile."""
        assert self._writing is not None
        source = self._writing.uploads.open(node, writing=is_writing)
        self._follow(path, node, attr)
        file = OpenFile(path, attr, Version(node.token, 0), source, node=node)
        if is_writing:
            file.writable = source
        return self._enter(file, flags, after_lookup)

    def _open_stored(
        self, path: str, attr: Attr, found: Node, flags: int, is_writing: bool, after_lookup: bool
    ) -> Opened:
        datafile = found.entry.target
        if not isinstance(datafile, Datafile):
            raise NotFound(f"{path} is not a file")
        ref = self._merged.content_ref(datafile)
        content = self._contents.open(ref)
        file = OpenFile(path, attr, Version(self._merged.known(found).token, content.generation), content)
        if is_writing:
            try:
                self._let_write(file, found)
            except BaseException:
                file.close()
                raise
        return self._enter(file, flags, after_lookup)

    def _let_write(self, file: OpenFile, found: Node) -> None:
        """Make *file*, a handle on the stored file *found*, one that may write as far as that goes."""
        content, datafile, version = file.source, found.entry.target, file.version
        assert isinstance(content, OpenContent) and isinstance(datafile, Datafile) and version is not None
        replaced = rules.replaceable(found)
        if replaced is None:
            file.source = file.writable = Archived(content, functools.partial(rules.why_archived, found))
            return
        assert self._writing is not None and found.parent is not None
        uploads = self._writing.uploads
        folder = rules.folder_of(found.parent)
        assert folder is not None
        ref = content.ref
        node = uploads.borrow(
            folder,
            found.entry.name,
            replaces=replaced,
            size=datafile.size,
            mtime_ns=file.attr.mtime_ns,
            ino=file.attr.ino,
            token=version.content,
            fill=fill_from(functools.partial(self._contents.open, ref)),
        )
        file.source = file.writable = Lent(content, uploads.open(node, writing=True))
        file.node = node

    def _enter(self, file: OpenFile, flags: int, after_lookup: bool) -> Opened:
        """Enter *file* into the table, empty if its opener wants it so; close it if that fails."""
        try:
            entered = self._handles.add(file, after_lookup=after_lookup)
        except StaleLookup:
            file.close()
            raise
        if flags & os.O_TRUNC:
            try:
                self.truncate("", 0, entered.handle)
            except BaseException:
                self._handles.remove(entered.handle)
                raise
        return Opened(*entered)

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

    def create(self, path: str, flags: int = os.O_RDWR) -> Opened:
        """``open`` with ``O_CREAT``: make the file *path* and open it; open what is there meanwhile."""
        changes = self._changing(path, "creating a file")
        assert self._writing is not None
        with self._explaining(path):
            try:
                place, name, _ = changes.free_place(path)
                aside = self._writing.uploads.aside_of(place, name) if isinstance(place, Anchor) else None
                replaced = None if aside is None else aside.takes_place_of
                node = self._writing.uploads.create(place, name, replaces=replaced)
            except AlreadyExists:
                if flags & os.O_EXCL:
                    raise
                return self.open(path, flags & ~os.O_CREAT)
            source = self._writing.uploads.open(node, writing=True)
            attr = self._local_attr(node, may_change=True)
            file = OpenFile(path, attr, Version(node.token, 0), source, source, node)
            return Opened(*self._handles.add(file, after_lookup=False))

    def write(self, handle: int, offset: int, data: bytes | memoryview) -> int:
        """Put *data* at *offset*; return its length.

        Raises:
            SpoolFull: There is no room; what was written before is safe.
            PermissionDenied: It would change archived data.
        """
        file = self._handles.get(handle)
        length = self._writable(file).write(offset, data)
        self._note_change(file)
        return length

    def truncate(self, path: str, size: int, handle: int | None = None) -> None:
        """Make a file *size* bytes long."""
        if handle is None:
            with self._explaining(path):
                opened = self.open(path, os.O_WRONLY)
                try:
                    self.truncate(path, size, opened.handle)
                    self.flush(opened.handle)
                finally:
                    self.release(opened.handle)
            return
        file = self._handles.get(handle)
        with self._explaining(file.path or path):
            self._writable(file).truncate(size)
        self._note_change(file)

    def allocate(self, handle: int, mode: int, offset: int, length: int) -> None:
        """``fallocate``: make room, so that writing there will not fail for want of it."""
        file = self._handles.get(handle)
        self._writable(file).allocate(mode, offset, length)
        self._note_change(file)

    def flush(self, handle: int) -> None:
        """A program closed a descriptor: what it wrote survives the death of every process from here on."""
        file = self._handles.get(handle)
        if file.writable is not None:
            file.writable.flush()

    def fsync(self, handle: int) -> None:
        """What was written survives a power cut from here on."""
        file = self._handles.get(handle)
        if file.writable is not None:
            file.writable.fsync()

    def set_mtime(self, path: str, mtime_ns: int, handle: int | None = None) -> None:
        """Set the time of a local file or directory; of what is stored the archive keeps its own."""
        node = None
        if handle is not None:
            node = self._handles.get(handle).node
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
        self._resolve(path)

    def set_xattr(self, path: str, name: str) -> None:
        """Take an extended attribute and drop it (see ``xattrs``).

        Raises:
            NotSupported: It would be one of agorafs's own, and there is none of this name.
        """
        if name.startswith(xattrs.PREFIX) and name not in xattrs.OWN:
            raise NotSupported(f"{path}: there is no attribute {name}")
        self.ignore_change(path, f"setting the attribute {name}")

    def remove_xattr(self, path: str, name: str) -> None:
        """Take the removal of an extended attribute that was never kept.

        Raises:
            NotSupported: It is one of agorafs's own.
        """
        if name.startswith(xattrs.PREFIX):
            raise NotSupported(f"{path}: {name} says what is so and can not be removed")
        self.ignore_change(path, f"removing the attribute {name}")

    def make_directory(self, path: str) -> None:
        """``mkdir``."""
        changes = self._changing(path, "creating a directory")
        with self._explaining(path):
            changes.make_directory(path)

    def make_link(self, path: str, text: str) -> None:
        """``symlink``: make *path* a link with the target *text*."""
        changes = self._changing(path, "creating a symbolic link")
        with self._explaining(path):
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
            changes.remove_file(path)

    def remove_directory(self, path: str) -> None:
        """``rmdir``."""
        changes = self._changing(path, "removing a directory")
        with self._explaining(path):
            changes.remove_directory(path)

    def rename(self, old: str, new: str, flags: int = 0) -> None:
        """``renameat2``."""
        self._changing(old, "renaming")
        assert self._renames is not None
        with self._explaining(old):
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
            self._complaints.note(path.rpartition("/")[0] or "/", error)
            self._complaints.note(path, error)
            raise

    def _writable(self, file: OpenFile) -> Writable:
        file.require_fresh()
        if file.writable is None:
            raise BadHandle(f"{file.path} is not open for writing")
        return file.writable

    def _note_change(self, file: OpenFile) -> None:
        """After a change through *file*: let all handles of its path see it."""
        node, path = file.node, file.path
        if (
            node is not None
            and path is not None
            and file.version is not None
            and file.version.content != node.token
        ):
            self._follow(path, node, _as_now(file.attr, node))

    def _follow(self, path: str, node: LocalNode, attr: Attr) -> None:
        assert self._writing is not None
        open_reader = functools.partial(self._writing.uploads.open, node, writing=False)
        self._handles.follow(path, node, attr, open_reader)

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
        if DOT_AGORA in parts:
            at = parts.index(DOT_AGORA)
            base = self._merged.resolve(parts[:at])
            if isinstance(base, Local):
                raise NotFound(f"{path} does not exist: {base.path} is not stored yet")
            return self._dot_agora.resolve(base, parts[at + 1 :])
        if parts and _is_probed(parts[-1]) and self._merged.is_known_missing(parts):
            raise NotFound(f"{path} does not exist")
        return self._merged.resolve(parts)

    def _has_changed(self, file: OpenFile) -> bool:
        """Tell whether *file*, whose bytes are not as listed, is listed differently now.

        Asks once per handle. However that goes, the directory shows the new version at the next look.
        """
        if file.version is None or file.path is None or file.was_doubted:
            return False
        file.was_doubted = True
        try:
            self._tree.doubt(_parts(file.path))
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

    def _attr(self, found: Node | Local | Aside) -> Attr:
        if isinstance(found, Aside):
            return self._aside_attr(found)
        if isinstance(found, Local):
            return self._local_attr(found.node, may_change=found.below.may_change)
        known = self._merged.known(found)
        target = found.entry.target
        if isinstance(target, DirKey):
            file_type, size = FileType.DIRECTORY, DIRECTORY_SIZE_BYTES
            may_change = found.may_change and target.area in rules.CHANGEABLE_AREAS
        elif isinstance(target, Datafile):
            # Archived data too: programs open for writing what they only read (see ``sources``).
            file_type, size, may_change = FileType.FILE, target.size, found.may_change
        else:
            file_type, may_change = FileType.LINK, True
            size = len(self._tree.link_text(found).encode(errors="surrogateescape"))
        return Attr(
            known.ino,
            file_type,
            size,
            self._started_ns if known.mtime_ns is None else known.mtime_ns,
            permissions(file_type, may_change=may_change, umask=self._umask),
        )

    def _local_attr(self, node: LocalNode, *, may_change: bool) -> Attr:
        file_type = FileType.DIRECTORY if node.is_directory else FileType.FILE
        bits = permissions(file_type, may_change=may_change, umask=self._umask)
        if node.is_directory:
            return Attr(node.ino, file_type, DIRECTORY_SIZE_BYTES, node.mtime_ns, bits)
        return Attr(node.ino, file_type, node.size, node.mtime_ns, bits, may_grow=True)

    def _aside_attr(self, aside: Aside) -> Attr:
        bits = permissions(aside.file_type, may_change=False, umask=self._umask)
        mtime_ns = self._started_ns if aside.mtime_ns is None else aside.mtime_ns
        return Attr(aside.ino, aside.file_type, aside.size, mtime_ns, bits)

    def _xattrs(self, path: str, found: Node | Local | Aside) -> dict[str, str]:
        if isinstance(found, Aside):
            return {}
        if isinstance(found, Local):
            assert self._writing is not None
            state = "" if found.node.is_directory else self._writing.uploads.state_text(found.node)
            return xattrs.local_attributes(found, state, self._complaints.reason(path))
        return xattrs.attributes(found, self._complaints.reason(path))


def _as_now(attr: Attr, node: LocalNode) -> Attr:
    """Return *attr* with the size and the time that *node* has now."""
    return replace(attr, size=node.size, mtime_ns=node.mtime_ns, may_grow=True)


def _parts(path: str) -> list[str]:
    """Return the names of *path* from the root down."""
    return [part for part in path.split("/") if part]


def _is_probed(name: str) -> bool:
    return name in PROBED_NAMES or name.startswith(PROBED_PREFIXES)
