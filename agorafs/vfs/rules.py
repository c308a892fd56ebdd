"""What may be changed where, and in which words the rest is refused: before any byte is taken.

Everything here decides by what memory holds; nothing asks the archive.
"""

from __future__ import annotations

from agorafs.client.records import Datafile, Kind
from agorafs.errors import (
    BadCommand,
    IsADirectory,
    NameTooLong,
    NotADirectory,
    NotPermitted,
    PermissionDenied,
)
from agorafs.tree.listing import Area, DirKey, LinkTarget, SiblingLink
from agorafs.tree.names import DOT_AGORA, MAX_NAME_BYTES, legal_name
from agorafs.tree.tree import Node
from agorafs.uploads.nodes import Place
from agorafs.uploads.values import Anchor, Replaced
from agorafs.vfs.merged import Found, Local, anchor_of, is_directory

# Directories in which something can be made, removed or renamed, as far as role and locks allow: for their
# permission bits. What exactly is decided when it is asked for.
CHANGEABLE_AREAS = frozenset(
    {
        Area.FOLDER, Area.EXAM, Area.SERIES, Area.DATASET, Area.PROJECT_EXAMS,
        Area.PROJECTS, Area.TAGS, Area.TAG, Area.TASKS, Area.TASK, Area.TRASH,
    }
)  # fmt: skip


def check_name(name: str) -> None:
    """Refuse a name that the archive would not show again as it is.

    Raises:
        NameTooLong: More than 255 bytes.
        BadCommand: No UTF-8, a backslash (the archive takes it for a slash), control characters, agorafs's own.
    """
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise BadCommand(f"{name!r} is not UTF-8, which names in the archive are") from None
    if size > MAX_NAME_BYTES:
        raise NameTooLong(f"{name[:40]}… is longer than {MAX_NAME_BYTES} bytes")
    if name == DOT_AGORA:
        raise BadCommand(f"{DOT_AGORA} is agorafs's own in every directory")
    if "\\" in name:
        raise BadCommand(f"{name!r} has a backslash, which the archive takes for a slash")
    if legal_name(name, "") != name:
        raise BadCommand(f"{name!r} has characters that the archive would not show again as they are")


def check_new_directory(name: str) -> None:
    """Refuse a file manager's trash: it would move what is deleted there, where the archive has a trash of its own.

    Raises:
        NotPermitted: File managers then leave the file where it is.
    """
    if name == ".Trash" or name.startswith(".Trash-"):
        raise NotPermitted(f"{name} is refused: what is removed here goes to the archive's own trash")


def check_may_change(node: Node) -> None:
    """Refuse what role or locks forbid for *node*.

    Raises:
        PermissionDenied: With the lock, or the role.
    """
    if node.may_change:
        return
    for one in node.ancestors():
        if one.entry.locked:
            raise PermissionDenied(f"{one.path} is locked")
    if node.project is None:
        raise PermissionDenied(f"{node.path} is made by the server and can not be changed here")
    raise PermissionDenied(f"you are an observer in the project {node.project.name}, and observers only read")


def check_found(found: Found) -> None:
    """The same for what was found at a path."""
    check_may_change(found.below if isinstance(found, Local) else found)


def place_in(directory: Found) -> Place:
    """Return the directory as a place for something new.

    Raises:
        PermissionDenied: Nothing new can be made there.
    """
    check_found(directory)
    if isinstance(directory, Local):
        return directory.node
    anchor = anchor_of(directory)
    if anchor is not None:
        return anchor
    target = directory.entry.target
    if isinstance(target, DirKey) and target.area is Area.DATASET:
        raise PermissionDenied(
            f"{directory.path} is a dataset in the archive, which does not take further files"
        )
    raise PermissionDenied(f"{directory.path} is a list that the server makes; nothing can be put there")


def folder_of(directory: Found) -> Anchor | None:
    """Return the archive's folder that *directory* is, None if it is something else."""
    if isinstance(directory, Local):
        return None
    anchor = anchor_of(directory)
    return anchor if anchor is not None and anchor.kind is Kind.FOLDER else None


def replaceable(found: Found) -> Replaced | None:
    """Return *found* as what a new file can take the place of: a stored file of its own in a folder."""
    if isinstance(found, Local):
        return found.node.takes_place_of or found.node.borrowed_from
    entry = found.entry
    is_own_file = (
        entry.item is not None
        and entry.ref is not None
        and entry.ref.kind is Kind.DATASET
        and isinstance(entry.target, Datafile)
        and found.parent is not None
        and folder_of(found.parent) is not None
    )
    if not is_own_file:
        return None
    assert entry.ref is not None and entry.item is not None and isinstance(entry.target, Datafile)
    return Replaced(entry.ref.id, entry.item, entry.target.sha1)


def is_link(found: Found) -> bool:
    """Tell whether *found* is a symbolic link."""
    return isinstance(found, Node) and isinstance(found.entry.target, (LinkTarget, SiblingLink))


def check_no_file_in_the_way(source: Found, target: Found) -> None:
    """Refuse what ``rename(2)`` does of the types of *source* and *target*."""
    if is_directory(target) and not is_directory(source):
        raise IsADirectory(f"{target.path} is a directory")
    if is_directory(source) and not is_directory(target):
        raise NotADirectory(f"{target.path} is not a directory")


def why_archived(node: Node) -> PermissionDenied:
    """Return why the bytes of *node* can not be changed."""
    return PermissionDenied(
        f"{node.path} is archived data, which does not change: copy it, change the copy, and add that"
    )
