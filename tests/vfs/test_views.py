"""What can be made and removed in the views: tags, the trash, the list of projects; and the links below ``.agora``."""

from __future__ import annotations

import json
import os
from typing import Any, cast

import pytest

from agorafs.cache.metadata import Freshness
from agorafs.client.records import Kind, RemoteRef
from agorafs.client.view_records import Relation
from agorafs.errors import (
    AlreadyExists,
    BadCommand,
    CrossDevice,
    NotEmpty,
    NotFound,
    NotPermitted,
    PermissionDenied,
    RemoteUnavailable,
)
from agorafs.tree.listing import Area
from agorafs.vfs import FileSystem
from agorafs.vfs.annotations import Annotations
from agorafs.vfs.changes import Writing
from agorafs.vfs.dot_agora import DotAgora
from agorafs.vfs.dot_links import DotLinks
from agorafs.vfs.renames import RENAME_NOREPLACE
from agorafs.vfs.views.projects import ProjectsView
from agorafs.vfs.views.tags import TagView
from agorafs.vfs.views.trash import TrashView
from agorafs.vfs.views.view import View
from tests.vfs.world import STARTED_NS, World

FRESHNESS = Freshness(ttl_s=30.0, revalidate_wait_s=5.0)
WRITES = ("create_tag", "delete_tag", "tag ", "remove_tag_instance", "delete_finally", "_project")


class ProjectCalls:
    """The list of projects of a ``MemoryArchive``, changed as a server would."""

    def __init__(self, archive):
        self._archive = archive
        self.calls = []

    def create_project(self, name, description):
        self.calls.append(("create_project", name, description))
        return self._archive.add_project(name)

    def rename_project(self, project, name):
        self.calls.append(("rename_project", project, name))
        self._archive.rename_project(project, name)

    def delete_project(self, project):
        self.calls.append(("delete_project", project))
        self._archive.remove_project(project)


class Mounted:
    """A world whose file system has the views."""

    def __init__(self, directory, **options):
        self.world = world = World(directory, **options)
        self.archive = archive = world.archive
        self.tags = archive.annotations
        self.projects = ProjectCalls(archive)
        annotations = Annotations(
            cast(Any, archive.annotations),
            freshness=FRESHNESS,
            clock=world.clock,
            tag_changed=lambda tag: self._forget(),
            object_changed=lambda ref: world.tree.changed([], ref),
        )
        self._annotations = annotations
        links = DotLinks(world.tree, archive, freshness=FRESHNESS, clock=world.clock)
        self.dot_agora = DotAgora(
            world.tree, archive.describe, freshness=FRESHNESS, clock=world.clock, parts=[links]
        )
        tag_view = TagView(world.tree, annotations, archive.annotations, user=archive.user.id)
        allow_delete = bool(options.get("allow_delete", False))
        views: dict[Area, View] = {
            Area.TAGS: tag_view,
            Area.TAG: tag_view,
            Area.TRASH: TrashView(world.tree, archive.exploring, allow_delete=allow_delete),
            Area.PROJECTS: ProjectsView(
                world.tree,
                self.projects,
                archive,
                pending=world.uploads.children,
                forget_places=self.dot_agora.refresh,
                allow_delete=allow_delete,
            ),
        }
        world.filesystem.close()
        world.filesystem = FileSystem(
            world.tree,
            world.contents,
            self.dot_agora,
            archive_url="http://archive",
            umask=0o022,
            started_ns=STARTED_NS,
            clock=world.clock,
            writing=Writing(world.uploads, archive, world.server, allow_delete=allow_delete),
            views=views,
        )
        self.filesystem = world.filesystem
        self.filesystem.mounted_at("/mnt/agora")

    def _forget(self):
        for area in (Area.TAGS, Area.TAG):
            self.world.tree.forget_area(area)

    def names(self, path):
        return self.world.names(path)

    def follow(self, path):
        """Return the path that a link leads to, as a kernel would walk it; what it names is there."""
        parts = path.strip("/").split("/")[:-1]
        for part in self.filesystem.readlink(path).split("/"):
            if part == "..":
                parts.pop()
            else:
                parts.append(part)
        found = "/" + "/".join(parts)
        try:
            return self.follow(found)
        except NotFound:
            self.filesystem.getattr(found)
            return found

    def labels(self, kind, object_id):
        return sorted(tag.label for tag in self.tags.tags_of(RemoteRef(kind, object_id)))

    def changes(self):
        return [call for call in self.archive.calls if call.startswith(WRITES)]

    def close(self):
        self.world.close()
        self._annotations.close()


