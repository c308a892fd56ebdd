"""Every verb of the control file: what it asks of the server, what it refuses before, what is seen at once."""

from __future__ import annotations

import dataclasses
import json
import random
import time

import pytest

from agorafs.cache.pins import Pin
from agorafs.client.records import Kind, RemoteRef
from agorafs.client.task_records import Task
from agorafs.client.view_records import TrashEntry
from agorafs.errors import (
    AgoraFSError,
    AlreadyExists,
    BadCommand,
    JobFailed,
    NotEmpty,
    NotFound,
    NotPermitted,
    NotSupported,
    PermissionDenied,
    ProtocolError,
    ReadOnly,
)
from agorafs.tree.listing import Area, DirKey
from agorafs.vfs.control import VERBS
from tests.vfs.desk_world import ME, PROJECT, Bench

CHANGING = sorted(name for name, verb in VERBS.items() if verb.changes and name != "relate")


@pytest.fixture
def bench(tmp_path):
    one = Bench(tmp_path)
    yield one
    one.close()


def observer(tmp_path) -> Bench:
    """A bench whose user only reads in ``P``."""
    return Bench(tmp_path, roles=((1, 4),))


# -- what people say of objects ----------------------------------------------------------------------------


def test_tags_ratings_and_parameters_are_said_of_objects_by_path_number_and_link(bench):
    exam, project = bench.exam.id, bench.project.id
    assert bench.say("tag exams/E good 'very good'") == "tagged /projects/P/exams/E good very good"
    assert bench.say(f"untag exam:{exam} good") == "untagged /projects/P/exams/E good"
    assert bench.say(f"rate study:{exam} 4") == "rated /projects/P/exams/E 4"
    assert bench.say("rate /mnt/agora/projects/P/patients/Ann/E 5") == "rated /projects/P/exams/E 5"
    assert bench.say("rate folders/a.dat 1") == "rated /projects/P/folders/a.dat 1"
    assert bench.changed() == [
        f"annotations.add_tag exam:{exam} {project} 'good'",
        f"annotations.add_tag exam:{exam} {project} 'very good'",
        f"annotations.remove_tag exam:{exam} {project} 'good'",
        f"annotations.rate exam:{exam} 4",
        f"annotations.rate exam:{exam} 5",
        f"annotations.rate dataset:{bench.dataset.id} 1",
    ]


def test_parameters_in_a_line_are_what_their_text_means_and_in_json_what_they_are(bench):
    exam = bench.exam.id
    bench.say("set-parameters exams/E TE=4.6 list=[1,2] name='a b' set=Mine")
    bench.say('{"command": "set-parameters", "path": "exams/E", "parameters": {"TE": "4.6", "on": true}}')
    assert bench.changed() == [
        f"annotations.set_parameter exam:{exam} 'TE' 4.6 set_name='Mine'",
        f"annotations.set_parameter exam:{exam} 'list' [1, 2] set_name='Mine'",
        f"annotations.set_parameter exam:{exam} 'name' 'a b' set_name='Mine'",
        f"annotations.set_parameter exam:{exam} 'TE' '4.6' set_name=None",
        f"annotations.set_parameter exam:{exam} 'on' True set_name=None",
    ]
    with pytest.raises(BadCommand, match="needs parameters"):
        bench.say("set-parameters exams/E")


def test_the_difference_of_parameters_has_a_line_for_each(bench):
    bench.wishes["difference"] = {
        "only_in_first": {"a": 1}, "only_in_second": {"b": [2]}, "different": {"c": ["x", "y"]},
    }  # fmt: skip
    assert bench.say("diff-parameters exams/E exams/E/S") == "< a: 1\n> b: [2]\nc: x | y"


def test_exams_are_locked_and_unlocked_also_when_they_are_locked(bench):
    bench.say("lock exams/E")
    bench.lock_exam()
    assert bench.say("unlock exams/E") == "unlocked /projects/P/exams/E"
    assert bench.changed() == [
        f"annotations.set_locked exam:{bench.exam.id} True",
        f"annotations.set_locked exam:{bench.exam.id} False",
    ]
    assert bench.announced == ["/projects/P/exams/E"] * 2
    with pytest.raises(BadCommand, match="is a series, and this is for exam"):
        bench.say("lock exams/E/S")


