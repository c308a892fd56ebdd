"""Programs write onto the mount, unmodified, and what they wrote is on the server, byte for byte.

Where a program's output is determined, it runs in a mounted folder and in a local directory, and three things are
compared: what it left locally, what it left on the mount, and, after ``agorafs sync``, what the vendor's
connector finds on the server. Where it is not (identifiers, noise), mount and server are compared.
"""

from __future__ import annotations

import contextlib
import io
import json
import mmap
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import h5py
import numpy
import pydicom
import pytest

from tests.sandbox.conftest import dicom_file
from tests.support import connector
from tests.support.waiting import eventually
from tests.support.writing import Place, Tree, identities, identity, read_tree

TIMEOUT_S = 120
ENVIRONMENT = {
    **os.environ,
    "LC_ALL": "C.UTF-8",
    "HOME": "/nonexistent",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_SYSTEM": "/dev/null",
    "OMP_NUM_THREADS": "1",
    "TERM": "xterm",
}
LOCAL_NAMES = re.compile(r".*~|\..*\.sw.|\.goutputstream-.*", re.DOTALL)


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A tree of ordinary files beside archives of it: ``tree``, ``tree.tar``, ``tree.zip``, ``repository``."""
    top = Path(tmp_path_factory.mktemp("source"))
    tree = top / "tree"
    contents = {
        "notes.txt": b"one\ntwo\nthree\n",
        "empty": b"",
        "large.bin": numpy.random.default_rng(1).bytes(3_000_017),
        "Zürich – 漢字 🧠.txt": "Grüße\n".encode(),
        "a name with 'quotes\" and $signs": b"quoted",
        "deep/er/and deeper/file.csv": b"1,2,3\n",
        "deep/er/second": b"2" * 70_000,
        "deep/empty too": b"",
        ".hidden": b"hidden",
    } | {f"many/slice{number:03}": bytes([number]) * (number * 37) for number in range(60)}
    for number, (name, content) in enumerate(contents.items()):
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        os.utime(path, ns=(1_500_000_000_123_456_789 + number,) * 2)
    (tree / "notes.txt").chmod(0o755)
    run("tar", "--create", "--file=../tree.tar", ".", cwd=tree)
    shutil.make_archive(str(top / "tree"), "zip", tree)
    git = ("git", "-c", "user.name=A", "-c", "user.email=a@example.org")
    shutil.copytree(tree, top / "repository")
    run("git", "init", "--quiet", cwd=top / "repository")
    run("git", "add", "--all", cwd=top / "repository")
    run(*git, "commit", "--quiet", "-m", "first", cwd=top / "repository")
    run(*git, "commit", "--quiet", "--allow-empty", "-m", "second", cwd=top / "repository")
    return top


@pytest.fixture(scope="module")
def slices(tmp_path_factory) -> Path:
    """Twelve slices of one DICOM series with the geometry that a converter asks for."""
    directory = Path(tmp_path_factory.mktemp("slices"))
    for number in range(12):
        content = dicom_file(
            study="2.25.4711",
            series="2.25.4711.1",
            number=number + 1,
            pixels=bytes([number] * 64),
            ImagePositionPatient=[0, 0, float(number)],
            ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
            PixelSpacing=[1, 1],
            SliceThickness=1,
            Manufacturer="Philips",
        )
        (directory / f"IM_{number:04}").write_bytes(content)
    return directory


def run(
    *command: str | Path, cwd: Path, status: int | None = 0, variables: Mapping[str, str] | None = None
) -> bytes:
    """Run a program in *cwd* and return its output; *status* is the expected exit status, None: any."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**ENVIRONMENT, **(variables or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert status is None or done.returncode == status, (command, done.returncode, done.stdout, done.stderr)
    return done.stdout


def check_stored(place: Place, expected: Tree) -> None:
    """Check that mount and server hold *expected* (a server holds no names that are local for good)."""
    place.sync()
    assert read_tree(place.path) == expected
    assert place.stored() == {
        path: content for path, content in identities(expected).items() if not is_local(path)
    }
    directories = {path for path, content in expected.items() if content is None}
    assert connector.folders_below(place.drive.server, place.folder) == directories


def is_local(path: str) -> bool:
    return LOCAL_NAMES.fullmatch(path.rpartition("/")[2]) is not None


# -- copying, unpacking, saving, shell tools -------------------------------------------------------------

