"""Checks that a stack has one voltage, spherical aberration, amplitude contrast and pixel size; warnings about astigmatism."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from cryolike_dask.errors import InputError
from cryolike_dask.formatting import plural
from cryolike_dask.particles.table import ParticleTable
from cryolike_dask.planning.checks import table_names
from cryolike_dask.planning.row_order import input_ends
from cryolike_dask.settings import ConversionSettings

_MAX_LISTED = 200

_STRONG_ASTIGMATISM = 200.0  # Å of |U - V|: with less, a wrong axis hardly changes the CTF


def check_mixed_optics(table: ParticleTable, settings: ConversionSettings, pixel_size: npt.NDArray[np.float64]) -> None:
    """Refuse particles whose optics differ within a stack, unless the settings let a stack end where the optics change.

    Args:
        table: in output order.
        settings: of the run.
        pixel_size: (n,) Å; 0 where it is not known.

    Raises:
        InputError: naming the optics groups.
    """
    if settings.mixed_optics == "split":
        return
    columns = optics_columns(table, pixel_size)
    another_source = np.diff(table["source"]) != 0
    if (optics_changes(columns) & ~input_ends(table, settings) & ~another_source).any():
        raise InputError(_partly_stated(table, pixel_size) or _describe_combinations(table, columns))


def astigmatism_warnings(table: ParticleTable, settings: ConversionSettings) -> tuple[str, ...]:
    """Warnings about the axes from which the angle of astigmatism is measured.

    Args:
        table: the particles.
        settings: with the axes.
    """
    warnings = []
    u, v = table["defocus_u"], table["defocus_v"]
    typical = float(np.median(np.abs(u - v)))
    if settings.axes == "cryolike" and typical > _STRONG_ASTIGMATISM:
        warnings.append(
            f"{table_names(table)}: the median astigmatism |U - V| is {typical:,.0f} Å. With axes='cryolike', the default, CryoLike "
            "measures its angle from the axis of the row index, but RELION, cryoSPARC and Leopard-EM measure it from the axis of the "
            "column index. For a table of these programs, choose axes='relion' (--axes relion)."
        )
    exchanged = np.flatnonzero(u < v)
    if len(exchanged):
        warnings.append(
            f"Defocus U is smaller than V for {len(exchanged):,} of {len(table):,} particles, first in {table.where(int(exchanged[0]))}. "
            "CryoLike's CTF would turn their astigmatism by 90°. Therefore U and V are exchanged in the metadata of the stacks, and 90° "
            "added to the angle, which gives the same CTF as in the table. particles.star keeps the values of the table."
        )
    return tuple(warnings)


def optics_columns(table: ParticleTable, pixel_size: npt.NDArray[np.float64]) -> list[npt.NDArray[np.float64]]:
    """(n,) each: voltage, spherical aberration, amplitude contrast and pixel size of the particles."""
    return [table["voltage"], table["spherical_aberration"], table["amplitude_contrast"], pixel_size]


def optics_changes(columns: Sequence[npt.NDArray[np.float64]]) -> npt.NDArray[np.bool_]:
    """(n - 1,) where the optics of a row differ from those of the row before it."""
    changed = np.zeros(len(columns[0]) - 1, dtype=bool)
    for column in columns:
        changed |= column[1:] != column[:-1]
    return changed


def _partly_stated(table: ParticleTable, pixel_size: npt.NDArray[np.float64]) -> str:
    """A warning if a table gives the pixel size of only some of its particles; '' if each table gives it for all or none."""
    for number, source in enumerate(table.sources):
        of_table = table["source"] == number
        without = np.flatnonzero(of_table & (pixel_size == 0))
        stated = pixel_size[of_table & (pixel_size > 0)]
        if len(without) and len(stated):
            more = f" and {plural(len(without) - 1, 'more particle')}" if len(without) > 1 else ""
            return (
                f"{table.where(int(without[0]))}: {source.table} states no pixel size for this particle{more}, but {stated[0]:g} Å for "
                "others. Correct the table, or give the pixel size of all its images: pixel_size (--pixel-size)."
            )
    return ""


def _describe_combinations(table: ParticleTable, columns: Sequence[npt.NDArray[np.float64]]) -> str:
    values = np.stack(columns, axis=1)
    _, first, combination, counts = np.unique(values, axis=0, return_index=True, return_inverse=True, return_counts=True)
    names: list[dict[str, None]] = [{} for _ in first]
    for number, group in dict.fromkeys(zip(combination.ravel().tolist(), table["optics_group"].tolist(), strict=True)):
        names[number][table.optics_groups[group] or "unnamed"] = None
    lines = []
    for row, number in sorted(zip(first.tolist(), range(len(first)), strict=True)):
        voltage, aberration, contrast, size = values[row]
        pixel = f", {size:g} Å per pixel" if size else ""
        images = plural(int(counts[number]), "image")
        lines.append(f"{', '.join(names[number])}: {voltage:g} kV, Cs {aberration:g} mm, contrast {contrast:g}{pixel} ({images})")
    return (
        f"{table_names(table)}: a stack holds one voltage, spherical aberration, amplitude contrast and pixel size, but the particles "
        f"have {len(lines)} combinations: {'; '.join(lines[:_MAX_LISTED])}. Convert the groups separately, or let stacks end where the "
        "group changes, with mixed_optics='split' (--mixed-optics split)."
    )
