"""The layers of one mount as one thing: what the process of the mount and the commands' requests call."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from agorafs.client import Credential
from agorafs.stack.foundation import Foundation
from agorafs.stack.uploading import Uploading
from agorafs.stack.working import Working
from agorafs.vfs import FileSystem
from agorafs.vfs.aside import Caller
from agorafs.vfs.control import Desk
from agorafs.vfs.control.language import from_words
from agorafs.vfs.dot_jobs import status_of


class Stack:
    """The layers of one mount. ``on_refreshed`` is told which paths may look different after a refresh."""

    def __init__(
        self,
        base: Foundation,
        filesystem: FileSystem,
        uploading: Uploading,
        working: Working,
        desk: Desk,
        status: Callable[[], dict[str, object]],
    ) -> None:
        self.filesystem = filesystem
        self.on_refreshed: Callable[[Iterable[str]], None] | None = None
        self._base = base
        self._uploading = uploading
        self._transit = uploading.transit
        self._working = working
        self._desk = desk
        self._status = status
        working.announcer.tell = self._tell

    def start(self) -> None:
        """Go on with what was written and started, this time or before."""
        self._uploading.start()
        self._working.jobs.start()

    def status(self) -> dict[str, object]:
        """Return what ``agorafs status`` shows, ready for JSON; never a secret, never waits."""
        return self._status()

    # -- what is on its way; see ``vfs.transit`` for each --------------------------------------------

    def seal(self, path: str | None) -> None:
        """Let what is closed at and below *path* travel now."""
        self._transit.seal(path)

    def unfinished(self, path: str | None) -> dict[str, Any]:
        """Return what at and below *path* is not verified on the server."""
        return self._transit.unfinished(path)

    def retry(self, path: str | None) -> int:
        """Let failed files travel again; return how many."""
        return self._transit.retry(path)

    def cancel(self, path: str) -> int:
        """Give up what is not on the server; return how many files."""
        return self._transit.cancel(path)

    def upload(
        self,
        files: Sequence[tuple[str, str]],
        destination: str,
        *,
        import_json: Mapping[str, Any] | None,
        relations: Mapping[str, Sequence[str]] | None,
    ) -> dict[str, int]:
        """Send files from outside the mount."""
        return self._transit.upload(files, destination, import_json=import_json, relations=relations)

    def upload_status(self, upload: int) -> dict[str, Any]:
        """Return how such an upload is."""
        return self._transit.upload_status(upload)

    def verify_upload(self, upload: int) -> list[dict[str, str]]:
        """Return what of such an upload the server does not have."""
        return self._transit.verify_upload(upload)

    # -- tasks; see ``vfs.tasks.runner`` ---------------------------------------------------------------

    def run_task(
        self,
        task: str,
        arguments: Mapping[str, object],
        *,
        directory: str,
        target: str | None,
        outside: str | None,
    ) -> dict[str, Any]:
        """Start *task*, as it is called in *directory*, and return how its job is."""
        names = [name for name in directory.split("/") if name]
        runner = self._working.runner
        found = runner.find_task(names, task)
        job = runner.run(found, arguments, directory=names, target=target, outside=outside)
        return status_of(job)

    def control(self, directory: str, words: Sequence[str], fields: Mapping[str, Any]) -> dict[str, Any]:
        """Carry out a command in *directory*; see ``vfs.control``."""
        names = tuple(name for name in directory.split("/") if name)
        command = from_words(words, fields)
        answer = self._desk.execute_command(names, command, Caller(os.getuid(), 0))
        return {"text": answer.text, "data": dict(answer.data)}

    def job_status(self, job: int) -> dict[str, Any]:
        """Return how the job is."""
        return status_of(self._working.jobs.job(job))

    # -- the mount -----------------------------------------------------------------------------------

    def refresh(self, path: str | None) -> None:
        """Forget what is known of *path* (below the mount point) and below; None means everything.

        Raises:
            NotFound: There is no such path, by a fresh listing.
        """
        changed = [] if path is None else [path]  # what is gone looks different too
        try:
            changed = self.filesystem.refresh(path)
        finally:
            self._tell(changed)

    def _tell(self, paths: Iterable[str]) -> None:
        tell = self.on_refreshed
        if tell is not None:
            tell(paths)

    def replace_credential(self, credential: Credential) -> None:
        """Use *credential* from the next request on."""
        self._base.client.replace_credential(credential)
        self._uploading.announce_work()

    def close(self) -> None:
        """Close everything, front to back."""
        self.filesystem.close()
        self._working.close()
        self._uploading.close()
        self._base.contents.close()
        self._base.client.close()
