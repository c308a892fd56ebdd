"""What people say about an object as files below ``.agora``::

    tags                     a label on each line; writing it tags and untags (commas separate labels, too)
    rating                   0 (none) to 5
    locked                   1 or 0; an exam's can be written
    parameters.json          all parameter sets: values by name, and the parameters as the server gives them
    parameters/<set>.json    one set as {name: value}. One that people made can be written, made and removed

A file has its true size, because it is made when its attributes are asked for. What is written is checked as a whole
before the server is asked for anything.

Requests.  Those of ``annotations``, whose answers are kept for the listings' time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from agorafs.client.annotations import ParameterSet
from agorafs.client.records import RemoteRef
from agorafs.errors import BadCommand, NotFound
from agorafs.tree.tree import Node
from agorafs.vfs import aside
from agorafs.vfs.annotations import (
    Annotations,
    check_may_annotate,
    check_may_lock,
    described,
    project_of,
)
from agorafs.vfs.aside import Aside, Names
from agorafs.vfs.parameter_values import (
    file_names,
    parameters_from,
    parsed_json,
    set_as_json,
    set_name,
    sets_as_json,
)
from agorafs.vfs.tagging import check_labels, split_labels
from agorafs.vfs.virtual import is_json, is_line, written_file
from agorafs.vfs.xattrs import locked_of, stars_of


class DotAnnotations(aside.Part):
    """See the module docstring. No state of its own."""

    def __init__(
        self, annotations: Annotations, *, announce: Callable[[Iterable[str]], None] = lambda paths: None
    ) -> None:
        """*announce* lets the kernel ask again about paths, from another thread."""
        self._annotations = annotations
        self._announce = announce

    def names(self, node: Node, *, is_root: bool) -> Names:
        """Return what there is beside *node*; no request."""
        if described(node) is None:
            return Names()
        return Names(files=("tags", "rating", "locked", "parameters.json"), directories=("parameters",))

    def resolve(self, node: Node, rest: Sequence[str], *, is_root: bool) -> Aside | None:
        """Return what *rest* is beside *node*, None if that is nothing of ours.

        Raises:
            NotFound: There is no such set of parameters.
        """
        ref = described(node)
        if ref is None:
            return None
        ino = aside.inode_below(node.entry.ino, rest)
        match list(rest):
            case ["tags"]:
                labels = self._annotations.tags(ref, project_of(node))
                content = "".join(f"{label}\n" for label in labels).encode(errors="replace")
                return written_file(
                    ino, content, lambda said: self._tag(node, ref, said), is_complete=is_line
                )
            case ["rating"]:
                content = f"{self._annotations.rating(ref)}\n".encode()
                return written_file(
                    ino, content, lambda said: self._rate(node, ref, said), is_complete=is_line
                )
            case ["locked"]:
                content = b"1\n" if node.entry.locked else b"0\n"
                return written_file(
                    ino, content, lambda said: self._lock(node, ref, said), is_complete=is_line
                )
            case ["parameters.json"]:
                return Aside(ino, content=sets_as_json(self._annotations.parameter_sets(ref)))
            case ["parameters"]:
                files = file_names(self._annotations.parameter_sets(ref))
                return aside.directory(
                    lambda below: aside.inode_below(node.entry.ino, [*rest, *below]), files=files
                )
            case ["parameters", name]:
                one = self._set(node, ref, name)
                content = set_as_json(one)
                if one.is_read_only:
                    return Aside(ino, content=content)
                return written_file(
                    ino, content, self._writer(node, ref, one.name, one.id), is_complete=is_json
                )
        return None

    def make(self, node: Node, rest: Sequence[str]) -> Aside | None:
        """Return what is to be opened as a new set of parameters, None if *rest* is none."""
        ref = described(node)
        name = set_name(rest[1]) if len(rest) == 2 and rest[0] == "parameters" else None
        if ref is None or name is None:
            return None
        check_may_annotate(node)
        ino = aside.inode_below(node.entry.ino, rest)
        return written_file(ino, b"", self._writer(node, ref, name, None), is_complete=is_json)

    def remove(self, node: Node, rest: Sequence[str]) -> bool:
        """Remove a set of parameters; False if *rest* is none.

        Raises:
            NotPermitted: It came with the data.
        """
        ref = described(node)
        if ref is None or len(rest) != 2 or rest[0] != "parameters":
            return False
        one = self._set(node, ref, rest[1])
        check_may_annotate(node)
        self._annotations.remove_set(ref, one.name, set_id=one.id)
        return True

    def refresh(self) -> None:
        """Forget what was learnt."""
        self._annotations.refresh()

    def forget_contents(self) -> None:
        """Nothing: what is said of objects is put right by whoever says it."""

    def close(self) -> None:
        """End the background threads."""
        self._annotations.close()

    def _set(self, node: Node, ref: RemoteRef, name: str) -> ParameterSet:
        one = file_names(self._annotations.parameter_sets(ref)).get(name)
        if one is None:
            raise NotFound(f"{node.path} has no set of parameters {name}")
        return one

    def _tag(self, node: Node, ref: RemoteRef, said: bytes) -> None:
        text = _text(said)
        check_labels(text.replace("\n", ","))
        check_may_annotate(node)
        known = self._annotations.tags(ref, project_of(node)) if "," in text else ()
        labels = [label for line in text.split("\n") for label in split_labels(line, known)]
        self._annotations.set_tags(ref, project_of(node), labels)

    def _rate(self, node: Node, ref: RemoteRef, said: bytes) -> None:
        stars = stars_of(_text(said))
        check_may_annotate(node)
        self._annotations.rate(ref, stars)

    def _lock(self, node: Node, ref: RemoteRef, said: bytes) -> None:
        wanted = locked_of(_text(said))
        check_may_lock(node)
        self._annotations.set_locked(ref, wanted)
        self._announce([node.path])  # its write bits: the kernel has seen a change of the file alone

    def _writer(self, node: Node, ref: RemoteRef, name: str, set_id: int | None) -> Callable[[bytes], None]:
        def write(said: bytes) -> None:
            parameters = parsed_json(said)
            parameters_from(parameters)
            check_may_annotate(node)
            self._annotations.replace_set(ref, name, parameters, set_id=set_id)

        return write


def _text(said: bytes) -> str:
    try:
        return said.decode()
    except UnicodeDecodeError:
        raise BadCommand("this is no UTF-8") from None
