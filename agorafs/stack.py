"""Builds the layers of one mount: client, caches, tree, uploads, file operations. The only module that sees them all.

Why.  Every other module is given what it needs and knows only the layer below. Here the settings are turned
into those layers, once, in order.

Threads.  ``connect`` starts those that bring to the server what was written, this time or before; ``Stack.close`` ends
them, front to back, and what they have not done is in the journal.

Failure.  ``connect`` fails with what the user can act on: the server is away, does not accept the key, is too old
or is not an Agora server; a cache directory that can not be used. Nothing stays open then.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agorafs import __version__
from agorafs.cache.content import ContentCache, ContentLimits, ContentRef
from agorafs.cache.metadata import Freshness
from agorafs.cache.pins import Pinning
from agorafs.cache.workers import Workers
from agorafs.client import Client, Credential, Timeouts, Transport, check_server
from agorafs.client.annotations import Tag
from agorafs.client.records import Datafile, Kind, Project, ServerVersion, User
from agorafs.clock import SYSTEM_CLOCK, Clock
from agorafs.config import Settings
from agorafs.errors import ExitStatus, NotFound, TooLarge, UsageError
from agorafs.private_directory import make_directory
from agorafs.tree.listing import Area, DirKey
from agorafs.tree.naming import Naming
from agorafs.tree.tree import Tree
from agorafs.uploads.arrivals import Arrivals
from agorafs.uploads.durable import Disk
from agorafs.uploads.recovery import Home, open_home
from agorafs.uploads.report import Report
from agorafs.uploads.sealer import Sealer
from agorafs.uploads.sender import Sender
from agorafs.uploads.settle import Settler
from agorafs.uploads.spool import SpoolLimits
from agorafs.uploads.store import Store
from agorafs.uploads.upkeep import Upkeep
from agorafs.uploads.uploads import Uploads
from agorafs.vfs import FileSystem, said
from agorafs.vfs.annotations import Annotations
from agorafs.vfs.aside import Caller
from agorafs.vfs.changes import Writing
from agorafs.vfs.control import VERBS, Desk, Services
from agorafs.vfs.control.dot_control import DotControl
from agorafs.vfs.control.language import from_words
from agorafs.vfs.dot_agora import DotAgora
from agorafs.vfs.dot_annotations import DotAnnotations
from agorafs.vfs.dot_jobs import DotJobs, status_of
from agorafs.vfs.dot_links import DotLinks
from agorafs.vfs.dot_root import DotInfo
from agorafs.vfs.dot_uploads import DotUploads
from agorafs.vfs.dot_workbooks import DotWorkbooks
from agorafs.vfs.hidden import forget_leftovers
from agorafs.vfs.import_template import filled_json
from agorafs.vfs.job_store import jobs_directory
from agorafs.vfs.jobs import Job, Jobs
from agorafs.vfs.sources import fill_from
from agorafs.vfs.tasks.definitions import Definitions
from agorafs.vfs.tasks.runner import TaskRunner
from agorafs.vfs.transit import Transit
from agorafs.vfs.views.projects import ProjectsView
from agorafs.vfs.views.tags import TagView
from agorafs.vfs.views.tasks import TaskView
from agorafs.vfs.views.trash import TrashView
from agorafs.vfs.xattrs import Xattrs

log = logging.getLogger(__name__)

# Somebody waits for the mount and wants to know soon that a server is away.
_FIRST_DEADLINE_S = 10.0


@dataclass(frozen=True, slots=True)
class _Uploading:
    """What brings local files to the server. Closed in the order of its methods' lines."""

    home: Home
    store: Store
    transit: Transit
    sender: Sender
    upkeep: Upkeep

    def start(self) -> None:
        self.upkeep.start()
        self.sender.start()

    def close(self) -> None:
        self.store.closing.set()
        self.transit.close()
        self.sender.close()
        self.upkeep.close()
        self.store.close()
        self.home.close()


