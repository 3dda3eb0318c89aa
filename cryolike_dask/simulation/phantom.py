"""A made-up molecule: Gaussian blobs along a random chain, with a closed formula for its projections."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
Images = npt.NDArray[np.float32]

_COARSEST = 54.0
"""The blobs of larger phantoms are as wide as those of one with this radius, Å: large proteins have details as fine as small ones."""


@dataclass(frozen=True)
class Phantom:
    """Gaussian blobs in space.

    Args:
        centres: (k, 3) x, y, z in Å, around 0.
        widths: (k,) standard deviations in Å.
        weights: (k,) integrated densities.
    """

    centres: FloatArray
    widths: FloatArray
    weights: FloatArray

    def project(self, rotations: FloatArray, box: int, pixel_size: float) -> Images:
        """Integrals along z of the rotated phantom at the pixel centres.

        Args:
            rotations: (n, 3, 3) matrices as `euler_matrices` makes them.
            box: edge of the images in pixels; the origin is at pixel box // 2.
            pixel_size: Å.

        Returns:
            (n, box, box), rows are y.
        """
        position = (np.arange(box) - box // 2) * pixel_size  # (box,)
        rotated = np.einsum("nij,kj->nki", rotations[:, :2], self.centres)  # (n, k, 2)
        # A Gaussian's projection is the product of a profile along x and one along y.
        distance = (position - rotated[..., None]) / self.widths[:, None, None]  # (n, k, 2, box)
        profiles = np.exp(-0.5 * (distance**2).astype(np.float32))
        heights = (self.weights / (2 * np.pi * self.widths**2)).astype(np.float32)
        along_y = (profiles[:, :, 1] * heights[:, None]).swapaxes(1, 2)  # (n, box, k)
        return np.asarray(along_y @ profiles[:, :, 0])


def random_phantom(radius: float, rng: np.random.Generator, n_blobs: int = 120) -> Phantom:
    """A compact asymmetric phantom within about `radius` Å of the origin.

    The chain of blobs is a random walk that turns back where it would leave an ellipsoid with three different axes.
    """
    axes = radius * np.array([0.95, 0.7, 0.5])
    step = radius / 6
    centres = np.zeros((n_blobs, 3))
    direction = np.array([1.0, 0.0, 0.0])
    for blob in range(1, n_blobs):
        direction = direction + rng.normal(size=3)
        direction /= np.linalg.norm(direction)
        centre = centres[blob - 1] + step * direction
        if np.sum((centre / axes) ** 2) > 1:
            direction = -centre / np.linalg.norm(centre)
            centre = centres[blob - 1] + step * direction
        centres[blob] = centre
    return Phantom(
        centres=centres - centres.mean(axis=0),
        widths=min(radius, _COARSEST) * rng.uniform(0.045, 0.08, n_blobs),
        weights=rng.uniform(0.6, 1.4, n_blobs),
    )


def random_orientations(n: int, rng: np.random.Generator) -> FloatArray:
    """(n, 3) Euler angles rot, tilt, psi in degrees, uniform over all orientations."""
    rot, psi = rng.uniform(-180, 180, (2, n))
    tilt = np.degrees(np.arccos(rng.uniform(-1, 1, n)))
    return np.stack([rot, tilt, psi], axis=1)


def euler_matrices(angles: FloatArray) -> FloatArray:
    """RELION's ZYZ matrices, from the molecule's frame to the image's.

    Args:
        angles: (n, 3) rot, tilt, psi in degrees.

    Returns:
        (n, 3, 3)
    """
    rot, tilt, psi = np.radians(angles).T
    return np.asarray(_about_z(psi) @ _about_y(tilt) @ _about_z(rot))


def _about_z(angle: FloatArray) -> FloatArray:
    matrix = np.zeros((len(angle), 3, 3))
    matrix[:, 0, 0] = matrix[:, 1, 1] = np.cos(angle)
    matrix[:, 0, 1] = np.sin(angle)
    matrix[:, 1, 0] = -np.sin(angle)
    matrix[:, 2, 2] = 1.0
    return matrix


def _about_y(angle: FloatArray) -> FloatArray:
    matrix = np.zeros((len(angle), 3, 3))
    matrix[:, 0, 0] = matrix[:, 2, 2] = np.cos(angle)
    matrix[:, 0, 2] = -np.sin(angle)
    matrix[:, 2, 0] = np.sin(angle)
    matrix[:, 1, 1] = 1.0
    return matrix
