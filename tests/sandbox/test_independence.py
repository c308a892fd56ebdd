"""The sandbox stands alone, so that it can contradict the client it tests."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import agorafs.sandbox

PACKAGE = Path(agorafs.sandbox.__file__).parent


def imported_modules(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            yield node.module


def test_no_module_of_the_sandbox_imports_the_rest_of_agorafs():
    sources = sorted(PACKAGE.rglob("*.py"))
    assert len(sources) > 20
    outside = {
        (path.name, name)
        for path in sources
        for name in imported_modules(path)
        if name.split(".")[0] == "agorafs" and not name.startswith("agorafs.sandbox")
    }
    assert outside == set()


def test_serving_loads_nothing_of_agorafs_but_the_package_itself():
    program = (
        "import sys, agorafs.sandbox.server, agorafs.sandbox.run;"
        "print([m for m in sys.modules if m.startswith('agorafs.') and not m.startswith('agorafs.sandbox')])"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert result.stdout.strip() == "[]"
