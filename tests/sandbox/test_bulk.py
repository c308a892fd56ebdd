"""A data directory prepared before any server uses it, and what a server makes of it."""

from __future__ import annotations

import hashlib

import gtagora
import pytest

from agorafs.sandbox import accounts, bulk, objects
from agorafs.sandbox.store import Store
from tests.support.sandbox import SandboxProcess

SPARSE_BYTES = 5 << 30

# The three My Agora come first, each with a root folder.
PROJECT, FOLDER = 4, 5


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A server on a directory with many exams, a large folder, a sparse file, relations and an unknown item."""
    directory = tmp_path_factory.mktemp("bulk")
    store = Store(directory / "data")
    accounts.ensure_users(store)
    project = bulk.add_project(store, "Large", members=[("observer", objects.OBSERVER)])
    bulk.add_exams(store, project, exams=30, datasets=10)
    (folder,) = bulk.add_folders(store, bulk.root_folder(store, project), ["many"])
    bulk.add_files(store, folder, ((f"f{number:05d}.txt", b"%d" % (number % 7)) for number in range(2000)))
    sparse = directory / "sparse.bin"
    with sparse.open("wb") as file:
        file.truncate(SPARSE_BYTES)
        file.seek(SPARSE_BYTES - 3)
        file.write(b"end")
    # The hash of 5 GiB takes seconds to compute and is not what this test is about: a made-up one is believed.
    bulk.adopt_file(
        store, bulk.root_folder(store, project), "sparse.bin", sparse, hashlib.sha1(b"sparse").hexdigest()
    )
    with store.transaction() as db:
        objects.add_relation(db, "serie", 1, "serie", 2)
        objects.add_relation(db, "exam", 3, "exam", 1)
        objects.add_item(
            db, store.now(), folder, "query", 7, is_link=False, content={"id": 7, "name": "a saved query"}
        )
    store.close()
    assert (project, folder) == (PROJECT, FOLDER)
    with SandboxProcess(directory / "data") as process:
        yield process


def test_all_exams_and_datasets_are_listed(prepared):
    tree = prepared.get(f"v2/project/{PROJECT}/tree/")
    assert len(tree) == 30
    assert [len(series["datasets"]) for exam in tree for series in exam["series"]] == [10] * 30
    assert prepared.get(f"v2/project/{PROJECT}/exam/?limit=10", user="observer")["count"] == 30


def test_a_large_folder_is_listed_in_one_answer_or_in_pages(prepared):
    items = prepared.get(f"v1/folder/{FOLDER}/items/")
    assert len(items) == 2001
    assert prepared.get(f"v2/folder/{FOLDER}/items/?limit=1000&offset=2000")["results"] == [{**items[-1]}]


def test_an_item_of_an_unknown_type_is_shown_as_it_is(prepared):
    (item,) = [item for item in prepared.get(f"v1/folder/{FOLDER}/items/") if item["content_type"] == "query"]
    assert (item["object_id"], item["content_object"]["name"]) == (7, "a saved query")
    tree = prepared.get(f"v2/folder/{FOLDER}/tree/")
    assert "query" in {item["content_type"] for item in tree["content_object"]["items"]}


def test_a_sparse_file_is_adopted_without_copying_and_read_at_both_ends(prepared):
    (file,) = [file for file in prepared.datafiles() if file["original_filename"] == "sparse.bin"]
    assert file["size"] == SPARSE_BYTES
    stored = prepared.data / "content" / file["sha1"][:2] / file["sha1"][2:]
    assert stored.stat().st_blocks * 512 < 1 << 20
    path = f"v1/datafile/{file['id']}/download/"
    assert prepared.api("GET", path, headers={"Range": "bytes=0-9"}).content == bytes(10)
    assert prepared.api("GET", path, headers={"Range": "bytes=-3"}).content == b"end"


def test_every_datafile_listed_has_its_bytes(prepared):
    for file in prepared.datafiles()[:20]:
        content = prepared.api("GET", f"v1/datafile/{file['id']}/download/").content
        assert (len(content), hashlib.sha1(content).hexdigest()) == (file["size"], file["sha1"])


def test_row_32_relations_are_read_by_the_vendors_connector(prepared):
    """The related object may stand on either side."""
    agora = gtagora.Agora.create(prepared.url, api_key=prepared.api_key)
    assert [series.id for series in agora.get_series(1).relations()] == [2]
    assert [series.id for series in agora.get_series(2).relations()] == [1]
    assert [exam.id for exam in agora.get_exam(1).relations()] == [3]
    assert prepared.get("v1/serie/1/")["has_relations"] and not prepared.get("v1/serie/3/")["has_relations"]
