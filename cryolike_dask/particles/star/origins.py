"""Reads RELION's origins, which say where the particle is in each image."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cryolike_dask.particles.star.tables import StarTable

_IN_ANGSTROM = ("OriginXAngst", "OriginYAngst")  # RELION 3.1 and later
_IN_PIXELS = ("OriginX", "OriginY")  # RELION 3.0, in pixels of the images
_APPLIED = (
    "cryolikeAppliedOriginXAngst",
    "cryolikeAppliedOriginYAngst",
)  # applied to the stacks of a conversion, not to the images that the table names
ORIGINS = (*_IN_ANGSTROM, *_IN_PIXELS, *_APPLIED)


def fill_origins(rows: npt.NDArray[np.void], particles: StarTable) -> list[str]:
    """Write the origins that the table states into rows of PARTICLE_DTYPE, which already have pixel sizes. Returns warnings.

    Origins in pixels are converted to Å if the pixel size is stated, and kept in pixels if not.

    Raises:
        InputError: a value is not a finite number.
    """
    for names in (_IN_ANGSTROM, _IN_PIXELS):
        there = [name for name in names if name in particles]
        if len(there) == 2:
            rows["origin_x"], rows["origin_y"] = (particles.numbers(name) for name in names)
            if names is _IN_PIXELS:
                stated = np.isfinite(rows["pixel_size"])
                for column in ("origin_x", "origin_y"):
                    rows[column] *= np.where(stated, rows["pixel_size"], 1.0)
                rows["origin_in_pixels"] = ~stated
            elif all(name in particles for name in _APPLIED):
                # This is the particles.star of a run with apply_origins, whose origins are relative to the centred images.
                rows["origin_x"] += particles.numbers(_APPLIED[0])
                rows["origin_y"] += particles.numbers(_APPLIED[1])
            return []
        if there:
            (missing,) = set(names) - set(there)
            return [f"{particles.path}: rln{there[0]} is not used, because rln{missing} is missing."]
    return []
