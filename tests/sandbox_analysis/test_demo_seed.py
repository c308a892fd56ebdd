"""A seeded server holds what the demo promises, and every difficult case a client must survive."""

from __future__ import annotations

import asyncio
import hashlib
import json
import unicodedata

import nibabel
import numpy as np
import pytest
from workbook.mask import decode_full_mask

from agorafs.sandbox import demo
from agorafs.sandbox.demo_hostile import HOSTILE_FILENAMES
from agorafs.sandbox.server import Sandbox
from agorafs.sandbox.store import Store

EIGHT_MIB = 8 * 1024 * 1024
_COUNTED = (
    "project",
    "folder",
    "folder_item",
    "patient",
    "exam",
    "series",
    "dataset",
    "datafile",
    "membership",
    "tag_definition",
    "tag_instance",
    "rating",
    "parameter_set",
    "relation",
    "workbook",
    "trash_entry",
    "task",
    "script_task",
    "host",
)


async def run_seeding(directory, switches=None, times=1):
    """Seed a new server on *directory* and return what its switches were afterwards."""
    server = Sandbox(directory, switches=switches)
    await server.start()
    try:
        for _ in range(times):
            await demo.seed(server)
        return server.switches.as_json()
    finally:
        await server.stop()


def counts_of(store):
    with store.snapshot() as db:
        return {table: db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in _COUNTED}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    directory = tmp_path_factory.mktemp("seeded")
    asyncio.run(run_seeding(directory))
    with_demo = Store(directory)
    yield with_demo
    with_demo.close()


@pytest.fixture
def ask(store):
    """Return the rows of a query as tuples."""

    def rows(sql, *arguments):
        with store.snapshot() as db:
            return [tuple(row) for row in db.execute(sql, arguments)]

    return rows


def test_every_datafile_has_its_recorded_size_and_sha1(store, ask):
    rows = ask("SELECT size, sha1 FROM datafile")
    assert len(rows) > 300
    for size, sha1 in rows:
        content = store.contents.path(sha1).read_bytes()
        assert (len(content), hashlib.sha1(content).hexdigest()) == (size, sha1)
    assert max(rows)[0] > EIGHT_MIB
    assert sum(size for size, _ in rows) < 60 * 1024 * 1024


def test_the_demo_is_spread_over_two_projects_and_my_agora(ask):
    rows = ask(
        "SELECT p.name, p.is_myagora, count(DISTINCT d.id) FROM project p JOIN dataset d ON d.project = p.id "
        "GROUP BY p.id ORDER BY p.name"
    )
    assert [(name, bool(mine)) for name, mine, _ in rows] == [
        ("Neuro Study", False),
        ("Phantom QA", False),
        ("admin", True),
    ]
    assert all(count > 5 for _, _, count in rows)


def test_the_long_series_has_176_files_called_as_the_scanner_called_them(ask):
    names = ask(
        "SELECT f.original_filename FROM datafile f JOIN dataset d ON d.id = f.dataset "
        "JOIN series s ON s.id = d.series WHERE s.name = 'T1w 3D TFE' ORDER BY f.id"
    )
    assert names == [(f"DICOM/IM_{number:04d}",) for number in range(4, 180)]


def test_a_related_file_is_in_the_series_of_its_main_file(ask):
    assert ask(
        "SELECT s.name FROM dataset d JOIN series s ON s.id = d.series WHERE d.name = 'physiology.log'"
    ) == [("CBU_DTI_64D_1A",)]


def test_exams_include_a_locked_one_some_without_patient_and_two_of_one_name(ask):
    assert ask("SELECT name FROM exam WHERE locked = 1") == [("CBU^Neuroimaging",)]
    assert len(ask("SELECT 1 FROM exam WHERE patient IS NULL")) >= 2
    assert len(ask("SELECT 1 FROM exam WHERE name = 'Duplicate'")) == 2
    assert len(ask("SELECT 1 FROM exam WHERE name = ''")) == 1
    assert len(ask("SELECT 1 FROM patient")) >= 5


def test_links_of_every_kind_exist_and_a_folder_is_linked_into_its_own_child(ask):
    linked = {kind for (kind,) in ask("SELECT content_type FROM folder_item WHERE is_link = 1")}
    assert linked == {"folder", "exam", "serie", "dataset"}
    assert ask(
        "SELECT outer_folder.name FROM folder_item link "
        "JOIN folder_item child ON child.object_id = link.folder AND child.content_type = 'folder' "
        "JOIN folder outer_folder ON outer_folder.id = child.folder "
        "WHERE link.is_link = 1 AND link.content_type = 'folder' AND link.object_id = child.folder"
    ) == [("Loop",)]


def test_names_are_kept_as_difficult_as_they_are(ask):
    """Slash, colon, trailing dot, 300 characters, and decomposed and composed forms of the same letters."""
    assert (len(demo.LONG_NAME), unicodedata.is_normalized("NFC", demo.DECOMPOSED_NAME)) == (300, False)
    folders = {name for (name,) in ask("SELECT name FROM folder")}
    assert folders >= set(demo.FOLDER_NAMES)
    datasets = [name for (name,) in ask("SELECT name FROM dataset")]
    assert set(datasets) >= {*demo.FILE_NAMES, "a/b", ""}
    assert datasets.count("duplicate.txt") == 2
    assert {name for (name,) in ask("SELECT name FROM exam")} >= set(demo.EXAM_NAMES)


