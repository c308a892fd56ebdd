"""Programs run unmodified on mounted paths and give the output that they give on local files.

Each program runs twice, in a directory of the mount and in the same directory of a local copy whose bytes came
from the server (``support.local_copy``); paths are relative, so the outputs can be compared as they are.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy
import pydicom
import pytest

from tests.support.local_copy import OWN, ServerFiles, copy_project
from tests.support.mount import Mount

PROJECT = "Neuro Study"
SERIES = "exams/Brain, volunteer/T1w 3D TFE"
SLICES = f"{SERIES}/DICOM dataset/DICOM"
NIFTI = "folders/Derived/NIfTI"
VOLUME = f"{NIFTI}/brain_4d.nii"  # 11 MB: above what is fetched whole
PAR_REC = "folders/Scanner exports/PAR REC/phantom_EPI_asc_CLEAR_2_1"
TOOL_TIMEOUT_S = 120

# One language and no configuration of whoever runs the tests.
ENVIRONMENT = {
    **os.environ,
    "LC_ALL": "C.UTF-8",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_SYSTEM": "/dev/null",
    "OMP_NUM_THREADS": "1",
}


@dataclass(frozen=True, slots=True)
class Places:
    """The project on the mount and beside it, and what the server says of it."""

    mounted: Path
    local: Path
    files: ServerFiles


@pytest.fixture(scope="module")
def places(demo, demo_mount, tmp_path_factory) -> Iterator[Places]:
    mounted = demo_mount.path / "projects" / PROJECT
    local = Path(tmp_path_factory.mktemp("local")) / "project"
    files = copy_project(demo, PROJECT, mounted, local)
    yield Places(mounted, local, files)


@pytest.fixture(scope="module")
def read_only(demo, tmp_path_factory) -> Iterator[Path]:
    with Mount(demo.url, demo.api_key, Path(tmp_path_factory.mktemp("read_only")), "read_only=true") as one:
        yield one.path / "projects" / PROJECT


def run(*command: str | Path, cwd: Path, status: int | None = 0) -> bytes:
    """Run a program in *cwd* and return its output; *status* is the expected exit status, None: any."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=TOOL_TIMEOUT_S,
        check=False,
    )
    assert status is None or done.returncode == status, (command, done.returncode, done.stderr)
    return done.stdout


def shell(script: str, cwd: Path) -> bytes:
    """Run a line of shell in *cwd*."""
    return run("bash", "-c", f"set -euo pipefail; {script}", cwd=cwd)


def own_files(places: Places) -> list[Path]:
    """Return the local copies of what agorafs says of tasks and deletions."""
    return [path for name in OWN for path in (places.local / name).rglob("*") if path.is_file()]


def manifest(root: Path) -> dict[str, tuple[str, int, int, str]]:
    """Return mode, size, time and SHA-1 or link text of everything below *root*, by path."""
    found = {}
    for parent, directories, files in os.walk(root):
        for name in [*directories, *files]:
            path = Path(parent, name)
            attributes = path.lstat()
            if path.is_symlink():
                what, size = str(path.readlink()), attributes.st_size
            elif path.is_dir():
                what, size = "", 0  # file systems differ in what they call the size of a directory
            else:
                what, size = hashlib.sha1(path.read_bytes()).hexdigest(), attributes.st_size
            found[str(path.relative_to(root))] = (
                oct(attributes.st_mode),
                size,
                attributes.st_mtime_ns,
                what,
            )
    return found


def same_output(places: Places, script: str, directory: str = ".") -> bytes:
    """Check that *script* gives the same output on both sides, and something; return it."""
    expected = shell(script, places.local / directory)
    assert shell(script, places.mounted / directory) == expected
    assert expected
    return expected


# -- imaging -----------------------------------------------------------------------------------------


def test_dcm2niix_makes_the_same_volume_of_176_slices(places, tmp_path):
    outputs = {}
    for side in (places.mounted, places.local):
        target = tmp_path / side.name
        target.mkdir()
        run("dcm2niix", "-b", "y", "-z", "n", "-f", "%p", "-o", target, ".", cwd=side / SERIES)
        outputs[side] = {path.name: path.read_bytes() for path in target.iterdir()}
    assert outputs[places.mounted] == outputs[places.local]
    assert sorted(outputs[places.mounted]) == ["T1w_3D_TFE.json", "T1w_3D_TFE.nii"]
    volume = nibabel.load(tmp_path / "project" / "T1w_3D_TFE.nii")
    assert volume.shape[2] == 176


def test_dcmdump_prints_the_same_headers(places):
    output = same_output(places, "dcmdump *", SLICES)
    assert output.count(b"SeriesDescription") == 176


def test_dcmftest_recognises_every_slice(places):
    output = same_output(places, "dcmftest *", SLICES)
    assert output.count(b"yes: ") == 176


