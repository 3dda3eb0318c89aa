"""The polar quadrature on which Fourier images are sampled."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from cryolike_dask.errors import InputError

FloatArray = npt.NDArray[np.float64]
QUADRATURE = "gauss-jacobi"


@dataclass(frozen=True, init=False)
class PolarGrid:
    """Shells times in-plane angles, with the weights that integrate over the disc of radius `radius_max`.

    Radii are in CryoLike's unit: the wave number times the box length over 4 pi, so the Nyquist limit of an N-pixel box is N/4
    and a shell r corresponds to the resolution box_length / (2 r). Conversions use `radii`, `angles` and `shell_weights`. The
    same values have CryoLike's names, too; its lists of points go shell by shell: `grid.x_points.reshape(n_shells, n_inplanes)`.

    The arguments are CryoLike's, in its order. Values that conversions never use are refused.

    Args:
        radius_max: R, the radius of the disc.
        dist_radii: the desired distance between shells.
        uniform: True; only CryoLike has grids whose shells have different angles.
        quadrature: 'gauss-jacobi', or CryoLike's `QuadratureType.GAUSS_JACOBI_BETA_1`.
        n_inplanes: the number of in-plane angles, equally spaced on [0, 2 pi).
        dist_inplane: the distance between points on the outermost circle, which sets `n_inplanes` if that is not given.
        half_space: False; angles cover the full circle.

    Raises:
        InputError: a value is out of range, or belongs to a grid that only CryoLike has.

    Example:
        >>> from cryolike_dask import ImageDescriptor
        >>> grid = ImageDescriptor.load("params.npz").polar_grid
        >>> grid.n_shells, grid.n_inplanes
        (17, 32)
    """

    radius_max: float
    dist_radii: float
    n_inplanes: int

    uniform: ClassVar[bool] = True  # every shell has the same angles
    half_space: ClassVar[bool] = False  # angles cover the full circle

    def __init__(
        self,
        radius_max: float,
        dist_radii: float,
        uniform: bool = True,
        quadrature: Any = QUADRATURE,
        n_inplanes: int | None = None,
        dist_inplane: float = 1.0 / (2.0 * math.pi),
        half_space: bool = False,
    ) -> None:
        for name, value in (("radius_max", radius_max), ("dist_radii", dist_radii), ("dist_inplane", dist_inplane)):
            if not (math.isfinite(value) and value > 0):
                raise InputError(f"{name} is {value}: it must be a positive number.")
        if uniform is not True or half_space is not False:
            raise InputError(
                f"uniform is {uniform} and half_space {half_space}: only a uniform polar grid over the full circle is supported. "
                "Use CryoLike's PolarGrid for others."
            )
        if getattr(quadrature, "value", quadrature) != QUADRATURE:
            raise InputError(f"quadrature is {quadrature}: only {QUADRATURE!r} is supported. Use CryoLike's PolarGrid for others.")
        number = _default_n_inplanes(radius_max, dist_inplane) if n_inplanes is None else np.asarray(n_inplanes)
        if number.size != 1 or number.dtype.kind not in "iuf" or number.item() != int(number.item()) or number.item() < 1:
            raise InputError(f"n_inplanes is {n_inplanes}: give one whole number of in-plane angles, at least 1.")
        object.__setattr__(self, "radius_max", float(radius_max))
        object.__setattr__(self, "dist_radii", float(dist_radii))
        object.__setattr__(self, "n_inplanes", int(number.item()))

    @property
    def n_shells(self) -> int:
        """1 + ceil(R / d)."""
        return 1 + math.ceil(self.radius_max / self.dist_radii)

    @property
    def n_points(self) -> int:
        """Number of points: shells times in-plane angles."""
        return self.n_shells * self.n_inplanes

    @cached_property
    def _nodes(self) -> tuple[FloatArray, FloatArray]:
        # Gauss-Jacobi with alpha 0, beta 1: the weight (1 + x) is the Jacobian r dr of the disc.
        from scipy.special import roots_jacobi

        nodes, weights = roots_jacobi(self.n_shells, 0.0, 1.0)
        return np.asarray(nodes, dtype=np.float64), np.asarray(weights, dtype=np.float64)

    @cached_property
    def radii(self) -> FloatArray:
        """(n_shells,) radii of the shells, ascending; none is 0 or R."""
        return (self._nodes[0] + 1.0) * (self.radius_max / 2.0)

    @cached_property
    def angles(self) -> FloatArray:
        """(n_inplanes,) in-plane angles in radians."""
        return 2.0 * np.pi * np.arange(self.n_inplanes) / self.n_inplanes

    @cached_property
    def shell_weights(self) -> FloatArray:
        """(n_shells,) integration weight of one point on each shell; over all points they sum to pi R^2."""
        return self._nodes[1] * (2.0 * np.pi * (self.radius_max / 2.0) ** 2 / self.n_inplanes)

    @property
    def radius_shells(self) -> FloatArray:
        """(n_shells,) CryoLike's name for `radii`."""
        return self.radii

    @property
    def theta_shell(self) -> FloatArray:
        """(n_inplanes,) CryoLike's name for `angles`."""
        return self.angles

    @property
    def n_inplane_shells(self) -> npt.NDArray[np.int64]:
        """(n_shells,) number of in-plane angles of each shell, the same for all."""
        return np.full(self.n_shells, self.n_inplanes, dtype=np.int64)

    @cached_property
    def weight_shells(self) -> FloatArray:
        """(n_shells,) CryoLike's weight of a whole shell: they sum to pi R^2 / (2 pi)^2."""
        return self.shell_weights * (self.n_inplanes / (2.0 * np.pi) ** 2)

    @property
    def weight_points(self) -> FloatArray:
        """(n_points,) CryoLike's weight of each point, a share of its shell's."""
        return np.repeat(self.weight_shells / self.n_inplanes, self.n_inplanes)

    @property
    def integration_weight_points(self) -> FloatArray:
        """(n_shells, n_inplanes) `weight_points` times (2 pi)^2: over all points they sum to pi R^2."""
        return np.repeat(self.shell_weights[:, None], self.n_inplanes, axis=1)

    @property
    def radius_points(self) -> FloatArray:
        """(n_points,) radius of each point."""
        return np.repeat(self.radii, self.n_inplanes)

    @property
    def theta_points(self) -> FloatArray:
        """(n_points,) in-plane angle of each point in radians."""
        return np.tile(self.angles, self.n_shells)

    @cached_property
    def x_points(self) -> FloatArray:
        """(n_points,) x of each point, in the unit of the radii."""
        return np.outer(self.radii, np.cos(self.angles)).ravel()

    @cached_property
    def y_points(self) -> FloatArray:
        """(n_points,) y of each point, in the unit of the radii."""
        return np.outer(self.radii, np.sin(self.angles)).ravel()

    def resolution(self, box_size: Any) -> Any:
        """(n_shells,) the resolution in Å of each shell, in a box of `box_size` Å."""
        return box_size / (self.radii * 2.0)

    def integrate(self, f: Any) -> Any:
        """The integrals over the disc of functions on the grid, such as the squared images of a stack.

        Args:
            f: (..., n_shells, n_inplanes) or (..., n_points), a NumPy array or a torch tensor.

        Returns:
            One number per function, as the same kind of array as `f`; in a single axis if `f` ends in (n_shells, n_inplanes). A NumPy
            result has an axis even for a single function.

        Raises:
            InputError: `f` is not sampled on this grid.
        """
        shape = tuple(getattr(f, "shape", ()))
        if len(shape) > 1 and shape[-2:] == (self.n_shells, self.n_inplanes):
            f = f.reshape(-1, self.n_points)
        elif not shape or shape[-1] != self.n_points:
            raise InputError(
                f"An array of shape {shape} cannot be integrated: this grid has {self.n_shells} × {self.n_inplanes} points."
            )
        weights = self.integration_weight_points.ravel()
        if isinstance(f, np.ndarray):
            return np.atleast_1d((f * weights).sum(axis=-1))
        # This keeps the dtype and device of a tensor without importing torch.
        return (f * f.new_tensor(weights)).sum(-1)


def _default_n_inplanes(radius_max: float, dist_inplane: float) -> npt.NDArray[np.int64]:
    """CryoLike's default, an even number a little above the points that fit on the outermost circle."""
    circle = 3 + np.round(2.0 * np.pi * radius_max / dist_inplane)
    return np.asarray(2 * (3 + np.round(circle / 2)), dtype=np.int64)
