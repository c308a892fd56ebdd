"""The command itself: help, mistakes, and what a failure looks like."""

import importlib
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from agorafs import __version__, cli
from agorafs.errors import (
    CacheError,
    ExitStatus,
    IntegrityError,
    Interrupted,
    NotAuthenticated,
    NotFound,
    PermissionDenied,
    ProtocolError,
    RemoteTimeout,
    RemoteUnavailable,
    ServerTooOld,
    TlsError,
    UsageError,
)

COMMANDS = [
    "login",
    "ping",
    "mount",
    "umount",
    "status",
    "sync",
    "upload",
    "run",
    "control",
    "pin",
    "unpin",
    "retry",
    "cancel",
    "refresh",
    "sandbox",
]


def test_help_names_every_command_and_loads_none_of_them():
    program = (
        "import sys; from agorafs.cli import main; status = main(['--help']); "
        "heavy = {'requests', 'mfusepy', 'aiohttp', 'platformdirs'} & set(sys.modules); sys.exit(status or len(heavy))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    for command in COMMANDS:
        assert f"agorafs {command} " in done.stdout


def test_status_does_not_wait_for_the_http_library():
    program = (
        "import sys; from agorafs.cli import main; main(['status', '--state-dir', '/nonexistent']); "
        "sys.exit('requests' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60, check=True)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as left:
        cli.main([command, "--help"])
    assert left.value.code == 0
    assert f"usage: agorafs {command} " in capsys.readouterr().out


def test_the_help_of_mount_lists_every_setting(capsys):
    from agorafs.config import KNOWN_SETTINGS

    with pytest.raises(SystemExit):
        cli.main(["mount", "--help"])
    shown = capsys.readouterr().out
    assert [name for name in KNOWN_SETTINGS if f"  {name}: " not in shown] == []


def test_a_terminal_without_utf8_is_no_reason_to_fail():
    """What it cannot show is shown with escapes."""
    done = subprocess.run(
        [sys.executable, "-m", "agorafs.cli", "mount", "--help"],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert rb"OPT=VALUE\u2026" in done.stdout


def test_version(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"agorafs {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["mont"], "unknown command: mont (did you mean mount?)"),
        (["stauts", "/mnt"], "unknown command: stauts (did you mean status?)"),
        (["burst"], "unknown command: burst; known are: mount, umount"),
        (["--explode"], "unknown option: --explode"),
        (["status", "--jsno"], "unknown option: --jsno (did you mean --json?)"),
        (["status", "a", "b"], "one argument too many: b"),
        (["mount", "https://agora.example.org"], "required: MOUNTPOINT"),
        (["mount", "https://a", "/m", "-o", "alow_other"], "-o alow_other (did you mean allow_other?)"),
        (["https://a", "/m", "-o", "alow_other"], "-o alow_other (did you mean allow_other?)"),
        (["institute", "/m", "-o", "alow_other"], "-o alow_other (did you mean allow_other?)"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line_and_status_2(arguments, words, capsys):
    assert cli.main(arguments) == ExitStatus.USAGE
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("agorafs: ")
    assert words in shown.err
    assert shown.err.count("\n") == 1


@pytest.fixture
def failing_command(monkeypatch):
    """Return a function after which ``agorafs status`` raises *error*."""

    def fail_with(error):
        def run(arguments):
            raise error

        module = SimpleNamespace(__doc__="A command.", add_arguments=lambda parser: None, run=run)
        monkeypatch.setattr(importlib, "import_module", lambda name: module)

    return fail_with


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (NotFound("the thing"), 1),
        (UsageError("the thing"), 2),
        (NotAuthenticated("the thing"), 3),
        (PermissionDenied("the thing"), 3),
        (RemoteUnavailable("the thing"), 4),
        (RemoteTimeout("the thing"), 4),
        (ServerTooOld("the thing"), 5),
        (TlsError("the thing"), 6),
        (UsageError("the thing", ExitStatus.MOUNT_POINT), 7),
        (UsageError("the thing", ExitStatus.NO_FUSE), 8),
        (UsageError("the thing", ExitStatus.INSECURE_URL), 9),
        (ProtocolError("the thing"), 10),
        (UsageError("the thing", ExitStatus.CACHE_DIRECTORY), 11),
        (UsageError("the thing", ExitStatus.CONFIGURATION), 12),
        (CacheError("the thing"), 1),
        (IntegrityError("the thing"), 1),
        (Interrupted("the thing"), 130),
    ],
)
def test_every_expected_failure_is_one_line_and_its_own_status(failing_command, capsys, error, status):
    failing_command(error)
    assert cli.main(["status"]) == status
    assert capsys.readouterr().err == "agorafs: the thing\n"


def test_a_message_of_several_lines_is_made_one(failing_command, capsys):
    failing_command(UsageError("first\n  second"))
    cli.main(["status"])
    assert capsys.readouterr().err == "agorafs: first second\n"


def test_ctrl_c_is_130_without_words(failing_command, capsys):
    failing_command(KeyboardInterrupt())
    assert cli.main(["status"]) == 130
    assert capsys.readouterr().err == ""


def test_a_bug_is_70_with_its_traceback_in_the_log(failing_command, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    failing_command(ZeroDivisionError("by nothing"))
    assert cli.main(["status"]) == 70
    log = tmp_path / "agorafs" / "logs" / "agorafs.log"
    assert capsys.readouterr().err == f"agorafs: internal error: ZeroDivisionError: by nothing; see {log}\n"
    assert "Traceback" in log.read_text()
    assert log.stat().st_mode & 0o777 == 0o600


def test_a_reader_that_has_gone_is_no_error_to_shout_about():
    """``agorafs status | true``."""
    done = subprocess.run(
        f"{sys.executable} -m agorafs.cli status --state-dir /nonexistent | true",
        shell=True,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr == ""


def test_the_switches_of_the_sandbox_are_listed_without_a_directory(capsys):
    assert cli.main(["sandbox", "--switch", "help"]) == 0
    assert "ranges=on (on|off)\n" in capsys.readouterr().out


def test_the_sandbox_needs_a_directory(capsys):
    assert cli.main(["sandbox", "--port", "0"]) == ExitStatus.USAGE
    shown = capsys.readouterr()
    assert (shown.out, shown.err.count("\n")) == ("", 1)
    assert "--data DIR is missing" in shown.err
