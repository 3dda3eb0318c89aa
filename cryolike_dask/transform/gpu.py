"""The transform in torch operations: on CUDA devices, and on a CPU for comparison.

The interpolation is one sparse matrix, polar points by grid points. Its product with the half spectra of several images, whose real
and imaginary parts are columns, interpolates all of them (with cuSPARSE on a GPU, MKL on a CPU).

On a GPU, a copy stream moves images through pinned staging buffers while the previous batch is computed, and moves results back.
"""

from __future__ import annotations

import logging
import threading
import warnings
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from cryolike_dask.metadata.image_descriptor import ImageDescriptor
from cryolike_dask.settings import DownsampleType
from cryolike_dask.transform.fourier_crop import crop_spectra
from cryolike_dask.transform.interface import CONSTANT, NOT_FINITE, OK, TransformedImages
from cryolike_dask.transform.interpolation import PolarInterpolation, make_interpolation
from cryolike_dask.transform.origins import shift_fourier, shift_physical

logger = logging.getLogger(__name__)

_CPU_BATCH = 8  # makes 16 columns, for which the CPU's sparse product is fastest
_GPU_MEMORY_FRACTION = 0.25  # of the free memory, per batch: two are in flight, and other threads and processes need some
_MAX_GPU_BATCH = 256

_device_locks: dict[str, threading.Lock] = {}
_device_locks_lock = threading.Lock()


def device_lock(device: str) -> threading.Lock:
    """The lock with which one thread of a process computes on a device at a time, while the others read and write."""
    with _device_locks_lock:
        return _device_locks.setdefault(device, threading.Lock())


class _DeviceTables:
    """The interpolation on a device. All transforms of a process share it, and never change it."""

    def __init__(self, descriptor: ImageDescriptor, device: str) -> None:
        real = torch.float64 if descriptor.precision == "double" else torch.float32
        self.interpolation = interpolation = make_interpolation(descriptor)
        self.matrix = _sparse_matrix(interpolation).to(real).to(device)
        scale = np.outer(interpolation.deconvolution_x, interpolation.deconvolution_y)
        self.deconvolution = torch.from_numpy(scale).to(device)  # (n_x, n_y)
        self.shell_weights = torch.from_numpy(descriptor.polar_grid.shell_weights).to(device)
        self.conjugate = torch.from_numpy(interpolation.conjugate).to(device)
        ky = np.arange(interpolation.n_spectrum_rows) - interpolation.margin
        highest = interpolation.fine_shape[1] // 2
        self.mirrored = torch.from_numpy((ky < 0) | (ky > highest)).to(device)
        self.ky = torch.from_numpy(np.where(ky > highest, 2 * highest - ky, np.abs(ky))).to(device)


@lru_cache(maxsize=4)
def _device_tables(descriptor: ImageDescriptor, device: str) -> _DeviceTables:
    return _DeviceTables(descriptor, device)


def _sparse_matrix(interpolation: PolarInterpolation) -> torch.Tensor:
    """(n_points, n_spectrum_rows * fine_x) CSR, w * w entries per row."""
    w, fine_x = interpolation.width, interpolation.fine_shape[0]
    rows = interpolation.row[:, None, None] + np.arange(w)[None, :, None]
    columns = (interpolation.column[:, None, None] + np.arange(w)[None, None, :]) % fine_x
    column_indices = (rows * fine_x + columns).reshape(-1)
    weights = (interpolation.weights_y[:, :, None] * interpolation.weights_x[:, None, :]).reshape(-1)
    row_pointers = np.arange(0, len(column_indices) + 1, w * w)
    index = np.int32 if len(column_indices) < 2**31 else np.int64
    # The columns of footprints that wrap are not in order; the products do not need that.
    with torch.sparse.check_sparse_tensor_invariants(False), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta state")
        return torch.sparse_csr_tensor(
            torch.from_numpy(row_pointers.astype(index)),
            torch.from_numpy(column_indices.astype(index)),
            torch.from_numpy(weights),
            size=(interpolation.n_points, interpolation.n_spectrum_rows * fine_x),
        )


