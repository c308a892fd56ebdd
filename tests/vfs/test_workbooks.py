"""Workbooks as files: merged by name as the vendor's package merges, checked before the archive is asked."""

from __future__ import annotations

import copy
import io
import json
from typing import Any

import numpy
import pytest
from gtagora.models.workbook import Workbook as VendorWorkbook
from hypothesis import given
from hypothesis import strategies as st
from workbook.session import merge_contour_session, merge_mask_session, resolve_contour_buttons
from workbook.templates import new_cmr_workbook_body

from agorafs.cache.metadata import Freshness
from agorafs.errors import BadCommand, NotFound, PermissionDenied
from agorafs.tree.tree import Tree
from agorafs.vfs.aside import NOBODY
from agorafs.vfs.attr import FileType
from agorafs.vfs.dot_workbooks import DotWorkbooks
from agorafs.vfs.workbooks import Change, effective_buttons, merged, new_workbook, parse_change
from tests.support.manual_clock import ManualClock
from tests.support.memory_archive import MemoryArchive
from tests.vfs.test_masks import a_mask, npy, random_array

TTL_S = 30.0


def a_workbook(number: int = 1, name: str = "Workbook 1", **more) -> dict[str, Any]:
    body = copy.deepcopy(new_workbook(57, name))
    body |= {"id": number, "modified_date": "2024-01-01T09:00:00Z"}
    body["mask"]["mMasks"] = [a_mask(random_array(), "lv")]
    body["contour"]["contourGroups"] = [{"name": "G", "contours": [1]}]
    return {**body, **more}


class Server:
    """The archive's workbooks of one dataset; ``calls`` are what was asked."""

    def __init__(self, *workbooks) -> None:
        self.kept = {workbook["id"]: workbook for workbook in workbooks}
        self.calls: list[str] = []

    def workbooks(self, dataset_id):
        self.calls.append(f"workbooks {dataset_id}")
        return copy.deepcopy(list(self.kept.values()))

    def workbook(self, workbook_id):
        self.calls.append(f"workbook {workbook_id}")
        return copy.deepcopy(self.kept[workbook_id])

    def update_workbook(self, workbook_id, *, mask=None, contour=None):
        self.calls.append(f"update {workbook_id}")
        self.kept[workbook_id] |= {"mask": mask, "contour": contour}


class World:
    """A dataset shown as a file, in a project of a member or of an observer."""

    def __init__(self, server: Server, *, role: int | None = None) -> None:
        self.server, self.clock = server, ManualClock()
        archive = MemoryArchive()
        project = archive.add_project("P", roles=() if role is None else ((archive.user.id, role),))
        archive.add_dataset({"a.nii": b"bytes"}, folder=project.root_folder)
        freshness = Freshness(ttl_s=TTL_S, revalidate_wait_s=5.0)
        self.tree = Tree(
            archive, user=archive.user, my_agora=None, freshness=freshness, max_entries=1000, clock=self.clock
        )
        self.node = self.tree.resolve(["projects", "P", "folders", "a.nii"])
        self.part = DotWorkbooks(server, freshness=freshness, clock=self.clock)

    def look(self, path: str):
        found = self.part.resolve(self.node, path.split("/"), is_root=False)
        assert found is not None
        return found

    def names(self, path: str) -> list[str]:
        entries = self.look(path).entries
        assert entries is not None
        return [entry.name for entry in entries]

    def read(self, path: str) -> bytes:
        aside = self.look(path)
        source = aside.open(NOBODY)
        if isinstance(source, bytes):
            return source
        buffer = bytearray(aside.size + 10)
        return bytes(buffer[: source.read_into(0, memoryview(buffer))])

    def write(self, path: str, content: bytes) -> None:
        try:
            aside = self.look(path)
        except NotFound:
            aside = self.part.make(self.node, path.split("/"))
            assert aside is not None
        assert aside.can_write
        draft = aside.open(NOBODY)
        draft.truncate(0)
        draft.write(0, content)
        draft.flush()

    def array(self, path: str):
        return numpy.load(io.BytesIO(self.read(path)))

    def close(self) -> None:
        self.part.close()
        self.tree.close()


@pytest.fixture
def make_world():
    worlds: list[World] = []

    def make(*workbooks, **more) -> World:
        worlds.append(World(Server(*(workbooks or (a_workbook(),))), **more))
        return worlds[-1]

    yield make
    for world in worlds:
        world.close()


# -- what they are made of -----------------------------------------------------------------------------------


def test_a_cardiac_workbook_is_the_vendors():
    assert new_workbook(57, is_cardiac=True) == new_cmr_workbook_body(57)


def test_an_empty_workbook_is_the_vendors_and_has_the_ids_of_its_parts():
    theirs = VendorWorkbook._new(57)
    ours = new_workbook(57)
    assert {**ours, "contour": None, "mask": None} == {**theirs, "contour": None, "mask": None}
    for part in ("contour", "mask"):
        assert theirs[part].items() <= ours[part].items()


