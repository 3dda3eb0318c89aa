"""Each guarantee in the guide names the test that shows it, and the test must exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


@pytest.mark.parametrize("document", ["reliability.md", "security.md"])
def test_every_test_that_a_document_names_exists(document: str) -> None:
    named = NAMED.findall((ROOT / "docs" / document).read_text(encoding="utf-8"))
    assert named
    missing = [f"{file}::{name}" for file, name in named if name not in functions(ROOT / file)]
    assert missing == []


def test_every_fault_that_is_tested_is_documented() -> None:
    text = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    tested = {name for path in (ROOT / "tests" / "chaos").glob("test_*.py") for name in functions(path) if name.startswith("test_")}
    documented = {name for _, name in NAMED.findall(text)}
    assert tested - documented == {
        "test_a_broken_pipe_of_the_output_does_not_matter_to_the_stacks",
        "test_a_killed_run_that_is_overwritten_leaves_nothing",
    }


def functions(path: Path) -> set[str]:
    return {node.name for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.FunctionDef)}
