"""Every operation has a known price in requests, counted at the server, and the README prints the list.

The README's table stands between two markers and is made by this module. After a change of the prices::

    AGORAFS_WRITE_README=1 .venv/bin/python -m pytest tests/mount/test_request_budget.py

writes it anew; without the variable a table that differs from what is measured fails the test.

"Cold" means that agorafs knows the directories above what is asked for and nothing of the thing itself, unless the
operation says otherwise; "warm" is the same operation once more. A listing is believed for an hour here, so
nothing expires between the two.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import mmap
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from agorafs import control
from agorafs.sandbox import bulk
from agorafs.sandbox.store import Store
from tests.support.mount import Mount
from tests.support.sandbox import SandboxProcess

README = Path(__file__).parent.parent.parent / "README.md"
BEGIN, END = "<!-- request budget: begin -->\n", "<!-- request budget: end -->"

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
STUDY = "projects/Neuro Study"
EXAM = f"{STUDY}/exams/Brain, volunteer"
SLICES = f"{EXAM}/T1w 3D TFE/DICOM dataset/DICOM"
FAVOURITES = f"{STUDY}/folders/Favourites"
LARGE = "projects/Phantom QA/folders/large"  # files of 1 GiB, one per peek: nothing is read twice by accident
PEEKS = ("read", "read-128", "map", "tail", "middle")
DESKTOP_NAMES = (
    ".Trash", ".Trash-0", ".hidden", ".directory", ".sh_thumbnails", "autorun.inf", ".xdg-volume-info",
    "desktop.ini", ".git", ".DS_Store", "._x",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Price:
    """Requests and bytes of answers that one operation cost."""

    requests: int
    sent_bytes: int


class Meter:
    """A mount and its server, whose requests it counts."""

    def __init__(self, server: SandboxProcess, mount: Mount) -> None:
        self.server = server
        self.mount = mount

    def price(self, operation: Callable[[Path], object], path: str) -> Price:
        """Do *operation* on *path* and return what it cost."""
        self.server.reset_requests()
        operation(self.mount.path / path)
        counted = self.server.control("GET", "requests")
        return Price(counted["count"], counted["bytes"])

    def forget(self, path: str) -> None:
        """What ``agorafs refresh`` does, without the time that a command takes to start."""
        command = {"command": "refresh", "path": f"/{path}" if path else None}
        control.ask(self.mount.home / "state" / "agorafs", self.mount.path, command, timeout_s=30)


# -- operations --------------------------------------------------------------------------------------


def list_directory(path: Path) -> None:
    """What ``ls -l`` does: names, attributes, link texts, and the attributes of ACLs and security modules."""
    with os.scandir(path) as entries:
        for entry in entries:
            entry.stat(follow_symlinks=False)
            if entry.is_symlink():
                Path(entry.path).readlink()
            for name in ("security.selinux", "system.posix_acl_access"):
                with contextlib.suppress(OSError):
                    os.getxattr(entry.path, name, follow_symlinks=False)


def find(path: Path) -> None:
    subprocess.run(["find", path, "-printf", "%s"], stdout=subprocess.DEVNULL, check=True, timeout=60)


def read_whole(path: Path) -> None:
    path.read_bytes()


def read_all_inside(path: Path) -> None:
    for entry in path.iterdir():
        entry.read_bytes()


def read_at(offset: int, size: int) -> Callable[[Path], None]:
    def operation(path: Path) -> None:
        with path.open("rb", buffering=0) as file:
            file.seek(offset)
            assert file.read(size) == bytes(size)

    return operation


def read_mapped(path: Path) -> None:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        assert mapped[:4096] == bytes(4096)


def show_attributes(path: Path) -> None:
    for name in os.listxattr(path, follow_symlinks=False):
        os.getxattr(path, name, follow_symlinks=False)


def read_attribute(name: str) -> Callable[[Path], None]:
    def operation(path: Path) -> None:
        assert os.getxattr(path, name)

    return operation


def read_attribute_of_all(name: str) -> Callable[[Path], None]:
    """Of all entries of a directory; not each has it."""

    def operation(path: Path) -> None:
        for entry in path.iterdir():
            with contextlib.suppress(OSError):
                os.getxattr(entry, name)

    return operation


def set_attribute(name: str, value: bytes) -> Callable[[Path], None]:
    def operation(path: Path) -> None:
        os.setxattr(path, name, value)

    return operation


def command(text: str) -> Callable[[Path], None]:
    def operation(path: Path) -> None:
        (path / ".agora" / "control").write_text(text)

    return operation


def refused_command(text: str) -> Callable[[Path], None]:
    def operation(path: Path) -> None:
        with pytest.raises(OSError) as caught:
            (path / ".agora" / "control").write_text(text)
        assert caught.value.errno == errno.EINVAL

    return operation


def probe(path: Path) -> None:
    assert not any((path / name).exists() for name in DESKTOP_NAMES)


def look_up_missing(path: Path) -> None:
    assert not (path / "no such name").exists()


def resync(path: Path) -> None:
    subprocess.run(
        ["rsync", "-an", f"{path}/", "/nonexistent/"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
        timeout=60,
    )


EVERYTHING = "a new mount"
WHERE_OBJECTS_ARE = "patients"  # each refresh forgets what was learnt of places; this one little else


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.

    ``forget``: the path that is made unknown before, None for nothing, ``EVERYTHING`` for a new mount.
    """

    name: str
    operation: Callable[[Path], object]
    path: str
    forget: str | None = None
    max_cold: int = 0
    max_warm: int = 0
    max_bytes: int | None = None  # given for what is about bytes, which the table then shows