@pytest.fixture
def make(tmp_path):
    made: list[Mounted] = []

    def build(**options):
        made.append(Mounted(tmp_path / str(len(made)), **options))
        return made[-1]

    yield build
    for one in made:
        one.close()


@pytest.fixture
def mounted(make):
    return make()


@pytest.fixture
def exam(mounted):
    return mounted.archive.add_exam(mounted.world.project.id, "Brain")


# -- tags --------------------------------------------------------------------------------------------


def test_mkdir_makes_a_tag_of_the_project_or_at_the_root_of_the_user(mounted):
    fs, project = mounted.filesystem, mounted.world.project.id
    fs.make_directory("/projects/P/tags/good")
    fs.make_directory("/tags/mine")
    assert mounted.changes() == [f"create_tag good {project} None", "create_tag mine None 1"]
    assert mounted.names("/projects/P/tags") == ["good"]
    assert mounted.names("/tags") == ["good", "mine"]
    with pytest.raises(AlreadyExists):
        fs.make_directory("/projects/P/tags/good")
    with pytest.raises(BadCommand):
        fs.make_directory("/projects/P/tags/ good")
    with pytest.raises(NotPermitted):
        fs.make_directory("/projects/P/tags/good/deeper")


def test_a_link_in_a_tag_tags_and_its_removal_untags_and_removes_no_object(mounted, exam):
    fs = mounted.filesystem
    fs.make_directory("/projects/P/tags/good")
    fs.make_link("/projects/P/tags/good/Brain", "../../exams/Brain")
    assert mounted.labels(Kind.EXAM, exam.id) == ["good"]
    assert mounted.names("/projects/P/tags/good") == ["Brain"]
    assert mounted.names("/tags/good") == ["Brain"]
    assert mounted.follow("/tags/good/Brain") == "/projects/P/exams/Brain"
    fs.remove("/tags/good/Brain")
    assert mounted.labels(Kind.EXAM, exam.id) == []
    assert mounted.names("/projects/P/tags/good") == []
    assert mounted.names("/projects/P/exams") == ["Brain"]
    assert mounted.world.server.calls == []


def test_an_absolute_link_and_one_through_links_tag_the_object_itself(mounted, exam):
    fs, archive = mounted.filesystem, mounted.archive
    archive.add_item(mounted.world.root, "exam", exam.id, exam, is_link=True)
    other = archive.add_exam(mounted.world.project.id, "Knee")
    fs.make_directory("/tags/good")
    fs.make_link("/tags/good/Brain", "../../projects/P/folders/Brain")
    fs.make_link("/tags/good/Knee", "/mnt/agora/projects/P/exams/Knee")
    assert mounted.labels(Kind.EXAM, exam.id) == mounted.labels(Kind.EXAM, other.id) == ["good"]


def test_a_link_may_have_any_name_and_is_found_under_it_but_listed_as_the_object(mounted, exam):
    fs = mounted.filesystem
    fs.make_directory("/projects/P/tags/good")
    fs.make_link("/projects/P/tags/good/my favourite", "../../exams/Brain")
    assert mounted.names("/projects/P/tags/good") == ["Brain"]
    assert mounted.follow("/projects/P/tags/good/my favourite") == "/projects/P/exams/Brain"
    fs.remove("/projects/P/tags/good/my favourite")
    assert mounted.labels(Kind.EXAM, exam.id) == []
    with pytest.raises(NotFound):
        fs.readlink("/projects/P/tags/good/my favourite")


def test_what_can_not_be_tagged_is_refused_in_words_without_a_change(mounted, exam):
    fs, archive = mounted.filesystem, mounted.archive
    elsewhere = archive.add_project("Q")
    archive.add_exam(elsewhere.id, "Knee")
    mounted.tags.add_tag("good", mounted.world.project.id)
    place = "/projects/P/tags/good"
    for target, error in [
        ("../../../Q/exams/Knee", NotPermitted),
        ("../..", NotPermitted),
        ("../../exams/missing", NotFound),
        ("/somewhere/else", NotFound),
    ]:
        with pytest.raises(error):
            fs.make_link(f"{place}/x", target)
    with pytest.raises(NotPermitted):
        fs.make_link("/projects/P/tags/x", "../exams/Brain")
    with pytest.raises(NotPermitted):
        fs.create(f"{place}/file")
    assert mounted.changes() == []


