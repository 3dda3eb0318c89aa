"""The conversion of an image by its formula, in float64, without the package under test.

Quadrature nodes are computed from the eigenvalues of the Jacobi matrix (Golub and Welsch), the transform as the sum over all pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Complexes = npt.NDArray[np.complex128]


@dataclass(frozen=True)
class Grid:
    """Shells and in-plane angles of a polar grid.

    Args:
        radii: (n_shells,) ascending.
        angles: (n_inplanes,) radians.
        weights: (n_shells,) integration weight of one point of each shell.
    """

    radii: Floats
    angles: Floats
    weights: Floats


def polar_grid(radius_max: float, dist_radii: float, n_inplanes: int) -> Grid:
    """Gauss-Jacobi shells (alpha 0, beta 1) and equally spaced angles over the disc of this radius."""
    n = 1 + math.ceil(radius_max / dist_radii)
    nodes, weights = _gauss_jacobi(n)
    radii = (nodes + 1) * radius_max / 2
    return Grid(radii, 2 * np.pi * np.arange(n_inplanes) / n_inplanes, weights * 2 * np.pi * (radius_max / 2) ** 2 / n_inplanes)


def _gauss_jacobi(n: int) -> tuple[Floats, Floats]:
    """Nodes and weights on [-1, 1] for the weight function 1 + x, from the recurrence of its orthogonal polynomials."""
    k = np.arange(n, dtype=np.float64)
    diagonal = 1 / ((2 * k + 1) * (2 * k + 3))
    k = k[1:]
    off_diagonal = np.sqrt(k * (k + 1)) / (2 * k + 1)
    values, vectors = np.linalg.eigh(np.diag(diagonal) + np.diag(off_diagonal, 1) + np.diag(off_diagonal, -1))
    return values, 2 * vectors[0] ** 2


def downsampled(image: Floats, factor: int, kind: str = "mean") -> Floats:
    """Means or maxima of blocks, by a plain loop over blocks; a trailing remainder is dropped."""
    reduce = np.mean if kind == "mean" else np.max
    n, m = image.shape[0] // factor, image.shape[1] // factor
    blocks = [[reduce(image[i * factor : (i + 1) * factor, j * factor : (j + 1) * factor]) for j in range(m)] for i in range(n)]
    return np.array(blocks, dtype=np.float64)


def centred(image: npt.NDArray[np.floating]) -> Floats:
    """The image minus its mean, divided by its largest absolute value."""
    difference = image.astype(np.float64) - math.fsum(image.astype(np.float64).ravel().tolist()) / image.size
    return np.asarray(difference / np.abs(difference).max())


def direct_transform(image: Floats, grid: Grid) -> Complexes:
    """(n_shells, n_inplanes) sum over all pixels, with unit norm over the disc. Axis 0 of the image is x."""
    n_x, n_y = image.shape
    radius, angle = np.meshgrid(grid.radii, grid.angles, indexing="ij")
    k1 = (4 * np.pi * radius * np.cos(angle) / n_x).ravel()
    k2 = (4 * np.pi * radius * np.sin(angle) / n_y).ravel()
    j1 = np.arange(-(n_x // 2), n_x - n_x // 2)
    j2 = np.arange(-(n_y // 2), n_y - n_y // 2)
    # sum over j1, j2 of a[j1, j2] exp(-i (k1 j1 + k2 j2)), one factor after the other.
    along_x = np.exp(-1j * np.outer(k1, j1)) @ image  # (points, n_y)
    values = (along_x * np.exp(-1j * np.outer(k2, j2))).sum(axis=1).reshape(radius.shape)
    return values / math.sqrt((grid.weights[:, None] * np.abs(values) ** 2).sum())


def converted(image: npt.NDArray[np.floating], grid: Grid, factor: int = 1, kind: str = "mean") -> Complexes:
    """A whole conversion of one image."""
    small = image.astype(np.float64)
    return direct_transform(centred(downsampled(small, factor, kind) if factor > 1 else small), grid)


def relative_error(found: npt.NDArray[np.generic], true: npt.NDArray[np.generic]) -> float:
    """The largest relative L2 error of the images, (n, ...) both."""
    difference = np.linalg.norm((found - true).reshape(len(true), -1), axis=1)
    return float((difference / np.linalg.norm(true.reshape(len(true), -1), axis=1)).max())
