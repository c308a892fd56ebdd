"""Relations: files that follow a main file into the series it becomes part of.

An uploader may say, for a reconstruction log or a physiology recording, which uploaded file it belongs to:
``{main target: [related targets]}``, by target path. When the analysis puts the main file into a series, the
related ones become further datasets of that series; a main file that is itself related to another counts.
When the main file ends in no series, relations have nothing to attach to, and its related files are loose.

Failure.  A relation that names a file which was not uploaded, or a file related to two others or to itself,
is an error and the import fails: attaching data to the wrong series would be worse.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from agorafs.sandbox.analysis.datasets import DatasetType, attached_dataset
from agorafs.sandbox.analysis.formats import plan_loose
from agorafs.sandbox.plan import PlannedDataset, PlannedExam, PlannedSeries, UploadedFile


def relation_errors(relations: object, uploads: Sequence[UploadedFile]) -> tuple[str, ...]:
    """Return what is wrong with *relations*; nothing, when they can be followed."""
    if not isinstance(relations, Mapping):
        return ("relations: not an object",)
    targets = {upload.target for upload in uploads}
    errors = []
    seen: set[str] = set()
    for main, related_targets in relations.items():
        if main not in targets:
            errors.append(f"relations: {main!r} is not among the uploaded files")
        if not isinstance(related_targets, (list, tuple)):
            errors.append(f"relations: what is related to {main!r} is not a list")
            continue
        for related in related_targets:
            if not isinstance(related, str) or related not in targets:
                errors.append(f"relations: {related!r} is not among the uploaded files")
            elif related == main:
                errors.append(f"relations: {related!r} is related to itself")
            elif related in seen:
                errors.append(f"relations: {related!r} is related to more than one file")
            else:
                seen.add(related)
    return tuple(errors)


def attach_related(
    exams: Sequence[PlannedExam], related: Mapping[str, Sequence[UploadedFile]]
) -> tuple[tuple[PlannedExam, ...], list[UploadedFile]]:
    """Add the *related* files to the series that hold their main file.

    Args:
        exams: What the analysis made of the other files.
        related: Main target to its related files.

    Returns:
        The extended exams, and the files whose main file is in no series.
    """
    # A related file may be the main file of others, so a series keeps growing until nothing new follows.
    following = dict(related)
    extended = []
    for exam in exams:
        series = tuple(_extend(member, following) for member in exam.series)
        extended.append(dataclasses.replace(exam, series=series))
    return tuple(extended), [upload for uploads in following.values() for upload in uploads]


def _extend(series: PlannedSeries, following: dict[str, Sequence[UploadedFile]]) -> PlannedSeries:
    datasets = list(series.datasets)
    position = 0
    while position < len(datasets):
        for file in datasets[position].files:
            datasets += _datasets_of(following.pop(file.upload.target, ()))
        position += 1
    return dataclasses.replace(series, datasets=tuple(datasets))


def _datasets_of(uploads: Sequence[UploadedFile]) -> list[PlannedDataset]:
    return [
        attached_dataset(
            [file.upload for file in dataset.files], DatasetType(dataset.type), name=dataset.name
        )
        for dataset in plan_loose(uploads)
    ]