def test_a_link_is_moved_from_tag_to_tag_and_nothing_else_is_renamed(mounted, exam):
    fs = mounted.filesystem
    for label in ("good", "bad"):
        fs.make_directory(f"/projects/P/tags/{label}")
    fs.make_link("/projects/P/tags/good/Brain", "../../exams/Brain")
    fs.rename("/projects/P/tags/good/Brain", "/projects/P/tags/bad/Brain")
    assert mounted.labels(Kind.EXAM, exam.id) == ["bad"]
    assert mounted.names("/projects/P/tags/good") == []
    with pytest.raises(NotPermitted):
        fs.rename("/projects/P/tags/bad/Brain", "/projects/P/tags/bad/Knee")
    with pytest.raises(NotPermitted):
        fs.rename("/projects/P/tags/bad", "/projects/P/tags/ugly")
    with pytest.raises(CrossDevice):
        fs.rename("/projects/P/tags/bad/Brain", "/projects/P/folders/Brain")


def test_rmdir_deletes_a_tag_that_nothing_carries_by_a_fresh_look(mounted, exam):
    fs = mounted.filesystem
    fs.make_directory("/projects/P/tags/good")
    assert mounted.names("/projects/P/tags/good") == []
    (tag,) = mounted.tags.tags()
    given = mounted.tags.tag(RemoteRef(Kind.EXAM, exam.id), tag.id)  # by somebody else, unseen here
    with pytest.raises(NotEmpty):
        fs.remove_directory("/projects/P/tags/good")
    assert mounted.names("/projects/P/tags/good") == ["Brain"]
    mounted.tags.remove_tag_instance(given.id)
    fs.remove_directory("/projects/P/tags/good")
    assert mounted.tags.tags() == []
    assert mounted.names("/projects/P/tags") == []


def test_a_tag_that_a_project_has_is_not_deleted_above_the_projects(mounted):
    mounted.tags.add_tag("good", mounted.world.project.id)
    own = mounted.tags.add_tag("good")
    with pytest.raises(PermissionDenied, match="projects/"):
        mounted.filesystem.remove_directory("/tags/good")
    mounted.filesystem.remove_directory("/projects/P/tags/good")
    assert mounted.tags.tags() == [own]
    mounted.filesystem.remove_directory("/tags/good")
    assert mounted.tags.tags() == []


def test_observers_change_no_tags_and_the_server_is_not_asked_to(make):
    mounted = make(roles=[(1, 4)])
    project = mounted.world.project.id
    exam = mounted.archive.add_exam(project, "Brain")
    tag = mounted.tags.add_tag("good", project)
    mounted.tags.add_instance(tag, Kind.EXAM, exam.id)
    mounted.tags.add_tag("bad", project)
    fs = mounted.filesystem
    for change in (
        lambda: fs.make_directory("/projects/P/tags/new"),
        lambda: fs.remove_directory("/projects/P/tags/bad"),
        lambda: fs.make_link("/projects/P/tags/bad/Brain", "../../exams/Brain"),
        lambda: fs.remove("/projects/P/tags/good/Brain"),
        lambda: fs.rename("/projects/P/tags/good/Brain", "/projects/P/tags/bad/Brain"),
    ):
        with pytest.raises(PermissionDenied):
            change()
    assert mounted.changes() == []


# -- searches ----------------------------------------------------------------------------------------


def test_hits_of_a_search_lead_to_what_was_found_and_nothing_can_be_made_there(mounted, exam):
    project = mounted.world.project
    mounted.archive.exploring.add_hit("brain", Kind.EXAM, exam.id, "Brain", project.id)
    for place in ("", "/projects/P"):
        assert mounted.follow(f"{place}/search/brain/Brain") == "/projects/P/exams/Brain"
        with pytest.raises(NotPermitted):
            mounted.filesystem.make_directory(f"{place}/search/brain/new")
        with pytest.raises(NotPermitted):
            mounted.filesystem.remove(f"{place}/search/brain/Brain")
    assert mounted.changes() == []


# -- trash -------------------------------------------------------------------------------------------


def test_a_deletion_is_a_file_that_says_what_was_deleted_and_rm_is_final(make):
    mounted = make(allow_delete=True)
    fs, trash = mounted.filesystem, mounted.archive.exploring
    entries = [trash.add_trash(mounted.world.project.id, "scan.nii") for _ in range(3)]
    place = f"/projects/P/trash/scan.nii ({entries[0].id})"
    content = mounted.world.read(place)
    assert json.loads(content) == entries[0].raw
    assert fs.getattr(place).size == len(content)
    beside = f"/projects/P/trash/.agora/entries/scan.nii ({entries[0].id})/info.json"
    assert json.loads(mounted.world.read(beside)) == entries[0].raw
    fs.remove(place)
    assert trash.trash() == entries[1:]
    mounted.archive.calls.clear()
    assert len(mounted.names("/projects/P/trash")) == 2
    assert mounted.archive.calls == []