class _Announcer:
    """Lets the kernel ask again about paths, from a thread of its own: no file operation may do that itself."""

    def __init__(self) -> None:
        self.tell: Callable[[Iterable[str]], None] | None = None  # set once it is known whom
        self._workers = Workers("announcer", 1)

    def announce(self, paths: Iterable[str]) -> None:
        """Do so, soon."""
        named = list(paths)
        self._workers.submit(lambda: self.tell(named) if self.tell is not None else None)

    def close(self) -> None:
        """Forget what was not told yet."""
        self._workers.close()


@dataclass(frozen=True, slots=True)
class _Working:
    """What goes on in the background at the server, and who starts it."""

    jobs: Jobs
    runner: TaskRunner
    desk: Desk
    announcer: _Announcer
    annotations: Annotations

    def close(self) -> None:
        self.jobs.close()
        self.annotations.close()
        self.announcer.close()


class Stack:
    """The layers of one mount. ``on_refreshed`` is told which paths may look different after a refresh."""

    def __init__(
        self,
        settings: Settings,
        client: Client,
        contents: ContentCache,
        filesystem: FileSystem,
        uploading: _Uploading,
        working: _Working,
        *,
        user: User,
        version: ServerVersion,
    ) -> None:
        self.filesystem = filesystem
        self.on_refreshed: Callable[[Iterable[str]], None] | None = None
        self._settings = settings
        self._client = client
        self._contents = contents
        self._uploading = uploading
        self._transit = uploading.transit
        self._working = working
        working.announcer.tell = self._tell
        self._user = user
        self._version = version

    def status(self) -> dict[str, object]:
        """Return what ``agorafs status`` shows, ready for JSON; never a secret, never waits."""
        return _status(
            self._settings,
            self._user,
            self._version,
            self._client,
            self._contents,
            self._transit,
            self.filesystem,
        )

    # -- what is on its way; see ``vfs.transit`` for each --------------------------------------------

    def seal(self, path: str | None) -> None:
        """Let what is closed at and below *path* travel now."""
        self._transit.seal(path)

    def unfinished(self, path: str | None) -> dict[str, Any]:
        """Return what at and below *path* is not verified on the server."""
        return self._transit.unfinished(path)

    def retry(self, path: str | None) -> int:
        """Let failed files travel again; return how many."""
        return self._transit.retry(path)

    def cancel(self, path: str) -> int:
        """Give up what is not on the server; return how many files."""
        return self._transit.cancel(path)

    def upload(
        self,
        files: Sequence[tuple[str, str]],
        destination: str,
        *,
        import_json: Mapping[str, Any] | None,
        relations: Mapping[str, Sequence[str]] | None,
    ) -> dict[str, int]:
        """Send files from outside the mount."""
        return self._transit.upload(files, destination, import_json=import_json, relations=relations)

    def upload_status(self, upload: int) -> dict[str, Any]:
        """Return how such an upload is."""
        return self._transit.upload_status(upload)

    def verify_upload(self, upload: int) -> list[dict[str, str]]:
        """Return what of such an upload the server does not have."""
        return self._transit.verify_upload(upload)

    # -- tasks; see ``vfs.tasks.runner`` ---------------------------------------------------------------

    def run_task(
        self,
        task: str,
        arguments: Mapping[str, object],
        *,
        directory: str,
        target: str | None,
        outside: str | None,
    ) -> dict[str, Any]:
        """Start *task*, as it is called in *directory*, and return how its job is."""
        names = [name for name in directory.split("/") if name]
        runner = self._working.runner
        found = runner.find_task(names, task)
        job = runner.run(found, arguments, directory=names, target=target, outside=outside)
        return status_of(job)

    def control(self, directory: str, words: Sequence[str], fields: Mapping[str, Any]) -> dict[str, Any]:
        """Carry out a command in *directory*; see ``vfs.control``."""
        names = tuple(name for name in directory.split("/") if name)
        command = from_words(words, fields)
        answer = self._working.desk.execute_command(names, command, Caller(os.getuid(), 0))
        return {"text": answer.text, "data": dict(answer.data)}

    def job_status(self, job: int) -> dict[str, Any]:
        """Return how the job is."""
        return status_of(self._working.jobs.job(job))

    # -- the mount -----------------------------------------------------------------------------------

    def refresh(self, path: str | None) -> None:
        """Forget what is known of *path* (below the mount point) and below; None means everything.

        Raises:
            NotFound: There is no such path, by a fresh listing.
        """
        changed = [] if path is None else [path]  # what is gone looks different too
        try:
            changed = self.filesystem.refresh(path)
        finally:
            self._tell(changed)

    def _tell(self, paths: Iterable[str]) -> None:
        tell = self.on_refreshed
        if tell is not None:
            tell(paths)

    def replace_credential(self, credential: Credential) -> None:
        """Use *credential* from the next request on."""
        self._client.replace_credential(credential)
        self._uploading.store.announce_work()

    def close(self) -> None:
        """Close everything, front to back."""
        self.filesystem.close()
        self._working.close()
        self._uploading.close()
        self._contents.close()
        self._client.close()


