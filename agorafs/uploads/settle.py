"""The end of an upload: compared with what the server holds, put in order there, taken out of the overlay.

Why.  An import has ended well; that does not mean that every file is where it was written, that the version which it
replaces is gone, or that the user still wants it. Here each upload of a batch gets its outcome, then what is left to do
on the server is done, and only then does the local file make room for the stored one.

Order, for each upload: server change, then ``refresh`` of every listing that it changed, then ``hub.settled``. So the
next look after the local file has gone shows the stored one, and never both. What a new version replaces is deleted
only after the new one was verified, and only while it is still what it was when it was replaced.

Killed at any step, ``settle`` is called again: outcomes are decided in one transaction and kept; each change of the
server looks first whether it was made; what was settled is not looked at again (the journal knows). What can not be
known after a crash errs on the side of keeping: a file may stay that the user has removed, never the reverse.

Requests.  See ``placement``. A file that replaces another costs about eight more.

Threads.  One batch is settled by one thread at a time; different batches at once are fine. No locks: of ``_taken`` only
single items are written and read. A file that is removed and written again while it travels is in two batches, and the
server may give both the same dataset: what a later batch may have been given is not deleted for an earlier one.

Failure.  Trouble with the server (away, key refused) is raised, and all is tried again later. What the server refuses
for good is logged, and the file counts as stored where it is.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from agorafs.client.records import Datafile, Dataset, Exam, FolderItem, Kind, RemoteRef
from agorafs.errors import AgoraFSError, NotFound, PermissionDenied
from agorafs.uploads.chunk_sending import Stopped
from agorafs.uploads.identity import Annotations, Changes, as_far_as_allowed, hand_over
from agorafs.uploads.outcomes import Verdicts, ensure_folder
from agorafs.uploads.placement import Archive, Placement, wanted_name
from agorafs.uploads.sources import sha1_of
from agorafs.uploads.values import (
    Batch,
    BatchState,
    Disposition,
    Outcome,
    OutcomeKind,
    Replaced,
    Upload,
)

log = logging.getLogger(__name__)

Refresh = Callable[[Iterable[tuple[Kind, int]]], None]
Adopt = Callable[[Datafile, Path], None]
Say = Callable[[int, Mapping[str, str]], None]


class Journal(Protocol):
    """What settling needs of ``journal.Journal``."""

    def set_sha1(self, upload_id: int, sha1: str) -> None: ...
    def batches(self) -> list[Batch]: ...
    def uploads(self, batch_id: int, *, unsettled: bool = False) -> list[Upload]: ...
    def upload(self, upload_id: int) -> tuple[Upload, int | None] | None: ...
    def said(self, node_id: int) -> dict[str, str]: ...
    def set_outcomes(self, batch_id: int, outcomes: Mapping[int, Outcome]) -> None: ...


class Hub(Protocol):
    """What settling needs of ``arrivals.Arrivals``."""

    @property
    def closing(self) -> threading.Event: ...
    def disposition(self, upload_id: int) -> Disposition: ...
    def settled(
        self, upload_id: int, seen: Disposition, outcome: Outcome, said: Mapping[str, str]
    ) -> bool: ...
    def removed_directories(self, batch_id: int) -> list[str]: ...
    def empty_directories(self, batch_id: int) -> list[str]: ...
    def was_made_here(self, folder_id: int) -> bool: ...
    def become_folders(self, batch_id: int, folders: Mapping[str, int]) -> None: ...
    def finish(self, batch_id: int, folders: Mapping[str, int]) -> None: ...


class Settler:
    """See the module docstring."""

    def __init__(
        self,
        journal: Journal,
        hub: Hub,
        archive: Archive,
        changes: Changes,
        annotations: Annotations,
        *,
        refresh: Refresh,
        adopt: Adopt,
        say: Say,
        link_exams: bool,
    ) -> None:
        """Settle the batches of *journal*.

        Args:
            refresh: Told which listings of the archive have changed: folders, exams, series, and (``PROJECT``, id) for
                a study list.
            adopt: Told which local file has the bytes of which datafile, before the local file goes.
            say: Says of a dataset what people have said of the local file that it was. Called with nothing to say, it
                is told that the dataset has got what was said of an old version.
            link_exams: Put a link to the exam where files were written that became part of one.
        """
        self._journal = journal
        self._hub = hub
        self._archive = archive
        self._changes = changes
        self._annotations = annotations
        self._refresh = refresh
        self._adopt = adopt
        self._say = say
        self._link_exams = link_exams
        self._taken: dict[
            int, int
        ] = {}  # datasets that were there already: the latest batch that led to each

    def settle(self, batch: Batch) -> None:
        """Bring *batch*, in state VERIFYING or SETTLING, to its end.

        Raises:
            Stopped: The mount ends; the next one goes on.
            RemoteUnavailable, RemoteTimeout, NotAuthenticated, ProtocolError: To be called again later.
        """
        placement = Placement(self._archive, batch.anchor)
        if batch.state is BatchState.VERIFYING:
            uploads = self._journal.uploads(batch.id, unsettled=True)
            outcomes = Verdicts(batch, uploads, placement, self._changes).by_result()
            self._journal.set_outcomes(batch.id, outcomes)
        self._carry_out(batch, placement)

    def reconcile(self, batch: Batch) -> None:
        """Settle what is on the server already, although the server has forgotten the package.

        To be called *before* ``journal.forget_upload``, and again after a failure or a crash, as long as the import may
        have been carried out. Afterwards ``journal.uploads(batch.id, unsettled=True)`` are those to be sent anew; when
        there was nothing left the batch has ended and is not in the journal any more.

        Raises:
            RemoteUnavailable, RemoteTimeout, NotAuthenticated, ProtocolError: To be called again later.
        """
        placement = Placement(self._archive, batch.anchor)
        uploads = self._journal.uploads(batch.id, unsettled=True)
        # Without SHA-1 it was never sent.
        known = [upload for upload in uploads if upload.sha1 is not None]
        outcomes = Verdicts(batch, known, placement, self._changes).by_looking()
        if uploads and len(outcomes) == len(uploads):
            self._journal.set_outcomes(batch.id, outcomes)
            self._carry_out(batch, placement)
            return
        everything = self._journal.uploads(batch.id)
        found = [upload for upload in uploads if upload.id in outcomes]
        work = _Work(batch, placement, everything, {**_outcomes(everything), **outcomes}, found)
        for upload in found:
            self._settle(work, upload, outcomes[upload.id])

    def _carry_out(self, batch: Batch, placement: Placement) -> None:
        uploads = self._journal.uploads(batch.id)
        remaining = self._journal.uploads(batch.id, unsettled=True)
        work = _Work(batch, placement, uploads, _outcomes(uploads), remaining)
        empty = self._make_empty_directories(work)
        self._tell(work)
        self._hub.become_folders(batch.id, work.folders_that_list_all(empty))
        # What replaces something needs the server; if that fails, the others are settled at least.
        for upload in sorted(remaining, key=lambda upload: upload.replaces is not None):
            if self._hub.closing.is_set():
                raise Stopped
            assert upload.outcome is not None, f"upload {upload.id} is being settled without an outcome"
            self._settle(work, upload, upload.outcome)
        self._finish(work)

    def _settle(self, work: _Work, upload: Upload, outcome: Outcome) -> None:
        if outcome.kind is not OutcomeKind.FAILED:
            self._keep_content(upload, outcome)
        while True:
            seen = self._hub.disposition(upload.id)
            known = self._journal.upload(upload.id)
            said: dict[str, str] = {}
            if known is not None:
                upload = known[0]  # somebody who cancels it wants to keep what it was to replace
                said = {} if known[1] is None else self._journal.said(known[1])
            if outcome.kind is not OutcomeKind.FAILED:
                self._act(work, upload, outcome, seen)
                is_news = bool(said) or upload.replaces is not None
                if is_news and seen is Disposition.CURRENT and outcome.dataset is not None:
                    with as_far_as_allowed(f"what was said of {upload.target} is not kept"):
                        self._say(outcome.dataset, said)
            self._tell(work)
            if self._hub.settled(upload.id, seen, outcome, said):
                work.settled_as[upload.id] = seen
                work.waiting.discard(upload.id)
                return

    def _tell(self, work: _Work) -> None:
        if work.changed:
            self._refresh(sorted(work.changed))
            work.changed.clear()

    def _keep_content(self, upload: Upload, outcome: Outcome) -> None:
        """Reading it again shall cost no download; if that can not be had, it does."""
        if outcome.datafile is None:
            return
        name = upload.target.rpartition("/")[2]
        datafile = Datafile(outcome.datafile, name, upload.size, upload.sha1 or "", None, None)
        try:
            self._adopt(datafile, upload.content)
        except (AgoraFSError, OSError) as error:
            log.warning("%s is not kept in the cache: %s", upload.target, error)

    # -- on the server -------------------------------------------------------------------------------

    def _act(self, work: _Work, upload: Upload, outcome: Outcome, seen: Disposition) -> None:
        """Do what is left to do on the server, given what the user did meanwhile; may be done again."""
        replaced = upload.replaces
        if replaced is not None and outcome.dataset is not None:
            # Identical bytes may have led to the old dataset; so may another upload's.
            if replaced.dataset in work.arrived:
                log.info("dataset %d is still in use and stays", replaced.dataset)
            else:
                new = None if seen is Disposition.GONE else outcome.dataset
                self._remove_replaced(work, upload, replaced, new)
        if seen is Disposition.GONE:
            self._take_back(work, upload, outcome)
        elif seen is Disposition.CURRENT and outcome.kind is OutcomeKind.STUDY:
            self._link_exam(work, upload, outcome)

    def _remove_replaced(self, work: _Work, upload: Upload, replaced: Replaced, new: int | None) -> None:
        """Delete the old version, after what belongs to it was handed over to dataset *new* (None: to nobody)."""
        item = self._item_of(work, upload, replaced)
        if item is None:
            return
        if new is not None:
            folders = hand_over(self._changes, self._annotations, work.placement, replaced.dataset, new)
            work.changed.update((Kind.FOLDER, folder) for folder in folders)
        if self._may_be_of_later(work, upload, replaced.dataset, replaced.sha1):
            log.warning("dataset %d stays: %s was written again", replaced.dataset, upload.target)
            return
        if work.is_replaced_again(upload, replaced.dataset):
            return  # the last one of them deletes it, so that all get what belongs to it
        self._delete_item(
            work, item, f"the old version of {upload.target} (dataset {replaced.dataset}) stays"
        )

    def _item_of(self, work: _Work, upload: Upload, replaced: Replaced) -> FolderItem | None:
        """Return the folder item of the old version if all is still as it was when it was replaced."""
        try:
            dataset = self._archive.dataset(replaced.dataset)
            datafiles = dataset.datafiles
            if datafiles is None:
                datafiles = tuple(self._archive.dataset_datafiles(dataset.id))
            folders = work.placement.chain(upload.target.rpartition("/")[0])[::-1]
            item = _find_item(work.placement, folders, replaced.item)
            if item is None:
                folders = work.placement.folders_showing(replaced.dataset)
                item = _find_item(work.placement, folders, replaced.item)
        except NotFound:
            return None  # removed already
        except PermissionDenied as error:
            log.warning("the old version of %s stays: %s", upload.target, error)
            return None
        is_same = item is not None and not item.is_link and item.object_id == replaced.dataset
        if not is_same or [one.sha1 for one in datafiles] != [replaced.sha1]:
            log.warning(
                "the old version of %s (dataset %d) is not what it was, so it stays",
                upload.target,
                replaced.dataset,
            )
            return None
        return item

    def _take_back(self, work: _Work, upload: Upload, outcome: Outcome) -> None:
        """The user has removed the local file meanwhile; what arrived is to go too."""
        if outcome.dataset is None:
            return
        if outcome.kind is OutcomeKind.STUDY or outcome.item is None or outcome.folder is None:
            if not work.has_warned_of_study:
                log.warning(
                    "%s was removed here, but is part of a study on the server (dataset %d) and stays there",
                    upload.target,
                    outcome.dataset,
                )
            work.has_warned_of_study = True
            return
        if self._may_be_of_later(work, upload, outcome.dataset, upload.sha1 or ""):
            log.info("dataset %d stays: %s was written again", outcome.dataset, upload.target)
            return
        item = self._wanted_by_nobody(work, outcome.dataset, outcome.folder, outcome.item)
        if item is not None:
            self._delete_item(work, item, f"{upload.target} (dataset {outcome.dataset}) stays on the server")

    def _may_be_of_later(self, work: _Work, upload: Upload, dataset: int, sha1: str) -> bool:
        """Tell whether a later batch has led to *dataset*, or brings the same bytes under the same name."""
        if self._taken.get(dataset, 0) > work.batch.id:
            return True
        name = wanted_name(upload.target)
        for batch in self._journal.batches():
            for other in self._journal.uploads(batch.id) if batch.id > work.batch.id else ():
                if other.outcome is not None:
                    if other.outcome.dataset == dataset:
                        return True
                elif wanted_name(other.target) == name and self._has_sha1(other, sha1):
                    return True
        return False

    def _has_sha1(self, upload: Upload, sha1: str) -> bool:
        """Tell whether an upload's content has that SHA-1; one that can not be read might."""
        known = upload.sha1
        if known is None:  # it was sealed a moment ago, or waits for its turn
            try:
                known = sha1_of(upload, lambda: None)
            except (AgoraFSError, OSError):
                return True
            self._journal.set_sha1(upload.id, known)
        return known == sha1

    def _wanted_by_nobody(self, work: _Work, dataset: int, folder: int, item: int) -> FolderItem | None:
        """Return the item of *dataset* if this batch made all of it and all of that was removed here."""
        sharing = [
            upload
            for upload in work.uploads
            if upload.id in work.outcomes and work.outcomes[upload.id].dataset == dataset
        ]
        is_unwanted = all(
            work.outcomes[upload.id].created and self._is_gone(work, upload.id) for upload in sharing
        )
        try:
            datafiles = self._archive.dataset_datafiles(dataset)
        except NotFound:
            return None
        is_ours = {one.id for one in datafiles} <= {work.outcomes[upload.id].datafile for upload in sharing}
        found = _find_item(work.placement, [folder], item)
        if found is None:
            return None
        if not is_unwanted or not is_ours or found.is_link or found.object_id != dataset:
            log.warning("dataset %d stays: others want it, or it was there before", dataset)
            return None
        return found

    def _is_gone(self, work: _Work, upload_id: int) -> bool:
        """Tell whether the user removed an upload's file; what was settled before a crash counts as wanted."""
        if upload_id in work.settled_as:
            return work.settled_as[upload_id] is Disposition.GONE
        return upload_id in work.waiting and self._hub.disposition(upload_id) is Disposition.GONE

    def _delete_item(self, work: _Work, item: FolderItem, otherwise: str) -> None:
        with as_far_as_allowed(otherwise):
            try:
                self._changes.delete_folder_item(item.id)
            except NotFound:
                log.debug("folder item %d is gone already", item.id)
        if item.folder is not None:
            work.touch(item.folder)

    def _link_exam(self, work: _Work, upload: Upload, outcome: Outcome) -> None:
        """Show the exam where the file was written, or as near to it as there is a folder."""
        chain = work.placement.chain(upload.target.rpartition("/")[0])
        if not self._link_exams or not chain or outcome.exam is None:
            return
        folder, exam = chain[-1], outcome.exam
        if (folder, exam) in work.linked:
            return
        items = work.placement.items(folder)
        if not any(isinstance(item.content, Exam) and item.object_id == exam for item in items):
            with as_far_as_allowed(f"folder {folder} does not get a link to exam {exam}"):
                self._changes.link(RemoteRef(Kind.EXAM, exam), folder)
            work.touch(folder)
        work.linked.add((folder, exam))

    # -- directories ---------------------------------------------------------------------------------

    def _finish(self, work: _Work) -> None:
        batch, placement = work.batch, work.placement
        directories = {
            directory for upload in work.uploads for directory in _directories_above(upload.target)
        }
        for path in self._make_empty_directories(work):
            directories.update((path, *_directories_above(path)))
        for path in self._hub.removed_directories(batch.id):
            self._remove_folder(work, path)
        folders = {path: placement.folder_at(path) for path in sorted(directories)}
        self._tell(work)
        for outcome in work.outcomes.values():
            if outcome.dataset is not None and not outcome.created:
                self._taken[outcome.dataset] = batch.id
        self._hub.finish(batch.id, {path: number for path, number in folders.items() if number is not None})

    def _make_empty_directories(self, work: _Work) -> list[str]:
        """Make what no file has brought along; return the paths."""
        paths = self._hub.empty_directories(work.batch.id)
        for path in paths:
            if not work.became_study(path):
                self._make_folder(work, path)
        return paths

    def _make_folder(self, work: _Work, path: str) -> None:
        known = work.placement.chain(path)
        with as_far_as_allowed(f"the directory {path} can not be made on the server"):
            ensure_folder(work.placement, self._changes, path)
        made = work.placement.chain(path)
        work.changed.update((Kind.FOLDER, folder) for folder in made[len(known) - 1 :] if made != known)

    def _remove_folder(self, work: _Work, path: str) -> None:
        """Delete a folder that has nothing in it; the server would delete all that is."""
        folder = work.placement.folder_at(path)
        parent = work.placement.folder_at(path.rpartition("/")[0])
        if folder is None or parent is None:
            return
        if self._hub.was_made_here(folder):
            return  # not removed: another batch has made it a folder of the server
        with as_far_as_allowed(f"the directory {path} stays on the server"):
            try:
                if self._archive.folder_items(folder):
                    return
                self._changes.delete_folder(folder)
            except NotFound:
                log.debug("folder %d is gone already", folder)
        work.placement.forget(folder)
        work.touch(parent)


