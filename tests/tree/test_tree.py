"""Which archive object appears under which path, and what looking costs."""

from __future__ import annotations

import threading

import pytest

from agorafs.cache.metadata import Freshness
from agorafs.client.records import Kind, RemoteRef, Role
from agorafs.errors import NameTooLong, NotADirectory, NotFound, ProtocolError, RemoteUnavailable
from agorafs.tree.listing import DirKey, LinkTarget
from agorafs.tree.tree import Tree
from tests.support.memory_archive import MemoryArchive
from tests.tree.conftest import TTL_S, at, link, names


def test_the_root_shows_projects_patients_tags_and_tasks(tree, archive):
    assert names(tree, "/") == ["projects", "patients", "tags", "tasks"]
    assert archive.calls == []


def test_what_a_project_shows_costs_no_request(tree, archive):
    archive.add_project("Neuro")
    at(tree, "/projects/Neuro")
    archive.calls.clear()
    assert names(tree, "/projects/Neuro") == ["folders", "exams", "patients", "tags", "tasks", "trash"]
    assert archive.calls == []


def test_the_users_own_project_is_called_my_agora(tree, archive):
    archive.add_project("ann", is_myagora=True)
    assert names(tree, "/projects") == ["My Agora"]


def test_my_agora_is_shown_although_the_list_of_projects_leaves_it_out(archive, clock):
    other = MemoryArchive()
    mine = other.add_project("ann", is_myagora=True)
    tree = Tree(
        archive, user=archive.user, my_agora=mine, freshness=Freshness(), max_entries=1000, clock=clock
    )
    assert names(tree, "/projects") == ["My Agora"]
    tree.close()


def test_a_dataset_with_one_file_is_that_file_and_with_several_a_directory(tree, archive):
    project = archive.add_project("P")
    root = project.root_folder
    archive.add_dataset({"notes.txt": b"x"}, folder=root)
    archive.add_dataset({"a.raw": b"x", "a.lab": b"y"}, folder=root, name="scan 1")
    assert names(tree, "/projects/P/folders") == ["notes.txt", "scan 1"]
    assert not at(tree, "/projects/P/folders/notes.txt").entry.is_directory
    assert names(tree, "/projects/P/folders/scan 1") == ["a.raw", "a.lab"]


def test_directories_in_an_original_filename_are_directories_of_the_dataset(tree, archive):
    project = archive.add_project("P")
    archive.add_dataset(
        {"DICOM/IM_0001": b"1", "DICOM/IM_0002": b"2", "DICOM/sub/IM_0001": b"3", "DICOMDIR": b"4"},
        folder=project.root_folder,
        name="scan",
    )
    assert names(tree, "/projects/P/folders/scan") == ["DICOM", "DICOMDIR"]
    assert names(tree, "/projects/P/folders/scan/DICOM") == ["sub", "IM_0001", "IM_0002"]
    assert names(tree, "/projects/P/folders/scan/DICOM/sub") == ["IM_0001"]


def test_a_file_and_a_directory_of_one_name_inside_a_dataset_both_stay_reachable(tree, archive):
    project = archive.add_project("P")
    dataset = archive.add_dataset({"a": b"1", "a/b": b"2"}, folder=project.root_folder, name="odd")
    first = dataset.datafiles[0].id
    assert names(tree, "/projects/P/folders/odd") == ["a", f"a ({first})"]
    assert names(tree, "/projects/P/folders/odd/a") == ["b"]


def test_hostile_filenames_stay_in_their_directory(tree, archive):
    project = archive.add_project("P")
    archive.add_dataset({"../../etc/passwd": b"x"}, folder=project.root_folder)
    archive.add_dataset({"/abs/a": b"1", "..\\..\\b": b"2"}, folder=project.root_folder, name="..")
    assert names(tree, "/projects/P/folders") == ["passwd", "․․"]
    assert names(tree, "/projects/P/folders/․․") == ["abs", "b"]


