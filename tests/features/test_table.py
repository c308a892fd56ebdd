"""The table of features is made of the tests' marks, and a mark that says nothing is an error."""

import pytest

from tests.features import FEATURES, table


def marks(decorator: str):
    return list(table.marks_in(f"import pytest\n\n{decorator}\ndef test_x(): ...\n", "test_x.py"))


def test_there_are_the_rows_of_the_connectors_features():
    assert list(FEATURES) == list(range(1, 115))
    assert len(set(FEATURES.values())) == 114
    assert not any("|" in name or "\n" in name for name in FEATURES.values())


def test_every_mark_in_the_tests_is_of_a_row():
    """Raises when it can not be read."""
    assert table.ways(table.ROOT / "tests")


def test_one_test_can_hold_several_rows():
    assert marks('@pytest.mark.feature(23, 24, how="ln -s")') == [(23, "ln -s"), (24, "ln -s")]


def test_a_test_without_a_mark_holds_none():
    assert marks('@pytest.mark.parametrize("x", [1])') == []


@pytest.mark.parametrize(
    "decorator",
    [
        "@pytest.mark.feature(29)",
        '@pytest.mark.feature(how="x")',
        '@pytest.mark.feature(29, how=" ")',
        '@pytest.mark.feature(29, how="a\\nb")',
        "@pytest.mark.feature(29, how=5)",
        '@pytest.mark.feature(29, how="x", why="y")',
        '@pytest.mark.feature(115, how="x")',
        '@pytest.mark.feature("29", how="x")',
        "@pytest.mark.feature(29, how=WAY)",
    ],
)
def test_a_mark_that_says_nothing_is_named_with_its_place(decorator):
    with pytest.raises(ValueError, match=r"test_x\.py:3"):
        marks(decorator)


def test_the_ways_of_several_tests_stand_in_one_row_each_once(tmp_path):
    source = 'import pytest\n\n@pytest.mark.feature(29, how="{how}")\ndef test_x(): ...\n'
    for name, how in (("test_a.py", "lock | unlock"), ("test_b.py", "setfattr"), ("test_c.py", "setfattr")):
        (tmp_path / name).write_text(source.format(how=how))
    found = table.ways(tmp_path)
    assert found == {29: ["lock | unlock", "setfattr"]}
    assert f"| 29 | {FEATURES[29]} | lock \\| unlock<br>setfattr |\n" in table.table(found)
    assert table.missing(found) == [number for number in FEATURES if number != 29]
    assert table.table(found).count("\n") == 2 + 114


def test_the_table_stands_between_two_marks():
    assert table.between_marks(f"a\n{table.MARK}rows\n{table.MARK}b\n") == "rows\n"
    assert table.between_marks(f"a\n{table.MARK}rows\n") is None
