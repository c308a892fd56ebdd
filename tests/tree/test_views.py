"""Tags, searches, tasks and the trash as directories: what they show, what their links say, and what they cost."""

from __future__ import annotations

import pytest

from agorafs.client.records import Kind, RemoteRef
from agorafs.errors import NotFound, PermissionDenied, RemoteUnavailable
from agorafs.tree.listing import Area, LinkTarget, SiblingLink, Special
from tests.tree.conftest import TTL_S, at, link, names


def followed(tree, path):
    """The object that a path leads to, as a kernel would walk it."""
    parts = [part for part in path.split("/") if part]
    node = tree.resolve(parts)
    while isinstance(node.entry.target, (LinkTarget, SiblingLink)):
        base = list(node.parts[:-1])
        for part in tree.link_text(node).split("/"):
            if part == "..":
                base.pop()
            else:
                base.append(part)
        if base[:2] == [".agora", "by-id"]:
            base = list(tree.locate(RemoteRef(Kind(base[2]), int(base[3]))))
        node = tree.resolve(base)
    return node.entry.ref


def requests(tree, archive, path):
    """What listing *path* asks the archive for, when its parents are known."""
    parent = path.rpartition("/")[0]
    tree.children(at(tree, parent or "/"))
    archive.calls.clear()
    tree.children(at(tree, path))
    return archive.calls


# -- tags --------------------------------------------------------------------------------------------


def test_the_tags_of_a_project_cost_one_request(tree, archive):
    project = archive.add_project("P")
    other = archive.add_project("Q")
    archive.annotations.add_tag("good", project.id)
    archive.annotations.add_tag("a/b", project.id)
    archive.annotations.add_tag("elsewhere", other.id)
    assert requests(tree, archive, "/projects/P/tags") == [f"project_tags {project.id}"]
    assert names(tree, "/projects/P/tags") == ["good", "a∕b"]


def test_over_all_projects_the_tags_of_one_label_are_one_directory(tree, archive):
    first, second = archive.add_project("P"), archive.add_project("Q")
    exams = []
    for project in (first, second):
        tag = archive.annotations.add_tag("good", project.id)
        exams.append(archive.add_exam(project.id, f"E{project.id}"))
        archive.annotations.add_instance(tag, Kind.EXAM, exams[-1].id)
    own = archive.annotations.add_tag("good")
    patient = archive.add_patient("Ann")
    archive.annotations.add_instance(own, Kind.PATIENT, patient.id)
    archive.annotations.add_tag("bad", first.id)
    assert names(tree, "/tags") == ["good", "bad"]
    assert sorted(names(tree, "/tags/good")) == sorted([exams[0].name, exams[1].name, "Ann"])


def test_a_tag_is_located_by_its_id_in_its_project_and_one_of_nobodys_project_under_its_label(tree, archive):
    project, other = archive.add_project("P"), archive.add_project("Q")
    in_project = archive.annotations.add_tag("good", project.id)
    elsewhere = archive.annotations.add_tag("good", other.id)
    of_user = archive.annotations.add_tag("good")
    tags = [in_project, elsewhere, of_user]
    found = [tree.locate(RemoteRef(Kind.TAG, tag.id)) for tag in tags]
    assert found == [("projects", "P", "tags", "good"), ("projects", "Q", "tags", "good"), ("tags", "good")]
    with pytest.raises(NotFound, match="no tag 4711"):
        tree.locate(RemoteRef(Kind.TAG, 4711))


def test_a_task_is_located_by_its_id_in_its_project_a_script_apart_from_what_has_its_number(tree, archive):
    project = archive.add_project("P")
    task = archive.tasks.add(project.id, "Recon", task_id=5)
    script = archive.tasks.add(project.id, "Script", is_script=True, task_id=5)
    for one, kind in [(task, Kind.TASK), (script, Kind.SCRIPT_TASK)]:
        assert tree.locate(RemoteRef(kind, 5)) == ("projects", "P", "tasks", one.name)
    with pytest.raises(NotFound):
        tree.locate(RemoteRef(Kind.TASK, 6))


