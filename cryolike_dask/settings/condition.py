"""The grammar of `where`, a condition that chooses particles. The text becomes a tree, and is never executed as code.

    condition  = part { "or" part }
    part       = factor { "and" factor }
    factor     = "not" factor | "(" condition ")" | comparison
    comparison = operand { ("<" | "<=" | ">" | ">=" | "==" | "!=") operand } | operand ["not"] "in" list
    list       = "[" value { "," value } "]", or the same in parentheses
    operand    = column | value
    value      = number | "text" | 'text'

A column is a word such as `defocus_u`, `rlnDefocusU` or `ctf/df1_A`. The meaning is the same as in Python.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from cryolike_dask.errors import InputError


@dataclass(frozen=True)
class Column:
    """The name of a column."""

    name: str


@dataclass(frozen=True)
class Comparison:
    """`a < b`, or a chain such as `a < b <= c`: one operator between two operands."""

    operands: tuple[Operand, ...]
    operators: tuple[str, ...]


@dataclass(frozen=True)
class Membership:
    """`operand in (value, ...)`."""

    operand: Operand
    values: tuple[Value, ...]


@dataclass(frozen=True)
class Not:
    """`not part`."""

    part: Condition


@dataclass(frozen=True)
class Combined:
    """Parts joined by one `word`, 'and' or 'or'."""

    word: str
    parts: tuple[Condition, ...]


Value = int | float | str
Operand = Column | Value
Condition = Comparison | Membership | Not | Combined

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w.]))
      | (?P<word>[A-Za-z_]\w*(?:/\w+)*)
      | (?P<text>"[^"]*"|'[^']*')
      | (?P<sign><=|>=|==|!=|<|>|\(|\)|\[|\]|,|\+|-)
      | (?P<end>$)
    )""",
    re.VERBOSE | re.ASCII,
)
_COMPARISONS = ("<", "<=", ">", ">=", "==", "!=")
_KEYWORDS = ("and", "or", "not", "in")
_PYTHONS = {"&": "and", "|": "or", "~": "not", "!": "not", "=": "=="}  # by the sign that a user may write instead
_DEEPEST = 50  # levels of nested parentheses and `not`
_LARGEST = 2**64  # integers from this value on are read as floats


def parse_condition(text: str) -> Condition:
    """The tree of a condition.

    Raises:
        InputError: the text is not a condition; the message marks the error.

    Example:
        >>> parse_condition("defocus_u < 15000")
        Comparison(operands=(Column(name='defocus_u'), 15000), operators=('<',))
    """
    if not isinstance(text, str):
        raise InputError(f"where is {text!r}: give a condition as text, such as 'defocus_u < 15000'.")
    return _Parser(text).whole()


def column_names(condition: Condition) -> list[str]:
    """The names of the columns in a condition, each once."""
    match condition:
        case Comparison(operands):
            found = [operand.name for operand in operands if isinstance(operand, Column)]
        case Membership(operand):
            found = [operand.name] if isinstance(operand, Column) else []
        case Not(part):
            found = column_names(part)
        case Combined(_, parts):
            found = [name for part in parts for name in column_names(part)]
    return list(dict.fromkeys(found))


