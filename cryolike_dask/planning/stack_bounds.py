"""Where stacks begin and end."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cryolike_dask.particles.table import ParticleTable
from cryolike_dask.planning.optics import optics_changes, optics_columns
from cryolike_dask.planning.row_order import input_ends, input_of_row, never_combined
from cryolike_dask.settings import ConversionSettings


def cut_into_stacks(
    table: ParticleTable, settings: ConversionSettings, pixel_size: npt.NDArray[np.float64]
) -> npt.NDArray[np.int64]:
    """Cut the particles into stacks of batch_size. A stack also ends where the optics change or, if files are never combined, the file.

    Args:
        table: in output order.
        settings: of the run.
        pixel_size: (n,) Å of each image as written.

    Returns:
        (n_stacks, 2) first row of each stack and the row after its last.
    """
    ends_after = input_ends(table, settings) | optics_changes(optics_columns(table, pixel_size))
    begins = np.concatenate([[0], 1 + np.flatnonzero(ends_after)])
    ends = np.append(begins[1:], len(table))
    n_stacks = -(-(ends - begins) // settings.batch_size)
    section = np.repeat(np.arange(len(begins)), n_stacks)  # number of the section, whose rows may share stacks
    number = np.arange(len(section)) - np.repeat(np.cumsum(n_stacks) - n_stacks, n_stacks)
    first = begins[section] + number * settings.batch_size
    bounds = np.stack([first, np.minimum(first + settings.batch_size, ends[section])], axis=1).astype(np.int64)
    return bounds[: settings.n_stacks_max] if settings.n_stacks_max > 0 else bounds


def offsets_in_files(table: ParticleTable, settings: ConversionSettings, bounds: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """(n_stacks,) position of each stack's first image among those of its file, -1 where files may be combined; empty if all may."""
    alone = never_combined(table, settings)
    if not alone.any():
        return np.empty(0, dtype=np.int64)
    begins = np.concatenate([[0], 1 + np.flatnonzero(np.diff(input_of_row(table)))])
    first = bounds[:, 0]
    offsets = first - begins[np.searchsorted(begins, first, side="right") - 1]
    return np.where(alone[first], offsets, -1).astype(np.int64)