def test_what_is_in_a_locked_exam_is_not_changed(bench):
    bench.lock_exam()
    for command in (
        "rate exams/E 3",
        "tag exams/E/S good",
        "set-parameters exams/E/S a=1",
        "move exams/E /projects/Q",
    ):
        with pytest.raises(PermissionDenied, match="is locked"):
            bench.say(command)
    assert bench.changed() == []


# -- places ------------------------------------------------------------------------------------------------


def test_a_link_is_made_seen_at_once_and_taken_away(bench):
    assert bench.names("/projects/P/folders/sub") == []
    bench.changes.returns["link"] = lambda ref, folder: bench.server.link(ref, folder)
    bench.say("link exams/E folders/sub")
    assert bench.names("/projects/P/folders/sub") == ["E"]
    with pytest.raises(AlreadyExists):
        bench.say("link exams/E folders/sub")
    bench.changes.returns["delete_folder_item"] = lambda item: bench.server.delete_folder_item(item)
    bench.say("unlink folders/sub/E")
    assert bench.names("/projects/P/folders/sub") == []
    assert bench.names("/projects/P/exams") == ["E"]
    with pytest.raises(BadCommand, match="is the object itself"):
        bench.say("unlink folders/a.dat")


def test_a_copy_of_an_exam_in_its_project_is_a_link_and_in_another_a_job(bench):
    exam, other = bench.exam.id, bench.other
    bench.say("copy exams/E folders/sub")
    assert bench.say("copy exams/E /projects/Q") == "job 1: copy /projects/P/exams/E to /projects/Q"
    bench.say("copy exams/E /projects/Q/folders")
    assert bench.changed() == [
        f"server.link exam:{exam} {bench.folder.id}",
        f"moving.copy_exam {exam} {other.id} None",
        "jobs.start_timeline copy /projects/P/exams/E to /projects/Q",
        f"moving.copy_exam {exam} {other.id} {other.root_folder}",
        "jobs.start_timeline copy /projects/P/exams/E to /projects/Q/folders",
    ]
    with pytest.raises(AlreadyExists):
        bench.say("copy exams/E .")


def test_what_a_job_has_moved_is_looked_up_anew_when_it_has_ended(bench):
    assert bench.names("/projects/P/exams") == ["E"] and bench.names("/projects/Q/exams") == []
    bench.say("move exams/E /projects/Q")
    bench.archive._exams[bench.exam.id] = type(bench.exam)(
        *(getattr(bench.exam, name) if name != "project" else bench.other.id for name in bench.exam.__slots__)
    )
    assert bench.names("/projects/P/exams") == ["E"]
    assert bench.jobs.notify is not None
    places = bench.forgotten_places
    bench.jobs.notify(bench.jobs.job(1))
    assert bench.names("/projects/P/exams") == [] and bench.names("/projects/Q/exams") == ["E"]
    assert bench.forgotten_places == places + 1


def test_series_and_datasets_go_to_folders_and_for_a_project_to_its_root_folder(bench):
    other, dataset = bench.other, bench.dataset.id
    bench.say("copy exams/E/S /projects/Q")
    bench.say("copy folders/a.dat folders/sub")
    bench.say("move folders/a.dat folders/sub")
    assert [call for call in bench.changed() if not call.startswith("jobs")] == [
        f"moving.copy_series {bench.series.id} {other.id} {other.root_folder}",
        f"server.copy_dataset {dataset} {bench.project.id} {bench.folder.id}",
        f"server.move_dataset {dataset} {bench.project.id} {bench.folder.id}",
    ]


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("copy folders/sub /projects/Q", "does not copy folders"),
        ("move folders/sub /projects/Q", "does not move folders"),
        ("move exams/E/S /projects/Q", "does not move series"),
        ("move exams/E folders/sub", "in that project already"),
        ("rename folders/a.dat b.dat", "renames exams, series, folders and projects"),
    ],
)
def test_what_the_archive_has_no_call_for_is_refused_with_the_way_out(bench, command, words):
    with pytest.raises(NotPermitted, match=words):
        bench.say(command)
    assert bench.changed() == []


def test_objects_get_other_names_where_they_lie(bench):
    bench.say("rename exams/E 'Brain 2'")
    bench.say("rename . R")
    assert bench.changed() == [
        "rename /projects/P/exams/E /projects/P/exams/Brain 2",
        "rename /projects/P /projects/R",
    ]
    with pytest.raises(BadCommand):
        bench.say("rename exams/E a/b")


def test_relating_is_refused_with_the_way_that_there_is(bench):
    with pytest.raises(NotSupported, match=r"agora-relations\.json"):
        bench.say("relate exams/E exams/E/S")


