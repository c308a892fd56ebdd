"""Tags, ratings, parameters and locks through the programs that people have for attributes, and what the server has.

What the server has is read with the vendor's connector.
"""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.connector import connected
from tests.support.mount import Mount
from tests.support.waiting import eventually
from tests.support.writing import Place

TIMEOUT_S = 60


def run(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def get(path: Path, name: str) -> str:
    return os.getxattr(path, name).decode()


def refused(number: int, call: Any, *arguments: Any) -> None:
    with pytest.raises(OSError) as caught:
        call(*arguments)
    assert caught.value.errno == number, caught.value


class Said:
    """What the connector reads of one object."""

    def __init__(self, one: Any) -> None:
        self.tags = sorted(tag.label for tag in one.get_tags())
        rating = one.get_rating()
        self.stars = getattr(rating, "value", rating) or 0
        self.parameters = {
            parameter["Name"]: parameter["Value"]
            for one_set in one.get_parametersets()
            for parameter in one_set.parameters
        }


def said_of(place: Place, path: Path) -> Said:
    kind, number = get(path, "user.agora.type"), int(get(path, "user.agora.id"))
    with connected(place.drive.server) as agora:
        find = {"dataset": agora.get_dataset, "folder": agora.get_folder, "exam": agora.get_exam}
        return Said(find[kind](number))


@pytest.fixture
def place(drive):
    return drive.place()


@pytest.fixture
def file(place):
    """A stored file."""
    place.upload({"scan.txt": b"scan"})
    return place.path / "scan.txt"


def test_getfattr_and_setfattr_tag_rate_and_describe(place, file):
    run("setfattr", "-n", "user.agora.tags", "-v", "good,später", file)
    run("setfattr", "-n", "user.agora.rating", "-v", "4", file)
    run("setfattr", "-n", "user.agora.param.T1", "-v", "1300.5", file)
    run("setfattr", "-n", "user.agora.param.matrix", "-v", "[2, 4]", file)
    said = said_of(place, file)
    assert (said.tags, said.stars) == (["good", "später"], 4)
    assert said.parameters == {"T1": 1300.5, "matrix": [2, 4]}
    assert run("getfattr", "--only-values", "-n", "user.xdg.tags", file) == "good,später"
    assert run("getfattr", "--only-values", "-n", "user.baloo.rating", file) == "8"
    dump = run("getfattr", "-d", "-m", "user.agora.(tag|rating|param)", file)
    for line in ('user.agora.rating="4"', 'user.agora.param.T1="1300.5"', 'user.agora.tag.good="1"'):
        assert line in dump.splitlines()
    run("setfattr", "-x", "user.agora.tag.good", file)
    run("setfattr", "-x", "user.baloo.rating", file)
    run("setfattr", "-x", "user.agora.param.T1", file)
    said = said_of(place, file)
    assert (said.tags, said.stars, said.parameters) == (["später"], 0, {"matrix": [2, 4]})


def test_gio_sets_what_file_managers_show(place, file):
    run("gio", "set", file, "xattr::xdg.tags", "from a file manager")
    run("gio", "set", file, "xattr::baloo.rating", "9")
    said = said_of(place, file)
    assert (said.tags, said.stars) == (["from a file manager"], 5)


def test_wrong_values_say_einval_and_what_is_so_says_eperm(place, file):
    place.drive.server.reset_requests()
    refused(errno.EINVAL, os.setxattr, file, "user.agora.rating", b"7")
    refused(errno.EINVAL, os.setxattr, file, "user.baloo.rating", b"x")
    refused(errno.EINVAL, os.setxattr, file, "user.agora.tags", b"a\nb")
    refused(errno.EPERM, os.setxattr, file, "user.agora.sha1", b"0")
    refused(errno.EPERM, os.setxattr, file, "user.agora.locked", b"1")
    assert "locks and unlocks exams" in get(file, "user.agora.error")
    assert [request for request in place.drive.server.requests() if request["method"] != "GET"] == []


def test_write_bits_follow_a_lock_at_once_whichever_way_it_is_set(private_demo, mount):
    """What this mount has changed is seen on it at once.

    The kernel took a set attribute for a new ctime alone, and kept the mode for another second.
    """
    project = mount(private_demo).path / "projects" / "Neuro Study"
    exam = project / "exams" / "Brain, volunteer"
    ways = {
        "setfattr": lambda value: os.setxattr(exam, "user.agora.locked", value.encode()),
        "locked": lambda value: (exam / ".agora" / "locked").write_text(f"{value}\n"),
        "control": lambda value: (exam / ".agora" / "control").write_text(
            "lock .\n" if value == "1" else "unlock .\n"
        ),
    }
    seen = []
    for name, set_lock in ways.items():
        for value in "10" * 10:
            exam.stat()  # the kernel knows it, and believes it for a second
            set_lock(value)
            seen.append((name, value, f"{exam.stat().st_mode & 0o222:o}"))
    assert [one for one in seen if one[2] != ("0" if one[1] == "1" else "200")] == []


def test_a_locked_exam_and_an_observer_take_no_attribute_and_say_why(private_demo, mount, tmp_path):
    """No permission: EACCES, without a request, and the reason in words."""
    one = mount(private_demo)
    project = one.path / "projects" / "Neuro Study"
    locked = project / "exams" / "CBU^Neuroimaging"
    below = next(path for path in locked.iterdir() if path.is_dir())
    sets = {"tags": b"new label", "rating": b"3", "param.TE": b"4", "tag.x": b"1"}
    get(below, "user.agora.locked")
    private_demo.reset_requests()
    for name, value in sets.items():
        refused(errno.EACCES, os.setxattr, below, f"user.agora.{name}", value)
        assert get(below, "user.agora.error").endswith("is locked")
    with Mount(private_demo.url, private_demo.users["observer"], tmp_path / "observer") as theirs:
        exam = theirs.path / "projects" / "Neuro Study" / "exams" / "Brain, volunteer"
        for name, value in (sets | {"locked": b"1"}).items():
            refused(errno.EACCES, os.setxattr, exam, f"user.agora.{name}", value)
            assert "observers only read" in get(exam, "user.agora.error")
    assert [request for request in private_demo.requests() if request["method"] != "GET"] == []


def test_the_files_of_dot_agora_say_and_take_the_same(place, file):
    beside = file.parent / ".agora" / "entries" / file.name
    subprocess.run(
        ["sh", "-c", 'echo 3 > rating && printf "a\\nb\\n" > tags && echo c >> tags'],
        cwd=beside,
        check=True,
        timeout=TIMEOUT_S,
    )
    assert (beside / "rating").read_text() == "3\n"
    assert (beside / "tags").stat().st_size == len("a\nb\nc\n")
    (beside / "parameters" / "Fit.json").write_text(json.dumps({"T2": 80}))
    said = said_of(place, file)
    assert (said.tags, said.stars, said.parameters) == (["a", "b", "c"], 3, {"T2": 80})
    failed = subprocess.run(
        ["sh", "-c", "echo 7 > rating"], cwd=beside, capture_output=True, timeout=TIMEOUT_S
    )
    assert failed.returncode != 0
    assert said_of(place, file).stars == 3


@pytest.mark.parametrize("shell", ["bash", "dash"])
def test_a_set_of_parameters_that_is_none_fails_in_a_shell_and_the_reason_is_in_its_directory(
    place, file, shell
):
    sets = file.parent / ".agora" / "entries" / file.name / "parameters"
    done = subprocess.run(
        [shell, "-c", """echo '{"TE": {"a": 1}}' > New.json"""],
        cwd=sets,
        capture_output=True,
        timeout=TIMEOUT_S,
    )
    assert done.returncode != 0
    assert get(sets, "user.agora.error") == (
        "TE: a value is a number, a text, true, false, or a list of these"
    )
    assert list(sets.iterdir()) == []
    assert said_of(place, file).parameters == {}


@pytest.mark.parametrize("program", [("cp", "--preserve=xattr"), ("rsync", "-X")], ids=["cp", "rsync"])
def test_copies_carry_tags_rating_and_parameters_along(place, file, program):
    run("setfattr", "-n", "user.agora.tags", "-v", "good", file)
    run("setfattr", "-n", "user.agora.rating", "-v", "2", file)
    run("setfattr", "-n", "user.agora.param.note", "-v", "ok", file)
    copy = file.with_name("copy.txt")
    file_of_others = file.with_name("other.txt")
    run(*program, file, copy)
    assert get(copy, "user.agora.tags") == "good"
    file_of_others.write_bytes(b"of others")
    place.sync()
    said = said_of(place, copy)
    assert (said.tags, said.stars, said.parameters) == (["good"], 2, {"note": "ok"})
    assert get(copy, "user.agora.rating") == "2"
    assert said_of(place, file_of_others).tags == []


def test_rsync_brings_what_was_said_of_copies_back_to_stored_files_again_and_again(place, file, tmp_path):
    """With the filters of the README, which leave out what only the record says."""
    os.setxattr(file, "user.agora.tags", b"good")
    os.setxattr(file, "user.agora.rating", b"2")
    copies = tmp_path / "copies"
    run("rsync", "-aX", f"{place.path}/", f"{copies}/")
    other = place.path / "again"
    run("rsync", "-aX", f"{copies}/", f"{other}/")
    place.sync()
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    filters = dict.fromkeys(re.findall(r"--filter='([^']*)'", readme))
    assert len(filters) == 4
    for stars in ("2", "4", "4"):
        os.setxattr(copies / file.name, "user.agora.rating", stars.encode())
        run("rsync", "-aX", *(f"--filter={one}" for one in filters), f"{copies}/", f"{other}/")
    said = said_of(place, other / file.name)
    assert (said.tags, said.stars) == (["good"], 4)


def test_three_thousand_parameters_are_listed_as_far_as_the_kernel_lets_them_and_read_each(place, file):
    values = {f"EX_ACQ_parameter_with_a_long_name_{number}": number for number in range(3000)}
    with connected(place.drive.server) as agora:
        agora.get_dataset(int(get(file, "user.agora.id"))).set_parameters(values)
    for name, value in values.items():
        assert get(file, f"user.agora.param.{name}") == str(value)
    listed = [name for name in os.listxattr(file) if name.startswith("user.agora.param.")]
    assert 1000 < len(listed) < 3000
    assert "user.agora.type" in os.listxattr(file)
    copy = file.with_name("described.txt")
    run("cp", "--preserve=xattr", file, copy)
    assert {name for name in os.listxattr(copy) if ".param." in name} == set(listed)
    place.sync()
    assert said_of(place, copy).parameters == {
        name: value for name, value in values.items() if f"user.agora.param.{name}" in listed
    }


def test_what_is_said_of_a_file_on_its_way_arrives_with_it(place):
    """What is said of a file before it is stored is said of the stored one."""
    file = place.path / "new.txt"
    file.write_bytes(b"new")
    os.setxattr(file, "user.agora.tag.fresh", b"1")
    refused(errno.EINVAL, os.setxattr, file, "user.agora.rating", b"7")
    os.setxattr(file, "user.agora.rating", b"5")
    place.sync()
    said = said_of(place, file)
    assert (said.tags, said.stars) == (["fresh"], 5)


def test_a_file_that_is_written_again_keeps_what_was_said_of_it_and_shows_it_at_once(place, file):
    os.setxattr(file, "user.agora.tags", b"good")
    os.setxattr(file, "user.agora.rating", b"3")
    file.write_bytes(b"scan, again")
    place.sync()
    assert (get(file, "user.agora.tags"), get(file, "user.agora.rating")) == ("good", "3")
    said = said_of(place, file)
    assert (said.tags, said.stars) == (["good"], 3)


def test_attributes_can_be_set_on_a_stored_file_that_is_open_for_writing(place, file):
    with file.open("r+b"):
        os.setxattr(file, "user.agora.tags", b"while open")
        assert get(file, "user.agora.tags") == "while open"
    eventually(
        lambda: get(file, "user.agora.state") == "stored", TIMEOUT_S
    )  # the kernel lets go of it by and by
    assert said_of(place, file).tags == ["while open"]


def test_listing_and_copying_a_directory_asks_for_no_annotations_and_their_tags_cost_two_requests(
    place, tmp_path
):
    """Listing and copying (`ls -l`, `cp -a`) cost no request for tags, ratings or parameters.

    The tags of a whole directory cost at most two requests.
    """
    place.upload({f"{number}.txt": b"%d" % number for number in range(100)})
    place.drive.mount.refresh(place.path)
    run("ls", "-l", place.path)
    place.drive.server.reset_requests()
    run("ls", "-l", place.path)
    run("cp", "-a", place.path, tmp_path / "copy")
    asked = [request["path"] for request in place.drive.server.requests()]
    assert not [path for path in asked if any(word in path for word in ("tag", "rating", "parameterset"))]
    place.drive.server.reset_requests()
    for path in place.path.iterdir():
        assert get(path, "user.agora.tags") == ""
    assert len(place.drive.server.requests()) <= 2
    place.drive.server.reset_requests()
    for path in place.path.iterdir():
        get(path, "user.agora.tags")
    assert place.drive.server.requests() == []


@pytest.mark.parametrize("name", ["security.selinux", "system.posix_acl_access"])
def test_ls_hears_that_labels_and_access_lists_are_not_supported_so_that_it_asks_once(demo_mount, name):
    entry = next((demo_mount.path / "projects").iterdir())
    refused(errno.ENOTSUP, os.getxattr, entry, name)
    run("ls", "-l", demo_mount.path / "projects")