@pytest.mark.parametrize(
    "contour",
    [
        None,
        {"objectButtons": []},
        {"objectButtons": [{"mObjectType": "point", "mLandmarkGroupMode": 1}]},
        {"objectButtons": [{"mObjectType": "roi", "mContourGroupMode": 0}]},
    ],
)
def test_the_effective_buttons_are_those_of_the_vendor(contour):
    assert effective_buttons({"contour": contour}) == resolve_contour_buttons(contour)


names = st.sampled_from(["a", "b", "c", "d"])
masks = st.lists(
    st.builds(lambda name, number: {"name": name, "x": number}, names, st.integers(0, 9)), max_size=4
)


def _numbered(found):
    return [{**mask, "id": number} for number, mask in enumerate(found)]


@given(masks.map(_numbered), masks, masks, masks, st.none() | st.lists(st.just({"b": 1}), max_size=2))
def test_merging_is_the_vendors(there, written, groups_there, groups, buttons):
    workbook: dict[str, Any] = {
        "id": 4,
        "mask": {"mMasks": there, "selectedMask": 1},
        "contour": {"contourGroups": groups_there, "landmarkGroups": [], "objectButtons": [{"o": 1}]},
    }
    mask_part = dict(workbook["mask"], id=4)
    for mask in written:
        mask_part = merge_mask_session(mask_part, 4, mask)
    contour_part = merge_contour_session(
        workbook["contour"], 4, groups, [{"o": 1}] if buttons is None else buttons
    )
    before = copy.deepcopy(workbook)
    assert merged(workbook, Change(written, groups, buttons)) == (mask_part, contour_part)
    assert workbook == before


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=3),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "mask",
                        "contour",
                        "mMasks",
                        "contourGroups",
                        "objectButtons",
                        "name",
                        "mSliceMask",
                        "id",
                    ]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
def test_whatever_is_written_is_a_change_or_refused(written):
    current = a_workbook()
    try:
        change = parse_change(current, written)
    except BadCommand:
        return
    mask, contour = merged(current, change)
    assert json.dumps([mask, contour])


# -- as files ------------------------------------------------------------------------------------------------


def test_a_dataset_has_a_directory_of_workbooks_and_a_folder_has_none(make_world):
    world = make_world()
    assert world.part.names(world.node, is_root=False).directories == ("workbooks",)
    folder = world.tree.resolve(["projects", "P", "folders"])
    assert world.part.names(folder, is_root=False) == ((), ())
    assert world.part.resolve(folder, ["workbooks"], is_root=False) is None


def test_one_request_tells_everything_until_the_listing_time_is_over(make_world):
    world = make_world(a_workbook(1), a_workbook(2), a_workbook(3, "a/b"))
    assert world.names("workbooks") == ["Workbook 1", "Workbook 1 (2)", "a∕b"]
    assert world.names("workbooks/Workbook 1") == ["workbook.json", "contours.json", "masks"]
    assert world.names("workbooks/a∕b/masks") == ["lv.npy", "lv.nii"]
    world.read("workbooks/a∕b/masks/lv.npy")
    assert world.server.calls == [f"workbooks {world.node.entry.ref.id}"]
    world.clock.advance(TTL_S + 1)
    world.names("workbooks")
    assert len(world.server.calls) == 2


def test_looking_makes_no_workbook(make_world):
    world = make_world()
    world.server.kept.clear()
    assert world.names("workbooks") == []
    assert [call.split()[0] for call in world.server.calls] == ["workbooks"]


def test_files_have_their_true_size_and_the_time_of_the_workbook(make_world):
    world = make_world()
    for name in ("workbook.json", "contours.json", "masks/lv.npy", "masks/lv.nii"):
        aside = world.look(f"workbooks/Workbook 1/{name}")
        assert aside.file_type is FileType.FILE
        assert aside.size == len(world.read(f"workbooks/Workbook 1/{name}")) > 100
    assert world.look("workbooks/Workbook 1/masks/lv.npy").mtime_ns == 1_704_099_600_000_000_000


def test_a_mask_reads_as_an_array_and_contours_tell_their_buttons(make_world):
    world = make_world()
    numpy.testing.assert_array_equal(world.array("workbooks/Workbook 1/masks/lv.npy"), random_array())
    contours = json.loads(world.read("workbooks/Workbook 1/contours.json"))
    assert contours["contourGroups"] == [{"name": "G", "contours": [1]}]
    assert contours["effective_buttons"] == contours["objectButtons"]


def test_a_mask_of_any_name_has_both_files(make_world):
    """Names are made legal and cut; what is cut is never the ending."""
    array = random_array()
    world = make_world(
        a_workbook(
            mask={**a_workbook()["mask"], "mMasks": [a_mask(array, name) for name in ("." * 300, "..")]}
        )
    )
    names = world.names("workbooks/Workbook 1/masks")
    assert len(names) == 4
    for name in names:
        assert len(world.read(f"workbooks/Workbook 1/masks/{name}")) > 100


def test_what_is_not_there_is_not_found(make_world):
    world = make_world()
    for path in ("workbooks/X", "workbooks/Workbook 1/x", "workbooks/Workbook 1/masks/x.npy"):
        with pytest.raises(NotFound):
            world.look(path)


