"""What counts as arrived: the result of the import, the dataset's files and the directory have to agree."""

from __future__ import annotations

import unicodedata
from dataclasses import replace

import pytest

from agorafs.client.records import Kind
from agorafs.errors import PermissionDenied, ProtocolError, RemoteUnavailable
from agorafs.uploads.values import Anchor, BatchState
from tests.uploads.settling import Arrival, entry, sha1_of


@pytest.fixture
def arrival(tmp_path):
    one = Arrival(tmp_path / "state")
    yield one
    one.close()


def test_a_file_that_the_result_and_the_listing_confirm_leaves_the_overlay_and_keeps_its_number(arrival):
    node = arrival.write("a.txt", b"one")
    uploads = arrival.seal()
    said = arrival.store(uploads["a.txt"])
    arrival.has_ended(said)
    arrival.settle()

    assert arrival.local_tree() == {}
    assert arrival.local.journal.batches() == []
    stored = arrival.local.uploads.stored_as(said["id"], sha1_of(b"one"))
    assert stored is not None and stored.ino == node.ino
    assert arrival.server.made == []


def test_the_bytes_are_offered_to_the_cache_under_the_stored_datafile(arrival):
    arrival.write("a.txt", b"one")
    said = arrival.store(arrival.seal()["a.txt"])
    arrival.has_ended(said)
    arrival.settle()

    ((datafile, content),) = arrival.adopted
    assert (datafile.id, datafile.sha1, datafile.size) == (said["id"], sha1_of(b"one"), 3)
    assert content == b"one"


def test_a_cache_that_can_not_take_the_bytes_does_not_hinder(arrival, monkeypatch):
    arrival.write("a.txt", b"one")
    arrival.has_ended(arrival.store(arrival.seal()["a.txt"]))

    def broken(datafile, path):
        raise OSError("no room")

    monkeypatch.setattr(arrival, "_adopt", broken)
    arrival.settle()
    assert arrival.local_tree() == {}


def test_paths_are_compared_in_nfc_and_without_dots_and_hashes_without_case(arrival):
    name = unicodedata.normalize("NFD", "é.txt")
    arrival.write(f"d/{name}", b"one")
    (upload,) = arrival.seal().values()
    said = arrival.store(upload)
    path = "./d//" + unicodedata.normalize("NFC", name)
    arrival.has_ended({**said, "path": path, "sha1": str(upload.sha1).upper()})
    arrival.settle()
    assert arrival.local_tree() == {}


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_of_two_folders_that_look_alike_the_one_with_the_very_name_is_meant(arrival, form):
    for each in ("NFC", "NFD"):
        arrival.server.add_folder(unicodedata.normalize(each, "é"), arrival.root)
    name = unicodedata.normalize(form, "é")
    arrival.write(f"{name}/a.txt", b"one")
    (upload,) = arrival.seal().values()
    said = arrival.store(upload)
    arrival.has_ended({**said, "created": False})
    arrival.settle()
    assert arrival.local_tree() == {}
    assert arrival.server.made == []


def test_other_bytes_on_the_server_fail_the_file_with_both_hashes(arrival):
    arrival.write("a.txt", b"one")
    upload = arrival.seal()["a.txt"]
    arrival.has_ended({**arrival.store(upload), "sha1": sha1_of(b"other")})
    arrival.settle()
    assert arrival.local_tree() == {
        "a.txt": f"the server holds other bytes (SHA-1 {sha1_of(b'other')} instead of {sha1_of(b'one')})"
    }


def test_a_result_that_its_own_listing_contradicts_is_not_believed(arrival):
    arrival.write("a.txt", b"one")
    upload = arrival.seal()["a.txt"]
    dataset = arrival.server.add_dataset({"a.txt": b"two"}, folder=arrival.root)
    arrival.has_ended(entry(upload, dataset))
    arrival.settle()
    assert "does not list these bytes" in arrival.local_tree()["a.txt"]


def test_the_size_has_to_agree_even_if_the_hash_does(arrival):
    """A file is forgotten here only after path, size and SHA-1 of what the server holds have been compared with it."""
    arrival.write("a.txt", b"one")
    upload = arrival.seal()["a.txt"]
    said = arrival.store(upload)
    dataset = arrival.server.dataset(said["dataset"])
    (datafile,) = dataset.datafiles
    arrival.server._put(replace(dataset, datafiles=(replace(datafile, size=2),)))
    arrival.has_ended(said)
    arrival.settle()
    assert "does not list these bytes" in arrival.local_tree()["a.txt"]


