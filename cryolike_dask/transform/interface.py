"""What a transform takes and gives, whatever device it runs on. Importing it loads neither compiler nor FFTs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from cryolike_dask.metadata.image_descriptor import ImageDescriptor

OK, CONSTANT, NOT_FINITE = 0, 1, 2
"""What a transform says of an image."""


@dataclass(frozen=True)
class TransformedImages:
    """Where a transform puts its results; the caller owns the arrays.

    Args:
        fourier: (k, n_shells, n_inplanes) complex, unit norm each.
        physical: (k, n_x, n_y) float32, centred images.
        power: (k, n_shells) float64, the mean of |F|^2 over the in-plane angles.
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
    """Turns images as they lie on disk, (k, rows, columns) float32, into `results`.

    `shifts`, (k, 2) float64, are pixels along x and y of the images as written, by which they are moved in the end; None for none at all.
    """

    @property
    def images_per_batch(self) -> int:
        """Images that are worked on together; calls with fewer waste some of the device."""

    def __call__(
        self, images: npt.NDArray[Any], results: TransformedImages, shifts: npt.NDArray[np.float64] | None = None
    ) -> None: ...