def test_an_exam_in_a_folder_is_a_link_into_the_study_list(tree, archive):
    project = archive.add_project("P")
    exam = archive.add_exam(project.id, "Brain/MRI")
    sub = archive.add_folder("sub", project.root_folder)
    for is_link in (True, False):  # a fixture of the vendor's has is_link false for an exam
        archive.add_item(sub.id, "exam", exam.id, exam, is_link=is_link)
    (name, other) = names(tree, "/projects/P/folders/sub")
    for one in (name, other):
        text = link(tree, f"/projects/P/folders/sub/{one}")
        assert text == f"../../exams/Brain∕MRI ({exam.id})"
    alias = at(tree, f"/projects/P/exams/Brain∕MRI ({exam.id})")
    assert tree.link_text(alias) == "Brain∕MRI"


def test_a_link_to_an_exam_of_another_project_leads_there(tree, archive):
    here = archive.add_project("P")
    there = archive.add_project("Q")
    exam = archive.add_exam(there.id, "E")
    archive.add_item(here.root_folder, "exam", exam.id, exam, is_link=True)
    assert link(tree, "/projects/P/folders/E") == f"../../../projects/Q/exams/E ({exam.id})"


def test_a_link_that_appears_takes_no_name_from_what_was_there_before(tree, archive):
    """The object it leads to may be older, and have a lower id, than everything in the folder."""
    project = archive.add_project("P")
    elsewhere = archive.add_folder("elsewhere", project.root_folder)
    old = archive.add_dataset({"x.txt": b"old"}, folder=elsewhere.id)
    new = archive.add_dataset({"x.txt": b"new"}, folder=project.root_folder)
    archive.add_item(project.root_folder, "dataset", old.id, old, is_link=True)
    assert names(tree, "/projects/P/folders") == ["elsewhere", f"x ({old.id}).txt", "x.txt"]
    assert at(tree, "/projects/P/folders/x.txt").entry.ref == RemoteRef(Kind.DATASET, new.id)


def test_links_to_series_datasets_and_folders_lead_through_their_ids(tree, archive):
    project = archive.add_project("P")
    exam = archive.add_exam(project.id, "E")
    series = archive.add_series(exam.id, "T1")
    dataset = archive.add_dataset({"x.nii": b"x"}, series=series.id)
    target = archive.add_folder("target", project.root_folder)
    place = archive.add_folder("place", project.root_folder)
    archive.add_item(place.id, "serie", series.id, series, is_link=True)
    archive.add_item(place.id, "dataset", dataset.id, dataset, is_link=True)
    archive.add_item(place.id, "folder", target.id, target, is_link=True)
    base = "../../../../.agora/by-id"
    assert link(tree, "/projects/P/folders/place/T1") == f"{base}/series/{series.id}"
    assert link(tree, "/projects/P/folders/place/x.nii") == f"{base}/dataset/{dataset.id}"
    assert link(tree, "/projects/P/folders/place/target") == f"{base}/folder/{target.id}"
    assert tree.locate(RemoteRef(Kind.SERIES, series.id)) == ("projects", "P", "exams", "E", "T1")
    assert tree.locate(RemoteRef(Kind.DATASET, dataset.id))[-1] == "x.nii"
    assert tree.locate(RemoteRef(Kind.FOLDER, target.id)) == ("projects", "P", "folders", "target")


def test_a_loose_dataset_is_located_where_it_lives_not_where_it_is_linked(tree, archive):
    project = archive.add_project("P")
    linking = archive.add_folder("linking", project.root_folder)
    home = archive.add_folder("home", project.root_folder)
    dataset = archive.add_dataset({"x.txt": b"x"}, folder=home.id)
    archive.add_item(linking.id, "dataset", dataset.id, dataset, is_link=True)
    where = tree.locate(RemoteRef(Kind.DATASET, dataset.id))
    assert where == ("projects", "P", "folders", "home", "x.txt")


