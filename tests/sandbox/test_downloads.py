"""Downloads: whole, in ranges, conditionally, and with every fault."""

from __future__ import annotations

import hashlib
import itertools

import pytest
import requests

CONTENT = bytes(itertools.islice(itertools.cycle(range(251)), 200_000))
SHA1 = hashlib.sha1(CONTENT).hexdigest()


@pytest.fixture(scope="module")
def stored(shared_sandbox):
    """Return the download path of a file with ``CONTENT``."""
    project = shared_sandbox.post("v2/project/", {"name": "downloads"})
    result = shared_sandbox.upload({"data.bin": CONTENT}, folder=project["root_folder"])
    return f"v1/datafile/{result['datafiles'][0]['id']}/download/"


def download(sandbox, path, **headers):
    return sandbox.api("GET", path, headers={"Accept-Encoding": "identity", **headers})


def test_a_download_is_the_stored_bytes_with_length_etag_and_accept_ranges(sandbox, stored):
    answer = download(sandbox, stored)
    assert (answer.status_code, answer.content) == (200, CONTENT)
    assert answer.headers["Content-Length"] == "200000"
    assert answer.headers["Accept-Ranges"] == "bytes"
    assert answer.headers["ETag"] == f'"{SHA1}"'


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=100-199", 100, 200),
        ("bytes=199999-", 199_999, 200_000),
        ("bytes=-10", 199_990, 200_000),
        ("bytes=-900000", 0, 200_000),
        ("bytes=199990-900000", 199_990, 200_000),
    ],
)
def test_a_range_is_answered_with_206_and_exactly_its_bytes(sandbox, stored, asked, start, stop):
    answer = download(sandbox, stored, Range=asked)
    assert (answer.status_code, answer.content) == (206, CONTENT[start:stop])
    assert answer.headers["Content-Range"] == f"bytes {start}-{stop - 1}/200000"


@pytest.mark.parametrize("asked", ["bytes=200000-", "bytes=200000-200001", "bytes=-0"])
def test_a_range_beyond_the_end_is_416(sandbox, stored, asked):
    answer = download(sandbox, stored, Range=asked)
    assert (answer.status_code, answer.headers["Content-Range"]) == (416, "bytes */200000")


@pytest.mark.parametrize("asked", ["bytes=5-2", "bytes=0-1,5-6", "lines=1-2", "bytes=-", "bytes=a-b"])
def test_what_is_no_single_range_is_answered_with_the_whole(sandbox, stored, asked):
    assert download(sandbox, stored, Range=asked).content == CONTENT


def test_if_range_gives_the_whole_when_the_content_is_another(sandbox, stored):
    same = download(sandbox, stored, **{"Range": "bytes=0-9", "If-Range": f'"{SHA1}"'})
    other = download(sandbox, stored, **{"Range": "bytes=0-9", "If-Range": '"another"'})
    assert (same.status_code, other.status_code, other.content) == (206, 200, CONTENT)


def test_if_none_match_is_304_for_the_same_content(sandbox, stored):
    answer = download(sandbox, stored, **{"If-None-Match": f'"{SHA1}"'})
    assert (answer.status_code, answer.content) == (304, b"")


def test_without_ranges_every_answer_is_the_whole(sandbox, stored):
    sandbox.switch(ranges="off")
    answer = download(sandbox, stored, Range="bytes=0-9")
    assert (answer.status_code, answer.content) == (200, CONTENT)
    assert not {"ETag", "Accept-Ranges"} & set(answer.headers)


def test_an_empty_file_is_downloaded_empty(sandbox, project):
    result = sandbox.upload({"empty": b""}, folder=project.root)
    answer = download(sandbox, f"v1/datafile/{result['datafiles'][0]['id']}/download/")
    assert (answer.status_code, answer.content, answer.headers["Content-Length"]) == (200, b"", "0")


def test_the_head_of_a_download_has_its_length_and_no_body(sandbox, stored):
    answer = sandbox.api("HEAD", stored)
    assert (answer.status_code, answer.headers["Content-Length"], answer.content) == (200, "200000", b"")


