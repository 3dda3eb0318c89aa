"""Checks whether values of a microscope's optics are possible, for every kind of table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cryolike_dask.errors import InputError


@dataclass(frozen=True)
class _Range:
    """The range of a value.

    Args:
        low, high: the limits, which are themselves allowed.
        unit: unit of the value.
        should: what the value must be, for messages.
        other_units: units in which a value out of range may have been given, and how many of them make one `unit`.
    """

    low: float
    high: float
    unit: str
    should: str
    other_units: tuple[tuple[str, float], ...] = ()


_DEFOCUS = _Range(-1e6, 1e6, "Å", "between -1,000,000 and 1,000,000 Å (100 µm)")
_RANGES = {
    "voltage": _Range(10, 1500, "kV", "between 10 and 1,500 kV", (("volts", 1e3), ("megavolts", 1e-3))),
    "spherical_aberration": _Range(-0.1, 20, "mm", "between -0.1 and 20 mm", (("Å", 1e7), ("µm", 1e3))),
    "amplitude_contrast": _Range(0, 1, "", "a fraction between 0 and 1", (("percent", 1e2),)),
    "defocus_u": _DEFOCUS,
    "defocus_v": _DEFOCUS,
}
_LIKELY = {"voltage": (60, 400), "spherical_aberration": (0.001, 10), "amplitude_contrast": (0.005, 0.5)}
"""Range in which a value must be, after conversion from another unit, for a message to suggest that unit."""


def check_optics(values: Mapping[str, Any], names: Mapping[str, str], where: Callable[[str, npt.NDArray[np.intp]], str]) -> None:
    """Refuse a voltage, aberration, contrast or defocus that no microscope has. Values that are not finite pass.

    Args:
        values: (n,) numbers under 'voltage' (kV), 'spherical_aberration' (mm), 'amplitude_contrast', 'defocus_u' and 'defocus_v' (Å).
        names: what the table calls each of them; those without a name are not checked.
        where: makes the beginning of the message, '{file}: {name} in {rows}', from a name and the rows with a wrong value.

    Raises:
        InputError: a value is out of range; the message names the first such rows.
    """
    for key, name in names.items():
        limits, column = _RANGES[key], np.atleast_1d(np.asarray(values[key], dtype=np.float64))
        wrong = np.flatnonzero((column < limits.low) | (column > limits.high))
        if len(wrong):
            value = float(column[wrong[0]])
            raise InputError(
                f"{where(name, wrong)} is {value:.10g}{f' {limits.unit}' if limits.unit else ''}, but must be {limits.should}"
                f"{_suspicion(key, value)}. Correct the value."
            )


def _suspicion(key: str, value: float) -> str:
    """The unit that a wrong value seems to be in, for the message: ': it looks like volts (300 kV)'; '' if none is likely."""
    low, high = _LIKELY.get(key, (1.0, 0.0))
    for other, per_unit in _RANGES[key].other_units:
        if low <= value / per_unit <= high:
            unit = _RANGES[key].unit
            return f": it looks like {other} ({value / per_unit:g}{f' {unit}' if unit else ''})"
    return ""
