"""``.agora``: what an object is, in words, beside the object.

It can be opened in every directory and is listed in none (as ``.zfs`` does), so that nothing crawls it::

    DIR/.agora/info.json             every field that the server gives for DIR's object
    DIR/.agora/path                  the path below the mount point
    DIR/.agora/import.json           of an exam or a series: what to import files with, so that they are added to it
    DIR/.agora/entries/<name>/…      the same two for an entry of DIR that is a file
    /.agora/by-id/<type>/<id>        a symbolic link to the object
    /.agora/uploads/…                what is on its way to the server (``vfs.dot_uploads``)

A file here has its true size, because it is made when its attributes are asked for and read from the same bytes.

Requests, whose answers are kept for the listings' time: one for ``info.json``. For ``import.json`` the same one of
the exam (what is to be said of a series is in the listing); one of the patient, where the exam names it by its id;
and one of the vendors' names, where the exam names its vendor by an id.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from agorafs.cache.metadata import Fetched, Freshness, ListingCache
from agorafs.client.records import Kind, RemoteRef, Series
from agorafs.clock import Clock
from agorafs.errors import NotADirectory, NotFound
from agorafs.tree.inodes import hashed_inode
from agorafs.tree.listing import Area, DirKey
from agorafs.tree.names import DOT_AGORA
from agorafs.tree.tree import Node, Tree
from agorafs.vfs.attr import DIRECTORY_SIZE_BYTES, FileType
from agorafs.vfs.dot_uploads import Directory, DotUploads, Held
from agorafs.vfs.handles import Source
from agorafs.vfs.import_template import template, vendor_name

BY_ID_KINDS = (Kind.PROJECT, Kind.FOLDER, Kind.EXAM, Kind.SERIES, Kind.DATASET, Kind.PATIENT)

_ABOUT = ("info.json", "path")
_IMPORT = "import.json"


class AsideEntry(NamedTuple):
    """A name in a directory below ``.agora``: what is known of it without a request."""

    name: str
    file_type: FileType
    ino: int


@dataclass(frozen=True, slots=True)
class Aside:
    """A file, directory or link below ``.agora``.

    Exactly one is set: ``entries`` of a directory, ``content`` or ``held`` of a file, ``link`` text.
    """

    ino: int
    entries: tuple[AsideEntry, ...] | None = None
    content: bytes | None = None
    held: Held | None = None
    link: str | None = None

    @property
    def file_type(self) -> FileType:
        if self.entries is not None:
            return FileType.DIRECTORY
        return FileType.FILE if self.link is None else FileType.LINK

    @property
    def size(self) -> int:
        """What ``stat`` calls the size."""
        if self.content is not None:
            return len(self.content)
        if self.held is not None:
            return self.held.size
        return DIRECTORY_SIZE_BYTES if self.link is None else len(self.link.encode(errors="surrogateescape"))

    @property
    def mtime_ns(self) -> int | None:
        """When it was last changed, None where that means nothing."""
        return None if self.held is None else self.held.mtime_ns

    def open(self) -> Source | bytes:
        """Return what a file's bytes are read from.

        Raises:
            NotFound: It is no file.
        """
        if self.content is not None:
            return self.content
        if self.held is None:
            raise NotFound("a link below .agora is not a file")
        return self.held.open()


class DotAgora:
    """Resolves what lies below ``.agora``. Holds no state but two caches, which lock themselves."""

    def __init__(
        self,
        tree: Tree,
        describe: Callable[[RemoteRef], Mapping[str, Any]],
        *,
        freshness: Freshness,
        clock: Clock,
        vendors: Callable[[], Mapping[int, str]] = dict,
        uploads: DotUploads | None = None,
        max_kept: int = 1000,
    ) -> None:
        """Build it; no request.

        Args:
            describe: Asks the archive for all it says about an object.
            vendors: Asks it for the names of the makers of scanners, by id.
            uploads: What is on its way; None on a mount that never writes.
        """
        self._tree = tree
        self._uploads = uploads
        self._descriptions: ListingCache[RemoteRef, Mapping[str, Any]] = ListingCache(
            lambda ref: Fetched(describe(ref)),
            freshness=freshness,
            max_weight=max_kept,
            weigh=lambda _: 0,
            clock=clock,
        )
        self._vendors: ListingCache[None, Mapping[int, str]] = ListingCache(
            lambda _: Fetched(vendors()), freshness=freshness, max_weight=1, weigh=lambda _: 0, clock=clock
        )
        self._places: ListingCache[RemoteRef, tuple[str, ...]] = ListingCache(
            lambda ref: Fetched(tree.locate(ref)),
            freshness=freshness,
            max_weight=max_kept,
            weigh=lambda _: 0,
            clock=clock,
        )

    def resolve(self, base: Node, rest: Sequence[str]) -> Aside:
        """Return what ``BASE/.agora/REST`` is.

        Raises:
            NotFound, NotADirectory: as ``open(2)`` would.
        """
        if not isinstance(base.entry.target, DirKey):
            raise NotADirectory(f"{base.path} is not a directory")
        ino = _inode(base, rest)
        is_root = base.parent is None
        match list(rest):
            case []:
                below = ["entries"]
                if is_root:
                    below += ["by-id", "uploads"] if self._uploads is not None else ["by-id"]
                files = _ABOUT if _exam_of(base) is None else (*_ABOUT, _IMPORT)
                return _directory(base, rest, files=files, directories=below)
            case ["info.json"] | ["path"]:
                return self._about(base, ino, rest)
            case ["import.json"] if _exam_of(base) is not None:
                return Aside(ino, content=_json(self._import_template(base)))
            case ["uploads", *inner] if is_root and self._uploads is not None:
                return _below_uploads(base, rest, self._uploads.resolve(inner))
            case ["entries"]:
                return _directory(base, rest, directories=self._file_names(base))
            case ["entries", name, *inner]:
                node = self._file_entry(base, name)
                return _directory(base, rest, files=_ABOUT) if not inner else self._about(node, ino, inner)
            case ["by-id"] if is_root:
                return _directory(base, rest, directories=[kind.value for kind in BY_ID_KINDS])
            case ["by-id", kind] if is_root and kind in BY_ID_KINDS:
                return _directory(base, rest)
            case ["by-id", kind, number] if is_root and kind in BY_ID_KINDS and _is_id(number):
                place = self._places.load(RemoteRef(Kind(kind), int(number)))
                return Aside(ino, link="../../../" + "/".join(place))
        raise NotFound(f"{base.path.rstrip('/')}/{DOT_AGORA}/{'/'.join(rest)} does not exist")

    def refresh(self) -> None:
        """Forget what was learnt."""
        self._descriptions.invalidate_all()
        self._vendors.invalidate_all()
        self._places.invalidate_all()

    def close(self) -> None:
        """End the background threads."""
        self._descriptions.close()
        self._vendors.close()
        self._places.close()

    def _about(self, node: Node, ino: int, rest: Sequence[str]) -> Aside:
        """The two files that say what *node* is."""
        match list(rest):
            case ["info.json"]:
                return Aside(ino, content=self._info(node))
            case ["path"]:
                return Aside(ino, content=f"{node.path}\n".encode(errors="surrogateescape"))
        raise NotFound(f"{'/'.join(rest)} does not exist beside {node.path}")

    def _file_names(self, base: Node) -> list[str]:
        entries = self._tree.listing(base).entries.values()
        return [entry.name for entry in entries if not entry.is_directory]

    def _file_entry(self, base: Node, name: str) -> Node:
        node = self._tree.child(base, name)
        if node.entry.is_directory:
            raise NotFound(f"{node.path} is a directory: see {node.path}/{DOT_AGORA}")
        return node

    def _info(self, node: Node) -> bytes:
        ref = node.entry.ref
        if ref is None and node.project is not None:
            ref = RemoteRef(Kind.PROJECT, node.project.id)
        about: dict[str, Any] = {} if ref is None else dict(self._descriptions.load(ref))
        target = node.entry.target
        if isinstance(target, DirKey) and target.area is Area.FOLDER:
            not_shown = self._tree.listing(node).not_shown
            if not_shown:
                about["agorafs_not_shown"] = list(not_shown)
        return _json(about)

    def _import_template(self, base: Node) -> dict[str, Any]:
        """The import JSON that adds to the exam or series *base*."""
        exam_id = _exam_of(base)
        assert exam_id is not None
        exam = self._descriptions.load(RemoteRef(Kind.EXAM, exam_id))
        patient = exam.get("patient")
        if isinstance(patient, int):
            patient = self._descriptions.load(RemoteRef(Kind.PATIENT, patient))
        record = base.entry.record
        return template(
            exam,
            series=record if isinstance(record, Series) else None,
            patient=patient if isinstance(patient, Mapping) else None,
            vendor=vendor_name(exam.get("vendor"), lambda: self._vendors.load(None)),
        )


def _exam_of(base: Node) -> int | None:
    """Return the exam that an import into the directory *base* adds to; None where there is none."""
    target, record = base.entry.target, base.entry.record
    if isinstance(target, DirKey) and target.area is Area.EXAM:
        return target.id
    return record.exam if isinstance(record, Series) else None


def _below_uploads(base: Node, rest: Sequence[str], found: Directory | Held | bytes) -> Aside:
    if isinstance(found, Directory):
        return _directory(base, rest, files=found.files, directories=found.directories)
    ino = _inode(base, rest)
    return Aside(ino, content=found) if isinstance(found, bytes) else Aside(ino, held=found)


def _json(about: Mapping[str, Any]) -> bytes:
    return (json.dumps(about, indent=2, ensure_ascii=False) + "\n").encode(errors="replace")


def _inode(base: Node, rest: Sequence[str]) -> int:
    return hashed_inode(DOT_AGORA, str(base.entry.ino), *rest)


def _directory(
    base: Node, rest: Sequence[str], *, files: Iterable[str] = (), directories: Iterable[str] = ()
) -> Aside:
    found = [(name, FileType.FILE) for name in files] + [(name, FileType.DIRECTORY) for name in directories]
    entries = (AsideEntry(name, file_type, _inode(base, [*rest, name])) for name, file_type in found)
    return Aside(_inode(base, rest), entries=tuple(entries))


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 18 and (text == "0" or text[0] != "0")
