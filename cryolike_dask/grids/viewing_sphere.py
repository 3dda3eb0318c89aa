"""The directions from which CryoLike's templates look at a structure."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from cryolike_dask.errors import InputError


def viewing_directions(viewing_distance: float) -> npt.NDArray[np.float64]:
    """Directions in the order of CryoLike's templates: circles about the z axis, from its negative end to its positive end.

    The polar angles are Gauss-Legendre nodes, which integrate over the sphere.

    Args:
        viewing_distance: approximate distance between neighbouring directions in radians; see `ImageDescriptor.viewing_distance`.

    Returns:
        (n, 2) azimuth and polar angle in radians.

    Raises:
        InputError: the distance is not a positive number.
    """
    from scipy.special import roots_legendre  # here, because importing it takes longer than `cryolike_dask` itself

    if not (math.isfinite(viewing_distance) and viewing_distance > 0):
        raise InputError(f"viewing_distance is {viewing_distance}: it must be a positive number.")
    around_equator = 2.0 * math.pi / viewing_distance
    n_circles = 3 + math.ceil((3 + round(around_equator)) / 2)
    nodes, _ = roots_legendre(n_circles)
    polar = np.arccos(nodes)
    sizes = 3 + np.round(around_equator * np.sin(polar)).astype(np.int64)  # (n_circles,)
    azimuth = [np.linspace(0.0, 2.0 * np.pi, size, endpoint=False) for size in sizes.tolist()]
    return np.stack([np.concatenate(azimuth), np.repeat(polar, sizes)], axis=1)
