"""A real mount, served by a child process through the ``agorafs`` command.

A test never reads a mount that its own process serves: kernel and process would wait for each other. So
everything here goes through the command line, as a user would, with its own cache and state directories.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support.waiting import eventually

COMMAND = (sys.executable, "-m", "agorafs.cli")
PATIENCE_S = 60


def agorafs(
    *arguments: str | Path,
    api_key: str | None = None,
    home: Path | None = None,
    timeout_s: float = PATIENCE_S,
    stdin: str = "",
) -> subprocess.CompletedProcess[str]:
    """Run the ``agorafs`` command; *home* holds everything it keeps (configuration, cache, state)."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("AGORA", "XDG_"))
    }
    if api_key is not None:
        environment["AGORA_API_KEY"] = api_key
    if home is not None:
        environment.update(
            XDG_CONFIG_HOME=str(home / "config"),
            XDG_CACHE_HOME=str(home / "cache"),
            XDG_STATE_HOME=str(home / "state"),
        )
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        input=stdin,
        check=False,
    )


class Mount:
    """``with Mount(url, key, directory) as mount:`` mounts at ``mount.path`` and takes it away again."""

    def __init__(self, url: str, api_key: str, directory: Path, *options: str) -> None:
        """*directory* gets the mount point and everything that agorafs keeps; *options* are ``-o`` options."""
        self.url = url
        self.api_key = api_key
        self.home = directory
        self.path = directory / "mnt"
        self.options = options
        self.path.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Mount:
        self.mount()
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()

    def mount(self) -> None:
        """Mount, as a user would; raises with the command's own words if it fails."""
        done = self.try_mount()
        assert done.returncode == 0, done.stderr

    def try_mount(self, *arguments: str, api_key: str | None = None) -> subprocess.CompletedProcess[str]:
        """Mount and return the outcome of the command."""
        options = ["-o", ",".join(self.options)] if self.options else []
        return agorafs(
            "mount",
            self.url,
            self.path,
            *options,
            *arguments,
            api_key=api_key or self.api_key,
            home=self.home,
        )

    def run(self, *arguments: str | Path, timeout_s: float = PATIENCE_S) -> subprocess.CompletedProcess[str]:
        """Run another ``agorafs`` command of the same user."""
        return agorafs(*arguments, home=self.home, timeout_s=timeout_s)

    def refresh(self, path: Path) -> None:
        """``agorafs refresh``."""
        done = self.run("refresh", path)
        assert done.returncode == 0, done.stderr

    def umount(self) -> None:
        """``agorafs umount``."""
        done = self.run("umount", self.path)
        assert done.returncode == 0, done.stderr

    def status(self) -> dict[str, Any]:
        """Return this mount's part of ``agorafs status --json``."""
        done = self.run("status", self.path, "--json")
        mounts: list[dict[str, Any]] = json.loads(done.stdout)["mounts"]
        (mount,) = mounts
        return mount

    def pid(self) -> int:
        """Return the process that serves the mount."""
        return int(self.status()["pid"])

    def log(self) -> str:
        """Return everything logged so far."""
        return "".join(path.read_text() for path in sorted(self.home.glob("state/**/*.log")))

    def kill(self, pid: int) -> None:
        """End the serving process *pid* as ``kill -9`` does, and take away what it leaves mounted."""
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: not _is_running(pid), within_s=PATIENCE_S)
        subprocess.run(["fusermount3", "-uz", str(self.path)], capture_output=True, check=True)

    def is_mounted(self) -> bool:
        """Tell whether the kernel has the mount, without touching it."""
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
        return any(line.split()[4] == str(self.path) for line in mounts)

    def clear(self) -> None:
        """Take the mount away, whatever state it is in, and end its process."""
        pid = None
        with contextlib.suppress(Exception):
            pid = self.pid()
        if self.is_mounted():
            subprocess.run(["fusermount3", "-uz", str(self.path)], capture_output=True, check=False)
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)


def _is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"
