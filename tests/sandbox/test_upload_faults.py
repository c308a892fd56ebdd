"""Faults that strike while something is sent: what the client sees, and whether the server did it."""

from __future__ import annotations

import hashlib
import socket
import time

import pytest
import requests

from tests.sandbox.test_imports import complete, new_package, tree
from tests.support.waiting import eventually

CONTENT = bytes(range(256)) * 32 * 1024  # 8 MiB: more than sockets buffer
LOST = (requests.ConnectionError, requests.exceptions.ChunkedEncodingError)


def send(sandbox, package, content=CONTENT, identifier="i", target="f"):
    return sandbox.send_chunk(package, target, content, identifier=identifier)


def stored_chunks(sandbox, package):
    directory = sandbox.data / "imports" / str(package)
    return len(list(directory.iterdir())) if directory.exists() else 0


def statuses(sandbox, part):
    return [entry["status"] for entry in sandbox.requests() if entry["path"].endswith(part)]


def import_and_compare(sandbox, project, package, content=CONTENT):
    """The import of what arrived in the end is the file, once."""
    assert complete(sandbox, package, folder=project.root) == 204
    assert sandbox.wait_for_import(package) == 5
    assert tree(sandbox, project.root) == {"f": hashlib.sha1(content).hexdigest()}


@pytest.mark.parametrize(
    "fault", ["reset-upload", "reset-upload=0.01", "reset-upload=0", "reset", "hang=0.01"]
)
def test_a_connection_lost_in_the_body_of_a_chunk_stores_nothing(sandbox, project, fault):
    package = new_package(sandbox)
    sandbox.switch(fault=f"{fault}:POST /upload/:1")
    with pytest.raises(LOST):
        send(sandbox, package)
    assert stored_chunks(sandbox, package) == 0
    assert send(sandbox, package).status_code == 200
    import_and_compare(sandbox, project, package)


def test_reset_upload_reads_the_said_part_of_the_body_first(sandbox):
    """A client that sends its body slowly is cut off in it, not before."""
    package = new_package(sandbox)
    sandbox.switch(fault="reset-upload=0.5:POST /upload/:1")
    with socket.create_connection(("127.0.0.1", sandbox.port)) as sock:
        head = (
            f"POST /api/v1/import/{package}/upload/ HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n"
            f"Authorization: X-Agora-Api-Key {sandbox.api_key}\r\n"
            "Content-Type: multipart/form-data; boundary=b\r\n\r\n"
        )
        sock.sendall(head.encode() + bytes(499))
        sock.settimeout(0.1)
        with pytest.raises(TimeoutError):
            sock.recv(1)
        sock.sendall(bytes(1))
        sock.settimeout(30)
        assert sock.recv(1) == b"", "ended without an answer"


def test_reset_upload_strikes_a_body_without_an_announced_length(sandbox):
    sandbox.switch(fault="reset-upload:POST /import/:1")
    with pytest.raises(LOST):
        sandbox.api("POST", "v1/import/", data=iter([b"{", b"}"]))
    assert sandbox.api("POST", "v1/import/", data=iter([b"{", b"}"])).status_code == 201


@pytest.mark.parametrize("fault", ["drop-answer", "truncate", "reset-body", "truncate=0"])
def test_a_chunk_whose_answer_is_lost_is_stored_and_may_be_sent_again(sandbox, project, fault):
    package = new_package(sandbox)
    sandbox.switch(fault=f"{fault}:POST /upload/:1")
    with pytest.raises(LOST):
        send(sandbox, package)
    assert stored_chunks(sandbox, package) == 1
    assert send(sandbox, package).status_code == 200
    assert stored_chunks(sandbox, package) == 1
    import_and_compare(sandbox, project, package)


