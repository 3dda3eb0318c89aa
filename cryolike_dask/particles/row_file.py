"""Files of row numbers that choose particles: `.npy` arrays of numbers or of True and False, or text."""

from __future__ import annotations

import io
import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cryolike_dask.errors import InputError, MissingFileError
from cryolike_dask.filesystem.paths import input_path
from cryolike_dask.filesystem.reading import UNREADABLE_ARRAY, ObjectArrayError, read_array, read_input
from cryolike_dask.formatting import plural

_WHAT = "a file of row numbers"
_NPY, _ZIP, _PICKLE = b"\x93NUMPY", b"PK\x03\x04", b"\x80"


def read_row_file(path: str, n: int) -> npt.NDArray[np.int64]:
    """Read the rows of a table that a file names, ascending.

    Args:
        path: a `.npy` file with a one-dimensional array, of row numbers or a mask, or a text file with a number on each line. Blank
            lines, and text after a '#', are ignored.
        n: number of rows of the table.

    Raises:
        InputError: it is not such a file, or it names no rows, or rows that are out of range, negative or named twice. The message names
            the line, or the element of the array.
    """
    file = input_path(path)
    try:
        content = read_input(file, _WHAT)
    except FileNotFoundError:
        raise MissingFileError(f"{path} does not exist: check the path of ind (--ind).") from None
    except OSError as error:
        raise InputError(f"{path}, given as ind (--ind), cannot be read: {error.strerror or error}.") from error
    if file.suffix.lower() in (".pkl", ".pickle") or content.startswith(_PICKLE):
        raise InputError(_about_pickle(path))
    if content.startswith(_ZIP):
        raise InputError(f"{path} is an archive (.npz): give one array as .npy, with numpy.save, or text with one number per line.")
    if content.startswith(_NPY):
        return _of_array(path, content, n)
    return _of_text(path, content, n)


def check_rows(
    rows: npt.NDArray[Any], n: int, where: str = "ind", places: npt.NDArray[np.int64] | None = None
) -> npt.NDArray[np.int64]:
    """Row numbers, or a mask, as ascending row numbers.

    Args:
        rows: (k,) whole numbers, or an (n,) mask.
        n: number of rows of the table.
        where: where the rows come from, for messages.
        places: (k,) lines of a file in which they are, counted from 1; None for elements of an array, counted from 0.

    Raises:
        InputError: there are no rows, or rows are out of range, negative or named twice, or the mask is of another table.
    """
    if rows.dtype == bool:
        if len(rows) != n:
            raise InputError(
                f"{where} has {plural(len(rows), 'value')} (True or False), and the table has {plural(n, 'row')}: give one value per row."
            )
        rows = np.flatnonzero(rows)
        if not len(rows):
            raise InputError(f"{where} is False for all {n:,} rows of the table: no particle is left.")
        return rows
    if not len(rows):
        raise InputError(f"{where} is empty: give at least one row.")

    def place(position: int) -> str:
        return f"element {position}" if places is None else f"line {places[position]}"

    wrong = np.flatnonzero((rows < 0) | (rows >= n))
    if len(wrong):
        first, more = int(wrong[0]), f" (and {plural(len(wrong) - 1, 'more such row')})" if len(wrong) > 1 else ""
        raise InputError(
            f"{where}, {place(first)}: there is no row {rows[first]}{more}. The table has {plural(n, 'row')}, counted from 0, so the "
            f"last one is {n - 1}. Check that the rows are those of this table, and not of a part of it."
        )
    order = np.argsort(rows, kind="stable")
    ordered = rows[order].astype(np.int64)
    repeated = np.flatnonzero(ordered[1:] == ordered[:-1])
    if len(repeated) and len(rows) == n and ordered[-1] <= 1:
        raise InputError(
            f"{where} has only the values 0 and 1, one per row of the table, so it is probably a mask: give True and False instead, in "
            "NumPy `mask.astype(bool)`."
        )
    if len(repeated):
        first = int(repeated[0])
        more = f" (and {plural(len(repeated) - 1, 'more row')})" if len(repeated) > 1 else ""
        raise InputError(
            f"{where}, {place(int(order[first + 1]))}: row {ordered[first]} was named before, in "
            f"{place(int(order[first]))}{more}. Name each row once."
        )
    return ordered


def _of_array(path: str, content: bytes, n: int) -> npt.NDArray[np.int64]:
    try:
        rows = read_array(io.BytesIO(content), len(content))
    except ObjectArrayError as error:
        raise InputError(_about_pickle(path)) from error
    except UNREADABLE_ARRAY as error:
        raise InputError(f"{path} is damaged: it cannot be read as an array ({error}). Save it again with numpy.save.") from error
    if rows.ndim != 1 or rows.dtype.kind not in "biu":
        raise InputError(
            f"{path} holds an array of shape {rows.shape} of {rows.dtype}: give a one-dimensional array of row numbers, or of one "
            "True or False per row."
        )
    return check_rows(rows, n, path)


def _of_text(path: str, content: bytes, n: int) -> npt.NDArray[np.int64]:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{path} is neither text nor a .npy array. Give text with one row number per line, or an array.") from None
    rows: list[int] = []
    lines: list[int] = []
    for number, line in enumerate(text.splitlines(), 1):
        value = line.partition("#")[0].strip()
        if not value:
            continue
        if not (value.removeprefix("-").isdecimal() and value.isascii() and len(value) < 19):
            raise InputError(
                f"{path}, line {number}: {value[:40]!r} is not a row number. Give one whole number per line, counted from 0; text after "
                "# is ignored."
            )
        rows.append(int(value))
        lines.append(number)
    return check_rows(np.array(rows, dtype=np.int64), n, path, np.array(lines, dtype=np.int64))


def _about_pickle(path: str) -> str:
    code = (
        f"import numpy; numpy.save({_quoted(Path(path).with_suffix('.rows.npy'))}, numpy.load({_quoted(path)}, allow_pickle=True))"
    )
    return (
        f"{path} is a pickle, which can run a program when it is opened, so it is not opened here. If you trust it, convert it: "
        f"python -c {shlex.quote(code)}"
    )


def _quoted(path: str | Path) -> str:
    return json.dumps(str(path))