SCRIPTS = {
    "cp": 'cp -r "$SOURCE/tree/." .',
    "cp -a": 'cp -a "$SOURCE/tree" copied',
    "cp --sparse": 'truncate -s 3M "$SCRATCH/holes" && cp --sparse=always "$SCRATCH/holes" .',
    "cp over": 'echo old > f; echo a longer text > "$SCRATCH/new"; cp "$SCRATCH/new" f',
    "mv in": 'cp -a "$SOURCE/tree" "$SCRATCH/moved" && mv "$SCRATCH/moved" .',
    "mv within": "mkdir -p a/b && echo 1 > a/b/f && mv a/b/f a/g && mv a z && mv z/g top && rmdir z/b z",
    "install": 'install -D -m 600 "$SOURCE/tree/notes.txt" sub/installed.txt',
    "tar x": 'tar --extract --file="$SOURCE/tree.tar"',
    "tar c": 'tar --create --file=archive.tar --sort=name --directory="$SOURCE/tree" .',
    "unzip": 'unzip -q "$SOURCE/tree.zip"',
    "sed -i": 'cp "$SOURCE/tree/notes.txt" . && sed -i s/two/TWO/ notes.txt',
    "sed -i.bak": 'cp "$SOURCE/tree/notes.txt" n && sed -i.orig s/two/TWO/ n && rm n.orig',
    "sort -o": "printf 'b\\na\\n' > f && sort -o f f",
    "gzip": "seq 9999 > numbers && gzip -n numbers",
    "gunzip": "seq 9999 | gzip -n > numbers.gz && gunzip numbers.gz",
    "vim, new file": "vim -es -u NONE -N new.txt -c 'normal ione' -c wq",
    "vim, backupcopy": "printf 'one\\n' > n; vim -es -u NONE -N n -c 'set bsk= wb bkc=yes' -c '%s/one/two/' -c wq",
    "vim, rename": "printf 'one\\n' > n; vim -es -u NONE -N n -c 'set bsk= wb bkc=no' -c '%s/one/two/' -c wq",
    "vim, backup kept": "printf 'one\\n' > n; vim -es -u NONE -N n -c 'set bsk= bk bkc=no' -c '%s/one/two/' -c wq",
    "gio copy": 'gio copy "$SOURCE/tree/large.bin" copied.bin',
    "gio copy over": 'echo old > copied.bin; gio copy "$SOURCE/tree/large.bin" copied.bin',
    "gio save": 'gio save saved.txt < "$SOURCE/tree/notes.txt"',
    "gio save over": 'echo old > saved.txt; gio save saved.txt < "$SOURCE/tree/notes.txt"',
    "gio move": 'cp "$SOURCE/tree/notes.txt" a && gio move a b',
    "fallocate": "fallocate -l 100000 f && printf x | dd of=f conv=notrunc bs=1 seek=500 status=none",
    "truncate": "printf abcdef > f; truncate -s 10 f; truncate -s 2 f; truncate -s 70000 f; truncate -s 0 g",
    "append": "for n in 1 2 3 4 5 6 7 8; do echo $n >> f; done",
    "sparse": "printf x | dd of=f bs=1 seek=5000000 conv=notrunc status=none",
    "dd": 'dd if="$SOURCE/tree/large.bin" of=f bs=4099 conv=fsync status=none',
    "dd direct": 'dd if="$SOURCE/tree/large.bin" of=f bs=64k oflag=dsync count=4 status=none',
    "split, cat": 'split -b 100000 "$SOURCE/tree/large.bin" part. && cat part.* > whole && rm part.*',
    "tee": "seq 1000 | tee one two > three",
    "mkdir": "mkdir -p a/b/c d && touch a/b/c/empty",
    "touch": "touch -d '2001-02-03 04:05:06' old && chmod 600 old && chown \"$(id -u)\" old",
    "rm": "mkdir d && echo 1 > d/f && echo 2 > g && rm -r d g && echo 3 > h",
    "git apply": "printf 'one\\ntwo\\n' > f && printf '%s\\n' '--- f' '+++ f' '@@ -1,2 +1,2 @@' ' one' '-two' '+2' "
    '> "$SCRATCH/patch" && git apply "$SCRATCH/patch"',
    "bart": "bart phantom -x 32 -k -s 2 image > /dev/null",
    "dcm2niix": 'dcm2niix -b y -z n -f volume -o . "$SLICES" > /dev/null',
    "dcm2niix -z": 'dcm2niix -b n -z y -f volume -o . "$SLICES" > /dev/null && gzip -d volume.nii.gz',
    "sqlite": "python3 -c \"import sqlite3; c = sqlite3.connect('db.sqlite'); c.execute('create table t (x)'); "
    "c.executemany('insert into t values (?)', [(n,) for n in range(3000)]); c.commit(); c.execute('delete from t "
    "where x > 99'); c.commit(); c.execute('vacuum'); c.close()\"",
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_what_a_program_writes_is_on_the_server_as_it_would_be_on_a_disk(
    drive, source, slices, tmp_path, name
):
    """`cp`, `tar x`, `unzip`, editors, `gio`, `bart`, `dcm2niix` and shell tools write as onto a local disk."""
    place = drive.place()
    local = tmp_path / "local"
    local.mkdir()
    for directory in (local, place.path):
        scratch = tmp_path / f"scratch {directory.name}"
        scratch.mkdir()
        places = {"SOURCE": str(source), "SLICES": str(slices), "SCRATCH": str(scratch)}
        run("bash", "-c", f"set -euo pipefail; {SCRIPTS[name]}", cwd=directory, variables=places)
    expected = read_tree(local)
    assert any(content is not None for content in expected.values())
    assert read_tree(place.path) == expected
    check_stored(place, expected)


def test_rsync_copies_a_tree_and_a_second_run_transfers_nothing(drive, source):
    """`rsync -a` leaves times and sizes by which it finds nothing to do, before the upload and after it."""
    place = drive.place()
    command = (
        "rsync",
        "-a",
        "--no-perms",
        "--no-owner",
        "--no-group",
        "--itemize-changes",
        f"{source}/tree/",
        ".",
    )
    changes = run(*command, cwd=place.path).splitlines()
    expected = read_tree(source / "tree")
    assert sum(line.startswith(b">f") for line in changes) == len(identities(expected))
    assert not [line for line in run(*command, cwd=place.path).splitlines() if not line.startswith(b".d")]
    check_stored(place, expected)
    assert not [line for line in run(*command, cwd=place.path).splitlines() if not line.startswith(b".d")]
    assert run(*command, "--checksum", cwd=place.path, status=None).count(b">f") == 0
    check_stored(place, expected)


def test_rsync_replaces_what_has_changed_and_nothing_else(drive, source, tmp_path):
    place = drive.place()
    tree = tmp_path / "tree"
    run("cp", "-a", source / "tree", tree, cwd=tmp_path)
    run("rsync", "-a", f"{tree}/", ".", cwd=place.path)
    place.sync()
    before = {file["original_filename"]: file["id"] for file in drive.server.datafiles()}
    (tree / "notes.txt").write_bytes(b"changed\n")
    (tree / "large.bin").write_bytes((tree / "large.bin").read_bytes() + b"more")
    (tree / "empty").unlink()
    run("rsync", "-a", "--delete", f"{tree}/", ".", cwd=place.path)
    check_stored(place, read_tree(tree))
    after = {file["original_filename"]: file["id"] for file in drive.server.datafiles()}
    assert after["slice007"] == before["slice007"]


def test_rsync_inplace_and_its_partial_files_work(drive, source):
    place = drive.place()
    for options in (["--inplace"], ["--partial", "--append-verify"], ["--partial-dir=.partial"]):
        run("rsync", "-a", *options, f"{source}/tree/large.bin", "large.bin", cwd=place.path)
    expected = (source / "tree" / "large.bin").read_bytes()
    place.sync()
    assert place.stored() == {"large.bin": identity(expected)}


def test_git_clones_onto_the_mount_and_works_there(drive, source):
    """`git clone` into a mounted folder; status is clean, the history is there, and fsck finds no fault."""
    place = drive.place()
    run("git", "clone", "--quiet", "--no-local", source / "repository", "clone", cwd=place.path)
    clone = place.path / "clone"
    for when in ("before the upload", "after it"):
        assert run("git", "status", "--porcelain", cwd=clone) == b"", when
        assert run("git", "log", "--format=%s", cwd=clone) == b"second\nfirst\n", when
        run("git", "fsck", "--full", "--strict", cwd=clone)
        place.sync()
    mounted = read_tree(place.path)
    assert place.stored() == {
        path: content for path, content in identities(mounted).items() if not is_local(path)
    }
    committed = {path: content for path, content in read_tree(source / "tree").items() if content is not None}
    assert committed == {path: mounted[f"clone/{path}"] for path in committed}


def test_git_commits_on_the_mount(drive, source):
    place = drive.place()
    run("git", "clone", "--quiet", source / "repository", "clone", cwd=place.path)
    clone = place.path / "clone"
    (clone / "notes.txt").write_text("changed\n")
    run(
        "git", "-c", "user.name=A", "-c", "user.email=a@example.org", "commit", "--quiet", "-am", "third",
        cwd=clone,
    )  # fmt: skip
    place.sync()
    assert run("git", "log", "--format=%s", cwd=clone) == b"third\nsecond\nfirst\n"
    assert run("git", "status", "--porcelain", cwd=clone) == b""
    run("git", "fsck", "--full", cwd=clone)


def test_nano_saves_a_file(drive):
    """nano needs a terminal, and has one here."""
    place = drive.place()
    path = place.path / "note.txt"
    path.write_text("one\n")
    place.sync()
    with _terminal("nano", "--ignorercfiles", "note.txt", cwd=place.path) as type_and_wait:
        type_and_wait(b"zero\r", until=lambda screen: b"zero" in screen)
        type_and_wait(b"\x13", until=lambda screen: b"Wrote" in screen)  # ^S
        type_and_wait(b"\x18", until=None)  # ^X
    check_stored(place, {"note.txt": b"zero\none\n"})


@contextlib.contextmanager
def _terminal(*command: str, cwd: Path) -> Iterator[Callable[..., None]]:
    """Run a program on a terminal. What is given takes keys, and a test of what was shown (None: it ends)."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(cwd)
        os.execvpe(command[0], command, ENVIRONMENT)
    screen = bytearray()

    def read(deadline: float) -> bool:
        ready, _, _ = select.select([terminal], [], [], max(0, deadline - time.monotonic()))
        assert ready, bytes(screen)
        try:
            piece = os.read(terminal, 65536)
        except OSError:  # the program has closed its side
            return False
        screen.extend(piece)
        return bool(piece)

    def type_and_wait(keys: bytes, *, until: Callable[[bytes], bool] | None) -> None:
        deadline = time.monotonic() + TIMEOUT_S
        while not screen:  # it shows something when it is ready
            assert read(deadline)
        os.write(terminal, keys)
        while read(deadline):
            if until is not None and until(bytes(screen)):
                return
        assert until is None, bytes(screen)

    try:
        yield type_and_wait
    finally:
        os.close(terminal)
        _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0


# -- attributes ----------------------------------------------------------------------------------------


def test_attributes_of_a_disk_never_fail_a_copy_and_never_reach_the_server(drive, source, tmp_path):
    """chmod, chown, utimens and POSIX-ACL or `security.*` attributes never fail a copy."""
    original = tmp_path / "guarded"
    shutil.copy2(source / "tree" / "notes.txt", original)
    run("setfacl", "-m", "u:65534:r,m::r", original, cwd=tmp_path)
    run("setfattr", "-n", "user.comment", "-v", "a comment", original, cwd=tmp_path)
    if os.geteuid() == 0:
        run("setfattr", "-n", "security.note", "-v", "text", original, cwd=tmp_path)
    place = drive.place()
    drive.server.reset_requests()
    run("cp", "-a", original, "copied", cwd=place.path)
    run("cp", "--preserve=all", original, "preserved", cwd=place.path)
    run("rsync", "-aXA", original, "rsynced", cwd=place.path)
    run("gio", "copy", "--preserve", original, "by gio", cwd=place.path)
    run("bash", "-c", f"tar --create --acls --xattrs {original.name} | tar --extract --acls --xattrs "
        f"--directory='{place.path}' --file=-", cwd=tmp_path)  # fmt: skip
    run("cp", "-a", "copied", "copied again", cwd=place.path)
    for name in ("copied", "preserved", "rsynced"):
        assert (place.path / name).stat().st_mtime_ns == original.stat().st_mtime_ns
    content = original.read_bytes()
    names = ("copied", "preserved", "rsynced", "by gio", "guarded", "copied again")
    check_stored(place, dict.fromkeys(names, content))
    changing = [one for one in drive.server.requests() if one["method"] not in ("GET", "HEAD")]
    assert all("/import/" in one["path"] for one in changing), changing


def test_changing_mode_owner_and_time_costs_no_request(drive):
    place = drive.place()
    (place.path / "f").write_bytes(b"content")
    place.sync()
    (place.path / "f").stat()
    drive.server.reset_requests()
    run("chmod", "600", "f", cwd=place.path)
    run("chown", f"{os.getuid()}:{os.getgid()}", "f", cwd=place.path)
    run("touch", "-d", "2001-02-03", "f", cwd=place.path)
    assert [one for one in drive.server.requests() if one["method"] != "GET"] == []


# -- imaging ---------------------------------------------------------------------------------------------


def test_a_series_that_was_copied_becomes_a_study_with_a_link_in_its_place(drive, slices):
    """Files that became a study are replaced by a link to the exam."""
    place = drive.place()
    for path in slices.iterdir():  # a study of its own
        dataset = pydicom.dcmread(path)
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "2.25.90", "2.25.90.1"
        dataset.StudyDescription = "Copied"
        dataset.save_as(place.path / path.name)
    written = identities(read_tree(place.path))
    assert len(written) == 12
    place.sync()
    assert place.stored() == {}
    exams = connector.files_in_exams(drive.server, drive.project.id)
    stored = {file.path.rpartition("/")[2]: file[1:] for file in exams if file.path.startswith("Copied/")}
    assert stored == written
    assert connector.links_in_folder(drive.server, place.folder) == [("exam", "Copied")]
    assert [path.name for path in place.path.iterdir()] == ["Copied"]
    linked = {
        path.name: path.read_bytes() for path in (place.path / "Copied").rglob("IM_*") if path.is_file()
    }
    assert {name: identity(content) for name, content in linked.items()} == written


def test_dcmodify_changes_a_file_before_it_is_sent(drive, slices):
    """`dcmodify` renames the old file to `.bak` and writes a new one; only the new one becomes a study."""
    place = drive.place()
    with (place.path / "held.part").open("wb"):  # as long as something is open, nothing is sent
        for path in slices.iterdir():
            shutil.copy(path, place.path)
        run(
            "bash", "-c", "dcmodify -m '(0020,000d)=2.25.91' -m '(0020,000e)=2.25.91.1' "
            "-m '(0008,1030)=Modified' IM_*[0-9] && rm *.bak", cwd=place.path,
        )  # fmt: skip
        written = identities(read_tree(place.path))
    (place.path / "held.part").unlink()
    del written["held.part"]
    assert len(written) == 12
    place.sync()
    exams = connector.files_in_exams(drive.server, drive.project.id)
    stored = {file.path.rpartition("/")[2]: file[1:] for file in exams if file.path.startswith("Modified/")}
    assert stored == written


def test_dcmodify_replaces_a_stored_file_and_leaves_its_backup_here(drive):
    """A DICOM file without a study stays in its folder, where `dcmodify` replaces it."""
    dataset = pydicom.dcmread(_bytes_file(dicom_file(study="2.25.1", series="2.25.1.1")))
    del dataset.StudyInstanceUID, dataset.SeriesInstanceUID
    content = _saved(dataset)
    place = drive.place()
    place.upload({"loose.dcm": content})
    run("dcmodify", "-m", "(0010,0010)=Changed", "loose.dcm", cwd=place.path)
    assert (place.path / "loose.dcm.bak").read_bytes() == content
    changed = (place.path / "loose.dcm").read_bytes()
    assert str(pydicom.dcmread(place.path / "loose.dcm").PatientName) == "Changed"
    place.sync()
    assert place.stored()["loose.dcm"] == identity(changed)
    assert (place.path / "loose.dcm").read_bytes() == changed


def test_pydicom_saves_over_a_stored_file(drive):
    dataset = pydicom.dcmread(_bytes_file(dicom_file(study="2.25.1", series="2.25.1.1")))
    del dataset.StudyInstanceUID, dataset.SeriesInstanceUID
    place = drive.place()
    place.upload({"loose.dcm": _saved(dataset)})
    mounted = pydicom.dcmread(place.path / "loose.dcm")
    mounted.PatientName = "Saved^Over"
    mounted.save_as(place.path / "loose.dcm")
    dataset.PatientName = "Saved^Over"
    check_stored(place, {"loose.dcm": _saved(dataset)})


def _bytes_file(content: bytes) -> io.BytesIO:
    return io.BytesIO(content)


def _saved(dataset: pydicom.Dataset) -> bytes:
    buffer = io.BytesIO()
    dataset.save_as(buffer)
    return buffer.getvalue()


HDF5 = """
    import h5py, numpy
    with h5py.File("data.h5", "w") as file:
        values = file.create_dataset("values", (0, 50), maxshape=(None, 50), chunks=(7, 50), compression="gzip")
        for row in range(200):
            values.resize(row + 1, axis=0)
            values[row] = numpy.arange(50) * row
            file.attrs[f"row{row}"] = row
    with h5py.File("data.h5", "r+") as file:
        file["values"][::3] = -1
        file["more"] = numpy.arange(100_000.0)
        del file.attrs["row5"]
"""


def test_h5py_writes_a_file_as_it_would_on_a_disk(drive, tmp_path):
    """h5py: hundreds of small writes out of order, in a file that is read back while it is written."""
    place = drive.place()
    for directory in (tmp_path, place.path):
        run(sys.executable, "-c", textwrap.dedent(HDF5), cwd=directory)
    content = (tmp_path / "data.h5").read_bytes()
    check_stored(place, {"data.h5": content})
    with h5py.File(place.path / "data.h5", "r") as file:
        assert file["values"].shape == (200, 50)


ISMRMRD_READ = """
    import ismrmrd, hashlib
    data = ismrmrd.Dataset("scan.h5", "dataset", create_if_needed=False)  # read-write, as is its way
    count = data.number_of_acquisitions()
    sums = [hashlib.sha1(data.read_acquisition(n).data.tobytes()).hexdigest() for n in range(count)]
    print(count, hashlib.sha1("".join(sums).encode()).hexdigest())
    data.close()
"""


def test_raw_data_is_generated_on_the_mount_and_read_back_read_write(drive, tmp_path):
    """The ISMRMRD generator's small writes arrive; Python `ismrmrd` opens what is stored read-write to read it."""
    place = drive.place()
    run("ismrmrd_generate_cartesian_shepp_logan", "-m", "32", "-c", "2", "-o", "scan.h5", cwd=place.path)
    content = (place.path / "scan.h5").read_bytes()
    check_stored(place, {"scan.h5": content})
    (tmp_path / "scan.h5").write_bytes(content)
    program = (sys.executable, "-c", textwrap.dedent(ISMRMRD_READ))
    expected = run(*program, cwd=tmp_path)
    assert int(expected.split()[0]) > 10
    assert run(*program, cwd=place.path) == expected
    # What that program writes into the file is a new version or none, and never two files.
    check_stored(place, {"scan.h5": (tmp_path / "scan.h5").read_bytes()})


def test_bart_writes_through_a_shared_map_and_reads_it_back(drive, tmp_path):
    place = drive.place()
    for directory in (tmp_path, place.path):
        run(
            "bash", "-c", "bart phantom -x 64 -k -s 4 k && bart fft -i 3 k i && bart rss 8 i r", cwd=directory
        )
    expected = read_tree(tmp_path)
    assert set(expected) == {f"{name}.{end}" for name in "kir" for end in ("cfl", "hdr")}
    check_stored(place, expected)


# -- replacing what is stored ------------------------------------------------------------------------------

SAVES = {
    "shell": "echo new > file.txt",
    "append": "echo new >> file.txt",
    "sed -i": "sed -i s/old/new/ file.txt",
    "cp": 'echo new > "$SCRATCH/n"; cp "$SCRATCH/n" file.txt',
    "cp --remove-destination": 'echo new > "$SCRATCH/n"; cp --remove-destination "$SCRATCH/n" file.txt',
    "mv": 'echo new > "$SCRATCH/n"; mv -f "$SCRATCH/n" file.txt',
    "mv within": "echo new > other; mv -f other file.txt",
    "rsync": 'echo newer > "$SCRATCH/file.txt"; rsync -a "$SCRATCH/file.txt" file.txt',
    "vim, copy": "vim -es -u NONE -N file.txt -c 'set bsk= wb bkc=yes' -c '%s/old/new/' -c wq",
    "vim, rename": "vim -es -u NONE -N file.txt -c 'set bsk= wb bkc=no' -c '%s/old/new/' -c wq",
    "gio save": "echo new | gio save file.txt",
    "gio copy": 'echo newer > "$SCRATCH/n"; gio copy "$SCRATCH/n" file.txt',
    "truncate": "truncate -s 2 file.txt",
    "dd": "printf NEW | dd of=file.txt bs=1 seek=1 conv=notrunc status=none",
    "backup, then new": "mv file.txt file.txt.bak && echo new > file.txt",
    "python": "python3 -c \"open('file.txt', 'r+').write('new')\"",
}
# These remove the old file before there is a new one: to the server that is a deletion, and another file.
REMOVES_FIRST = {"cp --remove-destination", "mv"}
OLD = b"old text\nold again\n"


@pytest.mark.parametrize("name", SAVES)
def test_a_saved_file_replaces_the_stored_one_and_keeps_its_tags(drive, tmp_path, name):
    """Editors' save patterns keep the tags of the dataset they replace; the old version is gone afterwards."""
    place = drive.place()
    place.upload({"file.txt": OLD})
    old = place.items()["file.txt"]["content_object"]["id"]
    tag = drive.server.post(
        "v2/tag-definition/",
        {"label": f"tag {place.name}", "user": None, "project": drive.project.id, "group": None,
         "color": None, "visibility": 2, "scope": 1},
    )["id"]  # fmt: skip
    tagged = {"tag_definition": tag, "tagged_object_content_type": "dataset", "tagged_object_id": old}
    assert drive.server.api("POST", "v2/tag-instance/", data=tagged).status_code == 201
    local = tmp_path / "local"
    local.mkdir()
    (local / "file.txt").write_bytes(OLD)
    for directory in (local, place.path):
        scratch = tmp_path / f"scratch {directory.name}"
        scratch.mkdir()
        run(
            "bash",
            "-c",
            f"set -euo pipefail; {SAVES[name]}",
            cwd=directory,
            variables={"SCRATCH": str(scratch)},
        )
    expected = read_tree(local)
    assert expected["file.txt"] != OLD
    assert read_tree(place.path) == expected
    place.sync()
    assert place.stored()["file.txt"] == identity((local / "file.txt").read_bytes())
    new = place.items()["file.txt"]["content_object"]["id"]
    assert new != old
    kept = [one["id"] for one in drive.server.get(f"v2/dataset/{new}/tags/")]
    assert kept == ([] if name in REMOVES_FIRST else [tag])
    assert drive.server.api("GET", f"v1/dataset/{old}/").status_code == 404
    assert (place.path / "file.txt").read_bytes() == expected["file.txt"]


def test_writing_the_same_bytes_again_leaves_one_file(drive):
    place = drive.place()
    place.upload({"file.txt": OLD})
    (place.path / "file.txt").write_bytes(OLD)
    check_stored(place, {"file.txt": OLD})


# -- by system calls -------------------------------------------------------------------------------------


def test_what_was_written_can_be_read_while_it_is_being_written(drive):
    place = drive.place()
    path = place.path / "growing.bin"
    expected = bytearray()
    with path.open("wb", buffering=0) as writer, path.open("rb", buffering=0) as reader:
        for number in range(64):
            piece = bytes([number]) * (1000 + number * 101)
            writer.write(piece)
            expected += piece
            assert path.stat().st_size == len(expected)
            assert reader.read() == piece
        writer.seek(17)
        writer.write(b"middle")
        expected[17:23] = b"middle"
        assert os.pread(reader.fileno(), 40, 0) == expected[:40]
    check_stored(place, {"growing.bin": bytes(expected)})


def test_a_shared_writable_map_reaches_the_server(drive):
    place = drive.place()
    path = place.path / "mapped.bin"
    expected = bytearray(300_000)
    with path.open("w+b") as file:
        file.truncate(len(expected))
        with mmap.mmap(file.fileno(), 0) as mapped:
            for offset in range(0, len(expected) - 10, 4999):
                mapped[offset : offset + 5] = b"piece"
                expected[offset : offset + 5] = b"piece"
            mapped.flush()
            mapped[-3:] = b"end"
            expected[-3:] = b"end"
    check_stored(place, {"mapped.bin": bytes(expected)})


def test_a_map_that_outlives_its_descriptor_is_written_too(drive):
    place = drive.place()
    path = place.path / "mapped.bin"
    with path.open("w+b") as file:
        file.truncate(100_000)
        mapped = mmap.mmap(file.fileno(), 0)
    mapped[50_000:50_004] = b"late"
    mapped.close()
    expected = bytearray(100_000)
    expected[50_000:50_004] = b"late"
    # The kernel writes the page back in its own time, at the latest when somebody asks for the file's bytes.
    os.sync()
    check_stored(place, {"mapped.bin": bytes(expected)})


def test_a_file_removed_while_it_is_open_works_on_and_is_never_sent(drive):
    place = drive.place()
    with (place.path / "temporary").open("w+b") as file:
        file.write(b"content")
        (place.path / "temporary").unlink()
        assert list(place.path.iterdir()) == []
        file.seek(0)
        assert file.read() == b"content"
        file.write(b" and more")
        file.flush()
        assert os.fstat(file.fileno()).st_size == 16
    place.sync()
    assert place.stored() == {}


def test_a_file_is_there_from_its_creation_to_the_server_with_one_number_size_and_time(drive):
    """Visible all the time: stable inode, size and mtime; no flicker and no duplicate.

    A file that is written is there under its name from `open` on, with the same inode number, size and time until
    and after it is stored.
    """
    place = drive.place()
    path = place.path / "file.bin"
    content = os.urandom(200_000)
    path.write_bytes(content)
    os.utime(path, ns=(1_400_000_000_000_000_000,) * 2)
    before = path.stat()
    states = set()
    sync = subprocess.Popen(
        [sys.executable, "-m", "agorafs.cli", "sync", str(place.path)],
        env={**ENVIRONMENT, "XDG_STATE_HOME": str(drive.mount.home / "state")},
        stdout=subprocess.DEVNULL,
    )
    while True:
        ended = sync.poll() is not None
        now = path.stat()
        assert (now.st_ino, now.st_size, now.st_mtime_ns) == (
            before.st_ino,
            before.st_size,
            before.st_mtime_ns,
        )
        assert os.listdir(place.path) == ["file.bin"]  # noqa: PTH208 - the names as the kernel gives them
        assert path.read_bytes() == content
        states.add(os.getxattr(path, "user.agora.state").decode().split()[0])
        if ended:
            break
    assert sync.returncode == 0
    assert "stored" in states and len(states) > 1
    assert "failed:" not in states
    assert place.stored() == {"file.bin": identity(content)}


def test_reading_what_was_just_written_costs_no_download(drive):
    """Re-reading what was just written costs no download.

    Reading again what was just written costs no download.
    """
    place = drive.place()
    content = os.urandom(3_000_000)
    (place.path / "file.bin").write_bytes(content)
    place.sync()
    drive.server.reset_requests()
    descriptor = os.open(place.path / "file.bin", os.O_RDONLY)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)
    assert (place.path / "file.bin").read_bytes() == content
    assert [one["path"] for one in drive.server.requests() if "download" in one["path"]] == []