ROWS = (
    Row("`ls -l projects`", list_directory, "projects", "projects", 1),
    Row("`ls -l` of a project", list_directory, STUDY, STUDY),
    Row("`ls -l` of a folder, with files and links", list_directory, FAVOURITES,
        FAVOURITES, 1),
    Row("`ls -l` of a study list", list_directory, f"{STUDY}/exams", f"{STUDY}/exams", 1),
    Row("`ls -l` of an exam", list_directory, EXAM, EXAM, 1),
    Row("`ls -l` of a series", list_directory, f"{EXAM}/T1w 3D TFE", f"{EXAM}/T1w 3D TFE", 1),
    Row("`ls -l` of a dataset of 176 files", list_directory, SLICES),
    Row("`ls -l` of the patients", list_directory, "patients", "patients", 1),
    Row("`ls -l` of a patient", list_directory, "patients/Erika Muster", "patients/Erika Muster", 1),
    Row("`find` over an exam, everything below it", find, EXAM, EXAM, 1),
    Row("`stat` of a file eight levels deep, just mounted", Path.stat, f"{SLICES}/IM_0004", EVERYTHING, 3),
    Row("`stat` of a name that does not exist, directory listed", look_up_missing, f"{STUDY}/exams"),
    Row("names that desktops probe for, directory listed", probe, f"{STUDY}/exams"),
    Row("`getfattr -d`", show_attributes, EXAM),
    Row("`readlink`", os.readlink, f"{FAVOURITES}/Brain, volunteer"),
    Row("following a link to an exam", Path.stat, f"{FAVOURITES}/Brain, volunteer", WHERE_OBJECTS_ARE),
    Row("following a link to a folder", Path.stat, f"{FAVOURITES}/Derived", WHERE_OBJECTS_ARE, 1),
    Row("following a link to a series", Path.stat, f"{FAVOURITES}/T1w 3D TFE", WHERE_OBJECTS_ARE, 1),
    Row("following a link to a file", Path.stat, f"{FAVOURITES}/brain_4d.nii", WHERE_OBJECTS_ARE, 3),
    Row("`df`", os.statvfs, ""),
    Row("`cat .agora/path`", read_whole, f"{EXAM}/.agora/path"),
    Row("`cat .agora/info.json`", read_whole, f"{EXAM}/.agora/info.json", EXAM, 1),
    Row("reading a file of up to 4 MiB", read_whole, f"{STUDY}/folders/Derived/MINC/small.mnc", None, 1),
    Row("reading a series of 176 files", read_all_inside, SLICES, None, 176),
    Row("the first 4 KiB of a file of 1 GiB", read_at(0, 4 * KIB), f"{LARGE}/read", None, 1, 0, 2 * MIB),
    Row("the first 128 KiB of it", read_at(0, 128 * KIB), f"{LARGE}/read-128", None, 2, 0, 2 * MIB),
    Row("its first page through `mmap`", read_mapped, f"{LARGE}/map", None, 2, 0, 2 * MIB),
    Row("its last 4 KiB", read_at(GIB - 4 * KIB, 4 * KIB), f"{LARGE}/tail", None, 2, 0, 2 * MIB),
    Row("4 KiB in its middle", read_at(GIB // 2, 4 * KIB), f"{LARGE}/middle", None, 2, 0, 2 * MIB),
    Row("`rsync -an` of what is up to date", resync, EXAM),
    Row("`getfattr -n user.agora.tags` of all that is in an exam", read_attribute_of_all("user.agora.tags"), EXAM,
        WHERE_OBJECTS_ARE, 2),
    Row("`getfattr -n user.agora.rating` of one object", read_attribute("user.agora.rating"), f"{EXAM}/Survey",
        WHERE_OBJECTS_ARE, 1),
    Row("`getfattr -n user.agora.param.EchoTime` of an object with two sets of parameters",
        read_attribute("user.agora.param.EchoTime"), f"{EXAM}/T1w 3D TFE", WHERE_OBJECTS_ARE, 3),
    Row("`setfattr -n user.agora.rating -v 3`", set_attribute("user.agora.rating", b"3"), f"{EXAM}/Survey",
        WHERE_OBJECTS_ARE, 2, 2),
    Row("`setfattr -n user.agora.tag.good -v 1`; again, when it has the tag",
        set_attribute("user.agora.tag.good", b"1"), f"{EXAM}/Survey", WHERE_OBJECTS_ARE, 3, 1),
    Row("`echo 'rate Survey 4' > .agora/control`", command("rate Survey 4\n"), EXAM, WHERE_OBJECTS_ARE, 2, 2),
    Row("a command that is refused", refused_command("rate Survey 7\n"), EXAM),
    Row("`ls -l` of the tags of a project", list_directory, f"{STUDY}/tags", STUDY, 1),
    Row("`ls -l` of a tag of a project", list_directory, f"{STUDY}/tags/good", f"{STUDY}/tags/good", 6),
    Row("`ls -l` of a tag across all projects", list_directory, "tags/good", "tags/good", 7),
    Row("`ls -l` of the tasks of a project", list_directory, f"{STUDY}/tasks", STUDY, 2),
    Row("`cat tasks/TASK/definition.json`, listed", read_whole, f"{STUDY}/tasks/Checksum/definition.json"),
    Row("`ls -l` of a project's trash", list_directory, f"{STUDY}/trash", f"{STUDY}/trash", 1),
    Row("`ls -l search/TEXT`", list_directory, "search/brain", EVERYTHING, 1),
)  # fmt: skip


@pytest.fixture(scope="module")
def server(demo_data, tmp_path_factory) -> Iterator[SandboxProcess]:
    """The demo with files of 1 GiB beside it, which are holes on the disk."""
    directory = Path(tmp_path_factory.mktemp("budget"))
    shutil.copytree(demo_data, directory / "data")
    hole = directory / "hole"
    store = Store(directory / "data")
    with store.snapshot() as db:
        project = db.execute("SELECT root_folder FROM project WHERE name = 'Phantom QA'").fetchone()
    (folder,) = bulk.add_folders(store, project["root_folder"], ["large"])
    for number, name in enumerate(PEEKS):
        with hole.open("wb") as file:
            file.truncate(GIB)
        # Each a content of its own; nobody reads these files to the end, so nobody checks the sum.
        bulk.adopt_file(store, folder, name, hole, hashlib.sha1(str(number).encode()).hexdigest())
        hole.unlink()
    store.close()
    with SandboxProcess(directory / "data") as process:
        yield process


@pytest.fixture(scope="module")
def meter(server, tmp_path_factory) -> Iterator[Meter]:
    home = Path(tmp_path_factory.mktemp("meter"))
    with Mount(server.url, server.api_key, home, "listing_ttl_s=3600") as mount:
        find(mount.path)
        yield Meter(server, mount)


@pytest.fixture(scope="module")
def measured(server, meter, tmp_path_factory) -> dict[str, tuple[Price, Price]]:
    """The price of each row, cold and warm."""
    prices = {}
    for row in ROWS:
        with contextlib.ExitStack() as stack:
            here = meter
            if row.forget == EVERYTHING:
                home = Path(tmp_path_factory.mktemp("new"))
                here = Meter(server, stack.enter_context(Mount(server.url, server.api_key, home)))
            else:
                find(meter.mount.path)  # all directories, which the row before may have made unknown
                if row.forget is not None:
                    meter.forget(row.forget)
            prices[row.name] = (here.price(row.operation, row.path), here.price(row.operation, row.path))
    return prices


# -- tests -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_an_operation_costs_at_most_what_is_promised(row, measured):
    cold, warm = measured[row.name]
    assert cold.requests <= row.max_cold
    assert warm.requests <= row.max_warm
    assert row.max_bytes is None or cold.sent_bytes < row.max_bytes


def test_the_readme_prints_what_is_measured(measured):
    lines = ["| operation | requests, cold | warm |", "| --- | --- | --- |"]
    for row in ROWS:
        cold, warm = measured[row.name]
        size = f" ({-(-cold.sent_bytes // KIB)} KiB)" if row.max_bytes is not None else ""
        lines.append(f"| {row.name} | {cold.requests}{size} | {warm.requests} |")
    table = "".join(f"{line}\n" for line in lines)
    before, rest = README.read_text().split(BEGIN)
    printed, after = rest.split(END)
    if os.environ.get("AGORAFS_WRITE_README") == "1":
        README.write_text(before + BEGIN + table + END + after)
        printed = table
    assert printed == table


def most_requests(path: str) -> int:
    """What listing a directory may cost; only the views ask more than one question."""
    match path.split("/"):
        case ["tasks"]:
            return 2 * 3  # the demo has three projects
        case ["projects", _, "tasks"]:
            return 2
        case ["tags", _]:
            return 7  # the tags, who has them, and once for each of five kinds
        case ["projects", _, "tags", _]:
            return 6
    return 1


def test_a_listing_of_any_directory_costs_one_request_and_then_none(meter):
    """A listing costs at most one request, but for tags and tasks, and none while it is fresh."""
    directories = [path for path, _, _ in os.walk(meter.mount.path)]
    assert len(directories) > 150
    fetched = 0
    for directory in directories:
        path = os.path.relpath(directory, meter.mount.path)
        meter.forget("" if path == "." else path)
        if path != ".":
            (meter.mount.path / path).stat()
        price = meter.price(list_directory, path)
        assert price.requests <= most_requests(path), path
        assert meter.price(list_directory, path).requests == 0, path
        fetched += price.requests
    assert fetched > 90  # else the directories were not made unknown


def test_a_deep_path_costs_at_most_one_request_per_level_that_is_not_known(server, tmp_path):
    paths = (
        f"{STUDY}/folders/Documents/analysis/logs/segmentation.log",
        f"{SLICES}/IM_0100",
        "projects/Phantom QA/exams/Monthly phantom/Localizer (E1)/Bruker raw data/phantom_M17/1/acqp",
        "projects/My Agora/patients/Peter Doe/Carotids",
        "patients/Archibald Doe/CT, HEAD∕BRAIN WO CONTRAST",
    )
    with Mount(server.url, server.api_key, tmp_path, "listing_ttl_s=3600") as mount:
        meter = Meter(server, mount)
        for path in paths:  # in branches of their own; what they share is known after the first
            assert 0 < meter.price(Path.lstat, path).requests <= path.count("/")
            assert meter.price(Path.lstat, path).requests == 0


def test_content_that_is_in_the_cache_costs_nothing_not_even_after_a_new_mount(server, tmp_path):
    """Content is addressed by SHA-1: copies, links and new mounts never download it twice."""
    file = f"{STUDY}/folders/Derived/NIfTI/brain_4d.nii"
    linked = f"{FAVOURITES}/brain_4d.nii"
    with Mount(server.url, server.api_key, tmp_path, "listing_ttl_s=3600") as mount:
        read_whole(mount.path / file)
    with Mount(server.url, server.api_key, tmp_path, "listing_ttl_s=3600") as mount:
        meter = Meter(server, mount)
        (mount.path / file).stat()
        assert meter.price(read_whole, file).requests == 0
        (mount.path / linked).stat()
        assert meter.price(read_whole, linked).requests == 0


def test_nothing_but_reading_transfers_content(server, tmp_path):
    """Walking, attributes and links never open a file on the server."""
    with Mount(server.url, server.api_key, tmp_path) as mount:
        server.reset_requests()
        find(mount.path)
        for directory, _, names in os.walk(mount.path):
            for name in names:
                show_attributes(Path(directory, name))
        assert not [request for request in server.requests() if "download" in request["path"]]
