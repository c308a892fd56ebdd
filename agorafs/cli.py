"""The ``agorafs`` command: finds the sub-command, and turns every outcome into one line and an exit status.

Why.  Scripts, mount(8) and systemd read exit statuses (``errors.ExitStatus``) and people read one line. A
traceback is for the log. Nothing but the chosen sub-command is imported, so that ``agorafs --help`` is quick.

Form.  ``agorafs SOURCE MOUNTPOINT -o …`` without a sub-command is ``agorafs mount …``: this is how mount(8)
calls the program for ``mount -t fuse.agorafs`` and for a line in ``/etc/fstab``.

Failure.  ``main`` returns the status and does not raise, but for ``SystemExit`` of ``--help`` and of
argparse.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import os
import sys
import traceback
from collections.abc import Sequence
from types import ModuleType
from typing import NoReturn

from agorafs import __version__
from agorafs.config import did_you_mean
from agorafs.errors import AgoraFSError, ExitStatus, UsageError

_COMMANDS = {
    "mount": "mount a server at a directory",
    "umount": "unmount, once everything written is on the server",
    "status": "show this user's mounts, how they are, and what is being uploaded",
    "sync": "wait until everything written is verified on the server",
    "upload": "send files and directories, and wait until they are verified",
    "run": "have the server run a task, and wait for its results",
    "control": "give a command to a directory: tags, ratings, locks, copies and more",
    "pin": "fetch what is at a path, and keep it in the cache",
    "unpin": "let the cache evict what was pinned",
    "retry": "send again what the server did not take",
    "cancel": "give up files that are not on the server",
    "refresh": "show at once what others have changed at a path",
    "login": "exchange user name and password for a key, and write a profile",
    "ping": "say whether a server answers, and as whom",
    "sandbox": "run a small Agora-compatible server with demo data",
}


class _Parser(argparse.ArgumentParser):
    """Refuses with one line instead of the usage, and names the nearest option."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see {self.prog} --help")

    def parse_all(self, words: Sequence[str]) -> argparse.Namespace:
        """Return the arguments in *words*, all of which must be known."""
        # intermixed: an option may stand between two of several paths
        arguments, unknown = self.parse_known_intermixed_args(words)
        if unknown:
            word = unknown[0].partition("=")[0]
            hint = did_you_mean(word, self._option_string_actions)
            what = "unknown option" if word.startswith("-") else "one argument too many"
            self.error(f"{what}: {word}{hint}")
        return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal without UTF-8, or a name that is not UTF-8: shown with escapes, as on stderr.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        return int(_run(list(sys.argv[1:] if argv is None else argv)))
    except KeyboardInterrupt:
        return ExitStatus.INTERRUPTED
    except BrokenPipeError:
        # "agorafs status | head": nobody reads on. Python must not try to flush at its exit.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitStatus.FAILED
    except AgoraFSError as error:
        _complain(str(error))
        return int(error.exit_status)
    except Exception as error:  # noqa: BLE001 (whatever it is, its traceback is kept)
        _complain(f"internal error: {type(error).__name__}: {error}{_keep_traceback()}")
        return ExitStatus.BUG


def _run(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(_overview())
        return ExitStatus.OK if argv else ExitStatus.USAGE
    if argv[0] in ("-V", "--version"):
        print(f"agorafs {__version__}")
        return ExitStatus.OK
    name, rest = _sub_command(argv)
    module = importlib.import_module(f"agorafs.commands.{name}")
    parser = _Parser(prog=f"agorafs {name}", description=_first_paragraph(module), allow_abbrev=False)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    module.add_arguments(parser)
    status: int = module.run(parser.parse_all(rest))
    sys.stdout.flush()  # here, where a reader that has gone is still handled
    return status


def _first_paragraph(module: ModuleType) -> str:
    return (module.__doc__ or "").partition("\n\n")[0].strip()


def _sub_command(argv: list[str]) -> tuple[str, list[str]]:
    first = argv[0]
    if first in _COMMANDS:
        return first, argv[1:]
    hint = did_you_mean(first, _COMMANDS)
    if not first.startswith("-") and ("://" in first or (len(argv) > 1 and not hint)):
        return "mount", argv
    what = "unknown option" if first.startswith("-") else "unknown command"
    raise UsageError(f"{what}: {first}{hint or '; known are: ' + ', '.join(_COMMANDS)}")


def _overview() -> str:
    width = max(map(len, _COMMANDS)) + 2
    lines = [
        "agorafs mounts a GyroTools Agora imaging archive as a drive.",
        "",
        *(f"  agorafs {name:<{width}}{summary}" for name, summary in _COMMANDS.items()),
        f"  agorafs {'--version':<{width}}",
        "",
        "agorafs COMMAND --help says more.",
    ]
    return "\n".join(lines)


def _complain(message: str) -> None:
    with contextlib.suppress(OSError):
        print(f"agorafs: {' '.join(message.split())}", file=sys.stderr)


def _keep_traceback() -> str:
    """Write the current traceback to the log and return the words that say where it is."""
    text = traceback.format_exc()
    try:
        from agorafs.config import default_state_directory
        from agorafs.private_directory import make_private_directory

        path = make_private_directory(default_state_directory() / "logs") / "agorafs.log"
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "a", encoding="utf-8", errors="backslashreplace") as stream:
            stream.write(text)
    except (OSError, AgoraFSError):
        return ""
    return f"; see {path}"


if __name__ == "__main__":
    sys.exit(main())
