"""What happens to a chunk of images: downsample, centre, polar Fourier transform, normalise.

No files, no Dask: arrays in, arrays out, the same whatever else runs beside it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from cryolike_dask import compiled
from cryolike_dask.image_descriptor import ImageDescriptor
from cryolike_dask.polar_interpolation import PolarInterpolation, plan_interpolation
from cryolike_dask.settings import DownsampleType

OK, CONSTANT, NOT_FINITE = compiled.OK, compiled.CONSTANT, compiled.NOT_FINITE

# Bytes of half spectra worked on together: few enough to stay in a core's cache, enough to share the cost of a call.
_CACHE_BYTES = 768 * 1024


@dataclass(frozen=True)
class TransformedImages:
    """Where a transform puts its results; the caller owns the arrays.

    Args:
        fourier: (k, n_shells, n_inplanes) complex, unit norm each.
        physical: (k, n_x, n_y) float32, centred images.
        power: (k, n_shells) float64, the mean of |F|^2 over the in-planes.
        status: (k,) uint8: OK, CONSTANT or NOT_FINITE; unless OK the image's other values are all zero.
    """

    fourier: npt.NDArray[Any]
    physical: npt.NDArray[np.float32]
    power: npt.NDArray[np.float64]
    status: npt.NDArray[np.uint8]

    @classmethod
    def allocate(cls, n_images: int, descriptor: ImageDescriptor) -> TransformedImages:
        grid = descriptor.polar_grid
        return cls(
            fourier=np.zeros((n_images, grid.n_shells, grid.n_inplanes), dtype=descriptor.complex_dtype),
            physical=np.zeros((n_images, *descriptor.n_pixels), dtype=np.float32),
            power=np.zeros((n_images, grid.n_shells)),
            status=np.zeros(n_images, dtype=np.uint8),
        )

    @property
    def arrays(self) -> tuple[npt.NDArray[Any], ...]:
        """Fourier, physical, power and status."""
        return (self.fourier, self.physical, self.power, self.status)

    def first(self, n_images: int) -> TransformedImages:
        """Views of the first n images."""
        return TransformedImages(*(array[:n_images] for array in self.arrays))


class Transform(Protocol):
    """Turns images as they lie on disk, (k, rows, columns) float32, into `results`."""

    @property
    def n_together(self) -> int:
        """Images that are worked on together; calls with fewer waste some of the device."""

    def __call__(self, images: npt.NDArray[Any], results: TransformedImages) -> None: ...


@dataclass(frozen=True)
class _CompiledPlan:
    """The interpolation table in the layout and precision of the compiled loops.

    `wrapped` are the few points whose footprint crosses kx = +-fine_x / 2, where the half spectrum is periodic: they are computed
    again, on a strip of 2 w columns that joins the spectrum's last columns to its first.
    """

    table: PolarInterpolation
    start: npt.NDArray[np.int32]
    weights: npt.NDArray[Any]
    wrapped: npt.NDArray[np.int64]
    wrapped_start: npt.NDArray[np.int32]
    wrapped_weights: npt.NDArray[Any]
    shell_weights: npt.NDArray[np.float64]


@lru_cache(maxsize=4)
def _compiled_plan(descriptor: ImageDescriptor) -> _CompiledPlan:
    table = plan_interpolation(descriptor)
    fine_x = table.fine_shape[0]
    last = fine_x - table.width
    (wrapped,) = np.nonzero((table.column < 0) | (table.column > last))
    # In the main pass a wrapped point reads a place that is merely safe to read.
    start = 2 * (table.row * fine_x + np.clip(table.column, 0, last))
    weights = np.concatenate([table.weights_y, table.weights_x], axis=1).astype(descriptor.real_dtype)
    strip_column = (table.column[wrapped] + table.width) % fine_x
    return _CompiledPlan(
        table=table,
        start=start.astype(np.int32),
        weights=weights,
        wrapped=wrapped,
        wrapped_start=(2 * (table.row[wrapped] * 2 * table.width + strip_column)).astype(np.int32),
        wrapped_weights=weights[wrapped],
        shell_weights=descriptor.polar_grid.shell_weights,
    )


class CompiledTransform:
    """The transform on CPU cores: FFTs by torch, everything between them in compiled loops, a few images in cache at a time.

    Tables are shared by all transforms of a process; work buffers are this object's, so each thread needs its own.
    """

    def __init__(self, descriptor: ImageDescriptor, downsample_factor: int = 1, downsample_type: DownsampleType = "mean") -> None:
        self.descriptor = descriptor
        self.factor = downsample_factor
        self.downsample = compiled.downsample_mean if downsample_type == "mean" else compiled.downsample_max
        self.plan = plan = _compiled_plan(descriptor)
        table = plan.table
        (n_x, n_y), (fine_x, fine_y) = table.n_pixels, table.fine_shape
        real, cplx = descriptor.real_dtype, descriptor.complex_dtype
        self.n_together = max(1, _CACHE_BYTES // (table.n_spectrum_rows * fine_x * cplx.itemsize))
        self.padded = np.zeros((self.n_together, n_x, fine_y), dtype=real)
        self.rows = np.zeros((self.n_together, table.n_spectrum_rows, fine_x), dtype=cplx)
        self.strip = np.zeros((table.n_spectrum_rows, 2 * table.width), dtype=cplx)
        self.half = np.zeros((table.n_shells, table.n_angles), dtype=cplx)
        self.small = np.zeros((n_x, n_y), dtype=real)

    def __call__(self, images: npt.NDArray[Any], results: TransformedImages) -> None:
        """See `Transform`."""
        with single_threaded_torch():
            for first in range(0, len(images), self.n_together):
                self._transform_together(images, results, range(first, min(first + self.n_together, len(images))))

    def _transform_together(self, images: npt.NDArray[Any], results: TransformedImages, positions: range) -> None:
        plan, table = self.plan, self.plan.table
        real = self.descriptor.real_dtype
        for slot, i in enumerate(positions):
            image = images[i]
            if self.factor > 1:
                self.downsample(image, self.factor, self.small)
                image = self.small
            results.status[i] = compiled.centre(
                image, results.physical[i], self.padded[slot], table.deconvolution_x, table.deconvolution_y
            )
        count = len(positions)
        spectra = torch.fft.rfft(torch.from_numpy(self.padded[:count]), dim=-1).numpy()
        for slot in range(count):
            compiled.lay_out_rows(spectra[slot], self.rows[slot], table.margin)
        grids = torch.fft.fft(torch.from_numpy(self.rows[:count]), dim=-1).numpy()
        for slot, i in enumerate(positions):
            if results.status[i] != OK:
                results.physical[i] = 0
                results.fourier[i] = 0
                results.power[i] = 0
                continue
            self._interpolate(grids[slot])
            compiled.normalise(
                self.half.view(real), plan.shell_weights, table.conjugate, results.fourier[i].view(real), results.power[i]
            )

    def _interpolate(self, grid: npt.NDArray[Any]) -> None:
        """Fill `half` from one half spectrum, (n_spectrum_rows, fine_x)."""
        plan, width, real = self.plan, self.plan.table.width, self.descriptor.real_dtype
        values = self.half.reshape(-1)
        compiled.interpolate(grid.reshape(-1).view(real), plan.start, 2 * grid.shape[1], plan.weights, values.view(real))
        self.strip[:, :width] = grid[:, -width:]
        self.strip[:, width:] = grid[:, :width]
        wrapped = np.empty(len(plan.wrapped), dtype=grid.dtype)
        compiled.interpolate(
            self.strip.reshape(-1).view(real), plan.wrapped_start, 4 * width, plan.wrapped_weights, wrapped.view(real)
        )
        values[plan.wrapped] = wrapped


@contextmanager
def single_threaded_torch() -> Iterator[None]:
    """Parallelism is one thread a stack; a second level inside torch would only fight with it. Restored afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
