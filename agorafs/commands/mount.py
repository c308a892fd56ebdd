"""Mount an Agora server at a directory.

Steps, in an order that lets nothing be half done: read all settings; see whether FUSE and the directory are
usable, clearing away what a crash has left; fork (unless in the foreground); connect and mount in the child;
when it says that it is ready, ask the mount something, and only then return.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import textwrap
from pathlib import Path

from agorafs import mountpoint as mountpoints
from agorafs.commands.server_options import add_server_arguments, path_or, read_server
from agorafs.config import KNOWN_SETTINGS, Settings
from agorafs.daemon import Report, block_signals, start_in_background
from agorafs.errors import ExitStatus, UsageError
from agorafs.mount_process import MountProcess
from agorafs.options import KERNEL_FLAGS
from agorafs.private_directory import make_private_directory
from agorafs.profiles import Resolved
from agorafs.registry import find_live, mount_id

_READY_MARGIN_S = 60.0  # on top of the deadline: imports on a slow machine, opening a large cache
_FIRST_ANSWER_TIMEOUT_S = 10.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what ``agorafs mount`` understands."""
    parser.add_argument("source", metavar="SOURCE", help="https://… or the name of a profile")
    parser.add_argument("mountpoint", metavar="MOUNTPOINT", help="an empty directory")
    parser.add_argument("-f", "--foreground", action="store_true", help="stay, and log to standard error")
    add_server_arguments(parser)
    parser.add_argument("--log-file", metavar="FILE", help="instead of a file in the state directory")
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _options_help()


def _options_help() -> str:
    defaults = {field.name: field.default for field in dataclasses.fields(Settings)}
    lines = ["options of -o:"]
    for name, about in KNOWN_SETTINGS.items():
        default = defaults[name]
        shown = "" if default in (None, False, -1, Path()) else f" (default {_shown(name, default)})"
        lines += textwrap.wrap(
            f"{name}: {about.help_text}{shown}", 100, initial_indent="  ", subsequent_indent="      "
        )
    flags = ", ".join(sorted(KERNEL_FLAGS))
    lines += textwrap.wrap(
        f"also: ro, rw, nonempty, api_key_file=FILE, token_file=FILE, username=NAME, password_file=FILE, "
        f"config=FILE, log_file=FILE, {flags}",
        100,
        initial_indent="  ",
        subsequent_indent="      ",
    )
    return "\n".join(lines)


def _shown(name: str, default: object) -> str:
    if isinstance(default, int) and name.endswith("_bytes"):
        for unit, factor in (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024)):
            if default >= factor and default % factor == 0:
                return f"{default // factor} {unit}"
    if name == "umask":
        return f"{default:03o}"
    return f"{default:g} s" if isinstance(default, float) else str(default)


@dataclasses.dataclass(frozen=True, slots=True)
class _Request:
    """What the user asked for, all places looked at."""

    resolved: Resolved
    mountpoint: Path
    nonempty: bool
    log_file: Path | None


def run(arguments: argparse.Namespace) -> ExitStatus:
    """Mount, and return when the mount answers; in the foreground, when it has ended."""
    request = _read_request(arguments)
    settings = request.resolved.settings
    _prepare(request)
    warning = request.resolved.credential_source.warning()
    if warning:
        print(f"agorafs: warning: {warning}", file=sys.stderr)
    if arguments.foreground:
        return _serve_in_foreground(request)
    log_file = request.log_file or _default_log_file(settings, request.mountpoint)
    start_in_background(
        lambda report: MountProcess(request.resolved, request.mountpoint, report, log_file=log_file).run(),
        log_file=log_file,
        ready_timeout_s=settings.deadline_s + _READY_MARGIN_S,
    )
    _check_answers(request.mountpoint, log_file)
    return ExitStatus.OK


def _read_request(arguments: argparse.Namespace) -> _Request:
    resolved, options = read_server(arguments.source, arguments)
    return _Request(
        resolved=resolved,
        mountpoint=mountpoints.resolve_mountpoint(Path(arguments.mountpoint)),
        nonempty=options.nonempty,
        log_file=path_or(arguments.log_file, options.log_file),
    )


def _prepare(request: _Request) -> None:
    """See that the mount can be made, before anything is started."""
    from agorafs.fuse_mount import require_binding

    settings, mountpoint = request.resolved.settings, request.mountpoint
    require_binding(settings.binding)
    mountpoints.check_fuse_available()
    if settings.allow_other:
        mountpoints.check_allow_other()
    make_private_directory(settings.state_directory)
    _clear_mountpoint(settings, mountpoint)
    mountpoints.check_directory(mountpoint, nonempty=request.nonempty)
    needed = [("the cache", settings.cache_directory), ("the state directory", settings.state_directory)]
    if request.resolved.credential_source.key_file is not None:
        needed.append(("the key file", request.resolved.credential_source.key_file))
    if settings.ca_bundle is not None:
        if not settings.ca_bundle.exists():
            raise UsageError(f"the file of certificates {settings.ca_bundle} does not exist", ExitStatus.TLS)
        needed.append(("the file of certificates", settings.ca_bundle))
    if request.log_file is not None:
        needed.append(("the log file", request.log_file))
    mountpoints.check_not_hiding(mountpoint, needed)


def _clear_mountpoint(settings: Settings, mountpoint: Path) -> None:
    """Take away a mount of ours whose process is dead; refuse if one is alive."""
    record = find_live(settings.state_directory, mountpoint)
    if record is not None:
        raise UsageError(
            f"{mountpoint} is already a mount of {record.url}, served by process {record.pid}: "
            f"run agorafs umount {mountpoint} first",
            ExitStatus.MOUNT_POINT,
        )
    entry = mountpoints.find_mount(mountpoint)
    if entry is None or not entry.is_ours:
        return
    error = mountpoints.stat_error(mountpoint)
    if error is None or not (mountpoints.is_stale(error) or isinstance(error, TimeoutError)):
        raise UsageError(
            f"{mountpoint} is already a mount of {entry.source}: run agorafs umount {mountpoint} first",
            ExitStatus.MOUNT_POINT,
        )
    if isinstance(error, TimeoutError):
        raise UsageError(
            f"{mountpoint} is a mount of {entry.source} that does not answer: "
            f"run agorafs umount --lazy {mountpoint} first",
            ExitStatus.MOUNT_POINT,
        )
    print(f"agorafs: clearing the mount that a crash left at {mountpoint}", file=sys.stderr)
    mountpoints.unmount(mountpoint, lazy=True)


def _default_log_file(settings: Settings, mountpoint: Path) -> Path:
    directory = make_private_directory(settings.state_directory / "logs")
    return directory / f"mount-{mount_id(mountpoint)}.log"


def _serve_in_foreground(request: _Request) -> ExitStatus:
    block_signals()
    report = Report(None)
    process = MountProcess(request.resolved, request.mountpoint, report, log_file=request.log_file)
    status = process.run()
    if report.failure is not None:
        raise UsageError(*report.failure)
    return status


def _check_answers(mountpoint: Path, log_file: Path) -> None:
    error = mountpoints.stat_error(mountpoint, _FIRST_ANSWER_TIMEOUT_S)
    if error is None:
        return
    mountpoints.unmount(mountpoint, lazy=True)
    raise UsageError(
        f"{mountpoint} was mounted but does not answer ({error.strerror}), so it was unmounted again; "
        f"see {log_file}",
        ExitStatus.MOUNT_POINT,
    )
