"""One method per endpoint of projects as such, their members and hosts, users, and one's own access.

Place.  ``Client.administration``; the log-in of the command uses it, and the verbs of the control file.

Evidence.  As in ``api``.

Repetition.  A lost answer leaves what is made here undecided (``RemoteUnavailable`` or ``RemoteTimeout``): projects,
members, hosts, users, keys. Renames, moves and deletions are repeated.

Secrets.  Passwords and keys are in no message and no log, not even where a server echoes them.

Threads.  Every method may be called from any thread.

Failure.  As ``Transport.post_json``; a ``ProtocolError`` besides for answers that are no such record.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agorafs.client.asking import json_object, listed, parsed
from agorafs.client.auth import Password
from agorafs.client.records import Project, parse_id, parse_object, parse_text
from agorafs.client.transport import Transport
from agorafs.errors import AgoraFSError, ProtocolError

_API_KEY = "/api/v1/apikey/"


class Administration:
    """What managers of projects and administrators of the server do."""

    def __init__(self, transport: Transport, page_size: int) -> None:
        self._transport = transport
        self._page_size = page_size

    # -- projects ------------------------------------------------------------------------------------

    def create_project(self, name: str, description: str) -> Project:
        """POST v2/project/ (Python)."""
        path = "/api/v2/project/"
        answer = self._transport.post_json(path, {"name": name, "description": description})
        return parsed(self._transport, path, Project.from_json, answer)

    def rename_project(self, project: int, name: str) -> None:
        """PUT v2/project/{id}/ (Python)."""
        self._transport.put_json(f"/api/v2/project/{project}/", {"name": name}, may_repeat=True)

    def delete_project(self, project: int) -> None:
        """DELETE v2/project/{id}/ (Python has it by inheritance; nobody is known to call it)."""
        self._transport.delete(f"/api/v2/project/{project}/")

    # -- members -------------------------------------------------------------------------------------

    def roles(self) -> dict[int, str]:
        """GET v2/projectrole/ (Python): the names of the roles, by id."""
        return dict(listed(self._transport, "/api/v2/projectrole/", _role, self._page_size))

    def add_member(self, project: int, user: int, role: int) -> None:
        """POST v2/projectmembership/ (Python)."""
        body = {"project": project, "role": role, "user": user}
        self._transport.post_json("/api/v2/projectmembership/", body)

    # -- hosts ---------------------------------------------------------------------------------------

    def hosts(self, project: int) -> list[Mapping[str, Any]]:
        """GET v2/project/{id}/host/ (Python): the machines that run the project's tasks, as the server gives them."""
        return self._objects(f"/api/v2/project/{project}/host/")

    def copy_host(self, project: int, host: Mapping[str, Any]) -> None:
        """POST v2/project/{id}/host/ (Python): all that ``hosts`` gave, the old id included."""
        self._transport.post_json(f"/api/v2/project/{project}/host/", dict(host))

    def move_host(self, project: int, host_id: int) -> None:
        """POST v2/project/{id}/host/{host}/move/ (Python); *project* is the target."""
        self._transport.post_json(f"/api/v2/project/{project}/host/{host_id}/move/", {}, may_repeat=True)

    # -- users ---------------------------------------------------------------------------------------

    def users(self) -> list[Mapping[str, Any]]:
        """GET v1/user/ (Python): whom one may see, as the server gives them."""
        return self._objects("/api/v1/user/")

    def groups(self) -> list[Mapping[str, Any]]:
        """GET v1/groups/ (Python), likewise."""
        return self._objects("/api/v1/groups/")

    def create_user(
        self,
        username: str,
        password: str,
        *,
        email: str = "",
        first_name: str = "",
        last_name: str = "",
        is_superuser: bool = False,
    ) -> Mapping[str, Any]:
        """POST v1/user/ (Python), as a form without the values that are empty: for administrators."""
        path = "/api/v1/user/"
        form = {
            "username": username,
            "password": password,
            "email": email,
            "first_name": first_name,
            "last_name": last_name,
            "is_superuser": str(is_superuser),
        }
        try:
            answer = self._transport.post_form(path, {name: value for name, value in form.items() if value})
        except AgoraFSError as error:
            error.args = (str(error).replace(password, "…") if password else str(error),)
            raise
        return parsed(self._transport, path, json_object, answer)

    # -- one's own access ----------------------------------------------------------------------------

    def api_key(self) -> str:
        """GET v1/apikey/ (Python).

        Raises:
            NotFound: The user has none.
        """
        return self._key(self._transport.get_json(_API_KEY))

    def create_api_key(self) -> str:
        """POST v1/apikey/ (Python, only where there is no key): whether an old key goes is not known."""
        return self._key(self._transport.post_json(_API_KEY, {}))

    def log_in(self, username: str, password: str) -> str:
        """POST v1/rest-auth/login/ (Python): a session token.

        Raises:
            NotAuthenticated: The server refuses the user name or the password.
        """
        return self._transport.log_in(Password(username, password)).reveal()

    # -- how -----------------------------------------------------------------------------------------

    def _objects(self, path: str) -> list[Mapping[str, Any]]:
        return listed(self._transport, path, json_object, self._page_size)

    def _key(self, answer: object) -> str:
        key = answer.get("key") if isinstance(answer, dict) else None
        if not isinstance(key, str) or not key:
            raise ProtocolError(f"{self._transport.base_url.join(_API_KEY)}: answered without a key")
        return key


def _role(data: object) -> tuple[int, str]:
    data = parse_object(data, "role")
    return parse_id(data, "role"), parse_text(data, "name")
