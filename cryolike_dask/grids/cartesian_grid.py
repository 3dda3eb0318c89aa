"""The Cartesian grid of the physical images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from cryolike_dask.errors import InputError

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, init=False, eq=False)
class CartesianGrid2D:
    """Pixels in rows (CryoLike's x) and columns (its y), with the origin in the middle of the box.

    Give `n_pixels` and `pixel_size` as one number for a square, or as two for (rows, columns) in a list, a tuple or an array. The
    attributes are arrays of two.

    Args:
        n_pixels: pixels per axis.
        pixel_size: Å.
        endpoint: whether the last pixel lies on the edge of the box rather than one pixel before it.

    Raises:
        InputError: a value is not a number, or not positive.

    Example:
        >>> CartesianGrid2D(n_pixels=16, pixel_size=3.0).n_pixels
        array([16, 16])
    """

    n_pixels: IntArray
    pixel_size: FloatArray
    endpoint: bool

    def __init__(self, n_pixels: Any, pixel_size: Any, endpoint: bool = False) -> None:
        pixels, size = pair_of(n_pixels, int, "n_pixels"), pair_of(pixel_size, float, "pixel_size")
        if min(pixels) < 1 or min(size) <= 0:
            raise InputError(f"n_pixels is {n_pixels} and pixel_size {pixel_size}: both must be positive.")
        object.__setattr__(self, "n_pixels", np.array(pixels, dtype=np.int64))
        object.__setattr__(self, "pixel_size", np.array(size, dtype=np.float64))
        object.__setattr__(self, "endpoint", bool(endpoint))

    @classmethod
    def from_descriptor(cls, grid_desc: CartesianGrid2D | Sequence[Any]) -> CartesianGrid2D:
        """The grid itself, or the grid that a pair (n_pixels, pixel_size) describes."""
        return grid_desc if isinstance(grid_desc, CartesianGrid2D) else cls(*grid_desc)

    @property
    def box_size(self) -> FloatArray:
        """(2,) edges of the box in Å."""
        return self.n_pixels * self.pixel_size

    @property
    def radius(self) -> FloatArray:
        """(2,) half the edges in Å."""
        return self.box_size * 0.5

    @property
    def n_pixels_total(self) -> int:
        """Number of pixels in the grid."""
        return int(self.n_pixels.prod())

    @cached_property
    def x_axis(self) -> FloatArray:
        """(n_pixels[0],) positions of the rows in Å."""
        return self._axis(0)

    @cached_property
    def y_axis(self) -> FloatArray:
        """(n_pixels[1],) positions of the columns in Å."""
        return self._axis(1)

    @cached_property
    def x_pixels(self) -> FloatArray:
        """(n_pixels[0], n_pixels[1]) x of each pixel in Å."""
        return np.repeat(self.x_axis[:, None], self.n_pixels[1], axis=1)

    @cached_property
    def y_pixels(self) -> FloatArray:
        """(n_pixels[0], n_pixels[1]) y of each pixel in Å."""
        return np.repeat(self.y_axis[None, :], self.n_pixels[0], axis=0)

    def _axis(self, axis: int) -> FloatArray:
        reach = self.radius[axis]
        return np.linspace(-reach, reach, int(self.n_pixels[axis]), endpoint=self.endpoint)


def pair_of(value: Any, kind: type, name: str) -> Any:
    """One number, or two, as a pair of type `kind`.

    Raises:
        InputError: the value is neither, or conversion to `kind` would change a number; the message calls the value `name`.
    """
    array = np.asarray(value)
    if array.size not in (1, 2) or array.dtype.kind not in "iuf" or not np.all(np.isfinite(array)):
        raise InputError(f"{name} is {value!r}: give one number, or two for (rows, columns).")
    numbers = [kind(x) for x in array.ravel()]
    if any(number != x for number, x in zip(numbers, array.ravel(), strict=True)):
        raise InputError(f"{name} is {value!r}: whole numbers are needed.")
    return (numbers[0], numbers[-1])