def test_a_tag_shows_objects_of_every_kind_as_links_that_lead_to_them(tree, archive):
    project = archive.add_project("P")
    tag = archive.annotations.add_tag("good", project.id)
    patient = archive.add_patient("Ann")
    exam = archive.add_exam(project.id, "Brain", patient=patient.id)
    series = archive.add_series(exam.id, "T1")
    dataset = archive.add_dataset({"dir/scan.nii": b"x"}, series=series.id)
    folder = archive.add_folder("out", project.root_folder)
    tagged = [
        (Kind.EXAM, exam.id),
        (Kind.SERIES, series.id),
        (Kind.DATASET, dataset.id),
        (Kind.FOLDER, folder.id),
        (Kind.PATIENT, patient.id),
    ]
    for kind, object_id in tagged:
        archive.annotations.add_instance(tag, kind, object_id)
    for place in ("/tags/good", "/projects/P/tags/good"):
        assert sorted(names(tree, place)) == ["Ann", "Brain", "T1", "out", "scan.nii"]
        found = {followed(tree, f"{place}/{name}") for name in names(tree, place)}
        assert found == {RemoteRef(kind, object_id) for kind, object_id in tagged}
    assert link(tree, "/projects/P/tags/good/Brain") == f"../../exams/Brain ({exam.id})"
    assert link(tree, "/projects/P/tags/good/Ann") == f"../../patients/Ann ({patient.id})"
    assert link(tree, "/tags/good/Brain") == f"../../projects/P/exams/Brain ({exam.id})"
    assert link(tree, "/tags/good/Ann") == f"../../patients/Ann ({patient.id})"
    assert link(tree, "/tags/good/T1") == f"../../.agora/by-id/series/{series.id}"


def test_one_tag_costs_one_request_and_one_for_each_kind_that_has_it(tree, archive):
    project = archive.add_project("P")
    tag = archive.annotations.add_tag("good", project.id)
    for number in range(50):
        exam = archive.add_exam(project.id, f"E{number}")
        archive.annotations.add_instance(tag, Kind.EXAM, exam.id)
        if number < 10:
            archive.annotations.add_instance(tag, Kind.SERIES, archive.add_series(exam.id, f"S{number}").id)
    asked = requests(tree, archive, "/projects/P/tags/good")
    assert sorted(asked) == [
        f"tag_instances {project.id}",
        f"tagged {project.id} exam {tag.id}",
        f"tagged {project.id} series {tag.id}",
    ]
    assert len(names(tree, "/projects/P/tags/good")) == 60


def test_a_server_without_lists_of_tagged_objects_is_asked_for_each(tree, archive):
    project = archive.add_project("P")
    tag = archive.annotations.add_tag("good", project.id)
    for name in ("E1", "E2"):
        archive.annotations.add_instance(tag, Kind.EXAM, archive.add_exam(project.id, name).id)
    archive.without = {"tagged"}
    assert names(tree, "/projects/P/tags/good") == ["E1", "E2"]


def test_an_object_that_has_gone_is_left_out_of_its_tag(tree, archive):
    project = archive.add_project("P")
    tag = archive.annotations.add_tag("good", project.id)
    archive.annotations.add_instance(tag, Kind.EXAM, 4711)
    assert names(tree, "/projects/P/tags/good") == []


def test_a_server_that_is_away_is_not_an_empty_tag(tree, archive):
    project = archive.add_project("P")
    tag = archive.annotations.add_tag("good", project.id)
    archive.annotations.add_instance(tag, Kind.EXAM, archive.add_exam(project.id, "E").id)
    node = at(tree, "/projects/P/tags/good")
    archive.fail_with = RemoteUnavailable("away")
    with pytest.raises(RemoteUnavailable):
        tree.children(node)


def test_objects_of_one_name_with_one_tag_are_told_apart_by_their_ids(tree, archive):
    project = archive.add_project("P")
    tag = archive.annotations.add_tag("good", project.id)
    exam = archive.add_exam(project.id, "E")
    series = [archive.add_series(exam.id, "T1") for _ in range(2)]
    for one in series:
        archive.annotations.add_instance(tag, Kind.SERIES, one.id)
    place = "/projects/P/tags/good"
    assert names(tree, place) == ["T1", f"T1 ({series[1].id})"]
    # as everywhere, the id can be written out where no sibling makes it necessary
    assert link(tree, f"{place}/T1 ({series[0].id})") == "T1"


def test_datasets_have_the_names_of_their_files_although_the_list_leaves_those_out(tree, archive):
    project = archive.add_project("P")
    tag = archive.annotations.add_tag("good", project.id)
    exam = archive.add_exam(project.id, "E")
    for name in ("a.nii", "b.nii"):
        dataset = archive.add_dataset({name: b"x"}, exam=exam.id, name="unnamed")
        archive.annotations.add_instance(tag, Kind.DATASET, dataset.id)
    archive.bare_datasets = True
    assert names(tree, "/projects/P/tags/good") == ["a.nii", "b.nii"]


def test_a_server_without_tags_has_an_empty_directory_that_says_why(tree, archive):
    archive.add_project("P")
    archive.without = {"project_tags"}
    listing = tree.listing(at(tree, "/projects/P/tags"))
    assert listing.entries == {}
    assert "tags" in listing.not_shown[0]


