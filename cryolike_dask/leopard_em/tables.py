"""Reads, checks and writes Leopard-EM's tables of particles as CSV."""

from __future__ import annotations

import csv
import difflib
import io
import os
import tempfile
import warnings
from collections import Counter
from collections.abc import Collection, Hashable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cryolike_dask.errors import InputError, MissingFileError, OutputError
from cryolike_dask.filesystem.file_kind import LEOPARD_EM, foreign_content, other_input, utf16_advice
from cryolike_dask.filesystem.reading import open_input
from cryolike_dask.formatting import first_few, plural
from cryolike_dask.leopard_em.columns import COLUMNS, OPTIONAL_COLUMNS, REQUIRED_COLUMNS

_WHAT = "a CSV table"
_MAX_COLUMNS_SHOWN = 60
_INSTEAD = "give the CSV table that Leopard-EM or `cryolike-dask pick` wrote"
_OTHER_SEPARATORS = {";": "semicolons", "\t": "tabs"}
# Larger whole numbers are not exact in float64, and cannot be positions in a micrograph.
_MAX_EXACT_INTEGER = 2.0**53


def read_match_template_dataframe(path: str | Path) -> pd.DataFrame:
    """Read a match-template or refined table, including older ones.

    Columns are found by name; an unnamed index column is dropped. A table must have the columns on Leopard-EM's format page; other columns
    may be missing.

    Args:
        path: CSV file, `~` allowed.

    Returns:
        One row per particle, known columns first, in the file format's order. Indices, positions and counts are int64; scores,
        angles and relative_defocus float32; other numbers float64; empty cells NaN.

    Raises:
        InputError: the file is missing or is not a CSV table, lacks a column, or a cell of a column of numbers is not a number.
    """
    df = read_csv_table(path)
    check_columns(df, REQUIRED_COLUMNS, path)
    return _in_format_order(df, path)


def write_match_template_dataframe(df: pd.DataFrame, path: str | Path) -> None:
    """Write a match-template or refined table as Leopard-EM does.

    The file has an unnamed index column, all 39 columns, and existing refined columns beside those that they refine. Columns
    that Leopard-EM does not know are at the end.

    Columns that older tables lack are filled in: particle_index with the row, counted from 0, and refined_pixel_size with pixel_size. The
    Zernike columns and mag_matrix stay empty.

    Args:
        df: table as `match_template_results_to_dataframe` or `read_match_template_dataframe` returns it.
        path: CSV file to write; an existing one is replaced when the new one is complete.

    Raises:
        InputError: a column is missing, or a cell of a column of numbers is not a number.
        OutputError: the file cannot be written.
    """
    check_columns(df, REQUIRED_COLUMNS, path)
    # If pandas read a table without `index_col`, the old index is a column.
    complete = df[[name for name in df if not _is_index_column(name)]].reset_index(drop=True)
    filled: dict[str, Any] = {"particle_index": np.arange(len(df)), "refined_pixel_size": complete["pixel_size"]}
    for name in OPTIONAL_COLUMNS:
        if name not in complete:
            complete[name] = filled.get(name)
    write_text_atomic(path, _in_format_order(complete, path).to_csv())


def read_csv_table(path: str | Path, columns: Collection[str] | None = None) -> pd.DataFrame:
    """Read the cells of a CSV table, with numbers as they are in the file.

    Args:
        path: CSV file, `~` allowed.
        columns: read only these columns, if they exist; None for all.

    Raises:
        InputError: the file is missing, is not a CSV table, or names a column twice.
    """
    file = Path(path).expanduser()
    names = _read_header_line(file)
    try:
        with warnings.catch_warnings(), open_input(file, _WHAT) as stream:
            # If a row were longer than the header, for example because of a comma in a path, its cells would be shifted or lost.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            df = pd.read_csv(
                stream,
                header=0,
                names=[name or f"Unnamed: {k}" for k, name in enumerate(names)],
                index_col=False,
                dtype={name: str for name in names if COLUMNS.get(name) is str},
                encoding="utf-8-sig",
                low_memory=False,
            )
    except (ValueError, pd.errors.ParserWarning) as error:
        raise InputError(f"{file} is not a readable CSV table: {str(error).strip()}. Write the table again.") from error
    return df[[name for name in df if not _is_index_column(name) and (columns is None or name in columns)]]


def check_columns(df: pd.DataFrame, names: Iterable[str], path: str | Path) -> None:
    """Refuse a table without these columns. The message names similar ones."""
    missing = [name for name in names if name not in df]
    if not missing:
        return
    by_lower_case = {str(column).lower(): str(column) for column in df}
    hints = []
    for name in missing:
        close = difflib.get_close_matches(name.lower(), by_lower_case, n=1, cutoff=0.8)
        if close and by_lower_case[close[0]] not in COLUMNS:
            hints.append(f"should {by_lower_case[close[0]]} be {name}?")
    columns = first_few([str(column) for column in df.columns], _MAX_COLUMNS_SHOWN)
    has = f"It has {columns}." if columns else "It has no named column."
    raise InputError(
        f"{path} lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)}. {has} "
        f"{' '.join(hint[0].upper() + hint[1:] for hint in hints) or 'Give a match-template or refined table of Leopard-EM.'}"
    )


