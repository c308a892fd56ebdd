"""The scripts refuse what they do not know before they change anything."""

import subprocess
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"


def run(name, *arguments):
    return subprocess.run(
        [SCRIPTS / name, *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def test_the_demo_explains_itself():
    done = run("demo", "--help")
    assert done.returncode == 0
    assert "--stop" in done.stdout
    assert "--tour-only" in done.stdout
    assert "set -eu" not in done.stdout


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("demo", ["--explode"], "unknown option --explode"),
        ("demo", ["one", "two"], "one directory at most"),
        ("demo", ["--stop", "directory"], "--stop takes no directory"),
        ("demo", ["--tour-only", "--explode"], "unknown option --explode"),
        ("setup", ["everything"], "unknown extra everything"),
    ],
)
def test_an_unknown_argument_is_refused_by_name(name, arguments, words):
    done = run(name, *arguments)
    assert done.returncode != 0
    assert words in done.stderr


@pytest.mark.parametrize("path", sorted(filter(Path.is_file, SCRIPTS.iterdir())), ids=lambda path: path.name)
def test_every_script_is_executable_and_says_what_runs_it(path):
    assert path.stat().st_mode & 0o111 == 0o111
    assert path.read_text(encoding="utf-8").startswith("#!")
