"""Who may what, what a lock forbids, and what a deletion takes along."""

from __future__ import annotations

import pytest
import requests


@pytest.fixture
def member(sandbox, project):
    """Return a function that gives a user a role in the project."""
    ids = {user["username"]: user["id"] for user in sandbox.get("v1/user/?limit=1000")["results"]}

    def add(username, role):
        sandbox.post("v2/projectmembership/", {"project": project.id, "user": ids[username], "role": role})

    return add


def status(sandbox, method, path, user="admin", **options):
    return sandbox.api(method, path, user=user, **options).status_code


def names_in(sandbox, folder):
    return [item["content_object"]["name"] for item in sandbox.get(f"v1/folder/{folder}/items/")]


def trash_of(sandbox, project):
    return [
        entry for entry in sandbox.get("v1/trash/?limit=1000")["results"] if entry["project"] == project.id
    ]


# -- membership and roles ----------------------------------------------------------------------------


def test_what_is_in_a_project_does_not_exist_for_others(sandbox, project, study):
    datafile = sandbox.get(f"v2/dataset/{study.dataset}/datafiles/")["results"][0]["id"]
    for path in (
        f"v2/project/{project.id}/",
        f"v2/project/{project.id}/exam/",
        f"v2/folder/{project.root}/",
        f"v1/folder/{project.root}/items/",
        f"v1/exam/{study.exam}/",
        f"v1/serie/{study.series}/",
        f"v1/dataset/{study.dataset}/",
        f"v1/datafile/{datafile}/",
        f"v1/datafile/{datafile}/download/",
        f"v1/patient/{study.patient}/",
        f"v2/exam/{study.exam}/tree/",
    ):
        assert status(sandbox, "GET", path) == 200
        assert status(sandbox, "GET", path, "scientist") == 404
    assert project.id not in [p["id"] for p in sandbox.get("v2/project/", user="scientist")["results"]]
    assert sandbox.get("v1/exam/?limit=1000", user="scientist")["results"] == []


def test_an_observer_reads_and_writes_nothing(sandbox, project, study, member):
    member("observer", 4)
    assert status(sandbox, "GET", f"v1/exam/{study.exam}/", "observer") == 200
    refused = [
        ("PUT", f"v1/exam/{study.exam}/", {"name": "x"}),
        ("PUT", f"v1/serie/{study.series}/", {"name": "x"}),
        ("POST", f"v1/folder/{project.root}/new/", {"name": "x"}),
        ("POST", f"v1/exam/{study.exam}/link_to/{project.root}/", None),
        ("POST", "v2/exam/lock_ids/", {"ids": [study.exam]}),
        ("DELETE", f"v1/exam/{study.exam}/", None),
        ("DELETE", f"v1/dataset/{study.dataset}/", None),
        ("PUT", f"v2/project/{project.id}/", {"name": "x"}),
        ("POST", "v2/projectmembership/", {"project": project.id, "user": 1, "role": 1}),
    ]
    assert [status(sandbox, method, path, "observer", json=body) for method, path, body in refused] == [
        403
    ] * 9
    package = sandbox.post("v1/import/", {}, user="observer")["id"]
    complete = f"v1/import/{package}/complete/"
    assert status(sandbox, "POST", complete, "observer", json={"folder": project.root}) == 403


def test_a_scientist_writes_but_does_not_manage(sandbox, project, study, member):
    member("scientist", 2)
    assert status(sandbox, "PUT", f"v1/exam/{study.exam}/", "scientist", json={"name": "x"}) == 200
    assert status(sandbox, "PUT", f"v2/project/{project.id}/", "scientist", json={"name": "x"}) == 403
    assert sandbox.upload({"a.txt": b"a"}, user="scientist", folder=project.root)["state"] == 5


def test_import_packages_belong_to_their_user(sandbox):
    package = sandbox.post("v1/import/", {}, user="scientist")["id"]
    assert status(sandbox, "GET", f"v1/import/{package}/", "observer") == 404
    assert sandbox.send_chunk(package, "a", b"a", identifier="i", user="observer").status_code == 404
    assert status(sandbox, "GET", f"v1/import/{package}/", "scientist") == 200


