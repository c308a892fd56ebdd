"""The ``agorafs`` command as a program of its own, with ``fake_layers`` in the place of server and kernel."""

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

from agorafs.registry import live_mounts

URL = "https://agora.example.org"
KEY = "sesame-1234"
TIMEOUT_S = 60
ROOT = Path(__file__).parents[2]


class Program:
    """Runs the command with one plan, in one home directory; stops at the end what it has started."""

    def __init__(self, tmp_path):
        self.home = tmp_path
        self.mountpoint = tmp_path / "mount"
        self.mountpoint.mkdir()
        self.plan = tmp_path / "plan.json"
        self.key_file = tmp_path / "key"
        self.key_file.write_text(KEY)
        self.key_file.chmod(0o600)
        self.state = tmp_path / "state" / "agorafs"
        self.set_plan()

    def set_plan(self, **wanted):
        self.plan.write_text(json.dumps(wanted))

    def environment(self, **more):
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "AGORA_"))},
            "HOME": str(self.home),
            "XDG_STATE_HOME": str(self.home / "state"),
            "XDG_CACHE_HOME": str(self.home / "cache"),
            "PYTHONPATH": str(ROOT),
            **more,
        }

    def command(self, *arguments):
        return [sys.executable, "-m", "tests.cli.fake_layers", str(self.plan), *map(str, arguments)]

    def run(self, *arguments, cwd=ROOT, **more):
        return subprocess.run(
            self.command(*arguments),
            env=self.environment(**more),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )

    def mount(self, *arguments, at=None):
        return self.run("mount", URL, at or self.mountpoint, "--api-key-file", self.key_file, *arguments)

    def events(self):
        path = self.home / "events"
        return path.read_text().splitlines() if path.exists() else []

    def wait_for_event(self, event):
        """Wait until *event* was written; the writer gives no other sign."""
        self._wait_until(lambda: event in self.events(), f"no {event!r}")

    def wait_for_log(self, words):
        """Wait until *words* stand in the log of the mount."""
        self._wait_until(lambda: words in self.everything_written(), f"nothing logged of {words!r}")

    def _wait_until(self, is_so, otherwise):
        for _ in range(TIMEOUT_S * 100):
            if is_so():
                return
            select.select([], [], [], 0.01)
        raise AssertionError(f"{otherwise}; events: {self.events()}")

    def pids(self):
        """Return the processes of this home directory's mounts."""
        return [record.pid for record in live_mounts(self.state)]

    def stop(self, pid, number=signal.SIGTERM):
        """Send a signal and wait for the end."""
        process = os.pidfd_open(pid)
        try:
            os.kill(pid, number)
            assert select.select([process], [], [], TIMEOUT_S)[0], f"process {pid} has not ended"
        finally:
            os.close(process)

    def everything_written(self):
        """Return the text of every file below the home directory but the key and the note of events."""
        return "".join(
            path.read_text(errors="replace")
            for path in self.home.rglob("*")
            if path.is_file() and path != self.key_file and path.name != "events"
        )
