"""Asking for records: the answer of an endpoint, parsed, with the address in what goes wrong.

Place.  ``api``, ``changes`` and ``imports`` use it for what they have in common.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from agorafs.client.paging import fetch_list
from agorafs.client.transport import Transport
from agorafs.errors import ProtocolError

T = TypeVar("T")


def parsed(transport: Transport, path: str, parse: Callable[[object], T], data: object) -> T:
    """Parse the answer to *path*; a record does not know where its JSON came from, so say it here."""
    try:
        return parse(data)
    except ProtocolError as error:
        raise ProtocolError(f"{transport.base_url.join(path)}: {error}") from error


def listed(transport: Transport, path: str, parse: Callable[[object], T], page_size: int) -> list[T]:
    """Return every record of the list at *path*."""

    def parse_all(elements: object) -> list[T]:
        assert isinstance(elements, list)
        return [parse(element) for element in elements]

    return parsed(transport, path, parse_all, fetch_list(transport, path, page_size))
