"""One content as all its readers in this process share it: what is present, under way, verified, or wrong.

How a block gets to a reader.  If it is on disk and trusted, one ``preadv``. If it is missing, the first
reader to find that out runs a *flight* for it in its own thread; others wait at the block's *slot* and share
the outcome; after a failure the next caller tries again. Read-ahead flights run on background threads; a
reader that meets one still in the queue runs it itself, so nobody waits for a thread to become free.

Verification.  A content of up to ``whole_file_bytes`` is delivered only from verified bytes. Of a larger
one, blocks are delivered as they come; but once every block is present, nothing more is delivered before
the SHA-1 of the whole has been checked, so the reader of the last missing block is the first to learn of a
mismatch, and never sees a file that is complete and wrong. After a mismatch the content is *failed*: its
file is removed, everybody who reads it gets the error, and the cache makes a new one for the next ``open``.

Threads.  Order of locks: ``_lock`` of the content, then that of its ``BlockFile``, then the leaves (``Memory``,
``Workers``, ``RangeSupport``, ``RunningHash``). No lock is held over disk or network. ``_lock`` guards the
fields marked so, every ``Flight`` and ``Slot``, and the readers' windows.

Invariants, run by ``_check``:
  1. Every pending slot's flight covers its block, and has not come past it.
  2. A failed content has nothing pending.

Failure.  A disk error detaches the file; the content goes on in memory. Errors of the remote reach the
readers that wait for the block, and nobody else.
"""

from __future__ import annotations

import itertools
from contextlib import suppress
from functools import partial

from agorafs.cache.block_file import BlockFile, Layout, Put
from agorafs.cache.content_directory import ContentDirectory
from agorafs.cache.content_values import Body, ContentRef
from agorafs.cache.download import Abandoned, ContentChanged, Flight
from agorafs.cache.flights import Services, Slot, copy_of
from agorafs.cache.locks import InvariantLock
from agorafs.cache.read_ahead import ReadAhead
from agorafs.cache.running_hash import RunningHash
from agorafs.cache.window import Window
from agorafs.errors import (
    AgoraFSError,
    CacheError,
    IntegrityError,
    RemoteTimeout,
    RemoteUnavailable,
    StaleHandle,
)

# A pass ends with bytes, an error, or the end of somebody else's flight; so many ends without bytes happen
# only when memory is far too small for the readers.
_PASSES = 100
_WHOLE = -1  # the slot that stands for all blocks of a small content

_owners = itertools.count()


