"""The inverse transform from Fourier-polar images to real space, for display, and the low-pass filter that makes particles visible."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from cryolike_dask.errors import InputError
from cryolike_dask.metadata.image_descriptor import ImageDescriptor

_CHUNK_POINTS = 1 << 13  # bounds the memory: in a box of 512 pixels, this many points take about 300 MB


def fourier_to_physical(
    fourier: Any, descriptor: ImageDescriptor | str | Path, shell_factors: npt.NDArray[np.floating[Any]] | None = None
) -> npt.NDArray[np.float64]:
    """Transform Fourier-polar images back to real space: the inverse Fourier integral over the disc, with the quadrature of the grid.

    a[x, y] = sum over points of weight * F * exp(+i (k1 x + k2 y)) / (pi sqrt(n_x n_y)), computed directly in float64. With this factor
    it is the inverse of the transform F = 4 pi / sqrt(n_x n_y) * sum of a exp(-i k x). Stacks are normalised, so the images are recovered
    up to a positive factor, without frequencies beyond the radius of the grid. The in-plane angles are dense enough up to about a third
    of the box from the centre; towards the corners, the images fade into ripples.

    Args:
        fourier: (k, n_shells, n_inplanes) complex array or tensor, the transforms of real images.
        descriptor: image descriptor of the stack, or the path of its params `.npz`.
        shell_factors: (n_shells,) or (n_shells, n_inplanes) factors of the shells or of their points, such as a low-pass filter; shells
            with factor 0 take no time.

    Returns:
        (k, n_x, n_y) float64.

    Raises:
        InputError: the shapes do not fit the descriptor.

    Example:
        >>> from cryolike_dask import ImageDescriptor, load_stack
        >>> stack = load_stack("converted", 0)
        >>> descriptor = ImageDescriptor.load("params.npz")
        >>> fourier_to_physical(stack.fourier.numpy(), descriptor).shape
        (5, 16, 16)
    """
    descriptor = ImageDescriptor.ensure(descriptor)
    grid = descriptor.polar_grid
    values = np.asarray(fourier)
    shape = (grid.n_shells, grid.n_inplanes)
    factors = np.ones(grid.n_shells) if shell_factors is None else np.asarray(shell_factors, dtype=np.float64)
    if values.ndim != 3 or values.shape[1:] != shape or factors.shape not in (shape, shape[:1]):
        raise InputError(
            f"Fourier images of shape {values.shape} with {factors.shape} shell factors do not fit the descriptor: it describes "
            f"(images, {grid.n_shells}, {grid.n_inplanes}) and ({grid.n_shells},). Use the descriptor that the stack was made with."
        )
    n_x, n_y = descriptor.n_pixels
    # The transform of a real image at theta + pi is the conjugate of that at theta, so half of the points are enough.
    halved = grid.n_inplanes % 2 == 0
    n_angles = grid.n_inplanes // 2 if halved else grid.n_inplanes
    angles = grid.angles[:n_angles]
    factors = np.broadcast_to(factors.reshape(grid.n_shells, -1), shape)[:, :n_angles]
    weights = grid.shell_weights[:, None] * factors * ((2.0 if halved else 1.0) / (np.pi * np.sqrt(n_x * n_y)))
    x, y = np.arange(n_x) - n_x // 2, np.arange(n_y) - n_y // 2
    images = torch.zeros((len(values), n_x, n_y), dtype=torch.float64)
    (shells,) = np.nonzero(factors.any(axis=1))
    chunk_shells = max(1, _CHUNK_POINTS // n_angles)
    for first in range(0, len(shells), chunk_shells):
        chunk = shells[first : first + chunk_shells]
        along_x = _plane_waves(x, np.outer(grid.radii[chunk], np.cos(angles)).ravel() * (4 * np.pi / n_x))
        along_y = _plane_waves(y, np.outer(grid.radii[chunk], np.sin(angles)).ravel() * (4 * np.pi / n_y))
        # Re(Ex diag(F) Ey^T) = Re(Ex) Re(diag(F) Ey^T) - Im(Ex) Im(diag(F) Ey^T)
        left = torch.cat([along_x.real, -along_x.imag], dim=1)  # (n_x, 2 points)
        for image, spectrum in zip(images, values, strict=True):
            points = torch.from_numpy((spectrum[chunk, :n_angles] * weights[chunk]).ravel())
            right = points * along_y  # (n_y, points)
            image += left @ torch.cat([right.real, right.imag], dim=1).T
    return images.numpy()


def _plane_waves(position: npt.NDArray[np.int64], frequency: npt.NDArray[np.float64]) -> torch.Tensor:
    """(positions, frequencies) exp(i k x)."""
    phase = torch.outer(torch.from_numpy(position.astype(np.float64)), torch.from_numpy(frequency))
    return torch.polar(torch.ones((), dtype=torch.float64).expand_as(phase), phase)


def low_pass_factors(resolution: npt.NDArray[np.floating[Any]], cutoff: float) -> npt.NDArray[np.float64]:
    """A soft low-pass filter: 1 up to 0.75 / cutoff, 0 from 1.25 / cutoff on, and half a cosine between.

    Args:
        resolution: Å, any shape; infinite for the zero frequency.
        cutoff: resolution at which the filter is 1/2, Å.
    """
    frequency = cutoff / np.asarray(resolution, dtype=np.float64)
    return np.asarray(0.5 + 0.5 * np.cos(np.pi * np.clip((frequency - 0.75) / 0.5, 0.0, 1.0)))


def low_pass_on_grid(descriptor: ImageDescriptor, cutoff: float) -> npt.NDArray[np.float64]:
    """(n_shells, n_inplanes) factors of `low_pass_factors` for the points of the polar grid.

    Shells are counted in cycles per box, so those of a rectangle are ellipses: each point has a resolution of its own.

    Args:
        cutoff: Å.
    """
    grid = descriptor.polar_grid
    width_x, width_y = (n * size for n, size in zip(descriptor.n_pixels, descriptor.pixel_size, strict=True))
    frequency = 2 * grid.radii[:, None] * np.hypot(np.cos(grid.angles) / width_x, np.sin(grid.angles) / width_y)
    return low_pass_factors(1.0 / frequency, cutoff)


def low_passed(
    images: npt.NDArray[np.floating[Any]], pixel_size: tuple[float, float], cutoff: float, shape: tuple[int, int] | None = None
) -> npt.NDArray[np.float64]:
    """Images after the filter of `low_pass_factors`, optionally on fewer pixels.

    Args:
        images: (k, n_x, n_y) in real space.
        pixel_size: Å along both axes.
        cutoff: Å.
        shape: (m_x, m_y) pixels of the result, at most (n_x, n_y). Frequencies that its larger pixels cannot represent are left out.

    Returns:
        (k, m_x, m_y), with the same brightness.
    """
    n_x, n_y = images.shape[1:]
    m_x, m_y = (n_x, n_y) if shape is None else shape
    # Frequencies in cycles per image; NumPy puts the negative ones of axis 1 at the end.
    x, y = np.rint(np.fft.fftfreq(m_x, 1 / m_x)).astype(np.int64), np.arange(m_y // 2 + 1)
    frequency = np.hypot(x[:, None] / (n_x * pixel_size[0]), y[None, :] / (n_y * pixel_size[1]))
    with np.errstate(divide="ignore"):
        factors = low_pass_factors(1.0 / frequency, cutoff)
    spectra = np.fft.rfft2(images)[:, x, : m_y // 2 + 1] * factors
    return np.asarray(np.fft.irfft2(spectra, s=(m_x, m_y)) * (m_x * m_y / (n_x * n_y)))
