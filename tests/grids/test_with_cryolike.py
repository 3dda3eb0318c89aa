"""Our grids compared with CryoLike's, if CryoLike can be imported."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from cryolike_dask.errors import InputError
from cryolike_dask.grids import CartesianGrid2D, PolarGrid
from tests.support.cryolike import import_cryolike

cryolike = import_cryolike()

POLAR = (
    *("uniform", "radius_max", "dist_radii", "n_shells", "n_inplanes", "n_points", "half_space", "n_inplane_shells"),
    *("radius_shells", "weight_shells", "radius_points", "theta_shell", "theta_points", "weight_points"),
    *("integration_weight_points", "x_points", "y_points"),
)
CARTESIAN = (
    "n_pixels",
    "pixel_size",
    "box_size",
    "radius",
    "x_axis",
    "y_axis",
    "x_pixels",
    "y_pixels",
    "n_pixels_total",
    "endpoint",
)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((12.0, 0.25), {"n_inplanes": 96}),
        ((33.0, 0.25), {}),
        ((3.1, 0.5), {"dist_inplane": 0.3}),
        ((6.0, 0.25, True), {"n_inplanes": np.array(61)}),
        ((8.25, 0.25, True, cryolike.QuadratureType.GAUSS_JACOBI_BETA_1, 64, 0.1, False), {}),
    ],
)
def test_polar_grids_have_the_same_attributes(arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
    ours, theirs = PolarGrid(*arguments, **named), cryolike.PolarGrid(*arguments, **named)
    for name in POLAR:
        ours_is, theirs_is = getattr(ours, name), getattr(theirs, name)
        assert np.shape(ours_is) == np.shape(theirs_is), name
        np.testing.assert_allclose(ours_is, theirs_is, rtol=1e-13, atol=1e-14 * ours.radius_max, err_msg=name)
    np.testing.assert_allclose(ours.resolution(264.0), theirs.resolution(264.0), rtol=1e-13)


@pytest.mark.parametrize("kind", ["numpy", "torch"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex64, np.complex128])
def test_integrals_are_the_same(kind: str, dtype: Any) -> None:
    ours, theirs = (grid(radius_max=6.0, dist_radii=0.25, n_inplanes=48) for grid in (PolarGrid, cryolike.PolarGrid))
    rng = np.random.default_rng(5)
    stack = rng.normal(size=(3, ours.n_shells, ours.n_inplanes)).astype(dtype)
    for function in (stack, stack.reshape(3, -1), stack[0], stack[0].ravel(), stack[None], stack.reshape(1, 3, -1)):
        given = torch.from_numpy(function) if kind == "torch" else function
        expected, found = theirs.integrate(given), ours.integrate(given)
        assert (type(found), found.shape, found.dtype) == (type(expected), expected.shape, expected.dtype)
        np.testing.assert_allclose(found, expected, rtol=1e-12 if dtype in (np.float64, np.complex128) else 1e-4)


@pytest.mark.parametrize(
    "arguments", [(132, 1.346), ([32, 24], [1.5, 2.0]), (np.array([33]), np.array([1.1, 1.1])), (5, 2.0, True), (48.0, 3)]
)
def test_cartesian_grids_have_the_same_attributes(arguments: tuple[Any, ...]) -> None:
    ours, theirs = CartesianGrid2D(*arguments), cryolike.CartesianGrid2D(*arguments)
    for name in CARTESIAN:
        assert np.array_equal(getattr(ours, name), getattr(theirs, name)), name
        assert np.asarray(getattr(ours, name)).dtype == np.asarray(getattr(theirs, name)).dtype, name


@pytest.mark.parametrize("quadrature", list(cryolike.QuadratureType))
def test_only_the_quadrature_of_images_is_taken(quadrature: Any) -> None:
    if quadrature == cryolike.QuadratureType.GAUSS_JACOBI_BETA_1:
        assert PolarGrid(3.0, 0.5, quadrature=quadrature, n_inplanes=8) == PolarGrid(3.0, 0.5, n_inplanes=8)
    else:
        with pytest.raises(InputError, match="quadrature"):
            PolarGrid(3.0, 0.5, quadrature=quadrature, n_inplanes=8)
