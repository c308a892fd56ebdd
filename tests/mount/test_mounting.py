"""``agorafs mount`` on the real thing: 0 only when the mount answers, else one line that names the way out.

Also what else belongs to the life of a mount: a stale one is cleared, a busy one stays, mount(8) can do it, plain
fusepy can serve it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import trustme

from agorafs.errors import ExitStatus
from tests.support.http_server import ScriptedServer, answer, answer_json
from tests.support.mount import Mount, agorafs
from tests.support.sandbox import SandboxProcess
from tests.support.waiting import eventually

SERIES = "projects/Neuro Study/exams/Brain, volunteer/T1w 3D TFE/DICOM dataset/DICOM"


@pytest.fixture
def place(tmp_path):
    """A mount of no server yet, to be tried with any source and option."""
    one = Mount("http://127.0.0.1:1", "no-key-at-all", tmp_path / "place")
    yield one
    one.clear()


def assert_refused(done, status, *words):
    """One line, no traceback, the status, and the words that name the thing and the way out."""
    assert done.returncode == status, done.stderr
    assert done.stderr.startswith("agorafs: ") and done.stderr.count("\n") == 1, done.stderr
    for word in words:
        assert word in done.stderr


def refused(place, status, *words, arguments=(), api_key=None):
    done = place.try_mount(*arguments, api_key=api_key)
    assert not place.is_mounted()
    assert_refused(done, status, *words)


# -- what can go wrong -------------------------------------------------------------------------------


def test_mount_answers_as_soon_as_the_command_has_returned(demo, mount):
    """`agorafs mount` returns 0 only when the mount answers."""
    one = mount(demo)
    names = os.listdir(one.path)  # noqa: PTH208 - this is what programs do
    assert names == ["projects", "patients", "tags", "tasks"]
    assert os.statvfs(one.path).f_namemax == 255


def test_a_server_that_is_not_there_is_named(place):
    refused(place, ExitStatus.UNAVAILABLE, place.url, arguments=("-o", "deadline_s=1"))


def test_http_to_another_machine_is_refused_before_a_packet_is_sent(place):
    # 192.0.2.0/24 is set aside for documentation; an attempt to connect would end in a time-out, not at once
    place.url = "http://192.0.2.1"
    refused(place, ExitStatus.INSECURE_URL, "http://192.0.2.1", "--insecure")


def test_a_self_signed_certificate_is_refused_and_accepted_with_its_authority(demo_data, tmp_path, place):
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    files = {name: tmp_path / f"{name}.pem" for name in ("ca", "certificate", "key")}
    authority.cert_pem.write_to_path(str(files["ca"]))
    certificate.cert_chain_pems[0].write_to_path(str(files["certificate"]))
    certificate.private_key_pem.write_to_path(str(files["key"]))
    data = tmp_path / "server" / "data"
    shutil.copytree(demo_data, data)
    options = ["--tls-certificate", str(files["certificate"]), "--tls-key", str(files["key"])]
    with SandboxProcess(data, arguments=options, verify=files["ca"]) as server:
        assert server.url.startswith("https://")
        place.url = server.url
        refused(place, ExitStatus.TLS, "127.0.0.1", "--ca-bundle", api_key=server.api_key)
        done = place.try_mount("--ca-bundle", str(files["ca"]), api_key=server.api_key)
        assert done.returncode == 0, done.stderr
        assert (place.path / "projects").is_dir()
        place.umount()


def test_a_wrong_key_is_named_by_its_place_and_not_by_its_text(demo, place):
    place.url = demo.url
    refused(place, ExitStatus.NOT_AUTHENTICATED, demo.url, "AGORA_API_KEY", api_key="wrong-key-7f3a")
    assert "wrong-key-7f3a" not in place.log()


def test_no_key_says_where_one_can_come_from(demo, tmp_path):
    done = agorafs("mount", demo.url, tmp_path, home=tmp_path / "home")
    assert_refused(done, ExitStatus.NOT_AUTHENTICATED, "AGORA_API_KEY", "--api-key-file")


def test_a_server_that_is_too_old_is_named_with_both_versions(private_demo, place):
    private_demo.switch(version="7.13.0")
    place.url = private_demo.url
    refused(place, ExitStatus.SERVER_TOO_OLD, "7.13.0", "7.14", api_key=private_demo.api_key)


@pytest.mark.parametrize(
    "reply",
    [
        answer(b"<html>Please log in</html>", headers={"Content-Type": "text/html"}),
        answer(b'{"version": "7.14.6", ', headers={"Content-Type": "application/json"}),
        answer_json(["not", "a", "version"]),
    ],
    ids=["html", "malformed json", "another shape"],
)
def test_what_is_not_agoras_answer_is_said_to_be_none(place, reply):
    server = ScriptedServer()
    try:
        server.on("/api/v1/version/", reply)
        place.url = server.url
        refused(place, ExitStatus.PROTOCOL, server.url.removeprefix("http://"))
    finally:
        server.close()


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("listing_ttl=5", ["listing_ttl", "listing_ttl_s"]),
        ("nonsense", ["nonsense"]),
        ("connections=many", ["connections", "a whole number"]),
        ("api_key=secret-4711", ["api_key_file"]),
    ],
)
def test_an_unknown_option_or_value_is_refused_with_what_it_may_have_meant(place, option, words):
    refused(place, ExitStatus.USAGE, *words, arguments=("-o", option))


@pytest.mark.parametrize("parent", ["a file", "/proc"])
def test_a_cache_directory_that_can_not_be_made_is_named(demo, place, tmp_path, parent):
    (tmp_path / "a file").touch()
    directory = Path("/proc/agorafs") if parent == "/proc" else tmp_path / parent / "cache"
    place.url = demo.url
    options = ("-o", f"cache_directory={directory}")
    refused(place, ExitStatus.CACHE_DIRECTORY, str(directory), arguments=options, api_key=demo.api_key)


def test_a_mount_point_that_is_missing_or_no_directory_is_named(demo, place, tmp_path):
    place.url = demo.url
    real = place.path
    for path in (tmp_path / "missing", tmp_path / "file"):
        if path.name == "file":
            path.touch()
        place.path = path
        refused(place, ExitStatus.MOUNT_POINT, str(path))
    place.path = real


def test_a_mount_point_in_use_stays_in_use(demo, mount):
    one = mount(demo)
    assert_refused(one.try_mount(), ExitStatus.MOUNT_POINT, str(one.path), demo.url)
    assert (one.path / "projects").is_dir()


def test_a_machine_without_fuse_is_told_in_one_sentence_what_to_install(demo, place, monkeypatch):
    monkeypatch.setenv("FUSE_LIBRARY_PATH", "/nowhere/libfuse3.so.3")
    place.url = demo.url
    refused(place, ExitStatus.NO_FUSE, "fuse3", api_key=demo.api_key)


# -- the life of a mount -----------------------------------------------------------------------------


def test_a_stale_mount_left_by_a_crash_is_cleared_by_the_next_mount(demo, mount):
    one = mount(demo)
    pid = one.pid()
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not Path(f"/proc/{pid}").exists() or is_zombie(pid), 10)
    with pytest.raises(OSError):
        os.listdir(one.path)  # noqa: PTH208
    one.mount()
    assert (one.path / "projects").is_dir()
    assert one.pid() != pid


def is_zombie(pid):
    with contextlib.suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return True


def test_umount_waits_until_the_process_has_ended(demo, mount):
    one = mount(demo)
    pid = one.pid()
    one.umount()
    assert not one.is_mounted()
    assert not Path(f"/proc/{pid}").exists() or is_zombie(pid)
    assert_refused(one.run("umount", one.path), ExitStatus.MOUNT_POINT, str(one.path))


def test_a_busy_mount_stays_and_the_reason_is_said(demo, mount):
    one = mount(demo)
    with (one.path / SERIES / "IM_0004").open("rb"):
        done = one.run("umount", one.path)
        assert_refused(done, ExitStatus.MOUNT_POINT, str(one.path), str(os.getpid()))
        assert (one.path / "projects").is_dir()
    one.umount()


def test_sigterm_unmounts(demo, mount):
    one = mount(demo)
    os.kill(one.pid(), signal.SIGTERM)
    eventually(lambda: not one.is_mounted(), 15)


def test_two_mounts_of_one_user_share_the_cache(private_demo, mount, tmp_path):
    first = mount(private_demo)
    relative = Path(SERIES) / "IM_0004"
    content = (first.path / relative).read_bytes()
    second = Mount(private_demo.url, private_demo.api_key, first.home)
    second.path = tmp_path / "second"
    second.path.mkdir()
    try:
        second.mount()
        private_demo.reset_requests()
        assert (second.path / relative).read_bytes() == content
        assert not [request for request in private_demo.requests() if "download" in request["path"]]
        assert len(first.run("status").stdout.split("serving")) == 3
    finally:
        second.clear()


def test_mount_8_and_fstab_options_work(demo, mount, tmp_path):
    """``mount -t fuse.agorafs`` runs ``agorafs SOURCE DIR -o …`` with flags of its own."""
    directory = tmp_path / "bin"
    directory.mkdir()
    program = directory / "agorafs"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m agorafs.cli "$@"\n')
    program.chmod(0o755)
    key_file = tmp_path / "key"
    key_file.write_text(demo.api_key)
    key_file.chmod(0o600)
    one = Mount(demo.url, demo.api_key, tmp_path / "fstab")
    state = f"state_directory={one.home}/state/agorafs,cache_directory={one.home}/cache"
    helper = shutil.which("mount.fuse3", path=f"{os.environ['PATH']}:/sbin:/usr/sbin")
    assert helper is not None
    try:
        subprocess.run(
            [
                helper, f"agorafs#{demo.url}", str(one.path),
                "-o", f"ro,noauto,nofail,_netdev,user,api_key_file={key_file},{state}",
            ],
            env={"PATH": f"{directory}:/usr/bin:/bin:/usr/sbin:/sbin", "HOME": str(tmp_path)},
            check=True,
            timeout=60,
        )  # fmt: skip
        assert (one.path / "projects").is_dir()
        with pytest.raises(OSError):
            (one.path / "new").touch()
        one.umount()
    finally:
        one.clear()


@pytest.mark.parametrize("binding", ["mfusepy", "fusepy"])
def test_both_bindings_serve_the_same_tree_and_take_files(private_demo, mount, binding):
    one = mount(private_demo, f"binding={binding}")
    recorded = {datafile["sha1"] for datafile in private_demo.datafiles()}
    project = one.path / "projects/Neuro Study"
    files = [path for name in ("folders", "exams") for path in sorted((project / name).rglob("*"))]
    checked = 0
    for path in files:
        if path.is_symlink():
            assert path.lstat().st_size == len(os.readlink(path).encode())  # noqa: PTH115
        elif path.is_file():
            content = path.read_bytes()
            assert len(content) == path.stat().st_size
            assert hashlib.sha1(content).hexdigest() in recorded
            checked += 1
    assert checked > 180
    new = one.path / "projects/Neuro Study/folders/new"
    new.write_bytes(b"content")
    with new.open("r+b") as stream:
        new.unlink()
        stream.seek(7)
        stream.write(b" and more")
        stream.flush()
        assert os.fstat(stream.fileno()).st_size == 16
        stream.seek(0)
        assert stream.read() == b"content and more"
    assert not list(new.parent.glob(".fuse_hidden*"))
    assert not new.exists()
    assert os.getxattr(files[0], "user.agora.type")


# -- the key -----------------------------------------------------------------------------------------


def test_the_key_is_nowhere_to_be_seen(private_demo, mount):
    """The key never appears in logs, in the list of processes, in attributes or in `agorafs status`."""
    one = mount(private_demo, "debug")
    key = private_demo.api_key
    pid = one.pid()
    seen = []
    for path in [one.path, *sorted(one.path.rglob("*"))[:200]]:
        seen += [
            os.getxattr(path, name, follow_symlinks=False).decode()
            for name in os.listxattr(path, follow_symlinks=False)
        ]
    (one.path / SERIES / "IM_0004").read_bytes()
    private_demo.revoke()
    one.refresh(one.path)
    with pytest.raises(PermissionError):
        os.listdir(one.path / "projects")  # noqa: PTH208
    seen.append((one.path / ".agora/path").read_text())
    seen.append(Path(f"/proc/{pid}/cmdline").read_text())
    environment = Path(f"/proc/{pid}/environ").read_text()
    assert "AGORA_API_KEY=*" in environment, "the key was given in the environment and is not seen there"
    seen.append(environment)
    seen.append(one.run("status").stdout + one.run("status", "--json").stdout)
    kept = [path for path in (one.home / "state").rglob("*") if path.is_file()]
    seen += [path.read_text(errors="replace") for path in kept]
    assert len(kept) >= 2 and one.log()
    assert not [text for text in seen if key in text]
    unlisted = [sock for sock in (one.home / "state").rglob("*") if sock.is_socket()]
    assert all(sock.stat().st_mode & 0o077 == 0 for sock in unlisted)


def test_no_server_listens_beyond_this_machine(private_demo):
    host = private_demo.url.removeprefix("http://").partition(":")[0]
    assert socket.inet_aton(host)[0] == 127