class TorchTransform:
    """The transform on one device.

    Args:
        descriptor: grids and precision of the images as written.
        downsample_factor, downsample_type: size of the blocks, and 'mean' or 'max'; 'fourier' crops to the descriptor's box and ignores
            the factor.
        device: 'cpu' or 'cuda:0'.
    """

    def __init__(
        self, descriptor: ImageDescriptor, downsample_factor: int = 1, downsample_type: DownsampleType = "mean", device: str = "cpu"
    ) -> None:
        self.descriptor = descriptor
        self.factor = downsample_factor
        self.downsample_type = downsample_type
        self.device = device
        with device_lock(device):
            self.tables = _device_tables(descriptor, device)
        self._batch = _CPU_BATCH if device == "cpu" else self._batch_that_fits()
        self._staging: _Staging | None = None

    @property
    def images_per_batch(self) -> int:
        """Number of images per batch."""
        return self._batch

    def __call__(self, images: npt.NDArray[Any], results: TransformedImages, shifts: npt.NDArray[np.float64] | None = None) -> None:
        """See `Transform`."""
        with device_lock(self.device):
            if self.device == "cpu":
                for first in range(0, len(images), self._batch):
                    part = slice(first, first + self._batch)
                    computed = self._shifted(self._transform(torch.from_numpy(images[part])), shifts, part)
                    self._copy_to_results(computed, results, part)
            else:
                self._transform_overlapped(images, results, shifts)

    def _shifted(
        self, computed: tuple[torch.Tensor, ...], shifts: npt.NDArray[np.float64] | None, part: slice
    ) -> tuple[torch.Tensor, ...]:
        """Fourier, physical, power and status of part of the images, moved by their shifts if there are any."""
        if shifts is None:
            return computed
        fourier, physical, *unchanged = computed
        on_device = torch.from_numpy(shifts[part]).to(fourier.device)
        return (shift_fourier(fourier, on_device, self.descriptor), shift_physical(physical, on_device), *unchanged)

    def _transform(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Fourier, physical, power and status of (k, rows, columns) images on the device."""
        tables, interpolation = self.tables, self.tables.interpolation
        pixels = images.to(torch.float64)
        n_x, n_y = interpolation.n_pixels
        if pixels.shape[1:] != (n_x, n_y):
            pixels = crop_spectra(pixels, (n_x, n_y)) if self.downsample_type == "fourier" else self._downsampled(pixels)
        mean = pixels.mean(dim=(1, 2), keepdim=True)
        # Removes the rounding error of a mean that is large compared with the deviations.
        mean = mean + (pixels - mean).mean(dim=(1, 2), keepdim=True)
        finite = torch.isfinite(mean[:, 0, 0])
        flat = pixels.flatten(1)
        not_constant = flat.amin(1) != flat.amax(1)
        usable = finite & not_constant
        centred = torch.where(usable[:, None, None], pixels - mean, 1.0)
        centred /= centred.abs().amax(dim=(1, 2), keepdim=True)
        real = self.tables.matrix.dtype
        physical = centred.to(torch.float32)
        padded = torch.zeros((len(images), n_x, interpolation.fine_shape[1]), dtype=real, device=images.device)  # (k, n_x, fine_y)
        half_y, half_x = n_y // 2, n_x // 2
        scaled = (centred * tables.deconvolution).to(real)
        padded[:, :, : n_y - half_y] = scaled[:, :, half_y:]
        padded[:, :, interpolation.fine_shape[1] - half_y :] = scaled[:, :, :half_y]
        spectra = torch.fft.rfft(padded, dim=-1).transpose(1, 2)[:, tables.ky]  # (k, n_spectrum_rows, n_x)
        spectra = torch.where(tables.mirrored[:, None], spectra.conj(), spectra)
        rows = torch.zeros((*spectra.shape[:2], interpolation.fine_shape[0]), dtype=spectra.dtype, device=images.device)
        rows[:, :, : n_x - half_x] = spectra[:, :, half_x:]
        rows[:, :, interpolation.fine_shape[0] - half_x :] = spectra[:, :, :half_x]
        grids = torch.view_as_real(torch.fft.fft(rows, dim=-1))  # (k, n_spectrum_rows, fine_x, 2)
        columns = grids.reshape(len(images), -1, 2).transpose(0, 1).reshape(-1, 2 * len(images))  # (grid points, 2 k)
        half = (tables.matrix @ columns).reshape(interpolation.n_shells, interpolation.n_angles, len(images), 2).permute(2, 0, 1, 3)
        return self._normalised(torch.view_as_complex(half.contiguous()), physical, finite, not_constant)

    def _downsampled(self, images: torch.Tensor) -> torch.Tensor:
        n_x, n_y = self.tables.interpolation.n_pixels
        blocks = images[:, : n_x * self.factor, : n_y * self.factor].reshape(len(images), n_x, self.factor, n_y, self.factor)
        if self.downsample_type == "mean":
            return blocks.mean(dim=(2, 4))
        # A maximum would hide a pixel of minus infinity.
        return torch.where(torch.isfinite(blocks), blocks, torch.nan).amax(dim=(2, 4))

    def _normalised(
        self, half: torch.Tensor, physical: torch.Tensor, finite: torch.Tensor, not_constant: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        tables, grid = self.tables, self.descriptor.polar_grid
        power = (torch.view_as_real(half).to(torch.float64) ** 2).sum(dim=(2, 3))  # (k, n_shells)
        norm = (power @ tables.shell_weights) * (grid.n_inplanes // half.shape[2])
        usable = finite & not_constant
        scale = torch.where(usable, norm, torch.inf).rsqrt()
        half = half * scale[:, None, None].to(half.real.dtype)
        if grid.n_inplanes == half.shape[2]:
            fourier = torch.where(tables.conjugate, half.conj(), half)
        else:
            fourier = torch.cat([half, half.conj()], dim=2)
        status = torch.where(finite, torch.where(not_constant, OK, CONSTANT), NOT_FINITE).to(torch.uint8)
        power = power * (scale**2)[:, None] / half.shape[2]
        bad = ~usable
        fourier[bad], physical[bad], power[bad] = 0, 0, 0
        return fourier.resolve_conj(), physical, power, status

    @staticmethod
    def _copy_to_results(computed: tuple[torch.Tensor, ...], results: TransformedImages, part: slice) -> None:
        for tensor, target in zip(computed, results.arrays, strict=True):
            torch.from_numpy(target[part]).copy_(tensor)

    # The rest of this module runs only on CUDA devices.

    def _batch_that_fits(self) -> int:
        free, _ = torch.cuda.mem_get_info(self.device)
        interpolation = self.tables.interpolation
        grid_bytes = 4 * interpolation.n_spectrum_rows * interpolation.fine_shape[0] * self.descriptor.complex_dtype.itemsize
        output_bytes = 3 * self.descriptor.polar_grid.n_points * self.descriptor.complex_dtype.itemsize
        return max(1, min(_MAX_GPU_BATCH, int(_GPU_MEMORY_FRACTION * free) // (grid_bytes + output_bytes)))

    def _transform_overlapped(
        self, images: npt.NDArray[Any], results: TransformedImages, shifts: npt.NDArray[np.float64] | None
    ) -> None:
        first = 0
        while first < len(images):
            try:
                first = self._transform_from(first, images, results, shifts)
            except torch.OutOfMemoryError:
                if self._batch == 1:
                    raise
                self._staging = None
                torch.cuda.empty_cache()
                self._batch = max(1, self._batch // 2)
                logger.warning("%s is short of memory: continuing with batches of %d images.", self.device, self._batch)

    def _transform_from(
        self, first: int, images: npt.NDArray[Any], results: TransformedImages, shifts: npt.NDArray[np.float64] | None
    ) -> int:
        """Transform the images from `first` on, copying one batch while another is computed. Returns the end position."""
        if self._staging is None:
            self._staging = _Staging(self._batch, images.shape[1:], self.descriptor, self.device)
        staging = self._staging
        pending: tuple[int, range] | None = None
        for number, begin in enumerate(range(first, len(images), self._batch)):
            slot = number % 2
            part = range(begin, min(begin + self._batch, len(images)))
            on_device = staging.upload(slot, images[part.start : part.stop])
            computed = self._shifted(self._transform(on_device), shifts, slice(part.start, part.stop))
            staging.download(slot, computed)
            if pending is not None:
                staging.collect(*pending, results)
            pending = (slot, part)
        if pending is not None:
            staging.collect(*pending, results)
        return len(images)


class _Staging:
    """Two sets of pinned host buffers and a stream for copies, so that transfers and computation overlap."""

    def __init__(self, batch: int, image_shape: tuple[int, ...], descriptor: ImageDescriptor, device: str) -> None:
        self.device = device
        self.copies = torch.cuda.Stream(device)
        outputs = TransformedImages.allocate(1, descriptor).arrays
        self.images = [torch.empty((batch, *image_shape), dtype=torch.float32, pin_memory=True) for _ in range(2)]
        self.outputs = [
            [torch.empty((batch, *o.shape[1:]), dtype=torch.from_numpy(o).dtype, pin_memory=True) for o in outputs]
            for _ in range(2)
        ]
        self.ready = [torch.cuda.Event(), torch.cuda.Event()]

    def upload(self, slot: int, images: npt.NDArray[Any]) -> torch.Tensor:
        """Copy images to the device; the computing stream waits for them."""
        pinned = self.images[slot][: len(images)]
        pinned.copy_(torch.from_numpy(images))
        with torch.cuda.stream(self.copies):
            on_device = pinned.to(self.device, non_blocking=True)
        compute = torch.cuda.current_stream(self.device)
        compute.wait_stream(self.copies)
        on_device.record_stream(compute)
        return on_device

    def download(self, slot: int, computed: tuple[torch.Tensor, ...]) -> None:
        """Start copying results to pinned memory."""
        self.copies.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self.copies):
            for tensor, pinned in zip(computed, self.outputs[slot], strict=True):
                pinned[: len(tensor)].copy_(tensor, non_blocking=True)
                tensor.record_stream(self.copies)
            self.ready[slot].record(self.copies)

    def collect(self, slot: int, part: range, results: TransformedImages) -> None:
        """Wait for the results in a slot and copy them to `results`."""
        self.ready[slot].synchronize()
        for pinned, target in zip(self.outputs[slot], results.arrays, strict=True):
            torch.from_numpy(target[part.start : part.stop]).copy_(pinned[: len(part)])
