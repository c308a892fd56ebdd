"""fsx finds nothing on a file system that works, and what is wrong on one that does not."""

from __future__ import annotations

import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

FSX = Path(__file__).parent.parent / "support" / "fsx.py"


def fsx(path, *arguments):
    return subprocess.run(
        [sys.executable, str(FSX), str(path), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def file(tmp_path):
    return tmp_path / "file"


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_working_file_system_shows_no_difference(file, seed):
    done = fsx(file, "--ops", 10_000, "--seed", seed, "--max-size", 100_000)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"10000 operations, no difference (seed {seed})" in done.stdout


def test_a_hundred_thousand_operations_are_done_within_a_minute(file):
    done = subprocess.run(
        [sys.executable, str(FSX), str(file), "--ops", "100000"], capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 0


@pytest.mark.parametrize("after", [1, 500, 1000])
def test_a_byte_changed_behind_its_back_is_noticed_and_told(file, after):
    done = fsx(file, "--ops", 1000, "--seed", 4, "--corrupt-after", after)
    assert done.returncode == 1
    assert "differ, the first at" in done.stdout
    assert "seed 4" in done.stdout
    assert 2 <= len(re.findall(r"^ +\d+  [A-Z]+", done.stdout, re.MULTILINE)) <= 50


def test_the_same_seed_makes_the_same_operations(file):
    first, again = (fsx(file, "--ops", 300, "--seed", 9, "--corrupt-after", 300).stdout for _ in range(2))
    assert first == again
    assert first != fsx(file, "--ops", 300, "--seed", 10, "--corrupt-after", 300).stdout


def test_every_operation_of_the_mix_is_done(file):
    seen: set[str] = set()
    for seed in range(8):
        done = fsx(file, "--ops", 100, "--seed", seed, "--corrupt-after", 100, "--reopen-every", 10)
        seen |= set(re.findall(r"^ +\d+  ([A-Z]+)", done.stdout, re.MULTILINE))
    assert seen >= {"READ", "WRITE", "APPEND", "MAPREAD", "MAPWRITE", "TRUNCATE", "FSYNC", "REOPEN"}


def test_an_error_of_the_system_is_a_failure_told_with_the_operations(file):
    done = subprocess.run(
        [sys.executable, str(FSX), str(file), "--ops", "100"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)),
    )
    assert done.returncode == 1
    assert "OSError: [Errno 27] File too large" in done.stdout
    assert re.search(r"^ +\d+  [A-Z]+", done.stdout, re.MULTILINE)


def test_a_file_that_cannot_be_opened_is_wrong_usage(tmp_path):
    assert fsx(tmp_path / "missing" / "file").returncode == 2
