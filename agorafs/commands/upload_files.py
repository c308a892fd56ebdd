"""From the paths on the command line to the files of an upload: which they are, and what each will be called.

Why.  What can be known to go wrong is said before anything is sent: two files that would become one, a file that can
not be read, a name that the server would not keep.

Rules, those of the vendor's connector where it has any:

* A directory keeps its name (``DIR/sub/file``), with *contents* only what is in it counts (``sub/file``).
* A link to a file is sent as the file. A link to a directory inside of a directory is left out, and said; given on
  the command line itself it is followed.
* Directories without files do not exist on the server.
* Pipes, sockets and devices have no content that could be sent, and are refused.

Failure.  ``UsageError``, which names the file.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agorafs.errors import ExitStatus, UsageError
from agorafs.tree.names import legal_name


@dataclass(frozen=True, slots=True)
class Found:
    """A file to be sent: its path as given, its absolute path without links, and its path below the destination."""

    given: str
    path: str
    target: str


def find_files(paths: Sequence[str], *, contents: bool, say: Callable[[str], None]) -> list[Found]:
    """Return the files that *paths* stand for. What is left out is told to *say*.

    Raises:
        UsageError: A path does not exist or can not be read, is no file or directory, has a name that the server
            would not keep; two would become one; or there is no file at all.
    """
    found = [one for path in paths for one in _find(path, contents=contents, say=say)]
    _refuse_conflicts(found)
    if not found:
        raise UsageError(f"there is no file in {', '.join(paths)}", ExitStatus.FAILED)
    return found


def _find(path: str, *, contents: bool, say: Callable[[str], None]) -> Iterator[Found]:
    # The name is the one that was given, link or not; "." has that of the directory.
    name = os.path.basename(os.path.abspath(path))  # noqa: PTH100, PTH119 (normalised without following links)
    mode = _mode(path)
    if not stat.S_ISDIR(mode):
        yield _file(path, os.path.realpath(path), name, mode)
        return
    if not name and not contents:
        raise UsageError(f"{path} has no name that it could keep: give --contents")
    yield from _walk(path, os.path.realpath(path), "" if contents else name + "/", say)


def _walk(given: str, real: str, prefix: str, say: Callable[[str], None]) -> Iterator[Found]:
    try:
        entries = sorted(os.scandir(real), key=lambda entry: entry.name)
    except OSError as error:
        raise _unreadable(given, error) from None
    for entry in entries:
        path, target = f"{given.rstrip('/')}/{entry.name}", prefix + entry.name
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(path, entry.path, target + "/", say)
            continue
        mode = _mode(path)
        if stat.S_ISDIR(mode):
            say(f"{path} is left out: it is a link to a directory")
            continue
        yield _file(path, os.path.realpath(entry.path) if entry.is_symlink() else entry.path, target, mode)


def _mode(path: str) -> int:
    try:
        return os.stat(path).st_mode  # noqa: PTH116 (paths are texts here, as the request has them)
    except OSError as error:
        raise _unreadable(path, error) from None


def _file(given: str, real: str, target: str, mode: int) -> Found:
    if not stat.S_ISREG(mode):
        raise UsageError(f"{given} is neither a file nor a directory", ExitStatus.FAILED)
    for name in target.split("/"):
        if "\\" in name or legal_name(name, "") != name:
            raise UsageError(
                f"{given!r} can not be sent: the server would change the name {name!r}", ExitStatus.FAILED
            )
    try:
        # Asked of the file system itself: permissions alone do not tell, on NFS for one.
        os.close(os.open(real, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK))
    except OSError as error:
        raise _unreadable(given, error) from None
    return Found(given, real, target)


def _unreadable(path: str, error: OSError) -> UsageError:
    return UsageError(f"{path} can not be read: {error.strerror}", ExitStatus.FAILED)


def _refuse_conflicts(found: Sequence[Found]) -> None:
    by_target: dict[str, Found] = {}
    for one in found:
        other = by_target.setdefault(one.target, one)
        if other is not one:
            raise UsageError(f"{other.given} and {one.given} would both become {one.target}")
    for one in found:
        directory = one.target
        while directory := directory.rpartition("/")[0]:
            if directory in by_target:
                raise UsageError(
                    f"{by_target[directory].given} would become a file, {one.given} a directory of that name"
                )


def read_json_object(path: str, called: str) -> dict[str, Any]:
    """Return the object in the JSON file *path*; *called* is what it is to the user."""
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UsageError(f"{called} {path} can not be read: {error.strerror}") from None
    except ValueError as error:
        raise UsageError(f"{called} {path} is not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise UsageError(f"{called} {path} must hold one JSON object")
    return value


def relations_of(table: Mapping[str, Any], found: Sequence[Found]) -> dict[str, list[str]]:
    """Return *table*, ``{main file: [related files]}``, by the paths that the files get on the server.

    A file is named by its path here or by its path below the destination.

    Raises:
        UsageError: It names what is not sent, or one related file twice (the server attaches it once).
    """
    targets = {one.target: one.target for one in found} | {one.path: one.target for one in found}

    def target(name: object) -> str:
        if isinstance(name, str):
            for known in (name, os.path.realpath(name)):
                if known in targets:
                    return targets[known]
        raise UsageError(f"the relations name {name}, which is not one of the files")

    relations: dict[str, list[str]] = {}
    seen: set[str] = set()
    for main, related in table.items():
        if not isinstance(related, list):
            raise UsageError(f"the relations of {main} must be a list of files")
        relations[target(main)] = [target(name) for name in related]
        for one in relations[target(main)]:
            if one in seen:
                raise UsageError(
                    f"the relations name {one} twice, but a file can be related to one other only"
                )
            seen.add(one)
    return relations
