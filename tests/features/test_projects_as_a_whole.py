"""Projects as a whole: made, renamed, set up like another; people, hosts, tags. The connector says what came of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def project(bench, request):
    """A new project: its directory, and the connector's object."""
    made = bench.agora.create_project(request.node.name)
    bench.mount.refresh(bench.root / "projects")
    return bench.root / "projects" / request.node.name, made


def projects(bench) -> dict[str, Any]:
    """Return the projects by their names, as the connector knows them."""
    return {one.display_name: one for one in bench.agora.get_projects()}


@pytest.mark.feature(71, how="`mkdir -p projects/P`; `agorafs control MOUNT create-project NAME DESCRIPTION`")
def test_a_project_is_made_and_made_once(bench):
    bench.shell('mkdir "$1" && mkdir -p "$1" "$1"/folders/a && cd "$1"', bench.root / "projects/Made here")
    bench.command("control", bench.root, "create-project", "Made there", "All of 2024")
    found = projects(bench)
    assert list(found).count("Made here") == 1
    assert found["Made there"].description == "All of 2024"
    assert bench.agora.get_or_create_project("Made here").id == found["Made here"].id
    assert {path.name for path in (bench.root / "projects").iterdir()} == set(found)
    number = bench.attribute(bench.root / "projects/Made here", "id")
    assert int(number) == found["Made here"].id


@pytest.mark.feature(72, how="`echo 'copy-settings /projects/OTHER' > projects/P/.agora/control`")
def test_settings_of_another_project_are_copied(bench, project):
    path, made = project
    other = bench.on_server()
    answer = bench.control(f'copy-settings "/projects/{bench.project.name}"', path)
    assert "2 members, 4 tasks, 1 hosts" in answer  # the one who made it was a member already
    copy = bench.agora.get_project(made.id)

    def members(one):
        return {(membership["user"], membership["role"]) for membership in one.memberships}

    assert members(copy) == members(bench.agora.get_project(other.id))
    for what in ("get_tasks", "get_hosts"):
        names = [one.name for one in getattr(copy, what)()]
        assert names == [one.name for one in getattr(other, what)()] != []


@pytest.mark.feature(73, how="`mv projects/P projects/Q`")
def test_a_project_is_renamed(bench, project):
    path, made = project
    bench.shell('mv "$1" "$2"', path, path.with_name("Another name"))
    assert bench.agora.get_project(made.id).name == "Another name"
    assert path.name not in projects(bench)


@pytest.mark.feature(76, how="`projects/P/.agora/hosts.json`; `copy-host HOST /projects/Q`, `move-host`")
def test_hosts_are_shown_copied_and_moved(bench, project):
    path, made = project
    name = "gpu of this test"
    host = {"name": name, "address": "127.0.0.1", "operating_system": "linux", "is_active": True}
    second = bench.agora.create_project(f"{made.name} 2")
    bench.server.post(f"v2/project/{made.id}/host/", host)
    bench.mount.refresh(bench.root / "projects")

    def hosts(one):
        return [each.to_dict() for each in one.get_hosts()]

    assert json.loads((path / ".agora/hosts.json").read_bytes()) == hosts(made)
    bench.control(f'copy-host "{name}" "/projects/{second.name}"', path)
    (copy,), (original,) = hosts(second), hosts(made)
    assert {**copy, "id": 0, "project": 0} == {**original, "id": 0, "project": 0}
    third = bench.agora.create_project(f"{made.name} 3")
    bench.mount.refresh(bench.root / "projects")
    bench.control(f'move-host "{name}" "/projects/{third.name}"', path)
    assert hosts(made) == json.loads((path / ".agora/hosts.json").read_bytes()) == []
    assert hosts(third) == [{**original, "project": third.id}]


@pytest.mark.feature(77, how="`projects/P/.agora/roles.json`, `members.json`; `add-member ann scientist`")
def test_roles_are_shown_and_members_added(bench, project):
    path, made = project

    def members() -> set[tuple[int, int]]:
        return {(one["user"], one["role"]) for one in json.loads((path / ".agora/members.json").read_bytes())}

    roles = json.loads((path / ".agora/roles.json").read_bytes())
    assert roles == [{"id": role.id, "name": role.name} for role in made.get_roles()]
    assert len(members()) == 1
    bench.control("add-member observer user", path)
    users = {user.username: user.id for user in bench.agora.get_users()}
    theirs = bench.agora.get_project(made.id).memberships
    assert [one["role"] for one in theirs if one["user"] == users["observer"]] == [made.ROLE_USER]
    assert members() == {(one["user"], one["role"]) for one in theirs}


@pytest.mark.feature(78, how="`ls projects/P/tags`")
def test_the_tags_of_a_project_are_listed(bench, project):
    path, made = project
    for label in ("good", "looked at"):
        bench.agora.create_tag(label, project=made.id)
    bench.mount.refresh(path)
    assert {one.name for one in (path / "tags").iterdir()} == {tag.label for tag in made.get_tags()}
    demo = {tag.label for tag in bench.on_server().get_tags()}
    assert {one.name for one in (bench.project / "tags").iterdir()} == demo >= {"good", "checked"}


@pytest.mark.feature(79, how="`find projects/P/exams`")
def test_all_studies_of_a_project_are_walked_as_a_tree(bench):
    ours = {
        tuple(int(bench.attribute(place, "id")) for place in (exam, series, dataset))
        for exam in (bench.project / "exams").iterdir()
        for series in exam.iterdir()
        if bench.attribute(series, "type") == "series"
        for dataset in series.iterdir()
        if dataset.is_dir()
    }
    exams = bench.on_server().get_study_tree()
    theirs = {
        (exam.id, series.id, dataset.id)
        for exam in exams
        for series in exam.series
        for dataset in series.datasets
        if len(dataset.get_datafiles()) > 1
    }
    assert ours == theirs != set()
    bench.mount.refresh(bench.project)
    bench.server.reset_requests()
    found = bench.shell('find "$1" -type f', bench.project / "exams").splitlines()
    files = sum(
        len(dataset.get_datafiles())
        for exam in exams
        for dataset in [*exam.datasets, *(one for series in exam.series for one in series.datasets)]
    )
    assert len(found) == files
    assert bench.server.request_count() <= 1 + len(exams)


@pytest.mark.feature(80, how="`projects/My Agora/folders`; `mkdir -p …/a/b`")
def test_folders_of_my_agora_are_reached_and_made(bench):
    root = bench.root / "projects/My Agora/folders"
    theirs = {item.object.name for item in bench.agora.get_root_folder().get_items()}
    assert {path.name for path in root.iterdir()} == theirs
    for _ in range(2):
        bench.shell('mkdir -p "$1"', root / "made/here")
        bench.command("sync", root)
    folder = bench.agora.get_root_folder().get_folder("made/here")
    assert folder is not None
    assert bench.agora.get_or_create_folder(Path("made/here")).id == folder.id
    assert int(bench.attribute(root / "made/here", "id")) == folder.id