def test_a_dataset_that_is_not_there_confirms_nothing(arrival):
    arrival.write("a.txt", b"one")
    upload = arrival.seal()["a.txt"]
    arrival.has_ended({"path": "a.txt", "sha1": upload.sha1, "dataset": 4711, "created": True})
    arrival.settle()
    assert "dataset 4711, which is not there" in arrival.local_tree()["a.txt"]


def test_an_ignored_file_stays_with_the_servers_reason_and_the_others_are_settled(arrival):
    arrival.write("a.txt", b"one")
    node = arrival.write("b.tmp", b"two")
    uploads = arrival.seal()
    arrival.has_ended(arrival.store(uploads["a.txt"]), ignored=[{"path": "b.tmp", "reason": "not wanted"}])
    arrival.settle()
    assert arrival.local_tree() == {"b.tmp": "the server ignored this file: not wanted"}
    assert arrival.local.read(node) == b"two"


def test_a_file_that_the_result_leaves_out_is_looked_for_before_it_fails(arrival):
    arrival.write("d/a.txt", b"one")
    arrival.store(arrival.seal()["d/a.txt"])
    arrival.has_ended()
    arrival.settle()
    assert arrival.local_tree() == {}


@pytest.mark.parametrize("result", [{}, {"datafiles": None}, {"datafiles": "none"}])
def test_without_a_list_of_files_the_target_directory_decides(arrival, result):
    arrival.write("a.txt", b"one")
    arrival.write("b.txt", b"two")
    arrival.store(arrival.seal()["a.txt"])
    arrival.has_ended_with(result)
    arrival.settle()
    assert arrival.local_tree() == {"b.txt": "the server does not say what became of this file"}


def test_entries_that_make_no_sense_say_nothing(arrival):
    arrival.write("a.txt", b"one")
    upload = arrival.seal()["a.txt"]
    arrival.store(upload)
    arrival.has_ended_with({"datafiles": [None, 7, {}, {"path": 1}, {"path": "a.txt", "dataset": "x"}]})
    arrival.settle()
    assert arrival.local_tree() == {}


def test_a_file_of_the_same_bytes_under_another_name_is_not_taken_for_it(arrival):
    arrival.write("a.txt", b"one")
    arrival.seal()
    arrival.server.add_dataset({"b.txt": b"one"}, folder=arrival.root)
    arrival.has_ended()
    arrival.settle()
    assert arrival.local_tree() == {"a.txt": "the server ignored this file"}


def test_one_entry_answers_one_upload_only(arrival):
    names = [unicodedata.normalize(form, "é") for form in ("NFC", "NFD")]
    for name in names:
        arrival.write(name, name.encode())
    uploads = arrival.seal()
    arrival.has_ended(arrival.store(uploads[names[1]]))
    arrival.settle()
    assert arrival.local_tree() == {names[0]: "the server ignored this file"}


def test_a_pair_in_one_dataset_is_two_stored_files(arrival):
    arrival.write("s/x.par", b"par")
    arrival.write("s/x.rec", b"rec")
    uploads = arrival.seal()
    folder = arrival.server.folder_called(arrival.root, "s")
    dataset = arrival.server.add_dataset({"x.par": b"par", "x.rec": b"rec"}, folder=folder)
    arrival.has_ended(*(entry(upload, dataset) for upload in uploads.values()))
    arrival.settle()
    assert arrival.local_tree() == {}
    assert sorted(content for _, content in arrival.adopted) == [b"par", b"rec"]


def test_a_dataset_above_the_files_directory_holds_them_when_the_import_made_it(arrival):
    arrival.write("s/1/fid", b"fid")
    arrival.write("s/subject", b"subject")
    uploads = arrival.seal()
    folder = arrival.server.folder_called(arrival.root, "s")
    dataset = arrival.server.add_dataset({"1/fid": b"fid", "subject": b"subject"}, folder=folder)
    arrival.has_ended(*(entry(upload, dataset) for upload in uploads.values()))
    arrival.settle()
    assert "s/1/fid" not in arrival.local_tree()
    assert "s/subject" not in arrival.local_tree()


