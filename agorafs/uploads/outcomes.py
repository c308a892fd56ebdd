"""What became of each upload of a batch: filed where it was written, part of a study, consumed, or failed.

Why.  "The server has it" takes three witnesses: the result of the import (path and SHA-1), the dataset's own list
of files (size and SHA-1), and the directory that shows it. ``verification`` reads the first, ``placement`` the others;
here they are put together.

One change is made on the way: content that the server had already, elsewhere, and did not file again is copied to where
it was written, because it was written there.

Failure.  What the server does not confirm is an outcome ``FAILED`` with the reason; nothing is ever assumed. Trouble
with the server is raised, and the whole decision made again later.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence

from agorafs.client.records import Datafile, Dataset, Kind
from agorafs.errors import AgoraFSError, AlreadyExists, NotFound
from agorafs.uploads.identity import Changes, is_refusal
from agorafs.uploads.placement import Place, Placement, is_named, shown_name, wanted_name
from agorafs.uploads.values import Batch, Outcome, OutcomeKind, Upload
from agorafs.uploads.verification import Answer, Entry, answers

log = logging.getLogger(__name__)


def ensure_folder(placement: Placement, changes: Changes, directory: str) -> int | None:
    """Return the server folder of the target path *directory*, made with its parents where it is missing.

    None when it can not be there: the anchor is no folder. A refusal of the server is raised.
    """
    names = directory.split("/") if directory else []
    while True:
        chain = placement.chain(directory)
        if not chain or len(chain) > len(names):
            return chain[-1] if chain else None
        name = names[len(chain) - 1]
        with contextlib.suppress(AlreadyExists):  # somebody else was faster
            changes.create_folder(chain[-1], name)
        placement.forget(chain[-1])
        if len(placement.chain(directory)) == len(chain):
            raise NotFound(f"the server does not show the folder {name!r} that it has made")


class Verdicts:
    """Decides for one batch; see the module docstring."""

    def __init__(
        self, batch: Batch, uploads: Sequence[Upload], placement: Placement, changes: Changes
    ) -> None:
        """Decide about *uploads*, which have their SHA-1."""
        self._batch = batch
        self._uploads = uploads
        self._placement = placement
        self._changes = changes

    def by_result(self) -> dict[int, Outcome]:
        """Return an outcome for every upload, from ``batch.result``."""
        said = answers(self._uploads, self._batch.result)
        outcomes = {
            upload.id: self._outcome(upload, said[upload.id])
            for upload in self._uploads
            if not self._is_instruction(upload) or said[upload.id].entry is not None
        }
        return self._with_instructions(outcomes)

    def by_looking(self) -> dict[int, Outcome]:
        """Return outcomes for what is where it was written, whoever put it there; nothing for the rest."""
        outcomes = {}
        for upload in self._uploads:
            if not self._is_instruction(upload) and (outcome := self._found(upload)) is not None:
                outcomes[upload.id] = outcome
        is_all = all(upload.id in outcomes or self._is_instruction(upload) for upload in self._uploads)
        return self._with_instructions(outcomes) if is_all and outcomes else outcomes

    def _with_instructions(self, outcomes: dict[int, Outcome]) -> dict[int, Outcome]:
        """The file that told the server how to import the others is not stored itself."""
        went_well = not outcomes or any(one.kind is not OutcomeKind.FAILED for one in outcomes.values())
        outcome = Outcome(OutcomeKind.CONSUMED) if went_well else _failed("nothing that it describes arrived")
        rest = [upload.id for upload in self._uploads if upload.id not in outcomes]
        return {**outcomes, **dict.fromkeys(rest, outcome)}

    def _is_instruction(self, upload: Upload) -> bool:
        return upload.target == self._batch.import_file

    # -- one file ------------------------------------------------------------------------------------

    def _outcome(self, upload: Upload, answer: Answer) -> Outcome:
        if answer.entry is not None:
            return self._confirmed(upload, answer.entry)
        found = self._found(upload) if answer.may_be_there else None
        return found or _failed(answer.problem)

    def _found(self, upload: Upload) -> Outcome | None:
        """Look for an upload under its name. It may have been there before: it does not count as created."""
        place = self._placement.find(upload.target, upload.sha1 or "", upload.size)
        return None if place is None else self._filed(place, is_created=False)

    def _confirmed(self, upload: Upload, entry: Entry) -> Outcome:
        dataset = None if entry.dataset is None else self._placement.dataset(entry.dataset)
        if dataset is None:
            named = "no dataset" if entry.dataset is None else f"dataset {entry.dataset}, which is not there"
            return self._found(upload) or _failed(f"the server took this file but names {named}")
        datafile = self._datafile(dataset, upload, entry.datafile)
        if datafile is None:
            return _failed(
                f"the server took this file, but its dataset {dataset.id} does not list these bytes "
                f"(SHA-1 {upload.sha1}, {upload.size} bytes)"
            )
        if self._batch.anchor.kind is Kind.FOLDER:
            return self._in_folder(upload, dataset, datafile, is_created=entry.created)
        return self._in_study(Place(dataset, datafile), is_created=entry.created)

    def _datafile(self, dataset: Dataset, upload: Upload, datafile_id: int | None) -> Datafile | None:
        """Return the file of *dataset* that holds the upload's bytes, the one with its name if there are several.

        A file without SHA-1 needs another witness besides its size: the id that the result gave, or the name.
        """
        name = wanted_name(upload.target)
        same = [
            one
            for one in self._placement.datafiles(dataset)
            if one.size == upload.size
            and (
                one.sha1 == upload.sha1
                or (not one.sha1 and (one.id == datafile_id or shown_name(one) == name))
            )
        ]
        same.sort(key=lambda one: (one.id != datafile_id, shown_name(one) != name))
        return same[0] if same else None

    def _in_study(self, place: Place, *, is_created: bool) -> Outcome:
        """The batch was written into an exam or series."""
        if self._placement.holds_anchor(place.dataset):
            return self._filed(place, is_created=is_created)
        study = self._study(place, is_created=is_created)
        if study is not None:
            log.warning(
                "dataset %d went to exam %s, not to where it was written", place.dataset.id, study.exam
            )
            return study
        return _failed(
            f"the server keeps this file elsewhere (dataset {place.dataset.id}) and did not add it here"
        )

    def _in_folder(
        self, upload: Upload, dataset: Dataset, datafile: Datafile, *, is_created: bool
    ) -> Outcome:
        *directories, _ = upload.target.split("/")
        chain = self._placement.chain("/".join(directories))
        for depth, folder in reversed(list(enumerate(chain))):
            item = self._placement.own_item(folder, dataset.id)
            # An older dataset with these bytes under another name, or higher up, is not what was written.
            if item is not None and (is_created or is_named(datafile, upload.target, depth)):
                return self._filed(Place(dataset, datafile, item, folder), is_created=is_created)
        study = self._study(Place(dataset, datafile), is_created=is_created)
        if study is not None:
            return study
        if is_created:
            for folder in self._placement.folders_showing(dataset.id):
                item = self._placement.own_item(folder, dataset.id)
                if item is not None:
                    log.warning("%s: the server filed it in folder %d instead", upload.target, folder)
                    return self._filed(Place(dataset, datafile, item, folder), is_created=True)
        return self._found(upload) or self._copied(upload, dataset, datafile)

    def _copied(self, upload: Upload, dataset: Dataset, datafile: Datafile) -> Outcome:
        """The server has these bytes elsewhere and left it at that."""
        if shown_name(datafile) != wanted_name(upload.target):
            return _failed(
                f"the server has these bytes already, as {shown_name(datafile)!r} (dataset {dataset.id}), and "
                "does not store them again under this name"
            )
        *directories, _ = upload.target.split("/")
        try:
            folder = ensure_folder(self._placement, self._changes, "/".join(directories))
            project = None if folder is None else self._placement.project_of_folder(folder)
            if folder is None or project is None:
                return _failed(f"the server keeps this file elsewhere (dataset {dataset.id})")
            copy = self._changes.copy_dataset(dataset.id, project, folder)
        except AgoraFSError as error:
            if not is_refusal(error):
                raise
            return _failed(
                f"the server keeps this file elsewhere (dataset {dataset.id}) and did not copy it here: {error}"
            )
        self._placement.forget(folder)
        item = self._placement.own_item(folder, copy.id)
        stored = None if item is None else self._placement.dataset(item.object_id)
        datafile_there = None if stored is None else self._datafile(stored, upload, None)
        if stored is None or datafile_there is None:
            return _failed(f"the server copied dataset {dataset.id} here, but does not show the copy")
        return self._filed(Place(stored, datafile_there, item, folder), is_created=True)

    def _filed(self, place: Place, *, is_created: bool) -> Outcome:
        is_in_folder = place.folder is not None
        return Outcome(
            OutcomeKind.FILED,
            dataset=place.dataset.id,
            datafile=place.datafile.id,
            item=None if place.item is None else place.item.id,
            folder=place.folder,
            exam=None if is_in_folder else self._placement.exam_of(place.dataset),
            series=None if is_in_folder else place.dataset.series,
            created=is_created,
            is_whole_dataset=len(self._placement.datafiles(place.dataset)) == 1,
        )

    def _study(self, place: Place, *, is_created: bool) -> Outcome | None:
        dataset = place.dataset
        if dataset.exam is None and dataset.series is None:
            return None
        return Outcome(
            OutcomeKind.STUDY,
            dataset=dataset.id,
            datafile=place.datafile.id,
            exam=self._placement.exam_of(dataset),
            series=dataset.series,
            created=is_created,
        )


def _failed(reason: str) -> Outcome:
    return Outcome(OutcomeKind.FAILED, created=False, reason=reason)