def test_nothing_is_put_into_the_trash_or_taken_out_of_it(mounted):
    fs = mounted.filesystem
    entry = mounted.archive.exploring.add_trash(mounted.world.project.id, "scan")
    place = f"/projects/P/trash/scan ({entry.id})"
    with pytest.raises(NotPermitted, match="web interface"):
        fs.rename(place, "/projects/P/trash/other")
    with pytest.raises(CrossDevice):
        fs.rename(place, "/projects/P/folders/scan")
    with pytest.raises(NotPermitted):
        fs.make_directory("/projects/P/trash/new")
    with pytest.raises(NotPermitted):
        fs.create("/projects/P/trash/new")
    with pytest.raises(PermissionDenied):
        fs.open(place, os.O_WRONLY)
    assert mounted.changes() == []


def test_rm_makes_nothing_final_on_a_mount_that_does_not_allow_deleting(mounted):
    entry = mounted.archive.exploring.add_trash(mounted.world.project.id, "scan")
    with pytest.raises(PermissionDenied, match=r"allow_delete.*empty-trash"):
        mounted.filesystem.remove(f"/projects/P/trash/scan ({entry.id})")
    assert mounted.changes() == []
    assert mounted.archive.exploring.trash() == [entry]


def test_observers_do_not_empty_the_trash(make):
    mounted = make(roles=[(1, 4)], allow_delete=True)
    entry = mounted.archive.exploring.add_trash(mounted.world.project.id, "scan")
    with pytest.raises(PermissionDenied):
        mounted.filesystem.remove(f"/projects/P/trash/scan ({entry.id})")
    assert mounted.changes() == []


# -- projects ----------------------------------------------------------------------------------------


def test_mkdir_creates_a_project_and_mv_renames_it(mounted):
    fs = mounted.filesystem
    fs.make_directory("/projects/New")
    assert mounted.names("/projects") == ["New", "P"]
    exam = mounted.archive.add_exam(mounted.world.project.id, "Brain")
    tag = mounted.tags.add_tag("good", mounted.world.project.id)
    mounted.tags.add_instance(tag, Kind.EXAM, exam.id)
    assert mounted.follow("/tags/good/Brain") == "/projects/P/exams/Brain"
    assert mounted.follow(f"/.agora/by-id/exam/{exam.id}") == "/projects/P/exams/Brain"
    fs.rename("/projects/P", "/projects/Q")
    assert mounted.names("/projects") == ["New", "Q"]
    assert mounted.follow("/tags/good/Brain") == "/projects/Q/exams/Brain"
    assert mounted.follow(f"/.agora/by-id/exam/{exam.id}") == "/projects/Q/exams/Brain"
    with pytest.raises(AlreadyExists):
        fs.rename("/projects/Q", "/projects/New")


def test_mv_that_must_not_replace_renames_at_once_and_leaves_no_complaint(mounted):
    """coreutils ask for that first, and without it when it is refused."""
    fs = mounted.filesystem
    fs.make_directory("/projects/New")
    with pytest.raises(AlreadyExists):
        fs.rename("/projects/New", "/projects/P", RENAME_NOREPLACE)
    fs.rename("/projects/New", "/projects/Newer", RENAME_NOREPLACE)
    assert mounted.names("/projects") == ["Newer", "P"]
    assert fs.status()["recent_errors"] == []


def test_the_users_own_project_keeps_its_name_and_stays(make):
    mounted = make(allow_delete=True)
    mounted.archive.add_project("ann", is_myagora=True)
    mounted.filesystem.refresh(None)
    with pytest.raises(NotPermitted):
        mounted.filesystem.rename("/projects/My Agora", "/projects/Mine")
    with pytest.raises(NotPermitted):
        mounted.filesystem.remove_directory("/projects/My Agora")
    assert mounted.projects.calls == []


def test_a_project_is_deleted_only_where_deleting_is_allowed(mounted):
    with pytest.raises(PermissionDenied, match="allow_delete"):
        mounted.filesystem.remove_directory("/projects/P")
    assert mounted.projects.calls == []


@pytest.mark.parametrize("what", ["exam", "folder", "file on its way", "nothing"])
def test_only_a_project_without_anything_in_it_is_deleted(make, what):
    """By a fresh look: what memory has not seen counts."""
    mounted = make(allow_delete=True)
    project = mounted.world.project
    for place in ("/projects/P/folders", "/projects/P/exams"):
        assert mounted.names(place) == []
    if what == "exam":
        mounted.archive.add_exam(project.id, "E")
    elif what == "folder":
        mounted.archive.add_folder("F", project.root_folder)
    elif what == "file on its way":
        mounted.world.write("/projects/P/folders/f", b"x")
    if what == "nothing":
        mounted.filesystem.remove_directory("/projects/P")
        assert mounted.names("/projects") == []
        return
    with pytest.raises(NotEmpty):
        mounted.filesystem.remove_directory("/projects/P")
    assert mounted.projects.calls == []