def test_deleting_needs_a_mount_that_allows_it_and_takes_patients_too(bench):
    with pytest.raises(PermissionDenied, match="allow_delete"):
        bench.say("delete exams/E")
    desk = bench.services_with(allow_delete=True)
    desk.execute(PROJECT, f"delete exams/E/S folders/a.dat patient:{bench.patient.id}", ME)
    assert [call for call in bench.changed() if call.startswith("server")] == [
        f"server.delete_object series:{bench.series.id}",
        f"server.delete_object dataset:{bench.dataset.id}",
        f"server.delete_object patient:{bench.patient.id}",
    ]
    bench.left["files"] = 1
    with pytest.raises(NotEmpty, match="not stored yet"):
        desk.execute(PROJECT, "delete exams/E", ME)


def test_several_entries_of_folders_are_removed_or_none(bench):
    with pytest.raises(NotFound):
        bench.say("delete-items folders/sub folders/missing")
    assert bench.changed() == []
    bench.say("delete-items folders/sub folders/a.dat")
    assert sum(call.startswith("server.delete_folder_item") for call in bench.changed()) == 2
    assert bench.names() == []


# -- projects ----------------------------------------------------------------------------------------------


def test_a_project_is_made_and_gets_the_settings_of_another(bench):
    assert bench.say("create-project New 'all of it'") == "created project:77 New"
    bench.changed()
    bench.tasks.returns["project_tasks"] = lambda project: [bench.task] if project == bench.project.id else []
    assert bench.say("copy-settings /projects/P to=/projects/Q", ()) == (
        "copied from P to Q: 0 members, 1 tasks, 1 hosts"
    )
    changes = [call for call in bench.changed() if "copy" in call]
    assert changes == [
        f"tasks.copy_to 3 {bench.other.id}",
        f"administration.copy_host {bench.other.id} {{'id': 4, 'name': 'gpu1'}}",
    ]


def test_members_are_named_by_user_name_and_role(bench):
    bench.say("add-member bob scientist")
    bench.say("add-member 6 1 project=Q")
    assert [call for call in bench.changed() if "add" in call] == [
        f"administration.add_member {bench.project.id} 5 2",
        f"administration.add_member {bench.other.id} 6 1",
    ]
    with pytest.raises(NotFound, match=r"no user 'bop' \(did you mean bob\?\)"):
        bench.say("add-member bop scientist")
    with pytest.raises(NotFound, match="there are: Manager, Scientist"):
        bench.say("add-member bob boss")


def test_hosts_go_to_other_projects(bench):
    bench.say("copy-host gpu1 /projects/Q")
    bench.say("move-host 4 Q")
    assert [call for call in bench.changed() if "_host" in call] == [
        f"administration.copy_host {bench.other.id} {{'id': 4, 'name': 'gpu1'}}",
        f"administration.move_host {bench.other.id} 4",
    ]


def test_users_are_made_by_administrators_and_a_password_is_in_no_answer(bench):
    said = '{"command": "create-user", "name": "ann", "password": "hunter2", "is-superuser": false}'
    with pytest.raises(PermissionDenied, match="administrators"):
        bench.say(said)
    with pytest.raises(BadCommand, match="--password-stdin"):
        bench.say("create-user ann")
    assert bench.changed() == []
    answer = bench.services_with(is_superuser=True).execute(PROJECT, said, ME)
    assert "hunter2" not in answer.text + json.dumps(dict(answer.data))
    assert len(bench.changed()) == 1


def test_the_trash_of_one_project_is_emptied_and_who_was_refused_is_named(bench):
    def entry(number: int, project: int, name: str) -> TrashEntry:
        return TrashEntry(number, project, Kind.EXAM, 1, name, None, {})

    bench.exploring.returns["trash"] = [entry(1, bench.project.id, "a"), entry(2, bench.other.id, "b")]
    assert bench.say("empty-trash") == "removed 1 from the trash of P for good"
    assert "exploring.delete_finally 1" in bench.changed()
    bench.exploring.returns["delete_finally"] = PermissionDenied("not yours")
    with pytest.raises(PermissionDenied, match="1 of 1 were refused: a: not yours"):
        bench.say("empty-trash")
    with pytest.raises(BadCommand, match="say which project"):
        bench.say("empty-trash", ())


# -- tasks -------------------------------------------------------------------------------------------------


