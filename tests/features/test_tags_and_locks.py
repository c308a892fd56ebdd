"""Tags and locks are set and read on paths in every way there is; the connector reads what was set, and sets too."""

from __future__ import annotations

import itertools
import os
from functools import partial

import pytest

from tests.sandbox.conftest import ProjectIds, make_study
from tests.support.waiting import eventually

KINDS = ("exam", "series", "dataset", "folder", "patient")

TAGGING = {
    "attribute": 'setfattr -n "user.agora.tag.$2" -v 1 "$1"',
    "file": 'echo "$2" > "$1/.agora/tags"',
    "control file": 'echo "tag . \'$2\'" > "$1/.agora/control"',
    "link": 'mkdir "$3/tags/$2" && ln -s "$1" "$3/tags/$2/"',
}
LOCKING = {
    "attribute": 'setfattr -n user.agora.locked -v "$2" "$1"',
    "file": 'echo "$2" > "$1/.agora/locked"',
    "control file": 'if [ "$2" = 1 ]; then echo "lock ."; else echo "unlock ."; fi > "$1/.agora/control"',
}

_numbers = itertools.count()


class Own:
    """A project of one's own with an object of each kind, on the mount and as the connector knows it."""

    def __init__(self, bench):
        self.bench = bench
        name = f"own {next(_numbers)}"
        project = bench.agora.create_project(name)
        study = make_study(bench.server, ProjectIds(project.id, project.root_folder, name))
        folder = project.get_root_folder().create_folder("results")
        bench.command("refresh", bench.root)
        self.id = project.id
        self.path = bench.root / "projects" / name
        exam = self.path / "exams" / "Brain MRI"
        series = exam / "T1 MPRAGE"
        (dataset,) = series.iterdir()
        (patient,) = (self.path / "patients").iterdir()
        self.paths = {
            "exam": exam,
            "series": series,
            "dataset": dataset,
            "folder": self.path / "folders" / "results",
            "patient": patient,
        }
        self._ids = {
            "exam": study.exam,
            "series": study.series,
            "dataset": study.dataset,
            "folder": folder.id,
            "patient": study.patient,
        }

    def on_server(self, kind):
        """The object as the connector fetches it now."""
        return getattr(self.bench.agora, f"get_{kind}")(self._ids[kind])

    def tagged(self, label):
        """The kinds of those objects that have the tag, says the connector."""
        return [kind for kind in KINDS if label in [tag.label for tag in self.on_server(kind).get_tags()]]


def shows_lock(exam, locked):
    """A locked exam is shown without write bits."""
    return bool(exam.stat().st_mode & 0o222) is not locked


@pytest.fixture
def own(bench):
    return Own(bench)


# -- tags --------------------------------------------------------------------------------------------


@pytest.mark.feature(33, how="`ls tags`")
def test_all_tags_of_the_user_are_listed_once_each(bench, own):
    bench.shell('mkdir "$1/tags/of the user $2"', bench.root, str(own.id))
    bench.shell('mkdir "$1/tags/of a project $2"', own.path, str(own.id))
    labels = [tag.label for tag in bench.agora.get_tags()]
    assert {f"of the user {own.id}", f"of a project {own.id}", "good"} <= set(labels)
    shown = bench.shell('ls "$1/tags"', bench.root).splitlines()
    assert sorted(shown) == sorted(set(labels))


@pytest.mark.feature(34, how="`cd .agora/by-id/tag/3`; `cd tags/LABEL`, `getfattr -n user.agora.id .`")
def test_a_tag_is_reached_by_its_id_and_by_its_name(bench, own):
    label = f"named {own.id}"
    tag = bench.agora.create_tag(label, project=own.id)
    bench.command("refresh", bench.root)
    path = bench.shell('cd "$1" && pwd -P', bench.by_id("tag", tag.id)).rstrip("\n")
    assert path == str(own.path / "tags" / bench.agora.get_tag(tag.id).label)
    (named,) = bench.agora.get_tags(name=label)
    for place in (own.path, bench.root):
        script = 'cd "$1" && getfattr --only-values -n user.agora.id .'
        assert bench.shell(script, place / "tags" / label) == str(named.id)


@pytest.mark.feature(35, how="`getfattr -n user.agora.tags PATH`; `cat DIR/.agora/tags`")
@pytest.mark.parametrize("kind", KINDS)
def test_the_tags_that_an_object_has_are_read_at_its_path(bench, own, kind):
    for number in range(2):
        tag = bench.agora.create_tag(f"{kind} {own.id} {number}", project=own.id)
        own.on_server(kind).tag(tag)
    labels = sorted(tag.label for tag in own.on_server(kind).get_tags())
    assert len(labels) == 2
    bench.command("refresh", bench.root)
    assert sorted(bench.attribute(own.paths[kind], "tags").split(",")) == labels
    assert sorted(bench.shell('cat "$1/.agora/tags"', own.paths[kind]).splitlines()) == labels
    others = [path for other, path in own.paths.items() if other != kind]
    assert [bench.attribute(path, "tags") for path in others] == [""] * 4


@pytest.mark.feature(
    36,
    how="`setfattr -n user.agora.tag.LABEL -v 1 PATH`; `echo LABEL > DIR/.agora/tags`; "
    "`echo 'tag . LABEL' > DIR/.agora/control`; `mkdir PROJECT/tags/LABEL`, `ln -s PATH PROJECT/tags/LABEL/`",
)
@pytest.mark.parametrize("way", TAGGING)
@pytest.mark.parametrize("kind", KINDS)
def test_an_object_of_each_kind_is_tagged_in_each_way(bench, own, kind, way):
    label = f"label {own.id}"
    bench.shell(TAGGING[way], own.paths[kind], label, own.path)
    assert own.tagged(label) == [kind]
    (tag,) = bench.agora.get_project(own.id).get_tags(name=label)
    assert [one.id for one in own.on_server(kind).get_tags()] == [tag.id]
    assert bench.attribute(own.paths[kind], "tags") == label


# -- locks -------------------------------------------------------------------------------------------


@pytest.mark.feature(
    29,
    how="`setfattr -n user.agora.locked -v 1 EXAM`; `echo 1 > EXAM/.agora/locked`; "
    "`echo 'lock .' > EXAM/.agora/control`; `0` and `unlock` likewise",
)
@pytest.mark.parametrize("way", LOCKING)
def test_an_exam_is_locked_and_unlocked_in_each_way(bench, own, way):
    exam = own.paths["exam"]
    assert own.on_server("exam").locked is False
    for locked in (True, False):
        bench.shell(LOCKING[way], exam, str(int(locked)))
        assert own.on_server("exam").locked is locked
        assert bench.attribute(exam, "locked") == str(int(locked))
        # The kernel is told by the mount's process, in its own time.
        eventually(partial(shows_lock, exam, locked), within_s=5)


@pytest.mark.feature(29, how="`getfattr -n user.agora.locked EXAM`")
def test_a_lock_that_somebody_else_has_set_is_read_and_keeps_files_out(bench, own):
    own.on_server("exam").lock()
    bench.command("refresh", bench.root)
    assert bench.attribute(own.paths["exam"], "locked") == "1"
    with pytest.raises(PermissionError):
        os.open(own.paths["series"] / "new", os.O_CREAT | os.O_WRONLY)
    assert len(own.on_server("series").get_datasets()) == 1
