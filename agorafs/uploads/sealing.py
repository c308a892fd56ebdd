"""What goes into a batch: everything below one anchor that is ready, with the files that say how to import it.

``*.agora-import.json`` makes the batch a custom import; it travels as one file more, and the server is told its name.
``*.agora-relations.json`` is an object ``{main file: [related files]}``, paths relative to its own directory; the
server is told it, the file is not sent. Both vanish when the batch has arrived. One that is alone waits for its files.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from agorafs.client.records import Kind
from agorafs.uploads.local_names import is_ephemeral
from agorafs.uploads.nodes import LocalNode, Overlay, Place
from agorafs.uploads.values import Anchor

IMPORT_SUFFIX = ".agora-import.json"
RELATIONS_SUFFIX = ".agora-relations.json"


@dataclass(slots=True)
class Sealed:
    """``targets`` are the paths of ``files`` below the anchor. ``refused``: why nothing of it may travel."""

    files: list[LocalNode] = field(default_factory=list)
    targets: list[str] = field(default_factory=list)
    directories: list[tuple[LocalNode, str]] = field(default_factory=list)
    consumed: list[LocalNode] = field(default_factory=list)
    import_file: str | None = None
    relations: dict[str, list[str]] | None = None
    has_empty_directories: bool = False
    refused: str = ""


def describes_import(name: str) -> bool:
    """Tell whether a file of this name says how others are to be imported."""
    return name.endswith((IMPORT_SUFFIX, RELATIONS_SUFFIX))


def gather(
    overlay: Overlay,
    anchor: Anchor,
    *,
    is_ready: Callable[[LocalNode, str], bool],
    read: Callable[[LocalNode], bytes],
) -> Sealed:
    """Return what of the nodes below *anchor* can travel now. *is_ready* is asked with the target path."""
    sealed = Sealed()
    relations: list[tuple[LocalNode, str]] = []
    imports: list[str] = []
    for node, target in _walk(overlay, anchor, ""):
        if node.is_directory:
            sealed.directories.append((node, target))
        elif not is_ready(node, target):
            continue
        elif node.name.endswith(RELATIONS_SUFFIX):
            relations.append((node, target))
        else:
            sealed.files.append(node)
            sealed.targets.append(target)
            if node.name.endswith(IMPORT_SUFFIX):
                imports.append(target)
    sealed.has_empty_directories = anchor.kind is Kind.FOLDER and any(
        all(below.is_directory for below in overlay.walk(node)) for node, _ in sealed.directories
    )
    if len(sealed.files) == len(imports):  # nothing that they could describe: they wait
        sealed.files, sealed.targets = [], []
        return sealed
    try:
        sealed.import_file = _one_import(imports)
        sealed.relations = _relations(relations, sealed.targets, read)
    except ValueError as error:
        sealed.refused = str(error)
    sealed.consumed = [node for node, _ in relations]
    return sealed


def _walk(overlay: Overlay, place: Place, prefix: str) -> Iterator[tuple[LocalNode, str]]:
    for node in overlay.children(place):
        if is_ephemeral(node.name):
            continue
        target = prefix + node.name
        yield node, target
        if node.is_directory:
            yield from _walk(overlay, node, f"{target}/")


def _one_import(imports: list[str]) -> str | None:
    if len(imports) > 1:
        raise ValueError(
            f"{imports[0]} and {imports[1]} were written together, and an import can have one description only; "
            "remove one, or write them into different folders"
        )
    return imports[0] if imports else None


def _relations(
    files: list[tuple[LocalNode, str]], targets: list[str], read: Callable[[LocalNode], bytes]
) -> dict[str, list[str]] | None:
    known = {unicodedata.normalize("NFC", target): target for target in targets}
    related: set[str] = set()
    relations: dict[str, list[str]] = {}
    for node, own in files:
        try:
            content = json.loads(read(node))
            pairs = [(main, list(others)) for main, others in content.items()]
            words = [main for main, _ in pairs] + [other for _, others in pairs for other in others]
            if not all(isinstance(word, str) for word in words) or any(
                isinstance(others, str) for others in content.values()
            ):
                raise TypeError
        except (ValueError, TypeError, AttributeError):
            raise ValueError(
                f'{own} is not a JSON object of the form {{"main file": ["related file", …]}}; write it anew'
            ) from None
        directory = own[: len(own) - len(node.name)]

        def find(path: str, directory: str = directory, own: str = own) -> str:
            target = known.get(unicodedata.normalize("NFC", directory + path))
            if target is None:
                raise ValueError(f"{own} names {path}, which was not written together with it")
            return target

        for main, others in pairs:
            found = [find(other) for other in others]
            for one in found:
                if one in related:
                    raise ValueError(f"{own}: {one} can be related to one file only")
                related.add(one)
            relations.setdefault(find(main), []).extend(found)
    return relations or None
