"""Verbs for projects as a whole: making them, members, hosts, users, the trash.

Names of people, roles and hosts are looked up on the server before anything is changed. What consists of several calls
goes on when one of them is refused, and says at its end which were.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from agorafs.client.records import Project
from agorafs.client.task_records import Task
from agorafs.config import did_you_mean
from agorafs.errors import BadCommand, NotFound, PermissionDenied, Refused
from agorafs.tree.listing import Area, DirKey
from agorafs.vfs import rules
from agorafs.vfs.control.annotation_verbs import show
from agorafs.vfs.control.services import Request
from agorafs.vfs.control.verb import Argument, Arguments, Outcome, Takes, Verb

_MAX_NAMED = 5


def check_project(request: Request, project: Project) -> None:
    """Refuse what the user's role in *project* forbids."""
    rules.check_may_change(request.project_node(project))


def do_all(work: Iterable[tuple[str, Callable[[], object]]]) -> int:
    """Do each, whatever becomes of the others; return how many that were.

    Raises:
        Refused: The server refused some, which are named; the class is that of the first refusal.
    """
    done = 0
    failed: list[tuple[str, Refused]] = []
    for name, one in work:
        try:
            one()
            done += 1
        except Refused as error:
            failed.append((name, error))
    if failed:
        named = "; ".join(f"{show(name)}: {error}" for name, error in failed[:_MAX_NAMED])
        raise type(failed[0][1])(f"{len(failed)} of {done + len(failed)} were refused: {named}")
    return done


def _create_project(request: Request, arguments: Arguments) -> Outcome:
    name = arguments.text("name")
    rules.check_name(name)
    project = request.services.administration.create_project(name, arguments.text("description"))
    request.services.tree.changed([DirKey(Area.PROJECTS)])
    request.services.announce(["/projects"])
    return Outcome(f"created project:{project.id} {name}", {"project": project.id})


def _copy_settings(request: Request, arguments: Arguments) -> Outcome:
    source = request.project(arguments.text("from"))
    target = request.project(arguments.text("to"))
    if source.id == target.id:
        raise BadCommand("settings are copied from another project")
    check_project(request, target)
    services = request.services
    members = [pair for pair in source.roles if pair[0] not in {user for user, _ in target.roles}]
    there = {(task.name, task.is_script) for task in services.tasks.project_tasks(target.id)}
    tasks = [
        task for task in services.tasks.project_tasks(source.id) if (task.name, task.is_script) not in there
    ]
    hosts_there = {host.get("name") for host in services.administration.hosts(target.id)}
    hosts = [host for host in services.administration.hosts(source.id) if host.get("name") not in hosts_there]
    try:
        do_all(
            [
                *((f"member {user}", _adding(request, target, user, role)) for user, role in members),
                *((f"task {task.name}", _copying_task(request, target, task)) for task in tasks),
                *((f"host {host.get('name')}", _copying_host(request, target, host)) for host in hosts),
            ]
        )
    finally:
        services.tree.changed([DirKey(Area.PROJECTS), DirKey(Area.TASKS, target.id), DirKey(Area.TASKS)])
    counts = {"members": len(members), "tasks": len(tasks), "hosts": len(hosts)}
    words = ", ".join(f"{count} {what}" for what, count in counts.items())
    return Outcome(f"copied from {source.name} to {target.name}: {words}", counts)


def _adding(request: Request, project: Project, user: int, role: int) -> Callable[[], object]:
    return lambda: request.services.administration.add_member(project.id, user, role)


def _copying_task(request: Request, project: Project, task: Task) -> Callable[[], object]:
    return lambda: copy_task(request, task, project)


def _copying_host(request: Request, project: Project, host: Mapping[str, Any]) -> Callable[[], object]:
    return lambda: request.services.administration.copy_host(project.id, host)


def copy_task(request: Request, task: Task, project: Project) -> None:
    """Copy *task* into *project*. The archive's own call takes numbers of tasks made of forms only."""
    if task.is_script:
        now = request.services.tasks.task(task.id, is_script=True)  # others may have changed it
        body = {**now.raw, "project": project.id}
        request.services.tasks.create(body, is_script=True)
    else:
        request.services.tasks.copy_to(task.id, project.id)


def _add_member(request: Request, arguments: Arguments) -> Outcome:
    project = request.project(arguments.text("project"))
    check_project(request, project)
    administration = request.services.administration
    user = _named(administration.users(), arguments.text("user"), "username", "user")
    role = _role(administration.roles(), arguments.text("role"))
    administration.add_member(project.id, int(user["id"]), role)
    request.services.tree.changed([DirKey(Area.PROJECTS)])
    return Outcome(f"added {arguments.text('user')} to {project.name}", {"user": user["id"], "role": role})


