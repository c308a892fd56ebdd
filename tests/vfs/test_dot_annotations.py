"""Tags, rating, lock and parameters as files below ``.agora``: what they show, and what writing them does."""

from __future__ import annotations

import json

import pytest

from agorafs.client.records import Role
from agorafs.errors import BadCommand, NotFound, NotPermitted, PermissionDenied
from agorafs.vfs.aside import NOBODY
from agorafs.vfs.attr import FileType
from agorafs.vfs.dot_annotations import DotAnnotations
from tests.vfs.annotated_world import DESCRIBED, EXAM, FILE, AnnotatedWorld


class Files:
    """The files beside the objects of a world."""

    def __init__(self, world: AnnotatedWorld) -> None:
        self.world = world
        self.announced: list[str] = []
        self.part = DotAnnotations(world.annotations, announce=self.announced.extend)

    def find(self, path, *rest):
        return self.part.resolve(self.world.node(path), rest, is_root=False)

    def read(self, path, *rest):
        found = self.find(path, *rest)
        assert found is not None
        assert found.file_type is FileType.FILE
        opened = found.open(NOBODY)
        if isinstance(opened, bytes):
            content = opened
        else:
            view = memoryview(bytearray(1 << 20))
            content = bytes(view[: opened.read_into(0, view)])
            opened.close()
        assert len(content) == found.size, "a size that is not true"
        return content.decode()

    def write(self, path, *rest, content):
        """``printf content > file``: truncate, write, close."""
        self._write(self.find(path, *rest), content)

    def make(self, path, *rest, content):
        made = self.part.make(self.world.node(path), rest)
        self._write(made, content)

    @staticmethod
    def _write(found, content):
        assert found.can_write
        handle = found.open(NOBODY)
        try:
            handle.truncate(0)
            handle.write(0, content.encode())
            handle.flush()
        finally:
            handle.close()


@pytest.fixture
def make_files():
    made = []

    def make(**options):
        made.append(AnnotatedWorld(**options))
        return Files(made[-1])

    yield make
    for world in made:
        world.close()


@pytest.fixture
def files(make_files):
    return make_files()


@pytest.mark.parametrize("path", DESCRIBED)
def test_every_object_that_can_be_described_has_the_files(files, path):
    node = files.world.node(path)
    names = files.part.names(node, is_root=False)
    assert (list(names.files), list(names.directories)) == (
        ["tags", "rating", "locked", "parameters.json"],
        ["parameters"],
    )
    assert [files.read(path, name) for name in names.files] == ["", "0\n", "0\n", "{}\n"]
    assert files.find(path, "parameters").entries == ()


@pytest.mark.parametrize("path", ["/", "/projects", "/projects/P", "/projects/P/exams"])
def test_what_can_not_be_described_has_none(files, path):
    node = files.world.node(path)
    assert files.part.names(node, is_root=False) == ((), ())
    assert files.find(path, "tags") is None
    assert files.part.make(node, ["parameters", "x.json"]) is None
    assert files.part.remove(node, ["parameters", "x.json"]) is False


def test_tags_are_a_label_on_each_line_and_appending_one_tags(files):
    server, ref = files.world.server, files.world.refs[EXAM]
    files.write(EXAM, "tags", content="good\nfair, new\n")
    assert server.labels(ref) == ["good", "fair", "new"]
    assert files.read(EXAM, "tags") == "good\nfair\nnew\n"
    files.world.set(EXAM, "user.agora.tag.brain, left", "1")
    files.write(EXAM, "tags", content=files.read(EXAM, "tags") + "more")
    assert server.labels(ref) == ["good", "fair", "new", "brain, left", "more"]
    files.write(EXAM, "tags", content="\n")
    assert server.labels(ref) == []


def test_a_rating_is_written_and_read(files):
    files.write(FILE, "rating", content="4\n")
    assert files.read(FILE, "rating") == "4\n"
    files.write(FILE, "rating", content="2")
    assert files.world.server.ratings[files.world.refs[FILE]].value == 2


@pytest.mark.parametrize(
    ("name", "content"),
    [("rating", "7\n"), ("rating", "good"), ("locked", "maybe\n"), ("tags", "a\x07b\n")],
)
def test_a_wrong_value_is_refused_before_the_server_is_asked(files, name, content):
    found = files.find(EXAM, name)
    files.world.server.calls.clear()
    with pytest.raises(BadCommand):
        files._write(found, content)
    assert files.world.server.calls == []


def test_emptying_a_file_changes_nothing(files):
    files.world.set(EXAM, "user.agora.tags", "good")
    handle = files.find(EXAM, "tags").open(NOBODY)
    handle.truncate(0)
    handle.flush()
    handle.close()
    assert files.world.server.labels(files.world.refs[EXAM]) == ["good"]


def test_an_exam_is_locked_by_writing_1_and_others_can_not_be(files):
    files.write(EXAM, "locked", content="1\n")
    assert files.world.server.locked == {files.world.refs[EXAM].id: True}
    with pytest.raises(NotPermitted):
        files.write(FILE, "locked", content="1\n")


def test_the_kernel_is_told_of_write_bits_that_a_lock_has_changed(files):
    """It had kept them for a second: all that it has seen is a change of the file that was written."""
    files.write(EXAM, "locked", content="1\n")
    assert files.announced == [EXAM]


