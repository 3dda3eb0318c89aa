"""Scores how well the differences between images follow the differences between their CTFs.

The mean power of a shell is background + structure · envelope · CTF². Everything except CTF² is nearly the same for the particles of a
set. So the differences between particles at one shell show the CTF, whatever mixture of defocus a set has. Let p be the power of the
particles relative to their mean, and c the CTF² that a model predicts for them, both without background. The score of a shell is

    n cov(p, c)² / (var(p) (var(c) + RIDGE)),

and negative if more CTF² means less power. The score is the sum over shells. For noise it is about 0; with signal, it grows with n and is
largest for the right model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from cryolike_dask.ctf_check.model import FloatArray, Optics, shell_mean_parts, shell_means

Images = npt.NDArray[np.floating[Any]]

RIDGE = 0.03
"""A quarter of the variance of CTF² over all phases: shells on which the CTFs hardly differ count for less."""
_CLIPPED = 4.0
"""Power is clipped at this many standard deviations from the mean, because ice, carbon and bad pixels are not signal."""
_STEP = 0.8
"""Step between the rows of the table for a scan, in radians of 2χ."""
_ROWS = 32
"""Rows of this table that are computed together: few enough for the intermediate values in double precision to fit in the cache."""


@dataclass(frozen=True)
class Sample:
    """Particles that are compared with each other.

    Args:
        relative: (k, n) power on k shells relative to its mean, minus its mean.
        frequencies: (k,) 1/Å, computed with the recorded pixel size.
        optics: optics of the n particles.
        box_length: edge of the images, Å, computed with the recorded pixel size.
        n_terms: 3 to subtract from each particle the parabola over the shells that fits it best, 1 for only a constant.
    """

    relative: FloatArray
    frequencies: FloatArray
    optics: Optics
    box_length: float
    n_terms: int = 3

    @classmethod
    def from_power(cls, power: Images, frequencies: FloatArray, optics: Optics, box_length: float) -> Sample:
        """Make a sample from (n, k) power; no shell may have power 0 in all particles."""
        relative = power.T / power.mean(axis=0, dtype=np.float64)[:, None] - 1
        limit = _CLIPPED * relative.std(axis=1, keepdims=True)
        clipped = np.clip(relative, -limit, limit)
        return cls(_centred(clipped), frequencies, optics, box_length)

    @cached_property
    def background(self) -> FloatArray:
        """(k, n_terms) orthonormal columns, whose sums are subtracted."""
        return np.linalg.qr(np.vander(self.frequencies / self.frequencies[-1], self.n_terms, increasing=True))[0]

    @cached_property
    def deviations(self) -> FloatArray:
        """(k, n) relative power without background."""
        return _less(self.relative, self.background)

    def predicted(self, scale: float = 1.0, optics: Optics | None = None) -> FloatArray:
        """(k, n) `shell_means` without background, for pixels `scale` times as large as recorded, and optionally for other optics."""
        return _less(shell_means(optics or self.optics, self.frequencies / scale, self.box_length * scale), self.background)

    @cached_property
    def recorded(self) -> tuple[FloatArray, FloatArray]:
        """`shell_mean_parts` of the recorded values, without background. The first part is the prediction itself."""
        cosine, sine = shell_mean_parts(self.optics, self.frequencies, self.box_length)
        return _less(cosine, self.background), _less(sine, self.background)

    def scan(self, scales: FloatArray) -> FloatArray:
        """(n_scales,) score of each scale. CTFs are taken from the nearest row of a table, which is exact enough for a search."""
        finest = float(self.frequencies[-1] / scales.min())
        # 2χ changes by 2π · delocalisation per frequency. Where rings are visible, the delocalisation is less than the box.
        n_rows = int(2 * np.pi * self.box_length * finest / _STEP) + 2
        step = finest / (n_rows - 1)
        table = np.empty((n_rows, len(self.optics)), dtype=np.float32)
        for first in range(0, n_rows, _ROWS):
            frequencies = step * np.arange(first, min(first + _ROWS, n_rows), dtype=np.float64)
            table[first : first + _ROWS] = _centred(shell_means(self.optics, frequencies, self.box_length))
        deviations, background = self.deviations.astype(np.float32), self.background.astype(np.float32)
        covariance, variance = np.empty((2, len(scales), len(deviations)))
        for number, scale in enumerate(scales.tolist()):
            rows = np.rint(self.frequencies / (scale * step)).astype(np.intp)
            predicted = _less(table[rows], background)
            covariance[number] = np.vecdot(deviations, predicted)
            variance[number] = np.vecdot(predicted, predicted)
        n = len(self.optics)
        return np.asarray(_of_shells(covariance / n, self.deviations.var(axis=1), variance / n, n).sum(axis=1))


def score(deviations: FloatArray, predicted: FloatArray) -> float:
    """The score of a prediction.

    Args:
        deviations: (k, n) relative power, with mean 0 in each shell.
        predicted: (k, n) CTF², up to a constant for each shell.
    """
    return float(shell_scores(deviations, predicted).sum())


def shell_scores(deviations: FloatArray, predicted: FloatArray) -> FloatArray:
    """(k,) score of each shell."""
    n, centred = deviations.shape[1], _centred(predicted)
    covariance, variance = np.vecdot(deviations, centred) / n, np.vecdot(centred, centred) / n
    return _of_shells(covariance, np.vecdot(deviations, deviations) / n, variance, n)


def shuffled_scores(deviations: FloatArray, predicted: FloatArray, orders: Sequence[npt.NDArray[np.int64]]) -> FloatArray:
    """(n_orders,) scores with the predictions permuted among the particles.

    Args:
        deviations, predicted: (k, n), as for `score`.
        orders: permutations of the n particles.
    """
    n, centred = deviations.shape[1], _centred(predicted)
    covariance = np.stack([np.vecdot(deviations, np.take(centred, order, axis=1)) for order in orders]) / n
    variances = np.vecdot(deviations, deviations) / n, np.vecdot(centred, centred) / n  # permutations do not change them
    return np.asarray(_of_shells(covariance, *variances, n).sum(axis=1))


def phase_scores(deviations: FloatArray, cosine: FloatArray, sine: FloatArray, phases: FloatArray) -> FloatArray:
    """(n_phases,) score with each additional phase shift; `cosine` and `sine` are those of `shell_mean_parts`."""
    n = deviations.shape[1]
    a, b = _centred(cosine), _centred(sine)
    covariances = [np.vecdot(deviations, part) / n for part in (a, b)]
    squares = [np.vecdot(left, right) / n for left, right in ((a, a), (a, b), (b, b))]
    c, s = np.cos(2 * phases)[:, None], np.sin(2 * phases)[:, None]
    covariance = c * covariances[0] + s * covariances[1]
    variance = c * c * squares[0] + 2 * c * s * squares[1] + s * s * squares[2]
    return np.asarray(_of_shells(covariance, np.vecdot(deviations, deviations) / n, variance, n).sum(axis=1))


def scores_without(deviations: FloatArray, predicted: FloatArray, blocks: npt.NDArray[np.int64]) -> FloatArray:
    """The scores without each block of particles in turn, for a jackknife.

    Args:
        deviations, predicted: (k, n), as for `score`.
        blocks: (n,) block of each particle, numbered from 0 without gaps.

    Returns:
        (n_blocks,)
    """
    order = np.argsort(blocks, kind="stable")
    firsts = np.searchsorted(blocks[order], np.arange(blocks.max() + 1))
    n = len(blocks) - np.diff([*firsts, len(blocks)])

    def means(values: FloatArray) -> FloatArray:
        """(k, n_blocks) means over the particles outside each block."""
        # Not a matrix product, because the threads of BLAS wait for each other, which takes long if other programs use the cores.
        sums = np.add.reduceat(np.take(values, order, axis=1), firsts, axis=1)
        return np.asarray((values.sum(axis=1, keepdims=True) - sums) / n)

    p, c = means(deviations), means(predicted)
    covariance = means(deviations * predicted) - p * c
    variances = means(deviations**2) - p**2, means(predicted**2) - c**2
    return np.asarray(_of_shells(covariance.T, variances[0].T, variances[1].T, n[:, None]).sum(axis=1))


def _centred(values: FloatArray) -> FloatArray:
    """(k, n) values minus the mean of each shell."""
    return np.asarray(values - values.mean(axis=1, keepdims=True))


def _less(values: Images, background: Images) -> npt.NDArray[Any]:
    """(k, n) values minus the background that fits each particle best.

    Images differ in the thickness of the ice, in noise and in contrast. The effect changes smoothly from shell to shell, and is removed
    from both measured and predicted values.
    """
    return np.asarray(values - background @ (background.T @ values))


def _of_shells(
    covariance: FloatArray, power_variance: FloatArray, variance: FloatArray, n: npt.NDArray[np.int64] | int
) -> FloatArray:
    """(..., k) scores of shells; a shell on which all images have the same power has score 0."""
    scale = power_variance * (variance + RIDGE)
    squares = covariance * np.abs(covariance)
    return np.asarray(n * np.divide(squares, scale, out=np.zeros_like(squares), where=scale > 0))
