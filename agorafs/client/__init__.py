"""The archive over HTTP: paths, JSON, credentials, deadlines. Knows nothing of files or mounts.

=================  ============================================================================
``api``            ``Client``: one method per endpoint, answers as records
``changes``        ``Client.changes``: the endpoints that change folders and what is in them
``imports``        ``Client.imports``: the upload protocol
``annotating``     ``Client.annotations``: tags, ratings, parameters, locks
``tasks``          ``Client.tasks``: tasks and their runs
``moving``         ``Client.moving``: copies and moves that take a while
``exploring``      ``Client.exploring``: searches, relations, trash, workbooks
``administration`` ``Client.administration``: projects, members, hosts, users, keys
``asking``         what these have in common
``records``        the archive's objects, parsed and checked once
``annotations``    tags, ratings and parameter sets, likewise
``task_records``   tasks and the states of their runs, likewise
``view_records``   what is found, related or in the trash, likewise
``paging``         whole lists out of pages
``transport``      one pooled session: deadlines, retries, redirects, statuses
``attempts``       one request, and what its failure says about the next
``answers``        what the server answered: JSON, a download, or an error with its words
``multipart``      the body of an upload
``sending``        how that goes out: one that moves is not cut off
``deadlines``      how long an operation may take
``session``        what ``requests`` is set up to do, and kept from doing
``body``           the bytes of a download, counted
``auth``           credentials and which header presents them
``base_url``       the server's address, checked once
``availability``   fail fast while the server is away; one log line per change
``failures``       the map from the HTTP libraries' exceptions to ``agorafs.errors``
=================  ============================================================================

Everything raises ``agorafs.errors`` and nothing of the libraries below. Everything but ``Body`` may be
used from any thread.
"""

from __future__ import annotations

from agorafs.client.annotations import ParameterSet, Rating, Tag
from agorafs.client.api import Client, check_server
from agorafs.client.auth import ApiKey, Credential, Password, Secret, Token
from agorafs.client.body import UNKNOWN_STOP, Body, RangeNotHonoured
from agorafs.client.changes import Changes
from agorafs.client.deadlines import Timeouts
from agorafs.client.imports import (
    Chunk,
    CompleteRequest,
    IgnoredFile,
    ImportedFile,
    ImportResult,
    Imports,
    Package,
    Progress,
)
from agorafs.client.records import (
    Crumb,
    Datafile,
    Dataset,
    Exam,
    ExamTree,
    Folder,
    FolderItem,
    Kind,
    Patient,
    Project,
    RemoteRef,
    Role,
    Series,
    SeriesTree,
    ServerVersion,
    User,
)
from agorafs.client.transport import Transport

__all__ = [
    "UNKNOWN_STOP",
    "ApiKey",
    "Body",
    "Changes",
    "Chunk",
    "Client",
    "CompleteRequest",
    "Credential",
    "Crumb",
    "Datafile",
    "Dataset",
    "Exam",
    "ExamTree",
    "Folder",
    "FolderItem",
    "IgnoredFile",
    "ImportResult",
    "ImportedFile",
    "Imports",
    "Kind",
    "Package",
    "ParameterSet",
    "Password",
    "Patient",
    "Progress",
    "Project",
    "RangeNotHonoured",
    "Rating",
    "RemoteRef",
    "Role",
    "Secret",
    "Series",
    "SeriesTree",
    "ServerVersion",
    "Tag",
    "Timeouts",
    "Token",
    "Transport",
    "User",
    "check_server",
]