def test_a_changed_tag_is_shown_after_the_ttl_or_at_once_when_we_changed_it(tree, archive, clock):
    project = archive.add_project("P")
    tag = archive.annotations.add_tag("good", project.id)
    place = "/projects/P/tags/good"
    assert names(tree, place) == []
    archive.annotations.add_instance(tag, Kind.EXAM, archive.add_exam(project.id, "E").id)
    assert names(tree, place) == []
    clock.advance(TTL_S + 1)
    assert names(tree, place) == ["E"]
    archive.annotations.add_instance(tag, Kind.EXAM, archive.add_exam(project.id, "F").id)
    tree.forget_area(Area.TAG, project=project.id)
    assert names(tree, place) == ["E", "F"]


def test_a_name_that_was_given_leads_to_the_object_as_long_as_it_is_there(tree, archive):
    project = archive.add_project("P")
    tag = archive.annotations.add_tag("good", project.id)
    exam = archive.add_exam(project.id, "E")
    archive.annotations.add_instance(tag, Kind.EXAM, exam.id)
    place = at(tree, "/projects/P/tags/good")
    tree.remember_name(place, "mine", RemoteRef(Kind.EXAM, exam.id))
    assert tree.link_text(tree.child(place, "mine")) == "E"
    assert names(tree, "/projects/P/tags/good") == ["E"]
    archive.annotations._instances.clear()
    tree.forget_area(Area.TAG)
    with pytest.raises(NotFound):
        tree.child(place, "mine")


# -- searches ----------------------------------------------------------------------------------------


def test_a_search_springs_up_when_it_is_looked_up_and_is_never_listed(tree, archive):
    project = archive.add_project("P")
    exam = archive.add_exam(project.id, "Brain MRI")
    archive.exploring.add_hit("brain mri", Kind.EXAM, exam.id, "Brain MRI", project.id)
    archive.exploring.add_hit("brain mri", Kind.PROJECT, project.id, "P")
    assert "search" not in names(tree, "/")
    assert "search" not in names(tree, "/projects/P")
    archive.calls.clear()
    at(tree, "/search/brain mri")
    assert archive.calls == []
    assert names(tree, "/search") == []
    assert sorted(names(tree, "/search/brain mri")) == ["Brain MRI", "P"]
    names(tree, "/search/brain mri")
    assert archive.calls == ["search brain mri None"]
    assert followed(tree, "/search/brain mri/Brain MRI") == RemoteRef(Kind.EXAM, exam.id)
    assert names(tree, "/projects/P/search/brain mri") == ["Brain MRI"]
    assert archive.calls[-1] == f"search brain mri {project.id}"


def test_nothing_found_is_an_empty_directory(tree):
    assert names(tree, "/search/nothing of this kind") == []


@pytest.mark.parametrize("name", [".git", ".hidden", "autorun.inf", ".Trash-1000", "desktop.ini", " ", ".x"])
def test_what_desktops_probe_for_is_never_searched(tree, archive, name):
    with pytest.raises(NotFound):
        at(tree, f"/search/{name}")
    with pytest.raises(NotFound):
        tree.known_child(at(tree, "/search"), name)
    assert not [call for call in archive.calls if call.startswith("search")]


def test_a_hit_is_shown_once_and_what_no_link_can_lead_to_is_named(tree, archive):
    for _ in range(2):
        archive.exploring.add_hit("x", Kind.FOLDER, 5, "out")
    archive.exploring.add_hit("x", Kind.TAG, 7, "good")
    listing = tree.listing(at(tree, "/search/x"))
    assert list(listing.entries) == ["out"]
    assert listing.not_shown == ("tag 7",)


def test_an_expression_finds_series_in_one_project_or_in_all(tree, archive):
    here, there = archive.add_project("P"), archive.add_project("Q")
    series = [archive.add_series(archive.add_exam(one.id, "E").id, f"S{one.id}") for one in (here, there)]
    archive.exploring.series_hits["parameter.TR > 1 AND a / b"] = series
    text = "series: parameter.TR > 1 AND a ∕ b"
    assert names(tree, f"/search/{text}") == [one.name for one in series]
    assert names(tree, f"/projects/P/search/{text}") == [series[0].name]
    assert followed(tree, f"/projects/P/search/{text}/{series[0].name}") == RemoteRef(
        Kind.SERIES, series[0].id
    )


def test_a_search_is_asked_again_after_a_refresh_of_anything_above_it(tree, archive):
    project = archive.add_project("P")
    for place in ("", "/projects/P"):
        assert names(tree, f"{place}/search/x") == []
    archive.exploring.add_hit("x", Kind.FOLDER, 5, "out", project.id)
    assert names(tree, "/projects/P/search/x") == []
    tree.refresh(["projects", "P"])
    assert names(tree, "/projects/P/search/x") == ["out"]
    assert names(tree, "/search/x") == []
    tree.refresh([])
    assert names(tree, "/search/x") == ["out"]


# -- tasks -------------------------------------------------------------------------------------------


