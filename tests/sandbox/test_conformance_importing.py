"""The vendor's connector 1.8.0, unmodified, uploads and imports.

Each test is named after the rows it shows of the checklist of the connector's features: 1-61 are those of the README
its users know, 67-114 those that only its code shows, in the order in which README and code name them.
"""

from __future__ import annotations

import hashlib
import json

import gtagora
import pytest
import requests
from gtagora.exception import AgoraException
from gtagora.http.client import Client
from gtagora.models.import_package import ImportPackage

from tests.sandbox.conftest import dicom_file


@pytest.fixture
def small_chunks(monkeypatch):
    """The connector cuts files into chunks of 10 bytes, so that small files have several."""
    monkeypatch.setattr(Client, "UPLOAD_CHUCK_SIZE", 10)


@pytest.fixture
def directory(tmp_path):
    """A directory of seven files, one of them empty, in two levels."""
    top = tmp_path / "measurement"
    (top / "sub").mkdir(parents=True)
    for number in range(5):
        (top / f"f{number}.txt").write_bytes(f"file {number}".encode())
    (top / "sub" / "g.txt").write_bytes(b"deeper")
    (top / "sub" / "empty.txt").write_bytes(b"")
    return top


def paths_in_folder(sandbox, folder, prefix=""):
    """Return {path: sha1} of all datafiles below a folder."""
    found: dict[str, str] = {}
    for item in sandbox.get(f"v1/folder/{folder}/items/"):
        content = item["content_object"]
        if item["content_type"] == "folder":
            found |= paths_in_folder(sandbox, content["id"], f"{prefix}{content['name']}/")
        elif item["content_type"] == "dataset":
            found |= {f"{prefix}{file['original_filename']}": file["sha1"] for file in content["datafiles"]}
    return found


def sha1s(directory):
    return {
        path.relative_to(directory.parent).as_posix(): hashlib.sha1(path.read_bytes()).hexdigest()
        for path in directory.rglob("*")
        if path.is_file()
    }


def imported(state):
    return {file.target for file in state.files if file.imported}


def test_rows_40_45_a_directory_of_more_than_five_files_travels_as_a_zip(agora, sandbox, project, directory):
    state = agora.upload([directory], target_folder_id=project.root)
    assert imported(state) == set(sha1s(directory))
    assert paths_in_folder(sandbox, project.root) == sha1s(directory)


def test_row_40_an_upload_is_on_the_wire_as_captured(agora, sandbox, project, directory):
    sandbox.reset_requests()
    agora.upload([directory], target_folder_id=project.root)
    requests_seen = [(entry["method"], entry["path"], entry["status"]) for entry in sandbox.requests()]
    package = requests_seen[2][1].split("/")[4]
    assert requests_seen[:4] == [
        ("POST", "/api/v1/import/", 201),
        ("GET", "/api/v1/version/", 200),
        ("POST", f"/api/v1/import/{package}/upload/", 200),
        ("POST", f"/api/v1/import/{package}/complete/", 204),
    ]
    assert set(requests_seen[4:-1]) == {("GET", f"/api/v1/import/{package}/progress/", 200)}
    assert requests_seen[-1] == ("GET", f"/api/v1/import/{package}/result/", 200)


def test_row_39_files_are_uploaded_into_a_folder(agora, sandbox, project, tmp_path):
    files = [tmp_path / "a.txt", tmp_path / "b.txt"]
    for path in files:
        path.write_text(path.name)
    agora.get_folder(project.root).upload(files, wait=True)
    assert set(paths_in_folder(sandbox, project.root)) == {"a.txt", "b.txt"}


def test_row_41_a_directory_is_imported(agora, sandbox, project, directory):
    """``import_data`` of the README is gone; ``import_directory`` does it."""
    agora.import_directory(directory, target_folder_id=project.root)
    assert paths_in_folder(sandbox, project.root) == sha1s(directory)


