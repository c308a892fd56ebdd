"""Which directories are to be forgotten after what: own changes are seen at once."""

from __future__ import annotations

from agorafs.client.annotations import Tag
from agorafs.client.records import Kind, Project
from agorafs.tree.listing import Area, DirKey
from agorafs.tree.tree import Tree
from agorafs.vfs.jobs import Job


def keys_of(kind: Kind, object_id: int) -> list[DirKey]:
    """Return the directories that show what has changed in an object."""
    if kind is Kind.PROJECT:
        return [
            DirKey(Area.PROJECT_EXAMS, object_id),
            DirKey(Area.PROJECT_PATIENTS, object_id),
            DirKey(Area.PATIENTS),
        ]
    areas = {Kind.FOLDER: Area.FOLDER, Kind.EXAM: Area.EXAM, Kind.SERIES: Area.SERIES}
    return [DirKey(areas[kind], object_id)] if kind in areas else []


def forget_tags(tree: Tree, tag: Tag) -> None:
    """Forget the directories that show *tag*, or that it exists."""
    for area in (Area.TAGS, Area.TAG):
        tree.forget_area(area, project=tag.project)


def job_ended(tree: Tree, job: Job) -> None:
    """Forget the directories in which a job may have left something."""
    refs = [*job.results, *([] if job.target is None else [job.target])]
    keys = [key for ref in refs for key in keys_of(*ref)]
    if job.project is not None:
        keys += keys_of(Kind.PROJECT, job.project)
        projects = tree.known_listing(tree.resolve([Area.PROJECTS.value]))
        for entry in () if projects is None else projects.entries.values():
            record = entry.record
            if isinstance(record, Project) and record.id == job.project and record.root_folder is not None:
                keys.append(DirKey(Area.FOLDER, record.root_folder))
    tree.changed(keys, job.target)
