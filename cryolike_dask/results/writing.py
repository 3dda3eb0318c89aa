"""Writes collected results as RELION's STAR, CSV or Parquet."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cryolike_dask.errors import CryolikeError, InputError, OutputError
from cryolike_dask.filesystem.pinned import temporary_folder
from cryolike_dask.particles.star.export import APPLIED_ORIGINS, OPTICS, POSITION_COLUMN, STACK_COLUMN, star_header, star_rows
from cryolike_dask.particles.star.quoting import quoted_rows, quoted_values
from cryolike_dask.particles.star.text import StarBlock, StarText
from cryolike_dask.stacks.durable import replace_durably
from cryolike_dask.stacks.files import STAR_FILE

SUFFIXES = (".star", ".csv", ".parquet")
"""Suffixes of the formats of a table."""
_POSES = {"rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi", "rlnOriginXAngst", "rlnOriginYAngst", "rlnOriginX", "rlnOriginY"}
"""Columns of poses in the source table, which are replaced by CryoLike's poses."""


def write_results(df: pd.DataFrame, target: Path, root: Path) -> None:
    """Write collected results. If that fails, no incomplete file is left.

    A STAR file has all columns of the run's `particles.star`, except for earlier poses, and those of the results.

    Args:
        df: see `collect_results`.
        target: path of the file; its suffix is one of `SUFFIXES`.
        root: output folder of the conversion.

    Raises:
        InputError: `particles.star` is missing or does not belong to these stacks, or Parquet needs a package that is not installed.
        OutputError: the file cannot be written.
    """
    try:
        with temporary_folder(f".{target.name}.", target.parent) as folder:
            partial = folder / target.name
            if target.suffix.lower() == ".star":
                with partial.open("w", encoding="utf-8", newline="\n") as file:
                    file.writelines(_star(df, root / STAR_FILE))
            elif target.suffix.lower() == ".csv":
                df.to_csv(partial, index=False)
            else:
                df.to_parquet(partial, index=False)
            replace_durably(partial, target)
    except CryolikeError:
        raise
    except ImportError as error:
        raise InputError(f"{target.name}: Parquet files need the package pyarrow. Install it, or choose .csv.") from error
    except OSError as error:
        raise OutputError(f"{target} cannot be written: {error.strerror or error}. Choose another place, or make room.") from error


def _star(df: pd.DataFrame, source: Path) -> Iterator[str]:
    text = StarText(source)
    blocks = text.blocks()
    particles = next((block for block in blocks if block.name == "particles"), None)
    if particles is None or not {STACK_COLUMN, POSITION_COLUMN} <= set(particles.columns):
        raise InputError(f"{source} was not written by a conversion: it does not say which particle is in which stack. {_ADVICE}")
    # The collected origins refer to the source images, so they include the origins applied to the stacks' images.
    replaced = _POSES | (set(APPLIED_ORIGINS.values()) if set(APPLIED_ORIGINS) <= set(df) else set())
    kept = [name for name in particles.columns if name not in replaced]
    taken = {*kept, *OPTICS}
    added = {str(name): _values(df[name]) for name in df if name not in taken}
    for block in blocks:
        if block is not particles:
            yield star_header(block.name, block.columns)
            yield from (f"{line}\n" for line in quoted_rows(text, block, block.columns))
            yield "\n\n"
    rows = np.array(quoted_rows(text, particles, kept), dtype=object)[_row_of_each_particle(df, text, particles)]
    yield star_header(particles.name, [*kept, *added])
    yield from star_rows({"": rows, **added})
    yield "\n\n"


_ADVICE = "Run the conversion again with skip_exist=True (--skip-exist), or collect into a .csv file."


def _row_of_each_particle(df: pd.DataFrame, text: StarText, particles: StarBlock) -> npt.NDArray[np.intp]:
    """(n,) row of the file for each row of the data frame."""
    names = (POSITION_COLUMN, STACK_COLUMN)
    there = [np.array(quoted_rows(text, particles, [name])).astype(np.int64) for name in names]
    ours = [df[name].to_numpy(dtype=np.int64) for name in names]
    by_place, ours_by_place = np.lexsort(there), np.lexsort(ours)
    if len(by_place) != len(df) or any((t[by_place] != o[ours_by_place]).any() for t, o in zip(there, ours, strict=True)):
        raise InputError(f"{text.path} does not belong to these stacks: it lists other particles. {_ADVICE}")
    row = np.empty(len(df), dtype=np.intp)
    row[ours_by_place] = by_place
    return row


def _values(column: pd.Series[Any]) -> npt.NDArray[Any]:
    """A column as `star_rows` expects it."""
    if column.dtype == "Int64":
        return np.array(["nan" if value is pd.NA else str(value) for value in column], dtype=object)
    if column.dtype.kind == "b":
        return column.to_numpy(dtype=np.int64)
    return column.to_numpy() if column.dtype.kind in "iuf" else quoted_values(column.to_numpy(dtype=object))
