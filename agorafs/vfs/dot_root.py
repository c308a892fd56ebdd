"""Files that say what the server is, who may do what, and how this mount does. ::

    /.agora/me.json, users.json, groups.json, vendors.json, version.json    as the server gives them
    /.agora/status.json, metrics                        how this mount is, for people and for Prometheus
    PROJECT/.agora/members.json                         who is in the project, with names and roles
    PROJECT/.agora/roles.json, hosts.json               the roles that there are; the machines that run its tasks
    DATASET/.agora/image.json                           what the server knows of the images of a dataset

Requests.  One per file, three for ``members.json``; the answers are kept for the listings' time. None for the mount's
own two, which are made when they are looked at: an opening reads the moment of the opening, whatever ``stat`` said.

Secrets.  Whatever the server calls a key, a token or a password is left out, however deep it lies.

Threads.  No state but a cache, which locks itself.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from agorafs.cache.metadata import Fetched, Freshness, ListingCache
from agorafs.client.records import Kind, RemoteRef
from agorafs.clock import Clock
from agorafs.errors import NotFound, NotPermitted, PermissionDenied
from agorafs.tree.tree import Node
from agorafs.vfs.aside import Aside, Names, Part, inode_below
from agorafs.vfs.objects import ref_of
from agorafs.vfs.virtual import Draft

_OF_ROOT = ("me.json", "users.json", "groups.json", "vendors.json", "version.json")
_OF_PROJECT = ("members.json", "roles.json", "hosts.json")
_IMAGE = "image.json"
_STATUS = "status.json"
_METRICS = "metrics"

_SECRET = re.compile(r"(?:.*_)?(?:api_?key|key|token|password|secret)", re.IGNORECASE)
_MAX_KEPT = 1000

# What of the status only grows; all other numbers go up and down.
_COUNTERS = frozenset({
    "content_requests", "content_fetched_bytes", "content_served_bytes", "content_dropped_blocks",
    "content_integrity_failures",
})  # fmt: skip


class People(Protocol):
    """What is asked of ``client.administration``."""

    def users(self) -> Sequence[Mapping[str, Any]]: ...
    def groups(self) -> Sequence[Mapping[str, Any]]: ...
    def roles(self) -> Mapping[int, str]: ...
    def hosts(self, project: int) -> Sequence[Mapping[str, Any]]: ...


class Images(Protocol):
    """What is asked of ``client.exploring``."""

    def image_info(self, dataset_id: int) -> Any: ...


class Server(Protocol):
    """What is asked of ``client.Client``."""

    @property
    def administration(self) -> People: ...
    @property
    def exploring(self) -> Images: ...
    def describe(self, ref: RemoteRef) -> Mapping[str, Any]: ...
    def describe_me(self) -> Mapping[str, Any]: ...
    def describe_server(self) -> Mapping[str, Any]: ...
    def vendors(self) -> Mapping[int, str]: ...


class _File(NamedTuple):
    """A file about the object *id*; 0 at the root."""

    name: str
    id: int


class DotInfo(Part):
    """See the module docstring."""

    def __init__(
        self,
        server: Server,
        *,
        status: Callable[[], Mapping[str, Any]],
        freshness: Freshness,
        clock: Clock,
    ) -> None:
        """Build it; no request. *status* says how the mount is, and never waits."""
        self._server = server
        self._status = status
        self._contents: ListingCache[_File, bytes] = ListingCache(
            lambda file: Fetched(as_json(without_secrets(self._ask(file)))),
            freshness=freshness,
            max_weight=_MAX_KEPT,
            weigh=lambda _: 0,
            clock=clock,
        )

    def names(self, node: Node, *, is_root: bool) -> Names:
        """Return the files beside *node*."""
        if is_root:
            return Names((*_OF_ROOT, _STATUS, _METRICS))
        ref = ref_of(node)
        if ref is None:
            return Names()
        return Names({Kind.PROJECT: _OF_PROJECT, Kind.DATASET: (_IMAGE,)}.get(ref.kind, ()))

    def resolve(self, node: Node, rest: Sequence[str], *, is_root: bool) -> Aside | None:
        """Return one of the files."""
        if len(rest) != 1 or rest[0] not in self.names(node, is_root=is_root).files:
            return None
        ino = inode_below(node.entry.ino, rest)
        name = rest[0]
        if name in (_STATUS, _METRICS):
            render = self._status_json if name == _STATUS else self._metrics
            return Aside(ino, content=render(), talk=lambda _: Draft(render(), _refuse))
        ref = ref_of(node)
        return Aside(ino, content=self._contents.load(_File(name, 0 if ref is None or is_root else ref.id)))

    def refresh(self) -> None:
        """Forget what was learnt."""
        self._contents.invalidate_all()

    def close(self) -> None:
        """End the background threads."""
        self._contents.close()

    def _ask(self, file: _File) -> Any:
        server = self._server
        ask: Mapping[str, Callable[[], Any]] = {
            "me.json": server.describe_me,
            "users.json": server.administration.users,
            "groups.json": server.administration.groups,
            "vendors.json": lambda: _named(server.vendors()),
            "version.json": server.describe_server,
            "members.json": functools.partial(self._members, file.id),
            "roles.json": lambda: _named(server.administration.roles()),
            "hosts.json": functools.partial(server.administration.hosts, file.id),
            "image.json": functools.partial(server.exploring.image_info, file.id),
        }
        return ask[file.name]()

    def _members(self, project: int) -> list[dict[str, Any]]:
        """The memberships of a project, with the names of users and roles where this user may know them."""
        about = self._server.describe(RemoteRef(Kind.PROJECT, project))
        roles = self._server.administration.roles()
        try:
            users = {user.get("id"): user.get("username") for user in self._server.administration.users()}
        except (PermissionDenied, NotFound):
            users = {}
        memberships = about.get("memberships")
        return [
            {
                **membership,
                "username": users.get(membership.get("user")),
                "role_name": roles.get(membership.get("role", 0)),
            }
            for membership in (memberships if isinstance(memberships, list) else [])
            if isinstance(membership, Mapping)
        ]

    def _status_json(self) -> bytes:
        return as_json(without_secrets(self._status()))

    def _metrics(self) -> bytes:
        return metrics(self._status()).encode()


def metrics(status: Mapping[str, Any]) -> str:
    """Return the numbers of *status* in Prometheus' text format."""
    labels = ",".join(
        f"{name}={_quoted(str(status.get(name, '')))}"
        for name in ("agorafs", "server_version", "url", "user")
    )
    samples = [("info", "gauge", "{" + labels + "}", 1.0)]
    samples.append(("server_up", "gauge", "", float(status.get("server") == "ok")))
    for name, value in _numbers("", status):
        is_counter = name in _COUNTERS
        samples.append(
            (name + "_total" if is_counter else name, "counter" if is_counter else "gauge", "", value)
        )
    return "".join(
        f"# TYPE agorafs_{name} {kind}\nagorafs_{name}{with_labels} {value:.17g}\n"
        for name, kind, with_labels, value in samples
    )


