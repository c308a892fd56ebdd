"""From a request path to an endpoint.

The API is served below two prefixes, with and without a trailing slash, and names series in two ways. All that is
settled here, so that a route is written once. aiohttp's own router would need four entries for each.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import unquote

from agorafs.sandbox.calls import Route


class Match(NamedTuple):
    """A route with the values of its ``{name}`` segments; ``version`` is 1 or 2."""

    route: Route
    version: int
    arguments: dict[str, str]


class Router:
    """All routes, by method and number of segments. Fixed segments win over ``{name}``, in the table's order."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._routes: dict[tuple[str, int], list[tuple[tuple[str, ...], Route]]] = {}
        self._lengths: dict[int, list[tuple[str, ...]]] = {}
        for route in routes:
            segments = tuple(route.pattern.split("/"))
            self._routes.setdefault((route.method, len(segments)), []).append((segments, route))
            self._lengths.setdefault(len(segments), []).append(segments)

    def match(self, method: str, raw_path: str) -> Match | None:
        """Return the route of a percent-encoded path, or None."""
        split = split_path(raw_path)
        if split is None:
            return None
        version, segments = split
        for pattern, route in self._routes.get((method, len(segments)), ()):
            arguments = _arguments(pattern, segments)
            if arguments is not None:
                return Match(route, version, arguments)
        return None

    def knows(self, raw_path: str) -> bool:
        """Say whether the path exists for some other method."""
        split = split_path(raw_path)
        return split is not None and any(
            _arguments(pattern, split[1]) is not None for pattern in self._lengths.get(len(split[1]), ())
        )


def split_path(raw_path: str) -> tuple[int, tuple[str, ...]] | None:
    """Return (version, segments) of ``/api/v1/…``, each segment decoded by itself: a UID may hold a slash."""
    parts = raw_path.split("/")
    if len(parts) < 4 or parts[:2] != ["", "api"] or parts[2] not in ("v1", "v2"):
        return None
    segments = parts[3:-1] if parts[-1] == "" else parts[3:]
    return int(parts[2][1]), tuple(unquote(segment) for segment in segments)


def _arguments(pattern: tuple[str, ...], segments: tuple[str, ...]) -> dict[str, str] | None:
    arguments = {}
    for expected, actual in zip(pattern, segments, strict=True):
        if expected.startswith("{"):
            name = expected[1:-1]
            if name.endswith("id") and name != "uid" and not (actual.isascii() and actual.isdigit()):
                return None
            arguments[name] = actual
        elif expected != ("series" if actual == "serie" else actual):
            return None
    return arguments
