"""Whatever happens between mount and server, what was written stays readable and arrives once.

A proxy between the two breaks requests in chosen places (``support.fault_proxy``); where the server itself is to
misbehave, its switches do that. Every test looks at three things: what the user is told while it lasts and afterwards,
that somebody who reads the file all the time never sees anything but its bytes, and that in the end the server has
each file once. And every test makes sure that its fault has struck.

Most tests share one mount. It has learnt, before they begin, that the server takes small chunks only, so that a file of
some hundred kilobytes travels in ``CHUNKS`` of them.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import random
import re
import signal
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from agorafs.errors import ExitStatus
from tests.support.fault_proxy import (
    Action,
    Exchange,
    FaultProxy,
    Rule,
    answer,
    cut_answer,
    cut_request,
    lose_answer,
    pass_on,
    stall,
)
from tests.support.mount import Mount
from tests.support.sandbox import SandboxProcess
from tests.support.waiting import eventually
from tests.support.writing import QUIET, Drive, Place, identities, read_tree

# The longest wait of one request with its repetitions: what lasts longer is told to the user.
DEADLINE = "deadline_s=1"
CHUNK_BYTES = 64 << 10
CHUNKS = 5
SIZE = (CHUNKS - 1) * CHUNK_BYTES + 20_000
LARGEST_CHUNK_BYTES = 8 << 20
PATIENCE_S = 60
LOOK_S = 0.05
SWITCHES = {
    "fault": "",
    "chunk-max": str(CHUNK_BYTES),
    "import-speed": "0",
    "import-fail": "off",
    "result-sha1": "right",
    "result-datafiles": "listed",
    "result-ignore": "",
    "quota": "0",
}

CREATE, UPLOAD, COMPLETE = "POST /api/v1/import/", "/upload/", "/complete/"
PROGRESS, RESULT, LISTING = "GET /progress/", "GET /result/", "GET /items/"


# Exit statuses of ``agorafs status``: a server that answers with errors is not away, nor is one that breaks off what
# it is sent; where one request never succeeds and others do, it depends on which was the last.
WELL, AWAY, REFUSED = (ExitStatus.OK,), (ExitStatus.UNAVAILABLE,), (ExitStatus.NOT_AUTHENTICATED,)
SOMETIMES_AWAY = (*WELL, *AWAY)


class Status(NamedTuple):
    """What ``agorafs status --json`` says, and its exit status."""

    exit: int
    uploads: dict[str, Any]


class Faulty:
    """A server, the proxy in front of it, and a mount that knows the proxy only."""

    def __init__(
        self, server: SandboxProcess, directory: Path, switches: Mapping[str, str], *, folders: int
    ) -> None:
        self.server = server
        self.switches = switches
        self.proxy = FaultProxy(server.port)
        self.key_file = directory / "key"
        self.key_file.touch(0o600)
        self.key_file.write_text(server.api_key)
        options = (QUIET, DEADLINE, f"api_key_file={self.key_file}")
        self.mount = Mount(self.proxy.url, server.api_key, directory, *options)
        self.drive = Drive(server, self.mount, folders=folders)

    def end(self) -> None:
        self.mount.clear()
        self.proxy.close()

    def place(self) -> Place:
        """Return an empty folder that has been listed."""
        place = self.drive.place()
        assert read_tree(place.path) == {}
        return place

    def heal(self) -> None:
        """Let everything pass from now on, and the server behave."""
        self.proxy.clear()
        self.proxy.online()
        self.server.control("PUT", "switches", json=self.switches)

    def clean_up(self) -> None:
        """Heal, and let what a failed test has left arrive, so that the next one is told of its own troubles only."""
        self.heal()
        left = self.drive.uploads()
        if left["files"] or left["failed"]:
            self.mount.run("retry", self.mount.path)
            self.drive.try_sync()

    def status(self) -> Status:
        done = self.mount.run("status", self.mount.path, "--json")
        (mount,) = json.loads(done.stdout)["mounts"]
        return Status(done.returncode, mount["status"]["uploads"])

    def asked_since(self, count: int) -> list[str]:
        """Return the requests that came after the first *count*, without their queries."""
        return [request.partition("?")[0] for request in self.proxy.seen[count:]]


def serve(directory: Path, switches: Mapping[str, str]) -> Iterator[Faulty]:
    """Serve and mount, for a fixture; what went wrong behind the scenes is a failure at the end."""
    with SandboxProcess(directory / "data", switches=switches) as server:
        made = Faulty(server, directory, switches, folders=60)
        try:
            made.mount.mount()
            yield made
        finally:
            made.end()
        assert "Traceback" not in made.mount.log()
    assert server.log == ""


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> Iterator[Faulty]:
    """A mount that has learnt the server's small chunks; each test writes into a folder of its own."""
    for made in serve(Path(tmp_path_factory.mktemp("faults")), SWITCHES):
        place = made.place()
        (place.path / "first").write_bytes(random_bytes(SIZE))
        made.drive.sync(place.path)
        yield made


