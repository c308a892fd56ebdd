"""Whatever dies, and whenever: what was promised arrives, once.

A writer notes outside the mount what it was promised (``support.crash_writer``). Then something dies in a known
state of the journal: the mount's process, the server, the machine. Afterwards the mount is made again, and each
promised file has to be on the server, by its SHA-1, exactly once, as the vendor's connector sees it. That something
was on its way at the moment of the kill is read from the journal that was left.

States are brought about by what the server does (``HOLDS``): it refuses, hangs, or takes a request and does not answer.
``anywhere`` is a request of the import drawn by lot: it is not answered, and that is the moment of the kill.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import random
import shutil
import sqlite3
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agorafs.registry import live_mounts
from tests.support import connector
from tests.support.crash_writer import Promised, Writer
from tests.support.mount import Mount
from tests.support.sandbox import SandboxProcess
from tests.support.waiting import eventually
from tests.support.writing import QUIET, Drive, Place, read_tree

FILES = 12
MOST_REQUESTS = 5  # of an import; each makes so many at least
PATIENCE_S = 60


@dataclass(frozen=True, slots=True)
class Hold:
    """What makes batches stay in ``state``: faults and switches of the server.

    ``first`` is the request, (method, part of the path), that shows that it is so; ``again`` the one of a mount that
    finds its journal in that state. None where the server does not tell of a request before it has ended.
    """

    state: str
    faults: tuple[str, ...] = ()
    switches: tuple[tuple[str, str], ...] = ()
    first: tuple[str, str] | None = None
    again: tuple[str, str] | None = None


CREATE, UPLOAD, COMPLETE = ("POST", "/import/"), ("POST", "/upload/"), ("POST", "/complete/")
PACKAGE, PROGRESS, RESULT, FOLDER = (
    ("GET", "/import/"),
    ("GET", "/progress/"),
    ("GET", "/result/"),
    ("GET", "/folder/"),
)
HOLDS = {
    # Something is open for writing, so nothing below its folder is sealed.
    "open": Hold("open"),
    "sealed": Hold("sealed", ("status=503:POST /api/v1/import/:*",), (), CREATE, CREATE),
    # nothing of the chunk is stored; half of it was sent; all of it was stored, but nobody says so
    "mid-chunk": Hold("uploading", ("hang=600:POST /upload/:*",)),
    "half a chunk": Hold("uploading", ("reset-upload:POST /upload/:*",), (), UPLOAD, UPLOAD),
    "chunk unanswered": Hold("uploading", ("drop-answer:POST /upload/:*",), (), UPLOAD, UPLOAD),
    "before complete": Hold("completing", ("status=503:POST /complete/:*",), (), COMPLETE, PACKAGE),
    "complete unanswered": Hold(
        "completing",
        ("drop-answer:POST /complete/:*", "status=503:GET /v1/import/:*", "status=503:GET /v2/import/:*"),
        (),
        COMPLETE,
        PACKAGE,
    ),
    "importing": Hold("importing", (), (("import-hold", "on"),), PROGRESS, PROGRESS),
    # the server imports, and nobody is told
    "imported unseen": Hold("importing", ("status=503:GET /progress/:*",), (), PROGRESS, PROGRESS),
    "result unseen": Hold("importing", ("status=503:GET /result/:*",), (), RESULT, RESULT),
    "verifying": Hold("verifying", ("status=503:GET /folder/:*",), (), FOLDER, FOLDER),
    # what a file replaces can not be removed
    "settling": Hold("settling", ("status=503:DELETE /:*", "status=503:POST /delete_ids/:*")),
}

# In order. Once ``complete`` was taken, unanswered, the server can not be made to hold the import any more.
EVERYWHERE = (
    "sealed",
    "mid-chunk",
    "chunk unanswered",
    "complete unanswered",
    "imported unseen",
    "verifying",
    "settling",
)
# Each round is one writer and its kills, one after another.
ROUNDS: list[tuple[str, ...]] = [
    *[(hold, hold) for hold in HOLDS],
    ("open", *EVERYWHERE),
    ("open", "half a chunk", "before complete", "imported unseen", "result unseen", "settling"),
    *[("anywhere", "anywhere", "anywhere") for _ in range(5)],
]


def test_there_are_at_least_fifty_kills_in_every_state():
    """`kill -9` of the mount at any point: at least 50 kills, at least two in each state."""
    kills = Counter(itertools.chain.from_iterable(ROUNDS))
    assert sum(kills.values()) >= 50
    assert set(kills) == {*HOLDS, "anywhere"}
    assert min(kills.values()) >= 2


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> Iterator[Drive]:
    """A server and a mount that survive all rounds; each round writes into a folder of its own."""
    directory = Path(tmp_path_factory.mktemp("crash"))
    with SandboxProcess(directory / "data", switches={"import-speed": "0"}) as server:
        mount = Mount(server.url, server.api_key, directory, QUIET)
        drive = Drive(server, mount, folders=len(ROUNDS) + len(HOLDS))
        mount.mount()
        try:
            yield drive
        finally:
            mount.clear()
    assert server.log == ""


@pytest.fixture(scope="module")
def arrived() -> dict[str, dict[str, Promised]]:
    """What every round has found on the server, by the name of its folder; read again at the end."""
    return {}


@pytest.fixture
def writers() -> Iterator[list[Writer]]:
    """Writers that are ended with the test, however it ends."""
    made: list[Writer] = []
    yield made
    for writer in made:
        writer.process.kill()
        writer.process.wait()


@pytest.fixture(autouse=True)
def released(shared) -> Iterator[None]:
    """A test that fails leaves nothing held for the next one."""
    yield
    hold(shared.server, "")


def hold(server: SandboxProcess, name: str) -> None:
    """Make batches stay in the state *name*, or (``open`` and the empty name) let all go on."""
    switches = {"fault": "", "import-hold": "off"}
    if name in HOLDS:
        switches |= {"fault": ",".join(HOLDS[name].faults), **dict(HOLDS[name].switches)}
    server.control("PUT", "switches", json=switches)


def hold_at_request(server: SandboxProcess, number: int) -> None:
    """Leave a request of the import unanswered, the one of this *number*, and in any case what verifies."""
    server.reset_requests()
    faults = f"hang=600:/import/:every-{number},hang=600:/folder/:*"
    server.control("PUT", "switches", json={"fault": faults, "import-hold": "off"})


def is_at_request(drive: Drive, number: int) -> bool:
    """Tell whether all requests before that one were made, or will not be made any more."""
    made = sum("/import/" in one["path"] for one in drive.server.requests())
    return made >= number - 1 or "verifying" in journal_column(drive.mount, "SELECT state FROM batch")


def serving(mount: Mount) -> int:
    """Return the process that serves *mount*, without asking it."""
    (record,) = live_mounts(mount.home / "state" / "agorafs")
    return int(record.pid)


def replaceable(place: Place) -> None:
    """Put files on the server which a writer will replace: half of those that it may write at the top."""
    place.upload({f"file-{number}": b"%d to be replaced" % number for number in range(0, FILES, 2)})


def wait_for(drive: Drive, place: Place, name: str, *, again: bool = False) -> None:
    """Return when the journal is in the state that *name* stands for, *again* after it was there before."""
    wanted = HOLDS[name]
    probe = wanted.again if again else wanted.first

    def is_there() -> bool:
        uploads = drive.uploads()
        if name == "open":
            return bool(uploads["open"])
        if not any(
            one["state"] == wanted.state and one["anchor"] == f"folder:{place.folder}"
            for one in uploads["batches"]
        ):
            return False
        return probe is None or any(
            one["method"] == probe[0] and probe[1] in one["path"] for one in drive.server.requests()
        )

    try:
        eventually(is_there, within_s=PATIENCE_S)
    except AssertionError:
        pytest.fail(f"not {wanted.state}: {drive.uploads()} {drive.server.requests()[-20:]}")


def left_behind(mount: Mount) -> int:
    """Return how many files the journal of *mount* says are not on the server."""
    nodes = journal_column(mount, "SELECT count(*) FROM node WHERE is_directory = 0")
    uploads = journal_column(mount, "SELECT count(*) FROM upload WHERE node IS NULL AND is_settled = 0")
    return int(sum(nodes) + sum(uploads))


def journal_column(mount: Mount, query: str) -> list[Any]:
    """Return what *query* finds in the journals of *mount*, which may be in use."""
    found: list[Any] = []
    for journal in mount.home.glob("state/agorafs/**/journal.db"):
        with contextlib.closing(sqlite3.connect(f"file:{journal}?mode=ro", uri=True)) as db:
            found += [value for (value,) in db.execute(query)]
    return found


def give_up_halves(drive: Drive, place: Place, writer: Writer) -> set[str]:
    """Check that what was being written is kept and says so; remove it as a user would. Return its paths."""
    promised = writer.promised("closed", "fsynced")
    halves = set()
    for path in place.path.rglob("*"):
        name = str(path.relative_to(place.path))
        if path.is_file() and name not in promised:
            path.read_bytes()
            if b"incomplete" in _error(path) or path.name.startswith("."):
                path.unlink()
            halves.add(name)
    return halves


def check_arrived(drive: Drive, place: Place, writer: Writer, replaced: bool) -> dict[str, Promised]:
    """Compare server, mount and manifest; return what is on the server."""
    halves = give_up_halves(drive, place, writer)
    drive.sync(place.path)
    closed = writer.promised("closed")
    stored = {path: Promised(*identity) for path, identity in place.stored().items()}
    assert {path: stored.get(path) for path in closed} == closed
    allowed = set(closed) | halves | writer.promised("opened").keys()
    if replaced:
        allowed |= {f"file-{number}" for number in range(0, FILES, 2)}
    assert set(stored) <= allowed
    # no second one under another name either
    counts = Counter(one["sha1"] for one in drive.server.datafiles())
    assert {promised.sha1: counts[promised.sha1] for promised in closed.values()} == {
        promised.sha1: 1 for promised in closed.values()
    }
    shown = read_tree(place.path)
    assert {path: len(content) for path, content in shown.items() if isinstance(content, bytes)} == {
        path: one.size for path, one in stored.items()
    }
    return stored


@pytest.mark.parametrize(
    "number", range(len(ROUNDS)), ids=lambda number: f"{number}: {', '.join(ROUNDS[number])}"
)
def test_after_any_kills_of_the_mount_everything_promised_is_on_the_server_once(
    shared, arrived, writers, tmp_path, number
):
    """After `kill -9` of the mount at any point, the next mount resumes and every byte arrives exactly once.

    Once `close()` has returned 0, the bytes survive the death of every process, an unmount, and a server that is
    away. Every file that was closed arrives exactly once, whatever is killed or cut off on the way.
    """
    holds = ROUNDS[number]
    place = shared.place()
    replaced = "settling" in holds
    if replaced:
        replaceable(place)
    before = read_tree(place.path)  # listed while the server still answers
    assert len(before) == (FILES // 2 if replaced else 0)
    choices = random.Random(number)
    requests = choices.randint(1, MOST_REQUESTS)
    if holds[0] == "anywhere":
        hold_at_request(shared.server, requests)
    else:
        hold(shared.server, holds[0])
        shared.server.reset_requests()
    is_held_open = holds[0] == "open"
    writer = Writer(place.path, tmp_path / "manifest", seed=number, files=FILES, hold=is_held_open)
    writers.append(writer)
    if holds[0] == "anywhere":
        enough = choices.randint(1, FILES)
        eventually(lambda: writer.count("closed") >= enough, within_s=PATIENCE_S)
    else:
        eventually(lambda: writer.count("done") > 0, within_s=PATIENCE_S)
        assert writer.count("closed") == FILES

    for kills, name in enumerate(holds):
        if kills:
            requests = choices.randint(1, MOST_REQUESTS)
            if name == "anywhere":
                hold_at_request(shared.server, requests)
            else:
                hold(shared.server, name)
                shared.server.reset_requests()
            shared.mount.mount()
        if name == "anywhere":
            eventually(lambda: is_at_request(shared, requests), within_s=PATIENCE_S)  # noqa: B023
        elif not (name == "open" and kills):  # nothing is held open a second time
            wait_for(shared, place, name, again=kills > 0 and holds[kills - 1] == name)
        shared.mount.kill(serving(shared.mount))
        assert left_behind(shared.mount) > 0, "nothing was on its way: this kill shows nothing"
        writer.end()
    hold(shared.server, "")
    shared.mount.mount()
    arrived[place.name] = check_arrived(shared, place, writer, replaced)


@pytest.mark.parametrize("name", HOLDS)
def test_a_server_that_is_killed_in_any_state_gets_everything_once(shared, arrived, writers, tmp_path, name):
    """After the server's `kill -9` in any state of the journal every byte arrives exactly once."""
    place = shared.place()
    if name == "settling":
        replaceable(place)
    read_tree(place.path)  # listed while the server still answers
    hold(shared.server, name)
    shared.server.reset_requests()
    seed = 1000 + list(HOLDS).index(name)
    writer = Writer(place.path, tmp_path / "manifest", seed=seed, files=FILES, hold=name == "open")
    writers.append(writer)
    eventually(lambda: writer.count("done") > 0, within_s=PATIENCE_S)
    wait_for(shared, place, name)
    assert shared.uploads()["files"] > 0
    shared.server.kill()
    shared.server.start()  # without faults
    writer.end()
    arrived[place.name] = check_arrived(shared, place, writer, name == "settling")


