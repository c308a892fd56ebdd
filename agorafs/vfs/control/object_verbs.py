"""Verbs that show objects elsewhere, copy, move, rename and delete them.

=========  ==============================  =====================================================
           into a folder                   into another project
=========  ==============================  =====================================================
exam       same project: a link; else a    a job of the server
           job of the server
series     a job of the server             the same, into its root folder
dataset    at once                         the same, into its root folder
folder     ``link`` only                   the archive has no such call
=========  ==============================  =====================================================

Each looks up all that it is given, and checks what role and locks allow, before the first change. After it the
listings concerned are forgotten, so that it is seen at once; of what a job does, when that ends.
"""

from __future__ import annotations

import contextlib
from typing import NamedTuple

from agorafs.client.records import Kind, RemoteRef
from agorafs.client.task_records import TimelineItem
from agorafs.errors import (
    AlreadyExists,
    BadCommand,
    NotEmpty,
    NotFound,
    NotPermitted,
    NotSupported,
    PermissionDenied,
)
from agorafs.tree.listing import Area, DirKey
from agorafs.tree.tree import Node
from agorafs.vfs import rules
from agorafs.vfs.annotations import check_may_annotate
from agorafs.vfs.control.annotation_verbs import listing
from agorafs.vfs.control.services import Request, ref
from agorafs.vfs.control.verb import Argument, Arguments, Outcome, Takes, Verb
from agorafs.vfs.jobs import Job

_LINKED = (Kind.EXAM, Kind.SERIES, Kind.DATASET, Kind.FOLDER)
_DELETED = (Kind.EXAM, Kind.SERIES, Kind.DATASET, Kind.PATIENT)
_RENAMED = (Kind.EXAM, Kind.SERIES, Kind.FOLDER, Kind.PROJECT)


class Destination(NamedTuple):
    """Where something is to go: a project, and a folder in it unless the project itself was meant."""

    node: Node
    project: int
    folder: int | None
    root: int | None

    @property
    def some_folder(self) -> int:
        """The folder, the project's root folder for the project itself."""
        folder = self.root if self.folder is None else self.folder
        if folder is None:
            raise NotPermitted(f"{self.node.path} has no folders")
        return folder


def job_outcome(job: Job) -> Outcome:
    """Return the answer to a command that has begun *job*."""
    path = f"/.agora/jobs/{job.number}"
    return Outcome(f"job {job.number}: {job.title}", {"job": job.number, "path": path})


def _destination(request: Request, text: str) -> Destination:
    node = request.find(text, Kind.FOLDER, Kind.PROJECT)
    project = node.project
    assert project is not None, "folders and projects lie in a project"
    rules.check_may_change(node)
    folder = ref(node).id if ref(node).kind is Kind.FOLDER else None
    return Destination(node, project.id, folder, project.root_folder)


def _keys(destination: Destination) -> list[DirKey]:
    """Return the directories in which something has appeared."""
    folder = destination.root if destination.folder is None else destination.folder
    keys = [
        DirKey(Area.PROJECT_EXAMS, destination.project),
        DirKey(Area.PROJECT_PATIENTS, destination.project),
    ]
    return keys if folder is None else [*keys, DirKey(Area.FOLDER, folder)]


def _link(request: Request, arguments: Arguments) -> Outcome:
    node = request.find(arguments.text("path"), *_LINKED)
    folder = request.find(arguments.text("folder"), Kind.FOLDER)
    rules.check_may_change(folder)
    return _linked(request, node, folder)


def _linked(request: Request, node: Node, folder: Node) -> Outcome:
    tree = request.services.tree
    if tree.listing(folder).shows(ref(node)):
        raise AlreadyExists(f"{folder.path} shows {node.path} already")
    request.services.server.link(ref(node), ref(folder).id)
    tree.changed([DirKey(Area.FOLDER, ref(folder).id)])
    request.services.announce([folder.path])
    return Outcome(f"linked {node.path} into {folder.path}", {"objects": listing([node])})


def _unlink(request: Request, arguments: Arguments) -> Outcome:
    found = [_link_at(request, text) for text in arguments.texts("paths")]
    _remove_items(request, found)
    return Outcome(
        "\n".join(f"unlinked {node.path}" for node in found), {"paths": [node.path for node in found]}
    )


def _link_at(request: Request, text: str) -> Node:
    node = _item_at(request, text)
    if not rules.is_link(node):
        raise BadCommand(f"{node.path} is the object itself and no link to it")
    return node


