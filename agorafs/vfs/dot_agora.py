"""``.agora``: what an object is, in words, beside the object.

It can be opened in every directory and is listed in none (as ``.zfs`` does), so that nothing crawls it::

    DIR/.agora/info.json             every field that the server gives for DIR's object
    DIR/.agora/path                  the path below the mount point
    DIR/.agora/import.json           of an exam or a series: what to import files with, so that they are added to it
    DIR/.agora/entries/<name>/…      the same two for an entry of DIR that is a file
    /.agora/by-id/<type>/<id>        a symbolic link to the object; the types are project, folder, exam, …, task, script
    /.agora/uploads/…                what is on its way to the server (``vfs.dot_uploads``)

A file here has its true size, because it is made when its attributes are asked for and read from the same bytes.

Requests, whose answers are kept for the listings' time: one for ``info.json``. For ``import.json`` the same one of
the exam (what is to be said of a series is in the listing); one of the patient, where the exam names it by its id;
and one of the vendors' names, where the exam names its vendor by an id.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from agorafs.cache.metadata import Fetched, Freshness, ListingCache
from agorafs.client.records import Kind, RemoteRef, Series
from agorafs.client.view_records import TrashEntry
from agorafs.clock import Clock
from agorafs.errors import NotADirectory, NotFound, PermissionDenied
from agorafs.tree.listing import Area, DirKey
from agorafs.tree.names import DOT_AGORA
from agorafs.tree.tree import Node, Tree
from agorafs.vfs.aside import Aside, Held, Part, directory, inode_below
from agorafs.vfs.dot_uploads import Directory, DotUploads
from agorafs.vfs.import_template import template, vendor_name
from agorafs.vfs.objects import ref_of

_BY_ID = {
    kind.value: kind
    for kind in (
        Kind.PROJECT, Kind.FOLDER, Kind.EXAM, Kind.SERIES, Kind.DATASET, Kind.PATIENT, Kind.TAG, Kind.TASK,
    )
} | {"script": Kind.SCRIPT_TASK}  # fmt: skip

_ABOUT = ("info.json", "path")
_IMPORT = "import.json"
# Directories that may show less than the archive has there, and say what in their ``info.json``.
_INCOMPLETE = frozenset({Area.FOLDER, Area.TAGS, Area.TAG, Area.FOUND, Area.TASKS, Area.TRASH})


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
        parts: Sequence[Part] = (),
        max_kept: int = 1000,
    ) -> None:
        """Build it; no request.

        Args:
            describe: Asks the archive for all it says about an object.
            vendors: Asks it for the names of the makers of scanners, by id.
            uploads: What is on its way; None on a mount that never writes.
            parts: What else there is.
        """
        self._tree = tree
        self._uploads = uploads
        self._parts = tuple(parts)
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
                return self._beside(base, base, rest, files, below)
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
                if not inner:
                    return self._beside(base, node, rest, _ABOUT, ())
                found = self._of_parts(node, inner, is_root=False)
                return self._about(node, ino, inner) if found is None else found
            case ["by-id"] if is_root:
                return _directory(base, rest, directories=_BY_ID)
            case ["by-id", kind] if is_root and kind in _BY_ID:
                return _directory(base, rest)
            case ["by-id", kind, number] if is_root and kind in _BY_ID and _is_id(number):
                place = self._places.load(RemoteRef(_BY_ID[kind], int(number)))
                return Aside(ino, link="../../../" + "/".join(place))
        found = self._of_parts(base, rest, is_root=is_root)
        if found is None:
            raise NotFound(f"{base.path.rstrip('/')}/{DOT_AGORA}/{'/'.join(rest)} does not exist")
        return found

    def make(self, base: Node, rest: Sequence[str]) -> Aside:
        """Return what ``open`` with ``O_CREAT`` is to open as ``BASE/.agora/REST``, which is not there.

        Raises:
            PermissionDenied: No file can be made there.
        """
        node, inner = self._about_what(base, rest)
        for part in self._parts:
            made = part.make(node, inner)
            if made is not None:
                return made
        raise PermissionDenied(f"{base.path}: no file can be made below {DOT_AGORA} there")

    def remove(self, base: Node, rest: Sequence[str]) -> None:
        """``unlink`` of ``BASE/.agora/REST``.

        Raises:
            PermissionDenied: It can not be removed.
        """
        node, inner = self._about_what(base, rest)
        if not any(part.remove(node, inner) for part in self._parts):
            raise PermissionDenied(f"{base.path}: what is below {DOT_AGORA} can not be removed there")

    def refresh(self) -> None:
        """Forget what was learnt."""
        for part in self._parts:
            part.refresh()
        self._descriptions.invalidate_all()
        self._vendors.invalidate_all()
        self._places.invalidate_all()

    def forget_contents(self) -> None:
        """We have changed something: forget what files say of it. Where objects are is known as before."""
        for part in self._parts:
            part.forget_contents()
        self._descriptions.invalidate_all()

    def close(self) -> None:
        """End the background threads."""
        for part in self._parts:
            part.close()
        self._descriptions.close()
        self._vendors.close()
        self._places.close()

    def _beside(
        self, base: Node, node: Node, rest: Sequence[str], files: Sequence[str], directories: Sequence[str]
    ) -> Aside:
        """The directory ``BASE/.agora/REST``, which is about *node*."""
        names = [part.names(node, is_root=node.parent is None) for part in self._parts]
        return _directory(
            base,
            rest,
            files=[*files, *(name for one in names for name in one.files)],
            directories=[*directories, *(name for one in names for name in one.directories)],
        )

    def _about_what(self, base: Node, rest: Sequence[str]) -> tuple[Node, Sequence[str]]:
        """Return the node that ``BASE/.agora/REST`` is about, and what is left of *rest* beside it."""
        if len(rest) > 2 and rest[0] == "entries":
            return self._file_entry(base, rest[1]), rest[2:]
        return base, rest

    def _of_parts(self, node: Node, rest: Sequence[str], *, is_root: bool) -> Aside | None:
        found = (part.resolve(node, rest, is_root=is_root) for part in self._parts)
        return next((aside for aside in found if aside is not None), None)

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
        if isinstance(node.entry.record, TrashEntry):  # the archive tells nothing of a single one
            return _json(node.entry.record.raw)
        ref = ref_of(node)
        if ref is None and node.project is not None:
            ref = RemoteRef(Kind.PROJECT, node.project.id)
        about: dict[str, Any] = {} if ref is None else dict(self._descriptions.load(ref))
        target = node.entry.target
        if isinstance(target, DirKey) and target.area in _INCOMPLETE:
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
    return inode_below(base.entry.ino, rest)


def _directory(
    base: Node, rest: Sequence[str], *, files: Iterable[str] = (), directories: Iterable[str] = ()
) -> Aside:
    return directory(lambda below: _inode(base, [*rest, *below]), files=files, directories=directories)


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 18 and (text == "0" or text[0] != "0")
