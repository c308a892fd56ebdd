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
    mounted         the kernel knows the mount, served by whichever process; unmounting tells that process to end
    uploads         list of what one ``status`` after the other says of them; the last one stays
    left_behind     what is found in the state directory of mounts that have ended
    unfinished      list of what is left at one look after the other; the last one stays
    uploading       list of how an upload is, likewise
    skipped         how many files of an upload are there already
    upload_refused  [class, argument…], when it is accepted
    control_refused [class, argument…], when a command is given; control_data: what its answer has besides
    missing         what the verification of an upload does not find
    run_refused     [class, argument…], when a task is to be run
    running         list of how its job is at one look after the other; the last one stays
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import agorafs
from agorafs import cli, config, errors, mount_process, mountpoint, registry
from agorafs.commands import umount
from agorafs.errors import ExitStatus, UsageError

_ERROR = {"at": 1_700_000_000.25, "path": "/projects", "error": "RemoteTimeout", "reason": "no answer"}


class Planned(Protocol):
    """What ``FakeStack`` needs of a plan."""

    def get(self, name: str) -> Any: ...

    def note(self, event: str) -> None: ...


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


NOTHING_LEFT = {
    "files": 0, "bytes": 0, "sent_bytes": 0, "open": 0, "failed": [], "waiting": "", "paths": [], "open_paths": [],
}  # fmt: skip
NO_UPLOADS = {
    "files": 0, "bytes": 0, "open": 0, "failed": 0, "waiting": "", "batches": [], "problems": [], "spool_bytes": 0,
    "salvaged": "",
}  # fmt: skip
UPLOAD = {
    "state": "ended", "files": 0, "stored": 0, "existed": 0, "failed": [], "bytes": 0, "sent_bytes": 0, "waiting": "",
    "import_id": None,
}  # fmt: skip


JOB = {
    "job": 3, "title": "run Checksum", "state": "queued", "error": "", "progress": "", "waiting": "", "results": [],
}  # fmt: skip


class FakeStack:
    """Notes what is asked of it."""

    def __init__(self, plan: Planned) -> None:
        self._plan = plan
        self._looks = {
            name: list(plan.get(name) or [{}]) for name in ("uploads", "unfinished", "uploading", "running")
        }

    def _next(self, name: str) -> dict[str, Any]:
        looks = self._looks[name]
        look: dict[str, Any] = looks.pop(0) if len(looks) > 1 else looks[0]
        return look

    def seal(self, path: str | None) -> None:
        self._plan.note(f"seal {path}")

    def unfinished(self, path: str | None) -> dict[str, Any]:
        return {**NOTHING_LEFT, **self._next("unfinished")}

    def retry(self, path: str | None) -> int:
        self._plan.note(f"retry {path}")
        return 2

    def cancel(self, path: str) -> int:
        self._plan.note(f"cancel {path}")
        return 1

    def upload(
        self, files: Sequence[tuple[str, str]], destination: str, *, import_json: Any, relations: Any
    ) -> dict[str, int]:
        targets = ", ".join(target for _, target in files)
        self._plan.note(f"upload {targets} to {destination} import={import_json} relations={relations}")
        if self._plan.get("upload_refused"):
            name, *arguments = self._plan.get("upload_refused")
            raise getattr(errors, name)(*arguments)
        return {
            "upload": 7,
            "files": len(files),
            "bytes": 10 * len(files),
            "skipped": self._plan.get("skipped") or 0,
        }

    def upload_status(self, upload: int) -> dict[str, Any]:
        return {**UPLOAD, **self._next("uploading")}

    def verify_upload(self, upload: int) -> list[dict[str, str]]:
        self._plan.note(f"verify {upload}")
        return list(self._plan.get("missing") or [])

    def run_task(
        self,
        task: str,
        arguments: Mapping[str, object],
        *,
        directory: str,
        target: str | None,
        outside: str | None,
    ) -> dict[str, Any]:
        self._plan.note(
            f"run {task} in {directory} {json.dumps(arguments)} target={target} outside={outside}"
        )
        if self._plan.get("run_refused"):
            name, *words = self._plan.get("run_refused")
            raise getattr(errors, name)(*words)
        return JOB

    def control(self, directory: str, words: Sequence[str], fields: Mapping[str, Any]) -> dict[str, Any]:
        self._plan.note(f"control {directory} {list(words)} {sorted(fields)}")
        if self._plan.get("control_refused"):
            name, *arguments = self._plan.get("control_refused")
            raise getattr(errors, name)(*arguments)
        return {
            "text": "done",
            "data": {"ok": True, "answer": "done", **(self._plan.get("control_data") or {})},
        }

    def job_status(self, job: int) -> dict[str, Any]:
        return {**JOB, "job": job, **self._next("running")}

    def status(self) -> dict[str, object]:
        return {
            "server": self._plan.get("server") or "ok",
            "content": {"used_bytes": 1536},
            "recent_errors": [_ERROR],
            "uploads": {**NO_UPLOADS, **self._next("uploads")},
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
    recovery_module = ModuleType("agorafs.uploads.recovery")
    vars(recovery_module).update(left_behind=lambda state_directory: plan.get("left_behind") or [])
    sys.modules["agorafs.uploads.recovery"] = recovery_module
    return {"stack": stack_module, "fuse_mount": fuse_module}


def main() -> int:
    """Put the stand-ins in place and run the command."""
    plan = Plan(Path(sys.argv[1]))
    end = threading.Event()

    def unmount(where: Path, *, lazy: bool = False) -> None:
        plan.note(f"unmount {where}{' lazily' if lazy else ''}")
        if (plan.get("busy") or plan.get("held_open")) and not lazy:
            raise UsageError(f"{where} is busy", ExitStatus.MOUNT_POINT)
        if plan.get("mounted"):
            record = registry.find_live(config.default_state_directory(), where)
            assert record is not None
            os.kill(record.pid, signal.SIGTERM)
        elif not plan.get("held_open"):
            end.set()

    def find_mount(where: Path, mounts: object = None) -> mountpoint.MountEntry | None:
        is_there = plan.is_serving or plan.get("mounted")
        return mountpoint.MountEntry(where, mountpoint.FS_TYPE, "") if is_there else None

    for name, module in fake_modules(plan, end).items():
        sys.modules[f"agorafs.{name}"] = module
        vars(agorafs)[name] = module  # ``from agorafs import stack`` looks here first
    vars(mountpoint).update(unmount=unmount, find_mount=find_mount, check_fuse_available=lambda: None)
    vars(mount_process)["_GRACE_S"] = 0.05
    vars(umount).update(_OPEN_PATIENCE_S=0.05, _STUCK_PATIENCE_S=0.05)
    return cli.main(sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
