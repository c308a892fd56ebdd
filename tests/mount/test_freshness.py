"""What others do on the server is seen through a mount: after a time, or at once when asked for.

Another user changes the archive through its API. Time passes only where the kernel's own second has to pass; there
the test waits for the condition. Everywhere else listings are believed for an hour, so that what is seen at once is
seen because of ``agorafs refresh`` or because the mount noticed.
"""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.mount import Mount
from tests.support.sandbox import SandboxProcess
from tests.support.waiting import eventually

HOUR = "listing_ttl_s=3600"
SHORT_TTL_S = 0.2
SHORT = f"listing_ttl_s={SHORT_TTL_S}"
KERNEL_TTL_S = 1.0
SLACK_S = 5.0  # for a loaded machine
_NUMBERS = itertools.count()

KIB, MIB = 1 << 10, 1 << 20
SMALL = 100 * KIB
LARGE = 9 * MIB  # above whole_file_bytes: read in ranges


@dataclass(frozen=True, slots=True)
class Shared:
    """A folder of a project in which the user who mounts and somebody else work."""

    server: SandboxProcess
    project: str
    root: int

    def upload(self, **files: bytes) -> dict[str, int]:
        """Import files into the folder; return their datasets by name."""
        result = self.server.upload(files, folder=self.root)
        assert result["state"] == 5
        return {one["path"]: one["dataset"] for one in result["datafiles"]}

    def datafile(self, dataset: int) -> int:
        (number,) = [one["id"] for one in self.server.datafiles() if one["dataset"] == dataset]
        return int(number)

    def delete(self, dataset: int) -> None:
        assert self.server.api("DELETE", f"v1/dataset/{dataset}/").status_code < 300

    def at(self, mounted: Mount) -> Path:
        return mounted.path / "projects" / self.project / "folders"


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[SandboxProcess]:
    """A server of this module alone; each test works in a project of its own."""
    with SandboxProcess(Path(tmp_path_factory.mktemp("fresh")) / "data") as one:
        yield one


@pytest.fixture
def shared(server) -> Shared:
    project = server.post("v2/project/", {"name": f"shared {next(_NUMBERS)}"})
    return Shared(server, project["name"], project["root_folder"])


def content(size: int, letter: bytes) -> bytes:
    """Return bytes of which every 16 say where they belong and to which version."""
    return b"".join(letter + b"%015d" % offset for offset in range(0, size, 16))[:size]


def names(directory: Path) -> list[str]:
    return sorted(os.listdir(directory))  # noqa: PTH208 - names are what is compared


def errno_of_reading(descriptor: int, offset: int, version: bytes) -> int:
    """Return the errno of a read of 4 KiB at *offset*, or 0 when it gives the bytes of *version*."""
    try:
        piece = os.pread(descriptor, 4096, offset)
    except OSError as error:
        assert error.errno is not None
        return error.errno
    assert piece == version[offset : offset + 4096], "bytes of another version, or too few"
    return 0


def test_what_others_add_and_remove_appears_after_the_ttl(server, shared, mount):
    """What others change appears when the listing expires, and at once after `agorafs refresh PATH`."""
    datasets = shared.upload(**{"first.txt": b"1"})
    directory = shared.at(mount(server, SHORT))
    assert names(directory) == ["first.txt"]
    shared.upload(**{"second.txt": b"22"})
    eventually(lambda: names(directory) == ["first.txt", "second.txt"], SHORT_TTL_S + KERNEL_TTL_S + SLACK_S)
    assert (directory / "second.txt").read_bytes() == b"22"
    shared.delete(datasets["first.txt"])
    eventually(lambda: names(directory) == ["second.txt"], SHORT_TTL_S + KERNEL_TTL_S + SLACK_S)


def test_a_refresh_shows_at_once_what_was_added_renamed_and_removed(server, shared, mount):
    """… also a name that was looked up before, when it did not exist."""
    datasets = shared.upload(**{"gone.txt": b"1", "kept.txt": b"2", "sub/below.txt": b"3"})
    mounted = mount(server, HOUR)
    directory = shared.at(mounted)
    assert names(directory) == ["gone.txt", "kept.txt", "sub"]
    assert not (directory / "new.txt").exists()
    assert names(directory / "sub") == ["below.txt"]

    (sub,) = [
        one["object_id"]
        for one in server.get(f"v1/folder/{shared.root}/items/")
        if one["content_type"] == "folder"
    ]
    shared.upload(**{"new.txt": b"new"})
    shared.delete(datasets["gone.txt"])
    server.post(f"v1/folder/{shared.root}/new/", {"name": "fresh"})
    assert server.api("PUT", f"v2/folder/{sub}/", json={"name": "renamed"}).status_code == 200
    assert names(directory) == ["gone.txt", "kept.txt", "sub"], "the listing is believed for an hour"

    mounted.refresh(directory)
    assert (directory / "new.txt").read_bytes() == b"new"
    assert not (directory / "gone.txt").exists()
    assert names(directory) == ["fresh", "kept.txt", "new.txt", "renamed"]
    assert names(directory / "renamed") == ["below.txt"]
    assert names(directory / "fresh") == []


