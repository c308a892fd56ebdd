"""Parameters of objects: sets that came with the data, and sets that people made; kept for the listings' time.

A name means the first parameter that has it, in the order of the sets. Only sets that people made can be changed; a set
is written as a whole, so each change reads the sets as they are now first. What somebody else writes in between is lost
all the same: the archive has no way to prevent that.

Requests.  Reading: one for the list of an object's sets, one for each set. Writing: those, and one.

Threads.  Every method may be called from any thread. The cache locks itself; ``Turns`` keep changes of one object in
order.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

from agorafs.cache.metadata import Fetched, Freshness, ListingCache
from agorafs.client.annotations import ParameterSet
from agorafs.client.records import RemoteRef
from agorafs.clock import Clock
from agorafs.errors import NoSuchXattr, NotFound, NotPermitted
from agorafs.vfs import parameter_values as values
from agorafs.vfs.turns import Turns


class ParameterCalls(Protocol):
    """What is asked of the archive; ``client.annotations`` answers it."""

    def parameter_sets(self, ref: RemoteRef) -> Sequence[ParameterSet]: ...
    def add_parameter_set(
        self, ref: RemoteRef, name: str, parameters: Sequence[Mapping[str, Any]]
    ) -> ParameterSet: ...
    def replace_parameters(
        self, set_id: int, name: str, parameters: Sequence[Mapping[str, Any]]
    ) -> object: ...
    def delete_parameter_set(self, set_id: int) -> None: ...


class _Known(NamedTuple):
    """The sets of one object, and the values by all texts that ``find`` knows."""

    sets: tuple[ParameterSet, ...]
    by_text: Mapping[str, Any]


class Parameters:
    """See the module docstring."""

    def __init__(
        self, calls: ParameterCalls, *, freshness: Freshness, clock: Clock, turns: Turns, max_kept: int
    ) -> None:
        self._calls = calls
        self._turns = turns
        self._sets: ListingCache[RemoteRef, _Known] = ListingCache(
            lambda ref: Fetched(_known(tuple(calls.parameter_sets(ref)))),
            freshness=freshness,
            max_weight=max_kept,
            weigh=lambda known: len(known.by_text),
            clock=clock,
        )

    def sets(self, ref: RemoteRef) -> tuple[ParameterSet, ...]:
        """Return all sets of *ref* with their parameters."""
        return self._sets.load(ref).sets

    def value(self, ref: RemoteRef, text: str) -> Any:
        """Return the value of the parameter that *text* means (see ``find``).

        Raises:
            KeyError: There is none.
        """
        return self._sets.load(ref).by_text[text]

    def known_sets(self, ref: RemoteRef) -> tuple[ParameterSet, ...] | None:
        """Return them if memory knows them well enough, or None. Never waits."""
        known = self._sets.get_fresh(ref)
        return None if known is None else known.sets

    def set_value(self, ref: RemoteRef, text: str, value: object, *, set_name: str | None = None) -> None:
        """Give the parameter *text* of *ref* (see ``find``) the value *value*.

        Without *set_name* it is changed where it is, and made in the set ``User Parameters`` if it is nowhere.

        Raises:
            NotPermitted: It came with the data, and is not to be changed.
        """
        with self._turns.of(ref):
            sets = tuple(self._calls.parameter_sets(ref))
            self._set(ref, sets, *_meant(sets, text, set_name), value)

    def set_text(self, ref: RemoteRef, text: str, value_text: str) -> None:
        """The same with the value that *value_text* means; one that reads so already stays what it is."""
        with self._turns.of(ref):
            sets = tuple(self._calls.parameter_sets(ref))
            set_name, name = find(sets, text)
            one = _holder(sets, name, set_name)
            if one is not None and values.value_text(values.value_in(one.parameters, name)) == value_text:
                self._put(ref, sets)
            else:
                self._set(ref, sets, set_name, name, values.value_of(value_text))

    def add_texts(self, ref: RemoteRef, texts: Mapping[str, str]) -> None:
        """Give parameters by their names the values that *texts* mean; what came with the data stays as it is."""
        with self._turns.of(ref):
            sets = tuple(self._calls.parameter_sets(ref))
            fixed = {name for one in sets if one.is_read_only for name in values.names_in(one.parameters)}
            wanted = {name: values.value_of(text) for name, text in texts.items() if name not in fixed}
            one = _named(sets, values.USER_SET, is_writable=True)
            after = list(one.parameters) if one is not None else []
            for name, value in wanted.items():
                after = values.with_value(after, name, value)
            if one is None and wanted:
                self._add(ref, sets, values.USER_SET, after)
            elif one is not None and after != list(one.parameters):
                self._replace(ref, sets, one, after)

    def remove_value(self, ref: RemoteRef, text: str, *, set_name: str | None = None) -> None:
        """Remove the parameter *text*; a set stays, even empty.

        Raises:
            NoSuchXattr: There is none.
            NotPermitted: It came with the data.
        """
        with self._turns.of(ref):
            sets = tuple(self._calls.parameter_sets(ref))
            set_name, name = _meant(sets, text, set_name)
            one = _holder(sets, name, set_name)
            if one is None:
                raise NoSuchXattr(f"{ref.kind.value} {ref.id} has no parameter {text!r}")
            _check_writable(one)
            self._replace(ref, sets, one, values.without(one.parameters, name))

    def replace_set(
        self,
        ref: RemoteRef,
        set_name: str,
        make: Callable[[Sequence[values.Parameter]], Sequence[values.Parameter]],
        *,
        set_id: int | None = None,
    ) -> None:
        """Give a set what *make* returns, which is given what is in it.

        Without *set_id* it is the first that people made and called *set_name*, made if there is none.

        Raises:
            NotFound: There is no set *set_id* any more.
            NotPermitted: It came with the data.
        """
        with self._turns.of(ref):
            sets = tuple(self._calls.parameter_sets(ref))
            one = _chosen(sets, set_name, set_id)
            if one is None:
                self._add(ref, sets, set_name, make(()))
                return
            _check_writable(one)
            self._replace(ref, sets, one, make(one.parameters))

    def remove_set(self, ref: RemoteRef, set_name: str, *, set_id: int | None = None) -> None:
        """Delete a set.

        Raises:
            NotFound: There is none.
            NotPermitted: It came with the data.
        """
        with self._turns.of(ref):
            sets = tuple(self._calls.parameter_sets(ref))
            one = _chosen(sets, set_name, set_id)
            if one is None:
                raise NotFound(f"{ref.kind.value} {ref.id} has no parameter set {set_name!r}")
            _check_writable(one)
            with self._doubting(ref):
                self._calls.delete_parameter_set(one.id)
            self._put(ref, tuple(other for other in sets if other is not one))

    def forget(self, ref: RemoteRef) -> None:
        """Forget what was learnt of *ref*."""
        self._sets.invalidate([ref])

    def refresh(self) -> None:
        """Forget what was learnt."""
        self._sets.invalidate_all()

    def close(self) -> None:
        """End the background threads."""
        self._sets.close()

    def _set(
        self,
        ref: RemoteRef,
        sets: tuple[ParameterSet, ...],
        set_name: str | None,
        name: str,
        value: object,
    ) -> None:
        one = _holder(sets, name, set_name)
        if one is None:
            new_name = set_name or values.USER_SET
            one = _named(sets, new_name, is_writable=True)
            if one is None and set_name is not None:
                one = _named(sets, set_name)
            if one is None:
                self._add(ref, sets, new_name, [{"Name": name, "Value": value}])
                return
        _check_writable(one)
        self._replace(ref, sets, one, values.with_value(one.parameters, name, value))

    def _add(
        self,
        ref: RemoteRef,
        sets: tuple[ParameterSet, ...],
        name: str,
        parameters: Sequence[values.Parameter],
    ) -> None:
        with self._doubting(ref):
            head = self._calls.add_parameter_set(ref, name, parameters)
        self._put(ref, (*sets, replace(head, is_read_only=False, parameters=tuple(parameters))))

    def _replace(
        self,
        ref: RemoteRef,
        sets: tuple[ParameterSet, ...],
        one: ParameterSet,
        parameters: Sequence[values.Parameter],
    ) -> None:
        with self._doubting(ref):
            self._calls.replace_parameters(one.id, one.name, parameters)
        changed = replace(one, parameters=tuple(parameters))
        self._put(ref, tuple(changed if other is one else other for other in sets))

    def _put(self, ref: RemoteRef, sets: tuple[ParameterSet, ...]) -> None:
        self._sets.put(ref, _known(sets))

    @contextlib.contextmanager
    def _doubting(self, ref: RemoteRef) -> Iterator[None]:
        """Forget what memory holds of *ref* if a change of it fails: it may have been made."""
        try:
            yield
        except BaseException:
            self._sets.invalidate([ref])
            raise


def find(sets: Sequence[ParameterSet], text: str) -> tuple[str | None, str]:
    """Return (set, name) that *text* means: a parameter of that name, or ``<set>/<name>``; set None: wherever it is."""
    for one in sets:
        for name in values.names_in(one.parameters):
            if values.without_nul(name) == text:
                return None, name
    for one in sets:
        prefix = f"{one.name}/"
        if text.startswith(prefix) and len(text) > len(prefix):
            return one.name, text[len(prefix) :]
    return None, text


def _meant(sets: Sequence[ParameterSet], text: str, set_name: str | None) -> tuple[str | None, str]:
    return find(sets, text) if set_name is None else (set_name, text)


def _known(sets: tuple[ParameterSet, ...]) -> _Known:
    """Look every parameter up once: an object may have thousands, and each is asked for by its name."""
    plain: dict[str, Any] = {}
    of_set: dict[str, Any] = {}
    for one in sets:
        for parameter in one.parameters:
            name = parameter.get("Name")
            if isinstance(name, str) and name:
                plain.setdefault(values.without_nul(name), parameter.get("Value"))
                of_set.setdefault(f"{one.name}/{name}", parameter.get("Value"))
    return _Known(sets, {**of_set, **plain})


def difference(first: Sequence[ParameterSet], second: Sequence[ParameterSet]) -> dict[str, Any]:
    """Return which parameters only one of two objects has, and which differ, as the vendor's connector does."""
    one, other = _by_name(first), _by_name(second)
    return {
        "only_in_first": {name: value for name, value in one.items() if name not in other},
        "only_in_second": {name: value for name, value in other.items() if name not in one},
        "different": {
            name: [value, other[name]]
            for name, value in one.items()
            if name in other and not _same(value, other[name])
        },
    }


