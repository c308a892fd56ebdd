"""Jobs: followed to their end whatever happens to the mount, seen as files, and waited for."""

import json
import threading
from typing import Any

import pytest

from agorafs.client.records import Folder, Kind, RemoteRef
from agorafs.client.task_records import TimelineItem
from agorafs.errors import (
    Interrupted,
    JobFailed,
    NotADirectory,
    NotFound,
    PermissionDenied,
    RemoteUnavailable,
    UsageError,
)
from agorafs.vfs.aside import NOBODY
from agorafs.vfs.dot_jobs import DotJobs
from agorafs.vfs.job_store import JobState, JobStore
from agorafs.vfs.jobs import Jobs
from tests.support.manual_clock import ManualClock
from tests.support.waiting import eventually
from tests.vfs.world import World

FOLDER = RemoteRef(Kind.FOLDER, 12)
EXAM = RemoteRef(Kind.EXAM, 4)


def item(state, *, number=77, error=None, **data):
    """Return a timeline item as the server sends it."""
    return TimelineItem.from_json({"id": number, "data": {"state": state, **data}, "error": error})


class Server:
    """Gives the answers that are planned, the last one again and again; ``calls`` has what was asked."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.calls = []
        self.folders: Any = []

    def timeline(self, number):
        self.calls.append(f"timeline {number}")
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def result_folders(self, ref):
        self.calls.append(f"result folders of {ref.kind.value} {ref.id}")
        if isinstance(self.folders, Exception):
            raise self.folders
        return self.folders


class Mounts:
    """Makes jobs as one mount after the other does, or several at once, with one state directory."""

    def __init__(self, directory):
        self.directory = directory
        self.clock = ManualClock()
        self.ended = []
        self._open = []

    def make(self, server, **limits):
        jobs = Jobs(self.directory, server, server, on_ended=self.ended.append, clock=self.clock, **limits)
        self._open.append(jobs)
        return jobs

    def close(self):
        for jobs in self._open:
            jobs.close()


@pytest.fixture
def mounts(tmp_path):
    mounts = Mounts(tmp_path / "jobs")
    yield mounts
    mounts.close()


def follow(jobs, clock, *, seconds):
    """Let *seconds* pass, and jobs be asked about whenever they are due."""
    until = clock.now + seconds
    while (pause_s := jobs.follow_due()) is not None and clock.now + pause_s <= until:
        clock.advance(pause_s)
    clock.now = until


# -- following -----------------------------------------------------------------------------------------


def test_a_run_is_followed_from_queued_to_finished_and_its_results_are_what_the_server_relates(mounts):
    made = [{"id": 9, "content_type": "folder"}, {"id": 3, "content_type": "serie"}]
    server = Server(item(6), item(1, progress=40), item(2, related_objects=made))
    jobs = mounts.make(server)
    number = jobs.start_timeline("run T", item(6), target=FOLDER, project=1).number
    assert jobs.job(number).state is JobState.QUEUED
    states = []
    while not jobs.job(number).state.is_over:
        follow(jobs, mounts.clock, seconds=1)
        states.append((jobs.job(number).state.value, jobs.job(number).progress))
    assert [state for n, state in enumerate(states) if state not in states[:n]] == [
        ("queued", ""),
        ("running", "40 %"),
        ("finished", ""),
    ]
    ended = jobs.job(number)
    assert ended.results == (RemoteRef(Kind.FOLDER, 9), RemoteRef(Kind.SERIES, 3))
    assert ended.ended_ns is not None and ended.ended_ns >= ended.started_ns


def test_an_idle_item_has_not_begun_and_is_asked_about_again(mounts):
    """The vendor's connector takes state 0 for an end."""
    server = Server(item(0), item(0), item(2))
    jobs = mounts.make(server)
    number = jobs.start_timeline("run T", item(0), target=FOLDER).number
    follow(jobs, mounts.clock, seconds=60)
    assert jobs.job(number).state is JobState.FINISHED
    assert len(server.calls) == 3


def test_a_long_run_is_asked_about_every_five_seconds_at_most(mounts):
    server = Server(item(6))
    jobs = mounts.make(server)
    jobs.start_timeline("run T", item(6), target=None)
    follow(jobs, mounts.clock, seconds=3600)
    assert 3600 / 5 <= len(server.calls) <= 3600 / 5 + 5