def test_an_exam_in_a_listed_study_list_is_located_without_a_question(tree, archive):
    archive.add_project("other")
    project = archive.add_project("P")
    exam = archive.add_exam(project.id, "E")
    names(tree, "/projects/P/exams")
    archive.calls.clear()
    assert tree.locate(RemoteRef(Kind.EXAM, exam.id)) == ("projects", "P", "exams", "E")
    assert archive.calls == []


def test_an_exam_that_was_moved_is_located_in_its_new_project(tree, archive, clock):
    old, new = archive.add_project("old"), archive.add_project("new")
    exam = archive.add_exam(old.id, "E")
    names(tree, "/projects/old/exams")
    archive.add_exam(new.id, "E", exam_id=exam.id)
    clock.advance(TTL_S + 0.001)
    assert tree.locate(RemoteRef(Kind.EXAM, exam.id)) == ("projects", "new", "exams", "E")


def test_what_does_not_exist_can_not_be_located(tree, archive):
    archive.add_project("P")
    for kind in Kind:
        with pytest.raises(NotFound):
            tree.locate(RemoteRef(kind, 999))


def test_a_folder_inside_itself_is_shown_as_a_link(tree, archive):
    project = archive.add_project("P")
    outer = archive.add_folder("outer", project.root_folder)
    archive.add_item(outer.id, "folder", outer.id, outer, is_link=False)
    inner = at(tree, "/projects/P/folders/outer/outer")
    assert isinstance(inner.entry.target, LinkTarget)
    assert isinstance(at(tree, "/projects/P/folders/outer").entry.target, DirKey)


def test_a_content_type_that_nobody_knows_is_not_shown_and_not_fatal(tree, archive):
    project = archive.add_project("P")
    archive.add_item(project.root_folder, "query", 77, None)
    archive.add_dataset({"x": b"x"}, folder=project.root_folder)
    listing = tree.listing(at(tree, "/projects/P/folders"))
    assert list(listing.entries) == ["x"]
    assert listing.not_shown == ("query 77",)


def test_patients_show_links_to_their_exams(tree, archive):
    project = archive.add_project("P")
    other = archive.add_project("Q")
    patient = archive.add_patient("Doe^John")
    exam = archive.add_exam(project.id, "E", patient=patient.id)
    elsewhere = archive.add_exam(other.id, "F", patient=patient.id)
    tree.children(at(tree, "/projects"))
    assert names(tree, "/projects/P/patients/Doe^John") == ["E"]
    assert link(tree, "/projects/P/patients/Doe^John/E") == f"../../exams/E ({exam.id})"
    assert names(tree, "/patients/Doe^John") == ["E", "F"]
    assert link(tree, "/patients/Doe^John/F") == f"../../projects/Q/exams/F ({elsewhere.id})"


def test_of_exams_with_one_name_links_lead_to_the_right_one(tree, archive):
    project = archive.add_project("P")
    first = archive.add_exam(project.id, "E")
    second = archive.add_exam(project.id, "E")
    for exam in (first, second):
        node = at(tree, f"/projects/P/exams/E ({exam.id})")
        assert node.entry.ref == RemoteRef(Kind.EXAM, exam.id)


def test_an_exam_whose_name_reads_like_a_link_to_another_is_not_taken_for_it(tree, archive):
    project = archive.add_project("P")
    meant = archive.add_exam(project.id, "E")
    archive.add_exam(project.id, f"E ({meant.id})")
    node = at(tree, f"/projects/P/exams/E ({meant.id})")
    assert node.entry.ref == RemoteRef(Kind.EXAM, meant.id)


def test_a_listing_costs_one_request_cold_and_none_warm(tree, archive):
    """A listing costs at most one request, and none while it is fresh."""
    project = archive.add_project("P")
    sub = archive.add_folder("sub", project.root_folder)
    for number in range(50):
        archive.add_dataset({f"{number}.txt": b"x"}, folder=sub.id)
    at(tree, "/projects/P/folders/sub")
    archive.calls.clear()
    names(tree, "/projects/P/folders/sub")
    assert archive.calls == [f"folder_items {sub.id}"]
    names(tree, "/projects/P/folders/sub")
    assert len(archive.calls) == 1


