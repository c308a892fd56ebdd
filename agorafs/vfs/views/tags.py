"""Tags as directories: ``mkdir`` makes a tag, ``ln -s`` there tags an object, ``rm`` of the link takes the tag away.

    projects/P/tags/<label>/     a project's tag; ``mkdir`` makes one for its members
    tags/<label>/                all tags of one label; ``mkdir`` makes one of the user's own

What is tagged is never changed or removed here. ``rmdir`` deletes the definition of a tag that nothing carries. A link
may be made under any name: it is found under that, and listed as the object is called.

Requests.  Those of ``annotations``; ``mkdir`` 1; ``rmdir`` 2, and 1 more over all projects.

Threads.  No state.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from agorafs.client.annotations import Tag, TagInstance
from agorafs.client.records import RemoteRef
from agorafs.errors import NotEmpty, NotFound, NotPermitted, PermissionDenied
from agorafs.tree.listing import Area, DirKey
from agorafs.tree.tree import Node, Tree
from agorafs.vfs import rules
from agorafs.vfs.annotations import check_may_annotate, described, project_of
from agorafs.vfs.tagging import check_label
from agorafs.vfs.views.view import View


class Labels(Protocol):
    """What makes and takes away tags of objects: ``annotations.Annotations``."""

    def add_tag(self, ref: RemoteRef, project: int | None, label: str) -> None: ...
    def remove_tag(self, ref: RemoteRef, project: int | None, label: str) -> None: ...
    def refresh(self) -> None: ...


class Definitions(Protocol):
    """The archive's calls for tags themselves: ``client.annotations``."""

    def tags(self) -> Sequence[Tag]: ...
    def tag_instances(self, project_id: int | None) -> Sequence[TagInstance]: ...
    def create_tag(self, label: str, *, project: int | None, user: int | None = None) -> Tag: ...
    def delete_tag(self, tag_id: int) -> None: ...


class TagView(View):
    """See the module docstring. For the areas ``TAGS`` and ``TAG``."""

    def __init__(self, tree: Tree, labels: Labels, definitions: Definitions, *, user: int) -> None:
        """*user* is the id of whom the tags outside projects belong to."""
        self._tree = tree
        self._labels = labels
        self._definitions = definitions
        self._user = user

    def make_directory(self, parent: Node, name: str) -> None:
        """``mkdir``: a new tag."""
        if _tag_of(parent) is not None:
            raise NotPermitted(f"{parent.path}/{name}: a tag has objects, and no directories")
        rules.check_may_change(parent)
        check_label(name)
        if parent.project is not None:
            self._definitions.create_tag(name, project=parent.project.id)
        else:
            self._definitions.create_tag(name, project=None, user=self._user)
        self._definitions_changed()

    def remove_directory(self, node: Node) -> None:
        """``rmdir``: the tag itself goes, if nothing carries it.

        Raises:
            NotEmpty: Something does.
            PermissionDenied: Not allowed; or it is the tag of a project, and *node* is not in that.
        """
        tag = _tag_of(node)
        if tag is None:
            raise NotPermitted(f"{node.path} is a list of the archive's and can not be removed")
        rules.check_may_change(node)
        if node.project is not None:
            ids = [tag.id]
        else:
            alike = [one for one in self._definitions.tags() if one.label == tag.label]
            ids = [one.id for one in alike if one.project is None]
            if len(ids) < len(alike):
                raise PermissionDenied(
                    f"{node.path}: projects have a tag of this label; remove it below projects/…/tags"
                )
        if any(one.tag in ids for one in self._definitions.tag_instances(project_of(node))):
            self._tree.forget_area(Area.TAG)
            raise NotEmpty(f"{node.path} is not empty: there are objects with this tag")
        for one in ids:
            self._definitions.delete_tag(one)
        self._definitions_changed()

    def make_link(self, parent: Node, name: str, target: Node) -> None:
        """``symlink``: *target* gets the tag.

        Raises:
            NotPermitted: It is nothing that can be tagged, or belongs to another project than the tag.
        """
        tag = _tag_of(parent)
        if tag is None:
            raise NotPermitted(f"{parent.path}/{name}: objects are linked into the directory of a tag")
        ref = described(target)
        if ref is None:
            raise NotPermitted(
                f"{target.path}: exams, series, datasets, folders and patients can be tagged, and it is none"
            )
        project = self._project_for(parent, target)
        check_may_annotate(target)
        self._labels.add_tag(ref, project, tag.label)
        self._tree.remember_name(parent, name, ref)

    def remove(self, node: Node) -> None:
        """``unlink``: the object loses the tag, and stays."""
        tag, ref = self._carried(node)
        check_may_annotate(node)
        self._labels.remove_tag(ref, project_of(node), tag.label)

    def rename(self, node: Node, parent: Node, name: str) -> None:
        """``rename``: from one tag to another.

        Raises:
            NotPermitted: Something else is to get another name: links are called what they lead to, and the archive
                can not rename tags.
        """
        if _tag_of(node) is not None:
            raise NotPermitted(f"{node.path}: the archive can not rename a tag")
        tag, ref = self._carried(node)
        other = _tag_of(parent)
        if other is None or other.label == tag.label:
            raise NotPermitted(f"{node.path}: a link has the name of what it leads to, and stays among tags")
        check_may_annotate(node)
        self._labels.add_tag(ref, project_of(parent), other.label)
        self._labels.remove_tag(ref, project_of(node), tag.label)
        self._tree.remember_name(parent, name, ref)

    @staticmethod
    def _carried(node: Node) -> tuple[Tag, RemoteRef]:
        """Return the tag whose directory the link *node* is in, and the object that has it."""
        tag = None if node.parent is None else _tag_of(node.parent)
        if tag is None or node.entry.ref is None:
            raise NotFound(f"{node.path} is no object with a tag")
        return tag, node.entry.ref

    @staticmethod
    def _project_for(parent: Node, target: Node) -> int | None:
        """Return the project whose tag it is to be."""
        here, there = project_of(parent), project_of(target)
        if here is not None and there not in (None, here):
            raise NotPermitted(
                f"{target.path} belongs to another project than {parent.path}, whose tags it can not have"
            )
        return there if here is None else here

    def _definitions_changed(self) -> None:
        self._labels.refresh()
        self._tree.forget_area(Area.TAGS)
        self._tree.forget_area(Area.TAG)


def _tag_of(node: Node) -> Tag | None:
    target = node.entry.target
    record = node.entry.record
    is_tag = isinstance(target, DirKey) and target.area is Area.TAG
    return record if is_tag and isinstance(record, Tag) else None
