"""The particle and optics tables of a STAR file, with the line number of each row for messages."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import starfile

from cryolike_dask.errors import CryolikeError, InputError
from cryolike_dask.filesystem.file_kind import other_kind_of_file, other_kind_of_table
from cryolike_dask.filesystem.pinned import temporary_folder
from cryolike_dask.particles.star.text import StarBlock, StarText, decode

_TEXT_COLUMNS = ("ImageName", "OpticsGroupName")
_MAX_ROWS_SHOWN = 3  # bad rows that a message names


@dataclass(frozen=True)
class StarTable:
    """One table of a STAR file, with some of its columns.

    Args:
        path: the STAR file.
        block: name of the block, without 'data_'.
        frame: the requested columns that the file has, without 'rln'.
        columns: names of all columns, as in the file.
        lines: (n,) line number of each row, counted from 1.
    """

    path: Path
    block: str
    frame: pd.DataFrame
    columns: tuple[str, ...]
    lines: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.frame)

    def __contains__(self, column: str) -> bool:
        return column in self.frame.columns

    def where(self, rows: Any) -> str:
        """How to name some rows (positions from 0) in a message: 'line 57 (row 3)' for the first few."""
        rows = np.atleast_1d(rows)
        named = ", ".join(f"line {self.lines[row]} (row {row + 1})" for row in rows[:_MAX_ROWS_SHOWN])
        return named + (f" and {len(rows) - _MAX_ROWS_SHOWN} more" if len(rows) > _MAX_ROWS_SHOWN else "")

    def text(self, column: str) -> list[str]:
        """The values of a text column in the form of plain text, which `decode` converts to text.

        Raises:
            InputError: a value is missing.
        """
        values = self.frame[column]
        if values.isna().any():
            rows = np.flatnonzero(values.isna().to_numpy())
            raise InputError(f"{self.path}: rln{column} is missing in {self.where(rows)} of 'data_{self.block}'. Fill it in.")
        return [str(value) for value in values.tolist()]

    def numbers(self, column: str, used: npt.NDArray[np.integer[Any]] | None = None) -> npt.NDArray[np.float64]:
        """The values of a column of numbers, (n,) float64.

        Args:
            column: its name without 'rln'.
            used: the rows that are needed, ascending; in the others, text becomes NaN. None for all rows.

        Raises:
            InputError: a value is not a finite number; the message names the first such rows.
        """
        series = self.frame[column]
        values = np.full(len(series), np.nan)
        if not pd.api.types.is_bool_dtype(series):
            values = pd.to_numeric(series, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
        bad = np.flatnonzero(~np.isfinite(values))
        if used is not None:
            bad = np.intersect1d(bad, used)
        if len(bad):
            shown = ", ".join(repr(decode(str(series.iloc[row]))) for row in bad[:_MAX_ROWS_SHOWN])
            raise InputError(
                f"{self.path}: rln{column} must be a finite number in every row of 'data_{self.block}', but is {shown} in "
                f"{self.where(bad)}. Correct or remove these rows{'' if len(bad) < len(series) else ', or the column'}."
            )
        return values

    def similar(self, column: str, likeness: float) -> str | None:
        """The column, as the file names it, whose name is most similar to a missing one; None if none is similar.

        A likeness of 1 means the same name, except for upper and lower case.
        """
        plain = {_plain_name(name).lower(): name for name in self.columns if _plain_name(name) not in self}
        return next((plain[name] for name in difflib.get_close_matches(column.lower(), plain, n=1, cutoff=likeness)), None)


def read_star_tables(path: Path, columns: Collection[str]) -> tuple[StarTable, StarTable | None, tuple[str, ...]]:
    """Read the particle table of a STAR file and, if there is one, its optics table.

    `starfile` reads a plain copy with only the requested columns, because its time and memory grow with every column, and plain text
    contains nothing that it misreads.

    Args:
        path: the STAR file.
        columns: the requested columns, without 'rln'; those that the file lacks are left out.

    Returns:
        The particles, the optics groups, and what the user should know about the file.

    Raises:
        InputError: the file cannot be read, is damaged, or has no single particle table.
    """
    try:
        with temporary_folder() as folder:
            copy = folder / "plain.star"
            selected, warnings = _write_plain_copy(path, copy, columns)
            frames = _parse(path, copy)
    except OSError as error:
        if isinstance(error, CryolikeError):
            raise
        raise InputError(f"A temporary copy of {path} cannot be written: {error}. Make room there, or set TMPDIR.") from error
    tables = {}
    for key, (block, positions) in selected.items():
        frame = frames.get(key)
        names = [_plain_name(block.columns[i]) for i in positions]
        if not isinstance(frame, pd.DataFrame) or list(frame.columns) != names or len(frame) != len(block.rows):
            raise InputError(
                f"{path}: the {len(block.rows):,} rows of 'data_{block.name}' (line {block.line}) cannot be read as STAR. Write "
                "the file again with the program that made it."
            )
        tables[key] = StarTable(path, block.name, frame, _decoded(block.columns), block.rows)
    return tables["particles"], tables.get("optics"), warnings


def _write_plain_copy(
    path: Path, copy: Path, columns: Collection[str]
) -> tuple[dict[str, tuple[StarBlock, list[int]]], tuple[str, ...]]:
    """Write the requested columns of both tables. Returns the blocks with the positions of these columns, and warnings."""
    text = StarText(path)
    blocks = {block.name: block for block in text.blocks()}
    another_kind = other_kind_of_file(path, {name: _decoded(block.columns) for name, block in blocks.items()})
    if another_kind is not None:
        raise InputError(another_kind)
    selected = {"particles": particle_block(path, blocks)}
    if "optics" in blocks:
        selected["optics"] = blocks["optics"]
    found = {}
    for key, block in selected.items():
        if not len(block.rows):
            raise InputError(f"{path}: block 'data_{block.name}' on line {block.line} has no rows. Write it again.")
        positions = [i for i, name in enumerate(block.columns) if _plain_name(name) in columns]
        if not positions:
            raise InputError(
                other_kind_of_table(path, _decoded(block.columns))
                or f"{path}: block 'data_{block.name}' on line {block.line} has none of the columns of a particle set, but "
                f"has {', '.join(block.columns[:20])}. Give the STAR file of extracted particles."
            )
        found[key] = (block, positions)
    with copy.open("wb") as file:
        for key, (block, positions) in found.items():
            names = "".join(f"_{_plain_name(block.columns[i])}\n" for i in positions)
            file.write(f"data_{key}\n\nloop_\n{names}".encode())
            file.writelines(text.select_columns(block, positions))
            file.write(b"\n")
    complete = () if text.ends_with_newline else (f"{path} does not end with a line break: its last row may have been cut off.",)
    return found, complete


def _parse(path: Path, copy: Path) -> dict[str, pd.DataFrame]:
    try:
        return dict(starfile.read(copy, always_dict=True, parse_as_string=list(_TEXT_COLUMNS)))
    except (ValueError, TypeError, LookupError) as error:
        raise InputError(f"{path} cannot be read as STAR: {error}. Write it again with the program that made it.") from error


def _decoded(columns: Iterable[str]) -> tuple[str, ...]:
    return tuple(decode(name) for name in columns)


def _plain_name(column: str) -> str:
    return column.removeprefix("rln")


def particle_block(path: Path, blocks: dict[str, StarBlock]) -> StarBlock:
    """The block that holds the particles.

    Raises:
        InputError: there is none, or more than one block may hold them.
    """
    if "particles" in blocks:
        return blocks["particles"]
    candidates = [block for name, block in blocks.items() if name not in ("optics", "general") and block.columns]
    marked = [block for block in candidates if {name.removeprefix("rln") for name in block.columns} & {"ImageName", "DefocusU"}]
    for choice in (marked, candidates):
        if len(choice) == 1:
            return choice[0]
    names = ", ".join(f"'data_{name}'" for name in blocks)
    raise InputError(
        f"{path}: no single block holds the particles; the file has {names}. Give the table of the particles, or, if one of these "
        "blocks is that table, name it 'data_particles'."
    )
