"""The transform, compared with the direct sum in float64 and with finufft."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import finufft
import numpy as np
import numpy.typing as npt
import pytest
import torch

from cryolike_dask.metadata.image_descriptor import ImageDescriptor
from cryolike_dask.settings import DownsampleType
from cryolike_dask.transform.cpu import CompiledTransform
from cryolike_dask.transform.gpu import TorchTransform
from cryolike_dask.transform.interface import CONSTANT, NOT_FINITE, OK, Transform, TransformedImages
from cryolike_dask.transform.torch_steps import single_threaded_torch
from tests.support.direct_transform import centred, converted, downsampled, polar_grid, relative_error

TOLERANCE = {"single": 1.5e-6, "double": 1e-11}
ACROSS_DEVICES = {"single": 3e-6, "double": 2e-11}
BOXES = [16, 17, (24, 16), 32]
BACKENDS = {"compiled": CompiledTransform, "torch": TorchTransform}


def descriptor_of(box: int | tuple[int, int], precision: str = "single", **options: Any) -> ImageDescriptor:
    return ImageDescriptor.from_individual_values(box, 2.0, precision=precision, **options)


def random_images(n: int, box: tuple[int, int], mean: float = 0.0, seed: int = 0) -> npt.NDArray[np.float32]:
    return (np.random.default_rng(seed).normal(size=(n, *box)) + mean).astype(np.float32)


def transformed(transform: Transform, images: npt.NDArray[np.float32], descriptor: ImageDescriptor) -> TransformedImages:
    results = TransformedImages.allocate(len(images), descriptor)
    for array in results.arrays:  # earlier content must not matter
        array.fill(7)
    transform(images, results)
    return results


def exact(images: npt.NDArray[np.float32], descriptor: ImageDescriptor, factor: int = 1, kind: str = "mean") -> npt.NDArray[Any]:
    grid = polar_grid(descriptor.radius_max, descriptor.dist_radii, descriptor.n_inplanes)
    return np.stack([converted(image, grid, factor, kind) for image in images])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("precision", TOLERANCE)
@pytest.mark.parametrize("mean", [0.0, 1000.0], ids=["random", "large-mean"])
@pytest.mark.parametrize("box", BOXES, ids=str)
def test_transform_is_the_direct_sum(box: int | tuple[int, int], mean: float, precision: str, backend: str) -> None:
    descriptor = descriptor_of(box, precision)
    images = random_images(5, descriptor.n_pixels, mean)
    results = transformed(BACKENDS[backend](descriptor), images, descriptor)
    assert results.fourier.dtype == (np.complex64 if precision == "single" else np.complex128)
    assert (results.status == OK).all()
    assert relative_error(results.fourier, exact(images, descriptor)) < TOLERANCE[precision]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("precision", TOLERANCE)
@pytest.mark.parametrize(
    "options",
    [
        {"n_inplanes": 31},
        {"n_inplanes": 61, "resolution_factor": 0.5},
        {"n_inplanes": 30},
        {"resolution_factor": 0.3},
        {"n_inplanes": 1},
        {"n_inplanes": 2},
    ],
    ids=str,
)
@pytest.mark.parametrize("box", [16, 17, (24, 16)], ids=str)
def test_other_polar_grids(box: int | tuple[int, int], options: dict[str, Any], precision: str, backend: str) -> None:
    descriptor = descriptor_of(box, precision, **options)
    images = random_images(3, descriptor.n_pixels, 50.0)
    results = transformed(BACKENDS[backend](descriptor), images, descriptor)
    assert results.fourier.shape == (3, descriptor.polar_grid.n_shells, descriptor.n_inplanes)
    assert relative_error(results.fourier, exact(images, descriptor)) < TOLERANCE[precision]


@pytest.mark.parametrize("box", [2, 3, 4, 5, (3, 8), (9, 4)], ids=str)
@pytest.mark.parametrize("precision", TOLERANCE)
def test_the_smallest_boxes(box: int | tuple[int, int], precision: str) -> None:
    descriptor = descriptor_of(box, precision)
    images = random_images(3, descriptor.n_pixels)
    for backend in BACKENDS.values():
        results = transformed(backend(descriptor), images, descriptor)
        assert relative_error(results.fourier, exact(images, descriptor)) < TOLERANCE[precision]


@pytest.mark.parametrize(("precision", "tolerance"), [("single", 1.5e-6), ("double", 1e-11)])
@pytest.mark.parametrize("box", [64, 96])
def test_finufft_gives_the_same(box: int, precision: str, tolerance: float) -> None:
    descriptor = descriptor_of(box, precision)
    images = random_images(4, (box, box), 100.0)
    grid = polar_grid(descriptor.radius_max, descriptor.dist_radii, descriptor.n_inplanes)
    radius, angle = np.meshgrid(grid.radii, grid.angles, indexing="ij")
    k1, k2 = (4 * np.pi / box * radius * wave(angle) for wave in (np.cos, np.sin))
    inputs = np.stack([centred(image) for image in images]).astype(np.complex128)
    values = finufft.nufft2d2(k1.ravel(), k2.ravel(), inputs, eps=1e-13, isign=-1).reshape(len(images), *radius.shape)
    norm = np.sqrt((grid.weights[:, None] * np.abs(values) ** 2).sum(axis=(1, 2), keepdims=True))
    results = transformed(CompiledTransform(descriptor), images, descriptor)
    assert relative_error(results.fourier, values / norm) < tolerance


@pytest.mark.parametrize("backend", BACKENDS)
def test_each_image_has_unit_norm_over_the_disc(backend: str) -> None:
    descriptor = descriptor_of(20, n_inplanes=33)
    results = transformed(BACKENDS[backend](descriptor), random_images(9, (20, 20)), descriptor)
    weights = polar_grid(descriptor.radius_max, descriptor.dist_radii, descriptor.n_inplanes).weights
    norms = (weights[:, None] * np.abs(results.fourier.astype(np.complex128)) ** 2).sum(axis=(1, 2))
    np.testing.assert_allclose(norms, 1, rtol=1e-6)
    np.testing.assert_allclose(results.power, (np.abs(results.fourier.astype(np.complex128)) ** 2).mean(axis=2), rtol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_mean_far_above_the_deviations_costs_nothing(backend: str) -> None:
    descriptor = descriptor_of(32, "double")
    images = random_images(4, (32, 32), 1e5)
    results = transformed(BACKENDS[backend](descriptor), images, descriptor)
    assert relative_error(results.fourier, exact(images, descriptor)) < 1e-12


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", ["mean", "max"])
@pytest.mark.parametrize(("box", "factor"), [((32, 32), 2), ((33, 35), 3), ((25, 40), 5), ((17, 17), 1)], ids=str)
def test_downsampling_drops_a_remainder(box: tuple[int, int], factor: int, kind: DownsampleType, backend: str) -> None:
    descriptor = descriptor_of((box[0] // factor, box[1] // factor))
    images = random_images(4, box, 3.0)
    results = transformed(BACKENDS[backend](descriptor, factor, kind), images, descriptor)
    assert relative_error(results.fourier, exact(images, descriptor, factor, kind)) < 1.5e-6
    small = np.stack([centred(downsampled(image.astype(np.float64), factor, kind)) for image in images])
    np.testing.assert_allclose(results.physical, small, atol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", ["mean", "max"])
def test_downsampling_keeps_its_accuracy_under_a_large_mean(kind: DownsampleType, backend: str) -> None:
    descriptor = descriptor_of(16)
    images = random_images(4, (48, 48), 1000.0)
    results = transformed(BACKENDS[backend](descriptor, 3, kind), images, descriptor)
    assert relative_error(results.fourier, exact(images, descriptor, 3, kind)) < 1.5e-6


@pytest.mark.parametrize("mean", [0.0, 1000.0])
@pytest.mark.parametrize("backend", BACKENDS)
def test_physical_images_are_centred_and_scaled(backend: str, mean: float) -> None:
    descriptor = descriptor_of((18, 21))
    images = random_images(5, (18, 21), mean)
    results = transformed(BACKENDS[backend](descriptor), images, descriptor)
    np.testing.assert_allclose(results.physical, np.stack([centred(image) for image in images]), atol=1e-7)
    np.testing.assert_allclose(np.abs(results.physical).max(axis=(1, 2)), 1, rtol=1e-7)


BAD = {
    "constant": (lambda image: np.full_like(image, 3.25), CONSTANT),
    "zero": (np.zeros_like, CONSTANT),
    "nan": (lambda image: _with(image, np.nan), NOT_FINITE),
    "infinite": (lambda image: _with(image, np.inf), NOT_FINITE),
    "minus infinite": (lambda image: _with(image, -np.inf), NOT_FINITE),
    "both infinities": (lambda image: _with(_with(image, -np.inf), np.inf, 5), NOT_FINITE),
}


def _with(image: npt.NDArray[np.float32], value: float, position: int = 2) -> npt.NDArray[np.float32]:
    changed = image.copy()
    changed.flat[position] = value
    return changed


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("factor", [1, 2])
@pytest.mark.parametrize("kind", ["mean", "max"])
@pytest.mark.parametrize("fault", BAD)
def test_bad_images_are_distinguished_and_zeroed(fault: str, kind: DownsampleType, factor: int, backend: str) -> None:
    spoil, status = BAD[fault]
    descriptor = descriptor_of(8)
    images = random_images(5, (8 * factor, 8 * factor))
    good = transformed(BACKENDS[backend](descriptor, factor, kind), images, descriptor)
    images[3] = spoil(images[3])
    results = transformed(BACKENDS[backend](descriptor, factor, kind), images, descriptor)
    assert results.status.tolist() == [OK, OK, OK, status, OK]
    assert not any(array[3].any() for array in results.arrays[:3])
    for i in (0, 1, 2, 4):
        np.testing.assert_allclose(results.fourier[i], good.fourier[i], atol=1e-7)


@pytest.mark.parametrize("backend", BACKENDS)
def test_extreme_brightness_is_no_fault(backend: str) -> None:
    descriptor = descriptor_of(16)
    images = random_images(3, (16, 16)) * np.float32([[[1e37]], [[1e-37]], [[1.0]]])
    images[2] = 1
    images[2, 4, 5] = np.nextafter(np.float32(1), np.float32(2))
    results = transformed(BACKENDS[backend](descriptor), images, descriptor)
    assert (results.status == OK).all()
    assert relative_error(results.fourier, exact(images, descriptor)) < 1.5e-6


@pytest.mark.parametrize("precision", TOLERANCE)
def test_an_image_does_not_depend_on_its_neighbours(precision: str) -> None:
    descriptor = descriptor_of(16, precision)
    transform = CompiledTransform(descriptor)
    images = random_images(2 * transform.images_per_batch + 3, (16, 16))
    together = transformed(transform, images, descriptor)
    for i in (0, transform.images_per_batch - 1, transform.images_per_batch, len(images) - 1):
        alone = transformed(CompiledTransform(descriptor), images[i : i + 1], descriptor)
        np.testing.assert_array_equal(alone.fourier[0], together.fourier[i])
        np.testing.assert_array_equal(alone.physical[0], together.physical[i])


@pytest.mark.parametrize("precision", TOLERANCE)
@pytest.mark.parametrize("options", [{}, {"n_inplanes": 45}, {"resolution_factor": 0.4}], ids=str)
def test_both_backends_agree(options: dict[str, Any], precision: str) -> None:
    descriptor = descriptor_of((26, 20), precision, **options)
    images = random_images(19, (52, 41), 10.0)
    compiled, in_torch = (transformed(kind(descriptor, 2), images, descriptor) for kind in BACKENDS.values())
    assert relative_error(compiled.fourier, in_torch.fourier) < ACROSS_DEVICES[precision]
    np.testing.assert_allclose(compiled.physical, in_torch.physical, atol=1e-7)
    np.testing.assert_allclose(compiled.power, in_torch.power, rtol=1e-4 if precision == "single" else 1e-9)


def test_torch_threads_are_as_before_when_several_conversions_overlap() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        first, second = single_threaded_torch(), single_threaded_torch()
        first.__enter__()
        second.__enter__()
        assert torch.get_num_threads() == 1
        first.__exit__(None, None, None)
        second.__exit__(None, None, None)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("precision", TOLERANCE)
@pytest.mark.parametrize("options", [{}, {"n_inplanes": 45}, {"resolution_factor": 0.4}], ids=str)
@pytest.mark.parametrize("box", BOXES, ids=str)
def test_cuda_is_the_direct_sum(box: int | tuple[int, int], options: dict[str, Any], precision: str) -> None:
    descriptor = descriptor_of(box, precision, **options)
    images = random_images(7, descriptor.n_pixels, 1000.0)
    results = transformed(TorchTransform(descriptor, device="cuda:0"), images, descriptor)
    assert relative_error(results.fourier, exact(images, descriptor)) < TOLERANCE[precision]


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("kind", ["mean", "max"])
def test_cuda_agrees_with_the_cpu_over_several_batches(kind: DownsampleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cryolike_dask.transform.gpu._MAX_GPU_BATCH", 8)
    descriptor = descriptor_of(32)
    images = random_images(37, (64, 64), 20.0)
    images[11], images[30, 2, 3] = 5.0, np.nan
    on_gpu = transformed(TorchTransform(descriptor, 2, kind, "cuda:0"), images, descriptor)
    on_cpu = transformed(CompiledTransform(descriptor, 2, kind), images, descriptor)
    np.testing.assert_array_equal(on_gpu.status, on_cpu.status)
    good = on_cpu.status == OK
    assert relative_error(on_gpu.fourier[good], on_cpu.fourier[good]) < ACROSS_DEVICES["single"]
    np.testing.assert_allclose(on_gpu.physical, on_cpu.physical, atol=1e-7)
    assert not on_gpu.fourier[~good].any()


@pytest.mark.gpu
@needs_cuda
def test_cuda_goes_on_with_smaller_batches_when_memory_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    descriptor = descriptor_of(16)
    transform = TorchTransform(descriptor, device="cuda:0")
    transform._batch = 16
    compute = transform._transform

    def with_little_memory(images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        if len(images) > 4:
            raise torch.OutOfMemoryError("as if the device were full")
        return compute(images)

    monkeypatch.setattr(transform, "_transform", with_little_memory)
    images = random_images(21, (16, 16))
    results = transformed(transform, images, descriptor)
    assert relative_error(results.fourier, exact(images, descriptor)) < 1.5e-6


def test_compiled_loops_work_where_compiled_code_cannot_be_kept(tmp_path: Path) -> None:
    script = (
        "from numba.core import caching\n"
        "caching.CacheImpl._locator_classes = []\n"
        "import numpy as np\n"
        "from cryolike_dask.metadata.image_descriptor import ImageDescriptor\n"
        "from cryolike_dask.transform.cpu import CompiledTransform\n"
        "from cryolike_dask.transform.interface import TransformedImages\n"
        "import logging\n"
        "logging.basicConfig(level=logging.INFO)\n"
        "descriptor = ImageDescriptor.from_individual_values(16, 1.0)\n"
        "results = TransformedImages.allocate(1, descriptor)\n"
        "CompiledTransform(descriptor)(np.random.default_rng(0).standard_normal((1, 16, 16)).astype(np.float32), results)\n"
        "assert results.status[0] == 0 and np.abs(results.fourier).sum() > 0\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "NUMBA_CACHE_DIR" in done.stderr
