"""Exams, series, datasets and patients are linked, renamed, added to, copied, moved and deleted."""

from __future__ import annotations

from functools import partial

import pytest
from gtagora.exception import AgoraException

from tests.features.own_objects import new_folder, new_project, new_study, unique


@pytest.fixture
def study(bench):
    return new_study(bench)


@pytest.fixture
def folder(bench):
    return new_folder(bench)


def dataset_path(study):
    """The one file of the one dataset of the one series."""
    (path,) = study.series_path.iterdir()
    return path


def files_of(datasets):
    """Return the names of the files in datasets, sorted."""
    return sorted(
        file.original_filename.rpartition("/")[2] for one in datasets for file in one.get_datafiles()
    )


# -- folders that show things --------------------------------------------------------------------------


@pytest.mark.feature(85, how="`rm -r FOLDER/a FOLDER/b`; `echo 'delete-items a b' > FOLDER/.agora/control`")
@pytest.mark.parametrize("way", ["rm", "control"])
def test_several_things_of_a_folder_are_deleted_at_once_and_linked_ones_stay(bench, study, way):
    own = new_folder(bench, kept="1", one="2", other="3")
    own.folder.create_folder("sub")
    study.exam.link_to_folder(own.folder)
    bench.control("refresh", own.path)
    assert len(own.items()) == 5
    doomed = ["one.txt", "other.txt", "sub", study.exam.name]
    if way == "rm":
        bench.shell('cd "$1" && shift && rm -r "$@"', own.path, *doomed)
    else:
        words = " ".join(f'"{name}"' for name in doomed)
        bench.control(f"delete-items {words}", own.path)
    assert own.items() == [("dataset", "kept.txt")]
    assert bench.agora.get_exam(study.exam.id).name == study.exam.name
    assert sorted(path.name for path in own.path.iterdir()) == ["kept.txt"]


@pytest.mark.feature(
    86, how="`ln -s SERIES FOLDER/`, the same of a file or a folder; `echo 'link SERIES FOLDER'`"
)
@pytest.mark.parametrize("way", ["ln", "control"])
def test_a_series_a_dataset_and_a_folder_are_shown_in_a_folder(bench, study, folder, way):
    other = new_folder(bench)
    (dataset,) = study.series.get_datasets()
    for path in (study.series_path, dataset_path(study), other.path):
        if way == "ln":
            bench.shell('ln -s "$1" "$2/"', path, folder.path)
        else:
            bench.control(f"link '{path}' '{folder.path}'")
    assert {(item.content_type, item.object.id, item.is_link) for item in folder.folder.get_items()} == {
        ("serie", study.series.id, True),
        ("dataset", dataset.id, True),
        ("folder", other.folder.id, True),
    }
    assert (folder.path / "T1").samefile(study.series_path)


# -- exams and series ----------------------------------------------------------------------------------


@pytest.mark.feature(88, how="`mv exams/A exams/B`; `echo 'rename A B' > exams/.agora/control`")
@pytest.mark.parametrize("way", ["mv", "control"])
def test_an_exam_gets_another_name(bench, study, way):
    new = unique("Renamed")
    if way == "mv":
        bench.shell('mv "$1" "$2"', study.path, study.path.with_name(new))
    else:
        bench.control(f"rename '{study.path.name}' '{new}'", study.path.parent)
    assert bench.agora.get_exam(study.exam.id).name == new
    assert bench.attribute(study.path.with_name(new), "id") == str(study.exam.id)
    assert study.path.name not in [path.name for path in study.path.parent.iterdir()]


