"""Where things are: by UID, by search, by trees, by the folders that show them; the connector says the same."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from gtagora.models.dataset import Dataset
from gtagora.models.exam import Exam
from gtagora.models.folder import Folder
from gtagora.models.series import Series

from tests.features.own_objects import new_folder, new_study

KINDS = {Folder: "folder", Exam: "exam", Series: "series", Dataset: "dataset"}


@pytest.fixture(scope="module")
def study(bench):
    return new_study(bench)


def object_of(path: Path) -> tuple[str, int]:
    """Return what ``getfattr`` says that something is."""
    return os.getxattr(path, "user.agora.type").decode(), int(os.getxattr(path, "user.agora.id"))


def objects_in(bench, *find: str | Path) -> list[tuple[str, int]]:
    """Return which objects ``find`` finds, sorted; a file of a dataset stands for its dataset."""
    script = "find " + " ".join(f'"${number}"' for number in range(1, len(find) + 1)) + " -print0"
    found = [object_of(Path(path)) for path in bench.shell(script, *find).split("\0") if path]
    return sorted(one for one in found if one[0] != "datafile")


@pytest.mark.feature(81, how="`cd /.agora/by-uid/UID`")
def test_an_exam_and_a_series_are_reached_by_their_uid(bench, study):
    project = bench.on_server().id
    exam = bench.agora.get_exam_by_uid(project, study.exam.uid)
    series = bench.agora.get_series_by_uid(project, study.series.uid)
    for uid, path, number in (
        (study.exam.uid, study.path, exam.id),
        (study.series.uid, study.series_path, series.id),
    ):
        there = bench.shell('cd "$1" && pwd -P', bench.root / ".agora" / "by-uid" / uid).rstrip("\n")
        assert there == str(path)
        assert bench.attribute(path, "id") == str(number)


@pytest.mark.feature(82, how="`find projects -path '*/exams/*/*' -prune`")
def test_all_series_are_the_directories_of_all_exams(bench):
    found = objects_in(bench, bench.root / "projects", "-path", "*/exams/*/*", "-prune")
    series = [number for kind, number in found if kind == "series"]
    assert series == sorted(one.id for one in bench.agora.get_series_list())
    assert len(series) > 5


@pytest.mark.feature(82, how="`echo \"search-series 'name = Survey'\" > .agora/control`, and `cat` it")
@pytest.mark.parametrize(
    "expression", ["name = Survey", "parameter.EchoTime > 3 AND name = Survey", "name = x"]
)
def test_an_expression_finds_the_series_that_the_connector_finds(bench, expression):
    answer = bench.control(f"search-series '{expression}'")
    theirs = bench.agora.search_series(expression)
    assert [line.split()[0] for line in answer.splitlines() if line.startswith("series:")] == [
        f"series:{one.id}" for one in theirs
    ]
    assert bool(theirs) == (expression != "name = x")


@pytest.mark.feature(83, how="`test -d`, `pwd -P`, `cd ..`, `ls FOLDER/EXAM`")
def test_where_a_folder_is_and_what_is_in_it(bench, study):
    above = new_folder(bench)
    above.folder.create_folder("below")
    below = above.folder.get_folder("below")
    study.exam.link_to_folder(below)
    study.series.link_to_folder(below)
    bench.control("refresh", above.path)
    assert above.folder.is_folder("below")
    bench.shell('test -d "$1"', above.path / "below")
    assert not above.folder.is_folder("elsewhere")
    bench.shell('! test -e "$1"', above.path / "elsewhere")
    path = Path(bench.shell('cd "$1" && pwd -P', bench.by_id("folder", below.id)).rstrip("\n"))
    names = below.path().split("/")[1:]
    assert path == bench.project.joinpath("folders", *names)
    parent = bench.shell('cd "$1/.." && getfattr --only-values -n user.agora.id .', path)
    assert parent == str(below.parent().id)
    assert below.is_subfolder_of(above.folder) and path.is_relative_to(above.path)
    exam, series = below.get_exam(study.exam.name), below.get_serie("T1")
    assert object_of(path / study.exam.name) == ("exam", exam.id)
    assert object_of(path / "T1") == ("series", series.id)


def tree_of(item) -> list[tuple[str, int]]:
    """Return all objects of the connector's tree, itself first."""
    parts = [*getattr(item, "items", ()), *getattr(item, "series", ()), *getattr(item, "datasets", ())]
    return [(KINDS[type(item)], item.id), *(one for part in parts for one in tree_of(part))]


@pytest.mark.feature(84, how="`find FOLDER`, `find EXAM`, `find SERIES`; or `tree`")
def test_trees_have_all_that_the_connectors_have(bench, study):
    folder = bench.on_server().get_root_folder().get_folder("Derived")
    shown = objects_in(bench, bench.project / "folders" / "Derived")
    assert shown == sorted(tree_of(folder.get_tree()))
    assert len(shown) > 8
    bench.server.upload({"notes.txt": b"of the exam itself"}, exam=study.exam.id)
    bench.control("refresh", study.path)
    assert objects_in(bench, study.path) == sorted(tree_of(study.exam.get_tree()))
    assert objects_in(bench, study.series_path) == sorted(tree_of(study.series.get_tree()))
    kinds = {kind for kind, _ in tree_of(study.exam.get_tree())}
    assert kinds == {"exam", "series", "dataset"}


@pytest.mark.feature(87, how="`ls OBJECT/.agora/in-folders`; of a file `.agora/entries/NAME/in-folders`")
@pytest.mark.parametrize("kind", ["exam", "series", "dataset"])
def test_the_folders_that_show_an_object_are_links_beside_it(bench, study, kind):
    folders = [new_folder(bench), new_folder(bench)]
    (dataset,) = study.series.get_datasets()
    theirs, path = {
        "exam": (study.exam, study.path),
        "series": (study.series, study.series_path),
        "dataset": (dataset, study.series_path),
    }[kind]
    for one in folders:
        theirs.link_to_folder(one.folder)
    bench.control("refresh", bench.root)
    about = path / ".agora"
    if kind == "dataset":
        (name,) = bench.shell('ls "$1"', about / "entries").splitlines()
        about = about / "entries" / name
    links = bench.shell('find "$1" -type l', about / "in-folders").splitlines()
    assert sorted(object_of(Path(link))[1] for link in links) == sorted(
        one.id for one in theirs.get_folders()
    )
    assert {os.path.realpath(link) for link in links} >= {str(one.path) for one in folders}
    assert theirs.is_in_folder(theirs, folders[0].folder).id == folders[0].folder.id


@pytest.mark.feature(89, how="`ls EXAM`: its files; `find EXAM -maxdepth 1 -type f`")
def test_what_is_attached_to_an_exam_itself_are_the_files_in_its_directory(bench):
    own = new_study(bench)
    bench.server.upload({"consent.txt": b"signed", "pulse.log": b"61 62"}, exam=own.exam.id)
    bench.control("refresh", own.path)
    files = objects_in(bench, own.path, "-maxdepth", "1", "-type", "f")
    assert files == sorted(("dataset", one.id) for one in own.exam.get_files())
    assert bench.shell('cat "$1"', own.path / "consent.txt") == "signed"
    assert len(files) == 2
