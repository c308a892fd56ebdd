"""A program that writes files and keeps account of what it was promised, for tests that kill the mount under it.

``python -m tests.support.crash_writer DIRECTORY MANIFEST --seed S --files N [--hold]`` writes N files of random sizes
below DIRECTORY, in ways that programs write: in one go, in pieces, with holes, under a temporary name, with and
without ``fsync``. After each step that is a promise it appends a line to MANIFEST, which lies on another file
system, and syncs it: the line is there only if the promise was given, and whatever dies afterwards.

A line is a JSON object: ``event`` (``opened``, ``fsynced``, ``closed``, ``done``), ``path`` below DIRECTORY, ``size``
and ``sha1`` of what the file held then. ``--hold`` leaves one more file open with bytes in it and waits.

Exit status 0 when all was written, 3 when the file system went away, which is what it is there for.
"""

from __future__ import annotations

import argparse
import errno
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

MAX_SIZE = 60_000
GONE = frozenset({errno.ENOTCONN, errno.ECONNABORTED, errno.ENODEV, errno.EIO, errno.ENOENT, errno.EINTR})
EXIT_GONE = 3


# -- the test's side -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Promised:
    """What a file held when something was promised of it."""

    size: int
    sha1: str


class Writer:
    """The child process and its manifest."""

    def __init__(self, directory: Path, manifest: Path, *, seed: int, files: int, hold: bool = False) -> None:
        self.manifest = manifest
        command = [sys.executable, "-m", "tests.support.crash_writer", str(directory), str(manifest)]
        command += ["--seed", str(seed), "--files", str(files), *(["--hold"] if hold else [])]
        self.process = subprocess.Popen(command, cwd=Path(__file__).parents[2])

    def lines(self) -> list[dict[str, Any]]:
        """Return what was promised so far, in order."""
        if not self.manifest.exists():
            return []
        # The last line may be half written: then its promise was never read by anybody.
        return [json.loads(line) for line in self.manifest.read_bytes().split(b"\n")[:-1]]

    def count(self, event: str) -> int:
        return sum(line["event"] == event for line in self.lines())

    def promised(self, *events: str) -> dict[str, Promised]:
        """Return the last promise of each file of which one of *events* was noted."""
        return {
            line["path"]: Promised(line["size"], line["sha1"])
            for line in self.lines()
            if line["event"] in events
        }

    def ended(self) -> int | None:
        """Return the exit status, None while it runs."""
        return self.process.poll()

    def end(self) -> None:
        """Wait for the end that the file system's end must bring about; a writer that holds is told to."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(60)
        assert status in (0, EXIT_GONE, -signal.SIGTERM), f"the writer ended with status {status}"


# -- the child's side ----------------------------------------------------------------------------------


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=Path)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--files", type=int, required=True)
    parser.add_argument("--hold", action="store_true")
    arguments = parser.parse_args()
    choices = random.Random(arguments.seed)
    log = os.open(arguments.manifest, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def note(event: str, path: Path, content: bytes) -> None:
        line = {
            "event": event,
            "path": str(path.relative_to(arguments.directory)),
            "size": len(content),
            "sha1": hashlib.sha1(content).hexdigest(),
        }
        os.write(log, json.dumps(line).encode() + b"\n")
        os.fsync(log)

    try:
        for number in range(arguments.files):
            write_one(arguments.directory, number, choices, note)
        if arguments.hold:
            path = arguments.directory / f"held-{arguments.seed}"
            with path.open("wb", buffering=0) as file:
                file.write(choices.randbytes(MAX_SIZE))
                note("opened", path, b"")
                note("done", arguments.directory, b"")
                signal.pause()
        note("done", arguments.directory, b"")
    except OSError as error:
        if error.errno not in GONE:
            raise
        return EXIT_GONE
    return 0


def write_one(
    directory: Path, number: int, choices: random.Random, note: Callable[[str, Path, bytes], None]
) -> None:
    parent = directory / choices.choice([".", ".", "sub", "sub/deeper"])
    parent.mkdir(parents=True, exist_ok=True)
    path = parent / f"file-{number}"
    # No two alike: the server keeps one dataset of equal files, and a test could not tell which are there.
    content = b"%d %d " % (number, choices.getrandbits(64)) + choices.randbytes(
        choices.choice([0, 10, 4096, choices.randrange(MAX_SIZE)])
    )
    temporary = choices.random() < 0.3
    opened = parent / f".file-{number}.Ab3{number % 1000:03}" if temporary else path
    syncs = choices.random() < 0.4
    with opened.open("wb", buffering=0) as file:
        if not temporary:
            note("opened", path, b"")
        content = _write(file, content, choices)
        if syncs and not temporary:
            os.fsync(file.fileno())
            note("fsynced", path, content)
        elif syncs:
            os.fsync(file.fileno())
    if temporary:
        opened.rename(path)
    note("closed", path, content)


def _write(file: IO[bytes], content: bytes, choices: random.Random) -> bytes:
    way = choices.choice(["whole", "pieces", "backwards", "hole", "cut"])
    middle = len(content) // 2
    if way == "whole":
        file.write(content)
    elif way == "pieces":
        for start in range(0, len(content), 5000):
            file.write(content[start : start + 5000])
    elif way == "backwards":
        os.pwrite(file.fileno(), content[middle:], middle)
        os.pwrite(file.fileno(), content[:middle], 0)
    elif way == "hole":
        os.pwrite(file.fileno(), content, 3000)
        content = bytes(3000) + content
    else:
        file.write(content + b"to be cut off")
        file.truncate(len(content))
    return content


if __name__ == "__main__":
    sys.exit(main())
