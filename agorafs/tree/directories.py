"""The listings of the archive's own directories: projects, folders, the study list, patients.

Pure functions from records to a ``Listing``.

    * A datafile's ``original_filename`` may hold directories; they become directories of the dataset.
    * Content types that agorafs does not know are not shown; ``Listing.not_shown`` names them, so that
      ``.agora/info.json`` can say so.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from agorafs.client.records import (
    Dataset,
    Exam,
    Folder,
    FolderItem,
    Kind,
    Patient,
    Project,
    RemoteRef,
    Series,
)
from agorafs.tree.drafts import (
    Draft,
    datafile_draft,
    dataset_draft,
    exam_link,
    fallback_name,
    fixed_listing,
    item_draft,
    listing_of,
    series_draft,
)
from agorafs.tree.inodes import InodeSpace, hashed_inode, inode
from agorafs.tree.listing import Area, DirKey, Listing, Record
from agorafs.tree.names import legal_name, path_parts
from agorafs.tree.naming import Naming


def own_name(record: Record, naming: Naming) -> str | None:
    """Return the name that a folder shows *record* under while no sibling has it; None for what is in no folder."""
    if isinstance(record, Exam):
        name, ref = naming.of_exam(record), RemoteRef(Kind.EXAM, record.id)
    elif isinstance(record, Series):
        name, ref = naming.of_series(record), RemoteRef(Kind.SERIES, record.id)
    elif isinstance(record, Folder):
        name, ref = record.name, RemoteRef(Kind.FOLDER, record.id)
    elif isinstance(record, Dataset):
        name, ref = dataset_draft(record).name, RemoteRef(Kind.DATASET, record.id)
    else:
        return None
    return legal_name(name, f"{ref.kind.value} {ref.id}")


def root_listing() -> Listing:
    """The mount's root."""
    listed = (Area.PROJECTS, Area.PATIENTS, Area.TAGS, Area.TASKS)
    return fixed_listing(
        DirKey(Area.ROOT),
        [(area.value, DirKey(area), None) for area in listed],
        unlisted=[(Area.SEARCH.value, DirKey(Area.SEARCH), None)],
    )


def projects_listing(projects: Iterable[Project]) -> Listing:
    """All projects; the user's private one is called ``My Agora``, as in the web interface."""
    drafts = [
        Draft(
            "My Agora" if project.is_myagora else project.name,
            RemoteRef(Kind.PROJECT, project.id),
            inode(InodeSpace.PROJECT, project.id),
            project.created_ns,
            False,
            project,
            DirKey(Area.PROJECT, project.id),
        )
        for project in projects
    ]
    return listing_of(DirKey(Area.PROJECTS), drafts)


def project_listing(project: Project) -> Listing:
    """The fixed directories of one project."""
    entries: list[tuple[str, DirKey, int | None]] = []
    if project.root_folder is not None:
        entries.append(
            (
                "folders",
                DirKey(Area.FOLDER, project.root_folder),
                inode(InodeSpace.FOLDER, project.root_folder),
            )
        )
    entries.append(
        ("exams", DirKey(Area.PROJECT_EXAMS, project.id), inode(InodeSpace.PROJECT_EXAMS, project.id))
    )
    entries.append(
        (
            "patients",
            DirKey(Area.PROJECT_PATIENTS, project.id),
            inode(InodeSpace.PROJECT_PATIENTS, project.id),
        )
    )
    views = (Area.TAGS, Area.TASKS, Area.TRASH)
    entries += [(area.value, DirKey(area, project.id), None) for area in views]
    return fixed_listing(
        DirKey(Area.PROJECT, project.id),
        entries,
        unlisted=[(Area.SEARCH.value, DirKey(Area.SEARCH, project.id), None)],
        mtime_ns=project.created_ns,
    )


def folder_listing(folder_id: int, items: Iterable[FolderItem], naming: Naming) -> Listing:
    """A folder: subfolders and loose datasets in place, everything else as links."""
    drafts: list[Draft] = []
    not_shown: list[str] = []
    for item in items:
        draft = item_draft(item, naming)
        if draft is None:
            not_shown.append(f"{item.content_type} {item.object_id}")
        else:
            drafts.append(replace(draft, rank=item.id, item=item.id))
    return listing_of(DirKey(Area.FOLDER, folder_id), drafts, not_shown)


def exams_listing(project_id: int, exams: Iterable[Exam], naming: Naming) -> Listing:
    """A project's study list."""
    drafts = [
        Draft(
            naming.of_exam(exam),
            RemoteRef(Kind.EXAM, exam.id),
            inode(InodeSpace.EXAM, exam.id),
            exam.created_ns,
            exam.locked,
            exam,
            DirKey(Area.EXAM, exam.id),
        )
        for exam in exams
    ]
    return listing_of(DirKey(Area.PROJECT_EXAMS, project_id), drafts)


def exam_listing(
    exam_id: int, series: Iterable[Series], datasets: Iterable[Dataset], naming: Naming
) -> Listing:
    """An exam: its series, and the datasets attached to the exam itself."""
    drafts = [series_draft(one, naming) for one in series]
    drafts.extend(dataset_draft(dataset) for dataset in datasets)
    return listing_of(DirKey(Area.EXAM, exam_id), drafts)


def series_listing(series_id: int, datasets: Iterable[Dataset]) -> Listing:
    """A series: its datasets."""
    return listing_of(DirKey(Area.SERIES, series_id), [dataset_draft(dataset) for dataset in datasets])


def dataset_listings(dataset: Dataset) -> dict[DirKey, Listing]:
    """The directory of a dataset of several files, and the directories inside it, by key."""
    drafts: dict[str, list[Draft]] = {"": []}
    for datafile in dataset.datafiles or ():
        *directories, name = path_parts(datafile.original_filename) or (fallback_name(datafile),)
        inner = ""
        for part in directories:
            deeper = f"{inner}/{part}" if inner else part
            if deeper not in drafts:
                drafts[deeper] = []
                key = DirKey(Area.DATASET, dataset.id, inner=deeper)
                ino = hashed_inode("dataset", str(dataset.id), deeper)
                drafts[inner].append(Draft(part, None, ino, dataset.modified_ns, False, dataset, key))
            inner = deeper
        drafts[inner].append(datafile_draft(datafile, name))
    listings = (
        listing_of(DirKey(Area.DATASET, dataset.id, inner=inner), some) for inner, some in drafts.items()
    )
    return {listing.key: listing for listing in listings}


def patients_listing(key: DirKey, patients: Iterable[Patient]) -> Listing:
    """Patients, of one project or of all."""
    drafts = [
        Draft(
            patient.name or patient.patient_id,
            RemoteRef(Kind.PATIENT, patient.id),
            _patient_inode(patient.id, key.id),
            patient.modified_ns or patient.created_ns,
            False,
            patient,
            DirKey(Area.PATIENT, patient.id, project=key.id),
        )
        for patient in patients
    ]
    return listing_of(key, drafts)


def patient_listing(key: DirKey, exams: Iterable[Exam], naming: Naming) -> Listing:
    """A patient: links to the exams, of one project or of all."""
    where = ("patient's exam", str(key.id), str(key.project))
    drafts = [
        exam_link(exam, hashed_inode(*where, str(exam.id)), exam.created_ns, naming)
        for exam in exams
        if not key.project or exam.project == key.project
    ]
    return listing_of(key, drafts)


def _patient_inode(patient_id: int, project_id: int) -> int:
    """A patient is a different directory in each project, and another one above them all."""
    if project_id:
        return hashed_inode("patient", str(patient_id), str(project_id))
    return inode(InodeSpace.PATIENT, patient_id)
