"""Whatever holds files are copied out, files and directories in; the connector says what belongs there."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections import Counter

import pytest
from gtagora.models.folder import Folder

from tests.support.connector import files_in_folder, folders_below

_numbers = itertools.count()


@pytest.fixture
def folder(bench):
    """A folder of one's own, stored."""
    path = bench.project / "folders" / f"inbox {next(_numbers)}"
    bench.shell('mkdir "$1"', path)
    bench.command("sync", path)
    return path


@pytest.fixture
def phantom(bench):
    """An exam with several series, and with a dataset that belongs to no series."""
    return bench.root / "projects" / "Phantom QA" / "exams" / "Monthly phantom"


def number(bench, path):
    return int(bench.attribute(path, "id"))


def known(datasets, place=""):
    """What the connector says of the files of datasets: below which place, their own name, size and hash."""
    return Counter(
        (place, file.original_filename.rpartition("/")[2], file.size, file.sha1)
        for dataset in datasets
        for file in dataset.get_datafiles()
    )


def copied(directory, places=("",)):
    """The same of the files that were copied to *directory*; of *places* the longest that a file is below."""
    found: Counter[tuple[str, str, int, str]] = Counter()
    for path in sorted(directory.rglob("*")):
        if not path.is_dir():
            assert not path.is_symlink()
            content = path.read_bytes()
            inside = path.relative_to(directory).as_posix()
            place = max((one for one in places if inside.startswith(one)), key=len)
            found[place, path.name, len(content), hashlib.sha1(content).hexdigest()] += 1
    return found


def exam_files(exam, place):
    """What an exam has: files of its series, and those of the exam itself, which the connector does not download."""
    files = known([dataset for dataset in exam.get_datasets() if not dataset.serie], f"{place}/")
    for series in exam.get_series():
        files += known(series.get_datasets(), f"{place}/{series.name}/")
    return files


def folder_files(folder, place):
    """What a folder and all below it has, the exams and series that it shows included."""
    files = known(folder.get_datasets(), f"{place}/")
    for exam in folder.get_exams():
        files += exam_files(exam, f"{place}/{exam.name}")
    for series in folder.get_series():
        files += known(series.get_datasets(), f"{place}/{series.name}/")
    for subfolder in folder.get_folders():
        files += folder_files(subfolder, f"{place}/{subfolder.name}")
    return files


# -- out ---------------------------------------------------------------------------------------------


@pytest.mark.feature(37, how="`cp -rL FOLDER DIR`")
@pytest.mark.parametrize("name", ["Raw data", "Derived"])
def test_a_folder_is_downloaded_with_all_below_it_and_all_that_it_shows(bench, tmp_path, name):
    bench.shell('cp -rL "$1" "$2"', bench.project / "folders" / name, tmp_path)
    folder = bench.on_server().get_root_folder().get_folder(name)
    assert isinstance(folder, Folder)
    expected = folder_files(folder, name)
    assert copied(tmp_path, {place for place, *_ in expected}) == expected
    assert len({place for place, *_ in expected}) > 1


@pytest.mark.feature(38, how="`cp -r EXAM DIR`; likewise a series, a dataset")
def test_an_exam_is_downloaded_with_the_files_that_belong_to_no_series(bench, phantom, tmp_path):
    bench.shell('cp -r "$1" "$2"', phantom, tmp_path)
    expected = exam_files(bench.agora.get_exam(number(bench, phantom)), phantom.name)
    assert copied(tmp_path, {place for place, *_ in expected}) == expected
    assert len({place for place, *_ in expected}) == 3  # two series, and the exam itself


@pytest.mark.feature(38, how="`cp -r EXAM DIR`; likewise a series, a dataset")
def test_a_series_and_a_dataset_are_downloaded(bench, phantom, tmp_path):
    series = phantom / "T2_TurboRARE (E2)"
    dataset = series / "Bruker raw data"
    for path, datasets in (
        (series, bench.agora.get_series(number(bench, series)).get_datasets()),
        (dataset, [bench.agora.get_dataset(number(bench, dataset))]),
    ):
        (target := tmp_path / path.name).mkdir()
        bench.shell('cp -r "$1" "$2"', path, target)
        assert copied(target) == known(datasets)
        assert len(known(datasets)) > 1


# -- in ----------------------------------------------------------------------------------------------


def make_files(directory):
    """Files as the connector finds them difficult (an empty one, two of one name)."""
    contents = {
        "notes.txt": b"The subject moved.\n",
        "empty.txt": b"",
        "raw/large.dat": os.urandom(3_000_000),
        "raw/more/notes.txt": b"Again.\n",
    }
    for name, content in contents.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return contents


def stored(bench, path):
    """What the connector finds in and below a folder: size and hash by path."""
    found = files_in_folder(bench.server, number(bench, path))
    assert len({file.path for file in found}) == len(found)
    return {file.path: (file.size, file.sha1) for file in found}


def expected_of(contents):
    return {name: (len(content), hashlib.sha1(content).hexdigest()) for name, content in contents.items()}


@pytest.mark.feature(39, how="`cp FILE… FOLDER/`, `agorafs sync FOLDER`; `agorafs upload FILE… FOLDER`")
@pytest.mark.parametrize("way", ["cp", "upload"])
def test_files_are_uploaded_into_a_folder(bench, folder, tmp_path, way):
    contents = make_files(tmp_path)
    files = [tmp_path / name for name in ("notes.txt", "empty.txt", "raw/large.dat")]
    if way == "cp":
        bench.shell('cp "$@"', *files, folder)
        bench.command("sync", folder)
    else:
        bench.command("upload", *files, folder)
    assert stored(bench, folder) == expected_of({path.name: path.read_bytes() for path in files})
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        "notes.txt": contents["notes.txt"],
        "empty.txt": b"",
        "large.dat": contents["raw/large.dat"],
    }


@pytest.mark.feature(40, how="`cp -r DIR FOLDER/`, `agorafs sync FOLDER`; `agorafs upload DIR FOLDER`")
@pytest.mark.parametrize("way", ["cp", "upload"])
def test_a_directory_is_uploaded_with_all_below_it(bench, folder, tmp_path, way):
    scan = tmp_path / "scan"
    contents = make_files(scan)
    if way == "cp":
        bench.shell('cp -r "$1" "$2"', scan, folder)
        bench.command("sync", folder)
    else:
        bench.command("upload", scan, folder)
    wanted = expected_of({f"scan/{name}": content for name, content in contents.items()})
    assert stored(bench, folder) == wanted
    assert folders_below(bench.server, number(bench, folder)) == {"scan", "scan/raw", "scan/raw/more"}
    bench.shell('diff -r "$1" "$2"', scan, folder / "scan")
