"""What a CTF predicts for the mean of |F|² over a shell, and for the variation along the shell that astigmatism causes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from cryolike_dask.simulation.ctf import MILLIMETRE_IN_ANGSTROM, electron_wavelength

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Optics:
    """The CTFs of n particles, as a table states them.

    Args:
        defocus_u, defocus_v: (n,) Å.
        defocus_angle: (n,) radians.
        phase_shift: (n,) radians.
        spherical_aberration: (n,) mm.
        voltage: (n,) kV.
        amplitude_contrast: (n,)
    """

    defocus_u: FloatArray
    defocus_v: FloatArray
    defocus_angle: FloatArray
    phase_shift: FloatArray
    spherical_aberration: FloatArray
    voltage: FloatArray
    amplitude_contrast: FloatArray

    @classmethod
    def from_rows(cls, rows: Mapping[str, Any] | npt.NDArray[np.void]) -> Optics:
        """Make it from the (n,) columns with the names of the arguments; other columns are ignored."""
        return cls(*(np.asarray(rows[field.name], dtype=np.float64) for field in fields(cls)))

    @classmethod
    def concatenate(cls, parts: Sequence[Optics]) -> Optics:
        """The optics of all parts, joined in this order."""
        return cls(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(cls)))

    def __len__(self) -> int:
        return len(self.defocus_u)

    def take(self, selection: Any) -> Optics:
        """The optics of the particles at these positions (an index array, mask or slice)."""
        return Optics(*(getattr(self, field.name)[selection] for field in fields(self)))

    @cached_property
    def wavelength(self) -> FloatArray:
        """(n,) Å."""
        voltages, position = np.unique(self.voltage, return_inverse=True)
        return np.array([electron_wavelength(voltage) for voltage in voltages.tolist()])[position]

    @property
    def orders(self) -> tuple[FloatArray, FloatArray]:
        """(n,) λ · mean defocus, in Å², and λ³ · spherical aberration, in Å⁴."""
        third = self.spherical_aberration * MILLIMETRE_IN_ANGSTROM * self.wavelength**3
        return self.wavelength * (self.defocus_u + self.defocus_v) / 2, third

    @cached_property
    def micrograph(self) -> npt.NDArray[np.int64]:
        """(n,) number of each particle's micrograph, as far as the CTFs distinguish micrographs.

        Particles of a micrograph have the same astigmatism, even if each has its own defocus. If a table states no astigmatism,
        particles of equal defocus count as one micrograph.
        """
        astigmatism: FloatArray = np.stack([self.defocus_u - self.defocus_v, 1e3 * self.defocus_angle], axis=1).round()
        if (self.defocus_u == self.defocus_v).all():
            astigmatism = self.defocus_u.round()[:, None]
        return np.asarray(np.unique(astigmatism, axis=0, return_inverse=True)[1].reshape(-1), dtype=np.int64)


def phases(optics: Optics, frequencies: FloatArray) -> FloatArray:
    """The phase χ of the CTF sin χ, for the mean of defocus U and V.

    Args:
        optics: optics of n particles.
        frequencies: (k,) 1/Å.

    Returns:
        (k, n) radians, including the phase shift and the amplitude contrast.
    """
    first_order, third_order = optics.orders
    constant = optics.phase_shift + np.arcsin(optics.amplitude_contrast)
    powers = np.stack([frequencies**2, frequencies**4, np.ones_like(frequencies)], axis=1)
    return np.asarray(powers @ np.stack([np.pi * first_order, -np.pi / 2 * third_order, constant]))


def shell_means(optics: Optics, frequencies: FloatArray, box_length: float) -> FloatArray:
    """The mean of CTF² over a shell, without its constant 1/2.

    Along a shell the phase is χ + d cos 2(θ − θ₀) with d = π λ (U − V) s² / 2. By the Jacobi–Anger expansion, the mean of
    CTF² = (1 − cos 2(χ + d cos …)) / 2 is therefore (1 − J₀(2d) cos 2χ) / 2.

    Two points of a power spectrum can be distinguished if they are more than 1 / box_length apart. An image does not show cos 2χ where
    its period is shorter than that. As in a box of noise, the amplitude is proportional to the part of the box that overlaps with itself
    when it is moved by 2λ|defocus|s, the inverse of the period.

    Args:
        optics: optics of n particles.
        frequencies: (k,) 1/Å.
        box_length: edge of the images, Å.

    Returns:
        (k, n)
    """
    visible = _visible(optics, frequencies, box_length)
    if not visible.any():  # saves the rest of the computation for about half of the values of a scan
        return visible
    return np.asarray(visible * _bessel(0, optics, frequencies) / -2 * np.cos(_doubled(optics, frequencies)))


def shell_mean_parts(optics: Optics, frequencies: FloatArray, box_length: float) -> tuple[FloatArray, FloatArray]:
    """(cosine, sine), (k, n) each: `shell_means` with an additional phase shift φ are cosine · cos 2φ + sine · sin 2φ."""
    amplitude = _visible(optics, frequencies, box_length) * _bessel(0, optics, frequencies) / 2
    doubled = _doubled(optics, frequencies)
    return -amplitude * np.cos(doubled), amplitude * np.sin(doubled)


def shell_quadrupoles(optics: Optics, frequencies: FloatArray) -> npt.NDArray[np.complex128]:
    """The mean of CTF² exp(2iθ) over a shell: (k, n), J₁(2d) sin 2χ exp(2iθ₀) / 2 with the symbols of `shell_means`.

    Args:
        optics: optics of n particles.
        frequencies: (k,) 1/Å.
    """
    real = _bessel(1, optics, frequencies) / 2 * np.sin(_doubled(optics, frequencies))
    return np.asarray(real * np.exp(2j * optics.defocus_angle))


def _visible(optics: Optics, frequencies: FloatArray, box_length: float) -> FloatArray:
    """(k, n) amplitude of rings: 1 if they are wide, 0 if they are finer than the box can show."""
    first_order, third_order = optics.orders
    powers = np.stack([frequencies, frequencies**3], axis=1) / box_length
    delocalised = np.abs(powers @ np.stack([2 * first_order, -2 * third_order]))
    return np.asarray(np.maximum(1 - delocalised, 0))


def _doubled(optics: Optics, frequencies: FloatArray) -> npt.NDArray[np.float32]:
    """2χ without whole turns, in single precision: cosine and sine take a tenth of the time, and are correct to 3e-7."""
    turns = phases(optics, frequencies) / np.pi
    return np.asarray((turns - np.rint(turns)) * (2 * np.pi), dtype=np.float32)


def _bessel(order: int, optics: Optics, frequencies: FloatArray) -> FloatArray:
    """(k, n) Bessel function of this order at 2d."""
    from scipy.special import j0, j1  # here, because loading it takes longer than planning, which imports this module

    astigmatism = np.pi * optics.wavelength * (optics.defocus_u - optics.defocus_v)
    return np.asarray((j0 if order == 0 else j1)(np.square(frequencies)[:, None] * astigmatism))
