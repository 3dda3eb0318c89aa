"""The polar quadrature on which Fourier images are sampled."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class PolarGrid:
    """Shells times in-plane angles, with the weights that integrate over the disc of radius `radius_max`.

    Radii are in CryoLike's unit: the wave number times the box length over 4 pi, so the Nyquist limit of an N-pixel box is N/4
    and a shell r corresponds to the resolution box_length / (2 r).

    Args:
        radius_max: R, the radius of the disc.
        dist_radii: the wanted distance between shells.
        n_inplanes: the number of in-plane angles, equally spaced on [0, 2 pi).
    """

    radius_max: float
    dist_radii: float
    n_inplanes: int

    @property
    def n_shells(self) -> int:
        """1 + ceil(R / d)."""
        return 1 + math.ceil(self.radius_max / self.dist_radii)

    @property
    def n_points(self) -> int:
        return self.n_shells * self.n_inplanes

    @cached_property
    def _nodes(self) -> tuple[FloatArray, FloatArray]:
        # Gauss-Jacobi with alpha 0, beta 1: the weight (1 + x) is the Jacobian r dr of the disc.
        from scipy.special import roots_jacobi

        nodes, weights = roots_jacobi(self.n_shells, 0.0, 1.0)
        return np.asarray(nodes, dtype=np.float64), np.asarray(weights, dtype=np.float64)

    @cached_property
    def radii(self) -> FloatArray:
        """(n_shells,) shell radii, ascending, none at 0 or R."""
        return (self._nodes[0] + 1.0) * (self.radius_max / 2.0)

    @cached_property
    def angles(self) -> FloatArray:
        """(n_inplanes,) in-plane angles in radians."""
        return 2.0 * np.pi * np.arange(self.n_inplanes) / self.n_inplanes

    @cached_property
    def shell_weights(self) -> FloatArray:
        """(n_shells,) integration weight of one point on each shell; over all points they sum to pi R^2."""
        return self._nodes[1] * (2.0 * np.pi * (self.radius_max / 2.0) ** 2 / self.n_inplanes)