def test_hostile_filenames_unknown_kinds_and_empty_things_exist(ask):
    hostile = ask(
        "SELECT f.original_filename FROM datafile f JOIN dataset d ON d.id = f.dataset "
        "WHERE d.name = 'hostile paths' ORDER BY f.id"
    )
    assert hostile == [(name,) for name in HOSTILE_FILENAMES]
    assert ask("SELECT content_type FROM folder_item WHERE content IS NOT NULL") == [("workbook",)]
    assert len(ask("SELECT 1 FROM datafile WHERE size = 0")) >= 2
    assert ask("SELECT name FROM dataset WHERE id NOT IN (SELECT dataset FROM datafile)") == [("no files",)]


def test_the_import_json_made_a_study_of_a_par_rec_pair(ask):
    assert ask(
        "SELECT d.type, count(*) FROM exam e JOIN series s ON s.exam = e.id JOIN dataset d ON d.series = s.id "
        "JOIN datafile f ON f.dataset = d.id WHERE e.uid = 'phantom.varscale' GROUP BY d.id"
    ) == [(101, 2)]


def test_the_scientist_may_write_in_both_projects_and_the_observer_read_one(ask):
    assert ask(
        "SELECT u.username, p.name, m.role FROM membership m JOIN user u ON u.id = m.user "
        "JOIN project p ON p.id = m.project WHERE NOT p.is_myagora AND u.username != 'admin' ORDER BY 1, 2"
    ) == [("observer", "Neuro Study", 4), ("scientist", "Neuro Study", 2), ("scientist", "Phantom QA", 2)]


def test_some_series_are_rated_four_or_better_and_tagged_good_and_others_are_not(ask):
    rows = ask(
        "SELECT s.name, r.value, (SELECT count(*) FROM tag_instance i JOIN tag_definition t "
        "ON t.id = i.tag_definition WHERE t.label = 'good' AND i.tagged_object_content_type = 'serie' "
        "AND i.tagged_object_id = s.id) FROM series s "
        "JOIN rating r ON r.content_type = 'serie' AND r.object_id = s.id"
    )
    good = [name for name, value, tagged in rows if value >= 4 and tagged]
    assert {"T1w 3D TFE", "CBU_DTI_64D_1A"} < set(good)
    assert {value for _, value, _ in rows} == {2, 4, 5}
    assert any(value >= 4 and not tagged for _, value, tagged in rows)


def test_two_series_are_related_a_folder_is_in_the_trash_and_a_user_gave_parameters(ask):
    assert ask(
        "SELECT a.name, b.name FROM relation r JOIN series a ON a.id = r.from_id JOIN series b ON b.id = r.to_id"
    ) == [("Survey", "T1w 3D TFE")]
    assert ask("SELECT content_type, name FROM trash_entry") == [("folder", "Old notes")]
    ((parameters,),) = ask("SELECT parameters FROM parameter_set WHERE read_only = 0 AND name = 'Quality'")
    assert {"Name": "snr", "Value": 31.5} in json.loads(parameters)


def test_the_masks_of_the_workbook_fit_the_image_they_are_drawn_on(store, ask):
    """The vendor's decoder reads them: most of the middle is inside, the corners are not."""
    ((name, sha1, content),) = ask(
        "SELECT d.name, f.sha1, w.content FROM workbook w JOIN dataset d ON d.id = w.dataset "
        "JOIN datafile f ON f.dataset = d.id"
    )
    image = nibabel.Nifti1Image.from_bytes(store.contents.path(sha1).read_bytes())
    masks = {mask["name"]: decode_full_mask(mask) for mask in json.loads(content)["mask"]["mMasks"]}
    assert name == "anatomical.nii"
    assert set(masks) == {"head", "hemispheres"}
    for mask in masks.values():
        labels = np.array(mask.data, dtype=np.uint8).reshape(mask.shape)[..., 0]
        assert labels.shape == image.shape
        assert labels[16, 20, 12] == 1 and labels[0, 0, 0] == labels[-1, -1, -1] == 0
        assert 0.2 < (labels > 0).mean() < 0.3, (
            "an ellipsoid of 0.8 of the image: 0.8**3 * pi/6 of its voxels"
        )
    assert set(masks["head"].data) == {0, 1}
    assert set(masks["hemispheres"].data) == {0, 1, 2}


def test_the_main_project_has_tasks_of_both_kinds_and_a_host(ask):
    """A UI task and the script task have the same number."""
    assert ask(
        "SELECT t.id, t.name, p.name FROM task t JOIN project p ON p.id = t.project ORDER BY t.id"
    ) == [
        (1, "Checksum", "Neuro Study"),
        (2, "Header", "Neuro Study"),
        (3, "Convert/To NIfTI", "Neuro Study"),
    ]
    assert ask("SELECT id, name FROM script_task") == [(1, "Checksum of a study")]
    assert ask("SELECT name FROM host") == [("sandbox",)]


def test_an_interrupted_seeding_is_completed_by_the_next_and_a_third_changes_nothing(
    store, tmp_path, monkeypatch
):
    """Nothing is there twice, whatever the switches are; afterwards they are as they were."""
    switches = {"import-fail": "on", "page-max": "3", "folder-items-v1": "page", "chunk-max": "1000"}
    with monkeypatch.context() as patch:
        patch.setattr(demo, "add_hostile_objects", interrupt)
        with pytest.raises(KeyError, match="interrupted"):
            asyncio.run(run_seeding(tmp_path, switches))
    after = asyncio.run(run_seeding(tmp_path, switches, times=2))

    assert {name: after[name] for name in switches} == switches
    again = Store(tmp_path)
    try:
        assert counts_of(again) == counts_of(store)
    finally:
        again.close()


def interrupt(store, folder):
    raise KeyError("interrupted")
