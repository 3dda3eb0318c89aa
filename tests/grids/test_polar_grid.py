"""The polar quadrature."""

from __future__ import annotations

import math
from enum import Enum
from typing import Any

import numpy as np
import pytest
import torch

from cryolike_dask.errors import InputError
from cryolike_dask.grids import PolarGrid
from tests.support.direct_transform import polar_grid

GRIDS = [(12.0, 0.25, 96), (64.0, 0.25, 512), (3.1, 0.25, 7), (6.0, 0.25, 61), (0.2, 0.25, 1), (4.0, 1.3, 10)]


@pytest.mark.parametrize(("radius_max", "dist_radii", "n_inplanes"), GRIDS)
def test_weights_sum_to_the_area_of_the_disc(radius_max: float, dist_radii: float, n_inplanes: int) -> None:
    grid = PolarGrid(radius_max, dist_radii, n_inplanes=n_inplanes)
    assert grid.shell_weights.sum() * n_inplanes == pytest.approx(math.pi * radius_max**2, rel=1e-12)


@pytest.mark.parametrize(
    ("radius_max", "n_shells"), [(12.0, 49), (12.1, 50), (11.9, 49), (64.0, 257), (0.25, 2), (0.1, 2), (20.0, 81)]
)
def test_number_of_shells(radius_max: float, n_shells: int) -> None:
    grid = PolarGrid(radius_max, 0.25, n_inplanes=8)
    assert grid.n_shells == n_shells
    assert grid.n_points == 8 * n_shells
    assert len(grid.radii) == len(grid.shell_weights) == n_shells


@pytest.mark.parametrize(("radius_max", "dist_radii", "n_inplanes"), GRIDS)
def test_nodes_are_those_of_gauss_and_jacobi(radius_max: float, dist_radii: float, n_inplanes: int) -> None:
    grid, independent = PolarGrid(radius_max, dist_radii, n_inplanes=n_inplanes), polar_grid(radius_max, dist_radii, n_inplanes)
    np.testing.assert_allclose(grid.radii, independent.radii, rtol=0, atol=1e-13 * radius_max)
    np.testing.assert_allclose(grid.shell_weights, independent.weights, rtol=1e-9)
    np.testing.assert_allclose(grid.angles, independent.angles, rtol=1e-15)
    assert (np.diff(grid.radii) > 0).all()
    assert grid.radii[0] > 0
    assert grid.radii[-1] < radius_max


def test_polynomials_are_integrated_exactly() -> None:
    grid = PolarGrid(3.0, 0.5, n_inplanes=16)
    for degree in range(2 * grid.n_shells - 1):
        integral = (grid.shell_weights * grid.radii**degree).sum() * grid.n_inplanes
        assert integral == pytest.approx(2 * math.pi * 3.0 ** (degree + 2) / (degree + 2), rel=1e-12)


class QuadratureType(Enum):
    """The values of CryoLike's enumeration."""

    GAUSS_JACOBI_BETA_1 = "gauss-jacobi"
    GAUSS_JACOBI_BETA_2 = "gauss-jacobi-beta-2"


def test_values_are_available_under_cryolikes_names() -> None:
    grid = PolarGrid(3.1, 0.25, n_inplanes=7)
    shape = (grid.n_shells, 7)
    assert grid.radius_shells is grid.radii
    assert grid.theta_shell is grid.angles
    assert (grid.uniform, grid.half_space) == (True, False)
    assert grid.n_inplane_shells.tolist() == [7] * grid.n_shells
    radius, theta = np.meshgrid(grid.radii, grid.angles, indexing="ij")
    assert np.array_equal(grid.radius_points, radius.ravel())
    assert np.array_equal(grid.theta_points, theta.ravel())
    np.testing.assert_allclose(grid.x_points, (radius * np.cos(theta)).ravel(), rtol=1e-15)
    np.testing.assert_allclose(grid.y_points, (radius * np.sin(theta)).ravel(), rtol=1e-15)
    assert grid.integration_weight_points.shape == shape
    assert grid.integration_weight_points.sum() == pytest.approx(math.pi * 3.1**2, rel=1e-12)
    np.testing.assert_allclose(grid.weight_points * (2 * math.pi) ** 2, grid.integration_weight_points.ravel(), rtol=1e-14)
    np.testing.assert_allclose(grid.weight_points.reshape(shape).sum(axis=1), grid.weight_shells, rtol=1e-14)
    assert grid.resolution(62.0)[-1] == pytest.approx(62.0 / (2 * grid.radii[-1]))


@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_integrals_over_the_disc(kind: str) -> None:
    grid = PolarGrid(3.0, 0.5, n_inplanes=16)
    squares = (grid.radius_points**2).reshape(grid.n_shells, 16)
    ones, expected = np.ones_like(squares), [math.pi * 9, math.pi * 81 / 2]
    stack = np.stack([ones, squares])
    take = torch.from_numpy if kind == "torch" else np.asarray
    for functions, n in ((stack, 2), (stack.reshape(2, -1), 2), (stack[None], 2), (ones, 1), (ones.ravel(), 1)):
        integrals = grid.integrate(take(functions))
        assert type(integrals) is type(take(functions))
        assert np.asarray(integrals).ravel().tolist() == pytest.approx(expected[:n], rel=1e-12)
    assert np.asarray(grid.integrate(take(ones * 1j))).ravel()[0] == pytest.approx(1j * math.pi * 9)
    assert grid.integrate(ones.ravel()).shape == (1,)


@pytest.mark.parametrize("f", [np.ones((3, 5)), np.ones(3), 1.0])
def test_what_is_not_sampled_on_the_grid_has_no_integral(f: Any) -> None:
    with pytest.raises(InputError, match="7 × 16 points"):
        PolarGrid(3.0, 0.5, n_inplanes=16).integrate(f)


def test_arguments_come_in_cryolikes_order() -> None:
    given = PolarGrid(3.0, 0.5, True, QuadratureType.GAUSS_JACOBI_BETA_1, np.array([16]), 0.1, False)  # type: ignore[arg-type]
    assert given == PolarGrid(3.0, 0.5, n_inplanes=16)


def test_in_plane_angles_follow_from_their_distance_if_not_given() -> None:
    assert PolarGrid(33.0, 0.25).n_inplanes == 2 * (3 + round((3 + round(33 * 4 * math.pi**2)) / 2))
    assert PolarGrid(33.0, 0.25, dist_inplane=1.0).n_inplanes == 2 * (3 + (3 + 207) // 2)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"uniform": False}, "uniform"),
        ({"uniform": 16}, "uniform"),  # n_inplanes in the wrong position
        ({"half_space": True}, "half_space"),
        ({"quadrature": QuadratureType.GAUSS_JACOBI_BETA_2}, "quadrature"),
        ({"n_inplanes": np.array([16, 18])}, "n_inplanes"),
        ({"n_inplanes": 0}, "n_inplanes"),
        ({"n_inplanes": 2.5}, "n_inplanes"),
        ({"radius_max": -1.0}, "radius_max"),
        ({"dist_radii": math.nan}, "dist_radii"),
        ({"dist_inplane": 0.0}, "dist_inplane"),
    ],
    ids=str,
)
def test_grids_that_only_cryolike_has_are_refused_by_name(arguments: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match=named):
        PolarGrid(**({"radius_max": 3.0, "dist_radii": 0.5} | arguments))
