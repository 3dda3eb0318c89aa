"""Columns that a conversion does not use, read again from the input tables when `particles.star` is written.

A conversion keeps only the columns that it computes with. All others, such as micrograph names, coordinates and random subsets, are read
from the table when `particles.star` is written, provided that the table has not changed.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from cryolike_dask.errors import CryolikeError, InputError
from cryolike_dask.particles.cryosparc.table import read_cs
from cryolike_dask.particles.image_paths import has_control_characters
from cryolike_dask.particles.star.quoting import ENCODED, quoted_rows, quoted_values
from cryolike_dask.particles.star.tables import particle_block
from cryolike_dask.particles.star.text import StarBlock, StarText, decode
from cryolike_dask.particles.table import ParticleTable

_ROUNDING = 1e-9  # relative difference of the same number, read twice
_MICROGRAPH, _SUBSET = "location/micrograph_path", "alignments3D/split"


@dataclass(frozen=True)
class SourceColumns:
    """The columns of the tables that a conversion does not use, as text for a STAR file.

    Args:
        names: columns of the particles that all tables have.
        rows: (n,) their values, one text per particle with tabs between values.
        optics_names: columns of the optics groups that all tables have.
        optics_rows: their values, one text per optics group.
        group_names: names of the optics groups; '' if the table names none.
        group: (n,) position of each particle's group in `optics_rows`.
        warnings: what could not be read.
    """

    names: tuple[str, ...]
    rows: npt.NDArray[np.object_]
    optics_names: tuple[str, ...]
    optics_rows: tuple[str, ...]
    group_names: tuple[str, ...]
    group: npt.NDArray[np.int64]
    warnings: tuple[str, ...]


class _Source(Protocol):
    """A source table, read again. It gives one line per particle or optics group."""

    names: tuple[str, ...]
    optics_names: tuple[str, ...]

    def check_unchanged(self, rows: npt.NDArray[np.void]) -> None: ...

    def lines(self, names: Sequence[str]) -> npt.NDArray[np.object_]: ...

    def optics_lines(self, names: Sequence[str]) -> list[str]: ...

    def group_names(self) -> list[str]: ...

    def groups(self) -> npt.NDArray[np.int64]: ...


def read_source_columns(table: ParticleTable, without: Collection[str]) -> SourceColumns:
    """Read the columns of the source tables, except for some.

    Args:
        table: the particles.
        without: names of columns to leave out.
    """
    nothing, one_group = np.full(len(table), "", dtype=object), np.zeros(len(table), dtype=np.int64)
    sources: dict[int, _Source] = {}
    for position in np.unique(table["source"]).tolist():
        source = table.sources[position]
        if source.kind not in _KINDS:
            return SourceColumns((), nothing, (), ("",), ("",), one_group, ())
        try:
            sources[position] = _KINDS[source.kind](source.table, frozenset(without))
            sources[position].check_unchanged(table.rows[table["source"] == position])
        except CryolikeError as error:
            warning = f"particles.star lacks the columns that the conversion does not use: {error}"
            return SourceColumns((), nothing, (), ("",), ("",), one_group, (warning,))
    names = _common([source.names for source in sources.values()])
    optics_names = _common([source.optics_names for source in sources.values()])
    rows, group = nothing, one_group
    groups: dict[tuple[str, str], int] = {}
    for position, source in sources.items():
        here = table["source"] == position
        if names:
            rows[here] = source.lines(names)[table["row"][here]]
        optics = zip(source.group_names(), source.optics_lines(optics_names), strict=True)
        # Tables with the same groups share them, such as the tables of several pairs.
        number = np.array([groups.setdefault(one, len(groups)) for one in optics])
        group[here] = number[source.groups()[table["row"][here]]]
    group_names, optics_rows = zip(*groups, strict=True)
    return SourceColumns(names, rows, optics_names, optics_rows, group_names, group, ())


def _common(names: list[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(name for name in names[0] if all(name in others for others in names[1:])) if names else ()


@dataclass
class StarSource:
    """A STAR file, read again.

    Args:
        table: path of the file.
        without: names of columns to leave out of `names` and `optics_names`.
    """

    table: str
    without: frozenset[str]
    names: tuple[str, ...] = field(init=False)
    optics_names: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        self._text = StarText(Path(self.table))
        blocks = {block.name: block for block in self._text.blocks()}
        self._particles = particle_block(Path(self.table), blocks)
        self._optics = blocks.get("optics")
        self.names = self._kept(self._particles.columns)
        self.optics_names = () if self._optics is None else self._kept(self._optics.columns)

    def _kept(self, columns: Sequence[str]) -> tuple[str, ...]:
        return tuple(
            name
            for name in map(decode, columns)
            if name not in self.without and f"rln{name.removeprefix('rln')}" not in self.without
        )

    def check_unchanged(self, rows: npt.NDArray[np.void]) -> None:
        """Refuse a table whose rows are not those that were converted."""
        changed = len(rows) > 0 and int(rows["row"].max()) >= len(self._particles.rows)
        for name, values in (("ImageName", rows["index"] + 1), ("DefocusU", rows["defocus_u"])):
            own = self._own_name(self._particles, name)
            if changed or own is None:
                continue
            texts = np.array(quoted_rows(self._text, self._particles, [own]), dtype=object)[rows["row"]].tolist()
            if name == "ImageName" and "@" not in texts[0]:
                continue  # a file name without a number does not identify a row
            found = np.array([_number(text.strip('"').partition("@")[0]) for text in texts])
            changed = not np.allclose(found, values, rtol=_ROUNDING, atol=0)
        if changed or (self.groups()[rows["row"]] < 0).any():
            raise InputError(f"{self.table} has changed since its particles were read.")

    def lines(self, names: Sequence[str]) -> npt.NDArray[np.object_]:
        return np.array(_lines(self._text, self._particles, names), dtype=object)

    def columns(self, names: Sequence[str]) -> dict[str, npt.NDArray[np.object_]]:
        """The text of those of these columns that exist, by name: (n,) values of all rows of the table.

        Args:
            names: names with or without 'rln'. A column of the optics groups gives each particle the value of its group.
        """
        found: dict[str, npt.NDArray[np.object_]] = {}
        for block in (self._particles, self._optics):
            own = {name: self._own_name(block, name.removeprefix("_").removeprefix("rln")) for name in names} if block else {}
            there = {name: column for name, column in own.items() if column is not None and name not in found}
            if block is not None and there:
                values = _values(self._text, block, sorted(set(there.values()), key=block.columns.index))
                rows = slice(None) if block is self._particles else self.groups()
                found |= {name: values[column][rows] for name, column in there.items()}
        return found

    def optics_lines(self, names: Sequence[str]) -> list[str]:
        return _lines(self._text, self._optics, names) if self._optics is not None and names else [""] * len(self.group_names())

    def group_names(self) -> list[str]:
        name = None if self._optics is None else self._own_name(self._optics, "OpticsGroupName")
        if self._optics is None or name is None:
            return [""] * (1 if self._optics is None else len(self._optics.rows))
        return _lines(self._text, self._optics, [name])

    def groups(self) -> npt.NDArray[np.int64]:
        """(n,) row of the optics table for each particle; -1 if it has none."""
        number = self._own_name(self._particles, "OpticsGroup")
        number_there = None if self._optics is None else self._own_name(self._optics, "OpticsGroup")
        if self._optics is None or number is None or number_there is None:
            return np.zeros(len(self._particles.rows), dtype=np.int64)
        there = {_number(text): row for row, text in enumerate(_values(self._text, self._optics, [number_there])[number_there])}
        of_rows, which = np.unique(_values(self._text, self._particles, [number])[number].astype(np.str_), return_inverse=True)
        return np.array([there.get(_number(text), -1) for text in of_rows], dtype=np.int64)[which]

    @staticmethod
    def _own_name(block: StarBlock, name: str) -> str | None:
        return next((own for own in block.columns if own.removeprefix("rln") == name), None)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return np.nan


def _values(text: StarText, block: StarBlock, names: Sequence[str]) -> dict[str, npt.NDArray[np.object_]]:
    """The (n,) values of some columns of a block, by name; `names` are in the order of the file."""
    content = b"".join(text.select_columns(block, [block.columns.index(name) for name in names])).decode()
    words = content.replace("\n", "\t").split("\t")[:-1]
    if ENCODED.search(content):
        words = [decode(word) for word in words]
    return dict(zip(names, np.array(words, dtype=object).reshape(-1, len(names)).T, strict=True))


def _lines(text: StarText, block: StarBlock, names: Sequence[str]) -> list[str]:
    """The rows of a block with these columns in this order."""
    encoded = {decode(name): name for name in block.columns}
    lines = quoted_rows(text, block, [encoded[name] for name in names])
    in_file = [decode(name) for name in block.columns if decode(name) in names]
    if in_file == list(names):
        return lines
    order = [in_file.index(name) for name in names]
    return ["\t".join(values[i] for i in order) for values in (line.split("\t") for line in lines)]


@dataclass
class _CryosparcSource:
    table: str
    without: frozenset[str]
    names: tuple[str, ...] = field(init=False)
    optics_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self._table = read_cs(self.table, ("uid", _MICROGRAPH, _SUBSET))
        self._columns: dict[str, npt.NDArray[np.object_]] = {}
        if _MICROGRAPH in self._table and self._table[_MICROGRAPH].dtype.kind == "S":
            code, distinct = pd.factorize(self._table[_MICROGRAPH].astype(object))
            names = [path.decode("utf-8", "backslashreplace").removeprefix(">") for path in distinct]
            # Columns with values that STAR cannot hold are left out, so that a finished run does not fail here.
            if not any(has_control_characters(name) or '"' in name for name in names):
                self._columns["rlnMicrographName"] = quoted_values(np.array(names, dtype=object))[code]
        if _SUBSET in self._table and set(np.unique(self._table[_SUBSET]).tolist()) == {0, 1}:
            subset = self._table[_SUBSET].astype(np.int64) + 1
            self._columns["rlnRandomSubset"] = subset.astype(np.str_).astype(object)
        self.names = tuple(name for name in self._columns if name not in self.without)

    def check_unchanged(self, rows: npt.NDArray[np.void]) -> None:
        """Refuse a table whose rows are not those that were converted."""
        changed = len(rows) > 0 and int(rows["row"].max()) >= len(self._table)
        if changed or ("uid" in self._table and not np.array_equal(self._table["uid"][rows["row"]], rows["uid"])):
            raise InputError(f"{self.table} has changed since its particles were read.")

    def lines(self, names: Sequence[str]) -> npt.NDArray[np.object_]:
        columns = [self._columns[name].tolist() for name in names]
        return np.array(["\t".join(values) for values in zip(*columns, strict=True)], dtype=object)

    def optics_lines(self, names: Sequence[str]) -> list[str]:
        return [""]

    def group_names(self) -> list[str]:
        return [""]

    def groups(self) -> npt.NDArray[np.int64]:
        return np.zeros(len(self._table), dtype=np.int64)


_KINDS = {
    "star": StarSource,
    "paired": StarSource,
    "cryosparc": _CryosparcSource,
    "cryosparc-job": _CryosparcSource,
}
