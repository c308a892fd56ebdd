"""Projects, folders and what is in them are found as directories; the connector says the same of them."""

from __future__ import annotations

import json
import os

import pytest
from gtagora.models.folder import Folder


def object_of(path):
    """What ``getfattr`` says that something is."""
    return os.getxattr(path, "user.agora.type").decode(), int(os.getxattr(path, "user.agora.id"))


def found(bench, script, *arguments):
    """Run ``find``, and return which objects it finds."""
    return [object_of(path) for path in bench.shell(f"{script} -print0", *arguments).split("\0") if path]


def ids(objects, kind):
    return sorted(number for what, number in objects if what == kind)


def folder_at(bench, path):
    """A folder of the project as the connector knows it, by names from the root folder down."""
    folder = bench.on_server().get_root_folder()
    for name in path.split("/"):
        folder = folder.get_folder(name)
    assert isinstance(folder, Folder)
    return folder


def with_subfolders(folder):
    """Itself and all below it, which is the one recursive call of the connector that works."""
    return [folder, *folder.get_folders(recursive=True)]


@pytest.mark.feature(3, how="`ls projects`")
def test_the_projects_are_listed_with_their_display_names(bench):
    names = bench.shell('ls "$1"', bench.root / "projects").splitlines()
    assert sorted(names) == sorted(project.display_name for project in bench.agora.get_projects())
    assert "My Agora" in names


@pytest.mark.feature(4, how="`cd .agora/by-id/project/4`")
def test_a_project_is_reached_by_its_id(bench):
    number = bench.on_server().id
    path = bench.shell('cd "$1" && pwd -P', bench.by_id("project", number)).rstrip("\n")
    assert path == str(bench.root / "projects" / bench.agora.get_project(number).display_name)


@pytest.mark.feature(5, how='`cd "projects/My Agora"`')
def test_my_agora_is_the_users_own_project(bench):
    project = bench.agora.get_myagora()
    assert bench.attribute(bench.root / "projects" / "My Agora", "id") == str(project.id)
    folder = bench.root / "projects" / "My Agora" / "folders"
    assert bench.attribute(folder, "id") == str(project.root_folder)


@pytest.mark.feature(6, how="`cd PROJECT/folders`")
def test_the_root_folder_is_the_directory_folders(bench):
    assert bench.attribute(bench.project / "folders", "id") == str(bench.on_server().get_root_folder().id)


@pytest.mark.feature(7, how="`ls PROJECT/exams`; `find PROJECT/exams -maxdepth 1 -name 'Brain*'`")
def test_the_exams_of_a_project_are_listed_and_filtered_by_name(bench):
    project = bench.on_server()
    shown = found(bench, 'find "$1" -mindepth 1 -maxdepth 1', bench.project / "exams")
    assert ids(shown, "exam") == sorted(exam.id for exam in project.get_exams())
    some = found(bench, 'find "$1" -maxdepth 1 -name "Brain*"', bench.project / "exams")
    expected = sorted(exam.id for exam in project.get_exams({"name__startswith": "Brain"}))
    assert ids(some, "exam") == expected
    assert 0 < len(some) < len(shown)


@pytest.mark.feature(9, how="`cd .agora/by-id/folder/12`")
def test_a_folder_is_reached_by_its_id(bench):
    for folder in with_subfolders(folder_at(bench, "Derived")):
        path = bench.shell('cd "$1" && pwd -P', bench.by_id("folder", folder.id)).rstrip("\n")
        assert path.endswith(bench.agora.get_folder(folder.id).name)
        assert object_of(path) == ("folder", folder.id)


@pytest.mark.feature(10, how="`find FOLDER -maxdepth 1 -type d`")
def test_the_subfolders_of_a_folder_are_its_directories(bench):
    folder = folder_at(bench, "Derived")
    shown = found(bench, 'find "$1" -mindepth 1 -maxdepth 1 -type d', bench.project / "folders" / "Derived")
    assert ids(shown, "folder") == sorted(one.id for one in folder.get_folders())
    assert len(shown) == 2


