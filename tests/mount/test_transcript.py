"""The shell session in the README is what a shell prints: carried out on a fresh demo and compared with the README.

``scripts/transcript --write`` (or ``AGORAFS_WRITE_README=1``) writes it anew.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
SCRIPT = ROOT / "scripts" / "transcript"
MARK = "<!-- transcript -->\n"


def test_the_session_in_the_readme_is_what_a_shell_prints_on_a_fresh_demo(private_demo, mount):
    """Which series are rated 4 or better and tagged, a task on each, waiting, and its results."""
    done = subprocess.run(
        [SCRIPT, mount(private_demo).path], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, (done.stdout, done.stderr)
    transcript = f"```console\n{done.stdout}```\n"
    before, printed, after = README.read_text(encoding="utf-8").split(MARK)
    if os.environ.get("AGORAFS_WRITE_README") == "1":
        README.write_text(MARK.join((before, transcript, after)), encoding="utf-8")
        printed = transcript
    assert printed == transcript
    assert done.stdout.count("finished\n") == 2
    assert "Echo Time " in done.stdout


def test_a_session_that_fails_is_a_failure_of_the_script(private_demo, mount):
    drive = mount(private_demo)
    tasks = drive.path / "projects" / "Neuro Study" / "tasks"
    (tasks / "Header").rename(tasks / "Something else")
    done = subprocess.run([SCRIPT, drive.path], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert "Header" in done.stdout.splitlines()[-1]
