"""A mount of an archive in memory whose one file is another one every few milliseconds.

``python -m tests.support.changing_mount MOUNTPOINT CACHE`` serves it, prints ``ready``, and ends when it is
unmounted. A server would not do: its answers take longer than the moments at which versions can meet.
"""

from __future__ import annotations

import random
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

from agorafs import fuse_mount
from agorafs.byterange import ByteRange
from agorafs.cache.content import ContentCache, ContentLimits
from agorafs.cache.metadata import Freshness
from agorafs.clock import SYSTEM_CLOCK
from agorafs.config import Settings
from agorafs.tree.tree import Tree
from agorafs.vfs import FileSystem
from agorafs.vfs.dot_agora import DotAgora
from tests.support.memory_archive import MemoryArchive

PATH = "projects/P/folders/file"
SIZES = {ord("A"): 300_000, ord("B"): 70_000, ord("C"): 300_000, ord("D"): 5_000}
"""Each version is one byte, repeated; two have one size."""


class _Body:
    """A whole answer."""

    is_partial = False
    etag = None
    content_type = "application/octet-stream"

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._position = 0
        self.total: int | None = len(content)
        self.byte_range = ByteRange(0, len(content))

    def readinto(self, view: memoryview, /) -> int:
        piece = self._content[self._position : self._position + len(view)]
        view[: len(piece)] = piece
        self._position += len(piece)
        return len(piece)

    def close(self) -> None:
        pass


class _Remote:
    def __init__(self, archive: MemoryArchive) -> None:
        self._archive = archive

    def open_body(
        self, datafile: int, byte_range: ByteRange | None = None, *, if_range: str | None = None
    ) -> _Body:
        return _Body(self._archive.contents[datafile])


def main(mountpoint: Path, cache: Path) -> None:
    archive = MemoryArchive()
    folder = archive.add_project("P").root_folder
    assert folder is not None
    for byte, size in SIZES.items():
        archive.add_dataset({"file": bytes([byte]) * size}, folder=folder)
    versions = archive._items[folder]

    choices = random.Random(1)

    def change() -> None:
        while True:
            archive._items[folder] = [choices.choice(versions)]
            time.sleep(choices.choice([0.01, 0.05, 0.2]))  # the pace of somebody who saves again and again

    freshness = Freshness(ttl_s=0.02, revalidate_wait_s=1.0)
    tree = Tree(
        archive, user=archive.user, my_agora=None, freshness=freshness, max_entries=1000, clock=SYSTEM_CLOCK
    )
    contents = ContentCache(
        cache, _Remote(archive), limits=ContentLimits(min_free_bytes=0), clock=SYSTEM_CLOCK
    )
    filesystem = FileSystem(
        tree,
        contents,
        DotAgora(tree, archive.describe, freshness=freshness, clock=SYSTEM_CLOCK),
        archive_url="http://archive",
        umask=0o022,
        started_ns=1,
    )
    threading.Thread(target=change, daemon=True).start()
    fuse_mount.serve(
        SimpleNamespace(filesystem=filesystem, on_refreshed=None),  # type: ignore[arg-type]
        mountpoint,
        # as long as the kernel ever believes anything, so that its beliefs are as wrong as they can be
        Settings(url="http://archive", listing_ttl_s=60.0),
        lambda: print("ready", flush=True),
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
