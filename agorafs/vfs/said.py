"""Annotations of a file that is not stored yet: remembered with it, and said on the server when it is there.

Why.  ``cp --preserve=xattr`` and ``rsync -X`` set tags and ratings on the copy while it is still local, and so do
people who do not wait. None of it may be lost, and none of it may fail the copy.

What is remembered is a mapping, kept in the journal, from attribute to text: ``user.agora.tags`` and
``user.agora.rating`` as they were set last, each ``user.agora.tag.<label>`` and ``user.agora.param.<name>``; besides,
``project`` is the number of the project, in which new labels are made. Pure functions, but for ``say``.
"""

from __future__ import annotations

from collections.abc import Mapping

from agorafs.client.records import Kind, RemoteRef
from agorafs.errors import BadCommand
from agorafs.vfs import xattrs
from agorafs.vfs.annotations import Annotations
from agorafs.vfs.parameter_values import checked_name
from agorafs.vfs.tagging import check_label, check_labels, split_labels

_PROJECT = "project"

Said = Mapping[str, str]


def is_remembered(name: str) -> bool:
    """Tell whether the attribute *name* is remembered; all others of a local file are dropped."""
    return xattrs.is_annotation(name)


def with_value(said: Said, name: str, value: bytes, project: int | None) -> dict[str, str]:
    """Return *said* with the attribute *name*, which a file in *project* was given.

    Raises:
        BadCommand: It can not have this value.
    """
    try:
        name.encode()
        text = value.decode()
    except UnicodeError:
        raise BadCommand(f"{name!r} and its value are UTF-8") from None
    changed = dict(said)
    if project is not None:
        changed[_PROJECT] = str(project)
    if name in (xattrs.TAGS, xattrs.XDG_TAGS):
        check_labels(text)
        changed = _with_list(changed, text)
    elif name == xattrs.RATING:
        changed[name] = str(xattrs.stars_of(text))
    elif name == xattrs.BALOO_RATING:
        changed[xattrs.RATING] = str(xattrs.stars_of_halves(text))
    elif name.startswith(xattrs.TAG_PREFIX):
        check_label(name[len(xattrs.TAG_PREFIX) :])
        changed[name] = "0" if text.strip() == "0" else "1"
    else:
        checked_name(name[len(xattrs.PARAMETER_PREFIX) :])
        changed[name] = text
    return changed


def without(said: Said, name: str) -> dict[str, str]:
    """Return *said* after the attribute *name* was removed."""
    changed = dict(said)
    if name in (xattrs.TAGS, xattrs.XDG_TAGS):
        changed = _with_list(changed, "")
    elif name in (xattrs.RATING, xattrs.BALOO_RATING):
        changed[xattrs.RATING] = "0"
    elif name.startswith(xattrs.TAG_PREFIX):
        changed[name] = "0"
    else:
        changed.pop(name, None)
    return changed


def attributes(said: Said) -> dict[str, str]:
    """Return the attributes that are to be shown, by name."""
    shown = {
        name: text
        for name, text in said.items()
        if name.startswith(xattrs.PARAMETER_PREFIX) or (name.startswith(xattrs.TAG_PREFIX) and text != "0")
    }
    labels = _labels(said)
    if labels:
        shown[xattrs.TAGS] = shown[xattrs.XDG_TAGS] = ",".join(labels)
        shown.update((xattrs.TAG_PREFIX + label, "1") for label in labels)
    stars = int(said.get(xattrs.RATING, "0"))
    if stars:
        shown[xattrs.RATING], shown[xattrs.BALOO_RATING] = str(stars), str(2 * stars)
    return shown


def say(annotations: Annotations, dataset: int, said: Said) -> None:
    """Say of the stored *dataset* what was said of the local file that it was; may be done again.

    What others have said of it meanwhile, such as its uploader of a new version, is learnt in any case.

    Raises:
        Refused, RemoteError: As the server says. What came before is done.
    """
    ref = RemoteRef(Kind.DATASET, dataset)
    annotations.look_again(ref)
    project = int(said[_PROJECT]) if _PROJECT in said else None
    if xattrs.TAGS in said:
        annotations.set_tags(ref, project, _labels(said))
    else:
        for label, text in _single(said).items():
            (annotations.remove_tag if text == "0" else annotations.add_tag)(ref, project, label)
    if xattrs.RATING in said:
        annotations.rate(ref, int(said[xattrs.RATING]))
    prefix = xattrs.PARAMETER_PREFIX
    texts = {name[len(prefix) :]: text for name, text in said.items() if name.startswith(prefix)}
    if texts:
        annotations.add_parameter_texts(ref, texts)


def _labels(said: Said) -> list[str]:
    """Return the labels that the file is to have, as far as they were said."""
    single = _single(said)
    labels = split_labels(said.get(xattrs.TAGS, ""), single)
    return [
        *(label for label in labels if single.get(label) != "0"),
        *(label for label, text in single.items() if text != "0" and label not in labels),
    ]


def _single(said: Said) -> dict[str, str]:
    """Return what was said of single labels."""
    start = len(xattrs.TAG_PREFIX)
    return {name[start:]: text for name, text in said.items() if name.startswith(xattrs.TAG_PREFIX)}


def _with_list(said: Said, text: str) -> dict[str, str]:
    """A list says all: of single labels only those still count that are in it, which may have commas."""
    labels = split_labels(text, _single(said))
    gone = {xattrs.TAG_PREFIX + label for label in _single(said) if label not in labels}
    changed = {name: value for name, value in said.items() if name not in gone}
    changed.update(
        (xattrs.TAG_PREFIX + label, "1") for label in labels if xattrs.TAG_PREFIX + label in changed
    )
    return {**changed, xattrs.TAGS: text}