@pytest.mark.parametrize(
    "answer",
    [item(3, error={"message": "no GPU"}), item(3, error="no GPU")],
    ids=["inside", "at the top"],
)
def test_the_error_of_a_run_is_found_wherever_the_server_puts_it(mounts, answer):
    jobs = mounts.make(Server(answer))
    number = jobs.start_timeline("run T", item(1), target=FOLDER).number
    follow(jobs, mounts.clock, seconds=10)
    job = jobs.job(number)
    assert (job.state, job.error, job.results) == (JobState.FAILED, "no GPU", ())


def test_an_error_inside_the_data_is_found_too(mounts):
    raw = {"id": 77, "data": {"state": 3, "error": {"message": "out of memory"}}}
    jobs = mounts.make(Server(TimelineItem.from_json(raw)))
    number = jobs.start_timeline("run T", item(1), target=None).number
    follow(jobs, mounts.clock, seconds=10)
    assert jobs.job(number).error == "out of memory"


def test_a_cancelled_run_is_neither_finished_nor_failed(mounts):
    jobs = mounts.make(Server(item(4), item(5)))
    number = jobs.start_timeline("run T", item(1), target=None).number
    follow(jobs, mounts.clock, seconds=1)
    assert jobs.job(number).state is JobState.RUNNING
    follow(jobs, mounts.clock, seconds=10)
    assert jobs.job(number).state is JobState.CANCELLED


def test_a_server_that_is_away_says_nothing_about_a_run_and_is_asked_until_it_is_back(mounts):
    away = RemoteUnavailable("the server is away")
    server = Server(away)
    jobs = mounts.make(server)
    number = jobs.start_timeline("run T", item(1), target=FOLDER).number
    follow(jobs, mounts.clock, seconds=3600)
    job = jobs.job(number)
    assert (job.state, job.waiting) == (JobState.RUNNING, "the server is away")
    assert len(server.calls) < 3600 / 30 + 15
    server.answers = [item(2)]
    follow(jobs, mounts.clock, seconds=31)
    assert (jobs.job(number).state, jobs.job(number).waiting) == (JobState.FINISHED, "")


@pytest.mark.parametrize("error", [NotFound("404"), PermissionDenied("403")])
def test_a_run_that_the_server_tells_no_more_of_ends_as_failed(mounts, error):
    jobs = mounts.make(Server(error))
    number = jobs.start_timeline("run T", item(1), target=FOLDER).number
    follow(jobs, mounts.clock, seconds=2)
    assert jobs.job(number).state is JobState.FAILED
    assert str(error) in jobs.job(number).error


def test_without_related_objects_the_results_are_the_result_folders_of_the_target(mounts):
    server = Server(item(2))
    server.folders = [Folder(8, "results", 1, False)]
    jobs = mounts.make(server)
    number = jobs.start_timeline("run T", item(1), target=EXAM).number
    follow(jobs, mounts.clock, seconds=2)
    assert jobs.job(number).results == (RemoteRef(Kind.FOLDER, 8),)


@pytest.mark.parametrize("folders", [[], NotFound("no such call")], ids=["none", "not offered"])
def test_and_where_there_are_none_the_target_itself(mounts, folders):
    server = Server(item(2))
    server.folders = folders
    jobs = mounts.make(server)
    number = jobs.start_timeline("run T", item(1), target=EXAM).number
    follow(jobs, mounts.clock, seconds=2)
    assert jobs.job(number).results == (EXAM,)


def test_what_may_look_different_is_forgotten_before_the_end_is_seen(mounts):
    seen = []
    jobs = mounts.make(Server(item(2)))
    jobs._on_ended = lambda job: seen.append((job.state, jobs.job(job.number).state))
    told = []
    jobs.start_timeline("run T", item(1), target=FOLDER, notify=lambda job: told.append(job.results))
    follow(jobs, mounts.clock, seconds=2)
    assert seen == [(JobState.FINISHED, JobState.RUNNING)]
    assert told == [(FOLDER,)]


def test_what_the_program_said_is_the_log_whatever_of_it_the_server_gives(mounts):
    jobs = mounts.make(Server(item(1, stdout="one\n"), item(2, stdout="one\ntwo", stderr="oh\n")))
    number = jobs.start_timeline("run T", item(1), target=None).number
    follow(jobs, mounts.clock, seconds=1)
    assert jobs.job(number).log == "one\n"
    follow(jobs, mounts.clock, seconds=9)
    assert jobs.job(number).log == "one\ntwo\noh\n"