def test_what_arrived_after_all_the_kills_is_read_by_a_new_mount_without_a_cache(shared, arrived):
    """The cache is wiped and all is read again, through a new mount."""
    if not arrived:
        pytest.fail("run this test together with those before it: it reads what they wrote")
    shared.mount.umount()
    shutil.rmtree(shared.mount.home / "cache")
    shared.mount.mount()
    for name, files in arrived.items():
        for path, promised in files.items():
            content = (shared.root / name / path).read_bytes()
            assert Promised(len(content), hashlib.sha1(content).hexdigest()) == promised, (name, path)
    assert sum(map(len, arrived.values())) >= FILES * len(arrived) // 2
    assert left_behind(shared.mount) == 0
    log = shared.mount.log()
    assert "Traceback" not in log, log[log.index("Traceback") - 1000 :][:5000]


def test_a_plain_fusermount_loses_nothing(writable, writers, tmp_path):
    """Plain `fusermount3 -u` loses nothing: what was not sent waits for the next mount."""
    drive = writable()
    place = drive.place()
    read_tree(place.path)  # listed while the server still answers
    hold(drive.server, "sealed")
    writer = Writer(place.path, tmp_path / "manifest", seed=5, files=FILES)
    writers.append(writer)
    assert writer.process.wait(PATIENCE_S) == 0
    pid = drive.mount.pid()
    subprocess.run(["fusermount3", "-u", str(drive.mount.path)], check=True)
    eventually(lambda: not Path(f"/proc/{pid}").exists(), within_s=PATIENCE_S)
    assert left_behind(drive.mount) > 0
    assert place.stored() == {}
    hold(drive.server, "")
    drive.mount.mount()
    check_arrived(drive, place, writer, replaced=False)


