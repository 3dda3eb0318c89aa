"""The repr of a particle table: its columns with units and a few values, and names of files, tables and optics groups."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cryolike_dask.formatting import first_few, plural, printable

if TYPE_CHECKING:
    from cryolike_dask.particles.table import ParticleTable

PATHS = ("file", "source")
"""Columns that hold positions in a list of paths."""
READABLE = (*PATHS, "optics_group")
"""Columns that hold positions in a list of names. They are shown as these names, and compared with names."""

TYPED = ("voltage", "spherical_aberration", "amplitude_contrast", "pixel_size")
"""Columns with numbers that people typed, unlike defocus and angles, which programs computed."""

UNITS = {
    **dict.fromkeys(("defocus_u", "defocus_v", "origin_x", "origin_y", "pixel_size"), "Å"),
    **dict.fromkeys(("defocus_angle", "phase_shift", "angle_rotation", "angle_tilt", "angle_psi"), "rad"),
    **dict.fromkeys(("pose_rotation", "pose_tilt", "pose_psi"), "rad"),
    **dict.fromkeys(("top", "left", "box_rows", "box_columns"), "pixel"),
    "spherical_aberration": "mm",
    "voltage": "kV",
    "b_factor": "Å²",
}
"""Units of the columns that have one."""

_ZERO_IF_NOT_STATED = ("box_rows", "box_columns", "sign", "uid", "origin_in_pixels")
_OF_BOXES = ("top", "left")
_GROUP = re.compile(r"\S+ \((.+)\)")  # number and name of an optics group of RELION
_FIRST = 3  # values of a column that are shown before the last one


@dataclass(frozen=True)
class ColumnView:
    """One column as it is shown.

    Args:
        name: name of the column.
        unit: unit of the values; '' if they have none.
        values: the first values and the last one, as text.
    """

    name: str
    unit: str
    values: tuple[str, ...]


def readable_column(table: ParticleTable, name: str) -> npt.NDArray[Any]:
    """(n,) values of a column; for files, tables and optics groups, their names as an array of objects.

    Numbers that people typed are given as `as_typed` has them.

    Args:
        table: the particles.
        name: name of the column.
    """
    if name in TYPED:
        return as_typed(table.rows[name])
    if name not in READABLE:
        return np.asarray(table.rows[name])
    names = {
        "file": table.files,
        "source": [source.table for source in table.sources],
        "optics_group": [group_name(label) for label in table.optics_groups],
    }[name]
    return np.asarray(np.array([*names, ""], dtype=object)[table.rows[name]])


def as_typed(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Numbers that a table stored in single precision, as the shortest decimals that stand for them.

    A typed 2.7 is 2.70000004768372 in a cryoSPARC table. The rows keep it so, as CryoLike does, but conditions and STAR files are about
    the number that was typed.

    Args:
        values: (n,) numbers; those that single precision cannot hold are returned as they are.

    Example:
        >>> as_typed(np.array([np.float32(2.7), 2.7, 300.0])).tolist()
        [2.7, 2.7, 300.0]
    """
    distinct, position = np.unique(values, return_inverse=True)
    with np.errstate(over="ignore"):
        single = distinct.astype(np.float32)
    decimal = single.astype(str).astype(np.float64)
    return np.asarray(np.where(single == distinct, decimal, distinct)[position])


def group_name(label: str) -> str:
    """The name of an optics group, without the number that RELION also gives it: '1 (opticsGroup1)' is 'opticsGroup1'."""
    match = _GROUP.fullmatch(label)
    return match[1] if match else label


def suggest_columns(name: str, table: ParticleTable, others: Sequence[str]) -> str:
    """A hint for a message about a column that does not exist.

    Args:
        name: the name that was given.
        table: the particles, whose columns without a value are not suggested.
        others: names of the columns of its source tables.
    """
    known = list(dict.fromkeys([*(column for column in table.columns if is_stated(table, column)), *others]))
    in_small_letters = {other.lower(): other for other in reversed(known)}
    close = get_close_matches(name.lower(), in_small_letters, n=3)
    if close:
        return f"Did you mean {' or '.join(in_small_letters[other] for other in close)}?"
    return f"There are {first_few(known, 60)}."


def stated_columns(table: ParticleTable) -> tuple[list[ColumnView], list[str]]:
    """The columns that have values for these particles, and the names of those without."""
    views, others = [], []
    for name in table.columns:
        if is_stated(table, name):
            views.append(ColumnView(name, UNITS.get(name, ""), _few_values(table, name)))
        else:
            others.append(name)
    return views, others


def is_stated(table: ParticleTable, name: str) -> bool:
    """Whether a column has a value for any of these particles."""
    values = table.rows[name]
    if name in _OF_BOXES:
        return any(source.boxes is not None for source in table.sources)
    if name in _ZERO_IF_NOT_STATED:
        return bool(values.any())
    return values.dtype.kind != "f" or not len(values) or not bool(np.isnan(values).all())


def facts(table: ParticleTable) -> dict[str, str | list[str]]:
    """A summary of the table as names and values: sources of particles and images, optics and defocus."""
    used = np.unique(table.rows["file"])
    u = table.rows["defocus_u"]
    groups = [group_name(table.optics_groups[position]) for position in np.unique(table.rows["optics_group"])]
    named = [name for name in groups if name]
    shown: dict[str, str | list[str]] = {
        "image files": _files([table.files[position] for position in used[:2]], len(used)),
        "from": [source.table for source in table.sources],
    }
    if named:
        shown["optics groups"] = first_few(named, 5)
    shown["defocus U"] = f"{u.min():,.0f} to {u.max():,.0f} Å" if len(table) else "none"
    return shown


def describe(table: ParticleTable) -> str:
    """The repr of the table, several lines of text."""
    views, others = stated_columns(table)
    lines = [f"<ParticleTable: {plural(len(table), 'particle')}>"]
    for name, value in facts(table).items():
        listed = value if isinstance(value, str) else first_few(value, 2)
        lines.append(f"{name + ':':<15}{listed}")
    lines.append("columns:")
    lines += [f"  {view.name:<21}{view.unit:<6}{'  '.join(view.values)}" for view in views]
    if others:
        lines.append(f"not stated:    {', '.join(others)}")
    if table.warnings:
        lines.append(f"warnings:      {len(table.warnings)}, in .warnings")
    return printable("\n".join(lines))


def _files(names: list[str], n: int) -> str:
    return f"{n:,} ({', '.join(PurePath(name).name for name in names)}{', ...' if n > len(names) else ''})" if n else "0"


def _few_values(table: ParticleTable, name: str) -> tuple[str, ...]:
    shown = table if len(table) <= _FIRST + 1 else table.take(np.r_[:_FIRST, len(table) - 1])
    texts = [_text(value, name) for value in readable_column(shown, name).tolist()]
    if len(table) > len(shown):
        texts.insert(_FIRST, "...")
    return tuple(texts)


def _text(value: Any, name: str) -> str:
    if isinstance(value, float):
        return f"{value:.7g}"
    return PurePath(value).name if name in PATHS else repr(value) if value == "" else str(value)
