"""Uploads into a project, how they stand, and what they have made; the connector says the same."""

from __future__ import annotations

import json
import random
import uuid

import pytest
from gtagora.models.import_package import ImportPackage

from tests.features.own_objects import new_folder, new_project, new_study, unique
from tests.support.waiting import eventually

PATIENCE_S = 60
CHUNK_BYTES = 1 << 20
UPLOADING = 1  # as the server says it


def import_json(name):
    """An import JSON that makes an exam of one series, with one dataset of two files."""
    uid = f"2.25.{uuid.uuid4().int}"
    return {
        "Creator": "agorafs", "Version": "2.0.0", "Vendor": "Philips", "Type": "REL5",
        "Datasets": [{"Type": "REC_PAR", "Files": [{"File": "scan.par"}, {"File": "scan.rec"}]}],
        "ImportParameter": {
            "Exam": {"UID": uid, "Name": name, "Date": "15.01.2024", "Time": "08:00:00"},
            "Series": {"UID": f"{uid}.1", "Name": "By JSON", "AcquisitionNumber": 1},
        },
        "ParameterSets": [],
    }  # fmt: skip


@pytest.mark.feature(108, how="`agorafs upload --import-json FILE … PROJECT`")
def test_files_get_into_a_project_as_an_import_json_says(bench, tmp_path):
    own, name = new_project(bench), unique("By JSON")
    (tmp_path / "import.json").write_text(json.dumps(import_json(name)))
    (tmp_path / "scan.par").write_text(f"par of {name}")
    (tmp_path / "scan.rec").write_text(f"rec of {name}")
    options = ("--mount", bench.root, "--import-json", tmp_path / "import.json")
    bench.command("upload", *options, tmp_path / "scan.par", tmp_path / "scan.rec", own.path.name)
    (exam,) = own.project.get_exams()
    assert exam.name == name
    (series,) = exam.get_series()
    (dataset,) = series.get_datasets()
    names = [file.original_filename.rpartition("/")[2] for file in dataset.get_datafiles()]
    assert (series.name, sorted(names)) == ("By JSON", ["scan.par", "scan.rec"])
    assert own.project.get_root_folder().get_datasets() == []
    (shown,) = (own.path / "exams" / name / "By JSON").iterdir()
    assert bench.shell('cat "$1/scan.rec"', shown) == f"rec of {name}"


@pytest.fixture
def slow(bench):
    """A server that takes small chunks, and holds imports back until told otherwise."""
    bench.server.switch(chunk_max=CHUNK_BYTES, import_hold="on")
    yield bench
    bench.server.switch(fault="", import_hold="off", chunk_max=0)


def status_of(bench):
    return json.loads(bench.command("status", bench.root, "--json"))["mounts"][0]["status"]["uploads"]


@pytest.mark.feature(
    109,
    how="`getfattr -n user.agora.state FILE`; `agorafs status`; kept in `/.agora/uploads/status.json`",
)
def test_the_progress_of_an_upload_is_told_until_it_is_stored(slow, tmp_path):
    own = new_folder(slow)
    file = tmp_path / "large.raw"
    file.write_bytes(random.Random(109).randbytes(4 * CHUNK_BYTES))
    # After the first two the sender knows how much the server takes at once; of the four chunks the third hangs.
    slow.server.switch(fault="hang=600:POST /upload/:every-5")
    slow.shell('cp "$1" "$2"', file, own.path)
    eventually(lambda: "uploading" in slow.attribute(own.path / file.name, "state"), PATIENCE_S)
    eventually(lambda: bool(status_of(slow)["batches"][0]["sent_bytes"] == 3 * CHUNK_BYTES), PATIENCE_S)
    eventually(lambda: slow.attribute(own.path / file.name, "state") == "uploading 75 %", PATIENCE_S)
    (said,) = json.loads((slow.root / ".agora/uploads/status.json").read_bytes())["batches"]
    assert (said["state"], said["files"], said["bytes"]) == ("uploading", 1, 4 * CHUNK_BYTES)
    assert said["sent_bytes"] == 3 * CHUNK_BYTES
    # The connector is told of the same package: it has not all of it, and nothing is imported.
    package = ImportPackage.get(said["import_id"], http_client=slow.agora.http_client)
    assert package.progress()["state"] == UPLOADING
    assert own.items() == []
    slow.server.switch(fault="")
    slow.mount.kill(slow.mount.pid())  # ends the request that hangs
    slow.mount.mount()
    eventually(lambda: "importing" in slow.attribute(own.path / file.name, "state"), PATIENCE_S)
    (said,) = status_of(slow)["batches"]
    assert (said["state"], said["sent_bytes"]) == ("importing", 4 * CHUNK_BYTES)
    slow.server.switch(import_hold="off")
    slow.command("sync", own.path)
    assert slow.attribute(own.path / file.name, "state") == "stored"
    assert status_of(slow)["batches"] == []
    assert own.items() == [("dataset", file.name)]


@pytest.mark.feature(
    110,
    how="`import_id` of `agorafs upload --json`; `echo 'objects-of-import 12' > .agora/control`, and `cat` it",
)
def test_what_an_import_has_made_is_asked_by_its_number(bench, tmp_path):
    own, study = new_folder(bench), new_study(bench)
    (tmp_path / "one.txt").write_text("the first")
    (tmp_path / "two.txt").write_text("the second")
    for target, names in ((own.path, ("one.txt", "two.txt")), (study.path, ("one.txt",))):
        done = bench.command("upload", "--json", *(tmp_path / name for name in names), target)
        number = json.loads(done)["import_id"]
        ours = json.loads(bench.control(f"objects-of-import {number}"))
        package = ImportPackage.get(number, http_client=bench.agora.http_client)
        assert ours == package.get_objects()
        assert ours
    assert (
        bench.command("control", bench.root, "objects-of-import", str(number)).strip()
        == bench.control(f"objects-of-import {number}").strip()
    )