def test_answers_without_datafiles_cost_a_request_more_and_change_nothing(arrival):
    arrival.server.bare_datasets = True
    arrival.write("a.txt", b"one")
    arrival.has_ended(arrival.store(arrival.seal()["a.txt"]))
    arrival.settle()
    assert arrival.local_tree() == {}


def test_a_folder_of_many_files_costs_one_listing_and_not_a_request_each(arrival):
    for number in range(50):
        arrival.write(f"d/{number}", str(number).encode())
    said = [arrival.store(upload) for upload in arrival.seal().values()]
    arrival.has_ended(*said)
    arrival.server.calls.clear()
    arrival.settle()
    assert arrival.local_tree() == {}
    assert len(arrival.server.calls) <= 4


# -- content that the server has already --------------------------------------------------------------


def test_content_that_lies_elsewhere_is_copied_to_where_it_was_written(arrival):
    arrival.write("d/a.txt", b"one")
    upload = arrival.seal()["d/a.txt"]
    elsewhere = arrival.server.add_folder("elsewhere", arrival.root)
    dataset = arrival.server.add_dataset({"a.txt": b"one"}, folder=elsewhere.id)
    arrival.has_ended(entry(upload, dataset, created=False))
    arrival.settle()
    assert arrival.local_tree() == {}
    assert list(arrival.server.tree()) == ["elsewhere/", "elsewhere/a.txt", "d/", "d/a.txt"]


def test_a_pair_that_lies_elsewhere_is_copied_once(arrival):
    arrival.write("d/x.par", b"par")
    arrival.write("d/x.rec", b"rec")
    uploads = arrival.seal()
    elsewhere = arrival.server.add_folder("elsewhere", arrival.root)
    dataset = arrival.server.add_dataset({"x.par": b"par", "x.rec": b"rec"}, folder=elsewhere.id)
    arrival.has_ended(*(entry(upload, dataset, created=False) for upload in uploads.values()))
    arrival.settle()
    assert arrival.local_tree() == {}
    assert len([one for one in arrival.server.made if one.startswith("copy_dataset")]) == 1


def test_content_that_the_server_has_under_another_name_only_fails_and_says_so(arrival):
    arrival.write("b.txt", b"one")
    upload = arrival.seal()["b.txt"]
    dataset = arrival.server.add_dataset({"a.txt": b"one"}, folder=arrival.root)
    arrival.has_ended(entry(upload, dataset, created=False))
    arrival.settle()
    assert "already, as 'a.txt'" in arrival.local_tree()["b.txt"]


@pytest.mark.parametrize("error", [PermissionDenied("no"), ProtocolError("no", 400)])
def test_a_refused_copy_fails_the_file_with_the_servers_words(arrival, error):
    arrival.write("a.txt", b"one")
    upload = arrival.seal()["a.txt"]
    elsewhere = arrival.server.add_folder("elsewhere", arrival.root)
    dataset = arrival.server.add_dataset({"a.txt": b"one"}, folder=elsewhere.id)
    arrival.has_ended(entry(upload, dataset, created=False))
    arrival.server.refuse["copy_dataset"] = error
    arrival.settle()
    assert arrival.local_tree()["a.txt"].endswith("did not copy it here: no")


def test_a_new_dataset_that_the_server_filed_elsewhere_is_stored(arrival, caplog):
    """The server may call folders otherwise than they were written; what it made is not made again."""
    arrival.write("a?b/a.txt", b"one")
    upload = arrival.seal()["a?b/a.txt"]
    folder = arrival.server.add_folder("a_b", arrival.root)
    arrival.has_ended(arrival.store(upload, folder=folder.id))
    arrival.settle()
    assert "a?b/a.txt" not in arrival.local_tree()
    assert arrival.server.made == []
    assert "instead" in caplog.text


# -- into exams and series ------------------------------------------------------------------------------


def test_a_file_written_into_an_exam_is_stored_when_the_exam_or_a_series_of_it_has_it(arrival):
    exam = arrival.server.add_exam(arrival.server.project.id, "E")
    series = arrival.server.add_series(exam.id, "S")
    arrival.anchor = Anchor(Kind.EXAM, exam.id)
    arrival.write("a.txt", b"one")
    arrival.write("b.txt", b"two")
    uploads = arrival.seal()
    said = [
        arrival.store(uploads["a.txt"], exam=exam.id),
        arrival.store(uploads["b.txt"], series=series.id),
    ]
    arrival.has_ended(*said)
    arrival.settle()
    assert arrival.local_tree() == {}
    assert {(Kind.EXAM, exam.id), (Kind.SERIES, series.id)} <= set(arrival.refreshed)


