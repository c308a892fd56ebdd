"""Zip files of what is below some objects, asked for as the vendor's Matlab client and app do."""

from __future__ import annotations

import io
import zipfile

import pytest

from agorafs.sandbox.endpoints.downloads import KEPT, harmless_paths

FILES = {"a.txt": b"first " * 100, "sub/b.csv": b"second", "sub/a.txt": b"third", "empty": b""}


@pytest.fixture
def folder(sandbox, project):
    made = sandbox.post(f"v1/folder/{project.root}/new/", {"name": "data"})["object_id"]
    assert sandbox.upload(FILES, folder=made)["state"] == 5
    return made


def prepared(sandbox, answer):
    """Poll a download file until it is ready, and return it."""
    assert answer["ready"] is False
    for _ in range(5):
        file = sandbox.get(f"v1/downloadfile/{answer['id']}/")
        if file["ready"]:
            return file
        assert not file["error"], file["error"]
    raise AssertionError("the download does not get ready")


def members(sandbox, answer):
    """Return path to content of a prepared zip."""
    file = prepared(sandbox, answer)
    response = sandbox.api("GET", f"v1/downloadfile/{file['id']}/download/")
    assert (response.status_code, len(response.content)) == (200, file["total_size"])
    assert response.headers["Content-Type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        assert len(names) == len(set(names))
        return {name: archive.read(name) for name in names}


def test_a_folder_is_downloaded_with_its_directories(sandbox, project, folder):
    answer = sandbox.post(f"v1/project/{project.id}/downloadfile/", {"folder_ids": [folder], "stream": False})
    assert answer["download_name"] == f"{project.name}.zip"
    assert members(sandbox, answer) == {f"data/{name}": content for name, content in FILES.items()}


def test_the_zip_holds_what_the_listing_says(sandbox, project, study, folder):
    request = {"exam_ids": [study.exam], "folder_ids": [folder]}
    listed = {
        f"{entry['rel_path']}/{entry['filename']}": entry["size"]
        for entry in sandbox.post("v1/downloadinfo/", request)
    }
    found = members(sandbox, sandbox.post("v1/downloadfile/", request))
    assert {name: len(content) for name, content in found.items()} == listed
    assert len(found) == 6


def test_flat_has_no_directories_and_loses_no_file(sandbox, project, folder):
    answer = sandbox.post("v1/downloadfile/", {"folder_ids": [folder], "flat": True})
    assert members(sandbox, answer) == {
        "a.txt": FILES["a.txt"],
        "a (2).txt": FILES["sub/a.txt"],
        "b.csv": FILES["sub/b.csv"],
        "empty": b"",
    }


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ({"regex": r"\.csv$"}, {"data/sub/b.csv"}),
        ({"dataset_types": [999]}, set()),
        ({"dataset_types": [100000], "regex": "^a"}, {"data/a.txt", "data/sub/a.txt"}),
    ],
)
def test_files_are_chosen_by_type_and_name(sandbox, folder, chosen, expected):
    answer = sandbox.post("v1/downloadfile/", {"folder_ids": [folder], "filter": chosen})
    assert set(members(sandbox, answer)) == expected


def test_compression_makes_it_smaller_and_changes_no_byte(sandbox, folder):
    sizes = []
    for compression in (False, True):
        answer = sandbox.post("v1/downloadfile/", {"folder_ids": [folder], "compression": compression})
        assert members(sandbox, answer)["data/a.txt"] == FILES["a.txt"]
        sizes.append(sandbox.get(f"v1/downloadfile/{answer['id']}/")["total_size"])
    assert sizes[1] < sizes[0]


def test_hostile_names_stay_inside_the_directory_that_is_unpacked(tmp_path):
    names = ["..", ".", "a", "a/b", "A", "../../etc/passwd", "nul\0byte", "/abs", "x/../../y", ""]
    entries = [(name.rpartition("/")[0], name.rpartition("/")[2], "0" * 40) for name in names]
    paths = [path for path, _ in harmless_paths(entries)]
    assert len({path.casefold() for path in paths}) == len(names)
    directories = {str(parent) for path in paths for parent in (tmp_path / path).parents}
    for path in paths:
        assert (tmp_path / path).resolve().is_relative_to(tmp_path) and ".." not in path.split("/")
        assert str(tmp_path / path) not in directories, "no file stands where a directory has to be"
        assert path.isprintable()


def test_a_zip_is_not_there_before_it_is_ready_nor_for_others(sandbox, folder):
    answer = sandbox.post("v1/downloadfile/", {"folder_ids": [folder]})
    path = f"v1/downloadfile/{answer['id']}/"
    assert sandbox.api("GET", f"{path}download/").status_code == 400
    prepared(sandbox, answer)
    for tail in ("", "download/"):
        assert sandbox.api("GET", path + tail, user="scientist").status_code == 404


def test_the_error_says_when_a_file_was_deleted_meanwhile(sandbox, project):
    sandbox.upload({"short-lived.txt": b"deleted before the zip is made"}, folder=project.root)
    answer = sandbox.post("v1/downloadfile/", {"folder_ids": [project.root]})
    (item,) = sandbox.get(f"v1/folder/{project.root}/items/")
    assert sandbox.api("DELETE", f"v1/dataset/{item['object_id']}/").status_code == 204
    (entry,) = [e for e in sandbox.get("v1/trash/?limit=1000")["results"] if e["project"] == project.id]
    assert sandbox.api("DELETE", f"v1/trash/{entry['id']}/delete").status_code == 204
    file = sandbox.get(f"v1/downloadfile/{answer['id']}/")
    assert file["ready"] is False and "deleted" in file["error"]


def test_old_download_files_are_gone(sandbox, folder):
    first = sandbox.post("v1/downloadfile/", {"folder_ids": [folder]})
    path = prepared(sandbox, first)["id"]
    for _ in range(KEPT):
        last = sandbox.post("v1/downloadfile/", {"folder_ids": [folder]})
    assert sandbox.api("GET", f"v1/downloadfile/{path}/").status_code == 404
    assert not (sandbox.data / "downloads" / f"{path}.zip").exists()
    prepared(sandbox, last)


def test_what_cannot_be_downloaded_is_refused(sandbox, project, folder):
    other = sandbox.post("v2/project/", {"name": "other"})["id"]
    request = {"folder_ids": [folder]}
    assert sandbox.api("POST", f"v1/project/{other}/downloadfile/", json=request).status_code == 400
    assert sandbox.api("POST", "v1/downloadfile/", json=request, user="scientist").status_code == 404
    for chosen in ({"regex": "("}, "x"):
        assert sandbox.api("POST", "v1/downloadfile/", json={**request, "filter": chosen}).status_code == 400
    answer = sandbox.api("POST", "v1/downloadfile/", json={**request, "aex": True})
    assert answer.status_code == 501 and "AEX" in answer.json()["detail"]
