"""How well the differences between images follow the differences between their CTFs.

The mean power of a shell is background + structure · envelope · CTF². All but CTF² is much the same for the particles of a set, so it is
the difference between particles, at one shell, that tells of the CTF, whatever mixture of defocus a set has. With p the power of the
particles relative to their mean, and c the CTF² that a model predicts for them, both without background, a shell counts

    n cov(p, c)² / (var(p) (var(c) + RIDGE)),

negative where more CTF² goes with less power. The score is the sum over shells. Of noise it is about 0; with signal it grows with n, and
is largest for the right model.
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
"""Standard deviations beyond which power counts as if it were there: ice, carbon and bad pixels are no signal."""
_STEP = 0.8
"""Radians of 2χ from row to row of the table that a scan looks values up in."""
_ROWS = 32
"""Of that table, computed at a time: few enough that what is computed in double precision stays in a processor's cache."""


@dataclass(frozen=True)
class Sample:
    """Particles that are compared with each other.

    Args:
        deviations: (k, n) power on k shells relative to its mean, minus 1.
        frequencies: (k,) 1/Å, if the recorded pixel size is right.
        optics: of the n particles.
        box_length: edge of the images if the recorded pixel size is right, Å.
        background: (k, 3) orthonormal columns: the parabolas over the shells.
    """

    deviations: FloatArray
    frequencies: FloatArray
    optics: Optics
    box_length: float
    background: FloatArray

    @classmethod
    def from_power(cls, power: Images, frequencies: FloatArray, optics: Optics, box_length: float) -> Sample:
        """A sample of (n, k) power that is not 0 everywhere on any of the shells."""
        relative = power.T / power.mean(axis=0, dtype=np.float64)[:, None] - 1
        limit = _CLIPPED * relative.std(axis=1, keepdims=True)
        clipped = np.clip(relative, -limit, limit)
        x = frequencies / frequencies[-1]
        background = np.linalg.qr(np.stack([np.ones_like(x), x, x * x], axis=1))[0]
        deviations = _less(clipped - clipped.mean(axis=1, keepdims=True), background)
        return cls(deviations, frequencies, optics, box_length, background)

    def predicted(self, scale: float = 1.0, optics: Optics | None = None) -> FloatArray:
        """(k, n) `shell_means` without background, if pixels are so many times as large as recorded, and the optics these."""
        return _less(shell_means(optics or self.optics, self.frequencies / scale, self.box_length * scale), self.background)

    @cached_property
    def recorded(self) -> tuple[FloatArray, FloatArray]:
        """`shell_mean_parts` without background, as recorded. The first is what the recorded values predict."""
        cosine, sine = shell_mean_parts(self.optics, self.frequencies, self.box_length)
        return _less(cosine, self.background), _less(sine, self.background)

    def scan(self, scales: FloatArray) -> FloatArray:
        """The score for each of these scales, (n_scales,). CTFs are looked up in a table, to the nearest row: exact enough to search."""
        finest = float(self.frequencies[-1] / scales.min())
        # 2χ changes by 2π · delocalisation per frequency, which is less than the box wherever rings can be seen.
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
    """The score of what a model predicts.

    Args:
        deviations: (k, n) relative power, 0 in the mean of each shell.
        predicted: (k, n) CTF², up to a constant for each shell.
    """
    return float(shell_scores(deviations, predicted).sum())


def shell_scores(deviations: FloatArray, predicted: FloatArray) -> FloatArray:
    """(k,) what each shell adds to the score."""
    n, centred = deviations.shape[1], _centred(predicted)
    covariance, variance = np.vecdot(deviations, centred) / n, np.vecdot(centred, centred) / n
    return _of_shells(covariance, np.vecdot(deviations, deviations) / n, variance, n)


def shuffled_scores(deviations: FloatArray, predicted: FloatArray, orders: Sequence[npt.NDArray[np.int64]]) -> FloatArray:
    """The scores if what is predicted for particles is exchanged among them, (n_orders,).

    Args:
        deviations, predicted: (k, n).
        orders: each a permutation of the n particles.
    """
    n, centred = deviations.shape[1], _centred(predicted)
    covariance = np.stack([np.vecdot(deviations, np.take(centred, order, axis=1)) for order in orders]) / n
    variances = np.vecdot(deviations, deviations) / n, np.vecdot(centred, centred) / n  # of each shell the same in any order
    return np.asarray(_of_shells(covariance, *variances, n).sum(axis=1))


def phase_scores(deviations: FloatArray, cosine: FloatArray, sine: FloatArray, phases: FloatArray) -> FloatArray:
    """The score for each additional phase shift, (n_phases,); cosine and sine as `shell_mean_parts` gives them."""
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
        deviations, predicted: (k, n).
        blocks: (n,) the block of each particle, numbered from 0 without gaps.

    Returns:
        (n_blocks,)
    """
    order = np.argsort(blocks, kind="stable")
    firsts = np.searchsorted(blocks[order], np.arange(blocks.max() + 1))
    n = len(blocks) - np.diff([*firsts, len(blocks)])

    def means(values: FloatArray) -> FloatArray:
        """(k, n_blocks) over the particles outside of each block."""
        # No product of matrices: the threads of BLAS wait for each other, for long where others use the cores.
        sums = np.add.reduceat(np.take(values, order, axis=1), firsts, axis=1)
        return np.asarray((values.sum(axis=1, keepdims=True) - sums) / n)

    p, c = means(deviations), means(predicted)
    covariance = means(deviations * predicted) - p * c
    variances = means(deviations**2) - p**2, means(predicted**2) - c**2
    return np.asarray(_of_shells(covariance.T, variances[0].T, variances[1].T, n[:, None]).sum(axis=1))


def _centred(values: FloatArray) -> FloatArray:
    """(k, n) values, 0 in the mean of each shell."""
    return np.asarray(values - values.mean(axis=1, keepdims=True))


def _less(values: Images, background: Images) -> npt.NDArray[Any]:
    """(k, n) values less the background that fits each particle best.

    Images differ in the thickness of the ice, in noise and in contrast. That changes smoothly from shell to shell, and is taken away from
    what is measured and from what is predicted alike.
    """
    return np.asarray(values - background @ (background.T @ values))


def _of_shells(
    covariance: FloatArray, power_variance: FloatArray, variance: FloatArray, n: npt.NDArray[np.int64] | int
) -> FloatArray:
    """What shells add to a score, (..., k); one on which all images have the same power adds nothing."""
    scale = power_variance * (variance + RIDGE)
    squares = covariance * np.abs(covariance)
    return np.asarray(n * np.divide(squares, scale, out=np.zeros_like(squares), where=scale > 0))
