"""The README promises nothing that no test holds, and names nothing that is not there."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest

from agorafs.config import KNOWN_SETTINGS, Settings
from agorafs.errors import ExitStatus
from tests.features import table

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def section(title: str) -> str:
    """Return the text below the heading *title*."""
    return README.split(f"\n## {title}\n")[1].split("\n## ")[0]


def in_one_line(text: str) -> str:
    return " ".join(text.split())


@functools.cache
def quotations() -> str:
    """Return the docstrings of all test functions."""
    found: list[str] = []
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        found.extend(
            in_one_line(ast.get_docstring(node) or "")
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
        )
    return "\n".join(found)


PROMISES = [
    in_one_line(promise)
    for promise in re.findall(r"^- (.*(?:\n  .*)*)", section("What you may rely on"), re.M)
]


def test_there_are_promises():
    assert len(PROMISES) > 15


@pytest.mark.parametrize("promise", PROMISES)
def test_every_promise_is_quoted_by_a_test_that_holds_it(promise):
    assert promise in quotations()


def test_every_setting_in_the_table_exists_with_the_default_that_it_says():
    table = section("Configuration")
    for names, default in re.findall(r"^\| (`[^|]*`) \| ([^|]*) \|", table, re.M):
        for name in re.findall(r"`([^`]*)`", names):
            assert name in KNOWN_SETTINGS
            if default.strip().isdigit():
                assert getattr(Settings(url="http://localhost"), name) == int(default)


def test_every_exit_status_is_explained():
    explained = {int(number) for number in re.findall(r"(?:: |;\s)(\d+)\s", section("Configuration"))}
    assert explained == set(ExitStatus) - {ExitStatus.INTERRUPTED}


def test_every_script_it_names_exists():
    for script in set(re.findall(r"scripts/\w+", README)):
        assert (ROOT / script).exists(), script


def test_the_table_of_features_is_that_of_the_tests_and_every_row_has_one():
    ways = table.ways(ROOT / "tests")
    assert table.missing(ways) == []
    assert table.between_marks(README) == table.table(ways)
