"""The list of projects: ``mkdir`` creates one, ``mv`` renames one, ``rmdir`` deletes one in which there is nothing.

A project is deleted only on a mount that allows deleting, and only if a fresh look, not one at memory, shows that no
exam, folder or file would go with it. The user's own project (``My Agora``) keeps its name and stays.

Requests.  ``mkdir`` and ``mv`` 2: the names of projects, which links go by, are learnt anew at once. ``rmdir`` 4.

Threads.  No state.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from agorafs.client.records import Exam, FolderItem, Kind, Project
from agorafs.errors import NotEmpty, NotPermitted, PermissionDenied
from agorafs.tree.listing import Area, DirKey
from agorafs.tree.tree import Node, Tree
from agorafs.uploads.values import Anchor
from agorafs.vfs import rules
from agorafs.vfs.views.view import View


class ProjectCalls(Protocol):
    """``client.administration``, as far as projects are made and changed."""

    def create_project(self, name: str, description: str) -> Project: ...
    def rename_project(self, project: int, name: str) -> None: ...
    def delete_project(self, project: int) -> None: ...


class FreshLooks(Protocol):
    """Questions whose answers no cache may give: ``client.Client``."""

    def folder_items(self, folder_id: int) -> list[FolderItem]: ...
    def project_exams(self, project_id: int) -> list[Exam]: ...


class ProjectsView(View):
    """See the module docstring. For the area ``PROJECTS``."""

    def __init__(
        self,
        tree: Tree,
        calls: ProjectCalls,
        looks: FreshLooks,
        *,
        pending: Callable[[Anchor], Sequence[object]],
        forget_places: Callable[[], None],
        allow_delete: bool,
    ) -> None:
        """Build it.

        Args:
            pending: Gives what lies in a folder here and is not stored yet.
            forget_places: Told when paths have changed.
            allow_delete: Projects can be deleted.
        """
        self._tree = tree
        self._calls = calls
        self._looks = looks
        self._pending = pending
        self._forget_places = forget_places
        self._allow_delete = allow_delete

    def make_directory(self, parent: Node, name: str) -> None:
        """``mkdir``: a new project."""
        self._calls.create_project(name, "")
        self._learn_names()

    def rename(self, node: Node, parent: Node, name: str) -> None:
        """``rename``: another name for a project."""
        project = _project_of(node)
        if project.is_myagora:
            raise NotPermitted(f"{node.path} is your own project, which is called so by the server")
        rules.check_may_change(node)
        self._calls.rename_project(project.id, name)
        self._learn_names()

    def remove_directory(self, node: Node) -> None:
        """``rmdir``: an empty project goes to the trash.

        Raises:
            PermissionDenied: The mount does not allow it, or the role does not.
            NotEmpty: Something is in it.
        """
        project = _project_of(node)
        if project.is_myagora:
            raise NotPermitted(f"{node.path} is your own project, which can not be deleted")
        if not self._allow_delete:
            raise PermissionDenied(
                f"{node.path}: a project can not be deleted, unless mounted with allow_delete"
            )
        rules.check_may_change(node)
        root = project.root_folder
        is_empty = (
            root is not None
            and not self._pending(Anchor(Kind.FOLDER, root))
            and not self._looks.folder_items(root)
            and not self._looks.project_exams(project.id)
        )
        if not is_empty:
            raise NotEmpty(f"{node.path} is not empty: it has exams, folders or files")
        self._calls.delete_project(project.id)
        self._learn_names()

    def _learn_names(self) -> None:
        """Links name projects, so their names are learnt before the next link is shown."""
        self._tree.changed([DirKey(Area.PROJECTS)])
        self._forget_places()
        self._tree.children(self._tree.resolve(["projects"]))


def _project_of(node: Node) -> Project:
    record = node.entry.record
    assert isinstance(record, Project), node.path
    return record
