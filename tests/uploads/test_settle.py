"""What is left to do on the server when files have arrived: replace, take back, link, directories."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agorafs.client.annotations import ParameterSet
from agorafs.client.records import Kind
from agorafs.errors import NotAuthenticated, PermissionDenied, ProtocolError, RemoteUnavailable
from agorafs.uploads.chunk_sending import Stopped
from agorafs.uploads.values import Anchor, Disposition
from tests.uploads.settling import Arrival, entry, sha1_of


@pytest.fixture
def arrival(tmp_path):
    one = Arrival(tmp_path / "state")
    yield one
    one.close()


def replacing(arrival, *, name="a.txt", old=b"old", new=b"new"):
    """A file of the root was replaced, and its new version has arrived; return the old dataset."""
    dataset = arrival.server.add_dataset({name: old}, folder=arrival.root)
    arrival.write(name, new, replaces=arrival.server.replaced(dataset))
    arrival.has_ended(arrival.store(arrival.seal()[name]))
    return dataset


# -- replacing ----------------------------------------------------------------------------------------


def test_the_old_version_is_deleted_after_the_new_one_was_verified(arrival):
    """The old version of a file is removed only after the new one has been verified."""
    replacing(arrival)
    arrival.settle()
    assert arrival.server.tree() == {"a.txt": (b"new", (None, None), [])}
    assert arrival.local_tree() == {}


def test_tags_rating_and_own_parameters_pass_to_the_new_version(arrival):
    old = replacing(arrival)
    own = ParameterSet(1, "mine", False, ({"Name": "x", "Value": 1},))
    arrival.server.tag_ids[old.id] = [3, 4]
    arrival.server.ratings[old.id] = 5
    arrival.server.sets[old.id] = [own, ParameterSet(2, "scanner", True, ())]
    arrival.settle()
    assert arrival.server.tree() == {"a.txt": (b"new", ([3, 4], 5), [("mine", own.parameters)])}


def test_links_in_other_folders_show_the_new_version(arrival):
    old = replacing(arrival)
    other = arrival.server.add_folder("other", arrival.root)
    arrival.server.add_item(other.id, "dataset", old.id, old, is_link=True)
    arrival.settle()
    assert arrival.server.tree()["other/->a.txt"] == (b"new", (None, None), [])
    assert (Kind.FOLDER, other.id) in arrival.refreshed


@pytest.mark.parametrize(
    "error", [PermissionDenied("no"), ProtocolError("no", 400)], ids=["forbidden", "bad request"]
)
@pytest.mark.parametrize("call", ["tags_of", "rating", "parameter_sets", "tag", "rate", "dataset_folders"])
def test_what_the_server_refuses_to_hand_over_is_logged_and_the_rest_goes_on(arrival, call, error, caplog):
    old = replacing(arrival)
    arrival.server.tag_ids[old.id] = [3]
    arrival.server.ratings[old.id] = 5
    arrival.server.refuse[call] = error
    arrival.settle()
    assert arrival.server.names(arrival.root) == ["a.txt"]
    assert "kept" in caplog.text


@pytest.mark.parametrize(
    "error", [RemoteUnavailable("away"), NotAuthenticated("key"), ProtocolError("garbage")]
)
@pytest.mark.parametrize("call", ["tags_of", "tag", "delete_folder_item", "dataset_folders"])
def test_trouble_with_the_server_is_raised_and_later_all_is_done(arrival, call, error):
    old = replacing(arrival)
    arrival.server.tag_ids[old.id] = [3]
    arrival.server.refuse[call] = error
    with pytest.raises(type(error)):
        arrival.settle()
    assert list(arrival.local_tree()) == ["a.txt"]
    arrival.server.refuse.clear()
    arrival.settle()
    assert arrival.server.tree() == {"a.txt": (b"new", ([3], None), [])}
    assert arrival.local_tree() == {}


def test_identical_bytes_that_led_to_the_old_dataset_delete_nothing(arrival):
    dataset = arrival.server.add_dataset({"a.txt": b"same"}, folder=arrival.root)
    arrival.write("a.txt", b"same", replaces=arrival.server.replaced(dataset))
    arrival.has_ended(entry(arrival.seal()["a.txt"], dataset, created=False))
    arrival.settle()
    assert arrival.server.names(arrival.root) == ["a.txt"]
    assert arrival.server.made == []
    assert arrival.local_tree() == {}


def test_an_old_version_that_somebody_else_has_changed_stays(arrival, caplog):
    old = replacing(arrival)
    arrival.server.change_content(old, b"theirs")
    arrival.settle()
    assert sorted(content for content, *_ in arrival.server.tree().values()) == [b"new", b"theirs"]
    assert "is not what it was" in caplog.text


def test_an_old_version_that_has_become_part_of_a_larger_dataset_stays(arrival):
    old = replacing(arrival)
    more = arrival.server.add_dataset({"b.txt": b"more"})
    arrival.server._put(replace(old, datafiles=(*old.datafiles, *more.datafiles)))
    arrival.settle()
    assert old.id in arrival.server._datasets


def test_a_link_is_never_taken_for_the_old_version(arrival):
    elsewhere = arrival.server.add_folder("elsewhere", arrival.root)
    dataset = arrival.server.add_dataset({"a.txt": b"old"}, folder=elsewhere.id)
    link = arrival.server.add_item(arrival.root, "dataset", dataset.id, dataset, is_link=True)
    remembered = arrival.server.replaced(dataset, elsewhere.id)._replace(item=link.id)
    arrival.write("a.txt", b"new", replaces=remembered)
    arrival.has_ended(arrival.store(arrival.seal()["a.txt"]))
    arrival.settle()
    assert arrival.server.names(elsewhere.id) == ["a.txt"]
    assert arrival.server.names(arrival.root) == ["->a.txt", "a.txt", "elsewhere/"]


def test_an_old_version_that_is_gone_already_is_no_trouble(arrival):
    old = replacing(arrival)
    arrival.server.delete_folder_item(arrival.server.own_item(arrival.root, old.id).id)
    arrival.settle()
    assert arrival.server.names(arrival.root) == ["a.txt"]


def test_an_old_version_that_was_moved_is_found_by_its_folder(arrival):
    elsewhere = arrival.server.add_folder("elsewhere", arrival.root)
    dataset = arrival.server.add_dataset({"a.txt": b"old"}, folder=elsewhere.id)
    arrival.write("b.txt", b"new", replaces=arrival.server.replaced(dataset, elsewhere.id))
    arrival.has_ended(arrival.store(arrival.seal()["b.txt"]))
    arrival.settle()
    assert list(arrival.server.tree()) == ["elsewhere/", "b.txt"]


def test_a_refused_deletion_leaves_both_versions_and_the_file_is_stored(arrival, caplog):
    replacing(arrival)
    arrival.server.refuse["delete_folder_item"] = PermissionDenied("locked")
    arrival.settle()
    assert arrival.server.names(arrival.root) == ["a.txt", "a.txt"]
    assert arrival.local_tree() == {}
    assert "stays: locked" in caplog.text


def test_a_failed_upload_deletes_nothing(arrival):
    dataset = arrival.server.add_dataset({"a.txt": b"old"}, folder=arrival.root)
    arrival.write("a.txt", b"new", replaces=arrival.server.replaced(dataset))
    arrival.seal()
    arrival.has_ended()
    arrival.settle()
    assert arrival.server.made == []
    assert list(arrival.local_tree()) == ["a.txt"]


def test_two_files_that_replace_one_dataset_both_get_what_belongs_to_it(arrival):
    dataset = arrival.server.add_dataset({"a.txt": b"old"}, folder=arrival.root)
    arrival.server.tag_ids[dataset.id] = [3]
    replaced = arrival.server.replaced(dataset)
    arrival.write("a.txt", b"new", replaces=replaced)
    arrival.write("b.txt", b"newer", replaces=replaced)
    arrival.has_ended(*(arrival.store(upload) for upload in arrival.seal().values()))
    arrival.settle()
    assert arrival.server.tree() == {
        "a.txt": (b"new", ([3], None), []),
        "b.txt": (b"newer", ([3], None), []),
    }


# -- what the user did meanwhile ----------------------------------------------------------------------


def test_a_file_that_was_changed_on_the_way_will_replace_the_version_that_arrived(arrival):
    old = arrival.server.add_dataset({"a.txt": b"old"}, folder=arrival.root)
    node = arrival.write("a.txt", b"new", replaces=arrival.server.replaced(old))
    upload = arrival.seal()["a.txt"]
    arrival.local.rewrite(node, b"newer")
    said = arrival.store(upload)
    arrival.has_ended(said)
    arrival.settle()

    assert arrival.server.tree() == {"a.txt": (b"new", (None, None), [])}
    assert node.replaces is not None
    assert (node.replaces.dataset, node.replaces.sha1) == (said["dataset"], sha1_of(b"new"))
    assert arrival.local.read(node) == b"newer"


def test_a_file_that_was_removed_on_the_way_is_removed_from_the_server_too(arrival):
    node = arrival.write("a.txt", b"one")
    upload = arrival.seal()["a.txt"]
    arrival.local.uploads.remove(node)
    arrival.has_ended(arrival.store(upload))
    arrival.settle()
    assert arrival.server.tree() == {}
    assert arrival.local.journal.batches() == []


def test_a_removed_file_that_was_on_the_server_before_stays_there(arrival):
    node = arrival.write("a.txt", b"one")
    upload = arrival.seal()["a.txt"]
    arrival.local.uploads.remove(node)
    dataset = arrival.server.add_dataset({"a.txt": b"one"}, folder=arrival.root)
    arrival.has_ended(entry(upload, dataset, created=False))
    arrival.settle()
    assert arrival.server.names(arrival.root) == ["a.txt"]


def seal_all_the_same(arrival):
    """Sealing waits for what is on its way to the same place; an earlier version did not."""
    arrival.local.store.locked_is_arriving = lambda anchor, target: False


def removed_and_written_again(arrival):
    """A file travelled, was removed, and written again with the same bytes: both batches led to one dataset."""
    node = arrival.write("a.txt", b"one")
    upload = arrival.seal()["a.txt"]
    said = arrival.store(upload)
    arrival.has_ended(said)
    first = arrival.batch
    arrival.local.uploads.remove(node)
    arrival.write("a.txt", b"one")
    seal_all_the_same(arrival)
    arrival.seal()
    arrival.has_ended({**said, "created": False})
    return first, arrival.batch


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["the first first", "the second first"])
def test_a_file_that_was_removed_and_written_again_with_the_same_bytes_is_there(arrival, order):
    batches = removed_and_written_again(arrival)
    settler = arrival.settler()
    for index in order:
        settler.settle(batches[index])
    assert arrival.server.names(arrival.root) == ["a.txt"]
    assert arrival.local_tree() == {}


def test_bytes_that_a_later_batch_is_about_to_bring_again_are_not_removed(arrival):
    node = arrival.write("a.txt", b"one")
    arrival.has_ended(arrival.store(arrival.seal()["a.txt"]))
    first = arrival.batch
    arrival.local.uploads.remove(node)
    arrival.write("a.txt", b"one")
    seal_all_the_same(arrival)
    arrival.local.fall_quiet()
    arrival.settler().settle(first)
    assert arrival.server.names(arrival.root) == ["a.txt"]


def test_an_old_version_that_a_later_batch_has_led_to_is_not_deleted(arrival):
    old = replacing(arrival)
    first = arrival.batch
    arrival.local.uploads.remove(arrival.local.uploads.find(arrival.anchor, "a.txt"))
    arrival.write("a.txt", b"old")
    seal_all_the_same(arrival)
    arrival.has_ended(entry(arrival.seal()["a.txt"], old, created=False))
    settler = arrival.settler()
    settler.settle(arrival.batch)
    settler.settle(first)
    assert old.id in arrival.server._datasets
    assert arrival.local_tree() == {}


def test_a_dataset_that_was_led_to_once_can_be_replaced_later(arrival):
    settler = arrival.settler()
    for batch in removed_and_written_again(arrival):
        settler.settle(batch)
    (item,) = arrival.server.folder_items(arrival.root)
    arrival.write("a.txt", b"two", replaces=arrival.server.replaced(item.content))
    arrival.has_ended(arrival.store(arrival.seal()["a.txt"]))
    settler.settle(arrival.batch)
    assert arrival.server.tree() == {"a.txt": (b"two", (None, None), [])}


def pair(arrival):
    nodes = [arrival.write("x.par", b"par"), arrival.write("x.rec", b"rec")]
    uploads = arrival.seal()
    dataset = arrival.server.add_dataset({"x.par": b"par", "x.rec": b"rec"}, folder=arrival.root)
    arrival.has_ended(*(entry(upload, dataset) for upload in uploads.values()))
    return nodes


@pytest.mark.parametrize("removed", [0, 1])
def test_half_of_a_pair_that_was_removed_stays_with_the_other_half(arrival, removed):
    arrival.local.uploads.remove(pair(arrival)[removed])
    arrival.settle()
    assert list(arrival.server.tree()) == ["x.par", "x.rec"]
    assert arrival.local.journal.batches() == []


def test_a_pair_that_was_removed_whole_is_removed_once(arrival):
    for node in pair(arrival):
        arrival.local.uploads.remove(node)
    arrival.settle()
    assert arrival.server.tree() == {}
    assert len(arrival.server.made) == 1


def test_a_pair_of_which_one_is_removed_just_after_the_other_is_removed_whole(arrival, monkeypatch):
    first, second = pair(arrival)
    arrival.local.uploads.remove(first)
    settle = arrival.local.arrivals.settled

    def settled(*arguments):
        answer = settle(*arguments)
        if second.id and arrival.local.store.overlay.is_there(second):
            arrival.local.uploads.remove(second)
        return answer

    monkeypatch.setattr(arrival.local.arrivals, "settled", settled)
    arrival.settle()
    assert arrival.server.tree() == {}


def test_a_dataset_that_held_more_before_is_not_removed_with_what_was_added_to_it(arrival):
    node = arrival.write("x.rec", b"rec")
    upload = arrival.seal()["x.rec"]
    dataset = arrival.server.add_dataset({"x.par": b"par", "x.rec": b"rec"}, folder=arrival.root)
    arrival.local.uploads.remove(node)
    arrival.has_ended(entry(upload, dataset))
    arrival.settle()
    assert list(arrival.server.tree()) == ["x.par", "x.rec"]


def test_what_the_user_does_at_the_last_moment_is_looked_at_again(arrival, monkeypatch):
    node = arrival.write("a.txt", b"one")
    arrival.has_ended(arrival.store(arrival.seal()["a.txt"]))
    arrivals = arrival.local.arrivals
    ask, seen = arrivals.disposition, []

    def disposition(upload_id):
        seen.append(ask(upload_id))
        if len(seen) == 1:
            arrival.local.uploads.remove(node)
        return seen[-1]

    monkeypatch.setattr(arrivals, "disposition", disposition)
    arrival.settle()
    assert seen[:2] == [Disposition.CURRENT, Disposition.GONE]
    assert arrival.server.tree() == {}


# -- studies ------------------------------------------------------------------------------------------


def study(arrival, *targets):
    """Files were written that became part of one exam."""
    nodes = [arrival.write(target, target.encode()) for target in targets]
    exam = arrival.server.add_exam(arrival.server.project.id, "Brain")
    series = arrival.server.add_series(exam.id, "T1")
    uploads = arrival.seal()
    arrival.has_ended(*(arrival.store(upload, series=series.id) for upload in uploads.values()))
    return exam, series, nodes


def test_files_that_became_a_study_give_way_to_one_link_to_the_exam(arrival):
    exam, series, _ = study(arrival, "d/1.dcm", "d/2.dcm")
    arrival.settle()
    assert arrival.server.tree() == {"->exam Brain": None}
    assert arrival.local_tree() == {}
    told = {(Kind.EXAM, exam.id), (Kind.SERIES, series.id), (Kind.PROJECT, exam.project)}
    assert told | {(Kind.FOLDER, arrival.root)} <= set(arrival.refreshed)


def test_the_link_goes_into_the_deepest_folder_that_there_is(arrival):
    arrival.server.add_folder("d", arrival.root)
    study(arrival, "d/e/1.dcm")
    arrival.settle()
    assert arrival.server.tree() == {"d/": None, "d/->exam Brain": None}


def test_an_exam_that_the_folder_shows_already_is_not_linked_again(arrival):
    exam, _, _ = study(arrival, "1.dcm")
    arrival.server.add_item(arrival.root, "exam", exam.id, exam, is_link=True)
    arrival.settle()
    assert arrival.server.made == []


def test_links_to_exams_can_be_switched_off(arrival):
    arrival.link_exams = False
    study(arrival, "1.dcm")
    arrival.settle()
    assert arrival.server.made == []


def test_a_refused_link_does_not_hinder(arrival):
    study(arrival, "1.dcm")
    arrival.server.refuse["link exam"] = PermissionDenied("no")
    arrival.settle()
    assert arrival.local_tree() == {}


def test_removed_files_that_became_a_study_stay_there_and_one_warning_says_so(arrival, caplog):
    _, _, nodes = study(arrival, "1.dcm", "2.dcm")
    for node in nodes:
        arrival.local.uploads.remove(node)
    arrival.settle()
    assert arrival.server.made == []
    assert caplog.text.count("stays there") == 1


# -- directories --------------------------------------------------------------------------------------


def test_empty_directories_become_folders(arrival):
    arrival.write("a.txt", b"one")
    arrival.directory("d/e")
    arrival.has_ended(arrival.store(arrival.seal()["a.txt"]))
    arrival.settle()
    assert list(arrival.server.tree()) == ["a.txt", "d/", "d/e/"]
    assert arrival.local_tree() == {}


def test_a_directory_that_came_into_being_on_the_server_meanwhile_is_taken(arrival):
    arrival.write("a.txt", b"one")
    arrival.directory("d")
    arrival.has_ended(arrival.store(arrival.seal()["a.txt"]))
    arrival.server.add_folder("d", arrival.root)
    arrival.settle()
    assert arrival.server.made == []
    assert arrival.local_tree() == {}


def test_an_empty_directory_in_one_that_became_a_study_goes_with_it(arrival):
    study(arrival, "d/1.dcm")
    arrival.settle()
    arrival.server.made.clear()
    arrival.directory("s/empty")
    study(arrival, "s/1.dcm")
    arrival.settle()
    assert not [one for one in arrival.server.made if one.startswith("create_folder")]


def test_a_directory_that_was_removed_on_the_way_is_removed_from_the_server_when_it_is_empty(arrival):
    node = arrival.write("d/a.txt", b"one")
    directory = arrival.directory("d")
    upload = arrival.seal()["d/a.txt"]
    arrival.local.uploads.remove(node)
    arrival.local.uploads.remove(directory)
    arrival.has_ended(arrival.store(upload))
    arrival.settle()
    assert arrival.server.tree() == {}


def test_a_removed_directory_with_something_in_it_stays(arrival):
    node = arrival.write("d/a.txt", b"one")
    directory = arrival.directory("d")
    upload = arrival.seal()["d/a.txt"]
    arrival.local.uploads.remove(node)
    arrival.local.uploads.remove(directory)
    arrival.has_ended(arrival.store(upload))
    folder = arrival.server.folder_called(arrival.root, "d")
    arrival.server.add_item(folder, "something new", 99, None)  # a kind that agorafs does not know
    arrival.settle()
    assert next(iter(arrival.server.tree())) == "d/"


def test_a_directory_that_another_batch_made_a_folder_is_not_taken_for_removed(arrival):
    arrival.write("a.txt", b"one")
    arrival.directory("d")
    first = arrival.seal()["a.txt"]
    first_batch = arrival.batch
    arrival.has_ended(arrival.store(first))
    arrival.write("b.txt", b"two")
    second = arrival.seal()["b.txt"]
    arrival.has_ended(arrival.store(second))
    arrival.settler().settle(arrival.local.journal.batch(first_batch.id))
    arrival.settle()
    assert list(arrival.server.tree()) == ["a.txt", "b.txt", "d/"]


def test_directories_of_failed_files_become_the_folders_that_are_there(arrival):
    arrival.write("d/a.txt", b"one")
    arrival.write("d/b.txt", b"two")
    arrival.has_ended(arrival.store(arrival.seal()["d/a.txt"]))
    arrival.settle()
    folder = arrival.server.folder_called(arrival.root, "d")
    (node,) = arrival.local.store.overlay.everything()
    assert (node.name, node.parent) == ("b.txt", (Kind.FOLDER, folder))


def is_seen(arrival, path):
    """Tell whether who looks for *path* finds it: where there is no local node the folder of the server is listed."""
    place = arrival.anchor
    for name in path.split("/"):
        node = arrival.local.uploads.find(place, name)
        if node is not None:
            place = node
        elif not isinstance(place, Anchor):
            return False
        elif f"{name}/" in (names := arrival.server.names(place.id)):
            place = Anchor(Kind.FOLDER, arrival.server.folder_called(place.id, name))
        else:
            return name in names
    return True


def test_files_in_new_directories_are_seen_at_every_moment_while_they_are_settled(arrival, monkeypatch):
    """A directory is the server's folder before the first file in it is the server's."""
    targets = ["a.txt", "d/b.txt", "d/c.txt", "d/e/f.txt"]
    for number, target in enumerate(targets):
        arrival.write(target, bytes([number]))
    arrival.directory("d/nothing in it")
    uploads = arrival.seal()
    arrival.has_ended(*(arrival.store(upload) for upload in uploads.values()))
    looks = []
    steps = arrival.steps.step

    def look():
        steps()
        looks.append([target for target in (*targets, "d/nothing in it") if not is_seen(arrival, target)])

    monkeypatch.setattr(arrival.steps, "step", look)
    arrival.settle()
    assert len(looks) > 10 and not any(looks), looks
    assert arrival.local_tree() == {}


def test_a_directory_that_the_archive_can_not_hold_keeps_those_above_it_until_all_is_settled(arrival):
    """What became a study takes its directory along also when the one above is a folder."""
    arrival.write("d/a.txt", b"one")
    arrival.write("d/study/1.dcm", b"two")
    uploads = arrival.seal()
    exam = arrival.server.add_exam(arrival.server.project.id, "Brain")
    series = arrival.server.add_series(exam.id, "T1")
    arrival.has_ended(
        arrival.store(uploads["d/a.txt"]), arrival.store(uploads["d/study/1.dcm"], series=series.id)
    )
    arrival.settle()
    assert arrival.local_tree() == {}


# -- order --------------------------------------------------------------------------------------------


def test_listings_are_refreshed_after_the_server_changed_and_before_the_local_file_goes(arrival):
    replacing(arrival)
    arrival.settle()
    calls = arrival.steps.calls
    changed = calls.index("delete_folder_item")
    assert "refresh" in calls[changed : calls.index("settled")]
    assert calls.index("settled") < calls.index("finish")


def test_the_next_mount_goes_on_when_this_one_ends(arrival):
    arrival.write("a.txt", b"one")
    arrival.write("b.txt", b"two")
    arrival.has_ended(*(arrival.store(upload) for upload in arrival.seal().values()))
    arrival.local.store.closing.set()
    with pytest.raises(Stopped):
        arrival.settle()
    assert sorted(arrival.local_tree()) == ["a.txt", "b.txt"]
    arrival.local.store.closing.clear()
    arrival.settle()
    assert arrival.local_tree() == {}


def test_what_an_upload_would_replace_stays_when_it_is_cancelled_while_its_batch_is_settled(
    arrival, monkeypatch
):
    old = replacing(arrival)
    node = arrival.local.uploads.find(arrival.anchor, "a.txt")
    disposition = arrival.local.arrivals.disposition

    def cancelled_before(upload_id):
        monkeypatch.undo()
        arrival.local.report.cancel(node)
        return disposition(upload_id)

    monkeypatch.setattr(arrival.local.arrivals, "disposition", cancelled_before)
    arrival.settle()
    assert old.id in arrival.server._datasets
    assert arrival.server.tree() == {"a.txt": (b"old", (None, None), [])}


# -- what was said of local files ---------------------------------------------------------------------


def test_what_was_said_of_a_local_file_is_said_of_the_stored_one_before_the_local_one_goes(arrival):
    node = arrival.write("a.txt", b"1")
    assert arrival.local.uploads.say(node, lambda said: {**said, "user.agora.rating": "4"})
    arrival.local.restart()
    stored = arrival.store(arrival.seal()["a.txt"])
    arrival.has_ended(stored)
    arrival.settle()
    assert arrival.said == [(stored["dataset"], {"user.agora.rating": "4"})]
    assert arrival.local_tree() == {}
    assert arrival.local.journal.said(node.id or 1) == {}


def test_what_is_said_while_a_file_is_being_settled_is_not_lost(arrival):
    """Between the moment when it was said of the stored file and that when the local one goes."""
    node = arrival.write("a.txt", b"1")
    arrival.has_ended(arrival.store(arrival.seal()["a.txt"]))
    say = arrival.local.uploads.say
    settled = arrival.local.arrivals.settled
    late = iter(["4"])

    def rate_first(*arguments):
        stars = next(late, None)
        if stars is not None:
            assert say(node, lambda before: {"user.agora.rating": stars})
        return settled(*arguments)

    arrival.local.arrivals.settled = rate_first
    arrival.settle()
    assert [said for _, said in arrival.said] == [{"user.agora.rating": "4"}]
    assert not say(node, lambda before: {"user.agora.rating": "5"}), "it is stored"


def test_what_is_said_of_a_file_goes_with_it_when_it_is_renamed_or_removed(arrival):
    uploads, journal = arrival.local.uploads, arrival.local.journal
    node = arrival.write("a.txt", b"1")
    other = arrival.write("b.txt", b"2")
    uploads.say(node, lambda said: {"user.agora.rating": "4"})
    uploads.say(other, lambda said: {"user.agora.rating": "1", "user.agora.tags": "kept"})
    uploads.rename(node, arrival.anchor, "b.txt", over=other)
    assert uploads.said(node) == {"user.agora.rating": "4", "user.agora.tags": "kept"}
    assert journal.said(2) == {}
    uploads.say(node, lambda said: {})
    assert uploads.said(node) == {}
    uploads.say(node, lambda said: {"user.agora.rating": "3"})
    number = node.id
    uploads.remove(node)
    assert journal.said(number) == {}
    assert not uploads.say(node, lambda said: {"user.agora.rating": "4"})


def test_what_the_server_refuses_to_be_told_does_not_keep_a_file_from_being_stored(arrival, monkeypatch):
    node = arrival.write("a.txt", b"1")
    arrival.local.uploads.say(node, lambda said: {"user.agora.rating": "4"})
    arrival.has_ended(arrival.store(arrival.seal()["a.txt"]))
    error: list[Exception] = [RemoteUnavailable("away")]

    def refuse(dataset, said):
        raise error[0]

    monkeypatch.setattr(arrival, "_say", refuse)
    with pytest.raises(RemoteUnavailable):
        arrival.settle()
    assert arrival.local_tree() == {"a.txt": ""}
    error[0] = PermissionDenied("no")
    arrival.settle()
    assert arrival.local_tree() == {}
