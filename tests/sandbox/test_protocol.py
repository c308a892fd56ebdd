"""How requests may be written and what answers look like: prefixes, slashes, bodies, lists, pages, filters."""

from __future__ import annotations

import base64
from typing import Any

import pytest
import requests

from tests.sandbox.conftest import make_study


@pytest.fixture(scope="module")
def many(shared_sandbox):
    """A project with 25 folders and the folder that holds them."""
    project = shared_sandbox.post("v2/project/", {"name": "many"})
    for number in range(25):
        shared_sandbox.post(f"v1/folder/{project['root_folder']}/new/", {"name": f"folder {number:02d}"})
    return project


def names(page):
    return [folder["name"] for folder in page["results"]]


# -- addresses and credentials -----------------------------------------------------------------------


@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("word", ["serie", "series"])
def test_series_answer_under_both_prefixes_both_names_with_and_without_slash(
    sandbox, study, version, word, slash
):
    body = sandbox.get(f"{version}/{word}/{study.series}{slash}")
    assert (body["id"], body["uid"]) == (study.series, study.series_uid)


def test_the_version_needs_no_credentials_and_everything_else_does(sandbox):
    assert requests.get(f"{sandbox.url}/api/v1/version/", timeout=30).json()["version"] == "7.14.6"
    for path in ("user/current/", "project/", "datafile/1/download/", "nowhere/"):
        assert requests.get(f"{sandbox.url}/api/v1/{path}", timeout=30).status_code == 401
    assert requests.post(f"{sandbox.url}/api/v1/import/1/upload/", timeout=30).status_code == 401


@pytest.mark.parametrize(
    "header",
    ["X-Agora-Api-Key {key}", "Token {key}", "Token {token}", "Basic {basic}"],
)
def test_every_scheme_of_credentials_is_accepted(sandbox, header):
    login = requests.post(
        f"{sandbox.url}/api/v1/rest-auth/login/", json={"username": "admin", "password": "admin"}, timeout=30
    )
    values = {
        "key": sandbox.api_key,
        "token": login.json()["key"],
        "basic": base64.b64encode(b"admin:admin").decode(),
    }
    answer = requests.get(
        f"{sandbox.url}/api/v1/user/current/", headers={"Authorization": header.format(**values)}, timeout=30
    )
    assert (answer.status_code, answer.json()["username"]) == (200, "admin")
    assert "institution" in answer.json()


@pytest.mark.parametrize(
    "header", ["Basic !!!", "Basic YWRtaW46d3Jvbmc=", "Token", "Bearer x", "X-Agora-Api-Key wrong"]
)
def test_wrong_credentials_are_refused_with_401(sandbox, header):
    answer = requests.get(
        f"{sandbox.url}/api/v1/user/current/", headers={"Authorization": header}, timeout=30
    )
    assert answer.status_code == 401


def test_unknown_paths_are_404_and_wrong_methods_405(sandbox):
    assert sandbox.api("GET", "v1/nothing/").status_code == 404
    assert sandbox.api("GET", "v3/project/").status_code == 404
    assert sandbox.api("GET", "v1/exam/notanumber/").status_code == 404
    assert sandbox.api("GET", "v1/exam/999999/").json() == {"detail": "Not found."}
    assert sandbox.api("GET", f"v1/exam/{10**30}/").status_code == 404
    assert sandbox.api("DELETE", "v1/version/").status_code == 405


# -- bodies ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["json", "form", "multipart"])
def test_json_form_and_multipart_bodies_are_understood(sandbox, project, encoding):
    fields = {"name": f"made by {encoding}"}
    bodies: dict[str, dict[str, Any]] = {
        "json": {"json": fields},
        "form": {"data": fields},
        "multipart": {"files": {"name": (None, fields["name"])}},
    }
    answer = sandbox.api("POST", f"v1/folder/{project.root}/new/", **bodies[encoding])
    assert (answer.status_code, answer.json()["content_object"]["name"]) == (201, fields["name"])


