"""How well the differences between images follow the differences between their CTFs.

The mean power of a shell is background + structure · envelope · CTF². All but CTF² is much the same for the particles of a set, so it is
the difference between particles, at one shell, that tells of the CTF, whatever mixture of defocus a set has. With p the power of the
particles relative to their mean, and c the CTF² that a model predicts for them, both without background, a shell counts

    n cov(p, c)² / (var(p) (var(c) + RIDGE)),

negative where more CTF² goes with less power. The score is the sum over shells. Of noise it is about 0; with signal it grows with n, and
is largest for the right model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cryolike_dask.ctf_check.model import FloatArray, Optics, shell_means

Images = npt.NDArray[np.floating[Any]]

RIDGE = 0.03
"""A quarter of the variance of CTF² over all phases: shells on which the CTFs hardly differ count for less."""
_CLIPPED = 4.0
"""Standard deviations beyond which power counts as if it were there: ice, carbon and bad pixels are no signal."""
_STEP = 0.8
"""Radians of 2χ from row to row of the table that a scan looks values up in."""


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

    def predicted(self, scale: float = 1.0, optics: Optics | None = None) -> tuple[FloatArray, FloatArray]:
        """`shell_means` without background, if pixels are so many times as large as recorded, and the optics these: (k, n) each."""
        cosine, sine = shell_means(optics or self.optics, self.frequencies / scale, self.box_length * scale)
        return _less(cosine, self.background), _less(sine, self.background)

    def scan(self, scales: FloatArray) -> FloatArray:
        """The score for each of these scales, (n_scales,). CTFs are looked up in a table, to the nearest row: exact enough to search."""
        finest = float(self.frequencies[-1] / scales.min())
        # 2χ changes by 2π · delocalisation per frequency, which is less than the box wherever rings can be seen.
        n_rows = int(2 * np.pi * self.box_length * finest / _STEP) + 2
        step = finest / (n_rows - 1)
        table = shell_means(self.optics, step * np.arange(n_rows, dtype=np.float64), self.box_length)[0].astype(np.float32)
        deviations, background = self.deviations.astype(np.float32), self.background.astype(np.float32)
        scores = np.empty(len(scales))
        for number, scale in enumerate(scales.tolist()):
            rows = np.rint(self.frequencies / (scale * step)).astype(np.intp)
            scores[number] = score(deviations, _less(table[rows], background))
        return scores


def score(deviations: Images, predicted: Images) -> float:
    """The score of what a model predicts.

    Args:
        deviations: (k, n) relative power, 0 in the mean of each shell.
        predicted: (k, n) CTF², up to a constant for each shell.
    """
    centred = predicted - predicted.mean(axis=1, keepdims=True)
    return float(
        _total((deviations * centred).mean(axis=1), deviations.var(axis=1), (centred**2).mean(axis=1), deviations.shape[1])
    )


def shell_scores(deviations: FloatArray, predicted: FloatArray) -> FloatArray:
    """(k,) what each shell adds to the score."""
    return np.array([score(deviations[k : k + 1], predicted[k : k + 1]) for k in range(len(deviations))])


def phase_scores(deviations: FloatArray, cosine: FloatArray, sine: FloatArray, phases: FloatArray) -> FloatArray:
    """The score for each additional phase shift, (n_phases,); cosine and sine as `shell_means` gives them."""
    n = deviations.shape[1]
    a, b = (part - part.mean(axis=1, keepdims=True) for part in (cosine, sine))
    covariances = [(deviations * part).mean(axis=1) for part in (a, b)]
    squares = [(left * right).mean(axis=1) for left, right in ((a, a), (a, b), (b, b))]
    c, s = np.cos(2 * phases)[:, None], np.sin(2 * phases)[:, None]
    covariance = c * covariances[0] + s * covariances[1]
    variance = c * c * squares[0] + 2 * c * s * squares[1] + s * s * squares[2]
    return np.asarray(_total(covariance, deviations.var(axis=1), variance, n))


def scores_without(deviations: FloatArray, predicted: FloatArray, blocks: npt.NDArray[np.int64]) -> FloatArray:
    """The scores without each block of particles in turn, for a jackknife.

    Args:
        deviations, predicted: (k, n).
        blocks: (n,) the block of each particle, numbered from 0.

    Returns:
        (n_blocks,)
    """
    order = np.argsort(blocks, kind="stable")
    sizes = np.bincount(blocks)
    first = np.cumsum(sizes) - sizes
    n = len(blocks) - sizes

    def means(values: FloatArray) -> FloatArray:
        sums = np.add.reduceat(values[:, order], first, axis=1)
        return np.asarray((sums.sum(axis=1, keepdims=True) - sums) / n)

    p, c = means(deviations), means(predicted)
    covariance = means(deviations * predicted) - p * c
    variances = means(deviations**2) - p**2, means(predicted**2) - c**2
    return np.asarray(_total(covariance.T, variances[0].T, variances[1].T, n))


def _less(values: Images, background: Images) -> npt.NDArray[Any]:
    """(k, n) values less the background that fits each particle best.

    Images differ in the thickness of the ice, in noise and in contrast. That changes smoothly from shell to shell, and is taken away from
    what is measured and from what is predicted alike.
    """
    return np.asarray(values - background @ (background.T @ values))


def _total(covariance: Images, power_variance: Images, variance: Images, n: npt.NDArray[np.int64] | int) -> npt.NDArray[np.float64]:
    """Sums over the last axis, the shells; one on which all images have the same power counts nothing."""
    scale = power_variance * (variance + RIDGE)
    return np.asarray(
        n * np.sum(np.divide(covariance * np.abs(covariance), scale, out=np.zeros_like(scale), where=scale > 0), axis=-1)
    )
