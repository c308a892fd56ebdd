"""Which files an upload has and what they are called; what is refused before anything is sent."""

import contextlib
import os
import socket
import tempfile
from pathlib import Path

import pytest

from agorafs.commands.upload_files import find_files, read_json_object, relations_of
from agorafs.errors import UsageError


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Return a directory, the working one, with a small tree in it."""
    tree = tmp_path / "data"
    for name in ("scan/1/fid", "scan/acqp", "scan/.hidden", "notes.txt"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(name)
    (tree / "scan" / "empty").mkdir()
    monkeypatch.chdir(tree)
    return tree


def find(*paths, contents=False):
    said: list[str] = []
    found = find_files([str(path) for path in paths], contents=contents, say=said.append)
    return {one.target: one.path for one in found}, said


def test_a_directory_keeps_its_name_and_files_come_with_absolute_paths(data):
    found, said = find("scan", "notes.txt")
    assert found == {
        "scan/.hidden": f"{data}/scan/.hidden",
        "scan/1/fid": f"{data}/scan/1/fid",
        "scan/acqp": f"{data}/scan/acqp",
        "notes.txt": f"{data}/notes.txt",
    }
    assert said == []


@pytest.mark.parametrize("given", ["scan", "scan/", "./scan", "scan/1/.."])
def test_the_name_of_a_directory_does_not_depend_on_how_it_is_written(data, given):
    assert "scan/acqp" in find(given)[0]


def test_the_current_directory_has_a_name_too(data, monkeypatch):
    monkeypatch.chdir(data / "scan")
    assert "scan/acqp" in find(".")[0]


def test_of_a_directory_only_the_contents(data):
    assert set(find("scan", contents=True)[0]) == {".hidden", "1/fid", "acqp"}


def test_a_link_to_a_file_is_sent_as_the_file_under_the_name_of_the_link(data):
    (data / "scan" / "link").symlink_to("../notes.txt")
    (data / "top").symlink_to("notes.txt")
    found, _ = find("scan", "top")
    assert found["scan/link"] == found["top"] == f"{data}/notes.txt"


def test_a_link_to_a_directory_is_left_out_and_said(data):
    """As the vendor's connector leaves it out, which says nothing."""
    (data / "scan" / "again").symlink_to(".")
    found, said = find("scan")
    assert not [target for target in found if "again" in target]
    assert said == ["scan/again is left out: it is a link to a directory"]


def test_a_link_to_a_directory_that_is_given_itself_is_followed(data):
    (data / "link").symlink_to("scan")
    assert find("link")[0]["link/acqp"] == f"{data}/scan/acqp"


def test_a_link_that_leads_nowhere_is_refused(data):
    (data / "scan" / "broken").symlink_to("nowhere")
    with pytest.raises(UsageError, match="scan/broken can not be read: No such file"):
        find("scan")


def test_a_path_that_does_not_exist_is_refused(data):
    with pytest.raises(UsageError, match="absent can not be read: No such file"):
        find("scan", "absent")


def test_pipes_sockets_and_devices_are_refused_by_name(data):
    os.mkfifo(data / "scan" / "pipe")
    with pytest.raises(UsageError, match="scan/pipe is neither a file nor a directory"):
        find("scan")
    (data / "scan" / "pipe").unlink()
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("scan/sock")
        with pytest.raises(UsageError, match="scan/sock is neither"):
            find("scan")
    with pytest.raises(UsageError, match="/dev/null is neither"):
        find("/dev/null")


@contextlib.contextmanager
def without_privileges():
    """Be nobody while root runs the tests: root can read everything."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("closed", ["scan/acqp", "scan/1"])
def test_what_can_not_be_read_is_refused_by_name(closed):
    with tempfile.TemporaryDirectory() as name:  # below /tmp, which nobody may enter too
        place = Path(name)
        place.chmod(0o755)
        (place / "scan" / "1").mkdir(parents=True)
        (place / "scan" / "acqp").touch()
        (place / closed).chmod(0)
        with without_privileges(), pytest.raises(UsageError, match=f"{closed} can not be read: Permission"):
            find(place / "scan")
        (place / closed).chmod(0o700)


def test_two_files_that_would_become_one_are_refused(data):
    (data / "other").mkdir()
    (data / "other" / "notes.txt").touch()
    with pytest.raises(UsageError, match=r"^notes.txt and other/notes.txt would both become notes.txt$"):
        find("notes.txt", "other/notes.txt")
    with pytest.raises(UsageError, match="would both become"):
        find("scan", "scan")


def test_a_file_and_a_directory_of_one_name_are_refused(data):
    (data / "other").mkdir()
    (data / "other" / "scan").touch()
    with pytest.raises(UsageError, match=r"other/scan would become a file, scan/\.hidden a directory"):
        find("other/scan", "scan")


@pytest.mark.parametrize("name", [b"\xff.dcm", b"a\\b", b"bell\a", b".agora"])
def test_a_name_that_the_server_would_change_is_refused(data, name):
    (data / "scan" / os.fsdecode(name)).touch()
    with pytest.raises(UsageError, match="the server would change the name"):
        find("scan")


@pytest.mark.parametrize("name", ["Größe ∕ 日本.dcm", "a b'c\"d", "x" * 255])
def test_any_name_that_the_server_keeps_is_sent(data, name):
    (data / "scan" / name).touch()
    assert f"scan/{name}" in find("scan")[0]


def test_an_upload_without_a_file_is_refused(data):
    with pytest.raises(UsageError, match="there is no file in scan/empty"):
        find("scan/empty")


def test_relations_name_files_by_their_path_here_or_there(data):
    found = find_files(["scan", "notes.txt"], contents=False, say=print)
    table = {"scan/acqp": ["notes.txt"], str(data / "scan" / "1" / "fid"): ["./scan/.hidden"]}
    assert relations_of(table, found) == {"scan/acqp": ["notes.txt"], "scan/1/fid": ["scan/.hidden"]}


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"absent": ["notes.txt"]}, "the relations name absent, which is not one of the files"),
        ({"notes.txt": ["absent"]}, "the relations name absent"),
        ({"notes.txt": [1]}, "the relations name 1"),
        ({"notes.txt": "scan/acqp"}, "must be a list"),
        ({"notes.txt": ["scan/acqp", "scan/acqp"]}, "name scan/acqp twice"),
        ({"notes.txt": ["scan/acqp"], "scan/1/fid": ["./scan/acqp"]}, "name scan/acqp twice"),
    ],
)
def test_relations_that_the_server_would_not_keep_are_refused(data, table, words):
    found = find_files(["scan", "notes.txt"], contents=False, say=print)
    with pytest.raises(UsageError, match=words):
        relations_of(table, found)


@pytest.mark.parametrize(
    ("content", "words"),
    [("{", "is not valid JSON"), ("[]", "must hold one JSON object"), (None, "can not be read")],
)
def test_a_json_file_that_is_none_is_refused_by_name(tmp_path, content, words):
    path = tmp_path / "x.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UsageError, match=f"the import file {path} {words}"):
        read_json_object(str(path), "the import file")


def test_a_json_file_may_begin_with_the_mark_that_windows_writes(tmp_path):
    (tmp_path / "x.json").write_bytes(b'\xef\xbb\xbf{"a": []}')
    assert read_json_object(str(tmp_path / "x.json"), "the file") == {"a": []}
