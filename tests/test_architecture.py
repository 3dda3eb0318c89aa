"""The rooms of the package are small enough to read, and each has a folder of tests. `make lint` checks the imports."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "cryolike_dask"
MODULES = sorted(PACKAGE.rglob("*.py"))
ROOMS = sorted(path.parent for path in MODULES if path.name == "__init__.py")


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_no_module_is_over_300_lines() -> None:
    lines = {name(path): len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    assert len(lines) > 50
    assert {path: n for path, n in lines.items() if n > 300} == {}


@pytest.mark.parametrize("room", ROOMS, ids=name)
def test_no_room_has_more_than_14_modules(room: Path) -> None:
    modules = [path.name for path in room.glob("*.py") if path.name != "__init__.py"]
    assert len(modules) <= 14, modules


def test_at_most_a_dozen_modules_are_in_no_room() -> None:
    assert len([path for path in PACKAGE.glob("*.py") if path.name != "__init__.py"]) <= 12


@pytest.mark.parametrize("room", ROOMS, ids=name)
def test_every_room_says_what_it_is_for(room: Path) -> None:
    assert ast.get_docstring(ast.parse((room / "__init__.py").read_text(encoding="utf-8")))


@pytest.mark.parametrize("room", [room for room in ROOMS if room.parent == PACKAGE], ids=name)
def test_every_room_has_tests_of_its_name(room: Path) -> None:
    assert list((ROOT / "tests" / room.name).glob("test_*.py"))
