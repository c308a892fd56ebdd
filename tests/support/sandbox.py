"""A sandbox in a child process, for tests.

``SandboxProcess`` starts ``python -m agorafs.sandbox`` and talks to its side door. The process is killed with the
object at the latest; several can serve different directories at once. One that was killed can be started again on
the same directory and port.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from requests import Response, Session

START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 30


class SandboxProcess:
    """One running server. ``url``, ``api_key`` and ``users`` (name to key) are known after the constructor."""

    def __init__(
        self,
        data: Path,
        *,
        port: int = 0,
        seed: str = "none",
        switches: Mapping[str, str] | None = None,
        arguments: Sequence[str] = (),
        verify: Path | None = None,
    ) -> None:
        self.data = data
        self._switches = dict(switches or {})
        self._seed = seed
        self._arguments = tuple(arguments)
        self._process: subprocess.Popen[bytes] | None = None
        self._session = Session()
        self._session.trust_env = False
        if verify is not None:  # the authority of the certificate among ``arguments``
            self._session.verify = str(verify)
        self.start(port)

    def start(self, port: int | None = None) -> None:
        """Start the server and wait until it answers; without *port* on the port it had before."""
        command = [sys.executable, "-m", "agorafs.sandbox", "--data", str(self.data), "--json"]
        command += ["--port", str(self.port if port is None else port), "--seed", self._seed]
        for name, value in self._switches.items():
            command += ["--switch", f"{name}={value}"]
        self._log = self.data.with_name(f"{self.data.name}.log").open("ab")
        self._process = subprocess.Popen(
            [*command, *self._arguments], stdout=subprocess.PIPE, stderr=self._log
        )
        line = self._first_line()
        self.announced: dict[str, Any] = json.loads(line)
        self.url: str = self.announced["url"]
        self.api_key: str = self.announced["api_key"]
        self.users: dict[str, str] = self.announced["users"]
        self.control_token: str = self.announced["control_token"]

    def _first_line(self) -> bytes:
        assert self._process is not None and self._process.stdout is not None
        deadline = time.monotonic() + START_TIMEOUT_S
        line = b""
        descriptor = self._process.stdout.fileno()
        while not line.endswith(b"\n"):
            ready, _, _ = select.select([descriptor], [], [], max(deadline - time.monotonic(), 0))
            part = os.read(descriptor, 65536) if ready else b""
            if not part:
                self.kill()
                log = self.data.with_name(f"{self.data.name}.log").read_text()
                raise RuntimeError(f"the sandbox did not start: {log}")
            line += part
        return line

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        """What the server wrote to stderr so far."""
        return self.data.with_name(f"{self.data.name}.log").read_text()

    # -- ending --------------------------------------------------------------------------------------

    def kill(self) -> None:
        """End the server at once, as a power cut would end the process."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """End the server in good order and return its exit status."""
        return self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> int:
        process = self._process
        if process is None:
            return 0
        self._process = None
        process.send_signal(number)
        try:
            status = process.wait(STOP_TIMEOUT_S)
        finally:
            process.kill()
            assert process.stdout is not None
            process.stdout.close()
            self._log.close()
            self._session.close()
        return status

    def __enter__(self) -> SandboxProcess:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    # -- the API, for tests that speak it plainly ----------------------------------------------------

    def api(self, method: str, path: str, *, user: str = "admin", **options: Any) -> Response:
        """Send a request below ``/api/`` with the key of *user*; redirects are not followed."""
        headers = {"Authorization": f"X-Agora-Api-Key {self.users[user]}", **options.pop("headers", {})}
        options.setdefault("timeout", 30)
        return self._session.request(
            method, f"{self.url}/api/{path}", headers=headers, allow_redirects=False, **options
        )

    def get(self, path: str, **options: Any) -> Any:
        """Return the JSON of a GET that must succeed."""
        response = self.api("GET", path, **options)
        assert response.status_code == 200, f"{path}: {response.status_code} {response.text}"
        return response.json()

    def post(self, path: str, body: Any = None, **options: Any) -> Any:
        """Return the JSON of a POST with a JSON body that must succeed; None without an answer."""
        response = self.api("POST", path, json=body, **options)
        assert response.status_code < 300, f"{path}: {response.status_code} {response.text}"
        return response.json() if response.content else None

    # -- the side door -------------------------------------------------------------------------------

    def control(self, method: str, path: str, **options: Any) -> Any:
        """Send a request below ``/_sandbox/`` that must succeed and return its JSON."""
        response = self._session.request(
            method,
            f"{self.url}/_sandbox/{path}",
            headers={"X-Sandbox-Control": self.control_token},
            timeout=60,
            **options,
        )
        assert response.status_code == 200, f"{path}: {response.status_code} {response.text}"
        return response.json()

    def switch(self, **switches: Any) -> None:
        """Change switches; ``_`` in a keyword stands for ``-``. A fault: ``switch(fault="reset:/datafile/:3")``."""
        self.control(
            "PUT", "switches", json={name.replace("_", "-"): value for name, value in switches.items()}
        )

    def requests(self) -> list[dict[str, Any]]:
        """Return the API requests since the last reset: method, path, query, range, status, bytes."""
        answer: list[dict[str, Any]] = self.control("GET", "requests")["requests"]
        return answer

    def request_count(self) -> int:
        return int(self.control("GET", "requests")["count"])

    def bytes_sent(self) -> int:
        """Return the bytes of all answers' bodies since the last reset."""
        return int(self.control("GET", "requests")["bytes"])

    def reset_requests(self) -> None:
        self.control("DELETE", "requests")

    def datafiles(self) -> list[dict[str, Any]]:
        """Return every datafile: id, size, sha1, dataset, original_filename."""
        answer: list[dict[str, Any]] = self.control("GET", "datafiles")
        return answer

    def tree(self) -> dict[str, Any]:
        """Return everything on the server without ids and dates: ``projects`` by name, and ``trash``.

        Two servers that hold the same give equal trees; the shape is told in ``agorafs.sandbox.inventory``.
        """
        answer: dict[str, Any] = self.control("GET", "tree")
        return answer

    def replace_content(self, datafile: int, content: bytes) -> str:
        """Change a datafile behind everybody's back; return its new SHA-1."""
        return str(self.control("PUT", f"datafiles/{datafile}", data=content)["sha1"])

    def revoke(self, user: str = "admin") -> None:
        """Make the user's API key and tokens invalid."""
        self.control("POST", "revoke", json={"username": user})

    def set_api_key(self, key: str | None = None, user: str = "admin") -> str:
        """Give a user a new API key and return it; ``api`` uses it from now on."""
        new: str = self.control("PUT", "api-key", json={"username": user, "key": key})["key"]
        self.users[user] = new
        if user == "admin":
            self.api_key = new
        return new

    # -- uploading -----------------------------------------------------------------------------------

    def upload(
        self, files: Mapping[str, bytes], *, user: str = "admin", wait: bool = True, **complete: Any
    ) -> dict[str, Any]:
        """Import *files* (target path to content); *complete* is the body of the call of that name.

        Returns the result with the package's id as ``package`` and its last ``state``.
        """
        package = self.post("v1/import/", {}, user=user)["id"]
        for number, (target, content) in enumerate(files.items()):
            response = self.send_chunk(package, target, content, identifier=f"{package}-{number}", user=user)
            assert response.status_code == 200, response.text
        self.post(f"v1/import/{package}/complete/", complete, user=user)
        state = self.wait_for_import(package, user=user) if wait else None
        return {**self.get(f"v1/import/{package}/result/", user=user), "package": package, "state": state}

    def send_chunk(
        self,
        package: int,
        target: str,
        content: bytes,
        *,
        identifier: str,
        number: int = 1,
        chunks: int = 1,
        total_size: int | None = None,
        user: str = "admin",
        **fields: str,
    ) -> Response:
        """Send one chunk the way the vendor's clients do."""
        form = {
            "description": "",
            "flowChunkNumber": str(number),
            "flowChunkSize": "104857600",
            "flowCurrentChunkSize": str(len(content)),
            "flowTotalSize": str(len(content) if total_size is None else total_size),
            "flowIdentifier": identifier,
            "flowFilename": target,
            "flowRelativePath": target,
            "flowTotalChunks": str(chunks),
            **fields,
        }
        return self.api(
            "POST",
            f"v1/import/{package}/upload/",
            data=form,
            files={"file": (target.rpartition("/")[2] or "file", content)},
            user=user,
        )

    def wait_for_import(self, package: int, *, user: str = "admin") -> int:
        """Poll until the import has ended and return its state, 5 or -1."""
        deadline = time.monotonic() + START_TIMEOUT_S
        pause_s = 0.005
        while time.monotonic() < deadline:
            progress = self.get(f"v1/import/{package}/progress/", user=user)
            if progress["state"] in (5, -1):
                return int(progress["state"])
            time.sleep(pause_s)  # another process works; there is nothing to be told by
            pause_s = min(pause_s * 2, 0.2)
        raise TimeoutError(f"import {package} did not end: {progress}")