def test_only_an_administrator_creates_users(sandbox):
    body = {"username": "new", "password": "new"}
    assert status(sandbox, "POST", "v1/user/", "observer", data=body) == 403
    assert status(sandbox, "POST", "v1/user/", data={"username": "new"}) == 400
    assert (
        sandbox.api("POST", "v1/user/", data={**body, "is_superuser": "False"}).json()["is_superuser"]
        is False
    )
    assert status(sandbox, "POST", "v1/user/", data=body) == 400


def test_my_agora_is_neither_renamed_shared_nor_deleted(sandbox):
    mine = sandbox.get("v2/project/myagora/")["id"]
    assert status(sandbox, "PUT", f"v2/project/{mine}/", json={"name": "x"}) == 403
    assert status(sandbox, "DELETE", f"v2/project/{mine}/") == 403
    body = {"project": mine, "user": 2, "role": 4}
    assert status(sandbox, "POST", "v2/projectmembership/", json=body) == 403


def test_a_revoked_key_is_refused_and_a_new_one_works(sandbox):
    old = sandbox.users["scientist"]
    sandbox.revoke("scientist")
    assert status(sandbox, "GET", "v1/user/current/", "scientist") == 401
    assert sandbox.set_api_key(user="scientist") != old
    assert status(sandbox, "GET", "v1/user/current/", "scientist") == 200


def test_the_side_door_is_shut_for_others(sandbox):
    for user, expected in (("admin", 200), ("observer", 401)):
        headers = {"Authorization": f"X-Agora-Api-Key {sandbox.users[user]}"}
        answer = requests.get(f"{sandbox.url}/_sandbox/users", headers=headers, timeout=30)
        assert answer.status_code == expected


# -- locks -------------------------------------------------------------------------------------------


def test_below_a_locked_exam_nothing_is_written_unless_switched_off(sandbox, project, study):
    sandbox.post("v2/exam/lock_ids/", {"ids": [study.exam]})
    assert sandbox.get(f"v1/serie/{study.series}/")["locked"]
    assert sandbox.get(f"v1/dataset/{study.dataset}/")["locked"]
    writes = [
        ("PUT", f"v1/exam/{study.exam}/", {"name": "x"}),
        ("PUT", f"v1/serie/{study.series}/", {"name": "x"}),
        ("DELETE", f"v1/dataset/{study.dataset}/", None),
        ("DELETE", f"v1/serie/{study.series}/", None),
        ("DELETE", f"v1/exam/{study.exam}/", None),
        ("DELETE", f"v1/patient/{study.patient}/", None),
    ]
    assert [status(sandbox, method, path, json=body) for method, path, body in writes] == [403] * 6
    package = sandbox.post("v1/import/", {})["id"]
    for target in ({"exam": study.exam}, {"series": study.series}):
        assert status(sandbox, "POST", f"v1/import/{package}/complete/", json=target) == 403
    sandbox.switch(locked_refuses="off")
    assert status(sandbox, "PUT", f"v1/exam/{study.exam}/", json={"name": "x"}) == 200


# -- deleting ----------------------------------------------------------------------------------------


def test_deleting_a_link_leaves_the_object(sandbox, project, study):
    link = sandbox.post(f"v1/exam/{study.exam}/link_to/{project.root}/")
    assert (link["is_link"], link["object_id"]) == (True, study.exam)
    assert status(sandbox, "DELETE", f"v1/folderitem/{link['id']}/") == 204
    assert status(sandbox, "GET", f"v1/exam/{study.exam}/") == 200
    assert trash_of(sandbox, project) == []


def test_linking_twice_into_one_folder_keeps_one_item(sandbox, project, study):
    first = sandbox.post(f"v1/exam/{study.exam}/link_to/{project.root}/")
    assert sandbox.post(f"v1/exam/{study.exam}/link_to/{project.root}/")["id"] == first["id"]


def test_a_link_does_not_cross_projects(sandbox, study):
    other = sandbox.get("v2/project/myagora/")["root_folder"]
    assert status(sandbox, "POST", f"v1/exam/{study.exam}/link_to/{other}/") == 400


