"""Which object a path, a link or a number means."""

from __future__ import annotations

import pytest

from agorafs.client.records import Kind, RemoteRef
from agorafs.errors import BadCommand, NotFound, NotPermitted
from agorafs.vfs.objects import ref_of
from tests.vfs.world import HOME, World


@pytest.fixture
def world(tmp_path):
    one = World(tmp_path)
    one.filesystem.mounted_at("/mnt/agora")
    yield one
    one.close()


@pytest.fixture
def exam(world):
    exam = world.archive.add_exam(world.project.id, "E")
    world.series = world.archive.add_series(exam.id, "S")
    world.dataset = world.store("x.dat", b"1")
    return exam


def means(world, text, directory="projects/P/folders"):
    return ref_of(world.filesystem.objects.find(directory.split("/"), text))


def test_an_object_is_found_by_relative_and_absolute_path(world, exam):
    wanted = RemoteRef(Kind.EXAM, exam.id)
    for text in (
        "../exams/E",
        "../exams/E/",
        "./../exams//E",
        "/projects/P/exams/E",
        "/mnt/agora/projects/P/exams/E",
        f"/.agora/by-id/exam/{exam.id}",
    ):
        assert means(world, text) == wanted


def test_an_object_is_found_by_kind_and_number_in_all_the_words_for_it(world, exam):
    assert (
        means(world, f"exam:{exam.id}") == means(world, f"study:{exam.id}") == RemoteRef(Kind.EXAM, exam.id)
    )
    series = RemoteRef(Kind.SERIES, world.series.id)
    assert means(world, f"series:{series.id}") == means(world, f"serie:{series.id}") == series
    assert means(world, f"dataset:{world.dataset}") == RemoteRef(Kind.DATASET, world.dataset)
    assert means(world, f"folder:{world.root}") == RemoteRef(Kind.FOLDER, world.root)
    assert means(world, f"project:{world.project.id}") == RemoteRef(Kind.PROJECT, world.project.id)


def test_what_directories_stand_for(world, exam):
    assert means(world, ".") == RemoteRef(Kind.FOLDER, world.root)
    assert means(world, "..") == RemoteRef(Kind.PROJECT, world.project.id)
    assert means(world, "x.dat") == RemoteRef(Kind.DATASET, world.dataset)


def test_links_are_followed_to_where_the_object_lives(world, exam):
    world.archive.add_item(world.root, "exam", exam.id, exam, is_link=True)
    world.filesystem.refresh(None)
    node = world.filesystem.objects.find(["projects", "P", "folders"], "E")
    assert node.path == "/projects/P/exams/E"
    assert means(world, "E/S") == RemoteRef(Kind.SERIES, world.series.id)


@pytest.mark.parametrize(
    "text", ["../exams/none", "exam:99", "x.dat/inner", "/mnt/other/projects/P", "local"]
)
def test_what_is_not_there_is_not_found(world, exam, text):
    world.write(f"{HOME}/local", b"1")
    with pytest.raises(NotFound):
        means(world, text)


def test_a_number_that_nothing_has_is_said_without_the_words_of_http(world):
    with pytest.raises(NotFound, match=r"^there is no exam:99 on the server, or you may not see it$"):
        means(world, "exam:99")


@pytest.mark.parametrize("text", ["", "a\0b", "../exams", "/", "/.agora/me"])
def test_what_is_no_object_is_refused(world, exam, text):
    with pytest.raises((BadCommand, NotFound)):
        means(world, text)


@pytest.mark.parametrize(
    "text", ["dataset:", "dataset:-1", "dataset:1e3", "dataset:9999999999999999999", "tag:1"]
)
def test_what_only_looks_like_a_number_is_taken_for_a_path(world, text):
    with pytest.raises(NotFound):
        means(world, text)


def test_a_walk_out_of_the_mount_is_refused(world):
    with pytest.raises(NotPermitted, match="out of this mount"):
        world.filesystem.objects.follow(["projects"], "../../etc/passwd")