@pytest.fixture
def faulty(shared) -> Iterator[Faulty]:
    """The shared mount, well again after the test, whatever it did."""
    yield shared
    shared.clean_up()


def random_bytes(size: int) -> bytes:
    """Return bytes that no other file of the module has."""
    return random.Random(next(_SEEDS)).randbytes(size)


_SEEDS = iter(range(1_000_000))


# -- somebody who looks all the time ---------------------------------------------------------------------


class Watcher:
    """Lists a folder and reads its files again and again, and notes whatever is not as it was written."""

    def __init__(self, place: Place, files: Mapping[str, bytes]) -> None:
        self._place = place
        self._files = files
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watcher")
        self.looks = 0
        self.wrong: list[str] = []

    def __enter__(self) -> Watcher:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                self._look()
            except OSError as error:
                self.wrong.append(str(error))
            self.looks += 1
            self._ended.wait(LOOK_S)

    def _look(self) -> None:
        names = sorted(path.name for path in self._place.path.iterdir())
        if names != sorted(self._files):
            self.wrong.append(f"the folder lists {names}")
        for name, content in self._files.items():
            with (self._place.path / name).open("rb", buffering=0) as file:
                # so that the mount is asked and not what the kernel remembers
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                size = os.fstat(file.fileno()).st_size
                found = file.readall()
            if found != content or size != len(content):
                self.wrong.append(f"{name}: {len(found)} bytes, {size} announced; not what was written")


@contextlib.contextmanager
def written(faulty: Faulty, place: Place, files: Mapping[str, bytes]) -> Iterator[None]:
    """Write *files*; at the end they must have been readable all the time and be on the server, each once."""
    for name, content in files.items():
        (place.path / name).write_bytes(content)
    with Watcher(place, files) as watcher:
        yield
        arrived(faulty, place, files)
        seen = watcher.looks
        eventually(lambda: watcher.looks > seen + 1, PATIENCE_S)  # once more as it is at the end
    assert watcher.wrong == []


def arrived(faulty: Faulty, place: Place, files: Mapping[str, bytes]) -> None:
    """``agorafs sync`` ends well, and the server has each file once: here, and nowhere else."""
    faulty.drive.sync(place.path)
    expected = identities(dict(files))
    assert place.stored() == expected
    counts = Counter(one["sha1"] for one in faulty.server.datafiles())
    there = {sha1: counts[sha1] for size, sha1 in expected.values() if size}
    assert there == dict.fromkeys(there, 1)
    status = faulty.status()
    assert (status.exit, status.uploads["files"], status.uploads["failed"]) == (0, 0, 0)
    assert {attribute(place.path / name, "state") for name in files} == {"stored"}
    assert {attribute(place.path / name, "error") for name in files} == {""}


def attribute(path: Path, name: str) -> str:
    """Return ``user.agora.NAME`` of a file, empty if there is none."""
    try:
        return os.getxattr(path, f"user.agora.{name}").decode()
    except OSError as error:
        assert error.errno == errno.ENODATA
        return ""


# -- what the user is told -------------------------------------------------------------------------------