# -- remounting ----------------------------------------------------------------------------------------


def test_a_run_that_was_started_before_a_remount_is_there_and_is_followed_again(mounts):
    first = mounts.make(Server(item(1)))
    number = first.start_timeline("run T", item(1), target=FOLDER, project=5).number
    first.close()
    second = mounts.make(Server(item(2)))
    assert second.numbers() == [number]
    assert second.job(number).title == "run T"
    follow(second, mounts.clock, seconds=1)
    job = second.job(number)
    assert (job.state, job.results, job.project) == (JobState.FINISHED, (FOLDER,), 5)
    assert mounts.ended[-1] == job


def test_an_ended_job_is_there_after_a_remount_with_all_that_was_known_of_it(mounts):
    first = mounts.make(Server(item(3, error="boom", stdout="said\n")))
    number = first.start_timeline("run T", item(1), target=EXAM).number
    follow(first, mounts.clock, seconds=2)
    before = first.job(number)
    first.close()
    second = mounts.make(Server(item(1)))
    assert second.job(number) == before
    assert second.follow_due() is None


def test_a_local_job_that_was_under_way_when_agorafs_ended_is_interrupted(mounts):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading.Thread, "start", lambda thread: None)  # as if killed before its first word
        first = mounts.make(Server(item(1)))
        number = first.start_local("sync", lambda progress: "").number
    assert first.job(number).state is JobState.RUNNING
    first.close()
    again = mounts.make(Server(item(1)))
    job = again.job(number)
    assert job.state is JobState.INTERRUPTED
    assert again.follow_due() is None


def test_two_mounts_at_once_give_different_numbers_and_see_each_others_jobs(mounts):
    one, other = mounts.make(Server(item(1))), mounts.make(Server(item(2)))
    first = one.start_timeline("run A", item(1), target=None).number
    second = other.start_timeline("run B", item(1), target=None).number
    assert one.numbers() == other.numbers() == sorted({first, second}) == [1, 2]
    assert one.job(second).title == "run B"
    assert one.follow_due() is not None  # its own only: the other's would be due, too
    follow(other, mounts.clock, seconds=5)
    assert one.wait(second, 0).state is JobState.FINISHED


def test_the_jobs_of_a_mount_that_has_ended_are_taken_over_by_one_that_is_alive(mounts):
    one, other = mounts.make(Server(item(1))), mounts.make(Server(item(2)))
    number = one.start_timeline("run A", item(1), target=FOLDER).number
    one.close()
    other.job(number)
    follow(other, mounts.clock, seconds=1)
    assert other.job(number).state is JobState.FINISHED


def test_numbers_are_never_given_again(mounts):
    jobs = mounts.make(Server(item(2)), max_jobs=3)
    numbers = []
    for _ in range(6):
        numbers.append(jobs.start_timeline("run T", item(1), target=None).number)
        follow(jobs, mounts.clock, seconds=5)
    assert numbers == [1, 2, 3, 4, 5, 6]
    jobs.close()
    assert mounts.make(Server(item(2))).start_timeline("run T", item(1), target=None).number == 7


def test_the_oldest_jobs_that_are_over_are_forgotten_and_never_one_that_goes_on(mounts, monkeypatch):
    server = Server(item(1))
    jobs = mounts.make(server, max_jobs=3)
    first = jobs.start_timeline("run T", item(1), target=None).number
    monkeypatch.setattr(
        server, "timeline", lambda number: item(1) if number == 77 else item(2, number=number)
    )
    for _ in range(6):
        jobs.start_timeline("run T", item(1, number=5), target=None)
        follow(jobs, mounts.clock, seconds=5)
    assert jobs.numbers() == [first, 5, 6, 7]
    with pytest.raises(NotFound, match="no job 2"):
        jobs.job(2)


def test_a_damaged_file_hides_one_job_and_no_other(mounts, caplog):
    jobs = mounts.make(Server(item(2)))
    for _ in range(2):
        jobs.start_timeline("run T", item(1), target=None)
    follow(jobs, mounts.clock, seconds=5)
    jobs.close()
    (mounts.directory / "1.json").write_text("{")
    again = mounts.make(Server(item(2)))
    with pytest.raises(NotFound):
        again.job(1)
    assert again.job(2).state is JobState.FINISHED
    assert "job 1 can not be read" in caplog.text
    caplog.clear()


