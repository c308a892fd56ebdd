"""fsx on a mounted file: a hundred thousand random operations, and no difference."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.support.writing import identity

ROOT = Path(__file__).parents[2]
OPERATIONS = 50_000
SEEDS = (1, 20_241_104)


def test_a_hundred_thousand_random_operations_find_no_difference(drive):
    """fsx on a mounted file: 100,000 operations, no difference; what is left is what the server gets."""
    place = drive.place()

    def run(seed: int) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(ROOT / "tests/support/fsx.py"), str(place.path / f"fsx-{seed}")]
        return subprocess.run(
            [*command, "--ops", str(OPERATIONS), "--seed", str(seed)],
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    with ThreadPoolExecutor(len(SEEDS)) as pool:
        for done in pool.map(run, SEEDS):
            assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    contents = {f"fsx-{seed}": (place.path / f"fsx-{seed}").read_bytes() for seed in SEEDS}
    assert any(contents.values())
    place.sync()
    assert place.stored() == {name: identity(content) for name, content in contents.items()}


def test_random_operations_on_a_stored_file_find_no_difference(drive):
    """A file of the server that is changed in place, again and again, with uploads in between."""
    place = drive.place()
    place.upload({"stored": b"stored before"})
    path = place.path / "stored"
    for seed in (3, 4):
        done = subprocess.run(
            [
                sys.executable,
                str(ROOT / "tests/support/fsx.py"),
                str(path),
                "--ops",
                "3000",
                "--seed",
                str(seed),
            ],
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
        content = path.read_bytes()
        place.sync()
        assert place.stored() == {"stored": identity(content)}
        assert path.read_bytes() == content
