"""The inverse transform, tested with smooth blobs whose Fourier sums are computed without the package."""

from __future__ import annotations

import numpy as np
import pytest

from cryolike_dask.errors import InputError
from cryolike_dask.metadata.image_descriptor import ImageDescriptor
from cryolike_dask.transform.inverse import fourier_to_physical, low_pass_factors, low_passed
from tests.support.direct_transform import converted, direct_transform, polar_grid


def blobs(n_x: int, n_y: int) -> np.ndarray:
    """A bright and a dark blob off the centre, without symmetry and without signal near the Nyquist limit."""
    x, y = np.mgrid[:n_x, :n_y].astype(np.float64)
    bright = np.exp(-((x - n_x / 2 - 4) ** 2 + (y - n_y / 2 + 3) ** 2) / 8)
    return bright - 0.5 * np.exp(-((x - n_x / 2 + 3) ** 2 + (y - n_y / 2 + 6) ** 2) / 18)


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


def round_trip(image: np.ndarray, descriptor: ImageDescriptor) -> np.ndarray:
    grid = polar_grid(descriptor.radius_max, descriptor.dist_radii, descriptor.n_inplanes)
    return fourier_to_physical(direct_transform(image, grid)[None], descriptor)[0]


@pytest.mark.parametrize(
    ("shape", "n_inplanes"), [((40, 40), None), ((41, 41), 83), ((40, 32), 80), ((32, 41), 81)], ids=["even", "odd", "wide", "high"]
)
def test_a_band_limited_image_comes_back(shape: tuple[int, int], n_inplanes: int | None) -> None:
    descriptor = ImageDescriptor.from_individual_values(n_pixels=shape, pixel_size=2.0, n_inplanes=n_inplanes)
    image = blobs(*shape)
    back = round_trip(image, descriptor)
    assert back.shape == shape
    assert correlation(image, back) > 0.999


@pytest.mark.parametrize("change", [np.negative, np.flipud, np.fliplr, np.transpose], ids=["sign", "rows", "columns", "axes"])
def test_sign_and_handedness_are_kept(change: object) -> None:
    descriptor = ImageDescriptor.from_individual_values(n_pixels=40, pixel_size=2.0)
    image = blobs(40, 40)
    back = round_trip(image, descriptor)
    assert correlation(change(image), back) < 0.9  # type: ignore[operator]
    assert correlation(image, back) > 0.999


def test_noise_comes_back_near_the_centre() -> None:
    descriptor = ImageDescriptor.from_individual_values(n_pixels=48, pixel_size=2.0)
    image = np.random.default_rng(0).normal(size=(48, 48))
    grid = polar_grid(descriptor.radius_max, descriptor.dist_radii, descriptor.n_inplanes)
    back = fourier_to_physical(converted(image, grid)[None], descriptor)[0]
    frequency = np.fft.fftfreq(48)
    within = np.hypot(frequency[:, None], frequency[None, :]) <= 0.25
    smooth = np.fft.ifft2(np.fft.fft2(image) * within).real
    back = np.fft.ifft2(np.fft.fft2(back) * within).real
    position = np.arange(48) - 24
    near = np.hypot(position[:, None], position[None, :]) < 0.3 * 48
    assert correlation(smooth[near], back[near]) > 0.95


def test_an_image_of_unit_norm_has_the_strength_that_the_factor_promises() -> None:
    # By Parseval's theorem for this scaling, the sum of a^2 over the pixels is the sum of weight |F|^2, divided by 4 pi^2.
    descriptor = ImageDescriptor.from_individual_values(n_pixels=40, pixel_size=2.0)
    assert (round_trip(blobs(40, 40), descriptor) ** 2).sum() == pytest.approx(1 / (4 * np.pi**2), rel=1e-3)


def test_shells_with_factor_zero_are_left_out() -> None:
    descriptor = ImageDescriptor.from_individual_values(n_pixels=24, pixel_size=2.0)
    grid = descriptor.polar_grid
    fourier = np.random.default_rng(0).normal(size=(2, grid.n_shells, grid.n_inplanes)) + 0j
    factors = (np.arange(grid.n_shells) < 10).astype(np.float64)
    expected = fourier_to_physical(fourier * factors[:, None], descriptor)
    np.testing.assert_allclose(fourier_to_physical(fourier, descriptor, factors), expected, atol=1e-15)
    assert not fourier_to_physical(fourier, descriptor, 0 * factors).any()


def test_a_stack_of_another_grid_is_refused() -> None:
    descriptor = ImageDescriptor.from_individual_values(n_pixels=24, pixel_size=2.0)
    with pytest.raises(InputError, match=r"\(images, 25, 48\)"):
        fourier_to_physical(np.zeros((1, 24, 48), dtype=np.complex64), descriptor)


def test_low_pass_falls_to_half_at_the_cutoff() -> None:
    np.testing.assert_allclose(low_pass_factors(np.array([np.inf, 40.0, 20.0, 10.0]), 20.0), [1, 1, 0.5, 0], atol=1e-15)


def test_the_low_pass_filter_depends_on_resolution_and_can_reduce_pixels() -> None:
    x, y = np.mgrid[:60, :48]
    coarse, middle = np.cos(2 * np.pi * (2 * x / 60 + y / 48)), np.sin(2 * np.pi * 3 * x / 60)
    fine = np.cos(2 * np.pi * 16 * y / 48)
    images = (5 + coarse + middle + fine)[None]

    def passed(frequency: float) -> float:
        """The factor for a frequency in 1/Å, with a cutoff at 40 Å: 1/2 at 1/40."""
        return (
            0.5 + 0.5 * np.cos(np.pi * (40 * frequency - 0.75) / 0.5) if 0.75 < 40 * frequency < 1.25 else float(frequency < 0.02)
        )

    assert passed(3 / 120) == pytest.approx(0.5)
    wanted = 5 + passed(np.hypot(2 / 120, 1 / 96)) * coarse + passed(3 / 120) * middle + passed(16 / 96) * fine
    np.testing.assert_allclose(low_passed(images, (2.0, 2.0), 40.0)[0], wanted, atol=1e-12)
    np.testing.assert_allclose(low_passed(images, (2.0, 2.0), 40.0, (20, 16))[0], wanted[::3, ::3], atol=1e-12)
