"""A score for how unlike the others an image is."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

HIGHEST = 100.0
"""Score of an image without power, and upper limit of all others."""
CONSPICUOUS = 5.0
"""Score from which a particle is marked. If the logarithm of the power is normally distributed, one in two million reaches it."""
_LEAST_SPREAD = 0.01  # of the logarithm: differences below 1% do not count, however similar the images are
_DEVIATIONS = 1.4826  # standard deviation of a normal distribution in units of its median absolute deviation


def outlier_scores(power: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """The distance of the logarithm of each power from the median of the logarithms, in robust standard deviations.

    score = |ln p - median(ln p)| / max(1.4826 median(|ln p - median(ln p)|), 0.01), and at most 100.

    Args:
        power: (n,) fraction of the variance that remains after the low-pass filter; 0 for a bad image.

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
