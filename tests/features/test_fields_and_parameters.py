"""What the archive knows of objects, people and images: each field as the vendor's connector has it."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.support.mount import Mount

SURVEY = "exams/Brain, volunteer/Survey/DICOM dataset"


@pytest.fixture
def dataset(bench):
    """A dataset with many parameters: its path, and the connector's object."""
    path = bench.project / SURVEY
    return path, bench.agora.get_dataset(int(bench.attribute(path, "id")))


def value(text: str) -> Any:
    """Return what an attribute says: a text, or JSON."""
    try:
        return json.loads(text)
    except ValueError:
        return text


@pytest.mark.feature(56, how="`getfattr -n user.agora.param.EchoTime DATASET`; arrays are JSON")
def test_a_parameter_is_read_by_its_name(bench, dataset):
    path, theirs = dataset
    for name in ("EchoTime", "PatientName", "ImageOrientationPatient", "ImageType"):
        parameter = theirs.get_parameter(name)
        text = bench.attribute(path, f"param.{name}")
        assert (text if isinstance(parameter.Value, str) else json.loads(text)) == parameter.Value
    assert len(json.loads(bench.attribute(path, "param.ImageOrientationPatient"))) == 6
    bench.shell('! getfattr -n user.agora.param.NoSuchName "$1"', path)
    assert theirs.get_parameter("NoSuchName") is None


@pytest.mark.feature(
    57, how="`grep Time DATASET/.agora/parameters/*`; then also `getfattr -d -m 'param.*Time'`"
)
def test_parameters_are_searched_for_by_a_part_of_their_name(bench, dataset):
    path, theirs = dataset
    expected = {one.Name: one.Value for one in theirs.get_parameters(filter="Time")}
    assert len(expected) > 3
    lines = bench.shell('cd "$1" && grep -h \'"[^"]*Time[^"]*":\' .agora/parameters/*', path).splitlines()
    assert json.loads("{" + "".join(lines).rstrip(",") + "}") == expected
    dump = bench.shell('getfattr -d -m "param.*Time" "$1" 2>&1', path)
    found = dict(re.findall(r'^user\.agora\.param\.(\w+)="(.*)"$', dump, re.MULTILINE))
    assert set(found) == set(expected)
    assert all(expected[name] in (text, value(text)) for name, text in found.items())


@pytest.mark.feature(58, how="`/.agora/me.json`")
@pytest.mark.feature(59, how="`/.agora/users.json`")
@pytest.mark.feature(60, how="`/.agora/groups.json`")
def test_people_are_those_of_the_connector(bench):
    def read(name: str) -> Any:
        return json.loads(bench.shell('cat "$1"', bench.root / ".agora" / name))

    assert read("me.json").items() <= bench.agora.get_current_user().to_dict().items()
    assert read("me.json")["username"] == "admin"
    assert read("users.json") == [one.to_dict() for one in bench.agora.get_users()] != []
    assert read("groups.json") == [one.to_dict() for one in bench.agora.get_groups()] != []


@pytest.mark.feature(61, how="`cat X/.agora/info.json`; of a file `.agora/entries/NAME/info.json`")
def test_every_field_of_every_kind_of_object_is_shown(bench, dataset):
    agora, project = bench.agora, bench.on_server()
    exam = project.get_exams()[0]
    (series, *_) = exam.get_series()
    objects = {
        "project": agora.get_project(project.id),
        "folder": project.get_root_folder(),
        "exam": agora.get_exam(exam.id),
        "series": agora.get_series(series.id),
        "patient": agora.get_patients()[0],
    }
    for kind, theirs in objects.items():
        ours = json.loads((bench.by_id(kind, theirs.id) / ".agora/info.json").read_bytes())
        assert ours == {name: one for name, one in theirs.to_dict().items() if name in ours}, kind
        assert set(ours) == set(theirs.to_dict()), kind
    path, theirs = dataset
    ours = json.loads((path / ".agora/info.json").read_bytes())
    assert [file["sha1"] for file in ours["datafiles"]] == [file.sha1 for file in theirs.get_datafiles()]
    assert {**ours, "datafiles": 0} == {**theirs.to_dict(), "datafiles": 0}
    (item, *_) = (
        one for one in agora.get_myagora().get_root_folder().get_items() if one.content_type == "dataset"
    )
    beside = bench.root / "projects/My Agora/folders/.agora/entries" / item.object.name
    assert json.loads((beside / "info.json").read_bytes())["id"] == item.object.id


@pytest.mark.feature(69, how="`agorafs mount` of a server that is too old: exit status 5")
def test_the_version_is_shown_and_what_is_too_old_refused(bench, tmp_path):
    version = json.loads((bench.root / ".agora/version.json").read_bytes())
    assert version == bench.agora.get_version().to_dict()
    bench.server.switch(version="7.13.9")
    try:
        done = Mount(bench.server.url, bench.server.api_key, tmp_path).try_mount()
        assert bench.agora.get_version().is_lower_than("7.14.0")
    finally:
        bench.server.switch(version="7.14.6")
    assert (done.returncode, "7.13.9" in done.stderr) == (5, True), done.stderr
