"""The directions of CryoLike's templates, in exactly CryoLike's order."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cryolike_dask.errors import InputError
from cryolike_dask.grids.viewing_sphere import viewing_directions

# The values of CryoLike's ViewingAngles.from_viewing_distance(1.0), in single precision: circles, and points on each.
POLAR = [
    *(2.8588356971740723, 2.492556095123291, 2.1241371631622314, 1.7552756071090698),
    *(1.3863171339035034, 1.0174555778503418, 0.6490365862846375, 0.28275707364082336),
]
SIZES = [5, 7, 8, 9, 9, 8, 7, 5]


def test_directions_are_those_of_cryolike() -> None:
    directions = viewing_directions(1.0)
    np.testing.assert_allclose(directions[:, 1], np.repeat(POLAR, SIZES), atol=3e-7)
    azimuth = np.concatenate([2 * np.pi * np.arange(size) / size for size in SIZES])
    np.testing.assert_allclose(directions[:, 0], azimuth, atol=1e-12)


@pytest.mark.parametrize(
    ("distance", "number"), [(0.15, 782), (1 / (4 * math.pi), 2370), (8 / (4 * math.pi), 96), (0.0317, 13498), (2.7, 28)]
)
def test_there_are_as_many_as_cryolike_has(distance: float, number: int) -> None:
    assert viewing_directions(distance).shape == (number, 2)


def test_no_direction_is_farther_than_the_distance_from_the_nearest() -> None:
    azimuth, polar = viewing_directions(0.2).T
    points = np.stack([np.cos(azimuth) * np.sin(polar), np.sin(azimuth) * np.sin(polar), np.cos(polar)], axis=1)
    anywhere = np.random.default_rng(0).normal(size=(2000, 3))
    anywhere /= np.linalg.norm(anywhere, axis=1, keepdims=True)
    assert 0.1 < np.arccos((anywhere @ points.T).max(axis=1)).max() < 0.2


@pytest.mark.parametrize("distance", [0.0, -1.0, math.nan, math.inf])
def test_a_distance_out_of_range_is_refused(distance: float) -> None:
    with pytest.raises(InputError, match="viewing_distance"):
        viewing_directions(distance)
