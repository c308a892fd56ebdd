"""Tags of objects: labels that people give, kept for the listings' time.

Agora defines a tag once, for a project or for a user, and objects refer to it. Here a tag is its label. Where a project
and the user have tags of one label, the project's is given; taking a label away takes away every tag that has it.

Requests
    Reading: the definitions that the user sees and the instances of a whole project, one request each; so the tags of
    all objects of a directory cost no more than those of one. Two more where they are needed: the project's own list of
    definitions, if an instance has one that the other does not name; all instances, if the user has tags of their own,
    which belong to no project, and for patients, who belong to several. Servers without these calls are asked for each
    object.
    Writing: the object's tags as they are now, then one for each change; to take a tag away, also the instances as they
    are now, because their numbers may pass to another instance.

Threads.  Every method may be called from any thread. The caches lock themselves; ``Turns`` keep changes of one object,
and of one label, in order.
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from agorafs.cache.metadata import Fetched, Freshness, ListingCache
from agorafs.client.annotations import Tag, TagInstance
from agorafs.client.records import Kind, RemoteRef
from agorafs.clock import Clock
from agorafs.errors import BadCommand, NotFound, NotPermitted, PermissionDenied, ProtocolError
from agorafs.vfs.turns import Turns

log = logging.getLogger(__name__)

_NO_TEXT = re.compile("[\0-\x1f\x7f-\x9f\ud800-\udfff]")

# In place of a project: whatever the user sees.
_ALL = 0


class TagCalls(Protocol):
    """What tagging asks of the archive; ``client.annotations`` answers it."""

    def tags(self) -> Sequence[Tag]: ...
    def project_tags(self, project_id: int) -> Sequence[Tag]: ...
    def tags_of(self, ref: RemoteRef) -> Sequence[Tag]: ...
    def create_tag(self, label: str, *, project: int | None) -> Tag: ...
    def tag(self, ref: RemoteRef, tag_id: int) -> object: ...
    def tag_instances(self, project_id: int | None) -> Sequence[TagInstance]: ...
    def remove_tag_instance(self, instance_id: int) -> None: ...


@dataclass(frozen=True, slots=True)
class _Definitions:
    project: int
    tags: tuple[Tag, ...]


@dataclass(frozen=True, slots=True)
class _Instances:
    """Which tags, by id, which objects have. ``by_ref`` is None where the server has no such call."""

    project: int
    by_ref: Mapping[RemoteRef, tuple[int, ...]] | None


class Tags:
    """See the module docstring. ``project`` is that of the object, None where it is not known."""

    def __init__(
        self,
        calls: TagCalls,
        *,
        freshness: Freshness,
        clock: Clock,
        turns: Turns,
        tag_changed: Callable[[Tag], None],
        max_kept: int,
    ) -> None:
        """*tag_changed* is told of each tag that was made, given or taken away here."""
        self._calls = calls
        self._turns = turns
        self._tag_changed = tag_changed
        self._definitions: ListingCache[int, _Definitions] = ListingCache(
            self._fetch_definitions,
            freshness=freshness,
            max_weight=max_kept,
            weigh=lambda value: len(value.tags),
            clock=clock,
        )
        self._instances: ListingCache[int, _Instances] = ListingCache(
            self._fetch_instances,
            freshness=freshness,
            max_weight=max_kept,
            weigh=lambda value: len(value.by_ref or ()),
            clock=clock,
        )
        # what we have changed, and where there are no instances to be had
        self._single: ListingCache[RemoteRef, tuple[Tag, ...]] = ListingCache(
            lambda ref: Fetched(tuple(calls.tags_of(ref))),
            freshness=freshness,
            max_weight=max_kept,
            weigh=len,
            clock=clock,
        )

    # -- reading -------------------------------------------------------------------------------------

    def labels(self, ref: RemoteRef, project: int | None) -> tuple[str, ...]:
        """Return the labels that *ref* has, in the order in which the tags were made."""
        single = self._single.get_fresh(ref)
        if single is not None:
            return _labels(single)
        where = _where(ref, project)
        found = self._found(
            ref, where, self._definitions.load(_ALL), self._instances.load(where), self._instances.load
        )
        if found is None:
            return _labels(self._single.load(ref))
        ids, known = found
        if any(one not in known for one in ids) and where != _ALL:
            known = {**known, **_by_id(self._definitions.load(where))}
        return _labels(known[one] for one in ids if one in known)

    def known_labels(self, ref: RemoteRef, project: int | None) -> tuple[str, ...] | None:
        """Return the labels that *ref* has if memory knows it well enough, or None. Never waits."""
        where = _where(ref, project)
        single = self._single.get_fresh(ref)
        if single is not None:
            return _labels(single)
        definitions, instances = self._definitions.get_fresh(_ALL), self._instances.get_fresh(where)
        if definitions is None or instances is None or instances.by_ref is None:
            return None
        found = self._found(ref, where, definitions, instances, self._instances.get_fresh)
        if found is None:
            return None
        ids, known = found
        of_project = self._definitions.get_fresh(where)
        if of_project is not None:
            known = {**known, **_by_id(of_project)}
        return _labels(known[one] for one in ids) if all(one in known for one in ids) else None

    @staticmethod
    def _found(
        ref: RemoteRef,
        where: int,
        definitions: _Definitions,
        instances: _Instances,
        of_project: Callable[[int], _Instances | None],
    ) -> tuple[list[int], dict[int, Tag]] | None:
        """Return the ids of the tags that *ref* has and the definitions by id; None if the server does not tell."""
        if instances.by_ref is None:
            return None
        known = _by_id(definitions)
        ids = list(instances.by_ref.get(ref, ()))
        own = {tag.id for tag in definitions.tags if tag.project is None}
        if where != _ALL and own:
            everywhere = of_project(_ALL)
            if everywhere is None or everywhere.by_ref is None:
                return None
            ids += [one for one in everywhere.by_ref.get(ref, ()) if one in own and one not in ids]
        return ids, known

    # -- changing ------------------------------------------------------------------------------------

    def set_all(self, ref: RemoteRef, project: int | None, labels: Iterable[str]) -> None:
        """Give *ref* exactly *labels*; labels that the project does not have are made.

        Raises:
            BadCommand: A label that can not be one.
            PermissionDenied: Not allowed, or there is no such label and none can be made.
        """
        wanted = list(dict.fromkeys(labels))
        for label in wanted:
            check_label(label)
        with self._turns.of(ref):
            present = list(self._calls.tags_of(ref))
            has = {tag.label for tag in present}
            surplus = [tag for tag in present if tag.label not in wanted]
            self._change(ref, project, present, [label for label in wanted if label not in has], surplus)

    def add(self, ref: RemoteRef, project: int | None, label: str) -> None:
        """Give *ref* one more label; raises as ``set_all``."""
        check_label(label)
        with self._turns.of(ref):
            present = list(self._calls.tags_of(ref))
            is_missing = all(tag.label != label for tag in present)
            self._change(ref, project, present, [label] if is_missing else [], [])

    def remove(self, ref: RemoteRef, project: int | None, label: str) -> None:
        """Take *label* away from *ref*; nothing happens if it does not have it."""
        with self._turns.of(ref):
            present = list(self._calls.tags_of(ref))
            self._change(ref, project, present, [], [tag for tag in present if tag.label == label])

    def _change(
        self,
        ref: RemoteRef,
        project: int | None,
        present: Sequence[Tag],
        missing: Sequence[str],
        surplus: Sequence[Tag],
    ) -> None:
        """Give the labels *missing* and take the tags *surplus* away; *present* is what *ref* has."""
        given = [self._definition(label, project) for label in missing]
        try:
            for tag in given:
                self._calls.tag(ref, tag.id)
            self._take_away(ref, surplus)
        except BaseException:
            self._forget(ref, project)
            if given:
                self._definitions.invalidate([_ALL, project or _ALL])  # one may be gone
            raise
        gone = {tag.id for tag in surplus}
        self._put_right(ref, [*(tag for tag in present if tag.id not in gone), *given])
        for tag in (*given, *surplus):
            self._tag_changed(tag)

    def _definition(self, label: str, project: int | None) -> Tag:
        """Return the tag called *label* that an object of *project* can have, made if there is none."""
        with self._turns.of((project, label)):
            tag = _best(self._definitions.load(_ALL).tags, label, project)
            if tag is not None and tag.project == project:
                return tag
            if project is None:
                if tag is None:
                    raise PermissionDenied(
                        f"there is no tag {label!r}, and without a project none can be made: "
                        "look the object up below projects/"
                    )
                return tag
            now = self._tags_of_project(project)
            of_project = _best(now, label, project)
            if of_project is not None or tag is not None:
                found = of_project or tag
                assert found is not None
                return found
            try:
                made = self._calls.create_tag(label, project=project)
            except PermissionDenied as error:
                raise PermissionDenied(
                    f"there is no tag {label!r} in this project, and the server does not let you make one: {error}"
                ) from error
            self._learn([made])
            self._tag_changed(made)
            return made

    def _tags_of_project(self, project: int) -> Sequence[Tag]:
        """Return its definitions as they are now, so that none is made twice."""
        with contextlib.suppress(NotFound):
            return self._calls.project_tags(project)
        return self._calls.tags()

    def _take_away(self, ref: RemoteRef, tags: Sequence[Tag]) -> None:
        by_project: dict[int | None, Sequence[TagInstance]] = {}
        for tag in tags:
            if tag.project not in by_project:
                by_project[tag.project] = self._instances_now(tag.project)
            found = [one for one in by_project[tag.project] if (one.tag, one.ref) == (tag.id, ref)]
            if not found and any(one.id == tag.id for one in self._calls.tags_of(ref)):
                raise NotPermitted(
                    f"the server does not tell how the tag {tag.label!r} of {ref.kind.value} {ref.id} can be taken away"
                )
            for one in found:
                with contextlib.suppress(NotFound):  # somebody else was faster
                    self._calls.remove_tag_instance(one.id)

    def _instances_now(self, project: int | None) -> Sequence[TagInstance]:
        if project is not None:
            with contextlib.suppress(NotFound):
                return self._calls.tag_instances(project)
        return self._calls.tag_instances(None)

    def look_again(self, ref: RemoteRef) -> None:
        """Learn which tags *ref* has now; no request if memory knows of no tags at all."""
        if self._instances.weight() or self._single.get(ref) is not None:
            self._put_right(ref, self._calls.tags_of(ref))

    # -- what memory holds ---------------------------------------------------------------------------

    def refresh(self) -> None:
        """Forget what was learnt."""
        self._definitions.invalidate_all()
        self._instances.invalidate_all()
        self._single.invalidate_all()

    def close(self) -> None:
        """End the background threads."""
        self._definitions.close()
        self._instances.close()
        self._single.close()

    def _put_right(self, ref: RemoteRef, tags: Sequence[Tag]) -> None:
        """Let *ref* have exactly *tags* wherever memory has it."""
        self._learn(tags)
        ids = tuple(tag.id for tag in sorted(tags, key=lambda tag: tag.id))
        of_project = {tag.id: tag.project for tag in tags}

        def now(value: _Instances) -> tuple[int, ...]:
            if value.project == _ALL:
                return ids
            return tuple(one for one in ids if of_project[one] == value.project)

        self._instances.change_where(
            lambda value: value.by_ref is not None and value.by_ref.get(ref, ()) != now(value),
            lambda value: replace(value, by_ref={**(value.by_ref or {}), ref: now(value)}),
        )
        self._single.put(ref, tuple(tags))

    def _learn(self, tags: Sequence[Tag]) -> None:
        """Note definitions, some of which memory may not have."""

        def more(value: _Definitions) -> tuple[Tag, ...]:
            known = {tag.id for tag in value.tags}
            return tuple(tag for tag in tags if tag.id not in known and value.project in (_ALL, tag.project))

        self._definitions.change_where(
            lambda value: bool(more(value)), lambda value: replace(value, tags=(*value.tags, *more(value)))
        )

    def _forget(self, ref: RemoteRef, project: int | None) -> None:
        self._instances.invalidate([_ALL, _where(ref, project), project or _ALL])
        self._single.invalidate([ref])

    def _fetch_definitions(self, project: int) -> Fetched[int, _Definitions]:
        if project == _ALL:
            return Fetched(_Definitions(_ALL, tuple(self._calls.tags())))
        try:
            tags = self._calls.project_tags(project)
        except (NotFound, ProtocolError) as error:
            if not is_missing_call(error):
                raise
            tags = ()
        return Fetched(_Definitions(project, tuple(tags)))

    def _fetch_instances(self, project: int) -> Fetched[int, _Instances]:
        try:
            instances = self._calls.tag_instances(project or None)
        except (NotFound, ProtocolError) as error:
            if not is_missing_call(error):
                raise
            log.debug("tags are asked for object by object: %s", error)
            return Fetched(_Instances(project, None))
        by_ref: dict[RemoteRef, tuple[int, ...]] = {}
        for one in instances:
            by_ref[one.ref] = (*by_ref.get(one.ref, ()), one.tag)
        return Fetched(_Instances(project, by_ref))


def check_label(label: str) -> None:
    """Refuse what can be no label.

    Raises:
        BadCommand: Empty, with blanks around it, with control characters, or no UTF-8.
    """
    if not label or label != label.strip() or _NO_TEXT.search(label):
        raise BadCommand(f"{label[:80]!r} can not be the label of a tag")


def check_labels(text: str) -> None:
    """Refuse a list with commas that has something in it that can be no label."""
    for label in split_labels(text, ()):
        check_label(label)


def split_labels(text: str, known: Iterable[str]) -> list[str]:
    """Return the labels of a list with commas.

    A label may have commas itself, which a list can not say; but one of *known*, such as the object has already, is
    found again, so that what was read can be written back.
    """
    with_commas = {label for label in known if "," in label}
    parts = text.split(",")
    labels: list[str] = []
    at = 0
    while at < len(parts):
        length = next(
            (
                length
                for length in range(len(parts) - at, 1, -1)
                if ",".join(parts[at : at + length]).strip() in with_commas
            ),
            1,
        )
        label = ",".join(parts[at : at + length]).strip()
        if label:
            labels.append(label)
        at += length
    return list(dict.fromkeys(labels))


def is_missing_call(error: NotFound | ProtocolError) -> bool:
    """Tell whether *error* may say that the server has no such call."""
    return isinstance(error, NotFound) or error.status in (400, 405, 501)


def _where(ref: RemoteRef, project: int | None) -> int:
    return _ALL if project is None or ref.kind is Kind.PATIENT else project


def _by_id(definitions: _Definitions) -> dict[int, Tag]:
    return {tag.id: tag for tag in definitions.tags}


def _labels(tags: Iterable[Tag]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(tag.label for tag in sorted(tags, key=lambda tag: tag.id)))


def _best(tags: Iterable[Tag], label: str, project: int | None) -> Tag | None:
    """Return the tag called *label* that is *project*'s, or else the user's own."""
    found = [tag for tag in tags if tag.label == label and tag.project in (project, None)]
    return min(found, key=lambda tag: (tag.project != project, tag.id), default=None)
