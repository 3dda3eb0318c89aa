"""Columns of the source tables under their own names, read again from the tables if a condition names them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from cryolike_dask.errors import CryolikeError, InputError
from cryolike_dask.filesystem.reading import open_input
from cryolike_dask.particles.cryosparc.table import find_uids, read_cs, sibling_tables
from cryolike_dask.particles.display import suggest_columns
from cryolike_dask.particles.source_columns import StarSource
from cryolike_dask.particles.table import ParticleTable

_ROUNDING = 1e-9  # relative difference of the same number, read twice


class _Source(Protocol):
    """A source table, opened again."""

    names: tuple[str, ...]

    def columns(self, names: Sequence[str], rows: npt.NDArray[np.void]) -> dict[str, npt.NDArray[Any]]:
        """Those of these columns that exist, by name: (n,) values of these rows, numbers or text (as objects).

        Raises:
            InputError: the table has changed since these rows were read from it.
        """


class OwnColumns:
    """The columns of the source tables of some particles. The tables are opened when columns are needed.

    Args:
        table: the particles.
    """

    def __init__(self, table: ParticleTable) -> None:
        self._table = table

    @cached_property
    def _sources(self) -> dict[int, _Source]:
        used = {position: self._table.sources[position] for position in np.unique(self._table["source"]).tolist()}
        return {position: _KINDS[source.kind](source.table) for position, source in used.items() if source.kind in _KINDS}

    def names(self) -> list[str]:
        """Names of the columns that all tables have."""
        named = [source.names for source in self._sources.values()]
        return [name for name in named[0] if all(name in others for others in named[1:])] if named else []

    def read(self, names: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
        """Those of these columns that exist, by name: (n,) values of the particles, numbers or text (as objects).

        Raises:
            InputError: only some tables have a column, or a table has changed since its particles were read.
        """
        values: dict[str, npt.NDArray[Any]] = {}
        without: dict[str, str] = {}
        for position, source in self._sources.items() if names else ():
            here = np.flatnonzero(self._table["source"] == position)
            found = source.columns(names, self._table.rows[here])
            for name in names:
                if name in found:
                    values[name] = _put(values.get(name), here, found[name], len(self._table))
                else:
                    without.setdefault(name, self._table.sources[position].table)
        for name in values.keys() & without.keys():
            raise InputError(
                f"{without[name]} has no column {name}, which other tables have. Choose the particles of each table separately."
            )
        return values


def read_column(table: ParticleTable, name: str) -> npt.NDArray[Any]:
    """(n,) values of a column of the source tables: numbers if all of them are, NaN where a cell is empty; else text (as objects).

    Raises:
        InputError: there is no such column, or see `OwnColumns.read`.
    """
    own = OwnColumns(table)
    values = own.read([name]).get(name)
    if values is None:
        raise InputError(f"There is no column {name}. {suggest_columns(name, table, own.names())}")
    try:
        return numbers_of(values) if values.dtype == object else values
    except ValueError:
        return values


def numbers_of(texts: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """The numbers that texts stand for; NaN for an empty cell, which states nothing.

    Raises:
        ValueError: a text is not a number.
    """
    return np.asarray(np.where(texts == "", "nan", texts).astype(np.float64))


def _put(values: npt.NDArray[Any] | None, here: npt.NDArray[np.intp], part: npt.NDArray[Any], n: int) -> npt.NDArray[Any]:
    """The (n,) values with a part of them replaced, of a type that can hold both."""
    if values is None:
        values = np.zeros(n, dtype=part.dtype)
    common = object if object in (values.dtype, part.dtype) else np.result_type(values.dtype, part.dtype)
    values = values.astype(common, copy=False)
    values[here] = part
    return values


class _Star:
    def __init__(self, path: str) -> None:
        self._path = path
        self._source = StarSource(path, frozenset())
        self.names = tuple(dict.fromkeys((*self._source.names, *self._source.optics_names)))

    def columns(self, names: Sequence[str], rows: npt.NDArray[np.void]) -> dict[str, npt.NDArray[Any]]:
        found = self._source.columns([*names, "DefocusU"])
        defocus = found["DefocusU"] if "DefocusU" in found else np.empty(0)
        _check_length(self._path, len(defocus), rows)
        try:
            unchanged = np.allclose(defocus[rows["row"]].astype(np.float64), rows["defocus_u"], rtol=_ROUNDING, atol=0)
        except ValueError:
            unchanged = False
        if not unchanged:
            raise _changed(self._path)
        return {name: found[name][rows["row"]] for name in names if name in found}


class _Cryosparc:
    def __init__(self, path: str) -> None:
        self._path = path
        self._uids = read_cs(path, ("uid",))
        self.names = self._uids.names

    def columns(self, names: Sequence[str], rows: npt.NDArray[np.void]) -> dict[str, npt.NDArray[Any]]:
        """Columns of the table, and of the tables beside it that have all of its particles."""
        _check_length(self._path, len(self._uids), rows)
        if "uid" in self._uids and not np.array_equal(self._uids["uid"][rows["row"]], rows["uid"]):
            raise _changed(self._path)
        own = read_cs(self._path, names)
        found = {name: _comparable(self._path, name, own[name][rows["row"]]) for name in names if name in own}
        for path in sibling_tables(self._path) if "uid" in self._uids and len(found) < len(names) else []:
            other = read_cs(path, ("uid", *names))
            position = find_uids(self._uids["uid"], other["uid"]) if "uid" in other else None
            if position is not None and (position >= 0).all():
                others = {name: other[name][position][rows["row"]] for name in names if name in other and name not in found}
                found |= {name: _comparable(path, name, values) for name, values in others.items()}
        return found


class _Csv:
    def __init__(self, path: str) -> None:
        self._path = Path(path).expanduser()
        self.names = tuple(map(str, self._read(None, 0)))

    def _read(self, columns: list[str] | None, n_rows: int | None) -> pd.DataFrame:
        try:
            with open_input(self._path, "a CSV table") as stream:
                return pd.read_csv(
                    stream, usecols=columns, nrows=n_rows, index_col=False, dtype=str, keep_default_na=False, encoding="utf-8-sig"
                )
        except (OSError, ValueError) as error:
            if isinstance(error, CryolikeError):
                raise
            raise InputError(f"{self._path} cannot be read again: {error}. Read its particles again.") from error

    def columns(self, names: Sequence[str], rows: npt.NDArray[np.void]) -> dict[str, npt.NDArray[Any]]:
        there = [name for name in names if name in self.names]
        if not there:
            return {}
        df = self._read(there, None)
        _check_length(str(self._path), len(df), rows)
        return {name: df[name].to_numpy(dtype=object)[rows["row"]] for name in there}


_KINDS: dict[str, Callable[[str], _Source]] = {
    "star": _Star,
    "paired": _Star,
    "cryosparc": _Cryosparc,
    "cryosparc-job": _Cryosparc,
    "leopard-em": _Csv,
}


def _comparable(path: str, name: str, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if values.ndim != 1:
        raise InputError(
            f"{os.path.basename(path)} holds {values[0].size} values per particle in {name}, which cannot be compared with a single value."
        )
    if values.dtype.kind not in "SUO":
        return values
    code, distinct = pd.factorize(values.astype(object))
    texts = [text.decode("utf-8", "backslashreplace") if isinstance(text, bytes) else str(text) for text in distinct]
    return np.array(texts, dtype=object)[code]


def _check_length(path: str, length: int, rows: npt.NDArray[np.void]) -> None:
    if len(rows) and int(rows["row"].max()) >= length:
        raise _changed(path)


def _changed(path: str) -> InputError:
    return InputError(f"{path} has changed since its particles were read. Read them again.")