def test_observers_do_not_rename_a_project(make):
    mounted = make(roles=[(1, 4)])
    with pytest.raises(PermissionDenied):
        mounted.filesystem.rename("/projects/P", "/projects/Q")
    assert mounted.projects.calls == []


# -- links below .agora ------------------------------------------------------------------------------


def test_in_folders_links_to_the_folders_that_show_an_object(mounted, exam):
    archive, root = mounted.archive, mounted.world.root
    folders = [archive.add_folder("same", root), archive.add_folder("A", root)]
    folders.append(archive.add_folder("same", folders[1].id))
    dataset = archive.add_dataset({"f": b"x"}, folder=folders[0].id)
    for folder in folders:
        archive.add_item(folder.id, "exam", exam.id, exam, is_link=True)
    mounted.filesystem.refresh(None)
    place = "/projects/P/exams/Brain/.agora"
    assert "in-folders" in mounted.names(place)
    names = mounted.names(f"{place}/in-folders")
    assert names == ["A", "same", f"same ({folders[2].id})"]
    assert [mounted.follow(f"{place}/in-folders/{name}") for name in names] == [
        "/projects/P/folders/A",
        "/projects/P/folders/same",
        "/projects/P/folders/A/same",
    ]
    of_file = "/projects/P/folders/same/.agora/entries/f/in-folders"
    assert mounted.follow(f"{of_file}/same") == "/projects/P/folders/same"
    assert archive.calls.count(f"folders_of dataset {dataset.id}") == 1
    with pytest.raises(NotFound):
        mounted.filesystem.readlink(f"{place}/in-folders/B")


def test_relations_link_to_what_an_exam_or_a_series_is_related_to(mounted, exam):
    archive = mounted.archive
    other = archive.add_series(exam.id, "T2")
    one = archive.add_series(exam.id, "T1")
    first, second = RemoteRef(Kind.SERIES, one.id), RemoteRef(Kind.SERIES, other.id)
    gone = RemoteRef(Kind.SERIES, 4711)
    archive.exploring.related = [Relation(first, second), Relation(second, first), Relation(gone, first)]
    place = "/projects/P/exams/Brain/T1/.agora/relations"
    assert mounted.names(place) == ["T2"]
    assert mounted.follow(f"{place}/T2") == "/projects/P/exams/Brain/T2"
    assert "relations" not in mounted.names("/projects/P/folders/.agora")


def test_a_uid_leads_to_its_exam_or_series_in_whatever_project(mounted, exam):
    archive = mounted.archive
    elsewhere = archive.add_project("Q")
    other = archive.add_exam(elsewhere.id, "Knee")
    series = archive.add_series(other.id, "T1")
    mounted.filesystem.refresh(None)
    assert mounted.follow(f"/.agora/by-uid/{exam.uid}") == "/projects/P/exams/Brain"
    assert mounted.follow(f"/.agora/by-uid/{series.uid}") == "/projects/Q/exams/Knee/T1"
    archive.calls.clear()
    assert mounted.filesystem.readlink(f"/.agora/by-uid/{series.uid}") == "../../projects/Q/exams/Knee/T1"
    assert archive.calls == []
    with pytest.raises(NotFound):
        mounted.filesystem.readlink("/.agora/by-uid/9.9.9")
    mounted.archive.calls.clear()
    with pytest.raises(NotFound, match="UTF-8"):
        mounted.filesystem.readlink("/.agora/by-uid/1.2.\udcff")
    assert mounted.archive.calls == []
    assert mounted.names("/.agora/by-uid") == []
    with pytest.raises(NotFound):
        mounted.filesystem.readdir("/projects/.agora/by-uid")


def test_a_uid_that_memory_knows_is_asked_of_no_project(mounted, exam):
    assert mounted.names("/projects/P/exams") == ["Brain"]
    mounted.archive.calls.clear()
    assert mounted.follow(f"/.agora/by-uid/{exam.uid}") == "/projects/P/exams/Brain"
    assert mounted.archive.calls == []


def test_a_uid_is_not_called_missing_while_a_project_can_not_be_asked(mounted):
    mounted.names("/projects")
    mounted.archive.without = {"exam_by_uid"}
    mounted.archive.missing_call_error = RemoteUnavailable("away")
    with pytest.raises(RemoteUnavailable):
        mounted.filesystem.readlink("/.agora/by-uid/9.9.9")
