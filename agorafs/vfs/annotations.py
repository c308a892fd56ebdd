"""What people say about objects: tags, ratings, parameters, and the lock of an exam.

Why.  Extended attributes, the files below ``.agora``, the control file and the directories of tags all show and change
the same. Here it is kept, for the listings' time, and changed: on the server at once, then in memory, so that our own
changes are seen at once and cost no request more.

Place.  ``xattrs``, ``dot_annotations``, ``control`` and ``views`` call this; ``tagging`` and ``parameters`` do the work
for their parts. It knows refs, not paths; whoever has a path calls ``check_may_annotate`` first, so that what role or
lock forbids is refused in words and without a request.

Threads.  Every method may be called from any thread; changes of one object are made one after the other (``turns``).

Failure.  What the server calls wrong (400, 422) is ``BadCommand``. After a change that failed memory forgets what it
concerned, because it may have been made.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from agorafs.cache.metadata import Fetched, Freshness, ListingCache
from agorafs.client.annotations import ParameterSet, Rating, Tag
from agorafs.client.records import Kind, RemoteRef
from agorafs.clock import Clock
from agorafs.errors import BadCommand, NotPermitted, ProtocolError
from agorafs.tree.tree import Node
from agorafs.vfs import parameter_values, parameters, rules
from agorafs.vfs.objects import ref_of
from agorafs.vfs.parameters import ParameterCalls, Parameters
from agorafs.vfs.tagging import TagCalls, Tags
from agorafs.vfs.turns import Turns

MAX_RATING = 5

_DESCRIBED = frozenset({Kind.FOLDER, Kind.EXAM, Kind.SERIES, Kind.DATASET, Kind.PATIENT})


class Calls(TagCalls, ParameterCalls, Protocol):
    """What is asked of the archive; ``client.annotations`` answers it."""

    def rating(self, ref: RemoteRef) -> Rating | None: ...
    def rate(self, ref: RemoteRef, value: int) -> object: ...
    def set_locked(self, exam_ids: Sequence[int], locked: bool) -> object: ...


def described(node: Node) -> RemoteRef | None:
    """Return the object at *node* if it is one that can be tagged, rated and described by parameters."""
    ref = ref_of(node)
    return ref if ref is not None and ref.kind in _DESCRIBED else None


def project_of(node: Node) -> int | None:
    """Return the project whose tags the object at *node* can have."""
    return None if node.project is None else node.project.id


def check_may_annotate(node: Node) -> None:
    """Refuse what role or locks forbid. Where there is no project, nothing is known, and the server decides.

    Raises:
        PermissionDenied: With the lock, or the role.
    """
    if node.project is not None:
        rules.check_may_change(node)


def check_may_lock(node: Node) -> None:
    """Refuse to lock or unlock what is no exam, or what role or locks above forbid.

    Raises:
        NotPermitted: It is no exam; the archive offers nothing to lock it with.
        PermissionDenied: The role, or a lock above.
    """
    ref = ref_of(node)
    if ref is None or ref.kind is not Kind.EXAM:
        raise NotPermitted(f"{node.path}: the archive locks and unlocks exams, nothing else")
    if node.project is not None and node.parent is not None:
        rules.check_may_change(node.parent)  # its own lock is what this is about


class Annotations:
    """See the module docstring."""

    def __init__(
        self,
        calls: Calls,
        *,
        freshness: Freshness,
        clock: Clock,
        tag_changed: Callable[[Tag], None],
        object_changed: Callable[[RemoteRef], None],
        max_kept: int = 200_000,
    ) -> None:
        """Build it; no request.

        Args:
            tag_changed: Told of each tag that was made, given or taken away: directories that show it are wrong now.
            object_changed: Told of each object that was locked or unlocked.
            max_kept: How many tagged objects, ratings and parameters are kept, of each.
        """
        self._calls = calls
        self._object_changed = object_changed
        self._turns = Turns()
        self._tags = Tags(
            calls,
            freshness=freshness,
            clock=clock,
            turns=self._turns,
            tag_changed=tag_changed,
            max_kept=max_kept,
        )
        self._parameters = Parameters(
            calls, freshness=freshness, clock=clock, turns=self._turns, max_kept=max_kept
        )
        self._ratings: ListingCache[RemoteRef, int] = ListingCache(
            self._fetch_rating, freshness=freshness, max_weight=max_kept, weigh=lambda _: 0, clock=clock
        )

    # -- tags ----------------------------------------------------------------------------------------

    def tags(self, ref: RemoteRef, project: int | None) -> tuple[str, ...]:
        """Return the labels that *ref* has."""
        return self._tags.labels(ref, project)

    def known_tags(self, ref: RemoteRef, project: int | None) -> tuple[str, ...] | None:
        """Return them if memory knows them well enough, or None. Never waits."""
        return self._tags.known_labels(ref, project)

    def set_tags(self, ref: RemoteRef, project: int | None, labels: Iterable[str]) -> None:
        """Give *ref* exactly *labels*; those that there are not are made in the project.

        Raises:
            BadCommand: A label that can not be one.
            PermissionDenied: Not allowed, or there is no such label and none can be made.
        """
        with _wrong_is_bad_command():
            self._tags.set_all(ref, project, labels)

    def add_tag(self, ref: RemoteRef, project: int | None, label: str) -> None:
        """Give *ref* one more label; raises as ``set_tags``."""
        with _wrong_is_bad_command():
            self._tags.add(ref, project, label)

    def remove_tag(self, ref: RemoteRef, project: int | None, label: str) -> None:
        """Take *label* away from *ref*; nothing happens if it does not have it."""
        with _wrong_is_bad_command():
            self._tags.remove(ref, project, label)

    # -- ratings -------------------------------------------------------------------------------------

    def rating(self, ref: RemoteRef) -> int:
        """Return the stars of *ref*, 0 for none."""
        return self._ratings.load(ref)

    def known_rating(self, ref: RemoteRef) -> int | None:
        """Return them if memory knows them well enough, or None. Never waits."""
        return self._ratings.get_fresh(ref)

    def rate(self, ref: RemoteRef, value: int) -> None:
        """Give *ref* 1 to 5 stars, or take its rating away with 0.

        Raises:
            BadCommand: Another value.
        """
        if not 0 <= value <= MAX_RATING:
            raise BadCommand(f"a rating is 0 to {MAX_RATING}, not {value}")
        with self._turns.of(ref), _wrong_is_bad_command():
            try:
                self._calls.rate(ref, value)
            except BaseException:
                self._ratings.invalidate([ref])
                raise
            self._ratings.put(ref, value)

    def _fetch_rating(self, ref: RemoteRef) -> Fetched[RemoteRef, int]:
        rating = self._calls.rating(ref)
        return Fetched(0 if rating is None else rating.value)

    # -- parameters ----------------------------------------------------------------------------------

    def parameter_sets(self, ref: RemoteRef) -> tuple[ParameterSet, ...]:
        """Return all parameter sets of *ref*."""
        return self._parameters.sets(ref)

    def known_parameter_sets(self, ref: RemoteRef) -> tuple[ParameterSet, ...] | None:
        """Return them if memory knows them well enough, or None. Never waits."""
        return self._parameters.known_sets(ref)

    def parameter(self, ref: RemoteRef, text: str) -> Any:
        """Return the value of a parameter, given by its name or as ``<set>/<name>``.

        Raises:
            KeyError: There is none.
        """
        return self._parameters.value(ref, text)

    def set_parameter(self, ref: RemoteRef, name: str, value: object, *, set_name: str | None = None) -> None:
        """Give a parameter a value; without *set_name* where it is, or else in a set of the user's own.

        Raises:
            BadCommand: No name, or no value, that a parameter can have.
            NotPermitted: It came with the data, and does not change.
        """
        parameter_values.checked_value(value, parameter_values.checked_name(name))
        with _wrong_is_bad_command():
            self._parameters.set_value(ref, name, value, set_name=set_name)

    def set_parameter_text(self, ref: RemoteRef, name: str, text: str) -> None:
        """The same with the value that *text* means; a parameter that reads so already stays what it is."""
        parameter_values.checked_name(name)
        with _wrong_is_bad_command():
            self._parameters.set_text(ref, name, text)

    def add_parameter_texts(self, ref: RemoteRef, texts: Mapping[str, str]) -> None:
        """Give several parameters the values that *texts* mean; what came with the data stays as it is."""
        with _wrong_is_bad_command():
            self._parameters.add_texts(ref, texts)

    def remove_parameter(self, ref: RemoteRef, name: str, *, set_name: str | None = None) -> None:
        """Remove a parameter.

        Raises:
            NoSuchXattr: There is none.
            NotPermitted: It came with the data, and does not change.
        """
        with _wrong_is_bad_command():
            self._parameters.remove_value(ref, name, set_name=set_name)

    def replace_set(
        self,
        ref: RemoteRef,
        set_name: str,
        said: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        *,
        set_id: int | None = None,
    ) -> None:
        """Let a set of parameters be what is *said*, ``{name: value}`` or a list.

        Without *set_id* it is the first that people made and called *set_name*, made if there is none.

        Raises:
            BadCommand: It is neither.
            NotPermitted: The set came with the data, and does not change.
        """
        parameter_values.checked_name(set_name)
        parameter_values.parameters_from(said)
        with _wrong_is_bad_command():
            self._parameters.replace_set(
                ref,
                set_name,
                lambda before: parameter_values.parameters_from(said, before),
                set_id=set_id,
            )

    def remove_set(self, ref: RemoteRef, set_name: str, *, set_id: int | None = None) -> None:
        """Delete a set that people made.

        Raises:
            NotFound: There is none.
            NotPermitted: It came with the data.
        """
        with _wrong_is_bad_command():
            self._parameters.remove_set(ref, set_name, set_id=set_id)

    def difference(self, first: RemoteRef, second: RemoteRef) -> dict[str, Any]:
        """Return which parameters only one of two objects has, and which differ."""
        return parameters.difference(self.parameter_sets(first), self.parameter_sets(second))

    # -- locks ---------------------------------------------------------------------------------------

    def set_locked(self, ref: RemoteRef, locked: bool) -> None:
        """Lock or unlock an exam.

        Raises:
            NotPermitted: It is no exam.
        """
        if ref.kind is not Kind.EXAM:
            raise NotPermitted("the archive locks and unlocks exams, nothing else")
        with self._turns.of(ref), _wrong_is_bad_command():
            try:
                self._calls.set_locked([ref.id], locked)
            finally:
                self._object_changed(ref)

    def look_again(self, ref: RemoteRef) -> None:
        """Learn what is said of *ref* now, which was changed by us in another way."""
        self._ratings.invalidate([ref])
        self._parameters.forget(ref)
        self._tags.look_again(ref)

    # -- upkeep --------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Forget what was learnt."""
        self._tags.refresh()
        self._ratings.invalidate_all()
        self._parameters.refresh()

    def close(self) -> None:
        """End the background threads."""
        self._tags.close()
        self._ratings.close()
        self._parameters.close()


@contextlib.contextmanager
def _wrong_is_bad_command() -> Iterator[None]:
    try:
        yield
    except ProtocolError as error:
        if error.status in (400, 422):
            raise BadCommand(str(error)) from error
        raise
