"""What else is promised to those who write, each through the kernel, the command and a real server.

What programs do is in ``test_write_programs``, what breaks in ``test_upload_faults``, what dies in
``test_crash_matrix``. Here is what remains: imports into studies, refusals before any byte is taken, the limits of
the spool, ``agorafs upload``, and what can be seen while a batch is on its way.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import random
import shutil
import sqlite3
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agorafs.errors import ExitStatus
from tests.sandbox.conftest import dicom_file
from tests.sandbox_analysis.test_bruker import study as bruker_study
from tests.support import connector
from tests.support.fault_proxy import Exchange, FaultProxy, pass_on
from tests.support.mount import Mount
from tests.support.sandbox import SandboxProcess
from tests.support.waiting import eventually
from tests.support.writing import QUIET, Drive, identities, identity, make_project, read_tree

PATIENCE_S = 60
TEMPLATE = "scan.agora-import.json"
SEED: dict[str, Any] = {
    "Creator": "test",
    "Version": "2.0.0",
    "Vendor": "Philips",
    "Type": "REL5",
    "Datasets": [{"Type": "OTHER", "Files": [{"File": "log.txt"}]}],
    "ImportParameter": {
        "Exam": {"UID": "", "Name": "Brain", "Description": "left", "DeviceName": "Ingenia",
                 "Date": "15.01.2024", "Time": "08:00:00"},
        "Patient": {"UID": "HOSP2", "Name": "Daniel Smith", "Gender": "M", "BirthDate": "05.12.1980", "Weight": 72},
        "Series": {"UID": "", "Name": "T1", "AcquisitionNumber": 4, "Date": "15.01.2024", "Time": "08:05:00"},
    },
    "ParameterSets": [],
}  # fmt: skip


class Study:
    """An exam ``Brain`` with a series ``T1`` in a project of its own, on the server and mounted."""

    def __init__(self, drive: Drive, name: str) -> None:
        self.drive = drive
        self.name = name
        self.project = make_project(drive.server, name)
        seed = json.loads(json.dumps(SEED))
        for part in ("Exam", "Series"):
            seed["ImportParameter"][part]["UID"] = f"1.2.{part}.{name}"
        files = {"log.txt": name.encode(), TEMPLATE: json.dumps(seed).encode()}
        answer = drive.server.upload(files, folder=self.project.root, import_file=TEMPLATE)
        assert answer["state"] == 5
        (exam,) = drive.server.get(f"v2/project/{self.project.id}/exam/")["results"]
        self.exam = int(exam["id"])
        drive.mount.refresh(drive.mount.path / "projects")
        self.path = drive.mount.path / "projects" / name / "exams" / "Brain"

    def files(self) -> dict[str, tuple[int, str]]:
        """Return what the vendor's connector finds: ``Brain/T1/file`` and its identity."""
        return stored_in_exams(self.drive.server, self.project.id)

    def loose(self) -> list[str]:
        """Return what lies in the project's folders instead."""
        return [file.path for file in connector.files_in_folder(self.drive.server, self.project.root)]

    def patients(self) -> list[str]:
        return [one["patient_id"] for one in self.drive.server.get("v1/patient/?limit=1000")["results"]]


_NUMBERS = iter(range(1_000_000))


@pytest.fixture
def study(drive) -> Study:
    return Study(drive, f"Study {next(_NUMBERS)}")


def stored_in_exams(server: SandboxProcess, project: int, exam: str = "") -> dict[str, tuple[int, str]]:
    """Return size and SHA-1 of all files of a project's exams (of the one named) by path; twice is a failure.

    An exam lists the datasets of its series too: such a file counts where its series has it.
    """
    found = connector.files_in_exams(server, project)
    counts = Counter(file for file in found if exam in ("", file.path.partition("/")[0]))
    for file in list(counts.elements()):
        first, *inner = file.path.split("/")
        if len(inner) > 1:
            counts[file._replace(path=f"{first}/{inner[-1]}")] -= 1
    assert set(counts.values()) <= {0, 1}, counts
    return {file.path: (file.size, file.sha1) for file in counts.elements()}


def attribute(path: Path, name: str) -> str:
    return os.getxattr(path, f"user.agora.{name}").decode()


def refused(number: int, call: Any, *arguments: Any) -> None:
    with pytest.raises(OSError) as caught:
        call(*arguments)
    assert caught.value.errno == number, caught.value