def test_a_disk_that_takes_nothing_stops_no_run(mounts, monkeypatch, caplog):
    def fails(store, *arguments):
        raise OSError(28, "No space left on device")

    jobs = mounts.make(Server(item(2)))
    monkeypatch.setattr(JobStore, "save", fails)
    number = jobs.start_timeline("run T", item(1), target=FOLDER).number
    follow(jobs, mounts.clock, seconds=2)
    assert jobs.job(number).state is JobState.FINISHED
    assert "No space left" in caplog.text
    caplog.clear()


def test_a_directory_that_can_not_be_used_is_refused_in_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="can not be used"):
        Mounts(tmp_path / "file" / "jobs").make(Server(item(1)))


# -- local jobs ----------------------------------------------------------------------------------------


def test_a_local_job_tells_how_it_goes_and_ends_with_its_last_words(mounts):
    jobs = mounts.make(Server(item(1)))
    go_on = threading.Event()

    def work(progress):
        progress.say("half")
        progress.log("first line")
        assert go_on.wait(30)
        return "all done"

    number = jobs.start_local("sync", work).number
    eventually(lambda: jobs.job(number).log == "first line\n", 30)
    assert (jobs.job(number).state, jobs.job(number).progress) == (JobState.RUNNING, "half")
    go_on.set()
    job = jobs.wait(number, 30)
    assert (job.state, job.progress, job.timeline) == (JobState.FINISHED, "all done", None)


def test_a_local_job_that_fails_says_why(mounts):
    def work(progress):
        raise PermissionDenied("the exam is locked")

    jobs = mounts.make(Server(item(1)))
    job = jobs.wait(jobs.start_local("move", work).number, 30)
    assert (job.state, job.error) == (JobState.FAILED, "the exam is locked")


def test_a_local_job_ends_with_the_mount_at_its_next_word(mounts):
    jobs = mounts.make(Server(item(1)))
    is_closed = threading.Event()

    def work(progress):
        assert is_closed.wait(30)
        progress.say("on and on")
        raise AssertionError("it was not stopped")

    number = jobs.start_local("sync", work).number
    jobs.close()
    is_closed.set()
    eventually(lambda: jobs.job(number).state is JobState.INTERRUPTED, 30)


def test_a_bug_in_a_local_job_is_logged_and_ends_it(mounts, caplog):
    def work(progress):
        return 1 // 0

    jobs = mounts.make(Server(item(1)))
    job = jobs.wait(jobs.start_local("sync", work).number, 30)
    assert job.state is JobState.FAILED
    assert "ZeroDivisionError" in caplog.text
    caplog.clear()


# -- as files ------------------------------------------------------------------------------------------


@pytest.fixture
def root(tmp_path):
    world = World(tmp_path / "world")
    yield world.tree.root
    world.close()


def read(dot, root, path):
    """``cat /.agora/jobs/PATH``; raises what the read does."""
    aside = dot.resolve(root, ["jobs", *path.split("/")], is_root=True)
    source = aside.open(NOBODY)
    if isinstance(source, bytes):
        return source
    try:
        view = memoryview(bytearray(65536))
        return bytes(view[: source.read_into(0, view)])
    finally:
        source.close()


def names(dot, root, *path):
    return [entry.name for entry in dot.resolve(root, ["jobs", *path], is_root=True).entries]


@pytest.fixture
def server():
    return Server(item(2, stdout="hello\n", related_objects=[{"id": 9, "content_type": "dataset"}]))


@pytest.fixture
def jobs(mounts, server):
    return mounts.make(server)


@pytest.fixture
def dot(jobs):
    return DotJobs(jobs, patience_s=0.01)


def test_a_job_is_a_directory_with_status_log_wait_and_results(jobs, dot, root, mounts):
    jobs.start_timeline("run T ds=x", item(1), target=FOLDER)
    assert names(dot, root) == ["1"]
    assert names(dot, root, "1") == ["status.json", "log", "wait", "results"]
    assert names(dot, root, "1", "results") == []
    follow(jobs, mounts.clock, seconds=2)
    status = json.loads(read(dot, root, "1/status.json"))
    assert status.pop("started") <= status.pop("ended")
    assert status == {
        "job": 1,
        "title": "run T ds=x",
        "state": "finished",
        "error": "",
        "progress": "",
        "waiting": "",
        "timeline": 77,
        "target": "folder:12",
        "results": ["dataset:9"],
    }
    assert read(dot, root, "1/log") == b"hello\n"
    assert names(dot, root, "1", "results") == ["dataset-9"]
    link = dot.resolve(root, ["jobs", "1", "results", "dataset-9"], is_root=True)
    assert link.link == "../../../by-id/dataset/9"


