"""What brings local files to the server: journal, spool, sealer, sender, settler."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from agorafs.cache.content import ContentRef
from agorafs.client.records import Datafile
from agorafs.stack.changed import keys_of
from agorafs.stack.foundation import Foundation
from agorafs.uploads.arrivals import Arrivals
from agorafs.uploads.durable import Disk
from agorafs.uploads.recovery import Home, open_home
from agorafs.uploads.report import Report
from agorafs.uploads.sealer import Sealer
from agorafs.uploads.sender import Sender
from agorafs.uploads.settle import Settler
from agorafs.uploads.spool import SpoolLimits
from agorafs.uploads.store import Store
from agorafs.uploads.upkeep import Upkeep
from agorafs.uploads.uploads import Uploads
from agorafs.vfs import FileSystem
from agorafs.vfs.hidden import forget_leftovers
from agorafs.vfs.import_template import filled_json
from agorafs.vfs.sources import fill_from
from agorafs.vfs.transit import Transit


@dataclass(frozen=True, slots=True)
class Sending:
    """What the file operations are built upon."""

    home: Home
    store: Store
    uploads: Uploads
    sealer: Sealer
    report: Report
    sender: Sender


@dataclass(frozen=True, slots=True)
class Uploading:
    """The same with what needs the file operations. Closed in the order of its methods' lines."""

    sending: Sending
    transit: Transit
    upkeep: Upkeep

    def start(self) -> None:
        """Bring to the server what was written, this time or before."""
        self.upkeep.start()
        self.sending.sender.start()

    def announce_work(self) -> None:
        """Try again now what waits."""
        self.sending.store.announce_work()

    def close(self) -> None:
        """End the threads; what they have not done is in the journal."""
        self.sending.store.closing.set()
        self.transit.close()
        self.sending.sender.close()
        self.upkeep.close()
        self.sending.store.close()
        self.sending.home.close()


def build_sending(
    base: Foundation, on_failure: contextlib.ExitStack, say: Callable[[int, Mapping[str, str]], None]
) -> Sending:
    """Open journal and spool, and build what works on them.

    Args:
        say: See ``uploads.settle.Settler``.
    """
    settings, client, tree = base.settings, base.client, base.tree
    disk = Disk()
    limits = SpoolLimits(settings.spool_max_bytes, settings.spool_min_free_bytes)
    home = open_home(
        settings.state_directory, url=settings.url, user=str(base.user.id), limits=limits, disk=disk
    )
    on_failure.callback(home.close)

    def fetch(datafile: int, size: int, sha1: str, descriptor: int) -> None:
        fill_from(lambda: base.contents.open(ContentRef(datafile, size, sha1, settings.url, None)))(
            descriptor
        )

    store = Store(home.journal, home.spool, disk, fetch=fetch, clock=base.clock)
    on_failure.callback(store.close)
    uploads = Uploads(store)
    forget_leftovers(uploads, store.nodes())
    arrivals = Arrivals(store)
    settler = Settler(
        home.journal,
        arrivals,
        client,
        client.changes,
        client.annotations,
        refresh=lambda refs: tree.changed([key for ref in refs for key in keys_of(*ref)]),
        adopt=lambda datafile, path: _adopt(base, datafile, path),
        say=say,
        link_exams=settings.link_exams,
    )
    return Sending(
        home,
        store,
        uploads,
        Sealer(store, quiet_s=settings.batch_quiet_s, fill_import=filled_json),
        Report(store, uploads.remove),
        Sender(home.journal, arrivals, client.imports, settler, clock=base.clock),
    )


def build_uploading(base: Foundation, sending: Sending, filesystem: FileSystem) -> Uploading:
    """Build what shows and sends the files of *filesystem*."""
    transit = Transit(
        base.tree,
        filesystem.merged,
        sending.uploads,
        sending.report,
        sending.sealer,
        sending.home.journal,
        sending.home.spool,
        base.client,
        fill_import=filled_json,
        unfinished_removals=filesystem.unfinished_removals,
    )
    return Uploading(sending, transit, Upkeep(sending.store, sending.sealer, filesystem.tidy_up))


def _adopt(base: Foundation, datafile: Datafile, path: Path) -> None:
    """Let what was just stored be read without a download."""
    url = base.settings.url
    base.contents.adopt(
        ContentRef(datafile.id, datafile.size, datafile.sha1, url, datafile.modified_ns), path
    )
