"""Settling against the embedded server, through the client: the calls and the records fit together."""

from __future__ import annotations

import pytest

from agorafs.client import ApiKey, Client, Timeouts, Transport
from agorafs.client.records import Dataset, Kind, RemoteRef
from agorafs.uploads.nodes import Place
from agorafs.uploads.settle import Settler
from agorafs.uploads.values import Anchor, BatchState, Replaced
from tests.sandbox.conftest import dicom_file
from tests.support.manual_clock import ManualClock
from tests.support.sandbox import SandboxProcess
from tests.uploads.local import Local
from tests.uploads.settling import sha1_of


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory):
    with SandboxProcess(tmp_path_factory.mktemp("settle") / "sandbox", seed="none") as sandbox:
        yield sandbox


@pytest.fixture
def switch(sandbox):
    """Change switches for one test."""
    before = sandbox.control("GET", "switches")
    yield sandbox.switch
    sandbox.control("PUT", "switches", json=before)


@pytest.fixture
def client(sandbox):
    timeouts = Timeouts(first_byte_s=10, deadline_s=30)
    transport = Transport(sandbox.url, ApiKey(sandbox.api_key), timeouts=timeouts, clock=ManualClock())
    yield Client(transport)
    transport.close()


class World:
    """A project of its own on the server, and a local store."""

    def __init__(self, state, sandbox, client):
        self.local = Local(state)
        self.sandbox = sandbox
        self.client = client
        self.name = state.parent.name
        self.project = sandbox.post("v2/project/", {"name": self.name, "description": "for one test"})["id"]
        self.root = client.project(self.project).root_folder
        self.anchor = Anchor(Kind.FOLDER, self.root)
        self.refreshed = []

    def write(self, path, data, *, replaces=None):
        place: Place = self.anchor
        *directories, name = path.split("/")
        for one in directories:
            place = self.local.uploads.find(place, one) or self.local.uploads.make_directory(place, one)
        return self.local.write(place, name, data, replaces=replaces)

    def import_all(self):
        """Send everything that was written and keep the result, as the sender does."""
        self.local.fall_quiet()
        journal = self.local.journal
        (batch,) = journal.batches()
        contents = {}
        for upload in journal.uploads(batch.id):
            contents[upload.target] = upload.content.read_bytes()
            journal.set_sha1(upload.id, sha1_of(contents[upload.target]))
        package = self.sandbox.upload(contents, folder=self.root)["package"]
        journal.begin_upload(batch.id, package, [])
        result = self.client.imports.result(package)
        journal.set_state(batch.id, BatchState.VERIFYING, result=result.raw)

    def settle(self, before_settling=lambda: None):
        self.import_all()
        before_settling()
        settler = Settler(
            self.local.journal,
            self.local.arrivals,
            self.client,
            self.client.changes,
            self.client.annotations,
            refresh=self.refreshed.extend,
            adopt=lambda datafile, path: None,
            say=lambda dataset, said: None,
            link_exams=True,
        )
        for batch in self.local.journal.batches():
            settler.settle(batch)

    def left(self):
        """Return the local files that stay, with their reasons."""
        return {node.name: node.error for node in self.local.store.overlay.everything()}

    def folders(self):
        """Return what the server shows: names by folder path."""
        shown = self.sandbox.tree()["projects"][self.name]["folders"]
        return {path: sorted(item["name"] for item in items) for path, items in shown.items()}

    def stored(self, name, folder=None):
        """Return the dataset *name* of a folder and how a local file remembers it."""
        for item in self.client.folder_items(folder or self.root):
            if isinstance(item.content, Dataset) and item.content.name == name:
                (datafile,) = item.content.datafiles or ()
                return item.content, Replaced(item.content.id, item.id, datafile.sha1)
        raise AssertionError(f"there is no {name}")


@pytest.fixture
def world(tmp_path, sandbox, client):
    one = World(tmp_path / "state", sandbox, client)
    yield one
    one.local.close()


def test_a_tree_of_files_is_stored_with_its_empty_directories(world):
    world.write("a.txt", b"one")
    world.write("d/e/b.txt", b"two")
    world.write("d/é", b"")
    world.local.uploads.make_directory(world.anchor, "empty")
    world.settle()
    assert world.left() == {}
    assert world.folders() == {"": ["a.txt", "d", "empty"], "d": ["e", "é"], "d/e": ["b.txt"], "empty": []}