def test_requests_are_recorded_with_range_status_and_bytes(sandbox, stored):
    sandbox.reset_requests()
    download(sandbox, stored, Range="bytes=0-99")
    download(sandbox, stored)
    recorded = [
        (entry["path"], entry["range"], entry["status"], entry["bytes"]) for entry in sandbox.requests()
    ]
    assert recorded == [(f"/api/{stored}", "bytes=0-99", 206, 100), (f"/api/{stored}", None, 200, 200_000)]
    assert (sandbox.request_count(), sandbox.bytes_sent()) == (2, 200_100)


def test_changed_content_has_another_etag_size_and_sha1(sandbox, project):
    result = sandbox.upload({"changes.txt": b"before"}, folder=project.root)
    datafile = result["datafiles"][0]["id"]
    sha1 = sandbox.replace_content(datafile, b"after all")
    assert sha1 == hashlib.sha1(b"after all").hexdigest()
    answer = download(sandbox, f"v1/datafile/{datafile}/download/")
    assert (answer.content, answer.headers["ETag"]) == (b"after all", f'"{sha1}"')
    body = sandbox.get(f"v1/datafile/{datafile}/")
    assert (body["size"], body["sha1"]) == (9, sha1)


# -- faults ------------------------------------------------------------------------------------------


def test_a_truncated_body_ends_early_with_the_full_length_announced(sandbox, stored):
    sandbox.switch(fault="truncate:/download:1")
    with pytest.raises(requests.exceptions.ChunkedEncodingError, match="IncompleteRead"):
        download(sandbox, stored)
    assert download(sandbox, stored).content == CONTENT


def test_wrong_bytes_differ_in_one_byte_and_nothing_else(sandbox, stored):
    sandbox.switch(fault="wrong-bytes:/download:2")
    whole = download(sandbox, stored)
    assert len(whole.content) == len(CONTENT)
    assert [at for at in range(len(CONTENT)) if whole.content[at] != CONTENT[at]] == [100_000]
    part = download(sandbox, stored, Range="bytes=10-19")
    assert (part.status_code, part.content[:5], part.content[6:]) == (206, CONTENT[10:15], CONTENT[16:20])
    assert part.content[5] != CONTENT[15]
    assert download(sandbox, stored).content == CONTENT


@pytest.mark.parametrize("kind", ["reset", "reset-body", "hang=0.01", "drop-answer"])
def test_a_connection_is_lost(sandbox, stored, kind):
    sandbox.switch(fault=f"{kind}:/download:1")
    with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
        download(sandbox, stored)
    assert download(sandbox, stored).content == CONTENT


def test_a_slow_body_is_complete(sandbox, stored):
    sandbox.switch(fault="slow-body=0.001:/download:1")
    assert download(sandbox, stored).content == CONTENT


@pytest.mark.parametrize(
    ("fault", "status", "retry_after"), [("503", 503, "1"), ("429/7", 429, "7"), ("500", 500, None)]
)
def test_a_status_is_injected_with_its_retry_after(sandbox, stored, fault, status, retry_after):
    sandbox.switch(fault=f"status={fault}:/download:1")
    answer = download(sandbox, stored)
    assert (answer.status_code, answer.headers.get("Retry-After")) == (status, retry_after)
    assert download(sandbox, stored).status_code == 200


def test_a_redirect_a_login_page_and_garbage_are_injected(sandbox, stored):
    sandbox.switch(fault=["redirect=/sso:/download:1", "html:/download:1", "json-garbage:/project:1"])
    redirect, page = download(sandbox, stored), download(sandbox, stored)
    assert (redirect.status_code, redirect.headers["Location"]) == (307, f"/sso/api/{stored}")
    assert (page.status_code, page.headers["Content-Type"]) == (200, "text/html")
    with pytest.raises(ValueError, match=r"Unterminated|Expecting"):
        sandbox.api("GET", "v2/project/").json()
    assert download(sandbox, stored).content == CONTENT


def test_a_json_answer_is_truncated_too(sandbox):
    sandbox.switch(fault="truncate:/project:1")
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        sandbox.api("GET", "v2/project/")


def test_a_dropped_answer_was_carried_out(sandbox, project):
    sandbox.switch(fault="drop-answer:POST /new:1")
    with pytest.raises(requests.ConnectionError):
        sandbox.api("POST", f"v1/folder/{project.root}/new/", json={"name": "made anyway"})
    assert [item["content_object"]["name"] for item in sandbox.get(f"v1/folder/{project.root}/items/")] == [
        "made anyway"
    ]
