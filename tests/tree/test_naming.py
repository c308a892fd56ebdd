"""Exams and series may be named by the user's own template."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agorafs.cache.metadata import Freshness
from agorafs.client.records import Exam, Series
from agorafs.tree.naming import Naming
from agorafs.tree.tree import Tree
from tests.support.manual_clock import ManualClock
from tests.support.memory_archive import TIME_NS, MemoryArchive

EXAM = Exam(7, "Brain", "1.2.3", 1, 2, 1, TIME_NS, TIME_NS, False)
SERIES = Series(8, "T1", "1.2.4", 7, 1, 301, TIME_NS, TIME_NS, TIME_NS, False)


@pytest.mark.parametrize(
    ("template", "name"),
    [
        ("{name}", "Brain"),
        ("{start_time:%Y-%m-%d} {name}", "2023-11-14 Brain"),
        ("{id:05d} {uid}", "00007 1.2.3"),
        ("{{{name}}}", "{Brain}"),
    ],
)
def test_an_exam_is_named_by_its_template(template, name):
    assert Naming(exam=template).of_exam(EXAM) == name


def test_a_series_may_carry_its_acquisition_number():
    assert Naming(series="{number} {name} {time:%H%M}").of_series(SERIES) == "301 T1 2213"


def test_what_the_archive_leaves_empty_gives_nothing_whatever_its_format():
    naming = Naming(exam="{start_time:%Y-%m-%d} {name}", series="{number:03d} {name}")
    assert naming.of_exam(replace(EXAM, start_ns=None)) == "Brain"
    assert naming.of_series(replace(SERIES, acquisition_number=None)) == "T1"
    assert Naming(exam="{start_time}").of_exam(replace(EXAM, start_ns=None)) == "Brain"


@pytest.mark.parametrize(
    "template", ["{nonsense}", "{name", "{}", "{0}", "{name.__class__}", "{name[0]}", "{name:%Y}"]
)
def test_a_template_that_can_not_be_used_is_refused_with_the_fields_there_are(template):
    with pytest.raises(ValueError, match=r"\{start_time\}"):
        Naming(exam=template)


def test_links_lead_to_exams_whatever_they_are_called():
    archive = MemoryArchive()
    project = archive.add_project("P")
    exam = archive.add_exam(project.id, "E", patient=archive.add_patient("X").id)
    archive.add_series(exam.id, "S")
    assert project.root_folder is not None
    archive.add_item(project.root_folder, "exam", exam.id, exam, is_link=True)
    tree = Tree(
        archive,
        user=archive.user,
        my_agora=None,
        freshness=Freshness(),
        max_entries=1000,
        clock=ManualClock(),
        naming=Naming("{start_time:%Y} {name}", "{number} {name}"),
    )
    (link,) = tree.children(tree.resolve(["projects", "P", "folders"]))
    assert link.entry.name == "2023 E"
    assert tree.link_text(link) == f"../exams/2023 E ({exam.id})"
    alias = tree.resolve(["projects", "P", "exams", f"2023 E ({exam.id})"])
    assert tree.link_text(alias) == "2023 E"
    assert tree.resolve(["projects", "P", "exams", "2023 E", "1 S"]).entry.record
    tree.close()
