"""Objects that belong to one test: made behind the mount's back, with plain requests, and shown by it at once."""

from __future__ import annotations

import itertools
import uuid
from pathlib import Path
from typing import Any, NamedTuple

from gtagora.models.exam import Exam
from gtagora.models.folder import Folder
from gtagora.models.project import Project
from gtagora.models.series import Series

from tests.features.conftest import Bench
from tests.sandbox.conftest import dicom_file

_numbers = itertools.count(1)


class OwnStudy(NamedTuple):
    """An exam of one series, which has a dataset of one file; as the mount and as the connector show it."""

    path: Path
    exam: Exam

    @property
    def series_path(self) -> Path:
        return self.path / "T1"

    @property
    def series(self) -> Series:
        (series,) = [one for one in self.exam.get_series() if one.name == "T1"]
        return series


class OwnFolder(NamedTuple):
    """A folder, as the mount and as the connector show it."""

    path: Path
    folder: Folder

    def items(self) -> list[tuple[str, str]]:
        """Return kind and name of everything in it, sorted."""
        return sorted((item.content_type, item.object.name) for item in self.folder.get_items())


class OwnProject(NamedTuple):
    """An empty project, as the mount and as the connector show it."""

    path: Path
    project: Project


def unique(what: str) -> str:
    """Return a name that nothing else has."""
    return f"{what} {next(_numbers)}"


def new_study(bench: Bench, **fields: Any) -> OwnStudy:
    """Import a study into the project; *fields* are DICOM's."""
    name, uid = unique("Study"), f"2.25.{uuid.uuid4().int}"
    fields.setdefault("patient", f"P {name}")
    content = dicom_file(
        study=uid, series=f"{uid}.1", StudyDescription=name, SeriesDescription="T1", **fields
    )
    project = bench.on_server()
    bench.server.upload({"IM_0001": content}, folder=project.root_folder)
    bench.control("refresh", bench.root)
    (exam,) = project.get_exams({"name": name})
    return OwnStudy(bench.project / "exams" / name, exam)


def new_folder(bench: Bench, **files: str) -> OwnFolder:
    """Make a folder in the project with *files*, by name without ``.txt``."""
    folder = bench.on_server().get_root_folder().create_folder(unique("Folder"))
    if files:
        contents = {f"{name}.txt": content.encode() for name, content in files.items()}
        bench.server.upload(contents, folder=folder.id)
    bench.control("refresh", bench.root)
    return OwnFolder(bench.project / "folders" / folder.name, folder)


def new_project(bench: Bench) -> OwnProject:
    """Make a project."""
    project = bench.agora.create_project(unique("Project"))
    bench.control("refresh", bench.root)
    return OwnProject(bench.root / "projects" / project.name, project)
