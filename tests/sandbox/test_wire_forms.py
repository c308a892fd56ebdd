"""What the vendor's connector 1.8.0 puts on the wire, field for field, is taken by the sandbox.

The requests are looked at where the connector hands them to its HTTP library; that each is answered with the status
the connector insists on is what makes its calls return at all.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import gtagora
import pytest
import requests
from gtagora.http.client import Client

EVERYTHING = "?limit=10000000000"
FORM = "application/x-www-form-urlencoded"
JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Sent:
    """One request as it left: ``body`` is text, of multipart bodies too."""

    method: str
    url: str
    content_type: str
    body: str
    authorization: str
    status: int


@pytest.fixture
def wire(monkeypatch):
    """The requests sent since the test began or cleared the list."""
    sent: list[Sent] = []
    send = requests.adapters.HTTPAdapter.send

    def observed(adapter, request, **options):
        response = send(adapter, request, **options)
        body: Any = request.body or b""
        sent.append(
            Sent(
                request.method,
                request.path_url,
                request.headers.get("Content-Type", ""),
                body if isinstance(body, str) else body.decode("latin-1"),
                request.headers.get("Authorization", ""),
                response.status_code,
            )
        )
        return response

    monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", observed)
    return sent


def forms(wire):
    """Return (method, url, kind of body, body) of what was sent, and forget it."""
    seen = [(one.method, one.url, one.content_type.partition(";")[0], one.body) for one in wire]
    wire.clear()
    return seen


def get(url):
    return ("GET", url, "", "")


def test_connecting_sends_the_key_in_the_vendors_scheme(sandbox, wire):
    gtagora.Agora.create(sandbox.url, api_key=sandbox.api_key)
    assert {one.authorization for one in wire} == {f"X-Agora-Api-Key {sandbox.api_key}"}
    assert forms(wire) == [get("/api/v1/user/current/"), get("/api/v1/version/")]


def test_logging_in_sends_a_form_and_then_the_token(sandbox, wire):
    gtagora.Agora.create(sandbox.url, user="admin", password="admin")
    assert re.fullmatch(r"Token \w+", wire[-1].authorization)
    assert forms(wire)[0] == ("POST", "/api/v1/rest-auth/login/", FORM, "username=admin&password=admin")


def test_links_locks_names_and_deletions(agora, project, study, wire):
    folder = agora.get_folder(project.root).create_folder("wire")
    exam, series = agora.get_exam(study.exam), agora.get_series(study.series)
    dataset = agora.get_dataset(study.dataset)
    root = agora.get_folder(project.root)
    wire.clear()

    exam.link_to_folder(folder)
    root.link_to_folder(folder)
    exam.lock()
    exam.unlock()
    exam.set_name("n")
    exam.copy_to_folder(folder.id)
    assert forms(wire) == [
        ("POST", f"/api/v1/exam/{exam.id}/link_to/{folder.id}/", "", ""),
        ("POST", f"/api/v2/folder/{root.id}/link_to/{folder.id}/", "", ""),
        ("POST", "/api/v2/exam/lock_ids/", FORM, f"ids={exam.id}"),
        ("POST", "/api/v2/exam/unlock_ids/", FORM, f"ids={exam.id}"),
        ("PUT", f"/api/v1/exam/{exam.id}/", JSON, '{"name": "n"}'),
        get(f"/api/v1/folder/{folder.id}/"),
        ("POST", f"/api/v2/exam/{exam.id}/link_to/{folder.id}/", JSON, "{}"),
    ]

    folder.delete_item([10**6, 10**6 + 1])
    folder.delete()
    dataset.delete()
    series.delete()
    exam.delete()
    unlink = ("POST", "/api/v1/folderitem/delete_ids/", JSON, '{"ids": [1000000, 1000001]}')
    assert forms(wire) == [
        unlink,
        unlink,
        ("DELETE", f"/api/v2/folder/{folder.id}/", "", ""),
        ("DELETE", f"/api/v1/dataset/{dataset.id}/", "", ""),
        ("DELETE", f"/api/v1/serie/{series.id}/", "", ""),
        ("DELETE", f"/api/v1/exam/{exam.id}/", "", ""),
    ]


def test_lists_filters_and_searches(agora, study, wire):
    exam = agora.get_exam(study.exam)
    wire.clear()
    exam.get_series({"name": "x"})
    agora.search_series("parameter.a > 0 AND parameter.b < 2")
    agora.get_current_user()
    assert forms(wire) == [
        get(f"/api/v1/exam/{exam.id}/series/{EVERYTHING}&name=x"),
        get("/api/v1/serie/search/?q=parameter.a%20%3E%200%20AND%20parameter.b%20%3C%202&limit=10000000000"),
        get("/api/v1/user/current"),
    ]


def test_projects_users_and_the_trash(agora, project, sandbox, wire):
    agora.create_project("p", "d")
    agora.create_user("wire-bob", "pw")
    entry = sandbox.upload({"f.txt": b"x"}, folder=project.root)["datafiles"][0]["dataset"]
    agora.get_dataset(entry).delete()
    (trashed,) = [
        one for one in sandbox.get("v1/trash/?limit=1000")["results"] if one["project"] == project.id
    ]
    theirs = agora.get_project(project.id)
    seen = forms(wire)
    assert ("POST", "/api/v2/project/", JSON, '{"name": "p", "description": "d"}') in seen
    assert get("/api/v1/user/?username=wire-bob&limit=10000000000") in seen
    assert ("POST", "/api/v1/user/", FORM, "username=wire-bob&password=pw&is_superuser=False") in seen
    theirs.empty_trash()
    assert forms(wire) == [
        get(f"/api/v1/trash/{EVERYTHING}"),
        ("DELETE", f"/api/v1/trash/{trashed['id']}/delete", "", ""),
    ]


def test_a_download_asks_for_no_range(agora, study, tmp_path, wire):
    (first, second) = agora.get_dataset(study.dataset).get_datafiles()
    wire.clear()
    first.download(tmp_path)
    assert forms(wire) == [get(f"/api/v1/datafile/{first.id}/download/")]
    second.download(tmp_path)
    assert [one.status for one in wire] == [200]


def test_a_directory_of_six_files_is_one_zip_package(agora, project, tmp_path, wire):
    directory = tmp_path / "d"
    (directory / "sub").mkdir(parents=True)
    for number in range(5):
        (directory / f"f{number}.txt").write_text("x")
    (directory / "sub" / "g.txt").write_text("y")
    agora.upload([directory], target_folder_id=project.root)

    (upload,) = [one for one in wire if one.url.endswith("/upload/")]
    fields = dict(re.findall(r'name="(\w+)"\r\n\r\n(.*?)\r\n--', upload.body, re.S))
    identifier, name = fields.pop("flowIdentifier"), fields.pop("flowFilename")
    assert re.fullmatch(r"[0-9a-f-]{36}", identifier)
    assert name.endswith(".agora_upload") and fields.pop("flowRelativePath") == name
    assert fields.pop("flowCurrentChunkSize") == fields.pop("flowTotalSize")
    assert fields == {
        "description": "",
        "flowChunkNumber": "1",
        "flowChunkSize": str(Client.UPLOAD_CHUCK_SIZE),
        "flowTotalChunks": "1",
    }
    for number in range(5):
        assert f"d/f{number}.txt" in upload.body
    assert "d/sub/g.txt" in upload.body

    package = int(upload.url.split("/")[4])
    statuses = {(one.method, one.url): one.status for one in wire}
    seen = [one for one in forms(wire) if not one[1].endswith(("/upload/", "/progress/"))]
    assert seen == [
        ("POST", "/api/v1/import/", JSON, "{}"),
        get("/api/v1/version/"),
        ("POST", f"/api/v1/import/{package}/complete/", JSON, f'{{"folder": {project.root}}}'),
        get(f"/api/v1/import/{package}/result/"),
    ]
    assert statuses["POST", "/api/v1/import/"] == 201
    assert statuses["POST", upload.url] == 200
    assert statuses["POST", f"/api/v1/import/{package}/complete/"] == 204
    assert statuses["GET", f"/api/v1/import/{package}/progress/"] == 200
