"""The grammar of `where`: valid conditions, and the places that messages about invalid ones mark."""

from __future__ import annotations

import pytest

from cryolike_dask.errors import InputError
from cryolike_dask.settings import ConversionSettings
from cryolike_dask.settings.condition import (
    Column,
    Combined,
    Comparison,
    Membership,
    Not,
    column_names,
    parse_condition,
)


def test_and_binds_closer_than_or_and_not_closer_than_both() -> None:
    a, b, c = (Comparison((Column(name), 1), ("<",)) for name in "abc")
    assert parse_condition("a < 1 or b < 1 and c < 1") == Combined("or", (a, Combined("and", (b, c))))
    assert parse_condition("not a < 1 and b < 1") == Combined("and", (Not(a), b))
    assert parse_condition("not (a < 1 and b < 1)") == Not(Combined("and", (a, b)))


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ("10 < a <= 20.5", Comparison((10, Column("a"), 20.5), ("<", "<="))),
        ("ctf/df1_A<1e4", Comparison((Column("ctf/df1_A"), 10000.0), ("<",))),
        ("a == -3", Comparison((Column("a"), -3), ("==",))),
        ("uid == 17890123456789012345", Comparison((Column("uid"), 17890123456789012345), ("==",))),
        ("""a != 'it"s'""", Comparison((Column("a"), 'it"s'), ("!=",))),
        ("a in [1, 'b', ]", Membership(Column("a"), (1, "b"))),
        ("a not in (1,)", Not(Membership(Column("a"), (1,)))),
    ],
)
def test_comparisons_and_lists(text: str, condition: object) -> None:
    assert parse_condition(text) == condition
    assert parse_condition(f"  {text.replace(' ', '  ')}\n") == condition


@pytest.mark.parametrize(
    ("text", "place", "what"),
    [
        ("", 0, "expected"),
        ("defocus_u", 9, "comparison is missing"),
        ("a <", 3, "expected"),
        ("a < 15000A", 4, "not a number"),
        ("a < 1.2.3", 4, "not a number"),
        ("a < 1e999", 4, "too large"),
        ("a < 1 b < 2", 6, "'and', 'or'"),
        ("a = 1", 2, "write =="),
        ("a < 1 & b < 2", 6, "write and"),
        ("a < 1 AND b < 2", 6, "write and in lower case"),
        ("(a < 1", 6, "parenthesis"),
        ("a < 1)", 5, "the end of the condition"),
        ("a == 'x", 5, "not closed"),
        ("1 < 2", 5, "no column"),
        ("a in 5", 5, "needs a list"),
        ("a in []", 6, "expected"),
        ("a in [1 2]", 8, "comma"),
        ("a not 5", 6, "'in' is missing"),
        ("a + 1 < 2", 2, "comparison is missing"),
        ("__import__('os').system('x')", 10, "comparison is missing"),
        ("(" * 60 + "a < 1" + ")" * 60, 50, "nested more than 50 levels"),
    ],
)
def test_a_syntax_error_shows_its_place(text: str, place: int, what: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_condition(text)
    message, shown, arrow = str(caught.value).split("\n")
    assert what in message
    assert shown == f"  {text}"
    assert arrow.index("^") - 2 == place


def test_columns_are_listed_once() -> None:
    assert column_names(parse_condition("a < 1 and (b in [2] or not a == c) and 0 < d < e")) == ["a", "b", "c", "d", "e"]


def test_settings_refuse_an_invalid_condition_before_anything_is_read() -> None:
    with pytest.raises(InputError, match="cannot be read"):
        ConversionSettings(where="defocus_u <")
    with pytest.raises(InputError, match="as text"):
        ConversionSettings(where=3)  # type: ignore[arg-type]