@pytest.mark.feature(11, how="`cd FOLDER/NAME`")
def test_a_subfolder_is_reached_by_its_name(bench):
    path = bench.project / "folders" / "Raw data"
    assert object_of(path) == (
        "folder",
        bench.on_server().get_root_folder().get_folder("Raw data").id,
    )


@pytest.mark.feature(12, how="`cd ../../Derived/NIfTI`")
def test_dots_lead_to_the_parent_and_as_far_as_the_root_folder(bench):
    """The connector's own ``get_folder`` returns the folder itself instead of the root."""
    start = bench.project / "folders" / "Raw data" / "Session 1"
    root = bench.on_server().get_root_folder()
    for way, folder in (
        ("../../Derived/NIfTI", folder_at(bench, "Derived/NIfTI")),
        ("..", folder_at(bench, "Raw data/Session 1").parent()),
        ("../..", root),
    ):
        script = 'cd "$1" && cd "$2" && getfattr --only-values -n user.agora.id .'
        assert bench.shell(script, start, way) == str(folder.id)


@pytest.mark.feature(16, how="`ls -l FOLDER`")
def test_all_that_a_folder_has_is_listed_links_included(bench):
    for name in ("Favourites", "Documents"):
        words = {"serie": "series"}
        items = [
            (words.get(item.content_type, item.content_type), item.object.id, item.is_link)
            for item in folder_at(bench, name).get_items()
        ]
        path = bench.project / "folders" / name
        names = bench.shell('ls "$1"', path).splitlines()
        shown = [(*object_of(path / one), (path / one).is_symlink()) for one in names]
        assert sorted(shown) == sorted(items)
        assert len(shown) > 3


@pytest.mark.feature(17, how="`find FOLDER -type l -exec getfattr -n user.agora.type {} +`")
def test_the_exams_of_a_folder_and_all_below_it_are_found(bench):
    shown = found(bench, 'find "$1" -type l', bench.project / "folders" / "Raw data")
    below = with_subfolders(folder_at(bench, "Raw data"))
    assert ids(shown, "exam") == sorted(exam.id for folder in below for exam in folder.get_exams())
    assert len(shown) == 2


@pytest.mark.feature(18, how="`find FOLDER -exec getfattr -n user.agora.type {} +`")
def test_the_datasets_of_a_folder_and_all_below_it_are_found(bench):
    for name in ("Derived", "Scanner exports", "Documents"):
        shown = found(bench, 'find "$1"', bench.project / "folders" / name)
        below = with_subfolders(folder_at(bench, name))
        expected = sorted(dataset.id for folder in below for dataset in folder.get_datasets())
        assert ids(shown, "dataset") == expected
        assert len(expected) > 1


@pytest.mark.feature(19, how="`cat FOLDER/NAME`")
def test_a_dataset_of_a_folder_is_reached_by_its_name(bench):
    path = bench.project / "folders" / "Documents" / "protocol.txt"
    dataset = folder_at(bench, "Documents").get_dataset("protocol.txt")
    assert object_of(path) == ("dataset", dataset.id)
    (file,) = bench.agora.get_dataset(dataset.id).get_datafiles()
    assert bench.shell('sha1sum < "$1"', path).split()[0] == file.sha1


@pytest.mark.feature(20, how="`cat FOLDER/.agora/path`")
def test_the_path_of_a_folder_is_told_from_the_project_down(bench):
    here = bench.project / "folders" / "Derived" / "NIfTI"
    path = bench.shell('cat "$1"', here / ".agora" / "path").rstrip("\n")
    crumbs = [crumb.name for crumb in folder_at(bench, "Derived/NIfTI").get_breadcrumb()]
    assert path == "/".join(["/projects", bench.project.name, "folders", *crumbs[1:]])
    assert json.loads((here / ".agora" / "info.json").read_bytes())["name"] == crumbs[-1]
