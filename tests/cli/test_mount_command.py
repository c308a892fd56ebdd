"""``agorafs mount`` and its companions from outside, with ``fake_layers`` in the place of server and kernel."""

import json
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from agorafs import mountpoint as mountpoints
from agorafs.commands.places import place_of
from agorafs.errors import ExitStatus, UsageError
from agorafs.mountpoint import FS_TYPE, MountEntry
from tests.cli.program import KEY, TIMEOUT_S, URL

NEW_KEY = "sesame-5678"


def test_mount_returns_0_when_the_mount_is_ready_and_prints_nothing(program):
    done = program.mount()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert program.events() == [f"connect {URL} {KEY}", f"serve {program.mountpoint} nodev nosuid"]


def test_the_form_that_mount_8_uses_is_understood(program):
    options = f"ro,noexec,nosuid,nodev,uid=1000,api_key_file={program.key_file}"
    done = program.run(URL, program.mountpoint, "-o", options)
    assert (done.returncode, done.stderr) == (0, "")
    assert program.events()[-1] == f"serve {program.mountpoint} nodev nosuid noexec"


def test_options_may_stand_anywhere(program):
    done = program.run("mount", "-o", "ro", URL, "--api-key-file", program.key_file, program.mountpoint, "-v")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        ("NotAuthenticated", ExitStatus.NOT_AUTHENTICATED),
        ("RemoteUnavailable", ExitStatus.UNAVAILABLE),
        ("RemoteTimeout", ExitStatus.UNAVAILABLE),
        ("ServerTooOld", ExitStatus.SERVER_TOO_OLD),
        ("TlsError", ExitStatus.TLS),
        ("ProtocolError", ExitStatus.PROTOCOL),
    ],
)
@pytest.mark.parametrize("foreground", [(), ("-f",)])
def test_each_failure_to_connect_is_one_line_and_a_distinct_status(program, error, status, foreground):
    program.set_plan(connect_raises=[error, "what happened"])
    done = program.mount(*foreground)
    assert (done.returncode, done.stdout) == (status, "")
    assert "what happened" in done.stderr
    assert done.stderr.startswith("agorafs: ")
    assert done.stderr.count("\n") == 1
    assert KEY not in done.stderr
    assert program.pids() == []


def test_a_wrong_key_is_named_by_its_place(program):
    program.set_plan(connect_raises=["NotAuthenticated", "401 Unauthorized"])
    assert f"{URL} does not accept the API key from {program.key_file}" in program.mount().stderr


def test_a_server_that_is_away_is_named_by_its_address(program):
    program.set_plan(connect_raises=["RemoteUnavailable", "Connection refused"])
    assert f"Connection refused: check the address {URL}" in program.mount().stderr


def test_devices_and_foreign_privileges_are_never_allowed(program):
    """mount(8) adds dev and suid by itself when root mounts."""
    assert program.mount("-o", "rw,dev,suid").returncode == 0
    assert program.events()[-1] == f"serve {program.mountpoint} nodev nosuid"


def test_a_process_that_dies_without_a_word_is_reported(program):
    program.set_plan(connect_dies=5)
    done = program.mount()
    assert done.returncode == ExitStatus.BUG
    assert done.stderr.startswith(
        "agorafs: the mount's process ended with status 5 without saying why; see /"
    )


def test_fuse_that_ends_before_it_is_ready_is_a_failure(program):
    program.set_plan(serve_ends=True)
    done = program.mount()
    assert done.returncode == ExitStatus.NO_FUSE
    assert "ended before it was ready" in done.stderr
    assert program.events()[-1] == "close"


def test_a_bug_is_one_line_and_its_traceback_is_in_the_log_without_the_key(program):
    program.set_plan(connect_has_a_bug=True)
    done = program.mount()
    assert done.returncode == ExitStatus.BUG
    assert done.stderr == "agorafs: internal error: ZeroDivisionError, see the log\n"
    log = next((program.state / "logs").iterdir()).read_text()
    assert "Traceback" in log
    assert "ZeroDivisionError: with ***" in log
    assert KEY not in program.everything_written()


def test_a_second_mount_of_the_same_directory_says_who_serves_it(program):
    assert program.mount().returncode == 0
    done = program.mount()
    assert done.returncode == ExitStatus.MOUNT_POINT
    assert f"already a mount of {URL}, served by process {program.pids()[0]}" in done.stderr
    assert len(program.pids()) == 1


