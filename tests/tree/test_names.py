"""What the archive calls an object becomes a name that every directory can show."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agorafs.tree.names import (
    MAX_NAME_BYTES,
    Named,
    assign_names,
    legal_name,
    path_parts,
    split_extension,
    suffixed,
)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Brain MRI", "Brain MRI"),
        ("a/b", "a∕b"),
        ("tab\there", "tab␉here"),
        ("line\nbreak\0", "line␊break␀"),
        ("\x7f", "␡"),
        ("\x9b31m", "\ufffd31m"),
        ("12:30", "12:30"),
        ("dot.", "dot."),
        (".", "․"),
        ("..", "․․"),
        (".agora", "․agora"),
        ("", "dataset 57"),
        ("  ", "dataset 57"),
        ("e\u0301", "e\u0301"),
        ("\ud800x", "\ufffdx"),
    ],
)
def test_a_name_is_shown_as_it_is_made_legal(text, name):
    assert legal_name(text, "dataset 57") == name


def test_a_name_over_255_bytes_is_cut_and_keeps_its_extension():
    name = legal_name("ä" * 300 + ".nii.gz", "x")
    assert len(name.encode()) <= MAX_NAME_BYTES
    assert name.endswith("ä.nii.gz")


def test_a_suffix_fits_into_a_name_that_is_already_as_long_as_it_may_be():
    name = suffixed("x" * 251 + ".dcm", "123456", is_directory=False)
    assert len(name.encode()) == MAX_NAME_BYTES
    assert name.endswith("x (123456).dcm")


@pytest.mark.parametrize(
    ("original_filename", "parts"),
    [
        ("scan.dcm", ("scan.dcm",)),
        ("DICOM/IM_0001", ("DICOM", "IM_0001")),
        ("../../etc/passwd", ("etc", "passwd")),
        ("/etc/passwd", ("etc", "passwd")),
        ("C:\\Users\\me\\x.raw", ("Users", "me", "x.raw")),
        ("a//b/./c", ("a", "b", "c")),
        ("..", ()),
        ("", ()),
        (".agora/control", ("․agora", "control")),
    ],
)
def test_a_hostile_original_filename_never_points_out_of_its_directory(original_filename, parts):
    assert path_parts(original_filename) == parts


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("scan.dcm", ("scan", ".dcm")),
        ("scan.nii.gz", ("scan", ".nii.gz")),
        ("archive.gz", ("archive", ".gz")),
        (".profile", (".profile", "")),
        ("v1. final", ("v1. final", "")),
        ("IM_0001", ("IM_0001", "")),
        ("dot.", ("dot.", "")),
    ],
)
def test_the_extension_is_what_programs_go_by(name, split):
    assert split_extension(name) == split


def file(name: str, object_id: int, kind: str = "dataset") -> Named:
    return Named(name, kind, object_id, is_directory=False)


def test_of_several_objects_with_one_name_the_lowest_id_keeps_it():
    wanted = [file("IM_0001.dcm", 9), file("IM_0001.dcm", 4), file("IM_0001.dcm", 12)]
    assert assign_names(wanted) == ["IM_0001 (9).dcm", "IM_0001.dcm", "IM_0001 (12).dcm"]


def test_a_directory_has_no_extension_so_its_suffix_comes_last():
    wanted = [Named("v1.2", "exam", 1, True), Named("v1.2", "exam", 2, True)]
    assert assign_names(wanted) == ["v1.2", "v1.2 (2)"]


def test_a_name_that_reads_like_a_siblings_suffixed_name_gives_way():
    """``X (12)`` is never anything but object 12 while 12 is called X."""
    wanted = [Named("X", "exam", 12, True), Named("X (12)", "exam", 20, True)]
    assert assign_names(wanted) == ["X", "X (12) (20)"]


def test_in_a_study_list_that_holds_for_siblings_that_come_later_too():
    """Links lead there by name and id; in a folder nobody's name is taken away."""
    wanted = [Named("X (12)", "exam", 5, True), Named("X", "exam", 12, True)]
    assert assign_names(wanted, are_linked=True) == ["X (12) (5)", "X"]
    assert assign_names(wanted) == ["X (12)", "X"]


def test_who_came_first_may_be_said_by_a_rank_instead_of_the_id():
    wanted = [Named("x", "exam", 3, True, rank=40), Named("x", "exam", 9, True, rank=7)]
    assert assign_names(wanted) == ["x (3)", "x"]


def test_two_kinds_with_one_id_and_one_name_both_get_a_name():
    wanted = [Named("x", "exam", 5, True), Named("x", "folder", 5, True), Named("x", "series", 5, True)]
    assert sorted(assign_names(wanted)) == ["x", "x (5)", "x (series 5)"]


names = st.text(alphabet="ab/.() 12\n", max_size=12)


@given(st.lists(st.tuples(names, st.integers(1, 15), st.sampled_from(["dataset", "folder"])), max_size=12))
def test_all_names_of_a_directory_are_legal_and_different(objects):
    wanted = [
        Named(legal_name(text, f"{kind} {number}"), kind, number, False)
        for text, number, kind in {
            (kind, number): (text, number, kind) for text, number, kind in objects
        }.values()
    ]
    assigned = assign_names(wanted)
    assert len(set(assigned)) == len(wanted)
    for name in assigned:
        assert 0 < len(name.encode()) <= MAX_NAME_BYTES
        assert "/" not in name and "\0" not in name and name not in (".", "..", ".agora")


@given(st.lists(st.tuples(names, st.booleans()), min_size=1, max_size=12), names)
def test_no_name_changes_when_a_sibling_appears(objects, newcomer):
    """No name changes when a sibling appears.

    New objects have higher ids than all before them.
    """
    wanted = [
        Named(legal_name(text, f"dataset {number}"), "dataset", number, is_directory)
        for number, (text, is_directory) in enumerate(objects, 1)
    ]
    before = assign_names(wanted)
    number = len(wanted) + 1
    wanted.append(Named(legal_name(newcomer, f"dataset {number}"), "dataset", number, False))
    assert assign_names(wanted)[:-1] == before


@given(st.text())
def test_any_text_whatsoever_makes_a_legal_name(text):
    name = legal_name(text, "dataset 1")
    assert name and len(name.encode()) <= MAX_NAME_BYTES
    assert not set(name) & {"/", "\0", "\n"}


def test_thousands_of_links_to_one_object_each_get_a_name_without_trying_all_those_before():
    """Ten thousand take some 50 million attempts when each begins anew, which no test would wait for."""
    names = assign_names([Named("scan.dcm", "dataset", 5, False)] * 10_000)
    assert len(set(names)) == 10_000
    assert names[:3] == ["scan.dcm", "scan (5).dcm", "scan (dataset 5).dcm"]


def test_thousands_of_names_that_read_like_suffixed_ones_are_not_compared_each_with_each():
    names = assign_names([Named(f"part {number} (0)", "directory", 0, True) for number in range(10_000)])
    assert len(set(names)) == 10_000