@pytest.mark.parametrize("options", [{"json": {"ids": [0]}}, {"data": {"ids": [0, 0]}}, {"data": {"ids": 0}}])
def test_lists_of_ids_come_as_json_or_repeated_form_keys(sandbox, study, options):
    (kind,) = options
    ids = options[kind]["ids"]
    options = {kind: {"ids": [study.exam for _ in ids] if isinstance(ids, list) else study.exam}}
    assert sandbox.api("POST", "v2/exam/lock_ids/", **options).status_code == 200
    assert sandbox.get(f"v1/exam/{study.exam}/")["locked"] is True


@pytest.mark.parametrize(
    ("data", "content_type"),
    [(b'{"name": ', "application/json"), (b"\xff\xfe", "application/json"), (b"x", "multipart/form-data")],
)
def test_a_body_that_cannot_be_read_is_400(sandbox, project, data, content_type):
    answer = sandbox.api(
        "POST", f"v1/folder/{project.root}/new/", data=data, headers={"Content-Type": content_type}
    )
    assert answer.status_code == 400


# -- lists -------------------------------------------------------------------------------------------


def test_a_page_has_ten_entries_unless_asked_otherwise(sandbox, many):
    page = sandbox.get(f"v2/folder/?project={many['id']}")
    assert (page["count"], len(page["results"]), page["previous"]) == (26, 10, None)


def test_following_next_gives_every_entry_once(sandbox, many):
    found, path = [], f"v2/folder/?project={many['id']}&limit=7"
    while path:
        page = sandbox.get(path)
        found += names(page)
        path = page["next"] and page["next"].removeprefix(f"{sandbox.url}/api/")
    assert found == ["many", *(f"folder {number:02d}" for number in range(25))]


def test_a_huge_limit_gives_everything(sandbox, many):
    page = sandbox.get(f"v2/folder/?project={many['id']}&limit=10000000000")
    assert (page["next"], len(page["results"])) == (None, 26)


def test_a_maximal_page_forces_following_next(sandbox, many):
    sandbox.switch(page_max=5)
    page = sandbox.get(f"v2/folder/?project={many['id']}&limit=10000000000")
    assert (len(page["results"]), page["count"]) == (5, 26)
    assert "limit=5" in page["next"] and "offset=5" in page["next"]


def test_pages_by_number_and_no_paging_as_in_the_manual(sandbox, many):
    assert names(sandbox.get(f"v2/folder/?project={many['id']}&limit=20&page=2")) == [
        f"folder {number:02d}" for number in range(19, 25)
    ]
    assert len(sandbox.get(f"v2/folder/?project={many['id']}&no_page=1")) == 26


@pytest.mark.parametrize("limit", ["0", "-3", "many", ""])
def test_a_senseless_limit_counts_as_none(sandbox, many, limit):
    assert len(sandbox.get(f"v2/folder/?project={many['id']}&limit={limit}")["results"]) == 10


def test_folder_items_are_bare_on_v1_and_a_page_on_v2(sandbox, many):
    items = sandbox.get(f"v1/folder/{many['root_folder']}/items/?limit=3")
    assert len(items) == 25
    page = sandbox.get(f"v2/folder/{many['root_folder']}/items/?limit=3")
    assert (page["count"], page["results"]) == (25, items[:3])
    sandbox.switch(folder_items_v1="page")
    assert sandbox.get(f"v1/folder/{many['root_folder']}/items/?limit=3")["count"] == 25


@pytest.mark.parametrize(
    ("query", "hits"),
    [
        ("name=folder 07", 1),
        ("name=folder", 0),
        ("name__contains=older 0", 10),
        ("name__icontains=OLDER 0", 10),
        ("name__startswith=folder 1", 10),
        ("name__iendswith=4", 3),
        ("name__regex=^folder [01]3$", 2),
        ("name__iexact=FOLDER 07", 1),
        ("no_such_field=1", 26),
        ("name__no_such_operator=1", 26),
    ],
)
def test_text_filters(sandbox, many, query, hits):
    assert sandbox.get(f"v2/folder/?project={many['id']}&{query}&limit=100")["count"] == hits


