"""Imports point down the list of layers, and the sandbox knows nothing of the rest."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import agorafs

PACKAGE = Path(agorafs.__file__).parent

# From the user down to the archive. A module may import from its own layer and from those below it.
LAYERS = ["front end", "stack", "vfs", "uploads", "tree", "cache", "client", "shared"]
SHARED = {"errors", "clock", "config", "byterange", "private_directory", "__init__"}
FRONT_ENDS = {
    "cli", "commands", "control", "daemon", "fuse_mount", "keyring_access", "log_output", "mount_process",
    "mount_requests", "mountpoint", "options", "profile_writing", "profiles", "registry",
}  # fmt: skip
BINDINGS = {"mfusepy", "fuse"}
HTTP_LIBRARIES = {"requests", "urllib3"}


def layer(module: str) -> str:
    top = module.split(".")[0]
    if top in SHARED:
        return "shared"
    return "front end" if top in FRONT_ENDS else top


def modules() -> list[str]:
    names = (".".join(path.relative_to(PACKAGE).with_suffix("").parts) for path in PACKAGE.rglob("*.py"))
    return sorted(name.removesuffix(".__init__") for name in names)


def imported(module: str, *, at_run_time: bool = False) -> set[str]:
    """Return the full names of what *module* imports, without those only type checkers see if *at_run_time*."""
    path = PACKAGE / Path(*module.split("."))
    tree = ast.parse((path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text())
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if at_run_time and isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{module} imports relatively"
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def imports_by_name(module: str) -> bool:
    """Tell whether *module* imports the binding in the way that ``imported`` does not see."""
    path = PACKAGE / f"{module.replace('.', '/')}.py"
    return "importlib" in imported(module) and "mfusepy" in path.read_text()


OURS = [module for module in modules() if not module.startswith("sandbox")]
SANDBOX = [module for module in modules() if module.startswith("sandbox")]


@pytest.mark.parametrize("module", OURS)
def test_imports_point_down(module):
    allowed = LAYERS[LAYERS.index(layer(module)) :]
    for name in imported(module, at_run_time=True):
        package, _, rest = name.partition(".")
        if package != "agorafs" or not rest:
            continue
        if rest.startswith("sandbox"):
            assert layer(module) == "front end", f"{module} imports {name}"
        elif layer(rest) in LAYERS:
            assert layer(rest) in allowed, f"{module} ({layer(module)}) imports {name}"


@pytest.mark.parametrize("module", SANDBOX)
def test_the_sandbox_imports_nothing_from_the_rest_so_that_it_can_contradict_it(module):
    for name in imported(module):
        if name.startswith("agorafs."):
            assert name.startswith("agorafs.sandbox"), f"{module} imports {name}"


def test_one_module_knows_the_binding():
    knowing = {
        module
        for module in modules()
        if BINDINGS & {name.split(".")[0] for name in imported(module)} or imports_by_name(module)
    }
    assert knowing == {"fuse_mount.binding"}


def test_only_the_client_knows_an_http_library():
    for module in OURS:
        if HTTP_LIBRARIES & {name.split(".")[0] for name in imported(module)}:
            assert layer(module) == "client", module


def test_every_module_says_what_it_is_for():
    for module in modules():
        path = PACKAGE / Path(*module.split("."))
        text = (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text()
        assert len(ast.get_docstring(ast.parse(text)) or "") > 20, module
