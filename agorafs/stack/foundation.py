"""What all other layers of a mount stand on: client, content cache, tree."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from agorafs.cache.content import ContentCache, ContentLimits
from agorafs.cache.metadata import Freshness
from agorafs.client import Client, Timeouts, Transport, check_server
from agorafs.client.records import Project, ServerVersion, User
from agorafs.clock import SYSTEM_CLOCK, Clock
from agorafs.config import Settings
from agorafs.errors import ExitStatus, NotFound, UsageError
from agorafs.private_directory import make_directory
from agorafs.tree.naming import Naming
from agorafs.tree.tree import Tree

# Somebody waits for the mount and wants to know soon that a server is away.
_FIRST_DEADLINE_S = 10.0


@dataclass(frozen=True, slots=True)
class Foundation:
    """The layers that look at the archive, and who looks."""

    settings: Settings
    client: Client
    contents: ContentCache
    tree: Tree
    user: User
    version: ServerVersion
    clock: Clock

    @property
    def freshness(self) -> Freshness:
        """How long answers of the archive are kept."""
        return Freshness(ttl_s=self.settings.listing_ttl_s, revalidate_wait_s=self.settings.revalidate_wait_s)


def lay_foundation(settings: Settings, clock: Clock, on_failure: contextlib.ExitStack) -> Foundation:
    """Talk to the server of *settings* and build it; *on_failure* gets what is to be closed.

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
    client = client_of(settings, clock)
    on_failure.callback(client.close)
    version, user = check_server(client, deadline_s=min(settings.deadline_s, _FIRST_DEADLINE_S))
    contents = ContentCache(settings.cache_directory, client, limits=_content_limits(settings), clock=clock)
    on_failure.callback(contents.close)
    tree = Tree(
        client,
        user=user,
        my_agora=_my_agora(client),
        freshness=Freshness(ttl_s=settings.listing_ttl_s, revalidate_wait_s=settings.revalidate_wait_s),
        max_entries=settings.max_listing_entries,
        clock=clock,
        naming=naming,
    )
    on_failure.callback(tree.close)
    # Links name projects, so their names are learnt before the first link is shown.
    tree.children(tree.resolve(["projects"]))
    return Foundation(settings, client, contents, tree, user, version, clock)


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
