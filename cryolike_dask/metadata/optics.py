"""Checks whether values of a microscope's optics are possible, for every kind of table."""

from __future__ import annotations

import math
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
_SMALLEST_DEFOCUS = 100.0  # Å; no set of particles is taken this close to focus, but every defocus in µm is below it
# Single precision rounds 2π up.
_ANGLE = _Range(
    -2.00001 * math.pi, 2.00001 * math.pi, "rad", "between -2π and 2π, as it is read in radians", (("degrees", 180 / math.pi),)
)
_RANGES = {
    "voltage": _Range(10, 1500, "kV", "between 10 and 1,500 kV", (("volts", 1e3), ("megavolts", 1e-3))),
    "spherical_aberration": _Range(-0.1, 20, "mm", "between -0.1 and 20 mm", (("Å", 1e7), ("µm", 1e3))),
    "amplitude_contrast": _Range(0, 1, "", "a fraction between 0 and 1", (("percent", 1e2),)),
    "defocus_u": _DEFOCUS,
    "defocus_v": _DEFOCUS,
    "defocus_angle": _ANGLE,
    "phase_shift": _ANGLE,
}
_LIKELY = {
    "voltage": (60, 400),
    "spherical_aberration": (0.001, 10),
    "amplitude_contrast": (0.005, 0.5),
    "defocus_angle": (_ANGLE.low, _ANGLE.high),
    "phase_shift": (_ANGLE.low, _ANGLE.high),
}
"""Range in which a value must be, after conversion from another unit, for a message to suggest that unit."""


def check_optics(values: Mapping[str, Any], names: Mapping[str, str], where: Callable[[str, npt.NDArray[np.intp]], str]) -> None:
    """Refuse a voltage, aberration, contrast, defocus or angle that no microscope has. Values that are not finite pass.

    Defocus values that are all near to 0 are refused too, because they seem to be in µm. If all are exactly 0, they pass.

    Args:
        values: (n,) numbers under 'voltage' (kV), 'spherical_aberration' (mm), 'amplitude_contrast', 'defocus_u' and 'defocus_v' (Å),
            'defocus_angle' and 'phase_shift' (radians).
        names: what the table calls each of them; those without a name are not checked.
        where: makes the beginning of the message, '{file}: {name} in {rows}', from a name and the rows with a wrong value.

    Raises:
        InputError: a value is out of range, or all defocus values are; the message names the first such rows.
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
    _check_unit_of_defocus(values, names, where)


def _check_unit_of_defocus(
    values: Mapping[str, Any], names: Mapping[str, str], where: Callable[[str, npt.NDArray[np.intp]], str]
) -> None:
    columns = {key: np.atleast_1d(np.asarray(values[key], dtype=np.float64)) for key in ("defocus_u", "defocus_v") if key in names}
    stated = {key: np.flatnonzero(column) for key, column in columns.items() if column.any()}
    if not stated or any((np.abs(column) >= _SMALLEST_DEFOCUS).any() for column in columns.values()):
        return
    key, rows = next(iter(stated.items()))
    value = float(columns[key][rows[0]])
    raise InputError(
        f"{where(names[key], rows)} is {value:.6g} Å, and no defocus is above {_SMALLEST_DEFOCUS:g} Å: it looks like µm "
        f"({value * 1e4:,.6g} Å). Multiply defocus U and V by 10,000."
    )


def _suspicion(key: str, value: float) -> str:
    """The unit that a wrong value seems to be in, for the message: ': it looks like volts (300 kV)'; '' if none is likely."""
    low, high = _LIKELY.get(key, (1.0, 0.0))
    for other, per_unit in _RANGES[key].other_units:
        if low <= value / per_unit <= high:
            unit = _RANGES[key].unit
            return f": it looks like {other} ({value / per_unit:g}{f' {unit}' if unit else ''})"
    return ""
