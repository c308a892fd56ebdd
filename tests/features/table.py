"""The README's table of features, made of the marks of the tests: ``python -m tests.features.table [--write]``.

It reads the tests' source and runs none of them; that they pass is shown by running them. With ``--write`` the table
in the README is replaced, which stands between two lines ``<!-- features -->``. The exit status is 1 when a row has no
test.
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.features import FEATURES

ROOT = Path(__file__).parents[2]
MARK = "<!-- features -->\n"


def marks_in(source: str, name: str) -> Iterator[tuple[int, str]]:
    """Return the number and the way of each mark in the *source* of the file *name*.

    Raises:
        ValueError: A mark that can not be read, or of no row.
    """
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            continue
        for decorator in node.decorator_list:
            if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.feature":
                yield from _read(decorator, f"{name}:{decorator.lineno}")


def _read(mark: ast.Call, place: str) -> Iterator[tuple[int, str]]:
    try:
        numbers = [ast.literal_eval(argument) for argument in mark.args]
        options = {keyword.arg: ast.literal_eval(keyword.value) for keyword in mark.keywords}
    except ValueError:
        raise ValueError(f"{place}: a mark has plain numbers and a plain text") from None
    how = options.pop("how", None)
    if not numbers or not isinstance(how, str) or not how.strip() or "\n" in how or options:
        raise ValueError(f'{place}: a mark is feature(NUMBER, how="…")')
    for number in numbers:
        if number not in FEATURES:
            raise ValueError(f"{place}: there is no feature {number}")
        yield number, how.strip()


def ways(directory: Path) -> dict[int, list[str]]:
    """Return for each row the ways that tests below *directory* go, in the order of the files."""
    found: dict[int, list[str]] = {}
    for path in sorted(directory.rglob("test_*.py")):
        for number, how in marks_in(path.read_text(encoding="utf-8"), str(path)):
            known = found.setdefault(number, [])
            if how not in known:
                known.append(how)
    return found


def missing(found: Mapping[int, Sequence[str]]) -> list[int]:
    """Return the rows that no test holds."""
    return [number for number in FEATURES if not found.get(number)]


def table(found: Mapping[int, Sequence[str]]) -> str:
    """Return the table; a row without a test has an empty last column."""
    rows = [
        f"| {number} | {feature} | {'<br>'.join(map(_cell, found.get(number, ())))} |\n"
        for number, feature in FEATURES.items()
    ]
    return "".join(["| | what | how |\n", "| --- | --- | --- |\n", *rows])


def _cell(how: str) -> str:
    return how.replace("|", "\\|")


def between_marks(readme: str) -> str | None:
    """Return what stands between the two marks of *readme*; None without them."""
    parts = readme.split(MARK)
    return parts[1] if len(parts) == 3 else None


def main(words: Sequence[str] | None = None) -> int:
    """Print the table, or write it into the README."""
    parser = argparse.ArgumentParser(prog="scripts/feature_table", description="The table of features.")
    parser.add_argument("--write", action="store_true", help="put it into the README")
    arguments = parser.parse_args(words)
    found = ways(ROOT / "tests")
    if arguments.write:
        readme = ROOT / "README.md"
        text = readme.read_text(encoding="utf-8")
        if between_marks(text) is None:
            print(f"README.md has no two lines {MARK.strip()}", file=sys.stderr)
            return 2
        before, _, after = text.split(MARK)
        readme.write_text(f"{before}{MARK}{table(found)}{MARK}{after}", encoding="utf-8")
    else:
        print(table(found), end="")
    without = missing(found)
    if without:
        print(f"{len(without)} features without a test: {', '.join(map(str, without))}", file=sys.stderr)
    return 1 if without else 0


if __name__ == "__main__":
    sys.exit(main())
