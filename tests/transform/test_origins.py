"""Images moved by fractions of a pixel, compared with objects drawn at the new position, and with sums over pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from cryolike_dask.transform.cpu import CompiledTransform
from cryolike_dask.transform.direct_sum import shift_periodically
from cryolike_dask.transform.gpu import TorchTransform
from cryolike_dask.transform.interface import OK, TransformedImages
from cryolike_dask.transform.origins import shift_physical
from tests.support.direct_transform import centred, polar_grid, relative_error
from tests.support.shifted_objects import blobs, render
from tests.transform.test_transform import BACKENDS, BOXES, TOLERANCE, descriptor_of, needs_cuda, random_images, transformed

Floats = npt.NDArray[np.float64]

SHIFTS = np.array([[0.0, 0.0], [3.0, -2.0], [0.37, 1.91], [-11.5, 0.004], [25.0, -31.25]])


def moved(transform: Any, images: npt.NDArray[Any], shifts: Floats, descriptor: Any) -> TransformedImages:
    results = TransformedImages.allocate(len(images), descriptor)
    for array in results.arrays:
        array.fill(7)
    transform(images, results, shifts)
    return results


def sum_over_moved_pixels(image: Floats, shift: Floats, descriptor: Any) -> npt.NDArray[np.complex128]:
    """The Fourier sum of the centred image, with each pixel at the position to which it is moved."""
    grid = polar_grid(descriptor.radius_max, descriptor.dist_radii, descriptor.n_inplanes)
    n_x, n_y = image.shape
    radius, angle = np.meshgrid(grid.radii, grid.angles, indexing="ij")
    k = 4 * np.pi * np.stack([radius * np.cos(angle) / n_x, radius * np.sin(angle) / n_y]).reshape(2, -1)
    along_x = np.exp(-1j * np.outer(k[0], np.arange(n_x) - n_x // 2 + shift[0])) @ image
    values = (along_x * np.exp(-1j * np.outer(k[1], np.arange(n_y) - n_y // 2 + shift[1]))).sum(axis=1).reshape(radius.shape)
    return np.asarray(values / np.sqrt((grid.weights[:, None] * np.abs(values) ** 2).sum()))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("precision", TOLERANCE)
@pytest.mark.parametrize("options", [{}, {"n_inplanes": 45}], ids=str)
@pytest.mark.parametrize("box", BOXES, ids=str)
def test_fourier_images_are_the_sum_over_moved_pixels(
    box: int | tuple[int, int], options: dict[str, Any], precision: str, backend: str
) -> None:
    descriptor = descriptor_of(box, precision, **options)
    images = random_images(5, descriptor.n_pixels, 3.0)
    results = moved(BACKENDS[backend](descriptor), images, SHIFTS, descriptor)
    exact = np.stack([sum_over_moved_pixels(centred(image), s, descriptor) for image, s in zip(images, SHIFTS, strict=True)])
    assert relative_error(results.fourier, exact) < TOLERANCE[precision]
    np.testing.assert_allclose(results.power, transformed(BACKENDS[backend](descriptor), images, descriptor).power, rtol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("precision", "tolerance"), [("single", 1.5e-6), ("double", 1e-11)])
@pytest.mark.parametrize("box", [64, 63])
def test_moving_the_image_is_moving_the_object(box: int, precision: str, tolerance: float, backend: str) -> None:
    """Gaussians drawn at known positions and at moved ones. They do not reach the border, and their mean is 0."""
    descriptor = descriptor_of(box, precision)
    shifts = np.random.default_rng(0).uniform(-4, 4, size=(6, 2))
    objects = [blobs(seed, 6.0) for seed in range(6)]
    there = np.stack([render(box, places - s[::-1], weights, 2.5) for (places, weights), s in zip(objects, shifts, strict=True)])
    in_middle = np.stack([render(box, places, weights, 2.5) for places, weights in objects])
    transform = BACKENDS[backend](descriptor)
    results, wanted = moved(transform, there, shifts, descriptor), transformed(transform, in_middle, descriptor)  # type: ignore[arg-type]
    assert relative_error(results.fourier, wanted.fourier) < tolerance
    # Each is scaled to its own largest pixel.
    for ours, theirs in zip(results.physical.astype(np.float64), wanted.physical.astype(np.float64), strict=True):
        scale = (ours * theirs).sum() / (theirs * theirs).sum()
        np.testing.assert_allclose(ours, scale * theirs, atol=3e-7)
    assert relative_error(transformed(transform, there, descriptor).fourier, wanted.fourier) > 0.1  # type: ignore[arg-type]


@pytest.mark.parametrize("box", [(16, 16), (17, 17), (24, 15), (15, 24)])
def test_whole_pixels_are_rolled(box: tuple[int, int]) -> None:
    images = torch.from_numpy(np.random.default_rng(1).normal(size=(3, *box)))
    shifts = [(0, 0), (3, -2), (-20, 31)]
    results = shift_physical(images, torch.tensor(shifts, dtype=torch.float64))
    for image, result, shift in zip(images.numpy(), results.numpy(), shifts, strict=True):
        np.testing.assert_allclose(result, np.roll(image, shift, axis=(0, 1)), atol=1e-13)


@pytest.mark.parametrize("n", [16, 17])
def test_parts_of_a_pixel_move_each_wave_by_its_own_phase(n: int) -> None:
    """All waves of a box, including the highest one of an even box, which is only a cosine."""
    place, shift = np.arange(n), 0.3
    waves = np.stack([np.cos(2 * np.pi * m * place / n + 0.4) for m in range(n // 2 + 1)])
    expected = np.stack([np.cos(2 * np.pi * m * (place - shift) / n + 0.4) for m in range(n // 2 + 1)])
    if n % 2 == 0:
        expected[-1] = np.cos(0.4) * np.cos(np.pi * place) * np.cos(np.pi * shift)
    for axis in (1, 2):
        images = torch.from_numpy(np.repeat(np.expand_dims(waves, 3 - axis), n, axis=3 - axis))
        shifts = torch.zeros((len(waves), 2), dtype=torch.float64)
        shifts[:, axis - 1] = shift
        results = shift_physical(images, shifts).numpy()
        np.testing.assert_allclose(results, np.repeat(np.expand_dims(expected, 3 - axis), n, axis=3 - axis), atol=1e-13)


def moved_periodically(image: Floats, shift: Floats) -> Floats:
    """The image moved by a sum of waves for each axis; the highest wave of an even box is only a cosine."""
    for axis, by in enumerate(shift):
        n = image.shape[axis]
        distance = np.arange(n)[:, None] - np.arange(n)[None, :]
        waves = [np.cos(2 * np.pi * m * (distance - by) / n) / n for m in range(-((n - 1) // 2), (n - 1) // 2 + 1)]
        waves += [np.cos(np.pi * distance) * np.cos(np.pi * by) / n] * (n % 2 == 0)
        image = np.moveaxis(np.tensordot(np.sum(waves, axis=0), image, axes=(1, axis)), 0, axis)
    return image


@pytest.mark.parametrize("box", [(16, 16), (17, 17), (24, 15), (15, 24)])
def test_images_of_noise_are_moved_wave_by_wave(box: tuple[int, int]) -> None:
    images, shifts = np.random.default_rng(1).normal(size=(5, *box)), SHIFTS
    results = shift_physical(torch.from_numpy(images), torch.from_numpy(shifts)).numpy()
    expected = [moved_periodically(image, shift) for image, shift in zip(images, shifts, strict=True)]
    np.testing.assert_allclose(results, expected, atol=1e-12)
    np.testing.assert_allclose(
        [shift_periodically(image, tuple(s)) for image, s in zip(images, shifts, strict=True)], expected, atol=1e-12
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_bad_images_stay_zero(backend: str) -> None:
    descriptor = descriptor_of(16)
    images = random_images(4, (16, 16))
    images[1], images[2, 3, 4] = 5, np.nan
    results = moved(BACKENDS[backend](descriptor), images, SHIFTS[1:], descriptor)
    assert [status == OK for status in results.status] == [True, False, False, True]
    assert not results.fourier[1:3].any()
    assert not results.physical[1:3].any()
    assert not results.power[1:3].any()


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("precision", TOLERANCE)
def test_cuda_agrees_with_the_cpu_over_several_batches(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cryolike_dask.transform.gpu._MAX_GPU_BATCH", 8)
    descriptor = descriptor_of(32, precision)
    images = random_images(37, (32, 32), 20.0)
    shifts = np.random.default_rng(0).uniform(-9, 9, size=(37, 2))
    on_gpu = moved(TorchTransform(descriptor, device="cuda:0"), images, shifts, descriptor)
    on_cpu = moved(CompiledTransform(descriptor), images, shifts, descriptor)
    assert relative_error(on_gpu.fourier, on_cpu.fourier) < 2 * TOLERANCE[precision]
    np.testing.assert_allclose(on_gpu.physical, on_cpu.physical, atol=3e-7)


def test_a_shift_of_zero_changes_nothing() -> None:
    descriptor = descriptor_of(16)
    images = random_images(3, (16, 16))
    transform = CompiledTransform(descriptor)
    without, with_none = transformed(transform, images, descriptor), moved(transform, images, np.zeros((3, 2)), descriptor)
    np.testing.assert_array_equal(without.fourier, with_none.fourier)
    np.testing.assert_allclose(without.physical, with_none.physical, atol=1e-7)
