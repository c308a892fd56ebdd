"""Exams, series, datasets, patients and their relations are found as directories; the connector says the same."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

import pytest

from agorafs.sandbox import objects
from agorafs.sandbox.store import Store

DICOM, BRUKER_RAW, BRUKER_IMAGE = 300, 200, 202


@pytest.fixture(scope="module")
def demo_data(demo_data, tmp_path_factory):
    """The demo, in which two exams are related: neither the API nor an import relates exams."""
    data = Path(tmp_path_factory.mktemp("related")) / "data"
    shutil.copytree(demo_data, data)
    with contextlib.closing(Store(data)) as store, store.transaction() as db:
        first, second = (row["id"] for row in db.execute("SELECT id FROM exam ORDER BY id LIMIT 2"))
        objects.add_relation(db, "exam", second, "exam", first)
    return data


@pytest.fixture
def brain(bench):
    return bench.project / "exams" / "Brain, volunteer"


@pytest.fixture
def phantom(bench):
    """An exam of several series with several types of datasets, and with one that belongs to no series."""
    return bench.root / "projects" / "Phantom QA" / "exams" / "Monthly phantom"


def object_of(path):
    """What ``getfattr`` says that something is."""
    return os.getxattr(path, "user.agora.type").decode(), int(os.getxattr(path, "user.agora.id"))


def number(path):
    return object_of(path)[1]


def found(bench, script, *arguments):
    """Run a script that prints paths, and return which objects they are."""
    return sorted(object_of(path) for path in bench.shell(script, *arguments).splitlines())


def all_of(kind, things):
    return sorted((kind, thing.id) for thing in things)


@pytest.mark.feature(21, how="`ls projects/*/exams`")
def test_all_exams_are_those_of_all_projects(bench):
    shown = found(bench, 'find "$1"/*/exams -mindepth 1 -maxdepth 1', bench.root / "projects")
    assert shown == all_of("exam", bench.agora.get_exam_list())
    assert len(shown) > 10


@pytest.mark.feature(22, how="`cd .agora/by-id/exam/12`")
def test_an_exam_is_reached_by_its_id(bench, brain, phantom):
    for exam in bench.agora.get_exam_list():
        assert number(bench.by_id("exam", exam.id)) == exam.id
    for path in (brain, phantom):
        assert bench.shell('cd "$1" && pwd -P', bench.by_id("exam", number(path))) == f"{path}\n"
        assert bench.agora.get_exam(number(path)).name == path.name


@pytest.mark.feature(25, how="`ls EXAM`")
def test_the_series_of_an_exam_are_its_directories(bench, brain, phantom):
    for path in (brain, phantom):
        shown = found(bench, 'find "$1" -mindepth 1 -maxdepth 1 -type d', path)
        series = all_of("series", bench.agora.get_exam(number(path)).get_series())
        assert [one for one in shown if one[0] == "series"] == series
        assert len(series) == 2


@pytest.mark.feature(
    26,
    how="`ls SERIES`; `getfattr -n user.agora.dataset_type SERIES/*`",
)
def test_the_datasets_of_a_series_are_found_by_their_type(bench, brain, phantom):
    script = (
        'for one in "$1"/*; do'
        ' [ "$(getfattr --only-values -n user.agora.dataset_type "$one")" = "$2" ] && echo "$one"; done; true'
    )
    seen = set()
    for path in (phantom / "T2_TurboRARE (E2)", brain / "Survey"):
        series = bench.agora.get_series(number(path))
        everything = found(bench, 'find "$1" -mindepth 1 -maxdepth 1', path)
        assert everything == all_of("dataset", series.get_datasets())
        for kind in (DICOM, BRUKER_RAW, BRUKER_IMAGE):
            shown = found(bench, script, path, str(kind))
            assert shown == all_of("dataset", series.get_datasets({"type": kind}))
            seen |= {kind for _ in shown}
    assert seen == {DICOM, BRUKER_RAW, BRUKER_IMAGE}


@pytest.mark.feature(27, how="`find EXAM -exec getfattr -n user.agora.type {} +`")
def test_all_datasets_of_an_exam_are_found_below_it_also_those_of_no_series(bench, brain, phantom):
    for path in (brain, phantom):
        everything = bench.shell('find "$1"', path).splitlines()
        datasets = [one for one in everything if os.getxattr(one, "user.agora.type") == b"dataset"]
        shown = sorted(map(object_of, datasets))
        exam = bench.agora.get_exam(number(path))
        assert shown == all_of("dataset", exam.get_datasets())
    direct = {dataset.id for dataset in exam.get_files()}
    assert direct and direct < {one for _, one in shown}


@pytest.mark.feature(28, how="`find DATASET -type f`; `getfattr -n user.agora.sha1 FILE`")
def test_the_files_of_a_dataset_have_their_own_names_sizes_and_hashes(bench, brain, phantom):
    for path in (
        brain / "T1w 3D TFE" / "DICOM dataset",
        phantom / "T2_TurboRARE (E2)" / "Bruker raw data",
        phantom / "Bruker subject",
    ):
        files = [
            (name, (path / name).stat().st_size, bench.attribute(path / name, "sha1"))
            for name in bench.shell('cd "$1" && find -type f -printf "%P\\n"', path).splitlines()[:20]
        ]
        known = {
            file.original_filename: (file.size, file.sha1)
            for file in bench.agora.get_dataset(number(path)).get_datafiles()
        }
        assert len(files) == min(len(known), 20)
        for name, size, sha1 in files:
            assert known[name] == (size, sha1)


@pytest.mark.feature(30, how="`ls patients`; `cd .agora/by-id/patient/12`")
def test_the_patients_are_listed_and_each_is_reached_by_its_id(bench):
    patients = bench.agora.get_patients()
    shown = found(bench, 'find "$1" -mindepth 1 -maxdepth 1', bench.root / "patients")
    assert shown == all_of("patient", patients)
    for patient in patients[:5]:
        path = bench.by_id("patient", patient.id)
        assert object_of(path) == ("patient", patient.id)
        assert bench.agora.get_patient(patient.id).name == Path(os.path.realpath(path)).name


@pytest.mark.feature(31, how="`cd .agora/by-id/series/12`; `cat .agora/by-id/dataset/57`")
def test_a_series_and_a_dataset_are_reached_by_their_ids(bench, brain):
    (series,) = (one for one in bench.agora.get_exam(number(brain)).get_series() if one.name == "Survey")
    path = bench.shell('cd "$1" && pwd -P', bench.by_id("series", series.id)).rstrip("\n")
    assert path == str(brain / bench.agora.get_series(series.id).name)
    for dataset in series.get_datasets():
        assert object_of(bench.by_id("dataset", dataset.id)) == ("dataset", dataset.id)
    folder = bench.on_server().get_root_folder().get_folder("Documents")
    (file,) = folder.get_dataset("protocol.txt").get_datafiles()
    path = bench.by_id("dataset", folder.get_dataset("protocol.txt").id)
    assert bench.shell('cat "$1" | sha1sum', path).split()[0] == file.sha1


@pytest.mark.feature(32, how="`ls -l SERIES/.agora/relations EXAM/.agora/relations`")
def test_relations_of_series_and_of_exams_are_links_to_what_is_related(bench, brain):
    series = [brain / "Survey", brain / "T1w 3D TFE"]
    exams = [brain, bench.project / "exams" / "CBU^Neuroimaging"]
    for kind, pair, ask in (
        ("series", series, bench.agora.get_series),
        ("exam", exams, bench.agora.get_exam),
    ):
        for one, other in (pair, reversed(pair)):
            links = bench.shell('find "$1" -type l', one / ".agora" / "relations").splitlines()
            assert [os.path.realpath(link) for link in links] == [str(other)]
            related = all_of(kind, ask(number(one)).relations())
            assert found(bench, 'find "$1" -type l', one / ".agora" / "relations") == related
