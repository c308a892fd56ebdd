"""``.agora/import.json`` of an exam or a series, and what the server makes of files that are sent with it."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from agorafs.cache.metadata import Freshness
from agorafs.client import ApiKey, Client, Transport
from agorafs.client.records import Kind
from agorafs.errors import NotFound, PermissionDenied
from agorafs.tree.tree import Tree
from agorafs.vfs.dot_agora import DotAgora
from agorafs.vfs.import_template import fill
from tests.support.manual_clock import ManualClock
from tests.support.memory_archive import MemoryArchive
from tests.support.sandbox import SandboxProcess

NAME = "scan.agora-import.json"
SEED = {
    "Creator": "test",
    "Version": "2.0.0",
    "Vendor": "Philips",
    "Type": "REL5",
    "Datasets": [{"Type": "OTHER", "Files": [{"File": "log.txt"}]}],
    "ImportParameter": {
        "Exam": {
            "UID": "1.2.3",
            "Name": "Brain MRI",
            "Description": "left",
            "DeviceName": "Ingenia",
            "Date": "15.01.2024",
            "Time": "08:00:00",
        },
        "Patient": {
            "UID": "HOSP2",
            "Name": "Daniel Smith",
            "Gender": "M",
            "BirthDate": "05.12.1980",
            "Weight": 72,
        },
        "Series": {
            "UID": "1.2.3.4",
            "Name": "T1",
            "AcquisitionNumber": 4,
            "Date": "15.01.2024",
            "Time": "08:05:00",
        },
    },
    "ParameterSets": [],
}


class Looker:
    """Reads below ``.agora`` of a tree."""

    def __init__(self, archive, user, my_agora, describe, vendors) -> None:
        clock, freshness = ManualClock(), Freshness()
        self.tree = Tree(
            archive, user=user, my_agora=my_agora, freshness=freshness, max_entries=1000, clock=clock
        )
        self.dot_agora = DotAgora(self.tree, describe, vendors=vendors, freshness=freshness, clock=clock)

    def names(self, path):
        entries = self.dot_agora.resolve(self.tree.resolve(path.strip("/").split("/")), []).entries
        assert entries is not None
        return [entry.name for entry in entries]

    def template(self, path):
        found = self.dot_agora.resolve(self.tree.resolve(path.strip("/").split("/")), ["import.json"])
        assert found.content is not None
        return json.loads(found.content)

    def close(self):
        self.dot_agora.close()
        self.tree.close()


# -- against the sandbox -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory):
    """A server with one exam of one series in the project P."""
    data = tmp_path_factory.mktemp("sandbox") / "data"
    with SandboxProcess(data, switches={"import-speed": "0"}) as process:
        project = process.post("v2/project/", {"name": "P", "description": ""})
        process.root = project["root_folder"]  # type: ignore[attr-defined]
        files = {"log.txt": b"seed", NAME: json.dumps(SEED).encode()}
        assert process.upload(files, folder=project["root_folder"], import_file=NAME)["state"] == 5
        yield process


@pytest.fixture
def looker(sandbox):
    client = Client(Transport(sandbox.url, ApiKey(sandbox.api_key)))
    one = Looker(client, client.current_user(), client.my_agora(), client.describe, client.vendors)
    yield one
    one.close()
    client.close()


def state(sandbox):
    """Return exams, patients, and each series' uid with its number of datasets."""
    exams = sandbox.get("v1/exam/")["results"]
    series = [one for exam in exams for one in sandbox.get(f"v1/exam/{exam['id']}/series/")["results"]]
    return (
        {(exam["uid"], exam["name"]) for exam in exams},
        [(one["patient_id"], one["name"], one["weight"]) for one in sandbox.get("v1/patient/")["results"]],
        Counter(
            {one["uid"]: len(sandbox.get(f"v1/serie/{one['id']}/datasets/")["results"]) for one in series}
        ),
    )


def test_the_template_of_a_series_says_what_the_server_knows(looker):
    made = looker.template("projects/P/exams/Brain MRI/T1")
    expected = json.loads(json.dumps(SEED["ImportParameter"]))
    expected["Series"] |= {"TypeLabel": "", "ReferenceScanUIDs": []}
    assert made["ImportParameter"] == expected
    assert (made["Vendor"], made["Type"], made["Creator"]) == ("Philips", "REL5", "agorafs")
    assert made["Datasets"] == []


