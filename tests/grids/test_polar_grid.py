"""The polar quadrature."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cryolike_dask.grids.polar_grid import PolarGrid
from tests.support.direct_transform import polar_grid

GRIDS = [(12.0, 0.25, 96), (64.0, 0.25, 512), (3.1, 0.25, 7), (6.0, 0.25, 61), (0.2, 0.25, 1), (4.0, 1.3, 10)]


@pytest.mark.parametrize(("radius_max", "dist_radii", "n_inplanes"), GRIDS)
def test_weights_sum_to_the_area_of_the_disc(radius_max: float, dist_radii: float, n_inplanes: int) -> None:
    grid = PolarGrid(radius_max, dist_radii, n_inplanes)
    assert grid.shell_weights.sum() * n_inplanes == pytest.approx(math.pi * radius_max**2, rel=1e-12)


@pytest.mark.parametrize(
    ("radius_max", "n_shells"), [(12.0, 49), (12.1, 50), (11.9, 49), (64.0, 257), (0.25, 2), (0.1, 2), (20.0, 81)]
)
def test_number_of_shells(radius_max: float, n_shells: int) -> None:
    grid = PolarGrid(radius_max, 0.25, 8)
    assert grid.n_shells == n_shells
    assert grid.n_points == 8 * n_shells
    assert len(grid.radii) == len(grid.shell_weights) == n_shells


@pytest.mark.parametrize(("radius_max", "dist_radii", "n_inplanes"), GRIDS)
def test_nodes_are_those_of_gauss_and_jacobi(radius_max: float, dist_radii: float, n_inplanes: int) -> None:
    grid, independent = PolarGrid(radius_max, dist_radii, n_inplanes), polar_grid(radius_max, dist_radii, n_inplanes)
    np.testing.assert_allclose(grid.radii, independent.radii, rtol=0, atol=1e-13 * radius_max)
    np.testing.assert_allclose(grid.shell_weights, independent.weights, rtol=1e-9)
    np.testing.assert_allclose(grid.angles, independent.angles, rtol=1e-15)
    assert (np.diff(grid.radii) > 0).all()
    assert grid.radii[0] > 0
    assert grid.radii[-1] < radius_max


def test_polynomials_are_integrated_exactly() -> None:
    grid = PolarGrid(3.0, 0.5, 16)
    for degree in range(2 * grid.n_shells - 1):
        integral = (grid.shell_weights * grid.radii**degree).sum() * grid.n_inplanes
        assert integral == pytest.approx(2 * math.pi * 3.0 ** (degree + 2) / (degree + 2), rel=1e-12)
