"""Links below ``.agora``: from an object to what belongs to it, and from a UID to the object.

    DIR/.agora/relations/<name>      an exam or series that DIR's is related to
    DIR/.agora/in-folders/<name>     a folder that shows DIR's object
    /.agora/by-uid/<uid>             the exam or series with this UID

Links lead through ``/.agora/by-id``, so that listing them asks for no places; their texts are relative.

Requests, whose answers are kept for the listings' time: one for ``in-folders``; one for ``relations``, and one for the
name of each related object. A UID that memory knows costs only what its place costs; else each project is asked for
an exam of it, a few at a time, and then for a series.

Threads.  No state but caches, which lock themselves.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import NamedTuple, Protocol

from agorafs.cache.at_once import each
from agorafs.cache.metadata import Fetched, Freshness, ListingCache
from agorafs.client.records import Dataset, Exam, Folder, Kind, Project, RemoteRef, Series
from agorafs.client.view_records import Relation
from agorafs.clock import Clock
from agorafs.errors import AgoraFSError, NotADirectory, NotFound, PermissionDenied
from agorafs.tree.names import DOT_AGORA, Named, assign_names, legal_name
from agorafs.tree.tree import Node, Tree
from agorafs.vfs import aside
from agorafs.vfs.aside import Aside, Names
from agorafs.vfs.objects import ref_of

log = logging.getLogger(__name__)

RELATIONS, IN_FOLDERS, BY_UID = "relations", "in-folders", "by-uid"
_KINDS = {
    RELATIONS: frozenset({Kind.EXAM, Kind.SERIES}),
    IN_FOLDERS: frozenset({Kind.EXAM, Kind.SERIES, Kind.DATASET}),
}


class Belongings(Protocol):
    """``client.exploring``, as far as it tells what belongs together."""

    def relations(self, ref: RemoteRef) -> list[Relation]: ...
    def folders_of(self, ref: RemoteRef) -> list[Folder]: ...


class LinkArchive(Protocol):
    """What these links ask of the archive: ``client.Client``."""

    @property
    def exploring(self) -> Belongings: ...
    def exam(self, exam_id: int) -> Exam: ...
    def series(self, series_id: int) -> Series: ...
    def dataset(self, dataset_id: int) -> Dataset: ...
    def exam_by_uid(self, project_id: int, uid: str) -> Exam: ...
    def series_by_uid(self, project_id: int, uid: str) -> Series: ...


class _Question(NamedTuple):
    what: str
    ref: RemoteRef


class DotLinks(aside.Part):
    """See the module docstring."""

    def __init__(
        self,
        tree: Tree,
        archive: LinkArchive,
        *,
        freshness: Freshness,
        clock: Clock,
        max_kept: int = 1000,
    ) -> None:
        self._tree = tree
        self._archive = archive
        self._answers: ListingCache[_Question, Mapping[str, RemoteRef]] = ListingCache(
            lambda question: Fetched(self._fetch(question)),
            freshness=freshness,
            max_weight=max_kept,
            weigh=len,
            clock=clock,
        )
        self._places: ListingCache[str, tuple[str, ...]] = ListingCache(
            lambda uid: Fetched(tree.locate(self._find_uid(uid))),
            freshness=freshness,
            max_weight=max_kept,
            weigh=lambda _: 0,
            clock=clock,
        )

    def names(self, node: Node, *, is_root: bool) -> Names:
        """Return what there is beside *node*; no request."""
        ref = ref_of(node)
        about = [name for name, kinds in _KINDS.items() if ref is not None and ref.kind in kinds]
        return Names(directories=[*about, BY_UID] if is_root else about)

    def resolve(self, node: Node, rest: Sequence[str], *, is_root: bool) -> Aside | None:
        """Return what *rest* is beside *node*, None if that is nothing of ours.

        Raises:
            NotFound, NotADirectory: There is no such link.
        """
        if not rest or rest[0] not in self.names(node, is_root=is_root).directories:
            return None
        if len(rest) > 2:
            raise NotADirectory(f"{'/'.join(rest[:2])} beside {node.path} is a link")
        what, *names = rest
        ino = aside.inode_below(node.entry.ino, rest)
        if what == BY_UID:
            if not names:
                return Aside(ino, entries=())
            try:
                names[0].encode()
            except UnicodeEncodeError:
                raise NotFound(f"{names[0]!r} is not UTF-8, and no UID") from None
            return Aside(ino, link="../../" + "/".join(self._places.load(names[0])))
        ref = ref_of(node)
        assert ref is not None
        links = self._answers.load(_Question(what, ref))
        if not names:
            return aside.directory(
                lambda below: aside.inode_below(node.entry.ino, [*rest, *below]), links=links
            )
        if names[0] not in links:
            raise NotFound(f"{names[0]} is not among the {what} of {node.path}")
        found = links[names[0]]
        up = "../" * (_depth(node) + 1)
        return Aside(ino, link=f"{up}{DOT_AGORA}/by-id/{found.kind.value}/{found.id}")

    def refresh(self) -> None:
        """Forget what was learnt."""
        self._answers.invalidate_all()
        self._places.invalidate_all()

    def close(self) -> None:
        """End the background threads."""
        self._answers.close()
        self._places.close()

    # -- how -----------------------------------------------------------------------------------------

    def _fetch(self, question: _Question) -> Mapping[str, RemoteRef]:
        exploring = self._archive.exploring
        if question.what == IN_FOLDERS:
            folders = exploring.folders_of(question.ref)
            return _named((RemoteRef(Kind.FOLDER, one.id), one.name) for one in folders)
        ends = (end for one in exploring.relations(question.ref) for end in (one.first, one.second))
        related = [one for one in dict.fromkeys(ends) if one != question.ref]
        names = each(self._name_of, related)
        return _named((ref, name) for ref, name in zip(related, names, strict=True) if name is not None)

    def _name_of(self, ref: RemoteRef) -> str | None:
        """Return what the object *ref* is called, None if it can not be shown."""
        try:
            if ref.kind is Kind.EXAM:
                return self._tree.own_name(self._archive.exam(ref.id))
            if ref.kind is Kind.SERIES:
                return self._tree.own_name(self._archive.series(ref.id))
            if ref.kind is Kind.DATASET:
                return self._tree.own_name(self._archive.dataset(ref.id))
        except (NotFound, PermissionDenied) as error:
            log.debug("%s %d is left out: %s", ref.kind.value, ref.id, error)
        return None

    def _find_uid(self, uid: str) -> RemoteRef:
        known = self._tree.known_by_uid(uid)
        if known is not None:
            return known
        nodes = self._tree.children(self._tree.resolve(["projects"]))
        projects = [node.entry.record.id for node in nodes if isinstance(node.entry.record, Project)]
        failures: list[AgoraFSError] = []
        asked: tuple[tuple[Kind, Callable[[int, str], Exam | Series]], ...] = (
            (Kind.EXAM, self._archive.exam_by_uid),
            (Kind.SERIES, self._archive.series_by_uid),
        )
        for kind, ask in asked:
            for answer in each(partial(_answer_or_error, ask, uid), projects):
                if not isinstance(answer, AgoraFSError):
                    return RemoteRef(kind, answer.id)
                if not isinstance(answer, NotFound):
                    failures.append(answer)
        if failures:  # it may be in the project that could not be asked
            raise failures[0]
        raise NotFound(f"no exam or series in your projects has the UID {uid}")


def _answer_or_error(
    ask: Callable[[int, str], Exam | Series], uid: str, project: int
) -> Exam | Series | AgoraFSError:
    try:
        return ask(project, uid)
    except AgoraFSError as error:
        return error


def _named(objects: Iterable[tuple[RemoteRef, str]]) -> dict[str, RemoteRef]:
    """Give each object a name of its own, by the rules of all directories."""
    some = list(objects)
    wanted = [
        Named(
            legal_name(name, f"{ref.kind.value} {ref.id}"), ref.kind.value, ref.id, ref.kind != Kind.DATASET
        )
        for ref, name in some
    ]
    return {name: ref for name, (ref, _) in zip(assign_names(wanted), some, strict=True)}


def _depth(node: Node) -> int:
    """Return how many directories above it ``.agora`` of *node* has; of a file that is ``entries/<name>``."""
    if node.entry.is_directory or node.parent is None:
        return len(node.parts) + 1
    return len(node.parts) - 1 + len((DOT_AGORA, "entries", node.entry.name))
