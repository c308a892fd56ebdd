"""Builds the layers of one mount: client, caches, tree, file operations. The only module that sees them all.

Why.  Every other module is given what it needs and knows only the layer below. Here the settings are turned
into those layers, once, in order.

Failure.  ``connect`` fails with what the user can act on: the server is away, does not accept the key, is too old
or is not an Agora server; a cache directory that can not be used. Nothing stays open then.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import time
from collections.abc import Callable, Iterable

from agorafs import __version__
from agorafs.cache.content import ContentCache, ContentLimits
from agorafs.cache.metadata import Freshness
from agorafs.client import Client, Credential, Timeouts, Transport, check_server
from agorafs.client.records import Project, ServerVersion, User
from agorafs.clock import SYSTEM_CLOCK, Clock
from agorafs.config import Settings
from agorafs.errors import ExitStatus, NotFound, UsageError
from agorafs.private_directory import make_directory
from agorafs.tree.naming import Naming
from agorafs.tree.tree import Tree
from agorafs.vfs import FileSystem
from agorafs.vfs.dot_agora import DotAgora

log = logging.getLogger(__name__)

# Somebody waits for the mount and wants to know soon that a server is away.
_FIRST_DEADLINE_S = 10.0


class Stack:
    """The layers of one mount. ``on_refreshed`` is told which paths may look different after a refresh."""

    def __init__(
        self,
        settings: Settings,
        client: Client,
        contents: ContentCache,
        filesystem: FileSystem,
        *,
        user: User,
        version: ServerVersion,
    ) -> None:
        self.filesystem = filesystem
        self.on_refreshed: Callable[[Iterable[str]], None] | None = None
        self._settings = settings
        self._client = client
        self._contents = contents
        self._user = user
        self._version = version

    def status(self) -> dict[str, object]:
        """Return what ``agorafs status`` shows, ready for JSON; never a secret, never waits."""
        return {
            "agorafs": __version__,
            "url": self._settings.url,
            "user": self._user.username,
            "server_version": self._version.text,
            "server": self._client.condition(),
            "content": dataclasses.asdict(self._contents.stats()),
            **self.filesystem.status(),
        }

    def refresh(self, path: str | None) -> None:
        """Forget what is known of *path* (below the mount point) and below; None means everything.

        Raises:
            NotFound: There is no such path, by a fresh listing.
        """
        changed = [] if path is None else [path]  # what is gone looks different too
        try:
            changed = self.filesystem.refresh(path)
        finally:
            if self.on_refreshed is not None:
                self.on_refreshed(changed)

    def replace_credential(self, credential: Credential) -> None:
        """Use *credential* from the next request on."""
        self._client.replace_credential(credential)

    def close(self) -> None:
        """Close everything, front to back."""
        self.filesystem.close()
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
        client = _client(settings, clock)
        on_failure.callback(client.close)
        version, user = check_server(client, deadline_s=min(settings.deadline_s, _FIRST_DEADLINE_S))
        contents = ContentCache(
            settings.cache_directory, client, limits=_content_limits(settings), clock=clock
        )
        on_failure.callback(contents.close)
        filesystem = _filesystem(settings, client, contents, user, naming, clock)
        on_failure.pop_all()
    log.info("%s %s as %s", settings.url, version.text, user.username)
    return Stack(settings, client, contents, filesystem, user=user, version=version)


def _client(settings: Settings, clock: Clock) -> Client:
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


def _filesystem(
    settings: Settings, client: Client, contents: ContentCache, user: User, naming: Naming, clock: Clock
) -> FileSystem:
    freshness = Freshness(ttl_s=settings.listing_ttl_s, revalidate_wait_s=settings.revalidate_wait_s)
    tree = Tree(
        client,
        user=user,
        my_agora=_my_agora(client),
        freshness=freshness,
        max_entries=settings.max_listing_entries,
        clock=clock,
        naming=naming,
    )
    # Links name projects, so their names are learnt before the first link is shown.
    tree.children(tree.resolve(["projects"]))
    return FileSystem(
        tree,
        contents,
        DotAgora(tree, client.describe, vendors=client.vendors, freshness=freshness, clock=clock),
        archive_url=settings.url,
        umask=settings.umask,
        started_ns=time.time_ns(),
        clock=clock,
    )


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
