"""The page about the architecture lists all rooms, and every file that it names exists."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "cryolike_dask"
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def section(heading: str) -> str:
    return PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]


def test_rooms_are_listed_in_the_order_of_the_contract() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
    (layers,) = (contract["layers"] for contract in contracts if contract["id"] == "rooms")
    height = {name.strip(): number for number, layer in enumerate(layers) for name in re.split(r"[|:]", layer)}
    listed = re.findall(r"^\| `(\w+)(?:\.py)?` \|", section("Rooms"), flags=re.MULTILINE)
    assert set(listed) >= {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert [height[name] for name in listed] == sorted(height[name] for name in listed)


def test_files_to_change_exist() -> None:
    named = re.findall(r"`([a-z_/]+\.(?:py|yaml))`", PAGE)
    assert len(named) > 30
    assert [name for name in named if not (PACKAGE / name).exists()] == []
    folders = re.findall(r"a module in `([a-z_/]+)`", PAGE)
    assert folders
    assert [name for name in folders if not (PACKAGE / name).is_dir()] == []
