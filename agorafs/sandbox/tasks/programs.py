"""The built-in programs of tasks, as a script of its own: ``python -I programs.py`` in a working directory.

It reads ``manifest.json`` there, ``{"program", "parent", "files": [{"path", "name"}], "parameters", "title",
"limits", "tool"}``: the input files (``in/…``, read-only copies) with the names they have in the archive,
the values of the task's other inputs by key, a title for the results, and the path of an outside tool. Results are
files in ``out/``. Exit status 0 is success; else the last line of stderr is the reason.

========  =====================================================================================
checksum  SHA-1 and SHA-256 of every file, as ``sha256sum`` writes them; parameter ``algorithm``
header    every DICOM header as text, without pixels
nifti     ``dcm2niix``; parameter ``compress`` (default true)
========  =====================================================================================

Restrictions.  Before it looks at any input the process leaves the network (a network namespace of its own, where the
system lets unprivileged users have one), takes the limits of the manifest, and asks to be killed with its parent.
All of them hold for the outside tool, too, which replaces this process: nothing is ever forked.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import resource
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

_CLONE_NEWNET, _CLONE_NEWUSER = 0x40000000, 0x10000000
_PR_SET_PDEATHSIG = 1
_BUFFER_BYTES = 1 << 20
_ALGORITHMS = ("sha1", "sha256")

Manifest = Mapping[str, Any]


class ProgramError(Exception):
    """The inputs are not what the program needs; the text says why."""


def main() -> int:
    manifest = json.loads(Path("manifest.json").read_text(encoding="utf-8"))
    _restrict(manifest)
    try:
        _PROGRAMS[manifest["program"]](manifest)
    except (ProgramError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _restrict(manifest: Manifest) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    user, group = os.getuid(), os.getgid()
    if libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) == 0:
        # Files keep their owners: the namespace knows the one user and group that it was made by.
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    for name, limit in manifest["limits"].items():
        resource.setrlimit(getattr(resource, name), (limit, limit))
    # After the namespace, whose new rights take this back.
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != manifest["parent"]:  # it ended before the line above
        sys.exit("The server is gone.")


def _checksum(manifest: Manifest) -> None:
    wanted = manifest["parameters"].get("algorithm") or _ALGORITHMS
    algorithms = (wanted,) if isinstance(wanted, str) else wanted
    lines: dict[str, list[str]] = {name: [] for name in algorithms}
    for file in manifest["files"]:
        for name in algorithms:
            if name not in _ALGORITHMS:
                raise ProgramError(f"There is no checksum {name!r}; there are {', '.join(_ALGORITHMS)}.")
            lines[name].append(f"{_digest(Path(file['path']), name)}  {_line(file['name'])}\n")
    for name, found in lines.items():
        _write(f"{manifest['title']}.{name}", "".join(found))


def _digest(path: Path, algorithm: str) -> str:
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(_BUFFER_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _header(manifest: Manifest) -> None:
    import pydicom
    from pydicom.errors import InvalidDicomError

    parts = []
    for file in manifest["files"]:
        try:
            header = pydicom.dcmread(file["path"], stop_before_pixels=True)
            parts.append(f"# {_line(file['name'])}\n{header}\n")
        except InvalidDicomError:
            print(f"{_line(file['name'])} is no DICOM file and was passed over.")
    if not parts:
        raise ProgramError("None of the files is a DICOM file.")
    _write(f"{manifest['title']} header.txt", "\n".join(parts))


def _nifti(manifest: Manifest) -> None:
    tool = manifest["tool"]
    if tool is None:
        raise ProgramError("The program dcm2niix is not installed on this server.")
    compress = str(manifest["parameters"].get("compress", True)).lower() not in ("false", "0", "no", "off")
    # "i" compresses inside the program: another one could not be started. "%s" is the number of the series.
    name = f"{manifest['title']} %s"
    arguments = ["-b", "n", "-z", "i" if compress else "n", "-f", name, "-o", "out", "in"]
    sys.stdout.flush()
    os.execv(tool, [tool, *arguments])


def _line(name: str) -> str:
    """Return a name that can not look like two lines."""
    return name.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")


def _write(name: str, text: str) -> None:
    (Path("out") / name).write_text(text, encoding="utf-8", errors="backslashreplace")


_PROGRAMS: Mapping[str, Callable[[Manifest], None]] = {
    "checksum": _checksum,
    "header": _header,
    "nifti": _nifti,
}


if __name__ == "__main__":
    sys.exit(main())
