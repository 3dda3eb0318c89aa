"""Reads CryoLike's own image descriptors by their attributes, without importing CryoLike."""

from __future__ import annotations

from typing import Any

import numpy as np

from cryolike_dask.errors import InputError
from cryolike_dask.grids.polar_grid import PolarGrid


def is_image_descriptor(value: Any) -> bool:
    """Whether the value has the attributes of CryoLike's ImageDescriptor."""
    return all(hasattr(value, name) for name in ("cartesian_grid", "polar_grid", "precision", "viewing_distance"))


def values_of(descriptor: Any) -> dict[str, Any]:
    """The values of CryoLike's ImageDescriptor under the keys of a params file.

    Raises:
        InputError: a params file cannot hold the descriptor: it has explicit viewing angles, or a polar grid of another kind.
    """
    if descriptor.viewing_distance is None:
        raise InputError(
            "The image descriptor has explicit viewing_angles, which a params file cannot hold. "
            "Give one that was made with a viewing_distance; images need no viewing angles."
        )
    polar, cartesian = descriptor.polar_grid, descriptor.cartesian_grid
    if not polar.uniform:
        raise InputError(
            "The polar_grid of the image descriptor is not uniform: its shells have different in-plane angles. "
            "Stacks have the same angles on all shells; give a descriptor with a uniform grid."
        )
    grid = PolarGrid(polar.radius_max, polar.dist_radii, n_inplanes=polar.n_inplanes)
    for ours, theirs, what in (
        (grid.radii, polar.radius_shells, "radii of the shells"),
        (grid.angles, polar.theta_shell, "in-plane angles"),
    ):
        # A grid has no attribute for its kind of quadrature; its nodes show which kind it is.
        if np.shape(theirs) != ours.shape or not np.allclose(ours, theirs, rtol=1e-9, atol=0):
            raise InputError(
                f"The {what} of the polar_grid are not those of CryoLike's default grid, the only one that a params file describes. "
                "Give a descriptor with a Gauss-Jacobi grid over the full circle."
            )
    return {
        "n_pixels": cartesian.n_pixels,
        "pixel_size": cartesian.pixel_size,
        "radius_max": polar.radius_max,
        "dist_radii": polar.dist_radii,
        "n_inplanes": polar.n_inplanes,
        **{
            key: getattr(descriptor, key)
            for key in ("precision", "viewing_distance", "atom_radii", "atom_selection", "use_protein_residue_model", "atom_shape")
        },
    }


def same_grids(descriptor: Any, other: Any) -> bool:
    """Whether the grids of two descriptors, ours or CryoLike's, are exactly equal."""
    polar = [(descriptor.polar_grid, other.polar_grid, name) for name in ("radius_max", "dist_radii", "n_inplanes")]
    cartesian = [(descriptor.cartesian_grid, other.cartesian_grid, name) for name in ("n_pixels", "pixel_size")]
    return all(np.array_equal(getattr(a, name), getattr(b, name, np.nan)) for a, b, name in polar + cartesian)