def _named(items: list[Mapping[str, Any]], text: str, key: str, what: str) -> Mapping[str, Any]:
    """Return the one of *items* that *text* names, by *key* or by its number."""
    found = [one for one in items if one.get(key) == text]
    if not found and text.isascii() and text.isdigit():
        found = [one for one in items if str(one.get("id")) == text]
    if len(found) > 1:
        numbers = ", ".join(str(one.get("id")) for one in found)
        raise BadCommand(f"several have the name {text}: give one of the numbers {numbers}")
    if not found:
        raise NotFound(
            f"there is no {what} {text!r}{did_you_mean(text, [str(one.get(key)) for one in items])}"
        )
    return found[0]


def _role(roles: Mapping[int, str], text: str) -> int:
    for number, name in roles.items():
        if text.lower() == name.lower() or text == str(number):
            return number
    raise NotFound(f"there is no role {text!r}; there are: {', '.join(sorted(roles.values()))}")


def _copy_host(request: Request, arguments: Arguments) -> Outcome:
    host, target = _host(request, arguments)
    request.services.administration.copy_host(target.id, host)
    return Outcome(f"copied host {host.get('name')} to {target.name}")


def _move_host(request: Request, arguments: Arguments) -> Outcome:
    host, target = _host(request, arguments)
    request.services.administration.move_host(target.id, int(host["id"]))
    return Outcome(f"moved host {host.get('name')} to {target.name}")


def _host(request: Request, arguments: Arguments) -> tuple[Mapping[str, Any], Project]:
    source = request.project(arguments.text("from"))
    target = request.project(arguments.text("to"))
    if source.id == target.id:
        raise BadCommand("a host is copied or moved to another project")
    check_project(request, target)
    return _named(
        request.services.administration.hosts(source.id), arguments.text("host"), "name", "host"
    ), target


def _create_user(request: Request, arguments: Arguments) -> Outcome:
    if not arguments.has("password"):
        raise BadCommand(
            'the password is given in an object ({"command": "create-user", "name": …, "password": …}), or with '
            "agorafs control DIR create-user NAME --password-stdin"
        )
    if not request.services.is_superuser:
        raise PermissionDenied("only administrators of the server create users")
    name = arguments.text("name")
    user = request.services.administration.create_user(
        name,
        arguments.text("password"),
        email=arguments.text("email"),
        first_name=arguments.text("first-name"),
        last_name=arguments.text("last-name"),
        is_superuser=arguments.flag("is-superuser"),
    )
    return Outcome(f"created user {name}", {"user": user.get("id")})


def _empty_trash(request: Request, arguments: Arguments) -> Outcome:
    project = request.project(arguments.text("project"))
    check_project(request, project)
    exploring = request.services.exploring
    entries = [entry for entry in exploring.trash() if entry.project == project.id]

    def removing(number: int) -> Callable[[], object]:
        def remove() -> None:
            with contextlib.suppress(NotFound):  # somebody else was faster
                exploring.delete_finally(number)

        return remove

    try:
        count = do_all((entry.name or str(entry.id), removing(entry.id)) for entry in entries)
    finally:
        request.services.tree.changed([DirKey(Area.TRASH, project.id)])
    request.services.announce([f"{request.project_node(project).path}/trash"])
    return Outcome(f"removed {count} from the trash of {project.name} for good", {"removed": count})


_PROJECT = Argument("project", "a project; that of the directory if it is left out", is_required=False)
_TO = Argument("to", "another project")
_FROM = Argument("from", "a project; that of the directory if it is left out", is_required=False)
_HOST = Argument("host", "the name or number of a host of the project")

VERBS = (
    Verb(
        "create-project", "make a project", "create-project Brains 'All of 2024'", _create_project,
        (Argument("name", "a name"), Argument("description", "a description", is_required=False)),
    ),
    Verb(
        "copy-settings", "copy members, tasks and hosts of another project", "copy-settings /projects/Other",
        _copy_settings, (Argument("from", "another project"), Argument("to", "a project", is_required=False)),
    ),
    Verb(
        "add-member", "make somebody a member of the project", "add-member ann scientist", _add_member,
        (Argument("user", "a user name"), Argument("role", "a role, such as scientist"), _PROJECT),
    ),
    Verb(
        "create-user", "make a user of the server (administrators)",
        '{"command": "create-user", "name": "ann", "password": "…"}', _create_user,
        (
            Argument("name", "a user name"),
            Argument("password", "a password", is_required=False, is_secret=True),
            Argument("email", "an address", is_required=False),
            Argument("first-name", "a name", is_required=False),
            Argument("last-name", "a name", is_required=False),
            Argument("is-superuser", "administers the server, too", Takes.FLAG, is_required=False),
        ),
    ),
    Verb(
        "copy-host", "copy a host of the project to another project", "copy-host gpu1 /projects/Other", _copy_host,
        (_HOST, _TO, _FROM),
    ),
    Verb(
        "move-host", "move a host of the project to another project", "move-host gpu1 /projects/Other", _move_host,
        (_HOST, _TO, _FROM),
    ),
    Verb(
        "empty-trash", "remove for good what is in the trash of the project", "empty-trash", _empty_trash,
        (_PROJECT,),
    ),
)  # fmt: skip
