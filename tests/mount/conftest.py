"""Servers and mounts for the tests through the kernel.

The demo is imported once per session and copied for whoever wants to change something or to count requests
undisturbed. Whatever a fixture started is taken away when the test ends, also when it failed.
"""

from __future__ import annotations

import contextlib
import itertools
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.support.mount import Mount
from tests.support.sandbox import SandboxProcess
from tests.support.writing import QUIET, Drive

MakeMount = Callable[..., Mount]
MakeDrive = Callable[..., Drive]


@pytest.fixture(scope="session")
def demo_data(tmp_path_factory) -> Path:
    """A data directory with the demo in it, used by no server; to be copied."""
    data = Path(tmp_path_factory.mktemp("demo-data")) / "data"
    SandboxProcess(data, seed="demo").stop()
    return data


@pytest.fixture(scope="session")
def demo(demo_data, tmp_path_factory) -> Iterator[SandboxProcess]:
    """A server with the demo, shared by all tests: change nothing in it."""
    data = Path(tmp_path_factory.mktemp("demo")) / "data"
    shutil.copytree(demo_data, data)
    with SandboxProcess(data) as server:
        yield server


@pytest.fixture
def private_demo(demo_data, tmp_path) -> Iterator[SandboxProcess]:
    """A server with the demo for one test alone."""
    data = tmp_path / "server" / "data"
    shutil.copytree(demo_data, data)
    with SandboxProcess(data) as server:
        yield server


@pytest.fixture
def mount(tmp_path) -> Iterator[MakeMount]:
    """``mount(server, "option=value", …)`` mounts *server*; ``home=`` shares cache and state with another mount."""
    numbers = itertools.count()
    with contextlib.ExitStack() as stack:

        def make(server: SandboxProcess, *options: str, home: Path | None = None) -> Mount:
            number = next(numbers)
            one = Mount(server.url, server.api_key, home or tmp_path / f"mount{number}", *options)
            stack.callback(one.clear)
            one.mount()
            return one

        yield make


@pytest.fixture(scope="module")
def demo_mount(demo, tmp_path_factory) -> Iterator[Mount]:
    """The demo, mounted; shared by the tests of one module, which change nothing in it."""
    with Mount(demo.url, demo.api_key, Path(tmp_path_factory.mktemp("mount"))) as one:
        yield one


@pytest.fixture(scope="module")
def drive(tmp_path_factory) -> Iterator[Drive]:
    """A server with many empty folders, and a mount to write to; each test of the module takes a folder."""
    with _drive(Path(tmp_path_factory.mktemp("drive")), folders=120) as one:
        yield one


@pytest.fixture
def writable(tmp_path) -> Iterator[MakeDrive]:
    """``writable("option=value", …, folders=N, switches={…})`` is a server and a mount for one test alone."""
    numbers = itertools.count()
    with contextlib.ExitStack() as stack:

        def make(
            *options: str, folders: int = 4, switches: Mapping[str, str] | None = None, quiet: str = QUIET
        ) -> Drive:
            directory = tmp_path / f"drive{next(numbers)}"
            return stack.enter_context(
                _drive(directory, quiet, *options, folders=folders, switches=switches or {})
            )

        yield make


@contextlib.contextmanager
def _drive(
    directory: Path, *options: str, folders: int, switches: Mapping[str, str] | None = None
) -> Iterator[Drive]:
    directory.mkdir(exist_ok=True)
    with SandboxProcess(directory / "data", switches={"import-speed": "0", **(switches or {})}) as server:
        one = Mount(server.url, server.api_key, directory, *(options or (QUIET,)))
        made = Drive(server, one, folders=folders)
        try:
            one.mount()
            yield made
        finally:
            one.clear()
        # What went wrong behind the scenes is a failure although every test may have been content.
        assert "Traceback" not in one.log()
    assert server.log == ""
