"""Waiting for uploads: when it ends, what it says meanwhile, and what it never gives up."""

import io

import pytest

from agorafs.commands.drain import (
    End,
    Patience,
    exit_status_of_waiting,
    look,
    name_failed,
    wait_until_stored,
)
from agorafs.commands.progress import ProgressLine, bar, count_text, size_text
from agorafs.errors import ExitStatus, RemoteUnavailable, UsageError
from tests.cli.fake_layers import NOTHING_LEFT
from tests.support.manual_clock import ManualClock


class Source:
    """A place that has the looks it was given, one after the other; the last one stays."""

    def __init__(self, *looks, server="ok"):
        self.looks = list(looks)
        self.asked = []
        self.server = server

    def ask(self, command, **fields):
        self.asked.append(command)
        if command == "status":
            return {"status": {"server": self.server}}
        if command == "seal":
            return {}
        look = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
        answer = {**NOTHING_LEFT, **look}
        return {**answer, "failed_count": len(answer["failed"])}

    def shown(self, path):
        return f"/mnt{path}"


class Terminal(io.StringIO):
    def isatty(self):
        return True


SENDING = {"files": 2, "bytes": 100, "sent_bytes": 40}
AWAY = {**SENDING, "waiting": "the server is away"}
OPEN = {"files": 1, "open": 1, "open_paths": ["/projects/a.h5"]}
FAILED = {"failed": [{"path": "/projects/b", "reason": "quota"}]}
DONE: dict[str, object] = {}


def wait(*sources, patience=Patience(), output=None):  # noqa: B008 (a frozen value)
    clock = ManualClock()
    started = clock.now
    end, left = wait_until_stored(sources, ProgressLine(output or io.StringIO()), patience, clock)
    return end, left, clock.now - started


def test_nothing_to_wait_for_takes_no_time():
    source = Source(DONE)
    assert wait(source)[::2] == (End.STORED, 0)
    assert source.asked == ["seal", "unfinished"], "what is closed is begun with first"


def test_the_wait_ends_when_every_mount_has_everything_stored():
    end, left, _ = wait(Source(SENDING, SENDING, DONE), Source(SENDING, DONE))
    assert (end, left.files) == (End.STORED, 0)


def test_what_failed_ends_the_wait_only_when_all_else_is_stored():
    source = Source({**SENDING, **FAILED}, FAILED)
    end, left, _ = wait(source)
    assert (end, left.failed) == (End.FAILED, (("/mnt/projects/b", "quota"),))
    assert source.asked.count("unfinished") == 2


def test_a_file_that_is_open_is_named_and_waited_for():
    output = io.StringIO()
    end, _, _ = wait(Source(OPEN, OPEN, DONE), output=output)
    assert end is End.STORED
    assert output.getvalue() == "agorafs: still open for writing: /mnt/projects/a.h5\n"


def test_a_file_that_is_closed_meanwhile_is_begun_with_at_once():
    source = Source(OPEN, {"files": 1}, DONE)
    wait(source)
    assert source.asked == ["seal", "unfinished", "unfinished", "seal", "unfinished"]


def test_open_files_are_left_where_patience_with_them_ends():
    assert wait(Source(OPEN), patience=Patience(open_s=1.0))[0] is End.OPEN


def test_patience_with_open_files_begins_when_nothing_else_is_left():
    end, _, waited_s = wait(Source(*[{**SENDING, "open": 1}] * 9, OPEN), patience=Patience(open_s=1.0))
    assert end is End.OPEN
    assert waited_s > 2.0


def test_a_server_that_is_away_is_waited_for_without_end():
    end, _, _ = wait(Source(*[AWAY] * 50, DONE))
    assert end is End.STORED


def test_a_wait_that_does_not_move_ends_where_patience_ends():
    end, left, waited_s = wait(Source(AWAY), patience=Patience(stuck_s=5.0))
    assert (end, left.waiting) == (End.STUCK, "the server is away")
    assert 5.0 <= waited_s < 7.0


