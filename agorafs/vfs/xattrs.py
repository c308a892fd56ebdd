"""Extended attributes of a node: what its record says, never a request.

``user.agora.type``, ``id``, ``uid``, ``project``, ``sha1``, ``created``, ``modified``, ``owner``, ``locked``,
``state`` and, where an operation or an upload failed, ``error`` (the reason in words). Times are ISO 8601 UTC;
booleans are ``1`` and ``0``. Attributes without a value are not there. What is not stored yet has ``type``,
``project``, ``modified``, ``state`` and ``error``.

Setting.  Copies bring the attributes of their original along. Those of agorafs itself say what is so and not what is
wished; the others the archive has no place for. Both are taken and dropped, so that no copy fails for them.

``security.*``, ``system.*`` and ``trusted.*`` belong to the kernel and its modules; the kernel asks for them before
every write and ``ls -l`` for every entry, so they are answered at once with "not there".
"""

from __future__ import annotations

from datetime import datetime, timezone

from agorafs.client.records import Datafile, Dataset, Exam, Project, Series
from agorafs.tree.listing import DirKey
from agorafs.tree.tree import Node
from agorafs.vfs.merged import Local

PREFIX = "user.agora."
OWN = frozenset(
    PREFIX + name
    for name in (
        "type", "id", "uid", "project", "sha1", "created", "modified", "owner", "locked", "state", "error",
    )
)  # fmt: skip


def attributes(node: Node, error: str | None) -> dict[str, str]:
    """Return the attributes of *node* by full name; *error* is the last reason noted for its path."""
    entry = node.entry
    record = entry.record
    values: dict[str, object] = {}
    if entry.ref is not None:
        values["type"] = entry.ref.kind.value
        values["id"] = entry.ref.id
        values["locked"] = int(entry.locked)
    elif isinstance(entry.target, DirKey):
        values["type"] = entry.target.area.value
    if node.project is not None:
        values["project"] = node.project.id
    if isinstance(record, (Exam, Series)):
        values["uid"] = record.uid
    if isinstance(record, (Exam, Project)):
        values["owner"] = record.owner
    created_ns = getattr(record, "created_ns", None)
    modified_ns = getattr(record, "modified_ns", None)
    if isinstance(entry.target, Datafile):
        values["sha1"] = entry.target.sha1
        values["state"] = "stored"
        modified_ns = entry.target.modified_ns or modified_ns
    elif isinstance(record, Dataset):
        values["state"] = "stored"
    values["created"] = _iso(created_ns)
    values["modified"] = _iso(modified_ns)
    values["error"] = error
    return {PREFIX + name: str(value) for name, value in values.items() if value not in (None, "")}


def local_attributes(found: Local, state: str, error: str | None) -> dict[str, str]:
    """Return the attributes of what is not stored yet; *error* is why it fails or waits."""
    node = found.node
    values: dict[str, object] = {
        "type": "folder" if node.is_directory else "datafile",
        "project": None if found.below.project is None else found.below.project.id,
        "modified": _iso(node.mtime_ns),
        "state": state or "local",
        "error": error,
    }
    return {PREFIX + name: str(value) for name, value in values.items() if value not in (None, "")}


def _iso(time_ns: int | None) -> str | None:
    if time_ns is None:
        return None
    moment = datetime.fromtimestamp(time_ns // 1_000_000_000, timezone.utc)
    fraction = time_ns % 1_000_000_000 // 1000
    return moment.strftime("%Y-%m-%dT%H:%M:%S") + (f".{fraction:06d}" if fraction else "") + "Z"