def test_row_39_several_chunks_make_one_file(agora, sandbox, project, tmp_path, small_chunks):
    path = tmp_path / "long.bin"
    path.write_bytes(bytes(range(256)))
    state = agora.upload([path], target_folder_id=project.root)
    assert imported(state) == {"long.bin"}
    assert paths_in_folder(sandbox, project.root) == {"long.bin": hashlib.sha1(bytes(range(256))).hexdigest()}


def test_row_42_a_related_file_joins_the_series_of_its_main_file(agora, project, tmp_path):
    uid = f"2.25.{project.id}77"
    main, related = tmp_path / "image.dcm", tmp_path / "protocol.txt"
    main.write_bytes(dicom_file(study=uid, series=f"{uid}.1"))
    related.write_text("protocol")
    agora.upload([main, related], target_folder_id=project.root, relations={str(main): [str(related)]})
    series = agora.get_series_by_uid(project.id, f"{uid}.1")
    assert sorted(dataset.type for dataset in series.get_datasets()) == [300, 100000]
    assert agora.get_folder(project.root).get_datasets() == []


def test_row_43_a_session_writes_its_progress_file(agora, sandbox, project, directory, tmp_path):
    progress = tmp_path / "state" / "progress.json"
    session = agora.create_upload_session(
        [directory], progress_file=progress, target_folder_id=project.root, verbose=False
    )
    session.start()
    assert all(file["imported"] for file in json.loads(progress.read_text())["files"])
    assert paths_in_folder(sandbox, project.root) == sha1s(directory)


def test_row_44_an_interrupted_session_is_resumed(agora, sandbox, project, tmp_path, small_chunks):
    """The third chunk is refused; a later session goes on with it from the progress file."""
    path, progress = tmp_path / "long.bin", tmp_path / "progress.json"
    path.write_bytes(bytes(range(100)))
    other = tmp_path / "other.bin"
    other.write_bytes(b"other")
    session = agora.create_upload_session(
        [path, other], progress_file=progress, target_folder_id=project.root, verbose=False
    )
    sent = []
    real_post = Client.post

    def failing_post(client, url, *arguments, **options):
        if url.endswith("/upload/"):
            sent.append(url)
            if len(sent) == 3:
                raise AgoraException("the computer was switched off")
        return real_post(client, url, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Client, "post", failing_post)
        session.state.save(progress)
        with pytest.raises(AgoraException):
            session.start()
    # The connector saves its state for files after the first only; it is given what it had counted.
    session.state.save(progress)
    assert json.loads(progress.read_text())["files"][0]["chunks_completed"] == 2
    sandbox.reset_requests()
    agora.create_upload_session(progress_file=progress).start()
    chunks = [entry for entry in sandbox.requests() if entry["path"].endswith("/upload/")]
    assert len(chunks) == 8 + 1
    assert paths_in_folder(sandbox, project.root) == {
        "long.bin": hashlib.sha1(bytes(range(100))).hexdigest(),
        "other.bin": hashlib.sha1(b"other").hexdigest(),
    }


def test_row_44_resuming_a_finished_session_imports_nothing_again(
    agora, sandbox, project, directory, tmp_path
):
    progress = tmp_path / "progress.json"
    agora.create_upload_session(
        [directory], progress_file=progress, target_folder_id=project.root, verbose=False
    ).start()
    before = sandbox.get(f"v1/folder/{project.root}/items/")
    agora.create_upload_session(progress_file=progress).start()
    assert sandbox.get(f"v1/folder/{project.root}/items/") == before


