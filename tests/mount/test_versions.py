"""A file that is replaced again and again while it is read: one version, whole, or an error."""

from __future__ import annotations

import errno
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.support.changing_mount import PATH, SIZES

READS = 600  # at least, and of these
WHOLE_READS = 150  # how many more it takes depends on how fast the machine is beside the changes
PATIENCE_S = 60.0


@pytest.fixture
def changing_file(tmp_path):
    mountpoint = tmp_path / "mnt"
    mountpoint.mkdir()
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.changing_mount", mountpoint, tmp_path / "cache"],
            cwd=Path(__file__).parents[2],
            stdout=subprocess.PIPE,
            stderr=log,
        )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"ready\n", (tmp_path / "log").read_text()
        yield mountpoint / PATH
    finally:
        subprocess.run(["fusermount3", "-uz", mountpoint], capture_output=True, check=False)
        try:
            process.wait(20)
        finally:
            process.kill()
            process.stdout.close()


def read_in_pieces(path: Path, choices: random.Random) -> bytes:
    """Read *path* with one handle, sometimes slowly, as programs do."""
    content = bytearray()
    descriptor = os.open(path, os.O_RDONLY)
    try:
        while piece := os.read(descriptor, choices.choice([4096, 10_000, 65_536, 400_000])):
            content += piece
            if choices.random() < 0.1:
                time.sleep(choices.random() * 0.05)  # lets versions change under the handle
    finally:
        os.close(descriptor)
    return bytes(content)


def test_no_handle_ever_sees_two_versions_nor_ends_early(changing_file):
    """Once a file has changed or vanished on the server, an open handle that needs more of it gets ESTALE.

    Readers race with each other, with ``stat`` and with listings, which tell the kernel new sizes.

    Before the rules of ``vfs.handles`` held, one read in twenty was cut at another version's size or mixed two.
    """
    outcomes: Counter[str] = Counter()
    wrong: list[tuple[int, set[int]]] = []
    lock = threading.Lock()
    deadline = time.monotonic() + PATIENCE_S

    def is_done() -> bool:
        enough = outcomes["whole"] + outcomes["stale"] >= READS and outcomes["whole"] >= WHOLE_READS
        return enough or time.monotonic() > deadline

    def read(seed: int) -> None:
        choices = random.Random(seed)
        while not is_done():
            try:
                content = read_in_pieces(changing_file, choices)
                is_whole = len(set(content)) == 1 and SIZES.get(content[0]) == len(content)
                outcome = "whole" if is_whole else "wrong"
            except OSError as error:
                outcome = "stale" if error.errno == errno.ESTALE else f"errno {error.errno}"
            with lock:
                outcomes[outcome] += 1
                if outcome == "wrong":
                    wrong.append((len(content), set(content)))

    def look() -> None:
        while not is_done():
            assert changing_file.stat().st_size in SIZES.values()
            for entry in os.scandir(changing_file.parent):
                entry.stat()

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(6)]
    threads += [threading.Thread(target=look) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S + 10)
    assert wrong == []
    assert set(outcomes) <= {"whole", "stale"}
    assert outcomes["whole"] >= WHOLE_READS
    assert time.monotonic() < deadline