class SharedContent:
    """The one object per content and process; ``ContentCache`` makes it and counts its handles."""

    def __init__(
        self, services: Services, ref: ContentRef, directory: ContentDirectory | None, generation: int
    ) -> None:
        # Given and fixed:
        self._services = services
        self.key = ref.key
        self.generation = generation
        self._sha1 = ref.sha1
        self._layout = Layout(ref.key, ref.size, services.limits.block_bytes)
        self._is_small = ref.size <= services.limits.whole_file_bytes
        self._owner = next(_owners)  # this content's blocks in Memory
        self._hash = RunningHash(self._layout.blocks)
        self._lock = InvariantLock(self._check)
        # Changing, guarded by _lock:
        self._read_ahead = ReadAhead(
            services.limits, self._layout, is_here=self._locked_is_here, stop_of_gap=self._locked_stop_of_gap
        )
        self._file: BlockFile | None = None
        if directory is not None:
            self._file = BlockFile(directory, self._layout, on_loss=self._hash.reset)
        self._failure: AgoraFSError | None = None
        self._is_failing = False
        self._pending: dict[int, Slot] = {}
        self._stream: Flight | None = None
        self._demanded_block = 0  # the block that was read last
        self._is_left = True  # nobody has a handle
        self._etags: dict[tuple[str, int], str] = {}

    # -- state ----------------------------------------------------------------------------------------

    @property
    def failure(self) -> AgoraFSError | None:
        """Why this content gives no more bytes, or None."""
        return self._failure

    @property
    def is_on_disk(self) -> bool:
        """The content still uses its file."""
        return self._file is not None

    @property
    def is_verified(self) -> bool:
        """All of it is on disk, verified."""
        file = self._file
        return file is not None and file.is_sealed

    def open(self) -> None:
        """Open the file, so that it stays while somebody reads."""
        with self._lock:
            self._is_left = False
            file = self._file
        if file is not None:
            try:
                file.open()
            except CacheError as error:
                self._detach(file, error)

    def leave(self) -> None:
        """The last handle was closed: call off all flights, let others evict the file."""
        with self._lock:
            flights = {slot.flight for slot in self._pending.values()} | set(self._read_ahead)
            if self._stream is not None:
                flights.add(self._stream)
            for flight in flights:
                flight.cancelled = True
            self._stream = None
            self._is_left = True
            # A server may get other ETags for the same bytes in time; these served one session of readers.
            self._etags.clear()
            self._lock.condition.notify_all()
            file = self._file
        self._services.memory.forget(self._owner)
        if file is not None:
            file.park()

    # -- reading --------------------------------------------------------------------------------------

    def read_into(self, ref: ContentRef, window: Window, offset: int, view: memoryview) -> None:
        """Fill *view* with the bytes from *offset*; the range lies within the content, not empty."""
        self._raise_failure()
        if self._read_trusted(offset, view, sealed_only=True):
            return
        self._extend_read_ahead(ref, window, offset, len(view))
        if not self._read_trusted(offset, view, sealed_only=self._is_small):
            block_bytes = self._layout.block_bytes
            stop_block = -(-(offset + len(view)) // block_bytes)
            done = 0
            while done < len(view):
                block_no, within = divmod(offset + done, block_bytes)
                size = min(self._layout.block_size(block_no) - within, len(view) - done)
                self._copy_block(ref, block_no, stop_block, within, view[done : done + size])
                done += size
        self._raise_failure()  # found out while we copied

    def _read_trusted(self, offset: int, view: memoryview, *, sealed_only: bool) -> bool:
        file = self._file
        try:
            return file is not None and file.read_trusted(offset, view, sealed_only=sealed_only)
        except CacheError as error:
            self._detach(file, error)
            return False

    def _copy_block(
        self, ref: ContentRef, block_no: int, stop_block: int, within: int, view: memoryview
    ) -> None:
        """Fill *view* from one block, fetching it (and its neighbours up to *stop_block*) if need be."""
        for _ in range(_PASSES):
            self._raise_failure()
            if self._load(block_no, within, view):
                return
            data: bytes | memoryview | None = self._services.memory.get(self._owner, block_no)
            start = within
            if data is None:
                slot = self._join_or_fetch(ref, block_no, stop_block)
                if slot is None or isinstance(slot.error, Abandoned):
                    continue
                if slot.error is not None:
                    raise copy_of(slot.error) from slot.error
                if slot.data is None:
                    continue  # it is on disk now
                data = slot.data
                start = within + (block_no * self._layout.block_bytes if self._is_small else 0)
            if not self._is_small and block_no == self._layout.blocks - 1:
                self._verify_in_memory()
            view[:] = memoryview(data)[start : start + len(view)]
            return
        raise RemoteUnavailable(f"{ref}: too many readers for the memory that the cache may use")

    def _load(self, block_no: int, within: int, view: memoryview) -> bool:
        """Read from disk what may be delivered from there; verify first when that is due."""
        file = self._file
        if file is None:
            return False
        try:
            if file.is_absent(block_no):
                if self._is_small:
                    file.refresh(0, self._layout.blocks)
                else:
                    file.refresh(block_no, block_no + 1)
            if file.is_complete and not file.is_sealed:
                self._verify(file)
            return file.load(block_no, within, view, sealed_only=self._is_small)
        except CacheError as error:
            self._detach(file, error)
            return False

    # -- verification ---------------------------------------------------------------------------------

    def _verify(self, file: BlockFile) -> None:
        """Check the SHA-1 of a complete content, and seal it or fail it. May find damage instead."""
        losses = file.losses
        if file.take_over_seal():
            return
        if self._sha1:
            self._catch_up_hash(wait=True)
            if not self._conclude_hash():
                self._raise_failure()
                return  # a block was dropped; it is fetched again
        file.seal(losses)

    def _verify_in_memory(self) -> None:
        """Before the end of a content that the disk did not take: check it if all of it came by in order."""
        if self._sha1:
            self._catch_up_hash(wait=True)
            self._conclude_hash()
            self._raise_failure()

    def _catch_up_hash(self, *, wait: bool) -> None:
        """Hash what has arrived out of order, from disk or memory."""

        def load(block_no: int) -> memoryview | None:
            view = buffer[: self._layout.block_size(block_no)]
            if file is not None and file.load(block_no, 0, view, unverified=True):
                return view
            kept = self._services.memory.get(self._owner, block_no)
            return None if kept is None else memoryview(kept)

        limits = self._services.limits
        file = self._file
        with self._services.memory.buffer(limits.block_bytes, limits.stall_s) as buffer:
            try:
                self._hash.catch_up(load, wait=wait)
            except CacheError as error:
                self._detach(file, error)

    def _conclude_hash(self) -> bool:
        """Return whether the hash is there and right; a wrong one fails the content.

        Only the comparison itself may lead to a seal. "Not failed" is not enough: another thread may have
        found the mismatch, and be on its way to saying so.
        """
        digest = self._hash.result()
        if digest is None:
            return False
        if digest == self._sha1:
            return True
        self._fail(IntegrityError(f"{self.key}: the bytes fetched do not match the SHA-1 {self._sha1}"))
        return False

    def _fail(self, error: AgoraFSError) -> None:
        """Give this content up: what was delivered of it was wrong, or may have been.

        The order matters: whoever sees the error may open the content again at once, and must find neither
        this object (see ``failure``) nor its file.
        """
        with self._lock:
            if self._is_failing:
                self._locked_wait_for_failure()
                return
            self._is_failing = True
            file = self._file
        if file is not None:
            file.discard()
        with self._lock:
            self._failure = error
            slots, self._pending = list(self._pending.values()), {}
            for flight in [*(slot.flight for slot in slots), *self._read_ahead]:
                flight.cancelled = True
            if self._stream is not None:
                self._stream.cancelled = True
                self._stream = None
            self._lock.condition.notify_all()
        for slot in slots:
            slot.fail(error)
        self._services.memory.forget(self._owner)
        self._services.on_failure(self, error)

    def _locked_wait_for_failure(self) -> None:
        """Another thread is between removing the file and saying why; it does nothing slow there."""
        self._lock.condition.wait_for(lambda: self._failure is not None, 5.0)

    def _raise_failure(self) -> None:
        failure = self._failure
        if failure is not None:
            raise copy_of(failure) from failure

    def _detach(self, file: BlockFile | None, error: CacheError) -> None:
        """Go on without the disk. A file that was discarded because the content fails is not the disk's fault."""
        with self._lock:
            if self._is_failing:
                self._locked_wait_for_failure()
                return
            if file is None or self._file is not file:
                return
            self._file = None
        self._services.bypass(str(error))
        file.park()

    # -- single flight --------------------------------------------------------------------------------

    def _join_or_fetch(self, ref: ContentRef, block_no: int, stop_block: int) -> Slot | None:
        """Return the finished slot of a block, after waiting for its flight or running it.

        None: something changed; look again.
        """
        key = _WHOLE if self._is_small else block_no
        run: Flight | None = None
        with self._lock:
            if self._failure is not None:
                return None
            slot = self._pending.get(key)
            if slot is not None and slot.flight.cancelled:
                slot.fail(Abandoned("called off"))
                del self._pending[key]
                slot = None
            if slot is not None:
                if not slot.flight.claimed:
                    run = slot.flight
            elif self._is_small:
                run = Flight(0, self._layout.blocks)
                slot = self._pending[key] = Slot(run)
            elif self._file is not None and not self._file.is_absent(block_no):
                return None  # came meanwhile
            elif self._services.ranges.is_missing(ref.archive):
                slot = self._locked_join_stream(ref, block_no)
            elif self._pending and not self._services.ranges.is_known(ref.archive):
                self._locked_wait_for_probe(ref)
                return None
            else:
                run = Flight(block_no, self._locked_stop_of_gap(block_no, stop_block), position=block_no)
                self._locked_add_slots(run)
                slot = self._pending[key]
            if run is not None:
                run.claimed = True
            is_ours = slot.done.is_set() or self._pending.get(key) is slot
            slot.waiters += 1
        try:
            if run is not None and self._is_small:
                self._run_whole(ref, run)
            elif run is not None:
                self._run_range(ref, run)
            self._wait(ref, slot)
        finally:
            with self._lock:
                slot.waiters -= 1
        return slot if is_ours else None

    def _locked_wait_for_probe(self, ref: ContentRef) -> None:
        """Wait until the first request has shown whether there are ranges; _lock is held, except to wait.

        Without ranges its answer is the whole content: a second one would be thrown away.
        """
        block_no, probe = next(iter(self._pending.items()))
        stall_s = self._services.limits.stall_s
        if not self._lock.condition.wait_for(
            lambda: self._pending.get(block_no) is not probe or probe.flight.streaming, stall_s
        ):
            raise RemoteTimeout(f"{ref}: no byte arrived for {stall_s:g} s")

    def _locked_stop_of_gap(self, first: int, limit: int) -> int:
        stop = first + 1
        while stop < limit and not self._locked_is_here(stop):
            stop += 1
        return stop

    def _locked_is_here(self, block_no: int) -> bool:
        """Present or on its way."""
        if block_no in self._pending:
            return True
        if self._file is not None and not self._file.is_absent(block_no):
            return True
        return self._services.memory.get(self._owner, block_no) is not None

    def _locked_add_slots(self, flight: Flight) -> None:
        for block_no in range(flight.first, flight.stop):
            self._pending[block_no] = Slot(flight)

    def _wait(self, ref: ContentRef, slot: Slot) -> None:
        """Wait for the slot; RemoteTimeout when its flight has not moved for ``stall_s``."""
        clock, stall_s = self._services.clock, self._services.limits.stall_s
        since = clock.monotonic()
        remaining_s = stall_s
        while not slot.done.wait(remaining_s):
            remaining_s = max(since, slot.flight.progress_at) + stall_s - clock.monotonic()
            if remaining_s <= 0:
                raise RemoteTimeout(f"{ref}: no byte arrived for {stall_s:g} s")

    def _land(self, flight: Flight, error: AgoraFSError) -> None:
        """Give *error* to all who still wait for *flight*."""
        with self._lock:
            left = [(key, slot) for key, slot in self._pending.items() if slot.flight is flight]
            for key, _ in left:
                del self._pending[key]
            self._read_ahead.locked_end(flight)
            if self._stream is flight:
                self._stream = None
            self._lock.condition.notify_all()  # _locked_wait_for_probe
        for _, slot in left:
            slot.fail(error)
        self._park_if_left()

    def _park_if_left(self) -> None:
        """What came after the last reader had gone has opened the file again: nobody else would close it."""
        with self._lock:
            file = self._file if self._is_left else None
        if file is not None:
            file.park()
            with self._lock:
                is_left = self._is_left
            if not is_left:
                self.open()

    # -- flights --------------------------------------------------------------------------------------

    def _run_whole(self, ref: ContentRef, flight: Flight) -> None:
        error: AgoraFSError = Abandoned("ended without a result")
        try:
            limits = self._services.limits
            with self._services.memory.buffer(ref.size, limits.stall_s) as buffer:
                self._services.downloader.fetch_whole(ref, flight, buffer)
                self._store_whole(buffer)
                with self._lock:
                    slot = self._pending.get(_WHOLE)
                    if slot is not None and slot.flight is flight:
                        del self._pending[_WHOLE]
                        slot.deliver(buffer)
        except AgoraFSError as raised:
            error = raised
        finally:
            self._land(flight, error)

    def _store_whole(self, buffer: memoryview) -> None:
        """Put a verified content on disk, or keep what fits in memory."""
        block_bytes = self._layout.block_bytes
        blocks = [buffer[start : start + block_bytes] for start in range(0, len(buffer), block_bytes)]
        file = self._file
        if file is not None:
            try:
                for _ in range(2):  # replacing what was damaged counts as a loss; then all is in place
                    losses = file.losses
                    stored = [file.put(no, block, replace=True) for no, block in enumerate(blocks)]
                    if stored.count(Put.STORED) == len(blocks) and file.seal(losses):
                        return
            except CacheError as error:
                self._detach(file, error)
        for no, block in enumerate(blocks):
            self._services.memory.keep(self._owner, no, bytes(block))

    def _run_range(self, ref: ContentRef, flight: Flight) -> None:
        error: AgoraFSError = Abandoned("ended without a result")
        body: Body | None = None
        try:
            limits = self._services.limits
            flight.progress_at = self._services.clock.monotonic()
            with self._services.memory.buffer(limits.block_bytes, limits.stall_s) as buffer:
                body = self._services.downloader.fetch_range(ref, flight, self, buffer)
            self._services.ranges.learn(ref.archive, works=body is None)
            if body is not None and self._hand_over(ref, flight, body):
                return
        except ContentChanged as raised:
            error = raised
            self._fail(StaleHandle(str(raised)))
        except AgoraFSError as raised:
            error = raised
        finally:
            self._land(flight, error)
        if body is not None:
            body.close()  # another stream was there first

    def _hand_over(self, ref: ContentRef, flight: Flight, body: Body) -> bool:
        """Let a stream go on with *body* and serve those who wait for *flight*; False if there is one already."""
        with self._lock:
            if self._stream is not None or self._failure is not None or flight.cancelled:
                return False
            stream = Flight(0, self._layout.blocks, streaming=True, claimed=True)
            stream.progress_at = self._services.clock.monotonic()
            for slot in self._pending.values():
                if slot.flight is flight:
                    slot.flight = stream
            self._stream = stream
            self._lock.condition.notify_all()  # _locked_wait_for_probe
        if not self._services.stream_workers.submit(partial(self._run_stream, ref, stream, body)):
            body.close()
            self._land(stream, RemoteUnavailable("the cache is closed"))
        return True

    def _locked_join_stream(self, ref: ContentRef, block_no: int) -> Slot:
        """Return a slot at a stream that has *block_no* before it, started if need be; _lock is held."""
        stream = self._stream
        if stream is not None and block_no < stream.position:
            waiting = [no for no, slot in self._pending.items() if slot.flight is stream]
            if waiting:
                # The block went by and could not be kept. Others wait for later ones: they come first,
                # else two readers could restart each other's download for ever.
                return self._pending[min(waiting)]
            stream.cancelled = True
            stream = None
        if stream is None:
            stream = Flight(0, self._layout.blocks, streaming=True, claimed=True)
            if not self._services.stream_workers.submit(partial(self._run_stream, ref, stream, None)):
                slot = Slot(stream)
                slot.fail(RemoteUnavailable("the cache is closed"))
                return slot
            self._stream = stream
        slot = self._pending[block_no] = Slot(stream)
        self._lock.condition.notify_all()  # _throttle
        return slot

    def _run_stream(self, ref: ContentRef, stream: Flight, body: Body | None) -> None:
        error: AgoraFSError = Abandoned("the download was called off")
        try:
            limits = self._services.limits
            stream.progress_at = self._services.clock.monotonic()
            with self._services.memory.buffer(limits.block_bytes, limits.stall_s) as buffer:
                taken, body = body, None
                self._services.downloader.fetch_stream(ref, stream, self, buffer, taken)
        except ContentChanged as raised:
            error = raised
            self._fail(StaleHandle(str(raised)))
        except AgoraFSError as raised:
            error = raised
        finally:
            if body is not None:
                body.close()
            self._land(stream, error)

    # -- the sink of flights --------------------------------------------------------------------------

    def publish(self, flight: Flight, block_no: int, view: memoryview) -> None:
        """Take a block that has arrived: store it, hash it, hand it to those who wait."""
        if flight.cancelled:
            raise Abandoned("nobody waits for these bytes any more")
        outcome = Put.REFUSED
        data: bytes | None = None
        file = self._file
        if file is not None:
            try:
                outcome = file.put(block_no, view)
            except CacheError as error:
                self._detach(file, error)
        if outcome is Put.REFUSED:
            data = bytes(view)
            self._services.memory.keep(self._owner, block_no, data)
        if outcome is not Put.OTHER and self._sha1:
            self._hash.feed(block_no, view)
            self._conclude_hash()
        with self._lock:
            flight.position = block_no + 1
            slot = self._pending.get(block_no)
            if slot is not None and slot.flight is flight:
                del self._pending[block_no]
                self._lock.condition.notify_all()  # _locked_wait_for_probe
            else:
                slot = None
        if slot is not None:
            slot.deliver(data)
        if flight.streaming and outcome is Put.REFUSED:
            self._throttle(flight)

    def rewind(self, flight: Flight) -> None:
        """A stream starts again from the beginning."""
        with self._lock:
            flight.position = 0

    def etag(self, ref: ContentRef) -> str | None:
        with self._lock:
            return self._etags.get((ref.archive, ref.datafile))

    def remember_etag(self, ref: ContentRef, etag: str) -> None:
        with self._lock:
            self._etags[ref.archive, ref.datafile] = etag

    def _throttle(self, stream: Flight) -> None:
        """Hold a stream that memory has to keep, until readers come near; call it off when none does."""
        limits = self._services.limits
        ahead_blocks = max(1, limits.memory_max_bytes // 4 // limits.block_bytes)
        with self._lock:
            came = self._lock.condition.wait_for(
                lambda: (
                    stream.cancelled
                    or stream.position <= self._demanded_block + ahead_blocks
                    or any(slot.flight is stream for slot in self._pending.values())
                ),
                limits.stall_s,
            )
        if not came:
            raise Abandoned("nobody reads on")

    # -- read-ahead -----------------------------------------------------------------------------------

    def _extend_read_ahead(self, ref: ContentRef, window: Window, offset: int, size: int) -> None:
        """Note a read, and have what comes next fetched in the background if the reader goes in order."""
        if self._is_small:
            return
        planned: list[Flight] = []
        with self._lock:
            if window.note(offset, size):
                awaited = {slot.flight for slot in self._pending.values() if slot.waiters}
                self._read_ahead.locked_cancel(window, awaited)
            if window.ahead_bytes and self._stream is None and self._services.ranges.is_known(ref.archive):
                planned = self._read_ahead.locked_plan(window, in_memory=self._file is None)
                for flight in planned:
                    self._locked_add_slots(flight)
            self._demanded_block = (offset + size - 1) // self._layout.block_bytes
            self._lock.condition.notify_all()
        for flight in planned:
            if not self._services.workers.submit(partial(self._run_read_ahead, ref, flight)):
                self._land(flight, Abandoned("the cache is closed"))

    def _run_read_ahead(self, ref: ContentRef, flight: Flight) -> None:
        with self._lock:
            if flight.claimed:
                return  # a reader could not wait
            flight.claimed = True
            cancelled = flight.cancelled
        if cancelled:
            self._land(flight, Abandoned("the reader went elsewhere"))
            return
        self._run_range(ref, flight)
        if self._sha1:
            # No matter when there is no memory for it now: the reader of the last block catches up.
            with suppress(RemoteTimeout):
                self._catch_up_hash(wait=False)
            self._park_if_left()

    def _check(self) -> None:
        for block_no, slot in self._pending.items():
            if block_no != _WHOLE:
                assert slot.flight.first <= block_no < slot.flight.stop
                assert slot.flight.streaming or slot.flight.cancelled or slot.flight.position <= block_no
            assert not slot.done.is_set()
        assert self._failure is None or not self._pending
        assert self._stream is None or self._stream.streaming