def test_rows_46_47_a_template_imports_files_into_a_new_series(agora, project, study, tmp_path):
    par, rec = tmp_path / "scan.par", tmp_path / "scan.rec"
    par.write_text("# === PAR ===")
    rec.write_bytes(bytes(100))
    template = agora.create_import_template(
        vendor="Philips",
        exam=agora.get_exam(study.exam),
        patient=agora.get_patient(study.patient),
        files=[par, rec],
    )
    import_file = tmp_path / "import.json"
    import_file.write_text(json.dumps(template))
    state = agora.upload([par, rec], target_folder_id=project.root, json_import_file=import_file)
    assert imported(state) == {"scan.par", "scan.rec"}
    series = agora.get_series_by_uid(project.id, template["ImportParameter"]["Series"]["UID"])
    assert series.exam == study.exam
    (dataset,) = series.get_datasets()
    assert dataset.type == 101
    assert sorted(file.original_filename for file in dataset.get_datafiles()) == ["scan.par", "scan.rec"]


def test_row_108_a_json_import_goes_straight_into_a_project(agora, project, tmp_path):
    data, import_file = tmp_path / "data.bin", tmp_path / "import.json"
    data.write_bytes(b"anything")
    template = agora.create_import_template(files=[data])
    import_file.write_text(json.dumps(template))
    agora.upload([data], target_project_id=project.id, json_import_file=import_file)
    exam = agora.get_exam_by_uid(project.id, template["ImportParameter"]["Exam"]["UID"])
    assert [dataset.name for dataset in exam.get_datasets()] == ["data.bin"]


def test_row_90_files_are_uploaded_into_an_exam_and_a_series(agora, sandbox, study, tmp_path):
    """The connector does not wait and gives no handle here; the package is the user's last."""
    path = tmp_path / "notes.txt"
    path.write_text("notes")
    package = sandbox.post("v1/import/", {})["id"]
    agora.get_exam(study.exam).upload([path])
    assert sandbox.wait_for_import(package + 1) == 5
    assert [dataset.name for dataset in agora.get_exam(study.exam).get_files()] == ["notes.txt"]
    agora.get_series(study.series).upload([path])
    assert sandbox.wait_for_import(package + 2) == 5
    assert [dataset.name for dataset in agora.get_series(study.series).get_datasets()][1:] == ["notes.txt"]


def test_row_109_progress_is_called_back(agora, project, directory):
    seen = []
    agora.upload(
        [directory], target_folder_id=project.root, progress_callback=lambda file: seen.append(file.uploaded)
    )
    assert seen[-1] is True


def test_row_110_the_objects_created_by_an_import(agora, sandbox, project):
    package = sandbox.upload({"a.txt": b"a"}, folder=project.root)["package"]
    objects = ImportPackage.get(package, http_client=agora.http_client).get_objects()
    assert [(entry["content_type"], entry["name"]) for entry in objects] == [("dataset", "a.txt")]


def test_row_45_a_failed_import_ends_in_state_minus_one(agora, sandbox, project, tmp_path, capsys):
    sandbox.switch(import_fail=True)
    path = tmp_path / "a.txt"
    path.write_text("a")
    state = agora.upload([path], target_folder_id=project.root)
    assert "Import failed" in capsys.readouterr().out
    assert imported(state) == set()
    assert paths_in_folder(sandbox, project.root) == {}


def test_row_39_a_chunk_resent_with_other_bytes_is_noticed(agora, sandbox, project, tmp_path, small_chunks):
    """After a lost connection the connector sends the next bytes under the old number; the import says so."""
    path = tmp_path / "long.bin"
    path.write_bytes(bytes(range(30)))
    calls = []
    real_post = requests.post

    def flaky_post(url, **options):
        if url.endswith("/upload/"):
            calls.append(url)
            if len(calls) == 2:
                raise requests.ConnectionError("lost")
        return real_post(url, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gtagora.http.client.requests.post", flaky_post)
        patch.setattr("gtagora.http.client.time.sleep", lambda seconds: None)
        state = agora.upload([path], target_folder_id=project.root)
    assert imported(state) == set()
    assert paths_in_folder(sandbox, project.root) == {}


def test_old_servers_are_refused_by_the_connector(sandbox):
    sandbox.switch(version="7.13.0")
    with pytest.raises(AgoraException):
        gtagora.Agora.create(sandbox.url, api_key=sandbox.api_key)
