"""The command line: what it prints, how it ends, and what it says when it cannot run."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import socket
import subprocess
import sys

import pytest
import requests
import trustme

from agorafs.sandbox import bulk
from agorafs.sandbox.run import add_arguments, main
from agorafs.sandbox.server import Sandbox
from agorafs.sandbox.store import DataDirectoryError, Store
from agorafs.sandbox.switches import SWITCHES
from tests.support.sandbox import SandboxProcess


def run(*arguments):
    """Run a sandbox that is expected to end by itself."""
    return subprocess.run(
        [sys.executable, "-m", "agorafs.sandbox", *arguments], capture_output=True, text=True, timeout=60
    )


def one_line(result):
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1 and "Traceback" not in result.stderr, result.stderr
    return lines[0]


def test_it_announces_itself_in_one_line_of_json_and_ends_with_zero(tmp_path):
    with SandboxProcess(tmp_path / "data") as process:
        assert set(process.announced) >= {"url", "api_key"}
        assert process.url.startswith("http://127.0.0.1:")
        assert process.get("v1/user/current/")["username"] == "admin"
        assert process.stop() == 0
    assert process.log == ""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_without_json_it_prints_url_and_key_for_people_and_ends_with_zero(tmp_path, number):
    command = [sys.executable, "-u", "-m", "agorafs.sandbox", "--data", str(tmp_path / "data")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        first, second, third = (process.stdout.readline() for _ in range(3))
        process.send_signal(number)
        assert process.wait(30) == 0
    assert "http://127.0.0.1:" in first
    assert second.startswith("API key:")
    assert "Stop" in third


def test_a_signal_ends_it_while_it_is_still_seeding(tmp_path, monkeypatch, capsys):
    """Told to stop while it seeds, it ends at once with 0 and announces nothing."""

    async def seed_for_ever(sandbox):
        signal.raise_signal(signal.SIGTERM)
        await asyncio.Event().wait()

    monkeypatch.setattr("agorafs.sandbox.run._seed", seed_for_ever)
    parser = argparse.ArgumentParser()
    add_arguments(parser)

    assert main(parser.parse_args(["--data", str(tmp_path / "data"), "--seed", "demo"])) == 0
    assert capsys.readouterr().out == ""


def test_keys_and_content_are_the_same_after_a_restart(tmp_path):
    with SandboxProcess(tmp_path / "data") as process:
        before, keys = process.post("v2/project/", {"name": "kept"}), dict(process.users)
        process.stop()
        process.start()
        assert process.users == keys
        assert process.get(f"v2/project/{before['id']}/") == before


def test_a_port_in_use_is_one_line_and_status_1(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = run("--data", str(tmp_path / "data"), "--port", str(port))
    assert result.returncode == 1
    assert f"127.0.0.1:{port}" in one_line(result)


def test_a_directory_in_use_by_another_sandbox_is_one_line_and_status_1(tmp_path):
    store = Store(tmp_path / "data")
    try:
        result = run("--data", str(tmp_path / "data"))
    finally:
        store.close()
    assert result.returncode == 1
    assert "in use by another sandbox" in one_line(result)


def test_a_directory_that_cannot_be_one_is_one_line_and_status_1(tmp_path):
    (tmp_path / "file").write_text("")
    result = run("--data", str(tmp_path / "file" / "data"))
    assert result.returncode == 1
    assert str(tmp_path / "file" / "data") in one_line(result)


def test_a_damaged_database_is_one_line_and_status_1(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "sandbox.sqlite").write_bytes(b"this is no database" * 1000)
    result = run("--data", str(tmp_path / "data"))
    assert result.returncode == 1
    assert "sandbox.sqlite" in one_line(result)


@pytest.mark.parametrize("switch", ["nonsense=1", "ranges=maybe", "ranges", "fault=explode:/:1"])
def test_a_wrong_switch_is_one_line_and_status_2(tmp_path, switch):
    result = run("--data", str(tmp_path / "data"), "--switch", switch)
    assert result.returncode == 2
    assert "agorafs sandbox: " in one_line(result)


def test_a_missing_package_is_named_with_what_to_install(tmp_path):
    program = (
        "import sys; sys.modules['aiohttp'] = None; sys.argv = ['x', '--data', sys.argv[1]]\n"
        "import runpy; runpy.run_module('agorafs.sandbox', run_name='__main__')"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "data")], capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 1
    assert "aiohttp" in one_line(result) and "agorafs[sandbox]" in result.stderr


def test_switches_on_the_command_line_are_in_force(tmp_path):
    with SandboxProcess(
        tmp_path / "data", switches={"version": "7.13.0", "fault": "status=503:/user/:1"}
    ) as process:
        assert requests.get(f"{process.url}/api/v1/version/", timeout=30).json()["version"] == "7.13.0"
        assert process.api("GET", "v1/user/current/").status_code == 503


def test_it_serves_https_with_a_certificate(tmp_path):
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "certificate.pem")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    arguments = (
        "--tls-certificate",
        str(tmp_path / "certificate.pem"),
        "--tls-key",
        str(tmp_path / "key.pem"),
    )
    with SandboxProcess(tmp_path / "data", arguments=arguments, verify=tmp_path / "ca.pem") as process:
        assert process.url.startswith("https://")
        content = bytes(range(256)) * 4096
        root = process.get("v2/project/myagora/")["root_folder"]
        datafile = process.upload({"f.bin": content}, folder=root)["datafiles"][0]["id"]
        assert process.api("GET", f"v1/datafile/{datafile}/download/").content == content
        with pytest.raises(requests.exceptions.SSLError):
            requests.get(f"{process.url}/api/v1/version/", timeout=30)


def test_a_certificate_without_its_key_is_status_2(tmp_path):
    result = run("--data", str(tmp_path / "data"), "--tls-certificate", "x.pem")
    assert result.returncode == 2
    assert "--tls-key" in one_line(result)


def test_it_runs_inside_a_process_too_and_leaves_the_directory_free(tmp_path):
    async def serve():
        sandbox = Sandbox(tmp_path / "data", switches={"ranges": "off"})
        await sandbox.start()
        try:
            with pytest.raises(DataDirectoryError):
                Store(tmp_path / "data")
            return await asyncio.to_thread(requests.get, f"{sandbox.url}/api/v1/version/", timeout=30)
        finally:
            await sandbox.stop()

    assert asyncio.run(serve()).json() == {"version": "7.14.6", "server": "agora-emulator"}
    Store(tmp_path / "data").close()


def test_the_first_line_parses_even_when_more_follow(tmp_path):
    """A script reads one line and goes on: that line is all there is on stdout."""
    command = [sys.executable, "-m", "agorafs.sandbox", "--data", str(tmp_path / "data"), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["api_key"]
        process.terminate()
        assert process.stdout.read() == ""
        assert process.wait(30) == 0


def test_reading_and_downloading_go_on_while_something_is_written(tmp_path):
    """A long import holds the writing connection; readers see the moment before it."""

    async def serve():
        sandbox = Sandbox(tmp_path / "data")
        await sandbox.start()
        try:
            return await asyncio.to_thread(read_during_a_transaction, sandbox)
        finally:
            await sandbox.stop()

    def read_during_a_transaction(sandbox):
        headers = {"Authorization": f"X-Agora-Api-Key {sandbox.api_key}"}
        root = bulk.root_folder(sandbox.store, 1)
        (file,) = bulk.add_files(sandbox.store, root, [("f.txt", b"content")])
        with sandbox.store.transaction() as db:
            db.execute("DELETE FROM datafile")
            download = f"{sandbox.url}/api/v1/datafile/{file.datafile}/download/"
            return [
                requests.get(url, headers=headers, timeout=10).content
                for url in (download, f"{sandbox.url}/api/v1/user/current/")
            ]

    content, user = asyncio.run(serve())
    assert content == b"content"
    assert json.loads(user)["username"] == "admin"


def test_switch_help_lists_every_switch_and_serves_nothing(tmp_path):
    result = run("--data", str(tmp_path / "data"), "--switch", "help")
    assert result.returncode == 0
    assert not (tmp_path / "data").exists()
    for switch in SWITCHES.values():
        assert f"{switch.name}=" in result.stdout and switch.meaning in result.stdout
