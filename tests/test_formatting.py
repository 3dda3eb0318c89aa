"""Formatting of numbers for people."""

from __future__ import annotations

import math

import pytest

from cryolike_dask.formatting import first_few, format_box, format_bytes, format_number, format_time, is_or_are, plural, rate


@pytest.mark.parametrize(
    ("n", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (1536, "1.5 kB"),
        (123_456_789, "123 MB"),
        (999_600, "1.0 MB"),
        (1.5e12, "1.5 TB"),
        (2.5e15, "2.5 PB"),
        (math.nan, "unknown"),
        (math.inf, "unknown"),
    ],
)
def test_bytes(n: float, text: str) -> None:
    assert format_bytes(n) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (3599.6, "1 h 0 min"),
        (7260, "2 h 1 min"),
        (200_000, "2 days 7 h"),
        (math.nan, "unknown"),
        (-1, "unknown"),
    ],
)
def test_seconds(seconds: float, text: str) -> None:
    assert format_time(seconds) == text


@pytest.mark.parametrize(("n", "text"), [(3, "3"), (3.14159, "3.1"), (12345.6, "12,346"), (math.nan, "unknown")])
def test_counts(n: float, text: str) -> None:
    assert format_number(n) == text


def test_a_box_has_one_width_or_two() -> None:
    assert format_box((64, 64), (2.0, 2.0)) == "64 × 64 pixels, 128 Å"
    assert format_box((32, 48), (2.0, 2.0)) == "32 × 48 pixels, 64 × 96 Å"


def test_one_is_singular() -> None:
    assert (plural(1, "image"), plural(0, "image"), plural(2000, "stack")) == ("1 image", "0 images", "2,000 stacks")


def test_a_rate_before_any_time_is_unknown() -> None:
    assert math.isnan(rate(5, 0.0))
    assert rate(5, 2.0) == 2.5


def test_verbs_agree_with_their_number() -> None:
    assert [f"{plural(n, 'stack')} {is_or_are(n)}" for n in (0, 1, 2)] == ["0 stacks are", "1 stack is", "2 stacks are"]


def test_long_lists_are_cut() -> None:
    assert first_few(["a", "b", "c"], 3) == "a, b, c"
    assert first_few([str(n) for n in range(1203)], 2) == "0, 1 and 1,201 more"