@pytest.mark.parametrize("nested", ["nested", "int"])
def test_it_costs_at_most_the_exam_its_patient_and_once_the_vendors(sandbox, looker, nested):
    sandbox.switch(exam_patient=nested)
    looker.tree.resolve(["projects", "P", "exams", "Brain MRI", "T1"])
    sandbox.reset_requests()
    first = looker.template("projects/P/exams/Brain MRI/T1")
    asked = [request["path"].split("/")[3] for request in sandbox.requests()]
    assert asked == (
        ["exam", "scannervendor"] if nested == "nested" else ["exam", "patient", "scannervendor"]
    )
    again = looker.template("projects/P/exams/Brain MRI/T1")
    looker.template("projects/P/exams/Brain MRI")
    assert sandbox.request_count() == len(asked)
    assert again == first
    assert first["ImportParameter"]["Patient"]["UID"] == "HOSP2"


@pytest.mark.parametrize("target", ["folder", "exam"])
def test_files_sent_with_the_template_of_a_series_land_in_that_series(sandbox, looker, target):
    exams, patients, before = state(sandbox)
    made = looker.template("projects/P/exams/Brain MRI/T1")
    files = {f"{target}.par": b"p" + target.encode(), f"{target}.rec": b"r", f"{target}.nii.gz": b"n"}
    files[NAME] = json.dumps(fill(made, [name for name in files if name != NAME])).encode()
    number = sandbox.root if target == "folder" else next(e["id"] for e in sandbox.get("v1/exam/")["results"])
    answer = sandbox.upload(files, import_file=NAME, **{target: number})
    assert (answer["state"], answer["ignored"]) == (5, [])
    assert state(sandbox) == (exams, patients, before + Counter({"1.2.3.4": 2}))
    types = {
        dataset["type"]
        for dataset in sandbox.get(f"v1/serie/{series_id(sandbox, '1.2.3.4')}/datasets/")["results"]
    }
    assert types == {100000, 101, 600}


def test_files_sent_with_the_template_of_an_exam_land_in_one_new_series_of_it(sandbox, looker):
    exams, patients, before = state(sandbox)
    for number in range(2):
        made = looker.template("projects/P/exams/Brain MRI")
        name = f"new {number}.raw"
        files = {name: str(number).encode(), NAME: json.dumps(fill(made, [name])).encode()}
        assert sandbox.upload(files, import_file=NAME, folder=sandbox.root)["state"] == 5
    uid = made["ImportParameter"]["Series"]["UID"]
    assert state(sandbox) == (exams, patients, before + Counter({uid: 2}))


def series_id(sandbox, uid):
    exams = sandbox.get("v1/exam/")["results"]
    return next(
        one["id"]
        for exam in exams
        for one in sandbox.get(f"v1/exam/{exam['id']}/series/")["results"]
        if one["uid"] == uid
    )


# -- on an archive in memory ---------------------------------------------------------------------------


@pytest.fixture
def archive():
    return MemoryArchive()


@pytest.fixture
def memory_looker(archive):
    one = Looker(archive, archive.user, None, archive.describe, dict)
    yield one
    one.close()


def test_only_an_exam_and_its_series_have_a_template(archive, memory_looker):
    project = archive.add_project("P")
    exam = archive.add_exam(project.id, "E")
    archive.add_series(exam.id, "S")
    loose = archive.add_series(None, "loose")
    archive.add_item(project.root_folder, "serie", loose.id, loose)
    archive.add_dataset({"a": b"1", "b": b"2"}, exam=exam.id, name="two")
    for path in ("projects/P/exams/E", "projects/P/exams/E/S"):
        assert memory_looker.names(path) == ["info.json", "path", "import.json", "entries"]
    for path in (
        "projects",
        "projects/P",
        "projects/P/folders",
        "projects/P/folders/loose",
        "projects/P/exams/E/two",
    ):
        assert "import.json" not in memory_looker.names(path)
        with pytest.raises(NotFound):
            memory_looker.template(path)


def test_to_list_it_costs_no_request(archive, memory_looker):
    project = archive.add_project("P")
    archive.add_exam(project.id, "E")
    memory_looker.tree.resolve(["projects", "P", "exams", "E"])
    archive.calls.clear()
    memory_looker.names("projects/P/exams/E")
    assert archive.calls == []


def test_a_patient_that_may_not_be_seen_is_an_error_and_no_other_patient(archive):
    """A template without its patient would give the exam a second one."""
    project = archive.add_project("P")
    archive.add_exam(project.id, "E")

    def describe(ref):
        if ref.kind is Kind.PATIENT:
            raise PermissionDenied("not yours")
        return {"id": ref.id, "uid": "1.2", "name": "E", "patient": 3}

    looker = Looker(archive, archive.user, None, describe, dict)
    with pytest.raises(PermissionDenied):
        looker.template("projects/P/exams/E")
    looker.close()
