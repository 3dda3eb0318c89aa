"""Complete conversions and the transform alone, compared with the published method; time of each step; accuracy."""

from __future__ import annotations

import shutil
import statistics
import time
from pathlib import Path
from typing import Any

import finufft
import numpy as np
import numpy.typing as npt
import torch
from scipy.fft import fft, rfft

from benchmarks import published_method
from benchmarks.measuring import convert, interleaved, median_ratio
from benchmarks.particle_files import write_particles
from cryolike_dask.metadata.image_descriptor import ImageDescriptor
from cryolike_dask.transform import centring, kernels
from cryolike_dask.transform.cpu import CompiledTransform
from cryolike_dask.transform.direct_sum import centre
from cryolike_dask.transform.gpu import TorchTransform
from cryolike_dask.transform.interface import Transform, TransformedImages
from cryolike_dask.transform.torch_steps import single_threaded_torch

WHOLE_CONVERSIONS = {64: 2000, 128: 2000, 256: 512, 384: 384, 512: 192}
"""Number of images for each box size. They are converted to eight stacks, so that every core has several."""


def whole_conversions(folder: Path, repeats: int) -> list[dict[str, Any]]:
    """From an indexed STAR file to fft, phys and npz on all cores: our conversion and the published method, in turn."""
    rows = []
    for box, n_images in WHOLE_CONVERSIONS.items():
        particles = write_particles(folder / "in", n_images, box)
        batch_size = n_images // 8

        def ours(particles: Any = particles, batch_size: int = batch_size) -> float:
            return convert(particles, folder / "ours", batch_size=batch_size)[0]

        def published(particles: Any = particles, batch_size: int = batch_size) -> float:
            shutil.rmtree(folder / "published", ignore_errors=True)
            began = time.perf_counter()
            published_method.convert(particles.star_file, particles.folder, particles.descriptor, folder / "published", batch_size)
            return time.perf_counter() - began

        ours()  # compiles, and warms the caches
        mine, theirs = interleaved(repeats, ours, published)
        rows.append(
            {
                "box": box,
                "images": n_images,
                "ours_ms": 1e3 * statistics.median(mine) / n_images,
                "published_ms": 1e3 * statistics.median(theirs) / n_images,
                "ratio": median_ratio(theirs, mine),
            }
        )
        shutil.rmtree(folder)
    return rows


def transforms_alone(repeats: int) -> list[dict[str, Any]]:
    """Milliseconds per image on one core, in memory, with the error against finufft at 1e-14 in float64."""
    rows = []
    for box, precision in ((64, "single"), (128, "single"), (256, "single"), (384, "single"), (512, "single"), (256, "double")):
        descriptor = ImageDescriptor.from_individual_values(box, 1.5, precision)
        images = np.random.default_rng(1).standard_normal((16, box, box), dtype=np.float32)
        exact = [_nearly_exact(image, descriptor) for image in images[:2]]
        one_thread = published_method.PublishedTransform(descriptor, n_threads=1)
        results = TransformedImages.allocate(len(images), descriptor)
        ways: dict[str, Transform] = {"compiled": CompiledTransform(descriptor), "torch": TorchTransform(descriptor)}
        row: dict[str, Any] = {"box": box, "precision": precision}
        actions = []
        for name, transform in ways.items():

            def run(transform: Transform = transform) -> float:
                began = time.perf_counter()
                with single_threaded_torch():
                    transform(images, results)
                return (time.perf_counter() - began) / len(images)

            run()
            row[f"{name}_error"] = max(
                float(np.linalg.norm(results.fourier[i] - exact[i]) / np.linalg.norm(exact[i])) for i in range(2)
            )
            actions.append(run)

        def published() -> float:
            began = time.perf_counter()
            with single_threaded_torch():
                one_thread(torch.from_numpy(images[:4]))
            return (time.perf_counter() - began) / 4

        compiled_times, torch_times, published_times = interleaved(repeats, *actions, published)
        row["compiled_ms"] = 1e3 * statistics.median(compiled_times)
        row["torch_ms"] = 1e3 * statistics.median(torch_times)
        row["published_ms"] = 1e3 * statistics.median(published_times)
        row["ratio"] = median_ratio(published_times, compiled_times)
        rows.append(row)
    return rows


def _nearly_exact(image: npt.NDArray[np.float32], descriptor: ImageDescriptor) -> npt.NDArray[np.complex128]:
    """Transform of one image by finufft at 1e-14 in float64, because a direct sum would take minutes."""
    grid = descriptor.polar_grid
    k1, k2 = (
        (4 * np.pi / n * np.outer(grid.radii, trigonometric(grid.angles))).ravel()
        for n, trigonometric in zip(descriptor.n_pixels, (np.cos, np.sin), strict=True)
    )
    centred = centre(image.astype(np.float64)).astype(np.complex128)
    values = finufft.nufft2d2(k1, k2, centred, eps=1e-14, isign=-1).reshape(grid.n_shells, grid.n_inplanes)
    return np.asarray(values / np.sqrt((grid.shell_weights[:, None] * np.abs(values) ** 2).sum()))


def split_of_the_transform(repeats: int) -> list[dict[str, Any]]:
    """Milliseconds per image on one core of each step of the compiled transform."""
    rows = []
    for box in (64, 128, 256, 384, 512):
        descriptor = ImageDescriptor.from_individual_values(box, 1.5)
        transform = CompiledTransform(descriptor)
        compiled, interpolation = transform.compiled, transform.compiled.interpolation
        n = transform.images_per_batch
        images = np.random.default_rng(1).standard_normal((n, box, box), dtype=np.float32)
        results = TransformedImages.allocate(n, descriptor)
        transform(images, results)
        padded, spectra_rows = transform._padded, transform._spectrum_rows
        spectra = rfft(padded)
        grids = fft(spectra_rows).view(np.float32)
        steps = {
            "centre": lambda: centring.centre(
                images, 1, False, transform._downsampled, interpolation.deconvolution_x, interpolation.deconvolution_y,
                results.physical, transform._padded, results.status,
            ),
            "row FFT": lambda: rfft(padded),
            "lay out": lambda: kernels.lay_out_rows(spectra, transform._spectrum_rows, interpolation.margin),
            "column FFT": lambda: fft(spectra_rows),
            "interpolate": lambda: kernels._interpolate(
                grids[0].reshape(-1), compiled.start, grids.shape[2], compiled.weights, transform._half.reshape(-1)
            ),
            "normalise": lambda: kernels._normalise(
                transform._half, compiled.shell_weights, interpolation.conjugate, results.fourier[0].view(np.float32), results.power[0]
            ),
        }  # fmt: skip
        once = {"interpolate", "normalise"}  # one image per call
        row: dict[str, Any] = {"box": box}
        for name, step in steps.items():
            times = []
            for _ in range(10 * repeats):
                began = time.perf_counter()
                step()
                times.append(time.perf_counter() - began)
            row[name] = 1e3 * statistics.median(times) / (1 if name in once else n)
        rows.append(row)
    return rows
