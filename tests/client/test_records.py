"""JSON becomes records, or a ProtocolError that names what is wrong."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from agorafs.client.records import (
    Crumb,
    Datafile,
    Dataset,
    Exam,
    ExamTree,
    Folder,
    FolderItem,
    Patient,
    Project,
    Series,
    SeriesTree,
    ServerVersion,
    User,
    parse_time_ns,
)
from agorafs.errors import ProtocolError

SHA1 = "adc83b19e793491b1c6ea0fd8b46cd9f32e592fc"
DATAFILE = {"id": 1, "original_filename": "DICOM/IM_0001", "size": 5242880, "sha1": SHA1}
NOON_NS = int(datetime(2024, 1, 15, 12, tzinfo=timezone.utc).timestamp()) * 10**9

PARSERS = [
    User.from_json,
    Project.from_json,
    Folder.from_json,
    Exam.from_json,
    Series.from_json,
    Datafile.from_json,
    Dataset.from_json,
    Patient.from_json,
    FolderItem.from_json,
    Crumb.from_json,
    SeriesTree.from_json,
    ExamTree.from_json,
]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-01-15T12:00:00Z", NOON_NS),
        ("2024-01-15T12:00:00z", NOON_NS),
        ("2024-01-15T12:00:00+00:00", NOON_NS),
        ("2024-01-15T13:00:00+01:00", NOON_NS),
        ("2024-01-15T06:30:00-05:30", NOON_NS),
        ("2024-01-15T12:00:00", NOON_NS),
        ("2024-01-15 12:00:00", NOON_NS),
        ("2024-01-15T12:00:00.5Z", NOON_NS + 500_000_000),
        ("2024-01-15T12:00:00.123456Z", NOON_NS + 123_456_000),
        ("2024-01-15T12:00:00.123456789+00:00", NOON_NS + 123_456_000),
        ("2024-01-15T13:00:00.25+01:00", NOON_NS + 250_000_000),
        ("2024-01-15", NOON_NS - 12 * 3600 * 10**9),
        ("1969-12-31T23:59:59Z", -(10**9)),
    ],
)
def test_a_timestamp_is_nanoseconds_since_the_epoch(text, expected):
    assert parse_time_ns(text) == expected


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00"])
def test_a_timestamp_that_is_outside_the_calendar_in_utc_is_none(text):
    assert parse_time_ns(text) is None


@pytest.mark.parametrize(
    "value",
    [None, "", "yesterday", "2024-13-01T00:00:00Z", 5, [], "Z", ".", "2024-01-15T25:00Z"],
)
def test_a_timestamp_that_can_not_be_read_is_none(value):
    assert parse_time_ns(value) is None


@pytest.mark.parametrize("parse", PARSERS)
@pytest.mark.parametrize("garbage", [None, 5, "text", [], [{"id": 1}], True])
def test_what_is_no_object_is_refused(parse, garbage):
    with pytest.raises(ProtocolError, match="expected"):
        parse(garbage)


@pytest.mark.parametrize("parse", PARSERS)
@pytest.mark.parametrize("bad", [None, "5", 5.0, True, 0, -1, {"id": 1}, []])
def test_an_object_without_a_proper_id_is_refused(parse, bad):
    with pytest.raises(ProtocolError):
        parse({"id": bad, "object_id": bad, "size": 0, "series": [], "datasets": []})


@pytest.mark.parametrize("parse", PARSERS)
def test_unknown_keys_are_ignored_and_missing_ones_tolerated(parse):
    needed = {"id": 3, "object_id": 3, "size": 0, "series": [], "datasets": []}
    record = parse({**needed, "a key of the future": {"x": []}})
    assert record == parse(needed)


@pytest.mark.parametrize(
    ("patient", "expected"), [(2, 2), ({"id": 2, "name": "Doe"}, 2), (None, None), ("x", None)]
)
def test_the_patient_of_an_exam_may_be_a_number_an_object_or_missing(patient, expected):
    assert Exam.from_json({"id": 1, "patient": patient}).patient == expected


def test_an_exam_is_read_as_the_vendors_fixture_writes_it():
    exam = Exam.from_json(
        {"id": 1, "owner": 1, "patient": 2, "project": 3, "uid": "1.2.3", "name": "Brain MRI", "valid": None,
         "created_date": "2024-01-15T12:00:00Z", "start_time": None, "locked": True, "messages": []}
    )  # fmt: skip
    assert exam == Exam(1, "Brain MRI", "1.2.3", 3, 2, 1, None, NOON_NS, True)


@pytest.mark.parametrize("key", ["serie", "series"])
def test_the_series_of_a_dataset_has_two_spellings(key):
    assert Dataset.from_json({"id": 1, key: 7}).series == 7


def test_datafiles_that_are_absent_are_unknown_and_not_none():
    assert Dataset.from_json({"id": 1, "total_size": 5}).datafiles is None
    assert Dataset.from_json({"id": 1, "total_size": 5, "datafiles": None}).datafiles is None


def test_an_empty_list_of_datafiles_is_believed_only_without_bytes():
    assert Dataset.from_json({"id": 1, "total_size": 5, "datafiles": []}).datafiles is None
    assert Dataset.from_json({"id": 1, "total_size": 0, "datafiles": []}).datafiles == ()


def test_a_datafile_has_its_name_as_sent_size_and_checksum():
    datafile = Datafile.from_json({**DATAFILE, "sha1": SHA1.upper(), "modified_date": "2024-01-15T12:00:00Z"})
    assert datafile == Datafile(1, "DICOM/IM_0001", 5242880, SHA1, None, NOON_NS)


@pytest.mark.parametrize("sha1", ["", None])
def test_a_datafile_may_lack_a_checksum(sha1):
    assert Datafile.from_json({**DATAFILE, "sha1": sha1}).sha1 == ""


@pytest.mark.parametrize("sha1", ["abc", "g" * 40, "a" * 64, 5])
def test_a_checksum_that_is_none_is_refused(sha1):
    with pytest.raises(ProtocolError, match="SHA-1"):
        Datafile.from_json({**DATAFILE, "sha1": sha1})


@pytest.mark.parametrize("size", [None, -1, "5", 1.5, True, 2**63])
def test_a_datafile_without_a_proper_size_is_refused(size):
    """Taken as 0 it would be an empty file."""
    with pytest.raises(ProtocolError, match="size"):
        Datafile.from_json({**DATAFILE, "size": size})


def test_a_datafile_without_the_key_size_is_refused():
    with pytest.raises(ProtocolError, match="size"):
        Datafile.from_json({"id": 1})


@pytest.mark.parametrize("datafiles", [5, "x", {}, [5], [{}]])
def test_datafiles_that_are_no_list_of_datafiles_are_refused(datafiles):
    with pytest.raises(ProtocolError):
        Dataset.from_json({"id": 1, "datafiles": datafiles})


@pytest.mark.parametrize(
    ("content_type", "kind"),
    [
        ("exam", Exam),
        ("study", Exam),
        ("serie", Series),
        ("series", Series),
        ("folder", Folder),
        ("dataset", Dataset),
    ],
)
def test_a_folder_item_carries_its_object(content_type, kind):
    item = FolderItem.from_json(
        {"id": 10, "folder": 5, "content_type": content_type, "object_id": 1, "is_link": True,
         "content_object": {"id": 1, "name": "x"}}
    )  # fmt: skip
    assert isinstance(item.content, kind)
    assert (item.id, item.object_id, item.folder, item.is_link) == (10, 1, 5, True)


@pytest.mark.parametrize("content_type", ["query", "", "Exam", "datafile"])
def test_a_folder_item_of_an_unknown_type_has_no_content(content_type):
    item = FolderItem.from_json(
        {"id": 1, "object_id": 1, "content_type": content_type, "content_object": {"id": 1}}
    )
    assert item.content is None


def test_a_folder_item_with_a_broken_object_is_refused():
    with pytest.raises(ProtocolError):
        FolderItem.from_json(
            {"id": 1, "object_id": 1, "content_type": "exam", "content_object": {"name": "no id"}}
        )


def test_an_exam_tree_without_its_lists_is_no_tree():
    """Taken as empty it would show an exam without its data."""
    for missing in ("series", "datasets"):
        tree: dict[str, object] = {"id": 1, "series": [], "datasets": [], missing: None}
        with pytest.raises(ProtocolError, match=missing):
            ExamTree.from_json(tree)


def test_a_series_in_a_tree_may_lack_its_datasets():
    assert SeriesTree.from_json({"id": 1}).datasets is None
    assert SeriesTree.from_json({"id": 1, "datasets": []}).datasets == ()


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("7.14.6", (7, 14, 6)), ("8.0.0-SNAPSHOT", (8, 0, 0)), ("7", (7,)), ("dev", None), ("Dev", None)],
)
def test_a_version_is_numbers_or_dev(text, numbers):
    assert ServerVersion.from_json({"version": text}) == ServerVersion(text, numbers)


@pytest.mark.parametrize(
    "data", [{}, {"version": None}, {"version": ""}, {"version": "seven"}, {"version": "7..1"}]
)
def test_what_is_no_version_is_refused(data):
    with pytest.raises(ProtocolError, match="version"):
        ServerVersion.from_json(data)


def test_memberships_may_hold_numbers_or_objects():
    memberships = [
        {"user": 1, "role": 2},
        {"user": {"id": 3}, "role": {"id": 4}},
        {"user": None, "role": 1},
        "x",
    ]
    project = Project.from_json({"id": 1, "memberships": memberships, "root_folder": {"id": 10}})
    assert project.roles == ((1, 2), (3, 4))
    assert project.root_folder == 10
