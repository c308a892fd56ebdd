"""What belongs to a dataset besides its bytes, handed over from an old version to the new one.

Why.  The archive can not change a file. A file that is written again becomes another dataset, and what people attached
to the old one (tags, rating, parameters of their own, links in other folders) would be lost with it.

Every step looks first and adds what is missing, so it can be done again after a crash at any point. Nothing is taken
away from the old dataset: it keeps everything until it is deleted.

Failure.  What the server refuses is logged and left out; the old dataset lies in the trash afterwards. That it is away,
does not accept the key or sends what can not be understood is raised, and all is tried again later.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from agorafs.client.records import Dataset, FolderItem, Kind, RemoteRef
from agorafs.errors import AgoraFSError, NotAuthenticated, ProtocolError, Refused
from agorafs.uploads.placement import Placement

log = logging.getLogger(__name__)


class Tag(Protocol):
    """A tag's definition."""

    @property
    def id(self) -> int: ...


class Rating(Protocol):
    """One to five."""

    @property
    def value(self) -> int: ...


class ParameterSet(Protocol):
    """``parameters`` are as the server gives them; a set that is not ``is_read_only`` was made by people."""

    @property
    def name(self) -> str: ...
    @property
    def is_read_only(self) -> bool: ...
    @property
    def parameters(self) -> Any: ...


class Changes(Protocol):
    """What settling changes on the archive; ``client.changes`` answers it."""

    def create_folder(self, parent_id: int, name: str) -> FolderItem: ...
    def delete_folder(self, folder_id: int) -> None: ...
    def delete_folder_item(self, item_id: int) -> None: ...
    def link(self, ref: RemoteRef, folder_id: int) -> FolderItem: ...
    def copy_dataset(self, dataset_id: int, project_id: int, folder_id: int) -> Dataset: ...


class Annotations(Protocol):
    """What people say about datasets; ``client.annotations`` answers it."""

    def tags_of(self, ref: RemoteRef) -> Sequence[Tag]: ...
    def tag(self, ref: RemoteRef, tag_id: int) -> object: ...
    def rating(self, ref: RemoteRef) -> Rating | None: ...
    def rate(self, ref: RemoteRef, value: int) -> object: ...
    def parameter_sets(self, ref: RemoteRef) -> Sequence[ParameterSet]: ...
    def add_parameter_set(self, ref: RemoteRef, name: str, parameters: Any) -> object: ...


def is_refusal(error: AgoraFSError) -> bool:
    """Tell whether the server has understood and will not; asking again would not change it."""
    if isinstance(error, ProtocolError):
        return error.status is not None
    return isinstance(error, Refused) and not isinstance(error, NotAuthenticated)


@contextlib.contextmanager
def as_far_as_allowed(what: str) -> Iterator[None]:
    """Log a refusal of the server and go on; *what* says what was refused."""
    try:
        yield
    except AgoraFSError as error:
        if not is_refusal(error):
            raise
        log.warning("%s: %s", what, error)


def hand_over(
    changes: Changes, annotations: Annotations, placement: Placement, old: int, new: int
) -> set[int]:
    """Give dataset *new* what *old* has besides its bytes; return the folders that changed."""
    before, after = RemoteRef(Kind.DATASET, old), RemoteRef(Kind.DATASET, new)
    with as_far_as_allowed(f"the tags of dataset {old} can not be kept"):
        _hand_over_tags(annotations, before, after)
    with as_far_as_allowed(f"the rating of dataset {old} can not be kept"):
        _hand_over_rating(annotations, before, after)
    with as_far_as_allowed(f"the parameters of dataset {old} can not be kept"):
        _hand_over_parameters(annotations, before, after)
    folders: list[int] = []
    with as_far_as_allowed(f"the links of dataset {old} can not be kept"):
        folders = placement.folders_showing(old)
    changed = set()
    for folder in folders:
        with as_far_as_allowed(f"the links of dataset {old} can not be kept"):
            if _hand_over_link(changes, placement, folder, old, new):
                changed.add(folder)
    return changed


def _hand_over_tags(annotations: Annotations, old: RemoteRef, new: RemoteRef) -> None:
    wanted = [tag.id for tag in annotations.tags_of(old)]
    present = {tag.id for tag in annotations.tags_of(new)} if wanted else set()
    for tag in wanted:
        if tag not in present:
            with as_far_as_allowed(f"tag {tag} of dataset {old.id} is not kept by its new version {new.id}"):
                annotations.tag(new, tag)


def _hand_over_rating(annotations: Annotations, old: RemoteRef, new: RemoteRef) -> None:
    rating = annotations.rating(old)
    if rating is None or not rating.value:
        return
    present = annotations.rating(new)
    if present is None or not present.value:
        with as_far_as_allowed(f"the rating of dataset {old.id} is not kept by its new version {new.id}"):
            annotations.rate(new, rating.value)


def _hand_over_parameters(annotations: Annotations, old: RemoteRef, new: RemoteRef) -> None:
    wanted = [one for one in annotations.parameter_sets(old) if not one.is_read_only]
    present = {one.name for one in annotations.parameter_sets(new)} if wanted else set()
    for one in wanted:
        if one.name not in present:
            what = f"parameters {one.name!r} of dataset {old.id} are not kept by its new version {new.id}"
            with as_far_as_allowed(what):
                annotations.add_parameter_set(new, one.name, one.parameters)


def _hand_over_link(changes: Changes, placement: Placement, folder: int, old: int, new: int) -> bool:
    """Link *new* into *folder* if a link there shows *old*; tell whether the folder changed."""
    shown = {
        (item.object_id, item.is_link)
        for item in placement.items(folder)
        if isinstance(item.content, Dataset)
    }
    if (old, True) not in shown or {(new, True), (new, False)} & shown:
        return False
    with as_far_as_allowed(f"folder {folder} does not get a link to dataset {new}"):
        changes.link(RemoteRef(Kind.DATASET, new), folder)
    placement.forget(folder)
    return True
