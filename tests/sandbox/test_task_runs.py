"""Runs of tasks: checked, really executed, imported, and over in the end whatever happens.

The connector runs tasks where it can. It gives up on state 6 (it asks without a pause), finds no error where servers
put it, and leaves out values of selects; so the rest is asked with plain requests.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import socket
import stat
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from agorafs.sandbox import timeline
from agorafs.sandbox.importing import Target
from agorafs.sandbox.store import Store
from agorafs.sandbox.switches import Switches
from agorafs.sandbox.tasks import programs, runs
from agorafs.sandbox.tasks.definitions import PROGRAMS
from agorafs.sandbox.tasks.requests import InputFile, RunRequest
from tests.sandbox.conftest import ProjectIds, dicom_file
from tests.sandbox.test_tasks import make_script, make_task, observer
from tests.support.sandbox import SandboxProcess
from tests.support.waiting import eventually

__all__ = ["observer"]

QUEUED, STARTED, FINISHED, ERROR = 6, 1, 2, 3


def built_in(sandbox, project, program, *inputs, name=None, **fields):
    """Make a task that runs a built-in program; an input is (key, type, other fields)."""
    entries = [{"key": key, "type": type_, **more} for key, type_, more in inputs]
    return make_task(
        sandbox, project, name or program, execute_template=f"{program} {{{{ x }}}}", inputs=entries, **fields
    )["id"]


def ref(kind, id_):
    return {"object_id": id_, "object_type": kind}


def ask_to_run(sandbox, task, inputs, target=None, *, kind="v1/taskdefinition", **options):
    return sandbox.api("POST", f"{kind}/{task}/run/", json={"target": target, "inputs": inputs}, **options)


def ended(sandbox, item):
    """Return the item when it has ended."""
    seen = []

    def is_over():
        seen.append(sandbox.get(f"v2/timeline/{item}/"))
        return seen[-1]["data"]["state"] in (FINISHED, ERROR)

    eventually(is_over, within_s=60)
    return seen[-1]


def run(sandbox, task, inputs, target=None, **options):
    answer = ask_to_run(sandbox, task, inputs, target, **options)
    assert answer.status_code == 200, answer.text
    return ended(sandbox, answer.json()["id"])


def error_of(item):
    assert item["data"]["state"] == ERROR, item
    assert "related_objects" not in item["data"]
    return item["data"]["error"]["message"]


def contents(sandbox, item):
    """Return what a run made: names to bytes."""
    assert item["data"]["state"] == FINISHED, item
    made = {}
    for entry in item["data"]["related_objects"]:
        assert entry["content_type"] == "dataset"
        (file,) = sandbox.get(f"v1/dataset/{entry['id']}/")["datafiles"]
        made[entry["name"]] = sandbox.api("GET", f"v1/datafile/{file['id']}/download/").content
    return made


def upload_file(sandbox, folder, name, content):
    """Upload a file and return the ids of its dataset and datafile."""
    (file,) = sandbox.upload({name: content}, folder=folder)["datafiles"]
    return file["dataset"], file["id"]


def item_names(sandbox, folder):
    return sorted(item["content_object"]["name"] for item in sandbox.get(f"v1/folder/{folder}/items/"))


@pytest.fixture
def notes(sandbox, project):
    """A text file of the project."""
    return upload_file(sandbox, project.root, "notes.txt", b"some notes\n")


# -- what a run makes --------------------------------------------------------------------------------


def test_the_connector_runs_a_task_and_reads_its_result(agora, sandbox, project, notes, monkeypatch):
    real_sleep = __import__("time").sleep
    fast = types.SimpleNamespace(sleep=lambda seconds: real_sleep(min(seconds, 0.01)))
    monkeypatch.setattr("gtagora.models.timeline.time", fast)
    dataset, _ = notes
    task = agora.get_task(built_in(sandbox, project, "checksum", ("ds", 3, {})))
    folder = agora.get_folder(project.root).create_folder("out")
    item = task.run(ds=agora.get_dataset(dataset), target=folder).join()
    assert item.data["state"] == FINISHED
    assert {made.name for made in folder.get_datasets()} == {"notes.txt.sha1", "notes.txt.sha256"}
    related = {entry["name"]: entry["id"] for entry in item.data["related_objects"]}
    assert related == {made.name: made.id for made in folder.get_datasets()}
    by_id = task.run(ds=dataset, target=folder).join()
    assert by_id.data["related_objects"] == item.data["related_objects"]


def test_a_checksum_is_that_of_the_stored_bytes(sandbox, project, notes):
    task = built_in(sandbox, project, "checksum", ("ds", 3, {}))
    made = contents(sandbox, run(sandbox, task, {"ds": ref("dataset", notes[0])}))
    assert made == {
        f"notes.txt.{name}": f"{hashlib.new(name, b'some notes' + chr(10).encode()).hexdigest()}  notes.txt\n".encode()
        for name in ("sha1", "sha256")
    }


def test_a_header_is_read_from_the_files_of_a_dataset(sandbox, project, study):
    task = built_in(sandbox, project, "header", ("ds", 3, {"data_set_type": 300}))
    (text,) = contents(sandbox, run(sandbox, task, {"ds": ref("dataset", study.dataset)})).values()
    assert text.count(b"T1 MPRAGE") == 2
    assert b"IM_0001" in text and b"IM_0002" in text
    assert b"Pixel Data" not in text


@pytest.mark.skipif(shutil.which("dcm2niix") is None, reason="needs dcm2niix")
@pytest.mark.parametrize(("inputs", "suffix"), [({}, ".nii.gz"), ({"compress": False}, ".nii")])
def test_a_series_becomes_nifti(sandbox, project, inputs, suffix):
    # Slices at different places: dcm2niix makes one volume of them.
    uid = f"2.25.{project.id}7"
    places: dict[str, Any] = {
        "Manufacturer": "Philips",
        "PixelSpacing": [1, 1],
        "SliceThickness": 1,
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
    }
    files = {
        f"IM_{number}": dicom_file(
            study=uid, series=f"{uid}.1", number=number, ImagePositionPatient=[0, 0, number], **places
        )
        for number in (1, 2, 3)
    }
    assert sandbox.upload(files, folder=project.root)["state"] == 5
    series = sandbox.get(f"v2/project/{project.id}/series/uid/{uid}.1/")["id"]
    task = built_in(
        sandbox, project, "nifti", ("series", 2, {}), ("compress", 11, {"required": False}), name="To/NIfTI"
    )
    made = contents(sandbox, run(sandbox, task, {"series": ref("series", series), **inputs}))
    assert [name.startswith("T1_MPRAGE") and name.endswith(suffix) for name in made] == [True]


def test_results_go_into_a_folder_an_exam_or_a_series(sandbox, project, study, notes):
    task = built_in(sandbox, project, "checksum", ("ds", 3, {}), ("algorithm", 8, {"select_values": "sha1"}))
    inputs = {"ds": ref("dataset", notes[0]), "algorithm": "sha1"}
    folder = sandbox.post(f"v1/folder/{project.root}/new/", {"name": "out"})["object_id"]
    for kind, id_, listing in (
        ("folder", folder, f"v1/folder/{folder}/items/"),
        ("exam", study.exam, f"v2/exam/{study.exam}/datasets/"),
        ("series", study.series, f"v1/serie/{study.series}/datasets/"),
    ):
        item = run(sandbox, task, inputs, ref(kind, id_))
        (made,) = item["data"]["related_objects"]
        entries = sandbox.get(listing)
        ids = [
            entry.get("object_id", entry["id"])
            for entry in (entries if kind == "folder" else entries["results"])
        ]
        assert made["id"] in ids


def test_without_a_target_results_go_into_a_folder_named_after_the_task(sandbox, project, study):
    task = built_in(sandbox, project, "checksum", ("series", 2, {}), name="QA/Sum")
    run(sandbox, task, {"series": ref("series", study.series)})
    run(sandbox, task, {"series": ref("series", study.series)})
    assert item_names(sandbox, project.root) == ["Sum results"]
    (folder,) = sandbox.get(f"v2/series/{study.series}/result_folders/")["results"]
    assert folder["name"] == "Sum results"
    assert sandbox.get(f"v2/exam/{study.exam}/result_folders/")["results"] == [folder]
    assert item_names(sandbox, folder["id"]) == ["T1 MPRAGE.sha1", "T1 MPRAGE.sha256"]
    assert sandbox.get(f"v1/serie/{study.series}/")["has_task_results"] is True
    assert sandbox.api("DELETE", f"v2/folder/{folder['id']}/").status_code == 204
    assert sandbox.get(f"v2/series/{study.series}/result_folders/")["results"] == []


def test_a_script_task_runs_its_jobs_in_the_order_of_the_stages(sandbox, project, study):
    yml = {
        "stages": ["first", "second"],
        "inputs": {
            "study": {"type": "study"},
            "algorithm": {"type": "select", "options": ["sha1"], "default": "sha1"},
        },
        "b": {"stage": "second", "script_type": "command", "script": ["header {{ inputs.study.path }}"]},
        "a": {"stage": "first", "script": "checksum"},
    }
    task = make_script(sandbox, project, yml=yml)["id"]
    item = run(sandbox, task, {"study": ref("exam", study.exam)}, kind="v2/taskdefinition_yaml")
    assert sorted(contents(sandbox, item)) == ["Brain MRI header.txt", "Brain MRI.sha1"]


def test_a_folder_is_an_input_with_all_files_below_it_but_not_what_is_linked(sandbox, project, notes):
    sub = sandbox.post(f"v1/folder/{project.root}/new/", {"name": "sub"})["object_id"]
    upload_file(sandbox, sub, "deep.txt", b"deep")
    sandbox.api("POST", f"v2/folder/{project.root}/link_to/{sub}/")
    task = built_in(sandbox, project, "checksum", ("f", 9, {"filename_regex": r"\.txt$"}))
    made = contents(sandbox, run(sandbox, task, {"f": ref("folder", project.root)}))
    (text,) = [text for name, text in made.items() if name.endswith(".sha1")]
    assert [line.split("  ")[1] for line in text.decode().splitlines()] == ["notes.txt", "deep.txt"]


def test_a_file_is_an_input_by_datafile_without_a_type_and_by_dataset(sandbox, project, notes):
    task = built_in(sandbox, project, "checksum", ("f", 4, {}))
    first = contents(sandbox, run(sandbox, task, {"f": ref("datafile", notes[1])}))
    assert contents(sandbox, run(sandbox, task, {"f": ref(None, notes[1])})) == first
    assert contents(sandbox, run(sandbox, task, {"f": ref("dataset", notes[0])})) == first


# -- what is refused ---------------------------------------------------------------------------------

ALL_INPUTS = (
    ("ds", 3, {"data_set_type": 100000, "filename_regex": r".*\.txt"}),
    ("text", 5, {"required": False}),
    ("number", 6, {"required": False, "min": 1, "max": 9}),
    ("real", 7, {"required": False, "max": 1.5}),
    ("choice", 8, {"required": False, "select_values": ["a", "b"]}),
    ("fixed", 10, {"required": False}),
    ("yes", 11, {"required": False}),
)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"text": "x", "number": 9, "real": 1, "choice": "b", "fixed": "anything", "yes": True},
        {"number": 1.0, "real": -0.5, "yes": "false", "text": None},
    ],
)
def test_values_that_fit_are_accepted(sandbox, project, notes, given):
    task = built_in(sandbox, project, "checksum", *ALL_INPUTS)
    run_ = run(sandbox, task, {"ds": ref("dataset", notes[0]), **given})
    assert run_["data"]["state"] == FINISHED


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("ds", None),
        ("ds", 7),
        ("ds", {"object_id": "1", "object_type": "dataset"}),
        ("ds", {"object_id": 1, "object_type": "galaxy"}),
        ("ds", {"object_id": 1, "object_type": "series"}),
        ("text", 5),
        ("number", 1.5),
        ("number", True),
        ("number", "3"),
        ("number", 0),
        ("number", 10),
        ("real", "1"),
        ("real", 2.0),
        ("choice", "c"),
        ("yes", "perhaps"),
        ("nonsense", 1),
    ],
)
def test_a_value_that_does_not_fit_is_refused_by_name_and_nothing_is_queued(
    sandbox, project, notes, key, value
):
    task = built_in(sandbox, project, "checksum", *ALL_INPUTS)
    before = sandbox.tree()
    answer = ask_to_run(sandbox, task, {"ds": ref("dataset", notes[0]), key: value})
    assert (answer.status_code, list(answer.json()["inputs"])) == (400, [key])
    assert sandbox.tree() == before


def test_a_dataset_of_another_type_or_without_a_fitting_file_is_refused(sandbox, project, study):
    task = built_in(sandbox, project, "checksum", *ALL_INPUTS)
    dicom = ask_to_run(sandbox, task, {"ds": ref("dataset", study.dataset)})
    assert (dicom.status_code, dicom.json()["inputs"]["ds"]) == (
        400, ["Expected a dataset of type 100000, not 300."]
    )  # fmt: skip
    dataset, file = upload_file(sandbox, project.root, "table.csv", b"1")
    other = ask_to_run(sandbox, task, {"ds": ref("dataset", dataset)})
    assert (other.status_code, list(other.json()["inputs"])) == (400, ["ds"])
    single = built_in(sandbox, project, "checksum", ("f", 4, {"filename_regex": "txt$"}))
    assert ask_to_run(sandbox, single, {"f": ref("datafile", file)}).status_code == 400


def test_objects_that_are_not_seen_do_not_exist_for_a_run(sandbox, project, notes, study):
    mine = ProjectIds(sandbox.get("v2/project/myagora/", user="scientist")["id"], 0, "")
    body: dict[str, Any] = {
        "name": "t",
        "project": mine.id,
        "inputs": [{"key": "x", "type": 3}, {"key": "y", "type": 1}],
    }
    for entry in body["inputs"]:
        entry["required"] = False
    task = sandbox.post("v1/taskdefinition/", body, user="scientist")["id"]
    for inputs, target in (
        ({"x": ref("dataset", notes[0])}, None),
        ({"y": ref("exam", study.exam)}, None),
        ({}, ref("folder", project.root)),
        ({}, ref("series", study.series)),
    ):
        assert ask_to_run(sandbox, task, inputs, target, user="scientist").status_code == 404


def test_a_target_that_may_not_be_written_is_refused(sandbox, project, study, notes, observer):
    task = built_in(sandbox, project, "checksum", ("ds", 3, {}))
    inputs = {"ds": ref("dataset", notes[0])}
    assert ask_to_run(sandbox, task, inputs, user=observer).status_code == 403
    root = sandbox.get("v2/project/myagora/", user=observer)["root_folder"]
    assert ask_to_run(sandbox, task, inputs, ref("folder", root), user=observer).status_code == 200
    sandbox.post("v2/exam/lock_ids/", {"ids": [study.exam]})
    assert ask_to_run(sandbox, task, inputs, ref("exam", study.exam)).status_code == 403
    for target in (ref("dataset", notes[0]), 5, {"object_id": 1}):
        assert ask_to_run(sandbox, task, inputs, target).status_code == 400


def test_a_run_is_seen_by_who_started_it_alone(sandbox, project, notes, observer):
    task = built_in(sandbox, project, "checksum", ("ds", 3, {}))
    item = run(sandbox, task, {"ds": ref("dataset", notes[0])})
    assert sandbox.api("GET", f"v2/timeline/{item['id']}/", user=observer).status_code == 404
    assert sandbox.api("GET", "v2/timeline/999999/").status_code == 404


# -- runs that fail ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "template",
    ["", "rm -rf /", "touch {marker}", "/bin/checksum", "checksum; touch {marker}", "$(touch {marker})"],
)
def test_no_command_of_a_client_is_ever_executed(sandbox, project, notes, tmp_path, template):
    marker = tmp_path / "executed"
    fields = {"execute_template": template.format(marker=marker), "inputs": [{"key": "ds", "type": 3}]}
    task = make_task(sandbox, project, **fields)["id"]
    message = error_of(run(sandbox, task, {"ds": ref("dataset", notes[0])}))
    assert all(program in message for program in PROGRAMS)
    assert not marker.exists()


@pytest.mark.parametrize(
    "job",
    [
        {"script_type": "python", "script": "checksum"},
        {"script": "touch {marker}"},
        {"script": ["checksum", "touch {marker}"]},
        {"script": []},
    ],
)
def test_no_script_of_a_client_is_ever_executed(sandbox, project, study, tmp_path, job):
    marker = tmp_path / "executed"
    job = {
        name: str(value).format(marker=marker) if isinstance(value, str) else value
        for name, value in job.items()
    }
    task = make_script(sandbox, project, yml={"inputs": {"study": {"type": "exam"}}, "job": job})["id"]
    item = run(sandbox, task, {"study": ref("exam", study.exam)}, kind="v2/taskdefinition_yaml")
    assert "built-in program" in error_of(item)
    assert not marker.exists()


def test_a_program_that_fails_says_why_and_stores_nothing(sandbox, project, notes):
    task = built_in(sandbox, project, "header", ("ds", 3, {}))
    before = sandbox.tree()
    item = run(sandbox, task, {"ds": ref("dataset", notes[0])})
    assert "None of the files is a DICOM file." in error_of(item)
    assert item["data"]["stdout"] == "notes.txt is no DICOM file and was passed over.\n"
    assert item["data"]["stderr"] == "None of the files is a DICOM file.\n"
    assert sandbox.tree() == before


def test_the_switch_task_fail_makes_runs_fail(sandbox, project, notes):
    sandbox.switch(task_fail=True)
    task = built_in(sandbox, project, "checksum", ("ds", 3, {}))
    assert "task-fail" in error_of(run(sandbox, task, {"ds": ref("dataset", notes[0])}))


def test_a_target_that_is_deleted_while_the_task_runs_makes_it_fail(sandbox, project, notes):
    folder = sandbox.post(f"v1/folder/{project.root}/new/", {"name": "out"})["object_id"]
    task = built_in(sandbox, project, "checksum", ("ds", 3, {}))
    sandbox.switch(task_hold=True)
    item = ask_to_run(sandbox, task, {"ds": ref("dataset", notes[0])}, ref("folder", folder)).json()["id"]
    assert sandbox.api("DELETE", f"v2/folder/{folder}/").status_code == 204
    sandbox.switch(task_hold=False)
    assert "deleted" in error_of(ended(sandbox, item))


def test_an_exam_that_is_locked_while_the_task_runs_gets_no_results(sandbox, project, notes, study):
    task = built_in(sandbox, project, "checksum", ("ds", 3, {}))
    sandbox.switch(task_hold=True)
    item = ask_to_run(sandbox, task, {"ds": ref("dataset", notes[0])}, ref("exam", study.exam)).json()["id"]
    sandbox.post("v2/exam/lock_ids/", {"ids": [study.exam]})
    sandbox.switch(task_hold=False)
    assert "locked" in error_of(ended(sandbox, item))
    assert sandbox.get(f"v2/exam/{study.exam}/datasets/")["count"] == 0


# -- the timeline ------------------------------------------------------------------------------------


def test_the_shown_state_walks_by_polls_and_hides_the_end_until_it_is_there(sandbox, project, notes):
    sandbox.switch(task_speed=2)
    task = built_in(sandbox, project, "checksum", ("ds", 3, {}))
    started = ask_to_run(sandbox, task, {"ds": ref("dataset", notes[0])}).json()
    assert started["data"]["state"] == QUEUED
    shown = []

    def is_over():
        item = sandbox.get(f"v2/timeline/{started['id']}/")
        shown.append(item["data"]["state"])
        assert ("related_objects" in item["data"]) == (shown[-1] == FINISHED)
        return shown[-1] == FINISHED

    eventually(is_over, within_s=60)
    assert shown[:3] == [QUEUED, QUEUED, STARTED]
    assert shown[-3:] == [STARTED, STARTED, FINISHED]
    assert set(shown[3:-1]) == {STARTED}


def test_the_present_state_is_shown_at_once_when_told_so(sandbox, project, notes):
    sandbox.switch(task_speed=0, task_hold=True)
    task = built_in(sandbox, project, "checksum", ("ds", 3, {}))
    item = ask_to_run(sandbox, task, {"ds": ref("dataset", notes[0])}).json()["id"]
    eventually(lambda: sandbox.get(f"v2/timeline/{item}/")["data"]["state"] == STARTED, within_s=60)
    sandbox.switch(task_hold=False)
    assert ended(sandbox, item)["data"]["state"] == FINISHED


def test_a_program_elsewhere_reports_its_output_and_its_end(sandbox, project, notes, observer):
    """What was reported stays, although the run here comes to its end afterwards."""
    task = built_in(sandbox, project, "checksum", ("ds", 3, {}))
    before = sandbox.tree()
    sandbox.switch(task_speed=0, task_hold=True)
    item = ask_to_run(sandbox, task, {"ds": ref("dataset", notes[0])}).json()["id"]
    path = f"v2/timeline/{item}"
    plain = {"headers": {"Content-Type": "text/plain"}}
    for text in ("one\n", "two\n"):
        assert sandbox.api("POST", f"{path}/stdout_update/", data=text, **plain).status_code == 200
    assert sandbox.api("POST", f"{path}/stderr_update/", data="wrong\n", **plain).status_code == 200
    assert sandbox.api("POST", f"{path}/stderr_update/", json={"text": "x"}).status_code == 400
    assert sandbox.api("POST", f"{path}/finish_task/", json={}, user=observer).status_code == 404
    report = {"data": {"command": "tool", "exit_code": 3}, "error": ""}
    assert sandbox.api("POST", f"{path}/finish_task/", json=report).status_code == 200
    data = sandbox.get(f"{path}/")["data"]
    assert (data["stdout"], data["stderr"], data["exit_code"]) == ("one\ntwo\n", "wrong\n", 3)
    assert data["error"]["message"] == "Exit code 3."
    assert sandbox.api("POST", f"{path}/finish_task/", json=report).status_code == 400
    sandbox.switch(task_hold=False)
    following = run(sandbox, task, {"ds": ref("dataset", notes[0])}, ref("folder", project.root))
    assert following["data"]["state"] == FINISHED
    assert sandbox.get(f"{path}/")["data"] == data
    names = {i["name"] for i in sandbox.tree()["projects"][project.name]["folders"][""]}
    assert names - {i["name"] for i in before["projects"][project.name]["folders"][""]} == {
        "notes.txt.sha1", "notes.txt.sha256"
    }  # fmt: skip


# -- the process -------------------------------------------------------------------------------------


@pytest.fixture
def own(tmp_path):
    with SandboxProcess(tmp_path / "data", switches={"import-speed": "0", "task-speed": "0"}) as sandbox:
        yield sandbox
    assert sandbox.log == ""


@pytest.fixture
def my_notes(own):
    mine = own.get("v2/project/myagora/")
    project = ProjectIds(mine["id"], mine["root_folder"], mine["name"])
    return project, upload_file(own, project.root, "notes.txt", b"some notes\n")[0]


def test_a_run_that_a_kill_interrupts_ends_with_an_error_and_stores_nothing(own, my_notes):
    project, dataset = my_notes
    task = built_in(own, project, "checksum", ("ds", 3, {}))
    own.switch(task_hold=True)
    items = [ask_to_run(own, task, {"ds": ref("dataset", dataset)}).json()["id"] for _ in range(4)]
    before = own.tree()
    own.kill()
    own.start()
    for item in items:  # two were running, two were waiting
        assert "interrupted" in error_of(own.get(f"v2/timeline/{item}/"))
    assert own.tree() == before
    assert list((own.data / "tasks").iterdir()) == []
    assert run(own, task, {"ds": ref("dataset", dataset)})["data"]["state"] == FINISHED


def test_whenever_a_server_is_killed_a_run_has_stored_all_or_nothing(own, my_notes):
    project, dataset = my_notes
    task = built_in(own, project, "checksum", ("ds", 3, {}))
    folders = [
        own.post(f"v1/folder/{project.root}/new/", {"name": f"out {number}"})["object_id"]
        for number in range(24)
    ]
    inputs = {"ds": ref("dataset", dataset)}
    items = [ask_to_run(own, task, inputs, ref("folder", folder)).json()["id"] for folder in folders]
    ended(own, items[0])  # the others are under way or wait
    own.kill()
    own.start()
    states = []
    for item, folder in zip(items, folders, strict=True):
        data = own.get(f"v2/timeline/{item}/")["data"]
        states.append(data["state"])
        if data["state"] == FINISHED:
            assert item_names(own, folder) == ["notes.txt.sha1", "notes.txt.sha256"]
        else:
            assert (data["error"]["message"], item_names(own, folder)) == (timeline.INTERRUPTED, [])
    assert states[0] == FINISHED
    assert all(
        hashlib.sha1((own.data / "content" / file["sha1"][:2] / file["sha1"][2:]).read_bytes()).hexdigest()
        == file["sha1"]
        for file in own.datafiles()
    )


def test_a_server_that_is_stopped_in_good_order_ends_its_runs(own, my_notes):
    project, dataset = my_notes
    task = built_in(own, project, "checksum", ("ds", 3, {}))
    own.switch(task_hold=True)
    items = [ask_to_run(own, task, {"ds": ref("dataset", dataset)}).json()["id"] for _ in range(4)]
    assert own.stop() == 0
    own.start()
    assert [error_of(own.get(f"v2/timeline/{item}/")) == timeline.INTERRUPTED for item in items] == [True] * 4


def test_the_working_directory_is_gone_after_a_run_and_stored_contents_are_never_writable_by_it(
    own, my_notes
):
    """The inputs are copies: neither their bytes nor their modes are those of the stored content."""
    project, dataset = my_notes
    (file,) = own.datafiles()
    stored = own.data / "content" / file["sha1"][:2] / file["sha1"][2:]
    mode = stat.S_IMODE(stored.stat().st_mode)
    task = built_in(own, project, "checksum", ("ds", 3, {}))
    assert run(own, task, {"ds": ref("dataset", dataset)})["data"]["state"] == FINISHED
    assert (stored.read_bytes(), stored.stat().st_nlink, stat.S_IMODE(stored.stat().st_mode)) == (
        b"some notes\n", 1, mode
    )  # fmt: skip
    assert list((own.data / "tasks").iterdir()) == []


@pytest.fixture
def execute(tmp_path, monkeypatch):
    """Run a program, or a script in its place, with one input file; return the run."""
    store = Store(tmp_path / "data")
    task_runs = runs.TaskRuns(store, Switches())
    task_runs.start()

    def executed(script=None, program="checksum"):
        if script is not None:
            (tmp_path / "script.py").write_text(script)
            monkeypatch.setattr(programs, "__file__", str(tmp_path / "script.py"))
        files = (InputFile(store.contents.add_bytes(b"input"), "input.txt"),)
        request = RunRequest(
            1, "task", ("checksum",), None, files, {}, "title", Target(1, folder=1), None, ()
        )
        run_ = runs._Run(store.directory / "tasks" / "1")
        run_.prepare(store, request)
        task_runs._execute(run_, request, program)
        return run_

    yield executed
    task_runs.stop()
    store.close()


def test_a_program_gets_nothing_of_the_servers_environment_and_a_session_of_its_own(execute, monkeypatch):
    monkeypatch.setenv("SECRET", "of the server")
    run_ = execute(
        "import json, os, sys\n"
        "print(json.dumps([dict(os.environ), os.getsid(0) == os.getpid(), os.read(0, 1) == b'', sys.flags.isolated]))"
    )
    assert json.loads(run_.stdout) == [runs._ENVIRONMENT, True, True, 1]


def test_a_program_that_takes_too_long_is_killed(execute, monkeypatch):
    monkeypatch.setattr(runs, "_TIMEOUT_S", 0.2)
    with pytest.raises(runs.RunFailedError, match="longer"):
        execute("import signal; signal.pause()")


def test_a_program_dies_with_the_server(tmp_path):
    """Its parent is killed and cannot kill it; the pipe that it holds is closed when it is gone."""
    child = (
        f"import os, signal, sys; sys.path.insert(0, {str(Path(str(programs.__file__)).parent)!r})\n"
        "import programs\n"
        "programs._restrict({'limits': {}, 'parent': os.getppid()}); print('ready', flush=True); signal.pause()"
    )
    parent = (
        "import subprocess, sys\n"
        f"subprocess.Popen([sys.executable, '-c', {child!r}], start_new_session=True).wait()"
    )
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.kill()
        assert process.stdout.read() == b""


def test_a_server_without_dcm2niix_says_so(execute, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(runs.RunFailedError, match="dcm2niix is not installed"):
        execute(program="nifti")


def test_a_program_that_dies_of_a_signal_fails(execute):
    with pytest.raises(runs.RunFailedError, match="signal 9"):
        execute("import os; os.kill(os.getpid(), 9)")


def test_only_plain_files_are_results(execute):
    """A link that a program leaves could lead to any file of the server."""
    script = (
        "import os\n"
        "os.symlink('/etc/passwd', 'out/link'); os.mkfifo('out/pipe'); os.mkdir('out/sub')\n"
        "open('out/sub/file', 'w').write('x')"
    )
    run_ = execute(script)
    assert [upload.target for upload in run_.results()] == ["sub/file"]
    (run_.directory / "out" / "sub" / "file").unlink()
    with pytest.raises(runs.RunFailedError, match="no files"):
        run_.results()


RESTRICTED = """
import json, os, resource, socket, sys
sys.path.insert(0, {directory!r})
import programs
programs._restrict({{"limits": {limits!r}, "parent": os.getppid()}})
found = {{name: resource.getrlimit(getattr(resource, name)) for name in {limits!r}}}
try:
    socket.create_connection(("127.0.0.1", {port}), 5)
    found["network"] = True
except OSError:
    found["network"] = False
print(json.dumps(found))
"""


def test_a_program_has_left_the_network_and_lives_within_its_limits(execute):
    """Whether it can leave the network is the system's decision; where it may, it has."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        run_ = execute(
            RESTRICTED.format(
                directory=str(Path(str(programs.__file__)).parent),
                limits=runs._LIMITS,
                port=listener.getsockname()[1],
            )
        )
    found = json.loads(run_.stdout)
    may_leave = subprocess.run(["unshare", "-rn", "true"], capture_output=True, check=False).returncode == 0
    assert found.pop("network") is not may_leave
    assert found == {name: [limit, limit] for name, limit in runs._LIMITS.items()}


def test_what_a_program_says_is_kept_up_to_a_limit(execute):
    script = "import sys; sys.stdout.write('a' * 100_000 + 'the end'); sys.stderr.write('b')"
    run_ = execute(script)
    assert (len(run_.stdout), run_.stdout[-7:], run_.stderr) == (64 << 10, "the end", "b")
