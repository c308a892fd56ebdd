"""Random sequences of operations on a real mount, compared with a plain model; failures found stay as named tests.

The model is a dictionary from path to content. After every step the whole tree below one folder must be the same
through the mount: names, types, sizes, bytes, where links lead. After ``agorafs sync`` the vendor's connector must see
the same on the server. Uploads go on all the time; the steps do not wait for them, so that a file is changed, renamed
or removed in whatever state it happens to be. The steps are the same in every run; how far uploads are is not.

What the server can not do is refused with ``EXDEV``, and the model moves as ``mv`` does: it copies and removes.
"""

from __future__ import annotations

import contextlib
import errno
import io
import mmap
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.sandbox.conftest import dicom_file
from tests.support import connector
from tests.support.mount import Mount
from tests.support.sandbox import SandboxProcess
from tests.support.writing import QUIET, Drive, Place, identities, read_tree

EXAM = "Linked exam"
EXAMPLES = 10
STEPS = 40
SLOW_STEPS = 4  # per example, of those that start a process or wait for the server
DIRECTORIES = ("x", "y", "x/z")
NAMES = ("a", "b", "c.txt", "Ü.dat")
# Also long enough to be sent alone, and equal ones under several names.
CONTENTS = (b"", b"1", b"two", b"three " * 1000, bytes(range(256)) * 600)


class Link(str):
    """What a link in the model leads to, below the project."""

    __slots__ = ()


Model = dict[str, "bytes | Link | None"]


