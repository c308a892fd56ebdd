"""The server's log files, which administrators read."""

from __future__ import annotations

from pathlib import Path

import pytest
import requests

from agorafs.sandbox import request_log
from agorafs.sandbox.request_log import LoggedRequest, RequestLog, log_files
from tests.support.sandbox import SandboxProcess


def newest(sandbox):
    """Return the lines of the newest log file, each split at its blanks."""
    files = sandbox.get("v2/logfile/?limit=1000")["results"]
    response = sandbox.api("GET", f"v2/logfile/{files[-1]['id']}/content/")
    assert (response.status_code, response.headers["Content-Type"]) == (200, "text/plain")
    return [line.split(" ") for line in response.text.splitlines()]


def test_each_request_is_logged_with_user_address_status_size_and_duration(sandbox, project):
    answer = sandbox.api("GET", f"v2/project/{project.id}/?q=secret%20words", user="admin")
    refused = sandbox.api("GET", f"v2/project/{project.id}/", user="scientist")
    sandbox.api("GET", "v1/version/", headers={"Authorization": "X-Agora-Api-Key nobody"})
    lines = [line for line in newest(sandbox) if line[2].endswith((f"project/{project.id}/", "version/"))][
        -3:
    ]
    assert [line[1:7] for line in lines[:2]] == [
        [
            "GET",
            f"/api/v2/project/{project.id}/",
            user,
            "127.0.0.1",
            str(one.status_code),
            str(len(one.content)),
        ]
        for user, one in (("admin", answer), ("scientist", refused))
    ]
    assert lines[2][3] == "-"
    assert all(0 <= float(line[7]) < 60 and line[0].startswith("20") for line in lines)
    assert "secret" not in str(lines), "what people search for is not logged"


def test_only_administrators_read_the_log(sandbox):
    (entry,) = sandbox.get("v2/logfile/?limit=1")["results"]
    for path in ("v2/logfile/", f"v2/logfile/{entry['id']}/content/"):
        assert sandbox.api("GET", path, user="scientist").status_code == 403
    assert sandbox.api("GET", f"v2/logfile/{10**9}/content/").status_code == 404


def test_a_new_run_goes_on_where_the_last_one_ended(tmp_path):
    with SandboxProcess(tmp_path / "data") as sandbox:
        sandbox.get("v2/project/myagora/")
        sandbox.get("v1/version/")  # a request is logged when its answer was sent: before this one came
        sandbox.kill()
        sandbox.start()
        assert ["GET", "/api/v2/project/myagora/", "admin"] in [line[1:4] for line in newest(sandbox)]


def test_a_file_that_is_full_is_followed_by_the_next_and_the_oldest_go(tmp_path, monkeypatch):
    monkeypatch.setattr(request_log, "_MAX_FILE_BYTES", 100)
    log = RequestLog(tmp_path)
    try:
        for number in range(40):
            log.add(LoggedRequest("t", "GET", f"/{number}", None, None, 200, 0, 0.0))
    finally:
        log.close()
    files = log_files(tmp_path)
    assert len(files) == 5 and min(files) > 1
    text = "".join(path.read_text() for path in files.values())
    assert text.endswith("t GET /39 - - 200 0 0.000000\n")
    numbers = [int(line.split()[2][1:]) for line in text.splitlines()]
    assert numbers == list(range(numbers[0], 40)), "no line is lost but with the oldest files"


def test_a_log_that_cannot_be_written_stops_nothing(tmp_path):
    log = RequestLog(tmp_path)
    log.close()
    with Path("/dev/full").open("w", buffering=1) as full:
        log._file = full
        log.add(LoggedRequest("t", "GET", "/", None, None, 200, 0, 0.0))
        log.close()


def test_a_request_that_outlives_the_server_is_no_error(tmp_path):
    """One that a fault holds is cancelled when the server stops; the server's stderr stays empty."""
    with SandboxProcess(tmp_path / "data") as sandbox:
        sandbox.switch(fault="hang=600:/patient/:1")
        with pytest.raises(requests.Timeout):
            sandbox.api("GET", "v1/patient/", timeout=0.5)
        assert sandbox.stop() == 0
        assert sandbox.log == ""


def test_a_request_that_ends_after_the_server_has_stopped_is_left_out(tmp_path):
    log = RequestLog(tmp_path)
    log.close()
    log.add(LoggedRequest("t", "GET", "/", None, None, 0, 0, 0.0))
    assert [path.read_text() for path in log_files(tmp_path).values()] == [""]
