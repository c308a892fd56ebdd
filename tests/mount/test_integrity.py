"""Every byte that comes out of a mount is the right one, whatever the server, the network, the disk or the user do.

The demo's files are read in all ways at once and compared with the server's own copies. Then faults are injected
into downloads: each read must give the right bytes or an error, never wrong, never short, never zeros.
"""

from __future__ import annotations

import errno
import os
import random
import select
import shutil
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from agorafs.cache.content import ContentLimits
from tests.support.reading import (
    MountedFile,
    forget_pages,
    in_threads,
    mounted_files,
    named,
    read_mapped,
    read_pieces,
    read_whole,
    sample,
)
from tests.support.sandbox import SandboxProcess

THREADS = 16
PATIENCE_S = 60
SMALL = "whole_file_bytes=4MiB"  # the default: all but one file of the demo are fetched whole
RANGED = "whole_file_bytes=64KiB"  # most bytes of the demo come by ranges
LARGE_FILE = "brain_4d.nii"  # 11 MB, ranged in any case
BLOCK_BYTES = ContentLimits().block_bytes


def downloads(server: SandboxProcess) -> list[str]:
    """Return the paths of the downloads since the last reset."""
    return [one["path"] for one in server.requests() if "/download" in one["path"]]


@pytest.fixture(scope="module")
def faulty(demo_data, tmp_path_factory):
    """A server of this module alone, whose downloads fail or know no ranges while a test wants it."""
    data = Path(tmp_path_factory.mktemp("faulty")) / "data"
    shutil.copytree(demo_data, data)
    with SandboxProcess(data) as server:
        yield server


@pytest.mark.parametrize("whole_file_bytes", [SMALL, RANGED])
@pytest.mark.parametrize("ranges", ["on", "off"])
class TestEveryDatafile:
    """All 300 and some datafiles of the demo, with and without ranges, fetched whole and in ranges."""

    @pytest.fixture
    def server(self, faulty, ranges) -> Iterator[SandboxProcess]:
        faulty.switch(ranges=ranges)
        yield faulty
        faulty.switch(ranges="on")

    def test_reads_whole_as_recorded_cold_and_without_a_download_after_a_new_mount(
        self, server, mount, whole_file_bytes
    ):
        mounted = mount(server, whole_file_bytes)
        files = mounted_files(server, mounted.path)
        assert named(map(read_whole, files)) == {"right"}

        mounted.umount()
        server.reset_requests()
        mounted.mount()
        files = mounted_files(server, mounted.path)
        assert named(map(read_whole, files)) == {"right"}
        assert named(map(read_mapped, files)) == {"right"}
        assert downloads(server) == []

    def test_reads_right_in_random_pieces_and_in_16_threads_at_once(self, server, mount, whole_file_bytes):
        files = mounted_files(server, mount(server, whole_file_bytes).path)
        for seed, file in enumerate(files[::2]):
            assert read_pieces(file, seed, 8) == 0
        jobs = [partial(read_everything, files, seed) for seed in range(THREADS)]
        assert in_threads(jobs, PATIENCE_S) == [0] * THREADS