def test_a_refresh_of_what_is_gone_says_so_and_it_is_gone_at_once(server, shared, mount):
    datasets = shared.upload(**{"gone.txt": b"1"})
    mounted = mount(server, HOUR)
    path = shared.at(mounted) / "gone.txt"
    assert path.stat().st_size == 1
    shared.delete(datasets["gone.txt"])
    done = mounted.run("refresh", path)
    assert done.returncode != 0 and "gone.txt" in done.stderr
    assert not path.exists()


def test_a_refresh_of_a_directory_reaches_all_below_it_and_one_of_a_file_that_file(server, shared, mount):
    datasets = shared.upload(**{"a.txt": b"a", "sub/b.txt": b"b"})
    mounted = mount(server, HOUR)
    directory = shared.at(mounted)
    assert (directory / "a.txt").stat().st_size == (directory / "sub/b.txt").stat().st_size == 1
    for name in ("a.txt", "sub/b.txt"):
        server.replace_content(shared.datafile(datasets[name]), b"longer")
    mounted.refresh(directory / "a.txt")
    assert ((directory / "a.txt").stat().st_size, (directory / "sub/b.txt").stat().st_size) == (6, 1)
    mounted.refresh(mounted.path)
    assert (directory / "sub/b.txt").stat().st_size == 6
    assert (directory / "sub/b.txt").read_bytes() == (directory / "a.txt").read_bytes() == b"longer"


def test_size_and_time_follow_a_change_within_a_second_of_the_ttl(server, shared, mount):
    datasets = shared.upload(**{"x.bin": content(SMALL, b"a")})
    path = shared.at(mount(server, SHORT)) / "x.bin"
    before = path.stat()
    assert before.st_size == SMALL
    server.replace_content(shared.datafile(datasets["x.bin"]), content(SMALL + 5, b"b"))
    eventually(lambda: path.stat().st_size == SMALL + 5, SHORT_TTL_S + KERNEL_TTL_S + SLACK_S)
    assert path.stat().st_mtime_ns > before.st_mtime_ns
    assert path.stat().st_ino == before.st_ino
    assert path.read_bytes() == content(SMALL + 5, b"b")


@pytest.mark.parametrize("ranges", ["on", "off"])
@pytest.mark.parametrize("change", [0, 1000, -1000], ids=["same size", "longer", "shorter"])
@pytest.mark.parametrize("size", [SMALL, LARGE], ids=["small", "large"])
def test_a_file_that_changes_under_an_open_handle_is_stale_and_new_when_opened_again(
    server, shared, mount, size, change, ranges
):
    """Once a file has changed or vanished on the server, an open handle that needs more of it gets ESTALE.

    What it has got before was of the old version, whole; whoever opens the file again gets the new one at once.
    """
    server.switch(ranges=ranges)
    try:
        old, new = content(size, b"a"), content(size + change, b"b")
        datasets = shared.upload(**{"x.bin": old})
        path = shared.at(mount(server, HOUR)) / "x.bin"
        descriptor = os.open(path, os.O_RDONLY)
        try:
            if size == LARGE and ranges == "on":
                assert os.pread(descriptor, 4096, 0) == old[:4096]
            server.replace_content(shared.datafile(datasets["x.bin"]), new)
            assert errno_of_reading(descriptor, size - 5000, old) == errno.ESTALE
            # the kernel may have this page of the old version yet, and look for a new one within a second
            assert errno_of_reading(descriptor, 0, old) in (0, errno.ESTALE)
            assert path.read_bytes() == new
            assert path.stat().st_size == len(new)
            assert errno_of_reading(descriptor, 0, old) == errno.ESTALE
        finally:
            os.close(descriptor)
        assert path.read_bytes() == new
    finally:
        server.switch(ranges="on")


@pytest.mark.parametrize("size", [SMALL, LARGE], ids=["small", "large"])
def test_a_file_that_vanishes_under_an_open_handle_is_stale_and_no_longer_listed(server, shared, mount, size):
    old = content(size, b"a")
    datasets = shared.upload(**{"x.bin": old, "other": b"!"})
    directory = shared.at(mount(server, HOUR))
    descriptor = os.open(directory / "x.bin", os.O_RDONLY)
    try:
        shared.delete(datasets["x.bin"])
        assert errno_of_reading(descriptor, size - 5000, old) == errno.ESTALE
        assert names(directory) == ["other"]
        eventually(lambda: not (directory / "x.bin").exists(), KERNEL_TTL_S + SLACK_S)
    finally:
        os.close(descriptor)


def test_a_handle_of_a_file_in_the_cache_reads_its_version_to_the_end_until_the_change_is_known(
    server, shared, mount
):
    old, new = content(SMALL, b"a"), content(SMALL, b"b")
    datasets = shared.upload(**{"x.bin": old})
    mounted = mount(server, HOUR)
    path = shared.at(mounted) / "x.bin"
    assert path.read_bytes() == old
    with path.open("rb") as stream:
        server.replace_content(shared.datafile(datasets["x.bin"]), new)
        assert stream.read() == old
        mounted.refresh(path)
        assert path.read_bytes() == new
        stream.seek(0)
        with pytest.raises(OSError) as caught:
            stream.read()
        assert caught.value.errno == errno.ESTALE
