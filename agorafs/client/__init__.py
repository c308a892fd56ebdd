"""The archive over HTTP: paths, JSON, credentials, deadlines. Knows nothing of files or mounts.

=================  ============================================================================
``api``            ``Client``: one method per endpoint, answers as records
``records``        the archive's objects, parsed and checked once
``paging``         whole lists out of pages
``transport``      one pooled session: deadlines, retries, redirects, statuses
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

from agorafs.client.api import Client, check_server
from agorafs.client.auth import ApiKey, Credential, Password, Secret, Token
from agorafs.client.body import UNKNOWN_STOP, Body, RangeNotHonoured
from agorafs.client.deadlines import Timeouts
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
    "Client",
    "Credential",
    "Crumb",
    "Datafile",
    "Dataset",
    "Exam",
    "ExamTree",
    "Folder",
    "FolderItem",
    "Kind",
    "Password",
    "Patient",
    "Project",
    "RangeNotHonoured",
    "RemoteRef",
    "Role",
    "Secret",
    "Series",
    "SeriesTree",
    "ServerVersion",
    "Timeouts",
    "Token",
    "Transport",
    "User",
    "check_server",
]
