"""Openings of a control file: which write fails, which answer is read, what nobody else gets to read."""

from __future__ import annotations

import json
import threading

import pytest

from agorafs.errors import AgoraFSError, BadCommand, NotFound, NotSupported
from agorafs.vfs.aside import Caller
from tests.vfs.desk_world import ME, Bench, read_all


@pytest.fixture
def bench(tmp_path):
    one = Bench(tmp_path)
    yield one
    one.close()


def test_a_command_is_carried_out_in_the_write_that_ends_its_line(bench):
    talk = bench.open()
    assert talk.write(0, b"rate exa") == 8
    assert bench.changed() == []
    assert talk.write(8, b"ms/E 4\n") == 7
    assert bench.changed() == [f"annotations.rate exam:{bench.exam.id} 4"]
    assert read_all(talk) == "rated /projects/P/exams/E 4\n"


def test_what_has_no_end_of_its_line_counts_when_the_file_is_closed_and_once(bench):
    talk = bench.open()
    talk.write(0, b"rate exams/E 4")
    talk.flush()
    talk.flush()
    assert len(bench.changed()) == 1


def test_the_write_fails_and_the_same_opening_tells_why(bench):
    talk = bench.open()
    with pytest.raises(NotFound):
        talk.write(0, b"rate nothing 4\n")
    assert read_all(talk).startswith("error: ")
    assert talk.write(0, b"rate exams/E 4\n") == 15


def test_the_next_opening_of_the_same_user_tells_why_and_nobody_elses(bench):
    with pytest.raises(BadCommand):
        bench.open().write(0, b"rtae exams/E 4\n")
    assert "did you mean rate" in read_all(bench.open())
    assert "did you mean rate" in read_all(bench.open(Caller(ME.uid, 99)))
    assert read_all(bench.open(Caller(1001, ME.session))) == ""
    assert read_all(bench.open(directory=("projects", "Q"))) == ""


def test_each_terminal_session_reads_its_own_answer(bench):
    one, other = Caller(1000, 1), Caller(1000, 2)
    bench.open(one).write(0, b"rate exams/E 1\n")
    bench.open(other).write(0, b"rate exams/E 2\n")
    assert read_all(bench.open(one)) == "rated /projects/P/exams/E 1\n"
    assert read_all(bench.open(other)) == "rated /projects/P/exams/E 2\n"
    assert read_all(bench.open(Caller(1000, 0))) == "rated /projects/P/exams/E 2\n"


def test_of_several_commands_in_one_write_those_before_a_failure_are_done_and_counted(bench):
    """As of any device: the write returns how much was done, and the next, with the rest, fails."""
    talk = bench.open()
    data = b"rate exams/E 1\nrate nothing 2\nrate exams/E 3\n"
    done = talk.write(0, data)
    assert data[:done] == b"rate exams/E 1\n"
    with pytest.raises(NotFound):
        talk.write(done, data[done:])
    assert len(bench.changed()) == 1
    answers = read_all(bench.open()).splitlines()
    assert [answer.partition(" ")[0] for answer in answers] == ["rated", "error:"]


def test_a_failure_that_no_write_told_is_told_by_close(bench):
    talk = bench.open()
    talk.write(0, b"rate exams/E 1\nrate nothing 2\n")
    with pytest.raises(NotFound):
        talk.flush()
    talk.flush()


def test_what_follows_a_failure_within_a_command_is_not_carried_out(bench):
    talk = bench.open()
    with pytest.raises(NotFound):
        talk.write(0, b"rate nothing 2\nrate exams")
    with pytest.raises(BadCommand, match="begin anew"):
        talk.write(25, b"/E 3\n")
    talk.flush()
    assert bench.changed() == []


def test_answers_are_read_once_in_a_row_and_again_from_the_beginning(bench):
    talk = bench.open()
    talk.write(0, b"rate exams/E 1\n")
    first = read_all(talk, offset=15)
    talk.write(15 + len(first), b"rate exams/E 2\n")
    assert read_all(talk, offset=30 + len(first)) == "rated /projects/P/exams/E 2\n"
    assert read_all(talk, offset=0) == "rated /projects/P/exams/E 1\nrated /projects/P/exams/E 2\n"


def test_an_answer_is_json_when_the_command_was(bench):
    talk = bench.open()
    talk.write(0, b'{"command": "rate",\n "path": "exams/E", "value": 4}')
    assert json.loads(read_all(talk)) == {
        "ok": True,
        "answer": "rated /projects/P/exams/E 4",
        "objects": [{"object": f"exam:{bench.exam.id}", "path": "/projects/P/exams/E"}],
        "value": 4,
    }
    talk = bench.open()
    with pytest.raises(NotFound):
        talk.write(0, b'{"command": "rate", "path": "nothing", "value": 4}\n')
    answer = json.loads(read_all(talk))
    assert answer["ok"] is False and "nothing" in answer["error"]


def test_many_who_write_at_once_each_read_their_own_answer(bench):
    found: dict[int, str] = {}

    def work(number: int) -> None:
        talk = bench.open(Caller(1000, number))
        for _ in range(20):
            try:
                talk.write(0, f"refresh exams/{number}\n".encode())
            except AgoraFSError as error:
                found[number] = str(error)
                return
        found[number] = read_all(talk)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == {number: f"refreshed /projects/P/exams/{number}\n" * 20 for number in range(1, 9)}


def test_answers_of_many_directories_are_kept_within_bounds(bench):
    for number in range(600):
        bench.desk.answers.keep(("projects", str(number)), ME, b"x")
    kept = [number for number in range(600) if bench.desk.answers.get(("projects", str(number)), ME)]
    assert kept == list(range(600 - 256, 600))


def test_emptying_means_nothing_and_room_is_not_made(bench):
    talk = bench.open()
    talk.truncate(0)
    assert (talk.size, read_all(talk)) == (0, "")
    with pytest.raises(NotSupported):
        talk.allocate(0, 0, 10)


def test_a_mistake_of_ours_is_answered_as_one(bench):
    bench.annotations.returns["rate"] = ZeroDivisionError("oops")
    talk = bench.open()
    with pytest.raises(ZeroDivisionError):
        talk.write(0, b"rate exams/E 4\n")
    assert read_all(talk) == "error: internal error, see the log of the mount\n"
