"""The pixel size of each image on disk: that of the argument, else of the table, else of the image header if believable, else unknown.

Every conflict between them gives a warning or an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from cryolike_dask.errors import InputError
from cryolike_dask.formatting import plural
from cryolike_dask.metadata.pixel_sizes import differs, list_values, same_pixel_sizes
from cryolike_dask.mrc.header import ImageFile
from cryolike_dask.particles.table import ParticleTable
from cryolike_dask.settings import ConversionSettings

Origins = dict[str, npt.NDArray[np.bool_]]
"""For each place where pixel sizes were found, by its name, the rows with a pixel size from there."""


@dataclass(frozen=True)
class PixelSizes:
    """The pixel sizes that are known without the descriptor.

    Args:
        on_disk: (n,) Å, of each particle's image on disk; NaN where only the descriptor states it.
        origins: by 'argument', 'table', 'image headers' and 'descriptor': the rows whose size is from there.
        warnings: about conflicts.
    """

    on_disk: npt.NDArray[np.float64]
    origins: Origins
    warnings: tuple[str, ...]

    @property
    def stated(self) -> npt.NDArray[np.float64]:
        """(n,) sizes from the table, 0 for other rows. Sizes that differ only by rounding are made equal."""
        return same_pixel_sizes(np.where(self.origins.get("table", False), self.on_disk, np.nan))

    @property
    def taken_from(self) -> str:
        """The places where the sizes were found, as a phrase."""
        return " and ".join(self.origins)

    def says(self, row: int) -> str:
        """The place where the pixel size of this row was found, as the beginning of a clause: 'the table says', 'the image headers say'."""
        return _says(row, self.origins)


def decide_pixel_sizes(table: ParticleTable, files: Sequence[ImageFile | None], settings: ConversionSettings) -> PixelSizes:
    """Find the pixel size of each particle's image on disk.

    Args:
        table: all particles of the run.
        files: headers, aligned with `table.files`; None where no particle is left.
        settings: with the pixel size argument.

    Raises:
        InputError: the argument conflicts with the table.
    """
    warnings: list[str] = []
    stated = table["pixel_size"].copy()
    header = np.array([np.nan if file is None else file.pixel_size for file in files])[table["file"]]
    has_stated = np.isfinite(stated)
    manual = settings.pixel_size
    if manual is None:
        chosen = np.where(has_stated, stated, header)
        origins = {"table": has_stated, "image headers": ~has_stated & np.isfinite(header), "descriptor": np.isnan(chosen)}
    else:
        if not settings.ignore_manual_pixel_size:
            check_pixel_size_argument(table, settings)
        conflict = has_stated & differs(stated, np.full(len(table), manual))
        if conflict.any():
            fate = "overrides the table" if settings.override_pixel_size else "is ignored"
            warnings.append(
                f"The pixel size {manual:g} Å given as an argument {fate}: the table says {list_values(stated[conflict])} Å "
                f"for {int(conflict.sum()):,} of {len(table):,} particles."
            )
        chosen = np.where(has_stated & settings.ignore_manual_pixel_size, stated, manual)
        origins = {"argument": chosen == manual, "table": chosen != manual}
    conflict = np.isfinite(header) & differs(header, chosen)
    if conflict.any():
        row = int(np.argmax(conflict))
        warnings.append(
            f"The header of {table.files[table['file'][row]]} says {header[row]:g} Å per pixel; {_says(row, origins)} "
            f"{chosen[row]:g} Å, which is used. This concerns {plural(int(conflict.sum()), 'image')}."
        )
    return PixelSizes(chosen, {name: rows for name, rows in origins.items() if rows.any()}, tuple(warnings))


def with_origins_in_angstrom(table: ParticleTable, on_disk: npt.NDArray[np.float64], settings: ConversionSettings) -> ParticleTable:
    """The particles with their origins in Å of the pixel sizes in force.

    Args:
        table: the particles.
        on_disk: (n,) pixel size in force, Å, of each particle's image on disk.
        settings: if they override wrong pixel sizes of the table, lengths in Å that were measured with these are corrected.
    """
    rows = table.rows
    scale = np.where(rows["origin_in_pixels"], on_disk, 1.0)
    if settings.override_pixel_size:
        wrong = ~rows["origin_in_pixels"] & np.isfinite(rows["pixel_size"]) & differs(rows["pixel_size"], on_disk)
        scale[wrong] = (on_disk / rows["pixel_size"])[wrong]
    if (scale == 1).all() and not rows["origin_in_pixels"].any():
        return table
    rows = rows.copy()
    for column in ("origin_x", "origin_y"):
        rows[column] *= scale
    rows["origin_in_pixels"] = False
    return replace(table, rows=rows)


def check_pixel_size_argument(table: ParticleTable, settings: ConversionSettings) -> None:
    """Refuse a pixel size argument that contradicts the table, unless the settings override the table.

    Raises:
        InputError: naming both pixel sizes and the first particle concerned.
    """
    stated, manual = table["pixel_size"], settings.pixel_size
    if manual is None or settings.override_pixel_size:
        return
    conflict = np.isfinite(stated) & differs(stated, np.full(len(table), manual))
    if conflict.any():
        row = int(np.argmax(conflict))
        raise InputError(
            f"The pixel size {manual:g} Å given as an argument conflicts with {stated[row]:g} Å in {table.where(row)}. If the "
            "table is right, leave out the argument, or add ignore_manual_pixel_size=True (--ignore-manual-pixel-size). If the table is "
            "wrong, override it with override_pixel_size=True (--override-pixel-size)."
        )


def _says(row: int, origins: Origins) -> str:
    origin = next(name for name, rows in origins.items() if rows[row])
    return f"the {origin} {'say' if origin.endswith('s') else 'says'}"
