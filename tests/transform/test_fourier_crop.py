"""Cropping the Fourier transform, compared with sums over all frequencies in float64, and with objects that have a closed formula."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from cryolike_dask.metadata.image_descriptor import ImageDescriptor
from cryolike_dask.transform.cpu import CompiledTransform
from cryolike_dask.transform.direct_sum import crop_fourier
from cryolike_dask.transform.gpu import TorchTransform
from cryolike_dask.transform.interface import CONSTANT, NOT_FINITE, OK, Transform, TransformedImages
from tests.support.direct_transform import centred, direct_transform, polar_grid, relative_error

Floats = npt.NDArray[np.float64]
BACKENDS: dict[str, Any] = {"compiled": CompiledTransform, "torch": TorchTransform}
SIZES = [
    ((32, 32), (16, 16)),
    ((33, 33), (16, 16)),
    ((32, 32), (15, 15)),
    ((33, 33), (11, 11)),
    ((30, 30), (28, 28)),
    ((24, 36), (8, 12)),
]


def cropped(image: Floats, shape: tuple[int, int]) -> Floats:
    """The image within the new band, by direct sums from the middle pixels. The highest frequency of an even size counts half per sign."""
    result: npt.NDArray[np.complex128] = image.astype(np.complex128)
    for axis, m in enumerate(shape):
        n = image.shape[axis]
        frequency = np.arange(-(m // 2), m // 2 + 1)
        weight = np.where(2 * np.abs(frequency) == m, 0.5, 1.0)
        forward = np.exp(-2j * np.pi * np.outer(frequency, np.arange(n) - n // 2) / n)
        back = np.exp(2j * np.pi * np.outer(np.arange(m) - m // 2, frequency) / m)
        result = np.moveaxis(np.tensordot(back * weight @ forward / n, result, (1, axis)), 0, axis)
    assert np.abs(result.imag).max() < 1e-12
    return result.real


def transformed(
    backend: str, images: npt.NDArray[np.float32], shape: tuple[int, int], precision: str = "single"
) -> tuple[TransformedImages, ImageDescriptor]:
    descriptor = ImageDescriptor.from_individual_values(shape, 2.0, precision=precision)
    results = TransformedImages.allocate(len(images), descriptor)
    transform: Transform = BACKENDS[backend](descriptor, 1, "fourier")
    transform(images, results)
    return results, descriptor


def random_images(n: int, box: tuple[int, int], mean: float = 0.0) -> npt.NDArray[np.float32]:
    return (np.random.default_rng(3).normal(size=(n, *box)) + mean).astype(np.float32)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("precision", "tolerance"), [("single", 1.5e-6), ("double", 1e-11)])
@pytest.mark.parametrize(("box", "shape"), SIZES, ids=str)
def test_the_band_is_what_a_sum_over_all_frequencies_gives(
    box: tuple[int, int], shape: tuple[int, int], precision: str, tolerance: float, backend: str
) -> None:
    images = random_images(4, box, 30.0)
    results, descriptor = transformed(backend, images, shape, precision)
    grid = polar_grid(descriptor.radius_max, descriptor.dist_radii, descriptor.n_inplanes)
    small = [centred(cropped(image.astype(np.float64), shape)) for image in images]
    np.testing.assert_allclose(results.physical, np.stack(small), atol=2e-7)
    assert relative_error(results.fourier, np.stack([direct_transform(image, grid) for image in small])) < tolerance


@pytest.mark.parametrize(("box", "shape"), SIZES, ids=str)
def test_the_deep_check_has_the_same_band(box: tuple[int, int], shape: tuple[int, int]) -> None:
    (image,) = random_images(1, box).astype(np.float64)
    np.testing.assert_allclose(crop_fourier(image, shape), cropped(image, shape), atol=1e-12)


def blob(box: int, pixel: float, x: float = 7.0, y: float = -4.0) -> npt.NDArray[np.float32]:
    """A Gaussian, narrow in the Fourier domain, at (x, y) from the middle pixel."""
    position = (np.arange(box) - box // 2) * pixel
    return np.outer(np.exp(-((position - x) ** 2) / 50), np.exp(-((position - y) ** 2) / 50)).astype(np.float32)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("box", "small"), [(96, 48), (97, 48), (96, 47), (95, 33), (100, 70)])
def test_an_object_stays_where_it_is(box: int, small: int, backend: str) -> None:
    """The middle pixel stays the middle pixel of even and odd boxes, whereas block means shift it by (1 - f)/2 pixels."""
    results, _ = transformed(backend, blob(box, 1.0)[None], (small, small))
    expected = centred(blob(small, box / small))
    np.testing.assert_allclose(results.physical[0], expected, atol=2e-4)


@pytest.mark.parametrize(("factor", "loss"), [(2, 0.707), (3, 0.667), (4, 0.653)])
def test_means_over_blocks_shift_and_fade_as_the_guide_says(factor: int, loss: float) -> None:
    box = 48 * factor
    j = np.arange(box) - box // 2
    k = 24 / box  # cycles per source pixel: the Nyquist limit of the written image
    wave = np.exp(2j * np.pi * k * j).reshape(-1, factor).mean(axis=1)
    at_centres = np.exp(2j * np.pi * k * factor * (np.arange(48) - 24))
    ratio = wave / at_centres
    np.testing.assert_allclose(np.abs(ratio), loss, atol=1e-3)
    shift = -np.angle(ratio[0]) / (2 * np.pi * k)
    np.testing.assert_allclose(shift, (1 - factor) / 2)


@pytest.mark.parametrize("backend", BACKENDS)
def test_faults_are_distinguished(backend: str) -> None:
    images = random_images(6, (16, 16))
    images[1] = 3.3
    images[2, 4, 5] = np.nan
    images[3, 4, 5] = -np.inf
    images[4] = 3.3 + np.indices((16, 16)).sum(axis=0) % 2  # contains only the highest frequency, which is cropped
    images[5] = 1
    images[5, 4, 5] = np.nextafter(np.float32(1), np.float32(2))
    results, _ = transformed(backend, images, (8, 8))
    assert results.status.tolist() == [OK, CONSTANT, NOT_FINITE, NOT_FINITE, CONSTANT, OK]
    assert not any(array[1:5].any() for array in results.arrays[:3])


def test_an_image_does_not_depend_on_its_neighbours() -> None:
    images = random_images(70, (24, 24))
    whole, _ = transformed("compiled", images, (16, 16))
    for i in (0, 31, 69):
        alone, _ = transformed("compiled", images[i : i + 1], (16, 16))
        np.testing.assert_array_equal(alone.fourier[0], whole.fourier[i])
