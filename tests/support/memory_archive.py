"""An archive in memory: the second implementation of ``tree.Archive``, and a counter of what it is asked.

Objects are made with ``add_*``; every call of the tree is appended to ``calls``. ``fail_with`` makes all calls
raise, ``without`` makes named calls answer as a server without that endpoint would.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

from agorafs.client.records import (
    Crumb,
    Datafile,
    Dataset,
    Exam,
    ExamTree,
    Folder,
    FolderItem,
    Kind,
    Patient,
    Project,
    RemoteRef,
    Series,
    SeriesTree,
    User,
)
from agorafs.errors import NotFound
from tests.support.memory_views import MemoryAnnotations, MemoryExploring, MemoryTasks

TIME_NS = 1_700_000_000_000_000_000


class MemoryArchive:
    def __init__(self) -> None:
        self.calls: list[str] = []
        self.fail_with: Exception | None = None
        self.without: set[str] = set()
        self.missing_call_error: Exception = NotFound("no such endpoint")
        self.user = User(1, "ann", False)
        self.bare_datasets = False  # answers leave ``datafiles`` out
        self._projects: dict[int, Project] = {}
        self._folders: dict[int, Folder] = {}
        self._parents: dict[int, int] = {}
        self._items: dict[int, list[FolderItem]] = {}
        self._exams: dict[int, Exam] = {}
        self._series: dict[int, Series] = {}
        self._datasets: dict[int, Dataset] = {}
        self._dataset_folder: dict[int, int] = {}
        self._patients: dict[int, Patient] = {}
        self.contents: dict[int, bytes] = {}
        self._last_id = 0
        self.annotations = MemoryAnnotations(self)
        self.exploring = MemoryExploring(self)
        self.tasks = MemoryTasks(self)

    # -- making things -------------------------------------------------------------------------------

    def next_id(self) -> int:
        self._last_id += 1
        return self._last_id

    def add_project(self, name: str, *, is_myagora: bool = False, roles: Any = ()) -> Project:
        root = self.add_folder("root", parent=None)
        project = Project(self.next_id(), name, root.id, is_myagora, 1, TIME_NS, tuple(roles))
        self._folders[root.id] = replace(root, project=project.id)
        self._projects[project.id] = project
        return project

    def rename_project(self, project: int, name: str) -> None:
        self._projects[project] = replace(self._projects[project], name=name)

    def remove_project(self, project: int) -> None:
        del self._projects[project]

    def add_folder(self, name: str, parent: int | None, *, locked: bool = False) -> Folder:
        project = self._folders[parent].project if parent else None
        folder = Folder(self.next_id(), name, project, locked)
        self._folders[folder.id] = folder
        self._items[folder.id] = []
        if parent is not None:
            self._parents[folder.id] = parent
            self.add_item(parent, "folder", folder.id, folder)
        return folder

    def add_item(
        self, folder: int, content_type: str, object_id: int, content: Any, *, is_link: bool = False
    ) -> FolderItem:
        item = FolderItem(self.next_id(), folder, content_type, object_id, is_link, TIME_NS, content)
        self._items[folder].append(item)
        return item

    def remove_item(self, folder: int, object_id: int) -> None:
        self._items[folder] = [item for item in self._items[folder] if item.object_id != object_id]

    def add_patient(self, name: str) -> Patient:
        patient = Patient(self.next_id(), name, f"P{self._last_id}", TIME_NS, TIME_NS)
        self._patients[patient.id] = patient
        return patient

    def add_exam(
        self,
        project: int,
        name: str,
        *,
        patient: int | None = None,
        locked: bool = False,
        exam_id: int | None = None,
    ) -> Exam:
        number = exam_id or self.next_id()
        exam = Exam(number, name, f"1.2.{number}", project, patient, 1, TIME_NS, TIME_NS, locked)
        self._exams[exam.id] = exam
        return exam

    def add_series(self, exam: int | None, name: str) -> Series:
        number = self.next_id()
        series = Series(number, name, f"1.3.{number}", exam, None, 1, TIME_NS, TIME_NS, TIME_NS, False)
        self._series[series.id] = series
        return series

    def add_dataset(
        self,
        files: dict[str, bytes],
        *,
        series: int | None = None,
        exam: int | None = None,
        folder: int | None = None,
        name: str = "",
    ) -> Dataset:
        datafiles = []
        for filename, content in files.items():
            number = self.next_id()
            self.contents[number] = content
            sha1 = hashlib.sha1(content).hexdigest()
            datafiles.append(Datafile(number, filename, len(content), sha1, TIME_NS, TIME_NS))
        total = sum(datafile.size for datafile in datafiles)
        dataset = Dataset(
            self.next_id(),
            name or next(iter(files), ""),
            100000,
            series,
            exam,
            None,
            total,
            TIME_NS,
            TIME_NS,
            False,
            tuple(datafiles),
        )
        self._datasets[dataset.id] = dataset
        if folder is not None:
            self._dataset_folder[dataset.id] = folder
            self.add_item(folder, "dataset", dataset.id, dataset)
        return dataset

    # -- answering -----------------------------------------------------------------------------------

    def _asked(self, call: str, *arguments: object) -> None:
        self.calls.append(" ".join([call, *map(str, arguments)]))
        if self.fail_with is not None:
            raise self.fail_with
        if call in self.without:
            raise self.missing_call_error

    def _given(self, table: dict[int, Any], object_id: int) -> Any:
        if object_id not in table:
            raise NotFound(f"{object_id} is not there")
        return table[object_id]

    def _sent(self, dataset: Dataset) -> Dataset:
        return replace(dataset, datafiles=None) if self.bare_datasets else dataset

    def projects(self) -> list[Project]:
        self._asked("projects")
        return list(self._projects.values())

    def project_exams(self, project_id: int) -> list[Exam]:
        self._asked("project_exams", project_id)
        return [exam for exam in self._exams.values() if exam.project == project_id]

    def project_patients(self, project_id: int) -> list[Patient]:
        self._asked("project_patients", project_id)
        wanted = {exam.patient for exam in self._exams.values() if exam.project == project_id}
        return [patient for patient in self._patients.values() if patient.id in wanted]

    def folder(self, folder_id: int) -> Folder:
        self._asked("folder", folder_id)
        found: Folder = self._given(self._folders, folder_id)
        return found

    def folder_items(self, folder_id: int) -> list[FolderItem]:
        self._asked("folder_items", folder_id)
        return [
            replace(item, content=self._sent(item.content)) if isinstance(item.content, Dataset) else item
            for item in self._given(self._items, folder_id)
        ]

    def folder_breadcrumb(self, folder_id: int) -> list[Crumb]:
        self._asked("folder_breadcrumb", folder_id)
        crumbs = [Crumb(folder_id, self._given(self._folders, folder_id).name)]
        while folder_id in self._parents:
            folder_id = self._parents[folder_id]
            crumbs.insert(0, Crumb(folder_id, self._folders[folder_id].name))
        return crumbs

    def exam(self, exam_id: int) -> Exam:
        self._asked("exam", exam_id)
        found: Exam = self._given(self._exams, exam_id)
        return found

    def exam_by_uid(self, project_id: int, uid: str) -> Exam:
        self._asked("exam_by_uid", project_id)
        found: list[Exam] = [one for one in self.all_of(Kind.EXAM, project_id) if one.uid == uid]
        return found[0] if found else self._given({}, project_id)

    def series_by_uid(self, project_id: int, uid: str) -> Series:
        self._asked("series_by_uid", project_id)
        found: list[Series] = [one for one in self.all_of(Kind.SERIES, project_id) if one.uid == uid]
        return found[0] if found else self._given({}, project_id)

    def exam_tree(self, exam_id: int) -> ExamTree:
        self._asked("exam_tree", exam_id)
        exam = self._given(self._exams, exam_id)
        branches = tuple(
            SeriesTree(one, tuple(self._sent(d) for d in self._datasets.values() if d.series == one.id))
            for one in self._series.values()
            if one.exam == exam_id
        )
        direct = tuple(self._sent(d) for d in self._datasets.values() if d.exam == exam_id)
        return ExamTree(exam, branches, direct)

    def exam_series(self, exam_id: int) -> list[Series]:
        self._asked("exam_series", exam_id)
        self._given(self._exams, exam_id)
        return [one for one in self._series.values() if one.exam == exam_id]

    def exam_files(self, exam_id: int) -> list[Dataset]:
        self._asked("exam_files", exam_id)
        series = {one.id for one in self._series.values() if one.exam == exam_id}
        return [self._sent(d) for d in self._datasets.values() if d.exam == exam_id or d.series in series]

    def series(self, series_id: int) -> Series:
        self._asked("series", series_id)
        found: Series = self._given(self._series, series_id)
        return found

    def series_datasets(self, series_id: int) -> list[Dataset]:
        self._asked("series_datasets", series_id)
        return [self._sent(d) for d in self._datasets.values() if d.series == series_id]

    def folders_showing(self, ref: RemoteRef) -> list[Folder]:
        word = {Kind.SERIES: "serie"}.get(ref.kind, ref.kind.value)
        return [
            self._folders[folder]
            for folder, items in self._items.items()
            if any(item.content_type == word and item.object_id == ref.id for item in items)
        ]

    def series_folders(self, series_id: int) -> list[Folder]:
        self._asked("series_folders", series_id)
        return self.folders_showing(RemoteRef(Kind.SERIES, series_id))

    def dataset(self, dataset_id: int) -> Dataset:
        self._asked("dataset", dataset_id)
        found: Dataset = self._given(self._datasets, dataset_id)
        return found

    def dataset_datafiles(self, dataset_id: int) -> list[Datafile]:
        self._asked("dataset_datafiles", dataset_id)
        return list(self._given(self._datasets, dataset_id).datafiles)

    def dataset_folders(self, dataset_id: int) -> list[Folder]:
        self._asked("dataset_folders", dataset_id)
        return self.folders_showing(RemoteRef(Kind.DATASET, dataset_id))

    def patients(self) -> list[Patient]:
        self._asked("patients")
        return list(self._patients.values())

    def patient(self, patient_id: int) -> Patient:
        self._asked("patient", patient_id)
        found: Patient = self._given(self._patients, patient_id)
        return found

    def patient_exams(self, patient_id: int) -> list[Exam]:
        self._asked("patient_exams", patient_id)
        return [exam for exam in self._exams.values() if exam.patient == patient_id]

    def all_of(self, kind: Kind, project_id: int) -> list[Any]:
        """Return the exams, series, datasets or patients that belong to a project."""
        exams = {exam.id: exam for exam in self._exams.values() if exam.project == project_id}
        series = {one.id: one for one in self._series.values() if one.exam in exams}
        patients = {exam.patient for exam in exams.values()}
        home = {folder.id for folder in self._folders.values() if folder.project == project_id}
        found: dict[Kind, list[Any]] = {
            Kind.EXAM: list(exams.values()),
            Kind.SERIES: list(series.values()),
            Kind.PATIENT: [one for one in self._patients.values() if one.id in patients],
            Kind.DATASET: [
                self._sent(one)
                for one in self._datasets.values()
                if one.exam in exams or one.series in series or self._dataset_folder.get(one.id) in home
            ],
        }
        return found[kind]

    def describe(self, ref: RemoteRef) -> dict[str, Any]:
        self._asked(f"describe {ref.kind.value}", ref.id)
        tables: dict[Kind, dict[int, Any]] = {
            Kind.PROJECT: self._projects,
            Kind.FOLDER: self._folders,
            Kind.EXAM: self._exams,
            Kind.SERIES: self._series,
            Kind.DATASET: self._datasets,
            Kind.PATIENT: self._patients,
        }
        found = self._given(tables[ref.kind], ref.id)
        return {"id": found.id, "name": found.name, "extra": "as the server gave it"}
