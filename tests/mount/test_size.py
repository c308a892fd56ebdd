"""Large archives: many exams, many entries, large files, long names, many opens.

One server holds all of it, filled directly (``sandbox.bulk``); one mount serves all tests of this module, so what one
of them leaks, the others find: the last test looks at the memory of the whole run.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agorafs.sandbox import accounts, bulk
from agorafs.sandbox.store import Store
from tests.support.mount import Mount
from tests.support.sandbox import SandboxProcess
from tests.support.waiting import eventually

EXAMS, DATASETS = 1000, 100
MANY = 10_000
DISTINCT = 500  # contents among the many files
MIB, GIB = 1 << 20, 1 << 30
HUGE_BYTES = 5 * GIB
# Pieces of the huge file that are no zeros: the ends, around 4 GiB, where 32 bits end, and the middle.
MARKED = (0, 4 * GIB - 1000, HUGE_BYTES // 2 + 1, HUGE_BYTES - 5000)
MARK_BYTES = 5000
MAX_RSS_KIB = 300 * 1024

NAMES = {  # as the server has them
    "a" * 251 + ".txt": "exactly 255 bytes",
    "ü" * 125 + "x.txt": "255 bytes in 130 characters",
    "脳" * 85: "255 bytes in 85 characters",
    "b" * 252 + ".txt": "256 bytes",
    "c" * 296 + ".nii": "300 characters",
    "c" * 297 + ".nii": "301 characters: the same when cut",
    "脳" * 300 + ".dcm": "904 bytes, to be cut between characters",
    "d" * 300: "300 characters without an extension",
    "e." + "f" * 300: "nothing but extension",
}
DEPTH = 20  # folders with names of 255 bytes inside each other: a path of 5 KiB


def marked_byte(offset: int) -> int:
    return 1 + offset % 251


def huge_bytes(offset: int, size: int) -> bytes:
    """Return what the huge file holds at ``[offset, offset + size)``."""
    content = bytearray(max(0, min(size, HUGE_BYTES - offset)))
    for start in MARKED:
        for position in range(max(start, offset), min(start + MARK_BYTES, offset + len(content))):
            content[position - offset] = marked_byte(position)
    return bytes(content)


def many_content(number: int) -> bytes:
    return b"content %d\n" % (number % DISTINCT)


def fill(data: Path, huge: Path) -> None:
    """Make the data directory *data*; *huge* is where the huge file may be made."""
    store = Store(data)
    accounts.ensure_users(store)
    project = bulk.add_project(store, "Large")
    bulk.add_exams(store, project, exams=EXAMS, datasets=DATASETS)
    root = bulk.root_folder(store, project)
    many, names, deep = bulk.add_folders(store, root, ["many", "names", "deep"])
    bulk.add_files(store, many, ((f"file-{number:05d}.dat", many_content(number)) for number in range(MANY)))
    bulk.add_files(store, names, ((name, text.encode()) for name, text in NAMES.items()))
    for _ in range(DEPTH):
        (deep,) = bulk.add_folders(store, deep, ["x" * 255])
    bulk.add_files(store, deep, [("bottom", b"reached")])
    with huge.open("wb") as file:
        file.truncate(HUGE_BYTES)
        for start in MARKED:
            file.seek(start)
            file.write(huge_bytes(start, MARK_BYTES))
    # A sum of its own stands for the right one, which would take seconds: only reading to the end checks it.
    bulk.adopt_file(store, root, "huge.raw", huge, "0123456789abcdef0123456789abcdef01234567")
    store.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[SandboxProcess]:
    directory = Path(tmp_path_factory.mktemp("large"))
    fill(directory / "data", directory / "huge")
    with SandboxProcess(directory / "data") as process:
        yield process


@pytest.fixture(scope="module")
def mounted(server, tmp_path_factory) -> Iterator[Mount]:
    home = Path(tmp_path_factory.mktemp("mount"))
    with Mount(server.url, server.api_key, home, "listing_ttl_s=3600") as mount:
        yield mount


@pytest.fixture(scope="module")
def project(mounted: Mount) -> Path:
    return mounted.path / "projects" / "Large"


def peak_rss_kib(pid: int) -> int:
    """Return the most memory that the process *pid* ever held."""
    (line,) = re.findall(r"^VmHWM:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.M)
    return int(line)


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def open_files(mounted: Mount) -> int:
    return int(mounted.status()["status"]["open_files"])


def threads(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


# -- many --------------------------------------------------------------------------------------------


def test_ten_thousand_entries_are_listed_by_one_request(server, project):
    directory = project / "folders" / "many"
    directory.stat()
    server.reset_requests()
    lines = subprocess.run(
        ["ls", "-l", directory], capture_output=True, text=True, timeout=60, check=True
    ).stdout.splitlines()
    assert server.request_count() == 1
    assert len(lines) == 1 + MANY
    assert len({line.split()[-1] for line in lines[1:]}) == MANY


def test_a_directory_that_is_read_in_pieces_shows_every_name_once(project):
    """The kernel takes a directory of this size in many pieces, and rewinds; each goes on where the last ended."""
    expected = {f"file-{number:05d}.dat" for number in range(MANY)}
    with (
        os.scandir(project / "folders" / "many") as first,
        os.scandir(project / "folders" / "many") as second,
    ):
        started = [next(first).name for _ in range(777)]
        whole = [entry.name for entry in second]  # another reader in the meantime
        names = started + [entry.name for entry in first]
    assert len(names) == len(whole) == MANY
    assert set(names) == set(whole) == expected
    descriptor = os.open(project / "folders" / "many", os.O_RDONLY | os.O_DIRECTORY)
    try:
        for _ in range(2):  # os.scandir rewinds what it is given
            with os.scandir(descriptor) as entries:
                assert {entry.name for entry in entries} == expected
    finally:
        os.close(descriptor)


def test_a_thousand_exams_of_a_hundred_datasets_are_listed_completely(server, mounted, project):
    server.reset_requests()
    found = subprocess.run(
        ["find", project / "exams", "-type", "f", "-printf", "%P %s\n"],
        capture_output=True,
        text=True,
        timeout=200,
        check=True,
    ).stdout.splitlines()
    assert len(found) == EXAMS * DATASETS
    assert set(found) == {
        f"exam-{exam:05d}/series-000/data-{number:03d}.bin {len(str(number)) + 9}"
        for exam in range(EXAMS)
        for number in range(DATASETS)
    }
    assert server.request_count() <= 2 + EXAMS
    server.reset_requests()
    again = subprocess.run(
        ["find", project / "exams", "-type", "f", "-size", "+0", "-printf", "."],
        capture_output=True,
        timeout=100,
        check=True,
    ).stdout
    assert len(again) == EXAMS * DATASETS
    assert server.request_count() == 0


# -- large -------------------------------------------------------------------------------------------


def test_a_file_of_5_gib_is_read_at_both_ends_by_transferring_little(server, mounted, project):
    path = project / "folders" / "huge.raw"
    assert path.stat().st_size == HUGE_BYTES
    server.reset_requests()
    with path.open("rb", buffering=0) as file:
        for offset, size in (
            (0, 4096),
            (HUGE_BYTES - 4096, 10_000),
            (HUGE_BYTES - MARK_BYTES - 10, 20),
            (4 * GIB - 5, 10),
            (4 * GIB - 1500, 7000),
            (HUGE_BYTES // 2 - 1, MARK_BYTES + 100),
            (HUGE_BYTES, 10),
            (HUGE_BYTES + 1000, 10),
        ):
            assert os.pread(file.fileno(), size, offset) == huge_bytes(offset, size), offset
        assert file.seek(0, os.SEEK_END) == HUGE_BYTES
        with mmap.mmap(file.fileno(), MIB, prot=mmap.PROT_READ, offset=HUGE_BYTES - MIB) as mapped:
            assert mapped[:] == huge_bytes(HUGE_BYTES - MIB, MIB)
    tail = subprocess.run(["tail", "-c", "3000", path], capture_output=True, timeout=60, check=True).stdout
    assert tail == huge_bytes(HUGE_BYTES - 3000, 3000)
    assert server.bytes_sent() < 8 * MIB
    on_disk = sum(
        file.stat().st_blocks * 512 for file in (mounted.home / "cache").rglob("*") if file.is_file()
    )
    assert on_disk < 16 * MIB


# -- long names --------------------------------------------------------------------------------------


def test_names_longer_than_255_bytes_are_cut_and_every_name_leads_to_its_file(project):
    directory = project / "folders" / "names"
    shown = [path.name for path in directory.iterdir()]
    assert len(shown) == len(set(shown)) == len(NAMES)
    texts = {name: (directory / name).read_text() for name in shown}
    assert sorted(texts.values()) == sorted(NAMES.values())
    for name, text in texts.items():
        assert len(os.fsencode(name)) <= 255
        original = next(wanted for wanted, its_text in NAMES.items() if its_text == text)
        if len(original.encode()) <= 255:
            assert name == original
        else:
            assert len(os.fsencode(name)) > 245, name
            assert original.startswith(name[:60])
            suffix = Path(original).suffix
            assert len(suffix) > 10 or name.endswith(suffix)


def test_a_name_of_256_bytes_is_too_long_to_be_asked_for(project):
    with pytest.raises(OSError, match="File name too long"):
        (project / "folders" / "names" / ("x" * 256)).stat()


def test_paths_longer_than_a_program_can_name_at_once_can_be_walked(project):
    descriptor = os.open(project / "folders" / "deep", os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(DEPTH):
        inner = os.open("x" * 255, os.O_RDONLY | os.O_DIRECTORY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = inner
    try:
        file = os.open("bottom", os.O_RDONLY, dir_fd=descriptor)
        try:
            assert os.read(file, 100) == b"reached"
        finally:
            os.close(file)
    finally:
        os.close(descriptor)
    found = subprocess.run(
        ["find", project / "folders" / "deep", "-name", "bottom", "-printf", "%d"],
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert int(found.stdout) == DEPTH + 1


def test_every_name_of_the_demo_can_be_asked_for(demo_mount):
    """Names that are no UTF-8, or look like options, or are cut: what a listing shows can be looked up."""
    seen = 0
    for parent, directories, files in os.walk(os.fsencode(demo_mount.path)):
        with os.scandir(parent) as entries:
            listed = {entry.name: entry.stat(follow_symlinks=False) for entry in entries}
        assert set(listed) == {*directories, *files}
        for name, attributes in listed.items():
            assert len(name) <= 255
            one = os.lstat(os.path.join(parent, name))  # noqa: PTH118 - bytes
            assert (one.st_ino, one.st_size, one.st_mode, one.st_mtime_ns) == (
                attributes.st_ino,
                attributes.st_size,
                attributes.st_mode,
                attributes.st_mtime_ns,
            )
            seen += 1
    assert seen > 500


# -- often -------------------------------------------------------------------------------------------


def test_ten_thousand_opens_leave_no_handle_descriptor_or_thread(mounted, project):
    """Read by four at once and closed, some without having been read, some read after others were closed."""
    pid = mounted.pid()
    directory = project / "folders" / "many"

    def open_and_read(number: int) -> None:
        with (directory / f"file-{number:05d}.dat").open("rb", buffering=0) as file:
            if number % 10:
                assert file.read() == many_content(number)

    def is_quiet() -> bool:
        # The kernel tells of a close when it gets round to it.
        return open_files(mounted) == 0

    with ThreadPoolExecutor(4) as readers:
        list(readers.map(open_and_read, range(DISTINCT)))
        eventually(is_quiet, within_s=30)
        descriptors_before, threads_before = descriptors(pid), threads(pid)
        list(readers.map(open_and_read, range(MANY)))
    eventually(is_quiet, within_s=30)
    assert mounted.status()["status"]["content"]["open_handles"] == 0
    # libfuse and the cache keep a few threads and connections at hand; their number has nothing to do with ours.
    assert descriptors(pid) <= descriptors_before + 10
    assert threads(pid) <= threads_before + 16


def test_hundreds_of_open_files_need_fewer_descriptors_than_there_are_files(mounted, project):
    pid = mounted.pid()
    directory = project / "folders" / "many"
    with contextlib.ExitStack() as stack:
        opened = [
            (number, stack.enter_context((directory / f"file-{number:05d}.dat").open("rb", buffering=0)))
            for number in range(DISTINCT)
        ]
        for number, file in opened:
            assert file.read() == many_content(number)
        assert open_files(mounted) >= DISTINCT
        assert descriptors(pid) < 400
        for number, file in reversed(opened):
            assert os.pread(file.fileno(), 100, 3) == many_content(number)[3:]
    eventually(lambda: open_files(mounted) == 0, within_s=30)


def test_memory_stays_below_300_mib_through_all_of_this(mounted):
    assert peak_rss_kib(mounted.pid()) < MAX_RSS_KIB