def test_pydicom_reads_the_same_headers_and_pixels(places):
    slices = sorted((places.local / SLICES).iterdir())
    assert len(slices) == 176
    for local in slices[::16]:
        mounted = places.mounted / SLICES / local.name
        header = pydicom.dcmread(mounted, stop_before_pixels=True)
        assert header == pydicom.dcmread(local, stop_before_pixels=True)
        whole = pydicom.dcmread(mounted, defer_size=1024)
        expected = pydicom.dcmread(local)
        numpy.testing.assert_array_equal(whole.pixel_array, expected.pixel_array)


def test_nibabel_reads_a_slice_of_a_volume_through_a_memory_map(places):
    mounted, local = (nibabel.load(side / VOLUME) for side in (places.mounted, places.local))
    assert mounted.header == local.header
    for index in (mounted.shape[3] - 1, 0):
        numpy.testing.assert_array_equal(mounted.dataobj[..., index], local.dataobj[..., index])
    mapped = mounted.dataobj.get_unscaled()
    assert isinstance(mapped, numpy.memmap)
    numpy.testing.assert_array_equal(mapped[:, :, 5], local.dataobj.get_unscaled()[:, :, 5])


@pytest.mark.parametrize("name", ["example4d.nii.gz", "example_nifti2.nii.gz", "functional.nii"])
def test_nibabel_reads_the_same_voxels(places, name):
    mounted, local = (nibabel.load(side / NIFTI / name) for side in (places.mounted, places.local))
    numpy.testing.assert_array_equal(mounted.get_fdata(), local.get_fdata())


def test_nibabel_reads_par_and_rec(places):
    # In a process of its own, because nibabel leaves the .REC to the garbage collector, which warns of it.
    program = (
        "import hashlib, nibabel; image = nibabel.load('phantom_EPI_asc_CLEAR_2_1.PAR'); "
        "print(image.shape, image.affine.tolist(), hashlib.sha1(image.get_fdata().tobytes()).hexdigest())"
    )
    assert run(sys.executable, "-c", program, cwd=places.mounted / PAR_REC) == run(
        sys.executable, "-c", program, cwd=places.local / PAR_REC
    )


def test_numpy_maps_a_file(places):
    name = f"{PAR_REC}/phantom_EPI_asc_CLEAR_2_1.REC"
    mounted = numpy.memmap(places.mounted / name, dtype="<u2", mode="r")
    numpy.testing.assert_array_equal(mounted, numpy.fromfile(places.local / name, dtype="<u2"))


@pytest.mark.parametrize("flags", [mmap.MAP_SHARED, mmap.MAP_PRIVATE], ids=["shared", "private"])
def test_a_file_can_be_mapped_shared_and_private(places, flags):
    with (places.mounted / VOLUME).open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, flags=flags, prot=mmap.PROT_READ)
    with mapped:
        expected = (places.local / VOLUME).read_bytes()
        middle = len(expected) // 2
        assert mapped[middle : middle + 5000] == expected[middle : middle + 5000]
        assert mapped[-100:] == expected[-100:]
        assert mapped[:] == expected


def test_nifti_tool_displays_the_same_header(places):
    output = same_output(places, "nifti_tool -disp_hdr -infiles *.nii", NIFTI)
    assert output.count(b"sizeof_hdr") == 3
    same_output(places, "nifti_tool -disp_ts 1 1 1 -infiles functional.nii", NIFTI)


def test_bart_reads_by_mmap_what_was_imported(private_demo, mount, tmp_path):
    """A loose .cfl and its .hdr become two datasets that stand side by side under their names."""
    local = tmp_path / "local"
    local.mkdir()
    run("bart", "phantom", "-x", "64", "-k", "-s", "4", "kspace", cwd=local)
    parts = {f"kspace{suffix}": (local / f"kspace{suffix}").read_bytes() for suffix in (".cfl", ".hdr")}
    project = next(
        one for one in private_demo.get("v2/project/?limit=100")["results"] if one["name"] == PROJECT
    )
    private_demo.upload(parts, folder=project["root_folder"])
    mounted = mount(private_demo).path / "projects" / PROJECT / "folders"
    results: list[tuple[bytes, bytes]] = []
    for side in (mounted, local):
        target = tmp_path / f"image-{len(results)}"
        run("bart", "fft", "-i", "3", "kspace", target, cwd=side)
        results.append(
            (target.with_suffix(".cfl").read_bytes(), run("bart", "show", "-m", "kspace", cwd=side))
        )
    assert results[0] == results[1]
    assert len(results[0][0]) == len(parts["kspace.cfl"])