def test_walking_an_exam_costs_one_request(tree, archive):
    project = archive.add_project("P")
    exam = archive.add_exam(project.id, "E")
    for number in range(5):
        series = archive.add_series(exam.id, f"S{number}")
        archive.add_dataset({"a.dcm": b"1", "b.dcm": b"2"}, series=series.id, name="DICOM")
    archive.add_dataset({"report.pdf": b"x"}, exam=exam.id)
    base = "/projects/P/exams/E"
    at(tree, base)
    archive.calls.clear()
    assert set(names(tree, base)) == {"S0", "S1", "S2", "S3", "S4", "report.pdf"}
    for number in range(5):
        assert names(tree, f"{base}/S{number}") == ["DICOM"]
        assert names(tree, f"{base}/S{number}/DICOM") == ["a.dcm", "b.dcm"]
    assert archive.calls == [f"exam_tree {exam.id}"]


@pytest.mark.parametrize("error", [NotFound("no such endpoint"), ProtocolError("another form of tree")])
def test_a_server_without_the_tree_call_shows_the_same(tree, archive, error):
    archive.missing_call_error = error
    project = archive.add_project("P")
    exam = archive.add_exam(project.id, "E")
    series = archive.add_series(exam.id, "S")
    archive.add_dataset({"x.nii": b"x"}, series=series.id)
    archive.add_dataset({"report.pdf": b"x"}, exam=exam.id)
    archive.without = {"exam_tree"}
    assert set(names(tree, "/projects/P/exams/E")) == {"S", "report.pdf"}
    assert names(tree, "/projects/P/exams/E/S") == ["x.nii"]


def test_a_dataset_of_a_series_that_nobody_lists_is_shown_in_its_exam(tree, archive):
    """Nothing is lost when two answers of a server do not agree."""
    archive.without = {"exam_tree"}
    exam = archive.add_exam(archive.add_project("P").id, "E")
    series = archive.add_series(exam.id, "S")
    archive.add_dataset({"seen": b"1"}, series=series.id)
    answer = archive.exam_files
    lost = archive.add_dataset({"lost": b"2"}, series=4711)
    archive.exam_files = lambda exam_id: [*answer(exam_id), lost]
    assert names(tree, "/projects/P/exams/E") == ["S", "lost"]
    assert names(tree, "/projects/P/exams/E/S") == ["seen"]


def test_a_listing_that_has_to_be_completed_does_not_wait_for_another_that_hangs(tree, archive):
    root = archive.add_project("P").root_folder
    hanging, quick = archive.add_folder("hanging", root), archive.add_folder("quick", root)
    stuck = {archive.add_dataset({f"{n}": b"x"}, folder=hanging.id).id for n in range(8)}
    archive.add_dataset({"here": b"x"}, folder=quick.id)
    archive.bare_datasets = True
    answer, release, begun = archive.dataset_datafiles, threading.Event(), threading.Semaphore(0)

    def datafiles(dataset_id: int):
        if dataset_id in stuck:
            begun.release()
            assert release.wait(20)
        return answer(dataset_id)

    archive.dataset_datafiles = datafiles
    reader = threading.Thread(target=names, args=(tree, "/projects/P/folders/hanging"))
    reader.start()
    try:
        assert begun.acquire(timeout=20)
        assert names(tree, "/projects/P/folders/quick") == ["here"]
    finally:
        release.set()
        reader.join(20)


def test_answers_without_datafiles_are_completed_never_taken_for_empty(tree, archive):
    project = archive.add_project("P")
    exam = archive.add_exam(project.id, "E")
    series = archive.add_series(exam.id, "S")
    archive.add_dataset({"x.nii": b"x"}, series=series.id)
    archive.add_dataset({"y.txt": b"x"}, folder=project.root_folder)
    archive.bare_datasets = True
    assert names(tree, "/projects/P/folders") == ["y.txt"]
    assert names(tree, "/projects/P/exams/E/S") == ["x.nii"]