def random_bytes(size: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(size)


def changes(server: SandboxProcess) -> list[str]:
    return [f"{one['method']} {one['path']}" for one in server.requests() if one["method"] != "GET"]


# -- into studies ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("inside", "folder"), [("", "Brain"), ("T1", "Brain/T1")])
def test_a_file_written_into_an_exam_or_a_series_is_imported_there(study, inside, folder):
    """Writing into an exam or a series imports there, and the file is where it was written."""
    before = study.files()
    path = study.path / inside / "protocol.pdf"
    path.write_bytes(b"written there")
    assert path.read_bytes() == b"written there"
    study.drive.sync(study.path)
    assert study.files() == before | {f"{folder}/protocol.pdf": identity(b"written there")}
    assert study.loose() == []
    assert path.read_bytes() == b"written there"
    assert attribute(path, "state") == "stored"


@pytest.mark.parametrize("template_of", ["", "T1"])
def test_a_template_dropped_with_files_makes_a_custom_import_of_them(study, template_of):
    """`.agora/import.json` of an exam or series is the ready template: the files get there, with one patient."""
    before, patients = study.files(), study.patients()
    contents = {"scan.par": b"par", "scan.rec": b"rec" * 1000, "volume.nii.gz": b"nifti", "empty.txt": b""}
    for name, content in contents.items():
        (study.path / name).write_bytes(content)
    shutil.copyfile(study.path / template_of / ".agora" / "import.json", study.path / TEMPLATE)
    study.drive.sync(study.path)
    series = template_of or "New Series"
    expected = {f"Brain/{series}/{name}": identity(content) for name, content in contents.items()}
    assert study.files() == before | expected
    assert study.loose() == []
    assert study.patients() == patients
    assert not (study.path / TEMPLATE).exists()
    found = {path: content for path, content in read_tree(study.path / series).items() if content is not None}
    assert {path.rpartition("/")[2]: content for path, content in found.items()}.items() >= contents.items()


def test_a_template_can_be_dropped_into_a_folder_too(study):
    """The files of a folder go to the series that the template says, and a link to the exam takes their place."""
    before = study.files()
    folder = study.drive.mount.path / "projects" / study.name / "folders"
    (folder / "late.raw").write_bytes(b"raw")
    (folder / "late.lab").write_bytes(b"lab")
    shutil.copyfile(study.path / "T1" / ".agora" / "import.json", folder / TEMPLATE)
    study.drive.sync(folder)
    expected = {"Brain/T1/late.raw": identity(b"raw"), "Brain/T1/late.lab": identity(b"lab")}
    assert study.files() == before | expected
    assert study.loose() == []
    assert [path.name for path in folder.iterdir()] == ["Brain"]
    assert (folder / "Brain").is_symlink()


def dicom(name: str) -> bytes:
    return dicom_file(study=f"2.25.77.{len(name)}", series=f"2.25.77.{len(name)}.1", StudyDescription=name)


def test_relations_take_files_into_the_series_of_their_main_file(drive):
    """`*.agora-relations.json` is told to the server as the connector tells it: both give the same objects."""
    place = drive.place()
    files = {"slice.dcm": dicom("Related"), "physio.log": b"1 2 3", "alone.txt": b"alone"}
    relations = {"slice.dcm": ["physio.log"]}
    with (place.path / "held.part").open("wb"):
        for name, content in files.items():
            (place.path / name).write_bytes(content)
        (place.path / "this.agora-relations.json").write_text(json.dumps(relations))
    (place.path / "held.part").unlink()
    place.sync()
    assert place.stored() == identities({"alone.txt": files["alone.txt"]})
    stored = stored_in_exams(drive.server, drive.project.id, "Related")
    assert sorted(path.rpartition("/")[2] for path in stored) == ["physio.log", "slice.dcm"]
    assert len({path.rpartition("/")[0] for path in stored}) == 1, "not in one series"
    assert sorted(path.name for path in place.path.iterdir()) == ["Related", "alone.txt"]


# -- refused before any byte is taken --------------------------------------------------------------------


def spooled(mount: Mount) -> list[Path]:
    """Return the files of local content that the mount keeps."""
    return [path for path in mount.home.glob("state/**/content/*") if path.is_file()]


def test_a_locked_exam_and_an_observers_project_refuse_before_any_byte_is_taken(writable, tmp_path):
    """Locked exams and observers' projects refuse writes before any byte is spooled, with the reason."""
    drive = writable()
    study = Study(drive, "Guarded")
    server = drive.server
    observer = next(
        one for one in server.get("v1/user/?limit=100")["results"] if one["username"] == "observer"
    )
    member = {"project": study.project.id, "user": observer["id"], "role": 4}
    server.post("v2/projectmembership/", member)
    server.post("v2/exam/lock_ids/", {"ids": [study.exam]})
    drive.mount.refresh(drive.mount.path / "projects")
    server.reset_requests()
    for directory in (study.path, study.path / "T1"):
        refused(errno.EACCES, (directory / "new").write_bytes, b"no")
        assert "locked" in attribute(directory, "error")
    refused(errno.EACCES, study.path.rename, study.path.with_name("renamed"))
    assert (changes(server), spooled(drive.mount)) == ([], [])

    with Mount(server.url, server.users["observer"], tmp_path / "observer", QUIET) as other:
        project = other.path / "projects" / "Guarded"
        for directory in (project / "folders", project / "exams" / "Brain" / "T1"):
            refused(errno.EACCES, (directory / "new").write_bytes, b"no")
            refused(errno.EACCES, (directory / "new").mkdir)
            assert attribute(directory, "error")
        refused(errno.EACCES, (project / "folders" / "link").symlink_to, "../exams/Brain")
        assert (changes(server), spooled(other)) == ([], [])


def test_a_full_spool_refuses_the_write_and_what_was_accepted_arrives(writable):
    """Spool full: `ENOSPC` at `write`; what was accepted before is safe and arrives, and then there is room again.

    The file that lacks something is sent only when somebody says so.
    """
    drive = writable(QUIET, "spool_max_bytes=1MiB")
    place = drive.place()
    first = random_bytes(600_000, 1)
    (place.path / "first").write_bytes(first)
    with (place.path / "second").open("wb", buffering=0) as file:
        written = 0
        with pytest.raises(OSError) as caught:
            while written < 2_000_000:
                written += file.write(random_bytes(65_536, 2))
        assert caught.value.errno == errno.ENOSPC
        assert 0 < written <= (1 << 20) - len(first)
        assert os.fstat(file.fileno()).st_size == written
        assert (place.path / "first").read_bytes() == first
    short = random_bytes(65_536, 2) * (written // 65_536)
    done = drive.try_sync(place.path)
    assert (done.returncode, "no room" in done.stderr) == (1, True)
    assert (place.path / "second").read_bytes() == short
    assert place.stored() == {"first": identity(first)}
    assert drive.mount.run("retry", place.path / "second").returncode == 0
    place.sync()
    assert place.stored() == {"first": identity(first), "second": identity(short)}
    eventually(lambda: spooled(drive.mount) == [], PATIENCE_S)
    (place.path / "third").write_bytes(first[::-1])
    place.sync()
    assert place.stored()["third"] == identity(first[::-1])


# -- removing --------------------------------------------------------------------------------------------


def test_rm_in_a_folder_goes_through_the_servers_trash_and_rm_of_a_link_removes_the_link(drive):
    """`rm` in `folders/` goes through the server's trash; `rm` of a link removes the link and no more."""
    place, other = drive.place(), drive.place()
    place.upload({"trashed in a test.txt": b"to the trash"})
    (other.path / "trashed in a test.txt").symlink_to(f"../{place.name}/trashed in a test.txt")
    (other.path / "trashed in a test.txt").unlink()
    assert list(other.path.iterdir()) == []
    assert connector.links_in_folder(drive.server, other.folder) == []
    assert place.stored() == {"trashed in a test.txt": identity(b"to the trash")}
    subprocess.run(["rm", place.path / "trashed in a test.txt"], check=True)
    assert place.stored() == {}
    trash = [one["name"] for one in drive.server.tree()["trash"]]
    assert trash.count("trashed in a test.txt") == 1


def test_a_file_managers_trash_is_refused_and_the_file_stays(drive):
    """`gio trash` fails and leaves the file where it is; nothing is made on the server for it."""
    place = drive.place()
    (place.path / "kept.txt").write_bytes(b"kept")
    place.sync()
    drive.server.reset_requests()
    environment = {**os.environ, "HOME": "/nonexistent"}
    done = subprocess.run(["gio", "trash", place.path / "kept.txt"], capture_output=True, env=environment)
    assert done.returncode != 0
    assert read_tree(place.path) == {"kept.txt": b"kept"}
    place.sync()
    assert changes(drive.server) == []


# -- what belongs together -------------------------------------------------------------------------------


def test_a_tree_that_a_file_manager_copies_file_by_file_is_one_import(writable):
    """A Bruker tree dragged in by a file manager: directories first, then one file after the other; one study."""
    drive = writable("batch_quiet_s=2")
    place = drive.place()
    source = drive.mount.home / "dragged"
    for name, content in bruker_study("mouse/").items():
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    drive.server.reset_requests()
    paths = sorted(source.rglob("*"), key=lambda path: (not path.is_dir(), path))
    for path in paths:
        target = place.path / path.relative_to(source)
        if path.is_dir():
            target.mkdir()
        else:
            subprocess.run(["gio", "copy", "--preserve", path, target], check=True)
    place.sync()
    assert changes(drive.server).count("POST /api/v1/import/") == 1
    found = sorted((one["size"], one["sha1"]) for one in drive.server.datafiles())
    assert found == sorted(identities(read_tree(source)).values())
    assert connector.links_in_folder(drive.server, place.folder) == [("exam", "Cortex pilot")]


class AtOnce:
    """Holds requests back until *count* of them are there at the same time."""

    def __init__(self, count: int) -> None:
        self._barrier = threading.Barrier(count)
        self.met = 0

    def __call__(self, exchange: Exchange) -> bool:
        exchange.read_body()
        if not self._barrier.broken:
            with contextlib.suppress(threading.BrokenBarrierError):
                self._barrier.wait(PATIENCE_S / 4)
                self.met += 1
        return pass_on(exchange)


@contextlib.contextmanager
def behind_proxy(directory: Path, switches: dict[str, str]) -> Iterator[tuple[FaultProxy, Drive]]:
    with (
        SandboxProcess(directory / "data", switches={"import-speed": "0", **switches}) as server,
        contextlib.closing(FaultProxy(server.port)) as proxy,
    ):
        drive = Drive(server, Mount(proxy.url, server.api_key, directory, QUIET), folders=2)
        with drive.mount:
            yield proxy, drive


def test_at_least_four_chunks_of_a_file_are_on_their_way_at_once(tmp_path):
    """Large files travel in chunks, at least 4 in flight."""
    with behind_proxy(tmp_path, {"chunk-max": "1048576"}) as (proxy, drive):
        place = drive.place()
        (place.path / "first").write_bytes(
            random_bytes(9_000_000, 3)
        )  # from which it learns the server's limit
        place.sync()
        at_once = AtOnce(4)
        rule = proxy.on("POST /upload/", at_once, times=4)
        content = random_bytes(12_000_000, 4)
        (place.path / "second").write_bytes(content)
        place.sync()
        assert (rule.struck, at_once.met) == (4, 4)
        assert place.stored()["second"] == identity(content)


# -- what is seen ----------------------------------------------------------------------------------------


def test_every_name_is_there_exactly_once_at_every_moment_while_a_batch_arrives(drive):
    """Visible all the time: no flicker and no duplicate while the listing changes; number, size and time stay."""
    place = drive.place()
    place.upload({"replaced.txt": b"old", "stays.txt": b"stays"})
    with (place.path / "held.part").open("wb"):
        (place.path / "sub").mkdir()
        for number in range(20):
            (place.path / f"file{number}").write_bytes(bytes([number]) * 1000)
            (place.path / "sub" / f"inner{number}").write_bytes(bytes([number]) * 700)
        (place.path / "empty").touch()
        (place.path / "replaced.txt").write_bytes(b"new text")
    (place.path / "held.part").unlink()
    expected = read_tree(place.path)

    def seen() -> dict[str, tuple[int, int, int]]:
        found: list[tuple[str, tuple[int, int, int]]] = []
        for directory in (place.path, place.path / "sub"):
            with os.scandir(directory) as entries:
                for entry in entries:
                    now = entry.stat(follow_symlinks=False)
                    size, mtime = (0, 0) if entry.is_dir() else (now.st_size, now.st_mtime_ns)
                    found.append((f"{directory.name}/{entry.name}", (now.st_ino, size, mtime)))
        twice = [name for name, count in Counter(name for name, _ in found).items() if count > 1]
        assert not twice
        return dict(found)

    before = seen()
    looks = 0
    states = set()
    ended = threading.Event()
    outcomes: list[int] = []

    def sync() -> None:
        try:
            outcomes.append(drive.try_sync(place.path).returncode)
        finally:
            ended.set()

    thread = threading.Thread(target=sync)
    thread.start()
    try:
        while not ended.is_set():
            assert seen() == before
            states.add(attribute(place.path / "file7", "state").split()[0])
            looks += 1
    finally:
        thread.join()
    assert outcomes == [0]
    assert seen() == before
    drive.mount.refresh(place.path)
    assert seen() == before
    assert read_tree(place.path) == expected
    assert looks > 3 and "stored" in states and len(states) > 1
    assert place.stored() == identities(expected)


def test_what_is_on_its_way_can_be_read_below_dot_agora(drive):
    """`/.agora/uploads/` tells where each file stands and holds its bytes, through the kernel."""
    place = drive.place()
    drive.server.switch(import_hold="on")
    try:
        (place.path / "sent.bin").write_bytes(b"sent")
        eventually(lambda: attribute(place.path / "sent.bin", "state").startswith("importing"), PATIENCE_S)
        with (place.path / "held.bin").open("wb") as file:
            file.write(b"held")
            file.flush()
            top = drive.mount.path / ".agora" / "uploads"

            def found() -> dict[str, Any]:
                return {path: text for path, text in read_tree(top).items() if text is not None}

            def is_shown() -> bool:
                names = {path.rpartition("/")[2] for path in found()}
                return {"sent.bin", "held.bin"} <= names

            eventually(is_shown, PATIENCE_S)
            contents = {path.rpartition("/")[2]: content for path, content in found().items()}
            assert contents["sent.bin"] == b"sent"
            assert contents["held.bin"] == b"held"
            status = json.loads((top / "status.json").read_text())
            assert place.name in json.dumps(status)
            refused(errno.EACCES, (top / "new").write_bytes, b"")
    finally:
        drive.server.switch(import_hold="off")
    place.sync()
    assert place.stored() == identities({"sent.bin": b"sent", "held.bin": b"held"})


def test_what_was_closed_is_made_durable_within_five_seconds_without_being_asked(writable):
    """What was closed is made durable by group commit within 5 s, while it waits for its batch."""
    drive = writable("batch_quiet_s=600")
    place = drive.place()
    for number in range(20):
        (place.path / f"file{number}").write_bytes(b"content")
    (journal,) = drive.mount.home.glob("state/agorafs/**/journal.db")

    def durable() -> list[int]:
        with contextlib.closing(sqlite3.connect(f"file:{journal}?mode=ro", uri=True)) as db:
            return [row[0] for row in db.execute("SELECT is_durable FROM node WHERE is_directory = 0")]

    assert len(durable()) == 20
    eventually(lambda: all(durable()), within_s=5.5)
    assert place.stored() == {}


def test_sync_of_a_path_waits_for_that_path_only(drive):
    """`agorafs sync PATH` waits for what is below PATH, not for what is being written elsewhere."""
    place, other = drive.place(), drive.place()
    with (other.path / "still open").open("wb") as file:
        file.write(b"half")
        file.flush()
        (place.path / "file").write_bytes(b"whole")
        place.sync()
        assert place.stored() == {"file": identity(b"whole")}
        waiting = drive.try_sync(other.path, "--timeout", "0.1")
        assert waiting.returncode == ExitStatus.UNAVAILABLE
        assert "not on the server" in waiting.stderr
    other.sync()
    assert other.stored() == {"still open": identity(b"half")}


# -- limits of the server --------------------------------------------------------------------------------


def test_what_a_quota_refuses_can_be_given_up_and_the_rest_is_well(writable):
    """A quota: `failed` with the server's text, `agorafs status` exits non-zero, `cancel` gives it up."""
    drive = writable()
    place = drive.place()
    place.upload({"replaced.bin": b"old"})
    drive.server.switch(quota="1000")
    (place.path / "new.bin").write_bytes(random_bytes(5000, 5))
    (place.path / "replaced.bin").write_bytes(random_bytes(5000, 6))
    assert drive.try_sync(place.path).returncode == ExitStatus.FAILED
    assert "quota" in attribute(place.path / "new.bin", "error").lower()
    assert drive.mount.run("status", drive.mount.path).returncode == ExitStatus.FAILED
    assert (place.path / "new.bin").read_bytes() == random_bytes(5000, 5)
    cancelled = drive.mount.run("cancel", "--yes", place.path)
    assert cancelled.returncode == 0, cancelled.stderr
    assert read_tree(place.path) == {"replaced.bin": b"old"}
    assert drive.mount.run("status", drive.mount.path).returncode == 0
    drive.sync()
    assert place.stored() == identities({"replaced.bin": b"old"})


# -- agorafs upload --------------------------------------------------------------------------------------


def test_upload_sends_trees_into_a_folder_and_a_second_time_nothing(drive, tmp_path):
    """`agorafs upload PATH… DEST` by mount path or `project/folder`, `--verify`, resumable by repeating it."""
    place = drive.place()
    scan = tmp_path / "scan"
    (scan / "deep").mkdir(parents=True)
    for name, content in {"a.bin": random_bytes(9_000_000, 7), "empty": b"", "deep/ü.txt": b"text"}.items():
        (scan / name).write_bytes(content)
    expected = {f"scan/{path}": content for path, content in identities(read_tree(scan)).items()}
    done = drive.mount.run("upload", "--verify", scan, f"{place.path}")
    assert (done.returncode, done.stdout.split(";")[0]) == (0, "3 files: 3 uploaded"), (
        done.stdout,
        done.stderr,
    )
    assert place.stored() == expected
    assert read_tree(place.path / "scan") == read_tree(scan)
    drive.server.reset_requests()
    (scan / "late").write_bytes(b"late")
    again = drive.mount.run("upload", scan, f"Written/{place.name}")
    assert (again.returncode, again.stdout) == (0, "4 files: 1 uploaded, 3 existed\n"), again.stderr
    assert place.stored() == expected | {"scan/late": identity(b"late")}


def test_upload_takes_relations_and_an_import_file(study, tmp_path):
    """`--relations` and `--import-json` do for scripts what dropped files do."""
    drive, place = study.drive, study.drive.place()
    before = study.files()
    (tmp_path / "main.dcm").write_bytes(dicom("By upload"))
    (tmp_path / "physio.log").write_bytes(b"4 5 6")
    (tmp_path / "relations.json").write_text(json.dumps({"main.dcm": ["physio.log"]}))
    done = drive.mount.run(
        "upload", "--relations", tmp_path / "relations.json", tmp_path / "main.dcm", tmp_path / "physio.log", place.path
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    stored = stored_in_exams(drive.server, drive.project.id, "By upload")
    assert sorted(path.rpartition("/")[2] for path in stored) == ["main.dcm", "physio.log"]
    assert place.stored() == {}

    (tmp_path / "more.raw").write_bytes(b"raw")
    template = study.path / "T1" / ".agora" / "import.json"
    shutil.copyfile(template, tmp_path / "import.json")
    done = drive.mount.run(
        "upload", "--verify", "--import-json", tmp_path / "import.json", tmp_path / "more.raw", study.path / "T1"
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert study.files() == before | {"Brain/T1/more.raw": identity(b"raw")}


def test_an_upload_goes_on_after_the_mount_was_killed_in_the_middle(tmp_path):
    """Killed in the middle, mounted and repeated: `agorafs upload` joins what is on its way, each file once."""
    scan = tmp_path / "scan"
    scan.mkdir()
    for number in range(3):
        (scan / f"file{number}").write_bytes(random_bytes(9_000_000, 10 + number))
    with behind_proxy(tmp_path, {"chunk-max": "1048576"}) as (proxy, drive):
        place = drive.place()
        rule = proxy.on("POST /upload/", _hang, at=12, times=None)
        accepted = drive.mount.run("upload", "--no-wait", scan, place.path)
        assert accepted.returncode == 0, accepted.stderr
        eventually(lambda: rule.struck >= 1, PATIENCE_S)
        drive.mount.kill(drive.mount.pid())
        proxy.clear()
        drive.mount.mount()
        done = drive.mount.run("upload", "--verify", scan, place.path)
        assert done.returncode == 0, (done.stdout, done.stderr)
        assert done.stdout.startswith("3 files: ")
        assert place.stored() == {f"scan/{name}": one for name, one in identities(read_tree(scan)).items()}


def _hang(exchange: Exchange) -> bool:
    exchange.ended.wait()
    raise OSError("the proxy ends")


# -- the server away, for long ---------------------------------------------------------------------------


def test_what_was_written_while_the_server_was_away_is_left_to_a_later_mount_without_waiting(writable):
    """A week offline: `umount --detach` asks nobody, and what waits arrives when both are there again."""
    drive = writable("batch_quiet_s=600")
    place = drive.place()
    read_tree(place.path)
    drive.server.kill()
    (place.path / "directory").mkdir()
    (place.path / "directory" / "file").write_bytes(b"written offline")
    # Much less than the deadline of a request: nothing of this needs the server.
    done = drive.mount.run("umount", "--detach", drive.mount.path, timeout_s=15)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("1 file not on the server yet")
    drive.server.start()
    drive.mount.mount()
    assert (place.path / "directory" / "file").read_bytes() == b"written offline"
    drive.sync()
    assert place.stored() == identities({"directory/file": b"written offline"})
