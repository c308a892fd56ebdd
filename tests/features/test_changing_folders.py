"""Folders are made, filled with links, deleted, and the trash emptied; the connector sees what is left."""

from __future__ import annotations

import itertools

import pytest
from gtagora.exception import AgoraException
from gtagora.models.trash import Trash

from tests.support.connector import folders_below

_numbers = itertools.count()


@pytest.fixture
def folder(bench):
    """A folder of one's own, stored; the test's working place."""
    path = bench.project / "folders" / f"place {next(_numbers)}"
    bench.shell('mkdir "$1"', path)
    bench.command("sync", path)
    return path


def on_server(bench, path):
    return bench.agora.get_folder(int(bench.attribute(path, "id")))


def items(folder):
    """What the connector says that is in a folder: kind, name, and whether it is only linked."""
    return sorted((item.content_type, item.object.name, item.is_link) for item in folder.get_items())


def trash_of(bench, project):
    """The connector's own list of the trash."""
    return Trash(http_client=bench.agora.http_client).get_items(project)


@pytest.mark.feature(13, how="`mkdir FOLDER`")
def test_a_folder_is_made_and_refused_where_there_is_one(bench, folder):
    bench.shell('mkdir "$1/results"', folder)
    bench.command("sync", folder)
    assert items(on_server(bench, folder)) == [("folder", "results", False)]
    with pytest.raises(FileExistsError):
        (folder / "results").mkdir()
    with pytest.raises(AgoraException):
        on_server(bench, folder).create_folder("results")
    assert items(on_server(bench, folder)) == [("folder", "results", False)]


@pytest.mark.feature(14, how="`mkdir -p FOLDER/a/b/c`")
def test_a_path_of_folders_is_made_as_far_as_it_is_not_there(bench, folder):
    there = on_server(bench, folder).get_or_create("a/b")
    bench.command("refresh", folder)
    bench.shell('mkdir -p "$1/a/b/c/d"', folder)
    bench.shell('mkdir -p "$1/a/b/c/d"', folder)
    bench.command("sync", folder)
    number = int(bench.attribute(folder, "id"))
    assert folders_below(bench.server, number) == {"a", "a/b", "a/b/c", "a/b/c/d"}
    assert bench.attribute(folder / "a" / "b", "id") == str(there.id)
    made = on_server(bench, folder).get_or_create("a/b/c/d")
    assert bench.attribute(folder / "a/b/c/d", "id") == str(made.id)


@pytest.mark.feature(15, how="`rm -r FOLDER`")
def test_a_folder_is_deleted_with_all_that_is_in_it_but_not_with_what_it_links_to(bench, folder):
    exam = bench.project / "exams" / "Brain, volunteer"
    bench.shell('mkdir -p "$1/a/b" && echo x > "$1/a/file" && echo y > "$1/a/b/file"', folder)
    bench.command("sync", folder)
    bench.shell('ln -s "$2" "$1/a/b/"', folder, exam)
    doomed = on_server(bench, folder / "a")
    bench.shell('rm -r "$1/a"', folder)
    assert items(on_server(bench, folder)) == []
    with pytest.raises(AgoraException):
        bench.agora.get_folder(doomed.id)
    assert bench.agora.get_exam(int(bench.attribute(exam, "id"))).name == exam.name


@pytest.mark.feature(23, 24, how="`ln -s EXAM FOLDER/`; `rm FOLDER/EXAM`")
def test_a_symbolic_link_shows_an_exam_in_a_folder_and_rm_takes_only_the_link(bench, folder):
    exam = bench.project / "exams" / "Brain, volunteer"
    number = int(bench.attribute(exam, "id"))
    bench.shell('ln -s "$1" "$2/"', exam, folder)
    assert items(on_server(bench, folder)) == [("exam", exam.name, True)]
    assert on_server(bench, folder).id in [one.id for one in bench.agora.get_exam(number).get_folders()]
    assert (folder / exam.name).samefile(exam)
    bench.shell('rm "$1"', folder / exam.name)
    assert items(on_server(bench, folder)) == []
    assert bench.agora.get_exam(number).name == exam.name
    assert (exam / "Survey").is_dir()


@pytest.mark.feature(
    23, 24, how="`echo 'link exams/E folders/F' > PROJECT/.agora/control`; `unlink folders/F/E`"
)
def test_the_control_file_links_an_exam_and_unlinks_it(bench, folder):
    exam = bench.project / "exams" / "CBU^Neuroimaging"
    bench.control(f"link exams/{exam.name} 'folders/{folder.name}'", bench.project)
    assert items(on_server(bench, folder)) == [("exam", exam.name, True)]
    bench.control(f"unlink 'folders/{folder.name}/{exam.name}'", bench.project)
    assert items(on_server(bench, folder)) == []
    assert bench.agora.get_exam(int(bench.attribute(exam, "id"))).name == exam.name


def project_with_trash(bench):
    """A project of one's own, with two deletions; return where it is, and its id."""
    name = f"trash {next(_numbers)}"
    project = bench.agora.create_project(name)
    for one in ("first", "second"):
        project.get_root_folder().create_folder(one).delete()
    bench.command("refresh", bench.root)
    assert len(trash_of(bench, project.id)) == 2
    return bench.root / "projects" / name, project.id


@pytest.mark.feature(8, how="`echo empty-trash > PROJECT/.agora/control`")
def test_the_trash_of_a_project_is_emptied_and_that_of_no_other(bench):
    path, number = project_with_trash(bench)
    _, other = project_with_trash(bench)
    bench.shell('echo empty-trash > "$1"', path / ".agora" / "control")
    assert trash_of(bench, number) == []
    assert len(trash_of(bench, other)) == 2
    assert list((path / "trash").iterdir()) == []


@pytest.mark.feature(8, how="`rm PROJECT/trash/*` (mounted with `allow_delete`)")
def test_what_is_removed_from_the_trash_is_gone_for_good(bench):
    path, number = project_with_trash(bench)
    shown = {entry.name: entry for entry in (path / "trash").iterdir()}
    kept = {entry.id: entry.name for entry in trash_of(bench, number)}
    assert sorted(shown) == sorted(f"{name} ({id_})" for id_, name in kept.items())
    first, second = sorted(shown)
    bench.shell('rm "$1"', shown[first])
    assert [f"{entry.name} ({entry.id})" for entry in trash_of(bench, number)] == [second]
    bench.shell('rm "$1"/*', path / "trash")
    assert trash_of(bench, number) == []