# -- looking -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "script",
    [
        r"find . \( -type d -printf '%y %#m %T@ %p\n' \) -o -printf '%y %#m %s %T@ %p -> %l\n' | sort",
        "find . -type f -size +100k -newermt 2000-01-01 -print | sort",
        "find . -type f -print0 | sort -z | xargs -0 sha1sum",
        "find . -name '*.PAR' -execdir head -n 3 '{}' +",
        "find . -type f -print0 | du -b --files0-from=- | sort",
        "ls -lR --time-style=full-iso | grep '^[-l]' | tr -s ' '",
        "printf '%s\\n' */*/* */*/*/*.nii",
        "find . -type f | sort | xargs -d '\\n' file",
        "grep -rIc . folders/Documents | sort",
        "grep -rl GOAL . | sort || true; echo done",
        "tar --create --sort=name . | sha1sum",
        "tar --create --sort=name --dereference exams | tar --list --verbose --file=- | sort",
    ],
)
def test_walking_programs_see_the_same_tree(places, script):
    """Size, time and mode are true before a file is opened."""
    same_output(places, script)


@pytest.mark.parametrize(
    "script",
    [
        "cat brain_4d.nii | sha1sum",
        "head -c 100 brain_4d.nii | sha1sum",
        "tail -c 100 brain_4d.nii | sha1sum",
        "(tail -c +5000000 brain_4d.nii || true) | head -c 70000 | sha1sum",
        "dd if=brain_4d.nii bs=4099 skip=1000 count=77 status=none | sha1sum",
        "wc -c *",
        "od -A d -t x1 -j 11059000 brain_4d.nii | sha1sum",
        "gzip -dc example4d.nii.gz | sha1sum",
        "stat -c '%n %s %Y %a %F' *",
        "git hash-object *",
    ],
)
def test_reading_programs_read_the_same_bytes(places, script):
    same_output(places, script, NIFTI)


def test_a_tree_adds_up_to_the_sizes_of_its_files(places):
    expected = sum(file.size for file in places.files.files.values())
    expected += sum(path.stat().st_size for path in own_files(places))
    # From coreutils 9.2 on, -b counts directories as nothing. A project holds no file itself.
    per_directory = int(run("du", "-sbS", ".", cwd=places.mounted).split()[0])
    assert per_directory in (0, 4096)
    for parent, directories, files in os.walk(places.local):
        expected += per_directory
        links = [Path(parent, name) for name in [*directories, *files] if Path(parent, name).is_symlink()]
        expected += sum(len(os.fsencode(link.readlink())) for link in links)
    assert int(run("du", "-sb", ".", cwd=places.mounted).split()[0]) == expected


def test_sha1sum_confirms_what_the_server_has_recorded(places, tmp_path):
    sums = tmp_path / "sums"
    sums.write_text("".join(f"{file.sha1}  {file.path}\n" for file in places.files.files.values()))
    output = run("sha1sum", "--check", "--strict", sums, cwd=places.mounted)
    assert output.count(b": OK\n") == len(places.files.files) > 200


def test_cmp_and_diff_find_no_difference(places):
    assert run("cmp", places.mounted / VOLUME, places.local / VOLUME, cwd=places.local) == b""
    assert run("diff", "-r", "--no-dereference", places.mounted, places.local, cwd=places.local) == b""


def test_git_keeps_a_mounted_work_tree(places, tmp_path):
    git = ("git", f"--git-dir={tmp_path / 'repository'}", "--work-tree=.")
    work_tree = places.mounted / "folders"
    run(*git, "init", "--quiet", cwd=work_tree)
    run(*git, "add", "--all", cwd=work_tree)
    assert run(*git, "diff", "--stat", cwd=work_tree) == b""
    assert run(*git, "ls-files", "--others", "--modified", "--deleted", cwd=work_tree) == b""
    listed = run(*git, "ls-files", "-z", cwd=work_tree).decode().split("\0")[:-1]
    expected = [str(path.relative_to(places.local / "folders")) for path in _leaves(places.local / "folders")]
    assert sorted(listed) == sorted(expected)
    assert run(*git, "ls-files", "--stage", cwd=work_tree) == run(
        *git, "ls-files", "--stage", cwd=places.local / "folders"
    )


def test_git_status_outside_a_repository_says_so(places):
    run("git", "status", cwd=places.mounted / SLICES, status=128)


def _leaves(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_symlink() or path.is_file()]


# -- copying -----------------------------------------------------------------------------------------


def test_cp_copies_everything_with_times_and_links(places, tmp_path):
    run("cp", "-a", places.mounted, tmp_path / "copy", cwd=tmp_path)
    assert manifest(tmp_path / "copy") == manifest(places.local)


def test_tar_copies_everything_with_times_and_links(places, tmp_path):
    (tmp_path / "copy").mkdir()
    archive = tmp_path / "archive.tar"
    run("tar", "--create", "--format=posix", f"--file={archive}", ".", cwd=places.mounted)
    run("tar", "--extract", "--preserve-permissions", f"--file={archive}", cwd=tmp_path / "copy")
    assert manifest(tmp_path / "copy") == manifest(places.local)