@pytest.mark.feature(90, how="`cp FILE EXAM`, `cp FILE SERIES`; `agorafs upload FILE EXAM`")
@pytest.mark.parametrize("way", ["cp", "agorafs upload"])
def test_files_are_added_to_an_exam_and_to_a_series(bench, study, tmp_path, way):
    (tmp_path / "consent.txt").write_text(f"signed, {way}")
    (tmp_path / "pulse.log").write_text(f"61 62, {way}")
    for name, target in (("consent.txt", study.path), ("pulse.log", study.series_path)):
        if way == "cp":
            bench.shell('cp "$1" "$2"', tmp_path / name, target)
            bench.command("sync", target)
        else:
            bench.command("upload", tmp_path / name, target)
    assert [dataset.name for dataset in study.exam.get_files()] == ["consent.txt"]
    assert files_of(study.exam.get_datasets()) == ["IM_0001", "consent.txt", "pulse.log"]
    assert files_of(study.series.get_datasets()) == ["IM_0001", "pulse.log"]
    assert bench.shell('cat "$1"', study.series_path / "pulse.log") == f"61 62, {way}"


def named(objects, name):
    (found,) = [one for one in objects if one.name == name]
    return found


@pytest.mark.feature(91, how="`echo 'copy exams/E /projects/P' > .agora/control`, `cat /.agora/jobs/1/wait`")
def test_an_exam_is_copied_to_another_project(bench, study):
    other = new_project(bench)
    answer = bench.control(f"copy 'exams/{study.path.name}' '{other.path}'", bench.project)
    assert bench.wait_for(answer) == "finished\n"
    copy = named(other.project.get_exams(), study.exam.name)
    assert copy.id != study.exam.id
    assert files_of(copy.get_datasets()) == ["IM_0001"]
    assert bench.agora.get_exam(study.exam.id).project == bench.on_server().id
    assert bench.attribute(other.path / "exams" / study.exam.name, "id") == str(copy.id)


@pytest.mark.feature(91, how="`echo 'copy exams/E /projects/P/folders/F' > .agora/control`")
def test_an_exam_is_copied_to_a_folder_which_within_its_project_is_a_link(bench, study, folder):
    other = new_project(bench)
    there = other.project.get_root_folder().create_folder("there")
    bench.control("refresh", other.path)
    answer = bench.control(f"copy '{study.path}' '{other.path}/folders/there'")
    assert bench.wait_for(answer) == "finished\n"
    copy = there.get_exam(study.exam.name)
    assert copy.id == named(other.project.get_exams(), study.exam.name).id != study.exam.id
    assert (other.path / "folders" / "there" / copy.name).samefile(other.path / "exams" / copy.name)
    bench.control(f"copy '{study.path}' '{folder.path}'")
    assert folder.folder.get_exam(study.exam.name).id == study.exam.id


@pytest.mark.feature(91, how="`echo 'move exams/E /projects/P' > .agora/control`")
@pytest.mark.parametrize("into", ["project", "folder"])
def test_an_exam_is_moved_to_another_project(bench, study, into):
    other = new_project(bench)
    there = other.project.get_root_folder().create_folder("there")
    bench.control("refresh", other.path)
    target = other.path if into == "project" else other.path / "folders" / "there"
    assert bench.wait_for(bench.control(f"move '{study.path}' '{target}'")) == "finished\n"
    assert study.exam.name not in [exam.name for exam in bench.on_server().get_exams()]
    moved = named(other.project.get_exams(), study.exam.name)
    assert files_of(moved.get_datasets()) == ["IM_0001"]
    assert bench.attribute(other.path / "exams" / moved.name, "id") == str(moved.id)
    assert not study.path.exists()
    assert (there.get_exam(moved.name) is not None) == (into == "folder")


@pytest.mark.feature(92, how="`echo 'copy exams/E/S folders/F' > .agora/control`")
def test_a_series_is_copied_to_a_folder(bench, study):
    other = new_project(bench)
    there = other.project.get_root_folder().create_folder("there")
    bench.control("refresh", other.path)
    answer = bench.control(f"copy '{study.series_path}' '{other.path}/folders/there'")
    assert bench.wait_for(answer) == "finished\n"
    copy = there.get_serie("T1")
    assert copy.id != study.series.id
    assert files_of(copy.get_datasets()) == ["IM_0001"]
    assert bench.attribute(other.path / "folders" / "there" / "T1", "id") == str(copy.id)


# -- datasets ------------------------------------------------------------------------------------------