def read_everything(files: list[MountedFile], seed: int) -> int:
    """Read half of *files* in an order and in ways that depend on *seed*; return 0 or the last errno."""
    order = random.Random(seed)
    failed = 0
    for file in order.sample(files, len(files) // 2):
        way = order.choice((read_whole, read_mapped, partial(read_pieces, seed=seed, count=5)))
        failed = way(file) or failed
    return failed


# -- faults in downloads -------------------------------------------------------------------------------

# fault, errno of a whole read that meets it every time (0: the bytes come all the same)
FAULTS = (
    ("truncate", errno.EIO),
    ("slow-body=0.002", 0),
    ("reset", errno.EIO),
    ("reset-body", errno.EIO),
    ("status=500", errno.EIO),
    ("status=503", errno.EIO),
    ("status=429/1", errno.EIO),
    ("status=404", errno.ESTALE),
    ("status=403", errno.EACCES),
    ("redirect", errno.EIO),
    ("html", errno.EIO),
    ("json-garbage", errno.EIO),
    ("hang", errno.ETIMEDOUT),
)


@pytest.mark.parametrize(("fault", "error"), FAULTS, ids=[fault for fault, _ in FAULTS])
def test_a_download_that_fails_gives_the_right_bytes_or_an_error(faulty, mount, fault, error):
    """A read returns bytes of the version that was opened, or an error; never zeros, never a mix, never a short file.

    … in whole reads and pieces, of small and ranged files; and all is right again when the fault is gone.
    """
    mounts = [mount(faulty, "deadline_s=1", option) for option in (SMALL, RANGED)]
    chosen = [sample(mounted_files(faulty, one.path), 8) for one in mounts]
    files = [file for some in chosen for file in some]
    try:
        faulty.switch(fault=f"{fault}:/download:*")
        outcomes = in_threads([partial(read_whole, file) for file in files], PATIENCE_S)
        expected = {file.path: 0 if file.size == 0 else error for file in files}
        assert {file.path: outcome for file, outcome in zip(files, outcomes, strict=True)} == expected

        faulty.switch(fault=f"{fault}:/download:every-3")
        jobs = [partial(read_whole, file) for file in files]
        jobs += [partial(read_pieces, file, seed, 4) for seed, file in enumerate(files)]
        assert set(in_threads(jobs, PATIENCE_S)) <= {0, error}
    finally:
        faulty.switch(fault="")
    assert all_right(files)


def all_right(files: list[MountedFile]) -> bool:
    """Tell whether every way of reading gives the right bytes, from the mount and from the kernel's pages."""
    jobs = [partial(read_whole, file) for file in files]
    jobs += [partial(read_pieces, file, seed, 8) for seed, file in enumerate(files)]
    jobs += [partial(read_mapped, file) for file in files]
    return named(in_threads(jobs, PATIENCE_S)) == {"right"}


@pytest.mark.parametrize("always", [True, False], ids=["always", "every-3"])
def test_a_wrong_byte_in_a_small_file_is_never_delivered(faulty, mount, always):
    """A file of up to 4 MiB is checked against its SHA-1 before its first byte is delivered, a larger one before its
    last.

    … not in a whole read, not in a piece: its SHA-1 is checked before the first byte goes out.
    """
    files = sample(mounted_files(faulty, mount(faulty).path), 20)
    assert files.pop().path.name == LARGE_FILE
    try:
        faulty.switch(fault=f"wrong-bytes:/download:{'*' if always else 'every-3'}")
        jobs = [partial(read_whole, file) for file in files]
        jobs += [partial(read_pieces, file, seed, 4) for seed, file in enumerate(files)]
        outcomes = set(in_threads(jobs, PATIENCE_S))
    finally:
        faulty.switch(fault="")
    assert outcomes <= {0, errno.EIO}
    assert (errno.EIO in outcomes) or not always
    assert all_right(files)


def test_not_even_the_first_piece_of_a_small_file_goes_out_before_all_of_it_is_checked(faulty, mount):
    """A file of up to 4 MiB is checked against its SHA-1 before its first byte is delivered, a larger one before its
    last.

    … also where it has several blocks, of which the first could be delivered long before the last has come.
    """
    files = [file for file in mounted_files(faulty, mount(faulty).path) if file.size > BLOCK_BYTES]
    files = [file for file in files if file.path.name != LARGE_FILE]
    assert len({file.sha1 for file in files}) >= 3
    for file in files:
        try:
            faulty.switch(fault="wrong-bytes:/download:*")
            with file.path.open("rb", buffering=0) as stream, pytest.raises(OSError) as caught:
                stream.read(BLOCK_BYTES * 3 // 4)
            assert caught.value.errno == errno.EIO
        finally:
            faulty.switch(fault="")
    assert all_right(files)


def test_a_wrong_byte_in_a_large_file_ends_its_reading_with_an_error(faulty, mount):
    """A file of up to 4 MiB is checked against its SHA-1 before its first byte is delivered, a larger one before its
    last.

    No reader gets to the end of it; whoever reads it again, when the server is well, gets the right bytes.

    The bytes before the last can go out before the SHA-1 of the whole is known: that is a limit, and stated.
    """
    mounted = mount(faulty, RANGED)
    files = [file for file in mounted_files(faulty, mounted.path) if file.size > 256 * 1024]
    assert LARGE_FILE in {file.path.name for file in files}
    for file in files:
        try:
            faulty.switch(fault="wrong-bytes:/download:1")
            with file.path.open("rb", buffering=0) as stream:
                with pytest.raises(OSError) as caught:
                    while stream.read(100_000):
                        pass
                assert (caught.value.errno, stream.tell() < file.size) == (errno.EIO, True)
        finally:
            faulty.switch(fault="")
    assert all_right(files)
    assert mounted.status()["status"]["content"]["integrity_failures"] >= len({file.sha1 for file in files})


# -- crashes and damage --------------------------------------------------------------------------------


def test_after_kill_9_in_the_middle_of_a_read_the_next_mount_clears_the_place_and_uses_the_cache(
    private_demo, mount
):
    """What the cache holds survives `kill -9`, and damage to it is noticed and repaired."""
    mounted = mount(private_demo)
    files = mounted_files(private_demo, mounted.path)
    assert named(map(read_whole, files[::2])) == {"right"}
    large = next(file for file in files if file.path.name == LARGE_FILE)
    forget_pages([large])
    private_demo.switch(fault="slow-body=0.1:/download:*")
    pid = mounted.pid()
    with large.path.open("rb", buffering=0) as stream:
        assert stream.read(1 << 20) == large.content[: 1 << 20]
        kill(pid)
        with pytest.raises(OSError) as caught:
            while stream.read(1 << 20):
                pass
    assert caught.value.errno in (errno.ENOTCONN, errno.ECONNABORTED)
    private_demo.switch(fault="")

    again = mounted.try_mount()
    assert (again.returncode, "clearing the mount that a crash left" in again.stderr) == (0, True)
    private_demo.reset_requests()
    assert named(map(read_whole, files[::2])) == {"right"}
    cached = [file for file in files[::2] if file is not large]
    assert len(downloads(private_demo)) < len(cached) / 10, "the cache was lost"
    assert private_demo.bytes_sent() < large.size, "what had come of the large file was lost"
    assert all_right(files)


def kill(pid: int) -> None:
    """End a process that has no time to do anything, and wait until it is gone."""
    process = os.pidfd_open(pid)
    try:
        os.kill(pid, signal.SIGKILL)
        assert select.select([process], [], [], PATIENCE_S)[0]
    finally:
        os.close(process)


@pytest.mark.parametrize("mounted_meanwhile", [True, False], ids=["while mounted", "while not mounted"])
def test_damage_to_the_cache_on_disk_is_noticed_and_repaired(private_demo, mount, mounted_meanwhile):
    """What the cache holds survives `kill -9`, and damage to it is noticed and repaired."""
    mounted = mount(private_demo, RANGED)
    files = mounted_files(private_demo, mounted.path)
    assert named(map(read_whole, files)) == {"right"}
    held = []
    if mounted_meanwhile:
        held = [os.open(file.path, os.O_RDONLY) for file in sample(files, 10)]
    else:
        mounted.umount()
    try:
        damaged = damage(mounted.home / "cache", seed=1)
        assert damaged > 250
        if not mounted_meanwhile:
            mounted.mount()
        forget_pages(files)
        jobs = [partial(read_everything, files, seed) for seed in range(4)]
        assert in_threads(jobs, PATIENCE_S) == [0] * 4
        assert all_right(files)
    finally:
        for descriptor in held:
            os.close(descriptor)


def damage(directory: Path, seed: int) -> int:
    """Spoil every file below *directory* in one of five ways; return how many there were."""
    choices = random.Random(seed)
    paths = [path for path in sorted(directory.rglob("*")) if path.is_file() and path.stat().st_size]
    for path in paths:
        size = path.stat().st_size
        way = choices.randrange(5)
        with path.open("r+b") as stream:
            if way == 0:
                stream.truncate(choices.randrange(size))
            elif way == 1:
                stream.truncate(0)
            elif way == 2:
                stream.write(choices.randbytes(size))
            elif way == 3:  # zeros, as after a power cut
                stream.seek(choices.randrange(size))
                stream.write(bytes(8192))
            else:
                place = choices.randrange(size)
                stream.seek(place)
                byte = stream.read(1)[0]
                stream.seek(place)
                stream.write(bytes([byte ^ 1 << choices.randrange(8)]))
    return len(paths)
