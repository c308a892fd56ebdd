"""Whole lists out of paged answers.

Why.  The vendor's clients ask for ``limit=10000000000`` and drop what did not come. A listing that is not
complete would show stored data as missing, so here a list is complete or an exception.

What servers answer.  A page object (``count``, ``next``, ``previous``, ``results``), a bare list, or
a single object; all three are accepted for every list. A server may allow less than the limit we send
(then ``next`` leads on) or cut a bare list at it (then a larger limit is tried).

Changes while paging.  Something added or removed between two pages shifts the others, and one may be
skipped. That shows as a changed ``count`` or an id that comes twice; the list is then fetched anew.

Failure.  ``ProtocolError`` for a list that does not end, comes incomplete, or changes under every try.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agorafs.client.transport import Transport
from agorafs.errors import ProtocolError

# One request for every directory that a person would open. A page has to arrive within one deadline: a folder's
# entries are 850 bytes each (measured at the sandbox), so a full page is 17 MB.
DEFAULT_PAGE_SIZE = 20_000

_TRIES = 3
_LIMIT_FACTOR = 10


class _ListChanged(Exception):
    """The list changed between two of its pages."""


def fetch_list(
    transport: Transport,
    path: str,
    page_size: int = DEFAULT_PAGE_SIZE,
    params: Mapping[str, str | int] | None = None,
) -> list[Any]:
    """Return every element of the list at *path*, in the server's order.

    Args:
        page_size: Sent as ``limit``. The deadline of the transport holds for each page.
        params: Further query parameters; servers log them.
    """
    query = dict(params or {})
    for _ in range(_TRIES):
        try:
            return _fetch_once(transport, path, page_size, query)
        except _ListChanged:
            continue
    raise ProtocolError(
        f"{transport.base_url.join(path)}: the list changed while it was fetched, {_TRIES} times"
    )


def _fetch_once(transport: Transport, path: str, page_size: int, query: dict[str, str | int]) -> list[Any]:
    limit = page_size
    while True:
        answer = transport.get_json(path, {**query, "limit": limit})
        if not isinstance(answer, list):
            break
        if len(answer) != limit:
            return answer
        limit *= _LIMIT_FACTOR  # exactly full: it may have been cut there
    if not isinstance(answer, Mapping):
        raise ProtocolError(
            f"{transport.base_url.join(path)}: {type(answer).__name__} where a list was expected"
        )
    if "results" not in answer:
        return [answer]
    return _follow(transport, path, answer)


def _follow(transport: Transport, path: str, page: Mapping[str, Any]) -> list[Any]:
    url = transport.base_url.join(path)
    elements: list[Any] = []
    seen_links: set[str] = set()
    first_count = page.get("count")
    while True:
        results = page.get("results")
        if not isinstance(results, list):
            raise ProtocolError(f"{url}: {type(results).__name__} where a page's results were expected")
        elements += results
        link = page.get("next")
        if not link:
            break
        if not isinstance(link, str):
            raise ProtocolError(f"{url}: {link!r} where the link to the next page was expected")
        next_path = transport.base_url.api_path(link, path)
        if next_path in seen_links or not results:
            raise ProtocolError(
                f"{url}: the list does not end ({len(elements)} elements, then the same page again)"
            )
        seen_links.add(next_path)
        page = transport.get_json(next_path)
        if not isinstance(page, Mapping):
            raise ProtocolError(f"{url}: {type(page).__name__} where a page was expected")
        if page.get("count") != first_count:
            raise _ListChanged
    if seen_links and _has_duplicates(elements):
        raise _ListChanged
    if isinstance(first_count, int) and first_count > len(elements):
        raise ProtocolError(f"{url}: the list is incomplete ({len(elements)} of {first_count} elements)")
    return elements


def _has_duplicates(elements: list[Any]) -> bool:
    ids = [element.get("id") for element in elements if isinstance(element, Mapping)]
    known = [value for value in ids if isinstance(value, int)]
    return len(set(known)) != len(known)
