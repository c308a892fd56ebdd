"""Several questions at once: what has to ask the archive for many things asks a few at a time."""

from __future__ import annotations

from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

_QUESTIONS_AT_ONCE = 4  # not measured

T = TypeVar("T")
R = TypeVar("R")


def each(function: Callable[[T], R], items: Collection[T]) -> list[R]:
    """Return *function* of each of *items*, in their order; the first error is raised.

    The threads are its own, so that nothing waits behind the questions of somebody else that hang.
    """
    if len(items) < 2:
        return [function(item) for item in items]
    with ThreadPoolExecutor(min(_QUESTIONS_AT_ONCE, len(items)), "agorafs-at-once") as threads:
        return list(threads.map(function, items))