def test_number_filters(sandbox, many):
    ids = [folder["id"] for folder in sandbox.get(f"v2/folder/?project={many['id']}&limit=100")["results"]]

    def count(query):
        return sandbox.get(f"v2/folder/?project={many['id']}&{query}")["count"]

    assert count(f"id={ids[3]}") == 1
    assert count(f"id__gt={ids[3]}") == 22
    assert count(f"id__lte={ids[3]}") == 4
    assert count(f"id__range={ids[3]},{ids[5]}") == 3
    assert sandbox.api("GET", f"v2/folder/?project={many['id']}&id__gt=x").status_code == 400
    assert sandbox.api("GET", f"v2/folder/?project={many['id']}&name__regex=(").status_code == 400


@pytest.mark.parametrize(
    ("query", "hits"),
    [
        ("start_time__year=2024", 1),
        ("start_time__year=2023", 0),
        ("start_time__week_day=2", 1),  # 15 January 2024 was a Monday, and Sunday is day 1
        ("start_time__hour__gt=1", 1),
        ("start_time__gte=2024-01-15T00:00:00Z", 1),
        ("start_time__lt=2024-01-15T00:00:00Z", 0),
        ("start_time__range=2024-01-15,2024-01-16", 1),
        ("start_time__date=2024-01-15", 1),
        ("start_time__date__gt=2024-01-15", 0),
        ("start_time__time=08:00:00", 1),
    ],
)
def test_time_filters(sandbox, project, study, query, hits):
    assert sandbox.get(f"v2/project/{project.id}/exam/?{query}")["count"] == hits


# -- shapes ------------------------------------------------------------------------------------------


def test_datasets_carry_datafiles_on_v1_and_not_on_v2(sandbox, study):
    assert len(sandbox.get(f"v1/dataset/{study.dataset}/")["datafiles"]) == 2
    assert "datafiles" not in sandbox.get(f"v2/dataset/{study.dataset}/")
    assert sandbox.get(f"v2/dataset/{study.dataset}/datafiles/")["count"] == 2
    sandbox.switch(datafiles_v1="off")
    assert "datafiles" not in sandbox.get(f"v1/dataset/{study.dataset}/")


def test_the_patient_of_an_exam_is_nested_alone_and_an_id_in_lists(sandbox, project, study):
    assert sandbox.get(f"v2/exam/{study.exam}/")["patient"]["patient_id"] == study.patient_id
    assert sandbox.get(f"v2/project/{project.id}/exam/")["results"][0]["patient"] == study.patient
    sandbox.switch(exam_patient="int")
    assert sandbox.get(f"v2/exam/{study.exam}/")["patient"] == study.patient


def test_sizes_of_datasets_are_the_sums_of_their_datafiles(sandbox, study):
    dataset = sandbox.get(f"v1/dataset/{study.dataset}/")
    assert dataset["total_size"] == sum(file["size"] for file in dataset["datafiles"]) > 0


def test_trees_carry_datafiles_unless_switched_off_and_can_be_missing(sandbox, project, study):
    paths = (
        f"v2/exam/{study.exam}/tree/",
        f"v2/series/{study.series}/tree/",
        f"v2/project/{project.id}/tree/",
    )

    def datasets(path):
        tree = sandbox.get(path)
        tree = tree[0] if isinstance(tree, list) else tree
        return tree["datasets"] or tree["series"][0]["datasets"]

    assert [len(datasets(path)[0]["datafiles"]) for path in paths] == [2, 2, 2]
    sandbox.switch(tree_datafiles="off")
    assert ["datafiles" in datasets(path)[0] for path in paths] == [False, False, False]
    sandbox.switch(tree="off")
    for path in (*paths, f"v2/folder/{project.root}/tree/"):
        assert sandbox.api("GET", path).status_code == 404


def test_my_agora_can_be_left_out_of_the_list_of_projects(sandbox):
    assert True in [project["is_myagora"] for project in sandbox.get("v2/project/?limit=1000")["results"]]
    sandbox.switch(myagora_listed="off")
    assert True not in [project["is_myagora"] for project in sandbox.get("v2/project/?limit=1000")["results"]]
    assert sandbox.get("v2/project/myagora/")["name"] == "admin"


