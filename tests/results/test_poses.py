"""Poses in RELION's convention: RELION's projection with a pose is the image that CryoLike matched."""

from __future__ import annotations

import itertools
import math

import numpy as np
import numpy.typing as npt
import pytest

from cryolike_dask.errors import InputError
from cryolike_dask.results.poses import TemplateSource, relion_angles, relion_origins
from cryolike_dask.simulation.phantom import euler_matrices
from tests.support.direct_transform import Grid, direct_transform, downsampled, polar_grid

Floats = npt.NDArray[np.float64]
BOX, PIXEL_SIZE = 24, 2.0
N_INPLANES = 48
WIDTH = 2.5
GRID = polar_grid(BOX / 4, 0.5, N_INPLANES)


def molecule(seed: int) -> tuple[Floats, Floats]:
    """Centres (k, 3) and weights (k,) of Gaussian blobs without symmetry; the weights sum to 0, so that no two views are similar."""
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=12)
    return rng.uniform(-9, 9, (12, 3)), weights - weights.mean()


def matched_by_cryolike(
    centres: Floats, weights: Floats, azimuth: float, polar: float, turns: int, displacement: tuple[float, float]
) -> npt.NDArray[np.complex128]:
    """(n_shells, n_inplanes) template of this direction, displaced, then rotated by whole in-plane steps, as CryoLike does."""
    x, y = (np.outer(GRID.radii, part(GRID.angles)) for part in (np.cos, np.sin))
    k = np.stack([x, y], axis=-1) * 2 / (BOX * PIXEL_SIZE)  # (n_shells, n_inplanes, 2), in 1 / Å
    cos_a, sin_a, cos_p, sin_p = math.cos(azimuth), math.sin(azimuth), math.cos(polar), math.sin(polar)
    # As in CryoLike's _fourier_circles: about y by the polar angle, then about z by the azimuth.
    in_space = np.stack(
        [
            cos_a * cos_p * k[..., 0] - sin_a * k[..., 1],
            sin_a * cos_p * k[..., 0] + cos_a * k[..., 1],
            -sin_p * k[..., 0],
        ],
        axis=-1,
    )
    fall = np.exp(-2 * (np.pi * WIDTH) ** 2 * (k**2).sum(axis=-1))
    template = fall * (np.exp(-2j * np.pi * in_space @ centres.T) @ weights)
    template = template * np.exp(-2j * np.pi * (k @ np.array(displacement)))
    return np.roll(template, -turns, axis=1)


