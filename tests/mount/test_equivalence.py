"""A tree that is copied onto the mount becomes the same objects as one uploaded with the vendor's connector.

What may differ, and nothing else:

* The mount puts a link to the exam where files became a study; the connector leaves nothing there.
* Empty files: the connector drops them when it does not happen to zip them. They are there from the mount, so they
  are compared only where the connector has them.
* Empty directories: the connector has no way to send them. From the mount they are folders.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agorafs.sandbox import demo_data
from tests.sandbox.conftest import dicom_file
from tests.sandbox_analysis.support import PYDICOM_DATA
from tests.sandbox_analysis.test_bruker import study as bruker_study
from tests.support import connector
from tests.support.sandbox import SandboxProcess
from tests.support.writing import make_project, read_tree


@pytest.fixture(scope="module")
def demo_tree(tmp_path_factory) -> demo_data.DemoTree:
    return demo_data.write_files(Path(tmp_path_factory.mktemp("demo-files")) / "files")


@pytest.fixture(scope="module")
def other(tmp_path_factory) -> Iterator[SandboxProcess]:
    """The server that the connector uploads to."""
    with SandboxProcess(
        Path(tmp_path_factory.mktemp("other")) / "data", switches={"import-speed": "0"}
    ) as server:
        yield server


def write(directory: Path, contents: dict[str, bytes | str]) -> None:
    for name, content in contents.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)


def dicom_study(demo: demo_data.DemoTree, directory: Path) -> None:
    shutil.copytree(demo.brain, directory / "study")


def dicom_disc(demo: demo_data.DemoTree, directory: Path) -> None:
    shutil.copytree(demo.file_set, directory / "disc")


def dicom_objects(demo: demo_data.DemoTree, directory: Path) -> None:
    shutil.copytree(demo.objects, directory / "objects")
    shutil.copy(PYDICOM_DATA / "MR_small.dcm", directory / "objects" / "again.dcm")


def par_rec(demo: demo_data.DemoTree, directory: Path) -> None:
    shutil.copytree(demo.parrec, directory / "exports")


def bruker(demo: demo_data.DemoTree, directory: Path) -> None:
    shutil.copytree(demo.bruker, directory / "bruker")


def bruker_with_dicom(demo: demo_data.DemoTree, directory: Path) -> None:
    write(directory, bruker_study("mouse/"))


def documents(demo: demo_data.DemoTree, directory: Path) -> None:
    shutil.copytree(demo.documents, directory / "documents")
    shutil.copytree(demo.nifti, directory / "nifti")
    shutil.copytree(demo.minc, directory / "minc")


def raw_and_lab(demo: demo_data.DemoTree, directory: Path) -> None:
    """Pairs, one of them large enough for chunks of its own, and more than one kind of thing below one folder."""
    write(
        directory,
        {
            "scan/20240101_1.raw": b"r" * 10_000_000,
            "scan/20240101_1.lab": b"l" * 1000,
            "scan/20240101_1.sin": b"s" * 10,
            "scan/20240101_2.raw": b"R" * 1000,
            "scan/20240101_2.lab": b"L" * 100,
            "scan/lonely.lab": b"a",
            "scan/image.hdr": b"h" * 348,
            "scan/image.img": b"i" * 4096,
        },
    )


def mixed(demo: demo_data.DemoTree, directory: Path) -> None:
    longest = "n" * 251 + ".txt"
    write(
        directory,
        {
            "mixed/empty": b"",
            "mixed/sub/empty too.txt": b"",
            f"mixed/{longest}": b"a name of 255 bytes",
            "mixed/" + "ü" * 125 + ".long": b"also 255 bytes",
            "mixed/" + "d" * 255 + "/file": b"in a directory with such a name",
            "mixed/Zürich – 漢字 🧠.txt": "Grüße",
            "mixed/e\u0301 decomposed.txt": b"not NFC",
            "mixed/ spaces at both ends ": b"spaces",
            "mixed/quote\"s and 'quotes' & $1 %20 #;=.txt": b"signs",
            "mixed/trailing dot.": b"dot",
            "mixed/-rf": b"dash",
            "mixed/same.txt": b"same bytes",
            "mixed/sub/same.txt": b"same bytes",
            "mixed/sub/other name.txt": b"same bytes",
            "mixed/.hidden": b"hidden",
            "mixed/archive.zip": b"PK\x05\x06" + bytes(18),
            "mixed/a/b/c/d/e/f": b"deep",
            "mixed/slice.dcm": dicom_file(study="2.25.11", series="2.25.11.1", StudyDescription="Mixed"),
        },
    )
    (directory / "mixed" / "nothing here" / "nor here").mkdir(parents=True)


def few(demo: demo_data.DemoTree, directory: Path) -> None:
    """Few enough for the connector not to zip them: its other way."""
    write(directory, {"few/one.txt": b"1", "few/two.bin": b"2" * 100_000, "few/none": b""})


CASES: list[Callable[[demo_data.DemoTree, Path], None]] = [
    dicom_study, dicom_disc, dicom_objects, par_rec, bruker, bruker_with_dicom, documents, raw_and_lab, mixed, few,
]  # fmt: skip


@pytest.mark.parametrize("make", CASES, ids=lambda make: make.__name__)
def test_a_copied_tree_becomes_the_same_objects_as_one_uploaded_with_the_connector(
    drive, other, demo_tree, tmp_path, make
):
    """A tree dropped onto the drive becomes the same objects as one upload with the vendor's connector."""
    source = tmp_path / "source"
    source.mkdir()
    make(demo_tree, source)
    name = make.__name__
    theirs = make_project(other, name)
    connector.upload(other, theirs.root, sorted(source.iterdir()))
    make_project(drive.server, name)
    drive.mount.refresh(drive.mount.path / "projects")
    mounted = drive.mount.path / "projects" / name / "folders"
    subprocess.run(["cp", "-a", *sorted(source.iterdir()), mounted], check=True, timeout=120)
    drive.sync()
    expected = other.tree()["projects"][name]
    found = drive.server.tree()["projects"][name]
    assert _empty_files(found) == sorted(
        path.name for path in source.rglob("*") if path.is_file() and path.stat().st_size == 0
    )
    assert _comparable(found, _empty_directories(source)) == _comparable(expected, set())


