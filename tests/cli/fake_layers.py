"""Run ``agorafs`` with a stack and a FUSE front end that are not there, as a program of its own.

``python -m tests.cli.fake_layers PLAN.json ARGUMENT…``: the plan says how the stand-ins behave, and what
was called is written to ``events`` beside it, one call a line. The mount is a promise only: ``serve`` says
that it is ready and waits until somebody unmounts.

    connect_raises  [class, argument…] of ``agorafs.errors``
    connect_dies    exit status
    connect_waits   the server never answers
    serve_ends      FUSE ends before it is ready
    busy            an ordinary unmount is refused, a lazy one works
    held_open       and even then a file stays open
"""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import agorafs
from agorafs import cli, errors, mount_process, mountpoint
from agorafs.errors import ExitStatus, UsageError

_ERROR = {"at": 1_700_000_000.25, "path": "/projects", "error": "RemoteTimeout", "reason": "no answer"}


class Plan:
    """What was planned, and a place to write down what happened."""

    def __init__(self, path: Path) -> None:
        self._wanted: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        self._events = path.parent / "events"
        self.is_serving = False  # in this process

    def get(self, name: str) -> Any:
        return self._wanted.get(name)

    def note(self, event: str) -> None:
        with self._events.open("a", encoding="utf-8") as stream:
            stream.write(event + "\n")


class FakeStack:
    """Notes what is asked of it."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    def status(self) -> dict[str, object]:
        return {
            "server": self._plan.get("server") or "ok",
            "content": {"used_bytes": 1536},
            "recent_errors": [_ERROR],
        }

    def refresh(self, path: str | None) -> None:
        self._plan.note(f"refresh {path}")
        if path == "/missing":
            raise errors.NotFound("/missing does not exist")

    def replace_credential(self, credential: Any) -> None:
        self._plan.note(f"credential {credential.key.reveal()}")

    def close(self) -> None:
        self._plan.note("close")


def fake_modules(plan: Plan, end: threading.Event) -> dict[str, ModuleType]:
    """Return ``stack`` and ``fuse_mount`` as *plan* wants them; *end* ends the mount."""

    def connect(settings: Any) -> FakeStack:
        plan.note(f"connect {settings.url} {settings.credential.key.reveal()}")
        if plan.get("connect_dies"):
            os._exit(plan.get("connect_dies"))
        if plan.get("connect_waits"):
            end.wait()
        if plan.get("connect_raises"):
            name, *arguments = plan.get("connect_raises")
            raise getattr(errors, name)(*arguments)
        if plan.get("connect_has_a_bug"):
            raise ZeroDivisionError(f"with {settings.credential.key.reveal()}")
        return FakeStack(plan)

    def serve(stack: FakeStack, where: Path, settings: Any, on_ready: Any) -> None:
        plan.note(f"serve {where} {' '.join(settings.kernel_flags)}")
        if not plan.get("serve_ends"):
            plan.is_serving = True
            on_ready()
            end.wait()

    stack_module, fuse_module = ModuleType("agorafs.stack"), ModuleType("agorafs.fuse_mount")
    vars(stack_module).update(connect=connect)
    vars(fuse_module).update(serve=serve, require_binding=lambda name: None)
    return {"stack": stack_module, "fuse_mount": fuse_module}


def main() -> int:
    """Put the stand-ins in place and run the command."""
    plan = Plan(Path(sys.argv[1]))
    end = threading.Event()

    def unmount(where: Path, *, lazy: bool = False) -> None:
        plan.note(f"unmount {where}{' lazily' if lazy else ''}")
        if (plan.get("busy") or plan.get("held_open")) and not lazy:
            raise UsageError(f"{where} is busy", ExitStatus.MOUNT_POINT)
        if not plan.get("held_open"):
            end.set()

    def find_mount(where: Path, mounts: object = None) -> mountpoint.MountEntry | None:
        return mountpoint.MountEntry(where, mountpoint.FS_TYPE, "") if plan.is_serving else None

    for name, module in fake_modules(plan, end).items():
        sys.modules[f"agorafs.{name}"] = module
        vars(agorafs)[name] = module  # ``from agorafs import stack`` looks here first
    vars(mountpoint).update(unmount=unmount, find_mount=find_mount, check_fuse_available=lambda: None)
    vars(mount_process)["_GRACE_S"] = 0.05
    return cli.main(sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