def test_replacing_keeps_tags_rating_parameters_and_links(world, client):
    world.write("a.txt", b"old")
    world.settle()
    old, replaced = world.stored("a.txt")
    ref = RemoteRef(Kind.DATASET, old.id)
    client.annotations.tag(ref, client.annotations.create_tag("good", project=None).id)
    client.annotations.rate(ref, 4)
    client.annotations.add_parameter_set(ref, "mine", [{"Name": "x", "Value": 1}])
    other = client.changes.create_folder(world.root, "other").object_id
    client.changes.link(ref, other)

    world.write("a.txt", b"new", replaces=replaced)
    world.settle()

    new, now = world.stored("a.txt")
    assert world.left() == {}
    assert world.folders() == {"": ["a.txt", "other"], "other": ["a.txt"]}
    assert now.sha1 == sha1_of(b"new")
    ref = RemoteRef(Kind.DATASET, new.id)
    assert [tag.label for tag in client.annotations.tags_of(ref)] == ["good"]
    rating = client.annotations.rating(ref)
    assert rating is not None and rating.value == 4
    (own,) = client.annotations.parameter_sets(ref)
    assert (own.name, own.is_read_only) == ("mine", False)
    assert [(one["Name"], one["Value"]) for one in own.parameters] == [("x", 1)]
    (link,) = client.folder_items(other)
    assert (link.object_id, link.is_link) == (new.id, True)
    assert {(Kind.FOLDER, world.root), (Kind.FOLDER, other)} <= set(world.refreshed)


def test_writing_the_same_bytes_again_changes_nothing(world):
    world.write("a.txt", b"same")
    world.settle()
    before, replaced = world.stored("a.txt")
    world.write("a.txt", b"same", replaces=replaced)
    world.settle()
    assert world.stored("a.txt")[0].id == before.id
    assert world.left() == {}


def test_content_that_the_server_has_elsewhere_appears_where_it_was_written(world, switch):
    world.write("a.txt", b"content that was there")
    world.settle()
    switch(existing="elsewhere")
    world.write("d/a.txt", b"content that was there")
    world.settle()
    assert world.left() == {}
    assert world.folders() == {"": ["a.txt", "d"], "d": ["a.txt"]}


def test_a_result_with_wrong_hashes_fails_every_file(world, switch):
    switch(result_sha1="wrong")
    world.write("a.txt", b"one")
    world.settle()
    assert "the server holds other bytes" in world.left()["a.txt"]


def test_a_result_without_datafiles_is_made_up_for_by_looking(world, switch):
    switch(result_datafiles="missing")
    world.write("a.txt", b"one")
    world.write("d/b.txt", b"two")
    world.settle()
    assert world.left() == {}


def test_what_the_server_ignores_stays_and_the_rest_is_stored(world, switch):
    switch(result_ignore="unwanted")
    world.write("a.txt", b"one")
    world.write("unwanted.txt", b"two")
    world.settle()
    assert world.left()["unwanted.txt"].startswith("the server ignored this file: ")
    assert world.folders() == {"": ["a.txt"]}


def test_a_pair_of_which_one_half_was_removed_stays_whole(world, client):
    nodes = [world.write(name, name.encode()) for name in ("x.raw", "x.lab")]
    world.settle(lambda: world.local.uploads.remove(nodes[0]))
    (item,) = client.folder_items(world.root)
    assert sorted(one.original_filename for one in item.content.datafiles) == ["x.lab", "x.raw"]


def test_a_study_leaves_a_link_where_it_was_written(world, client):
    for number in (1, 2):
        world.write(f"scans/{number}.dcm", dicom_file(study="1.2.3", series="1.2.3.4", number=number))
    world.settle()
    (exam,) = client.project_exams(world.project)
    assert world.left() == {}
    (item,) = client.folder_items(world.root)
    assert (item.content_type, item.object_id) == ("exam", exam.id)
    assert {(Kind.EXAM, exam.id), (Kind.PROJECT, world.project)} <= set(world.refreshed)