# -- the power goes --------------------------------------------------------------------------------------


def cut_power(mount: Mount, home: Path, damage: str) -> int:
    """Copy what the mount keeps to *home* as a power cut would leave it; return how many files were damaged.

    The journal and every byte that was synced are as they are; the bytes that were not are cut off or are zeros,
    and the machine has started anew.
    """
    shutil.copytree(mount.home / "state", home / "state", ignore=shutil.ignore_patterns("*.sock", "*.socket"))
    damaged = 0
    for journal in home.glob("state/agorafs/**/journal.db"):
        with contextlib.closing(sqlite3.connect(journal)) as db:
            unsafe = db.execute(
                "SELECT content FROM node WHERE is_directory = 0 AND is_durable = 0 AND content IS NOT NULL"
            ).fetchall()
            for (name,) in unsafe:
                content = journal.parent / "content" / name
                size = content.stat().st_size
                if size == 0:
                    continue
                os.truncate(content, size // 2 if damage == "cut" else 0)
                if damage == "zeros":
                    os.truncate(content, size)
                damaged += 1
            changed = db.execute("UPDATE meta SET value = 'another boot' WHERE name LIKE '%boot%'").rowcount
            assert changed == 1
            db.commit()
    return damaged


@pytest.mark.parametrize("damage", ["cut", "zeros"])
@pytest.mark.parametrize("state", ["open", "sealed", "mid-chunk", "complete unanswered", "verifying"])
def test_a_power_cut_spares_what_was_synced_and_leaves_nothing_half(
    writable, writers, tmp_path, state, damage
):
    """A power cut: what was fsynced arrives; without it, a file is there whole or not at all.

    Once `fsync()` or `agorafs sync` has returned, they survive a power cut too; without it at most the last five
    seconds are open to one, and then a file is there whole or not at all.
    """
    drive = writable()
    place = drive.place()
    read_tree(place.path)  # listed while the server still answers
    hold(drive.server, state)
    writer = Writer(place.path, tmp_path / "manifest", seed=77, files=FILES, hold=True)
    writers.append(writer)
    eventually(lambda: writer.count("done") > 0, within_s=PATIENCE_S)
    if state != "open":
        writer.end()
        wait_for(drive, place, state)
    drive.mount.kill(
        serving(drive.mount)
    )  # first, so that the copy is of one moment; it makes nothing durable
    damaged = cut_power(drive.mount, tmp_path / "after", damage)
    assert damaged > 0 or state != "open", "everything was durable already: this shows nothing"
    writer.end()
    hold(drive.server, "")
    with Mount(drive.server.url, drive.server.api_key, tmp_path / "after", QUIET) as after:
        again = Drive(drive.server, after, project=drive.project)
        promised = writer.promised("closed")
        root = again.root / place.name
        for path in [*root.rglob("*")]:
            if path.is_file() and b"incomplete" in _error(path):
                path.unlink()
        again.sync()
        stored = {path: Promised(*identity) for path, identity in place.stored().items()}
        fsynced = writer.promised("fsynced")
        assert len(fsynced) >= 2
        assert {path: stored.get(path) for path in fsynced} == fsynced
        whole = {path: one for path, one in promised.items() if path in stored}
        assert {path: stored[path] for path in whole} == whole
        assert set(stored) <= set(promised) | {path for path in stored if path.startswith("held-")}
        counts = Counter(file.sha1 for file in connector.files_in_folder(drive.server, place.folder))
        assert max(counts.values()) == 1


def _error(path: Path) -> bytes:
    try:
        return os.getxattr(path, "user.agora.error")
    except OSError:
        return b""
