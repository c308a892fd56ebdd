"""A server with the demo, mounted and writable, and the vendor's connector beside it; one for each module."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gtagora
import pytest

from tests.mount.conftest import demo_data as demo_data  # the same fixture, not imported twice per worker
from tests.support.connector import connected
from tests.support.mount import Mount, agorafs
from tests.support.sandbox import SandboxProcess

TTL_S = 1


@dataclass(frozen=True)
class Bench:
    """What a test of a feature needs. ``root`` is the mount point; the project is the demo's largest."""

    server: SandboxProcess
    mount: Mount
    agora: gtagora.Agora

    @property
    def root(self) -> Path:
        return self.mount.path

    @property
    def project(self) -> Path:
        return self.root / "projects" / "Neuro Study"

    def on_server(self) -> Any:
        """Return the same project as the connector knows it."""
        return next(one for one in self.agora.get_projects() if one.display_name == self.project.name)

    def by_id(self, kind: str, number: int) -> Path:
        return self.root / ".agora" / "by-id" / kind / str(number)

    def attribute(self, path: Path, name: str) -> str:
        """``getfattr -n user.agora.NAME PATH``."""
        return self.shell('getfattr --only-values -n "$1" "$2"', f"user.agora.{name}", path)

    def control(self, command: str, directory: Path | None = None) -> str:
        """``echo COMMAND > DIRECTORY/.agora/control``, then read it; fails as the shell does."""
        path = (directory or self.root) / ".agora" / "control"
        return self.shell('exec 3<>"$1" && printf "%s\\n" "$2" >&3 && cat <&3', path, command)

    def wait_for(self, answer: str) -> str:
        """Wait for the job that *answer* names; return what ``wait`` says."""
        number = next(word for word in answer.replace(":", " ").split() if word.isdigit())
        return self.shell('cat "$1"', self.root / ".agora" / "jobs" / number / "wait")

    def shell(self, script: str, *arguments: str | Path) -> str:
        """Run a script in ``sh`` with *arguments* as $1, $2, …; it must succeed."""
        done = subprocess.run(
            ["sh", "-c", script, "sh", *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, (script, arguments, done.stdout, done.stderr)
        return done.stdout

    def command(self, *arguments: str | Path, stdin: str = "") -> str:
        """Run ``agorafs ARGUMENTS`` for this mount; it must succeed."""
        done = agorafs(*arguments, api_key=self.server.api_key, home=self.mount.home, stdin=stdin)
        assert done.returncode == 0, (arguments, done.stdout, done.stderr)
        return done.stdout


@pytest.fixture(scope="module")
def bench(demo_data, tmp_path_factory) -> Iterator[Bench]:
    """See the module docstring."""
    home = Path(tmp_path_factory.mktemp("bench"))
    shutil.copytree(demo_data, home / "data")
    with SandboxProcess(home / "data", switches={"import-speed": "0", "task-speed": "0"}) as server:
        mount = Mount(
            server.url, server.api_key, home, f"listing_ttl_s={TTL_S}", "batch_quiet_s=0.2", "allow_delete"
        )
        try:
            mount.mount()
            with connected(server) as agora:
                yield Bench(server, mount, agora)
        finally:
            mount.clear()
        assert "Traceback" not in mount.log()