def _numbers(prefix: str, data: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for key, value in data.items():
        name = f"{prefix}{re.sub('[^a-zA-Z0-9_]', '_', key)}"
        if isinstance(value, Mapping):
            yield from _numbers(f"{name}_", value)
        elif isinstance(value, (bool, int, float)):
            yield name, float(value)
        elif isinstance(value, list):
            yield f"{name}_count", float(len(value))


def _quoted(text: str) -> str:
    escaped = text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
    return f'"{escaped}"'


def without_secrets(data: Any) -> Any:
    """Return *data* without any field that is called a key, a token or a password."""
    if isinstance(data, Mapping):
        return {key: without_secrets(value) for key, value in data.items() if not _SECRET.fullmatch(str(key))}
    if isinstance(data, (list, tuple)):
        return [without_secrets(value) for value in data]
    return data


def as_json(data: Any) -> bytes:
    """Return *data* as the files below ``.agora`` show it."""
    return (json.dumps(data, indent=2, ensure_ascii=False) + "\n").encode(errors="replace")


def _named(names: Mapping[int, str]) -> list[dict[str, Any]]:
    return [{"id": number, "name": name} for number, name in names.items()]


def _refuse(_: bytes) -> None:
    raise NotPermitted("this says how the mount is; there is nothing to write")