def projected_by_relion(
    centres: Floats, weights: Floats, angles: Floats, origin: Floats, box: int = BOX, pixel_size: float = PIXEL_SIZE
) -> Floats:
    """(box, box) image, whose rows are y. Shifting it by the origin moves the molecule to the central pixel."""
    x, y, _ = (euler_matrices(angles[None])[0] @ centres.T) - np.append(origin, 0.0)[:, None]
    position = (np.arange(box) - box // 2) * pixel_size
    along_x, along_y = (np.exp(-((position[:, None] - place) ** 2) / (2 * WIDTH**2)) for place in (x, y))
    return (along_y * weights) @ along_x.T


def likeness(first: npt.NDArray[np.complex128], second: npt.NDArray[np.complex128], grid: Grid = GRID) -> float:
    """Correlation of two Fourier images over the disc."""
    weights = grid.weights[:, None]
    product = (weights * first * second.conj()).sum().real
    return float(product / np.sqrt((weights * abs(first) ** 2).sum() * (weights * abs(second) ** 2).sum()))


def as_stacked(image: Floats, axes: str, factor: int = 1) -> npt.NDArray[np.complex128]:
    """The transform of an image of RELION in a run with these axes, except for the mean."""
    return direct_transform(downsampled(image.T if axes == "relion" else image, factor), GRID)


CASES = list(itertools.product(("cryolike", "relion"), ("pdb", "map")))


@pytest.mark.parametrize(("axes", "source"), CASES)
@pytest.mark.parametrize("seed", range(4))
def test_relions_projection_is_the_image_that_cryolike_matched(axes: str, source: TemplateSource, seed: int) -> None:
    rng = np.random.default_rng(seed)
    centres, weights = molecule(seed)
    azimuth, polar = rng.uniform(0, 2 * np.pi), np.arccos(rng.uniform(-1, 1))
    turns, displacement = int(rng.integers(N_INPLANES)), (float(rng.uniform(-4, 4)), float(rng.uniform(-4, 4)))
    # CryoLike takes the first index of a map's array, which is RELION's z, as x.
    seen = centres[:, ::-1] if source == "map" else centres
    found = matched_by_cryolike(seen, weights, azimuth, polar, turns, displacement)

    directions, inplane = np.array([[azimuth, polar]]), np.array([2 * np.pi * turns / N_INPLANES])
    likenesses = {}
    for other in CASES:
        angles = relion_angles(directions, inplane, other[0], other[1])
        origins = relion_origins(np.array([displacement]), inplane, other[0], np.zeros(1))
        likenesses[other] = likeness(as_stacked(projected_by_relion(centres, weights, angles[0], origins[0]), axes), found)
    assert likenesses[axes, source] > 0.999
    assert all(value < 0.9 for case, value in likenesses.items() if case != (axes, source))


def test_angles_are_the_documented_ones() -> None:
    rng = np.random.default_rng(0)
    azimuth, polar, inplane = rng.uniform(0, 2 * np.pi, 50), np.arccos(rng.uniform(-1, 1, 50)), rng.uniform(0, 2 * np.pi, 50)
    rot, tilt, psi = relion_angles(np.stack([azimuth, polar], axis=1), inplane, "cryolike").T
    # The guide gives CryoLike's angles as a function of RELION's.
    np.testing.assert_allclose(same(rot + 180), same(np.degrees(azimuth)), atol=1e-9)
    np.testing.assert_allclose(180 - tilt, np.degrees(polar), atol=1e-9)
    np.testing.assert_allclose(same(270 - psi), same(np.degrees(inplane)), atol=1e-9)
    rot, tilt, psi = relion_angles(np.stack([azimuth, polar], axis=1), inplane, "relion").T
    np.testing.assert_allclose(same(rot), same(np.degrees(azimuth)), atol=1e-9)
    np.testing.assert_allclose(tilt, np.degrees(polar), atol=1e-9)
    np.testing.assert_allclose(same(psi), same(np.degrees(inplane)), atol=1e-9)


def same(degrees: Floats) -> Floats:
    """Points on the circle, so that 0° and 360° are the same."""
    return np.stack([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))])


@pytest.mark.parametrize(("axes", "source"), CASES)
@pytest.mark.parametrize("polar", [0.0, np.pi / 2, np.pi])
def test_views_along_an_axis_have_angles_too(axes: str, source: TemplateSource, polar: float) -> None:
    centres, weights = molecule(7)
    seen = centres[:, ::-1] if source == "map" else centres
    for azimuth in (0.0, np.pi / 2, np.pi, 4.0):
        found = matched_by_cryolike(seen, weights, azimuth, polar, 5, (0.0, 0.0))
        angles = relion_angles(np.array([[azimuth, polar]]), np.array([2 * np.pi * 5 / N_INPLANES]), axes, source)
        image = projected_by_relion(centres, weights, angles[0], np.zeros(2))
        assert likeness(as_stacked(image, axes), found) > 0.999


@pytest.mark.parametrize("axes", ["cryolike", "relion"])
def test_origins_are_those_of_the_images_before_downsampling(axes: str) -> None:
    centres, weights = molecule(3)
    turns, displacement = 11, (3.0, -1.5)
    found = matched_by_cryolike(centres, weights, 1.0, 2.0, turns, displacement)
    inplane = np.array([2 * np.pi * turns / N_INPLANES])
    angles = relion_angles(np.array([[1.0, 2.0]]), inplane, axes)
    likenesses = []
    for pixels in (1.5, 0.0):  # the centre of four source pixels is 1.5 pixels from that of the first
        origins = relion_origins(np.array([displacement]), inplane, axes, np.array([pixels * PIXEL_SIZE / 4]))
        image = projected_by_relion(centres, weights, angles[0], origins[0], 4 * BOX, PIXEL_SIZE / 4)
        likenesses.append(likeness(as_stacked(image, axes, 4), found))
    assert likenesses[0] > 0.999
    assert likenesses[1] < 0.98


def test_unknown_axes_and_sources_are_refused() -> None:
    directions, inplane = np.zeros((1, 2)), np.zeros(1)
    with pytest.raises(InputError, match="The run's axes are 'other'"):
        relion_angles(directions, inplane, "other")
    with pytest.raises(InputError, match="choose 'pdb' or 'map'"):
        relion_angles(directions, inplane, "relion", "mrc")  # type: ignore[arg-type]  # that is what is tested