def test_deleting_an_item_that_is_no_link_deletes_the_object_and_its_links(sandbox, project):
    sandbox.upload({"a/x.txt": b"x"}, folder=project.root)
    folder = sandbox.get(f"v1/folder/{project.root}/items/")[0]["object_id"]
    item = sandbox.get(f"v1/folder/{folder}/items/")[0]
    sandbox.post(f"v1/dataset/{item['object_id']}/link_to/{project.root}/")
    assert names_in(sandbox, project.root) == ["a", "x.txt"]
    assert status(sandbox, "DELETE", f"v1/folderitem/{item['id']}/") == 204
    assert status(sandbox, "GET", f"v1/dataset/{item['object_id']}/") == 404
    assert names_in(sandbox, project.root) == ["a"]


def test_deleting_a_folder_is_recursive_and_unlinks_only(sandbox, project, study):
    sandbox.upload({"a/b/x.txt": b"x", "kept/y.txt": b"y"}, folder=project.root)
    items = {
        item["content_object"]["name"]: item["object_id"]
        for item in sandbox.get(f"v1/folder/{project.root}/items/")
    }
    sandbox.post(f"v1/exam/{study.exam}/link_to/{items['a']}/")
    sandbox.post(f"v2/folder/{items['kept']}/link_to/{items['a']}/")
    assert status(sandbox, "DELETE", f"v2/folder/{items['a']}/") == 204
    assert status(sandbox, "GET", f"v1/exam/{study.exam}/") == 200
    assert names_in(sandbox, project.root) == ["kept"]
    assert names_in(sandbox, items["kept"]) == ["y.txt"]
    (entry,) = trash_of(sandbox, project)
    assert (entry["content_type"], entry["object_id"], entry["name"]) == ("folder", items["a"], "a")


def test_the_root_folder_is_not_deleted(sandbox, project):
    assert status(sandbox, "DELETE", f"v2/folder/{project.root}/") == 400


def test_a_folder_that_holds_a_link_to_its_parent_is_deleted_without_it(sandbox, project):
    outer = sandbox.post("v2/folder/", {"name": "outer", "project": project.id})["id"]
    inner = sandbox.post("v2/folder/", {"name": "inner", "parent": outer})["id"]
    sandbox.post(f"v2/folder/{outer}/link_to/{inner}/")
    assert status(sandbox, "DELETE", f"v2/folder/{inner}/") == 204
    assert status(sandbox, "GET", f"v2/folder/{outer}/") == 200


def test_emptying_the_trash_removes_contents_that_nobody_else_needs(sandbox, project):
    sandbox.upload(
        {"gone.txt": b"only here, %d" % project.id, "twice.txt": b"twice %d" % project.id},
        folder=project.root,
    )
    sandbox.upload({"other/twice.txt": b"twice %d" % project.id}, folder=project.root)
    by_name = {
        item["content_object"]["name"]: item["content_object"]
        for item in sandbox.get(f"v1/folder/{project.root}/items/")
    }
    paths = {}
    for name in ("gone.txt", "twice.txt"):
        sha1 = by_name[name]["datafiles"][0]["sha1"]
        paths[name] = sandbox.data / "content" / sha1[:2] / sha1[2:]
        assert status(sandbox, "DELETE", f"v1/dataset/{by_name[name]['id']}/") == 204
    assert all(path.exists() for path in paths.values())
    for entry in trash_of(sandbox, project):
        assert status(sandbox, "DELETE", f"v1/trash/{entry['id']}/delete") == 204
        assert status(sandbox, "DELETE", f"v1/trash/{entry['id']}/delete") == 404
    assert not paths["gone.txt"].exists()
    assert paths["twice.txt"].exists()


def test_a_deleted_project_is_gone_and_then_gone_for_good(sandbox, project, study):
    assert status(sandbox, "DELETE", f"v2/project/{project.id}/") == 204
    for path in (f"v2/project/{project.id}/", f"v2/folder/{project.root}/", f"v1/exam/{study.exam}/"):
        assert status(sandbox, "GET", path) == 404
    (entry,) = trash_of(sandbox, project)
    assert status(sandbox, "DELETE", f"v1/trash/{entry['id']}/delete/") == 204
    assert study.dataset not in [file["dataset"] for file in sandbox.datafiles()]