def _same(one: object, other: object) -> bool:
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def _by_name(sets: Sequence[ParameterSet]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for one in sets:
        for name in values.names_in(one.parameters):
            found.setdefault(name, values.value_in(one.parameters, name))
    return found


def _holder(sets: Sequence[ParameterSet], name: str, set_name: str | None) -> ParameterSet | None:
    """Return the set whose parameter *name* is meant."""
    for one in sets:
        if set_name in (None, one.name) and any(item.get("Name") == name for item in one.parameters):
            return one
    return None


def _named(sets: Sequence[ParameterSet], name: str, *, is_writable: bool = False) -> ParameterSet | None:
    return next((one for one in sets if one.name == name and not (is_writable and one.is_read_only)), None)


def _chosen(sets: Sequence[ParameterSet], name: str, set_id: int | None) -> ParameterSet | None:
    """Return the set *set_id*, or else one called *name*, rather one that can be changed."""
    if set_id is None:
        return _named(sets, name, is_writable=True) or _named(sets, name)
    for one in sets:
        if one.id == set_id:
            return one
    raise NotFound(f"there is no parameter set {name!r} ({set_id}) any more")


def _check_writable(one: ParameterSet) -> None:
    if one.is_read_only:
        raise NotPermitted(f"the parameters of {one.name!r} came with the data and do not change")