def test_an_import_that_takes_long_is_not_stuck():
    """Nothing is sent and nothing is stored for a while, but nothing keeps it from going on either."""
    end, _, waited_s = wait(Source(*[SENDING] * 50, DONE), patience=Patience(stuck_s=5.0))
    assert end is End.STORED
    assert waited_s > 5.0


def test_each_byte_that_arrives_renews_the_patience():
    looks = [{**AWAY, "sent_bytes": sent} for sent in range(40)]
    assert wait(Source(*looks, DONE), patience=Patience(stuck_s=1.5))[0] is End.STORED


def test_the_time_in_all_is_not_exceeded():
    end, _, waited_s = wait(Source(SENDING), patience=Patience(in_all_s=3.0))
    assert (end, waited_s) == (End.TIMED_OUT, pytest.approx(3.0))


def test_what_a_mount_refuses_is_raised_as_it_came():
    class Gone(Source):
        def ask(self, command, **fields):
            raise UsageError("the process can not be reached", ExitStatus.UNAVAILABLE)

    with pytest.raises(UsageError, match="can not be reached"):
        wait(Gone())


def test_where_there_is_no_terminal_only_the_reason_for_waiting_is_said_and_once():
    output = io.StringIO()
    wait(Source(SENDING, AWAY, {**AWAY, "waiting": "away (10 attempts)"}, AWAY, DONE), output=output)
    assert output.getvalue() == "agorafs: waiting: the server is away\n"


def test_a_terminal_shows_one_line_that_is_taken_away_at_the_end():
    terminal = Terminal()
    wait(Source(SENDING, {**SENDING, "sent_bytes": 70}, DONE), output=terminal)
    shown = terminal.getvalue()
    assert "2 files, 60 B left" in shown
    assert "[##########----------]  50 %  2 files, 30 B left" in shown, "half of what was left at first"
    assert "\n" not in shown
    assert shown.endswith("\r\x1b[K")


@pytest.mark.parametrize(
    ("server", "status"),
    [
        ("refused", ExitStatus.NOT_AUTHENTICATED),
        ("away", ExitStatus.UNAVAILABLE),
        ("ok", ExitStatus.UNAVAILABLE),
    ],
)
def test_why_nothing_moves_is_an_exit_status(server, status):
    assert exit_status_of_waiting([Source(DONE, server="ok"), Source(DONE, server=server)]) is status


def test_a_mount_that_is_gone_has_no_say_in_the_exit_status():
    class Gone(Source):
        def ask(self, command, **fields):
            raise RemoteUnavailable("gone")

    assert exit_status_of_waiting([Gone(), Source(server="refused")]) is ExitStatus.NOT_AUTHENTICATED


def test_failed_files_are_named_up_to_a_number():
    output = io.StringIO()
    failed = [{"path": f"/{number}", "reason": "quota"} for number in range(23)]
    name_failed(ProgressLine(output), look([Source({"failed": failed})]))
    lines = output.getvalue().splitlines()
    assert lines[0] == "agorafs: /mnt/0: quota"
    assert lines[20:] == ["agorafs: and 3 more, see agorafs status"]


@pytest.mark.parametrize(
    ("fraction", "shown"),
    [
        (-1, "[--------------------]   0 %"),
        (0.5, "[##########----------]  50 %"),
        (0.999, "[###################-]  99 %"),
        (1, "[####################] 100 %"),
        (7, "[####################] 100 %"),
    ],
)
def test_a_bar_is_full_only_when_all_is_done(fraction, shown):
    assert bar(fraction) == shown


def test_numbers_have_their_units():
    assert [size_text(size) for size in (0, 1023, 1536, 5 << 20, 3 << 40)] == [
        "0 B", "1023 B", "1.5 KiB", "5.0 MiB", "3072.0 GiB",
    ]  # fmt: skip
    assert [count_text(0), count_text(1), count_text(2)] == ["0 files", "1 file", "2 files"]
