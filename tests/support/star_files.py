"""STAR files written by hand, line by line, and a simple reader to compare with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

OPTICS = {
    "rlnOpticsGroup": ["1", "2"],
    "rlnOpticsGroupName": ["first", "second"],
    "rlnVoltage": ["300.0", "200.0"],
    "rlnSphericalAberration": ["2.7", "0.01"],
    "rlnAmplitudeContrast": ["0.1", "0.07"],
    "rlnImagePixelSize": ["1.31", "2.62"],
}
PARTICLES = {
    "rlnImageName": ["000002@stacks/b.mrcs", "000001@stacks/a.mrcs", "000007@stacks/b.mrcs", "000003@stacks/a.mrcs"],
    "rlnDefocusU": ["13108.08", "12906.01", "12730.82", "9990.5"],
    "rlnDefocusV": ["12845.58", "12643.51", "12468.32", "9881.25"],
    "rlnDefocusAngle": ["-160.39", "45", "0.0", "88.125"],
    "rlnOpticsGroup": ["1", "2", "2", "1"],
}
SINGLE = {
    "rlnImageName": PARTICLES["rlnImageName"],
    "rlnDefocusU": PARTICLES["rlnDefocusU"],
    "rlnDefocusV": PARTICLES["rlnDefocusV"],
    "rlnDefocusAngle": PARTICLES["rlnDefocusAngle"],
    "rlnVoltage": ["300"] * 4,
    "rlnSphericalAberration": ["2.7"] * 4,
}
"""A table as in RELION 3.0: one block, with the microscope in every row."""

Table = dict[str, list[str]]


def loop(name: str, table: Table) -> list[str]:
    """The lines of a block with one row per line."""
    columns = [f"_{column} #{number}" for number, column in enumerate(table, 1)]
    return [f"data_{name}", "", "loop_", *columns, *(" ".join(row) for row in zip(*table.values(), strict=True)), ""]


def pairs(name: str, table: Table) -> list[str]:
    """The lines of a block with one name and value per line."""
    return [f"data_{name}", "", *(f"_{column} {values[0]}" for column, values in table.items()), ""]


def text(*blocks: Sequence[str]) -> str:
    return "\n".join(line for block in blocks for line in ["# version 30001", "", *block]) + "\n"


def write(folder: Path, content: str | bytes, name: str = "particles.star") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def with_column(table: Table, column: str, values: Sequence[str] | str) -> Table:
    """The table with a column added or replaced; one value for all rows or one for each."""
    n = len(next(iter(table.values())))
    return {**table, column: [values] * n if isinstance(values, str) else list(values)}


def without_column(table: Table, column: str) -> Table:
    return {name: values for name, values in table.items() if name != column}


def column_of(path: Path, column: str) -> list[str]:
    """One column of the last block, found by splitting lines at blanks; correct for files without quotation marks."""
    lines = path.read_text().split("data_")[-1].splitlines()[1:]
    names = [line.split()[0] for line in lines if line.startswith("_")]
    rows = [line.split() for line in lines if line.strip() and line[0] not in "_#" and not line.startswith("loop_")]
    return [row[names.index(f"_{column}")] for row in rows]
