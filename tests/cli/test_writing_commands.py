"""``sync``, ``umount``, ``status``, ``retry``, ``cancel`` and ``upload`` from outside, over a mount that is a fake."""

import json
import os
import pty
import signal
import subprocess

import pytest

from agorafs.errors import ExitStatus
from tests.cli.program import ROOT, TIMEOUT_S, URL

SENDING = {"files": 2, "bytes": 100, "sent_bytes": 40, "paths": ["/projects/a", "/projects/b"]}
AWAY = {**SENDING, "waiting": "the server is away"}
FAILED = {"failed": [{"path": "/projects/x.dcm", "reason": "the quota is used up"}]}
OPEN = {"files": 1, "open": 1, "open_paths": ["/projects/a.h5"]}


def mounted(program, *others, **wanted):
    """Mount with a plan, at *others* too; afterwards the commands see the kernel's part of it."""
    program.set_plan(**wanted)
    assert program.mount().returncode == 0
    for other in others:
        other.mkdir()
        assert program.mount(at=other).returncode == 0
    program.set_plan(mounted=True, **wanted)


def events_of_writing(program):
    """Return what the mount was asked to do since it was there."""
    return [event for event in program.events() if not event.startswith(("connect", "serve"))]


# --- sync ------------------------------------------------------------------------------------------------


def test_sync_ends_with_0_and_without_a_word_when_all_is_stored(program):
    mounted(program, unfinished=[SENDING, SENDING, {}])
    done = program.run("sync", program.mountpoint / "projects" / "X")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert events_of_writing(program) == ["seal /projects/X"]


def test_sync_of_a_path_that_is_not_there_says_so(program):
    """It may be mistyped; or the server has made what was written there part of a study, hence no error."""
    mounted(program)
    (program.mountpoint / ".agora").mkdir()
    done = program.run("sync", program.mountpoint / "porjects")
    assert (done.returncode, done.stdout) == (0, "")
    assert "there is nothing at" in done.stderr and "porjects" in done.stderr
    assert program.run("sync", program.mountpoint).stderr == ""


def test_sync_without_a_path_waits_for_all_mounts(program):
    mounted(program, program.home / "other", unfinished=[SENDING, {}])
    assert program.run("sync").returncode == 0
    assert events_of_writing(program).count("seal None") == 2


def test_sync_without_any_mount_has_nothing_to_wait_for(program):
    assert program.run("sync").returncode == 0


def test_sync_names_what_failed_with_its_reason_and_the_ways_out(program):
    mounted(program, unfinished=[{**SENDING, **FAILED}, FAILED])
    done = program.run("sync", program.mountpoint)
    assert done.returncode == ExitStatus.FAILED
    assert done.stderr.splitlines() == [
        f"agorafs: {program.mountpoint}/projects/x.dcm: the quota is used up",
        "agorafs: 1 file failed: agorafs retry PATH sends again, agorafs cancel PATH gives up",
    ]


@pytest.mark.parametrize(
    ("server", "status"), [("away", ExitStatus.UNAVAILABLE), ("refused", ExitStatus.NOT_AUTHENTICATED)]
)
def test_sync_says_at_its_timeout_what_is_left_and_why(program, server, status):
    mounted(program, unfinished=[AWAY], server=server)
    done = program.run("sync", program.mountpoint, "--timeout", "0.1")
    assert done.returncode == status
    assert done.stderr.splitlines()[-1] == (
        "agorafs: 2 files (100 B) not on the server after 0.1 s, kept here and sent on: the server is away"
    )


def test_sync_of_what_is_no_time_or_no_mount_is_refused(program):
    done = program.run("sync", "--timeout", "soon")
    assert (done.returncode, done.stderr.count("\n")) == (ExitStatus.USAGE, 1)
    assert "must be a number of seconds" in done.stderr
    assert program.run("sync", program.home).returncode == ExitStatus.MOUNT_POINT


# --- umount ----------------------------------------------------------------------------------------------


def test_umount_waits_for_the_uploads_and_then_unmounts(program):
    mounted(program, unfinished=[SENDING, SENDING, {}])
    done = program.run("umount", program.mountpoint)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert events_of_writing(program)[:2] == ["seal None", f"unmount {program.mountpoint}"]
    assert program.pids() == []