def test_a_task_is_a_directory_of_virtual_files(tree, archive):
    project = archive.add_project("P")
    task = archive.tasks.add(project.id, "Convert/To NIfTI")
    assert names(tree, "/projects/P/tasks") == ["Convert∕To NIfTI"]
    place = "/projects/P/tasks/Convert∕To NIfTI"
    assert names(tree, place) == ["definition.json", "syntax", "run"]
    node = at(tree, f"{place}/run")
    assert node.entry.record == task
    assert isinstance(node.entry.target, Special)
    assert at(tree, place).entry.ref == RemoteRef(Kind.TASK, task.id)


def test_the_tasks_of_all_projects_are_links_that_lead_to_the_right_one(tree, archive):
    """Whatever they are called: also of one name, with the numbers of others, and with names like those."""
    first, second = archive.add_project("P"), archive.add_project("Q")
    archive.tasks.add(first.id, "R", task_id=3)
    archive.tasks.add(first.id, "R", task_id=3, is_script=True)
    archive.tasks.add(first.id, "R (3)", task_id=4)
    archive.tasks.add(first.id, "R", task_id=5, is_script=True)
    archive.tasks.add(second.id, "R", task_id=7)
    shown = {followed(tree, f"/tasks/{name}") for name in names(tree, "/tasks")}
    assert shown == {
        RemoteRef(Kind.TASK, 3),
        RemoteRef(Kind.SCRIPT_TASK, 3),
        RemoteRef(Kind.TASK, 4),
        RemoteRef(Kind.SCRIPT_TASK, 5),
        RemoteRef(Kind.TASK, 7),
    }
    for name in names(tree, "/tasks"):
        assert followed(tree, f"/tasks/{name}") == at(tree, f"/tasks/{name}").entry.ref


def test_a_project_whose_tasks_can_not_be_had_does_not_hide_those_of_the_others(tree, archive):
    first, second = archive.add_project("P"), archive.add_project("Q")
    archive.tasks.add(first.id, "mine")
    archive.tasks.add(second.id, "theirs")
    archive.tasks.failing[second.id] = PermissionDenied("not yours")
    listing = tree.listing(at(tree, "/tasks"))
    assert list(listing.entries) == ["mine"]
    assert listing.not_shown == ("tasks of Q: not yours",)
    archive.tasks.failing[first.id] = RemoteUnavailable("away")
    tree.forget_area(Area.TASKS)
    with pytest.raises(RemoteUnavailable):
        names(tree, "/tasks")


def test_tasks_that_were_seen_stay_while_their_project_can_not_be_asked(tree, archive, clock):
    first, second = archive.add_project("P"), archive.add_project("Q")
    archive.tasks.add(first.id, "mine")
    archive.tasks.add(second.id, "theirs")
    assert names(tree, "/tasks") == ["mine", "theirs"]
    archive.tasks.failing[second.id] = RemoteUnavailable("away")
    clock.advance(TTL_S + 1)
    assert names(tree, "/tasks") == ["mine", "theirs"]


# -- trash -------------------------------------------------------------------------------------------


def test_one_request_shows_the_trash_of_all_projects(tree, archive):
    first, second = archive.add_project("P"), archive.add_project("Q")
    for _ in range(2):
        archive.exploring.add_trash(first.id, "scan.nii")
    other = archive.exploring.add_trash(second.id, "", kind=Kind.EXAM)
    entries = sorted(archive.exploring._trash)
    assert requests(tree, archive, "/projects/P/trash") == ["trash"]
    assert names(tree, "/projects/P/trash") == [f"scan.nii ({entries[0]})", f"scan.nii ({entries[1]})"]
    assert names(tree, "/projects/Q/trash") == [f"exam 4711 ({other.id})"]
    assert archive.calls == ["trash"]


def test_what_was_removed_here_is_in_the_trash_at_once(tree, archive):
    project = archive.add_project("P")
    dataset = archive.add_dataset({"a": b"x"}, folder=project.root_folder)
    assert names(tree, "/projects/P/trash") == []
    entry = archive.exploring.add_trash(project.id, "a")
    tree.removed(RemoteRef(Kind.DATASET, dataset.id))
    assert names(tree, "/projects/P/trash") == [f"a ({entry.id})"]


# -- objects by their UID ----------------------------------------------------------------------------


def test_a_uid_is_known_once_its_study_list_or_exam_was_listed(tree, archive):
    project = archive.add_project("P")
    exam = archive.add_exam(project.id, "E")
    series = archive.add_series(exam.id, "S")
    assert tree.known_by_uid(exam.uid) is None
    names(tree, "/projects/P/exams/E")
    archive.calls.clear()
    assert tree.known_by_uid(exam.uid) == RemoteRef(Kind.EXAM, exam.id)
    assert tree.known_by_uid(series.uid) == RemoteRef(Kind.SERIES, series.id)
    assert archive.calls == []
