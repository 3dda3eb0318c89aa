"""Finds the particles that satisfy a condition: evaluates the tree of `settings.condition` on columns."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
import numpy.typing as npt

from cryolike_dask.errors import InputError
from cryolike_dask.formatting import first_few, in_both, plural
from cryolike_dask.particles.display import PATHS, READABLE, is_stated, readable_column, suggest_columns
from cryolike_dask.particles.own_columns import OwnColumns, numbers_of
from cryolike_dask.particles.table import ParticleTable
from cryolike_dask.settings.condition import Column, Comparison, Condition, Membership, Not, Operand, column_names, parse_condition

_OPERATORS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq, "!=": operator.ne}

Mask = npt.NDArray[np.bool_]


def meets_condition(table: ParticleTable, condition: str) -> Mask:
    """(n,) whether each particle satisfies a condition.

    The condition names columns of the particle table, in its units, or else columns of the source tables. A value that a table does not
    state is NaN, which is unequal to everything.

    Args:
        table: the particles.
        condition: in the grammar of `settings.condition`.

    Raises:
        InputError: the condition cannot be read, a column does not exist or has no value for any particle, or numbers are compared with
            text.
    """
    tree = parse_condition(condition)
    return _Evaluation(table, column_names(tree)).mask(tree)


class _Evaluation:
    """Evaluates one condition; each column is read once.

    Args:
        table: the particles.
        names: names of the columns in the condition.
    """

    def __init__(self, table: ParticleTable, names: list[str]) -> None:
        self._table = table
        self._own = own = OwnColumns(table)
        self._columns = {name: readable_column(table, name) for name in names if name in table.columns}
        self._columns |= own.read([name for name in names if name not in table.columns])
        for name in names:
            if name not in self._columns:
                raise InputError(f"There is no column {name}. {self._advice(name)}")
            if not self._is_stated(name):
                tables = first_few(list(dict.fromkeys(source.table for source in table.sources)), 3)
                raise InputError(
                    f"{tables} does not state {name} for any of the {plural(len(table), 'particle')}, so a condition on it (where, "
                    "--where) cannot choose between them. Leave it out."
                )

    def _advice(self, name: str) -> str:
        """What to write instead of a name that is not a column."""
        for column, values in self._columns.items():
            if _is_text(values) and (values == name).any():
                return f"It is a value of {column}: put it in quotation marks, as {name!r}."
        return suggest_columns(name, self._table, self._own.names())

    def _is_stated(self, name: str) -> bool:
        values = self._columns[name]
        if not len(values):
            return True
        if _is_text(values):
            return bool((values != "").any())
        return (
            is_stated(self._table, name) if name in self._table.columns else values.dtype.kind != "f" or not np.isnan(values).all()
        )

    def mask(self, condition: Condition) -> Mask:
        match condition:
            case Comparison(operands, operators):
                pairs = zip(operands, operators, operands[1:], strict=False)
                return np.asarray(np.logical_and.reduce([self._compare(*pair) for pair in pairs]))
            case Membership(operand, values):
                return np.asarray(np.logical_or.reduce([self._compare(operand, "==", value) for value in values]))
            case Not(part):
                return ~self.mask(part)
        combine = np.logical_and if condition.word == "and" else np.logical_or
        return np.asarray(combine.reduce([self.mask(part) for part in condition.parts]))

    def _compare(self, left: Operand, sign: str, right: Operand) -> Mask:
        a, b = self._values(left, right), self._values(right, left)
        if _is_text(a) != _is_text(b):
            # Text that is compared with numbers is read as numbers.
            a, b = self._as_numbers(left, a, b), self._as_numbers(right, b, a)
        elif isinstance(left, Column) and isinstance(right, Column) and _is_text(a):
            # Numbers as text do not compare as numbers: "9" is larger than "10".
            a, b = _numbers_if_all_are(a, b)
        with np.errstate(over="ignore"):  # a number may be too large for a column of single precision
            return np.broadcast_to(np.asarray(_OPERATORS[sign](a, b), dtype=bool), len(self._table))

    def _values(self, operand: Operand, other: Operand) -> Any:
        """(n,) numbers or text (as objects), or a single value."""
        if not isinstance(operand, Column):
            return operand
        values = self._columns[operand.name]
        if operand.name.endswith("/path") and _is_text(values) and isinstance(other, str) and not other.startswith(">"):
            # cryoSPARC writes '>' before paths within a project.
            values = np.array([path.removeprefix(">") for path in values.tolist()], dtype=object)
        return _ends_of_paths(values, other) if operand.name in PATHS and isinstance(other, str) else values

    def _as_numbers(self, operand: Operand, values: Any, other: Any) -> Any:
        if not _is_text(values):
            return values
        if not isinstance(operand, Column):
            raise InputError(
                f"{in_both('where')} compares a column of numbers with the text {operand!r}: write a number, without quotation marks."
            )
        if operand.name in READABLE:
            names = [text.rpartition("/")[2] if operand.name in PATHS else text for text in values.tolist()]
            distinct = first_few([repr(name) for name in dict.fromkeys(names)], 5)
            numbered = operand.name == "optics_group" and "rlnOpticsGroup" in self._own.names()
            raise InputError(
                f"{operand.name} is text, not a number: compare it with {distinct}"
                f"{', or compare rlnOpticsGroup, the number of the group' if numbered else ''}."
            )
        try:
            return numbers_of(values)
        except ValueError:
            row = next(i for i, text in enumerate(values) if text and not _is_number(text))
            advice = "Correct the table." if any(map(_is_number, values)) else "Compare it with text in quotes."
            raise InputError(
                f"{self._table.where(row)}: {operand.name} is {values[row]!r}, which is not a number. {advice}"
            ) from None


def _is_text(values: Any) -> bool:
    return values.dtype == object if isinstance(values, np.ndarray) else isinstance(values, str)


def _ends_of_paths(paths: npt.NDArray[Any], text: str) -> npt.NDArray[Any]:
    """The last parts of paths, as many as the text has: 'a.mrcs' is compared with the names of files, 'mrc/a.mrcs' also with folders."""
    if text.startswith("/"):
        return paths
    parts = text.count("/") + 1
    ends = {path: "/".join(path.split("/")[-parts:]) for path in dict.fromkeys(paths.tolist())}
    return np.array([ends[path] for path in paths.tolist()], dtype=object)


def _numbers_if_all_are(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    try:
        return a.astype(np.float64), b.astype(np.float64)
    except ValueError:
        return a, b


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