@pytest.mark.parametrize(
    ("server", "status"), [("away", ExitStatus.UNAVAILABLE), ("refused", ExitStatus.NOT_AUTHENTICATED)]
)
def test_umount_stays_when_the_server_does_not_take_the_rest(program, server, status):
    mounted(program, unfinished=[AWAY], server=server)
    done = program.run("umount", program.mountpoint)
    assert done.returncode == status
    assert done.stderr.splitlines()[-1] == (
        f"agorafs: {program.mountpoint} stays mounted, 2 files (100 B) not on the server yet (the server is away): "
        f"agorafs umount --detach {program.mountpoint} leaves that to the next mount"
    )
    assert events_of_writing(program) == ["seal None"]
    assert len(program.pids()) == 1


def test_umount_stays_when_files_failed_and_names_them(program):
    mounted(program, unfinished=[FAILED])
    done = program.run("umount", program.mountpoint)
    assert done.returncode == ExitStatus.FAILED
    named, reason = done.stderr.splitlines()
    assert named == f"agorafs: {program.mountpoint}/projects/x.dcm: the quota is used up"
    assert "stays mounted, 1 file failed: agorafs retry" in reason
    assert f"agorafs umount --detach {program.mountpoint}" in reason
    assert len(program.pids()) == 1


def test_umount_detach_leaves_the_rest_to_the_next_mount_and_says_so(program):
    mounted(program, unfinished=[{**AWAY, **FAILED}])
    done = program.run("umount", "--detach", program.mountpoint)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"3 files not on the server yet: the next mount of {URL} goes on with that\n"
    assert "seal None" not in program.events()
    assert program.pids() == []


def test_umount_lazy_asks_nothing_and_waits_for_nothing(program):
    mounted(program, unfinished=[AWAY])
    assert program.run("umount", "-l", program.mountpoint).returncode == 0
    assert events_of_writing(program)[0] == f"unmount {program.mountpoint} lazily"


def test_umount_of_a_mount_with_an_open_file_is_the_kernels_to_refuse(program):
    """What holds it open is named then; waiting for it would never end."""
    mounted(program, unfinished=[OPEN], busy=True)
    done = program.run("umount", program.mountpoint)
    assert done.returncode == ExitStatus.MOUNT_POINT
    assert done.stderr == (
        f"agorafs: still open for writing: {program.mountpoint}/projects/a.h5\n"
        f"agorafs: {program.mountpoint} is busy\n"
    )


