"""Where the particle lies in each image, as RELION's columns say it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cryolike_dask.particles.star.tables import StarTable

_IN_ANGSTROM = ("OriginXAngst", "OriginYAngst")  # RELION 3.1 and later
_IN_PIXELS = ("OriginX", "OriginY")  # RELION 3.0, in pixels of the images
_APPLIED = ("cryolikeAppliedOriginXAngst", "cryolikeAppliedOriginYAngst")  # to the stacks of a conversion, not to the images named
ORIGINS = (*_IN_ANGSTROM, *_IN_PIXELS, *_APPLIED)


def fill_origins(rows: npt.NDArray[np.void], particles: StarTable) -> list[str]:
    """Write the origins, where the table states them, into rows of PARTICLE_DTYPE that have their pixel sizes. Returns warnings.

    Origins in pixels become Å where the pixel size is stated, and stay what they are elsewhere.

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
                # particles.star of a run with apply_origins: its origins are those of the centred images.
                rows["origin_x"] += particles.numbers(_APPLIED[0])
                rows["origin_y"] += particles.numbers(_APPLIED[1])
            return []
        if there:
            (missing,) = set(names) - set(there)
            return [f"{particles.path}: rln{there[0]} is not used, since rln{missing} is missing."]
    return []