class _Work:
    """What is known while one batch is settled.

    ``outcomes`` are those of all uploads that did not fail, ``arrived`` the datasets that hold their bytes, ``waiting``
    the uploads that are not settled yet, ``settled_as`` what those were that were settled since the start.
    ``changed`` are the listings that ``refresh`` is still to be told of.
    """

    def __init__(
        self,
        batch: Batch,
        placement: Placement,
        uploads: Sequence[Upload],
        outcomes: Mapping[int, Outcome],
        waiting: Iterable[Upload],
    ) -> None:
        self.batch = batch
        self.placement = placement
        self.uploads = uploads
        self.outcomes = {
            number: outcome for number, outcome in outcomes.items() if outcome.kind is not OutcomeKind.FAILED
        }
        self.arrived = {one.dataset for one in self.outcomes.values() if one.dataset is not None}
        self.waiting = {upload.id for upload in waiting}
        self.settled_as: dict[int, Disposition] = {}
        self.changed: set[tuple[Kind, int]] = set()
        self.linked: set[tuple[int, int]] = set()
        self.has_warned_of_study = False
        for upload in uploads:
            if upload.id in self.waiting and upload.id in self.outcomes:
                self._note_arrival(upload, self.outcomes[upload.id])

    def _note_arrival(self, upload: Upload, outcome: Outcome) -> None:
        if outcome.kind is OutcomeKind.FILED:
            # The import has made the folders on the way, too.
            chain = self.placement.chain(upload.target.rpartition("/")[0])
            self.changed.update((Kind.FOLDER, folder) for folder in chain)
        if outcome.folder is not None:
            self.changed.add((Kind.FOLDER, outcome.folder))
        if outcome.series is not None:
            self.changed.add((Kind.SERIES, outcome.series))
        if outcome.exam is not None:
            self.changed.add((Kind.EXAM, outcome.exam))
            project = self.placement.project_of_exam(outcome.exam)
            if project is not None:
                self.changed.add((Kind.PROJECT, project))

    def touch(self, folder: int) -> None:
        """Note that *folder* looks different now."""
        self.placement.forget(folder)
        self.changed.add((Kind.FOLDER, folder))

    def is_replaced_again(self, upload: Upload, dataset: int) -> bool:
        """Tell whether another upload, not settled yet, replaces *dataset* as well."""
        return any(
            other.id in self.waiting
            and other.id != upload.id
            and other.replaces is not None
            and other.replaces.dataset == dataset
            and other.id in self.outcomes
            and self.outcomes[other.id].dataset is not None
            for other in self.uploads
        )

    def folders_that_list_all(self, empty: Iterable[str]) -> dict[str, int]:
        """Return the folders that directories are, by path, if all that was filed from there is there.

        *empty* are directories without files.
        """
        elsewhere: set[str] = set()
        paths = set(empty)
        for upload in self.uploads:
            above = _directories_above(upload.target)
            paths.update(above)
            outcome = self.outcomes.get(upload.id)
            if not above or outcome is None or outcome.kind is not OutcomeKind.FILED:
                continue
            if self.placement.folder_at(above[-1]) != outcome.folder:
                elsewhere.update(above)
        folders = {path: self.placement.folder_at(path) for path in sorted(paths - elsewhere)}
        return {path: folder for path, folder in folders.items() if folder is not None}

    def became_study(self, path: str) -> bool:
        """Tell whether the way to *path* is missing because all that was written there is part of a study now."""
        for parent in _directories_above(path):
            if self.placement.folder_at(parent) is None:
                below = [upload.id for upload in self.uploads if upload.target.startswith(f"{parent}/")]
                kinds = {self.outcomes[one].kind if one in self.outcomes else None for one in below}
                if below and kinds <= {OutcomeKind.STUDY, OutcomeKind.CONSUMED}:
                    return True
        return False


def _outcomes(uploads: Iterable[Upload]) -> dict[int, Outcome]:
    return {upload.id: upload.outcome for upload in uploads if upload.outcome is not None}


def _directories_above(target: str) -> list[str]:
    """Return the directories on the way to *target*, parents first."""
    parts = target.split("/")[:-1]
    return ["/".join(parts[: count + 1]) for count in range(len(parts))]


def _find_item(placement: Placement, folders: Iterable[int], item_id: int) -> FolderItem | None:
    for folder in folders:
        for item in placement.items(folder):
            if item.id == item_id and isinstance(item.content, Dataset):
                return item
    return None