def test_umount_that_is_interrupted_leaves_the_mount_and_the_uploads_as_they_are(program):
    mounted(program, unfinished=[SENDING])
    with subprocess.Popen(
        program.command("umount", program.mountpoint),
        env=program.environment(),
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        program.wait_for_event("seal None")
        process.send_signal(signal.SIGINT)
        assert process.wait(TIMEOUT_S) == ExitStatus.INTERRUPTED
        assert process.stderr is not None
        assert (
            process.stderr.read() == f"agorafs: {program.mountpoint} is still mounted, and sending goes on\n"
        )
    assert events_of_writing(program) == ["seal None"]
    assert len(program.pids()) == 1


def test_the_process_that_is_told_to_stop_waits_for_no_upload(program):
    mounted(program, unfinished=[AWAY])
    program.stop(program.pids()[0], signal.SIGTERM)
    assert events_of_writing(program) == [f"unmount {program.mountpoint}", "close"]


# --- status ----------------------------------------------------------------------------------------------

UPLOADS = {
    "files": 12, "bytes": 3 << 20, "open": 1, "failed": 1, "waiting": "the server is away", "spool_bytes": 4 << 20,
    "batches": [
        {"id": 1, "where": "/projects/X/folders/Y", "state": "uploading", "files": 11, "bytes": 2 << 20,
         "sent_bytes": 1 << 20, "reason": "connection refused", "age_s": 301.5},
    ],
    "problems": [{"path": "/projects/X/folders/Y/z.dcm", "reason": "the server ignored it"}],
}  # fmt: skip


def test_status_shows_what_is_on_its_way_and_what_failed(program):
    mounted(program, uploads=[UPLOADS])
    done = program.run("status")
    assert done.returncode == ExitStatus.FAILED, "a file failed"
    assert done.stdout.endswith(
        "  uploads: 12 files (3.0 MiB) on the way, 1 open, 1 failed; the spool holds 4.0 MiB\n"
        "    waiting: the server is away\n"
        "    [##########----------]  50 %  uploading  /projects/X/folders/Y  11 files, 2.0 MiB, since 5 min\n"
        "        connection refused\n"
        "    /projects/X/folders/Y/z.dcm: the server ignored it\n"
        "    agorafs retry PATH sends again what failed, agorafs cancel PATH gives it up\n"
    )
    (mount,) = json.loads(program.run("status", "--json").stdout)["mounts"]
    assert mount["status"]["uploads"]["batches"] == UPLOADS["batches"]


def test_status_is_that_of_the_server_when_that_is_worse_than_a_failed_file(program):
    mounted(program, uploads=[UPLOADS], server="away")
    assert program.run("status").returncode == ExitStatus.UNAVAILABLE


def test_status_says_nothing_of_uploads_when_there_are_none(program):
    mounted(program)
    done = program.run("status")
    assert done.returncode == 0
    assert "upload" not in done.stdout


def test_status_tells_where_the_remains_of_a_power_cut_are(program):
    mounted(program, uploads=[{"salvaged": "/state/salvaged"}])
    assert "a power cut cut short is in /state/salvaged" in program.run("status").stdout


def test_status_shows_what_waits_for_the_next_mount(program):
    (program.state / "spool").mkdir(parents=True)
    left = {"url": URL, "files": 3, "bytes": 2048, "failed": 0}
    program.set_plan(left_behind=[left])
    done = program.run("status")
    assert (done.returncode, done.stdout) == (
        0, f"no mounts\n\n3 files (2.0 KiB) wait for the next mount of {URL}\n",
    )  # fmt: skip
    program.set_plan(left_behind=[{**left, "failed": 2}])
    done = program.run("status")
    assert done.returncode == ExitStatus.FAILED
    assert done.stdout.endswith(f"wait for the next mount of {URL}, 2 of them failed\n")
    assert json.loads(program.run("status", "--json").stdout) == {
        "mounts": [], "left_behind": [{**left, "failed": 2}],
    }  # fmt: skip


def test_status_watch_prints_only_what_has_changed_where_there_is_no_terminal(program):
    """``agorafs status --watch >> file`` does not fill the disk."""
    mounted(program, uploads=[UPLOADS, UPLOADS, {}])
    with subprocess.Popen(
        program.command("status", "--watch"),
        env=program.environment(),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        shown = ""
        while shown.count("\n\n") < 2:
            shown += process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(TIMEOUT_S) == ExitStatus.INTERRUPTED
    first, second, _ = shown.split("\n\n")
    assert "uploads: 12 files" in first
    assert "uploads" not in second


def test_status_watch_writes_over_what_it_has_written_on_a_terminal(program):
    mounted(program, uploads=[UPLOADS])
    ours, theirs = pty.openpty()
    try:
        with subprocess.Popen(
            program.command("status", "--watch"),
            env=program.environment(),
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=theirs,
        ) as process:
            shown = b""
            while shown.count(b"\x1b[H") < 2:
                shown += os.read(ours, 65536)
            process.send_signal(signal.SIGINT)
            assert process.wait(TIMEOUT_S) == ExitStatus.INTERRUPTED
    finally:
        os.close(ours)
        os.close(theirs)
    assert b"[##########----------]  50 %  uploading" in shown


def test_status_can_not_be_watched_as_json(program):
    assert program.run("status", "--watch", "--json").returncode == ExitStatus.USAGE


# --- retry and cancel ------------------------------------------------------------------------------------


def test_retry_sends_again_below_each_path_or_everywhere(program):
    mounted(program)
    done = program.run("retry", program.mountpoint / "projects" / "a", program.mountpoint / "projects" / "b")
    assert (done.returncode, done.stdout) == (0, "sending 4 files again\n")
    assert program.run("retry").stdout == "sending 2 files again\n"
    assert events_of_writing(program) == ["retry /projects/a", "retry /projects/b", "retry None"]


def test_cancel_names_what_would_be_given_up_and_refuses_without_a_yes(program):
    mounted(program, unfinished=[{**SENDING, **FAILED, "files": 4}])
    done = program.run("cancel", program.mountpoint / "projects")
    assert done.returncode == ExitStatus.USAGE
    assert done.stdout.splitlines() == [
        f"{program.mountpoint}/projects/x.dcm: the quota is used up",
        f"{program.mountpoint}/projects/a",
        f"{program.mountpoint}/projects/b",
        "and 2 more files",
        "on their way: 100 B, of which the server has 40 B",
    ]
    assert done.stderr == "agorafs: 5 files would be given up; say --yes if they are to be\n"
    assert events_of_writing(program) == []


def test_cancel_with_a_yes_gives_up(program):
    mounted(program, unfinished=[FAILED])
    done = program.run("cancel", "--yes", program.mountpoint / "projects" / "x.dcm")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("1 file given up\n")
    assert events_of_writing(program) == ["cancel /projects/x.dcm"]


def test_cancel_of_a_whole_mount_is_possible(program):
    mounted(program, unfinished=[FAILED])
    assert program.run("cancel", "--yes", program.mountpoint).returncode == 0
    assert events_of_writing(program) == ["cancel /"]


def test_cancel_where_nothing_waits_says_so(program):
    mounted(program)
    done = program.run("cancel", program.mountpoint / "projects", "--yes")
    assert (done.returncode, done.stderr) == (1, "agorafs: nothing there is waiting for the server\n")


@pytest.mark.parametrize(("answer", "is_given_up"), [("yes", True), ("y", False), ("no", False), ("", False)])
def test_cancel_on_a_terminal_takes_nothing_but_yes_for_an_answer(program, answer, is_given_up):
    mounted(program, unfinished=[FAILED])
    ours, theirs = pty.openpty()
    try:
        with subprocess.Popen(
            program.command("cancel", program.mountpoint / "projects"),
            env=program.environment(),
            cwd=ROOT,
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            os.write(ours, answer.encode() + b"\n")
            output, errors = process.communicate(timeout=TIMEOUT_S)
    finally:
        os.close(ours)
        os.close(theirs)
    assert "Type yes:" in output
    if is_given_up:
        assert (process.returncode, events_of_writing(program)) == (0, ["cancel /projects"])
    else:
        assert (process.returncode, events_of_writing(program)) == (1, [])
        assert errors == "agorafs: nothing was given up\n"


# --- upload ----------------------------------------------------------------------------------------------

STORED = {"files": 3, "stored": 2, "existed": 1, "bytes": 30, "sent_bytes": 30}
UNDER_WAY = {"state": "uploading", "files": 3, "stored": 1, "bytes": 30, "sent_bytes": 15}


@pytest.fixture
def data(program):
    """Return a directory with three files, one of them below another directory."""
    directory = program.home / "scan"
    (directory / "sub").mkdir(parents=True)
    for name in ("a.raw", "a.lab", "sub/c"):
        (directory / name).write_text(name)
    return directory


def test_upload_waits_until_all_is_stored_and_sums_up(program, data):
    mounted(program, uploading=[UNDER_WAY, UNDER_WAY, STORED])
    done = program.run("upload", data, program.mountpoint / "projects" / "X" / "folders" / "Y")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "3 files: 2 uploaded, 1 existed\n"
    assert events_of_writing(program) == [
        "upload scan/a.lab, scan/a.raw, scan/sub/c to /projects/X/folders/Y import=None relations=None"
    ]


@pytest.mark.parametrize("destination", ["X/Y Z", "X/Y Z/", "X//Y Z"])
def test_upload_takes_project_and_folder_where_there_is_one_mount(program, data, destination):
    mounted(program, uploading=[STORED])
    assert program.run("upload", "--contents", data, destination).returncode == 0
    assert events_of_writing(program)[0].startswith("upload a.lab, a.raw, sub/c to /projects/X/folders/Y Z ")


def test_upload_takes_project_and_folder_also_when_the_working_directory_is_on_the_mount(program, data):
    mounted(program, uploading=[STORED])
    here = program.mountpoint / "projects" / "X" / "folders"
    (here / "Y").mkdir(parents=True)
    for destination in ("X/Y", "Y", "Z"):
        assert program.run("upload", data / "a.raw", destination, cwd=here).returncode == 0
    taken = [event.split(" to ")[1].split(" import=")[0] for event in events_of_writing(program)]
    assert taken == ["/projects/X/folders/Y", "/projects/X/folders/Y", "/projects/X/folders/Z"]


def test_upload_options_may_stand_anywhere(program, data):
    mounted(program, uploading=[STORED])
    done = program.run("upload", data / "a.raw", "--verify", data / "a.lab", "--timeout", "60", "X/Y")
    assert done.returncode == 0, done.stderr
    assert events_of_writing(program)[1].startswith("upload a.raw, a.lab to /projects/X/folders/Y ")


def test_upload_with_several_mounts_wants_to_know_which(program, data):
    other = program.home / "other"
    mounted(program, other, uploading=[STORED])
    done = program.run("upload", data, "X/Y")
    assert (done.returncode, done.stderr.count("\n")) == (ExitStatus.USAGE, 1)
    assert "say --mount MOUNTPOINT" in done.stderr
    assert program.run("upload", "--mount", other, data, "X/Y").returncode == 0
    assert len(events_of_writing(program)) == 1


@pytest.mark.parametrize(
    ("destination", "status"),
    [("X/../Y", ExitStatus.USAGE), ("", ExitStatus.USAGE), ("/nowhere/Y", ExitStatus.MOUNT_POINT)],
)
def test_upload_to_what_is_no_place_is_refused(program, data, destination, status):
    mounted(program)
    done = program.run("upload", data, destination, cwd=program.home)
    assert (done.returncode, done.stderr.count("\n")) == (status, 1), done.stderr
    assert events_of_writing(program) == []


def test_upload_to_the_root_of_a_mount_is_refused(program, data):
    mounted(program)
    done = program.run("upload", data, program.mountpoint)
    assert done.returncode == ExitStatus.USAGE
    assert "takes no files" in done.stderr


def test_upload_without_a_mount_says_what_to_do(program, data):
    done = program.run("upload", data, "X/Y")
    assert done.returncode == ExitStatus.MOUNT_POINT
    assert "agorafs mount first, or say --server" in done.stderr


def test_upload_of_what_is_on_that_mount_is_refused(program, data):
    """Its process would read from itself, and wait for itself."""
    mounted(program)
    (program.mountpoint / "file").touch()
    (data / "link").symlink_to(program.mountpoint / "file")
    done = program.run("upload", data, "X/Y")
    assert (done.returncode, events_of_writing(program)) == (ExitStatus.USAGE, [])
    assert f"{data}/link is on the mount already" in done.stderr


def test_upload_counts_what_the_server_had_already_whenever_that_was_found_out(program, data):
    """Before anything was sent, or by the import."""
    mounted(program, uploading=[{**STORED, "files": 2, "stored": 1}], skipped=1)
    assert program.run("upload", data, "X/Y").stdout == "3 files: 1 uploaded, 2 existed\n"


def test_upload_shows_on_a_terminal_how_far_it_is(program, data):
    mounted(program, uploading=[UNDER_WAY, UNDER_WAY, STORED])
    ours, theirs = pty.openpty()
    try:
        done = subprocess.run(
            program.command("upload", data, "X/Y"),
            env=program.environment(),
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stderr=theirs,
            stdout=subprocess.DEVNULL,
            timeout=TIMEOUT_S,
            check=False,
        )
        shown = os.read(ours, 65536)
    finally:
        os.close(ours)
        os.close(theirs)
    assert done.returncode == 0
    assert b"[##########----------]  50 %  uploading, 15 B of 30 B, 2 files left" in shown
    assert shown.endswith(b"\r\x1b[K")


def test_upload_names_what_failed_and_says_the_rest(program, data):
    mounted(
        program, uploading=[{**STORED, "existed": 0, "failed": [{"path": "scan/a.lab", "reason": "quota"}]}]
    )
    done = program.run("upload", data, "X/Y")
    assert (done.returncode, done.stdout) == (ExitStatus.FAILED, "3 files: 2 uploaded, 1 failed\n")
    assert done.stderr == "agorafs: scan/a.lab: quota\n"


def test_upload_that_is_refused_says_why(program, data):
    mounted(program, upload_refused=["PermissionDenied", "the project is read-only for you"])
    done = program.run("upload", data, "X/Y")
    assert done.returncode == ExitStatus.NOT_AUTHENTICATED
    assert done.stderr == "agorafs: the project is read-only for you\n"


def test_upload_verify_asks_once_more_and_says_so(program, data):
    mounted(program, uploading=[STORED])
    done = program.run("upload", "--verify", data, "X/Y")
    assert done.stdout == "3 files: 2 uploaded, 1 existed; the server lists each with its SHA-1\n"
    refreshed, _, verified = events_of_writing(program)
    assert refreshed == "refresh /projects/X/folders/Y", "what is skipped is there by a fresh listing"
    assert verified == "verify 7"


def test_upload_verify_fails_when_the_server_does_not_list_a_file(program, data):
    mounted(program, uploading=[STORED], missing=[{"path": "scan/sub/c", "reason": "another SHA-1"}])
    done = program.run("upload", "--verify", data, "X/Y")
    assert (done.returncode, done.stderr) == (ExitStatus.FAILED, "agorafs: scan/sub/c: another SHA-1\n")
    assert "the server lists" not in done.stdout


def test_upload_no_wait_returns_when_the_files_are_accepted(program, data):
    mounted(program, uploading=[UNDER_WAY])
    done = program.run("upload", "--no-wait", data, "X/Y")
    assert (done.returncode, done.stdout) == (0, "3 files: 3 accepted\n")


@pytest.mark.parametrize(
    "options",
    [("--no-wait", "--verify"), ("--no-wait", "--timeout", "3"), ("--no-wait", "--server", URL),
     ("--mount", "/m", "--server", URL)],
)  # fmt: skip
def test_upload_options_that_contradict_each_other_are_refused(program, data, options):
    done = program.run("upload", *options, data, "X/Y")
    assert (done.returncode, done.stderr.count("\n")) == (ExitStatus.USAGE, 1)


def test_upload_gives_up_waiting_when_the_time_is_over(program, data):
    mounted(program, uploading=[{**UNDER_WAY, "waiting": "the server is away"}])
    done = program.run("upload", "--timeout", "0.1", data, "X/Y")
    assert done.returncode == ExitStatus.UNAVAILABLE
    assert done.stderr == (
        "agorafs: 2 files not on the server after 0.1 s (the server is away); what was accepted is kept, and the same "
        "command again goes on\n"
    )


def test_upload_hands_over_import_file_and_relations(program, data):
    mounted(program, uploading=[STORED])
    (program.home / "import.json").write_text('{"Version": "2.0.0"}')
    (program.home / "relations.json").write_text(json.dumps({"scan/a.raw": [str(data / "a.lab")]}))
    done = program.run(
        "upload", "--import-json", program.home / "import.json", "--relations", program.home / "relations.json",
        data, "X/Y",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert events_of_writing(program)[0].endswith(
        "import={'Version': '2.0.0'} relations={'scan/a.raw': ['scan/a.lab']}"
    )


def test_upload_sums_up_for_programs(program, data):
    mounted(
        program,
        uploading=[
            {
                **STORED,
                "existed": 0,
                "failed": [{"path": "scan/a.lab", "reason": "quota"}],
                "import_id": 12,
            }
        ],
    )
    done = program.run("upload", "--json", data, "X/Y")
    assert (done.returncode, done.stderr) == (ExitStatus.FAILED, "")
    assert json.loads(done.stdout) == {
        "files": 3, "uploaded": 2, "existed": 0, "bytes": 30, "failed": [{"path": "scan/a.lab", "reason": "quota"}],
        "failed_count": 1, "is_accepted_only": False, "is_verified": False, "import_id": 12,
    }  # fmt: skip


def test_upload_without_a_mount_has_the_server_itself(program, data):
    program.set_plan(uploading=[STORED])
    done = program.run("upload", "--server", URL, "--api-key-file", program.key_file, data, "X/Y")
    assert (done.returncode, done.stdout, done.stderr) == (0, "3 files: 2 uploaded, 1 existed\n", "")
    assert program.events() == [
        f"connect {URL} {program.key_file.read_text()}",
        "upload scan/a.lab, scan/a.raw, scan/sub/c to /projects/X/folders/Y import=None relations=None",
        "close",
    ]


def test_upload_without_a_mount_names_the_place_of_a_wrong_key(program, data):
    program.set_plan(connect_raises=["NotAuthenticated", "401"])
    done = program.run("upload", "--server", URL, "--api-key-file", program.key_file, data, "X/Y")
    assert done.returncode == ExitStatus.NOT_AUTHENTICATED
    assert f"{URL} does not accept the API key from {program.key_file}" in done.stderr


def test_upload_that_is_interrupted_says_that_nothing_is_lost(program, data):
    mounted(program, uploading=[UNDER_WAY])
    with subprocess.Popen(
        program.command("upload", data, "X/Y"),
        env=program.environment(),
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        program.wait_for_event(
            "upload scan/a.lab, scan/a.raw, scan/sub/c to /projects/X/folders/Y import=None relations=None"
        )
        process.send_signal(signal.SIGINT)
        assert process.wait(TIMEOUT_S) == ExitStatus.INTERRUPTED
        assert process.stderr is not None
        assert process.stderr.read() == "agorafs: interrupted; the same command again goes on\n"
