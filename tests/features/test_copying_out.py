"""What is copied out of the mount is what the connector downloads, and nothing is downloaded twice."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tests.features.own_objects import new_folder, new_study


@pytest.fixture(scope="module")
def study(bench):
    return new_study(bench)


@pytest.fixture
def folder(bench, study):
    """A folder with an exam, a series, two files, and a subfolder with another file."""
    own = new_folder(bench, a="first", b="second")
    study.exam.link_to_folder(own.folder)
    study.series.link_to_folder(own.folder)
    below = own.folder.create_folder("below")
    bench.server.upload({"c.txt": b"third"}, folder=below.id)
    bench.control("refresh", own.path)
    return own


def files_below(root: Path) -> list[tuple[str, str]]:
    """Return name and SHA-1 of all files, sorted; the connector's directories are not those of the mount."""
    return sorted(
        (path.name, hashlib.sha1(path.read_bytes()).hexdigest()) for path in root.rglob("*") if path.is_file()
    )


def downloads(bench) -> int:
    """Return how often the server was asked for content."""
    return sum("/download/" in one["path"] for one in bench.server.requests())


def objects_in(bench, path, kind):
    """Find what is of one kind in a directory, in the shell, links followed."""
    script = (
        'for one in "$1"/*; do '
        '[ "$(getfattr --only-values -n user.agora.type "$one")" = "$2" ] && echo "$one"; done; true'
    )
    return bench.shell(script, path, kind).splitlines()


@pytest.mark.feature(103, how="`ls patients/P`, `find -L patients/P`")
def test_the_exams_the_series_and_the_datasets_of_a_patient_are_found_below_him(bench):
    patient = next(one for one in bench.agora.get_patients() if one.name == "Erika Muster")
    path = bench.root / "patients" / patient.name
    script = 'find -L "$1" -mindepth "$2" -maxdepth "$2" -exec getfattr --only-values -n user.agora.id {} \\;'
    script += " -exec echo \\;"
    for depth, theirs in (
        ("1", patient.get_exams()),
        ("2", patient.get_series()),
        ("3", patient.get_datasets()),
    ):
        ids = sorted(int(line) for line in bench.shell(script, path, depth).splitlines())
        assert ids == sorted(one.id for one in theirs)
        assert ids


@pytest.mark.feature(103, how="`cp -rL patients/P DIR`")
def test_a_patient_is_copied_out_with_all_that_he_has(bench, study, tmp_path):
    about = bench.agora.get_exam(study.exam.id).patient
    patient = bench.agora.get_patient(about["id"] if isinstance(about, dict) else about)
    (tmp_path / "theirs").mkdir()
    patient.download(tmp_path / "theirs")
    bench.shell('cp -rL "$1" "$2"', bench.root / "patients" / patient.name, tmp_path / "ours")
    assert files_below(tmp_path / "ours") == files_below(tmp_path / "theirs") != []


@pytest.mark.feature(104, how="`find FOLDER -maxdepth 1 -type f -exec cp {} DIR +`; `cp -rL FOLDER/EXAM DIR`")
@pytest.mark.parametrize("kind", ["exam", "series", "dataset"])
def test_only_exams_or_series_or_datasets_of_a_folder_are_copied_out(bench, folder, tmp_path, kind):
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for one in (ours, theirs):
        one.mkdir()
    if kind == "dataset":
        folder.folder.download_datasets(theirs)
        bench.shell('find "$1" -maxdepth 1 -type f -exec cp {} "$2" \\;', folder.path, ours)
        assert files_below(ours) == files_below(theirs)
    else:
        {"exam": folder.folder.download_exams, "series": folder.folder.download_series}[kind](theirs)
    others = tmp_path / "by attribute"
    others.mkdir()
    for path in objects_in(bench, folder.path, kind):
        bench.shell('cp -rL "$1" "$2"', path, others)
    assert files_below(others) == files_below(theirs)
    assert [name for name, _ in files_below(theirs)] == {
        "exam": ["IM_0001"], "series": ["IM_0001"], "dataset": ["a.txt", "b.txt"],
    }[kind]  # fmt: skip


@pytest.mark.feature(104, how="`find FOLDER -type f`: in all folders below, too")
def test_datasets_of_all_folders_below_are_copied_out(bench, folder, tmp_path):
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for one in (ours, theirs):
        one.mkdir()
    folder.folder.download_datasets(theirs, recursive=True)
    bench.shell('cd "$1" && find -type f -exec cp --parents {} "$2" \\;', folder.path, ours)
    assert files_below(ours) == files_below(theirs)
    assert (ours / "below" / "c.txt").read_text() == "third"


@pytest.mark.feature(114, how="by itself: content is kept by its SHA-1; `rsync -a FOLDER DIR` once more")
def test_what_is_here_already_is_not_downloaded_again(bench, tmp_path):
    own = new_folder(bench, one="number one", other="number two")
    bench.server.reset_requests()
    bench.shell('rsync -a "$1/" "$2"', own.path, tmp_path / "ours")
    assert downloads(bench) == 2
    for times in range(2):
        bench.control("refresh", bench.root)
        bench.shell('rsync -a --checksum "$1/" "$2"', own.path, tmp_path / "ours")
        bench.shell('cp -r "$1" "$2"', own.path, tmp_path / f"again {times}")
    assert downloads(bench) == 2
    own.folder.download(tmp_path / "ours")  # nor does the connector find anything to do
    assert downloads(bench) == 2
    assert files_below(tmp_path / "ours") == files_below(tmp_path / "again 1")


@pytest.mark.feature(114, how="by itself: `rsync -a` fetches only what is new")
def test_only_what_has_been_added_is_downloaded(bench, tmp_path):
    own = new_folder(bench, one="here already")
    bench.shell('rsync -a "$1/" "$2"', own.path, tmp_path / "ours")
    bench.server.upload({"two.txt": b"added later"}, folder=own.folder.id)
    bench.control("refresh", own.path)
    bench.server.reset_requests()
    bench.shell('rsync -a "$1/" "$2"', own.path, tmp_path / "ours")
    assert downloads(bench) == 1
    own.folder.download(tmp_path / "theirs")
    assert files_below(tmp_path / "ours") == files_below(tmp_path / "theirs")
