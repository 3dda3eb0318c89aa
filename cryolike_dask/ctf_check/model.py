"""What a CTF predicts for the mean of |F|² over a shell, and for its first variation along the shell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
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
        """From columns of these names, each (n,), of which there may be others."""
        return cls(*(np.asarray(rows[field.name], dtype=np.float64) for field in fields(cls)))

    @classmethod
    def concatenate(cls, parts: Sequence[Optics]) -> Optics:
        """All of them, one after the other."""
        return cls(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(cls)))

    def __len__(self) -> int:
        return len(self.defocus_u)

    def take(self, selection: Any) -> Optics:
        """Those at these positions (an index array, mask or slice)."""
        return Optics(*(getattr(self, field.name)[selection] for field in fields(self)))

    @property
    def wavelength(self) -> FloatArray:
        """(n,) Å."""
        voltages, position = np.unique(self.voltage, return_inverse=True)
        return np.array([electron_wavelength(voltage) for voltage in voltages.tolist()])[position]

    @property
    def micrograph(self) -> npt.NDArray[np.int64]:
        """(n,) a number for each micrograph, as far as the CTFs tell them apart.

        Particles of one micrograph have the same astigmatism, also where each has a defocus of its own. Where a table states no
        astigmatism, those of equal defocus are taken for one micrograph.
        """
        astigmatism: FloatArray = np.stack([self.defocus_u - self.defocus_v, 1e3 * self.defocus_angle], axis=1).round()
        if (self.defocus_u == self.defocus_v).all():
            astigmatism = self.defocus_u.round()[:, None]
        return np.asarray(np.unique(astigmatism, axis=0, return_inverse=True)[1].reshape(-1), dtype=np.int64)


def phases(optics: Optics, frequencies: FloatArray) -> FloatArray:
    """The phase χ of a CTF sin χ for the mean of defocus U and V.

    Args:
        optics: of n particles.
        frequencies: (k,) 1/Å.

    Returns:
        (k, n) radians, the phase shift and the amplitude contrast included.
    """
    s2 = np.square(frequencies)[:, None]
    wavelength, mean = optics.wavelength, (optics.defocus_u + optics.defocus_v) / 2
    third_order = optics.spherical_aberration * MILLIMETRE_IN_ANGSTROM * wavelength**3
    constant = optics.phase_shift + np.arcsin(optics.amplitude_contrast)
    return np.asarray((np.pi * wavelength * mean) * s2 - (np.pi / 2 * third_order) * s2**2 + constant)


def shell_means(optics: Optics, frequencies: FloatArray, box_length: float) -> tuple[FloatArray, FloatArray]:
    """The mean of CTF² over a shell, but for its constant 1/2, in two parts.

    Along a shell the phase is χ + d cos 2(θ − θ₀) with d = π λ (U − V) s² / 2, so that by Jacobi and Anger's expansion the mean of
    CTF² = (1 − cos 2(χ + d cos …)) / 2 is (1 − J₀(2d) cos 2χ) / 2. With one more phase shift φ it is
    1/2 + cosine cos 2φ + sine sin 2φ.

    Two points of a power spectrum can be told apart if they are more than 1 / box_length from each other. Where cos 2χ goes through a
    period within that, an image does not show it: as in a box of noise, its amplitude falls in proportion to the part of the box that
    overlaps with itself when it is moved by 2λ|defocus|s, the period's inverse.

    Args:
        optics: of n particles.
        frequencies: (k,) 1/Å.
        box_length: edge of the images, Å.

    Returns:
        (k, n) each: cosine and sine.
    """
    s = frequencies[:, None]
    wavelength, mean = optics.wavelength, (optics.defocus_u + optics.defocus_v) / 2
    third_order = optics.spherical_aberration * MILLIMETRE_IN_ANGSTROM * wavelength**3
    delocalised = np.abs((2 * wavelength * mean) * s - (2 * third_order) * s**3)
    visible = np.clip(1 - delocalised / box_length, 0, None)
    amplitude = visible * _bessel(0, np.pi * wavelength * (optics.defocus_u - optics.defocus_v), s) / 2
    doubled = 2 * phases(optics, frequencies)
    return -amplitude * np.cos(doubled), amplitude * np.sin(doubled)


def shell_quadrupoles(optics: Optics, frequencies: FloatArray) -> npt.NDArray[np.complex128]:
    """The mean of CTF² exp(2iθ) over a shell: (k, n), J₁(2d) sin 2χ exp(2iθ₀) / 2 in the terms of `shell_means`.

    Args:
        optics: of n particles.
        frequencies: (k,) 1/Å.
    """
    s = frequencies[:, None]
    amplitude = _bessel(1, np.pi * optics.wavelength * (optics.defocus_u - optics.defocus_v), s) / 2
    return np.asarray(amplitude * np.sin(2 * phases(optics, frequencies)) * np.exp(2j * optics.defocus_angle))


def _bessel(order: int, factor: FloatArray, s: FloatArray) -> FloatArray:
    from scipy.special import j0, j1  # Loading it takes longer than planning, which knows this module and does not use it.

    return np.asarray((j0 if order == 0 else j1)(factor * s**2))