@pytest.mark.feature(93, how="`mv FOLDER/FILE OTHER/`; `echo 'move FILE OTHER' > .agora/control`")
@pytest.mark.parametrize("way", ["mv", "control"])
def test_a_dataset_is_moved_to_a_folder_and_stays_the_same(bench, folder, way):
    source = new_folder(bench, data="the data")
    (dataset,) = source.folder.get_datasets()
    if way == "mv":
        bench.shell('mv "$1" "$2/"', source.path / "data.txt", folder.path)
    else:
        bench.control(f"move data.txt '{folder.path}'", source.path)
    assert source.items() == []
    assert [one.id for one in folder.folder.get_datasets()] == [dataset.id]
    assert bench.shell('cat "$1"', folder.path / "data.txt") == "the data"


@pytest.mark.feature(93, how="`cp FILE OTHER/`; `echo 'copy FILE OTHER' > .agora/control`, without the bytes")
@pytest.mark.parametrize("way", ["cp", "control"])
def test_a_dataset_is_copied_to_a_folder(bench, folder, way):
    source = new_folder(bench, data="the data")
    (dataset,) = source.folder.get_datasets()
    bench.server.reset_requests()
    if way == "cp":
        bench.shell('cp "$1" "$2/"', source.path / "data.txt", folder.path)
        bench.command("sync", folder.path)
    else:
        bench.control(f"copy data.txt '{folder.path}'", source.path)
        paths = [one["path"] for one in bench.server.requests()]
        assert not any("/datafile/" in path or "/import/" in path for path in paths)
    assert [one.id for one in source.folder.get_datasets()] == [dataset.id]
    (copy,) = folder.folder.get_datasets()
    assert copy.id != dataset.id
    hashes = [file.sha1 for one in (dataset, copy) for file in one.get_datafiles()]
    assert hashes[0] == hashes[1]
    assert bench.shell('cat "$1"', folder.path / "data.txt") == "the data"


# -- deleting ------------------------------------------------------------------------------------------


@pytest.mark.feature(94, how="`rm -r EXAM`, `rm -r SERIES`, `rm FILE` (mounted with `allow_delete`)")
@pytest.mark.parametrize("kind", ["exam", "series", "dataset"])
def test_rm_deletes_an_exam_a_series_and_a_dataset(bench, study, kind):
    (dataset,) = study.series.get_datasets()
    asks = {
        "exam": partial(bench.agora.get_exam, study.exam.id),
        "series": partial(bench.agora.get_series, study.series.id),
        "dataset": partial(bench.agora.get_dataset, dataset.id),
    }
    path = {"exam": study.path, "series": study.series_path, "dataset": dataset_path(study)}[kind]
    for ask in asks.values():
        ask()
    bench.shell('rm -r "$1"', path)
    bench.command("sync", bench.root)
    with pytest.raises(AgoraException):
        asks[kind]()
    assert not path.exists()
    if kind != "exam":
        assert asks["exam"]().name == study.exam.name


@pytest.mark.feature(
    94, how="`echo 'delete patients/P' > .agora/control`; so with exams, series and datasets"
)
@pytest.mark.parametrize("kind", ["exam", "series", "dataset", "patient"])
def test_delete_deletes_an_exam_a_series_a_dataset_and_a_patient(bench, study, kind):
    ask = {
        "exam": bench.agora.get_exam,
        "series": bench.agora.get_series,
        "dataset": bench.agora.get_dataset,
        "patient": bench.agora.get_patient,
    }[kind]
    (dataset,) = study.series.get_datasets()
    patient = bench.agora.get_exam(study.exam.id).patient
    number = {
        "exam": study.exam.id,
        "series": study.series.id,
        "dataset": dataset.id,
        "patient": patient["id"] if isinstance(patient, dict) else patient.id,
    }[kind]
    ask(number)
    path = bench.shell('readlink -f "$1"', bench.by_id(kind, number)).rstrip("\n")
    bench.control(f"delete '{path}'")
    with pytest.raises(AgoraException):
        ask(number)
    bench.shell('! test -e "$1"', path)