def test_a_listing_is_served_from_memory_until_its_ttl_and_not_after(tree, archive, clock):
    """What another client adds appears when the listing expires, not before."""
    project = archive.add_project("P")
    names(tree, "/projects/P/folders")
    archive.add_dataset({"new.txt": b"x"}, folder=project.root_folder)
    clock.advance(TTL_S - 0.001)
    assert names(tree, "/projects/P/folders") == []
    clock.advance(0.002)
    assert names(tree, "/projects/P/folders") == ["new.txt"]


def test_refresh_shows_what_is_new_at_once_in_the_directory_and_below(tree, archive):
    project = archive.add_project("P")
    sub = archive.add_folder("sub", project.root_folder)
    names(tree, "/projects/P/folders/sub")
    archive.add_dataset({"new.txt": b"x"}, folder=sub.id)
    archive.add_folder("newer", project.root_folder)
    tree.refresh(("projects", "P"))
    assert names(tree, "/projects/P/folders") == ["sub", "newer"]
    assert names(tree, "/projects/P/folders/sub") == ["new.txt"]


def test_refresh_names_every_known_path_that_may_look_different_without_a_request(tree, archive):
    """… for the kernel, which believes names and attributes by itself for a while."""
    project = archive.add_project("P")
    sub = archive.add_folder("sub", project.root_folder)
    archive.add_dataset({"x.txt": b"x"}, folder=sub.id)
    archive.add_folder("unknown below", sub.id)
    names(tree, "/projects/P/folders/sub")
    archive.calls.clear()
    below = tree.refresh_all()
    assert archive.calls == []
    assert {"/", "/projects/P/folders/sub/x.txt", "/projects/P/folders/sub/unknown below"} <= set(below)
    names(tree, "/projects/P/folders/sub")
    assert "/projects/P/folders/sub/x.txt" in tree.refresh(("projects",))


def test_refresh_finds_a_path_that_did_not_exist_a_moment_ago(tree, archive):
    project = archive.add_project("P")
    names(tree, "/projects/P/folders")
    archive.add_folder("new", project.root_folder)
    assert "/projects/P/folders/new" in tree.refresh(("projects", "P", "folders", "new"))
    with pytest.raises(NotFound):
        tree.refresh(("projects", "P", "folders", "never"))


def test_an_unreachable_server_takes_nothing_away_that_was_there(tree, archive, clock):
    """Unreachable is never shown as deleted."""
    project = archive.add_project("P")
    archive.add_folder("known", project.root_folder)
    archive.add_folder("unknown", project.root_folder)
    names(tree, "/projects/P/folders/known")
    archive.fail_with = RemoteUnavailable("away")
    clock.advance(TTL_S + 1)
    assert names(tree, "/projects/P/folders") == ["known", "unknown"]
    assert names(tree, "/projects/P/folders/known") == []
    with pytest.raises(RemoteUnavailable):
        names(tree, "/projects/P/folders/unknown")


def test_looking_below_a_file_or_for_an_endless_name_fails_as_in_posix(tree, archive):
    project = archive.add_project("P")
    archive.add_dataset({"x": b"x"}, folder=project.root_folder)
    with pytest.raises(NotADirectory):
        at(tree, "/projects/P/folders/x/y")
    with pytest.raises(NotFound):
        at(tree, "/projects/P/folders/y")
    with pytest.raises(NameTooLong):
        at(tree, f"/projects/P/folders/{'n' * 256}")