def connect(settings: Settings, clock: Clock = SYSTEM_CLOCK) -> Stack:
    """Talk to the server of *settings* and build the layers.

    Raises:
        NotAuthenticated, RemoteUnavailable, RemoteTimeout, TlsError, ProtocolError, ServerTooOld: As they say.
        UsageError: The address is not safe, or the cache directory can not be used.
    """
    naming = _naming(settings)
    make_directory(
        settings.cache_directory,
        called="the cache directory",
        advice="choose another with -o cache_directory=DIR",
    )
    with contextlib.ExitStack() as on_failure:
        client = client_of(settings, clock)
        on_failure.callback(client.close)
        version, user = check_server(client, deadline_s=min(settings.deadline_s, _FIRST_DEADLINE_S))
        contents = ContentCache(
            settings.cache_directory, client, limits=_content_limits(settings), clock=clock
        )
        on_failure.callback(contents.close)
        tree = _tree(settings, client, user, naming, clock)
        on_failure.callback(tree.close)
        filesystem, uploading, working = _writable(
            settings, client, contents, tree, user, version, clock, on_failure
        )
        uploading.start()
        working.jobs.start()
        on_failure.pop_all()
    log.info("%s %s as %s", settings.url, version.text, user.username)
    return Stack(settings, client, contents, filesystem, uploading, working, user=user, version=version)


def client_of(settings: Settings, clock: Clock = SYSTEM_CLOCK) -> Client:
    """Return the client that *settings* describe; no request. For commands that need no mount."""
    transport = Transport(
        settings.url,
        settings.credential,
        timeouts=Timeouts(
            connect_s=settings.connect_timeout_s,
            # deadline_s is the longest wait of a file operation, so no single wait may be longer
            first_byte_s=min(settings.first_byte_timeout_s, settings.deadline_s),
            between_bytes_s=min(settings.between_bytes_timeout_s, settings.deadline_s),
            deadline_s=settings.deadline_s,
        ),
        verify=True if settings.ca_bundle is None else settings.ca_bundle,
        insecure=settings.insecure,
        connections=settings.connections,
        clock=clock,
    )
    return Client(transport, page_size=settings.page_size)


def _content_limits(settings: Settings) -> ContentLimits:
    return ContentLimits(
        block_bytes=settings.block_bytes,
        whole_file_bytes=settings.whole_file_bytes,
        max_bytes=settings.cache_max_bytes,
        min_free_bytes=settings.cache_min_free_bytes,
        memory_max_bytes=settings.memory_max_bytes,
        window_max_bytes=settings.window_max_bytes,
        stall_s=min(settings.between_bytes_timeout_s, settings.deadline_s),
    )


def _tree(settings: Settings, client: Client, user: User, naming: Naming, clock: Clock) -> Tree:
    tree = Tree(
        client,
        user=user,
        my_agora=_my_agora(client),
        freshness=_freshness(settings),
        max_entries=settings.max_listing_entries,
        clock=clock,
        naming=naming,
    )
    # Links name projects, so their names are learnt before the first link is shown.
    tree.children(tree.resolve(["projects"]))
    return tree


def _freshness(settings: Settings) -> Freshness:
    return Freshness(ttl_s=settings.listing_ttl_s, revalidate_wait_s=settings.revalidate_wait_s)


