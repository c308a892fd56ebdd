#!/usr/bin/env python3
"""Look around on a mount and write to it with nothing but ordinary file operations, and check both.

Usage: tour.py MOUNTPOINT. Exit status 0 only if every byte read had the checksum that the server recorded, and the
server has what was written. ``agorafs`` is expected beside the Python that runs this.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

_MAX_FILES = 200  # enough to meet every kind of file of the demo data in a few seconds
_MAX_TREE_LINES = 30
_MAX_COLUMNS = 110  # one of the demo's names has three hundred characters


def main(mountpoint: Path) -> int:
    """Print the tour and return the exit status."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal without UTF-8 is shown escapes.
        sys.stdout.reconfigure(errors="backslashreplace")
    _title("the tree of the projects (the first levels)")
    for line_no, line in enumerate(_tree(mountpoint / "projects", depth=4)):
        if line_no == _MAX_TREE_LINES:
            print("…")
            break
        print(line if len(line) <= _MAX_COLUMNS else f"{line[: _MAX_COLUMNS - 1]}…")

    _title("SHA-1 of what is read, against the one the server recorded")
    checked = wrong = total_bytes = 0
    slice_path: Path | None = None
    for path in _files(mountpoint / "projects"):
        recorded = _attribute(path, "user.agora.sha1")
        if not recorded:
            continue
        content = path.read_bytes()
        is_dicom = content[128:132] == b"DICM"
        if is_dicom and slice_path is None:
            slice_path = path
        if hashlib.sha1(content).hexdigest() != recorded:
            wrong += 1
            print(f"WRONG: {path}")
        checked += 1
        total_bytes += len(content)
        if checked == _MAX_FILES:
            break
    print(f"{checked} files, {total_bytes / 1e6:.1f} MB, {wrong} wrong")
    if checked == 0 or wrong:
        return 1
    if slice_path is None:
        print("there is no DICOM file in the demo data", file=sys.stderr)
        return 1
    _show_slice(slice_path)
    return _write(mountpoint / "projects" / "My Agora" / "folders" / "session1") or _run_task(mountpoint)


def _write(folder: Path) -> int:
    """Write a file into *folder*, wait until it is stored, and compare it with what the server lists."""
    _title("a file is written, and stored on the server")
    path = folder / "notes.txt"
    # each run another text: a second one replaces the file of the first
    text = f"The subject moved. Written {time.strftime('%Y-%m-%d %H:%M:%S')}\n".encode()
    folder.mkdir(exist_ok=True)
    path.write_bytes(text)
    print(path)
    print(f"  user.agora.state after close: {_attribute(path, 'user.agora.state')}")
    agorafs = Path(sys.executable).with_name("agorafs")
    status = subprocess.run([agorafs, "sync", folder], check=False).returncode
    state = _attribute(path, "user.agora.state")
    print(f"  user.agora.state after agorafs sync (exit status {status}): {state}")
    if status or state != "stored":
        return 1
    # of the mount's own directory of what the server says, not of what was written here
    listed = folder / ".agora" / "entries" / path.name / "info.json"
    dataset = json.loads(listed.read_text(encoding="utf-8"))
    (datafile,) = dataset["datafiles"]
    is_right = datafile["sha1"] == hashlib.sha1(text).hexdigest()
    print(f"  on the server: dataset {dataset['id']}, {dataset['name']}, {datafile['size']} bytes")
    print(f"  its SHA-1 there: {datafile['sha1']} ({'that of what was written' if is_right else 'WRONG'})")
    return _annotate(path) if is_right else 1


def _annotate(path: Path) -> int:
    """Tag and rate the file at *path*, and compare with what its tags and its rating are as files."""
    _title("it is tagged and rated")
    os.setxattr(path, "user.agora.tags", b"good")
    os.setxattr(path, "user.agora.rating", b"4")
    beside = path.parent / ".agora" / "entries" / path.name
    said = [(beside / name).read_text(encoding="utf-8").rstrip("\n") for name in ("tags", "rating")]
    print(f"  tags: {said[0]}, rating: {said[1]}, user.xdg.tags: {_attribute(path, 'user.xdg.tags')}")
    return 0 if said == ["good", "4"] else 1


def _run_task(mountpoint: Path) -> int:
    """Let the server sum a file, and compare the result with the sum that it recorded."""
    _title("a task is run on the server, and its result read")
    project = mountpoint / "projects" / "Neuro Study"
    command = "ds=folders/Derived/NIfTI/brain_4d.nii algorithm=sha1 target=folders/Derived"
    run = project / "tasks" / "Checksum" / "run"
    run.write_text(f"{command}\n", encoding="utf-8")
    answer = run.read_text(encoding="utf-8")  # job 7: run Checksum …
    print(f"  {answer.splitlines()[0]}")
    job = mountpoint / ".agora" / "jobs" / answer.split()[1].rstrip(":")
    print(f"  {(job / 'wait').read_text(encoding='utf-8').rstrip()}")
    results = [path.read_text(encoding="utf-8").rstrip() for path in (job / "results").iterdir()]
    print("\n".join(f"  {result}" for result in results))
    recorded = _attribute(project / "folders" / "Derived" / "NIfTI" / "brain_4d.nii", "user.agora.sha1")
    return 0 if [result.split()[0] for result in results] == [recorded] else 1


def _show_slice(path: Path) -> None:
    from pydicom import dcmread

    _title(f"the header of {path.name}, read by pydicom")
    print(path)
    header = dcmread(path, stop_before_pixels=True)
    for keyword in ("PatientName", "StudyDate", "Modality", "SeriesDescription", "Rows", "Columns"):
        if keyword in header:
            print(f"  {keyword}: {header.get(keyword)}")

    _title("extended attributes of the same file (getfattr -d)")
    for name in sorted(os.listxattr(path))[:12]:
        print(f"  {name} = {_attribute(path, name)}")

    _title("what the server says of the directory it is in (.agora/info.json)")
    information = json.loads((path.parent / ".agora" / "info.json").read_text(encoding="utf-8"))
    for key, value in list(information.items())[:10]:
        print(f"  {key}: {value}")


def _title(text: str) -> None:
    print(f"\n--- {text}")


def _attribute(path: Path, name: str) -> str:
    try:
        return os.getxattr(path, name).decode("utf-8", errors="replace")
    except OSError:
        return ""


def _tree(directory: Path, depth: int, indent: str = "") -> Iterator[str]:
    for entry in sorted(os.scandir(directory), key=lambda entry: entry.name):
        if entry.is_symlink():
            yield f"{indent}{entry.name} -> {Path(entry.path).readlink()}"
        elif entry.is_dir():
            yield f"{indent}{entry.name}/"
            if depth > 1:
                yield from _tree(Path(entry.path), depth - 1, indent + "    ")
        else:
            yield f"{indent}{entry.name}  ({entry.stat().st_size} bytes)"


def _files(directory: Path) -> Iterator[Path]:
    for parent, directories, names in os.walk(directory):
        directories.sort()
        yield from (Path(parent) / name for name in sorted(names))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: tour.py MOUNTPOINT")
    sys.exit(main(Path(sys.argv[1])))
