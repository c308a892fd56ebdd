"""Asking for records: the answer of an endpoint, parsed, with the address in what goes wrong.

Place.  The modules that know paths (``api`` names them) use it for what they have in common.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from agorafs.client.paging import fetch_list
from agorafs.client.records import parse_object
from agorafs.client.transport import Transport
from agorafs.errors import ProtocolError

log = logging.getLogger(__name__)

T = TypeVar("T")


def parsed(transport: Transport, path: str, parse: Callable[[object], T], data: object) -> T:
    """Parse the answer to *path*; a record does not know where its JSON came from, so say it here."""
    try:
        return parse(data)
    except ProtocolError as error:
        raise ProtocolError(f"{transport.base_url.join(path)}: {error}") from error


def listed(
    transport: Transport,
    path: str,
    parse: Callable[[object], T],
    page_size: int,
    params: Mapping[str, str | int] | None = None,
) -> list[T]:
    """Return every record of the list at *path*."""

    def parse_all(elements: object) -> list[T]:
        assert isinstance(elements, list)
        return [parse(element) for element in elements]

    return parsed(transport, path, parse_all, fetch_list(transport, path, page_size, params))


def listed_known(
    transport: Transport,
    path: str,
    parse: Callable[[object], T | None],
    page_size: int,
    params: Mapping[str, str | int] | None = None,
) -> list[T]:
    """As ``listed``, without what *parse* gives None for: it concerns objects of a kind that nobody here knows."""
    records = listed(transport, path, parse, page_size, params)
    known = [record for record in records if record is not None]
    if len(known) < len(records):
        log.debug("%s: %d elements of an unknown kind are left out", path, len(records) - len(known))
    return known


def json_object(data: object) -> Mapping[str, Any]:
    """Return *data*, which must be a JSON object."""
    return parse_object(data, "object")