def _comparable(project: dict[str, Any], empty_directories: set[str]) -> dict[str, Any]:
    """Return the project without what may differ."""
    folders = {}
    for path, items in project["folders"].items():
        if path in empty_directories:
            assert all(item["kind"] == "folder" for item in items)
            continue
        parent = f"{path}/" if path else ""
        folders[path] = [
            item
            for item in items
            if not (item["kind"] == "exam" and item["is_link"])
            and not (item["kind"] == "dataset" and _is_empty(item["dataset"]))
            and not (item["kind"] == "folder" and parent + item["name"] in empty_directories)
        ]
    return {**project, "folders": folders}


def _is_empty(dataset: dict[str, Any]) -> bool:
    return all(file["size"] == 0 for file in dataset["datafiles"])


def _empty_files(project: dict[str, Any]) -> list[str]:
    items = [item for items in project["folders"].values() for item in items if item["kind"] == "dataset"]
    return sorted(
        file["name"].rpartition("/")[2]
        for item in items
        for file in item["dataset"]["datafiles"]
        if file["size"] == 0
    )


def _empty_directories(source: Path) -> set[str]:
    """Return the directories below which there is no file."""
    return {
        str(path.relative_to(source))
        for path in source.rglob("*")
        if path.is_dir() and not any(below.is_file() for below in path.rglob("*"))
    }


def test_the_mount_shows_what_the_connector_uploaded_as_it_was(drive, other, demo_tree, tmp_path):
    """The other way round: a tree that the connector uploaded is read from a mount as it was on the disk."""
    source = tmp_path / "source"
    source.mkdir()
    documents(demo_tree, source)
    project = make_project(drive.server, "by the connector")
    connector.upload(drive.server, project.root, sorted(source.iterdir()))
    drive.mount.refresh(drive.mount.path / "projects")
    mounted = drive.mount.path / "projects" / "by the connector" / "folders"
    expected = {path: content for path, content in read_tree(source).items() if content}
    assert {path: content for path, content in read_tree(mounted).items() if content} == expected