def test_a_file_written_into_a_series_is_looked_for_there(arrival):
    series = arrival.server.add_series(None, "S")
    arrival.anchor = Anchor(Kind.SERIES, series.id)
    arrival.write("a.txt", b"one")
    arrival.store(arrival.seal()["a.txt"], series=series.id)
    arrival.has_ended_with({})
    arrival.settle()
    assert arrival.local_tree() == {}


def test_a_file_that_is_not_in_the_exam_it_was_written_into_fails(arrival):
    exam = arrival.server.add_exam(arrival.server.project.id, "E")
    arrival.anchor = Anchor(Kind.EXAM, exam.id)
    arrival.write("a.txt", b"one")
    upload = arrival.seal()["a.txt"]
    dataset = arrival.server.add_dataset({"a.txt": b"one"}, folder=arrival.root)
    arrival.has_ended(entry(upload, dataset, created=False))
    arrival.settle()
    assert "did not add it here" in arrival.local_tree()["a.txt"]


def test_an_import_description_is_done_with_when_what_it_describes_arrived(arrival):
    arrival.write("a.txt", b"one")
    arrival.write("x.agora-import.json", b"{}")
    uploads = arrival.seal()
    assert arrival.batch.import_file == "x.agora-import.json"
    exam = arrival.server.add_exam(arrival.server.project.id, "E")
    arrival.has_ended(arrival.store(uploads["a.txt"], exam=exam.id))
    arrival.settle()
    assert arrival.local_tree() == {}


def test_an_import_description_stays_when_nothing_that_it_describes_arrived(arrival):
    arrival.write("a.txt", b"one")
    arrival.write("x.agora-import.json", b"{}")
    arrival.seal()
    arrival.has_ended()
    arrival.settle()
    assert arrival.local_tree() == {
        "a.txt": "the server ignored this file",
        "x.agora-import.json": "nothing that it describes arrived",
    }


# -- a package that the server has forgotten ----------------------------------------------------------


def test_what_has_arrived_although_the_package_is_forgotten_is_not_sent_again(arrival):
    arrival.write("a.txt", b"one")
    arrival.write("d/b.txt", b"two")
    uploads = arrival.seal()
    arrival.store(uploads["d/b.txt"])
    batch = arrival.batch
    arrival.settler().reconcile(batch)

    journal = arrival.local.journal
    assert [one.target for one in journal.uploads(batch.id, unsettled=True)] == ["a.txt"]
    assert "d/b.txt" not in arrival.local_tree()
    journal.forget_upload(batch.id)
    assert [one.target for one in journal.uploads(batch.id, unsettled=True)] == ["a.txt"]


def test_the_batch_has_ended_when_all_of_it_had_arrived(arrival):
    arrival.write("a.txt", b"one")
    arrival.store(arrival.seal()["a.txt"])
    arrival.settler().reconcile(arrival.batch)
    assert arrival.local.journal.batches() == []
    assert arrival.local_tree() == {}


def test_the_rest_of_a_forgotten_package_is_settled_by_its_own_result(arrival):
    arrival.write("a.txt", b"one")
    arrival.write("b.txt", b"two")
    uploads = arrival.seal()
    arrival.store(uploads["b.txt"])
    arrival.settler().reconcile(arrival.batch)
    arrival.has_ended(arrival.store(uploads["a.txt"]))
    arrival.settle()
    assert arrival.local_tree() == {}
    assert arrival.server.names(arrival.root) == ["a.txt", "b.txt"]


# -- trouble ------------------------------------------------------------------------------------------


def test_nothing_is_decided_while_the_server_is_away(arrival):
    arrival.write("a.txt", b"one")
    arrival.has_ended(arrival.store(arrival.seal()["a.txt"]))
    arrival.server.fail_with = RemoteUnavailable("away")
    with pytest.raises(RemoteUnavailable):
        arrival.settle()
    assert arrival.batch.state is BatchState.VERIFYING
    arrival.server.fail_with = None
    arrival.settle()
    assert arrival.local_tree() == {}
