"""A server that is killed while several clients write has, at its next start, everything it had said yes to."""

from __future__ import annotations

import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest
import requests

from tests.support.sandbox import SandboxProcess

WRITERS = 4
ANSWERS = (15, 30, 61)  # after so many of them the server is killed, in the middle of the next ones
TIMEOUT_S = 60


@dataclass
class Answered:
    """What one writer was told, and what it had asked when the connection was lost."""

    folders: dict[int, set[str]] = field(default_factory=dict)  # names that the folder may have
    open_packages: dict[int, bytes] = field(default_factory=dict)  # a chunk was taken
    completed: dict[int, bytes] = field(default_factory=dict)  # sealed after that


class Countdown:
    """Says when enough answers have come, from all writers together."""

    def __init__(self, answers: int) -> None:
        self.reached = threading.Event()
        self._lock = threading.Lock()
        self._left = answers

    def count(self) -> None:
        with self._lock:
            self._left -= 1
            if self._left == 0:
                self.reached.set()


class Writer:
    """A client that creates, renames and uploads until the server is gone."""

    def __init__(self, server: SandboxProcess, root: int, name: str, countdown: Countdown) -> None:
        self._url = f"{server.url}/api/v1"
        self._root = root
        self._name = name
        self._countdown = countdown
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.headers["Authorization"] = f"X-Agora-Api-Key {server.api_key}"
        self.answered = Answered()

    def write(self) -> Answered:
        with self._session:
            number = 0
            try:
                while True:
                    number += 1
                    self._make_and_rename(f"{self._name}-{number}")
                    self._upload(f"{self._name}-{number}.bin")
            except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
                return self.answered  # killed

    def _make_and_rename(self, name: str) -> None:
        made = self._ask("POST", f"folder/{self._root}/new/", 201, json={"name": name})
        folder = made.json()["object_id"]
        self.answered.folders[folder] = {name, f"{name} renamed"}
        self._ask("PUT", f"folder/{folder}/", 200, json={"name": f"{name} renamed"})
        self.answered.folders[folder] = {f"{name} renamed"}

    def _upload(self, name: str) -> None:
        package = self._ask("POST", "import/", 201, json={}).json()["id"]
        content = name.encode() * 5000
        form = {
            "flowChunkNumber": "1",
            "flowTotalChunks": "1",
            "flowTotalSize": str(len(content)),
            "flowIdentifier": name,
            "flowFilename": name,
        }
        path = f"import/{package}/upload/"
        self._ask("POST", path, 200, data=form, files={"file": (name, content)})
        self.answered.open_packages[package] = content
        self._ask("POST", f"import/{package}/complete/", 204, json={"folder": self._root})
        self.answered.completed[package] = self.answered.open_packages.pop(package)

    def _ask(self, method, path, status, **options):
        response = self._session.request(method, f"{self._url}/{path}", timeout=TIMEOUT_S, **options)
        assert response.status_code == status, response.text
        self._countdown.count()
        return response


@pytest.fixture
def server(tmp_path):
    """A server that the test may kill."""
    with SandboxProcess(tmp_path / "data", switches={"import-speed": "0"}) as process:
        yield process


def test_a_kill_in_the_middle_of_four_writers_loses_nothing_that_was_answered(server):
    """Folders, names, chunks and sealed packages are there; what was sealed is imported, what was not can be."""
    root = server.post("v2/project/", {"name": "killed"})["root_folder"]
    everything: list[Answered] = []
    for answers in ANSWERS:
        countdown = Countdown(answers)
        writers = [Writer(server, root, f"{answers}-{number}", countdown) for number in range(WRITERS)]
        with ThreadPoolExecutor(WRITERS) as threads:
            running = [threads.submit(writer.write) for writer in writers]
            assert countdown.reached.wait(TIMEOUT_S)
            server.kill()
            everything += [writer.result(TIMEOUT_S) for writer in running]
        server.start()

    names = {
        item["object_id"]: item["content_object"]["name"]
        for item in server.get(f"v1/folder/{root}/items/")
        if item["content_type"] == "folder"
    }
    assert sum(len(answered.folders) for answered in everything) >= WRITERS
    for answered in everything:
        for folder, possible in answered.folders.items():
            assert names[folder] in possible
        for package in answered.open_packages:
            # The answer to "complete" may have been lost after it was carried out; saying it again does no harm.
            assert server.api("POST", f"v1/import/{package}/complete/", json={"folder": root}).ok
        for package, content in {**answered.open_packages, **answered.completed}.items():
            assert server.wait_for_import(package) == 5
            (file,) = server.get(f"v1/import/{package}/result/")["datafiles"]
            assert file["sha1"] == hashlib.sha1(content).hexdigest()
            assert server.api("GET", f"v1/datafile/{file['id']}/download/").content == content
    assert server.log == ""
