"""The order in which particles are written."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cryolike_dask.particles.table import ParticleTable
from cryolike_dask.settings import ConversionSettings


def never_combines(table: ParticleTable, settings: ConversionSettings) -> bool:
    """Whether stacks end where the image file changes: as the settings say, else only for image files paired with a table."""
    chosen = settings.never_combine_input_files
    return any(source.kind == "paired" for source in table.sources) if chosen is None else chosen


def in_output_order(table: ParticleTable, settings: ConversionSettings) -> ParticleTable:
    """The particles in the order in which they will be written."""
    if settings.order == "file":
        rank = np.argsort(np.argsort(np.array(table.files)))
        return table.take(np.argsort(rank[table["file"]], kind="stable"))
    if never_combines(table, settings):
        _, first_row, position = np.unique(input_of_row(table), return_index=True, return_inverse=True)
        return table.take(np.argsort(first_row[position], kind="stable"))
    return table


def input_of_row(table: ParticleTable) -> npt.NDArray[np.int64]:
    """(n,) equal where two particles come from one image file by way of one table."""
    return np.asarray(table["source"].astype(np.int64) * len(table.files) + table["file"])


def input_ends(table: ParticleTable, settings: ConversionSettings) -> npt.NDArray[np.bool_]:
    """(n - 1,) where a stack must end because the next particle comes from another file and files are never combined."""
    if not never_combines(table, settings):
        return np.zeros(len(table) - 1, dtype=bool)
    return np.asarray(np.diff(input_of_row(table)) != 0)
