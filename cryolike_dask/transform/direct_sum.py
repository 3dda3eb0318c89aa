"""The conversion as direct sums in float64: slow, short, and independent of the fast transforms."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from cryolike_dask.metadata.image_descriptor import ImageDescriptor

Image = npt.NDArray[np.float64]


def downsample(image: Image, factor: int, kind: str) -> Image:
    """Means or maxima of the f x f blocks; a trailing remainder is dropped."""
    n, m = image.shape[0] // factor, image.shape[1] // factor
    blocks = image[: n * factor, : m * factor].reshape(n, factor, m, factor)
    return np.asarray(blocks.mean(axis=(1, 3)) if kind == "mean" else blocks.max(axis=(1, 3)))


def crop_fourier(image: Image, shape: tuple[int, int]) -> Image:
    """The image on a coarser grid of `shape` pixels, as a sum over all frequencies within the new band."""
    along_x, along_y = (_interpolation(n, m) for n, m in zip(image.shape, shape, strict=True))
    return np.asarray(along_x @ image @ along_y.T)


def _interpolation(n: int, m: int) -> Image:
    """(m, n) weight of each of n pixels in the band-limited image at m coarser pixels; both grids are counted from their middle pixel."""
    fine, coarse = np.arange(n) - n // 2, (np.arange(m) - m // 2) * n / m
    distance = coarse[:, None] - fine[None, :]
    total = np.ones((m, n))
    for frequency in range(1, m // 2 + 1):
        # For an even m, the highest frequency occurs once, with half of each sign.
        total += (1 if 2 * frequency == m else 2) * np.cos(2 * np.pi * frequency * distance / n)
    return total / n


def centre(image: Image) -> Image:
    """The image minus its mean, divided by its largest absolute value."""
    centred = image - image.mean()
    return np.asarray(centred / np.abs(centred).max())


def shift_periodically(image: Image, shift: tuple[float, float]) -> Image:
    """The image moved periodically by (x, y) pixels, as a sum over all its frequencies."""
    along_x, along_y = (_moved(n, by) for n, by in zip(image.shape, shift, strict=True))
    return np.asarray(along_x @ image @ along_y.T)


def _moved(n: int, shift: float) -> Image:
    """(n, n) weight of each pixel in the moved image at each pixel."""
    distance = np.arange(n)[:, None] - np.arange(n)[None, :]
    total = np.ones((n, n))
    for frequency in range(1, (n + 1) // 2):
        total += 2 * np.cos(2 * np.pi * frequency * (distance - shift) / n)
    if n % 2 == 0:  # the highest frequency, with half of each sign
        total += np.cos(np.pi * distance) * np.cos(np.pi * shift)
    return total / n


def direct_polar_transform(
    image: Image, descriptor: ImageDescriptor, shift: tuple[float, float] = (0.0, 0.0)
) -> npt.NDArray[np.complex128]:
    """(n_shells, n_inplanes) direct Fourier sum of one centred image at the polar points, with unit norm.

    F(s, j) = sum over x, y of a[x, y] exp(-i (k1 x + k2 y)), k1 = 4 pi r_s cos(theta_j) / n_x, k2 = 4 pi r_s sin(theta_j) / n_y,
    x and y counted from the middle pixel n // 2, and moved by the shift.
    """
    grid = descriptor.polar_grid
    n_x, n_y = descriptor.n_pixels
    result: npt.NDArray[Any] = np.empty((grid.n_shells, grid.n_inplanes), dtype=np.complex128)
    x, y = np.arange(n_x) - n_x // 2 + shift[0], np.arange(n_y) - n_y // 2 + shift[1]
    for s, radius in enumerate(grid.radii.tolist()):
        k1 = 4 * np.pi * radius * np.cos(grid.angles) / n_x
        k2 = 4 * np.pi * radius * np.sin(grid.angles) / n_y
        along_y = image @ np.exp(-1j * np.outer(y, k2))  # (n_x, n_inplanes)
        result[s] = (np.exp(-1j * np.outer(x, k1)) * along_y).sum(axis=0)
    norm = np.sqrt((grid.shell_weights[:, None] * np.abs(result) ** 2).sum())
    return np.asarray(result / norm)
