"""Copies and moves that take the server a while: each answers at once with a timeline item to look at.

Place.  ``Client.moving``; ``tasks.timeline`` looks at the item. Datasets are copied and moved at once (``changes``).

Evidence.  As in ``api``. Python's ``move_to`` without a folder goes to an address that can not exist
(``move_to4``); the one here is a guess after the others.

Repetition.  A lost answer leaves everything here undecided (``RemoteUnavailable`` or ``RemoteTimeout``): a copy would
be made twice, and a second move would begin during the first.

Threads.  Every method may be called from any thread.

Failure.  As ``Transport.post_json``; a ``ProtocolError`` besides for answers that are no timeline item.
"""

from __future__ import annotations

from agorafs.client.asking import parsed
from agorafs.client.task_records import TimelineItem
from agorafs.client.transport import Transport


class Moving:
    """Exams and series between projects."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def copy_exam(self, exam: int, project: int, folder: int | None) -> TimelineItem:
        """POST v2/exam/{id}/copy_to/{project}/[folder/{folder}/] (Python), to another project.

        Inside its project a "copy" is a link (``changes.link``).
        """
        return self._begin(f"/api/v2/exam/{exam}/copy_to/{project}/{_in(folder)}")

    def move_exam(self, exam: int, project: int, folder: int | None) -> TimelineItem:
        """POST v2/exam/{id}/move_to/{project}/[folder/{folder}/] (Python; guess without a folder)."""
        return self._begin(f"/api/v2/exam/{exam}/move_to/{project}/{_in(folder)}")

    def copy_series(self, series: int, project: int, folder: int) -> TimelineItem:
        """POST v2/series/{id}/copy_to/{project}/folder/{folder}/ (Python); *project* is the folder's."""
        return self._begin(f"/api/v2/series/{series}/copy_to/{project}/{_in(folder)}")

    def _begin(self, path: str) -> TimelineItem:
        return parsed(self._transport, path, TimelineItem.from_json, self._transport.post_json(path, {}))


def _in(folder: int | None) -> str:
    return "" if folder is None else f"folder/{folder}/"
