"""Builds the layers of one mount, from the client up.

Some of them need each other: what ``.agora`` shows of uploads needs their paths, which need the file operations,
which have ``.agora``. Those are given a function that finds the other when it is asked.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import time

from agorafs import __version__
from agorafs.clock import SYSTEM_CLOCK, Clock
from agorafs.config import Settings
from agorafs.stack.foundation import Foundation, lay_foundation
from agorafs.stack.stack import Stack
from agorafs.stack.uploading import Sending, build_sending, build_uploading
from agorafs.stack.working import Working, build_desk, build_working
from agorafs.tree.listing import Area
from agorafs.vfs import FileSystem, said
from agorafs.vfs.aside import Part
from agorafs.vfs.changes import Writing
from agorafs.vfs.control.dot_control import DotControl
from agorafs.vfs.dot_agora import DotAgora
from agorafs.vfs.dot_annotations import DotAnnotations
from agorafs.vfs.dot_jobs import DotJobs
from agorafs.vfs.dot_links import DotLinks
from agorafs.vfs.dot_root import DotInfo
from agorafs.vfs.dot_uploads import DotUploads
from agorafs.vfs.dot_workbooks import DotWorkbooks
from agorafs.vfs.tasks.definitions import Definitions
from agorafs.vfs.views.projects import ProjectsView
from agorafs.vfs.views.tags import TagView
from agorafs.vfs.views.tasks import TaskView
from agorafs.vfs.views.trash import TrashView
from agorafs.vfs.views.view import View
from agorafs.vfs.xattrs import Xattrs

log = logging.getLogger(__name__)


def connect(settings: Settings, clock: Clock = SYSTEM_CLOCK) -> Stack:
    """Talk to the server of *settings* and build the layers.

    Raises:
        NotAuthenticated, RemoteUnavailable, RemoteTimeout, TlsError, ProtocolError, ServerTooOld: As they say.
        UsageError: The address is not safe, or the cache directory can not be used.
    """
    with contextlib.ExitStack() as on_failure:
        base = lay_foundation(settings, clock, on_failure)
        stack = _build(base, on_failure)
        stack.start()
        on_failure.pop_all()
    log.info("%s %s as %s", settings.url, base.version.text, base.user.username)
    return stack


def _build(base: Foundation, on_failure: contextlib.ExitStack) -> Stack:
    settings, client, clock = base.settings, base.client, base.clock
    working = build_working(
        base,
        on_failure,
        lambda: filesystem.objects,
        lambda: dot_agora.forget_contents(),
        lambda: dot_agora.refresh(),
    )
    sending = build_sending(
        base, on_failure, say=lambda dataset, what: said.say(working.annotations, dataset, what)
    )

    def status() -> dict[str, object]:
        return {
            "agorafs": __version__,
            "url": settings.url,
            "user": base.user.username,
            "server_version": base.version.text,
            "server": client.condition(),
            "content": dataclasses.asdict(base.contents.stats()),
            "uploads": uploading.transit.status(),
            **filesystem.status(),
        }

    parts: list[Part] = [
        DotJobs(working.jobs),
        DotControl(lambda: desk),
        DotInfo(client, status=status, freshness=base.freshness, clock=clock),
        DotWorkbooks(client.exploring, freshness=base.freshness, clock=clock),
        DotAnnotations(working.annotations, announce=working.announcer.announce),
        DotLinks(base.tree, client, freshness=base.freshness, clock=clock),
    ]
    dot_agora = DotAgora(
        base.tree,
        client.describe,
        vendors=client.vendors,
        freshness=base.freshness,
        clock=clock,
        uploads=DotUploads(
            sending.uploads,
            sending.report,
            nodes=sending.report.nodes,
            where=lambda anchor: uploading.transit.where(anchor),
            clock=clock,
        ),
        parts=parts,
    )
    filesystem = FileSystem(
        base.tree,
        base.contents,
        dot_agora,
        archive_url=settings.url,
        umask=settings.umask,
        started_ns=time.time_ns(),
        clock=clock,
        writing=Writing(
            sending.uploads,
            client,
            client.changes,
            is_read_only=settings.read_only,
            allow_delete=settings.allow_delete,
        ),
        views=_views(base, working, sending, dot_agora),
        annotations=Xattrs(working.annotations, announce=working.announcer.announce),
    )
    uploading = build_uploading(base, sending, filesystem)
    desk = build_desk(base, working, filesystem, uploading.transit, dot_agora.forget_contents)
    return Stack(base, filesystem, uploading, working, desk, status)


def _views(base: Foundation, working: Working, sending: Sending, dot_agora: DotAgora) -> dict[Area, View]:
    """Return what can be made and removed in the directories that are no folders."""
    tree, client = base.tree, base.client
    tags = TagView(tree, working.annotations, client.annotations, user=base.user.id)
    definitions = Definitions(
        client.tasks, tree.changed, removed_tasks=base.settings.state_directory / "removed-tasks"
    )
    tasks = TaskView(definitions, working.runner)
    projects = ProjectsView(
        tree,
        client.administration,
        client,
        pending=sending.uploads.children,
        forget_places=dot_agora.refresh,
        allow_delete=base.settings.allow_delete,
    )
    return {
        Area.PROJECTS: projects,
        Area.TAGS: tags,
        Area.TAG: tags,
        Area.TASKS: tasks,
        Area.TASK: tasks,
        Area.TRASH: TrashView(tree, client.exploring, allow_delete=base.settings.allow_delete),
    }