def test_a_task_is_run_with_what_is_said_and_its_job_is_named(bench):
    answer = bench.desk.execute(PROJECT, '{"command": "run", "task": "Recon", "inputs": {"n": 4}}', ME)
    assert json.loads(answer.rendered()) == {
        "ok": True, "answer": "job 9: run Recon", "job": 9, "path": "/.agora/jobs/9",
    }  # fmt: skip
    bench.say("run Recon ds=exams/E n=4 target=folders")
    assert bench.changed()[-1] == (
        "runner.run Recon {'ds': 'exams/E', 'n': '4', 'target': 'folders'} directory=('projects', 'P')"
    )


def test_tasks_are_exported_as_what_is_imported(bench):
    bench.tasks.returns["project_tasks"] = [bench.task]
    exported = bench.say("export-tasks")
    bench.store("tasks.json", exported.encode())
    bench.changed()
    assert bench.say("import-tasks folders/tasks.json", PROJECT) == "imported 1 tasks into P"
    bench.say('{"command": "import-tasks", "tasks": {"name": "Other"}}')
    assert bench.changed() == [
        f"tasks.import_into {bench.project.id} {{'name': 'Recon'}}",
        f"tasks.import_into {bench.project.id} {{'name': 'Other'}}",
    ]
    for said in ("import-tasks", "import-tasks folders/a.dat", '{"command": "import-tasks", "tasks": [3]}'):
        with pytest.raises(BadCommand):
            bench.say(said)
    assert bench.changed() == []


def test_in_no_project_the_tasks_of_all_are_exported(bench):
    bench.tasks.returns["project_tasks"] = [bench.task]
    assert len(json.loads(bench.say("export-tasks", ()))) == 2
    assert len(json.loads(bench.say("export-tasks Q", ()))) == 1


def test_a_script_task_is_copied_as_it_is_now(bench):
    listed = Task(4, "Script", True, bench.project.id, (), {"name": "Script", "yml": "inputs: {}"})
    bench.runner.returns["find_task"] = listed
    bench.tasks.returns["task"] = dataclasses.replace(listed, raw={"name": "Script", "yml": "name: new"})
    bench.say("copy-task Script /projects/Q")
    (created,) = [call for call in bench.changed() if call.startswith("tasks.create")]
    assert "name: new" in created and f"'project': {bench.other.id}" in created


def test_tasks_are_copied_moved_and_deleted(bench):
    bench.say("copy-task Recon /projects/Q")
    bench.say("move-task Recon Q")
    bench.say("delete-task Recon")
    assert [call for call in bench.changed() if call.startswith("tasks")] == [
        f"tasks.copy_to 3 {bench.other.id}",
        f"tasks.move_to 3 {bench.other.id}",
        "tasks.delete 3 is_script=False",
    ]


# -- this mount --------------------------------------------------------------------------------------------


def test_pinning_pins_first_and_fetches_then(bench):
    answer = bench.say("pin exams/E folders/a.dat")
    assert answer == "job 1: pin /projects/P/exams/E /projects/P/folders/a.dat"
    assert bench.jobs.job(1).progress == "3 files, 11 bytes are here to stay"
    calls = [call.split()[0:2] for call in bench.changed()]
    assert calls[:2] == [
        ["pinning.pin", f"'exam:{bench.exam.id}'"],
        ["pinning.pin", f"'dataset:{bench.dataset.id}'"],
    ]
    assert [call[0] for call in calls[2:]] == ["pinning.fetch"] * 3


def test_a_project_is_pinned_with_its_folders_and_exams(bench):
    bench.say("pin .")
    assert bench.jobs.job(1).progress.endswith("are here to stay")
    calls = bench.changed()
    assert calls[0].startswith(f"pinning.pin 'project:{bench.project.id}'")
    assert sum(call.startswith("pinning.fetch") for call in calls) >= 3


def test_what_the_server_calls_wrong_is_a_bad_command(bench):
    bench.exploring.returns["search_series"] = ProtocolError("at character 1", status=400)
    with pytest.raises(BadCommand, match="character 1"):
        bench.say("search-series x")
    bench.exploring.returns["search_series"] = ProtocolError("HTML", status=200)
    with pytest.raises(ProtocolError):
        bench.say("search-series x")


