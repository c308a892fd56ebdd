"""The search expressions for series: from text to a test.

Grammar, keywords in either case::

    any       = all {"OR" all}
    all       = one {"AND" one}
    one       = "NOT" one | "(" any ")" | operand operator value
    operand   = "parameter." NAME | "parameter." STRING | FIELD
    operator  = "=" | "==" | "!=" | "<" | "<=" | ">" | ">="
    value     = STRING | NUMBER | WORD

A STRING stands in single or double quotes, in which a backslash takes the next character as it is. Fields are
those of ``FIELDS``. Of the real server's language only ``parameter.NAME OPERATOR VALUE`` joined by ``AND`` is
known; the rest is what one expects of such a language. What can not be understood is refused, because a wrong
hit list is worse than none.

Meaning.  An operand may have several values: a parameter may be a list, or be in several sets. A comparison holds
when one of them fulfils it; numbers are compared with numbers and text with text, all else does not hold. So
``!=`` finds what has another value too, and ``NOT`` what has no such value.

Nothing is evaluated but comparisons of values: an expression can name no code.

Failure.  ``ExpressionError`` with the place and what was expected there.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

Values = Callable[[str], Sequence[Any]]  # an operand (``parameter.TR`` or a field) to its values
Test = Callable[[Values], bool]

PARAMETER = "parameter."
FIELDS = (
    "name",
    "uid",
    "id",
    "acquisition_number",
    "rating",
    "tag",
    "exam.name",
    "exam.uid",
    "patient.name",
    "patient.id",
)

_MAX_DEPTH = 50  # of parentheses and NOT, which are parsed by recursion; Python allows some hundreds
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_TOKEN = re.compile(
    r"""\s*(?:(?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|(?P<sign><=|>=|!=|==|=|<|>)"""
    r"""|(?P<bracket>[()])|(?P<word>[^\s()<>=!"']+))""",
    re.DOTALL,
)
_JOINING = ("and", "or", "not")


class ExpressionError(ValueError):
    """The expression can not be understood; the text says where and why."""


class _Token(NamedTuple):
    kind: str  # string, sign, bracket, word, end
    text: str
    start: int


def parse(text: str) -> Test:
    """Return the test that *text* stands for. Raises ExpressionError."""
    parser = _Parser(text)
    test = parser.any(0)
    parser.expect_end()
    return test


class _Parser:
    """One expression, read from left to right; each method parses one rule of the grammar."""

    def __init__(self, text: str) -> None:
        self._tokens = _tokens(text)
        self._position = 0

    def any(self, depth: int) -> Test:
        tests = [self._all(depth)]
        while self._take_word("or"):
            tests.append(self._all(depth))
        return tests[0] if len(tests) == 1 else lambda values: any(test(values) for test in tests)

    def expect_end(self) -> None:
        if self._next.kind != "end":
            raise self._error("AND, OR or the end")

    @property
    def _next(self) -> _Token:
        return self._tokens[self._position]

    def _take(self) -> _Token:
        token = self._next
        self._position += 1
        return token

    def _take_word(self, word: str) -> bool:
        if self._next.kind == "word" and self._next.text.lower() == word:
            self._position += 1
            return True
        return False

    def _error(self, expected: str) -> ExpressionError:
        token = self._next
        found = "the end" if token.kind == "end" else repr(token.text)
        return ExpressionError(
            f"Cannot understand the expression at character {token.start + 1}: expected {expected}, not {found}."
        )

    def _all(self, depth: int) -> Test:
        tests = [self._one(depth)]
        while self._take_word("and"):
            tests.append(self._one(depth))
        return tests[0] if len(tests) == 1 else lambda values: all(test(values) for test in tests)

    def _one(self, depth: int) -> Test:
        if depth > _MAX_DEPTH:
            raise ExpressionError(f"Cannot understand the expression: nested more than {_MAX_DEPTH} deep.")
        if self._take_word("not"):
            inner = self._one(depth + 1)
            return lambda values: not inner(values)
        if self._next.kind == "bracket" and self._next.text == "(":
            self._take()
            inside = self.any(depth + 1)
            if self._next.text != ")" or self._next.kind != "bracket":
                raise self._error("AND, OR or )")
            self._take()
            return inside
        return self._comparison()

    def _comparison(self) -> Test:
        name = self._operand()
        if self._next.kind != "sign":
            raise self._error("one of " + " ".join(_COMPARE))
        compare = _COMPARE[self._take().text]
        wanted = self._value()
        # bool is an int, but no client means 1 by it.
        kinds: tuple[type, ...] = (str,) if isinstance(wanted, str) else (int, float)
        return lambda values: any(
            isinstance(value, kinds) and not isinstance(value, bool) and compare(value, wanted)
            for value in values(name)
        )

    def _operand(self) -> str:
        token = self._next
        if token.kind != "word" or token.text.lower() in _JOINING:
            raise self._error(f"parameter.NAME or one of {', '.join(FIELDS)}")
        if token.text == PARAMETER:
            following = self._tokens[self._position + 1]
            if following.kind == "string" and following.start == token.start + len(token.text):
                self._position += 2
                return PARAMETER + _unquoted(following.text)
        is_parameter = token.text.startswith(PARAMETER) and token.text != PARAMETER
        if not is_parameter and token.text not in FIELDS:
            raise self._error(f"parameter.NAME or one of {', '.join(FIELDS)}")
        return self._take().text

    def _value(self) -> float | str:
        token = self._next
        if token.kind == "string":
            return _unquoted(self._take().text)
        if token.kind != "word" or token.text.lower() in _JOINING:
            raise self._error("a number or a string in quotes")
        self._take()
        try:
            return float(token.text)
        except ValueError:
            return token.text


def _tokens(text: str) -> list[_Token]:
    tokens = []
    text = text.rstrip()
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:  # a quotation mark without a second one, or a lone "!"
            rest = text[position:].lstrip()
            raise ExpressionError(
                f"Cannot understand the expression at character {len(text) - len(rest) + 1}: {rest[:20]!r}."
            )
        kind = match.lastgroup
        assert kind is not None
        tokens.append(_Token(kind, match[kind], match.start(kind)))
        position = match.end()
    return [*tokens, _Token("end", "", len(text))]


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1], flags=re.DOTALL)