def test_an_array_replaces_the_labels_of_its_mask_and_is_seen_at_once(make_world):
    """What others have changed meanwhile stays: it is put into what the archive has at that moment."""
    world = make_world()
    world.names("workbooks")
    world.server.kept[1]["contour"]["contourGroups"].append({"name": "of somebody else"})
    written = random_array((6, 2, 2, 1))
    world.write("workbooks/Workbook 1/masks/lv.npy", npy(written))
    assert [call.split()[0] for call in world.server.calls] == ["workbooks", "workbook", "update"]
    numpy.testing.assert_array_equal(world.array("workbooks/Workbook 1/masks/lv.npy"), written)
    kept = world.server.kept[1]
    assert [group["name"] for group in kept["contour"]["contourGroups"]] == ["G", "of somebody else"]
    assert [mask["id"] for mask in kept["mask"]["mMasks"]] == [0]
    assert [label["mLabelIndex"] for label in kept["mask"]["mMasks"][0]["mLabels"]] == [1, 2, 3]


def test_an_array_under_a_new_name_is_a_new_mask(make_world):
    world = make_world()
    world.write("workbooks/Workbook 1/masks/rv.npy", npy(random_array()))
    assert world.names("workbooks/Workbook 1/masks") == ["lv.npy", "rv.npy", "lv.nii", "rv.nii"]
    assert [mask["id"] for mask in world.server.kept[1]["mask"]["mMasks"]] == [0, 1]


@pytest.mark.parametrize(
    "path", ["workbooks/Workbook 1/masks/rv.nii", "workbooks/X/masks/a.npy", "workbooks/a"]
)
def test_nothing_else_can_be_made(make_world, path):
    world = make_world()
    assert world.part.make(world.node, path.split("/")) is None


def test_an_edited_workbook_is_merged_by_name(make_world):
    world = make_world()
    edited = json.loads(world.read("workbooks/Workbook 1/workbook.json"))
    edited["contour"]["contourGroups"] = [{"name": "H"}]
    edited["mask"]["mMasks"].append(a_mask(random_array((2, 2, 1, 1)), "new"))
    world.write("workbooks/Workbook 1/workbook.json", json.dumps(edited).encode())
    kept = world.server.kept[1]
    assert [group["name"] for group in kept["contour"]["contourGroups"]] == ["G", "H"]
    assert [mask["name"] for mask in kept["mask"]["mMasks"]] == ["lv", "new"]


def test_writing_what_is_there_asks_nothing(make_world):
    world = make_world()
    world.write("workbooks/Workbook 1/workbook.json", world.read("workbooks/Workbook 1/workbook.json"))
    assert [call.split()[0] for call in world.server.calls] == ["workbooks"]


@pytest.mark.parametrize(
    ("written", "words"),
    [
        (b"{", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "JSON object"),
        (b'{"name": "other"}', "name of a workbook can not be changed"),
        (b'{"mask": []}', "mask of a workbook is an object"),
        (b'{"mask": {"mMasks": {}}}', "is a list"),
        (b'{"mask": {"mMasks": [{}]}}', "with a name"),
        (b'{"mask": {"mMasks": [{"name": "a"}]}}', "0 planes"),
        (b'{"contour": {"contourGroups": [{"name": "a"}, {"name": "a"}]}}', "one name"),
        (b'{"contour": {"objectButtons": [1]}}', "objectButtons"),
    ],
)
def test_what_is_no_workbook_is_refused_before_the_archive_is_asked(make_world, written, words):
    world = make_world()
    with pytest.raises(BadCommand, match=words):
        world.write("workbooks/Workbook 1/workbook.json", written)
    assert [call.split()[0] for call in world.server.calls] == ["workbooks"]


def test_what_is_no_mask_is_refused_before_the_archive_is_asked(make_world):
    world = make_world()
    with pytest.raises(BadCommand, match="no mask"):
        world.write("workbooks/Workbook 1/masks/lv.npy", b"nonsense")
    assert [call.split()[0] for call in world.server.calls] == ["workbooks"]


@pytest.mark.parametrize("path", ["workbook.json", "masks/lv.npy", "masks/rv.npy"])
@pytest.mark.parametrize("is_locked", [True, False])
def test_an_observer_and_a_locked_workbook_are_refused(make_world, path, is_locked):
    world = make_world(a_workbook(locked=True)) if is_locked else make_world(role=4)
    with pytest.raises(PermissionDenied, match="locked" if is_locked else "observer"):
        world.write(f"workbooks/Workbook 1/{path}", npy(random_array()) if "npy" in path else b"{}")
    assert [call.split()[0] for call in world.server.calls] == ["workbooks"]


def test_a_server_without_workbooks_has_no_such_directory(make_world):
    world = make_world()
    world.server.workbooks = lambda dataset: (_ for _ in ()).throw(NotFound("no such endpoint"))
    with pytest.raises(NotFound):
        world.look("workbooks")
