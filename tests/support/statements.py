"""Links statements in the guide to the tests that show them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

DOCS = Path(__file__).resolve().parents[2] / "docs"
Test = TypeVar("Test", bound=Callable[..., object])


def table(page: str, heading: str) -> list[list[str]]:
    """The cells of each row below a heading, without its header; code keeps its backticks."""
    rows = [line for line in _section(page, heading).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[2:]]


def bullets(page: str, heading: str) -> list[str]:
    """The points of a list below a heading, each on one line."""
    points = re.findall(r"^- (.*?)(?=^- |\Z|^$)", _section(page, heading), flags=re.MULTILINE | re.DOTALL)
    return [" ".join(point.split()) for point in points]


def _section(page: str, heading: str) -> str:
    """The text from a heading to the next one of any level."""
    text = (DOCS / page).read_text(encoding="utf-8")
    found = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#|\Z)", text, flags=re.MULTILINE | re.DOTALL)
    assert found, heading
    return found.group(1)


class Shown:
    """Statements that tests show. Each is the exact text of the page, so that neither can change without the other."""

    def __init__(self) -> None:
        self.statements: list[str] = []

    def __call__(self, *statements: str) -> Callable[[Test], Test]:
        """A decorator for the test of these statements."""
        self.statements += statements
        return lambda test: test
