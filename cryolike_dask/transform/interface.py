"""The interface of all transforms, on any device. Importing it loads neither the compiler nor FFTs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from cryolike_dask.metadata.image_descriptor import ImageDescriptor

OK, CONSTANT, NOT_FINITE = 0, 1, 2
"""Status that a transform gives to an image."""


@dataclass(frozen=True)
class TransformedImages:
    """Where a transform puts its results; the caller owns the arrays.

    Args:
        fourier: (k, n_shells, n_inplanes) complex, unit norm each.
        physical: (k, n_x, n_y) float32, centred images.
        power: (k, n_shells) float64, the mean of |F|^2 over the in-plane angles.
        status: (k,) uint8: OK, CONSTANT or NOT_FINITE; unless it is OK, all other values of the image are zero.
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
        """Views of the first `n_images` images."""
        return TransformedImages(*(array[:n_images] for array in self.arrays))


class Transform(Protocol):
    """Transforms images as they are on disk, (k, rows, columns) float32, and writes the result to `results`.

    `shifts`, (k, 2) float64, moves the transformed images, in their pixels along x and y; None does not move them.
    """

    @property
    def images_per_batch(self) -> int:
        """Number of images that are computed together; a call with fewer does not use the device fully."""

    def __call__(
        self, images: npt.NDArray[Any], results: TransformedImages, shifts: npt.NDArray[np.float64] | None = None
    ) -> None: ...