def test_looking_at_jobs_asks_nobody(jobs, dot, root, server):
    jobs.start_timeline("run T", item(1), target=FOLDER)
    read(dot, root, "1/status.json")
    read(dot, root, "1/log")
    names(dot, root, "1", "results")
    assert server.calls == []


@pytest.mark.parametrize("path", ["2", "01", "x", "1/other", "1/results/folder-12", "2/wait", "-1"])
def test_what_is_no_job_is_not_there(jobs, dot, root, path):
    jobs.start_timeline("run T", item(1), target=FOLDER)
    with pytest.raises(NotFound):
        dot.resolve(root, ["jobs", *path.split("/")], is_root=True)


def test_below_a_file_there_is_nothing(jobs, dot, root):
    jobs.start_timeline("run T", item(1), target=FOLDER)
    with pytest.raises(NotADirectory):
        dot.resolve(root, ["jobs", "1", "log", "x"], is_root=True)


def test_jobs_are_at_the_root_only(dot, root):
    assert dot.names(root, is_root=True).directories == ("jobs",)
    assert dot.names(root, is_root=False).directories == ()
    assert dot.resolve(root, ["jobs"], is_root=False) is None


def test_wait_answers_finished_when_the_job_has_ended_well_and_is_interrupted_before(jobs, dot, root, mounts):
    jobs.start_timeline("run T", item(1), target=FOLDER)
    with pytest.raises(Interrupted):
        read(dot, root, "1/wait")
    follow(jobs, mounts.clock, seconds=2)
    assert read(dot, root, "1/wait") == b"finished\n"


def test_wait_fails_with_the_error_of_the_job(jobs, dot, root, mounts, server):
    server.answers = [item(3, error="no GPU")]
    jobs.start_timeline("run T", item(1), target=FOLDER)
    follow(jobs, mounts.clock, seconds=2)
    with pytest.raises(JobFailed, match="has failed: no GPU"):
        read(dot, root, "1/wait")


def test_a_reader_who_waits_is_woken_by_the_end_of_the_job(jobs, root, mounts):
    jobs.start_timeline("run T", item(1), target=FOLDER)
    patient = DotJobs(jobs, patience_s=60)
    found = []
    reader = threading.Thread(target=lambda: found.append(read(patient, root, "1/wait")))
    reader.start()
    follow(jobs, mounts.clock, seconds=2)
    reader.join(30)
    assert found == [b"finished\n"]


def test_however_many_wait_a_few_seats_are_taken_and_the_others_are_sent_away_soon(jobs, root):
    """A thread that waits answers no other request of the kernel."""
    jobs.start_timeline("run T", item(1), target=FOLDER)
    patient = DotJobs(jobs, patience_s=60, max_waiting=2)
    has_seat = threading.Semaphore(0)
    wait = jobs.wait

    def waiting(number, timeout_s):
        if timeout_s > 1:
            has_seat.release()
        return wait(number, timeout_s)

    jobs.wait = waiting
    readers = [threading.Thread(target=_read_and_give_up, args=(patient, root)) for _ in range(2)]
    for reader in readers:
        reader.start()
    assert has_seat.acquire(timeout=30) and has_seat.acquire(timeout=30)
    for _ in range(20):
        with pytest.raises(Interrupted):
            read(patient, root, "1/wait")
    jobs.close()  # ends the waiting
    for reader in readers:
        reader.join(30)
        assert not reader.is_alive()


def _read_and_give_up(dot, root):
    with pytest.raises(Interrupted):
        read(dot, root, "1/wait")


def test_what_is_only_read_is_not_written(jobs, dot, root):
    jobs.start_timeline("run T", item(1), target=FOLDER)
    for name in ("log", "wait"):
        aside = dot.resolve(root, ["jobs", "1", name], is_root=True)
        assert not aside.can_write
        with pytest.raises(PermissionDenied):
            aside.open(NOBODY).write(0, b"x")