def test_what_role_and_lock_forbid_is_refused_before_the_server_is_asked(make_files):
    for files, reason in (
        (make_files(roles=[(1, Role.OBSERVER)]), "observer"),
        (make_files(locked=True), "locked"),
    ):
        files.world.server.add_set(files.world.refs[EXAM], "Mine", [], is_read_only=False)
        for rest, content in ((["tags"], "x\n"), (["rating"], "1\n"), (["parameters", "Mine.json"], "{}")):
            found = files.find(EXAM, *rest)
            files.world.server.calls.clear()
            with pytest.raises(PermissionDenied, match=reason):
                files._write(found, content)
            assert files.world.server.calls == []
        with pytest.raises(PermissionDenied, match=reason):
            files.part.make(files.world.node(EXAM), ["parameters", "New.json"])
        with pytest.raises(PermissionDenied, match=reason):
            files.part.remove(files.world.node(EXAM), ["parameters", "Mine.json"])


# -- parameters ----------------------------------------------------------------------------------------


def names_of(found):
    return [entry.name for entry in found.entries]


def test_parameters_are_shown_by_set_with_values_by_name_and_as_the_server_gives_them(files):
    server, ref = files.world.server, files.world.refs[FILE]
    raw = [{"Name": "TR", "Value": 1.5, "ID": 1253}, {"Name": "Matrix", "Value": [2, 4]}]
    one = server.add_set(ref, "DICOM", raw, is_read_only=True)
    server.add_set(ref, "a/b", [], is_read_only=False)
    server.add_set(ref, "DICOM", [{"Name": "x", "Value": 1}, {"Name": "x", "Value": 2}], is_read_only=False)
    assert names_of(files.find(FILE, "parameters")) == [
        "DICOM.json", "a∕b.json", f"DICOM ({server.sets[ref][2].id}).json",
    ]  # fmt: skip
    everything = json.loads(files.read(FILE, "parameters.json"))
    assert everything["DICOM"] == {
        "id": one.id, "name": "DICOM", "read_only": True, "values": {"TR": 1.5, "Matrix": [2, 4]},
        "parameters": raw,
    }  # fmt: skip
    assert everything["a∕b"]["name"] == "a/b"
    assert json.loads(files.read(FILE, "parameters", "DICOM.json")) == {"TR": 1.5, "Matrix": [2, 4]}
    twice = files.read(FILE, "parameters", f"DICOM ({server.sets[ref][2].id}).json")
    assert json.loads(twice) == [{"Name": "x", "Value": 1}, {"Name": "x", "Value": 2}]


def test_a_set_that_people_made_is_replaced_as_a_whole(files):
    server, ref = files.world.server, files.world.refs[FILE]
    server.add_set(ref, "Mine", [{"Name": "a", "Value": 1, "NameText": "A"}, {"Name": "b", "Value": 2}],
                   is_read_only=False)  # fmt: skip
    files.write(FILE, "parameters", "Mine.json", content='{"a": 3, "c": [1, 2]}')
    assert list(server.sets[ref][0].parameters) == [
        {"Name": "a", "Value": 3, "NameText": "A"},
        {"Name": "c", "Value": [1, 2]},
    ]
    assert json.loads(files.read(FILE, "parameters", "Mine.json")) == {"a": 3, "c": [1, 2]}


def test_one_of_two_sets_with_one_name_is_the_one_that_is_written_and_removed(files):
    server, ref = files.world.server, files.world.refs[FILE]
    server.add_set(ref, "Mine", [{"Name": "a", "Value": 1}], is_read_only=False)
    second = server.add_set(ref, "Mine", [{"Name": "a", "Value": 2}], is_read_only=False)
    name = f"Mine ({second.id}).json"
    files.write(FILE, "parameters", name, content='{"a": 3}')
    assert [one.parameters[0]["Value"] for one in server.sets[ref]] == [1, 3]
    assert files.part.remove(files.world.node(FILE), ["parameters", name])
    assert [one.parameters[0]["Value"] for one in server.sets[ref]] == [1]


def test_a_new_file_makes_a_set_and_removing_it_removes_the_set(files):
    server, ref = files.world.server, files.world.refs[FILE]
    with pytest.raises(NotFound):
        files.find(FILE, "parameters", "Fit.json")
    files.make(FILE, "parameters", "Fit.json", content='{"T1": 1300}\n')
    assert server.values(ref, "Fit") == {"T1": 1300}
    assert names_of(files.find(FILE, "parameters")) == ["Fit.json"]
    assert files.part.remove(files.world.node(FILE), ["parameters", "Fit.json"])
    assert server.sets[ref] == []
    for name in ("Fit.txt", ".json", "Fit"):
        assert files.part.make(files.world.node(FILE), ["parameters", name]) is None


def test_a_set_that_came_with_the_data_can_not_be_written_or_removed(files):
    files.world.server.add_set(files.world.refs[FILE], "DICOM", [], is_read_only=True)
    assert not files.find(FILE, "parameters", "DICOM.json").can_write
    with pytest.raises(NotPermitted):
        files.part.remove(files.world.node(FILE), ["parameters", "DICOM.json"])


@pytest.mark.parametrize(
    "content",
    ["", "{", "3", '"x"', '{"a": null}', '{"a": {}}', "[1]", '[{"Name": "a"}]', "[" * 100_000, '{"": 1}'],
)
def test_what_is_no_set_is_refused_before_the_server_is_asked(files, content):
    files.world.server.add_set(
        files.world.refs[FILE], "Mine", [{"Name": "a", "Value": 1}], is_read_only=False
    )
    found = files.find(FILE, "parameters", "Mine.json")
    files.world.server.calls.clear()
    with pytest.raises(BadCommand):
        files._write(found, content + "\n")
    assert files.world.server.calls == []


def test_reading_all_of_it_twice_asks_once(files):
    for _ in range(2):
        for name in ("tags", "rating", "locked", "parameters.json"):
            files.read(EXAM, name)
        files.find(EXAM, "parameters")
    number = files.world.refs[EXAM].id
    assert files.world.server.calls == [
        "tags", f"tag_instances {files.world.project.id}", f"rating exam {number}", f"parameter_sets exam {number}",
    ]  # fmt: skip