def numbers(df: pd.DataFrame, name: str, path: str | Path, *, advice: str = "Correct the table.") -> npt.NDArray[np.float64]:
    """A column as (n,) float64.

    Raises:
        InputError: a cell is empty, infinite or not a number; the message names file and row (counted from 1).
    """
    values = _as_floats(df, name, path)
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        cell = df[name].iloc[bad[0]]
        shown = "empty or not a number" if pd.isna(cell) else f"{cell}, which is not finite"
        raise InputError(f"{path}, row {bad[0] + 1}{and_more_rows(bad)}: {name} is {shown}. {advice}")
    return values


def integers(df: pd.DataFrame, name: str, path: str | Path, *, advice: str = "Correct the table.") -> npt.NDArray[np.int64]:
    """A column as (n,) int64.

    Raises:
        InputError: a cell is not a whole number; the message names file and row (counted from 1).
    """
    if df[name].dtype.kind == "i":
        return df[name].to_numpy(dtype=np.int64)
    values = numbers(df, name, path, advice=advice)
    bad = np.flatnonzero((values != np.floor(values)) | (np.abs(values) > _MAX_EXACT_INTEGER))
    if len(bad):
        raise InputError(
            f"{path}, row {bad[0] + 1}{and_more_rows(bad)}: {name} is {values[bad[0]]:g}, not a whole number. {advice}"
        )
    return values.astype(np.int64)


def write_text_atomic(path: str | Path, text: str) -> None:
    """Write a text file. If that fails, no incomplete file is left.

    Raises:
        OutputError: the file cannot be written.
    """
    file = Path(path).expanduser()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=file.parent, prefix=f".{file.name}.", delete=False, encoding="utf-8") as partial:
            try:
                partial.write(text)
                partial.close()
                # Only its owner can read a temporary file; the result gets the permissions of a normal new file.
                os.chmod(partial.name, 0o666 & ~_umask())
                os.replace(partial.name, file)
            except OSError:
                Path(partial.name).unlink(missing_ok=True)
                raise
    except OSError as error:
        raise OutputError(f"{file} cannot be written: {error.strerror or error}. Choose another place, or make room.") from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _in_format_order(df: pd.DataFrame, path: str | Path) -> pd.DataFrame:
    """The same table with the known columns first, in the order and types of the format."""
    columns: dict[Hashable, Any] = {}
    for name in (*(name for name in COLUMNS if name in df), *(name for name in df if name not in COLUMNS)):
        kind = COLUMNS.get(str(name), str)
        if kind is str:
            columns[name] = df[name].to_numpy()
        elif kind is np.int64:
            columns[name] = integers(df, str(name), path)
        else:
            columns[name] = _as_floats(df, str(name), path).astype(kind)
    return pd.DataFrame(columns, index=range(len(df)))


def _as_floats(df: pd.DataFrame, name: str, path: str | Path) -> npt.NDArray[np.float64]:
    """A column as float64, with NaN for empty cells; text is refused."""
    column = df[name]
    if column.dtype.kind in "iuf":
        return column.to_numpy(dtype=np.float64)
    values = pd.to_numeric(column.astype(object).map(str, na_action="ignore"), errors="coerce").to_numpy(dtype=np.float64)
    bad = np.flatnonzero(np.isnan(values) & column.notna().to_numpy())
    if len(bad):
        raise InputError(
            f"{path}, row {bad[0] + 1}{and_more_rows(bad)}: {name} is {column.iloc[bad[0]]!r}, not a number. Correct the table."
        )
    return values


def _is_index_column(name: Hashable) -> bool:
    return str(name).startswith("Unnamed:")


def and_more_rows(bad: npt.NDArray[np.int64]) -> str:
    """' (and 3 more rows)' for a message that names only the first bad row; '' if there is only one."""
    return "" if len(bad) == 1 else f" (and {plural(len(bad) - 1, 'more row')})"


def _read_header_line(file: Path) -> list[str]:
    try:
        with open_input(file, _WHAT) as binary:
            start = binary.read(4096)
        foreign = foreign_content(start) or other_input(start, LEOPARD_EM, _INSTEAD) or utf16_advice(start[:256])
        if foreign:
            raise InputError(f"{file} is {foreign}.")
        with io.TextIOWrapper(open_input(file, _WHAT), encoding="utf-8-sig", newline="") as stream:
            names = [name.strip() for name in next(csv.reader(stream), [])]
    except FileNotFoundError:
        raise MissingFileError(f"The table {file} does not exist. Check the path.") from None
    except OSError as error:
        raise InputError(f"The table {file} cannot be read: {error.strerror or error}.") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{file} is not a CSV table: {error}. Give a match-template or refined table of Leopard-EM.") from error
    separator = next((name for sign, name in _OTHER_SEPARATORS.items() if len(names) == 1 and sign in names[0]), None)
    if separator is not None:
        raise InputError(
            f"{file}: its columns are separated by {separator}, as spreadsheets write them in some languages. Save it with commas between "
            "the columns and points in the numbers."
        )
    repeated = sorted(name for name, times in Counter(names).items() if name and times > 1)
    if repeated:
        raise InputError(f"{file} has more than one column named {first_few(repeated)}. Keep one of them.")
    return names