def test_a_uid_with_a_slash_is_found_escaped(sandbox, project):
    study = make_study(sandbox, project)
    assert sandbox.api("GET", f"v2/project/{project.id}/exam/uid/a%2Fb/").status_code == 404
    assert sandbox.get(f"v2/project/{project.id}/exam/uid/{study.exam_uid}")["id"] == study.exam


def test_folders_are_created_below_a_project_or_a_parent_and_renamed(sandbox, project):
    first = sandbox.post("v2/folder/", {"name": "first", "project": project.id})
    second = sandbox.post("v2/folder/", {"name": "second", "parent": first["id"]})
    crumbs = sandbox.get(f"v1/folder/{second['id']}/breadcrumb/?limit=10000000000")
    assert [crumb["object_id"] for crumb in crumbs] == [project.root, first["id"], second["id"]]
    renamed = sandbox.api(
        "PUT", f"v1/folder/{first['id']}/", json={"name": "1st", "id": first["id"], "project": project.id}
    )
    assert (renamed.status_code, renamed.json()["name"]) == (200, "1st")
    sandbox.post("v2/folder/", {"name": "taken", "project": project.id})
    refused = sandbox.api("PUT", f"v1/folder/{first['id']}/", json={"name": "taken"})
    assert (refused.status_code, list(refused.json())) == (400, ["name"])
    for body in (
        {"name": "taken", "project": project.id},
        {"name": " ", "project": project.id},
        {"name": "x"},
    ):
        assert sandbox.api("POST", "v2/folder/", json=body).status_code == 400


def test_downloadinfo_lists_a_subtree_with_local_paths(sandbox, project, study):
    sandbox.upload({"top/one.txt": b"1"}, folder=project.root)
    everything = sandbox.post("v1/downloadinfo/", {"folder_ids": [project.root], "exam_ids": [study.exam]})
    loose, first, second = sorted(everything, key=lambda entry: entry["filename"], reverse=True)
    assert (loose["rel_path"], loose["filename"], loose["size"]) == (f"{project.name}/top", "one.txt", 1)
    assert {first["filename"], second["filename"]} == {"IM_0001", "IM_0002"}
    assert first["rel_path"].endswith("/DICOM")
    only = sandbox.post(
        "v1/downloadinfo/",
        {"series_ids": [study.series], "filter": {"regex": "0002$", "dataset_types": [300]}},
    )
    assert [entry["filename"] for entry in only] == ["IM_0002"]
    sandbox.switch(downloadinfo="off")
    assert sandbox.api("POST", "v1/downloadinfo/", json={"exam_ids": [study.exam]}).status_code == 404


@pytest.mark.parametrize(
    "body",
    [
        b'{"name": "\\ud800"}',
        b'{"name": ' + b"[" * 100_000,
        b"[1, 2]",
        b'"text"',
        b"null",
        b'{"name": {"a": 1}}',
    ],
)
def test_a_strange_body_is_refused_or_understood_but_never_an_error_of_the_server(sandbox, project, body):
    answer = sandbox.api(
        "POST", f"v1/folder/{project.root}/new/", data=body, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code in (201, 400)


@pytest.mark.parametrize(
    "content_type", ["multipart/form-data", "multipart/form-data; boundary=x", "text/plain"]
)
def test_a_strange_chunk_is_refused_but_never_an_error_of_the_server(sandbox, content_type):
    package = sandbox.post("v1/import/", {})["id"]
    for body in (b"", b"nonsense", b"--x\r\n\r\nnonsense"):
        answer = sandbox.api(
            "POST", f"v1/import/{package}/upload/", data=body, headers={"Content-Type": content_type}
        )
        assert answer.status_code == 400


@pytest.mark.parametrize("number", [10**18, 10**30, -1])
def test_numbers_beyond_reason_are_no_error_of_the_server(sandbox, project, number):
    assert sandbox.api("POST", "v2/exam/lock_ids/", json={"ids": [number]}).status_code in (400, 404)
    assert sandbox.api("GET", f"v2/folder/?limit={number}&offset={number}").status_code == 200
    assert sandbox.api("GET", f"v2/folder/?id={number}").json()["results"] == []
    assert sandbox.api("POST", "v1/downloadinfo/", json={"exam_ids": [number]}).status_code in (400, 404)