def _writable(
    settings: Settings,
    client: Client,
    contents: ContentCache,
    tree: Tree,
    user: User,
    version: ServerVersion,
    clock: Clock,
    on_failure: contextlib.ExitStack,
) -> tuple[FileSystem, _Uploading, _Working]:
    """Build the file operations and what brings to the server what they write."""
    disk = Disk()
    limits = SpoolLimits(settings.spool_max_bytes, settings.spool_min_free_bytes)
    home = open_home(settings.state_directory, url=settings.url, user=str(user.id), limits=limits, disk=disk)
    on_failure.callback(home.close)

    def fetch(datafile: int, size: int, sha1: str, descriptor: int) -> None:
        fill_from(lambda: contents.open(ContentRef(datafile, size, sha1, settings.url, None)))(descriptor)

    store = Store(home.journal, home.spool, disk, fetch=fetch, clock=clock)
    on_failure.callback(store.close)
    uploads = Uploads(store)
    forget_leftovers(uploads, store.nodes())
    sealer = Sealer(store, quiet_s=settings.batch_quiet_s, fill_import=filled_json)
    report = Report(store, uploads.remove)
    arrivals = Arrivals(store)
    settler = Settler(
        home.journal,
        arrivals,
        client,
        client.changes,
        client.annotations,
        refresh=lambda refs: tree.changed([key for ref in refs for key in _keys_of(*ref)]),
        adopt=lambda datafile, path: _adopt(contents, settings.url, datafile, path),
        say=lambda dataset, what: said.say(annotations, dataset, what),
        link_exams=settings.link_exams,
    )
    sender = Sender(home.journal, arrivals, client.imports, settler, clock=clock)
    dot_uploads = DotUploads(
        uploads, report, nodes=report.nodes, where=lambda anchor: transit.where(anchor), clock=clock
    )
    annotations = Annotations(
        client.annotations,
        freshness=_freshness(settings),
        clock=clock,
        tag_changed=lambda tag: _forget_tags(tree, tag),
        object_changed=lambda ref: tree.changed(_keys_of(*ref), ref),
    )
    on_failure.callback(annotations.close)
    jobs = Jobs(
        jobs_directory(settings.state_directory, url=settings.url, user=str(user.id)),
        client.tasks,
        client.exploring,
        on_ended=lambda job: _job_ended(tree, job),
        clock=clock,
    )
    on_failure.callback(jobs.close)
    runner = TaskRunner(client.tasks, jobs, tree, lambda: filesystem.objects, is_read_only=settings.read_only)
    tasks = TaskView(Definitions(client.tasks, tree.changed), runner)
    tags = TagView(tree, annotations, client.annotations, user=user.id)
    filesystem = FileSystem(
        tree,
        contents,
        DotAgora(
            tree,
            client.describe,
            vendors=client.vendors,
            freshness=_freshness(settings),
            clock=clock,
            uploads=dot_uploads,
            parts=[
                DotJobs(jobs),
                DotControl(lambda: desk),
                DotInfo(
                    client,
                    status=lambda: _status(settings, user, version, client, contents, transit, filesystem),
                    freshness=_freshness(settings),
                    clock=clock,
                ),
                DotWorkbooks(client.exploring, freshness=_freshness(settings), clock=clock),
                DotAnnotations(annotations),
                DotLinks(tree, client, freshness=_freshness(settings), clock=clock),
            ],
        ),
        archive_url=settings.url,
        umask=settings.umask,
        started_ns=time.time_ns(),
        clock=clock,
        writing=Writing(
            uploads,
            client,
            client.changes,
            is_read_only=settings.read_only,
            allow_delete=settings.allow_delete,
        ),
        views={
            Area.PROJECTS: ProjectsView(
                tree,
                client.administration,
                client,
                pending=uploads.children,
                forget_places=lambda: filesystem.forget_places(),
                allow_delete=settings.allow_delete,
            ),
            Area.TAGS: tags,
            Area.TAG: tags,
            Area.TASKS: tasks,
            Area.TASK: tasks,
            Area.TRASH: TrashView(tree, client.exploring),
        },
        annotations=Xattrs(annotations),
    )
    transit = Transit(
        tree,
        filesystem.merged,
        uploads,
        report,
        sealer,
        home.journal,
        home.spool,
        client,
        fill_import=filled_json,
        unfinished_removals=filesystem.unfinished_removals,
    )
    upkeep = Upkeep(store, sealer, filesystem.tidy_up)
    announcer = _Announcer()
    desk = Desk(
        Services(
            tree=tree,
            objects=filesystem.objects,
            annotations=annotations,
            server=client.changes,
            moving=client.moving,
            administration=client.administration,
            exploring=client.exploring,
            tasks=client.tasks,
            runner=runner,
            jobs=jobs,
            transit=transit,
            pinning=Pinning(contents, settings.url, settings.block_bytes),
            content_ref=filesystem.merged.content_ref,
            rename=filesystem.rename,
            read=functools.partial(_read_whole, filesystem),
            refresh=lambda path: announcer.announce(filesystem.refresh(path)),
            announce=announcer.announce,
            clock=clock,
            is_read_only=settings.read_only,
            allow_delete=settings.allow_delete,
            is_superuser=user.is_superuser,
        ),
        VERBS,
    )
    uploading = _Uploading(home, store, transit, sender, upkeep)
    return filesystem, uploading, _Working(jobs, runner, desk, announcer, annotations)


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


