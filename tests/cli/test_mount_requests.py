"""Requests to a mount: each becomes one call, a bad one is refused, and none holds up the socket."""

import threading
from typing import Any

import pytest

from agorafs.errors import BadCommand, NotFound
from agorafs.mount_requests import Jobs, handlers
from tests.cli.fake_layers import FakeStack
from tests.support.waiting import eventually


class Noted:
    """What the fake stack is to do, and the list of what it was asked."""

    def __init__(self, **wanted: Any) -> None:
        self.wanted = wanted
        self.events: list[str] = []

    def get(self, name: str) -> Any:
        return self.wanted.get(name)

    def note(self, event: str) -> None:
        self.events.append(event)


def asked(**wanted):
    plan = Noted(**wanted)
    return plan, handlers(FakeStack(plan))


def result_of(known, job):
    """Wait for *job* and return its result."""
    answer = {"done": False}

    def has_ended():
        answer.update(known["job"](job))
        return answer["done"]

    eventually(has_ended, 30)
    return answer["result"]


@pytest.mark.parametrize(
    ("command", "request_fields", "event", "answer"),
    [
        ("refresh", {"path": "/projects"}, "refresh /projects", {}),
        ("seal", {}, "seal None", {}),
        ("retry", {"path": "/projects/a"}, "retry /projects/a", {"files": 2}),
        ("retry", {}, "retry None", {"files": 2}),
        ("cancel", {"path": "/projects/a"}, "cancel /projects/a", {"files": 1}),
    ],
)
def test_a_request_is_one_call_of_the_stack(command, request_fields, event, answer):
    plan, known = asked()
    assert known[command]({"command": command, **request_fields}) == answer
    assert plan.events == [event]


@pytest.mark.parametrize("command", ["refresh", "seal", "unfinished", "retry", "cancel", "upload"])
@pytest.mark.parametrize("path", ["projects", 7, ["/"], ""])
def test_a_path_that_is_none_in_the_mount_is_refused(command, path):
    plan, known = asked()
    with pytest.raises(BadCommand):
        known[command]({"path": path, "files": [["/a", "a"]]})
    assert plan.events == []


def test_everything_can_not_be_given_up_by_leaving_out_the_path():
    plan, known = asked()
    with pytest.raises(BadCommand):
        known["cancel"]({})
    assert plan.events == []


@pytest.mark.parametrize(
    "files", [None, [], "a", [["/a"]], [["a", "a"]], [["/a", 1]], [["/a", "a", "b"]], ["/a"], {"/a": "a"}]
)
def test_files_that_are_no_pairs_of_absolute_path_and_target_are_refused(files):
    plan, known = asked()
    with pytest.raises(BadCommand):
        known["upload"]({"path": "/projects/x", "files": files})
    assert plan.events == []


def test_an_upload_is_a_job_and_its_result_is_what_the_stack_returned():
    plan, known = asked()
    job = known["upload"]({
        "path": "/projects/x", "files": [["/tmp/a", "a"], ["/tmp/b", "d/b"]], "import_json": {"V": 1},
        "relations": {"a": ["d/b"]},
    })  # fmt: skip
    assert result_of(known, job) == {"upload": 7, "files": 2, "bytes": 20, "skipped": 0}
    assert plan.events == [
        "upload a, d/b to /projects/x import={'V': 1} relations={'a': ['d/b']}",
    ]


def test_what_the_stack_refuses_in_a_job_is_raised_when_the_job_is_asked_for():
    _, known = asked(upload_refused=["NotFound", "/projects/x does not exist"])
    job = known["upload"]({"path": "/projects/x", "files": [["/tmp/a", "a"]]})
    with pytest.raises(NotFound, match="does not exist"):
        result_of(known, job)


def test_the_outcome_of_a_job_is_told_once():
    jobs = Jobs()
    number = jobs.start(lambda: {"files": 1})
    eventually(lambda: jobs.collect(number)["done"], 30)
    with pytest.raises(BadCommand, match=f"there is no job {number}"):
        jobs.collect(number)


def test_a_job_under_way_is_not_done_and_holds_up_no_other():
    jobs = Jobs()
    may_end = threading.Event()

    def work():
        may_end.wait(60)
        return {"slow": 1}

    slow, quick = jobs.start(work), jobs.start(lambda: {"quick": 1})
    eventually(lambda: jobs.collect(quick)["done"], 30)
    assert jobs.collect(slow) == {"done": False}
    may_end.set()
    eventually(lambda: jobs.collect(slow)["done"], 30)


@pytest.mark.parametrize("number", [None, "1", True, 99])
def test_a_job_that_does_not_exist_is_refused(number):
    with pytest.raises(BadCommand):
        asked()[1]["job"]({"job": number})


def test_an_answer_names_a_thousand_failed_files_and_counts_all():
    failed = [{"path": f"/{number}", "reason": "quota"} for number in range(1500)]
    _, known = asked(unfinished=[{"failed": failed}])
    answer = known["unfinished"]({})
    assert (len(answer["failed"]), answer["failed_count"]) == (1000, 1500)


def test_a_verification_is_a_job_that_returns_what_is_missing():
    missing = [{"path": "a", "reason": "not listed"}]
    plan, known = asked(missing=missing)
    assert result_of(known, known["verify"]({"upload": 7})) == {"failed": missing, "failed_count": 1}
    assert plan.events == ["verify 7"]


def test_a_task_is_run_in_the_background_and_its_job_can_be_asked_about():
    plan, known = asked(running=[{"state": "finished"}])
    request = {"task": "T", "path": "/projects/P", "arguments": {"n": 5}, "target": "out", "outside": "/home"}
    job = result_of(known, known["run-task"](request))
    assert plan.events == ['run T in /projects/P {"n": 5} target=out outside=/home']
    assert known["job-status"]({"number": job["job"]})["state"] == "finished"


@pytest.mark.parametrize(
    "request_fields",
    [{}, {"task": ""}, {"task": 5}, {"task": "T", "arguments": []}, {"task": "T", "target": 5}],
)
def test_a_run_that_is_not_said_properly_is_refused_at_once(request_fields):
    plan, known = asked()
    with pytest.raises(BadCommand):
        known["run-task"](request_fields)
    assert plan.events == []
