"""``.agora/workbooks``: the contours and masks that people have drawn on a dataset, as files. ::

    workbooks/<name>/workbook.json       all that the archive has of it
    workbooks/<name>/contours.json       its contours, with the buttons that they are drawn with (``effective_buttons``)
    workbooks/<name>/masks/<mask>.npy    a mask as an array (x, y, z, t) of labels; see ``masks``
    workbooks/<name>/masks/<mask>.nii    the same as NIfTI

Of a dataset that is shown as a file they are in ``.agora/entries/<name>/workbooks``.

Writing.  What is written into ``workbook.json`` is merged by name into what the archive has at that moment
(``workbooks.merged``); an array written to ``masks/<mask>.npy`` replaces the labels of that mask, or adds one under
a new name. All of it is checked first; the archive is asked only then. A mask of more than 64 MiB can only be read.
Looking never makes a workbook: the vendor's connector creates one for a dataset that has none.

Requests.  One for all workbooks of a dataset, kept for the listings' time; two for a change.

Threads.  No state but a cache, which locks itself.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from agorafs.cache.metadata import Fetched, Freshness, ListingCache
from agorafs.client.records import Kind, parse_time_ns
from agorafs.clock import Clock
from agorafs.errors import BadCommand, NotFound, PermissionDenied
from agorafs.tree.names import MAX_NAME_BYTES, Named, assign_names, legal_name
from agorafs.tree.tree import Node
from agorafs.vfs import rules
from agorafs.vfs.aside import Aside, Names, Part, directory, inode_below
from agorafs.vfs.dot_root import as_json
from agorafs.vfs.masks import Mask, MaskFile, nifti_file, npy_file, parse_npy
from agorafs.vfs.objects import ref_of
from agorafs.vfs.virtual import MAX_DRAFT_BYTES, Draft, is_json, written_file
from agorafs.vfs.workbooks import Change, contours_of, masks_of, merged, parse_change, with_labels

Workbook = Mapping[str, Any]

_WORKBOOKS = "workbooks"
_MASKS = "masks"
_WORKBOOK = "workbook.json"
_CONTOURS = "contours.json"
_NPY = ".npy"
_NIFTI = ".nii"
_FORMS: Mapping[str, Callable[[Mask], MaskFile]] = {_NPY: npy_file, _NIFTI: nifti_file}

_MAX_KEPT_KIB = 64 * 1024


class WorkbookServer(Protocol):
    """What is asked of ``client.exploring``."""

    def workbooks(self, dataset_id: int) -> Sequence[Workbook]: ...
    def workbook(self, workbook_id: int) -> Workbook: ...
    def update_workbook(
        self,
        workbook_id: int,
        *,
        mask: Mapping[str, Any] | None = None,
        contour: Mapping[str, Any] | None = None,
    ) -> object: ...


@dataclass(frozen=True, slots=True)
class _HeldMask:
    """A mask as ``aside.Held``."""

    make: Callable[[], MaskFile]
    mtime_ns: int

    @property
    def size(self) -> int:
        return self.make().size

    def open(self) -> MaskFile:
        return self.make()


class DotWorkbooks(Part):
    """See the module docstring."""

    def __init__(self, server: WorkbookServer, *, freshness: Freshness, clock: Clock) -> None:
        self._server = server
        self._workbooks: ListingCache[int, tuple[Workbook, ...]] = ListingCache(
            lambda dataset: Fetched(tuple(server.workbooks(dataset))),
            freshness=freshness,
            max_weight=_MAX_KEPT_KIB,
            weigh=_weight_kib,
            clock=clock,
        )

    def names(self, node: Node, *, is_root: bool) -> Names:
        """``workbooks`` beside every dataset."""
        return Names() if dataset_of(node) is None else Names(directories=(_WORKBOOKS,))

    def resolve(self, node: Node, rest: Sequence[str], *, is_root: bool) -> Aside | None:
        """Return what ``workbooks/…`` is."""
        dataset = dataset_of(node)
        if dataset is None or list(rest[:1]) != [_WORKBOOKS]:
            return None
        ino = functools.partial(_inode, node, rest)
        workbooks = self._named(dataset)
        if len(rest) == 1:
            return directory(ino, directories=workbooks)
        workbook = workbooks.get(rest[1])
        if workbook is not None:
            found = self._inside(node, dataset, workbook, rest[2:], ino)
            if found is not None:
                return found
        raise NotFound(f"{node.path} has no {'/'.join(rest)}")

    def make(self, node: Node, rest: Sequence[str]) -> Aside | None:
        """A new mask: an array that is written under a name that no mask has."""
        dataset = dataset_of(node)
        match list(rest):
            case [first, name, second, file_name] if dataset is not None and (first, second) == (
                _WORKBOOKS,
                _MASKS,
            ):
                stem = file_name.removesuffix(_NPY)
                workbook = self._named(dataset).get(name)
                if workbook is None or stem in ("", file_name):
                    return None
                rules.check_name(file_name)
                self._check_may_change(node, workbook)
                accept = functools.partial(self._accept_labels, node, dataset, workbook, stem)
                return written_file(_inode(node, rest, []), b"", accept)
        return None

    def refresh(self) -> None:
        """Forget what was learnt."""
        self._workbooks.invalidate_all()

    def close(self) -> None:
        """End the background threads."""
        self._workbooks.close()

    # -- looking -------------------------------------------------------------------------------------

    def _named(self, dataset: int) -> dict[str, Workbook]:
        """Return the workbooks of a dataset by the names that they are shown under."""
        workbooks = self._workbooks.load(dataset)
        wanted = [
            Named(legal_name(str(one.get("name") or ""), "workbook"), "workbook", _id(one), is_directory=True)
            for one in workbooks
        ]
        return dict(zip(assign_names(wanted), workbooks, strict=True))

    def _inside(
        self,
        node: Node,
        dataset: int,
        workbook: Workbook,
        inner: Sequence[str],
        ino: Callable[[Sequence[str]], int],
    ) -> Aside | None:
        match list(inner):
            case []:
                return directory(ino, files=(_WORKBOOK, _CONTOURS), directories=(_MASKS,))
            case ["workbook.json"]:
                accept = functools.partial(self._accept_json, node, dataset, workbook)
                return written_file(ino([]), as_json(workbook), accept, is_complete=is_json)
            case ["contours.json"]:
                return Aside(ino([]), content=as_json(contours_of(workbook)))
            case ["masks"]:
                return directory(ino, files=_mask_files(workbook))
            case ["masks", name]:
                found = _mask_files(workbook).get(name)
                return None if found is None else self._mask(node, dataset, workbook, *found, ino([]))
        return None

    def _mask(
        self,
        node: Node,
        dataset: int,
        workbook: Workbook,
        form: str,
        given: Mapping[str, Any],
        ino: int,
    ) -> Aside:
        mask = Mask(given)
        held = _HeldMask(
            functools.partial(_FORMS[form], mask), parse_time_ns(workbook.get("modified_date")) or 0
        )
        if form != _NPY or held.size > MAX_DRAFT_BYTES:
            return Aside(ino, held=held)
        accept = functools.partial(self._accept_labels, node, dataset, workbook, str(given.get("name") or ""))
        return Aside(
            ino,
            held=held,
            talk=lambda _: Draft(held.open().whole(), accept),
            can_write=True,
        )

    # -- writing -------------------------------------------------------------------------------------

    def _accept_json(self, node: Node, dataset: int, workbook: Workbook, written: bytes) -> None:
        self._check_may_change(node, workbook)
        try:
            edited = json.loads(written)
        except (ValueError, RecursionError) as error:
            raise BadCommand(f"this is not JSON: {error}") from None
        change = parse_change(workbook, edited)
        if change:
            self._change(dataset, _id(workbook), lambda _: change)

    def _accept_labels(self, node: Node, dataset: int, workbook: Workbook, name: str, written: bytes) -> None:
        self._check_may_change(node, workbook)
        labels = parse_npy(written)

        def change(current: Workbook) -> Change:
            given = next((mask for mask in masks_of(current) if str(mask.get("name") or "") == name), None)
            return Change(masks=[with_labels(given, name, labels)])

        self._change(dataset, _id(workbook), change)

    def _change(self, dataset: int, workbook_id: int, change: Callable[[Workbook], Change]) -> None:
        """Put *change* into what the archive has now."""
        current = self._server.workbook(workbook_id)
        try:
            mask, contour = merged(current, change(current))
            self._server.update_workbook(workbook_id, mask=mask, contour=contour)
        finally:
            self._workbooks.invalidate([dataset])

    @staticmethod
    def _check_may_change(node: Node, workbook: Workbook) -> None:
        rules.check_may_change(node)
        if workbook.get("locked") is True:
            raise PermissionDenied(f"the workbook {workbook.get('name')!r} of {node.path} is locked")


def dataset_of(node: Node) -> int | None:
    """Return the dataset that *node* is, None if it is something else."""
    ref = ref_of(node)
    return ref.id if ref is not None and ref.kind is Kind.DATASET else None


def _mask_files(workbook: Workbook) -> dict[str, tuple[str, Mapping[str, Any]]]:
    """Return form and mask by the names of the files."""
    masks = masks_of(workbook)
    found: dict[str, tuple[str, Mapping[str, Any]]] = {}
    for form in _FORMS:
        wanted = [
            Named(f"{_stem(mask)}{form}", "mask", number, is_directory=False)
            for number, mask in enumerate(masks)
        ]
        found.update((name, (form, mask)) for name, mask in zip(assign_names(wanted), masks, strict=True))
    return found


def _stem(mask: Mapping[str, Any]) -> str:
    """Return the name of the files of *mask* without their form, with room for it."""
    legal = legal_name(str(mask.get("name") or "mask"), "mask").encode(errors="replace")
    return legal[: MAX_NAME_BYTES - len(_NPY)].decode(errors="ignore")


def _weight_kib(workbooks: tuple[Workbook, ...]) -> int:
    """Nearly all of a workbook are the planes of its masks."""
    masks = (mask.get("mSliceMask") for workbook in workbooks for mask in masks_of(workbook))
    planes = (
        plane for mask in masks if isinstance(mask, list) for plane in mask if isinstance(plane, Mapping)
    )
    return sum(len(str(plane.get("mBase64Values", ""))) for plane in planes) // 1024


def _id(workbook: Workbook) -> int:
    number = workbook.get("id")
    assert isinstance(number, int)  # the client lets no other pass
    return number


def _inode(node: Node, rest: Sequence[str], below: Sequence[str]) -> int:
    return inode_below(node.entry.ino, [*rest, *below])
