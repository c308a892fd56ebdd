"""Extended attributes of a node: what its record says, and what people say about it.

Of the record, never with a request: ``user.agora.type``, ``id``, ``uid``, ``project``, ``sha1``, ``created``,
``modified``, ``owner``, ``locked``, ``state``, ``dataset_type`` (the archive's number: 300 is DICOM, 100 Philips
raw data, 600 NIfTI-1, …) and, where an operation or an upload failed, ``error`` (the reason in words). Times are
ISO 8601 UTC; booleans are ``1`` and ``0``. Attributes without a value are not there. What is not stored yet has
``type``, ``project``, ``modified``, ``state`` and ``error``.

Of annotations, which are kept for the listings' time:

============================  =======================================================================================
``user.agora.tags``           the labels, with commas between them; setting it tags and untags
``user.xdg.tags``             the same, as file managers know it
``user.agora.tag.<label>``    ``1`` if it has this tag; anything but ``0`` tags, ``0`` and removing untag
``user.agora.rating``         0 (none) to 5
``user.baloo.rating``         the same in half stars, 0 to 10; an odd number is rounded up
``user.agora.param.<name>``   a parameter: texts as they are, all else as JSON; ``<set>/<name>`` means that of one set
``user.agora.locked``         of an exam, can be set
============================  =======================================================================================

Listing.  A listing names annotations only if memory knows them, so that ``ls -l`` and ``cp -a`` cost no request, and
none that is not there (a rating of 0, no tags); all can be read by name. A list of names has at most 64 KiB, a name
255 bytes: parameters are named while they fit.

Setting.  What the record says can not be set, except to what it is; copies bring the attributes of their original
along, so for what is not stored yet it is taken and dropped. So is its removal, everywhere: ``rsync -X`` removes what
its original does not have. Attributes that the archive has no place for are taken and dropped, too.

``security.*``, ``system.*`` and ``trusted.*`` belong to the kernel and its modules; the kernel asks for them before
every write and ``ls -l`` for every entry, so they are answered at once with "not there".
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from datetime import datetime, timezone

from agorafs.client.records import Datafile, Dataset, Exam, Kind, Project, RemoteRef, Series
from agorafs.errors import (
    AlreadyExists,
    BadCommand,
    NoSuchXattr,
    NotPermitted,
    NotSupported,
)
from agorafs.tree.listing import Area, DirKey
from agorafs.tree.tree import Node
from agorafs.vfs.annotations import (
    MAX_RATING,
    Annotations,
    check_may_annotate,
    check_may_lock,
    described,
    project_of,
)
from agorafs.vfs.merged import Local
from agorafs.vfs.objects import ref_of
from agorafs.vfs.parameter_values import names_in, value_text, without_nul
from agorafs.vfs.tagging import check_label, check_labels, split_labels

PREFIX = "user.agora."
OWN = frozenset(
    PREFIX + name
    for name in (
        "type", "id", "uid", "project", "sha1", "created", "modified", "owner", "locked", "state", "error",
        "dataset_type",
    )
)  # fmt: skip
TAGS = PREFIX + "tags"
XDG_TAGS = "user.xdg.tags"
RATING = PREFIX + "rating"
BALOO_RATING = "user.baloo.rating"
# Refused as what this file system can not have at all, like by one without access lists: ``ls -l`` asks for two of
# these at each entry, and gives up for the whole device when it hears so, but not when an entry happens to have none.
# 10,000 entries took 1.2 s with the one answer and 0.18 s with the other.
UNSUPPORTED = frozenset({"security.selinux", "system.posix_acl_access", "system.posix_acl_default"})
LOCKED = PREFIX + "locked"
TAG_PREFIX = PREFIX + "tag."
PARAMETER_PREFIX = PREFIX + "param."

# They can be read always, and count as being there only with a value.
_NAMED_IF_SET = frozenset({TAGS, XDG_TAGS, RATING, BALOO_RATING})

# The kernel's limits: XATTR_LIST_MAX and XATTR_NAME_MAX.
MAX_LIST_BYTES = 65536
MAX_NAME_BYTES = 255


def is_answered(name: str) -> bool:
    """Tell whether there can be an attribute *name*; all others are not looked up."""
    return name.startswith(PREFIX) or name in (XDG_TAGS, BALOO_RATING)


def is_annotation(name: str) -> bool:
    """Tell whether *name* is one of those that say what people say."""
    return name in _NAMED_IF_SET or _prefixed(name)


def _prefixed(name: str) -> bool:
    """Tell whether *name* is that of one label or one parameter."""
    return any(name.startswith(prefix) and name != prefix for prefix in (TAG_PREFIX, PARAMETER_PREFIX))


class Xattrs:
    """The attributes of what is stored. No state of its own; any thread."""

    def __init__(
        self, annotations: Annotations, *, announce: Callable[[Iterable[str]], None] = lambda paths: None
    ) -> None:
        """*announce* lets the kernel ask again about paths, from another thread."""
        self._annotations = annotations
        self._announce = announce

    def get(self, node: Node, name: str, error: str | None) -> str | None:
        """Return the attribute *name* of *node*, None if there is none; *error* is the last reason of its path."""
        if name in OWN:
            return attributes(node, error).get(name)
        ref = described(node)
        if ref is None or not is_annotation(name):
            return None
        if name in (TAGS, XDG_TAGS):
            return ",".join(self._annotations.tags(ref, project_of(node)))
        if name.startswith(TAG_PREFIX):
            has = name[len(TAG_PREFIX) :] in self._annotations.tags(ref, project_of(node))
            return "1" if has else None
        if name == RATING:
            return str(self._annotations.rating(ref))
        if name == BALOO_RATING:
            return str(2 * self._annotations.rating(ref))
        try:
            value = self._annotations.parameter(ref, name[len(PARAMETER_PREFIX) :])
        except KeyError:
            return None
        return value_text(value)

    def names(self, node: Node, error: str | None) -> list[str]:
        """Return the names of the attributes of *node* that memory knows; no request."""
        names = list(attributes(node, error))
        ref = described(node)
        if ref is None:
            return names
        labels = self._annotations.known_tags(ref, project_of(node))
        if labels:
            names += [TAGS, XDG_TAGS, *(TAG_PREFIX + label for label in labels)]
        if self._annotations.known_rating(ref):
            names += [RATING, BALOO_RATING]
        sets = self._annotations.known_parameter_sets(ref)
        found = (name for one in sets or () for name in names_in(one.parameters))
        names += dict.fromkeys(PARAMETER_PREFIX + without_nul(name) for name in found)
        return fitting(names)

    def set(self, node: Node, name: str, value: bytes, flags: int = 0, *, error: str | None = None) -> None:
        """``setxattr``: give the attribute *name* of *node* a value.

        Args:
            flags: ``XATTR_CREATE`` or ``XATTR_REPLACE``.
            error: As in ``get``.

        Raises:
            BadCommand: A value that it can not have.
            NotPermitted: It says what is so and not what is wished, or *node* has no such thing.
            PermissionDenied: Role or lock forbid it, or the server.
            NotSupported: There is no such attribute of agorafs.
        """
        if name in OWN and name != LOCKED:
            if attributes(node, error).get(name, "").encode(errors="replace") != value:
                raise NotPermitted(f"{node.path}: {name} can not be set")
            return
        if name != LOCKED and not is_annotation(name):
            if name.startswith(PREFIX):
                raise NotSupported(f"{node.path}: there is no attribute {name}")
            return  # another program's, which the archive has no place for
        text = _text(node, name, value)
        if name == LOCKED:
            self._set_locked(node, text, flags, error)
            return
        ref = _described(node, name)
        check_may_annotate(node)
        action = self._action(node, ref, name, text)
        self._check_flags(node, name, flags, error)
        action()

    def remove(self, node: Node, name: str) -> None:
        """``removexattr``; what was not there is no error, but for parameters.

        Raises:
            NoSuchXattr: There is no such parameter.
            NotPermitted: The parameter came with the data.
            PermissionDenied: Role or lock forbid it, or the server.
        """
        ref = described(node)
        if ref is None or not is_annotation(name):
            return
        check_may_annotate(node)
        if name in (TAGS, XDG_TAGS):
            self._annotations.set_tags(ref, project_of(node), ())
        elif name.startswith(TAG_PREFIX):
            self._annotations.remove_tag(ref, project_of(node), name[len(TAG_PREFIX) :])
        elif name in (RATING, BALOO_RATING):
            self._annotations.rate(ref, 0)
        else:
            self._annotations.remove_parameter(ref, name[len(PARAMETER_PREFIX) :])

    def _action(self, node: Node, ref: RemoteRef, name: str, text: str) -> Callable[[], None]:
        """Return what setting *name* does; the value is checked here."""
        annotations, project = self._annotations, project_of(node)
        if name in (TAGS, XDG_TAGS):
            check_labels(text)
            labels = split_labels(text, annotations.tags(ref, project) if "," in text else ())
            return lambda: annotations.set_tags(ref, project, labels)
        if name.startswith(TAG_PREFIX):
            label = name[len(TAG_PREFIX) :]
            if text.strip() == "0":
                return lambda: annotations.remove_tag(ref, project, label)
            check_label(label)
            return lambda: annotations.add_tag(ref, project, label)
        if name in (RATING, BALOO_RATING):
            stars = stars_of(text) if name == RATING else stars_of_halves(text)
            return lambda: annotations.rate(ref, stars)
        return lambda: annotations.set_parameter_text(ref, name[len(PARAMETER_PREFIX) :], text)

    def _set_locked(self, node: Node, text: str, flags: int, error: str | None) -> None:
        wanted = locked_of(text)
        self._check_flags(node, LOCKED, flags, error)
        ref = ref_of(node)
        is_exam = ref is not None and ref.kind is Kind.EXAM
        if not is_exam and ref is not None and node.entry.locked == wanted:
            return
        check_may_lock(node)
        assert ref is not None
        self._annotations.set_locked(ref, wanted)
        self._announce([node.path])  # its write bits: the kernel takes from a set attribute a new ctime alone

    def _check_flags(self, node: Node, name: str, flags: int, error: str | None) -> None:
        if not flags:
            return
        value = self.get(node, name, error)
        is_there = value is not None and not (name in _NAMED_IF_SET and value in ("", "0"))
        if flags & os.XATTR_CREATE and is_there:
            raise AlreadyExists(f"{node.path} has {name} already")
        if flags & os.XATTR_REPLACE and not is_there:
            raise NoSuchXattr(f"{node.path} has no {name}")


def stars_of(text: str) -> int:
    """Return the rating that *text* says.

    Raises:
        BadCommand: It is none.
    """
    return _number_of(text, MAX_RATING)


def stars_of_halves(text: str) -> int:
    """The same for half stars; an odd number is rounded up."""
    return (_number_of(text, 2 * MAX_RATING) + 1) // 2


def _number_of(text: str, most: int) -> int:
    """Return the whole number from 0 to *most* that *text* says.

    Raises:
        BadCommand: It is none.
    """
    text = text.strip()
    if not (text.isascii() and text.isdigit() and len(text) <= 3 and int(text) <= most):
        raise BadCommand(f"a rating is a whole number from 0 to {most}, not {text[:40]!r}")
    return int(text)


def locked_of(text: str) -> bool:
    """Return whether *text* says that something is locked.

    Raises:
        BadCommand: It says neither.
    """
    if text.strip() not in ("0", "1"):
        raise BadCommand(f"a lock is 1 or 0, not {text[:40]!r}")
    return text.strip() == "1"


def _text(node: Node, name: str, value: bytes) -> str:
    try:
        name.encode()
        return value.decode()
    except UnicodeError:
        raise BadCommand(f"{node.path}: {name!r} and its value are UTF-8") from None


def _described(node: Node, name: str) -> RemoteRef:
    ref = described(node)
    if ref is None:
        is_part = node.entry.ref is not None and node.entry.ref.kind is Kind.DATAFILE
        way_out = ": it is a part of a dataset, whose directory can" if is_part else ""
        raise NotPermitted(f"{node.path} is nothing that can have {name}{way_out}")
    return ref


def fitting(names: list[str]) -> list[str]:
    """Return the first of *names* that the kernel takes as a list."""
    room = MAX_LIST_BYTES
    fitting = []
    for name in names:
        try:
            size = len(name.encode())
        except UnicodeEncodeError:  # half a character of the server's
            continue
        if size <= MAX_NAME_BYTES and "\0" not in name and size < room:
            fitting.append(name)
            room -= size + 1
    return fitting


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
        # A directory of a dataset's own files is no further dataset: whoever counts them counts this one once.
        area = entry.target.area
        values["type"] = "directory" if area is Area.DATASET else area.value
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
    if isinstance(record, Dataset):
        values["dataset_type"] = record.type
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
