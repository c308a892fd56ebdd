"""What the server says of itself and its users, as files: read once, and without any secret."""

from __future__ import annotations

import json
import re

import pytest

from agorafs.cache.metadata import Freshness
from agorafs.client.records import Kind
from agorafs.errors import NotPermitted, PermissionDenied
from agorafs.tree.tree import Tree
from agorafs.vfs.aside import NOBODY
from agorafs.vfs.dot_root import DotInfo, metrics, without_secrets
from tests.support.manual_clock import ManualClock
from tests.support.memory_archive import MemoryArchive

TTL_S = 30.0
SECRET = "sesame-1234"
STATUS = {
    "agorafs": "1.0",
    "url": "https://agora",
    "user": 'a"nn\\',
    "server_version": "8.0.0",
    "server": "ok",
    "content": {"requests": 3, "used_bytes": 2048, "bypassed": ""},
    "uploads": {"failed": 1, "batches": [{"id": 1}]},
    "api_key": SECRET,
}


class Server:
    """Client, administration and exploring in one; counts what it is asked."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.hides_users = False
        self.administration = self.exploring = self

    def _said(self, call, answer):
        self.calls.append(call)
        return answer

    def users(self):
        self.calls.append("users")
        if self.hides_users:
            raise PermissionDenied("administrators only")
        return [{"id": 1, "username": "ann", "password": SECRET}]

    def groups(self):
        return self._said("groups", [{"id": 1, "name": "users"}])

    def roles(self):
        return self._said("roles", {1: "manager", 2: "scientist"})

    def hosts(self, project):
        return self._said(
            f"hosts {project}", [{"id": 3, "name": "gpu", "login": {"API_KEY": SECRET, "port": 22}}]
        )

    def image_info(self, dataset_id):
        return self._said(f"image {dataset_id}", {"columns": 256})

    def describe(self, ref):
        assert ref.kind is Kind.PROJECT
        memberships = [{"id": 9, "user": 1, "role": 2, "project": ref.id}, {"id": 10, "user": 77, "role": 5}]
        return self._said(f"project {ref.id}", {"id": ref.id, "memberships": memberships})

    def describe_me(self):
        return self._said("me", {"id": 1, "username": "ann", "token": SECRET})

    def describe_server(self):
        return self._said("version", {"version": "8.0.0", "server": "agora"})

    def vendors(self):
        return self._said("vendors", {1: "Philips"})


class World:
    def __init__(self) -> None:
        self.server, self.clock, self.status = Server(), ManualClock(), dict(STATUS)
        archive = MemoryArchive()
        self.project = archive.add_project("P")
        self.dataset = archive.add_dataset({"a.nii": b"bytes"}, folder=self.project.root_folder)
        freshness = Freshness(ttl_s=TTL_S, revalidate_wait_s=5.0)
        self.tree = Tree(
            archive, user=archive.user, my_agora=None, freshness=freshness, max_entries=1000, clock=self.clock
        )
        self.part = DotInfo(self.server, status=lambda: self.status, freshness=freshness, clock=self.clock)

    def names(self, path: str):
        node = self.tree.resolve(path.split("/") if path else [])
        return list(self.part.names(node, is_root=node.parent is None).files)

    def look(self, path: str, name: str):
        node = self.tree.resolve(path.split("/") if path else [])
        found = self.part.resolve(node, [name], is_root=node.parent is None)
        assert found is not None
        return found

    def read(self, path: str, name: str) -> bytes:
        source = self.look(path, name).open(NOBODY)
        if isinstance(source, bytes):
            return source
        buffer = bytearray(1 << 16)
        return bytes(buffer[: source.read_into(0, memoryview(buffer))])


@pytest.fixture
def world():
    world = World()
    yield world
    world.part.close()
    world.tree.close()


def test_each_directory_has_its_files(world):
    assert world.names("") == [
        "me.json", "users.json", "groups.json", "vendors.json", "version.json", "status.json", "metrics",
    ]  # fmt: skip
    assert world.names("projects/P") == ["members.json", "roles.json", "hosts.json"]
    assert world.names("projects/P/folders/a.nii") == ["image.json"]
    assert world.names("projects/P/folders") == world.names("projects") == []


@pytest.mark.parametrize(
    ("path", "name", "shown"),
    [
        ("", "me.json", {"id": 1, "username": "ann"}),
        ("", "users.json", [{"id": 1, "username": "ann"}]),
        ("", "groups.json", [{"id": 1, "name": "users"}]),
        ("", "vendors.json", [{"id": 1, "name": "Philips"}]),
        ("", "version.json", {"version": "8.0.0", "server": "agora"}),
        ("projects/P", "roles.json", [{"id": 1, "name": "manager"}, {"id": 2, "name": "scientist"}]),
        ("projects/P", "hosts.json", [{"id": 3, "name": "gpu", "login": {"port": 22}}]),
        ("projects/P/folders/a.nii", "image.json", {"columns": 256}),
    ],
)
def test_a_file_costs_one_request_and_shows_no_secret(world, path, name, shown):
    assert json.loads(world.read(path, name)) == shown
    assert world.look(path, name).size == len(world.read(path, name))
    assert len(world.server.calls) == 1
    world.clock.advance(TTL_S + 1)
    world.read(path, name)
    assert len(world.server.calls) == 2


def test_members_have_the_names_of_users_and_roles(world):
    members = json.loads(world.read("projects/P", "members.json"))
    assert [(one["username"], one["role_name"]) for one in members] == [("ann", "scientist"), (None, None)]


def test_members_are_shown_where_users_are_not(world):
    world.server.hides_users = True
    members = json.loads(world.read("projects/P", "members.json"))
    assert [(one["user"], one["username"], one["role_name"]) for one in members] == [
        (1, None, "scientist"),
        (77, None, None),
    ]


def test_what_is_no_file_of_this_directory_is_left_to_others(world):
    root, project = world.tree.resolve([]), world.tree.resolve(["projects", "P"])
    assert world.part.resolve(root, ["hosts.json"], is_root=True) is None
    assert world.part.resolve(project, ["me.json"], is_root=False) is None
    assert world.part.resolve(root, ["me.json", "x"], is_root=True) is None
    assert world.server.calls == []


def test_the_status_is_of_the_moment_it_is_opened_and_has_no_secret(world):
    assert SECRET.encode() not in world.read("", "status.json") + world.read("", "metrics")
    found = world.look("", "status.json")
    world.status["uploads"] = {"failed": 2}
    source = found.open(NOBODY)
    buffer = bytearray(1 << 16)
    assert json.loads(buffer[: source.read_into(0, memoryview(buffer))])["uploads"] == {"failed": 2}
    assert world.server.calls == []


def test_the_status_can_not_be_written(world):
    found = world.look("", "status.json")
    assert not found.can_write
    draft = found.open(NOBODY)
    draft.write(0, b"x")
    with pytest.raises(NotPermitted):
        draft.flush()


def test_metrics_are_in_the_form_that_prometheus_reads():
    lines = metrics(STATUS).splitlines()
    sample = re.compile(
        r'agorafs_[a-z_]+(\{(\w+="([^"\\]|\\.)*",?)+\})? [0-9.e+-]+|# TYPE agorafs_[a-z_]+ (gauge|counter)'
    )
    assert all(sample.fullmatch(line) for line in lines)
    assert len({line for line in lines if line.startswith("#")}) == len(lines) / 2
    assert "agorafs_content_requests_total 3" in lines
    assert "# TYPE agorafs_content_requests_total counter" in lines
    assert "agorafs_content_used_bytes 2048" in lines
    assert "agorafs_uploads_batches_count 1" in lines
    assert "agorafs_server_up 1" in lines
    assert "agorafs_server_up 0" in metrics({**STATUS, "server": "away"}).splitlines()


def test_secrets_are_found_under_all_their_names():
    named = dict.fromkeys(("key", "apikey", "api_key", "Token", "PASSWORD", "auth_token", "x_key"), SECRET)
    assert without_secrets([named, {"a": ({"b": named},), "keyboard": 1}]) == [
        {},
        {"a": [{"b": {}}], "keyboard": 1},
    ]