def test_pins_are_shown_and_let_go_by_path_also_when_what_they_pinned_has_gone(bench):
    assert bench.say("pin") == "nothing is pinned"
    bench.pins.append(Pin("http://archive", "exam:1", "/projects/P/exams/gone/S", {"k": 5}))
    assert bench.say("pin") == "/projects/P/exams/gone/S 5 bytes"
    meant = []

    def unpin(is_meant):
        meant.append(is_meant(bench.pins[0]))
        return 1

    bench.pinning.returns["unpin"] = unpin
    for path in ("exams/gone/S", "exams/gone", "/projects", "/", "exams/go", "exams/E"):
        bench.say(f"unpin {path}")
    assert meant == [True, True, True, True, False, False]
    bench.pinning.returns["unpin"] = 0
    with pytest.raises(NotFound):
        bench.say("unpin exams/E")


def test_sync_says_so_when_nothing_waits_and_is_a_job_otherwise(bench):
    assert bench.say("sync folders") == "all is on the server"
    assert bench.changed() == [
        "transit.seal '/projects/P/folders'",
        "transit.unfinished '/projects/P/folders'",
    ]
    looks = [{**bench.left, "files": 2, "bytes": 9}, {**bench.left, "files": 1, "bytes": 9}, bench.left]
    bench.transit.returns["unfinished"] = lambda path: looks.pop(0)
    assert bench.say("sync") == "job 1: sync /projects/P"
    assert bench.jobs.job(1).progress == "all is on the server"
    assert bench.jobs.said == ["1 files, 9 bytes to go"]
    bench.left["failed"] = [{"path": "/a", "reason": "quota"}]
    bench.transit.returns["unfinished"] = bench.left
    with pytest.raises(JobFailed, match="/a: quota"):
        bench.say("sync")


def test_paths_are_taken_as_they_are_written_and_stay_in_the_mount(bench):
    bench.say("refresh ../../../..")
    bench.say("refresh exams/gone")
    bench.say("retry")
    bench.say("cancel /projects/P/folders/x")
    assert bench.changed() == [
        "refresh None", "refresh /projects/P/exams/gone", "transit.retry '/projects/P'",
        "transit.cancel '/projects/P/folders/x'",
    ]  # fmt: skip


def test_help_names_every_verb_with_an_example_and_one_with_its_arguments(bench):
    for name, verb in VERBS.items():
        assert verb.example in bench.say("help")
        assert verb.usage() in bench.say(f"help {name}")
    with pytest.raises(BadCommand, match="did you mean rate"):
        bench.say("help rtae")
    with pytest.raises(BadCommand, match=r"no command 'rtae' \(did you mean rate\?\)"):
        bench.say("rtae exams/E 3")


def test_searches_imports_jobs_and_workbooks_are_answered(bench):
    assert bench.say("search-series 'parameter.TR > 1'") == "no series"
    assert json.loads(bench.say("objects-of-import 12")) == [{"id": 1}]
    bench.say("sync")
    bench.say("pin exams/E")
    assert bench.say("job 1").startswith("job 1: finished, ")
    bench.exploring.returns.update(create_workbook={"id": 5}, workbooks=[{"id": 5}])
    bench.changed()
    bench.say("create-workbook folders/a.dat Mine")
    bench.say(
        '{"command": "update-workbook", "dataset": "folders/a.dat", "number": 5, "mask": {"mMasks": []}}'
    )
    with pytest.raises(NotFound):
        bench.say("update-workbook folders/a.dat 6 contour={}")
    created, looked, updated, looked_again = bench.changed()
    assert created.startswith("exploring.create_workbook") and f"'dataset': {bench.dataset.id}" in created
    assert updated == "exploring.update_workbook 5 mask={'mMasks': []}"
    assert looked == looked_again == f"exploring.workbooks {bench.dataset.id}"


def test_a_workbook_for_cardiac_mr_has_the_buttons_of_one(bench):
    bench.exploring.returns["create_workbook"] = {"id": 5}
    bench.say("create-workbook folders/a.dat")
    bench.say("create-workbook folders/a.dat is-cardiac=1")
    bench.say('{"command": "create-workbook", "dataset": "folders/a.dat", "workbook": {"mask_tab": false}}')
    plain, cardiac, changed = (call for call in bench.changed() if "create_workbook" in call)
    assert "'2D ROI'" in plain and "'cmr_tab': False" in plain
    assert "'LV EpiCard'" in cardiac and "'cmr_tab': True" in cardiac
    assert "'mask_tab': False" in changed and "'mask_tab': True" in plain