def test_rsync_copies_everything_and_a_second_run_transfers_nothing(places, tmp_path):
    source, target = f"{places.mounted}/", f"{tmp_path / 'copy'}/"
    changes = run("rsync", "-a", "--itemize-changes", source, target, cwd=tmp_path).splitlines()
    assert sum(line.startswith(b">f") for line in changes) == len(places.files.files) + len(own_files(places))
    assert manifest(tmp_path / "copy") == manifest(places.local)
    for options in ("-an", "-a"):
        assert run("rsync", options, "--itemize-changes", source, target, cwd=tmp_path) == b""
    # Against the local copy, and by checksum, too.
    assert run("rsync", "-anc", "--itemize-changes", source, f"{places.local}/", cwd=tmp_path) == b""


def test_the_whole_demo_with_all_its_odd_names_is_copied_and_a_second_run_transfers_nothing(
    demo, demo_mount, tmp_path
):
    source, target = f"{demo_mount.path}/", f"{tmp_path / 'copy'}/"
    run("rsync", "-a", source, target, cwd=tmp_path)
    assert run("rsync", "-an", "--itemize-changes", source, target, cwd=tmp_path) == b""
    copied = manifest(tmp_path / "copy")
    assert copied == manifest(demo_mount.path)
    files = [
        what
        for name, (mode, _, _, what) in copied.items()
        if stat.S_ISREG(int(mode, 8)) and not set(OWN) & set(name.split("/"))
    ]
    assert sorted(files) == sorted(file["sha1"] for file in demo.datafiles())


def test_attributes_travel_with_the_programs_that_are_asked_to_take_them(places, tmp_path):
    """Attributes of links can not be read, so none are listed, and no program stumbles over them."""
    source = places.mounted / "folders" / "Favourites"
    for name, command in {
        "rsync": ("rsync", "-aX", f"{source}/", f"{tmp_path / 'rsync'}/"),
        "cp": ("cp", "-r", "--preserve=mode,links,timestamps,xattr", source, tmp_path / "cp"),
    }.items():
        run(*command, cwd=tmp_path)
        assert os.getxattr(tmp_path / name, "user.agora.type") == b"folder"
    run("tar", "--create", "--xattrs", f"--file={tmp_path / 'archive.tar'}", source, cwd=tmp_path)


def test_gio_copies_a_file_with_its_time(places, tmp_path):
    run("gio", "copy", VOLUME, tmp_path / "copy.nii", cwd=places.mounted)
    assert (tmp_path / "copy.nii").read_bytes() == (places.local / VOLUME).read_bytes()
    mtime_ns = (tmp_path / "copy.nii").stat().st_mtime_ns
    assert mtime_ns // 1000 == (places.local / VOLUME).stat().st_mtime_ns // 1000


def test_the_links_of_the_demo_lead_inside_the_mount(places, demo_mount):
    """Links are relative and lead inside the mount."""
    links = [path for path in places.mounted.rglob("*") if path.is_symlink()]
    assert len(links) >= 7
    for link in links:
        assert not link.readlink().is_absolute()
        assert link.resolve(strict=True).is_relative_to(demo_mount.path / "projects")
        assert not link.resolve().is_symlink()


# -- changing ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "script",
    [
        "touch new",
        "touch anatomical.nii",
        "echo more >> anatomical.nii",
        "echo instead > anatomical.nii",
        "truncate -s 0 anatomical.nii",
        "mkdir directory",
        "rmdir ../MINC",
        "rm -f anatomical.nii",
        "rm -rf ../MINC",
        "mv anatomical.nii other.nii",
        "mv ../MINC ../other",
        "ln -s anatomical.nii link",
        "ln anatomical.nii link",
        "mkfifo pipe",
        "chmod 600 anatomical.nii",
        'chgrp "$(id -g)" anatomical.nii',
        "cp anatomical.nii copy.nii",
        "sed -i s/a/b/ anatomical.nii",
        "setfattr -n user.comment -v text anatomical.nii",
        "setfattr -x user.agora.id anatomical.nii",
        "gio mkdir directory",
        "dd if=/dev/zero of=anatomical.nii count=1 conv=notrunc",
    ],
)
def test_on_a_read_only_mount_every_change_by_a_program_is_refused_in_its_words(read_only, demo, script):
    """A mount with `read_only` refuses every change with EROFS."""
    directory = read_only / NIFTI
    before = manifest(directory)
    demo.reset_requests()
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=directory,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    assert "Read-only file system" in done.stderr, done.stderr
    assert {request["method"] for request in demo.requests()} <= {"GET"}
    assert manifest(directory) == before
