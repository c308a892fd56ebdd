"""Uploads and imports as a user makes them; what has arrived is said by the vendor's connector."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path
from typing import Any

import pytest

from tests.sandbox.conftest import dicom_file
from tests.support.connector import files_in_folder, folders_below
from tests.support.waiting import eventually

PATIENCE_S = 60
CHUNK_BYTES = 1 << 20


@pytest.fixture
def folder(bench, request):
    """An empty folder of the project that the connector has made; its path and its number."""
    made = bench.on_server().get_root_folder().create_folder(request.node.name)
    bench.mount.refresh(bench.project / "folders")
    return bench.project / "folders" / request.node.name, made.id


@pytest.fixture
def scan(tmp_path):
    """A directory with files of all sizes, one of them empty, which the connector would leave out."""
    root = tmp_path / "scan"
    (root / "sub" / "deep").mkdir(parents=True)
    (root / "large.dat").write_bytes(random.Random(1).randbytes(300_000))
    (root / "sub" / "Größe.txt").write_text("some text")
    (root / "sub" / "deep" / "empty").touch()
    return root


def sha1(path: Path) -> str:
    return hashlib.sha1(path.read_bytes()).hexdigest()


def below(root: Path) -> list[tuple[str, int, str]]:
    """Return path, size and SHA-1 of all files at and below *root*, as ``files_in_folder`` does."""
    return sorted(
        (path.relative_to(root.parent).as_posix(), path.stat().st_size, sha1(path))
        for path in root.rglob("*")
        if path.is_file()
    )


def series_of(bench, exam: str) -> dict[str, set[str]]:
    """Return the names of the files in each series of an exam of the project, as the connector sees them."""
    (found,) = [one for one in bench.on_server().get_exams() if one.name == exam]
    return {
        series.name: {
            file.original_filename.rpartition("/")[2]
            for dataset in series.get_datasets()
            for file in dataset.get_datafiles()
        }
        for series in found.get_series()
    }


@pytest.mark.feature(41, how="`agorafs upload DIR FOLDER`; or `cp -r DIR FOLDER`")
@pytest.mark.parametrize("program", ["agorafs upload", "cp"])
def test_a_directory_is_imported_with_all_that_is_in_it(bench, folder, scan, program):
    path, number = folder
    if program == "cp":
        bench.shell('cp -r "$1" "$2"', scan, path)
        bench.command("sync", path)
    else:
        assert bench.command("upload", scan, path) == "3 files: 3 uploaded\n"
    assert files_in_folder(bench.server, number) == below(scan)
    assert folders_below(bench.server, number) == {"scan", "scan/sub", "scan/sub/deep"}


def dicom(name: str) -> bytes:
    uid = f"2.25.41.{sum(name.encode())}"
    return dicom_file(study=uid, series=f"{uid}.1", StudyDescription=name)


@pytest.mark.feature(
    42, how="`agorafs upload --relations FILE …`; or a file `NAME.agora-relations.json` among them"
)
@pytest.mark.parametrize("way", ["option", "dropped"])
def test_related_files_get_into_the_series_of_their_main_file(bench, folder, tmp_path, way):
    path, number = folder
    exam = f"Related {way}"
    (tmp_path / "slice.dcm").write_bytes(dicom(exam))
    (tmp_path / "physio.log").write_bytes(f"1 2 3 {way}".encode())
    (tmp_path / "alone.txt").write_bytes(f"alone {way}".encode())
    (tmp_path / "this.agora-relations.json").write_text(json.dumps({"slice.dcm": ["physio.log"]}))
    names = ("slice.dcm", "physio.log", "alone.txt")
    if way == "option":
        relations = tmp_path / "this.agora-relations.json"
        bench.command("upload", "--relations", relations, *(tmp_path / name for name in names), path)
    else:
        bench.shell('cd "$1" && cp *.* "$2"', tmp_path, path)
        bench.command("sync", path)
    assert series_of(bench, exam) == {"T1 MPRAGE": {"slice.dcm", "physio.log"}}
    assert [file.path for file in files_in_folder(bench.server, number)] == ["alone.txt"]


class Chunks:
    """What the server was sent since this was made: which chunks it has taken."""

    def __init__(self, bench: Any) -> None:
        self._server = bench.server
        self._server.reset_requests()

    def taken(self) -> int:
        return sum(
            one["path"].endswith("/upload/") and one["status"] == 200 for one in self._server.requests()
        )


@pytest.fixture
def slow(bench, request, tmp_path):
    """A server that takes small chunks, which the mount has learnt; what the test switches is switched back."""
    bench.server.switch(chunk_max=CHUNK_BYTES)
    (tmp_path / "first.raw").write_bytes(random.Random(request.node.name).randbytes(2 * CHUNK_BYTES))
    bench.command("upload", tmp_path / "first.raw", bench.project / "folders")
    yield bench
    bench.server.switch(fault="", import_hold="off", chunk_max=0)


def progress(bench) -> dict[str, Any]:
    """Return what the mount says of the one batch that is on its way."""
    (batch,) = json.loads((bench.root / ".agora/uploads/status.json").read_bytes())["batches"]
    found: dict[str, Any] = batch
    return found


@pytest.mark.feature(43, how="`/.agora/uploads/status.json`, `agorafs status`; kept whatever dies")
def test_the_progress_of_an_upload_is_kept_whatever_dies(slow, folder, tmp_path):
    path, number = folder
    file = tmp_path / "kept.raw"
    file.write_bytes(random.Random(43).randbytes(3 * CHUNK_BYTES))
    slow.server.switch(import_hold="on")
    slow.shell('cp "$1" "$2"', file, path)
    eventually(lambda: "importing" in slow.attribute(path / file.name, "state"), PATIENCE_S)
    before = progress(slow)
    assert (before["state"], before["sent_bytes"], before["bytes"]) == ("importing", *[3 * CHUNK_BYTES] * 2)
    slow.mount.kill(slow.mount.pid())
    chunks = Chunks(slow)
    slow.mount.mount()
    assert progress(slow)["sent_bytes"] == before["sent_bytes"]
    assert files_in_folder(slow.server, number) == []
    slow.server.switch(import_hold="off")
    slow.command("sync", path)
    assert files_in_folder(slow.server, number) == [(file.name, 3 * CHUNK_BYTES, sha1(file))]
    assert chunks.taken() == 0


@pytest.mark.feature(44, how="by itself when mounted again; or the same `agorafs upload` once more")
def test_an_interrupted_upload_goes_on_where_it_was(slow, folder, tmp_path):
    path, number = folder
    file = tmp_path / "resumed.raw"
    file.write_bytes(random.Random(44).randbytes(6 * CHUNK_BYTES))
    slow.server.switch(fault="hang=600:POST /upload/:every-3")
    slow.command("upload", "--no-wait", file, path)
    eventually(lambda: bool(progress(slow)["sent_bytes"] >= 2 * CHUNK_BYTES), PATIENCE_S)
    sent = progress(slow)["sent_bytes"]
    slow.mount.kill(slow.mount.pid())
    assert files_in_folder(slow.server, number) == []
    slow.server.switch(fault="")
    chunks = Chunks(slow)
    slow.mount.mount()
    assert slow.command("upload", "--verify", file, path).startswith("1 file: 1 ")
    assert files_in_folder(slow.server, number) == [(file.name, 6 * CHUNK_BYTES, sha1(file))]
    assert chunks.taken() <= 6 - sent // CHUNK_BYTES


@pytest.mark.feature(45, how="`agorafs upload --verify`; `agorafs sync`, whose exit status says it")
def test_an_upload_returns_when_it_is_imported_and_each_hash_is_right(bench, folder, scan):
    path, number = folder
    done = bench.command("upload", "--verify", "--json", scan, path)
    assert json.loads(done) | {"bytes": 0, "import_id": 0} == {
        "files": 3, "uploaded": 3, "existed": 0, "bytes": 0, "failed": [], "failed_count": 0,
        "is_accepted_only": False, "is_verified": True, "import_id": 0,
    }  # fmt: skip
    # Nobody waits any more: it is there.
    assert files_in_folder(bench.server, number) == below(scan)


def test_an_upload_of_which_the_server_drops_a_file_fails_and_names_it(bench, folder, tmp_path):
    path, number = folder
    for name in ("good.txt", "dropped.txt"):
        (tmp_path / name).write_text(f"the file {name}")
    bench.server.switch(result_ignore="dropped")
    try:
        done = bench.mount.run("upload", tmp_path / "good.txt", tmp_path / "dropped.txt", path)
        assert done.returncode == 1
        assert "dropped.txt: " in done.stderr and "good.txt: " not in done.stderr
        assert [file.path for file in files_in_folder(bench.server, number)] == ["good.txt"]
    finally:
        bench.server.switch(result_ignore="")
    again = bench.command("upload", tmp_path / "good.txt", tmp_path / "dropped.txt", path)
    assert again == "2 files: 1 uploaded, 1 existed\n"
    assert [file.path for file in files_in_folder(bench.server, number)] == ["dropped.txt", "good.txt"]


# -- import JSON -----------------------------------------------------------------------------------------


@pytest.fixture
def study(bench, request):
    """An exam of this test alone, made by an import of two files; its path and the connector's object."""
    name = f"Study of {request.node.name}"
    folder = bench.on_server().get_root_folder().create_folder(name)
    bench.server.upload({"a.dcm": dicom(name)}, folder=folder.id)
    bench.mount.refresh(bench.project)
    (exam,) = [one for one in bench.on_server().get_exams() if one.name == name]
    return bench.project / "exams" / name, exam