def _item_at(request: Request, text: str) -> Node:
    """Return the entry of a folder at the path *text*, a link itself and not what it leads to."""
    node = request.services.objects.follow(request.directory, text)
    if not isinstance(node, Node) or node.parent is None or node.entry.item is None:
        raise BadCommand(f"{text} is not an entry of a folder")
    rules.check_may_change(node.parent if rules.is_link(node) else node)
    return node


def _remove_items(request: Request, nodes: list[Node]) -> None:
    for node in nodes:
        assert node.entry.item is not None and node.entry.ref is not None
        with contextlib.suppress(NotFound):  # somebody else was faster
            request.services.server.delete_folder_item(node.entry.item)
        is_link = rules.is_link(node)
        request.services.tree.removed(node.entry.ref, item=node.entry.item if is_link else None)
    request.services.forget_places()
    request.services.announce(node.path for node in nodes)


def _delete_items(request: Request, arguments: Arguments) -> Outcome:
    found = [_item_at(request, text) for text in arguments.texts("paths")]
    for node in found:
        if not rules.is_link(node):
            _require_stored(request, node)
    _remove_items(request, found)
    return Outcome(
        "\n".join(f"removed {node.path}" for node in found), {"paths": [node.path for node in found]}
    )


def _require_stored(request: Request, node: Node) -> None:
    unfinished = request.services.transit.unfinished(node.path)
    if unfinished["files"] or unfinished["failed"]:
        raise NotEmpty(f"{node.path}: something in it is not stored yet")


def _copy(request: Request, arguments: Arguments) -> Outcome:
    node = request.find(arguments.text("path"), *_LINKED)
    to = _destination(request, arguments.text("to"))
    kind, number = ref(node)
    services = request.services
    if kind is Kind.FOLDER:
        raise NotPermitted(
            f"{node.path}: the archive does not copy folders; link shows one elsewhere, cp -r copies"
        )
    if kind is Kind.EXAM:
        if node.project is not None and node.project.id == to.project:
            if to.folder is None:
                raise AlreadyExists(f"{node.path} is in that project already")
            return _linked(request, node, to.node)  # within a project that is what a copy is
        item = services.moving.copy_exam(number, to.project, to.folder)
    elif kind is Kind.SERIES:
        item = services.moving.copy_series(number, to.project, to.some_folder)
    else:
        folder = to.some_folder
        copy = services.server.copy_dataset(number, to.project, folder)
        services.tree.changed([DirKey(Area.FOLDER, folder)])
        services.announce([to.node.path])
        return Outcome(
            f"copied {node.path} to {to.node.path}: dataset:{copy.id}",
            {"objects": [{"object": f"dataset:{copy.id}"}]},
        )
    return _follow(request, f"copy {node.path} to {to.node.path}", item, to, None)


def _move(request: Request, arguments: Arguments) -> Outcome:
    node = request.find(arguments.text("path"), *_LINKED)
    to = _destination(request, arguments.text("to"))
    rules.check_may_change(node)
    kind, number = ref(node)
    services = request.services
    if kind is Kind.FOLDER:
        raise NotPermitted(f"{node.path}: the archive does not move folders; rename gives one another name")
    if kind is Kind.SERIES:
        raise NotPermitted(f"{node.path}: the archive does not move series, copy makes another of it")
    if kind is Kind.EXAM:
        if node.project is not None and node.project.id == to.project:
            raise NotPermitted(f"{node.path} is in that project already; link shows it in a folder")
        _require_stored(request, node)
        item = services.moving.move_exam(number, to.project, to.folder)
        return _follow(request, f"move {node.path} to {to.node.path}", item, to, node)
    folder = to.some_folder
    services.server.move_dataset(number, to.project, folder)
    services.tree.changed([DirKey(Area.FOLDER, folder)], ref(node))
    services.forget_places()
    services.announce([node.path, to.node.path])
    return Outcome(f"moved {node.path} to {to.node.path}", {"objects": [{"object": f"dataset:{number}"}]})


def _follow(request: Request, title: str, item: TimelineItem, to: Destination, moved: Node | None) -> Outcome:
    """Follow what the server does until it has ended, and forget what looks different then."""
    services = request.services
    target = ref(to.node)

    def notify(job: Job) -> None:
        services.tree.changed(_keys(to), None if moved is None else ref(moved))
        services.forget_places()
        services.announce([to.node.path] if moved is None else [to.node.path, moved.path])

    return job_outcome(services.jobs.start_timeline(title, item, target=target, notify=notify))