def test_a_mount_killed_without_warning_does_not_hinder_the_next(program):
    assert program.mount().returncode == 0
    program.stop(program.pids()[0], signal.SIGKILL)
    assert program.pids() == []
    assert program.mount().returncode == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_stop_unmounts_and_closes_in_order(program, number):
    assert program.mount().returncode == 0
    program.stop(program.pids()[0], number)
    assert program.events()[-2:] == [f"unmount {program.mountpoint}", "close"]
    assert program.pids() == []


def test_a_busy_mount_is_detached_when_told_to_stop(program):
    program.set_plan(busy=True)
    assert program.mount().returncode == 0
    program.stop(program.pids()[0])
    unmount = f"unmount {program.mountpoint}"
    assert program.events()[-3:] == [unmount, f"{unmount} lazily", "close"]


def test_a_file_held_open_does_not_keep_the_process_from_ending(program):
    program.set_plan(held_open=True)
    assert program.mount().returncode == 0
    program.stop(program.pids()[0])
    assert f"unmount {program.mountpoint}" in program.events()


def test_in_the_foreground_the_process_stays_and_ends_with_0_on_interrupt(program):
    with subprocess.Popen(
        program.command("mount", "-f", URL, program.mountpoint, "--api-key-file", program.key_file),
        env=program.environment(),
        cwd=Path(__file__).parents[2],
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        assert f"is mounted at {program.mountpoint}" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(TIMEOUT_S) == 0
        assert KEY not in process.stderr.read()


def test_an_interrupt_while_the_server_does_not_answer_ends_with_130(program):
    program.set_plan(connect_waits=True)
    with subprocess.Popen(
        program.command("mount", "-f", URL, program.mountpoint, "--api-key-file", program.key_file),
        env=program.environment(),
        cwd=Path(__file__).parents[2],
        stderr=subprocess.PIPE,
    ) as process:
        program.wait_for_event(f"connect {URL} {KEY}")
        process.send_signal(signal.SIGINT)
        assert process.wait(TIMEOUT_S) == ExitStatus.INTERRUPTED


def test_an_interrupt_of_the_waiting_parent_stops_the_child(program):
    program.set_plan(connect_waits=True)
    with subprocess.Popen(
        program.command("mount", URL, program.mountpoint, "--api-key-file", program.key_file),
        env=program.environment(),
        cwd=Path(__file__).parents[2],
        stderr=subprocess.PIPE,
    ) as process:
        program.wait_for_event(f"connect {URL} {KEY}")
        process.send_signal(signal.SIGINT)
        assert process.wait(TIMEOUT_S) == ExitStatus.INTERRUPTED
        assert process.stderr is not None
        assert process.stderr.read() == b"", "an interrupt needs no words"
    assert program.pids() == []


def test_sighup_reads_the_key_again_and_drops_all_listings(program):
    assert program.mount().returncode == 0
    program.key_file.write_text(NEW_KEY)
    os.kill(program.pids()[0], signal.SIGHUP)
    program.wait_for_event("refresh None")
    assert program.events()[-2:] == [f"credential {NEW_KEY}", "refresh None"]


def test_sighup_with_an_unusable_key_file_keeps_the_old_key_and_the_mount(program):
    assert program.mount().returncode == 0
    program.key_file.unlink()
    pid = program.pids()[0]
    os.kill(pid, signal.SIGHUP)
    program.wait_for_log("the old one stays")
    program.key_file.write_text(NEW_KEY)
    os.kill(pid, signal.SIGHUP)
    program.wait_for_event("refresh None")
    assert program.pids() == [pid]


def test_refresh_reaches_the_mount_with_a_path_inside_it(program):
    assert program.mount().returncode == 0
    assert program.run("refresh", program.mountpoint / "projects" / "A ∕ B").returncode == 0
    assert program.run("refresh", program.mountpoint).returncode == 0
    assert program.events()[-2:] == ["refresh /projects/A ∕ B", "refresh None"]
    done = program.run("refresh", program.mountpoint / "missing")
    assert (done.returncode, done.stderr) == (ExitStatus.FAILED, "agorafs: /missing does not exist\n")


def test_refresh_of_a_path_that_is_not_on_a_mount_is_refused(program):
    assert program.mount().returncode == 0
    done = program.run("refresh", str(program.mountpoint) + "-not")
    assert done.returncode == ExitStatus.MOUNT_POINT
    assert "is not on a mount of agorafs" in done.stderr


def test_status_shows_every_mount_for_programs_and_for_people(program):
    assert program.run("status").stdout == "no mounts\n"
    assert program.mount().returncode == 0
    done = program.run("status", program.mountpoint, "--json")
    assert done.returncode == 0
    (mount,) = json.loads(done.stdout)["mounts"]
    assert mount["mountpoint"] == str(program.mountpoint)
    assert mount["url"] == URL
    assert mount["status"]["content"] == {"used_bytes": 1536}
    assert mount["status"]["server"] == "ok"
    assert mount["status"]["recent_errors"][0]["path"] == "/projects"
    text = program.run("status").stdout
    assert text.startswith(f"{program.mountpoint}  {URL}\n")
    assert "    used bytes: 1.5 KiB\n" in text
    assert re.search(
        r"^    2023-11-1\dT\d\d:\d\d:20[+-]\d{4}  /projects  RemoteTimeout  no answer$", text, re.M
    )


@pytest.mark.parametrize(
    ("server", "status"), [("away", ExitStatus.UNAVAILABLE), ("refused", ExitStatus.NOT_AUTHENTICATED)]
)
def test_status_of_a_mount_that_is_not_well_is_not_0(program, server, status):
    program.set_plan(server=server)
    assert program.mount().returncode == 0
    assert program.run("status").returncode == status


def test_status_of_a_directory_that_is_not_a_mount_is_refused(program):
    done = program.run("status", program.home)
    assert (done.returncode, done.stdout) == (ExitStatus.MOUNT_POINT, "")


def test_status_of_a_directory_on_a_mount_names_the_mount(program):
    assert program.mount().returncode == 0
    done = program.run("status", program.mountpoint / "projects")
    assert done.returncode == ExitStatus.MOUNT_POINT
    assert done.stderr.endswith(f"is not a mount point: run agorafs status {program.mountpoint}\n")


def test_a_mount_that_the_state_directory_does_not_know_is_not_denied(tmp_path, monkeypatch):
    mount = MountEntry(tmp_path, FS_TYPE, URL)
    monkeypatch.setattr(mountpoints, "current_mounts", lambda: [mount])
    for path in (tmp_path, tmp_path / "projects"):
        with pytest.raises(UsageError, match=rf"^{path} is on a mount .* say the same here$") as caught:
            place_of(str(path), tmp_path / "state")
        assert caught.value.exit_status == ExitStatus.MOUNT_POINT
    with pytest.raises(UsageError, match=r"is not on a mount of agorafs$"):
        place_of(f"{tmp_path}-not", tmp_path / "state")


def test_the_key_is_nowhere_but_in_its_file(program):
    assert program.mount("-v").returncode == 0
    (pid,) = program.pids()
    for name in ("cmdline", "environ"):
        assert KEY not in Path(f"/proc/{pid}/{name}").read_text()
    assert KEY not in program.run("status", "--json").stdout
    assert KEY not in program.everything_written()


def test_an_unusable_state_directory_has_its_own_status(program):
    done = program.mount("--state-dir", program.plan / "below-a-file")
    assert done.returncode == ExitStatus.CACHE_DIRECTORY
    assert done.stderr.count("\n") == 1


def test_a_cache_below_the_mount_point_is_refused(program):
    done = program.mount("--cache-dir", program.mountpoint / "cache")
    assert done.returncode == ExitStatus.MOUNT_POINT
    assert "lies inside" in done.stderr


def test_a_missing_file_of_certificates_is_named(program):
    done = program.mount("--ca-bundle", "/nowhere/ca.pem")
    assert done.returncode == ExitStatus.TLS
    assert "/nowhere/ca.pem" in done.stderr


def test_umount_of_a_directory_that_is_not_a_mount_is_refused(program):
    done = program.run("umount", program.home)
    assert done.returncode == ExitStatus.MOUNT_POINT
    assert done.stderr == f"agorafs: nothing is mounted at {program.home}\n"


def test_a_key_from_the_environment_is_not_left_in_the_environment_of_the_process(program):
    """``ps e`` and programs that the process starts do not see it; SIGHUP uses it again all the same."""
    done = program.run("mount", URL, program.mountpoint, AGORA_API_KEY=KEY)
    assert done.returncode == 0, done.stderr
    (pid,) = program.pids()
    environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    assert b"AGORA_API_KEY=" + b"*" * len(KEY) in environment
    assert not [variable for variable in environment if KEY.encode() in variable]
    os.kill(pid, signal.SIGHUP)
    program.wait_for_event("refresh None")
    assert program.events()[-2:] == [f"credential {KEY}", "refresh None"]