@pytest.mark.feature(46, how="`EXAM/.agora/import.json`, `SERIES/.agora/import.json`")
def test_a_template_is_that_of_the_connector(bench, study):
    path, exam = study
    exam = bench.agora.get_exam(exam.id)
    (series,) = exam.get_series()
    patient = bench.agora.get_patient(exam.patient["id"])
    theirs = bench.agora.create_import_template(exam=exam, series=series, patient=patient)
    ours = json.loads((path / series.name / ".agora/import.json").read_bytes())
    assert ours | {"Creator": ""} == theirs | {"Creator": ""}
    new = json.loads((path / ".agora/import.json").read_bytes())["ImportParameter"]
    assert {name: new[name] for name in ("Exam", "Patient")} == {
        name: theirs["ImportParameter"][name] for name in ("Exam", "Patient")
    }
    assert new["Series"]["UID"] != series.uid


@pytest.mark.feature(
    47, how="`agorafs upload --import-json FILE …`; or a file `NAME.agora-import.json` among them"
)
@pytest.mark.parametrize("way", ["option", "dropped"])
def test_an_import_json_says_what_the_files_become(bench, folder, study, tmp_path, way):
    path, number = folder
    exam_path, exam = study
    template = json.loads((exam_path / ".agora/import.json").read_bytes())
    template["ImportParameter"]["Series"]["Name"] = "By JSON"
    (tmp_path / "this.agora-import.json").write_text(json.dumps(template))
    files = {"scan.par": b"par", "scan.rec": b"rec" * 1000}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content + way.encode())
    if way == "option":
        paths = [tmp_path / name for name in files]
        bench.command("upload", "--import-json", tmp_path / "this.agora-import.json", *paths, path)
    else:
        bench.shell('cd "$1" && cp *.* "$2"', tmp_path, path)
        bench.command("sync", path)
    assert series_of(bench, exam.name) == {"T1 MPRAGE": {"a.dcm"}, "By JSON": set(files)}
    (made,) = [one for one in exam.get_series() if one.name == "By JSON"]
    (dataset,) = made.get_datasets()  # the two make one
    sums = {file.original_filename.rpartition("/")[2]: file.sha1 for file in dataset.get_datafiles()}
    assert sums == {name: sha1(tmp_path / name) for name in files}
    assert files_in_folder(bench.server, number) == []
