"""The order in which particles are written."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cryolike_dask.particles.table import ParticleTable
from cryolike_dask.settings import ConversionSettings


def never_combined(table: ParticleTable, settings: ConversionSettings) -> npt.NDArray[np.bool_]:
    """(n,) whether a particle shares its stack only with others of its image file.

    The settings decide. If they do not, this is so for image files with a STAR file each, and not for others.
    """
    chosen = settings.never_combine_input_files
    if chosen is not None:
        return np.full(len(table), chosen)
    return np.asarray(np.array([source.kind == "paired" for source in table.sources])[table["source"]])


def in_output_order(table: ParticleTable, settings: ConversionSettings) -> ParticleTable:
    """The particles in the order in which they will be written."""
    if settings.order == "file":
        rank = np.argsort(np.argsort(np.array(table.files)))
        return table.take(np.argsort(rank[table["file"]], kind="stable"))
    alone = never_combined(table, settings)
    if alone.any():
        _, first_row, position = np.unique(input_of_row(table), return_index=True, return_inverse=True)
        return table.take(np.argsort(np.where(alone, first_row[position], np.arange(len(table))), kind="stable"))
    return table


def input_of_row(table: ParticleTable) -> npt.NDArray[np.int64]:
    """(n,) equal where two particles come from the same image file and the same table."""
    return np.asarray(table["source"].astype(np.int64) * len(table.files) + table["file"])


def input_ends(table: ParticleTable, settings: ConversionSettings) -> npt.NDArray[np.bool_]:
    """(n - 1,) where a stack must end because the next particle comes from another file, and one of the two is never combined."""
    alone = never_combined(table, settings)
    return np.asarray((np.diff(input_of_row(table)) != 0) & (alone[1:] | alone[:-1]))