@pytest.mark.parametrize("fault", ["drop-answer", "truncate", "reset-body"])
def test_complete_whose_answer_is_lost_has_begun_the_import(sandbox, project, fault):
    package = new_package(sandbox)
    send(sandbox, package)
    sandbox.switch(fault=f"{fault}:/complete/:1")
    with pytest.raises(LOST):
        complete(sandbox, package, folder=project.root)
    assert sandbox.get(f"v1/import/{package}/")["is_complete"] is True
    import_and_compare(sandbox, project, package)  # completes again, imports once


def test_a_status_instead_of_a_chunk_is_readable_although_the_body_was_not_read(sandbox, project):
    package = new_package(sandbox)
    sandbox.switch(fault=["status=503/2:POST /upload/:1", "status=502:POST /upload/:1"])
    refused = send(sandbox, package)
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "2")
    assert send(sandbox, package).status_code == 502
    assert stored_chunks(sandbox, package) == 0
    assert send(sandbox, package).status_code == 200
    import_and_compare(sandbox, project, package)


def test_a_chunk_above_the_limit_gets_its_413_however_large_it_is(sandbox):
    sandbox.switch(chunk_max=len(CONTENT) // 2)
    package = new_package(sandbox)
    assert send(sandbox, package).status_code == 413
    assert stored_chunks(sandbox, package) == 0
    assert send(sandbox, package, CONTENT[: len(CONTENT) // 2]).status_code == 200


def test_a_status_instead_of_complete_begins_no_import(sandbox, project):
    package = new_package(sandbox)
    send(sandbox, package)
    sandbox.switch(fault="status=503/2:/complete/:1")
    assert complete(sandbox, package, folder=project.root) == 503
    assert sandbox.get(f"v1/import/{package}/")["is_complete"] is False
    import_and_compare(sandbox, project, package)


@pytest.mark.parametrize("path", ["/upload/", "/complete/"])
def test_a_request_that_hangs_ends_when_the_client_gives_up(sandbox, project, path):
    package = new_package(sandbox)
    sandbox.switch(fault=f"hang=60:{path}:1")
    started = time.monotonic()
    with pytest.raises((requests.Timeout, requests.ConnectionError)):
        if path == "/upload/":
            sandbox.api("POST", f"v1/import/{package}/upload/", files={"file": CONTENT}, timeout=0.2)
        else:
            sandbox.api("POST", f"v1/import/{package}/complete/", json={}, timeout=0.2)
    assert time.monotonic() - started < 30
    assert stored_chunks(sandbox, package) == 0
    assert sandbox.get(f"v1/import/{package}/")["is_complete"] is False


def test_garbage_instead_of_the_answer_to_a_request_that_was_carried_out(sandbox, project):
    sandbox.switch(fault="json-garbage:POST /new/:1")
    answer = sandbox.api("POST", f"v1/folder/{project.root}/new/", json={"name": "made"})
    assert answer.status_code == 200
    with pytest.raises(ValueError, match=r"Unterminated|Expecting"):
        answer.json()
    assert [item["content_object"]["name"] for item in sandbox.get(f"v1/folder/{project.root}/items/")] == [
        "made"
    ]


def test_a_truncated_answer_to_a_request_that_was_carried_out(sandbox, project):
    sandbox.switch(fault="truncate:POST /new/:1")
    with pytest.raises(LOST):
        sandbox.api("POST", f"v1/folder/{project.root}/new/", json={"name": "made"})
    assert [item["content_object"]["name"] for item in sandbox.get(f"v1/folder/{project.root}/items/")] == [
        "made"
    ]


def test_a_fault_is_on_the_record_of_requests(sandbox):
    package = new_package(sandbox)
    sandbox.reset_requests()
    sandbox.switch(fault=["reset-upload:POST /upload/:1", "drop-answer:POST /upload/:1"])
    for _ in range(2):
        with pytest.raises(LOST):
            send(sandbox, package)
    assert send(sandbox, package).status_code == 200
    eventually(lambda: statuses(sandbox, "/upload/") == [0, 0, 200], 10)
