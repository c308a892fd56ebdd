"""Whatever is written into the files that act is understood or refused: 100,000 inputs, and none crashes or holds up.

A refused one has changed nothing, and nobody was asked to change anything for it: the fakes note every request.
"""

from __future__ import annotations

import io
import json
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy
import pytest

from agorafs.client.records import RemoteRef
from agorafs.errors import AgoraFSError, NotFound
from agorafs.vfs.aside import NOBODY, Aside
from agorafs.vfs.dot_annotations import DotAnnotations
from tests.vfs.annotated_world import EXAM, FILE, AnnotatedWorld
from tests.vfs.test_tasks import Bench, an_input
from tests.vfs.test_workbooks import Server, World, a_workbook

INPUTS = 100_000
CHANGING = (
    "create",
    "delete",
    "tag ",
    "remove",
    "rate",
    "add",
    "replace",
    "set_locked",
    "update",
    "run",
    "save",
)
WORDS = (
    b"0", b"1", b"5", b"-1", b"4.5", b"1e9", b"good", b"\xc3\xa4", b"\xff\xfe", b"\x00", b"\n", b"\r\n", b",",
    b"good,bad", b"{}", b"[]", b"null", b"true", b'"', b"{", b"}", b":", b'"name": 1', b'"inputs": [1]', b'"type": 99',
    b"NaN", b"\xed\xa0\x80", b"9" * 400, b"[" * 2000, b"../..", b"ds=",
    b"ds=../../exams/E", b"target=", b"size=1", b"'", b"\\",
    b'"Value": {}', b"\x93NUMPY\x01\x00", b"{'descr': '|u1'", b"' ' * 9",
)  # fmt: skip


@dataclass
class Target:
    """A file that is written: what it is opened by, what it may say, and what was asked of the server."""

    open: Callable[[], Aside]
    samples: Sequence[bytes]
    log: list[Any]
    is_stream: bool = False

    def changes(self) -> list[str]:
        """Return what was to be changed since the last call."""
        asked = [str(call) for call in self.log]
        self.log.clear()
        return [call for call in asked if call.removeprefix("('").startswith(CHANGING)]


@pytest.fixture
def targets(tmp_path):
    annotated = AnnotatedWorld()
    annotated.server.define("good", annotated.project.id)
    for ref in annotated.refs.values():
        assert isinstance(ref, RemoteRef)
        annotated.server.add_set(ref, "User Parameters", [{"Name": "TE", "Value": 4.6}], is_read_only=False)
        annotated.server.add_set(ref, "DICOM", [{"Name": "TR", "Value": 1}], is_read_only=True)
    part = DotAnnotations(annotated.annotations)

    def beside(path: str, *rest: str) -> Callable[[], Aside]:
        def look() -> Aside:
            try:
                found = part.resolve(annotated.node(path), rest, is_root=False)
            except NotFound:  # an input before has removed or renamed it
                found = part.make(annotated.node(path), rest)
            assert found is not None
            return found

        return look

    bench = Bench(tmp_path)
    bench.define(an_input("ds", "dataset"), an_input("size", "integer", required=False, min=0, max=9))
    definition = json.dumps(bench.tasks.all()[0].raw).encode()
    drawn = World(Server(a_workbook()))
    array = drawn.read("workbooks/Workbook 1/masks/lv.npy")

    def of_task(name: str) -> Callable[[], Aside]:
        return lambda: bench.view.file(bench.node("tasks", bench.names()[0], name))

    def of_workbook(name: str) -> Callable[[], Aside]:
        return lambda: drawn.look(f"workbooks/Workbook 1/{name}")

    said, changed, drew = annotated.server.calls, bench.tasks.changes, drawn.server.calls
    small = io.BytesIO()
    numpy.save(small, numpy.zeros((2, 2), dtype=numpy.uint8))
    yield [
        Target(beside(EXAM, "tags"), [b"good\nchecked\n", b"a,b\n"], said),
        Target(beside(FILE, "rating"), [b"4\n", b"0\n"], said),
        Target(beside(FILE, "locked"), [b"1\n", b"0\n"], said),
        Target(
            beside(FILE, "parameters", "User Parameters.json"),
            [b'{"TE": 4.6, "list": [1, 2]}', b'[{"Name": "TE", "Value": 4.6}]'],
            said,
        ),
        Target(of_task("definition.json"), [definition], changed),
        Target(
            of_task("run"),
            [b"ds=../../exams/E/S/brain.nii size=3\n", b'{"ds": "dataset:5"}'],
            changed,
            is_stream=True,
        ),
        Target(of_workbook("workbook.json"), [drawn.read("workbooks/Workbook 1/workbook.json")], drew),
        Target(of_workbook("masks/lv.npy"), [array, small.getvalue()], drew),
    ]
    drawn.close()
    bench.close()
    annotated.annotations.close()
    annotated.tree.close()


def an_input_from(chance: random.Random, samples: Sequence[bytes]) -> bytes:
    """Return a sample, most often damaged; or some words; or noise."""
    kind = chance.randrange(8)
    if kind == 0:
        return chance.randbytes(chance.randrange(40))
    if kind == 1:
        return b" ".join(chance.choices(WORDS, k=chance.randrange(4)))
    data = bytearray(chance.choice(samples))
    for _ in range(chance.randrange(4)):
        start = chance.randrange(len(data) + 1)
        stop = min(len(data), start + chance.randrange(6))
        data[start:stop] = chance.choice((b"", chance.choice(WORDS), chance.randbytes(2)))
    return bytes(data)


def test_whatever_is_written_is_understood_or_refused_and_a_refusal_changes_nothing(targets):
    chance = random.Random(41)
    understood = refused = 0
    slowest_s = 0.0
    for number in range(INPUTS):
        target = targets[number % len(targets)]
        data = an_input_from(chance, target.samples)
        begun_s = time.process_time()
        draft = target.open().open(NOBODY)
        assert not isinstance(draft, bytes)
        target.log.clear()
        try:
            draft.truncate(0)
            draft.write(0, data)
            draft.flush()
            understood += 1
        except AgoraFSError as error:
            refused += 1
            assert str(error)
            # of several lines of a stream those before the refused one have been carried out
            assert target.changes() == [] or (target.is_stream and b"\n" in data[:-1]), data
        draft.close()
        slowest_s = max(slowest_s, time.process_time() - begun_s)
    assert understood > INPUTS / 50 and refused > INPUTS / 50, (understood, refused)
    assert slowest_s < 2
