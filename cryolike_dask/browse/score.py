"""How unlike the others an image is."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

HIGHEST = 100.0
"""The score of an image without any power, and the most that another one gets."""
CONSPICUOUS = 5.0
"""A score that one in two million gets where the logarithm of the power follows a normal distribution."""
_LEAST_SPREAD = 0.01  # of the logarithm: differences of 1% are none, however alike the images are
_DEVIATIONS = 1.4826  # standard deviation of a normal distribution, in median absolute deviations


def outlier_scores(power: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """The distance of each logarithm of the power from their median, in robust standard deviations.

    score = |ln p - median(ln p)| / max(1.4826 median(|ln p - median(ln p)|), 0.01), and at most 100.

    Args:
        power: (n,) share of the variance that is left after the low-pass filter; 0 for a bad image.

    Returns:
        (n,) scores; 100 where the power is 0.
    """
    scores = np.full(len(power), HIGHEST)
    measured = power > 0
    if measured.any():
        logarithm = np.log(power[measured].astype(np.float64))
        distance = np.abs(logarithm - np.median(logarithm))
        scores[measured] = np.minimum(distance / max(_DEVIATIONS * float(np.median(distance)), _LEAST_SPREAD), HIGHEST)
    return scores
