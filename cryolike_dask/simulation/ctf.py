"""The contrast transfer function, for demonstration images and for marking its zeros in plots.

The sign and angle conventions are RELION's: underfocus is positive, protein is white, and the azimuth is counted from the image's
fast axis towards its slow axis.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

MILLIMETRE_IN_ANGSTROM = 1e7


def electron_wavelength(voltage: float) -> float:
    """Wavelength in Angstrom of an electron accelerated by `voltage` kV, with the relativistic correction."""
    volts = voltage * 1e3
    return 12.2642598 / math.sqrt(volts * (1.0 + 0.978475598e-6 * volts))


def contrast_transfer(
    box: int,
    pixel_size: float,
    defocus_u: FloatArray,
    defocus_v: FloatArray,
    defocus_angle: FloatArray,
    *,
    voltage: float,
    spherical_aberration: float,
    amplitude_contrast: float,
    phase_shift: FloatArray | float = 0.0,
) -> FloatArray:
    """The CTF on the half spectrum that `numpy.fft.rfft2` uses.

    Args:
        box: edge of the images in pixels.
        pixel_size: Angstrom.
        defocus_u, defocus_v: (n,) Angstrom.
        defocus_angle: (n,) radians.
        voltage: kV.
        spherical_aberration: mm.
        amplitude_contrast: fraction between 0 and 1.
        phase_shift: (n,) or scalar, radians.

    Returns:
        (n, box, box // 2 + 1), between -1 and 1.
    """
    s_y = np.fft.fftfreq(box, pixel_size)[:, None]
    s_x = np.fft.rfftfreq(box, pixel_size)[None, :]
    s2 = s_x**2 + s_y**2
    azimuth = np.arctan2(s_y, s_x)

    def per_image(values: FloatArray | float) -> FloatArray:
        return np.asarray(values, dtype=np.float64).reshape(-1, 1, 1)

    mean, half_difference = per_image(defocus_u + defocus_v) / 2, per_image(defocus_u - defocus_v) / 2
    defocus = mean + half_difference * np.cos(2 * (azimuth - per_image(defocus_angle)))
    wavelength = electron_wavelength(voltage)
    third_order = spherical_aberration * MILLIMETRE_IN_ANGSTROM * wavelength**3
    phase = np.pi * wavelength * defocus * s2 - np.pi / 2 * third_order * s2**2
    return np.asarray(np.sin(phase + per_image(phase_shift) + math.asin(amplitude_contrast)))


def ctf_zero_resolutions(
    defocus: float,
    voltage: float,
    spherical_aberration: float,
    amplitude_contrast: float,
    phase_shift: float = 0.0,
    *,
    finest: float = 1.0,
) -> FloatArray:
    """Resolutions at which the CTF of a mean defocus is zero.

    Args:
        defocus: Angstrom, underfocus positive.
        voltage: kV.
        spherical_aberration: mm.
        amplitude_contrast: fraction between 0 and 1.
        phase_shift: radians.
        finest: leave out zeros beyond this resolution, Angstrom.

    Returns:
        (n,) Angstrom, coarsest first; empty where a value is not finite or there is no zero.
    """
    if not np.all(np.isfinite([defocus, voltage, spherical_aberration, amplitude_contrast, phase_shift])):
        return np.empty(0)
    # With u = s^2 the phase in units of pi is  a u + b u^2 + c : the CTF is zero where that is a whole number.
    wavelength = electron_wavelength(voltage)
    a = wavelength * defocus
    b = -0.5 * spherical_aberration * MILLIMETRE_IN_ANGSTROM * wavelength**3
    c = (phase_shift + math.asin(amplitude_contrast)) / math.pi
    u_max = 1.0 / finest**2
    turning = -a / (2 * b) if b else u_max
    reached = [c + a * u + b * u * u for u in (0.0, u_max, min(max(turning, 0.0), u_max))]
    zeros: set[float] = set()
    for whole in range(math.ceil(min(reached)), math.floor(max(reached)) + 1):
        roots = np.roots([b, a, c - whole]) if b else np.array([(whole - c) / a] if a else [])
        zeros.update(float(root.real) for root in roots if abs(root.imag) < 1e-12 and 0 < root.real <= u_max)
    return np.asarray(1.0 / np.sqrt(np.array(sorted(zeros))))