def check_waits(
    faulty: Faulty, path: Path, *, state: str, reason: str, exits: tuple[ExitStatus, ...]
) -> None:
    """The user sees that *path* is on its way, in *state*, and why it does not get on; nothing has failed.

    *exits* are the possible exit statuses of ``agorafs status``. While it tries again the reason is not shown.
    """

    def is_told() -> bool:
        status = faulty.status()
        assert (status.uploads["failed"], status.uploads["files"] > 0) == (0, True)
        assert status.exit in exits
        return re.search(reason, status.uploads["waiting"]) is not None

    def is_told_by_sync() -> bool:
        sync = faulty.drive.try_sync(path, "--timeout", "0.1")
        refused = ExitStatus.NOT_AUTHENTICATED
        assert sync.returncode == (refused if refused in exits else ExitStatus.UNAVAILABLE), sync.stderr
        return re.search(f"not on the server after 0.1 s.*{reason}", sync.stderr) is not None

    eventually(lambda: bool(faulty.drive.uploads()["waiting"]), PATIENCE_S)
    try:
        eventually(is_told, PATIENCE_S)
        eventually(is_told_by_sync, PATIENCE_S)
    except AssertionError as error:
        raise AssertionError(f"{error}: {faulty.drive.uploads()}") from error
    assert re.fullmatch(state, attribute(path, "state")), attribute(path, "state")
    eventually(lambda: re.search(reason, attribute(path, "error")) is not None, PATIENCE_S)


def check_failed(faulty: Faulty, path: Path, reason: str) -> None:
    """The user sees that *path* has failed, and the server's words; ``sync`` and ``status`` do not end well."""
    sync = faulty.drive.try_sync(path)
    assert sync.returncode == ExitStatus.FAILED, sync.stderr
    assert re.search(f"{re.escape(str(path))}: .*{reason}", sync.stderr), sync.stderr
    error = attribute(path, "error")
    assert re.search(reason, error), error
    assert attribute(path, "state") == f"failed: {error}"
    status = faulty.status()
    assert status.exit == ExitStatus.FAILED
    assert status.uploads["failed"] == 1
    ((problem),) = status.uploads["problems"]
    assert problem["reason"] == error
    assert problem["path"].endswith(f"{path.parent.name}/{path.name}")


# -- what happens to requests ----------------------------------------------------------------------------


class OnceForEachChunk:
    """Does *action* with the first request for each chunk; the others pass. Counts both by the chunks' numbers."""

    def __init__(self, action: Action) -> None:
        self._action = action
        self.struck: Counter[int] = Counter()
        self.passed: Counter[int] = Counter()

    def __call__(self, exchange: Exchange) -> bool:
        field = re.search(rb'name="flowChunkNumber"\r\n\r\n([0-9]+)\r\n', exchange.read_body())
        assert field is not None
        number = int(field[1])
        if number not in self.struck:
            self.struck[number] += 1
            return self._action(exchange)
        self.passed[number] += 1
        return pass_on(exchange)


class InTurn:
    """Does one of *actions* after the other, and again from the first."""

    def __init__(self, *actions: Action) -> None:
        self._actions = actions
        self._lock = threading.Lock()
        self._next = 0

    def __call__(self, exchange: Exchange) -> bool:
        with self._lock:
            action = self._actions[self._next % len(self._actions)]
            self._next += 1
        return action(exchange)