def test_an_observer_and_a_locked_exam_allow_no_change(tree, archive):
    seen = archive.add_project("Seen", roles=[(archive.user.id, Role.OBSERVER)])
    own = archive.add_project("Own", roles=[(archive.user.id, Role.SCIENTIST)])
    for project in (seen, own):
        archive.add_exam(project.id, "E")
        exam = archive.add_exam(project.id, "Locked", locked=True)
        archive.add_series(exam.id, "S")
    assert not at(tree, "/projects/Seen/exams/E").may_change
    assert at(tree, "/projects/Own/exams/E").may_change
    assert not at(tree, "/projects/Own/exams/Locked").may_change
    assert not at(tree, "/projects/Own/exams/Locked/S").may_change


def test_inode_numbers_are_the_same_in_every_mount(archive, clock):
    """Inode numbers are the same in every mount."""
    project = archive.add_project("P")
    exam = archive.add_exam(project.id, "E", patient=archive.add_patient("X").id)
    series = archive.add_series(exam.id, "S")
    archive.add_dataset({"d/a": b"1", "d/b": b"2"}, series=series.id, name="ds")
    archive.add_item(project.root_folder, "exam", exam.id, exam, is_link=True)

    def inodes():
        tree = Tree(
            archive, user=archive.user, my_agora=None, freshness=Freshness(), max_entries=1000, clock=clock
        )
        found = {}
        waiting = [tree.root]
        while waiting:
            node = waiting.pop()
            found[node.path] = node.entry.ino
            if node.entry.is_directory:
                waiting.extend(tree.children(node))
        tree.close()
        return found

    first = inodes()
    assert first == inodes()
    assert len(set(first.values())) == len(first)
    assert "/projects/P/exams/E/S/ds/d/a" in first


def test_what_was_removed_leaves_the_listing_without_another_request(tree, archive):
    """Removing many files one by one costs one listing."""
    project = archive.add_project("P")
    datasets = [archive.add_dataset({name: b"x"}, folder=project.root_folder) for name in ("a", "b", "c")]
    parts = ("projects", "P", "folders")
    folder = tree.resolve(parts)
    assert [node.entry.name for node in tree.children(folder)] == ["a", "b", "c"]
    archive.calls.clear()
    archive.remove_item(project.root_folder, datasets[1].id)
    tree.removed(RemoteRef(Kind.DATASET, datasets[1].id))
    assert [node.entry.name for node in tree.children(folder)] == ["a", "c"]
    assert archive.calls == []


def test_when_a_name_passes_to_a_sibling_the_listing_is_asked_for_again(tree, archive):
    project = archive.add_project("P")
    first, second = (archive.add_dataset({"a.txt": b"x"}, folder=project.root_folder) for _ in range(2))
    folder = tree.resolve(("projects", "P", "folders"))
    assert [node.entry.name for node in tree.children(folder)] == ["a.txt", f"a ({second.id}).txt"]
    archive.remove_item(project.root_folder, first.id)
    tree.removed(RemoteRef(Kind.DATASET, first.id))
    assert [node.entry.name for node in tree.children(folder)] == ["a.txt"]


def test_a_file_of_a_group_is_found_under_the_name_it_was_written_with(tree, archive):
    """It is listed in the directory of its dataset only."""
    project = archive.add_project("P")
    archive.add_dataset({"scan.par": b"1", "scan.rec": b"22"}, folder=project.root_folder, name="scan")
    archive.add_dataset({"a": b"1", "scan.log": b"2"}, folder=project.root_folder, name="one")
    archive.add_dataset({"b": b"1", "scan.log": b"2"}, folder=project.root_folder, name="two")
    folder = tree.resolve(("projects", "P", "folders"))
    assert [node.entry.name for node in tree.children(folder)] == ["scan", "one", "two"]
    listed = tree.resolve(("projects", "P", "folders", "scan", "scan.rec"))
    found = tree.resolve(("projects", "P", "folders", "scan.rec"))
    assert (found.entry.ino, found.entry.target) == (listed.entry.ino, listed.entry.target)
    for name in ("scan.log", "missing"):
        with pytest.raises(NotFound):
            tree.resolve(("projects", "P", "folders", name))