def test_two_hundred_small_files_are_one_import(drive):
    """One import package for what belongs together.

    What was written below one folder until it fell quiet travels as one import package.
    """
    place = drive.place()
    drive.server.reset_requests()
    for number in range(200):
        path = place.path / f"dir{number % 5}" / f"file{number}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"%d" % number)
    place.sync()
    packages = [
        one for one in drive.server.requests() if (one["method"], one["path"]) == ("POST", "/api/v1/import/")
    ]
    assert len(packages) == 1
    check_stored(place, read_tree(place.path))
    assert len(place.stored()) == 200


def test_what_waits_is_sent_by_itself_when_it_is_quiet(drive):
    place = drive.place()
    (place.path / "file").write_bytes(b"content")
    eventually(lambda: place.stored() == {"file": identity(b"content")}, within_s=30)


def test_the_status_of_what_is_on_its_way_is_told(drive):
    place = drive.place()
    with (place.path / "file").open("wb") as file:
        file.write(b"content")
        file.flush()
        assert os.getxattr(place.path / "file", "user.agora.state") == b"writing"
        assert drive.uploads()["open"] >= 1
    place.sync()
    assert os.getxattr(place.path / "file", "user.agora.state") == b"stored"
    assert json.loads(drive.mount.run("status", drive.mount.path, "--json").stdout)["mounts"]


def test_files_of_one_name_saved_in_many_folders_at_once_leave_no_old_versions(writable):
    """An old version goes although others of its name, which nobody has looked at yet, wait to be sent."""
    drive = writable(folders=8)
    places = [drive.place() for _ in range(8)]
    for place in places:
        place.upload({"results.csv": OLD})
    drive.server.switch(import_hold="on")
    for number, place in enumerate(places):
        (place.path / "results.csv").write_bytes(b"new %d" % number)
    eventually(
        lambda: (
            {"importing", "sealed"} <= {batch["state"] for batch in drive.uploads()["batches"]}
            and len(drive.uploads()["batches"]) == len(places)
        ),
        within_s=60,
    )
    drive.server.switch(import_hold="off")
    drive.sync()
    for number, place in enumerate(places):
        assert place.stored() == {"results.csv": identity(b"new %d" % number)}
