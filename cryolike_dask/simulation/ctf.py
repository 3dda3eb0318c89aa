"""The contrast transfer function, for demonstration images and for marking its zeros in plots.

The sign and angle conventions are RELION's: underfocus is positive, protein is white, and the azimuth is measured from the image's
fast axis towards its slow axis.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

MILLIMETRE_IN_ANGSTROM = 1e7

_MAX_ZEROS = 1000
"""More than a picture can show; bounds the work for any values."""


def electron_wavelength(voltage: float) -> float:
    """Wavelength in Å of an electron accelerated by `voltage` kV, with the relativistic correction."""
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
        pixel_size: Å.
        defocus_u, defocus_v: (n,) Å.
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


def filtered_power(spectra: npt.NDArray[np.complexfloating[Any, Any]], transfer: FloatArray) -> FloatArray:
    """The sums of the squares of images, after multiplication of their spectra with a CTF (Parseval's theorem).

    Args:
        spectra: (n, rows, columns // 2 + 1) half spectra of images with an even number of columns, as `numpy.fft.rfft2` returns them.
        transfer: (n, rows, columns // 2 + 1) CTF; n may be 1.

    Returns:
        (n,)
    """
    columns = np.square(np.abs(spectra) * transfer).sum(axis=1)
    # All but the first and the last column stand for two of the whole spectrum.
    whole = 2 * columns.sum(axis=1) - columns[:, 0] - columns[:, -1]
    return np.asarray(whole / (spectra.shape[1] * 2 * (spectra.shape[2] - 1)), dtype=np.float64)


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
        defocus: Å, underfocus positive.
        voltage: kV.
        spherical_aberration: mm.
        amplitude_contrast: fraction between 0 and 1.
        phase_shift: radians.
        finest: leave out zeros beyond this resolution, Å.

    Returns:
        (n,) Å, coarsest first, the first 1,000 at most; empty if a value is not finite or there is no zero.
    """
    # With u = s^2, the phase in units of pi is  a u + b u^2 + c . The CTF is zero where this is a whole number.
    wavelength = electron_wavelength(voltage) if voltage > 0 else math.nan
    a = wavelength * defocus
    b = -0.5 * spherical_aberration * MILLIMETRE_IN_ANGSTROM * wavelength**3
    c = (phase_shift + math.asin(amplitude_contrast)) / math.pi if abs(amplitude_contrast) <= 1 else math.nan
    u_max = 1.0 / finest**2
    # The phase is monotonic up to here, and from here on in the opposite direction.
    turning = min(max(-a / (2 * b), 0.0), u_max) if b else u_max
    phases = [c + a * u + b * u * u for u in (0.0, turning, u_max)]
    if not np.all(np.isfinite([a, b, *phases])):
        return np.empty(0)
    integers = np.union1d(_first_integers(phases[0], phases[1]), _first_integers(phases[1], phases[2]))
    u = _roots(b, a, c - integers)
    u = np.unique(u[(u > 0) & (u <= u_max)])  # drops NaN, which stands for a whole number that the phase does not reach
    return np.asarray(1.0 / np.sqrt(u[:_MAX_ZEROS]))


def _first_integers(start: float, stop: float) -> FloatArray:
    """The whole numbers from start to stop, in the order from start, at most _MAX_ZEROS of them."""
    if start <= stop:
        first = math.ceil(start)
        return np.arange(first, min(math.floor(stop), first + _MAX_ZEROS - 1) + 1, dtype=np.float64)
    return -_first_integers(-start, -stop)


def _roots(b: float, a: float, c: FloatArray) -> FloatArray:
    """Both u with b u^2 + a u + c = 0 for each c, one after the other; NaN where there is none."""
    with np.errstate(invalid="ignore", divide="ignore"):
        # Neither of these two quotients subtracts nearly equal numbers.
        q = -0.5 * (a + math.copysign(1.0, a) * np.sqrt(a * a - 4 * b * c))
        return np.concatenate([np.asarray(c / q), np.asarray(q / b) if b else np.empty(0)])
