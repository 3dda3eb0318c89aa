"""The steps for a chunk of images: downsample, centre, polar Fourier transform, normalise.

No files and no Dask: arrays in, arrays out. The results do not depend on what else is running.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.fft import fft, rfft

from cryolike_dask.metadata.image_descriptor import ImageDescriptor
from cryolike_dask.settings import DownsampleType
from cryolike_dask.transform import kernels
from cryolike_dask.transform.centring import centre
from cryolike_dask.transform.compilation import NJIT_OPTIONS, is_compiled
from cryolike_dask.transform.interface import OK, TransformedImages
from cryolike_dask.transform.interpolation import PolarInterpolation, make_interpolation
from cryolike_dask.transform.malloc import keep_freed_buffers

logger = logging.getLogger(__name__)

# Bytes of half spectra per batch: few enough to stay in the cache of a core, enough to spread the overhead of a call.
_CACHE_BYTES = 768 * 1024

_said: list[str] = []
"""The notice of this process about compiling, as the only element; '' if there was nothing to say."""


@dataclass(frozen=True)
class _CompiledInterpolation:
    """The interpolation table in the layout and precision of the compiled loops; see `kernels.polar_images`."""

    interpolation: PolarInterpolation
    start: npt.NDArray[np.int32]
    weights: npt.NDArray[Any]
    wrapped: npt.NDArray[np.int64]
    wrapped_start: npt.NDArray[np.int32]
    wrapped_weights: npt.NDArray[Any]
    shell_weights: npt.NDArray[np.float64]


@lru_cache(maxsize=4)
def _compiled_interpolation(descriptor: ImageDescriptor) -> _CompiledInterpolation:
    interpolation = make_interpolation(descriptor)
    fine_x = interpolation.fine_shape[0]
    last = fine_x - interpolation.width
    (wrapped,) = np.nonzero((interpolation.column < 0) | (interpolation.column > last))
    # The main pass interpolates wrapped points at any place that is safe to read; their values are replaced afterwards.
    start = 2 * (interpolation.row * fine_x + np.clip(interpolation.column, 0, last))
    weights = np.concatenate([interpolation.weights_y, interpolation.weights_x], axis=1).astype(descriptor.real_dtype)
    strip_column = (interpolation.column[wrapped] + interpolation.width) % fine_x
    return _CompiledInterpolation(
        interpolation=interpolation,
        start=start.astype(np.int32),
        weights=weights,
        wrapped=wrapped,
        wrapped_start=(2 * (interpolation.row[wrapped] * 2 * interpolation.width + strip_column)).astype(np.int32),
        wrapped_weights=weights[wrapped],
        shell_weights=descriptor.polar_grid.shell_weights,
    )


def say_if_compiling(say: Callable[[str], None] = logger.info) -> None:
    """Announce, once per process, that the transform has to be compiled first, if that is so.

    Args:
        say: shows a line; by default, it is logged.
    """
    if not _said:
        _said.append(_compilation_notice())
        if _said[0]:
            say(_said[0])


def _compilation_notice() -> str:
    if not NJIT_OPTIONS["cache"]:
        return "Compiling for about 10 s, in every run: set NUMBA_CACHE_DIR to a writable folder to keep the compiled code"
    if not (is_compiled(centre) and is_compiled(kernels.polar_images)):
        return "Compiling for about 10 s, in the first run on this machine only"
    return ""


class CompiledTransform:
    """The transform on CPU cores: FFTs by SciPy, everything else in compiled loops, on a few images at a time that fit in the cache.

    All transforms of a process share their tables. Each object has its own work buffers, so each thread needs its own object.
    """

    def __init__(self, descriptor: ImageDescriptor, downsample_factor: int = 1, downsample_type: DownsampleType = "mean") -> None:
        keep_freed_buffers()
        say_if_compiling()
        self.descriptor = descriptor
        self.crops = downsample_type == "fourier"
        self.factor = 1 if self.crops else downsample_factor
        self.maximum = downsample_type == "max"
        self.compiled = compiled = _compiled_interpolation(descriptor)
        interpolation = compiled.interpolation
        (n_x, n_y), (fine_x, fine_y) = interpolation.n_pixels, interpolation.fine_shape
        real, cplx = descriptor.real_dtype, descriptor.complex_dtype
        self._batch = max(1, _CACHE_BYTES // (interpolation.n_spectrum_rows * fine_x * cplx.itemsize))
        # float64, because in float32 the mean of a block would lose 6e-8 of the brightness, which centring then magnifies.
        self._downsampled = np.zeros((n_x, n_y))
        self._padded = np.zeros((self._batch, n_x, fine_y), dtype=real)
        self._spectrum_rows = np.zeros((self._batch, interpolation.n_spectrum_rows, fine_x), dtype=cplx)
        self._strip = np.zeros((interpolation.n_spectrum_rows, 4 * interpolation.width), dtype=real)
        self._wrapped_values = np.zeros(2 * len(compiled.wrapped), dtype=real)
        self._half = np.zeros((interpolation.n_shells, 2 * interpolation.n_angles), dtype=real)

    @property
    def images_per_batch(self) -> int:
        """Number of images that fit in the cache together."""
        return self._batch

    def __call__(self, images: npt.NDArray[Any], results: TransformedImages, shifts: npt.NDArray[np.float64] | None = None) -> None:
        """See `Transform`."""
        for first in range(0, len(images), self._batch):
            part = slice(first, first + self._batch)
            of_part = TransformedImages(*(array[part] for array in results.arrays))
            self._transform(images[part], of_part)
            if shifts is not None:
                # Imported here, because torch takes a second and 160 MB, which other runs do not need.
                from cryolike_dask.transform.torch_steps import shift_images

                shift_images(of_part.fourier, of_part.physical, shifts[part], self.descriptor)

    def _transform(self, images: npt.NDArray[Any], results: TransformedImages) -> None:
        compiled, interpolation, real = self.compiled, self.compiled.interpolation, self.descriptor.real_dtype
        if self.crops and images.shape[1:] != self.descriptor.n_pixels:
            from cryolike_dask.transform.torch_steps import crop_images  # as above

            images = crop_images(images, self.descriptor.n_pixels)
        padded, rows = self._padded[: len(images)], self._spectrum_rows[: len(images)]
        centre(
            images,
            self.factor,
            self.maximum,
            self._downsampled,
            interpolation.deconvolution_x,
            interpolation.deconvolution_y,
            results.physical,
            padded,
            results.status,
        )
        results.physical[results.status != OK] = 0
        kernels.lay_out_rows(rfft(padded), rows, interpolation.margin)
        grids = fft(rows)  # not in place: the columns of rows that hold no image stay zero from batch to batch
        kernels.polar_images(
            grids.view(real),
            compiled.start,
            compiled.weights,
            compiled.wrapped,
            compiled.wrapped_start,
            compiled.wrapped_weights,
            compiled.shell_weights,
            interpolation.conjugate,
            results.status,
            self._strip,
            self._wrapped_values,
            self._half,
            results.fourier.view(real),
            results.power,
        )
