"""The fixed interpolation of a type-2 non-uniform FFT onto the polar grid.

All images have the same grid, so the interpolation is a table that is made once, in float64. For each polar point it has the place and
the weights of a w x w footprint on an oversampled uniform grid. Each transform applies it in its own way: a compiled loop on the CPU, a
sparse matrix on a GPU.

The footprint is a Kaiser-Bessel window of w points per axis with an oversampling of at least 1.6 (Jackson et al. 1991; Beatty et al.
2005 for the window's beta). Its aliasing error is below 5e-7 for w = 8 and below 1e-12 for w = 16.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cryolike_dask.metadata.image_descriptor import ImageDescriptor

OVERSAMPLING = 1.6
WIDTH = {"single": 8, "double": 16}
"""Points of the footprint per axis: a power of two, so that a row of a footprint fills whole vector registers."""


@dataclass(frozen=True)
class PolarInterpolation:
    """The place of each polar point in the oversampled half spectrum, and its weights.

    The images are real, so only half of the plane is needed. With an even number of in-plane angles, those in [0, pi) are computed, and
    the rest are their conjugates at theta + pi. With an odd number, every angle is computed, those with ky < 0 as conjugates of the
    opposite point. The half spectrum has a row for each ky from -margin up to what the largest shell needs, and a column for each kx, with
    the zero frequency at column fine_shape[0] / 2. Rows below 0 and beyond the highest frequency are filled with conjugates, so footprints
    never leave the array in that direction; in kx it is periodic.

    Args:
        n_pixels: (rows, columns) of the images; rows are x, columns are y.
        fine_shape: oversampled grid (x, y), both even.
        width: w, points of the footprint per axis.
        margin: rows of the half spectrum below ky = 0.
        n_spectrum_rows: rows of the half spectrum, `margin` included.
        n_shells, n_angles: shape of the computed half of the polar grid.
        row, column: (n_points,) first row and column of each footprint; the column may be outside [0, fine_shape[0] - w].
        weights_x, weights_y: (n_points, w) float64.
        conjugate: (n_angles,) whether the computed value must be conjugated.
        deconvolution_x, deconvolution_y: (n_pixels,) float64 factors for rows and columns of an image before the FFT; x also contains
            the alternating sign that shifts kx = 0 to the middle.
    """

    n_pixels: tuple[int, int]
    fine_shape: tuple[int, int]
    width: int
    margin: int
    n_spectrum_rows: int
    n_shells: int
    n_angles: int
    row: npt.NDArray[np.int64]
    column: npt.NDArray[np.int64]
    weights_x: npt.NDArray[np.float64]
    weights_y: npt.NDArray[np.float64]
    conjugate: npt.NDArray[np.bool_]
    deconvolution_x: npt.NDArray[np.float64]
    deconvolution_y: npt.NDArray[np.float64]

    @property
    def n_points(self) -> int:
        return self.n_shells * self.n_angles


def make_interpolation(descriptor: ImageDescriptor) -> PolarInterpolation:
    """The interpolation table for this descriptor's images and polar grid."""
    width = WIDTH[descriptor.precision]
    n_x, n_y = descriptor.n_pixels
    fine_x, fine_y = (fine_size(n, width) for n in descriptor.n_pixels)
    grid = descriptor.polar_grid
    n_angles = grid.n_inplanes // 2 if grid.n_inplanes % 2 == 0 else grid.n_inplanes
    angles = grid.angles[:n_angles]
    # k1 = 4 pi r cos(theta) / n_x radians per pixel is k1 fine_x / (2 pi) steps of the oversampled grid; likewise for y.
    steps_x = (2.0 * fine_x / n_x) * np.outer(grid.radii, np.cos(angles))
    steps_y = (2.0 * fine_y / n_y) * np.outer(grid.radii, np.sin(angles))
    conjugate = angles > np.pi
    sign = np.where(conjugate, -1.0, 1.0)
    steps_x, steps_y = (steps_x * sign).ravel(), (steps_y * sign).ravel()
    first_x, weights_x = _footprints(steps_x, width, fine_x / n_x)
    first_y, weights_y = _footprints(steps_y, width, fine_y / n_y)
    margin = width // 2
    highest_row = int(first_y.max()) + width - 1
    x = np.arange(n_x) - n_x // 2
    return PolarInterpolation(
        n_pixels=(n_x, n_y),
        fine_shape=(fine_x, fine_y),
        width=width,
        margin=margin,
        n_spectrum_rows=margin + highest_row + 1,
        n_shells=grid.n_shells,
        n_angles=n_angles,
        row=first_y + margin,
        column=first_x + fine_x // 2,
        weights_x=weights_x,
        weights_y=weights_y,
        conjugate=conjugate,
        deconvolution_x=np.where(x % 2 == 0, 1.0, -1.0) / _window_transform(x, width, fine_x, fine_x / n_x),
        deconvolution_y=1.0 / _window_transform(np.arange(n_y) - n_y // 2, width, fine_y, fine_y / n_y),
    )


def fine_size(n: int, width: int) -> int:
    """The smallest even 5-smooth size of at least 1.6 n, and large enough for a footprint and its mirror rows."""
    size = max(math.ceil(OVERSAMPLING * n), 2 * width)
    while size % 2 or not _is_5_smooth(size):
        size += 1
    return size


def _is_5_smooth(n: int) -> bool:
    for factor in (2, 3, 5):
        while n % factor == 0:
            n //= factor
    return n == 1


def _beta(width: int, oversampling: float) -> float:
    # Slightly less than the theoretical pi w (1 - 1/(2 sigma)); a scan over beta found the least mean-square error here.
    return 0.985 * np.pi * width * (1.0 - 1.0 / (2.0 * oversampling))


def _footprints(steps: npt.NDArray[np.float64], width: int, oversampling: float) -> tuple[npt.NDArray[np.int64], Any]:
    from scipy.special import i0e

    first = np.ceil(steps - width / 2).astype(np.int64)
    z = (steps[:, None] - (first[:, None] + np.arange(width))) * (2.0 / width)
    beta = _beta(width, oversampling)
    root = np.sqrt(np.maximum(0.0, 1.0 - z * z))
    # i0e(x) = exp(-x) I0(x), so this is I0(beta root) / exp(beta), free of overflow.
    return first, i0e(beta * root) * np.exp(beta * (root - 1.0))


def _window_transform(mode: npt.NDArray[np.int64], width: int, fine: int, oversampling: float) -> npt.NDArray[np.float64]:
    """Fourier integral of the window at mode / fine: w sinh(sqrt(b^2 - (pi w xi)^2)) / sqrt(b^2 - (pi w xi)^2), over exp(beta)."""
    beta = _beta(width, oversampling)
    root = np.sqrt(beta**2 - (np.pi * width * mode / fine) ** 2)
    return np.asarray(width * (np.exp(root - beta) - np.exp(-root - beta)) / (2.0 * root))