def make_machine(drive: Drive) -> type[RuleBasedStateMachine]:
    """Return the machine for *drive*; each example has a folder of its own."""

    class Machine(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.place: Place = drive.place()
            self.root = self.place.path
            self.model: Model = {}
            self.handles: dict[str, io.FileIO] = {}
            self.slow = 0
            self.external = 0

        # -- the model ---------------------------------------------------------------------------------

        def parents(self) -> list[str]:
            return ["", *sorted(path for path, content in self.model.items() if content is None)]

        def files(self) -> list[str]:
            return sorted(path for path, content in self.model.items() if isinstance(content, bytes))

        def below(self, directory: str) -> list[str]:
            return sorted(path for path in self.model if path.startswith(f"{directory}/"))

        def free(self, data: st.DataObject, names: tuple[str, ...] = NAMES) -> str | None:
            """Draw a path that does not exist, in a directory that does."""
            paths = [f"{parent}/{name}".lstrip("/") for parent in self.parents() for name in names]
            free = [path for path in paths if path not in self.model]
            return data.draw(st.sampled_from(free)) if free else None

        def file(self, data: st.DataObject) -> str:
            return data.draw(st.sampled_from(self.files()))

        def size_of(self, path: str) -> int:
            content = self.model[path]
            assert isinstance(content, bytes)
            return len(content)

        # -- files -------------------------------------------------------------------------------------

        @rule(data=st.data(), content=st.sampled_from(CONTENTS), syncs=st.booleans())
        def create(self, data: st.DataObject, content: bytes, syncs: bool) -> None:
            path = self.free(data)
            if path is None:
                return
            with (self.root / path).open("xb", buffering=0) as file:
                file.write(content)
                if syncs:
                    os.fsync(file.fileno())
            self.model[path] = content

        @precondition(lambda self: self.files())
        @rule(data=st.data(), content=st.sampled_from(CONTENTS))
        def overwrite(self, data: st.DataObject, content: bytes) -> None:
            path = self.file(data)
            (self.root / path).write_bytes(content)
            self.model[path] = content

        @precondition(lambda self: self.files())
        @rule(data=st.data(), content=st.sampled_from(CONTENTS))
        def save_over(self, data: st.DataObject, content: bytes) -> None:
            """As editors do: a temporary file beside it, renamed over it."""
            path = self.file(data)
            temporary = (self.root / path).with_name(f".goutputstream-{uuid.UUID(int=len(content)).hex[:6]}")
            temporary.write_bytes(content)
            temporary.rename(self.root / path)
            self.drop_handle(path)
            self.model[path] = content

        @precondition(lambda self: self.files())
        @rule(data=st.data(), content=st.sampled_from(CONTENTS))
        def append(self, data: st.DataObject, content: bytes) -> None:
            path = self.file(data)
            with (self.root / path).open("ab", buffering=0) as file:
                file.write(content)
            self.model[path] = self.bytes_of(path) + content

        @precondition(lambda self: self.files())
        @rule(data=st.data(), size=st.integers(0, 200_000))
        def truncate(self, data: st.DataObject, size: int) -> None:
            path = self.file(data)
            os.truncate(self.root / path, size)
            self.model[path] = self.bytes_of(path)[:size].ljust(size, b"\0")

        @precondition(lambda self: self.files())
        @rule(data=st.data(), offset=st.integers(0, 150_000), content=st.sampled_from(CONTENTS[1:]))
        def write_within(self, data: st.DataObject, offset: int, content: bytes) -> None:
            path = self.file(data)
            descriptor = os.open(self.root / path, os.O_RDWR)
            try:
                os.pwrite(descriptor, content, offset)
            finally:
                os.close(descriptor)
            self.model[path] = patched(self.bytes_of(path), offset, content)

        @precondition(lambda self: any(self.size_of(path) for path in self.files()))
        @rule(data=st.data())
        def write_through_a_map(self, data: st.DataObject) -> None:
            path = data.draw(st.sampled_from([path for path in self.files() if self.size_of(path)]))
            offset = data.draw(st.integers(0, self.size_of(path) - 1))
            with (self.root / path).open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
                mapped[offset : offset + 1] = b"m"
                mapped.flush()
            self.model[path] = patched(self.bytes_of(path), offset, b"m")

        def bytes_of(self, path: str) -> bytes:
            content = self.model[path]
            assert isinstance(content, bytes)
            return content

        # -- files that stay open ----------------------------------------------------------------------

        @precondition(lambda self: self.files())
        @rule(data=st.data())
        def keep_open(self, data: st.DataObject) -> None:
            path = self.file(data)
            if path not in self.handles:
                self.handles[path] = (self.root / path).open("r+b", buffering=0)

        @precondition(lambda self: self.handles)
        @rule(data=st.data(), offset=st.integers(0, 1000), content=st.sampled_from(CONTENTS[1:4]))
        def write_to_open(self, data: st.DataObject, offset: int, content: bytes) -> None:
            path = data.draw(st.sampled_from(sorted(self.handles)))
            os.pwrite(self.handles[path].fileno(), content, offset)
            self.model[path] = patched(self.bytes_of(path), offset, content)
            assert os.pread(self.handles[path].fileno(), 1 << 20, 0) == self.model[path]

        @precondition(lambda self: self.handles)
        @rule(data=st.data())
        def close_one(self, data: st.DataObject) -> None:
            self.drop_handle(data.draw(st.sampled_from(sorted(self.handles))))

        def drop_handle(self, path: str) -> None:
            """Close the handle of what is not at *path* any more, or is not to be kept open."""
            if path in self.handles:
                self.handles.pop(path).close()

        def drop_handles(self, *, may_fail: bool = False) -> None:
            for path in list(self.handles):
                with contextlib.suppress(*([OSError] if may_fail else [])):
                    self.drop_handle(path)

        # -- names -------------------------------------------------------------------------------------

        @precondition(lambda self: self.files())
        @rule(data=st.data())
        def remove(self, data: st.DataObject) -> None:
            path = self.file(data)
            (self.root / path).unlink()
            self.drop_handle(path)
            del self.model[path]

        @precondition(lambda self: self.files())
        @rule(data=st.data())
        def rename(self, data: st.DataObject) -> None:
            source = self.file(data)
            target = self.free(data)
            if target is not None:
                self.move_file(source, target)

        @precondition(lambda self: len(self.files()) > 1)
        @rule(data=st.data())
        def rename_over(self, data: st.DataObject) -> None:
            source = self.file(data)
            target = data.draw(st.sampled_from([path for path in self.files() if path != source]))
            self.drop_handle(target)
            self.move_file(source, target)

        def move_file(self, source: str, target: str) -> None:
            try:
                (self.root / source).rename(self.root / target)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                self.drop_handle(source)
                shutil.copyfile(self.root / source, self.root / target)
                (self.root / source).unlink()
            if source in self.handles:
                self.handles[target] = self.handles.pop(source)
            self.model[target] = self.model.pop(source)

        @rule(data=st.data())
        def make_directory(self, data: st.DataObject) -> None:
            free = [
                path
                for path in DIRECTORIES
                if path not in self.model and path.rpartition("/")[0] in self.parents()
            ]
            if free:
                path = data.draw(st.sampled_from(free))
                (self.root / path).mkdir()
                self.model[path] = None

        @precondition(lambda self: self.parents()[1:])
        @rule(data=st.data())
        def remove_directory(self, data: st.DataObject) -> None:
            path = data.draw(st.sampled_from(self.parents()[1:]))
            if self.below(path):
                with pytest.raises(OSError) as caught:
                    (self.root / path).rmdir()
                assert caught.value.errno == errno.ENOTEMPTY
            else:
                (self.root / path).rmdir()
                del self.model[path]

        @precondition(lambda self: self.parents()[1:])
        @rule(data=st.data())
        def remove_tree(self, data: st.DataObject) -> None:
            path = data.draw(st.sampled_from(self.parents()[1:]))
            for below in self.below(path):
                self.drop_handle(below)
            shutil.rmtree(self.root / path)
            for below in [path, *self.below(path)]:
                del self.model[below]

        @precondition(lambda self: self.parents()[1:])
        @rule(data=st.data())
        def rename_directory(self, data: st.DataObject) -> None:
            source = data.draw(st.sampled_from(self.parents()[1:]))
            target = self.free(data, ("x", "y", "w"))
            if target is None or target == source or target.startswith(f"{source}/"):
                return
            if self.moved_by_server(source, target):
                for below in [source, *self.below(source)]:
                    new = target + below.removeprefix(source)
                    self.model[new] = self.model.pop(below)
                    if below in self.handles:
                        self.handles[new] = self.handles.pop(below)

        def moved_by_server(self, source: str, target: str) -> bool:
            try:
                (self.root / source).rename(self.root / target)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                return False  # moving it file by file is what the other rules do
            return True

        # -- links -------------------------------------------------------------------------------------

        @precondition(lambda self: EXAM not in self.model)
        @rule()
        def link_an_exam(self) -> None:
            (self.root / EXAM).symlink_to(f"../../exams/{EXAM}")
            self.model[EXAM] = Link(f"exams/{EXAM}")

        @precondition(lambda self: EXAM in self.model)
        @rule()
        def remove_the_link(self) -> None:
            (self.root / EXAM).unlink()
            del self.model[EXAM]

        # -- others, and what takes time ---------------------------------------------------------------

        @precondition(lambda self: self.slow < SLOW_STEPS)
        @rule(content=st.sampled_from(CONTENTS))
        def another_client_adds_a_file(self, content: bytes) -> None:
            self.slow += 1
            self.external += 1
            name = f"external-{self.external}"
            self.place.upload({name: content})
            self.model[name] = content

        @precondition(lambda self: self.slow < SLOW_STEPS and any("/" not in path for path in self.files()))
        @rule(data=st.data())
        def another_client_deletes_a_file(self, data: st.DataObject) -> None:
            self.sync()
            path = data.draw(st.sampled_from([path for path in self.files() if "/" not in path]))
            item = next(
                item
                for item in self.place.items().values()
                if item["content_type"] == "dataset"
                and item["content_object"]["datafiles"][0]["original_filename"].rpartition("/")[2] == path
            )
            assert drive.server.api("DELETE", f"v1/folderitem/{item['id']}/").status_code == 204
            drive.mount.refresh(self.root)
            del self.model[path]

        @precondition(lambda self: self.slow < SLOW_STEPS)
        @rule()
        def sync(self) -> None:
            self.slow += 1
            self.drop_handles()
            self.place.sync()
            self.check_server()

        @precondition(lambda self: self.slow < SLOW_STEPS)
        @rule()
        def remount(self) -> None:
            self.slow += 1
            self.drop_handles()
            done = drive.mount.run("umount", "--detach", drive.mount.path)
            assert done.returncode == 0, done.stderr
            drive.mount.mount()

        @precondition(lambda self: self.slow < SLOW_STEPS)
        @rule()
        def crash(self) -> None:
            self.slow += 1
            self.drop_handles()
            drive.mount.kill(drive.mount.pid())
            drive.mount.mount()

        # -- comparing ---------------------------------------------------------------------------------

        @invariant()
        def the_mount_shows_the_model(self) -> None:
            shown: Model = {}
            for path, content in read_tree(self.root).items():
                if isinstance(content, str):
                    target = (self.root / path).resolve(strict=True)
                    shown[path] = Link(str(target.relative_to(drive.root.parent)))
                else:
                    shown[path] = content
            assert summary(shown) == summary(self.model)
            assert shown == self.model

        def check_server(self) -> None:
            assert self.place.stored() == identities(dict(self.model))
            folders = connector.folders_below(drive.server, self.place.folder)
            assert folders == {path for path, content in self.model.items() if content is None}
            links = connector.links_in_folder(drive.server, self.place.folder)
            assert links == [("exam", EXAM)] * (EXAM in self.model)

        def teardown(self) -> None:
            self.drop_handles(may_fail=True)
            self.place.sync()
            self.check_server()
            self.the_mount_shows_the_model()

    return Machine


def patched(content: bytes, offset: int, piece: bytes) -> bytes:
    """Return *content* with *piece* written at *offset*, zeros in between."""
    return content[:offset].ljust(offset, b"\0") + piece + content[offset + len(piece) :]


def summary(model: Model) -> dict[str, object]:
    """Return what is readable in a message: sizes in place of bytes."""
    return {
        path: len(content) if isinstance(content, bytes) else content or "directory"
        for path, content in model.items()
    }


@pytest.fixture(scope="module")
def drive(tmp_path_factory) -> Iterator[Drive]:
    """A server and a mount for all examples, with an exam to link."""
    directory = Path(tmp_path_factory.mktemp("model"))
    with SandboxProcess(directory / "data", switches={"import-speed": "0"}) as server:
        mount = Mount(server.url, server.api_key, directory, QUIET)
        drive = Drive(server, mount, folders=3 * EXAMPLES)  # examples that lead nowhere are made anew
        exam = {"slice": dicom_file(study="2.25.7", series="2.25.7.1", StudyDescription=EXAM)}
        assert server.upload(exam, folder=drive.project.root)["state"] == 5
        mount.mount()
        try:
            yield drive
        finally:
            mount.clear()
        log = mount.log()
        assert "Traceback" not in log, log[log.index("Traceback") - 1000 :][:5000]
    assert server.log == ""


def test_random_operations_leave_mount_and_server_as_a_plain_model_has_them(drive):
    """Random sequences, with other clients, remounts and crashes: mount and server hold what the model holds."""
    run_state_machine_as_test(
        make_machine(drive),
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            derandomize=True,
            database=None,
            deadline=None,
            # No shrinking: it would take minutes, and what is in flight is not the same in every run.
            phases=(Phase.explicit, Phase.generate),
            suppress_health_check=list(HealthCheck),
            report_multiple_bugs=False,
        ),
    )
