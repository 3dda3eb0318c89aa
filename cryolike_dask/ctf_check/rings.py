"""Thon rings of many particles in one curve: power against the phase of each particle's CTF."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cryolike_dask.ctf_check.model import FloatArray, phases
from cryolike_dask.ctf_check.score import RIDGE, Sample, shell_scores

_WIDTH = 0.1
"""Width of a bin in units of π."""
_LARGEST_ERROR = 0.12
"""Largest standard error of a bin that is shown. The longest row of such bins is shown."""
_LEAST_SCORE = 10.0
"""Least score of a shell that is used; noise hardly ever scores more."""
_MAX_BINS = 200


@dataclass(frozen=True)
class Rings:
    """Power of all particles on the scale of CTF², averaged where their CTFs have the same phase.

    Args:
        phase: (m,) centres of neighbouring bins in units of π; the CTF is zero at whole numbers.
        power: (m,) power of the images.
        expected: (m,) power if the recorded values were right.
    """

    phase: FloatArray
    power: FloatArray
    expected: FloatArray


def gather_rings(sample: Sample, best: FloatArray) -> Rings | None:
    """Average the power against the phase that the recorded values predict.

    On each shell, power follows CTF² with an amplitude that is estimated with the best model. Averages over shells and particles use
    about the square of this amplitude as weight, so the strongest shells count most.

    Args:
        sample: a sample of n particles.
        best: (k, n) CTF², without its constant 1/2, of the model that fits best.

    Returns:
        The rings; None if no bin is certain enough to be shown.
    """
    recorded = sample.recorded[0]
    means = best.mean(axis=1, keepdims=True)
    covariance = (sample.deviations * (best - means)).mean(axis=1, keepdims=True)
    variance = best.var(axis=1, keepdims=True)  # (k, 1)
    amplitude = np.clip(covariance / np.maximum(variance, 1e-9), 0, None)
    follows = shell_scores(sample.deviations, best)[:, None] > _LEAST_SCORE
    trust = np.where(follows, np.square(variance / (variance + RIDGE)), 0.0)
    position = phases(sample.optics, sample.frequencies) / np.pi
    first = np.floor(position.min() / _WIDTH)
    bins = np.minimum((position / _WIDTH - first).astype(np.intp), _MAX_BINS).ravel()

    def total(values: FloatArray) -> FloatArray:
        each = np.broadcast_to(values, position.shape).ravel()
        return np.asarray(np.bincount(bins, weights=each, minlength=_MAX_BINS + 1)[:_MAX_BINS])

    weight = total(trust * amplitude**2)
    with np.errstate(invalid="ignore", divide="ignore"):
        error = np.sqrt(total((trust * amplitude) ** 2 * sample.deviations.var(axis=1, keepdims=True))) / weight
        power = total(trust * amplitude * (sample.deviations + amplitude * means)) / weight + 0.5
        expected = total(trust * amplitude**2 * recorded) / weight + 0.5
    changes = np.flatnonzero(np.diff(np.concatenate([[False], error < _LARGEST_ERROR, [False]])))
    if not len(changes):
        return None
    begins, ends = changes[::2], changes[1::2]
    longest = int(np.argmax(ends - begins))
    shown = slice(int(begins[longest]), int(ends[longest]))
    middles = (first + np.arange(_MAX_BINS) + 0.5) * _WIDTH
    return Rings(middles[shown], power[shown], expected[shown])
