"""The Cartesian grid, under CryoLike's names."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cryolike_dask.errors import InputError
from cryolike_dask.grids import CartesianGrid2D


def test_sizes_of_a_box_that_is_not_square() -> None:
    grid = CartesianGrid2D([4, 6], [1.5, 0.5])
    assert grid.n_pixels.tolist() == [4, 6]
    assert grid.n_pixels.dtype == np.int64
    assert grid.pixel_size.tolist() == [1.5, 0.5]
    assert grid.box_size.tolist() == [6.0, 3.0]
    assert grid.radius.tolist() == [3.0, 1.5]
    assert grid.n_pixels_total == 24


def test_the_origin_is_the_pixel_after_the_middle() -> None:
    grid = CartesianGrid2D([4, 6], [1.5, 0.5])
    assert grid.x_axis.tolist() == [-3.0, -1.5, 0.0, 1.5]
    np.testing.assert_allclose(grid.y_axis, [-1.5, -1.0, -0.5, 0.0, 0.5, 1.0], atol=1e-15)
    x, y = np.meshgrid(grid.x_axis, grid.y_axis, indexing="ij")
    assert np.array_equal(grid.x_pixels, x)
    assert np.array_equal(grid.y_pixels, y)


def test_with_an_endpoint_the_axes_reach_the_edges() -> None:
    grid = CartesianGrid2D(5, 2.0, endpoint=True)
    assert grid.x_axis.tolist() == [-5.0, -2.5, 0.0, 2.5, 5.0]


@pytest.mark.parametrize("n_pixels", [32, 32.0, [32], [32, 32], (32, 32), np.array([32, 32])])
@pytest.mark.parametrize("pixel_size", [1.5, [1.5], np.array([1.5, 1.5])])
def test_one_number_is_a_square(n_pixels: Any, pixel_size: Any) -> None:
    grid = CartesianGrid2D.from_descriptor((n_pixels, pixel_size))
    assert (grid.n_pixels.tolist(), grid.pixel_size.tolist()) == ([32, 32], [1.5, 1.5])
    assert CartesianGrid2D.from_descriptor(grid) is grid


@pytest.mark.parametrize(
    ("n_pixels", "pixel_size", "named"),
    [(0, 1.0, "positive"), (4, -1.0, "positive"), (4.5, 1.0, "n_pixels"), ("many", 1.0, "n_pixels"), (4, [1, 2, 3], "pixel_size")],
)
def test_values_out_of_range_are_named(n_pixels: Any, pixel_size: Any, named: str) -> None:
    with pytest.raises(InputError, match=named):
        CartesianGrid2D(n_pixels, pixel_size)