def _forget_tags(tree: Tree, tag: Tag) -> None:
    """Forget the directories that show *tag*, or that it exists."""
    for area in (Area.TAGS, Area.TAG):
        tree.forget_area(area, project=tag.project)


def _status(
    settings: Settings,
    user: User,
    version: ServerVersion,
    client: Client,
    contents: ContentCache,
    transit: Transit,
    filesystem: FileSystem,
) -> dict[str, object]:
    """Return how the mount is; see ``Stack.status``."""
    return {
        "agorafs": __version__,
        "url": settings.url,
        "user": user.username,
        "server_version": version.text,
        "server": client.condition(),
        "content": dataclasses.asdict(contents.stats()),
        "uploads": transit.status(),
        **filesystem.status(),
    }


def _adopt(contents: ContentCache, url: str, datafile: Datafile, path: Path) -> None:
    """Let what was just stored be read without a download."""
    contents.adopt(ContentRef(datafile.id, datafile.size, datafile.sha1, url, datafile.modified_ns), path)


def _keys_of(kind: Kind, object_id: int) -> list[DirKey]:
    """Return the directories that show what has changed in an object."""
    if kind is Kind.PROJECT:
        return [
            DirKey(Area.PROJECT_EXAMS, object_id),
            DirKey(Area.PROJECT_PATIENTS, object_id),
            DirKey(Area.PATIENTS),
        ]
    areas = {Kind.FOLDER: Area.FOLDER, Kind.EXAM: Area.EXAM, Kind.SERIES: Area.SERIES}
    return [DirKey(areas[kind], object_id)] if kind in areas else []


def _job_ended(tree: Tree, job: Job) -> None:
    """Forget the directories in which a job may have left something."""
    refs = [*job.results, *([] if job.target is None else [job.target])]
    keys = [key for ref in refs for key in _keys_of(*ref)]
    if job.project is not None:
        keys += _keys_of(Kind.PROJECT, job.project)
        projects = tree.known_listing(tree.resolve([Area.PROJECTS.value]))
        for entry in () if projects is None else projects.entries.values():
            record = entry.record
            if isinstance(record, Project) and record.id == job.project and record.root_folder is not None:
                keys.append(DirKey(Area.FOLDER, record.root_folder))
    tree.changed(keys, job.target)


def _naming(settings: Settings) -> Naming:
    try:
        return Naming(settings.exam_name, settings.series_name)
    except ValueError as error:
        raise UsageError(str(error), ExitStatus.CONFIGURATION) from None


def _my_agora(client: Client) -> Project | None:
    try:
        return client.my_agora()
    except NotFound:
        return None