def test_after_each_change_files_below_agora_are_made_anew_also_after_one_that_failed(bench):
    bench.say("add-member bob scientist")
    bench.say("move-host gpu1 /projects/Q")
    assert bench.forgotten == 2
    with pytest.raises(NotFound):
        bench.say("lock exams/none")
    assert bench.forgotten == 3
    bench.say("help")
    bench.say("export-tasks")
    assert bench.forgotten == 3


# -- what is refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CHANGING)
def test_a_read_only_mount_refuses_every_change_and_asks_nobody(bench, name):
    desk = bench.services_with(is_read_only=True, allow_delete=True, is_superuser=True)
    before = bench.requests()
    with pytest.raises(ReadOnly):
        desk.execute(PROJECT, VERBS[name].example, ME)
    assert bench.requests() == before


@pytest.mark.parametrize(
    "command",
    [
        "tag exams/E good", "rate exams/E 3", "lock exams/E", "set-parameters exams/E a=1", "copy exams/E folders/sub",
        "link exams/E folders/sub", "delete exams/E/S", "delete-items folders/a.dat", "move folders/a.dat folders/sub",
        "add-member bob scientist", "empty-trash", "import-tasks folders/tasks.json", "delete-task Recon",
        "move-host gpu1 .", "create-workbook folders/a.dat", "copy /projects/Q .",
    ],
)  # fmt: skip
def test_an_observer_is_refused_before_the_server_is_asked_to_change_anything(tmp_path, command):
    bench = observer(tmp_path)
    try:
        desk = bench.services_with(allow_delete=True)
        bench.store("tasks.json", b'[{"name": "a"}]')
        with pytest.raises((PermissionDenied, BadCommand)):
            desk.execute(PROJECT, command, ME)
        reading = ("runner.find_task", "transit.unfinished", "administration.hosts")
        assert [call for call in bench.changed() if not call.startswith(reading)] == []
    finally:
        bench.close()


def test_random_commands_are_carried_out_or_refused_and_a_refused_one_changes_nothing(bench):
    chance = random.Random(4)
    paths = ["exams/E", "exams/E/S", "folders", "folders/a.dat", "folders/sub", "/projects/Q", "patients", "nothing",
             "..", "exam:999999", f"exam:{bench.exam.id}", "a\\b", "x" * 300]  # fmt: skip
    words = [*paths, "3", "good", "a=1", "value=9", "Recon", "ds=exams/E"]
    desk = bench.services_with(allow_delete=True, is_superuser=True)
    changing = ("annotations.", "server.", "moving.", "administration.add", "administration.c", "administration.m",
                "exploring.create", "exploring.update", "exploring.delete", "tasks.c", "tasks.m", "tasks.d", "tasks.i",
                "rename", "runner.run")  # fmt: skip
    bench.wishes["difference"] = {"only_in_first": {}, "only_in_second": {}, "different": {}}
    bench.exploring.returns.update(workbooks=[], create_workbook={"id": 1})
    done = refused = 0
    begun_s = time.process_time()
    for _ in range(3000):
        verb = chance.choice([*VERBS, "nothing"])
        if chance.random() < 0.5:
            text = " ".join([verb, *chance.choices(words, k=chance.randrange(4))])
        else:
            known = [one.name for one in VERBS[verb].arguments] if verb in VERBS else ["path"]
            fields = {
                chance.choice(known or ["x"]): chance.choice([*words, 3, True, {"a": 1}, words[:2]])
                for _ in "ab"
            }
            text = json.dumps({"command": verb, **fields})
        try:
            desk.execute(PROJECT, text, ME)
            done += 1
        except AgoraFSError:
            refused += 1
            calls = bench.changed()
            assert not [call for call in calls if call.startswith(changing)], (text, calls)
        bench.changed()
    assert done > 100 and refused > 1000
    assert time.process_time() - begun_s < 60


def test_a_destination_is_refreshed_by_its_keys(bench):
    """What the server puts into a project by a job is looked for in its study list, patients and root folder."""
    other = bench.other
    bench.names("/projects/Q/folders")
    bench.say("copy exams/E/S /projects/Q")
    bench.archive.add_item(other.root_folder, "dataset", bench.dataset.id, bench.dataset)
    assert bench.jobs.notify is not None
    bench.jobs.notify(bench.jobs.job(1))
    assert bench.names("/projects/Q/folders") == ["a.dat"]
    assert bench.tree.resolve(["projects", "Q", "folders"]).entry.target == DirKey(
        Area.FOLDER, other.root_folder
    )
    assert RemoteRef(Kind.PROJECT, other.id) == bench.tree.resolve(["projects", "Q"]).entry.ref
