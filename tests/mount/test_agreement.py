"""What people say about objects, through two mounts and the vendor's connector at once: all end up agreeing.

Each step is one change through extended attributes, a control file or the connector. A step may
be refused (a lock is set): then by everybody alike, and nothing has changed. In the end both mounts must show what the
server has, as soon as their listings' time is over.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gtagora
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.support.connector import connected
from tests.support.mount import Mount
from tests.support.sandbox import SandboxProcess
from tests.support.waiting import eventually

LABELS = ("good", "checked", "späte Aufnahme")
PARAMETERS = ("quality", "reader")
KINDS = ("exam", "series", "dataset", "folder")
REFUSED = {errno.EACCES, errno.EPERM, errno.EINVAL, errno.ENODATA}
TTL_S = 1.0


@dataclass(frozen=True)
class Parties:
    """The two mounts, the connector, and the objects that they talk about, by kind."""

    mounts: tuple[Mount, Mount]
    agora: gtagora.Agora
    server: SandboxProcess
    ids: dict[str, int]

    def path(self, mount: int, kind: str) -> Path:
        return self.mounts[mount].path / ".agora" / "by-id" / kind / str(self.ids[kind])

    def known(self, kind: str) -> Any:
        """Return the object as the connector has it now."""
        get = {
            "exam": self.agora.get_exam,
            "series": self.agora.get_series,
            "dataset": self.agora.get_dataset,
            "folder": self.agora.get_folder,
        }
        return get[kind](self.ids[kind])

    def on_server(self, kind: str) -> dict[str, object]:
        """Return what the connector reads."""
        one = self.known(kind)
        rating = one.get_rating()
        parameters = {
            parameter["Name"]: parameter["Value"]
            for one_set in one.get_parametersets()
            for parameter in one_set.parameters
        }
        return {
            "tags": sorted(tag.label for tag in one.get_tags()),
            "rating": str(rating.value if rating is not None else 0),
            "parameters": {name: str(parameters[name]) for name in PARAMETERS if name in parameters},
            "locked": str(int(bool(one.locked))) if kind == "exam" else "0",
        }

    def on_mount(self, mount: int, kind: str) -> dict[str, object]:
        """Return what one of the mounts shows."""
        path = self.path(mount, kind)
        tags = _attribute(path, "user.agora.tags")
        values = {name: _attribute(path, f"user.agora.param.{name}") for name in PARAMETERS}
        return {
            "tags": sorted(tags.split(",")) if tags else [],
            "rating": _attribute(path, "user.agora.rating") or "0",
            "parameters": {name: value for name, value in values.items() if value},
            "locked": (_attribute(path, "user.agora.locked") or "0") if kind == "exam" else "0",
        }


def _attribute(path: Path, name: str) -> str:
    try:
        return os.getxattr(path, name).decode()
    except OSError as error:
        if error.errno == errno.ENODATA:
            return ""
        raise


# -- the steps ---------------------------------------------------------------------------------------


def by_attribute(parties: Parties, mount: int, kind: str, what: str, value: str) -> None:
    path = parties.path(mount, kind)
    if what == "tag":
        os.setxattr(path, f"user.agora.tag.{value}", b"1")
    elif what == "untag":
        os.removexattr(path, f"user.agora.tag.{value}")
    elif what == "tags":
        os.setxattr(path, "user.xdg.tags", value.encode())
    elif what == "rate":
        os.setxattr(path, "user.agora.rating", value.encode())
    elif what == "parameter":
        name, _, text = value.partition("=")
        os.setxattr(path, f"user.agora.param.{name}", text.encode())
    else:
        os.setxattr(path, "user.agora.locked", value.encode())


def by_control_file(parties: Parties, mount: int, kind: str, what: str, value: str) -> None:
    me = f"{kind}:{parties.ids[kind]}"
    name, _, text = value.partition("=")
    command = {
        "tag": {"command": "tag", "path": me, "tag": value},
        "untag": {"command": "untag", "path": me, "tag": value},
        "tags": {"command": "tag", "path": me, "tag": value.split(",")[0]},
        "rate": {"command": "rate", "path": me, "value": int(value) if what == "rate" else 0},
        "parameter": {"command": "set-parameters", "path": me, "parameters": {name: text}},
        "lock": {"command": "lock" if value == "1" else "unlock", "path": me},
    }[what]
    with (parties.mounts[mount].path / ".agora" / "control").open("wb", buffering=0) as control:
        control.write(json.dumps(command).encode() + b"\n")


def by_connector(parties: Parties, mount: int, kind: str, what: str, value: str) -> None:
    """*mount* is not asked. The connector prints refusals instead of raising most of them."""
    one = parties.known(kind)
    if what in ("tag", "tags"):
        label = value.split(",")[0]
        tags = [tag for tag in parties.agora.get_tags() if tag.label == label]
        if tags:
            one.tag(tags[0])
    elif what == "untag":
        for tag in one.get_tags():
            if tag.label == value:
                one.remove_tag(tag)
    elif what == "rate":
        one.rate(int(value))
    elif what == "parameter":
        name, _, text = value.partition("=")
        one.update_parameters({name: text})
    elif kind == "exam":
        one.lock() if value == "1" else one.unlock()


WAYS: dict[str, Callable[[Parties, int, str, str, str], None]] = {
    "attribute": by_attribute,
    "control": by_control_file,
    "connector": by_connector,
}

step = st.tuples(
    st.sampled_from(sorted(WAYS)),
    st.integers(0, 1),
    st.sampled_from(KINDS),
    st.one_of(
        st.tuples(st.sampled_from(["tag", "untag"]), st.sampled_from(LABELS)),
        st.tuples(st.just("tags"), st.lists(st.sampled_from(LABELS), unique=True, min_size=1).map(",".join)),
        st.tuples(st.just("rate"), st.integers(0, 5).map(str)),
        st.tuples(
            st.just("parameter"),
            st.sampled_from([f"{name}={word}" for name in PARAMETERS for word in ("a", "b c")]),
        ),
    ),
)
lock_step = st.tuples(
    st.sampled_from(sorted(WAYS)),
    st.integers(0, 1),
    st.just("exam"),
    st.tuples(st.just("lock"), st.sampled_from("01")),
)


def carry_out(parties: Parties, chosen: Any) -> None:
    way, mount, kind, (what, value) = chosen
    try:
        with contextlib.redirect_stdout(None):
            WAYS[way](parties, mount, kind, what, value)
    except gtagora.exception.AgoraException:
        assert way == "connector"
    except OSError as error:
        assert way != "connector"
        assert error.errno in REFUSED, (chosen, error)


def agrees(parties: Parties, mount: int, kind: str, expected: object) -> bool:
    return parties.on_mount(mount, kind) == expected


def assert_agreement(parties: Parties) -> None:
    expected = {kind: parties.on_server(kind) for kind in KINDS}
    for mount in (0, 1):
        for kind in KINDS:
            with contextlib.suppress(AssertionError):
                eventually(functools.partial(agrees, parties, mount, kind, expected[kind]), 10 * TTL_S)
            assert parties.on_mount(mount, kind) == expected[kind], (mount, kind)


@pytest.fixture(scope="module")
def parties(demo_data, tmp_path_factory) -> Iterator[Parties]:
    home = Path(tmp_path_factory.mktemp("agreement"))
    shutil.copytree(demo_data, home / "data")
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(SandboxProcess(home / "data"))
        mounts = []
        for name in ("one", "two"):
            mount = Mount(server.url, server.api_key, home / name, f"listing_ttl_s={TTL_S:g}")
            stack.callback(mount.clear)
            mount.mount()
            mounts.append(mount)
        agora = stack.enter_context(connected(server))
        exam = next(exam for exam in agora.get_exam_list() if not exam.locked and exam.get_series())
        series = exam.get_series()[0]
        project = agora.get_project(exam.project)
        for label in LABELS:
            if label not in {tag.label for tag in project.get_tags()}:
                agora.create_tag(label, project=project.id)
        ids = {
            "exam": exam.id,
            "series": series.id,
            "dataset": series.get_datasets()[0].id,
            "folder": project.get_root_folder().create_folder("agreement").id,
        }
        yield Parties((mounts[0], mounts[1]), agora, server, ids)
        for mount in mounts:
            assert "Traceback" not in mount.log(), mount.log()


@settings(
    max_examples=8,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate],
)
@given(steps=st.lists(st.one_of(step, step, step, lock_step), min_size=12, max_size=25))
def test_all_agree_with_the_server_after_changes_from_everywhere(parties, steps):
    for chosen in steps:
        carry_out(parties, chosen)
    assert_agreement(parties)


@settings(
    max_examples=4,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate],
)
@given(data=st.data())
def test_all_agree_with_the_server_after_changes_at_the_same_moment(parties, data):
    """Each party has a thread of its own; whose change is the last is the server's to say."""
    plans = [
        [
            (way, mount, kind, change)
            for _, _, kind, change in data.draw(st.lists(step, min_size=6, max_size=10))
            if change[0]
            != "parameter"  # sets are written as a whole: the last writer wins over the others' names
        ]
        for way, mount in (("attribute", 0), ("control", 1), ("connector", 0))
    ]
    failures: list[BaseException] = []

    def follow(plan: list[Any]) -> None:
        try:
            for chosen in plan:
                carry_out(parties, chosen)
        except BaseException as error:  # noqa: BLE001 - raised in the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=follow, args=(plan,)) for plan in plans]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert_agreement(parties)