class _Parser:
    """Reads a condition from left to right. `kind`, `token` and `start` describe the next token."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._end = 0
        self._depth = 0
        self.kind, self.token, self.start = "", "", 0
        self._advance()

    def whole(self) -> Condition:
        condition = self._condition()
        if self.kind != "end":
            self._fail("'and', 'or' or the end of the condition is expected here")
        return condition

    def _advance(self) -> str:
        """Move on by one token. Returns the token that was next before."""
        before = self.token
        match = _TOKEN.match(self._text, self._end)
        if match is None:
            self.start = self._end + len(self._text[self._end :]) - len(self._text[self._end :].lstrip())
            self._fail_at_character()
        assert match.lastgroup is not None
        self.kind, self.token, self.start = match.lastgroup, match[match.lastgroup], match.start(match.lastgroup)
        self._end = match.end()
        return before

    def _fail_at_character(self) -> NoReturn:
        sign = self._text[self.start]
        if sign in "'\"":
            self._fail("this quotation mark is not closed")
        if sign in _PYTHONS:
            self._fail(f"{sign} has no meaning here: write {_PYTHONS[sign]}")
        self._fail("this is not a number" if sign.isdigit() else f"{sign} has no meaning here")

    def _fail(self, what: str) -> NoReturn:
        shown = re.sub(r"\s", " ", self._text)
        raise InputError(f"The condition of where (--where) cannot be read: {what}.\n  {shown}\n  {' ' * self.start}^")

    def _condition(self) -> Condition:
        return self._joined("or", self._part)

    def _part(self) -> Condition:
        return self._joined("and", self._factor)

    def _joined(self, word: str, one: Callable[[], Condition]) -> Condition:
        parts = [one()]
        while self._next_is(word):
            self._advance()
            parts.append(one())
        return parts[0] if len(parts) == 1 else Combined(word, tuple(parts))

    def _factor(self) -> Condition:
        if not (self._next_is("not") or self._next_is("(")):
            return self._comparison()
        self._depth += 1
        if self._depth > _DEEPEST:
            self._fail(f"parentheses and 'not' are nested more than {_DEEPEST} levels deep")
        if self._advance() == "not":
            factor: Condition = Not(self._factor())
        else:
            factor = self._condition()
            self._take(")", "a closing parenthesis is missing")
        self._depth -= 1
        return factor

    def _comparison(self) -> Condition:
        operands: list[Operand] = [self._operand()]
        operators: list[str] = []
        if self._next_is("in") or self._next_is("not"):
            negated = self._advance() == "not"
            if negated:
                self._take("in", "'in' is missing after 'not'")
            member = Membership(operands[0], self._list())
            return Not(member) if negated else member
        while self.kind == "sign" and self.token in _COMPARISONS:
            operators.append(self._advance())
            operands.append(self._operand())
        if not operators:
            self._fail("a comparison is missing, such as < 15000 or == 'name'")
        if not any(isinstance(operand, Column) for operand in operands):
            self._fail("the comparison before this has no column")
        return Comparison(tuple(operands), tuple(operators))

    def _list(self) -> tuple[Value, ...]:
        closing = {"[": "]", "(": ")"}.get(self.token) if self.kind == "sign" else None
        if closing is None:
            self._fail("'in' needs a list, such as in [1, 2] or in ['a', 'b']")
        self._advance()
        values = [self._value()]
        while self._next_is(","):
            self._advance()
            if self._next_is(closing):
                break
            values.append(self._value())
        self._take(closing, f"the list needs a comma or its closing {closing}")
        return tuple(values)

    def _operand(self) -> Operand:
        if self.kind != "word":
            return self._value()
        if self.token.lower() in _KEYWORDS:
            self._fail("a column or a value is expected here")
        return Column(self._advance())

    def _value(self) -> Value:
        if self.kind == "text":
            return self._advance()[1:-1]
        sign = 1
        if self.kind == "sign" and self.token in "+-":
            sign = -1 if self._advance() == "-" else 1
        if self.kind != "number":
            self._fail("a number or a text in quotation marks is expected here")
        token = self.token
        number = int(token) if token.isdigit() and len(token) < 25 and int(token) < _LARGEST else float(token)
        if number == float("inf"):
            self._fail("this number is too large")
        self._advance()
        return sign * number

    def _next_is(self, token: str) -> bool:
        if self.kind == "word" and self.token != token and self.token.lower() == token:
            self._fail(f"write {token} in lower case")
        return self.kind in ("word", "sign") and self.token == token

    def _take(self, token: str, otherwise: str) -> None:
        if not self._next_is(token):
            self._fail(otherwise)
        self._advance()
