"""The list of mounts: true as long as the serving process lives, and not longer."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agorafs.errors import ExitStatus, UsageError
from agorafs.registry import (
    MountRecord,
    find_live,
    live_mounts,
    mounts_directory,
    register,
)
from tests.support.manual_clock import ManualClock

MOUNTPOINT = Path("/mnt/agora")
RECORD = MountRecord(str(MOUNTPOINT), "https://agora.example.org", 4242, 1_700_000_000, "/var/log/x")

_REGISTER_AND_WAIT = """
import sys
from pathlib import Path
from agorafs.registry import MountRecord, register
registration = register(Path(sys.argv[1]), MountRecord("/mnt/agora", "https://a", 1, 2, None))
print("registered", flush=True)
sys.stdin.read()
"""

_SHOW_LIVE = """
import os, sys
from pathlib import Path
from agorafs.registry import live_mounts
for record in live_mounts(Path(sys.argv[1])):
    assert sys.getfilesystemencoding() == "ascii", sys.getfilesystemencoding()
    sys.stdout.buffer.write(os.fsencode(record.mountpoint))
"""


def test_a_registered_mount_is_in_the_list_until_it_is_closed(tmp_path):
    registration = register(tmp_path, RECORD)
    assert live_mounts(tmp_path) == [RECORD]
    assert find_live(tmp_path, MOUNTPOINT) == RECORD
    assert find_live(tmp_path, Path("/mnt/other")) is None
    registration.close()
    registration.close()
    assert live_mounts(tmp_path) == []
    assert list(mounts_directory(tmp_path).iterdir()) == []


@pytest.mark.parametrize("name", ["Größe", "no UTF-8: \udcff"])
def test_a_mount_is_found_by_who_has_another_locale(tmp_path, name):
    """What is recorded of a path are its bytes, whatever the locale makes of them."""
    registration = register(tmp_path, dataclasses.replace(RECORD, mountpoint=f"/mnt/{name}", log_file=None))
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    found = subprocess.run(
        [sys.executable, "-c", _SHOW_LIVE, tmp_path],
        env=environment,
        capture_output=True,
        check=True,
    )
    assert found.stdout == os.fsencode(f"/mnt/{name}")
    assert found.stderr == b""
    registration.close()


def test_a_mount_point_has_one_process_at_a_time(tmp_path):
    clock = ManualClock()
    first = register(tmp_path, RECORD)
    with pytest.raises(UsageError, match="served by another") as refused:
        register(tmp_path, RECORD, monotonic=clock.monotonic, sleep=clock.sleep)
    assert refused.value.exit_status is ExitStatus.MOUNT_POINT
    assert live_mounts(tmp_path) == [RECORD], "the refused one has not disturbed the first"
    first.close()
    register(tmp_path, RECORD).close()


def test_a_process_that_was_killed_is_not_in_the_list(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", _REGISTER_AND_WAIT, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "registered\n"
        assert find_live(tmp_path, MOUNTPOINT) is not None
        socket = next(mounts_directory(tmp_path).iterdir()).with_suffix(".sock")
        socket.touch()
        process.kill()
    assert find_live(tmp_path, MOUNTPOINT) is None
    assert list(mounts_directory(tmp_path).iterdir()) == [], "record and socket are cleared away"
    register(tmp_path, RECORD).close()


def test_what_is_not_a_record_is_left_out(tmp_path):
    registration = register(tmp_path, RECORD)
    (mounts_directory(tmp_path) / "0000.json").write_text("no JSON", encoding="ascii")
    assert live_mounts(tmp_path) == [RECORD]
    registration.close()


def test_an_empty_state_directory_has_no_mounts(tmp_path):
    assert live_mounts(tmp_path / "nothing") == []


def test_state_is_open_to_its_owner_alone(tmp_path):
    state = tmp_path / "state"
    registration = register(state, RECORD)
    record = next(mounts_directory(state).iterdir())
    assert [path.stat().st_mode & 0o777 for path in (state, mounts_directory(state), record)] == [
        0o700,
        0o700,
        0o600,
    ]
    registration.close()