def done_and_denied(exchange: Exchange) -> bool:
    """The server does it; a front end that did not wait for its answer gives one of its own."""
    exchange.send_request()
    exchange.receive_head()
    exchange.client.sendall(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    return False


def errors() -> Action:
    """The server, or what stands in front of it, answers 502, 503 and 500 in turn."""
    return InTurn(answer(502, b"<html>"), answer(503, headers={"Retry-After": "1"}), answer(500))


def lasts(faulty: Faulty, request: str, action: Action) -> Rule:
    """Let *action* happen to each such request until all is well again."""
    return faulty.proxy.on(request, action, times=None)


# -- chunks ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", [cut_request(CHUNK_BYTES // 4), lose_answer()], ids=["cut", "lost answer"])
def test_a_connection_that_breaks_in_each_chunk_costs_that_chunk_again_and_nothing_else(faulty, action):
    """Connection reset in each chunk, lost answer after the server took the chunk: the same bytes are sent again."""
    place = faulty.place()
    each = OnceForEachChunk(action)
    rule = lasts(faulty, UPLOAD, each)
    with written(faulty, place, {"scan.raw": random_bytes(SIZE)}):
        eventually(lambda: len(each.struck) == CHUNKS, PATIENCE_S)
    assert rule.struck == 2 * CHUNKS
    assert each.struck == each.passed == dict.fromkeys(range(1, CHUNKS + 1), 1)


def test_while_every_chunk_breaks_off_the_user_is_told_so(faulty):
    place = faulty.place()
    rule = lasts(faulty, UPLOAD, cut_request(CHUNK_BYTES // 2))
    with written(faulty, place, {"scan.raw": random_bytes(SIZE)}):
        # The server answers everything else: it is not away.
        check_waits(
            faulty,
            place.path / "scan.raw",
            state="uploading 0 %",
            reason="/upload/: Connection reset",
            exits=WELL,
        )
        faulty.heal()
    assert rule.struck > 1


def test_chunks_that_were_acknowledged_before_the_trouble_are_not_sent_again(faulty):
    """Resume by chunk: the state tells how far it is, and only what is missing is sent."""
    place = faulty.place()
    before = len(faulty.proxy.seen)
    rule = faulty.proxy.on(UPLOAD, cut_request(100), at=CHUNKS, times=None)
    with written(faulty, place, {"scan.raw": random_bytes(SIZE)}):
        check_waits(
            faulty,
            place.path / "scan.raw",
            state="uploading 9[0-9] %",
            reason="/upload/",
            exits=WELL,
        )
        faulty.heal()
    assert rule.struck > 0
    sent = [request for request in faulty.asked_since(before) if request.endswith(UPLOAD)]
    assert len(sent) == CHUNKS + rule.struck


def test_an_import_package_whose_number_was_lost_is_left_empty(faulty):
    """Lost answer to the creation of the package: another is made, and the server imports one."""
    place = faulty.place()
    before = len(faulty.proxy.seen)
    rule = faulty.proxy.on(CREATE, lose_answer())
    with written(faulty, place, {"scan.raw": random_bytes(SIZE), "empty": b""}):
        eventually(lambda: rule.struck == 1, PATIENCE_S)
    asked = faulty.asked_since(before)
    assert asked.count(CREATE) == 2
    assert len([request for request in asked if request.endswith(COMPLETE)]) == 1


# -- complete --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "action",
    [lose_answer(), cut_answer(), done_and_denied, stall(carried_out=True)],
    ids=["lost", "cut", "denied", "stalled"],
)
def test_complete_is_not_said_twice_when_its_answer_was_lost(faulty, action):
    """Lost answer to `complete`: the package is looked at, and it is being imported."""
    place = faulty.place()
    before = len(faulty.proxy.seen)
    rule = lasts(faulty, COMPLETE, action)
    with written(faulty, place, {"scan.raw": random_bytes(SIZE), "notes.txt": random_bytes(1000)}):
        eventually(lambda: rule.struck > 0, PATIENCE_S)
    assert rule.struck == 1
    asked = faulty.asked_since(before)
    assert len([request for request in asked if request.endswith(COMPLETE)]) == 1
    assert asked.count(CREATE) == 1


def test_complete_is_said_again_when_it_has_not_reached_the_server(faulty):
    place = faulty.place()
    before = len(faulty.proxy.seen)
    rule = faulty.proxy.on(COMPLETE, cut_request(1))
    with written(faulty, place, {"scan.raw": random_bytes(SIZE)}):
        eventually(lambda: rule.struck == 1, PATIENCE_S)
    asked = faulty.asked_since(before)
    assert asked.count(CREATE) == 1
    assert len([request for request in asked if request.endswith(COMPLETE)]) == 2


# -- a server that can not, or says nothing, or half of it -----------------------------------------------


@dataclass(frozen=True, slots=True)
class Trouble:
    """What happens to which request, in what state the file is meanwhile, and how often it has to strike."""

    request: str
    action: Action
    state: str
    reason: str
    exits: tuple[ExitStatus, ...]
    least: int = 1


IMPORTING, VERIFYING = "importing", "verifying"
TROUBLES = {
    "errors, creation": Trouble(CREATE, errors(), "pending", "/import/.* 50[023]", WELL),
    "errors, upload": Trouble(UPLOAD, errors(), "uploading 0 %", "/upload/.* 50[023]", WELL, 3),
    "errors, complete": Trouble(COMPLETE, errors(), "uploading 100 %", "/complete/.* 50[023]", WELL, 2),
    "errors, progress": Trouble(PROGRESS, errors(), IMPORTING, "/progress/.* 50[023]", WELL, 3),
    "errors, result": Trouble(RESULT, errors(), IMPORTING, "/result/.* 50[023]", WELL, 3),
    "silence, progress": Trouble(PROGRESS, stall(), IMPORTING, "/progress/.*no answer in time", AWAY),
    "half an answer, progress": Trouble(
        PROGRESS,
        cut_answer(),
        IMPORTING,
        "/progress/.*(Connection reset|before the end)",
        AWAY,
        2,
    ),
    "half an answer, result": Trouble(
        RESULT,
        cut_answer(),
        IMPORTING,
        "/result/.*(Connection reset|before the end)",
        AWAY,
        2,
    ),
    "half an answer, listing": Trouble(
        LISTING,
        cut_answer(),
        VERIFYING,
        "/items/.*(Connection reset|before the end)",
        AWAY,
        2,
    ),
}


@pytest.mark.parametrize("name", TROUBLES)
def test_trouble_that_lasts_is_told_and_what_was_written_arrives_when_it_is_over(faulty, name):
    """500, 502 and 503 with Retry-After, silence, truncated answers: it waits with the reason, and nothing fails."""
    trouble = TROUBLES[name]
    place = faulty.place()
    rule = lasts(faulty, trouble.request, trouble.action)
    with written(faulty, place, {"scan.raw": random_bytes(SIZE)}):
        check_waits(
            faulty,
            place.path / "scan.raw",
            state=trouble.state,
            reason=trouble.reason,
            exits=trouble.exits,
        )
        eventually(lambda: rule.struck >= trouble.least, PATIENCE_S)
        faulty.heal()


# -- what the server does not take -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Refusal:
    """How the server is made to refuse, and its words; ``stored``: it has the file nevertheless."""

    switches: Mapping[str, str]
    reason: str
    stored: bool = False


REFUSALS = {
    "state -1": Refusal({"import-fail": "on"}, "could not import this: .*the switch import-fail is on"),
    "wrong SHA-1": Refusal(
        {"result-sha1": "wrong"}, "the server holds other bytes \\(SHA-1 [0-9a-f]{40} instead of", stored=True
    ),
    "ignored": Refusal({"result-ignore": "refused"}, "ignored this file: .*the switch result-ignore says so"),
    "quota": Refusal({"quota": "1"}, "Quota exceeded"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_the_server_does_not_take_stays_readable_with_its_words_until_it_is_sent_again(faulty, name):
    """Import state -1, a wrong SHA-1, an ignored file, a quota: `failed` with the reason; `retry` sends it again."""
    refusal = REFUSALS[name]
    place = faulty.place()
    files = {"refused.raw": random_bytes(SIZE)}
    path = place.path / "refused.raw"
    faulty.server.control("PUT", "switches", json=refusal.switches)
    with written(faulty, place, files):
        check_failed(faulty, path, refusal.reason)
        assert place.stored() == (identities(dict(files)) if refusal.stored else {})
        before = len(faulty.proxy.seen)
        umount = faulty.mount.run("umount", faulty.mount.path)
        assert umount.returncode == ExitStatus.FAILED
        assert re.search(refusal.reason, umount.stderr), umount.stderr
        assert faulty.asked_since(before) == []  # nobody tries again before somebody says so
        faulty.heal()
        retried = faulty.mount.run("retry", path)
        assert (retried.returncode, retried.stdout) == (0, "sending 1 file again\n")


@pytest.mark.parametrize("request_", [CREATE, UPLOAD, COMPLETE], ids=["creation", "upload", "complete"])
def test_a_refusal_with_a_text_is_shown_with_that_text(faulty, request_):
    """A 403 from the server: `failed` with its text; `retry` sends it again."""
    place = faulty.place()
    text = b'{"detail": "The disk of this department is full, ask Maria."}'
    rule = lasts(faulty, request_, answer(403, text))
    path = place.path / "scan.raw"
    with written(faulty, place, {"scan.raw": random_bytes(SIZE)}):
        check_failed(faulty, path, "The disk of this department is full, ask Maria")
        assert rule.struck > 0
        assert place.stored() == {}
        faulty.heal()
        assert faulty.mount.run("retry", faulty.mount.path).returncode == 0


def test_a_file_that_is_ignored_does_not_keep_the_others_of_its_batch_from_arriving(faulty):
    place = faulty.place()
    files = {"ignored.raw": random_bytes(1000), "taken.raw": random_bytes(1000)}
    faulty.server.switch(result_ignore="ignored")
    with written(faulty, place, files):
        check_failed(faulty, place.path / "ignored.raw", "ignored this file")
        assert place.stored() == identities({"taken.raw": files["taken.raw"]})
        assert attribute(place.path / "taken.raw", "state") == "stored"
        faulty.heal()
        assert faulty.mount.run("retry", place.path).stdout == "sending 1 file again\n"


def test_a_result_that_lists_no_files_is_made_up_for_by_looking(faulty):
    """Result without `datafiles`: size and SHA-1 are compared with what the folder holds."""
    place = faulty.place()
    faulty.server.switch(result_datafiles="missing")
    before = len(faulty.proxy.seen)
    with written(faulty, place, {"scan.raw": random_bytes(SIZE), "notes.txt": random_bytes(1000)}):
        faulty.drive.sync(place.path)
        assert len([request for request in faulty.asked_since(before) if request.endswith("/result/")]) == 1


def test_a_result_that_lists_no_files_and_a_file_that_is_not_there_is_a_failure(faulty):
    """Nothing is ever assumed: without a word of the server the file has to be seen."""
    place = faulty.place()
    faulty.server.control("PUT", "switches", json={"result-datafiles": "missing", "result-ignore": "scan"})
    with written(faulty, place, {"scan.raw": random_bytes(SIZE)}):
        check_failed(faulty, place.path / "scan.raw", "does not say what became of this file")
        faulty.heal()
        assert faulty.mount.run("retry", place.path).returncode == 0


# -- the key ---------------------------------------------------------------------------------------------


def test_a_key_that_is_revoked_in_the_middle_holds_all_up_until_there_is_a_new_one(faulty):
    """401 in the middle: it waits and says so; with a new key and SIGHUP it goes on by itself."""
    place = faulty.place()
    # Who is no longer let in is shown no listing whose time is over, and here it is to be another's.
    assert faulty.mount.run("refresh", faulty.mount.path).returncode == 0
    assert list(place.path.iterdir()) == []

    def revoke(exchange: Exchange) -> bool:
        faulty.server.revoke()
        return pass_on(exchange)

    before = len(faulty.proxy.seen)
    rule = faulty.proxy.on(UPLOAD, revoke, at=CHUNKS)
    with written(faulty, place, {"scan.raw": random_bytes(SIZE)}):
        check_waits(
            faulty,
            place.path / "scan.raw",
            state="uploading [1-9][0-9] %",
            reason="API key|401|credential",
            exits=REFUSED,
        )
        assert rule.struck == 1
        faulty.key_file.write_text(faulty.server.set_api_key())
        os.kill(faulty.mount.pid(), signal.SIGHUP)
    assert faulty.asked_since(before).count(CREATE) == 1  # it went on, it did not begin anew


# -- large chunks, no server, no answer ------------------------------------------------------------------


@pytest.fixture(scope="module")
def shared_roomy(tmp_path_factory) -> Iterator[Faulty]:
    """Another server and mount, where chunks of any size pass until a test says otherwise."""
    yield from serve(Path(tmp_path_factory.mktemp("roomy")), SWITCHES | {"chunk-max": "0"})


@pytest.fixture
def roomy(shared_roomy) -> Iterator[Faulty]:
    """The other mount, well again after the test."""
    yield shared_roomy
    shared_roomy.clean_up()


def test_a_chunk_that_stalls_is_given_up_and_sent_again(roomy):
    """A stall of an upload: the server takes no byte of it for the time that a silence may last."""
    place = roomy.place()
    rule = lasts(roomy, UPLOAD, stall())
    with written(roomy, place, {"scan.raw": random_bytes(12 << 20)}):
        check_waits(
            roomy,
            place.path / "scan.raw",
            state="uploading 0 %",
            reason="the server took no byte for 1 s",
            exits=WELL,
        )
        roomy.heal()
    assert rule.struck > 0


def test_a_chunk_whose_answer_never_comes_keeps_nobody_and_is_sent_again_by_the_next_mount(roomy):
    place = roomy.place()
    rule = lasts(roomy, UPLOAD, stall(carried_out=True))
    content = random_bytes(SIZE)
    path = place.path / "scan.raw"
    path.write_bytes(content)
    eventually(lambda: rule.struck == 1, PATIENCE_S)
    assert attribute(path, "state") == "uploading 0 %"
    done = roomy.mount.run("umount", "--detach", roomy.mount.path)
    assert (done.returncode, "1 file not on the server yet" in done.stdout) == (0, True), done
    roomy.heal()
    roomy.mount.mount()
    arrived(roomy, place, {"scan.raw": content})
    assert path.read_bytes() == content


def test_with_the_server_away_all_can_be_written_and_arrives_when_it_is_back(roomy):
    """A server that is down for the whole upload: `umount` refuses with the reason, `--detach` leaves it to the next
    mount.
    """
    place = roomy.place()
    roomy.proxy.offline()
    files = {"scan.raw": random_bytes(SIZE), "notes.txt": random_bytes(1000), "empty": b""}
    for name, content in files.items():
        (place.path / name).write_bytes(content)
    with Watcher(place, files) as watcher:
        check_waits(
            roomy,
            place.path / "scan.raw",
            state="pending",
            reason="Connection refused",
            exits=AWAY,
        )
        umount = roomy.mount.run("umount", roomy.mount.path)
        assert umount.returncode == ExitStatus.UNAVAILABLE
        assert re.search(
            r"stays mounted, 3 files .* not on the server yet \(.*Connection refused", umount.stderr
        )
        assert "--detach" in umount.stderr
    assert watcher.wrong == []
    assert watcher.looks > 2
    done = roomy.mount.run("umount", "--detach", roomy.mount.path)
    assert done.returncode == 0, done.stderr
    assert f"3 files not on the server yet: the next mount of {roomy.proxy.url} goes on" in done.stdout
    assert place.stored() == {}
    roomy.heal()
    roomy.mount.mount()
    arrived(roomy, place, files)
    assert read_tree(place.path) == files


def test_a_server_that_comes_back_gets_everything_from_the_same_mount(roomy):
    place = roomy.place()
    roomy.proxy.offline()
    with written(roomy, place, {"scan.raw": random_bytes(SIZE), "empty": b""}):
        check_waits(
            roomy,
            place.path / "empty",
            state="pending",
            reason="Connection refused",
            exits=AWAY,
        )
        roomy.heal()


def test_a_limit_of_the_server_is_found_out_and_kept_to(roomy):
    """413 above 8 MiB: a file of 20 MiB arrives, and the next one is sent in chunks that pass at once."""
    place = roomy.place()
    roomy.server.switch(chunk_max=LARGEST_CHUNK_BYTES)
    roomy.server.reset_requests()
    with written(roomy, place, {"large.raw": random_bytes(20 << 20)}):
        eventually(lambda: refused_chunks(roomy) > 0, PATIENCE_S)
    refused = refused_chunks(roomy)
    with written(roomy, roomy.place(), {"large.raw": random_bytes(20 << 20)}):
        pass
    assert refused_chunks(roomy) == refused


def refused_chunks(faulty: Faulty) -> int:
    """Return how many requests the server has answered with 413."""
    return sum(one["status"] == 413 for one in faulty.server.requests())