def _rename(request: Request, arguments: Arguments) -> Outcome:
    name = arguments.text("name")
    rules.check_name(name)
    node = request.find(arguments.text("path"))
    if ref(node).kind not in _RENAMED:
        raise NotPermitted(
            f"{node.path}: the archive renames exams, series, folders and projects, nothing else"
        )
    if node.parent is None or not node.entry.ref:
        raise NotPermitted(f"{node.path} has its name from agorafs")
    new = f"{node.parent.path.rstrip('/')}/{name}"
    if new != node.path:
        request.services.rename(node.path, new)
        request.services.announce([node.path, new])
    return Outcome(f"renamed {node.path} {name}", {"path": new})


def _relate(request: Request, arguments: Arguments) -> Outcome:
    raise NotSupported(
        "the archive relates objects when they are imported and not later: write a file called "
        "NAME.agora-relations.json beside those to be related, or use agorafs upload --relations"
    )


def _delete(request: Request, arguments: Arguments) -> Outcome:
    nodes = request.find_all(arguments.texts("paths"), *_DELETED)
    for node in nodes:
        _check_may_delete(request, node)
        _require_stored(request, node)
    tree, server = request.services.tree, request.services.server
    for node in nodes:
        with contextlib.suppress(NotFound):  # somebody else was faster
            server.delete_object(ref(node))
        if isinstance(node.entry.target, DirKey):
            tree.changed([node.entry.target])
        if ref(node).kind is Kind.PATIENT:
            _forget_patients(request, ref(node))
        tree.removed(ref(node))
    request.services.forget_places()
    request.services.announce(node.path for node in nodes)
    return Outcome("\n".join(f"deleted {node.path}" for node in nodes), {"objects": listing(nodes)})


def _check_may_delete(request: Request, node: Node) -> None:
    if not request.services.allow_delete:
        raise PermissionDenied(f"{node.path}: nothing is deleted so, unless mounted with allow_delete")
    check_may_annotate(node)


def _forget_patients(request: Request, patient: RemoteRef) -> None:
    """The exams of a patient go with him; which those are, the server knows."""
    tree = request.services.tree
    projects = [node.entry.ref for node in tree.children(tree.resolve(["projects"]))]
    numbers = [project.id for project in projects if project is not None]
    areas = (Area.PROJECT_EXAMS, Area.PROJECT_PATIENTS)
    tree.changed(
        [DirKey(Area.PATIENTS), *(DirKey(area, number) for number in numbers for area in areas)], patient
    )


_PATH = Argument("path", "an object")
_PATHS = Argument("paths", "objects", Takes.TEXTS)
_TO = Argument("to", "a folder or a project")

VERBS = (
    Verb(
        "link", "show an exam, a series, a dataset or a folder in a folder", "link exams/E1 folders/good", _link,
        (_PATH, Argument("folder", "a folder")),
    ),
    Verb(
        "unlink", "take links out of their folders; what they lead to stays", "unlink folders/good/E1", _unlink,
        (Argument("paths", "links", Takes.TEXTS),),
    ),
    Verb(
        "copy", "copy an exam or a series (as a job) or a dataset; an exam within its project is linked",
        "copy exams/E1 /projects/Other", _copy, (_PATH, _TO),
    ),
    Verb(
        "move", "move an exam to another project (as a job), or a dataset to another folder",
        "move exams/E1 /projects/Other", _move, (_PATH, _TO),
    ),
    Verb(
        "rename", "give an exam, a series, a folder or a project another name", "rename exams/E1 'Brain 2'",
        _rename, (_PATH, Argument("name", "the new name")),
    ),
    Verb(
        "relate", "relate objects: not offered by the archive, the answer says how it is done",
        "relate exams/E1/S1 exams/E1/S2", _relate, (_PATH, Argument("other", "another object")),
    ),
    Verb(
        "delete", "delete exams, series, datasets or patients with all that is in them (if mounted so)",
        "delete exams/E1/S1", _delete, (_PATHS,),
    ),
    Verb(
        "delete-items", "remove several entries of folders: links, and datasets or folders themselves",
        "delete-items folders/a folders/b", _delete_items, (Argument("paths", "entries", Takes.TEXTS),),
    ),
)  # fmt: skip
