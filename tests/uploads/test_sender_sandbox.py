"""From a written file to a verified one: sender, settler and client against the embedded server."""

from __future__ import annotations

import pytest

from agorafs.client import ApiKey, Client, Timeouts, Transport
from agorafs.client.records import Dataset, Folder, Kind
from agorafs.uploads.nodes import Place
from agorafs.uploads.sender import Sender
from agorafs.uploads.settle import Settler
from agorafs.uploads.values import Anchor
from tests.support.sandbox import SandboxProcess
from tests.support.waiting import eventually
from tests.uploads.local import Local
from tests.uploads.sending import sha1

MIB = 1 << 20
FILES = {
    "large.bin": bytes(range(256)) * (3 * MIB // 256) + b"end",
    "small.txt": b"small",
    "empty": b"",
    "d/e/ünïcode 日本語.txt": b"deep",
    "mine.agora_upload": b"not a package of ours",
}
WITHIN_S = 120


@pytest.fixture
def sandbox(tmp_path):
    with SandboxProcess(tmp_path / "sandbox", seed="none") as sandbox:
        yield sandbox


@pytest.fixture
def client(sandbox):
    transport = Transport(
        sandbox.url, ApiKey(sandbox.api_key), timeouts=Timeouts(first_byte_s=5, deadline_s=5, away_s=0.1)
    )
    yield Client(transport)
    transport.close()


class Chain:
    """A local store and what brings it to the server."""

    def __init__(self, state, sandbox, client):
        self.local = Local(state)
        self.client = client
        project = sandbox.post("v2/project/", {"name": "P", "description": "for one test"})["id"]
        self.root = client.project(project).root_folder
        for target, data in FILES.items():
            place: Place = Anchor(Kind.FOLDER, self.root)
            *directories, name = target.split("/")
            for one in directories:
                uploads = self.local.uploads
                place = uploads.find(place, one) or uploads.make_directory(place, one)
            self.local.write(place, name, data)
        self.local.fall_quiet()
        arrivals = self.local.arrivals
        settler = Settler(
            self.local.journal,
            arrivals,
            client,
            client.changes,
            client.annotations,
            refresh=lambda changed: None,
            adopt=lambda datafile, path: None,
            say=lambda dataset, said: None,
            link_exams=True,
        )
        self.sender = Sender(self.local.journal, arrivals, client.imports, settler, random=lambda: 0.0)

    def has_ended(self) -> bool:
        return not self.local.journal.batches()

    def stored(self, folder=None, above=""):
        """Return the SHA-1s that the server has below the project's folder, by path; one for each dataset."""
        found: dict[str, list[str]] = {}
        for item in self.client.folder_items(folder or self.root):
            if isinstance(item.content, Folder):
                found.update(self.stored(item.content.id, f"{above}{item.content.name}/"))
            elif isinstance(item.content, Dataset):
                for datafile in item.content.datafiles or ():
                    found.setdefault(above + datafile.original_filename, []).append(datafile.sha1)
        return found


@pytest.fixture
def chain(tmp_path, sandbox, client):
    one = Chain(tmp_path / "state", sandbox, client)
    yield one
    one.local.store.closing.set()
    one.sender.close()
    one.local.close()


def expected():
    return {target: [sha1(data)] for target, data in FILES.items()}


def test_everything_that_was_written_is_stored_once_through_small_chunks_too(chain, sandbox):
    sandbox.switch(chunk_max=str(MIB))
    chain.sender.start()
    eventually(chain.has_ended, WITHIN_S)
    assert chain.stored() == expected()


def test_a_server_that_is_killed_in_between_costs_nothing(chain, sandbox):
    sandbox.switch(import_hold="on")
    chain.sender.start()
    eventually(
        lambda: any(batch.state.value == "importing" for batch in chain.local.journal.batches()), WITHIN_S
    )
    sandbox.kill()
    sandbox.start()
    sandbox.switch(import_hold="off")
    eventually(chain.has_ended, WITHIN_S)
    assert chain.stored() == expected()
