"""What goes on beside files: jobs, tasks, annotations, and the desk that carries out commands."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from agorafs.cache.pins import Pinning
from agorafs.cache.workers import Workers
from agorafs.client.records import RemoteRef
from agorafs.errors import TooLarge
from agorafs.stack.changed import forget_tags, job_ended, keys_of
from agorafs.stack.foundation import Foundation
from agorafs.vfs import FileSystem
from agorafs.vfs.annotations import Annotations
from agorafs.vfs.control import VERBS, Desk, Services
from agorafs.vfs.job_store import jobs_directory
from agorafs.vfs.jobs import Job, Jobs
from agorafs.vfs.objects import Objects
from agorafs.vfs.tasks.runner import TaskRunner
from agorafs.vfs.transit import Transit

# A path takes microseconds; only a kernel that waits for us makes it last.
_ANNOUNCEMENT_S = 0.2


class Announcer:
    """Lets the kernel ask again about paths, from a thread of its own: no file operation may do that itself."""

    def __init__(self) -> None:
        self.tell: Callable[[Iterable[str]], None] | None = None  # set once it is known whom
        self._workers = Workers("announcer", 1)

    def announce(self, paths: Iterable[str]) -> None:
        """Do so, and return when it is done: whoever has changed something sees it with his next step.

        Not waited for long: the kernel may itself be waiting for the operation that has changed something.
        """
        named, is_told = list(paths), threading.Event()

        def tell() -> None:
            try:
                if self.tell is not None:
                    self.tell(named)
            finally:
                is_told.set()

        if self._workers.submit(tell):
            is_told.wait(_ANNOUNCEMENT_S)

    def close(self) -> None:
        """Forget what was not told yet."""
        self._workers.close()


@dataclass(frozen=True, slots=True)
class Working:
    """What goes on in the background at the server, and who starts it."""

    annotations: Annotations
    jobs: Jobs
    runner: TaskRunner
    announcer: Announcer

    def close(self) -> None:
        """End the threads; what goes on at the server goes on, and is known to the next mount."""
        self.jobs.close()
        self.annotations.close()
        self.announcer.close()


def build_working(
    base: Foundation,
    on_failure: contextlib.ExitStack,
    objects: Callable[[], Objects],
    forget_contents: Callable[[], None],
    forget_places: Callable[[], None],
) -> Working:
    """Build it.

    Args:
        objects: Tells which objects paths mean, once the file operations are there.
        forget_contents: Forgets what the files below ``.agora`` say, after something was changed.
        forget_places: Forgets that, and where objects are: a job may have moved some.
    """
    settings, client, tree = base.settings, base.client, base.tree

    def object_changed(ref: RemoteRef) -> None:
        tree.changed(keys_of(*ref), ref)
        forget_contents()

    def ended(job: Job) -> None:
        job_ended(tree, job)
        forget_places()

    annotations = Annotations(
        client.annotations,
        freshness=base.freshness,
        clock=base.clock,
        tag_changed=lambda tag: forget_tags(tree, tag),
        object_changed=object_changed,
    )
    on_failure.callback(annotations.close)
    jobs = Jobs(
        jobs_directory(settings.state_directory, url=settings.url, user=str(base.user.id)),
        client.tasks,
        client.exploring,
        on_ended=ended,
        clock=base.clock,
    )
    on_failure.callback(jobs.close)
    runner = TaskRunner(client.tasks, jobs, tree, objects, is_read_only=settings.read_only)
    announcer = Announcer()
    on_failure.callback(announcer.close)
    return Working(annotations, jobs, runner, announcer)


def build_desk(
    base: Foundation,
    working: Working,
    filesystem: FileSystem,
    transit: Transit,
    forget_contents: Callable[[], None],
) -> Desk:
    """Build what carries out the commands of control files."""
    settings, client = base.settings, base.client
    announce = working.announcer.announce
    services = Services(
        tree=base.tree,
        objects=filesystem.objects,
        annotations=working.annotations,
        server=client.changes,
        moving=client.moving,
        administration=client.administration,
        exploring=client.exploring,
        tasks=client.tasks,
        runner=working.runner,
        jobs=working.jobs,
        transit=transit,
        pinning=Pinning(base.contents, settings.url, settings.block_bytes),
        content_ref=filesystem.merged.content_ref,
        rename=filesystem.rename,
        read=functools.partial(_read_whole, filesystem),
        refresh=lambda path: announce(filesystem.refresh(path)),
        forget_contents=forget_contents,
        forget_places=filesystem.forget_places,
        announce=announce,
        clock=base.clock,
        is_read_only=settings.read_only,
        allow_delete=settings.allow_delete,
        is_superuser=base.user.is_superuser,
    )
    return Desk(services, VERBS)


def _read_whole(filesystem: FileSystem, path: str, max_bytes: int) -> bytes:
    """Return the bytes of a file; refuse more than *max_bytes*."""
    opened = filesystem.open(path)
    try:
        size = filesystem.getattr(path, opened.handle).size
        if size > max_bytes:
            raise TooLarge(f"{path} has {size} bytes; at most {max_bytes} are read")
        return filesystem.read(opened.handle, 0, size)
    finally:
        filesystem.release(opened.handle)
