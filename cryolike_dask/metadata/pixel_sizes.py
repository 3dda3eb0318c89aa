"""Decides whether two pixel sizes are the same."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

RELATIVE_TOLERANCE = 1e-4
"""Pixel sizes that differ by less are taken as equal, because tables round them."""


def same_pixel_sizes(sizes: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Pixel sizes, made equal where tables merely rounded them differently. A size that is not stated becomes 0."""
    known = np.unique(sizes[np.isfinite(sizes)])
    representative: list[float] = []
    for size in known.tolist():
        near = representative and abs(size - representative[-1]) <= RELATIVE_TOLERANCE * representative[-1]
        representative.append(representative[-1] if near else size)
    if not representative:
        return np.zeros(len(sizes))
    position = np.clip(np.searchsorted(known, sizes), 0, len(known) - 1)
    return np.where(np.isfinite(sizes), np.array(representative)[position], 0.0)


def differs(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """(n,) whether two pixel sizes differ by more than the rounding of tables."""
    return np.abs(a - b) > RELATIVE_TOLERANCE * np.abs(b)


def list_values(sizes: npt.NDArray[np.float64]) -> str:
    """Distinct sizes for a message: '1.06, 1.31'."""
    return ", ".join(f"{size:g}" for size in np.unique(np.round(sizes, 6)))
